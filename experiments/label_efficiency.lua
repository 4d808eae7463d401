-- What is pre-training worth when there are few labels, and what when there are many? Smaller
-- choices of labelled images are parts of larger ones.
local lumen = require "lumen"
local pipeline = require "experiments.pipeline"

return lumen.experiment {
  name = "label_efficiency",
  about = "What is pre-training worth with few and with many labels?",
  options = pipeline.options,
  presets = pipeline.presets,
  stages = function(o)
    local stages = pipeline.stages(o)
    stages[3].grid = { { "labels", { "1%", "5%", "10%", "25%", "50%", "100%" } } }
    return stages
  end,
  rows = function(o)
    return {
      pipeline.scratch,
      { "MAE", pretrain = { options = { guidance = 0, consistency = 0 } } },
      { "VasoMIM" },
      pipeline.control(o),
    }
  end,
  baseline = "from scratch",
  report = { "dice", "cldice" },
}
