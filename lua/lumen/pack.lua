-- Packs: images and masks of datasets, made small, in one file or in a folder of files that
-- are read from front to back (core/io/pack.h has the format).
local core = require "lumen.core"
local dataset = require "lumen.dataset"
local path = require "lumen.path"

local pack = {}

local function base_name(name) return (name:gsub("/+$", ""):match("[^/]*$")) end

-- The packs behind a name: a file *.pack, or those of a folder, sorted; none: an empty list.
local function files_of(name)
  if name:match("%.pack$") and path.is_file(name) then return { name } end
  local files = {}
  for _, inner in ipairs(path.is_dir(name) and core.fs.list(name) or {}) do
    if inner:match("^[^.].*%.pack$") then files[#files + 1] = name .. "/" .. inner end
  end
  return files
end

-- Does a name stand for packed data?
--   > require("lumen.pack").is "no_such_file.pack"
--   false
function pack.is(name) return #files_of(name) > 0 end

-- What is in a pack: size, quality, classes, from, parts = { { split =, count = } }, images,
-- and shard, shards when it is one of several.
function pack.about(file)
  local text, images = core.data.packed(file)
  local about = core.json.decode(text, file)
  about.images = images
  return about
end

-- Packed data as dataset.find describes what it has found: a part for each split.
function pack.find(name)
  local parts, by_split, files = {}, {}, files_of(name)
  for i, file in ipairs(files) do
    local about = pack.about(file)
    local shard, shards = about.shard or 1, about.shards or 1
    if shard ~= i or shards ~= #files then
      error(("%s: pack %s of %s, but %d of %d in its folder"):format(file, shard, shards, i,
        #files), 0)
    end
    for _, p in ipairs(about.parts) do
      local part = by_split[p.split]
      if not part then
        part = { split = p.split, sources = {}, count = 0 }
        by_split[p.split] = part
        parts[#parts + 1] = part
      end
      part.count = part.count + p.count
      if p.count > 0 then
        table.insert(part.sources, { kind = "pack", path = file, split = p.split })
      end
    end
  end
  local about = ("packed from %s"):format(pack.about(files[1]).from or "?")
  return { set = { name = base_name(name), about = about }, dir = name, layout = "pack",
           missing = {}, parts = parts }
end

-- ---- writing -------------------------------------------------------------------------------

-- Items of one source, in order: { loader =, item =, name =, masks = }, added to list.
local function add_items(list, found, source, first, last, masks)
  -- Bilinear: a bicubic filter keeps more of the noise, which then takes a tenth of the bytes.
  local loader = core.data.loader { source = source, size = 8, threads = 0, memory = 0,
                                    filter = "bilinear" }
  for item = first, math.min(last, #loader) do
    local name = loader:name(item)
    if found.dir and name:sub(1, #found.dir + 1) == found.dir .. "/" then name = name:sub(#found.dir + 2) end
    list[#list + 1] = { loader = loader, item = item, masks = masks,
                        name = ("%s/%s"):format(base_name(found.set.name), name) }
  end
  return #loader
end

-- Items first..last of all sources of a part.
local function add_part(list, found, part, first, last, masks)
  local before = 0
  for _, source in ipairs(part.sources) do
    before = before + add_items(list, found, source, math.max(first - before, 1), last - before, masks)
  end
end

-- The parts of a dataset: those that were found, or those that it makes itself.
local function parts_of(found, size)
  if not found.set.source then return found.parts end
  local parts = {}
  for i, split in ipairs(found.set.splits) do
    local source, first, last = found.set.source("", split, 0, size)
    parts[i] = { split = split, sources = { source }, first = first, last = last }
  end
  return parts
end

local function count_of(part)
  return dataset.items(#part.sources == 1 and part.sources[1] or part.sources)
end

-- The splits of what dataset.find has found, as { split =, items = } in order; what is held out
-- of a part is its test split. size: of made images. only: this split, or "pool" for every
-- image without its mask.
function pack.splits(found, size, only)
  local splits, by_name = {}, {}
  local function add(name, part, first, last)
    local masks = only ~= "pool"
    if not masks then name = "unlabelled" end
    if last < first or (only and masks and only ~= name) then return end
    if not by_name[name] then
      by_name[name] = { split = name, items = {} }
      splits[#splits + 1] = by_name[name]
    end
    add_part(by_name[name].items, found, part, first, last, masks)
  end
  for _, part in ipairs(parts_of(found, size)) do
    local total = part.last or count_of(part)
    local train = total - dataset.held_out(part, total)
    add(part.split, part, part.first or 1, train)
    add("test", part, train + 1, total)
  end
  return splits
end

local function write_file(file, items, about, o)
  local packer <close> = core.data.packer(file)
  for _, i in ipairs(items) do
    packer:add(i.loader, i.item, i.name, { size = o.size, quality = o.quality, masks = i.masks })
  end
  packer:commit(core.json.encode(about))
end

-- The numbers of items of each split that lie in first..last of all.
local function parts_in(splits, first, last)
  local parts, before = {}, 0
  for i, s in ipairs(splits) do
    local low, high = math.max(first, before + 1), math.min(last, before + #s.items)
    parts[i] = { split = s.split, count = math.max(high - low + 1, 0) }
    before = before + #s.items
  end
  return parts
end

-- Writes splits (pack.splits) to out, a file *.pack or a folder of them with at most o.images
-- each (0: all in one). o: size, quality, from (what it is made of, for people). Returns the
-- files.
function pack.write(splits, out, o)
  if core.fs.exists(out) then error(("%s is there already"):format(out), 0) end
  local items, files, classes = {}, {}, nil
  for _, s in ipairs(splits) do
    for _, item in ipairs(s.items) do
      local k = item.masks and item.loader:classes() or 0
      if item.masks and item.loader:has_masks() then
        classes = classes or k
        if k ~= classes then error("masks of one pack must have the same classes", 0) end
      end
      items[#items + 1] = item
    end
  end
  if #items == 0 then error("there is nothing to pack", 0) end
  local single = out:match("%.pack$") ~= nil
  local each = (single or o.images == 0) and #items or o.images
  local shards = (#items + each - 1) // each
  if not single then core.fs.mkdir(out) end
  for shard = 1, shards do
    local first, last = (shard - 1) * each + 1, math.min(shard * each, #items)
    local file = single and out or ("%s/%04d.pack"):format(out, shard)
    local about = { size = o.size, quality = o.quality, from = o.from, classes = classes or 0,
                    parts = parts_in(splits, first, last) }
    if not single then about.shard, about.shards = shard, shards end
    write_file(file, table.move(items, first, last, 1, {}), about, o)
    files[shard] = file
  end
  return files
end

return pack
