-- print_test.lua: tensors as text, and other values as the prompt prints them.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local text = lumen.inspect.text

TestTensor = {}

local function shows(x, expected) lu.assertEquals(tostring(x), expected) end

function TestTensor.test_columns_are_aligned()
  shows(lumen.tensor { { 1, -2.5, 30 }, { 0.25, 0, 7 } },
    "f32 cpu [2 x 3]  min -2.5  mean 5.9583  max 30\n" ..
    "[[ 1.00 -2.50 30.00]\n [ 0.25  0.00  7.00]]")
  shows(lumen.tensor({ { 1, 255 } }, { dtype = "u8" }),
    "u8 cpu [1 x 2]  min 1  mean 128  max 255\n[[  1 255]]")
end

function TestTensor.test_views_print_what_they_see()
  local x = lumen.tensor { { 1, 2, 3 }, { 4, 5, 6 } }
  shows(x:transpose(1, 2), "f32 cpu [3 x 2]  min 1  mean 3.5  max 6\n[[1 4]\n [2 5]\n [3 6]]")
  shows(x[2], "f32 cpu [3]  min 4  mean 5  max 6\n[4 5 6]")
end

function TestTensor.test_small_ones()
  shows(lumen.tensor(0.25), "f32 cpu []  0.25")
  shows(lumen.zeros(0, 4), "f32 cpu [0 x 4]  empty")
  shows(lumen.ones(1), "f32 cpu [1]\n[1]")
end

function TestTensor.test_gradients_are_named()
  local x = lumen.ones(1, { requires_grad = true })
  shows(x, "f32 cpu [1]  requires_grad\n[1]")
  shows(x * 2, "f32 cpu [1]  from mul\n[2]")
end

function TestTensor.test_numbers_that_are_none()
  shows(lumen.tensor { 1, 0 / 0, 1 / 0, -1 / 0 },
    "f32 cpu [4]  min 1  mean 1  max 1  1 nan  2 inf\n[   1  nan  inf -inf]")
  shows(lumen.tensor { 0 / 0, 0 / 0 }, "f32 cpu [2]  2 nan\n[nan nan]")
  shows(lumen.tensor { 1e-7, 2.5e-7 },
    "f32 cpu [2]  min 1e-07  mean 1.75e-07  max 2.5e-07\n[1.000e-07 2.500e-07]")
end

-- A tensor of any size prints a few lines, none of them long, without a copy.
function TestTensor.test_large_ones_are_cut()
  for _, shape in ipairs { { 10 ^ 6 }, { 1000, 1000 }, { 5, 300, 300 }, { 64, 3, 50, 50 },
                           { 3, 3, 3, 3, 3, 3 }, { 2, 1, 1000 } } do
    for i, n in ipairs(shape) do shape[i] = math.tointeger(n) end
    local x = lumen.randn(shape)
    local before = lumen.memory().live
    local shown = tostring(x)
    lu.assertEquals(lumen.memory().live, before)
    local lines = 0
    for line in shown:gmatch("[^\n]+") do
      lines = lines + 1
      lu.assertTrue(#line <= 100, line)
    end
    lu.assertTrue(lines <= 80, tostring(lines))
    lu.assertStrContains(shown, "...")
  end
  lu.assertStrContains(tostring(lumen.arange(3000)), " 0    1    2")
  lu.assertStrContains(tostring(lumen.arange(3000)), "2998 2999]")
end

TestText = {}

function TestText.test_plain_values()
  lu.assertEquals(text(1.5), "1.5")
  lu.assertEquals(text(nil), "nil")
  lu.assertEquals(text("a\"b"), '"a\\"b"')
  lu.assertEquals(text("a\0\xff"), '"a\\x00\\xff"')
  lu.assertEquals(text("two\nlines\n"), "two\nlines")
end

function TestText.test_tables_have_an_order()
  local t = { 3, 4, zeta = true, alpha = { 1 }, [10] = "x", [true] = 0, ["not a name"] = 1 }
  lu.assertEquals(text(t),
    '{3, 4, [10] = "x", alpha = {1}, ["not a name"] = 1, zeta = true, [true] = 0}')
  lu.assertEquals(text { x = lumen.ones(2, 3) }, "{x = f32 cpu [2 x 3]}")
end

function TestText.test_limits()
  local cycle = {}
  cycle.me = cycle
  lu.assertEquals(text(cycle), "{me = {...}}")
  local deep = {}
  for _ = 1, 1000 do deep = { deep } end
  lu.assertEquals(text(deep), "{{{{{...}}}}}")
  local long = {}
  for i = 1, 1000 do long[i] = i end
  lu.assertStrContains(text(long), "... 970 more")
  lu.assertTrue(#text(("x"):rep(1e6)) < 1000)
end

function TestText.test_metamethods_that_fail()
  local function fails() error("no") end
  lu.assertStrContains(text(setmetatable({}, { __tostring = fails })), "raised an error")
  lu.assertEquals(text(setmetatable({ 1 }, { __index = fails, __len = fails, __pairs = fails })),
    "{1}")
  lu.assertStrContains(text { setmetatable({}, { __tostring = fails }) }, "raised an error")
  lu.assertStrContains(text(setmetatable({}, { __tostring = function() return {} end })),
    "raised an error")
end

function TestText.test_functions()
  lu.assertEquals(text(lumen.softmax), "operation softmax(x; dim: dim = -1)")
  lu.assertEquals(text(print), "function (built in)")
  lu.assertStrMatches(text(function(a, ...) return a, ... end),
    "function%(a, %.%.%.%)  tests/bind/print_test.lua:%d+")
end

function TestText.test_a_module_is_a_tree()
  local nn = lumen.nn
  local block = nn.Sequential { nn.Linear(2, 2), nn.Linear(2, 2), lumen.relu, nn.Linear(2, 1) }
  lu.assertEquals(tostring(block), table.concat({ "Sequential  15 parameters",
    "  0 .. 1: Linear  weight [2 x 2]  bias [2]", "  3: Linear  weight [1 x 2]  bias [1]" }, "\n"))
end

helper.run()
