-- conv.lua: convolution and pooling at the shapes of UNeXt-S, a patch embedding and a
-- U-Net: forward, gradient of the input and of the weight, in milliseconds, GFLOP/s with
-- the share of the machine's own sgemm, and GB/s of the tensors that must be read and
-- written, with the share of the bandwidth that a copy reaches.
--
--   build/lumen tests/bench/conv.lua [batch]
--
-- Every shape is verified before it is timed: one output pixel against its definition,
-- and both gradients through
-- <conv(x), g> = <x, gradient of x> = <weight, gradient of weight>.
local lumen = require "lumen"

local batch = tonumber(arg and arg[1] or 8)

local function best_of(fn)
  local best, stop = math.huge, lumen.time() + 0.3
  repeat
    local start = lumen.time()
    fn()
    best = math.min(best, lumen.time() - start)
  until lumen.time() > stop
  return best
end

local function randn(shape, seed)
  return lumen.randn(shape, { rng = { seed = seed, stream = "bench" } })
end

local function numel(shape)
  local n = 1
  for _, s in ipairs(shape) do n = n * s end
  return n
end

-- What the machine can do, in the same run.
local a, b = randn({ 1024, 1024 }, 1), randn({ 1024, 1024 }, 2)
local peak = 2 * 1024 ^ 3 / best_of(function() return a:matmul(b) end)
local big = randn({ 1 << 24 }, 1)
local copy = lumen.zeros(big.shape)
local bandwidth = 2 * 4 * numel(big.shape) / best_of(function() copy:copy_(big) end)
print(("%d threads, sgemm 1024^3: %.0f GFLOP/s, copy: %.1f GB/s, batch %d")
  :format(lumen.threads(), peak / 1e9, bandwidth / 1e9, batch))

local function close(actual, expected, scale, what)
  if not (math.abs(actual - expected) <= 1e-4 * scale) then
    error(("%s: %g instead of %g"):format(what, actual, expected))
  end
end

local function verify(name, x, weight, y, g, gx, gw, o)
  local s, k = x.shape, weight.shape
  local group = k[1] // (o.groups or 1)
  -- 1-based output pixel
  local channel, row, column = k[1], y.shape[3] // 2, y.shape[4] // 2
  local first = (channel - 1) // group * k[2]
  local sum, scale = 0, 0
  for c = 1, k[2] do
    for i = 1, k[3] do
      for j = 1, k[4] do
        local u = (row - 1) * (o.stride or 1) - (o.padding or 0) + i
        local v = (column - 1) * (o.stride or 1) - (o.padding or 0) + j
        if u >= 1 and u <= s[3] and v >= 1 and v <= s[4] then
          local part = x[1][first + c][u][v]:item() * weight[channel][c][i][j]:item()
          sum, scale = sum + part, scale + math.abs(part)
        end
      end
    end
  end
  close(y[1][channel][row][column]:item(), sum, scale, name)
  local value = (y * g):to("f64"):sum():item()
  local size = (y * g):abs():to("f64"):sum():item()
  close((x * gx):to("f64"):sum():item(), value, size, name .. ": gradient of the input")
  close((weight * gw):to("f64"):sum():item(), value, size,
    name .. ": gradient of the weight")
end

-- The backward pass to one leaf alone.
local function backward_time(leaf, other, forward, g)
  leaf.requires_grad, other.requires_grad = true, false
  local y = forward()
  local seconds = best_of(function()
    leaf.grad = nil
    y:backward { keep = true, gradient = g }
  end)
  local grad = leaf.grad
  leaf.requires_grad, leaf.grad = false, nil
  return seconds, grad
end

local function report(name, what, seconds, flops, bytes)
  local format = "%-22s %-7s %8.3f ms %7.1f GFLOP/s (%3.0f %%) %6.1f GB/s (%3.0f %%)"
  print(format:format(name, what, seconds * 1e3,
    flops / seconds / 1e9, 100 * flops / seconds / peak,
    bytes / seconds / 1e9, 100 * bytes / seconds / bandwidth))
end

local function conv(name, channels, out, side, kernel, o)
  local groups = o.groups or 1
  local x = randn({ batch, channels, side, side }, 1)
  local weight = randn({ out, channels // groups, kernel, kernel }, 2)
  local function forward() return lumen.conv2d(x, weight, nil, o) end
  local y = forward()
  local g = randn(y.shape, 3)
  local taps = channels // groups * kernel * kernel
  local flops, bytes = 2 * numel(y.shape) * taps, 4 * (numel(x.shape) + numel(y.shape))
  local input, gx = backward_time(x, weight, forward, g)
  local weights, gw = backward_time(weight, x, forward, g)
  verify(name, x, weight, y, g, gx, gw, o)
  report(name, "forward", best_of(forward), flops, bytes)
  report(name, "input", input, flops, bytes)
  report(name, "weight", weights, flops, bytes)
end

conv("conv 3>8 @224", 3, 8, 224, 3, { padding = 1 })
conv("conv 8>16 @112", 8, 16, 112, 3, { padding = 1 })
conv("conv 16>32 @56", 16, 32, 56, 3, { padding = 1 })
conv("conv 32>64 /2 @28", 32, 64, 28, 3, { padding = 1, stride = 2 })
conv("conv 64>128 /2 @14", 64, 128, 14, 3, { padding = 1, stride = 2 })
conv("depthwise 64 @14", 64, 64, 14, 3, { padding = 1, groups = 64 })
conv("conv 128>64 @7", 128, 64, 7, 3, { padding = 1 })
conv("conv 64>32 @14", 64, 32, 14, 3, { padding = 1 })
conv("conv 32>16 @28", 32, 16, 28, 3, { padding = 1 })
conv("conv 16>8 @56", 16, 8, 56, 3, { padding = 1 })
conv("conv 8>8 @112", 8, 8, 112, 3, { padding = 1 })
conv("conv 8>1 1x1 @224", 8, 1, 224, 1, {})
conv("patch 16: 3>768 @224", 3, 768, 224, 16, { stride = 16 })
conv("conv 64>64 @56", 64, 64, 56, 3, { padding = 1 })
conv("conv 256>256 @28", 256, 256, 28, 3, { padding = 1 })

-- Pooling: each output must be the largest of its four inputs.
for _, shape in ipairs { { 8, 224 }, { 16, 112 }, { 32, 56 } } do
  local channels, side = shape[1], shape[2]
  local x = randn({ batch, channels, side, side }, 1)
  local function forward() return lumen.max_pool2d(x, { size = 2 }) end
  local y = forward()
  local windows = x:reshape { batch * channels, side // 2, 2, side // 2, 2 }
  local expected = windows:max { dims = { 3, 5 } }
  assert(y:reshape(expected.shape):eq(expected):to("f32"):mean():item() == 1,
    "max_pool2d")
  local name = ("max_pool2d %d @%d"):format(channels, side)
  local bytes = 4 * (numel(x.shape) + numel(y.shape))
  report(name, "forward", best_of(forward), 3 * numel(y.shape), bytes)
  report(name, "input", (backward_time(x, y, forward, randn(y.shape, 3))), 0, bytes)
end
