/* attention.cu: attention on the card (see attention.c) without tensor cores: a warp takes four
 * rows, the other side comes by tiles of 32 through shared memory. The matrix of scores never
 * exists; backward computes them again, once by queries for their gradient and once by keys
 * for those of keys and values. Everything is f32 inside. */
#include "ops/gpu.h"

namespace {

constexpr int THREADS = 128, TILE = 32, EACH = 4, ROWS = THREADS / 32 * EACH;
constexpr int WIDEST = 256, PARTS = WIDEST / 32; /* of a head; registers of a lane */

/* Heads of samples. Rows of q and of k, v have distances of their own. */
struct heads {
  int64_t n, h, l, m, d, q_row, kv_row;
  float scale;
  bool causal;
  const uint8_t *mask; /* NULL: none */
  int64_t mask_stride[4];
};

/* Element 0 of row i of a head. */
template <class T>
__device__ inline T *row_of(T *base, const heads &a, int64_t rows, int64_t distance, int64_t i)
{
  return base + (blockIdx.z * rows + i) * distance + blockIdx.y * a.d;
}

__device__ inline bool visible(const heads &a, int64_t query, int64_t key)
{
  if (query >= a.l || key >= a.m || (a.causal && key > query)) return false;
  return !a.mask || a.mask[blockIdx.z * a.mask_stride[0] + blockIdx.y * a.mask_stride[1] +
                           query * a.mask_stride[2] + key * a.mask_stride[3]];
}

/* `count` rows of a head from `first` on into shared memory, zeros behind the last. */
template <class T>
__device__ inline void load_rows(const heads &a, const T *base, int64_t rows, int64_t distance,
                                 int64_t first, int count, float *to)
{
  for (int i = (int)threadIdx.x; i < count * a.d; i += THREADS) {
    int r = i / (int)a.d, c = i % (int)a.d;
    bool inside = first + r < rows;
    to[r * (a.d + 1) + c] = inside ? lm_widen(row_of(base, a, rows, distance, first + r)[c]) : 0.0f;
  }
}

__device__ inline float dot(const float *x, const float *y, int64_t d)
{
  float sum = 0;
  for (int64_t c = 0; c < d; c++) sum += x[c] * y[c];
  return sum;
}

/* sum[c] = sum[c] * keep + the tile's first `count` rows weighted by p. */
__device__ inline void add_rows(const heads &a, float *sum, float keep, const float *p,
                                const float *tile, int count)
{
  int lane = (int)threadIdx.x % 32;
#pragma unroll
  for (int part = 0; part < PARTS; part++) {
    int c = lane + 32 * part;
    if (c >= a.d) continue;
    float s = sum[part] * keep;
    for (int k = 0; k < count; k++) s += p[k] * tile[k * (a.d + 1) + c];
    sum[part] = s;
  }
}

template <class T>
__device__ inline void store_row(const heads &a, T *to, const float *sum, float scale)
{
#pragma unroll
  for (int part = 0; part < PARTS; part++) {
    int c = (int)threadIdx.x % 32 + 32 * part;
    if (c < a.d) to[c] = lm_narrow<T>(sum[part] * scale);
  }
}

/* Block (x, y, z): rows from 16 x of head y of sample z. */
template <class T>
__global__ void __launch_bounds__(THREADS)
    attend(heads a, const T *q, const T *k, const T *v, T *out, float *lse)
{
  LM_DYNAMIC_SHARED(float, room);
  float *queries = room, *keys = queries + ROWS * (a.d + 1), *values = keys + TILE * (a.d + 1);
  float *weights = values + TILE * (a.d + 1);
  int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
  int64_t first = (int64_t)blockIdx.x * ROWS;
  float sum[EACH][PARTS] = {{0}}, total[EACH] = {0}, top[EACH];
  for (int r = 0; r < EACH; r++) top[r] = -INFINITY;
  load_rows(a, q, a.l, a.q_row, first, ROWS, queries);
  for (int64_t tile = 0; tile < a.m; tile += TILE) {
    load_rows(a, k, a.m, a.kv_row, tile, TILE, keys);
    load_rows(a, v, a.m, a.kv_row, tile, TILE, values);
    int count = (int)min(a.m - tile, int64_t(TILE));
    __syncthreads();
#pragma unroll
    for (int r = 0; r < EACH; r++) {
      int mine = warp * EACH + r;
      if (first + mine >= a.l) break; /* the same for the whole warp */
      float s = -INFINITY;
      if (visible(a, first + mine, tile + lane))
        s = dot(queries + mine * (a.d + 1), keys + lane * (a.d + 1), a.d) * a.scale;
      float higher = max(top[r], lm_warp_max(s));
      float keep = top[r] == -INFINITY ? 0.0f : exp(top[r] - higher);
      float p = s == -INFINITY ? 0.0f : exp(s - higher);
      total[r] = total[r] * keep + lm_warp_sum(p);
      top[r] = higher;
      weights[mine * TILE + lane] = p;
      __syncwarp();
      add_rows(a, sum[r], keep, weights + mine * TILE, values, count);
    }
    __syncthreads();
  }
#pragma unroll
  for (int r = 0; r < EACH; r++) {
    int64_t i = first + warp * EACH + r;
    if (i >= a.l) continue;
    store_row(a, row_of(out, a, a.l, a.h * a.d, i), sum[r], total[r] > 0 ? 1 / total[r] : 0.0f);
    if (lse && lane == 0)
      lse[(blockIdx.z * a.h + blockIdx.y) * a.l + i] = total[r] > 0 ? top[r] + log(total[r]) : 0.0f;
  }
}

/* delta = sum over a head of g out, for each query: [n, h, l]. */
template <class T>
__global__ void __launch_bounds__(THREADS)
    deltas(heads a, const T *out, const T *g, float *delta)
{
  int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
  if (i >= a.l) return;
  const T *o = row_of(out, a, a.l, a.h * a.d, i), *gi = row_of(g, a, a.l, a.h * a.d, i);
  float sum = 0;
  for (int64_t c = 0; c < a.d; c++) sum += lm_widen(o[c]) * lm_widen(gi[c]);
  delta[(blockIdx.z * a.h + blockIdx.y) * a.l + i] = sum;
}

/* Rows are queries (with their g), tiles are keys (with values), or the other way round. */
template <bool KEYS, class T>
__global__ void __launch_bounds__(THREADS)
    attend_back(heads a, const T *q, const T *k, const T *v, const T *g, const float *lse,
                const float *delta, T *gq, T *gk, T *gv)
{
  LM_DYNAMIC_SHARED(float, room);
  const int64_t rows = KEYS ? a.m : a.l, others = KEYS ? a.l : a.m, wide = a.h * a.d;
  const int64_t row_distance = KEYS ? a.kv_row : a.q_row, tile_distance = KEYS ? a.q_row : a.kv_row;
  float *row1 = room, *row2 = row1 + ROWS * (a.d + 1), *tile1 = row2 + ROWS * (a.d + 1);
  float *tile2 = tile1 + TILE * (a.d + 1), *weights = tile2 + TILE * (a.d + 1);
  float *slopes = weights + ROWS * TILE;
  int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
  int64_t first = (int64_t)blockIdx.x * ROWS, head = (blockIdx.z * a.h + blockIdx.y) * a.l;
  float sum1[EACH][PARTS] = {{0}}, sum2[EACH][PARTS] = {{0}};
  load_rows(a, KEYS ? k : q, rows, row_distance, first, ROWS, row1);
  load_rows(a, KEYS ? v : g, rows, KEYS ? a.kv_row : wide, first, ROWS, row2);
  for (int64_t tile = 0; tile < others; tile += TILE) {
    load_rows(a, KEYS ? q : k, others, tile_distance, tile, TILE, tile1);
    load_rows(a, KEYS ? g : v, others, KEYS ? wide : a.kv_row, tile, TILE, tile2);
    int count = (int)min(others - tile, int64_t(TILE));
    __syncthreads();
#pragma unroll
    for (int r = 0; r < EACH; r++) {
      int mine = warp * EACH + r;
      if (first + mine >= rows) break; /* the same for the whole warp */
      int64_t query = KEYS ? tile + lane : first + mine, key = KEYS ? first + mine : tile + lane;
      float p = 0, slope = 0;
      if (visible(a, query, key)) {
        float s = dot(row1 + mine * (a.d + 1), tile1 + lane * (a.d + 1), a.d) * a.scale;
        p = exp(s - lse[head + query]);
        float back = dot(row2 + mine * (a.d + 1), tile2 + lane * (a.d + 1), a.d);
        slope = p * (back - delta[head + query]) * a.scale;
      }
      weights[mine * TILE + lane] = p;
      slopes[mine * TILE + lane] = slope;
      __syncwarp();
      add_rows(a, sum1[r], 1, slopes + mine * TILE, tile1, count);
      if (KEYS) add_rows(a, sum2[r], 1, weights + mine * TILE, tile2, count);
    }
    __syncthreads();
  }
#pragma unroll
  for (int r = 0; r < EACH; r++) {
    int64_t i = first + warp * EACH + r;
    if (i >= rows) continue;
    store_row(a, row_of(KEYS ? gk : gq, a, rows, row_distance, i), sum1[r], 1);
    if (KEYS) store_row(a, row_of(gv, a, rows, row_distance, i), sum2[r], 1);
  }
}

/* ---- on the host ---- */

dim3 grid_for(const heads &a, int64_t rows, int each)
{
  return dim3(lm_blocks(rows, each), (unsigned)a.h, (unsigned)a.n);
}

lm_status check_width(const lm_call *c, const heads &a)
{
  if (a.d <= WIDEST && a.n <= 65535) return LM_OK;
  return lm_op_fail(c, LM_ERR_UNSUPPORTED, "heads of %lld are wider than %d, or more than 65535 samples",
                    (long long)a.d, WIDEST);
}

template <class T>
lm_status forward(lm_call *c, const heads &a, const T *q, const T *k, const T *v)
{
  LM_TRY(check_width(c, a));
  size_t room = sizeof(float) * (size_t)((ROWS + 2 * TILE) * (a.d + 1) + ROWS * TILE);
  return LM_LAUNCH(c, attend<T>, grid_for(a, a.l, ROWS), THREADS, room, a, q, k, v,
                   (T *)lm_data(c->out[0]), c->save[0] ? (float *)lm_data(c->save[0]) : NULL);
}

template <class T>
lm_status backward(lm_call *c, const heads &a, const T *q, const T *k, const T *v,
                   const lm_tensor *out, const lm_tensor *lse, const lm_tensor *g, T *gq, T *gk,
                   T *gv)
{
  lm_tensor *delta;
  const T *gd = (const T *)lm_data(g);
  const float *l = (const float *)lm_data(lse);
  size_t room = sizeof(float) * (size_t)(2 * (ROWS + TILE) * (a.d + 1) + 2 * ROWS * TILE);
  LM_TRY(check_width(c, a));
  LM_TRY(lm_tensor_new(c->device, LM_F32, 3, lse->shape, &delta));
  float *d = (float *)lm_data(delta);
  lm_status status = LM_LAUNCH(c, deltas<T>, grid_for(a, a.l, THREADS), THREADS, 0, a,
                               (const T *)lm_data(out), gd, d);
  if (status == LM_OK)
    status = LM_LAUNCH(c, (attend_back<false, T>), grid_for(a, a.l, ROWS), THREADS, room, a, q, k,
                       v, gd, l, (const float *)d, gq, gk, gv);
  if (status == LM_OK)
    status = LM_LAUNCH(c, (attend_back<true, T>), grid_for(a, a.m, ROWS), THREADS, room, a, q, k,
                       v, gd, l, (const float *)d, gq, gk, gv);
  lm_release(delta);
  return status;
}

heads packed(const lm_call *c, int64_t *width)
{
  const lm_tensor *x = c->in[0];
  int64_t w = x->shape[2] / 3, h = c->param[0].i;
  heads a = {x->shape[0], h, x->shape[1], x->shape[1], w / h, 3 * w, 3 * w};
  a.scale = float(1 / sqrt(double(a.d)));
  a.causal = c->param[1].i != 0;
  *width = w;
  return a;
}

heads separate(const lm_call *c)
{
  const lm_tensor *q = c->in[0], *mask = c->in[3];
  int64_t w = q->shape[2], h = c->param[0].i;
  heads a = {q->shape[0], h, q->shape[1], c->in[1]->shape[1], w / h, w, w};
  a.scale = float(c->param[2].f != 0 ? c->param[2].f : 1 / sqrt(double(a.d)));
  a.causal = c->param[1].i != 0;
  if (mask) a.mask = (const uint8_t *)lm_data(mask);
  for (int d = 0; mask && d < mask->ndim; d++)
    a.mask_stride[4 - mask->ndim + d] = mask->shape[d] == 1 ? 0 : mask->stride[d];
  return a;
}

} // namespace

LM_KERNEL(qkv_attention)
{
  int64_t width;
  heads a = packed(c, &width);
  return lm_for_floats(c, c->in[0]->dtype, [&](auto t) {
    const auto *x = (const LM_TYPE(t) *)lm_data(c->in[0]);
    return forward(c, a, x, x + width, x + 2 * width);
  });
}

LM_KERNEL(qkv_attention_backward)
{
  int64_t width;
  heads a = packed(c, &width);
  return lm_for_floats(c, c->in[0]->dtype, [&](auto t) {
    const auto *x = (const LM_TYPE(t) *)lm_data(c->in[0]);
    auto *g = (LM_TYPE(t) *)lm_data(c->out[0]);
    return backward(c, a, x, x + width, x + 2 * width, c->in[1], c->in[2], c->in[3], g, g + width,
                    g + 2 * width);
  });
}

LM_KERNEL(attention)
{
  heads a = separate(c);
  return lm_for_floats(c, c->in[0]->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    return forward(c, a, (const T *)lm_data(c->in[0]), (const T *)lm_data(c->in[1]),
                   (const T *)lm_data(c->in[2]));
  });
}

LM_KERNEL(attention_backward)
{
  heads a = separate(c);
  return lm_for_floats(c, c->in[0]->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    return backward(c, a, (const T *)lm_data(c->in[0]), (const T *)lm_data(c->in[1]),
                    (const T *)lm_data(c->in[2]), c->in[4], c->in[5], c->in[6],
                    (T *)lm_data(c->out[0]), (T *)lm_data(c->out[1]), (T *)lm_data(c->out[2]));
  });
}
