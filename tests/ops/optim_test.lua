-- Optimiser steps against their formulas in plain Lua; the gradient's norm.
local helper = require "tests.helper"
local lumen = require "lumen"
local lu = require "luaunit"

local randn, rand = helper.randn, helper.rand

-- f called with one number of each tensor (all of one shape); a tensor of its results.
local function each(f, ...)
  local lists, out, shape = {}, {}, (...).shape
  for k, x in ipairs { ... } do
    lists[k] = x:to("f64"):contiguous():reshape({ -1 }):totable()
  end
  for i = 1, #lists[1] do
    local numbers = {}
    for k = 1, #lists do numbers[k] = lists[k][i] end
    out[i] = f(table.unpack(numbers))
  end
  return lumen.tensor(out, { dtype = "f64" }):reshape(shape)
end

-- AdamW and Adam as in their papers; returns the new parameter and both averages.
local function adam(o, p, g, m, v)
  local b1, b2, decay = o.beta1 or 0.9, o.beta2 or 0.999, o.weight_decay or 0
  g = g * (o.grad_scale or 1)
  if o.decoupled == false then g = g + decay * p else p = p - o.lr * decay * p end
  m = b1 * m + (1 - b1) * g
  v = b2 * v + (1 - b2) * g * g
  local mean, square = m / (1 - b1 ^ o.step), v / (1 - b2 ^ o.step)
  return p - o.lr * mean / (math.sqrt(square) + (o.eps or 1e-8)), m, v
end

local function sgd(o, p, g, b)
  local momentum = o.momentum or 0
  g = g + (o.weight_decay or 0) * p
  b = o.step == 1 and g or momentum * b + g
  return p - o.lr * (o.nesterov and g + momentum * b or b), b
end

local shapes = { { 3, 5 }, {}, { 300 }, { 2, 3, 2 } }

local function lists(makers)
  local args = {}
  for k, make in ipairs(makers) do
    args[k] = {}
    for i, shape in ipairs(shapes) do args[k][i] = make(shape, 10 * k + i) end
  end
  return args
end

local function row(makers, options, step)
  return { args = lists(makers), options = options, layouts = false, bf16 = false,
           ref = function(...)
             local first = {}
             for k, list in ipairs { ... } do first[k] = list[1] end
             return each(function(...) return (step(options, ...)) end, table.unpack(first))
           end }
end

local function normal(shape, seed) return randn(shape, seed) end
local function positive(shape, seed) return rand(shape, 0.01, 1, seed) end

local adam_lists = { normal, normal, normal, positive }
helper.op("adamw_step", {
  row(adam_lists, { lr = 1e-3, step = 1 }, adam),
  row(adam_lists, { lr = 0.1, step = 7, weight_decay = 0.05, beta1 = 0.8, beta2 = 0.95 }, adam),
  row(adam_lists, { lr = 0.1, step = 3, weight_decay = 0.1, decoupled = false }, adam),
  row(adam_lists, { lr = 0.1, step = 3, eps = 0.1, grad_scale = 0.25 }, adam),
})
helper.op("sgd_step", {
  row({ normal, normal, normal }, { lr = 0.1, step = 1 }, sgd),
  row({ normal, normal, normal }, { lr = 0.1, step = 2, momentum = 0.9 }, sgd),
  row({ normal, normal, normal }, { lr = 0.1, step = 1, momentum = 0.9, nesterov = true }, sgd),
  row({ normal, normal, normal },
    { lr = 0.1, step = 5, momentum = 0.9, nesterov = true, weight_decay = 0.1 }, sgd),
})
helper.op("ema_step", {
  row({ normal, normal }, { decay = 0.9 },
    function(o, t, x) return o.decay * t + (1 - o.decay) * x end),
})
helper.op("grad_norm", {
  { args = { { randn { 3, 5 }, randn({ 7 }, 2), randn({}, 3) } }, layouts = false,
    ref = function(list)
      local s = 0
      for _, x in ipairs(list) do s = s + (x * x):sum():item() end
      return math.sqrt(s)
    end },
  { args = { { randn { 300, 301 } } }, ref = function(list)
    return (list[1] * list[1]):sum():sqrt()
  end },
  { args = { { randn { 0 } } }, ref = function() return 0 end },
})

helper.error("adamw_step", { args = { { randn { 3 } }, { randn { 4 } }, { randn { 3 } },
  { randn { 3 } } }, options = { lr = 1, step = 1 } },
  "adamw_step: grads 1 has shape [4] but params 1 has shape [3]")
helper.error("adamw_step", { args = { { randn { 3 } }, {}, { randn { 3 } }, { randn { 3 } } },
  options = { lr = 1, step = 1 } }, "adamw_step: there are 0 grads but 1 params")
helper.error("adamw_step", { args = { { randn { 3 } }, { randn { 3 } }, { randn { 3 } },
  { randn { 3 } } }, options = { lr = 1, step = 0 } }, "adamw_step: step counts from 1, not 0")
helper.error("adamw_step", { args = { { randn { 3 } }, { randn { 3 } }, { randn { 3 } },
  { randn { 3 } } }, options = { lr = 1, step = 1, beta1 = 2 } },
  "adamw_step: beta1 must be between 0 and 1")
helper.error("sgd_step", { args = { {}, {}, {} }, options = { lr = 1, step = 1 } },
  "sgd_step: the lists are empty")
helper.error("ema_step", { args = { { helper.integers({ 3 }, 0, 5) }, { randn { 3 } } },
  options = { decay = 0.5 } }, "ema_step: targets 1 must be f32 or f64")

TestSteps = {}

-- All tensors of all lists are written, whatever their strides; gradients may be strided.
function TestSteps:test_state_and_strides()
  local o = { lr = 0.1, step = 4, weight_decay = 0.05 }
  local function make(seed)
    return lumen.randn({ 4, 6 }, { dtype = "f64", rng = { seed = seed, stream = "optim" } })
  end
  local p, g, m, v = make(1), make(2), make(3), make(4):square()
  local expected = { lumen.no_grad(function()
    local out = { {}, {}, {} }
    local list = {}
    for k, x in ipairs { p, g, m, v } do list[k] = x:reshape({ -1 }):totable() end
    for i = 1, 24 do
      out[1][i], out[2][i], out[3][i] = adam(o, list[1][i], list[2][i], list[3][i], list[4][i])
    end
    return out
  end) }
  local function turned(x) return x:transpose():contiguous():transpose() end
  local got = { turned(p), turned(m), v:contiguous() }
  lumen.adamw_step({ got[1] }, { turned(g) }, { got[2] }, { got[3] }, o)
  for k = 1, 3 do
    helper.assert_close(got[k]:contiguous():reshape { -1 },
      lumen.tensor(expected[1][k], { dtype = "f64" }), 1e-12)
  end
end

function TestSteps:test_sgd_writes_its_buffer()
  local p, b = lumen.tensor { 1.0 }, lumen.tensor { 5.0 }
  lumen.sgd_step({ p }, { lumen.tensor { 2.0 } }, { b }, { lr = 0.5, momentum = 0.5, step = 1 })
  lu.assertEquals({ p:item(), b:item() }, { 0, 2 })
  lumen.sgd_step({ p }, { lumen.tensor { 2.0 } }, { b }, { lr = 0.5, momentum = 0.5, step = 2 })
  lu.assertEquals({ p:item(), b:item() }, { -1.5, 3 })
end

function TestSteps:test_large_equals_parts()
  local o = { lr = 0.1, step = 4, weight_decay = 0.05 }
  local function state(n)
    local list = {}
    for k = 1, 4 do
      local x = lumen.rand({ 70000 }, { rng = { seed = k, stream = "optim" } })
      list[k] = { x:slice(1, 1, n):contiguous() }
    end
    lumen.adamw_step(list[1], list[2], list[3], list[4], o)
    return list[1][1]
  end
  helper.assert_close(state(70000):slice(1, 1, 999), state(999), 1e-7)
end

function TestSteps:test_parameters_that_require_a_gradient()
  local p = lumen.zeros({ 3 }, { requires_grad = true })
  local function step()
    lumen.adamw_step({ p }, { lumen.ones { 3 } }, { lumen.zeros { 3 } }, { lumen.zeros { 3 } },
      { lr = 0.5, step = 1 })
  end
  lu.assertErrorMsgContains("params 1 requires a gradient", step)
  lumen.no_grad(step)
  helper.assert_close(p, lumen.full({ 3 }, -0.5), 1e-6)
end

function TestSteps:test_bad_gradients_show_in_the_norm()
  local nan, inf = 0 / 0, math.huge
  local function norm(...) return lumen.grad_norm({ ... }):item() end
  lu.assertTrue(norm(lumen.tensor { nan, 1 }) ~= norm(lumen.tensor { nan, 1 }))
  lu.assertEquals(norm(lumen.tensor { inf, 1 }, lumen.ones { 3 }), inf)
  lu.assertEquals(norm(lumen.full({ 4 }, 1e30)), lumen.tensor(2e30):item())
  lu.assertEquals(lumen.grad_norm({ lumen.ones { 4 } }).dtype, "f32")
end

helper.run()
