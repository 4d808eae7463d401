-- CLIP (Radford et al. 2021): an image and a text transformer whose outputs are compared by
-- their cosine. Parameters are named as in OpenAI's code and open_clip: visual.conv1,
-- visual.class_embedding, visual.positional_embedding, visual.ln_pre,
-- visual.transformer.resblocks.N.{ln_1, attn, ln_2, mlp}, visual.ln_post, visual.proj;
-- token_embedding, positional_embedding, transformer, ln_final, text_projection, logit_scale.
local core = require "lumen.core"
local nn = require "lumen.nn"
local vit = require "lumen.models.vit"

local clip = {}

-- image: size, patch, width, layers, heads; text: width, layers, heads; context: tokens of a
-- text; vocab: kinds of tokens; dim: what both sides end in.
--   > lumen.models.clip.presets.vit_b_32.vision.patch
--   32
clip.presets = {
  vit_micro = { dim = 64, context = 77, vocab = 258,
                vision = { size = 64, patch = 8, width = 64, layers = 2, heads = 4 },
                text = { width = 64, layers = 2, heads = 4 } },
  vit_b_32 = { dim = 512, context = 77, vocab = 49408,
               vision = { size = 224, patch = 32, width = 768, layers = 12, heads = 12 },
               text = { width = 512, layers = 12, heads = 8 } },
  vit_b_16 = { dim = 512, context = 77, vocab = 49408,
               vision = { size = 224, patch = 16, width = 768, layers = 12, heads = 12 },
               text = { width = 512, layers = 12, heads = 8 } },
}

-- The presets' names, smallest first.
--   > table.concat(lumen.models.clip.names, " ")
--   vit_micro vit_b_32 vit_b_16
clip.names = { "vit_micro", "vit_b_32", "vit_b_16" }

local activations = {
  gelu = core.gelu,
  quick_gelu = function(x) return x * core.sigmoid(1.702 * x) end, -- what OpenAI trained with
}

-- ---- the transformer that both sides share ---------------------------------------------------

local Attention = nn.class("ClipAttention")
function Attention:build(width, heads, layers, causal)
  self.heads, self.causal = heads, causal
  self:param("in_proj_weight", { 3 * width, width }, nn.fill.normal(width ^ -0.5))
  self:param("in_proj_bias", { 3 * width })
  self.out_proj = nn.Linear(width, width, { bias_init = nn.fill.constant(0),
    weight_init = nn.fill.normal((2 * layers * width) ^ -0.5) })
end
function Attention:forward(x)
  local qkv = core.linear(x, self.in_proj_weight, self.in_proj_bias)
  return self.out_proj(core.qkv_attention(qkv, { heads = self.heads, causal = self.causal }))
end

local Mlp = nn.class("ClipMlp")
function Mlp:build(width, layers, activation)
  self.activation = activation
  self.c_fc = nn.Linear(width, 4 * width, { weight_init = nn.fill.normal((2 * width) ^ -0.5) })
  self.c_proj = nn.Linear(4 * width, width,
    { weight_init = nn.fill.normal((2 * layers * width) ^ -0.5) })
end
function Mlp:forward(x) return self.c_proj(self.activation(self.c_fc(x))) end

local ResidualBlock = nn.class("ClipBlock")
function ResidualBlock:build(width, heads, layers, causal, activation)
  self.ln_1 = nn.LayerNorm(width)
  self.attn = Attention(width, heads, layers, causal)
  self.ln_2 = nn.LayerNorm(width)
  self.mlp = Mlp(width, layers, activation)
end
local function through(self, x)
  x = x + self.attn(self.ln_1(x))
  return x + self.mlp(self.ln_2(x))
end
function ResidualBlock:forward(x)
  if core.grad_enabled() then return core.scope(through, self, x) end
  return through(self, x)
end

local Transformer = nn.class("ClipTransformer")
function Transformer:build(o, causal, activation)
  if o.width % o.heads ~= 0 then
    error(("clip: width %d is not divisible by %d heads"):format(o.width, o.heads), 0)
  end
  local list = {}
  for i = 1, o.layers do
    list[i] = ResidualBlock(o.width, o.heads, o.layers, causal, activation)
  end
  self.resblocks = nn.Sequential(list)
end
function Transformer:forward(x) return self.resblocks(x) end

-- ---- text ------------------------------------------------------------------------------------

-- The text side alone: Text{ width = 64, layers = 2, heads = 4, dim = 64, context = 77, vocab =
-- 258, activation = "quick_gelu" | "gelu" }. Token ids i64 [N, T], T at most context, as
-- lumen.tokenizer makes them -> [N, dim], read where the id is largest: at the end token.
--   > text = lumen.models.clip.Text { width = 32, dim = 16 }
--   > text(lumen.tokenizer() { "good", "bad" }).shape
--   {2, 16}
local Text = nn.class("Text")
function Text:build(o)
  local activation = activations[o.activation or "quick_gelu"]
  if not activation then
    error(("clip: activation is %q, not quick_gelu or gelu"):format(o.activation), 0)
  end
  local width = o.width or 64
  local layers, heads = o.layers or 2, o.heads or 4
  self.context, self.vocab = o.context or 77, o.vocab or 258
  self.token_embedding = nn.Embedding(self.vocab, width, { std = 0.02 })
  self:param("positional_embedding", { self.context, width }, nn.fill.normal(0.01))
  self.transformer = Transformer({ width = width, heads = heads, layers = layers }, true,
    activation)
  self.ln_final = nn.LayerNorm(width)
  self:param("text_projection", { width, o.dim or width }, nn.fill.normal(width ^ -0.5))
end

-- What forward does, under the name that it has in CLIP.
-- -> tensor
--   > text = lumen.models.clip.Text { width = 32, dim = 16 }
--   > text:encode_text(lumen.tokenizer() "good").shape
--   {1, 16}
function Text:encode_text(ids)
  local length = ids.shape[2]
  if length > self.context then
    error(("clip: a text of %d tokens, at most %d"):format(length, self.context), 2)
  end
  local x = self.token_embedding(ids) + self.positional_embedding:slice(1, 1, length)
  x = self.ln_final(self.transformer(x))
  local last = ids:argmax(2):unsqueeze(2) -- the end token has the largest id
  return core.gather_tokens(x, last):squeeze(2):matmul(self.text_projection)
end
function Text:forward(ids) return self:encode_text(ids) end
clip.Text = Text

return clip
