-- Reductions against plain Lua over lists of what falls together.
local helper = require "tests.helper"
local lumen = require "lumen"
local lu = require "luaunit"

local randn, values, integers, distinct = helper.randn, helper.values, helper.integers,
  helper.distinct

-- The lists of elements that fall together, in the order of the result, and its shapes.
local function groups(x, dims)
  local reduced, kept_shape, keep_shape = {}, {}, {}
  for _, d in ipairs(type(dims) == "table" and dims or { dims }) do
    reduced[d < 0 and d + x.ndim + 1 or d] = true
  end
  for d = 1, x.ndim do
    if dims == nil then reduced[d] = true end
    if not reduced[d] then kept_shape[#kept_shape + 1] = x.shape[d] end
    keep_shape[d] = reduced[d] and 1 or x.shape[d]
  end
  local flat = x:to("f64"):contiguous():reshape({ -1 }):totable()
  local lists, count = {}, 1
  for _, s in ipairs(kept_shape) do count = count * s end
  for k = 1, count do lists[k] = {} end
  for i, v in ipairs(flat) do
    local rest, key, scale = i - 1, 0, 1
    for d = x.ndim, 1, -1 do
      local index = rest % x.shape[d]
      rest = rest // x.shape[d]
      if not reduced[d] then
        key = key + index * scale
        scale = scale * x.shape[d]
      end
    end
    table.insert(lists[key + 1], v)
  end
  return lists, kept_shape, keep_shape
end

local function reference(f, options)
  return function(x)
    local lists, shape, keep_shape = groups(x, options and (options.dims or options.dim))
    local out = {}
    for k, list in ipairs(lists) do out[k] = f(list) end
    if options and options.keepdim then shape = keep_shape end
    return lumen.tensor(out, { dtype = "f64" }):reshape(shape)
  end
end

local function sum(list)
  local s = 0
  for _, v in ipairs(list) do s = s + v end
  return s
end

local function mean(list) return sum(list) / #list end

local function variance(ddof)
  return function(list)
    local m, s = mean(list), 0
    for _, v in ipairs(list) do s = s + (v - m) ^ 2 end
    return s / (#list - ddof)
  end
end

local function root(f) return function(list) return math.sqrt(f(list)) end end

local function product(list)
  local p = 1
  for _, v in ipairs(list) do p = p * v end
  return p
end

-- Every kind of layout that the kernels tell apart: all, inner, outer, middle, both ends.
local function layouts(make, f, unbiased)
  local cases = {
    { { 3, 5 } }, { {} }, { { 1 } }, { { 7 }, { dims = 1 } },
    { { 3, 5 }, { dims = 1 } }, { { 3, 5 }, { dims = 2 } },
    { { 3, 5 }, { dims = -1, keepdim = true } },
    { { 2, 3, 4 }, { dims = 2 } }, { { 2, 3, 4 }, { dims = { 1, 3 } } },
    { { 2, 3, 4 }, { dims = { 2, 3 }, keepdim = true } }, { { 2, 3, 2, 3 }, { dims = { 1, 3 } } },
    { { 2, 3, 2, 3 }, { dims = { 2, -1 } } }, { { 2, 1, 3 }, { dims = 2 } },
    { { 3, 5 }, { keepdim = true } },
    { { 34, 1000 }, nil, true }, { { 34, 1000 }, { dims = 1 }, true },
    { { 34, 1000 }, { dims = 2 }, true }, { { 38, 3, 300 }, { dims = { 1, 3 } }, true },
    { { 12000, 3 }, { dims = 1 }, true }, { { 3, 12000 }, { dims = 2 }, true },
    { { 40, 30, 30 }, { dims = 2 }, true },
  }
  local rows = {}
  for i, c in ipairs(cases) do
    local options = c[2]
    if unbiased ~= nil then
      options = options or {}
      options.unbiased = unbiased
    end
    rows[i] = { args = { make(c[1], i) }, options = options, ref = reference(f, c[2]) }
    if c[3] then rows[i].bf16, rows[i].grad = false, false end
  end
  return rows
end

local function normal(shape, seed) return randn(shape, seed) end
local function near_one(shape, seed) return helper.rand(shape, 0.99, 1.0101, seed) end
local function apart(shape, seed) return distinct(shape, 0.25, seed) end

helper.op("sum", layouts(normal, sum))
helper.op("sum", {
  { args = { randn { 0, 5 } }, options = { dims = 1 },
    ref = function() return { 0, 0, 0, 0, 0 } end },
  { args = { randn { 0, 5 } }, options = { dims = 2 }, shape = { 0 } },
  { args = { randn { 0 } }, ref = function() return 0 end },
})
helper.op("mean", layouts(normal, mean))
helper.op("prod", layouts(near_one, product))
helper.op("prod", {
  { args = { values { { 2, 0, 3 }, { 1, 4, 5 }, { 0, 2, 0 } } }, options = { dims = 2 },
    ref = function() return { 0, 20, 0 } end },
})
helper.op("max", layouts(apart, function(list) return math.max(table.unpack(list)) end))
helper.op("min", layouts(apart, function(list) return math.min(table.unpack(list)) end))

-- Two or more elements everywhere.
local function spread_layouts(f, unbiased)
  local rows = {}
  for _, row in ipairs(layouts(normal, f, unbiased)) do
    local lists = groups(row.args[1].make("f64"), row.options and row.options.dims)
    if #lists[1] > 1 then rows[#rows + 1] = row end
  end
  return rows
end
helper.op("var", spread_layouts(variance(1)))
helper.op("var", spread_layouts(variance(0), false))
helper.op("std", spread_layouts(root(variance(1))))
helper.op("std", spread_layouts(root(variance(0)), false))

local function position(better)
  return function(list)
    local at = 1
    for i, v in ipairs(list) do
      if better(v, list[at]) then at = i end
    end
    return at - 1
  end
end
local largest = position(function(a, b) return a > b end)
local smallest = position(function(a, b) return a < b end)
for _, op in ipairs { { "argmax", largest }, { "argmin", smallest } } do
  local rows = {}
  for _, c in ipairs { { { 3, 5 }, 1 }, { { 3, 5 }, 2 }, { { 2, 3, 4 }, 2 }, { { 7 }, -1 },
                       { { 1, 4 }, 1 }, { { 40, 50, 30 }, 2 } } do
    rows[#rows + 1] = { args = { apart(c[1], 3) }, options = { dim = c[2] },
                        ref = reference(op[2], { dims = c[2] }) }
    rows[#rows + 1] = { args = { integers(c[1], 0, 3) }, options = { dim = c[2], keepdim = true },
                        ref = reference(op[2], { dims = c[2], keepdim = true }) }
  end
  rows[#rows + 1] = { args = { randn {} }, ref = function() return 0 end }
  rows[#rows + 1] = { args = { randn { 0, 3 } }, shape = { 0 } }
  helper.op(op[1], rows)
  helper.error(op[1], { args = { randn { 3, 0 } } }, op[1] .. ": nothing to choose from")
end

local function running(dim)
  return function(x)
    local parts, total = {}, nil
    for i = 1, x.shape[dim] do
      local part = x:select(dim, i)
      total = total and total + part or part
      parts[i] = total
    end
    return lumen.stack(parts, { dim = dim })
  end
end
helper.op("cumsum", {
  { args = { randn { 6 } }, options = { dim = 1 }, ref = running(1) },
  { args = { randn { 3, 5 } }, options = { dim = 1 }, ref = running(1) },
  { args = { randn { 3, 5 } }, options = { dim = 2 }, ref = running(2) },
  { args = { randn { 2, 3, 4 } }, options = { dim = 2 }, ref = running(2) },
  { args = { randn { 300, 200 } }, options = { dim = 1 }, ref = running(1), grad = false,
    bf16 = false, tol = { f32 = 3e-5 } },
  { args = { randn { 0, 4 } }, options = { dim = 1 }, shape = { 0, 4 } },
})

helper.error("sum", { args = { randn { 3, 5 } }, options = { dims = 3 } },
  "sum: dim 3 is out of range")
helper.error("sum", { args = { randn { 3, 5 } }, options = { dims = { 1, -2 } } },
  "sum: dim 1 is given twice")
helper.error("mean", { args = { integers({ 3 }, 0, 5) } }, "mean: x must be f32, f64 or bf16")
helper.error("max", { args = { randn { 0 } } }, "max: nothing to choose from")

TestReduce = {}

function TestReduce:test_integers_sum_to_i64()
  local x = lumen.full({ 1000 }, 255, { dtype = "u8" })
  lu.assertEquals(x:sum().dtype, "i64")
  lu.assertEquals(x:sum():item(), 255000)
  lu.assertEquals(x:max():item(), 255)
  lu.assertEquals(x:max().dtype, "u8")
  local big = lumen.tensor({ math.mininteger, 3, math.maxinteger }, { dtype = "i64" })
  lu.assertEquals(big:max():item(), math.maxinteger)
  lu.assertEquals(big:min():item(), math.mininteger)
  lu.assertEquals(big:cumsum(1):totable(), { math.mininteger, math.mininteger + 3, 2 })
end

function TestReduce:test_nan_shows()
  local nan = 0 / 0
  local x = lumen.tensor { { 1, nan, 3 }, { 4, 5, 6 } }
  for _, name in ipairs { "max", "min", "sum", "mean", "prod", "std" } do
    local v = lumen[name](x, { dims = 2 }):totable()
    lu.assertTrue(v[1] ~= v[1], name)
    lu.assertTrue(v[2] == v[2], name)
    lu.assertTrue(lumen[name](x):item() ~= lumen[name](x):item(), name)
    local columns = lumen[name](x, { dims = 1 }):totable()
    lu.assertTrue(columns[2] ~= columns[2] and columns[1] == columns[1], name)
  end
  lu.assertEquals(x:argmax(2):totable(), { 1, 2 })
  lu.assertEquals(x:argmin(2):totable(), { 1, 0 })
end

function TestReduce:test_nothing()
  local none = lumen.zeros { 0 }
  lu.assertEquals(none:sum():item(), 0)
  lu.assertEquals(none:prod():item(), 1)
  lu.assertTrue(none:mean():item() ~= none:mean():item())
  local one = lumen.tensor { 3.0 }:var():item()
  lu.assertTrue(one ~= one)
  lu.assertEquals(lumen.tensor { 3.0 }:var({ unbiased = false }):item(), 0)
end

function TestReduce:test_ties_share_the_gradient()
  local x = lumen.tensor({ { 2, 5, 5 }, { 7, 1, 7 } }, { requires_grad = true, dtype = "f32" })
  x:max(2):sum():backward()
  lu.assertEquals(x.grad:totable(), { { 0, 0.5, 0.5 }, { 0.5, 0, 0.5 } })
end

-- Sums of many f32 numbers keep their digits.
function TestReduce:test_long_sums_are_exact()
  local x = lumen.full({ 3000000 }, 0.1)
  local tenth = x:slice(1, 1, 1):to("f64"):item()
  lu.assertAlmostEquals(x:sum():item(), 3000000 * tenth, 0.02)
  lu.assertAlmostEquals(x:mean():item(), 0.1, 1e-8)
  local far = lumen.randn { 100000 } + 10000
  lu.assertAlmostEquals(far:std():item(), 1, 0.02)
end

-- Gradients of broadcast operands come back in the operand's shape.
function TestReduce:test_sum_to_through_broadcasting()
  local x = lumen.ones({ 3, 1 }, { requires_grad = true })
  local y = lumen.ones({ 4, 1, 5 }, { requires_grad = true })
  local z = x * y
  z:sum():backward()
  lu.assertEquals(x.grad:totable(), { { 20 }, { 20 }, { 20 } })
  lu.assertEquals(y.grad.shape, { 4, 1, 5 })
  lu.assertEquals(y.grad:max():item(), 3)
end

helper.run()
