-- process_test.lua: programs started from Lua: what they are given, how they end, that they
-- die with their parent.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local process = lumen.process

TestProcess = {}

function TestProcess:setUp() self.dir = helper.temporary_folder() end
function TestProcess:tearDown() helper.remove_folder(self.dir) end

local function wait(p)
  local stop = lumen.time() + 60
  while p:poll() == nil and lumen.time() < stop do process.sleep(0.01) end
  return p:poll()
end

function TestProcess:start(...)
  return process.start({ "/bin/sh", "-c", ... }, self.dir .. "/out")
end

function TestProcess:test_arguments_need_no_quoting()
  local odd = { "a b", "$HOME", "'\"\\", "", "*", "x\ny" }
  local p = self:start('for a; do printf "%s|" "$a"; done; echo gone >&2; exit 7', "sh",
    table.unpack(odd))
  lu.assertEquals(wait(p), 7)
  lu.assertEquals(p:poll(), 7)
  lu.assertEquals(lumen.fs.read(self.dir .. "/out"), table.concat(odd, "|") .. "|gone\n")
end

function TestProcess:test_output_is_appended()
  for i = 1, 2 do wait(self:start("echo " .. i)) end
  lu.assertEquals(lumen.fs.read(self.dir .. "/out"), "1\n2\n")
end

function TestProcess:test_nothing_to_read_and_no_open_files()
  local file <close> = io.open(self.dir .. "/held", "w")
  lu.assertEquals(wait(self:start("cat; ls -l /proc/self/fd | grep -c held; true")), 0)
  lu.assertEquals(lumen.fs.read(self.dir .. "/out"), "0\n")
  lu.assertNotNil(file)
end

function TestProcess:test_signals()
  local p = self:start("trap 'exit 5' TERM; while :; do sleep 0.05; done")
  lu.assertNil(p:poll())
  process.sleep(0.3) -- let the shell set its trap
  p:stop()
  lu.assertEquals(wait(p), 5)
  p = self:start("while :; do sleep 0.05; done")
  p:stop(true)
  lu.assertEquals(wait(p), 137)
  p:stop() -- it is gone: nothing happens
end

function TestProcess:test_errors()
  lu.assertErrorMsgContains("/no/such/program: cannot start it: No such file", process.start,
    { "/no/such/program" }, self.dir .. "/out")
  lu.assertErrorMsgContains("cannot write", process.start, { "/bin/true" }, self.dir .. "/no/out")
  lu.assertErrorMsgContains("1 to 9999 strings", process.start, {}, self.dir .. "/out")
  lu.assertErrorMsgContains("argument 2 is a boolean", process.start, { "/bin/true", true },
    self.dir .. "/out")
  lu.assertErrorMsgContains("seconds", process.sleep, -1)
  lu.assertErrorMsgContains("seconds", process.sleep, 0 / 0)
end

-- A program that starts another one and is killed: the other one must not live on.
function TestProcess:test_children_die_with_their_parent()
  local child = self.dir .. "/child.lua"
  lumen.fs.write(child, ([[
    local lumen = require "lumen"
    local lock = lumen.fs.lock(%q)
    lumen.process.sleep(100)
    lock:release()]]):format(self.dir .. "/lock"))
  local parent = self.dir .. "/parent.lua"
  lumen.fs.write(parent, ([[
    local process = require("lumen").process
    local p = process.start({ process.program(), %q }, %q)
    while p:poll() == nil do process.sleep(0.05) end]]):format(child, self.dir .. "/child_out"))
  local p = process.start({ process.program(), parent }, self.dir .. "/out")
  local function locked()
    local lock = lumen.fs.exists(self.dir .. "/lock") and lumen.fs.lock(self.dir .. "/lock")
    if lock then lock:release() end
    return lock == nil
  end
  local function until_locked(wanted)
    local stop = lumen.time() + 60
    while locked() ~= wanted and lumen.time() < stop do process.sleep(0.05) end
    return locked()
  end
  lu.assertTrue(until_locked(true), "the child never started")
  p:stop(true)
  lu.assertEquals(wait(p), 137)
  lu.assertFalse(until_locked(false), "the child lives on")
end

helper.run()
