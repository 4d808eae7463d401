-- How much of an angiogram should be hidden from the encoder? The published setting of VasoMIM
-- is 0.5, MAE's on photographs is 0.75.
local lumen = require "lumen"
local pipeline = require "experiments.pipeline"

return lumen.experiment {
  name = "mask_ratio",
  about = "How much of an angiogram should be hidden from the encoder?",
  options = pipeline.options,
  presets = pipeline.presets,
  stages = pipeline.stages,
  rows = function(o)
    return {
      { "VasoMIM", pretrain = { grid = { { "mask_ratio", { 0.25, 0.4, 0.5, 0.6, 0.75, 0.9 } } } } },
      pipeline.control(o),
      pipeline.scratch,
    }
  end,
  baseline = { "VasoMIM", mask_ratio = 0.5 },
  report = { "dice", "cldice" },
}
