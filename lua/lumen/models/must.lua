-- MUST, multi-path fusion and routing, the model of CAS-IQA (arXiv 2505.17619): visual tokens of
-- a synthetic angiography and of its references are fused along three paths and routed to one
-- branch per metric, whose result is compared with prompts for five levels. The paper's equations
-- are not public; those here are our reading of its abstract.
--
-- Paths, from tokens S of the image, N of the frame before contrast, C of a contrast frame:
--   none       W0 S
--   source     W1 [S - N; S; N]                the frame shows the same instant: aligned
--   contrast   W2 [S - A; S; A; S - C]         another instant: A is what S finds in C by attention
-- A token of metric m is the mean of the paths, weighted by gates that the router gives it.
local core = require "lumen.core"
local nn = require "lumen.nn"
local rated = require "lumen.models.rated"
local vit = require "lumen.models.vit"

local zero = { bias_init = nn.fill.constant(0) }

local AlignedPath = nn.class("AlignedPath")
function AlignedPath:build(dim) self.mix = nn.Linear(3 * dim, dim, zero) end
function AlignedPath:forward(s, n) return self.mix(core.cat({ s - n, s, n }, { dim = 3 })) end

local ContentPath = nn.class("ContentPath")
function ContentPath:build(dim, heads)
  self.heads = heads
  self.q, self.kv = nn.Linear(dim, dim, zero), nn.Linear(dim, 2 * dim, zero)
  self.mix = nn.Linear(4 * dim, dim, zero)
end
function ContentPath:forward(s, c)
  local dim = s.shape[3]
  local kv = self.kv(c)
  local a = core.attention(self.q(s), kv:slice(3, 1, dim), kv:slice(3, dim + 1, -1), nil,
    { heads = self.heads })
  return self.mix(core.cat({ s - a, s, a, s - c }, { dim = 3 }))
end

-- Gates [B, R, K, L] from K paths [B, L, dim] and present, u8 [B, K]. Kinds: "per_metric", soft,
-- for `count` metrics; "hard": of these only the largest stays (top 1, Fedus et al. 2021);
-- "shared": one for all metrics; "mean": the same weight for all paths.
local Router = nn.class("Router")
function Router:build(kind, paths, dim, count)
  self.kind, self.paths = kind, paths
  self.rows = (kind == "per_metric" or kind == "hard") and count or 1
  if kind ~= "mean" then
    self.norm = nn.LayerNorm(paths * dim)
    self.gate = nn.Linear(paths * dim, self.rows * paths, { bias_init = nn.fill.constant(0),
      weight_init = nn.fill.normal(0.1 * (paths * dim) ^ -0.5) }) -- starts near uniform
  end
end
function Router:forward(list, present)
  local n, length = list[1].shape[1], list[1].shape[2]
  local r, k = self.rows, self.paths
  local logits
  if self.kind == "mean" then
    logits = core.zeros({ n, r, k, length }, { dtype = list[1].dtype, device = list[1].device })
  else
    logits = self.gate(self.norm(core.cat(list, { dim = 3 })))
    logits = logits:reshape({ n, length, r, k }):permute({ 1, 3, 4, 2 })
  end
  local gates = core.where(present:reshape({ n, 1, k, 1 }), logits, -1e9):softmax { dim = 3 }
  if self.kind == "hard" then
    local top = core.one_hot(gates:argmax(3), { classes = k }):permute({ 1, 2, 4, 3 })
    gates = gates * top:to(gates.dtype)
  end
  return gates
end

local Branch = nn.class("Branch")
function Branch:build(dim, heads, depth, width)
  self.blocks = vit.blocks(dim, depth, heads, { mlp_ratio = 2, eps = 1e-6, drop_path = 0 })
  self.pool = rated.Pool(dim, heads, width)
end
function Branch:forward(z) return self.pool(self.blocks(z)) end

-- Rated images by MUST: must{ size = 64, channels = 1, model = "vit_micro" and over it patch,
-- width, depth, heads; or encoder = a module; branch_depth = 1; metrics = {...}; paths = "both" |
-- "source" | "contrast" | "none"; router = "per_metric" | "shared" | "mean" | "hard"; text =
-- "scratch" | "clip" | "prototype" | "none"; clip, tokenizer, see rated.Levels; single = false,
-- true: one branch and one score for all metrics }. A batch as in models.rated -> .scores [B, M],
-- .levels [B, M, 5], .tokens [B, M, L], .gates [B, M, K, L] and .present [B, K] unless there is
-- one path, .grid. model.paths names the K paths. A reference that a sample lacks is a learned
-- vector to the router, and its gate is 0.
--   > model = lumen.models.must { size = 32, depth = 1, text = "prototype" }
--   > image = lumen.randn(2, 1, 32, 32)
--   > out = model { image = image, source = image, contrast = image }
--   > out.scores.shape, out.gates.shape, out.tokens.shape
--   {2, 3}
--   {2, 3, 3, 16}
--   {2, 3, 16}
local Must = nn.class("Must", rated.Rated)
function Must:build(o)
  o = o or {}
  self:setup(o)
  local references = rated.choice(o, "paths", { "both", "source", "contrast", "none" })
  local router = rated.choice(o, "router", { "per_metric", "shared", "mean", "hard" })
  local dim, heads = self.dim, self.heads
  self.paths = { "none" }
  self.path_none = nn.Linear(dim, dim, zero)
  for _, name in ipairs { "source", "contrast" } do
    if references == "both" or references == name then
      self.paths[#self.paths + 1] = name
      self["path_" .. name] = (name == "source" and AlignedPath or ContentPath)(dim, heads)
      self:param("missing_" .. name, { 1, 1, dim }, nn.fill.normal(0.02))
    end
  end
  local metrics = o.single and { "overall" } or self.metrics
  if #self.paths > 1 then self.router = Router(router, #self.paths, dim, #metrics) end
  self.score = rated.Levels { metrics = metrics, dim = dim, text = o.text, clip = o.clip,
                              tokenizer = o.tokenizer }
  for m = 1, #metrics do
    self["branch_" .. m] = Branch(dim, heads, o.branch_depth or 1, self.score.dim)
  end
  self.branches = #metrics
end

-- A batch along the paths: a list of K tensors [B, L, dim], and u8 [B, K], 1 where a sample has
-- what a path needs.
-- -> table, tensor
--   > model = lumen.models.must { size = 32, depth = 1, paths = "source" }
--   > paths, present = model:fuse { image = lumen.randn(2, 1, 32, 32) }
--   > paths[2].shape, present
--   {2, 16, 64}
--   u8 [2 x 2] {1, 0, 1, 0}
function Must:fuse(batch)
  local _, all = rated.reference(batch, "image")
  local images, has = { batch.image }, { all }
  local at = {} -- path -> its image among those that are encoded
  for k = 2, #self.paths do
    local image
    image, has[k] = rated.reference(batch, self.paths[k])
    if image then
      images[#images + 1] = image
      at[k] = #images
    end
  end
  local tokens = self:tokens(images)
  local s = tokens[1]
  local present, list = core.gt(core.stack(has, { dim = 2 }), 0), { self.path_none(s) }
  for k = 2, #self.paths do
    local name = self.paths[k]
    list[k] = self["missing_" .. name]:expand(s.shape)
    if at[k] then
      local there = present:slice(2, k, k):unsqueeze(3)
      list[k] = core.where(there, self["path_" .. name](s, tokens[at[k]]), list[k])
    end
  end
  return list, present
end

-- Tokens [B, L, dim] of one metric: the paths weighted by its gates [B, K, L].
local function weighted(paths, gates)
  local z
  for k, path in ipairs(paths) do
    local part = path * gates:select(2, k):unsqueeze(3)
    z = z and z + part or part
  end
  return z
end

-- x [B, 1, ...] for all metrics: [B, M, ...].
local function for_each_metric(x, metrics)
  local shape = x.shape
  shape[2] = metrics
  return x:expand(shape)
end

function Must:forward(batch)
  local paths, present = self:fuse(batch)
  local gates = #paths > 1 and self.router(paths, present)
  local vectors, weights, z = {}, {}, paths[1]
  for m = 1, self.branches do
    if gates and m <= gates.shape[2] then z = weighted(paths, gates:select(2, m)) end
    vectors[m], weights[m] = self["branch_" .. m](z)
  end
  local out = self.score(core.stack(vectors, { dim = 2 }))
  out.tokens, out.gates = core.stack(weights, { dim = 2 }), gates or nil
  for _, name in ipairs { "scores", "levels", "tokens", "gates" } do
    out[name] = out[name] and for_each_metric(out[name], #self.metrics)
  end
  if gates then out.present = present:to(gates.dtype) end
  out.grid = self.grid
  return out
end

return Must
