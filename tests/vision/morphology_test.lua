-- Thinning, distances, components, surfaces and region growing of binary pictures.
local lu = require "luaunit"
local lumen = require "lumen"
local helper = require "tests.helper"
local vision = lumen.vision

-- A mask from lines of text: '#' is set.
local function mask(...)
  local rows = {}
  for i, text in ipairs { ... } do
    rows[i] = {}
    for j = 1, #text do rows[i][j] = text:sub(j, j) == "#" and 1 or 0 end
  end
  return lumen.tensor(rows, { dtype = "u8" })
end

local function error_of(fn, ...)
  local ok, message = pcall(fn, ...)
  lu.assertFalse(ok)
  return tostring(message)
end

TestSkeletonize = {}

function TestSkeletonize.test_bar()
  local got = vision.skeletonize(mask(
    "..........",
    ".########.",
    ".########.",
    ".########.",
    ".........."))
  helper.assert_equal(got, mask(
    "..........",
    ".......#..",
    ".######...",
    "..........",
    ".........."))
end

function TestSkeletonize.test_keeps_lines_and_holes()
  local cross = mask("..#..", "..#..", "#####", "..#..", "..#..")
  helper.assert_equal(vision.skeletonize(cross), cross)
  local rows = {}
  for i = 1, 41 do
    rows[i] = {}
    for j = 1, 41 do
      local r = math.sqrt((i - 21) ^ 2 + (j - 21) ^ 2)
      rows[i][j] = r > 9 and r < 16 and 1 or 0
    end
  end
  local ring = vision.skeletonize(lumen.tensor(rows, { dtype = "u8" }))
  local _, pieces = vision.components(ring)
  local _, grounds = vision.components(ring:eq(0), { connectivity = 4 })
  lu.assertEquals({ pieces, grounds }, { 1, 2 })
  helper.assert_equal(vision.skeletonize(ring), ring, "twice")
end

function TestSkeletonize.test_types_and_batches()
  local x = mask("....", ".##.", ".##.", "....")
  local thin = vision.skeletonize(x)
  helper.assert_equal(vision.skeletonize(x:to("f32") * 0.25), thin)
  local got = vision.skeletonize(lumen.stack({ x, x }, { dim = 1 }):reshape { 2, 1, 4, 4 })
  lu.assertEquals(got.shape, { 2, 1, 4, 4 })
  helper.assert_equal(got:select(1, 2):reshape { 4, 4 }, thin)
  helper.assert_equal(vision.skeletonize(x:permute { 2, 1 }),
    vision.skeletonize(x:permute({ 2, 1 }):contiguous()))
end

TestDistance = {}

function TestDistance.test_by_hand()
  local got = vision.distance_transform(mask(
    ".####",
    "#####",
    "#####"))
  local expected = {}
  for i = 0, 2 do
    expected[i + 1] = {}
    for j = 0, 4 do expected[i + 1][j + 1] = math.sqrt(i * i + j * j) end
  end
  helper.assert_equal(got, lumen.tensor(expected, { dtype = "f64" }))
end

function TestDistance.test_against_every_pair()
  local x = lumen.rand({ 23, 31 }, { rng = { seed = 3, stream = "test" } })
  local rows = x:totable()
  local holes = {}
  for i = 1, 23 do
    for j = 1, 31 do
      rows[i][j] = rows[i][j] < 0.02 and 0 or 1
      if rows[i][j] == 0 then holes[#holes + 1] = { i, j } end
    end
  end
  local expected = {}
  for i = 1, 23 do
    expected[i] = {}
    for j = 1, 31 do
      local least = math.huge
      for _, h in ipairs(holes) do least = math.min(least, (i - h[1]) ^ 2 + (j - h[2]) ^ 2) end
      expected[i][j] = math.sqrt(least)
    end
  end
  lu.assertTrue(#holes > 2)
  helper.assert_equal(vision.distance_transform(lumen.tensor(rows, { dtype = "u8" })),
    lumen.tensor(expected, { dtype = "f64" }))
end

function TestDistance.test_nothing_to_go_to()
  lu.assertEquals(vision.distance_transform(mask("##", "##")):totable()[2][1], math.huge)
end

TestComponents = {}

function TestComponents.test_connectivity()
  local x = mask(
    "##..#",
    "..#.#",
    "....#",
    "#.###")
  local eight, n8 = vision.components(x)
  local four, n4 = vision.components(x, { connectivity = 4 })
  lu.assertEquals({ n8, n4 }, { 3, 4 })
  lu.assertEquals(eight:totable(), { { 1, 1, 0, 0, 2 }, { 0, 0, 1, 0, 2 }, { 0, 0, 0, 0, 2 },
                                     { 3, 0, 2, 2, 2 } })
  lu.assertEquals(four:totable(), { { 1, 1, 0, 0, 2 }, { 0, 0, 3, 0, 2 }, { 0, 0, 0, 0, 2 },
                                    { 4, 0, 2, 2, 2 } })
end

function TestComponents.test_arms_that_join_late()
  local x = mask(
    "#.#.#",
    "#.#.#",
    "#####")
  local labels, n = vision.components(x, { connectivity = 4 })
  lu.assertEquals(n, 1)
  lu.assertEquals(labels:max():item(), 1)
end

TestGrow = {}

function TestGrow.test_connectivity()
  local x = mask("##..", "..#.", "..#.")
  helper.assert_equal(vision.region_grow(x, 1, 1), mask("##..", "....", "...."))
  helper.assert_equal(vision.region_grow(x, 1, 1, { connectivity = 8 }), x)
  helper.assert_equal(vision.region_grow(x, 3, 1), mask("....", "....", "...."))
end

function TestGrow.test_errors()
  local x = mask("##", "##")
  lu.assertStrContains(error_of(vision.region_grow, x, 0, 1), "pixel (0, 1) lies outside")
  lu.assertStrContains(error_of(vision.region_grow, x, 1, 3), "pixel (1, 3) lies outside")
  lu.assertStrContains(error_of(vision.region_grow, x, 1, 1, { connectivity = 6 }), "4 or 8")
  lu.assertStrContains(error_of(vision.components, x, { connectivty = 4 }), "connectivity?")
  lu.assertStrContains(error_of(vision.region_grow, lumen.zeros { 2, 1, 3, 3 }, 1, 1), "one image")
  lu.assertStrContains(error_of(vision.skeletonize, lumen.zeros { 3 }), "[H, W]")
end

TestSurface = {}

function TestSurface.test_surface()
  helper.assert_equal(vision.surface(mask(".....", ".###.", ".###.", ".###.")),
    mask(".....", ".###.", ".#.#.", ".###."))
end

function TestSurface.test_distances()
  local a, b = mask("#....", "....."), mask("....#", ".....")
  lu.assertEquals(vision.surface_distances(a, b):totable(), { 4 })
  lu.assertEquals(vision.surface_distances(a, lumen.zeros { 2, 5 }):totable(), { math.huge })
  lu.assertEquals(vision.surface_distances(lumen.zeros { 2, 5 }, a).shape, { 0 })
  lu.assertStrContains(error_of(vision.surface_distances, a, lumen.zeros { 3, 5 }), "one size")
end

TestDegenerate = {}

function TestDegenerate.test_empty_and_single()
  for _, shape in ipairs { { 0, 0 }, { 0, 4 }, { 4, 0 }, { 1, 1 } } do
    local x = lumen.ones(shape, { dtype = "u8" })
    lu.assertEquals(vision.skeletonize(x).shape, shape)
    lu.assertEquals(vision.distance_transform(x).shape, shape)
    lu.assertEquals(vision.surface(x).shape, shape)
    local _, n = vision.components(x)
    lu.assertEquals(n, shape[1] * shape[2])
  end
end

TestReference = {}

local pairs_of_masks = {
  "vessel_dilated", "vessel_eroded", "vessel_shift3", "vessel_noisy", "disks", "identical",
  "disjoint", "random_p30", "line_vs_bar", "single_pixels", "full_touching_border",
  "empty_pred", "empty_both", "ring_vs_broken",
}

local function reference()
  return lumen.load(helper.need_shared("golden/f_metrics.safetensors"))
end

local function assert_same_mask(got, expected, what)
  helper.assert_equal(got:to("i64"):gt(0), expected:to("i64"):gt(0), what)
end

function TestReference.test_skeletons_and_surfaces()
  local f = reference()
  for _, name in ipairs(pairs_of_masks) do
    for _, side in ipairs { "pred", "gt" } do
      local x = f[("seg.%s.%s"):format(name, side)]
      assert_same_mask(vision.skeletonize(x), f[("seg.%s.skel_%s"):format(name, side)], name)
      assert_same_mask(vision.surface(x), f[("seg.%s.surf_%s"):format(name, side)], name)
    end
  end
  for k = 0, 2 do
    assert_same_mask(vision.skeletonize(f[("skel.%d.in"):format(k)]),
      f[("skel.%d.out"):format(k)], "skeleton " .. k)
  end
end

function TestReference.test_surface_distances()
  local f = reference()
  for _, name in ipairs(pairs_of_masks) do -- columns 15, 17, 18: hd, asd_pg, asd_gp
    local row = f[("seg.%s.metrics"):format(name)]:totable()
    local p, g = f[("seg.%s.pred"):format(name)], f[("seg.%s.gt"):format(name)]
    local pg, gp = vision.surface_distances(p, g), vision.surface_distances(g, p)
    lu.assertEquals({ pg.shape[1], gp.shape[1] }, { row[21], row[22] }, name)
    if row[21] > 0 and row[22] > 0 then
      lu.assertAlmostEquals(pg:mean():item(), row[17], 1e-12, name)
      lu.assertAlmostEquals(gp:mean():item(), row[18], 1e-12, name)
      lu.assertEquals(math.max(pg:max():item(), gp:max():item()), row[14], name)
    end
  end
end

function TestReference.test_distance_and_labels()
  local f = reference()
  local x = f["seg.edt.in"]
  helper.assert_equal(vision.distance_transform(x), f["seg.edt.out"])
  helper.assert_equal(vision.components(x:eq(0), { connectivity = 4 }), f["seg.label4.out"])
  helper.assert_equal(vision.components(x:eq(0), { connectivity = 8 }), f["seg.label8.out"])
end

helper.run()
