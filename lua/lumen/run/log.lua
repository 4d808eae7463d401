-- log.jsonl: one line per optimizer step, and the progress line on the screen.
local core = require "lumen.core"
local json = require "lumen.run.json"

local Log = {}
Log.__index = Log

local log = {}

-- Lines up to `last` (a step), those after it and torn ones cut off.
local function cut(path, last)
  local kept = {}
  for line in io.lines(path) do
    local step = line:match('^{.*"step": (%d+)[,}].*}$')
    if not step or math.tointeger(step) > last then break end
    kept[#kept + 1] = line .. "\n"
  end
  core.fs.write(path, table.concat(kept))
end

-- Open for appending after step `last` (0: from the start).
function log.open(path, last)
  if core.fs.exists(path) then cut(path, last) end
  local file, message = io.open(path, "a")
  if not file then error(message, 0) end
  file:setvbuf("line")
  return setmetatable({ file = file, path = path, shown = -math.huge }, Log)
end

-- fields: list of { name, value }.
function Log:write(fields)
  local ok, message = self.file:write(json.object(fields), "\n")
  if not ok then error(("%s: %s"):format(self.path, message), 0) end
end

function Log:close() self.file:close() end

local function clock(seconds)
  local s = math.tointeger(seconds // 1)
  if s >= 3600 then return ("%d:%02d:%02d"):format(s // 3600, s // 60 % 60, s % 60) end
  return ("%d:%02d"):format(s // 60, s % 60)
end

-- At most one line every two seconds, and the last. row: epoch, epochs, step, total, loss,
-- rate (images/s), wait (share), eta (seconds).
function Log:progress(name, row)
  local now = core.time()
  if now - self.shown < 2 and row.step < row.total then return end
  self.shown = now
  io.stderr:write(("%s  epoch %d/%d  step %d/%d  loss %.5g  %.1f images/s  wait %.0f%%  %s left\n")
    :format(name, row.epoch, row.epochs, row.step, row.total, row.loss, row.rate,
      100 * row.wait, clock(row.eta)))
end

return log
