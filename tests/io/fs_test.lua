-- Files and directories: atomic writing, listing, deleting with a guard, locks, hashes.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"

local fs = lumen.fs
local folder = helper.temporary_folder()

local function fails(text, fn, ...)
  local ok, message = pcall(fn, ...)
  lu.assertFalse(ok)
  lu.assertStrContains(tostring(message), text)
end

TestFs = {}

function TestFs.test_write_read()
  fs.mkdir(folder .. "/text")
  local path = folder .. "/text/a.txt"
  for _, text in ipairs { "hello", "", "a\0b", ("x"):rep(300000) } do
    fs.write(path, text)
    lu.assertEquals(fs.read(path), text)
    lu.assertEquals(fs.stat(path).size, #text)
  end
  lu.assertEquals(fs.stat(path).kind, "file")
  lu.assertTrue(math.abs(fs.stat(path).mtime - os.time()) < 100)
  lu.assertEquals(fs.list(folder .. "/text"), { "a.txt" })
  fs.sync(path)
  fs.sync(folder)
  fs.remove(path)
  fs.remove(path)
  lu.assertNil(fs.stat(path))
  lu.assertFalse(fs.exists(path))
end

-- made by gzip: "vessel"
local packed = ("1f8b08000000000002032b4b2d2e4ecd0100a8dcd84e06000000"):gsub("%x%x", function(digits)
  return string.char(tonumber(digits, 16))
end)

function TestFs.test_gunzip()
  lu.assertEquals(fs.gunzip(packed), "vessel")
  lu.assertEquals(fs.gunzip(packed .. packed), "vesselvessel")
  for n = 0, #packed - 1 do fails("cut short", fs.gunzip, packed:sub(1, n)) end
  fails("cut short", fs.gunzip, packed .. "\31")
  fails("damaged data", fs.gunzip, "no gzip at all")
  fails("damaged data", fs.gunzip, packed:sub(1, -2) .. "\1")
  for at = 1, #packed do -- a wrong byte anywhere: an error or a text, never more
    pcall(fs.gunzip, packed:sub(1, at - 1) .. "\255" .. packed:sub(at + 1))
  end
end

function TestFs.test_errors_name_the_path()
  fails(folder .. "/no: cannot open: No such file", fs.read, folder .. "/no")
  fails(folder .. "/no/x: cannot write", fs.write, folder .. "/no/x", "")
  fails(folder .. "/no: cannot list", fs.list, folder .. "/no")
  fails("is a directory", fs.read, folder)
  fails("not a regular file", fs.read, "/dev/null")
end

function TestFs.test_directories()
  fs.mkdir(folder .. "/b/c/d")
  fs.mkdir(folder .. "/b/c/d/")
  lu.assertTrue(fs.isdir(folder .. "/b/c/d"))
  for _, name in ipairs { "z", "B", "a", "10", "9" } do fs.write(folder .. "/b/c/" .. name, "") end
  lu.assertEquals(fs.list(folder .. "/b/c"), { "10", "9", "B", "a", "d", "z" })
  fs.rename(folder .. "/b/c/z", folder .. "/b/c/a")
  lu.assertFalse(fs.exists(folder .. "/b/c/z"))
  fails("not a directory", fs.mkdir, folder .. "/b/c/a")
  lu.assertEquals(fs.realpath(folder .. "/b/../b/c"), fs.realpath(folder) .. "/b/c")
end

function TestFs.test_remove_tree_stays_inside()
  fs.mkdir(folder .. "/run/checkpoints/step_1")
  fs.write(folder .. "/run/checkpoints/step_1/x", "")
  fs.mkdir(folder .. "/other")
  fails("does not lie inside", fs.remove_tree, folder .. "/other", folder .. "/run")
  fails("does not lie inside", fs.remove_tree, folder .. "/run", folder .. "/run")
  fails("does not lie inside", fs.remove_tree, folder .. "/run/../other", folder .. "/run")
  fails("does not lie inside", fs.remove_tree, folder, folder .. "/run")
  fs.mkdir(folder .. "/running")
  fails("does not lie inside", fs.remove_tree, folder .. "/running", folder .. "/run")
  fs.remove_tree(folder .. "/run/checkpoints", folder .. "/run")
  fs.remove_tree(folder .. "/run/checkpoints", folder .. "/run")
  lu.assertEquals(fs.list(folder .. "/run"), {})
end

function TestFs.test_remove_tree_does_not_follow_links()
  fs.mkdir(folder .. "/keep")
  fs.write(folder .. "/keep/x", "")
  fs.mkdir(folder .. "/tree/in")
  os.execute(("ln -s '%s' '%s'"):format(folder .. "/keep", folder .. "/tree/in/link"))
  fs.remove_tree(folder .. "/tree/in", folder .. "/tree")
  lu.assertTrue(fs.exists(folder .. "/keep/x"))
end

function TestFs.test_lock()
  local path = folder .. "/lock"
  local first = fs.lock(path)
  lu.assertNotNil(first)
  local second, message = fs.lock(path)
  lu.assertNil(second)
  lu.assertStrContains(message, path)
  first:release()
  do
    local third <close> = fs.lock(path)
    lu.assertNotNil(third)
  end
  lu.assertNotNil(fs.lock(path))
end

function TestFs.test_hash()
  local path, seen = folder .. "/h", {}
  for _, text in ipairs { "", "\0", "\0\0", "a", "b", "abcdefgh", "abcdefgi", ("a"):rep(1000) } do
    fs.write(path, text)
    local h = fs.hash(path)
    lu.assertEquals(#h, 16)
    lu.assertEquals(h, fs.hash_text(text))
    lu.assertNil(seen[h])
    seen[h] = true
  end
  lu.assertEquals(fs.hash_text "abc", "a31bb6687e0d6a8c")
end

helper.run()
