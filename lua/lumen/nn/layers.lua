-- Layers with parameters, over the operations of the core. Options stand in a last table.
local core = require "lumen.core"
local class = require("lumen.nn.module").class
local fill = require "lumen.nn.initializers"

local layers = {}

-- A linear layer x W^T + b: x [..., inputs] -> [..., outputs]. options: bias = true,
-- activation = "none" | "relu" | "gelu" | "silu", weight_init, bias_init.
--   > layer = lumen.nn.Linear(3, 5)
--   > layer(lumen.randn(2, 7, 3)).shape, layer.weight.shape
--   {2, 7, 5}
--   {5, 3}
local Linear = class("Linear")
function Linear:build(inputs, outputs, options)
  options = options or {}
  self.activation = options.activation or "none"
  self:param("weight", { outputs, inputs }, options.weight_init or fill.uniform_fan_in())
  if options.bias ~= false then
    self:param("bias", { outputs }, options.bias_init or fill.uniform_fan_in(inputs))
  end
end
function Linear:forward(x)
  return core.linear(x, self.weight, self.bias, { activation = self.activation })
end
layers.Linear = Linear

-- Normalises the last dimension, of size `size`, with a learned scale and shift. options: eps
-- = 1e-5.
--   > lumen.nn.LayerNorm(3)(lumen.tensor{{1, 2, 3}})
--   f32 [1 x 3] {-1.2247, 0, 1.2247}
local LayerNorm = class("LayerNorm")
function LayerNorm:build(size, options)
  self.eps = options and options.eps or 1e-5
  self:param("weight", { size }, fill.constant(1))
  self:param("bias", { size })
end
function LayerNorm:forward(x)
  return core.layer_norm(x, self.weight, self.bias, { eps = self.eps })
end
layers.LayerNorm = LayerNorm

local function pair(v) return type(v) == "table" and v or { v, v } end

-- Two-dimensional convolution: x [N, inputs, H, W] -> [N, outputs, H', W']. size: side of the
-- kernel, or {h, w}. options: stride = 1, padding = 0, dilation = 1, groups = 1, bias = true,
-- weight_init, bias_init.
--   > layer = lumen.nn.Conv2d(3, 8, 3, { padding = 1 })
--   > layer(lumen.randn(1, 3, 16, 16)).shape, layer:count()
--   {1, 8, 16, 16}
--   224
local Conv2d = class("Conv2d")
function Conv2d:build(inputs, outputs, size, options)
  options = options or {}
  size = pair(size)
  local groups = options.groups or 1
  self.stride, self.padding = pair(options.stride or 1), pair(options.padding or 0)
  self.dilation, self.groups = pair(options.dilation or 1), groups
  self:param("weight", { outputs, inputs // groups, size[1], size[2] },
    options.weight_init or fill.uniform_fan_in())
  if options.bias ~= false then
    self:param("bias", { outputs },
      options.bias_init or fill.uniform_fan_in(inputs // groups * size[1] * size[2]))
  end
end
function Conv2d:forward(x)
  return core.conv2d(x, self.weight, self.bias, { stride = self.stride,
    padding = self.padding, dilation = self.dilation, groups = self.groups })
end
layers.Conv2d = Conv2d

-- Transposed convolution: x [N, inputs, H, W] -> [N, outputs, H', W']; options as Conv2d, and
-- output_padding = 0.
--   > up = lumen.nn.ConvTranspose2d(8, 4, 2, { stride = 2 })
--   > up(lumen.randn(1, 8, 16, 16)).shape
--   {1, 4, 32, 32}
local ConvTranspose2d = class("ConvTranspose2d")
function ConvTranspose2d:build(inputs, outputs, size, options)
  options = options or {}
  size = pair(size)
  local groups = options.groups or 1
  self.stride, self.padding = pair(options.stride or 1), pair(options.padding or 0)
  self.output_padding = pair(options.output_padding or 0)
  self.dilation, self.groups = pair(options.dilation or 1), groups
  self:param("weight", { inputs, outputs // groups, size[1], size[2] },
    fill.uniform_fan_in())
  if options.bias ~= false then
    self:param("bias", { outputs },
      fill.uniform_fan_in(outputs // groups * size[1] * size[2]))
  end
end
function ConvTranspose2d:forward(x)
  return core.conv_transpose2d(x, self.weight, self.bias, { stride = self.stride,
    padding = self.padding, output_padding = self.output_padding,
    dilation = self.dilation, groups = self.groups })
end
layers.ConvTranspose2d = ConvTranspose2d

-- Normalises the channels of x [N, channels, H, W]: in training by the batch, updating the
-- running statistics, in eval mode by these. options: eps = 1e-5, momentum = 0.1.
--   > norm = lumen.nn.BatchNorm2d(3)
--   > norm(lumen.randn(4, 3, 8, 8)):mean():abs():item() < 1e-5, norm.num_batches_tracked:item()
--   true
--   1
local BatchNorm2d = class("BatchNorm2d")
function BatchNorm2d:build(channels, options)
  options = options or {}
  self.eps, self.momentum = options.eps or 1e-5, options.momentum or 0.1
  self:param("weight", { channels }, fill.constant(1))
  self:param("bias", { channels })
  self:buffer("running_mean", core.zeros({ channels }))
  self:buffer("running_var", core.ones({ channels }))
  self:buffer("num_batches_tracked", core.zeros({}, { dtype = "i64" }))
end
function BatchNorm2d:forward(x)
  if self.training then
    core.no_grad(function() self.num_batches_tracked:add_(1) end)
  end
  return core.batch_norm(x, self.weight, self.bias, self.running_mean, self.running_var,
    { training = self.training, momentum = self.momentum, eps = self.eps })
end
layers.BatchNorm2d = BatchNorm2d

-- Normalises `groups` groups of channels of each sample of x [N, channels, ...], with a
-- learned scale and shift per channel. options: eps = 1e-5.
--   > lumen.nn.GroupNorm(2, 4)(lumen.randn(1, 4, 8, 8)).shape
--   {1, 4, 8, 8}
local GroupNorm = class("GroupNorm")
function GroupNorm:build(groups, channels, options)
  self.groups, self.eps = groups, options and options.eps or 1e-5
  self:param("weight", { channels }, fill.constant(1))
  self:param("bias", { channels })
end
function GroupNorm:forward(x)
  return core.group_norm(x, self.weight, self.bias, { groups = self.groups, eps = self.eps })
end
layers.GroupNorm = GroupNorm

-- Rows of a learned table: index i64 [...] (0-based values) -> [..., size]. options: std = 1.
--   > words = lumen.nn.Embedding(100, 16)
--   > words(lumen.tensor({{1, 5, 7}}, { dtype = "i64" })).shape
--   {1, 3, 16}
local Embedding = class("Embedding")
function Embedding:build(count, size, options)
  self:param("weight", { count, size }, fill.normal(options and options.std or 1))
end
function Embedding:forward(index) return core.embedding(self.weight, index) end
layers.Embedding = Embedding

-- Sets elements to 0 with probability p in training, and does nothing in eval mode.
--   > lumen.nn.Dropout(0.5):eval()(lumen.ones(3))
--   f32 [3] {1, 1, 1}
local Dropout = class("Dropout")
function Dropout:build(p) self.p = p end
function Dropout:forward(x)
  return self.training and self.p > 0 and core.dropout(x, { p = self.p }) or x
end
layers.Dropout = Dropout

-- Stochastic depth: drops whole samples of a residual branch with probability p in training
-- (Huang et al. 2016).
--   > lumen.nn.DropPath(0.1):eval()(lumen.ones(2, 3)).shape
--   {2, 3}
local DropPath = class("DropPath")
function DropPath:build(p) self.p = p end
function DropPath:forward(x)
  return self.training and self.p > 0 and core.drop_path(x, { p = self.p }) or x
end
layers.DropPath = DropPath

-- nn.Sequential{ a, b, ... }: one after the other. Children are called "0", "1", ... as in
-- PyTorch; s:at(i) is the i-th. An entry may also be a plain function.
--   > nn = lumen.nn
--   > net = nn.Sequential { nn.Linear(4, 8), lumen.relu, nn.Linear(8, 1) }
--   > net(lumen.randn(5, 4)).shape, net:named_parameters()[1].name
--   {5, 1}
--   0.weight
local Sequential = class("Sequential")
function Sequential:build(list)
  self.length = #list
  for i, module in ipairs(list) do
    self[tostring(i - 1)] = module
  end
end
function Sequential:forward(x)
  for i = 1, self.length do x = self[tostring(i - 1)](x) end
  return x
end

-- The i-th entry, counted from 1.
--   > net = lumen.nn.Sequential { lumen.nn.Linear(4, 8), lumen.relu }
--   > net:at(1).weight.shape
--   {8, 4}
function Sequential:at(i) return self[tostring(i - 1)] end
layers.Sequential = Sequential

return layers
