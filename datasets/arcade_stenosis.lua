-- ARCADE, "stenosis" phase: narrowed places against background. Its training part repeats
-- about a quarter of the frames of the syntax phase with another grey curve.
local dataset = require "lumen.dataset"

local function published(split)
  return { kind = "coco", images = ("stenosis/%s/images"):format(split), classes = "binary",
           annotations = ("stenosis/%s/annotations/%s.json"):format(split, split) }
end

local function flat(split)
  return { kind = "coco", images = split .. "/images", classes = "binary",
           annotations = split .. "/annotations.json" }
end

return dataset.define {
  name = "arcade_stenosis",
  about = "coronary angiograms, stenoses outlined (ARCADE-S in the VasoMIM tables)",
  paper = "Popov et al., Scientific Data 11 (2024), doi:10.1038/s41597-023-02871-z",
  origin = "Zenodo, record 10390295 (ARCADE)",
  licence = "CC BY 4.0",
  tree = [[
  stenosis/{train,val,test}/images/*.png                   as published: 1000, 200, 300 images
  stenosis/{train,val,test}/annotations/{train,val,test}.json
or
  {train,val,test}/images, {train,val,test}/annotations.json]],
  size = { 512, 512 },
  folders = { "arcade", "ARCADE" },
  layouts = {
    { name = "published", parts = {
      { split = "train", source = published "train", count = 1000 },
      { split = "val", source = published "val", count = 200 },
      { split = "test", source = published "test", count = 300 } } },
    { name = "flat", parts = {
      { split = "train", source = flat "train", count = 1000 },
      { split = "val", source = flat "val", count = 200 },
      { split = "test", source = flat "test", count = 300 } } },
  },
}
