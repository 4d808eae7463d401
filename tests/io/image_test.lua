-- Pictures in files: formats, conversions, and files that are damaged on purpose.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"

local fixtures = "tests/fixtures/"
local folder = helper.temporary_folder()

-- The fixtures' value at row y, column x, channel c, counted from 0 (make_images.py).
local function value(y, x, c) return (7 * y + 13 * x + 50 * c) % 256 end

local function colour(change)
  local rows = {}
  for y = 1, 6 do
    rows[y] = {}
    for x = 1, 5 do
      rows[y][x] = {}
      for c = 1, 3 do rows[y][x][c] = (change or function(v) return v end)(value(y - 1, x - 1, c - 1)) end
    end
  end
  return rows
end

local function grey(change)
  local rows = {}
  for y, row in ipairs(colour(change)) do
    rows[y] = {}
    for x, pixel in ipairs(row) do rows[y][x] = pixel[1] end
  end
  return rows
end

local function load(name, options) return lumen.image.load(fixtures .. name, options) end

local function fails(text, fn, ...)
  local ok, message = pcall(fn, ...)
  lu.assertFalse(ok)
  lu.assertStrContains(tostring(message), text)
end

-- Sequence of numbers below n, the same everywhere.
local function noise(seed)
  local state = seed
  return function(n)
    state = (state * 6364136223846793005 + 1442695040888963407)
    return (state >> 33) % n
  end
end

TestRead = {}

function TestRead.test_png()
  local x = load "grey.png"
  lu.assertEquals(x.dtype, "u8")
  lu.assertEquals(x:totable(), grey())
  lu.assertEquals(load("colour.png"):totable(), colour())
  lu.assertEquals(load("alpha.png"):totable(), colour())
end

function TestRead.test_palette_becomes_colour()
  local x = load "palette.png":totable()
  local wheel = { [0] = { 0, 0, 0 }, { 255, 0, 0 }, { 0, 255, 0 }, { 0, 0, 255 } }
  for y = 1, 6 do
    for c = 1, 5 do lu.assertEquals(x[y][c], wheel[value(y - 1, c - 1, 0) // 64]) end
  end
end

function TestRead.test_16_bits()
  lu.assertEquals(load("grey16.png"):totable(), grey(function(v) return (256 * v + 7 + 128) // 257 end))
  local x = load("grey16.png", { dtype = "f32" })
  lu.assertEquals(x.dtype, "f32")
  lu.assertAlmostEquals(x[6][5]:item(), (256 * value(5, 4, 0) + 7) / 65535, 1e-7)
end

function TestRead.test_jpeg_and_bmp()
  for _, name in ipairs { "blocks.jpg", "progressive.jpg" } do
    local x = load(name)
    lu.assertEquals(x.shape, { 48, 40 })
    local rows = x:totable()
    for y = 1, 48 do
      for c = 1, 40 do
        local expected = value((y - 1) // 8, (c - 1) // 8, 0) // 16 * 16
        lu.assertTrue(math.abs(rows[y][c] - expected) <= 2, name)
      end
    end
  end
  lu.assertEquals(load("colour.bmp"):totable(), colour())
end

function TestRead.test_pnm_plain_and_binary()
  local decode = lumen.image.decode
  lu.assertEquals(decode("P2\n# a comment\n3 2 # here too\n15\n0 1 2\n3 4 15\n"):totable(),
    { { 0, 17, 34 }, { 51, 68, 255 } })
  lu.assertEquals(decode("P3 1 2 255 1 2 3 4 5 255"):totable(), { { { 1, 2, 3 } }, { { 4, 5, 255 } } })
  lu.assertEquals(decode("P5\n2 2\n255\n\0\1\2\255"):totable(), { { 0, 1 }, { 2, 255 } })
  lu.assertEquals(decode("P5\n2 1\n100\n\0\100"):totable(), { { 0, 255 } })
  lu.assertEquals(decode("P6 1 1 255\n\7\8\9"):totable(), { { { 7, 8, 9 } } })
  local deep = decode("P5 2 1 65535\n\0\0\128\0", { dtype = "f32" })
  lu.assertAlmostEquals(deep[1][2]:item(), 32768 / 65535, 1e-7)
end

function TestRead.test_grey_is_luma()
  local rows = load("colour.png", { grey = true }):totable()
  for y = 1, 6 do
    for x = 1, 5 do
      local r, g, b = value(y - 1, x - 1, 0), value(y - 1, x - 1, 1), value(y - 1, x - 1, 2)
      lu.assertEquals(rows[y][x], (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16)
    end
  end
end

function TestRead.test_grey_equals_pillow()
  local all = lumen.load(helper.need_shared "golden/e_ops.safetensors")
  lumen.image.save(folder .. "/rgb.ppm", all["pil.rgb"])
  helper.assert_equal(lumen.image.load(folder .. "/rgb.ppm", { grey = true }), all["pil.rgb_to_L"])
end

function TestRead.test_messages_name_the_file()
  fails("nowhere.png: cannot open: No such file", lumen.image.load, "nowhere.png")
  fails("make_images.py: neither PNG", load, "make_images.py")
  fails("is a directory", lumen.image.load, "tests")
  fails("dtype must be", load, "grey.png", { dtype = "f64" })
  fails("gray", load, "grey.png", { gray = true })
end

TestWrite = {}

function TestWrite.test_round_trips()
  for _, name in ipairs { "a.png", "a.ppm", "A.PNG" } do
    local x = lumen.tensor(colour(), { dtype = "u8" })
    lumen.image.save(folder .. "/" .. name, x)
    helper.assert_equal(lumen.image.load(folder .. "/" .. name), x)
  end
  for _, name in ipairs { "g.png", "g.pgm" } do
    local x = lumen.tensor(grey(), { dtype = "u8" })
    lumen.image.save(folder .. "/" .. name, x)
    helper.assert_equal(lumen.image.load(folder .. "/" .. name), x)
  end
end

function TestWrite.test_views_and_floats()
  local x = lumen.tensor(grey(), { dtype = "u8" })
  lumen.image.save(folder .. "/t.png", x:transpose(1, 2))
  helper.assert_equal(lumen.image.load(folder .. "/t.png"), x:transpose(1, 2))
  lumen.image.save(folder .. "/f.png", lumen.tensor { { -1, 0, 0.5 }, { 1, 2, 0.2 } })
  lu.assertEquals(lumen.image.load(folder .. "/f.png"):totable(), { { 0, 0, 128 }, { 255, 255, 51 } })
end

function TestWrite.test_jpeg_is_close()
  local x = lumen.full({ 16, 24 }, 100, { dtype = "u8" })
  lumen.image.save(folder .. "/x.jpg", x, { quality = 90 })
  local y = lumen.image.load(folder .. "/x.jpg", { grey = true })
  helper.assert_close(y:to("f32"), x:to("f32"), 0.02)
end

function TestWrite.test_errors()
  local x = lumen.tensor(grey(), { dtype = "u8" })
  fails("x.gif", lumen.image.save, folder .. "/x.gif", x)
  fails("quality 0", lumen.image.save, folder .. "/x.jpg", x, { quality = 0 })
  fails("[3 x 4 x 4]", lumen.image.save, folder .. "/x.png", lumen.zeros(3, 4, 4))
  fails("NaN", lumen.image.save, folder .. "/x.png", lumen.full({ 2, 2 }, 0 / 0))
  fails("cannot write", lumen.image.save, folder .. "/no/such/folder/x.png", x)
end

TestHostile = {}

local names = { "grey.png", "colour.png", "grey16.png", "alpha.png", "palette.png", "blocks.jpg",
                "progressive.jpg", "colour.bmp" }

function TestHostile.test_cut_files_are_errors()
  for _, name in ipairs(names) do
    local bytes = lumen.fs.read(fixtures .. name)
    for n = 0, #bytes - 1 do
      lu.assertFalse(pcall(lumen.image.decode, bytes:sub(1, n)), name .. " cut to " .. n)
    end
  end
  local pgm = "P5\n2 2\n255\n\0\1\2\255"
  for n = 0, #pgm - 1 do lu.assertFalse(pcall(lumen.image.decode, pgm:sub(1, n))) end
end

function TestHostile.test_flipped_bytes_never_crash()
  local random = noise(1)
  for _, name in ipairs(names) do
    local bytes = lumen.fs.read(fixtures .. name)
    for _ = 1, 500 do
      local damaged = bytes
      for _ = 1, 1 + random(3) do
        local at = 1 + random(#bytes)
        damaged = damaged:sub(1, at - 1) .. string.char(random(256)) .. damaged:sub(at + 1)
      end
      pcall(lumen.image.decode, damaged)
    end
  end
end

function TestHostile.test_damaged_png_is_noticed()
  local bytes = lumen.fs.read(fixtures .. "colour.png")
  for at = 9, #bytes do -- behind the signature every byte is under a checksum or a length
    local damaged = bytes:sub(1, at - 1) .. string.char(bytes:byte(at) ~ 1) .. bytes:sub(at + 1)
    lu.assertFalse(pcall(lumen.image.decode, damaged), "byte " .. at)
  end
end

function TestHostile.test_claimed_sizes()
  local decode = lumen.image.decode
  fails("over the limit", decode, "P5 100000 1 255\n\0")
  fails("ends before", decode, "P5 16384 16384 255\n\0")
  fails("missing or over", decode, "P5 1 1 100\n\101")
  fails("bad PNM header", decode, "P5 99999999999999999999 1 255\n\0")
  fails("bad PNM header", decode, "P5 2 2 0\n\0\0\0\0")
  fails("bad PNM header", decode, "P5 2 2 70000\n\0\0\0\0")
  fails("0 x 2", decode, "P5 2 0 255\n ")
  fails("are no picture", decode, "")
  -- a JPEG frame of 16384 x 16384 pixels and nothing in it
  fails("cannot hold", decode, "\255\216\255\192\0\11\8\64\0\64\0\1\1\17\0\255\217")
end

function TestHostile.test_jpeg_with_too_many_codes()
  local codes = ("\255"):rep(16)
  -- a table that claims 4080 codes
  local bytes = "\255\216\255\196" .. string.pack(">I2", 2 + 17 + 4080) .. "\0" .. codes ..
      ("\1"):rep(4080) .. "\255\217"
  fails("JPEG is damaged", lumen.image.decode, bytes)
end

helper.run()
