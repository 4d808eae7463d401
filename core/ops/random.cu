/* random.cu: filling with random numbers, dropout and drop_path on the card. Element i has the
 * words that random.c gives it; uniform numbers and masks are the same bits as on the CPU. */
#include "ops/random.h"
#include "ops/gpu.h"

namespace {

constexpr int THREADS = 256;

enum kind { UNIFORM, NORMAL, TRUNCATED };

struct filling {
  lm_rng rng;
  double a, b; /* low and high, or mean and std */
  lm_truncation t;
};

/* Elements 4 at .. 4 at + 3 in f32. */
template <int K>
__device__ inline void four(const filling &f, uint64_t at, float *o)
{
  uint32_t w[4];
  lm_philox(f.rng.key, at, f.rng.stream, w);
  for (int i = 0; i < 4; i++) {
    if (K == UNIFORM) o[i] = lm_between_f32(float(f.a), float(f.b - f.a), float(f.b), w[i]);
    if (K == TRUNCATED) o[i] = float(lm_truncated(&f.t, lm_open_f64(w[i])));
  }
  if (K != NORMAL) return;
  for (int i = 0; i < 4; i += 2) lm_normal_pair(w[i], w[i + 1], o + i, o + i + 1);
  for (int i = 0; i < 4; i++) o[i] = float(f.a) + float(f.b) * o[i];
}

template <int K>
__device__ inline void four(const filling &f, uint64_t at, double *o)
{
  uint32_t w[8];
  lm_philox(f.rng.key, 2 * at, f.rng.stream, w);
  lm_philox(f.rng.key, 2 * at + 1, f.rng.stream, w + 4);
  for (int i = 0; i < 4; i++) {
    o[i] = lm_open_fine(w[2 * i], w[2 * i + 1]);
    if (K == UNIFORM) o[i] = lm_between_f64(f.a, f.b, o[i]);
    if (K == TRUNCATED) o[i] = lm_truncated(&f.t, o[i]);
  }
  if (K != NORMAL) return;
  for (int i = 0; i < 4; i += 2) lm_normal_pair_f64(o + i);
  for (int i = 0; i < 4; i++) o[i] = f.a + f.b * o[i];
}

template <int K, class T>
__global__ void __launch_bounds__(THREADS) fill_kernel(filling f, T *out, int64_t n)
{
  int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x;
  lm_wide<T> o[4];
  if (4 * at >= n) return;
  four<K>(f, (uint64_t)at, o);
  for (int i = 0; i < 4; i++)
    if (4 * at + i < n) out[4 * at + i] = lm_narrow<T>(o[i]);
}

template <int K>
lm_status fill(lm_call *c, filling f)
{
  int64_t n = lm_numel(c->out[0]);
  f.rng = c->rng;
  f.a = c->param[0].f;
  f.b = c->param[1].f;
  return lm_for_all_floats(c, c->out[0]->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    return LM_LAUNCH(c, (fill_kernel<K, T>), lm_blocks((n + 3) / 4, THREADS), THREADS, 0, f,
                     (T *)lm_data(c->out[0]), n);
  });
}

} // namespace

LM_KERNEL(uniform_) { return fill<UNIFORM>(c, {}); }
LM_KERNEL(normal_) { return fill<NORMAL>(c, {}); }

LM_KERNEL(trunc_normal_)
{
  filling f = {};
  f.t = lm_truncation_make(c->param[0].f, c->param[1].f, c->param[2].f, c->param[3].f);
  return fill<TRUNCATED>(c, f);
}

/* ---- dropout, drop_path ---- */

namespace {

struct dropping {
  lm_rng rng;
  uint64_t limit;
  double scale;
  int64_t n, each; /* elements; elements that share a word */
};

template <class T>
__global__ void __launch_bounds__(THREADS) drop_kernel(dropping d, const T *x, T *out)
{
  int64_t first = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * 4;
  uint32_t w[4] = {0};
  int64_t block = -1;
  for (int64_t i = first; i < min(first + 4, d.n); i++) {
    int64_t word = d.each == 1 ? i : i / d.each;
    if (word / 4 != block) {
      block = word / 4;
      lm_philox(d.rng.key, (uint64_t)block, d.rng.stream, w);
    }
    uint32_t drawn = word % 4 == 0 ? w[0] : word % 4 == 1 ? w[1] : word % 4 == 2 ? w[2] : w[3];
    using V = lm_wide<T>;
    out[i] = lm_narrow<T>(drawn < d.limit ? V(0) : lm_widen(x[i]) * V(d.scale));
  }
}

lm_status drop(lm_call *c, int64_t each)
{
  const lm_tensor *x = c->in[0];
  double p = c->param[0].f;
  dropping d = {lm_mask_rng(c), lm_drop_limit(p), p < 1 ? 1 / (1 - p) : 0, lm_numel(x), each};
  return lm_for_all_floats(c, x->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    return LM_LAUNCH(c, drop_kernel<T>, lm_blocks((d.n + 3) / 4, THREADS), THREADS, 0, d,
                     (const T *)lm_data(x), (T *)lm_data(c->out[0]));
  });
}

int64_t sample_size(const lm_call *c) { return lm_numel(c->in[0]) / c->in[0]->shape[0]; }

} // namespace

LM_KERNEL(dropout) { return drop(c, 1); }
LM_KERNEL(dropout_backward) { return drop(c, 1); }
LM_KERNEL(drop_path) { return drop(c, sample_size(c)); }
LM_KERNEL(drop_path_backward) { return drop(c, sample_size(c)); }
