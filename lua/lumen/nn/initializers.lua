-- Ways to fill a new parameter in place. Each returns a function(tensor, rng) that draws from
-- the stream rng. fan_in of a weight [out, in, ...] is in * the product of the rest.
local core = require "lumen.core"

local fill = {}

local function fan_in(t)
  local n = 1
  for i = 2, #t.shape do n = n * t.shape[i] end
  return n
end

-- Every element `value`.
-- -> function
--   > t = lumen.zeros(3)
--   > lumen.nn.fill.constant(0.5)(t)
--   > t
--   f32 [3] {0.5, 0.5, 0.5}
function fill.constant(value) return function(t) t:fill_(value) end end

-- Normal with mean 0 and deviation std.
-- -> function
--   > t = lumen.zeros(2)
--   > lumen.nn.fill.normal(0.02)(t, { seed = 1 })
--   > t
--   f32 [2] {-0.018648, -0.002792}
function fill.normal(std) return function(t, rng) t:normal_(0, std, { rng = rng }) end end

-- Normal with deviation std, truncated at the absolute bounds -2 and 2, as timm does.
-- -> function
--   > layer = lumen.nn.Linear(4, 4, { weight_init = lumen.nn.fill.trunc_normal(0.02) })
--   > layer:initialize(0).weight:abs():max():item() < 0.2
--   true
function fill.trunc_normal(std) return function(t, rng) t:trunc_normal_(0, std, -2, 2, { rng = rng }) end end

-- Uniform in +-1/sqrt(fan_in): what torch gives Linear and Conv2d. fan overrides fan_in (a
-- bias does not know its own).
-- -> function
--   > t = lumen.zeros(8, 4)
--   > lumen.nn.fill.uniform_fan_in()(t, { seed = 1 })
--   > t:abs():max():item() <= 0.5
--   true
function fill.uniform_fan_in(fan)
  return function(t, rng)
    local bound = 1 / math.sqrt(fan or fan_in(t))
    t:uniform_(-bound, bound, { rng = rng })
  end
end

-- Uniform in +-sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010), on the weight seen as a
-- matrix [out, fan_in].
-- -> function
--   > t = lumen.zeros(3, 3)
--   > lumen.nn.fill.xavier_uniform()(t, { seed = 1 })
--   > t:abs():max():item() <= 1
--   true
function fill.xavier_uniform()
  return function(t, rng)
    local bound = math.sqrt(6 / (fan_in(t) + t.shape[1]))
    t:uniform_(-bound, bound, { rng = rng })
  end
end

-- Normal with variance 2 / fan_out of a convolution [out, in / groups, kh, kw] (He et al.
-- 2015).
-- -> function
--   > layer = lumen.nn.Conv2d(3, 8, 3, { weight_init = lumen.nn.fill.normal_fan_out(1) })
--   > layer:initialize(0).weight.shape
--   {8, 3, 3, 3}
function fill.normal_fan_out(groups)
  return function(t, rng)
    local fan_out = t.shape[1] * t.shape[3] * t.shape[4] // groups
    t:normal_(0, math.sqrt(2 / fan_out), { rng = rng })
  end
end

-- A fixed table: make() returns nested or flat numbers, as many as the parameter has.
-- -> function
--   > t = lumen.zeros(2, 2)
--   > lumen.nn.fill.values(function() return { 1, 2, 3, 4 } end)(t)
--   > t
--   f32 [2 x 2] {1, 2, 3, 4}
function fill.values(make)
  return function(t) t:copy_(core.tensor(make(), { dtype = "f32" }):reshape(t.shape)) end
end

return fill
