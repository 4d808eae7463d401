-- What the hand-made measures of image quality say of rated images: nothing is trained but NIQE's
-- model of good images and BRISQUE's regression, both on the training cases. Measured on the same
-- held-out cases as recipes/cas_iqa.lua measures, at the images' own size (made images: 256 pixels).
-- Each measure has one value per image, which is compared with every rating; BRISQUE alone has a
-- model per rating.
local lumen = require "lumen"
local metrics, rated = lumen.metrics, lumen.data.rated

local handmade = lumen.recipe {
  name = "handmade",
  about = "PSNR, SSIM, MS-SSIM, GMSD, VIF, FSIM against both references, vessel SSIM and clDice, NIQE " ..
    "and BRISQUE fitted here: how well do they agree with the ratings?",
  reaches = "srcc is that of the measure that is best by the mean over the ratings (chosen on the " ..
    "test images: flattering); measures.csv has all.",
  training = false,
  options = {
    { "data", "cas_p", "a dataset with ratings, a CSV file of rated images, or a folder with ratings.csv" },
    { "images", 0, "use the first N images only; 0: all", min = 0 },
    { "held_out", 0.2, "share of the cases to measure on", min = 0.01, max = 0.99 },
    { "split_seed", 0, "which cases", min = 0 },
    { "measure", "", "the measure that the run reports; empty: the one that is best by the mean" },
    { "fit_images", 300, "training images that NIQE and BRISQUE are fitted on, at most", min = 2 },
    { "size", 256, "side of made images", min = 32 },
    { "seed", 0, "has no effect here", min = 0 },
    { "device", "cpu", "always cpu" },
    { "precision", "f32", "always f32" },
    { "threads", 0, "threads that compute; 0: all", min = 0 },
    { "out", "", "run directory; empty: a new one under runs/" },
    { "resume", false, "continue the run in out" },
  },
  presets = { smoke = { images = 40, size = 192, fit_images = 6 }, tiny = { images = 2000 }, small = {}, paper = {} },
}

-- NIQE's model of the contrast frames and, per rating, BRISQUE's of the images.
local function fit(o, set, loader)
  local frames, features, scores = {}, {}, {}
  for i = 1, math.min(#loader, o.fit_images) do
    local item = loader:rated(i)
    frames[#frames + 1] = i <= 100 and item.contrast or nil
    features[i] = metrics.brisque_features(item.image)
    scores[i] = item.scores
  end
  local all, given = lumen.cat(features, { dim = 1 }), lumen.stack(scores, { dim = 1 }):to("f64")
  local brisque = {}
  for m = 1, #set.metrics do
    brisque[m] = metrics.brisque_fit(all, given:select(2, m):contiguous())
  end
  local block = math.min(96, (math.min(frames[1].shape[1], frames[1].shape[2]) // 2) // 2 * 2)
  return #frames > 1 and metrics.niqe_fit(frames, { block = block, sharp = 0.75 }) or nil, brisque
end

-- Values of the measures and ratings of the held-out images: name -> f64 [n]. "brisque.vessel" is
-- BRISQUE's model of one rating, "rating.vessel" that rating.
local function compute(o, set, train, test)
  local function open(items) return lumen.data.loader { source = set.source, subset = items, size = 32, threads = 0 } end
  local niqe, brisque = fit(o, set, open(train))
  local loader = open(test)
  local lists, names = {}, nil
  local function add(name, value)
    lists[name] = lists[name] or {}
    table.insert(lists[name], value)
  end
  for i = 1, #loader do
    lumen.scope(function()
      local item = loader:rated(i)
      local found, score = metrics.handmade(item.image, item.source, item.contrast, { niqe = niqe })
      names = names or found
      if #found ~= #names then error(("%s lacks a reference that others have"):format(loader:name(i)), 0) end
      for k, name in ipairs(found) do add(name, score[1][k]:item()) end
      for m, name in ipairs(set.metrics) do
        add("brisque." .. name, metrics.brisque(item.image, brisque[m])[1]:item())
        add("rating." .. name, item.scores[m]:item())
      end
    end)
  end
  local values = {}
  for name, list in next, lists do values[name] = lumen.tensor(list, { dtype = "f64" }) end
  return values
end

local version = 1 -- of the values: raise it when a measure or a fit changes

-- The same, kept in the folder rated of lumen.data.cache(): they depend on the images alone, so
-- every model that is compared with them would compute them again.
local function values_of(o, set, train, test)
  local key = lumen.fs.hash_text(table.concat({ version, o.fit_images, table.concat(set.metrics, ","),
    rated.signature(set, train), rated.signature(set, test) }, " "))
  local folder = lumen.data.cache() .. "/rated"
  local file = ("%s/handmade-%s.safetensors"):format(folder, key)
  if not lumen.fs.exists(file) then
    local values = compute(o, set, train, test)
    lumen.fs.mkdir(folder)
    lumen.save(file, values)
  end
  return lumen.load(file)
end

local kinds = { "srcc", "plcc", "krcc" }

-- What a measure is worth: srcc, plcc and krcc by rating and as means over them.
local function agreement(set, values, name)
  local a = { name = name, srcc = 0, plcc = 0, krcc = 0 }
  for _, metric in ipairs(set.metrics) do
    local x, y = values[name] or values[name .. "." .. metric], values["rating." .. metric]
    for _, what in ipairs(kinds) do
      local value = metrics[what](x, y, what == "plcc" and { logistic = true } or nil)
      a[what .. "_" .. metric] = value
      a[what] = a[what] + value / #set.metrics
    end
  end
  return a
end

function handmade:run(o, run)
  local set = rated.open(o.data, { images = o.images, size = o.size })
  local train, test = rated.split(set.cases, o.held_out, o.split_seed)
  local values, names = values_of(o, set, train, test), { "brisque" }
  for name in next, values do
    if not name:find(".", 1, true) then names[#names + 1] = name end
  end
  table.sort(names)
  local lines, chosen = { "measure," .. table.concat(set.metrics, ",") .. ",mean,plcc,krcc" }, nil
  for _, name in ipairs(names) do
    local a, cells = agreement(set, values, name), { name }
    for _, metric in ipairs(set.metrics) do cells[#cells + 1] = ("%.4f"):format(a["srcc_" .. metric]) end
    for _, what in ipairs(kinds) do cells[#cells + 1] = ("%.4f"):format(a[what]) end
    lines[#lines + 1] = table.concat(cells, ",")
    local better = a.srcc == a.srcc and (not chosen or a.srcc > chosen.srcc)
    if o.measure == name or o.measure == "" and better then chosen = a end
  end
  if not chosen and o.measure ~= "" then
    error(("option measure: there is no %s (there are %s)"):format(o.measure, table.concat(names, ", ")), 0)
  end
  lumen.fs.write(run.dir .. "/measures.csv", table.concat(lines, "\n") .. "\n")
  local result = { test_images = test.shape[1], measure = chosen and chosen.name or "none" }
  for _, what in ipairs(kinds) do
    result[what] = chosen and chosen[what] or 0 / 0
    for _, metric in ipairs(set.metrics) do
      local name = what .. "_" .. metric
      result[name] = chosen and chosen[name] or 0 / 0
    end
  end
  return result
end

-- The table of all measures, from the run's measures.csv.
function handmade:report(_, run)
  local file = run.dir .. "/measures.csv"
  if not lumen.fs.exists(file) then return end
  io.stdout:write(("Hand-made measures: SRCC, and the means of SRCC, PLCC and KRCC (%s)\n"):format(run.dir))
  for line in io.lines(file) do
    local text = ""
    for cell in (line .. ","):gmatch("([^,]*),") do text = text .. ("%-18s"):format(cell) end
    io.stdout:write((text:gsub("%s+$", "")), "\n")
  end
end

return handmade
