-- Measures of results; what is undefined is NaN.
-- Masks against masks (dice, cldice, hd95, ...): non-zero = vessel, any dtype. Counts and the
-- ratios of them take masks of any one shape; centre lines and surfaces need images: [H, W],
-- or more dimensions of size 1 before these. 0/0 and a distance to an empty mask are NaN;
-- `metrics.meter` says what becomes of it in a mean.
-- Images against references (psnr, ssim, ms_ssim, gmsd, vif, fsim, vessel_ssim, vessel_cldice): one
-- number an image, [N]; all but the last are differentiable, `ssim` says how images are taken.
-- Images alone (niqe, brisque): by a model fitted on one's own images. `handmade`: all of them.
-- Scores against ratings (srcc, plcc, krcc, rmse, ...): lists or tensors [n].
local correlation = require "lumen.metrics.correlation"
local fsim = require "lumen.metrics.fsim"
local handmade = require "lumen.metrics.handmade"
local natural = require "lumen.metrics.natural"
local reference = require "lumen.metrics.reference"
local segmentation = require "lumen.metrics.segmentation"

local metrics = {}
for _, part in ipairs { segmentation, correlation, reference, fsim, natural, handmade } do
  for name, value in next, part do metrics[name] = value end
end

-- What an evaluation of masks reports, in the order of its tables. hd95 and assd in pixels.
--   > table.concat(lumen.metrics.names, " ")
--   dice cldice iou sensitivity precision hd95 assd
metrics.names = segmentation.names

-- Those of them that need neither centre lines nor surfaces.
--   > table.concat(lumen.metrics.overlap_names, " ")
--   dice iou sensitivity precision
metrics.overlap_names = segmentation.overlap_names

return metrics
