-- Curves as inline SVG: axes with round numbers, one curve a run, faint values under a smooth line.
local history = require "lumen.run.history"
local html = require "lumen.report.html"

local chart = {}

local width, height = 520, 230
local left, right, top, bottom = 52, 10, 8, 24
local most_points = 700

local function finite(v) return v == v and math.abs(v) < math.huge end

-- The share `q` smallest of the finite values of all lists.
local function quantile(sorted, q)
  return sorted[math.max(1, math.min(#sorted, math.floor(q * (#sorted - 1) + 1.5)))]
end

-- Smallest and largest value to show: extremes of the smooth curves and all but the outermost
-- hundredth of the values, so that one outlier does not flatten the rest.
local function extent(series)
  local all, low, high = {}, math.huge, -math.huge
  for _, s in ipairs(series) do
    for i, y in ipairs(s.y) do
      if finite(y) then all[#all + 1] = y end
      local m = s.smooth[i]
      if finite(m) then low, high = math.min(low, m), math.max(high, m) end
    end
  end
  if #all == 0 then return nil end
  table.sort(all)
  low, high = math.min(low, quantile(all, 0.01)), math.max(high, quantile(all, 0.99))
  return low, high, all[1] > 0 and high / math.max(low, 1e-300) > 100
end

-- Multiples of 1, 2 or 5 times a power of ten, about `count` of them, within low..high.
--   > table.concat(require("lumen.report.chart").ticks(0, 1, 4), " ")
--   0.0 0.2 0.4 0.6 0.8 1.0
function chart.ticks(low, high, count)
  local raw = (high - low) / count
  local power = 10 ^ math.floor(math.log(raw, 10))
  local step = power * (raw / power < 1.5 and 1 or raw / power < 3.5 and 2 or raw / power < 7.5 and 5 or 10)
  local list, first, last = {}, math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
  if last - first > 50 then return { low, high } end -- steps too fine for doubles
  for i = first, last do list[#list + 1] = i * step end
  return list
end

-- Powers of ten within low..high; with their doubles and fives when there are few.
local function log_ticks(low, high)
  local list = {}
  for power = math.floor(math.log(low, 10)), math.ceil(math.log(high, 10)) do
    for _, m in ipairs(math.log(high / low, 10) > 3 and { 1 } or { 1, 2, 5 }) do
      local v = m * 10.0 ^ power
      if v >= low * 0.999 and v <= high * 1.001 then list[#list + 1] = v end
    end
  end
  return list
end

local function label(v) return ((("%.4g"):format(v)):gsub("e%+?(%-?)0*(%d)", "e%1%2")) end

-- "x,y x,y ..": breaks at what is not finite; long curves keep the smallest and the largest value
-- of every part.
local function path(xs, ys, to_x, to_y)
  local parts, pen = {}, "M"
  local function put(i)
    if not finite(ys[i]) then
      pen = "M"
      return
    end
    parts[#parts + 1] = ("%s%.1f %.1f"):format(pen, to_x(xs[i]), to_y(ys[i]))
    pen = "L"
  end
  local n = #ys
  local stride = math.max(1, math.ceil(2 * n / most_points))
  for first = 1, n, stride do
    local low, high = first, first
    for i = first, math.min(n, first + stride - 1) do
      if not finite(ys[low]) or ys[i] < ys[low] then low = i end
      if not finite(ys[high]) or ys[i] > ys[high] then high = i end
    end
    put(math.min(low, high))
    if low ~= high then put(math.max(low, high)) end
  end
  return table.concat(parts)
end

local function axes(x_low, x_high, y_ticks, to_x, to_y)
  local parts = {}
  for _, v in ipairs(y_ticks) do
    local y = to_y(v)
    parts[#parts + 1] = ('<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/>'):format(left,
      width - right, y, y)
    parts[#parts + 1] = ('<text x="%d" y="%.1f" text-anchor="end">%s</text>'):format(left - 6, y + 4,
      html.escape(label(v)))
  end
  for _, v in ipairs(x_high > x_low and chart.ticks(x_low, x_high, 5) or { x_low }) do
    if v == math.floor(v) then
      parts[#parts + 1] = ('<text x="%.1f" y="%d" text-anchor="middle">%s</text>'):format(to_x(v),
        height - 6, html.escape(label(v)))
    end
  end
  return table.concat(parts)
end

-- A figure: series is a list of { color = 1.., name =, x = list, y = list }. Nil when there is no
-- finite value. options: exact = true (no running mean), linear = true (never logarithmic).
function chart.figure(title, series, options)
  local x_low, x_high = math.huge, -math.huge
  local exact, linear = options and options.exact, options and options.linear
  for _, s in ipairs(series) do
    s.smooth = exact and s.y or history.smooth(s.y, 1 - 1 / math.max(1, math.min(#s.y / 50, 100)))
    x_low, x_high = math.min(x_low, s.x[1]), math.max(x_high, s.x[#s.x])
  end
  local low, high, logarithmic = extent(series)
  if not low then return nil end
  logarithmic = logarithmic and not linear
  if high - low <= 1e-12 * math.max(math.abs(low), math.abs(high)) then
    local half = math.max(math.abs(low) * 0.1, 1e-6)
    low, high, logarithmic = low - half, high + half, false
  end
  local y_ticks = logarithmic and log_ticks(low, high) or chart.ticks(low, high, 4)
  local scale = logarithmic and function(v) return math.log(math.max(v, 1e-300), 10) end or function(v) return v end
  local margin = 0.04 * (scale(high) - scale(low))
  local bottom_value, top_value = scale(low) - margin, scale(high) + margin
  local function to_x(v)
    return left + (width - left - right) * (x_high > x_low and (v - x_low) / (x_high - x_low) or 0.5)
  end
  local function to_y(v)
    local share = (scale(v) - bottom_value) / (top_value - bottom_value)
    return top + (height - top - bottom) * (1 - math.max(-2, math.min(3, share)))
  end
  local parts = { ('<figure class="chart"><figcaption>%s%s</figcaption>'):format(html.escape(title),
    logarithmic and " <small>logarithmic</small>" or "") }
  parts[#parts + 1] = ('<svg viewBox="0 0 %d %d" role="img" aria-label="%s">'):format(width, height,
    html.escape(title))
  parts[#parts + 1] = axes(x_low, x_high, y_ticks, to_x, to_y)
  local w, h = width - left - right, height - top - bottom -- the inner svg cuts off what lies outside
  parts[#parts + 1] = ('<svg x="%d" y="%d" width="%d" height="%d" viewBox="%d %d %d %d">'):format(left,
    top, w, h, left, top, w, h)
  local function curves(class, field)
    for _, s in ipairs(series) do
      parts[#parts + 1] = ('<path class="%s c%d" d="%s"><title>%s</title></path>'):format(class,
        (s.color - 1) % 8 + 1, path(s.x, s[field], to_x, to_y), html.escape(s.name))
      if #s.y == 1 and finite(s.y[1]) then
        parts[#parts + 1] = ('<circle class="c%d" r="3" cx="%.1f" cy="%.1f"/>'):format(
          (s.color - 1) % 8 + 1, to_x(s.x[1]), to_y(s.y[1]))
      end
    end
  end
  if not exact then curves("raw", "y") end
  curves("smooth", "smooth")
  parts[#parts + 1] = "</svg></svg></figure>\n"
  return table.concat(parts)
end

return chart
