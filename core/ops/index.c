/* index.c: operations that read or write at places given by an index tensor, and sorting.
 *
 * Index tensors are i64 and hold 0-based positions; each kernel checks them all before it
 * touches data. Gradients add in the order of the index: threads share out destinations
 * (rows or columns), never one destination, so results do not depend on timing.
 *
 * Two layouts cover everything. "Lines": index and x have the same number of dimensions
 * and the index picks along one of them (gather, scatter_add). "Rows": whole runs of
 * `inner` elements are picked (index_select, embedding, gather_tokens). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "graph/op.h"

extern const lm_op lm_op_gather, lm_op_gather_backward, lm_op_index_select_backward,
    lm_op_gather_tokens_backward;

#define PARALLEL_WORK 65536 /* fewer elements are not worth waking threads */
#define COLUMNS 256         /* of a row, per unit of work */

static int64_t product(const int64_t *shape, int from, int to)
{
  int64_t n = 1;
  for (int i = from; i < to; i++) n *= shape[i];
  return n;
}

static lm_status real_dim(const lm_call *c, int64_t dim, int *out)
{
  if (c->in[0]->ndim == 0)
    return lm_op_fail(c, LM_ERR_SHAPE, "%s is a scalar and has no dimensions (%s)",
                      lm_arg_name(c, 0), lm_describe(c->in[0]));
  return lm_dim(c, dim, c->in[0]->ndim, out);
}

/* All of index must be in 0 .. size - 1. */
static lm_status check_index(const lm_call *c, const lm_tensor *index, int64_t size,
                             const char *what)
{
  const int64_t *v = lm_data(index);
  int64_t n = lm_numel(index), low = INT64_MAX, high = INT64_MIN;
#pragma omp simd reduction(min : low) reduction(max : high)
  for (int64_t i = 0; i < n; i++) {
    low = v[i] < low ? v[i] : low;
    high = v[i] > high ? v[i] : high;
  }
  if (n == 0 || (low >= 0 && high < size)) return LM_OK;
  return lm_op_fail(
      c, LM_ERR_INDEX, "index holds %lld, outside 0 .. %lld (%s) (index: %s)",
      (long long)(low < 0 ? low : high), (long long)size - 1, what, lm_describe(index));
}

/* ---- lines: gather, scatter_add ---- */

/* x is [outer dims, size, inner dims], index [outer dims, count, inner dims], where the
 * index's outer and inner dims may be smaller than x's. The index is read in runs: `run`
 * entries, `runs` times per outer position. Entry i of a run means element
 * index * stride + column[i] of x's block. */
typedef struct lines {
  const lm_tensor *x, *index;
  int dim;
  int64_t outer, runs, run, stride, block, *column;
  bool split; /* the columns of a run may go to different threads */
} lines;

/* Where position `at` of dims from .. to - 1 of a smaller shape lies in a larger one. */
static int64_t place_in(const int64_t *small, const int64_t *large, int from, int to,
                        int64_t at)
{
  int64_t place = 0, step = 1;
  for (int d = to - 1; d >= from; d--) {
    place += at % small[d] * step;
    at /= small[d];
    step *= large[d];
  }
  return place;
}

static lm_status lines_make(const lm_tensor *x, const lm_tensor *index, int dim, lines *l)
{
  int n = x->ndim;
  int64_t inner = product(index->shape, dim + 1, n), count = index->shape[dim];
  *l = (lines){.x = x, .index = index, .dim = dim, .split = inner > 1};
  l->outer = product(index->shape, 0, dim);
  l->runs = l->split ? count : 1;
  l->run = l->split ? inner : count;
  l->stride = product(x->shape, dim + 1, n);
  l->block = x->shape[dim] * l->stride;
  LM_TRY(lm_calloc(&l->column, (size_t)l->run, sizeof *l->column));
  for (int64_t i = 0; l->split && i < l->run; i++)
    l->column[i] = place_in(index->shape, x->shape, dim + 1, n, i);
  return LM_OK;
}

/* n entries of a run: `block` is x's, `row` lies beside the index entries `at`. */
typedef void row_function(void *block, void *row, const int64_t *at,
                          const int64_t *column, int64_t stride, int64_t n);

#define GATHER_ROW(name, type)                                                       \
  static void name(void *block, void *row, const int64_t *at, const int64_t *column, \
                   int64_t stride, int64_t n)                                        \
  {                                                                                  \
    const type *x = block;                                                           \
    type *y = row;                                                                   \
    for (int64_t i = 0; i < n; i++) y[i] = x[at[i] * stride + column[i]];            \
  }
GATHER_ROW(gather_row_1, uint8_t)
GATHER_ROW(gather_row_2, uint16_t)
GATHER_ROW(gather_row_4, uint32_t)
GATHER_ROW(gather_row_8, uint64_t)

#define SCATTER_ROW(name, type)                                                      \
  static void name(void *block, void *row, const int64_t *at, const int64_t *column, \
                   int64_t stride, int64_t n)                                        \
  {                                                                                  \
    type *x = block;                                                                 \
    const type *y = row;                                                             \
    for (int64_t i = 0; i < n; i++) x[at[i] * stride + column[i]] += y[i];           \
  }
SCATTER_ROW(scatter_row_f32, float)
SCATTER_ROW(scatter_row_f64, double)
SCATTER_ROW(scatter_row_i32, int32_t)
SCATTER_ROW(scatter_row_i64, int64_t)

static row_function *gather_function(lm_dtype dtype)
{
  switch (lm_dtype_size(dtype)) {
    case 1: return gather_row_1;
    case 2: return gather_row_2;
    case 4: return gather_row_4;
    default: return gather_row_8;
  }
}

static row_function *scatter_function(lm_dtype dtype)
{
  switch (dtype) {
    case LM_F32: return scatter_row_f32;
    case LM_F64: return scatter_row_f64;
    case LM_I32: return scatter_row_i32;
    default: return scatter_row_i64;
  }
}

/* Call f for all of the index. Each thread owns outer positions and column ranges. */
static void lines_run(const lines *l, row_function *f, void *large, void *small,
                      int64_t size)
{
  const int64_t *index = lm_data(l->index);
  int64_t width = l->split ? COLUMNS : l->run;
  int64_t pieces = (l->run + width - 1) / width;
#pragma omp parallel for schedule(static) if (lm_numel(l->index) > PARALLEL_WORK)
  for (int64_t unit = 0; unit < l->outer * pieces; unit++) {
    int64_t o = unit / pieces, first = unit % pieces * width;
    int64_t n = lm_min64(width, l->run - first);
    int64_t base = place_in(l->index->shape, l->x->shape, 0, l->dim, o) * l->block;
    for (int64_t k = 0; k < l->runs; k++) {
      int64_t at = (o * l->runs + k) * l->run + first;
      f((char *)large + base * size, (char *)small + at * size, index + at,
        l->column + first, l->stride, n);
    }
  }
}

/* Checks common to gather and scatter_add: index fits x in all dimensions but dim. */
static lm_status check_lines(const lm_call *c, int *dim)
{
  const lm_tensor *x = c->in[0], *index = c->in[1];
  LM_TRY(lm_check_dtype(c, 1, LM_I64));
  LM_TRY(real_dim(c, c->param[0].i, dim));
  bool fits = index->ndim == x->ndim;
  for (int d = 0; fits && d < x->ndim; d++)
    fits = d == *dim || index->shape[d] <= x->shape[d];
  if (fits) return LM_OK;
  return lm_op_fail(c, LM_ERR_SHAPE,
                    "index has shape %s, too large for x outside dimension %d "
                    "(x: %s)",
                    lm_shape_text(index->ndim, index->shape), *dim + 1, lm_describe(x));
}

static lm_status gather_infer(lm_call *c)
{
  int dim;
  LM_TRY(check_lines(c, &dim));
  return lm_out(c, 0, c->in[0]->dtype, c->in[1]->ndim, c->in[1]->shape);
}

static lm_status gather_cpu(lm_call *c)
{
  const lm_tensor *x = c->in[0], *index = c->in[1];
  lines l;
  int dim;
  LM_TRY(lm_dim(c, c->param[0].i, x->ndim, &dim));
  LM_TRY(check_index(c, index, x->shape[dim], "x's size along dim"));
  LM_TRY(lines_make(x, index, dim, &l));
  lines_run(&l, gather_function(x->dtype), lm_data(x), lm_data(c->out[0]),
            lm_dtype_size(x->dtype));
  free(l.column);
  return LM_OK;
}

/* The gradient of an operation that picked x's elements at `index` along dim. */
static lm_status gather_back(const lm_call *c, lm_tensor *g, lm_tensor *index,
                             int64_t dim, lm_tensor **gin)
{
  const lm_tensor *x = c->in[0];
  lm_value p[] = {lm_ints(x->ndim, x->shape), lm_int(dim < 0 ? dim + x->ndim : dim)};
  return lm_apply(&lm_op_gather_backward, LM_IN(g, index), p, gin);
}

static lm_status gather_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  return gather_back(c, gout[0], c->in[1], c->param[0].i, gin);
}

const lm_op lm_op_gather = {
    .name = "gather",
    .sig = "x, index; dim: dim",
    .doc =
        "Result[i.., k, j..] = x[i.., index[i.., k, j..], j..] with index along dim: the "
        "result has the shape of index (i64, 0-based values), which has x's number of "
        "dimensions and is nowhere larger than x but along dim.\n"
    "> x = lumen.tensor{{10, 20}, {30, 40}}\n"
    "> index = lumen.tensor({{1}, {0}}, {dtype = \"i64\"})\n"
    "> x:gather(index, {dim = 2})\n"
    "f32 [2 x 1] {20, 30}",
    .infer = gather_infer,
    .cpu = gather_cpu,
    .grad = gather_grad,
    .flags = LM_OP_BF16,
    .save_in = 2};

static lm_status gather_backward_infer(lm_call *c)
{
  return lm_out(c, 0, c->in[0]->dtype, c->param[0].n, c->param[0].v);
}

static lm_status scatter_into(lm_call *c, const lm_tensor *index, const lm_tensor *source,
                              int dim)
{
  lm_tensor *out = c->out[0];
  lines l;
  LM_TRY(check_index(c, index, out->shape[dim], "x's size along dim"));
  if (lm_numel(index) == 0) return LM_OK;
  LM_TRY(lines_make(out, index, dim, &l));
  lines_run(&l, scatter_function(out->dtype), lm_data(out), lm_data(source),
            lm_dtype_size(out->dtype));
  free(l.column);
  return LM_OK;
}

static void clear(lm_tensor *t)
{
  memset(lm_data(t), 0, (size_t)(lm_numel(t) * lm_dtype_size(t->dtype)));
}

static lm_status gather_backward_cpu(lm_call *c)
{
  clear(c->out[0]);
  return scatter_into(c, c->in[1], c->in[0], (int)c->param[1].i);
}

const lm_op lm_op_gather_backward = {
    .name = "gather_backward",
    .sig = "g, index; shape: ints, dim: int",
    .doc = "Zeros of the given shape with g added at index along dim.",
    .infer = gather_backward_infer,
    .cpu = gather_backward_cpu,
    .flags = LM_OP_INTERNAL};

static lm_status scatter_add_infer(lm_call *c)
{
  int dim;
  LM_TRY(check_lines(c, &dim));
  LM_TRY(lm_check_same_dtype(c, 0, 2));
  LM_TRY(lm_check_shape(c, 2, c->in[1]->ndim, c->in[1]->shape));
  if (c->in[0]->dtype == LM_U8)
    return lm_op_fail(c, LM_ERR_DTYPE, "x must not be u8, which overflows (x: %s)",
                      lm_describe(c->in[0]));
  return lm_out_like(c, 0, c->in[0]);
}

static lm_status scatter_add_cpu(lm_call *c)
{
  const lm_tensor *x = c->in[0];
  int dim;
  LM_TRY(lm_dim(c, c->param[0].i, x->ndim, &dim));
  memcpy(lm_data(c->out[0]), lm_data(x), (size_t)(lm_numel(x) * lm_dtype_size(x->dtype)));
  return scatter_into(c, c->in[1], c->in[2], dim);
}

static lm_status scatter_add_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  if (lm_wants(c, 0)) gin[0] = lm_retain(gout[0]);
  if (!lm_wants(c, 2)) return LM_OK;
  lm_value p[] = {lm_int(c->param[0].i)};
  return lm_apply(&lm_op_gather, LM_IN(gout[0], c->in[1]), p, &gin[2]);
}

const lm_op lm_op_scatter_add = {
    .name = "scatter_add",
    .sig = "x, index, source; dim: dim",
    .doc =
        "x with source[i.., k, j..] added at [i.., index[i.., k, j..], j..], index along "
        "dim; source has the shape of index (i64, 0-based values). Repeated places add "
        "up "
        "in the index's order.\n"
        "> index = lumen.tensor({0, 2, 0}, {dtype = \"i64\"})\n"
        "> lumen.zeros(3):scatter_add(index, lumen.tensor{1, 2, 3}, {dim = 1})\n"
        "f32 [3] {4, 0, 2}",
    .infer = scatter_add_infer,
    .cpu = scatter_add_cpu,
    .grad = scatter_add_grad,
    .save_in = 2};

/* ---- rows: index_select, embedding, gather_tokens ---- */

/* x is [outer, size, inner]; index has `count` entries, for each outer position its own
 * or the same for all. */
typedef struct rows {
  int64_t outer, size, count, inner, index_step;
} rows;

static void rows_pick(const rows *r, const int64_t *index, const char *x, char *y,
                      int64_t element)
{
  int64_t bytes = r->inner * element, total = r->outer * r->count;
#pragma omp parallel for schedule(static) if (total * r->inner > PARALLEL_WORK)
  for (int64_t i = 0; i < total; i++) {
    int64_t o = i / r->count, row = index[o * r->index_step + i % r->count];
    memcpy(y + i * bytes, x + (o * r->size + row) * bytes, (size_t)bytes);
  }
}

#define ROWS_ADD(name, type)                                                      \
  static void name(const rows *r, const int64_t *index, const void *g, void *out, \
                   int64_t o, int64_t first, int64_t last)                        \
  {                                                                               \
    const int64_t *at = index + o * r->index_step;                                \
    for (int64_t k = 0; k < r->count; k++) {                                      \
      const type *from = (const type *)g + (o * r->count + k) * r->inner;         \
      type *to = (type *)out + (o * r->size + at[k]) * r->inner;                  \
      for (int64_t i = first; i < last; i++) to[i] += from[i];                    \
    }                                                                             \
  }
ROWS_ADD(rows_add_f32, float)
ROWS_ADD(rows_add_f64, double)

/* Zeros plus the rows of g at their places; threads own outer positions and column
 * ranges. */
static lm_status rows_put(lm_call *c, const rows *r)
{
  const lm_tensor *g = c->in[0], *index = c->in[1];
  LM_TRY(check_index(c, index, r->size, "x's size along dim"));
  clear(c->out[0]);
  const void *from = lm_data(g);
  void *to = lm_data(c->out[0]);
  const int64_t *at = lm_data(index);
  int64_t pieces = (r->inner + COLUMNS - 1) / COLUMNS;
#pragma omp parallel for schedule(static) if (lm_numel(g) > PARALLEL_WORK)
  for (int64_t unit = 0; unit < r->outer * pieces; unit++) {
    int64_t o = unit / pieces, first = unit % pieces * COLUMNS;
    int64_t last = lm_min64(first + COLUMNS, r->inner);
    if (g->dtype == LM_F32) rows_add_f32(r, at, from, to, o, first, last);
    else rows_add_f64(r, at, from, to, o, first, last);
  }
  return LM_OK;
}

static rows rows_make(int ndim, const int64_t *shape, int dim, int64_t count)
{
  return (rows){.outer = product(shape, 0, dim),
                .size = shape[dim],
                .count = count,
                .inner = product(shape, dim + 1, ndim)};
}

static lm_status index_select_infer(lm_call *c)
{
  const lm_tensor *x = c->in[0];
  int64_t shape[LM_MAX_DIMS];
  int dim;
  LM_TRY(lm_check_dtype(c, 1, LM_I64));
  LM_TRY(lm_check_ndim(c, 1, 1));
  LM_TRY(real_dim(c, c->param[0].i, &dim));
  memcpy(shape, x->shape, sizeof shape);
  shape[dim] = c->in[1]->shape[0];
  return lm_out(c, 0, x->dtype, x->ndim, shape);
}

static lm_status pick_along(lm_call *c, int dim, const char *what)
{
  const lm_tensor *x = c->in[0], *index = c->in[1];
  rows r = rows_make(x->ndim, x->shape, dim, lm_numel(index));
  LM_TRY(check_index(c, index, r.size, what));
  rows_pick(&r, lm_data(index), lm_data(x), lm_data(c->out[0]), lm_dtype_size(x->dtype));
  return LM_OK;
}

static lm_status index_select_cpu(lm_call *c)
{
  int dim;
  LM_TRY(lm_dim(c, c->param[0].i, c->in[0]->ndim, &dim));
  return pick_along(c, dim, "x's size along dim");
}

static lm_status index_select_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  const lm_tensor *x = c->in[0];
  int64_t dim = c->param[0].i;
  lm_value p[] = {lm_ints(x->ndim, x->shape), lm_int(dim < 0 ? dim + x->ndim : dim)};
  return lm_apply(&lm_op_index_select_backward, LM_IN(gout[0], c->in[1]), p, gin);
}

const lm_op lm_op_index_select = {
    .name = "index_select",
    .sig = "x, index; dim: dim",
    .doc =
        "The positions of dimension dim of x that index [K] names (i64, 0-based), in its "
        "order; a position may come more than once.\n"
        "> index = lumen.tensor({2, 0}, {dtype = \"i64\"})\n"
        "> lumen.tensor{10, 20, 30}:index_select(index, {dim = 1})\n"
        "f32 [2] {30, 10}",
    .infer = index_select_infer,
    .cpu = index_select_cpu,
    .grad = index_select_grad,
    .flags = LM_OP_BF16,
    .save_in = 2};

static lm_status index_select_backward_cpu(lm_call *c)
{
  rows r =
      rows_make(c->param[0].n, c->param[0].v, (int)c->param[1].i, lm_numel(c->in[1]));
  return rows_put(c, &r);
}

const lm_op lm_op_index_select_backward = {
    .name = "index_select_backward",
    .sig = "g, index; shape: ints, dim: int",
    .doc = "Zeros of the given shape with the positions of g added at index along dim.",
    .infer = gather_backward_infer,
    .cpu = index_select_backward_cpu,
    .flags = LM_OP_INTERNAL};

static lm_status embedding_infer(lm_call *c)
{
  const lm_tensor *weight = c->in[0], *index = c->in[1];
  int64_t shape[LM_MAX_DIMS];
  LM_TRY(lm_check_ndim(c, 0, 2));
  LM_TRY(lm_check_dtype(c, 1, LM_I64));
  if (index->ndim >= LM_MAX_DIMS)
    return lm_op_fail(c, LM_ERR_SHAPE, "index has too many dimensions (%s)",
                      lm_describe(index));
  memcpy(shape, index->shape, sizeof shape);
  shape[index->ndim] = weight->shape[1];
  return lm_out(c, 0, weight->dtype, index->ndim + 1, shape);
}

static lm_status embedding_cpu(lm_call *c)
{
  return pick_along(c, 0, "the rows of weight");
}

static lm_status embedding_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  lm_value p[] = {lm_ints(2, c->in[0]->shape), lm_int(0)};
  return lm_apply(&lm_op_index_select_backward, LM_IN(gout[0], c->in[1]), p, gin);
}

const lm_op lm_op_embedding = {
    .name = "embedding",
    .sig = "weight, index",
    .doc =
        "Rows of weight [V, D] for each entry of index [...] (i64, 0-based): [..., D].\n"
        "> rows = lumen.tensor{{0, 0}, {1, 10}, {2, 20}}\n"
        "> rows:embedding(lumen.tensor({2, 1}, {dtype = \"i64\"}))\n"
        "f32 [2 x 2] {2, 20, 1, 10}",
    .infer = embedding_infer,
    .cpu = embedding_cpu,
    .grad = embedding_grad,
    .flags = LM_OP_BF16,
    .save_in = 2};

static rows tokens_rows(const int64_t *shape, const lm_tensor *index)
{
  int64_t count = index->shape[1];
  return (rows){.outer = shape[0],
                .size = shape[1],
                .count = count,
                .inner = shape[2],
                .index_step = count};
}

static lm_status gather_tokens_infer(lm_call *c)
{
  const lm_tensor *x = c->in[0], *index = c->in[1];
  LM_TRY(lm_check_ndim(c, 0, 3));
  LM_TRY(lm_check_dtype(c, 1, LM_I64));
  LM_TRY(lm_check_shape(c, 1, 2, (int64_t[]){x->shape[0], -1}));
  return lm_out(c, 0, x->dtype, 3,
                (int64_t[]){x->shape[0], index->shape[1], x->shape[2]});
}

static lm_status gather_tokens_cpu(lm_call *c)
{
  const lm_tensor *x = c->in[0], *index = c->in[1];
  rows r = tokens_rows(x->shape, index);
  LM_TRY(check_index(c, index, r.size, "the tokens of x"));
  rows_pick(&r, lm_data(index), lm_data(x), lm_data(c->out[0]), lm_dtype_size(x->dtype));
  return LM_OK;
}

static lm_status gather_tokens_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  lm_value p[] = {lm_ints(3, c->in[0]->shape)};
  return lm_apply(&lm_op_gather_tokens_backward, LM_IN(gout[0], c->in[1]), p, gin);
}

const lm_op lm_op_gather_tokens = {
    .name = "gather_tokens",
    .sig = "x, index",
    .doc = "Tokens index [N, K] (i64, 0-based) of x [N, L, D], for each image its own: "
           "[N, K, D].\n"
    "> tokens = lumen.arange(6):to(\"f32\"):reshape(1, 3, 2)\n"
    "> keep = lumen.tensor({{2, 0}}, {dtype = \"i64\"})\n"
    "> tokens:gather_tokens(keep)\n"
    "f32 [1 x 2 x 2] {4, 5, 0, 1}",
    .infer = gather_tokens_infer,
    .cpu = gather_tokens_cpu,
    .grad = gather_tokens_grad,
    .flags = LM_OP_BF16,
    .save_in = 2};

static lm_status gather_tokens_backward_cpu(lm_call *c)
{
  rows r = tokens_rows(c->param[0].v, c->in[1]);
  return rows_put(c, &r);
}

const lm_op lm_op_gather_tokens_backward = {
    .name = "gather_tokens_backward",
    .sig = "g, index; shape: ints",
    .doc = "Zeros [N, L, D] with tokens g [N, K, D] added at index [N, K].",
    .infer = gather_backward_infer,
    .cpu = gather_tokens_backward_cpu,
    .flags = LM_OP_INTERNAL};

/* ---- argsort, sort, topk ---- */

/* An element to sort: a key whose unsigned order is the wanted one, and its position. */
typedef struct item {
  uint64_t key;
  int64_t place;
} item;

/* Order-preserving map of doubles to integers; -0 equals 0, NaN is above everything. */
static uint64_t float_key(double v)
{
  uint64_t bits;
  v = v != v ? (double)NAN : v + 0.0;
  memcpy(&bits, &v, sizeof bits);
  return bits >> 63 ? ~bits : bits | (uint64_t)1 << 63;
}

static uint64_t item_key(const lm_tensor *x, int64_t at)
{
  const void *p = lm_data(x);
  switch (x->dtype) {
    case LM_F32: return float_key(((const float *)p)[at]);
    case LM_F64: return float_key(((const double *)p)[at]);
    case LM_I32: return (uint64_t)((const int32_t *)p)[at] ^ (uint64_t)1 << 63;
    case LM_I64: return (uint64_t)((const int64_t *)p)[at] ^ (uint64_t)1 << 63;
    default: return ((const uint8_t *)p)[at];
  }
}

#define SHORT_RUN 16

/* Stable merge sort, bottom up from runs sorted by insertion. The result ends up in `a`;
 * `b` is as long. */
static void sort_items(item *a, item *b, int64_t n)
{
  for (int64_t start = 0; start < n; start += SHORT_RUN) {
    int64_t end = lm_min64(start + SHORT_RUN, n);
    for (int64_t i = start + 1; i < end; i++) {
      item moving = a[i];
      int64_t k = i;
      for (; k > start && a[k - 1].key > moving.key; k--) a[k] = a[k - 1];
      a[k] = moving;
    }
  }
  item *from = a, *to = b;
  for (int64_t run = SHORT_RUN; run < n; run *= 2) {
    for (int64_t start = 0; start < n; start += 2 * run) {
      int64_t middle = lm_min64(start + run, n), end = lm_min64(start + 2 * run, n);
      int64_t i = start, j = middle;
      for (int64_t k = start; k < end; k++)
        to[k] = i < middle && (j == end || from[i].key <= from[j].key) ? from[i++]
                                                                       : from[j++];
    }
    item *swap = from;
    from = to;
    to = swap;
  }
  if (from != a) memcpy(a, from, (size_t)n * sizeof *a);
}

static void store_sorted(const lm_tensor *x, const item *sorted, int64_t from,
                         int64_t step, lm_tensor *values, lm_tensor *indices, int64_t to,
                         int64_t k)
{
  int64_t size = lm_dtype_size(x->dtype);
  for (int64_t i = 0; i < k; i++) {
    ((int64_t *)lm_data(indices))[to + i * step] = sorted[i].place;
    if (values)
      memcpy((char *)lm_data(values) + (to + i * step) * size,
             (const char *)lm_data(x) + (from + sorted[i].place * step) * size,
             (size_t)size);
  }
}

/* Sort every line of x along dim; its first k go to values (or NULL) and indices. */
static lm_status sort_lines(const lm_call *c, int dim, bool descending, int64_t k,
                            lm_tensor *values, lm_tensor *indices)
{
  const lm_tensor *x = c->in[0];
  int64_t n = x->ndim > 0 ? x->shape[dim] : 1, outer = product(x->shape, 0, dim);
  int64_t step = product(x->shape, dim + 1, x->ndim), lines_count = outer * step;
  bool failed = false;
#pragma omp parallel if (lm_numel(x) > PARALLEL_WORK / 8) reduction(|| : failed)
  {
    item *work = malloc(2 * (size_t)n * sizeof *work);
    failed = !work;
#pragma omp for schedule(static)
    for (int64_t l = 0; l < lines_count; l++) {
      if (!work) continue;
      int64_t from = l / step * n * step + l % step;
      for (int64_t i = 0; i < n; i++) {
        uint64_t key = item_key(x, from + i * step);
        work[i] = (item){descending ? ~key : key, i};
      }
      sort_items(work, work + n, n);
      store_sorted(x, work, from, step, values, indices, l / step * k * step + l % step,
                   k);
    }
    free(work);
  }
  return failed ? lm_op_fail(c, LM_ERR_MEMORY, "no memory to sort lines of %lld",
                             (long long)n)
                : LM_OK;
}

static lm_status argsort_infer(lm_call *c)
{
  int dim;
  LM_TRY(lm_dim(c, c->param[0].i, c->in[0]->ndim, &dim));
  return lm_out(c, 0, LM_I64, c->in[0]->ndim, c->in[0]->shape);
}

static lm_status argsort_cpu(lm_call *c)
{
  const lm_tensor *x = c->in[0];
  int dim;
  LM_TRY(lm_dim(c, c->param[0].i, x->ndim, &dim));
  return sort_lines(c, dim, c->param[1].i != 0, x->ndim > 0 ? x->shape[dim] : 1, NULL,
                    c->out[0]);
}

const lm_op lm_op_argsort = {
    .name = "argsort",
    .sig = "x; dim: dim = -1, descending: bool = false",
    .doc =
        "Positions (i64, 0-based) that sort x along dim. Stable in both directions; NaN "
        "counts as largest.\n"
        "> lumen.tensor{3, 1, 2}:argsort()\n"
        "i64 [3] {1, 2, 0}",
    .infer = argsort_infer,
    .cpu = argsort_cpu,
    .flags = LM_OP_NODIFF};

static lm_status sort_infer(lm_call *c)
{
  int dim;
  LM_TRY(real_dim(c, c->param[0].i, &dim));
  LM_TRY(lm_out_like(c, 0, c->in[0]));
  return lm_out(c, 1, LM_I64, c->in[0]->ndim, c->in[0]->shape);
}

static lm_status sort_cpu(lm_call *c)
{
  const lm_tensor *x = c->in[0];
  int dim;
  LM_TRY(lm_dim(c, c->param[0].i, x->ndim, &dim));
  return sort_lines(c, dim, c->param[1].i != 0, x->shape[dim], c->out[0], c->out[1]);
}

static lm_status sort_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  return gather_back(c, gout[0], c->out[1], c->param[0].i, gin);
}

const lm_op lm_op_sort = {
    .name = "sort",
    .sig = "x; dim: dim = -1, descending: bool = false",
    .doc = "x sorted along dim, and the positions (i64, 0-based) its elements came from. "
           "Stable in both directions; NaN counts as largest.\n"
           "> values, positions = lumen.tensor{3, 1, 2}:sort({descending = true})\n"
           "> values, positions\n"
           "f32 [3] {3, 2, 1}\n"
           "i64 [3] {0, 2, 1}",
    .infer = sort_infer,
    .cpu = sort_cpu,
    .grad = sort_grad,
    .save_out = 2};

static lm_status topk_infer(lm_call *c)
{
  const lm_tensor *x = c->in[0];
  int64_t shape[LM_MAX_DIMS], k = c->param[0].i;
  int dim;
  LM_TRY(real_dim(c, c->param[1].i, &dim));
  if (k < 0 || k > x->shape[dim])
    return lm_op_fail(c, LM_ERR_ARG,
                      "k is %lld, but dimension %d of x has %lld elements (x: %s)",
                      (long long)k, dim + 1, (long long)x->shape[dim], lm_describe(x));
  memcpy(shape, x->shape, sizeof shape);
  shape[dim] = k;
  LM_TRY(lm_out(c, 0, x->dtype, x->ndim, shape));
  return lm_out(c, 1, LM_I64, x->ndim, shape);
}

static lm_status topk_cpu(lm_call *c)
{
  int dim;
  LM_TRY(lm_dim(c, c->param[1].i, c->in[0]->ndim, &dim));
  return sort_lines(c, dim, true, c->param[0].i, c->out[0], c->out[1]);
}

static lm_status topk_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  return gather_back(c, gout[0], c->out[1], c->param[1].i, gin);
}

const lm_op lm_op_topk = {
    .name = "topk",
    .sig = "x; k: int, dim: dim = -1",
    .doc = "The k largest elements along dim, largest first, and their positions (i64, "
           "0-based); of equal ones the first come first. NaN counts as largest.\n"
           "> values, positions = lumen.tensor{3, 1, 2}:topk(2)\n"
           "> values, positions\n"
           "f32 [2] {3, 2}\n"
           "i64 [2] {0, 2}",
    .infer = topk_infer,
    .cpu = topk_cpu,
    .grad = topk_grad,
    .save_out = 2};

/* ---- one_hot ---- */

static lm_status one_hot_infer(lm_call *c)
{
  const lm_tensor *index = c->in[0];
  int64_t shape[LM_MAX_DIMS];
  LM_TRY(lm_check_dtype(c, 0, LM_I64));
  if (c->param[0].i < 1)
    return lm_op_fail(c, LM_ERR_ARG, "classes must be at least 1, not %lld",
                      (long long)c->param[0].i);
  if (index->ndim >= LM_MAX_DIMS)
    return lm_op_fail(c, LM_ERR_SHAPE, "index has too many dimensions (%s)",
                      lm_describe(index));
  memcpy(shape, index->shape, sizeof shape);
  shape[index->ndim] = c->param[0].i;
  return lm_out(c, 0, LM_F32, index->ndim + 1, shape);
}

static lm_status one_hot_cpu(lm_call *c)
{
  int64_t classes = c->param[0].i, n = lm_numel(c->in[0]);
  const int64_t *index = lm_data(c->in[0]);
  float *y = lm_data(c->out[0]);
  LM_TRY(check_index(c, c->in[0], classes, "the classes"));
  clear(c->out[0]);
  for (int64_t i = 0; i < n; i++) y[i * classes + index[i]] = 1;
  return LM_OK;
}

const lm_op lm_op_one_hot = {
    .name = "one_hot",
    .sig = "index; classes: int",
    .doc =
        "For each entry of index [...] (i64, 0 .. classes - 1) a row of zeros with a one "
        "at that place: f32 [..., classes].\n"
        "> lumen.tensor({2, 0}, {dtype = \"i64\"}):one_hot(3)\n"
        "f32 [2 x 3] {0, 0, 1, 1, 0, 0}",
    .infer = one_hot_infer,
    .cpu = one_hot_cpu,
    .flags = LM_OP_NODIFF};
