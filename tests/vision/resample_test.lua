-- Resizing and cropping of 8-bit pictures.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local image = lumen.image

local filters = { "nearest", "bilinear", "bicubic", "lanczos" }

local function u8(rows) return lumen.tensor(rows, { dtype = "u8" }) end

local function noise(shape)
  local x = lumen.rand(shape, { low = 0, high = 256, rng = { seed = 5, stream = "test" } })
  return x:floor():to("u8")
end

local function error_of(fn, ...)
  local ok, message = pcall(fn, ...)
  lu.assertFalse(ok)
  return tostring(message)
end

TestResize = {}

function TestResize.test_same_size_is_a_copy()
  for _, shape in ipairs { { 13, 17 }, { 13, 17, 3 } } do
    local x = noise(shape)
    for _, filter in ipairs(filters) do
      helper.assert_equal(image.resize(x, 13, 17, { filter = filter }), x, filter)
    end
  end
end

function TestResize.test_constant_stays_constant()
  local x = lumen.full({ 19, 23, 3 }, 201, { dtype = "u8" })
  for _, filter in ipairs(filters) do
    for _, size in ipairs { { 7, 50 }, { 60, 5 }, { 1, 1 }, { 40, 41 } } do
      helper.assert_equal(image.resize(x, size[1], size[2], { filter = filter }),
        lumen.full({ size[1], size[2], 3 }, 201, { dtype = "u8" }), filter)
    end
  end
end

function TestResize.test_by_hand()
  -- Halving with the triangle filter: weights 1 3 3 1, ends cut off and scaled to sum 1.
  local x = u8 { { 0, 80, 160, 240, 240, 80 } }
  local half = image.resize(x, 1, 3, { filter = "bilinear" })
  lu.assertEquals(half:totable(), { { 57, 190, 171 } })
  lu.assertEquals(image.resize(u8 { { 10, 20 } }, 1, 4, { filter = "nearest" }):totable(),
    { { 10, 10, 20, 20 } })
  lu.assertEquals(image.resize(u8 { { 0, 100 } }, 1, 4, { filter = "bilinear" }):totable(),
    { { 0, 25, 75, 100 } })
end

function TestResize.test_channels_are_independent()
  local x = noise { 31, 45, 3 }
  for _, filter in ipairs(filters) do
    local got = image.resize(x, 20, 64, { filter = filter })
    for c = 1, 3 do
      helper.assert_equal(got:select(3, c):contiguous(),
        image.resize(x:select(3, c), 20, 64, { filter = filter }), filter)
    end
  end
end

function TestResize.test_box()
  local x = noise { 30, 40 }
  local options = { box = { 8, 5, 28, 25 }, filter = "nearest" }
  helper.assert_equal(image.resize(x, 20, 20, options),
    x:slice(1, 6, 25):slice(2, 9, 28):contiguous())
  local whole = image.resize(x, 9, 11, { box = { 0, 0, 40, 30 } })
  helper.assert_equal(whole, image.resize(x, 9, 11))
end

function TestResize.test_crop_takes_nothing_from_outside()
  local x = noise { 30, 40 }
  local part = x:slice(1, 6, 25):slice(2, 9, 28)
  for _, filter in ipairs(filters) do
    local options = { filter = filter }
    helper.assert_equal(image.crop_resize(x, { 5, 8, 20, 20 }, 33, 12, options),
      image.resize(part, 33, 12, options), filter)
  end
end

function TestResize.test_empty_output()
  lu.assertEquals(image.resize(noise { 5, 5 }, 0, 7).shape, { 0, 7 })
end

function TestResize.test_errors()
  local x = noise { 6, 8 }
  lu.assertStrContains(error_of(image.resize, lumen.zeros { 6, 8 }, 3, 3), "u8 [H, W]")
  lu.assertStrContains(error_of(image.resize, noise { 6, 8, 4 }, 3, 3), "[H, W, 3]")
  lu.assertStrContains(error_of(image.resize, x, 3, 3, { filter = "bicubik" }), "bicubic?")
  lu.assertStrContains(error_of(image.resize, x, 3, 3, { box = { 0, 0, 9, 6 } }), "not inside")
  lu.assertStrContains(error_of(image.resize, x, 3, 3, { box = { 0, 0, 9 } }), "3 numbers")
  lu.assertStrContains(error_of(image.resize, x, -1, 3), "out of range")
  lu.assertStrContains(error_of(image.resize, x, 1 << 40, 1 << 40), "out of range")
  lu.assertStrContains(error_of(image.resize, noise { 0, 8 }, 3, 3), "no pixels")
  lu.assertStrContains(error_of(image.crop_resize, x, { 1, 0, 6, 8 }, 3, 3), "not inside")
  lu.assertStrContains(error_of(image.crop_resize, x, { 0, 0, 6.5, 8 }, 3, 3), "4 integers")
  lu.assertStrContains(error_of(image.crop_resize, x, { 0, 0, 6 }, 3, 3), "4 integers")
end

TestReference = {}

local function reference()
  return lumen.load(helper.need_shared("golden/e_ops.safetensors"))
end

function TestReference.test_resized_crop()
  local e = reference()
  local boxes, checked = e["pil.boxes_ijhw"]:totable(), 0
  for _, colour in ipairs { "gray", "rgb" } do
    for k, box in ipairs(boxes) do
      for _, filter in ipairs(filters) do
        for _, size in ipairs { { 32, 32 }, { 48, 40 }, { 112, 112 } } do
          local key = ("pil.resized_crop.%s.%s.box%d.%dx%d"):format(colour, filter, k - 1,
            size[1], size[2])
          if e[key] then
            checked = checked + 1
            helper.assert_equal(image.crop_resize(e["pil." .. colour], box, size[1], size[2],
              { filter = filter }), e[key], key)
          end
        end
      end
    end
  end
  lu.assertEquals(checked, 48)
end

function TestReference.test_resize()
  local e = reference()
  local x = e["pil.gray"]
  helper.assert_equal(image.resize(x, 32, 40, { box = e["pil.resize_box.box_xyxy"]:totable() }),
    e["pil.resize_box.gray.bicubic.32x40"], "box")
  helper.assert_equal(image.resize(x, 32, 40, { filter = "lanczos" }),
    e["pil.resize.gray.lanczos.32x40"], "lanczos")
  local large = image.resize(x, 512, 512):slice(1, 201, 232):slice(2, 101, 140)
  helper.assert_equal(large:contiguous(), e["pil.resize.gray.bicubic.512x512crop"], "512")
end

helper.run()
