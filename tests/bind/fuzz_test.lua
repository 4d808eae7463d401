-- fuzz_test.lua: nothing that is typed ends the prompt, and no function of the library crashes
-- the process, whatever it is given. Fixed seeds; each case runs in a process of its own.
-- Left out: os.exit, the debug library and binary chunks, which can do anything.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local prompt = require "lumen.prompt"

local function program()
  local pipe = io.popen("readlink /proc/$PPID/exe")
  local path = pipe:read("l")
  pipe:close()
  return path
end

local lumen_path = program()
local seconds = 280 -- a machine that is busy

-- ---- lines ---------------------------------------------------------------------------------

-- Each is a complete entry, meant to hurt.
local hostile = {
  -- broken text
  { "\0", "x = '\0'", "\xff\xfe", "'\xff\xff'", "\xc3\xa9 = 1", "\27[31m", "print('\27[2J')",
  ("x"):rep(100000), "'" .. ("y"):rep(100000) .. "'", "return", "return return", "end", "}", ")",
  "]]", "=", "==", "...", "...", "goto x", "::a:: ::a::", "break", "local x <const> = 1; x = 2",
  "local x <close> = 5", "x = 0x", "1e", "1..2", "'\\xZZ'", "'\\u{110000000}'", "\"\\",
  ("("):rep(500) .. (")"):rep(500), ("{"):rep(500) .. ("}"):rep(500),
  "x = " .. ("-"):rep(1) .. (" not"):rep(5000) .. " 1", "x = " .. ("1 .. "):rep(5000) .. "1",
  "x = " .. ("a."):rep(10000) .. "b", ("do "):rep(150) .. ("end "):rep(150),
  ("function f() "):rep(250) .. ("end "):rep(250), "f(" .. ("1,"):rep(300) .. "1)",
  "local " .. ("a,"):rep(300) .. "a", "x = {" .. ("1,"):rep(50000) .. "}", },
  -- errors that are no texts
  { "error()", "error(nil)", "error({})", "error(print)", "error(error)", "error(1/0)", "error(true)",
  "error(setmetatable({}, {__tostring = function() error('x') end}))",
  "error(setmetatable({}, {__tostring = function() return 1 end}))",
  "error(setmetatable({}, {__tostring = function() return {} end}))",
  "error(setmetatable({}, {__index = function() error('x') end}))",
  "error(setmetatable({}, {__name = {}}))", "error({message = {}})", "error({message = 5})",
  "error({terminated = true})", "error(lumen.ones(3))", "error(coroutine.create(print))",
  "error(('e'):rep(1e6))", "error('\\0\\0')", "error('\\nhint:\\nhint:')", "error('a', 100)",
  "error(io.stdout)", "assert(false, {})", "assert()", "assert(nil, nil)", },
  -- metatables
  { "setmetatable({}, {__tostring = function() error(nil) end})",
  "setmetatable({}, {__tostring = error})", "setmetatable({}, {__tostring = 5})",
  "setmetatable({}, {__name = 'x\\0y'})", "setmetatable({}, {__index = error}).x",
  "setmetatable({}, {__gc = function() error('gc') end}) collectgarbage()",
  "setmetatable({}, {__gc = 5}) collectgarbage()",
  "do local x <close> = setmetatable({}, {__close = function() error('close') end}) end",
  "do local x <close> = setmetatable({}, {__close = function() error('c') end}) error('b') end",
  "setmetatable({}, {__len = error, __pairs = error, __eq = error, __lt = error})",
  "setmetatable({}, {__metatable = false})", "setmetatable({}, {__call = error})()",
  "t = setmetatable({}, {}) getmetatable(t).__index = t t.x",
  "t = {} t.t = t t", "t = {} t[t] = t t", "t = {[{}] = {}, [print] = 1, [0/1] = 2} t",
  "t = {} for i = 1, 1e5 do t[i] = {} end t", "t = {} for i = 1, 1e5 do t['k' .. i] = i end t",
  "t = {} for i = 1, 1e4 do t = {t} end t", "a, b = {}, {} a.b = b b.a = a a",
  "setmetatable(_G, nil)", "x_after = nil x_after", "setmetatable(_G, {__index = error})",
  "setmetatable(_G, {__newindex = error})", "y_after = 1",
  "setmetatable(_G, {__index = function(t, k) return t[k] end})", "no_name_here",
  "setmetatable(_G, nil)", "getmetatable('').__index = nil", "('x'):rep(2)",
  "getmetatable('').__index = string", "getmetatable('').__index = error", "('x'):rep(2)",
  "getmetatable('').__index = string", "getmetatable('').__name = {}", },
  -- overwriting what the prompt stands on
  { "old = {}", "for k, v in pairs(_G) do old[k] = v end",
  "print = nil", "tostring = nil", "type = error", "pcall = error", "xpcall = nil", "1 + 1",
  "string.format = error", "string.find = nil", "table.concat = error", "ipairs = nil", "{1, 2}",
  "next = nil", "rawget = nil", "error = nil", "select = nil", "undefined_name",
  "io.stdout = nil", "io.stderr = nil", "io.write = nil", "os = nil", "coroutine = nil", "debug = nil",
  "require = nil", "package.loaded = {}", "lumen.ones(2)", "lumen.nn", "math = nil", "utf8 = nil",
  "for k, v in pairs(old) do _G[k] = v end", "1 + 1",
  "lumen = nil", "lumen", "recipe = nil", "help = nil", "_ = nil", "_G = nil", "_ENV = nil", "1",
  "_ENV = {}", "1", "do local _ENV = {} x = 1 end", "load('_ENV = nil')()", },
  -- too deep, too large
  { "function f() return f() + 1 end f()", "function f() f() end f()",
  "function f(x) return pcall(f, x) end f(1)", "function f() return tostring(setmetatable({}, " ..
    "{__tostring = f})) end f()", "t = setmetatable({}, {__index = function(t, k) return t[k] end}) t.x",
  "local function f(a) for k in pairs(a) do f({f = f}) end end f({1})",
  "string.rep('x', 1e10)", "string.rep('x', -1)", "('x'):rep(1e9):rep(1e9)",
  "t = {} while true do t[#t + 1] = ('x'):rep(1e6) .. #t end", "t = nil", "table.concat({}, 'x', 1, 3e6)",
  "table.unpack({}, 1, 1e7)", "table.unpack({}, 1, 1e9)", "table.unpack({}, math.mininteger, math.maxinteger)",
  "select('#', table.unpack({}, 1, 200))", "string.char(256)", "string.char(table.unpack({}, 1, 5))",
  "table.insert({}, 5, 5)", "table.insert(nil)", "table.sort({3, 2, 1}, function() return true end)",
  "table.sort({1, 'a', {}})", "table.sort({5, 4, 3, 2, 1, 7, 9, 8}, function(a, b) error('cmp') end)",
  "string.format('%99999d', 1)", "string.format('%s')", "string.format('%d', 'x')", "string.format('%d', 1.5)",
  "string.format('%10.123f', 1)", "string.format('%q', print)", "string.format('%', 1)", "string.format('%c', 0)",
  "string.format('%s', setmetatable({}, {__tostring = function() return nil end}))",
  "string.format('%.99f', 1e308)", "string.format('%a', 0/0)", "string.pack('i17', 1)",
  "string.pack('s1', ('x'):rep(300))", "string.unpack('s8', '\\255\\255\\255\\255\\255\\255\\255\\127')",
  "string.unpack('z', 'abc')", "string.rep('x', 100, ('y'):rep(1e7))", "('x'):gsub('.', {x = {}})",
  "('x'):gsub('x', '%9')", "utf8.char(-1)", "utf8.codepoint('\\xff')", "utf8.len('\\xff')",
  "for p, c in utf8.codes('\\xff') do end", "tonumber('1e', 36)", "tonumber('z', 99)", "math.random(0)",
  "math.random(5, 1)", "math.tointeger({})", "1 // 0", "1 % 0", "math.mininteger // -1", "1 << 100",
  "2^53 | 0", "'10' + {}", "#5", "-{}", "nil .. nil", "{} < {}", "1 < 'x'", "nil()", "(1)()", "('x')()",
  "load('x = ')", "load(function() error('x') end)", "load({})",
  "load('return ...', 'x', 't', {})", "loadfile('/no')", "dofile('/dev/null')", "dofile('/no')",
  "require 'no_such'", "require(nil)", "package.path = nil", "require 'again'", "package.path = ''",
  "collectgarbage('stop')", "collectgarbage('bogus')", "collectgarbage('step', 1e9)", "collectgarbage('generational')",
  "collectgarbage('incremental', 1, 1, 1)", "collectgarbage('restart')", "collectgarbage()", },
  -- coroutines
  { "coroutine.yield(1)", "coroutine.wrap(error)()", "coroutine.wrap(function() error({}) end)()",
  "coroutine.resume(coroutine.running())", "coroutine.close(coroutine.running())", "coroutine.resume(5)",
  "co = coroutine.wrap(function() return co() end) co()", "coroutine.wrap(function() coroutine.yield() end)()",
  "f = coroutine.wrap(function() coroutine.yield() end) f() f() f()", "coroutine.create(5)", "coroutine.wrap()",
  "function g() return coroutine.wrap(g)() end g()", "coroutine.close(coroutine.create(print))",
  "co = coroutine.create(function() local x <close> = setmetatable({}, {__close = error}) coroutine.yield() end) " ..
    "coroutine.resume(co) coroutine.close(co)",
  "for i = 1, 1000 do coroutine.wrap(function() coroutine.yield(lumen.scope()) end)() end collectgarbage()",
  "for i = 1, 200 do local co = coroutine.create(function() local s = lumen.scope() lumen.ones(2) " ..
    "coroutine.yield() end) coroutine.resume(co) if i % 3 == 0 then coroutine.close(co) end collectgarbage() end",
  "co = coroutine.create(function() s1 = lumen.scope() s2 = lumen.scope() coroutine.yield() end) " ..
    "coroutine.resume(co) s1:close() s2:close() co = nil collectgarbage() s1 = nil s2 = nil collectgarbage()",
  "co = coroutine.create(function() s1 = lumen.scope() s2 = lumen.scope() coroutine.yield() lumen.ones(3) end) " ..
    "coroutine.resume(co) s1:close() s1 = nil collectgarbage() collectgarbage() coroutine.resume(co) s2:close()",
  "s = lumen.scope() t = lumen.scope() s:close() t:close() s:close() x = lumen.ones(2) x",
  "s = lumen.scope() x = lumen.ones(2) s:close() x", "x:sum()", "x.shape", "x", "s:keep(x)", "s:keep(s)",
  "lumen.scope(function() coroutine.yield() end)", "lumen.scope(error)", "lumen.no_grad(error)",
  "lumen.no_grad(function() lumen.no_grad(error) end)", "lumen.scope(function() return lumen.scope() end)", },
  -- files
  { "io.read('x')", "io.lines('/no')", "io.open('/no'):read()", "io.open({})", "io.stdout:close()",
  "io.stderr:close()", "io.close()", "io.output('/no/such/file')", "io.output():close()", "io.write(nil)",
  "io.write({})", "io.stdout:write(print)", "io.stdout:seek('set', -1)", "io.stdout:setvbuf('no')",
  "io.stdout:setvbuf('full')", "io.stdin:setvbuf('full')", "io.stdin:write('x')", "io.stdout:read()",
  "io.tmpfile():read(1e9)", "io.popen('true'):close()", "io.popen('exit 3'):close()", "io.open('/dev/full', 'w'):write('x'):flush()",
  "f = io.tmpfile() f:close() f:read()", "f", "io.type(f)", "io.lines('/dev/null', 'x')", "io.lines('/dev/null', 1e9)()",
  "os.time({})", "os.date('%')", "os.date('%Ez', 1e18)", "os.date('*t', 1e300)", "os.getenv(nil)", "os.rename({}, 1)",
  "os.remove('/no/such')", "os.setlocale('no')", "os.difftime()", "os.tmpname(1)", "os.time{year=1e18,month=1,day=1}", },
  -- tensors
  { "lumen.zeros(1e12)", "lumen.zeros(1e18)", "lumen.zeros(2^62, 2^62)", "lumen.zeros(-1)", "lumen.zeros(1.5)",
  "lumen.zeros({1, 2, 3, 4, 5, 6, 7})", "lumen.zeros('2')", "lumen.zeros({{}})", "lumen.zeros(nil)", "lumen.zeros({}, 5)",
  "lumen.zeros(0, 1e12)", "lumen.tensor({{1}, {2, 3}})", "lumen.tensor({{}, 1})", "lumen.tensor(print)", "lumen.tensor({print})",
  "t = {} t[1] = t lumen.tensor(t)", "lumen.tensor({1, nil, 3})", "lumen.tensor({0/0}, {dtype = 'i64'})",
  "lumen.tensor({300}, {dtype = 'u8'})", "lumen.full({2}, 1e300, {dtype = 'i32'})", "lumen.full({2}, 0/0, {dtype = 'u8'})",
  "lumen.arange(1e9)", "lumen.arange(0, 1, 1e-12)", "lumen.arange(1, 2, 0)", "lumen.arange(0/0)", "lumen.arange(1/0)",
  "lumen.ones(2)[3]", "lumen.ones(2)[0]", "lumen.ones(2)[{}]", "lumen.ones(2)[1.5]", "lumen.ones(2).x = 1", "lumen.ones(2)[1] = {}",
  "lumen.ones(2) + {}", "lumen.ones(2) + nil", "lumen.ones(2) .. 'x'", "lumen.ones(2) < lumen.ones(2)", "#lumen.tensor(1)",
  "lumen.ones(2)()", "lumen.ones(2):reshape(3)", "lumen.ones(2):reshape(-1, -1)", "lumen.ones(2):reshape({1e18, 1e18})",
  "lumen.ones(2):expand(1e18)", "lumen.ones(2):expand(1e9):clone()", "lumen.ones(2):repeat_(1)", "lumen.ones(1):expand(1e15)",
  "lumen.ones(4):slice(1, 5, 2)", "lumen.ones(4):slice(9)", "lumen.ones(2):to('x')", "lumen.ones(2):to('cuda')",
  "lumen.ones(2):backward()", "x = lumen.ones(2, {requires_grad = true}) x:backward(x)", "x = lumen.ones(1, {requires_grad = true}) y = x * 2 y:backward() y:backward()",
  "lumen.ones(2):item()", "lumen.ones(0):item()", "lumen.ones(0):max()", "lumen.ones(0, 3):mean()", "lumen.ones(2):release():sum()", "x = lumen.ones(2) x:release() x:release() x",
  "f = lumen.func{forward = function(c, x) return x end, backward = function() error('x') end} f(lumen.ones(1, {requires_grad = true})):backward()",
  "f = lumen.func{forward = function(c, x) return x * 2 end, backward = function(c, g) return 5 end} f(lumen.ones(1, {requires_grad = true})):backward()",
  "f = lumen.func{forward = function(c, x) return end, backward = print} f(lumen.ones(1))", "lumen.func{}", "lumen.func(5)",
  "f = lumen.func{forward = function(c, x) return f(x) end, backward = print} f(lumen.ones(1))",
  "f = lumen.func{forward = function(c, x) return x * 2 end, backward = function(c, g) coroutine.yield(g) end} " ..
    "coroutine.wrap(function() f(lumen.ones(1, {requires_grad = true})):backward() end)()",
  "getmetatable(lumen.ones(1)).__gc(lumen.ones(1))", "getmetatable(lumen.ones(1)).__index(5, 'x')", "getmetatable(lumen.ones(1)).__tostring(io.stdout)",
  "getmetatable(lumen.ones(1)).__gc(5)", "m = getmetatable(lumen.ones(1)) x = lumen.ones(1) m.__gc(x) m.__gc(x) x",
  "setmetatable(lumen, nil)", "rawset(lumen, 'ones', error)", "lumen.ones = nil", "lumen.ones(1)",
  "lumen.save('/no/such/dir/x.npy', lumen.ones(2))", "lumen.load('/dev/null')", "lumen.load('/no')", "lumen.load({})", "lumen.load('/dev/zero')",
  "lumen.json.decode(('['):rep(1e6))", "lumen.json.decode('\\0')", "lumen.json.encode({[{}] = 1})", "t = {} t.t = t lumen.json.encode(t)",
  "lumen.image.load('/dev/null')", "lumen.image.decode(('x'):rep(1000))", "lumen.recipe 'no'", "lumen.recipe {}", "lumen.recipe(5)", "recipe()",
  "recipe('vasomim'):start{preset = 'no'}", "recipe('vasomim'):start{mask_ratio = {}}", "recipe('vasomim'):start(5)", "recipe('vasomim'):set{x = 1}",
  "recipe('vasomim'):set(5)", "recipe 'vasomim'", "lumen.run.Run.continue({})", "lumen.run.Run.continue()", "lumen.run.Run", "tostring(lumen.run.Run)",
  "reload()", "reload(5)", "reload({})", "reload('x')", "reload('lumen.loss')", "reload('lumen.core')", "help('no')", "help({})", "help(5)", "help(print)", "help(nil)",
  "trace()", "trace(5)", "_", "_()", "show()", "show(5)", "show({})", "lumen.inspect.text(lumen)", "lumen.inspect.module({})", "lumen.inspect.module(5)", "_G", "lumen", "package", },
}

-- Lines of random words and symbols.
local words = { "x", "y", "t", "f", "lumen", "print", "1", "0", "-1", "1e308", "0/0", "nil", "true", "{}",
  "'s'", "\"\\0\"", "[[z]]", "(", ")", "{", "}", "[", "]", "+", "-", "*", "/", "//", "%", "^", "#", "&", "~", "|",
  "<<", ">>", "==", "~=", "<=", "<", "=", "::", ";", ":", ",", ".", "..", "...", "and", "or", "not", "local",
  "function", "return", "end", "do", "if", "then", "else", "for", "in", "goto", "break", "lumen.ones(2)",
  "lumen.randn(2, 3)", ":sum()", ":reshape(3, 2)", "[1]", ".shape", ":softmax{dim=1}", ":transpose(1, 2)", "pairs",
  "error", "setmetatable", "pcall", "tostring", "select", "string.rep", "lumen.nn.Linear(2, 3)", "_", "\xff", "\0",
  "--", "\t", "coroutine.wrap", "table.concat", ":backward()", "lumen.zeros(0)", ":item()", "'\xc3'", ">>=", "!" }

local function random_line(random)
  local parts = {}
  for i = 1, random(1, 14) do parts[i] = words[random(#words)] end
  return table.concat(parts, random(3) == 1 and "" or " ")
end

-- A hostile line with bytes changed, doubled or cut.
local function mutated_line(random)
  local group = hostile[random(#hostile)]
  local line = group[random(#group)]
  if #line > 2000 then line = line:sub(1, random(2000)) end
  for _ = 1, random(4) do
    local at = random(#line + 1)
    local kind = random(4)
    if kind == 1 then line = line:sub(1, at - 1) .. line:sub(at + 1)
    elseif kind == 2 then line = line:sub(1, at - 1) .. string.char(random(0, 255)) .. line:sub(at)
    elseif kind == 3 then line = line:sub(1, at)
    else line = line:sub(1, at) .. words[random(#words)] .. line:sub(at + 1) end
  end
  return (line:gsub("\n", " "))
end

-- What would not end, would end the process on purpose, or waits for the input that follows.
local function left_out(line)
  for _, word in ipairs { "exit", "quit", "debug", "while", "repeat", "goto", "read", "lines", "popen",
                          "execute", "remove", "rename", "stdin", "dump", "/dev/zero", "input" } do
    if line:find(word, 1, true) then return true end
  end
  if line:find("for", 1, true) and line:find("[=1-9e/]") then return true end
  return line:find("[\n\r]") ~= nil
end

local function is_complete(line)
  local _, why = prompt.compile(line .. "\n")
  return why ~= "more"
end

-- ---- sessions ------------------------------------------------------------------------------

local first = { "lumen.memory_limit(200 << 20)", "lumen.memory_limit(200 << 20, 'lua')" }

-- Feed the lines; the prompt must still answer after the last.
local function feed(lines, name)
  local folder = helper.temporary_folder()
  local input = table.concat(first, "\n") .. "\n" .. table.concat(lines, "\n") .. "\n'alive' .. 6 * 7\n"
  lumen.fs.write(folder .. "/input", input)
  local _, _, code = os.execute(("cd %s && timeout %d %s -i <input >out 2>errors"):format(folder,
    seconds, lumen_path))
  local out, errors = lumen.fs.read(folder .. "/out"), lumen.fs.read(folder .. "/errors")
  local alive = code == 0 and out:sub(-2000):find('"alive42"', 1, true)
  if os.getenv("LUMEN_KEEP") then
    print("kept", folder)
  else
    helper.remove_folder(folder)
  end
  if not alive then
    lu.fail(("%s: code %d\n%s\n%s"):format(name, code, out:sub(-500), errors:sub(-3000)))
  end
end

TestPrompt = {}

-- Lines of one kind share a process.
function TestPrompt.test_hostile_lines()
  for i, group in ipairs(hostile) do
    local lines = {}
    for _, line in ipairs(group) do
      if is_complete(line) then lines[#lines + 1] = line end
    end
    lu.assertTrue(#lines >= 0.8 * #group, tostring(i))
    feed(lines, "hostile lines of kind " .. i)
  end
end

for seed = 1, 4 do
  TestPrompt["test_random_lines_" .. seed] = function()
    math.randomseed(seed)
    local lines = {}
    while #lines < 1000 do
      local line = #lines % 2 == 0 and random_line(math.random) or mutated_line(math.random)
      if not left_out(line) and is_complete(line) then lines[#lines + 1] = line end
    end
    feed(lines, "random lines, seed " .. seed)
  end
end

-- An entry that never gets complete ends with the input.
function TestPrompt.test_unfinished_entries()
  for _, text in ipairs { "[[", "--[==[ x", "if", "f(", "{{{{", "x = function()", "\"a\\\n", "do do do",
                          ("("):rep(150), ("{"):rep(150), "x = [=[\n]]\n" } do
    local folder = helper.temporary_folder()
    lumen.fs.write(folder .. "/input", text)
    local _, _, code = os.execute(("timeout %d %s -i <%s/input >/dev/null 2>&1"):format(seconds,
      lumen_path, folder))
    lu.assertEquals(code, 0, text)
    helper.remove_folder(folder)
  end
end


-- ---- functions -----------------------------------------------------------------------------

-- Runs in a process and a folder of its own: every function that can be reached from lumen and
-- from its objects, with arguments that do not fit. Each call is written down before it is made.
local caller = [==[
local lumen = require "lumen"
math.randomseed(tonumber(arg[1]))
lumen.memory_limit(100 << 20)
lumen.memory_limit(200 << 20, "lua")
local note = io.open("last", "w")

-- What would end, stop or reconfigure this process, or runs programs.
local left_out = { catch_terminate = true, memory_limit = true, threads = true, process = true,
  experiment = true, _interrupt = true, help = true }

local x = lumen.randn(2, 3)
local loader = lumen.data.loader { source = { kind = "phantom", count = 4 }, size = 32, batch = 2 }
local scope = lumen.scope()
scope:close()
local released = lumen.ones(2)
released:release()
local cycle = {}
cycle[1], cycle.x = cycle, cycle

local function fails() error("from the fuzz") end

local values = { nil, true, false, 0, 1, -1, 2, 3, 7, 255, 1.5, -0.5, 0 / 0, 1 / 0, -1 / 0, 1e18, 1 << 31,
  1 << 40, math.maxinteger, math.mininteger, "", "x", "f32", "u8", "cpu", "mean", "\0", "a\0b", "\xff",
  ("y"):rep(3000), "%s%n", {}, { 1 }, { 2, 3 }, { 1, 2, 3, 4, 5, 6, 7 }, { -1 }, { 0 }, { 1 << 40 }, { 1.5 }, { "x" },
  { {} }, { { 1 }, { 2, 3 } }, { x }, { x, x }, { x, 5 }, { x = 1 }, { dim = 9 }, { dim = 1 }, { size = -1 },
  { size = 1 << 40 }, { kernel = 0, stride = 0 }, { dtype = "f64" }, { dtype = 5 }, { rng = {} }, { rng = { seed = "x" } },
  cycle, print, fails, function() return x end, coroutine.create(fails), io.stdout, x, x, x,
  lumen.tensor(2.5), lumen.zeros(0, 3), lumen.zeros(0), lumen.ones(3, 2):transpose(1, 2), lumen.ones(1):expand(4),
  lumen.tensor({ 0, 1, 2 }, { dtype = "i64" }), lumen.tensor({ -1, 99 }, { dtype = "i64" }),
  lumen.tensor({ { 1, 0 }, { 255, 3 } }, { dtype = "u8" }), lumen.ones(2, 3, { dtype = "bf16" }), lumen.ones(2, 3, { dtype = "f64" }),
  lumen.randn(2, 3, { requires_grad = true }), lumen.randn(1, 1, 8, 8), lumen.randn(2, 3, 8, 8), lumen.randn(2, 4, 6),
  lumen.randn(1, 1, 1, 1, 1, 1), lumen.tensor({ 0 / 0, 1 / 0 }), released, loader, scope, lumen.nn.Linear(3, 2), lumen,
  setmetatable({}, { __index = fails }), setmetatable({}, { __len = fails, __tostring = fails, __pairs = fails }) }
local count = 95
while values[count] == nil do count = count - 1 end

-- name -> function, by walking tables; objects' methods take the object first.
local functions, names, seen = {}, {}, {}
local function walk(t, name, depth)
  if seen[t] or depth > 3 then return end
  seen[t] = true
  local keys = {}
  for key in next, t do
    if type(key) == "string" and not left_out[key] then keys[#keys + 1] = key end
  end
  table.sort(keys)
  for _, key in ipairs(keys) do
    local value = rawget(t, key)
    local path = name .. "." .. key
    if type(value) == "function" and not functions[path] then
      functions[path] = value
      names[#names + 1] = path
    elseif type(value) == "table" then
      walk(value, path, depth + 1)
      local meta = debug.getmetatable(value)
      if type(meta) == "table" and type(rawget(meta, "__call")) == "function" then
        functions[path .. "()"] = value
        names[#names + 1] = path .. "()"
      end
    end
  end
end

for _, part in ipairs { "nn", "models", "masking", "loss", "metrics", "optim", "schedule", "data", "recipe", "picture",
                        "inspect", "gradcheck", "show", "plot", "hist", "explore", "profile", "image", "vision", "fs",
                        "json" } do
  local value = lumen[part]
  if type(value) == "table" then walk(value, part, 1) end
end
walk(require "lumen.core", "core", 1)
local registry = debug.getregistry()
local classes = {}
for key in next, registry do
  if type(key) == "string" and key:match("^lumen%.") then classes[#classes + 1] = key end
end
table.sort(classes)
for _, key in ipairs(classes) do
  if type(registry[key]) == "table" then walk(registry[key], key, 1) end
end
table.sort(names)

local objects = { x, x, x, loader, scope, values[#values] }
local function text(v) return (lumen.inspect.text(v):gsub("%s+", " "):sub(1, 100)) end

local rounds = tonumber(arg[2])
for round = 1, rounds do
  for _, name in ipairs(names) do
    local n = math.random(0, 5)
    local args = {}
    for i = 1, n do args[i] = values[math.random(count)] end
    -- often the right kind of object first, else nothing but the first check is seen
    if n > 0 and math.random(3) > 1 then
      args[1] = name:find("loader", 1, true) and loader or name:find("scope", 1, true) and scope
        or name:find("lock", 1, true) and args[1] or values[math.random(count - 30, count)]
      if name:find("tensor", 1, true) or name:match("^core%.[%w_]+$") then
        args[1] = math.random(2) == 1 and x or values[math.random(61, count - 6)]
      end
    end
    note:seek("set", 0)
    local shown = {}
    for i = 1, n do shown[i] = text(args[i]) end
    note:write(("%d %s(%s)%s\n"):format(round, name, table.concat(shown, ", "), (" "):rep(200)))
    note:flush()
    pcall(function()
      local results = table.pack(functions[name](table.unpack(args, 1, n)))
      for i = 1, results.n do lumen.inspect.text(results[i]) end
    end)
  end
end
collectgarbage()
io.open("survived", "w"):write(#names):close()
]==]

TestFunctions = {}

for seed = 1, 3 do
  TestFunctions["test_hostile_arguments_" .. seed] = function()
    local folder = helper.temporary_folder()
    lumen.fs.write(folder .. "/caller.lua", caller)
    local _, _, code = os.execute(("cd %s && timeout %d %s caller.lua %d %d >out 2>errors </dev/null"):format(
      folder, seconds, lumen_path, seed, helper.sanitized and 4 or 10))
    local called = tonumber(lumen.fs.exists(folder .. "/survived") and lumen.fs.read(folder .. "/survived"))
    local last = lumen.fs.exists(folder .. "/last") and lumen.fs.read(folder .. "/last"):match("[^\n]*") or "?"
    local errors = lumen.fs.read(folder .. "/errors")
    if os.getenv("LUMEN_KEEP") then print("kept", folder) else helper.remove_folder(folder) end
    if not called then
      lu.fail(("seed %d: code %d at\n%s\n%s"):format(seed, code, last, errors:sub(-4000)))
    end
    lu.assertTrue(called > 300, tostring(called))
  end
end

helper.run()
