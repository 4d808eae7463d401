-- CAXF: the in-house set of the VasoMIM papers, on request from their authors. Its published
-- form is not known; this is the form Lumen reads.
local dataset = require "lumen.dataset"

return dataset.define {
  name = "caxf",
  about = "frames of coronary fluoroscopy with vessel masks",
  paper = "Huang et al., AAAI 2026 (VasoMIM), arXiv 2508.10794",
  origin = "in-house; on request from the authors of the paper",
  licence = "not stated; ask its owners",
  tree = [[
  {train,test}/images, {train,test}/masks                  337 and 201 frames, masks of the
                                                           images' names, above 127: vessel]],
  folders = { "CAXF" },
  layouts = {
    { name = "split", parts = {
      { split = "train", count = 337,
        source = { kind = "folder", images = "train/images", masks = "train/masks" } },
      { split = "test", count = 201,
        source = { kind = "folder", images = "test/images", masks = "test/masks" } } } },
  },
}
