-- index_test.lua: picking and adding by index, sorting, one-hot.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"

local randn, integers, values = helper.randn, helper.integers, helper.values

-- ---- gather, scatter_add -------------------------------------------------------------------

-- Loops over index [a, b] (1-based positions i, j and the 0-based value).
local function each(index, fn)
  for i, row in ipairs(index:totable()) do
    for j, v in ipairs(row) do fn(i, j, math.tointeger(v)) end
  end
end

local function gathered(dim)
  return function(x, index)
    local t, out = x:totable(), {}
    each(index, function(i, j, v)
      out[i] = out[i] or {}
      out[i][j] = dim == 1 and t[v + 1][j] or dim == 2 and t[i][v + 1]
    end)
    return out
  end
end

helper.op("gather", {
  { args = { randn { 4, 5 }, integers({ 4, 3 }, 0, 4) }, options = { dim = 2 },
    ref = gathered(2) },
  { args = { randn { 4, 5 }, integers({ 6, 5 }, 0, 3) }, options = { dim = 1 },
    ref = gathered(1) },
  { args = { randn { 4, 5 }, integers({ 2, 7 }, 0, 4) }, options = { dim = -1 },
    ref = gathered(2) },
  { args = { randn { 4, 5 }, integers({ 3, 2 }, 0, 3) }, options = { dim = 1 },
    ref = gathered(1) },
  { args = { randn { 2, 3, 4 }, integers({ 2, 5, 3 }, 0, 2) }, options = { dim = 2 },
    shape = { 2, 5, 3 } },
  { args = { randn { 4, 5 }, integers({ 0, 5 }, 0, 3) }, options = { dim = 1 }, shape = { 0, 5 } },
  { args = { integers({ 4, 5 }, 0, 99), integers({ 4, 2 }, 0, 4) }, options = { dim = 2 },
    ref = gathered(2) },
  { args = { randn { 50, 700 }, integers({ 60, 700 }, 0, 49) }, options = { dim = 1 },
    grad = false, ref = gathered(1) },
})
helper.error("gather", { args = { randn { 4, 5 }, values({ { 0, 5 } }, "i64") },
                         options = { dim = 2 } }, "gather: index holds 5, outside 0 .. 4")
helper.error("gather", { args = { randn { 4, 5 }, values({ { -1 } }, "i64") },
                         options = { dim = 2 } }, "gather: index holds -1")
helper.error("gather", { args = { randn { 4, 5 }, integers({ 5, 1 }, 0, 4) },
                         options = { dim = 2 } },
  "gather: index has shape [5 x 1], too large for x outside dimension 2 (x: f32 cpu [4 x 5])")
helper.error("gather", { args = { randn { 4, 5 }, randn { 4, 5 } }, options = { dim = 2 } },
  "gather: index must be i64")

local function scattered(dim)
  return function(x, index, source)
    local t, s = x:totable(), source:totable()
    each(index, function(i, j, v)
      local r, c = dim == 1 and v + 1 or i, dim == 2 and v + 1 or j
      t[r][c] = t[r][c] + s[i][j]
    end)
    return t
  end
end

helper.op("scatter_add", {
  { args = { randn { 4, 5 }, integers({ 4, 7 }, 0, 4), randn({ 4, 7 }, 2) },
    options = { dim = 2 }, ref = scattered(2) },
  { args = { randn { 4, 5 }, integers({ 9, 3 }, 0, 3), randn({ 9, 3 }, 2) },
    options = { dim = 1 }, ref = scattered(1) },
  { args = { randn { 4, 5 }, integers({ 0, 5 }, 0, 3), randn { 0, 5 } }, options = { dim = 1 },
    ref = scattered(1) },
  { args = { integers({ 3, 2 }, 0, 9), integers({ 5, 2 }, 0, 2), integers({ 5, 2 }, 0, 9) },
    options = { dim = 1 }, ref = scattered(1) },
  { args = { randn { 7, 600 }, integers({ 90, 600 }, 0, 6), randn({ 90, 600 }, 2) },
    options = { dim = 1 }, grad = false, ref = scattered(1) },
})
helper.error("scatter_add", { args = { randn { 4, 5 }, integers({ 4, 3 }, 0, 4),
                                       randn { 4, 2 } }, options = { dim = 2 } },
  "scatter_add: source has shape [4 x 2]")
helper.error("scatter_add", { args = { randn { 4, 5 }, values({ { 7 } }, "i64"),
                                       randn { 1, 1 } }, options = { dim = 2 } },
  "scatter_add: index holds 7, outside 0 .. 4")

-- ---- index_select, embedding, gather_tokens ------------------------------------------------

helper.op("index_select", {
  { args = { randn { 4, 3 }, values({ 2, 0, 2 }, "i64") }, options = { dim = 1 },
    ref = function(x)
      local t = x:totable()
      return { t[3], t[1], t[3] }
    end },
  { args = { randn { 2, 3, 4 }, values({ 1, 1, 0, 2 }, "i64") }, options = { dim = 2 },
    ref = function(x)
      local t, out = x:totable(), {}
      for n = 1, 2 do out[n] = { t[n][2], t[n][2], t[n][1], t[n][3] } end
      return out
    end },
  { args = { randn { 3 }, values({ 2 }, "i64") }, options = { dim = 1 },
    ref = function(x) return { x:totable()[3] } end },
  { args = { randn { 3, 2 }, integers({ 0 }, 0, 1) }, options = { dim = 1 }, shape = { 0, 2 } },
})
helper.error("index_select", { args = { randn { 3, 2 }, values({ 3 }, "i64") },
                               options = { dim = 1 } }, "index holds 3, outside 0 .. 2")
helper.error("index_select", { args = { randn { 3, 2 }, integers({ 1, 1 }, 0, 1) },
                               options = { dim = 1 } }, "index must have 1 dimensions")

local function embedded(weight, index)
  local w, out = weight:totable(), {}
  each(index, function(i, j, v)
    out[i] = out[i] or {}
    out[i][j] = w[v + 1]
  end)
  return out
end

helper.op("embedding", {
  { args = { randn { 6, 4 }, integers({ 2, 5 }, 0, 5) }, ref = embedded },
  { args = { randn { 6, 4 }, values(3, "i64") }, ref = function(w) return w:totable()[4] end },
  { args = { randn { 6, 4 }, integers({ 0 }, 0, 5) }, shape = { 0, 4 } },
  { args = { randn { 30, 300 }, integers({ 10, 40 }, 0, 29) }, grad = false, ref = embedded },
})
helper.error("embedding", { args = { randn { 6, 4 }, values({ 6 }, "i64") } },
  "embedding: index holds 6, outside 0 .. 5")

local function tokens(x, index)
  local t, out = x:totable(), {}
  each(index, function(n, k, v)
    out[n] = out[n] or {}
    out[n][k] = t[n][v + 1]
  end)
  return out
end

helper.op("gather_tokens", {
  { args = { randn { 2, 5, 3 }, integers({ 2, 4 }, 0, 4) }, ref = tokens },
  { args = { randn { 3, 1, 2 }, integers({ 3, 2 }, 0, 0) }, ref = tokens },
  { args = { randn { 2, 5, 3 }, integers({ 2, 0 }, 0, 4) }, shape = { 2, 0, 3 } },
  { args = { randn { 4, 49, 200 }, integers({ 4, 24 }, 0, 48) }, grad = false, ref = tokens },
})
helper.error("gather_tokens", { args = { randn { 2, 5, 3 }, integers({ 3, 4 }, 0, 4) } },
  "gather_tokens: index has shape [3 x 4]")
helper.error("gather_tokens", { args = { randn { 1, 5, 3 }, values({ { 5 } }, "i64") } },
  "index holds 5, outside 0 .. 4 (the tokens of x)")

-- ---- sorting -------------------------------------------------------------------------------

-- Rows of a matrix sorted stably: values and 0-based places of the first k.
local function sorted(descending, k)
  return function(x)
    local v, p = {}, {}
    for i, row in ipairs(x:totable()) do
      local order = {}
      for j = 1, #row do order[j] = j end
      table.sort(order, function(a, b)
        if row[a] ~= row[b] then return (row[a] < row[b]) ~= descending end
        return a < b
      end)
      v[i], p[i] = {}, {}
      for j = 1, k or #row do v[i][j], p[i][j] = row[order[j]], order[j] - 1 end
    end
    return lumen.tensor(v, { dtype = x.dtype }), lumen.tensor(p, { dtype = "i64" })
  end
end

local function places(descending)
  return function(x)
    local _, p = sorted(descending)(x)
    return p
  end
end

helper.op("argsort", {
  { args = { helper.distinct { 3, 7 } }, ref = places(false) },
  { args = { helper.distinct { 3, 7 } }, options = { descending = true }, ref = places(true) },
  { args = { integers({ 4, 50 }, 0, 5) }, ref = places(false) },
  { args = { integers({ 4, 50 }, -3, 3, "i32") }, options = { descending = true },
    ref = places(true) },
  { args = { integers({ 2, 1000 }, 0, 255, "u8") }, ref = places(false) },
  { args = { randn { 3, 0 } }, shape = { 3, 0 } },
  { args = { randn {} }, shape = {} },
})
helper.op("sort", {
  { args = { helper.distinct { 3, 7 } }, ref = sorted(false) },
  { args = { helper.distinct { 3, 40 } }, options = { descending = true }, ref = sorted(true) },
  { args = { helper.distinct { 5, 4, 3 } }, options = { dim = 2 }, shape = { 5, 4, 3 } },
  { args = { randn { 0, 3 } }, shape = { 0, 3 } },
})
helper.op("topk", {
  { args = { helper.distinct { 3, 7 } }, options = { k = 3 }, ref = sorted(true, 3) },
  { args = { helper.distinct { 6, 4 } }, options = { k = 2, dim = 1 }, shape = { 2, 4 } },
  { args = { helper.distinct { 3, 7 } }, options = { k = 0 }, shape = { 3, 0 } },
})
helper.error("topk", { args = { randn { 3, 4 } }, options = { k = 5 } },
  "topk: k is 5, but dimension 2 of x has 4 elements")
helper.error("sort", { args = { randn {} } }, "sort: x is a scalar")

-- ---- one_hot -------------------------------------------------------------------------------

helper.op("one_hot", {
  { args = { values({ 2, 0, 1 }, "i64") }, options = { classes = 3 },
    ref = function() return { { 0, 0, 1 }, { 1, 0, 0 }, { 0, 1, 0 } } end },
  { args = { integers({ 2, 3 }, 0, 4) }, options = { classes = 5 }, shape = { 2, 3, 5 } },
  { args = { integers({ 0 }, 0, 1) }, options = { classes = 2 }, shape = { 0, 2 } },
})
helper.error("one_hot", { args = { values({ 3 }, "i64") }, options = { classes = 3 } },
  "one_hot: index holds 3, outside 0 .. 2 (the classes)")
helper.error("one_hot", { args = { randn { 3 } }, options = { classes = 3 } },
  "one_hot: index must be i64")

TestSorting = {}

function TestSorting.test_nan_is_largest_and_zeros_are_equal()
  local nan = 0 / 0
  local x = lumen.tensor { nan, 1, -math.huge, 0.0, -0.0, math.huge, nan, -2 }
  lu.assertEquals(x:argsort():totable(), { 2, 7, 3, 4, 1, 5, 0, 6 })
  lu.assertEquals(x:argsort { descending = true }:totable(), { 0, 6, 5, 1, 3, 4, 7, 2 })
end

function TestSorting.test_large_integers_keep_their_order()
  local x = lumen.tensor({ 2 ^ 53, -2 ^ 53, 3, -1 }, { dtype = "i64" })
  lu.assertEquals(x:argsort():totable(), { 1, 3, 2, 0 })
end

function TestSorting.test_argsort_twice_gives_ranks()
  local x = lumen.rand({ 16, 196 }, { rng = { seed = 3, stream = "ranks" } })
  local order = x:argsort()
  local rank = order:argsort()
  lu.assertEquals(order:gather(rank, { dim = 2 }):totable(),
    lumen.arange(196):to("i64"):expand { 16, 196 }:contiguous():totable())
end

helper.run()
