-- report.html: what it says, that hostile text stays text, and how Chromium shows it.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local chart = require "lumen.report.chart"
local html = require "lumen.report.html"
local terminal = require "lumen.terminal"

local hostile = "<script>alert(1)</script><img src=http://evil.invalid/x.png>\"'&\27[2J\xff"

-- A run directory, as small as one gets; o: options, steps, text (of an option), finished.
local function make_run(dir, o)
  lumen.fs.mkdir(dir .. "/images")
  lumen.fs.write(dir .. "/options.lua", ("return {\n  lr = %s,\n  seed = 0,\n  text = %q,\n}\n"):format(
    o.lr or "0.1", o.text or "plain"))
  lumen.fs.write(dir .. "/env.json", '{"blas": "openblas", "data": {"phantom": {"fingerprint": "ab"}}}')
  local lines = {}
  for step = 1, o.steps or 40 do
    lines[step] = ('{"epoch": 1, "step": %d, "loss": %.17g, "lr": 0.1, "images_per_s": 10.0, "data_wait": 0.5}\n')
      :format(step, (o.scale or 1) / step)
  end
  lumen.fs.write(dir .. "/log.jsonl", table.concat(lines))
  lumen.image.save(dir .. "/images/epoch_2.png", lumen.full({ 40, 60, 3 }, 200, { dtype = "u8" }))
  lumen.image.save(dir .. "/images/epoch_10.png", lumen.full({ 40, 60 }, 100, { dtype = "u8" }))
  lumen.fs.write(dir .. "/images/other.png", "this is no PNG")
  if o.finished ~= false then
    lumen.fs.write(dir .. "/result.json",
      ('{"finished": true, "recipe": "toy", "metrics": {"dice": %s, "deep": {"x": 1}}}'):format(o.dice or "0.5"))
  end
end

TestReport = {}

function TestReport:setUp() self.dir = helper.temporary_folder() end
function TestReport:tearDown() helper.remove_folder(self.dir) end

function TestReport:test_one_run()
  local dir = self.dir .. "/a"
  make_run(dir, {})
  local page = lumen.report.page { dir }
  for _, text in ipairs { "<h1>toy</h1>", "dice", "deep.x", "0.5", "<code>0.1</code>",
                          "data.phantom.fingerprint", "openblas", "finished", "10.0", "50 %" } do
    lu.assertStrContains(page, text)
  end
  lu.assertEquals(select(2, page:gsub("<figure class=\"chart\"", "")), 4)
  lu.assertEquals(select(2, page:gsub('src="data:image/png;base64,', "")), 2)
  lu.assertTrue(page:find("epoch_2<", 1, true) < page:find("epoch_10<", 1, true))
  lu.assertEquals(page, lumen.report.page { dir .. "/" }) -- nothing in it depends on the moment
end

function TestReport:test_several_runs()
  make_run(self.dir .. "/x/a", {})
  make_run(self.dir .. "/x/b", { lr = "0.2", dice = "0.75", steps = 30, finished = true })
  make_run(self.dir .. "/x/c", { finished = false })
  local page = lumen.report.page { self.dir .. "/x/a", self.dir .. "/x/b", self.dir .. "/x/c" }
  lu.assertStrContains(page, "<h1>3 runs</h1>")
  lu.assertStrContains(page, '<span class="dot c2"></span>b')
  lu.assertStrContains(page, "not finished")
  lu.assertStrContains(page, "<td>0.7500 <small>+0.2500</small></td>")
  local different = page:match("Options that differ</h2>(.-)</table>")
  lu.assertStrContains(different, '<tr class="differs"><th>lr</th><td><code>0.1</code></td><td><code>0.2</code>')
  lu.assertNil(different:find("seed"))
  lu.assertStrContains(page:match("Options that all have</h2>(.-)</table>"), "seed")
  lu.assertEquals(select(2, page:match("<figure class=\"chart\"><figcaption>loss.-</figure>")
    :gsub('class="smooth', "")), 3)
end

-- No text from outside becomes markup, in whatever place it stands.
function TestReport:test_hostile_text_stays_text()
  local dir = self.dir .. "/<b>&'\""
  make_run(dir, { text = hostile })
  lumen.fs.write(dir .. "/env.json", lumen.json.encode { ["<u>"] = "<i>", ok = true })
  lumen.fs.write(dir .. "/result.json", '{"recipe": "<em>", "metrics": {"<s>": 1, "d": "<q>", "h": 1e999}}')
  lumen.fs.write(dir .. "/log.jsonl", '{"step": 1, "<tt>": 2, "loss": null}\n')
  lumen.fs.rename(dir .. "/images/epoch_2.png", dir .. "/images/<img src=x>.png")
  lumen.fs.mkdir(dir .. "/stages/<a>")
  lumen.fs.write(dir .. "/stages/<a>/options.lua", "return {}")
  lumen.fs.write(dir .. "/stages/<a>/report.html", "")
  local page = lumen.report.page({ dir }, { beside = true })
  for _, tag in ipairs { "script", "b>&amp;", "u", "i", "em", "s", "q", "tt", "img src=x", "a" } do
    lu.assertNil(page:find("<" .. tag .. ">", 1, true), tag)
    lu.assertNil(page:find("<" .. tag .. "", page:find("<body>"), true) and tag == "script" or nil)
  end
  lu.assertStrContains(page, "&lt;script&gt;alert(1)&lt;/script&gt;")
  lu.assertNil(page:find("\27", 1, true))
  lu.assertNotNil(utf8.len(page))
  lu.assertEquals(html.escape("\xff\xffa\xe2\x82"), "\u{fffd}\u{fffd}a\u{fffd}\u{fffd}")
end

function TestReport:test_broken_directories_are_named()
  local function fails(text, dir) lu.assertErrorMsgContains(text, lumen.report.page, { dir }) end
  fails("/nowhere is no run directory", "/nowhere")
  local dir = self.dir .. "/a"
  make_run(dir, {})
  lumen.fs.write(dir .. "/log.jsonl", "no\n")
  fails("log.jsonl: line 1 is no JSON", dir)
  lumen.fs.write(dir .. "/log.jsonl", "")
  lumen.fs.write(dir .. "/env.json", "{")
  fails("env.json", dir)
  lumen.fs.write(dir .. "/env.json", "3")
  fails("env.json holds no JSON object", dir)
  lumen.fs.write(dir .. "/env.json", "{}")
  lumen.fs.write(dir .. "/options.lua", "return os.exit()")
  fails("options.lua is not a table of options", dir)
  lu.assertErrorMsgContains("no run directory is given", lumen.report.page, {})
end

function TestReport:test_base64()
  for text, code in next, { [""] = "", a = "YQ==", ab = "YWI=", abc = "YWJj", ["\0\xff\xfe\n"] = "AP/+Cg==" } do
    lu.assertEquals(html.base64(text), code)
  end
end

function TestReport:test_charts()
  local ticks = chart.ticks(0, 103, 4)
  lu.assertEquals(ticks, { 0, 20, 40, 60, 80, 100 })
  lu.assertEquals(chart.ticks(-1, 1, 4), { -1, -0.5, 0, 0.5, 1 })
  local function figure(y)
    local x = {}
    for i = 1, #y do x[i] = i end
    return chart.figure("t", { { color = 1, name = "n", x = x, y = y } })
  end
  lu.assertNil(figure { 0 / 0, math.huge })
  for _, y in ipairs { { 1 }, { 2, 2 }, { 0, 0 }, { 1e-300, 1e300 }, { -1e308, 1e308 }, { 1, 0 / 0, 3 },
                       { 1e16, 1e16 + 2 }, { 5e-324, 1 } } do
    local text = figure(y)
    lu.assertNil(text:lower():find("[%s\",]%-?nan"), text)
    lu.assertNil(text:lower():find("[%s\",ml]%-?inf"), text)
  end
  lu.assertEquals(select(2, figure({ 1, 0 / 0, 3 }):match('raw c1" d="([^"]*)"'):gsub("M", "")), 2)
  local long = {}
  for i = 1, 100000 do long[i] = math.sin(i) end
  lu.assertTrue(#figure(long) < 40000)
  lu.assertStrContains(figure { 1, 10, 1000 }, "logarithmic")
end

-- A run writes its report by itself; the command writes it again, and compares.
function TestReport:test_runs_and_the_command()
  local recipe = lumen.recipe { name = "toy", about = "For the tests." }
  function recipe:run() return { dice = 0.25 } end
  for _, name in ipairs { "a", "b" } do recipe:start { out = self.dir .. "/" .. name } end
  lu.assertStrContains(lumen.fs.read(self.dir .. "/a/report.html"), "0.25")
  local command = require "lumen.commands.report"
  local out = self.dir .. "/both.html"
  lu.assertEquals(command(self.dir .. "/a/", self.dir .. "/b", "out=" .. out), 0)
  lu.assertStrContains(lumen.fs.read(out), "<h1>2 runs</h1>")
  lumen.fs.remove(self.dir .. "/a/report.html")
  lu.assertEquals(command(self.dir .. "/a/"), 0)
  lu.assertNotNil(lumen.fs.stat(self.dir .. "/a/report.html"))
  lu.assertErrorMsgContains("did you mean out?", command, self.dir .. "/a", "ot=x")
end

-- ---- in a browser ----

TestChromium = {}

local function browser()
  for _, name in ipairs { "chromium", "chromium-browser", "google-chrome" } do
    if terminal.program(name) then return name end
  end
  lu.skip("no program chromium")
end

local flags = "--headless --no-sandbox --disable-gpu --hide-scrollbars --disable-background-networking "
  .. "--disable-component-update --no-first-run"

function TestChromium:setUp() self.dir = helper.temporary_folder() end
function TestChromium:tearDown() helper.remove_folder(self.dir) end

function TestChromium:run(more)
  return os.execute(("HOME=%s timeout 60 %s %s --user-data-dir=%s/profile %s file://%s/page.html >%s/said 2>&1")
    :format(self.dir, browser(), flags, self.dir, more, self.dir, self.dir))
end

-- How many pixels of a screenshot have exactly this colour.
local function count(picture, r, g, b)
  local same = picture:select(3, 1):eq(r):to("f32") * picture:select(3, 2):eq(g):to("f32")
    * picture:select(3, 3):eq(b):to("f32")
  return math.tointeger(same:sum():item())
end

function TestChromium:test_light_dark_print_and_no_network()
  browser()
  make_run(self.dir .. "/a", { text = hostile })
  make_run(self.dir .. "/b", { lr = "0.2", scale = 3 })
  lumen.report.write({ self.dir .. "/a", self.dir .. "/b" }, self.dir .. "/page.html")
  local background = { light = { 255, 255, 255 }, dark = { 0x14, 0x18, 0x1f } }
  local curve = { light = { 0x25, 0x63, 0xc9 }, dark = { 0x74, 0xa5, 0xff } }
  for scheme, setting in next, { light = "1", dark = "0" } do
    local shot = ("%s/%s.png"):format(self.dir, scheme)
    lu.assertTrue(self:run(("--window-size=1200,1200 --blink-settings=preferredColorScheme=%s "
      .. "--log-net-log=%s/net.json --screenshot=%s"):format(setting, self.dir, shot)))
    local picture = lumen.image.load(shot)
    lu.assertEquals({ picture.shape[1], picture.shape[2] }, { 1200, 1200 })
    lu.assertEquals(picture[2][2]:totable(), background[scheme])
    lu.assertTrue(count(picture, table.unpack(curve[scheme])) > 200, scheme)
    local net = lumen.fs.read(self.dir .. "/net.json")
    lu.assertNil(net:find("evil.invalid", 1, true))
  end
  lu.assertTrue(self:run("--print-to-pdf=" .. self.dir .. "/page.pdf"))
  lu.assertEquals(lumen.fs.read(self.dir .. "/page.pdf"):sub(1, 5), "%PDF-")
  lu.assertTrue(self:run("--dump-dom"))
  local dom = lumen.fs.read(self.dir .. "/said")
  lu.assertStrContains(dom, "&lt;script&gt;alert(1)")
  lu.assertNil(dom:find("<script", 1, true))
end

helper.run()
