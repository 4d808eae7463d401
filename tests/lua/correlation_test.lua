-- Correlations of scores and ratings: values counted by hand, what is undefined, the logistic
-- curve, intervals over splits, what is refused.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local metrics = lumen.metrics

local function is_nan(x) return x ~= x end

TestRanks = {}

function TestRanks.test_ties_share_the_average()
  lu.assertEquals(metrics.ranks({ 5, 1, 5, 5, 0 }):totable(), { 4.0, 2.0, 4.0, 4.0, 1.0 })
  lu.assertEquals(metrics.ranks({ 1, 1 / 0, -1 / 0 }):totable(), { 2.0, 3.0, 1.0 })
  lu.assertEquals(metrics.ranks({}):totable(), {})
  lu.assertTrue(is_nan(metrics.ranks({ 1, 0 / 0 }):totable()[1]))
end

TestCorrelation = {}

-- Every pair of four, looked at one by one.
function TestCorrelation.test_by_hand()
  local x, y = { 1, 2, 2, 3 }, { 1, 3, 2, 2 }
  -- pairs: + + + | (tie in x) - | (tie in y) 0: 3 - 1 of 6, one tie each
  lu.assertAlmostEquals(metrics.krcc(x, y), (3 - 1) / 5, 1e-15)
  lu.assertAlmostEquals(metrics.krcc(x, y, { variant = "c" }), 2 * 2 * 3 / (16 * 2), 1e-15)
  lu.assertAlmostEquals(metrics.srcc(x, y), metrics.plcc({ 1, 2.5, 2.5, 4 }, { 1, 4, 2.5, 2.5 }), 1e-15)
  lu.assertAlmostEquals(metrics.rmse(x, y), math.sqrt(2 / 4), 1e-15)
  lu.assertAlmostEquals(metrics.srcc({ 1, 2, 1 / 0 }, { 1, 2, 3 }), 1, 1e-15) -- an infinite PSNR has a rank
end

-- n log n against counting all pairs.
function TestCorrelation.test_krcc_counts_all_pairs()
  local n = 150
  local x = lumen.rand({ n }, { high = 12, rng = { seed = 1, stream = "t" } }):floor():totable()
  local y = lumen.rand({ n }, { high = 7, rng = { seed = 2, stream = "t" } }):floor():totable()
  local excess, free_x, free_y = 0, 0, 0
  for i = 1, n do
    for j = 1, i - 1 do
      local a, b = x[i] - x[j], y[i] - y[j]
      if a * b ~= 0 then excess = excess + (a * b > 0 and 1 or -1) end
      free_x, free_y = free_x + (a ~= 0 and 1 or 0), free_y + (b ~= 0 and 1 or 0)
    end
  end
  lu.assertAlmostEquals(metrics.krcc(x, y), excess / math.sqrt(free_x * free_y), 1e-14)
end

function TestCorrelation.test_undefined_is_nan()
  for _, name in ipairs { "srcc", "plcc", "krcc" } do
    local f = metrics[name]
    lu.assertTrue(is_nan(f({ 1, 1, 1 }, { 1, 2, 3 })), name)
    lu.assertTrue(is_nan(f({ 1, 2, 3 }, { 4, 4, 4 })), name)
    lu.assertTrue(is_nan(f({ 1, 2, 0 / 0 }, { 1, 2, 3 })), name)
    lu.assertTrue(is_nan(f({ 1 }, { 1 })), name)
    lu.assertTrue(is_nan(f({}, {})), name)
  end
  lu.assertTrue(is_nan(metrics.plcc({ 1, 2, 1 / 0 }, { 1, 2, 3 })))
  lu.assertTrue(is_nan(metrics.plcc({ 1, 1, 1 }, { 1, 2, 3 }, { logistic = true })))
  lu.assertTrue(is_nan(metrics.krcc({ 1, 1 }, { 1, 1 }, { variant = "c" })))
  lu.assertTrue(is_nan(metrics.rmse({}, {})))
  lu.assertTrue(is_nan(metrics.rmse({ 0 / 0 }, { 1 })))
  lu.assertTrue(is_nan(metrics.auc({ 1, 2 }, { 1, 1 })))
  lu.assertEquals(metrics.auc({ 1, 1 }, { 0, 1 }), 0.5)
end

function TestCorrelation.test_any_dtype()
  local x, y = { 3, 1, 2, 5 }, { 2, 1, 4, 5 }
  for _, dtype in ipairs { "f32", "f64", "bf16", "i64", "u8" } do
    local a, b = lumen.tensor(x, { dtype = dtype }), lumen.tensor(y, { dtype = dtype })
    for _, name in ipairs { "srcc", "plcc", "krcc", "rmse" } do
      lu.assertEquals(metrics[name](a, b), metrics[name](x, y), name .. " " .. dtype)
    end
  end
end

function TestCorrelation.test_errors()
  lu.assertErrorMsgContains("srcc: x has 2 values but y has 3", metrics.srcc, { 1, 2 }, { 1, 2, 3 })
  lu.assertErrorMsgContains("plcc: scores are a tensor [n] or a list, not [2 x 1]", metrics.plcc,
    lumen.zeros(2, 1), lumen.zeros(2, 1))
  lu.assertErrorMsgContains("krcc: scores are a tensor [n] or a list, not a string", metrics.krcc, "x", {})
  lu.assertErrorMsgContains("rmse: value 2 is no number", metrics.rmse, { 1, "b" }, { 1, 2 })
  lu.assertErrorMsgContains("krcc: variant is b or c, not d", metrics.krcc, { 1 }, { 1 }, { variant = "d" })
  lu.assertErrorMsgContains("plcc: there is no option 'logistics'\nhint: did you mean logistic?",
    metrics.plcc, { 1 }, { 1 }, { logistics = true })
end

TestLogistic = {}

local function sigmoid(b, x) return (b[1] - b[2]) / (1 + math.exp(-(x - b[3]) / b[4])) + b[2] end

local function made(b, n, step, noise)
  local e = lumen.randn({ n }, { dtype = "f64", rng = { seed = 3, stream = "t" } }):totable()
  local x, y = {}, {}
  for i = 1, n do
    x[i] = (i - n / 2) * step + b[3]
    y[i] = sigmoid(b, x[i]) + noise * e[i]
  end
  return x, y
end

-- The curve that made the ratings is found, rising and falling, whatever the scale.
function TestLogistic.test_finds_the_curve()
  for _, b in ipairs { { 5, 1, 0.8, 0.05 }, { 1, 5, 30, 4 }, { 90, 20, -1e5, 3e3 } } do
    local x, y = made(b, 40, b[4] / 5, 0)
    local fitted, found = metrics.logistic(x, y)
    for i = 1, 4 do
      local rising = b[1] > b[2] == (found[1] > found[2])
      lu.assertTrue(rising)
      lu.assertAlmostEquals(found[i], b[i], 1e-5 * math.max(1, math.abs(b[i])))
    end
    lu.assertAlmostEquals(metrics.rmse(fitted, y), 0, 1e-6 * math.abs(b[1] - b[2]))
    lu.assertAlmostEquals(metrics.plcc(x, y, { logistic = true }), 1, 1e-10)
    lu.assertTrue(math.abs(metrics.plcc(x, y)) < 0.999)
  end
end

-- With noise no neighbour of the parameters is better.
function TestLogistic.test_is_a_least_square()
  local x, y = made({ 4.5, 1.2, 25, 3 }, 200, 0.15, 0.4)
  local fitted, b = metrics.logistic(x, y)
  local best = metrics.rmse(fitted, y)
  lu.assertAlmostEquals(metrics.rmse(x, y, { logistic = true }), best, 1e-15)
  for i = 1, 4 do
    for _, factor in ipairs { 0.995, 1.005 } do
      local moved, values = table.move(b, 1, 4, 1, {}), {}
      moved[i] = moved[i] * factor
      for k = 1, #x do values[k] = sigmoid(moved, x[k]) end
      lu.assertTrue(metrics.rmse(values, y) > best)
    end
  end
end

-- A step, a line, three values: a result, and no worse than the mean.
function TestLogistic.test_odd_data()
  for _, y in ipairs { { 0, 0, 0, 0, 1, 1, 1, 1 }, { 1, 2, 3, 4, 5, 6, 7, 8 },
                       { 1, 5, 2, 6, 1, 5, 2, 6 }, { 1, 0, 1 } } do
    local x = {}
    for i = 1, #y do x[i] = i end
    local mean = lumen.tensor(y, { dtype = "f64" }):mean():item()
    local flat = lumen.full({ #y }, mean, { dtype = "f64" })
    local e = metrics.rmse(x, y, { logistic = true })
    lu.assertTrue(e <= metrics.rmse(flat, y) + 1e-9)
  end
end

TestSplits = {}

-- Student's t for three values: 4.3027 s / sqrt(3).
function TestSplits.test_interval()
  local s = metrics.over_splits { 1, 2, 6 }
  lu.assertEquals({ s.count, s.mean, s.median }, { 3, 3.0, 2.0 })
  lu.assertAlmostEquals(s.deviation, math.sqrt(7), 1e-12)
  lu.assertAlmostEquals(s.high - s.mean, 4.302652729911275 * math.sqrt(7 / 3), 1e-6)
  lu.assertAlmostEquals(s.mean - s.low, s.high - s.mean, 1e-12)
  local corrected = metrics.over_splits({ 1, 2, 6 }, { test_share = 0.2 })
  lu.assertAlmostEquals((corrected.high - 3) / (s.high - 3), math.sqrt(1 + 3 * 0.25), 1e-9)
  local narrow = metrics.over_splits({ 1, 2, 6 }, { share = 0.5 })
  lu.assertTrue(narrow.high < s.high)
  lu.assertEquals(metrics.over_splits(lumen.tensor { 4, 1, 2, 3 }).median, 2.5)
end

function TestSplits.test_undefined_and_refused()
  local one = metrics.over_splits { 0.5 }
  lu.assertEquals({ one.mean, one.median }, { 0.5, 0.5 })
  lu.assertTrue(is_nan(one.low) and is_nan(one.deviation))
  lu.assertTrue(is_nan(metrics.over_splits({}).mean))
  lu.assertTrue(is_nan(metrics.over_splits({ 1, 0 / 0 }).median))
  lu.assertErrorMsgContains("lie between 0 and 1", metrics.over_splits, { 1 }, { test_share = 1 })
end

helper.run()
