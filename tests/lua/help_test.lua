-- help_test.lua: every public name has documentation with an example; every example runs and
-- prints what stands below it; help finds things by name and by value; the reference pages.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local example = require "tests.lua.example"
local index = require "lumen.help.index"
local text = require "lumen.help.text"
local help = lumen.help

-- What is missing of an entry, or nil.
local function missing(entry)
  if entry:summary() == "" then return "a description" end
  if #entry:examples() == 0 then return "an example" end
end

-- All entries, and the pages that describe themselves.
local function all()
  local list = {}
  for _, page in ipairs(help.pages()) do
    for _, entry in ipairs(page.entries) do list[#list + 1] = entry end
  end
  return list
end

TestComplete = {}

-- To mend it: put the documentation where lumen/help.lua says.
function TestComplete:test_every_public_name_has_help_with_an_example()
  local bad = {}
  for _, entry in ipairs(all()) do
    local what = missing(entry)
    if what then
      bad[#bad + 1] = ("%s (%s) has no %s"):format(entry.name, help.source(entry) or "?", what)
    end
  end
  lu.assertEquals(bad, {})
end

function TestComplete:test_every_page_says_what_it_is()
  local bad = {}
  for _, page in ipairs(help.pages()) do
    if page.text == "" then bad[#bad + 1] = page.name end
  end
  lu.assertEquals(bad, {})
end

function TestComplete:test_what_is_missing_is_found()
  local function bare() end
  lu.assertEquals(missing(index.of_function(bare)), "a description")
  -- Has a description only.
  local function described() end
  lu.assertEquals(missing(index.of_function(described)), "an example")
end

-- The walk sees everything: methods of tensors and loaders, too, and what loads at first use.
function TestComplete:test_the_walk_is_complete()
  local known = index.get()
  local loader = lumen.data.loader { source = { kind = "phantom", count = 1 }, size = 32 }
  local scope <close> = lumen.scope()
  local methods = { getmetatable(lumen.zeros(1)).methods, getmetatable(loader).__index,
                    getmetatable(scope).__index }
  local bad = {}
  for _, t in ipairs(methods) do
    for name, f in next, t do
      if type(f) == "function" and name:sub(1, 1) ~= "_" and not known.by_value[f] then
        bad[#bad + 1] = name
      end
    end
  end
  lu.assertEquals(bad, {})
  for _, name in ipairs { "softmax", "zeros", "vision.sato", "data.loader", "data.source",
      "nn.Linear", "nn.Module.parameters", "nn.fill.normal", "models.mae", "models.vit.resolve",
      "optim.Optimizer.step", "run.Run.batches", "recipe.Recipe.resolve", "Tensor.shape",
      "gradcheck", "data.mean" } do
    lu.assertNotNil(known.by_name[name], name)
  end
end

TestExamples = {}

-- One test per page, so that a failure says where.
for _, page in ipairs(help.pages()) do
  TestExamples["test_" .. page.name:gsub("%W", "_")] = function()
    local bad = {}
    local function try(name, parts)
      local environment = example.environment()
      lumen.seed(0)
      for _, part in ipairs(parts) do
        if part.kind == "example" then
          local ok, printed = pcall(example.run, part.text, environment)
          if not ok or (part.result and not example.same(printed, part.result)) then
            bad[#bad + 1] = ("%s:\n%s\nprints\n%s\nand not\n%s"):format(name, part.text, printed,
              tostring(part.result))
          end
        end
      end
    end
    try(page.name, text.parse(page.text))
    for _, entry in ipairs(page.entries) do try(entry.name, entry:parts()) end
    example.clean()
    lu.assertEquals(table.concat(bad, "\n\n"), "")
  end
end

local function shell(command)
  local pipe = assert(io.popen("{ " .. command .. " ; } 2>&1"))
  local printed = pipe:read("a")
  local _, _, code = pipe:close()
  return printed, code
end

-- Two finished runs, runs/demo/first and runs/demo/second.
local function demo_runs(folder)
  local r = lumen.recipe { name = "demo", about = "Learns nothing.", options = {} }
  function r:run(_, run)
    run.loader = lumen.data.loader { source = { kind = "phantom", count = 2 }, size = 32, batch = 2 }
    run.model = lumen.nn.Conv2d(3, 1, 1)
    run.optimizer = lumen.optim.sgd(run.model)
    for epoch in run:epochs() do
      for batch in run:batches(epoch) do run:step(run.model(batch.image):square():mean()) end
    end
  end
  for _, name in ipairs { "first", "second" } do
    r:start { out = ("%s/runs/demo/%s"):format(folder, name) }
  end
end

-- Lines for the shell run in a folder that holds nothing but two runs of a recipe `demo`, with
-- the program that runs this test.
function TestExamples:test_commands()
  local program = shell("readlink /proc/$PPID/exe"):gsub("%s+$", "")
  local folder = helper.temporary_folder()
  demo_runs(folder)
  for _, entry in ipairs(index.get().page.commands.entries) do
    for _, part in ipairs(entry:parts()) do
      if part.kind == "command" then
        local line = part.text:gsub("^lumen ", program .. " ")
        local printed, code = shell(("cd %s && %s"):format(folder, line))
        lu.assertEquals(code, 0, part.text .. "\n" .. printed)
      end
    end
  end
  helper.remove_folder(folder)
end

TestExampleRunner = {}

function TestExampleRunner:test_short_forms()
  lu.assertEquals(example.short(lumen.arange(3)), "i64 [3] {0, 1, 2}")
  lu.assertEquals(example.short(lumen.zeros(100)), "f32 [100] {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ...}")
  lu.assertEquals(example.short { b = 1, a = { 1.5, "x" } }, '{a = {1.5, "x"}, b = 1}')
  lu.assertEquals(example.short(0 / 0), "nan")
  lu.assertEquals(example.short(3.0), "3.0")
end

function TestExampleRunner:test_differences_are_found()
  lu.assertTrue(example.same("f32 [2] {0.333333, 1}", "f32 [2]  {0.33333, 1}"))
  lu.assertFalse(example.same("f32 [2] {0.34, 1}", "f32 [2] {0.33333, 1}"))
  lu.assertFalse(example.same("f32 [2] {1, 1}", "f64 [2] {1, 1}"))
  lu.assertFalse(example.same("", "1.0"))
  lu.assertFalse(example.same("1 2", "1 2 3"))
end

function TestExampleRunner:test_a_last_expression_may_span_lines()
  lu.assertEquals(example.run("x = 2\nmath.max(x,\n  3)", example.environment()), "3")
end

TestText = {}

function TestText:test_parts_of_a_description()
  local parts = text.parse("One sentence. More\nof it.\n  a list\n\n  > x = 1\n  > x\n  1\nAnd on.\n  $ lumen docs DIR")
  lu.assertEquals(#parts, 5)
  lu.assertEquals(parts[1].text, "One sentence. More of it.")
  lu.assertEquals(parts[2], { kind = "lines", text = "  a list" })
  lu.assertEquals({ parts[3].text, parts[3].result }, { "x = 1\nx", "1" })
  lu.assertEquals({ parts[4].kind, parts[4].text }, { "text", "And on." })
  lu.assertEquals({ parts[5].kind, parts[5].text }, { "command", "lumen docs DIR" })
  lu.assertEquals(text.summary(parts), "One sentence.")
end

function TestText:test_signatures()
  local s = text.signature('x, bias?, dims...: int; sigmas: floats = {1, 2}, dim: dim = 0 -> tensor, int')
  lu.assertEquals(s.positional[1].type, "tensor")
  lu.assertTrue(s.positional[2].optional)
  lu.assertTrue(s.positional[3].list)
  lu.assertEquals({ s.named[1].default, s.named[2].default }, { "{1, 2}", "1" })
  lu.assertEquals(s.returns, { "tensor", "int" })
end

TestDocs = {}

-- Content of the files of a folder: name -> text.
local function contents(folder)
  local files = {}
  for _, name in ipairs(lumen.fs.list(folder)) do files[name] = lumen.fs.read(folder .. "/" .. name) end
  return files
end

local function write_docs()
  local base, outside = helper.temporary_folder(), print
  local folder = base .. "/ref"
  _G.print = function() end
  local ok, code = pcall(require("lumen.commands.docs"), folder)
  _G.print = outside
  assert(ok, code)
  lu.assertEquals(code, 0)
  local files = contents(folder)
  helper.remove_folder(base)
  return files
end

function TestDocs:test_twice_the_same_bytes()
  local first = write_docs()
  index.forget()
  lu.assertEquals(write_docs(), first)
end

-- Links between pages lead to headings that are there; fences are closed.
function TestDocs:test_links_and_fences()
  local files = write_docs()
  local bad = {}
  for name, content in next, files do
    for target, anchor in content:gmatch("%]%(([%w_.]+%.md)#?([%w-]*)%)") do
      if not files[target] or (anchor ~= "" and not files[target]:find(('<a id="%s">'):format(anchor), 1, true)) then
        bad[#bad + 1] = ("%s: %s#%s"):format(name, target, anchor)
      end
    end
    local _, fences = content:gsub("\n```", "")
    if name:match("%.md$") and fences % 2 ~= 0 then bad[#bad + 1] = name .. ": a fence is open" end
  end
  lu.assertEquals(bad, {})
  for _, name in ipairs { "softmax", "metrics-dice", "nn-module-parameters" } do
    lu.assertStrContains(files["index.md"], "#" .. name .. ")")
  end
  lu.assertStrContains(files["recipe.vasomim.md"], "`mask_ratio`")
end

-- LuaLS wants each @param to name a parameter of the function below.
function TestDocs:test_annotations()
  local file = write_docs()["lumen.d.lua"]
  lu.assertNotNil(load(file, "=lumen.d.lua", "t"))
  local bad, named = {}, {}
  for line in file:gmatch("[^\n]+") do
    local parameter = line:match("^%-%-%-@param (%S+) ")
    local list = line:match("^function [%w_.:]+(%b())") or line:match("= function(%b())")
    if parameter then
      named[#named + 1] = parameter:gsub("%?$", "")
    elseif list then
      for _, name in ipairs(named) do
        if not list:find("%f[%w_.]" .. name:gsub("%.", "%%.") .. "%f[^%w_.]") then
          bad[#bad + 1] = line .. " has no " .. name
        end
      end
      named = {}
    end
  end
  lu.assertEquals(bad, {})
  for _, wanted in ipairs { "function lumen.softmax(x, options) end", "---@param x lumen.Tensor",
      "function Tensor:softmax(options) end", "function lumen.metrics.dice(pred, truth) end",
      "---@class lumen.conv2d.options\n---@field stride? integer|integer[]",
      "---@return lumen.nn.Linear\nfunction lumen.nn.Linear(inputs, outputs, options) end" } do
    lu.assertStrContains(file, wanted)
  end
end

function TestDocs:test_bad_arguments()
  lu.assertEquals(require("lumen.commands.docs")(), 2)
  lu.assertEquals(require("lumen.commands.docs")("a", "b"), 2)
end

TestHelp = {}

-- What help prints.
local function printed(...)
  local lines, outside = {}, print
  _G.print = function(line) lines[#lines + 1] = line end
  local ok, message = pcall(help, ...)
  _G.print = outside
  assert(ok, message)
  return table.concat(lines, "\n")
end

function TestHelp:test_by_name_and_by_value()
  for _, what in ipairs { "softmax", "lumen.softmax", "x:softmax", lumen.softmax,
                          lumen.zeros(1).softmax } do
    lu.assertStrContains(printed(what), "lumen.softmax(x, {dim = -1})")
  end
  lu.assertStrContains(printed "masking.guided", "lua/lumen/masking.lua:")
  lu.assertStrContains(printed(lumen.metrics.dice), "lumen.metrics.dice(pred, truth)")
  lu.assertStrContains(printed(lumen.nn.Linear), "lumen.nn.Linear(inputs, outputs, options?)")
  lu.assertStrContains(printed(lumen.nn.Linear(2, 2)), "nn.Module")
  lu.assertStrContains(printed(lumen.recipe), "lumen.recipe(")
  lu.assertStrContains(printed(lumen.recipe "vasomim"), "mask_ratio=0.5")
  lu.assertStrContains(printed "vasomim", "mask_ratio=0.5")
  lu.assertStrContains(printed(lumen.metrics), "lumen.metrics.dice(pred, truth)")
  lu.assertStrContains(printed(lumen.zeros(1)), "x:item()")
  lu.assertStrContains(printed "conv2d", "> x:conv2d(")
  lu.assertStrContains(printed "Run.step", "run:step(loss, parts)")
end

function TestHelp:test_overview_names_everything()
  local all_text = printed()
  for _, name in ipairs { "softmax", "guided", "dice", "Linear", "backward" } do
    lu.assertStrContains(all_text, name)
  end
end

function TestHelp:test_unknown_and_ambiguous_names()
  lu.assertStrContains(printed "sofmax", "did you mean softmax?")
  lu.assertStrContains(printed "masking.guidde", "did you mean masking.guided?")
  local two = printed "dice"
  lu.assertStrContains(two, "lumen.loss.dice")
  lu.assertStrContains(two, "lumen.metrics.dice")
  for _, odd in ipairs { "", ".", "%", "a.b.c.d", ("x"):rep(5000) } do
    lu.assertStrContains(printed(odd), "no help")
  end
  for _, odd in ipairs { 1, true, {}, io.stdout, coroutine.create(print) } do
    lu.assertStrContains(printed(odd), "help()")
  end
  lu.assertStrContains(printed(nil), "nil")
end

function TestHelp:test_own_functions_show_their_comment()
  -- Adds one.
  --   > 1 + 1
  --   2
  local function increment(x) return x + 1 end
  local shown = printed(increment)
  lu.assertStrContains(shown, "increment(x)")
  lu.assertStrContains(shown, "Adds one.")
end

function TestHelp:test_lines_fit()
  for _, entry in ipairs(all()) do
    for line in help.entry(entry, 72):gmatch("[^\n]+") do
      local code = line:match("^    ") or line:match("^%S*$")
      lu.assertTrue(code ~= nil or #line <= 72, entry.name .. ": " .. line)
    end
  end
end

helper.run()
