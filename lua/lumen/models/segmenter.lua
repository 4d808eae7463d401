-- Segmentation with a ViT encoder: segmenter{ model = "vit_base", size = 224, decoder =
-- "adapter" | "conv" | "linear", decoder_width =, classes = 1, ... }. Image [N, C, H, W] ->
-- logits [N, classes, H, W]. Encoder parameters carry the prefix "encoder.", the decoder's
-- "decoder.".
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

-- The number of doublings from the grid of tokens to the image.
local function doublings(kind, patch)
  if patch & (patch - 1) ~= 0 or patch < 2 then
    error(("the %s decoder needs a patch that is a power of two, not %d"):format(kind, patch), 0)
  end
  local n = 0
  while 1 << n < patch do n = n + 1 end
  return n
end

-- Tokens [N, L, dim] as a map [N, dim, rows, cols].
local function to_map(tokens, rows, cols)
  return tokens:transpose(2, 3):reshape({ tokens.shape[1], tokens.shape[3], rows, cols })
end

-- The token grid doubled until it has the image's size: (3 x 3 convolution, batch norm,
-- GELU) at every step, channels halved from `width` on, not below 16.
local ConvDecoder = nn.class("ConvDecoder")
function ConvDecoder:build(dim, patch, classes, width)
  self.steps = doublings("conv", patch)
  local inputs, outputs, stages = dim, width, {}
  for i = 1, self.steps do
    stages[i] = nn.Sequential {
      nn.Conv2d(inputs, outputs, 3, { padding = 1, bias = false }),
      nn.BatchNorm2d(outputs), core.gelu }
    inputs, outputs = outputs, math.max(outputs // 2, 16)
  end
  self.stages = nn.Sequential(stages)
  self.head = nn.Conv2d(inputs, classes, 3, { padding = 1 })
end
function ConvDecoder:forward(tokens, height, width)
  local x = to_map(tokens, height >> self.steps, width >> self.steps)
  for i = 1, self.steps do
    x = self.stages:at(i)(x)
    x = core.resize(x, { size = { 2 * x.shape[3], 2 * x.shape[4] }, mode = "bilinear" })
  end
  return self.head(x)
end

local function twice(x)
  return core.resize(x, { size = { 2 * x.shape[3], 2 * x.shape[4] }, mode = "nearest" })
end

local function conv_norm(inputs, outputs, size)
  return nn.Sequential { nn.Conv2d(inputs, outputs, size, { padding = size // 2 }),
                         nn.BatchNorm2d(outputs), core.gelu }
end

-- Two convolutions beside a 1 x 1 shortcut.
local BasicBlock = nn.class("BasicBlock")
function BasicBlock:build(inputs, outputs)
  self.conv1, self.conv2 = conv_norm(inputs, outputs, 3), conv_norm(outputs, outputs, 3)
  self.skip = nn.Conv2d(inputs, outputs, 1)
end
function BasicBlock:forward(x) return self.conv2(self.conv1(x)) + self.skip(x) end

-- The UNet-style adapter of CheXWorld, on which VasoMIM's fine-tuning stands: the last tokens
-- feed one branch per resolution, k nearest doublings each followed by a 3 x 3 convolution
-- (dim / 2, dim / 4, ..., at last width / 2^k channels); a UNETR-like decoder joins them from
-- coarse to fine, with a block on the image itself at full resolution. With patch 16, dim 768
-- and width 512 these are the published sizes: 512, 256, 128, 64 channels, 32 on the image.
-- A smaller patch has fewer branches.
local Adapter = nn.class("Adapter")
function Adapter:build(dim, patch, classes, width, channels)
  self.steps = doublings("adapter", patch)
  if width % patch ~= 0 then
    error(("the adapter decoder needs a width that %d divides, not %d"):format(patch, width), 0)
  end
  self.coarse = conv_norm(dim, width, 1)
  for k = 1, self.steps - 1 do
    local convs, inputs = {}, dim
    for j = 1, k do
      local outputs = j == k and width >> k or math.max(dim >> j, width >> k)
      convs[j] = conv_norm(inputs, outputs, 3)
      inputs = outputs
    end
    self["branch" .. k] = nn.Sequential(convs)
    self["join" .. k] = BasicBlock(3 * (width >> k), width >> k)
  end
  self.image = BasicBlock(channels, width >> self.steps)
  self["join" .. self.steps] = BasicBlock(3 * (width >> self.steps), width >> self.steps)
  self.head = nn.Conv2d(width >> self.steps, classes, 1)
end
function Adapter:forward(tokens, height, width, image)
  local grid = to_map(tokens, height >> self.steps, width >> self.steps)
  local x = self.coarse(grid)
  for k = 1, self.steps do
    local skip
    if k == self.steps then
      skip = self.image(image)
    else
      skip = grid
      for j = 1, k do skip = self["branch" .. k]:at(j)(twice(skip)) end
    end
    x = self["join" .. k](core.cat({ twice(x), skip }, { dim = 2 }))
  end
  return self.head(x)
end

-- Segmentation with a ViT encoder: image [N, C, H, W] -> logits [N, classes, H, W]. options:
-- those of vit, decoder = "adapter" (UNet-style branches joined from coarse to fine), "conv"
-- (token grid doubled up to the image's size) or "linear" (every token predicts its own patch),
-- classes = 1, decoder_width = 512 (adapter) or 128 (conv). Parameters carry the prefixes
-- "encoder." and "decoder.".
--   > net = lumen.models.segmenter { model = "vit_micro", size = 32, decoder = "conv" }
--   > net(lumen.randn(1, 3, 32, 32)).shape
--   {1, 1, 32, 32}
local Segmenter = nn.class("Segmenter")
function Segmenter:build(options)
  options = options or {}
  local kind, classes = options.decoder or "adapter", options.classes or 1
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
  elseif kind == "adapter" then
    self.decoder = Adapter(dim, patch, classes, options.decoder_width or 512,
      self.encoder.options.channels)
  else
    error(("segmenter: decoder is %q, not adapter, conv or linear"):format(kind), 3)
  end
end
function Segmenter:forward(image)
  local tokens = self.encoder(image):slice(2, 2, -1)
  return self.decoder(tokens, image.shape[3], image.shape[4], image)
end

return Segmenter
