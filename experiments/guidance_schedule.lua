-- How should the share of hidden patches that anatomy chooses change over the training?
-- Published: from none to a half, in a straight line.
local lumen = require "lumen"
local pipeline = require "experiments.pipeline"

local function schedule(name, first, last)
  return { name, pretrain = { options = { guidance_start = first, guidance = last } } }
end

return lumen.experiment {
  name = "guidance_schedule",
  about = "How should guidance grow over the training?",
  options = pipeline.options,
  presets = pipeline.presets,
  stages = pipeline.stages,
  rows = function(o)
    return {
      schedule("none", 0, 0),
      schedule("0 to 0.5 (published)", 0, 0.5),
      schedule("0.25 all along", 0.25, 0.25),
      schedule("0.5 all along", 0.5, 0.5),
      schedule("0.5 to 0", 0.5, 0),
      schedule("0 to 1", 0, 1),
      pipeline.control(o),
      pipeline.scratch,
    }
  end,
  baseline = "0 to 0.5 (published)",
  report = { "dice", "cldice" },
}
