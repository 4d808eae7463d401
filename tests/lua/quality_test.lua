-- Image quality: gradients, batches, odd and hostile images, what is refused. Values against
-- other programs: tests/golden/metrics_test.lua.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local metrics = lumen.metrics

local nan = 0 / 0
local function is_nan(x) return x ~= x end

local function noise(shape, seed, dtype)
  return lumen.randn(shape, { dtype = dtype or "f64", rng = { seed = seed, stream = "quality" } })
end

-- Something to see: blobs and lines, 0 .. 1, [N, 1, H, W], and the same with noise.
local function scene(n, size, dtype)
  local list = {}
  for i = 1, n do
    list[i] = lumen.vision.phantom { size = size, seed = 5, index = i }.image:to("f64") / 255
  end
  local clean = lumen.stack(list, { dim = 1 }):unsqueeze(2)
  local x = (clean + 0.05 * noise(clean.shape, 1)):clamp { min = 0, max = 1 }
  return x:to(dtype or "f64"), clean:to(dtype or "f64")
end

-- Name, side that suits it, whether it follows gradients at equal images.
local pairwise = {
  { "psnr", 32, false }, { "ssim", 32, true }, { "ms_ssim", 161, true }, { "gmsd", 32, true },
  { "vif", 48, true }, { "fsim", 32, true }, { "vessel_ssim", 96, true },
}

TestGradient = {}

-- Along a few smooth directions in both images, in f64.
for _, row in ipairs(pairwise) do
  local name, size, at_equal = table.unpack(row)
  TestGradient["test_" .. name] = function()
    local x, y = scene(1, size)
    local mask = lumen.vision.phantom({ size = size, seed = 5, index = 1 }).mask
    local function measure(a, b)
      if name == "vessel_ssim" then return metrics.vessel_ssim(a, b, { mask = mask }) end
      return metrics[name](a, b)
    end
    local along = noise({ 3, size, size }, 2)
    local function moved(base, t)
      return base + 0.01 * lumen.sum(along * t:reshape { 3, 1, 1 }, { dims = { 1 } })
    end
    local t = lumen.tensor({ 0.3, -0.2, 0.5 }, { dtype = "f64" })
    local scale = name == "psnr" and 1 or 100 -- else too small for gradcheck's floor
    lumen.gradcheck(function(a, b) return scale * measure(moved(x, a), moved(y, b)) end, { t, t:clone() },
      { eps = 1e-5 })
    if at_equal then
      local z = y:clone()
      z.requires_grad = true
      measure(z, y):sum():backward()
      lu.assertEquals(z.grad:isfinite():to("i64"):sum():item(), size * size, name)
    end
  end
end

TestBatch = {}

-- [N] for a batch, each as if alone, in the images' dtype.
function TestBatch.test_one_by_one()
  for _, row in ipairs(pairwise) do
    local name, size = row[1], row[2]
    local x, y = scene(3, size)
    local all = metrics[name](x, y)
    lu.assertEquals(all.shape, { 3 }, name)
    for i = 1, 3 do
      lu.assertAlmostEquals(all[i]:item(), metrics[name](x:slice(1, i, i), y:slice(1, i, i)):item(),
        1e-10, name)
    end
    lu.assertTrue(all[1]:item() ~= all[2]:item(), name)
    for _, dtype in ipairs { "f32", "bf16" } do
      local got = metrics[name](x:to(dtype), y:to(dtype))
      lu.assertEquals(got.dtype, dtype, name)
    end
    helper.assert_close(metrics[name](x:to("f32"), y:to("f32")):to("f64"), all, 1e-4, name)
  end
end

-- One picture as a file gives it; grey in three channels is grey; luma of colours.
function TestBatch.test_pictures()
  local p = lumen.vision.phantom { size = 64, seed = 2 }
  local a = p.image
  local b = (a:to("f64") + 12 * noise({ 64, 64 }, 3)):clamp({ min = 0, max = 255 }):round():to("u8")
  local batch_a, batch_b = a:reshape { 1, 1, 64, 64 }, b:reshape { 1, 1, 64, 64 }
  local rgb_a, rgb_b = lumen.stack({ a, a, a }, { dim = 3 }), lumen.stack({ b, b, b }, { dim = 3 })
  for _, name in ipairs { "psnr", "ssim", "gmsd", "vif", "fsim", "vessel_cldice" } do
    local v = metrics[name](b, a):item()
    lu.assertEquals(metrics[name](batch_b, batch_a):item(), v, name)
    lu.assertAlmostEquals(metrics[name](rgb_b, rgb_a):item(), v, 1e-12, name)
    local tolerance = name == "fsim" and 1e-5 or 1e-9 -- single precision for bytes
    local f = metrics[name](b:to("f64"), a:to("f64"), { range = 255 }):item()
    lu.assertAlmostEquals(f, v, tolerance, name)
    lu.assertAlmostEquals(metrics[name](b:to("f64") / 255, a:to("f64") / 255):item(), v, tolerance, name)
  end
  local red = lumen.zeros({ 16, 16, 3 }, { dtype = "u8" })
  red:slice(3, 1, 1):fill_(101) -- 0.299 * 101 = 30.2: 30 in bytes
  local grey = lumen.full({ 16, 16 }, 30, { dtype = "u8" })
  local white = lumen.full({ 16, 16 }, 255, { dtype = "u8" })
  local rgb = lumen.stack({ white, white, white }, { dim = 3 })
  lu.assertEquals(metrics.ssim(red, rgb):item(), metrics.ssim(grey, white):item())
end

TestOdd = {}

function TestOdd.test_identical()
  local _, y = scene(2, 161)
  lu.assertEquals(metrics.psnr(y, y):totable(), { 1 / 0, 1 / 0 })
  for _, name in ipairs { "ssim", "ms_ssim", "vif", "fsim", "vessel_ssim" } do
    lu.assertAlmostEquals(metrics[name](y, y)[2]:item(), 1, 1e-9, name)
  end
  lu.assertEquals(metrics.gmsd(y, y):totable(), { 0.0, 0.0 })
end

-- Without structure: defined where a formula says so, NaN where nothing is left to compare.
function TestOdd.test_constant()
  for _, value in ipairs { 0, 0.1, 1 } do
    local flat = lumen.full({ 1, 1, 161, 170 }, value, { dtype = "f64" })
    lu.assertEquals(metrics.ssim(flat, flat):item(), 1.0)
    lu.assertAlmostEquals(metrics.ms_ssim(flat, flat):item(), 1, 1e-12)
    lu.assertEquals(metrics.gmsd(flat, flat):item(), 0.0)
    lu.assertTrue(is_nan(metrics.vif(flat, flat):item()))
    lu.assertTrue(is_nan(metrics.fsim(flat, flat):item()))
    lu.assertTrue(is_nan(metrics.fsim(flat:to("f32"), flat:to("f32")):item()))
    lu.assertTrue(is_nan(metrics.vif(flat:to("f32"), flat:to("f32")):item()))
    local other = lumen.full({ 1, 1, 161, 170 }, 0.5, { dtype = "f64" })
    lu.assertAlmostEquals(metrics.psnr(flat, other):item(),
      -20 * math.log(math.abs(value - 0.5), 10), 1e-9)
    lu.assertTrue(metrics.ssim(flat, other):item() < 1)
  end
  local x = scene(1, 48)
  lu.assertTrue(is_nan(metrics.vif(x, x * 0):item()))
  lu.assertAlmostEquals(metrics.vif(x * 0, x):item(), 0, 1e-9)
end

function TestOdd.test_nan_and_inf_do_not_pass_unseen()
  for _, bad in ipairs { nan, 1 / 0 } do
    for _, row in ipairs(pairwise) do
      local name, size = row[1], row[2]
      local x, y = scene(2, size)
      x:slice(1, 1, 1):slice(3, 12, 12):slice(4, 14, 14):fill_(bad)
      local all = lumen.ones { 2, 1, size, size }
      local got = metrics[name](x, y, name == "vessel_ssim" and { mask = all } or nil)
      lu.assertFalse(math.abs(got[1]:item()) < math.huge, name)
      lu.assertTrue(math.abs(got[2]:item()) < math.huge, name)
    end
  end
  -- bytes for the vessel filter
  local x, y = scene(1, 96)
  x:slice(3, 12, 12):fill_(nan)
  lu.assertTrue(is_nan(metrics.vessel_cldice(x, y):item()))
end

function TestOdd.test_long_and_odd_sizes()
  for _, shape in ipairs { { 1, 1, 163, 301 }, { 1, 1, 301, 163 }, { 1, 1, 255, 257 } } do
    local a = noise(shape, 4):sigmoid()
    local b = (a + 0.1 * noise(shape, 5)):clamp { min = 0, max = 1 }
    for _, name in ipairs { "ssim", "ms_ssim", "gmsd", "vif", "fsim" } do
      local v = metrics[name](b, a):item()
      lu.assertTrue(v > 0 and v < 1, name)
      lu.assertAlmostEquals(metrics[name](b:transpose(3, 4), a:transpose(3, 4)):item(), v, 1e-3, name)
    end
  end
end

-- The map with mirrored borders, its interior: what the mean of valid windows sees.
function TestOdd.test_map()
  local x, y = scene(2, 40)
  local map = metrics.ssim(x, y, { map = true })
  lu.assertEquals(map.shape, { 2, 1, 40, 40 })
  local inside = map:slice(3, 6, 35):slice(4, 6, 35):mean({ dims = { 2, 3, 4 } })
  helper.assert_close(inside, metrics.ssim(x, y), 1e-12)
  local tiny = noise({ 1, 1, 2, 3 }, 6)
  lu.assertEquals(metrics.ssim(tiny, tiny, { map = true }).shape, { 1, 1, 2, 3 })
end

TestVessels = {}

-- Harm to the vessels shows in the vessels, harm elsewhere does not.
function TestVessels.test_sees_vessels()
  local p = lumen.vision.phantom { size = 128, seed = 3 }
  local image, inside = p.image:to("f64"), p.mask:ne(0)
  local faded = lumen.where(inside, image * 0.5 + 100, image)
  local noisy = lumen.where(inside, image, image + 15 * noise({ 128, 128 }, 7))
  local o = { range = 255 }
  local function loss_at_vessels(x)
    return (1 - metrics.vessel_ssim(x, image, { range = 255, mask = p.mask }):item()) / (1 - metrics.ssim(x, image, o):item())
  end
  lu.assertTrue(loss_at_vessels(faded) > 3)
  lu.assertTrue(loss_at_vessels(noisy) < 1)
  lu.assertTrue(metrics.vessel_cldice(faded, image, o):item() < 0.7)
  lu.assertAlmostEquals(metrics.vessel_cldice(p.image, p.image, { mask = p.mask }):item(),
    metrics.cldice((lumen.vision.vessel_mask(p.image)), p.mask), 1e-15)
  local whole = lumen.ones { 128, 128 }
  helper.assert_close(metrics.vessel_ssim(faded, image, { range = 255, mask = whole }),
    metrics.ssim(faded, image, { range = 255, map = true }):mean():reshape { 1 }, 1e-12)
  lu.assertTrue(is_nan(metrics.vessel_ssim(image, image, { range = 255, mask = whole * 0 }):item()))
end

TestHandmade = {}

-- Every column is the measure of its name, larger is better, what is too large for the images or
-- has no reference is missing.
function TestHandmade.test_columns()
  local x, y = scene(2, 64)
  local z = lumen.flip(y, { dims = { 4 } })
  local photos = {}
  for i = 1, 4 do photos[i] = lumen.vision.phantom({ size = 64, seed = 6, index = i }).image end
  local model = metrics.niqe_fit(photos, { block = 16 })
  local names, scores = metrics.handmade(x, y, z, { niqe = model })
  lu.assertEquals(table.concat(names, " "), "psnr_source ssim_source gmsd_source vif_source fsim_source "
    .. "psnr_contrast ssim_contrast gmsd_contrast vif_contrast fsim_contrast vessel_ssim vessel_cldice niqe")
  lu.assertEquals({ scores.dtype, scores.shape }, { "f64", { 2, 13 } })
  local function column(i) return scores:slice(2, i, i):reshape { 2 } end
  helper.assert_equal(column(1), metrics.psnr(x, y))
  helper.assert_equal(column(3), -metrics.gmsd(x, y))
  helper.assert_equal(column(10), metrics.fsim(x, z))
  helper.assert_equal(column(11), metrics.vessel_ssim(x, z))
  helper.assert_equal(column(13), -metrics.niqe(x, model))
  local bytes = (x * 255):round()
  names = metrics.handmade(bytes:to("u8"), nil, (y * 255):round():to("u8"))
  lu.assertEquals({ names[1], #names }, { "psnr_contrast", 7 })
  local _, grey = metrics.handmade(bytes, (y * 255):round(), nil, { range = 255 })
  local _, same = metrics.handmade(bytes:to("u8"), (y * 255):round():to("u8"))
  helper.assert_close(grey, same, 1e-5)
  local large = noise({ 1, 1, 161, 161 }, 9)
  lu.assertEquals(metrics.handmade(large, large)[3], "ms_ssim_source")
  lu.assertErrorMsgContains("handmade: it needs a reference or a niqe model", metrics.handmade, x)
  lu.assertErrorMsgContains("psnr: image is [2 x 1 x 64 x 64] but reference is [1 x 1 x 161 x 161]",
    metrics.handmade, x, large)
end

TestErrors = {}

function TestErrors.test_too_small()
  local function refuses(text, name, size, o)
    local x = lumen.zeros { 1, 1, size, size + 3 }
    lu.assertErrorMsgContains(text, metrics[name], x, x, o)
  end
  refuses("ssim: images of 10 x 13 pixels are too small, the 11 x 11 window needs 11 a side", "ssim", 10)
  refuses("the 7 x 7 window needs 7 a side", "ssim", 6, { window = "uniform" })
  refuses("ssim: images of 10 x 11 pixels are too small", "ssim", 20, { down = 2 })
  refuses("ms_ssim: images of 160 x 163 pixels are too small, the window at the fifth scale needs 161",
    "ms_ssim", 160)
  refuses("vif: images of 40 x 43 pixels are too small, the window at the fourth scale needs 41", "vif", 40)
  refuses("gmsd: images of 3 x 6 pixels are too small, a gradient needs 4", "gmsd", 3)
  refuses("fsim: images of 15 x 18 pixels are too small, the bank of filters needs 16", "fsim", 15)
  for _, row in ipairs { { "ssim", 11 }, { "ms_ssim", 161 }, { "vif", 41 }, { "gmsd", 4 }, { "fsim", 16 } } do
    local x = noise({ 1, 1, row[2], row[2] }, 8)
    lu.assertEquals(metrics[row[1]](x, x).shape, { 1 }, row[1])
  end
end

function TestErrors.test_shapes_and_types()
  local a, b = lumen.zeros { 1, 1, 32, 32 }, lumen.zeros { 2, 1, 32, 32 }
  for _, name in ipairs { "psnr", "ssim", "gmsd", "vif", "fsim", "ms_ssim", "vessel_cldice" } do
    lu.assertErrorMsgContains(name .. ": image is [1 x 1 x 32 x 32] but reference is [2 x 1 x 32 x 32]",
      metrics[name], a, b)
    lu.assertErrorMsgContains(name .. ": image must be [N, 1 or 3, H, W], [H, W] or [H, W, 3], not [1 x 2 x 8 x 8]",
      metrics[name], lumen.zeros { 1, 2, 8, 8 }, a)
    lu.assertErrorMsgContains(name .. ": reference must be a tensor, not a nil", metrics[name], a)
    for _, shape in ipairs { { 0, 1, 32, 32 }, { 1, 1, 0, 32 }, { 0, 0 } } do
      local none = lumen.zeros(shape)
      lu.assertErrorMsgContains(name .. ": image is empty, [", metrics[name], none, none)
    end
    lu.assertErrorMsgContains(name .. ": image must be u8 or a float, not i64", metrics[name], a:to("i64"), a)
    lu.assertErrorMsgContains("range must be a positive number, not 0", metrics[name], a, a, { range = 0 })
    lu.assertErrorMsgContains("there is no option 'rnge'\nhint: did you mean range?", metrics[name], a, a,
      { rnge = 1 })
  end
  lu.assertErrorMsgContains("window is gaussian or uniform, not box", metrics.ssim, a, a, { window = "box" })
  lu.assertErrorMsgContains("down must be a whole number from 1, not 1.5", metrics.gmsd, a, a, { down = 1.5 })
  lu.assertErrorMsgContains("vessel_ssim: mask must be [1 x 1 x 32 x 32], not [1 x 1 x 8 x 8]",
    metrics.vessel_ssim, a, a, { mask = lumen.zeros { 8, 8 } })
  lu.assertErrorMsgContains("vessel_ssim: mask must be a tensor, not a table", metrics.vessel_ssim, a, a, { mask = {} })
end

helper.run()
