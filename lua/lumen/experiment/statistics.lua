-- What the tables of experiments say about a handful of runs.
local core = require "lumen.core"

local statistics = {}

local nan = 0 / 0

function statistics.mean(list)
  local sum = 0.0
  for _, v in ipairs(list) do sum = sum + v end
  return #list > 0 and sum / #list or nan
end

-- Standard deviation of a sample (n - 1); NaN below two values.
function statistics.deviation(list)
  if #list < 2 then return nan end
  local mean, sum = statistics.mean(list), 0.0
  for _, v in ipairs(list) do sum = sum + (v - mean) ^ 2 end
  return math.sqrt(sum / (#list - 1))
end

-- P(|T| < t) of Student's t with `df` degrees of freedom: the finite sums for integer df
-- (Abramowitz and Stegun 26.7.3, 26.7.4).
local function t_within(t, df)
  local angle = math.atan(t / math.sqrt(df))
  local cos2, sum, term = math.cos(angle) ^ 2, 0.0, 1.0
  if df % 2 == 0 then
    for k = 0, df // 2 - 1 do
      if k > 0 then term = term * (2 * k - 1) / (2 * k) * cos2 end
      sum = sum + term
    end
    return math.sin(angle) * sum
  end
  for k = 1, (df - 1) // 2 do
    if k > 1 then term = term * (2 * k - 2) / (2 * k - 1) * cos2 end
    sum = sum + term
  end
  return 2 / math.pi * (angle + math.sin(angle) * math.cos(angle) * sum)
end

-- The t that `share` of Student's distribution lies within, both sides: 0.95 and 1 degree of
-- freedom give 12.706.
function statistics.t_quantile(share, df)
  local low, high = 0.0, 1.0
  while t_within(high, df) < share do high = high * 2 end
  for _ = 1, 80 do
    local middle = (low + high) / 2
    if t_within(middle, df) < share then low = middle else high = middle end
  end
  return (low + high) / 2
end

-- 95 % confidence interval of the mean of paired differences, one per seed, by Student's t.
-- Nil below two of them.
function statistics.t_interval(differences)
  if #differences < 2 then return nil end
  local mean = statistics.mean(differences)
  local half = statistics.t_quantile(0.95, #differences - 1) * statistics.deviation(differences)
    / math.sqrt(#differences)
  return mean - half, mean + half
end

local function percentile(sorted, share)
  local position = share * (#sorted - 1)
  local below = math.tointeger(position // 1)
  local low, high = sorted[below + 1], sorted[math.min(below + 2, #sorted)]
  return low + (high - low) * (position - below)
end

statistics.samples = 2000

-- The same interval by the bootstrap, from paired differences per seed and image: rows of one
-- length. Each of the 2,000 samples draws seeds and images again, with replacement, and takes
-- the mean over the drawn seeds and images; the interval is the samples' 2.5 % to 97.5 %.
-- Always the same draws.
function statistics.bootstrap(rows)
  local seeds, images, samples = #rows, #rows[1], statistics.samples
  return core.scope(function()
    local d = core.tensor(rows, { dtype = "f64" }):reshape({ seeds * images })
    local function draw(n, stream)
      local u = core.rand({ samples, n }, { dtype = "f64", rng = { seed = 0, stream = stream } })
      return (u * n):floor():clamp({ max = n - 1 })
    end
    local drawn = (draw(seeds, "bootstrap seeds") * images):reshape({ samples, seeds, 1 })
      + draw(images, "bootstrap images"):reshape({ samples, 1, images })
    local means = core.index_select(d, drawn:to("i64"):reshape({ -1 }), { dim = 1 })
      :reshape({ samples, seeds * images }):mean(2):totable()
    table.sort(means)
    return percentile(means, 0.025), percentile(means, 0.975)
  end)
end

return statistics
