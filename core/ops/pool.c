/* pool.c: pooling over rows and columns of images [N, C, H, W].
 *
 *   max_pool2d           largest value of each window; the first one in row order on ties
 *   avg_pool2d           mean of each window, padding counted as zeros
 *   adaptive_avg_pool2d  mean of windows that divide the image into a given grid
 *   max_pool2d_grad, avg_pool2d_grad   internal
 *
 * Each plane [H, W] is one piece of work, so sums have the same order for any number of
 * threads. Rows of averages are summed in double. */
#include <math.h>
#include <omp.h>

#include "cpu/cpu.h"
#include "graph/op.h"

#define PARALLEL_WORK 65536 /* elements below which threads cost more than they bring */
#define PAIR(v) (long long)(v)[0], (long long)(v)[1]

extern const lm_op lm_op_max_pool2d_grad, lm_op_avg_pool2d_grad;

/* Windows along both dimensions. Adaptive: window i of n is [floor(i L / n), ceil((i+1)
 * L / n)). Otherwise `size` long every `stride` from -padding, of which only the part
 * inside counts. */
typedef struct windows {
  int64_t in[2], out[2], size[2], stride[2], padding[2];
  bool adaptive;
} windows;

static void window(const windows *w, int d, int64_t i, int64_t *first, int64_t *end)
{
  int64_t length = w->in[d], n = w->out[d];
  if (w->adaptive) {
    *first = i * (length / n) + i * (length % n) / n;
    *end = (i + 1) * (length / n) + ((i + 1) * (length % n) + n - 1) / n;
    return;
  }
  *first = lm_max64(i * w->stride[d] - w->padding[d], 0);
  *end = lm_min64(i * w->stride[d] - w->padding[d] + w->size[d], length);
}

/* Parameters size, stride, padding of the call, for images of shape [N, C, in[0],
 * in[1]]. */
static lm_status read_windows(const lm_call *c, const int64_t *in, windows *w)
{
  *w = (windows){.in = {in[0], in[1]}};
  LM_TRY(lm_expand_ints(c, 0, 2, 1, w->size));
  LM_TRY(lm_expand_ints(c, 1, 2, 0, w->stride));
  LM_TRY(lm_expand_ints(c, 2, 2, 0, w->padding));
  for (int d = 0; d < 2; d++) {
    if (w->stride[d] == 0) w->stride[d] = w->size[d];
    if (w->padding[d] > w->size[d] / 2)
      return lm_op_fail(c, LM_ERR_ARG, "padding %lld x %lld must be at most half of size "
                        "%lld x %lld", PAIR(w->padding), PAIR(w->size));
    if (w->size[d] - w->padding[d] > in[d] + w->padding[d])
      return lm_op_fail(c, LM_ERR_SHAPE, "size %lld x %lld is larger than the image with "
                        "padding %lld x %lld (x: %s)", PAIR(w->size), PAIR(w->padding),
                        lm_describe(c->in[0]));
    w->out[d] = (in[d] + w->padding[d] - (w->size[d] - w->padding[d])) / w->stride[d] + 1;
  }
  return LM_OK;
}

static lm_status check_image(const lm_call *c)
{
  LM_TRY(lm_check_ndim(c, 0, 4));
  return lm_check_float(c, 0);
}

static lm_status out_image(lm_call *c, const windows *w)
{
  const lm_tensor *x = c->in[0];
  return lm_out(c, 0, x->dtype, 4,
                (int64_t[]){x->shape[0], x->shape[1], w->out[0], w->out[1]});
}

static int64_t plane_count(const lm_tensor *x) { return x->shape[0] * x->shape[1]; }

/* ---- rows, for both element types ---- */

#define ROWS(T, name)                                                                    \
  /* One tap of all windows of a row: best[i] against x[i * step], whose index in the    \
   * plane is at + i * step. A NaN wins, as anything does where index is still -1. */    \
  static void max_tap_index_##name(T *restrict best, int32_t *restrict index,            \
                                   const T *restrict x, int64_t step, int64_t at,        \
                                   int64_t count)                                        \
  {                                                                                      \
    _Pragma("omp simd") for (int64_t i = 0; i < count; i++) {                            \
      T v = x[i * step];                                                                 \
      bool wins = v > best[i] || v != v || index[i] < 0;                                 \
      best[i] = wins ? v : best[i];                                                      \
      index[i] = wins ? (int32_t)at + (int32_t)(i * step) : index[i];                    \
    }                                                                                    \
  }                                                                                      \
  static void max_tap_##name(T *restrict best, const T *restrict x, int64_t step,        \
                             int64_t count)                                              \
  {                                                                                      \
    _Pragma("omp simd") for (int64_t i = 0; i < count; i++) {                            \
      T v = x[i * step];                                                                 \
      best[i] = v > best[i] || v != v ? v : best[i];                                     \
    }                                                                                    \
  }                                                                                      \
  /* Windows of 2 x 2 side by side, rows x0 and x1: the common case in one pass. */      \
  static void max_quads_##name(T *restrict best, int32_t *restrict index,                \
                               const T *restrict x0, const T *restrict x1, int64_t at,   \
                               int64_t pitch, int64_t count)                             \
  {                                                                                      \
    _Pragma("omp simd") for (int64_t i = 0; i < count; i++) {                            \
      T a = x0[2 * i], b = x0[2 * i + 1], c = x1[2 * i], d = x1[2 * i + 1];              \
      int32_t k = (int32_t)at + (int32_t)(2 * i), below = k + (int32_t)pitch;            \
      k = b > a || b != b ? k + 1 : k;                                                   \
      a = b > a || b != b ? b : a;                                                       \
      k = c > a || c != c ? below : k;                                                   \
      a = c > a || c != c ? c : a;                                                       \
      k = d > a || d != d ? below + 1 : k;                                               \
      best[i] = d > a || d != d ? d : a;                                                 \
      if (index) index[i] = k;                                                           \
    }                                                                                    \
  }                                                                                      \
  static void max_row_##name(const windows *w, int64_t row, const T *x, T *best,         \
                             int32_t *index)                                             \
  {                                                                                      \
    int64_t y0, y1, step = w->stride[1];                                                 \
    int64_t k0 = lm_max64(w->padding[1] - (w->out[1] - 1) * step, 0);                    \
    int64_t k1 = lm_min64(w->in[1] + w->padding[1], w->size[1]);                         \
    window(w, 0, row, &y0, &y1);                                                         \
    if (is_quads(w)) {                                                                   \
      const T *x0 = x + y0 * w->in[1], *x1 = x0 + w->in[1];                              \
      int64_t at = y0 * w->in[1];                                                        \
      if (index) max_quads_##name(best, index, x0, x1, at, w->in[1], w->out[1]);         \
      else max_quads_##name(best, NULL, x0, x1, at, w->in[1], w->out[1]);                \
      return;                                                                            \
    }                                                                                    \
    for (int64_t i = 0; i < w->out[1]; i++) best[i] = -(T)INFINITY;                      \
    for (int64_t i = 0; i < w->out[1] && index; i++) index[i] = -1;                      \
    for (int64_t y = y0; y < y1; y++) {                                                  \
      for (int64_t k = k0; k < k1; k++) {                                                \
        int64_t first, end, at;                                                          \
        tap_range(w, k, &first, &end);                                                   \
        if (end <= first) continue;                                                      \
        at = y * w->in[1] + first * step + k - w->padding[1];                            \
        /* a constant step lets the compiler use vectors */                              \
        if (index && step == 2)                                                          \
          max_tap_index_##name(best + first, index + first, x + at, 2, at, end - first); \
        else if (index && step == 1)                                                     \
          max_tap_index_##name(best + first, index + first, x + at, 1, at, end - first); \
        else if (index)                                                                  \
          max_tap_index_##name(best + first, index + first, x + at, step, at,            \
                               end - first);                                             \
        else if (step == 2)                                                              \
          max_tap_##name(best + first, x + at, 2, end - first);                          \
        else if (step == 1)                                                              \
          max_tap_##name(best + first, x + at, 1, end - first);                          \
        else                                                                             \
          max_tap_##name(best + first, x + at, step, end - first);                       \
      }                                                                                  \
    }                                                                                    \
  }                                                                                      \
  static void max_plane_##name(const windows *w, const T *x, T *y, int32_t *index)       \
  {                                                                                      \
    for (int64_t row = 0; row < w->out[0]; row++)                                        \
      max_row_##name(w, row, x, y + row * w->out[1],                                     \
                     index ? index + row * w->out[1] : NULL);                            \
  }                                                                                      \
  static void max_plane_grad_##name(int64_t in, int64_t out, const T *gy,                \
                                    const int32_t *index, T *gx)                         \
  {                                                                                      \
    for (int64_t i = 0; i < in; i++) gx[i] = 0;                                          \
    for (int64_t i = 0; i < out; i++) gx[index[i]] += gy[i];                             \
  }                                                                                      \
  static void add_row_##name(double *restrict sum, const T *restrict x, int64_t count)   \
  {                                                                                      \
    for (int64_t i = 0; i < count; i++) sum[i] += (double)x[i];                          \
  }                                                                                      \
  static void avg_row_##name(const windows *w, const double *restrict sum, int64_t rows, \
                             T *restrict y)                                              \
  {                                                                                      \
    for (int64_t i = 0; i < w->out[1]; i++) {                                            \
      int64_t first, end;                                                                \
      double total = 0;                                                                  \
      window(w, 1, i, &first, &end);                                                     \
      for (int64_t k = first; k < end; k++) total += sum[k];                             \
      y[i] = (T)(total / window_area(w, rows, end - first));                             \
    }                                                                                    \
  }                                                                                      \
  static void avg_plane_##name(const windows *w, const T *x, T *y, double *sum)          \
  {                                                                                      \
    for (int64_t row = 0; row < w->out[0]; row++) {                                      \
      int64_t y0, y1;                                                                    \
      window(w, 0, row, &y0, &y1);                                                       \
      for (int64_t i = 0; i < w->in[1]; i++) sum[i] = 0;                                 \
      for (int64_t k = y0; k < y1; k++) add_row_##name(sum, x + k * w->in[1], w->in[1]); \
      avg_row_##name(w, sum, y1 - y0, y + row * w->out[1]);                              \
    }                                                                                    \
  }                                                                                      \
  static void avg_plane_grad_##name(const windows *w, const T *gy, T *gx, double *sum)   \
  {                                                                                      \
    for (int64_t i = 0; i < w->in[0] * w->in[1]; i++) gx[i] = 0;                         \
    for (int64_t row = 0; row < w->out[0]; row++) {                                      \
      int64_t y0, y1, x0, x1;                                                            \
      window(w, 0, row, &y0, &y1);                                                       \
      for (int64_t i = 0; i < w->in[1]; i++) sum[i] = 0;                                 \
      for (int64_t i = 0; i < w->out[1]; i++) {                                          \
        window(w, 1, i, &x0, &x1);                                                       \
        double share = (double)gy[row * w->out[1] + i];                                  \
        share /= window_area(w, y1 - y0, x1 - x0);                                       \
        for (int64_t k = x0; k < x1; k++) sum[k] += share;                               \
      }                                                                                  \
      for (int64_t k = y0; k < y1; k++)                                                  \
        for (int64_t i = 0; i < w->in[1]; i++) gx[k * w->in[1] + i] += (T)sum[i];        \
    }                                                                                    \
  }

/* The windows [first, end) of a row in which tap k lies inside the image. */
static void tap_range(const windows *w, int64_t k, int64_t *first, int64_t *end)
{
  int64_t before = w->padding[1] - k, last = w->in[1] - 1 + before, step = w->stride[1];
  *first = before > 0 ? (before + step - 1) / step : 0;
  *end = last < 0 ? 0 : lm_min64(last / step + 1, w->out[1]);
}

static bool is_quads(const windows *w)
{
  bool quads = true;
  for (int d = 0; d < 2; d++)
    quads = quads && w->size[d] == 2 && w->stride[d] == 2 && w->padding[d] == 0;
  return quads;
}

static double window_area(const windows *w, int64_t rows, int64_t columns)
{
  if (!w->adaptive) rows = w->size[0], columns = w->size[1];
  return (double)rows * (double)columns;
}

ROWS(float, f32)
ROWS(double, f64)

/* ---- max_pool2d ---- */

static lm_status max_pool2d_infer(lm_call *c)
{
  windows w;
  LM_TRY(check_image(c));
  LM_TRY(read_windows(c, c->in[0]->shape + 2, &w));
  if (w.in[1] > INT32_MAX / lm_max64(w.in[0], 1))
    return lm_op_fail(c, LM_ERR_SHAPE, "images of more than 2^31 pixels are not "
                      "supported (x: %s)", lm_describe(c->in[0]));
  LM_TRY(out_image(c, &w));
  return lm_save(c, 0, LM_I32, 4, c->out[0]->shape);
}

static lm_status max_pool2d_cpu(lm_call *c)
{
  windows w;
  LM_TRY(read_windows(c, c->in[0]->shape + 2, &w));
  int64_t planes = plane_count(c->in[0]);
  int64_t in = w.in[0] * w.in[1], out = w.out[0] * w.out[1];
  int32_t *index = c->save[0] ? lm_data(c->save[0]) : NULL;
  const void *x = lm_data(c->in[0]);
  void *y = lm_data(c->out[0]);
  bool f64 = c->in[0]->dtype == LM_F64;
#pragma omp parallel for schedule(static) if (planes * in > PARALLEL_WORK)
  for (int64_t p = 0; p < planes; p++) {
    int32_t *at = index ? index + p * out : NULL;
    if (f64) max_plane_f64(&w, (const double *)x + p * in, (double *)y + p * out, at);
    else max_plane_f32(&w, (const float *)x + p * in, (float *)y + p * out, at);
  }
  return LM_OK;
}

static lm_status max_pool2d_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  if (!gout[0]) return LM_OK;
  return lm_apply(&lm_op_max_pool2d_grad, LM_IN(gout[0], c->save[0]),
                  LM_PARAMS(lm_ints(2, c->in[0]->shape + 2), c->param[0], c->param[1],
                            c->param[2]), gin);
}

const lm_op lm_op_max_pool2d = {
    .name = "max_pool2d",
    .sig = "x; size: ints, stride: ints = 0, padding: ints = 0",
    .doc = "Largest value of each window of x [N, C, H, W] -> [N, C, H', W'] with H' = "
           "floor((H + 2 padding - size) / stride) + 1; stride 0 means size. Padding "
           "never wins and is at most half of size; the gradient goes to the first of "
           "equal values; a NaN wins.\n"
           "> lumen.arange(16):to(\"f32\"):reshape(1, 1, 4, 4):max_pool2d(2)\n"
           "f32 [1 x 1 x 2 x 2] {5, 7, 13, 15}",
    .infer = max_pool2d_infer,
    .cpu = max_pool2d_cpu,
    .grad = max_pool2d_grad,
};

static lm_status image_grad_infer(lm_call *c)
{
  const lm_tensor *g = c->in[0];
  return lm_out(c, 0, g->dtype, 4, (int64_t[]){g->shape[0], g->shape[1], c->param[0].v[0],
                                               c->param[0].v[1]});
}

static lm_status max_pool2d_grad_cpu(lm_call *c)
{
  int64_t planes = plane_count(c->in[0]);
  int64_t in = c->param[0].v[0] * c->param[0].v[1];
  int64_t out = c->in[0]->shape[2] * c->in[0]->shape[3];
  const int32_t *index = lm_data(c->in[1]);
  const void *gy = lm_data(c->in[0]);
  void *gx = lm_data(c->out[0]);
  bool f64 = c->in[0]->dtype == LM_F64;
#pragma omp parallel for schedule(static) if (planes * in > PARALLEL_WORK)
  for (int64_t p = 0; p < planes; p++) {
    if (f64)
      max_plane_grad_f64(in, out, (const double *)gy + p * out, index + p * out,
                         (double *)gx + p * in);
    else
      max_plane_grad_f32(in, out, (const float *)gy + p * out, index + p * out,
                         (float *)gx + p * in);
  }
  return LM_OK;
}

const lm_op lm_op_max_pool2d_grad = {
    .name = "max_pool2d_grad",
    .sig = "gy, index; shape: ints, size: ints, stride: ints = 0, padding: ints = 0",
    .doc = "Adds gy [N, C, H', W'] at index [N, C, H', W'] (i32, within the plane) into "
           "zeros [N, C, shape]. The windows are those of max_pool2d.",
    .infer = image_grad_infer,
    .cpu = max_pool2d_grad_cpu,
    .flags = LM_OP_INTERNAL,
};

/* ---- averages ---- */

/* All planes, forward or gradient; each thread has a row of sums. */
static lm_status avg_planes(lm_call *c, const windows *w, bool gradient)
{
  int64_t planes = plane_count(c->in[0]), in = w->in[0] * w->in[1];
  int64_t out = w->out[0] * w->out[1], a = gradient ? out : in, b = gradient ? in : out;
  int threads = planes * in > PARALLEL_WORK ? lm_threads() : 1;
  size_t bytes = (size_t)threads * (size_t)w->in[1] * sizeof(double);
  const void *from = lm_data(c->in[0]);
  void *to = lm_data(c->out[0]), *sums;
  bool f64 = c->in[0]->dtype == LM_F64;
  LM_TRY(lm_device_alloc(c->device, bytes, &sums));
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (int64_t p = 0; p < planes; p++) {
    double *sum = (double *)sums + omp_get_thread_num() * w->in[1];
    if (f64 && gradient)
      avg_plane_grad_f64(w, (const double *)from + p * a, (double *)to + p * b, sum);
    else if (f64)
      avg_plane_f64(w, (const double *)from + p * a, (double *)to + p * b, sum);
    else if (gradient)
      avg_plane_grad_f32(w, (const float *)from + p * a, (float *)to + p * b, sum);
    else
      avg_plane_f32(w, (const float *)from + p * a, (float *)to + p * b, sum);
  }
  lm_device_free(c->device, sums, bytes);
  return LM_OK;
}

static lm_status avg_pool2d_infer(lm_call *c)
{
  windows w;
  LM_TRY(check_image(c));
  LM_TRY(read_windows(c, c->in[0]->shape + 2, &w));
  return out_image(c, &w);
}

static lm_status avg_pool2d_cpu(lm_call *c)
{
  windows w;
  LM_TRY(read_windows(c, c->in[0]->shape + 2, &w));
  return avg_planes(c, &w, false);
}

static lm_status avg_pool2d_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  if (!gout[0]) return LM_OK;
  const lm_value *p = c->param;
  return lm_apply(&lm_op_avg_pool2d_grad, LM_IN(gout[0]),
                  LM_PARAMS(lm_ints(2, c->in[0]->shape + 2), p[0], p[1], p[2],
                            lm_int(0)), gin);
}

const lm_op lm_op_avg_pool2d = {
    .name = "avg_pool2d",
    .sig = "x; size: ints, stride: ints = 0, padding: ints = 0",
    .doc = "Mean of each window of x [N, C, H, W] -> [N, C, H', W'] with H' = floor((H "
           "+ 2 padding - size) / stride) + 1; stride 0 means size. Padding counts as "
           "zeros and is at most half of size.\n"
           "> lumen.arange(16):to(\"f32\"):reshape(1, 1, 4, 4):avg_pool2d(2)\n"
           "f32 [1 x 1 x 2 x 2] {2.5, 4.5, 10.5, 12.5}",
    .infer = avg_pool2d_infer,
    .cpu = avg_pool2d_cpu,
    .grad = avg_pool2d_grad,
};

static lm_status adaptive_windows(const lm_call *c, windows *w)
{
  const lm_tensor *x = c->in[0];
  *w = (windows){.in = {x->shape[2], x->shape[3]}, .adaptive = true};
  LM_TRY(lm_expand_ints(c, 0, 2, 1, w->out));
  for (int d = 0; d < 2; d++) {
    if (w->in[d] < 1 || w->out[d] > INT32_MAX)
      return lm_op_fail(c, LM_ERR_SHAPE, "cannot make %lld x %lld windows (x: %s)",
                        PAIR(w->out), lm_describe(x));
  }
  return LM_OK;
}

static lm_status adaptive_avg_pool2d_infer(lm_call *c)
{
  windows w;
  LM_TRY(check_image(c));
  LM_TRY(adaptive_windows(c, &w));
  return out_image(c, &w);
}

static lm_status adaptive_avg_pool2d_cpu(lm_call *c)
{
  windows w;
  LM_TRY(adaptive_windows(c, &w));
  return avg_planes(c, &w, false);
}

static lm_status adaptive_avg_pool2d_grad(lm_call *c, lm_tensor *const *gout,
                                          lm_tensor **gin)
{
  if (!gout[0]) return LM_OK;
  lm_value none = lm_int(0);
  return lm_apply(&lm_op_avg_pool2d_grad, LM_IN(gout[0]),
                  LM_PARAMS(lm_ints(2, c->in[0]->shape + 2), none, none, none,
                            lm_int(1)), gin);
}

const lm_op lm_op_adaptive_avg_pool2d = {
    .name = "adaptive_avg_pool2d",
    .sig = "x; size: ints",
    .doc = "Mean over windows that divide x [N, C, H, W] into size rows and columns -> "
           "[N, C, size]. Window i of n along a side of length L is floor(i L / n) to "
           "ceil((i + 1) L / n).\n"
           "> lumen.randn(2, 8, 7, 5):adaptive_avg_pool2d(1).shape\n"
           "{2, 8, 1, 1}",
    .infer = adaptive_avg_pool2d_infer,
    .cpu = adaptive_avg_pool2d_cpu,
    .grad = adaptive_avg_pool2d_grad,
};

static lm_status avg_pool2d_grad_cpu(lm_call *c)
{
  const lm_value *p = c->param;
  windows w = {.adaptive = p[4].i};
  for (int d = 0; d < 2; d++) {
    w.in[d] = p[0].v[d];
    w.out[d] = c->in[0]->shape[2 + d];
  }
  if (!w.adaptive) {
    LM_TRY(lm_expand_ints(c, 1, 2, 1, w.size));
    LM_TRY(lm_expand_ints(c, 2, 2, 0, w.stride));
    LM_TRY(lm_expand_ints(c, 3, 2, 0, w.padding));
    for (int d = 0; d < 2; d++)
      if (w.stride[d] == 0) w.stride[d] = w.size[d];
  }
  return avg_planes(c, &w, true);
}

const lm_op lm_op_avg_pool2d_grad = {
    .name = "avg_pool2d_grad",
    .sig = "gy; shape: ints, size: ints, stride: ints = 0, padding: ints = 0, "
           "adaptive: bool = false",
    .doc = "Gradient of avg_pool2d and adaptive_avg_pool2d: gy [N, C, H', W'] -> [N, C, "
           "shape].",
    .infer = image_grad_infer,
    .cpu = avg_pool2d_grad_cpu,
    .flags = LM_OP_INTERNAL,
};
