-- Where the time and the memory go, operation by operation.
--
-- lumen.profile(fn, ...) runs fn(...) and prints the table; LUMEN_PROFILE=1 does so for a whole
-- program, LUMEN_PROFILE=trace.json also writes every call for chrome://tracing or Perfetto.
--
-- "of limit" is the share of what this machine can do at best (roofline): the time that the
-- operation's arithmetic needs at the speed of a large matrix product, or its bytes at the
-- speed of memory, whichever is longer, over the time it took. Operands that fit into the
-- caches can beat memory, so it may pass 100 %.
local core = require "lumen.core"

local profile = {}

local function best_of(times, fn)
  local best = math.huge
  for _ = 1, times do
    local start = core.time()
    fn()
    best = math.min(best, core.time() - start)
  end
  return best
end

local limits -- measured once per number of threads

-- What this machine reaches at best: flops of a large f32 matrix product and bytes of a long
-- addition in place, both per second, with the threads of now. Measured at the first call
-- (about half a second), then remembered.
--   > limits = lumen.profile.limits()
--   > limits.flops > 1e6 and limits.bytes > 1e6
--   true
function profile.limits()
  local threads = core.threads()
  if limits and limits.threads == threads then return limits end
  core.scope(function()
    core.no_grad(function()
      local n, count = 1024, 16 * 1024 * 1024
      local a = core.ones({ n, n })
      local product = best_of(6, function() core.scope(function() core.matmul(a, a) end) end)
      local x, y = core.zeros({ count }), core.zeros({ count })
      local sum = best_of(6, function() x:add_(y) end)
      limits = { threads = threads, flops = 2 * n ^ 3 / product, bytes = 12 * count / sum }
    end)
  end)
  return limits
end

local function by(field)
  return function(a, b)
    if a[field] ~= b[field] then return a[field] > b[field] end
    return a.name < b.name
  end
end

-- Bytes in a unit that keeps the number short.
--   > lumen.profile.bytes(3 * 2^20)
--   3.0 MiB
function profile.bytes(n)
  local units, k = { "B", "KiB", "MiB", "GiB", "TiB" }, 1
  while n >= 1024 and k < #units do n, k = n / 1024, k + 1 end
  return (k == 1 and "%.0f %s" or "%.1f %s"):format(n, units[k])
end

local function speed(row, limit)
  if row.seconds <= 0 then return "", "" end
  local compute, move = row.flops / limit.flops, row.bytes / limit.bytes
  local share = ("%.0f%%"):format(100 * math.max(compute, move) / row.seconds)
  if compute >= move then
    return ("%.1f GFLOP/s"):format(row.flops / row.seconds / 1e9), share
  end
  return ("%.1f GB/s"):format(row.bytes / row.seconds / 1e9), share
end

local line = "%-26s %9s %10s %7s %15s %9s %11s"

local function table_lines(result, limit)
  local lines, inside = {}, 0
  table.sort(result.rows, by "seconds")
  for _, row in ipairs(result.rows) do inside = inside + row.seconds end
  lines[1] = line:format("operation", "calls", "ms", "share", "speed", "of limit", "made")
  local function share(seconds) return ("%.1f%%"):format(100 * seconds / math.max(result.seconds, 1e-12)) end
  local rest = { count = 0, calls = 0, seconds = 0 }
  for _, row in ipairs(result.rows) do
    if row.seconds >= 0.0005 * result.seconds then
      local rate, part = speed(row, limit)
      lines[#lines + 1] = line:format(row.name, row.calls, ("%.2f"):format(1e3 * row.seconds),
        share(row.seconds), rate, part, profile.bytes(row.made))
    else
      rest.count, rest.calls = rest.count + 1, rest.calls + row.calls
      rest.seconds = rest.seconds + row.seconds
    end
  end
  local function plain(name, calls, seconds)
    lines[#lines + 1] = line:format(name, calls, ("%.2f"):format(1e3 * seconds), share(seconds),
      "", "", ""):gsub("%s+$", "")
  end
  if rest.count > 0 then plain(("(%d others)"):format(rest.count), rest.calls, rest.seconds) end
  plain("(outside operations)", "", math.max(0, result.seconds - inside))
  return lines
end

local function memory_line(result)
  table.sort(result.owners, by "bytes")
  local parts = {}
  for i = 1, math.min(6, #result.owners) do
    parts[i] = ("%s %s"):format(result.owners[i].name, profile.bytes(result.owners[i].bytes))
  end
  return ("memory at its peak: %s, made by %s"):format(profile.bytes(result.peak),
    #parts > 0 and table.concat(parts, ", ") or "nothing")
end

-- A result of profiler.stop() as text: operations by time, then what filled the memory.
-- made: bytes of results and of what was kept for backward, all calls together.
--   > lumen.profiler.start()
--   > x = lumen.ones {64, 64}; x = x:matmul(x)
--   > lumen.profile.text(lumen.profiler.stop()):match("matmul")
--   matmul
function profile.text(result)
  local limit = profile.limits()
  local lines = table_lines(result, limit)
  table.insert(lines, 1, ("profile: %.3f s; this machine reaches %.1f GFLOP/s in matrix products, "
    .. "%.1f GB/s in memory (%d thread%s)"):format(result.seconds, limit.flops / 1e9,
    limit.bytes / 1e9, limit.threads, limit.threads == 1 and "" or "s"))
  lines[#lines + 1] = memory_line(result)
  if result.dropped > 0 then
    lines[#lines + 1] = ("%d calls were left out: too many to keep"):format(result.dropped)
  end
  return table.concat(lines, "\n") .. "\n"
end

-- End the profile that is running: the table goes to the standard error output, the trace (if
-- `trace` names a file) to that file. Returns what profiler.stop() gave.
--   > lumen.profiler.start()
--   > y = lumen.ones(64, 64):matmul(lumen.ones(64, 64))
--   > lumen.profile.finish().seconds > 0
--   true
function profile.finish(trace)
  local result = core.profiler.stop()
  if trace then core.fs.write(trace, core.profiler.trace()) end
  io.stderr:write(profile.text(result))
  if trace then io.stderr:write(("trace: %s\n"):format(trace)) end
  return result
end

-- What the environment variable LUMEN_PROFILE asks for: nil (unset, empty, 0), or true and
-- the trace file it names, if any.
--   > lumen.profile.wanted()
function profile.wanted()
  local value = os.getenv "LUMEN_PROFILE"
  if not value or value == "" or value == "0" then return nil end
  return true, value:match("%.json$") and value or nil
end

-- Call fn(...) and print where its time and memory went; returns what fn returns. Errors of
-- fn come after the table. options instead of fn: { fn, trace = "file.json" } also writes
-- every call in Chrome's trace format.
--   > total = lumen.profile(function() return lumen.ones {8, 8}:sum():item() end)
--   > total
--   64.0
local function run(_, what, ...)
  local trace
  if type(what) == "table" then what, trace = what[1], what.trace end
  if type(what) ~= "function" then error("profile: a function expected, not " .. type(what), 2) end
  if core.profiler.running() then error("profile: one is running already", 2) end
  core.profiler.start(trace ~= nil)
  local results = table.pack(pcall(what, ...))
  profile.finish(trace)
  if not results[1] then error(results[2], 0) end
  return table.unpack(results, 2, results.n)
end

return setmetatable(profile, { __call = run })
