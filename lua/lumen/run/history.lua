-- Reading a run's log.jsonl back: the numbers of each step as columns.
local core = require "lumen.core"

local history = {}

-- Columns of a log: { names = sorted list, rows = number of lines, step = {..}, <name> = {..} }.
-- A value that is null or missing is NaN; the torn last line of a run that was killed is left
-- out. Raises when there is no such file or it holds something else.
function history.read(dir)
  local path = dir .. "/log.jsonl"
  if not core.fs.exists(path) then
    error(("%s is no run directory with a log (no log.jsonl)"):format(dir), 0)
  end
  local columns, names, count = {}, {}, 0
  for line in (core.fs.read(path)):gmatch("([^\n]*)\n") do
    local ok, row = pcall(core.json.decode, line, path)
    if not ok or type(row) ~= "table" then
      error(("%s: line %d is no JSON object"):format(path, count + 1), 0)
    end
    count = count + 1
    for name, value in next, row do -- the order does not show: names are sorted below
      if type(name) == "string" and type(value) == "number" then
        if not columns[name] then
          columns[name] = {}
          names[#names + 1] = name
          for i = 1, count - 1 do columns[name][i] = 0 / 0 end
        end
        columns[name][count] = value
      end
    end
    for _, name in ipairs(names) do
      if not columns[name][count] then columns[name][count] = 0 / 0 end
    end
  end
  table.sort(names)
  return { names = names, rows = count, columns = columns }
end

-- Running mean of a list: each value counts 1 - weight, older ones fade by `weight`; without
-- the bias of a start at 0. What is not finite is passed over.
--   > local h = require "lumen.run.history"
--   > h.smooth({2, 2, 2}, 0.9)[3]
--   2.0
function history.smooth(values, weight)
  local out, sum, total = {}, 0, 0
  for i, value in ipairs(values) do
    if value == value and math.abs(value) < math.huge then
      sum, total = weight * sum + (1 - weight) * value, weight * total + (1 - weight)
    end
    out[i] = total > 0 and sum / total or 0 / 0
  end
  return out
end

return history
