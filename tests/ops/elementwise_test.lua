-- Arithmetic, comparison, choice, functions of one variable, conversion, in-place writing:
-- each against plain Lua on every element.
local helper = require "tests.helper"
local lumen = require "lumen"
local lu = require "luaunit"

local randn, rand, values, integers = helper.randn, helper.rand, helper.values, helper.integers

-- The shape that tensors broadcast to.
local function common_shape(tensors)
  local shape, ndim = {}, 0
  for _, x in ipairs(tensors) do ndim = math.max(ndim, x.ndim) end
  for d = 1, ndim do
    shape[d] = 1
    for _, x in ipairs(tensors) do
      local size = x.shape[d - (ndim - x.ndim)] or 1
      if size ~= 1 then shape[d] = size end
    end
  end
  return shape
end

-- A reference that calls f with one number of each (broadcast) tensor.
local function each(f)
  return function(...)
    local tensors, lists, out = { ... }, {}, {}
    local shape = common_shape(tensors)
    for k, x in ipairs(tensors) do
      lists[k] = x:to("f64"):expand(shape):contiguous():reshape({ -1 }):totable()
    end
    for i = 1, #lists[1] do
      local numbers = {}
      for k = 1, #lists do numbers[k] = lists[k][i] end
      out[i] = f(table.unpack(numbers))
    end
    return lumen.tensor(out, { dtype = "f64" }):reshape(shape)
  end
end

-- ---- two operands --------------------------------------------------------------------------

-- Rows for every way in which operands meet: equal, scalar, row, column, outer, large.
local function pairs_of_shapes(make, ref, more)
  local rows = {}
  local shapes = {
    { { 3, 5 }, { 3, 5 } }, { { 3, 5 }, {} }, { {}, { 3, 5 } }, { { 3, 5 }, { 5 } },
    { { 3, 5 }, { 3, 1 } }, { { 3, 1 }, { 5 } }, { { 2, 3, 4 }, { 3, 1 } }, { {}, {} },
    { { 2, 1, 4, 1 }, { 3, 1, 5 } }, { { 1 }, { 1, 1 } }, { { 17 }, { 17 } },
  }
  for _, s in ipairs(shapes) do
    rows[#rows + 1] = { args = { make(s[1], 1), make(s[2], 2) }, ref = ref, tol = more }
  end
  rows[#rows + 1] = { args = { make({ 0, 5 }, 1), make({ 5 }, 2) }, shape = { 0, 5 } }
  rows[#rows + 1] = { args = { make({ 34, 1000 }, 1), make({ 1000 }, 2) }, ref = ref,
                      grad = false, tol = more }
  return rows
end

local function normal(shape, seed) return randn(shape, seed) end
local function positive(shape, seed) return rand(shape, 0.5, 2, seed) end
local function apart(shape, seed) -- no two operands are equal
  return helper.distinct(shape, seed == 1 and 0.3 or 0.37, seed)
end

helper.op("add", pairs_of_shapes(normal, each(function(a, b) return a + b end)))
helper.op("sub", pairs_of_shapes(normal, each(function(a, b) return a - b end)))
helper.op("mul", pairs_of_shapes(normal, each(function(a, b) return a * b end)))
helper.op("div", pairs_of_shapes(positive, each(function(a, b) return a / b end)))
helper.op("pow", pairs_of_shapes(positive, each(function(a, b) return a ^ b end)))
helper.op("pow", {
  { args = { randn { 40 }, values(2.0) }, constant = { [2] = true },
    ref = each(function(a) return a * a end) },
  { args = { randn { 5 }, values { 3.0, 1.0, 0.0, -1.0, -2.0 } }, constant = { [2] = true },
    ref = each(function(a, b) return a ^ b end) },
})
helper.op("maximum", pairs_of_shapes(apart, each(math.max)))
helper.op("minimum", pairs_of_shapes(apart, each(math.min)))

local compare = {
  lt = function(a, b) return a < b end, le = function(a, b) return a <= b end,
  gt = function(a, b) return a > b end, ge = function(a, b) return a >= b end,
  eq = function(a, b) return a == b end, ne = function(a, b) return a ~= b end,
}
local nan, inf = 0 / 0, math.huge
for _, name in ipairs { "lt", "le", "gt", "ge", "eq", "ne" } do
  local ref = each(function(a, b) return compare[name](a, b) and 1 or 0 end)
  local few = function(shape, seed) return integers(shape, 0, 2, nil, seed) end
  helper.op(name, pairs_of_shapes(few, ref))
  helper.op(name, { { args = { values { 1, nan, nan, inf, -inf }, values { nan, nan, 1, inf, 1 } },
                      ref = ref } })
end

local flags = values({ { 1, 0, 2 }, { 0, 0, 1 } }, "u8")
local choose = each(function(c, a, b) return c ~= 0 and a or b end)
helper.op("where", {
  { args = { flags, randn { 2, 3 }, randn({ 2, 3 }, 2) }, ref = choose },
  { args = { flags, randn { 2, 3 }, randn({}, 2) }, ref = choose },
  { args = { flags, randn { 3 }, randn({ 2, 1 }, 2) }, ref = choose },
  { args = { values(1, "u8"), randn { 2, 3 }, randn({ 3 }, 2) }, ref = choose },
  { args = { flags, randn { 4, 1, 3 }, values(0.0) }, ref = choose },
  { args = { values({ 1, 0 }, "u8"), values { 1, nan }, values { nan, 2 } }, ref = choose,
    grad = false },
})

helper.error("add", { args = { randn { 3, 5 }, randn { 4 } } }, "add: ")
helper.error("add", { args = { randn { 3, 5 }, integers({ 5 }, 0, 3) } },
  "add: x is f32 cpu [3 x 5] but y is i64 cpu [5]")
helper.error("div", { args = { integers({ 5 }, 0, 3), integers({ 5 }, 1, 3) } },
  "div: x must be f32, f64 or bf16")
helper.error("where", { args = { randn { 3 }, randn { 3 }, randn { 3 } } },
  "where: condition must be u8")

TestIntegers = {}

function TestIntegers:test_arithmetic()
  for _, dtype in ipairs { "i32", "i64", "u8" } do
    local x = lumen.tensor({ 7, 200, 3 }, { dtype = dtype })
    local y = lumen.tensor({ 2, 3, 250 }, { dtype = dtype })
    local wrap = dtype == "u8" and 256 or math.maxinteger
    lu.assertEquals((x + y):totable(), { 9, 203, 253 % wrap })
    lu.assertEquals((x * y):totable(), { 14, 600 % wrap, 750 % wrap })
    lu.assertEquals(lumen.maximum(x, y):totable(), { 7, 200, 250 })
    lu.assertEquals(lumen.minimum(x, y):totable(), { 2, 3, 3 })
    lu.assertEquals((x + y).dtype, dtype)
  end
  local low = lumen.tensor({ math.mininteger, -5, 0 }, { dtype = "i64" })
  lu.assertEquals((-low):totable(), { math.mininteger, 5, 0 })
  lu.assertEquals(low:abs():totable(), { math.mininteger, 5, 0 })
  lu.assertEquals(low:sign():totable(), { -1, -1, 0 })
  lu.assertEquals(low:relu():totable(), { 0, 0, 0 })
  lu.assertEquals(lumen.tensor({ 0, 200 }, { dtype = "u8" }):sign():totable(), { 0, 1 })
end

function TestIntegers:test_comparison_of_large_integers()
  local x = lumen.tensor({ 2 ^ 53 | 0, (2 ^ 53 | 0) + 1 }, { dtype = "i64" })
  local y = lumen.tensor({ (2 ^ 53 | 0) + 1, (2 ^ 53 | 0) + 1 }, { dtype = "i64" })
  lu.assertEquals(x:lt(y):totable(), { 1, 0 })
  lu.assertEquals(x:eq(y):totable(), { 0, 1 })
end

-- ---- functions of one variable -------------------------------------------------------------

-- Taylor series; enough for |x| < 5.
local function erf(x)
  local term, sum = x, x
  for n = 1, 200 do
    term = -term * x * x / n
    sum = sum + term / (2 * n + 1)
  end
  return 2 / math.sqrt(math.pi) * sum
end

local function tanh(x) return 1 - 2 / (math.exp(2 * x) + 1) end
local function sigmoid(x) return 1 / (1 + math.exp(-x)) end
local function half_even(x)
  local low = math.floor(x)
  local rest = x - low
  if rest ~= 0.5 then return rest < 0.5 and low or low + 1 end
  return low % 2 == 0 and low or low + 1
end

-- name, function, inputs: "any" numbers, "positive" ones, "kink" (kept away from 0)
local functions = {
  { "neg", function(x) return -x end, "any" },
  { "abs", math.abs, "kink" },
  { "exp", math.exp, "any" },
  { "log", math.log, "positive" },
  { "sqrt", math.sqrt, "positive" },
  { "rsqrt", function(x) return 1 / math.sqrt(x) end, "positive" },
  { "square", function(x) return x * x end, "any" },
  { "reciprocal", function(x) return 1 / x end, "positive" },
  { "sin", math.sin, "any" },
  { "cos", math.cos, "any" },
  { "tanh", tanh, "any" },
  { "sigmoid", sigmoid, "any" },
  { "relu", function(x) return math.max(x, 0) end, "kink" },
  { "gelu", function(x) return 0.5 * x * (1 + erf(x / math.sqrt(2))) end, "any" },
  { "silu", function(x) return x * sigmoid(x) end, "any" },
  { "softplus", function(x) return math.log(1 + math.exp(x)) end, "any" },
  { "erf", erf, "any" },
  { "sign", function(x) return x > 0 and 1 or x < 0 and -1 or 0 end, "kink" },
  { "floor", math.floor, "kink" },
  { "ceil", math.ceil, "kink" },
  { "round", half_even, "kink" },
  { "logical_not", function(x) return x == 0 and 1 or 0 end, "few" },
  { "isfinite", function() return 1 end, "any" },
}
local makers = {
  any = normal,
  positive = positive,
  kink = function(shape, seed) return helper.distinct(shape, 0.3, seed) end,
  few = function(shape, seed) return integers(shape, 0, 2, nil, seed) end,
}
for _, f in ipairs(functions) do
  local make, ref = makers[f[3]], each(f[2])
  helper.op(f[1], {
    { args = { make({ 3, 5 }, 1) }, ref = ref },
    { args = { make({ 2, 3, 4 }, 2) }, ref = ref },
    { args = { make({}, 1) }, ref = ref },
    { args = { make({ 1, 1 }, 3) }, ref = ref },
    { args = { make({ 0, 4 }, 1) }, shape = { 0, 4 } },
    { args = { make({ 33, 1001 }, 4) }, grad = false, bf16 = false, layouts = false },
  })
end

helper.op("clamp", {
  { args = { randn { 3, 5 } }, options = { min = -0.5, max = 0.7 },
    ref = each(function(x) return math.min(math.max(x, -0.5), 0.7) end) },
  { args = { randn { 3, 5 } }, options = { min = 0.1 },
    ref = each(function(x) return math.max(x, 0.1) end) },
  { args = { randn { 7 } }, options = { max = 0 },
    ref = each(function(x) return math.min(x, 0) end) },
  { args = { randn { 7 } }, options = { min = 2, max = 1 }, ref = each(function() return 1 end),
    grad = false },
  { args = { randn { 7 } }, ref = each(function(x) return x end) },
})
helper.error("gelu", { args = { integers({ 5 }, 0, 3) } }, "gelu: x must be f32, f64 or bf16")

-- The f32 functions have their own polynomials: here they meet f64 over their whole range.
TestAccuracy = {}

local function relative_error(name, low, high)
  local options = { dtype = "f64", low = low, high = high, rng = { seed = 5, stream = name } }
  local x = lumen.rand({ 100000 }, options):to("f32")
  local exact = lumen[name](x:to("f64"))
  return ((lumen[name](x):to("f64") - exact) / exact):abs():max():item()
end

function TestAccuracy:test_relative_error()
  local ranges = {
    { "exp", -87, 88 }, { "exp", -1, 1 }, { "log", 1e-30, 1e-20 }, { "log", 0.1, 0.99 },
    { "log", 1.01, 1e6 }, { "tanh", -10, 10 }, { "tanh", -0.7, 0.7 }, { "erf", -5, 5 },
    { "erf", -1.2, 1.2 }, { "sigmoid", -80, 80 }, { "softplus", -20, 40 },
  }
  for _, r in ipairs(ranges) do
    local e = relative_error(table.unpack(r))
    lu.assertTrue(e < 4e-7, ("%s on [%g, %g]: relative error %g"):format(r[1], r[2], r[3], e))
  end
end

function TestAccuracy:test_gelu()
  local x = lumen.rand({ 100000 }, { low = -12, high = 12, rng = { seed = 5, stream = "gelu" } })
  local y, wide = x:detach(), x:to("f64")
  y.requires_grad, wide.requires_grad = true, true
  local out, exact = y:gelu(), wide:gelu()
  lu.assertTrue((out:to("f64") - exact):abs():max():item() < 1e-6)
  out:sum():backward()
  exact:sum():backward()
  lu.assertTrue((y.grad:to("f64") - wide.grad):abs():max():item() < 1e-6)
end

function TestAccuracy:test_special_values()
  local x = lumen.tensor { nan, inf, -inf, 0.0, -1.0, 1e-40, 89.0, -110.0 }
  local expected = {
    exp = { nan, inf, 0, 1, math.exp(-1), 1, inf, 0 },
    log = { nan, inf, nan, -inf, nan, math.log(1e-40), math.log(89), nan },
    tanh = { nan, 1, -1, 0, tanh(-1), 1e-40, 1, -1 },
    sigmoid = { nan, 1, 0, 0.5, sigmoid(-1), 0.5, 1, 0 },
    erf = { nan, 1, -1, 0, erf(-1), 1e-40, 1, -1 },
    softplus = { nan, inf, 0, math.log(2), math.log(1 + math.exp(-1)), math.log(2), 89, 0 },
    relu = { nan, inf, 0, 0, 0, 1e-40, 89, 0 },
    isfinite = { 0, 0, 0, 1, 1, 1, 1, 1 },
    round = { nan, inf, -inf, 0, -1, 0, 89, -110 },
  }
  for _, name in ipairs { "exp", "log", "tanh", "sigmoid", "erf", "softplus", "relu",
                          "isfinite", "round" } do
    local got = lumen[name](x):to("f64"):totable()
    for i, want in ipairs(expected[name]) do
      local same = got[i] == want or (got[i] ~= got[i] and want ~= want)
        or math.abs(got[i] - want) < 1e-6 * math.max(math.abs(want), 1e-30)
      lu.assertTrue(same, ("%s, value %d: %g, expected %g"):format(name, i, got[i], want))
    end
  end
end

function TestAccuracy:test_nan_goes_through_extremes()
  local x, y = lumen.tensor { nan, 1.0, nan }, lumen.tensor { 1.0, nan, nan }
  for _, name in ipairs { "maximum", "minimum" } do
    for _, v in ipairs(lumen[name](x, y):totable()) do lu.assertTrue(v ~= v) end
  end
end

function TestAccuracy:test_where_stops_nan_gradients()
  local x = lumen.tensor({ -1.0, 4.0 }, { requires_grad = true })
  lumen.where(x:gt(0), x:sqrt(), lumen.tensor(0.0)):sum():backward()
  lu.assertEquals(x.grad:totable()[2], 0.25)
end

-- ---- conversion ----------------------------------------------------------------------------

helper.op("cast", {
  { args = { randn { 3, 5 } }, options = { dtype = "f64" }, ref = each(function(x) return x end),
    bf16 = false, grad = false },
  { args = { randn { 3, 5 } }, options = { dtype = "f32" }, tol = { f64 = 1e-6 },
    ref = each(function(x) return x end), grad = false },
  { args = { randn { 3, 5 } }, options = { dtype = "i64" },
    ref = each(function(x) return x < 0 and math.ceil(x) or math.floor(x) end) },
  { args = { randn { 0, 5 } }, options = { dtype = "u8" }, shape = { 0, 5 } },
})

TestCast = {}

function TestCast:test_saturation()
  local x = lumen.tensor({ -3.7, 300.0, nan, inf, -inf, 255.9, 1e30 }, { dtype = "f64" })
  lu.assertEquals(x:to("u8"):totable(), { 0, 255, 0, 255, 0, 255, 255 })
  lu.assertEquals(x:to("i32"):totable(),
    { -3, 300, 0, 2147483647, -2147483648, 255, 2147483647 })
  lu.assertEquals(x:to("i64"):totable(),
    { -3, 300, 0, math.maxinteger, math.mininteger, 255, math.maxinteger })
  lu.assertEquals(lumen.tensor({ 257, -1 }, { dtype = "i64" }):to("u8"):totable(), { 1, 255 })
end

function TestCast:test_bf16_rounds_to_even()
  local x = lumen.tensor { 1 + 2 ^ -8, 1 + 3 * 2 ^ -8, 1 + 2 ^ -8 + 2 ^ -20, -0.0 }
  lu.assertEquals(x:to("bf16"):to("f32"):totable(), { 1, 1 + 2 ^ -6, 1 + 2 ^ -7, -0.0 })
end

function TestCast:test_same_dtype_is_a_view()
  local x = lumen.zeros { 3 }
  x:to("f32"):fill_(2)
  lu.assertEquals(x:totable(), { 2, 2, 2 })
end

function TestCast:test_gradient_crosses_precisions()
  local x = lumen.tensor({ 1.5, 2.5 }, { requires_grad = true })
  local y = x:to("f64") * 3
  y:sum():backward()
  lu.assertEquals(x.grad.dtype, "f32")
  lu.assertEquals(x.grad:totable(), { 3, 3 })
  lu.assertFalse(x:to("i64").requires_grad)
end

-- ---- in place ------------------------------------------------------------------------------

helper.op("fill_", {
  { args = { randn { 3, 5 } }, options = { value = -2.5 }, ref = each(function() return -2.5 end) },
  { args = { randn {} }, options = { value = 7 }, ref = each(function() return 7 end) },
  { args = { randn { 0 } }, options = { value = 7 }, shape = { 0 } },
})
local second = each(function(_, y) return y end)
helper.op("copy_", {
  { args = { randn { 3, 5 }, randn({ 3, 5 }, 2) }, ref = second },
  { args = { randn { 3, 5 }, randn({ 3, 1 }, 2) }, ref = second },
  { args = { randn { 3, 5 }, randn({}, 2) }, ref = second },
  { args = { randn { 3, 5 }, integers({ 5 }, 0, 9) }, ref = second },
})
helper.op("add_", {
  { args = { randn { 3, 5 }, randn({ 3, 5 }, 2) }, ref = each(function(x, y) return x + y end) },
  { args = { randn { 3, 5 }, randn({ 3, 1 }, 2) }, options = { scale = -0.5 },
    ref = each(function(x, y) return x - 0.5 * y end) },
})
helper.op("mul_", {
  { args = { randn { 3, 5 }, randn({ 3, 5 }, 2) }, ref = each(function(x, y) return x * y end) },
  { args = { randn { 2, 3, 5 }, randn({ 3, 1 }, 2) }, ref = each(function(x, y) return x * y end) },
})
helper.error("add_", { args = { randn { 5 }, randn { 3, 5 } } },
  "add_: y has shape [3 x 5], which does not broadcast to x: f32 cpu [5]")
helper.error("copy_", { args = { randn { 4 }, randn { 5 } } }, "copy_: y has shape [5]")

TestInPlace = {}

function TestInPlace:test_views_write_through()
  local x = lumen.zeros { 3, 4 }
  x:transpose():slice(1, 2, 3):fill_(1)
  x:transpose():select(1, 4):add_(lumen.tensor { 1.0, 2.0, 3.0 })
  x:slice(2, 1, 4, 2):mul_(lumen.tensor(5.0))
  lu.assertEquals(x:totable(), { { 0, 1, 5, 1 }, { 0, 1, 5, 2 }, { 0, 1, 5, 3 } })
  x:transpose():copy_(lumen.tensor { { 1 }, { 2 }, { 3 }, { 4 } })
  lu.assertEquals(x:totable()[2], { 1, 2, 3, 4 })
end

function TestInPlace:test_every_dtype()
  for _, dtype in ipairs { "f32", "f64", "bf16", "i32", "i64", "u8" } do
    local x = lumen.tensor({ { 1, 2 }, { 3, 4 } }, { dtype = dtype })
    x:transpose():add_(lumen.tensor({ 10, 20 }, { dtype = dtype }), 2)
    x:mul_(lumen.tensor({ 1, 2 }, { dtype = dtype }))
    lu.assertEquals(x:to("f64"):totable(), { { 21, 44 }, { 43, 88 } })
    x:fill_(3)
    lu.assertEquals(x:to("f64"):totable(), { { 3, 3 }, { 3, 3 } })
  end
end

function TestInPlace:test_refusals()
  local wide = lumen.zeros({ 3, 1 }):expand { 3, 4 }
  lu.assertErrorMsgContains("x is expanded", function() wide:fill_(1) end)
  local whole = lumen.tensor({ 1, 2 }, { dtype = "i64" })
  lu.assertErrorMsgContains("scale must be a whole number",
    function() whole:add_(whole:detach(), 0.5) end)
  local leaf = lumen.zeros({ 2 }, { requires_grad = true })
  lu.assertErrorMsgContains("requires a gradient", function() leaf:fill_(1) end)
end

-- Rows are shared out between threads in pieces: a large array equals its small parts.
function TestInPlace:test_large_equals_parts()
  local x, y = lumen.randn { 41, 2003 }, lumen.randn { 41, 1 }
  local whole = x * y
  for _, i in ipairs { 1, 20, 41 } do
    helper.assert_equal(whole:select(1, i), x:select(1, i):contiguous() * y:select(1, i))
  end
  local long = x:reshape { -1 }
  helper.assert_equal(long:exp():slice(1, 82100, 82123), long:slice(1, 82100, 82123):exp())
end

helper.run()
