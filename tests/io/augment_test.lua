-- Augmentation in the loader: the map against one in Lua, image and mask alike, limits, what
-- the draw depends on.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local fs, image = lumen.fs, lumen.image

local folder = helper.temporary_folder()
local side = 48

local function fails(text, fn, ...)
  local ok, message = pcall(fn, ...)
  lu.assertFalse(ok, "no error with " .. text)
  lu.assertStrContains(tostring(message), text)
end

-- Ten smooth pictures with class masks, as files of `side` pixels.
for _, name in ipairs { "images", "masks" } do fs.mkdir(folder .. "/" .. name) end
for i = 1, 10 do
  local pixels, classes = {}, {}
  for y = 1, side do
    pixels[y], classes[y] = {}, {}
    for x = 1, side do
      pixels[y][x] = math.floor(128 + 60 * math.sin(x / 5 + i) + 60 * math.cos(y / 7))
      classes[y][x] = (x // 9 + y // 11) % 4
    end
  end
  image.save(("%s/images/%02d.png"):format(folder, i), lumen.tensor(pixels, { dtype = "u8" }))
  image.save(("%s/masks/%02d.png"):format(folder, i), lumen.tensor(classes, { dtype = "u8" }))
end
local source = { kind = "folder", images = folder .. "/images", masks = folder .. "/masks", classes = 3 }

local function batches(augment, changes, epoch)
  local o = { source = source, size = side, batch = 5, channels = 1, seed = 3, augment = augment }
  for key, value in next, changes or {} do o[key] = value end
  local loader <close> = lumen.data.loader(o)
  local list = {}
  for batch in loader:epoch(epoch or 1) do list[#list + 1] = batch end
  return { image = lumen.cat({ list[1].image, list[2].image }, { dim = 1 }),
           mask = list[1].mask and lumen.cat({ list[1].mask, list[2].mask }, { dim = 1 }) }
end

local plain = batches(nil)
local everything = { rotate = 15, shift = 0.06, scale = 0.1, brightness = 0.2, contrast = 0.2 }

local function differ(a, b) return (a - b):abs():max():item() > 0 end

TestDraw = {}

function TestDraw.test_same_for_any_number_of_threads()
  local expected = batches(everything, { crop = { scale = { 0.5, 1 } }, flip = 0.5 })
  for _, threads in ipairs { 0, 3 } do
    local got = batches(everything, { crop = { scale = { 0.5, 1 } }, flip = 0.5, threads = threads })
    helper.assert_equal(got.image, expected.image)
    helper.assert_equal(got.mask, expected.mask)
  end
end

function TestDraw.test_depends_on_epoch_seed_and_item()
  local first = batches(everything)
  helper.assert_equal(batches(everything).image, first.image)
  lu.assertTrue(differ(batches(everything, {}, 2).image, first.image))
  lu.assertTrue(differ(batches(everything, { seed = 4 }).image, first.image))
  lu.assertTrue(differ(first.mask[1], first.mask[2])) -- of equal masks
end

-- The crop and the flip are what they are without augmentation, and the order of the rest.
function TestDraw.test_nothing_asked_for_changes_nothing()
  for _, augment in ipairs { {}, { rotate = 0, contrast = 0 }, { rotate = 90, brightness = 1, probability = 0 } } do
    local got = batches(augment, { flip = 0.5, crop = { scale = { 0.5, 1 } } })
    helper.assert_equal(got.image, batches(nil, { flip = 0.5, crop = { scale = { 0.5, 1 } } }).image)
    helper.assert_equal(got.mask, batches(nil, { flip = 0.5, crop = { scale = { 0.5, 1 } } }).mask)
  end
end

function TestDraw.test_probability()
  local moved, coloured = 0, 0
  for epoch = 1, 20 do
    local got = batches({ brightness = 0.5, shift = 0.5, probability = 0.3 }, {}, epoch)
    for i = 1, 10 do
      if differ(got.mask[i], plain.mask[i]) then moved = moved + 1
      elseif differ(got.image[i], plain.image[i]) then coloured = coloured + 1 end
    end
  end
  lu.assertTrue(moved > 40 and moved < 80, "moved " .. moved)             -- of 200, 60 expected
  lu.assertTrue(coloured > 24 and coloured < 62, "coloured " .. coloured) -- 42 expected
end

TestMove = {}

-- Image and mask are the same picture, so they still are one after the same map: the nearest
-- of four pixels has at least a quarter of the weight.
function TestMove.test_image_and_mask_alike()
  local same = { kind = "folder", images = folder .. "/white", masks = folder .. "/white" }
  fs.mkdir(same.images)
  local rows = {}
  for y = 1, side do
    rows[y] = {}
    for x = 1, side do rows[y][x] = ((x - 15) ^ 2 + (y - 22) ^ 2 < 90 or x > 40) and 255 or 0 end
  end
  for i = 1, 10 do image.save(("%s/%02d.png"):format(same.images, i), lumen.tensor(rows, { dtype = "u8" })) end
  local move = { rotate = 40, shift = 0.2, scale = 0.3 }
  local got = batches(move, { source = same, flip = 0.5 })
  local wrong = ((got.image - got.mask):abs():gt(0.752)):to("f32"):sum():item()
  lu.assertEquals(wrong, 0)
  lu.assertTrue(differ(got.mask, batches(nil, { source = same }).mask))
end

function TestMove.test_classes_stay_whole()
  for _, v in ipairs(batches({ rotate = 180, shift = 0.5, scale = 0.5 }).mask:reshape({ -1 }):totable()) do
    lu.assertTrue(v == 0 or v == 1 or v == 2 or v == 3)
  end
end

-- A disc about the centre does not change when it turns; a shift moves it by at most its limit,
-- a scale changes its area by at most the square of its limits.
local function disc_source()
  local path = folder .. "/disc"
  fs.mkdir(path)
  local rows = {}
  for y = 1, 96 do
    rows[y] = {}
    for x = 1, 96 do rows[y][x] = (x - 48.5) ^ 2 + (y - 48.5) ^ 2 < 400 and 255 or 0 end
  end
  for i = 1, 10 do image.save(("%s/%02d.png"):format(path, i), lumen.tensor(rows, { dtype = "u8" })) end
  return { kind = "folder", images = path, masks = path }
end

local function moments(mask) -- area and centre, 1-based
  local area, sx, sy = 0, 0, 0
  for y, row in ipairs(mask:totable()) do
    for x, v in ipairs(row) do
      area, sx, sy = area + v, sx + v * x, sy + v * y
    end
  end
  return area, sx / area, sy / area
end

function TestMove.test_limits()
  local disc = disc_source()
  local most = { shift = 0, grow = 0, turn = 0 }
  for epoch = 1, 6 do
    local shifted = batches({ shift = 0.1 }, { source = disc, size = 96 }, epoch).mask
    local scaled = batches({ scale = 0.2 }, { source = disc, size = 96 }, epoch).mask
    local turned = batches({ rotate = 180 }, { source = disc, size = 96 }, epoch).mask
    for i = 1, 10 do
      local area, x, y = moments(shifted[i][1])
      lu.assertEquals(area, 1264)
      most.shift = math.max(most.shift, math.abs(x - 48.5), math.abs(y - 48.5))
      area, x, y = moments(scaled[i][1])
      lu.assertTrue(math.abs(x - 48.5) < 0.5 and math.abs(y - 48.5) < 0.5)
      most.grow = math.max(most.grow, math.abs(math.sqrt(area / 1264) - 1))
      area, x, y = moments(turned[i][1])
      lu.assertTrue(math.abs(area - 1264) < 30 and math.abs(x - 48.5) < 0.5 and math.abs(y - 48.5) < 0.5)
    end
  end
  lu.assertTrue(most.shift > 8 and most.shift < 10.2, "shift " .. most.shift)
  lu.assertTrue(most.grow > 0.16 and most.grow < 0.21, "scale " .. most.grow)
end

-- A slope stays a slope, turned and as steep as the scale says.
function TestMove.test_a_slope_stays_one()
  local path = folder .. "/slope"
  fs.mkdir(path)
  local rows = {}
  for y = 1, side do
    rows[y] = {}
    for x = 1, side do rows[y][x] = 2 * x + 3 * y end
  end
  for i = 1, 10 do image.save(("%s/%02d.png"):format(path, i), lumen.tensor(rows, { dtype = "u8" })) end
  local got = batches({ rotate = 20, shift = 0.1, scale = 0.2 }, { source = { kind = "folder", images = path } })
  for i = 1, 10 do
    local v = (got.image[i][1] * 255):totable()
    local dx, dy = (v[24][32] - v[24][16]) / 16, (v[32][24] - v[16][24]) / 16
    local steep, turned = math.sqrt(dx * dx + dy * dy) / math.sqrt(13), math.deg(math.atan(dy, dx) - math.atan(3, 2))
    lu.assertTrue(steep > 1 / 1.22 and steep < 1 / 0.78 and math.abs(turned) < 21)
    for y = 14, 34 do
      for x = 14, 34 do
        lu.assertTrue(math.abs(v[24][24] + dx * (x - 24) + dy * (y - 24) - v[y][x]) < 2)
      end
    end
  end
end

-- What comes in over the edge is the mirrored image: no value that was not there.
function TestMove.test_edges_are_mirrored()
  local path = folder .. "/flat"
  fs.mkdir(path)
  for i = 1, 10 do image.save(("%s/%02d.png"):format(path, i), lumen.full({ side, side }, 77):to("u8")) end
  local got = batches({ rotate = 180, shift = 1, scale = 0.9 }, { source = { kind = "folder", images = path,
    masks = source.masks, classes = 3 } }).image
  lu.assertEquals({ (got * 255):min():item(), (got * 255):max():item() }, { 77, 77 })
end

TestGrey = {}

-- v becomes contrast * v + brightness: two numbers explain all pixels.
function TestGrey.test_brightness_and_contrast()
  local got = batches({ brightness = 0.2, contrast = 0.3 })
  helper.assert_equal(got.mask, plain.mask)
  local gain, offset = {}, {}
  for i = 1, 10 do
    local points = {}
    local a, b = (plain.image[i] * 255):reshape({ -1 }):totable(), (got.image[i] * 255):reshape({ -1 }):totable()
    for k = 1, #a do
      if b[k] > 0.5 and b[k] < 254.5 then points[#points + 1] = { a[k], b[k] } end
    end
    table.sort(points, function(p, q) return p[1] < q[1] end)
    local low, high = points[1], points[#points]
    gain[i] = (high[2] - low[2]) / (high[1] - low[1])
    offset[i] = low[2] - gain[i] * low[1]
    for _, p in ipairs(points) do
      lu.assertTrue(math.abs(gain[i] * p[1] + offset[i] - p[2]) < 1.5)
    end
    lu.assertTrue(gain[i] > 0.68 and gain[i] < 1.32 and math.abs(offset[i]) < 53)
  end
  table.sort(gain)
  lu.assertTrue(gain[10] - gain[1] > 0.2)
end

TestErrors = {}

function TestErrors.test_options()
  local function loader(augment) return lumen.data.loader { source = source, augment = augment } end
  fails("unknown option 'rotat'", loader, { rotat = 1 })
  fails("augment: rotate must be 0 to 180.0, not -1.0", loader, { rotate = -1 })
  fails("augment: scale must be 0 to 0.9, not 1.0", loader, { scale = 1 })
  fails("augment: shift must be 0 to 1.0, not ", loader, { shift = 0 / 0 })
  fails("augment must be a table", loader, true)
  loader(false):close()
end

helper.run()
