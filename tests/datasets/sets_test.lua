-- The dataset files: every form each is found in, its splits, and what is said when something
-- is missing or wrong. The trees are made here, of small pictures.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local dataset = require "lumen.dataset"
local check = require "lumen.commands.check"
local data, fs, image = lumen.data, lumen.fs, lumen.image

local folder

local function picture(file, height, width, value)
  fs.mkdir(file:match("^(.*)/"))
  image.save(file, lumen.full({ height or 8, width or 8 }, value or 100, { dtype = "u8" }))
end

-- Files below `root`: names with a number such as "images/%d.png", 1 to n; PNG whatever the
-- name says, which the reader does not mind.
local function make(root, spec)
  picture(folder .. "/.one.png")
  local bytes, made = fs.read(folder .. "/.one.png"), {}
  for _, row in ipairs(spec) do
    for i = 1, row[2] do
      local path = root .. "/" .. row[1]:format(i, i)
      local dir = path:match("^(.*)/")
      if not made[dir] then fs.mkdir(dir) end
      made[dir] = true
      local file <close> = assert(io.open(path, "wb"))
      file:write(bytes)
    end
  end
  return root
end

local function fails(text, fn, ...)
  local ok, message = pcall(fn, ...)
  lu.assertFalse(ok, "no error with " .. text)
  lu.assertStrContains(tostring(message), text)
end

-- What the command prints, and its exit code.
local function checked(...)
  local lines, original = {}, print
  print = function(...) lines[#lines + 1] = table.concat({ ... }, "\t") end
  local ok, code = pcall(check, ...)
  print = original
  return ok and table.concat(lines, "\n") or tostring(code), code
end

local function items(name, root, split)
  local source, subset = data.source(name, { root = root, split = split })
  local loader <close> = data.loader { source = source, subset = subset, size = 8, threads = 0 }
  local names = {}
  for i = 1, #loader do names[i] = loader:name(i):sub(#root + 2) end
  return names, loader:has_masks()
end

TestSets = {}

function TestSets:setUp() folder = helper.temporary_folder() end
function TestSets:tearDown() helper.remove_folder(folder) end

function TestSets:test_every_file_describes_itself()
  for _, name in ipairs(data.names()) do
    local set = data.dataset(name)
    lu.assertEquals(set.name, name)
    for _, field in ipairs { "about", "origin", "licence" } do
      lu.assertEquals(type(set[field]), "string", name .. " " .. field)
    end
    lu.assertTrue(set.layouts ~= nil or set.source ~= nil, name)
  end
end

-- dataset, tree, number of train, test and pool images.
local forms = {
  { "arcade_vessel", { { "train/images/%d.png", 5 }, { "train/masks/%d.png", 5 },
    { "val/images/%d.png", 2 }, { "val/masks/%d.png", 2 } }, 5, 2, 7 },
  { "arcade_vessel", { { "train/images/%d.png", 5 }, { "train/masks/%d.png", 5 },
    { "val/images/%d.png", 2 }, { "val/masks/%d.png", 2 },
    { "test/images/%d.png", 3 }, { "test/masks/%d.png", 3 } }, 5, 3, 10 },
  { "xcad", { { "images/%d.png", 10 }, { "masks/%d.png", 10 }, { "pre_contrast/%d.png", 2 } },
    7, 3, 12 },
  { "xcad", { { "test/images/%d.png", 10 }, { "test/masks/%d.png", 10 },
    { "train/trainC/%d.png", 4 } }, 7, 3, 14 },
  { "dca1", { { "images/%d.png", 10 }, { "masks/%d.png", 10 } }, 7, 3, 10 },
  { "dca1", { { "%d.pgm", 134 }, { "%d_gt.pgm", 134 } }, 100, 34, 134 },
  { "xcav", { { "train/images/%d.png", 4 }, { "train/masks/%d.png", 4 },
    { "test/images/%d.png", 3 }, { "test/masks/%d.png", 3 } }, 4, 3, 7 },
  { "xcav", { { "P%d/images/R1/00001.png", 50 }, { "P%d/ground_truth/R1/00001.png", 50 },
    { "P%d/ground_truth/R1CATH/00001.png", 50 }, { "P%d/images/R1/00000.png", 50 } }, 4, 46, 50 },
  { "caxf", { { "train/images/%d.png", 4 }, { "train/masks/%d.png", 4 },
    { "test/images/%d.png", 2 }, { "test/masks/%d.png", 2 } }, 4, 2, 6 },
  { "cadica", { { "selectedVideos/p1/v1/input/p1_v1_%05d.png", 3 },
    { "nonselectedVideos/p2/v%d/input/frame.png", 2 } }, 5, nil, 5 },
  { "syntax", { { "a/%d.png", 3 }, { "b/c/%d.jpg", 2 } }, 5, nil, 5 },
  { "coronary_dominance", { { "left/%d/frame.png", 3 } }, 3, nil, 3 },
  { "sequences", { { "P1_R%d/frame_00000.jpg", 3 } }, 3, nil, 3 },
  { "xa170k", { { "cadica/%d.png", 2 }, { "cadica_frangi/%d.png", 2 }, { "syntax/%d.png", 3 },
    { "xcad/%d.png", 1 }, { "coronarydominance/%d.png", 4 } }, 10, nil, 10 },
}

function TestSets:test_forms()
  for k, form in ipairs(forms) do
    local name, tree, train, test, pool = table.unpack(form)
    local holder = ("%s/%d"):format(folder, k)
    local root = make(holder .. "/" .. name, tree)
    local what = name .. " " .. k
    local names, has_masks = items(name, root, "train")
    lu.assertEquals(#names, train, what)
    lu.assertEquals(#items(name, holder, "train"), train, what .. " in its holder")
    lu.assertEquals(has_masks, dataset.is_labelled(data.dataset(name)), what)
    if test then
      lu.assertEquals(#items(name, root, "test"), test, what)
      local seen = {}
      for _, file in ipairs(names) do seen[file] = true end
      for _, file in ipairs(items(name, root, "test")) do lu.assertNil(seen[file], what) end
    else
      fails("no split test", items, name, root, "test")
    end
    local found = data.locate(name, { root = root })
    local _, ranges = dataset.split(found, "pool")
    local count = 0
    for _, r in ipairs(ranges) do count = count + r[2] - r[1] + 1 end
    lu.assertEquals(count, pool, what .. " pool")
  end
end

function TestSets:test_published_dca1_is_split_by_number()
  make(folder, { { "%d.pgm", 134 }, { "%d_gt.pgm", 134 } })
  local test = items("dca1", folder, "test")
  lu.assertEquals(test[1], "101.pgm")
  lu.assertEquals(test[34], "134.pgm")
end

function TestSets:test_wrong_roots()
  fails("root= must name its folder", items, "dca1", "", "train")
  fails("there is no folder /no/such", items, "dca1", "/no/such", "train")
  fails("looked for " .. folder, items, "xcad", folder, "train")
  fails("test/images, test/masks", items, "xcad", folder, "train")
  fails("did you mean xcad", items, "xcat", folder, "train")
  fails("no images in", data.source, folder, { split = "train" })
  fs.write(folder .. "/images", "a file where a folder should be")
  fails("xcad", items, "xcad", folder, "train")
end

function TestSets:test_fingerprint()
  local root = make(folder .. "/a", { { "images/%d.png", 3 }, { "masks/%d.png", 3 } })
  local twin = make(folder .. "/b", { { "images/%d.png", 3 }, { "masks/%d.png", 3 } })
  local function fingerprint(where)
    return dataset.fingerprint(data.locate(where, {}).parts[1].sources)
  end
  local first = fingerprint(root)
  lu.assertEquals(#first, 16)
  lu.assertEquals(fingerprint(twin), first)
  picture(root .. "/masks/2.png", 40, 40)
  lu.assertNotEquals(fingerprint(root), first)
  fs.rename(twin .. "/images/3.png", twin .. "/images/4.png")
  lu.assertNotEquals(fingerprint(twin), first)
end

-- ---- lumen check ---------------------------------------------------------------------------

function TestSets:test_check_complete()
  local root = make(folder .. "/set", { { "images/%d.png", 10 }, { "masks/%d.png", 10 } })
  local text, code = checked("data=" .. root)
  lu.assertStrContains(text, "10 images, 8 x 8, with masks; the last 3 are the test split")
  lu.assertStrContains(text, "complete")
  lu.assertEquals(code, 0)
end

function TestSets:test_check_says_what_is_wrong()
  local root = make(folder .. "/set", { { "images/%d.png", 10 }, { "masks/%d.png", 10 } })
  fs.remove(root .. "/masks/3.png")
  fs.remove(root .. "/images/5.png")
  picture(root .. "/masks/7.png", 8, 9)
  fs.write(root .. "/images/8.png", "no picture")
  fs.write(root .. "/images/notes.txt", "x")
  local text, code = checked("data=" .. root)
  lu.assertEquals(code, 1)
  for _, part in ipairs { "images without a mask", "(1): 3.png", "masks without an image",
                          "(1): 5.png", "7.png (8 x 9, its image 8 x 8)", "cannot be read (1)",
                          "8.png", "notes.txt" } do
    lu.assertStrContains(text, part)
  end
end

function TestSets:test_check_named()
  make(folder .. "/dca1", { { "images/%d.png", 10 }, { "masks/%d.png", 10 } })
  local text, code = checked("data=dca1", "root=" .. folder)
  lu.assertStrContains(text, "not 300 x 300 (10): ")
  lu.assertStrContains(text, "and 5 more")
  lu.assertEquals(code, 1)
  make(folder .. "/arcade_vessel", { { "train/images/%d.png", 2 }, { "train/masks/%d.png", 2 } })
  text = checked("data=arcade_vessel", "root=" .. folder)
  lu.assertStrContains(text, "2 images where 1000 are known to be")
  lu.assertStrContains(text, "val: there is no")
  text = checked("data=dca1", "roo=" .. folder)
  lu.assertStrContains(text, "did you mean root")
end

-- ---- real data -----------------------------------------------------------------------------

function TestSets:test_real_data()
  local root = helper.need_shared("data")
  for _, row in ipairs { { "arcade_vessel", 1000, 200 }, { "xcad", 70, 30 }, { "dca1", 70, 30 } } do
    lu.assertEquals(#items(row[1], root, "train"), row[2])
    lu.assertEquals(#items(row[1], root, "test"), row[3])
  end
  lu.assertEquals(#items("sequences", root, "train"), 492)
  local text, code = checked("data=dca1", "root=" .. root)
  lu.assertEquals(code, 0, text)
end

helper.run()
