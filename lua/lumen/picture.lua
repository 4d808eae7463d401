-- Pictures from tensors: all return u8 tensors [H, W] or [H, W, 3].
local core = require "lumen.core"

local picture = {}

-- Means of ImageNet's channels, for denormalize.
--   > lumen.picture.mean
--   {0.485, 0.456, 0.406}
picture.mean = { 0.485, 0.456, 0.406 }

-- Standard deviations of ImageNet's channels, for denormalize.
--   > lumen.picture.std
--   {0.229, 0.224, 0.225}
picture.std = { 0.229, 0.224, 0.225 }

-- Values 0..1 (floats, clipped) or u8, [H, W] or [H, W, 3] -> u8.
-- -> tensor
--   > lumen.picture.to_u8(lumen.tensor{{0, 0.5, 2}})
--   u8 [1 x 3] {0, 128, 255}
function picture.to_u8(x)
  x = x:detach():to("cpu") -- pictures are made there
  if x.dtype == "u8" then return x:contiguous() end
  return ((x:to("f32"):clamp({ min = 0, max = 1 }) * 255):round()):to("u8"):contiguous()
end

-- A normalised image [3, H, W] (or [1, H, W]) -> u8 [H, W, 3].
-- -> tensor
--   > lumen.picture.denormalize(lumen.zeros(3, 1, 2))
--   u8 [1 x 2 x 3] {124, 116, 104, 124, 116, 104}
function picture.denormalize(image)
  return core.no_grad(function()
    local mean = core.tensor(picture.mean):reshape({ 3, 1, 1 })
    local std = core.tensor(picture.std):reshape({ 3, 1, 1 })
    return picture.to_u8((image:detach():to("cpu") * std + mean):permute({ 2, 3, 1 }))
  end)
end

local function channel(x, i) return x:select(3, i):to("f32") end

-- u8 [H, W] or [H, W, 3] as u8 [H, W, 3].
-- -> tensor
--   > lumen.picture.rgb(lumen.zeros({4, 6}, { dtype = "u8" })).shape
--   {4, 6, 3}
function picture.rgb(image)
  if #image.shape == 3 then return image end
  return core.stack({ image, image, image }, { dim = 3 })
end

-- Map 0..1 [H, W] (clipped) -> u8 [H, W, 3]: from violet (0) over teal to yellow (1).
-- -> tensor
--   > lumen.picture.heat(lumen.zeros {2, 2}).shape[3]
--   3
function picture.heat(map)
  return core.no_grad(function()
    return require("lumen.picture.colormap").apply(map:detach():to("cpu"))
  end)
end

-- u8 [H, W] or [H, W, 3] with every pixel repeated `times` in both directions.
-- -> tensor
--   > lumen.picture.enlarge(lumen.zeros({2, 3}, {dtype = "u8"}), 4).shape[2]
--   12
function picture.enlarge(image, times)
  if times == 1 then return image end
  local height, width = image.shape[1], image.shape[2]
  local colour = #image.shape == 3
  local planes = colour and image:permute({ 3, 1, 2 }):unsqueeze(1)
    or image:reshape({ 1, 1, height, width })
  local large = core.resize(planes:to("f32"), { size = { height * times, width * times },
                                                mode = "nearest" })
  large = colour and large[1]:permute({ 2, 3, 1 }) or large[1][1]
  return large:to("u8"):contiguous()
end

-- Text as a picture u8 [9 * size, width, 3], black on white; printable ASCII.
-- -> tensor
--   > lumen.picture.text("dice").shape[1]
--   9
function picture.text(text, size)
  local font = require "lumen.picture.font"
  local ink = core.pad(font.render(text), { pads = { 1, 1, 1, 1 } })
  return picture.rgb(picture.enlarge(((1 - ink:to("f32")) * 255):to("u8"), size or 1))
end

-- Put `image` u8 [H, W, 3] in the middle of a white one of height x width (not smaller).
-- -> tensor
--   > image = lumen.zeros({2, 2, 3}, { dtype = "u8" })
--   > lumen.picture.frame(image, 4, 4):select(3, 1)
--   u8 [4 x 4] {255, 255, 255, 255, 255, 0, 0, 255, 255, 0, 0, 255, ...}
function picture.frame(image, height, width)
  local down, right = height - image.shape[1], width - image.shape[2]
  return core.pad(image, { pads = { 0, 0, right // 2, right - right // 2,
                                    down // 2, down - down // 2 }, value = 255 })
end

-- Tint image u8 where mask (0..1 [H, W]) is set. color: {r, g, b} 0..255, default green.
-- -> tensor
--   > image = lumen.zeros({1, 2}, { dtype = "u8" })
--   > lumen.picture.overlay(image, lumen.tensor{{0, 1}}, { 255, 0, 0 }, 1)
--   u8 [1 x 2 x 3] {0, 0, 0, 255, 0, 0}
function picture.overlay(image, mask, color, strength)
  color, strength = color or { 0, 220, 60 }, strength or 0.6
  return core.no_grad(function()
    image = picture.rgb(image)
    local a = mask:detach():to("f32") * strength
    local parts = {}
    for i = 1, 3 do
      parts[i] = (channel(image, i) * (1 - a) + a * color[i]) / 255
    end
    return picture.to_u8(core.stack(parts, { dim = 3 }))
  end)
end

-- Colours of picture.compare, 0 to 255.
-- -> tensor
--   > lumen.picture.colors.both
--   {245, 225, 60}
picture.colors = { both = { 245, 225, 60 }, pred = { 235, 90, 30 }, truth = { 70, 165, 255 } }

-- Agreement of two masks [H, W] (0 is background) on the image: both say the same, only pred
-- does (or says another class), only truth does; in colours that differ in every kind of colour
-- vision (after Okabe and Ito 2008).
--   > image = lumen.zeros({1, 3}, { dtype = "u8" })
--   > lumen.picture.compare(image, lumen.tensor{{1, 1, 0}}, lumen.tensor{{1, 0, 1}}).shape
--   {1, 3, 3}
function picture.compare(image, pred, truth)
  return core.no_grad(function()
    pred, truth = pred:to("f32"), truth:to("f32")
    local found = core.gt(pred, 0):cast("f32")
    local both = found * core.eq(pred, truth):cast("f32")
    local missed = core.gt(truth, 0):cast("f32") * (1 - found)
    image = picture.overlay(image, both, picture.colors.both)
    image = picture.overlay(image, found - both, picture.colors.pred)
    return picture.overlay(image, missed, picture.colors.truth)
  end)
end

-- Values per patch [L] of a grid {rows, cols} as a map f32 [H, W].
-- -> tensor
--   > lumen.picture.patches(lumen.tensor{0, 1}, { 1, 2 }, 2, 4)
--   f32 [2 x 4] {0, 0, 1, 1, 0, 0, 1, 1}
function picture.patches(values, grid, height, width)
  return core.resize(values:detach():to("cpu"):reshape({ 1, 1, grid[1], grid[2] }),
    { size = { height, width }, mode = "nearest" }):reshape({ height, width })
end

-- Hidden patches on the picture, in a colour (default grey): mask f32 [L], 1 = hidden.
-- -> tensor
--   > image = lumen.full({4, 4}, 255):to("u8")
--   > lumen.picture.masked(image, lumen.tensor{1, 0, 0, 0}, { 2, 2 }):select(3, 1)[1]
--   u8 [4] {128, 128, 255, 255}
function picture.masked(image, mask, grid, color)
  local map = picture.patches(mask, grid, image.shape[1], image.shape[2])
  return picture.overlay(image, map, color or { 128, 128, 128 }, 1)
end

-- b where map (0..1 [H, W]) is set, else a; both u8 [H, W, 3].
-- -> tensor
--   > a, b = lumen.zeros({1, 2, 3}, { dtype = "u8" }), lumen.full({1, 2, 3}, 255):to("u8")
--   > lumen.picture.mix(a, b, lumen.tensor{{0, 1}})
--   u8 [1 x 2 x 3] {0, 0, 0, 255, 255, 255}
function picture.mix(a, b, map)
  return core.no_grad(function()
    local share = map:unsqueeze(3)
    return picture.to_u8((a:to("f32") * (1 - share) + b:to("f32") * share) / 255)
  end)
end

-- rows: list of lists of pictures of one size -> one picture with `gap` white pixels between.
-- -> tensor
--   > cell = lumen.zeros({8, 8}, { dtype = "u8" })
--   > lumen.picture.grid({ { cell, cell, cell } }).shape
--   {8, 28, 3}
function picture.grid(rows, gap)
  gap = gap or 2
  local lines = {}
  for r, row in ipairs(rows) do
    local cells, bottom = {}, r < #rows and gap or 0
    for i, cell in ipairs(row) do
      cell = picture.rgb(cell)
      local right = i < #row and gap or 0
      cells[i] = core.pad(cell, { pads = { 0, 0, 0, right, 0, bottom }, value = 255 })
    end
    lines[#lines + 1] = core.cat(cells, { dim = 2 })
  end
  return core.cat(lines, { dim = 1 })
end

return picture
