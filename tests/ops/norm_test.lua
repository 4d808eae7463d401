-- layer_norm, batch_norm and group_norm against their definitions.
local helper = require "tests.helper"
local lumen = require "lumen"
local lu = require "luaunit"

local randn = helper.randn

-- (x - mean) / sqrt(var + eps) over the given dims
local function normal(x, dims, eps)
  local centred = x - x:mean(dims, true)
  return centred / ((centred * centred):mean(dims, true) + eps):sqrt()
end

local function layer(eps)
  return function(x, w, b)
    local y = normal(x, { -1 }, eps or 1e-5)
    if w then y = y * w end
    if b then y = y + b end
    return y
  end
end

-- y and y^2 summed over what was normalised hardly depend on x: their gradients for x are
-- rounding errors in f32. TestNormGradients compares with other weights.
local cancels = { grad_f32 = 0.5 }
-- Finite differences would take too long; kernels are compared with the CPU's.
local large_grad = helper.device ~= nil

helper.op("layer_norm", {
  { args = { randn { 3, 6 }, randn({ 6 }, 2), randn({ 6 }, 3) }, ref = layer() },
  { args = { randn { 2, 3, 5 }, randn({ 5 }, 2), randn({ 5 }, 3) }, options = { eps = 1e-2 },
    ref = layer(1e-2) },
  { args = { randn { 3, 6 } }, ref = layer(), tol = cancels },
  { args = { randn { 3, 6 }, randn({ 6 }, 2) }, ref = layer() },
  { args = { randn { 3, 6 }, false, randn({ 6 }, 2) },
    ref = function(x, _, b) return layer()(x) + b end },
  { args = { randn { 7 }, randn({ 7 }, 2), randn({ 7 }, 3) }, ref = layer() },
  { args = { randn { 100, 700 }, randn({ 700 }, 2), randn({ 700 }, 3) }, ref = layer(), grad = large_grad },
  { args = { randn { 3, 1100 }, randn({ 1100 }, 2), randn({ 1100 }, 3) }, ref = layer(), grad = large_grad },
  { args = { randn { 1700, 4 }, randn({ 4 }, 2), randn({ 4 }, 3) }, ref = layer(), grad = large_grad },
  { args = { randn { 0, 5 }, randn({ 5 }, 2), randn({ 5 }, 3) }, shape = { 0, 5 } },
  { args = { randn { 3, 0 } }, shape = { 3, 0 } },
})
helper.error("layer_norm", { args = { randn { 2, 3, 768 }, randn { 512 } } },
  "weight has shape [512] but x has last dimension 768")
helper.error("layer_norm", { args = { randn { 2, 4 }, randn { 4 }, randn { 4, 1 } } }, "bias has shape [4 x 1]")

-- ---- batch_norm ----

local function channels(v, x)
  local shape = { 1, v.shape[1] }
  for d = 3, x.ndim do shape[d] = 1 end
  return v:reshape(shape)
end

local function but_channels(x)
  local dims = { 1 }
  for d = 3, x.ndim do dims[#dims + 1] = d end
  return dims
end

local function batch(training, eps)
  return function(x, w, b, mean, var)
    local y
    if training then y = normal(x, but_channels(x), eps or 1e-5)
    else y = (x - channels(mean, x)) / (channels(var, x) + (eps or 1e-5)):sqrt() end
    if w then y = y * channels(w, x) end
    if b then y = y + channels(b, x) end
    return y
  end
end

local function batch_row(shape, training, more)
  local c = { shape[2] }
  local row = { args = { randn(shape), randn(c, 2), randn(c, 3), randn(c, 4), helper.rand(c, 0.5, 2, 5) },
                options = { training = training }, ref = batch(training), bf16 = false,
                layouts = false, constant = { [4] = true }, tol = cancels }
  if more then for _, key in ipairs { "grad" } do row[key] = more[key] end end
  return row
end

helper.op("batch_norm", {
  batch_row({ 3, 4, 2, 3 }, true),
  batch_row({ 3, 4, 2, 3 }, false),
  batch_row({ 5, 3 }, true),
  batch_row({ 5, 3 }, false),
  batch_row({ 2, 3, 7 }, true),
  batch_row({ 1, 1, 2 }, true),
  batch_row({ 4, 5, 33, 41 }, true, { grad = large_grad }),
  batch_row({ 3, 2, 32, 52 }, true, { grad = large_grad }),
  { args = { randn { 3, 4, 5 }, false, false, randn({ 4 }, 4), helper.rand({ 4 }, 0.5, 2, 5) },
    options = { training = true, eps = 1e-3 }, ref = batch(true, 1e-3), bf16 = false,
    layouts = false, constant = { [2] = true }, tol = cancels },
  { args = { randn { 3, 4, 5 }, false, false, randn({ 4 }, 4), helper.rand({ 4 }, 0.5, 2, 5) },
    options = { training = false, eps = 1e-3 }, ref = batch(false, 1e-3), bf16 = false,
    layouts = false, constant = { [2] = true } },
  { args = { randn { 0, 4 }, false, false, randn { 4 }, helper.rand({ 4 }, 1, 2) },
    options = { training = false }, shape = { 0, 4 }, bf16 = false, layouts = false,
    constant = { [2] = true } },
})
helper.error("batch_norm", { args = { randn { 2, 3 }, false, false, randn { 4 }, randn { 3 } },
  options = { training = true } }, "running_mean")
helper.error("batch_norm", { args = { randn { 2, 3 }, randn { 4 }, false, randn { 3 }, randn { 3 } },
  options = { training = true } }, "weight has shape [4]")
helper.error("batch_norm", { args = { randn { 1, 3 }, false, false, randn { 3 }, randn { 3 } },
  options = { training = true } }, "more than one value")

TestBatchNormRunning = {}
function TestBatchNormRunning:test_update()
  local x = lumen.tensor({ { 1, 10 }, { 2, 20 }, { 6, 30 } }, { dtype = "f64" })
  local mean, var = lumen.zeros({ 2 }, { dtype = "f64" }), lumen.ones({ 2 }, { dtype = "f64" })
  lumen.batch_norm(x, nil, nil, mean, var, { training = true, momentum = 0.25 })
  helper.assert_close(mean, lumen.tensor({ 0.75, 5 }, { dtype = "f64" }), 1e-12)
  helper.assert_close(var, lumen.tensor({ 0.75 + 0.25 * 7, 0.75 + 25 }, { dtype = "f64" }), 1e-12)
  local before = mean:totable()
  lumen.batch_norm(x, nil, nil, mean, var, { training = false })
  lu.assertEquals(mean:totable(), before)
end
-- The same layer may run twice before backward, although its statistics change in place.
function TestBatchNormRunning:test_twice_before_backward()
  local x = lumen.randn({ 4, 2 }, { requires_grad = true })
  local mean, var = lumen.zeros({ 2 }), lumen.ones({ 2 })
  local a = lumen.batch_norm(x, nil, nil, mean, var, { training = true })
  local b = lumen.batch_norm(x, nil, nil, mean, var, { training = true })
  lumen.sum(a * b):backward()
  lu.assertNotNil(x.grad)
end

-- ---- group_norm ----

local function group(groups, eps)
  return function(x, w, b)
    local y = normal(x:reshape { x.shape[1], groups, -1 }, { 3 }, eps or 1e-5):reshape(x.shape)
    if w then y = y * channels(w, x) end
    if b then y = y + channels(b, x) end
    return y
  end
end

helper.op("group_norm", {
  { args = { randn { 2, 6, 3, 2 }, randn({ 6 }, 2), randn({ 6 }, 3) }, options = { groups = 2 },
    ref = group(2) },
  { args = { randn { 2, 6, 5 }, randn({ 6 }, 2), randn({ 6 }, 3) }, options = { groups = 6 },
    ref = group(6), tol = cancels },
  { args = { randn { 3, 4 } }, options = { groups = 1, eps = 1e-3 }, ref = group(1, 1e-3) },
  { args = { randn { 2, 4, 60, 50 }, randn({ 4 }, 2), randn({ 4 }, 3) }, options = { groups = 2 },
    ref = group(2), grad = large_grad },
  { args = { randn { 0, 4, 3 } }, options = { groups = 2 }, shape = { 0, 4, 3 } },
})
helper.error("group_norm", { args = { randn { 2, 6, 3 } }, options = { groups = 4 } },
  "groups is 4, which does not divide the channels 6")

-- ---- gradients of all inputs in f32 against f64, for a result weighted at random ----

TestNormGradients = {}
local function gradients(dtype, name, shape, options, running)
  local c, g = { shape[name == "layer_norm" and #shape or 2] }, randn(shape, 9).make(dtype)
  local inputs = { randn(shape).make(dtype), randn(c, 2).make(dtype), randn(c, 3).make(dtype) }
  for _, x in ipairs(inputs) do x.requires_grad = true end
  local args = { table.unpack(inputs) }
  if running then
    args[4], args[5] = randn(c, 4).make(dtype), helper.rand(c, 0.5, 2, 5).make(dtype)
  end
  args[#args + 1] = options
  lumen[name](table.unpack(args)):backward(g)
  return inputs
end
local function compare(...)
  local double, single = gradients("f64", ...), gradients("f32", ...)
  for i = 1, 3 do helper.assert_close(single[i].grad, double[i].grad, 1e-5, "gradient " .. i) end
end
function TestNormGradients:test_layer_norm() compare("layer_norm", { 90, 300 }, {}) end
function TestNormGradients:test_group_norm() compare("group_norm", { 3, 6, 50, 40 }, { groups = 3 }) end
function TestNormGradients:test_batch_norm()
  compare("batch_norm", { 3, 6, 50, 40 }, { training = true }, true)
  compare("batch_norm", { 3, 6, 50, 40 }, { training = false }, true)
end

helper.run()
