-- The recipe of rated images: every model and option trains, a resumed run equals the
-- uninterrupted one, references matter where they are said to, and bad options say so.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local log, state = helper.log_rows, helper.weights

io.stderr:setvbuf("full")

local function start(values, recipe)
  for key, value in next, { preset = "smoke", threads = 1, workers = 1, handmade = false } do
    if values[key] == nil then values[key] = value end
  end
  return lumen.run.execute(recipe or lumen.recipe "cas_iqa", values)
end

TestCasIqa = {}

function TestCasIqa:setUp() self.dir = helper.temporary_folder() end
function TestCasIqa:tearDown() helper.remove_folder(self.dir) end

function TestCasIqa:test_result_and_resume()
  local whole, part = self.dir .. "/whole", self.dir .. "/part"
  local m = start { out = whole, handmade = true }
  lu.assertEquals(#log(whole), 4)
  lu.assertEquals(m.test_images, 8)
  local read = lumen.json.decode(lumen.fs.read(whole .. "/result.json")).metrics
  for _, what in ipairs { "srcc", "plcc", "krcc", "rmse" } do
    local sum = 0
    for _, name in ipairs { "vessel", "background", "realism" } do sum = sum + read[what .. "_" .. name] end
    lu.assertAlmostEquals(read[what], sum / 3, 1e-12)
    lu.assertNotNil(read.without[what])
  end
  lu.assertStrContains(lumen.fs.read(whole .. "/stages/handmade/measures.csv"), "\n" .. read.handmade.measure .. ",")
  -- The same run, ended at its third step.
  local recipe, steps = lumen.recipe "cas_iqa", 0
  local loss = recipe.loss
  function recipe.loss(...)
    steps = steps + 1
    if steps == 3 then error("stopped on purpose") end
    return loss(...)
  end
  lu.assertFalse((pcall(start, { out = part, save_every = 1 }, recipe)))
  start { out = part, save_every = 1, resume = true }
  lu.assertEquals(log(part), log(whole))
  lu.assertEquals(state(part), state(whole))
end

function TestCasIqa:test_every_model()
  for _, model in ipairs { "ahiq", "maniqa", "liqe", "clip_iqa", "iqa_cnn" } do
    local m = start { out = self.dir .. "/" .. model, model = model, steps = 1, images = 20, text = "prototype" }
    lu.assertTrue(m.rmse < 3, model)
  end
end

function TestCasIqa:test_every_way_through_must()
  local rows = { { paths = "none" }, { paths = "source", router = "shared" }, { paths = "contrast", router = "hard" },
    { router = "mean", single = true, width = 32 }, { text = "none", vesselness = false, turn = false, crop = 1 },
    { wrong = 1, missing = 0.5, text = "prototype" }, { fidelity = 0, plcc = 0, balance = 0 } }
  for i, row in ipairs(rows) do
    row.out, row.steps, row.images = self.dir .. "/" .. i, 1, 20
    lu.assertTrue(start(row).rmse < 3, i)
  end
end

-- Without references every reference is as good as none.
function TestCasIqa:test_no_path_no_reference()
  local m = start { out = self.dir .. "/none", paths = "none", steps = 1 }
  lu.assertEquals(m.srcc, m.without.srcc)
  m = start { out = self.dir .. "/both", steps = 1 }
  lu.assertNotEquals(m.rmse, m.without.rmse)
end

-- VasoMIM's encoder is where training starts.
function TestCasIqa:test_from_vasomim()
  local pre, out = self.dir .. "/pre", self.dir .. "/out"
  lumen.run.execute(lumen.recipe "vasomim", { preset = "smoke", steps = 1, images = 8, out = pre, threads = 1,
    workers = 1, consistency = 0, guide_mix = 1, model = "vit_micro" })
  start { out = out, init = pre, lr = 0, min_lr = 0, steps = 1, images = 20, depth = 0 }
  local name = "blocks.3.mlp.fc1.weight"
  lu.assertEquals(state(out)["encoder." .. name], state(pre)["encoder." .. name] or state(pre)[name])
end

function TestCasIqa:test_from_clip()
  local file = self.dir .. "/clip.safetensors"
  local clip = lumen.models.clip { model = "vit_micro", vision = { heads = 1, size = 64 }, text = { heads = 1 } }
  lumen.save(file, clip:state_dict())
  for i, row in ipairs { { text = "clip" }, { text = "clip", encoder = "clip", vesselness = false, depth = 0 } } do
    row.out, row.clip_weights, row.steps, row.images = self.dir .. "/" .. i, file, 1, 20
    lu.assertTrue(start(row).rmse < 3, i)
  end
end

-- The values of hand-made measures are computed once; a run reports the best, or the one it is asked for.
function TestCasIqa:test_handmade()
  local function measure(name, values)
    values = values or {}
    values.preset, values.size, values.images, values.threads = "smoke", 64, values.images or 20, 1
    values.out = self.dir .. "/" .. name
    return lumen.run.execute(lumen.recipe "handmade", values)
  end
  local best = measure("best")
  local metrics = lumen.metrics
  local compute = metrics.handmade
  metrics.handmade = function() error("computed again", 0) end
  local ok, other = pcall(measure, "other", { measure = "gmsd_source" })
  local again, message = pcall(measure, "else", { images = 21 })
  metrics.handmade = compute
  lu.assertTrue(ok, other)
  lu.assertFalse(again)
  lu.assertEquals(message, "computed again")
  lu.assertEquals(other.measure, "gmsd_source")
  lu.assertTrue(best.srcc >= other.srcc)
  local table_of = lumen.fs.read(self.dir .. "/other/measures.csv")
  lu.assertEquals(table_of, lumen.fs.read(self.dir .. "/best/measures.csv"))
  lu.assertAlmostEquals(tonumber(table_of:match("gmsd_source,[^,]*,[^,]*,[^,]*,([^,]*)")), other.srcc, 1e-4)
  lu.assertErrorMsgContains("option measure: there is no gmds (there are brisque", measure, "bad", { measure = "gmds" })
end

-- A set of files is known by what is in them, and in its ratings.
function TestCasIqa:test_signature_of_files()
  local rated, folder = lumen.data.rated, self.dir .. "/set"
  rated.write(folder, rated.open("cas_p", { images = 3, size = 128 }))
  local items = lumen.tensor({ 0, 2 }, { dtype = "i64" })
  local function now() return rated.signature(rated.open(folder, {}), items) end
  local first = now()
  lu.assertEquals(now(), first)
  local file, text = folder .. "/ratings.csv", lumen.fs.read(folder .. "/ratings.csv")
  lumen.fs.write(file, (text:gsub("[^,]*\n$", "1\n")))
  lu.assertNotEquals(now(), first)
  lumen.fs.write(file, text)
  lu.assertEquals(now(), first)
  lumen.image.save(folder .. "/contrast/000003.png", lumen.zeros({ 128, 128 }, { dtype = "u8" }))
  lu.assertNotEquals(now(), first)
end

for i, case in ipairs {
  { "text=clip needs clip_weights=", { text = "clip" } },
  { "encoder=clip needs clip_weights=", { encoder = "clip" } },
  { "has no ratings", { data = "phantom" } },
  { "no model", { encoder = "vit_tall" } },
  { "nothing.safetensors", { clip_weights = "nothing.safetensors", text = "clip" } },
  { "wrong", { wrong = 2 } },
} do
  TestCasIqa["test_bad_option_" .. i] = function(self)
    case[2].out = self.dir .. "/bad"
    lu.assertErrorMsgContains(case[1], start, case[2])
  end
end

helper.run()
