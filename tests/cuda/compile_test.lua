-- compile_test.lua: nvcc compiles all .cu files (only what has changed since it last did), and
-- the kernels that a training step spends its time in keep everything in registers.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"

local build = io.popen("readlink /proc/$PPID/exe"):read("l"):gsub("/lumen$", "")

-- Parts of mangled names; each must be found in some kernel.
local hot = { "attend", "gemm_kernel", "bias_rows", "add_of", "mul_of", "gelu_backward_of", "copy_of",
              "cast_of", "layer_rows", "layer_rows_backward", "fold_parts" }

-- name -> bytes spilled, of the kernels in one of ptxas' logs.
local function spills(text, list)
  local name
  for line in text:gmatch("[^\n]+") do
    name = line:match("Function properties for (%S+)") or name
    local stores, loads = line:match("(%d+) bytes spill stores, (%d+) bytes spill loads")
    if stores then list[name] = tonumber(stores) + tonumber(loads) end
  end
end

TestCompile = {}

function TestCompile:test_nvcc()
  if helper.sanitized then lu.skip("the plain build does it") end
  local pipe = io.popen(("cmake --build %s --target help | grep -c cuda_compile"):format(build))
  local known = pipe:read("n")
  pipe:close()
  if known == 0 then lu.skip("no nvcc") end
  pipe = io.popen(("cmake --build %s --target cuda_compile 2>&1"):format(build))
  local text = pipe:read("a")
  lu.assertTrue(pipe:close(), text)
  local list, found = {}, {}
  for _, name in ipairs(lumen.fs.list(build .. "/cuda")) do
    if name:match("%.log$") then spills(lumen.fs.read(build .. "/cuda/" .. name), list) end
  end
  local bad = {}
  for name, bytes in next, list do
    for _, part in ipairs(hot) do
      if name:find(part, 1, true) then
        found[part] = true
        if bytes > 0 then bad[#bad + 1] = ("%s spills %d bytes"):format(name, bytes) end
      end
    end
  end
  table.sort(bad)
  lu.assertEquals(bad, {})
  for _, part in ipairs(hot) do lu.assertTrue(found[part], "no kernel is called " .. part) end
end

helper.run()
