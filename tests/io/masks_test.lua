-- What image and mask files may hold, and what is an error: depths, colours, odd values, class
-- numbers, sizes, missing files.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local fs, image = lumen.fs, lumen.image

local folder = helper.temporary_folder()
local images, masks = folder .. "/images", folder .. "/masks"

local function fails(text, fn, ...)
  local ok, message = pcall(fn, ...)
  lu.assertFalse(ok, "no error with " .. text)
  lu.assertStrContains(tostring(message), text)
end

-- A grey picture of 16 bits: PGM is the format that is written by hand.
local function pgm16(path, rows)
  local parts = { ("P5\n%d %d\n65535\n"):format(#rows[1], #rows) }
  for _, row in ipairs(rows) do
    for _, v in ipairs(row) do parts[#parts + 1] = string.pack(">I2", v) end
  end
  fs.write(path, table.concat(parts))
end

local grey = { { 10, 200 }, { 30, 40 } }

local function u8(rows) return lumen.tensor(rows, { dtype = "u8" }) end

-- A folder of one picture a.png of 2 x 2 and its mask, written by write(path without extension).
local function source(write, changes)
  for _, path in ipairs { images, masks } do
    fs.mkdir(path)
    for _, name in ipairs(fs.list(path)) do fs.remove(path .. "/" .. name) end
  end
  image.save(images .. "/a.png", u8(grey))
  write(masks .. "/a")
  local s = { kind = "folder", images = images, masks = masks }
  for key, value in next, changes or {} do s[key] = value end
  return s
end

local function mask_of(s)
  local loader <close> = lumen.data.loader { source = s, size = 2, channels = 1 }
  return loader:epoch(1)().mask[1][1]:totable()
end

local function png(rows) return function(path) image.save(path .. ".png", u8(rows)) end end

local function deep(rows) return function(path) pgm16(path .. ".pgm", rows) end end

TestMask = {}

function TestMask.test_values()
  lu.assertEquals(mask_of(source(png { { 0, 1 }, { 1, 0 } })), { { 0, 1 }, { 1, 0 } })
  lu.assertEquals(mask_of(source(png { { 0, 255 }, { 127, 128 } })), { { 0, 1 }, { 0, 1 } })
  lu.assertEquals(mask_of(source(png { { 0, 1 }, { 255, 2 } })), { { 0, 0 }, { 1, 0 } })
  lu.assertEquals(mask_of(source(png { { 0, 0 }, { 0, 0 } })), { { 0, 0 }, { 0, 0 } })
  lu.assertEquals(mask_of(source(png { { 255, 255 }, { 255, 255 } })), { { 1, 1 }, { 1, 1 } })
end

function TestMask.test_values_that_would_be_lost()
  for _, v in ipairs { 2, 100, 127 } do
    fails(masks .. "/a.png: the largest value of the mask is " .. v, mask_of, source(png { { 0, 1 }, { v, 0 } }))
  end
end

function TestMask.test_16_bits()
  lu.assertEquals(mask_of(source(deep { { 0, 1 }, { 1, 0 } })), { { 0, 1 }, { 1, 0 } })
  lu.assertEquals(mask_of(source(deep { { 0, 65535 }, { 32767, 32768 } })), { { 0, 1 }, { 0, 1 } })
  fails(masks .. "/a.pgm: the largest value of the mask is 255", mask_of, source(deep { { 0, 255 }, { 0, 0 } }))
end

function TestMask.test_colour()
  local function rgb(path_values)
    return function(path) image.save(path .. ".png", u8(path_values)) end
  end
  local white, black = { 255, 255, 255 }, { 0, 0, 0 }
  lu.assertEquals(mask_of(source(rgb { { white, black }, { black, white } })), { { 1, 0 }, { 0, 1 } })
  lu.assertEquals(mask_of(source(rgb { { { 250, 255, 240 }, black }, { { 9, 0, 3 }, white } })),
    { { 1, 0 }, { 0, 1 } })
  fails(masks .. "/a.png: a coloured mask (255, 0, 0 at row 1, column 0, from 0)", mask_of,
    source(rgb { { white, black }, { { 255, 0, 0 }, white } }))
end

function TestMask.test_class_numbers()
  lu.assertEquals(mask_of(source(png { { 0, 1 }, { 3, 2 } }, { classes = 3 })), { { 0, 1 }, { 3, 2 } })
  lu.assertEquals(mask_of(source(deep { { 0, 1 }, { 3, 2 } }, { classes = 3 })), { { 0, 1 }, { 3, 2 } })
  fails(masks .. "/a.png: 4 at row 1, column 0 (from 0); the mask is to hold classes 0 to 3", mask_of,
    source(png { { 0, 1 }, { 4, 2 } }, { classes = 3 }))
  fails("classes must be 0 to 254, not 255", mask_of, source(png(grey), { classes = 255 }))
end

function TestMask.test_classes_of_sources_agree()
  local s = source(png { { 0, 1 }, { 1, 0 } }, { classes = 3 })
  local other = { kind = "folder", images = images, masks = masks }
  fails("sources whose masks hold 3 and 0 classes", mask_of, { s, other })
  lu.assertEquals(mask_of { s, s }, { { 0, 1 }, { 1, 0 } })
end

function TestMask.test_size()
  fails(("%s/a.png: the mask is 1 x 2 but its image %s/a.png is 2 x 2"):format(masks, images), mask_of,
    source(png { { 0, 255 } }))
end

function TestMask.test_missing_and_broken()
  fails(("%s/a.png has no mask in %s"):format(images, masks), mask_of, source(function() end))
  fails(masks .. "/a.png: ", mask_of, source(function(path) fs.write(path .. ".png", "no picture") end))
  local list = folder .. "/list.csv"
  source(png(grey))
  fs.write(list, "image,mask\nimages/a.png,masks/none.png\n")
  fails(masks .. "/none.png: cannot open", mask_of, { kind = "list", path = list })
end

TestImage = {}

local function image_of(path)
  local loader <close> = lumen.data.loader { source = { kind = "files", files = { path } }, size = 2, channels = 1 }
  return (loader:epoch(1)().image[1][1] * 255):totable()
end

function TestImage.test_16_bits_are_reduced_over_their_full_range()
  pgm16(folder .. "/deep.pgm", { { 0, 257 * 3 }, { 65535, 257 * 100 } })
  lu.assertEquals(image_of(folder .. "/deep.pgm"), { { 0, 3 }, { 255, 100 } })
end

function TestImage.test_16_bits_that_are_12()
  local path = folder .. "/twelve.pgm"
  pgm16(path, { { 0, 4095 }, { 100, 30 } })
  fails(path .. ": 16 bits per pixel, but no value above 4095 of 65535", image_of, path)
  pgm16(path, { { 0, 0 }, { 0, 0 } })
  lu.assertEquals(image_of(path), { { 0, 0 }, { 0, 0 } })
end

function TestImage.test_colour_becomes_grey()
  image.save(folder .. "/colour.png", u8 { { { 255, 0, 0 }, { 0, 255, 0 } }, { { 0, 0, 255 }, { 9, 9, 9 } } })
  lu.assertEquals(image_of(folder .. "/colour.png"), { { 76, 150 }, { 29, 9 } })
end

helper.run()
