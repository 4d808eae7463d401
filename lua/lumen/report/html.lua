-- Pieces of an HTML page: escaping, tables, inline pictures, and the frame with its style. Whatever
-- comes from outside goes through html.escape.
local html = {}

-- Text for HTML, also inside quotes: what would be markup is escaped, control characters and
-- bytes that are no UTF-8 become U+FFFD.
--   > require("lumen.report.html").escape('<a href="x">')
--   &lt;a href=&quot;x&quot;&gt;
function html.escape(text)
  text = tostring(text)
  local at = 1
  local clean = {}
  while true do
    local length, bad = utf8.len(text, at)
    if length then
      clean[#clean + 1] = text:sub(at)
      break
    end
    clean[#clean + 1] = text:sub(at, bad - 1) .. "\u{fffd}"
    at = bad + 1
  end
  text = table.concat(clean):gsub("[%z\1-\8\11\12\14-\31\127]", "\u{fffd}")
  return (text:gsub("[&<>\"']", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;",
                                  ['"'] = "&quot;", ["'"] = "&#39;" }))
end

local digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

-- Base64 of a string.
--   > require("lumen.report.html").base64("any")
--   YW55
function html.base64(text)
  local letter = {}
  for i = 0, 63 do letter[i] = digits:sub(i + 1, i + 1) end
  local function encode(three)
    local a, b, c = three:byte(1, 3)
    local n = a << 16 | (b or 0) << 8 | (c or 0)
    return letter[n >> 18] .. letter[n >> 12 & 63] .. (b and letter[n >> 6 & 63] or "=")
      .. (c and letter[n & 63] or "=")
  end
  return (text:gsub("..?.?", encode))
end

-- A table: head is a list of cells, rows a list of { class =, cell, cell, ... }; a cell is HTML.
function html.table(class, head, rows)
  local parts = { ('<div class="scroll"><table class="%s"><thead><tr>'):format(class) }
  for _, cell in ipairs(head) do parts[#parts + 1] = "<th>" .. cell .. "</th>" end
  parts[#parts + 1] = "</tr></thead><tbody>\n"
  for _, row in ipairs(rows) do
    parts[#parts + 1] = row.class and ('<tr class="%s">'):format(row.class) or "<tr>"
    for i, cell in ipairs(row) do
      parts[#parts + 1] = (i == 1 and "<th>%s</th>" or "<td>%s</td>"):format(cell)
    end
    parts[#parts + 1] = "</tr>\n"
  end
  parts[#parts + 1] = "</tbody></table></div>\n"
  return table.concat(parts)
end

-- The mark of run i: a dot in its colour.
function html.dot(i) return ('<span class="dot c%d"></span>'):format((i - 1) % 8 + 1) end

local style = [[
:root { color-scheme: light dark; --back: #ffffff; --panel: #f6f7f9; --ink: #1c2430; --soft: #5c6675;
  --line: #d9dde3; --mark: #fff2c9; --c1: #2563c9; --c2: #d1493f; --c3: #2b8a4b; --c4: #8d4fb8;
  --c5: #b87a0c; --c6: #0f8490; --c7: #b0407e; --c8: #6b6b6b; }
@media (prefers-color-scheme: dark) { :root { --back: #14181f; --panel: #1c222b; --ink: #e4e8ee;
  --soft: #9aa5b4; --line: #333c48; --mark: #4a3f17; --c1: #74a5ff; --c2: #ff8b80; --c3: #69c98a;
  --c4: #c797ee; --c5: #e6b455; --c6: #5cc9d4; --c7: #f08cc0; --c8: #b0b0b0; } }
@media print { :root { color-scheme: light; --back: #ffffff; --panel: #ffffff; --ink: #000000; --soft: #444444;
  --line: #bbbbbb; --mark: #eeeeee; --c1: #2563c9; --c2: #d1493f; --c3: #2b8a4b; --c4: #8d4fb8;
  --c5: #b87a0c; --c6: #0f8490; --c7: #b0407e; --c8: #6b6b6b; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1120px; padding: 28px 24px 60px; background: var(--back); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 26px; margin: 0 0 2px; } h2 { font-size: 18px; margin: 34px 0 10px; }
h3 { font-size: 15px; margin: 18px 0 6px; } p { margin: 4px 0; } .soft { color: var(--soft); }
a { color: var(--c1); } code, td, .path { overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: 4px 14px 4px 8px; border-bottom: 1px solid var(--line); }
thead th { color: var(--soft); font-weight: 600; white-space: nowrap; } tbody th { font-weight: 500; white-space: nowrap; }
tr.differs td, tr.differs th { background: var(--mark); }
table.numbers td { text-align: right; white-space: nowrap; } table.numbers thead th + th { text-align: right; }
td.best, .best { font-weight: 700; } small { color: var(--soft); font-size: 12px; margin-left: 4px; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr)); gap: 16px; }
.chart { margin: 0; background: var(--panel); border: 1px solid var(--line); border-radius: 8px; padding: 10px 12px 6px;
  break-inside: avoid; }
.chart figcaption { font-weight: 600; font-size: 14px; } .chart > svg { display: block; width: 100%; height: auto; }
.chart .grid { stroke: var(--line); stroke-width: 1; } .chart text { fill: var(--soft); font-size: 11px; }
.chart .raw { fill: none; stroke-width: 1; opacity: .35; } .chart .smooth { fill: none; stroke-width: 2; stroke-linejoin: round; }
.dot { display: inline-block; width: 10px; height: 10px; border-radius: 50%; margin-right: 7px; background: var(--c8); }
.pictures { display: flex; flex-wrap: wrap; gap: 14px; align-items: flex-start; }
.pictures figure { margin: 0; max-width: 100%; break-inside: avoid; }
.pictures img { display: block; max-width: 100%; height: auto; border: 1px solid var(--line); border-radius: 4px; image-rendering: pixelated; }
.pictures figcaption { color: var(--soft); font-size: 13px; }
@media print { body { max-width: none; padding: 0; font-size: 12px; } h2, h3, .soft { break-after: avoid; } tr { break-inside: avoid; }
  .charts { grid-template-columns: 1fr 1fr; gap: 8px; } a { color: inherit; text-decoration: none; }
  .pictures { display: block; } .pictures figure { display: inline-block; max-width: 49%; margin: 0 6px 8px 0; } @page { margin: 14mm; } }
]]

local function run_colors()
  local lines = {}
  for i = 1, 8 do
    lines[i] = (".dot.c%d { background: var(--c%d); } .chart .c%d { stroke: var(--c%d); } "):format(i, i, i, i)
      .. (".chart circle.c%d { fill: var(--c%d); }\n"):format(i, i)
  end
  return table.concat(lines)
end

-- The whole page. Its policy forbids every request: all it needs is inside.
function html.page(title, body)
  return table.concat {
    '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n',
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; ',
    'style-src \'unsafe-inline\'">\n',
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
    "<title>", html.escape(title), "</title>\n<style>\n", style, run_colors(), "</style></head>\n<body>\n",
    body, "</body></html>\n" }
end

return html
