-- Runs in steps, as at the prompt: waiting and going on, errors, changed options and functions,
-- reload.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local rows, weights = helper.log_rows, helper.weights
local runs = require "lumen.run"
local session = require "lumen.run.session"
local nn = lumen.nn

io.stderr:setvbuf("full")

-- A small recipe with everything random in it. hook(count, run, batch) runs in every batch.
local function toy(hook)
  local recipe = lumen.recipe {
    name = "toy", about = "For the tests.",
    options = { { "size", 32 }, { "images", 10 }, { "batch", 2 }, { "epochs", 3 }, { "lr", 1.0 },
                { "workers", 1 }, { "scale", 1.0, "of the loss" } },
    presets = { smoke = { steps = 2 } },
  }
  recipe.noise = function(rng) return lumen.rand({ 1 }, { rng = rng }):item() end
  local count = 0
  function recipe:run(o, run)
    local source, subset = lumen.data.source("phantom", { split = "train", count = o.images })
    run.loader = lumen.data.loader { source = source, subset = subset, batch = o.batch,
      size = o.size, seed = o.seed, threads = o.workers, shuffle = true, drop_last = true,
      crop = { scale = { 0.3, 1 } }, flip = 0.5, mean = lumen.data.mean, std = lumen.data.std }
    run.model = nn.Sequential { nn.Conv2d(3, 4, 3, { padding = 1 }), nn.BatchNorm2d(4),
      lumen.relu, nn.Dropout(0.3), nn.Conv2d(4, 1, 3, { padding = 1 }) }
    run.model:initialize(o.seed)
    run.optimizer = lumen.optim.adamw(run.model, { weight_decay = 0.1 })
    for epoch in run:epochs() do
      for batch in run:batches(epoch) do
        count = count + 1
        if hook then hook(count, run, batch) end
        local noise = self.noise(run.rng)
        local l = lumen.loss.bce_with_logits(run.model(batch.image), batch.mask)
        run:step(o.scale * l + 0.01 * noise, { noise = noise })
      end
    end
    return { loss = run.state.loss }
  end
  return recipe
end

-- Ctrl-C, as the terminal sends it. (os.execute would ignore it in this process.)
local function press() io.popen("kill -INT $PPID"):close() end

local function press_at(...)
  local at = {}
  for _, n in ipairs { ... } do at[n] = true end
  return function(count) if at[count] then press() end end
end

local function assert_equal_runs(a, b)
  lu.assertEquals(rows(a), rows(b))
  lu.assertEquals(weights(a), weights(b))
end

TestSession = {}

function TestSession:setUp()
  self.dir = helper.temporary_folder()
  self.said, self.errors = {}, {}
  session.say = function(text) table.insert(self.said, text) end
  session.complain = function(text) table.insert(self.errors, text) end
end

function TestSession:tearDown()
  session.say, session.complain = nil, nil
  helper.remove_folder(self.dir)
end

-- Ctrl-C, looking around, going on: the same bits as without.
function TestSession:test_an_interrupted_run_equals_the_uninterrupted_one()
  local whole, part = self.dir .. "/whole", self.dir .. "/part"
  runs.execute(toy(), { out = whole })
  local run = toy(press_at(1, 4, 5, 11, 15)):start { out = part }
  local stops = {}
  while run.status == "paused" do
    stops[#stops + 1] = run.step_count
    lu.assertEquals(run.loss, run.loss)
    lu.assertEquals(run.batch.image.shape, { 2, 3, 32, 32 })
    lumen.seed(77)
    lumen.randn(5)
    run.model:eval()(run.batch.image):sum():backward()
    run.model:train():zero_grad()
    lumen.threads(1)
    run:continue()
  end
  lu.assertEquals(stops, { 1, 4, 5, 11, 15 })
  lu.assertEquals(run.status, "finished")
  lu.assertEquals(lumen.seed(), 77) -- and the session's own state is kept
  lu.assertEquals(self.errors, {})
  assert_equal_runs(part, whole)
  lu.assertEquals(lumen.json.decode(lumen.fs.read(part .. "/result.json")).metrics.loss,
    run.metrics.loss)
end

function TestSession:test_accumulation_waits_for_whole_steps()
  local whole, part = self.dir .. "/whole", self.dir .. "/part"
  runs.execute(toy(), { out = whole, accumulate = 2 })
  local run = toy(press_at(3)):start { out = part, accumulate = 2 }
  lu.assertEquals({ run.status, run.step_count, run.waiting }, { "paused", 2, 0 })
  run:continue()
  assert_equal_runs(part, whole)
end

function TestSession:test_steps_and_more_of_them()
  local run = toy():start { out = self.dir .. "/a", steps = 4 }
  lu.assertEquals({ run.status, run.step_count }, { "paused", 4 })
  lu.assertStrContains(tostring(run), "paused at step 4 of 4")
  run:continue()
  lu.assertEquals({ run.status, run.step_count }, { "paused", 8 })
  run:continue { steps = 10 }
  lu.assertEquals({ run.status, run.step_count }, { "paused", 10 })
  lu.assertErrorMsgContains("is at step 10", run.continue, run, { steps = 3 })
  lu.assertErrorMsgContains("no option 'step'", run.continue, run, { step = 3 })
  local metrics = run:finish()
  lu.assertEquals(run.status, "finished")
  lu.assertEquals(metrics.loss, rows(self.dir .. "/a")[10].loss)
  lu.assertErrorMsgContains("has finished", run.continue, run)
end

function TestSession:test_finish_in_the_middle()
  local run = toy(press_at(3)):start { out = self.dir .. "/a" }
  lu.assertEquals(run:finish().loss, rows(self.dir .. "/a")[3].loss)
  lu.assertEquals(#rows(self.dir .. "/a"), 3)
end

function TestSession:test_a_replaced_function_is_used()
  local recipe, calls = toy(), 0
  local run = recipe:start { out = self.dir .. "/a", steps = 2 }
  recipe.noise = function() calls = calls + 1 return 0.5 end
  run:continue()
  lu.assertEquals(calls, 2)
  lu.assertEquals(rows(self.dir .. "/a")[4].noise, 0.5)
end

function TestSession:test_an_error_leaves_the_run_to_look_at()
  local whole, part = self.dir .. "/whole", self.dir .. "/part"
  runs.execute(toy(), { out = whole })
  local recipe = toy()
  local noise, broken = recipe.noise, true
  local calls = 0
  recipe.noise = function(rng)
    calls = calls + 1
    if calls == 7 and broken then error("my bug") end
    return noise(rng)
  end
  local run = recipe:start { out = part }
  lu.assertEquals(run.status, "failed")
  lu.assertStrContains(self.errors[1], "my bug")
  lu.assertStrContains(run.trace, "session_test.lua")
  lu.assertEquals(run.batch.image.shape, { 2, 3, 32, 32 })
  lu.assertEquals(run.step_count, 6)
  broken = false
  run:continue() -- from a checkpoint of step 6
  lu.assertEquals(run.status, "finished")
  assert_equal_runs(part, whole)
end

function TestSession:test_options_may_change()
  local run = toy():start { out = self.dir .. "/a", steps = 3 }
  run:continue { scale = 0.0 }
  lu.assertEquals({ run.status, run.step_count, run.o.scale }, { "paused", 6, 0.0 })
  local row = rows(self.dir .. "/a")[5]
  lu.assertAlmostEquals(row.loss, 0.01 * row.noise, 1e-6)
  lu.assertStrContains(lumen.fs.read(self.dir .. "/a/options.lua"), "-- step 3: scale was 1.0")
  lu.assertEquals(dofile(self.dir .. "/a/options.lua").scale, 0.0)
  lu.assertErrorMsgContains("cannot be changed", run.continue, run, { out = "x" })
end

function TestSession:test_a_new_loop_begins_from_what_is_in_memory()
  local recipe = toy()
  local run = recipe:start { out = self.dir .. "/a", steps = 3 }
  local before = run.model:state_dict()["0.weight"]:totable()
  local seen
  local loop = recipe.run
  recipe.run = function(self, o, r)
    local epochs = r.epochs
    r.epochs = function(...)
      local iterator = epochs(...)
      seen = r.model:state_dict()["0.weight"]:totable()
      return iterator
    end
    return loop(self, o, r)
  end
  run:continue()
  lu.assertEquals(run.step_count, 6)
  lu.assertEquals(seen, before)
end

function TestSession:test_a_stage_can_be_stopped_too()
  local inner, outer = toy(press_at(2)), lumen.recipe { name = "outer", about = "For the tests." }
  function outer:run(_, run)
    local metrics = run:stage("one", inner, { steps = 4 })
    return { loss = metrics.loss }
  end
  local run = outer:start { out = self.dir .. "/a" }
  lu.assertEquals({ run.status, run.inner.step_count }, { "paused", 2 })
  lu.assertStrContains(tostring(run), "in its stage toy at step 2 of 4")
  run:continue()
  lu.assertEquals(run.status, "finished")
  lu.assertEquals(run.metrics.loss, rows(self.dir .. "/a/stages/one")[4].loss)
end

function TestSession:test_the_second_press_stops_at_once()
  local run = toy(function(count)
    if count == 3 then
      press()
      press()
      while true do end
    end
  end):start { out = self.dir .. "/a" }
  lu.assertEquals(run.status, "failed")
  lu.assertStrContains(self.errors[1], "interrupted")
  lumen._interrupt.begin()
  run:continue()
  lu.assertEquals({ run.status, #rows(self.dir .. "/a") }, { "finished", 15 })
end

-- The lock on the directory ends with the run: closed, or forgotten.
function TestSession:test_the_directory_is_released()
  local dir = self.dir .. "/a"
  local run = toy():start { out = dir, steps = 1 }
  local other = toy()
  lu.assertErrorMsgContains("in use", other.start, other, { out = dir, resume = true })
  run:close()
  lu.assertErrorMsgContains("it was closed", run.continue, run)
  run = other:start { out = dir, resume = true, steps = 1 }
  lu.assertNotNil(run)
  run = nil -- luacheck: ignore
  run = toy():start { out = dir, resume = true, steps = 1 }
  run:close()
end

-- In a script an error is an error, and Ctrl-C ends it with a checkpoint.
function TestSession:test_scripts_see_errors()
  session.say, session.complain = nil, nil
  local recipe = toy()
  recipe.noise = function() error("my bug") end
  lu.assertErrorMsgContains("my bug", recipe.start, recipe, { out = self.dir .. "/a" })
  recipe = toy(press_at(2))
  local ok, e = pcall(recipe.start, recipe, { out = self.dir .. "/b" })
  lu.assertEquals({ ok, e.code }, { false, 130 })
  lu.assertEquals(lumen.fs.list(self.dir .. "/b/checkpoints"), { "step_2" })
end

function TestSession:test_settings_of_a_recipe()
  local recipe = toy():set { steps = 3 }:set { scale = 0.5 }
  lu.assertStrContains(tostring(recipe), "scale=0.5 steps=3")
  local run = recipe:start { out = self.dir .. "/a", preset = "smoke" }
  lu.assertEquals({ run.o.steps, run.o.scale }, { 3, 0.5 })
  run:close()
  lu.assertEquals(recipe:start({ out = self.dir .. "/b", steps = 1 }).o.steps, 1)
  lu.assertErrorMsgContains("did you mean scale", recipe.set, recipe, { scael = 1 })
  lu.assertErrorMsgContains("is not a number", recipe.set, recipe, { scale = "x" })
end

-- ---- reload --------------------------------------------------------------------------------------

TestReload = {}

function TestReload:setUp()
  self.dir = helper.temporary_folder()
  self.path = package.path
  package.path = self.dir .. "/?.lua;" .. package.path
end

function TestReload:tearDown()
  package.path = self.path
  package.loaded.mine = nil
  helper.remove_folder(self.dir)
end

local source = [[
local lumen = require "lumen"
local r = lumen.recipe { name = "mine", about = "For the tests.", options = { { "a", %d } } }
function r.value() return %d end
function r:run(o) return { value = self.value() } end
return r
]]

function TestReload:test_a_recipe()
  local file = self.dir .. "/mine.lua"
  lumen.fs.write(file, source:format(1, 10))
  local recipe = lumen.recipe(file):set { seed = 5 }
  lumen.fs.write(file, source:format(2, 20))
  lumen.reload(recipe)
  lu.assertEquals({ recipe.value(), recipe.rows[1][2], recipe.settings.seed }, { 20, 2, 5 })
  lumen.fs.write(file, source:format(3, 30))
  lumen.reload(file)
  lu.assertEquals(recipe.value(), 30)
  for _, broken in ipairs { "x = = 1", "error('no')", "return 5" } do
    lumen.fs.write(file, broken)
    lu.assertFalse((pcall(lumen.reload, recipe)))
    lu.assertEquals(recipe.value(), 30)
  end
end

local module = [[
local mine = { count = 0, Class = { name = "Class" } }
mine.Class.__index = mine.Class
local function helper() return %d end
function mine.Class:get() return self.held + helper() end
function mine.new() return setmetatable({ held = 100 }, mine.Class) end
function mine.bump() mine.count = mine.count + helper() return mine.count end
function mine.gone() end
return mine
]]

function TestReload:test_a_module_keeps_its_state()
  local file = self.dir .. "/mine.lua"
  lumen.fs.write(file, module:format(1))
  local mine = require "mine"
  local object = mine.new()
  lu.assertEquals({ mine.bump(), object:get() }, { 1, 101 })
  lumen.fs.write(file, (module:format(10):gsub("function mine.gone%(%) end", "")))
  lumen.reload "mine"
  lu.assertEquals({ mine.bump(), object:get(), mine.gone }, { 11, 110, nil })
  lu.assertEquals(getmetatable(mine.new()), getmetatable(object))
  lumen.fs.write(file, module:format(5))
  lumen.reload(file)
  lu.assertEquals({ mine.bump(), object:get() }, { 16, 105 })
  lumen.fs.write(file, module:format(7))
  lumen.reload(mine)
  lu.assertEquals(mine.bump(), 23)
  lumen.fs.write(file, "return {")
  lu.assertErrorMsgContains("mine.lua", lumen.reload, mine)
  lu.assertEquals(mine.bump(), 30)
end

function TestReload:test_what_was_never_loaded()
  lu.assertErrorMsgContains("no module", lumen.reload, "no_such_module")
  lu.assertErrorMsgContains("no file", lumen.reload, "no/such.lua")
  lu.assertErrorMsgContains("nothing was loaded from", lumen.reload, "tests/layout_test.lua")
  lu.assertErrorMsgContains("not loaded from a file", lumen.reload, {})
  lu.assertErrorMsgContains("not a number", lumen.reload, 5)
end

helper.run()
