-- matmul and linear against the definition in plain Lua.
local helper = require "tests.helper"
local lumen = require "lumen"
local lu = require "luaunit"

-- Product of nested tables [m][k] and [k][n].
local function product(a, b)
  local out = {}
  for i = 1, #a do
    out[i] = {}
    for j = 1, #b[1] do
      local sum = 0
      for k = 1, #b do sum = sum + a[i][k] * b[k][j] end
      out[i][j] = sum
    end
  end
  return out
end

local function plain(x, y) return product(x:totable(), y:totable()) end

-- x [B, m, k], y [B or 1, k, n]
local function batched(x, y)
  local a, b, out = x:totable(), y:totable(), {}
  for i = 1, #a do out[i] = product(a[i], b[#b == 1 and 1 or i]) end
  return out
end

local function row_times(x, y)
  return product({ x:totable() }, y:totable())[1]
end

local function times_column(x, y)
  local column, out = {}, {}
  for i, v in ipairs(y:totable()) do column[i] = { v } end
  for i, r in ipairs(product(x:totable(), column)) do out[i] = r[1] end
  return out
end

local randn = helper.randn

helper.op("matmul", {
  { args = { randn { 3, 4 }, randn({ 4, 5 }, 2) }, ref = plain },
  { args = { randn { 1, 1 }, randn({ 1, 1 }, 2) }, ref = plain },
  { args = { randn { 1, 7 }, randn({ 7, 1 }, 2) }, ref = plain },
  { args = { randn { 7, 1 }, randn({ 1, 7 }, 2) }, ref = plain },
  { args = { randn { 33, 65 }, randn({ 65, 17 }, 2) }, ref = plain, grad = false },
  { args = { randn { 3, 2, 4 }, randn({ 3, 4, 5 }, 2) }, ref = batched },
  { args = { randn { 3, 2, 4 }, randn({ 1, 4, 5 }, 2) }, ref = batched },
  { args = { randn { 3, 1, 4 }, randn({ 1, 4, 5 }, 2) }, ref = batched },
  { args = { randn { 3, 2, 4 }, randn({ 4, 5 }, 2) },
    ref = function(x, y) return batched(x, y:reshape { 1, 4, 5 }) end },
  { args = { randn { 2, 4 }, randn({ 3, 4, 5 }, 2) },
    ref = function(x, y) return batched(lumen.stack({ x, x, x }, { dim = 1 }), y) end },
  { args = { randn { 2, 1, 2, 4 }, randn({ 3, 4, 5 }, 2) }, shape = { 2, 3, 2, 5 } },
  { args = { randn { 4 }, randn({ 4, 5 }, 2) }, ref = row_times },
  { args = { randn { 3, 4 }, randn({ 4 }, 2) }, ref = times_column },
  { args = { randn { 4 }, randn({ 4 }, 2) },
    ref = function(x, y) return times_column(x:reshape { 1, 4 }, y)[1] end },
  { args = { randn { 2, 3, 4 }, randn({ 4 }, 2) }, shape = { 2, 3 } },
  { args = { randn { 4 }, randn({ 2, 4, 3 }, 2) }, shape = { 2, 3 } },
  { args = { randn { 0, 4 }, randn({ 4, 5 }, 2) }, shape = { 0, 5 } },
  { args = { randn { 3, 0 }, randn({ 0, 2 }, 2) }, ref = function()
    return { { 0, 0 }, { 0, 0 }, { 0, 0 } }
  end },
})
helper.error("matmul", { args = { randn { 3, 4 }, randn { 5, 2 } } }, "x has 4 columns but y has 5 rows")
helper.error("matmul", { args = { randn { 2, 3, 4 }, randn { 3, 4, 2 } } }, "do not broadcast")
helper.error("matmul", { args = { randn {}, randn { 3 } } }, "matmul: ")

-- A batch of many small products (one thread each) and views with gaps between the rows.
TestMatmulLayouts = {}
function TestMatmulLayouts:test_many_small()
  local x, y = lumen.randn({ 40, 9, 30 }, { dtype = "f64" }), lumen.randn({ 40, 30, 11 }, { dtype = "f64" })
  local out = lumen.matmul(x, y)
  for i = 1, 40, 13 do
    helper.assert_close(out:select(1, i), lumen.matmul(x:select(1, i), y:select(1, i)), 1e-12)
  end
end
function TestMatmulLayouts:test_rows_with_gaps()
  local x, y = lumen.randn({ 6, 5, 12 }, { dtype = "f64" }), lumen.randn({ 4, 3 }, { dtype = "f64" })
  local view = x:slice(3, 5, 8)
  helper.assert_close(lumen.matmul(view, y), lumen.matmul(view:contiguous(), y), 1e-12)
  local some = x:slice(2, 2, 4):slice(3, 1, 4)
  helper.assert_close(lumen.matmul(some, y), lumen.matmul(some:contiguous(), y), 1e-12)
  local wide = lumen.randn({ 1, 4 }, { dtype = "f64" }):expand { 5, 4 }
  helper.assert_close(lumen.matmul(wide, y), lumen.matmul(wide:contiguous(), y), 1e-12)
end

local function linear_ref(activation)
  return function(x, w, b)
    local y = lumen.matmul(x, w:transpose())
    if b then y = y + b end
    return activation and activation(y) or y
  end
end
local function gelu(x) return x * 0.5 * ((x / math.sqrt(2)):erf() + 1) end
local function silu(x) return x / ((-x):exp() + 1) end
local function relu(x) return (x + x:abs()) / 2 end

local rows = {}
for _, case in ipairs { { "none" }, { "relu", relu }, { "gelu", gelu }, { "silu", silu } } do
  local ref = linear_ref(case[2])
  rows[#rows + 1] = { args = { randn { 2, 3, 4 }, randn({ 5, 4 }, 2), randn({ 5 }, 3) },
                      options = { activation = case[1] }, ref = ref }
  rows[#rows + 1] = { args = { randn { 3, 4 }, randn({ 5, 4 }, 2) },
                      options = { activation = case[1] }, ref = ref }
end
rows[#rows + 1] = { args = { randn { 4 }, randn({ 5, 4 }, 2), randn({ 5 }, 3) },
                    ref = linear_ref(nil) }
rows[#rows + 1] = { args = { randn { 150, 130 }, randn({ 120, 130 }, 2), randn({ 120 }, 3) },
                    options = { activation = "gelu" }, ref = linear_ref(gelu), grad = false }
rows[#rows + 1] = { args = { randn { 0, 4 }, randn({ 5, 4 }, 2), randn({ 5 }, 3) },
                    shape = { 0, 5 } }
rows[#rows + 1] = { args = { randn { 2, 0 }, randn({ 3, 0 }, 2), randn({ 3 }, 3) },
                    ref = function(_, _, b) return lumen.stack({ b, b }, { dim = 1 }) end }
helper.op("linear", rows)
helper.error("linear", { args = { randn { 2, 3 }, randn { 5, 4 } } }, "weight has shape [5 x 4]")
helper.error("linear", { args = { randn { 2, 4 }, randn { 5, 4 }, randn { 4 } } }, "bias has shape [4]")
helper.error("linear", { args = { randn { 2, 4 }, randn { 5, 4 } }, options = { activation = "tan" } },
  "activation \"tan\"")

-- The bias gradient is a sum over rows; many of them must not lose precision in f32.
TestLinearLong = {}
function TestLinearLong:test_bias_gradient()
  local x = lumen.randn({ 5000, 3 })
  local w = lumen.randn({ 2, 3 }, { requires_grad = true })
  local b = lumen.zeros({ 2 }, { requires_grad = true })
  lumen.linear(x, w, b):sum():backward()
  lu.assertEquals(b.grad:totable(), { 5000, 5000 })
end

helper.run()
