-- Texts as numbers, for text transformers.
local core = require "lumen.core"

-- What lumen.tokenizer makes. Called with a text or a list of texts it gives i64 [N, length]:
-- start token, text, end token, zeros; the end token has the largest id of all. options: length
-- = 77, truncate = true (false: a text that is too long is an error).
--   > bytes = lumen.tokenizer()
--   > bytes({ "ab", "" }, { length = 5 })
--   i64 [2 x 5] {256, 97, 98, 257, 0, 256, 257, 0, 0, 0}
local Tokenizer = {}
Tokenizer.__index = Tokenizer

function Tokenizer:__call(texts, options)
  if type(texts) == "string" then texts = { texts } end
  local length = options and options.length or 77
  local rows = {}
  for i, text in ipairs(texts) do
    local ids = self:encode(text)
    if #ids > length - 2 and options and options.truncate == false then
      error(("tokenizer: text %d has %d tokens, %d with start and end, at most %d"):format(
        i, #ids, #ids + 2, length), 2)
    end
    local row = { self.first }
    for k = 1, math.min(#ids, length - 2) do row[k + 1] = ids[k] end
    row[#row + 1] = self.last
    for k = #row + 1, length do row[k] = 0 end
    rows[i] = row
  end
  return core.tensor(rows, { dtype = "i64" })
end

-- Ids of one text, a list without start and end.
-- -> table
--   > lumen.tokenizer():encode "ab"
--   {97, 98}
function Tokenizer:encode(text)
  return { text:byte(1, -1) }
end

-- A tokenizer that knows bytes only: ids 0..255, 256 starts and 257 ends a text.
-- -> Tokenizer
--   > lumen.tokenizer().size
--   258
local function make()
  return setmetatable({ first = 256, last = 257, size = 258 }, Tokenizer)
end

local tokenizer = { Tokenizer = Tokenizer }
return setmetatable(tokenizer, { __call = make })
