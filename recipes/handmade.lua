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
    { "fit_images", 300, "training images that NIQE and BRISQUE are fitted on, at most", min = 2 },
    { "size", 256, "side of made images", min = 32 },
    { "seed", 0, "has no effect here", min = 0 },
    { "device", "cpu", "always cpu" },
    { "precision", "f32", "always f32" },
    { "threads", 0, "threads that compute; 0: all", min = 0 },
    { "out", "", "run directory; empty: a new one under runs/" },
    { "resume", false, "continue the run in out" },
  },
  presets = { smoke = { images = 10, size = 64, fit_images = 6 }, tiny = { images = 1500 }, small = {}, paper = {} },
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

local function mean(list) return lumen.tensor(list, { dtype = "f64" }):mean():item() end

function handmade:run(o, run)
  local set = rated.open(o.data, { images = o.images, size = o.size })
  local train, test = rated.split(set.cases, o.held_out, o.split_seed)
  local function open(items) return lumen.data.loader { source = set.source, subset = items, size = 32, threads = 0 } end
  local niqe, brisque = fit(o, set, open(train))
  local loader = open(test)
  local names, values, given = nil, {}, {}
  for i = 1, #loader do
    lumen.scope(function()
      local item = loader:rated(i)
      local found, score = metrics.handmade(item.image, item.source, item.contrast, { niqe = niqe })
      names = names or found
      if #found ~= #names then error(("%s lacks a reference that others have"):format(loader:name(i)), 0) end
      values[i], given[i] = score[1]:totable(), item.scores:totable()
      for m = 1, #set.metrics do
        table.insert(values[i], metrics.brisque(item.image, brisque[m])[1]:item())
      end
    end)
  end
  local result = { measures = {} }
  local lines, best = { "measure," .. table.concat(set.metrics, ",") .. ",mean,plcc,krcc" }, nil
  local function column(list, k)
    local x = {}
    for i, row in ipairs(list) do x[i] = row[k] end
    return x
  end
  for k = 1, #names + 1 do
    local row = {}
    for m = 1, #set.metrics do
      local x, y = column(values, k <= #names and k or #names + m), column(given, m)
      row[m] = { srcc = metrics.srcc(x, y), krcc = metrics.krcc(x, y), plcc = metrics.plcc(x, y, { logistic = true }) }
    end
    local name, texts = names[k] or "brisque", {}
    local summary = { name = name, rows = row }
    for _, what in ipairs { "srcc", "plcc", "krcc" } do
      local list = {}
      for m = 1, #set.metrics do list[m] = row[m][what] end
      summary[what] = mean(list)
    end
    for m = 1, #set.metrics do texts[m] = ("%.4f"):format(row[m].srcc) end
    lines[#lines + 1] = ("%s,%s,%.4f,%.4f,%.4f"):format(name, table.concat(texts, ","),
      summary.srcc, summary.plcc, summary.krcc)
    result.measures[name] = summary.srcc
    if summary.srcc == summary.srcc and (not best or summary.srcc > best.srcc) then best = summary end
  end
  lumen.fs.write(run.dir .. "/measures.csv", table.concat(lines, "\n") .. "\n")
  for _, what in ipairs { "srcc", "plcc", "krcc" } do
    result[what] = best and best[what] or 0 / 0
    for m, name in ipairs(set.metrics) do
      result[what .. "_" .. name] = best and best.rows[m][what] or 0 / 0
    end
  end
  result.best, result.test_images = best and best.name or "none", #loader
  return result
end

-- The table of all measures, from the run's measures.csv.
function handmade:report(_, run)
  local file = run.dir .. "/measures.csv"
  if not lumen.fs.exists(file) then return end
  io.stdout:write(("Hand-made measures: SRCC, and the means of SRCC, PLCC and KRCC (%s)\n"):format(run.dir))
  for line in io.lines(file) do
    local text = ""
    for cell in (line .. ","):gmatch("([^,]*),") do text = text .. ("%-14s"):format(cell) end
    io.stdout:write((text:gsub("%s+$", "")), "\n")
  end
end

return handmade
