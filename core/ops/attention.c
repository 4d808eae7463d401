/* attention.c: multi-head attention softmax(scale Q K^T) V, forward and backward.
 *
 *   qkv_attention   queries, keys and values packed in one tensor, as timm's ViT makes them
 *   attention       separate tensors, optional mask, cross attention
 *
 * Work is spread over (sample, head); each thread handles blocks of query rows against all
 * keys, in a buffer of its own of about BLOCK elements, so that the L x M matrix never exists.
 * For backward only the logarithm of each row's sum of exponentials is kept; the blocks are
 * computed again. Heads are read and written where they lie in the token rows. */
#include <math.h>
#include <omp.h>

#include "cpu/cpu.h"
#include "cpu/vmath.h"
#include "graph/op.h"

#define BLOCK 65536 /* elements of a block of scores: two of them fit the L2 cache */
#define MIN_ROWS 16
#define MAX_ROWS 512

extern const lm_op lm_op_qkv_attention_backward, lm_op_attention_backward;

/* A batch of heads. Pointers are to sample 0, head 0; `*_row` is the distance of two tokens;
 * samples follow each other without a gap. */
typedef struct heads {
  lm_dtype dtype;
  int64_t size; /* of an element, in bytes */
  int64_t n, h, l, m, d;
  double scale;
  bool causal;
  const char *q, *k, *v;
  int64_t q_row, kv_row;
  const uint8_t *mask;   /* NULL: none */
  int64_t mask_stride[4]; /* sample, head, query, key; 0 where broadcast */
  char *out, *lse;       /* [n, l, h*d], [n, h, l]; lse may be NULL in forward */
  const char *g;         /* backward: gradient of out */
  char *gq, *gk, *gv;    /* laid out as q, k, v */
} heads;

/* One head of one sample. */
typedef struct head {
  const char *q, *k, *v, *g;
  char *out, *lse, *gq, *gk, *gv;
  const uint8_t *mask;
} head;

static char *at(const char *base, int64_t elements, int64_t size)
{
  return base ? (char *)base + elements * size : NULL;
}

static head head_of(const heads *a, int64_t n, int64_t h)
{
  int64_t q = n * a->l * a->q_row + h * a->d, kv = n * a->m * a->kv_row + h * a->d;
  int64_t o = n * a->l * a->h * a->d + h * a->d, s = a->size;
  return (head){
    .q = at(a->q, q, s), .k = at(a->k, kv, s), .v = at(a->v, kv, s), .g = at(a->g, o, s),
    .out = at(a->out, o, s), .lse = at(a->lse, (n * a->h + h) * a->l, s),
    .gq = at(a->gq, q, s), .gk = at(a->gk, kv, s), .gv = at(a->gv, kv, s),
    .mask = a->mask ? a->mask + n * a->mask_stride[0] + h * a->mask_stride[1] : NULL};
}

static void gemm(lm_dtype dtype, bool ta, bool tb, int64_t m, int64_t n, int64_t k,
                 double alpha, const void *a, int64_t lda, const void *b, int64_t ldb,
                 double beta, void *c, int64_t ldc)
{
  if (dtype == LM_F32)
    lm_sgemm(ta, tb, m, n, k, (float)alpha, a, lda, b, ldb, (float)beta, c, ldc);
  else
    lm_dgemm(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

static inline float float_exp(float x) { return lm_expf(x); }
static inline double double_exp(double x) { return exp(x); }

/* softmax_row: s becomes exp(s - shift); returns 1 / sum and stores shift + log(sum). A row
 * where every key is masked has sum 0: it gives 0 and lse = inf, which makes exp(s - lse)
 * zero in backward too.
 * backward_row: s becomes the probabilities P, dp the gradient P (dp - delta) of the scores. */
#define DEFINE_ROWS(T)                                                                     \
  static T T##_softmax_row(int64_t n, T *s, T *lse)                                        \
  {                                                                                        \
    T top = -(T)INFINITY, sum = 0;                                                         \
    _Pragma("omp simd reduction(max : top)") for (int64_t j = 0; j < n; j++)               \
      top = s[j] > top ? s[j] : top;                                                       \
    if (top == -(T)INFINITY) top = 0;                                                      \
    _Pragma("omp simd reduction(+ : sum)") for (int64_t j = 0; j < n; j++)                 \
    {                                                                                      \
      s[j] = T##_exp(s[j] - top);                                                          \
      sum += s[j];                                                                         \
    }                                                                                      \
    if (lse) *lse = sum == 0 ? (T)INFINITY : top + (T)log((double)sum);                    \
    return sum == 0 ? 0 : 1 / sum;                                                         \
  }                                                                                        \
  static void T##_scale_row(int64_t n, T factor, T *x)                                     \
  {                                                                                        \
    _Pragma("omp simd") for (int64_t j = 0; j < n; j++) x[j] *= factor;                    \
  }                                                                                        \
  static T T##_dot(int64_t n, const T *x, const T *y)                                      \
  {                                                                                        \
    T sum = 0;                                                                             \
    _Pragma("omp simd reduction(+ : sum)") for (int64_t j = 0; j < n; j++)                 \
      sum += x[j] * y[j];                                                                  \
    return sum;                                                                            \
  }                                                                                        \
  static void T##_backward_row(int64_t n, T lse, T delta, T *restrict s, T *restrict dp)   \
  {                                                                                        \
    _Pragma("omp simd") for (int64_t j = 0; j < n; j++)                                    \
    {                                                                                      \
      s[j] = T##_exp(s[j] - lse);                                                          \
      dp[j] = s[j] * (dp[j] - delta);                                                      \
    }                                                                                      \
  }                                                                                        \
  static void T##_mask_row(int64_t n, const uint8_t *mask, int64_t stride, T *s)           \
  {                                                                                        \
    for (int64_t j = 0; j < n; j++)                                                        \
      if (!mask[j * stride]) s[j] = -(T)INFINITY;                                          \
  }                                                                                        \
  static void T##_fill_row(int64_t n, T value, T *x)                                       \
  {                                                                                        \
    for (int64_t j = 0; j < n; j++) x[j] = value;                                          \
  }

DEFINE_ROWS(float)
DEFINE_ROWS(double)

/* Call one of the row functions for the element type. */
#define ROWS(a, f, T_args, D_args) ((a)->dtype == LM_F32 ? float_##f T_args : double_##f D_args)

static int64_t block_rows(const heads *a)
{
  int64_t rows = lm_min64(lm_max64(BLOCK / a->m, MIN_ROWS), MAX_ROWS);
  return lm_min64(rows, lm_max64(a->l, 1));
}

/* Scores of query rows first .. first + rows - 1 into s [rows x m]; returns the number of
 * keys that they can see. */
static int64_t scores(const heads *a, const head *e, int64_t first, int64_t rows, char *s)
{
  int64_t cols = a->causal ? lm_min64(a->m, first + rows) : a->m;
  gemm(a->dtype, false, true, rows, cols, a->d, a->scale, e->q + first * a->q_row * a->size,
       a->q_row, e->k, a->kv_row, 0, s, a->m);
  if (!a->causal && !e->mask) return cols;
  for (int64_t i = 0; i < rows; i++) {
    char *row = s + i * a->m * a->size;
    const uint8_t *mask = e->mask ? e->mask + (first + i) * a->mask_stride[2] : NULL;
    int64_t seen = a->causal ? lm_min64(cols, first + i + 1) : cols;
    if (mask)
      ROWS(a, mask_row, (seen, mask, a->mask_stride[3], (float *)row),
           (seen, mask, a->mask_stride[3], (double *)row));
    ROWS(a, fill_row, (cols - seen, -INFINITY, (float *)row + seen),
         (cols - seen, -(double)INFINITY, (double *)row + seen));
  }
  return cols;
}

static void forward_head(const heads *a, const head *e, char *s)
{
  int64_t step = block_rows(a), width = a->h * a->d;
  for (int64_t first = 0; first < a->l; first += step) {
    int64_t rows = lm_min64(step, a->l - first);
    int64_t cols = scores(a, e, first, rows, s);
    char *out = e->out + first * width * a->size;
    double inverse[MAX_ROWS];
    for (int64_t i = 0; i < rows; i++) {
      char *lse = at(e->lse, first + i, a->size), *row = s + i * a->m * a->size;
      inverse[i] = ROWS(a, softmax_row, (cols, (float *)row, (float *)lse),
                        (cols, (double *)row, (double *)lse));
    }
    gemm(a->dtype, false, false, rows, a->d, cols, 1, s, a->m, e->v, a->kv_row, 0, out, width);
    for (int64_t i = 0; i < rows; i++) {
      char *row = out + i * width * a->size;
      ROWS(a, scale_row, (a->d, (float)inverse[i], (float *)row),
           (a->d, inverse[i], (double *)row));
    }
  }
}

/* With P the probabilities and dO the gradient of the output O:
 *   dV = P^T dO,  dP = dO V^T,  dS = P (dP - rowsum(dO O)),  dQ = scale dS K,  dK = scale dS^T Q */
static void backward_head(const heads *a, const head *e, char *s, char *dp)
{
  int64_t step = block_rows(a), width = a->h * a->d, size = a->size, d = a->d;
  for (int64_t j = 0; j < a->m; j++) {
    memset(e->gk + j * a->kv_row * size, 0, (size_t)(d * size));
    memset(e->gv + j * a->kv_row * size, 0, (size_t)(d * size));
  }
  for (int64_t first = 0; first < a->l; first += step) {
    int64_t rows = lm_min64(step, a->l - first);
    int64_t cols = scores(a, e, first, rows, s);
    const char *g = e->g + first * width * size, *o = e->out + first * width * size;
    gemm(a->dtype, false, true, rows, cols, d, 1, g, width, e->v, a->kv_row, 0, dp, a->m);
    for (int64_t i = 0; i < rows; i++) {
      const char *gi = g + i * width * size, *oi = o + i * width * size;
      const char *lse = e->lse + (first + i) * size;
      char *si = s + i * a->m * size, *dpi = dp + i * a->m * size;
      if (a->dtype == LM_F32)
        float_backward_row(cols, *(const float *)lse,
                           float_dot(d, (const float *)gi, (const float *)oi), (float *)si,
                           (float *)dpi);
      else
        double_backward_row(cols, *(const double *)lse,
                            double_dot(d, (const double *)gi, (const double *)oi),
                            (double *)si, (double *)dpi);
    }
    const char *q = e->q + first * a->q_row * size;
    gemm(a->dtype, true, false, cols, d, rows, 1, s, a->m, g, width, 1, e->gv, a->kv_row);
    gemm(a->dtype, false, false, rows, d, cols, a->scale, dp, a->m, e->k, a->kv_row, 0,
         e->gq + first * a->q_row * size, a->q_row);
    gemm(a->dtype, true, false, cols, d, rows, a->scale, dp, a->m, q, a->q_row, 1, e->gk,
         a->kv_row);
  }
}

/* All heads of all samples: backward when a->gk is there, else forward. */
static lm_status run(const lm_call *c, const heads *a)
{
  int64_t block = block_rows(a) * a->m, buffers = a->gk ? 2 : 1, tasks = a->n * a->h;
  int64_t shape[3] = {lm_threads(), buffers, block};
  lm_tensor *scratch;
  LM_TRY(lm_tensor_new(c->device, a->dtype, 3, shape, &scratch));
  char *base = lm_data(scratch);
  /* Results do not depend on which thread takes a head. */
#pragma omp parallel for schedule(dynamic) if (tasks > 1 && tasks * a->l * a->m > 4096)
  for (int64_t t = 0; t < tasks; t++) {
    head e = head_of(a, t / a->h, t % a->h);
    char *s = base + omp_get_thread_num() * buffers * block * a->size;
    if (a->gk) backward_head(a, &e, s, s + block * a->size);
    else forward_head(a, &e, s);
  }
  lm_release(scratch);
  return LM_OK;
}

static lm_status check_heads(const lm_call *c, int64_t width, int64_t count)
{
  if (count >= 1 && width % count == 0) return LM_OK;
  return lm_op_fail(c, LM_ERR_ARG, "heads is %lld, which does not divide the width %lld",
                    (long long)count, (long long)width);
}

static lm_status save_lse(lm_call *c, int64_t n, int64_t h, int64_t l)
{
  return lm_save(c, 0, c->in[0]->dtype == LM_F64 ? LM_F64 : LM_F32, 3, (int64_t[]){n, h, l});
}

/* ---- qkv_attention ---- */

static heads packed_heads(const lm_call *c, const lm_tensor *qkv, int64_t count)
{
  int64_t width = qkv->shape[2] / 3, size = lm_dtype_size(qkv->dtype);
  const char *base = lm_data(qkv);
  heads a = {
    .dtype = qkv->dtype, .size = size, .n = qkv->shape[0], .h = count, .l = qkv->shape[1],
    .m = qkv->shape[1], .d = width / count, .causal = c->param[1].i != 0, .q = base,
    .k = base + width * size, .v = base + 2 * width * size, .q_row = 3 * width,
    .kv_row = 3 * width};
  a.scale = 1 / sqrt((double)a.d);
  return a;
}

static lm_status qkv_infer(lm_call *c)
{
  const lm_tensor *x = c->in[0];
  LM_TRY(lm_check_float(c, 0));
  LM_TRY(lm_check_ndim(c, 0, 3));
  if (x->shape[2] % 3 != 0)
    return lm_op_fail(c, LM_ERR_SHAPE,
                      "the last dimension holds queries, keys and values, so it must be a "
                      "multiple of 3 (qkv: %s)", lm_describe(x));
  int64_t width = x->shape[2] / 3, count = c->param[0].i;
  LM_TRY(check_heads(c, width, count));
  LM_TRY(lm_out(c, 0, x->dtype, 3, (int64_t[]){x->shape[0], x->shape[1], width}));
  return save_lse(c, x->shape[0], count, x->shape[1]);
}

static lm_status qkv_cpu(lm_call *c)
{
  heads a = packed_heads(c, c->in[0], c->param[0].i);
  a.out = lm_data(c->out[0]);
  a.lse = c->save[0] ? lm_data(c->save[0]) : NULL;
  return run(c, &a);
}

static lm_status qkv_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  return lm_apply(&lm_op_qkv_attention_backward,
                  LM_IN(c->in[0], c->out[0], c->save[0], gout[0]), c->param, gin);
}

const lm_op lm_op_qkv_attention = {
  .name = "qkv_attention",
  .sig = "qkv; heads: int, causal: bool = false",
  .doc = "Self-attention of qkv [N, L, 3*D], whose last dimension is [3, heads, D/heads] "
         "(queries, keys, values), -> [N, L, D]: softmax(Q K^T / sqrt(D/heads)) V per head. "
         "causal: token i sees tokens up to i. Memory for backward is [N, heads, L]. "
         "Source: arXiv 1706.03762, eq. 1; computed in blocks as in arXiv 2205.14135.",
  .infer = qkv_infer,
  .cpu = qkv_cpu,
  .grad = qkv_grad,
  .save_in = 1,
  .save_out = 1,
};

static lm_status qkv_backward_infer(lm_call *c)
{
  return lm_out_like(c, 0, c->in[0]);
}

static lm_status qkv_backward_cpu(lm_call *c)
{
  heads a = packed_heads(c, c->in[0], c->param[0].i);
  int64_t width = c->in[0]->shape[2] / 3;
  a.out = lm_data(c->in[1]);
  a.lse = lm_data(c->in[2]);
  a.g = lm_data(c->in[3]);
  a.gq = lm_data(c->out[0]);
  a.gk = a.gq + width * a.size;
  a.gv = a.gk + width * a.size;
  return run(c, &a);
}

const lm_op lm_op_qkv_attention_backward = {
  .name = "qkv_attention_backward",
  .sig = "qkv, out, lse, g; heads: int, causal: bool = false",
  .doc = "Gradient of qkv_attention for qkv.",
  .infer = qkv_backward_infer,
  .cpu = qkv_backward_cpu,
  .flags = LM_OP_INTERNAL,
};

/* ---- attention ---- */

static heads plain_heads(const lm_call *c)
{
  const lm_tensor *q = c->in[0], *k = c->in[1], *mask = c->in[3];
  int64_t width = q->shape[2], count = c->param[0].i;
  heads a = {
    .dtype = q->dtype, .size = lm_dtype_size(q->dtype), .n = q->shape[0], .h = count,
    .l = q->shape[1], .m = k->shape[1], .d = width / count, .causal = c->param[1].i != 0,
    .scale = c->param[2].f, .q = lm_data(q), .k = lm_data(k), .v = lm_data(c->in[2]),
    .q_row = width, .kv_row = width};
  if (a.scale == 0) a.scale = 1 / sqrt((double)a.d);
  if (mask) {
    a.mask = lm_data(mask);
    for (int d = 0; d < mask->ndim; d++)
      a.mask_stride[4 - mask->ndim + d] = mask->shape[d] == 1 ? 0 : mask->stride[d];
  }
  return a;
}

static lm_status check_mask(const lm_call *c)
{
  const lm_tensor *q = c->in[0], *mask = c->in[3];
  LM_TRY(lm_check_dtype(c, 3, LM_U8));
  int64_t full[4] = {q->shape[0], c->param[0].i, q->shape[1], c->in[1]->shape[1]};
  bool fits = mask->ndim <= 4;
  for (int d = 0; fits && d < mask->ndim; d++) {
    int64_t want = full[4 - mask->ndim + d];
    fits = mask->shape[d] == want || mask->shape[d] == 1;
  }
  if (fits) return LM_OK;
  return lm_op_fail(c, LM_ERR_SHAPE,
                    "mask has shape %s, which does not broadcast to [N, heads, L, M] = %s",
                    lm_shape_text(mask->ndim, mask->shape), lm_shape_text(4, full));
}

static lm_status attention_infer(lm_call *c)
{
  const lm_tensor *q = c->in[0], *k = c->in[1], *v = c->in[2];
  LM_TRY(lm_check_float(c, 0));
  for (int i = 0; i < 3; i++) {
    LM_TRY(lm_check_ndim(c, i, 3));
    LM_TRY(lm_check_same_dtype(c, 0, i));
  }
  if (k->shape[0] != q->shape[0] || k->shape[2] != q->shape[2] || !lm_same_shape(k, v))
    return lm_op_fail(c, LM_ERR_SHAPE,
                      "q [N, L, D], k and v [N, M, D] do not fit (q: %s, k: %s, v: %s)",
                      lm_describe(q), lm_describe(k), lm_describe(v));
  if (k->shape[1] == 0)
    return lm_op_fail(c, LM_ERR_SHAPE, "k has no tokens (k: %s)", lm_describe(k));
  LM_TRY(check_heads(c, q->shape[2], c->param[0].i));
  if (c->in[3]) LM_TRY(check_mask(c));
  LM_TRY(lm_out_like(c, 0, q));
  return save_lse(c, q->shape[0], c->param[0].i, q->shape[1]);
}

static lm_status attention_cpu(lm_call *c)
{
  heads a = plain_heads(c);
  a.out = lm_data(c->out[0]);
  a.lse = c->save[0] ? lm_data(c->save[0]) : NULL;
  return run(c, &a);
}

static lm_status attention_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  lm_tensor *part[3];
  LM_TRY(lm_apply(&lm_op_attention_backward,
                  LM_IN(c->in[0], c->in[1], c->in[2], c->in[3], c->out[0], c->save[0],
                        gout[0]),
                  c->param, part));
  for (int i = 0; i < 3; i++) {
    if (lm_wants(c, i)) gin[i] = part[i];
    else lm_release(part[i]);
  }
  return LM_OK;
}

const lm_op lm_op_attention = {
  .name = "attention",
  .sig = "q, k, v, mask?; heads: int, causal: bool = false, scale: float = 0",
  .doc = "Attention of q [N, L, D] on k, v [N, M, D] -> [N, L, D]: softmax(scale Q K^T) V per "
         "head; scale 0 means 1/sqrt(D/heads). mask: u8, broadcast to [N, heads, L, M], 1 "
         "where a query may see a key; a query that sees none gives 0. causal: query i sees "
         "keys up to i. Source: arXiv 1706.03762, eq. 1; in blocks as in arXiv 2205.14135.",
  .infer = attention_infer,
  .cpu = attention_cpu,
  .grad = attention_grad,
  .save_in = 15,
  .save_out = 1,
};

static lm_status attention_backward_infer(lm_call *c)
{
  for (int i = 0; i < 3; i++) LM_TRY(lm_out_like(c, i, c->in[i]));
  return LM_OK;
}

static lm_status attention_backward_cpu(lm_call *c)
{
  heads a = plain_heads(c);
  a.out = lm_data(c->in[4]);
  a.lse = lm_data(c->in[5]);
  a.g = lm_data(c->in[6]);
  a.gq = lm_data(c->out[0]);
  a.gk = lm_data(c->out[1]);
  a.gv = lm_data(c->out[2]);
  return run(c, &a);
}

const lm_op lm_op_attention_backward = {
  .name = "attention_backward",
  .sig = "q, k, v, mask?, out, lse, g; heads: int, causal: bool = false, scale: float = 0",
  .doc = "Gradients of attention for q, k and v.",
  .infer = attention_backward_infer,
  .cpu = attention_backward_cpu,
  .flags = LM_OP_INTERNAL,
};
