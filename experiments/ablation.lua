-- Which part of VasoMIM helps: anatomy that chooses what is hidden (guidance), or vessels that
-- the reconstruction has to show (consistency)? Table 3 of arXiv 2508.10794; without both it is
-- a masked autoencoder.
local lumen = require "lumen"
local pipeline = require "experiments.pipeline"

return lumen.experiment {
  name = "ablation",
  about = "Guidance and consistency: what does each part of VasoMIM give?",
  options = pipeline.options,
  presets = pipeline.presets,
  stages = pipeline.stages,
  rows = function(o)
    return {
      { "VasoMIM", pretrain = { grid = { { "guidance", { 0, 0.5 } }, { "consistency", { 0, 1 } } } } },
      pipeline.control(o),
      pipeline.scratch,
    }
  end,
  baseline = { "VasoMIM", guidance = 0, consistency = 0 },
  report = { "dice", "cldice" },
}
