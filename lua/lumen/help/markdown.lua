-- The reference as Markdown: a page per topic, one per recipe, an index.
local core = require "lumen.core"
local help = require "lumen.help"
local options = require "lumen.options"
local recipe = require "lumen.recipe"
local text = require "lumen.help.text"

local markdown = {}

-- Text in which nothing but `code` is taken for markup.
local function plain(s)
  local parts = {}
  for outside, code in (s .. "``"):gmatch("([^`]*)(`[^`]*`)") do
    parts[#parts + 1] = outside:gsub("[*<|]", "\\%0")
    if code ~= "``" then parts[#parts + 1] = code end
  end
  return table.concat(parts)
end

local function fenced(language, s) return ("```%s\n%s\n```"):format(language, s) end

local function add_parts(out, parts)
  for _, part in ipairs(parts) do
    if part.kind == "text" then
      out[#out + 1] = plain(part.text)
    elseif part.kind == "lines" then
      out[#out + 1] = fenced("", part.text)
    else
      out[#out + 1] = fenced(part.kind == "example" and "lua" or "sh", part.text)
      if part.result then out[#out + 1] = fenced("", part.result) end
    end
  end
end

local function anchor(entry) return (entry.name:gsub("%W", "-"):lower()) end

local function file_of(page) return page.name .. ".md" end

local function link(page, entry)
  local name = entry.name
  if page.class or name:sub(1, #page.name + 1) == page.name .. "." then
    name = name:sub(#page.name + 2)
  end
  return ("[%s](%s#%s)"):format(plain(name), file_of(page), anchor(entry))
end

local function page_text(page)
  local out = { "# " .. help.title(page), "[Index](index.md)" }
  add_parts(out, text.parse(page.text))
  local links = {}
  for i, entry in ipairs(page.entries) do links[i] = link(page, entry) end
  out[#out + 1] = table.concat(links, " · ")
  for _, entry in ipairs(page.entries) do
    out[#out + 1] = ("<a id=%q></a>\n\n## `%s`"):format(anchor(entry), help.call(entry))
    if entry.method then
      out[#out + 1] = ("Also as a method: `%s:%s(...)`."):format(entry.positional[1].name, entry.name)
    end
    add_parts(out, entry:parts())
    local source = help.source(entry)
    if source then out[#out + 1] = ("Source: `%s`"):format(source:gsub(":%d+$", "")) end
  end
  return table.concat(out, "\n\n") .. "\n"
end

-- ---- recipes and datasets ------------------------------------------------------------------

local function names_in(folder)
  local names = {}
  local path = recipe.root() .. "/" .. folder
  for _, file in ipairs(core.fs.isdir(path) and core.fs.list(path) or {}) do
    names[#names + 1] = file:match("^([%w_]+)%.lua$")
  end
  return names
end

local function recipe_text(r)
  local out = { "# Recipe " .. r.name, "[Index](index.md)", plain(r.about),
                r.reaches and plain(r.reaches) or nil }
  local rows = { "| option | default | |", "| --- | --- | --- |" }
  for _, row in ipairs(r.rows) do
    local about = row[3] or ""
    if row.choices then about = about .. " (" .. table.concat(row.choices, ", ") .. ")" end
    rows[#rows + 1] = ("| `%s` | `%s` | %s |"):format(row[1], options.literal(row[2]), plain(about))
  end
  out[#out + 1] = table.concat(rows, "\n")
  for _, name in ipairs(r.preset_order) do
    local values = {}
    for _, row in ipairs(r.rows) do
      local value = r.presets[name][row[1]]
      if value ~= nil then values[#values + 1] = ("%s=%s"):format(row[1], tostring(value)) end
    end
    out[#out + 1] = ("Preset **%s**: `%s`"):format(name, table.concat(values, " "))
  end
  return table.concat(out, "\n\n") .. "\n"
end

local function datasets_text()
  local data = require "lumen.data"
  local out = { "# Datasets", "[Index](index.md)",
                "`data=NAME root=DIR`; `lumen check data=NAME root=DIR` says what is there." }
  for _, name in ipairs(names_in "datasets") do
    local set = data.dataset(name)
    out[#out + 1] = "## " .. name
    out[#out + 1] = plain(set.about)
    local facts = {}
    for _, field in ipairs { "paper", "origin", "licence" } do
      if set[field] then facts[#facts + 1] = ("- %s: %s"):format(field, plain(set[field])) end
    end
    out[#out + 1] = table.concat(facts, "\n")
    if set.tree then out[#out + 1] = fenced("", (set.tree:gsub("%s+$", ""))) end
  end
  return table.concat(out, "\n\n") .. "\n"
end

-- All files of the reference: list of { name, text }, always in the same order.
--   > require("lumen.help.markdown").files()[1][1]
--   index.md
function markdown.files()
  local files, index = {}, { "# Lumen: reference" }
  for _, page in ipairs(help.pages()) do
    if #page.entries > 0 then
      files[#files + 1] = { file_of(page), page_text(page) }
      local links = {}
      for i, entry in ipairs(page.entries) do links[i] = link(page, entry) end
      index[#index + 1] = ("## [%s](%s)"):format(help.title(page), file_of(page))
      local about = text.summary(text.parse(page.text))
      if about ~= "" then index[#index + 1] = plain(about) end
      index[#index + 1] = table.concat(links, " · ")
    end
  end
  index[#index + 1] = "## Recipes"
  for _, name in ipairs(names_in "recipes") do
    local r = recipe.load(name)
    files[#files + 1] = { "recipe." .. name .. ".md", recipe_text(r) }
    index[#index + 1] = ("[%s](recipe.%s.md): %s"):format(name, name, plain(r.about))
  end
  index[#index + 1] = "## [Datasets](datasets.md)"
  files[#files + 1] = { "datasets.md", datasets_text() }
  table.insert(files, 1, { "index.md", table.concat(index, "\n\n") .. "\n" })
  return files
end

return markdown
