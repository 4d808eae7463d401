-- SimMIM (Xie et al. 2022, arXiv 2111.09886): hide large squares, let the encoder see the rest
-- and the holes, predict raw pixels with one linear layer and an L1 loss.
-- The encoder, the augmentation and the schedule are VasoMIM's in every preset, so that a
-- comparison compares what is learned from. The authors' own: crop=0.67 lr=5e-5 drop_path=0.1
-- clip=5 warmup=0.0125, steps down instead of a cosine.
local lumen = require "lumen"
local data, loss, models, masking = lumen.data, lumen.loss, lumen.models, lumen.masking
local optim, picture, schedule = lumen.optim, lumen.picture, lumen.schedule
local weights = require("lumen.run").weights

local simmim = lumen.recipe {
  name = "simmim",
  about = "SimMIM: masked image modelling with mask tokens in the encoder and a linear head.",
  reaches = "ARCADE vessel 66.92 +- 0.43 Dice in the tables of VasoMIM v1 (MAE there: 68.17).",
  options = {
    { "mask_ratio", 0.6, "share of the image hidden from the encoder", min = 0.01, max = 0.99 },
    { "mask_unit", 2, "side of a hidden square in patches", min = 1 },
    { "masking", "random", "how squares are chosen: " .. masking.list .. ", or a Lua file" },
    { "guidance", 0.5, "share of the hidden squares that a guide chooses at the last epoch, " ..
      "where masking has one: the vessel filter's mask", min = 0, max = 1 },
    { "guidance_start", 0.0, "the same share before the first epoch", min = 0, max = 1 },
    { "crop", 0.2, "smallest share of the image that a training crop covers", min = 0.01, max = 1 },
    { "data", "phantom", "images to learn from: dataset names and folders, joined by commas" },
    { "exclude", "auto", "evaluation sets whose images, and near-duplicates of them, are left " ..
      "out of data: auto (all that lie beside it), none, or names and folders" },
    { "filter", "scaled", "settings of the vessel filter", choices = { "scaled", "published" } },
    { "drop_path", 0.0, "stochastic depth of the ViT", min = 0, max = 0.99 },
    { "model", "vit_base" },
    { "epochs", 800 },
    { "beta2", 0.999, "AdamW's second decay rate", min = 0, max = 1 },
  },
  presets = {
    smoke = { size = 64, model = "vit_micro", images = 16, batch = 8, epochs = 2, lr = 0.02 },
    tiny = { size = 64, model = "vit_micro", images = 1200, batch = 32, epochs = 20, lr = 0.012,
             crop = 0.4 },
    small = { size = 128, model = "vit_tiny", batch = 64, epochs = 100, lr = 1e-3 },
    paper = { size = 224, model = "vit_base", batch = 64, accumulate = 32, epochs = 800,
              lr = 1.5e-4, save_every = 500 },
  },
}

function simmim:run(o, run)
  local source, subset = data.pool(o, run)
  run.loader = data.loader {
    source = source, subset = subset, batch = o.batch, size = o.size, seed = o.seed,
    threads = o.workers, broken = o.broken, shuffle = true, drop_last = true,
    crop = { scale = { o.crop, 1 }, ratio = { 3 / 4, 4 / 3 } }, flip = 0.5,
    mean = data.mean, std = data.std, pseudo_mask = o.masking ~= "random",
    vessel = { published = o.filter == "published" }, cache = data.cache(),
  }
  run.model = models.simmim { model = o.model, size = o.size, drop_path = o.drop_path }
  run.model:initialize(o.seed)
  if o.init ~= "" then run.model:load_state_dict(weights(o.init)) end
  run.model:to(run.device)
  run.optimizer = optim.adamw(run.model, { weight_decay = o.weight_decay, beta1 = 0.9,
                                           beta2 = o.beta2, clip = o.clip })
  local choose = masking.find(o.masking)

  for epoch in run:epochs() do
    local share = schedule.linear(o.guidance_start, o.guidance, epoch, run.epoch_count)
    for batch in run:batches(epoch) do
      local mask = masking.draw(choose, batch.vessel_mask, { ratio = o.mask_ratio, share = share,
        unit = o.mask_unit, grid = run.model.grid, count = batch.image.shape[1], rng = run.rng })
      local out = run.model(batch.image, mask)         -- .pred [N, L, p*p*3], .image [N, 3, H, W]
      run:step(loss.masked_l1(out.pred, batch.image, mask))
      if run:draws() then
        self.pictures(run, epoch, batch, mask, out)
      end
    end
  end
  return run.state
end

-- images/epoch_N.png, a row per image: input, what the encoder sees, reconstruction (what was
-- seen pasted in).
function simmim.pictures(run, epoch, batch, mask, out)
  local rows, grid = {}, run.model.grid
  for i = 1, math.min(4, batch.image.shape[1]) do
    local image = picture.denormalize(batch.image[i])
    local hidden = picture.patches(mask.mask[i], grid, image.shape[1], image.shape[2])
    rows[i] = { image, picture.masked(image, mask.mask[i], grid),
                picture.mix(image, picture.denormalize(out.image[i]), hidden) }
  end
  run:image(("epoch_%d"):format(epoch), picture.grid(rows))
end

return simmim
