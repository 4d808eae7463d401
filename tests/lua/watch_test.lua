-- Watching a run: the progress line, and TensorBoard's event file (decoded here, and by
-- TensorBoard's own reader where a python3 has it: LUMEN_PYTHON names another one).
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local progress = require "lumen.run.progress"
local tensorboard = require "lumen.run.tensorboard"
local nn = lumen.nn

io.stderr:setvbuf("full")

-- Ten steps, two a epoch, with a picture an epoch. stop_at: raise in that batch.
local function toy(stop_at)
  local recipe = lumen.recipe { name = "toy", about = "For the tests.",
    options = { { "size", 16 }, { "images", 4 }, { "batch", 2 }, { "epochs", 5 }, { "lr", 1.0 },
                { "workers", 1 } } }
  function recipe:run(o, run)
    local source, subset = lumen.data.source("phantom", { split = "train", count = o.images })
    run.loader = lumen.data.loader { source = source, subset = subset, batch = o.batch,
      size = o.size, seed = o.seed, threads = 1, shuffle = true, drop_last = true }
    run.model = nn.Sequential { nn.Conv2d(3, 2, 3, { padding = 1 }) }
    run.model:initialize(o.seed)
    run.optimizer = lumen.optim.sgd(run.model)
    local count = 0
    for epoch in run:epochs() do
      for batch in run:batches(epoch) do
        count = count + 1
        if count == stop_at then error("stopped on purpose") end
        local l = run.model(batch.image):square():mean()
        if count == 3 and not stop_at then l = l * (0 / 0) end
        run:step(l, { part = count / 3 })
        if run.last_of_epoch then
          run:image("epoch_" .. epoch, lumen.full({ 3, 4, 3 }, 10 * epoch, { dtype = "u8" }))
        end
      end
    end
    return { loss = run.state.loss }
  end
  return recipe
end

local function event_file(dir)
  local found = {}
  for _, name in ipairs(lumen.fs.list(dir)) do
    if name:match("^events%.out%.tfevents%.") then found[#found + 1] = dir .. "/" .. name end
  end
  lu.assertEquals(#found, 1)
  return found[1]
end

-- ---- a decoder of its own ----

-- Fields of a protobuf message: list of { number, value }; doubles and floats as bytes.
local function fields(text)
  local list, at = {}, 1
  local function number()
    local n, shift = 0, 0
    while true do
      local b = text:byte(at)
      at = at + 1
      n = n | (b & 127) << shift
      shift = shift + 7
      if b < 128 then return n end
    end
  end
  while at <= #text do
    local tag = number()
    local wire, value = tag & 7, nil
    if wire == 0 then value = number()
    else
      local size = wire == 1 and 8 or wire == 5 and 4 or number()
      value = text:sub(at, at + size - 1)
      at = at + size
    end
    list[#list + 1] = { tag >> 3, value }
  end
  return list
end

local function field(message, number)
  for _, f in ipairs(fields(message)) do
    if f[1] == number then return f[2] end
  end
end

-- Everything in the file: rows { step =, tag =, scalar = | image = | histogram = }.
local function decode(path)
  local text, rows, at = lumen.fs.read(path), {}, 1
  while at <= #text do
    local length = ("<I8"):unpack(text, at)
    local data = text:sub(at + 12, at + 11 + length)
    for start, part in next, { [at + 8] = text:sub(at, at + 7), [at + 12 + length] = data } do
      local crc = tensorboard.crc32c(part)
      lu.assertEquals(("<I4"):unpack(text, start),
        (((crc >> 15) | (crc << 17)) + 0xa282ead8) & 0xffffffff)
    end
    at = at + 16 + length
    local step, summary = field(data, 2) or 0, field(data, 5)
    lu.assertTrue(("<d"):unpack(field(data, 1)) > 1e9)
    if not summary then rows[#rows + 1] = { step = step, version = field(data, 3) } end
    for _, f in ipairs(summary and fields(summary) or {}) do
      local value = f[2]
      rows[#rows + 1] = { step = step, tag = field(value, 1), image = field(value, 4),
        histogram = field(value, 5), scalar = field(value, 2) and ("<f"):unpack(field(value, 2)) }
    end
  end
  return rows
end

local function log_of(dir)
  local rows = {}
  for line in io.lines(dir .. "/log.jsonl") do rows[#rows + 1] = lumen.json.decode(line) end
  return rows
end

local function single(x) return (("<f"):unpack(("<f"):pack(x))) end

TestBoard = {}

function TestBoard:setUp() self.dir = helper.temporary_folder() end
function TestBoard:tearDown() helper.remove_folder(self.dir) end

function TestBoard:test_checksum()
  lu.assertEquals(tensorboard.crc32c(""), 0)
  lu.assertEquals(tensorboard.crc32c("123456789"), 0xe3069283)
  lu.assertEquals(tensorboard.crc32c(("\0"):rep(32)), 0x8a9136aa) -- RFC 3720, B.4
  lu.assertEquals(tensorboard.crc32c(("\xff"):rep(32)), 0x62a8ab43)
end

function TestBoard:test_scalars_are_those_of_the_log()
  local dir = self.dir .. "/a"
  toy():start { out = dir }
  local log, seen = log_of(dir), 0
  for _, row in ipairs(decode(event_file(dir))) do
    if row.scalar then
      local expected = log[row.step][row.tag]
      if expected == lumen.json.null then lu.assertTrue(row.scalar ~= row.scalar)
      else lu.assertEquals(row.scalar, single(expected), row.tag) end
      seen = seen + 1
    end
  end
  lu.assertEquals(seen, 10 * 7) -- epoch loss part lr grad_norm images_per_s data_wait
end

function TestBoard:test_images_and_histograms()
  local dir = self.dir .. "/a"
  toy():start { out = dir }
  local images, histograms = 0, 0
  local rows = decode(event_file(dir))
  lu.assertEquals(rows[1].version, "brain.Event:2")
  for _, row in ipairs(rows) do
    if row.image then
      images = images + 1
      lu.assertEquals({ row.tag, field(row.image, 1), field(row.image, 2), field(row.image, 3) },
        { "epoch", 3, 4, 3 })
      local picture = lumen.image.decode(field(row.image, 4))
      lu.assertEquals(picture[1][1][1]:item(), 10 * images)
      lu.assertEquals(row.step, 2 * images)
    elseif row.histogram then
      histograms = histograms + 1
      local counts, total = field(row.histogram, 7), 0
      for i = 1, #counts, 8 do total = total + ("<d"):unpack(counts, i) end
      lu.assertEquals(total, row.tag:match("weight$") and 2 * 3 * 9 or 2)
      lu.assertEquals(("<d"):unpack(field(row.histogram, 3)), total)
      lu.assertEquals(#field(row.histogram, 6), #counts)
    end
  end
  lu.assertEquals(images, 5)
  lu.assertEquals(histograms, (10 - 1) * 4) -- none in the step that was skipped
end

-- What a run that was cut off and resumed leaves, but for times.
function TestBoard:test_a_resumed_file_equals_the_uninterrupted()
  local function content(dir)
    local list = {}
    for i, row in ipairs(decode(event_file(dir))) do
      local timed = row.tag == "images_per_s" or row.tag == "data_wait"
      list[i] = { row.step, row.tag or "", timed and 0 or row.scalar or "", row.image or "",
                  row.histogram or "" }
    end
    return list
  end
  local whole, part = self.dir .. "/whole", self.dir .. "/part"
  toy(1000):start { out = whole }
  lu.assertErrorMsgContains("on purpose", function() toy(8):start { out = part } end)
  local file = io.open(event_file(part), "ab")
  file:write("\x20\0\0\0\0\0\0\0torn")
  file:close()
  local before = event_file(part)
  toy(1000):start { out = part, resume = true }
  lu.assertEquals(event_file(part), before)
  for i, row in ipairs(log_of(whole)) do lu.assertEquals(row.step, i) end
  local a, b = content(whole), content(part)
  for i, row in ipairs(a) do -- `part` counts batches of its own process
    if row[2] == "part" then row[3], b[i][3] = "", "" end
  end
  lu.assertEquals(b, a)
end

function TestBoard:test_reading_stops_where_a_file_is_torn()
  local dir = self.dir .. "/a"
  toy():start { out = dir }
  local text = lumen.fs.read(event_file(dir))
  local _, after = tensorboard.next_record(text, 1)
  lu.assertNotNil(tensorboard.next_record(text, after))
  lu.assertNil(tensorboard.next_record(text, #text + 1))
  lu.assertNil(tensorboard.next_record(text:sub(1, after + 20), after))
  local broken = text:sub(1, 13) .. "x" .. text:sub(15)
  lu.assertNil(tensorboard.next_record(broken, 1))
  lu.assertNil(tensorboard.next_record(("\xff"):rep(40), 1))
end

local reader = [[
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
keep = {"scalars": 0, "images": 0, "histograms": 0, "tensors": 0}
a = EventAccumulator(sys.argv[1], size_guidance=keep)
a.Reload()
tags = a.Tags()
print(json.dumps({
  "scalars": {t: [[e.step, e.value if e.value == e.value else None] for e in a.Scalars(t)]
              for t in tags["scalars"]},
  "images": {t: [[e.step, e.width, e.height] for e in a.Images(t)] for t in tags["images"]},
  "histograms": {t: [[e.step, e.histogram_value.num, sum(e.histogram_value.bucket)]
                     for e in a.Histograms(t)] for t in tags["histograms"]}}))
]]

function TestBoard:test_tensorboard_reads_it()
  local python = os.getenv "LUMEN_PYTHON" or "python3"
  if not os.execute(python .. " -c 'import tensorboard' >/dev/null 2>&1") then
    lu.skip("no python3 with tensorboard (LUMEN_PYTHON names another python3)")
  end
  local dir = self.dir .. "/a"
  toy():start { out = dir }
  lumen.fs.write(self.dir .. "/reader.py", reader)
  local pipe = io.popen(("%s %s/reader.py %s 2>/dev/null"):format(python, self.dir, dir))
  local said = lumen.json.decode(pipe:read("a"))
  pipe:close()
  local log = log_of(dir)
  for _, tag in ipairs { "epoch", "loss", "part", "lr", "grad_norm", "images_per_s", "data_wait" } do
    lu.assertEquals(#said.scalars[tag], 10, tag)
    for i, pair in ipairs(said.scalars[tag]) do
      lu.assertEquals(pair[1], i)
      local expected = log[i][tag]
      if expected == lumen.json.null then lu.assertEquals(pair[2], expected)
      else lu.assertEquals(pair[2], single(expected), tag) end
    end
  end
  lu.assertEquals(said.images.epoch, { { 2, 4, 3 }, { 4, 4, 3 }, { 6, 4, 3 }, { 8, 4, 3 }, { 10, 4, 3 } })
  lu.assertEquals(#said.histograms["gradients/0.weight"], 9)
  lu.assertEquals(said.histograms["parameters/0.weight"][1], { 1, 54, 54 })
end

-- ---- the progress line ----

TestProgress = {}

local function row(step, loss)
  return { epoch = 1, epochs = 2, step = step, total = 100, loss = loss or 1, rate = 123.4,
           wait = 0.25, eta = 75, memory = 3 * 2 ^ 20 }
end

-- What is written for steps 1..100 of a constant loss.
local function written(options)
  local text = {}
  options.out = { write = function(_, ...) for _, s in ipairs { ... } do text[#text + 1] = s end end,
                  flush = function() end }
  local p = progress.open("toy", options)
  for step = 1, 100 do
    if step == 50 then p:note("step 50 skipped") end
    p:step(row(step, step == 20 and 0 / 0 or 1))
  end
  p:close()
  return table.concat(text)
end

function TestProgress:test_lines_when_it_is_no_terminal()
  local text = written { terminal = false }
  lu.assertEquals(select(2, text:gsub("\n", "")), 11) -- ten and the note
  lu.assertStrContains(text, "toy epoch=1 epochs=2 step=10 total=100 loss=1 images_per_s=123.4 "
    .. "data_wait=0.25 memory_mib=3 eta_s=75\n")
  lu.assertStrContains(text, "step=100")
  lu.assertNil(text:find("[\r\27]"))
end

function TestProgress:test_a_line_with_a_bar_on_a_terminal()
  local text = written { terminal = true, columns = 120 }
  local last = text:match("\r([^\r]*)\n$"):gsub("\27%[K", "")
  lu.assertStrContains(last, "toy  ████████████████")
  lu.assertStrContains(last, "epoch 1/2  step 100/100  loss 1  123.4 images/s  waits 25%  1:15 left")
  lu.assertTrue(utf8.len(last) < 120)
  lu.assertStrContains(text, "\r\27[Kstep 50 skipped\n")
  for _, columns in ipairs { 20, 40, 60, 80 } do
    text = written { terminal = true, columns = columns }
    last = text:match("\r([^\r]*)\n$"):gsub("\27%[K", "")
    lu.assertTrue(utf8.len(last) < math.max(columns, 33), columns .. ": " .. last)
  end
end

function TestProgress:test_clock()
  lu.assertEquals(progress.clock(0), "0:00")
  lu.assertEquals(progress.clock(59.9), "0:59")
  lu.assertEquals(progress.clock(3600), "1:00:00")
  lu.assertEquals(progress.clock(math.huge), "100000:00:00")
end

helper.run()
