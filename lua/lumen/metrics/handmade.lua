-- The hand-made measures together: what a trained one is compared with.
local core = require "lumen.core"
local fsim = require "lumen.metrics.fsim"
local images = require "lumen.metrics.images"
local known = require("lumen.options").known
local natural = require "lumen.metrics.natural"
local reference = require "lumen.metrics.reference"

-- Name, function, least side, sign that makes larger better.
local with_reference = {
  { "psnr", reference.psnr, 1, 1 }, { "ssim", reference.ssim, 11, 1 },
  { "ms_ssim", reference.ms_ssim, 161, 1 }, { "gmsd", reference.gmsd, 4, -1 },
  { "vif", reference.vif, 41, 1 }, { "fsim", fsim.fsim, 16, 1 },
}
local of_vessels = {
  { "vessel_ssim", reference.vessel_ssim, 1, 1 }, { "vessel_cldice", reference.vessel_cldice, 1, 1 },
}

local handmade = {}

-- Every hand-made measure of rated angiographies, so signed that larger is better: a list of K
-- names and f64 [N, K]. image, and the frames before (source) and with contrast agent (contrast),
-- each as in `ssim`, or nil: then its measures are missing. psnr, ssim, ms_ssim, gmsd, vif, fsim
-- with each reference, named psnr_source, psnr_contrast and so on; vessel_ssim and vessel_cldice
-- with the contrast frame; niqe with a model of niqe_fit (option niqe). Missing, too, are those
-- that need larger images. Options range, as in `ssim`, and niqe. No gradients.
-- -> table, tensor
--   > function angiogram(i)
--   >   return lumen.vision.phantom { size = 64, seed = 1, index = i }.image
--   > end
--   > names, scores = lumen.metrics.handmade(angiogram(1), angiogram(2), angiogram(1))
--   > names[1], names[6], scores.shape, scores[1][6]:item()
--   psnr_source
--   psnr_contrast
--   {1, 12}
--   inf
function handmade.handmade(image, source, contrast, options)
  local o = known("handmade", options, { "range", "niqe" })
  local x = images.batch("handmade", image, "image")
  local side, given = math.min(x.shape[3], x.shape[4]), { range = o.range }
  local names, columns = {}, {}
  local function add(name, sign, score)
    names[#names + 1] = name
    columns[#columns + 1] = sign * score:to("cpu"):to("f64")
  end
  return core.no_grad(function()
    for _, r in ipairs { { "source", source }, { "contrast", contrast } } do
      for _, row in ipairs(r[2] and with_reference or {}) do
        local name, measure, least, sign = table.unpack(row)
        if side >= least then add(name .. "_" .. r[1], sign, measure(image, r[2], given)) end
      end
    end
    for _, row in ipairs(contrast and of_vessels or {}) do
      add(row[1], row[4], row[2](image, contrast, given))
    end
    if o.niqe then add("niqe", -1, natural.niqe(image, o.niqe, given)) end
    if #names == 0 then error("handmade: it needs a reference or a niqe model", 0) end
    return names, core.stack(columns, { dim = 2 })
  end)
end

return handmade
