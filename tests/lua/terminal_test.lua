-- terminal_test.lua: the prompt in a real terminal (tmux): completion, help, an error, Ctrl-C in
-- a long computation, a picture, a recipe that is changed, stopped and continued.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"

local function shell(command)
  local pipe = io.popen(command .. " 2>&1")
  local text = pipe:read("a")
  local _, _, code = pipe:close()
  return text, code
end

local lumen_path = shell("readlink /proc/$PPID/exe"):gsub("%s+$", "")
local root = shell("pwd"):gsub("%s+$", "")

-- ---- a terminal --------------------------------------------------------------------------------

local Terminal = {}
Terminal.__index = Terminal

local function quoted(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

function Terminal:tmux(arguments) return shell(("tmux -L %s %s"):format(self.name, arguments)) end

-- Starts the prompt in a tmux server of its own.
local function open(folder)
  local t = setmetatable({ name = "lumen" .. folder:match("[^/]*$") }, Terminal)
  local command = ("cd %s && XDG_STATE_HOME=%s LANG=C.UTF-8 %s"):format(root, folder, lumen_path)
  local start = ("tmux -L %s -f /dev/null new-session -d -x 100 -y 50 %s"):format(t.name,
    quoted("bash --norc -c " .. quoted(command .. "; echo ended with $?; sleep 100")))
  local said, code
  for _ = 1, 3 do -- on a busy machine tmux may lose the server that it is just starting
    said, code = shell(start)
    if code == 0 or not said:find("server exited", 1, true) then break end
  end
  lu.assertEquals(code, 0, "tmux: " .. said)
  return t
end

-- What the terminal shows. The prompt can't end the server, which lives as long as the shell around
-- the prompt; where something else ended it there is no terminal left to test in.
function Terminal:screen()
  local shown, code = self:tmux("capture-pane -p -S -500 -t 0")
  if code ~= 0 and shown:find("no server running", 1, true) then
    lu.skip("the tmux server was ended from outside")
  end
  return shown
end

-- Wait until the screen holds the text (a plain string) at least `times` times.
function Terminal:expect(text, times)
  local shown
  for _ = 1, 400 do
    shown = self:screen()
    local count, at = 0, 1
    while true do
      local _, stop = shown:find(text, at, true)
      if not stop then break end
      count, at = count + 1, stop + 1
    end
    if count >= (times or 1) then return shown end
    shell("sleep 0.05")
  end
  lu.fail(("waited for %q; the screen:\n%s"):format(text, shown))
end

-- Keys by tmux's names (Enter, Tab, C-c), or text.
function Terminal:press(...)
  for _, key in ipairs { ... } do self:tmux("send-keys -t 0 " .. key) end
end

function Terminal:type(text) self:tmux("send-keys -t 0 -l " .. quoted(text)) end

function Terminal:line(text)
  self:type(text)
  self:press("Enter")
end

function Terminal:close() self:tmux("kill-server") end

TestTerminal = {}

function TestTerminal:setUp()
  self.dir = helper.temporary_folder()
  local _, missing = shell("command -v tmux")
  if missing ~= 0 then
    helper.remove_folder(self.dir)
    lu.skip("no tmux")
  end
  self.terminal = open(self.dir)
  self.terminal:expect("Ctrl-D ends")
end

function TestTerminal:tearDown()
  if self.terminal then self.terminal:close() end
  helper.remove_folder(self.dir)
end

local function has_editor() return lumen._edit.available() end

function TestTerminal:test_a_tour()
  local t = self.terminal
  -- completion
  if has_editor() then
    t:type("x = lumen.rand")
    t:press("Tab", "Tab")
    t:expect("random_step")
    t:type("n(2, 3)")
    t:press("Enter")
    t:expect("> x = lumen.randn(2, 3)\n>") -- the next prompt
    t:type("x:softm")
    t:press("Tab")
    t:expect("> x:softmax")
    t:type("{d")
    t:press("Tab")
    t:expect("> x:softmax{dim=")
    t:line("2}")
  else
    t:line("x = lumen.randn(2, 3)")
    t:line("x:softmax{dim=2}")
  end
  t:expect("f32 cpu [2 x 3]  min ")
  -- help
  t:line('help "softmax"')
  t:expect("dim")
  -- an error
  t:line("x:sofmax()")
  t:expect("error: a tensor has no 'sofmax'")
  t:expect("hint: did you mean softmax?")
  -- Ctrl-C: in a loop of Lua, in operations, in a coroutine; the session is still there
  local loops = { "while true do end", "while true do lumen.rand(64, 64):exp() end",
                  "coroutine.wrap(function() while true do end end)()" }
  for i, loop in ipairs(loops) do
    t:line(loop)
    shell("sleep 0.3")
    t:press("C-c")
    t:expect("interrupted", i)
  end
  t:line("x.shape")
  t:expect("{2, 3}")
  -- a picture
  t:line("show(lumen.rand(16, 16)); 'shown'")
  t:expect('"shown"')
  -- Ctrl-C gives up a line, not the session
  t:type("this is no line")
  t:press("C-c")
  t:line("6 * 7")
  t:expect("42")
  -- Ctrl-D ends it
  t:press("C-d")
  t:expect("ended with 0")
end

function TestTerminal:test_a_recipe()
  local t = self.terminal
  t:line('r = recipe "vasomim"')
  t:line(("run = r:start { preset = 'smoke', steps = 2, threads = 1, out = '%s/run' }"):format(self.dir))
  t:expect("vasomim paused at step 2 of 2")
  t:line("run.batch.image.shape")
  t:expect("{8, 3, 64, 64}")
  t:line("calls = 0")
  t:line("r.masking = function(g, m) calls = calls + 1 return lumen.masking.random(g, m) end")
  t:line("run:continue { steps = 1000000 }")
  shell("sleep 1")
  t:press("C-c")
  t:expect("of 1000000, epoch")
  t:line("'called', calls > 0, run.loss > 0, run.status")
  t:expect('"called"  true  true  "paused"')
  t:line("r.masking = function() error('my bug') end")
  t:line("run:continue()")
  t:expect("my bug")
  t:expect("vasomim failed at step")
  t:line("r.masking = lumen.masking.guided")
  t:line("run:continue { steps = run.step_count + 1 } run.status .. '!'")
  t:expect('"paused!"')
  t:line("run:finish() run.status .. '!'")
  t:expect('"finished!"')
  lu.assertTrue(lumen.fs.exists(self.dir .. "/run/result.json"))
end

-- A pasted block is one entry; it comes back as a whole, in this session and in the next.
function TestTerminal:test_history_of_a_block()
  if not has_editor() then lu.skip("built without libedit") end
  local t = self.terminal
  lumen.fs.write(self.dir .. "/block", "for i = 1, 3 do\n  print('line ' .. i)\nend\n")
  t:tmux(("load-buffer %s/block"):format(self.dir))
  t:tmux("paste-buffer -p -t 0")
  t:expect("end")
  t:press("Enter")
  t:expect("line 3")
  t:press("Up", "Enter")
  t:expect("line 3", 2)
  t:press("C-d")
  t:expect("ended with 0")
  t:close()
  self.terminal = open(self.dir)
  t = self.terminal
  t:expect("Ctrl-D ends")
  t:press("Up", "Enter")
  t:expect("line 3")
end

helper.run()
