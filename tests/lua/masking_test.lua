-- Maskings: exact counts, order, that restore inverts, guidance, determinism.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local masking = lumen.masking

local function stream(seed) return { seed = seed or 1, stream = "m", step = 0, counter = 0 } end

local function check(m, n, length, keep)
  lu.assertEquals(m.keep.shape, { n, keep })
  lu.assertEquals(m.masked.shape, { n, length - keep })
  local mask, kept = m.mask:totable(), m.keep:totable()
  local hidden, restore = m.masked:totable(), m.restore:totable()
  for i = 1, n do
    local order = {}
    for _, p in ipairs(kept[i]) do order[#order + 1] = p lu.assertEquals(mask[i][p + 1], 0.0) end
    for _, p in ipairs(hidden[i]) do order[#order + 1] = p lu.assertEquals(mask[i][p + 1], 1.0) end
    for p = 0, length - 1 do lu.assertEquals(order[restore[i][p + 1] + 1], p) end
    for k = 2, keep do lu.assertTrue(kept[i][k - 1] < kept[i][k]) end
  end
end

TestMasking = {}

function TestMasking.test_random()
  local m = masking.random(nil, { ratio = 0.75, grid = { 4, 4 }, count = 5, rng = stream() })
  check(m, 5, 16, 4)
end

function TestMasking.test_guided()
  local guide = lumen.rand({ 6, 1, 32, 32 }, { rng = stream(9) })
  local m = masking.guided(guide, { ratio = 0.5, share = 0.5, grid = { 8, 8 }, rng = stream() })
  check(m, 6, 64, 32)
end

function TestMasking.test_full_guidance_hides_what_has_weight()
  local guide = lumen.zeros({ 1, 1, 16, 16 })
  guide:slice(3, 1, 4):fill_(1) -- the upper row of a 4 x 4 grid
  local m = masking.guided(guide, { ratio = 0.5, share = 1, grid = { 4, 4 }, rng = stream() })
  lu.assertEquals(m.mask:slice(2, 1, 4):sum():item(), 4.0)
  lu.assertEquals(m.mask:sum():item(), 8.0)
end

function TestMasking.test_empty_guide_is_random()
  local m = masking.guided(lumen.zeros({ 300, 1, 16, 16 }),
    { ratio = 0.5, share = 0.5, grid = { 4, 4 }, rng = stream() })
  for _, p in ipairs(m.mask:mean(1):totable()) do lu.assertAlmostEquals(p, 0.5, 0.15) end
end

function TestMasking.test_same_stream_same_mask()
  local guide = lumen.rand({ 2, 1, 16, 16 }, { rng = stream(9) })
  local function draw(rng) return masking.guided(guide, { ratio = 0.5, share = 0.5, grid = { 4, 4 }, rng = rng }) end
  helper.assert_equal(draw(stream(4)).keep, draw(stream(4)).keep, "same")
  local rng = stream(4)
  local first, second = draw(rng).keep:totable(), draw(rng).keep:totable()
  lu.assertNotEquals(first, second)
end

function TestMasking.test_counts_truncate()
  lu.assertEquals({ masking.counts(196, 0.75, 0.25) }, { 49, 147, 36 })
  lu.assertEquals({ masking.counts(10, 0.9, 0.5) }, { 0, 10, 5 }) -- 10 * (1 - 0.9) < 1
end

function TestMasking.test_errors()
  lu.assertErrorMsgContains("ratio", masking.random, nil, { ratio = 1, grid = { 4, 4 }, count = 1, rng = stream() })
  lu.assertErrorMsgContains("no grid", masking.guided, lumen.zeros({ 1, 1, 15, 16 }),
    { ratio = 0.5, share = 0, grid = { 4, 4 }, rng = stream() })
  lu.assertErrorMsgContains("no masking", masking.find, "grid")
end

helper.run()
