-- lumen.nn: modules and layers in one table. `nn.class` makes new ones.
local module = require "lumen.nn.module"

local nn = { class = module.class, Module = module.Module, is_module = module.is_module,
             fill = require "lumen.nn.initializers" }
for _, file in ipairs { "lumen.nn.layers", "lumen.nn.transformer" } do
  for name, value in next, (require(file)) do nn[name] = value end
end

return nn
