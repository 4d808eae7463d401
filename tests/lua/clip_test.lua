-- CLIP: the whole forward against OpenAI's code, published layouts of weights, MUST on top of it.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local clip, rated = lumen.models.clip, lumen.models.rated

local expected = lumen.json.decode(lumen.fs.read "tests/fixtures/clip.json")

local function wave(shape, k, scale)
  local n = 1
  for _, s in ipairs(shape) do n = n * s end
  local i = lumen.arange(n):to("f64")
  local x = (i * 0.7 + i * i * 0.0137 + k):sin() * scale
  return x:reshape(shape)
end

local function reference()
  return clip { dim = 24, context = 20, vocab = 60,
                vision = { size = 32, patch = 8, width = 128, layers = 2, heads = 2 },
                text = { width = 32, layers = 2, heads = 4 } }
end

-- The weights of make_clip.py: name -> tensor.
local function weights()
  local state, shapes = {}, reference():state_dict()
  for k, name in ipairs(expected.names) do
    local centre = name:match("ln_.*weight$") and 1 or name == "logit_scale" and 2 or 0
    state[name] = (wave(shapes[name].shape, k - 1, 0.2) + centre):to("f32")
  end
  return state
end

local image = wave({ 3, 3, 32, 32 }, 0.5, 1):to("f32")
local ids = lumen.tensor({ { 58, 3, 7, 59, 0, 0 }, { 58, 59, 0, 0, 0, 0 }, { 58, 11, 12, 13, 14, 59 } },
  { dtype = "i64" })

local function check(model)
  helper.assert_close(model:encode_image(image), lumen.tensor(expected.image), 2e-5, "image")
  helper.assert_close(model:encode_text(ids), lumen.tensor(expected.text), 2e-5, "text")
  helper.assert_close(model(image, ids).logits, lumen.tensor(expected.logits), 2e-5, "logits")
end

TestClip = {}

function TestClip:test_forward_is_openais()
  local model = reference()
  model:load_state_dict(weights())
  check(model)
end

function TestClip:test_weights_as_they_are_published()
  local heads = { text_heads = 4 }
  local state = weights()
  check(clip.load(state, heads))
  local nested = { epoch = 3, state_dict = {} } -- open_clip's training checkpoints
  for name, t in next, state do nested.state_dict["module." .. name] = t end
  check(clip.load(nested, heads))
  local script = { class = "__torch__.CLIP", state = { training = true, input_resolution = lumen.tensor(32) } }
  for name, t in next, state do -- OpenAI's: modules in modules
    local at = script
    for part in name:gmatch("([^.]+)%.") do
      at.state[part] = at.state[part] or { class = "__torch__.Part", state = {} }
      at = at.state[part]
    end
    at.state[name:match("[^.]+$")] = t
  end
  check(clip.load(script, heads))
  local folder = helper.temporary_folder()
  lumen.save(folder .. "/clip.safetensors", state)
  check(clip.load(folder .. "/clip.safetensors", heads))
  lumen.save(folder .. "/other.safetensors", { weight = lumen.zeros(3) })
  lu.assertErrorMsgContains("other.safetensors: these are no weights of a CLIP", clip.load,
    folder .. "/other.safetensors")
  helper.remove_folder(folder)
end

function TestClip:test_another_activation_and_size()
  local gelu = clip.load(weights(), { text_heads = 4, activation = "gelu" })
  lu.assertTrue(helper.deviation(gelu:encode_image(image), lumen.tensor(expected.image)) > 1e-3)
  local larger = clip.load(weights(), { text_heads = 4, size = 48 })
  lu.assertEquals(larger.visual.positional_embedding.shape, { 37, 128 })
  lu.assertEquals(larger:encode_image(lumen.zeros { 1, 3, 48, 48 }).shape, { 1, 24 })
end

function TestClip:test_sizes_of_the_published_models()
  local function block(width) return 12 * width ^ 2 + 13 * width end
  for name, whole in next, { vit_b_32 = 151277313, vit_b_16 = 149620737 } do
    local short = clip { model = name, vision = { layers = 1 }, text = { layers = 1 } }
    lu.assertEquals(short:count() + 11 * block(768) + 11 * block(512), whole)
  end
end

function TestClip:test_wrong_weights()
  local function failing(text, change, options)
    local state = weights()
    change(state)
    lu.assertErrorMsgContains(text, clip.load, state, options or { text_heads = 4 })
  end
  failing("there is no visual.conv1.weight; its image side is a ResNet", function(s)
    s["visual.conv1.weight"], s["visual.layer1.0.conv1.weight"] = nil, lumen.zeros(1)
  end)
  failing("missing: ln_final.bias", function(s) s["ln_final.bias"] = nil end)
  failing("unexpected: extra", function(s) s.extra = lumen.zeros(1) end)
  failing("text_projection", function(s) s.text_projection = lumen.zeros { 31, 24 } end)
  failing("width 32 is not divisible by 0 heads", function() end, {})
  failing("not a class token and a square grid", function(s)
    s["visual.positional_embedding"] = lumen.zeros { 18, 128 }
  end)
  lu.assertErrorMsgContains("no weights of a CLIP", clip.load, {})
  lu.assertErrorMsgContains("no model", clip, { model = "vit_l_14" })
  lu.assertErrorMsgContains("activation is \"relu\"", clip, { model = "vit_micro", activation = "relu" })
  lu.assertErrorMsgContains("a text of 100 tokens, at most 77",
    clip { model = "vit_micro" }.encode_text, clip { model = "vit_micro" }, lumen.zeros({ 1, 100 }, { dtype = "i64" }))
end

-- Padding behind the end token does not count.
function TestClip:test_padding()
  local model = reference()
  local long = lumen.cat({ ids, lumen.zeros({ 3, 9 }, { dtype = "i64" }) }, { dim = 2 })
  helper.assert_close(model:encode_text(long), model:encode_text(ids), 1e-5, "text")
end

TestMustOnClip = {}

local function small() return clip { model = "vit_micro", vision = { size = 32 } } end

function TestMustOnClip:test_prompts_of_a_frozen_text_side()
  local model = small()
  local must = lumen.models.must { size = 32, depth = 1, text = "clip", clip = model }
  local grey = lumen.randn { 2, 1, 32, 32 }
  lu.assertEquals(must { image = grey, source = grey } .levels.shape, { 2, 3, 5 })
  for _, p in ipairs(must:named_parameters()) do lu.assertNil(p.name:match("transformer")) end
  helper.assert_equal(must:state_dict()["score.prompts.vectors"],
    rated.embed(model, rated.prompts(rated.metrics)), "prompts")
  local same = lumen.models.must { size = 32, depth = 1, text = "clip",
                                   clip = must:state_dict()["score.prompts.vectors"] }
  same:load_state_dict(must:state_dict())
  helper.assert_equal(same({ image = grey }).scores, must({ image = grey }).scores, "scores")
end

function TestMustOnClip:test_its_image_side_is_an_encoder()
  local model = small()
  local must = lumen.models.must { encoder = model.visual, text = "clip", clip = model }
  local grey = lumen.randn { 2, 1, 32, 32 }
  local out = must { image = grey, source = grey, contrast = grey }
  lu.assertEquals({ out.scores.shape, out.grid, out.gates.shape }, { { 2, 3 }, { 4, 4 }, { 2, 3, 3, 16 } })
  out.scores:sum():backward()
  lu.assertNotNil(model.visual.conv1.weight.grad)
  lu.assertNil(model.text_projection.grad)
end

function TestMustOnClip:test_a_tokenizer_that_does_not_fit()
  local model = small()
  model.tokenizer = { size = 49408 }
  lu.assertErrorMsgContains("the tokenizer has 49408 ids, the text side 258", rated.embed, model, { "good" })
end

helper.run()
