-- What the models of rated images share (CAS-IQA's and its rivals): an encoder of the image and
-- its references, prompts per metric and level, pooling with a learned query, and scores from
-- levels. All are called with a batch and answer alike:
--
--   batch.image [B, C, H, W]; batch.source, batch.contrast the same, the references: the frame
--   before contrast and a contrast frame; batch.has_source, batch.has_contrast [B], 1 where the
--   reference is there (without them: all are; without the image: none is)
--   -> .scores [B, M] in 1..5, .levels [B, M, 5] probabilities, .grid {rows, columns};
--   .gates [B, M, K, L] of a router and .present [B, K]; .tokens [B, M, L] weights of pooling
local core = require "lumen.core"
local clip = require "lumen.models.clip"
local data = require "lumen.data"
local nn = require "lumen.nn"
local tokenizer = require "lumen.tokenizer"
local vit = require "lumen.models.vit"

local rated = {}

-- Names of the five levels, worst first.
--   > table.concat(lumen.models.rated.levels, " ")
--   bad poor fair good excellent
rated.levels = { "bad", "poor", "fair", "good", "excellent" }

-- CAS-IQA does not publish its metrics; these three are ours.
--   > table.concat(lumen.models.rated.metrics, " ")
--   vessel background realism
rated.metrics = { "vessel", "background", "realism" }

local phrases = { vessel = "vessel fidelity", background = "background consistency",
                  realism = "image realism", overall = "overall quality" }

-- What a metric is called in a prompt; names that are not known are taken as they are.
-- -> str
--   > lumen.models.rated.phrase "vessel"
--   vessel fidelity
function rated.phrase(metric) return phrases[metric] or (metric:gsub("_", " ")) end

-- A prompt for each metric and level, all levels of the first metric first.
-- -> table
--   > lumen.models.rated.prompts({ "vessel" })[5]
--   an x-ray angiography with excellent vessel fidelity
function rated.prompts(metrics)
  local list = {}
  for _, metric in ipairs(metrics) do
    for _, level in ipairs(rated.levels) do
      list[#list + 1] = ("an x-ray angiography with %s %s"):format(level, rated.phrase(metric))
    end
  end
  return list
end

-- The value of option `name`, which must be one of `choices` (the first where it is nil).
-- -> str
--   > lumen.models.rated.choice({ router = "hard" }, "router", { "per_metric", "hard" })
--   hard
function rated.choice(o, name, choices)
  local value = o[name]
  if value == nil then return choices[1] end
  for _, known in ipairs(choices) do
    if value == known then return value end
  end
  error(("%s is %q, not one of %s"):format(name, tostring(value), table.concat(choices, ", ")), 0)
end

-- x divided by its length along the last dimension.
-- -> tensor
--   > lumen.models.rated.normalize(lumen.tensor { { 3, 4 } })
--   f32 [1 x 2] {0.6, 0.8}
function rated.normalize(x)
  local last = #x.shape
  return x / (core.sum(x * x, { dims = { last }, keepdim = true }) + 1e-12):sqrt()
end

-- ---- text ------------------------------------------------------------------------------------

-- Prototypes for groups of count^axes rows, t [groups * count^axes, dim]: n + sum_k t_k u_k + noise,
-- with t_k from -1 to 1, digit by digit, the last axis fastest; the u at right angles to n.
local function ordinal(count, axes)
  return function(t, rng)
    local size, dim = count ^ axes // 1 | 0, t.shape[2]
    local groups = t.shape[1] // size
    local drawn = core.randn({ groups, 1 + axes + size, dim }, { rng = rng })
    local n = rated.normalize(drawn:slice(2, 1, 1))
    local rows = n + drawn:slice(2, 2 + axes, -1) * (0.1 * dim ^ -0.5)
    for k = 1, axes do
      local u = drawn:slice(2, 1 + k, 1 + k)
      u = rated.normalize(u - n * core.sum(n * u, { dims = { 3 }, keepdim = true }))
      local digit = {}
      for row = 0, size - 1 do
        digit[row + 1] = row // (count ^ (axes - k) // 1 | 0) % count * (2 / (count - 1)) - 1
      end
      rows = rows + u * core.tensor(digit):reshape({ 1, size, 1 })
    end
    t:copy_(rows:reshape(t.shape))
  end
end

-- Prompts as vectors [P, dim], by Prompts{ texts = list, kind =, dim = 64, count = 5 }. kind:
-- "scratch", a small text transformer (width = 64, layers = 2) on bytes, or on the token ids of
-- `tokenizer`, trained with the rest; "clip": what a frozen CLIP says, clip = the module, or
-- these vectors themselves; "prototype": no text, a learned vector per prompt, those of `count`
-- following prompts on a line at the start (of count^axes in a grid; axes = 1).
--   > texts = lumen.models.rated.prompts { "vessel", "realism" }
--   > lumen.models.rated.Prompts({ texts = texts, kind = "scratch" })().shape
--   {10, 64}
local Prompts = nn.class("Prompts")
function Prompts:build(o)
  self.kind = o.kind
  local dim = o.dim or 64
  if o.kind == "prototype" then
    self:param("table", { #o.texts, dim }, ordinal(o.count or 5, o.axes or 1))
  elseif o.kind == "clip" then
    if not o.clip then error('text = "clip" needs clip = a module of models.clip', 0) end
    local vectors = core.is_tensor(o.clip) and o.clip or rated.embed(o.clip, o.texts)
    self:buffer("vectors", vectors:detach():reshape({ #o.texts, -1 }))
    dim = self.vectors.shape[2]
  else
    local tokens = o.tokenizer or tokenizer()
    local longest = 0
    for _, text in ipairs(o.texts) do longest = math.max(longest, #tokens:encode(text) + 2) end
    self:buffer("ids", tokens(o.texts, { length = longest, truncate = false }))
    self.text = clip.Text { width = o.width or 64, layers = o.layers or 2, dim = dim,
                            context = longest, vocab = tokens.size }
  end
  self.dim = dim
end
function Prompts:forward()
  if self.kind == "clip" then return self.vectors end
  if self.kind == "prototype" then return self.table end
  return self.text(self.ids)
end
rated.Prompts = Prompts

-- What the text side of a CLIP makes of texts, [P, dim], without a gradient.
-- -> tensor
--   > text = lumen.models.clip.Text { width = 32, dim = 16 }
--   > lumen.models.rated.embed(text, { "good", "bad" }).shape
--   {2, 16}
function rated.embed(model, texts)
  local tokens = model.tokenizer or tokenizer()
  if tokens.size ~= model.vocab then
    error(("the tokenizer has %d ids, the text side %d: give CLIP's vocabulary"):format(
      tokens.size, model.vocab), 2)
  end
  model:parameters() -- a new model gets its values when it is first asked for them
  return core.no_grad(function()
    local ids = tokens(texts, { length = model.context }):to(model.text_projection.device)
    return model:encode_text(ids)
  end)
end

-- ---- pooling and scores ----------------------------------------------------------------------

-- Attention pooling with a learned query: tokens [B, L, dim] -> [B, width] and each token's
-- weight [B, L], the mean over the heads.
--   > v, weights = lumen.models.rated.Pool(32, 4, 16)(lumen.randn(2, 9, 32))
--   > v.shape, weights.shape
--   {2, 16}
--   {2, 9}
local Pool = nn.class("Pool")
function Pool:build(dim, heads, width)
  self.heads = heads
  self.norm = nn.LayerNorm(dim)
  self:param("query", { dim }, nn.fill.normal(1))
  self.kv = nn.Linear(dim, 2 * dim, { bias_init = nn.fill.constant(0) })
  self.proj = nn.Linear(dim, width, { bias_init = nn.fill.constant(0) })
end
function Pool:forward(x)
  local n, length, dim = x.shape[1], x.shape[2], x.shape[3]
  local size = dim // self.heads
  local kv = self.kv(self.norm(x)):reshape({ n, length, 2, self.heads, size })
  local query = self.query:reshape({ self.heads, size })
  local logits = core.sum(kv:select(3, 1) * query, { dims = { 4 } }) * size ^ -0.5 -- [B, L, h]
  local weight = logits:softmax { dim = 2 }
  local mixed = core.sum(kv:select(3, 2) * weight:unsqueeze(4), { dims = { 2 } })
  return self.proj(mixed:reshape({ n, dim })), core.mean(weight, { dims = { 3 } })
end
rated.Pool = Pool

-- Cosines of vectors along the last dimension, broadcast, times exp(s). s is learned from ln 10 on,
-- at most ln 100; fixed = true: it stays at ln 100, which is CLIP's.
--   > similar = lumen.models.rated.Similar()
--   > similar(lumen.tensor { { 3, 4 } }, lumen.tensor { { 3, 4 }, { -4, 3 } })
--   f32 [2] {10, 0}
local Similar = nn.class("Similar")
function Similar:build(fixed)
  self:param("logit_scale", {}, nn.fill.constant(math.log(fixed and 100 or 10)),
    { trainable = not fixed })
end
function Similar:forward(a, b)
  local cosine = core.sum(rated.normalize(a) * rated.normalize(b), { dims = { -1 } })
  return cosine * self.logit_scale:clamp({ max = math.log(100) }):exp()
end
rated.Similar = Similar

-- Vectors [B, M, dim], one per metric, as levels: { scores = [B, M], levels = [B, M, 5] }. Levels
-- are a softmax over exp(s) times the cosine between a vector and the prompts of its metric
-- (Similar), a score is their mean, 1 to 5. options: text = "scratch" | "clip" | "prototype", as Prompts, or
-- "none": a linear layer in place of the prompts; metrics, dim, clip, tokenizer.
--   > levels = lumen.models.rated.Levels { metrics = { "vessel" }, dim = 16, text = "prototype" }
--   > levels(lumen.randn(2, 1, 16)).levels.shape
--   {2, 1, 5}
local Levels = nn.class("Levels")
function Levels:build(o)
  local kind = rated.choice(o, "text", { "scratch", "clip", "prototype", "none" })
  self.rows = #o.metrics
  if kind == "none" then
    self.dim = o.dim
    self:param("weight", { self.rows, 5, o.dim }, nn.fill.normal(o.dim ^ -0.5))
    self:param("bias", { self.rows, 5 })
  else
    self.prompts = Prompts { texts = rated.prompts(o.metrics), kind = kind, dim = o.dim,
                             clip = o.clip, tokenizer = o.tokenizer }
    self.dim = self.prompts.dim
    self.similar = Similar(kind == "clip")
  end
end
function Levels:forward(v)
  local x = v:unsqueeze(3) -- [B, M, 1, dim]
  local logits
  if rawget(self, "weight") then
    logits = core.sum(x * self.weight, { dims = { 4 } }) + self.bias
  else
    logits = self.similar(x, self.prompts():reshape({ self.rows, 5, self.dim }))
  end
  return rated.answer(logits:softmax { dim = 3 })
end
rated.Levels = Levels

-- The scores of level probabilities [B, M, 5]: { scores = [B, M], levels = }.
-- -> table
--   > lumen.models.rated.answer(lumen.tensor { { { 0, 0, 0, 0.5, 0.5 } } }).scores
--   f32 [1 x 1] {4.5}
function rated.answer(levels)
  local value = (core.arange(5) + 1):to(levels.dtype):to(levels.device)
  return { scores = core.sum(levels * value, { dims = { 3 } }), levels = levels }
end

-- ---- the images ------------------------------------------------------------------------------

-- The base of the models: `setup` makes the encoder, the other methods look at a batch.
--   > Mine = lumen.nn.class("Mine", lumen.models.rated.Rated)
--   > function Mine:build(o)
--   >   self:setup(o)
--   >   self.head = lumen.nn.Linear(self.dim, #self.metrics)
--   > end
--   > function Mine:forward(batch)
--   >   return { scores = self.head(self:tokens { batch.image }[1]:mean(2)), grid = self.grid }
--   > end
--   > Mine { size = 32 }({ image = lumen.randn(2, 1, 32, 32) }).scores.shape
--   {2, 3}
local Rated = nn.class("Rated")
rated.Rated = Rated

-- Makes self.encoder: options.encoder, or a ViT by model = "vit_micro", size = 64, channels = 1,
-- and over the model's own values patch, width, depth, heads. Sets self.metrics (options.metrics,
-- default rated.metrics), grid {rows, columns} and dim.
--   > model = lumen.models.must { size = 32, depth = 1 }
--   > model.grid, model.dim
--   {4, 4}
--   64
function Rated:setup(o)
  self.metrics = o.metrics or rated.metrics
  if type(self.metrics) ~= "table" or #self.metrics == 0 then
    error("metrics is a list of at least one name", 0)
  end
  self.encoder = o.encoder or vit.Vit { model = o.model or "vit_micro", size = o.size or 64,
    channels = o.channels or 1, patch = o.patch, dim = o.width, depth = o.depth, heads = o.heads }
  self.grid, self.dim = self.encoder.grid, self.encoder.dim
  self.heads, self.depth = o.heads or self.encoder.options.heads, self.encoder.depth
end

-- Raises unless all images are what the encoder reads, and as many each.
local function check_images(self, images)
  local encoder, first = self.encoder, images[1]
  if not core.is_tensor(first) then
    error("a batch of rated images is a table with image [B, C, H, W]", 0)
  end
  local channels = encoder.options.channels
  local height, width = self.grid[1] * encoder.patch, self.grid[2] * encoder.patch
  for _, image in ipairs(images) do
    local s = image.shape
    local known = s[2] == channels or s[2] == 1 and channels == 3 -- grey is repeated
    if #s ~= 4 or s[1] ~= first.shape[1] or s[2] ~= first.shape[2] or not known
      or s[3] ~= height or s[4] ~= width then
      error(("rated images and references are [%d x %d x %d x %d] here, not [%s]"):format(
        first.shape[1], channels, height, width, table.concat(s, " x ")), 0)
    end
  end
end

-- fn of all images as one batch; what it gives, [N, ...], cut into one part per image.
local function encode(self, images, fn)
  check_images(self, images)
  local x = #images == 1 and images[1] or core.cat(images, { dim = 1 })
  local channels = self.encoder.options.channels
  if x.shape[2] == 1 and channels == 3 then
    x = x:expand({ x.shape[1], channels, x.shape[3], x.shape[4] })
  end
  local count = images[1].shape[1]
  local function part(y, i)
    return #images == 1 and y or y:slice(1, (i - 1) * count + 1, i * count)
  end
  return fn(x), part
end

-- Tokens [B, L, dim] of each of a list of images [B, C, H, W], encoded as one batch, without the
-- class token. A grey image is repeated for an encoder of three channels.
-- -> table
--   > model = lumen.models.must { size = 32, depth = 1 }
--   > image = lumen.randn(2, 1, 32, 32)
--   > #model:tokens { image, image }
--   2
function Rated:tokens(images)
  local tokens, part = encode(self, images, self.encoder)
  local list = {}
  tokens = tokens:slice(2, 2, -1)
  for i = 1, #images do list[i] = part(tokens, i) end
  return list
end

-- What the encoder's last `count` blocks give for each image: a list of lists of [B, L, dim].
-- -> table
--   > model = lumen.models.must { size = 32, depth = 2 }
--   > image = lumen.randn(2, 1, 32, 32)
--   > #model:features({ image, image, image }, 2), #model:features({ image }, 2)[1]
--   3
--   2
function Rated:features(images, count)
  local blocks, part = encode(self, images, function(x) return self.encoder:features(x, count) end)
  local list = {}
  for i = 1, #images do
    list[i] = {}
    for k, y in ipairs(blocks) do list[i][k] = part(y:slice(2, 2, -1), i) end
  end
  return list
end

-- Prepares `summary`, a vector to be compared with `prompts`.
--   > model = lumen.models.liqe { size = 32, depth = 1, text = "prototype" }
--   > model.pool ~= nil
--   true
function Rated:add_summary(prompts)
  local proj = prompts.kind == "clip" and rawget(self.encoder, "proj")
  self.is_clip = proj and proj.shape[2] == prompts.dim or false
  if not self.is_clip then self.pool = Pool(self.dim, self.heads, prompts.dim) end
end

-- One vector [B, d] of an image and the weights of its tokens [B, L]; on CLIP's own image side,
-- with CLIP's prompts, CLIP's embedding, and no weights.
-- -> tensor, tensor?
--   > model = lumen.models.liqe { size = 32, depth = 1, text = "prototype" }
--   > v, weights = model:summary(lumen.randn(2, 1, 32, 32))
--   > v.shape, weights.shape
--   {2, 64}
--   {2, 16}
function Rated:summary(image)
  if not self.is_clip then return self.pool(self:tokens({ image })[1]) end
  local tokens = encode(self, { image }, self.encoder)
  return tokens:select(2, 1):matmul(self.encoder.proj)
end

-- The reference "source" or "contrast" of a batch, nil when there is none, and f32 [B], 1 where
-- a sample has it. Raises when the batch has no image.
-- -> tensor, tensor
--   > image = lumen.ones(2, 1, 8, 8)
--   > batch = { image = image, source = image, has_source = lumen.tensor { 1, 0 } }
--   > lumen.models.rated.reference(batch, "source")
--   f32 [2 x 1 x 8 x 8] {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, ...}
--   f32 [2] {1, 0}
function rated.reference(batch, name)
  local image, has = batch[name], batch["has_" .. name]
  if not core.is_tensor(batch.image) then
    error("a batch of rated images is a table with image [B, C, H, W]", 0)
  end
  local count, device = batch.image.shape[1], batch.image.device
  if not image then return nil, core.zeros({ count }, { device = device }) end
  return image, has or core.ones({ count }, { device = device })
end

-- Starts the encoder from a pre-training state: vit.load_encoder, after its patch embedding,
-- which saw three channels of a grey image normalised by data.mean and data.std, is folded into
-- one that sees grey normalised by options.mean and options.std (default: the means of these
-- two), so that the tokens stay the same; further channels start at zero.
--   > mae = lumen.models.mae { model = "vit_micro", size = 32 }
--   > model = lumen.models.must { model = "vit_micro", size = 32, channels = 2 }
--   > model:load_encoder(mae:state_dict())
--   > model.encoder.blocks:at(1).norm1.weight.shape
--   {64}
function Rated:load_encoder(state, options)
  if not rawget(self.encoder, "patch_embed") then
    error("load_encoder: this model's encoder is no ViT with timm's names", 2)
  end
  local taken = vit.encoder_state(state)
  local weight, channels = taken["patch_embed.proj.weight"], self.encoder.options.channels
  if weight and #weight.shape == 4 and weight.shape[2] == 3 and channels ~= 3 then
    core.no_grad(function()
      local function mean(t) return (t[1] + t[2] + t[3]) / 3 end
      local to_mean = options and options.mean or mean(data.mean)
      local to_std = options and options.std or mean(data.std)
      weight = weight:to("f32")
      local scale = core.tensor(data.std):reciprocal():reshape({ 1, 3, 1, 1 })
      local shift = (to_mean - core.tensor(data.mean)):reshape({ 1, 3, 1, 1 }) * scale
      local bias = taken["patch_embed.proj.bias"]
      taken["patch_embed.proj.bias"] = bias and bias:to("f32")
        + core.sum(weight * shift, { dims = { 2, 3, 4 } })
      local grey = core.sum(weight * scale * to_std, { dims = { 2 }, keepdim = true })
      local rest = core.zeros({ grey.shape[1], channels - 1, grey.shape[3], grey.shape[4] })
      taken["patch_embed.proj.weight"] = channels == 1 and grey or
        core.cat({ grey, rest }, { dim = 2 })
    end)
  end
  vit.load_encoder(self.encoder, taken)
end

return rated
