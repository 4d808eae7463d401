-- UNeXt-S (Valanarasu and Patel 2022): a small segmentation network; convolutions outside,
-- two shifted-MLP stages at the bottom. 253,561 parameters, named as in the authors' code.
-- Image [N, 3, H, W] with sides divisible by 32 -> logits [N, classes, H, W].
local core = require "lumen.core"
local nn = require "lumen.nn"
local fill = nn.fill

local zero = fill.constant(0)

local function linear(size)
  return nn.Linear(size, size, { weight_init = fill.trunc_normal(0.02), bias_init = zero })
end

-- Tokens [N, L, C] and their map [N, C, H, W].
local function to_tokens(map) return map:flatten(3, 4):transpose(2, 3) end
local function to_map(tokens, h, w)
  return tokens:transpose(2, 3):reshape({ tokens.shape[1], tokens.shape[3], h, w })
end

local DepthwiseConv = nn.class("DepthwiseConv")
function DepthwiseConv:build(size)
  self.dwconv = nn.Conv2d(size, size, 3, { padding = 1, groups = size,
    weight_init = fill.normal_fan_out(size), bias_init = zero })
end
function DepthwiseConv:forward(map) return self.dwconv(map) end

-- Channels in five groups shifted by -2..2 along the height, fc1, depthwise convolution,
-- GELU, the same shift along the width, fc2.
local ShiftMlp = nn.class("ShiftMlp")
function ShiftMlp:build(size)
  self.fc1 = linear(size)
  self.dwconv = DepthwiseConv(size)
  self.fc2 = linear(size)
end
function ShiftMlp:forward(x, h, w)
  local map = core.axial_shift(to_map(x, h, w), { dim = 3, groups = 5 })
  map = to_map(self.fc1(to_tokens(map)), h, w)
  map = core.gelu(self.dwconv(map))
  map = core.axial_shift(map, { dim = 4, groups = 5 })
  return self.fc2(to_tokens(map))
end

-- UNeXt's block on tokens x [N, h*w, size]: x + ShiftMlp(norm(x)), called with (x, h, w).
--   > block = lumen.models.unext.ShiftedBlock(40)
--   > block(lumen.randn(1, 4 * 4, 40), 4, 4).shape
--   {1, 16, 40}
local ShiftedBlock = nn.class("ShiftedBlock")
function ShiftedBlock:build(size)
  self.norm2 = nn.LayerNorm(size)
  self.mlp = ShiftMlp(size)
end
function ShiftedBlock:forward(x, h, w) return x + self.mlp(self.norm2(x), h, w) end

-- Overlapping patches of 3 x 3 with stride 2: map [N, inputs, H, W] -> normalised tokens [N,
-- H/2 * W/2, outputs], rows, columns.
--   > tokens, rows, columns = lumen.models.unext.OverlapPatchEmbed(8, 16)(lumen.randn(1, 8, 8, 8))
--   > tokens.shape, rows, columns
--   {1, 16, 16}
--   4
--   4
local OverlapPatchEmbed = nn.class("OverlapPatchEmbed")
function OverlapPatchEmbed:build(inputs, outputs)
  self.proj = nn.Conv2d(inputs, outputs, 3, { stride = 2, padding = 1,
    weight_init = fill.normal_fan_out(1), bias_init = zero })
  self.norm = nn.LayerNorm(outputs)
end
function OverlapPatchEmbed:forward(map)
  map = self.proj(map)
  return self.norm(to_tokens(map)), map.shape[3], map.shape[4]
end

local function conv(inputs, outputs) return nn.Conv2d(inputs, outputs, 3, { padding = 1 }) end

-- UNeXt-S: unext{ channels = 3, classes = 1 }, image [N, channels, H, W] with sides divisible by 32
-- -> logits [N, classes, H, W] (Valanarasu and Patel 2022).
--   > net = lumen.models.unext {}
--   > net(lumen.randn(1, 3, 64, 64)).shape, net:count()
--   {1, 1, 64, 64}
--   253561
local Unext = nn.class("Unext")
function Unext:build(options)
  options = options or {}
  self.encoder1 = conv(options.channels or 3, 8)
  self.encoder2, self.encoder3 = conv(8, 16), conv(16, 32)
  self.ebn1, self.ebn2 = nn.BatchNorm2d(8), nn.BatchNorm2d(16)
  self.ebn3 = nn.BatchNorm2d(32)
  self.norm3, self.norm4 = nn.LayerNorm(64), nn.LayerNorm(128)
  self.dnorm3, self.dnorm4 = nn.LayerNorm(64), nn.LayerNorm(32)
  self.block1 = nn.Sequential { ShiftedBlock(64) }
  self.block2 = nn.Sequential { ShiftedBlock(128) }
  self.dblock1 = nn.Sequential { ShiftedBlock(64) }
  self.dblock2 = nn.Sequential { ShiftedBlock(32) }
  self.patch_embed3 = OverlapPatchEmbed(32, 64)
  self.patch_embed4 = OverlapPatchEmbed(64, 128)
  self.decoder1, self.decoder2, self.decoder3 = conv(128, 64), conv(64, 32), conv(32, 16)
  self.decoder4, self.decoder5 = conv(16, 8), conv(8, 8)
  self.dbn1, self.dbn2 = nn.BatchNorm2d(64), nn.BatchNorm2d(32)
  self.dbn3, self.dbn4 = nn.BatchNorm2d(16), nn.BatchNorm2d(8)
  self.final = nn.Conv2d(8, options.classes or 1, 1)
end

-- Convolution, normalisation, then down or up by 2; the large maps in between end here.
local function down(convolution, norm, map)
  return core.scope(function()
    return core.relu(core.max_pool2d(norm(convolution(map)), { size = 2 }))
  end)
end

local function up(convolution, norm, map)
  return core.scope(function()
    map = convolution(map)
    if norm then map = norm(map) end
    local size = { 2 * map.shape[3], 2 * map.shape[4] }
    return core.relu(core.resize(map, { size = size, mode = "bilinear" }))
  end)
end

-- options.stages: a table that receives the stage outputs t1..t4 and bottleneck.
function Unext:forward(image, options)
  local h, w = image.shape[3], image.shape[4]
  if h % 32 ~= 0 or w % 32 ~= 0 then
    error(("unext: image sides must be divisible by 32, they are %d x %d"):format(h, w), 0)
  end
  local t1 = down(self.encoder1, self.ebn1, image)
  local t2 = down(self.encoder2, self.ebn2, t1)
  local t3 = down(self.encoder3, self.ebn3, t2)
  local x, rows, cols = self.patch_embed3(t3)
  x = self.norm3(self.block1:at(1)(x, rows, cols))
  local t4 = to_map(x, rows, cols)
  x, rows, cols = self.patch_embed4(t4)
  x = self.norm4(self.block2:at(1)(x, rows, cols))
  local bottleneck = to_map(x, rows, cols)

  local map = up(self.decoder1, self.dbn1, bottleneck) + t4
  rows, cols = map.shape[3], map.shape[4]
  x = self.dnorm3(self.dblock1:at(1)(to_tokens(map), rows, cols))
  map = up(self.decoder2, self.dbn2, to_map(x, rows, cols)) + t3
  rows, cols = map.shape[3], map.shape[4]
  x = self.dnorm4(self.dblock2:at(1)(to_tokens(map), rows, cols))
  map = up(self.decoder3, self.dbn3, to_map(x, rows, cols)) + t2
  map = up(self.decoder4, self.dbn4, map) + t1
  map = up(self.decoder5, nil, map)
  if options and options.stages then
    local s = options.stages
    s.t1, s.t2, s.t3, s.t4, s.bottleneck = t1, t2, t3, t4, bottleneck
  end
  return self.final(map)
end

-- Its parts, to look at or build on.
Unext.ShiftedBlock, Unext.OverlapPatchEmbed = ShiftedBlock, OverlapPatchEmbed

return Unext
