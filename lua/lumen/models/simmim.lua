-- SimMIM (Xie et al. 2022) on a plain ViT: hidden patches become a learned token, the encoder
-- sees the whole sequence, and one linear layer predicts the pixels of every patch. Parameters:
-- "encoder." and timm's names, mask_token, head. Positions are MAE's fixed sines and cosines,
-- where the authors learn a relative bias: so every pre-training here fills the same encoder.
local core = require "lumen.core"
local nn = require "lumen.nn"
local vit = require "lumen.models.vit"

-- SimMIM on a plain ViT: simmim{ model = "vit_base", size = 224, ... }: options as vit.
--   > net = lumen.models.simmim { model = "vit_micro", size = 32 }
--   > mask = lumen.masking.random(nil, { ratio = 0.5, grid = net.grid, count = 1, rng = { seed = 1 } })
--   > net(lumen.randn(1, 3, 32, 32), mask).image.shape
--   {1, 3, 32, 32}
local Simmim = nn.class("Simmim")
function Simmim:build(options)
  local o = { classes = 0, positions = "fixed" }
  for key, value in next, options or {} do o[key] = value end
  self.encoder = vit(o)
  local channels = self.encoder.options.channels
  self.patch, self.grid, self.dim = self.encoder.patch, self.encoder.grid, self.encoder.dim
  self:param("mask_token", { 1, 1, self.dim }, nn.fill.trunc_normal(0.02))
  self.head = nn.Linear(self.dim, self.patch * self.patch * channels,
    { weight_init = nn.fill.trunc_normal(0.02), bias_init = nn.fill.constant(0) })
end

-- image [N, C, H, W], mask: what lumen.masking returned. Returns { pred = [N, L, p*p*C],
-- image = the same as [N, C, H, W] }.
function Simmim:forward(image, mask)
  local tokens = self.encoder(image, { mask = mask.mask, token = self.mask_token })
  local pred = self.head(tokens:slice(2, 2, -1))
  return { pred = pred, image = core.unpatchify(pred, { patch = self.patch,
    height = image.shape[3], width = image.shape[4] }) }
end

return Simmim
