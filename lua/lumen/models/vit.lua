-- Vision transformer (Dosovitskiy et al. 2021), parameters named as in timm: cls_token,
-- pos_embed, patch_embed.proj, blocks.N.{norm1, attn.qkv, attn.proj, norm2, mlp.fc1, mlp.fc2},
-- norm.
local core = require "lumen.core"
local nn = require "lumen.nn"

local vit = {}

-- dim, depth, heads, patch, and the decoder that MAE puts on top of it (dim, depth, heads).
--   > lumen.models.vit.presets.vit_base.depth
--   12
vit.presets = {
  vit_micro = { dim = 64, depth = 4, heads = 4, patch = 8, decoder = { 48, 2, 4 } },
  vit_tiny = { dim = 192, depth = 12, heads = 3, patch = 16, decoder = { 192, 4, 3 } },
  vit_small = { dim = 384, depth = 12, heads = 6, patch = 16, decoder = { 512, 8, 16 } },
  vit_base = { dim = 768, depth = 12, heads = 12, patch = 16, decoder = { 512, 8, 16 } },
  vit_large = { dim = 1024, depth = 24, heads = 16, patch = 16, decoder = { 512, 8, 16 } },
  vit_huge = { dim = 1280, depth = 32, heads = 16, patch = 14, decoder = { 512, 8, 16 } },
}

-- The presets' names, smallest first.
--   > table.concat(lumen.models.vit.names, " ")
--   vit_micro vit_tiny vit_small vit_base vit_large vit_huge
vit.names = { "vit_micro", "vit_tiny", "vit_small", "vit_base", "vit_large", "vit_huge" }

-- Options with the preset's values filled in. `o.model` names the preset ("vit_base" when
-- nothing else is given); any field of it can be overridden.
-- -> table
--   > o = lumen.models.vit.resolve { model = "vit_tiny", size = 64 }
--   > o.dim, o.depth, o.patch
--   192
--   12
--   16
function vit.resolve(o)
  local preset = vit.presets[o.model or "vit_base"]
  if not preset then
    error(("vit: no model %q (there are %s)"):format(o.model, table.concat(vit.names, ", ")), 3)
  end
  local size, patch = o.size or 224, o.patch or preset.patch
  if size % patch ~= 0 then
    error(("vit: size %d is not divisible by patch %d"):format(size, patch), 3)
  end
  return {
    size = size, patch = patch, channels = o.channels or 3,
    dim = o.dim or preset.dim, depth = o.depth or preset.depth,
    heads = o.heads or preset.heads, mlp_ratio = o.mlp_ratio or 4, eps = o.eps or 1e-6,
    decoder_dim = o.decoder_dim or preset.decoder[1],
    decoder_depth = o.decoder_depth or preset.decoder[2],
    decoder_heads = o.decoder_heads or preset.decoder[3],
    drop_path = o.drop_path or 0, classes = o.classes or 0,
    weight_init = o.weight_init, positions = o.positions or "learned",
  }
end

-- A list of blocks whose stochastic depth grows linearly to `drop_path`.
-- -> module
--   > blocks = lumen.models.vit.blocks(32, 2, 4, { drop_path = 0.1 })
--   > blocks(lumen.randn(1, 5, 32)).shape
--   {1, 5, 32}
function vit.blocks(dim, depth, heads, o)
  local list = {}
  for i = 1, depth do
    local rate = depth > 1 and o.drop_path * (i - 1) / (depth - 1) or o.drop_path
    list[i] = nn.Block(dim, heads, { mlp_ratio = o.mlp_ratio, eps = o.eps, drop_path = rate,
                                     weight_init = o.weight_init })
  end
  return nn.Sequential(list)
end

-- What the last `count` of `blocks` give for x, a list.
-- -> table
--   > blocks = lumen.models.vit.blocks(32, 3, 4, { drop_path = 0 })
--   > #lumen.models.vit.last_of(blocks, lumen.randn(1, 5, 32), 2)
--   2
function vit.last_of(blocks, x, count)
  local list = {}
  for i = 1, blocks.length do
    x = blocks:at(i)(x)
    if i > blocks.length - count then list[#list + 1] = x end
  end
  return list
end

-- Attention that the class token pays to the patches in the last of `blocks`: x [N, 1 + L, dim]
-- as it enters the first -> [N, heads, L]. The class token's attention to itself is left out.
-- -> tensor
--   > net = lumen.models.vit { model = "vit_micro", size = 32 }
--   > lumen.models.vit.class_attention(net.blocks, lumen.randn(1, 17, 64)).shape
--   {1, 4, 16}
--   > blocks = lumen.models.vit.blocks(32, 2, 4, { drop_path = 0 })
--   > lumen.models.vit.class_attention(blocks, lumen.randn(1, 5, 32)).shape
--   {1, 4, 4}
function vit.class_attention(blocks, x)
  for i = 1, blocks.length - 1 do x = blocks:at(i)(x) end
  local last = blocks:at(blocks.length)
  local n, length, heads = x.shape[1], x.shape[2], last.attn.heads
  local size = x.shape[3] // heads
  local qkv = last.attn.qkv(last.norm1(x)):reshape({ n, length, 3, heads, size })
  local query = qkv:slice(2, 1, 1):select(3, 1):permute({ 1, 3, 2, 4 })
  local key = qkv:select(3, 2):permute({ 1, 3, 4, 2 })
  local weight = (query:matmul(key) * size ^ -0.5):softmax({ dim = 4 })
  return weight:select(3, 1):slice(3, 2, -1)
end

-- Vision transformer: vit{ model = "vit_base", size = 224, patch =, channels = 3, dim =, depth =, heads =,
-- mlp_ratio = 4, drop_path = 0, classes = 0, positions = "learned" | "fixed" }. Image
-- [N, channels, size, size] -> normalised tokens [N, 1 + L, dim], class token first; with
-- classes > 0 -> [N, classes]. Positions start as sines and cosines either way.
--   > net = lumen.models.vit.Vit { model = "vit_micro", size = 32 }
--   > net(lumen.randn(1, 3, 32, 32)).shape
--   {1, 17, 64}
local Vit = nn.class("Vit")
function Vit:build(options)
  local o = vit.resolve(options or {})
  self.options, self.patch, self.dim, self.depth = o, o.patch, o.dim, o.depth
  local side = o.size // o.patch
  self.grid = { side, side }
  self:param("cls_token", { 1, 1, o.dim }, nn.fill.normal(0.02))
  self:param("pos_embed", { 1, 1 + side * side, o.dim }, nn.fill.values(function()
    return nn.sincos_positions(o.dim, side, side, true)
  end), { trainable = o.positions ~= "fixed" })
  self.patch_embed = nn.PatchEmbed(o.channels, o.dim, o.patch)
  self.blocks = vit.blocks(o.dim, o.depth, o.heads, o)
  self.norm = nn.LayerNorm(o.dim, { eps = o.eps })
  if o.classes > 0 then
    self.head = nn.Linear(o.dim, o.classes, { weight_init = nn.fill.trunc_normal(0.02) })
  end
end
-- Tokens [N, 1 + L, dim] as they enter the first block. hide = { mask = f32 [N, L], token = [1,
-- 1, dim] }: patches with mask 1 become the token.
-- -> tensor
--   > net = lumen.models.vit { model = "vit_micro", size = 32 }
--   > net:embed(lumen.randn(2, 3, 32, 32)).shape
--   {2, 17, 64}
function Vit:embed(image, hide)
  local tokens = self.patch_embed(image)
  if hide then
    local mask = hide.mask:unsqueeze(3)
    tokens = tokens * (1 - mask) + hide.token * mask
  end
  local cls = self.cls_token:expand({ image.shape[1], 1, self.dim })
  return core.cat({ cls, tokens }, { dim = 2 }) + self.pos_embed
end

-- What the last `count` blocks give, the first of them first, each [N, 1 + L, dim], before the
-- last norm.
-- -> table
--   > net = lumen.models.vit { model = "vit_micro", size = 32 }
--   > #net:features(lumen.randn(2, 3, 32, 32), 3)
--   3
function Vit:features(image, count)
  return vit.last_of(self.blocks, self:embed(image), count)
end

function Vit:forward(image, hide)
  local x = self.norm(self.blocks(self:embed(image, hide)))
  if not rawget(self, "head") then return x end
  return self.head(x:select(2, 1))
end
vit.Vit = Vit

-- Positions [1, 1 + rows*cols, dim] resized to another square grid, bicubically.
-- -> tensor
--   > lumen.models.vit.resize_positions(lumen.randn(1, 1 + 4 * 4, 8), 6).shape
--   {1, 37, 8}
function vit.resize_positions(positions, side)
  local old = #positions.shape == 3 and math.tointeger(math.sqrt(positions.shape[2] - 1))
  if not old then
    error(("pos_embed [%s] is not a class token and a square grid"):format(
      table.concat(positions.shape, " x ")), 0)
  end
  if old == side then return positions end
  local dim = positions.shape[3]
  local cls = positions:slice(2, 1, 1)
  local map = positions:slice(2, 2, -1):transpose(2, 3):reshape({ 1, dim, old, old })
  map = core.resize(map, { size = { side, side }, mode = "bicubic" })
  return core.cat({ cls, map:flatten(3, 4):transpose(2, 3) }, { dim = 2 })
end

-- The encoder inside a pre-training state as timm names it: "module.", "model.", "backbone." or
-- "encoder." in front is cut off. Names of other parts are kept.
--   > state = lumen.models.vit.encoder_state { ["module.encoder.norm.bias"] = lumen.zeros(2) }
--   > state["norm.bias"].shape
--   {2}
function vit.encoder_state(state)
  for _, inner in ipairs { "model", "state_dict", "teacher" } do
    if type(state[inner]) == "table" then state = state[inner] end
  end
  local taken = {}
  for name, tensor in next, state do
    local short, cut = tostring(name), nil
    repeat
      cut = short
      for _, prefix in ipairs { "module", "model", "backbone", "encoder" } do
        short = short:gsub("^" .. prefix .. "%.", "")
      end
    until short == cut
    if core.is_tensor(tensor) then taken[short] = tensor end
  end
  return taken
end

-- Name of the preset that a state's encoder fits, by width, depth and patch, or an error.
--   > net = lumen.models.vit { model = "vit_micro", size = 32 }
--   > lumen.models.vit.recognise(net:state_dict())
--   vit_micro
function vit.recognise(state)
  local taken = vit.encoder_state(state)
  local patches = taken["patch_embed.proj.weight"]
  if not patches or #patches.shape ~= 4 then
    error("these are no weights of a ViT: there is no patch_embed.proj.weight", 0)
  end
  local depth = 0
  while taken[("blocks.%d.attn.qkv.weight"):format(depth)] do depth = depth + 1 end
  local dim, patch = patches.shape[1], patches.shape[3]
  for _, name in ipairs(vit.names) do
    local preset = vit.presets[name]
    if preset.dim == dim and preset.depth == depth and preset.patch == patch then return name end
  end
  error(("no model fits these weights: width %d, %d blocks, patches of %d"):format(
    dim, depth, patch), 0)
end

-- What a pre-training leaves beside the encoder.
local function is_other(name)
  return name:match("^decoder") or name:match("^head") or name:match("^fc_norm")
    or name:match("^mask_token") or name:match("^pre_logits") or name:match("^projector")
end

-- Load an encoder from a pre-training state: a MAE, SimMIM or control of ours, published files
-- with timm's names (prefixes are cut off, other parts left out, positions resized to the grid).
-- Raises when the patches have another size, when a parameter of the encoder is missing or has
-- another shape, and when the state's encoder has parameters that this one lacks.
--   > mae = lumen.models.mae { model = "vit_micro", size = 32 }
--   > net = lumen.models.vit { model = "vit_micro", size = 64 }
--   > lumen.models.vit.load_encoder(net, mae:state_dict())
--   > net.blocks:at(1).norm1.weight.shape
--   {64}
function vit.load_encoder(model, state)
  local taken, encoder, foreign = vit.encoder_state(state), {}, {}
  for name, tensor in next, taken do
    if not is_other(name) then encoder[name] = tensor end
  end
  local patches = encoder["patch_embed.proj.weight"]
  if patches and #patches.shape == 4 and patches.shape[3] ~= model.patch then
    error(("the weights are for patches of %d x %d pixels, the model has %d x %d"):format(
      patches.shape[3], patches.shape[4], model.patch, model.patch), 0)
  end
  if encoder.pos_embed then
    encoder.pos_embed = core.no_grad(function()
      return vit.resize_positions(encoder.pos_embed:to("f32"), model.grid[1])
    end)
  end
  local missing, unexpected = model:load_state_dict(encoder, { strict = false })
  for _, name in ipairs(missing) do
    if not name:match("^head") then foreign[#foreign + 1] = name end
  end
  if #foreign > 0 then
    error(("the weights lack %d parameters of the encoder, such as %s"):format(
      #foreign, foreign[1]), 0)
  end
  if #unexpected > 0 then
    error(("the weights are of another kind of ViT: they have %s"):format(unexpected[1]), 0)
  end
end

-- A vision transformer: the class models.vit.Vit, which says what its options are.
-- -> module
--   > net = lumen.models.vit { model = "vit_micro", size = 32, classes = 5 }
--   > net(lumen.randn(2, 3, 32, 32)).shape
--   {2, 5}
return setmetatable(vit, { __call = function(_, options) return Vit(options) end })
