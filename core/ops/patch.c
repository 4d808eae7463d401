/* patch.c: images as rows of patches, and the losses on them of masked autoencoders.
 *
 * An image [N, C, H, W] with patch side p has L = H/p * W/p patches, row by row; a
 * patch's P = p*p*C numbers are ordered row, column, channel (as timm and MAE do). H and
 * W are multiples of p. Statistics of a target patch: mean and unbiased variance of its P
 * numbers.
 *
 * Nothing of an image's size is stored: patches are gathered one at a time into a buffer
 * of P numbers, forward and backward. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "graph/op.h"
#include "tensor/copy.h"

extern const lm_op lm_op_patchify, lm_op_unpatchify, lm_op_masked_mse_backward;
extern const lm_op lm_op_cast, lm_op_mul, lm_op_reshape, lm_op_expand;

#define PARALLEL_WORK 65536

typedef struct grid {
  int64_t n, channels, height, width, side, rows, cols, patches, size;
} grid;

/* The patch grid of input k with the patch side of parameter 0. */
static lm_status grid_of(const lm_call *c, int k, grid *g)
{
  LM_TRY(lm_check_ndim(c, k, 4));
  const int64_t *s = c->in[k]->shape;
  int64_t side = c->param[0].i;
  *g = (grid){.n = s[0], .channels = s[1], .height = s[2], .width = s[3], .side = side};
  if (side < 1)
    return lm_op_fail(c, LM_ERR_ARG, "patch must be at least 1, not %lld",
                      (long long)side);
  if (s[2] % side != 0 || s[3] % side != 0)
    return lm_op_fail(c, LM_ERR_SHAPE, "patches of %lld x %lld do not tile %s (%s)",
                      (long long)side, (long long)side, lm_arg_name(c, k),
                      lm_describe(c->in[k]));
  g->rows = s[2] / side;
  g->cols = s[3] / side;
  g->patches = g->rows * g->cols;
  if (__builtin_mul_overflow(side, side, &g->size) ||
      __builtin_mul_overflow(g->size, g->channels, &g->size))
    return lm_op_fail(c, LM_ERR_ARG, "patch %lld is too large", (long long)side);
  return LM_OK;
}

/* ---- patchify, unpatchify ---- */

/* The six dimensions that image and patches share: image, patch row, patch column, row,
 * column, channel; with the strides of an image and those of contiguous patches. */
static void patch_layout(const grid *g, const int64_t *image, int64_t *shape,
                         int64_t *image_stride, int64_t *patch_stride)
{
  int64_t p = g->side;
  int64_t sizes[] = {g->n, g->rows, g->cols, p, p, g->channels};
  int64_t in[] = {image[0], p * image[2], p * image[3], image[2], image[3], image[1]};
  int64_t out[] = {g->patches * g->size, g->cols * g->size, g->size,
                   p * g->channels,      g->channels,       1};
  for (int i = 0; i < 6; i++) {
    shape[i] = sizes[i];
    image_stride[i] = in[i];
    patch_stride[i] = out[i];
  }
}

static lm_status patchify_infer(lm_call *c)
{
  grid g;
  LM_TRY(grid_of(c, 0, &g));
  return lm_out(c, 0, c->in[0]->dtype, 3, (int64_t[]){g.n, g.patches, g.size});
}

static lm_status patchify_cpu(lm_call *c)
{
  const lm_tensor *x = c->in[0];
  int64_t shape[6], from[6], to[6];
  grid g;
  LM_TRY(grid_of(c, 0, &g));
  patch_layout(&g, x->stride, shape, from, to);
  lm_copy_strided(6, shape, lm_dtype_size(x->dtype), lm_data(x), from, lm_data(c->out[0]),
                  to);
  return LM_OK;
}

static lm_status patchify_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  const int64_t *s = c->in[0]->shape;
  lm_value p[] = {lm_int(c->param[0].i), lm_int(s[2]), lm_int(s[3])};
  return lm_apply(&lm_op_unpatchify, LM_IN(gout[0]), p, gin);
}

const lm_op lm_op_patchify = {
    .name = "patchify",
    .sig = "x; patch: int",
    .doc =
        "Image [N, C, H, W] as patches [N, L, patch * patch * C], L = H/patch * W/patch, "
        "numbers within a patch ordered row, column, channel.\n"
        "> lumen.randn(1, 3, 32, 32):patchify(8).shape\n"
        "{1, 16, 192}",
    .infer = patchify_infer,
    .cpu = patchify_cpu,
    .grad = patchify_grad,
    .flags = LM_OP_STRIDED | LM_OP_BF16};

static lm_status unpatchify_infer(lm_call *c)
{
  LM_TRY(lm_check_ndim(c, 0, 3));
  const lm_tensor *x = c->in[0];
  int64_t p = c->param[0].i, h = c->param[1].i, w = c->param[2].i;
  if (p < 1 || p > INT32_MAX || h < 0 || w < 0 || h > INT32_MAX || w > INT32_MAX)
    return lm_op_fail(c, LM_ERR_ARG, "patch %lld and size %lld x %lld make no image",
                      (long long)p, (long long)h, (long long)w);
  bool fits = h % p == 0 && w % p == 0 && x->shape[1] == h / p * (w / p) &&
              x->shape[2] % (p * p) == 0;
  if (!fits)
    return lm_op_fail(c, LM_ERR_SHAPE,
                      "x does not hold the %lld x %lld patches of images of "
                      "%lld x %lld (x: %s)",
                      (long long)p, (long long)p, (long long)h, (long long)w,
                      lm_describe(x));
  return lm_out(c, 0, x->dtype, 4, (int64_t[]){x->shape[0], x->shape[2] / (p * p), h, w});
}

static lm_status unpatchify_cpu(lm_call *c)
{
  const lm_tensor *image = c->out[0];
  const int64_t *s = image->shape;
  int64_t shape[6], from[6], to[6], p = c->param[0].i;
  grid g = {.n = s[0], .channels = s[1], .side = p, .rows = s[2] / p, .cols = s[3] / p};
  g.patches = g.rows * g.cols;
  g.size = p * p * g.channels;
  patch_layout(&g, image->stride, shape, to, from);
  lm_copy_strided(6, shape, lm_dtype_size(image->dtype), lm_data(c->in[0]), from,
                  lm_data(image), to);
  return LM_OK;
}

static lm_status unpatchify_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  lm_value p[] = {lm_int(c->param[0].i)};
  return lm_apply(&lm_op_patchify, LM_IN(gout[0]), p, gin);
}

const lm_op lm_op_unpatchify = {
    .name = "unpatchify",
    .sig = "x; patch: int, height: int, width: int",
    .doc = "The inverse of patchify: patches [N, L, patch * patch * C] as images "
           "[N, C, height, width].\n"
           "> x = lumen.randn(1, 3, 32, 32)\n"
           "> x:patchify(8):unpatchify(8, 32, 32):eq(x):min():item()\n"
           "1",
    .infer = unpatchify_infer,
    .cpu = unpatchify_cpu,
    .grad = unpatchify_grad,
    .flags = LM_OP_BF16};

/* ---- patches of a target, one at a time ---- */

typedef struct stats {
  double mean, variance;
} stats;

/* Patch number l of image n into t [P]; its statistics; the loss against y [P] after
 * t' = (t - mean) * scale; its gradient; y * scale + mean. */
#define PATCH_ROWS(suffix, type)                                                       \
  static void take_##suffix(const grid *g, const void *image, int64_t n, int64_t l,    \
                            type *restrict t)                                          \
  {                                                                                    \
    int64_t p = g->side, k = g->channels;                                              \
    for (int64_t c = 0; c < k; c++) {                                                  \
      const type *x = (const type *)image + (n * k + c) * g->height * g->width;        \
      x += l / g->cols * p * g->width + l % g->cols * p;                               \
      for (int64_t i = 0; i < p; i++)                                                  \
        for (int64_t j = 0; j < p; j++) t[(i * p + j) * k + c] = x[i * g->width + j];  \
    }                                                                                  \
  }                                                                                    \
  static stats stats_##suffix(const type *t, int64_t size)                             \
  {                                                                                    \
    double sum = 0, square = 0;                                                        \
    _Pragma("omp simd reduction(+ : sum)") for (int64_t i = 0; i < size; i++) sum +=   \
        (double)t[i];                                                                  \
    double mean = sum / (double)size;                                                  \
    _Pragma("omp simd reduction(+ : square)") for (int64_t i = 0; i < size; i++)       \
        square += ((double)t[i] - mean) * ((double)t[i] - mean);                       \
    return (stats){mean, square / (double)(size - 1)};                                 \
  }                                                                                    \
  static double loss_##suffix(const type *y, const type *t, int64_t size, double mean, \
                              double scale)                                            \
  {                                                                                    \
    double sum = 0;                                                                    \
    type m = (type)mean, s = (type)scale;                                              \
    _Pragma("omp simd reduction(+ : sum)") for (int64_t i = 0; i < size; i++)          \
    {                                                                                  \
      type d = y[i] - (t[i] - m) * s;                                                  \
      sum += (double)(d * d);                                                          \
    }                                                                                  \
    return sum;                                                                        \
  }                                                                                    \
  static void loss_grad_##suffix(const type *y, const type *t, int64_t size,           \
                                 double mean, double scale, double factor,             \
                                 type *restrict g)                                     \
  {                                                                                    \
    type m = (type)mean, s = (type)scale, f = (type)factor;                            \
    for (int64_t i = 0; i < size; i++) g[i] = f * (y[i] - (t[i] - m) * s);             \
  }                                                                                    \
  static void affine_##suffix(const type *y, int64_t size, double mean, double scale,  \
                              type *restrict z)                                        \
  {                                                                                    \
    type m = (type)mean, s = (type)scale;                                              \
    for (int64_t i = 0; i < size; i++) z[i] = y[i] * s + m;                            \
  }
PATCH_ROWS(f32, float)
PATCH_ROWS(f64, double)

static double number_at(const lm_tensor *t, int64_t i)
{
  return t->dtype == LM_F64 ? ((const double *)lm_data(t))[i]
                            : ((const float *)lm_data(t))[i];
}

static void set_number(const lm_tensor *t, int64_t i, double v)
{
  if (t->dtype == LM_F64) ((double *)lm_data(t))[i] = v;
  else ((float *)lm_data(t))[i] = (float)v;
}

/* Work of one thread: a buffer for one patch, in doubles' space for either type. */
static void *patch_buffer(const grid *g)
{
  return malloc((size_t)lm_max64(g->size, 1) * sizeof(double));
}

static lm_status no_buffer(const lm_call *c, const grid *g)
{
  return lm_op_fail(c, LM_ERR_MEMORY, "no memory for patches of %lld numbers",
                    (long long)g->size);
}

/* ---- masked_mse ---- */

/* pred (input 0) and image (input 1) belong together; image gets no gradient. */
static lm_status check_target(const lm_call *c, grid *g)
{
  LM_TRY(lm_check_float(c, 0));
  LM_TRY(lm_check_same_dtype(c, 0, 1));
  LM_TRY(grid_of(c, 1, g));
  return lm_check_shape(c, 0, 3, (int64_t[]){g->n, g->patches, g->size});
}

static lm_status refuse_gradient(const lm_call *c, int k)
{
  if (!c->recording || !c->in[k]->requires_grad) return LM_OK;
  lm_op_fail(c, LM_ERR_ARG, "there is no gradient for %s (%s)", lm_arg_name(c, k),
             lm_describe(c->in[k]));
  return lm_hint("pass %s:detach()", lm_arg_name(c, k));
}

static lm_status masked_mse_infer(lm_call *c)
{
  grid g;
  LM_TRY(check_target(c, &g));
  LM_TRY(lm_check_shape(c, 2, 2, (int64_t[]){g.n, g.patches}));
  if (c->in[2]->dtype != LM_F32) LM_TRY(lm_check_same_dtype(c, 0, 2));
  LM_TRY(refuse_gradient(c, 1));
  LM_TRY(refuse_gradient(c, 2));
  if (c->param[1].i && g.size < 2)
    return lm_op_fail(c, LM_ERR_SHAPE,
                      "patches of %lld number have no variance: norm_pix "
                      "needs at least 2",
                      (long long)g.size);
  LM_TRY(lm_out(c, 0, c->in[0]->dtype, 0, NULL));
  lm_dtype saved = c->in[0]->dtype == LM_F64 ? LM_F64 : LM_F32;
  return lm_save(c, 0, saved, 3, (int64_t[]){g.n, g.patches, 2});
}

/* Loss of patch i, weighted by its mask; its mean and scale go to `save` (or NULL). */
static double masked_patch(const lm_call *c, const grid *g, int64_t i, void *t,
                           lm_tensor *save)
{
  double weight = number_at(c->in[2], i), mean = 0, scale = 1, loss = 0;
  if (weight != 0) {
    bool wide = c->in[0]->dtype == LM_F64, normalise = c->param[1].i != 0;
    const void *pred = lm_data(c->in[0]), *image = lm_data(c->in[1]);
    int64_t at = i * g->size;
    if (wide) take_f64(g, image, i / g->patches, i % g->patches, t);
    else take_f32(g, image, i / g->patches, i % g->patches, t);
    if (normalise) {
      stats s = wide ? stats_f64(t, g->size) : stats_f32(t, g->size);
      mean = s.mean;
      scale = 1 / sqrt(s.variance + c->param[2].f);
    }
    if (wide) loss = loss_f64((const double *)pred + at, t, g->size, mean, scale);
    else loss = loss_f32((const float *)pred + at, t, g->size, mean, scale);
  }
  if (save) {
    set_number(save, 2 * i, mean);
    set_number(save, 2 * i + 1, scale);
  }
  return weight * loss;
}

static double mask_sum(const lm_tensor *mask)
{
  double sum = 0;
  for (int64_t i = 0, n = lm_numel(mask); i < n; i++) sum += number_at(mask, i);
  return sum;
}

static lm_status masked_mse_cpu(lm_call *c)
{
  grid g;
  LM_TRY(grid_of(c, 1, &g));
  int64_t n = g.n * g.patches;
  double *loss, sum = 0;
  bool failed = false;
  LM_TRY(lm_calloc(&loss, (size_t)lm_max64(n, 1), sizeof *loss));
#pragma omp parallel if (n * g.size > PARALLEL_WORK) reduction(|| : failed)
  {
    void *t = patch_buffer(&g);
    failed = !t;
#pragma omp for schedule(static)
    for (int64_t i = 0; i < n; i++)
      if (t) loss[i] = masked_patch(c, &g, i, t, c->save[0]);
    free(t);
  }
  for (int64_t i = 0; i < n; i++) sum += loss[i];
  free(loss);
  if (failed) return no_buffer(c, &g);
  set_number(c->out[0], 0, sum / (mask_sum(c->in[2]) * (double)g.size));
  return LM_OK;
}

static lm_status masked_mse_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  lm_value p[] = {lm_int(c->param[0].i)};
  return lm_apply(&lm_op_masked_mse_backward,
                  LM_IN(gout[0], c->in[1], c->in[0], c->in[2], c->save[0]), p, gin);
}

const lm_op lm_op_masked_mse = {
    .name = "masked_mse",
    .sig = "pred, image, mask; patch: int, norm_pix: bool = true, eps: float = 1e-6",
    .doc =
        "Mean squared error between pred [N, L, P] and the patches of image [N, C, H, "
        "W], "
        "mean over the numbers of each patch, then over the patches weighted by mask [N, "
        "L] "
        "(1: hidden). norm_pix: the target patch is normalised first, (t - mean) / "
        "sqrt(variance + eps) with unbiased variance. Gradient for pred only. NaN when "
        "nothing is masked. He et al. 2022, Masked Autoencoders, section 3.\n"
        "> image, mask = lumen.zeros(1, 3, 16, 16), lumen.tensor{{1, 0, 0, 0}}\n"
        "> pred = lumen.ones(1, 4, 8 * 8 * 3)\n"
        "> lumen.masked_mse(pred, image, mask, {patch = 8, norm_pix = false}):item()\n"
        "1.0",
    .infer = masked_mse_infer,
    .cpu = masked_mse_cpu,
    .grad = masked_mse_grad,
    .save_in = 7};

static lm_status masked_mse_backward_infer(lm_call *c)
{
  return lm_out_like(c, 0, c->in[2]);
}

static void masked_patch_back(const lm_call *c, const grid *g, int64_t i, double factor,
                              void *t)
{
  const lm_tensor *stat = c->in[4];
  void *out = lm_data(c->out[0]);
  const void *image = lm_data(c->in[1]), *pred = lm_data(c->in[2]);
  double f = factor * number_at(c->in[3], i);
  double mean = number_at(stat, 2 * i), scale = number_at(stat, 2 * i + 1);
  int64_t at = i * g->size, n = i / g->patches, l = i % g->patches;
  bool wide = c->out[0]->dtype == LM_F64;
  if (f == 0) {
    memset((char *)out + at * (wide ? 8 : 4), 0, (size_t)(g->size * (wide ? 8 : 4)));
  } else if (wide) {
    take_f64(g, image, n, l, t);
    loss_grad_f64((const double *)pred + at, t, g->size, mean, scale, f,
                  (double *)out + at);
  } else {
    take_f32(g, image, n, l, t);
    loss_grad_f32((const float *)pred + at, t, g->size, mean, scale, f,
                  (float *)out + at);
  }
}

static lm_status masked_mse_backward_cpu(lm_call *c)
{
  grid g;
  LM_TRY(grid_of(c, 1, &g));
  int64_t n = g.n * g.patches;
  bool failed = false;
  double factor = 2 * number_at(c->in[0], 0) / (mask_sum(c->in[3]) * (double)g.size);
#pragma omp parallel if (n * g.size > PARALLEL_WORK) reduction(|| : failed)
  {
    void *t = patch_buffer(&g);
    failed = !t;
#pragma omp for schedule(static)
    for (int64_t i = 0; i < n; i++)
      if (t) masked_patch_back(c, &g, i, factor, t);
    free(t);
  }
  return failed ? no_buffer(c, &g) : LM_OK;
}

const lm_op lm_op_masked_mse_backward = {.name = "masked_mse_backward",
                                         .sig = "g, image, pred, mask, stats; patch: int",
                                         .doc =
                                             "Gradient of masked_mse for pred; stats [N, "
                                             "L, 2] holds each patch's mean and scale.",
                                         .infer = masked_mse_backward_infer,
                                         .cpu = masked_mse_backward_cpu,
                                         .flags = LM_OP_INTERNAL};

/* ---- denormalize_patches ---- */

static lm_status denormalize_patches_infer(lm_call *c)
{
  grid g;
  LM_TRY(check_target(c, &g));
  LM_TRY(refuse_gradient(c, 1));
  if (g.size < 2)
    return lm_op_fail(c, LM_ERR_SHAPE, "patches of %lld number have no variance",
                      (long long)g.size);
  LM_TRY(lm_out_like(c, 0, c->in[0]));
  return lm_save(c, 0, c->in[0]->dtype == LM_F64 ? LM_F64 : LM_F32, 3,
                 (int64_t[]){g.n, g.patches, 1});
}

static void denormalize_patch(const lm_call *c, const grid *g, int64_t i, void *t)
{
  const void *pred = lm_data(c->in[0]), *image = lm_data(c->in[1]);
  void *out = lm_data(c->out[0]);
  int64_t at = i * g->size, n = i / g->patches, l = i % g->patches;
  bool wide = c->in[0]->dtype == LM_F64;
  if (wide) take_f64(g, image, n, l, t);
  else take_f32(g, image, n, l, t);
  stats s = wide ? stats_f64(t, g->size) : stats_f32(t, g->size);
  double scale = sqrt(s.variance + c->param[1].f);
  if (wide)
    affine_f64((const double *)pred + at, g->size, s.mean, scale, (double *)out + at);
  else affine_f32((const float *)pred + at, g->size, s.mean, scale, (float *)out + at);
  if (c->save[0]) set_number(c->save[0], i, scale);
}

static lm_status denormalize_patches_cpu(lm_call *c)
{
  grid g;
  LM_TRY(grid_of(c, 1, &g));
  int64_t n = g.n * g.patches;
  bool failed = false;
#pragma omp parallel if (n * g.size > PARALLEL_WORK) reduction(|| : failed)
  {
    void *t = patch_buffer(&g);
    failed = !t;
#pragma omp for schedule(static)
    for (int64_t i = 0; i < n; i++)
      if (t) denormalize_patch(c, &g, i, t);
    free(t);
  }
  return failed ? no_buffer(c, &g) : LM_OK;
}

static lm_status denormalize_patches_grad(lm_call *c, lm_tensor *const *gout,
                                          lm_tensor **gin)
{
  lm_tensor *scale; /* saved as f32 even when the gradient is bf16 */
  LM_TRY(lm_apply(&lm_op_cast, LM_IN(c->save[0]), LM_PARAMS(lm_int(gout[0]->dtype)),
                  &scale));
  lm_status status = lm_apply(&lm_op_mul, LM_IN(gout[0], scale), NULL, gin);
  lm_release(scale);
  return status;
}

const lm_op lm_op_denormalize_patches = {
    .name = "denormalize_patches",
    .sig = "pred, image; patch: int, eps: float = 1e-6",
    .doc = "pred [N, L, P] * sqrt(variance + eps) + mean with each patch's own "
           "statistics from "
           "image [N, C, H, W]: undoes the normalisation of masked_mse. Gradient for "
           "pred only.\n"
    "> image = lumen.rand(1, 3, 16, 16)\n"
    "> pred = lumen.zeros(1, 4, 8 * 8 * 3)\n"
    "> lumen.denormalize_patches(pred, image, {patch = 8}):unpatchify(8, 16, 16).shape\n"
    "{1, 3, 16, 16}",
    .infer = denormalize_patches_infer,
    .cpu = denormalize_patches_cpu,
    .grad = denormalize_patches_grad};

/* ---- patch_sum ---- */

static lm_status patch_sum_infer(lm_call *c)
{
  grid g;
  LM_TRY(lm_check_float(c, 0));
  LM_TRY(grid_of(c, 0, &g));
  return lm_out(c, 0, c->in[0]->dtype, 2, (int64_t[]){g.n, g.patches});
}

static double sum_patch(const lm_tensor *x, const grid *g, int64_t i)
{
  int64_t p = g->side, plane = g->height * g->width, l = i % g->patches;
  int64_t at = i / g->patches * g->channels * plane;
  double sum = 0;
  at += l / g->cols * p * g->width + l % g->cols * p;
  for (int64_t c = 0; c < g->channels; c++, at += plane)
    for (int64_t r = 0; r < p; r++)
      for (int64_t j = 0; j < p; j++) sum += number_at(x, at + r * g->width + j);
  return sum;
}

static lm_status patch_sum_cpu(lm_call *c)
{
  grid g;
  LM_TRY(grid_of(c, 0, &g));
  int64_t n = g.n * g.patches;
#pragma omp parallel for schedule(static) if (n * g.size > PARALLEL_WORK)
  for (int64_t i = 0; i < n; i++) set_number(c->out[0], i, sum_patch(c->in[0], &g, i));
  return LM_OK;
}

/* Every number of a patch gets its gradient: [N, 1, rows, 1, cols, 1] expanded. */
static lm_status patch_sum_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  grid g;
  lm_tensor *thin, *full = NULL;
  LM_TRY(grid_of(c, 0, &g));
  lm_value narrow = lm_ints(6, (int64_t[]){g.n, 1, g.rows, 1, g.cols, 1});
  lm_value wide =
      lm_ints(6, (int64_t[]){g.n, g.channels, g.rows, g.side, g.cols, g.side});
  LM_TRY(lm_apply(&lm_op_reshape, LM_IN(gout[0]), &narrow, &thin));
  lm_status status = lm_apply(&lm_op_expand, LM_IN(thin), &wide, &full);
  lm_release(thin);
  if (status != LM_OK) return status;
  status =
      lm_apply(&lm_op_reshape, LM_IN(full), LM_PARAMS(lm_ints(4, c->in[0]->shape)), gin);
  lm_release(full);
  return status;
}

const lm_op lm_op_patch_sum = {
    .name = "patch_sum",
    .sig = "x; patch: int",
    .doc = "Sum over the pixels and channels of each patch of x [N, C, H, W]: [N, L].\n"
           "> lumen.ones(1, 1, 4, 6):patch_sum(2)\n"
           "f32 [1 x 6] {4, 4, 4, 4, 4, 4}",
    .infer = patch_sum_infer,
    .cpu = patch_sum_cpu,
    .grad = patch_sum_grad};
