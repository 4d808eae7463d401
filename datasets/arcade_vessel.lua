-- ARCADE, "syntax" phase as vessel against background; main branches only are labelled.
local dataset = require "lumen.dataset"

local function published(split)
  return { kind = "coco", images = ("syntax/%s/images"):format(split), classes = "binary",
           annotations = ("syntax/%s/annotations/%s.json"):format(split, split) }
end

local function masks(split)
  return { kind = "folder", images = split .. "/images", masks = split .. "/masks" }
end

return dataset.define {
  name = "arcade_vessel",
  about = "coronary angiograms, main branches labelled (ARCADE-V in the VasoMIM tables)",
  paper = "Popov et al., Scientific Data 11 (2024), doi:10.1038/s41597-023-02871-z",
  origin = "Zenodo, record 10390295 (ARCADE)",
  licence = "CC BY 4.0",
  tree = [[
  syntax/{train,val,test}/images/*.png                     as published: 1000, 200, 300 images
  syntax/{train,val,test}/annotations/{train,val,test}.json
or, converted to masks of the images' names (0 background, 255 vessel):
  {train,val,test}/images, {train,val,test}/masks]],
  size = { 512, 512 },
  folders = { "arcade", "ARCADE" },
  layouts = {
    { name = "published", parts = {
      { split = "train", source = published "train", count = 1000 },
      { split = "val", source = published "val", count = 200 },
      { split = "test", source = published "test", count = 300 } } },
    { name = "masks", parts = {
      { split = "train", source = masks "train", count = 1000 },
      { split = "val", source = masks "val", count = 200 },
      { split = "test", source = masks "test", count = 300 } } },
  },
}
