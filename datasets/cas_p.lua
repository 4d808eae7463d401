-- Synthetic angiographies with references and scores; made while they are read, no files. A
-- stand-in for CAS-3K (arXiv 2505.17619), which is not public: as many images (3,565) and as many
-- metrics (three), but made by lumen.vision.rated_phantom, one image a case, and rated by simulated
-- raters. Nothing measured on it says anything about CAS-3K.
return {
  name = "cas_p",
  about = "procedural rated angiographies: image, non-contrast and contrast frame, three scores",
  origin = "made by lumen.vision.rated_phantom",
  licence = "none needed",
  splits = { "train", "test" },
  metrics = { "vessel", "background", "realism" },
  native = 256,
  source = function(_, split, count, size)
    if count == 0 then count = 3565 end
    local train = math.max(1, count * 4 // 5)
    local first = split == "test" and math.min(train + 1, count) or 1
    local last = split == "train" and train or count
    return { kind = "rated_phantom", seed = 3, count = count, size = math.max(128, size) }, first, last
  end,
}
