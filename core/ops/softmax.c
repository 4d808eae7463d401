/* softmax.c: softmax, log_softmax, logsumexp, and the losses built on them.
 *
 * A tensor is seen as [outer, n, inner] around the dimension in question. Where inner is 1 a
 * line is a contiguous row and is handled at once; else TILE neighbouring lines go together,
 * so that memory is read in order either way. Losses add up in double, over pieces whose
 * partition does not depend on the number of threads; nothing of the logits' size is saved. */
#include <math.h>

#include "cpu/cpu.h"
#include "cpu/vmath.h"
#include "graph/op.h"

#define TILE 64
#define PIECE 4096
#define PARALLEL_WORK 65536 /* elements below which threads cost more than they bring */

extern const lm_op lm_op_softmax_backward, lm_op_cross_entropy_backward,
    lm_op_bce_with_logits_backward, lm_op_sub, lm_op_mul, lm_op_exp, lm_op_reshape;

typedef enum kind { SOFTMAX, LOG_SOFTMAX, LOGSUMEXP } kind;

typedef struct lines {
  int64_t outer, n, inner;
} lines;

static lines lines_of(const lm_tensor *x, int dim)
{
  lines l = {1, x->shape[dim], 1};
  for (int d = 0; d < dim; d++) l.outer *= x->shape[d];
  for (int d = dim + 1; d < x->ndim; d++) l.inner *= x->shape[d];
  return l;
}

static inline float float_exp(float x) { return lm_expf(x); }
static inline double double_exp(double x) { return exp(x); }
static inline float float_log(float x) { return lm_logf(x); }
static inline double double_log(double x) { return log(x); }
static inline float float_log1p(float x) { return lm_log1pf(x); }
static inline double double_log1p(double x) { return log1p(x); }

/* row: one contiguous line. tile: w <= TILE lines, element i of line j at x[i * step + j]. An infinite maximum is not subtracted where only
 * the sum is wanted, so that a line of -inf gives -inf. y of LOGSUMEXP has one element a line.
 * *_backward: y is the forward result; SOFTMAX: gx = y (g - sum(g y)); LOG_SOFTMAX:
 * gx = g - exp(y) sum(g). */
#define DEFINE_LINES(T)                                                                    \
  static T T##_finite(T x, kind k) { return k == LOGSUMEXP && isinf(x) ? 0 : x; }          \
  static void T##_row(kind k, int64_t n, const T *x, T *y)                                 \
  {                                                                                        \
    T top = -(T)INFINITY, sum = 0;                                                         \
    _Pragma("omp simd reduction(max : top)") for (int64_t i = 0; i < n; i++)               \
      top = x[i] > top ? x[i] : top;                                                       \
    top = T##_finite(top, k);                                                              \
    if (k != SOFTMAX) {                                                                    \
      _Pragma("omp simd reduction(+ : sum)") for (int64_t i = 0; i < n; i++)               \
        sum += T##_exp(x[i] - top);                                                        \
      T rest = (T)log((double)sum);                                                        \
      if (k == LOGSUMEXP) {                                                                \
        *y = top + rest;                                                                   \
        return;                                                                            \
      }                                                                                    \
      _Pragma("omp simd") for (int64_t i = 0; i < n; i++) y[i] = x[i] - top - rest;        \
      return;                                                                              \
    }                                                                                      \
    _Pragma("omp simd reduction(+ : sum)") for (int64_t i = 0; i < n; i++)                 \
    {                                                                                      \
      y[i] = T##_exp(x[i] - top);                                                          \
      sum += y[i];                                                                         \
    }                                                                                      \
    T inverse = 1 / sum;                                                                   \
    _Pragma("omp simd") for (int64_t i = 0; i < n; i++) y[i] *= inverse;                   \
  }                                                                                        \
  static void T##_tile(kind k, int64_t n, int64_t step, int64_t w, const T *x, T *y)       \
  {                                                                                        \
    T top[TILE], sum[TILE];                                                                \
    for (int64_t j = 0; j < w; j++) top[j] = -(T)INFINITY, sum[j] = 0;                     \
    for (int64_t i = 0; i < n; i++)                                                        \
      _Pragma("omp simd") for (int64_t j = 0; j < w; j++)                                  \
        top[j] = x[i * step + j] > top[j] ? x[i * step + j] : top[j];                      \
    for (int64_t j = 0; j < w; j++) top[j] = T##_finite(top[j], k);                        \
    for (int64_t i = 0; i < n; i++)                                                        \
      _Pragma("omp simd") for (int64_t j = 0; j < w; j++)                                  \
      {                                                                                    \
        T e = T##_exp(x[i * step + j] - top[j]);                                           \
        if (k == SOFTMAX) y[i * step + j] = e;                                             \
        sum[j] += e;                                                                       \
      }                                                                                    \
    if (k == LOGSUMEXP) {                                                                  \
      for (int64_t j = 0; j < w; j++) y[j] = top[j] + T##_log(sum[j]);                     \
      return;                                                                              \
    }                                                                                      \
    for (int64_t j = 0; j < w; j++) sum[j] = k == SOFTMAX ? 1 / sum[j] : T##_log(sum[j]);  \
    for (int64_t i = 0; i < n; i++)                                                        \
      _Pragma("omp simd") for (int64_t j = 0; j < w; j++)                                  \
        y[i * step + j] = k == SOFTMAX ? y[i * step + j] * sum[j]                          \
                                       : x[i * step + j] - top[j] - sum[j];                \
  }                                                                                        \
  static void T##_row_backward(kind k, int64_t n, const T *g, const T *y, T *gx)           \
  {                                                                                        \
    T sum = 0;                                                                             \
    if (k == SOFTMAX) {                                                                    \
      _Pragma("omp simd reduction(+ : sum)") for (int64_t i = 0; i < n; i++)               \
        sum += g[i] * y[i];                                                                \
      _Pragma("omp simd") for (int64_t i = 0; i < n; i++) gx[i] = y[i] * (g[i] - sum);     \
    } else {                                                                               \
      _Pragma("omp simd reduction(+ : sum)") for (int64_t i = 0; i < n; i++) sum += g[i];  \
      _Pragma("omp simd") for (int64_t i = 0; i < n; i++)                                  \
        gx[i] = g[i] - T##_exp(y[i]) * sum;                                                \
    }                                                                                      \
  }                                                                                        \
  static void T##_tile_backward(kind k, int64_t n, int64_t step, int64_t w, const T *g,    \
                                const T *y, T *gx)                                         \
  {                                                                                        \
    T sum[TILE] = {0};                                                                     \
    for (int64_t i = 0; i < n; i++)                                                        \
      _Pragma("omp simd") for (int64_t j = 0; j < w; j++)                                  \
        sum[j] += k == SOFTMAX ? g[i * step + j] * y[i * step + j] : g[i * step + j];      \
    for (int64_t i = 0; i < n; i++)                                                        \
      _Pragma("omp simd") for (int64_t j = 0; j < w; j++)                                  \
      {                                                                                    \
        T yi = y[i * step + j], gi = g[i * step + j];                                      \
        gx[i * step + j] = k == SOFTMAX ? yi * (gi - sum[j]) : gi - T##_exp(yi) * sum[j];  \
      }                                                                                    \
  }

DEFINE_LINES(float)
DEFINE_LINES(double)

/* All lines; y is like x, or [outer, inner] for LOGSUMEXP. With g: backward, x being the
 * forward result. */
static void run_lines(kind k, lines l, lm_dtype dtype, const char *g, const char *x, char *y)
{
  int64_t size = lm_dtype_size(dtype), width = l.inner == 1 ? 1 : TILE;
  int64_t tiles = (l.inner + width - 1) / width;
#pragma omp parallel for schedule(static) if (l.outer * l.n * l.inner > PARALLEL_WORK)
  for (int64_t t = 0; t < l.outer * tiles; t++) {
    int64_t j = t % tiles * width, w = lm_min64(width, l.inner - j);
    int64_t in = (t / tiles * l.n * l.inner + j) * size;
    int64_t out = k == LOGSUMEXP ? (t / tiles * l.inner + j) * size : in;
    const void *xt = x + in, *gt = g ? g + in : NULL;
    void *yt = y + out;
    if (g && l.inner == 1) {
      if (dtype == LM_F32) float_row_backward(k, l.n, gt, xt, yt);
      else double_row_backward(k, l.n, gt, xt, yt);
    } else if (g) {
      if (dtype == LM_F32) float_tile_backward(k, l.n, l.inner, w, gt, xt, yt);
      else double_tile_backward(k, l.n, l.inner, w, gt, xt, yt);
    } else if (l.inner == 1) {
      if (dtype == LM_F32) float_row(k, l.n, xt, yt);
      else double_row(k, l.n, xt, yt);
    } else {
      if (dtype == LM_F32) float_tile(k, l.n, l.inner, w, xt, yt);
      else double_tile(k, l.n, l.inner, w, xt, yt);
    }
  }
}

/* ---- softmax, log_softmax ---- */

static lm_status check_dim(const lm_call *c, int *dim)
{
  LM_TRY(lm_check_float(c, 0));
  return lm_dim(c, c->param[0].i, c->in[0]->ndim, dim);
}

static lm_status softmax_infer(lm_call *c)
{
  int dim;
  LM_TRY(check_dim(c, &dim));
  return lm_out_like(c, 0, c->in[0]);
}

static lm_status forward(lm_call *c, kind k)
{
  const lm_tensor *x = c->in[0];
  int dim;
  LM_TRY(check_dim(c, &dim));
  run_lines(k, lines_of(x, dim), x->dtype, NULL, lm_data(x), lm_data(c->out[0]));
  return LM_OK;
}

static lm_status softmax_cpu(lm_call *c) { return forward(c, SOFTMAX); }
static lm_status log_softmax_cpu(lm_call *c) { return forward(c, LOG_SOFTMAX); }

static lm_status backward(lm_call *c, lm_tensor *g, bool log, lm_tensor **gin)
{
  return lm_apply(&lm_op_softmax_backward, LM_IN(g, c->out[0]),
                  LM_PARAMS(lm_int(c->param[0].i), lm_int(log)), gin);
}

static lm_status softmax_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  return backward(c, gout[0], false, gin);
}
static lm_status log_softmax_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  return backward(c, gout[0], true, gin);
}

const lm_op lm_op_softmax = {
  .name = "softmax",
  .sig = "x; dim: dim = -1",
  .doc = "exp(x) / sum(exp(x)) along dim, with the maximum subtracted first. Same shape as x.\n"
         "> lumen.tensor{{0, 0}, {0, math.log(3)}}:softmax()\n"
         "f32 [2 x 2] {0.5, 0.5, 0.25, 0.75}",
  .infer = softmax_infer,
  .cpu = softmax_cpu,
  .grad = softmax_grad,
  .save_out = 1,
};

const lm_op lm_op_log_softmax = {
  .name = "log_softmax",
  .sig = "x; dim: dim = -1",
  .doc = "log(softmax(x)) along dim without the loss of precision. Same shape as x.\n"
         "> lumen.tensor{0, 0}:log_softmax()\n"
         "f32 [2] {-0.69315, -0.69315}",
  .infer = softmax_infer,
  .cpu = log_softmax_cpu,
  .grad = log_softmax_grad,
  .save_out = 1,
};

static lm_status softmax_backward_infer(lm_call *c)
{
  return lm_out_like(c, 0, c->in[1]);
}

static lm_status softmax_backward_cpu(lm_call *c)
{
  const lm_tensor *g = c->in[0], *y = c->in[1];
  int dim;
  LM_TRY(check_dim(c, &dim));
  run_lines(c->param[1].i ? LOG_SOFTMAX : SOFTMAX, lines_of(y, dim), y->dtype, lm_data(g),
            lm_data(y), lm_data(c->out[0]));
  return LM_OK;
}

const lm_op lm_op_softmax_backward = {
  .name = "softmax_backward",
  .sig = "g, y; dim: dim, log: bool",
  .doc = "Gradient of softmax or (log) log_softmax from the result y.",
  .infer = softmax_backward_infer,
  .cpu = softmax_backward_cpu,
  .flags = LM_OP_INTERNAL,
};

/* ---- logsumexp ---- */

static lm_status logsumexp_infer(lm_call *c)
{
  const lm_tensor *x = c->in[0];
  int dim, n = 0;
  LM_TRY(check_dim(c, &dim));
  int64_t shape[LM_MAX_DIMS];
  for (int d = 0; d < x->ndim; d++) {
    if (d != dim) shape[n++] = x->shape[d];
    else if (c->param[1].i) shape[n++] = 1;
  }
  return lm_out(c, 0, x->dtype, n, shape);
}

static lm_status logsumexp_cpu(lm_call *c) { return forward(c, LOGSUMEXP); }

/* d/dx log(sum(exp(x))) = exp(x - y) */
static lm_status logsumexp_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  lm_tensor *x = c->in[0], *y = NULL, *g = NULL, *d = NULL, *p = NULL;
  int64_t shape[LM_MAX_DIMS];
  int dim;
  lm_status status;
  LM_TRY(check_dim(c, &dim));
  memcpy(shape, x->shape, sizeof shape);
  shape[dim] = 1;
  lm_value to[1] = {lm_ints(x->ndim, shape)};
  LM_TRY_GOTO(status, done, lm_apply(&lm_op_reshape, LM_IN(c->out[0]), to, &y));
  LM_TRY_GOTO(status, done, lm_apply(&lm_op_reshape, LM_IN(gout[0]), to, &g));
  LM_TRY_GOTO(status, done, lm_apply(&lm_op_sub, LM_IN(x, y), NULL, &d));
  LM_TRY_GOTO(status, done, lm_apply(&lm_op_exp, LM_IN(d), NULL, &p));
  status = lm_apply(&lm_op_mul, LM_IN(p, g), NULL, gin);
done:
  lm_release(y);
  lm_release(g);
  lm_release(d);
  lm_release(p);
  return status;
}

const lm_op lm_op_logsumexp = {
  .name = "logsumexp",
  .sig = "x; dim: dim = -1, keepdim: bool = false",
  .doc = "log(sum(exp(x))) along dim, which is dropped unless keepdim, with the maximum taken "
         "out first; -inf for a line of -inf.\n"
         "> lumen.tensor{{0, 0}, {1000, 1000}}:logsumexp()\n"
         "f32 [2] {0.69315, 1000.7}",
  .infer = logsumexp_infer,
  .cpu = logsumexp_cpu,
  .grad = logsumexp_grad,
  .save_in = 1,
  .save_out = 1,
};

/* ---- cross_entropy ---- */

static double value(const lm_tensor *t, int64_t i, double missing)
{
  if (!t) return missing;
  return t->dtype == LM_F32 ? (double)((const float *)lm_data(t))[i]
                            : ((const double *)lm_data(t))[i];
}

static void put(const lm_tensor *t, int64_t i, double v)
{
  if (t->dtype == LM_F32) ((float *)lm_data(t))[i] = (float)v;
  else ((double *)lm_data(t))[i] = v;
}

static lm_status cross_entropy_infer(lm_call *c)
{
  const lm_tensor *x = c->in[0], *t = c->in[1], *w = c->in[2];
  LM_TRY(lm_check_float(c, 0));
  LM_TRY(lm_check_dtype(c, 1, LM_I64));
  bool fits = x->ndim >= 2 && t->ndim == x->ndim - 1 && t->shape[0] == x->shape[0];
  for (int d = 1; fits && d < t->ndim; d++) fits = t->shape[d] == x->shape[d + 1];
  if (!fits)
    return lm_op_fail(c, LM_ERR_SHAPE,
                      "logits [N, C, ...] and target [N, ...] do not fit (logits: %s, target: "
                      "%s)", lm_describe(x), lm_describe(t));
  if (w) {
    LM_TRY(lm_check_same_dtype(c, 0, 2));
    LM_TRY(lm_check_shape(c, 2, 1, &x->shape[1]));
  }
  double smoothing = c->param[1].f;
  if (!(smoothing >= 0 && smoothing <= 1))
    return lm_op_fail(c, LM_ERR_ARG, "label_smoothing is %g, not within 0 to 1", smoothing);
  LM_TRY(lm_out(c, 0, x->dtype, 0, NULL));
  LM_TRY(lm_save(c, 0, x->dtype == LM_F64 ? LM_F64 : LM_F32, t->ndim, t->shape));
  return lm_save(c, 1, LM_F64, 0, NULL);
}

static lm_status check_targets(const lm_call *c, int64_t classes)
{
  const int64_t *t = lm_data(c->in[1]);
  int64_t n = lm_numel(c->in[1]);
  for (int64_t i = 0; i < n; i++) {
    if ((t[i] >= 0 && t[i] < classes) || t[i] == c->param[0].i) continue;
    return lm_op_fail(c, LM_ERR_INDEX,
                      "target %lld (element %lld) is not a class from 0 to %lld and not "
                      "ignore_index %lld", (long long)t[i], (long long)i,
                      (long long)classes - 1, (long long)c->param[0].i);
  }
  return LM_OK;
}

/* The loss of places first .. end - 1, not yet divided, into s[0]; their weights into s[1]. */
static void cross_entropy_piece(const lm_call *c, lines l, const lm_tensor *lse, int64_t first,
                                int64_t end, double *s)
{
  const lm_tensor *x = c->in[0], *w = c->in[2];
  const int64_t *target = lm_data(c->in[1]);
  double smooth = c->param[1].f;
  s[0] = s[1] = 0;
  for (int64_t i = first; i < end; i++) {
    int64_t t = target[i], base = i / l.inner * l.n * l.inner + i % l.inner;
    if (t == c->param[0].i) continue;
    double sum = value(lse, i, 0), wt = value(w, t, 1), rest = 0;
    for (int64_t k = 0; smooth > 0 && k < l.n; k++)
      rest += value(w, k, 1) * (sum - value(x, base + k * l.inner, 0));
    s[0] += (1 - smooth) * wt * (sum - value(x, base + t * l.inner, 0)) +
            smooth / (double)l.n * rest;
    s[1] += wt;
  }
}

static lm_status cross_entropy_cpu(lm_call *c)
{
  const lm_tensor *x = c->in[0];
  lines l = lines_of(x, 1);
  int64_t places = l.outer * l.inner, pieces = (places + PIECE - 1) / PIECE;
  LM_TRY(check_targets(c, l.n));
  lm_tensor *lse = lm_retain(c->save[0]), *scratch = NULL;
  lm_status status = LM_OK;
  if (!lse) LM_TRY(lm_tensor_new(c->device, x->dtype, 1, &places, &lse));
  LM_TRY_GOTO(status, done,
              lm_tensor_new(c->device, LM_F64, 2, (int64_t[]){pieces, 2}, &scratch));
  run_lines(LOGSUMEXP, l, x->dtype, NULL, lm_data(x), lm_data(lse));
  double *part = lm_data(scratch), loss = 0, weight = 0;
#pragma omp parallel for schedule(static) if (places > PARALLEL_WORK)
  for (int64_t k = 0; k < pieces; k++)
    cross_entropy_piece(c, l, lse, k * PIECE, lm_min64(places, (k + 1) * PIECE), part + 2 * k);
  for (int64_t k = 0; k < pieces; k++) loss += part[2 * k], weight += part[2 * k + 1];
  put(c->out[0], 0, loss / weight);
  if (c->save[1]) put(c->save[1], 0, weight);
done:
  lm_release(lse);
  lm_release(scratch);
  return status;
}

static lm_status cross_entropy_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  if (!lm_wants(c, 0)) return LM_OK;
  return lm_apply(&lm_op_cross_entropy_backward,
                  LM_IN(gout[0], c->in[0], c->in[1], c->in[2], c->save[0], c->save[1]),
                  c->param, gin);
}

const lm_op lm_op_cross_entropy = {
  .name = "cross_entropy",
  .sig = "logits, target, weight?; ignore_index: int = -100, label_smoothing: float = 0",
  .doc = "Mean of -weight[t] log softmax(logits)[t] over all targets t that are not "
         "ignore_index, divided by the sum of their weights; logits [N, C, ...], target i64 "
         "[N, ...], weight [C]. label_smoothing mixes in the mean over all classes "
         "(arXiv 1512.00567, section 7). weight gets no gradient. NaN when every target is "
         "ignored.\n"
        "> logits, target = lumen.zeros(2, 4), lumen.tensor({0, 3}, {dtype = \"i64\"})\n"
        "> logits:cross_entropy(target):item()\n"
        "1.3863",
  .infer = cross_entropy_infer,
  .cpu = cross_entropy_cpu,
  .grad = cross_entropy_grad,
  .save_in = 7,
};

static lm_status cross_entropy_backward_infer(lm_call *c)
{
  return lm_out_like(c, 0, c->in[1]);
}

/* Place i's gradient is f * (p_k * total - share_k) for class k, where for a target t
 *   share_k = (1 - s) w_t [k = t] + s / C w_k and total = sum of the shares. */
typedef struct place {
  double total, target_share, other;
  int64_t target;
} place;

static place place_of(const lm_call *c, int64_t i, double weight_sum, int64_t classes)
{
  int64_t t = ((const int64_t *)lm_data(c->in[2]))[i];
  double s = c->param[1].f;
  if (t == c->param[0].i) return (place){0, 0, 0, 0};
  place p = {0, (1 - s) * value(c->in[3], t, 1), s / (double)classes, t};
  p.total = p.target_share + p.other * weight_sum;
  return p;
}

#define DEFINE_GRADIENT(T)                                                                 \
  /* y[i * step] = f * (exp(x[i * step] - lse) * total - other * w[i]), i < n */           \
  static void T##_class_gradient(int64_t n, const T *x, T lse, double f, double total,     \
                                 double other, const T *w, T *y)                           \
  {                                                                                        \
    T a = (T)(f * total), b = (T)(f * other);                                              \
    _Pragma("omp simd") for (int64_t i = 0; i < n; i++)                                    \
      y[i] = T##_exp(x[i] - lse) * a - b * (w ? w[i] : 1);                                 \
  }
DEFINE_GRADIENT(float)
DEFINE_GRADIENT(double)

/* The classes of place i in a row (inner = 1). */
static void gradient_row(const lm_call *c, int64_t n, int64_t i, place p, double f)
{
  const lm_tensor *x = c->in[1], *w = c->in[3], *lse = c->in[4], *y = c->out[0];
  if (x->dtype == LM_F32)
    float_class_gradient(n, (const float *)lm_data(x) + i * n, (float)value(lse, i, 0), f,
                         p.total, p.other, w ? lm_data(w) : NULL, (float *)lm_data(y) + i * n);
  else
    double_class_gradient(n, (const double *)lm_data(x) + i * n, value(lse, i, 0), f, p.total,
                          p.other, w ? lm_data(w) : NULL, (double *)lm_data(y) + i * n);
  put(y, i * n + p.target, value(y, i * n + p.target, 0) - f * p.target_share);
}

/* The same with classes `inner` apart. */
static void gradient_strided(const lm_call *c, lines l, int64_t i, place p, double f)
{
  const lm_tensor *x = c->in[1], *y = c->out[0];
  int64_t base = i / l.inner * l.n * l.inner + i % l.inner;
  double lse = value(c->in[4], i, 0);
  for (int64_t k = 0; k < l.n; k++) {
    double d = value(x, base + k * l.inner, 0) - lse;
    double e = x->dtype == LM_F32 ? (double)lm_expf((float)d) : exp(d);
    double share = p.other * value(c->in[3], k, 1) + (k == p.target ? p.target_share : 0);
    put(y, base + k * l.inner, f * (e * p.total - share));
  }
}

static lm_status cross_entropy_backward_cpu(lm_call *c)
{
  lines l = lines_of(c->in[1], 1);
  double f = value(c->in[0], 0, 0) / value(c->in[5], 0, 0), weight_sum = 0;
  for (int64_t k = 0; k < l.n; k++) weight_sum += value(c->in[3], k, 1);
#pragma omp parallel for schedule(static) if (l.outer * l.n * l.inner > PARALLEL_WORK)
  for (int64_t i = 0; i < l.outer * l.inner; i++) {
    place p = place_of(c, i, weight_sum, l.n);
    double fi = p.total == 0 ? 0 : f; /* ignored: 0 even where f is not finite */
    if (l.inner == 1) gradient_row(c, l.n, i, p, fi);
    else gradient_strided(c, l, i, p, fi);
  }
  return LM_OK;
}

const lm_op lm_op_cross_entropy_backward = {
  .name = "cross_entropy_backward",
  .sig = "g, logits, target, weight?, lse, weight_sum; ignore_index: int = -100, "
         "label_smoothing: float = 0",
  .doc = "Gradient of cross_entropy for the logits.",
  .infer = cross_entropy_backward_infer,
  .cpu = cross_entropy_backward_cpu,
  .flags = LM_OP_INTERNAL,
};

/* ---- bce_with_logits ---- */

/* Loss per element: (1 - t) x + (1 + (p - 1) t) softplus(-x), with softplus(-x) =
 * max(-x, 0) + log(1 + exp(-|x|)). Backward, f = g / n: gx, gt, gw may each be NULL. */
#define DEFINE_BCE(T)                                                                      \
  static inline T T##_softplus_of_minus(T x)                                               \
  {                                                                                        \
    T a = x < 0 ? -x : x;                                                                  \
    return (x < 0 ? a : 0) + T##_log1p(T##_exp(-a));                                   \
  }                                                                                        \
  static double T##_bce(int64_t n, const T *x, const T *t, const T *w, double pos)         \
  {                                                                                        \
    T p = (T)(pos - 1);                                                                    \
    double total = 0;                                                                      \
    for (int64_t k = 0; k < n; k += 512) {                                                 \
      int64_t end = lm_min64(n, k + 512);                                                  \
      T s = 0;                                                                             \
      _Pragma("omp simd reduction(+ : s)") for (int64_t i = k; i < end; i++)               \
        s += (w ? w[i] : 1) *                                                              \
             ((1 - t[i]) * x[i] + (1 + p * t[i]) * T##_softplus_of_minus(x[i]));           \
      total += (double)s;                                                                  \
    }                                                                                      \
    return total;                                                                          \
  }                                                                                        \
  static void T##_bce_gx(int64_t n, const T *x, const T *t, const T *w, double pos,        \
                         double f, T *restrict gx)                                         \
  {                                                                                        \
    T p = (T)(pos - 1), h = (T)f;                                                          \
    _Pragma("omp simd") for (int64_t i = 0; i < n; i++)                                    \
    {                                                                                      \
      T a = x[i] < 0 ? -x[i] : x[i], e = T##_exp(-a);                                      \
      T sig = (x[i] < 0 ? 1 : e) / (1 + e); /* sigmoid(-x) */                              \
      gx[i] = h * (w ? w[i] : 1) * ((1 - t[i]) - (1 + p * t[i]) * sig);                    \
    }                                                                                      \
  }                                                                                        \
  static void T##_bce_gt(int64_t n, const T *x, const T *w, double pos, double f,          \
                         T *restrict gt)                                                   \
  {                                                                                        \
    T p = (T)(pos - 1), h = (T)f;                                                          \
    _Pragma("omp simd") for (int64_t i = 0; i < n; i++)                                    \
      gt[i] = h * (w ? w[i] : 1) * (p * T##_softplus_of_minus(x[i]) - x[i]);               \
  }                                                                                        \
  static void T##_bce_gw(int64_t n, const T *x, const T *t, double pos, double f,          \
                         T *restrict gw)                                                   \
  {                                                                                        \
    T p = (T)(pos - 1), h = (T)f;                                                          \
    _Pragma("omp simd") for (int64_t i = 0; i < n; i++)                                    \
      gw[i] = h * ((1 - t[i]) * x[i] + (1 + p * t[i]) * T##_softplus_of_minus(x[i]));      \
  }

DEFINE_BCE(float)
DEFINE_BCE(double)

static lm_status bce_infer(lm_call *c)
{
  const lm_tensor *x = c->in[0];
  LM_TRY(lm_check_float(c, 0));
  for (int k = 1; k <= 2; k++) {
    if (!c->in[k]) continue;
    LM_TRY(lm_check_same_dtype(c, 0, k));
    LM_TRY(lm_check_shape(c, k, x->ndim, x->shape));
  }
  return lm_out(c, 0, x->dtype, 0, NULL);
}

static lm_status bce_cpu(lm_call *c)
{
  const lm_tensor *x = c->in[0];
  int64_t n = lm_numel(x), pieces = (n + PIECE - 1) / PIECE;
  double pos = c->param[0].f, loss = 0;
  lm_tensor *scratch;
  LM_TRY(lm_tensor_new(c->device, LM_F64, 1, &pieces, &scratch));
  double *part = lm_data(scratch);
  const void *xd = lm_data(x), *t = lm_data(c->in[1]), *w = c->in[2] ? lm_data(c->in[2]) : NULL;
#pragma omp parallel for schedule(static) if (n > PARALLEL_WORK)
  for (int64_t k = 0; k < pieces; k++) {
    int64_t i = k * PIECE, count = lm_min64(PIECE, n - i);
    part[k] = x->dtype == LM_F32
                ? float_bce(count, (const float *)xd + i, (const float *)t + i,
                            w ? (const float *)w + i : NULL, pos)
                : double_bce(count, (const double *)xd + i, (const double *)t + i,
                             w ? (const double *)w + i : NULL, pos);
  }
  for (int64_t k = 0; k < pieces; k++) loss += part[k];
  put(c->out[0], 0, loss / (double)n);
  lm_release(scratch);
  return LM_OK;
}

static lm_status bce_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  for (int k = 0; k < 3; k++) {
    if (!c->in[k] || !lm_wants(c, k)) continue;
    LM_TRY(lm_apply(&lm_op_bce_with_logits_backward,
                    LM_IN(gout[0], c->in[0], c->in[1], c->in[2]),
                    LM_PARAMS(lm_int(k), lm_float(c->param[0].f)), &gin[k]));
  }
  return LM_OK;
}

const lm_op lm_op_bce_with_logits = {
  .name = "bce_with_logits",
  .sig = "logits, target, weight?; pos_weight: float = 1",
  .doc = "Mean over all elements of weight * -(pos_weight t log p + (1 - t) log(1 - p)) with "
         "p = sigmoid(logits) and t = target within 0 to 1; all of one shape. Stable for any "
         "logits; gradients for logits, target and weight.\n"
         "> lumen.tensor{0, 100}:bce_with_logits(lumen.tensor{1, 1}):item()\n"
         "0.34657",
  .infer = bce_infer,
  .cpu = bce_cpu,
  .grad = bce_grad,
  .save_in = 7,
};

static lm_status bce_backward_infer(lm_call *c)
{
  return lm_out_like(c, 0, c->in[1]);
}

static lm_status bce_backward_cpu(lm_call *c)
{
  const lm_tensor *x = c->in[1];
  int64_t n = lm_numel(x), which = c->param[0].i;
  double pos = c->param[1].f, f = value(c->in[0], 0, 0) / (double)n;
  const char *xd = lm_data(x), *td = lm_data(c->in[2]);
  const char *wd = c->in[3] ? lm_data(c->in[3]) : NULL;
  char *yd = lm_data(c->out[0]);
  int64_t size = lm_dtype_size(x->dtype);
#pragma omp parallel for schedule(static) if (n > PARALLEL_WORK)
  for (int64_t i = 0; i < n; i += PIECE) {
    int64_t m = lm_min64(PIECE, n - i);
    const void *xi = xd + i * size, *ti = td + i * size, *wi = wd ? wd + i * size : NULL;
    void *yi = yd + i * size;
    if (x->dtype == LM_F32) {
      if (which == 0) float_bce_gx(m, xi, ti, wi, pos, f, yi);
      else if (which == 1) float_bce_gt(m, xi, wi, pos, f, yi);
      else float_bce_gw(m, xi, ti, pos, f, yi);
    } else {
      if (which == 0) double_bce_gx(m, xi, ti, wi, pos, f, yi);
      else if (which == 1) double_bce_gt(m, xi, wi, pos, f, yi);
      else double_bce_gw(m, xi, ti, pos, f, yi);
    }
  }
  return LM_OK;
}

const lm_op lm_op_bce_with_logits_backward = {
  .name = "bce_with_logits_backward",
  .sig = "g, logits, target, weight?; input: int, pos_weight: float = 1",
  .doc = "Gradient of bce_with_logits for its input 0 (logits), 1 (target) or 2 (weight).",
  .infer = bce_backward_infer,
  .cpu = bce_backward_cpu,
  .flags = LM_OP_INTERNAL,
};
