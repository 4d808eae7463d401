-- helper.lua: what the tests share: comparing tensors, and testing an operation from rows of
-- samples. A test file builds rows with helper.op and helper.error, may add LuaUnit classes as
-- globals named Test..., and ends with helper.run().
--
-- Each row of helper.op is run: forward in f64 against `ref`; f32 and bf16 against f64;
-- on transposed and on sliced inputs; gradients against finite differences in f64, with the
-- result used twice; f32 gradients against f64 ones; twice for the same bits. With
-- LUMEN_TEST_DEVICE=shim (or cuda) the same rows are run there and on the CPU, and compared.
local lu = require "luaunit"
local lumen = require "lumen"

local helper = {}

-- ---- inputs: descriptions that become tensors of the wanted dtype --------------------------

local function spec(make) return { make = make, is_spec = true } end

-- Uniform in [low, high), the same for the same shape and seed.
function helper.rand(shape, low, high, seed)
  return spec(function(dtype)
    local rng = { seed = seed or 1, stream = "test" }
    local x = lumen.rand(shape, { dtype = "f64", low = low or 0, high = high or 1, rng = rng })
    return x:to(dtype)
  end)
end

function helper.randn(shape, seed)
  return spec(function(dtype)
    local x = lumen.randn(shape, { dtype = "f64", rng = { seed = seed or 1, stream = "test" } })
    return x:to(dtype)
  end)
end

-- Values in random order that keep `gap` from each other: for maxima and other kinks.
function helper.distinct(shape, gap, seed)
  return spec(function(dtype)
    local n = 1
    for _, s in ipairs(shape) do n = n * s end
    local key = lumen.rand({ n }, { rng = { seed = seed or 1, stream = "test" } })
    local order = key:argsort():to("f64")
    return ((order - n / 2 + 0.25) * (gap or 0.1)):reshape(shape):to(dtype)
  end)
end

-- Integers in [low, high]; dtype stays what it is (default i64).
function helper.integers(shape, low, high, dtype, seed)
  return spec(function()
    local x = lumen.rand(shape, { dtype = "f64", low = low, high = high + 1,
                                  rng = { seed = seed or 1, stream = "test" } })
    return x:floor():to(dtype or "i64")
  end)
end

-- Exactly these values. With a dtype they keep it, else they follow the test's dtype.
function helper.values(table_of_numbers, dtype)
  return spec(function(wanted)
    return lumen.tensor(table_of_numbers, { dtype = dtype or wanted })
  end)
end

local function realise(value, dtype)
  if type(value) ~= "table" then return value end
  if value.is_spec then return value.make(dtype) end
  if lumen.is_tensor(value) then return value end
  local list = {}
  for i, v in ipairs(value) do list[i] = realise(v, dtype) end
  return list
end

local function inputs_of(row, dtype)
  local args = {}
  for i = 1, row.args.n or #row.args do args[i] = realise(row.args[i], dtype) end
  return args
end

-- ---- comparing -----------------------------------------------------------------------------

local function flat(x) return x:detach():to("f64"):contiguous():reshape({ -1 }):totable() end

local function shape_text(x) return "[" .. table.concat(x.shape, " x ") .. "]" end

-- Largest |actual - expected| relative to the largest |expected| (at least `floor`).
function helper.deviation(actual, expected, floor)
  local a, e = flat(actual), flat(expected)
  local largest, worst, where = floor or 1e-30, 0, 0
  for _, v in ipairs(e) do
    if v == v and math.abs(v) < math.huge then largest = math.max(largest, math.abs(v)) end
  end
  for i, v in ipairs(e) do
    local same = a[i] == v or (a[i] ~= a[i] and v ~= v)
    local d = same and 0 or math.abs(a[i] - v)
    if not (d <= worst) then worst, where = d == d and d or math.huge, i end
  end
  return worst / largest, where, a[where], e[where]
end

function helper.assert_close(actual, expected, tolerance, what)
  what = what or "tensor"
  lu.assertEquals(shape_text(actual), shape_text(expected), what .. ": shape")
  local d, at, a, e = helper.deviation(actual, expected, 1e-6)
  if not (d <= tolerance) then
    lu.fail(("%s: element %d is %.17g, expected %.17g (deviation %.3g of the largest, %.3g allowed)")
      :format(what, at, a, e, d, tolerance))
  end
end

function helper.assert_equal(actual, expected, what)
  lu.assertEquals(actual.dtype, expected.dtype, what)
  lu.assertEquals(actual.shape, expected.shape, what)
  local a, e = flat(actual), flat(expected)
  for i = 1, #e do
    if not (a[i] == e[i] or (a[i] ~= a[i] and e[i] ~= e[i])) then
      lu.fail(("%s: element %d is %.17g, expected %.17g"):format(what or "tensor", i, a[i], e[i]))
    end
  end
end

-- ---- operations from sample rows -----------------------------------------------------------

local by_name = {}
for _, op in ipairs(lumen.ops) do by_name[op.name] = op end

helper.tested = {} -- operation -> number of rows, for the completeness test

local tolerance = { f64 = 1e-9, f32 = 2e-5, bf16 = 3e-2 }

local function call(name, args, row)
  local packed = table.pack(table.unpack(args, 1, row.args.n or #row.args))
  if row.options then
    packed.n = packed.n + 1
    packed[packed.n] = row.options
  end
  return table.pack(lumen[name](table.unpack(packed, 1, packed.n)))
end

local function is_tensor(x) return lumen.is_tensor(x) end

local function map_tensors(args, fn)
  local out = {}
  for i, x in ipairs(args) do -- holes end the list: optional tensors left out are `false`
    if is_tensor(x) then out[i] = fn(x)
    elseif type(x) == "table" then out[i] = map_tensors(x, fn)
    else out[i] = x end
  end
  return out
end

-- The same values in other memory: dimensions stored in reverse order.
local function transposed(x)
  if x.ndim < 2 then return x end
  local reverse = {}
  for d = 1, x.ndim do reverse[d] = x.ndim + 1 - d end
  return x:permute(reverse):contiguous():permute(reverse)
end

-- The same values as a slice of something larger.
local function sliced(x)
  if x.ndim == 0 or x:numel() == 0 then return x end
  local wide = lumen.cat({ x, x, x }, { dim = x.ndim })
  local n = x.shape[x.ndim]
  return wide:slice(x.ndim, n + 1, 2 * n)
end

local function check_outputs(actual, expected, tol, what)
  for k = 1, expected.n do
    if is_tensor(expected[k]) then
      helper.assert_close(actual[k], expected[k], tol, what .. " output " .. k)
    end
  end
end

local function forward_f64(name, row)
  local args = inputs_of(row, "f64")
  local out = call(name, args, row)
  if row.shape then lu.assertEquals(out[1].shape, row.shape, name .. ": shape") end
  if row.ref then
    local expected = table.pack(row.ref(table.unpack(inputs_of(row, "f64"), 1, row.args.n or #row.args)))
    for k = 1, expected.n do
      if type(expected[k]) ~= "userdata" then
        expected[k] = lumen.tensor(expected[k], { dtype = "f64" })
      end
    end
    check_outputs(out, expected, row.tol and row.tol.f64 or tolerance.f64, name .. " f64")
  end
  return out
end

local function check_forward(name, row)
  local out = forward_f64(name, row)
  local random = by_name[name].random
  if random then return end
  for _, dtype in ipairs { "f32", "bf16" } do
    if not (dtype == "bf16" and row.bf16 == false) then
      local tol = row.tol and row.tol[dtype] or tolerance[dtype]
      local got = call(name, inputs_of(row, dtype), row)
      local again = call(name, inputs_of(row, dtype), row)
      if dtype == "f32" then check_outputs(got, out, tol, name .. " f32")
      else
        local same = call(name, map_tensors(inputs_of(row, "bf16"), function(x)
          return x.dtype == "bf16" and x:to("f64") or x
        end), row)
        check_outputs(got, same, tol, name .. " bf16")
      end
      for k = 1, got.n do
        if is_tensor(got[k]) then helper.assert_equal(got[k], again[k], name .. ": twice") end
      end
    end
  end
end

local function check_layouts(name, row)
  if by_name[name].inplace or by_name[name].random or row.layouts == false then return end
  local plain = call(name, inputs_of(row, "f64"), row)
  local tol = row.tol and row.tol.f64 or tolerance.f64
  check_outputs(call(name, map_tensors(inputs_of(row, "f64"), transposed), row), plain, tol,
    name .. " transposed")
  check_outputs(call(name, map_tensors(inputs_of(row, "f64"), sliced), row), plain, tol,
    name .. " sliced")
end

-- Inputs that take part in differentiation, flattened, and a function of them.
local function differentiable(name, row)
  local args = inputs_of(row, "f64")
  local leaves = {}
  map_tensors(args, function(x)
    if x.dtype == "f64" and not (row.constant and row.constant[#leaves + 1]) then
      leaves[#leaves + 1] = x
    end
    return x
  end)
  local function fn(...)
    local given, next_leaf = { ... }, 0
    local used = map_tensors(args, function(x)
      if x.dtype ~= "f64" then return x end
      next_leaf = next_leaf + 1
      return given[next_leaf] or x
    end)
    local out = call(name, used, row)
    return table.unpack(out, 1, out.n)
  end
  return fn, leaves
end

local function check_gradient(name, row)
  if not by_name[name].differentiable or row.grad == false then return end
  local fn, leaves = differentiable(name, row)
  if #leaves == 0 then return end
  local options = { eps = row.eps or 1e-6, tol = row.tol and row.tol.grad or 1e-5 }
  lumen.gradcheck(fn, leaves, options)
  lumen.gradcheck(function(...) -- the result, and every input, used twice
    local a, b = fn(...), fn(...)
    return a + b
  end, leaves, options)
  if row.layouts ~= false then
    lumen.gradcheck(function(...)
      local views = {}
      for i, x in ipairs { ... } do views[i] = transposed(x) end
      return fn(table.unpack(views))
    end, leaves, options)
  end
end

local function gradients(name, row, dtype)
  local args = inputs_of(row, dtype)
  local leaves = {}
  map_tensors(args, function(x)
    if x.dtype == dtype and not (row.constant and row.constant[#leaves + 1]) then
      x.requires_grad = true
      leaves[#leaves + 1] = x
    end
    return x
  end)
  local total
  local out = call(name, args, row)
  for k = 1, out.n do
    if out[k].dtype == dtype then
      local part = (out[k] * out[k] + out[k]):sum()
      total = total and total + part or part
    end
  end
  if total and total.requires_grad then total:backward() end
  return leaves
end

local function check_gradient_f32(name, row)
  local op = by_name[name]
  if not op.differentiable or op.random or row.grad == false then return end
  local exact, single = gradients(name, row, "f64"), gradients(name, row, "f32")
  for i, x in ipairs(exact) do
    if x.grad and x:numel() > 0 then
      local g = single[i] and single[i].grad
      lu.assertNotNil(g, ("%s: no f32 gradient for input %d"):format(name, i))
      helper.assert_close(g, x.grad, row.tol and row.tol.grad_f32 or 1e-4,
        ("%s: f32 gradient %d"):format(name, i))
    end
  end
end

-- ---- the same on another device ------------------------------------------------------------

helper.device = os.getenv "LUMEN_TEST_DEVICE" -- nil: the CPU

local function to_device(args)
  return map_tensors(args, function(x) return x:detach():to(helper.device) end)
end

-- Runs fn. An operation without a kernel there (or without one for its gradient) is skipped by
-- name. Returns false when only the dtype is not for that device.
local function unless_missing(fn)
  local ok, message = pcall(fn)
  if ok then return true end
  message = tostring(message)
  if message:find("there is no kernel for f64", 1, true) then return false end
  if message:find("there is no kernel for " .. helper.device, 1, true) then
    lu.skip(message:match("^[^\n]*"))
  end
  error(message, 0)
end

local function seeded_call(name, args, row)
  lumen.seed(5)
  return call(name, args, row)
end

-- The call on both, for one dtype; `change` (or nil) gives the device's inputs another layout.
local function compare_devices(name, row, dtype, change)
  local tol = row.tol and row.tol[dtype] or tolerance[dtype]
  local expected = seeded_call(name, inputs_of(row, dtype), row)
  local function there()
    local args = to_device(inputs_of(row, dtype))
    return seeded_call(name, change and map_tensors(args, change) or args, row)
  end
  return unless_missing(function()
    local got, again = there(), there()
    lu.assertEquals(got.n, expected.n)
    for k = 1, got.n do
      if is_tensor(got[k]) then
        local what = ("%s %s output %d"):format(name, dtype, k)
        lu.assertStrContains(got[k].device, helper.device, what)
        lu.assertEquals(got[k].dtype, expected[k].dtype, what)
        helper.assert_close(got[k]:to("cpu"), expected[k], tol, what)
        helper.assert_equal(got[k]:to("cpu"), again[k]:to("cpu"), what .. ": twice")
      end
    end
  end)
end

local function device_forward(name, row)
  for _, dtype in ipairs { "f32", "bf16", "f64" } do
    if not (dtype == "bf16" and row.bf16 == false) then compare_devices(name, row, dtype) end
  end
end

local function sliced_there(x) -- without cat, which has a kernel of its own
  if x.ndim == 0 or x:numel() == 0 then return x end
  local shape, n = x.shape, x.shape[x.ndim]
  shape[x.ndim] = 3 * n
  local wide = lumen.zeros(shape, { dtype = x.dtype, device = x.device })
  return wide:slice(x.ndim, n + 1, 2 * n):copy_(x)
end

local function device_layouts(name, row)
  if by_name[name].inplace or row.layouts == false then return end
  compare_devices(name, row, "f32", transposed)
  compare_devices(name, row, "f32", sliced_there)
end

-- Gradients of the sum of out^2 + out, computed by handing 2 out + 1 to backward.
local function gradients_there(name, row, device, dtype)
  local leaves = {}
  local args = map_tensors(inputs_of(row, dtype), function(x)
    local constant = row.constant and row.constant[#leaves + 1]
    local leaf = x.dtype == dtype and not constant
    x = x:detach():to(device)
    if leaf then
      x.requires_grad = true
      leaves[#leaves + 1] = x
    end
    return x
  end)
  local out = seeded_call(name, args, row)
  for k = 1, out.n do
    if out[k].requires_grad then
      local g = (out[k]:detach():to("cpu") * 2 + 1):to(device)
      out[k]:backward(g, { keep = true })
    end
  end
  return leaves
end

local function compare_gradients(name, row, dtype, tol)
  local expected = gradients_there(name, row, "cpu", dtype)
  unless_missing(function()
    local got = gradients_there(name, row, helper.device, dtype)
    for i, x in ipairs(expected) do
      local what = ("%s %s: gradient %d"):format(name, dtype, i)
      lu.assertEquals(got[i].grad ~= nil, x.grad ~= nil, what)
      if x.grad then helper.assert_close(got[i].grad:to("cpu"), x.grad, tol, what) end
    end
  end)
end

-- Gradients that are hardly more than rounding errors in f32 (tol.grad_f32) say nothing in bf16.
local function device_gradient(name, row)
  if not by_name[name].differentiable or row.grad == false then return end
  local tol = row.tol or {}
  compare_gradients(name, row, "f32", tol.grad_f32 or 1e-4)
  if row.bf16 ~= false and not tol.grad_f32 then
    compare_gradients(name, row, "bf16", tol.grad_bf16 or tolerance.bf16)
  end
end

local checks = { { "forward", check_forward }, { "layouts", check_layouts },
                 { "gradient", check_gradient }, { "gradient_f32", check_gradient_f32 } }
local function on_device(check)
  return function(name, row)
    if not (by_name[name].cuda or by_name[name].view) then
      lu.skip(name .. ": there is no kernel for " .. helper.device)
    end
    check(name, row)
  end
end

if helper.device then
  checks = { { "forward", on_device(device_forward) }, { "layouts", on_device(device_layouts) },
             { "gradient", on_device(device_gradient) } }
end

-- rows: list of { args = {...}, options = {...}, ref = fn or nil, shape = or nil,
--   grad = false, bf16 = false, layouts = false, constant = {[leaf] = true}, eps =, tol = {f64, f32, bf16, grad, grad_f32} }
function helper.op(name, rows)
  local op = by_name[name]
  if not op then error("helper.op: there is no operation " .. name, 2) end
  local class = _G["Test_" .. name] or {}
  _G["Test_" .. name] = class
  local first = helper.tested[name] or 0
  helper.tested[name] = first + #rows
  for i, row in ipairs(rows) do
    for _, check in ipairs(checks) do
      class[("test_%02d_%s"):format(first + i, check[1])] = function() check[2](name, row) end
    end
  end
end

-- The call must fail with a message that contains `text`.
function helper.error(name, row, text)
  if helper.device then return end
  local class = _G["Test_" .. name] or {}
  _G["Test_" .. name] = class
  local n = 1
  while class["test_error_" .. n] do n = n + 1 end
  class["test_error_" .. n] = function()
    local ok, message = pcall(call, name, inputs_of(row, row.dtype or "f32"), row)
    lu.assertFalse(ok, name .. ": no error")
    lu.assertStrContains(tostring(message), text)
  end
end

-- The gradient of value(), a scalar in f64, for each parameter of a model: along a random direction
-- against the difference quotient.
function helper.check_parameters(model, value, what)
  model:zero_grad()
  value():backward()
  for k, p in ipairs(model:named_parameters()) do
    if p.trainable then
      local rng, h = { seed = 100 + k, stream = "test" }, 1e-6
      local direction = lumen.randn(p.tensor.shape, { dtype = "f64", rng = rng })
      local at = p.tensor:detach()
      local kept = at:clone()
      local quotient = lumen.no_grad(function()
        at:copy_(kept + h * direction)
        local up = value():item()
        at:copy_(kept - h * direction)
        local down = value():item()
        at:copy_(kept)
        return (up - down) / (2 * h)
      end)
      local slope = p.tensor.grad and (p.tensor.grad * direction):sum():item() or 0
      lu.assertAlmostEquals(slope, quotient, 1e-6 + 1e-5 * math.abs(quotient), what .. " " .. p.name)
    end
  end
  model:zero_grad()
end

-- ---- reference data beside the project -----------------------------------------------------

-- Folder of reference data that is not part of the project, or nil.
function helper.shared(path)
  local folder = os.getenv("LUMEN_SHARED") or "../shared"
  local full = folder .. "/" .. path
  return lumen.fs.exists(full) and full or nil
end

-- The same, skipping the running test by name when it is not there.
function helper.need_shared(path)
  local full = helper.shared(path)
  if not full then lu.skip("no reference data: shared/" .. path) end
  return full
end

helper.sanitized = os.getenv("LUMEN_SANITIZE") ~= nil

local made = {} -- folders of temporary_folder: the only ones that a test may delete

function helper.temporary_folder()
  local path = os.tmpname()
  os.remove(path)
  lumen.fs.mkdir(path)
  made[path] = path:match("^(.*)/")
  return path
end

-- Deletes a folder that temporary_folder made in this process, and refuses every other: data
-- that a test only reads must survive any mistake in it.
function helper.remove_folder(path)
  if not made[path] then error("not a temporary folder of this test: " .. tostring(path), 2) end
  lumen.fs.remove_tree(path, made[path])
  made[path] = nil
end

-- ---- what a run left -------------------------------------------------------------------------

-- The lines of log.jsonl without what a clock wrote into them.
function helper.log_rows(dir)
  local list = {}
  for line in io.lines(dir .. "/log.jsonl") do
    local row = lumen.json.decode(line)
    row.images_per_s, row.data_wait = nil, nil
    list[#list + 1] = row
  end
  return list
end

-- The weights of its newest checkpoint: name -> nested lists.
function helper.weights(dir)
  local state = {}
  for name, t in next, require("lumen.run").weights(dir) do state[name] = t:totable() end
  return state
end

-- ---- running -------------------------------------------------------------------------------

-- Ends the program with the number of failures; 77 (skipped) when every test was skipped.
function helper.run()
  if helper.listing then return end -- the completeness test only wants the rows
  if helper.device then
    if helper.device == "cuda" and lumen.gpus() == 0 then os.exit(77, true) end
    for name in next, _G do -- only rows are run there
      if name:match("^Test") and not helper.tested[name:match("^Test_(.*)")] then _G[name] = nil end
    end
  end
  local runner = lu.LuaUnit.new()
  local failures = runner:runSuite("--verbose")
  local r = runner.result
  if failures == 0 and r.successCount == 0 and r.skippedCount > 0 then os.exit(77, true) end
  os.exit(failures == 0 and 0 or 1, true)
end

return helper
