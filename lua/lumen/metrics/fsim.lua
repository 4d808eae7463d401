-- FSIM: phase congruency (Kovesi 1999) in the frequency domain and gradients. The Fourier
-- transform is products with matrices of cosines and sines: exact for every size, differentiable,
-- the same on every device, and at the 256 pixels that FSIM works at a matter of milliseconds.
local core = require "lumen.core"
local images = require "lumen.metrics.images"

local scales, orientations = 4, 4
local shortest, factor = 6, 2          -- wavelength of the first scale in pixels, ratio of two
local width, spread = 0.55, 1.2        -- log-Gabor sigma / frequency; angle step / angular sigma
local noise_factor, tiny = 2.0, 1e-4   -- deviations of the noise that are cut off

-- ---- Fourier -------------------------------------------------------------------------------

-- cos and sin of 2 pi j k / n, [n, n].
local function waves(n, like)
  local k = core.arange(n, { dtype = "f64" })
  local product = k:reshape({ n, 1 }) * k:reshape({ 1, n })
  local angle = (product - (product / n):floor() * n) * (2 * math.pi / n) -- small: exact
  local function like_it(x) return x:to(like.dtype):to(like.device) end
  return like_it(core.cos(angle)), like_it(core.sin(angle))
end

-- Transforms of images [.., H, W] of one size: forward(x) of real ones, inverse(re, im).
local function fourier(x)
  local h, w = x.shape[3], x.shape[4]
  local ch, sh = waves(h, x)
  local cw, sw = waves(w, x)
  local function forward(z)
    local re, im = core.matmul(ch, z), core.matmul(sh, z)
    return core.matmul(re, cw) - core.matmul(im, sw), -(core.matmul(im, cw) + core.matmul(re, sw))
  end
  local function inverse(a, b)
    local re = core.matmul(ch, a) - core.matmul(sh, b)
    local im = core.matmul(sh, a) + core.matmul(ch, b)
    return (core.matmul(re, cw) - core.matmul(im, sw)) / (h * w),
      (core.matmul(re, sw) + core.matmul(im, cw)) / (h * w)
  end
  return forward, inverse
end

-- ---- filters -------------------------------------------------------------------------------

-- Frequencies of a line of n in the transform's order; odd sizes as in the authors' programs.
local function frequencies(n)
  local f = (core.arange(n, { dtype = "f64" }) - n // 2) / (n % 2 == 1 and n - 1 or n)
  return core.roll(f, { shifts = { -(n // 2) }, dims = { 1 } })
end

-- Direction of each frequency, anticlockwise, in radians.
local function directions(fy, fx)
  local rows, ys, xs = {}, fy:totable(), fx:totable()
  for i, y in ipairs(ys) do
    local row = {}
    for j, x in ipairs(xs) do row[j] = math.atan(-y, x) end
    rows[i] = row
  end
  return core.tensor(rows, { dtype = "f64" })
end

-- Radial parts [scales, H, W] and angular parts, one [H, W] an orientation, of the log-Gabor
-- filters; f64 on the CPU.
local function filters(h, w)
  local fy, fx = frequencies(h), frequencies(w)
  local radius = core.sqrt(fy:reshape({ h, 1 }):square() + fx:reshape({ 1, w }):square())
  local centre = core.eq(radius, 0)
  radius = core.where(centre, 1, radius)
  local lowpass = 1 / (1 + core.exp(30 * core.log(radius / 0.45)))
  local radial, angular = {}, {}
  for s = 1, scales do
    local wavelength = shortest * factor ^ (s - 1)
    local bell = core.exp(-core.square(core.log(radius * wavelength)) / (2 * math.log(width) ^ 2))
    radial[s] = core.where(centre, 0, bell * lowpass)
  end
  local theta = directions(fy, fx)
  local sigma = math.pi / orientations / spread
  for o = 1, orientations do
    local d = core.abs(theta - (o - 1) * math.pi / orientations)
    d = core.minimum(d, 2 * math.pi - d)
    angular[o] = core.exp(-core.square(d) / (2 * sigma ^ 2))
  end
  return core.stack(radial, { dim = 1 }), angular
end

-- What noise of power 1 in the finest of the filters [scales, H, W] leaves in the energy: the
-- threshold, squared. The sum of squares of the real part of the filters' sum in space is, by
-- Parseval, one over the even part of its spectrum.
local function noise_gain(bank)
  local sum = core.sum(bank, { dims = { 1 } })
  local opposite = core.flip(sum, { dims = { 1, 2 } }):roll({ shifts = { 1, 1 }, dims = { 1, 2 } })
  local finest = core.sum(core.square(bank[1])):item()
  local energy = 2 * core.sum(core.square((sum + opposite) / 2)):item() / finest
  local tau = math.sqrt(energy / 2)
  return (tau * math.sqrt(math.pi / 2) + noise_factor * tau * math.sqrt(2 - math.pi / 2)) / 1.7
end

-- ---- phase congruency ----------------------------------------------------------------------

-- Median of each row of x [N, n].
local function median(x)
  local n = x.shape[2]
  local order = core.argsort(x, { dim = 2 })
  local middle = order:slice(2, (n + 1) // 2, n // 2 + 1):contiguous()
  return core.mean(core.gather(x, middle, { dim = 2 }), { dims = { 2 } })
end

-- Energy above the noise and amplitude of one orientation from the responses of its filters, even
-- and odd [N, scales, H, W]: both [N, 1, H, W].
local function energy_of(even, odd, gain)
  local n = even.shape[1]
  local square = core.square(even) + core.square(odd)
  local amplitude = core.sum(images.power(square, 0.5), { dims = { 2 }, keepdim = true })
  local sum_e = core.sum(even, { dims = { 2 }, keepdim = true })
  local sum_o = core.sum(odd, { dims = { 2 }, keepdim = true })
  local length = images.power(core.square(sum_e) + core.square(sum_o), 0.5) + tiny
  local mean_e, mean_o = sum_e / length, sum_o / length
  local energy = core.sum(even * mean_e + odd * mean_o - core.abs(even * mean_o - odd * mean_e),
    { dims = { 2 }, keepdim = true })
  -- Rayleigh: the finest scale's median energy tells the power of the noise
  local power = median(square:slice(2, 1, 1):reshape({ n, -1 })) / math.log(2)
  local threshold = gain * images.power(power, 0.5):reshape({ n, 1, 1, 1 })
  return (energy - threshold):relu(), amplitude
end

-- Phase congruency of x [N, 1, H, W], 0 to 1: how far the waves at each place are in step.
local function phase_congruency(x)
  local forward, inverse = fourier(x)
  local radial, angular = filters(x.shape[3], x.shape[4])
  -- No filter sees the mean; without it rounding is finer.
  local re, im = forward(x - core.mean(x, { dims = { 3, 4 }, keepdim = true }))
  local energy, amplitude = 0, tiny
  for _, angle in ipairs(angular) do
    local bank = radial * angle
    local gain = noise_gain(bank)
    bank = bank:unsqueeze(1):to(x.dtype):to(x.device)
    local even, odd = inverse(re * bank, im * bank)
    local e, a = energy_of(even, odd, gain)
    energy, amplitude = energy + e, amplitude + a
  end
  return energy / amplitude
end

local scharr = { { 3 / 16, 0, -3 / 16 }, { 10 / 16, 0, -10 / 16 }, { 3 / 16, 0, -3 / 16 } }

-- Means of f x f pixels that step by f, zeros outside.
local function reduced(x)
  local f = math.max(1, math.floor(math.min(x.shape[3], x.shape[4]) / 256 + 0.5))
  return f == 1 and x or core.avg_pool2d(x, { size = f, padding = (f - 1) // 2 })
end

local fsim = {}

-- Feature similarity (Zhang et al. 2011), 0 to 1, equal images 1: the similarity of phase
-- congruency (4 scales, 4 orientations of log-Gabor filters) and of Scharr gradients, weighted
-- by the larger phase congruency: [N]; NaN where neither image has structure. Images, luma and
-- range as in `ssim`; a shorter side from 384 pixels on is first brought near 256 by means over
-- squares; zeros outside the image for the gradients, periodic for the filters. Constants T1 =
-- 0.85, T2 = 160 at range 255. In single precision (error about 1e-6) unless the images are f64.
-- Differentiable. Raises below 16 pixels a side.
-- -> tensor
--   > image = lumen.vision.phantom { size = 64, seed = 1 }.image
--   > lumen.metrics.fsim(image, image)
--   f64 [1] {1}
function fsim.fsim(image, reference, options)
  local x, y = images.pair("fsim", image, reference, options, { "range" })
  images.check_side("fsim", x, 16, "the bank of filters")
  return core.scope(function()
    if image.dtype ~= "f64" then x, y = x:to("f32"), y:to("f32") end
    local n = x.shape[1]
    local both = reduced(core.cat({ x, y }, { dim = 1 }))
    local phase, slope = phase_congruency(both), images.slope(both, scharr)
    local function parts(z) return z:slice(1, 1, n), z:slice(1, n + 1, 2 * n) end
    local p, q = parts(phase)
    local a, b = parts(slope)
    local alike = (2 * p * q + 0.85) / (p * p + q * q + 0.85) *
      ((2 * a * b + 160) / (a * a + b * b + 160))
    local weight = core.maximum(p, q)
    local total = images.sum(weight)
    local score = images.sum(alike * weight) / total
    -- Where there is no structure rounding errors would be compared.
    score = core.where(core.lt(total, 1e-9), 0 / 0, score)
    return image.dtype == "u8" and score:to("f64") or images.result(score, image)
  end)
end

return fsim
