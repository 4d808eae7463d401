-- JSON of flat rows whose fields have an order (log lines, result.json): fields is a list of
-- { name, value }. Numbers are written with 17 digits; NaN and infinities as null; a table
-- value is such a list itself.
local core = require "lumen.core"

local json = {}

local function quote(text)
  return '"' .. text:gsub('[%c"\\]', function(c)
    if c == '"' or c == "\\" then return "\\" .. c end
    return ("\\u%04x"):format(c:byte())
  end) .. '"'
end

local function encode(value)
  if type(value) == "number" then
    if value ~= value or value == math.huge or value == -math.huge then return "null" end
    return math.type(value) == "integer" and ("%d"):format(value) or ("%.17g"):format(value)
  elseif value == core.json.null then
    return "null"
  elseif type(value) == "string" then
    return quote(value)
  elseif type(value) == "table" then
    return json.object(value)
  end
  return tostring(value)
end

function json.object(fields)
  local parts = {}
  for i, field in ipairs(fields) do parts[i] = quote(field[1]) .. ": " .. encode(field[2]) end
  return "{" .. table.concat(parts, ", ") .. "}"
end

-- name -> value as a list sorted by name.
function json.sorted(map)
  local list = {}
  for name, value in next, map do list[#list + 1] = { name, value } end
  table.sort(list, function(a, b) return a[1] < b[1] end)
  return list
end

return json
