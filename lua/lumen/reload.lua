-- reload(what): read a changed Lua file again, in place. What exists keeps its identity and its
-- data and takes the new functions; when the file has an error nothing changes.
local core = require "lumen.core"
local recipe = require "lumen.recipe"

-- The file's value, made anew.
local function run_file(path, ...)
  local chunk, message = loadfile(path, "t")
  if not chunk then error(message, 0) end
  return chunk(...)
end

-- ---- modules ---------------------------------------------------------------------------------

local function has_functions(t)
  for _, value in next, t do
    if type(value) == "function" then return true end
  end
  local meta = debug.getmetatable(t)
  return type(meta) == "table" and (rawget(meta, "__call") or rawget(meta, "__index")) ~= nil
end

local merge

-- A value of the old table and its new one: functions are replaced, tables that hold functions
-- (classes, parts of a module) merged, data kept.
local function merged(old, new, same)
  if type(old) == "table" and type(new) == "table" and has_functions(new) then
    return merge(old, new, same)
  end
  if type(new) == "function" or old == nil then return new end
  return old
end

-- Puts new functions into the old table; same: new table -> old one.
function merge(old, new, same)
  if same[new] then return same[new] end
  same[new] = old
  for key, value in next, new do rawset(old, key, merged(rawget(old, key), value, same)) end
  for key, value in next, old do
    if type(value) == "function" and rawget(new, key) == nil then rawset(old, key, nil) end
  end
  local before, after = debug.getmetatable(old), debug.getmetatable(new)
  if type(before) == "table" and type(after) == "table" and before ~= after then
    merge(before, after, same)
  end
  return old
end

-- The new functions see the old tables where their file's locals name the new ones.
local function rebind(value, same, seen)
  if seen[value] then return end
  seen[value] = true
  if type(value) == "function" then
    for i = 1, math.huge do
      local name, held = debug.getupvalue(value, i)
      if not name then break end
      if type(held) == "table" and same[held] then
        debug.setupvalue(value, i, same[held])
      elseif type(held) == "function" and debug.getinfo(held, "S").what ~= "C" then
        rebind(held, same, seen)
      end
    end
  else
    for _, item in next, value do
      if type(item) == "function" then rebind(item, same, seen) end
    end
  end
end

local function reload_module(name, path)
  local old = package.loaded[name]
  local new = run_file(path, name, path)
  if type(old) ~= "table" or type(new) ~= "table" then
    package.loaded[name] = new
    return
  end
  local same = {}
  merge(old, new, same)
  for _, kept in next, same do rebind(kept, same, {}) end
end

-- ---- recipes ---------------------------------------------------------------------------------

local function reload_recipe(old, path)
  local new = run_file(path)
  if type(new) ~= "table" or not rawget(new, "is_recipe") then
    error(path .. " does not return a recipe any more", 0)
  end
  for key in next, old do
    if rawget(new, key) == nil and key ~= "settings" then rawset(old, key, nil) end
  end
  for key, value in next, new do rawset(old, key, value) end
end

-- ---- finding what is meant -------------------------------------------------------------------

local function real(path)
  local ok, full = pcall(core.fs.realpath, path)
  return ok and full or path
end

local function module_of(value)
  for name, module in next, package.loaded do
    if module == value then
      local path = package.searchpath(name, package.path)
      if path then return name, path end
    end
  end
end

local function module_at(path)
  for name in next, package.loaded do
    local found = package.searchpath(name, package.path)
    if found and real(found) == path then return name end
  end
end

local function by_path(path)
  if not core.fs.exists(path) then error(("reload: there is no file %s"):format(path), 0) end
  local full, count = real(path), 0
  for old, file in next, recipe._loaded do
    if real(file) == full then
      reload_recipe(old, path)
      count = count + 1
    end
  end
  local name = module_at(full)
  if name then reload_module(name, path) end
  if count == 0 and not name then
    error(("reload: nothing was loaded from %s"):format(path), 0)
  end
end

-- Reads a changed Lua file again and puts its functions into what was loaded from it: a recipe
-- (reload(r), reload "recipes/vasomim.lua"), a module (reload "lumen.loss", reload(lumen.loss)).
-- Data, runs and models that exist are kept; a waiting run takes the new functions when it
-- goes on. An error in the file changes nothing.
--   > lumen.reload "lumen.schedule"
return function(what)
  if type(what) == "table" and recipe._loaded[what] then
    return reload_recipe(what, recipe._loaded[what])
  elseif type(what) == "table" then
    local name, path = module_of(what)
    if not name then error("reload: this table was not loaded from a file", 2) end
    return reload_module(name, path)
  elseif type(what) ~= "string" then
    error(("reload: give a recipe, a module, a path or a name, not a %s"):format(type(what)), 2)
  elseif what:match("%.lua$") then
    return by_path(what)
  end
  local path = package.loaded[what] ~= nil and package.searchpath(what, package.path)
  if not path then error(("reload: no module '%s' is loaded"):format(what), 2) end
  reload_module(what, path)
end
