/* pool.cu: pooling on the card (see pool.c): a thread per element of the result, in gradients
 * per element of the image, which looks for the windows that contain it. */
#include "ops/gpu.h"

namespace {

constexpr int THREADS = 256;

struct windows {
  int64_t in[2], out[2], size[2], stride[2], padding[2], n; /* n: threads */
  bool adaptive;
};

struct range {
  int64_t first, end;
};

/* Window i along dimension d, only what lies inside. */
__device__ inline range window(const windows &w, int d, int64_t i)
{
  int64_t length = w.in[d], n = w.out[d];
  if (w.adaptive) return {i * length / n, ((i + 1) * length + n - 1) / n};
  int64_t first = i * w.stride[d] - w.padding[d];
  return {max(first, int64_t(0)), min(first + w.size[d], length)};
}

/* The windows along dimension d that contain position y. */
__device__ inline range containing(const windows &w, int d, int64_t y)
{
  int64_t length = w.in[d], n = w.out[d];
  if (w.adaptive) return {y * n / length, ((y + 1) * n + length - 1) / length};
  int64_t past = y + w.padding[d] - w.size[d];
  return {past < 0 ? 0 : past / w.stride[d] + 1, min((y + w.padding[d]) / w.stride[d] + 1, n)};
}

/* What a window's sum is divided by: padding counts. */
__device__ inline int64_t divisor(const windows &w, int64_t i, int64_t j)
{
  if (!w.adaptive) return w.size[0] * w.size[1];
  range y = window(w, 0, i), x = window(w, 1, j);
  return (y.end - y.first) * (x.end - x.first);
}

struct element {
  int64_t plane, i, j;
};

__device__ inline element element_of(int64_t at, const int64_t *size)
{
  return {at / size[1] / size[0], at / size[1] % size[0], at % size[1]};
}

template <class T>
__global__ void __launch_bounds__(THREADS)
    max_kernel(windows w, const T *x, T *out, int32_t *index)
{
  int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x;
  if (at >= w.n) return;
  element e = element_of(at, w.out);
  range ys = window(w, 0, e.i), xs = window(w, 1, e.j);
  const T *plane = x + e.plane * w.in[0] * w.in[1];
  int64_t best_at = -1;
  lm_wide<T> best = 0;
  for (int64_t i = ys.first; i < ys.end; i++) {
    for (int64_t j = xs.first; j < xs.end; j++) {
      lm_wide<T> v = lm_widen(plane[i * w.in[1] + j]);
      if (best_at >= 0 && !(v > best || v != v)) continue;
      best = v;
      best_at = i * w.in[1] + j;
    }
  }
  out[at] = lm_narrow<T>(best);
  if (index) index[at] = int32_t(best_at);
}

template <class T>
__global__ void __launch_bounds__(THREADS)
    max_back(windows w, const T *g, const int32_t *index, T *out)
{
  int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x;
  if (at >= w.n) return;
  element e = element_of(at, w.in);
  range ys = containing(w, 0, e.i), xs = containing(w, 1, e.j);
  int64_t base = e.plane * w.out[0] * w.out[1], own = e.i * w.in[1] + e.j;
  lm_wide<T> sum = 0;
  for (int64_t i = ys.first; i < ys.end; i++)
    for (int64_t j = xs.first; j < xs.end; j++)
      if (index[base + i * w.out[1] + j] == own) sum += lm_widen(g[base + i * w.out[1] + j]);
  out[at] = lm_narrow<T>(sum);
}

template <class T>
__global__ void __launch_bounds__(THREADS) mean_kernel(windows w, const T *x, T *out)
{
  int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x;
  if (at >= w.n) return;
  element e = element_of(at, w.out);
  range ys = window(w, 0, e.i), xs = window(w, 1, e.j);
  const T *plane = x + e.plane * w.in[0] * w.in[1];
  lm_wide<T> sum = 0;
  for (int64_t i = ys.first; i < ys.end; i++)
    for (int64_t j = xs.first; j < xs.end; j++) sum += lm_widen(plane[i * w.in[1] + j]);
  out[at] = lm_narrow<T>(sum / lm_wide<T>(divisor(w, e.i, e.j)));
}

template <class T>
__global__ void __launch_bounds__(THREADS) mean_back(windows w, const T *g, T *out)
{
  int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x;
  if (at >= w.n) return;
  element e = element_of(at, w.in);
  range ys = containing(w, 0, e.i), xs = containing(w, 1, e.j);
  int64_t base = e.plane * w.out[0] * w.out[1];
  lm_wide<T> sum = 0;
  for (int64_t i = ys.first; i < ys.end; i++)
    for (int64_t j = xs.first; j < xs.end; j++)
      sum += lm_widen(g[base + i * w.out[1] + j]) / lm_wide<T>(divisor(w, i, j));
  out[at] = lm_narrow<T>(sum);
}

/* `image` is the large side, `pooled` the small one; parameters number first .. first + 2 are
 * size, stride and padding (first < 0: adaptive). n: elements of the result. */
lm_status windows_of(const lm_call *c, const int64_t *image, const int64_t *pooled, int first,
                     windows *w)
{
  *w = {};
  for (int d = 0; d < 2; d++) {
    w->in[d] = image[d];
    w->out[d] = pooled[d];
  }
  w->n = lm_numel(c->out[0]);
  w->adaptive = first < 0;
  if (w->adaptive) return LM_OK;
  LM_TRY(lm_expand_ints(c, first, 2, 1, w->size));
  LM_TRY(lm_expand_ints(c, first + 1, 2, 0, w->stride));
  LM_TRY(lm_expand_ints(c, first + 2, 2, 0, w->padding));
  for (int d = 0; d < 2; d++)
    if (w->stride[d] == 0) w->stride[d] = w->size[d];
  return LM_OK;
}

lm_status mean(lm_call *c, int first)
{
  const lm_tensor *x = c->in[0], *out = c->out[0];
  windows w;
  LM_TRY(windows_of(c, x->shape + 2, out->shape + 2, first, &w));
  return lm_for_all_floats(c, x->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    return LM_LAUNCH(c, mean_kernel<T>, lm_blocks(w.n, THREADS), THREADS, 0, w,
                     (const T *)lm_data(x), (T *)lm_data(out));
  });
}

} // namespace

LM_KERNEL(max_pool2d)
{
  const lm_tensor *x = c->in[0], *out = c->out[0];
  windows w;
  LM_TRY(windows_of(c, x->shape + 2, out->shape + 2, 0, &w));
  return lm_for_all_floats(c, x->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    return LM_LAUNCH(c, max_kernel<T>, lm_blocks(w.n, THREADS), THREADS, 0, w,
                     (const T *)lm_data(x), (T *)lm_data(out),
                     c->save[0] ? (int32_t *)lm_data(c->save[0]) : NULL);
  });
}

LM_KERNEL(max_pool2d_grad)
{
  const lm_tensor *g = c->in[0], *out = c->out[0];
  windows w;
  LM_TRY(windows_of(c, out->shape + 2, g->shape + 2, 1, &w));
  return lm_for_all_floats(c, g->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    return LM_LAUNCH(c, max_back<T>, lm_blocks(w.n, THREADS), THREADS, 0, w,
                     (const T *)lm_data(g), (const int32_t *)lm_data(c->in[1]), (T *)lm_data(out));
  });
}

LM_KERNEL(avg_pool2d) { return mean(c, 0); }
LM_KERNEL(adaptive_avg_pool2d) { return mean(c, -1); }

LM_KERNEL(avg_pool2d_grad)
{
  const lm_tensor *g = c->in[0], *out = c->out[0];
  windows w;
  LM_TRY(windows_of(c, out->shape + 2, g->shape + 2, c->param[4].i ? -1 : 1, &w));
  return lm_for_all_floats(c, g->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    return LM_LAUNCH(c, mean_back<T>, lm_blocks(w.n, THREADS), THREADS, 0, w,
                     (const T *)lm_data(g), (T *)lm_data(out));
  });
}
