-- Which patches the encoder does not see. Every masking is a function
--   f(guide, { ratio =, share =, grid = {rows, cols}, rng =, count =, ... })
-- guide [N, 1, H, W] >= 0: how much each pixel matters (may be nil where it is not used; then
-- count = N); ratio: share of patches to hide; share: the share of these that the guide is to
-- choose; rng: the stream to draw from, { seed =, stream =, step = }. It returns
--   keep i64 [N, K], masked i64 [N, M]: 0-based patch numbers (L = K + M)
--   restore i64 [N, L]: where patch i stands in keep followed by masked
--   mask f32 [N, L]: 1 = masked, in patch order
-- K = floor(L * (1 - ratio)) in double precision. A strategy of your own is a Lua file that
-- returns such a function, given as masking=file.lua: give every patch a score and hide the
-- highest (tests/fixtures/masking_rim.lua is a whole one):
--   > local lumen = require "lumen"
--   > local function darkest_guide(guide, o)
--   >   local weight = lumen.masking.weights(guide, o.grid)               -- [N, L]
--   >   local noise = lumen.rand(weight.shape, { rng = o.rng })
--   >   return lumen.masking.hide(noise - weight:gt(0):cast("f32"), o.ratio)
--   > end
--   > local guide = lumen.zeros { 1, 1, 8, 8 }
--   > guide:slice(3, 1, 4):fill_(1)                                       -- the upper half
--   > local m = darkest_guide(guide, { ratio = 0.5, grid = { 4, 4 }, rng = { stream = "m" } })
--   > print(m.mask:slice(2, 9, 16):sum():item())
--   8.0
local core = require "lumen.core"

local masking = {}

-- How many of L patches are kept and masked, and how many masked ones the guide chooses.
-- The products are truncated in double precision, as in the published code.
-- -> int, int, int
--   > print(lumen.masking.counts(196, 0.75, 0.25))
--   49  147  36
function masking.counts(length, ratio, share)
  local keep = math.tointeger(length * (1 - ratio) // 1)
  local masked = length - keep
  return keep, masked, math.tointeger(masked * share // 1)
end

-- Positions of the entries of each row in its ascending order (a permutation, 0-based).
local function rank(x) return core.argsort(core.argsort(x, { dim = 2 }), { dim = 2 }) end

-- What a masking returns, from mask f32 [N, L] with `keep` zeros in every row.
local function from_mask(mask, keep)
  local order = core.argsort(mask, { dim = 2 })  -- stable: kept patches first, ascending
  return {
    keep = order:slice(2, 1, keep):contiguous(),
    masked = order:slice(2, keep + 1, mask.shape[2]):contiguous(),
    restore = core.argsort(order, { dim = 2 }),
    mask = mask,
  }
end

-- Checks the options of masking `name`; returns N and L.
local function begin(name, guide, o)
  if not (o.ratio > 0 and o.ratio < 1) then
    error(("masking.%s: ratio must lie between 0 and 1, it is %s"):format(name, o.ratio), 3)
  end
  local count = guide and guide.shape[1] or o.count
  if not count then error(("masking.%s: it needs a guide or count"):format(name), 3) end
  return count, o.grid[1] * o.grid[2]
end

-- Hide the M = L - floor(L * (1 - ratio)) patches of the highest score [N, L] (of equal ones
-- those with lower numbers): the last step of most maskings.
-- -> mask
--   > local m = lumen.masking.hide(lumen.tensor { { 5, 1, 7, 3 } }, 0.5)
--   > print(m.masked:totable()[1][1], m.masked:totable()[1][2])
--   0  2
function masking.hide(score, ratio)
  local keep, masked = masking.counts(score.shape[2], ratio, 0)
  return core.no_grad(function()
    return from_mask(core.lt(rank(-score:detach()), masked):cast("f32"), keep)
  end)
end

-- Sum of the guide [N, 1, H, W] over each patch of the grid: [N, L].
-- -> tensor
--   > print(lumen.masking.weights(lumen.ones { 1, 1, 8, 8 }, { 2, 2 }):max():item())
--   16.0
function masking.weights(guide, grid)
  if not guide then error("masking: it needs a guide [N, 1, H, W]", 2) end
  local rows, cols = grid[1], grid[2]
  local patch = guide.shape[3] // rows
  if guide.shape[3] ~= rows * patch or guide.shape[4] ~= cols * patch then
    error(("masking: a guide of %d x %d has no grid of %d x %d square patches"):format(
      guide.shape[3], guide.shape[4], rows, cols), 2)
  end
  return core.patch_sum(guide:detach(), { patch = patch })
end

-- Scores [N, L] whose descending order draws the patches without replacement, each time with
-- probability proportional to weight [N, L] >= 0: log(u) / weight (Efraimidis and Spirakis
-- 2006). Patches of weight 0 come last, in random order.
-- -> tensor
--   > local weight = lumen.tensor { { 0, 0, 3, 1 } }
--   > local m = lumen.masking.hide(lumen.masking.lottery(weight, { stream = "m" }), 0.5)
--   > print(m.mask:totable()[1][3], m.mask:totable()[1][4])
--   1.0  1.0
function masking.lottery(weight, rng)
  local n, length = weight.shape[1], weight.shape[2]
  return core.no_grad(function()
    local noise = core.rand({ 2 * n, length }, { rng = rng })
    local last = noise:slice(1, n + 1, -1) * -1e30 - 1e30
    return core.where(core.gt(weight, 0), noise:slice(1, 1, n):log() / weight, last)
  end)
end

-- Uniformly random (He et al. 2022).
-- -> mask
--   > local o = { ratio = 0.75, grid = { 4, 4 }, count = 2, rng = { stream = "m" } }
--   > print(lumen.masking.random(nil, o).mask:sum():item())
--   24.0
function masking.random(guide, o)
  local n, length = begin("random", guide, o)
  local keep, masked = masking.counts(length, o.ratio, 0)
  return core.no_grad(function()
    local noise = core.rand({ n, length }, { rng = o.rng })
    return from_mask(core.lt(rank(noise), masked):cast("f32"), keep)
  end)
end

-- Anatomy-guided (VasoMIM): the share `share` of the masked patches is drawn without
-- replacement with probability proportional to the guide's sum over the patch, the others
-- uniformly from the rest. Patches of weight 0 are never drawn by the guide, so a sample with
-- an empty guide is masked at random. `guided` f32 [N, L] in the result: what the guide chose.
-- -> mask
--   > local guide = lumen.zeros { 1, 1, 8, 8 }
--   > guide:slice(3, 1, 4):fill_(1)
--   > local o = { ratio = 0.5, share = 1, grid = { 4, 4 }, rng = { stream = "m" } }
--   > print(lumen.masking.guided(guide, o).mask:slice(2, 1, 8):sum():item())
--   8.0
function masking.guided(guide, o)
  local n, length = begin("guided", guide, o)
  local weight = masking.weights(guide, o.grid)
  local keep, masked, guided = masking.counts(length, o.ratio, o.share)
  return core.no_grad(function()
    local noise = core.rand({ 2 * n, length }, { rng = o.rng })
    local draw, rest = noise:slice(1, 1, n), noise:slice(1, n + 1, -1)
    local weighted = core.gt(weight, 0)
    local key = core.where(weighted, draw:log():neg() / weight, core.tensor(math.huge))
    local chosen = core.where(weighted, core.lt(rank(key), guided):cast("f32"), core.tensor(0.0))
    local mask = core.lt(rank(rest - chosen), masked):cast("f32")
    local result = from_mask(mask, keep)
    result.guided = chosen
    return result
  end)
end

local rectangles = 32

-- Random rectangles per sample as tensors [N, R, 1]: top, left, height, width. Areas are
-- uniform from 1/12 to 1/4 of the grid, aspects log-uniform from 0.3 to 1 / 0.3. They may hang
-- over the border: else its patches would hardly ever be hidden.
local function draw_rectangles(n, rows, cols, rng)
  local u = core.rand({ 4, n, rectangles, 1 }, { rng = rng })
  local area = (u[1] * (1 / 4 - 1 / 12) + 1 / 12) * (rows * cols)
  local aspect = ((u[2] * 2 - 1) * math.log(1 / 0.3)):exp()
  local h = (area * aspect):sqrt():round():clamp({ min = 1, max = rows })
  local w = (area / aspect):sqrt():round():clamp({ min = 1, max = cols })
  local top = (u[3] * (rows - 1 + h) + 1 - h):floor()
  return top, (u[4] * (cols - 1 + w) + 1 - w):floor(), h, w
end

-- Rows and columns of the patches as f32 [1, 1, L].
local function coordinates(rows, cols)
  local index = core.arange(rows * cols):to("f32")
  local y = (index / cols):floor()
  return y:reshape({ 1, 1, -1 }), (index - y * cols):reshape({ 1, 1, -1 })
end

-- Rectangles of patches, one after the other until enough is hidden (after Bao et al. 2022);
-- the last one from its centre outwards, so that the number is exact.
-- -> mask
--   > local o = { ratio = 0.5, grid = { 8, 8 }, count = 3, rng = { stream = "m" } }
--   > print(lumen.masking.block(nil, o).mask:sum():item())
--   96.0
function masking.block(guide, o)
  local n, length = begin("block", guide, o)
  return core.no_grad(function()
    local rows, cols = o.grid[1], o.grid[2]
    local top, left, h, w = draw_rectangles(n, rows, cols, o.rng)
    local y, x = coordinates(rows, cols)
    local dy = ((y - top - (h - 1) / 2) / h):abs()
    local dx = ((x - left - (w - 1) / 2) / w):abs()
    local distance = core.maximum(dy, dx)                                -- inside: below 1/2
    local turn = core.arange(rectangles):to("f32"):reshape({ 1, -1, 1 })
    local score = core.where(core.lt(distance, 0.5), rectangles + 1 - turn - distance,
      core.tensor(0.0)):max(2)                                           -- [N, L]
    local noise = core.rand({ n, length }, { rng = o.rng })
    return masking.hide(core.where(core.gt(score, 0), score, noise * 0.5), o.ratio)
  end)
end

-- Ordered-dither ranks of a side x side square, side a power of two, as rows of numbers: its
-- lowest quarter is one patch of every 2 x 2, the lowest sixteenth one of every 4 x 4, ...
local function dither(side)
  local values = {}
  for y = 0, side - 1 do
    for x = 0, side - 1 do
      local v, bit = 0, side >> 1
      local a, b = x ~ y, y
      while bit > 0 do                                                   -- bits reversed
        v = v << 2 | (a & 1) << 1 | b & 1
        a, b, bit = a >> 1, b >> 1, bit >> 1
      end
      values[#values + 1] = { v }
    end
  end
  return core.tensor(values, { dtype = "f32" })
end

-- A regular lattice with a random offset per sample. ratio 0.75 keeps one patch of every 2 x 2,
-- as the grid-wise masking of He et al. 2022; other ratios keep the lattice's first K patches
-- in the order of an ordered dither, which spreads them as evenly as it goes.
-- -> mask
--   > local o = { ratio = 0.75, grid = { 2, 2 }, count = 5, rng = { stream = "m" } }
--   > print(lumen.masking.grid(nil, o).mask:sum():item())
--   15.0
function masking.grid(guide, o)
  local n = begin("grid", guide, o)
  local rows, cols = o.grid[1], o.grid[2]
  local side = 1
  while side < math.max(rows, cols) do side = side * 2 end
  return core.no_grad(function()
    local y, x = coordinates(rows, cols)
    local offset = (core.rand({ 2, n, 1 }, { rng = o.rng }) * side):floor()
    local function around(v) return core.where(core.ge(v, side), v - side, v) end
    local row, col = around(y[1] + offset[1]), around(x[1] + offset[2])  -- [N, L]
    local index = (row * side + col):to("i64")
    return masking.hide(core.embedding(dither(side), index):select(3, 1), o.ratio)
  end)
end

-- A tensor given as itself or as a function that makes it.
local function value_of(x)
  if type(x) == "function" then return x() end
  return x
end

-- The hardest patches: the `share` of the masked ones with the highest o.errors [N, L] (or a
-- function that returns them: a reconstruction error per patch), the others uniformly from the
-- rest; without errors the guide's sum says what is hard, where it is above 0. Nothing is drawn
-- by weight: HPM's rule (Wang et al. 2023), with whatever error the caller measures instead of
-- a predicted one.
-- -> mask
--   > local errors = lumen.tensor { { 1, 9, 2, 8 } }
--   > local o = { ratio = 0.5, share = 1, grid = { 2, 2 }, count = 1, errors = errors }
--   > o.rng = { stream = "m" }
--   > local hidden = lumen.masking.hardest(nil, o).masked:totable()[1]
--   > print(hidden[1], hidden[2])
--   1  3
function masking.hardest(guide, o)
  local n, length = begin("hardest", guide, o)
  local errors = value_of(o.errors)
  local score = errors or masking.weights(guide, o.grid)
  local _, _, hard = masking.counts(length, o.ratio, o.share or 1)
  return core.no_grad(function()
    local noise = core.rand({ n, length }, { rng = o.rng })
    local chosen = core.lt(rank(-score:detach()), hard):cast("f32")
    if not errors then chosen = chosen * core.gt(score, 0):cast("f32") end
    return masking.hide(noise + chosen, o.ratio)
  end)
end

-- All masked patches drawn without replacement with probability proportional to o.attention
-- [N, L] (or a function that returns it): the masking of AMT (Liu et al. 2023), which further
-- throws patches away; that is not done here.
-- -> mask
--   > local o = { ratio = 0.5, grid = { 2, 2 }, count = 1, rng = { stream = "m" } }
--   > o.attention = lumen.tensor { { 0, 1, 1, 0 } }
--   > local hidden = lumen.masking.attention(nil, o).masked:totable()[1]
--   > print(hidden[1], hidden[2])
--   1  2
function masking.attention(guide, o)
  begin("attention", guide, o)
  local weight = value_of(o.attention)
  if not weight then
    error("masking.attention: it needs the attention of the model (recipe vasomim gives it)", 2)
  end
  return masking.hide(masking.lottery(weight, o.rng), o.ratio)
end

-- Names, in the order of the documentation.
--   > table.concat(lumen.masking.names, " ")
--   random guided block grid hardest attention
masking.names = { "random", "guided", "block", "grid", "hardest", "attention" }

-- The names as one text, for messages.
-- -> str
--   > lumen.masking.list
--   random, guided, block, grid, hardest, attention
masking.list = table.concat(masking.names, ", ")

-- Maskings that look at the guide; files are taken to.
-- -> bool
--   > lumen.masking.uses_guide "guided", lumen.masking.uses_guide "random"
--   true
--   false
function masking.uses_guide(name) return name == "guided" or name:match("%.lua$") ~= nil end

local origin = setmetatable({}, { __mode = "k" }) -- function -> name or file
for _, name in ipairs(masking.names) do origin[masking[name]] = name end

-- A masking by name, or from a Lua file that returns such a function. Errors: no such name or
-- file, a file that does not load or returns something else.
-- -> function
--   > print(lumen.masking.find("block") == lumen.masking.block)
--   true
function masking.find(name)
  if name:match("%.lua$") then
    if not core.fs.exists(name) then error(("masking: there is no file %s"):format(name), 0) end
    local f = dofile(name)
    if type(f) ~= "function" then
      error(("masking: %s returns a %s, not a function(guide, options)"):format(name, type(f)), 0)
    end
    origin[f] = name
    return f
  end
  for _, known in ipairs(masking.names) do
    if known == name then return masking[known] end
  end
  local near = require("lumen.options").nearest(name, masking.names)
  error(("no masking %q (%s, or a .lua file)%s"):format(name, masking.list,
    near and ("\nhint: did you mean %s?"):format(near) or ""), 0)
end

-- Complain about what a function that is not ours returned.
local function check(f, result, n, length, ratio)
  local function complain(text, ...)
    error(("masking %s: "):format(origin[f] or "function") .. text:format(...), 0)
  end
  if type(result) ~= "table" then
    complain("it must return {keep=, masked=, restore=, mask=}, not a %s", type(result))
  end
  local keep, masked = masking.counts(length, ratio, 0)
  for _, field in ipairs { { "keep", "i64", keep }, { "masked", "i64", masked },
                           { "restore", "i64", length }, { "mask", "f32", length } } do
    local name, x = field[1], result[field[1]]
    if not core.is_tensor(x) then complain("%s must be a tensor, not %s", name, type(x)) end
    local shape = table.concat(x.shape, " x ")
    if x.dtype ~= field[2] or #x.shape ~= 2 or x.shape[1] ~= n or x.shape[2] ~= field[3] then
      complain("%s must be %s [%d x %d] (ratio %g of %d patches), not %s [%s]", name, field[2], n,
        field[3], ratio, length, x.dtype, shape)
    end
  end
  local order = core.cat({ result.keep, result.masked }, { dim = 2 })
  local sorted = core.sort(order, { dim = 2 })
  if core.ne(sorted, core.arange(length):to(order.device)):max():item() ~= 0 then
    complain("keep and masked must together name each patch 0 to %d once", length - 1)
  end
  if core.ne(core.argsort(order, { dim = 2 }), result.restore):max():item() ~= 0 then
    complain("restore does not say where each patch stands in keep followed by masked")
  end
  if core.ne(core.ge(result.restore, keep):cast("f32"), result.mask):max():item() ~= 0 then
    complain("mask must be 1 for the patches in masked and 0 for the others")
  end
end

-- Call masking f, and check what it returned unless it is one of these. unit > 1 in the
-- options: f sees a grid of squares of unit x unit patches, whole squares are hidden (SimMIM);
-- then K is unit^2 * floor(squares * (1 - ratio)). Masks are drawn on the CPU, where so small a
-- thing is quickest; the result is on the guide's device, or on that named by device. Errors: a
-- result of another form, by what is wrong; a grid that units do not divide.
--   > local o = { ratio = 0.5, grid = { 4, 4 }, count = 1, unit = 2, rng = { stream = "m" } }
--   > print(lumen.masking.draw(lumen.masking.random, nil, o).mask:sum():item())
--   8.0
function masking.draw(f, guide, o)
  local n, unit = guide and guide.shape[1] or o.count, o.unit or 1
  local device = guide and guide.device or o.device or "cpu"
  local function there(result)
    for name, x in next, result do
      if core.is_tensor(x) then result[name] = x:to(device) end
    end
    return result
  end
  local rows, cols = o.grid[1], o.grid[2]
  if rows % unit ~= 0 or cols % unit ~= 0 then
    error(("masking: a grid of %d x %d patches is not made of units of %d x %d"):format(
      rows, cols, unit, unit), 0)
  end
  rows, cols = rows // unit, cols // unit
  local options = setmetatable({ grid = { rows, cols } }, { __index = o })
  for _, name in ipairs { "errors", "attention" } do
    options[name] = o[name] and function() return o[name]():to("cpu") end
  end
  if o.image then options.image = o.image:to("cpu") end
  local result = f(guide and guide:detach():to("cpu"), options)
  local known = origin[f] and masking[origin[f]] == f
  if not known then check(f, result, n, rows * cols, o.ratio) end
  if unit == 1 then return there(result) end
  return core.no_grad(function()
    local mask = result.mask:reshape({ n, rows, 1, cols, 1 })
      :expand({ n, rows, unit, cols, unit }):contiguous():reshape({ n, rows * cols * unit * unit })
    return there(from_mask(mask, result.keep.shape[2] * unit * unit))
  end)
end

return masking
