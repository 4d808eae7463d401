-- Options of recipes: order of precedence, types, suggestions, the resolved dump, help.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local options = require "lumen.options"

local function demo()
  return lumen.recipe {
    name = "demo", about = "A recipe for the tests.",
    options = { { "mask_ratio", 0.5, "share", min = 0, max = 1 }, { "depth", 4, "blocks" },
                { "kind", "a", "which", choices = { "a", "b" } }, { "flag", false, "switch" },
                { "lr", 0.5 } },
    presets = { smoke = { depth = 1, epochs = 2 }, paper = { depth = 12 } },
  }
end

local function error_of(fn, ...)
  local ok, message = pcall(fn, ...)
  lu.assertFalse(ok)
  return tostring(message)
end

TestOptions = {}

function TestOptions.test_default_preset_command_line()
  local r = demo()
  lu.assertEquals(r:resolve({}).depth, 4)
  lu.assertEquals(r:resolve({ { "preset", "smoke" } }).depth, 1)
  lu.assertEquals(r:resolve({ { "depth", "7" }, { "preset", "smoke" } }).depth, 7)
  lu.assertEquals(r:resolve({}, { depth = 9 }).depth, 9)
  lu.assertEquals(r:resolve({ { "depth", 3 } }, { depth = 9, preset = "smoke" }).depth, 3)
  lu.assertEquals(r:resolve({}, { preset = "smoke" }).epochs, 2)
end

function TestOptions.test_common_rows_take_new_defaults()
  local o = demo():resolve({})
  lu.assertEquals(o.lr, 0.5)
  lu.assertEquals(o.epochs, 1)
  lu.assertStrContains(demo():help(), "learning rate per 256 images")
end

function TestOptions.test_types()
  local r = demo()
  local function with(key, value) return r:resolve({ { key, value } })[key] end
  lu.assertEquals(with("mask_ratio", "1"), 1.0)
  lu.assertEquals(math.type(with("mask_ratio", "1")), "float")
  lu.assertEquals(with("depth", "3"), 3)
  lu.assertEquals(with("depth", "1e1"), 10)
  lu.assertEquals(with("flag", "true"), true)
  lu.assertEquals(with("flag", "0"), false)
  lu.assertEquals(with("kind", "b"), "b")
  lu.assertEquals(with("data", "10"), "10")
  lu.assertStrContains(error_of(with, "depth", "1.5"), "option depth: 1.5 is not an integer")
  lu.assertStrContains(error_of(with, "depth", "x"), "not an integer")
  lu.assertStrContains(error_of(with, "mask_ratio", "nan"), "not a number")
  lu.assertStrContains(error_of(with, "mask_ratio", "2"), "from 0 to 1")
  lu.assertStrContains(error_of(with, "flag", "maybe"), "true or false")
  lu.assertStrContains(error_of(with, "kind", "c"), "one of a, b")
end

function TestOptions.test_unknown_names_get_a_suggestion()
  local r = demo()
  lu.assertStrContains(error_of(r.resolve, r, { { "mask_rato", "1" } }), "did you mean mask_ratio?")
  lu.assertStrContains(error_of(r.resolve, r, { { "mask", "1" } }), "did you mean mask_ratio?")
  lu.assertNotStrContains(error_of(r.resolve, r, { { "qqqqqq", "1" } }), "did you mean")
  lu.assertStrContains(error_of(r.resolve, r, { { "preset", "big" } }), "no preset 'big'")
  lu.assertStrContains(error_of(options.split, "depth"), "key=value")
  lu.assertStrContains(error_of(function() return r:resolve({}).nothing end), "no option 'nothing'")
end

function TestOptions.test_presets_are_checked_when_defined()
  lu.assertStrContains(error_of(lumen.recipe, { name = "x", about = "y",
    presets = { p = { epoch = 3 } } }), "did you mean epochs?")
end

function TestOptions.test_dump_reads_back()
  local r = demo()
  local o = r:resolve({ { "lr", "0.1" }, { "data", 'a "b"\n\\c' }, { "mask_ratio", "1" } })
  local text = options.dump(r.rows, o)
  local back = options.undump(text, "options.lua")
  for _, row in ipairs(r.rows) do
    lu.assertEquals(back[row[1]], o[row[1]], row[1])
    lu.assertEquals(math.type(back[row[1]]), math.type(o[row[1]]), row[1])
  end
  lu.assertEquals(text:match("\n  (%w+_%w+) ="), "mask_ratio")
end

function TestOptions.test_undump_runs_no_code()
  lu.assertStrContains(error_of(options.undump, "return { a = os.exit() }", "o.lua"), "o.lua")
  lu.assertStrContains(error_of(options.undump, "return 1 +", "o.lua"), "o.lua")
end

function TestOptions.test_recipes_load_and_have_help()
  for _, name in ipairs { "segmentor", "vasomim", "segment", "quickstart" } do
    local r = lumen.recipe(name)
    lu.assertEquals(r.name, name)
    lu.assertStrContains(r:help(), "options (key=value):")
    for _, preset in ipairs(r.preset_order) do r:resolve({ { "preset", preset } }) end
  end
end

TestDistance = {}

function TestDistance.test_edits()
  lu.assertEquals(options.distance("abc", "abc"), 0)
  lu.assertEquals(options.distance("abc", "acb"), 1)
  lu.assertEquals(options.distance("", "abc"), 3)
  lu.assertEquals(options.nearest("epohcs", { "epochs", "steps" }), "epochs")
  lu.assertNil(options.nearest("zzz", { "epochs", "steps" }))
end

helper.run()
