-- lumen report RUN [RUN ...] [out=FILE]: one page about a run (RUN/report.html), or one that
-- compares several (runs/report.html), with what differs in front.
--   $ lumen report runs/demo/first runs/demo/second out=both.html
local core = require "lumen.core"
local options = require "lumen.options"
local report = require "lumen.report"

local rows = { { "out", "", "file to write; empty: report.html in the run directory, of several "
  .. "runs runs/report.html" } }

local usage = "usage: lumen report RUN [RUN ...] [out=FILE]\n\n" .. options.help(rows) .. "\n"

return function(...)
  local dirs, out = {}, ""
  for _, argument in ipairs { ... } do
    if argument == "--help" or argument == "-h" then
      io.stdout:write(usage)
      return 0
    end
    if argument:match("^[%w_]+=") and not core.fs.isdir(argument) then
      local key, value = options.split(argument)
      out = options.parse(options.find(rows, key, "lumen report"), value)
    else
      dirs[#dirs + 1] = argument
    end
  end
  if #dirs == 0 then
    io.stderr:write(usage)
    return 2
  end
  local beside = #dirs == 1 and out == ""
  if out == "" then
    if not beside then core.fs.mkdir("runs") end
    out = (beside and dirs[1]:gsub("/+$", "") or "runs") .. "/report.html"
  end
  report.write(dirs, out, { beside = beside })
  io.stdout:write("report: ", out, "\n")
  return 0
end
