-- The same frame again: signatures do not see grey curves, JPEG or size; other frames stay
-- apart; what is learned is kept in a file that nothing breaks.
local lu = require "luaunit"
local lumen = require "lumen"
local core = require "lumen.core"
local helper = require "tests.helper"
local fs, image = lumen.fs, lumen.image

local folder

local function frame(index, size)
  return lumen.vision.phantom { size = size or 160, seed = 5, index = index, preset = "hard" }.image
end

local function u8(x) return x:maximum(0):minimum(255):to("u8") end

-- A rising grey curve: a power, or a line.
local function curved(x, gamma) return u8((x:to("f32") / 255 + 1e-6):pow(gamma) * 200 + 30) end

local function stretched(x, factor, offset) return u8(x:to("f32") * factor + offset) end

local function noisy(x, sigma)
  return u8(x:to("f32") + lumen.randn(x.shape, { rng = { seed = 3, stream = "noise" } }) * sigma)
end

-- What remains after a move to the left and up by so many pixels, in the old size.
local function moved(x, pixels)
  local side = x.shape[1]
  local rest = x:slice(1, 1 + pixels, side):slice(2, 1 + pixels, side):contiguous()
  return image.resize(rest, side, side)
end

local function save(name, x, quality)
  image.save(folder .. "/" .. name, x, { quality = quality })
  return folder .. "/" .. name
end

local function loader(files)
  return lumen.data.loader { source = { kind = "files", files = files }, size = 8, threads = 0 }
end

-- Best matches of files among others: indices (from 0) and correlations.
local function similar(files, others, options)
  local a <close> = loader(files)
  local b <close> = loader(others or files)
  local index, correlation = core.data.similar(a, others and b or nil, options)
  return index:totable(), correlation:totable()
end

local function one(a, b, threshold)
  local index, correlation = similar({ a }, { b }, { threshold = threshold or 0.3 })
  return index[1] == 0 and correlation[1] or nil
end

-- What a chunk in a process of its own prints, warnings included.
local function run(chunk)
  fs.write(folder .. "/chunk.lua", 'local core = require "lumen.core"\n' .. chunk)
  local pipe = io.popen(("%s %s/chunk.lua 2>&1"):format(fs.realpath "/proc/self/exe", folder))
  local text = pipe:read "a"
  pipe:close()
  return text
end

TestSimilar = {}

function TestSimilar:setUp() folder = helper.temporary_folder() end
function TestSimilar:tearDown() helper.remove_folder(folder) end

-- Changes of a frame, each with the correlation it keeps at least.
local changes = {
  { "power 0.5", 0.9, function(x) return curved(x, 0.5) end },
  { "power 2", 0.9, function(x) return curved(x, 2) end },
  { "less contrast", 0.95, function(x) return stretched(x, 0.5, 60) end },
  { "more contrast", 0.95, function(x) return stretched(x, 1.2, -10) end },
  { "as JPEG", 0.95, function(x) return x end, 60 },
  { "as bad JPEG", 0.85, function(x) return x end, 20 },
  { "noise", 0.9, function(x) return noisy(x, 8) end },
  { "smaller", 0.95, function(x) return image.resize(x, 150, 150) end },
  { "moved by 1 of 256", 0.9, function(x) return moved(x, 1) end },
  { "moved by 3 of 256", 0.78, function(x) return moved(x, 3) end },
  { "all at once", 0.8, function(x) return noisy(curved(image.resize(moved(x, 1), 150, 150), 0.6), 5) end, 80 },
}

function TestSimilar:test_changes_that_do_not_hide_a_frame()
  for i = 1, 4 do
    local x = frame(i, 256)
    local plain = save(i .. ".png", x)
    lu.assertAlmostEquals(one(plain, plain), 1, 1e-6)
    for _, row in ipairs(changes) do
      local name, least, change, quality = table.unpack(row)
      local r = one(plain, save(quality and "other.jpg" or "other.png", change(x), quality))
      lu.assertTrue(r and r > least, ("%d %s: %s"):format(i, name, r))
    end
  end
end

-- At the threshold that is used: each changed frame is found as itself among the others.
function TestSimilar:test_found_among_others()
  local files, others = {}, {}
  for i = 1, 8 do
    files[i] = save(i .. ".png", frame(i))
    others[i] = save(i .. "_changed.jpg", noisy(curved(moved(frame(i), 1), 0.7), 4), 80)
  end
  lu.assertEquals(similar(others, files), { 0, 1, 2, 3, 4, 5, 6, 7 })
end

function TestSimilar:test_other_frames_and_other_places()
  local files = {}
  for i = 1, 24 do files[i] = save(i .. ".png", frame(i)) end
  for _, r in ipairs((select(2, similar(files, nil, { threshold = 0.3 })))) do
    lu.assertTrue(r < 0.65, r) -- the threshold is 0.75
  end
  local x = frame(1)
  lu.assertNil(one(files[1], save("flip.png", x:flip { dims = { 2 } }), 0.75))
  lu.assertTrue((one(files[1], save("negative.png", stretched(x, -1, 255))) or 0) < 0.3)
end

-- The search finds what comparing every pair finds: the hashes lose nothing.
function TestSimilar:test_search_against_every_pair()
  local files = {}
  for i = 1, 12 do
    files[i] = save(i .. ".png", noisy(frame(1 + i % 3, 96), 4 * i))
  end
  local index, correlation = similar(files, nil, { threshold = 0.3 })
  for i = 1, #files do
    local best, at = -1, -1
    for j = 1, i - 1 do
      local r = one(files[i], files[j]) or -1
      if r > best then best, at = r, j - 1 end
    end
    lu.assertEquals(index[i], at, i)
    if at >= 0 then lu.assertEquals(correlation[i], best, i) end
  end
end

function TestSimilar:test_nothing_to_see_is_similar_to_nothing()
  local blank = save("blank.png", lumen.full({ 50, 40 }, 7, { dtype = "u8" }))
  local dot = save("dot.png", lumen.full({ 1, 1 }, 200, { dtype = "u8" }))
  lu.assertEquals(similar({ blank, dot }, { blank, dot }), { -1, -1 })
end

function TestSimilar:test_threads_give_the_same()
  local files = {}
  for i = 1, 9 do files[i] = save(i .. ".png", frame(1 + i % 4, 96)) end
  local before = core.threads()
  local reference = { similar(files) }
  for _, n in ipairs { 1, 3 } do
    core.threads(n)
    lu.assertEquals({ similar(files) }, reference)
  end
  core.threads(before)
  lu.assertEquals(reference[1], { -1, -1, -1, -1, 0, 1, 2, 3, 0 })
end

function TestSimilar:test_kept_in_a_file()
  local files, cache = { save("1.png", frame(1)), save("2.png", frame(2)) }, folder .. "/kept"
  local o = { threshold = 0.3, cache = cache }
  local first = { similar(files, files, o) }
  local size = fs.stat(cache).size
  lu.assertEquals(size, 16 + 2 * (8 + 1024))
  lu.assertEquals({ similar(files, files, o) }, first)
  lu.assertEquals(fs.stat(cache).size, size)
  fs.write(cache, fs.read(cache):sub(1, size - 5)) -- as after a crash
  lu.assertEquals({ similar(files, files, o) }, first)
  lu.assertEquals(fs.stat(cache).size, size)
  for _, text in ipairs { "", fs.read(cache):sub(1, 7) } do -- as after an earlier crash
    fs.write(cache, text)
    lu.assertEquals({ similar(files, files, o) }, first)
    lu.assertEquals(fs.stat(cache).size, size)
  end
  fs.rename(files[1], folder .. "/moved.png")      -- known by its content, not its name
  lu.assertEquals({ similar({ folder .. "/moved.png", files[2] }, nil, o) }, { { -1, -1 }, { 0, 0 } })
  lu.assertEquals(fs.stat(cache).size, size)
end

local compare = [[
local function open(file)
  return core.data.loader { source = { kind = "files", files = { file } }, size = 8, threads = 0 }
end
local index = core.data.similar(open "%s", open "%s", { cache = "%s" })
print("match", index:totable()[1])]]

function TestSimilar:test_a_bad_cache_is_a_warning()
  local file = save("1.png", frame(1))
  fs.write(folder .. "/cache", "something else entirely, and longer than the heading")
  local text = run(compare:format(file, file, folder .. "/cache"))
  lu.assertStrContains(text, "cache: no file of signatures")
  lu.assertStrContains(text, "match\t0")
  lu.assertStrContains(fs.read(folder .. "/cache"), "something else")
  text = run(compare:format(file, file, folder .. "/no/such/folder/cache"))
  lu.assertStrContains(text, "signatures are not kept")
  lu.assertStrContains(text, "match\t0")
end

function TestSimilar:test_unreadable_files_are_counted()
  local file = save("1.png", frame(1))
  fs.write(folder .. "/broken.png", "no picture")
  local text = run(compare:format(folder .. "/broken.png", file, folder .. "/cache"))
  lu.assertStrContains(text, "images that cannot be compared with others: 1, the first: ")
  lu.assertStrContains(text, "broken.png")
  lu.assertStrContains(text, "match\t-1")
end

function TestSimilar:test_arguments()
  local file = save("1.png", frame(1))
  local function fails(text, ...)
    local ok, message = pcall(core.data.similar, ...)
    lu.assertFalse(ok, text)
    lu.assertStrContains(tostring(message), text)
  end
  local l <close> = loader { file }
  fails("threshold must be", l, nil, { threshold = 0 / 0 })
  fails("threshold must be", l, nil, { threshold = 0.1 })
  fails("did you mean", l, nil, { treshold = 0.5 })
  fails("lumen.loader", l, 7)
  local phantom <close> = lumen.data.loader { source = { kind = "phantom", count = 2 }, size = 32 }
  fails("phantoms have no files", phantom, l)
  fails("phantoms have no files", l, phantom)
  local closed = loader { file }
  closed:close()
  fails("closed", l, closed)
end

helper.run()
