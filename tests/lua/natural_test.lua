-- NIQE and BRISQUE: features against plain loops, models, files, odd and hostile images.
local lu = require "luaunit"
local lumen = require "lumen"
local algebra = require "lumen.metrics.algebra"
local helper = require "tests.helper"
local metrics = lumen.metrics

local nan = 0 / 0
local function is_nan(x) return x ~= x end

local function noise(shape, seed)
  return lumen.randn(shape, { dtype = "f64", rng = { seed = seed, stream = "natural" } })
end

local function angiogram(i, size)
  return lumen.vision.phantom { size = size or 96, seed = 4, index = i }.image
end

-- The same without tensors: luminances normalised pixel by pixel.
local function normalised(rows)
  local h, w, weights, total = #rows, #rows[1], {}, 0
  for i = -3, 3 do
    for j = -3, 3 do
      local v = math.exp(-(i * i + j * j) / (2 * (7 / 6) ^ 2))
      weights[#weights + 1], total = { i, j, v }, total + v
    end
  end
  local out = {}
  for y = 1, h do
    out[y] = {}
    for x = 1, w do
      local mean, square = 0, 0
      for _, k in ipairs(weights) do
        local v = rows[math.max(1, math.min(h, y + k[1]))][math.max(1, math.min(w, x + k[2]))]
        mean, square = mean + k[3] / total * v, square + k[3] / total * v * v
      end
      out[y][x] = (rows[y][x] - mean) / (math.sqrt(math.abs(square - mean * mean)) + 1)
    end
  end
  return out
end

local function shifted_products(rows, dy, dx)
  local h, w, list = #rows, #rows[1], {}
  for y = 1, h do
    for x = 1, w do
      list[#list + 1] = rows[y][x] * rows[(y - 1 - dy) % h + 1][(x - 1 - dx) % w + 1]
    end
  end
  return list
end

local function deviations(list)
  local l, r, nl, nr = 0, 0, 0, 0
  for _, v in ipairs(list) do
    if v < 0 then l, nl = l + v * v, nl + 1 elseif v > 0 then r, nr = r + v * v, nr + 1 end
  end
  return math.sqrt(l / nl), math.sqrt(r / nr)
end

-- Draws of a generalised Gaussian of one shape by inverting its distribution on a grid.
local function draws(shape, left, right, n)
  local grid, sum = {}, 0
  for i = -4000, 4000 do
    local x = i / 400
    sum = sum + math.exp(-math.abs(x / (x < 0 and left or right)) ^ shape)
    grid[#grid + 1] = { x, sum }
  end
  local list, at = {}, 1
  for i = 1, n do
    while grid[at][2] < (i - 0.5) / n * sum do at = at + 1 end
    list[i] = grid[at][1]
  end
  return list
end

TestStatistics = {}

-- Scales enter as b, the density exp(-(|x| / b)^shape); root mean squares are b times a constant.
function TestStatistics.test_aggd_finds_the_shape()
  for _, c in ipairs { { 2, 1, 1, math.sqrt(0.5) }, { 1, 1, 1, math.sqrt(2) }, { 2, 0.5, 1.5, math.sqrt(0.5) },
                       { 1, 0.4, 0.8, math.sqrt(2) } } do
    local x = lumen.tensor({ draws(c[1], c[2], c[3], 20000) }, { dtype = "f64" })
    local f = metrics.aggd(x)[1]:totable()
    lu.assertAlmostEquals(f[1], c[1], 0.02)
    lu.assertAlmostEquals(f[2], c[2] * c[4], 0.02)
    lu.assertAlmostEquals(f[3], c[3] * c[4], 0.02)
  end
  lu.assertTrue(is_nan(metrics.aggd(lumen.ones { 1, 5 })[1][1]:item()))
  lu.assertTrue(is_nan(metrics.aggd(lumen.tensor { { 1, -1, nan } })[1][1]:item()))
  lu.assertEquals(metrics.aggd(lumen.zeros { 0, 5 }).shape, { 0, 3 })
  lu.assertErrorMsgContains("aggd: x must be a tensor [n, k]", metrics.aggd, lumen.ones(3))
end

function TestStatistics.test_against_plain_loops()
  local image = angiogram(1, 32):slice(1, 1, 20):contiguous()
  local plain = normalised(image:to("f64"):totable())
  local mscn = lumen.tensor(plain, { dtype = "f64" })
  helper.assert_close(metrics.mscn(image):reshape { 20, 32 }, mscn, 1e-12)
  local features = metrics.brisque_features(image)[1]:totable()
  lu.assertEquals(#features, 36)
  lu.assertAlmostEquals(features[2], mscn:square():mean():item(), 1e-12)
  for k, shift in ipairs { { 0, 1 }, { 1, 0 }, { 1, 1 }, { -1, 1 } } do
    local list = shifted_products(plain, shift[1], shift[2])
    local l, r = deviations(list)
    local at = 2 + 4 * (k - 1)
    local fit = metrics.aggd(lumen.tensor({ list }, { dtype = "f64" }))[1]:totable()
    lu.assertAlmostEquals(features[at + 1], fit[1], 1e-12)
    lu.assertAlmostEquals(features[at + 3], l * l, 1e-12)
    lu.assertAlmostEquals(features[at + 4], r * r, 1e-12)
    lu.assertTrue(features[at + 2] * (r - l) >= 0)
  end
  -- the second half is the first of the image at half size
  local half = lumen.resize(image:to("f64"):reshape { 1, 1, 20, 32 },
    { size = { 10, 16 }, mode = "bicubic", antialias = true })
  local wide = lumen.cat({ half, half }, { dim = 3 }):contiguous() -- large enough to be measured
  lu.assertEquals(metrics.brisque_features(wide, { range = 255 }).shape, { 1, 36 })
  helper.assert_close(metrics.mscn(half, { range = 255 }):square():mean(),
    lumen.tensor(features[20], { dtype = "f64" }):reshape {}, 1e-12)
end

function TestStatistics.test_blocks()
  local image = angiogram(2, 64)
  local all, sharpness = metrics.niqe_features(image, { block = 32 })
  lu.assertEquals({ all.shape, sharpness.shape }, { { 1, 4, 36 }, { 1, 4 } })
  local mscn = metrics.mscn(image):reshape { 64, 64 }
  local third = mscn:slice(1, 33, 64):slice(2, 1, 32):contiguous() -- rows of blocks first
  local f = metrics.aggd(third:reshape { 1, -1 })[1]:totable()
  local got = all[1][3]:totable()
  lu.assertAlmostEquals(got[1], f[1], 1e-12)
  local list = shifted_products(third:totable(), 1, -1)
  local l, r = deviations(list)
  lu.assertAlmostEquals(got[15], metrics.aggd(lumen.tensor({ list }, { dtype = "f64" }))[1][1]:item(), 1e-12)
  lu.assertAlmostEquals(got[17] / got[18], l / r, 1e-12)
  -- rest at the right and at the bottom does not count
  local larger = lumen.pad(image, { pads = { 0, 5, 0, 9 } })
  lu.assertEquals((metrics.niqe_features(larger, { block = 32 })).shape, { 1, 4, 36 })
end

TestAlgebra = {}

-- A rotated diagonal, one value of it 0: that direction does not count.
function TestAlgebra.test_inverse_form()
  local c, s = math.cos(0.7), math.sin(0.7)
  local q = lumen.tensor({ { c, -s, 0 }, { s, c, 0 }, { 0, 0, 1 } }, { dtype = "f64" })
  local function form(values, d)
    local a = q:matmul(lumen.tensor({ { values[1], 0, 0 }, { 0, values[2], 0 }, { 0, 0, values[3] } },
      { dtype = "f64" })):matmul(q:transpose(1, 2))
    return algebra.inverse_form(a, q:matmul(lumen.tensor(d, { dtype = "f64" })))
  end
  lu.assertAlmostEquals(form({ 4, 2, 5 }, { 2, 2, 5 }), 1 + 2 + 5, 1e-12)
  lu.assertAlmostEquals(form({ 4, 0, 5 }, { 2, 2, 5 }), 1 + 5, 1e-12)
  lu.assertEquals(form({ 0, 0, 0 }, { 1, 2, 3 }), 0.0)
  local x = noise({ 50, 36 }, 1)
  local a, d = x:transpose(1, 2):matmul(x), noise({ 36 }, 2)
  local solved = algebra.conjugate_gradients(a, 0, d)
  lu.assertAlmostEquals(algebra.inverse_form(a, d), (solved * d):sum():item(), 1e-6)
end

function TestAlgebra.test_conjugate_gradients()
  local x, b = noise({ 40, 12 }, 3), noise({ 40 }, 4)
  local a = x:matmul(x:transpose(1, 2)) -- rank 12
  local solved = algebra.conjugate_gradients(a, 0.1, b)
  helper.assert_close(a:matmul(solved) + 0.1 * solved, b, 1e-9)
  lu.assertEquals(algebra.conjugate_gradients(a, 0.1, b * 0):abs():max():item(), 0.0)
end

local function fitted(o)
  local list = {}
  for i = 1, 6 do list[i] = angiogram(i) end
  return metrics.niqe_fit(list, o or { block = 24 })
end

TestNiqe = {}

-- Harm is distance; a model survives a file; a batch is its images one by one.
function TestNiqe.test_harm_is_seen()
  local model = fitted { block = 24, sharp = 0 }
  local x = lumen.stack({ angiogram(11), angiogram(12) }, { dim = 1 }):unsqueeze(2)
  local clean = metrics.niqe(x, model)
  lu.assertEquals({ clean.dtype, clean.shape }, { "f64", { 2 } })
  local noisy = metrics.niqe(x:to("f64") + 20 * noise(x.shape, 5), model, { range = 255 })
  local blurred = x:to("f64"):avg_pool2d(5, 1, 2)
  local smooth = metrics.niqe(blurred, model, { range = 255 })
  for i = 1, 2 do
    lu.assertTrue(clean[i]:item() < noisy[i]:item())
    lu.assertTrue(clean[i]:item() < smooth[i]:item())
    lu.assertEquals(metrics.niqe(x:slice(1, i, i), model):item(), clean[i]:item())
  end
  local folder = helper.temporary_folder()
  lumen.save(folder .. "/angio.safetensors", model)
  helper.assert_equal(metrics.niqe(x, lumen.load(folder .. "/angio.safetensors")), clean)
  helper.remove_folder(folder)
end

-- The distance by its formula, from features.
function TestNiqe.test_formula()
  local model = fitted { block = 24, sharp = 0 }
  local rows, k = {}, 0
  for i = 1, 6 do
    for _, row in ipairs((metrics.niqe_features(angiogram(i), { block = 24 }))[1]:totable()) do
      k = k + 1
      rows[k] = row
    end
  end
  local all = lumen.tensor(rows, { dtype = "f64" })
  helper.assert_close(model.mu, all:mean(1), 1e-12)
  helper.assert_close(model.sigma[5][5], all:slice(2, 5, 5):var(), 1e-12)
  local own = (metrics.niqe_features(angiogram(9), { block = 24 }))[1]
  local d = own - own:mean(1)
  local sigma = (model.sigma + d:transpose(1, 2):matmul(d) / (own.shape[1] - 1)) / 2
  lu.assertAlmostEquals(metrics.niqe(angiogram(9), model):item() ^ 2,
    algebra.inverse_form(sigma, model.mu - own:mean(1)), 1e-6)
end

function TestNiqe.test_fit_takes_lists_and_iterators()
  local i = 0
  local model = metrics.niqe_fit(function()
    i = i + 1
    return i <= 6 and angiogram(i) or nil
  end, { block = 24 })
  helper.assert_equal(model.sigma, fitted().sigma)
  lu.assertEquals(model.block:item(), 24)
end

function TestNiqe.test_odd_images()
  local model = fitted()
  local flat = lumen.full({ 2, 1, 48, 48 }, 0.3)
  lu.assertTrue(is_nan(metrics.niqe(flat, model)[1]:item()))
  local one = angiogram(7):slice(1, 1, 24):slice(2, 1, 24):contiguous()
  lu.assertTrue(metrics.niqe(one, model):item() >= 0) -- a single block
  local broken = angiogram(7):to("f64")
  broken:fill_(nan)
  lu.assertTrue(is_nan(metrics.niqe(broken, model, { range = 255 }):item()))
  lu.assertErrorMsgContains("niqe: images of 23 x 96 pixels are too small, a block of 24 x 24 needs 24 a side",
    metrics.niqe, angiogram(1):slice(1, 1, 23), model)
  lu.assertErrorMsgContains("niqe_fit: 0 blocks with texture are too few", metrics.niqe_fit, { flat }, { block = 24 })
  lu.assertErrorMsgContains("niqe_fit: 0 blocks with texture are too few", metrics.niqe_fit, {})
end

function TestNiqe.test_errors()
  local x, model = angiogram(1), fitted()
  lu.assertErrorMsgContains("niqe: the model has no mu [36]; niqe_fit makes models", metrics.niqe, x, {})
  lu.assertErrorMsgContains("niqe: the model has no mu [36]", metrics.niqe, x)
  lu.assertErrorMsgContains("niqe: the model has no sigma [36 x 36]", metrics.niqe, x,
    { mu = model.mu, sigma = model.mu, block = model.block })
  lu.assertErrorMsgContains("niqe_fit: block must be an even number from 8, not 7", metrics.niqe_fit, { x },
    { block = 7 })
  lu.assertErrorMsgContains("niqe: block must be an even number from 8, not -2", metrics.niqe, x,
    { mu = model.mu, sigma = model.sigma, block = lumen.tensor { -2 } })
  lu.assertErrorMsgContains("sharp lies from 0 to below 1, it is 2", metrics.niqe_fit, { x }, { sharp = 2 })
  lu.assertErrorMsgContains("images are a list or an iterator, not a string", metrics.niqe_fit, "x")
  lu.assertErrorMsgContains("niqe_fit: image must be a tensor, not a string", metrics.niqe_fit, { "x" })
  lu.assertErrorMsgContains("there is no option 'blok'\nhint: did you mean block?", metrics.niqe_fit, { x }, { blok = 8 })
end

TestBrisque = {}

-- Learns how noisy images are from images with known noise; a file keeps the model.
function TestBrisque.test_learns_scores()
  local function noisy(i) return angiogram(i, 64):to("f64") + (i * 7 % 12) * noise({ 64, 64 }, i) end
  local features, scores = {}, {}
  for i = 1, 24 do
    features[i], scores[i] = metrics.brisque_features(noisy(i), { range = 255 }), i * 7 % 12
  end
  local model = metrics.brisque_fit(lumen.cat(features), scores)
  local got, truth = {}, {}
  for i = 30, 41 do
    got[#got + 1], truth[#truth + 1] = metrics.brisque(noisy(i), model, { range = 255 }):item(), i * 7 % 12
  end
  lu.assertTrue(metrics.srcc(got, truth) > 0.8)
  local batch = lumen.stack({ noisy(30), noisy(31) }, { dim = 1 }):unsqueeze(2)
  local folder = helper.temporary_folder()
  lumen.save(folder .. "/model.safetensors", model)
  local again = metrics.brisque(batch, lumen.load(folder .. "/model.safetensors"), { range = 255 })
  helper.remove_folder(folder)
  lu.assertEquals(again.shape, { 2 })
  lu.assertAlmostEquals(again[1]:item(), got[1], 1e-9)
  lu.assertAlmostEquals(again[2]:item(), got[2], 1e-9)
  -- without ridge the known images get their scores
  local exact = metrics.brisque_fit(lumen.cat(features), lumen.tensor(scores), { ridge = 1e-9, gamma = 1 })
  lu.assertAlmostEquals(metrics.brisque(noisy(5), exact, { range = 255 }):item(), scores[5], 1e-4)
end

function TestBrisque.test_odd_and_refused()
  local x = angiogram(1, 64)
  local f = lumen.cat { metrics.brisque_features(x), metrics.brisque_features(angiogram(2, 64)) }
  local model = metrics.brisque_fit(f, { 1, 2 })
  local flat = lumen.full({ 1, 1, 32, 32 }, 7, { dtype = "u8" })
  lu.assertTrue(is_nan(metrics.brisque(flat, model):item()))
  lu.assertErrorMsgContains("features and scores must be finite", metrics.brisque_fit,
    lumen.cat { f, metrics.brisque_features(flat) }, { 1, 2, 3 })
  lu.assertErrorMsgContains("features and scores must be finite", metrics.brisque_fit, f, { 1, nan })
  lu.assertErrorMsgContains("features of 2 images but scores [3]", metrics.brisque_fit, f, { 1, 2, 3 })
  lu.assertErrorMsgContains("brisque: the model has no features [n x 36]", metrics.brisque_fit, lumen.zeros { 2, 5 }, { 1, 2 })
  lu.assertErrorMsgContains("brisque: the model has no support [n x 36]", metrics.brisque, x, {})
  lu.assertErrorMsgContains("gamma and ridge are above 0", metrics.brisque_fit, f, { 1, 2 }, { ridge = 0 })
  lu.assertErrorMsgContains("brisque_features: images of 15 x 64 pixels are too small", metrics.brisque_features,
    x:slice(1, 1, 15))
  -- equal features carry nothing, and do not divide by 0
  local same = lumen.cat { f, f }
  lu.assertAlmostEquals(metrics.brisque(x, metrics.brisque_fit(same:slice(1, 1, 1):expand(3, 36):contiguous(),
    { 2, 3, 4 })):item(), 3, 1e-9)
end

helper.run()
