/* reduce.c: reductions over any set of dimensions: sum, mean, prod, sum_to, var, std,
 * max, min. (Along one dimension: along.c.)
 *
 * Floats accumulate in double, integers in 64 bits. The contiguous input's dimensions are
 * merged into alternating kept and reduced ones; the innermost is either folded into one
 * accumulator (row functions) or added elementwise to a tile of accumulators (column
 * functions). Long reductions are cut into chunks whose number depends on the shape
 * alone, so results do not depend on the number of threads. */
#include "ops/reduce.h"

#include <math.h>
#include <stdlib.h>

#define TILE 512            /* accumulators that stay in the first cache */
#define PARALLEL_FROM 65536 /* elements */
#define CHUNK_LEAST 8192    /* elements reduced by one chunk, at least */
#define MAX_CHUNKS 64

typedef union number {
  double f;
  uint64_t u; /* sums and products of integers: wrap around */
  int64_t i;  /* extremes of integers */
} number;

/* Fold n elements into *acc (row) or into acc[0..n-1] (column). `center` points to the
 * mean belonging to the first accumulator, for sums of squared deviations. */
typedef void (*fold_fn)(number *acc, int64_t n, const void *x, const double *center);

typedef struct fold {
  fold_fn row[LM_DTYPE_COUNT], column[LM_DTYPE_COUNT];
  fold_fn join_floats, join_ints; /* columns over accumulators: for joining chunks */
  number first_float, first_int;
} fold;

#define PRAGMA(text) _Pragma(#text)

/* `s` is the accumulator, `v` the element. */
#define FOLD(name, T, A, member, clause, identity, expr)                               \
  static void name##_row(number *acc, int64_t n, const void *x_, const double *center) \
  {                                                                                    \
    const T *x = x_;                                                                   \
    const double m = center ? *center : 0;                                             \
    (void)m;                                                                           \
    A s = identity;                                                                    \
    PRAGMA(omp simd reduction(clause : s))                                             \
    for (int64_t i = 0; i < n; i++) {                                                  \
      const A v = (A)x[i];                                                             \
      s = expr;                                                                        \
    }                                                                                  \
    acc->member = acc->member clause s;                                                \
  }                                                                                    \
  static void name##_column(number *acc, int64_t n, const void *x_,                    \
                            const double *center)                                      \
  {                                                                                    \
    const T *x = x_;                                                                   \
    const double zero = 0;                                                             \
    const int64_t step = center ? 1 : 0;                                               \
    const double *c = center ? center : &zero;                                         \
    (void)c;                                                                           \
    (void)step;                                                                        \
    PRAGMA(omp simd)                                                                   \
    for (int64_t i = 0; i < n; i++) {                                                  \
      const A v = (A)x[i], s = acc[i].member;                                          \
      const double m = c[i * step];                                                    \
      (void)m;                                                                         \
      acc[i].member = expr;                                                            \
    }                                                                                  \
  }

#define FOLDS(name, clause, identity, expr)                      \
  FOLD(name##_f32, float, double, f, clause, identity, expr)     \
  FOLD(name##_f64, double, double, f, clause, identity, expr)    \
  FOLD(name##_i32, int32_t, uint64_t, u, clause, identity, expr) \
  FOLD(name##_i64, int64_t, uint64_t, u, clause, identity, expr) \
  FOLD(name##_u8, uint8_t, uint64_t, u, clause, identity, expr)

#define EACH(name, part)                                        \
  {                                                             \
    [LM_F32] = name##_f32_##part, [LM_F64] = name##_f64_##part, \
    [LM_I32] = name##_i32_##part, [LM_I64] = name##_i64_##part, \
    [LM_U8] = name##_u8_##part                                  \
  }

FOLDS(sum, +, 0, s + v)
FOLDS(prod, *, 1, s *v)
FOLD(deviation_f32, float, double, f, +, 0, s + (v - m) * (v - m))
FOLD(deviation_f64, double, double, f, +, 0, s + (v - m) * (v - m))

/* Extremes. NaN wins over everything: it is looked for beside the comparison, which would
 * pass over it. */
#define EXTREME(name, T, A, member, which, sign)                                       \
  static void name##_row(number *acc, int64_t n, const void *x_, const double *center) \
  {                                                                                    \
    (void)center;                                                                      \
    const T *x = x_;                                                                   \
    T s = x[0];                                                                        \
    int strange = 0;                                                                   \
    PRAGMA(omp simd reduction(which : s) reduction(| : strange))                       \
    for (int64_t i = 0; i < n; i++) {                                                  \
      s = x[i] sign s ? x[i] : s;                                                      \
      strange |= !(x[i] == x[i]);                                                      \
    }                                                                                  \
    for (int64_t i = 0; strange && i < n; i++) s = x[i] == x[i] ? s : x[i];            \
    if ((A)s sign acc->member || s != s) acc->member = (A)s;                           \
  }                                                                                    \
  static void name##_column(number *acc, int64_t n, const void *x_,                    \
                            const double *center)                                      \
  {                                                                                    \
    (void)center;                                                                      \
    const T *x = x_;                                                                   \
    PRAGMA(omp simd)                                                                   \
    for (int64_t i = 0; i < n; i++) {                                                  \
      const A v = (A)x[i], s = acc[i].member;                                          \
      acc[i].member = v sign s || v != v ? v : s;                                      \
    }                                                                                  \
  }

#define EXTREMES(name, which, sign)                     \
  EXTREME(name##_f32, float, double, f, which, sign)    \
  EXTREME(name##_f64, double, double, f, which, sign)   \
  EXTREME(name##_i32, int32_t, int64_t, i, which, sign) \
  EXTREME(name##_i64, int64_t, int64_t, i, which, sign) \
  EXTREME(name##_u8, uint8_t, int64_t, i, which, sign)

EXTREMES(max, max, >)
EXTREMES(min, min, <)

static const fold sum_fold = {EACH(sum, row), EACH(sum, column), sum_f64_column,
                              sum_i64_column, {.f = 0},          {.u = 0}};
static const fold prod_fold = {EACH(prod, row), EACH(prod, column), prod_f64_column,
                               prod_i64_column, {.f = 1},           {.u = 1}};
static const fold max_fold = {EACH(max, row), EACH(max, column), max_f64_column,
                              max_i64_column, {.f = -INFINITY},  {.i = INT64_MIN}};
static const fold min_fold = {EACH(min, row), EACH(min, column), min_f64_column,
                              min_i64_column, {.f = INFINITY},   {.i = INT64_MAX}};
static const fold deviation_fold = {
    {[LM_F32] = deviation_f32_row, [LM_F64] = deviation_f64_row},
    {[LM_F32] = deviation_f32_column, [LM_F64] = deviation_f64_column},
    sum_f64_column,
    sum_i64_column,
    {.f = 0},
    {.u = 0}};

/* ---- the engine ---- */

typedef struct axes {
  int n;
  int64_t size[LM_MAX_DIMS], stride[LM_MAX_DIMS], count; /* count: product of the sizes */
} axes;

typedef struct plan {
  const char *x;
  int64_t element;
  lm_dtype dtype;
  axes kept, reduced; /* without the innermost dimension */
  int64_t inner;      /* its size */
  bool inner_reduced;
  int64_t outputs, tiles, chunks;
  const fold *f;
  const double *center;
  number *acc; /* [chunks][outputs] */
} plan;

static void axes_add(axes *a, int64_t size, int64_t stride)
{
  a->size[a->n] = size;
  a->stride[a->n++] = stride;
  a->count *= size;
}

static int64_t axes_offset(const axes *a, int64_t index)
{
  int64_t offset = 0;
  for (int d = a->n - 1; d > 0; d--) {
    offset += index % a->size[d] * a->stride[d];
    index /= a->size[d];
  }
  return a->n > 0 ? offset + index * a->stride[0] : 0;
}

static void plan_make(plan *p, const lm_tensor *x, const bool *reduced)
{
  int n = 0;
  int64_t size[LM_MAX_DIMS];
  bool kind[LM_MAX_DIMS];
  for (int d = 0; d < x->ndim; d++) {
    if (x->shape[d] == 1) continue;
    if (n > 0 && kind[n - 1] == reduced[d]) {
      size[n - 1] *= x->shape[d];
    } else {
      size[n] = x->shape[d];
      kind[n++] = reduced[d];
    }
  }
  if (n == 0) {
    size[0] = 1;
    kind[n++] = true;
  }
  p->x = lm_data(x);
  p->dtype = x->dtype;
  p->element = lm_dtype_size(x->dtype);
  p->kept = (axes){.count = 1};
  p->reduced = (axes){.count = 1};
  p->inner = size[n - 1];
  p->inner_reduced = kind[n - 1];
  for (int d = 0; d < n - 1; d++) {
    int64_t stride = 1;
    for (int e = d + 1; e < n; e++) stride *= size[e];
    axes_add(kind[d] ? &p->reduced : &p->kept, size[d], stride);
  }
  p->tiles = p->inner_reduced ? 1 : (p->inner + TILE - 1) / TILE;
  p->outputs = p->kept.count * (p->inner_reduced ? 1 : p->inner);
}

/* Over what the chunks share out: reduced rows, or the innermost dimension itself. */
static int64_t plan_extent(const plan *p)
{
  return p->inner_reduced && p->reduced.count == 1 ? p->inner : p->reduced.count;
}

static void plan_chunks(plan *p, int64_t elements)
{
  int64_t tasks = p->kept.count * p->tiles;
  p->chunks = 1;
  if (elements < PARALLEL_FROM || tasks >= MAX_CHUNKS) return;
  int64_t by_work = elements / tasks / CHUNK_LEAST;
  p->chunks = lm_max64(1, lm_min64(lm_min64(MAX_CHUNKS, plan_extent(p)), by_work));
}

/* One tile of accumulators over one chunk. */
static void plan_task(const plan *p, int64_t task)
{
  int64_t chunk = task % p->chunks, tile = task / p->chunks % p->tiles;
  int64_t k = task / p->chunks / p->tiles, extent = plan_extent(p);
  int64_t first = chunk * extent / p->chunks, last = (chunk + 1) * extent / p->chunks;
  const char *x = p->x + axes_offset(&p->kept, k) * p->element;
  number *acc = p->acc + chunk * p->outputs;
  if (p->inner_reduced && p->reduced.count == 1) {
    p->f->row[p->dtype](acc + k, last - first, x + first * p->element,
                        p->center ? p->center + k : NULL);
    return;
  }
  fold_fn fn = p->inner_reduced ? p->f->row[p->dtype] : p->f->column[p->dtype];
  int64_t begin = tile * TILE;
  int64_t n = p->inner_reduced ? p->inner : lm_min64(TILE, p->inner - begin);
  int64_t to = p->inner_reduced ? k : k * p->inner + begin;
  const double *center = p->center ? p->center + to : NULL;
  for (int64_t r = first; r < last; r++)
    fn(acc + to, n, x + (axes_offset(&p->reduced, r) + begin) * p->element, center);
}

/* acc[outputs], to be freed by the caller. center: one mean per output, or NULL. */
static lm_status reduce(const lm_tensor *x, const bool *reduced, const fold *f,
                        const double *center, number **acc, int64_t *outputs)
{
  plan p = {.f = f, .center = center};
  int64_t elements = lm_numel(x);
  plan_make(&p, x, reduced);
  plan_chunks(&p, elements);
  bool real = lm_dtype_is_float(x->dtype);
  LM_TRY(lm_calloc(&p.acc, (size_t)lm_max64(1, p.outputs * p.chunks), sizeof *p.acc));
  for (int64_t i = 0; i < p.outputs * p.chunks; i++)
    p.acc[i] = real ? f->first_float : f->first_int;
  if (elements > 0) {
    int64_t tasks = p.kept.count * p.tiles * p.chunks;
#pragma omp parallel for schedule(static) if (elements >= PARALLEL_FROM && tasks > 1)
    for (int64_t task = 0; task < tasks; task++) plan_task(&p, task);
  }
  for (int64_t chunk = 1; chunk < p.chunks; chunk++)
    (real ? f->join_floats : f->join_ints)(p.acc, p.outputs, p.acc + chunk * p.outputs,
                                           NULL);
  *acc = p.acc;
  *outputs = p.outputs;
  return LM_OK;
}

/* Write accumulators, times `scale` for floats, into a contiguous tensor. */
static void store(lm_tensor *out, const number *acc, int64_t n, double scale, bool root)
{
  void *to = lm_data(out);
  for (int64_t i = 0; i < n; i++) {
    double v = root ? sqrt(acc[i].f * scale) : acc[i].f * scale;
    switch (out->dtype) {
      case LM_F32: ((float *)to)[i] = (float)v; break;
      case LM_F64: ((double *)to)[i] = v; break;
      case LM_I32: ((int32_t *)to)[i] = (int32_t)acc[i].i; break;
      case LM_I64: ((int64_t *)to)[i] = acc[i].i; break;
      default: ((uint8_t *)to)[i] = (uint8_t)acc[i].i; break;
    }
  }
}

/* ---- shapes ---- */

/* None given: all. */
lm_status lm_reduced_dims(const lm_call *c, bool *reduced)
{
  const lm_tensor *x = c->in[0];
  const lm_value *dims = &c->param[0];
  for (int d = 0; d < LM_MAX_DIMS; d++) reduced[d] = dims->n == 0;
  for (int i = 0; i < dims->n; i++) {
    int d;
    LM_TRY(lm_dim(c, dims->v[i], x->ndim, &d));
    if (reduced[d])
      return lm_op_fail(c, LM_ERR_INDEX, "dim %d is given twice (x: %s)", d + 1,
                        lm_describe(x));
    reduced[d] = true;
  }
  return LM_OK;
}

static lm_status declare_reduced(lm_call *c, const bool *reduced, bool keepdim,
                                 lm_dtype dtype)
{
  const lm_tensor *x = c->in[0];
  int ndim = 0;
  int64_t shape[LM_MAX_DIMS];
  for (int d = 0; d < x->ndim; d++) {
    if (!reduced[d])
      shape[ndim++] = x->shape[d];
    else if (keepdim)
      shape[ndim++] = 1;
  }
  return lm_out(c, 0, dtype, ndim, shape);
}

int64_t lm_reduced_count(const lm_tensor *x, const bool *reduced)
{
  int64_t n = 1;
  for (int d = 0; d < x->ndim; d++)
    if (reduced[d]) n *= x->shape[d];
  return n;
}

/* t, which has x's shape without the reduced dimensions or with ones there, as a view
 * that broadcasts against x; full: as a view of x's very shape. */
static lm_status spread(const lm_call *c, const lm_tensor *t, const bool *reduced,
                        bool full, lm_tensor **out)
{
  const lm_tensor *x = c->in[0];
  bool keepdim = t->ndim == x->ndim;
  int64_t shape[LM_MAX_DIMS], stride[LM_MAX_DIMS];
  for (int d = 0, from = 0; d < x->ndim; d++) {
    shape[d] = reduced[d] && !full ? 1 : x->shape[d];
    stride[d] = reduced[d] ? 0 : t->stride[from];
    if (keepdim || !reduced[d]) from++;
  }
  return lm_tensor_view(t, x->ndim, shape, stride, t->offset, out);
}

/* ---- composing gradients ---- */

extern const lm_op lm_op_mul, lm_op_div, lm_op_sub, lm_op_eq, lm_op_where, lm_op_cast;
extern const lm_op lm_op_fill_, lm_op_mean, lm_op_sum, lm_op_prod;

/* Temporaries of a gradient, released together. */
typedef struct temps {
  int n;
  lm_tensor *t[16];
} temps;

static void temps_release(temps *t)
{
  for (int i = 0; i < t->n; i++) lm_release(t->t[i]);
}

static lm_status apply_temp(temps *t, const lm_op *op, lm_tensor *const *in,
                            const lm_value *params, lm_tensor **out)
{
  LM_TRY(lm_apply(op, in, params, out));
  t->t[t->n++] = *out;
  return LM_OK;
}

static lm_status scalar_temp(temps *t, const lm_tensor *like, double value,
                             lm_tensor **out)
{
  LM_TRY(lm_tensor_new(like->device, like->dtype, 0, NULL, out));
  t->t[t->n++] = *out;
  lm_value v = lm_float(value);
  lm_tensor *same;
  LM_TRY(lm_apply(&lm_op_fill_, LM_IN(*out), &v, &same));
  lm_release(same);
  return LM_OK;
}

static lm_status spread_temp(temps *t, const lm_call *c, const lm_tensor *of,
                             const bool *reduced, lm_tensor **out)
{
  LM_TRY(spread(c, of, reduced, false, out));
  t->t[t->n++] = *out;
  return LM_OK;
}

/* ---- sum, mean, prod, sum_to ---- */

static lm_status sum_infer(lm_call *c)
{
  bool reduced[LM_MAX_DIMS];
  lm_dtype dtype = c->in[0]->dtype;
  LM_TRY(lm_reduced_dims(c, reduced));
  return declare_reduced(c, reduced, c->param[1].i,
                         lm_dtype_is_float(dtype) ? dtype : LM_I64);
}

static lm_status run_fold(lm_call *c, const fold *f, const bool *reduced, double scale)
{
  number *acc;
  int64_t n;
  LM_TRY(reduce(c->in[0], reduced, f, NULL, &acc, &n));
  store(c->out[0], acc, n, scale, false);
  free(acc);
  return LM_OK;
}

static lm_status sum_cpu(lm_call *c)
{
  bool reduced[LM_MAX_DIMS];
  LM_TRY(lm_reduced_dims(c, reduced));
  return run_fold(c, &sum_fold, reduced, 1);
}

static lm_status sum_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  bool reduced[LM_MAX_DIMS];
  LM_TRY(lm_reduced_dims(c, reduced));
  return spread(c, gout[0], reduced, true, &gin[0]);
}

const lm_op lm_op_sum = {
    "sum", "x; dims: dims = all, keepdim: bool = false",
    "Sum over `dims` (all: a scalar); keepdim leaves them with size 1. Floats "
    "accumulate in f64; integers give i64.\n"
    "> lumen.tensor{{1, 2}, {3, 4}}:sum():item()\n"
    "10.0\n"
    "> lumen.tensor{{1, 2}, {3, 4}}:sum(1)\n"
    "f32 [2] {4, 6}",
    sum_infer, sum_cpu, sum_grad, 0, 0, 0};

static lm_status mean_infer(lm_call *c)
{
  LM_TRY(lm_check_float(c, 0));
  return sum_infer(c);
}

static lm_status mean_cpu(lm_call *c)
{
  bool reduced[LM_MAX_DIMS];
  LM_TRY(lm_reduced_dims(c, reduced));
  return run_fold(c, &sum_fold, reduced, 1.0 / (double)lm_reduced_count(c->in[0], reduced));
}

static lm_status mean_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  bool reduced[LM_MAX_DIMS];
  temps t = {0};
  lm_tensor *scale, *g;
  LM_TRY(lm_reduced_dims(c, reduced));
  double inverse = 1.0 / (double)lm_reduced_count(c->in[0], reduced);
  lm_status status;
  LM_TRY_GOTO(status, done, scalar_temp(&t, gout[0], inverse, &scale));
  LM_TRY_GOTO(status, done, apply_temp(&t, &lm_op_mul, LM_IN(gout[0], scale), NULL, &g));
  status = spread(c, g, reduced, true, &gin[0]);
done:
  temps_release(&t);
  return status;
}

const lm_op lm_op_mean = {
    "mean", "x; dims: dims = all, keepdim: bool = false",
    "Mean of floats over `dims` (all: a scalar), accumulated in f64; NaN over nothing.\n"
    "> x = lumen.tensor{{1, 2}, {3, 4}}\n"
    "> x:mean({dims = 2, keepdim = true})\n"
    "f32 [2 x 1] {1.5, 3.5}",
    mean_infer, mean_cpu, mean_grad, 0, 0, 0};

static lm_status prod_cpu(lm_call *c)
{
  bool reduced[LM_MAX_DIMS];
  LM_TRY(lm_reduced_dims(c, reduced));
  return run_fold(c, &prod_fold, reduced, 1);
}

/* The product of all others, without dividing by zero: with the zeros of x replaced by
 * ones it is P / x where no other element is zero, and 0 elsewhere. */
static lm_status prod_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  bool reduced[LM_MAX_DIMS];
  temps t = {0};
  lm_tensor *x = c->in[0], *zero, *one, *is_zero, *filled, *product, *zeros, *all,
            *others;
  lm_tensor *alone, *g, *gp, *q, *factor;
  LM_TRY(lm_reduced_dims(c, reduced));
  lm_value keep[2] = {c->param[0], lm_int(1)}, dtype = lm_int(x->dtype);
  keep[0].given = true;
  lm_status status;
  LM_TRY_GOTO(status, done, scalar_temp(&t, x, 0, &zero));
  LM_TRY_GOTO(status, done, scalar_temp(&t, x, 1, &one));
  LM_TRY_GOTO(status, done, apply_temp(&t, &lm_op_eq, LM_IN(x, zero), NULL, &is_zero));
  LM_TRY_GOTO(status, done,
              apply_temp(&t, &lm_op_where, LM_IN(is_zero, one, x), NULL, &filled));
  LM_TRY_GOTO(status, done, apply_temp(&t, &lm_op_prod, LM_IN(filled), keep, &product));
  LM_TRY_GOTO(status, done, apply_temp(&t, &lm_op_cast, LM_IN(is_zero), &dtype, &zeros));
  LM_TRY_GOTO(status, done, apply_temp(&t, &lm_op_sum, LM_IN(zeros), keep, &all));
  LM_TRY_GOTO(status, done, apply_temp(&t, &lm_op_sub, LM_IN(all, zeros), NULL, &others));
  LM_TRY_GOTO(status, done, apply_temp(&t, &lm_op_eq, LM_IN(others, zero), NULL, &alone));
  LM_TRY_GOTO(status, done, apply_temp(&t, &lm_op_cast, LM_IN(alone), &dtype, &factor));
  LM_TRY_GOTO(status, done, spread_temp(&t, c, gout[0], reduced, &g));
  LM_TRY_GOTO(status, done, apply_temp(&t, &lm_op_mul, LM_IN(g, product), NULL, &gp));
  LM_TRY_GOTO(status, done, apply_temp(&t, &lm_op_div, LM_IN(gp, filled), NULL, &q));
  status = lm_apply(&lm_op_mul, LM_IN(q, factor), NULL, &gin[0]);
done:
  temps_release(&t);
  return status;
}

const lm_op lm_op_prod = {
    "prod", "x; dims: dims = all, keepdim: bool = false",
    "Product over `dims` (all: a scalar). Floats accumulate in f64; integers give i64 "
    "and wrap around.\n"
    "> lumen.tensor{2, 3, 4}:prod():item()\n"
    "24.0",
    sum_infer, prod_cpu, prod_grad, 0, 1, 0};

void lm_sum_to_dims(const lm_call *c, bool *reduced)
{
  const lm_tensor *x = c->in[0];
  const lm_value *shape = &c->param[0];
  for (int d = 0; d < x->ndim; d++) {
    int to = d - (x->ndim - shape->n);
    reduced[d] = to < 0 || (shape->v[to] == 1 && x->shape[d] != 1);
  }
}

static lm_status sum_to_infer(lm_call *c)
{
  const lm_tensor *x = c->in[0];
  const lm_value *shape = &c->param[0];
  bool fits = shape->n <= x->ndim;
  for (int i = 0; fits && i < shape->n; i++)
    fits = shape->v[i] == 1 || shape->v[i] == x->shape[x->ndim - shape->n + i];
  if (!fits)
    return lm_op_fail(c, LM_ERR_SHAPE, "%s does not broadcast to x: %s",
                      lm_shape_text(shape->n, shape->v), lm_describe(x));
  return lm_out(c, 0, x->dtype, shape->n, shape->v);
}

static lm_status sum_to_cpu(lm_call *c)
{
  bool reduced[LM_MAX_DIMS];
  lm_sum_to_dims(c, reduced);
  return run_fold(c, &sum_fold, reduced, 1);
}

const lm_op lm_op_sum_to = {
    "sum_to", "x; shape: ints",
    "x summed over the dimensions in which `shape` was broadcast.",
    sum_to_infer, sum_to_cpu, NULL, LM_OP_INTERNAL, 0, 0};

/* ---- var, std ---- */

static lm_status var_infer(lm_call *c)
{
  bool reduced[LM_MAX_DIMS];
  LM_TRY(lm_check_float(c, 0));
  LM_TRY(lm_reduced_dims(c, reduced));
  return declare_reduced(c, reduced, c->param[2].i, c->in[0]->dtype);
}

double lm_variance_scale(const lm_call *c, const bool *reduced)
{
  int64_t n = lm_reduced_count(c->in[0], reduced) - (c->param[1].i ? 1 : 0);
  return n > 0 ? 1.0 / (double)n : NAN;
}

static lm_status variance(lm_call *c, bool root)
{
  bool reduced[LM_MAX_DIMS];
  number *sums, *squares;
  int64_t n;
  LM_TRY(lm_reduced_dims(c, reduced));
  LM_TRY(reduce(c->in[0], reduced, &sum_fold, NULL, &sums, &n));
  double inverse = 1.0 / (double)lm_reduced_count(c->in[0], reduced);
  double *means = &sums[0].f; /* a number is as large as a double */
  for (int64_t i = 0; i < n; i++) means[i] = sums[i].f * inverse;
  lm_status status = reduce(c->in[0], reduced, &deviation_fold, means, &squares, &n);
  free(sums);
  if (status != LM_OK) return status;
  store(c->out[0], squares, n, lm_variance_scale(c, reduced), root);
  free(squares);
  return LM_OK;
}

static lm_status var_cpu(lm_call *c)
{
  return variance(c, false);
}

static lm_status std_cpu(lm_call *c)
{
  return variance(c, true);
}

/* (x - mean) times g * factor, divided by the deviation for std. */
static lm_status variance_grad(lm_call *c, lm_tensor *g, double factor, lm_tensor **gin)
{
  bool reduced[LM_MAX_DIMS];
  temps t = {0};
  lm_tensor *scale, *mean, *away, *scaled, *wide;
  LM_TRY(lm_reduced_dims(c, reduced));
  lm_value keep[2] = {c->param[0], lm_int(1)};
  keep[0].given = true;
  lm_status status;
  factor *= lm_variance_scale(c, reduced);
  LM_TRY_GOTO(status, done, scalar_temp(&t, g, factor, &scale));
  LM_TRY_GOTO(status, done, apply_temp(&t, &lm_op_mul, LM_IN(g, scale), NULL, &scaled));
  LM_TRY_GOTO(status, done, spread_temp(&t, c, scaled, reduced, &wide));
  LM_TRY_GOTO(status, done, apply_temp(&t, &lm_op_mean, LM_IN(c->in[0]), keep, &mean));
  LM_TRY_GOTO(status, done,
              apply_temp(&t, &lm_op_sub, LM_IN(c->in[0], mean), NULL, &away));
  status = lm_apply(&lm_op_mul, LM_IN(away, wide), NULL, gin);
done:
  temps_release(&t);
  return status;
}

static lm_status var_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  return variance_grad(c, gout[0], 2, &gin[0]);
}

static lm_status std_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  lm_tensor *g;
  LM_TRY(lm_apply(&lm_op_div, LM_IN(gout[0], c->out[0]), NULL, &g));
  lm_status status = variance_grad(c, g, 1, &gin[0]);
  lm_release(g);
  return status;
}

#define VARIANCE_SIG "x; dims: dims = all, unbiased: bool = true, keepdim: bool = false"

const lm_op lm_op_var = {
    "var", VARIANCE_SIG,
    "Variance over `dims` (all: a scalar), in two passes: the sum of squared "
    "deviations over n - 1, or over n when not unbiased. NaN where that is 0.\n"
    "> lumen.tensor{1, 2, 3, 4}:var():item()\n"
    "1.6667",
    var_infer, var_cpu, var_grad, 0, 1, 0};
const lm_op lm_op_std = {
    "std", VARIANCE_SIG,
    "Square root of var; NaN where that is.\n"
    "> lumen.tensor{1, 3}:std({unbiased = false}):item()\n"
    "1.0",
    var_infer, std_cpu, std_grad, 0, 1, 1};

/* ---- max, min ---- */

static lm_status extreme_infer(lm_call *c)
{
  bool reduced[LM_MAX_DIMS];
  LM_TRY(lm_reduced_dims(c, reduced));
  if (lm_reduced_count(c->in[0], reduced) == 0)
    return lm_op_fail(c, LM_ERR_SHAPE,
                      "nothing to choose from along the reduced dimensions "
                      "(x: %s)",
                      lm_describe(c->in[0]));
  return declare_reduced(c, reduced, c->param[1].i, c->in[0]->dtype);
}

static lm_status max_cpu(lm_call *c)
{
  bool reduced[LM_MAX_DIMS];
  LM_TRY(lm_reduced_dims(c, reduced));
  return run_fold(c, &max_fold, reduced, 1);
}

static lm_status min_cpu(lm_call *c)
{
  bool reduced[LM_MAX_DIMS];
  LM_TRY(lm_reduced_dims(c, reduced));
  return run_fold(c, &min_fold, reduced, 1);
}

/* Equal extremes share the gradient evenly. */
static lm_status extreme_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  bool reduced[LM_MAX_DIMS];
  temps t = {0};
  lm_tensor *value, *g, *same, *chosen, *count, *part;
  LM_TRY(lm_reduced_dims(c, reduced));
  lm_value keep[2] = {c->param[0], lm_int(1)}, dtype = lm_int(c->in[0]->dtype);
  keep[0].given = true;
  lm_status status;
  LM_TRY_GOTO(status, done, spread_temp(&t, c, c->out[0], reduced, &value));
  LM_TRY_GOTO(status, done, spread_temp(&t, c, gout[0], reduced, &g));
  LM_TRY_GOTO(status, done,
              apply_temp(&t, &lm_op_eq, LM_IN(c->in[0], value), NULL, &same));
  LM_TRY_GOTO(status, done, apply_temp(&t, &lm_op_cast, LM_IN(same), &dtype, &chosen));
  LM_TRY_GOTO(status, done, apply_temp(&t, &lm_op_sum, LM_IN(chosen), keep, &count));
  LM_TRY_GOTO(status, done, apply_temp(&t, &lm_op_div, LM_IN(g, count), NULL, &part));
  status = lm_apply(&lm_op_mul, LM_IN(chosen, part), NULL, &gin[0]);
done:
  temps_release(&t);
  return status;
}

const lm_op lm_op_max = {
    "max", "x; dims: dims = all, keepdim: bool = false",
    "Largest value over `dims` (all: a scalar); NaN where there is one. Equal "
    "extremes share the gradient evenly.\n"
    "> lumen.tensor{{1, 5}, {7, 2}}:max():item()\n"
    "7.0\n"
    "> lumen.tensor{{1, 5}, {7, 2}}:max(2)\n"
    "f32 [2] {5, 7}",
    extreme_infer, max_cpu, extreme_grad, 0, 1, 1};
const lm_op lm_op_min = {
    "min", "x; dims: dims = all, keepdim: bool = false",
    "Smallest value over `dims` (all: a scalar); NaN where there is one. Equal "
    "extremes share the gradient evenly.\n"
    "> lumen.tensor{{1, 5}, {7, 2}}:min(1)\n"
    "f32 [2] {1, 2}",
    extreme_infer, min_cpu, extreme_grad, 0, 1, 1};
