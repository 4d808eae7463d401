-- What lies in a data folder and is no good: data.source and the loader say what and where, or
-- do what is written beside the case. Files' content is the matter of tests/io.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local dataset = require "lumen.dataset"
local data, fs, image = lumen.data, lumen.fs, lumen.image

local folder

local function picture(name, shape, dtype)
  local file = folder .. "/" .. name
  fs.mkdir(file:match("^(.*)/"))
  image.save(file, lumen.full(shape or { 8, 8 }, 200, { dtype = dtype or "u8" }))
  return file
end

local function shell(command, ...)
  local p <close> = lumen.process.start({ "/bin/sh", "-c", command, "sh", ... }, "/dev/null")
  while p:poll() == nil do lumen.process.sleep(0.002) end
  lu.assertEquals(p:poll(), 0, command)
end

-- Reads every image of a folder or dataset; the number of images.
local function read(name, root, broken)
  local source, subset = data.source(name, { root = root, split = "train" })
  local loader <close> = data.loader { source = source, subset = subset, size = 8, threads = 0,
                                       broken = broken }
  local n = 0
  for batch in loader:epoch(1) do n = n + batch.image.shape[1] end
  return n
end

local function fails(text, ...)
  local ok, message = pcall(read, ...)
  lu.assertFalse(ok, "no error with " .. text)
  lu.assertStrContains(tostring(message), text)
end

TestHostile = {}

function TestHostile:setUp() folder = helper.temporary_folder() end
function TestHostile:tearDown() helper.remove_folder(folder) end

function TestHostile:test_what_is_no_folder()
  fails("there is no dataset and no folder " .. folder .. "/none", folder .. "/none")
  fails("there is no dataset and no folder ", "")
  local file = picture "a.png"
  fails("there is no dataset and no folder " .. file, file)
  fails("no images in " .. folder .. "/empty", fs.mkdir(folder .. "/empty") or folder .. "/empty")
  fs.mkdir(folder .. "/set/images")
  fails(folder .. "/set/images: no images there", folder .. "/set")
  picture "set/images/a.png"
  fs.mkdir(folder .. "/set/masks")
  fails("set/images/a.png has no mask in " .. folder .. "/set/masks", folder .. "/set")
end

function TestHostile:test_what_is_no_file()
  picture "set/a.png"
  fs.mkdir(folder .. "/set/b.png")
  fails("set/b.png: is a directory", folder .. "/set")
  fs.remove(folder .. "/set/b.png")
  shell("mkfifo \"$1\"", folder .. "/set/b.png")
  fails("set/b.png: not a regular file", folder .. "/set")
  fs.remove(folder .. "/set/b.png")
  shell("ln -s nowhere \"$1\"", folder .. "/set/b.png")
  fails("set/b.png: cannot open", folder .. "/set")
  fs.write(folder .. "/set/b.png", "")
  fails("set/b.png: ", folder .. "/set")
  lu.assertEquals(read(folder .. "/set", nil, "skip"), 1)
end

function TestHostile:test_unreadable()
  local file = picture "set/a.png"
  shell("chmod 000 \"$1\"", file)
  local handle = io.open(file)
  if handle then
    handle:close()
    lu.skip("this user reads everything")
  end
  fails("set/a.png: cannot open", folder .. "/set")
end

-- Links that lead back do not repeat images.
function TestHostile:test_links_in_a_circle()
  picture "set/a.png"
  picture "set/run/b.png"
  shell("ln -s . \"$1/set/here\" && ln -s ../../set \"$1/set/run/up\"", folder)
  lu.assertEquals(#dataset.folders(folder .. "/set"), 2)
  lu.assertEquals(read(folder .. "/set"), 2)
end

-- More masks than images: those without an image are not used; `lumen check` names them.
function TestHostile:test_masks_without_images()
  for i = 1, 4 do picture(("set/images/%d.png"):format(i)) end
  for i = 1, 6 do picture(("set/masks/%d.png"):format(i)) end
  lu.assertEquals(read(folder .. "/set"), 3)
  fs.remove(folder .. "/set/masks/2.png")
  fails("set/images/2.png has no mask", folder .. "/set")
end

function TestHostile:test_masks_that_do_not_fit()
  picture "set/images/1.png"
  picture("set/masks/1.png", { 8, 9 })
  fails("set/masks/1.png: the mask is 8 x 9 but its image", folder .. "/set")
  image.save(folder .. "/set/masks/1.png", lumen.tensor({ { { 255, 0, 0 } } }, { dtype = "u8" })
    :expand({ 8, 8, 3 }):contiguous())
  fails("set/masks/1.png: a coloured mask (255, 0, 0", folder .. "/set")
end

-- A dataset that is looked for in the wrong place.
function TestHostile:test_named_set_with_a_wrong_root()
  picture "other/images/1.png"
  fails("dataset dca1: nothing of it is in " .. folder, "dca1", folder)
  fails("dataset dca1: there is no folder " .. folder .. "/none", "dca1", folder .. "/none")
  fails("dataset dca1: there is no folder ", "dca1", picture "a.png")
  picture "dca1/images/1.png" -- without its masks
  fails("dca1/masks", "dca1", folder)
end

-- Names as they come: spaces, quotes, dashes, other alphabets, a line break.
function TestHostile:test_odd_names()
  local odd = { "a b.png", "-x.png", "it's \"q\".png", "$HOME;`id`.png", "сосуд.PNG", "two\nlines.png", "a=b,c.png" }
  for _, name in ipairs(odd) do
    picture("set of 'all'/images/" .. name)
    picture("set of 'all'/masks/" .. name)
  end
  lu.assertEquals(read(folder .. "/set of 'all'"), #odd - #odd * 3 // 10)
end

helper.run()
