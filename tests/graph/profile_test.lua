-- The profile: calls, flops and bytes of operations, memory, the table and the trace.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local profiler = lumen.profiler

local function measure(fn)
  profiler.start(true)
  fn()
  local result = profiler.stop()
  local rows = {}
  for _, row in ipairs(result.rows) do rows[row.name] = row end
  return rows, result
end

TestProfile = {}

function TestProfile:tearDown() profiler.stop() end

function TestProfile:test_work_of_products()
  local x, w = lumen.ones { 2, 5, 3 }, lumen.ones { 7, 3 }
  local rows = measure(function()
    lumen.matmul(x, w:transpose(1, 2))
    lumen.linear(x, w)
    lumen.linear(x, w)
  end)
  lu.assertEquals(rows.matmul.calls, 1)
  lu.assertEquals(rows.matmul.flops, 2 * 10 * 7 * 3)
  lu.assertEquals(rows.linear.calls, 2)
  lu.assertEquals(rows.linear.flops, 2 * (2 * 10 * 7 * 3))
  lu.assertEquals(rows.linear.bytes, 2 * 4 * (30 + 21 + 70))
  lu.assertEquals(rows.linear.made, 2 * 4 * 70)
  lu.assertTrue(rows.linear.seconds > 0)
end

function TestProfile:test_work_of_convolutions()
  local x = lumen.ones { 2, 4, 8, 8 }
  local w = lumen.ones({ 6, 2, 3, 3 }, { requires_grad = true })
  x.requires_grad = true
  local rows = measure(function()
    lumen.conv2d(x, w, { padding = 1, groups = 2 }):sum():backward()
  end)
  local flops = 2 * (2 * 6 * 8 * 8) * (2 * 3 * 3)
  for _, name in ipairs { "conv2d", "conv_transpose2d", "conv2d_weight_grad" } do
    lu.assertEquals(rows[name].flops, flops, name)
  end
end

function TestProfile:test_work_of_attention()
  local qkv = lumen.randn({ 2, 10, 3 * 8 }, { requires_grad = true })
  local rows = measure(function()
    lumen.qkv_attention(qkv, { heads = 2 }):sum():backward()
    lumen.no_grad(function() lumen.attention(qkv, qkv, qkv, { heads = 2, causal = true }) end)
  end)
  lu.assertEquals(rows.qkv_attention.flops, 2 * 2 * 2 * 10 * 10 * 8)
  lu.assertEquals(rows.qkv_attention_backward.flops, 5 * 2 * 2 * 10 * 10 * 8)
  lu.assertEquals(rows.attention.flops, 2 * 2 * 2 * 10 * 10 * 24 / 2)
end

function TestProfile:test_bytes_of_updates_and_broadcasts()
  local x, y = lumen.ones { 100 }, lumen.ones { 100 }
  local rows = measure(function()
    x:add_(y)
    lumen.mul(lumen.ones { 1 }:expand { 100 }, y)
    lumen.adamw_step({ x }, { y }, { x:clone() }, { y:clone() }, { lr = 0, step = 1 })
  end)
  lu.assertEquals(rows.add_.bytes, 4 * 300)
  lu.assertEquals(rows.add_.made, 0)
  lu.assertEquals(rows.mul.bytes, 4 * 201)
  lu.assertEquals(rows.adamw_step.bytes, 4 * 700)
end

function TestProfile:test_memory_names_its_makers()
  local _, result = measure(function()
    local x = lumen.ones { 1024, 1024 }
    local y = x + 1
    return y
  end)
  local owners = {}
  for _, owner in ipairs(result.owners) do owners[owner.name] = owner.bytes end
  lu.assertTrue(owners.add >= 4 * 1024 * 1024)
  lu.assertTrue(result.peak >= 8 * 1024 * 1024)
end

function TestProfile:test_the_trace_is_json_that_fits_the_rows()
  local rows = measure(function()
    local x = lumen.ones { 3, 4 }
    for _ = 1, 5 do x = x:relu() end
  end)
  local events, calls = lumen.json.decode(profiler.trace()).traceEvents, 0
  local last = 0
  for _, e in ipairs(events) do
    if e.name == "relu" then
      calls = calls + 1
      lu.assertEquals(e.ph, "X")
      lu.assertEquals(e.args.result, "f32 [3 x 4]")
      lu.assertTrue(e.ts >= last and e.dur > 0)
      last = e.ts + e.dur - 0.002 -- times are rounded to a nanosecond
    end
  end
  lu.assertEquals(calls, rows.relu.calls)
end

function TestProfile:test_a_start_forgets_and_a_stop_stops()
  measure(function() lumen.ones({ 2 }):relu() end)
  local rows = measure(function() lumen.ones({ 2 }):exp() end)
  lu.assertNil(rows.relu)
  lumen.ones({ 2 }):exp()
  lu.assertEquals(rows.exp.calls, 1)
  lu.assertFalse(profiler.running())
end

function TestProfile:test_the_function()
  local folder = helper.temporary_folder()
  local path = folder .. "/trace.json"
  local a, b = lumen.profile({ function(...) return lumen.ones({ 4 }):sum():item(), ... end,
                               trace = path }, "more")
  lu.assertEquals({ a, b }, { 4.0, "more" })
  lu.assertStrContains(lumen.fs.read(path), '"name": "sum"')
  helper.remove_folder(folder)
  lu.assertErrorMsgContains("on purpose", lumen.profile, function() error("on purpose") end)
  lu.assertFalse(profiler.running())
  lu.assertErrorMsgContains("a function expected", lumen.profile, 3)
  lu.assertErrorMsgContains("running already", lumen.profile, function()
    lumen.profile(function() end)
  end)
end

function TestProfile:test_the_table()
  local _, result = measure(function() lumen.ones({ 512, 512 }):matmul(lumen.ones { 512, 512 }) end)
  result.dropped = 2
  local text = lumen.profile.text(result)
  lu.assertStrMatches(text:match("matmul[^\n]*"), "matmul +1 .*GFLOP/s +%d+%% +1%.0 MiB")
  lu.assertStrContains(text, "(outside operations)")
  lu.assertStrContains(text, "memory at its peak")
  lu.assertStrContains(text, "2 calls were left out")
end

function TestProfile:test_units()
  lu.assertEquals(lumen.profile.bytes(0), "0 B")
  lu.assertEquals(lumen.profile.bytes(1023), "1023 B")
  lu.assertEquals(lumen.profile.bytes(1536), "1.5 KiB")
  lu.assertEquals(lumen.profile.bytes(5 * 2 ^ 50), "5120.0 TiB")
end

-- The environment variable, on the program itself.
function TestProfile:test_the_program()
  local pipe = io.popen("readlink /proc/$PPID/exe")
  local program, folder = pipe:read("l"), helper.temporary_folder()
  pipe:close()
  local function output(value)
    local p = io.popen(("LUMEN_PROFILE=%s %s -e 'lumen.ones({4000, 1000}):sum()' 2>&1"):format(value, program))
    local text = p:read("a")
    p:close()
    return text
  end
  lu.assertStrContains(output("1"), "\nsum ")
  lu.assertEquals(output("0"), "")
  lu.assertEquals(output("''"), "")
  lu.assertStrContains(output(folder .. "/t.json"), "trace: " .. folder .. "/t.json")
  lu.assertEquals(lumen.json.decode(lumen.fs.read(folder .. "/t.json")).displayTimeUnit, "ms")
  helper.remove_folder(folder)
end

helper.run()
