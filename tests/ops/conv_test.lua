-- conv_test.lua: conv2d and conv_transpose2d against loops over their definition, in each
-- of the ways they are computed: direct, through the BLAS (1 x 1, patches), in bands of a
-- large image, with several small images at once.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"

local function pair(value, default)
  if value == nil then value = default end
  if type(value) == "number" then return value, value end
  return value[1], value[2]
end

local function zeros(n, c, h, w, bias)
  local t = {}
  for i = 1, n do
    t[i] = {}
    for j = 1, c do
      t[i][j] = {}
      for y = 1, h do
        t[i][j][y] = {}
        for x = 1, w do t[i][j][y][x] = bias and bias[j] or 0 end
      end
    end
  end
  return t
end

-- Calls visit(image, group, wide y, wide x, narrow y, narrow x, kernel y, kernel x) for
-- each pair of pixels that a convolution connects; sizes are {rows, columns}.
local function each_tap(images, groups, wide, narrow, kernel, o, visit)
  local sy, sx = pair(o.stride, 1)
  local py, px = pair(o.padding, 0)
  local dy, dx = pair(o.dilation, 1)
  for n = 1, images do for g = 0, groups - 1 do
    for oy = 1, narrow[1] do for ox = 1, narrow[2] do
      for ky = 1, kernel[1] do for kx = 1, kernel[2] do
        local y = (oy - 1) * sy - py + (ky - 1) * dy + 1
        local x = (ox - 1) * sx - px + (kx - 1) * dx + 1
        if y >= 1 and y <= wide[1] and x >= 1 and x <= wide[2] then
          visit(n, g, y, x, oy, ox, ky, kx)
        end
      end end
    end end
  end end
end

local function conv(o)
  return function(x, weight, bias)
    local s, k, groups = x.shape, weight.shape, o.groups or 1
    local size = {}
    local stride, padding = { pair(o.stride, 1) }, { pair(o.padding, 0) }
    local dilation = { pair(o.dilation, 1) }
    for d = 1, 2 do
      local span = dilation[d] * (k[d + 2] - 1) + 1
      size[d] = (s[d + 2] + 2 * padding[d] - span) // stride[d] + 1
    end
    local out = zeros(s[1], k[1], size[1], size[2], bias and bias:totable())
    local xt, wt = x:totable(), weight:totable()
    each_tap(s[1], groups, { s[3], s[4] }, size, { k[3], k[4] }, o,
      function(n, g, y, xx, oy, ox, ky, kx)
        for i = 1, k[1] // groups do
          local channel = g * (k[1] // groups) + i
          local sum = out[n][channel][oy][ox]
          for j = 1, k[2] do
            sum = sum + xt[n][g * k[2] + j][y][xx] * wt[channel][j][ky][kx]
          end
          out[n][channel][oy][ox] = sum
        end
      end)
    return out
  end
end

local function conv_transpose(o)
  return function(x, weight, bias)
    local s, k, groups = x.shape, weight.shape, o.groups or 1
    local size = {}
    local stride, padding = { pair(o.stride, 1) }, { pair(o.padding, 0) }
    local dilation, extra = { pair(o.dilation, 1) }, { pair(o.output_padding, 0) }
    for d = 1, 2 do
      size[d] = (s[d + 2] - 1) * stride[d] - 2 * padding[d] + dilation[d] * (k[d + 2] -
        1) +
        extra[d] + 1
    end
    local out = zeros(s[1], k[2] * groups, size[1], size[2], bias and bias:totable())
    local xt, wt = x:totable(), weight:totable()
    each_tap(s[1], groups, size, { s[3], s[4] }, { k[3], k[4] }, o,
      function(n, g, y, xx, oy, ox, ky, kx)
        for i = 1, k[1] // groups do
          local channel = g * (k[1] // groups) + i
          local v = xt[n][channel][oy][ox]
          for j = 1, k[2] do
            local to = out[n][g * k[2] + j][y]
            to[xx] = to[xx] + v * wt[channel][j][ky][kx]
          end
        end
      end)
    return out
  end
end

local function row(make, x, weight, bias, o)
  local args = { helper.randn(x, 1), helper.randn(weight, 2) }
  if bias then args[3] = helper.randn({ bias }, 3) end
  return { args = args, options = o, ref = make(o), tol = { bf16 = 4e-2 } }
end

local function shape_row(x, weight, o, shape)
  return { args = { helper.randn(x), helper.randn(weight) }, options = o, shape = shape }
end

helper.op("conv2d", {
  row(conv, { 2, 3, 6, 5 }, { 4, 3, 3, 3 }, 4, { padding = 1 }),
  row(conv, { 1, 2, 5, 36 }, { 3, 2, 3, 3 }, 3, { padding = 1 }), -- wider than a tile
  row(conv, { 1, 1, 1, 1 }, { 1, 1, 1, 1 }, nil, {}),
  row(conv, { 1, 3, 7, 8 }, { 9, 3, 2, 3 }, 9, { stride = 2, padding = { 0, 1 } }),
  row(conv, { 2, 2, 9, 7 }, { 3, 2, 3, 2 }, nil,
    { stride = { 3, 2 }, padding = { 2, 0 } }),
  row(conv, { 1, 2, 8, 9 }, { 2, 2, 3, 3 }, 2, { dilation = 2, padding = 2 }),
  row(conv, { 1, 2, 9, 8 }, { 2, 2, 3, 2 }, 2,
    { dilation = { 2, 3 }, stride = 2, padding = 3 }),
  row(conv, { 2, 4, 5, 6 }, { 6, 2, 3, 3 }, 6, { groups = 2, padding = 1 }),
  row(conv, { 3, 5, 6, 4 }, { 5, 1, 3, 3 }, 5, { groups = 5, padding = 1 }), -- depthwise
  row(conv, { 2, 3, 5, 5 }, { 6, 1, 3, 3 }, nil, { groups = 3, stride = 2, padding = 1 }),
  row(conv, { 2, 16, 3, 2 }, { 17, 16, 1, 1 }, 17, {}), -- a product of matrices
  row(conv, { 1, 32, 2, 3 }, { 32, 16, 1, 1 }, nil, { groups = 2 }),
  row(conv, { 2, 4, 6, 4 }, { 16, 4, 2, 2 }, 16, { stride = 2 }), -- patches
  row(conv, { 1, 4, 7, 5 }, { 16, 4, 2, 2 }, nil, { stride = 3 }), -- patches with gaps
  row(conv, { 2, 4, 3, 3 }, { 16, 4, 3, 3 }, 16, {}), -- one position
  row(conv, { 1, 2, 4, 5 }, { 3, 2, 1, 1 }, 3, { stride = 2 }),
  -- more padding than kernel
  row(conv, { 1, 1, 3, 3 }, { 1, 1, 2, 2 }, 1, { padding = 4 }),
  row(conv, { 1, 1, 4, 3 }, { 2, 1, 2, 2 }, 2, { stride = 1000000, padding = 1 }),
  row(conv, { 1, 1, 4, 3 }, { 2, 1, 2, 2 }, 2, { stride = 100000, padding = 100000 }),
  row(conv, { 1, 1, 5, 6 }, { 2, 1, 3, 3 }, 2, { dilation = 3, padding = 4, stride = 7 }),
  shape_row({ 0, 3, 5, 5 }, { 2, 3, 3, 3 }, { padding = 1 }, { 0, 2, 5, 5 }),
  shape_row({ 2, 3, 5, 5 }, { 0, 3, 3, 3 }, {}, { 2, 0, 3, 3 }),
})

helper.op("conv_transpose2d", {
  row(conv_transpose, { 2, 3, 4, 3 }, { 3, 2, 2, 2 }, 2, { stride = 2 }),
  row(conv_transpose, { 1, 3, 4, 5 }, { 3, 4, 3, 3 }, 4, { padding = 1 }),
  row(conv_transpose, { 2, 2, 3, 4 }, { 2, 3, 3, 3 }, nil,
    { stride = 2, padding = 1, output_padding = 1 }),
  row(conv_transpose, { 1, 4, 3, 3 }, { 4, 3, 2, 3 }, 6,
    { stride = { 3, 2 }, output_padding = { 2, 0 }, groups = 2 }),
  row(conv_transpose, { 1, 2, 3, 4 }, { 2, 2, 3, 2 }, 2,
    { dilation = 2, stride = 3, padding = 2 }),
  row(conv_transpose, { 2, 16, 2, 3 }, { 16, 18, 1, 1 }, 18, {}), -- a product of matrices
  row(conv_transpose, { 1, 1, 1, 1 }, { 1, 1, 1, 1 }, nil,
    { stride = 3, output_padding = 2 }),
  shape_row({ 0, 3, 4, 4 }, { 3, 2, 2, 2 }, { stride = 2 }, { 0, 2, 8, 8 }),
})

local function error_row(x, weight, o, bias)
  local args = { helper.randn(x), helper.randn(weight) }
  if bias then args[3] = helper.randn { bias } end
  return { args = args, options = o }
end

helper.error("conv2d", error_row({ 3, 5, 5 }, { 2, 3, 3, 3 }), "conv2d: x")
helper.error("conv2d", error_row({ 1, 3, 5, 5 }, { 2, 3, 3 }), "conv2d: weight")
helper.error("conv2d", error_row({ 1, 4, 5, 5 }, { 2, 3, 3, 3 }),
  "conv2d: weight has shape [2 x 3 x 3 x 3] but x has 4 channels in 1 group(s) " ..
  "(x: f32 cpu [1 x 4 x 5 x 5])")
helper.error("conv2d", error_row({ 1, 3, 5, 5 }, { 2, 3, 3, 3 }, {}, 3), "conv2d: bias")
helper.error("conv2d", error_row({ 1, 3, 5, 5 }, { 2, 3, 7, 3 }, { padding = 0 }),
  "conv2d: a kernel of 7 x 3")
helper.error("conv2d", error_row({ 1, 3, 5, 5 }, { 2, 3, 0, 3 }),
  "conv2d: weight has an empty kernel")
helper.error("conv2d", error_row({ 1, 3, 5, 5 }, { 2, 1, 3, 3 }, { groups = 2 }),
  "conv2d: groups=2")
helper.error("conv2d", error_row({ 1, 3, 5, 5 }, { 2, 3, 3, 3 }, { groups = 0 }),
  "conv2d: groups")
helper.error("conv2d", error_row({ 1, 3, 5, 5 }, { 2, 3, 3, 3 }, { stride = 0 }),
  "conv2d: stride")
helper.error("conv2d", error_row({ 1, 3, 5, 5 }, { 2, 3, 3, 3 }, { stride = 1 << 40 }),
  "is too large")
helper.error("conv2d", error_row({ 1, 3, 5, 5 }, { 2, 3, 3, 3 },
  { padding = { 1, 2, 3 } }), "conv2d: padding")
local huge = (1 << 31) - 1
for _, stride in ipairs { 1, huge } do
  helper.error("conv2d", error_row({ 1, 3, 5, 5 }, { 2, 3, 3, 3 },
    { padding = huge, dilation = huge, stride = stride }), "needs a workspace of")
end
helper.error("conv_transpose2d", error_row({ 1, 3, 4, 4 }, { 3, 2, 2, 2 },
  { stride = 2, output_padding = 2 }),
  "conv_transpose2d: output_padding 2 x 2 must be smaller")
helper.error("conv_transpose2d", error_row({ 1, 4, 4, 4 }, { 3, 2, 2, 2 }),
  "conv_transpose2d: weight has shape [3 x 2 x 2 x 2] but x has 4 channels")
helper.error("conv_transpose2d", error_row({ 1, 3, 2, 2 }, { 3, 2, 2, 2 },
  { padding = 3 }), "conv_transpose2d: nothing is left")

-- Sizes that the loops above would take too long for, against smaller calls.
TestLargeImages = {}

local function randn(shape, seed)
  return lumen.randn(shape, { dtype = "f64", rng = { seed = seed, stream = "test" } })
end

local function check_crop(o, channels, out, height, width)
  local x, weight = randn({ 1, channels, height, width }, 1), randn({ out, channels, 3,
    3 }, 2)
  local whole = lumen.conv2d(x, weight, nil, o)
  local rows, columns = whole.shape[3], whole.shape[4]
  for _, first in ipairs { 2, rows // 3, rows - 9 } do -- rows of the result
    local y = (first - 1) * o.stride - o.padding + 1
    local part = lumen.conv2d(x:slice(3, y, y + 8 * o.stride + 2), weight, nil,
      { stride = o.stride, padding = { 0, o.padding } })
    lu.assertEquals(part.shape, { 1, out, 9, columns })
    helper.assert_close(whole:slice(3, first, first + 8), part, 1e-12,
      "rows from " .. first)
  end
end

function TestLargeImages.test_bands()
  check_crop({ stride = 1, padding = 1 }, 24, 9, 150, 130)
  check_crop({ stride = 2, padding = 1 }, 24, 5, 150, 170)
end

-- conv_transpose2d is the adjoint of conv2d, and so is its weight gradient.
local function check_adjoint(x_shape, weight_shape, o)
  local x, weight = randn(x_shape, 1), randn(weight_shape, 2)
  x.requires_grad, weight.requires_grad = true, true
  local y = lumen.conv2d(x, weight, nil, o)
  local gy = randn(y.shape, 3)
  local value = (y * gy):sum()
  value:backward()
  helper.assert_close((x:detach() * x.grad):sum(), value:detach(), 1e-10, "input")
  helper.assert_close((weight:detach() * weight.grad):sum(), value:detach(), 1e-10,
    "weight")
end

function TestLargeImages.test_adjoint()
  check_adjoint({ 2, 24, 110, 90 }, { 9, 24, 3, 3 }, { padding = 1 })
  check_adjoint({ 2, 20, 120, 91 }, { 17, 20, 3, 3 }, { padding = 1, stride = 2 })
  check_adjoint({ 3, 8, 96, 96 }, { 40, 8, 8, 8 }, { stride = 8 })
  check_adjoint({ 2, 40, 50, 70 }, { 48, 40, 1, 1 }, {})
  check_adjoint({ 40, 16, 7, 7 }, { 16, 1, 3, 3 }, { padding = 1, groups = 16 })
end

-- The images of a batch do not see each other.
function TestLargeImages.test_batch()
  local x, weight = randn({ 50, 3, 6, 7 }, 1), randn({ 5, 3, 3, 3 }, 2)
  local whole = lumen.conv2d(x, weight, nil, { padding = 1 })
  for n = 1, 50 do
    local one = lumen.conv2d(x:slice(1, n, n), weight, nil, { padding = 1 })
    helper.assert_close(whole:slice(1, n, n), one, 1e-13, "image " .. n)
  end
end

helper.run()
