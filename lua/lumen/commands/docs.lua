-- lumen docs DIR: writes the reference, everything that help knows: index.md with a Markdown page
-- for each topic and recipe, and lumen.d.lua, with which editors that run the Lua language server
-- (LuaLS) complete names, parameters and options and show the texts: add DIR to its
-- workspace.library. The same library gives the same bytes.
--   $ lumen docs reference
local core = require "lumen.core"

return function(dir, ...)
  if not dir or dir:match("^%-") or select("#", ...) > 0 then
    io.stderr:write("usage: lumen docs DIR\n")
    return 2
  end
  local files = require("lumen.help.markdown").files()
  files[#files + 1] = { "lumen.d.lua", require("lumen.help.luals").text() }
  core.fs.mkdir(dir)
  for _, file in ipairs(files) do core.fs.write(dir .. "/" .. file[1], file[2]) end
  print(("%s: %d files, start with %s/index.md"):format(dir, #files, dir))
  return 0
end
