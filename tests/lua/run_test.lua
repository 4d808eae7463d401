-- Runs: directories, checkpoints, logs, and that a resumed run equals the uninterrupted one.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local rows, weights = helper.log_rows, helper.weights
local runs = require "lumen.run"
local nn = lumen.nn

io.stderr:setvbuf("full")

-- A small recipe with dropout, batch norm and augmentation. stop_at: raise in that batch;
-- poison: make the loss of these batches not a number.
local function toy(stop_at, poison)
  local recipe = lumen.recipe {
    name = "toy", about = "For the tests.",
    options = { { "size", 32 }, { "images", 10 }, { "batch", 2 }, { "epochs", 3 },
                { "lr", 1.0 }, { "workers", 1 } },
  }
  function recipe:run(o, run)
    local source, subset = lumen.data.source("phantom", { split = "train", count = o.images })
    run.loader = lumen.data.loader { source = source, subset = subset, batch = o.batch,
      size = o.size, seed = o.seed, threads = o.workers, shuffle = true, drop_last = true,
      crop = { scale = { 0.3, 1 } }, flip = 0.5, mean = lumen.data.mean, std = lumen.data.std }
    run.model = nn.Sequential { nn.Conv2d(3, 4, 3, { padding = 1 }), nn.BatchNorm2d(4),
      lumen.relu, nn.Dropout(0.3), nn.Conv2d(4, 1, 3, { padding = 1 }) }
    run.model:initialize(o.seed)
    run.optimizer = lumen.optim.adamw(run.model, { weight_decay = 0.1 })
    local count = 0
    for epoch in run:epochs() do
      for batch in run:batches(epoch) do
        count = count + 1
        if count == stop_at then error("stopped on purpose") end
        local noise = lumen.rand({ 1 }, { rng = run.rng }):item()
        local l = lumen.loss.bce_with_logits(run.model(batch.image), batch.mask)
        if poison and poison[count] then l = l * (0 / 0) end
        run:step(l + 0.01 * noise, { noise = noise })
      end
    end
    return { loss = run.state.loss }
  end
  return recipe
end

local function start(recipe, values)
  return runs.execute(recipe, values)
end

TestRun = {}

function TestRun:setUp() self.dir = helper.temporary_folder() end
function TestRun:tearDown() helper.remove_folder(self.dir) end

function TestRun:test_files_of_a_run()
  local dir = self.dir .. "/a"
  local metrics = start(toy(), { out = dir })
  local result = lumen.json.decode(lumen.fs.read(dir .. "/result.json"))
  lu.assertEquals(result.finished, true)
  lu.assertEquals(result.metrics.loss, metrics.loss)
  local log = rows(dir)
  lu.assertEquals(#log, 15)
  lu.assertEquals(log[15].step, 15)
  lu.assertEquals(log[15].epoch, 3)
  lu.assertEquals(lumen.fs.list(dir .. "/checkpoints"), { "step_10", "step_15" })
  lu.assertNotNil(lumen.json.decode(lumen.fs.read(dir .. "/env.json")).threads)
  local o = dofile(dir .. "/options.lua")
  lu.assertEquals(o.images, 10)
  local line = io.lines(dir .. "/log.jsonl")()
  lu.assertStrContains(line, ('"lr": %.17g'):format(log[1].lr))
end

function TestRun:test_resumed_equals_uninterrupted()
  local whole = self.dir .. "/whole"
  start(toy(), { out = whole })
  local expected, final = rows(whole), weights(whole)
  for _, case in ipairs { { 1, 0 }, { 2, 0 }, { 4, 1 }, { 6, 0 }, { 9, 2 }, { 15, 4 } } do
    local dir = ("%s/part_%d"):format(self.dir, case[1])
    local ok, message = pcall(start, toy(case[1]), { out = dir, save_every = case[2] })
    lu.assertFalse(ok)
    lu.assertStrContains(tostring(message), "on purpose")
    start(toy(), { out = dir, resume = true })
    lu.assertEquals(rows(dir), expected)
    lu.assertEquals(weights(dir), final)
  end
end

function TestRun:test_resumed_with_accumulation()
  local whole, dir = self.dir .. "/whole", self.dir .. "/part"
  start(toy(), { out = whole, accumulate = 2 })
  lu.assertEquals(#rows(whole), 7) -- 15 batches
  pcall(start, toy(8), { out = dir, accumulate = 2 })
  start(toy(), { out = dir, resume = true })
  lu.assertEquals(rows(dir), rows(whole))
  lu.assertEquals(weights(dir), weights(whole))
end

function TestRun:test_steps_instead_of_epochs()
  start(toy(), { out = self.dir .. "/a", steps = 7 })
  lu.assertEquals(#rows(self.dir .. "/a"), 7)
end

function TestRun:test_directory_rules()
  local dir = self.dir .. "/a"
  start(toy(), { out = dir, steps = 1 })
  lu.assertErrorMsgContains("is not empty", start, toy(), { out = dir })
  lu.assertErrorMsgContains("cannot change", start, toy(), { out = dir, resume = true, seed = 3 })
  lu.assertEquals(start(toy(), { out = dir, resume = true }).loss, rows(dir)[1].loss)
  lumen.fs.write(self.dir .. "/file", "x")
  lu.assertErrorMsgContains("not a directory", start, toy(), { out = self.dir .. "/file" })
  local fresh = self.dir .. "/fresh"
  lumen.fs.mkdir(fresh)
  local lock = lumen.fs.lock(fresh .. "/lock")
  lu.assertErrorMsgContains("in use", start, toy(), { out = fresh, resume = true })
  lock:release()
  start(toy(), { out = fresh, resume = true, steps = 1 }) -- no checkpoint: from the start
  lu.assertEquals(#rows(fresh), 1)
end

function TestRun:test_torn_log_line_is_cut()
  local dir = self.dir .. "/a"
  pcall(start, toy(6), { out = dir, save_every = 3 })
  local file = io.open(dir .. "/log.jsonl", "a")
  file:write('{"epoch": 2, "step": 6, "lo')
  file:close()
  start(toy(), { out = dir, resume = true })
  local steps = {}
  for i, row in ipairs(rows(dir)) do steps[i] = row.step end
  lu.assertEquals(steps, { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 })
end

function TestRun:test_half_written_checkpoint_is_ignored()
  local dir = self.dir .. "/a"
  pcall(start, toy(6), { out = dir, save_every = 2 })
  lumen.fs.mkdir(dir .. "/checkpoints/writing")
  lumen.fs.write(dir .. "/checkpoints/writing/model.safetensors", "torn")
  start(toy(), { out = dir, resume = true })
  lu.assertEquals(lumen.fs.list(dir .. "/checkpoints"), { "step_14", "step_15" })
end

function TestRun:test_non_finite_steps_are_skipped_and_counted()
  local dir = self.dir .. "/a"
  start(toy(nil, { [3] = true, [4] = true }), { out = dir })
  local log = rows(dir)
  lu.assertEquals(#log, 15)
  lu.assertTrue(log[3].skipped)
  lu.assertNil(log[5].skipped)
  local all = {}
  for i = 1, 100 do all[i] = true end
  lu.assertErrorMsgContains("not finite in 20 steps in a row", start, toy(nil, all),
    { out = self.dir .. "/b", epochs = 10 })
end

function TestRun:test_stages_run_once()
  local count, outer = 0, lumen.recipe { name = "outer", about = "For the tests." }
  local inner = lumen.recipe { name = "inner", about = "For the tests." }
  function inner:run(o) count = count + 1 return { value = o.seed } end
  function outer:run(_, run)
    local a, dir = run:stage("one", inner, { seed = 7 })
    local b = run:stage("one", inner, { seed = 7 })
    lu.assertEquals(dir, run.dir .. "/stages/one")
    return { one = { value = a.value, again = b.value } }
  end
  start(outer, { out = self.dir .. "/a" })
  lu.assertEquals(count, 1)
  local result = lumen.json.decode(lumen.fs.read(self.dir .. "/a/result.json"))
  lu.assertEquals(result.one, { value = 7, again = 7 })
  lu.assertEquals(result.metrics.one.value, 7)
end

-- The program itself: killed in the middle of VasoMIM, then continued from the command line.
TestProgram = {}

local function program()
  local pipe = io.popen("readlink /proc/$PPID/exe")
  local path = pipe:read("l")
  pipe:close()
  return path
end

function TestProgram:setUp() self.dir = helper.temporary_folder() end
function TestProgram:tearDown() helper.remove_folder(self.dir) end

local killer = [[
local loss, count = require("lumen").loss, 0
local masked_mse = loss.masked_mse
function loss.masked_mse(...)
  count = count + 1
  if count == %d then os.execute("kill -%s $PPID") end
  return masked_mse(...)
end
return dofile("recipes/vasomim.lua")
]]

function TestProgram:test_kill_and_resume()
  local lua, dir = program(), self.dir
  local options = "preset=smoke threads=1 save_every=1"
  local function sh(text, ...)
    return select(3, os.execute(text:format(...) .. " >/dev/null 2>&1"))
  end
  lu.assertEquals(sh("%s recipes/vasomim.lua %s out=%s/whole", lua, options, dir), 0)
  for signal, code in next, { KILL = 137, TERM = 143 } do
    local out = dir .. "/" .. signal
    lumen.fs.write(dir .. "/killer.lua", killer:format(3, signal))
    lu.assertEquals(sh("%s %s/killer.lua %s out=%s", lua, dir, options, out), code)
    lu.assertNil(lumen.fs.stat(out .. "/result.json"))
    lu.assertEquals(sh("%s recipes/vasomim.lua out=%s resume=true", lua, out), 0)
    lu.assertEquals(rows(out), rows(dir .. "/whole"))
    lu.assertEquals(weights(out), weights(dir .. "/whole"))
  end
end

function TestProgram:test_errors_have_codes()
  local lua = program()
  local function code(text) return select(3, os.execute(lua .. " " .. text .. " >/dev/null 2>&1")) end
  lu.assertEquals(code("recipes/vasomim.lua mask_rato=1"), 1)
  lu.assertEquals(code("--nothing"), 2)
  lu.assertEquals(code("recipes/vasomim.lua --help"), 0)
  lu.assertEquals(code("-e 'x = 1'"), 0)
  lu.assertEquals(code("-e 'return y'"), 1)
end

helper.run()
