-- Packs: written and read by the loader, splits, shards, the command, and files that are cut,
-- changed or forged.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local fs, image, data = lumen.fs, lumen.image, lumen.data
local pack = require "lumen.pack"

local folder = helper.temporary_folder()

local function fails(text, fn, ...)
  local ok, message = pcall(fn, ...)
  lu.assertFalse(ok, "no error with " .. text)
  lu.assertStrContains(tostring(message), text)
end

-- A folder of count phantoms of 64 pixels with masks (or class masks), and some of 40 x 80.
local function pictures(name, count, change)
  local root = folder .. "/" .. name
  fs.mkdir(root .. "/images")
  fs.mkdir(root .. "/masks")
  local loader <close> = data.loader { source = { kind = "phantom", count = count, size = 64 }, size = 64, channels = 1 }
  local i = 0
  for batch in loader:epoch(1) do
    i = i + 1
    local x, m = batch.image[1][1], (batch.mask[1][1] * 255):to("u8")
    if i % 4 == 0 then x, m = x:slice(1, 1, 40), m:slice(1, 1, 40) end
    image.save(("%s/images/%02d.png"):format(root, i), x)
    image.save(("%s/masks/%02d.png"):format(root, i), change and change(m, i) or m)
  end
  return root
end

local function command(...)
  local lines, original = {}, print
  print = function(...) lines[#lines + 1] = table.concat({ ... }, "\t") end
  local ok, result = pcall(require "lumen.commands.pack", ...)
  print = original
  if not ok then error(result, 0) end
  return table.concat(lines, "\n")
end

local function batch_of(source, options)
  local o = { source = source, batch = 100, size = 64, channels = 1 }
  for key, value in next, options or {} do o[key] = value end
  local loader <close> = data.loader(o)
  local names = {}
  for i = 1, #loader do names[i] = loader:name(i) end
  return loader:epoch(1)(), names
end

local plain = pictures("plain", 10)
local plain_source = { kind = "folder", images = plain .. "/images", masks = plain .. "/masks" }
local packed = folder .. "/plain.pack"
command("data=" .. plain, "out=" .. packed, "size=64")

TestRead = {}

function TestRead.test_same_as_the_files()
  local got, names = batch_of { kind = "pack", path = packed }
  local expected = batch_of(plain_source)
  helper.assert_equal(got.mask, expected.mask)
  local d = (got.image - expected.image):abs()
  lu.assertTrue(d:mean():item() < 0.01 and d:max():item() < 0.2) -- JPEG, quality 90
  lu.assertEquals(names[3], packed .. "/plain/images/03.png")
end

function TestRead.test_splits_are_those_of_the_dataset()
  for split, count in next, { train = 7, test = 3, all = 10 } do
    local source, subset = data.source(packed, { split = split })
    local other, items = data.source(plain, { split = split })
    lu.assertEquals(subset.shape, { count })
    local loader <close> = data.loader { source = source, subset = subset, batch = 10, size = 64 }
    local files <close> = data.loader { source = other, subset = items, batch = 10, size = 64 }
    helper.assert_equal(loader:epoch(1)().mask, files:epoch(1)().mask, split)
  end
  fails("has no split val", data.source, packed, { split = "val" })
  fails("no split val; there is train, test", data.loader, { source = { kind = "pack", path = packed, split = "val" } })
end

function TestRead.test_any_number_of_threads_and_pseudo_masks()
  local options = { pseudo_mask = true, vessel = { border = 2 }, shuffle = true, flip = 0.5, memory = 0,
                    crop = { scale = { 0.5, 1 } }, cache = folder .. "/cache" }
  local expected = batch_of({ kind = "pack", path = packed }, options)
  lu.assertTrue(expected.vessel_mask:sum():item() > 0)
  for _, threads in ipairs { 0, 4 } do
    options.threads, options.cache = threads, nil
    local got = batch_of({ kind = "pack", path = packed }, options)
    for _, field in ipairs { "image", "mask", "vessel_mask", "index" } do
      helper.assert_equal(got[field], expected[field], field)
    end
  end
  lu.assertEquals(#fs.list(folder .. "/cache"), 10)
end

function TestRead.test_without_masks()
  local got = batch_of { kind = "pack", path = packed, masks = false }
  lu.assertNil(got.mask)
  local bare = folder .. "/bare.pack"
  command("data=" .. plain, "out=" .. bare, "size=64", "split=pool")
  got = batch_of { kind = "pack", path = bare }
  lu.assertNil(got.mask)
  lu.assertEquals(got.image.shape, { 10, 1, 64, 64 })
  local _, subset = data.source(bare, { split = "pool" })
  lu.assertEquals(subset.shape, { 10 })
  fails("has no mask but images before it have one", data.loader,
    { source = { { kind = "pack", path = packed }, { kind = "pack", path = bare } } })
end

function TestRead.test_classes()
  local root = pictures("classes", 4, function(m, i)
    return (m:to("f32") / 255 * i):to("u8")
  end)
  local source = { kind = "folder", images = root .. "/images", masks = root .. "/masks", classes = 4 }
  local packer <close> = require("lumen.core").data.packer(folder .. "/c.pack")
  local loader <close> = data.loader { source = source, size = 64 }
  for i = 1, 4 do packer:add(loader, i, "x" .. i, { size = 64 }) end
  packer:commit '{"classes": 4, "parts": [{"split": "train", "count": 4}]}'
  local got = batch_of { kind = "pack", path = folder .. "/c.pack" }
  helper.assert_equal(got.mask, batch_of(source).mask)
  lu.assertEquals(got.mask:max():item(), 4.0)
end

TestJpeg = {}

-- Pictures through a pack, and how far what comes out is from them, on average and at most.
local function through(pictures_, quality)
  local path = folder .. "/jpeg.pack"
  for i, x in ipairs(pictures_) do image.save(("%s/jpeg%d.png"):format(folder, i), x) end
  local worst, mean = 0, 0
  for i, x in ipairs(pictures_) do
    local loader <close> = data.loader { source = { kind = "files", files = { ("%s/jpeg%d.png"):format(folder, i) } } }
    local packer <close> = require("lumen.core").data.packer(path)
    packer:add(loader, 1, "x", { size = 4096, quality = quality })
    packer:commit '{"classes": 0, "parts": [{"split": "train", "count": 1}]}'
    local h, w = x.shape[1], x.shape[2]
    local side = math.max(h, w)
    local read <close> = data.loader { source = { kind = "pack", path = path }, size = side, channels = 1, filter = "nearest" }
    local files <close> = data.loader { source = { kind = "files", files = { ("%s/jpeg%d.png"):format(folder, i) } },
      size = side, channels = 1, filter = "nearest" }
    local d = ((read:epoch(1)().image - files:epoch(1)().image) * 255):abs()
    worst, mean = math.max(worst, d:max():item()), math.max(mean, d:mean():item())
  end
  return mean, worst
end

local function noise(h, w, low, high)
  return lumen.rand({ h, w }, { low = low, high = high, rng = { seed = h * 100 + w, stream = "noise" } }):floor():to("u8")
end

function TestJpeg.test_all_shapes()
  local list = {}
  for i, shape in ipairs { { 1, 1 }, { 8, 8 }, { 7, 9 }, { 17, 5 }, { 1, 40 }, { 33, 64 } } do
    list[i] = noise(shape[1], shape[2], 0, 256)
  end
  local mean, worst = through(list, 100)
  lu.assertTrue(mean < 0.8 and worst < 4, mean .. " " .. worst)
end

function TestJpeg.test_flat_and_extreme()
  local board = {}
  for y = 1, 16 do
    board[y] = {}
    for x = 1, 16 do board[y][x] = (x + y) % 2 * 255 end
  end
  local list = { lumen.full({ 20, 20 }, 0):to("u8"), lumen.full({ 20, 20 }, 255):to("u8"),
                 lumen.tensor(board, { dtype = "u8" }), (noise(64, 64, 0, 2):to("f32") * 255):to("u8") }
  for _, quality in ipairs { 100, 90, 1 } do
    local mean = through({ list[1], list[2] }, quality)
    lu.assertTrue(mean < 9, quality .. ": " .. mean)
  end
  local mean = through(list, 100)
  lu.assertTrue(mean < 0.8, mean)
end

-- As far from the picture as the JPEG of lumen.image.save, which has the same steps, and smaller.
function TestJpeg.test_beside_the_other_encoder()
  local loader <close> = data.loader { source = { kind = "phantom", count = 1, size = 256 }, size = 256, channels = 1 }
  local x = (loader:epoch(1)().image[1][1] * 255 + 0.5):floor():to("u8")
  local mean = through({ x }, 90)
  image.save(folder .. "/other.jpg", x, { quality = 90 })
  local other = image.load(folder .. "/other.jpg", { grey = true })
  local d = (other:to("f32") - x:to("f32")):abs():mean():item()
  lu.assertTrue(math.abs(mean - d) < 0.1 * d, mean .. " " .. d)
  lu.assertTrue(fs.stat(folder .. "/jpeg.pack").size < 0.95 * fs.stat(folder .. "/other.jpg").size)
end

TestWrite = {}

function TestWrite.test_size()
  command("data=" .. plain, "out=" .. folder .. "/small.pack", "size=20", "quality=50")
  local about = pack.about(folder .. "/small.pack")
  lu.assertEquals({ about.size, about.quality, about.images, about.classes, about.from }, { 20, 50, 10, 0, plain })
  lu.assertEquals(about.parts[1], { split = "train", count = 7 })
  -- 64 x 64 becomes 20 x 20, 40 x 64 becomes 20 x 32; read at the size they have, nothing is lost
  local got = batch_of({ kind = "pack", path = folder .. "/small.pack" }, { size = 20 })
  local expected = batch_of(plain_source, { size = 20 })
  helper.assert_equal(got.mask:slice(1, 1, 3), expected.mask:slice(1, 1, 3))
  command("data=" .. plain, "out=" .. folder .. "/large.pack", "size=512") -- nothing is enlarged
  helper.assert_equal(batch_of({ kind = "pack", path = folder .. "/large.pack" }).mask, batch_of(plain_source).mask)
end

function TestWrite.test_a_folder_of_packs()
  local out = folder .. "/shards"
  lu.assertStrContains(command("data=" .. plain, "out=" .. out, "images=4", "size=64"), "in 3 files")
  lu.assertEquals(fs.list(out), { "0001.pack", "0002.pack", "0003.pack" })
  local source, subset = data.source(out, { split = "all" })
  local loader <close> = data.loader { source = source, subset = subset, batch = 10, size = 64, channels = 1 }
  helper.assert_equal(loader:epoch(1)().mask, batch_of(plain_source).mask)
  local _, test = data.source(out, { split = "test" })
  lu.assertEquals(test.shape, { 3 })
  fs.remove(out .. "/0002.pack")
  fails("0001.pack: pack 1 of 3, but 1 of 2 in its folder", data.source, out, { split = "all" })
end

function TestWrite.test_nothing_is_left_of_a_failure()
  local root = pictures("damaged", 4)
  fs.write(root .. "/images/03.png", "no picture")
  fails("images/03.png", command, "data=" .. root, "out=" .. folder .. "/damaged.pack")
  for _, name in ipairs(fs.list(folder)) do lu.assertNil(name:match("damaged%.pack")) end
end

function TestWrite.test_errors()
  fails("plain.pack is there already", command, "data=" .. plain, "out=" .. packed)
  fails("data= is missing", command, "out=x.pack")
  fails("out= is missing", command, "data=" .. plain)
  fails("did you mean quality?", command, "qualty=3")
  fails("option quality: 101 is not an integer from 1 to 100", command, "quality=101")
  fails("there is nothing to pack", command, "data=" .. plain, "out=" .. folder .. "/x.pack", "split=val")
  fails("there is no dataset and no folder nowhere", command, "data=nowhere", "out=" .. folder .. "/x.pack")
  lu.assertStrContains(command "--help", "quality=90")
end

-- ---- hostile files -------------------------------------------------------------------------

TestBroken = {}

local whole = fs.read(packed)
local bad = folder .. "/bad.pack"

local function write(text)
  local file <close> = assert(io.open(bad, "wb"))
  file:write(text)
end

local function read_all() return batch_of({ kind = "pack", path = bad }, { threads = 0 }) end

local index, index_size, _, about_size, count = string.unpack("<I8 I8 I8 I4 I4", whole, #whole - 39)

-- The pack with another index, its checksum made right.
local function forged(change, footer)
  local text = change(whole:sub(index + 1, index + index_size))
  fs.write(bad .. ".index", text)
  local hash = tonumber("0x" .. fs.hash(bad .. ".index"))
  local f = { index, #text, hash, about_size, count }
  for i, value in next, footer or {} do f[i] = value end
  write(whole:sub(1, index) .. text .. string.pack("<I8 I8 I8 I4 I4", table.unpack(f)) .. "LUMENPK1")
end

local function keep(text) return text end

-- Field of entry `entry` (0-based) of the index, as string.pack writes it.
local function field(entry, offset, format, value)
  return function(text)
    local at, bytes = about_size + 32 * entry + offset, string.pack(format, value)
    return text:sub(1, at) .. bytes .. text:sub(at + #bytes + 1)
  end
end

function TestBroken.test_the_forger_works()
  forged(keep)
  read_all()
end

function TestBroken.test_cut()
  for cut = 0, #whole - 1, 997 do
    write(whole:sub(1, cut))
    fails(bad .. ": ", read_all)
  end
  write(whole .. "x")
  fails("the pack is cut off, or something follows it", read_all)
  write(whole:sub(1, -2))
  fails("the pack is cut off", read_all)
  write("")
  fails("not a pack", read_all)
end

function TestBroken.test_changed_bytes()
  for at = 9, #whole, helper.sanitized and 401 or 101 do
    write(whole:sub(1, at - 1) .. string.char(whole:byte(at) ~ 0x11) .. whole:sub(at + 1))
    fails(bad .. ": ", read_all)
  end
end

function TestBroken.test_damaged_entry_is_named()
  write(whole:sub(1, 2000) .. "!!" .. whole:sub(2003))
  local ok, message = pcall(read_all)
  lu.assertFalse(ok)
  lu.assertStrMatches(tostring(message), ".*bad%.pack: entry %d %(plain/images/%d+%.png%): damaged %(wrong checksum%).*")
end

function TestBroken.test_footer()
  for _, f in ipairs { { 7 }, { #whole }, { -1 }, { 0x7fffffffffffffff } } do
    forged(keep, f)
    fails("the index is not where the pack says", read_all)
  end
  forged(keep, { [2] = index_size + 1 })
  fails("the index is not where the pack says", read_all)
  forged(keep, { [4] = 0xffffffff })
  fails("the index is smaller than its entries", read_all)
  forged(keep, { [5] = 0xffffffff })
  fails("the index is smaller than its entries", read_all)
  forged(keep, { [5] = 9 })
  fails("bad.pack: ", read_all)
end

function TestBroken.test_records()
  local function entry(...)
    forged(field(...))
    fails("bad.pack: entry 1: ", read_all)
  end
  entry(1, 0, "<I8", 8)          -- offset: overlaps the entry before
  entry(1, 0, "<I8", -1)
  entry(1, 8, "<I4", 0)          -- no image
  entry(1, 8, "<I4", 0xffffffff) -- larger than the file
  entry(1, 12, "<I4", 0xffffffff)
  entry(1, 24, "<I4", 0xffffff)  -- name
  entry(1, 28, "<I2", 0)         -- height
  forged(field(1, 28, "<I2", 65))
  fails("bad.pack: entry 1 (plain/images/02.png): 64 x 64 pixels of 8 bits where the index says 65 x 64", read_all)
  forged(field(1, 8, "<I4", 100)) -- bytes that are left over
  fails("bad.pack: entry 2: ", read_all)
  forged(function(text) return text:sub(1, -2) .. "x" end)
  fails("the names of the entries are cut off", read_all)
end

function TestBroken.test_about()
  local function about(expected, text)
    local old = about_size
    about_size = #text
    forged(function(index_text) return text .. index_text:sub(old + 1) end)
    about_size = old
    fails(expected, read_all)
  end
  about("bad JSON", "{")
  about("says nothing about its parts", '{"classes": 0}')
  about("says nothing about its parts", '{"classes": 0, "parts": 3}')
  about("classes is not 0 to 254", '{"parts": []}')
  about("classes is not 0 to 254", '{"classes": 255, "parts": []}')
  about("the parts are not all entries", '{"classes": 0, "parts": [{"split": "train", "count": 9}]}')
  about("a part without a split or with a wrong count", '{"classes": 0, "parts": [{"split": "train", "count": 11}]}')
  about("a part without a split", '{"classes": 0, "parts": [{"count": 10}]}')
  about("a part without a split", '{"classes": 0, "parts": [7]}')
  -- masks of 0 and 255 that are said to hold classes
  about("the mask is to hold classes 0 to 3", '{"classes": 3, "parts": [{"split": "train", "count": 10}]}')
end

-- A picture that claims to be huge inside an entry whose checksum is right.
function TestBroken.test_giant_picture()
  local at = 9
  local size = string.unpack("<I4", whole, index + about_size + 9)
  local head = whole:sub(at, at + size - 1)
  local sof = head:find("\xff\xc0", 1, true)
  local giant = head:sub(1, sof + 4) .. string.pack(">I2 I2", 16000, 16000) .. head:sub(sof + 9)
  local mask = string.unpack("<I4", whole, index + about_size + 13)
  local entry = giant .. whole:sub(at + size, at + size + mask - 1)
  fs.write(bad .. ".entry", entry)
  local hash = tonumber("0x" .. fs.hash(bad .. ".entry"))
  forged(field(0, 16, "<I8", hash))
  local text = fs.read(bad)
  write(text:sub(1, 8) .. entry .. text:sub(9 + #entry))
  fails("cannot hold 16000 x 16000 pixels", read_all)
end

helper.run()
