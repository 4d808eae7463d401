-- What a run says while it works. On a terminal: one line that is drawn again and again, with a
-- bar. Elsewhere (a file, a pipe): a line of key=value pairs after every tenth of the steps or
-- every 30 seconds, whichever comes first, and after the last step.
local core = require "lumen.core"

local Progress = {}
Progress.__index = Progress

local progress = {}

-- Seconds as 0:07, 12:34 or 1:02:03.
--   > require("lumen.run.progress").clock(3723)
--   1:02:03
function progress.clock(seconds)
  local s = math.tointeger(math.max(0, math.min(seconds, 3.6e8)) // 1)
  if s >= 3600 then return ("%d:%02d:%02d"):format(s // 3600, s // 60 % 60, s % 60) end
  return ("%d:%02d"):format(s // 60, s % 60)
end

local function columns()
  local width = tonumber(os.getenv "COLUMNS")
  if not width then
    local pipe = io.popen("stty size 2>/dev/null </dev/tty")
    width = pipe and tonumber((pipe:read("l") or ""):match("%d+ (%d+)"))
    if pipe then pipe:close() end
  end
  return math.max(20, width or 80)
end

-- options: terminal (default: is the standard error output one?), columns, out (a file).
function progress.open(name, options)
  local o = options or {}
  local terminal = o.terminal
  if terminal == nil then terminal = core.fs.isatty(2) end
  return setmetatable({ name = name, terminal = terminal, out = o.out or io.stderr,
    width = terminal and (o.columns or columns()), shown = -math.huge, said = core.time(),
    said_step = 0, loss = 0, weight = 0 }, Progress)
end

-- The loss as a running mean over about the last 20 steps.
local function smooth(self, loss)
  if loss == loss and math.abs(loss) < math.huge then
    self.loss, self.weight = 0.95 * self.loss + 0.05 * loss, 0.95 * self.weight + 0.05
  end
  return self.weight > 0 and self.loss / self.weight or 0 / 0
end

-- `share` of `width` characters, in eighths of a character.
local function bar(share, width)
  local eighths = math.floor(8 * width * math.max(0, math.min(1, share)) + 0.5)
  local full, rest = eighths // 8, eighths % 8
  local text = ("█"):rep(full)
  if rest > 0 then text = text .. utf8.char(0x2590 - rest) end
  return text .. (" "):rep(width - full - (rest > 0 and 1 or 0))
end

local function draw(self, row, loss)
  local room = self.width - 1
  local parts = {
    ("epoch %d/%d"):format(row.epoch, row.epochs), ("step %d/%d"):format(row.step, row.total),
    ("loss %.4g"):format(loss), ("%.4g images/s"):format(row.rate),
    ("%s left"):format(progress.clock(row.eta)),
    ("%.0f MiB"):format(row.memory / 2 ^ 20),
  }
  if row.wait > 0.1 then table.insert(parts, 5, ("waits %.0f%%"):format(100 * row.wait)) end
  while #parts > 2 and #self.name + 2 + #table.concat(parts, "  ") > room do table.remove(parts) end
  local text = table.concat(parts, "  ")
  local free = room - #self.name - #text - 4
  local middle = free >= 4 and "  " .. bar(row.step / row.total, math.min(free, 24)) .. "  " or "  "
  self.out:write("\r", self.name, middle, text, "\27[K")
  self.out:flush()
  self.drawn = true
end

local function say(self, row, loss)
  self.out:write(("%s epoch=%d epochs=%d step=%d total=%d loss=%.5g images_per_s=%.4g "
    .. "data_wait=%.3g memory_mib=%.0f eta_s=%.0f\n"):format(self.name, row.epoch, row.epochs,
    row.step, row.total, loss, row.rate, row.wait, row.memory / 2 ^ 20, row.eta))
  self.said, self.said_step = core.time(), row.step
end

-- After every step. row: epoch, epochs, step, total, loss, rate (images/s), wait (share of the
-- time spent waiting for data), eta (seconds), memory (bytes).
function Progress:step(row)
  local loss, now = smooth(self, row.loss), core.time()
  local last = row.step >= row.total
  if self.terminal then
    if last or now - self.shown >= 0.1 then
      self.shown = now
      draw(self, row, loss)
    end
  elseif last or row.step - self.said_step >= row.total / 10 or now - self.said >= 30 then
    say(self, row, loss)
  end
end

-- A line of its own, above the bar.
function Progress:note(text)
  if self.drawn then self.out:write("\r\27[K") end
  self.out:write(text, "\n")
end

-- The bar stays as it was last, and what follows begins on a new line.
function Progress:close()
  if self.drawn then self.out:write("\n") end
  self.drawn = nil
end

return progress
