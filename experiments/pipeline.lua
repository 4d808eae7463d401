-- What the experiments of this folder share: three stages (the segmentor learns from the vessel
-- filter, an encoder is pre-trained without labels, the encoder is fine-tuned with few), their
-- sizes, and the rows that stand in every comparison. In every row the same images are
-- labelled: their choice depends on the seed alone.
local pipeline = {}

pipeline.options = {
  { "data", "phantom", "labelled data set: a name (see datasets/) or a folder" },
  { "root", "", "its folder" },
  { "pool", "", "data set to pre-train on, without labels; empty: the training split of data" },
  { "pool_root", "", "its folder" },
  { "labels", "", "labelled images, a count or a share; empty: as the preset has it" },
}

-- Options of the stages by preset, beyond the recipes' own presets of the same name.
-- tiny: 90 s for a cell on one core, with frames of any size.
local sizes = {
  smoke = {},
  tiny = { finetune = { test_images = 200 } },
  small = { finetune = { labels = "10%" } },
  paper = {},
}
pipeline.presets = { smoke = { seeds = "0,1", jobs = 2, threads = 2 },
                     tiny = { seeds = "0,1", jobs = 2, threads = 2 }, small = {}, paper = {} }

local function stage_options(o, stage, values)
  local all = {}
  for _, source in ipairs { (sizes[o.preset] or {})[stage] or {}, values } do
    for name, value in next, source do all[name] = value end
  end
  return all
end

-- Where a stage that learns without labels takes its images from.
local function pool(o, stage, values)
  values.data = o.pool ~= "" and o.pool or o.data
  values.root = o.pool ~= "" and o.pool_root or o.root
  return stage_options(o, stage, values)
end

function pipeline.stages(o)
  local finetune = { init = "@pretrain", data = o.data, root = o.root, label_seed = "@seed" }
  if o.labels ~= "" then finetune.labels = o.labels end
  return {
    { name = "segmentor", recipe = "segmentor", options = pool(o, "segmentor", {}) },
    { name = "pretrain", recipe = "vasomim",
      options = pool(o, "pretrain", { segmentor = "@segmentor" }) },
    { name = "finetune", recipe = "segment", options = stage_options(o, "finetune", finetune) },
  }
end

-- The row of another way to pre-train.
function pipeline.pretrained(o, name, recipe)
  return { name, pretrain = { recipe = recipe, options = pool(o, "pretrain", {}) } }
end

-- The control: the same encoder, pre-trained to predict the filter's mask directly.
function pipeline.control(o) return pipeline.pretrained(o, "control", "pseudo_label") end

pipeline.scratch = { "from scratch", finetune = { options = { init = "" } } }

return pipeline
