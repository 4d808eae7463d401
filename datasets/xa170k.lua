-- XA-170K: what VasoMIM was pre-trained on, four public sets in one tree. The vessel masks
-- beside them (NAME_frangi) are not read: Lumen makes its own.
local dataset = require "lumen.dataset"

local function frames(name, count)
  return { split = "train", count = count, source = dataset.below { name } }
end

return dataset.define {
  name = "xa170k",
  about = "171,478 frames of coronary angiograms, no masks",
  paper = "Huang et al. 2026 (VasoMIM v2), arXiv 2602.11536",
  origin = "Hugging Face, dataset waha2000huang/XA-170K",
  licence = "that of its four sources",
  tree = [[
  cadica, syntax, xcad, coronarydominance                  6,594, 2,943, 1,621, 160,320 images]],
  folders = { "XA-170K", "xa-170k" },
  layouts = {
    { name = "published", parts = { frames("cadica", 6594), frames("syntax", 2943),
      frames("xcad", 1621), frames("coronarydominance", 160320) } },
  },
}
