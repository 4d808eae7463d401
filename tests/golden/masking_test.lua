-- The guided sampler against long runs of the reference sampler: how often each patch is
-- hidden, how often two of them together, how many of the middling ones; exact counts.
-- Two samples of one law: z scores have a root mean square of about 1. The streams here are
-- fixed, so the tests are too.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local masking = lumen.masking

local cells, draws, at_once = 196, 4000, 500

local function reference() return lumen.load(helper.need_shared "golden/d_masking.safetensors") end

-- Masks [draws, 196] for one guide [1, 1, 56, 56].
local function sample(guide, ratio, share, seed)
  local batch = guide:expand(at_once, 1, 56, 56):contiguous()
  local rng = { seed = seed or 3, stream = "frequencies", step = 0, counter = 0 }
  local parts = {}
  for k = 1, draws // at_once do
    parts[k] = masking.guided(batch, { ratio = ratio, share = share, grid = { 14, 14 }, rng = rng }).mask
  end
  local mask = lumen.cat(parts, { dim = 1 })
  local hidden = cells - masking.counts(cells, ratio, share)
  local sums = mask:sum(2)
  lu.assertEquals({ sums:min():item(), sums:max():item() }, { hidden + 0.0, hidden + 0.0 })
  return mask
end

-- Counts of two binomial samples of n and m draws come from the same probabilities.
local function check_counts(counts, n, expected, m, what)
  local squares, used = 0, 0
  for i = 1, #counts do
    local mean = (counts[i] + expected[i]) / (n + m)
    local difference = counts[i] / n - expected[i] / m
    if mean > 0 and mean < 1 then
      local z = difference / math.sqrt(mean * (1 - mean) * (1 / n + 1 / m))
      lu.assertTrue(math.abs(z) < 4.5, ("%s %d: %.4f, expected %.4f"):format(what, i,
        counts[i] / n, expected[i] / m))
      squares, used = squares + z * z, used + 1
    else
      lu.assertEquals(difference, 0.0, what)
    end
  end
  if used > 0 then lu.assertTrue(math.sqrt(squares / used) < 1.25, what .. ": " .. squares / used) end
end

TestFrequencies = {}

for _, map in ipairs { "dense", "sparse", "zero" } do
  for _, ratio in ipairs { 50, 75 } do
    TestFrequencies[("test_%s_%d"):format(map, ratio)] = function()
      local g, checked = reference(), 0
      for _, share in ipairs { "00", "25", "50" } do
        local key = ("%s.mr%d.a%s."):format(map, ratio, share)
        if g[key .. "count_big"] then
          local mask = sample(g[map .. ".guidance_map"], ratio / 100, tonumber(share) / 100)
          local counts = mask:sum(1):totable()
          local n = g[key .. "n_big"]:item()
          check_counts(counts, draws, g[key .. "count_big"]:totable(), n, key)
          local independent = g[key .. "freq_independent"]
          if independent then
            check_counts(counts, draws, (independent * 60000):totable(), 60000, key .. "independent")
          end
          checked = checked + 1
        end
      end
      lu.assertTrue(checked >= 2)
    end
  end
end

TestTogether = {}

for _, ratio in ipairs { 50, 75 } do
  TestTogether["test_pairs_" .. ratio] = function()
    local g, key = reference(), ("dense.mr%d.a50."):format(ratio)
    local mask = sample(g["dense.guidance_map"], ratio / 100, 0.5)
    local heavy = lumen.index_select(mask, g[key .. "top12"], { dim = 2 })
    local pairs_here = heavy:permute({ 2, 1 }):matmul(heavy):totable()
    local pairs_there = g[key .. "top12_pair_count4000"]:totable()
    local here, there = {}, {}
    for i = 1, 12 do
      for j = 1, i - 1 do here[#here + 1], there[#there + 1] = pairs_here[i][j], pairs_there[i][j] end
    end
    check_counts(here, draws, there, 4000, key .. "pair")
  end

  -- Mean and variance of how many of the patches of middling weight are hidden.
  TestTogether["test_hidden_middling_patches_" .. ratio] = function()
    local g, key = reference(), ("dense.mr%d.a50."):format(ratio)
    local order = lumen.argsort(g["dense.patch_probs"], { descending = true }):slice(1, 50, 147)
      :contiguous()
    local rows = {}
    for i, packed in ipairs(g[key .. "masks_packed"]:totable()) do
      rows[i] = {}
      for p = 0, cells - 1 do rows[i][p + 1] = math.tointeger(packed[p // 8 + 1]) >> p % 8 & 1 end
    end
    local moments = {}
    for k, mask in ipairs { sample(g["dense.guidance_map"], ratio / 100, 0.5), lumen.tensor(rows) } do
      local hidden = lumen.index_select(mask, order, { dim = 2 }):sum(2):to("f64")
      local mean = hidden:mean():item()
      moments[k] = { mean, ((hidden - mean) * (hidden - mean)):mean():item() }
    end
    local here, there = moments[1], moments[2]
    local z = (here[1] - there[1]) / math.sqrt((here[2] + there[2]) / 4000)
    lu.assertTrue(math.abs(z) < 3.5, ("mean %.3f, expected %.3f"):format(here[1], there[1]))
    -- The relative error of a variance of n near normal values is sqrt(2 / n).
    lu.assertTrue(math.abs(math.log(here[2] / there[2])) < 3.5 * math.sqrt(4 / 4000),
      ("variance %.3f, expected %.3f"):format(here[2], there[2]))
  end
end

TestWeights = {}

function TestWeights.test_sums_over_patches()
  local g = reference()
  for _, map in ipairs { "dense", "sparse", "zero" } do
    local sums = lumen.patch_sum(g[map .. ".guidance_map"]:to("f64"), { patch = 4 }):reshape({ cells })
    helper.assert_close(sums, g[map .. ".patch_vessel_pixels"]:to("f64"), 1e-5, map)
    local total = sums:sum():item()
    if total > 0 then
      helper.assert_close(sums / total, g[map .. ".patch_probs"]:to("f64"), 1e-5, map .. " probabilities")
    end
  end
end

-- Patches without weight are hidden by the other draws only, never by the guide.
function TestWeights.test_no_weight_is_never_chosen()
  local guide = reference()["sparse.guidance_map"]
  local batch = guide:expand(at_once, 1, 56, 56):contiguous()
  local m = masking.guided(batch, { ratio = 0.5, share = 0.5, grid = { 14, 14 },
    rng = { seed = 5, stream = "sparse", step = 0, counter = 0 } })
  local weighted = lumen.patch_sum(batch, { patch = 4 }):gt(0):cast("f32")
  lu.assertEquals((m.guided * (1 - weighted)):sum():item(), 0.0)
  -- 20 patches have weight, fewer than the 49 wanted: all of them are hidden.
  helper.assert_equal(m.guided, weighted, "chosen")
end

helper.run()
