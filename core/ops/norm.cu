/* norm.cu: the kernels of norm.c for the card.
 *
 * A row of layer_norm belongs to a warp that holds it in registers, four neighbours at a time;
 * rows longer than that to a block that reads them again. Means and variances take two passes
 * over what is held, in float; partial results are joined in a fixed order. */
#include "ops/gpu.h"

/* ---- layer_norm ---- */

namespace {

enum {
  ROW_THREADS = 128, /* a block of warps with a row each */
  ROW_WARPS = ROW_THREADS / 32,
  HELD = 8, /* vectors of four that a lane can hold */
  LONGEST_HELD = HELD * 4 * 32,
  LONG_THREADS = 256,
  MOST_PARTS = 384 /* blocks with sums for weight and bias of their own */
};

template <class T>
struct layer {
  int64_t rows;
  int n;
  bool whole; /* four at a time */
  float eps;
  const T *x, *weight, *bias, *g; /* weight, bias: may be NULL; g: in backward */
  const float *mean, *rstd;       /* in backward */
  T *y;                           /* the result, or the gradient for x */
  float *save_mean, *save_rstd;   /* may be NULL */
  float *part; /* in backward, [blocks][2][n]: sums for weight and bias, or NULL */
};

/* Four neighbours of a vector over the columns, or `missing`. */
template <class T>
__device__ inline lm_vec<float, 4> column_four(const layer<T> &a, const T *v, int at,
                                               float missing)
{
  lm_vec<float, 4> o = {{missing, missing, missing, missing}};
  if (!v) return o;
  lm_vec<T, 4> four = lm_load_four(v, at, a.n, a.whole);
#pragma unroll
  for (int j = 0; j < 4; j++) o.v[j] = lm_widen(four.v[j]);
  return o;
}

/* K <= HELD vectors per lane. */
template <class T, int K>
__global__ void __launch_bounds__(ROW_THREADS) layer_rows(layer<T> a)
{
  int lane = threadIdx.x % 32;
  int64_t row = (int64_t)blockIdx.x * ROW_WARPS + threadIdx.x / 32;
  if (row >= a.rows) return;
  lm_vec<T, 4> x[K];
  float sum = 0, squares = 0;
#pragma unroll
  for (int k = 0; k < K; k++) {
    int at = (k * 32 + lane) * 4;
    if (at >= a.n) continue;
    x[k] = lm_load_four(a.x + row * a.n, at, a.n, a.whole);
#pragma unroll
    for (int j = 0; j < 4; j++) sum += lm_widen(x[k].v[j]);
  }
  float mean = lm_warp_sum(sum) / a.n;
#pragma unroll
  for (int k = 0; k < K; k++)
#pragma unroll
    for (int j = 0; j < 4; j++) {
      float d = (k * 32 + lane) * 4 + j < a.n ? lm_widen(x[k].v[j]) - mean : 0;
      squares += d * d;
    }
  float rstd = 1 / sqrt(lm_warp_sum(squares) / a.n + a.eps);
#pragma unroll
  for (int k = 0; k < K; k++) {
    int at = (k * 32 + lane) * 4;
    if (at >= a.n) continue;
    lm_vec<float, 4> w = column_four(a, a.weight, at, 1), b = column_four(a, a.bias, at, 0);
#pragma unroll
    for (int j = 0; j < 4; j++)
      x[k].v[j] = lm_narrow<T>((lm_widen(x[k].v[j]) - mean) * rstd * w.v[j] + b.v[j]);
    lm_store_four(a.y + row * a.n, at, a.n, a.whole, x[k]);
  }
  if (lane == 0 && a.save_mean) a.save_mean[row] = mean;
  if (lane == 0 && a.save_rstd) a.save_rstd[row] = rstd;
}

template <class T>
__global__ void __launch_bounds__(LONG_THREADS) layer_long_rows(layer<T> a)
{
  LM_SHARED(float, room, [32]);
  const T *x = a.x + (int64_t)blockIdx.x * a.n;
  T *y = a.y + (int64_t)blockIdx.x * a.n;
  float sum = 0, squares = 0;
  for (int i = threadIdx.x; i < a.n; i += LONG_THREADS) sum += lm_widen(x[i]);
  float mean = lm_block_sum(sum, room) / a.n;
  for (int i = threadIdx.x; i < a.n; i += LONG_THREADS) {
    float d = lm_widen(x[i]) - mean;
    squares += d * d;
  }
  float rstd = 1 / sqrt(lm_block_sum(squares, room) / a.n + a.eps);
  for (int i = threadIdx.x; i < a.n; i += LONG_THREADS) {
    float w = a.weight ? lm_widen(a.weight[i]) : 1, b = a.bias ? lm_widen(a.bias[i]) : 0;
    y[i] = lm_narrow<T>((lm_widen(x[i]) - mean) * rstd * w + b);
  }
  if (threadIdx.x == 0 && a.save_mean) a.save_mean[blockIdx.x] = mean;
  if (threadIdx.x == 0 && a.save_rstd) a.save_rstd[blockIdx.x] = rstd;
}

/* part[at .. at + 127] = the sums over the block's warps of each lane's four. */
__device__ inline void add_warps(const float *four, float (*room)[128], float *part, int at,
                                 int n)
{
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  __syncthreads();
#pragma unroll
  for (int j = 0; j < 4; j++) room[warp][lane * 4 + j] = four[j];
  __syncthreads();
  if (at + (int)threadIdx.x >= n) return;
  float sum = 0;
  for (int k = 0; k < ROW_WARPS; k++) sum += room[k][threadIdx.x];
  part[at + threadIdx.x] = sum;
}

/* With xhat = (x - mean) rstd and gw = g weight:
 *   gx = rstd (gw - mean(gw) - xhat mean(gw xhat)),  and g xhat, g add up to the gradients of
 * weight and bias, in registers for a warp's rows, then over the block's warps. */
template <class T, int K>
__global__ void __launch_bounds__(ROW_THREADS) layer_rows_backward(layer<T> a)
{
  LM_SHARED(float, room, [ROW_WARPS][128]);
  int lane = threadIdx.x % 32;
  float weight_sum[K][4] = {}, bias_sum[K][4] = {};
  int64_t row = (int64_t)blockIdx.x * ROW_WARPS + threadIdx.x / 32;
  for (; row < a.rows; row += (int64_t)gridDim.x * ROW_WARPS) {
    lm_vec<T, 4> x[K], g[K];
    float mean = a.mean[row], rstd = a.rstd[row], s0 = 0, s1 = 0;
#pragma unroll
    for (int k = 0; k < K; k++) {
      int at = (k * 32 + lane) * 4;
      if (at >= a.n) continue;
      x[k] = lm_load_four(a.x + row * a.n, at, a.n, a.whole);
      g[k] = lm_load_four(a.g + row * a.n, at, a.n, a.whole);
    }
#pragma unroll
    for (int k = 0; k < K; k++) {
      int at = (k * 32 + lane) * 4;
      if (at >= a.n) continue;
      lm_vec<float, 4> w = column_four(a, a.weight, at, 1);
#pragma unroll
      for (int j = 0; j < 4; j++) { /* beyond the end g is 0 */
        float gi = lm_widen(g[k].v[j]), xhat = (lm_widen(x[k].v[j]) - mean) * rstd;
        s0 += gi * w.v[j];
        s1 += gi * w.v[j] * xhat;
        weight_sum[k][j] += gi * xhat;
        bias_sum[k][j] += gi;
      }
    }
    s0 = lm_warp_sum(s0) / a.n;
    s1 = lm_warp_sum(s1) / a.n;
#pragma unroll
    for (int k = 0; k < K; k++) {
      int at = (k * 32 + lane) * 4;
      if (at >= a.n) continue;
      lm_vec<float, 4> w = column_four(a, a.weight, at, 1);
#pragma unroll
      for (int j = 0; j < 4; j++) {
        float gi = lm_widen(g[k].v[j]), xhat = (lm_widen(x[k].v[j]) - mean) * rstd;
        g[k].v[j] = lm_narrow<T>(rstd * (gi * w.v[j] - s0 - xhat * s1));
      }
      lm_store_four(a.y + row * a.n, at, a.n, a.whole, g[k]);
    }
  }
  if (!a.part) return;
  float *part = a.part + (int64_t)blockIdx.x * 2 * a.n;
#pragma unroll
  for (int k = 0; k < K; k++) {
    if (k * 128 >= a.n) continue;
    add_warps(weight_sum[k], room, part, k * 128, a.n);
    add_warps(bias_sum[k], room, part + a.n, k * 128, a.n);
  }
}

/* A thread keeps to its columns, so it may add in global memory. */
template <class T>
__global__ void __launch_bounds__(LONG_THREADS) layer_long_rows_backward(layer<T> a)
{
  LM_SHARED(float, room, [32]);
  float *part = a.part ? a.part + (int64_t)blockIdx.x * 2 * a.n : nullptr;
  for (int64_t row = blockIdx.x; row < a.rows; row += gridDim.x) {
    const T *x = a.x + row * a.n, *g = a.g + row * a.n;
    T *y = a.y + row * a.n;
    float mean = a.mean[row], rstd = a.rstd[row], s0 = 0, s1 = 0;
    for (int i = threadIdx.x; i < a.n; i += LONG_THREADS) {
      float gw = lm_widen(g[i]) * (a.weight ? lm_widen(a.weight[i]) : 1);
      s0 += gw;
      s1 += gw * ((lm_widen(x[i]) - mean) * rstd);
    }
    s0 = lm_block_sum(s0, room) / a.n;
    s1 = lm_block_sum(s1, room) / a.n;
    for (int i = threadIdx.x; i < a.n; i += LONG_THREADS) {
      float gi = lm_widen(g[i]), xhat = (lm_widen(x[i]) - mean) * rstd;
      float gw = gi * (a.weight ? lm_widen(a.weight[i]) : 1);
      y[i] = lm_narrow<T>(rstd * (gw - s0 - xhat * s1));
      if (!part) continue;
      bool first = row == blockIdx.x;
      part[i] = gi * xhat + (first ? 0 : part[i]);
      part[a.n + i] = gi + (first ? 0 : part[a.n + i]);
    }
  }
}

/* weight = the sum of part[k][0..n), bias that of part[k][n..2n), 0 <= k < parts. */
template <class T>
__global__ void __launch_bounds__(256) fold_parts(const float *part, int parts, int n, T *weight,
                                                  T *bias)
{
  LM_SHARED(float, room, [8][32]);
  int lane = threadIdx.x % 32, slice = threadIdx.x / 32, column = blockIdx.x * 32 + lane;
  float sum = 0;
  if (column < 2 * n)
    for (int k = slice; k < parts; k += 8) sum += part[(int64_t)k * 2 * n + column];
  room[slice][lane] = sum;
  __syncthreads();
  if (slice > 0 || column >= 2 * n) return;
  for (int k = 1; k < 8; k++) sum += room[k][lane];
  if (column < n) weight[column] = lm_narrow<T>(sum);
  else bias[column - n] = lm_narrow<T>(sum);
}

template <class T>
lm_status launch_layer(lm_call *c, const layer<T> &a)
{
  unsigned blocks = lm_blocks(a.rows, ROW_WARPS);
  if (a.n > LONGEST_HELD)
    return LM_LAUNCH(c, layer_long_rows<T>, (unsigned)a.rows, LONG_THREADS, 0, a);
  if (a.n > LONGEST_HELD / 2)
    return LM_LAUNCH(c, (layer_rows<T, HELD>), blocks, ROW_THREADS, 0, a);
  return LM_LAUNCH(c, (layer_rows<T, HELD / 2>), blocks, ROW_THREADS, 0, a);
}

template <class T>
lm_status launch_layer_backward(lm_call *c, const layer<T> &a, int blocks)
{
  if (a.n > LONGEST_HELD)
    return LM_LAUNCH(c, layer_long_rows_backward<T>, blocks, LONG_THREADS, 0, a);
  if (a.n > LONGEST_HELD / 2)
    return LM_LAUNCH(c, (layer_rows_backward<T, HELD>), blocks, ROW_THREADS, 0, a);
  return LM_LAUNCH(c, (layer_rows_backward<T, HELD / 2>), blocks, ROW_THREADS, 0, a);
}

} // namespace

LM_KERNEL(layer_norm)
{
  const lm_tensor *x = c->in[0];
  int64_t n = lm_size(x, -1);
  return lm_for_floats(c, x->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    layer<T> a = {};
    a.rows = lm_numel(x) / n;
    a.n = (int)n;
    a.eps = (float)c->param[0].f;
    a.x = lm_array<T>(x), a.weight = lm_array<T>(c->in[1]), a.bias = lm_array<T>(c->in[2]);
    a.y = lm_array<T>(c->out[0]);
    a.save_mean = lm_array<float>(c->save[0]), a.save_rstd = lm_array<float>(c->save[1]);
    a.whole = lm_fours<T>(n, {a.x, a.weight, a.bias, a.y});
    return launch_layer(c, a);
  });
}

LM_KERNEL(layer_norm_backward)
{
  const lm_tensor *x = c->in[1];
  int64_t n = lm_size(x, -1), rows = lm_numel(x) / n;
  int64_t wanted = n > LONGEST_HELD ? rows : lm_blocks(rows, ROW_WARPS);
  int64_t blocks = lm_min64(wanted, MOST_PARTS), shape[3] = {blocks, 2, n};
  lm_tensor *part = NULL;
  if (c->param[0].i) LM_TRY(lm_tensor_new(c->device, LM_F32, 3, shape, &part));
  lm_status status = lm_for_floats(c, x->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    layer<T> a = {};
    a.rows = rows;
    a.n = (int)n;
    a.g = lm_array<T>(c->in[0]), a.x = lm_array<T>(x), a.weight = lm_array<T>(c->in[2]);
    a.mean = lm_array<float>(c->in[3]), a.rstd = lm_array<float>(c->in[4]);
    a.y = lm_array<T>(c->out[0]);
    a.part = lm_array<float>(part);
    a.whole = lm_fours<T>(n, {a.g, a.x, a.weight, a.y});
    LM_TRY(launch_layer_backward(c, a, (int)blocks));
    if (!part) return LM_OK;
    return LM_LAUNCH(c, fold_parts<T>, lm_blocks(2 * n, 32), 256, 0, (const float *)a.part,
                     (int)blocks, (int)n, lm_array<T>(c->out[1]), lm_array<T>(c->out[2]));
  });
  lm_release(part);
  return status;
}

/* ---- batch_norm, group_norm ----
 *
 * x [N, C, ...] falls into sets of elements that have one mean: the channels, or the groups of
 * each sample. Element i of set s lies at (i / area * sets + s) * area + i % area, where a
 * group is a single area. A block holds PIECE elements of a set in registers; a warp joins the
 * pieces. Seen as groups of one sample, channels have groups of width 1, so that the rest is
 * the same for both. */

namespace {

enum { SET_THREADS = 256, PIECE = 4096, PIECE_FOURS = PIECE / SET_THREADS / 4 };

typedef lm_vec<float, 2> pair;

struct sets {
  int64_t count, size, area, pieces;
  bool whole;
};

sets sets_of(int64_t count, int64_t size, int64_t area, bool whole)
{
  return {count, size, area, (size + PIECE - 1) / PIECE, whole};
}

/* Elements i .. i + 3 of a set; 0 beyond its end. */
template <class T>
__device__ inline lm_vec<T, 4> set_four(const sets &s, const T *x, int64_t set, int64_t i)
{
  if (s.whole) return lm_load_four(x, (i / s.area * s.count + set) * s.area + i % s.area, 0, true);
  lm_vec<T, 4> v;
#pragma unroll
  for (int64_t j = 0; j < 4; j++) {
    int64_t at = ((i + j) / s.area * s.count + set) * s.area + (i + j) % s.area;
    v.v[j] = i + j < s.size ? x[at] : lm_narrow<T>(0.0f);
  }
  return v;
}

/* The mean of each piece, and the sum of squares around it. */
template <class T>
__global__ void __launch_bounds__(SET_THREADS) statistics_of_pieces(sets s, const T *x, pair *part)
{
  LM_SHARED(float, room, [32]);
  int64_t set = blockIdx.x / s.pieces, first = blockIdx.x % s.pieces * PIECE;
  int64_t left = s.size - first;
  int count = left < PIECE ? (int)left : PIECE;
  lm_vec<T, 4> v[PIECE_FOURS];
  float sum = 0, squares = 0;
#pragma unroll
  for (int k = 0; k < PIECE_FOURS; k++) {
    int i = (k * SET_THREADS + threadIdx.x) * 4;
    if (i >= count) continue;
    v[k] = set_four(s, x, set, first + i);
#pragma unroll
    for (int j = 0; j < 4; j++) sum += lm_widen(v[k].v[j]);
  }
  float mean = lm_block_sum(sum, room) / count;
#pragma unroll
  for (int k = 0; k < PIECE_FOURS; k++)
#pragma unroll
    for (int j = 0; j < 4; j++) {
      int i = (k * SET_THREADS + threadIdx.x) * 4 + j;
      float d = i < count ? lm_widen(v[k].v[j]) - mean : 0;
      squares += d * d;
    }
  squares = lm_block_sum(squares, room);
  if (threadIdx.x == 0) part[blockIdx.x] = {{mean, squares}};
}

struct statistics {
  const pair *part; /* NULL: take the running ones */
  float *running_mean, *running_var; /* NULL: there are none */
  float momentum, eps;
  float *mean, *rstd;
};

/* A warp per set: mean and rstd from the pieces. */
__global__ void __launch_bounds__(SET_THREADS) join_statistics(sets s, statistics a)
{
  int lane = threadIdx.x % 32;
  int64_t set = (int64_t)blockIdx.x * (SET_THREADS / 32) + threadIdx.x / 32;
  if (set >= s.count) return;
  float mean = 0, var = 0, size = (float)s.size;
  if (a.part) {
    const pair *part = a.part + set * s.pieces;
    float sum = 0, squares = 0;
    for (int64_t k = lane; k < s.pieces; k += 32)
      sum += part[k].v[0] * (float)min(s.size - k * PIECE, (int64_t)PIECE);
    mean = lm_warp_sum(sum) / size;
    for (int64_t k = lane; k < s.pieces; k += 32) {
      float d = part[k].v[0] - mean;
      squares += part[k].v[1] + d * d * (float)min(s.size - k * PIECE, (int64_t)PIECE);
    }
    var = lm_warp_sum(squares) / size;
  }
  if (lane > 0) return;
  if (!a.part) {
    mean = a.running_mean[set];
    var = a.running_var[set];
  } else if (a.running_mean) {
    float keep = 1 - a.momentum;
    a.running_mean[set] = keep * a.running_mean[set] + a.momentum * mean;
    a.running_var[set] = keep * a.running_var[set] + a.momentum * var * size / (size - 1);
  }
  a.mean[set] = mean;
  a.rstd[set] = 1 / sqrt(var + a.eps);
}

/* What an element's plane (of `area` elements) says about it. */
struct planes {
  int64_t n, channels, area;
  int64_t width; /* of a group; 0: a set is a channel */
  bool whole;
};

__device__ inline int64_t set_of(const planes &p, int64_t plane)
{
  return p.width > 0 ? plane / p.width : plane % p.channels;
}

/* y = (x - mean) rstd weight + bias */
template <class T>
__global__ void __launch_bounds__(SET_THREADS)
    normalise(planes p, const T *x, const float *mean, const float *rstd, const T *weight,
              const T *bias, T *y)
{
  int64_t at = ((int64_t)blockIdx.x * SET_THREADS + threadIdx.x) * (p.whole ? 4 : 1);
  if (at >= p.n) return;
  int64_t plane = at / p.area, set = set_of(p, plane), k = plane % p.channels;
  float m = mean[set], r = rstd[set] * (weight ? lm_widen(weight[k]) : 1);
  float b = bias ? lm_widen(bias[k]) : 0;
  if (!p.whole) {
    y[at] = lm_narrow<T>((lm_widen(x[at]) - m) * r + b);
    return;
  }
  lm_vec<T, 4> v = lm_load_four(x, at, p.n, true);
#pragma unroll
  for (int j = 0; j < 4; j++) v.v[j] = lm_narrow<T>((lm_widen(v.v[j]) - m) * r + b);
  lm_store_four(y, at, p.n, true, v);
}

/* The sums of g and of g (x - mean) over each piece; set s has the mean s / width. */
template <class T>
__global__ void __launch_bounds__(SET_THREADS)
    gradient_of_pieces(sets s, const T *g, const T *x, const float *mean, int64_t width, pair *part)
{
  LM_SHARED(float, room, [32]);
  int64_t set = blockIdx.x / s.pieces, first = blockIdx.x % s.pieces * PIECE;
  float m = mean[set / width], s0 = 0, s1 = 0;
#pragma unroll
  for (int k = 0; k < PIECE_FOURS; k++) {
    int64_t i = first + (k * SET_THREADS + threadIdx.x) * 4;
    if (i >= s.size) continue;
    lm_vec<T, 4> gi = set_four(s, g, set, i), xi = set_four(s, x, set, i);
#pragma unroll
    for (int j = 0; j < 4; j++) { /* beyond the end g is 0 */
      s0 += lm_widen(gi.v[j]);
      s1 += lm_widen(gi.v[j]) * (lm_widen(xi.v[j]) - m);
    }
  }
  s0 = lm_block_sum(s0, room);
  s1 = lm_block_sum(s1, room);
  if (threadIdx.x == 0) part[blockIdx.x] = {{s0, s1}};
}

__global__ void __launch_bounds__(SET_THREADS) join_gradient(sets s, const pair *part, pair *sums)
{
  int lane = threadIdx.x % 32;
  int64_t set = (int64_t)blockIdx.x * (SET_THREADS / 32) + threadIdx.x / 32;
  if (set >= s.count) return;
  float s0 = 0, s1 = 0;
  for (int64_t k = lane; k < s.pieces; k += 32) {
    s0 += part[set * s.pieces + k].v[0];
    s1 += part[set * s.pieces + k].v[1];
  }
  s0 = lm_warp_sum(s0);
  s1 = lm_warp_sum(s1);
  if (lane == 0) sums[set] = {{s0, s1}};
}

template <class T>
struct gradient_rest {
  int64_t samples, channels, width; /* groups */
  float size;                       /* elements of a group */
  const pair *sums;                 /* [samples, channels] */
  const float *rstd;                /* [samples, channels / width] */
  const T *weight;
  pair *slope; /* like rstd: gx = rstd weight g + slope[0] (x - mean) + slope[1] */
  T *weight_grad, *bias_grad; /* may be NULL */
};

template <class T>
__global__ void __launch_bounds__(SET_THREADS) finish_gradient(gradient_rest<T> a)
{
  int64_t i = (int64_t)blockIdx.x * SET_THREADS + threadIdx.x;
  if (i < a.samples * a.channels / a.width) {
    float s0 = 0, s1 = 0, r = a.rstd[i];
    for (int64_t plane = i * a.width; plane < (i + 1) * a.width; plane++) {
      float w = a.weight ? lm_widen(a.weight[plane % a.channels]) : 1;
      s0 += w * a.sums[plane].v[0];
      s1 += w * a.sums[plane].v[1];
    }
    a.slope[i] = {{-r * r * r * s1 / a.size, -r * s0 / a.size}};
  }
  if (i >= a.channels || !a.weight_grad) return;
  float weight = 0, bias = 0;
  for (int64_t plane = i; plane < a.samples * a.channels; plane += a.channels) {
    weight += a.sums[plane].v[1] * a.rstd[plane / a.width];
    bias += a.sums[plane].v[0];
  }
  a.weight_grad[i] = lm_narrow<T>(weight);
  a.bias_grad[i] = lm_narrow<T>(bias);
}

template <class T>
struct gradient_for_x {
  const T *g, *x; /* x is NULL where mean and rstd are constants: then gx = rstd weight g */
  const float *mean, *rstd;
  const T *weight;
  const pair *slope;
  T *gx;
};

template <class T>
__global__ void __launch_bounds__(SET_THREADS) gradient_of_x(planes p, gradient_for_x<T> a)
{
  int64_t at = ((int64_t)blockIdx.x * SET_THREADS + threadIdx.x) * (p.whole ? 4 : 1);
  if (at >= p.n) return;
  int64_t plane = at / p.area, set = set_of(p, plane), k = plane % p.channels;
  float r = a.rstd[set] * (a.weight ? lm_widen(a.weight[k]) : 1), m = a.mean[set];
  pair slope = {{0, 0}};
  if (a.x) slope = a.slope[set];
  if (!p.whole) {
    float d = a.x ? lm_widen(a.x[at]) - m : 0;
    a.gx[at] = lm_narrow<T>(r * lm_widen(a.g[at]) + slope.v[0] * d + slope.v[1]);
    return;
  }
  lm_vec<T, 4> g = lm_load_four(a.g, at, p.n, true), x = g;
  if (a.x) x = lm_load_four(a.x, at, p.n, true);
#pragma unroll
  for (int j = 0; j < 4; j++)
    g.v[j] = lm_narrow<T>(r * lm_widen(g.v[j]) + slope.v[0] * (lm_widen(x.v[j]) - m) +
                          slope.v[1]);
  lm_store_four(a.gx, at, p.n, true, g);
}

/* ---- on the host ---- */

planes planes_of(const lm_tensor *x, int64_t width, bool whole)
{
  planes p = {lm_numel(x), x->shape[1], 1, width, whole};
  for (int d = 2; d < x->ndim; d++) p.area *= x->shape[d];
  p.whole &= p.area % 4 == 0;
  return p;
}

unsigned plane_blocks(const planes &p) { return lm_blocks(p.whole ? p.n / 4 : p.n, SET_THREADS); }

/* Mean and rstd of all sets; from x if `measure`. */
template <class T>
lm_status measure_sets(lm_call *c, const sets &s, const T *x, bool measure, statistics a)
{
  int64_t n = s.count * s.pieces * 2;
  lm_tensor *part = NULL;
  if (measure) LM_TRY(lm_tensor_new(c->device, LM_F32, 1, &n, &part));
  lm_status status = LM_OK;
  if (part)
    status = LM_LAUNCH(c, statistics_of_pieces<T>, (unsigned)(s.count * s.pieces), SET_THREADS,
                       0, s, x, lm_array<pair>(part));
  a.part = lm_array<pair>(part);
  if (status == LM_OK)
    status = LM_LAUNCH(c, join_statistics, lm_blocks(s.count, SET_THREADS / 32), SET_THREADS, 0,
                       s, a);
  lm_release(part);
  return status;
}

/* Where statistics go: what is saved for backward, or else *scratch (to be released). */
lm_status statistics_room(lm_call *c, int64_t sets, lm_tensor **scratch, statistics *a)
{
  *scratch = NULL;
  if (!c->save[0]) {
    int64_t n = 2 * sets;
    LM_TRY(lm_tensor_new(c->device, LM_F32, 1, &n, scratch));
  }
  a->mean = lm_array<float>(*scratch ? *scratch : c->save[0]);
  a->rstd = *scratch ? a->mean + sets : lm_array<float>(c->save[1]);
  return LM_OK;
}

template <class T>
lm_status run_forward(lm_call *c, const sets &s, planes p, bool measure, const statistics &a)
{
  const T *x = lm_array<T>(c->in[0]);
  LM_TRY(measure_sets(c, s, x, measure, a));
  return LM_LAUNCH(c, normalise<T>, plane_blocks(p), SET_THREADS, 0, p, x, (const float *)a.mean,
                   (const float *)a.rstd, lm_array<T>(c->in[1]), lm_array<T>(c->in[2]),
                   lm_array<T>(c->out[0]));
}

/* sums[samples * channels] and the slopes, in scratch memory, into the gradients; `s` are the
 * sets that the sums are over. */
template <class T>
lm_status run_gradient(lm_call *c, const sets &s, int64_t width, gradient_rest<T> a,
                       gradient_for_x<T> *b, float *scratch)
{
  pair *part = (pair *)scratch, *sums = part + s.count * s.pieces;
  unsigned warps = lm_blocks(s.count, SET_THREADS / 32);
  LM_TRY(LM_LAUNCH(c, gradient_of_pieces<T>, (unsigned)(s.count * s.pieces), SET_THREADS, 0, s,
                   b->g, b->x, b->mean, width, part));
  LM_TRY(LM_LAUNCH(c, join_gradient, warps, SET_THREADS, 0, s, (const pair *)part, sums));
  a.sums = sums;
  a.slope = sums + s.count;
  b->slope = a.slope;
  int64_t threads = lm_max64(a.samples * a.channels / a.width, a.channels);
  return LM_LAUNCH(c, finish_gradient<T>, lm_blocks(threads, SET_THREADS), SET_THREADS, 0, a);
}

/* Both backward operations: (g, x, weight, mean, rstd). width: of a group, 0 for channels. */
template <class T>
lm_status run_backward(lm_call *c, int64_t width, bool measured, bool affine)
{
  const lm_tensor *g = c->in[0];
  gradient_for_x<T> b = {};
  b.g = lm_array<T>(g), b.x = lm_array<T>(c->in[1]), b.weight = lm_array<T>(c->in[2]);
  b.mean = lm_array<float>(c->in[3]), b.rstd = lm_array<float>(c->in[4]);
  b.gx = lm_array<T>(c->out[0]);
  planes p = planes_of(g, width, lm_fours<T>(0, {b.g, b.x, b.gx}));
  int64_t n = g->shape[0], samples = width > 0 ? n : 1;
  sets s = width > 0 ? sets_of(n * p.channels, p.area, p.area, p.whole)
                     : sets_of(p.channels, n * p.area, p.area, p.whole);
  lm_tensor *scratch = NULL;
  lm_status status = LM_OK;
  if (measured || affine) {
    gradient_rest<T> a = {};
    a.samples = samples, a.channels = p.channels, a.width = lm_max64(width, 1);
    a.size = (float)(s.size * a.width);
    a.rstd = b.rstd, a.weight = b.weight;
    if (affine) a.weight_grad = lm_array<T>(c->out[1]), a.bias_grad = lm_array<T>(c->out[2]);
    int64_t room = 2 * s.count * (s.pieces + 2);
    LM_TRY(lm_tensor_new(c->device, LM_F32, 1, &room, &scratch));
    status = run_gradient(c, s, a.width, a, &b, lm_array<float>(scratch));
  }
  if (!measured) b.x = nullptr;
  if (status == LM_OK)
    status = LM_LAUNCH(c, gradient_of_x<T>, plane_blocks(p), SET_THREADS, 0, p, b);
  lm_release(scratch);
  return status;
}

} // namespace

LM_KERNEL(batch_norm)
{
  const lm_tensor *x = c->in[0];
  bool training = c->param[0].i != 0;
  statistics a = {};
  a.running_mean = lm_array<float>(c->in[3]), a.running_var = lm_array<float>(c->in[4]);
  a.momentum = (float)c->param[1].f, a.eps = (float)c->param[2].f;
  lm_tensor *scratch;
  LM_TRY(statistics_room(c, x->shape[1], &scratch, &a));
  lm_status status = lm_for_floats(c, x->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    planes p = planes_of(x, 0, lm_fours<T>(0, {lm_array<T>(x), lm_array<T>(c->out[0])}));
    sets s = sets_of(p.channels, x->shape[0] * p.area, p.area, p.whole);
    return run_forward<T>(c, s, p, training, a);
  });
  lm_release(scratch);
  for (int k = 3; training && k <= 4; k++) lm_tensor_touch(c->in[k], "batch_norm");
  return status;
}

LM_KERNEL(batch_norm_backward)
{
  return lm_for_floats(c, c->in[0]->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    return run_backward<T>(c, 0, c->param[0].i != 0, c->param[1].i != 0);
  });
}

LM_KERNEL(group_norm)
{
  const lm_tensor *x = c->in[0];
  int64_t groups = c->param[0].i, width = x->shape[1] / groups;
  statistics a = {};
  a.eps = (float)c->param[1].f;
  lm_tensor *scratch;
  LM_TRY(statistics_room(c, x->shape[0] * groups, &scratch, &a));
  lm_status status = lm_for_floats(c, x->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    planes p = planes_of(x, width, lm_fours<T>(0, {lm_array<T>(x), lm_array<T>(c->out[0])}));
    int64_t size = width * p.area;
    return run_forward<T>(c, sets_of(x->shape[0] * groups, size, size, p.whole), p, true, a);
  });
  lm_release(scratch);
  return status;
}

LM_KERNEL(group_norm_backward)
{
  return lm_for_floats(c, c->in[1]->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    return run_backward<T>(c, c->in[1]->shape[1] / c->param[0].i, true, c->param[1].i != 0);
  });
}
