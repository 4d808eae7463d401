-- ops_test.lua: operations, losses, resizing, optimizers and schedules against values computed
-- with PyTorch, torchvision and Pillow. Inputs and outputs are in shared/golden/e_ops; skipped
-- without it. f64 must agree to 1e-6 of the largest value (the file holds f32), f32 to 1e-5.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"

local path = helper.shared("golden/e_ops.safetensors")
local golden = path and lumen.load(path) or {}

local function at(key)
  return golden[key] or error("the reference file has no " .. key, 2)
end

local function sdpa(t) -- [B, H, N, d] to lumen's packing [B, N, H*d] and back
  local q = t.q
  local b, h, n, d = q.shape[1], q.shape[2], q.shape[3], q.shape[4]
  local function pack(x) return x:permute(1, 3, 2, 4):reshape(b, n, h * d) end
  local y = lumen.attention(pack(t.q), pack(t.k), pack(t.v), { heads = h })
  return y:reshape(b, n, h, d):permute(1, 3, 2, 4)
end

local function conv(options) return function(t) return lumen.conv2d(t.x, t.w, t.b, options) end end
local function resize(options)
  return function(t, out)
    local o = { size = { out.shape[3], out.shape[4] } }
    for k, v in next, options do o[k] = v end
    return lumen.resize(t.x, o)
  end
end
local function norm(eps) return function(t) return lumen.layer_norm(t.x, t.w, t.b, { eps = eps }) end end

-- name -> function of the inputs (in f64 or f32) and the expected output
local cases = {
  { "conv3x3p1", conv { padding = 1 } },
  { "conv7x7s4p3", conv { stride = 4, padding = 3 } },
  { "conv3x3s2p1", conv { stride = 2, padding = 1 } },
  { "conv3x3_dil2", conv { padding = 2, dilation = 2 } },
  { "dwconv3x3p1", conv { padding = 1, groups = 10 } },
  { "conv1x1", conv {} },
  { "conv_nobias", conv { padding = 1 } },
  { "patch_embed_p8", function(t)
    return lumen.conv2d(t.x, t.w, t.b, { stride = 8 }):flatten(3, 4):transpose(2, 3)
  end },
  { "convT2x2s2", function(t) return lumen.conv_transpose2d(t.x, t.w, t.b, { stride = 2 }) end },
  { "linear", function(t) return lumen.linear(t.x, t.w, t.b) end },
  { "matmul_batched", function(t) return t.a:matmul(t.b) end },
  { "bn2d_eval", function(t)
    return lumen.batch_norm(t.x, t.w, t.b, at("bn.running_mean"):to(t.x),
      at("bn.running_var"):to(t.x), { training = false })
  end },
  { "bn2d_train", function(t)
    local mean, var = at("bn.running_mean"):to(t.x):clone(), at("bn.running_var"):to(t.x):clone()
    local y = lumen.batch_norm(t.x, t.w, t.b, mean, var, { training = true })
    helper.assert_close(mean, at("bn2d_train.new_running_mean"), 1e-6)
    helper.assert_close(var, at("bn2d_train.new_running_var"), 1e-6)
    return y
  end },
  { "layernorm_1e-6", norm(1e-6) },
  { "layernorm_1e-5", norm(1e-5) },
  { "groupnorm", function(t) return lumen.group_norm(t.x, t.w, t.b, { groups = 4 }) end },
  { "gelu_erf", function(t) return t.x:gelu() end },
  { "relu", function(t) return t.x:relu() end },
  { "sigmoid", function(t) return t.x:sigmoid() end },
  { "softmax_last", function(t) return t.x:softmax() end },
  { "log_softmax_last", function(t) return t.x:log_softmax() end },
  { "sdpa", sdpa },
  { "sdpa_long", sdpa },
  { "bilinear_x2", resize {} },
  { "bilinear_to_size", resize {} },
  { "bilinear_down", resize {} },
  { "bilinear_ac", resize { align_corners = true } },
  { "bicubic_up", resize { mode = "bicubic" } },
  { "bicubic_down", resize { mode = "bicubic" } },
  { "bicubic_aa_down", resize { mode = "bicubic", antialias = true } },
  { "bicubic_aa_up", resize { mode = "bicubic", antialias = true } },
  { "bilinear_aa_down", resize { antialias = true } },
  { "posembed_interp_14_to_20", resize { mode = "bicubic" } },
  { "maxpool2", function(t) return lumen.max_pool2d(t.x, { size = 2 }) end },
  { "avgpool2", function(t) return lumen.avg_pool2d(t.x, { size = 2 }) end },
  { "adaptive_avgpool_3", function(t) return lumen.adaptive_avg_pool2d(t.x, { size = 3 }) end },
  { "ce", function(t) return lumen.cross_entropy(t.x, t.target) end },
  { "ce_weighted", function(t) return lumen.cross_entropy(t.x, t.target, t.weight) end,
    { weight = true } },
  { "ce_smooth", function(t) return lumen.cross_entropy(t.x, t.target, { label_smoothing = 0.1 }) end },
  { "ce_2d_ignore255", function(t)
    return lumen.cross_entropy(t.x, t.target, { ignore_index = 255 })
  end },
  { "bce_logits", function(t) return lumen.loss.bce_with_logits(t.x, t.t) end },
  { "bce_logits_posweight3", function(t)
    return lumen.loss.bce_with_logits(t.x, t.t, { pos_weight = 3 })
  end },
  { "bcedice_official", function(t) return lumen.loss.bce_dice(t.x, t.target) end, { target = true } },
  { "dice_per_sample", function(t) return lumen.loss.dice(t.x, t.target) end, { target = true } },
  { "dice_batch", function(t) return lumen.loss.dice(t.x, t.target, { batch = true }) end,
    { target = true } },
  { "dice_multiclass", function(t) return lumen.loss.dice_multiclass(t.x, t.target) end },
  { "mse", function(t) return lumen.loss.mse(t.x, t.t) end },
  { "smooth_l1", function(t) return lumen.loss.smooth_l1(t.x, t.t) end },
}

local inputs_by_case = {} -- "conv3x3p1" -> { "b", "w", "x" }, sorted
for key in next, golden do
  local name, argument = key:match("^(.-)%.in%.([%w_]+)$")
  if name then
    inputs_by_case[name] = inputs_by_case[name] or {}
    table.insert(inputs_by_case[name], argument)
  end
end

local function inputs(name, dtype, constant)
  local t = {}
  for _, argument in ipairs(inputs_by_case[name]) do
    local x = at(name .. ".in." .. argument)
    if x.dtype == "f32" then
      x = x:to(dtype):clone()
      if not (constant and constant[argument]) then x.requires_grad = true end
    end
    t[argument] = x
  end
  return t
end

local function check(name, fn, constant, dtype, tolerance)
  local t = inputs(name, dtype, constant)
  local expected = at(name .. ".out")
  local y = fn(t, expected)
  helper.assert_close(y, expected, tolerance, name)
  y:backward(at(name .. ".g_out"):to(dtype):reshape(y.shape))
  for _, argument in ipairs(inputs_by_case[name]) do
    local gradient = golden[("%s.d.%s"):format(name, argument)]
    if gradient then
      helper.assert_close(t[argument].grad, gradient, tolerance, name .. ".d." .. argument)
    end
  end
end

TestGoldenOps = {}
for _, case in ipairs(cases) do
  local name, fn, constant = table.unpack(case)
  TestGoldenOps["test_" .. name:gsub("%W", "_")] = function()
    helper.need_shared("golden/e_ops.safetensors")
    check(name, fn, constant, "f64", 1e-6)
    check(name, fn, constant, "f32", 1e-5)
  end
end

-- ---- modules with their parameters ---------------------------------------------------------

local modules = {
  { "vit_block", function() return lumen.nn.Block(24, 3) end, function(m, x) return m(x) end },
  { "unext_shifted_block", function() return lumen.models.unext.ShiftedBlock(20) end,
    function(m, x) return m(x, 6, 5) end },
  { "unext_shifted_block_c32", function() return lumen.models.unext.ShiftedBlock(32) end,
    function(m, x) return m(x, 4, 7) end },
  { "unext_overlap_patch_embed", function() return lumen.models.unext.OverlapPatchEmbed(6, 10) end,
    function(m, x) return (m(x)) end },
}
for _, case in ipairs(modules) do
  local name, make, call = table.unpack(case)
  TestGoldenOps["test_" .. name] = function()
    helper.need_shared("golden/e_ops.safetensors")
    for _, run in ipairs { { "f64", 1e-6 }, { "f32", 2e-5 } } do
      local dtype, tolerance = run[1], run[2]
      local module = make()
      module:to(dtype)
      local parameters_of = module:named_parameters()
      for _, p in ipairs(parameters_of) do
        local key, tensor = p.name, p.tensor
        lumen.no_grad(function() tensor:copy_(at(name .. ".param." .. key):to(dtype)) end)
      end
      local x = at(name .. ".in.x"):to(dtype):clone()
      x.requires_grad = true
      local y = call(module, x)
      helper.assert_close(y, at(name .. ".out"), tolerance, name)
      y:backward(at(name .. ".g_out"):to(dtype))
      helper.assert_close(x.grad, at(name .. ".d.x"), tolerance, name .. ".d.x")
      for _, p in ipairs(parameters_of) do
        helper.assert_close(p.tensor.grad, at(name .. ".d.param." .. p.name), tolerance,
          name .. ".d." .. p.name)
      end
    end
  end
end

-- ---- optimizers and schedules --------------------------------------------------------------

local optimizers = {
  { "adamw", { 0.05, 0, 0.05 }, { beta1 = 0.9, beta2 = 0.95 } },
  { "adamw_sched", { 0.05, 0, 0.05 }, { beta1 = 0.9, beta2 = 0.95 } },
  { "adamw_default", { 0.01, 0.01, 0.01 }, {} },
  { "adam", { 0, 0, 0 }, { decoupled = false } },
}

local function adam_step(list, decay, options, step, lr)
  for i, p in ipairs(list) do
    local o = { lr = lr, step = step, weight_decay = decay[i] }
    for k, v in next, options do o[k] = v end
    lumen.adamw_step({ p.value }, { p.grads[step] }, { p.m }, { p.v }, o)
  end
end

local function parameters(name)
  local list = {}
  for i = 0, 2 do
    local init = at(("%s.p%d_init"):format(name, i)):clone()
    list[i + 1] = { value = init, grads = at(("%s.p%d_grads"):format(name, i)),
                    trajectory = at(("%s.p%d_traj"):format(name, i)),
                    m = lumen.zeros(init.shape), v = lumen.zeros(init.shape) }
  end
  return list
end

for _, case in ipairs(optimizers) do
  local name, decay, options = table.unpack(case)
  TestGoldenOps["test_optimizer_" .. name] = function()
    helper.need_shared("golden/e_ops.safetensors")
    local list = parameters(name)
    local lrs = golden[name .. ".lrs"]
    for step = 1, 25 do
      adam_step(list, decay, options, step, lrs and lrs[step]:item() or 1e-3)
      for i, p in ipairs(list) do
        helper.assert_close(p.value, p.trajectory[step], 1e-5, ("%s p%d step %d"):format(name, i, step))
      end
    end
  end
end

function TestGoldenOps:test_optimizer_sgd_nesterov()
  helper.need_shared("golden/e_ops.safetensors")
  local list = parameters("sgd_nesterov")
  for step = 1, 25 do
    for i, p in ipairs(list) do
      lumen.sgd_step({ p.value }, { p.grads[step] }, { p.m },
        { lr = 0.01, momentum = 0.9, nesterov = true, weight_decay = 1e-4, step = step })
      helper.assert_close(p.value, p.trajectory[step], 1e-5, ("p%d step %d"):format(i, step))
    end
  end
end

function TestGoldenOps:test_warmup_cosine()
  helper.need_shared("golden/e_ops.safetensors")
  for _, row in ipairs { { "lr800", 1.2e-3, 0, 40, 800 }, { "lr400_min", 1e-3, 1e-6, 40, 400 },
                         { "lr100_w5", 5e-4, 1e-5, 5, 100 } } do
    local name, lr, least, warmup, epochs = table.unpack(row)
    for _, line in ipairs(at(name .. ".table"):totable()) do
      local got = lumen.schedule.warmup_cosine(lr, line[1], epochs, warmup, least)
      lu.assertAlmostEquals(got, line[2], 1e-15 + 1e-12 * lr)
    end
  end
  for _, line in ipairs(at("poly09.table"):totable()) do
    lu.assertAlmostEquals(lumen.schedule.poly(1e-3, line[1], 200), line[2], 1e-15)
  end
end

function TestGoldenOps:test_layer_decay_scales()
  helper.need_shared("golden/e_ops.safetensors")
  local expected = at("lrd.scales_depth12_0.75"):totable()
  for layer, value in ipairs(expected) do
    lu.assertAlmostEquals(0.75 ^ (13 - (layer - 1)), value, 1e-15)
  end
end

function TestGoldenOps:test_position_embedding()
  helper.need_shared("golden/e_ops.safetensors")
  for _, row in ipairs { { 768, 14 }, { 384, 14 }, { 512, 14 }, { 48, 8 }, { 32, 8 } } do
    local dim, side = row[1], row[2]
    local expected = at(("posembed.%d.%d"):format(dim, side))
    local values = lumen.tensor(lumen.nn.sincos_positions(dim, side, side, true),
      { dtype = "f64" }):reshape(-1, dim):slice(1, 1, expected.shape[1])
    helper.assert_close(values, expected, 2e-6)
  end
end

function TestGoldenOps:test_truncated_normal()
  helper.need_shared("golden/e_ops.safetensors")
  for _, row in ipairs { { "std0.02", 0.02, -2, 2 }, { "std1", 1, -2, 2 }, { "std1_pm0.5", 1, -0.5, 0.5 } } do
    local x = lumen.zeros { 1000000 }
    x:trunc_normal_ { std = row[2], low = row[3], high = row[4],
                      rng = { seed = 1, stream = row[1] } }
    local expected = at("trunc_normal." .. row[1] .. ".analytic"):totable()
    lu.assertAlmostEquals(x:mean():item(), expected[1], 0.004 * row[2])
    lu.assertAlmostEquals(x:std():item(), expected[2], 0.004 * row[2])
    local sorted = x:sort()
    for k, q in ipairs { 0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999 } do
      lu.assertAlmostEquals(sorted[math.floor(q * 999999) + 1]:item(), expected[4 + k], 0.02 * row[2])
    end
    lu.assertTrue(x:max():item() <= row[4] and x:min():item() >= row[3])
  end
end

-- ---- pictures ------------------------------------------------------------------------------

function TestGoldenOps:test_pillow_resizing_to_the_byte()
  helper.need_shared("golden/e_ops.safetensors")
  local boxes, checked = at("pil.boxes_ijhw"):totable(), 0
  for key in next, golden do
    local kind, mode, box, h, w = key:match("^pil%.resized_crop%.(%a+)%.(%a+)%.box(%d)%.(%d+)x(%d+)$")
    if kind then
      local b = boxes[tonumber(box) + 1]
      local got = lumen.image.crop_resize(at("pil." .. kind), b,
        math.tointeger(h), math.tointeger(w), { filter = mode })
      helper.assert_equal(got, at(key), key)
      checked = checked + 1
    end
  end
  lu.assertTrue(checked >= 30, "only " .. checked)
end

function TestGoldenOps:test_torchvision_resizing()
  helper.need_shared("golden/e_ops.safetensors")
  local gray = at("pil.gray"):to("f32"):reshape(1, 1, 73, 91)
  for key in next, golden do
    local mode, aa, h, w = key:match("^tv%.resize%.gray%.(%a+)%.aa(%d)%.(%d+)x(%d+)$")
    if mode then
      local got = lumen.resize(gray, { size = { math.tointeger(h), math.tointeger(w) }, mode = mode,
                                       antialias = aa == "1" })
      helper.assert_close(got:reshape(at(key).shape), at(key), 1e-5, key)
    end
  end
end

function TestGoldenOps:test_normalisation()
  helper.need_shared("golden/e_ops.safetensors")
  local gray = at("normalize.in.gray"):to("f32"):reshape(1, 16, 16) / 255
  local data = lumen.data
  local mean = lumen.tensor(data.mean):reshape(3, 1, 1)
  local std = lumen.tensor(data.std):reshape(3, 1, 1)
  helper.assert_close((gray - mean) / std, at("normalize.out"), 1e-6)
end

helper.run()
