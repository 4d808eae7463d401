-- Vessel segmentation: fine-tune a pre-trained encoder (init=), train from scratch, or score
-- the plain filter (model=filter). Reports dice and cldice on images that were held out;
-- predict=DIR writes masks and overlays for a folder of images.
local lumen = require "lumen"
local data, loss, metrics, models = lumen.data, lumen.loss, lumen.metrics, lumen.models
local optim, options, path = lumen.optim, require "lumen.options", require "lumen.path"
local picture, runs = lumen.picture, require "lumen.run"
local vit = require "lumen.models.vit"

local segment = lumen.recipe {
  name = "segment",
  about = "Vessel segmentation with few or many labels: ViT, UNeXt, U-Net or the filter alone.",
  reaches = "Metrics are means over images at the size of the network, threshold 0.5.",
  options = {
    { "model", "", "a ViT (vit_micro .. vit_huge), unext, unet or filter; empty: the one of " ..
      "the run directory in init, else vit_base" },
    { "labels", "all", "labelled images to train on: all, a count, or a share such as 10%" },
    { "label_seed", 0, "which ones; smaller choices are part of larger ones", min = 0 },
    { "split", 0.3, "share held out of a plain folder for the test", min = 0.01, max = 0.99 },
    { "test_images", 0, "use the first N test images only; 0: all", min = 0 },
    { "decoder", "conv", "head on the ViT", choices = { "conv", "linear" } },
    { "layer_decay", 0.75, "learning rate factor from one ViT block to the one below",
      min = 0, max = 1 },
    { "drop_path", 0.0, "stochastic depth of the ViT", min = 0, max = 0.99 },
    { "dice", 0.5, "weight of the Dice loss; the rest is cross-entropy", min = 0, max = 1 },
    { "crop", 0.4, "smallest share of the image that a training crop covers", min = 0.01, max = 1 },
    { "filter", "scaled", "settings of model=filter", choices = { "scaled", "published" } },
    { "empty", "default", "what an undefined metric counts (default: both empty 1, one empty 0)",
      choices = { "default", "0", "1", "skip" } },
    { "train", true, "false: only evaluate or predict, with the weights of init" },
    { "predict", "", "folder of images to segment into predictions/ of the run directory" },
    { "epochs", 50 },
    { "batch", 8 },
    { "lr", 3.2e-3 },
    { "min_lr", 3.2e-5 },
    { "clip", 1.0 },
  },
  presets = {
    smoke = { size = 64, model = "vit_micro", images = 16, labels = "8", test_images = 8,
              batch = 4, steps = 4, lr = 0.032, layer_decay = 1.0 },
    tiny = { size = 64, model = "vit_micro", labels = "10", batch = 8, steps = 500,
             lr = 0.032, layer_decay = 1.0, decoder = "linear" },
    small = { size = 128, model = "vit_tiny", batch = 16, epochs = 50, lr = 8e-3 },
    paper = { size = 224, model = "vit_base", batch = 16, epochs = 50, lr = 1.6e-3, warmup = 0.02 },
  },
}

-- Options of the run that init names, or nil.
local function origin(init)
  local file = init .. "/options.lua"
  return path.is_file(file) and options.undump(lumen.fs.read(file), file) or nil
end

local function build(o, run)
  local from = o.init ~= "" and origin(o.init) or nil
  local name = o.model ~= "" and o.model or from and from.model or "vit_base"
  local model
  if name == "unext" then
    model = models.unext { classes = 1 }
  elseif name == "unet" then
    model = models.unet { classes = 1 }
  else
    model = models.segmenter { model = name, size = o.size, decoder = o.decoder,
                               drop_path = o.drop_path }
  end
  model:initialize(o.seed)
  if o.init ~= "" then
    local state = runs.weights(o.init)
    if name:match("^vit_") and not state["decoder.head.weight"] then
      vit.load_encoder(model.encoder, state)
    else
      model:load_state_dict(state)
    end
  end
  return model:to(run.device), name
end

-- A loader over the test images, in order, unchanged but for the size.
local function test_loader(o, source, subset, pseudo_mask)
  return data.loader {
    source = source, subset = subset, batch = o.batch, size = o.size, seed = o.seed,
    threads = o.workers, broken = o.broken, shuffle = false, drop_last = false, crop = false,
    flip = 0, mean = data.mean, std = data.std, pseudo_mask = pseudo_mask,
    vessel = { published = o.filter == "published" }, cache = data.cache(),
  }
end

-- Mean dice and cldice of predict(batch) -> u8 [N, 1, H, W] over a loader.
function segment.evaluate(o, loader, predict)
  local rows = { dice = {}, cldice = {} }
  for batch in loader:epoch(1) do
    lumen.scope(function() metrics.collect(rows, predict(batch), batch.mask) end)
  end
  local empty = o.empty
  if empty == "default" then empty = nil elseif empty ~= "skip" then empty = tonumber(empty) end
  return { dice = metrics.average(rows.dice, empty), cldice = metrics.average(rows.cldice, empty),
           images = #rows.dice }
end

-- images/test.png: image, prediction, agreement with the truth (green both, red too much,
-- blue missed).
local function pictures(run, loader, predict)
  for batch in loader:epoch(1) do
    lumen.scope(function()
      local rows, pred = {}, predict(batch)
      for i = 1, math.min(6, pred.shape[1]) do
        local image = picture.denormalize(batch.image[i])
        rows[i] = { image, picture.to_u8(pred[i][1] * 255),
                    picture.compare(image, pred[i][1], batch.mask[i][1]) }
      end
      run:image("test", picture.grid(rows))
    end)
    break
  end
end

-- predictions/masks and predictions/overlays for the images of a folder, at their own size.
local function write_predictions(o, run, predict)
  if not path.is_dir(o.predict) then
    error(("option predict: there is no folder %s"):format(o.predict), 0)
  end
  local out = run.dir .. "/predictions"
  lumen.fs.mkdir(out .. "/masks")
  lumen.fs.mkdir(out .. "/overlays")
  local source, subset = data.source(o.predict, { split = "all" })
  source.masks = nil
  local loader = test_loader(o, source, subset, o.model == "filter")
  for batch in loader:epoch(1) do
    lumen.scope(function()
      local pred = predict(batch)
      for i = 1, pred.shape[1] do
        local file = loader:name(batch.index[i]:item() + 1)
        local image = lumen.image.load(file)
        local mask = lumen.resize(pred[i]:to("f32"):unsqueeze(1), { mode = "nearest",
          size = { image.shape[1], image.shape[2] } })[1][1]
        local name = file:match("([^/]+)%.[^.]+$") .. ".png"
        lumen.image.save(("%s/masks/%s"):format(out, name), picture.to_u8(mask))
        lumen.image.save(("%s/overlays/%s"):format(out, name), picture.overlay(image, mask))
      end
    end)
  end
end

-- Train run.model on the chosen labels.
local function fit(self, o, run, source, subset, name)
  run.loader = data.loader {
    source = source, subset = data.choose(subset, o.labels, o.label_seed), batch = o.batch,
    size = o.size, seed = o.seed, threads = o.workers, broken = o.broken, shuffle = true,
    drop_last = false, crop = { scale = { o.crop, 1 }, ratio = { 3 / 4, 4 / 3 } }, flip = 0.5,
    mean = data.mean, std = data.std,
  }
  local decay = name:match("^vit_") and o.layer_decay or 1
  run.optimizer = optim.adamw(run.model, { weight_decay = o.weight_decay, clip = o.clip,
    layer_decay = decay, depth = decay ~= 1 and run.model.encoder.depth or nil })
  for epoch in run:epochs() do
    for batch in run:batches(epoch) do
      local logits = run.model(batch.image)
      local dice = loss.dice(logits, batch.mask)
      local bce = loss.bce_with_logits(logits, batch.mask)
      run:step(o.dice * dice + (1 - o.dice) * bce, { dice_loss = dice, bce = bce })
    end
  end
end

function segment:run(o, run)
  local filter = o.model == "filter"
  local predict
  if filter then
    predict = function(batch) return batch.vessel_mask:gt(0.5) end
  else
    local name
    run.model, name = build(o, run)
    if o.train then
      local source, subset = data.source(o.data, { root = o.root, split = "train",
        count = o.images, held_out = o.split, size = o.size })
      fit(self, o, run, source, subset, name)
    end
    run.model:eval()
    predict = function(batch)
      return lumen.no_grad(function() return run.model(batch.image):gt(0) end)
    end
  end
  if o.predict ~= "" then write_predictions(o, run, predict) end
  if o.predict ~= "" and not o.train then return {} end
  local source, subset = data.source(o.data, { root = o.root, split = "test",
    count = o.test_images, held_out = o.split, size = o.size })
  if source.kind == "folder" and not source.masks then
    error(("data %s has no masks to train on or compare with"):format(o.data), 0)
  end
  local loader = test_loader(o, source, subset, filter)
  local result = segment.evaluate(o, loader, predict)
  pictures(run, loader, predict)
  io.stdout:write(("%s  dice %.4f  cldice %.4f  (%d images)\n"):format(
    o.model ~= "" and o.model or "segment", result.dice, result.cldice, result.images))
  return result
end

return segment
