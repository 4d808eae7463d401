-- Checkpoints: checkpoints/step_N/ with model.safetensors, optimizer.safetensors and
-- state.json. Written under another name (every file synced), then renamed: a checkpoint that
-- has its name is whole.
local core = require "lumen.core"
local json = require "lumen.run.json"
local path = require "lumen.path"

local checkpoint = {}

-- Steps for which `dir` has a checkpoint, ascending.
local function steps_in(dir)
  local steps = {}
  if path.is_dir(dir) then
    for _, name in ipairs(core.fs.list(dir)) do
      local step = name:match("^step_(%d+)$")
      if step then steps[#steps + 1] = math.tointeger(step) end
    end
  end
  table.sort(steps)
  return steps
end

-- state: list of { name, value }. Keeps the newest `keep` checkpoints.
function checkpoint.save(run_dir, step, model, optimizer, state, keep)
  local fs = core.fs
  local dir = run_dir .. "/checkpoints"
  local final, temporary = dir .. "/step_" .. step, dir .. "/writing"
  fs.remove_tree(temporary, run_dir)
  fs.mkdir(temporary)
  core.save(temporary .. "/model.safetensors", model:state_dict())
  core.save(temporary .. "/optimizer.safetensors", optimizer:state_dict())
  fs.write(temporary .. "/state.json", json.object(state) .. "\n")
  for _, name in ipairs { "/model.safetensors", "/optimizer.safetensors", "" } do
    fs.sync(temporary .. name)
  end
  fs.remove_tree(final, run_dir)
  fs.rename(temporary, final)
  fs.sync(dir)
  local steps = steps_in(dir)
  for i = 1, #steps - keep do fs.remove_tree(dir .. "/step_" .. steps[i], dir) end
end

-- best/model.safetensors, replaced as a whole.
function checkpoint.save_best(run_dir, model)
  local dir = run_dir .. "/best"
  core.fs.mkdir(dir)
  core.save(dir .. "/writing.safetensors", model:state_dict())
  core.fs.sync(dir .. "/writing.safetensors")
  core.fs.rename(dir .. "/writing.safetensors", dir .. "/model.safetensors")
  core.fs.sync(dir)
end

-- The newest checkpoint's folder and its state.json as a table, or nil.
function checkpoint.latest(run_dir)
  local steps = steps_in(run_dir .. "/checkpoints")
  if #steps == 0 then return nil end
  local dir = ("%s/checkpoints/step_%d"):format(run_dir, steps[#steps])
  return dir, core.json.decode(core.fs.read(dir .. "/state.json"))
end

-- Weights named by an option: a file, or a run directory (the best by validation where the run
-- kept them, else its newest checkpoint). Raises when there is none.
-- -> table
--   > path = os.tmpname() .. ".safetensors"
--   > lumen.save(path, lumen.nn.Linear(3, 5):state_dict())
--   > lumen.run.weights(path).weight.shape
--   {5, 3}
function checkpoint.weights(where)
  if path.is_file(where .. "/best/model.safetensors") then
    where = where .. "/best/model.safetensors"
  elseif path.is_dir(where) then
    local dir = checkpoint.latest(where)
    if not dir then error(("%s is no run directory with a checkpoint"):format(where), 0) end
    where = dir .. "/model.safetensors"
  elseif not core.fs.exists(where) then
    error(("there is no file or run directory %s"):format(where), 0)
  end
  local state = core.load(where)
  if type(state) ~= "table" then error(("%s holds no named weights"):format(where), 0) end
  if type(state.state_dict) == "table" then state = state.state_dict end
  if type(state.model) == "table" then state = state.model end
  return state
end

return checkpoint
