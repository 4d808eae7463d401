-- From an experiment and its options to rows, cells and tasks.
--
-- A task is a stage in one setting: { key =, stage =, recipe = (its name), file =, dir =,
-- arguments = {"key=value", ..}, needs = {tasks}, values =, seed = }. A cell is a row with a
-- seed: { row =, seed =, task = (its last stage) }. A row is { name = or nil, settings = values
-- of the axes ("" where the axis does not matter to it), label =, baseline = a row or nil }.
local core = require "lumen.core"
local code = require "lumen.experiment.code"
local options = require "lumen.options"
local path = require "lumen.path"
local recipe = require "lumen.recipe"

local plan = {}

-- Options that do not change what a stage computes, or that the runner sets.
local free = { out = true, resume = true, preset = true, threads = true, workers = true,
               keep = true, save_every = true, device = true }

local function fail(place, text, ...) error(place .. ": " .. text:format(...), 0) end

-- Raise unless `key` is one of `names`.
function plan.known(key, names, place)
  for _, name in ipairs(names) do
    if key == name then return end
  end
  local near = type(key) == "string" and options.nearest(key, names)
  fail(place, "there is no '%s' here (there are %s)%s", tostring(key), table.concat(names, ", "),
    near and ("\nhint: did you mean %s?"):format(near) or "")
end

function plan.stage_name(stage, i)
  return stage.name or tostring(stage.recipe or i):match("([^/]-)%.lua$") or stage.recipe
end

-- f(...), its error with the place before it.
local function at(place, f, ...)
  local ok, result = pcall(f, ...)
  if ok then return result end
  fail(place, "%s", (tostring(result):gsub("^[^\n:]+:%d+: ", "")))
end

local function check_grid(grid, place)
  if type(grid) ~= "table" then fail(place, "grid must be a list of { option, { values } }") end
  for i, axis in ipairs(grid) do
    if type(axis) ~= "table" or type(axis[1]) ~= "string" or type(axis[2]) ~= "table"
      or #axis[2] == 0 then
      fail(("%s, grid %d"):format(place, i), "must be { option, { values } }")
    end
  end
end

local loaded = {}

local function load_recipe(name, place)
  if type(name) ~= "string" then
    fail(place, "recipe must be a name or a Lua file, not a %s", type(name))
  end
  if not loaded[name] then
    local file = recipe.file(name)
    if not core.fs.exists(file) then fail(place, "there is no recipe %s (%s)", name, file) end
    loaded[name] = at(place, recipe.load, name)
  end
  return loaded[name]
end

local stage_fields = { "name", "recipe", "options", "grid" }

-- One stage of one row: { name, recipe = (definition), file, options, grid, place, index }.
local function stage_of(stage, name, index, place)
  for key in next, stage do plan.known(key, stage_fields, place) end
  local r = load_recipe(stage.recipe, place)
  local whose = "recipe " .. r.name
  local copy = {}
  for option, value in next, stage.options or {} do
    if type(option) ~= "string" then
      fail(place, "options must be name = value, there is a value without a name")
    end
    at(place, options.find, r.rows, option, whose)
    copy[option] = value
  end
  check_grid(stage.grid or {}, place)
  local grid = {}
  for i, axis in ipairs(stage.grid or {}) do
    at(place .. ", grid", options.find, r.rows, axis[1], whose)
    grid[i] = { axis[1], axis[2] }
  end
  return { name = name, recipe = r, file = recipe.file(stage.recipe), options = copy,
           grid = grid, place = place, index = index }
end

-- The row's version of a stage. Another recipe replaces the stage as a whole.
local function merge(stage, change)
  if not change then return stage end
  if change.recipe and change.recipe ~= stage.recipe then return change end
  local merged = { recipe = stage.recipe, options = {}, grid = change.grid or stage.grid }
  for _, source in ipairs { stage.options or {}, change.options or {} } do
    for option, value in next, source do merged.options[option] = value end
  end
  for key, value in next, change do
    if merged[key] == nil then merged[key] = value end
  end
  return merged
end

local function value_of(x, o)
  if type(x) == "function" then return x(o) end
  return x
end

-- Lists of stages, one per row of the experiment.
local function variants(e, o)
  local whose = "experiment " .. e.name
  local stages, rows = value_of(e.stages, o), value_of(e.rows, o) or { {} }
  if type(stages) ~= "table" or #stages == 0 then fail(whose, "it needs a list of stages") end
  local names, taken = {}, {}
  for i, stage in ipairs(stages) do
    local place = ("%s, stage %d"):format(whose, i)
    if type(stage) ~= "table" then fail(place, "must be a table") end
    local name = plan.stage_name(stage, i)
    if type(name) ~= "string" or not name:match("^[%a_][%w_]*$") or taken[name]
      or name == "seed" then
      fail(place, "needs a name of its own, %s is none", tostring(name))
    end
    names[#names + 1], taken[name] = name, true
  end
  local list = {}
  for r, row in ipairs(rows) do
    local where = ("%s, row %s"):format(whose, row[1] or r)
    if row[1] == nil and #rows > 1 then fail(where, "needs a name") end
    for key in next, row do
      if key ~= 1 then plan.known(key, names, where) end
    end
    local variant = { name = row[1], stages = {} }
    for i, stage in ipairs(stages) do
      local name = names[i]
      local place = ("%s, stage %d (%s)"):format(#rows > 1 and where or whose, i, name)
      variant.stages[i] = stage_of(merge(stage, row[name]), name, i, place)
    end
    list[r] = variant
  end
  return list
end

local function split_list(text)
  local list = {}
  for item in (text .. ","):gmatch("([^,]*),") do list[#list + 1] = item end
  return list
end

-- Axes of the stages that are set from outside: change = { stage, option, value }.
local function apply_change(list, change, whose)
  local names, found, axes = {}, {}, {}
  for _, variant in ipairs(list) do
    for i, stage in ipairs(variant.stages) do
      names[i] = stage.name
      if stage.name == change.stage then
        found[#found + 1] = stage
        for j, axis in ipairs(stage.grid) do
          if axis[1] == change.option then axes[#axes + 1] = { stage, j } end
        end
      end
    end
  end
  if #found == 0 then plan.known(change.stage, names, whose .. ", stages") end
  local values = split_list(tostring(change.value))
  local fitting, complaint = 0, nil
  for _, stage in ipairs(found) do
    local ok, message = pcall(options.find, stage.recipe.rows, change.option,
      "recipe " .. stage.recipe.name)
    if ok then
      fitting = fitting + 1
      if #values == 1 then stage.options[change.option] = values[1] end
      if #values > 1 and #axes == 0 then
        stage.grid[#stage.grid + 1] = { change.option, values }
      end
    else
      complaint = complaint or message
    end
  end
  if fitting == 0 then fail(whose, "%s", complaint) end
  for i = #axes, 1, -1 do
    local stage, j = axes[i][1], axes[i][2]
    if #values > 1 then stage.grid[j][2] = values else table.remove(stage.grid, j) end
  end
end

-- The earlier stage that a value such as "@pretrain" or "@1" means, or nil.
local function reference(value, stages, stage, option)
  local name = type(value) == "string" and value:match("^@([%w_]+)$")
  if not name or name == "seed" then return nil end
  local there = {}
  for i = 1, stage.index - 1 do
    there[i] = ("%d %s"):format(i, stages[i].name)
    if name == stages[i].name or name == tostring(i) then return i end
  end
  fail(stage.place, "option %s: %s is no earlier stage (%s)", option, value,
    #there == 0 and "it is the first" or "there are " .. table.concat(there, ", "))
end

-- All points of the product of the axes: lists of values.
local function product(axes)
  local points = { {} }
  for i, axis in ipairs(axes) do
    local longer = {}
    for _, point in ipairs(points) do
      for _, value in ipairs(axis.values) do
        local copy = { table.unpack(point) }
        copy[i] = value
        longer[#longer + 1] = copy
      end
    end
    points = longer
  end
  return points
end

local function axes_of(stages)
  local axes = {}
  for i, stage in ipairs(stages) do
    for _, axis in ipairs(stage.grid) do
      axes[#axes + 1] = { stage = i, option = axis[1], values = axis[2] }
    end
  end
  return axes
end

-- Which stages the last one needs, and what their options refer to.
local function needed(stages, settings)
  local need, refs = { [#stages] = true }, {}
  for i = #stages, 1, -1 do
    refs[i] = {}
    for _, row in ipairs(stages[i].recipe.rows) do
      local target = reference(settings[i][row[1]], stages, stages[i], row[1])
      if target then
        refs[i][row[1]] = target
        if need[i] then need[target] = true end
      end
    end
  end
  return need, refs
end

-- What has to be equal for the results to be: a line per option that matters. A file counts by
-- its content, a folder by where it is.
local function signature(stage, values, keys)
  local lines = { stage.recipe.name, code.version(stage.file, rawget(values, "data")) }
  for _, row in ipairs(stage.recipe.rows) do
    local name = row[1]
    local value = keys[name] and "@" .. keys[name] or values[name]
    if not free[name] then
      local text = options.literal(value)
      if type(value) == "string" and value ~= "" and not keys[name] then
        if path.is_file(value) then text = code.file(value)
        elseif path.is_dir(value) then text = core.fs.realpath(value) end
      end
      lines[#lines + 1] = name .. "=" .. text
    end
  end
  return table.concat(lines, "\n")
end

local function has_option(r, name)
  for _, row in ipairs(r.rows) do
    if row[1] == name then return true end
  end
  return false
end

-- Options given to the stage, as a list in the order of the recipe's rows; "@seed" filled in.
local function given(stage, settings, seed, preset)
  local list = {}
  if settings.preset == nil and (stage.recipe.presets or {})[preset] then
    list[1] = { "preset", preset }
  end
  for _, row in ipairs(stage.recipe.rows) do
    local name, value = row[1], settings[row[1]]
    if name == "seed" and value == nil then value = seed end
    if value == "@seed" then value = seed end
    if value ~= nil then list[#list + 1] = { name, value } end
  end
  return list
end

-- The task of stage i of a row with a seed; made once for each key.
local function task_of(p, stages, i, settings, refs, seed, made)
  local stage = stages[i]
  local list = given(stage, settings[i], seed, p.o.preset)
  local keys, needs = {}, {}
  for _, pair in ipairs(list) do
    local target = refs[i][pair[1]]
    if target then
      needs[#needs + 1] = made[target]
      keys[pair[1]] = made[target].key
      pair[2] = made[target].dir
    end
  end
  local values = at(stage.place, stage.recipe.resolve, stage.recipe, list)
  local key = core.fs.hash_text(signature(stage, values, keys))
  if p.by_key[key] then return p.by_key[key] end
  local arguments = {}
  for _, pair in ipairs(list) do
    local text = type(pair[2]) == "string" and pair[2] or options.literal(pair[2])
    arguments[#arguments + 1] = pair[1] .. "=" .. text
  end
  local task = { key = key, stage = stage.name, recipe = stage.recipe.name, file = stage.file,
    dir = ("%s/stages/%s-%s"):format(p.out, stage.name, key), arguments = arguments,
    needs = needs, seed = seed, threads = has_option(stage.recipe, "threads")
      and settings[i].threads == nil, device = has_option(stage.recipe, "device")
      and settings[i].device == nil }
  p.by_key[key] = task
  p.tasks[#p.tasks + 1] = task
  return task
end

-- A setting as tables and labels show it: 0.5, 1 (not 1.0), words as they are; "" for none.
function plan.shown(value)
  if math.type(value) == "float" then return ("%.15g"):format(value) end
  return value == nil and "" or tostring(value)
end

local function label_of(name, axes, settings)
  local parts = { name }
  for _, axis in ipairs(axes) do
    local value = settings[axis]
    if value ~= nil and value ~= "" then
      parts[#parts + 1] = ("%s=%s"):format(axis, plan.shown(value))
    end
  end
  return #parts > 0 and table.concat(parts, " ") or "all"
end

-- The value of an axis as its option has it: "0.5" from the command line is 0.5.
local function typed(stage, option, value)
  if type(value) == "string" and value:match("^@") then return value end
  local row = options.find(stage.recipe.rows, option, "recipe " .. stage.recipe.name)
  return at(stage.place .. ", grid", options.parse, row, value)
end

local function add_row(p, variant, axes, point, axis_names)
  local stages, settings = variant.stages, {}
  for i, stage in ipairs(stages) do
    settings[i] = {}
    for option, value in next, stage.options do settings[i][option] = value end
  end
  for a, axis in ipairs(axes) do
    settings[axis.stage][axis.option] = typed(stages[axis.stage], axis.option, point[a])
  end
  local need, refs = needed(stages, settings)
  local row = { name = variant.name, settings = {}, cells = {} }
  for a, axis in ipairs(axes) do
    row.settings[axis_names[a]] = need[axis.stage] and settings[axis.stage][axis.option] or ""
  end
  for _, seed in ipairs(p.seeds) do
    local made = {}
    for i in ipairs(stages) do
      if need[i] then made[i] = task_of(p, stages, i, settings, refs, seed, made) end
    end
    row.cells[#row.cells + 1] = { row = row, seed = seed, task = made[#stages] }
  end
  return row
end

local function same_cells(a, b)
  for i, cell in ipairs(a.cells) do
    if cell.task ~= b.cells[i].task then return false end
  end
  return a.name == b.name
end

-- Seeds from "0,1,2".
local function seeds_of(text)
  local seeds, taken = {}, {}
  for i, item in ipairs(split_list(text)) do
    seeds[i] = math.tointeger(tonumber(item))
    if not seeds[i] or seeds[i] < 0 or taken[seeds[i]] then
      error(("option seeds: %s is not a list of different integers such as 0,1,2"):format(text), 0)
    end
    taken[seeds[i]] = true
  end
  return seeds
end

-- Names of the axes over all rows: the option, with its stage before it where two stages
-- have an axis of one name.
local function name_axes(list)
  local stages_of, order = {}, {}
  for _, variant in ipairs(list) do
    for _, axis in ipairs(axes_of(variant.stages)) do
      local stage = variant.stages[axis.stage].name
      if not stages_of[axis.option] then
        stages_of[axis.option] = {}
        order[#order + 1] = axis.option
      end
      stages_of[axis.option][stage] = true
    end
  end
  return function(stage, option)
    local first = next(stages_of[option])
    return next(stages_of[option], first) and stage .. "." .. option or option
  end
end

local function matches(row, wanted)
  if wanted[1] ~= nil and row.name ~= wanted[1] then return false end
  for axis, value in next, wanted do
    if axis ~= 1 and row.settings[axis] ~= value then return false end
  end
  return true
end

-- Each row's baseline: a row as `baseline` says ("name", or { "name", axis = value }; without
-- it the first), with the same values of the other axes where both have them.
local function set_baselines(e, p)
  local wanted = e.baseline
  if type(wanted) == "string" then wanted = { wanted } end
  local candidates = {}
  for _, row in ipairs(p.rows) do
    if wanted == nil and #candidates == 0 or wanted and matches(row, wanted) then
      candidates[#candidates + 1] = row
    end
  end
  if #candidates == 0 and changed then
    wanted, candidates = nil, { p.rows[1] }
  elseif #candidates == 0 then
    fail("experiment " .. e.name, "no row is the baseline %s",
      label_of(wanted[1], p.axes, wanted))
  end
  for _, row in ipairs(p.rows) do
    for _, candidate in ipairs(candidates) do
      local agrees = true
      for _, axis in ipairs(wanted and p.axes or {}) do
        local a, b = row.settings[axis], candidate.settings[axis]
        if wanted[axis] == nil and a ~= nil and b ~= nil and a ~= "" and b ~= "" and a ~= b then
          agrees = false
        end
      end
      if agrees then
        row.baseline = candidate
        break
      end
    end
  end
end

local function absolute(name)
  if name:sub(1, 1) == "/" then return name end
  return core.fs.realpath(".") .. "/" .. name
end

function plan.make(e, o, changes)
  local p = { experiment = e, o = o, out = absolute(o.out), seeds = seeds_of(o.seeds), rows = {},
              cells = {}, tasks = {}, by_key = {}, axes = {} }
  local list = variants(e, o)
  for _, change in ipairs(changes) do apply_change(list, change, "experiment " .. e.name) end
  local name_of, seen = name_axes(list), {}
  for _, variant in ipairs(list) do
    local axes, names = axes_of(variant.stages), {}
    for a, axis in ipairs(axes) do
      names[a] = name_of(variant.stages[axis.stage].name, axis.option)
      if not seen[names[a]] then p.axes[#p.axes + 1] = names[a] end
      seen[names[a]] = true
    end
    for _, point in ipairs(product(axes)) do
      local row, twice = add_row(p, variant, axes, point, names), false
      for _, other in ipairs(p.rows) do twice = twice or same_cells(row, other) end
      if not twice then p.rows[#p.rows + 1] = row end
    end
  end
  for _, row in ipairs(p.rows) do
    row.label = label_of(row.name, p.axes, row.settings)
    for _, cell in ipairs(row.cells) do p.cells[#p.cells + 1] = cell end
  end
  set_baselines(e, p, #changes > 0)
  return p
end

return plan
