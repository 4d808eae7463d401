-- Layers with parameters, over the operations of the core. Options stand in a last table.
local core = require "lumen.core"
local class = require("lumen.nn.module").class
local fill = require "lumen.nn.initializers"

local layers = {}

-- x [..., inputs] -> [..., outputs]. options: bias = true, activation = "none" | "relu" |
-- "gelu" | "silu", weight_init, bias_init.
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

-- Over the last dimension, of size `size`. options: eps = 1e-5.
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

-- x [N, inputs, H, W]. `size`: kernel side or {h, w}. options: stride = 1, padding = 0,
-- dilation = 1, groups = 1, bias = true, weight_init, bias_init.
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

-- Transposed convolution; options as Conv2d and output_padding = 0.
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

-- x [N, channels, H, W]. In training it normalises by the batch and updates the running
-- statistics; in eval mode by the running statistics. options: eps = 1e-5, momentum = 0.1.
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
    core.no_grad(function() self.num_batches_tracked:add_(core.ones({}, { dtype = "i64" })) end)
  end
  return core.batch_norm(x, self.weight, self.bias, self.running_mean, self.running_var,
    { training = self.training, momentum = self.momentum, eps = self.eps })
end
layers.BatchNorm2d = BatchNorm2d

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

-- index i64 [...] (0-based values) -> [..., size].
local Embedding = class("Embedding")
function Embedding:build(count, size, options)
  self:param("weight", { count, size }, fill.normal(options and options.std or 1))
end
function Embedding:forward(index) return core.embedding(self.weight, index) end
layers.Embedding = Embedding

local Dropout = class("Dropout")
function Dropout:build(p) self.p = p end
function Dropout:forward(x)
  return self.training and self.p > 0 and core.dropout(x, { p = self.p }) or x
end
layers.Dropout = Dropout

-- Stochastic depth: whole samples of a residual branch.
local DropPath = class("DropPath")
function DropPath:build(p) self.p = p end
function DropPath:forward(x)
  return self.training and self.p > 0 and core.drop_path(x, { p = self.p }) or x
end
layers.DropPath = DropPath

-- nn.Sequential{ a, b, ... }: children are called "0", "1", ... as in PyTorch; list[i] is
-- the i-th. An entry may also be a plain function.
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
function Sequential:at(i) return self[tostring(i - 1)] end
layers.Sequential = Sequential

return layers
