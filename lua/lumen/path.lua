-- Small questions about paths.
local core = require "lumen.core"

local path = {}

local function kind(name)
  local info = core.fs.stat(name)
  return info and info.kind
end

function path.is_dir(name) return kind(name) == "directory" end
function path.is_file(name) return kind(name) == "file" end

-- For each image of a list of paths the name of a picture that is made of it: the path with .png,
-- with its own extension in between where two would be the same, and never one that leads out of
-- the folder where the pictures go (a list, and a forged pack, may say anything).
-- -> table
--   > table.concat(require("lumen.path").pictures { "a.jpg", "b/c.bmp", "b/c.jpg", "../d" }, " ")
--   a.png b/c.bmp.png b/c.jpg.png _/d.png
function path.pictures(list)
  local names, stems, count, taken = {}, {}, {}, {}
  for i, name in ipairs(list) do
    names[i] = name:gsub("^/+", ""):gsub("%f[^/\0]%.%.%f[/\0]", "_")
    stems[i] = names[i]:match("^(.*[^/])%.[^./]+$") or names[i]
    count[stems[i]] = (count[stems[i]] or 0) + 1
  end
  for i in ipairs(names) do
    local name = count[stems[i]] == 1 and stems[i] or names[i]
    while taken[name] do name = name .. "_" end -- a.png, a.bmp beside a.png.jpg
    taken[name] = true
    names[i] = name .. ".png"
  end
  return names
end

return path
