-- The vessel segmentor of VasoMIM (METHODS: UNeXt-S on pseudo-masks). Nobody labels anything:
-- the targets are what a ridge filter finds in each whole image, cropped like the image.
local lumen = require "lumen"
local data, loss, models = lumen.data, lumen.loss, lumen.models
local metrics, optim, picture, schedule = lumen.metrics, lumen.optim, lumen.picture, lumen.schedule

local segmentor = lumen.recipe {
  name = "segmentor",
  about = "UNeXt-S trained to find what a vessel filter finds; the guide of VasoMIM.",
  reaches = "As published: 200 epochs, batch 256, Adam 1e-3, polynomial decay 0.9.",
  options = {
    { "crop", 0.2, "smallest share of the image that a training crop covers", min = 0.01, max = 1 },
    { "data", "phantom", "images to learn from: dataset names and folders, joined by commas" },
    { "exclude", "auto", "evaluation sets whose images, and near-duplicates of them, are left " ..
      "out of data: auto (all that lie beside it), none, or names and folders" },
    { "bce", 0.5, "weight of the cross-entropy; the rest is Dice over the batch", min = 0, max = 1 },
    { "filter", "scaled", "settings of the vessel filter", choices = { "scaled", "published" } },
    { "epochs", 200 },
    { "lr", 1e-3 },
    { "weight_decay", 0.0 },
  },
  presets = {
    smoke = { size = 64, images = 16, batch = 8, epochs = 2, lr = 0.032 },
    tiny = { size = 64, images = 1200, batch = 32, epochs = 8, lr = 0.024 },
    small = { size = 128, batch = 32, epochs = 40, lr = 8e-3 },
    paper = { size = 224, batch = 64, accumulate = 4, epochs = 200, lr = 1e-3 },
  },
}

function segmentor:run(o, run)
  local source, subset = data.pool(o, run)
  run.loader = data.loader {
    source = source, subset = subset, batch = o.batch, size = o.size, seed = o.seed,
    threads = o.workers, broken = o.broken, shuffle = true, drop_last = true,
    crop = { scale = { o.crop, 1 }, ratio = { 3 / 4, 4 / 3 } }, flip = 0.5,
    mean = data.mean, std = data.std, pseudo_mask = true,
    vessel = { published = o.filter == "published" }, cache = data.cache(),
  }
  run.model = models.unext { channels = 3, classes = 1 }
  run.model:initialize(o.seed)
  run.model:to(run.device)
  run.optimizer = optim.adam(run.model, { weight_decay = o.weight_decay, clip = o.clip })
  local peak = o.lr * o.batch * o.accumulate / 256
  run.schedule = function(step, total)
    local epoch = step * o.accumulate // run.batches_per_epoch
    return schedule.poly(peak, epoch, total * o.accumulate / run.batches_per_epoch, 0.9)
  end

  local last
  for epoch in run:epochs() do
    for batch in run:batches(epoch) do
      local logits = run.model(batch.image)
      local l = loss.bce_dice(logits, batch.vessel_mask, { bce = o.bce })
      run:step(l)
      if run.step_count % 20 == 0 or run.step_count == run.total then
        last = segmentor.agreement(logits, batch.vessel_mask)
      end
    end
  end
  run.model:eval()
  self:pictures(o, run)
  return { loss = run.state.loss, agreement = last or run.state.agreement }
end

-- Dice between prediction and filter mask over a batch.
function segmentor.agreement(logits, mask)
  return metrics.dice(logits:detach():gt(0):reshape({ -1 }), mask:reshape({ -1 }))
end

-- One picture: images, what the filter says, what the network says.
function segmentor:pictures(o, run)
  lumen.scope(function()
    for batch in run.loader:epoch(1) do
      local rows = {}
      local vessels = lumen.no_grad(function()
        return run.model(batch.image:to(run.device)):sigmoid():to("cpu")
      end)
      for i = 1, math.min(4, o.batch) do
        rows[i] = { picture.denormalize(batch.image[i]),
                    picture.to_u8(batch.vessel_mask[i][1]), picture.heat(vessels[i][1]) }
      end
      run:image("segmentor", picture.grid(rows))
      break
    end
  end)
end

return segmentor
