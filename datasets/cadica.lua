-- CADICA: frames of 668 angiogram videos of 42 patients, without vessel masks: a pool to
-- pre-train on. XA-170K takes 6,594 of the frames.
local dataset = require "lumen.dataset"

return dataset.define {
  name = "cadica",
  about = "frames of coronary angiogram videos, no vessel masks",
  paper = "Jimenez-Partinen et al., Expert Systems 41 (2024) e13708, arXiv 2402.00570",
  origin = "Mendeley Data, doi:10.17632/p9bpx9ctcv",
  licence = "not stated here; see the record",
  tree = [[
  selectedVideos/pN/vN/input/*.png, nonselectedVideos/pN/vN/input/*.png
or any folders of images]],
  size = { 512, 512 },
  folders = { "CADICA" },
  layouts = {
    { name = "published", parts = { { split = "train",
      source = dataset.below { "selectedVideos", "nonselectedVideos", pattern = "/input$" } } } },
    { name = "images", parts = { { split = "train", source = dataset.below { "" } } } },
  },
}
