/* conv.cu: two-dimensional convolution on the card (see conv.c), straight from its definition:
 * a thread per element of the result, and for the gradient of the weight a block per weight. */
#include "ops/gpu.h"

namespace {

constexpr int THREADS = 128;

/* "Wide" images are x of conv2d, "narrow" ones its result. Channels are those of a group. */
struct conv {
  int64_t images, groups, in_channels, out_channels;
  int64_t in[2], out[2], kernel[2], stride[2], padding[2], dilation[2];
};

/* y of conv2d: element `at`. */
template <class T>
__global__ void __launch_bounds__(THREADS)
    forward_kernel(conv v, int64_t n, const T *x, const T *weight, const T *bias, T *y)
{
  int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x;
  if (at >= n) return;
  int64_t j = at % v.out[1], i = at / v.out[1] % v.out[0], o = at / v.out[1] / v.out[0];
  int64_t image = o / (v.groups * v.out_channels);
  o %= v.groups * v.out_channels;
  int64_t group = o / v.out_channels, plane = v.in[0] * v.in[1];
  x += (image * v.groups + group) * v.in_channels * plane;
  weight += o * v.in_channels * v.kernel[0] * v.kernel[1];
  lm_wide<T> sum = bias ? lm_widen(bias[o]) : lm_wide<T>(0);
  for (int64_t c = 0; c < v.in_channels; c++, x += plane) {
    for (int64_t k = 0; k < v.kernel[0]; k++) {
      int64_t row = i * v.stride[0] - v.padding[0] + k * v.dilation[0];
      for (int64_t l = 0; l < v.kernel[1]; l++, weight++) {
        int64_t column = j * v.stride[1] - v.padding[1] + l * v.dilation[1];
        if (row >= 0 && row < v.in[0] && column >= 0 && column < v.in[1])
          sum += lm_widen(x[row * v.in[1] + column]) * lm_widen(*weight);
      }
    }
  }
  y[at] = lm_narrow<T>(sum);
}

/* Where along dimension d the narrow image met wide position `at` with tap k; -1: nowhere. */
__device__ inline int64_t met(const conv &v, int d, int64_t at, int64_t k)
{
  int64_t moved = at + v.padding[d] - k * v.dilation[d];
  if (moved < 0 || moved % v.stride[d] != 0) return -1;
  moved /= v.stride[d];
  return moved < v.out[d] ? moved : -1;
}

/* The adjoint: wide element `at` from the narrow images y. */
template <class T>
__global__ void __launch_bounds__(THREADS)
    adjoint_kernel(conv v, int64_t n, const T *y, const T *weight, const T *bias, T *x)
{
  int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x;
  if (at >= n) return;
  int64_t column = at % v.in[1], row = at / v.in[1] % v.in[0], c = at / v.in[1] / v.in[0];
  int64_t image = c / (v.groups * v.in_channels), taps = v.kernel[0] * v.kernel[1];
  c %= v.groups * v.in_channels;
  int64_t group = c / v.in_channels, plane = v.out[0] * v.out[1];
  y += (image * v.groups + group) * v.out_channels * plane;
  weight += (group * v.out_channels * v.in_channels + c % v.in_channels) * taps;
  lm_wide<T> sum = bias ? lm_widen(bias[c]) : lm_wide<T>(0);
  for (int64_t k = 0; k < v.kernel[0]; k++) {
    int64_t i = met(v, 0, row, k);
    for (int64_t l = 0; l < v.kernel[1] && i >= 0; l++) {
      int64_t j = met(v, 1, column, l);
      for (int64_t o = 0; o < v.out_channels && j >= 0; o++)
        sum += lm_widen(y[o * plane + i * v.out[1] + j]) *
               lm_widen(weight[o * v.in_channels * taps + k * v.kernel[1] + l]);
    }
  }
  x[at] = lm_narrow<T>(sum);
}

/* The gradient of one weight: the sum over all images and places of the narrow image. */
template <class T>
__global__ void __launch_bounds__(THREADS)
    weight_kernel(conv v, const T *x, const T *g, T *out)
{
  using A = lm_wide<T>;
  LM_SHARED(A, room, [32]);
  int64_t at = blockIdx.x, l = at % v.kernel[1], k = at / v.kernel[1] % v.kernel[0];
  int64_t c = at / v.kernel[1] / v.kernel[0] % v.in_channels;
  int64_t o = at / v.kernel[1] / v.kernel[0] / v.in_channels, group = o / v.out_channels;
  int64_t plane = v.out[0] * v.out[1];
  A sum = 0;
  for (int64_t p = threadIdx.x; p < v.images * plane; p += blockDim.x) {
    int64_t image = p / plane, i = p % plane / v.out[1], j = p % v.out[1];
    int64_t row = i * v.stride[0] - v.padding[0] + k * v.dilation[0];
    int64_t column = j * v.stride[1] - v.padding[1] + l * v.dilation[1];
    if (row < 0 || row >= v.in[0] || column < 0 || column >= v.in[1]) continue;
    int64_t from = (image * v.groups + group) * v.in_channels + c;
    sum += lm_widen(x[(from * v.in[0] + row) * v.in[1] + column]) *
           lm_widen(g[(image * v.groups * v.out_channels + o) * plane + p % plane]);
  }
  sum = lm_block_sum(sum, room);
  if (threadIdx.x == 0) out[at] = lm_narrow<T>(sum);
}

/* ---- on the host ---- */

/* Parameters number at[0..3] are stride, padding, dilation and groups. */
lm_status conv_of(const lm_call *c, const int *at, const int64_t *wide, const int64_t *narrow,
                  const int64_t *kernel, conv *v)
{
  *v = {};
  LM_TRY(lm_expand_ints(c, at[0], 2, 1, v->stride));
  LM_TRY(lm_expand_ints(c, at[1], 2, 0, v->padding));
  LM_TRY(lm_expand_ints(c, at[2], 2, 1, v->dilation));
  v->images = wide[0];
  v->groups = c->param[at[3]].i;
  v->in_channels = wide[1] / v->groups;
  v->out_channels = narrow[1] / v->groups;
  for (int d = 0; d < 2; d++) {
    v->in[d] = wide[2 + d];
    v->out[d] = narrow[2 + d];
    v->kernel[d] = kernel[d];
  }
  return LM_OK;
}

template <class T>
const T *bias_of(const lm_call *c)
{
  return c->in[2] ? (const T *)lm_data(c->in[2]) : NULL;
}

} // namespace

LM_KERNEL(conv2d)
{
  const int at[] = {0, 1, 2, 3};
  const lm_tensor *x = c->in[0], *w = c->in[1], *out = c->out[0];
  int64_t n = lm_numel(out);
  conv v;
  LM_TRY(conv_of(c, at, x->shape, out->shape, w->shape + 2, &v));
  return lm_for_all_floats(c, x->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    return LM_LAUNCH(c, forward_kernel<T>, lm_blocks(n, THREADS), THREADS, 0, v, n,
                     (const T *)lm_data(x), (const T *)lm_data(w), bias_of<T>(c),
                     (T *)lm_data(out));
  });
}

LM_KERNEL(conv_transpose2d)
{
  const int at[] = {0, 1, 3, 4};
  const lm_tensor *x = c->in[0], *w = c->in[1], *out = c->out[0];
  int64_t n = lm_numel(out);
  conv v;
  LM_TRY(conv_of(c, at, out->shape, x->shape, w->shape + 2, &v));
  return lm_for_all_floats(c, x->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    return LM_LAUNCH(c, adjoint_kernel<T>, lm_blocks(n, THREADS), THREADS, 0, v, n,
                     (const T *)lm_data(x), (const T *)lm_data(w), bias_of<T>(c),
                     (T *)lm_data(out));
  });
}

LM_KERNEL(conv2d_weight_grad)
{
  const int at[] = {1, 2, 3, 4};
  const lm_tensor *x = c->in[0], *g = c->in[1], *out = c->out[0];
  conv v;
  LM_TRY(conv_of(c, at, x->shape, g->shape, c->param[0].v, &v));
  return lm_for_all_floats(c, x->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    int threads = v.images * v.out[0] * v.out[1] < 4096 ? 32 : THREADS;
    return LM_LAUNCH(c, weight_kernel<T>, (unsigned)lm_numel(out), threads, 0, v,
                     (const T *)lm_data(x), (const T *)lm_data(g), (T *)lm_data(out));
  });
}
