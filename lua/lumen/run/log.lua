-- log.jsonl: one line per optimizer step.
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
  return setmetatable({ file = file, path = path }, Log)
end

-- fields: list of { name, value }.
function Log:write(fields)
  local ok, message = self.file:write(json.object(fields), "\n")
  if not ok then error(("%s: %s"):format(self.path, message), 0) end
end

function Log:close() self.file:close() end

return log
