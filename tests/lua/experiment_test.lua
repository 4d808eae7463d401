-- experiment_test.lua: planning (grids, rows, references, keys), running (each stage once,
-- failures), statistics and tables. The recipes here only calculate, they train nothing.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local statistics = require "lumen.experiment.statistics"

-- score = score of init + factor + 0.01 seed; fails while the file `fuse` is there and factor
-- is 0.5. Ten test images whose scores differ by the seed and the image alone.
local toy = [[
local lumen = require "lumen"
local toy = lumen.recipe { name = "toy", about = "For the tests.", options = {
  { "factor", 1.0, "added", min = 0 }, { "labels", "all", "text" }, { "table", true, "images.csv" },
  { "fuse", "", "file" } } }
function toy:run(o, run)
  if o.factor == 0.5 and o.fuse ~= "" and lumen.fs.exists(o.fuse) then
    print("line before the end")
    error("it broke on purpose", 0)
  end
  local score = o.factor + 0.01 * o.seed
  if o.init ~= "" then
    score = score + lumen.json.decode(lumen.fs.read(o.init .. "/result.json")).metrics.score
  end
  if o.table then
    local rows = { "image,score,missing" }
    for i = 1, 10 do rows[i + 1] = ('"a ""%d"", b",%.17g,'):format(i, score + 0.001 * (i - 5.5)) end
    lumen.fs.write(run.dir .. "/images.csv", table.concat(rows, "\n") .. "\n")
  end
  return { score = score, constant = 2 }
end
return toy
]]

local Base = {}

function Base:setUp()
  self.dir = helper.temporary_folder()
  self.file = self.dir .. "/toy.lua"
  lumen.fs.write(self.file, toy)
end

function Base:tearDown() helper.remove_folder(self.dir) end

-- pre -> fine over three factors, and fine alone.
function Base:make(changes)
  local e = { name = "toys", about = "Does it add up?", report = { "score" },
    stages = { { name = "pre", recipe = self.file, grid = { { "factor", { 0.25, 0.5, 0.75 } } } },
               { name = "fine", recipe = self.file, options = { init = "@pre" } } },
    rows = { { "alone", fine = { options = { init = "" } } }, { "both" } }, seeds = { 0, 1 } }
  for key, value in next, changes or {} do e[key] = value end
  return e
end

function Base:plan(changes, overrides)
  overrides = overrides or {}
  table.insert(overrides, { "out", self.dir .. "/out" })
  return lumen.experiment(self:make(changes)):plan(overrides)
end

function Base:run(changes, overrides)
  overrides = overrides or {}
  for _, pair in ipairs { { "out", self.dir .. "/out" }, { "threads", 1 } } do
    table.insert(overrides, pair)
  end
  local kept = { io.stdout, io.stderr }
  local quiet = io.open(self.dir .. "/screen", "a")
  io.stdout, io.stderr = quiet, quiet
  local ok, complete = pcall(function()
    return (lumen.experiment(self:make(changes)):start(overrides))
  end)
  io.stdout, io.stderr = kept[1], kept[2]
  quiet:close()
  if not ok then error(complete, 0) end
  return complete
end

function Base:screen() return lumen.fs.read(self.dir .. "/screen") end
function Base:read(name) return lumen.fs.read(self.dir .. "/out/" .. name) end

local function labels(p)
  local list = {}
  for i, row in ipairs(p.rows) do list[i] = row.label end
  return list
end

local function keys(p)
  local list = {}
  for i, task in ipairs(p.tasks) do list[i] = task.key end
  return list
end

local function class(name)
  local new = setmetatable({}, { __index = Base })
  new.setUp, new.tearDown = Base.setUp, Base.tearDown
  _G[name] = new
  return new
end

-- ---- planning -------------------------------------------------------------------------------

local TestPlan = class "TestPlan"

function TestPlan:test_rows_cells_and_tasks()
  local p = self:plan()
  lu.assertEquals(labels(p), { "alone", "both factor=0.25", "both factor=0.5", "both factor=0.75" })
  lu.assertEquals(#p.cells, 8)
  lu.assertEquals(#p.tasks, 2 + 6 + 6) -- alone needs no pre
  lu.assertEquals(p.rows[1].settings, { factor = "" })
  lu.assertEquals(p.rows[3].baseline, p.rows[1])
end

function TestPlan:test_grids_multiply_and_stages_are_shared()
  local p = self:plan { rows = false, stages = {
    { name = "pre", recipe = self.file, grid = { { "factor", { 1, 2 } } } },
    { name = "fine", recipe = self.file, options = { init = "@1" },
      grid = { { "labels", { "5", "10" } }, { "factor", { 3, 4 } } } } } }
  lu.assertEquals(labels(p)[1], "pre.factor=1 labels=5 fine.factor=3")
  lu.assertEquals(labels(p)[8], "pre.factor=2 labels=10 fine.factor=4")
  lu.assertEquals(#p.tasks, 2 * 2 + 2 * 8)
end

function TestPlan:test_a_grid_over_a_whole_stage()
  local p = self:plan { rows = false, stages = {
    { name = "pre", recipe = self.file },
    { name = "fine", recipe = self.file, grid = { { "init", { "", "@pre" } } } } } }
  lu.assertEquals(labels(p), { "all", "init=@pre" })
  lu.assertEquals(#p.tasks, 2 + 2) -- pre, and fine without init, are one and the same
end

function TestPlan:test_functions_of_the_options()
  local p = self:plan({ options = { { "most", 2, "factors" } }, rows = false,
    stages = function(o)
      local values = {}
      for i = 1, o.most do values[i] = i end
      return { { name = "one", recipe = self.file, grid = { { "factor", values } } } }
    end }, { { "most", "4" } })
  lu.assertEquals(#p.rows, 4)
end

function TestPlan:test_seed_and_preset_reach_the_stages()
  local p = self:plan({ rows = false, stages = { { name = "one", recipe = self.file,
    options = { labels = "@seed" } } } }, { { "seeds", "7" } })
  lu.assertItemsEquals(p.tasks[1].arguments, { "seed=7", "labels=7" })
  p = self:plan({ rows = false, stages = { { name = "one", recipe = "vasomim",
    options = { seed = 3 } } } }, { { "preset", "tiny" } })
  lu.assertItemsEquals(p.tasks[1].arguments, { "seed=3", "preset=tiny" })
  lu.assertEquals(#p.tasks, 1) -- all seeds are the same stage
end

function TestPlan:test_options_of_stages_from_outside()
  local p = self:plan(nil, { { "pre.factor", "2,3" } })
  lu.assertEquals(labels(p), { "alone", "both factor=2", "both factor=3" })
  p = self:plan(nil, { { "pre.factor", "2" } })
  lu.assertEquals(labels(p), { "alone", "both" })
  p = self:plan(nil, { { "fine.labels", "5,10" }, { "pre.factor", "2" } })
  lu.assertEquals(labels(p), { "alone labels=5", "alone labels=10", "both labels=5",
                               "both labels=10" })
  local function fails(name, value, text)
    lu.assertErrorMsgContains(text, self.plan, self, nil, { { name, value } })
  end
  fails("prre.factor", "1", "did you mean pre?")
  fails("pre.facto", "1", "did you mean factor?")
  fails("pre.factor", "1,x", "option factor: x is not a number")
  fails("retri", "true", "did you mean retry?")
end

function TestPlan:test_baseline_with_equal_other_axes()
  local p = self:plan { baseline = "alone", stages = {
    { name = "pre", recipe = self.file },
    { name = "fine", recipe = self.file, options = { init = "@pre" },
      grid = { { "labels", { "5", "10" } } } } } }
  lu.assertEquals(p.rows[4].label, "both labels=10")
  lu.assertEquals(p.rows[4].baseline.label, "alone labels=10")
  p = self:plan { baseline = { "both", factor = 0.5 } }
  lu.assertEquals(p.rows[1].baseline.label, "both factor=0.5")
end

function TestPlan:test_keys()
  local before = keys(self:plan())
  lu.assertEquals(keys(self:plan(nil, { { "threads", 5 }, { "jobs", 3 } })), before)
  local changed = keys(self:plan(nil, { { "fine.labels", "5" } }))
  lu.assertNotEquals(changed[1], before[1]) -- fine alone
  lu.assertEquals(changed[3], before[3])    -- pre
  local p = self:plan()
  lu.assertNotEquals(p.tasks[4].key, p.tasks[6].key) -- fine after different pre
end

function TestPlan:test_keys_follow_files_and_code()
  local probe = self.dir .. "/probe.lua"
  lumen.fs.write(probe, ([[
    local lumen = require "lumen"
    local e = lumen.experiment { name = "x", about = "x", report = { "score" },
      stages = { { recipe = %q, options = { init = %q } } } }
    io.write(e:plan({ seeds = "0" }).tasks[1].key)]]):format(self.file, self.dir .. "/weights"))
  local function key()
    local pipe = io.popen(("%s %s"):format(lumen.process.program(), probe))
    local text = pipe:read("a")
    pipe:close()
    lu.assertEquals(#text, 16)
    return text
  end
  lumen.fs.write(self.dir .. "/weights", "one")
  local first = key()
  lumen.fs.write(self.file, "-- a comment\n" .. toy)
  lu.assertEquals(key(), first)
  lumen.fs.write(self.file, (toy:gsub("  run", "  run --[=[ a long\n one ]=] ")))
  lu.assertEquals(key(), first)
  lumen.fs.write(self.file, (toy:gsub("constant = 2", "constant = 3")))
  lu.assertNotEquals(key(), first)
  lumen.fs.write(self.file, toy)
  lu.assertEquals(key(), first)
  lumen.fs.write(self.dir .. "/weights", "two")
  lu.assertNotEquals(key(), first)
end

function TestPlan:test_code_without_comments()
  local essence = require("lumen.experiment.code").essence
  lu.assertEquals(essence 'a  = "-- no" -- yes\n\n b = [[ -- no]] --[[ x\n y ]]c="\\"--"'
    .. " d-e [==[ ]] --]==]", 'a = "-- no" b = [[ -- no]] c="\\"--" d-e [==[ ]] --]==]')
  lu.assertEquals(essence "x --'", "x")
  lu.assertEquals(essence '--"\nx', "x")
end

function TestPlan:test_errors_name_the_place()
  local function fails(text, changes)
    lu.assertErrorMsgContains(text, self.plan, self, changes)
  end
  local file = self.file
  local function stages(second, first)
    return { rows = false, stages = { first or { name = "pre", recipe = file }, second } }
  end
  fails("experiment toys, stage 2 (fine): there is no recipe vasomin",
    stages { name = "fine", recipe = "vasomin" })
  fails("stage 2 (fine), grid: recipe toy has no option 'faktor'\nhint: did you mean factor?",
    stages { name = "fine", recipe = file, grid = { { "faktor", { 1 } } } })
  fails("stage 2 (fine): recipe toy has no option 'inti'",
    stages { name = "fine", recipe = file, options = { inti = "@1" } })
  fails("stage 2 (fine): option init: @3 is no earlier stage (there are 1 pre)",
    stages { name = "fine", recipe = file, options = { init = "@3" } })
  fails("stage 1 (pre): option init: @fine is no earlier stage (it is the first)",
    stages({ name = "fine", recipe = file, options = { init = "@pre" } },
      { name = "pre", recipe = file, options = { init = "@fine" } }))
  fails("stage 2 (fine), grid: option factor: -1 is not a number from 0 to inf",
    stages { name = "fine", recipe = file, grid = { { "factor", { -1 } } } })
  fails("stage 2 (fine), grid 1: must be { option, { values } }",
    stages { name = "fine", recipe = file, grid = { { "factor", 3 } } })
  fails("stage 2 (fine): there is no 'option' here", stages { name = "fine", recipe = file,
    option = {} })
  fails("stage 2: needs a name of its own, pre is none", stages { name = "pre", recipe = file })
  fails("recipe must be a name or a Lua file", stages { name = "fine", recipe = {} })
  fails("row both: there is no 'fin' here (there are pre, fine)\nhint: did you mean fine?",
    { rows = { { "both", fin = {} } } })
  fails("row 2: needs a name", { rows = { { "both" }, {} } })
  fails("no row is the baseline nothing", { baseline = "nothing" })
  fails("it needs a list of stages", { stages = {} })
  fails("experiment toys: there is no 'stagse' here", { stagse = {} })
  fails("report lists the metrics", { report = {} })
  for _, seeds in ipairs { "1,1", "x", "", "-1", "0.5" } do
    lu.assertErrorMsgContains("option seeds", self.plan, self, nil, { { "seeds", seeds } })
  end
end

-- ---- running --------------------------------------------------------------------------------

local TestRunning = class "TestRunning"

local function events(self, what)
  local count = {}
  for line in io.lines(self.dir .. "/out/events.jsonl") do
    local row = lumen.json.decode(line)
    if row.event == what then count[row.run] = (count[row.run] or 0) + 1 end
  end
  local runs, most = 0, 0
  for _, n in next, count do runs, most = runs + 1, math.max(most, n) end
  return runs, most
end

local expected = [[
# toys

Does it add up?

|       | factor | score           | difference                 |
| ----- | ------ | --------------- | -------------------------- |
| alone |        | 1.0050 ± 0.0071 | baseline                   |
| both  | 0.25   | 1.2600 ± 0.0141 | +0.2550 [+0.2500, +0.2600] |
| both  | 0.5    | 1.5100 ± 0.0141 | +0.5050 [+0.5000, +0.5100] |
| both  | 0.75   | 1.7600 ± 0.0141 | +0.7550 [+0.7500, +0.7600] |

Mean ± standard deviation over the seeds 0, 1.
The difference is to "alone", seed by seed.
In brackets its 95 % confidence interval: paired bootstrap over the 10 test images and the seeds, 2000 samples. With 2 seeds it knows little about other trainings.
]]

function TestRunning:test_table_and_files()
  lu.assertTrue(self:run(nil, { { "jobs", 2 } }))
  lu.assertEquals(self:read "table.md", expected)
  lu.assertStrContains(self:screen(), "| both  | 0.75   | 1.7600 ± 0.0141 |")
  lu.assertStrContains(self:screen(), "[8/8]")
  local lines = {}
  for line in self:read("table.csv"):gmatch("[^\n]+") do lines[#lines + 1] = line end
  lu.assertEquals(lines[1],
    "row,factor,metric,seeds,mean,deviation,baseline,difference,low,high,interval")
  lu.assertEquals(lines[3], "both,0.25,score,2,1.26,0.01414213562,alone,0.255,0.25,0.26,bootstrap")
  lu.assertEquals(#lines, 5)
  lu.assertStrMatches(self:read("cells.csv"):match("\n([^\n]*)\n[^\n]*\n$"),
    "both,0.75,0,stages/fine%-%x+,2,1.75")
  local result = lumen.json.decode(self:read "result.json")
  lu.assertTrue(result.finished)
  lu.assertAlmostEquals(result.metrics["both factor=0.5"].score, 1.51, 1e-12)
  lu.assertAlmostEquals(result.rows[2].score.difference.mean, 0.255, 1e-12)
  lu.assertEquals(result.rows[2].settings, { factor = 0.25 })
end

function TestRunning:test_plot()
  self:run()
  if require("lumen.terminal").program("gnuplot") then
    local svg = self:read "plot.svg"
    for _, text in ipairs { "Does it add up?", "factor", "alone", "both" } do
      lu.assertStrContains(svg, text)
    end
  else
    lu.assertStrContains(self:screen(), "no plot: plot: the program gnuplot is not there")
    lu.skip("no gnuplot")
  end
end

function TestRunning:test_every_stage_runs_once()
  self:run(nil, { { "jobs", 3 } })
  lu.assertEquals({ events(self, "started") }, { 14, 1 })
  lu.assertEquals({ events(self, "finished") }, { 14, 1 })
  lu.assertTrue(self:run()) -- nothing left to do
  lu.assertEquals({ events(self, "started") }, { 14, 1 })
  lu.assertEquals(self:read "table.md", expected)
  self:run(nil, { { "seeds", "0,1,2" } }) -- one more seed: only its stages
  lu.assertEquals({ events(self, "started") }, { 21, 1 })
  lu.assertStrContains(self:screen(), "14 of 21 stages are finished already")
  self:run(nil, { { "pre.factor", "0.25" } })
  lu.assertStrContains(self:screen(), "15 runs in")
end

function TestRunning:test_without_values_per_image()
  self:run({ stages = { { name = "one", recipe = self.file, options = { table = false },
    grid = { { "factor", { 1, 2 } } } } }, rows = false, report = { "score", "constant" } },
    { { "seeds", "0,1,2" } })
  lu.assertStrContains(self:read "table.md", "| 2      | 2.0100 ± 0.0100 | +1.0000 [+1.0000, "
    .. "+1.0000] | 2.0000 ± 0.0000 | 0.0000 [0.0000, 0.0000] |")
  lu.assertStrContains(self:read "table.md", "Student's t over the seeds")
end

-- Values per image whose mean is another than the run's are not believed.
function TestRunning:test_values_per_image_that_do_not_fit()
  lumen.fs.write(self.file, (toy:gsub("i %- 5%.5", "i")))
  self:run()
  lu.assertStrContains(self:read "table.md", "Student's t over the seeds")
end

function TestRunning:test_failures()
  local fuse = self.dir .. "/fuse"
  lumen.fs.write(fuse, "")
  local changes = { stages = {
    { name = "pre", recipe = self.file, options = { fuse = "@seed" },
      grid = { { "factor", { 0.25, 0.5 } } } },
    { name = "fine", recipe = self.file, options = { init = "@pre" } } } }
  changes.stages[1].options.fuse = self.dir .. "/./fuse" -- a file that is there counts by content
  lu.assertFalse(self:run(changes))
  local screen = self:screen()
  lu.assertStrContains(screen, "FAILED pre both factor=0.5 seed 0: ended with code 1")
  lu.assertStrContains(screen, "    line before the end\n    lumen: it broke on purpose")
  lu.assertStrContains(screen, "2 of 6 cells have no result; retry=true")
  lu.assertStrContains(self:read "table.md", "| both  | 0.5    | failed")
  lu.assertStrContains(self:read "table.md", "| both  | 0.25   | 1.2600 ± 0.0141")
  lu.assertFalse(lumen.fs.exists(self.dir .. "/out/result.json"))
  local before = { events(self, "started") }
  lu.assertFalse(self:run(changes)) -- told again, not tried again
  lu.assertEquals({ events(self, "started") }, before)
end

function TestRunning:test_retry()
  lumen.fs.write(self.dir .. "/fuse", "")
  lumen.fs.write(self.file, (toy:gsub("o%.fuse ~= \"\" and lumen.fs.exists%(o%.fuse%)",
    ("lumen.fs.exists(%q)"):format(self.dir .. "/fuse"))))
  lu.assertFalse(self:run())
  lumen.fs.remove(self.dir .. "/fuse")
  lu.assertFalse(self:run())
  lu.assertTrue(self:run(nil, { { "retry", true } }), self:screen())
  lu.assertEquals(self:read "table.md", expected)
  lu.assertEquals({ events(self, "finished") }, { 14, 1 })
end

function TestRunning:test_dry_runs_nothing()
  self:run(nil, { { "dry", true } })
  lu.assertStrContains(self:screen(), "4 rows, 2 seeds, 8 cells; stages to run: 8 fine, 6 pre")
  lu.assertFalse(lumen.fs.exists(self.dir .. "/out"))
  self:run()
  self:run(nil, { { "dry", true }, { "seeds", "0,5" } })
  lu.assertStrContains(self:screen(), "finished 7, failed 0, to run 7, about 0:")
end

function TestRunning:test_one_runner_at_a_time()
  lumen.fs.mkdir(self.dir .. "/out")
  local lock <close> = lumen.fs.lock(self.dir .. "/out/lock")
  lu.assertErrorMsgContains("in use by another process", self.run, self)
  lu.assertNotNil(lock)
end

-- The program: options, help, exit codes, and SIGTERM while a stage runs.
function TestRunning:test_program()
  local function shell(arguments)
    local pipe = io.popen(("%s %s 2>&1"):format(lumen.process.program(), arguments))
    local text = pipe:read("a")
    return text, select(3, pipe:close())
  end
  local text, code = shell("experiments/mask_ratio.lua preset=smoke dry=true out=" .. self.dir .. "/x")
  lu.assertEquals(code, 0)
  lu.assertStrContains(text, "8 rows, 2 seeds, 16 cells")
  text, code = shell("experiments/mask_ratio.lua preset=smoke sede=3")
  lu.assertEquals(code, 1)
  lu.assertStrContains(text, "experiment mask_ratio has no option 'sede'\nhint: did you mean seeds?")
  text = shell("experiments/ablation.lua --help")
  lu.assertStrContains(text, "jobs=0")
  lu.assertStrContains(text, "pretrain     recipe vasomim")
end

-- All that is shipped can be planned, with every preset; the labelled images of a seed are the
-- same in every row, and the control is among the rows.
function TestRunning:test_shipped_experiments()
  for _, name in ipairs { "mask_ratio", "ablation", "guidance_schedule", "guide_mix",
                          "label_efficiency", "methods" } do
    for _, preset in ipairs { "smoke", "tiny", "small", "paper" } do
      local p = lumen.experiment(name):plan { preset = preset }
      local control = false
      for _, row in ipairs(p.rows) do control = control or row.name == "control" end
      lu.assertTrue(control, name .. " has no control")
      for _, cell in ipairs(p.cells) do
        lu.assertStrContains(table.concat(cell.task.arguments, " "), "label_seed=" .. cell.seed)
      end
    end
  end
  lu.assertErrorMsgContains("did you mean ablation?", lumen.experiment, "ablatoin")
end

-- ---- statistics -----------------------------------------------------------------------------

TestStatistics = {}

function TestStatistics:test_mean_and_deviation()
  lu.assertAlmostEquals(statistics.mean { 1, 2, 6 }, 3, 1e-15)
  lu.assertAlmostEquals(statistics.deviation { 1, 2, 6 }, math.sqrt(7), 1e-12)
  lu.assertNaN(statistics.deviation { 1 })
  lu.assertNaN(statistics.mean {})
end

function TestStatistics:test_t_quantiles() -- from printed tables
  for df, t in next, { [1] = 12.7062, [2] = 4.3027, [3] = 3.1824, [4] = 2.7764, [9] = 2.2622,
                       [10] = 2.2281, [30] = 2.0423 } do
    lu.assertAlmostEquals(statistics.t_quantile(0.95, df), t, 6e-5)
  end
end

function TestStatistics:test_t_interval()
  local low, high = statistics.t_interval { 1, 2, 3 } -- 2 -+ 4.3027 * 1 / sqrt(3)
  lu.assertAlmostEquals(low, -0.4841, 1e-4)
  lu.assertAlmostEquals(high, 4.4841, 1e-4)
  lu.assertNil(statistics.t_interval { 1 })
end

function TestStatistics:test_bootstrap()
  lu.assertEquals({ statistics.bootstrap { { 2, 2, 2 }, { 2, 2, 2 } } }, { 2, 2 })
  -- Two images, one seed: the samples' means are 0, 0.5, 1 with 1/4, 1/2, 1/4.
  lu.assertEquals({ statistics.bootstrap { { 0, 1 } } }, { 0, 1 })
  -- Two seeds, no spread between images: -1, 0, 1.
  lu.assertEquals({ statistics.bootstrap { { -1, -1 }, { 1, 1 } } }, { -1, 1 })
  local rows = { {} }
  for i = 1, 400 do rows[1][i] = i % 2 == 0 and 1.3 or -0.7 end -- mean 0.3, sd 1
  local low, high = statistics.bootstrap(rows)
  lu.assertAlmostEquals(low, 0.3 - 1.96 / 20, 0.012)
  lu.assertAlmostEquals(high, 0.3 + 1.96 / 20, 0.012)
  lu.assertEquals({ statistics.bootstrap(rows) }, { low, high })
end

helper.run()
