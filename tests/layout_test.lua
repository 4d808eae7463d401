-- layout_test.lua: the house's own rules, read from the source files: arrows between folders
-- run one way, nothing unexpected stands at the top, no `pairs` where order could be seen.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("a")
  file:close()
  return text
end

-- All files below `folder` with one of the extensions, sorted.
local function files_below(folder, extensions)
  local found = {}
  local pipe = assert(io.popen(("find %s -type f | LC_ALL=C sort"):format(folder)))
  for path in pipe:lines() do
    local extension = path:match("%.(%w+)$")
    for _, wanted in ipairs(extensions) do
      if extension == wanted then found[#found + 1] = path end
    end
  end
  pipe:close()
  return found
end

-- What the files of a folder of core/ may include, besides their own folder.
local below = {
  base = {}, tensor = { "base" }, cpu = { "tensor", "base" }, cuda = { "tensor", "base" },
  graph = { "cpu", "cuda", "tensor", "base" },
  ops = { "graph", "cpu", "cuda", "tensor", "base" },
  vision = { "base" },
  io = { "vision", "tensor", "base" },
  bind = { "io", "vision" }, -- and lumen.h, the core's public header
}

-- The complaint about one include, or nil. `path` is below core/.
local function include_error(path, included)
  local folder = path:match("^core/(%w+)/")
  if not folder then return nil end
  local target = included:match("^(%w+)/")
  if not target then
    if included == "lumen.h" and folder == "bind" then return nil end
    return path .. " includes " .. included
  end
  if target == folder then return nil end
  for _, allowed in ipairs(below[folder] or {}) do
    if target == allowed then return nil end
  end
  return ("%s includes %s: %s may not look at %s"):format(path, included, folder, target)
end

-- Ranks of what Lua files require: a file may require its own rank and lower ones.
local function lua_rank(path)
  if path:match("^lua/lumen/") then return 1 end
  if path:match("^datasets/") then return 2 end
  if path:match("^recipes/") then return 3 end
  if path:match("^experiments/") then return 4 end
  return 5
end

local function require_error(path, name)
  local rank = lua_rank(path)
  local target = name:match("^recipes") and 3 or name:match("^datasets") and 2 or
    name:match("^experiments") and 4 or name:match("^tests") and 5 or 1
  if target > rank then return path .. " requires " .. name end
end

TestLayout = {}

function TestLayout:test_includes_go_down()
  local bad = {}
  for _, path in ipairs(files_below("core", { "c", "h", "cu", "cuh" })) do
    for included in read(path):gmatch('#include "([^"]+)"') do
      bad[#bad + 1] = include_error(path, included)
    end
  end
  lu.assertEquals(bad, {})
end

function TestLayout:test_an_upward_include_is_found()
  lu.assertNotNil(include_error("core/tensor/x.c", "graph/op.h"))
  lu.assertNotNil(include_error("core/vision/x.c", "io/loader.h"))
  lu.assertNil(include_error("core/ops/x.c", "graph/op.h"))
end

function TestLayout:test_requires_go_down()
  local bad = {}
  for _, folder in ipairs { "lua", "datasets", "recipes", "experiments" } do
    for _, path in ipairs(files_below(folder, { "lua" })) do
      for name in read(path):gmatch('require%s*%(?%s*["\']([%w_%.]+)["\']') do
        bad[#bad + 1] = require_error(path, name)
      end
    end
  end
  lu.assertEquals(bad, {})
end

function TestLayout:test_an_upward_require_is_found()
  lu.assertNotNil(require_error("lua/lumen/x.lua", "recipes.vasomim"))
  lu.assertNil(require_error("recipes/x.lua", "lumen"))
end

function TestLayout:test_only_bind_sees_lua()
  for _, path in ipairs(files_below("core", { "c", "h" })) do
    if not path:match("^core/bind/") then
      lu.assertNil(read(path):match("#include%s*[<\"]lua[%w]*%.h"), path)
    end
  end
end

-- `pairs` has another order in every process. A use that cannot be seen says so in its line.
function TestLayout:test_no_pairs_where_order_shows()
  local bad = {}
  for _, folder in ipairs { "lua", "datasets", "recipes", "experiments" } do
    for _, path in ipairs(files_below(folder, { "lua" })) do
      local number = 0
      for line in read(path):gmatch("([^\n]*)\n") do
        number = number + 1
        local code = line:gsub("%-%-.*", "")
        if code:match("[^%w_i]pairs%s*%(") and not line:match("order") then
          bad[#bad + 1] = path .. ":" .. number
        end
      end
    end
  end
  lu.assertEquals(bad, {})
end

function TestLayout:test_top_level()
  local allowed = { ["CMakeLists.txt"] = true, core = true, lua = true, recipes = true,
                    datasets = true, experiments = true, tests = true, ["README.md"] = true,
                    build = true, runs = true, LICENSE = true }
  for _, name in ipairs(lumen.fs.list(".")) do
    lu.assertTrue(allowed[name] or name:match("^build%-") ~= nil or name:sub(1, 1) == ".", name .. " stands at the top")
  end
end

function TestLayout:test_tests_delete_only_what_they_made()
  lu.assertErrorMsgContains("not a temporary folder", helper.remove_folder, "../shared")
  lu.assertErrorMsgContains("not a temporary folder", helper.remove_folder, ".")
  for _, path in ipairs(files_below("tests", { "lua" })) do
    if path:match("_test%.lua$") and not path:match("/fs_test") then
      lu.assertNil(read(path):match("remove_tree%([^\n]*match%("), path)
    end
  end
end

helper.run()
