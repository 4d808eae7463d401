-- Experiments: a question over stages, answered by one table. An experiment is
--
--   lumen.experiment {
--     name = "mask_ratio", about = "How much should be hidden?",
--     options = { ... }, presets = { ... },       -- of the experiment, rows as in a recipe
--     stages = {                                  -- or function(o) that returns the list
--       { name = "pretrain", recipe = "vasomim", grid = { { "mask_ratio", { 0.25, 0.5 } } } },
--       { name = "finetune", recipe = "segment", options = { init = "@pretrain" } },
--     },
--     rows = {                                    -- or function(o); without it: one
--       { "VasoMIM" },
--       { "from scratch", finetune = { options = { init = "" } } },
--     },
--     seeds = { 0, 1, 2 }, report = { "dice", "cldice" }, baseline = "from scratch",
--   }
--
-- Rows change stages by name (recipe, options, grid); the grids of a row's stages multiply.
-- An option "@pretrain" or "@1" is the run directory of that earlier stage, "@seed" the seed.
-- Of a row's stages those run that its last one needs; a stage that several cells need in the
-- same setting runs once. Every stage is a process of its own and a run directory
-- out/stages/<name>-<key>, where the key says what would have to be equal for the result to
-- be: every option that matters, the code, the stages it starts from. So `out` can be
-- continued at any time, also with other settings: what is there and still fits is used.
local core = require "lumen.core"
local options = require "lumen.options"
local plan = require "lumen.experiment.plan"
local recipe = require "lumen.recipe"

-- What lumen.experiment returns: a question whose cells have not been run yet.
local Experiment = {}
Experiment.__index = Experiment

local common = {
  { "seeds", "0,1,2", "every setting runs once with each of these seeds" },
  { "jobs", 0, "stages that run at the same time; 0: one per GPU, on the CPU one", min = 0 },
  { "threads", 0, "threads, shared out among the jobs; 0: all", min = 0 },
  { "device", "auto", "auto (all GPUs, else the CPU), cpu, or a list: cuda:0,cuda:1" },
  { "out", "", "directory of the experiment; empty: runs/<name>-<preset>; continued if there" },
  { "retry", false, "run stages again that have failed" },
  { "dry", false, "only say what would run" },
}

local fields = { "name", "about", "reaches", "options", "presets", "stages", "rows", "seeds",
                 "report", "baseline", "plot" }

local function check(e)
  local whose = "experiment " .. tostring(e.name)
  for key in next, e do plan.known(key, fields, whose) end
  for _, name in ipairs { "name", "about" } do
    if type(e[name]) ~= "string" then error(("%s: it needs a line `%s`"):format(whose, name), 3) end
  end
  if type(e.report) ~= "table" or #e.report == 0 then
    error(whose .. ": report lists the metrics of the table, such as { \"dice\" }", 3)
  end
end

local function define(e)
  check(e)
  local rows = {}
  for i, row in ipairs(e.options or {}) do rows[i] = row end
  for _, row in ipairs(common) do
    rows[#rows + 1] = { row[1], row[2], row[3], min = row.min }
    if row[1] == "seeds" and e.seeds then rows[#rows][2] = table.concat(e.seeds, ",") end
  end
  e.settings = recipe { kind = "experiment", name = e.name, about = e.about, reaches = e.reaches,
    options = rows, training = false,
    presets = e.presets or { smoke = {}, tiny = {}, small = {}, paper = {} } }
  e.is_experiment = true
  return setmetatable(e, Experiment)
end

-- What lumen experiments/<name>.lua --help shows: options, presets, stages.
--   > lumen.experiment "ablation":help():match("[^\n]*")
--   ablation: Guidance and consistency: what does each part of VasoMIM give?
function Experiment:help()
  local lines = { (self.settings:help():gsub("\n$", "")), "",
    "<stage>.<option>=<value> sets an option of a stage, and with a list (0.3,0.5) a grid;",
    "dry=true shows the rows. Stages (their options: lumen recipes/<name>.lua --help):" }
  local o = self.settings:resolve({})
  local stages = type(self.stages) == "function" and self.stages(o) or self.stages
  for i, stage in ipairs(stages) do
    lines[#lines + 1] = ("  %-12s recipe %s"):format(plan.stage_name(stage, i), stage.recipe)
  end
  return table.concat(lines, "\n") .. "\n"
end

-- overrides: list of { name, value } or a table name -> value. Those with a dot belong to
-- stages.
local function separate(overrides)
  local own, stages, list = {}, {}, {}
  for name, value in next, overrides do
    if type(name) == "string" then list[#list + 1] = { name, value } end
  end
  table.sort(list, function(a, b) return a[1] < b[1] end)
  for _, pair in ipairs(overrides) do list[#list + 1] = pair end
  for _, pair in ipairs(list) do
    local stage, option = pair[1]:match("^([%w_]+)%.([%w_]+)$")
    if stage then
      stages[#stages + 1] = { stage = stage, option = option, value = pair[2] }
    else
      own[#own + 1] = pair
    end
  end
  return own, stages
end

-- What would run, as a table { o = options, seeds =, rows =, cells =, tasks = } (see
-- lua/lumen/experiment/plan.lua). overrides: list of { name, value } or name -> value, as on the
-- command line. Raises an error that names the place for everything that cannot work.
--   > p = lumen.experiment "mask_ratio":plan { preset = "smoke", seeds = "0" }
--   > #p.cells, p.rows[1].label
--   8
--   VasoMIM mask_ratio=0.25
function Experiment:plan(overrides)
  local own, changes = separate(overrides or {})
  local o = self.settings:resolve(own)
  if o.out == "" then
    rawset(o, "out", ("runs/%s%s"):format(self.name, o.preset ~= "" and "-" .. o.preset or ""))
  end
  return plan.make(self, o, changes)
end

-- Run it, or go on with it; overrides as for plan. Returns true when every cell has finished,
-- and the directory with table.md, table.csv, cells.csv, plot.svg and result.json.
--   > done = lumen.experiment "ablation":start { preset = "smoke", dry = true }
function Experiment:start(overrides)
  local p = self:plan(overrides)
  if p.o.dry then
    io.stdout:write(require("lumen.experiment.runner").describe(p))
    return true, p.o.out
  end
  return require("lumen.experiment.runner").run(p)
end

local function load_file(path)
  local chunk, message = loadfile(path, "t")
  if not chunk then error(message, 0) end
  local e = chunk()
  if type(e) ~= "table" or not e.is_experiment then
    error(path .. " does not return an experiment", 3)
  end
  return e
end

-- lumen.experiment{ name =, about =, stages =, report = {metrics}, ... } defines a question over
-- stages of recipes (the fields stand at the head of lua/lumen/experiment.lua);
-- lumen.experiment "mask_ratio" loads experiments/mask_ratio.lua. Run it from the shell with
-- lumen experiments/mask_ratio.lua preset=tiny jobs=2; the same command continues it.
--   > e = lumen.experiment { name = "rates", about = "Which learning rate?",
--   >   stages = { { recipe = "segment", grid = { { "lr", { 0.01, 0.03 } } } } },
--   >   report = { "dice" } }
--   > #e:plan({ seeds = "0,1" }).cells
--   4
return setmetatable({ Experiment = Experiment }, { __call = function(_, what)
  if type(what) == "table" then return define(what) end
  local path = tostring(what):match("%.lua$") and what
    or ("%s/experiments/%s.lua"):format(recipe.root(), tostring(what))
  if not core.fs.exists(path) then
    local names = {}
    local folder = recipe.root() .. "/experiments"
    for _, name in ipairs(core.fs.exists(folder) and core.fs.list(folder) or {}) do
      names[#names + 1] = name:match("^(.+)%.lua$")
    end
    local near = options.nearest(tostring(what), names)
    error(("no experiment %s (%s)%s"):format(tostring(what), path,
      near and ("\nhint: did you mean %s?"):format(near) or ""), 2)
  end
  return load_file(path)
end })
