-- What MUST is compared with, on the same encoder, called as models.rated says: after AHIQ,
-- MANIQA, LIQE and CLIP-IQA, each cut down to what it is known for and trained on the same images,
-- and a plain CNN. Scores are in 1..5 throughout, one per metric.
local core = require "lumen.core"
local nn = require "lumen.nn"
local rated = require "lumen.models.rated"

local rivals = {}

-- Any number as a score.
local function to_score(x) return x:sigmoid() * 4 + 1 end

-- Tokens [B, L, dim] -> { scores = [B, M], tokens = [B, M, L] }: each token has a score and a
-- weight per metric (the two branches of MANIQA and AHIQ), the image's score is their mean.
local Weighted = nn.class("Weighted")
function Weighted:build(dim, metrics)
  local function branch()
    return nn.Sequential { nn.Linear(dim, dim), core.gelu, nn.Linear(dim, metrics) }
  end
  self.score, self.weight = branch(), branch()
end
function Weighted:forward(x)
  local score, weight = to_score(self.score(x)), self.weight(x):sigmoid() -- [B, L, M]
  weight = weight / core.sum(weight, { dims = { 2 }, keepdim = true })
  return { scores = core.sum(score * weight, { dims = { 2 } }), tokens = weight:transpose(2, 3) }
end

-- Several blocks' tokens side by side: a list of [B, L, dim] per image -> [B, L, k * dim].
local function side_by_side(list) return #list == 1 and list[1] or core.cat(list, { dim = 3 }) end

-- ---- AHIQ ------------------------------------------------------------------------------------

-- Full reference, after AHIQ (Lao et al. 2022): tokens of the last five blocks and a shallow CNN's
-- features of the image S and of a reference R, fused as [S - R; S; R], then a score and a weight
-- per token. No deformable convolution. paths = "both" | "source" | "contrast": the references,
-- their fusions side by side; a missing one is a learned vector. Other options as must: size,
-- channels, model, patch, width, depth, heads, encoder, metrics. A batch as in models.rated ->
-- .scores [B, M], .tokens [B, M, L], .grid.
--   > model = lumen.models.ahiq { size = 32, depth = 1 }
--   > image = lumen.randn(2, 1, 32, 32)
--   > model({ image = image, source = image, contrast = image }).scores.shape
--   {2, 3}
local Ahiq = nn.class("Ahiq", rated.Rated)
function Ahiq:build(o)
  o = o or {}
  self:setup(o)
  local paths = rated.choice(o, "paths", { "both", "source", "contrast" })
  self.references = paths == "both" and { "source", "contrast" } or { paths }
  local dim = self.dim
  self.used = math.min(5, self.depth)
  local shallow = math.max(16, dim // 4)
  self.stem = nn.Sequential {
    nn.Conv2d(o.channels or 1, shallow, 3, { padding = 1 }), core.relu,
    nn.Conv2d(shallow, shallow, 3, { padding = 1 }), core.relu }
  self.join = nn.Linear(self.used * dim + shallow, dim)
  for _, name in ipairs(self.references) do
    self:param("missing_" .. name, { 1, 1, dim }, nn.fill.normal(0.02))
  end
  self.fuse = nn.Sequential { nn.Linear(3 * #self.references * dim, dim), core.gelu,
                              nn.LayerNorm(dim) }
  self.head = Weighted(dim, #self.metrics)
end

-- Deep and shallow tokens [B, L, dim] of each image.
local function hybrid(self, images)
  local deep, list = self:features(images, self.used), {}
  for i, image in ipairs(images) do
    local map = core.adaptive_avg_pool2d(self.stem(image), { size = self.grid })
    local shallow = map:flatten(3, 4):transpose(2, 3)
    list[i] = self.join(core.cat({ side_by_side(deep[i]), shallow }, { dim = 3 }))
  end
  return list
end

function Ahiq:forward(batch)
  local images, at, has = { batch.image }, {}, {}
  for _, name in ipairs(self.references) do
    local image
    image, has[name] = rated.reference(batch, name)
    if image then
      images[#images + 1] = image
      at[name] = #images
    end
  end
  local tokens = hybrid(self, images)
  local s, parts = tokens[1], {}
  for _, name in ipairs(self.references) do
    local r = self["missing_" .. name]:expand(s.shape)
    if at[name] then
      r = core.where(core.gt(has[name], 0):reshape({ s.shape[1], 1, 1 }), tokens[at[name]], r)
    end
    for _, part in ipairs { s - r, s, r } do parts[#parts + 1] = part end
  end
  local out = self.head(self.fuse(core.cat(parts, { dim = 3 })))
  out.grid = self.grid
  return out
end
rivals.ahiq = Ahiq

-- ---- MANIQA ----------------------------------------------------------------------------------

-- Attention between channels: each is a vector over the tokens.
local TransposedAttention = nn.class("TransposedAttention")
function TransposedAttention:build(length)
  self.qkv = nn.Linear(length, 3 * length)
end
function TransposedAttention:forward(x) -- [B, L, C]
  local length = x.shape[2]
  local qkv = self.qkv(x:transpose(2, 3))
  local q, k, v = qkv:slice(3, 1, length), qkv:slice(3, length + 1, 2 * length),
    qkv:slice(3, 2 * length + 1, -1)
  local weight = (q:matmul(k:transpose(2, 3)) * length ^ -0.5):softmax()
  return x + weight:matmul(v):transpose(2, 3)
end

-- Two transformer blocks in windows of 4 x 4 tokens (the whole grid where 4 does not divide it),
-- the second moved by half a window; what they add counts 0.8.
local Windows = nn.class("Windows")
function Windows:build(dim, heads, grid)
  self.grid = grid
  self.window = { grid[1] % 4 == 0 and 4 or grid[1], grid[2] % 4 == 0 and 4 or grid[2] }
  self.first, self.second = nn.Block(dim, heads, { mlp_ratio = 2 }), nn.Block(dim, heads, { mlp_ratio = 2 })
end
local function in_windows(self, block, x)
  local n, dim, h, w = x.shape[1], x.shape[3], self.window[1], self.window[2]
  local rows, columns = self.grid[1] // h, self.grid[2] // w
  x = x:reshape({ n, rows, h, columns, w, dim }):permute({ 1, 2, 4, 3, 5, 6 })
  x = block(x:reshape({ n * rows * columns, h * w, dim }))
  x = x:reshape({ n, rows, columns, h, w, dim }):permute({ 1, 2, 4, 3, 5, 6 })
  return x:reshape({ n, self.grid[1] * self.grid[2], dim })
end
local function moved(self, x, sign)
  local map = x:reshape({ x.shape[1], self.grid[1], self.grid[2], x.shape[3] })
  local by = { sign * (self.window[1] // 2), sign * (self.window[2] // 2) }
  return core.roll(map, { shifts = by, dims = { 2, 3 } }):reshape(x.shape)
end
function Windows:forward(x)
  local y = in_windows(self, self.first, x)
  y = moved(self, in_windows(self, self.second, moved(self, y, -1)), 1)
  return x + 0.8 * y
end

-- No reference, after MANIQA (Yang et al. 2022): tokens of the last four blocks, attention between
-- channels and in windows of tokens, twice, then a score and a weight per token. Options: size,
-- channels, model, patch, width, depth, heads, encoder, metrics. A batch as in models.rated, of
-- which only the image is read -> .scores [B, M], .tokens [B, M, L], .grid.
--   > model = lumen.models.maniqa { size = 32, depth = 1 }
--   > model({ image = lumen.randn(2, 1, 32, 32) }).tokens.shape
--   {2, 3, 16}
local Maniqa = nn.class("Maniqa", rated.Rated)
function Maniqa:build(o)
  o = o or {}
  self:setup(o)
  self.used = math.min(4, self.depth)
  local dim, length = self.dim, self.grid[1] * self.grid[2]
  local function stage(inputs)
    return nn.Sequential { TransposedAttention(length), nn.Linear(inputs, dim),
                           Windows(dim, self.heads, self.grid) }
  end
  self.stages = nn.Sequential { stage(self.used * dim), stage(dim) }
  self.head = Weighted(dim, #self.metrics)
end
function Maniqa:forward(batch)
  local tokens = side_by_side(self:features({ batch.image }, self.used)[1])
  local out = self.head(self.stages(tokens))
  out.grid = self.grid
  return out
end
rivals.maniqa = Maniqa

-- ---- LIQE ------------------------------------------------------------------------------------

-- A prompt for each combination of levels, those of the last metric next to each other.
local function joint_prompts(metrics)
  local texts = { "an angiography of" } -- short: a text transformer reads all of them
  for m, metric in ipairs(metrics) do
    local longer = {}
    for _, text in ipairs(texts) do
      for _, level in ipairs(rated.levels) do
        local comma = m > 1 and (m == #metrics and " and" or ",") or ""
        longer[#longer + 1] = ("%s%s %s %s"):format(text, comma, level, (metric:gsub("_", " ")))
      end
    end
    texts = longer
  end
  return texts
end

-- No reference, after LIQE (Zhang et al. 2023): one vector of the image is compared with prompts
-- that name a level for every metric at once, 5^M of them; a metric's levels are the sums over the
-- others. At most 4 metrics. Options: text = "scratch" | "clip" | "prototype", clip, tokenizer as
-- must, and size, channels, model, patch, width, depth, heads, encoder, metrics. A batch as in
-- models.rated, of which only the image is read -> .scores [B, M], .levels [B, M, 5], .grid, and
-- unless text is "clip" on CLIP's own image side, .tokens [B, M, L].
--   > model = lumen.models.liqe { size = 32, depth = 1, text = "prototype" }
--   > model({ image = lumen.randn(2, 1, 32, 32) }).levels.shape
--   {2, 3, 5}
local Liqe = nn.class("Liqe", rated.Rated)
function Liqe:build(o)
  o = o or {}
  self:setup(o)
  if #self.metrics > 4 then
    error(("liqe: %d metrics make 5^%d prompts; at most 4"):format(#self.metrics, #self.metrics), 0)
  end
  self.prompts = rated.Prompts { texts = joint_prompts(self.metrics), dim = self.dim,
    kind = rated.choice(o, "text", { "scratch", "clip", "prototype" }), clip = o.clip,
    tokenizer = o.tokenizer, axes = #self.metrics }
  self:add_summary(self.prompts)
  self.similar = rated.Similar(o.text == "clip")
end
function Liqe:forward(batch)
  local v, weights = self:summary(batch.image)
  local p = self.similar(v:unsqueeze(2), self.prompts():unsqueeze(1)):softmax() -- [B, 5^M]
  local levels, count = {}, #self.metrics
  local before, after = 1, p.shape[2] // 5
  for m = 1, count do
    levels[m] = core.sum(p:reshape({ p.shape[1], before, 5, after }), { dims = { 2, 4 } })
    before, after = before * 5, after // 5
  end
  local out = rated.answer(core.stack(levels, { dim = 2 }))
  out.grid = self.grid
  out.tokens = weights and weights:unsqueeze(2):expand({ p.shape[1], count, weights.shape[2] })
  return out
end
rivals.liqe = Liqe

-- ---- CLIP-IQA --------------------------------------------------------------------------------

local function antonyms(metrics)
  local texts = {}
  for _, metric in ipairs(metrics) do
    for _, level in ipairs { "bad", "good" } do
      texts[#texts + 1] = ("an x-ray angiography with %s %s"):format(level, rated.phrase(metric))
    end
  end
  return texts
end

-- No reference, after CLIP-IQA (Wang et al. 2023): one vector of the image between a good and a bad
-- prompt for each metric. Options: text = "scratch" | "clip" | "prototype": the prompts are trained
-- unless they are CLIP's; on CLIP's own image side (encoder = clip.visual) that is the published
-- method, which needs no training; clip, tokenizer as must, and size, channels, model, patch,
-- width, depth, heads, encoder, metrics. A batch as in models.rated, of which only the image is
-- read -> .scores [B, M], .grid, and .tokens [B, M, L] as liqe.
--   > model = lumen.models.clip_iqa { size = 32, depth = 1 }
--   > model({ image = lumen.randn(2, 1, 32, 32) }).scores.shape
--   {2, 3}
local ClipIqa = nn.class("ClipIqa", rated.Rated)
function ClipIqa:build(o)
  o = o or {}
  self:setup(o)
  self.prompts = rated.Prompts { texts = antonyms(self.metrics), dim = self.dim, count = 2,
    kind = rated.choice(o, "text", { "scratch", "clip", "prototype" }), clip = o.clip,
    tokenizer = o.tokenizer }
  self:add_summary(self.prompts)
  self.similar = rated.Similar(o.text == "clip")
end
function ClipIqa:forward(batch)
  local count = #self.metrics
  local v, weights = self:summary(batch.image)
  local prompts = self.prompts():reshape({ 1, count, 2, self.prompts.dim })
  local p = self.similar(v:unsqueeze(2):unsqueeze(2), prompts):softmax() -- [B, M, 2]
  return { scores = 1 + 4 * p:select(3, 2), grid = self.grid,
           tokens = weights and weights:unsqueeze(2):expand({ p.shape[1], count, weights.shape[2] }) }
end
rivals.clip_iqa = ClipIqa

-- ---- CNN -------------------------------------------------------------------------------------

-- A plain regression: five convolutions (stride 2, group norm), the mean over all places, a linear
-- layer. Options: size, channels, width = 64, metrics, and paths = "none" | "source" | "contrast" |
-- "both": references as further channels, zeros where they are missing. A batch as in models.rated
-- -> .scores [B, M], .grid.
--   > model = lumen.models.iqa_cnn { size = 32 }
--   > model({ image = lumen.randn(2, 1, 32, 32) }).scores.shape
--   {2, 3}
local IqaCnn = nn.class("IqaCnn", rated.Rated)
function IqaCnn:build(o)
  o = o or {}
  local paths = rated.choice(o, "paths", { "none", "source", "contrast", "both" })
  self.metrics = o.metrics or rated.metrics
  self.references = paths == "both" and { "source", "contrast" } or paths ~= "none" and { paths } or {}
  local inputs, width, list = (o.channels or 1) * (1 + #self.references), o.width or 64, {}
  for i = 1, 5 do
    local outputs = math.max(8, width >> math.max(0, 3 - i))
    outputs = outputs - outputs % 8
    list[#list + 1] = nn.Conv2d(inputs, outputs, 3, { stride = 2, padding = 1 })
    list[#list + 1] = nn.GroupNorm(outputs // 8, outputs)
    list[#list + 1] = core.relu
    inputs = outputs
  end
  self.encoder = nn.Sequential(list)
  self.head = nn.Linear(inputs, #self.metrics)
end
function IqaCnn:forward(batch)
  local inputs = { batch.image }
  for _, name in ipairs(self.references) do
    local image, has = rated.reference(batch, name)
    local none = core.zeros(batch.image.shape, { dtype = batch.image.dtype, device = batch.image.device })
    inputs[#inputs + 1] = image and core.where(core.gt(has, 0):reshape({ has.shape[1], 1, 1, 1 }),
      image, none) or none
  end
  local map = self.encoder(#inputs == 1 and inputs[1] or core.cat(inputs, { dim = 2 }))
  return { scores = to_score(self.head(core.mean(map, { dims = { 3, 4 } }))),
           grid = { map.shape[3], map.shape[4] } }
end
rivals.iqa_cnn = IqaCnn

return rivals
