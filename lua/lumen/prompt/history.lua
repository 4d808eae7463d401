-- History of the prompt: one entry a line in $XDG_STATE_HOME/lumen/history, with newlines
-- written as \n. Sessions append, each entry with one write, so several can share the file;
-- the one that finds it large keeps the newest part.
local core = require "lumen.core"

local history = {}

local most_bytes, kept_entries, longest = 1 << 20, 2000, 1 << 16

local function file_path()
  local state = os.getenv("XDG_STATE_HOME")
  local home = os.getenv("HOME")
  if not state or state:sub(1, 1) ~= "/" then
    if not home or home == "" then error("HOME is not set", 0) end
    state = home .. "/.local/state"
  end
  return state .. "/lumen/history"
end

local function encode(text) return (text:gsub("\\", "\\\\"):gsub("\n", "\\n")) end

local function decode(line)
  return (line:gsub("\\(.)", function(c) return c == "n" and "\n" or c end))
end

local function shorten(path, entries)
  local lock <close> = core.fs.lock(path .. ".lock")
  if not lock then return end -- another session is at it
  local lines = {}
  for i = math.max(1, #entries - kept_entries + 1), #entries do
    lines[#lines + 1] = encode(entries[i]) .. "\n"
  end
  core.fs.write(path, table.concat(lines))
end

-- Entries so far, oldest first. Raises when the file cannot be used.
function history.open()
  local path = file_path()
  core.fs.mkdir(path:match("^(.*)/"))
  local file, message = io.open(path, "a+")
  if not file then error(message, 0) end
  local size, entries = file:seek("end"), {}
  file:seek("set", math.max(0, size - most_bytes))
  for line in file:lines() do
    if line ~= "" and not line:find("\0", 1, true) then entries[#entries + 1] = decode(line) end
  end
  file:close()
  if size > most_bytes then shorten(path, entries) end
  history.path = path
  return entries
end

-- Append an entry; one that is too long, or a file that cannot be written, is left alone.
function history.add(text)
  if not history.path or #text > longest or text:find("\0", 1, true) then return end
  local file = io.open(history.path, "a")
  if not file then return end
  file:setvbuf("full", 2 * longest)
  file:write(encode(text), "\n")
  file:close()
end

return history
