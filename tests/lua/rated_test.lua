-- Sets of rated images: the CSV format and what is wrong with a file, splits by case, the loader
-- over files and over the stand-in, references that are missing or of another size.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local data, fs, image, rated = lumen.data, lumen.fs, lumen.image, lumen.data.rated

local folder = helper.temporary_folder()

local function picture(name, height, width, value)
  image.save(folder .. "/" .. name, lumen.full({ height, width }, value, { dtype = "u8" }))
end

for i = 1, 4 do
  picture(("s%d.png"):format(i), 40, 30, 50 * i)
  picture(("n%d.png"):format(i), 40, 30, 10 * i)
end
picture("wide.png", 20, 60, 200)

local function csv(text)
  fs.write(folder .. "/set.csv", text)
  return folder .. "/set.csv"
end

TestCsv = {}

function TestCsv.test_what_is_read()
  local set = rated.read(csv("\xef\xbb\xbfimage,non_contrast,contrast,case,raters,vessel,realism\r\n" ..
    "s1.png,n1.png,,p1,3,4.5,1\r\n\r\n" ..
    '"s2.png",,"wide.png","p, ""2""",2.5,5,2.25'))
  lu.assertEquals(set.metrics, { "vessel", "realism" })
  lu.assertEquals(set.rows[1], { image = folder .. "/s1.png", non_contrast = folder .. "/n1.png",
    case = "p1", raters = 3, scores = { 4.5, 1 } })
  lu.assertEquals(set.rows[2], { image = folder .. "/s2.png", contrast = folder .. "/wide.png",
    case = 'p, "2"', raters = 2.5, scores = { 5, 2.25 } })
end

-- Columns may stand in any order, and most may be left out.
function TestCsv.test_smallest()
  local set = rated.read(csv("sharp,case,image\n3,p1,s1.png\n"))
  lu.assertEquals(set.metrics, { "sharp" })
  lu.assertEquals(set.rows[1].scores, { 3 })
end

function TestCsv.test_hostile_files_say_where()
  local head = "image,contrast,case,vessel\n"
  local function fails(where, text)
    local ok, message = pcall(rated.read, csv(text))
    lu.assertFalse(ok, where)
    lu.assertStrContains(message, folder .. "/set.csv: ")
    lu.assertStrContains(message, where)
  end
  fails("empty", "")
  fails("no rows below the header", head)
  fails("line 1: there is no column case", "image,vessel\ns1.png,3\n")
  fails("line 1: there is no column image", "case,vessel\np1,3\n")
  fails("line 1: there is no column of scores", "image,case\ns1.png,p1\n")
  fails("line 1: column vessel stands there twice", "image,case,vessel,vessel\ns1.png,p1,3,3\n")
  fails("line 1: column 3 has no name", "image,case,\ns1.png,p1,3\n")
  fails("line 1: column 3: a/b is no name", "image,case,a/b\ns1.png,p1,3\n")
  fails("line 2: 3 fields, but the header has 4 columns", head .. "s1.png,,p1\n")
  fails("line 2: 5 fields", head .. "s1.png,,p1,3,4\n")
  fails("line 3: column image is empty", head .. "s1.png,,p1,3\n,,p1,3\n")
  fails("line 2: column case is empty", head .. "s1.png,,,3\n")
  fails("line 2: column image: there is no file", head .. "nothing.png,,p1,3\n")
  fails("line 2: column contrast: there is no file", head .. "s1.png,nothing.png,p1,3\n")
  fails("line 2: column image: there is no file", head .. ".,,p1,3\n") -- a folder
  for _, score in ipairs { "", "x", "0.5", "5.01", "nan", "inf", "1e", "0x3", "3 4", "-3", "1e999" } do
    fails("line 2: column vessel: ", head .. ("s1.png,,p1,%s\n"):format(score))
  end
  fails("line 2: column raters: ", "image,case,raters,v\ns1.png,p1,0,3\n")
  fails("line 2: column 1: the quotes are not closed", head .. '"s1.png,,p1,3\n')
  fails("line 2: column 1: something stands behind the quotes", head .. '"s1.png"x,,p1,3\n')
  fails("line 4: column image: " .. folder .. "/s1.png stands in line 2 already",
    head .. "s1.png,,p1,3\ns2.png,,p1,3\ns1.png,,p2,3\n")
  fails("not a text file", head .. "s1.png,,p1,3\0\n")
  local many = {}
  for i = 1, 17 do many[i] = "m" .. i end
  fails("line 1: 17 columns are metrics", "image,case," .. table.concat(many, ",") .. "\n")
  lu.assertErrorMsgContains("nowhere.csv", rated.read, folder .. "/nowhere.csv")
end

-- Nothing that is not a CSV file brings it down.
function TestCsv.test_random_bytes()
  for seed = 1, 150 do
    local bytes = {}
    local alphabet = 'image,case\n\r"ns1.png3; \255'
    for i, v in ipairs(lumen.rand({ 60 }, { rng = { seed = seed, stream = "csv" } }):totable()) do
      local at = math.floor(v * #alphabet) + 1
      bytes[i] = alphabet:sub(at, at)
    end
    local ok, message = pcall(rated.read, csv((seed % 2 == 0 and "image,case,v\n" or "") .. table.concat(bytes)))
    lu.assertTrue(ok or tostring(message):find(folder, 1, true) == 1, tostring(message))
  end
end

TestSplit = {}

function TestSplit.test_cases_stay_together()
  local cases = {}
  for i = 1, 200 do cases[i] = "p" .. i % 37 end
  for seed = 0, 4 do
    local train, test = rated.split(cases, 0.2, seed)
    local side, held = {}, 0
    for name, list in next, { train = train:totable(), test = test:totable() } do
      for _, item in ipairs(list) do
        local case = cases[item + 1]
        lu.assertTrue(side[case] == nil or side[case] == name, case)
        if not side[case] and name == "test" then held = held + 1 end
        side[case] = name
      end
    end
    lu.assertEquals(train.shape[1] + test.shape[1], 200)
    lu.assertEquals(held, 7) -- a fifth of 37
  end
end

-- The split depends on the cases and the seed, not on the order of the rows.
function TestSplit.test_repeatable()
  local function held(cases, seed)
    local _, test = rated.split(cases, 0.3, seed)
    local list = {}
    for i, item in ipairs(test:totable()) do list[i] = cases[item + 1] end
    table.sort(list)
    return table.concat(list, " ")
  end
  local a = { "a", "b", "c", "d", "e", "f", "g", "h", "i", "j" }
  local b = { "j", "i", "h", "g", "f", "e", "d", "c", "b", "a" }
  lu.assertEquals(held(a, 3), held(b, 3))
  lu.assertEquals(held(a, 3), held(a, 3))
  lu.assertNotEquals(held(a, 3), held(a, 4))
end

function TestSplit.test_edges()
  local train, test = rated.split({ "a", "b" }, 0.001, 0)
  lu.assertEquals({ train.shape[1], test.shape[1] }, { 1, 1 })
  train, test = rated.split({ "a", "b" }, 0.999, 0)
  lu.assertEquals({ train.shape[1], test.shape[1] }, { 1, 1 })
  lu.assertErrorMsgContains("one case", rated.split, { "a", "a" }, 0.5, 0)
end

TestLoader = {}

local names = { "image", "source", "contrast", "has_source", "has_contrast", "scores" }

local function loader(source, o)
  local all = { source = source, size = 32, batch = 4, channels = 1, threads = 0 }
  for key, value in next, o or {} do all[key] = value end
  return data.loader(all)
end

function TestLoader.test_files_and_missing_references()
  local set = rated.open(csv("image,non_contrast,contrast,case,v\ns1.png,n1.png,wide.png,a,2\n" ..
    "s2.png,,,b,3.5\n"), {})
  local l <close> = loader(set.source, { vesselness = true })
  local batch = l:epoch(1)()
  lu.assertEquals(batch.image.shape, { 2, 2, 32, 32 })
  lu.assertEquals(batch.has_source:totable(), { 1, 0 })
  lu.assertEquals(batch.has_contrast:totable(), { 1, 0 })
  lu.assertEquals(batch.scores:totable(), { { 2 }, { 3.5 } })
  lu.assertEquals(batch.source[2]:abs():max():item(), 0)
  lu.assertAlmostEquals(batch.source[1][1]:mean():item(), 10 / 255, 1e-6)
  local whole = l:rated(1)
  lu.assertEquals(whole.contrast.shape, { 40, 30 }) -- of the image's size
  lu.assertEquals(whole.contrast:to("f64"):mean():item(), 200)
  lu.assertNil(l:rated(2).source)
end

-- Files and memory give the same batches.
function TestLoader.test_the_stand_in_written_out()
  local set = rated.open("cas_p", { images = 6, size = 64 })
  rated.write(folder .. "/written", set)
  local other = rated.open(folder .. "/written", {})
  lu.assertEquals(other.cases, set.cases)
  lu.assertEquals(other.metrics, set.metrics)
  local a <close> = loader(set.source, { vesselness = true, batch = 6 })
  local b <close> = loader(other.source, { vesselness = true, batch = 6 })
  local x, y = a:epoch(1)(), b:epoch(1)()
  for _, name in ipairs(names) do helper.assert_equal(x[name], y[name], name) end
end

function TestLoader.test_threads_change_nothing()
  local o = { batch = 5, shuffle = true, vesselness = true, flip = 0.5, seed = 9,
              crop = { scale = { 0.5, 1 }, ratio = { 1, 1 } }, augment = { brightness = 0.1, shift = 0.1 } }
  local list = {}
  for i, threads in ipairs { 0, 1, 3 } do
    o.threads = threads
    local l <close> = loader({ kind = "rated_phantom", count = 13, size = 48 }, o)
    list[i] = {}
    for epoch = 1, 2 do
      for batch in l:epoch(epoch) do table.insert(list[i], batch) end
    end
  end
  for i = 2, 3 do
    lu.assertEquals(#list[i], #list[1])
    for k, batch in ipairs(list[i]) do
      for _, name in ipairs(names) do helper.assert_equal(batch[name], list[1][k][name], name) end
    end
  end
end

-- Image and references are cut, moved and flipped together: where all three files are the same
-- picture, all three come out the same.
function TestLoader.test_one_cut_for_all()
  image.save(folder .. "/noise.png",
    lumen.rand({ 50, 70 }, { high = 255, rng = { seed = 1, stream = "noise" } }):to("u8"))
  local set = rated.open(csv("image,non_contrast,contrast,case,v\nnoise.png,noise.png,noise.png,a,2\n"), {})
  local l <close> = loader(set.source, { vesselness = true, flip = 0.5, batch = 1,
    crop = { scale = { 0.2, 1 }, ratio = { 0.5, 2 } }, augment = { rotate = 20, contrast = 0.3 } })
  local seen = {}
  for epoch = 1, 6 do
    local batch = l:epoch(epoch)()
    helper.assert_equal(batch.image, batch.source)
    helper.assert_equal(batch.image, batch.contrast)
    seen[batch.image:sum():item()] = true
  end
  local count = 0
  for _ in next, seen do count = count + 1 end
  lu.assertTrue(count > 3)
end

function TestLoader.test_broken_files_are_left_out()
  fs.write(folder .. "/broken.png", "no picture")
  local text = "image,non_contrast,case,v\ns1.png,n1.png,a,1\ns2.png,broken.png,b,2\n" ..
    "broken.png,n3.png,c,3\ns4.png,n4.png,d,4\n"
  local set = rated.open(csv(text), {})
  local l <close> = loader(set.source, { broken = "skip" })
  local batch = l:epoch(1)()
  lu.assertEquals(batch.scores:totable(), { { 1 }, { 4 } })
  lu.assertAlmostEquals(batch.source[2]:mean():item(), 40 / 255, 1e-6)
  local strict <close> = loader(set.source)
  lu.assertErrorMsgContains("broken.png", function() strict:epoch(1)() end)
end

function TestLoader.test_errors()
  local function fails(text, source, o) lu.assertErrorMsgContains(text, loader, source, o) end
  fails("row 1 of files has no image", { kind = "rated", files = { {} } })
  fails("row 1 of files has 1 scores, not 2", { kind = "rated", metrics = 2,
    files = { { image = "a", scores = { 1 } } } })
  fails("metrics must be 0 to 16", { kind = "rated", metrics = 17, files = {} })
  fails("row 1 of files: source must be a path", { kind = "rated", files = { { image = "a", source = 3 } } })
  fails("without files", { kind = "rated", files = {} })
  fails("no pseudo_mask", { kind = "rated_phantom", count = 1 }, { pseudo_mask = true })
  fails("vesselness", { kind = "phantom", count = 1 }, { vesselness = true })
  fails("cannot be joined", { { kind = "rated", files = { { image = "a" } } } })
  local l <close> = loader { kind = "phantom", count = 1 }
  lu.assertErrorMsgContains("not a loader of rated images", l.rated, l, 1)
  lu.assertErrorMsgContains("has no ratings", rated.open, "phantom", {})
  lu.assertErrorMsgContains("did you mean cas_p", rated.open, "casp", {})
end

helper.run()
