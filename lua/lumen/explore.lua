-- Looking into a model: what it attends to, what it sees, what it makes of it.
local core = require "lumen.core"
local data = require "lumen.data"
local masking = require "lumen.masking"
local path = require "lumen.path"
local picture = require "lumen.picture"
local show = require "lumen.show"
local terminal = require "lumen.terminal"

local explore = {}

local function encoder_of(model)
  local encoder = rawget(model, "encoder") or model
  local blocks = rawget(encoder, "blocks")
  if type(blocks) == "table" and rawget(encoder, "grid") and rawget(encoder, "patch_embed") then
    return encoder
  end
end

-- Run fn with the inputs of `module` noted; what fn computes stays the same.
local function listen(module, fn)
  local heard
  rawset(module, "forward", function(self, x, ...)
    heard = x
    return getmetatable(self).forward(self, x, ...)
  end)
  local ok, message = pcall(fn)
  rawset(module, "forward", nil)
  if not ok then error(message, 0) end
  return heard
end

-- Softmax(Q K^T / sqrt(d)) per head [N, heads, L, L], computed again from what the attention
-- layer was given: the fused operation never makes it.
local function weights_of(attention, x)
  local n, length, heads = x.shape[1], x.shape[2], attention.heads
  local qkv = attention.qkv(x)
  local width = qkv.shape[3] // (3 * heads)
  local parts = qkv:reshape({ n, length, 3, heads, width }):permute({ 3, 1, 4, 2, 5 })
  local q, k = parts[1], parts[2]
  return core.softmax(core.matmul(q, k:transpose(3, 4)) * (1 / math.sqrt(width)), { dim = 4 })
end

-- Attention of a ViT, a MAE or a segmenter with such an encoder: image [N, 3, H, W], normalised
-- -> weights [N, heads, 1 + L, 1 + L], rows sum to 1, class token first. A MAE's encoder sees all
-- patches. options: block = -1 (from 1; negative from the end).
--   > m = lumen.models.vit {model = "vit_micro", size = 32}
--   > w = lumen.explore.attention(m, lumen.zeros {1, 3, 32, 32})
--   > table.concat(w.shape, " x ")
--   1 x 4 x 17 x 17
function explore.attention(model, image, options)
  local encoder = encoder_of(model)
  if not encoder then error("explore.attention: the model has no transformer encoder", 2) end
  local depth, block = #encoder.blocks:modules()[1].module._entries, options and options.block or -1
  local number = block < 0 and depth + 1 + block or block
  if math.type(number) ~= "integer" or number < 1 or number > depth then
    error(("explore.attention: block %s; there are %d"):format(tostring(block), depth), 2)
  end
  local attention = encoder.blocks:at(number).attn
  return core.no_grad(function()
    local x = listen(attention, function()
      if encoder.encode then
        local length = encoder.grid[1] * encoder.grid[2]
        local all = core.arange(length):reshape({ 1, length }):expand({ image.shape[1], length })
        encoder:encode(image, all:contiguous())
      else
        encoder(image)
      end
    end)
    return weights_of(attention, x)
  end)
end

-- ---- the pictures ----

local function side_of(model)
  local encoder = encoder_of(model)
  if encoder and encoder.options then return encoder.options.size end
end

-- A file, a u8 or 0..1 image [H, W], [3, H, W] .. -> [N, 3, side, side], normalised; a batch that
-- is normalised already stays. At most `most` images.
local function prepare(image, side, most)
  if type(image) == "string" then
    if not path.is_file(image) then error(("explore: there is no file %s"):format(image), 0) end
    image = core.image.load(image, { grey = true })
  end
  if not core.is_tensor(image) then
    error("explore: an image or a file name expected, not " .. type(image), 0)
  end
  local cells = require "lumen.picture.cells"
  local low = cells.extent(image)
  local normalised = image.dtype ~= "u8" and low < 0
  local values, black, white = cells.range(image, normalised and { 0, 1 } or nil)
  local list, out = cells.split(image.dtype == "u8" and values:to("u8") or values, most), {}
  for i, part in ipairs(list) do
    part = (part:to("f32") - black) * (1 / (white - black))
    if #part.shape == 2 then part = core.stack({ part, part, part }, { dim = 1 }) end
    if not normalised then
      part = (part - core.tensor(data.mean):reshape({ 3, 1, 1 }))
        / core.tensor(data.std):reshape({ 3, 1, 1 })
    end
    part = part:unsqueeze(1)
    local want = side or part.shape[3] // 32 * 32
    if want < 32 then want = 32 end
    if part.shape[3] ~= want or part.shape[4] ~= want then
      part = core.resize(part, { size = { want, want }, mode = "bilinear" })
    end
    out[i] = part
  end
  return core.cat(out, { dim = 1 })
end

-- Attention of the class token to the patches, mean over the heads, 0..1 over the image.
local function attention_map(weights, encoder, i, height, width)
  local map = weights[i]:select(2, 1):slice(2, 2, -1):mean({ dims = { 1 } })
  local low, high = map:min():item(), map:max():item()
  map = (map - low) / math.max(high - low, 1e-12)
  return core.resize(map:reshape({ 1, 1, encoder.grid[1], encoder.grid[2] }),
    { size = { height, width }, mode = "bilinear" })[1][1]
end

-- How much each pixel looks like a dark tube, 0..1 [N, 1, H, W]: Sato's filter at the size of the
-- network (the pseudo-mask of the recipes is cut from larger images).
local function tubeness(image)
  local list = {}
  for i = 1, image.shape[1] do
    local grey = picture.denormalize(image[i]):select(3, 1):contiguous()
    local response = core.vision.sato(grey, { sigmas = { 1, 1.5, 2, 3 } }):to("f32")
    list[i] = (response * (1 / math.max(response:max():item(), 1e-12))):unsqueeze(1)
  end
  return core.stack(list, { dim = 1 })
end

-- Masked input, reconstruction and the filter's vessels for a MAE or SimMIM.
local function of_masked(model, image, o, columns)
  local guide = tubeness(image)
  local hide = o.masking or masking.random
  local mask = hide(guide, { ratio = o.ratio or 0.5, share = o.share or 0.5, grid = model.grid,
                             rng = { seed = o.seed or 0, stream = "explore" } })
  local out = model(image, mask)
  for i = 1, image.shape[1] do
    local pixels = picture.denormalize(image[i])
    local hidden = picture.patches(mask.mask[i], model.grid, pixels.shape[1], pixels.shape[2])
    local whole = picture.mix(pixels, picture.denormalize(out.image[i]), hidden)
    for _, cell in ipairs {
      { picture.masked(pixels, mask.mask[i], model.grid), title = "masked input" },
      { whole, title = "reconstruction" },
      { picture.heat(guide[i][1]), title = "vessel filter" } } do
      table.insert(columns[i], cell)
    end
  end
end

-- Vessel probabilities and mask of a network that gives logits [N, 1, H, W].
local function of_segmenter(model, image, columns)
  local logits = model(image)
  if #logits.shape ~= 4 then return end
  for i = 1, image.shape[1] do
    local probability = logits[i]:slice(1, 1, 1):sigmoid()[1]
    local pixels = picture.denormalize(image[i])
    table.insert(columns[i], { picture.heat(probability), title = "vessels" })
    table.insert(columns[i], { picture.overlay(pixels, probability:gt(0.5)), title = "vessels > 0.5" })
  end
end

-- The picture that explore shows, u8 [H, W, 3].
-- -> tensor
--   > net = lumen.models.unext {}
--   > lumen.explore.picture(net, lumen.vision.phantom { size = 64 }.image).shape[3]
--   3
function explore.picture(model, image, o)
  o = o or {}
  return core.scope(function()
    return core.no_grad(function()
      local encoder, training = encoder_of(model), model.training
      model:eval()
      local guard <close> = setmetatable({}, { __close = function() if training then model:train() end end })
      image = prepare(image, side_of(model), o.most or 4)
      local weights = encoder and explore.attention(model, image, { block = o.block })
      local rows = {}
      for i = 1, image.shape[1] do
        local pixels = picture.denormalize(image[i])
        rows[i] = { { pixels, title = "input" } }
        if weights then
          local map = attention_map(weights, encoder, i, pixels.shape[1], pixels.shape[2])
          local colors = picture.heat(map):to("f32")
          local mixed = picture.to_u8((colors * 0.6 + pixels:to("f32") * 0.4) / 255)
          table.insert(rows[i], { mixed, title = "attention" })
        end
      end
      if rawget(model, "mask_token") then of_masked(model, image, o, rows)
      else of_segmenter(model, image, rows) end
      local list = {}
      for _, row in ipairs(rows) do
        for _, cell in ipairs(row) do list[#list + 1] = cell end
      end
      return show.picture(list, { columns = #rows[1], size = o.size or 192 })
    end)
  end)
end

-- Show what a model makes of an image, side by side: the input, what the class token of the
-- last block attends to, for a MAE or SimMIM the masked input, the reconstruction (hidden patches only) and
-- the vessel filter's map, for a network that segments its vessels. model: mae, simmim, vit,
-- segmenter, unext, unet. image: a file name, a u8 or 0..1 image, or a normalised batch [N, 3, H, W]; it is
-- resized to the model's size. options: ratio = 0.5, masking = lumen.masking.random, share,
-- seed = 0 (masks), block = -1, most = 4 (images of a batch), size = 192, file = "x.png".
-- The model's state does not change.
--   > m = lumen.models.mae {model = "vit_micro", size = 32}
--   > p = lumen.vision.phantom {size = 32, index = 1}
--   > lumen.explore.picture(m, p.image).shape[3]
--   3
local function run(_, model, image, o)
  if type(model) ~= "table" or type(model.eval) ~= "function" then
    error("explore: the first argument is no model", 0)
  end
  terminal.display(explore.picture(model, image, o), "explore", o and o.file)
end

return setmetatable(explore, { __call = run })
