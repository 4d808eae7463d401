-- One run of a recipe: its directory (lock, options.lua, env.json, log.jsonl, checkpoints/,
-- images/, stages/, TensorBoard's event file, report.html, result.json) and the frame around
-- the training loop:
--
--   run.model, run.loader = ..., ...
--   run.optimizer = optim.adamw(run.model, {...})
--   for epoch in run:epochs() do
--     for batch in run:batches(epoch) do
--       run:step(loss, { part = value, ... })
--     end
--   end
--
-- A resumed run equals the uninterrupted one bit for bit: everything random is keyed by the
-- seed and by the number of the batch, everything else is in the checkpoint.
local core = require "lumen.core"
local checkpoint = require "lumen.run.checkpoint"
local directory = require "lumen.run.directory"
local json = require "lumen.run.json"
local log = require "lumen.run.log"
local options = require "lumen.options"
local picture = require "lumen.picture"
local progress = require "lumen.run.progress"
local report = require "lumen.report"
local schedule = require "lumen.schedule"
local session = require "lumen.run.session"
local tensorboard = require "lumen.run.tensorboard"

-- What a recipe's run(o, run) works with: run.o (options), run.dir, run.device, run.rng; the recipe
-- sets run.model, run.loader, run.optimizer; run.epoch, run.step_count and run.batch say where it is.
--   > r = lumen.recipe { name = "demo", about = "Shows its options.", options = {} }
--   > function r:run(o, run) return { seed = o.seed } end
--   > run = r:start { out = os.tmpname() .. ".d", seed = 3 }
--   > run.metrics.seed, run.status
--   3
--   finished
local Run = {}
Run.__index = Run
Run.__tostring = session.describe

local most_skipped = 20 -- updates in a row with a non-finite loss or gradient

-- Opens the directory of a run, locked, with options.lua in it; overrides: list of { name,
-- value }. What recipe:start and the program call. Raises when the directory is not empty and
-- resume is not set, or in use.
-- -> run
--   > r = lumen.recipe { name = "demo", about = "Nothing.", options = {} }
--   > run = lumen.run.open(r, { {"out", os.tmpname() .. ".d"} })
--   > lumen.fs.list(run.dir)
--   {"lock", "options.lua"}
--   > run:close()
local function open(recipe, overrides)
  overrides = recipe:_overrides(overrides)
  local o = recipe:resolve(overrides)
  local dir = o.out ~= "" and o.out or directory.fresh(recipe, o)
  local file = dir .. "/options.lua"
  if o.resume and core.fs.exists(file) then
    local saved = options.undump(core.fs.read(file), file)
    o = recipe:resolve(overrides, saved)
    directory.check_same(recipe, o, saved, dir)
  end
  local lock = directory.claim(dir, o.resume)
  rawset(o, "out", dir)
  core.fs.write(file, options.dump(recipe.rows, o))
  return setmetatable({ dir = dir, lock = lock, o = o, recipe = recipe, step_count = 0,
    micro = 0, waiting = 0, bad_in_row = 0, sums = {}, state = {} }, Run)
end

local function device_of(o)
  if o.device ~= "auto" then return o.device end
  return core.gpus() > 0 and "cuda" or "cpu"
end

-- What every run does before its recipe's own code.
local function prepare(run)
  local o = run.o
  if o.threads > 0 then core.threads(o.threads) end
  run.device = device_of(o)
  if o.precision ~= "f32" and run.device == "cpu" then
    error(("precision=%s needs a GPU; the CPU computes in f32"):format(o.precision), 0)
  end
  if o.precision == "bf16" then error("precision=bf16 is not there yet: f32 and tf32 are", 0) end
  core.tf32(o.precision == "tf32")
  core.seed(o.seed)
  run.rng = { seed = o.seed, stream = "masking" }
  directory.environment(run.dir)
end

-- The recipe's own code from its beginning, then result.json. Returns the metrics.
function Run:_perform()
  prepare(self)
  local metrics = self.recipe:run(self.o, self) or {}
  self:_write_result(metrics)
  self.recipe:report(metrics, self)
  return metrics
end

-- The metrics of a run that has finished, shown again; else nil.
local function finished(run)
  local file = run.dir .. "/result.json"
  if not core.fs.exists(file) then return nil end
  local metrics = core.json.decode(core.fs.read(file), file).metrics
  run.recipe:report(metrics, run)
  return metrics
end

-- Runs recipe:run from start to end, or on from its checkpoint with resume=true, and writes
-- result.json. Returns the metrics and the run; a run that had finished is not run again.
-- -> table, run
--   > r = lumen.recipe { name = "demo", about = "Nothing.", options = {} }
--   > function r:run(o, run) return { dice = 0.5 } end
--   > metrics = lumen.run.execute(r, { {"out", os.tmpname() .. ".d"} })
--   > metrics.dice
--   0.5
local function execute(recipe, overrides)
  local run = open(recipe, overrides)
  local guard <close> = setmetatable({}, { __close = function() run:close() end })
  local metrics = finished(run) or run:_perform()
  run.status = "finished"
  return metrics, run
end

-- What recipe:start does: the run waits when its `steps` are done, or after Ctrl-C.
--   > r = lumen.recipe { name = "demo", about = "Counts.", options = {} }
--   > function r:run(o, run) return { answer = 42 } end
--   > lumen.run.start(r, { out = os.tmpname() .. ".d" }).status
--   finished
local function start(recipe, overrides)
  local run = open(recipe, overrides)
  run.metrics = finished(run)
  if not run.metrics then return session.start(run) end
  run.status = "finished"
  run:close()
  return run
end

-- Go on with a run that waits, to where it was to stop; from there, as many steps again. values:
-- options to change, such as steps (counted from the beginning of the run). What is changed
-- besides steps, a new recipe.run, or an error before begins the loop again from a checkpoint.
--   > r = lumen.recipe { name = "demo", about = "Learns nothing.", options = {} }
--   > function r:run(o, run)
--   >   run.loader = lumen.data.loader { source = { kind = "phantom", count = 4 }, size = 32, batch = 2 }
--   >   run.model = lumen.nn.Conv2d(3, 1, 3)
--   >   run.optimizer = lumen.optim.adamw(run.model)
--   >   for epoch in run:epochs() do
--   >     for batch in run:batches(epoch) do run:step(run.model(batch.image):square():mean()) end
--   >   end
--   > end
--   > run = r:start { out = os.tmpname() .. ".d", steps = 2 }
--   > run:continue()
--   > run.step_count
--   4
function Run:continue(values) session.continue(self, values) end

-- Leaves the training loop of a run that waits and lets the recipe end, which writes
-- result.json. Returns the metrics.
--   > r = lumen.recipe { name = "demo", about = "Learns nothing.", options = {} }
--   > function r:run(o, run)
--   >   local source = { kind = "phantom", count = 4, size = 32 }
--   >   run.loader = lumen.data.loader { source = source, batch = 2, size = 32 }
--   >   run.model = lumen.nn.Conv2d(3, 1, 1)
--   >   run.optimizer = lumen.optim.sgd(run.model)
--   >   for epoch in run:epochs() do
--   >     for batch in run:batches(epoch) do run:step(run.model(batch.image):square():mean()) end
--   >   end
--   >   return { steps = run.step_count }
--   > end
--   > run = r:start { out = os.tmpname() .. ".d", epochs = 100, steps = 1 }
--   > run:finish().steps
--   1
function Run:finish() return session.finish(self) end

-- Closes the log and gives up the lock on the directory.
--   > r = lumen.recipe { name = "demo", about = "Nothing.", options = {} }
--   > run = lumen.run.open(r, { {"out", os.tmpname() .. ".d"} })
--   > run:close()
function Run:close()
  if self.status ~= "finished" then self.status = "closed" end
  session.close(self)
  for _, part in ipairs { "progress", "log", "board" } do
    if self[part] then self[part]:close() end
    self[part] = nil
  end
  self.lock:release()
end

-- metrics: name -> number, or name -> such a table (a group).
function Run:_write_result(metrics)
  local rows = json.sorted(metrics)
  local fields = { { "finished", true }, { "recipe", self.recipe.name }, { "metrics", rows } }
  for _, row in ipairs(rows) do
    if type(row[2]) == "table" then
      row[2] = json.sorted(row[2])
      fields[#fields + 1] = row -- groups stand at the top level too
    end
  end
  if self.data then fields[#fields + 1] = { "data", self.data } end
  local ok, message = pcall(report.write, { self.dir }, self.dir .. "/report.html",
    { metrics = metrics, recipe = self.recipe.name, beside = true })
  if not ok then io.stderr:write(("report.html: %s\n"):format(tostring(message))) end
  core.fs.write(self.dir .. "/result.json", json.object(fields) .. "\n")
end

-- Runs another recipe in stages/<name>; what is finished there is not run again. values:
-- option -> value. Returns its metrics and its directory.
-- -> table, str
--   > inner = lumen.recipe { name = "inner", about = "A part.", options = {} }
--   > function inner:run(o) return { seed = o.seed } end
--   > outer = lumen.recipe { name = "outer", about = "The whole.", options = {} }
--   > function outer:run(o, run) return (run:stage("first", inner, { seed = 7 })) end
--   > outer:start { out = os.tmpname() .. ".d" }.metrics.seed
--   7
function Run:stage(name, recipe, values)
  local dir = ("%s/stages/%s"):format(self.dir, name)
  local overrides = json.sorted(values)
  for _, pair in ipairs { { "out", dir }, { "resume", true } } do
    overrides[#overrides + 1] = pair
  end
  local metrics = execute(recipe, overrides)
  core.seed(self.o.seed)
  return metrics, dir
end

-- Writes down what data the run uses, in env.json and result.json: its name, and a table of
-- facts with the fingerprint of the files.
--   > r = lumen.recipe { name = "demo", about = "Nothing.", options = {} }
--   > function r:run(o, run) run:note_data("phantom train", { fingerprint = "0" }) end
--   > run = r:start { out = os.tmpname() .. ".d" }
--   > lumen.json.decode(lumen.fs.read(run.dir .. "/env.json")).data["phantom train"].fingerprint
--   0
function Run:note_data(name, facts)
  directory.note_data(self.dir, name, facts)
  self.data = self.data or {}
  self.data[#self.data + 1] = { name, json.sorted(facts) }
end

-- Saves a picture (u8 [H, W] or [H, W, 3], or floats 0 to 1) as images/<name>.png.
--   > r = lumen.recipe { name = "demo", about = "Nothing.", options = {} }
--   > run = lumen.run.open(r, { {"out", os.tmpname() .. ".d"} })
--   > run:image("noise", lumen.rand(8, 8))
--   > lumen.image.load(run.dir .. "/images/noise.png").shape
--   {8, 8}
function Run:image(name, image)
  core.fs.mkdir(self.dir .. "/images")
  local path = ("%s/images/%s.png"):format(self.dir, name)
  core.image.save(path, picture.to_u8(image))
  if self.board then
    self.board:image(self.step_count, name:gsub("_%d+$", ""), core.fs.read(path), image.shape[1],
      image.shape[2], image.shape[3] or 1)
  end
end

-- Is this batch one to draw pictures of: the last of the first epoch, of the last one, and of
-- every tenth part of them?
-- -> bool
--   > r = lumen.recipe { name = "demo", about = "Nothing.", options = {} }
--   > run = lumen.run.open(r, { {"out", os.tmpname() .. ".d"} })
--   > run.last_of_epoch, run.epoch, run.epoch_count = true, 20, 100
--   > run:draws()
--   true
function Run:draws()
  local epoch, epochs = self.epoch, self.epoch_count
  return self.last_of_epoch and
    (epoch == 1 or epoch == epochs or epoch % math.max(1, epochs // 10) == 0)
end

-- Lengths of the training in batches and steps; checks what the recipe has set.
function Run:_plan()
  local run = self
  for _, field in ipairs { "model", "loader", "optimizer" } do
    if not run[field] then
      error(("run.%s must be set before run:epochs()"):format(field), 3)
    end
  end
  local o = run.o
  run.batches_per_epoch = run.loader:batches()
  if run.batches_per_epoch == 0 then
    error(("%d images make no batch of %d"):format(#run.loader, o.batch), 0)
  end
  if o.steps > 0 then
    run.total = o.steps
    run.epoch_count = math.ceil(o.steps * o.accumulate / run.batches_per_epoch)
  else
    run.epoch_count = o.epochs
    run.total = o.epochs * run.batches_per_epoch // o.accumulate
  end
  if run.total == 0 then
    error(("accumulate=%d is more than the %d batches of the training"):format(
      o.accumulate, o.epochs * run.batches_per_epoch), 0)
  end
end

local function restore(run)
  local dir, saved = checkpoint.latest(run.dir)
  if not dir then return end
  run.model:load_state_dict(core.load(dir .. "/model.safetensors"))
  run.optimizer:load_state_dict(core.load(dir .. "/optimizer.safetensors"),
    math.tointeger(saved.updates))
  run.step_count, run.micro = math.tointeger(saved.step), math.tointeger(saved.batches)
  run.saved_step = run.step_count
  run.state = saved.state or {}
end

-- Writes a checkpoint of model, optimizer and counters, unless there is one of this step; the
-- newest `keep` stay.
--   > r = lumen.recipe { name = "demo", about = "Nothing.", options = {} }
--   > run = lumen.run.open(r, { {"out", os.tmpname() .. ".d"} })
--   > run.model = lumen.nn.Linear(2, 1)
--   > run.optimizer = lumen.optim.sgd(run.model)
--   > run:save()
--   > lumen.fs.list(run.dir .. "/checkpoints")
--   {"step_0"}
function Run:save()
  self.save_due = nil
  if self.saved_step == self.step_count then return end
  if self.board then self.board:flush() end
  checkpoint.save(self.dir, self.step_count, self.model, self.optimizer, {
    { "step", self.step_count }, { "batches", self.micro },
    { "updates", self.optimizer.steps }, { "seed", self.o.seed },
    { "state", json.sorted(self.state) } }, self.o.keep)
  self.saved_step = self.step_count
end

-- End with a checkpoint when the program was asked to terminate or interrupted.
local function heed(run)
  if not (core.terminated() or core._interrupt.asked()) then return end
  run:save()
  error({ terminated = true, code = core.terminated() and 143 or 130,
    message = ("stopped after step %d; resume=true out=%s continues"):format(run.step_count,
      run.dir) }, 0)
end

-- Epochs 1..E, from the checkpoint's on when the run is resumed. The checkpoint at the end of an
-- epoch is made after the body of the loop, so it holds what the body did there (validation).
-- run.model, run.loader and run.optimizer must be set before.
-- -> function
--   > r = lumen.recipe { name = "demo", about = "Learns a constant.", options = { {"lr", 10.0} } }
--   > function r:run(o, run)
--   >   local source = { kind = "phantom", count = 4, size = 32 }
--   >   run.loader = lumen.data.loader { source = source, batch = 2, size = 32 }
--   >   run.model = lumen.nn.Conv2d(3, 1, 1)
--   >   run.optimizer = lumen.optim.sgd(run.model)
--   >   for epoch in run:epochs() do
--   >     for batch in run:batches(epoch) do
--   >       run:step((run.model(batch.image) - batch.mask):square():mean())
--   >     end
--   >   end
--   > end
--   > run = r:start { out = os.tmpname() .. ".d", epochs = 2 }
--   > run.step_count, run.epoch
--   4
--   2
function Run:epochs()
  self:_plan()
  restore(self)
  self.log = log.open(self.dir .. "/log.jsonl", self.step_count)
  self.board = tensorboard.open(self.dir, self.step_count, self.total)
  self.progress = progress.open(self.recipe.name)
  self.began, self.began_step = core.time(), self.step_count
  local epoch = self.micro // self.batches_per_epoch
  return function()
    if self.epoch then
      if self.waiting == 0 and (self.o.save_every == 0 or self.save_due) then
        self:save()
      elseif self.o.save_every == 0 then
        self.save_due = true
      end
      if self.waiting == 0 and not session.current then heed(self) end
    end
    epoch = epoch + 1
    if epoch > self.epoch_count or self.step_count >= self.total or self.state.stopped then
      self:save()
      self.progress:close()
      return nil
    end
    self.epoch = epoch
    return epoch
  end
end

-- The batches of an epoch, each inside a memory scope of its own: what must outlive it goes
-- through run.state or scope:keep. run.rng and the random operations start at the number of
-- the batch.
-- -> function
--   > r = lumen.recipe { name = "demo", about = "Counts.", options = {} }
--   > function r:run(o, run)
--   >   local source = { kind = "phantom", count = 4, size = 32 }
--   >   run.loader = lumen.data.loader { source = source, batch = 2, size = 32 }
--   >   run.model = lumen.nn.Conv2d(3, 1, 1)
--   >   run.optimizer = lumen.optim.sgd(run.model)
--   >   for epoch in run:epochs() do
--   >     for batch in run:batches(epoch) do
--   >       print(batch.image.shape)
--   >       run:step(run.model(batch.image):mean())
--   >     end
--   >   end
--   > end
--   > run = r:start { out = os.tmpname() .. ".d" }
--   {2, 3, 32, 32}
--   {2, 3, 32, 32}
function Run:batches(epoch)
  local first = math.max(0, self.micro - (epoch - 1) * self.batches_per_epoch)
  local next_batch, source = self.loader:epoch(epoch, first + 1)
  local scope
  local closer = setmetatable({}, { __close = function() if scope then scope:close() end end })
  self.step_began, self.wait_began = core.time(), self.loader:wait_seconds()
  return function()
    if scope then
      scope:close()
      scope = nil
    end
    if self.step_count >= self.total then return nil end
    scope = core.scope()
    local batch = next_batch(source)
    if not batch then return nil end
    for name, value in next, batch do
      if core.is_tensor(value) then batch[name] = value:to(self.device) end
    end
    self.batch = batch
    self.last_of_epoch = (self.micro + 1) % self.batches_per_epoch == 0
    core.random_step(self.micro, "step")
    self.rng.step, self.rng.counter = self.micro, 0
    return batch
  end, nil, nil, closer
end

-- Learning rate of the coming step: warm-up and cosine over the options lr (per 256 images),
-- warmup, min_lr, or run.schedule(step, total).
-- -> number
--   > r = lumen.recipe { name = "demo", about = "Nothing.", options = {} }
--   > run = lumen.run.open(r, { {"out", os.tmpname() .. ".d"}, {"batch", 256} })
--   > run.total, run.step_count = 100, 5
--   > run:rate() == run.o.lr
--   true
function Run:rate()
  local o = self.o
  local scale = o.batch * o.accumulate / 256
  if self.schedule then return self.schedule(self.step_count, self.total) end
  return schedule.warmup_cosine(o.lr * scale, self.step_count, self.total,
    o.warmup * self.total, o.min_lr * scale)
end

-- Backward and, after every `accumulate` batches, one optimizer step, one log line and, when
-- due, a checkpoint. parts: name -> number or scalar tensor, logged beside the loss. A step
-- with a non-finite loss or gradient is left out; after 20 in a row the run ends with an
-- error.
--   > r = lumen.recipe { name = "demo", about = "One step.", options = {} }
--   > function r:run(o, run)
--   >   local source = { kind = "phantom", count = 2, size = 32 }
--   >   run.loader = lumen.data.loader { source = source, batch = 2, size = 32 }
--   >   run.model = lumen.nn.Conv2d(3, 1, 1)
--   >   run.optimizer = lumen.optim.sgd(run.model)
--   >   for epoch in run:epochs() do
--   >     for batch in run:batches(epoch) do
--   >       local loss = run.model(batch.image):square():mean()
--   >       run:step(loss, { half = loss / 2 })
--   >     end
--   >   end
--   > end
--   > run = r:start { out = os.tmpname() .. ".d" }
--   > run.state.half * 2 == run.state.loss
--   true
function Run:step(loss, parts)
  local value = loss:item()
  self.loss = value
  if value == value and math.abs(value) < math.huge then
    loss:backward()
  else
    self.bad = true
  end
  self.sums.loss = (self.sums.loss or 0) + value
  for name, part in next, parts or {} do
    if type(part) ~= "number" then part = part:item() end
    self.sums[name] = (self.sums[name] or 0) + part
  end
  self.micro, self.waiting = self.micro + 1, self.waiting + 1
  if self.waiting == self.o.accumulate then self:_update() end
end

function Run:_update()
  local lr, norm, done = self:rate(), 0 / 0, false
  if self.bad then
    self.model:zero_grad()
  else
    local scale, coming = 1 / self.o.accumulate, self.step_count + 1
    if self.board:draws(coming) then self.board:histograms(coming, self.model, scale) end
    self.updating = true -- an error in here leaves parameters of two steps
    norm, done = self.optimizer:step(lr, scale)
    self.updating = nil
  end
  self.step_count = self.step_count + 1
  self:_report(lr, norm, done)
  self.bad, self.sums, self.waiting = nil, {}, 0
  self.bad_in_row = done and 0 or self.bad_in_row + 1
  if self.bad_in_row >= most_skipped then
    error(("the loss or the gradient was not finite in %d steps in a row (step %d)"):format(
      most_skipped, self.step_count), 0)
  end
  local every = self.o.save_every
  if every > 0 and self.step_count % every == 0 then self.save_due = true end
  local ends = self.last_of_epoch or self.step_count >= self.total
  if self.save_due and not ends then self:save() end
  if session.current then return session.safe_point(self) end
  if not ends then heed(self) end
end

-- Ends the training after this epoch, also when the run is resumed.
--   > r = lumen.recipe { name = "demo", about = "Stops early.", options = {} }
--   > function r:run(o, run)
--   >   local source = { kind = "phantom", count = 2, size = 32 }
--   >   run.loader = lumen.data.loader { source = source, batch = 2, size = 32 }
--   >   run.model = lumen.nn.Conv2d(3, 1, 1)
--   >   run.optimizer = lumen.optim.sgd(run.model)
--   >   for epoch in run:epochs() do
--   >     for batch in run:batches(epoch) do run:step(run.model(batch.image):square():mean()) end
--   >     if epoch == 3 then run:stop() end
--   >   end
--   > end
--   > run = r:start { out = os.tmpname() .. ".d", epochs = 100 }
--   > run.epoch
--   3
function Run:stop() self.state.stopped = 1 end

-- Compare the model with the best so far: best/model.safetensors are the weights of the highest
-- `value`, state.best that value and state.best_epoch the epoch. True when this one is it.
-- run.weights(dir), which init= reads, prefers them to the last ones.
--   > r = lumen.recipe { name = "demo", about = "Nothing.", options = {} }
--   > run = lumen.run.open(r, { {"out", os.tmpname() .. ".d"} })
--   > run.model, run.epoch = lumen.nn.Linear(2, 1), 1
--   > run:keep_best(0.7), run:keep_best(0.6), run.state.best
--   true
--   false
--   0.7
function Run:keep_best(value)
  if self.state.best and not (value > self.state.best) then return false end
  self.state.best, self.state.best_epoch = value, self.epoch
  checkpoint.save_best(self.dir, self.model)
  return true
end

-- A line in log.jsonl that belongs to no step alone: fields = list of { name, value }.
--   > r = lumen.recipe { name = "demo", about = "Validates.", options = {} }
--   > function r:run(o, run)
--   >   local source = { kind = "phantom", count = 2, size = 32 }
--   >   run.loader = lumen.data.loader { source = source, batch = 2, size = 32 }
--   >   run.model = lumen.nn.Conv2d(3, 1, 1)
--   >   run.optimizer = lumen.optim.sgd(run.model)
--   >   for epoch in run:epochs() do
--   >     for batch in run:batches(epoch) do run:step(run.model(batch.image):square():mean()) end
--   >     run:note { { "dice", 0.5 } }
--   >   end
--   > end
--   > run = r:start { out = os.tmpname() .. ".d" }
--   > lumen.fs.read(run.dir .. "/log.jsonl"):match('"dice": 0.5')
--   "dice": 0.5
function Run:note(fields)
  local row = { { "epoch", self.epoch }, { "step", self.step_count } }
  self.log:write(table.move(fields, 1, #fields, #row + 1, row))
end

function Run:_report(lr, norm, done)
  local now, waited = core.time(), self.loader:wait_seconds()
  local seconds = math.max(now - self.step_began, 1e-9)
  local images = self.o.batch * self.o.accumulate
  local rate, wait = images / seconds, (waited - self.wait_began) / seconds
  self.step_began, self.wait_began = now, waited
  local loss = self.sums.loss / self.o.accumulate
  self.state.loss = loss
  local fields = { { "epoch", self.epoch }, { "step", self.step_count }, { "loss", loss } }
  for _, pair in ipairs(json.sorted(self.sums)) do
    if pair[1] ~= "loss" then
      self.state[pair[1]] = pair[2] / self.o.accumulate
      fields[#fields + 1] = { pair[1], self.state[pair[1]] }
    end
  end
  for _, pair in ipairs { { "lr", lr }, { "grad_norm", norm }, { "images_per_s", rate },
                          { "data_wait", wait } } do
    fields[#fields + 1] = pair
  end
  if not done then
    fields[#fields + 1] = { "skipped", true }
    self.progress:note(("step %d skipped: loss or gradient is not finite"):format(self.step_count))
  end
  self.log:write(fields)
  self.board:scalars(self.step_count, fields)
  local steps = self.step_count - self.began_step
  local mean = (now - self.began) / steps
  self.progress:step { epoch = self.epoch, epochs = self.epoch_count, step = self.step_count,
    total = self.total, loss = loss, rate = images / mean, wait = wait,
    eta = mean * (self.total - self.step_count), memory = core.memory().peak }
end

return { execute = execute, start = start, open = open, weights = checkpoint.weights, Run = Run }
