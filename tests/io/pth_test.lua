-- PyTorch checkpoints: both formats, opaque classes, nothing is ever executed.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"

local fixtures = "tests/fixtures/"
local folder = helper.temporary_folder()
local path = folder .. "/x.pth"

local function put(bytes)
  local f = assert(io.open(path, "wb"))
  f:write(bytes)
  f:close()
end

local function fails(text, fn, ...)
  local ok, message = pcall(fn, ...)
  lu.assertFalse(ok)
  lu.assertStrContains(tostring(message), text)
end

local function check_content(x)
  local base = { { 0, 1, 2, 3 }, { 4, 5, 6, 7 }, { 8, 9, 10, 11 } }
  lu.assertEquals(x.model.base:totable(), base)
  lu.assertEquals(x.model.transposed:totable(), { { 0, 4, 8 }, { 1, 5, 9 }, { 2, 6, 10 }, { 3, 7, 11 } })
  lu.assertEquals(x.model.row:totable(), base[2])
  lu.assertEquals(x.model.scalar.shape, {})
  lu.assertEquals(x.model.scalar:item(), 7)
  lu.assertEquals(x.model.empty.shape, { 0, 3 })
  lu.assertEquals(x.model.expanded:totable(), { { 3, 3 }, { 3, 3 } })
  lu.assertEquals(x.linear.weight:totable(), { { 1.5, -2 } })
  lu.assertEquals(x.linear.bias:totable(), { 0.25 })
  lu.assertEquals(x.parameter:totable(), { 1, 2 })
  local dtypes = { "f64", "f32", "bf16", "i64", "i32", "i32", "i32", "u8", "u8" }
  for i, dtype in ipairs(dtypes) do
    local t = x.types[i]
    lu.assertEquals(t.dtype, dtype)
    lu.assertEquals(t:totable(), i < 8 and { 1, -2 } or i == 8 and { 1, 200 } or { 1, 0 })
  end
  lu.assertEquals(x.args.class, "argparse.Namespace")
  lu.assertEquals(tostring(x.args), "opaque argparse.Namespace")
  lu.assertEquals(x.args.state, { lr = 1e-3, name = "mae" })
  lu.assertEquals({ x.epoch, x.big, x.loss, x.flag }, { 12, -(1 << 40), 0.125, true })
  lu.assertEquals(math.type(x.epoch), "integer")
  lu.assertEquals(x.huge.class, "builtins.int")
  lu.assertNil(x.none)
  lu.assertEquals(x.list, { 1, { 2, "three" } })
  lu.assertEquals(x.shape, { 3, 4 })
  lu.assertEquals(x["ünï"].class, "_codecs.encode")
  lu.assertEquals(x[3], "three")
  lu.assertEquals(x.dtype.class, "torch.float32")
end

TestPth = {}

function TestPth.test_zip_format() check_content(lumen.load(fixtures .. "small.pth")) end

function TestPth.test_older_stream() check_content(lumen.load(fixtures .. "legacy.pth")) end

function TestPth.test_nothing_is_executed()
  local x = lumen.load(fixtures .. "bomb.pth").x
  lu.assertEquals(x.class, "posix.system")
  lu.assertEquals(x.args, { "touch lumen_was_here" })
  lu.assertFalse(lumen.fs.exists("lumen_was_here"))
end

-- The older stream around a pickle of our own: no storages.
local magic = "\x80\2\x8a\10\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\2M\xe9\3.\x80\2}."

local function unpickle(ops, storages)
  put(magic .. ops .. "." .. (storages or "]."))
  return lumen.load(path)
end

TestPickle = {}

function TestPickle.test_values()
  lu.assertEquals(unpickle "(K\1M\2\1J\xff\xff\xff\xff\x8a\0\x8a\1\xff\x88\x89G\x3f\xf8\0\0\0\0\0\0X\2\0\0\0hiC\1zt",
    { 1, 258, -1, 0, -1, true, false, 1.5, "hi", "z" })
  lu.assertEquals(unpickle "}(U\1aK\1U\1b]K\2au", { a = 1, b = { 2 } })
  lu.assertEquals(unpickle "(U\1aK\1d", { a = 1 })
  lu.assertEquals(unpickle "\x8f(K\1K\2\x90", { 1, 2 })
  lu.assertEquals(unpickle "\x95\0\0\0\0\0\0\0\0\x8c\1a", "a")
end

function TestPickle.test_shared_and_cyclic()
  local x = unpickle "]q\0h\0a"
  lu.assertIs(x[1], x)
  x = unpickle "(]q\0h\0t"
  lu.assertIs(x[1], x[2])
  -- 2^200 leaves as a tree, 201 tables as a graph
  local ops = { "]" }
  for _ = 1, 150 do ops[#ops + 1] = "q\0]h\0ah\0a" end
  lu.assertEquals(#unpickle(table.concat(ops)), 2)
end

function TestPickle.test_opaque_objects_keep_their_parts()
  local x = unpickle "cmy.module\nThing\n(K\1K\2tR}U\1aK\3sb(K\4e"
  lu.assertEquals({ x.class, x.args, x.state, x.items }, { "my.module.Thing", { 1, 2 }, { a = 3 }, { 4 } })
  x = unpickle "ccollections\nOrderedDict\n)RU\1aK\1s"
  lu.assertEquals(x, { a = 1 })
  x = unpickle "\x8c\1m\x8c\1n\x93)\x81"
  lu.assertEquals(x.class, "m.n")
end

local storage = "((U\7storagectorch\nFloatStorage\nU\1%sU\3cpuK\4tQ"

local function tensor(offset, size, stride, key)
  return "ctorch._utils\n_rebuild_tensor_v2\n" .. storage:format(key or "k") .. offset .. size .. stride ..
      "\x89)tR"
end

local function with_data(ops) return unpickle(ops, "]U\1ka." .. string.pack("<I8ffff", 4, 1, 2, 3, 4)) end

function TestPickle.test_tensors_stay_in_their_storage()
  lu.assertEquals(with_data(tensor("K\0", "K\2K\2\x86", "K\1K\2\x86")):totable(), { { 1, 3 }, { 2, 4 } })
  lu.assertEquals(with_data(tensor("K\1", "K\3\x85", "K\1\x85")):totable(), { 2, 3, 4 })
  lu.assertEquals(with_data(tensor("K\3", ")", ")")):item(), 4)
  lu.assertEquals(with_data(tensor("K\9", "K\0\x85", "K\1\x85")).shape, { 0 })
  fails("beyond its storage", with_data, tensor("K\2", "K\3\x85", "K\1\x85"))
  fails("beyond its storage", with_data, tensor("K\4", ")", ")"))
  fails("beyond its storage", with_data, tensor("K\0", "K\3\x85", "K\2\x85"))
  fails("beyond its storage", with_data, tensor("K\0", "K\3\x85", "\x8a\8\xff\xff\xff\xff\xff\xff\xff\x7f\x85"))
  fails("without storage and offset", with_data, tensor("J\xff\xff\xff\xff", ")", ")"))
  fails("strides", with_data, tensor("K\0", "K\2\x85", "J\xff\xff\xff\xff\x85"))
  fails("without shape and strides", with_data, tensor("K\0", "K\2\x85", ")"))
  fails("7 dimensions", with_data, tensor("K\0", "(K\1K\1K\1K\1K\1K\1K\1t", "(K\1K\1K\1K\1K\1K\1K\1t"))
  fails("unknown storage key", with_data, tensor("K\0", ")", ")", "z"))
  fails("too many elements", with_data, tensor("K\0", "J\0\0\0\x40J\0\0\0\x40\x86", "K\0K\0\x86"))
  fails("memory", with_data, tensor("K\0", "J\0\0\0\x40J\0\1\0\0\x86", "K\0K\0\x86"))
end

function TestPickle.test_bad_pickles()
  fails("stack is empty", unpickle, "0")
  fails("stack is empty", unpickle, "(]a")
  fails("no mark", unpickle, "K\1t")
  fails("never stored", unpickle, "h\0")
  fails("memo number out of range", unpickle, "]r\xff\xff\xff\xff")
  fails("without a value", unpickle, "}(K\1u")
  fails("takes none", unpickle, "K\1K\2a")
  fails("not a class", unpickle, "K\1)R")
  fails("no storage", unpickle, "(K\1tQ")
  fails("operation 0x69", unpickle, "(ios\nsystem\n")
  fails("the pickle is cut", unpickle, "X\255\255\255\255")
  fails("mark is left", unpickle, "(K\1")
  fails("None", unpickle, "}NK\1s")
  fails("deeper than", unpickle, ("]"):rep(1000) .. ("a"):rep(999))
  fails("does not match", unpickle, "N", "]U\1ka.")
end

TestHostile = {}

local function noise(seed)
  local state = seed
  return function(n)
    state = (state * 6364136223846793005 + 1442695040888963407)
    return (state >> 33) % n
  end
end

function TestHostile.test_cut_files()
  for _, name in ipairs { "legacy.pth", "small.pth" } do
    local bytes = lumen.fs.read(fixtures .. name)
    for n = 0, #bytes - 1, name == "small.pth" and 7 or 1 do
      put(bytes:sub(1, n))
      lu.assertFalse(pcall(lumen.load, path), name .. " cut to " .. n)
    end
  end
end

function TestHostile.test_flipped_bytes_never_crash()
  local random = noise(4)
  for _, name in ipairs { "legacy.pth", "small.pth" } do
    local bytes = lumen.fs.read(fixtures .. name)
    for _ = 1, 2000 do
      local at = 1 + random(#bytes)
      put(bytes:sub(1, at - 1) .. string.char(random(256)) .. bytes:sub(at + 1))
      pcall(lumen.load, path)
    end
  end
end

function TestHostile.test_other_files()
  put("")
  fails("not a PyTorch checkpoint", lumen.load, path)
  put("PK\3\4 and nothing more")
  fails("not a readable PyTorch archive", lumen.load, path)
end

helper.run()
