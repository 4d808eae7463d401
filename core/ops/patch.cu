/* patch.cu: images as patches, and the losses on them, on the card (see patch.c): a block per
 * patch, which reads the patch from the image as often as it needs it. */
#include "ops/walk.h"

namespace {

constexpr int THREADS = 128;

struct grid {
  int64_t n, channels, height, width, side, rows, cols, patches, size;
};

/* The patch grid of an image [N, C, H, W]; its sizes have been checked. */
grid grid_of(const lm_tensor *image, int64_t side)
{
  const int64_t *s = image->shape;
  grid g = {s[0], s[1], s[2], s[3], side, s[2] / side, s[3] / side, 0, 0};
  g.patches = g.rows * g.cols;
  g.size = side * side * g.channels;
  return g;
}

/* An image, or patches of it, as [image, patch row, patch column, row, column, channel]. */
lm_tensor six_dims(const lm_tensor *t, const grid &g, bool image)
{
  lm_tensor six = *t;
  int64_t p = g.side, k = g.channels;
  const int64_t shape[] = {g.n, g.rows, g.cols, p, p, k};
  const int64_t *s = t->stride;
  const int64_t in[] = {s[0], p * s[2], p * s[3], s[2], s[3], s[1]};
  const int64_t out[] = {g.patches * g.size, g.cols * g.size, g.size, p * k, k, 1};
  six.ndim = 6;
  for (int d = 0; d < 6; d++) {
    six.shape[d] = shape[d];
    six.stride[d] = image ? in[d] : out[d];
  }
  return six;
}

/* Number i of patch number `at` of all, in the image. */
__device__ inline int64_t place_of(const grid &g, int64_t at, int64_t i)
{
  int64_t n = at / g.patches, l = at % g.patches, channel = i % g.channels;
  int64_t column = i / g.channels % g.side, row = i / g.channels / g.side;
  return ((n * g.channels + channel) * g.height + l / g.cols * g.side + row) * g.width +
         l % g.cols * g.side + column;
}

} // namespace

LM_KERNEL(patchify)
{
  grid g = grid_of(c->in[0], c->param[0].i);
  lm_tensor from = six_dims(c->in[0], g, true), to = six_dims(c->out[0], g, false);
  return lm_copy(c, &to, &from);
}

LM_KERNEL(unpatchify)
{
  grid g = grid_of(c->out[0], c->param[0].i);
  lm_tensor from = six_dims(c->in[0], g, false), to = six_dims(c->out[0], g, true);
  return lm_copy(c, &to, &from);
}

/* ---- statistics of a patch, masked_mse ---- */

namespace {

/* A: what statistics are computed in. */
template <class T>
using wide = std::conditional_t<std::is_same_v<T, double>, double, float>;

/* Mean and unbiased variance of a patch, in every thread of the block. */
template <class T, class A>
__device__ inline void statistics(const grid &g, const T *image, int64_t at, A *room, A *mean,
                                  A *variance)
{
  A sum = 0, square = 0;
  for (int64_t i = threadIdx.x; i < g.size; i += THREADS) sum += lm_widen(image[place_of(g, at, i)]);
  *mean = lm_block_sum(sum, room) / A(g.size);
  for (int64_t i = threadIdx.x; i < g.size; i += THREADS) {
    A d = A(lm_widen(image[place_of(g, at, i)])) - *mean;
    square += d * d;
  }
  *variance = lm_block_sum(square, room) / A(g.size - 1);
}

template <class M>
__device__ inline double weight_of(const M *mask, int64_t at) { return double(lm_widen(mask[at])); }

/* loss[patch] and weight[patch] in f64, mean and scale of the patch into stats if there. */
template <class T, class M>
__global__ void __launch_bounds__(THREADS)
    mse_kernel(grid g, bool normalise, double eps, const T *pred, const T *image, const M *mask,
               wide<T> *stats, double *loss, double *weight)
{
  using A = wide<T>;
  LM_SHARED(A, room, [32]);
  int64_t at = blockIdx.x;
  double w = weight_of(mask, at);
  A mean = 0, scale = 1, sum = 0;
  if (w != 0 && normalise) { /* the same for all threads of the block */
    A variance;
    statistics(g, image, at, room, &mean, &variance);
    scale = A(1) / sqrt(variance + A(eps));
  }
  for (int64_t i = threadIdx.x; w != 0 && i < g.size; i += THREADS) {
    A t = lm_widen(image[place_of(g, at, i)]);
    A d = A(lm_widen(pred[at * g.size + i])) - (t - mean) * scale;
    sum += d * d;
  }
  sum = lm_block_sum(sum, room);
  if (threadIdx.x > 0) return;
  loss[at] = w * double(sum);
  weight[at] = w;
  if (!stats) return;
  stats[2 * at] = mean;
  stats[2 * at + 1] = scale;
}

/* out = sum of loss / (sum of weight * size); one block. */
template <class T>
__global__ void __launch_bounds__(THREADS) mse_total(int64_t n, int64_t size, const double *loss,
                                                     const double *weight, T *out)
{
  LM_SHARED(double, room, [32]);
  double sum = 0, count = 0;
  for (int64_t i = threadIdx.x; i < n; i += THREADS) {
    sum += loss[i];
    count += weight[i];
  }
  sum = lm_block_sum(sum, room);
  count = lm_block_sum(count, room);
  if (threadIdx.x == 0) out[0] = lm_narrow<T>(lm_wide<T>(sum / (count * double(size))));
}

/* Calls f with the type of the mask: f32, or that of the prediction. */
template <class T, class F>
lm_status with_mask(const lm_tensor *mask, F f)
{
  return mask->dtype == LM_F32 ? f(lm_type<float>()) : f(lm_type<T>());
}

} // namespace

LM_KERNEL(masked_mse)
{
  const lm_tensor *pred = c->in[0], *image = c->in[1], *mask = c->in[2];
  grid g = grid_of(image, c->param[0].i);
  int64_t n = g.n * g.patches;
  lm_tensor *parts;
  int64_t shape[] = {2, lm_max64(n, 1)};
  LM_TRY(lm_tensor_new(c->device, LM_F64, 2, shape, &parts));
  double *loss = (double *)lm_data(parts), *weight = loss + shape[1];
  lm_status status = lm_for_all_floats(c, pred->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    wide<T> *stats = c->save[0] ? (wide<T> *)lm_data(c->save[0]) : NULL;
    LM_TRY(with_mask<T>(mask, [&](auto u) {
      using M = LM_TYPE(u);
      return LM_LAUNCH(c, (mse_kernel<T, M>), (unsigned)n, THREADS, 0, g, c->param[1].i != 0,
                       c->param[2].f, (const T *)(n ? lm_data(pred) : NULL),
                       (const T *)(n ? lm_data(image) : NULL),
                       (const M *)(n ? lm_data(mask) : NULL), stats, loss, weight);
    }));
    return LM_LAUNCH(c, mse_total<T>, 1, THREADS, 0, n, g.size, (const double *)loss,
                     (const double *)weight, (T *)lm_data(c->out[0]));
  });
  lm_release(parts);
  return status;
}

namespace {

template <class M>
__global__ void __launch_bounds__(THREADS) mask_total(int64_t n, const M *mask, double *out)
{
  LM_SHARED(double, room, [32]);
  double sum = 0;
  for (int64_t i = threadIdx.x; i < n; i += THREADS) sum += weight_of(mask, i);
  sum = lm_block_sum(sum, room);
  if (threadIdx.x == 0) out[0] = sum;
}

template <class T, class M>
__global__ void __launch_bounds__(THREADS)
    mse_back(grid g, const T *gout, const T *image, const T *pred, const M *mask,
             const wide<T> *stats, const double *total, T *out)
{
  using A = wide<T>;
  int64_t at = blockIdx.x;
  A factor = A(2 * double(lm_widen(gout[0])) / (total[0] * double(g.size)) * weight_of(mask, at));
  A mean = stats[2 * at], scale = stats[2 * at + 1];
  for (int64_t i = threadIdx.x; i < g.size; i += THREADS) {
    A d = 0;
    if (factor != A(0)) {
      A t = lm_widen(image[place_of(g, at, i)]);
      d = factor * (A(lm_widen(pred[at * g.size + i])) - (t - mean) * scale);
    }
    out[at * g.size + i] = lm_narrow<T>(d);
  }
}

} // namespace

LM_KERNEL(masked_mse_backward)
{
  const lm_tensor *gout = c->in[0], *image = c->in[1], *pred = c->in[2], *mask = c->in[3];
  grid g = grid_of(image, c->param[0].i);
  int64_t n = g.n * g.patches;
  lm_tensor *total;
  LM_TRY(lm_tensor_new(c->device, LM_F64, 0, NULL, &total));
  lm_status status = lm_for_all_floats(c, pred->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    return with_mask<T>(mask, [&](auto u) {
      using M = LM_TYPE(u);
      LM_TRY(LM_LAUNCH(c, mask_total<M>, 1, THREADS, 0, n, (const M *)lm_data(mask),
                       (double *)lm_data(total)));
      return LM_LAUNCH(c, (mse_back<T, M>), (unsigned)n, THREADS, 0, g, (const T *)lm_data(gout),
                       (const T *)lm_data(image), (const T *)lm_data(pred),
                       (const M *)lm_data(mask), (const wide<T> *)lm_data(c->in[4]),
                       (const double *)lm_data(total), (T *)lm_data(c->out[0]));
    });
  });
  lm_release(total);
  return status;
}

/* ---- denormalize_patches, patch_sum ---- */

namespace {

template <class T>
__global__ void __launch_bounds__(THREADS) denormalize(grid g, double eps, const T *pred,
                                                       const T *image, wide<T> *saved, T *out)
{
  using A = wide<T>;
  LM_SHARED(A, room, [32]);
  int64_t at = blockIdx.x;
  A mean, variance;
  statistics(g, image, at, room, &mean, &variance);
  A scale = sqrt(variance + A(eps));
  for (int64_t i = threadIdx.x; i < g.size; i += THREADS)
    out[at * g.size + i] = lm_narrow<T>(A(lm_widen(pred[at * g.size + i])) * scale + mean);
  if (saved && threadIdx.x == 0) saved[at] = scale;
}

template <class T>
__global__ void __launch_bounds__(THREADS) sum_kernel(grid g, const T *image, T *out)
{
  using A = wide<T>;
  LM_SHARED(A, room, [32]);
  A sum = 0;
  for (int64_t i = threadIdx.x; i < g.size; i += THREADS)
    sum += lm_widen(image[place_of(g, blockIdx.x, i)]);
  sum = lm_block_sum(sum, room);
  if (threadIdx.x == 0) out[blockIdx.x] = lm_narrow<T>(sum);
}

} // namespace

LM_KERNEL(denormalize_patches)
{
  const lm_tensor *pred = c->in[0], *image = c->in[1];
  grid g = grid_of(image, c->param[0].i);
  return lm_for_all_floats(c, pred->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    wide<T> *saved = c->save[0] ? (wide<T> *)lm_data(c->save[0]) : NULL;
    return LM_LAUNCH(c, denormalize<T>, (unsigned)(g.n * g.patches), THREADS, 0, g, c->param[1].f,
                     (const T *)lm_data(pred), (const T *)lm_data(image), saved,
                     (T *)lm_data(c->out[0]));
  });
}

LM_KERNEL(patch_sum)
{
  const lm_tensor *x = c->in[0];
  grid g = grid_of(x, c->param[0].i);
  return lm_for_all_floats(c, x->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    return LM_LAUNCH(c, sum_kernel<T>, (unsigned)(g.n * g.patches), THREADS, 0, g,
                     (const T *)lm_data(x), (T *)lm_data(c->out[0]));
  });
}
