-- vasomim_step.lua: one VasoMIM training step (forward, both losses, backward, AdamW) against
-- the machine's own sgemm peak, and against PyTorch when a Python with it is named.
--
--   build/lumen tests/bench/vasomim_step.lua [model [batch [python]]]
--   model vit_small (default) or vit_base; batch 8; python: e.g. python3
--
-- 224 px, mask ratio 0.5, decoder 512 x 8 blocks, consistency through UNeXt-S, f32. Both sides
-- use the same number of threads, one after the other in one run.
local lumen = require "lumen"

local model_name, batch = arg[1] or "vit_small", tonumber(arg[2] or 8)
local python = arg[3]

local function best_of(n, fn)
  local best = math.huge
  for _ = 1, n do
    local start = lumen.time()
    fn()
    best = math.min(best, lumen.time() - start)
  end
  return best
end

-- GFLOP/s of a square product, best of several.
local function gemm_peak()
  local n = 2048
  local a, b = lumen.rand(n, n), lumen.rand(n, n)
  return lumen.no_grad(function()
    a:matmul(b)
    return 2 * n ^ 3 / best_of(5, function() a:matmul(b):release() end) / 1e9
  end)
end

-- Matrix FLOPs of one step: linear layers and attention of both transformers, forward and
-- backward (three times the forward); UNeXt and pointwise work are not counted.
local function step_flops(o, length)
  local function blocks(tokens, dim, depth)
    return depth * (24 * tokens * dim ^ 2 + 4 * tokens ^ 2 * dim)
  end
  local seen = length - length // 2 + 1
  local pixels = o.patch ^ 2 * 3
  local forward = 2 * length * pixels * o.dim + blocks(seen, o.dim, o.depth)
    + 2 * seen * o.dim * o.decoder_dim + blocks(length + 1, o.decoder_dim, o.decoder_depth)
    + 2 * (length + 1) * o.decoder_dim * pixels
  return 3 * forward
end

lumen.seed(0)
local segmentor = lumen.models.unext { channels = 3, classes = 1 }
segmentor:initialize(0)
segmentor:eval():freeze()
local model = lumen.models.mae { model = model_name, size = 224 }
model:initialize(0)
local optimizer = lumen.optim.adamw(model, { weight_decay = 0.05, beta1 = 0.9, beta2 = 0.95 })
local image = lumen.randn { batch, 3, 224, 224 }
local guide = lumen.rand { batch, 1, 224, 224 }
local rng = { seed = 1, stream = "masking" }

local function step()
  return lumen.scope(function()
    local vessels = lumen.no_grad(function() return segmentor(image):sigmoid() end)
    local mask = lumen.masking.guided(0.5 * guide + 0.5 * vessels,
      { ratio = 0.5, share = 0.25, grid = model.grid, rng = rng })
    local out = model(image, mask)
    local rec = lumen.loss.masked_mse(out.pred, image, mask)
    local total = rec + lumen.loss.anatomical_consistency(segmentor, out.image, vessels)
    total:backward()
    optimizer:step(1e-4)
    model:zero_grad()
    return total:item()
  end)
end

local function resident_peak() -- GiB, high-water mark of the process
  for line in io.lines("/proc/self/status") do
    local kb = line:match("VmHWM:%s+(%d+)")
    if kb then return tonumber(kb) / 1024 ^ 2 end
  end
end

local first = step()
assert(first == first and first > 0 and first < 100, "the step's loss is " .. first)
for _ = 1, 2 do step() end
local seconds = best_of(5, step)
assert(step() < first, "five steps on one batch did not lower the loss")
local peak = gemm_peak()
local flops = step_flops(model.options, model.grid[1] * model.grid[2]) * batch
print(("lumen    %s batch %d: %.2f images/s, %.0f GFLOP/s = %.0f %% of sgemm's %.0f, peak %.2f GiB"):format(
  model_name, batch, batch / seconds, flops / seconds / 1e9, flops / seconds / 1e7 / peak, peak,
  resident_peak()))

if python then
  collectgarbage()
  local command = ("env -u GOMP_SPINCOUNT %s tests/bench/peer_vasomim_step.py %s %d %d"):format(python, model_name,
    batch, lumen.threads())
  local pipe = assert(io.popen(command))
  local line = pipe:read("a")
  pipe:close()
  io.write(line)
  local speed, memory = line:match("([%d%.]+) images/s.-([%d%.]+) GiB")
  if speed then
    print(("ratio    %.2f times PyTorch's speed, %.2f of its memory"):format(
      batch / seconds / tonumber(speed), resident_peak() / tonumber(memory)))
  end
end
