-- Option rows of recipes: checking, parsing "key=value", help text, the resolved dump.
-- A row is { name, default, help, choices = {..}?, min =?, max =? }; its type is the default's.
local options = {}

-- Number of edits (insert, delete, replace, swap of neighbours) between two words.
function options.distance(a, b)
  local rows = {}
  for i = 0, #a do rows[i] = { [0] = i } end
  for j = 0, #b do rows[0][j] = j end
  for i = 1, #a do
    for j = 1, #b do
      local same = a:byte(i) == b:byte(j)
      local best = math.min(rows[i - 1][j] + 1, rows[i][j - 1] + 1,
                            rows[i - 1][j - 1] + (same and 0 or 1))
      if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        best = math.min(best, rows[i - 2][j - 2] + 1)
      end
      rows[i][j] = best
    end
  end
  return rows[#a][#b]
end

-- The word of `list` nearest to `word`, or nil when none is near.
function options.nearest(word, list)
  if #word > 60 then return nil end -- no slip of the finger
  local best, best_distance = nil, #word // 3 + 2
  for _, candidate in ipairs(list) do
    local d = options.distance(word, candidate)
    if #word >= 3 and candidate:sub(1, #word) == word then d = 1 end
    if d < best_distance then best, best_distance = candidate, d end
  end
  return best
end

-- The table of options that `who` was given (nil: an empty one); raises where it has another
-- name than `names`.
function options.known(who, given, names)
  if given == nil then return {} end
  if type(given) ~= "table" then
    error(("%s: options are a table, not a %s"):format(who, type(given)), 3)
  end
  for key in next, given do
    local found = false
    for _, name in ipairs(names) do found = found or name == key end
    if not found then
      local near = options.nearest(tostring(key), names)
      error(("%s: there is no option '%s'%s"):format(who, key,
        near and ("\nhint: did you mean %s?"):format(near) or ""), 3)
    end
  end
  return given
end

local function type_name(value)
  if type(value) == "number" then
    return math.type(value) == "integer" and "integer" or "number"
  end
  return type(value)
end

local function complain(row, value)
  local text = ("option %s: %s is not "):format(row[1], tostring(value))
  if row.choices then return text .. "one of " .. table.concat(row.choices, ", ") end
  text = text .. ({ integer = "an integer", number = "a number", boolean = "true or false",
                    string = "a string" })[type_name(row[2])]
  if row.min or row.max then
    text = text .. (" from %s to %s"):format(row.min or "-inf", row.max or "inf")
  end
  return text
end

-- `value` (a string from the command line, or typed from Lua) as the row's type; raises.
function options.parse(row, value)
  local wanted, result = type_name(row[2]), nil
  if wanted == "string" then
    if type(value) ~= "table" then result = tostring(value) end
  elseif wanted == "boolean" then
    if type(value) == "boolean" then
      result = value
    else
      result = ({ ["true"] = true, ["false"] = false, ["1"] = true, ["0"] = false,
                  yes = true, no = false })[value]
    end
  else
    result = tonumber(value)
    if result and wanted == "integer" then result = math.tointeger(result) end
    if result and wanted == "number" then result = result + 0.0 end
    if result ~= result then result = nil end
  end
  local fits = result ~= nil
  if fits and row.choices then
    fits = false
    for _, choice in ipairs(row.choices) do fits = fits or choice == result end
  end
  if fits and ((row.min and result < row.min) or (row.max and result > row.max)) then
    fits = false
  end
  if not fits then error(complain(row, value), 0) end
  return result
end

-- "key=value" -> key, value; raises with what it should look like.
function options.split(argument)
  local key, value = argument:match("^([%w_.]+)=(.*)$")
  if not key then
    error(("argument %q is not of the form key=value"):format(argument), 0)
  end
  return key, value
end

function options.find(rows, name, whose)
  local names = {}
  for i, row in ipairs(rows) do
    if row[1] == name then return row end
    names[i] = row[1]
  end
  local near = options.nearest(name, names)
  error(("%s has no option '%s'%s"):format(whose, name,
    near and ("\nhint: did you mean %s?"):format(near) or ""), 0)
end

local function literal(value)
  if type(value) == "string" then return ("%q"):format(value):gsub("\\\n", "\\n") end
  if math.type(value) == "float" then
    local text = ("%.17g"):format(value)
    local short = ("%.15g"):format(value)
    if tonumber(short) == value then text = short end
    return text:match("^-?%d+$") and text .. ".0" or text
  end
  return tostring(value)
end
options.literal = function(value) return (literal(value)) end

-- Every value, resolved, as a Lua file that returns a table.
function options.dump(rows, values)
  local lines = { "return {" }
  for _, row in ipairs(rows) do
    lines[#lines + 1] = ("  %s = %s,"):format(row[1], options.literal(values[row[1]]))
  end
  lines[#lines + 1] = "}\n"
  return table.concat(lines, "\n")
end

-- Values of a dumped file. It is read as data: no function is in reach.
function options.undump(text, path)
  local chunk, message = load(text, "@" .. path, "t", {})
  local ok, values = false, message
  if chunk then ok, values = pcall(chunk) end
  if not ok or type(values) ~= "table" then
    error(("%s is not a table of options: %s"):format(path, tostring(values)), 0)
  end
  return values
end

-- Help lines: name, default, one sentence.
function options.help(rows)
  local width, lines = 0, {}
  for _, row in ipairs(rows) do
    width = math.max(width, #row[1] + 1 + #options.literal(row[2]))
  end
  width = math.min(width, 34)
  for _, row in ipairs(rows) do
    local left = row[1] .. "=" .. options.literal(row[2]):gsub('^"(.*)"$', "%1")
    local text = row[3] or ""
    if row.choices then text = text .. " (" .. table.concat(row.choices, " | ") .. ")" end
    lines[#lines + 1] = ("  %-" .. width .. "s  %s"):format(left, text)
  end
  return table.concat(lines, "\n")
end

return options
