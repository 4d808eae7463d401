-- The tokenizer: bytes, byte pairs from a small vocabulary, CLIP's ids, hostile vocabularies.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"

TestBytes = {}

function TestBytes:test_ids()
  local t = lumen.tokenizer()
  lu.assertEquals(t({ "ab", "" }, { length = 4 }):totable(), { { 256, 97, 98, 257 }, { 256, 257, 0, 0 } })
  lu.assertEquals(t("\0\255", { length = 4 }):totable(), { { 256, 0, 255, 257 } })
  lu.assertEquals(t("x").shape, { 1, 77 })
  lu.assertEquals(t({}).shape, { 0, 77 })
  lu.assertEquals(t:decode(t "Vessel "[1]), "Vessel ")
  lu.assertEquals(#t:encode(("x"):rep(100000)), 100000)
end

function TestBytes:test_long_texts()
  local t = lumen.tokenizer()
  local row = t(("x"):rep(200))[1]:totable()
  lu.assertEquals({ #row, row[1], row[76], row[77] }, { 77, 256, 120, 257 })
  lu.assertErrorMsgContains("text 2 has 102 tokens with start and end, at most 77 fit",
    t, { "x", ("x"):rep(100) }, { truncate = false })
  lu.assertErrorMsgContains("length is at least 2", t, "x", { length = 1 })
  lu.assertErrorMsgContains("there is no token 300", t.decode, t, { 300 })
end

TestPairs = {}

local folder = helper.temporary_folder()

local function vocabulary(text)
  local path = folder .. "/merges.txt"
  lumen.fs.write(path, text)
  return path
end

function TestPairs:test_merges_in_their_order()
  local t = lumen.tokenizer(vocabulary '#version: 0.2\na b</w>\nc ab</w>\nc a\n')
  lu.assertEquals({ t.size, t.first, t.last }, { 517, 515, 516 })
  lu.assertEquals(t:encode "cab", { 513 })               -- not ca + b: a b</w> stands first
  lu.assertEquals(t:encode "ca", { t:encode("c a")[1] - 256, t:encode("a")[1] })
  lu.assertEquals(t:encode "cac", { 514, t:encode("c")[1] })
  lu.assertEquals(t:encode "AB  ab", { 512, 512 })
  lu.assertEquals(t:decode(t:encode "ab, cab"), "ab , cab")
end

function TestPairs:test_hostile_vocabularies()
  local function failing(text, content)
    lu.assertErrorMsgContains(text, lumen.tokenizer, vocabulary(content))
  end
  failing("merges.txt: a vocabulary without merges", "")
  failing("merges.txt: not a vocabulary of merges", "a b\n")
  failing("merges.txt: line 3 is no pair", "#version: 0.2\na b\nc\n")
  failing("merges.txt: line 2 is no pair", "#version: 0.2\n\na b\n")
  failing("merges.txt: line 2 is no pair", "#version: 0.2\na b c\n")
  failing("merges.txt: line 2 is no pair", "#version: 0.2\na \255\n")
  failing("merges.txt: gunzip: the data are cut short", "\31\139\8\0")
  failing("merges.txt: gunzip: damaged data", "\31\139\9\0\0\0\0\0\0\0\0")
  lu.assertErrorMsgContains("cannot open", lumen.tokenizer, folder .. "/none")
end

function TestPairs:test_bytes_that_are_no_text()
  local t = lumen.tokenizer(vocabulary "#version: 0.2\na b\n")
  local draw = lumen.rand({ 50, 40 }, { rng = { seed = 1, stream = "test" } })
  for _, row in ipairs((draw * 256):to("u8"):totable()) do
    local text = string.char(table.unpack(row))
    lu.assertTrue(#t:encode(text) > 0)
  end
  lu.assertEquals(t:encode "\255", t:encode "\u{fffd}")
  lu.assertEquals(t:encode "a\0b", t:encode "ab")
end

TestClip = {}

function TestClip:test_ids_of_clip()
  local t = lumen.tokenizer(helper.need_shared "data/text/bpe_simple_vocab_16e6.txt.gz")
  lu.assertEquals({ t.size, t.first, t.last }, { 49408, 49406, 49407 })
  local rows = lumen.json.decode(lumen.fs.read "tests/fixtures/tokens.json")
  lu.assertTrue(#rows > 400)
  for i, row in ipairs(rows) do
    lu.assertEquals(t:encode(row.text), row.ids, ("string %d: %s"):format(i, row.text))
  end
  lu.assertEquals(t:decode(t "A photo of a CAT, naïve"[1]), "a photo of a cat , naïve")
end

helper.run()
