-- Counts of a tensor's values in bins of equal width.
local core = require "lumen.core"

-- histogram(x, { bins = 30, range = {low, high} }) -> { edges = bins + 1 numbers, counts = bins
-- integers, min, max, sum, squares (sum of squares), count (finite values), left_out (others, and
-- those outside the range) }. Without a range it spans all finite values; one value alone gets
-- bins around it. The last bin holds its upper edge.
--   > local histogram = require "lumen.histogram"
--   > table.concat(histogram(lumen.tensor {0, 1, 1, 4}, {bins = 2}).counts, " ")
--   3 1
local function histogram(x, o)
  local bins = o and o.bins or 30
  if math.type(bins) ~= "integer" or bins < 1 or bins > 100000 then
    error(("histogram: bins is %s, not an integer from 1 to 100000"):format(tostring(bins)), 2)
  end
  return core.scope(function()
    return core.no_grad(function()
      x = x:detach():to("cpu"):to("f64"):contiguous():reshape({ -1 })
      local total = x:numel()
      local finite = core.isfinite(x)
      local function pick(otherwise) return core.where(finite, x, core.tensor(otherwise, { dtype = "f64" })) end
      local count = total > 0 and math.tointeger(finite:to("f64"):sum():item()) or 0
      local result = { count = count, left_out = total - count, sum = 0.0, squares = 0.0,
                       min = 0.0, max = 0.0, edges = {}, counts = {} }
      if count > 0 then
        result.min, result.max = pick(math.huge):min():item(), pick(-math.huge):max():item()
        local zeroed = pick(0.0)
        result.sum, result.squares = zeroed:sum():item(), zeroed:square():sum():item()
      end
      local low, high = result.min, result.max
      if o and o.range then low, high = o.range[1] + 0.0, o.range[2] + 0.0 end
      if not (low < high) then
        local half = math.max(math.abs(low), 1) * 1e-3
        low, high = low - half, low + half
      end
      for i = 0, bins do result.edges[i + 1] = low + (high - low) * i / bins end
      if count == 0 then
        for i = 1, bins do result.counts[i] = 0 end
        return result
      end
      -- what lies outside goes to bin number `bins`, which is cut off
      local place = ((x - low) * (bins / (high - low))):floor()
      place = core.where(core.eq(x, high), core.tensor(bins - 1.0, { dtype = "f64" }), place)
      local inside = finite:to("f64") * core.ge(x, low):to("f64") * core.le(x, high):to("f64")
      place = core.where(inside:gt(0.5), place:clamp({ min = 0, max = bins - 1 }),
        core.tensor(bins + 0.0, { dtype = "f64" })):to("i64")
      local counts = core.scatter_add(core.zeros({ bins + 1 }, { dtype = "f64" }), place,
        core.ones({ total }, { dtype = "f64" }), { dim = 1 }):totable()
      for i = 1, bins do result.counts[i] = math.tointeger(counts[i]) end
      result.left_out = math.tointeger(counts[bins + 1])
      return result
    end)
  end)
end

return histogram
