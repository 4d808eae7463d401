-- Small questions about paths.
local core = require "lumen.core"

local path = {}

local function kind(name)
  local info = core.fs.stat(name)
  return info and info.kind
end

function path.is_dir(name) return kind(name) == "directory" end
function path.is_file(name) return kind(name) == "file" end

return path
