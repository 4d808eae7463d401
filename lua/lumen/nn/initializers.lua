-- Ways to fill a new parameter in place. Each returns a function(tensor, rng) that draws from
-- the stream rng. fan_in of a weight [out, in, ...] is in * the product of the rest.
local core = require "lumen.core"

local fill = {}

local function fan_in(t)
  local n = 1
  for i = 2, #t.shape do n = n * t.shape[i] end
  return n
end

function fill.constant(value) return function(t) t:fill_(value) end end

function fill.normal(std) return function(t, rng) t:normal_(0, std, { rng = rng }) end end

-- Truncated at the absolute bounds -2 and 2.
function fill.trunc_normal(std) return function(t, rng) t:trunc_normal_(0, std, -2, 2, { rng = rng }) end end

-- Uniform in +-1/sqrt(fan_in): what torch gives Linear and Conv2d. `fan` overrides fan_in
-- (a bias does not know its own).
function fill.uniform_fan_in(fan)
  return function(t, rng)
    local bound = 1 / math.sqrt(fan or fan_in(t))
    t:uniform_(-bound, bound, { rng = rng })
  end
end

-- Glorot and Bengio 2010, on the weight seen as a matrix [out, fan_in].
function fill.xavier_uniform()
  return function(t, rng)
    local bound = math.sqrt(6 / (fan_in(t) + t.shape[1]))
    t:uniform_(-bound, bound, { rng = rng })
  end
end

-- Normal with variance 2 / fan_out of a convolution [out, in / groups, kh, kw].
function fill.normal_fan_out(groups)
  return function(t, rng)
    local fan_out = t.shape[1] * t.shape[3] * t.shape[4] // groups
    t:normal_(0, math.sqrt(2 / fan_out), { rng = rng })
  end
end

-- A fixed table computed in Lua.
function fill.values(make)
  return function(t) t:copy_(core.tensor(make(), { dtype = "f32" }):reshape(t.shape)) end
end

return fill
