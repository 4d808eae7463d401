-- lumen.data: the loader of the core, and names of datasets turned into sources for it.
--   local source, subset = data.source("xcad", { root = "...", split = "train" })
--   local loader = data.loader{ source = source, subset = subset, batch = 16, size = 224, ... }
-- A dataset is a file datasets/<name>.lua that describes itself (lumen.dataset), or returns
--   { name =, about =, origin =, licence =, splits = {..}, source = function(root, split, count, size) }
-- where source returns what the loader takes as its source, and the 1-based first and last
-- item of the split.
local core = require "lumen.core"
local dataset = require "lumen.dataset"
local options = require "lumen.options"
local pack = require "lumen.pack"
local path = require "lumen.path"
local recipe = require "lumen.recipe"

local data = { loader = core.data.loader, count = dataset.count, rated = require "lumen.rated" }

-- What a COCO file says, checked as a whole: images, annotations (counts), unannotated (images
-- without any), repeated_ids, and categories, a list of { id, name, annotations, images }.
-- file:image(i) is { file, id, height, width, annotations }; file:mask(i [, classes]) draws the
-- mask [height, width], u8, as the COCO tools do: 255 for every category, or with a list of
-- category names and ids 1 for the first, 2 for the second ..., later annotations over earlier
-- ones. A broken file is an error with its path and entry.
-- -> table
--   > lumen.data.coco("tests/fixtures/polygons.json").categories[1].name
--   vessel
function data.coco(path) return core.data.coco(path) end

-- Means of ImageNet's channels: the usual input normalisation.
--   > lumen.data.mean
--   {0.485, 0.456, 0.406}
data.mean = { 0.485, 0.456, 0.406 }

-- Standard deviations of ImageNet's channels.
--   > lumen.data.std
--   {0.229, 0.224, 0.225}
data.std = { 0.229, 0.224, 0.225 }

-- Where what is made of image files is kept: $XDG_CACHE_HOME/lumen, else ~/.cache/lumen.
-- -> str
--   > folder = lumen.data.cache()
--   > folder:match("[^/]*$")
--   lumen
function data.cache()
  local home = os.getenv("XDG_CACHE_HOME")
  if not home or home == "" then home = (os.getenv("HOME") or "/tmp") .. "/.cache" end
  return home .. "/lumen"
end

-- Names of all datasets, sorted.
-- -> table
--   > table.concat(lumen.data.names(), " "):match("phantom")
--   phantom
function data.names()
  local names = {}
  for _, file in ipairs(core.fs.list(recipe.root() .. "/datasets")) do
    names[#names + 1] = file:match("^(.+)%.lua$")
  end
  return names
end

local function file_of(name) return ("%s/datasets/%s.lua"):format(recipe.root(), name) end

local function is_dataset(name)
  return name:match("^[%w_]+$") ~= nil and core.fs.exists(file_of(name))
end

-- The description of a named dataset; an error with a suggestion when there is none.
-- -> table
--   > lumen.data.dataset("dca1").size[1]
--   300
function data.dataset(name)
  if not is_dataset(name) then
    local near = options.nearest(name, data.names())
    error(("there is no dataset and no folder %s%s"):format(name,
      near and ("\nhint: did you mean %s?"):format(near) or ""), 0)
  end
  return dofile(file_of(name))
end

-- A plain folder as a dataset: images in it, or in its images/ with masks of the same names
-- in masks/, or in folders below. With masks, the last `held_out` of the images (in order of
-- their names) are the test split.
local function plain(folder, held_out)
  local sources
  if path.is_dir(folder .. "/images") then
    local masks = folder .. "/masks"
    masks = path.is_dir(masks) and masks or nil
    sources = { { kind = "folder", images = folder .. "/images", masks = masks } }
  else
    sources = {}
    for i, inner in ipairs(dataset.folders(folder)) do
      sources[i] = { kind = "folder", images = inner }
    end
  end
  if #sources == 0 then error(("no images in %s"):format(folder), 0) end
  local part = { split = "train", sources = sources,
                 held_out = sources[1].masks and held_out or nil }
  return { set = { name = folder, about = "a plain folder" }, dir = folder, layout = "folder",
           missing = {}, parts = { part } }
end

-- What dataset.find says of a name or a folder (options root, held_out). A name is that of a dataset before it is that
-- of a folder; without root it is looked for in the folder where the program was started.
-- -> table
--   > lumen.data.locate("phantom", {}).set.name
--   phantom
function data.locate(name, o)
  if is_dataset(name) then
    local set, root = data.dataset(name), o.root or ""
    if not set.layouts then return { set = set } end
    if root == "" and path.is_dir(name) then root = "." end
    return dataset.find(set, root)
  end
  if pack.is(name) then return pack.find(name) end
  if not path.is_dir(name) then data.dataset(name) end
  return plain(name, o.held_out or 0.3)
end

local function one_or_list(sources) return #sources == 1 and sources[1] or sources end

-- The items of a list of { first, last }, 0-based, as an i64 tensor.
local function items_of(ranges)
  local parts = {}
  for i, r in ipairs(ranges) do parts[i] = core.arange(r[1] - 1, r[2]) end
  return #parts == 1 and parts[1] or core.cat(parts)
end

-- What stands in env.json about the data of a run.
local function facts_of(found, sources)
  return { root = found.dir, layout = found.layout, fingerprint = dataset.fingerprint(sources) }
end

-- Source and subset (i64, 0-based items) of a dataset's name or a folder. options: root,
-- split = "all" | "train" | "val" | "test", count (use the first count items only; 0: all),
-- held_out (share of a plain folder that is the test split), size (what the network will see;
-- made images are not made smaller than that), run (its env.json shall say what was used).
-- -> table, tensor
--   > local source, subset = lumen.data.source("phantom", { split = "test", count = 3 })
--   > source.kind, subset.shape[1]
--   phantom  3
function data.source(name, o)
  local found, count = data.locate(name, o), o.count or 0
  if found.set.source then
    local source, first, last = found.set.source(o.root or "", o.split, count, o.size or 224)
    return source, core.arange(first - 1, last)
  end
  local sources, ranges = dataset.split(found, o.split)
  local subset = items_of(ranges)
  if count > 0 then subset = subset:slice(1, 1, math.min(count, subset.shape[1])) end
  if o.run then o.run:note_data(name .. " " .. o.split, facts_of(found, sources)) end
  return one_or_list(sources), subset
end

-- `count` of the items of subset, the same for one seed, and nested: a smaller choice is
-- part of a larger one. labels: "all", a count, or a share such as "10%".
-- -> tensor
--   > lumen.data.choose(lumen.arange(0, 40), "10%", 0).shape[1]
--   4
function data.choose(subset, labels, seed)
  local total = subset.shape[1]
  local count = labels == "all" and total or tonumber(labels)
  local share = tostring(labels):match("^([%d.]+)%%$")
  if share then count = math.max(1, math.floor(total * tonumber(share) / 100 + 0.5)) end
  count = math.tointeger(count)
  if not count or count < 1 or count > total then
    error(("option labels: %s is not all, a share like 10%%, or a count from 1 to %d"):format(
      labels, total), 0)
  end
  local rng = { seed = seed, stream = "labels" }
  local order = core.argsort(core.rand({ total }, { rng = rng }))
  return core.index_select(subset, order:slice(1, 1, count), { dim = 1 })
end

-- ---- pools: images to pre-train on -----------------------------------------------------------

-- Same pictures in two loaders of files (core: similar), what it learns kept on disk; where
-- that cannot be, the core warns.
local function similar(loader, other, o)
  local settings = { cache = data.cache() .. "/signatures" }
  for key, value in next, o or {} do settings[key] = value end
  pcall(core.fs.mkdir, data.cache())
  return core.data.similar(loader, other, settings)
end

-- A loader that is asked for names and files, never for batches.
local function open(source, subset)
  return data.loader { source = source, subset = subset, size = 8, threads = 0 }
end

-- A source, a list of sources, or the name of a folder or dataset, opened.
local function opened(what)
  if type(what) == "string" then what = data.source(what, { split = "all" }) end
  return open(what)
end

-- The images of a pool that repeat one of an evaluation set, or nearly: a list of
-- { pool =, evaluation = (paths), item = (in the pool, from 1), correlation = }, in the order of
-- the pool. Both are sources of files, lists of such sources, or folders. Another grey curve,
-- another size, JPEG, noise and a shift by a hundredth of the side do not hide a picture. Other
-- frames of the same run count when they look alike: when what is left at 32 x 32 without grey
-- curve and surroundings correlates at `threshold` (0.3 to 1, default 0.75) or above, as it does
-- for 60 % of neighbouring frames, and for no frames without a run in common in five public sets
-- (0.707 at most). Frames in which everything moved, crops and flips are not recognised. Files
-- that cannot be read are left out with a warning.
-- -> table
--   > #lumen.data.leaks("tests/fixtures", "tests/fixtures", { threshold = 0.9 }) > 0
--   true
function data.leaks(pool, evaluation, o)
  local a <close> = opened(pool)
  local b <close> = opened(evaluation)
  local match, correlation = similar(a, b, o)
  local other, value, list = match:totable(), correlation:totable(), {}
  for i = 1, #a do
    if other[i] >= 0 then
      list[#list + 1] = { pool = a:name(i), evaluation = b:name(other[i] + 1), item = i,
                          correlation = value[i] }
    end
  end
  return list
end

local function split_names(text)
  local names = {}
  for name in text:gmatch("[^,]+") do names[#names + 1] = name:match("^%s*(.-)%s*$") end
  return names
end

-- The folder that holds a folder, by its path: what a link points to lies elsewhere.
local function parent(dir)
  if dir:match("%.%.?/*$") then dir = core.fs.realpath(dir) end
  return dir:match("^(.+)/[^/]+/*$") or dir:match("^/") or "."
end

-- Folders where the sets of an experiment may lie: root, and what holds the pool's own folders.
local function bases(o, pool)
  local list, seen = {}, {}
  local function add(dir)
    if dir ~= "" and path.is_dir(dir) and not seen[core.fs.realpath(dir)] then
      seen[core.fs.realpath(dir)] = true
      list[#list + 1] = dir
    end
  end
  add(o.root or "")
  for _, found in ipairs(pool) do add(parent(found.dir)) end
  return list
end

-- A set that `exclude` names, as dataset.find finds it.
local function named_set(name, o, pool)
  local found
  for _, base in ipairs(is_dataset(name) and bases(o, pool) or {}) do
    found = found or dataset.beside(data.dataset(name), base)
  end
  found = found or data.locate(name, { root = o.root })
  if found.dir then return found end
  error(("option exclude: %s is made while it is read: there is nothing to compare"):format(name), 0)
end

-- Evaluation sets that `exclude` means.
local function evaluation_sets(o, pool)
  local list, seen = {}, {}
  local function add(found)
    local key = found and found.set.name .. "\n" .. core.fs.realpath(found.dir)
    if not found or seen[key] then return end
    seen[key] = true
    list[#list + 1] = found
  end
  if o.exclude == "none" then return list end
  if o.exclude ~= "auto" then
    for _, name in ipairs(split_names(o.exclude)) do add(named_set(name, o, pool)) end
    if #list == 0 then error("option exclude: it names nothing (none: compare with nothing)", 0) end
    return list
  end
  for _, found in ipairs(pool) do add(found) end
  for _, name in ipairs(data.names()) do
    local set = data.dataset(name)
    for _, base in ipairs(dataset.is_labelled(set) and bases(o, pool) or {}) do
      add(dataset.beside(set, base))
    end
  end
  return list
end

-- The images of evaluation sets as one loader: of a labelled set what is not for training; of
-- one that was named and has no such part (or of a folder), everything. Nil: none. Also a text
-- for people, "xcad (30 images)".
local function evaluation_images(o, found)
  local sources, parts, texts, total = {}, {}, {}, 0
  for _, set in ipairs(found) do
    local images = dataset.unlabelled(set)
    local whole = o.exclude ~= "auto" and set.layout == "folder"
    local own, ranges = dataset.split(images, whole and "all" or "held out")
    if #ranges == 0 and o.exclude ~= "auto" then own, ranges = dataset.split(images, "all") end
    if #ranges > 0 then
      local items = items_of(ranges)
      table.move(own, 1, #own, #sources + 1, sources)
      parts[#parts + 1] = items + total
      total = total + dataset.items(own)
      texts[#texts + 1] = ("%s (%d images)"):format(set.set.name, items.shape[1])
    end
  end
  if #parts == 0 then return nil, "no evaluation set" end
  return open(sources, #parts == 1 and parts[1] or core.cat(parts)), table.concat(texts, ", ")
end

-- A function that says whether a file is one of a loader's, whatever path it is reached by.
-- Pictures without structure are similar to nothing, not even to themselves.
local function membership(loader)
  local names, files = {}, {}
  local function whole(file) -- an entry of a pack is no file
    return core.fs.exists(file) and core.fs.realpath(file) or file
  end
  for i = 1, #loader do
    local file = loader:name(i)
    names[file:match("[^/]*$")] = true
    files[whole(file)] = true
  end
  return function(file) return names[file:match("[^/]*$")] and files[whole(file)] end
end

-- The items to keep (0-based) of a pool's loader, and how many were left out.
local function without_leaks(loader, evaluation)
  local match, is_evaluated = similar(loader, evaluation):totable(), membership(evaluation)
  local keep = {}
  for i = 1, #loader do
    if match[i] < 0 and not is_evaluated(loader:name(i)) then keep[#keep + 1] = i - 1 end
  end
  return keep, #loader - #keep
end

-- `count` of a list, evenly spaced.
local function thinned(list, count)
  if count == 0 or count >= #list then return list end
  local some = {}
  for i = 1, count do some[i] = list[(i - 1) * #list // count + 1] end
  return some
end

-- The images of a name or folder of a pool of `count`; nil for the phantom alone.
local function dataset_images(name, o, count)
  local found = data.locate(name, { root = o.root })
  if not found.set.source then return dataset.unlabelled(found) end
  if count > 1 then error(("data %s cannot be joined with files"):format(name), 0) end
end

-- Images to pre-train on, as source and subset (i64, 0-based): every image of the sets named in
-- o.data (dataset names and folders, joined by commas; o.root holds a folder for each), whatever
-- its split, without those that an evaluation set holds, or nearly (see data.leaks).
-- o.exclude says which sets are evaluated on: "auto" for the held-out parts of every labelled
-- dataset that lies in root or beside the pool's own folders, "none", or names and folders
-- joined by commas (of a name what is not for training, of a folder everything). o.images: use
-- so many, evenly spaced; 0: all. What was left out is printed and noted in env.json (run). The
-- phantom cannot be joined with files; its training stream holds none of its test stream.
-- -> table, tensor
--   > lumen.data.pool({ data = "phantom", images = 3 }).kind
--   phantom
function data.pool(o, run)
  local pool, sources, names = {}, {}, split_names(o.data)
  for i, name in ipairs(names) do
    pool[i] = dataset_images(name, o, #names)
    if not pool[i] then
      return data.source(name, { split = "train", count = o.images, size = o.size })
    end
    local own = dataset.split(pool[i], "pool")
    table.move(own, 1, #own, #sources + 1, sources)
  end
  if #names == 0 then error("option data: it names nothing", 0) end
  local loader <close> = open(sources)
  local evaluation, text = evaluation_images(o, evaluation_sets(o, pool))
  local keep, left_out = {}, 0
  if evaluation then
    if #loader > 5000 then
      io.stdout:write(("pool %s: comparing %d images with %s\n"):format(o.data, #loader, text))
    end
    keep, left_out = without_leaks(loader, evaluation)
    evaluation:close()
  else
    for i = 1, #loader do keep[i] = i - 1 end
  end
  if #keep == 0 then
    error(("data %s: nothing is left without what repeats %s"):format(o.data, text), 0)
  end
  io.stdout:write(("pool %s: %d images; %s\n"):format(o.data, #keep, evaluation and
    ("%d left out that %s holds, or nearly"):format(left_out, text) or
    "not compared with an evaluation set (exclude=)"))
  local used = thinned(keep, o.images or 0)
  if run then
    run:note_data("pool", { sets = o.data, images = #used, left_out = left_out,
      evaluation = text, fingerprint = dataset.fingerprint(sources),
      chosen = core.fs.hash_text(table.concat(used, " ")) })
  end
  return one_or_list(sources), core.tensor(used, { dtype = "i64" })
end

return data
