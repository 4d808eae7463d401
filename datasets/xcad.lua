-- XCAD (Ma et al., MICCAI 2021), labelled training part: 100 frames, 512 x 512, full trees.
-- Layout: root/images/*.png, root/masks/*.png of the same names (above 127: vessel).
-- There is no official test part among them: the last 30 frames by name are held out.
local data = require "lumen.data"

return {
  name = "xcad",
  about = "coronary angiograms with full vessel trees, 512 x 512",
  origin = "https://github.com/AISIGSJTU/SSVS",
  licence = "not stated; for research, not to be passed on",
  splits = { "train", "test" },
  source = function(root, split)
    root = data.root("xcad", root, "images")
    local total = data.count(root .. "/images")
    local source = { kind = "folder", images = root .. "/images", masks = root .. "/masks" }
    if split == "all" then return source, 1, total end
    local held_out = total * 3 // 10
    if split == "train" then return source, 1, total - held_out end
    return source, total - held_out + 1, total
  end,
}
