-- lumen.data.rated: sets of rated images. An image that somebody has scored, with the references
-- that belong to it: the non-contrast frame it was made from and a contrast frame of the same
-- sequence. A set is a CSV file, a folder with such a file ratings.csv, or a dataset that says
-- which metrics it has (datasets/cas_p.lua). The CSV file has a header and a row per image:
--
--   image,non_contrast,contrast,case,raters,vessel,background,realism
--   s/0001.png,n/0001.png,c/0001.png,p17,3,4.5,3.667,2
--
-- image and case must be there; an empty non_contrast or contrast means that there is none;
-- raters (how many people the scores are a mean of) may be left out. Every other column is a
-- metric, 1 (bad) to 5 (excellent), 1 to 16 of them. Paths are relative to the file. CAS-3K (arXiv
-- 2505.17619; not public) would be 3,565 rows with the three metrics of its paper. Images of one
-- case never stand on both sides of a split.
local core = require "lumen.core"
local path = require "lumen.path"

local rated = {}

local roles = { image = true, non_contrast = true, contrast = true, case = true, raters = true }
local most_bytes, most_metrics = 64 * 1024 * 1024, 16

-- ---- CSV -----------------------------------------------------------------------------------

-- The fields of a line: plain, or in double quotes with "" for a quote. Nil and why when it is broken.
local function fields_of(line)
  local fields, at = {}, 1
  while true do
    local field, after
    if line:sub(at, at) == '"' then
      local stop = at
      repeat
        stop = line:find('"', stop + 1, true)
        if not stop then return nil, ("column %d: the quotes are not closed"):format(#fields + 1) end
        local twice = line:sub(stop + 1, stop + 1) == '"'
        if twice then stop = stop + 1 end
      until not twice
      field, after = line:sub(at + 1, stop - 1):gsub('""', '"'), stop + 1
      if after <= #line and line:sub(after, after) ~= "," then
        return nil, ("column %d: something stands behind the quotes"):format(#fields + 1)
      end
    else
      after = line:find(",", at, true) or #line + 1
      field = line:sub(at, after - 1):match("^%s*(.-)%s*$")
    end
    fields[#fields + 1] = field
    if after > #line then return fields end
    at = after + 1
  end
end

-- The columns of a header that are metrics, in order.
local function header_of(fields, fail, unscored)
  local metrics, seen = {}, {}
  for i, name in ipairs(fields) do
    if name == "" then fail(("column %d has no name"):format(i)) end
    if not name:match("^[%a][%w_]*$") then
      fail(("column %d: %s is no name (letters, digits and _)"):format(i, name:sub(1, 40)))
    end
    if seen[name] then fail(("column %s stands there twice"):format(name)) end
    seen[name] = true
    if not roles[name] then metrics[#metrics + 1] = name end
  end
  for _, name in ipairs { "image", "case" } do
    local needed = name == "image" or not unscored
    if needed and not seen[name] then fail(("there is no column %s"):format(name)) end
  end
  if #metrics > most_metrics then
    fail(("%d columns are metrics, at most %d can be"):format(#metrics, most_metrics))
  end
  return metrics
end

local function number_in(text, name, low, high, fail)
  local value = text:match("^[%d.eE+-]+$") and tonumber(text)
  if not value or value ~= value or value < low or value > high then
    fail(("column %s: %s is no number from %g to %g"):format(name,
      text == "" and "an empty field" or text:sub(1, 40), low, high))
  end
  return value
end

-- A row of the file from its fields.
local function row_of(names, fields, folder, fail)
  if #fields ~= #names then
    fail(("%d fields, but the header has %d columns"):format(#fields, #names))
  end
  local row = { scores = {} }
  for i, name in ipairs(names) do
    local text = fields[i]
    if name == "case" or name == "image" then
      if text == "" then fail(("column %s is empty"):format(name)) end
      row[name] = text
    elseif name == "raters" then
      row.raters = number_in(text, name, 1, 1e6, fail)
    elseif roles[name] then
      row[name] = text ~= "" and text or nil
    else
      row.scores[#row.scores + 1] = number_in(text, name, 1, 5, fail)
    end
    if (roles[name] and name ~= "case" and name ~= "raters") and row[name] then
      local file = row[name]:sub(1, 1) == "/" and row[name] or folder .. "/" .. row[name]
      if not path.is_file(file) then fail(("column %s: there is no file %s"):format(name, file)) end
      row[name] = file
    end
  end
  return row
end

-- Reads a CSV file of rated images: { path, metrics = (names), rows = { { image, non_contrast,
-- contrast, case, raters, scores = {..} }, ... } }, paths complete. Errors name the file, the line
-- and the column: a broken header, a wrong number of fields, a file that is not there, a score that
-- is no number from 1 to 5, an image that stands there twice. unscored: the file may do without
-- metrics and without cases (lists of images to score).
-- -> table
--   > file = os.tmpname()
--   > lumen.fs.write(file, "image,case,vessel\n" .. file .. ",p1,4.5\n")
--   > set = lumen.data.rated.read(file)
--   > set.metrics[1], set.rows[1].case, set.rows[1].scores[1]
--   vessel
--   p1
--   4.5
function rated.read(file, unscored)
  local info = core.fs.stat(file)
  if info and info.size > most_bytes then error(("%s: over the limit of 64 MiB"):format(file), 0) end
  local content = core.fs.read(file)
  if content:find("\0", 1, true) then error(file .. ": not a text file", 0) end
  local folder, number = file:match("^(.*)/[^/]*$") or ".", 0
  local function fail(what) error(("%s: line %d: %s"):format(file, number, what), 0) end
  local names, set, seen = nil, { path = file, rows = {} }, {}
  for line in (content:gsub("^\xef\xbb\xbf", "") .. "\n"):gmatch("(.-)\r?\n") do
    number = number + 1
    if line ~= "" then
      local fields, broken = fields_of(line)
      if not fields then fail(broken) end
      if not names then
        names = fields
        set.metrics = header_of(fields, fail, unscored)
      else
        local row = row_of(names, fields, folder, fail)
        if seen[row.image] then
          fail(("column image: %s stands in line %d already"):format(row.image, seen[row.image]))
        end
        seen[row.image] = number
        set.rows[#set.rows + 1] = row
      end
    end
  end
  if not names then error(file .. ": empty", 0) end
  if #set.rows == 0 then error(file .. ": no rows below the header", 0) end
  if not unscored and #set.metrics == 0 then error(file .. ": line 1: there is no column of scores", 0) end
  return set
end

-- ---- sets ----------------------------------------------------------------------------------

-- The source for lumen.data.loader of what `read` returns.
-- -> table
--   > file = os.tmpname()
--   > lumen.fs.write(file, "image,case,vessel\n" .. file .. ",p1,4.5\n")
--   > lumen.data.rated.source(lumen.data.rated.read(file)).metrics
--   1
function rated.source(set)
  local files = {}
  for i, row in ipairs(set.rows) do
    files[i] = { image = row.image, source = row.non_contrast, contrast = row.contrast,
                 scores = row.scores }
  end
  return { kind = "rated", metrics = #set.metrics, files = files }
end

-- A set of rated images by the name of a dataset, a CSV file, or a folder with ratings.csv:
-- { name, metrics = (names), source = (for the loader), cases = (one per image), native = (side of
-- made images) }. o: images (use the first N only; 0: all), size (what the network will see).
-- -> table
--   > set = lumen.data.rated.open("cas_p", { images = 20, size = 64 })
--   > #set.cases, set.metrics[2]
--   20
--   background
function rated.open(name, o)
  local count = o.images or 0
  local file = path.is_file(name) and name or path.is_file(name .. "/ratings.csv") and name .. "/ratings.csv"
  local set = { name = name, cases = {} }
  if not file then
    local found = require("lumen.data").dataset(name)
    if not found.metrics then
      error(("data %s has no ratings (cas_p, a CSV file, or a folder with ratings.csv has)"):format(name), 0)
    end
    local source, first, last = found.source("", "all", count, o.size or 224)
    set.source, set.metrics, set.native = source, found.metrics, found.native
    for i = first, last do set.cases[i] = ("%06d"):format(i) end
    return set
  end
  local read = rated.read(file)
  if count > 0 and count < #read.rows then read.rows = table.move(read.rows, 1, count, 1, {}) end
  for i, row in ipairs(read.rows) do set.cases[i] = row.case end
  set.metrics, set.source, set.rows = read.metrics, rated.source(read), read.rows
  return set
end

-- Splits the images of a set by their cases: two i64 tensors of items, counted from 0, those to
-- train on and those held out. About `share` of the cases is held out, always at least one on
-- either side; `seed` says which. Errors: a set of one case.
-- -> tensor, tensor
--   > train, test = lumen.data.rated.split({ "a", "a", "b", "c", "c" }, 0.3, 0)
--   > train.shape[1] + test.shape[1]
--   5
function rated.split(cases, share, seed)
  local list, known = {}, {}
  for _, case in ipairs(cases) do
    if not known[case] then
      known[case] = true
      list[#list + 1] = case
    end
  end
  if #list < 2 then error("images of one case cannot be split by case", 0) end
  table.sort(list)
  local order = core.argsort(core.rand({ #list }, { rng = { seed = seed, stream = "cases" } })):totable()
  local count = math.min(math.max(1, math.floor(#list * share + 0.5)), #list - 1)
  local held = {}
  for i = 1, count do held[list[order[i] + 1]] = true end
  local train, test = {}, {}
  for i, case in ipairs(cases) do
    local to = held[case] and test or train
    to[#to + 1] = i - 1
  end
  return core.tensor(train, { dtype = "i64" }), core.tensor(test, { dtype = "i64" })
end

-- A field as CSV has it.
local function quoted(text)
  return text:find('[,"\n\r]') and '"' .. text:gsub('"', '""') .. '"' or text
end

-- Writes the images of a set into a folder: image/, non_contrast/, contrast/ with PNG files, and
-- ratings.csv, as `read` takes it. set: as from `open`.
--   > folder = os.tmpname() .. ".d"
--   > lumen.data.rated.write(folder, lumen.data.rated.open("cas_p", { images = 2, size = 128 }))
--   > lumen.fs.list(folder)[4], lumen.data.rated.open(folder, {}).cases[2]
--   ratings.csv
--   000002
function rated.write(folder, set)
  local columns = { { "image", "image" }, { "source", "non_contrast" }, { "contrast", "contrast" } }
  for _, column in ipairs(columns) do core.fs.mkdir(folder .. "/" .. column[2]) end
  local names = {}
  for i, name in ipairs(set.metrics) do names[i] = quoted(name) end
  local lines = { "image,non_contrast,contrast,case,raters," .. table.concat(names, ",") }
  local loader <close> = core.data.loader { source = set.source, size = 32, threads = 0 }
  for i = 1, #loader do
    core.scope(function()
      local item, fields = loader:rated(i), {}
      for k, column in ipairs(columns) do
        local file = ("%s/%06d.png"):format(column[2], i)
        if item[column[1]] then core.image.save(folder .. "/" .. file, item[column[1]]) end
        fields[k] = item[column[1]] and file or ""
      end
      fields[4], fields[5] = quoted(set.cases[i]), tostring(set.rows and set.rows[i].raters or 3)
      for _, score in ipairs(item.scores:totable()) do fields[#fields + 1] = ("%.9g"):format(score) end
      lines[#lines + 1] = table.concat(fields, ",")
    end)
  end
  core.fs.write(folder .. "/ratings.csv", table.concat(lines, "\n") .. "\n")
end

local version = 1 -- of the stand-in: raise it when lm_rated_render changes its images or scores

local function made_key(s)
  return core.fs.hash_text(("%d %d %d %d %s"):format(version, s.seed or 0, s.count, s.size,
    s.preset or "default"))
end

-- A hash of what decides the images and ratings of some items (i64 [n], counted from 0) of a set.
-- -> str
--   > set = lumen.data.rated.open("cas_p", { images = 20, size = 64 })
--   > train, test = lumen.data.rated.split(set.cases, 0.2, 0)
--   > lumen.data.rated.signature(set, train) == lumen.data.rated.signature(set, test)
--   false
function rated.signature(set, items)
  local s = set.source
  local parts = { table.concat(items:totable(), ",") }
  if s.kind == "rated_phantom" then
    parts[2] = made_key(s)
  else
    for _, item in ipairs(items:totable()) do
      local f = s.files[item + 1]
      for _, name in ipairs { "image", "source", "contrast" } do
        parts[#parts + 1] = f[name] and core.fs.hash(f[name]) or "none"
      end
      for _, score in ipairs(f.scores) do parts[#parts + 1] = ("%.17g"):format(score) end
    end
  end
  return core.fs.hash_text(table.concat(parts, " "))
end

-- A set that is made while it is read, as files that are made once: in the folder rated of
-- lumen.data.cache(), by what they depend on. Other sets come back as they are.
-- -> table
--   > set = { source = { kind = "rated", files = {} } }
--   > lumen.data.rated.cached(set) == set
--   true
function rated.cached(set)
  local s = set.source
  if s.kind ~= "rated_phantom" then return set end
  local key = made_key(s)
  local base = require("lumen.data").cache() .. "/rated"
  local folder = base .. "/" .. key
  if not path.is_file(folder .. "/ratings.csv") then
    local mine = ("%s.%s"):format(folder, os.tmpname():match("[^/]*$"))
    rated.write(mine, set)
    local ok, message = pcall(core.fs.rename, mine, folder)
    if not ok and not path.is_file(folder .. "/ratings.csv") then error(message, 0) end
    if not ok then core.fs.remove_tree(mine, base) end -- another run was faster
  end
  local files = rated.open(folder, {})
  files.name, files.native, files.made = set.name, set.native, set.source
  return files
end

return rated
