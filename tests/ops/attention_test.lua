-- qkv_attention and attention against their composition from other operations.
local helper = require "tests.helper"
local lumen = require "lumen"

local randn = helper.randn

-- [N, L, D] -> [N, heads, L, D/heads]
local function split(x, heads)
  local n, l, d = table.unpack(x.shape)
  return x:reshape({ n, l, heads, d // heads }):permute { 1, 3, 2, 4 }
end

-- o: heads, causal, scale; mask (nil or u8, broadcast to [N, heads, L, M])
local function composed(q, k, v, mask, o)
  local n, l, d = table.unpack(q.shape)
  local m = k.shape[2]
  local scale = o.scale or 1 / math.sqrt(d // o.heads)
  local s = split(q, o.heads):matmul(split(k, o.heads):transpose()) * scale
  local never = lumen.full({ 1 }, -math.huge, { dtype = "f64" })
  if mask then s = lumen.where(mask, s, never) end
  if o.causal then
    local rows = lumen.arange(l):reshape { l, 1 }
    s = lumen.where(lumen.arange(m):reshape({ 1, m }):le(rows), s, never)
  end
  return s:softmax():matmul(split(v, o.heads)):permute({ 1, 3, 2, 4 }):reshape { n, l, d }
end

local function packed(o)
  return function(qkv)
    local d = qkv.shape[3] // 3
    return composed(qkv:slice(3, 1, d), qkv:slice(3, d + 1, 2 * d), qkv:slice(3, 2 * d + 1, 3 * d), nil, o)
  end
end

local rows = {}
for _, case in ipairs {
  { { 2, 5, 12 }, { heads = 2 } },
  { { 2, 5, 12 }, { heads = 2, causal = true } },
  { { 1, 1, 3 }, { heads = 1 } },
  { { 1, 7, 27 }, { heads = 3 } },
  { { 1, 1, 12 }, { heads = 4, causal = true } },
  { { 2, 140, 24 }, { heads = 2 }, true },                  -- threads
  { { 1, 600, 6 }, { heads = 1 }, true },                   -- several blocks of rows
  { { 1, 600, 6 }, { heads = 2, causal = true }, true },
} do
  rows[#rows + 1] = { args = { randn(case[1]) }, options = case[2], ref = packed(case[2]),
                      grad = not case[3] }
end
rows[#rows + 1] = { args = { randn { 0, 4, 12 } }, options = { heads = 2 }, shape = { 0, 4, 4 } }
rows[#rows + 1] = { args = { randn { 2, 0, 12 } }, options = { heads = 2 }, shape = { 2, 0, 4 } }
helper.op("qkv_attention", rows)
helper.error("qkv_attention", { args = { randn { 2, 3, 12 } }, options = { heads = 3 } },
  "heads is 3, which does not divide the width 4")
helper.error("qkv_attention", { args = { randn { 2, 3, 12 } }, options = { heads = 0 } }, "heads is 0")
helper.error("qkv_attention", { args = { randn { 2, 3, 10 } }, options = { heads = 2 } },
  "multiple of 3")
helper.error("qkv_attention", { args = { randn { 3, 12 } }, options = { heads = 2 } }, "qkv")

local function plain(o)
  return function(q, k, v, mask) return composed(q, k, v, mask, o) end
end
local function three(n, l, m, d) return randn { n, l, d }, randn({ n, m, d }, 2), randn({ n, m, d }, 3) end
local function bits(shape) return helper.integers(shape, 0, 1, "u8", 3) end

local function row(o, mask, n, l, m, d, more)
  local q, k, v = three(n, l, m, d)
  local r = { args = { q, k, v, mask }, options = o, ref = plain(o) }
  for _, key in ipairs { "ref", "grad" } do
    if more and more[key] ~= nil then r[key] = more[key] end
  end
  return r
end

local first = helper.values({ { 1, 1, 1, 0 }, { 1, 0, 1, 0 }, { 1, 0, 0, 1 } }, "u8")
helper.op("attention", {
  row({ heads = 2 }, nil, 2, 3, 4, 6),
  row({ heads = 1, scale = 0.3 }, nil, 2, 3, 4, 5),
  row({ heads = 2, causal = true }, nil, 1, 4, 4, 6),
  row({ heads = 2, causal = true }, nil, 1, 3, 5, 4),
  row({ heads = 2 }, first, 2, 3, 4, 6),
  row({ heads = 2, causal = true }, first, 2, 3, 4, 6),
  row({ heads = 2 }, helper.values({ { { { 1, 1, 0 } } }, { { { 0, 1, 1 } } } }, "u8"), 2, 4, 3, 6),
  row({ heads = 2 }, helper.values({ { { { 1, 1, 0 } }, { { 0, 1, 1 } } } }, "u8"), 2, 4, 3, 6),
  row({ heads = 1 }, nil, 1, 700, 300, 4, { grad = false }),
  -- a query that may see nothing gives zeros, not NaN
  row({ heads = 1 }, helper.values({ { 0, 0, 0 } }, "u8"), 1, 2, 3, 4,
      { ref = function() return { { { 0, 0, 0, 0 }, { 0, 0, 0, 0 } } } end }),
  { args = { randn { 0, 3, 4 }, randn { 0, 2, 4 }, randn { 0, 2, 4 } }, options = { heads = 2 },
    shape = { 0, 3, 4 } },
  { args = { randn { 2, 0, 4 }, randn { 2, 3, 4 }, randn { 2, 3, 4 } }, options = { heads = 2 },
    shape = { 2, 0, 4 } },
})
helper.error("attention", { args = { randn { 2, 3, 4 }, randn { 2, 3, 4 }, randn { 2, 2, 4 } },
  options = { heads = 2 } }, "do not fit")
helper.error("attention", { args = { randn { 2, 3, 4 }, randn { 2, 0, 4 }, randn { 2, 0, 4 } },
  options = { heads = 2 } }, "k has no tokens")
helper.error("attention", { args = { randn { 2, 3, 4 }, randn { 2, 3, 4 }, randn { 2, 3, 4 },
  bits { 2, 3 } }, options = { heads = 2 } }, "mask has shape [2 x 3]")
helper.error("attention", { args = { randn { 2, 3, 4 }, randn { 2, 3, 4 }, randn { 2, 3, 4 },
  randn { 3, 3 } }, options = { heads = 2 } }, "mask")

-- Gradients over several blocks of rows and threads, against the composition.
TestAttentionBlocks = {}
local function same_gradients(shape, o)
  local x = lumen.randn(shape, { dtype = "f64", requires_grad = true })
  local g = lumen.randn({ shape[1], shape[2], shape[3] // 3 }, { dtype = "f64" })
  lumen.qkv_attention(x, o):backward(g)
  local fused = x.grad
  local y = x:detach():contiguous()
  y.requires_grad = true
  packed(o)(y):backward(g)
  helper.assert_close(fused, y.grad, 1e-10, "gradient")
end
function TestAttentionBlocks:test_blocks() same_gradients({ 1, 600, 12 }, { heads = 2 }) end
function TestAttentionBlocks:test_causal() same_gradients({ 2, 600, 6 }, { heads = 1, causal = true }) end

helper.run()
