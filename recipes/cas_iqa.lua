-- CAS-IQA (arXiv 2505.17619): how good is a synthetic angiography? A vision-language model looks
-- at the image and at related ones (the non-contrast frame it was made from, a contrast frame of
-- the same sequence) and gives it one score per metric.
--
-- What the paper says (its abstract is all that is public): the task; that related images help;
-- that a vision-language model is used; three task-specific metrics; MUST, which fuses visual
-- tokens along several paths and routes them to metric-specific branches; CAS-3K, 3,565 images.
--
-- What is ours, because the paper does not say it: the encoder, which images are the references,
-- the metrics (vessel, background, realism), five levels and their prompts, the equations of MUST
-- (lua/lumen/models/must.lua), the losses and their weights, how references are dropped, crops,
-- optimiser, learning rate, number of steps, the split, the rivals; and the data: cas_p is made,
-- not CAS-3K. Nothing here reproduces a number of the paper.
--   losses: fidelity as LIQE (Zhang et al. 2023), levels as Q-Align (Wu et al. 2024) with soft
--   labels, PLCC as in common toolboxes, balance as in sparse mixtures (Fedus et al. 2021).
--
-- score=DIR checkpoint=RUN scores images that nobody has rated: scores.csv and heat/<metric>/ of
-- the run directory (lua/lumen/rated/score.lua says what they hold). x_source.png and
-- x_contrast.png beside x.png are its non-contrast and its contrast frame; either may be missing.
-- A CSV file in the format of data=, without scores, may say it instead (references=, or score=).
local lumen = require "lumen"
local data, loss, metrics, models = lumen.data, lumen.loss, lumen.metrics, lumen.models
local optim, options, runs = lumen.optim, require "lumen.options", require "lumen.run"
local rated, scoring = data.rated, require "lumen.rated.score"

-- Options that make the model; scoring takes them from the run of the checkpoint.
local makes_model = { "model", "encoder", "depth", "width", "paths", "router", "text", "single", "branch_depth",
                      "vesselness", "size" }

local kinds = { "must", "ahiq", "maniqa", "liqe", "clip_iqa", "iqa_cnn" }

local cas_iqa = lumen.recipe {
  name = "cas_iqa",
  about = "Scores of synthetic angiographies, with references: MUST and its rivals. Design choices " ..
    "that the paper (arXiv 2505.17619) does not publish are ours; see the head of the file.",
  reaches = "srcc, plcc, krcc, rmse are means over the metrics, srcc_<metric> one metric's; on held-out cases.",
  options = {
    { "model", "must", "must or a rival: " .. table.concat(kinds, ", ", 2), choices = kinds },
    { "encoder", "vit_base", "the ViT behind it (vit_micro .. vit_huge), or clip: that of clip_weights" },
    { "depth", 0, "blocks of the encoder; 0: its own, or those of init", min = 0 },
    { "width", 0, "width of encoder, paths and branches; 0: the encoder's own", min = 0 },
    { "paths", "both", "references that MUST sees", choices = { "both", "source", "contrast", "none" } },
    { "router", "per_metric", "gates of MUST: its own for each metric, one for all, none (mean), or the " ..
      "largest alone (hard)", choices = { "per_metric", "shared", "mean", "hard" } },
    { "text", "scratch", "prompts: a text transformer trained along, CLIP's (clip_weights=), learned " ..
      "vectors, or none: a linear layer", choices = { "scratch", "clip", "prototype", "none" } },
    { "clip_weights", "", "published CLIP weights (.pt, .pth, .safetensors), for text=clip and encoder=clip" },
    { "vocabulary", "", "CLIP's file of byte pairs; empty: bytes" },
    { "single", false, "one score in place of one per metric" },
    { "branch_depth", 1, "blocks of a metric's branch", min = 1 },
    { "vesselness", true, "a second channel: Sato's filter" },
    { "fidelity", 1.0, "weight of the pairwise fidelity loss", min = 0 },
    { "level", 0.5, "weight of the cross-entropy of the levels; models without: of the squared error", min = 0 },
    { "plcc", 0.5, "weight of the correlation loss", min = 0 },
    { "balance", 0.01, "weight of the balance of the gates", min = 0 },
    { "drop_source", 0.05, "share of training images that lose their non-contrast frame", min = 0, max = 1 },
    { "drop_contrast", 0.05, "share that lose their contrast frame", min = 0, max = 1 },
    { "wrong", 0.0, "share of references, in training and test, that are another case's", min = 0, max = 1 },
    { "missing", 0.0, "share of references, in training and test, that are not there", min = 0, max = 1 },
    { "crop", 0.8, "smallest share of the image that a training crop covers; 1: the whole image", min = 0.01, max = 1 },
    { "turn", true, "training batches in all eight orientations, image and references alike" },
    { "jitter", 0.05, "largest change of brightness and contrast, of image and references alike", min = 0, max = 1 },
    { "held_out", 0.2, "share of the cases to measure on", min = 0.01, max = 0.99 },
    { "split_seed", 0, "which cases", min = 0 },
    { "handmade", true, "say what hand-made measures (recipes/handmade.lua) make of the same images" },
    { "score", "", "images to score, instead of training: a folder, in which x_source.png and " ..
      "x_contrast.png are the references of x.png, an image, or a CSV file as in data" },
    { "checkpoint", "", "with score: a run directory, or a file of weights" },
    { "references", "", "with score: a CSV file with the references of the folder's images" },
    { "data", "cas_p", "a dataset with ratings, a CSV file of rated images, or a folder with ratings.csv" },
    { "size", 224 }, { "epochs", 40 }, { "batch", 32 },
    { "lr", 8e-4 }, { "min_lr", 0.0 }, { "warmup", 0.05 }, { "weight_decay", 0.01 }, { "clip", 1.0 },
  },
  presets = {
    smoke = { size = 64, encoder = "vit_micro", depth = 2, images = 40, batch = 8, steps = 4, lr = 0.016 },
    tiny = { size = 64, encoder = "vit_micro", depth = 2, images = 2000, batch = 16, steps = 900, lr = 0.016 },
    small = { size = 128, encoder = "vit_micro", batch = 16, epochs = 20, lr = 0.008 },
    paper = { size = 224, encoder = "vit_base", batch = 32, epochs = 40 },
  },
}

local mean, std = 0.449, 0.226 -- of grey: the means of ImageNet's channels

local function make_loader(o, set, subset, training)
  local clip = o.encoder == "clip" and models.clip
  return data.loader {
    source = set.source, subset = subset, batch = o.batch, size = o.size, seed = o.seed,
    threads = o.workers, broken = o.broken, shuffle = training, drop_last = training,
    channels = clip and 3 or 1, mean = clip and clip.mean or { mean }, std = clip and clip.std or { std },
    vesselness = o.vesselness,
    crop = training and o.crop < 1 and { scale = { o.crop, 1 }, ratio = { 9 / 10, 10 / 9 } },
    augment = training and o.jitter > 0 and { brightness = o.jitter, contrast = o.jitter },
  }
end

local references = { "source", "contrast" }

-- Takes references away: has_* becomes 0 for those where keep (a number, or [B]) is 0.
local function keep_only(batch, name, keep)
  batch["has_" .. name] = batch["has_" .. name] * keep
  batch[name] = batch[name] * batch["has_" .. name]:reshape({ -1, 1, 1, 1 })
end

-- The batch in one of the eight orientations of a square.
local function turn(batch, rng)
  local draw = lumen.rand({ 3 }, { rng = rng }):totable()
  for _, name in ipairs { "image", "source", "contrast" } do
    local x = batch[name]
    if draw[1] < 0.5 then x = x:flip { dims = { 3 } } end
    if draw[2] < 0.5 then x = x:flip { dims = { 4 } } end
    if draw[3] < 0.5 then x = x:transpose(3, 4) end
    batch[name] = x
  end
end

-- Gives a share `wrong` of the images the references of another case, where the batch has one.
local function exchange(o, batch, cases, rng)
  local count = batch.image.shape[1]
  for _, name in ipairs(references) do
    local draw, other = lumen.rand({ count }, { rng = rng }):totable(), {}
    for i = 1, count do
      other[i] = i - 1
      if draw[i] < o.wrong then
        for step = 1, count - 1 do
          local j = (i - 1 + step * (name == "source" and 1 or -1)) % count
          if cases[batch.index[j + 1]:item() + 1] ~= cases[batch.index[i]:item() + 1] then
            other[i] = j
            break
          end
        end
      end
    end
    local index = lumen.tensor(other, { dtype = "i64" }):to(batch[name].device)
    batch[name] = lumen.index_select(batch[name], index, { dim = 1 })
    batch["has_" .. name] = lumen.index_select(batch["has_" .. name], index, { dim = 1 })
  end
end

-- The model of the options, for these metrics. vectors: CLIP's of its prompts, where they are known.
function cas_iqa.build(o, names, vectors)
  local clip
  if o.clip_weights ~= "" then
    clip = models.clip.load(o.clip_weights, { size = o.encoder == "clip" and o.size or nil,
      vocabulary = o.vocabulary ~= "" and o.vocabulary or nil })
  elseif o.encoder == "clip" or o.text == "clip" and not vectors then
    error(("option %s=clip needs clip_weights="):format(o.encoder == "clip" and "encoder" or "text"), 0)
  end
  if o.encoder == "clip" and o.vesselness then
    error("option encoder=clip needs vesselness=false: CLIP sees three channels, none of them that", 0)
  end
  local model = models[o.model] { model = o.encoder, encoder = o.encoder == "clip" and clip.visual or nil,
    size = o.size, channels = o.vesselness and 2 or 1, depth = o.depth > 0 and o.depth or nil,
    width = o.width > 0 and o.width or nil, metrics = names, paths = o.paths, router = o.router, text = o.text, clip = vectors or clip,
    single = o.single, branch_depth = o.branch_depth }
  return model:initialize(o.seed)
end

-- The loss of what the model says of a batch, and its parts. Replace it: r.loss = ...
function cas_iqa.loss(o, out, batch)
  local parts = { fidelity = loss.fidelity(out.scores, batch.scores), plcc = loss.plcc(out.scores, batch.scores) }
  local total = o.fidelity * parts.fidelity + o.plcc * parts.plcc
  parts.level = out.levels and loss.level_cross_entropy(out.levels, batch.scores)
    or loss.mse(out.scores, batch.scores)
  total = total + o.level * parts.level
  if out.gates and o.balance > 0 then
    parts.balance = loss.gate_balance(out.gates, out.present)
    total = total + o.balance * parts.balance
  end
  return total, parts
end

-- Takes a share of the references away: shares = { source =, contrast = }.
local function drop(batch, shares, rng)
  for _, name in ipairs(references) do
    local draw = lumen.rand({ batch.image.shape[1] }, { rng = rng })
    keep_only(batch, name, draw:ge(shares[name]):to("f32"):to(batch[name].device))
  end
end

-- What the data lacks by the options wrong and missing.
local function spoil(o, batch, cases, rng)
  if o.wrong > 0 then exchange(o, batch, cases, rng) end
  if o.missing > 0 then drop(batch, { source = o.missing, contrast = o.missing }, rng) end
end

-- What the model says of held-out images, and their ratings: two lists of rows.
local function evaluate(o, run, loader, cases, change)
  local given, said, step = {}, {}, 0
  for batch in loader:epoch(1) do
    lumen.no_grad(function()
      lumen.scope(function()
        step = step + 1
        for name, value in next, batch do
          if lumen.is_tensor(value) then batch[name] = value:to(run.device) end
        end
        spoil(o, batch, cases, { seed = o.seed, stream = "spoil", step = step })
        if change then change(batch) end
        local out = run.model(batch).scores:totable()
        for i, row in ipairs(batch.scores:totable()) do given[#given + 1], said[#said + 1] = row, out[i] end
      end)
    end)
  end
  return said, given
end

local function measure(set, said, given)
  local result = {}
  for _, what in ipairs { "srcc", "plcc", "krcc", "rmse" } do
    local sum = 0
    for m, name in ipairs(set.metrics) do
      local x, y = {}, {}
      for i = 1, #said do x[i], y[i] = said[i][m], given[i][m] end
      local value = metrics[what](x, y)
      result[what .. "_" .. name] = value
      sum = sum + value
    end
    result[what] = sum / #set.metrics
  end
  return result
end

-- Scores images that nobody has rated, with the model of a run.
local function score_images(self, o, run)
  local model = scoring.restore(self, o, makes_model)
  lumen.fs.write(run.dir .. "/options.lua", options.dump(self.rows, o))
  return scoring.write(o, run, model, function(set) return make_loader(o, set, nil, false) end)
end

function cas_iqa:run(o, run)
  if o.score ~= "" then return score_images(self, o, run) end
  for _, name in ipairs { "checkpoint", "references" } do
    if o[name] ~= "" then error(("option %s: it is for score="):format(name), 0) end
  end
  local set = rated.cached(rated.open(o.data, { images = o.images, size = o.size }))
  run:note_data(o.data, { metrics = table.concat(set.metrics, ","), images = #set.cases })
  local train, test = rated.split(set.cases, o.held_out, o.split_seed)
  local function cases_of(items)
    local list = {}
    for i, item in ipairs(items:totable()) do list[i] = set.cases[item + 1] end
    return list
  end
  local train_cases, test_cases = cases_of(train), cases_of(test)
  run.loader = make_loader(o, set, train, true)
  run.model = self.build(o, set.metrics)
  if o.init ~= "" then run.model:load_encoder(runs.weights(o.init), { mean = mean, std = std }) end
  run.model:to(run.device)
  run.optimizer = optim.adamw(run.model, { weight_decay = o.weight_decay, clip = o.clip, betas = { 0.9, 0.999 } })
  for epoch in run:epochs() do
    for batch in run:batches(epoch) do
      spoil(o, batch, train_cases, run.rng)
      drop(batch, { source = o.drop_source, contrast = o.drop_contrast }, run.rng)
      if o.turn then turn(batch, run.rng) end
      run:step(self.loss(o, run.model(batch), batch))
    end
  end
  run.model:eval()
  local loader = make_loader(o, set, test, false)
  local result = measure(set, evaluate(o, run, loader, test_cases))
  result.without = measure(set, evaluate(o, run, loader, test_cases, function(batch)
    for _, name in ipairs(references) do keep_only(batch, name, 0) end
  end))
  result.srcc_without, result.test_images = result.without.srcc, #loader
  if o.handmade then
    local best = run:stage("handmade", lumen.recipe "handmade", { data = o.data, images = o.images,
      held_out = o.held_out, split_seed = o.split_seed, threads = o.threads, preset = o.preset })
    result.handmade = { measure = best.measure }
    for name, value in next, best do
      if name:match("^srcc") then result.handmade[name] = value end
    end
  end
  return result
end

local function report_scores(m, run)
  local o = run.o
  io.stdout:write(("%d images scored by %s (%s, %d pixels; %s) into %s/scores.csv%s\n"):format(m.scored, o.model,
    o.encoder, o.size, o.checkpoint, run.dir, m.left_out > 0 and ("; %d not read"):format(m.left_out) or ""))
end

-- A table: the model's correlations for each metric, and those of the best hand-made measure.
function cas_iqa:report(m, run)
  if m.scored then return report_scores(m, run) end
  local o, names = run.o, {}
  for name in next, m do names[#names + 1] = name:match("^rmse_(.+)$") end
  table.sort(names)
  local function line(title, values, prefix)
    local text = ("%-32s"):format(title)
    for _, name in ipairs(names) do text = text .. ("%-14s"):format(("%.4f"):format(values[prefix .. "_" .. name])) end
    io.stdout:write(text, ("%.4f\n"):format(values[prefix]))
  end
  io.stdout:write(("%s on %s, %d held-out images (%s)\n%-32s"):format(o.model, o.data, m.test_images, run.dir, ""))
  for _, name in ipairs(names) do io.stdout:write(("%-14s"):format(name)) end
  io.stdout:write("mean\n")
  for _, what in ipairs { "srcc", "plcc", "krcc", "rmse" } do line(what, m, what) end
  line("srcc without references", m.without, "srcc")
  if m.handmade then line(("srcc of %s, by hand"):format(m.handmade.measure), m.handmade, "srcc") end
end

return cas_iqa
