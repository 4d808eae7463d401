-- ARCADE, "syntax" phase as vessel against background (Popov et al., Scientific Data 2024):
-- 1000 frames to train on and 200 to validate, 512 x 512; main branches only are labelled.
-- Layout: root/train/images, root/train/masks, root/val/images, root/val/masks; the masks are
-- drawn from the published polygons. The test split here is the published validation split.
local data = require "lumen.data"

return {
  name = "arcade_vessel",
  about = "coronary angiograms, main branches labelled, 512 x 512",
  origin = "ARCADE challenge (MICCAI 2023), on zenodo.org",
  licence = "CC BY 4.0",
  splits = { "train", "test" },
  source = function(root, split)
    if split == "all" then split = "train" end
    local part = split == "test" and "val" or "train"
    root = data.root("arcade_vessel", root, part .. "/images")
    local images = ("%s/%s/images"):format(root, part)
    return { kind = "folder", images = images, masks = ("%s/%s/masks"):format(root, part) },
      1, data.count(images)
  end,
}
