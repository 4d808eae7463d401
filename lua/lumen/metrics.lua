-- Segmentation metrics of two binary masks of one shape (u8 or f32, [H, W] or with leading
-- dimensions of size 1; non-zero = vessel). Undefined values (0/0) are NaN; `metrics.average`
-- says what becomes of them.
local core = require "lumen.core"

local metrics = {}

local nan = 0 / 0

local function binary(x)
  return core.ne(x, 0):cast("f32")
end

local function total(x) return core.sum(x):item() end

-- { tp, fp, fn, tn } as numbers.
function metrics.counts(pred, truth)
  local p, t = binary(pred), binary(truth)
  local tp, sum_p, sum_t = total(p * t), total(p), total(t)
  return { tp = tp, fp = sum_p - tp, fn = sum_t - tp, tn = p:numel() - sum_p - sum_t + tp }
end

local function ratio(a, b) return b == 0 and nan or a / b end

function metrics.dice(pred, truth)
  local c = metrics.counts(pred, truth)
  return ratio(2 * c.tp, 2 * c.tp + c.fp + c.fn)
end

function metrics.iou(pred, truth)
  local c = metrics.counts(pred, truth)
  return ratio(c.tp, c.tp + c.fp + c.fn)
end

function metrics.sensitivity(pred, truth)
  local c = metrics.counts(pred, truth)
  return ratio(c.tp, c.tp + c.fn)
end

function metrics.precision(pred, truth)
  local c = metrics.counts(pred, truth)
  return ratio(c.tp, c.tp + c.fp)
end

local function plane(x)
  local h, w = x.shape[#x.shape - 1], x.shape[#x.shape]
  return x:reshape({ h, w })
end

-- Centre-line Dice (Shit et al. 2021) with Zhang-Suen skeletons. 0 when both parts are 0.
function metrics.cldice(pred, truth)
  local p, t = plane(binary(pred)), plane(binary(truth))
  local skeleton_p = core.vision.skeletonize(p:to("u8")):to("f32")
  local skeleton_t = core.vision.skeletonize(t:to("u8")):to("f32")
  local precision = ratio(total(skeleton_p * t), total(skeleton_p))
  local sensitivity = ratio(total(skeleton_t * p), total(skeleton_t))
  if precision + sensitivity == 0 then return 0.0 end
  return 2 * precision * sensitivity / (precision + sensitivity)
end

-- Mean of per-image values. `empty` says what a NaN counts: "skip" leaves it out, a number
-- counts as that; the default is 1 where both masks are empty and 0 where one is.
-- rows: list of { value, both_empty }.
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

-- Per-image dice and cldice of logits or probabilities thresholded by the caller:
-- pred, truth [N, 1, H, W]. Appends to `into` = { dice = rows, cldice = rows }.
function metrics.collect(into, pred, truth)
  for i = 1, pred.shape[1] do
    local p, t = plane(pred:select(1, i)), plane(truth:select(1, i))
    local c = metrics.counts(p, t)
    local both_empty = c.tp + c.fp + c.fn == 0
    table.insert(into.dice, { ratio(2 * c.tp, 2 * c.tp + c.fp + c.fn), both_empty })
    table.insert(into.cldice, { metrics.cldice(p, t), both_empty })
  end
end

return metrics
