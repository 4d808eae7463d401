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
end

-- ---- the other strategies ------------------------------------------------------------------

local function options(more)
  local o = { ratio = 0.6, share = 0.5, grid = { 14, 14 }, count = 4, rng = stream(2) }
  for key, value in next, more or {} do o[key] = value end
  return o
end

local function inputs(name, o)
  if name == "hardest" then o.errors = lumen.rand({ 4, o.grid[1] * o.grid[2] }, { rng = stream(7) }) end
  if name == "attention" then o.attention = lumen.rand({ 4, o.grid[1] * o.grid[2] }, { rng = stream(7) }) end
  return name == "guided" and lumen.rand({ 4, 1, o.grid[1] * 2, o.grid[2] * 2 }, { rng = stream(9) }) or nil, o
end

TestStrategies = {}

for _, name in ipairs(masking.names) do
  TestStrategies["test_" .. name] = function()
    for _, grid in ipairs { { 14, 14 }, { 8, 8 }, { 5, 9 } } do
      for _, ratio in ipairs { 0.05, 0.25, 0.5, 0.6, 0.75, 0.9 } do
        local guide, o = inputs(name, options { grid = grid, ratio = ratio })
        local length = grid[1] * grid[2]
        local m = masking[name](guide, o)
        check(m, 4, length, math.tointeger(length * (1 - ratio) // 1))
        o.rng = stream(2)
        helper.assert_equal(masking[name](guide, o).mask, m.mask, "the same stream")
        if name ~= "grid" then -- a lattice has few positions
          lu.assertNotEquals(masking[name](guide, o).mask:totable(), m.mask:totable())
        end
      end
    end
  end
end

-- A quarter kept by the grid is one patch of every 2 x 2, the same for the whole sample.
function TestStrategies.test_grid_is_a_lattice()
  local m = masking.grid(nil, options { ratio = 0.75, count = 30 })
  local places = {}
  for i = 1, 30 do
    local first = m.keep:totable()[i][1]
    places[first] = true
    for k, p in ipairs(m.keep:totable()[i]) do
      lu.assertEquals({ p // 14 % 2, p % 14 % 2 }, { first // 14, first % 14 }, k)
    end
  end
  lu.assertEquals({ places[0], places[1], places[14], places[15] }, { true, true, true, true })
end

-- Hidden patches of a block have far more hidden neighbours than random ones.
function TestStrategies.test_block_is_in_one_piece()
  local function together(m)
    local map = m.mask:reshape({ m.mask.shape[1], 14, 14 })
    return (map:slice(3, 1, 13) * map:slice(3, 2, 14)):mean():item()
  end
  local block = together(masking.block(nil, options { ratio = 0.4, count = 100 }))
  local random = together(masking.random(nil, options { ratio = 0.4, count = 100 }))
  lu.assertAlmostEquals(random, 0.16, 0.02)
  lu.assertTrue(block > 0.31, ("pairs hidden together: %.3f"):format(block))
  -- Every patch is hidden now and then.
  local often = masking.block(nil, options { ratio = 0.4, count = 2000 }).mask:mean(1)
  lu.assertTrue(often:min():item() > 0.3 and often:max():item() < 0.5)
end

function TestStrategies.test_hardest()
  local errors = lumen.arange(16):to("f32"):reshape({ 1, 16 })
  local o = options { grid = { 4, 4 }, ratio = 0.5, share = 0.75, count = 1, errors = errors }
  lu.assertEquals(masking.hardest(nil, o).mask:slice(2, 11, 16):sum():item(), 6.0)
  o.errors = function() return -errors end
  lu.assertEquals(masking.hardest(nil, o).mask:slice(2, 1, 6):sum():item(), 6.0)
  o.errors = nil
  local guide = lumen.zeros({ 1, 1, 16, 16 })
  guide:slice(3, 1, 4):fill_(1)
  o.share = 0.5
  lu.assertEquals(masking.hardest(guide, o).mask:slice(2, 1, 4):sum():item(), 4.0)
  o.share = 1 -- more than have weight: the others are random, not the first
  o.count, guide = nil, guide:expand({ 300, 1, 16, 16 }):contiguous()
  local often = masking.hardest(guide, o).mask:mean(1):totable()
  for p = 5, 16 do lu.assertAlmostEquals(often[p], 4 / 12, 0.1) end
  lu.assertErrorMsgContains("needs a guide", masking.hardest, nil, options())
end

-- Drawn with probability proportional to the weight: the first of two draws from 3 : 1.
function TestStrategies.test_lottery()
  local weight = lumen.tensor({ { 3, 0, 1, 0 } }):expand({ 4000, 4 }):contiguous()
  local m = masking.hide(masking.lottery(weight, stream(3)), 0.25)
  local often = m.mask:mean(1):totable()
  lu.assertAlmostEquals(often[1], 0.75, 0.03)
  lu.assertAlmostEquals(often[3], 0.25, 0.03)
  local three = masking.hide(masking.lottery(weight, stream(3)), 0.75).mask:mean(1):totable()
  lu.assertEquals({ three[1], three[3] }, { 1.0, 1.0 })
  lu.assertAlmostEquals(three[2], 0.5, 0.03)
  lu.assertErrorMsgContains("needs the attention", masking.attention, nil, options())
end

function TestStrategies.test_units()
  local m = masking.draw(masking.random, nil, options { unit = 2, ratio = 0.6 })
  check(m, 4, 196, 4 * 19) -- 49 squares, 19 kept
  local squares = m.mask:reshape({ 4, 7, 2, 7, 2 })
  helper.assert_equal(squares:select(5, 1), squares:select(5, 2), "columns of a square")
  helper.assert_equal(squares:select(3, 1), squares:select(3, 2), "rows of a square")
  lu.assertErrorMsgContains("not made of units of 3 x 3", masking.draw, masking.random, nil,
    options { unit = 3 })
end

-- ---- strategies of one's own ---------------------------------------------------------------

TestFiles = {}

function TestFiles.test_sample()
  local guide = lumen.zeros({ 2, 1, 16, 16 })
  local o = { ratio = 0.25, grid = { 4, 4 }, rng = stream() }
  local m = masking.draw(masking.find("tests/fixtures/masking_rim.lua"), guide, o)
  check(m, 2, 16, 12)
  lu.assertEquals(m.masked:totable(), { { 5, 6, 9, 10 }, { 5, 6, 9, 10 } })
end

function TestFiles:setUp() self.dir = helper.temporary_folder() end
function TestFiles:tearDown() helper.remove_folder(self.dir) end

function TestFiles:test_files_that_are_none()
  local function find(text)
    lumen.fs.write(self.dir .. "/m.lua", text)
    return masking.find(self.dir .. "/m.lua")
  end
  lu.assertErrorMsgContains("no file " .. self.dir .. "/none.lua", masking.find, self.dir .. "/none.lua")
  lu.assertErrorMsgContains("returns a table, not a function", find, "return {}")
  lu.assertErrorMsgContains("returns a nil, not a function", find, "")
  lu.assertErrorMsgContains("m.lua:1:", find, "return return")
  lu.assertErrorMsgContains("did you mean random", masking.find, "rondom")
  lu.assertErrorMsgContains('no masking "zigzag" (random, guided, block,', masking.find, "zigzag")
end

-- Each way to return something else is said, by the file and by what is wrong.
function TestFiles:test_wrong_results()
  local function wrong(text, message)
    lumen.fs.write(self.dir .. "/m.lua", ([[local lumen = require "lumen"
      return function(guide, o)
        local m = lumen.masking.random(guide, o)
        %s
        return m
      end]]):format(text))
    local f = masking.find(self.dir .. "/m.lua")
    local guide = lumen.zeros({ 2, 1, 16, 16 })
    local ok, said = pcall(masking.draw, f, guide, { ratio = 0.5, grid = { 4, 4 }, rng = stream() })
    lu.assertFalse(ok, text)
    lu.assertStrContains(said, "masking " .. self.dir .. "/m.lua: ")
    lu.assertStrContains(said, message)
  end
  wrong("m = nil", "must return {keep=, masked=, restore=, mask=}, not a nil")
  wrong("m = m.mask", "not a userdata")
  wrong("m.keep = nil", "keep must be a tensor, not nil")
  wrong("m.keep = m.keep:slice(2, 1, 7)", "keep must be i64 [2 x 8] (ratio 0.5 of 16 patches), not i64 [2 x 7]")
  wrong("m.mask = m.mask:to('f64')", "mask must be f32 [2 x 16]")
  wrong("m = lumen.masking.random(guide, {ratio = 0.75, grid = o.grid, rng = o.rng})", "keep must be i64 [2 x 8]")
  wrong("m.keep = m.masked", "must together name each patch 0 to 15 once")
  wrong("m.masked = m.masked + 100", "must together name each patch 0 to 15 once")
  wrong("m.restore = m.restore:flip({2})", "restore does not say")
  wrong("m.mask = 1 - m.mask", "mask must be 1 for the patches in masked")
end

helper.run()
