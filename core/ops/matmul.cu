/* matmul.cu: matrix products and the linear layer on the card (see matmul.c): cuBLASLt, and
 * a plain kernel that reads any strides for the shim and for what cuBLASLt refuses. */
#include "cuda/gemm.h"
#include "ops/walk.h"

namespace {

constexpr int TILE = 32, THREADS = 256, ROWS = THREADS / TILE;

/* ---- the plain kernel ---- */

/* out [batch, m, n] = x y (+ bias [n]); one block makes a tile of 32 x 32. */
template <class T>
__global__ void __launch_bounds__(THREADS) gemm_kernel(lm_gemm g)
{
  using A = lm_wide<T>;
  LM_SHARED(A, xs, [TILE][TILE + 1]);
  LM_SHARED(A, ys, [TILE][TILE + 1]);
  const T *x = static_cast<const T *>(g.x) + blockIdx.z * g.x_batch;
  const T *y = static_cast<const T *>(g.y) + blockIdx.z * g.y_batch;
  int64_t i0 = (int64_t)blockIdx.y * TILE, j0 = (int64_t)blockIdx.x * TILE;
  int column = (int)threadIdx.x % TILE, row = (int)threadIdx.x / TILE;
  A sum[TILE / ROWS] = {0};
  for (int64_t k0 = 0; k0 < g.k; k0 += TILE) {
    for (int r = row; r < TILE; r += ROWS) {
      int64_t i = i0 + r, j = j0 + column, k = k0 + column;
      xs[r][column] = i < g.m && k < g.k ? lm_widen(x[i * g.x_row + k * g.x_column]) : A(0);
      k = k0 + r;
      ys[r][column] = k < g.k && j < g.n ? lm_widen(y[k * g.y_row + j * g.y_column]) : A(0);
    }
    __syncthreads();
    for (int k = 0; k < TILE; k++)
#pragma unroll
      for (int r = 0; r < TILE / ROWS; r++) sum[r] += xs[row + r * ROWS][k] * ys[k][column];
    __syncthreads();
  }
  T *out = static_cast<T *>(g.out) + blockIdx.z * g.m * g.n;
  int64_t j = j0 + column;
  A bias = g.bias && j < g.n ? lm_widen(static_cast<const T *>(g.bias)[j]) : A(0);
  for (int r = 0; r < TILE / ROWS; r++) {
    int64_t i = i0 + row + r * ROWS;
    if (i < g.m && j < g.n) out[i * g.n + j] = lm_narrow<T>(sum[r] + bias);
  }
}

lm_status gemm(lm_call *c, const lm_gemm &g)
{
#ifdef LM_CARD
  bool done;
  LM_TRY(lm_cuda_gemm(c->device, c->op->name, &g, &done));
  if (done) return LM_OK;
#endif
  if (g.m > (int64_t)65535 * TILE || g.batch > 65535)
    return lm_op_fail(c, LM_ERR_SHAPE, "more than %lld rows or 65535 matrices",
                      (long long)65535 * TILE);
  dim3 grid(lm_blocks(g.n, TILE), lm_blocks(g.m, TILE), (unsigned)g.batch);
  return lm_for_all_floats(c, g.dtype, [&](auto t) {
    return LM_LAUNCH(c, gemm_kernel<LM_TYPE(t)>, grid, THREADS, 0, g);
  });
}

/* ---- matmul ---- */

/* The dimensions of the stack of products, merged where both operands allow. */
struct stack {
  int n;
  int64_t size[LM_MAX_DIMS], x[LM_MAX_DIMS], y[LM_MAX_DIMS];
};

/* Stride of t in leading dimension d of the result, which has n of them; 0: broadcast. */
int64_t leading_stride(const lm_tensor *t, int d, int n)
{
  int own = d - (n - (t->ndim - 2));
  return t->ndim <= 2 || own < 0 || t->shape[own] == 1 ? 0 : t->stride[own];
}

stack stack_of(const lm_call *c)
{
  const lm_tensor *x = c->in[0], *y = c->in[1], *out = c->out[0];
  int n = out->ndim - (x->ndim > 1) - (y->ndim > 1);
  stack s = {};
  for (int d = 0; d < n; d++) {
    int64_t size = out->shape[d], xs = leading_stride(x, d, n), ys = leading_stride(y, d, n);
    if (size == 1) continue;
    int last = s.n - 1;
    bool merge = s.n > 0 && s.x[last] == xs * size && s.y[last] == ys * size;
    int to = merge ? last : s.n++;
    s.size[to] = merge ? s.size[to] * size : size;
    s.x[to] = xs;
    s.y[to] = ys;
  }
  return s;
}

/* Size and strides of the matrices. */
lm_gemm matrices_of(const lm_call *c)
{
  const lm_tensor *x = c->in[0], *y = c->in[1];
  lm_gemm g = {};
  g.dtype = x->dtype;
  g.k = lm_size(x, -1);
  g.m = x->ndim > 1 ? lm_size(x, -2) : 1;
  g.n = y->ndim > 1 ? lm_size(y, -1) : 1;
  g.x_column = x->stride[x->ndim - 1];
  g.x_row = x->ndim > 1 ? x->stride[x->ndim - 2] : g.k;
  g.y_row = y->stride[y->ndim - (y->ndim > 1 ? 2 : 1)];
  g.y_column = y->ndim > 1 ? y->stride[y->ndim - 1] : 1;
  g.batch = 1;
  return g;
}

} // namespace

/* A stack of x's that share one y and lie at one distance is one tall matrix. Else the
 * innermost dimension of the stack is one call's batch, the others are loops. */
LM_KERNEL(matmul)
{
  lm_gemm g = matrices_of(c);
  stack s = stack_of(c);
  int64_t size = lm_dtype_size(g.dtype), outer = 1;
  int last = s.n - 1;
  if (s.n > 0 && s.y[last] == 0 && (g.m == 1 || s.x[last] == g.x_row * g.m)) {
    if (g.m == 1) g.x_row = s.x[last];
    g.m *= s.size[last];
    s.n--;
  } else if (s.n > 0) {
    g.batch = s.size[last];
    g.x_batch = s.x[last];
    g.y_batch = s.y[last];
    s.n--;
  }
  for (int d = 0; d < s.n; d++) outer *= s.size[d];
  for (int64_t b = 0; b < outer; b++) {
    int64_t rest = b, x = 0, y = 0;
    for (int d = s.n - 1; d >= 0; d--) {
      x += rest % s.size[d] * s.x[d];
      y += rest % s.size[d] * s.y[d];
      rest /= s.size[d];
    }
    g.x = static_cast<const char *>(lm_data(c->in[0])) + x * size;
    g.y = static_cast<const char *>(lm_data(c->in[1])) + y * size;
    g.out = static_cast<char *>(lm_data(c->out[0])) + b * g.batch * g.m * g.n * size;
    LM_TRY(gemm(c, g));
  }
  return LM_OK;
}

/* ---- activations ---- */

namespace {

enum activation { NONE, RELU, GELU, SILU };

activation activation_of(const lm_call *c)
{
  switch (c->param[0].s[0]) { /* infer has checked the name */
    case 'r': return RELU;
    case 'g': return GELU;
    case 's': return SILU;
    default: return NONE;
  }
}

template <class T>
__device__ inline T activate(activation a, T x)
{
  if (a == RELU) return x > T(0) || x != x ? x : T(0);
  if (a == GELU) return T(0.5) * x * erfc(T(-0.70710678118654752440) * x);
  return x / (T(1) + exp(-x));
}

template <class T>
__device__ inline T slope(activation a, T x)
{
  if (a == NONE) return T(1);
  if (a == RELU) return x > T(0) ? T(1) : T(0);
  if (a == GELU)
    return T(0.5) * erfc(T(-0.70710678118654752440) * x) +
           x * T(0.39894228040143267794) * exp(T(-0.5) * x * x);
  T s = T(1) / (T(1) + exp(-x));
  return s * (T(1) + x * (T(1) - s));
}

struct activate_of {
  activation a;
  template <class T>
  __device__ T operator()(T x) const { return activate(a, x); }
};

} // namespace

/* ---- linear ---- */

LM_KERNEL(linear)
{
  const lm_tensor *x = c->in[0], *w = c->in[1], *bias = c->in[2], *out = c->out[0];
  const lm_tensor *pre = c->save[0] ? c->save[0] : out;
  activation a = activation_of(c);
  lm_gemm g = {};
  g.dtype = x->dtype;
  g.n = w->shape[0];
  g.k = w->shape[1];
  g.m = lm_numel(out) / g.n;
  g.batch = 1;
  g.x = lm_data(x);
  g.x_row = g.k;
  g.x_column = 1;
  g.y = lm_data(w);
  g.y_row = 1;
  g.y_column = g.k;
  g.bias = bias ? lm_data(bias) : NULL;
  g.out = lm_data(pre);
  LM_TRY(gemm(c, g));
  if (a == NONE) return LM_OK;
  return lm_for_all_floats(c, x->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    return lm_map<T, T>(c, activate_of{a}, out, pre);
  });
}

/* ---- linear_grad ---- */

namespace {

struct rows {
  int64_t m, n, chunk; /* rows of a chunk */
};

/* gx = g act'(pre), and the sums of its columns over a chunk of rows: partial[chunk][n]. */
template <class T>
__global__ void __launch_bounds__(THREADS) bias_rows(rows r, activation a, const T *g,
                                                     const T *pre, T *gx, lm_wide<T> *partial)
{
  using A = lm_wide<T>;
  LM_SHARED(A, room, [ROWS][TILE]);
  int column = (int)threadIdx.x % TILE, row = (int)threadIdx.x / TILE;
  int64_t j = (int64_t)blockIdx.x * TILE + column, first = blockIdx.y * r.chunk;
  int64_t last = min(first + r.chunk, r.m);
  A sum = 0;
  for (int64_t i = first + row; j < r.n && i < last; i += ROWS) {
    A v = lm_widen(g[i * r.n + j]);
    if (pre) {
      v *= slope(a, lm_widen(pre[i * r.n + j]));
      gx[i * r.n + j] = lm_narrow<T>(v);
    }
    sum += v;
  }
  room[row][column] = sum;
  __syncthreads();
  if (row > 0 || j >= r.n) return;
  for (int k = 1; k < ROWS; k++) sum += room[k][column];
  partial[blockIdx.y * r.n + j] = sum;
}

template <class T>
__global__ void __launch_bounds__(THREADS) bias_fold(int64_t chunks, int64_t n,
                                                     const lm_wide<T> *partial, T *sums)
{
  int64_t j = (int64_t)blockIdx.x * THREADS + threadIdx.x;
  if (j >= n) return;
  double sum = 0;
  for (int64_t k = 0; k < chunks; k++) sum += double(partial[k * n + j]);
  sums[j] = lm_narrow<T>(lm_wide<T>(sum));
}

} // namespace

LM_KERNEL(linear_grad)
{
  const lm_tensor *g = c->in[0], *pre = c->in[1];
  rows r = {0, lm_size(g, -1), 0};
  r.m = lm_numel(g) / r.n;
  r.chunk = lm_max64(64, (r.m + 255) / 256);
  int64_t chunks = lm_max64(1, (r.m + r.chunk - 1) / r.chunk);
  int64_t shape[] = {chunks, r.n};
  lm_tensor *partial;
  lm_dtype wide = g->dtype == LM_F64 ? LM_F64 : LM_F32;
  LM_TRY(lm_tensor_new(c->device, wide, 2, shape, &partial));
  lm_status status = lm_for_all_floats(c, g->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    using A = lm_wide<T>;
    T *gx = pre ? (T *)lm_data(c->out[1]) : NULL;
    LM_TRY(LM_LAUNCH(c, bias_rows<T>, dim3(lm_blocks(r.n, TILE), (unsigned)chunks), THREADS, 0, r,
                     activation_of(c), (const T *)lm_data(g),
                     pre ? (const T *)lm_data(pre) : NULL, gx, (A *)lm_data(partial)));
    return LM_LAUNCH(c, bias_fold<T>, lm_blocks(r.n, THREADS), THREADS, 0, chunks, r.n,
                     (const A *)lm_data(partial), (T *)lm_data(c->out[0]));
  });
  lm_release(partial);
  return status;
}
