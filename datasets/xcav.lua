-- XCAV: 111 videos of 59 patients, a few frames of each with masks; 175 labelled frames to
-- train on and 46 to test in the VasoMIM papers, whose lists are not published: the last 46
-- by patient and run are held out here, so that few patients stand on both sides.
local core = require "lumen.core"
local dataset = require "lumen.dataset"
local path = require "lumen.path"

-- patient/images/run/N.png with patient/ground_truth/run/N.png; a run's masks with the
-- catheter (runCATH) are left alone.
local function labelled(dir)
  local files = {}
  for _, patient in ipairs(core.fs.list(dir)) do
    local truth = ("%s/%s/ground_truth"):format(dir, patient)
    for _, run in ipairs(path.is_dir(truth) and core.fs.list(truth) or {}) do
      local folder = ("%s/%s/images/%s"):format(dir, patient, run)
      for _, name in ipairs(path.is_dir(folder) and core.fs.list(truth .. "/" .. run) or {}) do
        local image = folder .. "/" .. name
        if dataset.is_image(name) and core.fs.exists(image) then
          files[#files + 1] = { image, ("%s/%s/%s"):format(truth, run, name) }
        end
      end
    end
  end
  return #files > 0 and { { kind = "files", files = files } } or {}
end

return dataset.define {
  name = "xcav",
  about = "frames of coronary angiogram videos with vessel masks",
  paper = "Wu et al., CVPR 2025 (DeNVeR), arXiv 2406.01591",
  origin = "linked from the DeNVeR repository of kirito878 on GitHub",
  licence = "not stated; for research, not to be passed on",
  tree = [[
  PATIENT/images/RUN/00000.png ..., PATIENT/ground_truth/RUN/00031.png ...    as published
or, split, masks of the images' names:
  {train,test}/images, {train,test}/masks]],
  size = { 512, 512 },
  folders = { "XCAV", "xca_dataset" },
  layouts = {
    { name = "published", parts = { { split = "train", held_out = 46, count = 221,
      source = labelled, labelled = true } } },
    { name = "split", parts = {
      { split = "train", count = 175,
        source = { kind = "folder", images = "train/images", masks = "train/masks" } },
      { split = "test", count = 46,
        source = { kind = "folder", images = "test/images", masks = "test/masks" } } } },
  },
}
