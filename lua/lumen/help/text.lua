-- Documentation as text: comments and signatures read from sources, the parts of a
-- description, wrapping. The form is described at the top of lumen/help.lua.
local text = {}

local files = {} -- path -> list of lines, or false

-- Lines of a source file, or nil when it is not there.
function text.lines(path)
  if files[path] == nil then
    local file = io.open(path, "rb")
    local lines = {}
    if file then
      for line in file:lines() do lines[#lines + 1] = line end
      file:close()
    end
    files[path] = file and lines or false
  end
  return files[path] or nil
end

-- Forget what was read, so that an edited file shows its new text.
function text.forget() files = {} end

local function is_comment(line)
  return line and line:match("^%s*%-%-") and not line:match("^%s*%-%-%[=*%[")
    and not line:match("^%s*%-%- %-%-%-%-")
end

-- The comment of which line `last` is the end, without dashes; "" when it is no comment.
local function comment_ending(lines, last)
  local first = last + 1
  while is_comment(lines[first - 1]) do first = first - 1 end
  local kept = {}
  for i = first, last do kept[#kept + 1] = lines[i]:match("^%s*%-%- ?(.*)$") end
  return table.concat(kept, "\n")
end

-- The comment directly above a line of a file, "" when there is none.
function text.above(path, line)
  local lines = text.lines(path)
  return lines and comment_ending(lines, line - 1) or ""
end

-- The comment that a file begins with.
function text.top(path)
  local lines = text.lines(path)
  local last = 0
  while lines and is_comment(lines[last + 1]) do last = last + 1 end
  return last > 0 and comment_ending(lines, last) or ""
end

-- Number of the first line that assigns field `key`, or nil.
function text.assignment(path, key)
  for i, line in ipairs(text.lines(path) or {}) do
    local name = line:match("^[%w_]+%.([%w_]+)%s*=") or line:match("^[%w_]+%.([%w_]+),.*=")
    if name == key then return i end
  end
end

-- Number of the line `local name = {`, or nil.
function text.definition(path, name)
  for i, line in ipairs(text.lines(path) or {}) do
    if line:match("^local ([%w_]+) = {") == name then return i end
  end
end

-- Names in the parameter list of the function that begins in a line.
function text.parameters(path, line)
  local lines = text.lines(path)
  local source = lines and table.concat(lines, "\n", line, math.min(line + 5, #lines)) or ""
  local list = source:match("function%s*[%w_.:]*%s*(%b())") or "()"
  local names = {}
  for name in list:gmatch("[%w_.]+") do names[#names + 1] = name end
  return names
end

-- ---- signatures of C functions and operations ----------------------------------------------

local function split(list) -- at the commas that stand outside brackets
  local parts, depth, start = {}, 0, 1
  for i = 1, #list do
    local c = list:sub(i, i)
    if c == "{" then depth = depth + 1 elseif c == "}" then depth = depth - 1 end
    if c == "," and depth == 0 then
      parts[#parts + 1] = list:sub(start, i - 1)
      start = i + 1
    end
  end
  parts[#parts + 1] = list:sub(start)
  return parts
end

local function trim(s) return (s:gsub("^%s+", ""):gsub("%s+$", "")) end

-- Dimensions and positions are counted from 1 in Lua, from 0 in an operation's signature.
local function default_of(kind, value)
  local number = tonumber(value)
  if number and (kind == "dim" or kind == "dims" or kind == "index") and number >= 0 then
    return ("%d"):format(number + 1)
  end
  return kind == "str" and ("%q"):format((value:gsub('"', ""))) or value
end

local function parameter(part)
  part = trim(part)
  local name, dots, optional, rest = part:match("^([%w_]+)(%.?%.?%.?)(%??)(.*)$")
  if not name then return nil end
  local kind, value = rest:match("^:%s*([^=]+)=%s*(.*)$")
  kind = trim(kind or rest:match("^:%s*(.*)$") or "tensor")
  if kind:match("%?$") then kind, optional = kind:sub(1, -2), "?" end
  return { name = name, list = dots == "...", optional = optional == "?" or value ~= nil,
           type = kind, default = value and default_of(kind, trim(value)) }
end

local function parameters(list)
  local found = {}
  for _, part in ipairs(split(list)) do found[#found + 1] = parameter(part) end
  return found
end

-- "x, weight?; eps: float = 1e-5 -> tensor": { positional =, named =, returns = list of types }.
function text.signature(s)
  local left, right = s:match("^(.-)%s*%->%s*(.*)$")
  local first, second = (left or s):match("^(.-);(.*)$")
  local returns = {}
  for kind in (right or ""):gmatch("[^,%s]+") do returns[#returns + 1] = kind end
  return { positional = parameters(first or left or s), named = parameters(second or ""),
           returns = returns }
end

-- ---- descriptions --------------------------------------------------------------------------

-- Parts of a description, in order: { kind = "text" | "lines" | "example" | "command", text =,
-- result = }, and its first sentence.
function text.parse(s)
  local parts, open = {}, nil -- open: what the next line may continue
  for line in (s .. "\n"):gmatch("(.-)\n") do
    local indent, content = line:match("^(%s*)(.-)%s*$")
    local code = content:match("^> ?(.*)$")
    local command = content:match("^%$ (.*)$")
    if content == "" then
      open = nil
    elseif code and open and open.kind == "example" and not open.result then
      open.text = open.text .. "\n" .. code
    elseif code or command then
      open = { kind = code and "example" or "command", text = code or command,
               indent = #indent }
      parts[#parts + 1] = open
    elseif open and open.indent and #indent >= open.indent then
      local shown = line:sub(open.indent + 1):gsub("%s+$", "")
      open.result = open.result and open.result .. "\n" .. shown or shown
    elseif #indent > 0 then
      if not (open and open.kind == "lines") then
        open = { kind = "lines" }
        parts[#parts + 1] = open
      end
      open.text = open.text and open.text .. "\n" .. line or line
    elseif open and open.kind == "text" then
      open.text = open.text .. " " .. content
    else
      open = { kind = "text", text = content }
      parts[#parts + 1] = open
    end
  end
  return parts
end

-- The first sentence of a description.
function text.summary(parts)
  local first = parts[1] and parts[1].kind == "text" and parts[1].text or ""
  return first:match("^(.-[.:;])%s+%u") or first
end

-- Words filled into lines of `width`, each after `indent` (the first after `first`).
function text.wrap(s, width, indent, first)
  indent = indent or ""
  local lines, line = {}, first or indent
  local empty = true
  for word in s:gmatch("%S+") do
    if not empty and #line + 1 + #word > width then
      lines[#lines + 1] = line
      line, empty = indent, true
    end
    line = line .. (empty and "" or " ") .. word
    empty = false
  end
  lines[#lines + 1] = line
  return table.concat(lines, "\n")
end

return text
