-- complete_test.lua: no operation without documentation, samples, kernels for the CPU and the
-- card, and a gradient or the declaration that it has none.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"

helper.listing = true -- the files below only declare their rows
for _, name in ipairs(lumen.fs.list("tests/ops")) do
  if name:match("_test%.lua$") and name ~= "complete_test.lua" then
    assert(loadfile("tests/ops/" .. name))()
  end
end
helper.listing = nil
for _, op in ipairs(lumen.ops) do _G["Test_" .. op.name] = nil end

-- Operations that run on the CPU alone: name -> why a user would accept that.
local cpu_only = {}

-- What is missing of one operation, as a list of words.
local function missing(op, rows)
  local list = {}
  if #op.doc < 20 then list[#list + 1] = "documentation" end
  if not op.cuda and not op.view and not cpu_only[op.name] then
    list[#list + 1] = "a kernel for the card"
  end
  if op.internal then return list end
  if not (rows and rows > 0) then list[#list + 1] = "samples" end
  if not op.cpu and not op.view then list[#list + 1] = "a CPU kernel" end
  if op.differentiable and not op.gradient then list[#list + 1] = "a gradient" end
  return list
end

TestComplete = {}

function TestComplete:test_every_operation()
  local bad = {}
  for _, op in ipairs(lumen.ops) do
    for _, what in ipairs(missing(op, helper.tested[op.name])) do
      bad[#bad + 1] = op.name .. " has no " .. what
    end
  end
  lu.assertEquals(bad, {})
end

function TestComplete:test_what_is_missing_is_found()
  local op = { doc = "", cpu = false, differentiable = true, gradient = false }
  lu.assertEquals(missing(op, 0), { "documentation", "a kernel for the card", "samples",
    "a CPU kernel", "a gradient" })
end

-- One line in ops.def, one operation in one file.
function TestComplete:test_names_are_unique()
  local seen = {}
  for _, op in ipairs(lumen.ops) do
    lu.assertNil(seen[op.name], op.name)
    seen[op.name] = true
  end
end

helper.run()
