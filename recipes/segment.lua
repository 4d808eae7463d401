-- Vessel segmentation: fine-tune a pre-trained encoder (init=), train from scratch, or score
-- what needs no labels: the plain filter (model=filter) and the segmentor that learned from it
-- (model=segmentor). Binary masks, or classes where the data set has them.
--
-- Masks are compared at the size that the network sees, as in the code that VasoMIM's
-- fine-tuning builds on (the true mask shrunk like the image, nearest); evaluate=native enlarges
-- the network's logits to each image's own size instead. The filter works at the image's own
-- size and is compared there, unless evaluate=network. hd95 and assd are in pixels of that size.
local lumen = require "lumen"
local data, loss, metrics, models = lumen.data, lumen.loss, lumen.metrics, lumen.models
local optim, options, path = lumen.optim, require "lumen.options", require "lumen.path"
local pack, picture, runs = require "lumen.pack", lumen.picture, require "lumen.run"
local vit = require "lumen.models.vit"

local segment = lumen.recipe {
  name = "segment",
  about = "Vessel segmentation with few or many labels: ViT, UNeXt, U-Net, or without any: the " ..
    "segmentor, the filter.",
  reaches = "Metrics are means over images, threshold 0.5; `pooled` counts all pixels together.",
  options = {
    { "model", "", "a ViT (vit_micro .. vit_huge), unext, unet, segmentor (UNeXt taught by the " ..
      "filter: init, or trained first) or filter; empty: the one that init fits, else vit_base" },
    { "labels", "all", "labelled images to train on: all, a count, or a share such as 10%" },
    { "label_seed", 0, "which ones; smaller choices are part of larger ones", min = 0 },
    { "validate", "", "images that choose the weights to test: val (the data set's), or a share " ..
      "of the training images, such as 10%; empty: none, the last weights are tested" },
    { "patience", 0, "end after so many validations without a better one; 0: never", min = 0 },
    { "split", 0.3, "share held out of a plain folder for the test", min = 0.01, max = 0.99 },
    { "test_split", "test", "images to measure on; all: every labelled one, without training",
      choices = { "test", "val", "all" } },
    { "test_images", 0, "use the first N test images only; 0: all", min = 0 },
    { "decoder", "auto", "on the ViT; auto: the one of init, else adapter",
      choices = { "auto", "adapter", "conv", "linear" } },
    { "decoder_width", 0, "channels at its coarsest; 0: the one of init, else adapter 512, " ..
      "conv 128", min = 0 },
    { "layer_decay", 0.75, "learning rate factor from one ViT block to the one below",
      min = 0, max = 1 },
    { "drop_path", 0.0, "stochastic depth of the ViT", min = 0, max = 0.99 },
    { "dice", 0.5, "weight of the Dice loss", min = 0 },
    { "bce", 0.5, "weight of the cross-entropy", min = 0 },
    { "cldice", 0.0, "weight of the soft clDice loss (vessel against background)", min = 0 },
    { "crop", 1.0, "smallest share of the image that a training crop covers; 1: the whole image",
      min = 0.01, max = 1 },
    { "rotate", 15.0, "largest turn of a training image, degrees", min = 0, max = 180 },
    { "shift", 0.0625, "largest shift, share of the side", min = 0, max = 1 },
    { "scale", 0.1, "largest change of scale, share", min = 0, max = 0.9 },
    { "jitter", 0.2, "largest change of brightness and of contrast, share", min = 0, max = 1 },
    { "filter", "scaled", "settings of model=filter", choices = { "scaled", "published" } },
    { "evaluate", "auto", "size at which masks are compared: network, native (the image's own); " ..
      "auto: native for the filter, else network", choices = { "auto", "network", "native" } },
    { "empty", "default", "what an undefined metric counts (default: both empty 1, one empty 0; " ..
      "a class that is in neither mask is left out). Undefined distances are always left out",
      choices = { "default", "0", "1", "skip" } },
    { "train", true, "false: only evaluate or predict, with the weights of init" },
    { "predict", "", "images to segment into predictions/ of the run directory: a folder, a " ..
      "pack, an image, or a list (CSV)" },
    { "epochs", 50 },
    { "batch", 8 },
    { "lr", 3.2e-3 },
    { "min_lr", 3.2e-5 },
    { "warmup", 0.02 },
    { "clip", 1.0 },
  },
  presets = {
    smoke = { size = 64, model = "vit_micro", images = 16, labels = "8", test_images = 8,
              batch = 4, steps = 4, lr = 0.032, layer_decay = 1.0, decoder = "linear",
              crop = 0.4, rotate = 0.0, shift = 0.0, scale = 0.0, jitter = 0.0 },
    tiny = { size = 64, model = "vit_micro", labels = "10", batch = 8, steps = 500, warmup = 0.05,
             lr = 0.032, layer_decay = 1.0, decoder = "linear",
             crop = 0.4, rotate = 0.0, shift = 0.0, scale = 0.0, jitter = 0.0 },
    small = { size = 128, model = "vit_tiny", batch = 16, epochs = 50, lr = 8e-3, decoder = "conv" },
    paper = { size = 224, model = "vit_base", batch = 16, epochs = 50, lr = 1.6e-3, min_lr = 1.6e-5,
              drop_path = 0.1, decoder = "adapter", validate = "10%", patience = 15 },
  },
}

-- ---- the model -----------------------------------------------------------------------------

-- Options of the run that init names, or nil.
local function origin(init)
  local file = init .. "/options.lua"
  return path.is_file(file) and options.undump(lumen.fs.read(file), file) or nil
end

-- Kind and width of the decoder in a state of ours; nil when it holds an encoder alone.
local function decoder_of(state)
  if not state["decoder.head.weight"] then return nil end
  local coarse, stage = state["decoder.coarse.0.weight"], state["decoder.stages.0.0.weight"]
  if coarse then return "adapter", coarse.shape[1] end
  if stage then return "conv", stage.shape[1] end
  return "linear"
end

-- Number of channels that a network of ours in a state has; nil when it holds an encoder alone.
local function outputs_of(state)
  local last = state["final.weight"] or state["outc.weight"] or state["decoder.head.weight"]
  if not last then return nil end
  local patches = state["encoder.patch_embed.proj.weight"]
  local is_linear = #last.shape == 2 and patches
  return is_linear and last.shape[1] // (patches.shape[3] * patches.shape[4]) or last.shape[1]
end

-- A ViT with a decoder, and the state that fills it: all of `state`, or its encoder. A decoder of
-- another kind than asked for is learned anew; without training it is what the state has.
local function build_vit(o, name, outputs, state)
  local kind, width = decoder_of(state or {})
  local whole = kind and outputs_of(state) == outputs
  if o.train and (o.decoder ~= "auto" or o.decoder_width > 0) then
    local wanted = o.decoder == "auto" and kind or o.decoder
    if wanted ~= kind or o.decoder_width > 0 and o.decoder_width ~= width then
      kind, width, whole = wanted, o.decoder_width > 0 and o.decoder_width or nil, false
    end
  end
  if decoder_of(state or {}) and not whole then
    io.stderr:write(("segment: only the encoder of %s is used\n"):format(o.init))
  end
  local model = models.segmenter { model = name, size = o.size, decoder = kind or "adapter",
    decoder_width = width, drop_path = o.drop_path, classes = outputs }
  return model, whole
end

local function fill_vit(model, state, whole)
  if not whole then
    return vit.load_encoder(model.encoder, state)
  end
  local copy = {}
  for key, value in next, state do copy[key] = value end
  copy["encoder.pos_embed"] = vit.resize_positions(copy["encoder.pos_embed"], model.grid[1])
  model:load_state_dict(copy)
end

-- f(...); an error in it is one of the weights of init.
local function of_init(o, f, ...)
  local ok, result = pcall(f, ...)
  if not ok then error(("option init: %s: %s"):format(o.init, tostring(result)), 0) end
  return result
end

-- The network with `outputs` channels (nil: as many as in init), its name, and outputs.
local function build(o, run, outputs)
  local state = o.init ~= "" and runs.weights(o.init) or nil
  if not o.train and not (state and outputs_of(state)) then
    error("train=false needs the weights of a whole network: init= a run directory or a file", 0)
  end
  outputs = outputs or state and outputs_of(state) or 1
  local from, name, model, whole = origin(o.init), o.model, nil, nil
  if from and from.size and from.size ~= o.size and not o.train then
    io.stderr:write(("segment: %s was trained at size=%d, here size=%d\n"):format(
      o.init, from.size, o.size))
  end
  if name == "" then
    name = from and from.model ~= "" and from.model
      or state and of_init(o, vit.recognise, state) or "vit_base"
  end
  if name == "unext" or name == "segmentor" then
    model = models.unext { classes = outputs }
  elseif name == "unet" then
    model = models.unet { classes = outputs }
  elseif vit.presets[name] then
    model, whole = build_vit(o, name, outputs, state)
  else
    local names = { "unext", "unet", "segmentor", "filter", table.unpack(vit.names) }
    local near = options.nearest(name, names)
    error(("option model: there is no %s (%s)%s"):format(name, table.concat(names, ", "),
      near and ("\nhint: did you mean %s?"):format(near) or ""), 0)
  end
  model:initialize(o.seed)
  if state then
    of_init(o, function()
      if vit.presets[name] then fill_vit(model, state, whole) else model:load_state_dict(state) end
    end)
  end
  return model:to(run.device), name, outputs
end

-- The run directory or file of model=segmentor: init, or trained in stages/segmentor.
local function segmentor_weights(o, run)
  if o.init ~= "" then
    local inside = o.init .. "/stages/segmentor"
    return path.is_dir(inside) and inside or o.init
  end
  local values = { preset = o.preset }
  for _, name in ipairs { "data", "root", "images", "size", "seed", "device", "threads",
                          "workers", "broken", "filter" } do
    values[name] = o[name]
  end
  return select(2, run:stage("segmentor", lumen.recipe "segmentor", values))
end

-- ---- the data ------------------------------------------------------------------------------

-- Source and items of a split.
local function split_of(o, run, split, count)
  local found = data.locate(o.data, { root = o.root, held_out = o.split })
  if found.layout == "folder" and not found.parts[1].sources[1].masks then
    error(("data %s: there is no folder masks/ beside images/ to train on or compare with"):format(
      o.data), 0)
  end
  return data.source(o.data, { root = o.root, split = split, count = count, held_out = o.split,
                               size = o.size, run = run })
end

-- A loader over images in order, unchanged but for the size.
local function test_loader(o, source, subset, pseudo_mask)
  return data.loader {
    source = source, subset = subset, batch = o.batch, size = o.size, seed = o.seed,
    threads = o.workers, broken = o.broken, shuffle = false, drop_last = false, crop = false,
    flip = 0, mean = data.mean, std = data.std, pseudo_mask = pseudo_mask,
    vessel = { published = o.filter == "published" }, cache = data.cache(),
  }
end

-- Names of the classes that masks of a loader hold; nil when they are binary.
local function class_names(o, loader)
  if loader:classes() == 0 then return nil end
  local names = data.locate(o.data, { root = o.root, held_out = o.split }).set.classes or {}
  local list = {}
  for k = 1, loader:classes() do list[k] = tostring(names[k] or k) end
  return list
end

local function need_masks(o, loader)
  if not loader:has_masks() then
    error(("data %s has no masks to train on or compare with"):format(o.data), 0)
  end
  return loader
end

-- Images may not choose the weights and measure them.
local function check_apart(validation, test)
  local seen = {}
  for i = 1, #test do seen[test:name(i)] = true end
  for i = 1, #validation do
    if seen[validation:name(i)] then
      error(("option validate: %s is also a test image (the data set has no test split of its " ..
        "own)\nhint: validate=10%% takes a share of the training images"):format(
        validation:name(i)), 0)
    end
  end
end

-- Loaders of the training and (or nil) of the validation images. The labelled choice is the same
-- with and without validation, which takes its share from the other end of the order.
local function training_loaders(o, run, test)
  local source, subset = split_of(o, run, "train", o.images)
  local total, validation = subset.shape[1], nil
  local labels = o.labels
  if o.validate == "val" then
    local other, items = split_of(o, run, "val", 0)
    validation = need_masks(o, test_loader(o, other, items, false))
    check_apart(validation, test)
  elseif o.validate ~= "" then
    local share = tonumber(o.validate:match("^([%d.]+)%%$"))
    if not share or share <= 0 or share >= 100 then
      error(("option validate: %s is not val or a share like 10%%"):format(o.validate), 0)
    end
    local held = math.max(1, math.floor(total * share / 100 + 0.5))
    local order = data.choose(subset, "all", o.label_seed)
    if held >= total then error(("option validate: %d images leave none to train on"):format(total), 0) end
    validation = need_masks(o, test_loader(o, source, order:slice(1, total - held + 1, total):contiguous()))
    if labels == "all" then labels = total - held end
    local chosen = data.choose(subset, labels, o.label_seed).shape[1]
    if chosen > total - held then
      error(("option labels: %d of %d images are not left besides %d to validate on"):format(
        chosen, total, held), 0)
    end
  end
  local training = data.loader {
    source = source, subset = data.choose(subset, labels, o.label_seed), batch = o.batch,
    size = o.size, seed = o.seed, threads = o.workers, broken = o.broken, shuffle = true,
    drop_last = false, flip = 0.5, mean = data.mean, std = data.std,
    crop = o.crop < 1 and { scale = { o.crop, 1 }, ratio = { 3 / 4, 4 / 3 } },
    augment = { rotate = o.rotate, shift = o.shift, scale = o.scale, brightness = o.jitter,
                contrast = o.jitter },
  }
  return need_masks(o, training), validation
end

-- ---- training ------------------------------------------------------------------------------

-- The loss of logits [N, C, H, W] against mask [N, 1, H, W] (0 and 1, or class numbers), and its
-- parts. Replace it: r.loss = function(o, logits, mask) ... end
function segment.loss(o, logits, mask)
  local parts, vessel, truth = {}, logits, mask
  if logits.shape[2] == 1 then
    parts.dice_loss, parts.bce = loss.dice(logits, mask), loss.bce_with_logits(logits, mask)
  else
    local target = mask:select(2, 1):to("i64")
    parts.dice_loss = loss.dice_multiclass(logits, target)
    parts.bce = lumen.cross_entropy(logits, target)
    vessel = lumen.logsumexp(logits:slice(2, 2, -1), { dim = 2, keepdim = true })
      - logits:slice(2, 1, 1)                                   -- log odds of any class
    truth = mask:gt(0):cast("f32")
  end
  local total = o.dice * parts.dice_loss + o.bce * parts.bce
  if o.cldice > 0 then
    parts.cldice_loss = loss.soft_cldice(vessel, truth)
    total = total + o.cldice * parts.cldice_loss
  end
  return total, parts
end

-- Mean dice over the validation images, at the size of the network.
function segment.validation(o, run, loader, classes)
  local meter = metrics.meter { classes = classes, empty = o.empty, overlap = true }
  run.model:eval()
  segment.each(o, run.model, loader, function(pred, truth) meter:add(pred, truth) end)
  run.model:train()
  return meter:mean().dice
end

-- Train run.model. Validation costs about as many images as training, whatever their numbers.
local function fit(self, o, run, name, validation, classes)
  local decay = vit.presets[name] and o.layer_decay or 1
  run.optimizer = optim.adamw(run.model, { weight_decay = o.weight_decay, clip = o.clip,
    layer_decay = decay, depth = decay ~= 1 and run.model.encoder.depth or nil })
  local every = validation and math.ceil(#validation / #run.loader)
  for epoch in run:epochs() do
    for batch in run:batches(epoch) do
      run:step(self.loss(o, run.model(batch.image), batch.mask))
    end
    if validation and (epoch % every == 0 or epoch == run.epoch_count) then
      local dice = self.validation(o, run, validation, classes)
      run:note { { "val_dice", dice } }
      run.state.worse = run:keep_best(dice) and 0 or (run.state.worse or 0) + 1
      if o.patience > 0 and run.state.worse >= o.patience then run:stop() end
    end
  end
  if run.state.best then
    run.model:load_state_dict(runs.weights(run.dir))
    io.stderr:write(("segment: testing the weights of epoch %d, val_dice %.4f\n"):format(
      run.state.best_epoch, run.state.best))
  end
end

-- ---- evaluation ----------------------------------------------------------------------------

-- The mask that logits [N, C, h, w] stand for, u8 [N, h, w].
local function decide(logits)
  if logits.shape[2] == 1 then return logits:select(2, 1):gt(0) end
  return logits:argmax({ dim = 2 }):to("u8")
end

-- Logits [C, h, w] as the mask of an image of another size.
local function decide_at(logits, height, width)
  logits = logits:unsqueeze(1)
  if logits.shape[3] ~= height or logits.shape[4] ~= width then
    logits = lumen.resize(logits, { size = { height, width }, mode = "bilinear" })
  end
  return decide(logits)[1]
end

-- Call visit(pred u8 [H, W], truth u8 [H, W] or nil, i, image u8 [H, W] or [H, W, 3]) for the
-- images of a loader, i counted from 1, and return the list of what it returned. model: a
-- network, or nil for the filter. native: at the size of each image.
function segment.each(o, model, loader, visit, native)
  local results = {}
  local function add(fn)
    local made = lumen.scope(fn)
    table.move(made, 1, #made, #results + 1, results)
  end
  if not model and native then
    for i = 1, #loader do
      add(function()
        local ok, image, truth, found = pcall(loader.whole, loader, i)
        if ok then return { visit(found, truth, i, image) } end
        if o.broken == "error" then error(image, 0) end
        io.stderr:write(("segment: left out: %s\n"):format(image))
        return {}
      end)
    end
    return results
  end
  for batch in loader:epoch(1) do
    add(function()
      local made = {}
      local logits = model and lumen.no_grad(function()
        local device = model:named_parameters()[1].tensor.device
        return model(batch.image:to(device)):to("cpu")
      end)
      for k = 1, batch.image.shape[1] do
        local i, pred, image, truth = batch.index[k]:item() + 1, nil, nil, nil
        if native then
          image, truth = loader:whole(i)
          pred = decide_at(logits[k], image.shape[1], image.shape[2])
        else
          image = picture.denormalize(batch.image[k])
          truth = batch.mask and batch.mask[k][1]:to("u8")
          pred = model and decide(logits[k]:unsqueeze(1))[1] or batch.vessel_mask[k][1]:gt(0.5)
        end
        made[#made + 1] = visit(pred, truth, i, image)
      end
      return made
    end)
  end
  return results
end

-- images/best.png, median.png, worst.png and test.png (the first six): the image, and where the
-- masks agree and differ (lumen.picture.compare).
local function draw(self, o, run, model, source, subset, order, native)
  local function save(name, items)
    local loader = test_loader(o, source, items, model == nil)
    run:image(name, picture.grid(self.each(o, model, loader, function(pred, truth, _, image)
      return { picture.rgb(image), picture.compare(image, pred, truth) }
    end, native)))
  end
  local middle = (#order + 1) // 2
  for _, item in ipairs { { "best", 1 }, { "median", middle }, { "worst", #order } } do
    save(item[1], lumen.index_select(subset, lumen.tensor({ order[item[2]] - 1 }, { dtype = "i64" }),
      { dim = 1 }))
  end
  save("test", subset:slice(1, 1, math.min(6, #order)):contiguous())
end

-- Measure on the test images, write the tables and pictures, return the metrics.
local function test(self, o, run, model, loader, classes, source, subset)
  local native = o.evaluate == "native" or o.evaluate == "auto" and model == nil
  local meter, height, width = metrics.meter { classes = classes, empty = o.empty }, nil, nil
  self.each(o, model, loader, function(pred, truth, i)
    meter:add(pred, truth, loader:name(i))
    local h, w = pred.shape[1], pred.shape[2]
    if height and (h ~= height or w ~= width) then h, w = 0, 0 end
    height, width = h, w
  end, native)
  if meter.images == 0 then error("there is no test image that can be read", 0) end
  lumen.fs.write(run.dir .. "/images.csv", meter:csv())
  draw(self, o, run, model, source, subset, meter:ranking(), native)
  local result = meter:mean()
  result.images, result.height, result.width = meter.images, height, width
  result.pooled = meter:pooled()
  if classes then
    lumen.fs.write(run.dir .. "/classes.csv", meter:class_csv())
    result.class_dice = {}
    for _, row in ipairs(meter:per_class()) do result.class_dice[row.class] = row.dice end
  end
  return result
end

-- What stands on the screen at the end.
function segment:report(m, run)
  if not m.images then return end
  local o = run.o
  local size = m.height > 0 and ("%d x %d"):format(m.width, m.height) or "their own sizes"
  local lines = { ("%s on %s, %d images at %s; hd95 and assd in pixels (%s)"):format(
    o.model ~= "" and o.model or "segment", o.data, m.images, size, run.dir), ("%-10s"):format("") }
  for _, name in ipairs(metrics.names) do lines[2] = lines[2] .. ("%12s"):format(name) end
  for _, row in ipairs { { m.class_dice and "per class" or "per image", m }, { "pooled", m.pooled } } do
    local line = ("%-10s"):format(row[1])
    for _, name in ipairs(metrics.names) do
      local value = row[2][name]
      local text = type(value) == "number" and value == value
        and (value >= 100 and "%.1f" or "%.4f"):format(value) or "-"
      line = line .. ("%12s"):format(text)
    end
    lines[#lines + 1] = line
  end
  io.stdout:write(table.concat(lines, "\n"), "\n")
end

-- ---- prediction ----------------------------------------------------------------------------

-- The images that predict= names, without masks: a folder, a pack, one image, or a list (CSV).
local function predict_source(where)
  if path.is_dir(where) or pack.is(where) then
    local source, subset = data.source(where, { split = "pool" })
    for _, one in ipairs(source.kind and { source } or source) do
      one.masks = nil
      if one.kind == "pack" then one.masks = false end
    end
    return source, subset
  end
  if not path.is_file(where) then
    error(("option predict: there is no folder %s, and no such file"):format(where), 0)
  end
  if where:lower():match("%.csv$") then return { kind = "list", path = where } end
  return { kind = "files", files = { where } }
end

-- For each image of a loader the name of its prediction, below the folder that all share.
local function output_names(loader)
  local shared = loader:name(1):match("^(.*)/") or ""
  for i = 2, #loader do
    while shared ~= "" and loader:name(i):sub(1, #shared + 1) ~= shared .. "/" do
      shared = shared:match("^(.*)/") or ""
    end
  end
  local names = {}
  for i = 1, #loader do names[i] = loader:name(i):sub(#shared + 1) end
  return path.pictures(names)
end

-- predictions/masks (0 and 255, or class numbers) and predictions/overlays, at the images' own
-- sizes.
local function write_predictions(self, o, run, model, outputs)
  local out, source, subset = run.dir .. "/predictions", predict_source(o.predict)
  local loader = test_loader(o, source, subset, model == nil)
  local names, count = output_names(loader), 0
  local function save(kind, name, picture_)
    local file = ("%s/%s/%s"):format(out, kind, name)
    lumen.fs.mkdir(file:match("^(.*)/"))
    lumen.image.save(file, picture_)
  end
  self.each(o, model, loader, function(pred, _, i, image)
    save("masks", names[i], outputs > 1 and pred or pred * 255)
    save("overlays", names[i], picture.overlay(image, pred:gt(0)))
    count = count + 1
  end, true)
  io.stdout:write(("%d images segmented into %s\n"):format(count, out))
  return count
end

function segment:run(o, run)
  local filter, model, name, outputs = o.model == "filter", nil, nil, 1
  local only_predict = o.predict ~= "" and (filter or not o.train)
  local source, subset, loader, classes
  if not only_predict then
    source, subset = split_of(o, run, o.test_split, o.test_images)
    loader = need_masks(o, test_loader(o, source, subset, filter))
    classes = class_names(o, loader)
    if classes and (filter or o.model == "segmentor") then
      error(("model=%s finds vessels, data %s has classes of them"):format(o.model, o.data), 0)
    end
  end
  local train = o.train and not filter and o.model ~= "segmentor"
  if train and o.test_split == "all" then
    error("test_split=all would measure on what was trained on; give train=false", 0)
  end
  if not filter then
    if o.model == "segmentor" then rawset(o, "init", segmentor_weights(o, run)) end
    model, name, outputs = build(o, run, not only_predict and (classes and #classes + 1 or 1) or nil)
    run.model = model
    if train then
      local validation
      run.loader, validation = training_loaders(o, run, loader)
      fit(self, o, run, name, validation, classes)
    end
    model:eval()
  end
  local result = {}
  if o.predict ~= "" then
    result.predicted = write_predictions(self, o, run, model, outputs)
  end
  if only_predict then return result end
  for key, value in next, test(self, o, run, model, loader, classes, source, subset) do
    result[key] = value
  end
  return result
end

return segment
