-- Tensors: making, random numbers, gradients, memory, files. Everything in C (tensors, operations,
-- files, vision, the loader) comes from lumen.core; the parts written in Lua load at their first
-- use.
local core = require "lumen.core"

local lumen = {}

local parts = {
  nn = "lumen.nn", models = "lumen.models", masking = "lumen.masking",
  loss = "lumen.loss", metrics = "lumen.metrics", optim = "lumen.optim",
  schedule = "lumen.schedule", data = "lumen.data", recipe = "lumen.recipe", run = "lumen.run",
  gradcheck = "lumen.gradcheck", picture = "lumen.picture", profile = "lumen.profile",
  show = "lumen.show", explore = "lumen.explore", help = "lumen.help",
  inspect = "lumen.inspect", experiment = "lumen.experiment", reload = "lumen.reload",
  report = "lumen.report", tokenizer = "lumen.tokenizer",
}

-- Functions that stand at the top though they live in a part.
local functions = { plot = { "lumen.plot", "lines" }, hist = { "lumen.plot", "hist" } }

-- Every public name, loaded or not: name -> true.
local function all_names()
  local names = {}
  for _, list in ipairs { core, parts, functions } do
    for key in next, list do names[key] = true end
  end
  return names
end

local function unknown(name)
  local options = require "lumen.options"
  local names = {}
  for key in next, all_names() do names[#names + 1] = key end
  table.sort(names)
  local near = options.nearest(tostring(name), names)
  error(("lumen has no '%s'%s"):format(tostring(name),
    near and ("\nhint: did you mean %s?"):format(near) or ""), 3)
end

-- The program finds this file under both names; it is one module.
package.loaded["lumen"], package.loaded["lumen.init"] = lumen, lumen

return setmetatable(lumen, {
  parts = parts, functions = functions, -- for Tab
  __index = function(_, name)
    local value = core[name]
    if parts[name] then value = require(parts[name]) end
    if functions[name] then value = require(functions[name][1])[functions[name][2]] end
    if value == nil then unknown(name) end
    lumen[name] = value
    return value
  end,
  names = all_names,
})
