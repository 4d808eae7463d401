-- prompt_test.lua: the prompt on a pipe, what Tab offers, the history file.
-- tests/lua/terminal_test.lua has the prompt in a terminal.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local complete = require "lumen.prompt.complete"

local function program()
  local pipe = io.popen("readlink /proc/$PPID/exe")
  local path = pipe:read("l")
  pipe:close()
  return path
end

-- What the prompt writes to stdout and to stderr when it reads `input`, and its exit code.
local function session(input, arguments)
  local file, errors = os.tmpname(), os.tmpname()
  lumen.fs.write(file, input)
  local pipe = io.popen(("%s %s <%s 2>%s"):format(program(), arguments or "-i", file, errors))
  local out = pipe:read("a")
  local _, _, code = pipe:close()
  local complaints = lumen.fs.read(errors)
  os.remove(file)
  os.remove(errors)
  return out, complaints, code
end

TestPipe = {}

function TestPipe.test_results_print_themselves()
  lu.assertEquals({ session("1 + 1\n'a', nil, {1, b = 2}\nx = 3\nx\nnil\nprint(5)\n") },
    { '2\n"a"  nil  {1, b = 2}\n3\nnil\n5\n', "", 0 })
  lu.assertEquals((session("1 + 1", "")), "2\n") -- no newline at the end, and without -i
end

function TestPipe.test_it_goes_on_after_errors()
  local out, complaints, code = session(
    "nil_name\nx = = 2\nerror(1)\nerror({})\nerror(nil)\nerror({message = 'own'})\n7\n")
  lu.assertEquals({ out, code }, { "7\n", 0 })
  lu.assertEquals(complaints, "error: there is no global 'nil_name'\n" ..
    "error: unexpected symbol near '='\nerror: 1\nerror: error object {}\nerror: nil\n" ..
    "error: own\n")
end

function TestPipe.test_typos_get_a_suggestion()
  local _, complaints = session("prnt(1)\nlumen.zeross(1)\nlumen.ones(2):sofmax()\n")
  for _, name in ipairs { "print", "zeros", "softmax" } do
    lu.assertStrContains(complaints, "hint: did you mean " .. name .. "?")
  end
end

function TestPipe.test_statements_may_span_lines()
  lu.assertEquals({ session("for i = 1, 2 do\nprint(i)\nend\n{\n1,\n2}\nx = 1 +\n2\nx\n") },
    { "1\n2\n{1, 2}\n3\n", "", 0 })
  local out, complaints, code = session("1\nif true then\n")
  lu.assertEquals({ out, code }, { "1\n", 0 })
  lu.assertStrContains(complaints, "inside a statement")
end

function TestPipe.test_errors_name_the_line_of_a_longer_entry()
  local _, complaints = session("do\nlocal x\nx.y = 1\nend\n")
  lu.assertStrContains(complaints, "error: line 3: attempt to index a nil value (local 'x')")
end

function TestPipe.test_locals_survive_their_entry()
  lu.assertEquals((session("local a = 1\nlocal function f() return 2 end\nlocal b, c\n" ..
    "a, f()\nlocal functional = 3\nfunctional\nlocal k <const> = 1\n")), "1  2\n3\n")
end

function TestPipe.test_an_expression_after_statements_is_shown()
  local out, complaints = session("x = 5 x * 2\nt = {} t.t = t t\nfor i = 1, 3 do i end\n")
  lu.assertEquals(out, "10\n{t = {...}}\n")
  lu.assertStrContains(complaints, "syntax error")
end

function TestPipe.test_last_result_and_trace()
  local out = session("1 + 1\n_ * 2\nlumen.ones(2):sum({1, 2, 3})\ntrace()\n")
  lu.assertStrMatches(out, "2\n4\n.*stack traceback:.*")
end

function TestPipe.test_exit_words_end_it()
  lu.assertEquals((session("1\nexit\n2\n")), "1\n")
  lu.assertEquals((session("1\nquit()\n2\n")), "1\n")
end

function TestPipe.test_a_file_may_run_first()
  local file = os.tmpname()
  lumen.fs.write(file, "answer = 42")
  lu.assertEquals((session("answer\n", "-i " .. file)), "42\n")
  os.remove(file)
end

-- ---- Tab ---------------------------------------------------------------------------------------

TestComplete = {}

function TestComplete:setUp()
  complete.helpers = { lumen = lumen, recipe = lumen.recipe }
  complete.helper_names = complete.helpers
  rawset(_G, "tab_x", lumen.ones(2))
  rawset(_G, "tab_t", { alpha = 1, beta = print, _hidden = 2, ["not a name"] = 3 })
end

function TestComplete:tearDown()
  for _, name in ipairs { "tab_x", "tab_t", "tab_r" } do rawset(_G, name, nil) end
end

local function offers(text, ...)
  local _, list = complete.list(text)
  for _, wanted in ipairs { ... } do
    lu.assertTableContains(list, wanted, text)
  end
  return list
end

function TestComplete.test_names()
  offers("prin", "print")
  offers("x = whi", "while")
  offers("lum", "lumen")
  offers("f(tab_", "tab_x", "tab_t")
  lu.assertEquals(offers("tab_t."), { "alpha", "beta" })
  lu.assertEquals(offers("tab_t:"), { "beta" })
  offers("lumen.nn.Lin", "Linear")
  offers("lumen.", "nn", "zeros", "recipe")
  offers("string.", "format")
  offers("('x'):up", "upper")
end

function TestComplete.test_methods_of_tensors()
  offers("tab_x:soft", "softmax", "softplus")
  offers("tab_x.", "shape", "dtype", "grad", "requires_grad")
  offers("y = (tab_x + 1):re", "relu", "reshape")
  offers("lumen.randn(2):re", "relu")
end

function TestComplete.test_options_of_calls()
  lu.assertEquals(offers("tab_x:softmax{"), { "dim=" })
  lu.assertEquals(offers("lumen.softmax(tab_x, { d"), { "dim=" })
  offers("lumen.zeros(2, {", "dtype=", "device=", "requires_grad=")
  offers("tab_x:conv2d(w, { stride = 2, p", "padding=")
  rawset(_G, "tab_r", lumen.recipe "vasomim")
  offers("tab_r:start{mask", "mask_ratio=", "masking=")
  offers("tab_r:start{ mask_ratio = tab_", "tab_x") -- a value, not a name
end

function TestComplete.test_inside_strings()
  offers('recipe "vaso', "vasomim")
  offers('io.open("recipes/vaso', "vasomim.lua")
  offers('lumen.load("CMa', "CMakeLists.txt")
  offers("x = 'rec", "recipes/")
  lu.assertEquals(complete.press('recipe "vaso', 80), 'mim"')
  lu.assertEquals(offers("-- prin"), {})
  lu.assertEquals(offers("[[ prin"), {})
end

function TestComplete.test_press()
  lu.assertEquals(complete.press("tab_t.al", 80), "pha")
  lu.assertEquals({ complete.press("tab_t.", 80) }, { nil, "alpha  beta" })
  lu.assertEquals(complete.press("  ", 80), "  ")
  lu.assertNil(complete.press("no_such_thing_", 80))
end

-- Looking for names runs no code of the user's.
function TestComplete.test_no_metamethod_runs()
  local function fails() error("ran") end
  local meta = { __index = fails, __pairs = fails, __len = fails, __eq = fails,
                 __metatable = false }
  rawset(_G, "tab_t", setmetatable({ seen = 1 }, meta))
  lu.assertEquals(offers("tab_t."), { "seen" })
  lu.assertEquals(offers("tab_t.missing."), {})
  lu.assertEquals(offers("tab_t:go{"), offers("tab_t:go{"))
end

function TestComplete.test_any_text_is_fine()
  for _, text in ipairs { "", "(", "{{{{[", "a.b.c.d.", "a..", "1.", "1:", "'\\", "\"", "[==[",
    "--[[", "x:y:z", ":", ".", "\0", "\xff", "a\xff.", ("("):rep(1e4), ("{"):rep(1e4),
    ("a."):rep(1e4), ("'"):rep(1e4), "}}}}", "x{y=", "x:y{[" } do
    complete.press(text, 80)
    complete.press(text, 1)
  end
end

-- ---- history -----------------------------------------------------------------------------------

TestHistory = {}

function TestHistory:setUp()
  self.dir = helper.temporary_folder()
  self.path = self.dir .. "/lumen/history"
end

function TestHistory:tearDown() helper.remove_folder(self.dir) end

local function history(dir, body)
  local code = ("h = require 'lumen.prompt.history'; %s"):format(body)
  local pipe = io.popen(("XDG_STATE_HOME='%s' %s -e \"%s\" 2>&1"):format(dir, program(), code))
  local out = pipe:read("a")
  pipe:close()
  return out
end

function TestHistory:test_entries_come_back()
  history(self.dir, [[h.open() h.add('a = 1') h.add('if x then\n  y = \'\\\\n\'\nend')]])
  lu.assertEquals(history(self.dir, "for _, e in ipairs(h.open()) do print(e) end"),
    "a = 1\nif x then\n  y = '\\n'\nend\n")
end

function TestHistory:test_it_is_limited()
  history(self.dir, "h.open() for i = 1, 5000 do h.add(i .. (' '):rep(300)) end")
  lu.assertEquals(history(self.dir, "print(h.open()[1] ~= nil)"), "true\n")
  lu.assertTrue(lumen.fs.stat(self.path).size < 1 << 20)
  lu.assertEquals(history(self.dir, "e = h.open() print(#e, (e[#e]:gsub(' ', '')))"),
    "2000\t5000\n")
end

function TestHistory:test_two_sessions()
  history(self.dir, "h.open() h.add('one')")
  history(self.dir, "h.open() os.execute([[printf 'other\\n' >> " .. self.path ..
    "]]) h.add('two')")
  lu.assertEquals(history(self.dir, "print(table.concat(h.open(), ' '))"), "one other two\n")
end

function TestHistory:test_a_folder_that_cannot_be_used()
  lumen.fs.write(self.dir .. "/lumen", "a file where the folder should be")
  lu.assertStrContains(history(self.dir, "print(pcall(h.open)) h.add('x') print('alive')"), "alive")
end

helper.run()
