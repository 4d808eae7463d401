-- lumen pack data=NAME root=DIR size=256 out=FILE.pack: a dataset or a folder of images, made
-- small, in one file (or, when out is no *.pack, a folder of files) that is read like the
-- dataset itself: data=FILE.pack.
--   > require "lumen.commands.pack" "--help"
local core = require "lumen.core"
local data = require "lumen.data"
local options = require "lumen.options"
local pack = require "lumen.pack"

local rows = {
  { "data", "", "dataset name (see datasets/) or a folder of images; several with commas" },
  { "root", "", "its folder, or the folder that holds it (them) under its name" },
  { "split", "", "only this split (train, val, test, unlabelled); pool: all images, no masks" },
  { "out", "", "FILE.pack, or a folder for several" },
  { "size", 256, "longest shorter side of an image in pixels", min = 8, max = 8192 },
  { "quality", 90, "of JPEG", min = 1, max = 100 },
  { "images", 0, "at most that many in a file, when out is a folder; 0: all in one", min = 0 },
}

-- Splits of several datasets: those of one name follow each other.
local function gather(o)
  local splits, by_name = {}, {}
  for name in o.data:gmatch("[^,]+") do
    local found = data.locate(name, { root = o.root, held_out = 0.3 })
    for _, s in ipairs(pack.splits(found, o.size, o.split ~= "" and o.split or nil)) do
      if by_name[s.split] then
        local items = by_name[s.split].items
        table.move(s.items, 1, #s.items, #items + 1, items)
      else
        by_name[s.split] = s
        splits[#splits + 1] = s
      end
    end
  end
  return splits
end

return function(...)
  local o = {}
  for _, row in ipairs(rows) do o[row[1]] = row[2] end
  for _, argument in ipairs { ... } do
    if argument == "--help" or argument == "-h" then
      print("usage: lumen pack data=NAME out=FILE.pack [option=value ...]\n" .. options.help(rows))
      return 0
    end
    local key, value = options.split(argument)
    o[key] = options.parse(options.find(rows, key, "lumen pack"), value)
  end
  for _, key in ipairs { "data", "out" } do
    if o[key] == "" then error(("lumen pack: %s= is missing (see lumen pack --help)"):format(key), 0) end
  end
  local splits, start = gather(o), core.time()
  local files = pack.write(splits, o.out, { size = o.size, quality = o.quality, images = o.images, from = o.data })
  local bytes, images = 0, 0
  for _, file in ipairs(files) do bytes = bytes + core.fs.stat(file).size end
  for _, s in ipairs(splits) do
    print(("%-12s %6d images"):format(s.split, #s.items))
    images = images + #s.items
  end
  print(("%s: %.1f MB in %d file%s, %.1f kB an image, %.1f s"):format(o.out, bytes / 1e6, #files,
    #files == 1 and "" or "s", bytes / 1e3 / images, core.time() - start))
  return 0
end
