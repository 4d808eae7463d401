/* attention.c: multi-head attention softmax(scale Q K^T) V, forward and backward.
 *
 *   qkv_attention   queries, keys and values packed in one tensor, as timm's ViT makes them
 *   attention       separate tensors, optional mask, cross attention
 *
 * Work is spread over (sample, head); each thread handles blocks of query rows against all
 * keys, in buffers of its own, so that the L x M matrix never exists. The products are too
 * small for a BLAS library to be at its best: they have their own kernel in
 * attention_kernel.h. For backward only the logarithm of each row's sum of exponentials is
 * kept; the blocks are computed again. */
#include <math.h>
#include <omp.h>

#include "cpu/cpu.h"
#include "cpu/vmath.h"
#include "graph/op.h"

#define BLOCK 16384  /* elements of a block of scores, about */
#define ROWS_UNIT 24 /* its rows are a multiple of this: whole tiles of every height */
#define MAX_ROWS 504

extern const lm_op lm_op_qkv_attention_backward, lm_op_attention_backward;

/* A batch of heads. Pointers are to sample 0, head 0; `*_row` is the distance of two tokens;
 * samples follow each other without a gap. */
typedef struct heads {
  lm_dtype dtype;
  int64_t size; /* of an element, in bytes */
  int64_t n, h, l, m, d;
  int64_t step; /* rows in a block */
  double scale;
  bool causal;
  const char *q, *k, *v;
  int64_t q_row, kv_row;
  const uint8_t *mask;    /* NULL: none */
  int64_t mask_stride[4]; /* sample, head, query, key; 0 where broadcast */
  char *out, *lse;        /* [n, l, h*d], [n, h, l]; lse may be NULL in forward */
  const char *g;          /* backward: gradient of out */
  char *gq, *gk, *gv;     /* laid out as q, k, v */
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

/* Vectors and tiles of products as wide and as high as the registers allow. */
#ifdef __AVX512F__
#define VECTOR_BYTES 64
#define TILE_ROWS(width) ((width) == 2 ? 12 : (width) == 3 ? 8 : 6)
#else
#define VECTOR_BYTES 32
#define TILE_ROWS(width) ((width) == 2 ? 6 : (width) == 3 ? 4 : 3)
#endif
#define MAX_TILE_ROWS 12

#define T float
#define EXP lm_expf
#define LOG lm_logf
#define NAME(x) float_##x
#include "ops/attention_kernel.h"
#undef T
#undef EXP
#undef LOG
#undef NAME

#define T double
#define EXP exp
#define LOG log
#define NAME(x) double_##x
#include "ops/attention_kernel.h"
#undef T
#undef EXP
#undef LOG
#undef NAME

/* All heads of all samples: backward when a->gk is there, else forward. */
static lm_status run(const lm_call *c, heads *a)
{
  bool single = a->dtype == LM_F32;
  int64_t rows = BLOCK / lm_max64(a->m, 1) / ROWS_UNIT * ROWS_UNIT, tasks = a->n * a->h;
  a->step = lm_min64(lm_min64(lm_max64(rows, ROWS_UNIT), MAX_ROWS), a->l);
  int64_t shape[2] = {lm_threads(), single ? float_buffer_size(a) : double_buffer_size(a)};
  lm_tensor *scratch;
  LM_TRY(lm_tensor_new(c->device, a->dtype, 2, shape, &scratch));
  char *base = lm_data(scratch);
  /* Results do not depend on which thread takes a head. */
#pragma omp parallel for schedule(dynamic) if (tasks > 1 && tasks * a->l * a->m > 4096)
  for (int64_t t = 0; t < tasks; t++) {
    head e = head_of(a, t / a->h, t % a->h);
    void *buffer = base + omp_get_thread_num() * shape[1] * a->size;
    if (single && a->gk) float_backward(a, &e, buffer);
    else if (single) float_forward(a, &e, buffer);
    else if (a->gk) double_backward(a, &e, buffer);
    else double_forward(a, &e, buffer);
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

/* `products` matrix products between all queries and keys; half of them when causal. */
static void scores_work(double products, const lm_tensor *out, int64_t keys, bool causal,
                        lm_work *w)
{
  w->flops = 2 * products * (double)lm_numel(out) * (double)keys * (causal ? 0.5 : 1);
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

static void qkv_work(const lm_call *c, lm_work *w)
{
  scores_work(2, c->out[0], c->in[0]->shape[1], c->param[1].i != 0, w);
}

const lm_op lm_op_qkv_attention = {
  .name = "qkv_attention",
  .sig = "qkv; heads: int, causal: bool = false",
  .doc = "Self-attention of qkv [N, L, 3*D], whose last dimension is [3, heads, D/heads] "
         "(queries, keys, values), -> [N, L, D]: softmax(Q K^T / sqrt(D/heads)) V per head. "
         "causal: token i sees tokens up to i. Memory for backward is [N, heads, L]. "
         "Source: arXiv 1706.03762, eq. 1; computed in blocks as in arXiv 2205.14135.\n"
         "> lumen.qkv_attention(lumen.randn(2, 5, 3 * 8), {heads = 2}).shape\n"
         "{2, 5, 8}",
  .infer = qkv_infer,
  .cpu = qkv_cpu,
  .grad = qkv_grad,
  .save_in = 1,
  .save_out = 1,
  .work = qkv_work,
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

/* The scores again, and four gradients: of scores, values, queries and keys. */
static void qkv_backward_work(const lm_call *c, lm_work *w)
{
  scores_work(5, c->in[1], c->in[0]->shape[1], c->param[1].i != 0, w);
}

const lm_op lm_op_qkv_attention_backward = {
  .name = "qkv_attention_backward",
  .sig = "qkv, out, lse, g; heads: int, causal: bool = false",
  .doc = "Gradient of qkv_attention for qkv.",
  .infer = qkv_backward_infer,
  .cpu = qkv_backward_cpu,
  .flags = LM_OP_INTERNAL,
  .work = qkv_backward_work,
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

static void attention_work(const lm_call *c, lm_work *w)
{
  scores_work(2, c->out[0], c->in[1]->shape[1], c->param[1].i != 0, w);
}

const lm_op lm_op_attention = {
  .name = "attention",
  .sig = "q, k, v, mask?; heads: int, causal: bool = false, scale: float = 0",
  .doc = "Attention of q [N, L, D] on k, v [N, M, D] -> [N, L, D]: softmax(scale Q K^T) V per "
         "head; scale 0 means 1/sqrt(D/heads). mask: u8, broadcast to [N, heads, L, M], 1 "
         "where a query may see a key; a query that sees none gives 0. causal: query i sees "
         "keys up to i. Source: arXiv 1706.03762, eq. 1; in blocks as in arXiv 2205.14135.\n"
         "> q, k = lumen.randn(2, 5, 8), lumen.randn(2, 7, 8)\n"
         "> lumen.attention(q, k, k, {heads = 2}).shape\n"
         "{2, 5, 8}",
  .infer = attention_infer,
  .cpu = attention_cpu,
  .grad = attention_grad,
  .save_in = 15,
  .save_out = 1,
  .work = attention_work,
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

static void attention_backward_work(const lm_call *c, lm_work *w)
{
  scores_work(5, c->in[4], c->in[1]->shape[1], c->param[1].i != 0, w);
}

const lm_op lm_op_attention_backward = {
  .name = "attention_backward",
  .sig = "q, k, v, mask?, out, lse, g; heads: int, causal: bool = false, scale: float = 0",
  .doc = "Gradients of attention for q, k and v.",
  .infer = attention_backward_infer,
  .cpu = attention_backward_cpu,
  .flags = LM_OP_INTERNAL,
  .work = attention_backward_work,
};
