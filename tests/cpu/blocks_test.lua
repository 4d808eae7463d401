-- The CPU's allocator: what is released serves later tensors, of other sizes too.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"

TestBlocks = {}

function TestBlocks:setUp()
  collectgarbage()
  lumen.empty_cache()
end

local function held()
  local m = lumen.memory()
  return m.live + m.cached
end

function TestBlocks:test_neighbours_merge_and_serve_other_sizes()
  if helper.sanitized then lu.skip "the sanitizer build keeps no blocks" end
  local before = lumen.memory().live
  local small = {}
  for i = 1, 300 do small[i] = lumen.ones(65536 + i) end -- 300 sizes, 79 MB in all
  local top = held()
  for i = 1, 300, 2 do small[i]:release() end -- every second one: nothing can merge yet
  for i = 2, 300, 2 do small[i]:release() end
  lu.assertEquals(lumen.memory().live, before)
  lu.assertTrue(held() - top < 300 * 4096, "blocks are whole pages")
  top = held()
  local large = lumen.ones(15 * 1000 * 1000) -- 60 MB
  lu.assertTrue(held() <= top, "nothing new was asked for")
  lu.assertEquals(large:sum():item(), 15e6)
end

function TestBlocks:test_cache_is_given_back()
  if helper.sanitized then lu.skip "the sanitizer build keeps no blocks" end
  lumen.ones(1 << 20):release()
  lumen.ones(100):release()
  lu.assertTrue(lumen.memory().cached > 1 << 22)
  lu.assertTrue(lumen.empty_cache() > 1 << 22)
  lu.assertEquals(lumen.memory().cached, 0)
  lu.assertEquals(lumen.ones(1 << 20):sum():item(), 1 << 20)
end

-- Random sizes taken and released in random order; each block must still hold its number.
function TestBlocks:test_blocks_do_not_overlap()
  local random, blocks = math.random, {}
  math.randomseed(7)
  for step = 1, 1500 do
    local slot = random(40)
    if blocks[slot] then
      local x, value = blocks[slot][1], blocks[slot][2]
      lu.assertEquals(x:min():item(), value)
      lu.assertEquals(x:max():item(), value)
      x:release()
      blocks[slot] = nil
    else
      local n = random(3) == 1 and random(200000) or random(2000)
      blocks[slot] = { lumen.full({ n }, step), step }
    end
  end
end

helper.run()
