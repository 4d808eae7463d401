-- What a run directory says, as far as it is there: for the report.
local core = require "lumen.core"
local history = require "lumen.run.history"
local options = require "lumen.options"
local path = require "lumen.path"

local source = {}

local function json_of(file)
  if not path.is_file(file) then return nil end
  local value = core.json.decode(core.fs.read(file), file)
  if type(value) ~= "table" then error(("%s holds no JSON object"):format(file), 0) end
  return value
end

-- A table of tables as a sorted list of { "a.b", value }.
local function flat(values, prefix, list)
  list = list or {}
  local names = {}
  for name in next, values do names[#names + 1] = tostring(name) end
  table.sort(names)
  for _, name in ipairs(names) do
    local value = values[name]
    if value == nil then value = values[tonumber(name)] end
    if type(value) == "table" then flat(value, (prefix or "") .. name .. ".", list)
    else list[#list + 1] = { (prefix or "") .. name, value } end
  end
  return list
end

-- Options in the order in which they were written.
local function options_of(file)
  local text, list = core.fs.read(file), {}
  local values = options.undump(text, file)
  local seen = {}
  for name in text:gmatch("\n%s*([%a_][%w_]*) = ") do
    if values[name] ~= nil and not seen[name] then
      seen[name] = true
      list[#list + 1] = { name, options.literal(values[name]) }
    end
  end
  return list, values
end

-- epoch_2 before epoch_10.
local function natural(a, b)
  local function spread(text)
    return (text:gsub("%d+", function(n) return ("%012d"):format(math.tointeger(tonumber(n)) or 0) end))
  end
  local x, y = spread(a), spread(b)
  if x ~= y then return x < y end
  return a < b
end

local function pictures_of(dir)
  local list = {}
  if not path.is_dir(dir) then return list end
  for _, name in ipairs(core.fs.list(dir)) do
    if name:match("%.png$") then list[#list + 1] = name end
  end
  table.sort(list, natural)
  return list
end

local function stages_of(dir)
  local list = {}
  if not path.is_dir(dir) then return list end
  for _, name in ipairs(core.fs.list(dir)) do
    local inner = dir .. "/" .. name
    if path.is_file(inner .. "/options.lua") then
      local result = json_of(inner .. "/result.json")
      list[#list + 1] = { name = name, dir = inner, finished = result ~= nil,
        metrics = flat(result and type(result.metrics) == "table" and result.metrics or {}),
        report = path.is_file(inner .. "/report.html") }
    end
  end
  return list
end

-- dir -> { dir, recipe, finished, options = list, values, environment = list, metrics = list, log
-- (see history.read) or nil, pictures = names, stages = list }. metrics: those of a run that ends
-- right now, in place of result.json. Raises when it is no run directory.
function source.read(dir, metrics)
  dir = #dir > 1 and dir:gsub("/+$", "") or dir
  if not path.is_file(dir .. "/options.lua") then
    error(("%s is no run directory (no options.lua)"):format(dir), 0)
  end
  local run = { dir = dir, pictures = pictures_of(dir .. "/images"), stages = stages_of(dir .. "/stages") }
  local result = metrics and { metrics = metrics } or json_of(dir .. "/result.json")
  run.finished = result ~= nil
  run.recipe = result and type(result.recipe) == "string" and result.recipe or nil
  run.metrics = flat(result and type(result.metrics) == "table" and result.metrics or {})
  run.options, run.values = options_of(dir .. "/options.lua")
  run.environment = flat(json_of(dir .. "/env.json") or {})
  if path.is_file(dir .. "/log.jsonl") then
    local log = history.read(dir)
    if log.rows > 0 and log.columns.step then run.log = log end
  end
  return run
end

return source
