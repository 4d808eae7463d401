-- SYNTAX: key frames of angiograms with SYNTAX scores, without vessel masks: a pool to
-- pre-train on (2,943 frames in XA-170K).
local dataset = require "lumen.dataset"

return dataset.define {
  name = "syntax",
  about = "key frames of coronary angiograms with SYNTAX scores, no vessel masks",
  paper = "Mahmoudi et al., Scientific Data 12 (2025) 471",
  origin = "figshare, dataset 25801447 (X-Ray Angiography Images and SYNTAX-Score Dataset)",
  licence = "not stated here; see the record",
  tree = [[
  any folders of images]],
  folders = { "SYNTAX" },
  layouts = { { name = "images", parts = { { split = "train", source = dataset.below { "" } } } } },
}
