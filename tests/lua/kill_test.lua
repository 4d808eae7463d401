-- kill_test.lua: a pre-training run killed with SIGKILL at arbitrary moments and continued
-- leaves the losses, the weights and the result of one that was never stopped.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"

local program = io.popen("readlink /proc/$PPID/exe"):read("l")
local common = "recipes/vasomim.lua preset=smoke images=24 epochs=3 threads=1 save_every=2 "

local function command(dir)
  return ("%s %s out=%s resume=true >%s.out 2>&1"):format(program, common, dir, dir)
end

local function finished(dir) return lumen.fs.exists(dir .. "/result.json") end

-- Bytes written into the run so far: the clock by which moments are chosen, so that a slow
-- machine is killed at the same places as a fast one.
local function progress(dir)
  local pipe = io.popen(("cat %s/log.jsonl %s/stages/*/log.jsonl 2>/dev/null | wc -c"):format(dir, dir))
  local n = tonumber(pipe:read("a"))
  pipe:close()
  return n
end

-- Start the run, kill it when `bytes` more of log are there and `delay` seconds have gone.
local function start_and_kill(dir, bytes, delay)
  local pipe = io.popen(("%s & echo $!"):format(command(dir)))
  local process = pipe:read("l")
  pipe:close()
  local target, deadline = progress(dir) + bytes, lumen.time() + 60
  while progress(dir) < target and not finished(dir) and lumen.time() < deadline do
    os.execute("sleep 0.01")
  end
  os.execute(("sleep %.3f; kill -9 %s 2>/dev/null; while kill -0 %s 2>/dev/null; do sleep 0.01; done")
    :format(delay, process, process))
end

-- The log without what a clock wrote into it.
local function steps(dir)
  local rows = {}
  for line in io.lines(dir .. "/log.jsonl") do
    rows[#rows + 1] = line:gsub(', "images_per_s".*', "")
  end
  return rows
end

local function bytes_of(dir)
  local checkpoints = lumen.fs.list(dir .. "/checkpoints")
  table.sort(checkpoints)
  return lumen.fs.read(("%s/checkpoints/%s/model.safetensors"):format(dir, checkpoints[#checkpoints]))
end

TestKill = {}

function TestKill.test_killed_run_equals_uninterrupted()
  local folder = helper.temporary_folder()
  local whole, part = folder .. "/whole", folder .. "/part"
  lu.assertTrue(os.execute(command(whole)), lumen.fs.read(whole .. ".out"))
  local rng, kills = { seed = 7, stream = "kill" }, 0
  while not finished(part) and kills < 8 do
    local draw = lumen.rand({ 2 }, { rng = rng }):totable()
    start_and_kill(part, draw[1] * 900 // 1, draw[2] * 0.2)
    kills = kills + 1
  end
  lu.assertTrue(kills >= 2, "the run ended before it was killed twice")
  lu.assertTrue(os.execute(command(part)), lumen.fs.read(part .. ".out"))
  lu.assertEquals(steps(part), steps(whole))
  lu.assertEquals(steps(part .. "/stages/segmentor"), steps(whole .. "/stages/segmentor"))
  lu.assertTrue(bytes_of(part) == bytes_of(whole), "the weights differ")
  lu.assertEquals(lumen.fs.read(part .. "/result.json"), lumen.fs.read(whole .. "/result.json"))
  helper.remove_folder(folder)
end

helper.run()
