-- resize_test.lua: resampling against its definition, pixel by pixel.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"

local randn = helper.randn

-- ---- the definition along one axis: output o = sum of weight * x[position] -----------------

local function cubic(x, a)
  x = math.abs(x)
  if x < 1 then return ((a + 2) * x - (a + 3)) * x * x + 1 end
  if x < 2 then return (((x - 5) * x + 8) * x - 4) * a end
  return 0
end

local function triangle(x) return math.max(0, 1 - math.abs(x)) end

local function point_taps(o, n, size, mode, align)
  local x = align and (size > 1 and o * (n - 1) / (size - 1) or 0) or (o + 0.5) * n / size - 0.5
  if mode == "nearest" then return { { math.min(n - 1, o * n // size), 1 } } end
  if mode == "bilinear" then x = math.max(x, 0) end
  local taps, low = {}, math.floor(x)
  for i = low - 1, low + 2 do
    local w = mode == "bilinear" and triangle(i - x) or cubic(i - x, -0.75)
    taps[#taps + 1] = { math.max(0, math.min(n - 1, i)), w }
  end
  return taps
end

local function wide_taps(o, n, size, mode)
  local scale = math.max(n / size, 1)
  local center, support = (o + 0.5) * n / size, (mode == "bilinear" and 1 or 2) * scale
  local taps, sum = {}, 0
  for i = math.max(0, math.floor(center - support + 0.5)),
          math.min(n, math.floor(center + support + 0.5)) - 1 do
    local d = (i + 0.5 - center) / scale
    local w = mode == "bilinear" and triangle(d) or cubic(d, -0.5)
    taps[#taps + 1], sum = { i, w }, sum + w
  end
  for _, t in ipairs(taps) do t[2] = t[2] / sum end
  return taps
end

local function resized(options)
  return function(x)
    local n, c, h, w = table.unpack(x.shape)
    local oh, ow = table.unpack(options.size)
    local function taps(o, from, to)
      if options.antialias then return wide_taps(o, from, to, options.mode) end
      return point_taps(o, from, to, options.mode or "bilinear", options.align_corners)
    end
    local t, out = x:totable(), {}
    for b = 1, n do
      out[b] = {}
      for k = 1, c do
        out[b][k] = {}
        for i = 1, oh do
          out[b][k][i] = {}
          for j = 1, ow do
            local sum = 0
            for _, row in ipairs(taps(i - 1, h, oh)) do
              for _, col in ipairs(taps(j - 1, w, ow)) do
                sum = sum + row[2] * col[2] * t[b][k][row[1] + 1][col[1] + 1]
              end
            end
            out[b][k][i][j] = sum
          end
        end
      end
    end
    return out
  end
end

local rows = {}
local function row(shape, options, extra)
  local r = { args = { randn(shape) }, options = options, ref = resized(options) }
  for _, k in ipairs { "grad" } do if extra then r[k] = extra[k] end end
  rows[#rows + 1] = r
end

row({ 2, 3, 4, 5 }, { size = { 8, 10 } })                          -- doubling
row({ 1, 2, 1, 1 }, { size = { 2, 2 } })
row({ 1, 1, 2, 3 }, { size = { 4, 6 } })
row({ 1, 2, 7, 9 }, { size = { 11, 23 } })
row({ 1, 2, 8, 9 }, { size = { 5, 4 } })
row({ 1, 2, 6, 4 }, { size = { 3, 8 } })                           -- one axis each way
row({ 1, 2, 5, 7 }, { size = { 9, 13 }, align_corners = true })
row({ 1, 1, 5, 7 }, { size = { 1, 3 }, align_corners = true })
row({ 1, 2, 12, 9 }, { size = { 5, 4 }, mode = "bilinear", antialias = true })
row({ 1, 2, 5, 4 }, { size = { 12, 9 }, mode = "bilinear", antialias = true })
row({ 1, 2, 4, 5 }, { size = { 9, 8 }, mode = "bicubic" })
row({ 1, 2, 10, 9 }, { size = { 4, 6 }, mode = "bicubic" })
row({ 1, 1, 2, 3 }, { size = { 5, 2 }, mode = "bicubic", align_corners = true })
row({ 1, 2, 12, 9 }, { size = { 5, 4 }, mode = "bicubic", antialias = true })
row({ 1, 1, 3, 2 }, { size = { 7, 5 }, mode = "bicubic", antialias = true })
row({ 1, 2, 4, 6 }, { size = { 8, 3 }, mode = "nearest" })
row({ 1, 2, 8, 6 }, { size = { 2, 2 }, mode = "nearest" })         -- some pixels unused
row({ 1, 2, 4, 4 }, { size = { 4, 4 }, mode = "bicubic" })
row({ 4, 6, 20, 24 }, { size = { 40, 48 } }, { grad = false })     -- large enough for threads
rows[#rows + 1] = { args = { randn { 0, 2, 4, 4 } }, options = { size = 8 }, shape = { 0, 2, 8, 8 } }
rows[#rows + 1] = { args = { randn { 1, 2, 4, 3 } }, options = { size = 6 }, shape = { 1, 2, 6, 6 } }
helper.op("resize", rows)

helper.error("resize", { args = { randn { 1, 1, 4, 4 } }, options = { size = 2, mode = "cubic" } },
  "resize: mode 'cubic' is not nearest, bilinear or bicubic")
helper.error("resize", { args = { randn { 1, 4, 4 } }, options = { size = 2 } },
  "resize: x must have 4 dimensions")
helper.error("resize", { args = { randn { 1, 1, 4, 4 } }, options = { size = { 0, 2 } } },
  "resize: size must be at least 1, not 0")
helper.error("resize", { args = { randn { 1, 1, 0, 4 } }, options = { size = 2 } },
  "resize: x has no pixels")
helper.error("resize", { args = { randn { 1, 1, 4, 4 } },
                         options = { size = 2, mode = "nearest", antialias = true } },
  "resize: antialias has no meaning for mode nearest")
helper.error("resize", { args = { randn { 1, 1, 4, 4 } },
                         options = { size = 2, antialias = true, align_corners = true } },
  "resize: antialias and align_corners exclude each other")

TestResize = {}

function TestResize.test_a_constant_stays_constant()
  local x = lumen.full({ 1, 1, 6, 5 }, 3)
  for _, mode in ipairs { "nearest", "bilinear", "bicubic" } do
    for _, size in ipairs { { 12, 10 }, { 4, 7 }, { 1, 1 } } do
      local y = x:resize { size = size, mode = mode, antialias = mode ~= "nearest" }
      helper.assert_close(y, lumen.full({ 1, 1, size[1], size[2] }, 3), 1e-6, mode)
    end
  end
end

function TestResize.test_the_gradient_is_the_adjoint()
  local rng = { seed = 5, stream = "resize" }
  local x = lumen.rand({ 2, 3, 14, 14 }, { dtype = "f64", rng = rng })
  local y = lumen.rand({ 2, 3, 28, 28 }, { dtype = "f64", rng = { seed = 6, stream = "resize" } })
  x.requires_grad = true
  local up = x:resize { size = { 28, 28 } }
  local left = (up * y):sum()
  left:backward()
  local right = (x:detach() * x.grad):sum():item()
  lu.assertAlmostEquals(left:item(), right, 1e-10 * math.abs(right))
end

helper.run()
