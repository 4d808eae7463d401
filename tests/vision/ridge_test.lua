-- Sato's and Frangi's filters and the vessel pseudo-mask.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local vision = lumen.vision

-- A picture from a function of row and column, both from 1.
local function draw(height, width, dtype, value)
  local rows = {}
  for i = 1, height do
    rows[i] = {}
    for j = 1, width do rows[i][j] = value(i, j) end
  end
  return lumen.tensor(rows, { dtype = dtype })
end

-- A vertical line of Gaussian profile: depth below (or above) a ground of 150.
local function line(size, depth, dtype)
  return draw(size, size, dtype or "u8", function(_, j)
    return math.floor(150 + depth * math.exp(-(j - size / 2) ^ 2 / 8) + 0.5)
  end)
end

local function sum(x) return x:to("f64"):sum():item() end

local function error_of(fn, ...)
  local ok, message = pcall(fn, ...)
  lu.assertFalse(ok)
  return tostring(message)
end

TestSato = {}

function TestSato.test_dark_line_responds_bright_line_does_not()
  local size = 48
  local dark, bright = vision.sato(line(size, -100)), vision.sato(line(size, 100))
  lu.assertEquals(dark.dtype, "f32")
  lu.assertEquals(dark.shape, { size, size })
  local middle = dark:totable()[24]
  lu.assertTrue(middle[24] > 20, "on the line: " .. middle[24])
  lu.assertTrue(middle[4] < 1, "off the line: " .. middle[4])
  lu.assertTrue(bright:totable()[24][24] < 1e-6)
  local white = vision.sato(line(size, 100), { black_ridges = false })
  lu.assertAlmostEquals(white:totable()[24][24], middle[24], 1e-4)
end

function TestSato.test_response_of_an_ideal_line()
  -- In the middle of a Gaussian valley of depth a and width s the filter of scale t gives
  -- a t^2 s / (s^2 + t^2)^(3/2).
  local a, s, t = 100, 3, 2
  local x = draw(64, 64, "f64", function(_, j)
    return -a * math.exp(-(j - 32) ^ 2 / (2 * s * s))
  end)
  local got = vision.sato(x, { sigmas = { t } }):totable()[32][32]
  lu.assertAlmostEquals(got, a * t * t * s / (s * s + t * t) ^ 1.5, 1e-3)
end

function TestSato.test_symmetry()
  local x = lumen.rand({ 37, 52 }, { dtype = "f64", rng = { seed = 1, stream = "test" } })
  for d = 1, 2 do
    helper.assert_close(vision.sato(x:flip(d)), vision.sato(x):flip(d), 1e-12, "flipped")
  end
  -- Along an edge the order of the two filters shows, so rows and columns differ there.
  local function inside(y) return y:slice(1, 34, 60):slice(2, 34, 60) end
  local large = lumen.rand({ 96, 96 }, { dtype = "f64", rng = { seed = 2, stream = "test" } })
  helper.assert_close(inside(vision.sato(large:permute { 2, 1 }):permute { 2, 1 }),
    inside(vision.sato(large)), 1e-12, "transposed")
end

function TestSato.test_batch_and_types()
  local x = line(40, -60)
  local both = lumen.stack({ x, line(40, 80) }, { dim = 1 }):reshape { 2, 1, 40, 40 }
  local got = vision.sato(both)
  lu.assertEquals(got.shape, { 2, 1, 40, 40 })
  helper.assert_equal(got:select(1, 1):reshape { 40, 40 }, vision.sato(x))
  helper.assert_equal(vision.sato(x:to("f32")), vision.sato(x))
  lu.assertEquals(vision.sato(x:to("f64")).dtype, "f64")
end

function TestSato.test_degenerate()
  lu.assertEquals(sum(vision.sato(lumen.full({ 30, 40 }, 7))), 0)
  lu.assertEquals(sum(vision.frangi(lumen.full({ 30, 40 }, 7))), 0)
  lu.assertEquals(vision.sato(lumen.zeros { 0, 5 }).shape, { 0, 5 })
  lu.assertEquals(vision.frangi(lumen.zeros { 5, 0 }).shape, { 5, 0 })
  lu.assertEquals(sum(vision.sato(lumen.full({ 1, 1 }, 200), { sigmas = { 0.1, 64 } })), 0)
end

function TestSato.test_errors()
  local x = lumen.zeros { 4, 4 }
  lu.assertStrContains(error_of(vision.sato, lumen.zeros { 3, 4, 4 }), "[N, 1, H, W]")
  lu.assertStrContains(error_of(vision.sato, x, { sigmas = {} }), "sigmas")
  lu.assertStrContains(error_of(vision.sato, x, { sigmas = { 1, -1 } }), "sigma 2 is -1")
  lu.assertStrContains(error_of(vision.sato, x, { sigmas = 1e9 }), "at most 64")
  lu.assertStrContains(error_of(vision.sato, x, { sigma = 1 }), "did you mean sigmas?")
  lu.assertStrContains(error_of(vision.sato, lumen.full({ 4, 4 }, 0 / 0)), "not finite")
  lu.assertStrContains(error_of(vision.frangi, x, { beta = 0 }), "beta")
  lu.assertStrContains(error_of(vision.frangi, x, { gamma = -1 }), "gamma")
end

TestFrangi = {}

function TestFrangi.test_lines_and_blobs()
  local blob = draw(48, 48, "f32", function(i, j)
    return 150 - 100 * math.exp(-((i - 24) ^ 2 + (j - 24) ^ 2) / 8)
  end)
  local on_line = vision.frangi(line(48, -100)):totable()[24][24]
  local on_blob = vision.frangi(blob, { sigmas = { 2 } }):totable()[24][24]
  lu.assertTrue(on_line > 0.5 and on_line <= 1, "line " .. on_line)
  lu.assertTrue(on_blob < 0.2, "blob " .. on_blob)
  lu.assertEquals(vision.frangi(line(48, 100)):totable()[24][24], 0)
end

TestVesselMask = {}

function TestVesselMask.test_keeps_the_strongest_component()
  -- Two dark lines that do not touch: the deeper one stays.
  local x = draw(96, 96, "u8", function(i, j)
    if i < 30 or i > 66 then return 180 end
    if j >= 34 and j <= 37 then return 40 end
    if j >= 60 and j <= 62 then return 120 end
    return 180
  end)
  local mask, response = vision.vessel_mask(x, { published = true })
  lu.assertEquals(mask.dtype, "u8")
  lu.assertEquals(response.dtype, "u8")
  local rows = mask:totable()
  lu.assertEquals(rows[48][35], 1)
  lu.assertEquals(rows[48][61], 0)
  lu.assertEquals(rows[48][5], 0)
end

function TestVesselMask.test_border_and_scale()
  local x = line(128, -100)
  local published = vision.vessel_mask(x, { published = true, sigmas = { 2 } })
  lu.assertEquals(sum(published:slice(1, 1, 20)), 0)
  lu.assertTrue(sum(published:slice(1, 21, 21)) > 0)
  local scaled = vision.vessel_mask(x, { sigmas = { 8 } }) -- 2 at 128 pixels, border 5
  lu.assertEquals(sum(scaled:slice(1, 1, 5)), 0)
  lu.assertTrue(sum(scaled:slice(1, 6, 6)) > 0)
end

function TestVesselMask.test_degenerate_and_errors()
  lu.assertEquals(sum(vision.vessel_mask(lumen.full({ 40, 40 }, 120, { dtype = "u8" }))), 0)
  lu.assertEquals(vision.vessel_mask(lumen.zeros({ 0, 7 }, { dtype = "u8" })).shape, { 0, 7 })
  local x = lumen.zeros({ 8, 8 }, { dtype = "u8" })
  lu.assertEquals(sum(vision.vessel_mask(x, { border = 1000 })), 0)
  lu.assertStrContains(error_of(vision.vessel_mask, lumen.zeros { 8, 8 }), "must be u8")
  lu.assertStrContains(error_of(vision.vessel_mask, x, { percentile = 101 }), "percentile")
  lu.assertStrContains(error_of(vision.vessel_mask, x, { border = -1 }), "border")
end

TestReference = {}

local function reference()
  return lumen.load(helper.need_shared("golden/c_frangi.safetensors"))
end

function TestReference.test_sato()
  local c = reference()
  for _, name in ipairs { "A", "B", "C" } do
    local image, expected = c[name .. ".image"], c[name .. ".sato_1234"]
    helper.assert_close(vision.sato(image), expected, 1e-6, name)
    helper.assert_close(vision.sato(image:to("f64")), expected, 1e-12, name)
  end
  helper.assert_close(vision.sato(c["C.image"], { black_ridges = false }),
    c["C.sato_1234_white"], 1e-6, "white")
end

function TestReference.test_frangi()
  local c = reference()
  local four = { 1, 2, 3, 4 }
  for _, name in ipairs { "A", "B", "C" } do
    local image = c[name .. ".image"]
    helper.assert_close(vision.frangi(image:to("f64")), c[name .. ".frangi_default"], 1e-12,
      name)
    helper.assert_close(vision.frangi(image, { sigmas = four }), c[name .. ".frangi_1234"],
      1e-6, name)
  end
  local image = c["C.image"]
  helper.assert_close(vision.frangi(image, { sigmas = four, gamma = 15 }),
    c["C.frangi_1234_gamma15"], 1e-6, "gamma 15")
  helper.assert_close(vision.frangi(image:to("f64") / 255, { sigmas = four }),
    c["C.frangi_1234_unit"], 1e-6, "unit range")
  helper.assert_equal(vision.frangi(c["flat.image"]:to("f64")), c["flat.frangi"], "flat")
end

function TestReference.test_vessel_mask()
  local c = reference()
  for _, name in ipairs { "A", "B", "C" } do
    for _, border in ipairs { 3, 20 } do
      local key = ("%s.b%d."):format(name, border)
      local mask, response = vision.vessel_mask(c[name .. ".image"],
        { border = border, published = true })
      helper.assert_equal(response, c[key .. "sato_u8"], key .. "response")
      helper.assert_equal(mask:to("i64") * 255, c[key .. "mask"]:to("i64"), key .. "mask")
    end
  end
  for _, name in ipairs { "flat", "dot" } do
    local mask = vision.vessel_mask(c[name .. ".image"], { border = 3, published = true })
    helper.assert_equal(mask:to("i64") * 255, c[name .. ".mask"]:to("i64"), name)
  end
end

helper.run()
