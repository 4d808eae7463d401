-- Segmentation metrics of two binary masks.
local core = require "lumen.core"

local metrics = {}

local nan = 0 / 0

local function binary(x)
  return core.ne(x, 0):cast("f64")
end

local function total(x) return core.sum(x):item() end

local function shape_of(x) return "[" .. table.concat(x.shape, " x ") .. "]" end

-- The image behind dimensions of size 1.
local function plane(x)
  local n = #x.shape
  if n < 2 or x:numel() ~= x.shape[n - 1] * x.shape[n] then
    error(("metrics: a mask must be one image [H, W], not %s"):format(shape_of(x)), 3)
  end
  return x:reshape({ x.shape[n - 1], x.shape[n] })
end

local function same_size(pred, truth)
  local a, b = shape_of(pred), shape_of(truth)
  if a ~= b then error(("metrics: pred is %s but truth is %s"):format(a, b), 3) end
end

-- Pixels of two masks of one shape: { tp =, fp =, fn =, tn = }, as numbers. Raises when the
-- shapes differ.
-- -> table
--   > pred, truth = lumen.tensor{1, 1, 0, 0}, lumen.tensor{1, 0, 1, 0}
--   > lumen.metrics.counts(pred, truth)
--   {fn = 1.0, fp = 1.0, tn = 1.0, tp = 1.0}
function metrics.counts(pred, truth)
  same_size(pred, truth)
  local p, t = binary(pred), binary(truth)
  local tp, sum_p, sum_t = total(p * t), total(p), total(t)
  return { tp = tp, fp = sum_p - tp, fn = sum_t - tp, tn = p:numel() - sum_p - sum_t + tp }
end

local function ratio(a, b) return b == 0 and nan or a / b end

-- Ratios of counts, by name.
local of_counts = {
  dice = function(c) return ratio(2 * c.tp, 2 * c.tp + c.fp + c.fn) end,
  iou = function(c) return ratio(c.tp, c.tp + c.fp + c.fn) end,
  sensitivity = function(c) return ratio(c.tp, c.tp + c.fn) end,
  precision = function(c) return ratio(c.tp, c.tp + c.fp) end,
  specificity = function(c) return ratio(c.tn, c.tn + c.fp) end,
  accuracy = function(c) return ratio(c.tp + c.tn, c.tp + c.tn + c.fp + c.fn) end,
}

-- Dice coefficient 2 |A n B| / (|A| + |B|), 0 to 1; NaN when both masks are empty.
-- -> number
--   > pred, truth = lumen.tensor{1, 1, 0, 0}, lumen.tensor{1, 0, 0, 0}
--   > lumen.metrics.dice(pred, truth)
--   0.66667
function metrics.dice(pred, truth) return of_counts.dice(metrics.counts(pred, truth)) end

-- Intersection over union |A n B| / |A u B|; NaN when both masks are empty.
-- -> number
--   > lumen.metrics.iou(lumen.tensor{1, 1, 0, 0}, lumen.tensor{1, 0, 0, 0})
--   0.5
function metrics.iou(pred, truth) return of_counts.iou(metrics.counts(pred, truth)) end

-- Share of the true pixels that were found, tp / (tp + fn); NaN when truth is empty.
-- -> number
--   > lumen.metrics.sensitivity(lumen.tensor{1, 0, 0}, lumen.tensor{1, 1, 0})
--   0.5
function metrics.sensitivity(pred, truth)
  return of_counts.sensitivity(metrics.counts(pred, truth))
end

-- Share of the predicted pixels that are true, tp / (tp + fp); NaN when nothing was predicted.
-- -> number
--   > lumen.metrics.precision(lumen.tensor{1, 1, 1}, lumen.tensor{1, 0, 0})
--   0.33333
function metrics.precision(pred, truth)
  return of_counts.precision(metrics.counts(pred, truth))
end

-- Share of the background that was left alone, tn / (tn + fp); NaN without background.
-- -> number
--   > lumen.metrics.specificity(lumen.tensor{1, 1, 0, 0}, lumen.tensor{1, 0, 0, 0})
--   0.66667
function metrics.specificity(pred, truth)
  return of_counts.specificity(metrics.counts(pred, truth))
end

-- Share of the pixels that are right, (tp + tn) / all.
-- -> number
--   > lumen.metrics.accuracy(lumen.tensor{1, 1, 0, 0}, lumen.tensor{1, 0, 0, 0})
--   0.75
function metrics.accuracy(pred, truth) return of_counts.accuracy(metrics.counts(pred, truth)) end

-- ---- centre lines --------------------------------------------------------------------------

-- { p, p_hit, t, t_hit }: pixels of the skeleton of pred, those of them inside truth, and the
-- other way round. `tprec` and `tsens` of the reference code are p_hit / p and t_hit / t.
--   > line = lumen.zeros(9, 9)
--   > line:slice(1, 5, 5):fill_(1)
--   > lumen.metrics.centre_lines(line, line)
--   {p = 9.0, p_hit = 9.0, t = 9.0, t_hit = 9.0}
function metrics.centre_lines(pred, truth)
  same_size(pred, truth)
  local p, t = plane(binary(pred)), plane(binary(truth))
  local line_p = core.vision.skeletonize(p):to("f64")
  local line_t = core.vision.skeletonize(t):to("f64")
  return { p = total(line_p), p_hit = total(line_p * t),
           t = total(line_t), t_hit = total(line_t * p) }
end

local function cldice_of(lines)
  local precision, sensitivity = ratio(lines.p_hit, lines.p), ratio(lines.t_hit, lines.t)
  if precision + sensitivity == 0 then return 0.0 end
  return 2 * precision * sensitivity / (precision + sensitivity)
end

-- Centre-line Dice (Shit et al. 2021) with Zhang-Suen skeletons. 0 when both parts are 0.
-- -> number
--   > line = lumen.zeros(9, 9)
--   > line:slice(1, 5, 5):fill_(1)
--   > thick = lumen.zeros(9, 9)
--   > thick:slice(1, 4, 6):fill_(1)
--   > lumen.metrics.cldice(thick, line), lumen.metrics.dice(thick, line)
--   0.93333
--   0.5
function metrics.cldice(pred, truth) return cldice_of(metrics.centre_lines(pred, truth)) end

-- ---- distances between surfaces, in pixels -------------------------------------------------

-- From each surface pixel of one mask to the nearest of the other, f64 [n], both ways; sorted.
--   > a, b = lumen.zeros(1, 9), lumen.zeros(1, 9)
--   > a:slice(2, 1, 2):fill_(1)
--   > b:slice(2, 2, 5):fill_(1)
--   > lumen.metrics.surface_distances(a, b)
--   f64 [2] {0, 1}
--   f64 [4] {0, 1, 2, 3}
function metrics.surface_distances(pred, truth)
  same_size(pred, truth)
  local p, t = plane(pred), plane(truth)
  local a = core.sort(core.vision.surface_distances(p, t))
  local b = core.sort(core.vision.surface_distances(t, p))
  return a, b
end

local function undefined(a, b) return a:numel() == 0 or b:numel() == 0 end

-- Percentile of sorted values, linear between neighbours.
local function percentile(sorted, percent)
  local position = percent / 100 * (sorted:numel() - 1)
  local below = math.tointeger(position // 1)
  local low = sorted[below + 1]:item()
  local high = sorted[math.min(below + 2, sorted:numel())]:item()
  return low + (high - low) * (position - below)
end

local function hd95_of(a, b, pooled)
  if undefined(a, b) then return nan end
  if pooled then return percentile(core.sort(core.cat({ a, b }, { dim = 1 })), 95) end
  return math.max(percentile(a, 95), percentile(b, 95))
end

local function assd_of(a, b, pooled)
  if undefined(a, b) then return nan end
  if pooled then return (total(a) + total(b)) / (a:numel() + b:numel()) end
  return (total(a) / a:numel() + total(b) / b:numel()) / 2
end

-- Hausdorff distance in pixels: the largest distance from a surface pixel of one mask to the
-- other's surface. NaN when a mask is empty, as for the two below.
-- -> number
--   > a, b = lumen.zeros(1, 9), lumen.zeros(1, 9)
--   > a:slice(2, 1, 2):fill_(1)
--   > b:slice(2, 2, 5):fill_(1)
--   > lumen.metrics.hd(a, b)
--   3.0
function metrics.hd(pred, truth)
  local a, b = metrics.surface_distances(pred, truth)
  if undefined(a, b) then return nan end
  return math.max(a[-1]:item(), b[-1]:item())
end

-- 95th percentile of the surface distances: of both directions together (pooled = true, the
-- default, as in medpy), or the larger of the two directions' (pooled = false, as in MONAI).
-- -> number
--   > a, b = lumen.zeros(1, 9), lumen.zeros(1, 9)
--   > a:slice(2, 1, 2):fill_(1)
--   > b:slice(2, 2, 5):fill_(1)
--   > lumen.metrics.hd95(a, b)
--   2.75
function metrics.hd95(pred, truth, o)
  local a, b = metrics.surface_distances(pred, truth)
  return hd95_of(a, b, not o or o.pooled ~= false)
end

-- Average symmetric surface distance: the mean of the two directions' means (default, as in
-- medpy), or the mean over all distances of both (pooled = true).
-- -> number
--   > a, b = lumen.zeros(1, 9), lumen.zeros(1, 9)
--   > a:slice(2, 1, 2):fill_(1)
--   > b:slice(2, 2, 5):fill_(1)
--   > lumen.metrics.assd(a, b)
--   1.0
function metrics.assd(pred, truth, o)
  local a, b = metrics.surface_distances(pred, truth)
  return assd_of(a, b, o and o.pooled)
end

-- ---- evaluation ----------------------------------------------------------------------------

metrics.names = { "dice", "cldice", "iou", "sensitivity", "precision", "hd95", "assd" }
metrics.overlap_names = { "dice", "iou", "sensitivity", "precision" }

-- Those metrics of one pair of masks as name -> value, each part computed once; beside them
-- what they are made of (counts, lines, distances) and whether both masks are empty.
--   > mask = lumen.ones(4, 4)
--   > lumen.metrics.measure(mask, mask).dice, lumen.metrics.measure(mask, mask).hd95
--   1.0
--   0.0
function metrics.measure(pred, truth)
  local c = metrics.counts(pred, truth)
  local lines = metrics.centre_lines(pred, truth)
  local a, b = metrics.surface_distances(pred, truth)
  return metrics.of_parts(c, lines, a, b)
end

-- The same from parts: counts, and (or nil) centre_lines and surface_distances, of one image or
-- sums over many.
--   > lumen.metrics.of_parts({ tp = 1, fp = 1, fn = 0, tn = 2 }).precision
--   0.5
function metrics.of_parts(counts, lines, a, b)
  local m = { counts = counts, lines = lines,
              both_empty = counts.tp + counts.fp + counts.fn == 0 }
  for _, name in ipairs(metrics.overlap_names) do m[name] = of_counts[name](counts) end
  if lines then m.cldice = cldice_of(lines) end
  if a then m.distances, m.hd95, m.assd = { a, b }, hd95_of(a, b, true), assd_of(a, b) end
  return m
end

-- An evaluation over many images; options and methods: lua/lumen/metrics/meter.lua.
--   > meter = lumen.metrics.meter()
--   > meter:add(lumen.ones(4, 4), lumen.ones(4, 4), "same.png")
--   > meter:mean().dice, meter.images
--   1.0
--   1
function metrics.meter(options) return require("lumen.metrics.meter")(options) end

return metrics
