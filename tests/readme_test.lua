-- readme_test.lua: what README.md shows is what happens. The prompt sessions are typed into one
-- `lumen -i` and compared with the page ("..." stands for anything); the Lua files are run.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"

local program = io.popen("readlink /proc/$PPID/exe"):read("l")
local text = lumen.fs.read("README.md")

-- The fenced blocks, in order: { language =, body = }.
local function blocks(page)
  local list = {}
  for language, body in page:gmatch("\n```(%w*)\n(.-)\n```") do
    list[#list + 1] = { language = language, body = body }
  end
  return list
end

-- A session as a list of { input =, output = }.
local function turns(body)
  local list = {}
  for line in (body .. "\n"):gmatch("(.-)\n") do
    local input = line:match("^> (.*)")
    if input then list[#list + 1] = { input = input, output = "" }
    elseif #list > 0 then list[#list].output = list[#list].output .. line .. "\n" end
  end
  return list
end

-- Does `got` read as `shown`, in which "..." stands for any text? Spaces at line ends count not.
local function reads_as(got, shown)
  local pattern = shown:gsub("%p", "%%%0"):gsub("%%%.%%%.%%%.\n?", ".-")
  return (got:gsub("[ \t]+\n", "\n"):match("^" .. pattern .. "$")) ~= nil
end

local function run(command)
  local pipe = assert(io.popen("{ " .. command .. "; } 2>&1"))
  local output = pipe:read("a")
  local ok = pipe:close()
  return output, ok
end

local function write(path, content)
  local file = assert(io.open(path, "w"))
  file:write(content)
  file:close()
end

TestReadme = {}

function TestReadme:setUp() self.dir = helper.temporary_folder() end
function TestReadme:tearDown() helper.remove_folder(self.dir) end

function TestReadme:test_prompt_sessions()
  local list, script = {}, {}
  for _, block in ipairs(blocks(text)) do
    if block.language == "" then
      for _, turn in ipairs(turns(block.body)) do list[#list + 1] = turn end
    end
  end
  lu.assertTrue(#list > 10, "README.md shows no session")
  for i, turn in ipairs(list) do
    -- The run directory goes where the test can delete it.
    script[i] = turn.input:gsub('steps = 3 }', ('steps = 3, out = "%s/run" }'):format(self.dir)) ..
      ("\nio.stderr:flush() io.stdout:write('<<%d>>\\n') io.stdout:flush()\n"):format(i)
  end
  write(self.dir .. "/session", table.concat(script))
  local output = run(("OMP_NUM_THREADS=1 %s -i <%s/session"):format(program, self.dir))
  local at = 1
  for i, turn in ipairs(list) do
    local mark = ("<<%d>>\n"):format(i)
    local first, last = output:find(mark, at, true)
    lu.assertNotNil(first, "the session ended at: " .. turn.input .. "\n" .. output:sub(at))
    local got = output:sub(at, first - 1)
    lu.assertTrue(reads_as(got, turn.output),
      ("> %s\nshown:\n%s\ngot:\n%s"):format(turn.input, turn.output, got))
    at = last + 1
  end
end

function TestReadme.test_a_wrong_output_is_found()
  lu.assertTrue(reads_as("loss 0.25 of 3\n", "loss ... of 3\n"))
  lu.assertTrue(reads_as("a\nb\nend\n", "...\nend\n"))
  lu.assertFalse(reads_as("loss 0.25 of 4\n", "loss ... of 3\n"))
  lu.assertFalse(reads_as("error: no\n", ""))
end

-- A Lua block whose first comment names it, written into the test's folder.
local function lua_file(dir, name)
  for _, block in ipairs(blocks(text)) do
    if block.language == "lua" and block.body:match("^%-%- (%S+%.lua)") == name then
      write(dir .. "/" .. name, block.body)
      return dir .. "/" .. name
    end
  end
  error("README.md has no " .. name)
end

function TestReadme:test_recipe()
  local output, ok = run(("%s %s steps=2 size=32 batch=2 threads=1 out=%s/run"):format(program,
    lua_file(self.dir, "denoise.lua"), self.dir))
  lu.assertTrue(ok, output)
  lu.assertTrue(lumen.fs.exists(self.dir .. "/run/result.json"), output)
end

function TestReadme:test_masking_strategy()
  local output, ok = run(("%s recipes/vasomim.lua preset=smoke steps=1 threads=1 masking=%s out=%s/run")
    :format(program, lua_file(self.dir, "brightest.lua"), self.dir))
  lu.assertTrue(ok, output)
end

function TestReadme:test_experiment()
  local output, ok = run(("%s %s dry=true out=%s/run"):format(program, lua_file(self.dir, "mix.lua"), self.dir))
  lu.assertTrue(ok, output)
  lu.assertStrContains(output, "guide_mix")
end

-- Every file, folder and recipe that the page names is there.
function TestReadme:test_names()
  for path in text:gmatch("[%(`](%l+/[%w_/]+%.%l+)[%)`]") do
    if not path:match("^runs/") and not path:match("^path/") then
      lu.assertTrue(lumen.fs.exists(path), "README.md names " .. path)
    end
  end
end

helper.run()
