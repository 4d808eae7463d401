-- Segmentation metrics and losses against reference values.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local loss, metrics = lumen.loss, lumen.metrics

local columns = { "tp", "fp", "fn", "tn", "dice", "iou", "sensitivity", "precision", "specificity",
  "accuracy", "tprec", "tsens", "cldice", "hd", "hd95_pooled", "hd95_max", "asd_pg", "asd_gp",
  "assd_mean", "assd_pooled", "n_surf_p", "n_surf_g" }

local function near(got, expected, what)
  local same = got == expected or (got ~= got and expected ~= expected)
  lu.assertTrue(same or math.abs(got - expected) < 1e-9,
    ("%s is %.17g, expected %.17g"):format(what, got, expected))
end

local function check_pair(name, pred, truth, row)
  local expected = {}
  for i, column in ipairs(columns) do expected[column] = row[i] end
  local counts = metrics.counts(pred, truth)
  for _, key in ipairs { "tp", "fp", "fn", "tn" } do near(counts[key], expected[key], name .. " " .. key) end
  for _, key in ipairs { "dice", "iou", "sensitivity", "precision", "specificity", "accuracy",
                         "cldice" } do
    near(metrics[key](pred, truth), expected[key], name .. " " .. key)
  end
  local hd95, assd = metrics.hd95, metrics.assd
  near(metrics.hd(pred, truth), expected.hd, name .. " hd")
  near(hd95(pred, truth), expected.hd95_pooled, name .. " hd95")
  near(hd95(pred, truth, { pooled = false }), expected.hd95_max, name .. " hd95, larger")
  near(assd(pred, truth), expected.assd_mean, name .. " assd")
  near(assd(pred, truth, { pooled = true }), expected.assd_pooled, name .. " assd, pooled")
end

TestMetrics = {}

function TestMetrics.test_pairs()
  local g = lumen.load(helper.need_shared("golden/f_metrics.safetensors"))
  local count = 0
  for key, row in next, g do
    local name = key:match("^seg%.(.+)%.metrics$")
    if name then
      local prefix = ("seg.%s."):format(name)
      check_pair(name, g[prefix .. "pred"], g[prefix .. "gt"], row:totable())
      helper.assert_equal(lumen.vision.skeletonize(g[prefix .. "pred"]):ne(0),
        g[prefix .. "skel_pred"]:ne(0), name .. " skeleton")
      helper.assert_equal(lumen.vision.surface(g[prefix .. "gt"]):ne(0),
        g[prefix .. "surf_gt"]:ne(0), name .. " surface")
      count = count + 1
    end
  end
  lu.assertEquals(count, 14)
end

function TestMetrics.test_average_of_undefined_values()
  local rows = { { 0.5, false }, { 0 / 0, true }, { 0 / 0, false } }
  lu.assertAlmostEquals(metrics.average(rows), 0.5, 1e-12)
  lu.assertAlmostEquals(metrics.average(rows, "skip"), 0.5, 1e-12)
  lu.assertAlmostEquals(metrics.average(rows, 1), 2.5 / 3, 1e-12)
  lu.assertAlmostEquals(metrics.average(rows, 0), 0.5 / 3, 1e-12)
  lu.assertNaN(metrics.average({}, "skip"))
end

TestLoss = {}

-- Value and gradient of a loss of logits against reference tensors, in f64.
local function check_loss(name, fn)
  local g = lumen.load(helper.need_shared("golden/e_ops.safetensors"))
  local x = g[name .. ".in.x"]:to("f64")
  local target = g[name .. ".in.t"] or g[name .. ".in.target"]
  x.requires_grad = true
  local l = fn(x, target:to("f64"))
  helper.assert_close(l:reshape({}), g[name .. ".out"]:to("f64"):reshape({}), 1e-6, name)
  l:backward()
  helper.assert_close(x.grad, g[name .. ".d.x"]:to("f64"), 1e-6, name .. " gradient")
end

function TestLoss.test_dice_of_the_batch()
  check_loss("dice_batch", function(x, t) return loss.dice(x, t, { batch = true }) end)
end
function TestLoss.test_dice_per_sample() check_loss("dice_per_sample", loss.dice) end
function TestLoss.test_bce_dice() check_loss("bcedice_official", loss.bce_dice) end

-- The soft skeleton of a thin line is the line; clDice of equal masks is 0.
function TestLoss.test_soft_cldice()
  local t = lumen.zeros({ 1, 1, 16, 16 })
  t:slice(3, 8, 8):fill_(1)
  helper.assert_close(loss.soft_skeleton(t, 3), t, 1e-6, "skeleton")
  lu.assertAlmostEquals(loss.soft_cldice(t * 40 - 20, t):item(), 0, 1e-5)
  local x = lumen.randn({ 2, 1, 6, 6 }, { dtype = "f64", rng = { seed = 3, stream = "t" } })
  local target = lumen.rand({ 2, 1, 6, 6 }, { dtype = "f64", rng = { seed = 4, stream = "t" } }):round()
  lumen.gradcheck(function(y) return loss.soft_cldice(y, target, { iterations = 2 }) end, { x })
end

helper.run()
