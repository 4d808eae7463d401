-- The losses of rated images, MUST with all its variants, the encoder's start from a pre-training.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local loss, models = lumen.loss, lumen.models

local function f64(t) return lumen.tensor(t, { dtype = "f64" }) end

local function normal(shape, seed)
  return lumen.randn(shape, { dtype = "f64", rng = { seed = seed, stream = "test" } })
end

-- ---- losses ----------------------------------------------------------------------------------

TestLosses = {}

local q = { { 1.2, 4.5 }, { 3.3, 2.2 }, { 2.9, 2.2 }, { 4.8, 1.1 } }
local y = { { 1.5, 4.0 }, { 3.0, 2.5 }, { 3.0, 1.0 }, { 5.0, 2.5 } }

-- Phi by its series: an own way to the same number.
local function phi(x)
  local sum, term = x, x
  for n = 1, 100 do
    term = -term * x * x / (2 * n)
    sum = sum + term / (2 * n + 1)
  end
  return 0.5 + sum / math.sqrt(2 * math.pi)
end

function TestLosses:test_fidelity_over_pairs()
  local sum = 0
  for m = 1, 2 do
    for i = 1, 4 do
      for j = i + 1, 4 do
        local p = phi((q[i][m] - q[j][m]) / math.sqrt(2))
        local d = y[i][m] - y[j][m]
        local g = d > 0 and 1 or d < 0 and 0 or 0.5
        sum = sum + 1 - math.sqrt(p * g + 1e-8) - math.sqrt((1 - p) * (1 - g) + 1e-8)
      end
    end
  end
  lu.assertAlmostEquals(loss.fidelity(f64(q), f64(y)):item(), sum / 12, 1e-12)
  lu.assertEquals(loss.fidelity(f64 { { 2 } }, f64 { { 3 } }):item(), 0)
end

function TestLosses:test_level_cross_entropy_shares_a_score_between_two_levels()
  local levels = f64 { { { 0.1, 0.2, 0.3, 0.25, 0.15 } } }
  local function of(score) return loss.level_cross_entropy(levels, f64 { { score } }):item() end
  lu.assertAlmostEquals(of(3.25), -(0.75 * math.log(0.3) + 0.25 * math.log(0.25)), 1e-9)
  lu.assertAlmostEquals(of(5), -math.log(0.15), 1e-9)
  lu.assertAlmostEquals(of(7), -math.log(0.15), 1e-9)
  lu.assertAlmostEquals(of(1), -math.log(0.1), 1e-9)
end

function TestLosses:test_plcc()
  local expected = 0
  for m = 1, 2 do
    local function column(t) return { t[1][m], t[2][m], t[3][m], t[4][m] } end
    local a, b, ma, mb = column(q), column(y), 0, 0
    for i = 1, 4 do ma, mb = ma + a[i] / 4, mb + b[i] / 4 end
    local ab, aa, bb = 0, 0, 0
    for i = 1, 4 do
      ab, aa, bb = ab + (a[i] - ma) * (b[i] - mb), aa + (a[i] - ma) ^ 2, bb + (b[i] - mb) ^ 2
    end
    expected = expected + (1 - ab / math.sqrt(aa * bb)) / 4
  end
  lu.assertAlmostEquals(loss.plcc(f64(q), f64(y)):item(), expected, 1e-9)
end

function TestLosses:test_constant_scores_have_a_finite_gradient()
  local flat = lumen.tensor({ { 2 }, { 2 } }, { requires_grad = true })
  local value = loss.plcc(flat, lumen.tensor { { 1 }, { 2 } })
  value:backward()
  lu.assertEquals(value:item(), 0.5)
  local g = flat.grad:totable()
  lu.assertTrue(g[1][1] > 0 and g[1][1] < 50 and g[2][1] == -g[1][1])
end

function TestLosses:test_gate_balance()
  local gates = f64 { { { { 1, 1 }, { 0, 0 } } }, { { { 0.5, 0 }, { 0.5, 1 } } } } -- [2, 1, 2, 2]
  lu.assertAlmostEquals(loss.gate_balance(gates):item(), 2 * (0.625 ^ 2 + 0.375 ^ 2), 1e-9)
  local function of(present) return loss.gate_balance(gates, f64(present)):item() end
  lu.assertAlmostEquals(of { { 1, 0 }, { 1, 1 } }, 2 * (0.25 ^ 2 + 0.75 ^ 2), 1e-9)
  lu.assertEquals(of { { 1, 0 }, { 1, 0 } }, 0)
end

function TestLosses:test_gradients()
  lumen.gradcheck(function(x) return loss.fidelity(x, f64(y)) end, { f64(q) })
  lumen.gradcheck(function(x) return loss.plcc(x, f64(y)) end, { f64(q) })
  lumen.gradcheck(function(x) return loss.level_cross_entropy(x:softmax(), f64(y)) end,
    { normal({ 4, 2, 5 }, 1) })
  lumen.gradcheck(function(x)
    return loss.gate_balance(x:softmax { dim = 3 }, f64 { { 1, 1 }, { 1, 0 }, { 1, 1 } })
  end, { normal({ 3, 2, 2, 4 }, 2) })
end

function TestLosses:test_shapes_are_checked()
  lu.assertErrorMsgContains("fidelity: scores are [B, M] both, not [4 x 2] and [1 x 2]",
    loss.fidelity, f64(q), f64 { { 1, 2 } })
  lu.assertErrorMsgContains("plcc: scores are [B, M] both", loss.plcc, f64 { 1, 2 }, f64 { 1, 2 })
  lu.assertErrorMsgContains("levels are [B, M, K], not [4 x 2]", loss.level_cross_entropy, f64(q), f64(y))
  lu.assertErrorMsgContains("gates are [B, M, K, L]", loss.gate_balance, f64(q))
end

-- ---- MUST ------------------------------------------------------------------------------------

local variants = { {}, { router = "shared" }, { router = "mean" }, { router = "hard" },
                   { paths = "source" }, { paths = "contrast", router = "hard" }, { paths = "none" } }
local function name_of(o) return (o.paths or "both") .. " " .. (o.router or "per_metric") end

-- A model small enough for finite differences, in f64.
local function tiny(options)
  local o = { size = 16, patch = 8, width = 8, depth = 1, heads = 2, metrics = { "vessel", "realism" } }
  for key, value in next, options do o[key] = value end
  return models.must(o):initialize(3):to("f64")
end

local function batch_of(count, seed)
  local function image(k) return normal({ count, 1, 16, 16 }, seed + k) end
  local source, contrast = {}, {}
  for i = 1, count do source[i], contrast[i] = (i + 1) % 3 ~= 0 and 1 or 0, i % 3 ~= 0 and 1 or 0 end
  return { image = image(0), source = image(1), contrast = image(2),
           has_source = lumen.tensor(source), has_contrast = lumen.tensor(contrast) }
end

local function total_loss(out, scores)
  local total = loss.fidelity(out.scores, scores) + 0.5 * loss.plcc(out.scores, scores)
  if out.levels then total = total + 0.5 * loss.level_cross_entropy(out.levels, scores) end
  if out.gates then total = total + 0.01 * loss.gate_balance(out.gates, out.present) end
  return total
end

local function check_gradients(model, batch, what)
  local scores = f64 { { 1.5, 4 }, { 3, 2.5 }, { 4.2, 1 } }
  helper.check_parameters(model, function() return total_loss(model(batch), scores) end, what)
end

TestMust = {}

function TestMust:test_gradients_of_all_variants()
  local batch = batch_of(3, 1)
  for _, o in ipairs(variants) do
    check_gradients(tiny { paths = o.paths, router = o.router, text = "prototype" }, batch, name_of(o))
  end
  for _, text in ipairs { "scratch", "none" } do check_gradients(tiny { text = text }, batch, text) end
  check_gradients(tiny { text = "clip", clip = normal({ 10, 6 }, 4) }, batch, "clip")
  check_gradients(tiny { text = "prototype", single = true }, batch, "single")
end

local function part(batch, i)
  local one = {}
  for key, t in next, batch do one[key] = t:slice(1, i, i) end
  return one
end

function TestMust:test_a_batch_is_its_samples()
  local batch = batch_of(5, 7)
  for _, o in ipairs(variants) do
    local model = tiny { paths = o.paths, router = o.router, text = "prototype" }
    local out = model(batch)
    for i = 1, 5 do
      local one = model(part(batch, i))
      for _, key in ipairs { "scores", "levels", "tokens", "gates" } do
        lu.assertEquals(one[key] == nil, out[key] == nil)
        if out[key] then
          helper.assert_close(one[key], out[key]:slice(1, i, i), 1e-12, name_of(o) .. " " .. key)
        end
      end
    end
  end
end

local function sums_to_one(t, dim, what)
  local sum = t:sum { dims = { dim } }
  helper.assert_close(sum, lumen.ones(sum.shape, { dtype = "f64" }), 1e-12, what)
end

function TestMust:test_what_comes_out()
  local out = tiny {} (batch_of(3, 1))
  lu.assertEquals(out.scores.shape, { 3, 2 })
  lu.assertEquals(out.levels.shape, { 3, 2, 5 })
  lu.assertEquals(out.gates.shape, { 3, 2, 3, 4 })
  lu.assertEquals(out.tokens.shape, { 3, 2, 4 })
  lu.assertEquals(out.grid, { 2, 2 })
  sums_to_one(out.levels, 3, "levels")
  sums_to_one(out.gates, 3, "gates")
  sums_to_one(out.tokens, 3, "token weights")
  lu.assertTrue(out.scores:min():item() >= 1 and out.scores:max():item() <= 5)
end

-- Samples 1: both references; 2: no source; 3: no contrast frame.
function TestMust:test_a_missing_reference_has_no_gate_and_its_image_no_influence()
  local batch = batch_of(3, 1)
  local model = tiny {}
  local before = model(batch)
  lu.assertEquals(before.present:totable(), { { 1, 1, 1 }, { 1, 0, 1 }, { 1, 1, 0 } })
  lu.assertEquals(before.gates[2]:select(2, 2):abs():max():item(), 0)
  lu.assertTrue(before.gates[1]:min():item() > 0)
  batch.source = lumen.cat({ batch.source:slice(1, 1, 1), lumen.full({ 1, 1, 16, 16 }, 0 / 0, { dtype = "f64" }),
                             batch.source:slice(1, 3, 3) }, { dim = 1 })
  helper.assert_equal(model(batch).scores, before.scores, "scores")
end

function TestMust:test_references_count_when_they_are_there()
  local batch, other = batch_of(3, 1), batch_of(3, 50)
  local model = tiny {}
  local before = model(batch).scores
  batch.source, batch.contrast = other.source, other.contrast
  local moved = (model(batch).scores - before):abs():max(2)
  lu.assertTrue(moved:min():item() > 1e-6)
end

-- Without the images of a reference it counts as missing for all.
function TestMust:test_a_batch_without_references()
  local batch, model = batch_of(3, 1), tiny {}
  local zeros = lumen.zeros { 3 }
  local missing = model { image = batch.image, source = batch.source, contrast = batch.contrast,
                          has_source = zeros, has_contrast = zeros }
  helper.assert_close(model({ image = batch.image }).scores, missing.scores, 1e-12, "scores")
end

function TestMust:test_routers()
  local batch = batch_of(3, 1)
  local gates = tiny { router = "mean" } (batch).gates
  helper.assert_close(gates[1], lumen.full({ 2, 3, 4 }, 1 / 3, { dtype = "f64" }), 1e-12, "mean")
  helper.assert_close(gates[2]:select(2, 1), lumen.full({ 2, 4 }, 1 / 2, { dtype = "f64" }), 1e-12, "mean")
  gates = tiny { router = "hard" } (batch).gates
  lu.assertEquals(gates:gt(0):to("f64"):sum { dims = { 3 } }:totable(), lumen.ones({ 3, 2, 4 }):totable())
  gates = tiny { router = "shared" } (batch).gates
  helper.assert_equal(gates:select(2, 1), gates:select(2, 2), "shared")
  lu.assertNil(tiny { paths = "none" } (batch).gates)
end

function TestMust:test_a_single_score_is_the_same_for_all_metrics()
  local out = tiny { single = true } (batch_of(3, 1))
  for _, key in ipairs { "scores", "levels", "gates", "tokens" } do
    helper.assert_equal(out[key]:select(2, 1), out[key]:select(2, 2), key)
  end
end

function TestMust:test_prompts_of_a_metric_start_on_a_line()
  local prompts = models.rated.Prompts { texts = models.rated.prompts(models.rated.metrics),
                                         kind = "prototype", dim = 64 }
  local e = prompts():detach():reshape({ 3, 5, 64 })
  for m = 1, 3 do
    local step = e[m][5] - e[m][1]
    local last = -math.huge
    for level = 1, 5 do
      local along = (e[m][level] * step):sum():item()
      lu.assertTrue(along > last)
      last = along
    end
  end
end

function TestMust:test_options_are_checked()
  local function failing(text, options)
    lu.assertErrorMsgContains(text, models.must, options)
  end
  failing('paths is "two", not one of both, source, contrast, none', { paths = "two" })
  failing('router is "soft", not one of', { router = "soft" })
  failing('text is "bert", not one of', { text = "bert" })
  failing('text = "clip" needs clip', { text = "clip" })
  failing("metrics is a list", { metrics = {} })
end

function TestMust:test_batches_are_checked()
  local model, image = tiny {}, normal({ 2, 1, 16, 16 }, 1)
  local function failing(text, batch) lu.assertErrorMsgContains(text, model, batch) end
  failing("a batch of rated images is a table with image", {})
  failing("[2 x 1 x 16 x 16] here, not [2 x 1 x 24 x 16]", { image = normal({ 2, 1, 24, 16 }, 1) })
  failing("[2 x 1 x 16 x 16] here, not [2 x 2 x 16 x 16]", { image = normal({ 2, 2, 16, 16 }, 1) })
  failing("[2 x 1 x 16 x 16] here, not [1 x 1 x 16 x 16]", { image = image, source = image:slice(1, 1, 1) })
  lu.assertErrorMsgContains("[2 x 2 x 16 x 16] here, not [2 x 1 x 16 x 16]", tiny { channels = 2 },
    { image = image }) -- no vesselness
  failing("[2 x 1 x 16 x 16] here, not [2 x 16 x 16]", { image = image, contrast = image:squeeze(2) })
end

-- ---- the encoder -----------------------------------------------------------------------------

TestEncoder = {}

-- Grey images, as the pre-training saw them and as this model does: the same tokens.
function TestEncoder:test_a_pretraining_of_three_channels_starts_a_grey_encoder()
  local mae = models.mae { model = "vit_micro", size = 32, depth = 2, decoder_depth = 1 }:initialize(5)
  local grey = lumen.rand({ 2, 1, 32, 32 }, { rng = { seed = 1, stream = "test" } })
  local mean, std = lumen.tensor(lumen.data.mean), lumen.tensor(lumen.data.std)
  local colour = (grey - mean:reshape({ 3, 1, 1 })) / std:reshape({ 3, 1, 1 })
  local all = lumen.arange(16):reshape({ 1, 16 }):expand({ 2, 16 })
  local expected = mae:encode(colour, all):slice(2, 2, -1)
  for channels = 1, 2 do
    local model = models.must { model = "vit_micro", size = 32, depth = 2, channels = channels }
    model:load_encoder(mae:state_dict(), { mean = 0.4, std = 0.2 })
    local image = (grey - 0.4) / 0.2
    if channels == 2 then image = lumen.cat({ image, grey }, { dim = 2 }) end
    helper.assert_close(model:tokens({ image })[1], expected, 1e-5, channels .. " channels")
  end
  local model = models.must { model = "vit_micro", size = 32, depth = 2, channels = 3 }
  model:load_encoder(mae:state_dict())
  helper.assert_close(model:tokens({ colour })[1], expected, 1e-6, "three channels")
end

function TestEncoder:test_another_size_and_wrong_weights()
  local mae = models.mae { model = "vit_micro", size = 32, depth = 2, decoder_depth = 1 }
  local model = models.must { model = "vit_micro", size = 64, depth = 2 }
  model:load_encoder(mae:state_dict())
  lu.assertErrorMsgContains("lack", model.load_encoder, model, {})
  local deeper = models.must { model = "vit_micro", size = 64, depth = 3 }
  lu.assertErrorMsgContains("lack", deeper.load_encoder, deeper, mae:state_dict())
end

helper.run()
