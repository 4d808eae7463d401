-- Which patches the encoder does not see. Every masking is a function
--   f(guide, { ratio =, share =, grid = {rows, cols}, rng =, count = })
-- guide [N, 1, H, W] >= 0 (may be nil for `random`, then `count` = N) and returns
--   keep i64 [N, K], masked i64 [N, M]: 0-based patch numbers, ascending
--   restore i64 [N, L]: where patch i stands in keep followed by masked
--   mask f32 [N, L]: 1 = masked, in patch order
-- K = floor(L * (1 - ratio)). rng: the stream to draw from, { seed =, stream =, step = }.
local core = require "lumen.core"

local masking = {}

-- How many of L patches are kept and masked, and how many masked ones the guide chooses.
-- The products are truncated in double precision, as in the published code.
function masking.counts(length, ratio, share)
  local keep = math.tointeger(length * (1 - ratio) // 1)
  local masked = length - keep
  return keep, masked, math.tointeger(masked * share // 1)
end

-- Positions of the entries of each row in its ascending order (a permutation, 0-based).
local function rank(x) return core.argsort(core.argsort(x, { dim = 2 }), { dim = 2 }) end

local function from_mask(mask, keep, length)
  local order = core.argsort(mask, { dim = 2 })  -- stable: kept patches first, ascending
  return {
    keep = order:slice(2, 1, keep):contiguous(),
    masked = order:slice(2, keep + 1, length):contiguous(),
    restore = core.argsort(order, { dim = 2 }),
    mask = mask,
  }
end

local function check(name, o)
  if not (o.ratio > 0 and o.ratio < 1) then
    error(("masking.%s: ratio must lie between 0 and 1, it is %s"):format(name, o.ratio), 3)
  end
end

-- Uniformly random (He et al. 2022).
function masking.random(guide, o)
  check("random", o)
  local length = o.grid[1] * o.grid[2]
  local keep, masked = masking.counts(length, o.ratio, 0)
  return core.no_grad(function()
    local noise = core.rand({ guide and guide.shape[1] or o.count, length },
      { rng = o.rng })
    return from_mask(core.lt(rank(noise), masked):cast("f32"), keep, length)
  end)
end

-- Anatomy-guided (VasoMIM): the share `share` of the masked patches is drawn without
-- replacement with probability proportional to the guide's sum over the patch, the others
-- uniformly from the rest. Drawing by the smallest -log(u) / weight is that very law
-- (Efraimidis and Spirakis 2006). Patches of weight 0 are never drawn by the guide, so a
-- sample with an empty guide is masked at random.
function masking.guided(guide, o)
  check("guided", o)
  local rows, cols = o.grid[1], o.grid[2]
  local length, patch = rows * cols, guide.shape[3] // rows
  if guide.shape[3] ~= rows * patch or guide.shape[4] ~= cols * patch then
    error(("masking.guided: a guide of %d x %d has no grid of %d x %d square patches"):format(
      guide.shape[3], guide.shape[4], rows, cols), 2)
  end
  local keep, masked, guided = masking.counts(length, o.ratio, o.share)
  return core.no_grad(function()
    local weight = core.patch_sum(guide:detach(), { patch = patch })
    local noise = core.rand({ 2 * guide.shape[1], length }, { rng = o.rng })
    local draw, rest = noise:slice(1, 1, guide.shape[1]), noise:slice(1, guide.shape[1] + 1, -1)
    local weighted = core.gt(weight, 0)
    local key = core.where(weighted, draw:log():neg() / weight, core.tensor(math.huge))
    local chosen = core.where(weighted, core.lt(rank(key), guided):cast("f32"), core.tensor(0.0))
    local mask = core.lt(rank(rest - chosen), masked):cast("f32")
    local result = from_mask(mask, keep, length)
    result.guided = chosen
    return result
  end)
end

-- A masking by name, or from a Lua file that returns such a function.
function masking.find(name)
  if name:match("%.lua$") then
    local f = dofile(name)
    if type(f) ~= "function" then error(name .. " does not return a masking function", 2) end
    return f
  end
  local f = (name == "random" or name == "guided") and masking[name]
  if not f then error(("no masking %q (random, guided, or a .lua file)"):format(name), 2) end
  return f
end

return masking
