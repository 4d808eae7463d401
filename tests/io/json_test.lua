-- JSON: round trips, the exact text, and text that is none.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"

local json = lumen.json

local function fails(text, fn, ...)
  local ok, message = pcall(fn, ...)
  lu.assertFalse(ok)
  lu.assertStrContains(tostring(message), text)
end

TestEncode = {}

function TestEncode.test_text()
  lu.assertEquals(json.encode { b = 1, a = { 1, 2.5, "x" }, c = true, d = {}, e = json.array {} },
    '{"a":[1,2.5,"x"],"b":1,"c":true,"d":{},"e":[]}')
  lu.assertEquals(json.encode { 0 / 0, 1 / 0, -1 / 0, json.null }, "[null,null,null,null]")
  lu.assertEquals(json.encode "a\"b\\c\n\1ü", '"a\\"b\\\\c\\n\\u0001ü"')
  lu.assertEquals(json.encode(nil), "null")
  lu.assertEquals(json.encode(3.0), "3.0")
  lu.assertEquals(json.encode(0.1), "0.1")
  lu.assertEquals(json.encode(math.mininteger), "-9223372036854775808")
end

function TestEncode.test_keys_are_sorted()
  local t = {}
  for i = 1, 100 do t[("k%03d"):format(i * 37 % 101)] = i end
  local last = ""
  for key in json.encode(t):gmatch '"(k%d+)"' do
    lu.assertTrue(last < key)
    last = key
  end
end

function TestEncode.test_errors()
  fails("keys must be strings", json.encode, { a = 1, [2] = 3 })
  fails("keys must be strings", json.encode, { [1] = 1, [3] = 3 })
  fails("no JSON form", json.encode, { print })
  fails("no JSON form", json.encode, { lumen.zeros(1) })
  fails("not UTF-8", json.encode, "\255")
  fails("not UTF-8", json.encode, "\xed\xa0\x80")
  fails("NUL", json.encode, "a\0b")
  local cycle = {}
  cycle.x = cycle
  fails("nested deeper", json.encode, cycle)
end

TestDecode = {}

function TestDecode.test_values()
  local x = json.decode ' {"a":[1,-2.5,1e3,"\\u00fc\\n"],"b":{"c":null},"d":true,"e":[]} '
  lu.assertEquals({ x.a[1], x.a[2], x.a[3], x.a[4], x.d }, { 1, -2.5, 1000, "ü\n", true })
  lu.assertEquals(math.type(x.a[1]), "integer")
  lu.assertEquals(x.b.c, json.null)
  lu.assertEquals(#x.e, 0)
  lu.assertEquals(json.encode(x), '{"a":[1,-2.5,1000,"ü\\n"],"b":{"c":null},"d":true,"e":[]}')
end

function TestDecode.test_numbers_come_back()
  local state = 7
  for _ = 1, 5000 do
    state = state * 6364136223846793005 + 1442695040888963407
    local v = string.unpack("<d", string.pack("<i8", state))
    if v == v and math.abs(v) < math.huge then lu.assertTrue(json.decode(json.encode(v)) == v) end
  end
  for _, v in ipairs { 0.1, 1 / 3, 5e-324, 1.7976931348623157e308, 2 ^ 53, -(2 ^ 53) } do
    lu.assertTrue(json.decode(json.encode(v)) == v)
  end
  lu.assertEquals(1 / json.decode "-0.0", -1 / 0)
end

function TestDecode.test_bad_text()
  for _, text in ipairs { "", "{", "[1,]", "{'a':1}", "[1] 2", "nul", '"abc', "{\"a\" 1}", "\0", '"\\u0000"',
                          ("["):rep(5000) .. ("]"):rep(5000) } do
    lu.assertFalse(pcall(json.decode, text), text:sub(1, 20))
  end
  fails("state.json: bad JSON at byte", json.decode, '{"a":}', "state.json")
  lu.assertEquals(json.decode '"\\\\u0000"', "\\u0000")
end

function TestDecode.test_damaged_text_never_crashes()
  local text = json.encode { name = "läuft", list = { 1, 2.5, { a = true } }, n = json.null, s = "q\"\\\n" }
  local state = 5
  for n = 0, #text - 1 do lu.assertFalse(pcall(json.decode, text:sub(1, n))) end
  for _ = 1, 5000 do
    state = state * 6364136223846793005 + 1442695040888963407
    local at = 1 + (state >> 33) % #text
    pcall(json.decode, text:sub(1, at - 1) .. string.char((state >> 25) & 255) .. text:sub(at + 1))
  end
end

helper.run()
