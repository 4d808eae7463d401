/* norm.c: layer, batch and group normalisation, y = (x - mean) * rstd * weight + bias with
 * rstd = 1 / sqrt(var + eps).
 *
 * Everything is made of "segments" (runs of elements that are contiguous in memory): a row of
 * layer_norm, a channel's plane of batch_norm and group_norm. Sums over a segment are taken
 * in BLOCK-sized pieces in the element type and added up in double, in an order that does not
 * depend on the number of threads. Mean and rstd are saved, nothing of x's size. */
#include <math.h>

#include "cpu/cpu.h"
#include "graph/op.h"

#define BLOCK 512
#define ROW_CHUNK 32        /* rows of layer_norm that share partial sums */
#define PARALLEL_WORK 65536 /* elements below which threads cost more than they bring */

extern const lm_op lm_op_layer_norm, lm_op_layer_norm_backward, lm_op_batch_norm_backward,
    lm_op_group_norm_backward;

/* sum, square_sum: of x - shift. dot_sum: adds the sums of g and of g * (x - shift) to s[0],
 * s[1]. affine: y = a x + b. combine: gx = a g + b x + c.
 * layer_row: one row of layer_norm; layer_row_backward: one row's gx, and its part of the
 * gradients of weight and bias added to gw and gb (gw may be NULL: neither). */
#define DEFINE_SEGMENTS(T)                                                                 \
  static double T##_sum(int64_t n, const T *x)                                             \
  {                                                                                        \
    double total = 0;                                                                      \
    for (int64_t k = 0; k < n; k += BLOCK) {                                               \
      int64_t end = lm_min64(n, k + BLOCK);                                                \
      T s = 0;                                                                             \
      _Pragma("omp simd reduction(+ : s)") for (int64_t i = k; i < end; i++) s += x[i];    \
      total += (double)s;                                                                  \
    }                                                                                      \
    return total;                                                                          \
  }                                                                                        \
  static double T##_square_sum(int64_t n, const T *x, double shift)                        \
  {                                                                                        \
    double total = 0;                                                                      \
    T m = (T)shift;                                                                        \
    for (int64_t k = 0; k < n; k += BLOCK) {                                               \
      int64_t end = lm_min64(n, k + BLOCK);                                                \
      T s = 0;                                                                             \
      _Pragma("omp simd reduction(+ : s)") for (int64_t i = k; i < end; i++)               \
        s += (x[i] - m) * (x[i] - m);                                                      \
      total += (double)s;                                                                  \
    }                                                                                      \
    return total;                                                                          \
  }                                                                                        \
  static void T##_dot_sum(int64_t n, const T *g, const T *x, double shift, double *s)      \
  {                                                                                        \
    T m = (T)shift;                                                                        \
    for (int64_t k = 0; k < n; k += BLOCK) {                                               \
      int64_t end = lm_min64(n, k + BLOCK);                                                \
      T s0 = 0, s1 = 0;                                                                    \
      _Pragma("omp simd reduction(+ : s0, s1)") for (int64_t i = k; i < end; i++)          \
      {                                                                                    \
        s0 += g[i];                                                                        \
        s1 += g[i] * (x[i] - m);                                                           \
      }                                                                                    \
      s[0] += (double)s0;                                                                  \
      s[1] += (double)s1;                                                                  \
    }                                                                                      \
  }                                                                                        \
  static void T##_affine(int64_t n, const T *restrict x, double a, double b, T *restrict y) \
  {                                                                                        \
    T p = (T)a, q = (T)b;                                                                  \
    _Pragma("omp simd") for (int64_t i = 0; i < n; i++) y[i] = p * x[i] + q;               \
  }                                                                                        \
  static void T##_combine(int64_t n, const T *restrict g, double a, const T *restrict x,   \
                          double b, double c, T *restrict gx)                              \
  {                                                                                        \
    T p = (T)a, q = (T)b, r = (T)c;                                                        \
    _Pragma("omp simd") for (int64_t i = 0; i < n; i++) gx[i] = p * g[i] + q * x[i] + r;   \
  }                                                                                        \
  static void T##_layer_row(int64_t n, const T *restrict x, const T *restrict w,           \
                            const T *restrict b, double eps, T *restrict y, T *mean,       \
                            T *rstd)                                                       \
  {                                                                                        \
    T m = (T)(T##_sum(n, x) / (double)n);                                                  \
    T r = (T)(1 / sqrt(T##_square_sum(n, x, (double)m) / (double)n + eps));                \
    if (mean) *mean = m;                                                                   \
    if (rstd) *rstd = r;                                                                   \
    if (w && b) {                                                                          \
      _Pragma("omp simd") for (int64_t i = 0; i < n; i++)                                  \
        y[i] = (x[i] - m) * r * w[i] + b[i];                                               \
      return;                                                                              \
    }                                                                                      \
    for (int64_t i = 0; i < n; i++)                                                        \
      y[i] = (x[i] - m) * r * (w ? w[i] : 1) + (b ? b[i] : 0);                             \
  }                                                                                        \
  static void T##_layer_row_backward(int64_t n, const T *restrict g, const T *restrict x,  \
                                     const T *restrict w, T m, T r, T *restrict gx,        \
                                     T *restrict gw, T *restrict gb)                       \
  {                                                                                        \
    double total0 = 0, total1 = 0;                                                         \
    for (int64_t k = 0; k < n; k += BLOCK) {                                               \
      int64_t end = lm_min64(n, k + BLOCK);                                                \
      T s0 = 0, s1 = 0;                                                                    \
      _Pragma("omp simd reduction(+ : s0, s1)") for (int64_t i = k; i < end; i++)          \
      {                                                                                    \
        T gi = w ? g[i] * w[i] : g[i];                                                     \
        s0 += gi;                                                                          \
        s1 += gi * ((x[i] - m) * r);                                                       \
      }                                                                                    \
      total0 += (double)s0;                                                                \
      total1 += (double)s1;                                                                \
    }                                                                                      \
    T c0 = (T)(total0 / (double)n), c1 = (T)(total1 / (double)n);                          \
    _Pragma("omp simd") for (int64_t i = 0; i < n; i++)                                    \
    {                                                                                      \
      T gi = w ? g[i] * w[i] : g[i];                                                       \
      gx[i] = r * (gi - c0 - (x[i] - m) * r * c1);                                         \
    }                                                                                      \
    if (!gw) return;                                                                       \
    _Pragma("omp simd") for (int64_t i = 0; i < n; i++)                                    \
    {                                                                                      \
      gw[i] += g[i] * ((x[i] - m) * r);                                                    \
      gb[i] += g[i];                                                                       \
    }                                                                                      \
  }

DEFINE_SEGMENTS(float)
DEFINE_SEGMENTS(double)

/* A read-only array of the call's element type; x[i] as double, `missing` when absent. */
static double value(const lm_tensor *t, int64_t i, double missing)
{
  if (!t) return missing;
  return t->dtype == LM_F32 ? (double)((const float *)lm_data(t))[i]
                            : ((const double *)lm_data(t))[i];
}

static void put(const lm_tensor *t, int64_t i, double v)
{
  if (!t) return;
  if (t->dtype == LM_F32) ((float *)lm_data(t))[i] = (float)v;
  else ((double *)lm_data(t))[i] = v;
}

/* The segment functions on elements first .. first + n - 1 of tensors. */
static double seg_sum(const lm_tensor *x, int64_t first, int64_t n)
{
  if (x->dtype == LM_F32) return float_sum(n, (const float *)lm_data(x) + first);
  return double_sum(n, (const double *)lm_data(x) + first);
}
static double seg_square_sum(const lm_tensor *x, int64_t first, int64_t n, double shift)
{
  if (x->dtype == LM_F32)
    return float_square_sum(n, (const float *)lm_data(x) + first, shift);
  return double_square_sum(n, (const double *)lm_data(x) + first, shift);
}
static void seg_dot_sum(const lm_tensor *g, const lm_tensor *x, int64_t first, int64_t n,
                        double shift, double *s)
{
  if (x->dtype == LM_F32)
    float_dot_sum(n, (const float *)lm_data(g) + first, (const float *)lm_data(x) + first,
                  shift, s);
  else
    double_dot_sum(n, (const double *)lm_data(g) + first, (const double *)lm_data(x) + first,
                   shift, s);
}
static void seg_affine(const lm_tensor *x, int64_t first, int64_t n, double a, double b,
                       const lm_tensor *y)
{
  if (x->dtype == LM_F32)
    float_affine(n, (const float *)lm_data(x) + first, a, b, (float *)lm_data(y) + first);
  else
    double_affine(n, (const double *)lm_data(x) + first, a, b, (double *)lm_data(y) + first);
}
static void seg_combine(const lm_tensor *g, double a, const lm_tensor *x, double b, double c,
                        int64_t first, int64_t n, const lm_tensor *gx)
{
  if (x->dtype == LM_F32)
    float_combine(n, (const float *)lm_data(g) + first, a, (const float *)lm_data(x) + first,
                  b, c, (float *)lm_data(gx) + first);
  else
    double_combine(n, (const double *)lm_data(g) + first, a,
                   (const double *)lm_data(x) + first, b, c, (double *)lm_data(gx) + first);
}

/* Input k, where given: one-dimensional, of x's type, as long as x's dimension `size`. */
static lm_status check_vector(const lm_call *c, int k, int64_t size, const char *what)
{
  const lm_tensor *v = c->in[k];
  if (!v) return LM_OK;
  LM_TRY(lm_check_same_dtype(c, 0, k));
  if (v->ndim == 1 && v->shape[0] == size) return LM_OK;
  return lm_op_fail(c, LM_ERR_SHAPE, "%s has shape %s but x has %s %lld (x: %s)",
                    lm_arg_name(c, k), lm_shape_text(v->ndim, v->shape), what,
                    (long long)size, lm_describe(c->in[0]));
}

/* Mean and rstd for backward. */
static lm_status save_statistics(lm_call *c, int ndim, const int64_t *shape)
{
  lm_dtype dtype = c->in[0]->dtype == LM_F64 ? LM_F64 : LM_F32;
  LM_TRY(lm_save(c, 0, dtype, ndim, shape));
  return lm_save(c, 1, dtype, ndim, shape);
}

/* Hand the parts (gx, gw, gb) of a backward operation to the inputs x, weight, bias. */
static void take_parts(lm_call *c, lm_tensor **part, lm_tensor **gin)
{
  for (int i = 0; i < 3; i++) {
    if (c->in[i] && lm_wants(c, i)) gin[i] = part[i];
    else lm_release(part[i]);
  }
}

static bool wants_affine(const lm_call *c)
{
  return (c->in[1] && lm_wants(c, 1)) || (c->in[2] && lm_wants(c, 2));
}

/* ---- layer_norm ---- */

static lm_status layer_remake(lm_call *c, lm_tensor **out)
{
  return lm_apply(&lm_op_layer_norm, LM_IN(c->in[0], c->in[1], c->in[2]), c->param, out);
}

static lm_status layer_infer(lm_call *c)
{
  const lm_tensor *x = c->in[0];
  LM_TRY(lm_check_float(c, 0));
  if (x->ndim == 0)
    return lm_op_fail(c, LM_ERR_SHAPE, "x needs at least one dimension (x: %s)",
                      lm_describe(x));
  LM_TRY(check_vector(c, 1, lm_size(x, -1), "last dimension"));
  LM_TRY(check_vector(c, 2, lm_size(x, -1), "last dimension"));
  LM_TRY(lm_out_like(c, 0, x));
  c->remake = layer_remake;
  return save_statistics(c, x->ndim - 1, x->shape);
}

static void *data_or_null(const lm_tensor *t)
{
  return t ? lm_data(t) : NULL;
}

static lm_status layer_cpu(lm_call *c)
{
  const lm_tensor *x = c->in[0];
  int64_t n = lm_size(x, -1), rows = lm_numel(x) / n;
  const void *xd = lm_data(x), *w = data_or_null(c->in[1]), *b = data_or_null(c->in[2]);
  void *y = lm_data(c->out[0]), *mean = data_or_null(c->save[0]),
       *rstd = data_or_null(c->save[1]);
  double eps = c->param[0].f;
  bool single = x->dtype == LM_F32;
#pragma omp parallel for schedule(static) if (rows * n > PARALLEL_WORK)
  for (int64_t i = 0; i < rows; i++) {
    if (single)
      float_layer_row(n, (const float *)xd + i * n, w, b, eps, (float *)y + i * n,
                      mean ? (float *)mean + i : NULL, rstd ? (float *)rstd + i : NULL);
    else
      double_layer_row(n, (const double *)xd + i * n, w, b, eps, (double *)y + i * n,
                       mean ? (double *)mean + i : NULL, rstd ? (double *)rstd + i : NULL);
  }
  return LM_OK;
}

static lm_status layer_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  lm_tensor *part[3] = {NULL, NULL, NULL};
  LM_TRY(lm_apply(&lm_op_layer_norm_backward,
                  LM_IN(gout[0], c->in[0], c->in[1], c->save[0], c->save[1]),
                  LM_PARAMS(lm_int(wants_affine(c))), part));
  take_parts(c, part, gin);
  return LM_OK;
}

const lm_op lm_op_layer_norm = {
  .name = "layer_norm",
  .sig = "x, weight?, bias?; eps: float = 1e-5",
  .doc = "Normalise the last dimension of x [..., D] to mean 0 and (biased) variance 1, times "
         "weight [D], plus bias [D]. Source: arXiv 1607.06450.\n"
         "> lumen.tensor{{1, 2, 3}, {10, 20, 30}}:layer_norm()\n"
         "f32 [2 x 3] {-1.2247, 0, 1.2247, -1.2247, 0, 1.2247}",
  .infer = layer_infer,
  .cpu = layer_cpu,
  .grad = layer_grad,
  .save_in = 7,
};

static lm_status layer_backward_infer(lm_call *c)
{
  const lm_tensor *x = c->in[1];
  LM_TRY(lm_out_like(c, 0, x));
  if (!c->param[0].i) return LM_OK;
  LM_TRY(lm_out(c, 1, x->dtype, 1, &x->shape[x->ndim - 1]));
  return lm_out(c, 2, x->dtype, 1, &x->shape[x->ndim - 1]);
}

/* Add up rows of partial sums, in double. */
static void fold(const lm_tensor *partial, int64_t rows, int64_t row_step, int64_t first,
                 const lm_tensor *out)
{
  int64_t n = lm_numel(out);
  for (int64_t j = 0; j < n; j++) {
    double s = 0;
    for (int64_t i = 0; i < rows; i++) s += value(partial, i * row_step + first + j, 0);
    put(out, j, s);
  }
}

static lm_status layer_backward_cpu(lm_call *c)
{
  const lm_tensor *g = c->in[0], *x = c->in[1];
  int64_t n = lm_size(x, -1), rows = n > 0 ? lm_numel(x) / n : 0;
  int64_t chunks = (rows + ROW_CHUNK - 1) / ROW_CHUNK, step = 2 * n;
  bool affine = c->param[0].i != 0, single = x->dtype == LM_F32;
  lm_tensor *partial = NULL;
  if (affine)
    LM_TRY(lm_tensor_new(c->device, x->dtype, 2, (int64_t[]){chunks, step}, &partial));
  const void *gd = lm_data(g), *xd = lm_data(x), *w = data_or_null(c->in[2]);
  const void *mean = lm_data(c->in[3]), *rstd = lm_data(c->in[4]);
  void *gx = lm_data(c->out[0]), *part = data_or_null(partial);
  int64_t size = lm_dtype_size(x->dtype);
#pragma omp parallel for schedule(static) if (rows * n > PARALLEL_WORK)
  for (int64_t k = 0; k < chunks; k++) {
    int64_t end = lm_min64(rows, (k + 1) * ROW_CHUNK);
    void *gw = part ? (char *)part + k * step * size : NULL;
    void *gb = part ? (char *)gw + n * size : NULL;
    if (part) memset(gw, 0, (size_t)(step * size));
    for (int64_t i = k * ROW_CHUNK; i < end; i++) {
      if (single)
        float_layer_row_backward(n, (const float *)gd + i * n, (const float *)xd + i * n, w,
                                 ((const float *)mean)[i], ((const float *)rstd)[i],
                                 (float *)gx + i * n, gw, gb);
      else
        double_layer_row_backward(n, (const double *)gd + i * n, (const double *)xd + i * n,
                                  w, ((const double *)mean)[i], ((const double *)rstd)[i],
                                  (double *)gx + i * n, gw, gb);
    }
  }
  if (affine) {
    fold(partial, chunks, step, 0, c->out[1]);
    fold(partial, chunks, step, n, c->out[2]);
  }
  lm_release(partial);
  return LM_OK;
}

const lm_op lm_op_layer_norm_backward = {
  .name = "layer_norm_backward",
  .sig = "g, x, weight?, mean, rstd; affine: bool",
  .doc = "Gradients of layer_norm for x and, when affine, for weight and bias.",
  .infer = layer_backward_infer,
  .cpu = layer_backward_cpu,
  .flags = LM_OP_INTERNAL,
};

/* ---- batch_norm: statistics per channel over samples and places ---- */

/* x [N, C, ...] as planes of `area` contiguous elements. */
typedef struct planes {
  int64_t n, c, area;
} planes;

static planes planes_of(const lm_tensor *x)
{
  planes p = {x->shape[0], x->shape[1], 1};
  for (int d = 2; d < x->ndim; d++) p.area *= x->shape[d];
  return p;
}

static lm_status check_planes(const lm_call *c)
{
  LM_TRY(lm_check_float(c, 0));
  if (c->in[0]->ndim < 2)
    return lm_op_fail(c, LM_ERR_SHAPE, "x needs the dimensions [N, C, ...] (x: %s)",
                      lm_describe(c->in[0]));
  LM_TRY(check_vector(c, 1, c->in[0]->shape[1], "channels:"));
  return check_vector(c, 2, c->in[0]->shape[1], "channels:");
}

static lm_status batch_infer(lm_call *c)
{
  const lm_tensor *x = c->in[0];
  LM_TRY(check_planes(c));
  planes p = planes_of(x);
  for (int k = 3; k <= 4; k++) {
    LM_TRY(lm_check_shape(c, k, 1, &p.c));
    LM_TRY(lm_check_dtype(c, k, x->dtype == LM_F64 ? LM_F64 : LM_F32));
    if (!lm_is_contiguous(c->in[k]))
      return lm_op_fail(c, LM_ERR_ARG, "%s must be contiguous: it is updated in place",
                        lm_arg_name(c, k));
  }
  if (c->param[0].i && p.n * p.area == 1)
    return lm_op_fail(c, LM_ERR_SHAPE,
                      "training needs more than one value per channel (x: %s)",
                      lm_describe(x));
  if (!c->param[0].i && !lm_will_want(c, 1) && !lm_will_want(c, 2)) c->save_in &= ~1u;
  LM_TRY(lm_out_like(c, 0, x));
  return save_statistics(c, 1, &p.c);
}

static void channel_statistics(const lm_tensor *x, planes p, int64_t k, double *mean,
                               double *var)
{
  double sum = 0, squares = 0, count = (double)(p.n * p.area);
  for (int64_t i = 0; i < p.n; i++) sum += seg_sum(x, (i * p.c + k) * p.area, p.area);
  *mean = sum / count;
  for (int64_t i = 0; i < p.n; i++)
    squares += seg_square_sum(x, (i * p.c + k) * p.area, p.area, *mean);
  *var = squares / count;
}

static void update_running(const lm_call *c, int64_t k, double mean, double var, double count)
{
  double keep = 1 - c->param[1].f, take = c->param[1].f;
  put(c->in[3], k, keep * value(c->in[3], k, 0) + take * mean);
  put(c->in[4], k, keep * value(c->in[4], k, 0) + take * var * count / (count - 1));
}

static lm_status batch_cpu(lm_call *c)
{
  const lm_tensor *x = c->in[0];
  planes p = planes_of(x);
  bool training = c->param[0].i != 0;
  double eps = c->param[2].f;
#pragma omp parallel for schedule(static) if (lm_numel(x) > PARALLEL_WORK)
  for (int64_t k = 0; k < p.c; k++) {
    double mean = value(c->in[3], k, 0), var = value(c->in[4], k, 0);
    if (training) {
      channel_statistics(x, p, k, &mean, &var);
      update_running(c, k, mean, var, (double)(p.n * p.area));
    }
    double rstd = 1 / sqrt(var + eps);
    put(c->save[0], k, mean);
    put(c->save[1], k, rstd);
    double a = value(c->in[1], k, 1) * rstd, b = value(c->in[2], k, 0) - mean * a;
    for (int64_t i = 0; i < p.n; i++)
      seg_affine(x, (i * p.c + k) * p.area, p.area, a, b, c->out[0]);
  }
  if (training) {
    lm_tensor_touch(c->in[3], "batch_norm");
    lm_tensor_touch(c->in[4], "batch_norm");
  }
  return LM_OK;
}

static lm_status batch_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  lm_tensor *part[3] = {NULL, NULL, NULL}, *x = c->in[0]->storage ? c->in[0] : NULL;
  LM_TRY(lm_apply(&lm_op_batch_norm_backward,
                  LM_IN(gout[0], x, c->in[1], c->save[0], c->save[1]),
                  LM_PARAMS(c->param[0], lm_int(wants_affine(c))), part));
  take_parts(c, part, gin);
  return LM_OK;
}

const lm_op lm_op_batch_norm = {
  .name = "batch_norm",
  .sig = "x, weight?, bias?, running_mean, running_var; training: bool, "
         "momentum: float = 0.1, eps: float = 1e-5",
  .doc = "Normalise each channel of x [N, C, ...], times weight [C], plus bias [C]. training: "
         "with the batch's mean and biased variance, and running = (1 - momentum) running + "
         "momentum * (mean, unbiased variance) in place; otherwise with the running "
         "statistics [C]. Those get no gradient. Source: arXiv 1502.03167.\n"
         "> x, mean, var = lumen.randn(4, 3, 8, 8), lumen.zeros(3), lumen.ones(3)\n"
         "> y = lumen.batch_norm(x, nil, nil, mean, var, {training = true})\n"
         "> y:mean({1, 3, 4}):abs():lt(1e-5)\n"
         "u8 [3] {1, 1, 1}",
  .infer = batch_infer,
  .cpu = batch_cpu,
  .grad = batch_grad,
  .save_in = 3,
};

static lm_status plane_backward_infer(lm_call *c, bool affine)
{
  const lm_tensor *g = c->in[0];
  LM_TRY(lm_out_like(c, 0, g));
  if (!affine) return LM_OK;
  LM_TRY(lm_out(c, 1, g->dtype, 1, &g->shape[1]));
  return lm_out(c, 2, g->dtype, 1, &g->shape[1]);
}

static lm_status batch_backward_infer(lm_call *c)
{
  return plane_backward_infer(c, c->param[1].i != 0);
}

/* With xhat = (x - mean) rstd and sums over a channel's M values:
 *   gx = w rstd (g - sum(g) / M - xhat sum(g xhat) / M) when training, else w rstd g. */
static lm_status batch_backward_cpu(lm_call *c)
{
  const lm_tensor *g = c->in[0], *x = c->in[1];
  planes p = planes_of(g);
  bool training = c->param[0].i != 0, affine = c->param[1].i != 0;
  double count = (double)(p.n * p.area);
#pragma omp parallel for schedule(static) if (lm_numel(g) > PARALLEL_WORK)
  for (int64_t k = 0; k < p.c; k++) {
    double mean = value(c->in[3], k, 0), rstd = value(c->in[4], k, 0), s[2] = {0, 0};
    if (training || affine)
      for (int64_t i = 0; i < p.n; i++)
        seg_dot_sum(g, x, (i * p.c + k) * p.area, p.area, mean, s);
    if (affine) {
      put(c->out[1], k, s[1] * rstd);
      put(c->out[2], k, s[0]);
    }
    double a = value(c->in[2], k, 1) * rstd;
    double b = training ? -a * rstd * rstd * s[1] / count : 0;
    double shift = training ? -a * s[0] / count - b * mean : 0;
    for (int64_t i = 0; i < p.n; i++) {
      int64_t first = (i * p.c + k) * p.area;
      if (training) seg_combine(g, a, x, b, shift, first, p.area, c->out[0]);
      else seg_affine(g, first, p.area, a, 0, c->out[0]);
    }
  }
  return LM_OK;
}

const lm_op lm_op_batch_norm_backward = {
  .name = "batch_norm_backward",
  .sig = "g, x?, weight?, mean, rstd; training: bool, affine: bool",
  .doc = "Gradients of batch_norm for x and, when affine, for weight and bias; x is needed "
         "for the latter and when training.",
  .infer = batch_backward_infer,
  .cpu = batch_backward_cpu,
  .flags = LM_OP_INTERNAL,
};

/* ---- group_norm: statistics per sample and group of channels ---- */

static lm_status group_infer(lm_call *c)
{
  const lm_tensor *x = c->in[0];
  LM_TRY(check_planes(c));
  int64_t groups = c->param[0].i, shape[2] = {x->shape[0], groups};
  if (groups < 1 || x->shape[1] % groups != 0)
    return lm_op_fail(c, LM_ERR_ARG, "groups is %lld, which does not divide the channels %lld",
                      (long long)groups, (long long)x->shape[1]);
  LM_TRY(lm_out_like(c, 0, x));
  return save_statistics(c, 2, shape);
}

static lm_status group_cpu(lm_call *c)
{
  const lm_tensor *x = c->in[0];
  planes p = planes_of(x);
  int64_t groups = c->param[0].i, width = p.c / groups, n = width * p.area;
  double eps = c->param[1].f;
#pragma omp parallel for schedule(static) if (lm_numel(x) > PARALLEL_WORK)
  for (int64_t i = 0; i < p.n * groups; i++) {
    double mean = seg_sum(x, i * n, n) / (double)n;
    double rstd = 1 / sqrt(seg_square_sum(x, i * n, n, mean) / (double)n + eps);
    put(c->save[0], i, mean);
    put(c->save[1], i, rstd);
    for (int64_t j = 0; j < width; j++) {
      int64_t k = i % groups * width + j;
      double a = value(c->in[1], k, 1) * rstd, b = value(c->in[2], k, 0) - mean * a;
      seg_affine(x, i * n + j * p.area, p.area, a, b, c->out[0]);
    }
  }
  return LM_OK;
}

static lm_status group_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  lm_tensor *part[3] = {NULL, NULL, NULL};
  LM_TRY(lm_apply(&lm_op_group_norm_backward,
                  LM_IN(gout[0], c->in[0], c->in[1], c->save[0], c->save[1]),
                  LM_PARAMS(c->param[0], lm_int(wants_affine(c))), part));
  take_parts(c, part, gin);
  return LM_OK;
}

const lm_op lm_op_group_norm = {
  .name = "group_norm",
  .sig = "x, weight?, bias?; groups: int, eps: float = 1e-5",
  .doc = "Normalise each of `groups` groups of channels of each sample of x [N, C, ...], "
         "times weight [C], plus bias [C]. Source: arXiv 1803.08494.\n"
         "> lumen.tensor{{1, 3, 10, 30}}:group_norm({groups = 2})\n"
         "f32 [1 x 4] {-0.99999, 0.99999, -1, 1}",
  .infer = group_infer,
  .cpu = group_cpu,
  .grad = group_grad,
  .save_in = 3,
};

static lm_status group_backward_infer(lm_call *c)
{
  return plane_backward_infer(c, c->param[1].i != 0);
}

/* One sample and group: its gx; `sums` gets (sum g, sum g (x - mean)) of each channel. */
static void group_backward_one(const lm_call *c, planes p, int64_t i, double *sums)
{
  const lm_tensor *g = c->in[0], *x = c->in[1];
  int64_t groups = c->param[0].i, width = p.c / groups, n = width * p.area;
  double mean = value(c->in[3], i, 0), rstd = value(c->in[4], i, 0), s0 = 0, s1 = 0;
  for (int64_t j = 0; j < width; j++) {
    double *s = sums + 2 * j, w = value(c->in[2], i % groups * width + j, 1);
    s[0] = s[1] = 0;
    seg_dot_sum(g, x, i * n + j * p.area, p.area, mean, s);
    s0 += w * s[0];
    s1 += w * s[1];
  }
  double b = -rstd * rstd * rstd * s1 / (double)n;
  double shift = -rstd * s0 / (double)n - b * mean;
  for (int64_t j = 0; j < width; j++) {
    double w = value(c->in[2], i % groups * width + j, 1);
    seg_combine(g, w * rstd, x, b, shift, i * n + j * p.area, p.area, c->out[0]);
  }
}

static lm_status group_backward_cpu(lm_call *c)
{
  const lm_tensor *x = c->in[1];
  planes p = planes_of(x);
  int64_t groups = c->param[0].i, width = p.c / groups;
  lm_tensor *scratch;
  LM_TRY(lm_tensor_new(c->device, LM_F64, 3, (int64_t[]){p.n, p.c, 2}, &scratch));
  double *sums = lm_data(scratch);
#pragma omp parallel for schedule(static) if (lm_numel(x) > PARALLEL_WORK)
  for (int64_t i = 0; i < p.n * groups; i++)
    group_backward_one(c, p, i, sums + i * width * 2);
  for (int64_t k = 0; c->param[1].i && k < p.c; k++) {
    double gw = 0, gb = 0;
    for (int64_t i = 0; i < p.n; i++) {
      const double *s = sums + (i * p.c + k) * 2;
      gb += s[0];
      gw += s[1] * value(c->in[4], i * groups + k / width, 0);
    }
    put(c->out[1], k, gw);
    put(c->out[2], k, gb);
  }
  lm_release(scratch);
  return LM_OK;
}

const lm_op lm_op_group_norm_backward = {
  .name = "group_norm_backward",
  .sig = "g, x, weight?, mean, rstd; groups: int, affine: bool",
  .doc = "Gradients of group_norm for x and, when affine, for weight and bias.",
  .infer = group_backward_infer,
  .cpu = group_backward_cpu,
  .flags = LM_OP_INTERNAL,
};
