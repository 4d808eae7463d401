-- Optimizers over whole models. All parameters of a group are updated by one operation.
--   local opt = optim.adamw(model, { weight_decay = 0.05, beta2 = 0.95, clip = 1 })
--   loss:backward(); local norm = opt:step(lr)
local core = require "lumen.core"
local nn = require "lumen.nn"

-- What lumen.optim.adamw and the others return.
--   > w = lumen.tensor({1, 1}, { requires_grad = true })
--   > opt = lumen.optim.sgd { { name = "w", tensor = w } }
--   > opt.steps
--   0
local Optimizer = {}
Optimizer.__index = Optimizer

-- Layer number of a ViT parameter by name (0: embeddings, i + 1: blocks.i, depth + 1: rest),
-- counted inside a possible "encoder." prefix.
local function layer_of(name, depth)
  local inner = name:gsub("^encoder%.", "")
  if inner == "cls_token" or inner == "pos_embed" or inner:match("^patch_embed%.") then
    return 0
  end
  local block = inner:match("^blocks%.(%d+)%.")
  return block and tonumber(block) + 1 or depth + 1
end

-- Learning-rate factors of layer-wise decay: decay ^ (depth + 1 - layer).
-- -> number
--   > lumen.optim.layer_scale("blocks.0.attn.qkv.weight", 12, 0.75)
--   0.031676
local function layer_scale(name, depth, decay)
  return decay ^ (depth + 1 - layer_of(name, depth))
end

-- Groups in order of first use: parameters with fewer than two dimensions do not decay.
local function make_groups(parameters, o)
  local groups, index = {}, {}
  for _, p in ipairs(parameters) do
    local decay = #p.tensor.shape >= 2 and (o.weight_decay or 0) or 0
    local scale = o.layer_decay and o.layer_decay ~= 1
      and layer_scale(p.name, o.depth, o.layer_decay) or 1
    if o.group then decay, scale = o.group(p, decay, scale) end
    local key = ("%.17g %.17g"):format(decay, scale)
    if not index[key] then
      index[key] = { weight_decay = decay, lr_scale = scale, list = {} }
      groups[#groups + 1] = index[key]
    end
    table.insert(index[key].list, p)
  end
  return groups
end

local function learned(target)
  local list = {}
  for _, p in ipairs(nn.is_module(target) and target:named_parameters() or target) do
    if p.tensor.requires_grad then list[#list + 1] = p end
  end
  if #list == 0 then error("the optimizer got no parameter that requires a gradient", 4) end
  return list
end

local function make(kind, target, o, moments)
  o = o or {}
  if o.layer_decay and o.layer_decay ~= 1 and not o.depth then
    error(kind .. ": layer_decay needs depth, the number of blocks", 3)
  end
  local parameters = learned(target)
  for _, p in ipairs(parameters) do
    p.state = {}
    for i, name in ipairs(moments) do
      p.state[i] = core.zeros(p.tensor.shape, { dtype = p.tensor.dtype,
                                                device = p.tensor.device })
    end
  end
  return setmetatable({ kind = kind, options = o, parameters = parameters, steps = 0,
    moments = moments, skipped = 0, groups = make_groups(parameters, o) }, Optimizer)
end

local function gather(group)
  local params, grads, state = {}, {}, { {}, {} }
  for _, p in ipairs(group.list) do
    local grad = p.tensor.grad
    if grad then
      params[#params + 1] = p.tensor:detach()
      grads[#grads + 1] = grad
      for i, s in ipairs(p.state) do state[i][#params] = s end
    end
  end
  return params, grads, state
end

-- One update with learning rate lr and gradients times `scale` (1 / accumulated batches);
-- then gradients are gone. Returns the L2 norm of the scaled gradient and whether the update
-- was made: with a non-finite norm it is left out.
-- -> number, bool
--   > w = lumen.tensor({1, 1}, { requires_grad = true })
--   > opt = lumen.optim.sgd { { name = "w", tensor = w } }
--   > w:mul(lumen.tensor{3, 4}):sum():backward()
--   > norm, done = opt:step(0.1)
--   > norm, done, w:detach()
--   5.0
--   true
--   f32 [2] {0.7, 0.6}
function Optimizer:step(lr, scale)
  scale = scale or 1
  local all = {}
  for _, p in ipairs(self.parameters) do all[#all + 1] = p.tensor.grad end
  if #all == 0 then error("step: no parameter has a gradient; call backward first", 2) end
  local norm = core.grad_norm(all):item() * scale
  local finite = norm == norm and norm < math.huge
  if finite then
    local clip = self.options.clip
    if clip and clip > 0 and norm > clip then scale = scale * clip / norm end
    self.steps = self.steps + 1
    core.no_grad(function()
      for _, group in ipairs(self.groups) do
        local params, grads, state = gather(group)
        if #params > 0 then self:update(group, params, grads, state, lr, scale) end
      end
    end)
  else
    self.skipped = self.skipped + 1
  end
  for _, p in ipairs(self.parameters) do p.tensor.grad = nil end
  return norm, finite
end

-- Updates one group of parameters; what step calls once the gradients are known to be finite.
--   > w = lumen.tensor({1, 1}, { requires_grad = true })
--   > opt = lumen.optim.sgd { { name = "w", tensor = w } }
--   > opt.steps = 1
--   > lumen.no_grad(function()
--   >   opt:update(opt.groups[1], { w:detach() }, { lumen.ones(2) }, { { lumen.zeros(2) } }, 0.5, 1)
--   > end)
--   > w:detach()
--   f32 [2] {0.5, 0.5}
function Optimizer:update(group, params, grads, state, lr, scale)
  local o = self.options
  if self.kind == "sgd" then
    if scale ~= 1 then
      for _, grad in ipairs(grads) do grad:mul_(scale) end
    end
    core.sgd_step(params, grads, state[1], { lr = lr * group.lr_scale,
      momentum = o.momentum or 0, nesterov = o.nesterov or false,
      weight_decay = group.weight_decay, step = self.steps })
  else
    core.adamw_step(params, grads, state[1], state[2], { lr = lr * group.lr_scale,
      beta1 = o.beta1 or 0.9, beta2 = o.beta2 or 0.999, eps = o.eps or 1e-8,
      weight_decay = group.weight_decay, step = self.steps, grad_scale = scale,
      decoupled = self.kind ~= "adam" })
  end
end

-- The moments, name -> tensor, for lumen.save; the number of steps, opt.steps, travels beside
-- it.
-- -> table
--   > opt = lumen.optim.adamw(lumen.nn.Linear(2, 1))
--   > opt:state_dict()["exp_avg.weight"].shape
--   {1, 2}
function Optimizer:state_dict()
  local state = {}
  for _, p in ipairs(self.parameters) do
    for i, moment in ipairs(self.moments) do state[moment .. "." .. p.name] = p.state[i] end
  end
  return state
end

-- Takes over moments and the number of steps; raises when one is missing.
--   > a, b = lumen.optim.adamw(lumen.nn.Linear(2, 1)), lumen.optim.adamw(lumen.nn.Linear(2, 1))
--   > b:load_state_dict(a:state_dict(), 7)
--   > b.steps
--   7
function Optimizer:load_state_dict(state, steps)
  core.no_grad(function()
    for _, p in ipairs(self.parameters) do
      for i, moment in ipairs(self.moments) do
        local saved = state[moment .. "." .. p.name]
        if not saved then
          error(("optimizer state lacks %s.%s"):format(moment, p.name), 4)
        end
        p.state[i]:copy_(saved:to(p.tensor.device))
      end
    end
  end)
  self.steps = steps
end

local optim = { layer_scale = layer_scale, Optimizer = Optimizer }

-- AdamW over a module, or over a list of { name =, tensor = }; returns an optim.Optimizer.
-- options: beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0 (never on tensors with
-- fewer than two dimensions), clip (L2 norm, 0: off), layer_decay with depth (number of ViT
-- blocks), group = function(parameter, weight_decay, lr_scale) -> weight_decay, lr_scale.
-- Loshchilov and Hutter 2019.
-- -> optimizer
--   > net = lumen.nn.Linear(2, 1):initialize(0)
--   > opt = lumen.optim.adamw(net, { weight_decay = 0.05, beta2 = 0.95, clip = 1 })
--   > for i = 1, 3 do
--   >   loss = (net(lumen.ones(4, 2)) - 1):square():mean()
--   >   loss:backward()
--   >   opt:step(0.1)
--   > end
--   > loss:item() < 2
--   true
function optim.adamw(target, options)
  return make("adamw", target, options, { "exp_avg", "exp_avg_sq" })
end

-- As adamw, with weight decay added to the gradient (Kingma and Ba 2015).
-- -> optimizer
--   > opt = lumen.optim.adam(lumen.nn.Linear(2, 1))
--   > opt.steps
--   0
function optim.adam(target, options)
  return make("adam", target, options, { "exp_avg", "exp_avg_sq" })
end

-- Stochastic gradient descent. options: momentum = 0, nesterov = false, weight_decay, clip,
-- layer_decay.
-- -> optimizer
--   > net = lumen.nn.Linear(1, 1, { bias = false, weight_init = lumen.nn.fill.constant(1) })
--   > opt = lumen.optim.sgd(net)
--   > net(lumen.ones(1, 1)):sum():backward()
--   > opt:step(0.1)
--   > net.weight:item()
--   0.9
function optim.sgd(target, options)
  return make("sgd", target, options, { "momentum_buf" })
end

return optim
