/* optim.cu: the kernels of optim.c for the card.
 *
 * A launch takes up to MOST_TENSORS positions of the lists; each of its blocks handles a piece
 * of one of them. Tensors that do not lie alike in memory go one at a time. */
#include "ops/walk.h"

namespace {

enum { THREADS = 256, PIECE = 4096, PIECE_FOURS = PIECE / THREADS / 4, MOST_TENSORS = 32 };

/* Steps: N operands; value[1] is only read, the others are written. */
struct adam {
  enum { N = 4 };
  float decay, coupled, grad_scale, new1, beta2, new2, step_size, root_second, eps;
  __device__ void operator()(float (&v)[N]) const
  {
    float p = v[0] * decay, g = v[1] * grad_scale + coupled * p;
    v[2] += (g - v[2]) * new1;
    v[3] = v[3] * beta2 + new2 * g * g;
    v[0] = p - step_size * (v[2] / (sqrt(v[3]) / root_second + eps));
  }
};

struct sgd {
  enum { N = 3 };
  float lr, momentum, decay;
  bool nesterov, first;
  __device__ void operator()(float (&v)[N]) const
  {
    float d = v[1] + decay * v[0];
    v[2] = first ? d : momentum * v[2] + d;
    v[0] -= lr * (nesterov ? d + momentum * v[2] : v[2]);
  }
};

struct ema {
  enum { N = 2 };
  float share;
  __device__ void operator()(float (&v)[N]) const { v[0] += share * (v[1] - v[0]); }
};

/* What one launch works on: blocks first[k] .. first[k + 1] - 1 have tensor k. */
template <int N, int MOST, class T>
struct table {
  int count;
  bool whole[MOST]; /* in fours */
  unsigned first[MOST + 1];
  int64_t n[MOST];
  T *at[MOST][N];
};

template <int N, int MOST, class T>
void add_tensor(table<N, MOST, T> *t, int64_t n, T *const *at)
{
  int k = t->count++;
  t->n[k] = n;
  t->whole[k] = true;
  for (int i = 0; i < N; i++) {
    t->at[k][i] = at[i];
    t->whole[k] &= lm_fours<T>(n, {at[i]});
  }
  t->first[k + 1] = t->first[k] + lm_blocks(n, PIECE);
}

template <class F>
using step_table = table<F::N, MOST_TENSORS, float>;

template <class F>
__global__ void __launch_bounds__(THREADS) step_pieces(step_table<F> t, F f)
{
  int k = 0;
  while (blockIdx.x >= t.first[k + 1]) k++;
  int64_t base = (int64_t)(blockIdx.x - t.first[k]) * PIECE;
#pragma unroll
  for (int j = 0; j < PIECE_FOURS; j++) {
    int64_t at = base + (j * THREADS + threadIdx.x) * 4;
    if (at >= t.n[k]) return;
    lm_vec<float, 4> x[F::N];
#pragma unroll
    for (int i = 0; i < F::N; i++) x[i] = lm_load_four(t.at[k][i], at, t.n[k], t.whole[k]);
#pragma unroll
    for (int e = 0; e < 4; e++) {
      float v[F::N];
#pragma unroll
      for (int i = 0; i < F::N; i++) v[i] = x[i].v[e];
      f(v);
#pragma unroll
      for (int i = 0; i < F::N; i++) x[i].v[e] = v[i];
    }
#pragma unroll
    for (int i = 0; i < F::N; i++)
      if (i != 1) lm_store_four(t.at[k][i], at, t.n[k], t.whole[k], x[i]);
  }
}

/* One position, whatever its strides. */
template <class F>
__global__ void __launch_bounds__(WALK_THREADS) step_strided(walk w, F f)
{
  unsigned i = blockIdx.x * WALK_THREADS + threadIdx.x, each = w.flat ? 4 : 1;
  for (unsigned k = i * each; k < (i + 1) * each && k < w.n; k++) {
    int64_t at[WALK_OPERANDS] = {0};
    walk_offsets(w, F::N, k, at);
    float v[F::N];
#pragma unroll
    for (int j = 0; j < F::N; j++) v[j] = reinterpret_cast<float *>(w.data[j])[at[j]];
    f(v);
#pragma unroll
    for (int j = 0; j < F::N; j++)
      if (j != 1) reinterpret_cast<float *>(w.data[j])[at[j]] = v[j];
  }
}

template <class F>
lm_status launch_table(lm_call *c, step_table<F> *t, F f)
{
  lm_status status = LM_LAUNCH(c, step_pieces<F>, t->first[t->count], THREADS, 0, *t, f);
  t->count = 0;
  return status;
}

template <class F>
lm_status run_steps(lm_call *c, F f)
{
  step_table<F> t = {};
  for (int k = 0; k < c->count[0]; k++) {
    const lm_tensor *x[F::N];
    float *at[F::N];
    bool flat = true;
    for (int i = 0; i < F::N; i++) {
      x[i] = c->in[c->first[i] + k];
      at[i] = lm_array<float>(x[i]);
      flat &= lm_is_contiguous(x[i]);
    }
    if (x[0]->dtype != LM_F32) return lm_no_kernel(c, x[0]->dtype);
    if (!flat) {
      LM_TRY(walk_launch(c, walk_over(F::N, x), step_strided<F>, f));
      continue;
    }
    add_tensor(&t, lm_numel(x[0]), at);
    if (t.count == MOST_TENSORS) LM_TRY(launch_table(c, &t, f));
  }
  return launch_table(c, &t, f);
}

} // namespace

LM_KERNEL(adamw_step)
{
  const lm_value *v = c->param;
  double lr = v[0].f, weight_decay = v[4].f, step = (double)v[5].i;
  bool decoupled = v[7].i != 0;
  adam f = {};
  f.decay = (float)(decoupled ? 1 - lr * weight_decay : 1);
  f.coupled = (float)(decoupled ? 0 : weight_decay);
  f.grad_scale = (float)v[6].f;
  f.new1 = (float)(1 - v[1].f);
  f.beta2 = (float)v[2].f;
  f.new2 = (float)(1 - v[2].f);
  f.step_size = (float)(lr / (1 - pow(v[1].f, step)));
  f.root_second = (float)sqrt(1 - pow(v[2].f, step));
  f.eps = (float)v[3].f;
  return run_steps(c, f);
}

LM_KERNEL(sgd_step)
{
  const lm_value *v = c->param;
  return run_steps(c, sgd{(float)v[0].f, (float)v[1].f, (float)v[3].f, v[2].i != 0, v[4].i == 1});
}

LM_KERNEL(ema_step) { return run_steps(c, ema{(float)(1 - c->param[0].f)}); }

/* ---- grad_norm ---- */

namespace {

enum { MOST_NORMED = 96 };

template <class T>
using norm_table = table<1, MOST_NORMED, const T>;

/* In double, as on the CPU: squares of large floats are no floats. */
template <class T>
__global__ void __launch_bounds__(THREADS) square_pieces(norm_table<T> t, double *part)
{
  LM_SHARED(double, room, [32]);
  int k = 0;
  while (blockIdx.x >= t.first[k + 1]) k++;
  int64_t base = (int64_t)(blockIdx.x - t.first[k]) * PIECE;
  double sum = 0;
#pragma unroll
  for (int j = 0; j < PIECE_FOURS; j++) {
    int64_t at = base + (j * THREADS + threadIdx.x) * 4;
    if (at >= t.n[k]) continue;
    lm_vec<T, 4> x = lm_load_four(t.at[k][0], at, t.n[k], t.whole[k]);
#pragma unroll
    for (int e = 0; e < 4; e++) sum += (double)lm_widen(x.v[e]) * (double)lm_widen(x.v[e]);
  }
  sum = lm_block_sum(sum, room);
  if (threadIdx.x == 0) part[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(THREADS) norm_of_pieces(const double *part, int64_t n, float *out)
{
  LM_SHARED(double, room, [32]);
  double sum = 0;
  for (int64_t i = threadIdx.x; i < n; i += THREADS) sum += part[i];
  sum = lm_block_sum(sum, room);
  if (threadIdx.x == 0) *out = (float)sqrt(sum);
}

template <class T>
lm_status run_norm(lm_call *c, double *part)
{
  norm_table<T> t = {};
  int64_t pieces = 0;
  for (int k = 0; k < c->nin; k++) {
    const T *x = lm_array<T>(c->in[k]);
    if (lm_numel(c->in[k]) > 0) add_tensor(&t, lm_numel(c->in[k]), &x);
    if (t.count < MOST_NORMED && k + 1 < c->nin) continue;
    LM_TRY(LM_LAUNCH(c, square_pieces<T>, t.first[t.count], THREADS, 0, t, part + pieces));
    pieces += t.first[t.count];
    t.count = 0;
  }
  return LM_LAUNCH(c, norm_of_pieces, 1, THREADS, 0, part, pieces, lm_array<float>(c->out[0]));
}

} // namespace

LM_KERNEL(grad_norm)
{
  int64_t pieces = 0;
  for (int k = 0; k < c->nin; k++) pieces += lm_blocks(lm_numel(c->in[k]), PIECE);
  lm_tensor *part;
  LM_TRY(lm_tensor_new(c->device, LM_F64, 1, &pieces, &part));
  lm_status status = lm_for_floats(c, c->nin > 0 ? c->in[0]->dtype : LM_F32, [&](auto t) {
    using T = LM_TYPE(t);
    return run_norm<T>(c, lm_array<double>(part));
  });
  lm_release(part);
  return status;
}
