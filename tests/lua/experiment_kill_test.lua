-- experiment_kill_test.lua: an experiment that is killed (SIGKILL) three times at random moments
-- and started again gives the table of the uninterrupted one; no cell is lost, none that has
-- finished runs again, half-done ones go on from their checkpoints.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local fs, process = lumen.fs, lumen.process

local experiment = [[
local lumen = require "lumen"
return lumen.experiment { name = "kill", about = "For the tests.", seeds = { 0, 1 },
  stages = {
    { name = "segmentor", recipe = "segmentor", options = { seed = 0, preset = "smoke" } },
    { name = "pretrain", recipe = "vasomim", grid = { { "mask_ratio", { 0.25, 0.75 } } },
      options = { preset = "smoke", segmentor = "@segmentor", epochs = 3, save_every = 1 } },
    { name = "finetune", recipe = "segment",
      options = { preset = "smoke", init = "@pretrain", save_every = 1, labels = "4" } } },
  rows = { { "VasoMIM" }, { "scratch", finetune = { options = { init = "" } } } },
  report = { "dice", "cldice" } }
]]

TestKill = {}

function TestKill:setUp()
  self.dir = helper.temporary_folder()
  fs.write(self.dir .. "/kill.lua", experiment)
end
function TestKill:tearDown() helper.remove_folder(self.dir) end

function TestKill:start(out)
  return process.start({ process.program(), self.dir .. "/kill.lua", "out=" .. out, "jobs=2",
    "threads=2" }, self.dir .. "/screen")
end

local function wait(p)
  while p:poll() == nil do process.sleep(0.02) end
  return p:poll()
end

-- run -> true for the stages that have a result.
local function finished(out)
  local set, count = {}, 0
  for _, name in ipairs(fs.isdir(out .. "/stages") and fs.list(out .. "/stages") or {}) do
    local info = fs.stat(("%s/stages/%s/result.json"):format(out, name))
    if info then set[name], count = info.mtime, count + 1 end
  end
  return set, count
end

-- How often each run was started, by the runner's own story.
local function starts(out)
  local count = {}
  for line in fs.exists(out .. "/events.jsonl") and io.lines(out .. "/events.jsonl") or function() end do
    local row = lumen.json.decode(line)
    if row.event == "started" then count[row.run] = (count[row.run] or 0) + 1 end
  end
  return count
end

local function assert_steps_once(out, name)
  local steps = 0
  for line in io.lines(("%s/stages/%s/log.jsonl"):format(out, name)) do
    steps = steps + 1
    lu.assertEquals(lumen.json.decode(line).step, steps, name)
  end
  lu.assertTrue(steps > 0)
end

function TestKill:test_three_kills()
  local whole, parts = self.dir .. "/whole", self.dir .. "/parts"
  local began = lumen.time()
  lu.assertEquals(wait(self:start(whole)), 0, fs.read(self.dir .. "/screen"))
  local duration = lumen.time() - began
  local moments = lumen.rand({ 3 }, { rng = { seed = 4, stream = "kill" } }):totable()
  local interrupted = 0
  for i = 1, 3 do
    local done, before = finished(parts), starts(parts)
    local p = self:start(parts)
    process.sleep((0.1 + 0.3 * moments[i]) * duration)
    if p:poll() == nil then interrupted = interrupted + 1 end
    p:stop(true)
    wait(p)
    for name, n in next, starts(parts) do
      if done[name] then lu.assertEquals(n, before[name], name .. " ran again") end
    end
  end
  lu.assertTrue(interrupted >= 2, "the kills came too late to show anything")
  local done, before = finished(parts), starts(parts)
  lu.assertEquals(wait(self:start(parts)), 0, fs.read(self.dir .. "/screen"))
  local now, count = finished(parts)
  for name, when in next, done do
    lu.assertEquals(now[name], when, name .. " was written again")
    lu.assertEquals(starts(parts)[name], before[name], name .. " ran again")
  end
  lu.assertEquals(count, 1 + 4 + 6) -- segmentor, pretrain, finetune: each setting once
  for _, name in ipairs { "table.md", "table.csv", "cells.csv", "result.json" } do
    lu.assertEquals(fs.read(parts .. "/" .. name), fs.read(whole .. "/" .. name))
  end
  for name in next, now do assert_steps_once(parts, name) end
  lu.assertEquals(fs.list(parts .. "/stages"), fs.list(whole .. "/stages"))
end

-- SIGTERM lets the stages save a checkpoint; nothing counts as failed; the same command goes on.
function TestKill:test_terminate()
  local out = self.dir .. "/out"
  local p = self:start(out)
  local stop = lumen.time() + 60
  while next(starts(out)) == nil and lumen.time() < stop do process.sleep(0.02) end
  process.sleep(0.5)
  p:stop()
  lu.assertEquals(wait(p), 143, fs.read(self.dir .. "/screen"))
  lu.assertStrContains(fs.read(self.dir .. "/screen"), "the same command continues")
  for _, name in ipairs(fs.list(out .. "/stages")) do
    lu.assertFalse(fs.exists(("%s/stages/%s/failed"):format(out, name)))
    local lock = fs.lock(("%s/stages/%s/lock"):format(out, name))
    lu.assertNotNil(lock, name .. " still runs")
    lock:release()
  end
  lu.assertEquals(wait(self:start(out)), 0, fs.read(self.dir .. "/screen"))
end

helper.run()
