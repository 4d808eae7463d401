-- What makes a model of rated images good: its references, how it fuses them, its text side, its
-- losses, its encoder? MUST, its ablations, trained rivals and hand-made measures on the same
-- splits; a seed is a split by case. Here "a third is wrong" and "half is missing" are worlds in
-- which references can't be trusted, in training and test alike: where routing should pay. The
-- encoders of four blocks are as wide as VasoMIM's; tiny has all others half as wide, to be quick.
local lumen = require "lumen"

local measures = { "psnr_source", "psnr_contrast", "ssim_source", "ssim_contrast", "ms_ssim_source",
  "ms_ssim_contrast", "gmsd_source", "gmsd_contrast", "vif_source", "vif_contrast", "fsim_source",
  "fsim_contrast", "vessel_ssim", "vessel_cldice", "niqe", "brisque" }

local function must(name, values) return { name, rate = { options = values } } end

-- A measure of recipes/handmade.lua on the same held-out images; "": the best of them.
local function handmade(name, measure)
  return { name, rate = { recipe = "handmade", options = { split_seed = "@seed", measure = measure } } }
end

-- MUST and its two hard rivals, mean fusion and one router for all metrics.
local function fusions(rows, where, values)
  for _, pair in ipairs { { "MUST", "per_metric" }, { "mean fusion", "mean" }, { "shared router", "shared" } } do
    local all = { router = pair[2] }
    for name, value in next, values do all[name] = value end
    rows[#rows + 1] = must(pair[1] .. where, all)
  end
end

local function four_blocks(name, values)
  values.depth, values.width = 0, 0
  return must("4 blocks" .. name, values)
end

local function rows()
  local list = {}
  local function add(...) table.move({ ... }, 1, select("#", ...), #list + 1, list) end
  add(must("MUST", {}), must("no reference", { paths = "none" }), handmade("hand-made, the best", ""))
  add(must("mean fusion", { router = "mean" }), must("shared router", { router = "shared" }),
    must("shuffled references", { wrong = 1 }))
  add(must("non-contrast frame only", { paths = "source" }), must("contrast frame only", { paths = "contrast" }),
    must("hard router", { router = "hard" }), must("one score for all", { single = true }),
    must("no text", { text = "none" }), must("learned vectors as text", { text = "prototype" }))
  for _, model in ipairs { "ahiq", "maniqa", "iqa_cnn", "clip_iqa", "liqe" } do
    add({ model, rate = { options = { model = model, text = "prototype" } } })
  end
  fusions(list, ", a third is wrong", { wrong = 0.33 })
  fusions(list, ", half is missing", { missing = 0.5 })
  add(must("no vesselness", { vesselness = false }), must("without the fidelity loss", { fidelity = 0 }),
    must("without the level loss", { level = 0 }), must("without the PLCC loss", { plcc = 0 }),
    must("without balance", { balance = 0 }))
  add(four_blocks("", {}), four_blocks(", no vesselness", { vesselness = false }),
    four_blocks(" from VasoMIM", { init = "@pretrain" }),
    four_blocks(" from VasoMIM, no vesselness", { vesselness = false, init = "@pretrain" }))
  for _, name in ipairs(measures) do add(handmade(name, name)) end
  return list
end

return lumen.experiment {
  name = "cas_iqa",
  about = "Rated images: references, fusion, text, losses, encoders and rivals compared.",
  presets = { smoke = { seeds = "0,1", jobs = 2, threads = 2 }, tiny = { jobs = 2, threads = 2 },
              small = {}, paper = {} },
  stages = function(o)
    return {
      { name = "pretrain", recipe = "vasomim", options = { model = "vit_micro" } },
      { name = "rate", recipe = "cas_iqa", options = { split_seed = "@seed", handmade = false,
        width = o.preset == "tiny" and 32 or nil } },
    }
  end,
  rows = rows,
  baseline = "MUST",
  report = { "srcc", "srcc_vessel", "srcc_background", "srcc_realism" },
}
