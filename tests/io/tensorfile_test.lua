-- safetensors and npy: round trips, exact bytes, and headers that lie.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"

local folder = helper.temporary_folder()
local path, npy = folder .. "/x.safetensors", folder .. "/x.npy"

local function put(name, bytes)
  local f = assert(io.open(name, "wb"))
  f:write(bytes)
  f:close()
end

local function fails(text, fn, ...)
  local ok, message = pcall(fn, ...)
  lu.assertFalse(ok)
  lu.assertStrContains(tostring(message), text)
end

local function samples()
  return {
    f32 = lumen.tensor({ { 1.5, -2, 1 / 0 }, { 0, 1e-40, 3 } }),
    f64 = lumen.tensor({ 0.1, 1e300 }, { dtype = "f64" }),
    bf16 = lumen.tensor({ 1, 2.5, -3 }, { dtype = "bf16" }),
    i32 = lumen.tensor({ -2147483648, 7 }, { dtype = "i32" }),
    i64 = lumen.tensor({ -9007199254740993, 5 }, { dtype = "i64" }),
    u8 = lumen.tensor({ 0, 255, 3 }, { dtype = "u8" }),
    empty = lumen.zeros(0, 3),
    scalar = lumen.tensor(7),
    six = lumen.arange(64):reshape(2, 2, 2, 2, 2, 2),
    ["a.b/ü \"quoted\""] = lumen.tensor { 1 },
  }
end

TestSafetensors = {}

function TestSafetensors.test_round_trip()
  local x = samples()
  lumen.save(path, x, { epoch = "12", note = "läuft \n \"so\"" })
  local y, metadata = lumen.load(path)
  for name, t in next, x do helper.assert_equal(y[name], t, name) end
  for name in next, y do lu.assertNotNil(x[name]) end
  lu.assertEquals(metadata, { epoch = "12", note = "läuft \n \"so\"" })
  lu.assertEquals(y.i64:totable()[1], -9007199254740993)
end

function TestSafetensors.test_same_tensors_same_bytes()
  local first, second = {}, {}
  for i = 1, 40 do first["n" .. i] = lumen.full({ i }, i) end
  for i = 40, 1, -1 do second["n" .. i] = lumen.full({ i }, i) end
  lumen.save(path, first)
  lumen.save(folder .. "/y.safetensors", second)
  lu.assertEquals(lumen.fs.read(path), lumen.fs.read(folder .. "/y.safetensors"))
end

function TestSafetensors.test_layout()
  lumen.save(path, { b = lumen.tensor({ 1, 2, 3 }, { dtype = "u8" }), a = lumen.tensor { 1 },
                     c = lumen.tensor({ 4 }, { dtype = "i64" }) })
  local bytes = lumen.fs.read(path)
  local header, at = string.unpack("<s8", bytes)
  lu.assertEquals((at - 1) % 8, 0)
  local h = lumen.json.decode(header)
  lu.assertEquals({ h.c.data_offsets[1], h.a.data_offsets[1], h.b.data_offsets[1] }, { 0, 8, 12 })
  lu.assertTrue(header:find('"a"', 1, true) < header:find('"b"', 1, true))
  lu.assertEquals(#bytes, at - 1 + 15)
end

function TestSafetensors.test_views_and_empty_table()
  local x = lumen.arange(6):reshape(2, 3)
  lumen.save(path, { t = x:transpose(1, 2), s = x:slice(2, 2, 3) })
  local y = lumen.load(path)
  lu.assertEquals(y.t:totable(), { { 0, 3 }, { 1, 4 }, { 2, 5 } })
  lu.assertEquals(y.s:totable(), { { 1, 2 }, { 4, 5 } })
  lumen.save(path, {})
  lu.assertNil(next((lumen.load(path))))
end

local function file(header, data) return string.pack("<s8", header) .. (data or "") end

local function loads(header, data)
  put(path, file(header, data))
  return lumen.load(path)
end

function TestSafetensors.test_types_that_widen()
  local x = loads('{"h":{"dtype":"F16","shape":[5],"data_offsets":[0,10]},' ..
      '"i":{"dtype":"I16","shape":[2],"data_offsets":[10,14]},"b":{"dtype":"BOOL","shape":[2],"data_offsets":[14,16]}}',
    string.pack("<HHHHHhhBB", 0x3c00, 0x8001, 0x7bff, 0xfc00, 0x0400, -5, 300, 1, 0))
  lu.assertEquals(x.h.dtype, "f32")
  lu.assertEquals(x.h:totable(), { 1, -2.0 ^ -24, 65504, -1 / 0, 2.0 ^ -14 })
  lu.assertEquals(x.i:totable(), { -5, 300 })
  lu.assertEquals(x.i.dtype, "i32")
  lu.assertEquals(x.b:totable(), { 1, 0 })
end

function TestSafetensors.test_headers_that_lie()
  local function entry(fields) return '{"x":{' .. fields .. '}}' end
  local four = ("\0"):rep(4)
  local cases = {
    { entry '"dtype":"F32","shape":[1],"data_offsets":[0,8]', four, "but there are 4 bytes" },
    { entry '"dtype":"F32","shape":[1],"data_offsets":[4,0]', four, "data_offsets" },
    { entry '"dtype":"F32","shape":[2],"data_offsets":[0,4]', four, "do not match dtype and shape" },
    { entry '"dtype":"F32","shape":[1],"data_offsets":[0.5,4]', four, "not two integers" },
    { entry '"dtype":"F32","shape":[1],"data_offsets":[0,4,4]', four, "not two integers" },
    { entry '"dtype":"F32","shape":[-1],"data_offsets":[0,4]', four, "not of integers" },
    { entry '"dtype":"F32","shape":[1e300],"data_offsets":[0,4]', four, "not of integers" },
    { entry '"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]', "", "too many elements" },
    { entry '"dtype":"F32","shape":[1,1,1,1,1,1,1],"data_offsets":[0,4]', four, "7 dimensions" },
    { entry '"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]', four, "F8_E4M3" },
    { entry '"shape":[1],"data_offsets":[0,4]', four, "no dtype" },
    { entry '"dtype":"F32","data_offsets":[0,4]', four, "no shape" },
    { entry '"dtype":"F32","shape":[],"data_offsets":[0,4]', four .. "?", "1 bytes after the last" },
    { '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}', four, "overlap" },
    { '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[3,4]}}', four, "hole" },
    { '{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"a":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}', four, "appears twice" },
    { '{"__metadata__":{"a":1}}', "", "not a string" },
    { '{"x":1}', "", "no dtype" },
    { "[1]", "", "not an object" },
    { "{", "", "bad JSON at byte" },
    { "{} x", "", "bad JSON" },
    { "{}\0", "", "NUL" },
    { '{"a\\u0000b":{}}', "", "NUL" },
    { "", "", "empty JSON" },
    { ("["):rep(100000), "", "bad JSON" },
  }
  for _, case in ipairs(cases) do fails(case[3], loads, case[1], case[2]) end
  put(path, string.pack("<I8", 1 << 62) .. "{}")
  fails("cut within its header", lumen.load, path)
  put(path, string.pack("<I8", -1) .. "{}")
  fails("cut within its header", lumen.load, path)
end

local function noise(seed)
  local state = seed
  return function(n)
    state = (state * 6364136223846793005 + 1442695040888963407)
    return (state >> 33) % n
  end
end

local function damage(name, bytes, times, random)
  for n = 0, #bytes - 1 do
    put(name, bytes:sub(1, n))
    lu.assertFalse(pcall(lumen.load, name), "cut to " .. n)
  end
  for _ = 1, times do
    local at = 1 + random(#bytes)
    put(name, bytes:sub(1, at - 1) .. string.char(random(256)) .. bytes:sub(at + 1))
    pcall(lumen.load, name)
  end
end

function TestSafetensors.test_damaged_files_never_crash()
  lumen.save(path, { a = lumen.zeros(2, 3), b = lumen.tensor({ 1 }, { dtype = "i64" }) }, { k = "v" })
  damage(path, lumen.fs.read(path), 3000, noise(2))
end

function TestSafetensors.test_what_cannot_be_saved()
  fails("'x' is not a tensor but a table", lumen.save, path, { x = {} })
  fails("names of tensors must be strings", lumen.save, path, { lumen.zeros(1) })
  fails("names of metadata must be strings", lumen.save, path, {}, { a = 1 })
  fails("cannot be a tensor's name", lumen.save, path, { ["\255"] = lumen.zeros(1) })
  fails("cannot be a tensor's name", lumen.save, path, { __metadata__ = lumen.zeros(1) })
  fails("extension", lumen.save, folder .. "/x.txt", {})
  fails("extension", lumen.load, folder .. "/x.txt")
  fails("no.safetensors: cannot open", lumen.load, folder .. "/no.safetensors")
end

function TestSafetensors.test_failed_save_leaves_the_old_file()
  lumen.save(path, { a = lumen.zeros(1) })
  local before = lumen.fs.read(path)
  pcall(lumen.save, path, { a = lumen.zeros(1), ["\255"] = lumen.zeros(1) })
  lu.assertEquals(lumen.fs.read(path), before)
  for _, name in ipairs(lumen.fs.list(folder)) do lu.assertNil(name:find("tmp", 1, true)) end
end

function TestSafetensors.test_reference_files()
  local all = lumen.load(helper.need_shared "golden/unext_s_weights.safetensors")
  local n = 0
  for _ in next, all do n = n + 1 end
  lu.assertEquals(n, 101)
end

TestNpy = {}

function TestNpy.test_round_trip()
  for name, x in next, samples() do
    if name ~= "bf16" then
      lumen.save(npy, x)
      helper.assert_equal(lumen.load(npy), x, name)
    end
  end
  fails("NumPy has no bf16", lumen.save, npy, samples().bf16)
end

local function array(header, data, version)
  local body = header .. "\n"
  local length = version == 2 and string.pack("<s4", body) or string.pack("<s2", body)
  put(npy, "\x93NUMPY" .. string.char(version or 1) .. "\0" .. length .. data)
  return lumen.load(npy)
end

function TestNpy.test_header_is_numpys()
  lumen.save(npy, lumen.zeros(2, 3))
  local bytes = lumen.fs.read(npy)
  lu.assertEquals(bytes:sub(1, 8), "\x93NUMPY\1\0")
  lu.assertStrContains(bytes, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }")
  lu.assertEquals(#bytes, 128 + 24)
end

function TestNpy.test_fortran_order_and_versions()
  local data = string.pack("<fffffff", 1, 2, 3, 4, 5, 6, 0):sub(1, 24)
  local x = array("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }", data)
  lu.assertEquals(x:totable(), { { 1, 3, 5 }, { 2, 4, 6 } })
  x = array('{"shape": (3L, 2), "fortran_order": False, "descr": "<f4"}', data, 2)
  lu.assertEquals(x:totable(), { { 1, 2 }, { 3, 4 }, { 5, 6 } })
  x = array("{'descr': '|b1', 'fortran_order': False, 'shape': (2,), }", "\1\0")
  lu.assertEquals(x:totable(), { 1, 0 })
end

function TestNpy.test_headers_that_lie()
  local function header(descr, shape)
    return ("{'descr': %s, 'fortran_order': False, 'shape': %s, }"):format(descr, shape)
  end
  fails("big-endian", array, header("'>f4'", "(1,)"), "\0\0\0\0")
  fails("dtype '<U3'", array, header("'<U3'", "(1,)"), "\0\0\0\0")
  fails("dtype '|O'", array, header("'|O'", "(1,)"), "")
  fails("not a plain array's", array, header("[('a', '<f4')]", "(1,)"), "\0\0\0\0")
  fails("4 bytes of data, its header says 8", array, header("'<f4'", "(2,)"), "\0\0\0\0")
  fails("too many elements", array, header("'<f4'", "(4294967296, 4294967296)"), "")
  fails("not a plain array's", array, header("'<f4'", "(99999999999999999999,)"), "")
  fails("not a plain array's", array, header("'<f4'", "(-1,)"), "")
  fails("7 dimensions", array, header("'<f4'", "(1, 1, 1, 1, 1, 1, 1)"), "\0\0\0\0")
  fails("not a plain array's", array, "{'descr': '<f4', 'shape': (1,)}", "\0\0\0\0")
  fails("not a plain array's", array, header("__import__('os')", "(1,)"), "")
end

function TestNpy.test_damaged_files_never_crash()
  lumen.save(npy, lumen.zeros(2, 3))
  damage(npy, lumen.fs.read(npy), 2000, noise(3))
end

helper.run()
