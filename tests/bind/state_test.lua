-- state_test.lua: scopes, memory limits, random state, tensors made from Lua, errors.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"

local function message_of(fn, ...)
  local ok, message = pcall(fn, ...)
  lu.assertFalse(ok, "no error")
  return tostring(message)
end

TestScope = {}

function TestScope:test_drops_what_is_not_returned()
  local inner
  local result = lumen.scope(function()
    inner = lumen.ones(3)
    return inner * 2
  end)
  lu.assertEquals(result:totable(), { 2, 2, 2 })
  lu.assertStrContains(message_of(function() return inner + 1 end), "scope has ended")
end

function TestScope:test_results_in_tables_escape()
  local t = lumen.scope(function()
    return { a = lumen.ones(1), list = { lumen.zeros(1) } }
  end)
  lu.assertEquals(t.a:item() + t.list[1]:item(), 1)
end

function TestScope:test_close_and_keep()
  local kept, lost
  do
    local s <close> = lumen.scope()
    kept = s:keep(lumen.ones(2))
    lost = lumen.ones(2)
  end
  lu.assertEquals(kept:totable(), { 1, 1 })
  lu.assertStrContains(tostring(lost), "released")
end

function TestScope:test_nested_scopes_hand_outwards()
  local outer_value
  lumen.scope(function()
    outer_value = lumen.scope(function() return lumen.ones(1) end)
    lu.assertEquals(outer_value:item(), 1)
  end)
  lu.assertStrContains(tostring(outer_value), "released")
end

-- A scope that nobody closes and nobody holds: those opened inside it go on.
function TestScope:test_a_forgotten_scope_is_collected()
  lumen.scope()
  local inner <close> = lumen.scope()
  collectgarbage()
  local x = lumen.ones(2)
  inner:close()
  for _ = 1, 100 do lumen.ones(1) end
  lu.assertStrContains(message_of(function() return x + 1 end), "scope has ended")
end

function TestScope:test_results_may_refer_to_themselves()
  local t = lumen.scope(function()
    local t = { x = lumen.ones(2) }
    t.me, t.list = t, { t, { t } }
    return t
  end)
  lu.assertEquals(t.me.x:totable(), { 1, 1 })
  local deep = {}
  for _ = 1, 1000 do deep = { deep } end
  lu.assertErrorMsgContains("inside each other", lumen.scope, function() return deep end)
end

-- Scopes closed in another order, by another coroutine, or forgotten.
function TestScope:test_scopes_out_of_order()
  local outer, inner = lumen.scope(), lumen.scope()
  outer:close()
  inner:close()
  lu.assertEquals(lumen.ones(2):totable(), { 1, 1 })
  local a, b
  local co = coroutine.create(function()
    a, b = lumen.scope(), lumen.scope()
    local x = lumen.ones(2)
    coroutine.yield(x)
    return lumen.ones(3)
  end)
  local _, x = coroutine.resume(co)
  a:close()
  a = nil -- luacheck: ignore
  collectgarbage()
  collectgarbage()
  lu.assertErrorMsgContains("scope has ended", function() return x.shape end)
  b:close()
  local _, y = coroutine.resume(co)
  lu.assertEquals(y:totable(), { 1, 1, 1 })
  local kept
  for _ = 1, 50 do
    local lost = coroutine.wrap(function()
      lumen.scope()
      kept = lumen.scope() and lumen.ones(2)
      coroutine.yield()
    end)
    lost()
    lost = nil -- luacheck: ignore
    collectgarbage()
  end
  lu.assertEquals(kept:totable(), { 1, 1 })
end

function TestScope:test_an_error_ends_the_scope()
  local inner
  pcall(lumen.scope, function()
    inner = lumen.ones(1)
    error("x")
  end)
  lu.assertStrContains(tostring(inner), "released")
  local outside = lumen.ones(1)
  lu.assertEquals(outside:item(), 1)
end

function TestScope:test_coroutines_have_their_own()
  local made
  local co = coroutine.wrap(function()
    local s <close> = lumen.scope()
    made = lumen.ones(1)
    coroutine.yield()
  end)
  co()
  local outside = lumen.ones(1) -- the coroutine's scope is open, but not ours
  co()
  lu.assertEquals(outside:item(), 1)
  lu.assertStrContains(tostring(made), "released")
end

function TestScope:test_storage_lives_while_c_holds_it()
  local w = lumen.ones({ 2 }, { requires_grad = true })
  local loss = lumen.scope(function()
    local x = lumen.full({ 2 }, 3)
    return (w * x):sum()
  end)
  loss:backward() -- mul saved x, whose handle is gone
  lu.assertEquals(w.grad:totable(), { 3, 3 })
end

function TestScope:test_operations_leak_nothing()
  collectgarbage()
  collectgarbage()
  local before = lumen.memory().live
  collectgarbage("stop")
  for _ = 1, 50 do
    lumen.scope(function()
      local x = lumen.ones({ 10, 10 }, { requires_grad = true })
      x:matmul(x):softmax():sum():backward()
    end)
  end
  local after = lumen.memory().live
  collectgarbage("restart")
  lu.assertEquals(after, before)
end

TestMemory = {}

function TestMemory:test_hard_limit_is_an_error_and_nothing_is_lost()
  local x = lumen.ones(10)
  local limit = lumen.memory_limit(lumen.memory().live + 1000000)
  local message = message_of(lumen.zeros, 100000000)
  lumen.memory_limit(limit)
  lu.assertStrContains(message, "out of memory on cpu")
  lu.assertStrContains(message, "hint:")
  lu.assertEquals((x + 1):sum():item(), 20)
end

function TestMemory:test_garbage_is_collected_before_giving_up()
  collectgarbage()
  collectgarbage("stop")
  local limit = lumen.memory_limit(lumen.memory().live + 10000000)
  for _ = 1, 100 do lumen.zeros(250000) end -- 1 MB each, never collected by Lua itself
  lumen.memory_limit(limit)
  collectgarbage("restart")
end

function TestMemory:test_counters()
  collectgarbage()
  local before = lumen.memory().live
  local x = lumen.zeros(1000)
  lu.assertEquals(lumen.memory().live - before, 4000)
  x:release()
  lu.assertEquals(lumen.memory().live, before)
  x:release() -- twice is fine
end

TestRandom = {}

function TestRandom:test_keyed_by_seed_stream_step_and_counter()
  local function draw(step, stream)
    lumen.random_step(step, stream)
    return lumen.rand(4):totable()
  end
  lumen.seed(3)
  local a = draw(5, "dropout")
  lu.assertEquals(draw(5, "dropout"), a)
  lu.assertNotEquals(draw(6, "dropout"), a)
  lu.assertNotEquals(draw(5, "mask"), a)
  lumen.seed(4)
  lu.assertNotEquals(draw(5, "dropout"), a)
  lumen.seed(3)
  lumen.random_step(5, "dropout")
  lu.assertEquals(lumen.rand(4):totable(), a)
  lu.assertNotEquals(lumen.rand(4):totable(), a) -- the counter went on
end

function TestRandom:test_own_generator()
  local rng = { seed = 1, stream = "x" }
  local a = lumen.rand(3, { rng = rng }):totable()
  lu.assertEquals(rng.counter, 1)
  lu.assertNotEquals(lumen.rand(3, { rng = rng }):totable(), a)
  lu.assertEquals(lumen.rand(3, { rng = { seed = 1, stream = "x" } }):totable(), a)
end

TestTensor = {}

function TestTensor:test_from_tables()
  local x = lumen.tensor { { 1, 2, 3 }, { 4, 5, 6 } }
  lu.assertEquals(x.shape, { 2, 3 })
  lu.assertEquals(x[2][3]:item(), 6)
  lu.assertEquals(x[-1]:totable(), { 4, 5, 6 })
  lu.assertEquals(lumen.tensor({}).shape, { 0 })
  lu.assertEquals(lumen.tensor(2.5).shape, {})
  lu.assertStrContains(message_of(lumen.tensor, { { 1, 2 }, { 3 } }), "level 2")
  lu.assertStrContains(message_of(lumen.tensor, { { 1, 2 }, { 3, "x" } }), "no number")
  lu.assertStrContains(message_of(lumen.tensor, { 300 }, { dtype = "u8" }), "does not fit u8")
  lu.assertStrContains(message_of(lumen.tensor, { 1 }, { dtype = "f16" }), "unknown dtype")
end

function TestTensor:test_integers_are_exact()
  local big = 9007199254740993 -- 2^53 + 1
  lu.assertEquals(lumen.tensor({ big }, { dtype = "i64" }):item(), big)
end

function TestTensor:test_assigning()
  local x = lumen.zeros(2, 3)
  x[1] = 7
  x[2] = lumen.tensor { 1, 2, 3 }
  lu.assertEquals(x:totable(), { { 7, 7, 7 }, { 1, 2, 3 } })
end

function TestTensor:test_numbers_as_operands()
  local x = lumen.tensor({ 1, 2 }, { dtype = "f64" })
  lu.assertEquals((2 / x):totable(), { 2, 1 })
  lu.assertEquals((x - 0.5).dtype, "f64")
  lu.assertEquals((1 - x):totable(), { 0, -1 })
end

function TestTensor:test_errors_name_what_is_wrong()
  local x = lumen.ones(2, 3)
  lu.assertStrContains(message_of(function() return x.shpe end), "did you mean shape")
  lu.assertStrContains(message_of(function() return x:sum { dims = 3 } end), "out of range")
  lu.assertStrContains(message_of(function() return x:sum(0) end), "counts from 1")
  lu.assertStrContains(message_of(function() return x:sum { keepdims = true } end),
    "did you mean keepdim")
  lu.assertStrContains(message_of(function() return x + lumen.ones(4) end), "[2 x 3]")
  lu.assertStrContains(message_of(function() return x + "a" end), "must be a tensor")
  lu.assertStrContains(message_of(lumen.zeros, -1), "negative size")
  lu.assertStrContains(message_of(lumen.zeros, 1 << 40, 1 << 40), "too large")
  lu.assertStrContains(message_of(function() return x:to("cuda") end), "CUDA")
  lu.assertStrContains(message_of(function() return x:to("gpu") end), "unknown device")
end

helper.run()
