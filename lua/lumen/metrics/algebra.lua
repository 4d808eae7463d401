-- The little linear algebra that the fitted measures need.
local core = require "lumen.core"

local algebra = {}

-- Eigenvalues (list) and eigenvectors (rows of a table) of a symmetric matrix, a table of rows
-- that is overwritten: Jacobi's rotations.
local function eigen(a)
  local n, v = #a, {}
  for i = 1, n do
    v[i] = {}
    for j = 1, n do v[i][j] = i == j and 1.0 or 0.0 end
  end
  for _ = 1, 60 do
    local off, all = 0.0, 0.0
    for i = 1, n do
      for j = 1, n do
        all = all + a[i][j] ^ 2
        if i ~= j then off = off + a[i][j] ^ 2 end
      end
    end
    if not (off > 1e-30 * all) then break end
    for p = 1, n - 1 do
      for q = p + 1, n do
        if a[p][q] ~= 0 then
          local theta = (a[q][q] - a[p][p]) / (2 * a[p][q])
          local t = (theta < 0 and -1 or 1) / (math.abs(theta) + math.sqrt(theta * theta + 1))
          local c = 1 / math.sqrt(t * t + 1)
          local s = t * c
          for i = 1, n do
            local x, y = a[i][p], a[i][q]
            a[i][p], a[i][q] = c * x - s * y, s * x + c * y
          end
          local row_p, row_q, v_p, v_q = a[p], a[q], v[p], v[q]
          for i = 1, n do
            local x, y = row_p[i], row_q[i]
            row_p[i], row_q[i] = c * x - s * y, s * x + c * y
            x, y = v_p[i], v_q[i]
            v_p[i], v_q[i] = c * x - s * y, s * x + c * y
          end
        end
      end
    end
  end
  local values = {}
  for i = 1, n do values[i] = a[i][i] end
  return values, v
end

-- d' pinv(A) d of a symmetric positive semi-definite A [n, n] and d [n], a number: directions
-- whose eigenvalue vanishes beside the largest do not count.
function algebra.inverse_form(a, d)
  local values, vectors = eigen(a:totable())
  local list, largest, sum = d:totable(), 0, 0.0
  for _, v in ipairs(values) do largest = math.max(largest, v) end
  for i, value in ipairs(values) do
    if value > #list * 2.3e-16 * largest then
      local along = 0.0
      for j, x in ipairs(list) do along = along + vectors[i][j] * x end
      sum = sum + along * along / value
    end
  end
  return sum
end

-- Solves (A + ridge I) x = b for a symmetric positive semi-definite A [n, n], b [n].
function algebra.conjugate_gradients(a, ridge, b)
  return core.no_grad(function()
    local x, rest, way = b * 0, b, b
    local size = core.sum(rest * rest):item()
    local enough = 1e-24 * size
    for _ = 1, 10 * b.shape[1] do
      if not (size > enough) then break end
      core.scope(function(scope_x, scope_rest, scope_way)
        local image = core.matmul(a, scope_way) + ridge * scope_way
        local step = size / core.sum(scope_way * image):item()
        x, rest = scope_x + step * scope_way, scope_rest - step * image
        local next_size = core.sum(rest * rest):item()
        way = rest + (next_size / size) * scope_way
        size = next_size
        return x, rest, way
      end, x, rest, way)
    end
    return x
  end)
end

return algebra
