-- The models that MUST is compared with: interface, gradients, what each is known for.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local loss, models, rated = lumen.loss, lumen.models, lumen.models.rated

local names = { "ahiq", "maniqa", "liqe", "clip_iqa", "iqa_cnn" }

local function normal(shape, seed)
  return lumen.randn(shape, { dtype = "f64", rng = { seed = seed, stream = "test" } })
end

local function tiny(name, options)
  local o = { size = 16, patch = 8, width = 8, depth = 2, heads = 2, metrics = { "vessel", "realism" } }
  for key, value in next, options or {} do o[key] = value end
  return models[name](o):initialize(3):to("f64")
end

local function batch_of(count, size)
  local function image(seed) return normal({ count, 1, size or 16, size or 16 }, seed) end
  local source, contrast = {}, {}
  for i = 1, count do source[i], contrast[i] = i % 2, i % 3 == 0 and 0 or 1 end
  return { image = image(1), source = image(2), contrast = image(3),
           has_source = lumen.tensor(source), has_contrast = lumen.tensor(contrast) }
end

local function part(batch, i)
  local one = {}
  for key, t in next, batch do one[key] = t:slice(1, i, i) end
  return one
end

TestRivals = {}

function TestRivals:test_all_answer_alike()
  local batch = batch_of(4)
  for _, name in ipairs(names) do
    local model = tiny(name, { text = "prototype" })
    local out = model(batch)
    lu.assertEquals(out.scores.shape, { 4, 2 }, name)
    lu.assertTrue(out.scores:min():item() >= 1 and out.scores:max():item() <= 5, name)
    lu.assertEquals(#out.grid, 2, name)
    if name ~= "iqa_cnn" then
      lu.assertEquals(out.tokens.shape, { 4, 2, 4 }, name)
      helper.assert_close(out.tokens:sum { dims = { 3 } }, lumen.ones({ 4, 2 }, { dtype = "f64" }), 1e-12, name)
    end
    for i = 1, 4 do
      helper.assert_close(model(part(batch, i)).scores, out.scores:slice(1, i, i), 1e-12, name)
    end
  end
end

function TestRivals:test_gradients()
  local batch = batch_of(3)
  local scores = lumen.tensor({ { 1.5, 4 }, { 3, 2.5 }, { 4.2, 1 } }, { dtype = "f64" })
  local function check(name, options)
    local model = tiny(name, options)
    helper.check_parameters(model, function()
      local out = model(batch)
      local total = loss.fidelity(out.scores, scores) + 0.5 * loss.plcc(out.scores, scores)
      return out.levels and total + loss.level_cross_entropy(out.levels, scores) or total
    end, name)
  end
  for _, name in ipairs(names) do check(name, { text = "prototype" }) end
  check("clip_iqa", { text = "scratch" })
  check("liqe", { text = "scratch", metrics = { "vessel", "realism" } })
  check("iqa_cnn", { paths = "both" })
  check("maniqa", { patch = 2 }) -- several windows
end

-- A model reads the references that it is to read, where they are there, and no others.
function TestRivals:test_references()
  local batch, other = batch_of(3), batch_of(3)
  other.source, other.contrast = normal({ 3, 1, 16, 16 }, 12), normal({ 3, 1, 16, 16 }, 13)
  local function moved(name, options)
    local model = tiny(name, options)
    return ((model(batch).scores - model(other).scores):abs():max(2)):gt(1e-9):totable()
  end
  lu.assertEquals(moved("ahiq", { paths = "source" }), { 1, 0, 1 })
  lu.assertEquals(moved("ahiq", { paths = "contrast" }), { 1, 1, 0 })
  lu.assertEquals(moved("ahiq", { paths = "both" }), { 1, 1, 1 })
  lu.assertEquals(moved("iqa_cnn", { paths = "source" }), { 1, 0, 1 })
  for _, name in ipairs { "maniqa", "liqe", "clip_iqa", "iqa_cnn" } do
    lu.assertEquals(moved(name, { text = "prototype" }), { 0, 0, 0 }, name)
  end
  local alone = { image = batch.image }
  for _, name in ipairs(names) do lu.assertEquals(tiny(name, { text = "prototype" })(alone).scores.shape, { 3, 2 }) end
end

-- LIQE's levels of one metric are those of all combinations, summed over the other's.
function TestRivals:test_liqe_sums_over_the_other_metrics()
  local model, batch = tiny("liqe", { text = "prototype" }), batch_of(2)
  local v = rated.normalize(model:summary(batch.image))
  local p = (v:matmul(rated.normalize(model.prompts()):transpose(1, 2)) * 10):softmax():totable()
  local levels = model(batch).levels:totable()
  for i = 1, 2 do
    for level = 1, 5 do
      local first, second = 0, 0
      for other = 1, 5 do
        first = first + p[i][(level - 1) * 5 + other]
        second = second + p[i][(other - 1) * 5 + level]
      end
      lu.assertAlmostEquals(levels[i][1][level], first, 1e-6)
      lu.assertAlmostEquals(levels[i][2][level], second, 1e-6)
    end
  end
end

-- On CLIP's own image side and with its prompts: the published zero-shot score.
function TestRivals:test_clip_iqa_of_a_clip()
  local clip = models.clip { model = "vit_micro", vision = { size = 32 } }:initialize(2)
  local model = models.clip_iqa { encoder = clip.visual, text = "clip", clip = clip, metrics = { "vessel" } }
  local image = lumen.randn({ 2, 3, 32, 32 }, { rng = { seed = 1, stream = "test" } })
  local texts = { "an x-ray angiography with bad vessel fidelity", "an x-ray angiography with good vessel fidelity" }
  local out = clip(image, clip.tokenizer(texts))
  local p = ((out.image:matmul(out.text:transpose(1, 2))) * 100):softmax():slice(2, 2, 2)
  local got = model { image = image }
  helper.assert_close(got.scores, p * 4 + 1, 1e-4, "scores")
  lu.assertNil(got.tokens)
end

function TestRivals:test_options_are_checked()
  lu.assertErrorMsgContains("paths is \"none\", not one of both, source, contrast", models.ahiq, { paths = "none" })
  lu.assertErrorMsgContains("text is \"none\"", models.liqe, { text = "none" })
  lu.assertErrorMsgContains("at most 4", models.liqe, { metrics = { "a", "b", "c", "d", "e" } })
  local cnn = models.iqa_cnn {}
  lu.assertErrorMsgContains("no ViT with timm's names", cnn.load_encoder, cnn, {})
end

function TestRivals:test_weights_of_a_pretraining()
  local mae = models.mae { model = "vit_micro", size = 32, depth = 2, decoder_depth = 1 }:initialize(5)
  for _, name in ipairs { "ahiq", "maniqa", "liqe", "clip_iqa" } do
    local model = models[name] { size = 32, depth = 2, text = "prototype" }
    model:load_encoder(mae:state_dict())
    helper.assert_equal(model.encoder.blocks:at(2).mlp.fc1.weight, mae.blocks:at(2).mlp.fc1.weight, name)
  end
end

helper.run()
