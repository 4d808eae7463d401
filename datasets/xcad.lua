-- XCAD: 1,621 frames without labels to train on, 126 labelled ones to test on. Methods that
-- learn from labels split the labelled ones: the last 30 % by name are held out here.
local dataset = require "lumen.dataset"

return dataset.define {
  name = "xcad",
  about = "coronary angiograms with full vessel trees",
  paper = "Ma et al., ICCV 2021 (SSVS)",
  origin = "linked from the SSVS repository of AISIGSJTU on GitHub",
  licence = "not stated; for research, not to be passed on",
  tree = [[
  test/images, test/masks                                  as published: 126 labelled frames
  train/*                                                  frames without labels, for pools
or the labelled frames alone, masks of the images' names (above 127: vessel):
  images, masks
  pre_contrast                                             a few frames without labels]],
  size = { 512, 512 },
  folders = { "XCAD" },
  layouts = {
    { name = "published", parts = {
      { split = "train", held_out = 0.3, count = 126,
        source = { kind = "folder", images = "test/images", masks = "test/masks" } },
      { split = "unlabelled", source = dataset.below { "train" } } } },
    { name = "labelled", parts = {
      { split = "train", held_out = 0.3,
        source = { kind = "folder", images = "images", masks = "masks" } },
      { split = "unlabelled", optional = true, source = dataset.below { "pre_contrast" } } } },
  },
}
