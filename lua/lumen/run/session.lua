-- A run in steps, for the prompt: recipe:start returns a run that waits between two steps with
-- all it has in memory, run:continue() goes on, bit for bit as if it had never stopped.
--
-- The recipe's loop runs in a coroutine that yields at safe points: after an optimizer step,
-- with the step's tensors still alive. A loop that cannot go on (an error ended it, its code
-- or its options were changed) begins again from a checkpoint of what is in memory.
local core = require "lumen.core"
local options = require "lumen.options"

local session = {
  current = nil,  -- the run whose coroutine runs now
  complain = nil, -- set by the prompt: shows an error; elsewhere errors are raised
  say = nil,      -- set by the prompt: shows a line
}

local interrupt = core._interrupt

-- ---- words -----------------------------------------------------------------------------------

local function position(run)
  local text = ("step %d"):format(run.step_count)
  if run.total then text = text .. (" of %d"):format(run.total) end
  if run.epoch_count and run.epoch then
    text = text .. (", epoch %d of %d"):format(run.epoch, run.epoch_count)
  end
  return text
end

local function status_line(run)
  local line = ("%s %s at %s"):format(run.recipe.name, run.status or "run", position(run))
  if run.inner then
    line = ("%s %s in its stage %s at %s"):format(run.recipe.name, run.status,
      run.inner.recipe.name, position(run.inner))
  end
  local loss = (run.inner or run).state.loss
  if loss then line = ("%s, loss %.5g"):format(line, loss) end
  return line
end

local advice = {
  paused = "run:continue() trains on, run:finish() ends the training; " ..
    "run.model, run.batch, run.loss, run.o",
  failed = "run:continue() tries again from here; run.error, run.trace, run.batch",
}

-- What print(run) shows.
function session.describe(run)
  local lines = { status_line(run), run.dir }
  if advice[run.status] then lines[#lines + 1] = advice[run.status] end
  return table.concat(lines, "\n")
end

-- ---- running and waiting ---------------------------------------------------------------------

-- Called after every optimizer step of a run and of its stages.
function session.safe_point(run)
  local top = session.current
  if coroutine.running() ~= top._thread then return end
  local reached = run == top and (rawget(run.o, "steps") or 0) > 0 and not top._finishing
    and run.step_count >= run.total
  if reached or interrupt.asked() then coroutine.yield(run) end
end

local function swap_state(state)
  local before = { threads = core.threads(), random = { core._random() } }
  if state then
    core.threads(state.threads)
    core._random(table.unpack(state.random))
  end
  return before
end

local function message_of(e)
  return type(e) == "table" and type(e.message) == "string" and e.message or tostring(e)
end

local function failed(run, e)
  run.status, run.error = "failed", message_of(e)
  run.trace = debug.traceback(run._thread, run.error)
  if not session.complain then error(e, 0) end
  session.complain(run.error, run.trace)
  session.say(status_line(run) .. "; run:continue() tries again from here")
end

-- The time that a run waited counts as no time of its own: images/s and the time left go on.
local function skip_time(run)
  local idle = run._since and core.time() - run._since or 0
  run._since = nil
  for _, part in ipairs { run, run.inner } do
    for _, field in ipairs { "began", "step_began" } do
      if part[field] then part[field] = part[field] + idle end
    end
  end
end

-- Run the coroutine until it yields, ends or fails.
local function resume(run)
  if session.current then error("a run cannot be started from inside another one", 0) end
  local outside = swap_state(run._outside)
  local ok, value, asked
  do
    local guard <close> = setmetatable({}, { __close = function()
      interrupt.hold(false)
      session.current = nil
      run._outside = swap_state(outside)
    end })
    skip_time(run)
    session.current, run.status, run.error, run.trace, run.inner = run, "running"
    interrupt.hold(true)
    ok, value = coroutine.resume(run._thread)
    asked = interrupt.asked()
  end
  local shown = (value ~= run and type(value) == "table" and value.progress) or run.progress
  if shown then shown:close() end -- what is said now begins on a line of its own
  if not ok then return failed(run, value) end
  if coroutine.status(run._thread) == "dead" then
    run.metrics, run.status = value, "finished"
    run:close()
    return
  end
  run.status, run._since = "paused", core.time()
  if value ~= run then run.inner = value end
  if session.say then
    session.say(status_line(run) .. "; run:continue() trains on")
  elseif asked then
    (run.inner or run):save()
    error({ terminated = true, code = 130, message = ("interrupted after step %d in %s")
      :format(run.step_count, run.dir) }, 0)
  end
end

-- ---- beginning, and beginning again ------------------------------------------------------------

local function begin(run)
  run._loop = run.recipe.run
  run._thread = coroutine.create(function() return run:_perform() end)
end

local function close_files(run)
  for _, part in ipairs { "progress", "log", "board" } do
    if run[part] then run[part]:close() end
    run[part] = nil
  end
end

-- End the coroutine, and with it the scope of its batch.
function session.close(run)
  if run._thread then coroutine.close(run._thread) end
  run._thread = nil
end

local function restart(run)
  if run.step_count > 0 and run.epoch and not run.updating then
    run.micro = run.micro - run.waiting -- gradients of a step that is not whole are dropped
    run.waiting = 0
    run:save()
  end
  session.close(run)
  close_files(run)
  run.step_count, run.micro, run.waiting, run.bad_in_row = 0, 0, 0, 0
  run.sums, run.state = {}, {}
  for _, field in ipairs { "epoch", "saved_step", "bad", "save_due", "batch", "loss", "updating",
                           "total", "epoch_count", "_outside" } do
    run[field] = nil
  end
  begin(run)
end

-- `run` is open; its code begins. Returns it when it waits, has ended or has failed.
function session.start(run)
  run._portion = rawget(run.o, "steps") or 0
  begin(run)
  resume(run)
  return run
end

-- ---- going on ----------------------------------------------------------------------------------

local fixed = { out = true, resume = true, preset = true }

-- Sets the values (name -> value) in run.o and in options.lua; returns whether any differs.
local function change(run, values)
  local notes, whose = {}, "recipe " .. run.recipe.name
  for _, pair in ipairs(run.recipe:_overrides(values)) do
    local name = pair[1]
    local value = options.parse(options.find(run.recipe.rows, name, whose), pair[2])
    if fixed[name] then error(("%s cannot be changed in a run"):format(name), 0) end
    local before = rawget(run.o, name)
    if value ~= before then
      rawset(run.o, name, value)
      notes[#notes + 1] = ("-- step %d: %s was %s"):format(run.step_count, name,
        options.literal(before))
    end
  end
  if #notes == 0 then return false end
  run.changes = (run.changes or "") .. table.concat(notes, "\n") .. "\n"
  core.fs.write(run.dir .. "/options.lua", options.dump(run.recipe.rows, run.o) .. run.changes)
  return true
end

local function check(run)
  if run.status == "paused" or run.status == "failed" then return end
  local why = ({ finished = "it has finished", closed = "it was closed" })[run.status]
    or "recipe:start did not begin it"
  error(("this run cannot go on: %s\nhint: recipe:start{init=%q}"):format(why, run.dir), 0)
end

-- Where the training is to stop next: `steps`, or as many more as the last time.
local function aim(run, steps)
  local o = run.o
  if not rawget(o, "steps") then return end
  if steps and steps <= run.step_count then
    error(("steps=%d: the run is at step %d already"):format(steps, run.step_count), 0)
  end
  local reached = run.total and o.steps > 0 and run.step_count >= run.total
  if steps then
    run._portion = steps - run.step_count
    rawset(o, "steps", steps)
  elseif reached then
    rawset(o, "steps", run.step_count + run._portion)
  end
  if run.total then run:_plan() end
end

function session.continue(run, values)
  check(run)
  local other, steps = {}, nil
  for _, pair in ipairs(run.recipe:_overrides(values or {})) do
    if pair[1] == "steps" then
      steps = options.parse(options.find(run.recipe.rows, "steps", run.recipe.name), pair[2])
    else
      other[#other + 1] = pair
    end
  end
  local changed = change(run, other)
  aim(run, steps)
  if changed or run.status == "failed" or run.recipe.run ~= run._loop then restart(run) end
  resume(run)
end

function session.finish(run)
  check(run)
  run._finishing = true
  if run.status == "failed" or run.recipe.run ~= run._loop then
    restart(run)
  elseif run.total and not run.inner then
    run.total = run.step_count
  end
  resume(run)
  return run.metrics
end

return session
