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

local data = { loader = core.data.loader, count = dataset.count }

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

return data
