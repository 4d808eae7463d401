-- UNeXt-S with the published weights: logits, stage outputs, input gradient, and one training
-- step in train mode, against reference tensors.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local loss, models = lumen.loss, lumen.models

local function published(dtype)
  local model = models.unext {}
  model:load_state_dict(lumen.load(helper.need_shared("golden/unext_s_weights.safetensors")))
  return model:to(dtype)
end

local function golden() return lumen.load(helper.need_shared("golden/a_unext.safetensors")) end

TestUnext = {}

function TestUnext.test_parameter_count()
  lu.assertEquals(models.unext {}:count(), 253561)
end

function TestUnext.test_names_are_those_of_the_published_file()
  local state = lumen.load(helper.need_shared("golden/unext_s_weights.safetensors"))
  local mine, count = models.unext {}:state_dict(), 0
  for name, tensor in next, state do
    lu.assertNotNil(mine[name], name)
    lu.assertEquals(mine[name].shape, tensor.shape, name)
    count = count + 1
  end
  lu.assertEquals(count, 101)
  for name in next, mine do lu.assertNotNil(state[name], name) end
end

-- Logits, loss and gradient in eval mode. The tolerances are ten times what another f32
-- implementation deviates by; in f64 the activations were themselves recorded in f32.
local function check_eval(prefix, dtype, tol)
  local g, model = golden(), published(dtype):eval():freeze()
  local function get(name) return g[prefix .. name]:to(dtype) end
  local mean = lumen.tensor(lumen.data.mean, { dtype = dtype }):reshape(1, 3, 1, 1)
  local std = lumen.tensor(lumen.data.std, { dtype = dtype }):reshape(1, 3, 1, 1)
  local function image(name)
    local u8 = g[prefix .. name]
    local n, h, w = table.unpack(u8.shape)
    local grey = u8:to(dtype):reshape(n, 1, h, w):expand(n, 3, h, w) / 255
    return (grey - mean) / std
  end
  local x, y = get("x"), image("u8_y")
  helper.assert_close(image("u8_x"), x, 1e-6, "normalised input")
  x.requires_grad = true
  local stages = {}
  local logits = model:forward(x, { stages = stages })
  for _, name in ipairs { "t1", "t2", "t3", "t4", "bottleneck" } do
    helper.assert_close(stages[name], get("act." .. name), 1e-5, prefix .. name)
  end
  helper.assert_close(logits, get("logits_x_f64"), tol.logits, "logits")
  local target = lumen.no_grad(function() return model(y):sigmoid() end)
  local l = loss.bce_with_logits(logits, target)
  lu.assertAlmostEquals(l:item(), get("loss_f64"):item(), tol.loss * math.abs(l:item()))
  l:backward()
  helper.assert_close(x.grad, get("g_x"), tol.gradient, "input gradient")
  for _, p in ipairs(model:named_parameters()) do lu.assertNil(p.tensor.grad, p.name) end
end

local f32 = { logits = 1.1e-5, loss = 1e-6, gradient = 9e-6 }
local f64 = { logits = 1e-6, loss = 1e-6, gradient = 1e-6 }

function TestUnext.test_eval_64_f32() check_eval("s64.", "f32", f32) end
function TestUnext.test_eval_64_f64() check_eval("s64.", "f64", f64) end
function TestUnext.test_eval_224_f32() check_eval("s224.", "f32", f32) end

-- Train mode: batch statistics, the loss of the segmentor's training, all gradients, the
-- running statistics. Biases in front of a batch norm have no gradient in theory.
local function check_train(dtype, tol)
  local g, model = golden(), published(dtype):train()
  local x = g["train64.x"]:to(dtype)
  x.requires_grad = true
  local logits = model(x)
  helper.assert_close(logits, g["train64.logits"]:to(dtype), 1e-5, "logits")
  local l = loss.bce_dice(logits, g["train64.target"]:to(dtype))
  lu.assertAlmostEquals(l:item(), g["train64.loss_f64"]:item(), tol)
  l:backward()
  helper.assert_close(x.grad, g["train64.g_x"]:to(dtype), 10 * tol, "input gradient")
  for _, p in ipairs(model:named_parameters()) do
    local expected = g["train64.grad." .. p.name]:to(dtype)
    if p.name:match("^encoder%d%.bias") or p.name:match("^decoder[1-4]%.bias") then
      lu.assertTrue(p.tensor.grad:abs():max():item() < 1e-6, p.name)
    else
      helper.assert_close(p.tensor.grad, expected, 10 * tol, p.name)
    end
  end
  for name, tensor in next, model:state_dict() do
    local expected = g["train64.buf." .. name]
    if expected then helper.assert_close(tensor, expected:to(tensor.dtype), 1e-5, name) end
  end
end

function TestUnext.test_train_f32() check_train("f32", 2e-6) end
function TestUnext.test_train_f64() check_train("f64", 1e-7) end

helper.run()
