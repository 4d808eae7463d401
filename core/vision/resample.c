/* resample.c: Pillow's resize for 8-bit pictures, to the byte.
 *
 * An output pixel is a weighted sum of a run of input pixels; runs and weights depend on
 * the column (horizontal pass) or the row (vertical pass) alone and are computed once.
 * The vertical pass runs along rows. The horizontal pass first turns LANES rows into
 * columns of LANES bytes, so that it too runs along memory. */
#include "vision/resample.h"

#include "vision/plane.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BITS = 22, LANES = 32 };

#define PI 3.14159265358979323846

lm_filter lm_filter_parse(const char *name)
{
  static const char *const names[LM_FILTER_COUNT] = {"nearest", "bilinear", "bicubic",
                                                     "lanczos"};
  int f = 0;
  while (f < LM_FILTER_COUNT && strcmp(name, names[f]) != 0) f++;
  return (lm_filter)f;
}

static double filter_support(lm_filter filter)
{
  return filter == LM_FILTER_BILINEAR ? 1.0 : filter == LM_FILTER_BICUBIC ? 2.0 : 3.0;
}

static double sinc(double x)
{
  return x == 0 ? 1.0 : sin(PI * x) / (PI * x);
}

static double filter_value(lm_filter filter, double x)
{
  x = fabs(x);
  if (x >= filter_support(filter)) return 0;
  if (filter == LM_FILTER_BILINEAR) return 1 - x;
  if (filter == LM_FILTER_LANCZOS) return sinc(x) * sinc(x / 3);
  return x < 1 ? (1.5 * x - 2.5) * x * x + 1 : ((x - 5) * x + 8) * x * -0.5 + 2;
}

/* One axis: output i is the sum over k < count[i] of weight[i * room + k] *
 * input[first[i] + k], in units of 2^-BITS. */
typedef struct taps {
  int64_t outputs, room;
  int32_t *first, *count, *weight;
} taps;

static void taps_free(taps *t)
{
  free(t->first);
  free(t->weight);
}

static lm_status taps_init(taps *t, lm_filter filter, int64_t inputs, float low,
                           float high, int64_t outputs)
{
  double scale = (double)(high - low) / (double)outputs, wide = fmax(scale, 1.0);
  double support = filter_support(filter) * wide, *raw = NULL;
  t->outputs = outputs;
  t->room = (int64_t)ceil(support) * 2 + 1;
  LM_TRY(lm_calloc(&t->first, 2 * (size_t)outputs, sizeof *t->first));
  t->count = t->first + outputs;
  LM_TRY(lm_calloc(&t->weight, (size_t)(outputs * t->room), sizeof *t->weight));
  LM_TRY(lm_calloc(&raw, (size_t)t->room, sizeof *raw));
  for (int64_t i = 0; i < outputs; i++) {
    double center = (double)low + ((double)i + 0.5) * scale, sum = 0;
    int64_t first = lm_max64((int64_t)(center - support + 0.5), 0);
    int64_t count = lm_min64((int64_t)(center + support + 0.5), inputs) - first;
    for (int64_t k = 0; k < count; k++) {
      raw[k] = filter_value(filter, ((double)(k + first) - center + 0.5) / wide);
      sum += raw[k];
    }
    for (int64_t k = 0; k < count; k++) {
      double w = (sum != 0 ? raw[k] / sum : raw[k]) * (double)(1 << BITS);
      t->weight[i * t->room + k] = (int32_t)(w < 0 ? w - 0.5 : w + 0.5);
    }
    t->first[i] = (int32_t)first;
    t->count[i] = (int32_t)count;
  }
  free(raw);
  return LM_OK;
}

static inline uint8_t clip(int32_t sum)
{
  sum >>= BITS;
  return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

/* Row y of the output from rows of `width` bytes. */
static void vertical(const taps *t, const uint8_t *in, int64_t stride, int64_t width,
                     int64_t y, uint8_t *out)
{
  const int32_t *weight = t->weight + y * t->room;
  in += t->first[y] * stride;
  for (int64_t j = 0; j < width; j += LANES) {
    int64_t n = lm_min64(LANES, width - j);
    int32_t sum[LANES];
    for (int64_t l = 0; l < LANES; l++) sum[l] = 1 << (BITS - 1);
    for (int32_t k = 0; k < t->count[y]; k++) {
      const uint8_t *row = in + k * stride + j;
      int32_t w = weight[k];
      if (n == LANES) {
        for (int64_t l = 0; l < LANES; l++) sum[l] += w * row[l];
      } else {
        for (int64_t l = 0; l < n; l++) sum[l] += w * row[l];
      }
    }
    for (int64_t l = 0; l < n; l++) out[j + l] = clip(sum[l]);
  }
}

/* `rows` (at most LANES) rows of `bytes` bytes. scratch: a column of LANES bytes for each
 * byte of a row. out: rows of t->outputs pixels. */
static void horizontal(const taps *t, const uint8_t *in, int64_t stride, int64_t bytes,
                       int64_t channels, int64_t rows, uint8_t *scratch, uint8_t *out)
{
  int64_t out_bytes = t->outputs * channels;
  for (int64_t r = 0; r < rows; r++) {
    const uint8_t *row = in + r * stride;
    for (int64_t j = 0; j < bytes; j++) scratch[j * LANES + r] = row[j];
  }
  for (int64_t i = 0; i < t->outputs; i++) {
    const int32_t *weight = t->weight + i * t->room;
    for (int64_t c = 0; c < channels; c++) {
      const uint8_t *column = scratch + (t->first[i] * channels + c) * LANES;
      int32_t sum[LANES];
      for (int64_t l = 0; l < LANES; l++) sum[l] = 1 << (BITS - 1);
      for (int32_t k = 0; k < t->count[i]; k++) {
        const uint8_t *at = column + k * channels * LANES;
        int32_t w = weight[k];
        for (int64_t l = 0; l < LANES; l++) sum[l] += w * at[l];
      }
      for (int64_t r = 0; r < rows; r++)
        out[r * out_bytes + i * channels + c] = clip(sum[r]);
    }
  }
}

/* The rows first..last of the picture, through the horizontal pass. */
static lm_status horizontal_pass(const lm_picture *p, const taps *t, int64_t first,
                                 int64_t last, uint8_t *out)
{
  int64_t bytes = p->width * p->channels, out_bytes = t->outputs * p->channels;
  uint8_t *scratch = NULL;
  LM_TRY(lm_calloc(&scratch, (size_t)bytes, LANES));
  for (int64_t y = first; y < last; y += LANES) {
    horizontal(t, p->data + y * p->stride, p->stride, bytes, p->channels,
               lm_min64(LANES, last - y), scratch, out + (y - first) * out_bytes);
  }
  free(scratch);
  return LM_OK;
}

static lm_status resize_filtered(const lm_picture *p, const float box[4],
                                 lm_filter filter, uint8_t *out, int64_t height,
                                 int64_t width)
{
  bool across = width != p->width || box[0] != 0 || box[2] != (float)width;
  bool down = height != p->height || box[1] != 0 || box[3] != (float)height;
  int64_t bytes = width * p->channels, first = 0, last = p->height, stride = p->stride;
  const uint8_t *from = p->data;
  uint8_t *middle = NULL; /* the rows that count, first..last, resized across */
  taps x = {0}, y = {0};
  lm_status status = LM_OK;
  if (down) {
    LM_TRY_GOTO(status, done, taps_init(&y, filter, p->height, box[1], box[3], height));
    first = y.first[0];
    last = y.first[height - 1] + y.count[height - 1];
    for (int64_t i = 0; i < height; i++) y.first[i] -= (int32_t)first;
  }
  if (across) {
    LM_TRY_GOTO(status, done, taps_init(&x, filter, p->width, box[0], box[2], width));
    if (down)
      LM_TRY_GOTO(status, done,
                  lm_calloc(&middle, (size_t)(last - first), (size_t)bytes));
    LM_TRY_GOTO(status, done, horizontal_pass(p, &x, first, last, down ? middle : out));
    from = middle;
    stride = bytes;
  } else {
    from += first * stride;
  }
  for (int64_t i = 0; down && i < height; i++)
    vertical(&y, from, stride, bytes, i, out + i * bytes);
  for (int64_t i = 0; !down && !across && i < height; i++)
    memcpy(out + i * bytes, p->data + i * p->stride, (size_t)bytes);
done:
  taps_free(&x);
  taps_free(&y);
  free(middle);
  return status;
}

/* The pixel under each output's centre, steps added up one by one as Pillow does. */
static lm_status resize_nearest(const lm_picture *p, const float box[4], uint8_t *out,
                                int64_t height, int64_t width)
{
  double step_x = (double)(box[2] - box[0]) / (double)width;
  double step_y = (double)(box[3] - box[1]) / (double)height;
  double x = (double)box[0] + step_x * 0.5, y = (double)box[1] + step_y * 0.5;
  int64_t *column = NULL;
  LM_TRY(lm_calloc(&column, (size_t)width, sizeof *column));
  for (int64_t j = 0; j < width; j++, x += step_x)
    column[j] = lm_min64((int64_t)x, p->width - 1) * p->channels;
  for (int64_t i = 0; i < height; i++, y += step_y) {
    const uint8_t *row = p->data + lm_min64((int64_t)y, p->height - 1) * p->stride;
    for (int64_t j = 0; j < width; j++) {
      for (int64_t c = 0; c < p->channels; c++) *out++ = row[column[j] + c];
    }
  }
  free(column);
  return LM_OK;
}

static lm_status picture_check(const char *who, const lm_picture *p, lm_filter filter)
{
  LM_TRY(lm_plane_check(who, p->height, p->width));
  if (p->height == 0 || p->width == 0)
    return lm_fail(LM_ERR_SHAPE,
                   "%s: the image [%" PRId64 " x %" PRId64 "] has no pixels", who,
                   p->height, p->width);
  if (p->channels != 1 && p->channels != 3)
    return lm_fail(LM_ERR_SHAPE, "%s: the image has %" PRId64 " channels (1 or 3)", who,
                   p->channels);
  if (p->stride < p->width * p->channels)
    return lm_fail(LM_ERR_ARG, "%s: rows of %" PRId64 " bytes stand %" PRId64 " apart",
                   who, p->width * p->channels, p->stride);
  if ((int)filter < 0 || filter >= LM_FILTER_COUNT)
    return lm_fail(LM_ERR_ARG, "%s: there is no filter number %d", who, (int)filter);
  return LM_OK;
}

lm_status lm_image_resize(const lm_picture *picture, const double box[4],
                          lm_filter filter, uint8_t *out, int64_t out_height,
                          int64_t out_width)
{
  LM_TRY(picture_check("resize", picture, filter));
  LM_TRY(lm_plane_check("resize", out_height, out_width));
  if (out_height == 0 || out_width == 0) return LM_OK;
  float b[4] = {0, 0, (float)picture->width, (float)picture->height};
  for (int k = 0; box && k < 4; k++) b[k] = (float)box[k];
  if (!(b[0] >= 0 && b[1] >= 0 && b[0] < b[2] && b[1] < b[3] &&
        b[2] <= (float)picture->width && b[3] <= (float)picture->height))
    return lm_fail(
        LM_ERR_ARG,
        "resize: box {%g, %g, %g, %g} (left, top, right, bottom) is empty or not "
        "inside the image [%" PRId64 " x %" PRId64 "]",
        (double)b[0], (double)b[1], (double)b[2], (double)b[3], picture->height,
        picture->width);
  if (filter == LM_FILTER_NEAREST)
    return resize_nearest(picture, b, out, out_height, out_width);
  return resize_filtered(picture, b, filter, out, out_height, out_width);
}

lm_status lm_image_crop_resize(const lm_picture *picture, const int64_t box[4],
                               lm_filter filter, uint8_t *out, int64_t out_height,
                               int64_t out_width)
{
  LM_TRY(picture_check("crop_resize", picture, filter));
  lm_picture crop = *picture;
  crop.height = box[2];
  crop.width = box[3];
  if (box[0] < 0 || box[1] < 0 || crop.height < 1 || crop.width < 1 ||
      box[0] > picture->height - crop.height || box[1] > picture->width - crop.width)
    return lm_fail(LM_ERR_ARG,
                   "crop_resize: box {%" PRId64 ", %" PRId64 ", %" PRId64 ", %" PRId64
                   "} (row, column, height, width) is empty or not inside the image "
                   "[%" PRId64 " x %" PRId64 "]",
                   box[0], box[1], box[2], box[3], picture->height, picture->width);
  crop.data += box[0] * crop.stride + box[1] * crop.channels;
  return lm_image_resize(&crop, NULL, filter, out, out_height, out_width);
}

lm_status lm_rrc_params(lm_rng *rng, int64_t height, int64_t width, const double scale[2],
                        const double ratio[2], int64_t box[4])
{
  LM_TRY(lm_plane_check("random_resized_crop", height, width));
  if (height == 0 || width == 0)
    return lm_fail(LM_ERR_SHAPE, "random_resized_crop: the image has no pixels");
  if (!(scale[0] > 0 && scale[0] <= scale[1] && ratio[0] > 0 && ratio[0] <= ratio[1] &&
        scale[1] < 1e6 && ratio[1] < 1e6))
    return lm_fail(LM_ERR_ARG,
                   "random_resized_crop: scale {%g, %g} and ratio {%g, %g} must be "
                   "0 < low <= high",
                   scale[0], scale[1], ratio[0], ratio[1]);
  double full = (double)width / (double)height;
  for (int attempt = 0; attempt < 10; attempt++) {
    double area = (double)(height * width) * lm_rng_range(rng, scale[0], scale[1]);
    double aspect = exp(lm_rng_range(rng, log(ratio[0]), log(ratio[1])));
    int64_t w = (int64_t)rint(sqrt(area * aspect));
    int64_t h = (int64_t)rint(sqrt(area / aspect));
    if (w < 1 || h < 1 || w > width || h > height) continue;
    box[0] = lm_rng_below(rng, height - h + 1);
    box[1] = lm_rng_below(rng, width - w + 1);
    box[2] = h;
    box[3] = w;
    return LM_OK;
  }
  int64_t w = width, h = height;
  if (full < ratio[0]) h = lm_max64((int64_t)rint((double)width / ratio[0]), 1);
  if (full > ratio[1]) w = lm_max64((int64_t)rint((double)height * ratio[1]), 1);
  box[0] = (height - h) / 2;
  box[1] = (width - w) / 2;
  box[2] = h;
  box[3] = w;
  return LM_OK;
}
