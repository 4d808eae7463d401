-- Segmentation metrics, losses, image quality and correlations against reference values.
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
  local lines = metrics.centre_lines(pred, truth)
  near(lines.p_hit / lines.p, expected.tprec, name .. " tprec") -- 0 / 0 is NaN in Lua too
  near(lines.t_hit / lines.t, expected.tsens, name .. " tsens")
  local pg, gp = metrics.surface_distances(pred, truth)
  near(pg:numel(), expected.n_surf_p, name .. " n_surf_p")
  near(gp:numel(), expected.n_surf_g, name .. " n_surf_g")
  if pg:numel() > 0 and gp:numel() > 0 then
    near(pg:mean():item(), expected.asd_pg, name .. " asd_pg")
    near(gp:mean():item(), expected.asd_gp, name .. " asd_gp")
  end
  local all = metrics.measure(pred, truth)
  for _, key in ipairs(metrics.names) do
    near(all[key], metrics[key](pred, truth), name .. " measure " .. key)
  end
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
      helper.assert_equal(lumen.vision.skeletonize(g[prefix .. "gt"]):ne(0),
        g[prefix .. "skel_gt"]:ne(0), name .. " skeleton of the truth")
      helper.assert_equal(lumen.vision.surface(g[prefix .. "gt"]):ne(0),
        g[prefix .. "surf_gt"]:ne(0), name .. " surface")
      helper.assert_equal(lumen.vision.surface(g[prefix .. "pred"]):ne(0),
        g[prefix .. "surf_pred"]:ne(0), name .. " surface of the prediction")
      count = count + 1
    end
  end
  lu.assertEquals(count, 14)
end

-- Pictures that exercise thinning, distances and components.
function TestMetrics.test_morphology()
  local g = lumen.load(helper.need_shared("golden/f_metrics.safetensors"))
  for i = 0, 2 do
    helper.assert_equal(lumen.vision.skeletonize(g["skel." .. i .. ".in"]):ne(0),
      g["skel." .. i .. ".out"]:ne(0), "skeleton " .. i)
  end
  helper.assert_close(lumen.vision.distance_transform(g["seg.edt.in"]):to("f64"),
    g["seg.edt.out"]:to("f64"), 1e-9, "distances")
end

TestCorrelation = {}

-- SciPy's correlations: with ties, without, perfect, reversed, on scales far apart.
function TestCorrelation.test_scipy()
  local g = lumen.load(helper.need_shared("golden/f_metrics.safetensors"))
  local count = 0
  for key, row in next, g do
    local name = key:match("^corr%.(.+)%.srcc_")
    if name then
      local x, y = g["corr." .. name .. ".x"], g["corr." .. name .. ".y"]
      local expected = row:totable()
      near(metrics.srcc(x, y), expected[1], name .. " srcc")
      near(metrics.plcc(x, y), expected[2], name .. " plcc")
      near(metrics.krcc(x, y), expected[3], name .. " tau-b")
      near(metrics.krcc(x, y, { variant = "c" }), expected[4], name .. " tau-c")
      near(metrics.rmse(x, y), expected[5], name .. " rmse")
      helper.assert_close(metrics.ranks(x), g["corr." .. name .. ".rank_x"], 0, name .. " ranks")
      count = count + 1
    end
  end
  lu.assertEquals(count, 10)
  near(metrics.auc(g["auc.scores"], g["auc.labels"]), g["auc.value"]:item(), "auc")
end

TestQuality = {}

-- scikit-image's and pytorch-msssim's values for one picture harmed in nine ways.
function TestQuality.test_harmed_pictures()
  local g = lumen.load(helper.need_shared("golden/f_metrics.safetensors"))
  local ref, count = g["iqa.ref"], 0
  for key, row in next, g do
    local name = key:match("^iqa%.(.+)%.metrics$")
    if name then
      local x, expected = g["iqa." .. name .. ".img"], row:totable()
      local d = x:to("f64") - ref:to("f64")
      near(d:square():mean():item(), expected[1], name .. " mse")
      near(metrics.psnr(x, ref):item(), expected[2], name .. " psnr")
      near(metrics.ssim(x, ref):item(), expected[3], name .. " ssim")
      near(metrics.ms_ssim(x, ref):item(), expected[4], name .. " ms_ssim")
      near(metrics.ssim(x, ref, { window = "uniform" }):item(), expected[5], name .. " uniform")
      near(d:abs():mean():item(), expected[6], name .. " mae")
      near(metrics.ssim(x, ref):item(), g["iqa." .. name .. ".ssim_pytorch_msssim"]:item(), name)
      count = count + 1
    end
  end
  lu.assertEquals(count, 9)
  helper.assert_close(metrics.ssim(g["iqa.noise20.img"], ref, { map = true }):reshape(ref.shape),
    g["iqa.noise20.ssim_map"], 1e-9, "map")
  near(metrics.ms_ssim(g["iqa.odd.a"], g["iqa.odd.b"]):item(),
    g["iqa.odd.ms_ssim_pytorch_msssim"]:item(), "odd sides")
  local a, b = g["iqa.float.a"], g["iqa.float.b"]
  near(metrics.psnr(b, a):item(), g["iqa.float.psnr"]:item(), "float psnr")
  near(metrics.ssim(b, a):item(), g["iqa.float.ssim"]:item(), "float ssim")
end

-- Published values of public image pairs.
local published = {
  psnr_rgb = metrics.psnr, psnr_gray = metrics.psnr, ssim_y = metrics.ssim,
  ssim_gray = metrics.ssim, ms_ssim_y = metrics.ms_ssim, gmsd = metrics.gmsd,
  vif_p = metrics.vif, fsim = metrics.fsim,
  ssim_down2 = function(x, y) return metrics.ssim(x, y, { down = 2 }) end,
  ssim_uniform7 = function(x, y) return metrics.ssim(x, y, { window = "uniform" }) end,
}

function TestQuality.test_published_pairs()
  local path = helper.need_shared("data/iqa_pairs/expected.tsv")
  local folder, count = path:match("^(.*/)"), 0
  for line in io.lines(path) do
    local metric, pair, expected, tolerance = line:match("^([%w_]+)\t([%w_]+)\t(%S+)\t(%S+)")
    if metric then
      local x = lumen.image.load(folder .. pair .. "_distorted.png")
      local y = lumen.image.load(folder .. pair .. "_reference.png")
      lu.assertAlmostEquals(published[metric](x, y):item(), tonumber(expected), tonumber(tolerance),
        metric .. " of " .. pair)
      count = count + 1
    end
  end
  lu.assertEquals(count, 16)
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
