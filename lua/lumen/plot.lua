-- Curves and histograms, drawn by the program gnuplot: in the terminal through chafa, else as
-- PNG or SVG files.
local core = require "lumen.core"
local history = require "lumen.run.history"
local path = require "lumen.path"
local terminal = require "lumen.terminal"

local plot = {}

-- Told apart by colour-blind eyes, on white.
local colors = { "#2563c9", "#d1493f", "#2f8f4e", "#8d4fb8", "#c98512", "#128a94", "#6b6b6b" }

-- Text inside gnuplot's single quotes.
local function quote(text)
  return "'" .. tostring(text):gsub("%c", " "):gsub("'", "''") .. "'"
end

local function need_gnuplot()
  local program = terminal.program("gnuplot")
  if not program then
    error("plot: the program gnuplot is not there\nhint: Debian package gnuplot-nox", 0)
  end
  return program
end

local function number(v)
  if v ~= v or v == math.huge or v == -math.huge then return "NaN" end
  return ("%.9g"):format(v)
end

-- A data block of gnuplot: rows of x and y.
local function block(name, xs, ys)
  local lines = { name .. " << EOD" }
  for i, y in ipairs(ys) do lines[#lines + 1] = number(xs and xs[i] or i) .. " " .. number(y) end
  if #ys == 0 then lines[#lines + 1] = "NaN NaN" end
  lines[#lines + 1] = "EOD"
  return table.concat(lines, "\n")
end

local function run_gnuplot(program, script)
  local file = terminal.temporary("gnuplot")
  core.fs.write(file, script)
  local pipe = io.popen(("%s %s 2>&1"):format(terminal.quote(program), terminal.quote(file)))
  local said = pipe:read("a")
  local ok = pipe:close()
  os.remove(file)
  if not ok then error("gnuplot: " .. said, 0) end
end

local function header(target, o)
  local kind = target:match("%.([^./]+)$")
  if kind ~= "png" and kind ~= "svg" then
    error(("plot: the file is a .png or .svg, not %s"):format(target), 0)
  end
  local size = o.size or { 800, 480 }
  return table.concat({
    ("set terminal %s size %d,%d noenhanced font 'sans,%d' background '#ffffff'"):format(
      kind == "png" and "pngcairo" or "svg", size[1], size[2], kind == "png" and 11 or 12),
    "set output " .. quote(target),
    "set border 3 lc rgb '#555555'", "set tics nomirror", "set grid lc rgb '#dddddd' lt 1",
    "set key top right noenhanced", "set title " .. quote(o.title or "") .. " noenhanced",
    "set xlabel " .. quote(o.xlabel or "") .. " noenhanced",
    "set ylabel " .. quote(o.ylabel or "") .. " noenhanced",
    o.log and "set logscale y" or "", "",
  }, "\n")
end

-- series: list of { name =, x = list or nil, y = list, faint = bool, color = index }.
local function draw_lines(series, o)
  local program = need_gnuplot()
  terminal.deliver(function(target)
    local blocks, curves, any = {}, {}, false
    for i, s in ipairs(series) do
      for _, y in ipairs(s.y) do
        if y == y and math.abs(y) < math.huge and (not o.log or y > 0) then any = true end
      end
      blocks[i] = block("$d" .. i, s.x, s.y)
      curves[i] = ("$d%d using 1:2 with %s lw %s lc rgb '%s%s' %s"):format(i,
        #s.y == 1 and "points" or "lines", s.faint and "1" or "2", s.faint and "#99" or "#",
        colors[((s.color or i) - 1) % #colors + 1]:sub(2),
        s.name and "title " .. quote(s.name) or "notitle")
    end
    if not any then error("plot: there is no finite value to draw", 0) end
    run_gnuplot(program, header(target, o) .. table.concat(blocks, "\n") .. "\nplot "
      .. table.concat(curves, ", \\\n     ") .. "\n")
  end, "plot", o.file)
end

local function values_of(x)
  if core.is_tensor(x) then return x:detach():to("cpu"):to("f64"):contiguous():totable() end
  for i, v in ipairs(x) do
    if type(v) ~= "number" then
      error(("plot: value %d of a list is no number but a %s"):format(i, type(v)), 0)
    end
  end
  return x
end

-- Series of a tensor [L], or [K, L] (a curve a row).
local function from_tensor(x)
  if #x.shape == 0 then x = x:reshape({ 1 }) end
  if #x.shape > 2 or x:numel() == 0 then
    error(("plot: x is [L] or [K, L], not [%s]"):format(table.concat(x.shape, " x ")), 0)
  end
  local list = values_of(x)
  if #x.shape == 1 then return { { y = list } } end
  local series = {}
  for i, row in ipairs(list) do series[i] = { name = tostring(i), y = row } end
  return series
end

-- Loss curves of runs: the values faint, their running mean on top.
local function from_runs(dirs, fields)
  local series = {}
  for i, dir in ipairs(dirs) do
    local log = history.read(dir)
    for _, field in ipairs(fields) do
      local y = log.columns[field]
      if not y then
        error(("plot: %s has no column '%s' (there are %s)"):format(dir, field,
          table.concat(log.names, ", ")), 0)
      end
      local name, color = field, #fields > 1 and (#series // 2 + 1) or i
      if #dirs > 1 then name = dir .. " " .. field end
      local smooth = history.smooth(y, 1 - math.min(1, 20 / math.max(1, #y)))
      series[#series + 1] = { x = log.columns.step, y = y, faint = true, color = color }
      series[#series + 1] = { x = log.columns.step, y = smooth, name = name, color = color }
    end
  end
  return series
end

local function directory_of(x)
  if type(x) == "string" then return x end
  if type(x) == "table" and type(x.dir) == "string" then return x.dir end
end

-- What to draw, as series and default labels.
local function series_of(x, o)
  local dir = directory_of(x)
  if core.is_tensor(x) then return from_tensor(x), {} end
  if dir or (type(x) == "table" and directory_of(x[1])) then
    local dirs = {}
    for i, one in ipairs(dir and { x } or x) do
      dirs[i] = directory_of(one)
      if not dirs[i] or not path.is_dir(dirs[i]) then
        error(("plot: %s is no run directory"):format(tostring(dirs[i] or one)), 0)
      end
    end
    local fields = o.fields or { "loss" }
    if type(fields) == "string" then fields = { fields } end
    return from_runs(dirs, fields), { xlabel = "step", ylabel = #fields == 1 and fields[1] or "",
                                      title = #dirs == 1 and dirs[1] or "" }
  end
  if type(x) ~= "table" or #x == 0 then
    error("plot: a tensor, a list of numbers or curves, or a run expected, not "
      .. (type(x) == "table" and "an empty table" or type(x)), 0)
  end
  if type(x[1]) == "number" then return { { y = values_of(x) } }, {} end
  local series = {}
  for i, one in ipairs(x) do
    local named = type(one) == "table" and type(one[1]) == "string"
    series[i] = { name = named and one[1] or tostring(i), y = values_of(named and one[2] or one),
                  x = named and one[3] and values_of(one[3]) or nil }
  end
  return series, {}
end

-- Draw curves in the terminal, or into a file whose name is printed. x: a tensor [L] or [K, L]
-- (a curve a row); a list of numbers; a list of tensors, lists or { "name", y, x }; a run, its
-- directory or a list of them (their logs: options.fields = "loss" or { "loss", "rec" }).
-- options: title, xlabel, ylabel, log = true (logarithmic y), size = {800, 480}, file = "x.png"
-- or "x.svg". Raises when gnuplot (Debian package gnuplot-nox) is not there.
--   > ok, why = pcall(lumen.plot, {})
--   > why
--   plot: a tensor, a list of numbers or curves, or a run expected, not an empty table
function plot.lines(x, o)
  o = o or {}
  local series, labels = series_of(x, o)
  draw_lines(series, setmetatable(labels, { __index = o }))
end

-- Names for x = 1, 2, ... under the axis.
local function named_ticks(names)
  local parts = {}
  for i, name in ipairs(names) do parts[i] = ("%s %d"):format(quote(name), i) end
  return ("set xtics (%s) rotate by -25 noenhanced\nset xrange [0.5:%d.5]\n"):format(
    table.concat(parts, ", "), #names)
end

-- Draw measurements with error bars. series: list of { name =, x =, y =, error = } (lists of
-- numbers), with level = true drawn as a dashed line, with points = true not joined. options:
-- ticks = names for x = 1, 2, ..., and those of plot.
--   > ok, why = pcall(require("lumen.plot").errorbars, { { x = {}, y = {}, error = {} } })
--   > why:match("plot: [^\n]*")
--   plot: there is no finite value to draw
function plot.errorbars(series, o)
  o = o or {}
  local blocks, curves, any = {}, {}, false
  for i, s in ipairs(series) do
    local rows = { ("$d%d << EOD"):format(i) }
    for k, y in ipairs(s.y) do
      any = any or y == y and math.abs(y) < math.huge
      rows[k + 1] = ("%s %s %s"):format(number(s.x[k]), number(y), number(s.error[k]))
    end
    blocks[i] = table.concat(rows, "\n") .. "\nEOD"
    local style = s.level and "using 1:2 with lines dt 2"
      or s.points and "using 1:2:3 with yerrorbars pt 7" or "using 1:2:3 with yerrorlines pt 7"
    curves[i] = ("$d%d %s lw 2 lc rgb '%s' %s"):format(i, style, colors[(i - 1) % #colors + 1],
      s.name and s.name ~= "" and "title " .. quote(s.name) or "notitle")
  end
  if not any then error("plot: there is no finite value to draw", 0) end
  local program = need_gnuplot()
  terminal.deliver(function(target)
    run_gnuplot(program, header(target, o) .. table.concat(blocks, "\n")
      .. "\nset key outside right top\nset offsets graph 0.03, graph 0.03, graph 0.05, graph 0.05\n"
      .. (o.ticks and named_ticks(o.ticks) or "")
      .. "plot " .. table.concat(curves, ", \\\n     ") .. "\n")
  end, "plot", o.file)
end

-- Draw the histogram of a tensor's values, or of a list of numbers. options: bins = 30, range =
-- {low, high}, and those of plot.
--   > ok, why = pcall(lumen.hist, "words")
--   > why
--   hist: a tensor or a list of numbers expected, not string
function plot.hist(x, o)
  o = o or {}
  if type(x) == "table" then x = core.tensor(values_of(x), { dtype = "f64" }) end
  if not core.is_tensor(x) then
    error("hist: a tensor or a list of numbers expected, not " .. type(x), 0)
  end
  local h = core.histogram(x, { bins = o.bins, range = o.range })
  if h.count == 0 then error("hist: there is no finite value to count", 0) end
  local program = need_gnuplot()
  local middles, width = {}, h.edges[2] - h.edges[1]
  for i = 1, #h.counts do middles[i] = (h.edges[i] + h.edges[i + 1]) / 2 end
  local note = ("%d values, mean %.4g, from %.4g to %.4g"):format(h.count, h.sum / h.count,
    h.min, h.max)
  if h.left_out > 0 then note = note .. (", %d left out"):format(h.left_out) end
  local labels = setmetatable({ title = o.title or note, ylabel = o.ylabel or "values" },
    { __index = o })
  terminal.deliver(function(target)
    run_gnuplot(program, header(target, labels) .. block("$d", middles, h.counts)
      .. ("\nset style fill solid 0.85\nset boxwidth %.9g\nset yrange [0:*]\n"):format(width)
      .. ("plot $d using 1:2 with boxes lc rgb '%s' notitle\n"):format(colors[1]))
  end, "hist", o.file)
end

return plot
