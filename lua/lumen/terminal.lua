-- Where pictures go: into the terminal by the program chafa, which finds out by itself what
-- the terminal can do (kitty, iTerm2, sixel, Unicode blocks), else into PNG files.
local core = require "lumen.core"

local terminal = {}

-- A word for the shell.
function terminal.quote(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

local found = {} -- program -> path or false

-- Path of a program, or nil.
function terminal.program(name)
  if found[name] == nil then
    local pipe = io.popen(("command -v %s 2>/dev/null"):format(terminal.quote(name)))
    found[name] = pipe and pipe:read("l") or false
    if pipe then pipe:close() end
  end
  return found[name] or nil
end

-- A name that is not taken yet: runs/pictures/<name>_<n>.<extension>.
local function fresh(name, extension)
  local folder, n = "runs/pictures", 1
  core.fs.mkdir(folder)
  while core.fs.exists(("%s/%s_%d.%s"):format(folder, name, n, extension)) do n = n + 1 end
  return ("%s/%s_%d.%s"):format(folder, name, n, extension)
end

-- Can a picture be drawn where the output goes?
function terminal.draws() return core.fs.isatty(1) and terminal.program("chafa") ~= nil end

-- A name for a picture that draw() shows and deletes.
function terminal.temporary(extension)
  local path = os.tmpname()
  os.remove(path)
  return ("%s.%s"):format(path, extension)
end

-- Draw a picture file in the terminal.
function terminal.draw(path)
  io.stdout:flush()
  local ok = os.execute(("%s %s"):format(terminal.quote(terminal.program("chafa")),
    terminal.quote(path)))
  if not ok then error(("chafa could not show %s"):format(path), 0) end
end

-- Run write(path), which makes a picture file: `file` when given, else one that is drawn in
-- the terminal and deleted, else a new one in runs/pictures. The name of a file that stays is
-- printed.
function terminal.deliver(write, name, file, extension)
  extension = extension or "png"
  if not file and terminal.draws() then
    local path = terminal.temporary(extension)
    local ok, message = pcall(function()
      write(path)
      terminal.draw(path)
    end)
    os.remove(path)
    if not ok then error(message, 0) end
    return
  end
  local path = file or fresh(name, extension)
  write(path)
  io.stdout:write("picture: ", path, "\n")
end

-- Show a picture u8 [H, W] or [H, W, 3], or write it to `file`.
function terminal.display(image, name, file)
  terminal.deliver(function(path) core.image.save(path, image) end, name, file)
end

return terminal
