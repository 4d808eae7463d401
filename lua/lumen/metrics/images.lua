-- What the measures of image quality share: images as they come, luma, windows, borders, powers
-- whose gradients stay finite.
local core = require "lumen.core"
local known = require("lumen.options").known

local images = {}

local function shape_text(x) return "[" .. table.concat(x.shape, " x ") .. "]" end

local function complain(...) error(string.format(...), 0) end

-- ---- what is given -------------------------------------------------------------------------

local is_float = { f32 = true, f64 = true, bf16 = true }

-- [N, C, H, W] of what `who` was given as `name`: that, or a picture as lumen.image.load makes
-- it.
function images.batch(who, x, name)
  if not core.is_tensor(x) then
    complain("%s: %s must be a tensor, not a %s", who, name, type(x))
  end
  if x.dtype ~= "u8" and not is_float[x.dtype] then
    complain("%s: %s must be u8 or a float, not %s", who, name, x.dtype)
  end
  local s = x.shape
  if x:numel() == 0 then complain("%s: %s is empty, %s", who, name, shape_text(x)) end
  if #s == 2 then return x:reshape({ 1, 1, s[1], s[2] }) end
  if #s == 3 and s[3] == 3 then return x:permute(3, 1, 2):unsqueeze(1) end
  if #s == 4 and (s[2] == 1 or s[2] == 3) then return x end
  complain("%s: %s must be [N, 1 or 3, H, W], [H, W] or [H, W, 3], not %s", who, name,
    shape_text(x))
end

function images.same_shape(who, x, y, name)
  if shape_text(x) ~= shape_text(y) then
    complain("%s: image is %s but %s is %s", who, shape_text(x), name, shape_text(y))
  end
end

-- Values 0 .. 255 in double precision (single on a GPU, which has no double).
local function values(who, x, range)
  range = range or (x.dtype == "u8" and 255 or 1)
  if type(range) ~= "number" or not (range > 0 and range < math.huge) then
    complain("%s: range must be a positive number, not %s", who, tostring(range))
  end
  local y = x:to(x.device == "cpu" and "f64" or "f32")
  return range == 255 and y or y * (255 / range)
end

-- Y of YIQ, [N, 1, H, W]. Bytes give whole numbers, as an image file of luma would hold.
local function luma(x, whole)
  if x.shape[2] == 1 then return x end
  local y = 0.299 * x:slice(2, 1, 1) + 0.587 * x:slice(2, 2, 2) + 0.114 * x:slice(2, 3, 3)
  return whole and y:round() or y
end

-- What `who` was given as x (an image), or as x and y (its reference), ready to be measured: luma
-- [N, 1, H, W], or all channels where colour is set, at 0 .. 255; and the checked options.
function images.one(who, x, options, names)
  local o = known(who, options, names)
  local given = images.batch(who, x, "image")
  return luma(values(who, given, o.range), given.dtype == "u8"), o
end

function images.pair(who, x, y, options, names, colour)
  local o = known(who, options, names)
  local a, b = images.batch(who, x, "image"), images.batch(who, y, "reference")
  images.same_shape(who, a, b, "reference")
  local u, v = values(who, a, o.range), values(who, b, o.range)
  if colour then return u, v, o end
  return luma(u, a.dtype == "u8"), luma(v, b.dtype == "u8"), o
end

-- A result in the image's own float type; bytes give double precision.
function images.result(value, x)
  return x.dtype == "u8" and value or value:to(x.dtype)
end

-- Raises unless both sides of x have `least` pixels; `what` needs them.
function images.check_side(who, x, least, what)
  if math.min(x.shape[3], x.shape[4]) < least then
    complain("%s: images of %d x %d pixels are too small, %s needs %d a side", who, x.shape[3],
      x.shape[4], what, least)
  end
end

-- ---- windows and borders -------------------------------------------------------------------

-- Weights of a window [1, 1, size, 1] that sum to 1: Gaussian, or uniform without sigma.
function images.window(size, sigma, like)
  local w = core.full({ size }, 1, { dtype = "f64" })
  if sigma then
    local at = core.arange(size, { dtype = "f64" }) - (size - 1) / 2
    w = core.exp(-core.square(at) / (2 * sigma ^ 2))
  end
  return (w / core.sum(w)):reshape({ 1, 1, size, 1 }):to(like.dtype):to(like.device)
end

-- Weighted means of x [N, 1, H, W] where the window lies inside.
function images.blur(x, window)
  return core.conv2d(core.conv2d(x, window), window:transpose(3, 4):contiguous())
end

-- 0-based places -r .. n - 1 + r of a line of n, folded back inside by `fold`.
local function border(n, r, fold, device)
  local places = {}
  for i = -r, n - 1 + r do places[#places + 1] = fold(i, n) end
  return core.tensor(places, { dtype = "i64" }):to(device)
end

local function mirrored(i, n) -- c b a | a b c | c b a
  i = i % (2 * n)
  return i < n and i or 2 * n - 1 - i
end

local function clamped(i, n) return math.max(0, math.min(n - 1, i)) end -- a a a | a b c | c c c

-- x [N, 1, H, W] with a border of r pixels: mirrored, or ("replicate") its edge repeated.
function images.framed(x, r, mode)
  local fold = mode == "replicate" and clamped or mirrored
  local rows, columns = border(x.shape[3], r, fold, x.device), border(x.shape[4], r, fold, x.device)
  return core.index_select(core.index_select(x, rows, { dim = 3 }), columns, { dim = 4 })
end

-- Means of down x down pixels; rows and columns left over are dropped.
function images.shrink(who, x, down)
  if down == nil or down == 1 then return x end
  if math.type(down) ~= "integer" or down < 1 then
    complain("%s: down must be a whole number from 1, not %s", who, tostring(down))
  end
  images.check_side(who, x, down, "down-sampling")
  return core.avg_pool2d(x, { size = down })
end

-- Length of the gradient of x [N, 1, H, W] by a 3 x 3 kernel and its transpose, zeros outside.
function images.slope(x, kernel)
  local k = core.tensor({ { kernel } }, { dtype = x.dtype }):to(x.device)
  local both = core.cat({ k, k:transpose(3, 4) }, { dim = 1 })
  local g = core.square(core.conv2d(x, both, nil, { padding = 1 }))
  return images.power(core.sum(g, { dims = { 2 }, keepdim = true }), 0.5)
end

-- ---- vessels -------------------------------------------------------------------------------

-- What a mask [N, 1, H, W] or [H, W] sets, of the size of x [N, C, H, W]: u8.
function images.mask(who, mask, x)
  if not core.is_tensor(mask) then
    complain("%s: mask must be a tensor, not a %s", who, type(mask))
  end
  local s = mask.shape
  if #s == 2 then mask = mask:reshape({ 1, 1, s[1], s[2] }) end
  local wanted = x:slice(2, 1, 1)
  if shape_text(mask) ~= shape_text(wanted) then
    complain("%s: mask must be %s, not %s", who, shape_text(wanted), shape_text(mask))
  end
  return core.ne(mask, 0)
end

-- The vessels that the filter finds in luma x [N, 1, H, W], 0 .. 255: u8.
function images.vessels(x)
  local bytes = core.no_grad(function()
    local finite = core.where(core.isfinite(x), x, 0):round():clamp({ min = 0, max = 255 })
    return finite:to("cpu"):to("u8")
  end)
  return (core.vision.vessel_mask(bytes)):to(x.device)
end

-- ---- numbers -------------------------------------------------------------------------------

-- x^e, but 0 with gradient 0 below 1e-20, where the slope of roots has no bound.
function images.power(x, e)
  local safe = core.clamp(x, { min = 1e-20 })
  local y = e == 0.5 and core.sqrt(safe) or core.pow(safe, e)
  return core.where(core.le(x, 1e-20), 0, y) -- NaN stays NaN
end

-- Mean over the pixels of [N, C, H, W]: [N].
function images.mean(x) return core.mean(x, { dims = { 2, 3, 4 } }) end
function images.sum(x) return core.sum(x, { dims = { 2, 3, 4 } }) end

return images
