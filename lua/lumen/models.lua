-- lumen.models: the networks. models.mae{ model = "vit_base", size = 224 } and so on.
local files = { vit = "lumen.models.vit", mae = "lumen.models.mae",
                simmim = "lumen.models.simmim",
                unext = "lumen.models.unext", unet = "lumen.models.unet",
                segmenter = "lumen.models.segmenter",
                clip = "lumen.models.clip", rated = "lumen.models.rated",
                must = "lumen.models.must" }

return setmetatable({}, {
  __index = function(models, name)
    if files[name] then
      models[name] = require(files[name])
      return models[name]
    end
  end,
  names = function() return files end,
})
