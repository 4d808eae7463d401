-- What the files of datasets/ have in common. A dataset describes itself with a table:
--
--   return dataset.define {
--     name = "xcad", about = "...", paper = "...", origin = "...", licence = "...",
--     tree = [[...]],        the folders it comes in, for people
--     size = { 512, 512 },   height and width of every image, if all are alike
--     folders = { "XCAD" },  names its folder may have besides its own
--     layouts = {            the forms it is found in, best first
--       { name = "published", parts = {
--         { split = "train", source = {...}, count = 100 }, { split = "test", ... } } },
--     },
--   }
--
-- The source of a part is what the loader takes, its paths relative to the dataset's folder,
-- or a function of that folder that returns such sources with full paths (none: not there).
-- held_out: the last of the part's images, a share or a number, are its test split. Parts of
-- the split "unlabelled" are there for pre-training alone. A layout is there when its first
-- part is. `count` is what the part is known to have.
local core = require "lumen.core"
local path = require "lumen.path"

local dataset = {}

local extensions = { png = true, jpg = true, jpeg = true, bmp = true, pgm = true, ppm = true,
  pnm = true }

-- Is this the name of what the loader takes for an image? Hidden files are none.
--   > require("lumen.dataset").is_image "frame_01.PNG"
--   true
function dataset.is_image(name)
  local extension = name:match("^[^.].*%.([^.]+)$")
  return extension ~= nil and extensions[extension:lower()] == true
end

-- Number of image files in a folder.
-- -> int
--   > folder = os.tmpname() .. ".d"
--   > lumen.fs.mkdir(folder)
--   > lumen.image.save(folder .. "/a.png", lumen.rand(8, 8))
--   > lumen.data.count(folder)
--   1
function dataset.count(folder)
  local n = 0
  for _, name in ipairs(core.fs.list(folder)) do
    if dataset.is_image(name) then n = n + 1 end
  end
  return n
end

-- Folders at or below `folder` that hold images, sorted; those a pattern matches if one is
-- given. Hidden folders are left out, and links that lead back; ten levels are looked at.
function dataset.folders(folder, pattern)
  local found, seen = {}, {}
  local function visit(dir, depth)
    local inner, images, here = {}, false, core.fs.realpath(dir)
    if seen[here] then return end
    seen[here] = true
    for _, name in ipairs(core.fs.list(dir)) do
      if dataset.is_image(name) then
        images = true
      elseif name:sub(1, 1) ~= "." and path.is_dir(dir .. "/" .. name) then
        inner[#inner + 1] = dir .. "/" .. name
      end
    end
    if images and (not pattern or dir:match(pattern)) then found[#found + 1] = dir end
    for _, below in ipairs(depth < 10 and inner or {}) do visit(below, depth + 1) end
  end
  if path.is_dir(folder) then visit(folder, 1) end
  return found
end

-- A source for each folder of images below one of these folders of the dataset, for unlabelled
-- sets whose frames lie in a folder per run.
function dataset.below(names)
  local pattern = names.pattern
  return function(dir)
    local sources = {}
    for _, name in ipairs(names) do
      for _, folder in ipairs(dataset.folders(name == "" and dir or dir .. "/" .. name, pattern)) do
        sources[#sources + 1] = { kind = "folder", images = folder }
      end
    end
    return sources
  end
end

local path_fields = { "images", "masks", "annotations", "path" }

-- Sources of a part with full paths, or nil and the first path that is not there.
local function locate(part, dir)
  if type(part.source) == "function" then
    local sources = part.source(dir)
    if #sources > 0 then return sources end
    return nil, dir
  end
  local source = {}
  for key, value in next, part.source do source[key] = value end
  for _, field in ipairs(path_fields) do
    if source[field] then
      source[field] = source[field] == "." and dir or dir .. "/" .. source[field]
      if not core.fs.exists(source[field]) then return nil, source[field] end
    end
  end
  return { source }
end

-- Number of items a list of sources has; complains as the loader does.
function dataset.items(sources)
  local loader <close> = core.data.loader { source = sources, size = 8, threads = 0 }
  return #loader
end

-- The folders of root that may carry the dataset's name.
local function named(set, root)
  local dirs = {}
  for i, name in ipairs { set.name, table.unpack(set.folders or {}) } do
    dirs[i] = root .. "/" .. name
  end
  return dirs
end

-- The dataset in the first of these folders that has it:
-- { dir =, layout =, parts = { { split =, sources =, count =, held_out = } }, missing = {..} }.
-- Nil and the paths that were looked for when nothing of it is there.
local function find(set, dirs)
  local looked = {}
  for _, dir in ipairs(dirs) do
    for _, layout in ipairs(path.is_dir(dir) and set.layouts or {}) do
      local found = { set = set, dir = dir, layout = layout.name, parts = {}, missing = {} }
      for _, part in ipairs(layout.parts) do
        local sources, absent = locate(part, dir)
        if sources then
          table.insert(found.parts, { split = part.split, sources = sources, count = part.count,
                                      held_out = part.held_out })
        elseif not part.optional then
          table.insert(found.missing, { split = part.split, path = absent, count = part.count })
          if part == layout.parts[1] then break end
        end
      end
      if #found.parts > 0 then return found end
      looked[#looked + 1] = found.missing[1].path
    end
  end
  return nil, looked
end

-- The dataset in `root`, which is its folder or holds it under one of its names; raises an
-- error that says what was looked for.
function dataset.find(set, root)
  if root == "" then
    error(("dataset %s: root= must name its folder, or one that holds it as %s\n" ..
      "expected:\n%s"):format(set.name, set.name, set.tree), 0)
  end
  if not path.is_dir(root) then
    error(("dataset %s: there is no folder %s"):format(set.name, root), 0)
  end
  local dirs = named(set, root)
  dirs[#dirs + 1] = root
  local found, looked = find(set, dirs)
  if found then return found end
  error(("dataset %s: nothing of it is in %s\nlooked for %s\nexpected:\n%s"):format(
    set.name, root, table.concat(looked, ", "), set.tree), 0)
end

-- The dataset in a folder of `root` that carries one of its names, or nil.
function dataset.beside(set, root)
  return (find(set, set.layouts and named(set, root) or {}))
end

-- How many of the last of `total` images of a part are its test split.
function dataset.held_out(part, total)
  if not part.held_out then return 0 end
  local n = part.held_out < 1 and total * part.held_out // 1 or part.held_out
  return math.min(math.tointeger(n), total)
end

-- First and last item of a part that belong to a split; last < first: none.
local function range(part, split, total, splits)
  local train = total - dataset.held_out(part, total)
  if split == "pool" then return 1, total end
  if part.split == "unlabelled" then return 1, 0 end
  if split == "all" then return 1, total end
  if split == "held out" then return part.split == "train" and train + 1 or 1, total end
  if part.split == "train" and part.held_out then
    if split == "train" then return 1, train end
    if split == "test" then return train + 1, total end
  elseif part.split == split or split == "test" and not splits.test and part.split == "val" then
    return 1, total
  end
  return 1, 0
end

-- Sources of a split of what dataset.find has found, and the items of them that belong to it
-- (a list of { first, last }, counted from 1 over all the sources). split: train, val or test
-- as the dataset has them (val stands in for a test split that is not there), all, "held out"
-- (everything labelled that is not for training), or "pool" (every image there is).
function dataset.split(found, split)
  local sources, ranges, offset, splits = {}, {}, 0, {}
  for _, part in ipairs(found.parts) do
    splits[part.split] = true
    if part.held_out then splits.test = true end
  end
  for _, part in ipairs(found.parts) do
    local total = dataset.items(part.sources)
    local first, last = range(part, split, total, splits)
    if last >= first then
      for _, source in ipairs(part.sources) do sources[#sources + 1] = source end
      ranges[#ranges + 1] = { offset + first, offset + last }
      offset = offset + total
    end
  end
  if #ranges == 0 and split ~= "held out" then
    local missing = found.missing[1]
    error(("dataset %s has no split %s in %s%s"):format(found.set.name, split, found.dir,
      missing and (" (there is no %s)"):format(missing.path) or ""), 0)
  end
  return sources, ranges
end

-- What dataset.find has found, its images only: for pre-training, and for comparing.
function dataset.unlabelled(found)
  local copy = { set = found.set, dir = found.dir, layout = found.layout,
                 missing = found.missing, parts = {} }
  for i, part in ipairs(found.parts) do
    local sources = {}
    for k, source in ipairs(part.sources) do
      if source.files then
        local files = {}
        for n, row in ipairs(source.files) do files[n] = type(row) == "table" and row[1] or row end
        sources[k] = { kind = "files", files = files }
      elseif source.kind == "pack" then
        sources[k] = { kind = "pack", path = source.path, split = source.split, masks = false }
      else
        sources[k] = { kind = "folder", images = source.images }
      end
    end
    copy.parts[i] = { split = part.split, sources = sources, held_out = part.held_out }
  end
  return copy
end

-- Sixteen hex digits from the names and sizes of all files that sources use, in order: cheap,
-- the same wherever the dataset lies, and another one when a file is added, taken away,
-- renamed or has another length. The content of files of the same length is not looked at.
function dataset.fingerprint(sources)
  local lines, seen = {}, {}
  local function add(file)
    local info = core.fs.stat(file)
    lines[#lines + 1] = ("%s %d"):format(file:match("[^/]*$"), info and info.size or -1)
  end
  for _, source in ipairs(sources) do
    for _, field in ipairs(path_fields) do
      local where = source[field]
      if type(where) == "string" and not seen[where] then
        seen[where] = true
        if path.is_dir(where) then
          for _, name in ipairs(core.fs.list(where)) do
            if dataset.is_image(name) then add(where .. "/" .. name) end
          end
        else
          add(where)
        end
      end
    end
    for _, row in ipairs(source.files or {}) do
      if type(row) == "string" then row = { row } end
      add(row[1])
      if row[2] then add(row[2]) end
    end
  end
  return core.fs.hash_text(table.concat(lines, "\n"))
end

-- Does a dataset have masks, so that methods are evaluated on it?
function dataset.is_labelled(set)
  for _, layout in ipairs(set.layouts or {}) do
    for _, part in ipairs(layout.parts) do
      if part.labelled or type(part.source) == "table" and
          (part.source.masks or part.source.annotations) then
        return true
      end
    end
  end
  return false
end

local required = { "name", "about", "origin", "licence", "tree", "layouts" }

-- Checks a description and gives it `source(root, split)`, which data.source calls.
function dataset.define(set)
  for _, field in ipairs(required) do
    if not set[field] then
      error(("dataset %s: it has no %s"):format(tostring(set.name), field), 2)
    end
  end
  return set
end

return dataset
