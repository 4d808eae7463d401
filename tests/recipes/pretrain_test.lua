-- The pre-training recipes beside VasoMIM: that they train, that a resumed run equals the
-- uninterrupted one, and that segmentation starts from what they leave.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local log, state = helper.log_rows, helper.weights

io.stderr:setvbuf("full")

local smoke = { preset = "smoke", threads = 1, workers = 1 }

local function start(name, values)
  for key, value in next, smoke do
    if values[key] == nil then values[key] = value end
  end
  return lumen.run.execute(lumen.recipe(name), values)
end

TestPretraining = {}

function TestPretraining:setUp() self.dir = helper.temporary_folder() end
function TestPretraining:tearDown() helper.remove_folder(self.dir) end

for _, name in ipairs { "simmim", "pseudo_label" } do
  TestPretraining["test_" .. name] = function(self)
    local whole, part = self.dir .. "/whole", self.dir .. "/part"
    start(name, { out = whole })
    lu.assertEquals(#log(whole), 4)
    lu.assertTrue(lumen.fs.exists(whole .. "/images/epoch_2.png"))
    -- The same run, ended after its third batch.
    local recipe, batches = lumen.recipe(name), 0
    local run_of = recipe.run
    function recipe:run(o, run)
      local step = run.step
      function run:step(...)
        batches = batches + 1
        if batches == 3 then error("stopped on purpose") end
        return step(self, ...)
      end
      return run_of(self, o, run)
    end
    local ok = pcall(lumen.run.execute, recipe, { preset = "smoke", threads = 1, workers = 1, out = part })
    lu.assertFalse(ok)
    start(name, { out = part, resume = true })
    lu.assertEquals(log(part), log(whole))
    lu.assertEquals(state(part), state(whole))
    -- Fine-tuning takes the encoder, untouched at a learning rate of 0.
    local tuned = self.dir .. "/tuned"
    start("segment", { init = whole, out = tuned, lr = 0.0, min_lr = 0.0, steps = 1 })
    lu.assertEquals(state(tuned)["encoder.blocks.3.mlp.fc1.weight"],
      state(whole)["encoder.blocks.3.mlp.fc1.weight"])
  end
end

-- Every strategy trains; where nothing asks for the segmentor, none is trained.
function TestPretraining:test_maskings_of_vasomim()
  for _, masking in ipairs { "random", "block", "grid", "hardest", "attention",
                             "tests/fixtures/masking_rim.lua" } do
    local dir = self.dir .. "/" .. masking:match("%a+$")
    start("vasomim", { masking = masking, consistency = 0, steps = 1, images = 8, out = dir,
                       guide_mix = 1 })
    lu.assertNil(lumen.fs.stat(dir .. "/stages"))
  end
  start("vasomim", { consistency = 0, guidance = 0, steps = 1, images = 8, out = self.dir .. "/mae" })
  lu.assertNil(lumen.fs.stat(self.dir .. "/mae/stages"))
end

-- Patches that are hidden do not reach SimMIM's encoder, and only they count.
function TestPretraining.test_simmim_sees_no_hidden_pixel()
  local model = lumen.models.simmim { model = "vit_micro", size = 32 }
  local mask = lumen.masking.random(nil, { ratio = 0.5, grid = { 4, 4 }, count = 1,
    rng = { seed = 1, stream = "m" } })
  local image = lumen.randn({ 1, 3, 32, 32 }, { rng = { seed = 1, stream = "x" } })
  local noise = lumen.unpatchify(mask.mask:unsqueeze(3):expand({ 1, 16, 192 }):contiguous(),
    { patch = 8, height = 32, width = 32 })
  local out = model(image, mask)
  helper.assert_equal(model(image + 100 * noise, mask).pred, out.pred, "hidden pixels")
  local l = lumen.loss.masked_l1(out.pred, image, mask):item()
  lu.assertEquals(lumen.loss.masked_l1(out.pred, image + 100 * (1 - noise), mask):item(), l)
  local wrong = (out.image - image):abs() * noise
  lu.assertAlmostEquals(l, wrong:sum():item() / noise:sum():item(), 1e-5)
end

-- MAE's own measure of a patch's error agrees with its loss, and its attention with softmax.
function TestPretraining.test_errors_and_attention()
  local model = lumen.models.mae { model = "vit_micro", size = 32 }
  model:initialize(1)
  local mask = lumen.masking.random(nil, { ratio = 0.5, grid = { 4, 4 }, count = 2,
    rng = { seed = 1, stream = "m" } })
  local image = lumen.randn({ 2, 3, 32, 32 }, { rng = { seed = 1, stream = "x" } })
  local errors = model:errors(image, mask)
  lu.assertEquals(errors.shape, { 2, 16 })
  local l = lumen.loss.masked_mse(model(image, mask).pred, image, mask)
  lu.assertAlmostEquals((errors * mask.mask):sum():item() / 16, l:item(), 1e-5)
  local attention = model:attention(image)
  lu.assertEquals(attention.shape, { 2, 16 })
  lu.assertTrue(attention:min():item() >= 0 and attention:max():item() <= 1)
  local x = lumen.randn({ 1, 3, 64 }, { rng = { seed = 2, stream = "x" } })
  local weight = lumen.models.vit.class_attention(model.blocks, x)
  lu.assertEquals(weight.shape, { 1, 4, 2 })
  lu.assertTrue(weight:sum(3):max():item() < 1)
end

-- The picture of maskings: a column for the image and for each, a row per image.
function TestPretraining:test_picture_of_maskings()
  local function picture(values)
    values.out, values.size, values.patch = self.dir .. "/" .. values.images, 64, 8
    local _, run = lumen.run.execute(lumen.recipe("maskings"), values)
    return lumen.image.load(run.dir .. "/images/maskings.png").shape
  end
  lu.assertEquals(picture { images = 2 }, { 130, 6 * 66 - 2, 3 })
  lu.assertEquals(picture { images = 1, masking = "tests/fixtures/masking_rim.lua" }, { 66 - 2, 130, 3 })
  start("vasomim", { out = self.dir .. "/mae", consistency = 0, guidance = 0, steps = 1, images = 8 })
  lu.assertEquals(picture { images = 3, init = self.dir .. "/mae", model = "vit_micro" }[2], 7 * 66 - 2)
end

helper.run()
