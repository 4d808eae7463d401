-- Image quality with a reference: how far an image is from another one that shows what it should.
local core = require "lumen.core"
local images = require "lumen.metrics.images"
local cldice = require("lumen.metrics.segmentation").cldice

local reference = {}

-- Peak signal-to-noise ratio 10 log10(range^2 / MSE) in dB of image against reference, over all
-- channels and pixels: [N]; inf for equal images (their gradient is not finite). Images, their
-- types and range: as in `ssim`; colours are not converted, nothing is down-sampled.
-- -> tensor
--   > a = lumen.zeros(1, 1, 8, 8)
--   > lumen.metrics.psnr(a + 0.1, a)
--   f32 [1] {20}
function reference.psnr(image, ref, options)
  local x, y = images.pair("psnr", image, ref, options, { "range" }, true)
  return core.scope(function()
    local mse = images.mean(core.square(x - y))
    return images.result(core.log(255 ^ 2 / mse) * (10 / math.log(10)), image)
  end)
end

-- ---- SSIM ----------------------------------------------------------------------------------

-- SSIM and its contrast-structure part at every place of a window, by way of blur. `sample`: the
-- window's pixels, for sample covariances; nil: plain ones.
local function ssim_maps(x, y, blur, sample)
  local n = x.shape[1]
  local m = blur(core.cat({ x, y, x * x, y * y, x * y }, { dim = 1 }))
  local function part(i) return m:slice(1, (i - 1) * n + 1, i * n) end
  local mean_x, mean_y = part(1), part(2)
  local xx, yy, xy = mean_x * mean_x, mean_y * mean_y, mean_x * mean_y
  local scale = sample and sample / (sample - 1) or 1
  local variances = (part(3) - xx + part(4) - yy) * scale
  local covariance = (part(5) - xy) * scale
  local c1, c2 = (0.01 * 255) ^ 2, (0.03 * 255) ^ 2
  local cs = (2 * covariance + c2) / (variances + c2)
  return (2 * xy + c1) / (xx + yy + c1) * cs, cs
end

local windows = { gaussian = { size = 11, sigma = 1.5 }, uniform = { size = 7, sample = 49 } }

-- The SSIM map of luma x, y: where the window lies inside, or (whole) everywhere.
local function ssim_map(who, x, y, o, whole)
  local w = windows[o.window or "gaussian"]
  if not w then
    error(("%s: window is gaussian or uniform, not %s"):format(who, tostring(o.window)), 0)
  end
  x, y = images.shrink(who, x, o.down), images.shrink(who, y, o.down)
  if not whole then
    images.check_side(who, x, w.size, ("the %d x %d window"):format(w.size, w.size))
  end
  local weights = images.window(w.size, w.sigma, x)
  local function blur(z)
    return images.blur(whole and images.framed(z, w.size // 2) or z, weights)
  end
  return (ssim_maps(x, y, blur, w.sample))
end

-- Structural similarity (Wang et al. 2004) of image and reference, -1 to 1, equal images 1: [N].
-- Images are [N, 1 or 3, H, W], or one picture [H, W] or [H, W, 3], on one device, u8 or floats.
-- range is the span of their values: 255 for u8, 1 for floats unless given. Colours become luma
-- 0.299 R + 0.587 G + 0.114 B, rounded for u8 as the reference programs do. Computed in double
-- precision on the CPU; floats give their own dtype, u8 gives f64. Differentiable. window:
-- "gaussian" (11 x 11, sigma 1.5, plain covariance) or "uniform" (7 x 7, sample covariance); only
-- windows inside the image count, which equals mirrored borders with the rim cut off. down: means
-- of down x down pixels first (1: none; Wang's rule is the shorter side / 256, rounded). map =
-- true: the map [N, 1, H, W] instead, windows at the rim seeing the image mirrored. C1 = (0.01
-- range)^2, C2 = (0.03 range)^2. Raises for images smaller than the window.
-- -> tensor
--   > image = lumen.vision.phantom { size = 64, seed = 1 }.image
--   > noisy = image:to("f64") + 20 * lumen.randn({ 64, 64 }, { dtype = "f64", rng = { seed = 1 } })
--   > lumen.metrics.ssim(image, image)
--   f64 [1] {1}
--   > lumen.metrics.ssim(noisy, image:to("f64"), { range = 255 }):item() < 0.6
--   true
--   > lumen.metrics.ssim(image, image, { map = true }).shape
--   {1, 1, 64, 64}
function reference.ssim(image, ref, options)
  local x, y, o = images.pair("ssim", image, ref, options, { "range", "window", "down", "map" })
  return core.scope(function()
    local map = ssim_map("ssim", x, y, o, o.map)
    return images.result(o.map and map or images.mean(map), image)
  end)
end

-- SSIM where the vessels are: the mean of SSIM's map over the mask, so that the wide background
-- does not outvote thin vessels: [N]; NaN where a mask is empty. mask [N, 1, H, W] or [H, W]
-- (option), any dtype, set where it is not 0; without one, lumen.vision.vessel_mask of the
-- reference. Images, luma, range and window as in `ssim`. Differentiable, but not through the mask.
-- -> tensor
--   > p = lumen.vision.phantom { size = 64, seed = 1 }
--   > faded = lumen.where(p.mask:ne(0), 0.5 * p.image:to("f32") + 80, p.image:to("f32"))
--   > o = { range = 255, mask = p.mask }
--   > s = lumen.metrics.vessel_ssim(faded, p.image:to("f32"), o):item()
--   > s < lumen.metrics.ssim(faded, p.image:to("f32"), { range = 255 }):item()
--   true
function reference.vessel_ssim(image, ref, options)
  local x, y, o = images.pair("vessel_ssim", image, ref, options, { "range", "window", "mask" })
  return core.scope(function()
    local inside = o.mask and images.mask("vessel_ssim", o.mask, x) or images.vessels(y)
    local weight = inside:to(x.dtype)
    local map = ssim_map("vessel_ssim", x, y, o, true)
    return images.result(images.sum(map * weight) / images.sum(weight), image)
  end)
end

-- ---- MS-SSIM -------------------------------------------------------------------------------

-- Multi-scale SSIM (Wang et al. 2003), 0 to 1: the product over five scales of the mean
-- contrast-structure terms, at the last one of SSIM, to the powers 0.0448, 0.2856, 0.3001, 0.2363,
-- 0.1333; negative means count as 0. Between scales means of 2 x 2 pixels; odd sides get a line of
-- zeros on both ends first, as in the common PyTorch program (others differ there by up to 0.005).
-- Gaussian windows inside the image. [N]; images, luma and range as in `ssim`; differentiable.
-- Raises below 161 pixels a side.
-- -> tensor
--   > image = lumen.vision.phantom { size = 176, seed = 1 }.image
--   > lumen.metrics.ms_ssim(image, image)
--   f64 [1] {1}
function reference.ms_ssim(image, ref, options)
  local x, y = images.pair("ms_ssim", image, ref, options, { "range" })
  images.check_side("ms_ssim", x, 161, "the window at the fifth scale")
  return core.scope(function()
    local powers = { 0.0448, 0.2856, 0.3001, 0.2363, 0.1333 }
    local weights = images.window(11, 1.5, x)
    local product
    for level, power in ipairs(powers) do
      local map, cs = ssim_maps(x, y, function(z) return images.blur(z, weights) end)
      local factor = images.power(images.mean(level < #powers and cs or map), power)
      product = product and product * factor or factor
      local pool = { size = 2, padding = { x.shape[3] % 2, x.shape[4] % 2 } }
      x, y = core.avg_pool2d(x, pool), core.avg_pool2d(y, pool)
    end
    return images.result(product, image)
  end)
end

-- ---- gradients -----------------------------------------------------------------------------

local prewitt = { { 1 / 3, 0, -1 / 3 }, { 1 / 3, 0, -1 / 3 }, { 1 / 3, 0, -1 / 3 } }

-- Gradient magnitude similarity deviation (Xue et al. 2014): the standard deviation (n - 1) of the
-- similarity of Prewitt gradients, 0 for equal images, larger is worse: [N]. Images, luma and
-- range as in `ssim`; means of 2 x 2 pixels first (down = 2 unless given), zeros outside the
-- image, c = 170 at range 255. Differentiable.
-- -> tensor
--   > image = lumen.vision.phantom { size = 64, seed = 1 }.image
--   > lumen.metrics.gmsd(image, image)
--   f64 [1] {0}
function reference.gmsd(image, ref, options)
  local x, y, o = images.pair("gmsd", image, ref, options, { "range", "down" })
  return core.scope(function()
    local down = o.down or 2
    images.check_side("gmsd", x, 2 * down, "a gradient")
    local a = images.slope(images.shrink("gmsd", x, down), prewitt)
    local b = images.slope(images.shrink("gmsd", y, down), prewitt)
    local similar = (2 * a * b + 170) / (a * a + b * b + 170)
    local variance = core.var(similar, { dims = { 2, 3, 4 } })
    return images.result(images.power(variance, 0.5), image)
  end)
end

-- ---- VIF -----------------------------------------------------------------------------------

-- Information of one scale that the image keeps and that the reference has: [N], [N].
local function information(x, y, weights)
  local n, tiny, noise = x.shape[1], 1e-10, 2
  local m = images.blur(core.cat({ x, y, x * x, y * y, x * y }, { dim = 1 }), weights)
  local function part(i) return m:slice(1, (i - 1) * n + 1, i * n) end
  local var_x = (part(3) - core.square(part(1))):relu()
  local var_y = (part(4) - core.square(part(2))):relu()
  local gain = (part(5) - part(1) * part(2)) / (var_y + tiny)
  local rest = var_x - gain * (part(5) - part(1) * part(2))
  local flat_y, flat_x = core.lt(var_y, tiny), core.lt(var_x, tiny)
  local none = core.le(gain, 0):maximum(flat_y)
  rest = core.where(none, var_x, rest)
  gain = core.where(none:maximum(flat_x), 0, gain)
  rest = core.where(flat_x, 0, rest):clamp({ min = tiny })
  var_y = core.where(flat_y, 0, var_y)
  local kept = core.log(1 + core.square(gain) * var_y / (rest + noise))
  return images.sum(kept), images.sum(core.log(1 + var_y / noise))
end

local function second(x) return x:slice(3, 1, -1, 2):slice(4, 1, -1, 2) end

-- Visual information fidelity in the pixel domain (Sheikh and Bovik 2006, the authors' vifp): the
-- information about the reference that the image keeps, 1 for equal images, above 1 for enhanced
-- contrast: [N]; NaN for a reference without structure. Images, luma and range as in `ssim`. Four
-- scales with Gaussian windows of 17, 9, 5, 3 pixels, sigma a fifth of that, inside the image;
-- between scales the blurred image's every second pixel; noise variance 2 at range 255. Raises
-- below 41 pixels a side. Differentiable.
-- -> tensor
--   > image = lumen.vision.phantom { size = 64, seed = 1 }.image
--   > lumen.metrics.vif(image, image):item() > 0.9999
--   true
function reference.vif(image, ref, options)
  local x, y = images.pair("vif", image, ref, options, { "range" })
  images.check_side("vif", x, 41, "the window at the fourth scale")
  return core.scope(function()
    local kept, all = 0, 0
    for scale, size in ipairs { 17, 9, 5, 3 } do
      local weights = images.window(size, size / 5, x)
      if scale > 1 then x, y = second(images.blur(x, weights)), second(images.blur(y, weights)) end
      local k, a = information(x, y, weights)
      kept, all = kept + k, all + a
    end
    return images.result(kept / all, image)
  end)
end

-- ---- vessels -------------------------------------------------------------------------------

-- Centre-line Dice (`cldice`) of the vessels that the filter (lumen.vision.vessel_mask) finds in
-- the image and in its reference, 0 to 1: [N], NaN where one has none. mask [N, 1, H, W] or [H, W]
-- (option): the reference's true vessels in place of the filter's. Images, luma and range as in
-- `ssim`. Not differentiable: lumen.loss.soft_cldice is, on vessel probabilities.
-- -> tensor
--   > p = lumen.vision.phantom { size = 96, seed = 1 }
--   > lumen.metrics.vessel_cldice(p.image, p.image)
--   f64 [1] {1}
function reference.vessel_cldice(image, ref, options)
  local x, y, o = images.pair("vessel_cldice", image, ref, options, { "range", "mask" })
  return core.scope(function()
    local found = images.vessels(x):to("cpu")
    local truth = o.mask and images.mask("vessel_cldice", o.mask, y) or images.vessels(y)
    local list = {}
    for i = 1, x.shape[1] do list[i] = cldice(found[i], truth:to("cpu")[i]) end
    local score = core.tensor(list, { dtype = x.dtype }):to(x.device)
    return images.result(score + 0 * images.sum(x:detach() + y:detach()), image)
  end)
end

return reference
