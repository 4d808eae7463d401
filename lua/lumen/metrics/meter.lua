-- An evaluation over images: every metric per image, their means, and the same metrics of all
-- pixels together.
--   > local meter = lumen.metrics.meter()
--   > local a, b = lumen.ones { 4, 4 }, lumen.zeros { 4, 4 }
--   > meter:add(a, a, "same")
--   > meter:add(a, b, "other")
--   > print(meter:mean().dice, ("%.4f"):format(meter:pooled().dice))
--   0.5	0.6667
-- With classes = { "1", "1a", ... } masks hold class numbers 0 (background) to #classes, and
-- every mean is the mean over the classes of their means over the images.
local core = require "lumen.core"
local metrics = require "lumen.metrics.segmentation"

local Meter = {}
Meter.__index = Meter

local distance = { hd95 = true, assd = true }

-- options: classes (list of names; nil: masks are binary), empty = "default" | "skip" | number:
-- what a NaN counts. The default is 1 where both masks are empty and 0 where one is; with
-- classes, a class that is in neither mask is left out instead. Distances have no such values:
-- where they are undefined they are always left out. overlap = true: only what needs no centre
-- lines and no surfaces.
local function new(options)
  options = options or {}
  local classes, empty = options.classes, options.empty
  if empty == "default" then empty = nil elseif empty ~= "skip" then empty = tonumber(empty) end
  local meter = { classes = classes or { "" }, multi = classes ~= nil, empty = empty, images = 0,
                  overlap = options.overlap, rows = {}, of_class = {},
                  names = options.overlap and metrics.overlap_names or metrics.names }
  for k = 1, #meter.classes do meter.of_class[k] = {} end
  return setmetatable(meter, Meter)
end

-- One image: pred and truth [H, W], a name for the table of images.
function Meter:add(pred, truth, name)
  self.images = self.images + 1
  for k, class in ipairs(self.classes) do
    local p, t = pred, truth
    if self.multi then p, t = core.eq(pred, k), core.eq(truth, k) end
    core.scope(function()
      local row = self.overlap and metrics.of_parts(metrics.counts(p, t)) or metrics.measure(p, t)
      row.name, row.class = name, class
      for i, d in ipairs(row.distances or {}) do row.distances[i] = d:totable() end -- leaves the scope
      if not (self.multi and row.both_empty) then self.rows[#self.rows + 1] = row end
      table.insert(self.of_class[k], row)
    end)
  end
end

-- What one value counts in a mean; nil: it is left out.
local function counted(self, row, name)
  local value = row[name]
  if value == value then return value end
  if distance[name] or self.empty == "skip" then return nil end
  if self.empty then return self.empty end
  if row.both_empty then return not self.multi and 1 or nil end
  return 0
end

local function mean_of(self, rows, name)
  local sum, count = 0, 0
  for _, row in ipairs(rows) do
    local value = counted(self, row, name)
    if value then sum, count = sum + value, count + 1 end
  end
  return count > 0 and sum / count or 0 / 0
end

-- name -> value of a function over the classes that have one, averaged over the classes.
local function over_classes(self, value)
  local result = {}
  for _, name in ipairs(self.names) do
    local sum, count = 0, 0
    for k = 1, #self.classes do
      local v = value(k, name)
      if v == v then sum, count = sum + v, count + 1 end
    end
    result[name] = count > 0 and sum / count or 0 / 0
  end
  return result
end

-- Means over the images: name -> value.
function Meter:mean()
  return over_classes(self, function(k, name) return mean_of(self, self.of_class[k], name) end)
end

-- The means of every class: list of { class = name, images = how many show it, name -> value }.
function Meter:per_class()
  local list = {}
  for k, class in ipairs(self.classes) do
    local row = { class = class, images = 0 }
    for _, image in ipairs(self.of_class[k]) do
      if image.counts.tp + image.counts.fn > 0 then row.images = row.images + 1 end
    end
    for _, name in ipairs(self.names) do row[name] = mean_of(self, self.of_class[k], name) end
    list[k] = row
  end
  return list
end

-- Sums over the images of one class as one measurement.
local function pool(rows)
  local counts, lines = { tp = 0, fp = 0, fn = 0, tn = 0 }, { p = 0, p_hit = 0, t = 0, t_hit = 0 }
  local distances = {}
  for _, row in ipairs(rows) do
    for key, value in next, row.counts do counts[key] = counts[key] + value end
    for key, value in next, row.lines or {} do lines[key] = lines[key] + value end
    local a, b = table.unpack(row.distances or { {}, {} })
    if #a > 0 and #b > 0 then
      table.move(a, 1, #a, #distances + 1, distances)
      table.move(b, 1, #b, #distances + 1, distances)
    end
  end
  local all = core.sort(core.tensor(distances, { dtype = "f64" }))
  return metrics.of_parts(counts, lines, all, all)
end

-- The metrics of all pixels of all images together: name -> value. Distances: of all surfaces
-- of the images where both masks have one.
function Meter:pooled()
  local pools = {}
  for k = 1, #self.classes do pools[k] = pool(self.of_class[k]) end
  return over_classes(self, function(k, name) return counted(self, pools[k], name) or 0 / 0 end)
end

-- Images from the best to the worst by dice: a list of their numbers in the order of adding.
function Meter:ranking()
  local order, value = {}, {}
  for i = 1, self.images do
    local sum, count = 0, 0
    for k = 1, #self.classes do
      local v = counted(self, self.of_class[k][i], "dice")
      if v then sum, count = sum + v, count + 1 end
    end
    order[i], value[i] = i, count > 0 and sum / count or -1
  end
  table.sort(order, function(a, b)
    if value[a] ~= value[b] then return value[a] > value[b] end
    return a < b
  end)
  return order
end

local function quote(text)
  return text:find('[",\n]') and '"' .. text:gsub('"', '""') .. '"' or text
end

local function csv_line(cells, names, row)
  for _, name in ipairs(names) do
    local v = row[name]
    cells[#cells + 1] = v == v and ("%.6g"):format(v) or ""
  end
  return table.concat(cells, ",") .. "\n"
end

-- A CSV table: one line per image (and class that is in one of the masks), undefined values
-- left empty.
function Meter:csv()
  local head = self.multi and "image,class," or "image,"
  local lines = { head .. table.concat(self.names, ",") .. "\n" }
  for _, row in ipairs(self.rows) do
    local cells = { quote(tostring(row.name or "")) }
    if self.multi then cells[2] = quote(row.class) end
    lines[#lines + 1] = csv_line(cells, self.names, row)
  end
  return table.concat(lines)
end

-- The same with one line per class.
function Meter:class_csv()
  local lines = { "class,images," .. table.concat(self.names, ",") .. "\n" }
  for _, row in ipairs(self:per_class()) do
    lines[#lines + 1] = csv_line({ quote(row.class), row.images }, self.names, row)
  end
  return table.concat(lines)
end

return new
