-- Rated phantoms: repeatable; the same anatomy and the same scores at every size; the references
-- belong to the image; each score follows its own defect and nothing else.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local make = lumen.vision.rated_phantom

local function f64(x) return x:to("f64") end
local function mean(x) return f64(x):mean():item() end
local function apart(a, b) return mean((f64(a) - f64(b)):abs()) end

TestRatedPhantom = {}

function TestRatedPhantom.test_shapes_types_ranges()
  local r = make { size = 64, seed = 1, index = 2 }
  for _, name in ipairs { "image", "source", "contrast" } do
    lu.assertEquals(r[name].dtype, "u8")
    lu.assertEquals(r[name].shape, { 64, 64 })
  end
  lu.assertEquals(make {}.image.shape, { 256, 256 })
  for index = 0, 40 do
    r = make { size = 32, seed = 1, index = index }
    for k = 1, 3 do
      local score, severity = r.scores[k]:item(), r.severities[k]:item()
      lu.assertTrue(score >= 1 and score <= 5 and severity >= 0 and severity <= 1)
    end
  end
end

function TestRatedPhantom.test_same_numbers_same_bits()
  for _, preset in ipairs { "default", "hard" } do
    local o = { size = 48, seed = 5, index = 9, preset = preset }
    local a, b = make(o), make(o)
    for _, name in ipairs { "image", "source", "contrast", "scores", "severities" } do
      helper.assert_equal(a[name], b[name], name)
    end
    o.index = 10
    lu.assertTrue(apart(a.image, make(o).image) > 1)
    o.index, o.seed = 9, 6
    lu.assertTrue(apart(a.image, make(o).image) > 1)
  end
end

-- The non-contrast frame is that of the plain phantom.
function TestRatedPhantom.test_the_case_is_a_phantom()
  local o = { size = 96, seed = 4, index = 1 }
  helper.assert_equal(make(o).source,
    lumen.vision.phantom { size = 96, seed = 4, index = 1, pre_contrast = true }.pre_contrast)
end

function TestRatedPhantom.test_scores_do_not_depend_on_the_size()
  for index = 0, 3 do
    local a = make { size = 40, seed = 2, index = index }
    for _, size in ipairs { 128, 200 } do
      local b = make { size = size, seed = 2, index = index }
      helper.assert_equal(a.scores, b.scores)
      helper.assert_equal(a.severities, b.severities)
    end
  end
end

-- Cases at 128 pixels, made once.
local cases
local function all()
  if cases then return cases end
  cases = {}
  for index = 0, 79 do
    local r = make { size = 128, seed = 7, index = index }
    cases[index + 1] = { r = r, severity = r.severities:totable(), score = r.scores:totable() }
  end
  return cases
end

local function correlation(x, y)
  local a, b = lumen.tensor(x, { dtype = "f64" }), lumen.tensor(y, { dtype = "f64" })
  a, b = a - a:mean(), b - b:mean()
  return ((a * b):sum() / ((a * a):sum() * (b * b):sum()):sqrt()):item()
end

local function column(field, k)
  local list = {}
  for i, c in ipairs(all()) do list[i] = c[field][k] end
  return list
end

function TestRatedPhantom.test_scores_follow_the_severities()
  for k = 1, 3 do
    lu.assertTrue(correlation(column("severity", k), column("score", k)) < -0.85)
  end
  for k = 1, 3 do -- and the defects are independent of each other
    for j = 1, k - 1 do
      lu.assertTrue(math.abs(correlation(column("severity", k), column("severity", j))) < 0.4)
    end
  end
end

-- Without a defect the score is high, and every score is used.
function TestRatedPhantom.test_perfect_and_bad_ones_exist()
  for k = 1, 3 do
    local low, high = 5, 1
    for _, c in ipairs(all()) do
      low, high = math.min(low, c.score[k]), math.max(high, c.score[k])
    end
    lu.assertTrue(low < 2.5 and high > 4.6, ("metric %d: %g to %g"):format(k, low, high))
  end
end

-- What the source shows: where the background is intact, S differs from N by the vessels alone.
function TestRatedPhantom.test_background_defects_are_seen_against_the_source()
  local change = {}
  for i, c in ipairs(all()) do
    -- medians of rows ignore vessels; gain and offset are taken out by normalising
    local a, b = f64(c.r.image), f64(c.r.source)
    a, b = (a - a:mean()) / (f64(a):var():sqrt() + 1), (b - b:mean()) / (b:var():sqrt() + 1)
    change[i] = (a - b):abs():mean():item()
  end
  lu.assertTrue(correlation(change, column("severity", 2)) > 0.5)
end

-- Missing branches are seen against the contrast frame: vesselness that S has nowhere near.
function TestRatedPhantom.test_vessel_defects_are_seen_against_the_contrast_frame()
  local source = { kind = "rated_phantom", seed = 7, count = 80, size = 128 }
  local loader <close> = lumen.data.loader { source = source, size = 64, batch = 80, channels = 1,
                                             vesselness = true, threads = 2 }
  local batch = loader:epoch(1)()
  local contrast, image = batch.contrast:select(2, 2), batch.image:slice(2, 2, 2)
  local near = lumen.max_pool2d(image, { size = 7, stride = 1, padding = 3 }):select(2, 1)
  local missing = (contrast - lumen.minimum(contrast, near)):mean { 2, 3 }
  lu.assertTrue(correlation(missing:totable(), column("severity", 1)) > 0.3)
end

-- Gain and offset are drawn anew for each image and are no part of any score.
function TestRatedPhantom.test_nuisance_is_there()
  local ratio = {}
  for _, c in ipairs(all()) do
    if c.severity[2] == 0 then
      ratio[#ratio + 1] = mean(c.r.image) / mean(c.r.source)
    end
  end
  table.sort(ratio)
  lu.assertTrue(#ratio > 3 and ratio[#ratio] / ratio[1] > 1.08)
end

function TestRatedPhantom.test_errors()
  local function fails(text, o) lu.assertErrorMsgContains(text, make, o) end
  fails("phantom: size 31", { size = 31 })
  fails("phantom: size 1025", { size = 1025 })
  fails("rated_phantom: seed is -1", { seed = -1 })
  fails("rated_phantom: there is no preset 'hrd'", { preset = "hrd" })
  fails("did you mean", { sise = 64 })
end

helper.run()
