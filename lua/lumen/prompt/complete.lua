-- Tab at the prompt. What stands before the cursor decides: a path inside a string, option
-- names inside the table of a call, fields after a dot, methods after a colon, else globals
-- and keywords. Values are looked up without running anybody's code: raw access, and __index
-- where it is a table.
local core = require "lumen.core"
local inspect = require "lumen.inspect"

local complete = {}

local keywords = { "and", "break", "do", "else", "elseif", "end", "false", "for", "function",
  "goto", "if", "in", "local", "nil", "not", "or", "repeat", "return", "then", "true", "until",
  "while" }

local tensor_fields = { "shape", "dtype", "device", "grad", "requires_grad", "ndim" }

local making = { "dtype", "device", "requires_grad" }
local made = { zeros = making, ones = making, full = making, tensor = making, arange = making,
  rand = { "dtype", "device", "requires_grad", "low", "high", "rng" },
  randn = { "dtype", "device", "requires_grad", "mean", "std", "rng" } }

local most_listed = 200

-- ---- values --------------------------------------------------------------------------------

local function table_index(value)
  local meta = debug.getmetatable(value)
  local index = type(meta) == "table" and rawget(meta, "__index")
  return type(index) == "table" and index or nil
end

-- Field `name` of a value, without running code other than lumen's own loading of its parts.
local function field(value, name)
  if rawequal(value, require "lumen.init") then
    local ok, found = pcall(function() return value[name] end)
    return ok and found or nil
  end
  if core.is_tensor(value) then
    if name == "grad" or name == "shape" then
      local ok, found = pcall(function() return value[name] end)
      return ok and found or nil
    end
    return complete.tensor_methods[name]
  end
  for _ = 1, 20 do
    if type(value) == "table" then
      local found = rawget(value, name)
      if found ~= nil then return found end
    end
    value = table_index(value)
    if value == nil then return nil end
  end
end

-- Names of the fields of a value; only functions when `methods`.
local function field_names(value, methods)
  local names = {}
  local function add(t)
    for key, item in next, t do
      if type(key) == "string" and key:find("^[%a_][%w_]*$") and key:sub(1, 1) ~= "_"
        and (not methods or type(item) == "function") then
        names[#names + 1] = key
      end
    end
  end
  if core.is_tensor(value) then
    add(complete.tensor_methods)
    for _, name in ipairs(methods and {} or tensor_fields) do names[#names + 1] = name end
    return names
  end
  if rawequal(value, require "lumen.init") then
    add(core)
    local meta = debug.getmetatable(value)
    for name in next, meta.parts do names[#names + 1] = name end
    for name in next, meta.functions do names[#names + 1] = name end
  end
  for _ = 1, 20 do
    if type(value) == "table" then add(value) end
    value = table_index(value)
    if value == nil then break end
  end
  return names
end

-- The value of a chain such as lumen.nn, x.grad or r:start, or nil; and the value before it.
local function resolve(chain)
  local value, owner
  local first, rest = chain:match("^([%a_][%w_]*)(.*)$")
  if not first then return nil end
  value = rawget(_G, first)
  if value == nil then value = complete.helpers[first] end
  for name in rest:gmatch("[.:]([%a_][%w_]*)") do
    if value == nil then return nil end
    owner, value = value, field(value, name)
  end
  return value, owner
end

-- ---- what stands before the cursor ---------------------------------------------------------

-- The string that is open at the end of `text` (its content), or nil; and the brackets that
-- are open, innermost last: list of { bracket, position }; is it inside a comment; its quote.
local function scan(text)
  local open, i = {}, 1
  while i <= #text do
    local c = text:sub(i, i)
    local long = text:match("^%-?%-?%[(=*)%[", i)
    if long and (c == "[" or text:sub(i, i + 1) == "--") then
      local _, stop = text:find("]" .. long .. "]", i, true)
      if not stop then return "", open, true end
      i = stop
    elseif text:sub(i, i + 1) == "--" then
      local stop = text:find("\n", i, true)
      if not stop then return "", open, true end
      i = stop
    elseif c == '"' or c == "'" then
      local from = i + 1
      repeat
        i = i + 1
        if text:sub(i, i) == "\\" then i = i + 2 end
      until i > #text or text:sub(i, i) == c
      if i > #text then return text:sub(from), open, nil, c end
    elseif c == "(" or c == "{" or c == "[" then
      open[#open + 1] = { c, i }
    elseif c == ")" or c == "}" or c == "]" then
      open[#open] = nil
    end
    i = i + 1
  end
  return nil, open
end

-- The chain of names that is called by the bracket at `position`, or nil.
local function callee(text, position)
  return text:sub(1, position - 1):match("([%a_][%w_.:]*)%s*$")
end

local function signature_options(signature)
  local names = {}
  local parameters = signature:match(";(.*)$") or ""
  for name in parameters:gmatch("([%w_]+)%s*:") do names[#names + 1] = name end
  return names
end

local function row_names(recipe)
  local names = {}
  for _, row in ipairs(rawget(recipe, "rows")) do names[#names + 1] = row[1] end
  return names
end

-- Option names of the call whose table the cursor is in, or nil.
local function option_names(text, open)
  local last = open[#open]
  if not last or last[1] ~= "{" then return nil end
  local chain = callee(text, last[2])
  local outer = open[#open - 1]
  if not chain and outer and outer[1] == "(" then chain = callee(text, outer[2]) end
  if not chain then return nil end
  local value, owner = resolve(chain)
  local method = chain:match("[.:]?([%a_][%w_]*)$")
  if type(owner) == "table" then
    if rawget(owner, "is_recipe") then return row_names(owner) end
    local recipe = rawget(owner, "recipe")
    if type(recipe) == "table" and rawget(recipe, "is_recipe") then return row_names(recipe) end
  end
  local op = value ~= nil and inspect._operation(value)
  -- an unknown receiver, as in (a + b):softmax{: methods are operations
  if not op and value == nil and chain:find(":") and core[method] then
    op = inspect._operation(core[method])
  end
  if op then return signature_options(op.signature) end
  if value ~= nil and made[method] and value == core[method] then return made[method] end
end

-- ---- candidates ----------------------------------------------------------------------------

local function paths(start)
  local folder, name = start:match("^(.*/)([^/]*)$")
  folder, name = folder or "", name or start
  local real = folder
  if real:sub(1, 2) == "~/" then real = (os.getenv("HOME") or "~") .. real:sub(2) end
  local ok, list = pcall(core.fs.list, real == "" and "." or real)
  local found = {}
  for _, item in ipairs(ok and list or {}) do
    if item:sub(1, #name) == name and (name ~= "" or item:sub(1, 1) ~= ".") then
      local is_folder = core.fs.isdir(real .. item)
      found[#found + 1] = item .. (is_folder and "/" or "")
    end
  end
  return name, found
end

-- Names of recipes for `recipe "`, of everything in lumen for `help "`.
local function named_strings(text, content)
  local call = text:sub(1, #text - #content - 1):match("([%a_][%w_.]*)%s*%(?%s*$")
  if call == "recipe" or call == "lumen.recipe" then
    local list = {}
    local ok, files = pcall(core.fs.list, require("lumen.recipe").root() .. "/recipes")
    for _, name in ipairs(ok and files or {}) do list[#list + 1] = name:match("^(.*)%.lua$") end
    return list
  end
  if call == "help" then return require("lumen.help").names() end
end

-- The word before the cursor and everything that could stand there; inside a string its quote.
local function candidates(text)
  local content, open, comment, quote = scan(text)
  if comment then return "", {} end
  if content then
    local names = not content:find("/") and named_strings(text, content)
    if names then return content, names, quote end
    local name, found = paths(content)
    return name, found, quote
  end
  local chain, separator, word = text:match("([%a_][%w_.:]*)([.:])([%w_]*)$")
  if chain then
    local value = resolve(chain)
    return word, value ~= nil and field_names(value, separator == ":") or {}
  end
  separator, word = text:match("[%)%]}\"']([.:])([%w_]*)$")
  if separator then
    if text:match("[\"']%)?[.:][%w_]*$") then return word, field_names(string) end
    return word, separator == ":" and field_names(complete.tensor_methods) or {}
  end
  word = text:match("([%a_][%w_]*)$") or ""
  if text:match("%.%.?$") or text:match("%d$") and word == "" then return "", {} end
  local options = option_names(text, open)
  if options and text:match("[{,]%s*[%w_]*$") then
    local list = {}
    for i, name in ipairs(options) do list[i] = name .. "=" end
    return word, list
  end
  local names = { table.unpack(keywords) }
  for key in next, _G do
    if type(key) == "string" and key:find("^[%a_][%w_]*$") then names[#names + 1] = key end
  end
  for key in next, complete.helper_names do names[#names + 1] = key end
  return word, names
end

-- Sorted, each once, only those that begin with `word`.
local function matching(word, names)
  local list, seen = {}, {}
  for _, name in ipairs(names) do
    if name:sub(1, #word) == word and not seen[name] then
      seen[name] = true
      list[#list + 1] = name
    end
  end
  table.sort(list)
  return list
end

local function common_prefix(list)
  local prefix = list[1] or ""
  for _, name in ipairs(list) do
    while name:sub(1, #prefix) ~= prefix do prefix = prefix:sub(1, -2) end
  end
  return prefix
end

local function columns(list, width)
  local longest, shown = 1, math.min(#list, most_listed)
  for i = 1, shown do longest = math.max(longest, #list[i]) end
  local across = math.max(1, (width + 1) // (longest + 2))
  local down = (shown + across - 1) // across
  local lines = {}
  for row = 1, down do
    local cells = {}
    for i = row, shown, down do
      local last = i + down > shown
      cells[#cells + 1] = last and list[i] or list[i] .. (" "):rep(longest + 2 - #list[i])
    end
    lines[row] = table.concat(cells)
  end
  if #list > shown then lines[#lines + 1] = ("... %d more"):format(#list - shown) end
  return table.concat(lines, "\n")
end

-- What may follow `text` (all that stands before the cursor): the word it ends with and a
-- sorted list of what the word can become; the quote that ends it, inside a string.
function complete.list(text)
  local word, names, quote = candidates(text)
  return word, matching(word, names), quote
end

-- The text to insert at the cursor, and the list to show when that is not unique.
function complete.press(text, width)
  if text:match("^%s*$") or text:match("\n%s*$") then return "  " end
  local word, list, quote = complete.list(text)
  if #list == 0 then return nil end
  local added = common_prefix(list):sub(#word + 1)
  if quote and #list == 1 and list[1]:sub(-1) ~= "/" then added = added .. quote end
  if added ~= "" or #list == 1 then return added end
  return nil, columns(list, width)
end

complete.helpers, complete.helper_names = {}, {} -- the prompt's own names, not in _G
complete.tensor_methods = debug.getregistry()["lumen.tensor"].methods

return complete
