-- The directory of a run: claiming and locking it, what it was made with, and that a resumed
-- run is the same run.
local core = require "lumen.core"
local json = require "lumen.run.json"
local options = require "lumen.options"
local path = require "lumen.path"

local directory = {}

local function hash(text)
  local h = 0x811c9dc5
  for i = 1, #text do h = (h ~ text:byte(i)) * 0x01000193 & 0xffffffff end
  return ("%08x"):format(h)
end

-- A new name under runs/.
function directory.fresh(recipe, o)
  local text = options.dump(recipe.rows, o) .. os.time() .. tostring(core.time())
  return ("runs/%s/%s-%s"):format(recipe.name, os.date("%Y%m%d-%H%M%S"), hash(text))
end

-- An existing directory may be used when it is empty or when the run is to be resumed.
function directory.claim(dir, resume)
  local fs = core.fs
  if path.is_file(dir) then error(dir .. " is not a directory", 0) end
  if path.is_dir(dir) and #fs.list(dir) > 0 and not resume then
    error(("run directory %s is not empty\nhint: resume=true continues it"):format(dir), 0)
  end
  fs.mkdir(dir)
  local lock = fs.lock(dir .. "/lock")
  if not lock then -- a run that nobody holds any more may still have it
    collectgarbage()
    collectgarbage()
    lock = fs.lock(dir .. "/lock")
  end
  if not lock then error(("run directory %s is in use by another process"):format(dir), 0) end
  return lock
end

-- What computed this run; resuming under other conditions may give other bits.
function directory.environment(dir)
  local file = dir .. "/env.json"
  local now = core.build()
  now.threads = core.threads()
  if core.fs.exists(file) then
    local before = core.json.decode(core.fs.read(file), file)
    now.data = before.data
    for _, field in ipairs { "version", "blas", "blas_core", "threads" } do
      if tostring(before[field]) ~= tostring(now[field]) then
        io.stderr:write(("%s: %s was %s, now %s: bits may differ from the run so far\n"):format(
          dir, field, tostring(before[field]), tostring(now[field])))
      end
    end
  end
  core.fs.write(file, core.json.encode(now) .. "\n")
end

-- Writes down in env.json what data a run uses (name -> facts, a table), and warns when a
-- resumed run finds other files than before, or chooses others of them.
function directory.note_data(dir, name, facts)
  local file = dir .. "/env.json"
  local env = core.json.decode(core.fs.read(file), file)
  env.data = env.data or {}
  local before = env.data[name]
  if before and (before.fingerprint ~= facts.fingerprint or before.chosen ~= facts.chosen) then
    io.stderr:write(("%s: the files of data %s are not those the run began with\n"):format(
      dir, name))
  end
  env.data[name] = facts
  core.fs.write(file, core.json.encode(env) .. "\n")
end

-- A resumed run is the same run: only what does not change its numbers may differ.
local may_change = { out = true, resume = true, threads = true, workers = true, keep = true,
                     save_every = true, device = true, root = true, predict = true }

function directory.check_same(recipe, o, saved, dir)
  for _, row in ipairs(recipe.rows) do
    local name = row[1]
    if not may_change[name] and saved[name] ~= nil and saved[name] ~= o[name] then
      error(("%s was started with %s=%s; a resumed run cannot change it to %s\n" ..
        "hint: give another out="):format(dir, name, tostring(saved[name]),
        tostring(o[name])), 0)
    end
  end
end

return directory
