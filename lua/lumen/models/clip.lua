-- CLIP (Radford et al. 2021): an image and a text transformer whose outputs are compared by
-- their cosine. Parameters are named as in OpenAI's code and open_clip: visual.conv1,
-- visual.class_embedding, visual.positional_embedding, visual.ln_pre,
-- visual.transformer.resblocks.N.{ln_1, attn, ln_2, mlp}, visual.ln_post, visual.proj;
-- token_embedding, positional_embedding, transformer, ln_final, text_projection, logit_scale.
local core = require "lumen.core"
local nn = require "lumen.nn"
local tokenizer = require "lumen.tokenizer"
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

local function activation_of(o)
  local name = o.activation or "quick_gelu"
  if not activations[name] then
    error(("clip: activation is %q, not quick_gelu or gelu"):format(tostring(name)), 0)
  end
  return activations[name]
end

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
  if o.heads < 1 or o.width % o.heads ~= 0 then
    error(("clip: width %d is not divisible by %d heads"):format(o.width, o.heads), 0)
  end
  local list = {}
  for i = 1, o.layers do
    list[i] = ResidualBlock(o.width, o.heads, o.layers, causal, activation)
  end
  self.resblocks = nn.Sequential(list)
end
function Transformer:forward(x) return self.resblocks(x) end

-- ---- images ----------------------------------------------------------------------------------

-- The image side alone, an encoder as vit is one: Visual{ size = 224, patch = 32, width = 768,
-- layers = 12, heads = 12, dim = 512, activation = "quick_gelu" | "gelu" }. Image [N, 3, size,
-- size] -> tokens [N, 1 + L, width] after the last norm, class token first; proj [width, dim]
-- takes the class token to what is compared with a text.
--   > visual = lumen.models.clip.Visual { size = 32, patch = 8, width = 64, layers = 1, heads = 2 }
--   > visual(lumen.randn(2, 3, 32, 32)).shape
--   {2, 17, 64}
local Visual = nn.class("Visual")
function Visual:build(o)
  o = o or {}
  local size, patch, width = o.size or 224, o.patch or 32, o.width or 768
  if size % patch ~= 0 then
    error(("clip: size %d is not divisible by patch %d"):format(size, patch), 0)
  end
  local side, init = size // patch, nn.fill.normal(width ^ -0.5)
  local layers, heads = o.layers or 12, o.heads or 12
  self.options, self.depth = { channels = 3, heads = heads }, layers
  self.patch, self.dim, self.grid = patch, width, { side, side }
  self.conv1 = nn.Conv2d(3, width, patch, { stride = patch, bias = false })
  self:param("class_embedding", { width }, init)
  self:param("positional_embedding", { 1 + side * side, width }, init)
  self.ln_pre = nn.LayerNorm(width)
  self.transformer = Transformer({ width = width, layers = layers, heads = heads }, false,
    activation_of(o))
  self.ln_post = nn.LayerNorm(width)
  self:param("proj", { width, o.dim or 512 }, init)
end

-- Tokens [N, 1 + L, width] as they enter the first block.
-- -> tensor
--   > visual = lumen.models.clip.Visual { size = 32, patch = 8, width = 64, layers = 1, heads = 2 }
--   > visual:embed(lumen.randn(2, 3, 32, 32)).shape
--   {2, 17, 64}
function Visual:embed(image)
  local tokens = self.conv1(image):flatten(3, 4):transpose(2, 3)
  local first = self.class_embedding:expand({ image.shape[1], 1, self.dim })
  return self.ln_pre(core.cat({ first, tokens }, { dim = 2 }) + self.positional_embedding)
end

-- What the last `count` blocks give, as Vit:features does.
-- -> table
--   > visual = lumen.models.clip.Visual { size = 32, patch = 8, width = 64, layers = 2, heads = 2 }
--   > #visual:features(lumen.randn(2, 3, 32, 32), 2)
--   2
function Visual:features(image, count)
  return vit.last_of(self.transformer.resblocks, self:embed(image), count)
end

function Visual:forward(image) return self.ln_post(self.transformer(self:embed(image))) end
clip.Visual = Visual

-- ---- text ------------------------------------------------------------------------------------

-- The text side alone: Text{ width = 64, layers = 2, heads = 4, dim = 64, context = 77, vocab =
-- 258, activation = "quick_gelu" | "gelu" }. Token ids i64 [N, T], T at most context, as
-- lumen.tokenizer makes them -> [N, dim], read where the id is largest: at the end token.
--   > text = lumen.models.clip.Text { width = 32, dim = 16 }
--   > text(lumen.tokenizer() { "good", "bad" }).shape
--   {2, 16}
local Text = nn.class("Text")
function Text:build(o)
  o = o or {}
  local activation = activation_of(o)
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

-- ---- both ------------------------------------------------------------------------------------

local function over(preset, given)
  return setmetatable(given or {}, { __index = preset })
end

-- Both sides: clip{ model = "vit_b_32" and over it dim, context, vocab, vision = { size, patch,
-- width, layers, heads }, text = { width, layers, heads }; activation = "quick_gelu" (OpenAI) |
-- "gelu" (most of open_clip) }. Image [N, 3, H, W] and token ids i64 [P, T] -> { image = [N, dim],
-- text = [P, dim], of length 1, logits = [N, P] }, cosines times exp(logit_scale). `tokenizer` is
-- lumen.tokenizer() on bytes unless load has set another.
--   > model = lumen.models.clip { model = "vit_micro", vision = { size = 32 } }
--   > out = model(lumen.randn(2, 3, 32, 32), model.tokenizer { "good", "bad", "ugly" })
--   > out.logits.shape
--   {2, 3}
local Clip = nn.class("Clip", Text)
function Clip:build(o)
  o = o or {}
  local preset = clip.presets[o.model or "vit_b_32"]
  if not preset then
    error(("clip: no model %q (there are %s)"):format(tostring(o.model),
      table.concat(clip.names, ", ")), 3)
  end
  local dim = o.dim or preset.dim
  local function side(name)
    local given = {}
    for key, value in next, o[name] or {} do given[key] = value end
    given.dim, given.activation = dim, o.activation
    return over(preset[name], given)
  end
  local text = side "text"
  text.context, text.vocab = o.context or preset.context, o.vocab or preset.vocab
  self.visual = Visual(side "vision")
  Text.build(self, text)
  self:param("logit_scale", {}, nn.fill.constant(math.log(1 / 0.07)))
  self.tokenizer = tokenizer()
end

-- Images [N, 3, H, W], normalised by clip.mean and clip.std -> [N, dim].
-- -> tensor
--   > model = lumen.models.clip { model = "vit_micro", vision = { size = 32 } }
--   > model:encode_image(lumen.randn(2, 3, 32, 32)).shape
--   {2, 64}
function Clip:encode_image(image)
  return self.visual(image):select(2, 1):matmul(self.visual.proj)
end

local function unit(x) return x / (x * x):sum({ dims = { 2 }, keepdim = true }):sqrt() end

function Clip:forward(image, ids)
  local a, b = unit(self:encode_image(image)), unit(self:encode_text(ids))
  return { image = a, text = b, logits = a:matmul(b:transpose(1, 2)) * self.logit_scale:exp() }
end
clip.Clip = Clip

-- Means of the channels that CLIP's images are normalised by.
--   > lumen.models.clip.mean
--   {0.48145466, 0.4578275, 0.40821073}
clip.mean = { 0.48145466, 0.4578275, 0.40821073 }

-- Standard deviations of the channels that CLIP's images are normalised by.
--   > lumen.models.clip.std
--   {0.26862954, 0.26130258, 0.27577711}
clip.std = { 0.26862954, 0.26130258, 0.27577711 }

-- ---- published weights -------------------------------------------------------------------------

-- Tensors of a loaded file under their full names. A dictionary in a dictionary and a module of
-- TorchScript, as OpenAI publishes it, make a name with a dot; "state_dict." and "module." in
-- front are cut off.
local function flatten(value, prefix, out, seen)
  if core.is_tensor(value) then
    out[prefix] = value
  elseif type(value) == "table" and not seen[value] then
    seen[value] = true
    if rawget(value, "class") and type(rawget(value, "state")) == "table" then
      return flatten(value.state, prefix, out, seen)
    end
    for key, inner in next, value do
      local name = (prefix == "" and "" or prefix .. ".") .. tostring(key)
      for _, cut in ipairs { "state_dict", "module" } do
        if name == cut then name = "" end
        name = name:gsub("^" .. cut .. "%.", "")
      end
      flatten(inner, name, out, seen)
    end
  end
  return out
end

-- What is in published files beside the parameters.
local other = { "input_resolution", "context_length", "vocab_size", "attn_mask" }

local function layers_of(state, prefix)
  local n = 0
  while state[("%sresblocks.%d.ln_1.weight"):format(prefix, n)] do n = n + 1 end
  return n
end

-- The options of `clip` for a flat state, or an error that says what it is not.
local function recognise(state)
  local function shape(name, dims)
    local t = state[name]
    if not t or #t.shape ~= dims then
      local hint = state["visual.layer1.0.conv1.weight"] and "; its image side is a ResNet"
        or state["vision_model.embeddings.class_embedding"]
        and "; they have the names of transformers, not those of OpenAI and open_clip" or ""
      error(("these are no weights of a CLIP with two transformers: there is no %s%s"):format(
        name, hint), 0)
    end
    return t.shape
  end
  local patches, grid = shape("visual.conv1.weight", 4), shape("visual.positional_embedding", 2)
  local side = math.tointeger(math.sqrt(grid[1] - 1))
  if not side then error("visual.positional_embedding is not a class token and a square grid", 0) end
  local tokens, words = shape("token_embedding.weight", 2), shape("positional_embedding", 2)
  return {
    dim = shape("text_projection", 2)[2], context = words[1], vocab = tokens[1],
    vision = { size = side * patches[3], patch = patches[3], width = patches[1],
               layers = layers_of(state, "visual.transformer."), heads = patches[1] // 64 },
    text = { width = tokens[2], layers = layers_of(state, "transformer."),
             heads = tokens[2] // 64 },
  }
end

-- CLIP from published weights: a file (.pth, .pt, .safetensors; TorchScript archives too) or its
-- tensors by name, as OpenAI or open_clip has them; sizes are read from the weights, heads are 64
-- wide. options: vocabulary, CLIP's file of merges; size, another image size (positions are
-- resized bicubically); activation = "quick_gelu", which is OpenAI's: "gelu" for what open_clip
-- trained itself; vision_heads, text_heads. Raises when the weights are those of something else.
-- -> module
--   > small = lumen.models.clip { model = "vit_micro", vision = { heads = 1 }, text = { heads = 1 } }
--   > same = lumen.models.clip.load(small:state_dict())
--   > same.visual.grid, same.context
--   {8, 8}
--   77
function clip.load(weights, options)
  options = options or {}
  local loaded = weights
  if type(weights) == "string" then loaded = core.load(weights) end
  local ok, model = pcall(function()
    local state = flatten(loaded, "", {}, {})
    for _, name in ipairs(other) do state[name], state["visual." .. name] = nil, nil end
    local o = recognise(state)
    o.activation = options.activation
    o.vision.heads = options.vision_heads or o.vision.heads
    o.text.heads = options.text_heads or o.text.heads
    local size = options.size or o.vision.size
    if size ~= o.vision.size then
      state["visual.positional_embedding"] = core.no_grad(function()
        local positions = state["visual.positional_embedding"]:to("f32"):unsqueeze(1)
        return vit.resize_positions(positions, size // o.vision.patch):squeeze(1)
      end)
      o.vision.size = size
    end
    local made = Clip(o)
    made:load_state_dict(state)
    if options.vocabulary then made.tokenizer = tokenizer(options.vocabulary) end
    return made
  end)
  if ok then return model end
  error(type(weights) == "string" and ("%s: %s"):format(weights, model) or model, 0)
end

-- CLIP: the class models.clip.Clip, which says what its options are; clip.load reads published
-- weights.
-- -> module
--   > lumen.models.clip({ model = "vit_micro" }):count() > 100000
--   true
return setmetatable(clip, { __call = function(_, options) return Clip(options) end })
