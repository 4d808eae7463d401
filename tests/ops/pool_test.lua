-- pool_test.lua: pooling against loops over its definition; ties, padding and NaN.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"

local function pair(value, default)
  if value == nil then value = default end
  if type(value) == "number" then return { value, value } end
  return value
end

-- reduce(image, first row, last row, first column, last column) of each window, 1-based.
local function pool(x, size, window, reduce)
  local out, images = {}, x:totable()
  for n, image in ipairs(images) do
    out[n] = {}
    for c, plane in ipairs(image) do
      out[n][c] = {}
      for i = 1, size[1] do
        out[n][c][i] = {}
        for j = 1, size[2] do
          local y0, y1 = window(1, i)
          local x0, x1 = window(2, j)
          out[n][c][i][j] = reduce(plane, y0, y1, x0, x1)
        end
      end
    end
  end
  return out
end

local function sum(plane, y0, y1, x0, x1)
  local total = 0
  for y = y0, y1 do for x = x0, x1 do total = total + plane[y][x] end end
  return total
end

local function largest(plane, y0, y1, x0, x1)
  local best = -math.huge
  for y = y0, y1 do for x = x0, x1 do best = math.max(best, plane[y][x]) end end
  return best
end

local function fixed(o, reduce)
  return function(x)
    local size, padding = pair(o.size), pair(o.padding, 0)
    local stride = pair(o.stride, 0)
    if stride[1] == 0 then stride = size end
    local out = {}
    for d = 1, 2 do
      out[d] = (x.shape[d + 2] + 2 * padding[d] - size[d]) // stride[d] + 1
    end
    return pool(x, out, function(d, i)
      local first = (i - 1) * stride[d] - padding[d] + 1
      return math.max(first, 1), math.min(first + size[d] - 1, x.shape[d + 2])
    end, reduce)
  end
end

local function mean_of(o)
  local size = pair(o.size)
  return fixed(o, function(...) return sum(...) / (size[1] * size[2]) end)
end

local function adaptive(o)
  return function(x)
    local size = pair(o.size)
    return pool(x, size, function(d, i)
      local n = x.shape[d + 2]
      return (i - 1) * n // size[d] + 1, -(-i * n // size[d])
    end, function(plane, y0, y1, x0, x1)
      return sum(plane, y0, y1, x0, x1) / ((y1 - y0 + 1) * (x1 - x0 + 1))
    end)
  end
end

local function max_row(shape, o)
  return { args = { helper.distinct(shape) }, options = o, ref = fixed(o, largest) }
end

local function avg_row(shape, o)
  return { args = { helper.randn(shape) }, options = o, ref = mean_of(o) }
end

local function adaptive_row(shape, o)
  return { args = { helper.randn(shape) }, options = o, ref = adaptive(o) }
end

helper.op("max_pool2d", {
  max_row({ 2, 3, 4, 6 }, { size = 2 }),
  max_row({ 1, 2, 5, 7 }, { size = 2 }),
  max_row({ 1, 2, 6, 5 }, { size = 3, stride = 1, padding = 1 }),
  max_row({ 2, 1, 7, 8 }, { size = 3, stride = 2, padding = 1 }),
  max_row({ 1, 2, 7, 9 }, { size = { 2, 3 }, stride = { 3, 4 }, padding = { 1, 0 } }),
  max_row({ 1, 2, 4, 1 }, { size = { 4, 1 } }),
  max_row({ 1, 1, 2, 2 }, { size = 5, padding = 2 }),
  { args = { helper.randn { 0, 3, 4, 4 } }, options = { size = 2 },
    shape = { 0, 3, 2, 2 } },
})

helper.op("avg_pool2d", {
  avg_row({ 2, 3, 4, 6 }, { size = 2 }),
  avg_row({ 1, 2, 6, 5 }, { size = 3, stride = 1, padding = 1 }),
  avg_row({ 1, 2, 7, 9 }, { size = { 2, 3 }, stride = { 3, 4 }, padding = { 1, 0 } }),
  avg_row({ 1, 2, 5, 5 }, { size = 5 }),
  { args = { helper.randn { 0, 3, 4, 4 } }, options = { size = 2 },
    shape = { 0, 3, 2, 2 } },
})

helper.op("adaptive_avg_pool2d", {
  adaptive_row({ 2, 3, 5, 7 }, { size = 3 }),
  adaptive_row({ 1, 2, 4, 4 }, { size = 1 }),
  adaptive_row({ 1, 2, 3, 2 }, { size = { 5, 4 } }),
  adaptive_row({ 1, 1, 6, 6 }, { size = { 2, 3 } }),
  { args = { helper.randn { 0, 3, 4, 4 } }, options = { size = 2 },
    shape = { 0, 3, 2, 2 } },
})

local function error_row(shape, o)
  return { args = { helper.randn(shape) }, options = o }
end

helper.error("max_pool2d", error_row({ 2, 4, 4 }, { size = 2 }), "max_pool2d: x")
helper.error("max_pool2d", error_row({ 1, 2, 4, 4 }, { size = 5 }),
  "max_pool2d: size 5 x 5 is larger than the image with padding 0 x 0 " ..
  "(x: f32 cpu [1 x 2 x 4 x 4])")
helper.error("max_pool2d", error_row({ 1, 2, 4, 4 }, { size = 2, padding = 2 }),
  "max_pool2d: padding 2 x 2 must be at most half of size 2 x 2")
helper.error("avg_pool2d", error_row({ 1, 2, 4, 4 }, { size = 0 }), "avg_pool2d: size")
helper.error("adaptive_avg_pool2d", error_row({ 1, 2, 0, 4 }, { size = 2 }),
  "adaptive_avg_pool2d: cannot make 2 x 2 windows")

TestMaxPool = {}

local function gradient(x, o)
  x.requires_grad = true
  lumen.max_pool2d(x, o):sum():backward()
  return x.grad:totable()
end

function TestMaxPool.test_first_maximum_wins()
  local x = lumen.tensor { { { { 1, 1, 0, 2 }, { 1, 0, 2, 2 } } } }
  lu.assertEquals(gradient(x, { size = 2 }), { { { { 1, 0, 0, 1 }, { 0, 0, 0, 0 } } } })
end

function TestMaxPool.test_infinities()
  local low = -math.huge
  local x = lumen.tensor { { { { low, low }, { low, low } } } }
  lu.assertEquals(lumen.max_pool2d(x, { size = 2 }):totable(), { { { { low } } } })
  lu.assertEquals(gradient(x, { size = 2 }), { { { { 1, 0 }, { 0, 0 } } } })
end

function TestMaxPool.test_nan_shows_through()
  local x = lumen.tensor { { { { 1, 0 / 0, 3, 4 }, { 7, 2, 5, 6 } } } }
  for _, recorded in ipairs { false, true } do
    x.requires_grad = recorded
    local y = lumen.max_pool2d(x, { size = 2 }):totable()[1][1][1]
    lu.assertNotEquals(y[1], y[1])
    lu.assertEquals(y[2], 6)
  end
end

-- Many planes: the work is shared between threads.
function TestMaxPool.test_many_planes()
  local x = lumen.randn({ 4, 16, 32, 32 }, { rng = { seed = 1, stream = "test" } })
  local whole = lumen.max_pool2d(x, { size = 2 })
  local means = lumen.avg_pool2d(x, { size = 2 })
  for n = 1, 4 do
    local one = x:slice(1, n, n)
    helper.assert_equal(whole:slice(1, n, n), lumen.max_pool2d(one, { size = 2 }), "max")
    helper.assert_equal(means:slice(1, n, n), lumen.avg_pool2d(one, { size = 2 }), "mean")
  end
end

helper.run()
