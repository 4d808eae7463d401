-- Transformer parts with timm's names: attn.qkv, attn.proj, norm1, norm2, mlp.fc1, mlp.fc2.
local core = require "lumen.core"
local class = require("lumen.nn.module").class
local fill = require "lumen.nn.initializers"
local layers = require "lumen.nn.layers"

local transformer = {}

-- Options that reach every Linear: weight_init, and biases that start at zero.
local function linear_options(options, extra)
  local o = { weight_init = options.weight_init or fill.trunc_normal(0.02),
              bias_init = fill.constant(0) }
  for _, key in ipairs { "bias", "activation" } do
    if extra and extra[key] ~= nil then o[key] = extra[key] end
  end
  return o
end

-- Self-attention of x [N, L, size] -> the same shape, with timm's names qkv and proj. options:
-- qkv_bias = true, causal = false, weight_init. Raises when heads does not divide size.
--   > lumen.nn.MultiHeadAttention(32, 4)(lumen.randn(2, 10, 32)).shape
--   {2, 10, 32}
local MultiHeadAttention = class("MultiHeadAttention")
function MultiHeadAttention:build(size, heads, options)
  options = options or {}
  if size % heads ~= 0 then
    error(("MultiHeadAttention: size %d is not divisible by %d heads"):format(size, heads), 3)
  end
  self.heads, self.causal = heads, options.causal or false
  self.qkv = layers.Linear(size, 3 * size,
    linear_options(options, { bias = options.qkv_bias }))
  self.proj = layers.Linear(size, size, linear_options(options))
end
function MultiHeadAttention:forward(x)
  local mixed = core.qkv_attention(self.qkv(x), { heads = self.heads, causal = self.causal })
  return self.proj(mixed)
end
transformer.MultiHeadAttention = MultiHeadAttention

-- Two linear layers with a GELU between: x [..., size] -> [..., hidden] -> [..., size].
-- options: weight_init.
--   > lumen.nn.Mlp(32, 128)(lumen.randn(2, 10, 32)).shape
--   {2, 10, 32}
local Mlp = class("Mlp")
function Mlp:build(size, hidden, options)
  options = options or {}
  self.fc1 = layers.Linear(size, hidden, linear_options(options, { activation = "gelu" }))
  self.fc2 = layers.Linear(hidden, size, linear_options(options))
end
function Mlp:forward(x) return self.fc2(self.fc1(x)) end
transformer.Mlp = Mlp

-- Pre-norm transformer block: x + attn(norm1(x)), then x + mlp(norm2(x)); x [N, L, size].
-- options: mlp_ratio = 4, eps = 1e-6, drop_path = 0, qkv_bias, causal, weight_init.
--   > lumen.nn.Block(32, 4)(lumen.randn(2, 10, 32)).shape
--   {2, 10, 32}
local Block = class("Block")
function Block:build(size, heads, options)
  options = options or {}
  local norm = { eps = options.eps or 1e-6 }
  self.norm1 = layers.LayerNorm(size, norm)
  self.attn = MultiHeadAttention(size, heads, options)
  self.norm2 = layers.LayerNorm(size, norm)
  self.mlp = Mlp(size, math.tointeger(size * (options.mlp_ratio or 4) // 1), options)
  self.drop_path = layers.DropPath(options.drop_path or 0)
end
local function through(self, x)
  x = x + self.drop_path(self.attn(self.norm1(x)))
  return x + self.drop_path(self.mlp(self.norm2(x)))
end
-- While learning, what backward does not need ends with the block; without gradients it stays
-- for whoever looks inside.
function Block:forward(x)
  if core.grad_enabled() then return core.scope(through, self, x) end
  return through(self, x)
end
transformer.Block = Block

-- Patches as tokens: image [N, channels, H, W] -> [N, H*W/patch^2, size]. Raises when patch
-- does not divide the sides.
--   > lumen.nn.PatchEmbed(3, 32, 8)(lumen.randn(1, 3, 64, 64)).shape
--   {1, 64, 32}
local PatchEmbed = class("PatchEmbed")
function PatchEmbed:build(channels, size, patch)
  self.patch = patch
  self.proj = layers.Conv2d(channels, size, patch, { stride = patch,
    weight_init = fill.xavier_uniform(), bias_init = fill.constant(0) })
end
function PatchEmbed:forward(x)
  local h, w = x.shape[3], x.shape[4]
  if h % self.patch ~= 0 or w % self.patch ~= 0 then
    error(("PatchEmbed: image of %d x %d is not divisible by patch %d"):format(
      h, w, self.patch), 0)
  end
  return self.proj(x):flatten(3, 4):transpose(2, 3)
end
transformer.PatchEmbed = PatchEmbed

-- Sine-cosine positions of a rows x cols grid, as a flat list of (cls +) rows*cols rows of
-- `size` numbers: the first half of a row encodes the column, the second the row, each as
-- sines then cosines (He et al. 2022). `cls`: a row of zeros first.
-- -> table
--   > #lumen.nn.sincos_positions(8, 4, 4, true) == 8 * (1 + 4 * 4)
--   true
function transformer.sincos_positions(size, rows, cols, cls)
  if size % 4 ~= 0 then
    error(("sincos_positions: size %d is not a multiple of 4"):format(size), 2)
  end
  local list, quarter = {}, size // 4
  local function encode(position)
    for wave = 0, 1 do
      for k = 0, quarter - 1 do
        local angle = position / 10000 ^ (k / quarter)
        list[#list + 1] = wave == 0 and math.sin(angle) or math.cos(angle)
      end
    end
  end
  if cls then for _ = 1, size do list[#list + 1] = 0.0 end end
  for row = 0, rows - 1 do
    for col = 0, cols - 1 do
      encode(col)
      encode(row)
    end
  end
  return list
end

return transformer
