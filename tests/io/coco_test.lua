-- COCO files: polygons filled to the pixel, run lengths, classes, what the loader makes of
-- them, and every way in which a file can be broken.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local fs, image, json = lumen.fs, lumen.image, lumen.json

local folder = helper.temporary_folder()

local function fails(text, fn, ...)
  local ok, message = pcall(fn, ...)
  lu.assertFalse(ok, "no error with " .. text)
  lu.assertStrContains(tostring(message), text)
end

-- Two pictures of 4 x 6 and one of 8 x 8; a square and two boxes.
local function box(x0, y0, x1, y1) return { x0, y0, x1, y0, x1, y1, x0, y1 } end

local function example()
  return {
    images = {
      { id = 7, height = 4, width = 6, file_name = "b.png" },
      { id = 3, height = 8, width = 8, file_name = "a.png" },
      { id = 5, height = 4, width = 6, file_name = "sub/c.png" },
    },
    annotations = {
      { id = 1, image_id = 3, category_id = 20, segmentation = { box(1, 1, 5, 5) } },
      { id = 2, image_id = 7, category_id = 10, segmentation = { box(0, 0, 2, 4), box(4, 0, 6, 4) } },
      { id = 1, image_id = 7, category_id = 20, segmentation = { box(1, 0, 5, 2) }, iscrowd = 0 },
      { id = 3, image_id = 3, category_id = 30, segmentation = { box(6, 6, 9, 9) } },
    },
    categories = { { id = 10, name = "left" }, { id = 20, name = "right" }, { id = 30, name = "other" } },
    info = { note = 'a "quoted" [text}' },
  }
end

local path = folder .. "/file.json"

local function write(text) -- not fs.write: it waits for the disk
  local file <close> = assert(io.open(path, "wb"))
  file:write(type(text) == "table" and json.encode(text) or text)
  return path
end

local function rows(mask)
  local lines = {}
  for i, row in ipairs(mask:totable()) do lines[i] = table.concat(row, " ") end
  return lines
end

-- ---- filling -------------------------------------------------------------------------------

TestFill = {}

-- The run lengths in the file are those of pycocotools (make_polygons.py).
function TestFill.test_as_the_reference_fills()
  local file = lumen.data.coco "tests/fixtures/polygons.json"
  lu.assertEquals(file.images, 80)
  local total = 0
  for i = 1, 79, 2 do
    helper.assert_equal(file:mask(i), file:mask(i + 1), "image " .. i)
    total = total + file:mask(i):to("f32"):sum():item() / 255
  end
  lu.assertEquals(total, 1761.0)
end

function TestFill.test_binary()
  local file = lumen.data.coco(write(example()))
  lu.assertEquals(rows(file:mask(1)), { "255 255 255 255 255 255", "255 255 255 255 255 255",
    "255 255 0 0 255 255", "255 255 0 0 255 255" })
  helper.assert_equal(file:mask(1, "binary"), file:mask(1))
  lu.assertEquals(file:mask(2):to("f32"):sum():item() / 255, 4 * 4 + 2 * 2)
  lu.assertEquals(file:mask(3):to("f32"):sum():item(), 0)
end

-- Later annotations lie over earlier ones; categories that are not asked for are background.
function TestFill.test_classes()
  local file = lumen.data.coco(write(example()))
  lu.assertEquals(rows(file:mask(1, { "left", "right" })),
    { "1 2 2 2 2 1", "1 2 2 2 2 1", "1 1 0 0 1 1", "1 1 0 0 1 1" })
  helper.assert_equal(file:mask(1, { 10, 20 }), file:mask(1, { "left", "right" }))
  lu.assertEquals(rows(file:mask(1, { 20 }))[1], "0 1 1 1 1 0")
  lu.assertEquals(rows(file:mask(1, { "other" }))[1], "0 0 0 0 0 0")
  fails("no category 'up'; there are (with ids) left (10), right (20), other (30)", file.mask, file, 1, { "up" })
  fails("no category 11", file.mask, file, 1, { 11 })
  fails("category 'left' stands twice", file.mask, file, 1, { "left", 10 })
  fails("0 classes are not 1 to 254", file.mask, file, 1, {})
  fails("not a boolean", file.mask, file, 1, { true })
  fails('classes must be "binary" or a list', file.mask, file, 1, "all")
  fails("no such image", file.mask, file, 4)
end

function TestFill.test_runs_and_polygons_mix()
  local e = example()
  e.annotations = { { image_id = 7, category_id = 10,
    segmentation = { size = { 4, 6 }, counts = { 1, 2, 0, 1, 20 } } } }
  local file = lumen.data.coco(write(e))
  lu.assertEquals(rows(file:mask(1, { 10 })), { "0 0 0 0 0 0", "1 0 0 0 0 0", "1 0 0 0 0 0", "1 0 0 0 0 0" })
end

-- ---- what a file says ----------------------------------------------------------------------

TestFile = {}

function TestFile.test_counts()
  local file = lumen.data.coco(write(example()))
  lu.assertEquals({ file.path, file.images, file.annotations, file.unannotated, file.repeated_ids },
    { path, 3, 4, 1, 1 })
  lu.assertEquals(file.categories, {
    { id = 10, name = "left", annotations = 1, images = 1 },
    { id = 20, name = "right", annotations = 2, images = 2 },
    { id = 30, name = "other", annotations = 1, images = 1 } })
  lu.assertEquals(file:image(3), { id = 5, height = 4, width = 6, file = "sub/c.png", annotations = 0 })
  fails("no such image", file.image, file, 0)
end

-- Lists may come in any order, with members of any kind between them.
function TestFile.test_order_of_members()
  local e, parts = example(), {}
  for _, key in ipairs { "annotations", "info", "categories", "images" } do
    parts[#parts + 1] = json.encode(key) .. " : " .. json.encode(e[key])
  end
  local plain = lumen.data.coco(write(example())):mask(1)
  local other = "\n{ " .. table.concat(parts, " ,\r\n") .. ', "x": 1.5, "y": null, "z": "]}" }\n'
  helper.assert_equal(lumen.data.coco(write(other)):mask(1), plain)
end

-- ---- broken files --------------------------------------------------------------------------

TestBroken = {}

local function broken(expected, change)
  local e = example()
  change(e)
  fails(path .. ": " .. expected, lumen.data.coco, write(e))
end

function TestBroken.test_polygons()
  local function outline(expected, numbers)
    broken("annotations[1].segmentation[1]: " .. expected, function(e) e.annotations[2].segmentation[2] = numbers end)
  end
  outline("7 numbers, not an even count", { 1, 2, 3, 4, 5, 6, 7 })
  outline("4 numbers; a polygon has at least 6", { 1, 2, 3, 4 })
  outline("its number 2 is no finite number", { 1, 2, "x", 4, 5, 6 })
  outline("is not a list of numbers", { a = 1 })
  outline("vertex 1 (1e+300, 2) is far outside its picture of 4 x 6", { 1, 2, 1e300, 2, 5, 3 })
  outline("vertex 0 (1, -4.5) is far outside", { 1, -4.5, 3, 2, 5, 3 })
  outline("lies outside its picture of 4 x 6 (height x width): x from 6.5 to 8", { 6.5, 0, 8, 0, 8, 3 })
  local long = {}
  for i = 1, 2000 do table.move({ i % 2 * 6, 1 }, 1, 2, #long + 1, long) end
  outline("its boundary of 12000 pixels is too long", long)
  broken("annotations[0].segmentation: is empty", function(e) e.annotations[1].segmentation = json.array {} end)
  broken("annotations[0].segmentation: is missing", function(e) e.annotations[1].segmentation = nil end)
  broken("annotations[0].segmentation: is neither", function(e) e.annotations[1].segmentation = 3 end)
  local text = json.encode(example()):gsub("%[1,1,5,1,", "[1,1,1e999,1,")
  fails("annotations[0].segmentation[0]: its number 2 is no finite number", lumen.data.coco, write(text))
end

function TestBroken.test_polygons_over_the_edge_are_cut_off()
  local file = lumen.data.coco(write(example()))
  lu.assertEquals(rows(file:mask(2, { "other" }))[8], "0 0 0 0 0 0 1 1")
end

function TestBroken.test_runs()
  local function runs(expected, size, counts)
    broken("annotations[0].segmentation." .. expected, function(e)
      e.annotations[1].segmentation = { size = size, counts = counts }
    end)
  end
  runs("counts: compressed run lengths are not supported", { 8, 8 }, "WUm1")
  runs("counts: add up to 63 pixels, not to 64", { 8, 8 }, { 60, 3 })
  runs("counts: its number 1 is -1", { 8, 8 }, { 60, -1 })
  runs("counts: its number 0 is 1.5", { 8, 8 }, { 1.5, 62.5 })
  runs("counts: is not a list of numbers", { 8, 8 }, nil)
  runs("size: is 8 x 9, that of its image 8 x 8", { 8, 9 }, { 64 })
  runs("size: is not [height, width]", 8, { 64 })
end

function TestBroken.test_ids()
  broken("annotations[3].image_id: there is no image 4", function(e) e.annotations[4].image_id = 4 end)
  broken("annotations[3].category_id: there is no category 4", function(e) e.annotations[4].category_id = 4 end)
  broken("annotations[3].image_id: is missing", function(e) e.annotations[4].image_id = nil end)
  broken("annotations[3].image_id: is not a whole number", function(e) e.annotations[4].image_id = "3" end)
  broken("annotations[3].id: is not a whole number", function(e) e.annotations[4].id = 1.5 end)
  broken("annotations[3].id: 1 is also that of annotations[0], on the same image",
    function(e) e.annotations[4].id = 1 end)
  broken("images[2].id: 7 is also that of images[0]", function(e) e.images[3].id = 7 end)
  broken("images[1].id: is not a whole number from 0", function(e) e.images[2].id = -1 end)
  broken("categories[1].id: 10 is also that of categories[0]", function(e) e.categories[2].id = 10 end)
end

function TestBroken.test_entries()
  broken("images[1].width: is not a whole number from 1 to 16384", function(e) e.images[2].width = 0 end)
  broken("images[1].height: is not a whole number", function(e) e.images[2].height = 1e9 end)
  broken("images[1].height: is missing", function(e) e.images[2].height = nil end)
  broken("images[1].file_name: is missing", function(e) e.images[2].file_name = nil end)
  broken("images[1].file_name: is not a text", function(e) e.images[2].file_name = "" end)
  broken("images[2].file_name: a.png is also that of images[1]", function(e) e.images[3].file_name = "a.png" end)
  for _, out in ipairs { "/etc/a.png", "../a.png", "x/../../a.png", "x/.." } do
    broken("images[1].file_name: leads out of its folder", function(e) e.images[2].file_name = out end)
  end
  broken("categories[0].name: is missing", function(e) e.categories[1].name = nil end)
  broken("annotations[1]: is not an object", function(e) e.annotations[2] = 5 end)
  broken("images is empty", function(e)
    e.images, e.annotations = json.array {}, json.array {}
  end)
  broken('no "annotations"; this is not COCO', function(e) e.annotations = nil end)
  broken("images is not a list", function(e) e.images = "x" end)
end

function TestBroken.test_two_categories_of_one_name()
  local e = example()
  e.categories[1].name = "right"
  local file = lumen.data.coco(write(e))
  fails("more than one category 'right'", file.mask, file, 1, { "right" })
  lu.assertEquals(rows(file:mask(1, { 20 }))[1], "0 1 1 1 1 0")
end

function TestBroken.test_text()
  local whole = json.encode(example())
  for _, text in ipairs { "", " ", "[]", "3", "{", "{}x", '{"images"', '{"images":', '{"images":[',
                          '{"images":[]', '{"images":[,]}', '{"images":[}', '{"a":}',
                          '{"a":1,}', '{"a" 1}', "{1:2}", '{"a\\', whole .. "]", whole .. "x" } do
    fails(path .. ": bad JSON at byte ", lumen.data.coco, write(text))
  end
  for cut = 1, #whole - 1, 7 do fails(path .. ": bad JSON", lumen.data.coco, write(whole:sub(1, cut))) end
  fails("NUL", lumen.data.coco, write(whole:sub(1, 40) .. "\0" .. whole:sub(41)))
  fails("images stands there twice", lumen.data.coco, write('{"images":[],"images":[]}'))
  fails("annotations: an entry at byte", lumen.data.coco, write('{"annotations":["' .. ("x"):rep(5000000) .. '"]}'))
  fails("cannot open", lumen.data.coco, folder .. "/missing.json")
end

-- Any byte changed: still a file, or an error; never harm.
function TestBroken.test_changed_bytes()
  local whole = json.encode(example())
  for at = 1, #whole, helper.sanitized and 5 or 1 do
    for _, byte in ipairs { "9", "]", '"', "-" } do
      local ok, file = pcall(lumen.data.coco, write(whole:sub(1, at - 1) .. byte .. whole:sub(at + 1)))
      if ok then file:mask(1) end
    end
  end
end

-- ---- in the loader -------------------------------------------------------------------------

TestLoader = {}

local pictures = folder .. "/pictures"

local function source(changes, e)
  fs.mkdir(pictures .. "/sub")
  for name, shape in next, { ["a.png"] = { 8, 8 }, ["b.pgm"] = { 4, 6 }, ["sub/c.png"] = { 4, 6 } } do
    image.save(pictures .. "/" .. name, lumen.full(shape, 9):to("u8"))
  end
  local s = { kind = "coco", images = pictures, annotations = write(e or example()) }
  for key, value in next, changes or {} do s[key] = value end
  return s
end

local function first_batch(s, options)
  local o = { source = s, batch = 3, size = 8, channels = 1 }
  for key, value in next, options or {} do o[key] = value end
  local loader <close> = lumen.data.loader(o)
  return loader:epoch(1)(), loader
end

function TestLoader.test_masks()
  local loader <close> = lumen.data.loader { source = source(), batch = 3, size = 8, channels = 1 }
  lu.assertEquals({ #loader, loader:has_masks(), loader:classes() }, { 3, true, 0 })
  lu.assertEquals(loader:name(1), pictures .. "/b.pgm") -- the file of that name there is
  lu.assertEquals(loader:name(3), pictures .. "/sub/c.png")
  local batch = loader:epoch(1)()
  lu.assertEquals(batch.mask.shape, { 3, 1, 8, 8 })
  helper.assert_equal(batch.mask[2][1] * 255, lumen.data.coco(path):mask(2):to("f32"))
  lu.assertEquals(batch.mask[3]:sum():item(), 0) -- an image without annotations
end

function TestLoader.test_classes_stay_numbers_and_move_with_the_image()
  local s = source { classes = { "left", "right", "other" } }
  local plain, loader = first_batch(s)
  lu.assertEquals(loader.classes and true, true)
  helper.assert_equal(plain.mask[2][1], lumen.data.coco(path):mask(2, { 10, 20, 30 }):to("f32"))
  local flipped = first_batch(s, { flip = 1 })
  helper.assert_equal(flipped.mask, lumen.flip(plain.mask, { dims = { 4 } }))
  local cropped = first_batch(s, { crop = { scale = { 0.3, 0.9 } }, threads = 2 })
  for _, v in ipairs(cropped.mask:reshape({ -1 }):totable()) do lu.assertTrue(v == v // 1 and v <= 3) end
end

function TestLoader.test_errors()
  fails("a source of kind \"coco\" needs annotations", lumen.data.loader, { source = { kind = "coco", images = "x" } })
  fails("did you mean classes?", lumen.data.loader, { source = source { clases = {} } })
  fails("no category 'x'", lumen.data.loader, { source = source { classes = { "x" } } })
  local s = source()
  fs.remove(pictures .. "/b.pgm")
  fails(("%s/b.png is not there, whatever its extension (%s: images[0])"):format(pictures, path),
    lumen.data.loader, { source = s })
  s = source()
  image.save(pictures .. "/a.png", lumen.zeros({ 8, 9 }, { dtype = "u8" }))
  fails(("a.png: the image is 8 x 9 (height x width) but %s: images[1] says 8 x 8"):format(path), first_batch, s)
end

-- Sums of masks that pycocotools draws from the official files.
function TestLoader.test_arcade()
  local root = helper.need_shared "data/arcade_stenosis"
  for split, expected in next, { train = { 1000, 1625, 3, 560, 1966867 }, val = { 200, 406, 0, 0, 418183 } } do
    local file = lumen.data.coco(("%s/%s/annotations.json"):format(root, split))
    local total = 0
    for i = 1, file.images do total = total + file:mask(i):to("f32"):sum():item() / 255 end
    lu.assertEquals({ file.images, file.annotations, file.unannotated, file.repeated_ids, total }, expected)
  end
end

helper.run()
