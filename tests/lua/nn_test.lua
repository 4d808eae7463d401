-- Modules: names, order, state, initialisation by name, modes, errors.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local nn, models = lumen.nn, lumen.models

local function names(module)
  local list = {}
  for i, p in ipairs(module:named_parameters()) do list[i] = p.name end
  return list
end

TestModule = {}

function TestModule.test_names_in_order()
  local block = nn.Block(8, 2)
  lu.assertEquals(names(block), { "norm1.weight", "norm1.bias", "attn.qkv.weight",
    "attn.qkv.bias", "attn.proj.weight", "attn.proj.bias", "norm2.weight", "norm2.bias",
    "mlp.fc1.weight", "mlp.fc1.bias", "mlp.fc2.weight", "mlp.fc2.bias" })
  lu.assertEquals(names(nn.Sequential { nn.Linear(2, 3), lumen.relu, nn.Linear(3, 1) }),
    { "0.weight", "0.bias", "2.weight", "2.bias" })
end

function TestModule.test_initialisation_depends_on_seed_and_name_only()
  local Net = nn.class("Net")
  function Net:build(order)
    for _, name in ipairs(order) do self[name] = nn.Linear(4, 4) end
  end
  local a, b = Net({ "p", "q" }):initialize(1), Net({ "q", "p" }):initialize(1)
  helper.assert_equal(a.p.weight, b.p.weight, "p")
  helper.assert_equal(a.q.bias, b.q.bias, "q")
  lu.assertTrue((a.p.weight - a.q.weight):abs():max():item() > 0.01)
  lu.assertTrue((a.p.weight - Net({ "p" }):initialize(2).p.weight):abs():max():item() > 0.01)
end

function TestModule.test_a_part_with_values_keeps_them()
  local part = nn.Linear(2, 2):initialize(9)
  local weight = part.weight:clone()
  local net = nn.Sequential { part, nn.Linear(2, 2) }
  net:initialize(1)
  helper.assert_equal(part.weight, weight, "kept")
  helper.assert_equal(net:at(2).weight, nn.Sequential { nn.Linear(2, 2), nn.Linear(2, 2) }:initialize(1):at(2).weight,
    "filled")
  net:initialize(1)
  lu.assertTrue((part.weight - weight):abs():max():item() > 0.01)
end

function TestModule.test_a_new_layer_is_ready_when_called()
  local layer = nn.Linear(3, 2)
  lu.assertTrue(layer(lumen.ones({ 1, 3 })):abs():sum():item() > 0)
end

function TestModule.test_state_round_trip()
  local a = nn.Sequential { nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2) }
  local b = nn.Sequential { nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2) }
  a(lumen.randn({ 4, 1, 8, 8 }))
  b:initialize(77)
  b:load_state_dict(a:state_dict())
  for name, t in next, a:state_dict() do helper.assert_equal(b:state_dict()[name], t, name) end
  lu.assertEquals(a:state_dict()["1.num_batches_tracked"]:item(), 1)
end

function TestModule.test_load_errors_name_what_is_wrong()
  local layer = nn.Linear(2, 3)
  local function loading(state) return function() layer:load_state_dict(state) end end
  local w, b = lumen.zeros({ 3, 2 }), lumen.zeros({ 3 })
  lu.assertErrorMsgContains("missing: bias", loading { weight = w })
  lu.assertErrorMsgContains("unexpected: extra", loading { weight = w, bias = b, extra = b })
  lu.assertErrorMsgContains("weight is [3 x 2] here and [3] in the state",
    loading { weight = b, bias = b })
  local missing, unexpected = layer:load_state_dict({ weight = w, x = b }, { strict = false })
  lu.assertEquals(missing, { "bias" })
  lu.assertEquals(unexpected, { "x" })
end

function TestModule.test_modes_and_freezing()
  local model = nn.Sequential { nn.Linear(2, 2), nn.Dropout(0.9) }
  local x = lumen.ones({ 50, 2 })
  model:eval()
  helper.assert_equal(model(x), model(x), "eval")
  model:train()
  lu.assertTrue((model(x) - model(x)):abs():max():item() > 0)
  model:freeze()
  lu.assertEquals(#model:parameters(), 0)
  lu.assertEquals(#model:freeze(false):parameters(), 2)
end

function TestModule.test_to_dtype()
  local model = nn.Sequential { nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2) }:to("f64")
  for _, p in ipairs(model:named_parameters()) do
    lu.assertEquals(p.tensor.dtype, "f64")
    lu.assertTrue(p.tensor.requires_grad)
  end
  lu.assertEquals(model:state_dict()["1.num_batches_tracked"].dtype, "i64")
end

TestModels = {}

function TestModels.test_sizes()
  local x = lumen.randn({ 2, 3, 32, 32 })
  lu.assertEquals(models.vit { model = "vit_micro", size = 32, depth = 1 }(x).shape, { 2, 17, 64 })
  lu.assertEquals(models.vit { model = "vit_micro", size = 32, depth = 1, classes = 5 }(x).shape, { 2, 5 })
  lu.assertEquals(models.unext {}(x).shape, { 2, 1, 32, 32 })
  lu.assertEquals(models.unet { width = 4 }(x).shape, { 2, 1, 32, 32 })
  for _, decoder in ipairs { "conv", "linear" } do
    local m = models.segmenter { model = "vit_micro", size = 32, depth = 1, decoder = decoder }
    lu.assertEquals(m(x).shape, { 2, 1, 32, 32 })
  end
end

function TestModels.test_parameter_counts()
  lu.assertEquals(models.vit { model = "vit_base", depth = 1 }.dim, 768)
  lu.assertEquals(models.vit { model = "vit_tiny" }:count(), 5524416)
  lu.assertEquals(models.unet {}:count(), 31037633)
end

function TestModels.test_encoder_loads_from_pretraining_at_another_size()
  local mae = models.mae { model = "vit_micro", size = 32, depth = 2, decoder_depth = 1 }
  mae:initialize(5)
  local m = models.segmenter { model = "vit_micro", size = 64, depth = 2 }
  lumen.models.vit.load_encoder(m.encoder, mae:state_dict())
  helper.assert_equal(m.encoder.blocks:at(2).mlp.fc1.weight, mae.blocks:at(2).mlp.fc1.weight, "fc1")
  lu.assertEquals(m.encoder.pos_embed.shape, { 1, 65, 64 })
  lu.assertErrorMsgContains("lack", lumen.models.vit.load_encoder, m.encoder, {})
end

function TestModels.test_positions()
  local g = lumen.load(helper.need_shared("golden/e_ops.safetensors"))
  for _, case in ipairs { { 32, 8 }, { 48, 8 }, { 384, 14 }, { 768, 14 } } do
    local expected = g[("posembed.%d.%d"):format(case[1], case[2])]
    local got = lumen.tensor(nn.sincos_positions(case[1], case[2], case[2], true))
    helper.assert_close(got:reshape(expected.shape), expected, 1e-6, "positions")
  end
end

function TestModels.test_errors()
  lu.assertErrorMsgContains("no model", models.vit, { model = "vit_bse" })
  lu.assertErrorMsgContains("not divisible by patch", models.vit, { model = "vit_base", size = 100 })
  lu.assertErrorMsgContains("divisible by 32", models.unext {}, lumen.zeros({ 1, 3, 40, 32 }))
end

helper.run()
