-- shim_train_test.lua: the whole method with the kernels of the cards, on the shim: VasoMIM with
-- its segmentor, guided masks, both losses and AdamW follows the CPU step by step.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"

TestTraining = {}

function TestTraining:setUp() self.dir = helper.temporary_folder() end
function TestTraining:tearDown() helper.remove_folder(self.dir) end

function TestTraining:train(device)
  local dir = self.dir .. "/" .. device
  lumen.recipe("vasomim"):start { out = dir, device = device, preset = "smoke", size = 32,
    images = 4, batch = 4, epochs = 3, segmentor_epochs = 1 }
  return helper.log_rows(dir), helper.log_rows(dir .. "/stages/segmentor")
end

function TestTraining:test_loss_curves_agree()
  if helper.sanitized then lu.skip("the operations are run under the sanitizers one by one") end
  local mine, mine_first = self:train "cpu"
  local theirs, theirs_first = self:train "shim"
  lu.assertEquals(#theirs, 3)
  for _, pair in ipairs { { mine, theirs }, { mine_first, theirs_first } } do
    for step, row in ipairs(pair[1]) do
      for _, name in ipairs { "loss", "grad_norm" } do
        local a, b = row[name], pair[2][step][name]
        lu.assertTrue(math.abs(a - b) <= 1e-4 * math.abs(a),
          ("step %d: %s is %.9g on the shim, %.9g on the CPU"):format(step, name, b, a))
      end
    end
  end
end

helper.run()
