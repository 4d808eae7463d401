-- Segmentation metrics of two binary masks (non-zero = vessel, any dtype). Counts and the
-- ratios of them take masks of any one shape; centre lines and surfaces need images: [H, W],
-- or more dimensions of size 1 before these. An undefined value (0/0, a distance to an empty
-- mask) is NaN; `metrics.average` says what becomes of it.
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

local function dice_of(c) return ratio(2 * c.tp, 2 * c.tp + c.fp + c.fn) end

-- Dice coefficient 2 |A n B| / (|A| + |B|), 0 to 1; NaN when both masks are empty.
--   > pred, truth = lumen.tensor{1, 1, 0, 0}, lumen.tensor{1, 0, 0, 0}
--   > lumen.metrics.dice(pred, truth)
--   0.66667
function metrics.dice(pred, truth)
  return dice_of(metrics.counts(pred, truth))
end

-- Intersection over union |A n B| / |A u B|; NaN when both masks are empty.
--   > lumen.metrics.iou(lumen.tensor{1, 1, 0, 0}, lumen.tensor{1, 0, 0, 0})
--   0.5
function metrics.iou(pred, truth)
  local c = metrics.counts(pred, truth)
  return ratio(c.tp, c.tp + c.fp + c.fn)
end

-- Share of the true pixels that were found, tp / (tp + fn); NaN when truth is empty.
--   > lumen.metrics.sensitivity(lumen.tensor{1, 0, 0}, lumen.tensor{1, 1, 0})
--   0.5
function metrics.sensitivity(pred, truth)
  local c = metrics.counts(pred, truth)
  return ratio(c.tp, c.tp + c.fn)
end

-- Share of the predicted pixels that are true, tp / (tp + fp); NaN when nothing was predicted.
--   > lumen.metrics.precision(lumen.tensor{1, 1, 1}, lumen.tensor{1, 0, 0})
--   0.33333
function metrics.precision(pred, truth)
  local c = metrics.counts(pred, truth)
  return ratio(c.tp, c.tp + c.fp)
end

-- Share of the background that was left alone, tn / (tn + fp); NaN without background.
--   > lumen.metrics.specificity(lumen.tensor{1, 1, 0, 0}, lumen.tensor{1, 0, 0, 0})
--   0.66667
function metrics.specificity(pred, truth)
  local c = metrics.counts(pred, truth)
  return ratio(c.tn, c.tn + c.fp)
end

-- Share of the pixels that are right, (tp + tn) / all.
--   > lumen.metrics.accuracy(lumen.tensor{1, 1, 0, 0}, lumen.tensor{1, 0, 0, 0})
--   0.75
function metrics.accuracy(pred, truth)
  local c = metrics.counts(pred, truth)
  return ratio(c.tp + c.tn, c.tp + c.fp + c.fn + c.tn)
end

-- Centre-line Dice (Shit et al. 2021) with Zhang-Suen skeletons. 0 when both parts are 0.
--   > line = lumen.zeros(9, 9)
--   > line:slice(1, 5, 5):fill_(1)
--   > thick = lumen.zeros(9, 9)
--   > thick:slice(1, 4, 6):fill_(1)
--   > lumen.metrics.cldice(thick, line), lumen.metrics.dice(thick, line)
--   0.93333
--   0.5
function metrics.cldice(pred, truth)
  same_size(pred, truth)
  local p, t = plane(binary(pred)), plane(binary(truth))
  local skeleton_p = core.vision.skeletonize(p):to("f64")
  local skeleton_t = core.vision.skeletonize(t):to("f64")
  local precision = ratio(total(skeleton_p * t), total(skeleton_p))
  local sensitivity = ratio(total(skeleton_t * p), total(skeleton_t))
  if precision + sensitivity == 0 then return 0.0 end
  return 2 * precision * sensitivity / (precision + sensitivity)
end

-- ---- distances between surfaces, in pixels -------------------------------------------------

-- From each surface pixel of one mask to the nearest of the other, both ways, as sorted lists.
local function surface_distances(pred, truth)
  same_size(pred, truth)
  local p, t = plane(pred), plane(truth)
  local lists = {}
  for k, pair in ipairs { { p, t }, { t, p } } do
    lists[k] = core.vision.surface_distances(pair[1], pair[2]):totable()
    table.sort(lists[k])
  end
  return lists[1], lists[2]
end

local function pool(a, b)
  local all = table.move(b, 1, #b, #a + 1, table.move(a, 1, #a, 1, {}))
  table.sort(all)
  return all
end

-- Percentile of a sorted list, linear between neighbours.
local function percentile(sorted, percent)
  local rank = percent / 100 * (#sorted - 1)
  local below = math.floor(rank)
  local low, high = sorted[below + 1], sorted[math.min(below + 2, #sorted)]
  return low + (high - low) * (rank - below)
end

local function sum_of(list)
  local sum = 0.0
  for _, v in ipairs(list) do sum = sum + v end
  return sum
end

-- Hausdorff distance in pixels: the largest distance from a surface pixel of one mask to the
-- other's surface. NaN when a mask is empty, as for the two below.
--   > a, b = lumen.zeros(1, 9), lumen.zeros(1, 9)
--   > a:slice(2, 1, 2):fill_(1)
--   > b:slice(2, 2, 5):fill_(1)
--   > lumen.metrics.hd(a, b)
--   3.0
function metrics.hd(pred, truth)
  local a, b = surface_distances(pred, truth)
  if #a == 0 or #b == 0 then return nan end
  return math.max(a[#a], b[#b])
end

-- 95th percentile of the surface distances: of both directions together (pooled = true, the
-- default, as in medpy), or the larger of the two directions' (pooled = false, as in MONAI).
--   > a, b = lumen.zeros(1, 9), lumen.zeros(1, 9)
--   > a:slice(2, 1, 2):fill_(1)
--   > b:slice(2, 2, 5):fill_(1)
--   > lumen.metrics.hd95(a, b)
--   2.75
function metrics.hd95(pred, truth, o)
  local a, b = surface_distances(pred, truth)
  if #a == 0 or #b == 0 then return nan end
  if not o or o.pooled ~= false then return percentile(pool(a, b), 95) end
  return math.max(percentile(a, 95), percentile(b, 95))
end

-- Average symmetric surface distance: the mean of the two directions' means (default, as in
-- medpy), or the mean over all distances of both (pooled = true).
--   > a, b = lumen.zeros(1, 9), lumen.zeros(1, 9)
--   > a:slice(2, 1, 2):fill_(1)
--   > b:slice(2, 2, 5):fill_(1)
--   > lumen.metrics.assd(a, b)
--   1.0
function metrics.assd(pred, truth, o)
  local a, b = surface_distances(pred, truth)
  if #a == 0 or #b == 0 then return nan end
  if o and o.pooled then return (sum_of(a) + sum_of(b)) / (#a + #b) end
  return (sum_of(a) / #a + sum_of(b) / #b) / 2
end

-- ---- evaluation ----------------------------------------------------------------------------

-- Mean of per-image values. `empty` says what a NaN counts: "skip" leaves it out (distances
-- need that), a number counts as that; the default is 1 where both masks are empty and 0 where
-- one is. rows: list of { value, both_empty }. NaN when nothing is left.
--   > rows = { {0.8, false}, {0 / 0, true}, {0 / 0, false} } -- both empty, one empty
--   > lumen.metrics.average(rows), lumen.metrics.average(rows, "skip")
--   0.6
--   0.8
function metrics.average(rows, empty)
  local sum, count = 0, 0
  for _, row in ipairs(rows) do
    local value = row[1]
    if value ~= value then
      if empty == "skip" then
        value = nil
      else
        value = empty or (row[2] and 1 or 0)
      end
    end
    if value then sum, count = sum + value, count + 1 end
  end
  return count > 0 and sum / count or nan
end

-- Per-image dice and cldice of masks pred, truth [N, 1, H, W]. Appends to `into` = { dice = rows, cldice = rows }.
--   > rows = { dice = {}, cldice = {} }
--   > mask = lumen.ones(2, 1, 8, 8)
--   > lumen.metrics.collect(rows, mask, mask)
--   > #rows.dice, lumen.metrics.average(rows.dice)
--   2
--   1.0
function metrics.collect(into, pred, truth)
  for i = 1, pred.shape[1] do
    local p, t = plane(pred:select(1, i)), plane(truth:select(1, i))
    local c = metrics.counts(p, t)
    local both_empty = c.tp + c.fp + c.fn == 0
    table.insert(into.dice, { dice_of(c), both_empty })
    table.insert(into.cldice, { metrics.cldice(p, t), both_empty })
  end
end

return metrics
