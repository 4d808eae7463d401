-- The whole method in minutes on a small machine: a segmentor learns from the filter, VasoMIM
-- pre-trains without labels, then an encoder is fine-tuned with few labels, once from scratch
-- and once from the pre-trained weights. Everything on procedural angiograms.
local lumen = require "lumen"

local quickstart = lumen.recipe {
  name = "quickstart",
  about = "Filter, training from scratch and VasoMIM pre-training compared with few labels.",
  reaches = "About 5 minutes on two cores.",
  options = {
    { "labels", "10", "labelled images to fine-tune on" },
    { "pretrain_images", 1200, "images without labels", min = 1 },
    { "pretrain_epochs", 20, "passes over them", min = 1 },
    { "finetune_steps", 500, "optimizer steps with labels", min = 1 },
    { "test_images", 200, "images to measure on", min = 1 },
    { "threads", 1 }, -- sharing out this small a model costs more than a second core gives
  },
}

local function row(name, m)
  return ("%-22s %8.4f %8.4f\n"):format(name, m.dice, m.cldice)
end

function quickstart:run(o, run)
  local common = { data = o.data, seed = o.seed, threads = o.threads, workers = o.workers,
                   device = o.device, preset = "tiny" }
  local function stage(name, recipe, values)
    for key, value in next, common do
      if values[key] == nil then values[key] = value end
    end
    return run:stage(name, lumen.recipe(recipe), values)
  end
  local filter = stage("filter", "segment", { model = "filter", test_images = o.test_images,
                                               evaluate = "network" })
  local _, pretraining = stage("vasomim", "vasomim", { images = o.pretrain_images,
                                                       epochs = o.pretrain_epochs })
  local tuning = { labels = o.labels, label_seed = o.seed, steps = o.finetune_steps,
                   images = o.pretrain_images, test_images = o.test_images }
  local function finetune(name, init)
    local values = { init = init }
    for key, value in next, tuning do values[key] = value end
    return (stage(name, "segment", values))
  end
  local scratch = finetune("scratch", "")
  local pretrained = finetune("pretrained", pretraining)

  for _, item in ipairs { { "vasomim/images/epoch_" .. o.pretrain_epochs, "pretraining" },
                          { "scratch/images/test", "scratch" },
                          { "pretrained/images/test", "pretrained" } } do
    local image = lumen.image.load(("%s/stages/%s.png"):format(run.dir, item[1]))
    run:image(item[2], image)
  end
  local function two(m) return { dice = m.dice, cldice = m.cldice } end
  return { filter = two(filter), scratch = two(scratch), pretrained = two(pretrained) }
end

function quickstart:report(m, run)
  io.stdout:write(("\n%s, %s labels\n"):format(run.o.data, run.o.labels),
    ("%-22s %8s %8s\n"):format("", "dice", "cldice"), row("filter (no learning)", m.filter),
    row("from scratch", m.scratch), row("pre-trained (VasoMIM)", m.pretrained),
    ("\npictures: %s/images\n"):format(run.dir))
end

return quickstart
