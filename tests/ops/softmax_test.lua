-- The softmax family and its losses against their definitions.
local helper = require "tests.helper"
local lumen = require "lumen"
local lu = require "luaunit"

local randn, rand = helper.randn, helper.rand

local function softmax(dim)
  return function(x)
    local e = x:exp()
    return e / e:sum({ dim }, true)
  end
end
local function log_softmax(dim)
  return function(x) return x - x:exp():sum({ dim }, true):log() end
end
local function logsumexp(dim, keepdim)
  return function(x) return x:exp():sum({ dim }, keepdim or false):log() end
end

local function dim_rows(ref)
  return {
    { args = { randn { 3, 5 } }, ref = ref(-1) },
    { args = { randn { 3, 5 } }, options = { dim = 1 }, ref = ref(1) },
    { args = { randn { 2, 3, 4 } }, options = { dim = 2 }, ref = ref(2) },
    { args = { randn { 2, 3, 1 } }, options = { dim = 3 }, ref = ref(3) },
    { args = { randn { 7 } }, options = { dim = -1 }, ref = ref(1) },
    { args = { randn { 4, 37, 150 } }, options = { dim = 2 }, ref = ref(2), grad = false },
    { args = { randn { 40, 600 } }, ref = ref(2), grad = false },
  }
end
local function with_empty(rows)
  rows[#rows + 1] = { args = { randn { 0, 5 } }, options = { dim = 2 }, shape = { 0, 5 } }
  rows[#rows + 1] = { args = { randn { 3, 0 } }, options = { dim = 2 }, shape = { 3, 0 } }
  return rows
end
helper.op("softmax", with_empty(dim_rows(softmax)))
helper.op("log_softmax", with_empty(dim_rows(log_softmax)))
local rows = dim_rows(logsumexp)
rows[#rows + 1] = { args = { randn { 2, 3, 4 } }, options = { dim = 2, keepdim = true },
                    ref = logsumexp(2, true) }
rows[#rows + 1] = { args = { randn { 0, 5 } }, options = { dim = 2 }, shape = { 0 } }
helper.op("logsumexp", rows)
for _, name in ipairs { "softmax", "log_softmax", "logsumexp" } do
  helper.error(name, { args = { randn { 3, 5 } }, options = { dim = 4 } }, name .. ": ")
end

TestSoftmaxLimits = {}
function TestSoftmaxLimits:test_large_values()
  local x = lumen.tensor { { 1000, 1000, -1000 } }
  lu.assertEquals(x:softmax():totable(), { { 0.5, 0.5, 0 } })
  lu.assertAlmostEquals(x:logsumexp():item(), 1000 + math.log(2), 1e-3)
  lu.assertAlmostEquals(x:log_softmax():totable()[1][3], -2000 - math.log(2), 1e-3)
end
function TestSoftmaxLimits:test_infinities()
  local inf = math.huge
  lu.assertEquals(lumen.tensor({ -inf, -inf }):logsumexp():item(), -inf)
  lu.assertEquals(lumen.tensor({ 1, inf }):logsumexp():item(), inf)
  lu.assertEquals(lumen.tensor({ -inf, 0 }):softmax():totable(), { 0, 1 })
  local nan = lumen.tensor({ 0 / 0, 1, 2 }):softmax():totable()
  lu.assertNotEquals(nan[2], nan[2])
end

-- ---- cross_entropy ----

-- Straight from the definition, places in a flat list: logits [N, C, ...].
local function cross_entropy(o)
  return function(x, target, weight)
    local n, c = x.shape[1], x.shape[2]
    local p = x:reshape({ n, c, -1 }):log_softmax({ dim = 2 }):totable()
    local t = target:reshape({ n, -1 }):totable()
    local w = weight and weight:totable()
    local total, norm = 0, 0
    for i = 1, n do
      for j = 1, #t[i] do
        if t[i][j] ~= (o.ignore_index or -100) then
          local class, s = t[i][j] + 1, o.label_smoothing or 0
          local wt = w and w[class] or 1
          total = total - (1 - s) * wt * p[i][class][j]
          for k = 1, c do total = total - s / c * (w and w[k] or 1) * p[i][k][j] end
          norm = norm + wt
        end
      end
    end
    return total / norm
  end
end

local function entropy_row(shape, o, weighted, more)
  local target = { shape[1] }
  for d = 3, #shape do target[d - 1] = shape[d] end
  local row = { args = { randn(shape), helper.integers(target, 0, shape[2] - 1, "i64", 2) },
                options = o, ref = cross_entropy(o), constant = { [2] = true } }
  if weighted then row.args[3] = rand({ shape[2] }, 0.5, 2, 3) end
  if more then row.grad = more.grad end
  return row
end

helper.op("cross_entropy", {
  entropy_row({ 4, 3 }, {}),
  entropy_row({ 4, 3 }, {}, true),
  entropy_row({ 4, 3 }, { label_smoothing = 0.1 }),
  entropy_row({ 4, 3 }, { label_smoothing = 0.3 }, true),
  entropy_row({ 4, 3 }, { ignore_index = 1 }),
  entropy_row({ 4, 3 }, { ignore_index = 1, label_smoothing = 0.2 }, true),
  entropy_row({ 2, 3, 2, 2 }, {}),
  entropy_row({ 2, 3, 2, 2 }, { ignore_index = 2, label_smoothing = 0.1 }, true),
  entropy_row({ 1, 1 }, {}),
  entropy_row({ 3, 5, 60, 50 }, { ignore_index = 0 }, true, { grad = false }),
})
helper.error("cross_entropy", { args = { randn { 2, 3 }, helper.values({ 0, 3 }, "i64") } },
  "target 3 (element 1)")
helper.error("cross_entropy", { args = { randn { 2, 3 }, helper.values({ 0, 1, 2 }, "i64") } },
  "do not fit")
helper.error("cross_entropy", { args = { randn { 2, 3 }, helper.values({ 0, 1 }, "f32") } }, "target")
helper.error("cross_entropy", { args = { randn { 2, 3 }, helper.values({ 0, 1 }, "i64") },
  options = { label_smoothing = 2 } }, "label_smoothing")

TestCrossEntropyIgnored = {}
function TestCrossEntropyIgnored:test_all_ignored()
  local x = lumen.randn({ 2, 3 }, { requires_grad = true })
  local loss = lumen.cross_entropy(x, lumen.tensor({ -100, -100 }, { dtype = "i64" }))
  lu.assertNotEquals(loss:item(), loss:item())
end

-- ---- bce_with_logits ----

local function bce(pos)
  return function(x, t, w)
    local p = x:sigmoid()
    local each = -(t * p:log() * (pos or 1) + (1 - t) * (1 - p):log())
    if w then each = each * w end
    return each:mean()
  end
end

helper.op("bce_with_logits", {
  { args = { randn { 3, 4 }, rand({ 3, 4 }, 0, 1, 2) }, ref = bce() },
  { args = { randn { 3, 4 }, rand({ 3, 4 }, 0, 1, 2) }, options = { pos_weight = 3 }, ref = bce(3) },
  { args = { randn { 2, 3, 2 }, rand({ 2, 3, 2 }, 0, 1, 2), rand({ 2, 3, 2 }, 0, 2, 3) },
    options = { pos_weight = 0.5 }, ref = bce(0.5) },
  { args = { randn {}, rand({}, 0, 1, 2) }, ref = bce() },
  { args = { randn { 5, 7000 }, rand({ 5, 7000 }, 0, 1, 2) }, ref = bce(), grad = false },
})
helper.error("bce_with_logits", { args = { randn { 3, 4 }, randn { 3, 1 } } }, "target")

TestBceLimits = {}
function TestBceLimits:test_extreme_logits()
  local x = lumen.tensor({ 200, -200, 200, -200 }, { requires_grad = true })
  local loss = lumen.bce_with_logits(x, lumen.tensor { 1, 0, 0, 1 })
  lu.assertEquals(loss:item(), 100)
  loss:backward()
  lu.assertEquals(x.grad:totable(), { 0, 0, 0.25, -0.25 })
end

helper.run()
