-- patch_test.lua: patches of images and the losses on them, against their composed forms.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"

local randn = helper.randn

-- The composed form: [N, C, H, W] -> [N, L, p*p*C].
local function patches(x, p)
  local n, c, h, w = table.unpack(x.shape)
  return x:reshape { n, c, h // p, p, w // p, p }:permute { 1, 3, 5, 4, 6, 2 }
    :reshape { n, h // p * (w // p), p * p * c }
end

helper.op("patchify", {
  { args = { randn { 2, 3, 4, 6 } }, options = { patch = 2 },
    ref = function(x) return patches(x, 2) end },
  { args = { randn { 1, 1, 3, 3 } }, options = { patch = 1 },
    ref = function(x) return patches(x, 1) end },
  { args = { randn { 0, 3, 4, 4 } }, options = { patch = 4 }, shape = { 0, 1, 48 } },
  { args = { randn { 2, 3, 64, 96 } }, options = { patch = 16 }, grad = false,
    ref = function(x) return patches(x, 16) end },
})
helper.error("patchify", { args = { randn { 1, 3, 5, 4 } }, options = { patch = 2 } },
  "patchify: patches of 2 x 2 do not tile x (f32 cpu [1 x 3 x 5 x 4])")
helper.error("patchify", { args = { randn { 1, 3, 4, 4 } }, options = { patch = 0 } },
  "patch must be at least 1")

helper.op("unpatchify", {
  { args = { randn { 2, 6, 12 } }, options = { patch = 2, height = 4, width = 6 },
    shape = { 2, 3, 4, 6 } },
  { args = { randn { 1, 4, 4 } }, options = { patch = 2, height = 4, width = 4 },
    ref = function(x)
      local t, out = x:totable()[1], {}
      for i = 0, 3 do
        out[i + 1] = {}
        for j = 0, 3 do
          out[i + 1][j + 1] = t[i // 2 * 2 + j // 2 + 1][i % 2 * 2 + j % 2 + 1]
        end
      end
      return { { out } }
    end },
  { args = { randn { 0, 4, 4 } }, options = { patch = 2, height = 4, width = 4 },
    shape = { 0, 1, 4, 4 } },
})
helper.error("unpatchify", { args = { randn { 1, 5, 4 } },
                             options = { patch = 2, height = 4, width = 4 } },
  "unpatchify: x does not hold the 2 x 2 patches of images of 4 x 4 (x: f32 cpu [1 x 5 x 4])")

-- ---- masked_mse, denormalize_patches -------------------------------------------------------

local function mean_and_variance(t)
  return t:mean { dims = { 3 }, keepdim = true }, t:var { dims = { 3 }, keepdim = true }
end

local function composed_loss(p, norm_pix, eps)
  return function(pred, image, mask)
    local t = patches(image, p)
    if norm_pix then
      local mean, variance = mean_and_variance(t)
      t = (t - mean) / (variance + eps):sqrt()
    end
    mask = mask:to(pred.dtype)
    local each = (pred - t):square():mean { dims = { 3 } }
    return (each * mask):sum() / mask:sum()
  end
end

local mask = helper.values({ { 1, 0, 0, 1, 1, 0 }, { 0, 0, 0, 0, 0, 1 } }, "f32")
local target_only = { [2] = true } -- image and mask take no gradient

helper.op("masked_mse", {
  { args = { randn { 2, 6, 12 }, randn({ 2, 3, 4, 6 }, 2), mask }, options = { patch = 2 },
    constant = target_only, ref = composed_loss(2, true, 1e-6) },
  { args = { randn { 2, 6, 12 }, randn({ 2, 3, 4, 6 }, 2), mask }, constant = target_only,
    options = { patch = 2, norm_pix = false }, ref = composed_loss(2, false) },
  { args = { randn { 1, 1, 18 }, randn({ 1, 2, 3, 3 }, 2), helper.values({ { 1 } }, "f32") },
    options = { patch = 3, eps = 0.1 }, constant = target_only,
    ref = composed_loss(3, true, 0.1) },
  { args = { randn { 2, 9, 256 }, randn({ 2, 1, 48, 48 }, 2),
             helper.values({ { 1, 0, 1, 0, 0, 1, 1, 1, 1 }, { 0, 0, 0, 0, 0, 0, 0, 0, 1 } }) },
    options = { patch = 16 }, constant = target_only, grad = false,
    ref = composed_loss(16, true, 1e-6) },
})
helper.error("masked_mse", { args = { randn { 2, 6, 11 }, randn { 2, 3, 4, 6 }, mask },
                             options = { patch = 2 } },
  "masked_mse: pred has shape [2 x 6 x 11]")
helper.error("masked_mse", { args = { randn { 2, 6, 12 }, randn { 2, 3, 4, 6 },
                                      helper.rand { 2, 5 } }, options = { patch = 2 } },
  "masked_mse: mask has shape [2 x 5]")
helper.error("masked_mse", { args = { randn { 1, 1, 1 }, randn { 1, 1, 1, 1 },
                                      helper.rand { 1, 1 } }, options = { patch = 1 } },
  "masked_mse: patches of 1 number have no variance")

helper.op("denormalize_patches", {
  { args = { randn { 2, 6, 12 }, randn({ 2, 3, 4, 6 }, 2) }, options = { patch = 2 },
    constant = target_only, ref = function(pred, image)
      local mean, variance = mean_and_variance(patches(image, 2))
      return pred * (variance + 1e-6):sqrt() + mean
    end },
  { args = { randn { 0, 6, 12 }, randn { 0, 3, 4, 6 } }, options = { patch = 2 },
    constant = target_only, shape = { 0, 6, 12 } },
})
helper.error("denormalize_patches", { args = { randn { 2, 6, 12 }, randn { 1, 3, 4, 6 } },
                                      options = { patch = 2 } },
  "denormalize_patches: pred has shape [2 x 6 x 12]")

helper.op("patch_sum", {
  { args = { randn { 2, 3, 4, 6 } }, options = { patch = 2 },
    ref = function(x) return patches(x, 2):sum { dims = { 3 } } end },
  { args = { randn { 3, 1, 32, 32 } }, options = { patch = 8 }, grad = false,
    ref = function(x) return patches(x, 8):sum { dims = { 3 } } end },
  { args = { randn { 0, 1, 4, 4 } }, options = { patch = 2 }, shape = { 0, 4 } },
})

TestPatches = {}

function TestPatches.test_round_trip()
  local x = lumen.arange(2 * 3 * 32 * 48):reshape { 2, 3, 32, 48 }
  local y = x:patchify { patch = 16 }:unpatchify { patch = 16, height = 32, width = 48 }
  helper.assert_equal(y, x)
end

function TestPatches.test_normalised_target_comes_back()
  local image = lumen.rand({ 1, 3, 8, 8 }, { rng = { seed = 1, stream = "image" } })
  local mean, variance = mean_and_variance(patches(image, 4))
  local pred = (patches(image, 4) - mean) / (variance + 1e-6):sqrt()
  local back = pred:denormalize_patches(image, { patch = 4 })
  helper.assert_close(back, patches(image, 4), 1e-6)
  local all = lumen.ones { 1, 4 }
  lu.assertTrue(lumen.masked_mse(pred, image, all, { patch = 4 }):item() < 1e-12)
end

function TestPatches.test_target_with_gradient_is_refused()
  local image = lumen.ones { 1, 1, 4, 4 }
  image.requires_grad = true
  local ok, message = pcall(lumen.masked_mse, lumen.ones { 1, 4, 4 }, image, lumen.ones { 1, 4 },
    { patch = 2 })
  lu.assertFalse(ok)
  lu.assertStrContains(tostring(message), "masked_mse: there is no gradient for image")
end

function TestPatches.test_nothing_masked_is_nan()
  local loss = lumen.masked_mse(lumen.ones { 1, 4, 4 }, lumen.ones { 1, 1, 4, 4 },
    lumen.zeros { 1, 4 }, { patch = 2 }):item()
  lu.assertTrue(loss ~= loss)
end

helper.run()
