-- Sources of a loader that are lists: of files, and of other sources.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local fs, image = lumen.fs, lumen.image

local folder = helper.temporary_folder()
for _, name in ipairs { "a/1", "a/2", "b/1", "m/1", "m/2" } do
  fs.mkdir(folder .. "/" .. name:match("^(.*)/"))
  image.save(("%s/%s.png"):format(folder, name), lumen.full({ 8, 8 }, 255, { dtype = "u8" }))
end

local function load(source)
  return lumen.data.loader { source = source, size = 8, threads = 0 }
end

local function names(source)
  local loader <close> = load(source)
  local list = {}
  for i = 1, #loader do list[i] = loader:name(i):sub(#folder + 2) end
  return list, loader:has_masks()
end

local function fails(text, source)
  local ok, message = pcall(load, source)
  lu.assertFalse(ok, "no error with " .. text)
  lu.assertStrContains(tostring(message), text)
end

local function at(name) return folder .. "/" .. name end

TestSources = {}

function TestSources.test_files()
  lu.assertEquals(names { kind = "files", files = { at "b/1.png", at "a/2.png" } },
    { "b/1.png", "a/2.png" })
  local list, masks = names { kind = "files", files = { { at "a/2.png", at "m/2.png" } } }
  lu.assertEquals({ list, masks }, { { "a/2.png" }, true })
  local loader <close> = load { kind = "files", files = { { at "a/2.png", at "m/2.png" } } }
  for batch in loader:epoch(1) do lu.assertEquals(batch.mask:sum():item(), 64) end
end

function TestSources.test_list()
  lu.assertEquals(names { { kind = "folder", images = at "b" }, { kind = "folder", images = at "a" },
    { kind = "files", files = { at "m/1.png" } } }, { "b/1.png", "a/1.png", "a/2.png", "m/1.png" })
end

function TestSources.test_errors()
  fails("needs files", { kind = "files" })
  fails("without files", { kind = "files", files = {} })
  fails("row 2 of files has no path", { kind = "files", files = { at "a/1.png", {} } })
  fails("row 1 of files has no path", { kind = "files", files = { true } })
  fails("entry 2 of the list of sources is no table", { { kind = "folder", images = at "a" }, 7 })
  fails("entry 1 of the list of sources has no kind", { { images = at "a" } })
  fails("is a phantom", { { kind = "folder", images = at "a" }, { kind = "phantom" } })
  fails("have one", { { kind = "folder", images = at "a", masks = at "m" },
    { kind = "folder", images = at "b" } })
end

helper.run()
