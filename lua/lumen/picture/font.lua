-- A small font for titles and scales on pictures: 5 x 7 pixels a letter, printable ASCII.
local core = require "lumen.core"

-- Rows from top to bottom, 5 bits each (16 is the left-most pixel), as digits 0-9, a-v.
local glyphs = "0000000 4444404 aa00000 aavavaa 4fke5u4 op248j3 cik8lid 4480000 2488842 8422248 " ..
  "04lel40 044v440 0000c48 000v000 00000cc 01248g0 ehjlphe 4c4444e eh1248v v2421he 26aiv22 " ..
  "vgu11he 68guhhe v124888 ehhehhe ehhf12c 0cc0cc0 0cc0c48 248g842 00v0v00 8421248 eh12404 " ..
  "eh1dlle ehhhvhh uhhuhhu ehggghe sihhhis vgguggv vgguggg ehgnhhf hhhvhhh e44444e 72222ic " ..
  "hikokih ggggggv hrllhhh hhpljhh ehhhhhe uhhuggg ehhhlid uhhukih fgge11u v444444 hhhhhhe " ..
  "hhhhha4 hhhllla hha4ahh hhha444 v1248gv e88888e 0g84210 e22222e 4ah0000 000000v 8420000 " ..
  "00e1fhf ggmphhu 00egghe 11djhhf 00ehvge 698s888 0fhhf1e ggmphhh 40c444e 20622ic ggikoki " ..
  "c44444e 00qllhh 00mphhh 00ehhhe 00uhugg 00djf11 00mpggg 00ege1u 88s8896 00hhhjd 00hhha4 " ..
  "00hhlla 00ha4ah 00hhf1e 00v248v 2448442 4444444 8442448 008l200"

local letters = {} -- byte -> rows of bits
do
  local byte = 32
  for glyph in glyphs:gmatch("%w+") do
    local rows = {}
    for i = 1, 7 do rows[i] = tonumber(glyph:sub(i, i), 32) end
    letters[byte] = rows
    byte = byte + 1
  end
end

local font = { height = 7 }

-- Pixels that a text takes: 6 a letter.
-- -> int
--   > lumen.show.width("dice")
--   23
function font.width(text) return math.max(1, 6 * #text - 1) end

-- Text as u8 [7, 6 * letters - 1]: 1 where there is ink. Other than printable ASCII: "?".
function font.render(text)
  local rows, width = {}, font.width(text)
  for y = 1, 7 do
    rows[y] = {}
    for x = 1, width do rows[y][x] = 0 end
  end
  for i = 1, #text do
    local letter = letters[text:byte(i)] or letters[63]
    for y = 1, 7 do
      for x = 0, 4 do rows[y][6 * (i - 1) + x + 1] = letter[y] >> (4 - x) & 1 end
    end
  end
  return core.tensor(rows, { dtype = "u8" })
end

return font
