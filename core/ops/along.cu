/* along.cu: argmax, argmin and cumsum on the card (see along.c): a thread per line. */
#include "ops/gpu.h"

namespace {

constexpr int THREADS = 256;

/* x as [outer][n][inner] around a dimension; step < 0 runs from the end. */
struct lines {
  int64_t count, n, inner, step;
};

__device__ inline int64_t line_start(const lines &l, int64_t k)
{
  int64_t start = k / l.inner * l.n * l.inner + k % l.inner;
  return l.step < 0 ? start + (l.n - 1) * l.inner : start;
}

template <class T>
__global__ void __launch_bounds__(THREADS) find(lines l, bool largest, const T *x, int64_t *out)
{
  int64_t k = (int64_t)blockIdx.x * THREADS + threadIdx.x, at = 0;
  if (k >= l.count) return;
  x += line_start(l, k);
  auto best = lm_widen(x[0]);
  for (int64_t i = 1; i < l.n && best == best; i++) {
    auto v = lm_widen(x[i * l.step]);
    if ((largest ? v > best : v < best) || v != v) {
      best = v;
      at = i;
    }
  }
  out[k] = at;
}

template <class T, class A, class R>
__global__ void __launch_bounds__(THREADS) running(lines l, const T *x, R *out)
{
  int64_t k = (int64_t)blockIdx.x * THREADS + threadIdx.x;
  if (k >= l.count) return;
  int64_t at = line_start(l, k);
  A sum = 0;
  for (int64_t i = 0; i < l.n; i++, at += l.step) {
    sum += A(lm_widen(x[at]));
    out[at] = lm_narrow<R>(sum);
  }
}

lm_status lines_of(const lm_call *c, bool from_end, lines *l)
{
  const lm_tensor *x = c->in[0];
  int dim;
  LM_TRY(lm_dim(c, c->param[0].i, x->ndim, &dim));
  l->n = x->ndim > 0 ? x->shape[dim] : 1;
  l->count = l->inner = 1;
  for (int d = 0; d < x->ndim; d++)
    if (d != dim) l->count *= x->shape[d];
  for (int d = dim + 1; d < x->ndim; d++) l->inner *= x->shape[d];
  l->step = from_end ? -l->inner : l->inner;
  return LM_OK;
}

lm_status find_all(lm_call *c, bool largest)
{
  lines l;
  const lm_tensor *x = c->in[0];
  LM_TRY(lines_of(c, false, &l));
  return lm_for_all(c, x->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    return LM_LAUNCH(c, find<T>, lm_blocks(l.count, THREADS), THREADS, 0, l, largest,
                     (const T *)lm_data(x), (int64_t *)lm_data(c->out[0]));
  });
}

lm_status running_sums(lm_call *c, bool from_end)
{
  lines l;
  const lm_tensor *x = c->in[0];
  LM_TRY(lines_of(c, from_end, &l));
  return lm_for_all(c, x->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    using A = std::conditional_t<std::is_integral_v<T>, uint64_t, double>;
    using R = std::conditional_t<std::is_integral_v<T>, int64_t, T>;
    return LM_LAUNCH(c, (running<T, A, R>), lm_blocks(l.count, THREADS), THREADS, 0, l,
                     (const T *)lm_data(x), (R *)lm_data(c->out[0]));
  });
}

} // namespace

LM_KERNEL(argmax) { return find_all(c, true); }
LM_KERNEL(argmin) { return find_all(c, false); }
LM_KERNEL(cumsum) { return running_sums(c, false); }
LM_KERNEL(cumsum_backward) { return running_sums(c, true); }
