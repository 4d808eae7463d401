-- Random filling, dropout and drop_path: distributions, repeatability, gradients.
local helper = require "tests.helper"
local lumen = require "lumen"
local lu = require "luaunit"

local randn = helper.randn

local function samples()
  return {
    { args = { randn { 3, 5 } }, shape = { 3, 5 } },
    { args = { randn {} }, shape = {} },
    { args = { randn { 0, 4 } }, shape = { 0, 4 } },
  }
end
helper.op("uniform_", samples())
helper.op("normal_", samples())
helper.op("trunc_normal_", samples())
local masks = {
  { args = { randn { 3, 5 } }, options = { p = 0.5 }, shape = { 3, 5 }, grad = false },
  { args = { randn { 0, 4 } }, options = { p = 0.5 }, shape = { 0, 4 } } }
helper.op("dropout", masks)
helper.op("drop_path", masks)

helper.error("uniform_", { args = { randn { 3 } }, options = { low = 2, high = 1 } },
  "uniform_: low must not be above high")
helper.error("normal_", { args = { randn { 3 } }, options = { std = -1 } },
  "normal_: std must not be negative")
helper.error("trunc_normal_", { args = { randn { 3 } }, options = { low = 20, high = 21 } },
  "trunc_normal_: the bounds [20, 21] are more than 8 std away")
helper.error("dropout", { args = { randn { 3 } }, options = { p = 1.5 } },
  "dropout: p must be between 0 and 1")
helper.error("drop_path", { args = { randn {} }, options = { p = 0.5 } },
  "drop_path: x needs a dimension of samples")

-- Mean, standard deviation, smallest, largest.
local function statistics(x)
  x = x:to("f64")
  return x:mean():item(), x:std():item(), x:min():item(), x:max():item()
end

local function assert_near(value, expected, margin, what)
  lu.assertTrue(math.abs(value - expected) <= margin,
    ("%s is %g, expected %g +- %g"):format(what, value, expected, margin))
end

TestDistributions = {}

function TestDistributions:setUp() lumen.seed(11) end

function TestDistributions:test_uniform()
  for _, dtype in ipairs { "f32", "f64" } do
    local x = lumen.zeros({ 200000 }, { dtype = dtype }):uniform_(-1, 3)
    local mean, std, low, high = statistics(x)
    assert_near(mean, 1, 0.015, "mean")
    assert_near(std, 4 / math.sqrt(12), 0.01, "std")
    lu.assertTrue(low >= -1 and low < -0.999 and high < 3 and high > 2.999)
  end
end

function TestDistributions:test_normal()
  for _, dtype in ipairs { "f32", "f64" } do
    local x = lumen.zeros({ 200000 }, { dtype = dtype }):normal_(2, 0.5)
    local mean, std, low, high = statistics(x)
    assert_near(mean, 2, 0.006, "mean")
    assert_near(std, 0.5, 0.004, "std")
    local z = (x - 2) / 0.5
    assert_near(z:lt(-1):to("f32"):mean():item(), 0.158655, 0.004, "share below -1")
    assert_near(z:gt(2):to("f32"):mean():item(), 0.022750, 0.0015, "share above 2")
    lu.assertTrue(low < 0.2 and high > 3.8)
    local half = z:slice(1, 1, 199999) * z:slice(1, 2, 200000)
    assert_near(half:mean():item(), 0, 0.012, "correlation of neighbours")
  end
end

function TestDistributions:test_trunc_normal()
  for _, dtype in ipairs { "f32", "f64" } do
    local x = lumen.zeros({ 200000 }, { dtype = dtype }):trunc_normal_()
    local mean, std, low, high = statistics(x)
    assert_near(mean, 0, 0.009, "mean")
    assert_near(std, 0.87963, 0.005, "std")
    lu.assertTrue(low >= -2 and low < -1.99 and high <= 2 and high > 1.99)
    assert_near(x:lt(-1):to("f32"):mean():item(), (0.158655 - 0.02275) / 0.9545, 0.004, "share")
    _, std = statistics(x:trunc_normal_(0, 0.02))
    assert_near(std, 0.02, 0.0002, "std without truncation")
    mean, _, low, high = statistics(x:trunc_normal_(0, 1, 3, 10)) -- far in one tail
    assert_near(mean, 3.283099, 0.004, "mean of the tail")
    lu.assertTrue(low >= 3 and high > 4)
    mean = statistics(x:trunc_normal_(0, 1, -10, -3))
    assert_near(mean, -3.283099, 0.004, "mean of the other tail")
  end
end

TestRepeatability = {}

function TestRepeatability:test_same_seed_same_numbers()
  for _, name in ipairs { "uniform_", "normal_", "trunc_normal_" } do
    local function two()
      lumen.seed(5)
      local a = lumen[name](lumen.zeros { 5000 })
      return a, lumen[name](lumen.zeros { 5000 })
    end
    local a, b = two()
    local c, d = two()
    helper.assert_equal(a, c, name)
    helper.assert_equal(b, d, name)
    lu.assertEquals(a:eq(b):to("f32"):sum():item() < 5, true, name .. ": calls differ")
  end
end

-- Number i depends on i, not on the size: threads and sizes change nothing.
function TestRepeatability:test_a_prefix_is_the_same()
  for _, name in ipairs { "uniform_", "normal_", "trunc_normal_" } do
    for _, dtype in ipairs { "f32", "f64" } do
      local function make(n)
        lumen.seed(5)
        return lumen[name](lumen.zeros({ n }, { dtype = dtype }))
      end
      helper.assert_equal(make(50000):slice(1, 1, 1031), make(1031), name)
    end
  end
end

TestMasks = {}

function TestMasks:setUp() lumen.seed(3) end

function TestMasks:test_dropout()
  for _, dtype in ipairs { "f32", "f64" } do
    local x = (lumen.rand { 100000 } + 1):to(dtype)
    x.requires_grad = true
    local y = lumen.dropout(x, 0.3)
    assert_near(y:eq(0):to("f32"):mean():item(), 0.3, 0.006, "dropped share")
    local kept = y:ne(0):to(dtype) / 0.7
    helper.assert_close(y, x * kept, 1e-6)
    local twice = y * 2
    twice:sum():backward()
    helper.assert_close(x.grad, kept * 2, 1e-6)
  end
end

function TestMasks:test_drop_path()
  local x = lumen.ones({ 4000, 3, 2 }, { requires_grad = true })
  local y = lumen.drop_path(x, 0.25)
  helper.assert_equal(y:max({ 2, 3 }), y:min({ 2, 3 }), "whole samples")
  local per_sample = y:mean({ 2, 3 })
  assert_near(per_sample:eq(0):to("f32"):mean():item(), 0.25, 0.03, "dropped share")
  helper.assert_close(per_sample:max(), lumen.tensor(4 / 3), 1e-6)
  y:sum():backward()
  helper.assert_equal(x.grad, y:detach())
end

function TestMasks:test_the_ends()
  local x = lumen.ones { 100 }
  helper.assert_equal(lumen.dropout(x, 0), x)
  helper.assert_equal(lumen.dropout(x, 1), lumen.zeros { 100 })
  helper.assert_equal(lumen.drop_path(x, 1), lumen.zeros { 100 })
end

helper.run()
