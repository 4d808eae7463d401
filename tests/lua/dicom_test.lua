-- lumen dicom: frames of DICOM files as pictures, with nothing else of them. The files are made
-- here with DCMTK's own tools.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local terminal = require "lumen.terminal"
local data, fs, process = lumen.data, lumen.fs, lumen.process

local folder, log

-- Runs a program; its exit code and what it wrote.
local function run(...)
  if fs.exists(log) then fs.remove(log) end
  local p <close> = process.start({ ... }, log)
  while p:poll() == nil do process.sleep(0.002) end
  return p:poll(), fs.read(log)
end

local function dicom(...) return run(process.program(), "dicom", ...) end

local function need(name)
  return terminal.program(name) or lu.skip("no DCMTK: " .. name)
end

local function tool(name, ...)
  local program = need(name)
  local code, text = run(program, ...)
  lu.assertEquals(code, 0, text)
end

local height, width, frames = 30, 40, 3

-- Value of a pixel of a frame; all count from 0.
local function value(frame, y, x) return 100 + 200 * frame + 10 * x + y end

local private = { "Doe^Jane", "PID4711", "19691231", "1.2.3.4.5", "St. Elsewhere" }

local header = [[
(0002,0010) UI =LittleEndianExplicit
(0008,0016) UI =XRayAngiographicImageStorage
(0008,0018) UI [1.2.3.4.5]
(0008,0020) DA [19691231]
(0008,0060) CS [XA]
(0008,0080) LO [St. Elsewhere]
(0010,0010) PN [Doe^Jane]
(0010,0020) LO [PID4711]
(0020,000d) UI [1.2.3.4.5.6]
(0020,000e) UI [1.2.3.4.5.7]
(0028,0002) US 1
(0028,0004) CS [MONOCHROME2]
(0028,0008) IS [3]
(0028,0010) US 30
(0028,0011) US 40
(0028,0100) US 16
(0028,0101) US 12
(0028,0102) US 11
(0028,0103) US 0
]]

-- A DICOM file; more: further lines of the dump, change: a pattern and what to put for it.
local function make(name, more, change)
  local raw = folder .. "/pixels.raw"
  if not fs.exists(raw) then
    local values = {}
    for f = 0, frames - 1 do
      for y = 0, height - 1 do
        for x = 0, width - 1 do values[#values + 1] = string.pack("<I2", value(f, y, x)) end
      end
    end
    fs.write(raw, table.concat(values))
  end
  local text = header
  if change then text = text:gsub(change[1], change[2]) end
  local dump = folder .. "/text.dump"
  fs.write(dump, text .. (more or "") .. ("(7fe0,0010) OW =%s\n"):format(raw))
  local file = ("%s/in/%s"):format(folder, name)
  fs.mkdir(file:match("^(.*)/"))
  tool("dump2dcm", "-q", dump, file)
  return file
end

-- Largest difference of a written frame (from 1) from what fn(value) says.
local function difference(run_folder, frame, fn)
  local x, worst = lumen.image.load(("%s/frame_%05d.png"):format(run_folder, frame)), 0
  lu.assertEquals({ x.shape, x.dtype }, { { height, width }, "u8" })
  for y, row in ipairs(x:totable()) do
    for column, v in ipairs(row) do
      worst = math.max(worst, math.abs(v - fn(value(frame - 1, y - 1, column - 1))))
    end
  end
  return worst
end

local low, high = value(0, 0, 0), value(frames - 1, height - 1, width - 1)

local function min_max(v) return 255 * (v - low) / (high - low) end

-- Everything below a folder, hidden files included.
local function everything(dir, list)
  list = list or {}
  for _, name in ipairs(fs.list(dir)) do
    list[#list + 1] = dir .. "/" .. name
    if fs.stat(list[#list]).kind == "directory" then everything(list[#list], list) end
  end
  return list
end

local function chunks(png)
  local names, at = {}, 9
  while at < #png do
    local size = string.unpack(">I4", png, at)
    names[#names + 1] = png:sub(at + 4, at + 7)
    at = at + 12 + size
  end
  return table.concat(names, " ")
end

TestDicom = {}

function TestDicom:setUp()
  folder = helper.temporary_folder()
  log = folder .. "/log"
  self.out = folder .. "/out"
end
function TestDicom:tearDown() helper.remove_folder(folder) end

function TestDicom:test_frames_and_nothing_else()
  local file = make "Doe Jane.dcm"
  local code, text = dicom(file, self.out)
  lu.assertEquals(code, 0, text)
  lu.assertStrContains(text, "run_00001  3 frames, 30 x 40, min-max  from " .. file)
  local names = {}
  for i, path in ipairs(everything(folder .. "/out")) do names[i] = path:sub(#self.out + 2) end
  lu.assertEquals(names, { "run_00001", "run_00001/frame_00001.png", "run_00001/frame_00002.png",
    "run_00001/frame_00003.png" })
  for i = 1, frames do
    lu.assertTrue(difference(self.out .. "/run_00001", i, min_max) <= 1)
    local bytes = fs.read(("%s/run_00001/frame_%05d.png"):format(self.out, i))
    lu.assertStrMatches(chunks(bytes), "IHDR [IDAT ]*IEND")
    for _, secret in ipairs(private) do lu.assertNil(bytes:find(secret, 1, true), secret) end
  end
end

function TestDicom:test_the_folder_is_data()
  make "a.dcm"
  make "b.dcm"
  local code, text = dicom(folder .. "/in", self.out)
  lu.assertEquals(code, 0, text)
  local source, subset = data.source(self.out, { split = "train" })
  local loader <close> = data.loader { source = source, subset = subset, size = 16, batch = 6 }
  lu.assertEquals(#loader, 6)
  for batch in loader:epoch(1) do lu.assertEquals(batch.image.shape, { 6, 3, 16, 16 }) end
end

function TestDicom:test_window()
  make("window.dcm", "(0028,1050) DS [500\\\\1]\n(0028,1051) DS [400\\\\2]\n")
  local code, text = dicom(folder .. "/in", self.out)
  lu.assertEquals(code, 0, text)
  lu.assertStrContains(text, "30 x 40, window")
  for i = 1, frames do -- DICOM PS3.3 C.11.2.1.2
    lu.assertTrue(difference(self.out .. "/run_00001", i, function(v)
      return math.max(0, math.min(255, ((v - 499.5) / 399 + 0.5) * 255))
    end) <= 1, i)
  end
end

function TestDicom:test_voi_lut()
  make("lut.dcm", [[
(0028,1050) DS [500]
(0028,1051) DS [400]
(0028,3010) SQ (Sequence with undefined length)
(fffe,e000) na (Item with undefined length)
(0028,3002) US 4\400\8
(0028,3006) OW 0000\0064\0032\00ff
(fffe,e00d) na (ItemDelimitationItem)
(fffe,e0dd) na (SequenceDelimitationItem)
]])
  local code, text = dicom(folder .. "/in", self.out)
  lu.assertEquals(code, 0, text)
  lu.assertStrContains(text, "30 x 40, VOI LUT")
  lu.assertTrue(difference(self.out .. "/run_00001", 2, function(v)
    return ({ 0, 100, 50, 255 })[math.max(1, math.min(4, v - 399))]
  end) <= 1)
end

function TestDicom:test_a_window_that_is_none()
  make("odd.dcm", "(0028,1050) DS [500]\n(0028,1051) DS [0]\n")
  local code, text = dicom(folder .. "/in", self.out)
  lu.assertEquals(code, 0, text)
  lu.assertStrContains(text, ", min-max  from ")
  lu.assertTrue(difference(self.out .. "/run_00001", 2, min_max) <= 1)
end

function TestDicom:test_dark_is_dark()
  make("inverted.dcm", nil, { "MONOCHROME2", "MONOCHROME1" })
  lu.assertEquals((dicom(folder .. "/in", self.out)), 0)
  lu.assertTrue(difference(self.out .. "/run_00001", 1, function(v) return 255 - min_max(v) end) <= 1)
end

-- Text in an overlay is not drawn; text in the pixels is pointed out.
function TestDicom:test_text()
  make("overlay.dcm", [[
(0028,0301) CS [YES]
(6000,0010) US 30
(6000,0011) US 40
(6000,0040) CS [G]
(6000,0050) SS 1\1
(6000,0100) US 1
(6000,0102) US 0
(6000,3000) OW ]] .. ("ffff\\"):rep(74) .. "ffff\n")
  local code, text = dicom(folder .. "/in", self.out)
  lu.assertEquals(code, 0, text)
  lu.assertStrContains(text, "WITH TEXT IN THE PIXELS")
  lu.assertTrue(difference(self.out .. "/run_00001", 1, min_max) <= 1)
end

function TestDicom:test_compressed()
  local plain = make "plain.dcm"
  tool("dcmcjpeg", "-q", plain, folder .. "/in/lossless.dcm")
  tool("dcmcjpls", "-q", plain, folder .. "/in/ls.dcm")
  tool("dcmcrle", "-q", plain, folder .. "/in/rle.dcm")
  local code, text = dicom(folder .. "/in", self.out)
  lu.assertEquals(code, 0, text)
  lu.assertStrContains(text, "4 runs in ")
  for r = 1, 4 do
    lu.assertTrue(difference(("%s/run_%05d"):format(self.out, r), 3, min_max) <= 1, r)
  end
end

function TestDicom:test_colour()
  local jpeg = folder .. "/colour.jpg"
  local ramp = lumen.arange(0, 24):to("f32"):reshape { 1, 24, 1 } * 10 + lumen.zeros { 16, 24, 3 }
  lumen.image.save(jpeg, ramp:to("u8"), { quality = 100 })
  fs.mkdir(folder .. "/in")
  tool("img2dcm", "-q", jpeg, folder .. "/in/colour.dcm")
  local code, text = dicom(folder .. "/in", self.out)
  lu.assertEquals(code, 0, text)
  lu.assertStrContains(text, "1 frame, 16 x 24")
  local x = lumen.image.load(self.out .. "/run_00001/frame_00001.png")
  lu.assertEquals(x.shape, { 16, 24 })
  for column, v in ipairs(x:totable()[8]) do
    lu.assertAlmostEquals(v, (column - 1) * 255 / 23, 6)
  end
end

-- No shell sees a name, and no program takes one for an option.
function TestDicom:test_names()
  local odd = { "a b's \"c\" $(touch " .. folder .. "_x) `id`;|&.dcm", "--help", "-q", "+Fa", "@file.dcm",
                "new\nline.dcm" }
  odd[1] = odd[1]:gsub("/", "_")
  local plain = make "plain.dcm"
  for _, name in ipairs(odd) do fs.write(("%s/in/%s"):format(folder, name), fs.read(plain)) end
  local code, text = dicom(folder .. "/in", self.out)
  lu.assertEquals(code, 0, text)
  lu.assertStrContains(text, #odd + 1 .. " runs in ")
  lu.assertEquals(#everything(self.out), (#odd + 1) * 4)
  code, text = dicom(folder .. "/in", folder .. "/named", "names=true")
  lu.assertEquals(code, 0, text)
  for _, name in ipairs(fs.list(folder .. "/named")) do lu.assertStrMatches(name, "run_%d+_[%w_.-]+") end
  lu.assertTrue(fs.exists(folder .. "/named/run_00007_plain/frame_00001.png"))
end

-- Each bad file is named with a reason; the good one is there, and nothing else.
function TestDicom:test_bad_files()
  local good = make "m good.dcm"
  local bytes, jpeg = fs.read(good), folder .. "/in/jpeg.dcm"
  tool("dcmcjpeg", "-q", good, jpeg)
  tool("dcmodify", "-q", "-nb", "-m", "(0028,0008)=9", jpeg)
  fs.rename(jpeg, folder .. "/in/n more compressed.dcm")
  tool("dcmcjpeg", "-q", good, jpeg)
  local bad = {
    { "text.txt", "no DICOM file", "hello, world" },
    { "empty.dcm", "no DICOM file", "" },
    { "magic.dcm", "a damaged DICOM file", ("\0"):rep(128) .. "DICM" },
    { "noise.dcm", "a damaged DICOM file", ("\0"):rep(128) .. "DICM" .. ("\xff\x03junk"):rep(500) },
    { "cut.dcm", "a damaged DICOM file", bytes:sub(1, #bytes - 1000) },
    { "jpeg.dcm", "a damaged DICOM file", fs.read(jpeg):sub(1, -800) },
  }
  for _, row in ipairs(bad) do fs.write(("%s/in/%s"):format(folder, row[1]), row[3]) end
  make("n more frames.dcm", nil, { "IS %[3%]", "IS [7]" })
  make("n many frames.dcm", nil, { "IS %[3%]", "IS [999999999]" })
  make("n no rows.dcm", nil, { "US 30", "US 0" })
  make("n large.dcm", nil, { "US 30", "US 65535" })
  local code, text = dicom(folder .. "/in", self.out)
  lu.assertEquals(code, 1)
  for _, row in ipairs(bad) do lu.assertStrContains(text, ("in/%s: %s"):format(row[1], row[2])) end
  lu.assertStrContains(text, "n many frames.dcm: its frames is not 1 to 100000")
  lu.assertStrContains(text, "n no rows.dcm: its height is not 1 to 16384")
  lu.assertStrContains(text, "n large.dcm: its height is not 1 to 16384")
  lu.assertStrContains(text, "n more frames.dcm: it says that it has 7 frames, but holds 3")
  lu.assertStrContains(text, "n more compressed.dcm: it says that it has 9 frames, but holds 3")
  lu.assertStrContains(text, "11 files left out")
  lu.assertEquals(fs.list(self.out), { "run_00001" })
  lu.assertEquals(#everything(self.out), 4)
end

function TestDicom:test_nothing_usable_leaves_nothing()
  need "dcmdump"
  fs.mkdir(folder .. "/in")
  fs.write(folder .. "/in/a.txt", "no")
  local code, text = dicom(folder .. "/in/a.txt", self.out)
  lu.assertEquals(code, 1)
  lu.assertStrContains(text, "in/a.txt: no DICOM file")
  lu.assertFalse(fs.exists(self.out))
end

function TestDicom:test_arguments()
  local function fails(text, ...)
    local code, said = dicom(...)
    lu.assertEquals(code, 1, said)
    lu.assertStrContains(said, text)
  end
  fails "needs IN and OUT"
  fails("needs IN and OUT", folder)
  fails("/no/such is not there", "/no/such", self.out)
  fails("did you mean names", folder, self.out, "name=true")
  fs.mkdir(self.out .. "/x")
  fails("not an empty folder", folder, self.out)
end

TestWithout = {}

function TestWithout.test_says_what_to_install()
  folder = helper.temporary_folder()
  log = folder .. "/log"
  local code, text = run("/usr/bin/env", "PATH=/nonexistent", process.program(), "dicom", folder,
    folder .. "/out")
  helper.remove_folder(folder)
  lu.assertEquals(code, 1)
  lu.assertStrContains(text, "dcmdump of DCMTK")
  lu.assertStrContains(text, "Debian has it in the package dcmtk")
end

helper.run()
