-- How well scores agree with ratings: correlations, errors, and their spread over splits. Scores
-- and ratings are tensors [n] of any dtype or lists of numbers; results are numbers, computed in
-- double precision, NaN where they are undefined: a NaN among the values, all values equal, fewer
-- than two.
local core = require "lumen.core"
local known = require("lumen.options").known
local statistics = require "lumen.experiment.statistics"

local correlation = {}

local nan = 0 / 0

-- ---- what is given -------------------------------------------------------------------------

local function list_of(x, who)
  if core.is_tensor(x) then
    if x.ndim ~= 1 then
      error(("%s: scores are a tensor [n] or a list, not [%s]"):format(who,
        table.concat(x.shape, " x ")), 4)
    end
    return x:detach():to("cpu"):to("f64"):totable()
  end
  if type(x) ~= "table" then
    error(("%s: scores are a tensor [n] or a list, not a %s"):format(who, type(x)), 4)
  end
  local list = {}
  for i = 1, #x do
    local v = tonumber(x[i])
    if not v then error(("%s: value %d is no number"):format(who, i), 4) end
    list[i] = v + 0.0
  end
  return list
end

-- Two lists of one length, and whether what depends on them is defined.
local function pair_of(x, y, who)
  local a, b = list_of(x, who), list_of(y, who)
  if #a ~= #b then
    error(("%s: x has %d values but y has %d"):format(who, #a, #b), 3)
  end
  for i = 1, #a do
    if a[i] ~= a[i] or b[i] ~= b[i] then return a, b, false end
  end
  return a, b, #a >= 2
end

-- ---- ranks ---------------------------------------------------------------------------------

-- Positions of the values in ascending order.
local function order_of(values)
  local order = {}
  for i = 1, #values do order[i] = i end
  table.sort(order, function(i, j)
    if values[i] ~= values[j] then return values[i] < values[j] end
    return i < j
  end)
  return order
end

-- Calls f(first, last) for each run of equal values, where equal(i) says that places i - 1 and i
-- of the order are equal.
local function runs(n, equal, f)
  local first = 1
  for i = 2, n + 1 do
    if i > n or not equal(i) then
      f(first, i - 1)
      first = i
    end
  end
end

local function ranks_of(values)
  local order, ranks = order_of(values), {}
  runs(#values, function(i) return values[order[i]] == values[order[i - 1]] end,
    function(first, last)
      for i = first, last do ranks[order[i]] = (first + last) / 2 end
    end)
  return ranks
end

-- Ranks of x [n], from 1; equal values share the average of their ranks: f64 [n]. NaN when a
-- value is.
-- -> tensor
--   > lumen.metrics.ranks { 30, 10, 20, 20 }
--   f64 [4] {4, 1, 2.5, 2.5}
function correlation.ranks(x)
  local values = list_of(x, "ranks")
  local defined = true
  for _, v in ipairs(values) do defined = defined and v == v end
  if defined then return core.tensor(ranks_of(values), { dtype = "f64" }) end
  return core.full({ #values }, nan, { dtype = "f64" })
end

-- ---- correlations --------------------------------------------------------------------------

local function pearson(x, y)
  local n, mean_x, mean_y = #x, statistics.mean(x), statistics.mean(y)
  local xy, xx, yy = 0.0, 0.0, 0.0
  for i = 1, n do
    local a, b = x[i] - mean_x, y[i] - mean_y
    xy, xx, yy = xy + a * b, xx + a * a, yy + b * b
  end
  local r = xy / (math.sqrt(xx) * math.sqrt(yy))
  return r == r and math.max(-1.0, math.min(1.0, r)) or nan
end

-- Spearman's rank correlation of scores and ratings, both [n]: Pearson's of the average ranks.
-- -> number
--   > lumen.metrics.srcc({ 1, 2, 3, 4 }, { 1, 10, 100, 50 })
--   0.8
function correlation.srcc(x, y)
  local a, b, defined = pair_of(x, y, "srcc")
  return defined and pearson(ranks_of(a), ranks_of(b)) or nan
end

-- Sorts list[first .. last] and returns how many pairs stood in descending order.
local function inversions(list, spare, first, last)
  if first >= last then return 0 end
  local middle = (first + last) // 2
  local count = inversions(list, spare, first, middle) + inversions(list, spare, middle + 1, last)
  local i, j = first, middle + 1
  for k = first, last do
    if j > last or i <= middle and list[i] <= list[j] then
      spare[k], i = list[i], i + 1
    else
      spare[k], j = list[j], j + 1
      count = count + middle - i + 1
    end
  end
  table.move(spare, first, last, first, list)
  return count
end

-- Pairs of equal things among n in order, and how many different things there are.
local function ties(n, equal)
  local pairs_tied, different = 0, 0
  runs(n, equal, function(first, last)
    local m = last - first + 1
    pairs_tied, different = pairs_tied + m * (m - 1) // 2, different + 1
  end)
  return pairs_tied, different
end

-- Kendall's rank correlation of scores and ratings, both [n], with ties: tau-b, or with
-- variant = "c" Stuart's tau-c, for few levels on one side. In n log n steps (Knight 1966).
-- -> number
--   > lumen.metrics.krcc({ 1, 2, 3, 4 }, { 1, 10, 100, 50 })
--   0.66667
function correlation.krcc(x, y, options)
  local o = known("krcc", options, { "variant" })
  local variant = o.variant or "b"
  if variant ~= "b" and variant ~= "c" then
    error(("krcc: variant is b or c, not %s"):format(tostring(variant)), 2)
  end
  local a, b, defined = pair_of(x, y, "krcc")
  if not defined then return nan end
  local n, order = #a, {}
  for i = 1, n do order[i] = i end
  table.sort(order, function(i, j)
    if a[i] ~= a[j] then return a[i] < a[j] end
    if b[i] ~= b[j] then return b[i] < b[j] end
    return i < j
  end)
  local sorted = {}
  for i = 1, n do sorted[i] = b[order[i]] end
  local function equal_x(i) return a[order[i]] == a[order[i - 1]] end
  local tied_x, levels_x = ties(n, equal_x)
  local tied_both = ties(n, function(i) return equal_x(i) and sorted[i] == sorted[i - 1] end)
  local discordant = inversions(sorted, {}, 1, n)
  local tied_y, levels_y = ties(n, function(i) return sorted[i] == sorted[i - 1] end)
  local all = n * (n - 1) // 2
  local excess = all - tied_x - tied_y + tied_both - 2 * discordant -- concordant - discordant
  if variant == "c" then
    local levels = math.min(levels_x, levels_y)
    return 2 * excess * levels / (n * n * (levels - 1))
  end
  return excess / math.sqrt((all - tied_x) * (all - tied_y))
end

-- ---- the logistic curve --------------------------------------------------------------------

local function curve(b, x) return (b[1] - b[2]) / (1 + math.exp(-(x - b[3]) / b[4])) + b[2] end

local function squares(b, x, y)
  local sum = 0.0
  for i = 1, #x do sum = sum + (curve(b, x[i]) - y[i]) ^ 2 end
  return sum
end

-- Solves A v = r for a small symmetric positive definite A, by elimination; nil when it is not.
local function solve(a, r)
  local n, v = #r, {}
  for k = 1, n do
    if not (a[k][k] > 0) then return nil end
    for i = k + 1, n do
      local f = a[i][k] / a[k][k]
      for j = k, n do a[i][j] = a[i][j] - f * a[k][j] end
      r[i] = r[i] - f * r[k]
    end
  end
  for i = n, 1, -1 do
    local sum = r[i]
    for j = i + 1, n do sum = sum - a[i][j] * v[j] end
    v[i] = sum / a[i][i]
  end
  return v
end

-- J'J and J'(y - f) of the curve.
local function normal_equations(b, x, y)
  local a, r, d = {}, { 0.0, 0.0, 0.0, 0.0 }, {}
  for i = 1, 4 do a[i] = { 0.0, 0.0, 0.0, 0.0 } end
  for k = 1, #x do
    local s = 1 / (1 + math.exp(-(x[k] - b[3]) / b[4]))
    local slope = -(b[1] - b[2]) * s * (1 - s) / b[4]
    d[1], d[2], d[3], d[4] = s, 1 - s, slope, slope * (x[k] - b[3]) / b[4]
    local rest = y[k] - (b[1] - b[2]) * s - b[2]
    for i = 1, 4 do
      r[i] = r[i] + d[i] * rest
      for j = 1, 4 do a[i][j] = a[i][j] + d[i] * d[j] end
    end
  end
  return a, r
end

-- Least squares by Levenberg and Marquardt from parameters b: parameters, sum of squares. x and y
-- have mean 0 and deviation 1.
local function fit(b, x, y)
  local best, damping = squares(b, x, y), 1e-3
  for _ = 1, 500 do
    local a, r = normal_equations(b, x, y)
    for i = 1, 4 do a[i][i] = a[i][i] * (1 + damping) + 1e-12 end
    local step = solve(a, r)
    local try = step and { b[1] + step[1], b[2] + step[2], b[3] + step[3],
                           math.max(math.abs(b[4] + step[4]), 1e-6) }
    local sum = try and squares(try, x, y) or nan
    if sum < best then
      local gain = best - sum
      b, best, damping = try, sum, damping / 5
      if gain <= 1e-13 * best then break end
    else
      damping = damping * 4
      if damping > 1e12 then break end
    end
  end
  return b, best
end

local function standard(x)
  local mean, sum, z = statistics.mean(x), 0.0, {}
  for i = 1, #x do sum = sum + (x[i] - mean) ^ 2 end
  local deviation = math.sqrt(sum / #x)
  for i = 1, #x do z[i] = (x[i] - mean) / deviation end
  return z, mean, deviation
end

-- The fitted values and parameters; all NaN where no curve is determined.
local function logistic(x, y)
  local zx, mean_x, deviation_x = standard(x)
  local zy, mean_y, deviation_y = standard(y)
  if not (deviation_x > 0 and deviation_x < math.huge and deviation_y > 0 and
          deviation_y < math.huge) then
    local none = {}
    for i = 1, #x do none[i] = nan end
    return none, { nan, nan, nan, nan }
  end
  local low, high = 0.0, 0.0 -- around the mean
  for _, v in ipairs(zy) do low, high = math.min(low, v), math.max(high, v) end
  local rising, rising_sum = fit({ high, low, 0.0, 0.25 }, zx, zy)
  local falling, falling_sum = fit({ low, high, 0.0, 0.25 }, zx, zy)
  local b = falling_sum < rising_sum and falling or rising
  local fitted = {}
  for i = 1, #x do fitted[i] = curve(b, zx[i]) * deviation_y + mean_y end
  return fitted, { b[1] * deviation_y + mean_y, b[2] * deviation_y + mean_y,
                   b[3] * deviation_x + mean_x, b[4] * deviation_x }
end

-- Scores x [n] mapped to the scale of ratings y [n] by the logistic curve
-- (b1 - b2) / (1 + exp(-(x - b3) / |b4|)) + b2 of least squares (VQEG 2000): f64 [n], and the
-- list {b1, b2, b3, b4}. The fit starts at {max y, min y, mean x, deviation of x / 4} and,
-- for scores that fall with quality, at the same curve upside down; the better one is taken. NaN
-- where x or y is constant or not finite.
-- -> tensor, table
--   > x = { 0, 1, 2, 3, 4, 5, 6 }
--   > y = { 1.0, 1.1, 1.5, 3.0, 4.5, 4.9, 5.0 }
--   > fitted, b = lumen.metrics.logistic(x, y)
--   > ("%.2f %.2f %.2f %.2f"):format(table.unpack(b))
--   5.00 1.00 3.00 0.52
function correlation.logistic(x, y)
  local a, b, defined = pair_of(x, y, "logistic")
  if not defined then
    return core.full({ #a }, nan, { dtype = "f64" }), { nan, nan, nan, nan }
  end
  local fitted, parameters = logistic(a, b)
  return core.tensor(fitted, { dtype = "f64" }), parameters
end

-- Pearson's linear correlation of scores and ratings, both [n]; with logistic = true after the
-- curve of `logistic`.
-- -> number
--   > x, y = { 0, 1, 2, 3, 4, 5, 6 }, { 1.0, 1.1, 1.5, 3.0, 4.5, 4.9, 5.0 }
--   > lumen.metrics.plcc(x, y), lumen.metrics.plcc(x, y, { logistic = true }) > 0.999
--   0.96178
--   true
function correlation.plcc(x, y, options)
  local o = known("plcc", options, { "logistic" })
  local a, b, defined = pair_of(x, y, "plcc")
  if not defined then return nan end
  if o.logistic then a = logistic(a, b) end
  return pearson(a, b)
end

-- Root of the mean squared difference of scores and ratings, both [n]; with logistic = true
-- after the curve of `logistic`. NaN for nothing.
-- -> number
--   > lumen.metrics.rmse({ 1, 2, 3, 4 }, { 1, 2, 3, 6 })
--   1.0
function correlation.rmse(x, y, options)
  local o = known("rmse", options, { "logistic" })
  local a, b = pair_of(x, y, "rmse")
  if o.logistic then a = logistic(a, b) end
  local sum = 0.0
  for i = 1, #a do sum = sum + (a[i] - b[i]) ^ 2 end
  return math.sqrt(sum / #a)
end

-- Area under the ROC curve of scores [n] for labels [n] (not 0: positive); ties count half. NaN
-- without a positive or without a negative.
-- -> number
--   > lumen.metrics.auc({ 0.1, 0.4, 0.35, 0.8 }, { 0, 0, 1, 1 })
--   0.75
function correlation.auc(scores, labels)
  local s, t, defined = pair_of(scores, labels, "auc")
  if not defined then return nan end
  local ranks, sum, positive = ranks_of(s), 0.0, 0
  for i = 1, #s do
    if t[i] ~= 0 then sum, positive = sum + ranks[i], positive + 1 end
  end
  return (sum - positive * (positive + 1) / 2) / (positive * (#s - positive))
end

-- ---- over splits ---------------------------------------------------------------------------

-- What results of one measure on several random splits say together: a list of numbers becomes
-- { count, mean, deviation, median, low, high }; low and high bound the confidence interval of
-- the mean at `share` (0.95) by Student's t. Random splits of one data set share most of their
-- images, so their results are not independent and the plain interval is too narrow: give
-- test_share, the share of the data in each test set, for the corrected variance
-- (1 / n + test_share / (1 - test_share)) s^2 (Nadeau and Bengio 2003). low, high and deviation
-- are NaN below two values.
-- -> table
--   > s = lumen.metrics.over_splits({ 0.80, 0.82, 0.84 }, { test_share = 0.2 })
--   > ("%.2f from %.3f to %.3f"):format(s.mean, s.low, s.high)
--   0.82 from 0.754 to 0.886
function correlation.over_splits(values, options)
  local o = known("over_splits", options, { "share", "test_share" })
  local list = list_of(values, "over_splits")
  local n, share, test = #list, o.share or 0.95, o.test_share or 0
  if not (share > 0 and share < 1) or not (test >= 0 and test < 1) then
    error("over_splits: share and test_share lie between 0 and 1", 2)
  end
  local mean, deviation = statistics.mean(list), statistics.deviation(list)
  if mean ~= mean then
    return { count = n, mean = nan, deviation = nan, low = nan, high = nan, median = nan }
  end
  local sorted = table.move(list, 1, n, 1, {})
  table.sort(sorted)
  local half = n < 2 and nan or statistics.t_quantile(share, n - 1) * deviation *
    math.sqrt(1 / n + test / (1 - test))
  return { count = n, mean = mean, deviation = deviation, low = mean - half, high = mean + half,
           median = (sorted[(n + 1) // 2] + sorted[n // 2 + 1]) / 2 }
end

return correlation
