-- Procedural angiograms with exact masks; made while they are read, no files. The splits are
-- different random streams.
return {
  name = "phantom",
  about = "procedural coronary angiograms with ground truth, default difficulty",
  origin = "made by lumen.vision.phantom",
  licence = "none needed",
  splits = { "train", "test" },
  source = function(_, split, count, size)
    local test = split == "test"
    if count == 0 then count = test and 200 or 2000 end
    return { kind = "phantom", preset = "default", seed = test and 2 or 1, count = count,
             size = math.max(160, size) }, 1, count
  end,
}
