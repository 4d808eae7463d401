-- Module: what every layer and model is. A module keeps its parameters, buffers and child
-- modules in the order in which they were assigned, so names and files never depend on the
-- order of a hash table. Names are PyTorch's: children joined with dots.
--
--   local Net = nn.class("Net")
--   function Net:build(width) self.fc = nn.Linear(width, 1) end   -- a child, registered
--   function Net:forward(x) return self.fc(x:relu()) end
--   local net = Net(16); local y = net(x)
--
-- Values: parameters are filled by (seed, name) the first time a module is called or asked
-- for its parameters as the root, so they do not depend on the order of construction.
local core = require "lumen.core"

-- What every layer and model has. A module is called, m(x), which runs its forward.
--   > layer = lumen.nn.Linear(3, 2)
--   > layer(lumen.ones(1, 3)).shape, layer:count()
--   {1, 2}
--   8
local Module = { training = true }
Module.__index = Module

-- Whether a value is a module.
-- -> bool
--   > lumen.nn.is_module(lumen.nn.Linear(1, 1)), lumen.nn.is_module({})
--   true
--   false
local function is_module(x)
  return type(x) == "table" and rawget(x, "_entries") ~= nil
end

local function newindex(self, key, value)
  rawset(self, key, value)
  if is_module(value) then
    table.insert(self._entries, { kind = "child", key = key })
  end
end

-- A new kind of module: methods build(...), called by the constructor, and forward(...),
-- called by m(...). Modules and parameters that build assigns are registered in that order,
-- under PyTorch's names. parent: a class to inherit methods from.
-- -> table
--   > Net = lumen.nn.class("Net")
--   > function Net:build(width) self.fc = lumen.nn.Linear(width, 1) end
--   > function Net:forward(x) return self.fc(x:relu()) end
--   > net = Net(16)
--   > net(lumen.randn(2, 16)).shape, net:named_parameters()[1].name
--   {2, 1}
--   fc.weight
local function class(name, parent)
  local here = debug.getinfo(2, "Sl") -- its documentation is the comment above that line
  local cls = setmetatable({ class_name = name, defined_in = here.source:sub(2),
                             defined_at = here.currentline }, {
    __index = parent or Module,
    __call = function(cls, ...)
      local m = setmetatable({ _entries = {}, _filled = false }, cls)
      m:build(...)
      return m
    end,
  })
  cls.__index = cls
  cls.__newindex = newindex
  cls.__name = name
  cls.__tostring = function(self) return require("lumen.inspect").module(self) end
  cls.__call = function(self, ...)
    if not rawget(self, "_filled") then self:initialize() end
    return self:forward(...)
  end
  return cls
end

-- Makes the module's parts; called by the constructor with its arguments. A class defines its
-- own.
--   > Scale = lumen.nn.class("Scale")
--   > function Scale:build(size) self:param("weight", { size }, lumen.nn.fill.constant(2)) end
--   > function Scale:forward(x) return x * self.weight end
--   > Scale(2)(lumen.ones(2))
--   f32 [2] {2, 2}
function Module.build() end

-- What m(...) computes. A class defines its own; raises when it has none.
--   > Double = lumen.nn.class("Double")
--   > function Double:forward(x) return x * 2 end
--   > Double()(lumen.ones(2))
--   f32 [2] {2, 2}
function Module:forward()
  error(("%s has no forward method"):format(self.class_name), 2)
end

-- Registers parameter `key`, a tensor of shape {..} filled in place by init(tensor, rng); nil
-- leaves zeros. options.trainable = false: kept in the state dict, never learned. Returns the
-- tensor.
-- -> tensor
--   > m = lumen.nn.class("Bias")()
--   > m:param("bias", { 3 }, lumen.nn.fill.constant(1))
--   > m:state_dict().bias
--   f32 [3] {1, 1, 1}
function Module:param(key, shape, init, options)
  local trainable = not options or options.trainable ~= false
  local t = core.zeros(shape, { requires_grad = trainable })
  rawset(self, key, t)
  table.insert(self._entries, { kind = "param", key = key, init = init,
                                trainable = trainable })
  return t
end

-- Registers a tensor that is part of the state, but not learned. Returns it.
-- -> tensor
--   > m = lumen.nn.class("Counter")()
--   > m:buffer("steps", lumen.zeros({}, { dtype = "i64" }))
--   > m:count(), m:state_dict().steps:item()
--   0
--   0
function Module:buffer(key, tensor)
  rawset(self, key, tensor)
  table.insert(self._entries, { kind = "buffer", key = key })
  return tensor
end

local function walk(module, prefix, visit)
  for _, entry in ipairs(module._entries) do
    local name = prefix .. entry.key
    if entry.kind == "child" then
      walk(module[entry.key], name .. ".", visit)
    else
      visit(name, module, entry)
    end
  end
end

-- All modules below and this one, parents first: a list of { name =, module = }.
-- -> table
--   > for _, item in ipairs(lumen.nn.Mlp(4, 8):modules()) do print(item.name) end
--   fc1
--   fc2
function Module:modules()
  local list = {}
  local function collect(module, name)
    list[#list + 1] = { name = name, module = module }
    for _, entry in ipairs(module._entries) do
      if entry.kind == "child" then
        collect(module[entry.key], name == "" and entry.key or name .. "." .. entry.key)
      end
    end
  end
  collect(self, "")
  return list
end

-- Parts that have their values: those below `self` that were filled before it was put together,
-- such as an encoder with loaded weights, and what is below them.
local function filled_before(self)
  local kept = {}
  local function visit(module, inside)
    inside = inside or rawget(module, "_filled")
    if inside then kept[module] = true end
    for _, entry in ipairs(module._entries) do
      if entry.kind == "child" then visit(module[entry.key], inside) end
    end
  end
  if not rawget(self, "_filled") then visit(self, false) end
  return kept
end

-- Fills all parameters, each from its own random stream (seed, name), so that the order of
-- construction does not matter. Without seed: lumen.seed(). A part that had its values before the
-- module was made of it, an encoder with loaded weights, keeps them; called again, initialize
-- fills everything anew. Returns the module.
-- -> module
--   > a = lumen.nn.Linear(2, 2):initialize(1).weight
--   > b = lumen.nn.Linear(2, 2):initialize(1).weight
--   > a:eq(b)
--   u8 [2 x 2] {1, 1, 1, 1}
function Module:initialize(seed)
  seed = seed or core.seed()
  local kept = filled_before(self)
  core.no_grad(function()
    walk(self, "", function(name, module, entry)
      if entry.kind == "param" and entry.init and not kept[module] then
        entry.init(module[entry.key]:detach(), { seed = seed, stream = "init " .. name })
      end
    end)
  end)
  for _, item in ipairs(self:modules()) do rawset(item.module, "_filled", true) end
  return self
end

-- List of { name =, tensor =, trainable = } in order of registration.
-- -> table
--   > for _, p in ipairs(lumen.nn.Mlp(4, 8):named_parameters()) do print(p.name, p.tensor.shape) end
--   fc1.weight  {8, 4}
--   fc1.bias  {8}
--   fc2.weight  {4, 8}
--   fc2.bias  {4}
function Module:named_parameters()
  if not rawget(self, "_filled") then self:initialize() end
  local list = {}
  walk(self, "", function(name, module, entry)
    if entry.kind == "param" then
      list[#list + 1] = { name = name, tensor = module[entry.key],
                          trainable = module[entry.key].requires_grad }
    end
  end)
  return list
end

-- List of the tensors that are learned.
-- -> table
--   > #lumen.nn.Mlp(4, 8):parameters()
--   4
function Module:parameters()
  local list = {}
  for _, p in ipairs(self:named_parameters()) do
    if p.trainable then list[#list + 1] = p.tensor end
  end
  return list
end

-- Number of learned values.
-- -> int
--   > lumen.nn.Linear(3, 5):count()
--   20
function Module:count()
  local n = 0
  for _, t in ipairs(self:parameters()) do n = n + t:numel() end
  return n
end

-- Parameters and buffers: name -> tensor, shared with the module and not copied. For
-- lumen.save.
-- -> table
--   > path = os.tmpname() .. ".safetensors"
--   > lumen.save(path, lumen.nn.Linear(3, 5):state_dict())
--   > lumen.load(path).weight.shape
--   {5, 3}
function Module:state_dict()
  if not rawget(self, "_filled") then self:initialize() end
  local state = {}
  walk(self, "", function(name, module, entry)
    state[name] = module[entry.key]:detach()
  end)
  return state
end

local function shape_text(t) return "[" .. table.concat(t.shape, " x ") .. "]" end

local function sorted_keys(t)
  local keys = {}
  for key in next, t do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

local function some(names)
  local text = table.concat(names, ", ", 1, math.min(#names, 6))
  return #names > 6 and ("%s and %d more"):format(text, #names - 6) or text
end

-- Copies values from name -> tensor. options.strict = false: names on one side only are
-- returned as two lists (missing, unexpected) and not raised. A shape that differs is always
-- an error.
-- -> table, table
--   > a, b = lumen.nn.Linear(2, 2):initialize(1), lumen.nn.Linear(2, 2)
--   > b:load_state_dict(a:state_dict())
--   > b.weight:eq(a.weight)
--   u8 [2 x 2] {1, 1, 1, 1}
--   > b:load_state_dict({ weight = a.weight, extra = a.bias }, { strict = false })
--   {"bias"}
--   {"extra"}
function Module:load_state_dict(state, options)
  local strict = not options or options.strict ~= false
  local missing, wrong, taken, copies = {}, {}, {}, {}
  walk(self, "", function(name, module, entry)
    local mine, theirs = module[entry.key], state[name]
    taken[name] = true
    if not theirs then
      missing[#missing + 1] = name
    elseif shape_text(mine) ~= shape_text(theirs) then
      wrong[#wrong + 1] = ("%s is %s here and %s in the state"):format(
        name, shape_text(mine), shape_text(theirs))
    else
      copies[#copies + 1] = { mine, theirs }
    end
  end)
  local unexpected = {}
  for _, name in ipairs(sorted_keys(state)) do
    if not taken[name] then unexpected[#unexpected + 1] = name end
  end
  local faults = {}
  if #wrong > 0 then faults[#faults + 1] = "shapes differ: " .. some(wrong) end
  if strict and #missing > 0 then faults[#faults + 1] = "missing: " .. some(missing) end
  if strict and #unexpected > 0 then
    faults[#faults + 1] = "unexpected: " .. some(unexpected)
  end
  if #faults > 0 then
    error(("load_state_dict into %s: %s"):format(self.class_name,
      table.concat(faults, "; ")), 2)
  end
  core.no_grad(function()
    for _, pair in ipairs(copies) do
      pair[1]:detach():copy_(pair[2]:to(pair[1].device))
    end
  end)
  for _, item in ipairs(self:modules()) do rawset(item.module, "_filled", true) end
  return missing, unexpected
end

local function set_training(self, training)
  for _, item in ipairs(self:modules()) do rawset(item.module, "training", training) end
  return self
end

-- Training mode, for this module and all below: dropout drops, batch norm uses the batch.
-- Returns it.
-- -> module
--   > lumen.nn.Dropout(0.5):train().training
--   true
function Module:train() return set_training(self, true) end

-- Evaluation mode, for this module and all below. Returns it.
-- -> module
--   > net = lumen.nn.Sequential { lumen.nn.BatchNorm2d(3) }
--   > net:eval():at(1).training
--   false
function Module:eval() return set_training(self, false) end

-- Stops learning every parameter, or starts again with freeze(false). Gradients still flow
-- through to inputs. Returns the module.
-- -> module
--   > net = lumen.nn.Linear(2, 2):freeze()
--   > #net:parameters()
--   0
function Module:freeze(frozen)
  for _, p in ipairs(self:named_parameters()) do p.tensor.requires_grad = frozen == false end
  return self
end

-- Moves to a device ("cpu", "cuda") or converts floats to a dtype ("f64"); do it before the
-- optimizer is made. Returns the module.
-- -> module
--   > lumen.nn.Linear(2, 2):to("f64").weight.dtype
--   f64
function Module:to(target)
  if not rawget(self, "_filled") then self:initialize() end
  local to_dtype = target == "f32" or target == "f64" or target == "bf16"
  core.no_grad(function()
    walk(self, "", function(_, module, entry)
      local old = module[entry.key]
      if not (to_dtype and old.dtype:match("^[iu]")) then
        local new = old:to(target):detach()
        new.requires_grad = old.requires_grad
        rawset(module, entry.key, new)
      end
    end)
  end)
  return self
end

-- Forgets the gradients of all parameters.
--   > net = lumen.nn.Linear(2, 1)
--   > net(lumen.ones(1, 2)):sum():backward()
--   > net:zero_grad()
--   > net.weight.grad
--   nil
function Module:zero_grad()
  for _, p in ipairs(self:named_parameters()) do p.tensor.grad = nil end
end

return { class = class, Module = Module, is_module = is_module }
