-- Pictures of tensors, for people: show(image, mask, options) and what it is made of.
local cells = require "lumen.picture.cells"
local core = require "lumen.core"
local options = require "lumen.options"
local picture = require "lumen.picture"
local terminal = require "lumen.terminal"

local show = {}

local known = { "title", "titles", "heat", "range", "bar", "columns", "most", "color",
                "strength", "file", "size" }

local function check_options(o)
  for key in next, o do
    if type(key) == "string" then
      local found = false
      for _, name in ipairs(known) do found = found or name == key end
      if not found then
        local near = options.nearest(key, known)
        error(("show: there is no option '%s'%s"):format(key,
          near and ("\nhint: did you mean %s?"):format(near) or ""), 0)
      end
    end
  end
end

-- Numbers on a colour bar: short, and told apart.
local function tick(value)
  local text = ("%.4g"):format(value)
  return text == "-0" and "0" or text
end

-- A strip of the colour map as high as the picture, with its ends written beside it.
local function color_bar(height, low, high)
  local ramp = 1 - core.arange(height, { dtype = "f32" }) / math.max(1, height - 1)
  local strip = picture.heat(ramp:reshape({ height, 1 }):expand({ height, 8 }):contiguous())
  local top, bottom = picture.text(tick(high)), picture.text(tick(low))
  local width = math.max(top.shape[2], bottom.shape[2])
  local function line(text) return core.pad(text, { pads = { 0, 0, 0, width - text.shape[2], 0, 0 },
                                                    value = 255 }) end
  local space = core.full({ math.max(0, height - 18), width, 3 }, 255, { dtype = "u8" })
  local scale = core.cat({ line(top), space, line(bottom) }, { dim = 1 })
  strip = picture.frame(strip, scale.shape[1], 8)
  local gap = core.full({ scale.shape[1], 3, 3 }, 255, { dtype = "u8" })
  return core.cat({ gap, strip, gap, scale }, { dim = 2 })
end

-- A title cut to what fits above a picture of this width.
-- -> tensor
--   > lumen.show.titled(lumen.zeros({16, 32, 3}, { dtype = "u8" }), "mask").shape
--   {27, 32, 3}
local function titled(image, title)
  if not title or title == "" then return image end
  local most = math.max(4, (image.shape[2] - 2) // 6)
  if #title > most then title = title:sub(1, most - 2) .. ".." end
  local line = picture.text(title)
  local width = math.max(line.shape[2], image.shape[2])
  return core.cat({ core.pad(line, { pads = { 0, 0, 0, width - line.shape[2], 0, 2 }, value = 255 }),
                    picture.frame(image, image.shape[1], width) }, { dim = 1 })
end

-- The mask that belongs to part i of an image: [H, W] 0..1.
local function mask_of(masks, i, like)
  local mask = masks[math.min(i, #masks)]
  if #mask.shape ~= 2 then mask = mask:max(1) end
  local h, w = like.shape[#like.shape - 1], like.shape[#like.shape]
  if mask.shape[1] ~= h or mask.shape[2] ~= w then
    error(("show: the mask is %d x %d, the image %d x %d"):format(mask.shape[1],
      mask.shape[2], h, w), 0)
  end
  return mask:detach():to("cpu"):to("f32"):clamp({ min = 0, max = 1 })
end

-- One entry (a tensor, with its mask and title) as a list of { image =, title =, bar = }.
local function parts_of(x, mask, o, title)
  local most = o.most or 16
  local values, low, high = cells.range(x, o.range)
  local split, count = cells.split(x.dtype == "u8" and values:to("u8") or values, most)
  local masks = mask and cells.split(mask, most)
  if masks and #masks > 1 and #masks ~= #split then
    error(("show: %d masks for %d images"):format(#masks, #split), 0)
  end
  local list = {}
  for i, part in ipairs(split) do
    part = part:to("f32")
    local heat = o.heat and #part.shape == 2
    local image = cells.paint(part, low, high, heat)
    if masks then
      image = picture.overlay(image, mask_of(masks, i, part), o.color, o.strength)
    end
    local name = title
    if count > 1 then name = ("%s %d"):format(title or "", i):gsub("^ ", "") end
    list[i] = { image = image, title = name, bar = heat and o.bar ~= false and { low, high } }
  end
  if #split < count then
    list[#list].title = ("%s of %d"):format(list[#list].title, count)
  end
  return list
end

local function is_tensor(x) return core.is_tensor(x) end

-- Everything to show, flat. x: a tensor, or a list of tensors and of { tensor, mask, title =,
-- heat =, range = }.
local function collect(x, mask, o)
  if is_tensor(x) then return parts_of(x, mask, o, o.title) end
  local list = {}
  for i, entry in ipairs(x) do
    local title, own = o.titles and o.titles[i], o
    if not is_tensor(entry) then
      if type(entry) ~= "table" or not is_tensor(entry[1]) then
        error(("show: entry %d of the list is no tensor and no { tensor, mask }"):format(i), 0)
      end
      title = entry.title or title
      own = setmetatable({ heat = entry.heat, range = entry.range, color = entry.color },
        { __index = o })
      for _, part in ipairs(parts_of(entry[1], is_tensor(entry[2]) and entry[2] or nil, own, title)) do
        list[#list + 1] = part
      end
    else
      for _, part in ipairs(parts_of(entry, nil, own, title)) do list[#list + 1] = part end
    end
  end
  if #list == 0 then error("show: the list is empty", 0) end
  return list
end

-- Small pictures are enlarged until they are about as high as the others, and not below
-- `size` pixels.
local function sized(list, size)
  local tallest = size
  for _, part in ipairs(list) do tallest = math.max(tallest, part.image.shape[1]) end
  local out = {}
  for i, part in ipairs(list) do
    local longest = math.max(part.image.shape[1], part.image.shape[2])
    local times = math.max(1, math.floor(tallest / longest + 0.25))
    local image = picture.enlarge(part.image, times)
    if part.bar then
      local bar = color_bar(image.shape[1], part.bar[1], part.bar[2])
      local height = math.max(bar.shape[1], image.shape[1])
      image = core.cat({ picture.frame(image, height, image.shape[2]),
                         picture.frame(bar, height, bar.shape[2]) }, { dim = 2 })
    end
    out[i] = titled(image, part.title)
  end
  return out
end

-- One picture u8 [H, W, 3] of one or many images; takes what show takes.
--   > lumen.show.picture(lumen.rand {3, 1, 32, 32}, {size = 32, columns = 3}).shape[3]
--   3
function show.picture(x, mask, o)
  if type(mask) == "table" then mask, o = nil, mask end
  o = o or {}
  if type(x) == "string" then x = core.image.load(x) end
  if not is_tensor(x) and type(x) ~= "table" then
    error(("show: a tensor, a file or a list of tensors expected, not %s"):format(type(x)), 0)
  end
  if mask ~= nil and not is_tensor(mask) then error("show: the mask is no tensor", 0) end
  check_options(o)
  return core.scope(function()
    return core.no_grad(function()
      local list = sized(collect(x, mask, o), o.size or 128)
      local height, width = 0, 0
      for _, image in ipairs(list) do
        height, width = math.max(height, image.shape[1]), math.max(width, image.shape[2])
      end
      local columns = o.columns or (#list <= 5 and #list or math.ceil(math.sqrt(#list)))
      local rows = {}
      for i = 1, math.ceil(#list / columns) * columns do
        if (i - 1) % columns == 0 then rows[#rows + 1] = {} end
        local cell = list[i] or core.full({ 1, 1, 3 }, 255, { dtype = "u8" })
        table.insert(rows[#rows], picture.frame(cell, height, width))
      end
      return picture.grid(rows, 4)
    end)
  end)
end

-- Show an image, a batch or a list of images: in the terminal (by chafa), else as a PNG file
-- whose name is printed. x: [H, W], [C, H, W], [N, C, H, W] with C = 1 or 3, [N, H, W], u8
-- [H, W, 3], the name of an image file, or a list of such tensors and of { tensor, mask, title =
-- "..." }. mask: the same without colours, tinted over the images; one mask may serve for all.
--
-- Values: u8 is 0..255 (a mask of 0 and 1 is stretched); floats within 0..1 are shown as they
-- are; a normalised input image is denormalised; anything else is stretched from its smallest
-- to its largest value, or over `range`. What is not finite is magenta.
--
-- options: title, titles (for a list), heat = true (colour map with its bar; [H, W] maps),
-- bar = false, range = {low, high}, columns, most = 16 (images of a batch), color = {r, g, b}
-- and strength = 0.6 of the mask, size = 128 (smaller pictures are enlarged), file = "x.png"
-- (write there instead).
--   > p = lumen.vision.phantom {size = 64, index = 1}
--   > picture = lumen.show.picture({{p.image, p.mask, title = "truth"}, {p.image, heat = true}})
--   > #picture.shape
--   3
local function run(_, x, mask, o)
  if type(mask) == "table" then mask, o = nil, mask end
  terminal.display(show.picture(x, mask, o), "show", o and o.file)
end

return setmetatable(show, { __call = run })
