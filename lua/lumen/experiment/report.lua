-- The answer of an experiment: table.md, table.csv, cells.csv, plot.svg and, when every cell
-- has finished, result.json, in the experiment's directory.
local core = require "lumen.core"
local plan = require "lumen.experiment.plan"
local statistics = require "lumen.experiment.statistics"

local report = {}

-- The directory's result.json as a table, or nil.
function report.result(dir)
  local file = dir .. "/result.json"
  return core.fs.exists(file) and core.json.decode(core.fs.read(file), file) or nil
end

-- Cells of a CSV line.
local function split_csv(line)
  local cells, at = {}, 1
  line = line:gsub('""', "\1") .. ","
  while at <= #line do
    local cell, after = line:match('^"([^"]*)",()', at)
    if not cell then cell, after = line:match("^([^,]*),()", at) end
    cells[#cells + 1] = (cell:gsub("\1", '"'))
    at = after
  end
  return cells
end

-- metric -> image -> value of a run, from images.csv (a line per test image); nil without it.
-- An undefined value counts as it does in the mean by default: 1 where dice is undefined too
-- (both masks are empty), else 0.
local function per_image(dir)
  local file = dir .. "/images.csv"
  if not core.fs.exists(file) then return nil end
  local head, columns = nil, {}
  for line in core.fs.read(file):gmatch("[^\n]+") do
    local cells = split_csv(line)
    if not head then
      head = cells
      for i = 2, #head do columns[head[i]] = {} end
    else
      for i = 2, #head do columns[head[i]][cells[1]] = tonumber(cells[i]) or false end
      for _, column in next, columns do
        if column[cells[1]] == false then
          column[cells[1]] = columns.dice and columns.dice[cells[1]] and 0 or 1
        end
      end
    end
  end
  return columns
end

local function agrees(values, mean)
  local sum, count = 0, 0
  for _, v in next, values do sum, count = sum + v, count + 1 end
  return count > 0 and type(mean) == "number" and math.abs(sum / count - mean) < 1e-4
end

-- Fill in cell.metrics (name -> number) and cell.images of the cells that have finished. Of the
-- values per image those stay whose mean is what the run reports.
local function collect(p)
  for _, cell in ipairs(p.cells) do
    local result = report.result(cell.task.dir)
    cell.metrics = result and result.metrics
    cell.images = result and per_image(cell.task.dir) or {}
    for _, metric in ipairs(p.experiment.report) do
      local values = cell.images[metric]
      if values and not agrees(values, cell.metrics[metric]) then cell.images[metric] = nil end
    end
  end
end

local function sorted_keys(map)
  local list = {}
  for key in next, map do list[#list + 1] = key end
  table.sort(list)
  return list
end

-- Differences per seed and image of cells that are paired by seed; nil unless all of them have
-- values, for the same images.
local function image_differences(paired, metric)
  local images, rows = nil, {}
  for s, pair in ipairs(paired) do
    local a, b = pair[1].images[metric], pair[2].images[metric]
    if not a or not b then return nil end
    images = images or sorted_keys(a)
    rows[s] = {}
    for i, name in ipairs(images) do
      if not a[name] or not b[name] then return nil end
      rows[s][i] = a[name] - b[name]
    end
  end
  return rows
end

local function number(x) return type(x) == "number" and x == x and x or nil end

-- The row's difference to its baseline: { mean =, low =, high =, method = "bootstrap" | "t" },
-- over the seeds that both have finished; nil for a baseline.
local function difference(row, metric)
  local base = row.baseline
  if not base or base == row then return nil end
  local together, differences = {}, {}
  for i, cell in ipairs(row.cells) do
    local other = base.cells[i]
    local a = number(cell.metrics and cell.metrics[metric])
    local b = number(other.metrics and other.metrics[metric])
    if a and b then
      together[#together + 1] = { cell, other }
      differences[#differences + 1] = a - b
    end
  end
  if #differences == 0 then return nil end
  local d = { mean = statistics.mean(differences), n = #differences }
  local rows = image_differences(together, metric)
  if rows then
    d.method, d.images = "bootstrap", #rows[1]
    d.low, d.high = statistics.bootstrap(rows)
  else
    d.method = "t"
    d.low, d.high = statistics.t_interval(differences)
  end
  return d
end

-- Per row and metric: { n =, mean =, deviation =, difference = }.
local function summarize(p)
  collect(p)
  for _, row in ipairs(p.rows) do
    row.summary = {}
    for _, metric in ipairs(p.experiment.report) do
      local values = {}
      for _, cell in ipairs(row.cells) do
        values[#values + 1] = number(cell.metrics and cell.metrics[metric])
      end
      row.summary[metric] = { n = #values, mean = statistics.mean(values),
        deviation = statistics.deviation(values), difference = difference(row, metric) }
    end
  end
end

local function fixed(x, signed)
  if not x or x ~= x then return "-" end
  local text = (signed and "%+.4f" or "%.4f"):format(x)
  return text:match("^[-+]0%.0000$") and "0.0000" or text
end

local function mean_cell(s)
  if s.n == 0 then return "failed" end
  return s.n > 1 and ("%s ± %s"):format(fixed(s.mean), fixed(s.deviation)) or fixed(s.mean)
end

local function difference_cell(s, row)
  local d = s.difference
  if row.baseline == row then return "baseline" end
  if not d then return "" end
  if not d.low then return fixed(d.mean, true) end
  return ("%s [%s, %s]"):format(fixed(d.mean, true), fixed(d.low, true), fixed(d.high, true))
end

-- Lines of cells as text of equal columns between bars.
local function markdown(lines)
  local width = {}
  for _, line in ipairs(lines) do
    for i, cell in ipairs(line) do width[i] = math.max(width[i] or 3, utf8.len(cell)) end
  end
  local function draw(line)
    local cells = {}
    for i, cell in ipairs(line) do cells[i] = cell .. (" "):rep(width[i] - utf8.len(cell)) end
    return "| " .. table.concat(cells, " | ") .. " |"
  end
  local rule = {}
  for i, w in ipairs(width) do rule[i] = ("-"):rep(w) end
  local text = { draw(lines[1]), draw(rule) }
  for i = 2, #lines do text[#text + 1] = draw(lines[i]) end
  return table.concat(text, "\n")
end

local function named_rows(p)
  for _, row in ipairs(p.rows) do
    if row.name then return true end
  end
  return false
end

-- Head and first cells of a row: its name, if there are names, and its settings.
local function place_columns(p)
  local head = named_rows(p) and { "" } or {}
  for _, axis in ipairs(p.axes) do head[#head + 1] = axis end
  if #head == 0 then head[1] = "" end
  return head, function(row)
    local cells = named_rows(p) and { row.name or "" } or {}
    for _, axis in ipairs(p.axes) do cells[#cells + 1] = plan.shown(row.settings[axis]) end
    if #cells == 0 then cells[1] = "" end
    return cells
  end
end

-- What the numbers are, in sentences.
local function notes(p)
  local methods, images, several, baselines = {}, nil, #p.seeds > 1, {}
  for _, row in ipairs(p.rows) do
    if row.baseline then baselines[row.baseline] = true end
    for _, metric in ipairs(p.experiment.report) do
      local d = row.summary[metric].difference
      if d and d.low then methods[d.method] = true end
      images = d and d.images or images
    end
  end
  local names = {}
  for _, row in ipairs(p.rows) do
    if baselines[row] then names[#names + 1] = row.label end
  end
  local seeds = table.concat(p.seeds, ", ")
  local lines = { several and ("Mean ± standard deviation over the seeds %s."):format(seeds)
    or ("One seed (%s): no spread is known."):format(seeds) }
  if #names > 0 and #p.rows > 1 then
    lines[#lines + 1] = ("The difference is to \"%s\"%s, seed by seed."):format(names[1],
      #names > 1 and (" with the same other settings") or "")
  end
  if methods.bootstrap then
    lines[#lines + 1] = ("In brackets its 95 %% confidence interval: paired bootstrap over " ..
      "the %d test images%s, %d samples.%s"):format(images, several and " and the seeds" or "",
      statistics.samples, #p.seeds < 5 and (several and
      (" With %d seeds it knows little about other trainings."):format(#p.seeds)
      or " It knows nothing about other trainings.") or "")
  elseif methods.t then
    lines[#lines + 1] = "In brackets its 95 % confidence interval: Student's t over the seeds."
  end
  return table.concat(lines, "\n")
end

-- The table as Markdown. The rows must have been summarized.
local function table_text(p)
  local head, place = place_columns(p)
  local several = #p.rows > 1
  for _, metric in ipairs(p.experiment.report) do
    head[#head + 1] = metric
    if several then head[#head + 1] = "difference" end
  end
  local lines = { head }
  for _, row in ipairs(p.rows) do
    local line = place(row)
    for _, metric in ipairs(p.experiment.report) do
      local s = row.summary[metric]
      local missing = s.n > 0 and s.n < #row.cells and (" (%d of %d seeds)"):format(s.n, #row.cells)
      line[#line + 1] = mean_cell(s) .. (missing or "")
      if several then line[#line + 1] = difference_cell(s, row) end
    end
    lines[#lines + 1] = line
  end
  return markdown(lines)
end

local function csv_line(cells)
  local parts = {}
  for i, cell in ipairs(cells) do
    local text = type(cell) == "number" and (cell == cell and ("%.10g"):format(cell) or "")
      or tostring(cell)
    parts[i] = text:find('[",\n]') and '"' .. text:gsub('"', '""') .. '"' or text
  end
  return table.concat(parts, ",") .. "\n"
end

local function or_nan(x) return x or 0 / 0 end

-- A line per row and metric.
local function table_csv(p)
  local head, place = place_columns(p)
  if head[1] == "" then head[1] = "row" end
  for _, name in ipairs { "metric", "seeds", "mean", "deviation", "baseline", "difference",
                          "low", "high", "interval" } do
    head[#head + 1] = name
  end
  local lines = { csv_line(head) }
  for _, row in ipairs(p.rows) do
    for _, metric in ipairs(p.experiment.report) do
      local s, line = row.summary[metric], place(row)
      local d = s.difference or {}
      for _, cell in ipairs { metric, s.n, s.mean, s.deviation,
                              row.baseline and row.baseline ~= row and row.baseline.label or "",
                              or_nan(d.mean), or_nan(d.low), or_nan(d.high), d.method or "" } do
        line[#line + 1] = cell
      end
      lines[#lines + 1] = csv_line(line)
    end
  end
  return table.concat(lines)
end

-- A line per cell, with all its metrics and where its run is.
local function cells_csv(p)
  local head, place = place_columns(p)
  if head[1] == "" then head[1] = "row" end
  local all = {}
  for _, cell in ipairs(p.cells) do
    for name, value in next, cell.metrics or {} do
      if type(value) == "number" then all[name] = true end
    end
  end
  local metrics = sorted_keys(all)
  for _, name in ipairs { "seed", "run", table.unpack(metrics) } do head[#head + 1] = name end
  local lines = { csv_line(head) }
  for _, cell in ipairs(p.cells) do
    local line = place(cell.row)
    line[#line + 1], line[#line + 2] = cell.seed, cell.task.dir:match("stages/.*$")
    for _, name in ipairs(metrics) do
      line[#line + 1] = or_nan(number(cell.metrics and cell.metrics[name]))
    end
    lines[#lines + 1] = csv_line(line)
  end
  return table.concat(lines)
end

-- ---- the plot -------------------------------------------------------------------------------

-- The axis that makes the x of the plot: the experiment's choice, else the first on which a
-- row has three or more numbers.
local function curve_axis(p)
  if p.experiment.plot ~= nil then return p.experiment.plot end
  for _, axis in ipairs(p.axes) do
    local seen, count = {}, 0
    for _, row in ipairs(p.rows) do
      local x = tonumber((tostring(row.settings[axis]):gsub("%%$", "")))
      if x and not seen[x] then seen[x], count = true, count + 1 end
    end
    if count >= 3 then return axis end
  end
  return false
end

local function curve_name(p, row, axis)
  local parts = { row.name }
  for _, other in ipairs(p.axes) do
    if other ~= axis and row.settings[other] ~= nil and row.settings[other] ~= "" then
      parts[#parts + 1] = ("%s=%s"):format(other, plan.shown(row.settings[other]))
    end
  end
  return table.concat(parts, " ")
end

-- Curves over the numbers of one axis; rows without it become level lines.
local function curves(p, axis, metric)
  local series, by_name, low, high = {}, {}, math.huge, -math.huge
  for _, row in ipairs(p.rows) do
    local x = tonumber((tostring(row.settings[axis]):gsub("%%$", "")))
    if x then low, high = math.min(low, x), math.max(high, x) end
  end
  for _, row in ipairs(p.rows) do
    local s, name = row.summary[metric], curve_name(p, row, axis)
    local x = tonumber((tostring(row.settings[axis]):gsub("%%$", "")))
    if s.n > 0 then
      if not by_name[name] then
        by_name[name] = { name = name, x = {}, y = {}, error = {}, level = not x }
        series[#series + 1] = by_name[name]
      end
      local one = by_name[name]
      for _, at in ipairs(x and { x } or { low, high }) do
        one.x[#one.x + 1], one.y[#one.y + 1] = at, s.mean
        one.error[#one.error + 1] = s.n > 1 and s.deviation or 0
      end
    end
  end
  return series
end

-- A point per row, named on the x axis.
local function points(p, metric)
  local one, ticks = { x = {}, y = {}, error = {}, points = true }, {}
  for i, row in ipairs(p.rows) do
    local s = row.summary[metric]
    ticks[i] = row.label
    if s.n > 0 then
      local k = #one.x + 1
      one.x[k], one.y[k], one.error[k] = i, s.mean, s.n > 1 and s.deviation or 0
    end
  end
  return { one }, ticks
end

-- plot.svg of the first metric of the report; returns a line that says what became of it.
local function draw(p)
  local metric, axis = p.experiment.report[1], curve_axis(p)
  local series, ticks
  if axis then series = curves(p, axis, metric) else series, ticks = points(p, metric) end
  local plot = require "lumen.plot"
  local ok, message = pcall(plot.errorbars, series, { file = p.out .. "/plot.svg",
    title = p.experiment.about, xlabel = axis or "", ticks = ticks,
    ylabel = #p.seeds > 1 and metric .. " (± standard deviation)" or metric })
  if ok then return nil end
  return "no plot: " .. tostring(message)
end

-- ---- all of it ------------------------------------------------------------------------------

local function result_json(p)
  local rows, metrics = {}, {}
  for i, row in ipairs(p.rows) do
    local r = { label = row.label, name = row.name, settings = next(row.settings)
      and row.settings or nil, baseline = row.baseline and row.baseline.label }
    metrics[row.label] = {}
    for _, metric in ipairs(p.experiment.report) do
      local s = row.summary[metric]
      r[metric] = { n = s.n, mean = s.mean, deviation = s.deviation, difference = s.difference }
      metrics[row.label][metric] = s.mean
    end
    rows[i] = r
  end
  return core.json.encode { finished = true, experiment = p.experiment.name, preset = p.o.preset,
    seeds = p.seeds, rows = rows, metrics = metrics } .. "\n"
end

-- Write the files. complete: every cell has finished. Returns the text for the screen.
function report.write(p, complete)
  summarize(p)
  local text = ("%s\n\n%s\n\n%s\n"):format(p.experiment.about, table_text(p), notes(p))
  core.fs.write(p.out .. "/table.md", "# " .. p.experiment.name .. "\n\n" .. text)
  core.fs.write(p.out .. "/table.csv", table_csv(p))
  core.fs.write(p.out .. "/cells.csv", cells_csv(p))
  local complaint = draw(p)
  if complaint then text = text .. complaint .. "\n" end
  if complete then core.fs.write(p.out .. "/result.json", result_json(p)) end
  return text
end

return report
