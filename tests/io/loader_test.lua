-- The loader: batches do not depend on threads, memory or where an epoch is entered; items
-- from folders, lists and the phantom; crops; the cache of pseudo-masks; broken files; loaders
-- that are left in the middle of their work.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local fs, image = lumen.fs, lumen.image

local folder = helper.temporary_folder()

-- ---- pictures ------------------------------------------------------------------------------

local function noise(height, width, seed)
  local rng = { seed = seed, stream = "picture" }
  return lumen.rand({ height, width }, { low = 0, high = 256, rng = rng }):floor():to("u8")
end

-- Black and white, so that its mask is the picture itself.
local function black_white(height, width, seed)
  return (lumen.gt(noise(height, width, seed), 127):cast("f32") * 255):to("u8")
end

local function new_folder(name)
  fs.mkdir(folder .. "/" .. name)
  return folder .. "/" .. name
end

-- count pictures a01.png ..., of different sizes; masks beside them when wanted.
local function pictures(name, count, with_masks)
  local images = new_folder(name .. "/images")
  local masks = with_masks and new_folder(name .. "/masks")
  for i = 1, count do
    local x = black_white(20 + i % 5, 30 - i % 3, i)
    image.save(("%s/a%02d.png"):format(images, i), x)
    if masks then image.save(("%s/a%02d.pgm"):format(masks, i), x) end
  end
  return { kind = "folder", images = images, masks = masks or nil }
end

local function merged(defaults, changes)
  local o = {}
  for _, from in ipairs { defaults, changes or {} } do
    for key, value in next, from do o[key] = value end
  end
  return o
end

-- All batches of an epoch, from one of them on.
local function batches(loader, epoch, first)
  local list = {}
  for batch in loader:epoch(epoch or 1, first) do list[#list + 1] = batch end
  return list
end

local fields = { "image", "mask", "vessel_mask", "index" }

local function assert_same(a, b, what)
  lu.assertEquals(#a, #b, what)
  for i = 1, #a do
    for _, field in ipairs(fields) do
      lu.assertEquals(a[i][field] ~= nil, b[i][field] ~= nil, what)
      if a[i][field] then helper.assert_equal(a[i][field], b[i][field], what .. " " .. field) end
    end
  end
end

local function order_of(list)
  local order = {}
  for _, batch in ipairs(list) do
    for _, i in ipairs(batch.index:totable()) do order[#order + 1] = i end
  end
  return order
end

local function rest(list, first) return table.move(list, first, #list, 1, {}) end

local function fails(text, fn, ...)
  local ok, message = pcall(fn, ...)
  lu.assertFalse(ok, "no error with " .. text)
  lu.assertStrContains(tostring(message), text)
end

-- A chunk in a process of its own: what it prints, warnings included.
local function run(chunk)
  fs.write(folder .. "/chunk.lua", 'local lumen = require "lumen"\n' .. chunk)
  local pipe = io.popen(("%s %s/chunk.lua 2>&1"):format(fs.realpath "/proc/self/exe", folder))
  local text = pipe:read "a"
  pipe:close()
  return text
end

local function count_of(text, part)
  return select(2, text:gsub(part:gsub("%W", "%%%0"), ""))
end

local augmented = { batch = 4, size = 16, seed = 7, shuffle = true, flip = 0.5,
                    crop = { scale = { 0.2, 1 } }, pseudo_mask = true }

-- ---- what a batch depends on ---------------------------------------------------------------

TestSame = {}

local function check_threads(source)
  local reference
  for _, threads in ipairs { 0, 1, 2, 4, 9 } do
    local loader <close> = lumen.data.loader(merged(augmented, { source = source, threads = threads }))
    local got = { batches(loader, 1), batches(loader, 2), batches(loader, 1) }
    reference = reference or got
    lu.assertEquals(#got[1], 3)
    for k = 1, 3 do assert_same(got[k], reference[k], threads .. " threads") end
    assert_same(got[1], got[3], "again")
  end
end

function TestSame.test_threads_files() check_threads(pictures("threads", 11, true)) end

function TestSame.test_threads_phantom()
  check_threads { kind = "phantom", count = 11, size = 64, preset = "hard" }
end

function TestSame.test_one_image_batches_with_many_threads()
  local source = pictures("threads1", 11)
  local expected
  for _, threads in ipairs { 0, 8 } do
    local loader <close> = lumen.data.loader { source = source, size = 8, threads = threads }
    local got = batches(loader)
    expected = expected or got
    lu.assertEquals(#got, 11)
    assert_same(got, expected, "one by one")
  end
end

function TestSame.test_memory_budget()
  local source = pictures("memory", 11, true)
  local expected
  for _, memory in ipairs { 1 << 30, 0, 3000 } do
    local loader <close> = lumen.data.loader(merged(augmented, { source = source, memory = memory }))
    for epoch = 1, 2 do
      local got = batches(loader, epoch)
      expected = expected or {}
      expected[epoch] = expected[epoch] or got
      assert_same(got, expected[epoch], "memory " .. memory)
    end
  end
end

function TestSame.test_resume_in_the_middle()
  local source = pictures("resume", 11, true)
  for _, threads in ipairs { 0, 2 } do
    local loader <close> = lumen.data.loader(merged(augmented, { source = source, threads = threads }))
    local whole = batches(loader, 3)
    for first = 1, 4 do
      local fresh <close> = lumen.data.loader(merged(augmented, { source = source, threads = threads }))
      assert_same(batches(fresh, 3, first), rest(whole, first), "from " .. first)
      assert_same(batches(loader, 3, first), rest(whole, first), "again from " .. first)
    end
    fails("batch 5 of 3", loader.epoch, loader, 1, 5)
    fails("batch 0 of 3", loader.epoch, loader, 1, 0)
  end
end

function TestSame.test_restart_before_the_end()
  local source = pictures("restart", 11)
  local loader <close> = lumen.data.loader(merged(augmented, { source = source, threads = 3 }))
  local first, second = batches(loader, 1), batches(loader, 2)
  for _ = 1, 20 do
    local step = loader:epoch(1)
    assert_same({ step() }, { first[1] }, "first batch")
    assert_same({ loader:epoch(2)() }, { second[1] }, "of the next epoch")
    fails("epoch was left", step)
  end
  assert_same(batches(loader, 1), first, "the whole epoch")
end

-- ---- order ---------------------------------------------------------------------------------

TestOrder = {}

local many = { kind = "phantom", count = 50, size = 32 }

local function order(changes, epoch)
  local options = merged({ source = many, batch = 8, size = 8, threads = 0 }, changes)
  local loader <close> = lumen.data.loader(options)
  return order_of(batches(loader, epoch or 1))
end

local function counted(n)
  local list = {}
  for i = 1, n do list[i] = i - 1 end
  return list
end

function TestOrder.test_plain() lu.assertEquals(order {}, counted(50)) end

function TestOrder.test_shuffled()
  local first = order { shuffle = true, seed = 3 }
  lu.assertNotEquals(first, counted(50))
  lu.assertEquals(order { shuffle = true, seed = 3, threads = 2 }, first)
  lu.assertNotEquals(order({ shuffle = true, seed = 3 }, 2), first)
  lu.assertNotEquals(order { shuffle = true, seed = 4 }, first)
  table.sort(first)
  lu.assertEquals(first, counted(50))
end

-- Each item stands at each place equally often: 120 orders of 5 items, 24 expected per cell.
function TestOrder.test_shuffled_fairly()
  local loader <close> = lumen.data.loader { source = { kind = "phantom", count = 5, size = 32 },
    batch = 5, size = 2, shuffle = true, threads = 0 }
  local cells, chi = {}, 0
  for epoch = 1, 120 do
    for place, item in ipairs(order_of(batches(loader, epoch))) do
      cells[5 * item + place] = (cells[5 * item + place] or 0) + 1
    end
  end
  for cell = 1, 25 do chi = chi + ((cells[cell] or 0) - 24) ^ 2 / 24 end
  lu.assertTrue(chi < 40, "chi square " .. chi) -- 16 degrees of freedom: 99.9 % lie below 39.3
end

function TestOrder.test_last_batch()
  local options = { source = many, batch = 8, size = 8, threads = 2 }
  local loader <close> = lumen.data.loader(options)
  lu.assertEquals({ #loader, loader:batches() }, { 50, 7 })
  local all = batches(loader)
  lu.assertEquals(all[7].image.shape, { 2, 3, 8, 8 })
  local shorter <close> = lumen.data.loader(merged(options, { drop_last = true }))
  lu.assertEquals({ #shorter, shorter:batches() }, { 50, 6 })
  assert_same(batches(shorter), table.move(all, 1, 6, 1, {}), "whole batches")
  local none <close> = lumen.data.loader(merged(options, { drop_last = true, batch = 51 }))
  fails("50 images are less than one batch of 51", none.epoch, none, 1)
end

function TestOrder.test_subset()
  local source = pictures("subset", 9, true)
  local function loader(subset)
    return lumen.data.loader { source = source, subset = subset, batch = 4, size = 8 }
  end
  local all <close> = loader(nil)
  local part <close> = loader { first = 3, last = 7 }
  lu.assertEquals(#part, 5)
  lu.assertEquals(part:name(1), all:name(3))
  lu.assertEquals(part:name(5), all:name(7))
  local tail <close> = loader { first = 8 }
  lu.assertEquals(#tail, 2)
  local chosen <close> = loader(lumen.tensor({ 8, 0, 4 }, { dtype = "i64" }))
  lu.assertEquals({ chosen:name(1), chosen:name(2), chosen:name(3) },
    { all:name(9), all:name(1), all:name(5) })
  helper.assert_equal(batches(chosen)[1].image:slice(1, 2, 2), batches(all)[1].image:slice(1, 1, 1))
  fails("subset 3 to 10 of 9 images", loader, { first = 3, last = 10 })
  fails("subset item 9 is out of range or repeated", loader, lumen.tensor({ 9 }, { dtype = "i64" }))
  fails("subset item 1 is out of range or repeated", loader, lumen.tensor({ 1, 1 }, { dtype = "i64" }))
  fails("unknown option 'frist'", loader, { frist = 3 })
  fails("no such item", part.name, part, 6)
  fails("no such item", part.name, part, 0)
end

-- ---- sources -------------------------------------------------------------------------------

TestFolder = {}

function TestFolder.test_masks_by_stem()
  local source = pictures("stem", 3, true)
  image.save(source.images .. "/b.v2.PNG", noise(9, 9, 1))
  image.save(source.masks .. "/b.v2.png", black_white(9, 9, 1))
  fs.write(source.images .. "/notes.txt", "no picture")
  fs.write(source.images .. "/.hidden.png", "no picture")
  fs.write(source.images .. "/png", "no picture")
  local loader <close> = lumen.data.loader { source = source, batch = 4, size = 9 }
  lu.assertEquals({ #loader, loader:has_masks() }, { 4, true })
  lu.assertEquals(lumen.data.count(source.images), 4)
  lu.assertEquals(loader:name(4), source.images .. "/b.v2.PNG")
  local batch = loader:epoch(1)()
  lu.assertEquals(batch.mask.shape, { 4, 1, 9, 9 })
  helper.assert_equal(batch.mask[4][1] * 255, black_white(9, 9, 1):to("f32"))
end

function TestFolder.test_without_masks()
  local loader <close> = lumen.data.loader { source = pictures("unmasked", 3), batch = 4, size = 8 }
  lu.assertFalse(loader:has_masks())
  lu.assertNil(loader:epoch(1)().mask)
end

function TestFolder.test_errors()
  local source = pictures("bad", 3, true)
  local function loader(s) return lumen.data.loader { source = s } end
  fs.remove(source.masks .. "/a02.pgm")
  fails("a02.png has no mask in " .. source.masks, loader, source)
  local missing = folder .. "/missing"
  fails(missing .. ": cannot list", loader, { kind = "folder", images = missing })
  local empty = new_folder "empty"
  fails(empty .. ": no images there", loader, { kind = "folder", images = empty })
  fails('"folder" needs images', loader, { kind = "folder" })
  fails("did you mean images?", loader, { kind = "folder", image = empty })
  fails("unknown kind of source 'dir'", loader, { kind = "dir" })
  fails("source needs kind", loader, {})
  fails("source must be a table", loader, nil)
end

function TestFolder.test_mask_of_another_size()
  local source = pictures("sizes", 2, true)
  image.save(source.masks .. "/a02.pgm", noise(5, 6, 1))
  local loader <close> = lumen.data.loader { source = source, batch = 2, size = 8 }
  fails("masks/a02.pgm: the mask is 5 x 6 but its image " .. source.images .. "/a02.png is 22 x 28",
    loader:epoch(1))
end

function TestFolder.test_values_of_masks()
  local images, masks = new_folder "values/images", new_folder "values/masks"
  local x = lumen.tensor({ { 0, 1 }, { 127, 128 } }, { dtype = "u8" })
  local y = lumen.tensor({ { 0, 1 }, { 1, 0 } }, { dtype = "u8" })
  for name, mask in next, { a = x, b = y, c = y * 0 } do
    image.save(images .. "/" .. name .. ".png", x)
    image.save(masks .. "/" .. name .. ".png", mask:to("u8"))
  end
  local loader <close> = lumen.data.loader { source = { kind = "folder", images = images, masks = masks },
    batch = 3, size = 2 }
  lu.assertEquals(loader:epoch(1)().mask:totable(),
    { { { { 0, 0 }, { 0, 1 } } }, { { { 0, 1 }, { 1, 0 } } }, { { { 0, 0 }, { 0, 0 } } } })
end

TestList = {}

local function list(text, name)
  local path = folder .. "/" .. (name or "list.csv")
  fs.write(path, text)
  return lumen.data.loader { source = { kind = "list", path = path }, batch = 2, size = 8 }
end

local function names(loader)
  local found = {}
  for i = 1, #loader do found[i] = loader:name(i):sub(#folder + 2) end
  return found
end

function TestList.test_rows()
  lu.assertEquals(names(list "a.png\nsub/b.png\n"), { "a.png", "sub/b.png" })
  lu.assertEquals(names(list "image\r\na.png\r\n\r\nb.png"), { "a.png", "b.png" })
  lu.assertEquals(names(list "image,mask\na.png,m/a.png\n"), { "a.png" })
  lu.assertEquals(names(list "\xef\xbb\xbfimage\na.png\n"), { "a.png" })
  lu.assertEquals(names(list 'x.png\n"with, comma.png"\n"a ""b"".png"\n'),
    { "x.png", "with, comma.png", 'a "b".png' })
  lu.assertEquals(names(list "a.png\nimage\n"), { "a.png", "image" })
  lu.assertEquals(list("/abs/a.png\n"):name(1), "/abs/a.png")
end

function TestList.test_masks()
  local source = pictures("listed", 2, true)
  local text = "image,mask\nlisted/images/a01.png,listed/masks/a01.pgm\n"
    .. ('"%s/a02.png","%s/a02.pgm"\r\n'):format(source.images, source.masks)
  local loader <close> = list(text)
  local same <close> = lumen.data.loader { source = source, batch = 2, size = 8 }
  lu.assertTrue(loader:has_masks())
  assert_same(batches(loader), batches(same), "list and folder")
end

function TestList.test_errors()
  local path = folder .. "/list.csv: line "
  fails(path .. "3: a row is", list, "a.png\nb.png\na,b,c\n")
  fails(path .. "2: a row is", list, 'a.png\n"b.png\n')
  fails(path .. "2: a row is", list, 'a.png\n"b.png"x,m.png\n')
  fails(path .. "1: a row is", list, ",m.png\n")
  fails(path .. "1: a row is", list, "image,label,mask\n")
  fails(path .. "2: a row is", list, "a.png\n" .. ("x"):rep(9999) .. "\n")
  fails(path .. "4: loader: ", list, "image,mask\na.png,m.png\n\nb.png\n")
  fails("list.csv: no rows", list, "")
  fails("list.csv: no rows", list, "image\n\n")
  fails("list.csv: not a text file", list, "a.png\0b.png\n")
  fails("missing.csv: cannot open", lumen.data.loader,
    { source = { kind = "list", path = folder .. "/missing.csv" } })
  fails("gone.png: cannot open", list("gone.png\n"):epoch(1))
end

TestPhantom = {}

function TestPhantom.test_images_and_masks()
  local options = { source = { kind = "phantom", count = 6, size = 64, seed = 5 }, batch = 6, size = 64,
                    channels = 1, pseudo_mask = true }
  local loader <close> = lumen.data.loader(options)
  lu.assertTrue(loader:has_masks())
  lu.assertEquals(loader:name(2), "phantom:1")
  local batch = loader:epoch(1)()
  lu.assertEquals(batch.mask.shape, { 6, 1, 64, 64 })
  local vessels = batch.mask:mean():item()
  lu.assertTrue(vessels > 0.01 and vessels < 0.5, "share of vessels " .. vessels)
  local inside = (batch.image * batch.mask):sum():item() / batch.mask:sum():item()
  local outside = (batch.image * (1 - batch.mask)):sum():item() / (1 - batch.mask):sum():item()
  lu.assertTrue(inside < outside, "vessels are darker")
  for i = 1, 6 do -- the whole image is the sample, so its mask can be computed here
    local grey = (batch.image[i][1] * 255 + 0.5):floor():to("u8")
    helper.assert_equal(batch.vessel_mask[i][1], lumen.vision.vessel_mask(grey):to("f32"), "filter")
  end
end

function TestPhantom.test_keys()
  local function first(changes)
    local source = merged({ kind = "phantom", count = 2, size = 32 }, changes)
    local loader <close> = lumen.data.loader { source = source, batch = 2, size = 32, channels = 1 }
    return loader:epoch(1)().image
  end
  local plain = first {}
  helper.assert_equal(first { first = 1 }[1], plain[2], "first")
  for _, changes in ipairs { { seed = 1 }, { preset = "hard" }, { first = 2 } } do
    lu.assertTrue((first(changes) - plain):abs():max():item() > 0)
  end
  fails("presets default and hard, not 'easy'", first, { preset = "easy" })
  fails("-1 phantoms", first, { count = -1 })
  fails("phantoms from number -1", first, { first = -1 })
  fails("no images", first, { count = 0 })
  fails("size", first, { size = 31 })
end

-- ---- samples -------------------------------------------------------------------------------

TestSample = {}

-- Nearest for both: the picture is its own mask, whatever was cropped and flipped.
function TestSample.test_crop_and_flip_of_image_and_mask()
  local source = pictures("alike", 8, true)
  local loader <close> = lumen.data.loader { source = source, batch = 8, size = 24, flip = 0.5,
    crop = { scale = { 0.1, 1 }, ratio = { 0.5, 2 } }, filter = "nearest", channels = 1 }
  local first, second = batches(loader, 1)[1], batches(loader, 2)[1]
  helper.assert_equal(first.image, first.mask, "image and mask")
  helper.assert_equal(second.image, second.mask, "image and mask")
  for i = 1, 8 do
    lu.assertTrue((first.image[i] - second.image[i]):abs():max():item() > 0, "another crop each epoch")
  end
end

-- The pseudo-mask is the whole image's, cut at the same place.
function TestSample.test_crop_of_the_pseudo_mask()
  local images, masks = new_folder "pseudo/images", new_folder "pseudo/masks"
  local vessel = { published = true, border = 6 }
  local source <close> = lumen.data.loader { source = { kind = "phantom", count = 4, size = 96 },
    batch = 4, size = 96, channels = 1 }
  for i, x in ipairs { 1, 2, 3, 4 } do
    local grey = (source:epoch(1)().image[x][1] * 255 + 0.5):floor():to("u8")
    image.save(("%s/%d.png"):format(images, i), grey)
    local found = lumen.vision.vessel_mask(grey, vessel)
    image.save(("%s/%d.png"):format(masks, i), (found:to("f32") * 255):to("u8"))
  end
  local loader <close> = lumen.data.loader { source = { kind = "folder", images = images, masks = masks },
    batch = 4, size = 48, flip = 0.5, crop = { scale = { 0.2, 1 } }, pseudo_mask = true, vessel = vessel }
  local batch = loader:epoch(1)()
  helper.assert_equal(batch.vessel_mask, batch.mask, "pseudo-mask")
  lu.assertTrue(batch.mask:sum():item() > 0)
  local settings = { sigmas = { 2 }, percentile = 80, border = 0, published = true }
  local other <close> = lumen.data.loader { source = { kind = "folder", images = images }, batch = 4,
    size = 96, pseudo_mask = true, vessel = settings }
  local expected = lumen.vision.vessel_mask(image.load(images .. "/1.png"), settings)
  helper.assert_equal(other:epoch(1)().vessel_mask[1][1], expected:to("f32"), "settings")
end

function TestSample.test_flip()
  local images = new_folder "flip"
  image.save(images .. "/a.png", noise(12, 12, 1))
  local function sample(flip)
    local loader <close> = lumen.data.loader { source = { kind = "folder", images = images }, size = 12,
      flip = flip, channels = 1 }
    return loader:epoch(1)().image[1][1]:totable()
  end
  local plain, flipped = sample(0), sample(1)
  for y = 1, 12 do
    for x = 1, 12 do lu.assertEquals(flipped[y][x], plain[y][13 - x]) end
  end
end

function TestSample.test_flips_as_often_as_asked()
  image.save(folder .. "/half.png", lumen.tensor({ { 0, 255 } }, { dtype = "u8" }))
  fs.write(folder .. "/half.csv", ("half.png\n"):rep(1000))
  for _, flip in ipairs { 0, 0.25, 1 } do
    local loader <close> = lumen.data.loader { source = { kind = "list", path = folder .. "/half.csv" },
      batch = 1000, size = 2, channels = 1, flip = flip, filter = "nearest" }
    local left = loader:epoch(1)().image:slice(4, 1, 1):mean():item()
    lu.assertTrue(math.abs(left - flip) <= 4 * math.sqrt(flip * (1 - flip) / 1000), flip .. ": " .. left)
  end
end

function TestSample.test_normalisation_and_channels()
  local images = new_folder "levels"
  local rows = {}
  for y = 1, 16 do
    rows[y] = {}
    for x = 1, 16 do rows[y][x] = 16 * (y - 1) + x - 1 end
  end
  image.save(images .. "/a.png", lumen.tensor(rows, { dtype = "u8" }))
  local function sample(o)
    local defaults = { source = { kind = "folder", images = images }, size = 16 }
    local loader <close> = lumen.data.loader(merged(defaults, o))
    return loader:epoch(1)().image
  end
  local levels = lumen.tensor(rows) / 255
  helper.assert_equal(sample { channels = 1 }[1][1], levels, "0 to 1")
  local grey = sample {}
  lu.assertEquals(grey.shape, { 1, 3, 16, 16 })
  local x = sample { mean = lumen.data.mean, std = lumen.data.std }
  for c = 1, 3 do
    helper.assert_equal(grey[1][c], levels, "copied")
    helper.assert_equal(x[1][c], (levels - lumen.data.mean[c]) / lumen.data.std[c], "normalised")
  end
  helper.assert_equal(sample { channels = 1, mean = 0.5, std = 0.25 }[1][1], (levels - 0.5) / 0.25)
end

function TestSample.test_normalisation_of_the_reference()
  local table_of = lumen.load(helper.need_shared "golden/e_ops.safetensors")["normalize.table"]
  local images = new_folder "table"
  image.save(images .. "/a.png", lumen.arange(256):reshape({ 16, 16 }):to("u8"))
  local loader <close> = lumen.data.loader { source = { kind = "folder", images = images }, size = 16,
    mean = lumen.data.mean, std = lumen.data.std }
  helper.assert_equal(loader:epoch(1)().image:reshape({ 3, 256 }), table_of, "table")
end

function TestSample.test_colour_becomes_grey()
  local images = new_folder "colour"
  local x = lumen.stack({ noise(9, 9, 1), noise(9, 9, 2), noise(9, 9, 3) }, { dim = 3 })
  image.save(images .. "/a.png", x)
  local loader <close> = lumen.data.loader { source = { kind = "folder", images = images },
    size = 9, channels = 1 }
  local grey = image.load(images .. "/a.png", { grey = true }):to("f32") / 255
  helper.assert_equal(loader:epoch(1)().image[1][1], grey)
end

function TestSample.test_options_are_checked()
  local function with(o)
    return lumen.data.loader(merged({ source = { kind = "phantom", count = 2, size = 32 }, size = 8 }, o))
  end
  for _, case in ipairs {
    { { batch = 0 }, "batch must be 1 to 65536, not 0" },
    { { size = 0 }, "size must be 1 to 8192" },
    { { threads = -1 }, "threads must be 0 to 256" },
    { { threads = 1 << 32 }, "threads must be 0 to 256" },
    { { channels = 2 }, "channels must be 1 or 3" },
    { { channels = (1 << 32) + 3 }, "channels must be 1 to 3" },
    { { memory = -1 }, "memory must be 0" },
    { { flip = 1.5 }, "flip must be 0 to 1" },
    { { flip = 0 / 0 }, "flip must be 0 to 1" },
    { { std = 0 }, "std must be positive" },
    { { mean = { 1, 2 } }, "mean needs 1 or 3 numbers" },
    { { filter = "cubic" }, "unknown filter 'cubic'" },
    { { broken = "ignore" }, "broken must be" },
    { { crop = true }, "crop must be a table" },
    { { crop = { scale = { 0.5 } } }, "scale needs two numbers" },
    { { crop = { scale = { 0, 1 } } }, "scale must be" },
    { { crop = { ratio = { 2, 1 } } }, "ratio must be" },
    { { crop = { scales = { 1, 1 } } }, "did you mean scale?" },
    { { vessel = { sigma = 1 } }, "did you mean sigmas?" },
    { { treads = 1 }, "did you mean threads?" },
  } do fails(case[2], with, case[1]) end
end

-- ---- broken files --------------------------------------------------------------------------

-- Items as they are stored, whatever the loader makes of them.
function TestSample.test_whole_items()
  local source = pictures("whole", 3, true)
  local loader = lumen.data.loader { source = source, size = 8, crop = { scale = { 0.1, 0.2 } },
    pseudo_mask = true, subset = { first = 2, last = 3 } }
  local picture, mask, vessels = loader:whole(2)
  local stored = image.load(source.images .. "/a03.png")
  helper.assert_equal(picture, stored, "image")
  helper.assert_equal(mask, stored:gt(127), "mask")
  helper.assert_equal(vessels, lumen.vision.vessel_mask(stored):gt(0), "vessels")
  source.masks = nil
  lu.assertEquals(select("#", lumen.data.loader { source = source, size = 8 }:whole(1)), 3)
  local _, none, nothing = lumen.data.loader { source = source, size = 8 }:whole(1)
  lu.assertEquals({ none == nil, nothing == nil }, { true, true })
  lu.assertErrorMsgContains("no such item", loader.whole, loader, 3)
  os.remove(source.images .. "/a03.png")
  lu.assertErrorMsgContains("a03.png", loader.whole, loader, 2)
end

TestBroken = {}

-- Nine pictures, three of which cannot be read.
local function damaged(name, with_masks)
  local source = pictures(name, 9, with_masks)
  local function change(file, fn) fs.write(file, fn(fs.read(file))) end
  change(source.images .. "/a02.png", function(s) return s:sub(1, #s // 2) end)
  change(source.images .. "/a05.png", function(s)
    return s:sub(1, 60) .. string.char(s:byte(61) ~ 255) .. s:sub(62)
  end)
  change(source.images .. "/a06.png", function() return "" end)
  return source
end

function TestBroken.test_error_names_the_file()
  for _, threads in ipairs { 0, 1, 3 } do
    local source = damaged "broken"
    local loader <close> = lumen.data.loader { source = source, batch = 3, size = 8, threads = threads }
    local step = loader:epoch(1)
    fails(source.images .. "/a02.png: ", step)
    fails(source.images .. "/a05.png: ", step) -- the first of two
    lu.assertEquals(step().index:totable(), { 6, 7, 8 })
    lu.assertNil(step())
  end
end

function TestBroken.test_skip()
  local source = damaged("skipped", true)
  local chunk = ([[
    local loader = lumen.data.loader { source = { kind = "folder", images = %q, masks = %q }, batch = 3,
      size = 8, threads = %d, broken = "skip" }
    for epoch = 1, 3 do
      for batch in loader:epoch(epoch) do
        print(table.concat(batch.index:totable(), " "), batch.image.shape[1], batch.mask.shape[1])
      end
    end]])
  for _, threads in ipairs { 0, 2 } do
    local text = run(chunk:format(source.images, source.masks, threads))
    local printed = text:gsub("lumen: [^\n]*\n", "")
    lu.assertEquals(printed, ("0 2\t2\t2\n3\t1\t1\n6 7 8\t3\t3\n"):rep(3))
    lu.assertEquals(count_of(text, "warning: left out"), 3, text)
    for _, name in ipairs { "a02", "a05", "a06" } do
      lu.assertEquals(count_of(text, source.images .. "/" .. name .. ".png: "), 1, text)
    end
  end
end

function TestBroken.test_skipped_samples_are_the_others_unchanged()
  local source = damaged("moved", true)
  local options = merged(augmented, { source = source, broken = "skip", shuffle = false, batch = 9 })
  local some <close> = lumen.data.loader(options)
  local batch = some:epoch(4)()
  lu.assertEquals(batch.index:totable(), { 0, 2, 3, 6, 7, 8 })
  pictures("moved", 9, true) -- whole again
  local all <close> = lumen.data.loader(options)
  local whole = all:epoch(4)()
  for _, field in ipairs { "image", "mask", "vessel_mask" } do
    helper.assert_equal(batch[field], lumen.index_select(whole[field], batch.index, { dim = 1 }), field)
  end
end

function TestBroken.test_batches_without_an_image_are_left_out()
  local images = new_folder "hopeless"
  for i = 1, 4 do fs.write(("%s/%d.png"):format(images, i), "x") end
  local loader <close> = lumen.data.loader { source = { kind = "folder", images = images }, batch = 2,
    size = 8, broken = "skip" }
  lu.assertEquals(#batches(loader), 0)
end

-- An option that no image can satisfy is no broken file.
function TestBroken.test_bad_options_are_not_skipped()
  local source = pictures("option", 2)
  local loader <close> = lumen.data.loader { source = source, size = 8, broken = "skip",
    pseudo_mask = true, vessel = { percentile = 101 } }
  fails("a01.png: vessel_mask: `percentile` is 101", loader:epoch(1))
end

function TestBroken.test_cut_and_changed_files_of_all_formats()
  local images = new_folder "formats"
  local x = lumen.stack({ noise(20, 20, 1), noise(20, 20, 2), noise(20, 20, 3) }, { dim = 3 })
  for _, extension in ipairs { "png", "jpg", "ppm" } do
    local path = ("%s/a.%s"):format(images, extension)
    image.save(path, x)
    local whole = fs.read(path)
    local loader <close> = lumen.data.loader { source = { kind = "folder", images = images }, size = 8,
      memory = 0, threads = 0 }
    for cut = 0, #whole - 1, 37 do
      fs.write(path, whole:sub(1, cut))
      fails(path .. ": ", loader:epoch(1))
    end
    for at = 1, #whole, 29 do -- any of them may still be a picture; none may do harm
      fs.write(path, whole:sub(1, at - 1) .. string.char(whole:byte(at) ~ 0x55) .. whole:sub(at + 1))
      pcall(loader:epoch(1))
    end
    fs.remove(path)
  end
end

-- ---- the cache of pseudo-masks -------------------------------------------------------------

TestCache = {}

-- Filter settings that find something in small pictures too.
local strong = { published = true, border = 4 }

local function cached(source, cache, vessel)
  local loader <close> = lumen.data.loader { source = source, batch = 8, size = 32, threads = 2,
    pseudo_mask = true, cache = cache, vessel = merged(strong, vessel) }
  return batches(loader)
end

local function grey_pictures(name)
  local images = new_folder(name)
  local loader <close> = lumen.data.loader { source = { kind = "phantom", count = 3, size = 64 },
    batch = 3, size = 64 }
  local x = loader:epoch(1)().image
  for i = 1, 3 do image.save(("%s/%d.png"):format(images, i), x[i][1]) end
  return { kind = "folder", images = images }
end

local function modified(cache)
  local times = {}
  for i, name in ipairs(fs.list(cache)) do times[i] = name .. fs.hash(cache .. "/" .. name) end
  return times
end

function TestCache.test_made_used_and_made_again()
  local source, cache = grey_pictures "cached", folder .. "/cache/deep"
  local plain = cached(source, nil)
  lu.assertTrue(plain[1].vessel_mask:sum():item() > 0)
  assert_same(cached(source, cache), plain, "made")
  local names = fs.list(cache)
  lu.assertEquals(#names, 3)
  assert_same(cached(source, cache), plain, "used")
  local before = modified(cache)
  local path = cache .. "/" .. names[2]
  local whole = fs.read(path)
  local changed = whole:sub(1, 50) .. "!" .. whole:sub(52)
  for _, bad in ipairs { whole:sub(1, #whole - 20), "", "not a picture", changed } do
    fs.write(path, bad)
    assert_same(cached(source, cache), plain, "made again")
    lu.assertEquals(modified(cache), before)
  end
  image.save(path, noise(3, 3, 1)) -- a picture, but of another size
  assert_same(cached(source, cache), plain, "another size")
  lu.assertEquals(modified(cache), before)
end

-- What is in the cache is what comes out.
function TestCache.test_it_is_read()
  local source, cache = grey_pictures "read", folder .. "/cache2"
  cached(source, cache)
  for _, name in ipairs(fs.list(cache)) do
    image.save(cache .. "/" .. name, lumen.ones({ 64, 64 }, { dtype = "u8" }) * 255)
  end
  lu.assertEquals(cached(source, cache)[1].vessel_mask:min():item(), 1.0)
  local _ = cached(source, cache, { percentile = 90 }) -- other settings, other files
  lu.assertEquals(#fs.list(cache), 6)
  _ = cached(source, cache, { sigmas = { 1, 2 } })
  lu.assertEquals(#fs.list(cache), 9)
  lu.assertTrue(cached(source, cache, { percentile = 90 })[1].vessel_mask:min():item() == 0)
end

function TestCache.test_not_writable_is_a_warning()
  local source = grey_pictures "readonly"
  fs.write(folder .. "/file", "")
  local chunk = [[
    local loader = lumen.data.loader { source = { kind = "folder", images = %q }, batch = 3, size = 64,
      memory = 0, pseudo_mask = true, cache = %q, vessel = { published = true, border = 4 } }
    %s
    for epoch = 1, 2 do print(loader:epoch(epoch)().vessel_mask:sum():item() > 0) end]]
  local text = run(chunk:format(source.images, folder .. "/file/cache", ""))
  lu.assertEquals(count_of(text, "true\n"), 2, text)
  lu.assertEquals(count_of(text, "warning: vessel masks are not cached"), 1, text)
  lu.assertStrContains(text, folder .. "/file")
  local gone = folder .. "/gone"
  text = run(chunk:format(source.images, gone, ("lumen.fs.remove_tree(%q, %q)"):format(gone, folder)))
  lu.assertEquals(count_of(text, "true\n"), 2, text)
  lu.assertEquals(count_of(text, "warning: vessel mask not cached"), 1, text)
end

function TestCache.test_only_with_pseudo_masks()
  local source, cache = grey_pictures "unused", folder .. "/cache3"
  local loader <close> = lumen.data.loader { source = source, cache = cache }
  batches(loader)
  lu.assertFalse(fs.exists(cache))
end

-- ---- loaders that are left -----------------------------------------------------------------

TestLeft = {}

local function resident() -- MiB
  for line in io.lines "/proc/self/status" do
    local kb = line:match "VmRSS:%s+(%d+)"
    if kb then return tonumber(kb) / 1024 end
  end
end

local function threads() -- of this process
  for line in io.lines "/proc/self/status" do
    local n = line:match "Threads:%s+(%d+)"
    if n then return tonumber(n) end
  end
end

function TestLeft.test_closed()
  local loader = lumen.data.loader { source = { kind = "phantom", count = 40, size = 64 },
    batch = 4, size = 32, threads = 4 }
  local before = threads()
  local step = loader:epoch(1)
  step()
  lu.assertEquals(threads(), before + 4)
  loader:close()
  local deadline = lumen.time() + 5 -- the system counts a joined thread for a moment longer
  while threads() ~= before and lumen.time() < deadline do end
  lu.assertEquals(threads(), before)
  loader:close()
  fails("this loader is closed", step)
  fails("this loader is closed", loader.epoch, loader, 1)
  fails("this loader is closed", loader.batches, loader)
end

function TestLeft.test_abandoned_many_times()
  local source = pictures("abandoned", 40, true)
  local before, memory = threads(), nil
  for i = 1, 60 do
    local options = merged(augmented, { source = source, batch = 16, size = 128, threads = 3 })
    local loader = lumen.data.loader(options)
    local step = loader:epoch(i)
    for _ = 1, i % 4 do step() end
    loader, step = nil, nil
    collectgarbage()
    if i == 20 then memory = resident() end
  end
  lu.assertEquals(threads(), before)
  if not helper.sanitized then lu.assertTrue(resident() < memory + 50, "grew to " .. resident() .. " MiB") end
end

function TestLeft.test_never_started()
  for _ = 1, 50 do
    local _ = lumen.data.loader { source = { kind = "phantom", count = 4 }, threads = 4 }
  end
  collectgarbage()
end

function TestLeft.test_at_the_end_of_the_program()
  local text = run [[
    local loader = lumen.data.loader { source = { kind = "phantom", count = 400, size = 128 }, batch = 8,
      size = 64, threads = 4 }
    local step = loader:epoch(1)
    print(step().image.shape[1])]]
  lu.assertEquals(text, "8\n")
end

function TestLeft.test_after_the_end()
  local loader <close> = lumen.data.loader { source = { kind = "phantom", count = 3, size = 32 }, size = 8 }
  local step = loader:epoch(1)
  for _ = 1, 3 do lu.assertNotNil(step()) end
  for _ = 1, 3 do lu.assertNil(step()) end
  lu.assertTrue(loader:wait_seconds() >= 0)
end

helper.run()
