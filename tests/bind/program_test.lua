-- program_test.lua: the program and the module as their users start them.
local lu = require "luaunit"
local helper = require "tests.helper"

-- Output (both streams) and exit code of a shell command.
local function shell(command)
  local pipe = assert(io.popen("{ " .. command .. " ; } 2>&1"))
  local text = pipe:read("a")
  local _, _, code = pipe:close()
  return text, code
end

local lumen = shell("readlink /proc/$PPID/exe"):gsub("%s+$", "") -- the program that runs this
local build = lumen:match("(.*)/")

TestProgram = {}

function TestProgram.test_chunks_and_codes()
  lu.assertEquals({ shell(lumen .. " -e 'print(1 + 1)'") }, { "2\n", 0 })
  local text, code = shell(lumen .. " -e 'lumen.ones(2):sofmax()'")
  lu.assertStrContains(text, "did you mean softmax")
  lu.assertNotEquals(code, 0)
  text, code = shell(lumen .. " no/such/file.lua")
  lu.assertStrContains(text, "no/such/file.lua")
  lu.assertNotEquals(code, 0)
  lu.assertStrContains((shell(lumen .. " --version")), "blas")
end

function TestProgram.test_overrides_are_checked()
  local recipe = lumen .. " recipes/vasomim.lua preset=smoke "
  local text, code = shell(recipe .. "mask_ration=0.75")
  lu.assertStrContains(text, "mask_ratio")
  lu.assertNotEquals(code, 0)
  lu.assertStrContains((shell(recipe .. "batch=many")), "batch")
  lu.assertStrContains((shell(recipe .. "mask_ratio=1.5")), "mask_ratio")
  lu.assertStrContains((shell(lumen .. " recipes/vasomim.lua --help")), "mask_ratio=0.5")
end

function TestProgram.test_prompt_goes_on_after_errors()
  local text, code = shell("printf 'x = 2\\nnil_name\\nx + 3\\nerror(1)\\nx * 5\\n' | " .. lumen .. " -i")
  lu.assertEquals(code, 0)
  lu.assertStrContains(text, "5")
  lu.assertStrContains(text, "10")
end

local function need_lua()
  lu.skipIf(helper.sanitized, "a plain lua5.4 cannot load a sanitized module")
  local _, code = shell("command -v lua5.4")
  lu.skipIf(code ~= 0, "no lua5.4")
end

local use = [[lua5.4 -e 'print(require("lumen").ones(2, 3):sum():item())']]

function TestProgram.test_module()
  need_lua()
  lu.assertEquals({ shell(("LUA_CPATH='%s/?.so' %s"):format(build, use)) }, { "6.0\n", 0 })
end

function TestProgram.test_install()
  local prefix = helper.temporary_folder()
  local text, code = shell(("cmake --install %s --prefix %s"):format(build, prefix))
  lu.assertEquals(code, 0, text)
  lu.assertEquals({ shell(("cd / && %s/bin/lumen -e 'print(lumen.nn ~= nil)'"):format(prefix)) },
    { "true\n", 0 })
  need_lua()
  lu.assertEquals({ shell(("cd / && LUA_CPATH='%s/lib/lua/5.4/?.so' %s"):format(prefix, use)) },
    { "6.0\n", 0 })
end

helper.run()
