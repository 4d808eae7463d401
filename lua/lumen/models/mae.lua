-- Masked autoencoder (He et al. 2022): the encoder sees the kept patches, a small decoder
-- fills in the others. Parameters are named as in the reference code of the paper: the
-- encoder as a ViT, then mask_token, decoder_embed, decoder_pos_embed, decoder_blocks.N,
-- decoder_norm, decoder_pred.
local core = require "lumen.core"
local nn = require "lumen.nn"
local vit = require "lumen.models.vit"

-- Masked autoencoder: mae{ model = "vit_base", size = 224, ..., decoder_dim =, decoder_depth =, decoder_heads =,
-- norm_pix = true }. Other options as vit.
--   > mae = lumen.models.mae { model = "vit_micro", size = 32 }
--   > image = lumen.randn(2, 3, 32, 32)
--   > mask = lumen.masking.random(nil, { ratio = 0.5, grid = mae.grid, count = 2, rng = { seed = 1 } })
--   > out = mae(image, mask)
--   > out.pred.shape, out.image.shape
--   {2, 16, 192}
--   {2, 3, 32, 32}
local Mae = nn.class("Mae")
function Mae:build(options)
  options = options or {}
  local o = vit.resolve(options)
  o.weight_init = nn.fill.xavier_uniform()
  self.options, self.patch, self.dim = o, o.patch, o.dim
  self.norm_pix = options.norm_pix ~= false
  local side = o.size // o.patch
  local length = side * side
  self.grid = { side, side }
  local function positions(dim)
    return nn.fill.values(function() return nn.sincos_positions(dim, side, side, true) end)
  end
  self:param("cls_token", { 1, 1, o.dim }, nn.fill.normal(0.02))
  self:param("pos_embed", { 1, 1 + length, o.dim }, positions(o.dim), { trainable = false })
  self.patch_embed = nn.PatchEmbed(o.channels, o.dim, o.patch)
  self.blocks = vit.blocks(o.dim, o.depth, o.heads, o)
  self.norm = nn.LayerNorm(o.dim, { eps = o.eps })
  local linear = { weight_init = nn.fill.xavier_uniform(), bias_init = nn.fill.constant(0) }
  self.decoder_embed = nn.Linear(o.dim, o.decoder_dim, linear)
  self:param("mask_token", { 1, 1, o.decoder_dim }, nn.fill.normal(0.02))
  self:param("decoder_pos_embed", { 1, 1 + length, o.decoder_dim },
    positions(o.decoder_dim), { trainable = false })
  local plain = setmetatable({ drop_path = 0 }, { __index = o })
  self.decoder_blocks = vit.blocks(o.decoder_dim, o.decoder_depth, o.decoder_heads, plain)
  self.decoder_norm = nn.LayerNorm(o.decoder_dim, { eps = o.eps })
  self.decoder_pred = nn.Linear(o.decoder_dim, o.patch * o.patch * o.channels, linear)
end

-- Image [N, C, H, W], keep i64 [N, K] (0-based patches, in order) -> latent [N, 1 + K, dim].
-- -> tensor
--   > mae = lumen.models.mae { model = "vit_micro", size = 32 }
--   > keep = lumen.tensor({{0, 3, 5}}, { dtype = "i64" })
--   > mae:encode(lumen.randn(1, 3, 32, 32), keep).shape
--   {1, 4, 64}
function Mae:encode(image, keep)
  local tokens = self.patch_embed(image) + self.pos_embed:slice(2, 2, -1)
  tokens = core.gather_tokens(tokens, keep)
  local cls = (self.cls_token + self.pos_embed:slice(2, 1, 1)):expand(
    { image.shape[1], 1, self.dim })
  return self.norm(self.blocks(core.cat({ cls, tokens }, { dim = 2 })))
end

-- Attention of the class token on each patch of the whole image [N, C, H, W], per head from 0
-- to 1, mean over the heads: [N, L] (the weights of AMT, Liu et al. 2023).
-- -> tensor
--   > mae = lumen.models.mae { model = "vit_micro", size = 32 }
--   > mae:attention(lumen.randn(2, 3, 32, 32)).shape
--   {2, 16}
function Mae:attention(image)
  local tokens = self.patch_embed(image) + self.pos_embed:slice(2, 2, -1)
  local cls = (self.cls_token + self.pos_embed:slice(2, 1, 1)):expand(
    { image.shape[1], 1, self.dim })
  local weight = vit.class_attention(self.blocks, core.cat({ cls, tokens }, { dim = 2 }))
  local low, high = weight:min(3, { keepdim = true }), weight:max(3, { keepdim = true })
  return core.mean((weight - low) / (high - low + 1e-12), { dims = { 2 } })
end

-- Mean squared error of every patch of the image, norm_pix as in training: [N, L]. Two passes,
-- each with one half of the patches hidden: `mask` and what it leaves.
-- -> tensor
--   > mae = lumen.models.mae { model = "vit_micro", size = 32 }
--   > mask = lumen.masking.random(nil, { ratio = 0.5, grid = mae.grid, count = 2, rng = { seed = 1 } })
--   > mae:errors(lumen.randn(2, 3, 32, 32), mask).shape
--   {2, 16}
function Mae:errors(image, mask)
  local target = core.patchify(image, { patch = self.patch })
  if self.norm_pix then
    local mean = core.mean(target, { dims = { 3 }, keepdim = true })
    target = (target - mean) / (core.var(target, 3, { keepdim = true }) + 1e-6):sqrt()
  end
  local function error_of(keep, restore)
    local pred = self:decode(self:encode(image, keep), restore)
    return core.mean(core.square(pred - target), { dims = { 3 } })
  end
  local other = core.argsort(core.cat({ mask.masked, mask.keep }, { dim = 2 }), { dim = 2 })
  return core.where(core.gt(mask.mask, 0.5), error_of(mask.keep, mask.restore),
    error_of(mask.masked, other))
end

-- latent [N, 1 + K, dim], restore i64 [N, L] -> patch predictions [N, L, patch*patch*C].
-- -> tensor
--   > mae = lumen.models.mae { model = "vit_micro", size = 16 }
--   > keep, restore = lumen.tensor({{2, 0}}, { dtype = "i64" }), lumen.tensor({{1, 2, 0, 3}}, { dtype = "i64" })
--   > mae:decode(mae:encode(lumen.randn(1, 3, 16, 16), keep), restore).shape
--   {1, 4, 192}
function Mae:decode(latent, restore)
  local x = self.decoder_embed(latent)
  local count, length, dim = x.shape[1], restore.shape[2], x.shape[3]
  local hidden = self.mask_token:expand({ count, length - (x.shape[2] - 1), dim })
  local tokens = core.cat({ x:slice(2, 2, -1), hidden }, { dim = 2 })
  tokens = core.gather_tokens(tokens, restore)
  x = core.cat({ x:slice(2, 1, 1), tokens }, { dim = 2 }) + self.decoder_pos_embed
  x = self.decoder_pred(self.decoder_norm(self.decoder_blocks(x)))
  return x:slice(2, 2, -1)
end

-- Predicted patches as an image. With norm_pix each patch gets the mean and deviation of the
-- true one, visible patches included.
-- -> tensor
--   > mae = lumen.models.mae { model = "vit_micro", size = 16 }
--   > mae:to_image(lumen.zeros(1, 4, 8 * 8 * 3), lumen.rand(1, 3, 16, 16)).shape
--   {1, 3, 16, 16}
function Mae:to_image(pred, image)
  if self.norm_pix then
    pred = core.denormalize_patches(pred, image, { patch = self.patch })
  end
  return core.unpatchify(pred, { patch = self.patch, height = image.shape[3],
                                 width = image.shape[4] })
end

-- mask: { keep =, restore = } as lumen.masking makes it. Returns { latent =, pred =, image = }.
function Mae:forward(image, mask)
  local latent = self:encode(image, mask.keep)
  local pred = self:decode(latent, mask.restore)
  return { latent = latent, pred = pred, image = self:to_image(pred, image) }
end

return Mae
