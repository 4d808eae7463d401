-- Texts as token ids, for text transformers: CLIP's byte-pair encoding from its vocabulary file,
-- or plain bytes without one.
local core = require "lumen.core"
local unicode = require "lumen.unicode"

-- What lumen.tokenizer makes. Called with a text or a list of texts it gives i64 [N, length]:
-- start token, text, end token, zeros; the end token has the largest id of all. options: length
-- = 77, truncate = true (false: a text that is too long is an error). Fields: size, how many ids
-- there are; first and last, the start and end token.
--   > bytes = lumen.tokenizer()
--   > bytes({ "ab", "" }, { length = 5 })
--   i64 [2 x 5] {256, 97, 98, 257, 0, 256, 257, 0, 0, 0}
local Tokenizer = {}
Tokenizer.__index = Tokenizer

function Tokenizer:__call(texts, options)
  if type(texts) == "string" then texts = { texts } end
  local length = options and options.length or 77
  if length < 2 then error("tokenizer: length is at least 2", 2) end
  local rows = {}
  for i, text in ipairs(texts) do
    local ids = self:encode(text)
    if #ids > length - 2 and options and options.truncate == false then
      error(("tokenizer: text %d has %d tokens with start and end, at most %d fit"):format(
        i, #ids + 2, length), 2)
    end
    local row = { self.first }
    for k = 1, math.min(#ids, length - 2) do row[k + 1] = ids[k] end
    row[#row + 1] = self.last
    for k = #row + 1, length do row[k] = 0 end
    rows[i] = row
  end
  return core.tensor(rows, { dtype = "i64" }):reshape({ #rows, length })
end

-- ---- what CLIP does to a text before it looks for tokens ---------------------------------------

local ligatures = { [0x132] = "IJ", [0x133] = "ij", [0x149] = "\u{2bc}n", [0x1f1] = "DZ",
  [0x1f2] = "Dz", [0x1f3] = "dz", [0x1c4] = "D\u{17d}", [0x1c5] = "D\u{17e}",
  [0x1c6] = "d\u{17e}", [0x1c7] = "LJ", [0x1c8] = "Lj", [0x1c9] = "lj", [0x1ca] = "NJ",
  [0x1cb] = "Nj", [0x1cc] = "nj", [0xfb00] = "ff", [0xfb01] = "fi", [0xfb02] = "fl",
  [0xfb03] = "ffi", [0xfb04] = "ffl", [0xfb05] = "\u{17f}t", [0xfb06] = "st" }

local function is_removed(code)
  return code <= 8 or code == 11 or code >= 14 and code < 32 or code == 127
    or code >= 0x206a and code <= 0x206f or code == 0xfeff or code >= 0xfff9 and code <= 0xfffc
end

-- One code point as ftfy has it, a string: Windows-1252 for C1 controls, no Latin ligatures,
-- straight quotes, one kind of line break.
local function plain(code)
  if code >= 0x80 and code <= 0x9f then code = unicode.windows_1252(code) end
  if ligatures[code] then return (ligatures[code]:gsub("\u{2bc}", "'")) end
  if code == 0x2bc or code >= 0x2018 and code <= 0x201b then return "'" end
  if code >= 0x201c and code <= 0x201f then return '"' end
  if code == 0x2028 or code == 0x2029 or code == 0x85 then return "\n" end
  return utf8.char(code)
end

-- What ftfy.fix_text does to one line, again until nothing changes; its guesses at text that was
-- decoded in the wrong way are left out.
local function fix_line(text, unescape)
  repeat
    local before = text
    if unescape then text = unicode.unescape_strict(text) end
    if text:find("[\128-\255%c]") then
      local list = unicode.codes(text)
      for i, code in ipairs(list) do list[i] = plain(code) end
      text = unicode.text(unicode.usual_width(unicode.codes(table.concat(list))))
      text = text:gsub("\r\n?", "\n"):gsub("\27%[[%d;]*%a", "")
      list = {}
      for _, code in ipairs(unicode.codes(text)) do
        if not is_removed(code) then list[#list + 1] = code end
      end
      text = unicode.text(unicode.nfc(list))
    end
  until text == before
  return text
end

local function fix_text(text)
  local lines, unescape = {}, true
  for line in text:gmatch("[^\n]*\n?") do
    if line:find("<", 1, true) then unescape = false end
    lines[#lines + 1] = fix_line(line, unescape)
  end
  return table.concat(lines)
end

-- Code points of the cleaned text: fixed, unescaped twice, spaces joined, small letters.
local function clean(text)
  if not utf8.len(text) then text = unicode.text(unicode.codes(text)) end
  text = unicode.unescape(unicode.unescape(fix_text(text)))
  local list, space = {}, false
  for _, code in ipairs(unicode.codes(text)) do
    if unicode.is_space(code) then
      space = #list > 0
    else
      if space then list[#list + 1] = 32 end
      list[#list + 1], space = code, false
    end
  end
  return unicode.lower(list)
end

-- ---- words -----------------------------------------------------------------------------------

local specials = { "<|startoftext|>", "<|endoftext|>" }

local function literal_at(list, i, text)
  for k = 1, #text do
    if list[i + k - 1] ~= text:byte(k) then return false end
  end
  return true
end

-- Length of the contraction at i, such as 's or 'll; 0 if there is none.
local function contraction_at(list, i)
  if list[i] ~= 39 then return 0 end
  for _, ending in ipairs { "s", "t", "re", "ve", "m", "ll", "d" } do
    if literal_at(list, i + 1, ending) then return 1 + #ending end
  end
  return list[i + 1] == 0x17f and 2 or 0 -- a long s is an s to CLIP's pattern
end

local function run_at(list, i, belongs)
  local n = 1
  while list[i + n] and belongs(list[i + n]) do n = n + 1 end
  return n
end

-- What belongs to no word: spaces, and the iota below, which CLIP's pattern, blind to capitals,
-- takes for a letter in one place and for none in the other.
local function is_skipped(code) return unicode.is_space(code) or code == 0x345 end

local function is_other(code)
  return not (is_skipped(code) or unicode.is_letter(code) or unicode.is_number(code))
end

-- Calls fn(word) or fn(nil, number of a special token) for each word of a cleaned text.
local function each_word(list, fn)
  local i = 1
  while i <= #list do
    local code, length = list[i], 1
    local special = literal_at(list, i, specials[1]) and 1 or literal_at(list, i, specials[2]) and 2
    if special then
      length = #specials[special]
      fn(nil, special)
    elseif not is_skipped(code) then
      length = contraction_at(list, i)
      if length == 0 then
        length = unicode.is_letter(code) and run_at(list, i, unicode.is_letter)
          or unicode.is_number(code) and 1 or run_at(list, i, is_other)
      end
      fn(unicode.text(list, i, i + length - 1))
    end
    i = i + length
  end
end

-- ---- byte pairs --------------------------------------------------------------------------------

-- The 256 signs that stand for bytes in the vocabulary, in its order, and byte -> sign.
local function byte_signs()
  local order, sign = {}, {}
  for _, range in ipairs { { 33, 126 }, { 161, 172 }, { 174, 255 } } do
    for byte = range[1], range[2] do
      sign[byte] = utf8.char(byte)
      order[#order + 1] = sign[byte]
    end
  end
  local extra = 0
  for byte = 0, 255 do
    if not sign[byte] then
      sign[byte] = utf8.char(256 + extra)
      order[#order + 1], extra = sign[byte], extra + 1
    end
  end
  return order, sign
end

-- The parts of a word, joined by the merges of lowest rank until none fits.
local function join_pairs(parts, rank)
  while #parts > 1 do
    local best, first, second = math.huge, nil, nil
    for i = 1, #parts - 1 do
      local r = rank[parts[i] .. " " .. parts[i + 1]]
      if r and r < best then best, first, second = r, parts[i], parts[i + 1] end
    end
    if not first then break end
    local joined, i = {}, 1
    while i <= #parts do
      if parts[i] == first and parts[i + 1] == second then
        joined[#joined + 1], i = first .. second, i + 2
      else
        joined[#joined + 1], i = parts[i], i + 1
      end
    end
    parts = joined
  end
  return parts
end

-- Ids of one word, remembered.
local function ids_of(self, word)
  local ids = self.known[word]
  if not ids then
    local parts = {}
    for i = 1, #word do parts[i] = self.sign[word:byte(i)] end
    parts[#parts] = parts[#parts] .. "</w>"
    ids = {}
    for i, part in ipairs(join_pairs(parts, self.rank)) do ids[i] = self.id[part] end
    self.known[word] = ids
  end
  return ids
end
-- Ids of one text, a list without start and end, of any length.
-- -> table
--   > lumen.tokenizer():encode "ab"
--   {97, 98}
function Tokenizer:encode(text)
  local ids = {}
  if not self.rank then
    for i = 1, #text do ids[i] = text:byte(i) end
    return ids
  end
  each_word(clean(text), function(word, special)
    if special then
      ids[#ids + 1] = special == 1 and self.first or self.last
      return
    end
    for _, id in ipairs(ids_of(self, word)) do ids[#ids + 1] = id end
  end)
  return ids
end

-- The text of a list of ids, or of a tensor [T] of them; start, end and padding left out. What
-- CLIP's encoding gave up (capitals, kinds of spaces) does not come back.
-- -> str
--   > bytes = lumen.tokenizer()
--   > bytes:decode(bytes "vessel"[1])
--   vessel
function Tokenizer:decode(ids)
  if core.is_tensor(ids) then ids = ids:totable() end
  local parts = {}
  for _, id in ipairs(ids) do
    if id == self.last then break end
    if id ~= self.first then
      local token = self.rank and self.token[id] or id < 256 and string.char(id)
      if not token then error(("tokenizer: there is no token %s"):format(tostring(id)), 2) end
      parts[#parts + 1] = token
    end
  end
  local text = table.concat(parts)
  if not self.rank then return text end
  local bytes = {}
  for _, code in utf8.codes((text:gsub("</w>", " "))) do
    bytes[#bytes + 1] = code == 32 and " " or string.char(self.byte[code])
  end
  return (table.concat(bytes):gsub(" $", ""))
end

-- ---- vocabulary --------------------------------------------------------------------------------

local merges_of_clip = 49152 - 256 - 2

-- Text of a file, unpacked if it is gzip's.
local function read(path)
  local text = core.fs.read(path)
  if text:sub(1, 2) ~= "\31\139" then return text end
  local ok, content = pcall(core.fs.gunzip, text)
  if not ok then error(("%s: %s"):format(path, tostring(content)), 0) end
  return content
end

-- The merges of a vocabulary file into rank (pair -> place), token (id -> text) and id.
local function read_merges(self, path)
  local order, sign = byte_signs()
  self.sign, self.rank, self.token, self.id, self.byte = sign, {}, {}, {}, {}
  for byte, s in next, sign do self.byte[utf8.codepoint(s)] = byte end
  local size = 0
  local function add(token)
    self.token[size], self.id[token] = token, size
    size = size + 1
  end
  for _, s in ipairs(order) do add(s) end
  for _, s in ipairs(order) do add(s .. "</w>") end
  local text, number = read(path), 0
  for at, line in text:gmatch("()([^\n]*)\n?") do
    if at > #text or number == 1 + merges_of_clip then break end
    number = number + 1
    if number > 1 then
      local first, second = line:match("^(%S+) (%S+)\r?$")
      if not first or not utf8.len(line) then
        error(("%s: line %d is no pair of tokens"):format(path, number), 0)
      end
      self.rank[first .. " " .. second] = number
      add(first .. second)
    elseif not line:find("version", 1, true) then
      error(path .. ": not a vocabulary of merges: the first line names no version", 0)
    end
  end
  if number < 2 then error(path .. ": a vocabulary without merges", 0) end
  self.first, self.last, self.size = size, size + 1, size + 2
end

-- A tokenizer. vocabulary: CLIP's file of merges, bpe_simple_vocab_16e6.txt, plain or .gz: ids as
-- CLIP's own, 0..49407 (text that was decoded in the wrong way, which CLIP's ftfy guesses at, and
-- named HTML entities newer than HTML 4 stay as they are; bytes that are no UTF-8 become U+FFFD).
-- Without it bytes: ids 0..255, 256 starts and 257 ends a text. Raises when the file is damaged
-- or no such vocabulary.
-- -> Tokenizer
--   > lumen.tokenizer().size
--   258
local function make(_, vocabulary)
  if not vocabulary then
    return setmetatable({ first = 256, last = 257, size = 258 }, Tokenizer)
  end
  local self = setmetatable({ known = {} }, Tokenizer)
  read_merges(self, vocabulary)
  return self
end

local tokenizer = { Tokenizer = Tokenizer }
return setmetatable(tokenizer, { __call = make })
