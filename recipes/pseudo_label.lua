-- The control of every comparison: the encoder that VasoMIM pre-trains, taught to predict the
-- vessel filter's mask directly. Nothing is hidden, nothing is reconstructed. VasoMIM gets
-- part of its knowledge from that filter (through the segmentor and the guide), so what it
-- gains over this recipe is what masked image modelling adds.
-- The encoder, the augmentation and the schedule are VasoMIM's in every preset.
local lumen = require "lumen"
local data, loss, metrics, models = lumen.data, lumen.loss, lumen.metrics, lumen.models
local nn, optim, picture = lumen.nn, lumen.optim, lumen.picture
local weights = require("lumen.run").weights

local pseudo_label = lumen.recipe {
  name = "pseudo_label",
  about = "The control: a ViT encoder pre-trained to predict the vessel filter's mask.",
  reaches = "No paper reports it.",
  options = {
    { "bce", 0.5, "weight of the cross-entropy; the rest is Dice over the batch", min = 0, max = 1 },
    { "crop", 0.2, "smallest share of the image that a training crop covers", min = 0.01, max = 1 },
    { "data", "phantom", "images to learn from: dataset names and folders, joined by commas" },
    { "exclude", "auto", "evaluation sets whose images, and near-duplicates of them, are left " ..
      "out of data: auto (all that lie beside it), none, or names and folders" },
    { "filter", "scaled", "settings of the vessel filter", choices = { "scaled", "published" } },
    { "model", "vit_base" },
    { "epochs", 800 },
    { "beta2", 0.95, "AdamW's second decay rate", min = 0, max = 1 },
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

-- Every token of the encoder says which pixels of its patch are vessel. The head is no
-- "decoder.": fine-tuning starts from the encoder alone, as after the other pre-trainings.
local Control = nn.class("PseudoLabel")
function Control:build(options)
  self.encoder = models.vit { model = options.model, size = options.size, positions = "fixed",
                              weight_init = nn.fill.xavier_uniform() }
  self.patch = self.encoder.patch
  self.head = nn.Linear(self.encoder.dim, self.patch * self.patch,
    { weight_init = nn.fill.xavier_uniform(), bias_init = nn.fill.constant(0) })
end
-- Image [N, 3, H, W] -> logits [N, 1, H, W].
function Control:forward(image)
  local tokens = self.encoder(image):slice(2, 2, -1)
  return lumen.unpatchify(self.head(tokens), { patch = self.patch, height = image.shape[3],
                                               width = image.shape[4] })
end

function pseudo_label:run(o, run)
  local source, subset = data.pool(o, run)
  run.loader = data.loader {
    source = source, subset = subset, batch = o.batch, size = o.size, seed = o.seed,
    threads = o.workers, broken = o.broken, shuffle = true, drop_last = true,
    crop = { scale = { o.crop, 1 }, ratio = { 3 / 4, 4 / 3 } }, flip = 0.5,
    mean = data.mean, std = data.std, pseudo_mask = true,
    vessel = { published = o.filter == "published" }, cache = data.cache(),
  }
  run.model = Control { model = o.model, size = o.size }
  run.model:initialize(o.seed)
  if o.init ~= "" then run.model:load_state_dict(weights(o.init)) end
  run.model:to(run.device)
  run.optimizer = optim.adamw(run.model, { weight_decay = o.weight_decay, beta1 = 0.9,
                                           beta2 = o.beta2, clip = o.clip })
  for epoch in run:epochs() do
    for batch in run:batches(epoch) do
      local logits = run.model(batch.image)
      run:step(loss.bce_dice(logits, batch.vessel_mask, { bce = o.bce }))
      if run.last_of_epoch then
        run.state.agreement = metrics.dice(logits:detach():gt(0), batch.vessel_mask)
        if run:draws() then self.pictures(run, epoch, batch, logits) end
      end
    end
  end
  return run.state
end

-- images/epoch_N.png, a row per image: input, the filter's mask, what the network says.
function pseudo_label.pictures(run, epoch, batch, logits)
  local rows, vessels = {}, logits:detach():sigmoid()
  for i = 1, math.min(4, batch.image.shape[1]) do
    rows[i] = { picture.denormalize(batch.image[i]), picture.to_u8(batch.vessel_mask[i][1]),
                picture.heat(vessels[i][1]) }
  end
  run:image(("epoch_%d"):format(epoch), picture.grid(rows))
end

return pseudo_label
