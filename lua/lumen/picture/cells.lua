-- Any tensor as pictures: what shapes and values mean, and how they become u8 [H, W, 3].
local core = require "lumen.core"
local colormap = require "lumen.picture.colormap"
local picture = require "lumen.picture"

local cells = {}

local function fail(x)
  error(("a picture is [H, W], [C, H, W], [N, C, H, W] with C = 1 or 3, [N, H, W] or "
    .. "[H, W, 3], not %s [%s]"):format(x.dtype, table.concat(x.shape, " x ")), 0)
end

-- A list of [H, W] or [3, H, W], all of one kind, at most `most`; then how many there were.
function cells.split(x, most)
  local s, list = x.shape, {}
  local function each(count, cut)
    for i = 1, math.min(count, most) do list[i] = cut(i) end
    return list, count
  end
  local function channels(y)
    if y.shape[1] == 1 then return y[1] end
    return y
  end
  for _, n in ipairs(s) do if n == 0 then fail(x) end end
  if #s == 2 then return { x }, 1 end
  if #s == 4 and (s[2] == 1 or s[2] == 3) then
    return each(s[1], function(i) return channels(x[i]) end)
  elseif #s == 3 and s[3] == 3 and (x.dtype == "u8" or (s[1] ~= 1 and s[1] ~= 3)) then
    return { x:permute({ 3, 1, 2 }) }, 1
  elseif #s == 3 and (s[1] == 1 or s[1] == 3) then
    return { channels(x) }, 1
  elseif #s == 3 then
    return each(s[1], function(i) return x[i] end)
  end
  fail(x)
end

-- Smallest and largest of the finite values (0 and 1 when there is none), and whether all are.
function cells.extent(x)
  x = x:detach():to("f32")
  local finite = core.isfinite(x)
  local all = finite:to("f32"):min():item() == 1
  if all then return x:min():item(), x:max():item(), true end
  local low = core.where(finite, x, core.tensor(math.huge)):min():item()
  local high = core.where(finite, x, core.tensor(-math.huge)):max():item()
  if low > high then low, high = 0, 1 end
  return low, high, false
end

local function undo_normalisation(x)
  local shape = #x.shape == 4 and { 1, 3, 1, 1 } or { 3, 1, 1 }
  return x * core.tensor(picture.std):reshape(shape) + core.tensor(picture.mean):reshape(shape)
end

local function has_colour(x)
  return (#x.shape == 4 and x.shape[2] == 3) or (#x.shape == 3 and x.shape[1] == 3)
end

-- The values that become black and white: of `range`; else 0..255 for u8 (0..1 when nothing is
-- above 1: a mask), 0..1 for floats inside it. Other floats: with three channels, when undoing
-- the usual normalisation of inputs gives 0..1, that; else smallest to largest. Returns the
-- tensor as f32 and the two values.
function cells.range(x, range)
  local u8 = x.dtype == "u8"
  x = x:detach():to("cpu"):to("f32")
  if range then return x, range[1], range[2] end
  local low, high = cells.extent(x)
  if u8 then return x, 0, high > 1 and 255 or 1 end
  if low >= 0 and high <= 1 then return x, 0, 1 end
  if has_colour(x) then
    local y = undo_normalisation(x)
    local least, most = cells.extent(y)
    if least > -0.02 and most < 1.02 then return y, 0, 1 end
  end
  if low == high then return x, low, low + 1 end
  return x, low, high
end

-- Paint what is not finite magenta.
local function mark(image, values)
  local finite = core.isfinite(values):to("f32")
  if finite:min():item() == 1 then return image end
  if #values.shape == 3 then finite = finite:min(1) end
  return picture.overlay(image, 1 - finite, { 255, 0, 255 }, 1)
end

-- One cell's values [H, W] or [3, H, W] as u8 [H, W, 3]; heat: with the colour map.
function cells.paint(values, low, high, heat)
  local finite = core.isfinite(values)
  local unit = core.where(finite, (values - low) / (high - low), core.tensor(0.0))
  local image
  if #values.shape == 3 then image = picture.to_u8(unit:permute({ 2, 3, 1 }))
  elseif heat then image = colormap.apply(unit)
  else image = picture.rgb(picture.to_u8(unit)) end
  return mark(image, values)
end

return cells
