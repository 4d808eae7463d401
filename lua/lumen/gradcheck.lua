local core = require "lumen.core"

-- Weights in [0.5, 1.5), a function of the position only.
local function weights_like(y, k)
  local n, values = y:numel(), {}
  for i = 1, n do values[i] = 0.5 + ((i * 0.6180339887498949 + k * 0.317) % 1) end
  return core.tensor(values, { dtype = "f64" }):reshape(y.shape)
end

local function weighted(outputs)
  local total
  for k = 1, outputs.n do
    local y = outputs[k]
    if y.dtype == "f64" and y:numel() > 0 then
      local part = core.sum(y * weights_like(y, k))
      total = total and total + part or part
    end
  end
  return total or core.zeros({}, { dtype = "f64" })
end

local function flat(x) return x:contiguous():reshape({ -1 }) end

-- Compares the gradients of fn(inputs...) with central differences, in f64; fn returns one
-- tensor or several, each is summed with fixed pseudo-random weights. Returns true, or raises
-- with the first value that differs. options: eps = 1e-6, tol = 1e-5 (relative to the largest
-- gradient, at least 1).
-- -> bool
--   > lumen.gradcheck(function(x) return x:tanh() end, { lumen.randn(2, 3) })
--   true
return function(fn, inputs, options)
  local eps = options and options.eps or 1e-6
  local tol = options and options.tol or 1e-5
  local leaves = {}
  for i, x in ipairs(inputs) do
    local is_float = x.dtype == "f32" or x.dtype == "f64"
    leaves[i] = is_float and core.no_grad(function() return x:to("f64"):clone() end) or x
    if is_float then leaves[i].requires_grad = true end
  end
  local function value()
    return core.no_grad(function()
      return weighted(table.pack(fn(table.unpack(leaves, 1, #leaves)))):item()
    end)
  end
  local total = weighted(table.pack(fn(table.unpack(leaves, 1, #leaves))))
  if total.requires_grad then total:backward() end
  for i, x in ipairs(leaves) do
    if x.requires_grad and x:numel() > 0 then
      local analytic = x.grad and flat(x.grad):totable() or {}
      local largest, numeric = 1, {}
      local values = flat(x:detach())
      for j = 1, #values:totable() do
        local cell = values:slice(1, j, j)
        local at = cell:item()
        core.no_grad(function() cell:fill_(at + eps) end)
        local up = value()
        core.no_grad(function() cell:fill_(at - eps) end)
        numeric[j] = (up - value()) / (2 * eps)
        core.no_grad(function() cell:fill_(at) end)
        largest = math.max(largest, math.abs(numeric[j]))
      end
      for j, expected in ipairs(numeric) do
        local got = analytic[j] or 0
        if not (math.abs(got - expected) <= tol * largest) then
          error(("gradcheck: input %d, element %d: gradient %.9g, difference quotient %.9g")
            :format(i, j, got, expected), 2)
        end
      end
    end
  end
  return true
end
