-- loader.lua: the loader's speed in images/s per core: read, decode, random crop to 224, flip,
-- normalise, from 512 x 512 files that are decoded anew each epoch (memory = 0), alone and with
-- pseudo-masks from their cache or filtered anew; then the same pictures in a pack of 256 px
-- (as lumen pack writes it), with its masks. Decoding alone, by lumen.image.load in the same
-- process, is the share that no loader can do without.
--
--   build/lumen tests/bench/loader.lua [threads [images]]      default 2 threads, 64 images
--
-- One core is measured in processor time of a loader without workers, workers in wall time.
-- Before anything is timed, batches of the workers are compared with those of threads = 0.
local lumen = require "lumen"

local threads, count = tonumber(arg[1] or 2), tonumber(arg[2] or 64)
local side, batch = 512, 16

local root = os.tmpname()
os.remove(root)

-- Phantoms as files; returns folder and paths.
local function write_files(extension)
  local folder, paths = root .. "/" .. extension, {}
  lumen.fs.mkdir(folder)
  local loader <close> = lumen.data.loader { size = side, channels = 1,
    source = { kind = "phantom", count = count, size = side, preset = "hard" } }
  for sample in loader:epoch(1) do
    paths[#paths + 1] = ("%s/%04d.%s"):format(folder, #paths, extension)
    lumen.image.save(paths[#paths], sample.image[1][1], { quality = 92 })
  end
  return folder, paths
end

local function new_loader(folder, workers, pseudo_mask, cache)
  local source = { kind = folder:match("%.pack$") and "pack" or "folder", images = folder }
  if source.kind == "pack" then source.path, source.images = folder, nil end
  return lumen.data.loader { source = source, batch = batch,
    size = 224, seed = 1, shuffle = true, threads = workers, flip = 0.5, memory = 0,
    crop = { scale = { 0.2, 1 } }, mean = lumen.data.mean, std = lumen.data.std,
    pseudo_mask = pseudo_mask, cache = cache }
end

local function same(a, b)
  return (a == nil and b == nil) or (a - b):abs():max():item() == 0
end

local function verify(folder, workers, pseudo_mask, cache)
  local plain <close> = new_loader(folder, 0, pseudo_mask)
  local tested <close> = new_loader(folder, workers, pseudo_mask, cache)
  local step = plain:epoch(1)
  for b in tested:epoch(1) do
    local a = step()
    assert(same(a.image, b.image) and same(a.vessel_mask, b.vessel_mask), "batches differ")
    a.image:release()
    b.image:release()
  end
end

-- Seconds per image, best of three epochs.
local function seconds(folder, workers, pseudo_mask, cache)
  local loader <close> = new_loader(folder, workers, pseudo_mask, cache)
  local best, clock = math.huge, workers == 0 and os.clock or lumen.time
  for epoch = 1, 3 do
    local start = clock()
    lumen.scope(function()
      for _ in loader:epoch(epoch) do end
    end)
    best = math.min(best, (clock() - start) / count)
  end
  return best
end

local function decode_seconds(paths)
  local best = math.huge
  for _ = 1, 3 do
    local start = os.clock()
    for _, path in ipairs(paths) do lumen.image.load(path, { grey = true }):release() end
    best = math.min(best, (os.clock() - start) / #paths)
  end
  return best
end

local function report(name, folder, paths, pseudo_mask, cache)
  verify(folder, threads, pseudo_mask, cache)
  local decode = paths and decode_seconds(paths)
  local one, many = seconds(folder, 0, pseudo_mask, cache), seconds(folder, threads, pseudo_mask, cache)
  print(("%-28s %7.0f images/s on one core%s; %d workers %7.0f images/s, %5.0f per core"):format(
    name, 1 / one, decode and (", decoding %3.0f %%"):format(100 * decode / one) or "", threads,
    1 / many, 1 / many / threads))
end

for _, extension in ipairs { "jpg", "png" } do
  local folder, paths = write_files(extension)
  local cache = root .. "/cache-" .. extension
  report(extension, folder, paths, false)
  report(extension .. ", masks from the cache", folder, paths, true, cache)
  report(extension .. ", masks filtered anew", folder, paths, true)
end

-- The phantoms with their masks, made small.
local pack = require "lumen.pack"
local phantoms = { set = { name = "phantom" }, parts = { { split = "train", sources = {
  { kind = "phantom", count = count, size = side, preset = "hard" } } } } }
local packed = root .. "/phantom.pack"
local start = lumen.time()
pack.write(pack.splits(phantoms, 256), packed, { size = 256, quality = 90, images = 0 })
print(("rendering and packing: %.1f images/s, %.1f kB each with its mask"):format(count / (lumen.time() - start),
  lumen.fs.stat(packed).size / count / 1e3))
report("pack of 256 px", packed, nil, false)
report("pack, masks filtered anew", packed, nil, true)
lumen.fs.remove_tree(root, root:match("^(.*)/"))
