-- lumen.data: the loader of the core, and names of datasets turned into sources for it.
--   local source, subset = data.source("xcad", { root = "...", split = "train" })
--   local loader = data.loader{ source = source, subset = subset, batch = 16, size = 224, ... }
-- A dataset is a file datasets/<name>.lua that returns
--   { name =, about =, origin =, licence =, splits = {..}, source = function(root, split, count, size) }
-- where source returns what the loader takes as its source, and the 1-based first and last
-- item of the split (nil: all).
local core = require "lumen.core"
local options = require "lumen.options"
local path = require "lumen.path"
local recipe = require "lumen.recipe"

local data = { loader = core.data.loader }

-- Usual input normalisation: the statistics of ImageNet.
data.mean = { 0.485, 0.456, 0.406 }
data.std = { 0.229, 0.224, 0.225 }

-- Where pseudo-masks of image files are kept: $XDG_CACHE_HOME/lumen, else ~/.cache/lumen.
function data.cache()
  local home = os.getenv("XDG_CACHE_HOME")
  if not home or home == "" then home = (os.getenv("HOME") or "/tmp") .. "/.cache" end
  return home .. "/lumen"
end

-- Names of all datasets, sorted.
function data.names()
  local names = {}
  for _, file in ipairs(core.fs.list(recipe.root() .. "/datasets")) do
    names[#names + 1] = file:match("^(.+)%.lua$")
  end
  return names
end

-- The definition of a named dataset.
function data.dataset(name)
  local file = ("%s/datasets/%s.lua"):format(recipe.root(), name)
  if not core.fs.exists(file) then
    local near = options.nearest(name, data.names())
    error(("there is no dataset and no folder %s%s"):format(name,
      near and ("\nhint: did you mean %s?"):format(near) or ""), 0)
  end
  return dofile(file)
end

local extensions = { png = true, jpg = true, jpeg = true, bmp = true, pgm = true, ppm = true,
  pnm = true }

-- What the loader takes for an image: no hidden files.
local function is_image(name)
  local extension = name:match("^[^.].*%.([^.]+)$")
  return extension and extensions[extension:lower()]
end

-- Number of image files in a folder.
function data.count(folder)
  local n = 0
  for _, name in ipairs(core.fs.list(folder)) do
    if is_image(name) then n = n + 1 end
  end
  return n
end

-- A plain folder: images in it, or in its images/ with masks of the same names in masks/.
-- With masks, the last `held_out` of the images (in order of their names) are the test split.
local function folder_source(folder, o)
  local images, masks = folder, nil
  if path.is_dir(folder .. "/images") then images = folder .. "/images" end
  if path.is_dir(folder .. "/masks") then masks = folder .. "/masks" end
  local total = data.count(images)
  if total == 0 then error(("no images in %s"):format(images), 0) end
  local source = { kind = "folder", images = images, masks = masks }
  if o.split == "all" then return source, 1, total end
  local test = math.tointeger(total * o.held_out // 1)
  if o.split == "train" then return source, 1, total - test end
  return source, total - test + 1, total
end

-- Source and subset (i64, 0-based items) of a dataset's name or a folder. options: root,
-- split = "all" | "train" | "test", count (use the first count items only; 0: all),
-- held_out (share of a plain folder that is the test split), size (what the network will see;
-- made images are not made smaller than that).
function data.source(name, o)
  local source, first, last
  if path.is_dir(name) then
    source, first, last = folder_source(name, { split = o.split, held_out = o.held_out or 0.3 })
  else
    local set = data.dataset(name)
    source, first, last = set.source(o.root or "", o.split, o.count or 0, o.size or 224)
  end
  if o.count and o.count > 0 then last = math.min(last, first + o.count - 1) end
  return source, core.arange(first - 1, last)
end

-- `count` of the items of subset, the same for one seed, and nested: a smaller choice is
-- part of a larger one. labels: "all", a count, or a share such as "10%".
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

-- For datasets/: the folder of a named dataset, with a clear complaint when it is not there.
function data.root(name, root, inner)
  if root == "" then
    error(("dataset %s: root= must name its folder (it holds %s)"):format(name, inner), 0)
  end
  if not path.is_dir(root .. "/" .. inner) then
    error(("dataset %s: there is no %s in %s"):format(name, inner, root), 0)
  end
  return root
end

return data
