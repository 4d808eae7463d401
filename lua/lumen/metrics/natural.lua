-- Image quality without a reference, from natural scene statistics: how the normalised luminances
-- of an image and the products of neighbours are distributed (NIQE, BRISQUE). The published models
-- know photographs; here models are fitted on one's own images.
local core = require "lumen.core"
local images = require "lumen.metrics.images"
local known = require("lumen.options").known
local algebra = require "lumen.metrics.algebra"

local natural = {}

local nan = 0 / 0

-- ---- generalised Gaussians -----------------------------------------------------------------

-- Log of the gamma function for x > 0 (Lanczos; 15 digits).
local lanczos = { 676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059,
                  12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6,
                  1.5056327351493116e-7 }
local function log_gamma(x)
  if x < 0.5 then return math.log(math.pi / math.sin(math.pi * x)) - log_gamma(1 - x) end
  local sum, t = 0.99999999999980993, x + 6.5
  for i, c in ipairs(lanczos) do sum = sum + c / (x + i - 1) end
  return 0.5 * math.log(2 * math.pi) + (x - 0.5) * math.log(t) - t + math.log(sum)
end

-- Gamma(2/a)^2 / (Gamma(1/a) Gamma(3/a)) of a generalised Gaussian: E|x|^2 / E x^2. It grows with
-- a.
local function ratio_at(a)
  return math.exp(2 * log_gamma(2 / a) - log_gamma(1 / a) - log_gamma(3 / a))
end

local ratios -- at shapes 0.2, 0.201, ... 10

-- The shape of that grid whose ratio is nearest.
local function shape_of(ratio)
  if not ratios then
    ratios = {}
    for i = 0, 9800 do ratios[i] = ratio_at(0.2 + i / 1000) end
  end
  local low, high = 0, 9800
  while high - low > 1 do
    local middle = (low + high) // 2
    if ratios[middle] < ratio then low = middle else high = middle end
  end
  local nearest = ratio - ratios[low] <= ratios[high] - ratio and low or high
  return 0.2 + nearest / 1000
end

-- Moments of each row of x [n, k]: lists of E|x|, E x^2, and E x^2 over x < 0 and over x > 0.
local function moments_of(x)
  local square, left, right = core.square(x), core.lt(x, 0):to(x.dtype), core.gt(x, 0):to(x.dtype)
  local function mean_over(side)
    return core.sum(square * side, { dims = { 2 } }) / core.sum(side, { dims = { 2 } })
  end
  local function list(y) return y:to("cpu"):to("f64"):totable() end
  return list(core.mean(core.abs(x), { dims = { 2 } })), list(core.mean(square, { dims = { 2 } })),
    list(mean_over(left)), list(mean_over(right))
end

-- Shape, left and right deviation of the asymmetric generalised Gaussian of each row of x [n, k],
-- as a list of rows.
local function asymmetric(x)
  local magnitude, square, left, right = moments_of(x)
  local fits = {}
  for i = 1, #square do
    local l, r = math.sqrt(left[i]), math.sqrt(right[i])
    local g = l / r
    local ratio = magnitude[i] ^ 2 / square[i] * (g ^ 3 + 1) * (g + 1) / (g ^ 2 + 1) ^ 2
    local defined = ratio == ratio
    fits[i] = defined and { shape_of(ratio), l, r } or { nan, nan, nan }
  end
  return fits
end

-- The asymmetric generalised Gaussian that fits each row of x [n, k] by its moments (Lasmar et al.
-- 2009): f64 [n, 3], shape (0.2 to 10 in steps of 0.001; 2 is Gaussian, 1 Laplacian) and the root
-- mean squares of the values below and above 0; NaN where one side has none.
-- -> tensor
--   > x = lumen.randn({ 1, 20000 }, { rng = { seed = 1 } })
--   > shape, left, right = table.unpack(lumen.metrics.aggd(x)[1]:totable())
--   > math.abs(shape - 2) < 0.1, math.abs(left - 1) < 0.05, math.abs(right - 1) < 0.05
--   true
--   true
--   true
function natural.aggd(x)
  if not core.is_tensor(x) or x.ndim ~= 2 then
    error("aggd: x must be a tensor [n, k], a row for each distribution", 0)
  end
  return core.tensor(asymmetric(x:detach():to("f64")), { dtype = "f64" }):reshape({ x.shape[1], 3 })
end

-- Shape and variance of the symmetric one.
local function symmetric(x)
  local magnitude, square = moments_of(x)
  local fits = {}
  for i = 1, #square do
    local ratio = magnitude[i] ^ 2 / square[i]
    fits[i] = ratio == ratio and { shape_of(ratio), square[i] } or { nan, nan }
  end
  return fits
end

-- ---- what both look at ---------------------------------------------------------------------

-- Mean-subtracted contrast-normalised luma of x [N, 1, H, W], and the local deviation: Gaussian
-- windows of 7 x 7, sigma 7/6, edges repeated, 1 added to the deviation.
local function normalised(x)
  local weights = images.window(7, 7 / 6, x)
  local function blur(z) return images.blur(images.framed(z, 3, "replicate"), weights) end
  local mean = blur(x)
  local deviation = core.sqrt(core.abs(blur(x * x) - mean * mean))
  return (x - mean) / (deviation + 1), deviation
end

-- Mean-subtracted contrast-normalised luminances (x - mean) / (deviation + 1) at values 0 .. 255
-- (Mittal et al. 2012), mean and deviation in Gaussian windows of 7 x 7 pixels, sigma 7/6, edges
-- repeated: [N, 1, H, W]. Images, luma and range as in `ssim`.
-- -> tensor
--   > x = lumen.metrics.mscn(lumen.vision.phantom { size = 64, seed = 1 }.image)
--   > x.shape, math.abs(x:mean():item()) < 0.1
--   {1, 1, 64, 64}
--   true
function natural.mscn(image, options)
  local x = images.one("mscn", image, options, { "range" })
  return core.scope(function() return images.result((normalised(x)), image) end)
end

-- Each value of x [n, h, w] times its neighbour `shift` away, the edges joined: [n, h * w].
local function products(x, shift)
  local moved = core.roll(x, { shifts = shift, dims = { 2, 3 } })
  return (x * moved):reshape({ x.shape[1], -1 })
end

local function halved(x)
  local size = { (x.shape[3] + 1) // 2, (x.shape[4] + 1) // 2 }
  return core.resize(x, { size = size, mode = "bicubic", antialias = true })
end

-- ---- NIQE ----------------------------------------------------------------------------------

-- Squares of `side` pixels of x [N, 1, H, W], row by row: [N * blocks, side, side].
local function blocks_of(x, side)
  local rows, columns = x.shape[3] // side, x.shape[4] // side
  return x:reshape({ -1, rows, side, columns, side }):permute(1, 2, 4, 3, 5):contiguous()
    :reshape({ -1, side, side })
end

local niqe_shifts = { { 0, 1 }, { 1, 0 }, { 1, 1 }, { 1, -1 } }

-- Appends the 18 features of each block [n, side, side] to its row.
local function niqe_statistics(blocks, rows)
  for i, f in ipairs(asymmetric(blocks:reshape({ blocks.shape[1], -1 }))) do
    local size = math.exp((log_gamma(1 / f[1]) - log_gamma(3 / f[1])) / 2)
    table.move({ f[1], (f[2] + f[3]) / 2 * size }, 1, 2, #rows[i] + 1, rows[i])
  end
  for _, shift in ipairs(niqe_shifts) do
    for i, f in ipairs(asymmetric(products(blocks, shift))) do
      local size = math.exp((log_gamma(1 / f[1]) - log_gamma(3 / f[1])) / 2)
      local mean = (f[3] - f[2]) * size * math.exp(log_gamma(2 / f[1]) - log_gamma(1 / f[1]))
      table.move({ f[1], mean, f[2] * size, f[3] * size }, 1, 4, #rows[i] + 1, rows[i])
    end
  end
end

local function check_block(who, block)
  block = block or 96
  if math.type(block) ~= "integer" or block < 8 or block % 2 ~= 0 then
    error(("%s: block must be an even number from 8, not %s"):format(who, tostring(block)), 0)
  end
  return block
end

-- Features of luma x [N, 1, H, W] and sharpness, f64 [N, B, 36], [N, B].
local function niqe_features(who, x, block)
  images.check_side(who, x, block, ("a block of %d x %d"):format(block, block))
  local n, h, w = x.shape[1], x.shape[3] // block * block, x.shape[4] // block * block
  local whole = x:slice(3, 1, h):slice(4, 1, w):contiguous()
  local count = n * (h // block) * (w // block)
  local mscn, deviation = normalised(whole)
  local rows = {}
  for i = 1, count do rows[i] = {} end
  niqe_statistics(blocks_of(mscn, block), rows)
  niqe_statistics(blocks_of((normalised(halved(whole))), block // 2), rows)
  local sharpness = core.mean(blocks_of(deviation, block), { dims = { 2, 3 } })
  return core.tensor(rows, { dtype = "f64" }):reshape({ n, count // n, 36 }),
    sharpness:to("cpu"):to("f64"):reshape({ n, count // n })
end

-- NIQE's features (Mittal et al. 2013) of every block of an image, f64 [N, B, 36], and the mean
-- local deviation of the blocks, f64 [N, B]. 18 features at full size, 18 at half: shape and size
-- of the normalised luminances, and shape, mean, left and right size of their products with four
-- neighbours; NaN for blocks without texture. Images, luma and range as in `ssim`; blocks of
-- `block` pixels (96), what is left at the right and the bottom is dropped. Raises for images
-- smaller than a block.
-- -> tensor, tensor
--   > features, sharpness = lumen.metrics.niqe_features(lumen.vision.phantom { size = 192 }.image)
--   > features.shape, sharpness.shape
--   {1, 4, 36}
--   {1, 4}
function natural.niqe_features(image, options)
  local x, o = images.one("niqe_features", image, options, { "range", "block" })
  local block = check_block("niqe_features", o.block)
  return core.scope(function() return niqe_features("niqe_features", x:detach(), block) end)
end

-- Rows [n, 36] without a NaN, as a list.
local function finite_rows(features)
  local list = {}
  for _, row in ipairs(features:totable()) do
    local finite = true
    for _, v in ipairs(row) do finite = finite and v - v == 0 end
    if finite then list[#list + 1] = row end
  end
  return list
end

-- Mean [36] and covariance [36, 36] (n - 1; 0 for one row) of a list of rows.
local function gaussian_of(rows)
  local x = core.tensor(rows, { dtype = "f64" })
  local mean = core.mean(x, { dims = { 1 } })
  local d = x - mean
  return mean, core.matmul(d:transpose(1, 2), d) / math.max(1, #rows - 1)
end

-- An iterator over a list, or the iterator itself.
local function each(who, list)
  if type(list) == "function" then return list end
  if type(list) ~= "table" then
    error(("%s: images are a list or an iterator, not a %s"):format(who, type(list)), 0)
  end
  local i = 0
  return function()
    i = i + 1
    return list[i]
  end
end

-- NIQE's model of good images, to compare others with: { mu = f64 [36], sigma = f64 [36, 36],
-- block = i64 [1] }, which lumen.save and lumen.load write and read as safetensors. Fitted on real
-- angiograms it is angio-NIQE. images: a list, or a function that returns the next image or nil;
-- each as in `ssim`, range too. Per image only blocks whose local deviation is above `sharp` (0.75)
-- times the largest count; all of them with 0. Raises below two such blocks.
-- -> table
--   > function angiogram(i)
--   >   return lumen.vision.phantom { size = 128, seed = 1, index = i }.image
--   > end
--   > model = lumen.metrics.niqe_fit({ angiogram(1), angiogram(2), angiogram(3) }, { block = 32 })
--   > path = os.tmpname() .. ".safetensors"
--   > lumen.save(path, model)
--   > lumen.load(path).sigma.shape
--   {36, 36}
function natural.niqe_fit(list, options)
  local o = known("niqe_fit", options, { "range", "block", "sharp" })
  local block, sharp = check_block("niqe_fit", o.block), o.sharp or 0.75
  if type(sharp) ~= "number" or not (sharp >= 0 and sharp < 1) then
    error(("niqe_fit: sharp lies from 0 to below 1, it is %s"):format(tostring(sharp)), 0)
  end
  local rows = {}
  for image in each("niqe_fit", list) do
    core.scope(function()
      local x = images.one("niqe_fit", image, { range = o.range }, { "range" })
      local features, sharpness = niqe_features("niqe_fit", x:detach(), block)
      for i = 1, features.shape[1] do
        local s, chosen = sharpness[i], {}
        local limit = sharp * s:max():item()
        for b, value in ipairs(s:totable()) do
          if value > limit or sharp == 0 then chosen[#chosen + 1] = features[i][b]:totable() end
        end
        if #chosen > 0 then
          local good = finite_rows(core.tensor(chosen, { dtype = "f64" }))
          table.move(good, 1, #good, #rows + 1, rows)
        end
      end
    end)
  end
  if #rows < 2 then
    error(("niqe_fit: %d blocks with texture are too few for a model"):format(#rows), 0)
  end
  local mu, sigma = gaussian_of(rows)
  return { mu = mu, sigma = sigma, block = core.tensor({ block }, { dtype = "i64" }) }
end

-- A tensor of a model by name and shape; raises for another one.
local function part_of(who, model, name, ...)
  local x = type(model) == "table" and model[name]
  local wanted = { ... }
  local fits = core.is_tensor(x) and x.ndim == #wanted
  for i, size in ipairs(fits and wanted or {}) do
    fits = fits and (x.shape[i] == size or size == -1)
  end
  if not fits then
    error(("%s: the model has no %s [%s]; %s_fit makes models"):format(who, name,
      table.concat(wanted, " x "):gsub("-1", "n"), who), 0)
  end
  return x:to("cpu"):to("f64")
end

-- NIQE (Mittal et al. 2013): how far the statistics of an image are from those of a model of
-- niqe_fit, sqrt((mu1 - mu2)' pinv((S1 + S2) / 2) (mu1 - mu2)); larger is worse: f64 [N]. NaN
-- without texture. Images, luma, range as in `ssim`; a single block has no covariance: S2 = 0. No
-- gradients.
-- -> tensor
--   > function angiogram(i)
--   >   return lumen.vision.phantom { size = 128, seed = 1, index = i }.image
--   > end
--   > model = lumen.metrics.niqe_fit({ angiogram(1), angiogram(2), angiogram(3) }, { block = 32 })
--   > good = lumen.metrics.niqe(angiogram(4), model):item()
--   > lumen.metrics.niqe(angiogram(4):to("f32") * 0.2, model, { range = 255 }):item() > good
--   true
function natural.niqe(image, model, options)
  local x = images.one("niqe", image, options, { "range" })
  local mu, sigma = part_of("niqe", model, "mu", 36), part_of("niqe", model, "sigma", 36, 36)
  local block = check_block("niqe", math.tointeger(part_of("niqe", model, "block", 1):item()))
  return core.scope(function()
    local features = niqe_features("niqe", x:detach(), block)
    local list = {}
    for i = 1, x.shape[1] do
      local rows = finite_rows(features[i])
      list[i] = nan
      if #rows > 0 then
        local own_mu, own_sigma = gaussian_of(rows)
        local d = mu - own_mu
        list[i] = math.sqrt(algebra.inverse_form((sigma + own_sigma) / 2, d))
      end
    end
    return core.tensor(list, { dtype = "f64" })
  end)
end

-- ---- BRISQUE -------------------------------------------------------------------------------

local brisque_shifts = { { 0, 1 }, { 1, 0 }, { 1, 1 }, { -1, 1 } }

-- BRISQUE's features (Mittal et al. 2012) of an image, f64 [N, 36]: at full and at half size shape
-- and variance of the normalised luminances, and shape, mean, left and right variance of their
-- products with four neighbours; NaN without texture. Images, luma and range as in `ssim`. Raises
-- below 16 pixels a side.
-- -> tensor
--   > lumen.metrics.brisque_features(lumen.vision.phantom { size = 64 }.image).shape
--   {1, 36}
function natural.brisque_features(image, options)
  local x = images.one("brisque_features", image, options, { "range" })
  images.check_side("brisque_features", x, 16, "half the size")
  return core.scope(function()
    local rows, y = {}, x:detach()
    for i = 1, x.shape[1] do rows[i] = {} end
    for _ = 1, 2 do
      local mscn = normalised(y):squeeze(2)
      for i, f in ipairs(symmetric(mscn:reshape({ #rows, -1 }))) do
        table.move(f, 1, 2, #rows[i] + 1, rows[i])
      end
      for _, shift in ipairs(brisque_shifts) do
        for i, f in ipairs(asymmetric(products(mscn, shift))) do
          local mean = (f[3] - f[2]) * math.exp(log_gamma(2 / f[1])
            - (log_gamma(1 / f[1]) + log_gamma(3 / f[1])) / 2)
          table.move({ f[1], mean, f[2] ^ 2, f[3] ^ 2 }, 1, 4, #rows[i] + 1, rows[i])
        end
      end
      y = halved(y)
    end
    return core.tensor(rows, { dtype = "f64" })
  end)
end

-- Features [n, 36] at -1 .. 1 of the model's spans.
local function scaled(features, low, high)
  local span = high - low
  local equal = core.eq(span, 0)
  return core.where(equal, 0, (features - low) * 2 / core.where(equal, 1, span) - 1)
end

-- exp(-gamma |a - b|^2) of all rows a [n, d] and b [m, d]: [n, m].
local function kernel(a, b, gamma)
  local square = core.sum(a * a, { dims = { 2 } }):unsqueeze(2)
    + core.sum(b * b, { dims = { 2 } }):unsqueeze(1) - 2 * core.matmul(a, b:transpose(1, 2))
  return core.exp(-gamma * square:relu())
end

-- BRISQUE's regression from features f64 [n, 36] to the scores [n] that people gave: kernel ridge
-- regression with exp(-gamma |a - b|^2) on features at -1 .. 1, in place of the published support
-- vector machine (the same kernel, a square loss). gamma = 0.05 as published; ridge = 0.1, larger
-- is smoother. Returns a model of tensors { low, high, support, weight, offset, gamma } for
-- `brisque`, lumen.save and lumen.load. Raises for values that are not finite.
-- -> table
--   > function angiogram(i)
--   >   return lumen.vision.phantom { size = 64, seed = 1, index = i }.image
--   > end
--   > features = lumen.cat { lumen.metrics.brisque_features(angiogram(1)),
--   >   lumen.metrics.brisque_features(angiogram(2)) }
--   > lumen.metrics.brisque_fit(features, { 1, 5 }).support.shape
--   {2, 36}
function natural.brisque_fit(features, scores, options)
  local o = known("brisque_fit", options, { "gamma", "ridge" })
  local gamma, ridge = o.gamma or 0.05, o.ridge or 0.1
  if not (gamma > 0 and ridge > 0) then error("brisque_fit: gamma and ridge are above 0", 0) end
  local n = part_of("brisque", { features = features }, "features", -1, 36).shape[1]
  local y = core.is_tensor(scores) and scores or core.tensor(scores)
  if n < 2 or y.ndim ~= 1 or y.shape[1] ~= n then
    error(("brisque_fit: features of %d images but scores [%s]"):format(n,
      table.concat(y.shape, " x ")), 0)
  end
  return core.scope(function()
    local x, target = features:to("cpu"):to("f64"), y:to("cpu"):to("f64")
    if core.isfinite(x):min():item() == 0 or core.isfinite(target):min():item() == 0 then
      error("brisque_fit: features and scores must be finite; images without texture have none", 0)
    end
    local low, high = core.min(x, { dims = { 1 } }), core.max(x, { dims = { 1 } })
    local support, offset = scaled(x, low, high), core.mean(target)
    local k = kernel(support, support, gamma)
    return {
      low = low, high = high, support = support, offset = offset:reshape({ 1 }),
      weight = algebra.conjugate_gradients(k, ridge, target - offset),
      gamma = core.tensor({ gamma }, { dtype = "f64" }),
    }
  end)
end

-- BRISQUE (Mittal et al. 2012): the score that a model of brisque_fit predicts, on the scale of
-- the scores it was fitted on: f64 [N]; NaN without texture. Images, luma, range as in `ssim`.
-- -> tensor
--   > function angiogram(i)
--   >   return lumen.vision.phantom { size = 64, seed = 1, index = i }.image
--   > end
--   > features = lumen.cat { lumen.metrics.brisque_features(angiogram(1)),
--   >   lumen.metrics.brisque_features(angiogram(2)) }
--   > model = lumen.metrics.brisque_fit(features, { 1, 5 }, { ridge = 1e-6 })
--   > ("%.3f"):format(lumen.metrics.brisque(angiogram(2), model):item())
--   5.000
function natural.brisque(image, model, options)
  local support = part_of("brisque", model, "support", -1, 36)
  local weight = part_of("brisque", model, "weight", support.shape[1])
  local low, high = part_of("brisque", model, "low", 36), part_of("brisque", model, "high", 36)
  local offset = part_of("brisque", model, "offset", 1)
  local gamma = part_of("brisque", model, "gamma", 1):item()
  known("brisque", options, { "range" })
  local features = natural.brisque_features(image, options)
  return core.scope(function()
    local k = kernel(scaled(features, low, high), support, gamma)
    return core.matmul(k, weight) + offset
  end)
end

return natural
