-- score= of the recipe cas_iqa: what is found in a folder, any image, references by name and by
-- list, every model, checkpoints that do not fit, and the same score alone, in a batch and in
-- the loader that trains.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local find = require "lumen.rated.find"
local scoring = require "lumen.rated.score"
local fs = lumen.fs

io.stderr:setvbuf("full")
local quiet = io.open("/dev/null", "w")
local stdout, stderr = io.stdout, io.stderr

local function start(values)
  local o = { threads = 1, workers = 1, handmade = false }
  for key, value in next, values do o[key] = value end
  local recipe = lumen.recipe "cas_iqa"
  io.stdout, io.stderr = quiet, quiet
  local ok, result, run = pcall(lumen.run.execute, recipe, o)
  io.stdout, io.stderr = stdout, stderr
  if not ok then error(result, 0) end
  return result, run
end

-- Rows of a scores.csv without quotes: image -> { column -> text }, columns, images in order.
local function table_of(dir)
  local columns, rows, order = nil, {}, {}
  for line in io.lines(dir .. "/scores.csv") do
    local fields = {}
    for field in (line .. ","):gmatch("([^,]*),") do fields[#fields + 1] = field end
    if not columns then
      columns = fields
    else
      local row = {}
      for i, name in ipairs(columns) do row[name] = fields[i] end
      rows[fields[1]], order[#order + 1] = row, fields[1]
    end
  end
  return rows, columns, order
end

local function put(file, height, width, value)
  fs.mkdir(file:match("^(.*)/"))
  local image = value and lumen.full({ height, width }, value)
    or lumen.rand({ height, width }, { rng = { seed = height, stream = "test" } })
  lumen.image.save(file, (image * 255):to("u8"))
end

local folder, trained

-- A test case; each test has a folder of its own.
local function case(name)
  local class = {}
  _G[name] = class
  function class.setUp()
    folder = helper.temporary_folder()
    trained = folder .. "/trained"
  end
  function class.tearDown() helper.remove_folder(folder) end
  return class
end

-- A run of a few steps.
local function checkpoint()
  if not fs.exists(trained) then
    start { preset = "smoke", size = 32, depth = 1, images = 10, batch = 4, steps = 1, out = trained }
  end
  return trained
end

local count = 0
local function score(values)
  count = count + 1
  values.out = ("%s/out%d"):format(folder, count)
  values.checkpoint = values.checkpoint or checkpoint()
  local result = start(values)
  return values.out, result
end

local function refused(text, values)
  local ok, message = pcall(score, values)
  lu.assertFalse(ok, text)
  lu.assertStrContains(message, text)
end

local TestFind = case "TestFind"

local function found(rows, base)
  local list = {}
  for i, row in ipairs(rows) do
    local function short(file) return file and file:sub(#base + 2) or "-" end
    list[i] = ("%s %s %s"):format(short(row.image), short(row.non_contrast), short(row.contrast))
  end
  return list
end

function TestFind.test_names()
  local dir = folder .. "/names"
  for _, name in ipairs { "a.png", "a_source.png", "b.jpg", "b_source.png", "b_contrast.pgm", "c.png", "c.jpg",
      "c_source.png", "c_source.jpg", "deep/er/a.png", "deep/er/a_contrast.PNG", "source.png", "_contrast.png" } do
    put(dir .. "/" .. name, 8, 8)
  end
  fs.write(dir .. "/a_contrast.txt", "no image")
  local rows, base = find(dir .. "//")
  lu.assertEquals(base, dir)
  local expected = { "_contrast.png - -", "a.png a_source.png -", "b.jpg b_source.png b_contrast.pgm",
    "c.jpg c_source.jpg -", "c.png c_source.png -", "source.png - -", "deep/er/a.png - deep/er/a_contrast.PNG" }
  lu.assertEquals(found(rows, base), expected)
  rows, base = find(dir .. "/b.jpg")
  lu.assertEquals(found(rows, base), { expected[3] })
end

function TestFind.test_names_that_say_too_much()
  local dir = folder .. "/lost"
  local function refuse(text, what, list)
    lu.assertErrorMsgContains(text, find, what or dir, list)
  end
  refuse("option score: there is no folder")
  fs.mkdir(dir)
  refuse("option score: no images in " .. dir)
  put(dir .. "/a.png", 8, 8)
  put(dir .. "/x_source.png", 8, 8)
  refuse("lost/x_source.png: a reference by its name, but of no image")
  os.remove(dir .. "/x_source.png")
  put(dir .. "/a_source.png", 8, 8)
  put(dir .. "/a_source_contrast.png", 8, 8)
  refuse("lost/a_source_contrast.png: a reference by its name, but of no image")
  os.remove(dir .. "/a_source_contrast.png")
  os.remove(dir .. "/a_source.png")
  put(dir .. "/a_source.jpg", 8, 8)
  put(dir .. "/a_source.pgm", 8, 8)
  refuse("lost/a_source.jpg and " .. dir .. "/a_source.pgm: which belongs to " .. dir .. "/a.png?")
  refuse("option references: it is for a folder", dir .. "/a.png", dir .. "/a.png")
end

-- As a file lists them: names mean nothing, scores and cases may be missing.
function TestFind.test_list()
  local dir = folder .. "/listed"
  for _, name in ipairs { "in/1.png", "in/2.png", "in/3_source.png", "in/n.png", "c.png" } do put(dir .. "/" .. name, 8, 8) end
  local list = dir .. "/list.csv"
  fs.write(list, "image,non_contrast,contrast\nin/1.png,in/n.png,c.png\nin/../in/3_source.png,,c.png\nc.png,,\n")
  io.stderr = quiet
  local rows, base = find(dir .. "/in", list)
  io.stderr = stderr
  lu.assertEquals({ rows[1].non_contrast, rows[1].contrast, #rows }, { dir .. "/in/n.png", dir .. "/c.png", 3 })
  lu.assertEquals({ rows[2].image, rows[2].non_contrast, rows[2].contrast }, { base .. "/2.png" })
  lu.assertEquals({ rows[3].image, rows[3].contrast }, { base .. "/3_source.png", dir .. "/c.png" })
  rows, base = find(list)
  lu.assertEquals({ #rows, base, rows[3].image }, { 3, dir, dir .. "/c.png" })
  fs.write(list, "image,case,vessel\nin/1.png,p,3\n") -- scores are not looked at
  lu.assertEquals(#find(list), 1)
  local function refuse(text, content)
    fs.write(list, content)
    lu.assertErrorMsgContains(text, find, dir .. "/in", list)
  end
  refuse(list .. " names no image of " .. dir .. "/in", "image\nc.png\n")
  refuse(list .. ": line 2: column contrst: c.png is no number from 1 to 5", "image,contrst\nin/1.png,c.png\n")
  refuse(list .. ": line 2: column contrast: there is no file", "image,contrast\nin/1.png,nope.png\n")
  refuse(list .. ": line 1: there is no column image", "contrast\nc.png\n")
end

function TestFind.test_names_of_pictures()
  local pictures = require("lumen.path").pictures
  lu.assertEquals(pictures { "a.png", "a.jpg", "b/a.png", "/x/../../c.bmp", ".h", "d" },
    { "a.png.png", "a.jpg.png", "b/a.png", "x/_/_/c.png", ".h.png", "d.png" })
  local seen = {}
  for _, name in ipairs(pictures { "a.png", "a.bmp", "a.png.jpg", "a.bmp.tif" }) do
    lu.assertNil(seen[name], name)
    seen[name] = true
  end
end

local TestScore = case "TestScore"

-- Grey, colour, 16 bit, alpha, palette, odd, tiny, two of one name, broken, with a broken reference.
function TestScore.test_any_image()
  local dir = folder .. "/any"
  fs.mkdir(dir)
  for _, name in ipairs { "grey.png", "colour.png", "grey16.png", "alpha.png", "palette.png", "colour.bmp", "blocks.jpg" } do
    fs.write(dir .. "/" .. name, (fs.read("tests/fixtures/" .. name)))
  end
  put(dir .. "/odd.png", 37, 101)
  put(dir .. "/odd_contrast.png", 9, 5)
  put(dir .. "/one.png", 1, 1)
  put(dir .. "/thin.png", 1, 50)
  put(dir .. "/dark.png", 20, 20, 0)
  put(dir .. "/a, b/odd.png", 20, 20)
  put(dir .. "/half.png", 20, 20)
  fs.write(dir .. "/half_source.png", "no picture")
  fs.write(dir .. "/broken.png", "no picture")
  local out, result = score { score = dir }
  lu.assertEquals(result, { scored = 12, left_out = 2 })
  local rows, columns, order = table_of(out)
  lu.assertEquals(columns, { "image", "vessel", "background", "realism", "overall", "uncertainty", "vessel_sd",
    "background_sd", "realism_sd", "non_contrast", "contrast" })
  lu.assertEquals(#order, 14)
  for _, name in ipairs(order) do
    local row = rows[name]
    if name == "broken.png" or name == "half.png" then
      for _, column in ipairs(columns) do lu.assertEquals(row[column], column == "image" and name or "") end
    elseif name:sub(1, 1) ~= '"' then
      local sum = 0
      for _, metric in ipairs { "vessel", "background", "realism" } do
        local value, sd = tonumber(row[metric]), tonumber(row[metric .. "_sd"])
        lu.assertTrue(value >= 1 and value <= 5, name)
        lu.assertTrue(sd > 0 and sd <= 2, name)
        sum = sum + value
      end
      lu.assertAlmostEquals(tonumber(row.overall), sum / 3, 2e-4)
      lu.assertAlmostEquals(tonumber(row.uncertainty), (row.vessel_sd + row.background_sd + row.realism_sd) / 3, 2e-4)
    end
  end
  lu.assertEquals(rows["grey16.png"].vessel, rows["grey.png"].vessel)
  lu.assertEquals(rows["odd.png"].contrast, "odd_contrast.png")
  lu.assertStrContains(fs.read(out .. "/scores.csv"), '\n"a, b/odd.png",')
  for _, metric in ipairs { "vessel", "background", "realism" } do
    local heat = ("%s/heat/%s"):format(out, metric)
    lu.assertEquals(fs.list(heat), { "a, b", "alpha.png", "blocks.png", "colour.bmp.png", "colour.png.png", "dark.png",
      "grey.png", "grey16.png", "odd.png", "one.png", "palette.png", "thin.png" })
    lu.assertEquals(lumen.image.load(heat .. "/odd.png").shape, { 37, 101, 3 })
    lu.assertEquals(lumen.image.load(heat .. "/a, b/odd.png").shape, { 20, 20, 3 })
  end
  lu.assertFalse(fs.exists(dir .. "/heat")) -- nothing is written beside the images
  refused(dir .. "/half_source.png", { score = dir .. "/half.png", broken = "error" })
  refused(dir .. "/broken.png: no image can be read", { score = dir .. "/broken.png" })
end

-- In a batch, alone, and as the loader that trains gives it: one score.
function TestScore.test_the_same_everywhere()
  local set = lumen.data.rated.open("cas_p", { images = 5, size = 64 })
  local dir = folder .. "/same"
  lumen.data.rated.write(dir, set)
  local list = dir .. "/ratings.csv"
  local together = table_of((score { score = dir .. "/image", references = list }))
  local alone = table_of((score { score = dir .. "/image", references = list, batch = 1, workers = 2 }))
  local as_list = table_of((score { score = list, batch = 2 }))
  local bare = table_of((score { score = dir .. "/image" }))
  local o = lumen.recipe("cas_iqa"):resolve { { "checkpoint", checkpoint() } }
  local model = scoring.restore(lumen.recipe "cas_iqa", o, { "model", "encoder", "depth", "size" })
  local loader = lumen.data.loader { source = set.source, batch = 5, size = 32, channels = 1, mean = { 0.449 },
                                     std = { 0.226 }, vesselness = true }
  local differs = 0
  for batch in loader:epoch(1) do
    local expected = lumen.no_grad(function() return model(batch).scores:totable() end)
    for i = 1, 5 do
      local name = ("%06d.png"):format(i)
      for m, metric in ipairs(set.metrics) do
        lu.assertAlmostEquals(tonumber(together[name][metric]), expected[i][m], 1e-4)
        lu.assertAlmostEquals(tonumber(alone[name][metric]), expected[i][m], 1e-4)
        lu.assertAlmostEquals(tonumber(as_list["image/" .. name][metric]), expected[i][m], 1e-4)
        differs = math.max(differs, math.abs(tonumber(bare[name][metric]) - expected[i][m]))
      end
      lu.assertEquals(together[name].non_contrast, dir .. "/non_contrast/" .. name)
      lu.assertEquals({ bare[name].non_contrast, bare[name].contrast }, { "", "" })
    end
  end
  lu.assertTrue(differs > 0.001) -- references count
end

-- A run remembers the metrics of its data; its checkpoints and copies of them do, too, or are told.
function TestScore.test_own_metrics()
  local dir, lines = folder .. "/own", { "image,case,sharp,clean" }
  for i = 1, 10 do
    put(("%s/%d.png"):format(dir, i), 30 + i, 40)
    lines[i + 1] = ("%d.png,%d,%d,%d"):format(i, i, 1 + i % 5, 1 + i % 3)
  end
  fs.write(dir .. "/ratings.csv", table.concat(lines, "\n") .. "\n")
  local run = folder .. "/own_run"
  start { preset = "smoke", data = dir, batch = 4, steps = 1, out = run, single = true }
  local first, columns = table_of((score { score = dir .. "/1.png", checkpoint = run }))
  lu.assertEquals(columns[3], "clean")
  lu.assertEquals(first["1.png"].sharp, first["1.png"].clean) -- single
  local file = run .. "/checkpoints/step_1/model.safetensors"
  lu.assertEquals(table_of((score { score = dir .. "/1.png", checkpoint = file })), first)
end

-- Random weights in a file of their own: the options say what they are. Regressors have no levels.
function TestScore.test_every_model()
  local dir = folder .. "/models"
  put(dir .. "/x.png", 30, 30)
  put(dir .. "/x_source.png", 30, 30)
  put(dir .. "/x_contrast.png", 30, 30)
  put(dir .. "/y.png", 50, 40)
  local small = { encoder = "vit_micro", depth = 1, size = 32 }
  local vectors = lumen.randn({ 15, 24 }, { rng = { seed = 1, stream = "test" } })
  for _, row in ipairs {
    { { model = "must", text = "prototype", paths = "contrast", router = "hard" }, "contrast", true, true },
    { { model = "must", text = "clip", router = "shared", vesselness = false }, "both", true, true, vectors },
    { { model = "must", text = "none", paths = "none" }, "", true, true },
    { { model = "ahiq", paths = "source" }, "source", false, true },
    { { model = "maniqa" }, "", false, true },
    { { model = "liqe", text = "prototype" }, "", true, true },
    { { model = "clip_iqa", text = "prototype" }, "", false, true },
    { { model = "iqa_cnn" }, "both", false, false } } do
    local values, used, levels, tokens, clip = table.unpack(row)
    for key, value in next, small do values[key] = value end
    local o = {}
    for key, value in next, values do o[#o + 1] = { key, value } end
    local file = ("%s/%s.safetensors"):format(folder, values.model)
    o = lumen.recipe("cas_iqa"):resolve(o)
    lumen.save(file, lumen.recipe("cas_iqa").build(o, lumen.models.rated.metrics, clip):state_dict())
    values.score, values.checkpoint = dir, file
    local out = score(values)
    local x = table_of(out)["x.png"]
    values.score = dir .. "/x.png"
    local alone = table_of(score(values))["x.png"]
    for _, metric in ipairs(lumen.models.rated.metrics) do
      lu.assertAlmostEquals(tonumber(alone[metric]), tonumber(x[metric]), 1e-4, values.model)
    end
    lu.assertNotNil(tonumber(x.overall), values.model)
    lu.assertEquals(x.uncertainty ~= "", levels, values.model)
    lu.assertEquals(x.non_contrast, (used == "both" or used == "source") and "x_source.png" or "", values.model)
    lu.assertEquals(x.contrast, (used == "both" or used == "contrast") and "x_contrast.png" or "", values.model)
    lu.assertEquals(fs.exists(out .. "/heat/realism/x.png"), tokens, values.model)
  end
end

-- CLIP's prompts are in the checkpoint; its file is needed again only for its image side.
function TestScore.test_clip()
  local file, dir = folder .. "/clip.safetensors", folder .. "/images"
  put(dir .. "/x.png", 30, 30)
  local clip = lumen.models.clip { model = "vit_micro", vision = { heads = 1, size = 32 }, text = { heads = 1 } }
  lumen.save(file, clip:state_dict())
  local values = { preset = "smoke", size = 32, images = 10, batch = 4, steps = 1, text = "clip", clip_weights = file }
  values.depth, values.out = 1, folder .. "/prompts"
  start(values)
  values.depth, values.out, values.encoder, values.vesselness = 0, folder .. "/both", "clip", false
  start(values)
  lu.assertEquals(select(2, score { score = dir, checkpoint = folder .. "/both" }).scored, 1)
  fs.rename(file, folder .. "/moved.safetensors")
  lu.assertEquals(select(2, score { score = dir, checkpoint = folder .. "/prompts" }).scored, 1)
  refused(file, { score = dir, checkpoint = folder .. "/both" })
  local moved = { score = dir, checkpoint = folder .. "/both", clip_weights = folder .. "/moved.safetensors" }
  lu.assertEquals(select(2, score(moved)).scored, 1)
end

function TestScore.test_checkpoints_that_do_not_fit()
  local dir = folder .. "/misfit"
  put(dir .. "/x.png", 30, 30)
  local function misfit(text, file, more)
    local values = { score = dir, checkpoint = file }
    for key, value in next, more or {} do values[key] = value end
    refused(text, values)
  end
  lu.assertErrorMsgContains("score= needs checkpoint=", start, { score = dir, out = folder .. "/no1" })
  lu.assertErrorMsgContains("option checkpoint: it is for score=", start, { checkpoint = dir, out = folder .. "/no2" })
  lu.assertErrorMsgContains("option references: it is for score=", start, { references = dir, out = folder .. "/no3" })
  misfit("no file or run directory /nowhere", "/nowhere")
  misfit(dir .. " is no run directory with a checkpoint", dir)
  misfit(dir .. "/x.png", dir .. "/x.png")
  misfit("option encoder: " .. checkpoint() .. " was trained with vit_micro, not vit_tiny", checkpoint(),
    { encoder = "vit_tiny" })
  misfit("option size: ", checkpoint(), { size = 96 })
  -- Another model's weights, without a run around them.
  local file = folder .. "/mae.safetensors"
  lumen.save(file, lumen.models.mae({ model = "vit_micro", size = 32 }):state_dict())
  misfit("option checkpoint: " .. file .. " does not fit must, encoder=vit_micro size=32", file,
    { encoder = "vit_micro", size = 32 })
  misfit("there is no options.lua near it", file, { encoder = "vit_micro", size = 32, model = "iqa_cnn" })
  -- Another recipe's run.
  local other = folder .. "/other"
  fs.mkdir(other .. "/best")
  lumen.save(other .. "/best/model.safetensors", lumen.nn.Linear(2, 2):state_dict())
  fs.write(other .. "/options.lua", 'return { model = "vit_micro", size = 64 }')
  misfit(other .. "/options.lua: not the options of a run of cas_iqa (model is vit_micro)", other)
  fs.write(other .. "/options.lua", "return 3")
  misfit(other .. "/options.lua", other)
  -- Right names, wrong numbers.
  local state = require("lumen.run").weights(checkpoint())
  fs.remove_tree(other, folder)
  fs.mkdir(other .. "/best")
  fs.write(other .. "/options.lua", (fs.read(checkpoint() .. "/options.lua")))
  state["path_none.bias"] = lumen.full({ 64 }, 0 / 0)
  lumen.save(other .. "/best/model.safetensors", state)
  misfit(dir .. "/x.png: the model of " .. other .. " gives no number", other)
  state["path_none.bias"] = lumen.zeros { 32 }
  lumen.save(other .. "/best/model.safetensors", state)
  misfit("does not fit must", other)
end

-- Colour where the weights are above the average, the image as it is elsewhere.
function TestScore.test_heat()
  local image = lumen.full({ 40, 60 }, 100, { dtype = "u8" })
  local flat = scoring.heat(image, lumen.full({ 4 }, 0.25), { 2, 2 })
  lu.assertEquals({ flat:min():item(), flat:max():item(), flat.shape[3] }, { 100, 100, 3 })
  local hot = scoring.heat(image, lumen.tensor { 0, 0, 1, 0 }, { 2, 2 })
  lu.assertEquals(hot[1][60]:totable(), { 100, 100, 100 })
  local corner = hot[40][1]:totable() -- yellow
  lu.assertTrue(corner[1] > 190 and corner[2] > 180 and corner[3] < 80, table.concat(corner, " "))
end

helper.run()
