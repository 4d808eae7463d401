/* optim.c: optimiser steps over lists of tensors, the gradient's norm, moving averages.
 *
 * Each step is one pass over each parameter and its state, written in place through
 * cpu/rows.h, so gradients may have any strides. The lists of a call go together: equal
 * lengths, and for each position equal shape and dtype (f32 or f64). */
#include <math.h>
#include <stdlib.h>

#include "cpu/rows.h"
#include "graph/op.h"

/* ---- lists ---- */

static lm_status check_member(const lm_call *c, int k, int like)
{
  const lm_tensor *t = c->in[k], *x = c->in[like];
  if (t->dtype != x->dtype)
    return lm_op_fail(c, LM_ERR_DTYPE, "%s %d is %s but %s %d is %s", lm_arg_name(c, k),
                      like + 1, lm_describe(t), lm_arg_name(c, like), like + 1,
                      lm_describe(x));
  if (!lm_same_shape(t, x))
    return lm_op_fail(c, LM_ERR_SHAPE, "%s %d has shape %s but %s %d has shape %s",
                      lm_arg_name(c, k), like + 1, lm_shape_text(t->ndim, t->shape),
                      lm_arg_name(c, like), like + 1, lm_shape_text(x->ndim, x->shape));
  return LM_OK;
}

static lm_status check_target(const lm_call *c, int k)
{
  const lm_tensor *x = c->in[k];
  if (x->dtype != LM_F32 && x->dtype != LM_F64)
    return lm_op_fail(c, LM_ERR_DTYPE, "%s %d must be f32 or f64, not %s",
                      lm_arg_name(c, k), k + 1, lm_describe(x));
  if (lm_numel(x) == 0)
    return lm_op_fail(c, LM_ERR_SHAPE, "%s %d has no elements (%s)", lm_arg_name(c, k),
                      k + 1, lm_describe(x));
  if (x->requires_grad && lm_grad_enabled()) {
    lm_op_fail(c, LM_ERR_ARG,
               "%s %d requires a gradient and cannot be written in place (%s)",
               lm_arg_name(c, k), k + 1, lm_describe(x));
    return lm_hint("call it inside lumen.no_grad");
  }
  return LM_OK;
}

static lm_status check_distinct(const lm_call *c, int k)
{
  const lm_tensor *x = c->in[k];
  for (int d = 0; d < x->ndim; d++)
    if (x->stride[d] == 0 && x->shape[d] > 1)
      return lm_op_fail(c, LM_ERR_ARG,
                        "%s %d is expanded and cannot be written in place (%s)",
                        lm_arg_name(c, k), k + 1, lm_describe(x));
  return LM_OK;
}

/* For the profile: every list is read, and all but the second one (gradients, sources) written. */
static void step_work(const lm_call *c, lm_work *w)
{
  w->bytes = 0;
  for (int a = 0; a < c->narg; a++)
    for (int i = c->first[a]; i < c->first[a] + c->count[a]; i++)
      w->bytes += (a == 1 ? 1.0 : 2.0) * (double)(lm_numel(c->in[i]) * lm_dtype_size(c->in[i]->dtype));
}

/* All lists are alike. Marks what will be written besides the first tensor, which the
 * dispatcher marks: bit a of `written` stands for argument a of the signature. */
static lm_status check_lists(lm_call *c, unsigned written)
{
  int n = c->count[0];
  const lm_sig *sig;
  LM_TRY(lm_op_sig(c->op, &sig));
  if (n == 0) return lm_op_fail(c, LM_ERR_ARG, "%s", "the lists are empty");
  for (int a = 1; a < c->narg; a++)
    if (c->count[a] != n)
      return lm_op_fail(c, LM_ERR_ARG, "there are %d %s but %d %s", c->count[a],
                        sig->arg[a].name, n, sig->arg[0].name);
  for (int i = 0; i < n; i++) {
    LM_TRY(check_target(c, i));
    for (int a = 0; a < c->narg; a++) {
      LM_TRY(check_member(c, c->first[a] + i, i));
      if (written >> a & 1) LM_TRY(check_distinct(c, c->first[a] + i));
    }
  }
  for (int a = 0; a < c->narg; a++)
    for (int i = a == 0 ? 1 : 0; (written >> a & 1) && i < n; i++)
      lm_tensor_touch(c->in[c->first[a] + i], c->op->name);
  return LM_OK;
}

/* Run the row function of the parameter's dtype over position i of every list. */
static void run_lists(lm_call *c, lm_row_fn f32, lm_row_fn f64, const void *context)
{
  for (int i = 0; i < c->count[0]; i++) {
    lm_tensor *operand[LM_MAX_ROW_OPERANDS];
    for (int a = 0; a < c->narg; a++) operand[a] = c->in[c->first[a] + i];
    lm_rows_run(c->narg, operand, operand[0]->dtype == LM_F32 ? f32 : f64, context);
  }
}

static lm_status check_range(const lm_call *c, const char *name, double value,
                             double high)
{
  if (value >= 0 && value <= high) return LM_OK;
  if (high < INFINITY)
    return lm_op_fail(c, LM_ERR_ARG, "%s must be between 0 and %g, not %g", name, high,
                      value);
  return lm_op_fail(c, LM_ERR_ARG, "%s must not be negative, not %g", name, value);
}

static lm_status check_step(const lm_call *c, int64_t step)
{
  if (step >= 1) return LM_OK;
  return lm_op_fail(c, LM_ERR_ARG, "step counts from 1, not %lld", (long long)step);
}

#define STEP_FLAGS (LM_OP_STRIDED | LM_OP_INPLACE)

/* ---- adamw_step ---- */

typedef struct adam {
  double decay;   /* factor on the parameter: 1 - lr * weight_decay; 1 when coupled */
  double coupled; /* weight decay added to the gradient; 0 when decoupled */
  double beta1, beta2, eps, grad_scale;
  double step_size;   /* lr / (1 - beta1^step) */
  double root_second; /* sqrt(1 - beta2^step) */
} adam;

/* One element: p, g, m, v in T. */
#define ADAM(name, T, root)                                                              \
  static inline void name##_one(const adam *h, T *p, T g, T *m, T *v)                    \
  {                                                                                      \
    T w = *p * (T)h->decay;                                                              \
    g = g * (T)h->grad_scale + (T)h->coupled * w;                                        \
    T first = *m + (g - *m) * (T)(1 - h->beta1);                                         \
    T second = *v * (T)h->beta2 + (T)(1 - h->beta2) * g * g;                             \
    *m = first;                                                                          \
    *v = second;                                                                         \
    *p = w - (T)h->step_size * (first / (root(second) / (T)h->root_second + (T)h->eps)); \
  }                                                                                      \
  static void name(int64_t n, char *const *at, const int64_t *s, const void *context)    \
  {                                                                                      \
    const adam h = *(const adam *)context;                                               \
    T *p = (T *)at[0], *m = (T *)at[2], *v = (T *)at[3];                                 \
    const T *g = (const T *)at[1];                                                       \
    if (s[0] == 1 && s[1] == 1 && s[2] == 1 && s[3] == 1) {                              \
      _Pragma("omp simd") for (int64_t i = 0; i < n; i++)                                \
          name##_one(&h, p + i, g[i], m + i, v + i);                                     \
    } else {                                                                             \
      for (int64_t i = 0; i < n; i++)                                                    \
        name##_one(&h, p + i * s[0], g[i * s[1]], m + i * s[2], v + i * s[3]);           \
    }                                                                                    \
  }

ADAM(adam_f32, float, sqrtf)
ADAM(adam_f64, double, sqrt)

static lm_status adamw_infer(lm_call *c)
{
  static const char *const names[] = {"lr", "beta1", "beta2", "eps", "weight_decay"};
  for (int k = 0; k < 5; k++)
    LM_TRY(check_range(c, names[k], c->param[k].f, k == 1 || k == 2 ? 1 : INFINITY));
  LM_TRY(check_step(c, c->param[5].i));
  return check_lists(c, 1 | 4 | 8);
}

static lm_status adamw_cpu(lm_call *c)
{
  const lm_value *v = c->param;
  double lr = v[0].f, weight_decay = v[4].f, step = (double)v[5].i;
  bool decoupled = v[7].i != 0;
  adam h = {.decay = decoupled ? 1 - lr * weight_decay : 1,
            .coupled = decoupled ? 0 : weight_decay,
            .beta1 = v[1].f,
            .beta2 = v[2].f,
            .eps = v[3].f,
            .grad_scale = v[6].f,
            .step_size = lr / (1 - pow(v[1].f, step)),
            .root_second = sqrt(1 - pow(v[2].f, step))};
  run_lists(c, adam_f32, adam_f64, &h);
  return LM_OK;
}

const lm_op lm_op_adamw_step = {
    "adamw_step",
    "params..., grads..., exp_avg..., exp_avg_sq...; lr: float, beta1: float = 0.9, "
    "beta2: float = 0.999, eps: float = 1e-8, weight_decay: float = 0, step: int, "
    "grad_scale: float = 1, decoupled: bool = true",
    "One AdamW step (Loshchilov and Hutter 2019), in place: p *= 1 - lr weight_decay; "
    "the gradient times grad_scale updates both averages; p -= lr m / (1 - "
    "beta1^step) / (sqrt(v / (1 - beta2^step)) + eps). step counts from 1. decoupled "
    "= false is Adam (Kingma and Ba 2015) with weight_decay p added to the gradient.\n"
    "> p, g = lumen.tensor{1, 1}, lumen.tensor{0.5, -0.5}\n"
    "> m, v = lumen.zeros(2), lumen.zeros(2)\n"
    "> lumen.adamw_step({p}, {g}, {m}, {v}, {lr = 0.1, step = 1})\n"
    "> p\n"
    "f32 [2] {0.9, 1.1}",
    adamw_infer, adamw_cpu, NULL, STEP_FLAGS, 0, 0, step_work};

/* ---- sgd_step ---- */

typedef struct sgd {
  double lr, momentum, weight_decay;
  bool nesterov, first;
} sgd;

#define SGD(name, T)                                                                  \
  static void name(int64_t n, char *const *at, const int64_t *s, const void *context) \
  {                                                                                   \
    const sgd *h = context;                                                           \
    const T lr = (T)h->lr, decay = (T)h->weight_decay, momentum = (T)h->momentum;     \
    const T old = h->first ? 0 : momentum, ahead = h->nesterov ? momentum : 0;        \
    const T own = h->nesterov ? 1 : 0, buffer = h->nesterov ? ahead : 1;              \
    T *p = (T *)at[0], *m = (T *)at[2];                                               \
    const T *g = (const T *)at[1];                                                    \
    const int64_t sp = s[0], sg = s[1], sm = s[2];                                    \
    _Pragma("omp simd") for (int64_t i = 0; i < n; i++)                               \
    {                                                                                 \
      T w = p[i * sp], d = g[i * sg] + decay * w;                                     \
      T b = h->first ? d : old * m[i * sm] + d;                                       \
      m[i * sm] = b;                                                                  \
      p[i * sp] = w - lr * (own * d + buffer * b);                                    \
    }                                                                                 \
  }

SGD(sgd_f32, float)
SGD(sgd_f64, double)

static lm_status sgd_infer(lm_call *c)
{
  LM_TRY(check_range(c, "lr", c->param[0].f, INFINITY));
  LM_TRY(check_range(c, "momentum", c->param[1].f, INFINITY));
  LM_TRY(check_range(c, "weight_decay", c->param[3].f, INFINITY));
  LM_TRY(check_step(c, c->param[4].i));
  return check_lists(c, 1 | 4);
}

static lm_status sgd_cpu(lm_call *c)
{
  const lm_value *v = c->param;
  sgd h = {v[0].f, v[1].f, v[3].f, v[2].i != 0, v[4].i == 1};
  run_lists(c, sgd_f32, sgd_f64, &h);
  return LM_OK;
}

const lm_op lm_op_sgd_step = {
    "sgd_step",
    "params..., grads..., momentum_buf...; lr: float, momentum: float = 0, nesterov: "
    "bool = false, weight_decay: float = 0, step: int",
    "One step of stochastic gradient descent, in place: d = g + weight_decay p; b = "
    "momentum b + d (b = d at step 1); p -= lr b, or with nesterov p -= lr (d + "
    "momentum b).\n"
    "> p, g, b = lumen.tensor{1, 1}, lumen.tensor{0.5, -0.5}, lumen.zeros(2)\n"
    "> lumen.sgd_step({p}, {g}, {b}, {lr = 0.1, step = 1})\n"
    "> p\n"
    "f32 [2] {0.95, 1.05}",
    sgd_infer, sgd_cpu, NULL, STEP_FLAGS, 0, 0, step_work};

/* ---- ema_step ---- */

#define EMA(name, T)                                                                     \
  static void name(int64_t n, char *const *at, const int64_t *s, const void *context)    \
  {                                                                                      \
    const T share = (T)(1 - *(const double *)context);                                   \
    T *t = (T *)at[0];                                                                   \
    const T *x = (const T *)at[1];                                                       \
    if (s[0] == 1 && s[1] == 1) {                                                        \
      _Pragma("omp simd") for (int64_t i = 0; i < n; i++) t[i] += share * (x[i] - t[i]); \
    } else {                                                                             \
      for (int64_t i = 0; i < n; i++)                                                    \
        t[i * s[0]] += share * (x[i * s[1]] - t[i * s[0]]);                              \
    }                                                                                    \
  }

EMA(ema_f32, float)
EMA(ema_f64, double)

static lm_status ema_infer(lm_call *c)
{
  LM_TRY(check_range(c, "decay", c->param[0].f, 1));
  return check_lists(c, 1);
}

static lm_status ema_cpu(lm_call *c)
{
  run_lists(c, ema_f32, ema_f64, &c->param[0].f);
  return LM_OK;
}

const lm_op lm_op_ema_step = {
    "ema_step", "targets..., sources...; decay: float",
    "Exponential moving averages, in place: target = decay target + (1 - decay) "
    "source.\n"
    "> target, source = lumen.zeros(2), lumen.ones(2)\n"
    "> lumen.ema_step({target}, {source}, {decay = 0.9})\n"
    "> target\n"
    "f32 [2] {0.1, 0.1}",
    ema_infer, ema_cpu, NULL, STEP_FLAGS, 0, 0, step_work};

/* ---- grad_norm ---- */

#define BLOCK 16384 /* elements per partial sum: the partition depends on sizes alone */

static double squares_f32(const float *x, int64_t n)
{
  double s = 0;
#pragma omp simd reduction(+ : s)
  for (int64_t i = 0; i < n; i++) s += (double)x[i] * (double)x[i];
  return s;
}

static double squares_f64(const double *x, int64_t n)
{
  double s = 0;
#pragma omp simd reduction(+ : s)
  for (int64_t i = 0; i < n; i++) s += x[i] * x[i];
  return s;
}

static lm_status sum_squares(const lm_tensor *t, double *out)
{
  int64_t n = lm_numel(t), blocks = (n + BLOCK - 1) / BLOCK;
  const float *x32 = lm_data(t);
  const double *x64 = lm_data(t);
  double one = 0, *part = &one;
  if (blocks > 1) LM_TRY(lm_calloc(&part, (size_t)blocks, sizeof *part));
#pragma omp parallel for schedule(static) if (blocks > 1)
  for (int64_t b = 0; b < blocks; b++) {
    int64_t first = b * BLOCK, count = lm_min64(BLOCK, n - first);
    part[b] = t->dtype == LM_F32 ? squares_f32(x32 + first, count)
                                 : squares_f64(x64 + first, count);
  }
  double sum = 0;
  for (int64_t b = 0; b < blocks; b++) sum += part[b];
  if (blocks > 1) free(part);
  *out = sum;
  return LM_OK;
}

static lm_status norm_infer(lm_call *c)
{
  for (int i = 0; i < c->nin; i++) LM_TRY(lm_check_float(c, i));
  for (int i = 1; i < c->nin; i++) LM_TRY(lm_check_same_dtype(c, 0, i));
  bool fine = c->nin > 0 && c->in[0]->dtype == LM_F64;
  return lm_out(c, 0, fine ? LM_F64 : LM_F32, 0, NULL);
}

static lm_status norm_cpu(lm_call *c)
{
  double sum = 0, part;
  for (int i = 0; i < c->nin; i++) {
    LM_TRY(sum_squares(c->in[i], &part));
    sum += part;
  }
  if (c->out[0]->dtype == LM_F64)
    *(double *)lm_data(c->out[0]) = sqrt(sum);
  else
    *(float *)lm_data(c->out[0]) = (float)sqrt(sum);
  return LM_OK;
}

const lm_op lm_op_grad_norm = {
    "grad_norm", "grads...",
    "L2 norm of all tensors together as a scalar, accumulated in f64 (f32; f64 for "
    "f64 tensors). Infinities and NaN show in the result.\n"
    "> lumen.grad_norm({lumen.tensor{3}, lumen.tensor{4}}):item()\n"
    "5.0",
    norm_infer, norm_cpu, NULL, LM_OP_NODIFF, 0, 0};
