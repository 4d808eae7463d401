/* random.c: filling with random numbers, dropout and drop_path.
 *
 * Element i of a contiguous tensor depends on the call's key and stream and on i alone:
 * it uses word i % 4 of Philox block i / 4 (f64 numbers and truncated normals of f64:
 * words 2 (i % 2) and the next of block i / 2). So results do not depend on threads, and
 * a mask can be made again in the backward pass instead of being kept. Normals come in
 * pairs (Box and Muller) from neighbouring words. */
#include <math.h>

#include "graph/op.h"
#include "ops/random.h"

#define SPAN 1024 /* elements made at once; a multiple of 4 */
#define PARALLEL_FROM 65536

/* The words of blocks first / 4 ... for elements [first, first + SPAN). */
static void make_words(lm_rng r, int64_t first, uint32_t *words)
{
  uint64_t block = (uint64_t)first / 4;
  for (int b = 0; b < SPAN / 4; b++)
    lm_philox(r.key, block + (uint64_t)b, r.stream, words + 4 * b);
}

/* What turns SPAN numbers of f32 (from `bits`) or f64 (from two words each) into results.
 */
typedef struct draw {
  double a, b;      /* low and high, or mean and std */
  double low, high; /* truncated normal: bounds */
} draw;

typedef void (*span_fn)(const draw *d, lm_rng r, int64_t first, int64_t n, void *out);

static void run_spans(lm_call *c, span_fn f32, span_fn f64, const draw *d)
{
  lm_tensor *x = c->out[0];
  int64_t n = lm_numel(x), size = lm_dtype_size(x->dtype);
  span_fn fn = x->dtype == LM_F32 ? f32 : f64;
  char *out = lm_data(x);
#pragma omp parallel for schedule(static) if (n >= PARALLEL_FROM)
  for (int64_t first = 0; first < n; first += SPAN)
    fn(d, c->rng, first, lm_min64(SPAN, n - first), out + first * size);
}

static void make_open(lm_rng r, int64_t first, double *u)
{
  uint32_t words[SPAN];
  make_words(r, first, words);
  for (int i = 0; i < SPAN; i++) u[i] = lm_open_f64(words[i]);
}

static void make_open_fine(lm_rng r, int64_t first, double *u)
{
  uint32_t words[SPAN];
  for (int half = 0; half < 2; half++) {
    make_words(r, 2 * first + half * SPAN, words);
    for (int i = 0; i < SPAN / 2; i++)
      u[half * SPAN / 2 + i] = lm_open_fine(words[2 * i], words[2 * i + 1]);
  }
}

static lm_status random_infer(lm_call *c)
{
  return lm_check_float(c, 0);
}

#define RANDOM_FLAGS (LM_OP_INPLACE | LM_OP_RANDOM)

/* ---- uniform_ ---- */

static void uniform_f32(const draw *d, lm_rng r, int64_t first, int64_t n, void *out)
{
  uint32_t words[SPAN];
  float *o = out, low = (float)d->a, width = (float)(d->b - d->a), high = (float)d->b;
  make_words(r, first, words);
  for (int64_t i = 0; i < n; i++) {
    o[i] = lm_between_f32(low, width, high, words[i]);
  }
}

static void uniform_f64(const draw *d, lm_rng r, int64_t first, int64_t n, void *out)
{
  double u[SPAN], *o = out;
  make_open_fine(r, first, u);
  for (int64_t i = 0; i < n; i++) {
    o[i] = lm_between_f64(d->a, d->b, u[i]);
  }
}

static lm_status uniform_infer(lm_call *c)
{
  double low = c->param[0].f, high = c->param[1].f;
  LM_TRY(lm_check_float(c, 0));
  if (low <= high && isfinite(high - low)) return LM_OK;
  return lm_op_fail(c, LM_ERR_ARG, "low must not be above high (low %g, high %g)", low,
                    high);
}

static lm_status uniform_cpu(lm_call *c)
{
  draw d = {c->param[0].f, c->param[1].f, 0, 0};
  run_spans(c, uniform_f32, uniform_f64, &d);
  return LM_OK;
}

const lm_op lm_op_uniform_ = {
    "uniform_", "x; low: float = 0, high: float = 1",
    "Fills x with uniform random numbers in [low, high).\n"
    "> lumen.zeros(3):uniform_(-1, 1, {rng = {seed = 1}})\n"
    "f32 [3] {0.28235, 0.047305, 0.45252}",
    uniform_infer, uniform_cpu, NULL, RANDOM_FLAGS, 0, 0};

/* ---- normal_ ---- */

static void normal_f32(const draw *d, lm_rng r, int64_t first, int64_t n, void *out)
{
  uint32_t words[SPAN];
  float normals[SPAN], *o = out, mean = (float)d->a, std = (float)d->b;
  make_words(r, first, words);
#pragma omp simd
  for (int i = 0; i < SPAN; i += 2)
    lm_normal_pair(words[i], words[i + 1], normals + i, normals + i + 1);
  for (int64_t i = 0; i < n; i++) o[i] = mean + std * normals[i];
}

static void make_normals(double *u)
{
  for (int i = 0; i < SPAN; i += 2) lm_normal_pair_f64(u + i);
}

static void normal_f64(const draw *d, lm_rng r, int64_t first, int64_t n, void *out)
{
  double u[SPAN], *o = out;
  make_open_fine(r, first, u);
  make_normals(u);
  for (int64_t i = 0; i < n; i++) o[i] = d->a + d->b * u[i];
}

static lm_status check_std(const lm_call *c)
{
  if (c->param[1].f >= 0) return LM_OK;
  return lm_op_fail(c, LM_ERR_ARG, "std must not be negative, not %g", c->param[1].f);
}

static lm_status normal_infer(lm_call *c)
{
  LM_TRY(check_std(c));
  return random_infer(c);
}

static lm_status normal_cpu(lm_call *c)
{
  draw d = {c->param[0].f, c->param[1].f, 0, 0};
  run_spans(c, normal_f32, normal_f64, &d);
  return LM_OK;
}

const lm_op lm_op_normal_ = {
    "normal_", "x; mean: float = 0, std: float = 1",
    "Fills x with normal random numbers.\n"
    "> lumen.zeros(3):normal_(5, 2, {rng = {seed = 1}})\n"
    "f32 [3] {3.1352, 4.7208, 6.0452}",
    normal_infer, normal_cpu, NULL, RANDOM_FLAGS, 0, 0};

/* ---- trunc_normal_ ---- */

static void make_truncated(const draw *d, double *u)
{
  lm_truncation t = lm_truncation_make(d->a, d->b, d->low, d->high);
  for (int i = 0; i < SPAN; i++) u[i] = lm_truncated(&t, u[i]);
}

static void truncated_f32(const draw *d, lm_rng r, int64_t first, int64_t n, void *out)
{
  double u[SPAN];
  float *o = out;
  make_open(r, first, u);
  make_truncated(d, u);
  for (int64_t i = 0; i < n; i++) o[i] = (float)u[i];
}

static void truncated_f64(const draw *d, lm_rng r, int64_t first, int64_t n, void *out)
{
  double u[SPAN], *o = out;
  make_open_fine(r, first, u);
  make_truncated(d, u);
  for (int64_t i = 0; i < n; i++) o[i] = u[i];
}

static lm_status truncated_infer(lm_call *c)
{
  LM_TRY(normal_infer(c));
  double low = c->param[2].f, high = c->param[3].f;
  if (!(low < high))
    return lm_op_fail(c, LM_ERR_ARG, "low must be below high (low %g, high %g)", low,
                      high);
  double std = c->param[1].f, mean = c->param[0].f;
  double nearest = fmax(fmax(low - mean, mean - high), 0);
  if (std > 0 && nearest <= 8 * std) return LM_OK;
  return lm_op_fail(c, LM_ERR_ARG,
                    "the bounds [%g, %g] are more than 8 std away from the mean "
                    "(mean %g, std %g)",
                    low, high, mean, std);
}

static lm_status truncated_cpu(lm_call *c)
{
  draw d = {c->param[0].f, c->param[1].f, c->param[2].f, c->param[3].f};
  run_spans(c, truncated_f32, truncated_f64, &d);
  return LM_OK;
}

const lm_op lm_op_trunc_normal_ = {
    "trunc_normal_",
    "x; mean: float = 0, std: float = 1, low: float = -2, high: float = 2",
    "Fills x with normal random numbers limited to [low, high] (absolute bounds, not "
    "multiples of std), by inversion. The bounds must come within 8 std of the mean.\n"
    "> lumen.zeros(3):trunc_normal_(0, 0.02, -0.04, 0.04, {rng = {seed = 1}})\n"
    "f32 [3] {0.0068893, 0.0011324, 0.011418}",
    truncated_infer, truncated_cpu, NULL, RANDOM_FLAGS, 0, 0};

/* ---- dropout, drop_path ---- */

lm_rng lm_mask_rng(const lm_call *c)
{
  if (!(c->op->flags & LM_OP_INTERNAL)) return c->rng;
  return lm_rng_make((uint64_t)c->param[1].i, (uint64_t)c->param[2].i);
}

static lm_status dropout_infer(lm_call *c)
{
  double p = c->param[0].f;
  LM_TRY(lm_check_float(c, 0));
  if (!(p >= 0 && p <= 1))
    return lm_op_fail(c, LM_ERR_ARG, "p must be between 0 and 1, not %g", p);
  return lm_out_like(c, 0, c->in[0]);
}

static lm_status drop_path_infer(lm_call *c)
{
  if (c->in[0]->ndim == 0)
    return lm_op_fail(c, LM_ERR_SHAPE, "x needs a dimension of samples (x: %s)",
                      lm_describe(c->in[0]));
  return dropout_infer(c);
}

static lm_status dropout_cpu(lm_call *c)
{
  const lm_tensor *x = c->in[0];
  lm_rng r = lm_mask_rng(c);
  double p = c->param[0].f;
  uint64_t limit = lm_drop_limit(p);
  double scale = p < 1 ? 1 / (1 - p) : 0;
  bool small = x->dtype == LM_F32;
  const float *x32 = lm_data(x);
  const double *x64 = lm_data(x);
  float *o32 = lm_data(c->out[0]);
  double *o64 = lm_data(c->out[0]);
  int64_t n = lm_numel(x);
#pragma omp parallel for schedule(static) if (n >= PARALLEL_FROM)
  for (int64_t first = 0; first < n; first += SPAN) {
    uint32_t words[SPAN];
    make_words(r, first, words);
    int64_t last = lm_min64(first + SPAN, n);
    float scale32 = (float)scale;
    for (int64_t i = first; small && i < last; i++)
      o32[i] = words[i - first] < limit ? 0.0f : x32[i] * scale32;
    for (int64_t i = first; !small && i < last; i++)
      o64[i] = words[i - first] < limit ? 0.0 : x64[i] * scale;
  }
  return LM_OK;
}

static lm_status drop_path_cpu(lm_call *c)
{
  const lm_tensor *x = c->in[0];
  lm_rng r = lm_mask_rng(c);
  double p = c->param[0].f;
  uint64_t limit = lm_drop_limit(p);
  double scale = p < 1 ? 1 / (1 - p) : 0;
  int64_t n = lm_numel(x), samples = x->shape[0], each = n / samples;
  bool small = x->dtype == LM_F32;
  const float *x32 = lm_data(x);
  const double *x64 = lm_data(x);
  float *o32 = lm_data(c->out[0]);
  double *o64 = lm_data(c->out[0]);
#pragma omp parallel for schedule(static) if (n >= PARALLEL_FROM)
  for (int64_t sample = 0; sample < samples; sample++) {
    uint32_t words[4];
    lm_philox(r.key, (uint64_t)sample / 4, r.stream, words);
    bool drop = words[sample % 4] < limit;
    int64_t first = sample * each, last = first + each;
    float scale32 = (float)scale;
    for (int64_t i = first; small && i < last; i++)
      o32[i] = drop ? 0.0f : x32[i] * scale32;
    for (int64_t i = first; !small && i < last; i++) o64[i] = drop ? 0.0 : x64[i] * scale;
  }
  return LM_OK;
}

static lm_status mask_grad(lm_call *c, const lm_op *backward, lm_tensor *g,
                           lm_tensor **gin)
{
  return lm_apply(backward, LM_IN(g),
                  LM_PARAMS(lm_float(c->param[0].f), lm_int((int64_t)c->rng.key),
                            lm_int((int64_t)c->rng.stream)),
                  gin);
}

#define MASK_SIG "g; p: float, key: int, stream: int"

const lm_op lm_op_dropout_backward = {
    "dropout_backward", MASK_SIG,
    "dropout of g with the mask of the call with that generator.",
    dropout_infer, dropout_cpu, NULL, LM_OP_INTERNAL, 0, 0};
const lm_op lm_op_drop_path_backward = {
    "drop_path_backward", MASK_SIG,
    "drop_path of g with the mask of the call with that generator.",
    drop_path_infer, drop_path_cpu, NULL, LM_OP_INTERNAL, 0, 0};

static lm_status dropout_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  return mask_grad(c, &lm_op_dropout_backward, gout[0], &gin[0]);
}

static lm_status drop_path_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  return mask_grad(c, &lm_op_drop_path_backward, gout[0], &gin[0]);
}

const lm_op lm_op_dropout = {
    "dropout", "x; p: float",
    "Sets each element to 0 with probability p and multiplies the others by 1 / (1 - "
    "p). Whether the model trains is the caller's business.\n"
    "> lumen.ones(8):dropout(0.5, {rng = {seed = 1}})\n"
    "f32 [8] {2, 2, 2, 0, 0, 0, 2, 2}",
    dropout_infer, dropout_cpu, dropout_grad, LM_OP_RANDOM, 0, 0};
const lm_op lm_op_drop_path = {
    "drop_path", "x; p: float",
    "x [N x ...]: sets whole samples to 0 with probability p and multiplies the "
    "others by 1 / (1 - p) (stochastic depth; Huang et al. 2016).\n"
    "> lumen.ones(4, 2):drop_path(0.5, {rng = {seed = 1}})\n"
    "f32 [4 x 2] {2, 2, 2, 2, 2, 2, 0, 0}",
    drop_path_infer, drop_path_cpu, drop_path_grad, LM_OP_RANDOM, 0, 0};
