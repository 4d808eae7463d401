-- tape_test.lua: recording, backward, its errors, what it keeps alive, functions with a
-- gradient written in Lua.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"

local function leaf(values) return lumen.tensor(values, { dtype = "f64", requires_grad = true }) end

local function message_of(fn, ...)
  local ok, message = pcall(fn, ...)
  lu.assertFalse(ok, "no error")
  return tostring(message)
end

TestTape = {}

function TestTape:test_leaves_accumulate()
  local x = leaf { 1, 2, 3 };
  (x * x):sum():backward()
  lu.assertEquals(x.grad:totable(), { 2, 4, 6 });
  (x * 3):sum():backward()
  lu.assertEquals(x.grad:totable(), { 5, 7, 9 })
  x:zero_grad()
  lu.assertNil(x.grad)
end

function TestTape:test_one_tensor_used_many_times()
  local x = leaf { 2, 3 }
  local y = x * x
  local z = y + y * x + x
  z:sum():backward() -- d/dx (x^2 + x^3 + x) = 2x + 3x^2 + 1
  lu.assertEquals(x.grad:totable(), { 17, 34 })
end

function TestTape:test_a_gradient_is_its_own_memory()
  local x, y = leaf { 1, 2 }, leaf { 3, 4 };
  (x + y):sum():backward()
  x.grad:fill_(7)
  lu.assertEquals(y.grad:totable(), { 1, 1 })
end

function TestTape:test_gradient_given()
  local x = leaf { 1, 2 }
  local y = x * 2
  y:backward(lumen.tensor({ 1, 10 }, { dtype = "f64" }))
  lu.assertEquals(x.grad:totable(), { 2, 20 })
  lu.assertStrContains(message_of(function() (x * 2):backward() end), "one-element")
  lu.assertStrContains(message_of(function() (x * 2):backward(lumen.ones(3)) end), "[3]")
end

function TestTape:test_graph_is_freed_unless_kept()
  local x = leaf { 1, 2 }
  local y = (x * x):sum()
  y:backward { keep = true }
  y:backward()
  lu.assertEquals(x.grad:totable(), { 4, 8 })
  lu.assertStrContains(message_of(function() y:backward() end), "freed by an earlier backward")
end

function TestTape:test_no_gradient_wanted()
  lu.assertStrContains(message_of(function() lumen.ones(1):backward() end),
    "does not require a gradient")
  local x = leaf { 1 }
  local y = lumen.no_grad(function() return x * 2 end)
  lu.assertFalse(y.requires_grad)
  lu.assertFalse((x:detach() * 2).requires_grad)
end

function TestTape:test_no_grad_ends_with_an_error()
  pcall(lumen.no_grad, function() error("x") end)
  lu.assertTrue(lumen.grad_enabled())
end

function TestTape:test_overwritten_saved_tensor()
  local x = leaf { 1, 2 }
  local w = lumen.tensor({ 3, 4 }, { dtype = "f64" })
  local y = (x * w):sum()
  w:fill_(0)
  local message = message_of(function() y:backward() end)
  lu.assertStrContains(message, "mul saved its input")
  lu.assertStrContains(message, "fill_ has overwritten")
end

function TestTape:test_writing_in_place_on_a_leaf_that_records()
  local x = leaf { 1, 2 }
  lu.assertStrContains(message_of(function() x:fill_(0) end), "requires a gradient")
  lumen.no_grad(function() x:fill_(5) end)
  lu.assertEquals(x:totable(), { 5, 5 })
end

function TestTape:test_deep_graph()
  local x = leaf { 1 }
  local y = x
  for _ = 1, 20000 do y = y + x end
  y:sum():backward()
  lu.assertEquals(x.grad:item(), 20001)
  y = x
  for _ = 1, 20000 do y = y + x end -- and dropped without backward
  y = nil
  collectgarbage()
end

function TestTape:test_backward_frees_what_was_saved()
  collectgarbage()
  collectgarbage()
  local x = lumen.ones({ 1000 }, { requires_grad = true })
  local before = lumen.memory().live
  local y = x
  for _ = 1, 10 do y = y:exp() end -- each saves its output, 4000 bytes
  local loss = y:sum()
  lumen.no_grad(function() end)
  y = nil
  collectgarbage()
  local held = lumen.memory().live - before
  lu.assertTrue(held >= 40000, "held " .. held)
  loss:backward()
  collectgarbage()
  lu.assertTrue(lumen.memory().live - before <= 4000 + 64, "gradient and loss only")
end

-- Bytes that the tape holds for fn's result when no handle but the result's is left.
local function held_by(fn)
  collectgarbage()
  collectgarbage()
  local before = lumen.memory().live
  local result = lumen.scope(fn)
  return lumen.memory().live - before, result
end

local function f64(...)
  return lumen.randn({ ... }, { dtype = "f64", rng = { seed = 3, stream = "tape" } })
end

function TestTape:test_frozen_factors_are_not_kept()
  local x, w = lumen.ones({ 100, 100 }, { requires_grad = true }), lumen.ones(100, 100)
  local matrix = 40000
  local function chain(y)
    return function()
      for _ = 1, 3 do y = lumen.linear(y * w, w):matmul(w) end
      return y
    end
  end
  local held, y = held_by(chain(x))
  lu.assertTrue(held < 2 * matrix, "only the result, not " .. held)
  y:sum():backward()
  helper.assert_close(x.grad, lumen.full({ 100, 100 }, 1e12), 1e-5)
  w = lumen.ones({ 100, 100 }, { requires_grad = true })
  held = held_by(chain(lumen.ones(100, 100)))
  lu.assertTrue(held > 8 * matrix, "every factor, not " .. held)
end

function TestTape:test_what_is_cheap_is_made_again()
  local w, x = leaf(f64(64, 64):totable()), leaf(f64(50, 64):totable())
  local size = 50 * 64 * 8
  local function layers()
    local y = lumen.layer_norm(lumen.layer_norm(x, w:select(1, 1)))
    y = lumen.linear(y, w, nil, { activation = "gelu" })
    return lumen.linear(y, w)
  end
  local held = held_by(layers)
  lu.assertTrue(held < 2.5 * size, "pre-activation and result, not " .. held)
  lumen.gradcheck(function(a, b)
    local y = lumen.layer_norm(lumen.layer_norm(a, b:select(1, 1)))
    y = lumen.linear(y, b, nil, { activation = "silu" })
    return lumen.linear(y, b) + lumen.linear(y, b):square() -- two that need it
  end, { f64(3, 4), f64(4, 4) })
  local y = layers():sum()
  y:backward { keep = true }
  local once = w.grad:clone()
  y:backward()
  helper.assert_close(w.grad, once * 2, 1e-12)
  lu.assertStrContains(message_of(function() y:backward() end), "freed by an earlier")
end

function TestTape:test_what_was_overwritten_is_not_made_again()
  local x, w = leaf(f64(3, 4):totable()), leaf(f64(4, 4):totable())
  local y = lumen.layer_norm(x)
  lumen.no_grad(function() y:detach():fill_(2) end)
  lumen.linear(y, w):sum():backward()
  lu.assertEquals(w.grad:totable()[1], { 6, 6, 6, 6 }) -- of the twos
  y = lumen.layer_norm(x)
  local z = lumen.linear(y, w):sum()
  lumen.no_grad(function() x:fill_(0) end)
  local message = message_of(function() z:backward() end)
  lu.assertStrContains(message, "layer_norm saved its input")
  lu.assertStrContains(message, "fill_ has overwritten")
end

function TestTape:test_accumulation_equals_one_batch()
  local data = lumen.randn({ 8, 4 }, { dtype = "f64", rng = { seed = 1, stream = "a" } })
  local w = leaf { 1, -1, 2, 0.5 };
  ((data * w):sum(2):square():mean()):backward()
  local whole = w.grad:clone()
  w:zero_grad()
  for i = 1, 4 do
    local part = data:slice(1, 2 * i - 1, 2 * i);
    ((part * w):sum(2):square():mean() / 4):backward()
  end
  helper.assert_close(w.grad, whole, 1e-12)
end

TestFunc = {}

function TestFunc:test_gradient_from_lua()
  local cube = lumen.func {
    forward = function(ctx, x)
      ctx:save(x)
      return x * x * x
    end,
    backward = function(ctx, g) return g * ctx.saved[1]:square() * 3 end,
  }
  local x = leaf { 1, 2, 3 }
  cube(x):sum():backward()
  lu.assertEquals(x.grad:totable(), { 3, 12, 27 })
  lumen.gradcheck(cube, { lumen.tensor({ 0.5, -1.5 }, { dtype = "f64" }) })
end

function TestFunc:test_survives_its_scope()
  local twice = lumen.func {
    forward = function(ctx, x)
      local y = x * 2
      ctx:save(y)
      return y
    end,
    backward = function(ctx, g) return g * 2 + ctx.saved[1] * 0 end,
  }
  local x = leaf { 1 }
  local y = lumen.scope(function() return twice(x) end)
  y:sum():backward()
  lu.assertEquals(x.grad:item(), 2)
end

function TestFunc:test_errors_keep_the_session()
  local bad = lumen.func {
    forward = function(_, x) return x * 2 end,
    backward = function() error("broken rule") end,
  }
  local x = leaf { 1 }
  lu.assertStrContains(message_of(function() bad(x):sum():backward() end), "broken rule")
  local wrong = lumen.func {
    forward = function(_, x) return x * 2 end,
    backward = function() return lumen.ones({ 7 }, { dtype = "f64" }) end,
  }
  lu.assertStrContains(message_of(function() wrong(x):sum():backward() end), "returned f64 cpu [7]")
  lu.assertStrContains(message_of(lumen.func, { forward = print }), "backward must be a function")
  lu.assertStrContains(message_of(lumen.func, { forwrd = print }), "did you mean forward")
end

helper.run()
