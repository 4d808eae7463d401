-- DCA1 (Cervantes-Sanchez et al., Applied Sciences 2019), training part: 100 frames,
-- 300 x 300, full trees. Layout: root/images/*.png, root/masks/*.png of the same names.
-- The last 30 frames by name are held out.
local data = require "lumen.data"

return {
  name = "dca1",
  about = "coronary angiograms with full vessel trees, 300 x 300",
  origin = "http://personal.cimat.mx:8181/~ivan.cruz/DB_Angiograms.html",
  licence = "not stated; for research, not to be passed on",
  splits = { "train", "test" },
  source = function(root, split)
    root = data.root("dca1", root, "images")
    local total = data.count(root .. "/images")
    local source = { kind = "folder", images = root .. "/images", masks = root .. "/masks" }
    if split == "all" then return source, 1, total end
    local held_out = total * 3 // 10
    if split == "train" then return source, 1, total - held_out end
    return source, total - held_out + 1, total
  end,
}
