-- Unicode as far as a tokenizer needs it, on lists of code points: letters and numbers, small
-- letters, composition (NFC), widths, HTML entities. The tables stand in unicode_data.lua and
-- are read at first use.
local unicode = {}

local last_small_table = 0x300 -- below it no text changes under NFC

-- ---- tables ----------------------------------------------------------------------------------

-- Numbers of a table, one after the other.
local function reader(name)
  local words = require("lumen.unicode_data")[name]:gmatch("%S+")
  return function()
    local word = words()
    if not word then return nil end
    local negative = word:byte(1) == 45
    local n = tonumber(negative and word:sub(2) or word, 36)
    return negative and -n or n
  end
end

local function ranges(name)
  local first, last, at, next_number = {}, {}, 0, reader(name)
  for gap in next_number do
    first[#first + 1] = at + gap
    at = at + gap + next_number()
    last[#last + 1] = at - 1
  end
  return { first = first, last = last }
end

local make = {}
local tables = setmetatable({}, { __index = function(t, name)
  t[name] = make[name]()
  return t[name]
end })

function make.letters() return ranges "letters" end
function make.numbers() return ranges "numbers" end

function make.lower()
  local small, at, next_number = {}, 0, reader "lower"
  for gap in next_number do
    local count, step, move = next_number(), next_number(), next_number()
    at = at + gap
    for k = 0, count - 1 do small[at + k * step] = at + k * step + move end
    at = at + (count - 1) * step + 1
  end
  return small
end

-- The letters that `lower` leads to.
function make.small()
  local small = {}
  for _, code in next, tables.lower do small[code] = true end
  return small
end

function make.classes()
  local class, at, next_number = {}, 0, reader "classes"
  for gap in next_number do
    local count, value = next_number(), next_number()
    for code = at + gap, at + gap + count - 1 do class[code] = value end
    at = at + gap + count
  end
  return class
end

-- { apart = code -> {a, b}, whole = a -> b -> code }.
function make.compositions()
  local apart, whole, at, next_number = {}, {}, 0, reader "decompositions"
  for gap in next_number do
    local kind, a = next_number(), next_number()
    local b = kind >= 2 and next_number() or nil
    local code = at + gap
    apart[code], at = { a, b }, code + 1
    if b and kind % 2 == 1 then
      whole[a] = whole[a] or {}
      whole[a][b] = code
    end
  end
  return { apart = apart, whole = whole }
end

function make.widths()
  local other, at, next_number = {}, 0, reader "widths"
  for gap in next_number do
    local list = {}
    for k = 1, next_number() do list[k] = next_number() end
    other[at + gap], at = list, at + gap + 1
  end
  return other
end

-- { full = name -> code (with a semicolon), bare = the same without }.
function make.entities()
  local full, bare = {}, {}
  for name, star, code in require("lumen.unicode_data").entities:gmatch("(%w+)(%*?)=(%w+)") do
    full[name] = tonumber(code, 36)
    if star == "*" then bare[name] = full[name] end
  end
  return { full = full, bare = bare }
end

-- ---- kinds -----------------------------------------------------------------------------------

local function inside(range, code)
  local low, high = 1, #range.first
  while low < high do
    local middle = (low + high + 1) // 2
    if range.first[middle] <= code then low = middle else high = middle - 1 end
  end
  return code >= range.first[low] and code <= range.last[low]
end

function unicode.is_letter(code)
  if code < 128 then return code >= 97 and code <= 122 or code >= 65 and code <= 90 end
  return inside(tables.letters, code)
end

function unicode.is_number(code)
  if code < 128 then return code >= 48 and code <= 57 end
  return inside(tables.numbers, code)
end

function unicode.is_space(code)
  return code == 32 or code >= 9 and code <= 13 or code == 0x85 or code == 0xa0
    or code == 0x1680 or code >= 0x2000 and code <= 0x200a or code == 0x2028 or code == 0x2029
    or code == 0x202f or code == 0x205f or code == 0x3000
end

-- ---- between strings and lists ---------------------------------------------------------------

-- Code points of a string; bytes that are no UTF-8 become U+FFFD.
function unicode.codes(text)
  local list, at = {}, 1
  while at <= #text do
    local length, bad = utf8.len(text, at)
    local stop = length and #text or bad - 1
    if stop >= at then
      for _, code in utf8.codes(text:sub(at, stop)) do list[#list + 1] = code end
    end
    if not length then list[#list + 1] = 0xfffd end
    at = stop + (length and 1 or 2)
  end
  return list
end

-- The string of list[first..last].
function unicode.text(list, first, last)
  local parts = {}
  for i = first or 1, last or #list do parts[#parts + 1] = utf8.char(list[i]) end
  return table.concat(parts)
end

-- ---- changes ---------------------------------------------------------------------------------

-- What may stand between a letter and a sigma without counting: marks and a few signs.
local ignorable = { [39] = true, [46] = true, [58] = true, [94] = true, [96] = true,
                    [0xa8] = true, [0xad] = true, [0xaf] = true, [0xb4] = true, [0xb7] = true,
                    [0xb8] = true, [0x2018] = true, [0x2019] = true, [0x200b] = true,
                    [0x200c] = true, [0x200d] = true, [0x2024] = true, [0x2027] = true }

-- Letters that come large and small; some Greek ones are nobody's small form.
local function has_case(code)
  return tables.lower[code] or tables.small[code]
    or code > 0x37a and code < 0x400 and unicode.is_letter(code)
end

local function letter_beside(list, at, step)
  local i = at + step
  while list[i] and (ignorable[list[i]] or tables.classes[list[i]]) do i = i + step end
  return list[i] and has_case(list[i])
end

-- Small letters, as Python makes them: dotted I becomes two code points, a sigma that ends a
-- word the final one.
function unicode.lower(list)
  local out = {}
  for i, code in ipairs(list) do
    if code < 128 then
      out[#out + 1] = code >= 65 and code <= 90 and code + 32 or code
    elseif code == 0x130 then
      out[#out + 1], out[#out + 2] = 105, 0x307
    elseif code == 0x3a3 and letter_beside(list, i, -1) and not letter_beside(list, i, 1) then
      out[#out + 1] = 0x3c2
    else
      out[#out + 1] = tables.lower[code] or code
    end
  end
  return out
end

-- Full and half width characters as their usual forms.
function unicode.usual_width(list)
  local out = {}
  for _, code in ipairs(list) do
    local other = code >= 0x3000 and tables.widths[code]
    if other then
      for _, c in ipairs(other) do out[#out + 1] = c end
    else
      out[#out + 1] = code
    end
  end
  return out
end

local S, L, V, T = 0xac00, 0x1100, 0x1161, 0x11a7 -- Hangul: syllables, and their three parts

local function take_apart(code, out)
  if code >= S and code < S + 11172 then
    local index = code - S
    out[#out + 1], out[#out + 2] = L + index // 588, V + index % 588 // 28
    if index % 28 > 0 then out[#out + 1] = T + index % 28 end
    return
  end
  local parts = tables.compositions.apart[code]
  if not parts then
    out[#out + 1] = code
    return
  end
  take_apart(parts[1], out)
  if parts[2] then take_apart(parts[2], out) end
end

-- Marks that follow each other in the order of their classes.
local function order_marks(list)
  local class = tables.classes
  for i = 2, #list do
    local code, j = list[i], i
    local own = class[code]
    while own and j > 1 and (class[list[j - 1]] or 0) > own do
      list[j], j = list[j - 1], j - 1
    end
    list[j] = code
  end
end

local function join(a, b)
  if a >= L and a < L + 19 and b >= V and b < V + 21 then
    return S + ((a - L) * 21 + b - V) * 28
  elseif a >= S and a < S + 11172 and (a - S) % 28 == 0 and b > T and b < T + 28 then
    return a + b - T
  end
  local with = tables.compositions.whole[a]
  return with and with[b]
end

-- Normal form C: taken apart, marks ordered, put together again.
function unicode.nfc(list)
  local simple = true
  for _, code in ipairs(list) do
    if code >= last_small_table then simple = false end
  end
  if simple then return list end
  local apart, out, class = {}, {}, tables.classes
  for _, code in ipairs(list) do take_apart(code, apart) end
  order_marks(apart)
  local starter, before -- place of the last starter in out; class of what was put behind it
  for _, code in ipairs(apart) do
    local own = class[code] or 0
    local whole = starter and (not before or before < own) and join(out[starter], code)
    if whole then
      out[starter] = whole
    else
      out[#out + 1] = code
      before = own
      if own == 0 then starter, before = #out, nil end
    end
  end
  return out
end

-- ---- HTML ------------------------------------------------------------------------------------

local windows = { [0] = 0x20ac, nil, 0x201a, 0x192, 0x201e, 0x2026, 0x2020, 0x2021, 0x2c6,
  0x2030, 0x160, 0x2039, 0x152, nil, 0x17d, nil, nil, 0x2018, 0x2019, 0x201c, 0x201d, 0x2022,
  0x2013, 0x2014, 0x2dc, 0x2122, 0x161, 0x203a, 0x153, nil, 0x17e, 0x178 }

-- What the byte 0x80..0x9f is in Windows-1252; undefined ones stay.
function unicode.windows_1252(code) return windows[code - 0x80] or code end

-- The text of a character reference &#N; or nil where HTML has none.
local function referred(number)
  if number == 0 or not number or number > 0x10ffff or number >= 0xd800 and number < 0xe000 then
    return utf8.char(0xfffd)
  elseif number >= 0x80 and number <= 0x9f then
    return utf8.char(unicode.windows_1252(number))
  elseif number < 9 or number == 11 or number >= 14 and number < 32 or number == 127
    or number >= 0xfdd0 and number <= 0xfdef or number & 0xfffe == 0xfffe then
    return ""
  end
  return utf8.char(number)
end

local function numeric(digits, base)
  digits = digits:gsub("^0+", "")
  return referred(#digits > 8 and 0x110000 or tonumber(digits == "" and "0" or digits, base))
end

-- Entities that end in a semicolon, only in a form that has one meaning; written in capitals,
-- small ones (the text becomes small letters anyway).
function unicode.unescape_strict(text)
  local known = tables.entities.full
  return (text:gsub("&(#?%w+);", function(name)
    if #name > (name:sub(1, 1) == "#" and 25 or 24) then return nil end
    local hex, decimal = name:match("^#[xX](%x+)$"), name:match("^#(%d+)$")
    if hex then return numeric(hex, 16) end
    if decimal then return numeric(decimal, 10) end
    local small = known[name:lower()]
    local code = known[name] or name == name:upper() and small
    if name == "SZLIG" then return "SS" end
    return code and utf8.char(code)
  end))
end

-- As browsers read entities: old names need no semicolon and may be the start of a word.
function unicode.unescape(text)
  local full, bare = tables.entities.full, tables.entities.bare
  local function read(name, semicolon)
    local digits, rest = name:match("^#[xX](%x+)(.*)$")
    local base = digits and 16 or 10
    if not digits then digits, rest = name:match("^#(%d+)(.*)$") end
    if digits then return numeric(digits, base) .. (rest ~= "" and rest .. semicolon or "") end
    if semicolon == ";" and full[name] then return utf8.char(full[name]) end
    for k = math.min(#name, 32), 2, -1 do
      local code = bare[name:sub(1, k)]
      if code then return utf8.char(code) .. name:sub(k + 1) .. semicolon end
    end
  end
  return (text:gsub("&(#?[^\t\n\f <&#;]*)(;?)", read))
end

return unicode
