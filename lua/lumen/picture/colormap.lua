-- The colour map of heat maps: 256 colours from dark violet over teal to yellow. Lightness
-- rises by the same amount in every step, so that equal differences look equal, also in grey
-- and to colour-blind eyes. Built as a path in OKLCh (Ottosson 2020): lightness and hue go
-- straight, chroma swells in the middle, within what a screen can show.
local core = require "lumen.core"

-- OKLab -> linear sRGB.
local function to_rgb(lightness, a, b)
  local l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ^ 3
  local m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ^ 3
  local s = (lightness - 0.0894841775 * a - 1.2914855480 * b) ^ 3
  return 4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s
end

local function gamma(v)
  v = v <= 0.0031308 and 12.92 * v or 1.055 * v ^ (1 / 2.4) - 0.055
  return math.floor(255 * math.max(0, math.min(1, v)) + 0.5)
end

local function shown(r, g, b)
  return math.min(r, g, b) >= -1e-4 and math.max(r, g, b) <= 1.0001
end

-- The colour at t (0..1) with as much chroma as the screen can show, at most `chroma`.
local function color(t)
  local lightness = 0.27 + 0.66 * t
  local hue = math.rad(305 - 200 * t)
  local chroma = 0.1 + 0.08 * (2 * t - 1) ^ 2
  for _ = 1, 60 do
    local r, g, b = to_rgb(lightness, chroma * math.cos(hue), chroma * math.sin(hue))
    if shown(r, g, b) then return gamma(r), gamma(g), gamma(b) end
    chroma = chroma * 0.97
  end
  return gamma(lightness ^ 3), gamma(lightness ^ 3), gamma(lightness ^ 3)
end

local colormap, colors = {}, nil

-- The 256 colours as a list of { r, g, b }, 0..255.
function colormap.list()
  if colors then return colors end
  colors = {}
  for i = 0, 255 do colors[i + 1] = { color(i / 255) } end
  return colors
end

-- Values 0..1 [..] (clipped) -> u8 colours [.., 3].
function colormap.apply(x)
  local palette = core.tensor(colormap.list(), { dtype = "f32" }) -- a kept one would die with a scope
  local index = (x:to("f32"):clamp({ min = 0, max = 1 }) * 255):round():to("i64")
  return core.embedding(palette, index):to("u8")
end

return colormap
