-- Who should say where the vessels are: the filter (1: VasoMIM v1), the segmentor that learned
-- from it (0), or both (0.5: v2)?
local lumen = require "lumen"
local pipeline = require "experiments.pipeline"

return lumen.experiment {
  name = "guide_mix",
  about = "Filter or segmentor: who should guide the masking?",
  options = pipeline.options,
  presets = pipeline.presets,
  stages = pipeline.stages,
  rows = function(o)
    return {
      { "VasoMIM", pretrain = { grid = { { "guide_mix", { 0, 0.25, 0.5, 0.75, 1 } } } } },
      pipeline.control(o),
      pipeline.scratch,
    }
  end,
  baseline = { "VasoMIM", guide_mix = 0.5 },
  report = { "dice", "cldice" },
}
