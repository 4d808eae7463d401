-- VasoMIM (arXiv 2508.10794; v2: 2602.11536): masked image modelling that knows where the
-- vessels are. Two ideas on top of a masked autoencoder: vessels are hidden on purpose, more
-- and more of them (guidance), and the reconstruction must show the same vessels to a frozen
-- segmentor as the image does (consistency).
local lumen = require "lumen"
local data, loss, models, masking = lumen.data, lumen.loss, lumen.models, lumen.masking
local optim, picture, schedule = lumen.optim, lumen.picture, lumen.schedule
local weights = require("lumen.run").weights

local vasomim = lumen.recipe {
  name = "vasomim",
  about = "Vascular anatomy-aware masked image modelling. Defaults follow the official code " ..
    "(v2, arXiv 2602.11536); guide_mix=1 is v1 (2508.10794).",
  reaches = "As published (preset paper): 800 epochs, batch 2048, ViT-B/16, 171,478 images.",
  options = {
    { "mask_ratio", 0.5, "share of patches hidden from the encoder", min = 0.01, max = 0.99 },
    { "masking", "guided", "how patches are chosen: " .. masking.list .. ", or a Lua file" },
    { "guidance", 0.5, "share of the hidden patches that anatomy chooses at the last epoch " ..
      "(0: plain random)", min = 0, max = 1 },
    { "guidance_start", 0.0, "the same share before the first epoch", min = 0, max = 1 },
    { "guide_mix", 0.5, "weight of the filter in the guidance map; the rest is the " ..
      "segmentor's (1: filter only)", min = 0, max = 1 },
    { "consistency", 1.0, "weight of the anatomical consistency loss (0: off)", min = 0 },
    { "norm_pix", true, "predict patches normalised by their own mean and deviation" },
    { "segmentor", "", "its weights: a file or a run directory; empty: train it first" },
    { "segmentor_epochs", 0, "epochs of that training; 0: 200, fewer when 500 steps suffice",
      min = 0 },
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
    smoke = { size = 64, model = "vit_micro", images = 16, batch = 8, epochs = 2, lr = 0.02,
              norm_pix = false, segmentor_epochs = 2 },
    tiny = { size = 64, model = "vit_micro", images = 1200, batch = 32, epochs = 20, lr = 0.012, crop = 0.4,
             norm_pix = false, segmentor_epochs = 8 },
    small = { size = 128, model = "vit_tiny", batch = 64, epochs = 100, lr = 1e-3 },
    paper = { size = 224, model = "vit_base", batch = 64, accumulate = 32, epochs = 800,
              lr = 1.5e-4, segmentor_epochs = 200, save_every = 500 },
  },
  masking = masking.guided, -- replace it: r.masking = function(guide, o) ... end
}

-- The frozen segmentor, from `segmentor` or trained in stages/segmentor. Nil when neither the
-- guide nor the loss asks for it.
function vasomim:segmentor(o, run)
  local guided = masking.uses_guide(o.masking) and o.guide_mix < 1
    and (o.masking ~= "guided" or o.guidance > 0 or o.guidance_start > 0)
  if o.consistency == 0 and not guided then return nil end
  local where = o.segmentor
  if where == "" then
    local batch = math.min(o.batch, 32)
    local epochs = o.segmentor_epochs
    if epochs == 0 then
      local per_epoch = math.max(1, #run.loader // batch)
      epochs = math.max(1, math.min(200, 500 // per_epoch))
    end
    local values = { epochs = epochs, batch = batch, lr = 1e-3 * 256 / batch }
    for _, name in ipairs { "data", "root", "images", "size", "seed", "device", "threads",
                            "workers", "broken", "crop", "filter", "exclude" } do
      values[name] = o[name]
    end
    local _, dir = run:stage("segmentor", lumen.recipe "segmentor", values)
    where = dir
  end
  local model = models.unext { channels = 3, classes = 1 }
  model:load_state_dict(weights(where))
  return model:to(run.device):eval():freeze()
end

function vasomim:run(o, run)
  local source, subset = data.pool(o, run)
  run.loader = data.loader {
    source = source, subset = subset, batch = o.batch, size = o.size, seed = o.seed,
    threads = o.workers, broken = o.broken, shuffle = true, drop_last = true,
    crop = { scale = { o.crop, 1 }, ratio = { 3 / 4, 4 / 3 } }, flip = 0.5,
    mean = data.mean, std = data.std, pseudo_mask = true,
    vessel = { published = o.filter == "published" }, cache = data.cache(),
  }
  local segmentor = self:segmentor(o, run)
  run.model = models.mae { model = o.model, size = o.size, norm_pix = o.norm_pix }
  run.model:initialize(o.seed)
  if o.init ~= "" then run.model:load_state_dict(weights(o.init)) end
  run.model:to(run.device)
  run.optimizer = optim.adamw(run.model, { weight_decay = o.weight_decay, beta1 = 0.9,
                                           beta2 = o.beta2, clip = o.clip })
  local named = o.masking ~= "guided" and masking.find(o.masking)

  for epoch in run:epochs() do
    local share = schedule.linear(o.guidance_start, o.guidance, epoch, run.epoch_count)
    for batch in run:batches(epoch) do
      local vessels, guide = nil, batch.vessel_mask                           -- [N, 1, H, W]
      if segmentor then
        vessels = lumen.no_grad(function() return segmentor(batch.image):sigmoid() end)
        guide = o.guide_mix * batch.vessel_mask + (1 - o.guide_mix) * vessels
      end
      local mask = masking.draw(named or self.masking, guide, { ratio = o.mask_ratio,
        share = share, grid = run.model.grid, rng = run.rng, image = batch.image,
        errors = function() return self.errors(run, batch) end,
        attention = function() return self.attention(run, batch) end })
      local out = run.model(batch.image, mask)         -- .pred [N, L, p*p*3], .image [N, 3, H, W]
      local rec = loss.masked_mse(out.pred, batch.image, mask, { norm_pix = o.norm_pix })
      local total, parts = rec, { rec = rec, vessel_hidden = self.vessel_hidden(batch, mask, run) }
      if o.consistency > 0 then
        parts.cons = loss.anatomical_consistency(segmentor, out.image, vessels)
        total = rec + o.consistency * parts.cons
      end
      run:step(total, parts)
      if run:draws() then
        self.pictures(run, epoch, batch, guide, mask, out, vessels)
      end
    end
  end
  return run.state
end

-- What masking=hardest and masking=attention look at: the model's error on each patch, half of
-- them hidden, and its attention. Both [N, L].
function vasomim.errors(run, batch)
  return lumen.no_grad(function()
    return run.model:errors(batch.image, masking.draw(masking.random, nil, { ratio = 0.5,
      rng = run.rng, grid = run.model.grid, count = batch.image.shape[1], device = run.device }))
  end)
end
function vasomim.attention(run, batch)
  return lumen.no_grad(function() return run.model:attention(batch.image) end)
end

-- Share of the hidden patches that contain vessel: what the guidance is to raise.
function vasomim.vessel_hidden(batch, mask, run)
  local vessel = lumen.patch_sum(batch.vessel_mask, { patch = run.model.patch }):gt(0):cast("f32")
  return (vessel * mask.mask):sum() / mask.mask:sum()
end

-- images/epoch_N.png, a row per image: input, guide, what the encoder sees, reconstruction
-- (what was seen pasted in), and the segmentor's vessels.
function vasomim.pictures(run, epoch, batch, guide, mask, out, vessels)
  local rows, grid = {}, run.model.grid
  for i = 1, math.min(4, batch.image.shape[1]) do
    local image = picture.denormalize(batch.image[i])
    local seen = picture.masked(image, mask.mask[i], grid)
    local hidden = picture.patches(mask.mask[i], grid, image.shape[1], image.shape[2])
    local whole = picture.mix(image, picture.denormalize(out.image[i]), hidden)
    rows[i] = { image, picture.heat(guide[i][1]), seen, whole }
    if vessels then table.insert(rows[i], picture.heat(vessels[i][1])) end
  end
  run:image(("epoch_%d"):format(epoch), picture.grid(rows))
end

return vasomim
