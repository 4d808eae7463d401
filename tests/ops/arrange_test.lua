-- arrange_test.lua: cat, stack, pad, roll, flip, repeat, axial_shift against indexing.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"

local randn, integers = helper.randn, helper.integers

-- Matrix of rows x cols from a function of 1-based positions.
local function matrix(rows, cols, fn)
  local t = {}
  for i = 1, rows do
    t[i] = {}
    for j = 1, cols do t[i][j] = fn(i, j) end
  end
  return t
end

-- ---- cat, stack ----------------------------------------------------------------------------

helper.op("cat", {
  { args = { { randn { 2, 3 }, randn({ 1, 3 }, 2) } }, ref = function(xs)
    local a, b = xs[1]:totable(), xs[2]:totable()
    return { a[1], a[2], b[1] }
  end },
  { args = { { randn { 2, 3 }, randn({ 2, 1 }, 2), randn({ 2, 2 }, 3) } }, options = { dim = 2 },
    ref = function(xs)
      local a, b, c = xs[1]:totable(), xs[2]:totable(), xs[3]:totable()
      return matrix(2, 6, function(i, j)
        return j <= 3 and a[i][j] or j == 4 and b[i][1] or c[i][j - 4]
      end)
    end },
  { args = { { randn { 2, 3, 2 }, randn({ 2, 0, 2 }, 2) } }, options = { dim = -2 },
    shape = { 2, 3, 2 } },
  { args = { { randn { 0, 3 }, randn { 0, 3 } } }, shape = { 0, 3 } },
  { args = { { randn { 3 } } }, ref = function(xs) return xs[1]:totable() end },
  { args = { { integers({ 2, 2 }, 0, 9), integers({ 1, 2 }, 0, 9) } }, shape = { 3, 2 } },
  { args = { { randn { 2, 130, 65 }, randn({ 2, 130, 190 }, 2) } }, options = { dim = 3 },
    grad = false, shape = { 2, 130, 255 } },
})
helper.error("cat", { args = { { randn { 2, 3 }, randn { 2, 4 } } } },
  "cat: tensor 2 does not fit the first: f32 cpu [2 x 4] and f32 cpu [2 x 3]")
helper.error("cat", { args = { { randn { 2, 3 }, integers({ 2, 3 }, 0, 9) } } },
  "cat: tensor 2 is i64 cpu [2 x 3] but the first is f32")
helper.error("cat", { args = { { randn { 2 }, randn { 2 } } }, options = { dim = 2 } },
  "cat: dim 2 is out of range")
helper.error("cat", { args = { { randn {} } } }, "cat: xs is a scalar")
helper.error("cat", { args = { {} } }, "at least one tensor")

helper.op("stack", {
  { args = { { randn { 2, 3 }, randn({ 2, 3 }, 2) } },
    ref = function(xs) return { xs[1]:totable(), xs[2]:totable() } end },
  { args = { { randn { 3 }, randn({ 3 }, 2) } }, options = { dim = 2 }, ref = function(xs)
    local a, b = xs[1]:totable(), xs[2]:totable()
    return matrix(3, 2, function(i, j) return j == 1 and a[i] or b[i] end)
  end },
  { args = { { randn {}, randn({}, 2), randn({}, 3) } }, options = { dim = -1 }, shape = { 3 } },
  { args = { { randn { 0, 2 }, randn { 0, 2 } } }, options = { dim = 2 }, shape = { 0, 2, 2 } },
})
helper.error("stack", { args = { { randn { 2, 3 }, randn { 3, 2 } } } },
  "stack: tensor 2 does not fit the first")

-- ---- pad -----------------------------------------------------------------------------------

-- x [rows, cols] with top, bottom, left, right.
local function padded(top, bottom, left, right, value)
  return function(x)
    local t, rows, cols = x:totable(), x.shape[1], x.shape[2]
    return matrix(rows + top + bottom, cols + left + right, function(i, j)
      local row = t[i - top]
      return i - top <= rows and row and j - left <= cols and row[j - left] or value
    end)
  end
end

helper.op("pad", {
  { args = { randn { 2, 3 } }, options = { pads = { 1, 2 } }, ref = padded(0, 0, 1, 2, 0) },
  { args = { randn { 2, 3 } }, options = { pads = { 1, 0, 2, 1 }, value = 5 },
    ref = padded(2, 1, 1, 0, 5) },
  { args = { randn { 4, 5 } }, options = { pads = { -1, -2, -3, 2 }, value = -1 },
    ref = padded(-3, 2, -1, -2, -1) },
  { args = { randn { 2, 3 } }, options = { pads = { 1, -1 }, value = 7 },
    ref = padded(0, 0, 1, -1, 7) },
  { args = { randn { 2, 3 } }, options = { pads = { 0, 0 } }, ref = padded(0, 0, 0, 0) },
  { args = { randn { 3, 4 } }, options = { pads = { -2, -2 } }, shape = { 3, 0 } },
  { args = { randn { 3, 4 } }, options = { pads = { -5, 3 } }, shape = { 3, 2 } },
  { args = { randn { 0, 3 } }, options = { pads = { 0, 0, 1, 1 }, value = 2 }, shape = { 2, 3 },
    ref = function() return { { 2, 2, 2 }, { 2, 2, 2 } } end },
  { args = { randn { 2, 3, 40, 50 } }, options = { pads = { 2, 2, 2, 2 } }, grad = false,
    shape = { 2, 3, 44, 54 } },
  { args = { integers({ 2, 2 }, 1, 9, "u8") }, options = { pads = { 1, 1 }, value = 255 },
    ref = padded(0, 0, 1, 1, 255) },
})
helper.error("pad", { args = { randn { 2, 3 } }, options = { pads = { 1 } } },
  "pad: pads has 1 numbers")
helper.error("pad", { args = { randn { 3 } }, options = { pads = { 1, 1, 1, 1 } } },
  "pad: pads has 4 numbers, but x has 1 dimensions")
helper.error("pad", { args = { randn { 2, 3 } }, options = { pads = { -2, -2 } } },
  "pad: pads -2 and -2 leave nothing of dimension 2 (x: f32 cpu [2 x 3])")

helper.error("pad", { args = { integers({ 2 }, 0, 9, "u8") },
                      options = { pads = { 1, 1 }, value = 256 } },
  "pad: value 256 does not fit u8")

-- ---- roll, flip, repeat --------------------------------------------------------------------

local function rolled(down, right)
  return function(x)
    local t, rows, cols = x:totable(), x.shape[1], x.shape[2]
    return matrix(rows, cols, function(i, j)
      return t[(i - 1 - down) % rows + 1][(j - 1 - right) % cols + 1]
    end)
  end
end

helper.op("roll", {
  { args = { randn { 4, 5 } }, options = { shifts = { 1 }, dims = { 1 } }, ref = rolled(1, 0) },
  { args = { randn { 4, 5 } }, options = { shifts = { -2, 7 }, dims = { 1, 2 } },
    ref = rolled(-2, 7) },
  { args = { randn { 4, 5 } }, options = { shifts = { 1, 2 }, dims = { 2, -1 } },
    ref = rolled(0, 3) },
  { args = { randn { 3, 0 } }, options = { shifts = { 1 }, dims = { 2 } }, shape = { 3, 0 } },
  { args = { randn { 3, 4 } }, options = { shifts = { 8 }, dims = { 2 } }, ref = rolled(0, 0) },
})
helper.error("roll", { args = { randn { 3 } }, options = { shifts = { 1, 2 }, dims = { 1 } } },
  "roll: 2 shifts for 1 dims")
helper.error("roll", { args = { randn { 3 } }, options = { shifts = { 1 }, dims = { 2 } } },
  "roll: dim 2 is out of range")

helper.op("flip", {
  { args = { randn { 3, 4 } }, options = { dims = { 2 } }, ref = function(x)
    local t = x:totable()
    return matrix(3, 4, function(i, j) return t[i][5 - j] end)
  end },
  { args = { randn { 3, 4 } }, options = { dims = { 1, -1 } }, ref = function(x)
    local t = x:totable()
    return matrix(3, 4, function(i, j) return t[4 - i][5 - j] end)
  end },
  { args = { randn { 0, 4 } }, options = { dims = { 1 } }, shape = { 0, 4 } },
})
helper.error("flip", { args = { randn { 3 } }, options = { dims = { 1, -1 } } },
  "flip: dimension 1 is named twice")

helper.op("repeat", {
  { args = { randn { 2, 3 } }, options = { times = { 2, 3 } }, ref = function(x)
    local t = x:totable()
    return matrix(4, 9, function(i, j) return t[(i - 1) % 2 + 1][(j - 1) % 3 + 1] end)
  end },
  { args = { randn { 3 } }, options = { times = { 4, 1 } }, ref = function(x)
    local t = x:totable()
    return { t, t, t, t }
  end },
  { args = { randn { 2, 3, 2 } }, options = { times = { 3, 1, 2 } }, shape = { 6, 3, 4 } },
  { args = { randn { 2 } }, options = { times = { 0 } }, shape = { 0 } },
  { args = { randn {} }, options = { times = { 2, 2 } }, shape = { 2, 2 } },
})
helper.error("repeat", { args = { randn { 2, 3 } }, options = { times = { 2 } } },
  "repeat: times has 1 numbers but x has 2 dimensions")
helper.error("repeat", { args = { randn { 2 } }, options = { times = { -1 } } },
  "times -1 is negative")

-- ---- axial_shift ---------------------------------------------------------------------------

local function shifted(dim, groups)
  return function(x)
    local n, c, h, w = table.unpack(x.shape)
    local t, chunk, out = x:totable(), (c + groups - 1) // groups, {}
    for b = 1, n do
      out[b] = {}
      for k = 1, c do
        local by = (k - 1) // chunk - groups // 2
        out[b][k] = matrix(h, w, function(i, j)
          local row = t[b][k][dim == 3 and i - by or i]
          return row and row[dim == 4 and j - by or j] or 0
        end)
      end
    end
    return out
  end
end

helper.op("axial_shift", {
  { args = { randn { 2, 10, 4, 5 } }, options = { dim = 3 }, ref = shifted(3, 5) },
  { args = { randn { 2, 10, 4, 5 } }, options = { dim = 4 }, ref = shifted(4, 5) },
  { args = { randn { 1, 11, 3, 2 } }, options = { dim = -1 }, ref = shifted(4, 5) },
  { args = { randn { 1, 7, 1, 2 } }, options = { dim = 3, groups = 7 }, ref = shifted(3, 7) },
  { args = { randn { 1, 2, 3, 3 } }, options = { dim = 4 }, ref = shifted(4, 5) },
  { args = { randn { 0, 5, 3, 3 } }, options = { dim = 4 }, shape = { 0, 5, 3, 3 } },
  { args = { randn { 2, 40, 28, 28 } }, options = { dim = 4 }, grad = false,
    ref = shifted(4, 5) },
})
helper.error("axial_shift", { args = { randn { 2, 3, 4 } }, options = { dim = 3 } },
  "axial_shift: x must have 4 dimensions")
helper.error("axial_shift", { args = { randn { 1, 3, 4, 4 } }, options = { dim = 2 } },
  "axial_shift: dim 2 is not one of the image's")
helper.error("axial_shift", { args = { randn { 1, 3, 4, 4 } }, options = { dim = 3, groups = 0 } },
  "groups must be at least 1")

TestArrange = {}

function TestArrange.test_many_tensors()
  local xs = {}
  for i = 1, 100 do xs[i] = lumen.full({ 2, 1 }, i) end
  local y = lumen.cat(xs, { dim = 2 })
  lu.assertEquals(y.shape, { 2, 100 })
  lu.assertEquals(y:totable()[2][73], 73)
end

helper.run()
