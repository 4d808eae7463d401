-- The prompt: reads entries, runs them, prints results. On a terminal with line editing,
-- history and completion; on a pipe line by line. Nothing that is typed ends it but Ctrl-D
-- and os.exit.
--
-- What the loop needs of Lua's library is kept in locals, because entries can overwrite it.
local core = require "lumen.core"
local inspect = require "lumen.inspect"
local options = require "lumen.options"

local error, ipairs, load, next, pcall, rawget, tostring, type, xpcall =
  error, ipairs, load, next, pcall, rawget, tostring, type, xpcall
local concat, pack, sort, unpack = table.concat, table.pack, table.sort, table.unpack
local find, format, gmatch, gsub, match, sub =
  string.find, string.format, string.gmatch, string.gsub, string.match, string.sub
local traceback, getenv = debug.traceback, os.getenv
local stdout, stderr = io.stdout, io.stderr
local interrupt, read_line, remember = core._interrupt, core._edit.read, core._edit.remember
local nearest, now, memory = options.nearest, core.time, core.memory
local inspect_text, place = inspect.text, inspect._place
local metatable_of = debug.getmetatable

local prompt = {}

local slow = 1.0 -- seconds after which time and memory of a command are shown

-- ---- globals -------------------------------------------------------------------------------

-- Names of the prompt and of -e, each made at its first use.
local helpers = {
  lumen = function() return require "lumen.init" end,
  trace = function() return prompt.trace end,
}
for _, name in ipairs { "help", "recipe", "show", "plot", "hist", "explore", "profile",
                        "reload" } do
  helpers[name] = function() return require("lumen.init")[name] end
end

prompt.helpers = helpers

local known = setmetatable({}, { __index = function(t, name)
  local make = helpers[name]
  if not make then return nil end
  t[name] = make()
  return t[name]
end })

local function unknown_global(name)
  local names = {}
  for key in next, helpers do names[#names + 1] = key end
  for key in next, _G do
    if type(key) == "string" then names[#names + 1] = key end
  end
  sort(names)
  local near = type(name) == "string" and nearest(name, names)
  error(format("there is no global '%s'%s", tostring(name),
    near and format("\nhint: did you mean %s?", near) or ""), 3)
end

-- Globals of the prompt and of -e: lumen and the helpers; assigning makes a global, reading
-- an unknown one is an error with a suggestion.
function prompt.environment()
  setmetatable(_G, { __index = function(_, name)
    local value = known[name]
    if value ~= nil then return value end
    if name == "_" then return prompt.last end
    unknown_global(name)
  end })
end

-- ---- colours -------------------------------------------------------------------------------

local colours = { red = "31", dim = "2", cyan = "36" }
local coloured = false

local function paint(colour, text)
  return coloured and format("\27[%sm%s\27[0m", colours[colour], text) or text
end

-- ---- errors --------------------------------------------------------------------------------

local last_trace

-- Prints where the last error came from: the calls that led to it.
--   > trace()
function prompt.trace()
  stdout:write(last_trace or "no error so far", "\n")
end

local function message_of(e)
  if type(e) == "table" and type(rawget(e, "message")) == "string" then
    return rawget(e, "message")
  end
  if type(e) == "string" then return e end
  local meta = metatable_of(e)
  if type(e) == "table" and not (type(meta) == "table" and rawget(meta, "__tostring")) then
    return "error object " .. inspect_text(e)
  end
  return inspect._plain(e)
end
prompt.message_of = message_of

-- Runs where the error is raised. It must not raise, whatever the error is.
local function on_error(e)
  local ok, text = pcall(message_of, e)
  text = ok and text or "error"
  local traced, trace = pcall(traceback, text, 2)
  last_trace = traced and place(trace) or text
  return text
end

-- "prompt:1: " says nothing for an entry of one line.
local function shorten(text, lines)
  local number, rest = match(text, "^prompt:(%d+): (.*)$")
  if number then text = lines > 1 and format("line %s: %s", number, rest) or rest end
  return place(text)
end

local function complain(text)
  local hint_at = find(text, "\nhint:", 1, true)
  local body = hint_at and sub(text, 1, hint_at - 1) or text
  local hint = hint_at and sub(text, hint_at) or ""
  stdout:flush()
  if body == "interrupted" then
    stderr:write(paint("red", body), "\n")
    return
  end
  stderr:write(paint("red", "error:"), " ", body, hint ~= "" and paint("cyan", hint) or "", "\n")
  if getenv("LUMEN_TRACEBACK") and last_trace then stderr:write(last_trace, "\n") end
end

-- ---- entries -------------------------------------------------------------------------------

-- A local would be gone with its entry; at the start of one it makes a global.
local function without_local(text)
  local rest = match(text, "^%s*local%s+(function%f[%W].*)$")
  if rest then return rest end
  local names, tail = match(text, "^%s*local%s+([%a_][%w_%s,]*)(.*)$")
  if not names or sub(tail, 1, 1) == "<" then return text end
  if sub(tail, 1, 1) == "=" then return names .. tail end
  if match(names, "^[%w_%s,]*$") and match(tail, "^%s*$") then return names .. "= nil" end
  return text
end

-- "x = f(2) x": statements and then an expression, whose value is wanted.
local function with_result(text)
  if #text > 2000 then return nil end
  local at = find(text, "[%s;][^%s;]*%s*$")
  for _ = 1, 30 do
    if not at or at == 1 then return nil end
    local before = sub(text, 1, at)
    local chunk = load(before, "=prompt", "t")
      and load(before .. "return " .. sub(text, at + 1), "=prompt", "t")
    if chunk then return chunk end
    at = find(sub(text, 1, at - 1), "[%s;][^%s;]*$")
  end
end

-- A chunk as an expression if it is one, else as statements. Nil and "more" when the text is
-- the beginning of something.
local function compile(text)
  local chunk, as_expression = load("return " .. text, "=prompt", "t")
  if chunk then return chunk end
  local message
  chunk, message = load(without_local(text), "=prompt", "t")
  if chunk then return chunk end
  chunk = with_result(text)
  if chunk then return chunk end
  for _, why in ipairs { message, as_expression } do -- texts, unless a handler changed them
    if type(why) == "string" and match(why, "<eof>$") then return nil, "more" end
  end
  return nil, tostring(message)
end
prompt.compile = compile

local function bytes(n)
  if n >= 1 << 30 then return format("%.1f GiB", n / (1 << 30)) end
  return format("%.0f MiB", n / (1 << 20))
end

local function show_cost(seconds, before)
  local after = memory()
  local change = after.live - before.live
  local text = format("%.1f s, tensors hold %s", seconds, bytes(after.live))
  if change >= 1 << 20 or -change >= 1 << 20 then
    text = text .. format(" (%s%s)", change > 0 and "+" or "-",
      bytes(change > 0 and change or -change))
  end
  if after.peak > before.peak then text = text .. ", at most " .. bytes(after.peak) end
  stdout:write(paint("dim", text), "\n")
end

local function print_results(values)
  local texts, long = {}, false
  for i = 3, values.n do
    texts[i - 2] = inspect_text(values[i])
    long = long or find(texts[i - 2], "\n", 1, true) ~= nil
  end
  if #texts == 0 then return end
  local line = concat(texts, "  ")
  stdout:write(not long and #line <= 88 and line or concat(texts, "\n"), "\n")
end

-- Run a chunk and print its results or its error; false after an error.
local function run(chunk, text)
  local began, before = now(), memory()
  local values = pack(interrupt.call(chunk, on_error))
  if values[2] and prompt.visible then stderr:write("\n") end -- the terminal shows ^C
  if values[1] and values.n > 2 then
    prompt.last = values[3]
    local ok, pressed, e = interrupt.call(function() print_results(values) end, on_error)
    if not ok then values = { false, pressed, e } end
  end
  stdout:flush()
  if not values[1] then
    local _, lines = gsub(text, "\n.", "")
    complain(shorten(tostring(values[3]), lines + 1))
  end
  if prompt.visible and now() - began > slow then show_cost(now() - began, before) end
  return values[1]
end

-- ---- the loop ------------------------------------------------------------------------------

-- Lines that came at once (a pasted block, a recalled entry) run one statement after the
-- other, as if they had been typed. Returns what is incomplete, or nil.
local function run_lines(pending, text)
  for line in gmatch(text, "[^\n]*\n?") do
    if line == "" then break end
    pending = pending .. line
    if match(pending, "^%s*$") then
      pending = ""
    else
      local chunk, why = compile(pending)
      if chunk then
        local entry = pending
        pending = ""
        if not run(chunk, entry) then return "" end
      elseif why ~= "more" then
        local _, lines = gsub(pending, "\n.", "")
        last_trace = nil
        complain(shorten(why, lines + 1))
        return ""
      end
    end
  end
  return pending
end

local function leaves(text)
  local word = match(text, "^%s*(%a+)%s*%(?%s*%)?%s*$")
  return (word == "exit" or word == "quit") and rawget(_G, word) == nil
end

-- One line and what it completes. Returns the text that waits for more, or nil at the end.
local function step(pending, state)
  interrupt.begin()
  local shown = pending == "" and "> " or ">> "
  local line, why = read_line(prompt.visible and shown or "", state.complete)
  interrupt.begin()
  if not line then
    if why == "end" then return nil end
    state.entry = ""
    return ""
  end
  if pending == "" and leaves(line) then return nil end
  state.entry = pending == "" and line or state.entry .. line
  local rest = run_lines(pending, line)
  if rest == "" and not match(state.entry, "^%s*$") then
    local entry = match(state.entry, "^(.-)%s*$")
    remember(entry)
    if state.history then pcall(state.history.add, entry) end
  end
  return rest
end

local function open_history()
  local history = require "lumen.prompt.history"
  local ok, entries = pcall(history.open)
  if not ok then
    stdout:write(paint("dim", "history is not kept: " .. tostring(entries)), "\n")
    return nil
  end
  for _, entry in ipairs(entries) do remember(entry) end
  return history
end

-- Read and run entries until the input ends. Returns the exit code.
function prompt.loop()
  local complete = require "lumen.prompt.complete"
  complete.helpers, complete.helper_names = known, helpers
  local state = { entry = "", complete = complete.press, failures = 0 }
  prompt.environment()
  interrupt.prompt()
  local session = require "lumen.run.session"
  session.say = function(text) stdout:write(text, "\n") end
  session.complain = function(text, trace)
    last_trace = place(trace)
    complain(place(text))
  end
  prompt.visible = core.fs.isatty(0) and core.fs.isatty(1)
  coloured = prompt.visible and not getenv("NO_COLOR") and getenv("TERM") ~= "dumb"
  if prompt.visible then
    stdout:write(format("Lumen %s  help() explains, Tab completes, Ctrl-C stops, Ctrl-D ends\n",
      core.version))
    if core._edit.open() then state.history = open_history() end
  end
  local pending, incomplete = "", false
  while true do
    local ok, rest = pcall(step, pending, state)
    state.failures = ok and 0 or state.failures + 1 -- entries can break the library itself
    pending = ok and rest or not ok and state.failures < 100 and "" or nil
    if not pending then break end
    incomplete = pending ~= ""
  end
  if incomplete then complain("the input ends inside a statement") end
  if prompt.visible then stdout:write("\n") end
  return 0
end

return prompt
