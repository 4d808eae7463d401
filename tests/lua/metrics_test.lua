-- Segmentation metrics of masks small enough to count by hand; what is undefined; averages.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local metrics = lumen.metrics

local function mask(...)
  local rows = {}
  for y, line in ipairs { ... } do
    rows[y] = {}
    for x = 1, #line do rows[y][x] = line:sub(x, x) == "#" and 1 or 0 end
  end
  return lumen.tensor(rows, { dtype = "u8" })
end

local pred = mask("##..", "##..", "....")
local truth = mask(".##.", ".##.", ".#..")
local none = mask("....", "....", "....")
local all = mask("####", "####", "####")

local function is_nan(x) return x ~= x end

TestOverlap = {}

function TestOverlap.test_counts()
  lu.assertEquals(metrics.counts(pred, truth), { tp = 2.0, fp = 2.0, fn = 3.0, tn = 5.0 })
  lu.assertEquals(metrics.dice(pred, truth), 4 / 9)
  lu.assertEquals(metrics.iou(pred, truth), 2 / 7)
  lu.assertEquals(metrics.sensitivity(pred, truth), 2 / 5)
  lu.assertEquals(metrics.precision(pred, truth), 2 / 4)
  lu.assertEquals(metrics.specificity(pred, truth), 5 / 7)
  lu.assertEquals(metrics.accuracy(pred, truth), 7 / 12)
end

function TestOverlap.test_empty_masks()
  for _, name in ipairs { "dice", "iou", "sensitivity", "precision", "cldice", "hd", "hd95", "assd" } do
    lu.assertTrue(is_nan(metrics[name](none, none)), name)
  end
  for _, name in ipairs { "precision", "cldice", "hd", "hd95", "assd" } do
    lu.assertTrue(is_nan(metrics[name](none, truth)), name)
  end
  for _, name in ipairs { "sensitivity", "cldice", "hd", "hd95", "assd" } do
    lu.assertTrue(is_nan(metrics[name](truth, none)), name)
  end
  lu.assertTrue(is_nan(metrics.specificity(pred, all)))
  for _, name in ipairs { "dice", "iou", "sensitivity" } do
    lu.assertEquals(metrics[name](none, truth), 0.0, name)
  end
  lu.assertEquals(metrics.specificity(none, none), 1.0)
  lu.assertEquals(metrics.accuracy(none, none), 1.0)
end

function TestOverlap.test_any_dtype_and_value()
  for _, dtype in ipairs { "f32", "f64", "bf16", "i64" } do
    local p, t = pred:to("f32") * 3, truth:to("f32") * 255
    lu.assertEquals(metrics.dice(p:to(dtype), t:to(dtype)), 4 / 9)
    lu.assertEquals(metrics.cldice(p:to(dtype), t:to(dtype)), metrics.cldice(pred, truth))
    lu.assertEquals(metrics.hd(p:to(dtype), t:to(dtype)), metrics.hd(pred, truth))
  end
  lu.assertEquals(metrics.dice(pred:reshape({ -1 }), truth:reshape({ -1 })), 4 / 9)
end

-- More pixels than single precision can count.
function TestOverlap.test_many_pixels()
  local x = lumen.ones({ 4097, 4097 }, { dtype = "u8" })
  lu.assertEquals(metrics.counts(x, x).tp, 4097.0 ^ 2)
end

function TestOverlap.test_shapes()
  local four = pred:reshape({ 1, 1, 3, 4 })
  lu.assertEquals(metrics.cldice(four, four), metrics.cldice(pred, pred))
  lu.assertErrorMsgContains("pred is [3 x 4] but truth is [1 x 1 x 3 x 4]", metrics.dice, pred, four)
  lu.assertErrorMsgContains("pred is [3 x 4] but truth is [2 x 2]", metrics.hd, pred, lumen.zeros { 2, 2 })
  local two = lumen.zeros { 2, 3, 4 }
  lu.assertErrorMsgContains("one image [H, W], not [2 x 3 x 4]", metrics.cldice, two, two)
  lu.assertErrorMsgContains("one image [H, W], not [4]", metrics.hd95, lumen.zeros { 4 }, lumen.zeros { 4 })
end

TestLines = {}

-- Lines one pixel wide are their own skeletons.
function TestLines.test_cldice()
  local a = mask(".......", ".#####.", ".......")
  local b = mask("...#...", "...####", "...#...")
  lu.assertEquals(metrics.cldice(a, a), 1.0)
  local skeleton = lumen.vision.skeletonize(b)
  local precision, sensitivity = metrics.precision(a, b), metrics.precision(skeleton, a)
  lu.assertAlmostEquals(metrics.cldice(a, b), 2 * precision * sensitivity / (precision + sensitivity), 1e-15)
  lu.assertEquals(metrics.cldice(a, mask(".......", ".......", "#######")), 0.0)
end

TestSurfaces = {}

function TestSurfaces.test_two_pixels_against_one()
  local p, t = mask("#.....", "......"), mask("...#..", ".....#")
  -- p to t: 3. t to p: 3 and sqrt(26).
  local far = math.sqrt(26)
  lu.assertEquals(metrics.hd(p, t), far)
  lu.assertEquals(metrics.hd(t, p), far)
  lu.assertAlmostEquals(metrics.hd95(p, t), 3 + 0.9 * (far - 3), 1e-14) -- of 3, 3, far
  lu.assertAlmostEquals(metrics.hd95(p, t, { pooled = false }), 3 + 0.95 * (far - 3), 1e-14)
  lu.assertAlmostEquals(metrics.assd(p, t), (3 + (3 + far) / 2) / 2, 1e-14)
  lu.assertAlmostEquals(metrics.assd(p, t, { pooled = true }), (3 + 3 + far) / 3, 1e-14)
end

function TestSurfaces.test_identical()
  for _, name in ipairs { "hd", "hd95", "assd" } do
    lu.assertEquals(metrics[name](truth, truth), 0.0, name)
    lu.assertEquals(metrics[name](truth, truth, { pooled = name == "assd" }), 0.0, name)
  end
end

-- Only surfaces count: the inside of a block is no nearer than its edge.
function TestSurfaces.test_inside_a_block()
  local block = lumen.ones({ 5, 5 }, { dtype = "u8" })
  local point = lumen.zeros({ 5, 5 })
  point:slice(1, 3, 3):slice(2, 3, 3):fill_(1)
  lu.assertEquals(metrics.hd(point, block), math.sqrt(8))
  lu.assertEquals(lumen.vision.surface_distances(point, block):item(), 2.0)
end

TestMeter = {}

-- Every value against the function of its name, the means, and the pixels pooled.
function TestMeter.test_binary()
  local meter = metrics.meter()
  lumen.scope(function()
    meter:add(pred, truth, "a.png")
    meter:add(none, none, "b,c.png")
    meter:add(none, truth, "d.png")
    meter:add(truth, truth, "e.png")
  end)
  for _, name in ipairs(metrics.names) do
    lu.assertEquals(meter.rows[1][name], metrics[name](pred, truth), name)
  end
  local mean, skip = meter:mean(), nil
  lu.assertAlmostEquals(mean.dice, (4 / 9 + 1 + 0 + 1) / 4, 1e-15)
  lu.assertAlmostEquals(mean.precision, (2 / 4 + 1 + 0 + 1) / 4, 1e-15)
  lu.assertAlmostEquals(mean.hd95, (metrics.hd95(pred, truth) + 0) / 2, 1e-15)
  local long = lumen.cat({ pred, none, none, truth }, { dim = 1 })
  local long_truth = lumen.cat({ truth, none, truth, truth }, { dim = 1 })
  local pooled = meter:pooled()
  for _, name in ipairs { "dice", "iou", "sensitivity", "precision" } do
    lu.assertEquals(pooled[name], metrics[name](long, long_truth), name)
  end
  lu.assertEquals(pooled.assd > 0 and pooled.assd < metrics.assd(pred, truth), true)
  lu.assertEquals(meter:ranking(), { 2, 4, 1, 3 })
  local csv = meter:csv()
  lu.assertEquals(csv:match("^[^\n]*"), "image,dice,cldice,iou,sensitivity,precision,hd95,assd")
  lu.assertStrContains(csv, "\na.png,0.444444,")
  lu.assertStrContains(csv, '\n"b,c.png",,,,,,,\n')
  skip = metrics.meter { empty = "skip" }
  skip:add(none, none, "b") skip:add(pred, truth, "a") skip:add(none, truth, "d")
  lu.assertAlmostEquals(skip:mean().dice, (4 / 9 + 0) / 2, 1e-15)
  local zero = metrics.meter { empty = "0" }
  zero:add(none, none, "b")
  lu.assertEquals(zero:mean().dice, 0.0)
  lu.assertTrue(is_nan(zero:mean().hd95))
  lu.assertTrue(is_nan(metrics.meter():mean().dice))
end

function TestMeter.test_classes()
  local meter = metrics.meter { classes = { "left", "right", "absent" } }
  local t = lumen.tensor({ { 1, 1, 0, 2 }, { 1, 1, 0, 2 } }, { dtype = "u8" })
  local p = lumen.tensor({ { 1, 1, 0, 0 }, { 0, 0, 2, 2 } }, { dtype = "u8" })
  meter:add(p, t, "a")
  meter:add(lumen.zeros { 2, 4 }, t * t:eq(1):to("u8"), "b")
  local per = meter:per_class()
  lu.assertEquals({ per[1].images, per[2].images, per[3].images }, { 2, 1, 0 })
  lu.assertAlmostEquals(per[1].dice, (2 * 2 / 6 + 0) / 2, 1e-15)
  lu.assertAlmostEquals(per[2].dice, 2 * 1 / 4, 1e-15) -- in image b it is nowhere
  lu.assertTrue(is_nan(per[3].dice))
  lu.assertAlmostEquals(meter:mean().dice, (1 / 3 + 1 / 2) / 2, 1e-15)
  lu.assertAlmostEquals(meter:pooled().dice, (2 * 2 / 10 + 1 / 2) / 2, 1e-15)
  local csv = meter:csv()
  lu.assertStrContains(csv, "\na,left,0.666667,")
  lu.assertNil(csv:find("absent"))
  lu.assertNil(csv:find("b,right"))
end

helper.run()
