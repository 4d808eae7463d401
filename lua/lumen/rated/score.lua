-- What `score=` of the recipe cas_iqa does: a trained model looks at images that nobody has rated.
--
-- scores.csv has a row per image, its scores empty where it could not be read:
--   image            its path in the folder
--   <metric>         1 (bad) to 5 (excellent), for each metric of the model
--   overall          the mean over the metrics
--   uncertainty      the mean over the metrics of <metric>_sd (the deviation of the overall score
--                    if the metrics err together)
--   <metric>_sd      standard deviation of the level distribution, in levels: how sure the model
--                    says it is, which is not calibrated. Regressors (ahiq, maniqa, clip_iqa,
--                    iqa_cnn) have no levels; empty, as is their uncertainty
--   non_contrast, contrast   the references that the model used
-- heat/<metric>/<image>.png is the image with the weights of its tokens, where the model has any:
-- as it is at a patch that counts no more than the average, yellow at four times that. They say
-- where the model looked for a score, which is not always where a defect is.
local core = require "lumen.core"
local checkpoint = require "lumen.run.checkpoint"
local find = require "lumen.rated.find"
local models = require "lumen.models.rated"
local options = require "lumen.options"
local path = require "lumen.path"
local picture = require "lumen.picture"
local rated = require "lumen.rated"

local score = {}

-- ---- the model -----------------------------------------------------------------------------

-- The run directory that a checkpoint is, or lies in (its checkpoints/step_N, its best); or nil.
local function run_of(where)
  local dir = path.is_dir(where) and where or where:match("^(.*)/[^/]*$") or "."
  for _ = 1, 3 do
    if path.is_file(dir .. "/options.lua") then return dir end
    dir = dir .. "/.."
  end
end

-- Options of the run `dir`, which has to be one of the recipe whose rows and name these are.
local function saved_options(recipe, names, dir)
  local file = dir .. "/options.lua"
  local saved = options.undump(core.fs.read(file), file)
  for _, name in ipairs(names) do
    local row = options.find(recipe.rows, name, recipe.name)
    local ok = saved[name] ~= nil and pcall(options.parse, row, saved[name])
    if not ok then
      error(("%s: not the options of a run of %s (%s is %s)"):format(file, recipe.name, name,
        tostring(saved[name])), 0)
    end
  end
  return saved
end

-- Names of the metrics that the run `dir` was trained on; nil when it does not say.
local function metrics_of(dir, data)
  local file = dir .. "/env.json"
  local env = core.fs.exists(file) and core.json.decode(core.fs.read(file), file)
  local facts = type(env) == "table" and type(env.data) == "table" and env.data[data]
  local list = {}
  for name in tostring(type(facts) == "table" and facts.metrics or ""):gmatch("[^,]+") do
    list[#list + 1] = name
  end
  return #list > 0 and list or nil
end

-- The model of o.checkpoint: recipe.build(o, metrics, CLIP's vectors of the prompts), filled. What
-- its run says of it (`names`: options that make a model) is set in o; where there is no run
-- around a file of weights, o has to say it. An option that contradicts the run is an error.
function score.restore(recipe, o, names)
  local where, metrics = o.checkpoint, nil
  if where == "" then error("score= needs checkpoint=, a run directory or a file of weights", 0) end
  local state, dir = checkpoint.weights(where), run_of(where)
  if dir then
    local saved = saved_options(recipe, names, dir)
    for _, name in ipairs(names) do
      local default = options.find(recipe.rows, name, recipe.name)[2]
      if o[name] ~= default and o[name] ~= saved[name] then
        error(("option %s: %s was trained with %s, not %s"):format(name, where,
          tostring(saved[name]), tostring(o[name])), 0)
      end
      rawset(o, name, saved[name])
    end
    if o.encoder == "clip" and o.clip_weights == "" then
      rawset(o, "clip_weights", saved.clip_weights) -- for the shape of its image side
    end
    metrics = metrics_of(dir, saved.data)
  end
  local model = recipe.build(o, metrics or models.metrics,
    state["score.prompts.vectors"] or state["prompts.vectors"])
  local ok, message = pcall(model.load_state_dict, model, state)
  if not ok then
    error(("option checkpoint: %s does not fit %s, encoder=%s size=%d: %s%s"):format(where, o.model,
      o.encoder, o.size, tostring(message), dir and "" or "\nhint: there is no options.lua near " ..
      "it: give the options it was trained with, or its run directory"), 0)
  end
  return model:eval()
end

-- ---- the images ----------------------------------------------------------------------------

-- A picture of the weights [L] of a grid of tokens over an image u8 [H, W]. They sum to 1; clear:
-- a weight of 1/L or less, yellow: 4/L or more.
-- -> tensor
--   > image = lumen.zeros({ 8, 8 }, { dtype = "u8" })
--   > score = require "lumen.rated.score"
--   > score.heat(image, lumen.tensor { 0.7, 0.1, 0.1, 0.1 }, { 2, 2 }):select(3, 1)[1]
--   u8 [8] {28, 28, 13, 2, 11, 11, 0, 0}
function score.heat(image, weights, grid)
  return core.no_grad(function()
    local map = (weights:reshape({ 1, 1, grid[1], grid[2] }) * (grid[1] * grid[2]) - 1) / 3
    map = core.resize(map:clamp({ min = 0, max = 1 }), { size = { image.shape[1], image.shape[2] },
      mode = "bilinear" })[1][1]
    return picture.mix(picture.rgb(image), picture.heat(map), map:sqrt() * 0.7)
  end)
end

local function field(value) return value and ("%.4f"):format(value) or "" end

local function quoted(text)
  return text:find('[,"\n\r]') and '"' .. text:gsub('"', '""') .. '"' or text
end

-- The scores of an image as fields: values, levels' probabilities (or nil) of its metrics.
local function fields_of(scores, levels)
  local fields, deviations, overall, uncertainty = {}, {}, 0, 0
  for m, value in ipairs(scores) do
    fields[m], overall = field(value), overall + value / #scores
    local variance = 0
    for l, p in ipairs(levels and levels[m] or {}) do variance = variance + p * (l - value) ^ 2 end
    deviations[m] = levels and variance ^ 0.5
    uncertainty = uncertainty + (deviations[m] or 0) / #scores
  end
  fields[#fields + 1] = field(overall)
  fields[#fields + 1] = field(levels and uncertainty)
  for m in ipairs(scores) do fields[#fields + 1] = field(deviations[m]) end
  return fields
end

-- Which references a model looks at, by the name of their column.
local function looked_at(model)
  local used = {}
  for _, name in ipairs(rawget(model, "paths") or rawget(model, "references") or {}) do
    used[name == "source" and "non_contrast" or name] = true
  end
  return used
end

-- Call visit(i, scores, levels or nil, tokens or nil, grid) for the images that can be read; a
-- batch goes to `device`.
local function each(model, loader, device, visit)
  for batch in loader:epoch(1) do
    core.scope(function()
      local out = core.no_grad(function()
        local there = {}
        for name, x in next, batch do there[name] = core.is_tensor(x) and x:to(device) or x end
        return model(there)
      end)
      local scores = out.scores:to("cpu"):totable()
      local levels = out.levels and out.levels:to("cpu"):totable()
      local tokens = out.tokens and out.tokens:to("cpu")
      for k, index in ipairs(batch.index:totable()) do
        visit(index + 1, scores[k], levels and levels[k], tokens and tokens[k], out.grid)
      end
    end)
  end
end

local function check_finite(o, name, scores)
  for _, value in ipairs(scores) do
    if value ~= value or value < -1e9 or value > 1e9 then
      error(("%s: the model of %s gives no number"):format(name, o.checkpoint), 0)
    end
  end
end

-- A path as it goes on in a folder, if it does.
local function inside(folder, file)
  return file:sub(1, #folder + 1) == folder .. "/" and file:sub(#folder + 2) or file
end

-- scores.csv: a row for each of `rows`, with its name, scored[i] of fields_of, if it has any, and
-- the references that were used.
local function write_table(file, model, rows, folder, scored)
  local columns, used = { "image" }, looked_at(model)
  for _, metric in ipairs(model.metrics) do columns[#columns + 1] = metric end
  table.move({ "overall", "uncertainty" }, 1, 2, #columns + 1, columns)
  for _, metric in ipairs(model.metrics) do columns[#columns + 1] = metric .. "_sd" end
  local lines = { table.concat(columns, ",") .. ",non_contrast,contrast" }
  for i, row in ipairs(rows) do
    local fields = { quoted(inside(folder, row.image)) }
    for k = 2, #columns do fields[k] = scored[i] and scored[i][k - 1] or "" end
    for _, reference in ipairs { "non_contrast", "contrast" } do
      local has = scored[i] and used[reference] and row[reference]
      fields[#fields + 1] = has and quoted(inside(folder, has)) or ""
    end
    lines[#lines + 1] = table.concat(fields, ",")
  end
  core.fs.write(file, table.concat(lines, "\n") .. "\n")
end

-- Scores the images of o.score with `model` into run.dir. open(set): their loader, in order, with
-- what the model was trained on done to them. Returns { scored =, left_out = }.
function score.write(o, run, model, open)
  local rows, folder = find(o.score, o.references ~= "" and o.references or nil)
  for _, row in ipairs(rows) do row.scores = {} end
  local set = { source = rated.source { rows = rows, metrics = {} } }
  local loader, whole = open(set), core.data.loader { source = set.source, size = 8, threads = 0 }
  local names, scored, count = {}, {}, 0
  for i, row in ipairs(rows) do names[i] = inside(folder, row.image) end
  local pictures = path.pictures(names)
  each(model:to(run.device), loader, run.device, function(i, scores, levels, tokens, grid)
    check_finite(o, rows[i].image, scores)
    scored[i], count = fields_of(scores, levels), count + 1
    local image = tokens and whole:rated(i).image
    for m, metric in ipairs(tokens and model.metrics or {}) do
      local file = ("%s/heat/%s/%s"):format(run.dir, metric, pictures[i])
      core.fs.mkdir(file:match("^(.*)/"))
      core.image.save(file, score.heat(image, tokens[m], grid))
    end
  end)
  if count == 0 then error(("option score: %s: no image can be read"):format(o.score), 0) end
  write_table(run.dir .. "/scores.csv", model, rows, folder, scored)
  return { scored = count, left_out = #rows - count }
end

return score
