-- Pictures: what shapes and values become, grids, fonts, colours, the terminal and files.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local cells = require "lumen.picture.cells"
local colormap = require "lumen.picture.colormap"
local font = require "lumen.picture.font"
local histogram = lumen.histogram
local history = require "lumen.run.history"
local terminal = require "lumen.terminal"

local function shape(x) return table.concat(x.shape, " ") end

local function need(program)
  if not terminal.program(program) then lu.skip("no program " .. program) end
end

local function program()
  local pipe = io.popen("readlink /proc/$PPID/exe")
  local path = pipe:read("l")
  pipe:close()
  return path
end

TestCells = {}

function TestCells:test_shapes()
  local function count(s, dtype)
    local list, n = cells.split(lumen.zeros(s, { dtype = dtype or "f32" }), 16)
    return ("%d %d %s"):format(#list, n, shape(list[1]))
  end
  lu.assertEquals(count { 4, 5 }, "1 1 4 5")
  lu.assertEquals(count { 1, 4, 5 }, "1 1 4 5")
  lu.assertEquals(count { 3, 4, 5 }, "1 1 3 4 5")
  lu.assertEquals(count { 20, 4, 5 }, "16 20 4 5")
  lu.assertEquals(count { 2, 3, 4, 5 }, "2 2 3 4 5")
  lu.assertEquals(count { 2, 1, 4, 5 }, "2 2 4 5")
  lu.assertEquals(count({ 4, 5, 3 }, "u8"), "1 1 3 4 5")
  lu.assertEquals(count { 4, 5, 3 }, "1 1 3 4 5")
  for _, bad in ipairs { { 4 }, { 2, 2, 4, 5 }, { 0, 4 }, { 1, 1, 1, 4, 5 } } do
    lu.assertErrorMsgContains("a picture is", count, bad)
  end
end

function TestCells:test_ranges()
  local function range(values, dtype, given)
    local _, low, high = cells.range(lumen.tensor(values, { dtype = dtype }), given)
    return { low, high }
  end
  lu.assertEquals(range({ { 0, 200 } }, "u8"), { 0, 255 })
  lu.assertEquals(range({ { 0, 1 } }, "u8"), { 0, 1 })
  lu.assertEquals(range { { 0.25, 0.5 } }, { 0, 1 })
  lu.assertEquals(range { { -2, 6 } }, { -2, 6 })
  lu.assertEquals(range { { 7, 7 } }, { 7, 8 })
  lu.assertEquals(range({ { -2, 6 } }, nil, { 0, 1 }), { 0, 1 })
  lu.assertEquals(range { { 0 / 0, -4, math.huge } }, { -4, -3 })
  lu.assertEquals(range { { 0 / 0 } }, { 0, 1 })
end

function TestCells:test_a_normalised_input_is_denormalised()
  local grey = lumen.rand({ 1, 8, 8 }):expand { 3, 8, 8 }
  local mean = lumen.tensor(lumen.data.mean):reshape { 3, 1, 1 }
  local std = lumen.tensor(lumen.data.std):reshape { 3, 1, 1 }
  local x, low, high = cells.range((grey - mean) / std)
  lu.assertEquals({ low, high }, { 0, 1 })
  helper.assert_close(x, grey, 1e-5)
end

function TestCells:test_what_is_not_finite_is_magenta()
  local image = cells.paint(lumen.tensor { { 0 / 0, 0.5 } }, 0, 1)
  lu.assertEquals(image:totable(), { { { 255, 0, 255 }, { 128, 128, 128 } } })
  image = cells.paint(lumen.tensor { { { 1, 0 } }, { { 1, math.huge } }, { { 1, 0 } } }, 0, 1)
  lu.assertEquals(image:totable(), { { { 255, 255, 255 }, { 255, 0, 255 } } })
end

TestColors = {}

-- Lightness (CIE L*) of an sRGB colour.
local function lightness(c)
  local function linear(v)
    v = v / 255
    return v <= 0.04045 and v / 12.92 or ((v + 0.055) / 1.055) ^ 2.4
  end
  local y = 0.2126 * linear(c[1]) + 0.7152 * linear(c[2]) + 0.0722 * linear(c[3])
  return y > 0.008856 and 116 * y ^ (1 / 3) - 16 or 903.3 * y
end

function TestColors:test_lightness_rises_evenly()
  local list = colormap.list()
  lu.assertEquals(#list, 256)
  local first, last = lightness(list[1]), lightness(list[256])
  lu.assertTrue(first < 25 and last > 85)
  for i = 17, 256, 16 do
    local expected = first + (last - first) * (i - 1) / 255
    lu.assertAlmostEquals(lightness(list[i]), expected, 6)
    lu.assertTrue(lightness(list[i]) > lightness(list[i - 16]))
  end
end

function TestColors:test_ends_and_clipping()
  local list = colormap.list()
  local x = colormap.apply(lumen.tensor { -1, 0, 1, 2 }):totable()
  lu.assertEquals(x, { list[1], list[1], list[256], list[256] })
  lu.assertEquals(shape(lumen.picture.heat(lumen.zeros { 2, 5 })), "2 5 3")
end

TestFont = {}

function TestFont:test_letters()
  lu.assertEquals(font.render("I"):totable(), {
    { 0, 1, 1, 1, 0 }, { 0, 0, 1, 0, 0 }, { 0, 0, 1, 0, 0 }, { 0, 0, 1, 0, 0 },
    { 0, 0, 1, 0, 0 }, { 0, 0, 1, 0, 0 }, { 0, 1, 1, 1, 0 } })
  lu.assertEquals(shape(font.render("abc")), "7 17")
  lu.assertEquals(font.render("\xff"):totable(), font.render("?"):totable())
  lu.assertEquals(shape(font.render("")), "7 1")
  local seen = {}
  for byte = 33, 126 do -- every one drawn, no two alike
    local text = table.concat(font.render(string.char(byte)):reshape({ 35 }):totable())
    lu.assertNotNil(text:find("1"))
    lu.assertNil(seen[text], string.char(byte))
    seen[text] = true
  end
end

TestShow = {}

function TestShow:test_sizes()
  local picture = lumen.show.picture
  lu.assertEquals(shape(picture(lumen.rand { 10, 20 }, { size = 10 })), "10 20 3")
  lu.assertEquals(shape(picture(lumen.rand { 10, 20 }, { size = 80 })), "40 80 3")
  lu.assertEquals(shape(picture(lumen.rand { 4, 1, 10, 10 }, { size = 10, columns = 2 })),
    table.concat({ 2 * (11 + 10) + 4, 2 * 10 + 4, 3 }, " ")) -- titles: 9 + 2
end

function TestShow:test_a_file()
  lu.assertEquals(shape(lumen.show.picture("tests/fixtures/grey.png")):match("%d+$"), "3")
end

function TestShow:test_values_and_masks()
  local image = lumen.full({ 2, 2 }, 100, { dtype = "u8" })
  local mask = lumen.tensor({ { 1, 0 }, { 0, 0 } }, { dtype = "u8" })
  local shown = lumen.show.picture(image, mask, { size = 2, color = { 255, 0, 0 }, strength = 1 })
  lu.assertEquals(shown:totable(), { { { 255, 0, 0 }, { 100, 100, 100 } },
                                     { { 100, 100, 100 }, { 100, 100, 100 } } })
end

function TestShow:test_lists_titles_bars()
  local p = lumen.vision.phantom { size = 32, index = 1 }
  local one = lumen.show.picture({ p.image, { p.image, p.mask, title = "truth" },
    { p.image:to("f32") * 3, heat = true } }, { size = 64, titles = { "image" } })
  lu.assertEquals(one.dtype, "u8")
  lu.assertEquals(one.shape[1], 64 + 11)
  lu.assertTrue(one.shape[2] > 3 * 64)
end

function TestShow:test_errors()
  local function fails(text, ...) lu.assertErrorMsgContains(text, lumen.show.picture, ...) end
  fails("did you mean columns?", lumen.zeros { 2, 2 }, { colums = 2 })
  fails("a tensor, a file or a list of tensors expected, not number", 3)
  fails("/nowhere.png", "/nowhere.png")
  fails("the list is empty", {})
  fails("entry 1 of the list", { "x" })
  fails("the mask is 3 x 2, the image 2 x 2", lumen.zeros { 2, 2 }, lumen.zeros { 3, 2 })
  fails("2 masks for 3 images", lumen.zeros { 3, 1, 2, 2 }, lumen.zeros { 2, 1, 2, 2 })
  fails("the mask is no tensor", lumen.zeros { 2, 2 }, 3)
end

-- The program in an empty folder, its output not a terminal: a file that is named.
TestOutput = {}

function TestOutput:setUp() self.dir = helper.temporary_folder() end
function TestOutput:tearDown() helper.remove_folder(self.dir) end

function TestOutput:run(chunk, wrap)
  local file = self.dir .. "/chunk.lua"
  lumen.fs.write(file, 'local lumen = require "lumen"\n' .. chunk)
  local command = ("cd %s && LUMEN_PATH=%s " .. (wrap or "%s %s") .. " 2>&1"):format(self.dir,
    lumen.fs.realpath("."), program(), file)
  local pipe = io.popen(command)
  local text = pipe:read("a")
  pipe:close()
  return text
end

function TestOutput:test_files_when_it_is_no_terminal()
  lu.assertEquals(self:run("for _ = 1, 2 do lumen.show(lumen.rand {8, 8}) end"),
    "picture: runs/pictures/show_1.png\npicture: runs/pictures/show_2.png\n")
  lu.assertEquals(lumen.image.load(self.dir .. "/runs/pictures/show_2.png").shape, { 128, 128, 3 })
  lu.assertEquals(self:run("lumen.show(lumen.rand {8, 8}, {file = 'a.png'})"), "picture: a.png\n")
  lu.assertNotNil(lumen.fs.stat(self.dir .. "/a.png"))
end

local in_terminal = "TERM=xterm-256color script -qec '%s %s' /dev/null </dev/null"

function TestOutput:test_blocks_in_a_terminal()
  need "chafa"
  need "script"
  local text = self:run("lumen.show(lumen.rand {32, 32})", in_terminal)
  lu.assertStrContains(text, "\27[") -- colours
  lu.assertNil(lumen.fs.stat(self.dir .. "/runs"))
end

function TestOutput:test_a_terminal_without_chafa()
  need "script"
  local text = self:run("lumen.show(lumen.rand {32, 32})", "PATH=/nowhere " ..
    in_terminal:gsub("script", terminal.program("script")))
  lu.assertStrContains(text, "picture: runs/pictures/show_1.png")
end

function TestOutput:test_plot_without_gnuplot()
  local text = self:run("lumen.plot {1, 2, 3}", "PATH=/nowhere %s %s")
  lu.assertStrContains(text, "Debian package gnuplot-nox")
end

TestPlot = {}

function TestPlot:setUp() self.dir = helper.temporary_folder() end
function TestPlot:tearDown() helper.remove_folder(self.dir) end

local log = '{"step": 1, "loss": 2.0}\n{"step": 2, "loss": null, "rec": 1.5}\n{"step": 3, "lo'

-- What is drawn, as the text of an SVG file.
function TestPlot:svg(fn, x, o)
  need "gnuplot"
  o.file = self.dir .. "/plot.svg"
  fn(x, o)
  return (lumen.fs.read(o.file))
end

function TestPlot:test_curves()
  local text = self:svg(lumen.plot, lumen.rand { 3, 20 }, { title = "it's <b>\n\"bold\"", ylabel = "dice" })
  lu.assertStrContains(text, "it's &lt;b> \"bold\"")
  lu.assertStrContains(text, "dice")
  lu.assertEquals(select(2, text:gsub("<title>", "")), 4) -- the plot's own and three curves
  self:svg(lumen.plot, { { "a", { 1, 2, 3 }, { 10, 20, 30 } }, lumen.rand { 5 } }, {})
  self:svg(lumen.plot, { 1, 0 / 0, 3 }, {})
end

function TestPlot:test_runs()
  lumen.fs.write(self.dir .. "/log.jsonl", log)
  local text = self:svg(lumen.plot, self.dir, { fields = { "loss", "rec" } })
  lu.assertStrContains(text, "rec")
  self:svg(lumen.plot, { self.dir, self.dir }, {})
  lu.assertErrorMsgContains("has no column 'dice' (there are loss, rec, step)", lumen.plot,
    self.dir, { fields = "dice" })
  lu.assertErrorMsgContains("is no run directory", lumen.plot, "/nowhere")
end

function TestPlot:test_histogram_plot()
  local text = self:svg(lumen.hist, lumen.randn { 1000 }, { bins = 12 })
  lu.assertStrContains(text, "1000 values")
end

function TestPlot:test_errors()
  lu.assertErrorMsgContains("x is [L] or [K, L]", lumen.plot, lumen.zeros { 2, 2, 2 })
  lu.assertErrorMsgContains("not nil", lumen.plot)
  lu.assertErrorMsgContains("no finite value", lumen.hist, { 0 / 0 })
  need "gnuplot"
  lu.assertErrorMsgContains("no finite value", lumen.plot, { 0 / 0 })
  lu.assertErrorMsgContains(".png or .svg", lumen.plot, { 1, 2 }, { file = "x.txt" })
end

TestNumbers = {}

function TestNumbers:test_histogram_counts()
  local h = histogram(lumen.tensor { 0, 1, 1, 4, 0 / 0, math.huge }, { bins = 4 })
  lu.assertEquals(h.counts, { 1, 2, 0, 1 })
  lu.assertEquals(h.edges, { 0, 1, 2, 3, 4 })
  lu.assertEquals({ h.count, h.left_out, h.sum, h.squares }, { 4, 2, 6, 18 })
  h = histogram(lumen.tensor { 0, 1, 1, 4 }, { bins = 2, range = { 1, 3 } })
  lu.assertEquals({ h.counts, h.left_out }, { { 2, 0 }, 2 })
  lu.assertEquals(histogram(lumen.zeros { 0 }, { bins = 2 }).counts, { 0, 0 })
  h = histogram(lumen.full({ 7 }, 5), { bins = 3 })
  lu.assertEquals(h.counts, { 0, 7, 0 })
  h = histogram(lumen.tensor({ 1, 2, 250 }, { dtype = "u8" }):expand { 2, 3 }, { bins = 2 })
  lu.assertEquals(h.counts, { 4, 2 })
  lu.assertErrorMsgContains("bins must be", histogram, lumen.zeros { 2 }, { bins = 0 })
  lu.assertErrorMsgContains("range must be", histogram, lumen.zeros { 2 }, { range = { 1, 1 } })
  lu.assertErrorMsgContains("did you mean bins", histogram, lumen.zeros { 2 }, { bin = 1 })
end

function TestNumbers:test_history()
  local dir = helper.temporary_folder()
  lumen.fs.write(dir .. "/log.jsonl", log)
  local h = history.read(dir)
  lu.assertEquals(h.names, { "loss", "rec", "step" })
  lu.assertEquals(h.rows, 2)
  lu.assertEquals(h.columns.step, { 1, 2 })
  lu.assertEquals(h.columns.rec[2], 1.5)
  lu.assertTrue(h.columns.rec[1] ~= h.columns.rec[1])
  lumen.fs.write(dir .. "/log.jsonl", "nonsense\n")
  lu.assertErrorMsgContains("line 1 is no JSON", history.read, dir)
  helper.remove_folder(dir)
  lu.assertErrorMsgContains("no log.jsonl", history.read, dir)
  local smooth = history.smooth({ 1, 0 / 0, 1, 3 }, 0.5)
  lu.assertEquals({ smooth[1], smooth[2], smooth[3] }, { 1, 1, 1 })
  lu.assertTrue(smooth[4] > 1 and smooth[4] < 3)
end

TestExplore = {}

-- The weights, put on the values, give what the fused attention gives.
function TestExplore:test_attention_is_the_models_own()
  local model = lumen.models.vit { model = "vit_micro", size = 32 }
  model:initialize(3)
  local image = lumen.randn { 2, 3, 32, 32 }
  for _, block in ipairs { 1, -1 } do
    local attention = model.blocks:at(block == 1 and 1 or 4).attn
    local x, out
    rawset(attention, "forward", function(self, input)
      x, out = input, getmetatable(self).forward(self, input)
      return out
    end)
    lumen.no_grad(function() model(image) end)
    rawset(attention, "forward", nil)
    local weights = lumen.explore.attention(model, image, { block = block })
    lu.assertEquals(weights.shape, { 2, 4, 17, 17 })
    helper.assert_close(weights:sum { dims = { 4 } }, lumen.ones { 2, 4, 17 }, 1e-5)
    local v = attention.qkv(x):reshape({ 2, 17, 3, 4, 16 }):permute({ 3, 1, 4, 2, 5 })[3]
    local mixed = weights:matmul(v):transpose(2, 3):reshape { 2, 17, 64 }
    helper.assert_close(attention.proj(mixed):detach(), out:detach(), 1e-5)
  end
  lu.assertErrorMsgContains("block 5; there are 4", lumen.explore.attention, model, image, { block = 5 })
  lu.assertErrorMsgContains("no transformer", lumen.explore.attention, lumen.models.unext {}, image)
end

function TestExplore:test_models_and_images()
  local image = lumen.vision.phantom({ size = 64, index = 2 }).image
  local picture = lumen.explore.picture
  local mae = lumen.models.mae { model = "vit_micro", size = 32 }
  local training = mae.training
  lu.assertEquals(picture(mae, image, { size = 32 }).shape[1], 32 + 11)
  lu.assertEquals(mae.training, training)
  lu.assertNil(rawget(mae.blocks:at(4).attn, "forward"))
  lu.assertEquals(picture(lumen.models.simmim { model = "vit_micro", size = 32 }, image,
    { size = 32 }).shape[1], 32 + 11)
  local function width(model, x, o) return picture(model, x, o).shape[2] end
  local batch = lumen.randn { 2, 3, 32, 32 }
  lu.assertEquals(width(lumen.models.vit { model = "vit_micro", size = 32 }, batch, { size = 64 }),
    2 * 64 + 4)
  lu.assertEquals(width(lumen.models.segmenter { model = "vit_micro", size = 32 }, image,
    { size = 128 }), 4 * 128 + 3 * 4)
  lu.assertEquals(width(lumen.models.unext {}, image:to("f32") / 255, { size = 128 }), 3 * 128 + 2 * 4)
  lu.assertErrorMsgContains("there is no file /nowhere.png", lumen.explore, mae, "/nowhere.png")
  lu.assertErrorMsgContains("is no model", lumen.explore, {}, image)
end

helper.run()
