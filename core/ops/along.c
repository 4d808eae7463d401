/* along.c: what runs along one dimension: argmax, argmin, cumsum.
 *
 * The contiguous input is seen as [outer][n][inner] around that dimension; each of the
 * outer * inner lines is done by one thread from end to end. */
#include "graph/op.h"

#define PARALLEL_FROM 65536 /* elements */

/* x as [outer][n][inner] around a dimension. A scalar is [1][1][1]. */
typedef struct lines {
  int64_t outer, n, inner;
} lines;

static lines lines_of(const lm_tensor *x, int dim)
{
  lines l = {1, x->ndim > 0 ? x->shape[dim] : 1, 1};
  for (int d = 0; d < dim; d++) l.outer *= x->shape[d];
  for (int d = dim + 1; d < x->ndim; d++) l.inner *= x->shape[d];
  return l;
}

/* Position of the first largest (sign 1) or smallest (sign -1) of n elements; NaN counts
 * as both. */
#define FIND(name, T)                                                        \
  static int64_t name(const void *x_, int64_t n, int64_t step, bool largest) \
  {                                                                          \
    const T *x = x_;                                                         \
    int64_t at = 0;                                                          \
    T best = x[0];                                                           \
    for (int64_t i = 1; i < n && best == best; i++) {                        \
      T v = x[i * step];                                                     \
      if ((largest ? v > best : v < best) || v != v) {                       \
        best = v;                                                            \
        at = i;                                                              \
      }                                                                      \
    }                                                                        \
    return at;                                                               \
  }

FIND(find_f32, float)
FIND(find_f64, double)
FIND(find_i32, int32_t)
FIND(find_i64, int64_t)
FIND(find_u8, uint8_t)

static lm_status find_infer(lm_call *c)
{
  const lm_tensor *x = c->in[0];
  int dim, ndim = 0;
  int64_t shape[LM_MAX_DIMS];
  LM_TRY(lm_dim(c, c->param[0].i, x->ndim, &dim));
  if (x->ndim > 0 && x->shape[dim] == 0)
    return lm_op_fail(c, LM_ERR_SHAPE, "nothing to choose from along dim %d (x: %s)",
                      dim + 1, lm_describe(x));
  for (int d = 0; d < x->ndim; d++) {
    if (d != dim)
      shape[ndim++] = x->shape[d];
    else if (c->param[1].i)
      shape[ndim++] = 1;
  }
  return lm_out(c, 0, LM_I64, ndim, shape);
}

static lm_status find(lm_call *c, bool largest)
{
  static int64_t (*const finder[LM_DTYPE_COUNT])(const void *, int64_t, int64_t,
                                                 bool) = {[LM_F32] = find_f32,
                                                          [LM_F64] = find_f64,
                                                          [LM_I32] = find_i32,
                                                          [LM_I64] = find_i64,
                                                          [LM_U8] = find_u8};
  const lm_tensor *x = c->in[0];
  int dim;
  LM_TRY(lm_dim(c, c->param[0].i, x->ndim, &dim));
  lines l = lines_of(x, dim);
  const char *from = lm_data(x);
  int64_t *to = lm_data(c->out[0]), size = lm_dtype_size(x->dtype);
#pragma omp parallel for schedule(static) if (l.outer * l.n * l.inner >= PARALLEL_FROM)
  for (int64_t k = 0; k < l.outer * l.inner; k++) {
    int64_t start = k / l.inner * l.n * l.inner + k % l.inner;
    to[k] = finder[x->dtype](from + start * size, l.n, l.inner, largest);
  }
  return LM_OK;
}

static lm_status argmax_cpu(lm_call *c)
{
  return find(c, true);
}

static lm_status argmin_cpu(lm_call *c)
{
  return find(c, false);
}

const lm_op lm_op_argmax = {
    "argmax", "x; dim: dim = -1, keepdim: bool = false",
    "Position (i64, counted from 0) of the first largest value along dim; NaN counts "
    "as largest.\n"
    "> lumen.tensor{{1, 5}, {7, 2}}:argmax()\n"
    "i64 [2] {1, 0}",
    find_infer, argmax_cpu, NULL, LM_OP_NODIFF, 0, 0};
const lm_op lm_op_argmin = {
    "argmin", "x; dim: dim = -1, keepdim: bool = false",
    "Position (i64, counted from 0) of the first smallest value along dim; NaN counts "
    "as smallest.\n"
    "> lumen.tensor{{1, 5}, {7, 2}}:argmin(1)\n"
    "i64 [2] {0, 1}",
    find_infer, argmin_cpu, NULL, LM_OP_NODIFF, 0, 0};

/* Running sums of n elements `step` apart; a negative step runs from the end. */
#define RUNNING(name, T, A, R)                                                       \
  static void name(const void *x_, void *o_, int64_t n, int64_t start, int64_t step) \
  {                                                                                  \
    const T *x = (const T *)x_ + start;                                              \
    R *o = (R *)o_ + start;                                                          \
    A s = 0;                                                                         \
    for (int64_t i = 0; i < n; i++) {                                                \
      s += (A)x[i * step];                                                           \
      o[i * step] = (R)s;                                                            \
    }                                                                                \
  }

RUNNING(running_f32, float, double, float)
RUNNING(running_f64, double, double, double)
RUNNING(running_i32, int32_t, uint64_t, int64_t)
RUNNING(running_i64, int64_t, uint64_t, int64_t)
RUNNING(running_u8, uint8_t, uint64_t, int64_t)

static lm_status cumsum_infer(lm_call *c)
{
  const lm_tensor *x = c->in[0];
  int dim;
  LM_TRY(lm_dim(c, c->param[0].i, x->ndim, &dim));
  return lm_out(c, 0, lm_dtype_is_float(x->dtype) ? x->dtype : LM_I64, x->ndim, x->shape);
}

static lm_status running_sum(lm_call *c, bool from_end)
{
  static void (*const runner[LM_DTYPE_COUNT])(const void *, void *, int64_t, int64_t,
                                              int64_t) = {[LM_F32] = running_f32,
                                                          [LM_F64] = running_f64,
                                                          [LM_I32] = running_i32,
                                                          [LM_I64] = running_i64,
                                                          [LM_U8] = running_u8};
  const lm_tensor *x = c->in[0];
  int dim;
  LM_TRY(lm_dim(c, c->param[0].i, x->ndim, &dim));
  lines l = lines_of(x, dim);
  const void *from = lm_data(x);
  void *to = lm_data(c->out[0]);
#pragma omp parallel for schedule(static) if (l.outer * l.n * l.inner >= PARALLEL_FROM)
  for (int64_t k = 0; k < l.outer * l.inner; k++) {
    int64_t start = k / l.inner * l.n * l.inner + k % l.inner;
    if (from_end) start += (l.n - 1) * l.inner;
    runner[x->dtype](from, to, l.n, start, from_end ? -l.inner : l.inner);
  }
  return LM_OK;
}

static lm_status cumsum_cpu(lm_call *c)
{
  return running_sum(c, false);
}

static lm_status cumsum_backward_cpu(lm_call *c)
{
  return running_sum(c, true);
}

const lm_op lm_op_cumsum_backward = {
    "cumsum_backward", "g; dim: dim",
    "Running sums of g along dim, from the end.",
    cumsum_infer, cumsum_backward_cpu, NULL, LM_OP_INTERNAL, 0, 0};

static lm_status cumsum_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  return lm_apply(&lm_op_cumsum_backward, LM_IN(gout[0]), &c->param[0], &gin[0]);
}

const lm_op lm_op_cumsum = {
    "cumsum", "x; dim: dim",
    "Running sums along dim; integers give i64.\n"
    "> lumen.tensor{1, 2, 3}:cumsum(1)\n"
    "f32 [3] {1, 3, 6}",
    cumsum_infer, cumsum_cpu, cumsum_grad, 0, 0, 0};
