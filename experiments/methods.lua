-- Where does VasoMIM stand? Without labels: the vessel filter, and the segmentor that learned
-- from it. With few labels: the encoder from scratch and after each kind of pre-training, the
-- control among them. All are measured at the size that the network sees.
local lumen = require "lumen"
local pipeline = require "experiments.pipeline"

local function vasomim(name, guidance, consistency)
  return { name, pretrain = { options = { guidance = guidance, consistency = consistency } } }
end

return lumen.experiment {
  name = "methods",
  about = "Filter, training from scratch and pre-training compared.",
  options = pipeline.options,
  presets = pipeline.presets,
  stages = pipeline.stages,
  rows = function(o)
    return {
      { "filter alone",
        finetune = { options = { model = "filter", init = "", evaluate = "network" } } },
      { "segmentor alone",
        finetune = { options = { model = "segmentor", init = "@segmentor", train = false } } },
      pipeline.scratch,
      vasomim("MAE", 0, 0),
      pipeline.pretrained(o, "SimMIM", "simmim"),
      vasomim("guidance only", 0.5, 0),
      vasomim("consistency only", 0, 1),
      vasomim("VasoMIM", 0.5, 1),
      pipeline.control(o),
    }
  end,
  baseline = "MAE",
  report = { "dice", "cldice" },
}
