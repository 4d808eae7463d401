-- The version of the code that computes a stage, as a hash: of the program, of the library, of
-- the recipe and the recipes that it names, of the data set's definition. Lua files count
-- without comments and spacing.
local core = require "lumen.core"
local recipe = require "lumen.recipe"

local code = {}

-- Where a string or a comment that begins at `at` ends; nil when there is none.
local function skip(text, at)
  local equals = text:match("^%[(=*)%[", at)
  if equals then
    return select(2, text:find("]" .. equals .. "]", at, true)) or #text
  end
  local quote = text:match("^[\"']", at)
  if not quote then return nil end
  local stop = at + 1
  while stop < #text and text:sub(stop, stop) ~= quote do
    stop = stop + (text:sub(stop, stop) == "\\" and 2 or 1)
  end
  return stop
end

-- Lua source without comments, every white space one blank.
local function essence(text)
  local parts, at = {}, 1
  while at <= #text do
    local stop = skip(text, at)
    local part = stop and text:sub(at, stop)
    if text:match("^%-%-", at) then
      part, stop = " ", skip(text, at + 2)
      if not stop or not text:match("^%[", at + 2) then stop = select(2, text:find("^[^\n]*", at)) end
    elseif text:match("^%s", at) then
      part, stop = " ", select(2, text:find("^%s+", at))
    elseif not stop then
      part = text:match("^[%w_]+", at) or text:sub(at, at)
      stop = at + #part - 1
    end
    if part ~= " " or parts[#parts] ~= " " then parts[#parts + 1] = part end
    at = stop + 1
  end
  return (table.concat(parts):gsub("^ ", ""):gsub(" $", ""))
end
code.essence = essence

local known = {}

-- Hash of a file: of the essence of a Lua file, of the bytes of any other.
function code.file(path)
  if not known[path] then
    known[path] = path:match("%.lua$") and core.fs.hash_text(essence(core.fs.read(path)))
      or core.fs.hash(path)
  end
  return known[path]
end

-- Library files that never touch a number.
local function no_matter(name)
  return name:match("^experiment") or name:match("^commands/") or name == "cli.lua"
end

local function add_folder(list, root, inside)
  for _, name in ipairs(core.fs.list(root .. "/" .. inside)) do
    local inner = inside == "" and name or inside .. "/" .. name
    if core.fs.isdir(root .. "/" .. inner) then
      add_folder(list, root, inner)
    elseif name:match("%.lua$") and not no_matter(inner) then
      list[#list + 1] = inner .. " " .. code.file(root .. "/" .. inner)
    end
  end
end

local library

local function library_version()
  if not library then
    local list = { core.fs.hash(core.process.program()) }
    add_folder(list, recipe.root() .. "/lua/lumen", "")
    library = core.fs.hash_text(table.concat(list, "\n"))
  end
  return library
end

-- The recipe files that a recipe file may run: those whose names stand in it as strings.
local function closure(file, list, seen)
  seen[file] = true
  list[#list + 1] = code.file(file)
  for name in core.fs.read(file):gmatch("[\"']([%w_]+)[\"']") do
    local other = recipe.file(name)
    if not seen[other] and core.fs.exists(other) then closure(other, list, seen) end
  end
end

local versions = {}

-- file: the recipe's; dataset: the name of its data set, or a folder.
function code.version(file, dataset)
  local both = file .. "\n" .. tostring(dataset)
  if versions[both] then return versions[both] end
  local list = { library_version() }
  closure(file, list, {})
  local definition = ("%s/datasets/%s.lua"):format(recipe.root(), tostring(dataset))
  if core.fs.exists(definition) then list[#list + 1] = code.file(definition) end
  versions[both] = core.fs.hash_text(table.concat(list, "\n"))
  return versions[both]
end

return code
