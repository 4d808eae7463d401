-- shim_test.lua: the shim finds what it is there for: kernels with the usual mistakes
-- (tests/cuda/broken.cu), and finds nothing in those without.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"

local program = io.popen("readlink /proc/$PPID/exe"):read("l"):gsub("/lumen$", "/shim_check")

local function run(name)
  local pipe = assert(io.popen(("%s %s 2>&1"):format(program, name)))
  local text = pipe:read("a")
  pipe:close()
  return text
end

TestShim = {}

function TestShim:test_right_kernels_are_fine()
  lu.assertEquals(run "sum", "fine: 32640 1\n")
  lu.assertEquals(run "sum_warps", "fine: 32640 1\n")
  lu.assertEquals(run "increment", "fine: 1 2\n")
end

function TestShim:test_missing_barrier()
  lu.assertStrContains(run "no_barrier", "demo: kernel sum gives other bits when its threads")
end

function TestShim:test_two_threads_write_one_place()
  lu.assertStrContains(run "all_write", "in descending order (byte 2 of 1024)")
  lu.assertStrContains(run "blocks_write", "demo: kernel blocks_write gives other bits")
end

function TestShim:test_barrier_that_some_threads_miss()
  lu.assertStrContains(run "divergent",
    "demo: kernel divergent: thread 0 waits at __syncthreads (broken.cu:")
  lu.assertStrContains(run "divergent", "but thread 32 has ended")
  lu.assertStrContains(run "divergent_shuffle", "waits at an exchange of its warp")
end

function TestShim:test_shared_memory_starts_as_nan()
  lu.assertStrContains(run "read_unwritten", "nan 1")
end

function TestShim:test_blocks_are_whole_warps()
  lu.assertStrContains(run "odd_block", "100 threads are no whole warps")
end

-- Memory has exactly the size asked for, so the sanitizer sees each step outside.
function TestShim:test_index_off_by_one()
  if not helper.sanitized then lu.skip("found by AddressSanitizer only: run.sh --sanitize") end
  for _, name in ipairs { "read_behind", "read_before", "write_shared_behind" } do
    local text = run(name)
    local found = text:find "heap%-buffer%-overflow" or text:find "index 256 out of bounds"
    lu.assertNotNil(found, text)
    lu.assertStrContains(text, "broken.cu:")
  end
end

TestDevice = {}

local function there(values, dtype) return lumen.tensor(values, { dtype = dtype, device = "shim" }) end

function TestDevice:test_memory_is_counted_and_given_back()
  local before = lumen.memory("shim").live
  local x = there { 1, 2, 3 }
  lu.assertEquals(lumen.memory("shim").live, before + 12)
  x:release()
  lu.assertEquals(lumen.memory("shim").live, before)
end

function TestDevice:test_devices_do_not_mix()
  lu.assertErrorMsgContains("add: y is on cpu but the others are on shim",
    lumen.add, there { 1 }, lumen.ones(1))
end

-- A kernel cannot raise an error: whoever reads next gets it, once.
function TestDevice:test_index_out_of_range()
  local x, index = there { 1, 2, 3 }, there({ 0, 3 }, "i64")
  local y = x:index_select(index, { dim = 1 })
  lu.assertErrorMsgContains("index_select: the index holds a position outside its range",
    y.totable, y)
  lu.assertEquals(x:totable(), { 1, 2, 3 })
end

function TestDevice:test_training_follows_the_cpu()
  local function train(device)
    lumen.seed(3)
    local model = lumen.nn.Mlp(6, 16)
    model:initialize(1)
    local x = lumen.randn({ 8, 6 }, { rng = { seed = 5 } }):to(device)
    local rate, losses = lumen.tensor(0.1, { device = device }), {}
    model:to(device)
    for step = 1, 5 do
      local loss = (model(x) - 1):square():mean()
      loss:backward()
      losses[step] = loss:item()
      lumen.no_grad(function()
        for _, p in ipairs(model:parameters()) do
          p:detach():add_(p.grad * rate, { scale = -1 })
          p:zero_grad()
        end
      end)
    end
    return losses
  end
  local here, there_too = train "cpu", train "shim"
  lu.assertTrue(here[5] < 0.8 * here[1])
  for step = 1, 5 do lu.assertAlmostEquals(there_too[step], here[step], 1e-5) end
end

helper.run()
