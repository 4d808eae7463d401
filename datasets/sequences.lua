-- AngioData: frames of angiogram videos in a folder per run, PATIENT_RUN, frames from before
-- the contrast agent included; no labels. Neighbouring frames are alike.
local dataset = require "lumen.dataset"

return dataset.define {
  name = "sequences",
  about = "frames of coronary angiogram videos in a folder per run, no masks",
  origin = "AngioData",
  licence = "not stated; for research, not to be passed on",
  tree = [[
  PATIENT_RUN/frame_00000.jpg ...                          a folder per run]],
  size = { 512, 512 },
  folders = { "AngioData" },
  layouts = { { name = "runs", parts = { { split = "train", source = dataset.below { "" } } } } },
}
