-- Schedules and optimizers' groups, also against reference tables.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local optim, schedule = lumen.optim, lumen.schedule

TestSchedule = {}

function TestSchedule.test_linear()
  lu.assertEquals(schedule.linear(0, 0.5, 400, 800), 0.25)
  lu.assertEquals(schedule.linear(0.5, 0, 800, 800), 0.0)
end

function TestSchedule.test_warmup_cosine()
  lu.assertEquals(schedule.warmup_cosine(1, 0, 100, 10), 0.0)
  lu.assertEquals(schedule.warmup_cosine(1, 5, 100, 10), 0.5)
  lu.assertEquals(schedule.warmup_cosine(1, 10, 100, 10), 1.0)
  lu.assertAlmostEquals(schedule.warmup_cosine(1, 55, 100, 10), 0.5, 1e-12)
  lu.assertAlmostEquals(schedule.warmup_cosine(1, 100, 100, 10, 0.1), 0.1, 1e-12)
  lu.assertEquals(schedule.warmup_cosine(1, 0, 100), 1.0)
end

local function check_table(key, lr, min_lr, warmup, epochs)
  local rows = lumen.load(helper.need_shared("golden/e_ops.safetensors"))[key]:totable()
  for _, row in ipairs(rows) do
    local got = schedule.warmup_cosine(lr, row[1], epochs, warmup, min_lr)
    lu.assertAlmostEquals(got, row[2], 1e-12)
  end
end

function TestSchedule.test_reference_tables()
  check_table("lr800.table", 1.2e-3, 0, 40, 800)
  check_table("lr400_min.table", 1e-3, 1e-6, 40, 400)
  check_table("lr100_w5.table", 5e-4, 1e-5, 5, 100)
end

function TestSchedule.test_poly_reference()
  local rows = lumen.load(helper.need_shared("golden/e_ops.safetensors"))["poly09.table"]:totable()
  for _, row in ipairs(rows) do
    lu.assertAlmostEquals(schedule.poly(1e-3, row[1], 200, 0.9), row[2], 1e-12)
  end
end

TestGroups = {}

function TestGroups.test_layer_scales()
  local g = lumen.load(helper.need_shared("golden/e_ops.safetensors"))
  local scales = g["lrd.scales_depth12_0.75"]:totable()
  local names = { "encoder.cls_token" }
  for i = 0, 11 do names[#names + 1] = ("encoder.blocks.%d.attn.qkv.weight"):format(i) end
  names[#names + 1] = "decoder.head.weight"
  for i, name in ipairs(names) do
    lu.assertAlmostEquals(optim.layer_scale(name, 12, 0.75), scales[i], 1e-7, name)
  end
  lu.assertEquals(optim.layer_scale("patch_embed.proj.weight", 12, 0.75),
    optim.layer_scale("pos_embed", 12, 0.75))
end

function TestGroups.test_no_decay_on_vectors()
  local model = lumen.models.mae { model = "vit_micro", size = 32, depth = 1, decoder_depth = 1 }
  local opt = optim.adamw(model, { weight_decay = 0.05 })
  lu.assertEquals(#opt.groups, 2)
  for _, group in ipairs(opt.groups) do
    for _, p in ipairs(group.list) do
      lu.assertEquals(group.weight_decay, #p.tensor.shape >= 2 and 0.05 or 0, p.name)
      lu.assertFalse(p.name == "pos_embed" or p.name == "decoder_pos_embed")
    end
  end
end

TestOptimizer = {}

local function quadratic()
  local w = lumen.tensor({ 1, -2, 3 }, { requires_grad = true })
  return w, { { name = "w", tensor = w } }
end

function TestOptimizer.test_non_finite_gradients_are_skipped()
  local w, list = quadratic()
  local opt = optim.adamw(list, {});
  (w * math.huge):sum():backward()
  local norm, done = opt:step(0.1)
  lu.assertFalse(done)
  lu.assertEquals(norm, math.huge)
  lu.assertEquals(w:totable(), { 1.0, -2.0, 3.0 })
  lu.assertNil(w.grad)
  lu.assertEquals(opt.steps, 0)
end

function TestOptimizer.test_clip_and_scale()
  local w, list = quadratic()
  local opt = optim.sgd(list, { clip = 1 });
  (w * lumen.tensor({ 6, 0, 8 })):sum():backward()
  lu.assertAlmostEquals(opt:step(1, 0.5), 5, 1e-6)
  helper.assert_close(w:detach(), lumen.tensor({ 0.4, -2, 2.2 }), 1e-6, "w")
end

function TestOptimizer.test_state_round_trip()
  local w, list = quadratic()
  local opt = optim.adamw(list, {})
  for _ = 1, 3 do (w * w):sum():backward() opt:step(0.1) end
  local state = {}
  for name, t in next, opt:state_dict() do state[name] = t:clone() end
  local values = w:detach():clone();
  (w * w):sum():backward()
  opt:step(0.1)
  local expected = w:totable()
  local other = optim.adamw(list, {})
  other:load_state_dict(state, 3)
  w:detach():copy_(values);
  (w * w):sum():backward()
  other:step(0.1)
  lu.assertEquals(w:totable(), expected)
end

function TestOptimizer.test_errors()
  local _, list = quadratic()
  lu.assertErrorMsgContains("call backward first", function() optim.adamw(list, {}):step(0.1) end)
  lu.assertErrorMsgContains("needs depth", optim.adamw, list, { layer_decay = 0.5 })
end

helper.run()
