-- DCA1: 134 frames with full trees, by number; 100 to train on and 34 to test, as in most
-- papers. Where only images and masks of the first hundred are at hand, the last 30 % by name
-- are held out.
local core = require "lumen.core"
local dataset = require "lumen.dataset"

-- As published, 7.pgm and its mask 7_gt.pgm lie side by side.
local function side_by_side(dir)
  local files = {}
  for i = 1, 134 do
    local image, mask = ("%s/%d.pgm"):format(dir, i), ("%s/%d_gt.pgm"):format(dir, i)
    if core.fs.exists(image) and core.fs.exists(mask) then files[#files + 1] = { image, mask } end
  end
  return #files > 0 and { { kind = "files", files = files } } or {}
end

return dataset.define {
  name = "dca1",
  about = "coronary angiograms with full vessel trees, 300 x 300",
  paper = "Cervantes-Sanchez et al., Applied Sciences 9 (2019) 5507, doi:10.3390/app9245507",
  origin = "Centro de Investigacion en Matematicas (CIMAT), page DB_Angiograms of I. Cruz-Aceves",
  licence = "not stated; for research, not to be passed on",
  tree = [[
  N.pgm, N_gt.pgm                                          as published: N = 1 to 134
or, masks of the images' names:
  images, masks]],
  size = { 300, 300 },
  folders = { "DCA1", "Database_134_Angiograms" },
  layouts = {
    { name = "published", parts = { { split = "train", held_out = 34, count = 134,
      source = side_by_side, labelled = true } } },
    { name = "masks", parts = { { split = "train", held_out = 0.3,
      source = { kind = "folder", images = "images", masks = "masks" } } } },
  },
}
