-- help "conv2d", help(x.softmax), help(lumen.metrics), help(recipe): what a thing is, how it is
-- called, an example, where it stands. help() lists everything by topic.
--
-- Documentation has one place, beside the code, and this form. It is the comment directly above
-- a Lua function, class (`local X = class("X")`) or field of a module, the comment that begins
-- a module's or command's file, the `doc` of an operation, the LM_DOC above a C function:
--
--   -- Dice coefficient 2|A n B| / (|A| + |B|) of two masks [.., H, W]; NaN when both are empty.
--   -- Unindented lines make a paragraph, indented ones stay as they are, an empty one parts.
--   --   > lumen.metrics.dice(lumen.ones {2, 2}, lumen.ones {2, 2})
--   --   1.0
--   function metrics.dice(pred, truth)
--
-- Lines with `>` are code, run by the tests as one chunk; a last expression is printed. The lines
-- below, as far in or further, are what it prints (tests/lua/example.lua has the short form of
-- tensors and tables); leave them out where the value differs from run to run. A command shows
-- lines for the shell instead, `$ lumen docs reference`, run beside two finished runs,
-- runs/demo/first and runs/demo/second. Say shapes in brackets, units, errors, the
-- source; a line `-> tensor, int` names the types of the results. Parameters come from the
-- definition, for C from the signature in the first line.
-- What begins with _ is private; everything else public must have text and example.
local core = require "lumen.core"
local index = require "lumen.help.index"
local options = require "lumen.options"
local text = require "lumen.help.text"

local help = {}

-- ---- how a thing is called -----------------------------------------------------------------

local function names_of(list)
  local parts = {}
  for i, p in ipairs(list or {}) do
    local name = p.list and p.name ~= "..." and p.name .. "..." or p.name
    if p.default then name = name .. " = " .. p.default
    elseif p.optional and not p.list then name = name .. "?" end
    parts[i] = name
  end
  return parts
end

local function table_of(named)
  local parts = {}
  for i, p in ipairs(named) do
    parts[i] = p.name .. (p.default and " = " .. p.default or p.optional and "?" or " =")
  end
  return "{" .. table.concat(parts, ", ") .. "}"
end

-- How an entry is called, as text: "lumen.vision.sato(image, {sigmas = ...}) -> tensor".
-- -> str
--   > lumen.help.call(lumen.help.find("softmax"))
--   lumen.softmax(x, {dim = -1}) -> tensor
function help.call(entry)
  local name = "lumen." .. entry.name
  if entry.foreign then name = entry.name end
  if entry.object then
    name = entry.object .. (entry.kind == "field" and "." or ":") .. entry.name:match("[^.]*$")
  elseif entry.kind == "command" then
    return entry:summary():match("^(lumen [^:]*):") or "lumen " .. entry.name:match("[^.]*$")
  end
  local call = name
  if entry.kind ~= "field" and entry.kind ~= "value" then
    local arguments = names_of(entry.positional)
    if entry.named and #entry.named > 0 then
      local options_table = table_of(entry.named)
      if #arguments == 0 then return name .. options_table end
      arguments[#arguments + 1] = options_table
    end
    call = name .. "(" .. table.concat(arguments, ", ") .. ")"
  end
  if entry.returns and #entry.returns > 0 then
    call = call .. (entry.kind == "field" and ": " or " -> ") .. table.concat(entry.returns, ", ")
  end
  return call
end

-- ---- finding -------------------------------------------------------------------------------

local function last_of(name) return name:match("[^.]*$") end

-- All entries whose name ends in these parts: "dice", "Run.step".
local function ending_in(parts)
  local found = {}
  for _, page in ipairs(index.get().pages) do
    for _, entry in ipairs(page.entries) do
      if ("." .. entry.name):sub(-#parts - 1) == "." .. parts then found[#found + 1] = entry end
    end
  end
  return found
end

-- The entry or entries that a name may mean: the full one, with or without "lumen.", else all
-- that end in it. Nil and the nearest name when there is none.
--   > lumen.help.find("masking.guided").page
--   masking
--   > lumen.help.find("sofmax")
--   nil
--   softmax
function help.find(name)
  local known = index.get()
  name = name:gsub("^lumen%.", ""):gsub(":", "."):gsub("%(.*$", "")
  if known.by_name[name] then return known.by_name[name] end
  local found = ending_in(name)
  if #found == 0 then found = ending_in(last_of(name)) end -- x:softmax
  if #found == 1 or (#found > 0 and not name:match("%.")) then return table.unpack(found) end
  local candidates = {}
  for _, page in ipairs(known.pages) do
    candidates[#candidates + 1] = page.name
    for _, entry in ipairs(page.entries) do
      candidates[#candidates + 1] = entry.name
      candidates[#candidates + 1] = last_of(entry.name)
    end
  end
  return nil, #name <= 60 and options.nearest(name, candidates) or nil
end

-- ---- printing ------------------------------------------------------------------------------

local function columns() return math.max(40, math.min(core._edit.columns(), 100)) end

-- Strings around what is emphasised and what stands back.
local function style()
  local plain = not core.fs.isatty(1) or os.getenv "NO_COLOR"
  if plain then return { strong = "", faint = "", off = "" } end
  return { strong = "\27[1m", faint = "\27[2m", off = "\27[0m" }
end

-- The description of an entry or a page, wrapped.
local function describe(out, parts, width, s)
  for _, part in ipairs(parts) do
    if part.kind == "text" then
      out[#out + 1] = text.wrap(part.text, width, "  ")
    elseif part.kind == "lines" then
      out[#out + 1] = (part.text:gsub("[^\n]+", "  %0"))
    else
      local mark = part.kind == "example" and "> " or "$ "
      out[#out + 1] = ""
      out[#out + 1] = (part.text:gsub("[^\n]+", function(l) return "    " .. mark .. l end))
      if part.result then
        out[#out + 1] = (part.result:gsub("[^\n]+", s.faint .. "    %0" .. s.off))
      end
    end
  end
end

local function sources_of_operations()
  local folder = require("lumen.recipe").root() .. "/core/ops"
  local places = {}
  for _, file in ipairs(core.fs.isdir(folder) and core.fs.list(folder) or {}) do
    for i, line in ipairs(file:match("%.c$") and text.lines(folder .. "/" .. file) or {}) do
      local name = line:match("lm_op_([%w_]+)%s*=") or line:match("^[A-Z_]+%(([%w_]+),")
      if name then places[name] = places[name] or ("core/ops/%s:%d"):format(file, i) end
    end
  end
  return places
end

-- Where an entry is defined: "lua/lumen/loss.lua:52", or nil.
-- -> str?
--   > lumen.help.source(lumen.help.find("data.loader"))
--   core/bind/data.c
function help.source(entry)
  if entry.op and not entry.source then entry.source = sources_of_operations()[entry.name] end
  return entry.source
end

-- The text that help prints for one entry, at most `width` wide.
-- -> str
--   > #lumen.help.entry(lumen.help.find("softmax"), 60) > 100
--   true
function help.entry(entry, width)
  local s = style()
  width = width or columns()
  local out = { s.strong .. text.wrap(help.call(entry), width, "    ", "") .. s.off }
  if entry.method then
    local first = entry.positional[1].name
    out[#out + 1] = ("also as a method: %s:%s(...)"):format(first, entry.name)
  end
  out[#out + 1] = ""
  if #entry:parts() == 0 then out[#out + 1] = "  (no description)" end
  describe(out, entry:parts(), width, s)
  local source = help.source(entry)
  if source then out[#out + 1] = "\n" .. s.faint .. source .. s.off end
  return table.concat(out, "\n")
end

local function brief(entry)
  local sentence = entry:summary()
  if #sentence > 100 then sentence = sentence:match("^(.-)[:;] ") or sentence end
  return sentence
end

local bare = { lumen = true, operations = true, prompt = true, commands = true }

-- What a page is called: "lumen.metrics", "Tensor".
--   > lumen.help.title(lumen.help.pages()[3])
--   Tensor
-- -> str
function help.title(page)
  return (page.class or bare[page.name]) and page.name or "lumen." .. page.name
end

-- The text that help prints for a page: what it is about, then one line for each name.
-- -> str
--   > #lumen.help.page(lumen.help.pages()[1], 60) > 100
--   true
function help.page(page, width)
  local s = style()
  width = width or columns()
  local out = { s.strong .. help.title(page) .. s.off, "" }
  describe(out, text.parse(page.text), width, s)
  if page.text ~= "" then out[#out + 1] = "" end
  for _, entry in ipairs(page.entries) do
    local call = help.call(entry):gsub(" %->.*$", "")
    if entry.named and #entry.named > 2 then
      call = call:gsub("{[^()]*}", "{...}")
    end
    out[#out + 1] = "  " .. s.strong .. call .. s.off
    out[#out + 1] = text.wrap(brief(entry), width, "      ")
  end
  return table.concat(out, "\n")
end

-- All pages in order: list of { name =, text =, entries = }.
-- -> table
--   > lumen.help.pages()[1].name
--   lumen
function help.pages() return index.get().pages end

-- Whether a name is that of a page.
-- -> bool
--   > lumen.help.is_page("metrics")
--   true
function help.is_page(name) return index.get().page[name] ~= nil end

-- Every name that help knows, in order.
-- -> table
--   > #lumen.help.names() > 300
--   true
function help.names()
  local names = {}
  for _, page in ipairs(index.get().pages) do
    names[#names + 1] = page.name
    for _, entry in ipairs(page.entries) do names[#names + 1] = entry.name end
  end
  return names
end

-- Forgets what was read from source files, so that changed ones show their new text.
--   > lumen.help.forget()
function help.forget() index.forget() end

local function overview()
  local s, width = style(), columns()
  local out = { "help \"name\" or help(value) explains one thing; there are:", "" }
  for _, page in ipairs(index.get().pages) do
    local names, seen = {}, {}
    for _, entry in ipairs(page.entries) do
      local name = entry.name
      if page.class or name:sub(1, #page.name + 1) == page.name .. "." then
        name = name:sub(#page.name + 2)
      end
      if not seen[name] then names[#names + 1] = name end
      seen[name] = true
    end
    out[#out + 1] = s.strong .. page.name .. s.off
    out[#out + 1] = text.wrap(table.concat(names, " "), width, "  ")
  end
  return table.concat(out, "\n")
end

-- ---- what a value is -----------------------------------------------------------------------

local function page_of_class(class)
  for _, page in ipairs(index.get().pages) do
    for _, entry in ipairs(page.class and page.entries or {}) do
      if entry.value and entry.value == class[last_of(entry.name)] then return page end
    end
  end
end

local userdata = { ["lumen.tensor"] = "Tensor", ["lumen.loader"] = "Loader",
                   ["lumen.scope"] = "Scope", ["lumen.lock"] = "Lock" }

local function page_of_module(module)
  local lumen = require "lumen.init"
  for _, page in ipairs(index.get().pages) do
    local value = lumen
    for part in page.name:gmatch("[^.]+") do
      value = type(value) == "table" and page.name ~= "lumen" and rawget(value, part) or
        page.name == "lumen" and lumen or nil
    end
    if value == module then return page end
  end
end

local function about_table(t)
  local known = index.get()
  if rawget(t, "is_recipe") then return t:help() end
  if known.by_value[t] then return help.entry(known.by_value[t]) end
  local page = page_of_module(t)
  if page then return help.page(page) end
  local class = getmetatable(t)
  if class and known.by_value[class] then
    return help.entry(known.by_value[class]) .. "\n\nmethods of every module: help \"nn.Module\""
  end
  page = class and type(class) == "table" and page_of_class(class)
  return page and help.page(page)
end

local function about(value)
  local kind, known = type(value), index.get()
  if kind == "function" then
    local entry = known.by_value[value] or index.of_function(value)
    return entry and help.entry(entry)
  elseif kind == "userdata" then
    local page = known.page[userdata[(getmetatable(value) or {}).__name] or ""]
    return page and help.page(page)
  elseif kind == "table" then
    return about_table(value)
  end
end

local function about_name(name)
  local found = table.pack(help.find(name))
  local page = index.get().page[(name:gsub("^lumen%.", ""))]
  if page and not (found[1] and found[1].name == name) then return help.page(page) end
  if found[1] and found.n == 1 then
    local text_of = help.entry(found[1])
    return page and #page.entries > 0 and text_of .. "\n\n" .. help.page(page) or text_of
  elseif found[1] then
    local lines = {}
    for i = 1, found.n do
      local about_it = text.wrap(brief(found[i]), columns(), "      ")
      lines[i] = ("  %s\n%s"):format(help.call(found[i]), about_it)
    end
    return ("%s may be one of these:\n%s"):format(name, table.concat(lines, "\n"))
  end
  local file = ("%s/recipes/%s.lua"):format(require("lumen.recipe").root(), name)
  if name:match("^[%w_]+$") and core.fs.exists(file) then
    return require("lumen.recipe").load(name):help()
  end
  return ("there is no help for %q%s"):format(name,
    found[2] and ("\nhint: did you mean %s?"):format(found[2]) or "; help() lists what there is")
end

-- Prints what a thing is: help "name", help(value); help() lists everything by topic. Names may
-- be given in full or by their last part; functions of one's own show the comment above them.
--   > help "masking.guided"
--   > help(lumen.zeros(1).softmax)
return setmetatable(help, { __call = function(_, ...)
  local what = ...
  if select("#", ...) == 0 then
    print(overview())
  elseif type(what) == "string" then
    print((about_name(what)))
  else
    print(about(what) or ("a %s: %s\nhelp() lists what there is"):format(type(what),
      tostring(what)))
  end
end })
