-- Time of Sato's filter and of the whole pseudo-mask on one 512 x 512 picture, one thread:
-- milliseconds, pixels a second and multiply-adds a second. `lumen tests/bench/sato.lua
-- python3` runs peer_sato.py with that interpreter and prints the ratio to scikit-image.
local lumen = require "lumen"

local size, sigmas = 512, { 1, 2, 3, 4 }
local rng = { seed = 1, stream = "bench" }
local image = lumen.rand({ size, size }, { low = 0, high = 256, rng = rng }):floor():to("u8")

local function best_of(repeats, fn)
  local best = math.huge
  for _ = 1, repeats do
    local start = lumen.time()
    fn()
    best = math.min(best, lumen.time() - start)
  end
  return best
end

local taps = 0 -- multiply-adds a pixel: six passes of 2 * 8 sigma + 1 weights
for _, sigma in ipairs(sigmas) do taps = taps + 6 * (16 * sigma + 1) end

local x = image:to("f64")
local sato = best_of(20, function() lumen.vision.sato(x, { sigmas = sigmas }) end)
local mask = best_of(20, function() lumen.vision.vessel_mask(image) end)
local rate = size * size / sato / 1e6 -- million pixels a second
print(("sato %dx%d, sigmas 1 2 3 4: %.2f ms, %.1f Mpixel/s, %.1f GFLOP/s in f64")
  :format(size, size, sato * 1e3, rate, 2 * taps * rate / 1e3))
print(("vessel_mask: %.2f ms"):format(mask * 1e3))

local python = arg and arg[1]
if python then
  local pipe = assert(io.popen(python .. " tests/bench/peer_sato.py"))
  local peer = tonumber(pipe:read("a"))
  pipe:close()
  if peer then
    print(("scikit-image: %.1f ms, %.1f times as long"):format(peer, peer / (sato * 1e3)))
  else
    print("scikit-image: not available")
  end
end
