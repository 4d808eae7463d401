-- lumen dicom IN OUT: the frames of X-ray runs in DICOM files as PNG files, a folder per run,
-- to be used with data=OUT. IN is a file or a folder (files in all folders below). Every run
-- becomes OUT/run_00001, OUT/run_00002, ... in the order of the paths, with frame_00001.png ...
-- in it, 8 bits grey: through the first VOI LUT or window of the file, else from the smallest
-- to the largest value of the run. Overlays are left out.
--
-- Nothing that is written identifies a person: pixels only, no names, dates, numbers or UIDs,
-- and not the names of the files in IN (unless names=true asks for them). Which run came from
-- which file is printed and stands nowhere else. What is burned into the pixels stays there;
-- a run whose file says so is pointed out, one whose file does not say it may hold text, too.
--
-- A file that cannot be read is named, with the reason, and left out; the exit code is 1 then.
-- A run appears in OUT whole or not at all. Needs DCMTK (Debian: dcmtk), which reads
-- uncompressed, RLE, JPEG and JPEG-LS files.
--   > require "lumen.commands.dicom" "--help"
local core = require "lumen.core"
local options = require "lumen.options"
local path = require "lumen.path"
local terminal = require "lumen.terminal"
local fs, process = core.fs, core.process

local rows = {
  { "names", false, "name the runs after their files, which may identify persons" },
  { "limit", 600, "seconds after which a file is given up", min = 1 },
}

local largest_side, most_frames, most_pixels = 16384, 100000, 1 << 33

-- ---- DCMTK ---------------------------------------------------------------------------------

local function program(name)
  local found = terminal.program(name)
  if found then return found end
  error(("lumen dicom needs the program %s of DCMTK\nhint: Debian has it in the package dcmtk"):format(name), 0)
end

-- Runs a program of DCMTK on a file, whose path is absolute: names that begin with -, + or @
-- mean something to it. Returns its exit code and what it wrote.
local function run(o, log, name, ...)
  if fs.exists(log) then fs.remove(log) end
  local p <close> = process.start({ program(name), ... }, log)
  local last = core.time() + o.limit
  while p:poll() == nil do
    if core.time() > last then error(("%s did not end within %d s"):format(name, o.limit), 0) end
    process.sleep(0.002)
  end
  return p:poll(), fs.read(log)
end

-- Its first complaint, in one line of printable characters.
local function complaint(text)
  local line = ("\n" .. text):match("\n[EF]: ([^\n]+)") or text:match("[^\n]+") or "no reason given"
  return (line:gsub("[^\32-\126]", "?"):sub(1, 200))
end

-- ---- one file ------------------------------------------------------------------------------

-- What is asked of a file.
local tags = {
  { "syntax", "0002,0010" }, { "samples", "0028,0002" }, { "frames", "0028,0008" },
  { "height", "0028,0010" }, { "width", "0028,0011" }, { "bits", "0028,0100" },
  { "window", "0028,1051" }, { "lut", "0028,3010" }, { "text", "0028,0301" }, { "pixels", "7fe0,0010" },
}

local function check_beginning(file)
  if not path.is_file(file) then error("not a file", 0) end
  local handle, message = io.open(file, "rb")
  if not handle then error((message:gsub("^.*: ", "")), 0) end
  local start = handle:read(132)
  handle:close()
  if not start or start:sub(129) ~= "DICM" then error("no DICOM file", 0) end
end

-- What the file says of itself at its top level: name of a tag -> text of its line.
local function describe(o, file, log)
  local arguments = { "-q", "-M", "-Un", "+p" }
  for _, tag in ipairs(tags) do
    arguments[#arguments + 1] = "+P"
    arguments[#arguments + 1] = tag[2]
  end
  arguments[#arguments + 1] = file
  local code, text = run(o, log, "dcmdump", table.unpack(arguments))
  local about = {}
  for _, tag in ipairs(tags) do
    about[tag[1]] = ("\n" .. text):match("\n%(" .. tag[2] .. "%) %w%w ([^\n]*)")
  end
  if about.pixels then return about end
  if code == 0 then error("it has no pictures", 0) end
  code, text = run(o, log, "dcmdump", "+P", "7fe0,0010", file)
  error("a damaged DICOM file: " .. complaint(text), 0)
end

-- The number in the line of a tag, 1 to most.
local function number_in(about, name, otherwise, most)
  local n = about[name] and math.tointeger(tonumber(about[name]:match("^%[?%s*(%d+)")))
  if not about[name] then n = otherwise end
  if n and n >= 1 and n <= most then return n end
  error(("its %s is not 1 to %d"):format(name, most), 0)
end

-- Number, height and width of the frames; an error when they cannot all be there. DCMTK itself
-- makes up frames that are missing.
local function check_frames(about)
  local height = number_in(about, "height", nil, largest_side)
  local width = number_in(about, "width", nil, largest_side)
  local count = number_in(about, "frames", 1, most_frames)
  if count * height * width > most_pixels then
    error(("%d frames of %d x %d are more than %d pixels"):format(count, height, width, most_pixels), 0)
  end
  local pieces = about.pixels:match("PixelSequence #=(%d+)") -- the first is a table of offsets
  local bytes = about.pixels:match("#%s*(%d+),")
  local frame = height * width * number_in(about, "samples", 1, 4) * number_in(about, "bits", nil, 64) // 8
  local held = pieces and tonumber(pieces) - 1 or (tonumber(bytes) or 0) // math.max(frame, 1)
  if held < count then
    error(("it says that it has %d frames, but holds %d"):format(count, held), 0)
  end
  return count, height, width
end

-- The tool that decodes the file, and arguments for how grey values become 8 bits.
local function method_of(about)
  local syntax = (about.syntax or ""):match("[%d.]+") or ""
  local jpeg2000 = syntax:match("^1%.2%.840%.10008%.1%.2%.4%.9[0-3]$")
  local video = syntax:match("^1%.2%.840%.10008%.1%.2%.4%.10%d")
  if jpeg2000 or video then
    error(("%s, which DCMTK does not read"):format(jpeg2000 and "compressed as JPEG 2000" or "a video"), 0)
  end
  local tool = syntax:match("^1%.2%.840%.10008%.1%.2%.4%.8[01]$") and "dcml2pnm" or "dcmj2pnm"
  if about.lut then return tool, { "+Wl", "1" }, "VOI LUT" end
  local window = tonumber((about.window or ""):match("^%[%s*([%d.eE+-]+)"))
  if window and window > 0 then return tool, { "+Wi", "1" }, "window" end
  return tool, { "+Wm" }, "min-max"
end

-- All frames of the file as dir/frame.0.pgm, ...; returns how grey values were mapped.
local function extract(o, file, about, dir, log)
  local tool, arguments, how = method_of(about)
  local function try(mapping)
    local list = { "-O", "+G", "+Fa", "+Fc", "+op", table.unpack(mapping) }
    list[#list + 1], list[#list + 2] = file, dir .. "/frame"
    return run(o, log, tool, table.unpack(list))
  end
  local code, text = try(arguments)
  if code ~= 0 and how ~= "min-max" then
    local again = try { "+Wm" }
    if again == 0 then code, how = 0, ("min-max, because its %s cannot be used"):format(how) end
  end
  if code ~= 0 then error("cannot be decoded: " .. complaint(text), 0) end
  return how
end

-- The frames as PNG files, written by our own encoder: pixels and nothing else.
local function encode(dir, count, height, width)
  for i = 1, count do
    local raw = ("%s/frame.%d.pgm"):format(dir, i - 1)
    if not path.is_file(raw) then error(("only %d of its %d frames can be read"):format(i - 1, count), 0) end
    core.scope(function()
      local x = core.image.load(raw)
      if x.shape[1] ~= height or x.shape[2] ~= width then
        error(("frame %d is %d x %d and not %d x %d"):format(i, x.shape[1], x.shape[2], height, width), 0)
      end
      core.image.save(("%s/frame_%05d.png"):format(dir, i), x)
    end)
    fs.remove(raw)
  end
end

-- Writes one run to OUT/name, aside first. Returns what is to be said about it.
local function convert(o, file, out, name)
  local full = fs.realpath(file)
  check_beginning(full)
  local aside, log = ("%s/.%s.tmp"):format(out, name), ("%s/.%s.tmp/log"):format(out, name)
  local guard <close> = setmetatable({}, { __close = function() fs.remove_tree(aside, out) end })
  fs.remove_tree(aside, out)
  fs.mkdir(aside)
  local about = describe(o, full, log)
  local count, height, width = check_frames(about)
  local how = extract(o, full, about, aside, log)
  encode(aside, count, height, width)
  fs.remove(log)
  fs.rename(aside, out .. "/" .. name)
  return ("%d frame%s, %d x %d, %s%s"):format(count, count == 1 and "" or "s", height, width, how,
    (about.text or ""):match("YES") and "; WITH TEXT IN THE PIXELS (Burned In Annotation)" or "")
end

-- ---- many files ----------------------------------------------------------------------------

local function plain(text) return (text:gsub("%c", "?")) end

local function complain(file, text) io.stderr:write(plain(file), ": ", tostring(text), "\n") end

-- Files at or below a folder, sorted, without hidden ones and DICOMDIR, the list of the rest;
-- and how many folders and files cannot be looked at.
local function files_below(folder)
  local files, seen, bad = {}, {}, 0
  local function visit(dir)
    local here = fs.realpath(dir)
    if seen[here] then return end -- a link led back
    seen[here] = true
    for _, name in ipairs(fs.list(dir)) do
      local full = dir .. "/" .. name
      local listed = name:sub(1, 1) ~= "." and name ~= "DICOMDIR"
      local ok, message = pcall(function()
        if not listed then return end
        if path.is_dir(full) then visit(full)
        elseif path.is_file(full) then files[#files + 1] = full end
      end)
      if not ok then
        bad = bad + 1
        complain(full, message)
      end
    end
  end
  visit(folder)
  return files, bad
end

-- The name of a run's folder. Of a file's name only letters, digits and _-. stay.
local function name_of(o, file, from, number)
  local run_name = ("run_%05d"):format(number)
  if not o.names then return run_name end
  local inner = file:sub(1, #from + 1) == from .. "/" and file:sub(#from + 2) or file:match("[^/]*$")
  return (run_name .. "_" .. inner:gsub("%.[^./]*$", ""):gsub("[^%w_.-]", "_")):sub(1, 200)
end

local function convert_all(o, from, out)
  if not fs.exists(from) then error(("%s is not there"):format(from), 0) end
  if fs.exists(out) and not (path.is_dir(out) and #fs.list(out) == 0) then
    error(("%s is there already and not an empty folder"):format(out), 0)
  end
  for _, name in ipairs { "dcmdump", "dcmj2pnm", "dcml2pnm" } do program(name) end
  local files, failed = { from }, 0
  if path.is_dir(from) then files, failed = files_below(from) end
  if #files == 0 then error(("there are no files in %s"):format(from), 0) end
  local is_new, done = not fs.exists(out), 0
  fs.mkdir(out)
  for _, file in ipairs(files) do
    local name = name_of(o, file, from, done + 1)
    local ok, text = pcall(convert, o, file, out, name)
    if ok then
      done = done + 1
      print(("%s  %s  from %s"):format(name, text, plain(file)))
    else
      if tostring(text):match("interrupted$") then error(text, 0) end
      failed = failed + 1
      complain(file, text)
    end
  end
  if done == 0 and is_new then fs.remove(out) end
  print(("%d run%s in %s%s"):format(done, done == 1 and "" or "s", out,
    failed > 0 and ("; %d file%s left out"):format(failed, failed == 1 and "" or "s") or ""))
  return failed == 0 and 0 or 1
end

return function(...)
  local o, places = {}, {}
  for _, row in ipairs(rows) do o[row[1]] = row[2] end
  for _, argument in ipairs { ... } do
    if argument == "--help" or argument == "-h" then
      print("usage: lumen dicom IN OUT [option=value ...]\n" .. options.help(rows))
      return 0
    elseif #places < 2 then
      places[#places + 1] = argument
    else
      local key, value = options.split(argument)
      o[key] = options.parse(options.find(rows, key, "lumen dicom"), value)
    end
  end
  if #places < 2 then error("lumen dicom needs IN and OUT (see lumen dicom --help)", 0) end
  return convert_all(o, places[1], places[2])
end
