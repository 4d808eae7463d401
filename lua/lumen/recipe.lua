-- Recipes: a table with a name, option rows, presets and a method run(o, run) that holds the
-- training loop. lumen.recipe{...} defines one, lumen.recipe "vasomim" loads one.
--
-- Values: default < preset < options of the run that is resumed < command line.
local core = require "lumen.core"
local options = require "lumen.options"

-- What lumen.recipe returns. r.options, r.presets and the recipe's own functions are fields; they
-- may be replaced before it runs.
--   > r = lumen.recipe "vasomim"
--   > r.masking = lumen.masking.block
--   > r.name
--   vasomim
local Recipe = {}
Recipe.__index = Recipe

local loaded = setmetatable({}, { __mode = "k" }) -- recipe -> its file, for reload

-- What every training recipe has, with the same meaning everywhere. A recipe that names one
-- of these among its own rows changes the default (and may change the help).
local common = {
  { "data", "phantom", "dataset name (see datasets/) or a folder of images" },
  { "root", "", "folder of a named dataset" },
  { "images", 0, "use N images only, the first, or evenly spaced of a pool (phantom: generate N); 0: all", min = 0 },
  { "size", 224, "side of the images the network sees, in pixels", min = 8 },
  { "model", "", "model name" },
  { "init", "", "weights to start from: a file or a run directory" },
  { "epochs", 1, "passes over the data", min = 1 },
  { "steps", 0, "stop after this many optimizer steps instead; 0: by epochs", min = 0 },
  { "batch", 16, "images per forward pass", min = 1 },
  { "accumulate", 1, "forward passes per optimizer step", min = 1 },
  { "lr", 1.5e-4, "learning rate per 256 images of a step" },
  { "min_lr", 0.0, "learning rate at the end, per 256 images" },
  { "warmup", 0.05, "share of the training in which the learning rate rises", min = 0, max = 1 },
  { "weight_decay", 0.05, "decay of parameters with two or more dimensions" },
  { "clip", 0.0, "largest L2 norm of the gradient; 0: no limit", min = 0 },
  { "seed", 0, "the same seed gives the same bits", min = 0 },
  { "device", "auto", "auto, cpu, cuda or cuda:1" },
  { "precision", "f32", "arithmetic", choices = { "f32", "tf32", "bf16" } },
  { "threads", 0, "threads that compute; 0: all", min = 0 },
  { "workers", 2, "threads that load images", min = 1 },
  { "broken", "skip", "broken image files", choices = { "skip", "error" } },
  { "out", "", "run directory; empty: a new one under runs/" },
  { "resume", false, "continue the run in out" },
  { "save_every", 0, "optimizer steps between checkpoints; 0: one per epoch", min = 0 },
  { "keep", 2, "checkpoints to keep", min = 1 },
}

-- The recipe's own rows first, then the common ones that it does not name itself.
local function all_rows(recipe)
  local rows, own = {}, {}
  for _, row in ipairs(recipe.options or {}) do
    rows[#rows + 1] = row
    own[row[1]] = row
  end
  for _, row in ipairs(recipe.training == false and {} or common) do
    if not own[row[1]] then
      rows[#rows + 1] = row
    else
      for key, value in next, row do
        if own[row[1]][key] == nil then own[row[1]][key] = value end
      end
    end
  end
  local names = {}
  for i, name in ipairs(recipe.preset_order or {}) do names[i] = name end
  rows[#rows + 1] = { "preset", "", "named settings: " .. table.concat(names, ", ") }
  return rows
end

-- Presets are written as a list of { name, values } so that they have an order, or as a map.
local function order_presets(recipe)
  local order = {}
  for name in next, recipe.presets or {} do order[#order + 1] = name end
  local rank = { smoke = 1, tiny = 2, small = 3, paper = 4 }
  table.sort(order, function(a, b)
    local ra, rb = rank[a] or 9, rank[b] or 9
    if ra ~= rb then return ra < rb end
    return a < b
  end)
  return order
end

local function define(recipe)
  if type(recipe.name) ~= "string" then error("recipe: it needs a name", 3) end
  if type(recipe.about) ~= "string" then error("recipe: it needs a line `about`", 3) end
  recipe.preset_order = order_presets(recipe)
  recipe.rows = all_rows(recipe)
  recipe.is_recipe = true
  for _, name in ipairs(recipe.preset_order) do
    for key in next, recipe.presets[name] do
      options.find(recipe.rows, key, ("preset %s of recipe %s"):format(name, recipe.name))
    end
  end
  return setmetatable(recipe, Recipe)
end

-- The folder above lua/lumen, where recipes/ and datasets/ stand.
-- -> str
--   > lumen.fs.exists(lumen.recipe.root() .. "/recipes/vasomim.lua")
--   true
local function library_root()
  local here = debug.getinfo(1, "S").source:gsub("^@", "")
  return here:match("^(.*)/lua/lumen/[^/]*$") or here:match("^lua/lumen/") and "." or ".."
end

-- The file of a recipe: recipes/<name>.lua, or the file itself when it ends in .lua.
--   > lumen.recipe.file("vasomim"):match("recipes/.*")
--   recipes/vasomim.lua
local function file_of(name)
  return name:match("%.lua$") and name or ("%s/recipes/%s.lua"):format(library_root(), name)
end

-- The recipe of a name (recipes/<name>.lua) or a file; raises when there is none.
-- -> recipe
--   > lumen.recipe.load("segmentor").name
--   segmentor
local function load_named(name)
  local path = file_of(name)
  if not core.fs.exists(path) then error(("no recipe %s (%s)"):format(name, path), 3) end
  local recipe = dofile(path)
  if type(recipe) ~= "table" or not recipe.is_recipe then
    error(path .. " does not return a recipe", 3)
  end
  loaded[recipe] = path
  return recipe
end

-- Values of all options. overrides: list of { name, value }, later ones win. saved: values
-- of the run that is being resumed.
-- -> table
--   > o = lumen.recipe "vasomim":resolve({ {"preset", "tiny"}, {"mask_ratio", "0.75"} })
--   > o.mask_ratio, o.size
--   0.75
--   64
function Recipe:resolve(overrides, saved)
  local values, whose = {}, (self.kind or "recipe") .. " " .. self.name
  for _, row in ipairs(self.rows) do values[row[1]] = row[2] end
  local preset = saved and saved.preset or ""
  for _, pair in ipairs(overrides) do
    if pair[1] == "preset" then preset = pair[2] end
  end
  local function set(name, value)
    values[name] = options.parse(options.find(self.rows, name, whose), value)
  end
  if preset ~= "" then
    local chosen = (self.presets or {})[preset]
    if not chosen then
      error(("%s has no preset '%s' (there are %s)"):format(whose, preset,
        table.concat(self.preset_order, ", ")), 0)
    end
    for _, row in ipairs(self.rows) do
      if chosen[row[1]] ~= nil then set(row[1], chosen[row[1]]) end
    end
  end
  for _, row in ipairs(saved and self.rows or {}) do
    if saved[row[1]] ~= nil then set(row[1], saved[row[1]]) end
  end
  for _, pair in ipairs(overrides) do set(pair[1], pair[2]) end
  return setmetatable(values, { __index = function(_, name)
    error(("%s has no option '%s'"):format(whose, tostring(name)), 2)
  end })
end

-- What `lumen recipes/x.lua --help` prints: options in order with defaults, presets, what it
-- should reach.
-- -> str
--   > lumen.recipe "vasomim":help():match("mask_ratio[^\n]*")
--   mask_ratio=0.5      share of patches hidden from the encoder
function Recipe:help()
  local lines = { self.name .. ": " .. self.about, "", "options (key=value):",
                  options.help(self.rows) }
  for _, name in ipairs(self.preset_order) do
    local parts = {}
    for _, row in ipairs(self.rows) do
      local value = self.presets[name][row[1]]
      if value ~= nil then parts[#parts + 1] = row[1] .. "=" .. tostring(value) end
    end
    lines[#lines + 1] = ("\npreset %s: %s"):format(name,
      #parts > 0 and table.concat(parts, " ") or "the defaults")
  end
  if self.reaches then lines[#lines + 1] = "\n" .. self.reaches end
  return table.concat(lines, "\n") .. "\n"
end

-- What is printed when a run has ended, also when it had ended before. A recipe may replace it.
--   demo  dice 0.5  (runs/demo)
--   > r = lumen.recipe { name = "demo", about = "Nothing.", options = {}, training = false }
--   > r:report({ dice = 0.5 }, { dir = "runs/demo" })
function Recipe:report(metrics, run)
  local names, parts = {}, {}
  for name, value in next, metrics do
    if type(value) == "number" then names[#names + 1] = name end
  end
  table.sort(names)
  for i, name in ipairs(names) do parts[i] = ("%s %.4g"):format(name, metrics[name]) end
  io.stdout:write(("%s  %s  (%s)\n"):format(self.name, table.concat(parts, "  "), run.dir))
end

-- A list of { name, value } from such a list or from a table name -> value (or both).
function Recipe:_overrides(values)
  local list = {}
  for key in next, values do
    if type(key) == "string" then options.find(self.rows, key, "recipe " .. self.name) end
  end
  for _, row in ipairs(self.rows) do
    if values[row[1]] ~= nil then list[#list + 1] = { row[1], values[row[1]] } end
  end
  for _, pair in ipairs(values) do list[#list + 1] = pair end
  return list
end

-- Set options for every run that this recipe will start: r:set { mask_ratio = 0.6 }. They stand
-- above presets and below what start is given. Returns the recipe.
--   > r = lumen.recipe "vasomim"
--   > r:set { mask_ratio = 0.6 }
--   > r.settings.mask_ratio
--   0.6
function Recipe:set(values)
  local settings = {}
  for name, value in next, self.settings or {} do settings[name] = value end
  for _, pair in ipairs(self:_overrides(values)) do
    local row = options.find(self.rows, pair[1], "recipe " .. self.name)
    settings[pair[1]] = options.parse(row, pair[2])
  end
  self.settings = settings
  return self
end

-- Start a run: r:start { preset = "smoke", steps = 20 }. It returns when its `steps` are done
-- (without steps: at its end) or after Ctrl-C, and then waits: look at run.model, run.batch,
-- run.loss, change things, run:continue() or run:finish(). At the prompt an error leaves it to
-- be looked at, too.
-- -> table, run
--   > r = lumen.recipe { name = "demo", about = "Counts.", options = {} }
--   > function r:run(o, run) return { answer = 42 } end
--   > run = r:start { out = os.tmpname() .. ".d" }
--   > run.metrics.answer
--   42
function Recipe:start(overrides)
  local list = self:_overrides(self.settings or {})
  for _, pair in ipairs(self:_overrides(overrides or {})) do list[#list + 1] = pair end
  return require("lumen.run").start(self, list)
end

-- The recipe in a few lines: what it is, what was set, its presets.
function Recipe:__tostring()
  local lines = { self.name .. ": " .. self.about }
  local set = {}
  for _, pair in ipairs(self:_overrides(self.settings or {})) do
    set[#set + 1] = pair[1] .. "=" .. options.literal(pair[2])
  end
  if #set > 0 then lines[#lines + 1] = "set      " .. table.concat(set, " ") end
  if #self.preset_order > 0 then
    lines[#lines + 1] = "presets  " .. table.concat(self.preset_order, " ")
  end
  lines[#lines + 1] = "r:start { preset = ..., steps = ... }; help(r) lists the options"
  return table.concat(lines, "\n")
end

local recipe = { root = library_root, file = file_of, load = load_named, Recipe = Recipe,
                 _loaded = loaded }

-- lumen.recipe{ name =, about =, options = {{name, default, help}, ...}, presets = {...} }
-- defines a recipe, to which a method run(o, run) gives the training loop; lumen.recipe
-- "vasomim" loads one by name (recipes/vasomim.lua) or by file.
-- -> recipe
--   > r = lumen.recipe "vasomim"
--   > r:resolve({{"preset", "tiny"}}).mask_ratio
--   0.5
--   > r = lumen.recipe { name = "demo", about = "Shows its option.", options = {{"sigma", 0.3, "noise"}} }
--   > r:resolve({{"sigma", "0.5"}}).sigma
--   0.5
return setmetatable(recipe, { __call = function(_, what)
  if type(what) == "string" then return load_named(what) end
  return define(what)
end })
