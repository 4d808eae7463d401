/* resample.h: resizing and cropping 8-bit pictures, and the random crop of training.
 *
 * The arithmetic is Pillow's (Image.resize), to the byte: two passes, horizontal first,
 * with 8 bits between them, weights in 22-bit fixed point, filters that widen when
 * shrinking. Pictures are [height, width, channels] bytes, 1 or 3 channels interleaved.
 * One thread. */
#ifndef LUMEN_RESAMPLE_H
#define LUMEN_RESAMPLE_H

#include "base/base.h"
#include "base/rng.h"

typedef enum lm_filter {
  LM_FILTER_NEAREST,
  LM_FILTER_BILINEAR,
  LM_FILTER_BICUBIC, /* a = -0.5 */
  LM_FILTER_LANCZOS, /* three lobes */
  LM_FILTER_COUNT
} lm_filter;

/* "nearest", "bilinear", "bicubic", "lanczos"; LM_FILTER_COUNT when there is no such
 * name. */
lm_filter lm_filter_parse(const char *name);

typedef struct lm_picture {
  const uint8_t *data;
  int64_t height, width, channels;
  int64_t stride; /* bytes from one row to the next, at least width * channels */
} lm_picture;

/* Resize the part `box` of a picture to out [out_height, out_width, channels]. box is
 * {x0, y0, x1, y1} in pixels, fractions allowed (kept in single precision, as Pillow
 * does); NULL is the whole picture. Pixels just outside the box enter the filter, as in
 * Pillow's `box=`. Errors: sizes out of range, a picture without pixels, a box that is
 * empty or sticks out. */
lm_status lm_image_resize(const lm_picture *picture, const double box[4],
                          lm_filter filter, uint8_t *out, int64_t out_height,
                          int64_t out_width);

/* Crop, then resize: nothing outside the box enters (torchvision's resized_crop on Pillow
 * images). box is {row, column, height, width} in whole pixels, inside the picture. */
lm_status lm_image_crop_resize(const lm_picture *picture, const int64_t box[4],
                               lm_filter filter, uint8_t *out, int64_t out_height,
                               int64_t out_width);

/* The box of a random resized crop (Szegedy et al. 2015, as torchvision draws it): an
 * area of scale[0]..scale[1] of the picture and a ratio width / height of
 * ratio[0]..ratio[1], uniform in its logarithm; ten tries, then the largest central box
 * with an allowed ratio. box: {row, column, height, width}. Errors: a picture without
 * pixels; bounds that are not 0 < low <= high. */
lm_status lm_rrc_params(lm_rng *rng, int64_t height, int64_t width, const double scale[2],
                        const double ratio[2], int64_t box[4]);

#endif
