-- Images to score, with their references: by name, or as a CSV file lists them.
--
-- By name: beside x.png lie x_source.png, the non-contrast frame it was made from, and
-- x_contrast.png, a contrast frame of the same sequence, in folders below, too. Either may be
-- missing, and they may be files of another kind (x_source.jpg) or size.
local core = require "lumen.core"
local dataset = require "lumen.dataset"
local path = require "lumen.path"
local rated = require "lumen.rated"

-- All image files at or below a folder, sorted folder by folder.
local function images_below(folder)
  local files = {}
  for _, inner in ipairs(dataset.folders(folder)) do
    for _, name in ipairs(core.fs.list(inner)) do
      if dataset.is_image(name) then files[#files + 1] = inner .. "/" .. name end
    end
  end
  if #files == 0 then error(("option score: no images in %s"):format(folder), 0) end
  return files
end

local function split_name(file) return file:match("^(.*)%.([^./]+)$") end

-- stem -> the files x.* of it.
local function by_stem(files)
  local stems = {}
  for _, file in ipairs(files) do
    local stem = split_name(file) or file
    stems[stem] = stems[stem] or {}
    table.insert(stems[stem], file)
  end
  return stems
end

-- x of x_source or x_contrast, else nil.
local function owner_of(stem)
  return stem:match("^(.*[^/])_source$") or stem:match("^(.*[^/])_contrast$")
end

-- The one of `files` (or nil) that is an image's reference: of its own kind, or the only one.
local function choose(image, files)
  if not files then return nil end
  local _, kind = split_name(image)
  for _, file in ipairs(files) do
    if select(2, split_name(file)) == kind then return file end
  end
  if #files > 1 then
    error(("%s and %s: which belongs to %s?"):format(files[1], files[2], image), 0)
  end
  return files[1]
end

local function row_of(image, stems)
  local stem = split_name(image) or image
  return { image = image, non_contrast = choose(image, stems[stem .. "_source"]),
           contrast = choose(image, stems[stem .. "_contrast"]) }
end

local function by_name(files)
  local stems, rows = by_stem(files), {}
  for _, file in ipairs(files) do
    local owner = owner_of(split_name(file))
    if not owner then
      rows[#rows + 1] = row_of(file, stems)
    elseif not stems[owner] or owner_of(owner) then
      error(("%s: a reference by its name, but of no image\nhint: give it another name, or list " ..
        "the images in a CSV file"):format(file), 0)
    end
  end
  return rows
end

-- The images of a folder with the references that a CSV file gives them. Images that are
-- references there are not scored.
local function by_list(folder, list)
  local of, is_reference, rows, found = {}, {}, {}, 0
  for _, row in ipairs(list) do
    of[core.fs.realpath(row.image)] = row
    for _, column in ipairs { "non_contrast", "contrast" } do
      if row[column] then is_reference[core.fs.realpath(row[column])] = true end
    end
  end
  for _, file in ipairs(images_below(folder)) do
    local here = core.fs.realpath(file)
    local row = of[here]
    if row then found = found + 1 end
    if row or not is_reference[here] then
      rows[#rows + 1] = { image = file, non_contrast = row and row.non_contrast,
                          contrast = row and row.contrast }
    end
  end
  return rows, found
end

-- Images to score: a list of { image =, non_contrast =, contrast = } (paths; a reference that is
-- missing is nil), and the folder that their names start with. where: a folder (references by
-- name: x.png, x_source.png, x_contrast.png; or as `references` says, a CSV file of rated images,
-- whose scores and cases may be missing), an image with its references beside it, or such a CSV
-- file. Errors name the file: a folder without images, a reference whose image is not there, two
-- that fit, a CSV file that is broken or names no image of the folder.
-- -> table, str
--   > folder = os.tmpname() .. ".d"
--   > lumen.fs.mkdir(folder)
--   > for _, name in ipairs { "a", "a_source", "b" } do
--   >   lumen.image.save(("%s/%s.png"):format(folder, name), lumen.zeros(8, 8))
--   > end
--   > rows = require "lumen.rated.find"(folder)
--   > #rows, rows[1].non_contrast == folder .. "/a_source.png", rows[1].contrast
--   2
--   true
--   nil
return function(where, references)
  local is_dir = path.is_dir(where)
  if is_dir and where ~= "/" then where = where:gsub("/+$", "") end
  local folder = is_dir and where or where:match("^(.*)/[^/]*$") or "."
  if not is_dir and not path.is_file(where) then
    error(("option score: there is no folder %s, and no such file"):format(where), 0)
  end
  if not is_dir and references then
    error("option references: it is for a folder (score=FILE.csv lists its own)", 0)
  end
  if not is_dir and where:lower():match("%.csv$") then
    return rated.read(where, true).rows, folder
  end
  if references then
    local list = rated.read(references, true).rows
    local rows, found = by_list(folder, list)
    if found == 0 then
      error(("option references: %s names no image of %s"):format(references, folder), 0)
    end
    if found < math.max(#rows, #list) then
      io.stderr:write(("%s: %d of its %d rows are images of %s, which has %d\n"):format(
        references, found, #list, folder, #rows))
    end
    return rows, folder
  end
  if is_dir then return by_name(images_below(folder)), folder end
  local files = {}
  for _, name in ipairs(core.fs.list(folder)) do
    if dataset.is_image(name) then files[#files + 1] = folder .. "/" .. name end
  end
  return { row_of(folder .. "/" .. where:match("[^/]*$"), by_stem(files)) }, folder
end
