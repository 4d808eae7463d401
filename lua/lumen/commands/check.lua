-- lumen check data=NAME root=DIR: what is there of a dataset (or of a plain folder), and
-- exactly what is missing or unexpected. Exit code 1 when something is.
--   $ lumen check data=phantom
local core = require "lumen.core"
local data = require "lumen.data"
local dataset = require "lumen.dataset"
local options = require "lumen.options"
local path = require "lumen.path"

local rows = {
  { "data", "", "dataset name (see datasets/) or a folder of images" },
  { "root", "", "its folder, or the folder that holds it under its name" },
  { "read", 2000, "images of each split whose pixels are read, evenly spaced; 0: all", min = 0 },
}

local shown = 5 -- names printed of a longer list

local function some(names)
  local text = table.concat(names, ", ", 1, math.min(shown, #names))
  return #names > shown and ("%s and %d more"):format(text, #names - shown) or text
end

-- Complaints are collected; a heading with names, or a sentence.
local function complain(report, heading, names)
  if names and #names == 0 then return end
  report[#report + 1] = names and ("%s (%d): %s"):format(heading, #names, some(names)) or heading
end

local function stem(name) return (name:gsub("%.[^.]*$", "")) end

local function images_in(folder)
  local list, other = {}, {}
  for _, name in ipairs(core.fs.list(folder)) do
    if dataset.is_image(name) then list[#list + 1] = name
    elseif name:sub(1, 1) ~= "." then other[#other + 1] = name end
  end
  return list, other
end

-- Images without masks, masks without images, and files that are neither.
local function check_names(report, source)
  local images, other = images_in(source.images)
  if source.kind == "folder" then
    complain(report, "not images, in " .. source.images, other)
  end
  if not source.masks then return end
  local masks, other_masks = images_in(source.masks)
  complain(report, "not images, in " .. source.masks, other_masks)
  local function without(list, from)
    local known, lacking = {}, {}
    for _, name in ipairs(from) do known[stem(name)] = true end
    for _, name in ipairs(list) do
      if not known[stem(name)] then lacking[#lacking + 1] = name end
    end
    return lacking
  end
  complain(report, "images without a mask in " .. source.masks, without(images, masks))
  complain(report, "masks without an image in " .. source.images, without(masks, images))
end

local function size_of(image)
  local shape = image.shape
  return shape[1], shape[2], #shape == 3 and shape[3] or 1, image.dtype
end

-- Reads images (and masks) and tells sizes and what does not fit.
local function check_pixels(report, files, wanted, most)
  local sizes, order, bad = {}, {}, { unreadable = {}, mask = {}, size = {}, colour = {}, deep = {} }
  local step = (most == 0 or #files <= most) and 1 or #files / most
  for k = 1, math.ceil(#files / step) do
    local image, mask = table.unpack(files[(k - 1) * step // 1 + 1])
    core.scope(function()
      local ok, pixels = pcall(core.image.load, image)
      if not ok then
        bad.unreadable[#bad.unreadable + 1] = tostring(pixels)
        return
      end
      local h, w, channels, dtype = size_of(pixels)
      local size = ("%d x %d"):format(h, w)
      if not sizes[size] then order[#order + 1] = size end
      sizes[size] = (sizes[size] or 0) + 1
      if wanted and (h ~= wanted[1] or w ~= wanted[2]) then table.insert(bad.size, image) end
      if channels ~= 1 then table.insert(bad.colour, image) end
      if dtype ~= "u8" then table.insert(bad.deep, image) end
      if not mask then return end
      local good, other = pcall(core.image.load, mask)
      if not good then
        bad.unreadable[#bad.unreadable + 1] = tostring(other)
      elseif other.shape[1] ~= h or other.shape[2] ~= w then
        bad.mask[#bad.mask + 1] = ("%s (%d x %d, its image %s)"):format(mask, other.shape[1],
          other.shape[2], size)
      end
    end)
  end
  complain(report, "cannot be read", bad.unreadable)
  complain(report, "masks of another size than their image", bad.mask)
  if wanted then
    complain(report, ("not %d x %d"):format(wanted[1], wanted[2]), bad.size)
  end
  table.sort(order, function(a, b) return sizes[a] > sizes[b] or sizes[a] == sizes[b] and a < b end)
  for i, size in ipairs(order) do order[i] = #order > 1 and ("%s (%d)"):format(size, sizes[size]) or size end
  local notes = { some(order) }
  if #bad.colour > 0 then notes[#notes + 1] = #bad.colour .. " in colour" end
  if #bad.deep > 0 then notes[#notes + 1] = #bad.deep .. " with 16 bits" end
  return table.concat(notes, ", ")
end

-- { image, mask or nil } of all items of a part.
local function files_of(sources)
  local files = {}
  for _, source in ipairs(sources) do
    if source.kind == "files" then
      for _, row in ipairs(source.files) do files[#files + 1] = row end
    else
      local masks = {}
      for _, name in ipairs(source.masks and images_in(source.masks) or {}) do
        masks[stem(name)] = source.masks .. "/" .. name
      end
      for _, name in ipairs((images_in(source.images))) do
        files[#files + 1] = { source.images .. "/" .. name, masks[stem(name)] }
      end
    end
  end
  return files
end

local function check_part(report, found, part, o)
  local own = {}
  for _, source in ipairs(part.sources) do
    if source.images then check_names(own, source) end
  end
  local ok, total = pcall(dataset.items, part.sources)
  if not ok then complain(own, tostring(total)) end
  local files = files_of(part.sources)
  total = ok and total or #files
  local sizes = check_pixels(own, files, found.set.size, o.read)
  local labelled = part.sources[1].masks or part.sources[1].annotations or
    part.sources[1].files and part.sources[1].files[1][2]
  local text = ("%d images, %s, %s"):format(total, sizes, labelled and "with masks" or "no masks")
  local test = dataset.held_out(part, total)
  if test > 0 then text = ("%s; the last %d are the test split"):format(text, test) end
  if part.count and part.count ~= total then
    complain(own, ("%d images where %d are known to be"):format(total, part.count))
  end
  print(("  %-12s %s"):format(part.split, text))
  for _, line in ipairs(own) do report[#report + 1] = part.split .. ": " .. line end
end

local function check(o)
  local found = data.locate(o.data, o)
  local set, report = found.set, {}
  print(("%s: %s"):format(set.name, set.about))
  for _, field in ipairs { "paper", "origin", "licence" } do
    if set[field] then print(("  %-12s %s"):format(field, set[field])) end
  end
  if not found.dir then
    print("  made while it is read: nothing to check")
    return report
  end
  print(("  %-12s %s (form: %s)"):format("found in", found.dir, found.layout))
  local sources = {}
  for _, part in ipairs(found.parts) do
    check_part(report, found, part, o)
    table.move(part.sources, 1, #part.sources, #sources + 1, sources)
  end
  for _, part in ipairs(found.missing) do
    complain(report, ("%s: there is no %s%s"):format(part.split, part.path,
      part.count and (" (%d images)"):format(part.count) or ""))
  end
  print(("  %-12s %s"):format("fingerprint", dataset.fingerprint(sources)))
  return report
end

return function(...)
  local o = {}
  for _, row in ipairs(rows) do o[row[1]] = row[2] end
  for _, argument in ipairs { ... } do
    if argument == "--help" or argument == "-h" then
      print("lumen check: what is there of a dataset, what is missing or unexpected\n\n" ..
        options.help(rows) .. "\n\ndatasets: " .. table.concat(data.names(), ", "))
      return 0
    end
    local key, value = options.split(argument)
    o[key] = options.parse(options.find(rows, key, "lumen check"), value)
  end
  if o.data == "" then error("lumen check: data= must name a dataset or a folder", 0) end
  local report = check(o)
  if #report == 0 then
    print("complete")
    return 0
  end
  print("missing or unexpected:")
  for _, line in ipairs(report) do print("  " .. line) end
  return 1
end
