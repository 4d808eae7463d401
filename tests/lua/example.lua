-- example.lua: runs the examples that stand in documentation and compares what they print.
-- An example is what lumen.help's parser makes of the lines with `>`: { code =, result = }.
-- It runs as at the prompt: assignments make globals, a last expression is printed. Values are
-- printed in a short form that does not depend on the prompt's taste:
--   f32 [2 x 3] {1, 2, 3, 4, 5, 6}    1.5    {a = 1, b = {2, 3}}    text
local lumen = require "lumen"
local helper = require "tests.helper"

local example = {}

local most = 12 -- elements of a tensor that are shown

local function number(x)
  if math.type(x) == "integer" then return ("%d"):format(x) end
  if x ~= x then return "nan" end
  if x == 0 then x = 0.0 end -- no minus zero
  local text = ("%.5g"):format(x)
  return text:match("^-?%d+$") and text .. ".0" or text
end

local function tensor(x)
  local flat = x:detach():contiguous():reshape({ -1 })
  local parts = {}
  for i = 1, math.min(most, flat:numel()) do
    parts[i] = number(flat[i]:item()):gsub("%.0$", "")
  end
  if flat:numel() > most then parts[#parts + 1] = "..." end
  return ("%s [%s] {%s}"):format(x.dtype, table.concat(x.shape, " x "), table.concat(parts, ", "))
end

-- The short form of a value.
function example.short(value, inner)
  if lumen.is_tensor(value) then return tensor(value) end
  if type(value) == "number" then return number(value) end
  if type(value) == "string" then return inner and ("%q"):format(value) or value end
  if type(value) ~= "table" or (getmetatable(value) or {}).__tostring then
    return (tostring(value):gsub(": 0x%x+", ""))
  end
  local parts, keys = {}, {}
  for i, item in ipairs(value) do parts[i] = example.short(item, true) end
  for key in next, value do
    if not parts[key] then keys[#keys + 1] = tostring(key) end
  end
  table.sort(keys)
  for _, key in ipairs(keys) do
    if key:sub(1, 1) ~= "_" then
      parts[#parts + 1] = key .. " = " .. example.short(value[key], true)
    end
  end
  return "{" .. table.concat(parts, ", ") .. "}"
end

-- A chunk whose last expression, which may span lines, is returned. What stands before it must
-- be whole: the last line of a loop is no expression.
local function compile(code, environment)
  local lines = {}
  for line in (code .. "\n"):gmatch("(.-)\n") do lines[#lines + 1] = line end
  for first = #lines, 1, -1 do
    local line = lines[first]
    lines[first] = "return " .. line
    local chunk = load(table.concat(lines, "\n"), "=example", "t", environment)
    if chunk and load(table.concat(lines, "\n", 1, first - 1)) then return chunk end
    lines[first] = line
  end
  return assert(load(code, "=example", "t", environment))
end

local folder, files = nil, 0 -- of the temporary files

-- As os.tmpname, but clean() finds the files again.
local function tmpname()
  folder = folder or helper.temporary_folder()
  files = files + 1
  local path = ("%s/%d"):format(folder, files)
  lumen.fs.write(path, "")
  return path
end

-- Deletes what examples have written under names of os.tmpname.
function example.clean()
  if folder then helper.remove_folder(folder) end
  folder = nil
end

local system = setmetatable({ tmpname = tmpname }, { __index = os })

-- Globals for the examples of one text: what they assign, then Lua's, then lumen's helpers.
function example.environment()
  return setmetatable({}, { __index = function(_, name)
    if name == "lumen" then return lumen end
    if name == "os" then return system end
    local value = rawget(_G, name)
    if value ~= nil then return value end
    local helper = require("lumen.prompt").helpers[name]
    return helper and helper()
  end })
end

-- What the code prints, in the short form; raises its errors.
function example.run(code, environment)
  local out, print_outside = {}, print
  local function note(inner, ...)
    local parts = table.pack(...)
    for i = 1, parts.n do parts[i] = example.short(parts[i]) end
    out[#out + 1] = table.concat(parts, inner)
  end
  _G.print = function(...) note("\t", ...) end
  local values = table.pack(xpcall(compile(code, environment), debug.traceback))
  _G.print = print_outside
  if not values[1] then error(values[2], 0) end
  if values.n > 1 then note("\n", table.unpack(values, 2, values.n)) end
  return table.concat(out, "\n")
end

-- Words alike but for white space, numbers alike within four digits.
function example.same(actual, expected)
  local function split(text)
    local numbers = {}
    local words = text:gsub("%-?%f[%w]%d[%d.]*[eE]?[+-]?%d*", function(word)
      local value = tonumber(word)
      if not value then return nil end
      numbers[#numbers + 1] = value
      return "#"
    end)
    return words:gsub("%s+", " "):gsub("^ ", ""):gsub(" $", ""), numbers
  end
  local words, numbers = split(actual)
  local wanted, right = split(expected)
  if words ~= wanted or #numbers ~= #right then return false end
  for i, value in ipairs(right) do
    if math.abs(numbers[i] - value) > 1e-4 * math.max(1, math.abs(value)) then return false end
  end
  return true
end

return example
