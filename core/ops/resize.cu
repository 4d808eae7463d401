/* resize.cu: resampling on the card (see resize.c): a thread per element of the result, with
 * tables that the host makes. */
#include "ops/resize.h"
#include "ops/gpu.h"

namespace {

constexpr int THREADS = 256;

struct axis {
  int64_t in, out, taps;
  const int32_t *start;
  const double *weight;
};

struct axes {
  axis rows, cols;
  int64_t n;
};

template <class T>
__global__ void __launch_bounds__(THREADS) resize_kernel(axes a, const T *x, T *out)
{
  using A = lm_wide<T>;
  int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x;
  if (at >= a.n) return;
  int64_t j = at % a.cols.out, i = at / a.cols.out % a.rows.out;
  const T *map = x + at / a.cols.out / a.rows.out * a.rows.in * a.cols.in;
  map += a.rows.start[i] * a.cols.in + a.cols.start[j];
  A sum = 0;
  for (int64_t k = 0; k < a.rows.taps; k++, map += a.cols.in) {
    A row = 0;
    for (int64_t l = 0; l < a.cols.taps; l++)
      row += A(a.cols.weight[l * a.cols.out + j]) * lm_widen(map[l]);
    sum += A(a.rows.weight[k * a.rows.out + i]) * row;
  }
  out[at] = lm_narrow<T>(sum);
}

/* A copy on the card; the tensors hold it. */
lm_status upload(lm_call *c, const lm_resize_table *t, lm_tensor **start, lm_tensor **weight,
                 axis *a)
{
  int64_t n = t->taps * t->out;
  LM_TRY(lm_tensor_new(c->device, LM_I32, 1, &t->out, start));
  LM_TRY(lm_tensor_new(c->device, LM_F64, 1, &n, weight));
  LM_TRY(lm_tensor_write(*start, t->start, (size_t)t->out * sizeof(int32_t)));
  LM_TRY(lm_tensor_write(*weight, t->weight, (size_t)n * sizeof(double)));
  *a = {t->in, t->out, t->taps, (const int32_t *)lm_data(*start),
        (const double *)lm_data(*weight)};
  return LM_OK;
}

lm_status run(lm_call *c, const axes &a)
{
  const lm_tensor *x = c->in[0];
  return lm_for_all_floats(c, x->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    return LM_LAUNCH(c, resize_kernel<T>, lm_blocks(a.n, THREADS), THREADS, 0, a,
                     (const T *)lm_data(x), (T *)lm_data(c->out[0]));
  });
}

lm_status resize(lm_call *c, bool back)
{
  lm_resize_table rows, cols;
  lm_tensor *held[4] = {NULL, NULL, NULL, NULL};
  axes a = {};
  a.n = lm_numel(c->out[0]);
  lm_status status = lm_resize_tables(c, back, &rows, &cols);
  if (status == LM_OK) status = upload(c, &rows, &held[0], &held[1], &a.rows);
  if (status == LM_OK) status = upload(c, &cols, &held[2], &held[3], &a.cols);
  if (status == LM_OK) status = run(c, a);
  for (lm_tensor *t : held) lm_release(t);
  lm_resize_table_free(&rows);
  lm_resize_table_free(&cols);
  return status;
}

} // namespace

LM_KERNEL(resize) { return resize(c, false); }
LM_KERNEL(resize_backward) { return resize(c, true); }
