-- What makes a model of rated images good: its references, how it fuses them, its text side, its
-- losses, its encoder? MUST, its ablations, trained rivals and hand-made measures on the same
-- splits; a seed is a split by case. Here "a third is wrong" and "half is missing" are worlds in
-- which references can't be trusted, in training and test alike: where routing should pay.
local lumen = require "lumen"

local measures = { "psnr_source", "psnr_contrast", "ssim_source", "ssim_contrast", "ms_ssim_source",
  "ms_ssim_contrast", "gmsd_source", "gmsd_contrast", "vif_source", "vif_contrast", "fsim_source",
  "fsim_contrast", "vessel_ssim", "vessel_cldice", "niqe", "brisque" }

local function must(name, values) return { name, rate = { options = values } } end

local function rival(name, values)
  values.model = values.model or name
  return { name, rate = { options = values } }
end

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

local function rows()
  local list = {}
  fusions(list, "", {})
  list[#list + 1] = must("no reference", { paths = "none" })
  list[#list + 1] = handmade("hand-made, the best", "")
  list[#list + 1] = must("shuffled references", { wrong = 1 })
  list[#list + 1] = must("non-contrast frame only", { paths = "source" })
  list[#list + 1] = must("contrast frame only", { paths = "contrast" })
  list[#list + 1] = must("hard router", { router = "hard" })
  list[#list + 1] = must("no text", { text = "none" })
  list[#list + 1] = must("learned vectors as text", { text = "prototype" })
  list[#list + 1] = must("one score for all", { single = true })
  fusions(list, ", a third is wrong", { wrong = 0.33 })
  fusions(list, ", half is missing", { missing = 0.5 })
  list[#list + 1] = rival("ahiq", {})
  list[#list + 1] = rival("maniqa", {})
  list[#list + 1] = rival("iqa_cnn", {})
  list[#list + 1] = rival("liqe", { text = "prototype" })
  list[#list + 1] = rival("clip_iqa", { text = "prototype" })
  list[#list + 1] = must("no vesselness", { vesselness = false })
  list[#list + 1] = must("4 blocks", { depth = 0 })
  list[#list + 1] = must("4 blocks from VasoMIM", { depth = 0, init = "@pretrain" })
  list[#list + 1] = must("4 blocks, no vesselness", { depth = 0, vesselness = false })
  list[#list + 1] = must("4 blocks from VasoMIM, no vesselness",
    { depth = 0, vesselness = false, init = "@pretrain" })
  list[#list + 1] = must("without the fidelity loss", { fidelity = 0 })
  list[#list + 1] = must("without the level loss", { level = 0 })
  list[#list + 1] = must("without the PLCC loss", { plcc = 0 })
  list[#list + 1] = must("without balance", { balance = 0 })
  for _, name in ipairs(measures) do list[#list + 1] = handmade(name, name) end
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
        steps = o.preset == "tiny" and 600 or nil } }, -- two thirds of the recipe's: 96 trainings
    }
  end,
  rows = rows,
  baseline = "no reference",
  report = { "srcc", "srcc_vessel", "srcc_background", "srcc_realism" },
}
