/* matmul.c: matrix products and the linear layer.
 *
 *   matmul        batched product with broadcasting; transposed and row-strided operands go
 *                 to BLAS as they are, other layouts are copied first
 *   linear        x W^T + b with an activation applied in one pass over the product
 *   linear_grad   internal: gradient through activation and bias, one pass
 *
 * Sums over rows (bias gradients) go through partial sums of ROW_CHUNK rows, whose partition
 * does not depend on the number of threads. */
#include <math.h>

#include "cpu/cpu.h"
#include "cpu/vmath.h"
#include "graph/op.h"

#define ROW_CHUNK 64
#define PARALLEL_WORK 65536 /* elements below which threads cost more than they bring */

extern const lm_op lm_op_matmul, lm_op_linear_grad, lm_op_reshape, lm_op_transpose,
    lm_op_contiguous;

/* ---- matmul ---- */

/* One side of a product as a stack of matrices. */
typedef struct operand {
  const char *data;
  int64_t rows, cols, rs, cs; /* a matrix: size and strides */
  bool trans;                 /* for BLAS: stored by columns */
  int64_t ld;
  int nbatch;                 /* leading dimensions */
  const int64_t *bshape, *bstride;
  lm_tensor *copy;            /* owned: contiguous copy of a layout that BLAS cannot read */
} operand;

static void operand_geometry(operand *o, const lm_tensor *t, bool left)
{
  o->data = lm_data(t);
  o->nbatch = t->ndim > 2 ? t->ndim - 2 : 0;
  o->bshape = t->shape;
  o->bstride = t->stride;
  if (t->ndim >= 2) {
    o->rows = lm_size(t, -2);
    o->cols = lm_size(t, -1);
    o->rs = t->stride[t->ndim - 2];
    o->cs = t->stride[t->ndim - 1];
  } else if (left) {
    o->rows = 1;
    o->cols = t->shape[0];
    o->rs = o->cols;
    o->cs = t->stride[0];
  } else {
    o->rows = t->shape[0];
    o->cols = 1;
    o->rs = t->stride[0];
    o->cs = 1;
  }
}

/* Whether BLAS can read the matrices in place; sets trans and ld. */
static bool operand_layout(operand *o)
{
  if ((o->cols <= 1 || o->cs == 1) && (o->rows <= 1 || o->rs >= lm_max64(1, o->cols))) {
    o->trans = false;
    o->ld = o->rows <= 1 ? lm_max64(1, o->cols) : o->rs;
    return true;
  }
  if ((o->rows <= 1 || o->rs == 1) && (o->cols <= 1 || o->cs >= lm_max64(1, o->rows))) {
    o->trans = true;
    o->ld = o->cols <= 1 ? lm_max64(1, o->rows) : o->cs;
    return true;
  }
  return false;
}

static lm_status operand_init(operand *o, lm_tensor *t, bool left)
{
  *o = (operand){0};
  operand_geometry(o, t, left);
  if (operand_layout(o)) return LM_OK;
  lm_tensor *plain;
  LM_TRY(lm_tensor_detach(t, &plain)); /* the copy must not reach the tape */
  lm_status status = lm_apply(&lm_op_contiguous, LM_IN(plain), NULL, &o->copy);
  lm_release(plain);
  if (status != LM_OK) return status;
  operand_geometry(o, o->copy, left);
  operand_layout(o);
  return LM_OK;
}

/* Elements from the start to matrix b of a stack broadcast to `shape`. */
static int64_t operand_offset(const operand *o, int64_t b, int nshape, const int64_t *shape)
{
  int64_t offset = 0;
  for (int d = nshape - 1; d >= 0; d--) {
    int own = d - (nshape - o->nbatch);
    int64_t i = b % shape[d];
    b /= shape[d];
    if (own >= 0 && o->bshape[own] != 1) offset += i * o->bstride[own];
  }
  return offset;
}

/* Whether all rows of all matrices lie at one distance *ld: the stack is one matrix then. */
static bool operand_one_matrix(const operand *o, int64_t *ld)
{
  if (o->trans) return false;
  *ld = o->ld;
  int64_t rows = o->rows; /* so far, all at distance *ld */
  for (int d = o->nbatch - 1; d >= 0; d--) {
    if (o->bshape[d] == 1) continue;
    if (rows == 1 && o->bstride[d] >= lm_max64(1, o->cols)) *ld = o->bstride[d];
    if (o->bstride[d] != *ld * rows) return false;
    rows *= o->bshape[d];
  }
  return true;
}

static void gemm(lm_dtype dtype, bool ta, bool tb, int64_t m, int64_t n, int64_t k,
                 const void *a, int64_t lda, const void *b, int64_t ldb, double beta, void *c,
                 int64_t ldc)
{
  if (dtype == LM_F32)
    lm_sgemm(ta, tb, m, n, k, 1.0f, a, lda, b, ldb, (float)beta, c, ldc);
  else
    lm_dgemm(ta, tb, m, n, k, 1.0, a, lda, b, ldb, beta, c, ldc);
}

static lm_status matmul_infer(lm_call *c)
{
  const lm_tensor *x = c->in[0], *y = c->in[1];
  LM_TRY(lm_check_float(c, 0));
  LM_TRY(lm_check_float(c, 1));
  LM_TRY(lm_check_same_dtype(c, 0, 1));
  if (x->ndim == 0 || y->ndim == 0)
    return lm_op_fail(c, LM_ERR_SHAPE, "x and y need at least one dimension (x: %s, y: %s)",
                      lm_describe(x), lm_describe(y));
  int64_t k = y->ndim == 1 ? y->shape[0] : lm_size(y, -2);
  if (lm_size(x, -1) != k)
    return lm_op_fail(c, LM_ERR_SHAPE,
                      "x has %lld columns but y has %lld rows (x: %s, y: %s)",
                      (long long)lm_size(x, -1), (long long)k, lm_describe(x),
                      lm_describe(y));
  int64_t shape[LM_MAX_DIMS];
  int ndim;
  int bx = x->ndim > 2 ? x->ndim - 2 : 0, by = y->ndim > 2 ? y->ndim - 2 : 0;
  if (lm_broadcast_shapes(bx, x->shape, by, y->shape, &ndim, shape) != LM_OK)
    return lm_op_fail(c, LM_ERR_SHAPE,
                      "leading dimensions of x and y do not broadcast (x: %s, y: %s)",
                      lm_describe(x), lm_describe(y));
  if (x->ndim > 1) shape[ndim++] = lm_size(x, -2);
  if (y->ndim > 1) shape[ndim++] = lm_size(y, -1);
  if (x->ndim > 1 && y->ndim > 1) lm_save_factors(c); /* others are reshaped in backward */
  return lm_out(c, 0, x->dtype, ndim, shape);
}

/* Product b of a batch whose leading dimensions are the first `nshape` of the output. */
static void matmul_one(const lm_call *c, const operand *x, const operand *y, int nshape,
                       int64_t b)
{
  const lm_tensor *out = c->out[0];
  int64_t m = x->rows, n = y->cols, k = x->cols, size = lm_dtype_size(out->dtype);
  const char *xb = x->data + operand_offset(x, b, nshape, out->shape) * size;
  const char *yb = y->data + operand_offset(y, b, nshape, out->shape) * size;
  gemm(out->dtype, x->trans, y->trans, m, n, k, xb, x->ld, yb, y->ld, 0,
       (char *)lm_data(out) + b * m * n * size, n);
}

static void matmul_run(const lm_call *c, const operand *x, const operand *y)
{
  const lm_tensor *out = c->out[0];
  int64_t m = x->rows, n = y->cols, k = x->cols;
  int64_t size = lm_dtype_size(out->dtype);
  char *to = lm_data(out);
  if (k == 0) {
    memset(to, 0, (size_t)(lm_numel(out) * size));
    return;
  }
  int nshape = x->nbatch > y->nbatch ? x->nbatch : y->nbatch;
  int64_t batch = 1, ybatch = 1;
  for (int d = 0; d < nshape; d++) batch *= out->shape[d];
  for (int d = 0; d < y->nbatch; d++) ybatch *= y->bshape[d];
  int64_t ld;
  if (ybatch == 1 && x->nbatch == nshape && operand_one_matrix(x, &ld)) {
    gemm(out->dtype, false, y->trans, m * batch, n, k, x->data, ld, y->data, y->ld, 0, to, n);
    return;
  }
  /* Many small products: one thread each. Few large ones: all threads on each; not inside a
   * region of one thread, where OpenMP would start new threads for every product. */
  bool spread = batch >= lm_threads() && batch > 1 && m * n * k <= 1 << 24 &&
                batch * m * n * k > PARALLEL_WORK;
  if (spread) {
#pragma omp parallel for schedule(static)
    for (int64_t b = 0; b < batch; b++) matmul_one(c, x, y, nshape, b);
  } else {
    for (int64_t b = 0; b < batch; b++) matmul_one(c, x, y, nshape, b);
  }
}

static lm_status matmul_cpu(lm_call *c)
{
  operand x, y;
  LM_TRY(operand_init(&x, c->in[0], true));
  lm_status status = operand_init(&y, c->in[1], false);
  if (status == LM_OK) {
    matmul_run(c, &x, &y);
    lm_release(y.copy);
  }
  lm_release(x.copy);
  return status;
}

/* New references: t as a reshaped tensor, and with its last two dimensions swapped. */
static lm_status reshaped(lm_tensor *t, int ndim, const int64_t *shape, lm_tensor **out)
{
  return lm_apply(&lm_op_reshape, LM_IN(t), LM_PARAMS(lm_ints(ndim, shape)), out);
}
static lm_status transposed(lm_tensor *t, lm_tensor **out)
{
  return lm_apply(&lm_op_transpose, LM_IN(t), NULL, out);
}

/* a^T b for a [m x k], b [m x n], batched. */
static lm_status product_ta(lm_tensor *a, lm_tensor *b, lm_tensor **out)
{
  lm_tensor *at;
  LM_TRY(transposed(a, &at));
  lm_status status = lm_apply(&lm_op_matmul, LM_IN(at, b), NULL, out);
  lm_release(at);
  return status;
}

/* Sum `full` over broadcast dimensions to the shape of `as_matrix`, then to like's own. */
static lm_status to_shape_of(lm_tensor *full, const lm_tensor *as_matrix,
                             const lm_tensor *like, lm_tensor **out)
{
  lm_tensor *summed;
  LM_TRY(lm_sum_to(full, as_matrix, &summed));
  lm_status status = reshaped(summed, like->ndim, like->shape, out);
  lm_release(summed);
  return status;
}

/* One gradient of a product of matrices x, y (1-D operands already made matrices). */
static lm_status matmul_grad_x(lm_tensor *g, lm_tensor *y, const lm_tensor *x2,
                               const lm_tensor *x, lm_tensor **out)
{
  lm_tensor *yt = NULL, *full = NULL;
  lm_status status;
  LM_TRY_GOTO(status, done, transposed(y, &yt));
  LM_TRY_GOTO(status, done, lm_apply(&lm_op_matmul, LM_IN(g, yt), NULL, &full));
  status = to_shape_of(full, x2, x, out);
done:
  lm_release(yt);
  lm_release(full);
  return status;
}

static lm_status matmul_grad_y(lm_tensor *g, lm_tensor *x, const lm_tensor *y2,
                               const lm_tensor *y, lm_tensor **out)
{
  lm_tensor *gf = NULL, *xf = NULL, *full = NULL;
  lm_status status;
  if (y2->ndim == 2 && x->ndim > 2) { /* one product instead of a batch and its sum */
    int64_t gs[2] = {-1, lm_size(g, -1)}, xs[2] = {-1, lm_size(x, -1)};
    gs[0] = xs[0] = 1;
    for (int d = 0; d < x->ndim - 1; d++) gs[0] = xs[0] *= x->shape[d];
    LM_TRY_GOTO(status, done, reshaped(g, 2, gs, &gf));
    LM_TRY_GOTO(status, done, reshaped(x, 2, xs, &xf));
  } else {
    gf = lm_retain(g);
    xf = lm_retain(x);
  }
  LM_TRY_GOTO(status, done, product_ta(xf, gf, &full));
  status = to_shape_of(full, y2, y, out);
done:
  lm_release(gf);
  lm_release(xf);
  lm_release(full);
  return status;
}

static lm_status matmul_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  lm_tensor *x = c->in[0], *y = c->in[1], *x2 = NULL, *y2 = NULL, *g2 = NULL;
  int64_t xs[2] = {1, lm_size(x, -1)}, ys[2] = {y->shape[0], 1}, gs[LM_MAX_DIMS + 1];
  lm_status status;
  /* 1-D operands as matrices; the gradient gets the missing dimensions of size 1. */
  if (x->ndim == 1) LM_TRY_GOTO(status, done, reshaped(x, 2, xs, &x2));
  else x2 = lm_retain(x);
  if (y->ndim == 1) LM_TRY_GOTO(status, done, reshaped(y, 2, ys, &y2));
  else y2 = lm_retain(y);
  int n = gout[0]->ndim - (x->ndim > 1) - (y->ndim > 1);
  memcpy(gs, gout[0]->shape, sizeof(int64_t) * (size_t)n);
  gs[n++] = lm_size(x2, -2);
  gs[n++] = lm_size(y2, -1);
  LM_TRY_GOTO(status, done, reshaped(gout[0], n, gs, &g2));
  if (lm_wants(c, 0)) LM_TRY_GOTO(status, done, matmul_grad_x(g2, y2, x2, x, &gin[0]));
  if (lm_wants(c, 1)) LM_TRY_GOTO(status, done, matmul_grad_y(g2, x2, y2, y, &gin[1]));
done:
  lm_release(x2);
  lm_release(y2);
  lm_release(g2);
  return status;
}

/* Two flops per element of the result and of the dimension summed over: x's last. */
static void product_work(const lm_call *c, lm_work *w)
{
  w->flops = 2.0 * (double)lm_numel(c->out[0]) * (double)lm_size(c->in[0], -1);
}

const lm_op lm_op_matmul = {
  .name = "matmul",
  .sig = "x, y",
  .doc = "Matrix product x [..., m, k] y [..., k, n] -> [..., m, n]; leading dimensions "
         "broadcast; a one-dimensional x is a row, a one-dimensional y a column, and that "
         "dimension is missing from the result. Transposed views cost nothing.\n"
         "> lumen.tensor{{1, 2}, {3, 4}}:matmul(lumen.tensor{10, 1})\n"
         "f32 [2] {12, 34}\n"
         "> lumen.randn(8, 5, 3):matmul(lumen.randn(3, 4)).shape\n"
         "{8, 5, 4}",
  .infer = matmul_infer,
  .cpu = matmul_cpu,
  .grad = matmul_grad,
  .flags = LM_OP_STRIDED,
  .save_in = 3,
  .work = product_work,
};

/* ---- activations ---- */

typedef enum activation { ACT_NONE, ACT_RELU, ACT_GELU, ACT_SILU, ACT_COUNT } activation;

static lm_status activation_parse(const lm_call *c, const char *name, activation *out)
{
  static const char *const names[ACT_COUNT] = {"none", "relu", "gelu", "silu"};
  for (int a = 0; a < ACT_COUNT; a++) {
    if (strcmp(name, names[a]) == 0) {
      *out = (activation)a;
      return LM_OK;
    }
  }
  return lm_op_fail(c, LM_ERR_ARG, "activation \"%s\" is not one of none, relu, gelu, silu",
                    name);
}

static inline float float_exp(float x) { return lm_expf(x); }
static inline double double_exp(double x) { return exp(x); }
static inline float float_gelu(float x) { return lm_geluf(x); }
static inline float float_gelu_d(float x) { return lm_gelu_gradf(x); }
static inline double double_gelu(double x)
{
  return 0.5 * x * erfc(-x * 0.70710678118654752440);
}
static inline double double_gelu_d(double x)
{
  return 0.5 * erfc(-x * 0.70710678118654752440) +
         x * 0.39894228040143267794 * exp(-0.5 * x * x);
}

#define DEFINE_ACTIVATION(T)                                                               \
  static inline T T##_relu(T x) { return x > 0 || x != x ? x : 0; }                        \
  static inline T T##_relu_d(T x) { return x > 0 ? 1 : 0; }                                \
  static inline T T##_silu(T x) { return x / (1 + T##_exp(-x)); }                          \
  static inline T T##_silu_d(T x)                                                          \
  {                                                                                        \
    T s = 1 / (1 + T##_exp(-x));                                                           \
    return s * (1 + x * (1 - s));                                                          \
  }                                                                                        \
  static void T##_act(activation a, int64_t n, const T *x, T *y)                           \
  {                                                                                        \
    if (a == ACT_RELU) {                                                                   \
      _Pragma("omp simd") for (int64_t i = 0; i < n; i++) y[i] = T##_relu(x[i]);           \
    } else if (a == ACT_GELU) {                                                            \
      _Pragma("omp simd") for (int64_t i = 0; i < n; i++) y[i] = T##_gelu(x[i]);           \
    } else {                                                                               \
      _Pragma("omp simd") for (int64_t i = 0; i < n; i++) y[i] = T##_silu(x[i]);           \
    }                                                                                      \
  }                                                                                        \
  /* gx = g * act'(x), and sum += gx. For ACT_NONE only the sum. */                        \
  static void T##_act_backward(activation a, int64_t n, const T *restrict g,               \
                               const T *restrict x, T *restrict gx, T *restrict sum)       \
  {                                                                                        \
    if (a == ACT_NONE) {                                                                   \
      _Pragma("omp simd") for (int64_t i = 0; i < n; i++) sum[i] += g[i];                  \
      return;                                                                              \
    }                                                                                      \
    if (a == ACT_RELU) {                                                                   \
      _Pragma("omp simd") for (int64_t i = 0; i < n; i++) gx[i] = g[i] * T##_relu_d(x[i]); \
    } else if (a == ACT_GELU) {                                                            \
      _Pragma("omp simd") for (int64_t i = 0; i < n; i++) gx[i] = g[i] * T##_gelu_d(x[i]); \
    } else {                                                                               \
      _Pragma("omp simd") for (int64_t i = 0; i < n; i++) gx[i] = g[i] * T##_silu_d(x[i]); \
    }                                                                                      \
    _Pragma("omp simd") for (int64_t i = 0; i < n; i++) sum[i] += gx[i];                   \
  }                                                                                        \
  /* sum of `n` rows of partial sums, in double */                                         \
  static void T##_fold(int64_t n, int64_t width, const T *part, T *sum)                    \
  {                                                                                        \
    for (int64_t j = 0; j < width; j++) {                                                  \
      double s = 0;                                                                        \
      for (int64_t i = 0; i < n; i++) s += (double)part[i * width + j];                    \
      sum[j] = (T)s;                                                                       \
    }                                                                                      \
  }

DEFINE_ACTIVATION(float)
DEFINE_ACTIVATION(double)

/* ---- linear ---- */

/* The activation once more; without one there would be the whole product to make. */
static lm_status linear_remake(lm_call *c, lm_tensor **out)
{
  return lm_apply(lm_op_find(c->param[0].s), LM_IN(c->save[0]), NULL, out);
}

static lm_status linear_infer(lm_call *c)
{
  const lm_tensor *x = c->in[0], *w = c->in[1], *b = c->in[2];
  activation a = ACT_NONE;
  LM_TRY(activation_parse(c, c->param[0].s, &a));
  LM_TRY(lm_check_float(c, 0));
  LM_TRY(lm_check_same_dtype(c, 0, 1));
  LM_TRY(lm_check_ndim(c, 1, 2));
  if (x->ndim == 0 || lm_size(x, -1) != w->shape[1])
    return lm_op_fail(c, LM_ERR_SHAPE,
                      "weight has shape %s, so x needs the last dimension %lld (x: %s)",
                      lm_shape_text(w->ndim, w->shape), (long long)w->shape[1],
                      lm_describe(x));
  if (b) {
    LM_TRY(lm_check_same_dtype(c, 0, 2));
    if (b->ndim != 1 || b->shape[0] != w->shape[0])
      return lm_op_fail(c, LM_ERR_SHAPE, "bias has shape %s but weight has shape %s",
                        lm_shape_text(b->ndim, b->shape), lm_shape_text(w->ndim, w->shape));
  }
  int64_t shape[LM_MAX_DIMS];
  memcpy(shape, x->shape, sizeof shape);
  shape[x->ndim - 1] = w->shape[0];
  LM_TRY(lm_out(c, 0, x->dtype, x->ndim, shape));
  lm_save_factors(c);
  if (a == ACT_NONE) return LM_OK;
  bool widened = x->dtype == LM_BF16 && c->device->kind == LM_CPU; /* the f32 sum is kept */
  if (!widened) c->remake = linear_remake;
  return lm_save(c, 0, widened ? LM_F32 : x->dtype, x->ndim, shape);
}

/* The bias goes into the output first: BLAS then adds to it instead of clearing it. */
static lm_status linear_cpu(lm_call *c)
{
  const lm_tensor *x = c->in[0], *w = c->in[1], *bias = c->in[2], *out = c->out[0];
  activation a = ACT_NONE;
  LM_TRY(activation_parse(c, c->param[0].s, &a));
  int64_t n = w->shape[0], k = w->shape[1], m = lm_numel(out) / n;
  size_t row = (size_t)(n * lm_dtype_size(out->dtype));
  char *y = lm_data(out), *pre = a != ACT_NONE && c->save[0] ? lm_data(c->save[0]) : y;
  if (bias || k == 0) {
    const void *b = bias ? lm_data(bias) : NULL;
#pragma omp parallel for schedule(static) if (m * n > PARALLEL_WORK)
    for (int64_t i = 0; i < m; i++) {
      if (b) memcpy(pre + (size_t)i * row, b, row);
      else memset(pre + (size_t)i * row, 0, row);
    }
  }
  if (k > 0)
    gemm(out->dtype, false, true, m, n, k, lm_data(x), k, lm_data(w), k, bias ? 1 : 0, pre, n);
  if (a == ACT_NONE) return LM_OK;
#pragma omp parallel for schedule(static) if (m * n > PARALLEL_WORK)
  for (int64_t i = 0; i < m; i++) {
    if (out->dtype == LM_F32)
      float_act(a, n, (const float *)pre + i * n, (float *)y + i * n);
    else
      double_act(a, n, (const double *)pre + i * n, (double *)y + i * n);
  }
  return LM_OK;
}

/* Gradients given the one of the pre-activation: gx = g W, gw = g^T x. */
static lm_status linear_products(lm_call *c, lm_tensor *g, lm_tensor **gin)
{
  lm_tensor *x = c->in[0], *w = c->in[1], *g2 = NULL, *x2 = NULL;
  lm_status status = LM_OK;
  if (lm_wants(c, 0))
    LM_TRY_GOTO(status, done, lm_apply(&lm_op_matmul, LM_IN(g, w), NULL, &gin[0]));
  if (lm_wants(c, 1)) {
    int64_t m = 1;
    for (int d = 0; d < x->ndim - 1; d++) m *= x->shape[d];
    int64_t gs[2] = {m, w->shape[0]}, xs[2] = {m, w->shape[1]};
    LM_TRY_GOTO(status, done, reshaped(g, 2, gs, &g2));
    LM_TRY_GOTO(status, done, reshaped(x, 2, xs, &x2));
    status = product_ta(g2, x2, &gin[1]);
  }
done:
  lm_release(g2);
  lm_release(x2);
  return status;
}

static lm_status linear_grad_rule(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  bool bias = c->in[2] && lm_wants(c, 2), act = c->save[0] != NULL;
  lm_tensor *part[2] = {NULL, NULL};
  if (bias || act)
    LM_TRY(lm_apply(&lm_op_linear_grad, LM_IN(gout[0], c->save[0]), c->param, part));
  lm_status status = linear_products(c, act ? part[1] : gout[0], gin);
  if (bias) gin[2] = lm_retain(part[0]);
  lm_release(part[0]);
  lm_release(part[1]);
  return status;
}

const lm_op lm_op_linear = {
  .name = "linear",
  .sig = "x, weight, bias?; activation: str = none",
  .doc = "act(x W^T + b) for x [..., in], weight [out, in], bias [out] -> [..., out]; "
         "activation is none, relu, gelu (with erf) or silu, and is applied in the same pass. "
         "Keeps the value before the activation for backward only.\n"
         "> x, weight, bias = lumen.ones(2, 3), lumen.ones(4, 3), lumen.zeros(4)\n"
         "> lumen.linear(x, weight, bias, {activation = \"relu\"})\n"
         "f32 [2 x 4] {3, 3, 3, 3, 3, 3, 3, 3}",
  .infer = linear_infer,
  .cpu = linear_cpu,
  .grad = linear_grad_rule,
  .save_in = 3,
  .work = product_work,
};

/* ---- linear_grad: (sum over rows of gpre [out], gpre) ---- */

static lm_status linear_grad_infer(lm_call *c)
{
  const lm_tensor *g = c->in[0];
  LM_TRY(lm_out(c, 0, g->dtype, 1, &g->shape[g->ndim - 1]));
  return c->in[1] ? lm_out_like(c, 1, g) : LM_OK;
}

static lm_status linear_grad_cpu(lm_call *c)
{
  const lm_tensor *g = c->in[0], *pre = c->in[1];
  activation a = ACT_NONE;
  LM_TRY(activation_parse(c, c->param[0].s, &a));
  bool single = g->dtype == LM_F32;
  int64_t n = lm_size(g, -1), m = lm_numel(g) / n, chunks = (m + ROW_CHUNK - 1) / ROW_CHUNK;
  lm_tensor *partial;
  LM_TRY(lm_tensor_new(c->device, g->dtype, 2, (int64_t[]){chunks, n}, &partial));
  const void *gd = lm_data(g), *x = pre ? lm_data(pre) : NULL;
  void *gx = pre ? lm_data(c->out[1]) : NULL, *sums = lm_data(partial);
  if (!pre) a = ACT_NONE;
#pragma omp parallel for schedule(static) if (m * n > PARALLEL_WORK)
  for (int64_t k = 0; k < chunks; k++) {
    int64_t end = lm_min64(m, (k + 1) * ROW_CHUNK);
    memset((char *)sums + k * n * lm_dtype_size(g->dtype), 0,
           (size_t)(n * lm_dtype_size(g->dtype)));
    for (int64_t i = k * ROW_CHUNK; i < end; i++) {
      if (single)
        float_act_backward(a, n, (const float *)gd + i * n, x ? (const float *)x + i * n : NULL,
                           gx ? (float *)gx + i * n : NULL, (float *)sums + k * n);
      else
        double_act_backward(a, n, (const double *)gd + i * n,
                            x ? (const double *)x + i * n : NULL,
                            gx ? (double *)gx + i * n : NULL, (double *)sums + k * n);
    }
  }
  if (single) float_fold(chunks, n, sums, lm_data(c->out[0]));
  else double_fold(chunks, n, sums, lm_data(c->out[0]));
  lm_release(partial);
  return LM_OK;
}

const lm_op lm_op_linear_grad = {
  .name = "linear_grad",
  .sig = "g, pre?; activation: str = none",
  .doc = "Gradient of the bias [out] and, when pre [..., out] is given, of the value before "
         "the activation, from the gradient g [..., out] of linear's result.",
  .infer = linear_grad_infer,
  .cpu = linear_grad_cpu,
  .flags = LM_OP_INTERNAL,
};
