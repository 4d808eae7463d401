-- inspect: values as text, for the prompt. Nothing here raises or runs a metamethod other than
-- __tostring, and that protected; tables print in a stable order, within limits.
--
-- The functions of Lua's library are kept as locals: at the prompt they can be overwritten.
local core = require "lumen.core"

local concat, sort, next, rawget, rawlen, tostring, type, pcall =
  table.concat, table.sort, next, rawget, rawlen, tostring, type, pcall
local format, find, gsub, match, rep, sub =
  string.format, string.find, string.gsub, string.match, string.rep, string.sub
local getinfo, getlocal, getmetatable = debug.getinfo, debug.getlocal, debug.getmetatable
local math_type, min, utf8_len = math.type, math.min, utf8.len

local inspect = {}

local width, most, deepest, longest = 88, 30, 4, 500

-- What tostring says, or why it could not say anything.
local function plain(value)
  local ok, text = pcall(tostring, value)
  if ok then return text end
  return format("%s (its __tostring raised an error)", type(value))
end
inspect._plain = plain

local function quote(text)
  local tail = ""
  if #text > longest then
    text, tail = sub(text, 1, longest), format("... (%d bytes)", #text)
  end
  text = gsub(text, '[%c"\\]', { ["\n"] = "\\n", ["\t"] = "\\t", ["\r"] = "\\r", ['"'] = '\\"',
                                 ["\\"] = "\\\\" })
  text = gsub(text, "%c", function(c) return format("\\x%02x", string.byte(c)) end)
  if not utf8_len(text) then
    text = gsub(text, "[\128-\255]", function(c) return format("\\x%02x", string.byte(c)) end)
  end
  return '"' .. text .. '"' .. tail
end

-- ---- functions -----------------------------------------------------------------------------

local operations -- function -> {name=, signature=}

local function operation(f)
  if not operations then
    operations = {}
    for _, op in ipairs(core.ops) do
      if core[op.name] then operations[core[op.name]] = op end
    end
  end
  return operations[f]
end
inspect._operation = operation

-- Names of a Lua function's parameters.
local function parameters(f)
  local info, names = getinfo(f, "u"), {}
  for i = 1, info.nparams do names[i] = getlocal(f, i) end
  if info.isvararg then names[#names + 1] = "..." end
  return names
end

local root = gsub(match(getinfo(1, "S").source, "^@(.*)lua/lumen/[^/]*$") or "", "%p", "%%%0")

-- A file's name as people know it: below the project's folder without that folder.
function inspect._place(text)
  if root == "" then return text end
  return (gsub(text, root, ""))
end

local function describe_function(f)
  local op = operation(f)
  if op then return format("operation %s(%s)", op.name, op.signature) end
  local info = getinfo(f, "S")
  if info.what == "C" then return "function (built in)" end
  return format("function(%s)  %s:%d", concat(parameters(f), ", "),
    inspect._place(info.short_src), info.linedefined)
end

-- ---- tables --------------------------------------------------------------------------------

local rank = { number = 1, string = 2, boolean = 3 }

local function before(a, b)
  local ra, rb = rank[type(a)] or 4, rank[type(b)] or 4
  if ra ~= rb then return ra < rb end
  if ra < 3 then return a < b end
  return false
end

-- The first keys outside 1..n in a stable order, and how many there are.
local function other_keys(t, n)
  local keys, count = {}, 0
  for key in next, t do
    if not (math_type(key) == "integer" and key >= 1 and key <= n) then
      count = count + 1
      if count <= 10000 and key == key then keys[#keys + 1] = key end
    end
  end
  sort(keys, before)
  return keys, count
end

local function key_text(key)
  if type(key) == "string" then
    return find(key, "^[%a_][%w_]*$") and key or "[" .. quote(key) .. "]"
  end
  if type(key) == "number" or type(key) == "boolean" then return "[" .. plain(key) .. "]" end
  return "[" .. type(key) .. "]"
end

local value_text

-- Texts of a table's fields, at most `most` of the list and of the rest.
local function fields(t, seen, depth)
  local parts, n = {}, rawlen(t)
  for i = 1, min(n, most) do parts[i] = value_text(rawget(t, i), seen, depth + 1) end
  if n > most then parts[#parts + 1] = format("... %d more", n - most) end
  local keys, count = other_keys(t, n)
  for i = 1, min(#keys, most) do
    parts[#parts + 1] = key_text(keys[i]) .. " = " .. value_text(rawget(t, keys[i]), seen, depth + 1)
  end
  if count > most then parts[#parts + 1] = format("... %d more", count - most) end
  return parts
end

local function table_text(t, seen, depth)
  if seen[t] then return "{...}" end
  if next(t) == nil then return "{}" end
  if depth >= deepest then return "{...}" end
  seen[t] = true
  local parts = fields(t, seen, depth)
  seen[t] = nil
  local line = "{" .. concat(parts, ", ") .. "}"
  if #line + 2 * depth <= width and not find(line, "\n", 1, true) then return line end
  -- a long list of short things fills lines; everything else takes a line each
  local inner, lines, current = rep("  ", depth + 1), {}, ""
  local list = rawlen(t) > 0
  for i, part in ipairs(parts) do
    if i < #parts then part = part .. "," end
    local short = list and #part <= 24 and not find(part, "\n", 1, true)
    if short and current ~= "" and #inner + #current + 1 + #part <= width then
      current = current .. " " .. part
    else
      if current ~= "" then lines[#lines + 1] = inner .. current end
      current = part
      if not short then
        lines[#lines + 1] = inner .. current
        current = ""
      end
    end
  end
  if current ~= "" then lines[#lines + 1] = inner .. current end
  return "{\n" .. concat(lines, "\n") .. "\n" .. rep("  ", depth) .. "}"
end

-- Inside another table a value takes one line: of what __tostring says, the first.
local function short_text(value)
  if core.is_tensor(value) then
    local ok, text = pcall(function()
      return format("%s %s [%s]", value.dtype, value.device, concat(value.shape, " x "))
    end)
    return ok and text or "tensor (released)"
  end
  local text = plain(value)
  return match(text, "^[^\n]*")
end

function value_text(value, seen, depth)
  local kind = type(value)
  if kind == "string" then return quote(value) end
  if kind == "function" then return describe_function(value) end
  if kind == "table" or kind == "userdata" then
    local meta = getmetatable(value)
    local own = type(meta) == "table" and rawget(meta, "__tostring") ~= nil
    if kind == "userdata" or own then
      return depth > 0 and short_text(value) or plain(value)
    end
    return table_text(value, seen, depth)
  end
  return plain(value)
end

-- A value as the prompt prints it: tables with a limit and in a stable order, functions with
-- their parameters and their place. Never raises; runs no metamethod but __tostring.
--   > lumen.inspect.text { 1, 2, name = "x" }
--   {1, 2, name = "x"}
function inspect.text(value)
  if type(value) == "string" and find(value, "\n", 1, true) and utf8_len(value)
    and not find(value, "[%z\1-\8\11-\31]") then
    return (gsub(value, "\n$", "")) -- a text, not a name
  end
  local ok, text = pcall(value_text, value, {}, 0)
  return ok and text or format("%s (%s)", type(value), plain(text))
end

-- ---- modules -------------------------------------------------------------------------------

local function shapes(module)
  local parts = {}
  for _, entry in ipairs(module._entries) do
    local t = module[entry.key]
    if entry.kind ~= "child" then
      parts[#parts + 1] = format("%s [%s]", entry.key, concat(t.shape, " x "))
    end
  end
  return concat(parts, "  ")
end

local function children(module)
  local list = {}
  for _, entry in ipairs(module._entries) do
    if entry.kind == "child" then list[#list + 1] = entry.key end
  end
  return list
end

-- The lines below one module; children alike that follow each other are drawn once.
local function tree(module, indent, lines)
  local keys, drawn = children(module), {}
  for i, key in ipairs(keys) do
    local own, head = {}, module[key].class_name or "module"
    local held = shapes(module[key])
    tree(module[key], indent .. "  ", own)
    drawn[i] = { head = held == "" and head or head .. "  " .. held, lines = own,
                 same = head .. held .. "\n" .. concat(own, "\n") }
  end
  local i = 1
  while i <= #keys do
    local last = i
    while drawn[last + 1] and drawn[last + 1].same == drawn[i].same do last = last + 1 end
    local name = last > i and format("%s .. %s", keys[i], keys[last]) or tostring(keys[i])
    lines[#lines + 1] = format("%s%s: %s", indent, name, drawn[i].head)
    for _, line in ipairs(drawn[i].lines) do lines[#lines + 1] = line end
    i = last + 1
  end
end

local function thousands(n)
  local text = format("%d", n)
  repeat
    local count
    text, count = gsub(text, "^(%d+)(%d%d%d)", "%1,%2")
  until count == 0
  return text
end

-- The tree of a module: classes, names, shapes of parameters, number of learned values.
-- Neighbours that are alike are drawn once. It is what tostring(module) gives.
--   > lumen.inspect.module(lumen.nn.Linear(3, 2))
--   Linear  8 parameters  weight [2 x 3]  bias [2]
function inspect.module(module)
  local lines, held = {}, shapes(module)
  local name = module.class_name or "module"
  lines[1] = format("%s  %s parameters%s", name, thousands(module:count()),
    held == "" and "" or "  " .. held)
  tree(module, "  ", lines)
  return concat(lines, "\n")
end

return inspect
