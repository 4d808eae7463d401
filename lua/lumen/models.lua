-- lumen.models: the networks. models.mae{ model = "vit_base", size = 224 } and so on.
local files = { vit = "lumen.models.vit", mae = "lumen.models.mae",
                simmim = "lumen.models.simmim",
                unext = "lumen.models.unext", unet = "lumen.models.unet",
                segmenter = "lumen.models.segmenter",
                clip = "lumen.models.clip", rated = "lumen.models.rated",
                must = "lumen.models.must" }
local rivals = { "ahiq", "maniqa", "liqe", "clip_iqa", "iqa_cnn" } -- of must, in one file
for _, name in ipairs(rivals) do files[name] = "lumen.models.rivals" end

return setmetatable({}, {
  __index = function(models, name)
    if not files[name] then return nil end
    local found = require(files[name])
    if files[name] == "lumen.models.rivals" then found = found[name] end
    models[name] = found
    return found
  end,
  names = function() return files end,
})
