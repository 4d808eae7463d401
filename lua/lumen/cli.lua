-- What the program `lumen` does with its arguments. main(args) returns the exit code:
-- 0 done, 1 an error was shown, 2 wrong arguments, 130 stopped by Ctrl-C, 143 by SIGTERM.
local core = require "lumen.core"
local options = require "lumen.options"

local usage = [[
usage: lumen                          interactive prompt, or lines from a pipe
       lumen -i [file.lua ...]        the same, after running the file
       lumen file.lua [key=value ...] run a Lua file; a recipe or an experiment it returns is run
       lumen file.lua --help          the recipe's options
       lumen -e 'chunk'               run a chunk of Lua
       lumen --version                build, BLAS, threads, GPUs
       lumen <command> ...            a command of lua/lumen/commands/
]]

local function version()
  local b = core.build()
  local _, gpus = core.gpus()
  for i, text in ipairs(gpus) do gpus[i] = ("cuda:%d: %s"):format(i - 1, text) end
  return ("lumen %s\nbuild    %s, gcc %s\nblas     %s (core %s)\nthreads  %d\ngpu      %s\n")
    :format(b.version, b.arch, b.compiler, b.blas, b.blas_core, core.threads(),
      #gpus > 0 and table.concat(gpus, "\n         ") or "none")
end

-- The errors of the program: those with a message of their own, and texts.
local function message_of(e)
  if type(e) == "table" and e.message then return e.message end
  return tostring(e)
end

-- key=value pairs for a recipe, from arguments `first` on; "help" when asked for.
local function overrides(args, first)
  local list = {}
  for i = first, #args do
    if args[i] == "--help" or args[i] == "-h" then return "help" end
    local key, value = options.split(args[i])
    list[#list + 1] = { key, value }
  end
  return list
end

local function run_file(args)
  local chunk, message = loadfile(args[1], "t")
  if not chunk then error(message, 0) end
  _G.arg = { [0] = args[1], table.unpack(args, 2) }
  local value = chunk(table.unpack(args, 2))
  if type(value) == "table" and value.is_recipe then
    local list = overrides(args, 2)
    if list == "help" then
      io.stdout:write(value:help())
      return 0
    end
    core.catch_terminate()
    core._interrupt.hold(true) -- the run stops between two steps
    require("lumen.run").execute(value, list)
  elseif type(value) == "table" and value.is_experiment then
    local list = overrides(args, 2)
    if list == "help" then
      io.stdout:write(value:help())
      return 0
    end
    core.catch_terminate()
    return value:start(list) and 0 or 1
  end
  return math.type(value) == "integer" and value or 0
end

local function run_command(args)
  local name = args[1]
  if name:match("^[%w_]+$") and package.searchpath("lumen.commands." .. name, package.path) then
    return require("lumen.commands." .. name)(table.unpack(args, 2)) or 0
  end
  error(("there is no file and no command %s"):format(name), 0)
end

local function dispatch(args)
  local first = args[1]
  if not first then return require("lumen.prompt").loop() end
  if first == "-i" then
    if args[2] then run_file { table.unpack(args, 2) } end
    return require("lumen.prompt").loop()
  elseif first == "--version" then
    io.stdout:write(version())
    return 0
  elseif first == "--help" or first == "-h" then
    io.stdout:write(usage)
    return 0
  elseif first == "-e" then
    if not args[2] then
      io.stderr:write(usage)
      return 2
    end
    require("lumen.prompt").environment()
    local chunk, message = load(args[2], "=-e", "t")
    if not chunk then error(message, 0) end
    chunk(table.unpack(args, 3))
    return 0
  elseif first:sub(1, 1) == "-" then
    io.stderr:write(("lumen: unknown option %s\n"):format(first), usage)
    return 2
  end
  if first:match("%.lua$") or core.fs.exists(first) then return run_file(args) end
  return run_command(args)
end

-- A traceback is shown for errors that carry a place in a file (those of the core's checks
-- and of Lua), with LUMEN_TRACEBACK set.
local function main(args)
  local profile = require "lumen.profile"
  local profiled, trace = profile.wanted()
  if profiled then core.profiler.start(trace ~= nil) end
  local ok, result = xpcall(dispatch, function(e)
    if type(e) == "string" and os.getenv("LUMEN_TRACEBACK") then
      return debug.traceback(e, 2)
    end
    return e
  end, args)
  if profiled then profile.finish(trace) end
  if ok then return result end
  io.stdout:flush()
  io.stderr:write("lumen: ", message_of(result), "\n")
  return type(result) == "table" and result.terminated and (result.code or 143) or 1
end

return { main = main }
