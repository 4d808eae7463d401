-- Everything public, found by walking the library: pages of entries. Names that begin with _
-- are private.
local core = require "lumen.core"
local recipe = require "lumen.recipe"
local text = require "lumen.help.text"

local index = {}

-- Pages that come first, in this order; the others follow by name.
local order = { "lumen", "operations", "Tensor", "nn", "nn.fill", "nn.Module", "models",
                "masking", "loss", "metrics", "optim", "optim.Optimizer", "schedule", "data",
                "Loader", "vision", "image", "picture", "recipe", "recipe.Recipe", "run",
                "run.Run", "experiment", "experiment.Experiment", "profile", "profiler", "Scope",
                "fs", "Lock", "process", "Process", "json", "help", "prompt", "commands" }

local Entry = {}
Entry.__index = Entry

-- The entry's description, parsed.
function Entry:parts()
  if not self.parsed then self.parsed = text.parse(self.text or "") end
  return self.parsed
end

function Entry:summary() return text.summary(self:parts()) end

-- Its examples; for a command these are lines for the shell.
function Entry:examples()
  local list = {}
  for _, part in ipairs(self:parts()) do
    if part.kind == "example" or part.kind == "command" then list[#list + 1] = part end
  end
  return list
end

-- ---- where things come from ----------------------------------------------------------------

local root = recipe.root()

-- A path below the library's folder without that folder.
local function short(path)
  return path:sub(1, #root + 1) == root .. "/" and path:sub(#root + 2) or path
end

local function place(f)
  local info = debug.getinfo(f, "S")
  if info.source:sub(1, 1) ~= "@" then return nil end
  return info.source:sub(2), info.linedefined
end

-- File of a loaded module's table, or nil.
local function file_of(module)
  for name, value in next, package.loaded do
    if value == module and name:match("^lumen%.") then
      return package.searchpath(name, package.path)
    end
  end
end

local function plain(names)
  local list = {}
  for i, name in ipairs(names) do
    list[i] = { name = name, list = name == "...",
                optional = name == "options" or name == "o" or name == "..." }
  end
  return list
end

-- Fill in from the source of a Lua function: comment, parameters, file and line.
local function from_lua(entry, f, path, line)
  path, line = path or place(f), line or select(2, place(f))
  if not path then return entry end
  entry.text = text.above(path, line)
  local kinds = ("\n" .. entry.text):match("\n%-> ([^\n]+)")
  if kinds then
    entry.text = ("\n" .. entry.text):gsub("\n%-> [^\n]+", "", 1):sub(2)
    entry.returns = text.signature("-> " .. kinds).returns
  end
  entry.source = ("%s:%d"):format(short(path), line)
  entry.line = line
  return entry
end

local function from_c(entry, row)
  local signature, rest = row.text:match("^([^\n]*)\n(.*)$")
  local s = text.signature(signature)
  entry.positional, entry.named, entry.returns = s.positional, s.named, s.returns
  entry.text, entry.source = rest, row.file
  return entry
end

-- ---- building ------------------------------------------------------------------------------

local function is_callable(value)
  local meta = type(value) == "table" and getmetatable(value)
  return meta and rawget(meta, "__call") ~= nil
end

local function is_class(value) -- made by nn.class
  return type(value) == "table" and rawget(value, "class_name") ~= nil
end

local function is_methods(value) -- X.__index == X
  return type(value) == "table" and rawget(value, "__index") == value and not is_class(value)
end

-- Keys of a table, those of a table that loads its parts at first use included.
local function keys_of(t)
  local seen, keys = {}, {}
  local lazy = (getmetatable(t) or {}).names
  for key in next, lazy and lazy() or {} do seen[key] = true end
  for key in next, t do seen[key] = true end
  for key in next, seen do
    if type(key) == "string" and key:sub(1, 1) ~= "_" then keys[#keys + 1] = key end
  end
  table.sort(keys)
  return keys
end

local function is_module(value)
  if type(value) ~= "table" then return false end
  if (getmetatable(value) or {}).names then return true end
  for _, key in ipairs(keys_of(value)) do
    local item = value[key]
    if type(item) == "function" or is_class(item) or is_callable(item) then return true end
  end
  return false
end

local Builder = {}
Builder.__index = Builder

function Builder:page(name)
  local page = self.pages[name]
  if not page then
    page = { name = name, entries = {}, text = "" }
    self.pages[name] = page
  end
  return page
end

function Builder:add(page_name, entry)
  local page = self:page(page_name)
  entry.page = page_name
  setmetatable(entry, Entry)
  page.entries[#page.entries + 1] = entry
  self.by_name[entry.name] = self.by_name[entry.name] or entry
  if entry.value ~= nil and not self.by_value[entry.value] then
    self.by_value[entry.value] = entry
  end
  return entry
end

local function method(entry, class)
  entry.object = class == "Tensor" and "x" or class:match("[^.]*$"):lower()
  return entry
end

-- Functions of a table of methods.
function Builder:methods(name, class)
  local page = self:page(name)
  page.class = true
  for _, key in ipairs(keys_of(class)) do
    local f = class[key]
    if type(f) == "function" then
      local path = place(f)
      local line = path and text.definition(path, name:match("[^.]*$"))
      if line and page.text == "" then page.text = text.above(path, line) end
      local entry = from_lua({ name = name .. "." .. key, kind = "method", value = f }, f)
      local names = text.parameters(place(f))
      if names[1] == "self" then table.remove(names, 1) end
      entry.positional = plain(names)
      self:add(name, method(entry, name))
    end
  end
end

-- A class of layers or a model: how it is made, then methods of its own.
function Builder:class(page, name, class)
  local path, line = class.defined_in, class.defined_at
  local entry = from_lua({ name = name, kind = "class", value = class }, nil, path, line)
  local build = rawget(class, "build")
  local names = build and text.parameters(place(build)) or {}
  if names[1] == "self" then table.remove(names, 1) end
  entry.positional = plain(names)
  self:add(page, entry)
  for _, key in ipairs(keys_of(class)) do
    local f = rawget(class, key)
    if type(f) == "function" and key ~= "build" and key ~= "forward" then
      local own = from_lua({ name = name .. "." .. key, kind = "method", value = f }, f)
      own.positional = plain(text.parameters(place(f)))
      self:add(page, method(own, name))
    elseif is_class(f) then
      self:class(page, name .. "." .. key, f)
    end
  end
end

-- A Lua function; `callable`: the table that is called in its place.
function Builder:lua_function(page, name, f, callable)
  local entry = from_lua({ name = name, kind = "function", value = callable or f }, f)
  entry.positional = plain(text.parameters(place(f)))
  if callable then table.remove(entry.positional, 1) end
  self:add(page, entry)
end

-- One public thing called `name`, whatever it is. `path`: the file of the module around it.
function Builder:thing(page, name, key, value, path)
  if self.known[value] then return end
  if type(value) == "function" then
    self:lua_function(page, name, value)
  elseif is_class(value) then
    self:class(page, name, value)
  elseif is_methods(value) then
    self:methods(name, value)
  elseif is_callable(value) then
    self:lua_function(page, name, getmetatable(value).__call, value)
    self:module(page == "lumen" and name or page, name, value)
  elseif is_module(value) then
    self:module(name, name, value)
  elseif not self.bound[name] then
    local line = path and text.assignment(path, key)
    local entry = { name = name, kind = "value", value = type(value) == "table" and value or nil }
    self:add(page, line and from_lua(entry, nil, path, line) or entry)
  end
end

local function by_line(a, b)
  local file_a, file_b = (a.source or ""):match("^[^:]*"), (b.source or ""):match("^[^:]*")
  if file_a ~= file_b then return file_a < file_b end
  if a.line and b.line and a.line ~= b.line then return a.line < b.line end
  return a.place < b.place
end

-- All of a module's names on a page.
function Builder:module(page, name, module)
  self.known[module] = true
  local path = file_of(module)
  if path and self:page(page).text == "" then self:page(page).text = text.top(path) end
  for _, key in ipairs(keys_of(module)) do
    self:thing(page, name == "" and key or name .. "." .. key, key, module[key], path)
  end
  self.known[module] = nil
end

-- What is written in C, in order of registration: functions, fields, the texts of pages.
function Builder:from_core()
  for _, row in ipairs(core.bound()) do
    local class = row.group:match("^%u")
    local page = row.group == "" and "lumen" or row.group
    if row.value then self.known[row.value] = true end
    if row.name == row.group then
      local _, rest = row.text:match("^([^\n]*)\n(.*)$")
      self:page(page).text, self:page(page).class = rest, class ~= nil
      self:page(page).source = row.file
    else
      local kind = not row.value and (class and "field" or "value") or class and "method"
        or "function"
      local entry = from_c({ name = row.name, kind = kind, value = row.value }, row)
      if kind == "method" then table.remove(entry.positional, 1) end
      self:add(page, class and method(entry, row.group) or entry)
      self.bound[row.name] = true
    end
  end
end

function Builder:add_operations()
  for _, op in ipairs(core.ops) do
    if not op.internal then
      local s = text.signature(op.signature)
      if op.random then
        s.named[#s.named + 1] = { name = "rng", type = "table", optional = true }
      end
      for _, p in ipairs(s.positional) do
        if p.list then p.type, p.list = "tensors", false end
      end
      self.known[core[op.name]] = true
      self:add("operations", { name = op.name, kind = "operation", value = core[op.name],
        text = op.doc, positional = s.positional, named = s.named, returns = { "tensor" },
        method = s.positional[1].type == "tensor", op = op })
    end
  end
end

function Builder:commands()
  local folder = root .. "/lua/lumen/commands"
  if not core.fs.isdir(folder) then return end
  for _, file in ipairs(core.fs.list(folder)) do
    local name = file:match("^([%w_]+)%.lua$")
    if name then
      local path = folder .. "/" .. file
      self:add("commands", { name = "commands." .. name, kind = "command",
        text = text.top(path), source = short(path), positional = {} })
    end
  end
  self:page("commands").text = "Commands of the program: lumen NAME ..."
end

-- Globals of the prompt that are not lumen's.
function Builder:prompt(lumen)
  local prompt = require "lumen.prompt"
  for _, name in ipairs(keys_of(prompt.helpers)) do
    local f = prompt[name]
    if rawget(lumen, name) == nil and type(f) == "function" then
      local entry = from_lua({ name = name, kind = "function", value = f, foreign = true }, f)
      entry.positional = plain(text.parameters(place(f)))
      self:add("prompt", entry)
    end
  end
  self:page("prompt").text = ("Globals at the prompt and in -e: %s; those of the same name in " ..
    "lumen, and these."):format(table.concat(keys_of(prompt.helpers), ", "))
end

local function rank_of(name)
  for i, known in ipairs(order) do
    if name == known then return i end
  end
  return #order
end

local built

-- { pages = list of { name =, text =, entries = }, by_name =, by_value = }.
function index.get()
  if built then return built end
  local lumen = require "lumen.init"
  -- known: what needs no visit; bound: names of values that C has described
  local b = setmetatable({ pages = {}, by_name = {}, by_value = {}, bound = {}, known = {} },
    Builder)
  b:add_operations()
  b:from_core()
  b:module("lumen", "", lumen)
  b:prompt(lumen)
  b:commands()
  local pages = {}
  for _, page in next, b.pages do
    for i, entry in ipairs(page.entries) do entry.place = i end
    table.sort(page.entries, by_line)
    pages[#pages + 1] = page
  end
  table.sort(pages, function(x, y)
    local a, c = rank_of(x.name), rank_of(y.name)
    if a ~= c then return a < c end
    return x.name < y.name
  end)
  built = { pages = pages, by_name = b.by_name, by_value = b.by_value, page = b.pages }
  return built
end

-- Look again (after a file was reloaded).
function index.forget()
  built = nil
  text.forget()
end

-- An entry for a Lua function that is not the library's, from the comment above it.
function index.of_function(f)
  local path, line = place(f)
  if not path then return nil end
  local source = (text.lines(path) or {})[line] or ""
  local name = source:match("function%s+([%w_.:]+)") or source:match("([%w_.]+)%s*=%s*function")
  local entry = from_lua({ name = name or "function", kind = "function", value = f }, f)
  entry.positional = plain(text.parameters(path, line))
  entry.foreign = true
  return setmetatable(entry, Entry)
end

return index
