-- Segmentation: every model, validation and early stop, resuming, classes, foreign weights,
-- prediction on any image, and every mistake a user can make.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local log, state = helper.log_rows, helper.weights

io.stderr:setvbuf("full")
local quiet = io.open("/dev/null", "w")
local stdout = io.stdout

local function start(values)
  local o = { preset = "smoke", threads = 1, workers = 1 }
  for key, value in next, values do o[key] = value end
  local recipe = lumen.recipe "segment"
  io.stdout = quiet
  local ok, result, run = pcall(lumen.run.execute, recipe, o)
  io.stdout = stdout
  if not ok then error(result, 0) end
  return result, run
end

-- A test case with a folder of its own.
local function case(name)
  local class = {}
  _G[name] = class
  function class:setUp() self.dir = helper.temporary_folder() end
  function class:tearDown() helper.remove_folder(self.dir) end
  return class
end

local Models = case "TestModels"

function Models:test_each()
  local slow = helper.sanitized and { unet = true } or {} -- minutes there, and nothing of its own in C
  for _, values in ipairs { { model = "vit_micro" }, { model = "unext" }, { model = "unet", steps = 1, batch = 1 },
      { model = "vit_micro", decoder = "conv" }, { model = "filter" }, { model = "segmentor" },
      { model = "vit_micro", decoder = "adapter", decoder_width = 32, cldice = 0.5, steps = 1 } } do
    values.out = ("%s/%s_%s"):format(self.dir, values.model, values.decoder or "")
    if slow[values.model] then goto continue end
    local result, run = start(values)
    for _, name in ipairs(lumen.metrics.names) do lu.assertEquals(type(result[name]), "number", name) end
    lu.assertEquals(result.images, 8)
    lu.assertEquals(result.width, values.model == "filter" and 160 or 64)
    for _, file in ipairs { "images.csv", "images/best.png", "images/median.png", "images/worst.png",
                            "images/test.png", "result.json" } do
      lu.assertTrue(lumen.fs.exists(run.dir .. "/" .. file), file)
    end
    local lines = {}
    for line in io.lines(run.dir .. "/images.csv") do lines[#lines + 1] = line end
    lu.assertEquals({ #lines, lines[1] }, { 9, "image,dice,cldice,iou,sensitivity,precision,hd95,assd" })
    if values.model == "filter" then -- at the size of the network instead
      local small = start { model = "filter", evaluate = "network", out = self.dir .. "/small" }
      lu.assertEquals(small.width, 64)
      lu.assertTrue(result.dice > 0.4 and small.dice > 0.4 and result.dice ~= small.dice)
    end
    ::continue::
  end
end

-- Enlarged to the size of the images the same network finds about the same.
function Models:test_native()
  local dir = self.dir .. "/a"
  local small = start { out = dir }
  local native = start { out = self.dir .. "/b", init = dir, train = false, evaluate = "native", model = "" }
  lu.assertEquals(native.width, 160)
  lu.assertAlmostEquals(native.dice, small.dice, 0.02)
  lu.assertTrue(native.hd95 > 1.5 * small.hd95) -- pixels are smaller
end

function Models:test_trained_weights_give_the_same_result_again()
  local first = start { out = self.dir .. "/a", decoder = "conv", decoder_width = 32, model = "vit_micro" }
  local again = start { out = self.dir .. "/b", init = self.dir .. "/a", train = false, model = "" }
  for _, name in ipairs(lumen.metrics.names) do lu.assertEquals(again[name], first[name], name) end
end

local Validation = case "TestValidation"

-- Nothing is learned at a learning rate of 0: the first validation stays the best.
function Validation:test_early_stop()
  local dir = self.dir .. "/a"
  local values = { out = dir, validate = "25%", labels = "8", epochs = 30, steps = 0, lr = 0.0, min_lr = 0.0,
                   patience = 3 }
  local result, run = start(values)
  local validations, steps = 0, 0
  for _, row in ipairs(log(dir)) do
    if row.val_dice then validations = validations + 1 else steps = steps + 1 end
  end
  lu.assertEquals({ validations, steps }, { 4, 8 })
  lu.assertEquals({ run.state.best_epoch, run.state.stopped }, { 1, 1 })
  -- Continued after the result was lost: it trains no further.
  os.remove(dir .. "/result.json")
  local again = start { out = dir, resume = true }
  lu.assertEquals(again.dice, result.dice)
  lu.assertEquals(#log(dir), 12)
end

-- A decoder of another kind, or for other classes, is learned anew.
function Models:test_another_decoder()
  start { out = self.dir .. "/a", decoder = "conv", decoder_width = 32 }
  local _, run = start { out = self.dir .. "/b", init = self.dir .. "/a", decoder = "linear", lr = 0.0, min_lr = 0.0 }
  lu.assertEquals(state(run.dir)["encoder.norm.weight"], state(self.dir .. "/a")["encoder.norm.weight"])
  _, run = start { out = self.dir .. "/c", init = self.dir .. "/a", decoder = "auto", lr = 0.0, min_lr = 0.0 }
  lu.assertEquals(state(run.dir)["decoder.head.weight"], state(self.dir .. "/a")["decoder.head.weight"])
end

-- The weights of the best validation are tested, not the last ones.
function Validation:test_best_weights_are_kept()
  local recipe, values, epoch = lumen.recipe "segment", { 0.3, 0.9, 0.5, 0.1 }, 0
  local seen = {}
  function recipe.validation(_, run)
    epoch = epoch + 1
    seen[epoch] = run.model:state_dict()["decoder.head.weight"]:totable()
    return values[epoch]
  end
  io.stdout = quiet
  local ok, _, run = pcall(lumen.run.execute, recipe, { preset = "smoke", threads = 1, out = self.dir .. "/a",
    labels = "4", validate = "25%", epochs = 4, steps = 0 })
  io.stdout = stdout
  lu.assertTrue(ok)
  lu.assertEquals(run.state.best, 0.9)
  lu.assertEquals(state(run.dir)["decoder.head.weight"], seen[2])
  lu.assertEquals(run.model:state_dict()["decoder.head.weight"]:totable(), seen[2])
  lu.assertNotEquals(seen[2], seen[4])
end

function Validation:test_resumed_equals_uninterrupted()
  local values = { validate = "25%", labels = "8", epochs = 4, steps = 0, patience = 2, drop_path = 0.2,
                   crop = 1.0, rotate = 15.0, shift = 0.1, scale = 0.1, jitter = 0.2 }
  local function with(more)
    local o = {}
    for key, value in next, values do o[key] = value end
    for key, value in next, more do o[key] = value end
    return o
  end
  local whole = self.dir .. "/whole"
  local expected = start(with { out = whole })
  for _, stop in ipairs(helper.sanitized and { { 5, 1 } } or { { 3, 0 }, { 5, 1 }, { 8, 2 }, { 9, 4 } }) do
    local dir, recipe, count = ("%s/part_%d"):format(self.dir, stop[1]), lumen.recipe "segment", 0
    local loss, validation = recipe.loss, recipe.validation
    local function tick() -- batches and validations
      count = count + 1
      if count == stop[1] then error("stopped on purpose") end
    end
    function recipe.loss(...) tick() return loss(...) end
    function recipe.validation(...) tick() return validation(...) end
    lu.assertErrorMsgContains("on purpose", lumen.run.execute, recipe, with { preset = "smoke", threads = 1,
      workers = 1, out = dir, save_every = stop[2] })
    local result = start { out = dir, resume = true }
    lu.assertEquals(log(dir), log(whole))
    lu.assertEquals(state(dir), state(whole))
    lu.assertEquals(result.dice, expected.dice)
  end
end

-- Classes: a small data set in the layout of ARCADE's, rectangles of two segments.
local Classes = case "TestClasses"

local function arcade(dir, broken)
  for _, split in ipairs { "train", "test" } do
    local images = ("%s/syntax/%s/images"):format(dir, split)
    lumen.fs.mkdir(images)
    lumen.fs.mkdir(("%s/syntax/%s/annotations"):format(dir, split))
    local list, shapes = {}, {}
    for i = 1, 4 do
      local picture = lumen.full({ 64, 64 }, 200, { dtype = "u8" })
      picture:slice(1, 8, 23):fill_(40)
      picture:slice(1, 40, 47):fill_(90)
      lumen.image.save(("%s/%d.png"):format(images, i), picture)
      list[i] = ('{"id": %d, "file_name": "%d.png", "width": 64, "height": 64}'):format(i, i)
      for k, box in ipairs { { 7, 23, 1 }, { 39, 47, broken or 2 } } do
        shapes[#shapes + 1] = ('{"id": %d, "image_id": %d, "category_id": %d, "segmentation": [[0,%d,64,%d,64,%d,0,%d]]}')
          :format(#shapes + 1, i, box[3], box[1], box[1], box[2], box[2])
        if k == 1 and i == 4 then break end -- the last image shows one segment only
      end
    end
    local names = { "1", "2", "3", "4", "5", "6", "7", "8", "9", "9a", "10", "10a", "11", "12", "12a", "13", "14",
      "14a", "15", "16", "16a", "16b", "16c", "12b", "14b", "stenosis" }
    for i, name in ipairs(names) do names[i] = ('{"id": %d, "name": "%s"}'):format(i, name) end
    lumen.fs.write(("%s/syntax/%s/annotations/%s.json"):format(dir, split, split),
      ('{"images": [%s], "categories": [%s], "annotations": [%s]}'):format(table.concat(list, ","),
        table.concat(names, ","), table.concat(shapes, ",")))
  end
end

function Classes:test_learns_and_measures_them()
  arcade(self.dir .. "/data")
  local values = { data = "arcade_segment", root = self.dir .. "/data", model = "vit_micro", images = 0,
    labels = "all", steps = 60, lr = 0.3, crop = 0.9, test_images = 0, out = self.dir .. "/run", layer_decay = 1 }
  local result, run = start(values)
  lu.assertEquals(result.images, 4)
  lu.assertTrue(result.class_dice["1"] > 0.7, "class 1: " .. result.class_dice["1"])
  lu.assertTrue(result.class_dice["2"] > 0.4, "class 2: " .. result.class_dice["2"])
  lu.assertAlmostEquals(result.dice, 0, 1)
  local lines = {}
  for line in io.lines(run.dir .. "/classes.csv") do lines[#lines + 1] = line end
  lu.assertEquals({ #lines, lines[1]:match("^[^,]*,[^,]*,[^,]*"), lines[3]:match("^2,3,") },
    { 26, "class,images,dice", "2,3," })
  -- Its weights segment a folder; the pixels are class numbers.
  start { init = run.dir, train = false, model = "", predict = self.dir .. "/data/syntax/test/images",
          out = self.dir .. "/predicted" }
  local mask = lumen.image.load(self.dir .. "/predicted/predictions/masks/1.png")
  lu.assertEquals({ mask[16][32]:item(), mask.shape[1] }, { 1, 64 })
  lu.assertErrorMsgContains("has classes", start, { data = "arcade_segment", root = self.dir .. "/data",
    model = "filter", out = self.dir .. "/f" })
  values.out, values.cldice, values.steps = self.dir .. "/cl", 0.5, 1
  start(values)
end

-- Every network has them, scratch or from weights of a binary one, and at the images' own size.
function Classes:test_networks()
  arcade(self.dir .. "/data")
  local values = { data = "arcade_segment", root = self.dir .. "/data", images = 0, labels = "2", test_images = 0, steps = 1 }
  start { model = "unext", out = self.dir .. "/binary", steps = 1 }
  start { model = "vit_micro", out = self.dir .. "/binary_vit", steps = 1 }
  for _, o in ipairs { { model = "unext", evaluate = "native" }, { model = "unext", init = "binary", fails = "final" },
                       { model = "", init = "binary_vit", decoder = "conv", decoder_width = 32 } } do
    for key, value in next, values do o[key] = value end
    o.out = ("%s/%s_%s"):format(self.dir, o.model, o.init or "")
    local fails = o.fails
    o.init, o.fails = o.init and self.dir .. "/" .. o.init, nil
    if fails then
      lu.assertErrorMsgContains(fails, start, o)
    else
      local result = start(o)
      lu.assertEquals({ result.images, result.width }, { 4, 64 })
      lu.assertEquals(type(result.class_dice["1"]), "number")
    end
  end
end

function Classes:test_loss()
  local o = { dice = 1, bce = 1, cldice = 1 }
  local mask = lumen.zeros { 1, 1, 8, 8 }
  mask:slice(3, 3, 5):fill_(2)
  local logits = lumen.stack({ mask:eq(0), mask:eq(1), mask:eq(2) }, { dim = 2 }):reshape({ 1, 3, 8, 8 }):to("f32")
  local total = lumen.recipe("segment").loss(o, logits * 40 - 20, mask):item()
  lu.assertAlmostEquals(total, 0, 1e-4) -- class 1 is nowhere: its Dice counts 1
  local other = lumen.zeros { 1, 1, 8, 8 }
  other:slice(3, 3, 5):fill_(1) -- the vessel is found, as another class: clDice is content
  local _, parts = lumen.recipe("segment").loss(o, logits * 40 - 20, other)
  lu.assertAlmostEquals(parts.cldice_loss:item(), 0, 1e-4)
  lu.assertAlmostEquals(parts.dice_loss:item(), 2 / 3, 1e-4)
  lu.assertTrue(parts.bce:item() > 10)
end

-- Weights of other programs.
local Weights = case "TestWeights"

local function vit_state(options)
  local model = lumen.models.vit(options)
  model:initialize(3)
  return model:state_dict()
end

local function prefixed(values, prefix)
  local out = {}
  for name, t in next, values do out[prefix .. name] = t end
  return out
end

function Weights:test_foreign_names()
  local file, plain = self.dir .. "/w.safetensors", vit_state { model = "vit_micro", size = 64 }
  local expected = plain["blocks.2.attn.qkv.weight"]:totable()
  for _, prefix in ipairs { "", "module.", "module.encoder.", "backbone.", "model." } do
    local values = prefixed(plain, prefix)
    values["decoder_embed.weight"], values["head.bias"] = lumen.ones { 2 }, lumen.ones { 2 }
    values["fc_norm.weight"], values["mask_token"] = lumen.ones { 2 }, lumen.ones { 1, 1, 2 }
    lumen.save(file, values)
    local out = self.dir .. "/run" .. #prefix
    -- The model is recognised from the shapes.
    local _, run = start { init = file, model = "", steps = 1, lr = 0.0, min_lr = 0.0, out = out }
    lu.assertEquals(run.model:state_dict()["encoder.blocks.2.attn.qkv.weight"]:totable(), expected)
  end
end

function Weights:test_positions_are_resized()
  local file = self.dir .. "/w.safetensors"
  lumen.save(file, vit_state { model = "vit_micro", size = 32 })
  local _, run = start { init = file, steps = 1, out = self.dir .. "/run" }
  lu.assertEquals(run.model:state_dict()["encoder.pos_embed"].shape, { 1, 65, 64 })
  -- A whole network, at another size.
  start { init = self.dir .. "/run", train = false, size = 96, model = "", out = self.dir .. "/larger" }
end

-- A checkpoint of MAE's own code as torch.save writes it, with its optimizer; the k-th tensor of
-- the file is k / 1024 everywhere (tests/fixtures/make_pth.py).
function Weights:test_pth()
  local _, run = start { init = "tests/fixtures/mae.pth", model = "", steps = 1, lr = 0.0, min_lr = 0.0,
                         out = self.dir .. "/run" }
  local found = run.model:state_dict()
  for name, k in next, { ["cls_token"] = 0, ["pos_embed"] = 2, ["patch_embed.proj.weight"] = 4,
                         ["blocks.0.norm1.weight"] = 6, ["blocks.3.mlp.fc2.bias"] = 53, ["norm.bias"] = 55 } do
    local tensor = found["encoder." .. name]
    lu.assertAlmostEquals(tensor:min():item(), k / 1024, 1e-7, name)
    lu.assertAlmostEquals(tensor:max():item(), k / 1024, 1e-7, name)
  end
  lu.assertEquals(found["encoder.pos_embed"].shape, { 1, 65, 64 }) -- 17 in the file
  local function refused(text, file, model)
    lu.assertErrorMsgContains(text, start, { init = file, model = model or "", out = self.dir .. "/no" })
    lumen.fs.remove_tree(self.dir .. "/no", self.dir)
  end
  refused("option init: tests/fixtures/small.pth: these are no weights of a ViT", "tests/fixtures/small.pth")
  refused("option init: tests/fixtures/small.pth: ", "tests/fixtures/small.pth", "vit_micro")
  refused("option init: tests/fixtures/mae.pth: ", "tests/fixtures/mae.pth", "vit_tiny")
  refused("option init: tests/fixtures/mae.pth: ", "tests/fixtures/mae.pth", "unext")
  refused("tests/fixtures/make_pth.py", "tests/fixtures/make_pth.py")
  local cut = self.dir .. "/cut.pth"
  lumen.fs.write(cut, lumen.fs.read("tests/fixtures/mae.pth"):sub(1, 6000))
  refused(cut, cut)
  lumen.save(self.dir .. "/one.npy", lumen.ones { 3 })
  refused("one.npy holds no named weights", self.dir .. "/one.npy")
end

function Weights:test_what_does_not_fit()
  local file = self.dir .. "/w.safetensors"
  local function try(values, o)
    lumen.save(file, values)
    o = o or {}
    o.init, o.out, o.steps = file, self.dir .. "/run", 1
    local ok, message = pcall(start, o)
    lumen.fs.remove_tree(self.dir .. "/run", self.dir)
    lu.assertFalse(ok)
    lu.assertStrContains(message, file)
    return message
  end
  lu.assertStrContains(try(vit_state { model = "vit_micro", size = 64, patch = 16 }),
    "patches of 16 x 16 pixels, the model has 8 x 8")
  local values = vit_state { model = "vit_micro", size = 64 }
  values["blocks.0.ls1.gamma"] = lumen.ones { 64 }
  lu.assertStrContains(try(values), "another kind of ViT: they have blocks.0.ls1.gamma")
  values = vit_state { model = "vit_micro", size = 64 }
  values["blocks.3.norm1.bias"] = nil
  lu.assertStrContains(try(values), "lack 1 parameters of the encoder, such as blocks.3.norm1.bias")
  values = vit_state { model = "vit_micro", size = 64 }
  values.pos_embed = lumen.zeros { 1, 64, 64 }
  lu.assertStrContains(try(values), "not a class token and a square grid")
  lu.assertStrContains(try(vit_state { model = "vit_micro", size = 64, dim = 32 }), "shapes differ")
  lu.assertStrContains(try({ x = lumen.ones { 1 } }), "lack")
  lu.assertStrContains(try({ x = lumen.ones { 1 } }, { model = "unext" }), "missing")
  lu.assertErrorMsgContains("needs the weights of a whole network", start, { init = file, train = false,
    out = self.dir .. "/z" })
  lumen.save(file, vit_state { model = "vit_micro", size = 64, dim = 32, heads = 2 })
  lu.assertErrorMsgContains("no model fits these weights: width 32, 4 blocks, patches of 8", start,
    { init = file, model = "", out = self.dir .. "/x" })
  lumen.save(file, { x = lumen.ones { 1 } })
  lu.assertErrorMsgContains("no weights of a ViT", start, { init = file, model = "", out = self.dir .. "/y" })
end

local Predict = case "TestPredict"

-- Grey, colour, 16 bit, alpha, palette, of odd sizes, two of one name.
function Predict:test_any_image()
  local folder = self.dir .. "/in"
  lumen.fs.mkdir(folder)
  for _, name in ipairs { "grey.png", "colour.png", "grey16.png", "alpha.png", "palette.png", "colour.bmp", "blocks.jpg" } do
    lumen.fs.write(folder .. "/" .. name, (lumen.fs.read("tests/fixtures/" .. name)))
  end
  lumen.image.save(folder .. "/odd.png", lumen.full({ 37, 101 }, 90, { dtype = "u8" }))
  lumen.fs.write(folder .. "/broken.png", "no picture")
  start { out = self.dir .. "/net" }
  for name, values in next, { net = { init = self.dir .. "/net", train = false }, filter = { model = "filter" } } do
    values.predict, values.out = folder, self.dir .. "/out_" .. name
    local result, run = start(values)
    lu.assertEquals(result, { predicted = 8 })
    lu.assertEquals(lumen.fs.list(run.dir .. "/predictions/masks"), { "alpha.png", "blocks.png",
      "colour.bmp.png", "colour.png.png", "grey.png", "grey16.png", "odd.png", "palette.png" })
    local mask = lumen.image.load(run.dir .. "/predictions/masks/odd.png")
    lu.assertEquals(mask.shape, { 37, 101 })
    lu.assertTrue(mask:max():item() == 0 or mask:max():item() == 255)
    lu.assertEquals(lumen.image.load(run.dir .. "/predictions/overlays/odd.png").shape, { 37, 101, 3 })
  end
end

-- One image, folders in folders, a list whose paths lead upwards, a pack: each prediction has a
-- name of its own, below the run.
function Predict:test_any_source()
  local function picture(name, side)
    local file = ("%s/%s"):format(self.dir, name)
    lumen.fs.mkdir(file:match("^(.*)/"))
    lumen.image.save(file, lumen.vision.phantom({ size = side, seed = 1, index = side }).image)
    return file
  end
  picture("runs/a/1.png", 64)
  picture("runs/b/1.png", 72)
  local one = picture("runs/b/deep/1.jpg", 80)
  picture("lists/own.png", 88)
  lumen.fs.write(self.dir .. "/lists/list.csv", "image\n../runs/a/1.png\nown.png\n\"../runs/b/1.png\"\n")
  require "lumen.commands.pack"("data=" .. self.dir .. "/runs", "out=" .. self.dir .. "/x.pack", "size=48", "split=pool")
  start { out = self.dir .. "/net" }
  local function predict(what, expected)
    for kind, values in next, { net = { init = self.dir .. "/net", train = false, model = "" }, filter = { model = "filter" } } do
      local out = ("%s/out_%s_%d"):format(self.dir, kind, #lumen.fs.list(self.dir))
      values.predict, values.out = what, out
      lu.assertEquals(start(values), { predicted = #expected }, what)
      for _, row in ipairs(expected) do
        for _, folder in ipairs { "masks", "overlays" } do
          local made = lumen.image.load(("%s/predictions/%s/%s"):format(out, folder, row[1]))
          lu.assertEquals(made.shape[1], row[2], row[1])
        end
      end
    end
  end
  predict(self.dir .. "/runs", { { "a/1.png", 64 }, { "b/1.png", 72 }, { "b/deep/1.png", 80 } })
  predict(one, { { "1.png", 80 } })
  predict(self.dir .. "/lists/list.csv", { { "_/runs/a/1.png", 64 }, { "own.png", 88 }, { "_/runs/b/1.png", 72 } })
  predict(self.dir .. "/x.pack", { { "a/1.png", 48 }, { "b/1.png", 48 }, { "b/deep/1.png", 48 } })
  lu.assertEquals(#lumen.fs.list(self.dir .. "/runs"), 2) -- nothing was written beside the images
end

-- A folder with masks of one's own, one of them of another size.
local Folder = case "TestFolder"

local function folder_of(dir, count)
  lumen.fs.mkdir(dir .. "/images")
  lumen.fs.mkdir(dir .. "/masks")
  for i = 1, count do
    local p = lumen.vision.phantom { size = 96, seed = 1, index = i }
    lumen.image.save(("%s/images/%d.png"):format(dir, i), p.image)
    lumen.image.save(("%s/masks/%d.png"):format(dir, i), p.mask * 255)
  end
end

function Folder:test_errors()
  local data = self.dir .. "/data"
  folder_of(data, 8)
  local n = 0
  local function refuse(message, o)
    n = n + 1
    o.out, o.data = ("%s/%d"):format(self.dir, n), o.data or data
    o.labels, o.steps = o.labels or "2", o.steps or 1
    lu.assertErrorMsgContains(message, start, o)
  end
  refuse("option model: there is no vit_bas", { model = "vit_bas" })
  refuse("did you mean unet", { model = "unnet" })
  refuse("train=false needs the weights of a whole network", { train = false })
  refuse("no file or run directory", { init = "/nowhere" })
  refuse("option labels: 99 is not", { labels = "99" })
  refuse("option validate: half is not val or a share like 10%", { validate = "half" })
  refuse("option validate: 0% is not", { validate = "0%" })
  refuse("are not left besides 2 to validate on", { validate = "40%", labels = "5" })
  refuse("has no split val", { validate = "val" })
  refuse("there is no folder /nowhere", { predict = "/nowhere", model = "filter" })
  refuse("test_split=all would measure on what was trained on", { test_split = "all" })
  refuse("not divisible by patch 8", { size = 60 })

  refuse("the adapter decoder needs a width that 8 divides, not 30", { decoder = "adapter", decoder_width = 30 })
  refuse("there is no folder masks/ beside images/", { data = data .. "/images" })
  refuse("there is no dataset and no folder", { data = "nowhere" })
  lumen.image.save(data .. "/masks/8.png", lumen.zeros({ 10, 96 }, { dtype = "u8" }))
  refuse("masks/8.png: the mask is 10 x 96 but its image", { model = "filter", broken = "error" })
  os.remove(data .. "/masks/8.png")
  refuse("images/8.png", { model = "filter" })
  lu.assertEquals(start({ data = data .. "/images", predict = data .. "/images", model = "filter",
    out = self.dir .. "/ok" }).predicted, 8)
end

-- All labelled images, and the validation images of an ARCADE without test images.
function Folder:test_splits()
  local data = self.dir .. "/data"
  folder_of(data, 8)
  lu.assertEquals(start({ data = data, model = "filter", test_split = "all", out = self.dir .. "/a",
    test_images = 0 }).images, 8)
  for _, part in ipairs { "train", "val" } do folder_of(("%s/arcade/%s"):format(self.dir, part), 4) end
  lu.assertErrorMsgContains("is also a test image", start, { data = "arcade_vessel", root = self.dir .. "/arcade",
    validate = "val", labels = "2", out = self.dir .. "/b" })
  lu.assertEquals(start({ data = "arcade_vessel", root = self.dir .. "/arcade", validate = "50%", labels = "2",
    out = self.dir .. "/c", steps = 2 }).images, 4)
end

helper.run()
