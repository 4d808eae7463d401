-- Annotations for editors: one file for the Lua language server (LuaLS), from the same texts
-- that help shows. Types of C functions and operations come from their signatures; those of
-- Lua functions are read from the description (`image [N, C, H, W]`, `options: eps = 1e-5`,
-- `-> tensor`), else from the usual meaning of the parameter's name.
local help = require "lumen.help"

local luals = {}

local types = {
  tensor = "lumen.Tensor", tensors = "lumen.Tensor[]", int = "integer", float = "number",
  number = "number", bool = "boolean", str = "string", ints = "integer|integer[]",
  floats = "number|number[]", dim = "integer", dims = "integer|integer[]", index = "integer",
  dtype = "lumen.dtype", table = "table", any = "any", ["function"] = "function",
  loader = "lumen.Loader", scope = "lumen.Scope", lock = "lumen.Lock",
  optimizer = "lumen.optim.Optimizer", mask = "lumen.Mask", module = "lumen.nn.Module",
  recipe = "lumen.recipe.Recipe", run = "lumen.run.Run",
}

local function words(s, kind, into)
  for word in s:gmatch("%S+") do into[word] = kind end
end

local usual = {}
words("x pred truth target logits image tensor guide latent vessels weight restore", "tensor", usual)
words("name path folder dir text title file where key kind", "str", usual)
words("lr ratio share progress total start stop warmup min_lr power std p decay loss", "float", usual)
words("width height size count patch depth dim heads inputs outputs channels groups hidden seed "
  .. "epoch step steps i n rows cols", "int", usual)
words("options o state overrides values rows list metrics into", "table", usual)
words("fn", "function", usual)

local keywords = {}
words("and break do else elseif end false for function goto if in local nil not or repeat return "
  .. "then true until while", true, keywords)

-- "str|tensor?" in LuaLS's words.
local function typed(kind)
  local parts = {}
  for part in kind:gsub("%?", ""):gmatch("[^|]+") do parts[#parts + 1] = types[part] or part end
  return table.concat(parts, "|") .. (kind:match("%?$") and "?" or "")
end

local function type_of(entry, p)
  if p.type then return p.name == "dtype" and "lumen.dtype" or typed(p.type) end
  local word = p.name:gsub("%W", "%%%0")
  if (entry.text or ""):find("%f[%w_]" .. word .. " [%w, ]*%[") then return types.tensor end
  return types[usual[p.name] or "any"]
end

local function literal_type(value)
  if value == "true" or value == "false" then return "boolean" end
  if tonumber(value) then return "number" end
  return value:match('^"') and "string" or value:match("^{") and "table" or "any"
end

-- Named options of a Lua function: what the description says after "options:".
local function described_options(entry)
  local list = {}
  for _, part in ipairs(entry:parts()) do
    local said = part.kind == "text" and part.text:match("options: (.*)$")
    said = said and (said:match("^(.-)%.%s+%u") or said)
    for name, value in (said or ""):gmatch("([%a_][%w_]*) = ([^,;()%s]+)") do
      list[#list + 1] = { name = name, type = literal_type(value:gsub("%.$", "")) }
    end
  end
  return list
end

-- ---- writing -------------------------------------------------------------------------------

local Writer = {}
Writer.__index = Writer

function Writer:line(format, ...)
  self[#self + 1] = select("#", ...) > 0 and format:format(...) or format
end

function Writer:comment(entry)
  for _, part in ipairs(entry:parts()) do
    if part.kind == "text" then
      self:line("---" .. part.text)
    else
      self:line("---```lua")
      for line in part.text:gmatch("[^\n]+") do self:line("---" .. line) end
      self:line("---```")
    end
    self:line("---")
  end
end

-- A class for a table of named options; its name, or "table" without any.
function Writer:options(entry)
  local list = entry.named and #entry.named > 0 and entry.named or nil
  if not list then
    list = described_options(entry)
    if #list == 0 then return "table" end
  end
  local name = ("lumen.%s.options"):format(entry.name)
  self:line("---@class %s", name)
  local seen = {}
  for _, p in ipairs(list) do
    if not seen[p.name] then
      local optional = not entry.named or p.optional
      local kind = entry.named and type_of(entry, p) or p.type
      self:line("---@field %s%s %s", p.name, optional and "?" or "", kind)
    end
    seen[p.name] = true
  end
  self:line("")
  return name
end

local function is_options(name) return name == "options" or name == "o" end

-- Lines for the parameters; returns their names. first: 2 for a method, whose object is left out.
function Writer:parameters(entry, first, options)
  local names = {}
  for k = first, #entry.positional do
    local p = entry.positional[k]
    local name = p.list and "..." or p.name
    local kind = is_options(p.name) and not entry.named and options or type_of(entry, p)
    self:line("---@param %s%s %s", name, p.optional and not p.list and "?" or "", kind)
    names[#names + 1] = name
    if p.list then break end -- nothing may follow ...
  end
  if entry.named and #entry.named > 0 and names[#names] ~= "..." then
    local needed = false
    for _, p in ipairs(entry.named) do needed = needed or not p.optional end
    self:line("---@param options%s %s", needed and "" or "?", options)
    names[#names + 1] = "options"
  end
  return table.concat(names, ", ")
end

function Writer:returns(entry, own)
  if own then return self:line("---@return %s", own) end
  for _, kind in ipairs(entry.returns or {}) do self:line("---@return %s", typed(kind)) end
end

-- function owner.name(...) or owner:name(...); a keyword as a field.
function Writer:definition(owner, mark, name, parameters)
  if keywords[name] then
    local all = mark == ":" and (parameters == "" and "self" or "self, " .. parameters) or parameters
    self:line("%s[%q] = function(%s) end", owner, name, all)
  else
    self:line("function %s%s%s(%s) end", owner, mark, name, parameters)
  end
  self:line("")
end

local function last(name) return name:match("[^.]*$") end

-- A function as a field of the table that holds it; with `inner`, as a table that is called.
function Writer:plain_function(entry, inner, own)
  local options = self:options(entry)
  local owner = ("lumen." .. entry.name):match("^(.*)%.[^.]*$")
  if inner then
    local parts = {}
    for k, p in ipairs(entry.positional) do
      local kind = is_options(p.name) and options or type_of(entry, p)
      parts[k] = p.list and "...: any" or ("%s%s: %s"):format(p.name, p.optional and "?" or "", kind)
    end
    self:comment(entry)
    self:line("---@class lumen.%s.call", entry.name)
    self:line("---@overload fun(%s): %s", table.concat(parts, ", "), own or "any")
    self:line("lumen.%s = {}\n", entry.name)
    return
  end
  self:comment(entry)
  local names = self:parameters(entry, 1, options)
  self:returns(entry, own)
  self:definition(owner, ".", last(entry.name), names)
end

function Writer:method(entry, class, first)
  local options = self:options(entry)
  self:comment(entry)
  local names = self:parameters(entry, first, options)
  self:returns(entry)
  self:definition(class, ":", last(entry.name), names)
end

local function has_inner(page, entry)
  for _, other in ipairs(page.entries) do
    if other.name:sub(1, #entry.name + 1) == entry.name .. "." and other.kind ~= "method" then
      return true
    end
  end
  return false
end

-- A class made by nn.class: constructor, call, methods of its own.
function Writer:class(page, entry)
  local own = "lumen." .. entry.name
  self:line("---@class %s: lumen.nn.Module", own)
  self:line("---@overload fun(...): any")
  local variable = entry.name:gsub("%W", "_")
  self:line("local %s = {}\n", variable)
  self:plain_function(entry, has_inner(page, entry), own)
  for _, other in ipairs(page.entries) do
    if other.kind == "method" and other.name:match("^(.*)%.[^.]*$") == entry.name then
      self:method(other, variable, 1)
    end
  end
end

function Writer:value(entry)
  local value = type(entry.value)
  self:comment(entry)
  local kind = entry.returns and entry.returns[1]
  self:line("---@type %s", kind and typed(kind) or value == "table" and "table" or "any")
  self:line("lumen.%s = nil\n", entry.name)
end

-- Fields, then methods of a class of objects.
function Writer:object_page(page)
  local class = "lumen." .. page.name
  self:line("---@class %s", class)
  for _, entry in ipairs(page.entries) do
    if entry.kind == "field" then
      self:line("---@field %s %s %s", last(entry.name), typed(entry.returns[1]), entry:summary())
    end
  end
  if page.name == "Tensor" then
    self:line("---@field [integer] lumen.Tensor")
    for _, sign in ipairs { "add", "sub", "mul", "div", "pow" } do
      self:line("---@operator %s(lumen.Tensor|number): lumen.Tensor", sign)
    end
    self:line("---@operator unm: lumen.Tensor\n---@operator len: integer")
  end
  local variable = page.name:gsub("%W", "_")
  self:line("local %s = {}\n", variable)
  for _, entry in ipairs(page.entries) do
    if entry.kind == "method" then self:method(entry, variable, 1) end
  end
  if page.name ~= "Tensor" then return end
  for _, other in ipairs(help.pages()) do
    for _, entry in ipairs(other.name == "operations" and other.entries or {}) do
      if entry.method then
        self:comment(entry)
        local names = self:parameters(entry, 2, entry.named and #entry.named > 0 and
          ("lumen.%s.options"):format(entry.name) or "table")
        self:returns(entry)
        self:definition(variable, ":", entry.name, names)
      end
    end
  end
end

function Writer:module_page(page)
  if page.name ~= "lumen" and page.name ~= "operations" and not self.made[page.name] then
    self:line("---@class lumen.%s", page.name)
    self:line("lumen.%s = {}\n", page.name)
  end
  local function inner(entry)
    return entry.kind ~= "method" and (has_inner(page, entry) or help.is_page(entry.name))
  end
  for _, tables in ipairs { true, false } do -- tables before what they hold
    for _, entry in ipairs(page.entries) do
      if inner(entry) ~= tables or entry.kind == "method" then goto next end
      if entry.kind == "class" then self:class(page, entry)
      elseif entry.kind == "value" then self:value(entry)
      else
        self.made[entry.name] = tables
        self:plain_function(entry, tables)
      end
      ::next::
    end
  end
end

local head = [[
---@meta lumen
-- Written by `lumen docs`: what the Lua language server (LuaLS) shows for Lumen. Name the folder
-- of this file in workspace.library.

---@alias lumen.dtype "f32"|"f64"|"bf16"|"i32"|"i64"|"u8"

---What lumen.masking returns: patches counted from 0.
---@class lumen.Mask
---@field keep lumen.Tensor i64 [N, K]
---@field masked lumen.Tensor i64 [N, M]
---@field restore lumen.Tensor i64 [N, L]
---@field mask lumen.Tensor f32 [N, L], 1: masked

---@class lumen
local lumen = {}
]]

-- The file's text.
--   > load(require("lumen.help.luals").text()) ~= nil
--   true
function luals.text()
  local w = setmetatable({ head, made = {} }, Writer)
  for _, page in ipairs(help.pages()) do
    if page.name ~= "commands" and page.name ~= "prompt" then
      if page.class then w:object_page(page) else w:module_page(page) end
    end
  end
  w:line("return lumen")
  return table.concat(w, "\n") .. "\n"
end

return luals
