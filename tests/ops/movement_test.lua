-- movement_test.lua: views, and the operations that copy where no view exists.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"

local randn, integers = helper.randn, helper.integers

-- Nested tables of any depth, by a function of 1-based positions.
local function build(shape, fn, at, depth)
  at, depth = at or {}, depth or 1
  if depth > #shape then return fn(at) end
  local t = {}
  for i = 1, shape[depth] do
    at[depth] = i
    t[i] = build(shape, fn, at, depth + 1)
  end
  return t
end

local function pick(t, ...)
  for _, i in ipairs { ... } do t = t[i] end
  return t
end

-- ---- reshape, flatten, contiguous ----------------------------------------------------------

local function flat_list(t, out)
  out = out or {}
  if type(t) ~= "table" then out[#out + 1] = t
  else for _, v in ipairs(t) do flat_list(v, out) end end
  return out
end

local function reshaped(shape)
  return function(x)
    local values, n = flat_list(x:totable()), 0
    return build(shape, function()
      n = n + 1
      return values[n]
    end)
  end
end

helper.op("reshape", {
  { args = { randn { 2, 3, 4 } }, options = { shape = { 4, 6 } }, ref = reshaped { 4, 6 } },
  { args = { randn { 2, 3, 4 } }, options = { shape = { 3, -1 } }, ref = reshaped { 3, 8 } },
  { args = { randn { 1 } }, options = { shape = {} }, shape = {} },
  { args = { randn {} }, options = { shape = { 1, 1 } }, shape = { 1, 1 } },
  { args = { randn { 0, 3 } }, options = { shape = { 3, 0, 2 } }, shape = { 3, 0, 2 } },
  { args = { randn { 2, 0 } }, options = { shape = { 2, -1 } }, shape = { 2, 0 } },
  { args = { integers({ 6 }, 0, 9) }, options = { shape = { 2, 3 } }, shape = { 2, 3 } },
  { args = { randn { 64, 33, 32 } }, options = { shape = { 33, -1 } }, grad = false,
    shape = { 33, 2048 } },
})
helper.error("reshape", { args = { randn { 2, 3 } }, options = { shape = { 4, 2 } } },
  "reshape: x has 6 elements, which do not fit shape [4 x 2] (x: f32 cpu [2 x 3])")
helper.error("reshape", { args = { randn { 6 } }, options = { shape = { -1, -1 } } },
  "more than one -1")
helper.error("reshape", { args = { randn { 6 } }, options = { shape = { -2, 3 } } },
  "negative size")
helper.error("reshape", { args = { randn { 6 } }, options = { shape = { 4, -1 } } },
  "do not fit shape [4 x -1]")
helper.error("reshape", { args = { randn { 6 } }, options = { shape = { 1 << 40, 1 << 40 } } },
  "too large")
helper.error("reshape", { args = { randn { 0 } }, options = { shape = { 0, -1 } } },
  "do not fit")
helper.error("reshape", { args = { randn { 1 } }, options = { shape = { 1, 1, 1, 1, 1, 1, 1 } } },
  "at most 6 dimensions")

helper.op("flatten", {
  { args = { randn { 2, 3, 4 } }, ref = reshaped { 24 } },
  { args = { randn { 2, 3, 4 } }, options = { first = 2 }, ref = reshaped { 2, 12 } },
  { args = { randn { 2, 3, 4 } }, options = { first = 1, last = -2 }, ref = reshaped { 6, 4 } },
  { args = { randn {} }, shape = { 1 } },
  { args = { randn { 2, 0, 3 } }, options = { first = 2 }, shape = { 2, 0 } },
})
helper.error("flatten", { args = { randn { 2, 3 } }, options = { first = 2, last = 1 } },
  "flatten: first dimension 2 comes after last 1")
helper.error("flatten", { args = { randn { 2, 3 } }, options = { first = 3 } }, "out of range")

helper.op("contiguous", {
  { args = { randn { 3, 5 } }, ref = function(x) return x:totable() end },
  { args = { randn { 3, 4, 5, 2 } }, ref = function(x) return x:totable() end },
  { args = { randn {} }, shape = {} },
  { args = { randn { 0, 2 } }, shape = { 0, 2 } },
  { args = { integers({ 3, 4 }, 0, 255, "u8") }, shape = { 3, 4 } },
  { args = { randn { 70, 31, 33 } }, grad = false },
})

helper.op("detach", { { args = { randn { 2, 3 } }, ref = function(x) return x:totable() end } })

-- ---- permute, transpose, expand ------------------------------------------------------------

helper.op("permute", {
  { args = { randn { 2, 3, 4 } }, options = { dims = { 3, 1, 2 } }, ref = function(x)
    local t = x:totable()
    return build({ 4, 2, 3 }, function(p) return t[p[2]][p[3]][p[1]] end)
  end },
  { args = { randn { 2, 3, 4 } }, options = { dims = { -1, 2, -3 } }, ref = function(x)
    local t = x:totable()
    return build({ 4, 3, 2 }, function(p) return t[p[3]][p[2]][p[1]] end)
  end },
  { args = { randn { 2, 0, 4 } }, options = { dims = { 2, 3, 1 } }, shape = { 0, 4, 2 } },
  { args = { randn { 40, 41, 43 } }, options = { dims = { 2, 3, 1 } }, grad = false },
})
helper.error("permute", { args = { randn { 2, 3 } }, options = { dims = { 1, 1 } } },
  "permute: dimension 1 is named twice")
helper.error("permute", { args = { randn { 2, 3 } }, options = { dims = { 1 } } },
  "dims has 1 numbers but x has 2 dimensions")
helper.error("permute", { args = { randn { 2, 3 } }, options = { dims = { 1, 3 } } },
  "permute: dim 3 is out of range")

helper.op("transpose", {
  { args = { randn { 2, 3, 4 } }, ref = function(x)
    local t = x:totable()
    return build({ 2, 4, 3 }, function(p) return t[p[1]][p[3]][p[2]] end)
  end },
  { args = { randn { 2, 3, 4 } }, options = { dim1 = 1, dim2 = 3 }, ref = function(x)
    local t = x:totable()
    return build({ 4, 3, 2 }, function(p) return t[p[3]][p[2]][p[1]] end)
  end },
  { args = { randn { 1, 0 } }, shape = { 0, 1 } },
})
helper.error("transpose", { args = { randn { 3 } } }, "transpose: x needs two dimensions")

helper.op("expand", {
  { args = { randn { 3, 1 } }, options = { shape = { 2, 3, 4 } }, ref = function(x)
    local t = x:totable()
    return build({ 2, 3, 4 }, function(p) return t[p[2]][1] end)
  end },
  { args = { randn { 1, 3 } }, options = { shape = { 4, -1 } }, ref = function(x)
    local t = x:totable()
    return build({ 4, 3 }, function(p) return t[1][p[2]] end)
  end },
  { args = { randn {} }, options = { shape = { 2, 2 } }, shape = { 2, 2 } },
  { args = { randn { 1, 3 } }, options = { shape = { 0, 3 } }, shape = { 0, 3 } },
})
helper.error("expand", { args = { randn { 2, 3 } }, options = { shape = { 4, 3 } } },
  "expand: x cannot be expanded to [4 x 3] (x: f32 cpu [2 x 3])")
helper.error("expand", { args = { randn { 2, 3 } }, options = { shape = { 3 } } },
  "cannot be expanded")
helper.error("expand", { args = { randn { 3 } }, options = { shape = { -1, 3 } } },
  "cannot be expanded")

helper.op("squeeze", {
  { args = { randn { 1, 3, 1 } }, shape = { 3 } },
  { args = { randn { 1, 3, 1 } }, options = { dims = { 3 } }, shape = { 1, 3 } },
  { args = { randn { 1, 3, 1 } }, options = { dims = { 1, -1 } }, shape = { 3 } },
  { args = { randn { 2, 1 } }, options = { dims = { 1 } }, shape = { 2, 1 } },
  { args = { randn { 1, 1 } }, shape = {} },
})
helper.op("unsqueeze", {
  { args = { randn { 2, 3 } }, options = { dim = 1 }, shape = { 1, 2, 3 } },
  { args = { randn { 2, 3 } }, options = { dim = 2 }, shape = { 2, 1, 3 } },
  { args = { randn { 2, 3 } }, options = { dim = -1 }, shape = { 2, 3, 1 } },
  { args = { randn {} }, options = { dim = 1 }, shape = { 1 } },
})
helper.error("unsqueeze", { args = { randn { 2 } }, options = { dim = 4 } }, "unsqueeze: dim 4")

-- ---- slice, select -------------------------------------------------------------------------

helper.op("slice", {
  { args = { randn { 5, 3 } }, options = { dim = 1, first = 2, last = 4 }, ref = function(x)
    local t = x:totable()
    return { t[2], t[3], t[4] }
  end },
  { args = { randn { 3, 6 } }, options = { dim = 2, first = 1, last = -1, step = 2 },
    ref = function(x)
      local t = x:totable()
      return build({ 3, 3 }, function(p) return t[p[1]][2 * p[2] - 1] end)
    end },
  { args = { randn { 3, 6 } }, options = { dim = -1, first = -2, last = -1 }, ref = function(x)
    local t = x:totable()
    return build({ 3, 2 }, function(p) return t[p[1]][4 + p[2]] end)
  end },
  { args = { randn { 3, 6 } }, options = { dim = 1, first = 3, last = 2 }, shape = { 0, 6 } },
  { args = { randn { 3, 7, 2 } }, options = { dim = 2, first = 2, last = 7, step = 3 },
    shape = { 3, 2, 2 } },
})
helper.error("slice", { args = { randn { 3, 6 } }, options = { dim = 2, first = 2, last = 7 } },
  "slice: 2 to 7 is no range in dimension 2 of x (x: f32 cpu [3 x 6])")
helper.error("slice", { args = { randn { 3 } }, options = { dim = 1, first = 3, last = 1 } },
  "3 to 1 is no range")
helper.error("slice", { args = { randn { 3 } },
                        options = { dim = 1, first = 1, last = 3, step = 0 } },
  "step must be at least 1")
helper.error("slice", { args = { randn {} }, options = { dim = 1, first = 1, last = 1 } },
  "slice: x is a scalar")

helper.op("select", {
  { args = { randn { 4, 3 } }, options = { dim = 1, index = 2 },
    ref = function(x) return x:totable()[2] end },
  { args = { randn { 2, 3, 4 } }, options = { dim = 2, index = -1 }, ref = function(x)
    local t = x:totable()
    return build({ 2, 4 }, function(p) return pick(t, p[1], 3, p[2]) end)
  end },
  { args = { randn { 3 } }, options = { dim = 1, index = 1 }, shape = {} },
})
helper.error("select", { args = { randn { 4, 3 } }, options = { dim = 2, index = 4 } },
  "select: index 4 is out of range for dimension 2 of x (x: f32 cpu [4 x 3])")
helper.error("select", { args = { randn { 4, 3 } }, options = { dim = 1, index = -5 } },
  "select: index -5 is out of range")

-- ---- what is a view ------------------------------------------------------------------------

TestViews = {}

function TestViews.test_writes_show_through()
  local x = lumen.zeros { 4, 6 }
  local views = {
    x:reshape(2, 12), x:permute { 2, 1 }, x:transpose(), x:expand { 2, 4, 6 }, x:unsqueeze(2),
    x:slice(2, 1, 6, 2), x:select(1, 1), x:flatten(), x:contiguous(), x:detach(),
    x:slice(2, 3, 5):reshape { 2, 2, 3 },
    x:transpose():reshape { 2, 3, 4 },
  }
  x:fill_(3)
  for i, v in ipairs(views) do
    lu.assertEquals(v:contiguous():flatten():totable()[1], 3, "view " .. i)
  end
end

function TestViews.test_copies_do_not()
  local x = lumen.zeros { 4, 6 }
  local copies = { x:transpose():reshape { 24 }, x:transpose():contiguous(),
                   x:slice(2, 1, 3):flatten() }
  x:fill_(3)
  for i, v in ipairs(copies) do lu.assertEquals(v:flatten():totable()[1], 0, "copy " .. i) end
end

function TestViews.test_every_size_of_element()
  for _, dtype in ipairs { "u8", "i32", "i64", "bf16", "f32", "f64" } do
    local x = lumen.arange(60):to(dtype):reshape { 3, 4, 5 }
    local t = x:permute { 3, 1, 2 }:contiguous():totable()
    lu.assertEquals(t[2][3][4], 2 * 20 + 3 * 5 + 1, dtype)
  end
end

function TestViews.test_odd_permutations_against_indexing()
  local x = lumen.arange(17 * 19 * 23):reshape { 17, 19, 23 }
  for _, p in ipairs { { 1, 3, 2 }, { 2, 1, 3 }, { 3, 2, 1 }, { 3, 1, 2 }, { 2, 3, 1 } } do
    local y, shape = x:permute(p), { 17, 19, 23 }
    local t = y:contiguous():totable()
    for _, at in ipairs { { 1, 1, 1 }, { 17, 19, 23 }, { 16, 3, 20 }, { 9, 17, 16 } } do
      local v = ((at[1] - 1) * 19 + at[2] - 1) * 23 + at[3] - 1
      lu.assertEquals(t[at[p[1]]][at[p[2]]][at[p[3]]], v)
    end
    lu.assertEquals(y.shape, { shape[p[1]], shape[p[2]], shape[p[3]] })
  end
end

function TestViews.test_detach_stops_gradients()
  local x = lumen.ones { 3 }
  x.requires_grad = true
  lu.assertFalse(x:detach().requires_grad)
  local y = (x * x:detach()):sum()
  y:backward()
  lu.assertEquals(x.grad:totable(), { 1, 1, 1 })
end

helper.run()
