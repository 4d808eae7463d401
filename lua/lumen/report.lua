-- report.html: one page about one run or several: metrics, curves, options, environment and
-- pictures, all inside the file. Written into every run directory that finishes, and by
-- `lumen report`.
local chart = require "lumen.report.chart"
local core = require "lumen.core"
local html = require "lumen.report.html"
local source = require "lumen.report.source"

local report = {}

local escape = html.escape
local most_bytes = 24 * 1024 * 1024 -- of pictures in one page
local most_pictures = 12            -- of all runs together, but 2 of each

local function number(v)
  if type(v) ~= "number" then return escape(tostring(v)) end
  if math.type(v) == "integer" then return ("%d"):format(v) end
  if v ~= v then return "nan" end
  return escape(("%.4g"):format(v))
end

-- Metrics: four places, so that columns can be read down.
local function fixed(v)
  local size = type(v) == "number" and math.type(v) == "float" and math.abs(v) or 0
  return size >= 1e-3 and size < 1e4 and ("%.4f"):format(v) or number(v)
end

-- Names that tell the runs apart: what all have in front is left out.
local function name_runs(runs)
  local common = runs[1].dir:match("^(.*/)") or ""
  for _, run in ipairs(runs) do
    while run.dir:sub(1, #common) ~= common do common = common:match("^(.*/).+$") or "" end
  end
  for _, run in ipairs(runs) do run.name = #runs > 1 and run.dir:sub(#common + 1) or run.dir end
end

local function heads(runs, first)
  local list = { first or "" }
  for i, run in ipairs(runs) do
    list[#list + 1] = #runs > 1 and html.dot(i) .. escape(run.name) or ""
  end
  return list
end

-- Rows { name, value of run 1, .. } of lists of { name, value }, in order of appearance.
local function merge(runs, field)
  local rows, index = {}, {}
  for i, run in ipairs(runs) do
    for _, pair in ipairs(run[field]) do
      if not index[pair[1]] then
        rows[#rows + 1] = { pair[1], values = {} }
        index[pair[1]] = rows[#rows]
      end
      index[pair[1]].values[i] = pair[2]
    end
  end
  return rows
end

local expected = { out = true, resume = true } -- options that always differ, and say nothing

local function differs(row, count)
  if expected[row[1]] then return false end
  for i = 2, count do
    if tostring(row.values[i]) ~= tostring(row.values[1]) then return true end
  end
  return false
end

-- ---- sections ----

local function mean(list)
  local sum, n = 0, 0
  for _, v in ipairs(list or {}) do
    if v == v then sum, n = sum + v, n + 1 end
  end
  return n > 0 and sum / n or nil
end

local function overview(runs)
  local rows = {}
  for i, run in ipairs(runs) do
    local log = run.log
    local steps = log and log.columns.step[log.rows]
    local rate, wait = log and mean(log.columns.images_per_s), log and mean(log.columns.data_wait)
    rows[i] = { (#runs > 1 and html.dot(i) or "") .. escape(run.name), run.finished and "finished" or "<b>not finished</b>",
      steps and ("%d"):format(steps) or "", log and log.columns.epoch and number(log.columns.epoch[log.rows]) or "",
      rate and ("%.1f"):format(rate) or "", wait and ("%.0f %%"):format(100 * wait) or "" }
  end
  return html.table("numbers", { "run", "state", "steps", "epochs", "images/s", "waiting for data" }, rows)
end

local function metrics(runs)
  local rows, merged = {}, merge(runs, "metrics")
  if #merged == 0 then return "" end
  for k, row in ipairs(merged) do
    rows[k] = { escape(row[1]) }
    for i = 1, #runs do
      local v, first = row.values[i], row.values[1]
      local cell = v == nil and "" or fixed(v)
      if i > 1 and type(v) == "number" and type(first) == "number" then
        cell = ("%s <small>%+.4f</small>"):format(cell, v - first)
      end
      rows[k][i + 1] = cell
    end
  end
  return "<h2>Metrics</h2>\n" .. html.table("numbers", heads(runs, "metric"), rows)
end

local last_columns = { lr = 1, grad_norm = 2, images_per_s = 3, data_wait = 4 }
local how = { lr = { exact = true, linear = true }, images_per_s = { linear = true },
              data_wait = { linear = true } }

local function column_names(runs)
  local names, seen = {}, { step = true, epoch = true, skipped = true }
  for _, run in ipairs(runs) do
    for _, name in ipairs(run.log and run.log.names or {}) do
      if not seen[name] then
        seen[name] = true
        names[#names + 1] = name
      end
    end
  end
  local function rank(name)
    return name == "loss" and 1 or last_columns[name] and 100 + last_columns[name] or 50
  end
  table.sort(names, function(a, b)
    if rank(a) ~= rank(b) then return rank(a) < rank(b) end
    return a < b
  end)
  return names
end

local function curves(runs)
  local figures = {}
  for _, name in ipairs(column_names(runs)) do
    local series = {}
    for i, run in ipairs(runs) do
      local y = run.log and run.log.columns[name]
      if y then
        series[#series + 1] = { color = i, name = run.name, x = run.log.columns.step, y = y }
      end
    end
    figures[#figures + 1] = chart.figure(name, series, how[name])
  end
  if #figures == 0 then return "" end
  return '<h2>Curves</h2>\n<p class="soft">over optimizer steps; faint: as measured, strong: '
    .. 'running mean</p>\n<div class="charts">\n' .. table.concat(figures) .. "</div>\n"
end

-- A table of names and values: of one run all, of several those that differ (marked) or those
-- that do not.
local function settings(title, runs, field, different)
  local rows = {}
  for _, row in ipairs(merge(runs, field)) do
    local cells = { escape(row[1]) }
    for i = 1, different and #runs or 1 do -- what is the same stands there once
      local v = row.values[i]
      cells[i + 1] = v == nil and '<span class="soft">not set</span>'
        or "<code>" .. escape(v) .. "</code>"
    end
    if differs(row, #runs) == different and not (#runs > 1 and expected[row[1]]) then
      if different then cells.class = "differs" end
      rows[#rows + 1] = cells
    end
  end
  if #rows == 0 then return "" end
  return ("<h2>%s</h2>\n"):format(title) .. html.table("settings", different and heads(runs, "name")
    or { "name", "" }, rows)
end

local function stages(run, beside)
  if #run.stages == 0 then return "" end
  local rows = {}
  for i, stage in ipairs(run.stages) do
    local parts = {}
    for k, pair in ipairs(stage.metrics) do parts[k] = escape(pair[1]) .. " " .. number(pair[2]) end
    local name = escape(stage.name)
    if beside and stage.report and stage.name:match("^[%w_.-]+$") then
      name = ('<a href="stages/%s/report.html">%s</a>'):format(name, name)
    end
    rows[i] = { name, stage.finished and "finished" or "<b>not finished</b>", table.concat(parts, ", ") }
  end
  return "<h2>Stages</h2>\n" .. html.table("stages", { "stage", "state", "metrics" }, rows)
end

-- The last pictures of every run, inside the page.
local function pictures(runs)
  local parts, left, most = {}, most_bytes, math.max(2, most_pictures // #runs)
  for i, run in ipairs(runs) do
    local figures, first = {}, math.max(1, #run.pictures - most + 1)
    for k = first, #run.pictures do
      local name = run.pictures[k]
      local data = core.fs.read(("%s/images/%s"):format(run.dir, name))
      if data:sub(1, 8) == "\137PNG\r\n\26\n" and #data <= left and #data >= 24 then
        left = left - #data
        local w, h = (">I4I4"):unpack(data, 17)
        figures[#figures + 1] = ('<figure><img width="%d" height="%d" alt="%s" '
          .. 'src="data:image/png;base64,%s"><figcaption>%s</figcaption></figure>\n'):format(
          w, h, escape(name), html.base64(data), escape((name:gsub("%.png$", ""))))
      end
    end
    if #figures > 0 then
      if #runs > 1 then parts[#parts + 1] = ("<h3>%s%s</h3>\n"):format(html.dot(i), escape(run.name)) end
      local hidden = #run.pictures - #figures
      if hidden > 0 then
        parts[#parts + 1] = ('<p class="soft">%d more in <span class="path">%s/images</span></p>\n'):format(
          hidden, escape(run.dir))
      end
      parts[#parts + 1] = '<div class="pictures">\n' .. table.concat(figures) .. "</div>\n"
    end
  end
  return #parts > 0 and "<h2>Pictures</h2>\n" .. table.concat(parts) or ""
end

-- The page about run directories, as text. options: metrics (of a single run that ends right
-- now), recipe (its name), beside = true (the page will lie in the run directory: links to its
-- stages). Raises for what is no run directory, naming the file that is missing or broken.
--   > ok, why = pcall(lumen.report.page, {"/nowhere"})
--   > why
--   /nowhere is no run directory (no options.lua)
function report.page(dirs, options)
  local runs, o = {}, options or {}
  if #dirs == 0 then error("report: no run directory is given", 0) end
  for i, dir in ipairs(dirs) do runs[i] = source.read(dir, o.metrics) end
  if o.recipe then runs[1].recipe = o.recipe end
  name_runs(runs)
  local title = #runs == 1 and (runs[1].recipe or runs[1].name) or ("%d runs"):format(#runs)
  local body = {
    ("<h1>%s</h1>\n"):format(escape(title)),
    ('<p class="soft">lumen %s, %s</p>\n'):format(escape(core.version), os.date("%Y-%m-%d %H:%M")),
    overview(runs),
    settings("Options that differ", runs, "options", true),
    settings("Environment that differs", runs, "environment", true),
    metrics(runs), curves(runs), #runs == 1 and stages(runs[1], o.beside) or "", pictures(runs),
    settings(#runs == 1 and "Options" or "Options that all have", runs, "options", false),
    settings(#runs == 1 and "Environment" or "Environment that all had", runs, "environment", false),
  }
  return html.page(title, table.concat(body))
end

-- Write the page about run directories to a file.
--   > ok, why = pcall(lumen.report.write, {"/nowhere"}, "/nowhere/x.html")
--   > why
--   /nowhere is no run directory (no options.lua)
function report.write(dirs, file, options)
  core.fs.write(file, report.page(dirs, options))
end

return report
