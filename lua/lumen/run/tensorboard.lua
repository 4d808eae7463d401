-- TensorBoard event files: scalars, images and histograms, written without any library.
--
-- The file is a row of TFRecords: length (8 bytes), masked CRC-32C of it (4), the record, masked
-- CRC-32C of that (4), all little-endian. A record is an Event in protobuf encoding; field
-- numbers are those of tensorflow's event.proto and summary.proto.
local core = require "lumen.core"

local tensorboard = {}

-- ---- records ----

local crc_table = {}
for i = 0, 255 do
  local c = i
  for _ = 1, 8 do c = c & 1 == 1 and 0x82f63b78 ~ (c >> 1) or c >> 1 end
  crc_table[i] = c
end

-- CRC-32C (Castagnoli) of a string.
--   > ("%08x"):format(require("lumen.run.tensorboard").crc32c("123456789"))
--   e3069283
function tensorboard.crc32c(text)
  local crc, lookup, byte = 0xffffffff, crc_table, string.byte
  for i = 1, #text do crc = lookup[(crc ~ byte(text, i)) & 255] ~ (crc >> 8) end
  return crc ~ 0xffffffff
end

local function masked(text)
  local crc = tensorboard.crc32c(text)
  return (((crc >> 15) | (crc << 17)) + 0xa282ead8) & 0xffffffff
end

local function record(data)
  local length = ("<I8"):pack(#data)
  return length .. ("<I4"):pack(masked(length)) .. data .. ("<I4"):pack(masked(data))
end

-- The next record that is whole and true, from byte `at` on: its content and the byte after it;
-- nil at the end or where the file is torn.
function tensorboard.next_record(text, at)
  if at + 12 > #text then return nil end
  local length, check = ("<I8I4"):unpack(text, at)
  if masked(text:sub(at, at + 7)) ~= check or length < 0 or at + 15 + length > #text then return nil end
  local data = text:sub(at + 12, at + 11 + length)
  if masked(data) ~= ("<I4"):unpack(text, at + 12 + length) then return nil end
  return data, at + 16 + length
end

-- ---- protobuf ----

local function varint(n)
  local bytes = {}
  repeat
    local low = n & 127
    n = n >> 7
    bytes[#bytes + 1] = string.char(n ~= 0 and low | 128 or low)
  until n == 0
  return table.concat(bytes)
end

local function key(field, wire) return varint(field << 3 | wire) end
local function integer(field, n) return key(field, 0) .. varint(n) end
local function double(field, x) return key(field, 1) .. ("<d"):pack(x) end
local function float(field, x) return key(field, 5) .. ("<f"):pack(x) end
local function bytes(field, text) return key(field, 2) .. varint(#text) .. text end
local function doubles(field, list)
  local packed = {}
  for i, x in ipairs(list) do packed[i] = ("<d"):pack(x) end
  return bytes(field, table.concat(packed))
end

local function event(time, step, what)
  return record(double(1, time) .. integer(2, step) .. what)
end

-- The step of an Event, 0 when it names none.
local function step_of(data)
  local at = 1
  local function number()
    local n, shift = 0, 0
    while true do
      local b = data:byte(at) or 0
      at = at + 1
      n = n | (b & 127) << shift
      if b < 128 or shift > 56 then return n end
      shift = shift + 7
    end
  end
  while at <= #data do
    local tag = number()
    local field, wire = tag >> 3, tag & 7
    if field == 2 and wire == 0 then return number() end
    if wire == 0 then number()
    elseif wire == 1 then at = at + 8
    elseif wire == 5 then at = at + 4
    else at = number() + at end
  end
  return 0
end

local function histogram_proto(h)
  local counts, limits = {}, {}
  for i, count in ipairs(h.counts) do counts[i], limits[i] = count, h.edges[i + 1] end
  return double(1, h.min) .. double(2, h.max) .. double(3, h.count) .. double(4, h.sum)
    .. double(5, h.squares) .. doubles(6, limits) .. doubles(7, counts)
end

-- ---- the file ----

local Board = {}
Board.__index = Board

-- The records up to step `last`; later and torn ones are gone.
local function cut(path, last)
  local text, at = core.fs.read(path), 1
  while true do
    local data, after = tensorboard.next_record(text, at)
    if not data or step_of(data) > last then break end
    at = after
  end
  if at <= #text then core.fs.write(path, text:sub(1, at - 1)) end
  return at > 1
end

local function existing(dir)
  for _, name in ipairs(core.fs.list(dir)) do
    if name:match("^events%.out%.tfevents%.") then return dir .. "/" .. name end
  end
end

-- The event file of a run directory: a new one, or the one there is, cut after step `last`.
-- total: how many steps the run will have (histograms are drawn about 20 times).
function tensorboard.open(dir, last, total)
  local path = existing(dir)
  local begun = path and cut(path, last)
  path = path or ("%s/events.out.tfevents.%010d.lumen"):format(dir, os.time())
  local file, message = io.open(path, "ab")
  if not file then error(message, 0) end
  file:setvbuf("full", 65536)
  local board = setmetatable({ file = file, path = path, flushed = core.time(),
    every = math.max(1, total // 20), offset = os.time() - core.time() }, Board)
  if not begun then board:write(record(double(1, os.time()) .. bytes(3, "brain.Event:2"))) end
  return board
end

function Board:write(text)
  local ok, message = self.file:write(text)
  if not ok then error(("%s: %s"):format(self.path, message), 0) end
  if core.time() - self.flushed > 5 then self:flush() end
end

function Board:flush()
  self.file:flush()
  self.flushed = core.time()
end

function Board:close() self.file:close() end

-- values: list of serialised Summary.Value; one event.
function Board:summary(step, values)
  if #values == 0 then return end
  for i, value in ipairs(values) do values[i] = bytes(1, value) end
  self:write(event(self.offset + core.time(), step, bytes(5, table.concat(values))))
end

-- fields: list of { name, number }; others are passed over.
function Board:scalars(step, fields)
  local values = {}
  for _, field in ipairs(fields) do
    if type(field[2]) == "number" and field[1] ~= "step" then
      values[#values + 1] = bytes(1, field[1]) .. float(2, field[2])
    end
  end
  self:summary(step, values)
end

-- A PNG file as an image.
function Board:image(step, name, png, height, width, channels)
  self:summary(step, { bytes(1, name) .. bytes(4, integer(1, height) .. integer(2, width)
    .. integer(3, channels) .. bytes(4, png)) })
end

-- Are histograms due at this step?
function Board:draws(step) return step == 1 or step % self.every == 0 end

-- Histograms of all learned parameters and their gradients (times `scale`), before they are used.
function Board:histograms(step, model, scale)
  local values = {}
  core.scope(function()
    for _, p in ipairs(model:named_parameters()) do
      if p.trainable then
        local function add(group, x)
          values[#values + 1] = bytes(1, group .. "/" .. p.name)
            .. bytes(5, histogram_proto(core.histogram(x)))
        end
        add("parameters", p.tensor)
        if p.tensor.grad then
          add("gradients", scale == 1 and p.tensor.grad or p.tensor.grad:detach() * scale)
        end
      end
    end
  end)
  self:summary(step, values)
end

return tensorboard
