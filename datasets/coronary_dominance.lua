-- CoronaryDominance: 1,574 studies, many videos each, without vessel masks: a pool to pre-train
-- on (160,320 frames in XA-170K). It comes as videos in DICOM or array files; `lumen dicom`
-- turns DICOM runs into folders of frames.
local dataset = require "lumen.dataset"

return dataset.define {
  name = "coronary_dominance",
  about = "frames of coronary angiogram videos with dominance labels, no vessel masks",
  paper = "Kruzhilov et al., Scientific Data 12 (2025) 341, arXiv 2309.06958",
  origin = "Hugging Face, dataset BearSubj13/CoronaryDominance",
  licence = "MIT",
  tree = [[
  any folders of frames]],
  folders = { "CoronaryDominance", "coronarydominance" },
  layouts = { { name = "images", parts = { { split = "train", source = dataset.below { "" } } } } },
}
