-- Losses. All return a scalar tensor (the mean over what they say) and follow gradients.
local core = require "lumen.core"

local loss = {}

local function ones_except_first(x)
  local dims = {}
  for i = 2, #x.shape do dims[#dims + 1] = i end
  return dims
end

-- Side of the patches of pred [N, L, ...] on image [N, C, H, W].
local function patch_of(name, pred, image)
  local patch = math.tointeger(math.sqrt(image.shape[3] * image.shape[4] / pred.shape[2]))
  if not patch then
    error(("%s: %d patches do not divide an image of %d x %d into squares"):format(
      name, pred.shape[2], image.shape[3], image.shape[4]), 3)
  end
  return patch
end

-- Reconstruction loss of masked autoencoders. pred [N, L, p*p*C], image [N, C, H, W],
-- mask: what lumen.masking returned, or f32 [N, L] with 1 = masked. Mean squared error over
-- masked patches only; norm_pix (default true): targets normalised by each patch's own mean
-- and unbiased variance.
-- -> tensor
--   > pred, image, mask = lumen.zeros(1, 4, 8 * 8 * 3), lumen.ones(1, 3, 16, 16), lumen.tensor{{1, 1, 0, 0}}
--   > lumen.loss.masked_mse(pred, image, mask, { norm_pix = false }):item()
--   1.0
function loss.masked_mse(pred, image, mask, options)
  local patch = patch_of("masked_mse", pred, image)
  if type(mask) == "table" then mask = mask.mask end
  local norm_pix = not options or options.norm_pix ~= false
  return core.masked_mse(pred, image, mask, { patch = patch, norm_pix = norm_pix })
end

-- Reconstruction loss of SimMIM (Xie et al. 2022): mean absolute error over the pixels of the
-- masked patches. pred [N, L, p*p*C], image [N, C, H, W], mask as in masked_mse.
--   > local image = lumen.zeros { 1, 1, 4, 4 }
--   > local mask = lumen.tensor { { 1, 0, 0, 0 } }
--   > print(lumen.loss.masked_l1(lumen.ones { 1, 4, 4 }, image, mask):item())
--   0.99999749660492
function loss.masked_l1(pred, image, mask)
  if type(mask) == "table" then mask = mask.mask end
  local target = core.patchify(image, { patch = patch_of("masked_l1", pred, image) })
  local wrong = core.sum(core.abs(pred - target) * mask:unsqueeze(3))
  return wrong / (core.sum(mask) * target.shape[3] + 1e-5 * image.shape[2])
end

-- Binary cross-entropy of logits against targets in [0, 1], mean over all elements.
-- -> tensor
--   > lumen.loss.bce_with_logits(lumen.tensor{0, 5}, lumen.tensor{1, 1}):item()
--   0.34993
function loss.bce_with_logits(logits, target, options)
  return core.bce_with_logits(logits, target, nil, options)
end

-- 1 - (2 sum(p t) + smooth) / (sum p + sum t + smooth), p = sigmoid(logits). Per sample and
-- averaged; options.batch = true: one Dice over the whole batch. smooth = 1e-5.
-- -> tensor
--   > logits, target = lumen.tensor{{9, -9}}, lumen.tensor{{1, 1}}
--   > lumen.loss.dice(logits, target):item()
--   0.33333
function loss.dice(logits, target, options)
  local smooth = options and options.smooth or 1e-5
  local p = logits:sigmoid()
  local dims = ones_except_first(p)
  if options and options.batch then table.insert(dims, 1, 1) end
  local overlap = core.sum(p * target, { dims = dims })
  local total = core.sum(p, { dims = dims }) + core.sum(target, { dims = dims })
  return 1 - core.mean((2 * overlap + smooth) / (total + smooth))
end

-- Mean squared error, mean over all elements.
-- -> tensor
--   > lumen.loss.mse(lumen.tensor{1, 2}, lumen.tensor{0, 0}):item()
--   2.5
function loss.mse(x, target) return core.mean(core.square(x - target)) end

-- Mean of d^2 / 2 where |d| < 1, else |d| - 1/2; d = x - target.
-- -> tensor
--   > lumen.loss.smooth_l1(lumen.tensor{0.5, 3}, lumen.tensor{0, 0}):item()
--   1.3125
function loss.smooth_l1(x, target)
  local d = core.abs(x - target)
  return core.mean(core.where(core.lt(d, 1), d * d * 0.5, d - 0.5))
end

-- Dice of a softmax over classes: logits [N, C, H, W], target i64 [N, H, W]; sums over the
-- batch and all pixels, mean over the classes (background included). smooth = 1e-5.
-- -> tensor
--   > logits = lumen.tensor{{{{9, 0}}, {{0, 9}}}}
--   > lumen.loss.dice_multiclass(logits, lumen.tensor({{{0, 1}}}, { dtype = "i64" })):item() < 0.001
--   true
function loss.dice_multiclass(logits, target, options)
  local smooth = options and options.smooth or 1e-5
  local p = logits:softmax({ dim = 2 })
  local t = core.one_hot(target, { classes = p.shape[2] }):permute(1, 4, 2, 3):to(p.dtype)
  local dims = { 1, 3, 4 }
  local overlap = core.sum(p * t, { dims = dims })
  local total = core.sum(p, { dims = dims }) + core.sum(t, { dims = dims })
  return 1 - core.mean((2 * overlap + smooth) / (total + smooth))
end

-- The segmentor's loss: half cross-entropy, half Dice over the whole batch.
-- -> tensor
--   > logits, target = lumen.randn(2, 1, 8, 8), lumen.rand(2, 1, 8, 8):gt(0.5):to("f32")
--   > loss = lumen.loss.bce_dice(logits, target, { bce = 0.5 })
--   > loss.shape
--   {}
function loss.bce_dice(logits, target, options)
  local share = options and options.bce or 0.5
  return share * loss.bce_with_logits(logits, target)
    + (1 - share) * loss.dice(logits, target, { batch = not options or options.batch ~= false })
end

local function pool(x, h, w)
  return core.max_pool2d(x, { size = { h, w }, stride = { 1, 1 },
                              padding = { h // 2, w // 2 } })
end
local function erode(x) return core.minimum(-pool(-x, 3, 1), -pool(-x, 1, 3)) end
local function opened(x) return pool(erode(x), 3, 3) end

-- Differentiable skeleton of probabilities [N, 1, H, W] (Shit et al. 2021).
-- -> tensor
--   > x = lumen.zeros(1, 1, 5, 7)
--   > x:slice(3, 2, 4):fill_(1)
--   > lumen.loss.soft_skeleton(x, 3):sum():item()
--   7.0
function loss.soft_skeleton(x, iterations)
  local skeleton = (x - opened(x)):relu()
  for _ = 1, iterations do
    x = erode(x)
    local delta = (x - opened(x)):relu()
    skeleton = skeleton + (delta - skeleton * delta):relu()
  end
  return skeleton
end

-- 1 - soft clDice over the whole batch. options: iterations = 10, smooth = 1.
-- -> tensor
--   > target = lumen.rand(1, 1, 16, 16):gt(0.7):to("f32")
--   > good = lumen.loss.soft_cldice((target - 0.5) * 20, target):item()
--   > bad = lumen.loss.soft_cldice((0.5 - target) * 20, target):item()
--   > good < bad
--   true
function loss.soft_cldice(logits, target, options)
  local iterations = options and options.iterations or 10
  local smooth = options and options.smooth or 1
  local p = logits:sigmoid()
  local skeleton_p = loss.soft_skeleton(p, iterations)
  local skeleton_t = core.no_grad(function() return loss.soft_skeleton(target, iterations) end)
  local precision = (core.sum(skeleton_p * target) + smooth) / (core.sum(skeleton_p) + smooth)
  local sensitivity = (core.sum(skeleton_t * p) + smooth) / (core.sum(skeleton_t) + smooth)
  return 1 - 2 * precision * sensitivity / (precision + sensitivity)
end

-- VasoMIM's consistency: the frozen segmentor must see in the reconstruction [N, 3, H, W]
-- the vessels (probabilities [N, 1, H, W], no gradient) that it saw in the image.
-- -> tensor
--   > segmentor = lumen.models.unext {}
--   > segmentor:eval():freeze()
--   > image = lumen.randn(1, 3, 32, 32)
--   > vessels = segmentor(image):sigmoid()
--   > lumen.loss.anatomical_consistency(segmentor, image, vessels).shape
--   {}
function loss.anatomical_consistency(segmentor, image, vessels)
  return core.bce_with_logits(segmentor(image), vessels:detach())
end

local function check_rated(name, q, y)
  if #q.shape ~= 2 or #y.shape ~= 2 or q.shape[1] ~= y.shape[1] or q.shape[2] ~= y.shape[2] then
    error(("%s: scores are [B, M] both, not [%s] and [%s]"):format(name,
      table.concat(q.shape, " x "), table.concat(y.shape, " x ")), 3)
  end
end

-- Pairwise fidelity loss of predicted scores q against given ones y, both [B, M]: the mean over
-- metrics and pairs i < j of 1 - sqrt(p g) - sqrt((1 - p) (1 - g)), where p = Phi((q_i - q_j) /
-- sqrt 2) is the predicted probability that image i is better and g the true one: 1, 0, or 1/2
-- when the scores are equal; 1e-8 is added under the roots. 0 for a batch of one. Source: LIQE (Zhang et al. 2023), eq. 6; only
-- the order within a metric counts.
-- -> tensor
--   > y = lumen.tensor { { 1 }, { 3 }, { 5 } }
--   > lumen.loss.fidelity(y, y):item() < lumen.loss.fidelity(-y, y):item()
--   true
function loss.fidelity(q, y)
  check_rated("fidelity", q, y)
  local count, metrics, eps = q.shape[1], q.shape[2], 1e-8
  local function differences(x) return x:unsqueeze(2) - x:unsqueeze(1) end -- [B, B, M]
  local p = (core.erf(differences(q) / 2) + 1) / 2
  local g = (differences(y:detach()):sign() + 1) / 2
  local lost = 1 - (p * g + eps):sqrt() - ((1 - p) * (1 - g) + eps):sqrt()
  local itself = core.one_hot(core.arange(count):to(q.device), { classes = count })
  lost = lost * (1 - itself:to(q.dtype)):unsqueeze(3) -- (i, j) and (j, i) lose the same
  return core.sum(lost) / math.max(1, count * (count - 1) * metrics)
end

-- Cross-entropy of level probabilities [B, M, K] against scores y [B, M] in 1..K, mean over
-- both: a score between two levels is shared by them, 3.2 is 0.8 of level 3 and 0.2 of level 4
-- (the discrete levels of Q-Align, Wu et al. 2024, made soft). Scores outside 1..K count as the
-- nearest level.
-- -> tensor
--   > levels = lumen.tensor { { { 0, 0, 0.8, 0.2, 0 } } }
--   > lumen.loss.level_cross_entropy(levels, lumen.tensor { { 3.2 } }):item()
--   0.5004
function loss.level_cross_entropy(levels, y)
  if #levels.shape ~= 3 then
    error("level_cross_entropy: levels are [B, M, K], not [" ..
      table.concat(levels.shape, " x ") .. "]", 2)
  end
  check_rated("level_cross_entropy", levels:select(3, 1), y)
  local count = levels.shape[3]
  local centre = (core.arange(count) + 1):to(levels.dtype):to(levels.device)
  local distance = y:detach():clamp { min = 1, max = count }:unsqueeze(3) - centre
  local target = (1 - distance:abs()):relu()
  return -core.sum(target * (levels + 1e-12):log()) / math.max(1, y:numel())
end

-- (1 - PLCC) / 2 for scores q against y, both [B, M]: Pearson's correlation over the batch, mean
-- over metrics. Standard deviations below 0.01 count as 0.01: for scores in 1..5 that is as good
-- as constant, and the gradient stays bounded; a constant metric counts 1/2.
-- -> tensor
--   > y = lumen.tensor { { 1 }, { 3 }, { 5 } }
--   > lumen.loss.plcc(2 * y, y):item() < 1e-6, lumen.loss.plcc(-y, y):item()
--   true
--   1.0
function loss.plcc(q, y)
  check_rated("plcc", q, y)
  local function total(x) return core.sum(x, { dims = { 1 } }) end
  local function centred(x) return x - core.mean(x, { dims = { 1 }, keepdim = true }) end
  local function norm(x) return total(x * x):clamp({ min = 1e-4 * x.shape[1] }):sqrt() end
  local a, b = centred(q), centred(y:detach())
  return (1 - core.mean(total(a * b) / (norm(a) * norm(b)))) / 2
end

-- Balance of a router's gates [B, M, K, L] over its K paths: K * sum_k f_k^2, with f_k the mean
-- gate of path k over batch, metrics and tokens; 1 when all paths are used alike, K when one
-- takes everything. present, f32 [B, K]: samples that lack a path are left out, and the loss is
-- 0 when all do. Source: the auxiliary loss of sparse mixtures (Fedus et al. 2021, eq. 4) for
-- soft gates.
-- -> tensor
--   > lumen.loss.gate_balance(lumen.full({ 2, 3, 2, 4 }, 0.5)):item()
--   1.0
function loss.gate_balance(gates, present)
  if #gates.shape ~= 4 then
    error("gate_balance: gates are [B, M, K, L], not [" .. table.concat(gates.shape, " x ") ..
      "]", 2)
  end
  local count, paths = gates.shape[1], gates.shape[3]
  local mean = core.mean(gates, { dims = { 2, 4 } }) -- [B, K]
  local share
  if present then
    local whole = core.eq(core.sum(present, { dims = { 2 } }), paths):to(gates.dtype)
    local samples = math.max(1, core.sum(whole):item())
    share = core.sum(mean * whole:unsqueeze(2), { dims = { 1 } }) / samples
  else
    share = core.sum(mean, { dims = { 1 } }) / math.max(1, count)
  end
  return paths * core.sum(share * share)
end

return loss
