-- ARCADE, "syntax" phase with the 25 segments of the SYNTAX score as classes 1 to 25, in the
-- order of the published file (0 is background). Its category 26, stenosis, does not occur.
local dataset = require "lumen.dataset"

local segments = { "1", "2", "3", "4", "5", "6", "7", "8", "9", "9a", "10", "10a", "11", "12",
  "12a", "13", "14", "14a", "15", "16", "16a", "16b", "16c", "12b", "14b" }

local function published(split)
  return { kind = "coco", images = ("syntax/%s/images"):format(split), classes = segments,
           annotations = ("syntax/%s/annotations/%s.json"):format(split, split) }
end

return dataset.define {
  name = "arcade_segment",
  about = "coronary angiograms, 25 vessel segments (ARCADE-VS in the VasoMIM tables)",
  paper = "Popov et al., Scientific Data 11 (2024), doi:10.1038/s41597-023-02871-z",
  origin = "Zenodo, record 10390295 (ARCADE)",
  licence = "CC BY 4.0",
  tree = [[
  syntax/{train,val,test}/images/*.png                     1000, 200, 300 images
  syntax/{train,val,test}/annotations/{train,val,test}.json]],
  size = { 512, 512 },
  classes = segments,
  folders = { "arcade", "ARCADE" },
  layouts = {
    { name = "published", parts = {
      { split = "train", source = published "train", count = 1000 },
      { split = "val", source = published "val", count = 200 },
      { split = "test", source = published "test", count = 300 } } },
  },
}
