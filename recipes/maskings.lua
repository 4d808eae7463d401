-- A picture of masking strategies: what each of them hides, on the same images. To see one of
-- your own: build/lumen recipes/maskings.lua masking=my_masking.lua out=/tmp/look
local lumen = require "lumen"
local data, masking, models, picture = lumen.data, lumen.masking, lumen.models, lumen.picture
local weights = require("lumen.run").weights

local maskings = lumen.recipe {
  name = "maskings",
  about = "Draws what masking strategies hide: images/maskings.png, a row per image; columns: " ..
    "the image, then " .. masking.list .. " (attention where init gives a model).",
  training = false,
  options = {
    { "masking", "all", "all, or one of them, or a Lua file" },
    { "data", "phantom", "dataset name (see datasets/) or a folder of images" },
    { "root", "", "folder of a named dataset" },
    { "images", 2, "how many, the first of the training split", min = 1, max = 64 },
    { "size", 224, "side of an image in pixels", min = 8 },
    { "patch", 16, "side of a patch in pixels", min = 1 },
    { "mask_ratio", 0.6, "share of patches hidden", min = 0.01, max = 0.99 },
    { "guidance", 0.5, "share of these that the guide chooses (guided) or that are the " ..
      "hardest (hardest)", min = 0, max = 1 },
    { "init", "", "weights of a masked autoencoder, whose errors and attention are then used; " ..
      "without: hardest is where the guide, the filter's mask, is largest" },
    { "model", "vit_base", "model of init" },
    { "seed", 0, "the same seed gives the same picture", min = 0 },
    { "out", "", "run directory; empty: a new one under runs/" },
    { "resume", false, "a finished directory is left as it is" },
    { "device", "auto", "auto, cpu, cuda or cuda:1" },
    { "precision", "f32", "arithmetic", choices = { "f32" } },
    { "threads", 0, "threads that compute; 0: all", min = 0 },
  },
}

-- Functions that measure a model on the images, as recipe vasomim hands them to a masking.
local function measures(o, run, image)
  if o.init == "" then return {} end
  local model = models.mae { model = o.model, size = o.size, patch = o.patch }
  model:load_state_dict(weights(o.init))
  local half = { ratio = 0.5, grid = model.grid, count = o.images, rng = run.rng }
  return {
    errors = function() return model:errors(image, masking.random(nil, half)) end,
    attention = function() return model:attention(image) end,
  }
end

function maskings:run(o, run)
  local source, subset = data.source(o.data, { root = o.root, split = "train", count = o.images,
                                                size = o.size })
  local loader = data.loader { source = source, subset = subset, batch = o.images, size = o.size,
    mean = data.mean, std = data.std, pseudo_mask = true, cache = data.cache() }
  local batch = loader:epoch(1)()
  local count = batch.image.shape[1]
  local names = o.masking == "all" and masking.names or { o.masking }
  local side = o.size // o.patch
  local given = measures(o, run, batch.image)
  local rows = {}
  for i = 1, count do rows[i] = { picture.denormalize(batch.image[i]) } end
  lumen.no_grad(function()
    for _, name in ipairs(names) do
      if name ~= "attention" or given.attention then
        local options = { ratio = o.mask_ratio, share = o.guidance, grid = { side, side },
          rng = { seed = o.seed, stream = "masking" }, image = batch.image, count = count,
          errors = given.errors, attention = given.attention }
        local m = masking.draw(masking.find(name), batch.vessel_mask, options)
        for i = 1, count do
          table.insert(rows[i], picture.masked(rows[i][1], m.mask[i], { side, side },
            { 250, 240, 215 }))
        end
      end
    end
  end)
  run:image("maskings", picture.grid(rows))
  io.stdout:write(("%s/images/maskings.png\n"):format(run.dir))
  return { images = count }
end

return maskings
