-- U-Net (Ronneberger et al. 2015) with batch normalisation and padded convolutions.
-- Image [N, channels, H, W], sides divisible by 16 -> logits [N, classes, H, W].
local core = require "lumen.core"
local nn = require "lumen.nn"

local DoubleConv = nn.class("DoubleConv")
function DoubleConv:build(inputs, outputs)
  self.conv1 = nn.Conv2d(inputs, outputs, 3, { padding = 1, bias = false })
  self.bn1 = nn.BatchNorm2d(outputs)
  self.conv2 = nn.Conv2d(outputs, outputs, 3, { padding = 1, bias = false })
  self.bn2 = nn.BatchNorm2d(outputs)
end
function DoubleConv:forward(x)
  x = self.bn1(self.conv1(x)):relu()
  return self.bn2(self.conv2(x)):relu()
end

-- U-Net: unet{ width = 64, channels = 3, classes = 1 } with widths width * 1, 2, 4, 8, 16; image
-- [N, channels, H, W] with sides divisible by 16 -> logits [N, classes, H, W]
-- (Ronneberger et al. 2015).
--   > net = lumen.models.unet { width = 8 }
--   > net(lumen.randn(1, 3, 32, 32)).shape
--   {1, 1, 32, 32}
local Unet = nn.class("Unet")
function Unet:build(options)
  options = options or {}
  local width = options.width or 64
  self.levels = 4
  self.inc = DoubleConv(options.channels or 3, width)
  for i = 1, self.levels do
    self["down" .. i] = DoubleConv(width << (i - 1), width << i)
  end
  for i = self.levels, 1, -1 do
    self["up" .. i] = nn.ConvTranspose2d(width << i, width << (i - 1), 2, { stride = 2 })
    self["join" .. i] = DoubleConv(width << i, width << (i - 1))
  end
  self.outc = nn.Conv2d(width, options.classes or 1, 1)
end
function Unet:forward(image)
  local h, w = image.shape[3], image.shape[4]
  if h % 16 ~= 0 or w % 16 ~= 0 then
    error(("unet: image sides must be divisible by 16, they are %d x %d"):format(h, w), 0)
  end
  local skips, x = {}, self.inc(image)
  for i = 1, self.levels do
    skips[i] = x
    x = self["down" .. i](core.max_pool2d(x, { size = 2 }))
  end
  for i = self.levels, 1, -1 do
    x = core.cat({ skips[i], self["up" .. i](x) }, { dim = 2 })
    x = self["join" .. i](x)
  end
  return self.outc(x)
end

return Unet
