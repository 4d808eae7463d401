-- Runs the tasks of a plan: each stage once, a process each, as many at a time as there are
-- jobs. What has happened stands in the stages' own directories (result.json: finished;
-- failed: why it failed; anything else: to be started or continued), so that the runner may
-- end in any way at any moment. events.jsonl tells the story.
local core = require "lumen.core"
local json = require "lumen.run.json"
local report = require "lumen.experiment.report"

local runner = {}

local poll_seconds, status_seconds, stop_seconds = 0.05, 1, 60

-- ---- what has happened ----------------------------------------------------------------------

local function state_of(task)
  if core.fs.exists(task.dir .. "/result.json") then return "finished" end
  if core.fs.exists(task.dir .. "/failed") then return "failed" end
  return "open"
end

-- "finished", "failed", "blocked" (it needs one that failed), "ready" or "waiting".
local function standing(task, running)
  if running[task] then return "running" end
  task.state = task.state or state_of(task)
  if task.state ~= "open" then return task.state end
  local result = "ready"
  for _, need in ipairs(task.needs) do
    local other = standing(need, running)
    if other == "failed" or other == "blocked" then return "blocked" end
    if other ~= "finished" then result = "waiting" end
  end
  return result
end

-- What the people call a task: its stage, and the row if it belongs to one row alone.
local function name_tasks(p)
  local row_of = {}
  local function visit(task, row)
    if row_of[task] == nil then row_of[task] = row elseif row_of[task] ~= row then row_of[task] = false end
    for _, need in ipairs(task.needs) do visit(need, row) end
  end
  for _, cell in ipairs(p.cells) do visit(cell.task, cell.row) end
  for _, task in ipairs(p.tasks) do
    local row = row_of[task]
    task.name = ("%s%s seed %d"):format(task.stage, row and " " .. row.label or "", task.seed)
  end
end

local function count_cells(p)
  local finished = 0
  for _, cell in ipairs(p.cells) do
    if state_of(cell.task) == "finished" then finished = finished + 1 end
  end
  return finished
end

-- ---- durations ------------------------------------------------------------------------------

local function read_durations(file)
  local sums = {}
  for line in core.fs.exists(file) and io.lines(file) or function() end do
    local stage, seconds = line:match('"event": "finished", "stage": "([%w_]+)".*"seconds": ([%d.e+-]+)')
    if stage and tonumber(seconds) then
      local s = sums[stage] or { 0, 0 }
      sums[stage] = { s[1] + tonumber(seconds), s[2] + 1 }
    end
  end
  return sums
end

-- Seconds that the open tasks need by what their stages took so far; nil when nothing is known.
local function estimate(r)
  local all, known = 0, 0
  for _, s in next, r.durations do all, known = all + s[1], known + s[2] end
  if known == 0 then return nil end
  local left = 0
  for _, task in ipairs(r.plan.tasks) do
    local now = standing(task, r.running)
    if now == "ready" or now == "waiting" or now == "running" then
      local s = r.durations[task.stage]
      local usual = s and s[1] / s[2] or all / known
      local spent = r.running[task] and core.time() - r.running[task].began or 0
      left = left + math.max(0, usual - spent)
    end
  end
  return left / #r.slots
end

local function clock(seconds)
  local s = math.tointeger(math.floor(seconds + 0.5))
  if s >= 3600 then return ("%d:%02d:%02d"):format(s // 3600, s // 60 % 60, s % 60) end
  return ("%d:%02d"):format(s // 60, s % 60)
end

-- ---- the screen -----------------------------------------------------------------------------

-- The last step of a running stage, from the end of its log.
local function progress_of(task)
  local file = io.open(task.dir .. "/log.jsonl", "rb")
  if not file then return "" end
  local size = file:seek("end")
  file:seek("set", math.max(0, size - 2000))
  local step
  for found in file:read("a"):gmatch('"step": (%d+)') do step = found end
  file:close()
  return step and " step " .. step or ""
end

local function status_line(r)
  local parts, left = {}, estimate(r)
  for _, slot in ipairs(r.slots) do
    if slot.task then parts[#parts + 1] = slot.task.name .. progress_of(slot.task) end
  end
  return ("%d/%d cells%s%s | %s"):format(count_cells(r.plan), #r.plan.cells,
    r.failures > 0 and (", %d failed"):format(r.failures) or "",
    left and ", about " .. clock(left) .. " left" or "", table.concat(parts, " | "))
end

-- On a terminal the last line is the status, which is drawn again after every other line.
local function say(r, text)
  if r.live then io.stderr:write("\r\27[K") end
  if text then io.stderr:write(text, "\n") end
  if r.live and next(r.running) then
    io.stderr:write(status_line(r):sub(1, 79))
    r.shown = core.time()
  end
  io.stderr:flush()
end

local function event(r, task, what, fields)
  local row = { { "time", os.time() }, { "event", what }, { "stage", task.stage },
                { "run", task.dir:match("[^/]+$") } }
  table.move(fields or {}, 1, #(fields or {}), #row + 1, row)
  r.events:write(json.object(row), "\n")
  r.events:flush()
end

-- ---- starting and ending a task -------------------------------------------------------------

-- A stage whose process is dying holds its lock for a moment longer.
local function wait_for_lock(dir)
  local stop = core.time() + 20
  repeat
    local lock = core.fs.lock(dir .. "/lock")
    if lock then return lock:release() end
    core.process.sleep(poll_seconds)
  until core.time() > stop
  error(("%s is in use by another process"):format(dir), 0)
end

local function start_task(r, slot, task)
  core.fs.mkdir(task.dir)
  wait_for_lock(task.dir)
  local arguments = { r.program, task.file }
  table.move(task.arguments, 1, #task.arguments, 3, arguments)
  arguments[#arguments + 1] = "out=" .. task.dir
  arguments[#arguments + 1] = "resume=true"
  if task.threads then arguments[#arguments + 1] = "threads=" .. r.threads end
  if task.device then arguments[#arguments + 1] = "device=" .. slot.device end
  core.fs.write(task.dir .. "/command.txt", table.concat(arguments, "\n") .. "\n")
  event(r, task, "started")
  slot.task = task
  r.running[task] = { began = core.time(),
                      process = core.process.start(arguments, task.dir .. "/output.txt") }
  say(r, not r.live and "start " .. task.name or nil)
end

-- The last lines of what a stage has said.
local function last_words(task, count)
  local file = io.open(task.dir .. "/output.txt", "rb")
  if not file then return "" end
  local size = file:seek("end")
  file:seek("set", math.max(0, size - 8000))
  local lines = {}
  for line in file:read("a"):gmatch("[^\r\n]+") do lines[#lines + 1] = "    " .. line end
  file:close()
  return table.concat(lines, "\n", math.max(1, #lines - count + 1))
end

local function finished_line(r, task, seconds)
  local text = ("done  %s  (%s)"):format(task.name, clock(seconds))
  for _, cell in ipairs(r.plan.cells) do
    if cell.task == task then
      local metrics = report.result(task.dir).metrics or {}
      for _, name in ipairs(r.plan.experiment.report) do
        if type(metrics[name]) == "number" then
          text = text .. ("  %s %.4f"):format(name, metrics[name])
        end
      end
      return ("%s  [%d/%d]"):format(text, count_cells(r.plan), #r.plan.cells)
    end
  end
  return not r.live and text or nil
end

local function end_task(r, slot, exit)
  local task = slot.task
  local seconds = core.time() - r.running[task].began
  slot.task, r.running[task] = nil, nil
  task.state = state_of(task)
  if task.state == "finished" then
    event(r, task, "finished", { { "seconds", seconds } })
    local s = r.durations[task.stage] or { 0, 0 }
    r.durations[task.stage] = { s[1] + seconds, s[2] + 1 }
    return say(r, finished_line(r, task, seconds))
  end
  local why = exit > 128 and ("ended by signal %d"):format(exit - 128)
    or ("ended with code %d"):format(exit)
  core.fs.write(task.dir .. "/failed", why .. "\n")
  event(r, task, "failed", { { "why", why } })
  task.state, r.failures = "failed", r.failures + 1
  say(r, ("FAILED %s: %s\n%s"):format(task.name, why, last_words(task, 8)))
end

-- Ask all running stages to save a checkpoint and end, and wait for them.
local function stop_all(r)
  local stop = core.time() + stop_seconds
  if next(r.running) then
    io.stderr:write(r.live and "\r\27[K" or "", "stopping the running stages\n")
  end
  for _, slot in ipairs(r.slots) do
    if slot.task then r.running[slot.task].process:stop() end
  end
  for _, slot in ipairs(r.slots) do
    local run = slot.task and r.running[slot.task]
    while run and run.process:poll() == nil do
      if core.time() > stop then run.process:stop(true) end
      core.process.sleep(poll_seconds)
    end
    if run then event(r, slot.task, "stopped") end
    slot.task = nil
  end
  r.running = {}
end

-- ---- the loop -------------------------------------------------------------------------------

local function split(text)
  local list = {}
  for item in text:gmatch("[^,]+") do list[#list + 1] = item end
  return list
end

-- One slot per job, each with its device.
local function make_slots(o)
  local devices = split(o.device)
  if o.device == "auto" and core.gpus() > 1 then
    for i = 1, core.gpus() do devices[i] = "cuda:" .. i - 1 end
  end
  local slots = {}
  for i = 1, o.jobs > 0 and o.jobs or #devices do
    slots[i] = { device = devices[(i - 1) % #devices + 1] }
  end
  return slots
end

local function next_ready(r)
  for _, task in ipairs(r.plan.tasks) do
    if standing(task, r.running) == "ready" then return task end
  end
end

local function loop(r)
  while true do
    for _, slot in ipairs(r.slots) do
      local exit = slot.task and r.running[slot.task].process:poll()
      if exit then end_task(r, slot, exit) end
      if not slot.task then
        local task = next_ready(r)
        if task then start_task(r, slot, task) end
      end
    end
    if not next(r.running) then return end
    if core.terminated() then
      stop_all(r)
      error({ terminated = true, message = "stopped; the same command continues" }, 0)
    end
    if r.live and core.time() - r.shown > status_seconds then say(r) end
    core.process.sleep(poll_seconds)
  end
end

-- What `dry=true` shows.
function runner.describe(p)
  name_tasks(p)
  local lines, open = { p.experiment.about, "" }, { finished = 0, failed = 0, open = 0 }
  for _, row in ipairs(p.rows) do
    local states = {}
    for i, cell in ipairs(row.cells) do states[i] = state_of(cell.task) end
    lines[#lines + 1] = ("  %-40s %s"):format(row.label, table.concat(states, " "))
  end
  local by_stage, order = {}, {}
  for _, task in ipairs(p.tasks) do
    local state = state_of(task)
    open[state] = open[state] + 1
    if not by_stage[task.stage] then order[#order + 1] = task.stage end
    by_stage[task.stage] = (by_stage[task.stage] or 0) + 1
  end
  for i, stage in ipairs(order) do order[i] = ("%d %s"):format(by_stage[stage], stage) end
  lines[#lines + 1] = ("\n%d rows, %d seeds, %d cells; stages to run: %s"):format(#p.rows, #p.seeds,
    #p.cells, table.concat(order, ", "))
  lines[#lines + 1] = ("finished %d, failed %d, to run %d"):format(open.finished, open.failed,
    open.open)
  local r = { plan = p, running = {}, slots = make_slots(p.o),
              durations = read_durations(p.out .. "/events.jsonl") }
  local left = open.open > 0 and estimate(r)
  if left then lines[#lines] = lines[#lines] .. ", about " .. clock(left) end
  return table.concat(lines, "\n") .. "\n"
end

local function complain_about_failures(r)
  local lines = {}
  for _, task in ipairs(r.plan.tasks) do
    if task.state == "failed" then
      local why = core.fs.read(task.dir .. "/failed"):gsub("%s+$", "")
      lines[#lines + 1] = ("failed: %s: %s\n  %s/output.txt\n%s"):format(task.name, why, task.dir,
        last_words(task, 8))
    end
  end
  if #lines == 0 then return end
  lines[#lines + 1] = ("%d of %d cells have no result; retry=true runs what failed again"):format(
    #r.plan.cells - count_cells(r.plan), #r.plan.cells)
  io.stderr:write(table.concat(lines, "\n"), "\n")
end

-- Runs in the directory that no cell of this plan needs: of other settings, or of other code.
local function count_strangers(p)
  local known, strangers = {}, 0
  for _, task in ipairs(p.tasks) do known[task.dir:match("[^/]+$")] = true end
  local folder = p.out .. "/stages"
  for _, name in ipairs(core.fs.isdir(folder) and core.fs.list(folder) or {}) do
    if not known[name] then strangers = strangers + 1 end
  end
  return strangers
end

local function say_what_is_there(p)
  local finished, strangers = 0, count_strangers(p)
  for _, task in ipairs(p.tasks) do
    if task.state == "finished" then finished = finished + 1 end
  end
  if finished > 0 then
    io.stderr:write(("%d of %d stages are finished already\n"):format(finished, #p.tasks))
  end
  if strangers > 0 then
    io.stderr:write(("%d runs in %s/stages belong to other settings or other code\n"):format(
      strangers, p.o.out))
  end
end

local function prepare(p)
  for _, task in ipairs(p.tasks) do
    if p.o.retry then core.fs.remove(task.dir .. "/failed") end
    task.state = state_of(task)
    if task.state == "open" then core.fs.remove(p.out .. "/result.json") end
  end
  name_tasks(p)
  say_what_is_there(p)
end

-- Run what is not finished, then write the report. Returns true when every cell has finished,
-- and the directory.
function runner.run(p)
  core.fs.mkdir(p.out)
  local lock <close> = core.fs.lock(p.out .. "/lock")
  if not lock then error(("experiment %s is in use by another process"):format(p.out), 0) end
  local program = core.process.program()
  if not program:match("lumen$") then
    error(("experiments are run by the program lumen, not by %s"):format(program), 0)
  end
  prepare(p)
  local slots = make_slots(p.o)
  local threads = p.o.threads > 0 and p.o.threads or core.threads()
  local r = { plan = p, running = {}, slots = slots, failures = 0, program = program, shown = 0,
              threads = math.max(1, threads // #slots), live = core.fs.isatty(2),
              durations = read_durations(p.out .. "/events.jsonl"),
              events = assert(io.open(p.out .. "/events.jsonl", "a")) }
  local ok, message = pcall(loop, r)
  stop_all(r)
  r.events:close()
  if not ok then
    local interrupted = tostring(message):match("interrupted$")
    error(interrupted and "interrupted; the same command continues" or message, 0)
  end
  complain_about_failures(r)
  local complete = count_cells(p) == #p.cells
  io.stdout:write("\n", report.write(p, complete), "\n", p.o.out, "\n")
  return complete, p.o.out
end

return runner
