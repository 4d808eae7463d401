-- Procedural angiograms of the hard preset; see phantom.lua.
return {
  name = "phantom_hard",
  about = "procedural coronary angiograms with ground truth, hard: the filter alone does as badly as on real frames",
  origin = "made by lumen.vision.phantom",
  licence = "none needed",
  splits = { "train", "test" },
  source = function(_, split, count, size)
    local test = split == "test"
    if count == 0 then count = test and 200 or 2000 end
    return { kind = "phantom", preset = "hard", seed = test and 2 or 1, count = count,
             size = math.max(160, size) }, 1, count
  end,
}
