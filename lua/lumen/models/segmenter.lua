-- Segmentation with a ViT encoder: segmenter{ model = "vit_base", size = 224, decoder =
-- "conv" | "linear", classes = 1, ... }. Image [N, C, H, W] -> logits [N, classes, H, W].
-- Encoder parameters carry the prefix "encoder.", the decoder's "decoder.".
local core = require "lumen.core"
local nn = require "lumen.nn"
local vit = require "lumen.models.vit"

-- Every token predicts its own patch.
local LinearDecoder = nn.class("LinearDecoder")
function LinearDecoder:build(dim, patch, classes)
  self.patch = patch
  self.head = nn.Linear(dim, patch * patch * classes,
    { weight_init = nn.fill.trunc_normal(0.02), bias_init = nn.fill.constant(0) })
end
function LinearDecoder:forward(tokens, height, width)
  return core.unpatchify(self.head(tokens), { patch = self.patch, height = height,
                                              width = width })
end

-- The token grid doubled until it has the image's size: (3 x 3 convolution, batch norm,
-- GELU) at every step, channels halved from `width` on, not below 16.
local ConvDecoder = nn.class("ConvDecoder")
function ConvDecoder:build(dim, patch, classes, width)
  if patch & (patch - 1) ~= 0 then
    error(("the conv decoder needs a patch that is a power of two, not %d"):format(patch), 0)
  end
  self.steps = 0
  local inputs, outputs, stages = dim, width, {}
  while 1 << self.steps < patch do
    self.steps = self.steps + 1
    stages[self.steps] = nn.Sequential {
      nn.Conv2d(inputs, outputs, 3, { padding = 1, bias = false }),
      nn.BatchNorm2d(outputs), core.gelu }
    inputs, outputs = outputs, math.max(outputs // 2, 16)
  end
  self.stages = nn.Sequential(stages)
  self.head = nn.Conv2d(inputs, classes, 3, { padding = 1 })
end
function ConvDecoder:forward(tokens, height, width)
  local rows, cols = height >> self.steps, width >> self.steps
  local x = tokens:transpose(2, 3):reshape({ tokens.shape[1], tokens.shape[3], rows, cols })
  for i = 1, self.steps do
    x = self.stages:at(i)(x)
    x = core.resize(x, { size = { 2 * x.shape[3], 2 * x.shape[4] }, mode = "bilinear" })
  end
  return self.head(x)
end

-- Segmentation with a ViT encoder: image [N, C, H, W] -> logits [N, classes, H, W]. options:
-- those of vit, decoder = "conv" (token grid doubled up to the image's size) or "linear"
-- (every token predicts its own patch), classes = 1, decoder_width = 128. Parameters carry the
-- prefixes "encoder." and "decoder.".
--   > net = lumen.models.segmenter { model = "vit_micro", size = 32 }
--   > net(lumen.randn(1, 3, 32, 32)).shape
--   {1, 1, 32, 32}
local Segmenter = nn.class("Segmenter")
function Segmenter:build(options)
  options = options or {}
  local kind, classes = options.decoder or "conv", options.classes or 1
  local encoder = {}
  for key, value in next, options do encoder[key] = value end
  encoder.classes = 0
  self.encoder = vit(encoder)
  self.grid = self.encoder.grid
  local dim, patch = self.encoder.dim, self.encoder.patch
  if kind == "linear" then
    self.decoder = LinearDecoder(dim, patch, classes)
  elseif kind == "conv" then
    self.decoder = ConvDecoder(dim, patch, classes, options.decoder_width or 128)
  else
    error(("segmenter: decoder is %q, not conv or linear"):format(kind), 3)
  end
end
function Segmenter:forward(image)
  local tokens = self.encoder(image):slice(2, 2, -1)
  return self.decoder(tokens, image.shape[3], image.shape[4])
end

return Segmenter
