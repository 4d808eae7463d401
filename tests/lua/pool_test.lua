-- Pools to pre-train on: joined sets, and that they never hold an evaluation image.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local data, fs, image = lumen.data, lumen.fs, lumen.image

local folder, said

local function frame(index)
  return lumen.vision.phantom { size = 96, seed = 9, index = index, preset = "hard" }.image
end

local function curved(x) return ((x:to("f32") / 255 + 1e-6):pow(0.6) * 190 + 40):to("u8") end

local frames = {}

-- Frames number `from` to `to` in a folder below; all are different.
local function fill(name, from, to, change)
  fs.mkdir(folder .. "/" .. name)
  for i = from, to do
    frames[i] = frames[i] or frame(i)
    image.save(("%s/%s/%03d.png"):format(folder, name, i), change and change(frames[i]) or frames[i])
  end
end

-- Names (below the folder) of a pool's images; what was printed is in `said`.
local function pool(o, run)
  local write, out = io.stdout, {}
  io.stdout = { write = function(_, text) out[#out + 1] = text end }
  local ok, source, subset = pcall(data.pool, o, run)
  io.stdout = write
  said = table.concat(out)
  if not ok then error(source, 0) end
  local loader <close> = data.loader { source = source, subset = subset, size = 8, threads = 0 }
  local names = {}
  for i = 1, #loader do names[i] = loader:name(i):sub(#folder + 2) end
  return names
end

local function has(list, name)
  for _, n in ipairs(list) do if n == name then return true end end
  return false
end

local function fails(text, o)
  local ok, message = pcall(pool, o)
  lu.assertFalse(ok, "no error with " .. text)
  lu.assertStrContains(tostring(message), text)
end

TestPool = {}

function TestPool:setUp()
  folder = helper.temporary_folder()
  self.cache = data.cache
  data.cache = function() return folder .. "/cache" end
  fill("arcade_vessel/train/images", 1, 4)
  fill("arcade_vessel/train/masks", 1, 4)
  fill("arcade_vessel/val/images", 5, 6)
  fill("arcade_vessel/val/masks", 5, 6)
  fill("sequences/P1_R1", 5, 5, curved) -- repeats an evaluation image
  fill("sequences/P1_R1", 10, 12)
  fill("xcad/images", 21, 30)
  fill("xcad/masks", 21, 30)
end

function TestPool:tearDown()
  data.cache = self.cache
  helper.remove_folder(folder)
end

function TestPool:test_auto()
  local names = pool { data = "sequences", root = folder .. "/sequences", exclude = "auto" }
  lu.assertEquals(#names, 3)
  lu.assertFalse(has(names, "sequences/P1_R1/005.png"))
  lu.assertStrContains(said, "pool sequences: 3 images; 1 left out")
  lu.assertStrContains(said, "arcade_vessel (2 images)")
  lu.assertStrContains(said, "xcad (3 images)")
  lu.assertEquals(pool { data = folder .. "/sequences", exclude = "auto" }, names)
end

function TestPool:test_joined()
  local names = pool { data = "arcade_vessel,sequences, xcad", root = folder, exclude = "auto" }
  lu.assertEquals(#names, 4 + 3 + 7)
  lu.assertFalse(has(names, "arcade_vessel/val/images/005.png"))
  lu.assertFalse(has(names, "xcad/images/030.png"))
  names = pool { data = "arcade_vessel,sequences,xcad", root = folder, exclude = "arcade_vessel" }
  lu.assertEquals(#names, 4 + 3 + 10)
  lu.assertTrue(has(names, "xcad/images/030.png"))
  names = pool { data = "arcade_vessel,sequences,xcad", root = folder, exclude = "none" }
  lu.assertEquals(#names, 6 + 4 + 10)
  lu.assertStrContains(said, "not compared")
end

function TestPool:test_folders_to_exclude()
  fill("mine", 11, 12, curved)
  local o = { data = "sequences", root = folder, exclude = folder .. "/mine" }
  lu.assertEquals(pool(o), { "sequences/P1_R1/005.png", "sequences/P1_R1/010.png" })
  o.exclude = folder .. "/mine,arcade_vessel"
  lu.assertEquals(pool(o), { "sequences/P1_R1/010.png" })
  o.data, o.exclude = folder .. "/mine", "sequences"
  fails("nothing is left", o)
end

-- A picture without structure is left out because it is the same file.
function TestPool:test_blank_evaluation_image()
  local blank = lumen.full({ 96, 96 }, 9, { dtype = "u8" })
  image.save(folder .. "/arcade_vessel/val/images/006.png", blank)
  local names = pool { data = "arcade_vessel", root = folder, exclude = "auto" }
  lu.assertEquals(#names, 4)
end

function TestPool:test_images_are_spaced()
  local names = pool { data = "xcad", root = folder, exclude = "none", images = 3 }
  lu.assertEquals(names, { "xcad/images/021.png", "xcad/images/024.png", "xcad/images/027.png" })
end

function TestPool:test_errors()
  fails("did you mean xcad", { data = "xcat", root = folder, exclude = "none" })
  fails("did you mean xcad", { data = "xcad", root = folder, exclude = "xcat" })
  fails("cannot be joined", { data = "xcad,phantom", root = folder, exclude = "none" })
  fails("option data: it names nothing", { data = ",", root = folder, exclude = "none" })
  fails("option exclude: it names nothing", { data = "xcad", root = folder, exclude = "" })
  fails("exclude: phantom is made", { data = "xcad", root = folder, exclude = "phantom" })
  fails("nothing of it is in", { data = "xcad,dca1", root = folder .. "/sequences", exclude = "auto" })
end

function TestPool:test_leaks()
  local list = data.leaks(folder .. "/sequences", folder .. "/arcade_vessel/val")
  lu.assertEquals(#list, 1)
  lu.assertStrContains(list[1].pool, "P1_R1/005.png")
  lu.assertStrContains(list[1].evaluation, "val/images/005.png")
  lu.assertEquals(list[1].item, 1)
  lu.assertTrue(list[1].correlation > 0.95)
  lu.assertErrorMsgContains("did you mean threshold", data.leaks, folder .. "/sequences",
    folder .. "/sequences", { treshold = 0.9 })
end

-- A folder that is reached through "." has the same neighbours.
function TestPool:test_beside_a_dotted_folder()
  lu.assertEquals(#pool { data = folder .. "/sequences/P1_R1/..", exclude = "auto" }, 3)
  lu.assertStrContains(said, "arcade_vessel (2 images)")
end

-- Packed images are compared as files are, on both sides.
function TestPool:test_packs()
  local pack = require "lumen.commands.pack"
  local function quietly(...)
    local original = print
    print = function() end
    local ok, message = pcall(pack, ...)
    print = original
    assert(ok, message)
  end
  quietly("data=" .. folder .. "/sequences", "out=" .. folder .. "/pool.pack", "split=pool", "size=96")
  quietly("data=xcad", "root=" .. folder, "out=" .. folder .. "/xcad.pack", "size=96")
  lu.assertEquals(#pool { data = folder .. "/pool.pack", exclude = "auto" }, 3)
  lu.assertStrContains(said, "1 left out that arcade_vessel (2 images)")
  local o = { data = folder .. "/xcad.pack", exclude = folder .. "/xcad.pack" }
  lu.assertEquals(#pool(o), 7)
  o.exclude = "auto"
  lu.assertEquals(#pool(o), 7)
  o.data = "xcad"
  o.root, o.exclude = folder, folder .. "/xcad.pack"
  lu.assertEquals(#pool(o), 7)
end

-- No folder for the cache: a warning, and the same pool.
function TestPool:test_without_a_cache()
  fs.write(folder .. "/file", "in the way")
  data.cache = function() return folder .. "/file/cache" end
  lu.assertEquals(#pool { data = "sequences", root = folder, exclude = "auto" }, 3)
end

-- The recipe says what it left out, and its segmentor learns from the same pool.
function TestPool:test_recipe()
  lumen.recipe("vasomim"):start { preset = "smoke", data = "sequences,xcad", root = folder,
    batch = 2, images = 0, out = folder .. "/run", segmentor_epochs = 1, epochs = 1, threads = 1 }
  for _, dir in ipairs { "/run", "/run/stages/segmentor" } do
    local env = lumen.json.decode(fs.read(folder .. dir .. "/env.json"))
    lu.assertEquals(env.data.pool.images, 10)
    lu.assertEquals(env.data.pool.left_out, 4)
    lu.assertEquals(#env.data.pool.fingerprint, 16)
    local result = lumen.json.decode(fs.read(folder .. dir .. "/result.json"))
    lu.assertEquals(result.data.pool.left_out, 4)
  end
end

-- Counted on the published frames: every repeat, and nothing across the two hospitals.
function TestPool:test_real_data()
  local root = helper.need_shared("data")
  local names = pool { data = "arcade_stenosis", root = root, exclude = "none" }
  lu.assertEquals(#names, 1200)
  local list = data.leaks(root .. "/arcade_stenosis/train/images", root .. "/arcade_vessel/val/images")
  local seen, repeats = {}, 0
  for _, pair in ipairs(list) do
    if pair.correlation >= 0.98 and not seen[pair.evaluation] then
      repeats, seen[pair.evaluation] = repeats + 1, true
    end
  end
  lu.assertEquals(repeats, 71)
  lu.assertEquals(#data.leaks(root .. "/sequences", root .. "/xcad/images"), 0)
end

helper.run()
