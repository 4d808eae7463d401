-- The tiny VasoMIM: masks, latent, predictions, reconstructions, both losses, all gradients
-- and three AdamW steps against reference tensors; integer arithmetic of the masking.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local loss, masking, models, optim = lumen.loss, lumen.masking, lumen.models, lumen.optim

local function golden() return lumen.load(helper.need_shared("golden/b_vasomim_tiny.safetensors")) end

local function tiny(g, dtype, norm_pix)
  local model = models.mae { size = 64, patch = 8, dim = 48, depth = 2, heads = 3,
    decoder_dim = 32, decoder_depth = 1, decoder_heads = 2, norm_pix = norm_pix }
  local state = {}
  for name, tensor in next, g do state[name:match("^w0%.(.+)$") or 0] = tensor end
  state[0] = nil
  model:load_state_dict(state)
  return model:to(dtype)
end

local function segmentor(dtype)
  local model = models.unext {}
  model:load_state_dict(lumen.load(helper.need_shared("golden/unext_s_weights.safetensors")))
  return model:to(dtype):eval():freeze()
end

-- The recorded order of patches as a mask of this library.
local function mask_from(shuffle, keep, dtype)
  local restore = lumen.argsort(shuffle)
  return { keep = shuffle:slice(2, 1, keep):contiguous(), restore = restore,
           mask = lumen.ge(restore, keep):cast(dtype) }
end

local function forward(g, model, teacher, mask, norm_pix, dtype)
  local imgs = g.imgs:to(dtype)
  local vessels = lumen.no_grad(function() return teacher(imgs):sigmoid() end)
  local out = model(imgs, mask)
  out.rec = loss.masked_mse(out.pred, imgs, mask, { norm_pix = norm_pix })
  out.cons = loss.anatomical_consistency(teacher, out.image, vessels)
  out.vessels = vessels
  return out
end

local function near(actual, expected, tol, what)
  actual, expected = actual:item(), expected:item()
  local difference = math.abs(actual - expected)
  lu.assertTrue(difference <= tol * math.abs(expected),
    ("%s is %.17g, expected %.17g"):format(what, actual, expected))
end

local function check_gradients(g, model, prefix, tol, dtype)
  for _, p in ipairs(model:named_parameters()) do
    if p.trainable then
      local expected = g[prefix .. p.name]:to(dtype)
      lu.assertNotNil(p.tensor.grad, p.name)
      -- The gradient of the keys' bias is zero but for rounding.
      if p.name:match("attn%.qkv%.bias$") then
        local third = p.tensor.shape[1] // 3
        local function parts(x) return lumen.cat({ x:slice(1, 1, third), x:slice(1, 2 * third + 1, -1) }) end
        helper.assert_close(parts(p.tensor.grad), parts(expected), tol, prefix .. p.name)
      else
        helper.assert_close(p.tensor.grad, expected, tol, prefix .. p.name)
      end
    end
  end
end

local function check(mr, kind, dtype, tol)
  local g = golden()
  local norm_pix = kind == "npix"
  local model, teacher = tiny(g, dtype, norm_pix), segmentor(dtype)
  local keep = masking.counts(64, mr == "mr75" and 0.75 or 0.5, 0)
  local mask = mask_from(g[mr .. ".ids_shuffle"], keep, dtype)
  helper.assert_close(mask.mask, g[mr .. ".mask"]:to(dtype), 0, "mask")
  helper.assert_equal(mask.restore, g[mr .. ".ids_restore"], "restore")
  local key = ("%s.%s."):format(mr, kind)
  local out = forward(g, model, teacher, mask, norm_pix, dtype)
  for name, value in next, { latent = out.latent, pred = out.pred, recon_imgs = out.image } do
    helper.assert_close(value, (g[key .. name]):to(dtype), tol.activation, key .. name)
  end
  near(out.rec, g[key .. "loss_rec_f64"], tol.loss, "loss_rec")
  near(out.cons, g[key .. "loss_cons_f64"], tol.loss, "loss_cons")
  local total = out.rec + out.cons
  near(total, g[key .. "loss_total_f64"], tol.loss, "loss_total")
  total:backward()
  check_gradients(g, model, key .. "grad_total.", tol.gradient, dtype)
  model:zero_grad()
  forward(g, model, teacher, mask, norm_pix, dtype).rec:backward()
  check_gradients(g, model, key .. "grad_rec.", tol.gradient, dtype)
end

TestVasomim = {}

local f32 = { activation = 2e-5, loss = 7e-7, gradient = 2.1e-5 }
local f64 = { activation = 1e-5, loss = 1e-12, gradient = 1e-6 }

-- The sanitizer build (-O1) and x86-64-v2 sum in another order, and in one case one of the 24576
-- signs that one of UNeXt's ReLUs decides then falls the other way. That is a kink, not an error:
-- in f64 with that sign turned the gradients are as far from the reference (9.2e-5), and f32 is
-- within 1.8e-6 of them.
local f32_kink = { activation = 2e-5, loss = 7e-7, gradient = 1e-4 }

local other_order = helper.sanitized or lumen.build().arch == "x86-64-v2"

for _, mr in ipairs { "mr75", "mr50" } do
  for _, kind in ipairs { "pix", "npix" } do
    local kink = other_order and mr == "mr75" and kind == "pix"
    TestVasomim[("test_%s_%s_f32"):format(mr, kind)] = function()
      check(mr, kind, "f32", kink and f32_kink or f32)
    end
    TestVasomim[("test_%s_%s_f64"):format(mr, kind)] = function() check(mr, kind, "f64", f64) end
  end
end

function TestVasomim.test_guidance()
  local g, teacher = golden(), nil
  teacher = segmentor("f64")
  local probs = lumen.no_grad(function() return teacher(g.imgs:to("f64")):sigmoid() end)
  helper.assert_close(probs, g.seg_probs:to("f64"), 1e-5, "seg_probs")
  local guide = 0.5 * g.filters:to("f64") + 0.5 * probs
  helper.assert_close(guide, g.guidance_map:to("f64"), 1e-5, "guidance_map")
  local sums = lumen.patch_sum(guide, { patch = 8 })
  helper.assert_close(sums, g.patch_vessel_pixels:to("f64"), 1e-5, "patch_vessel_pixels")
  helper.assert_close(lumen.patchify(g.imgs, { patch = 8 }), g.patchify_imgs, 0, "patchify")
end

-- Three AdamW steps from the recorded weights with the recorded masks.
local function check_steps(name, keep_ratio, norm_pix, with_cons, dtype)
  local g = golden()
  local model, teacher = tiny(g, dtype, norm_pix), segmentor(dtype)
  local opt = optim.adamw(model, { beta1 = 0.9, beta2 = 0.95, weight_decay = 0.05 })
  local prefix = ("steps_%s."):format(name)
  local losses = g[prefix .. "losses_f64"]:totable()
  local tol = dtype == "f64" and 1e-9 or 2e-6
  for step = 1, 3 do
    local keep = masking.counts(64, 1 - keep_ratio, 0)
    local shuffle = g[prefix .. "ids_shuffle"]:select(1, step):contiguous()
    local out = forward(g, model, teacher, mask_from(shuffle, keep, dtype), norm_pix, dtype)
    lu.assertAlmostEquals(out.rec:item(), losses[step][1], tol * 10)
    lu.assertAlmostEquals(out.cons:item(), losses[step][2], tol * 10)
    local total = with_cons and out.rec + out.cons or out.rec
    total:backward()
    opt:step(1e-3)
    if step ~= 2 then
      for _, p in ipairs(model:named_parameters()) do
        local expected = g[("%safter%d_f64.%s"):format(prefix, step, p.name)]
        if expected and p.trainable then
          local difference = (p.tensor:detach():to("f64") - expected:to("f64")):abs()
          -- Entries whose true gradient is zero follow rounding noise, by up to lr a step.
          lu.assertTrue(difference:max():item() <= 2e-3 * step, p.name)
          if not p.name:match("qkv%.bias") then
            local off = difference:gt(1e-5):cast("f64"):mean():item()
            lu.assertTrue(off <= (dtype == "f64" and 0 or 2e-3), ("%s after %d: %g off"):format(p.name, step, off))
          end
        end
      end
    end
  end
end

for _, dtype in ipairs { "f32", "f64" } do
  TestVasomim["test_steps_pix_mr75_" .. dtype] = function()
    check_steps("pix_mr75", 0.25, false, true, dtype)
  end
  TestVasomim["test_steps_npix_mr50_" .. dtype] = function()
    check_steps("npix_mr50", 0.5, true, true, dtype)
  end
  TestVasomim["test_steps_pix_mr75_rec_" .. dtype] = function()
    check_steps("pix_mr75_rec", 0.25, false, false, dtype)
  end
end

function TestVasomim.test_integer_arithmetic()
  local rows = golden().int_table:totable()
  for _, row in ipairs(rows) do
    local length, ratio, epoch, epochs, first, last = table.unpack(row, 1, 6)
    local share = lumen.schedule.linear(first, last, epoch + 1, epochs)
    local keep, masked, guided = masking.counts(math.tointeger(length), ratio, share)
    lu.assertEquals({ keep, masked, guided }, { row[7], row[8], row[9] })
  end
end

helper.run()
