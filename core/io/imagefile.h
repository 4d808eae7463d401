/* imagefile.h: pictures in files: reading PNG, JPEG, BMP and PNM (PGM, PPM; binary and
 * plain), writing PNG, JPEG, PGM and PPM.
 *
 * A picture is grey (1 channel) or colour (3, red first); transparency is dropped,
 * palettes are resolved; a BMP is always colour. Files are hostile: sizes are checked
 * before anything is decoded, damaged or cut files are errors (never half a picture), and
 * memory is bounded by the claimed size. */
#ifndef LUMEN_IO_IMAGEFILE_H
#define LUMEN_IO_IMAGEFILE_H

#include "base/base.h"
#include "io/file.h"

#define LM_IMAGE_MAX_SIDE 16384
#define LM_IMAGE_MAX_PIXELS ((int64_t)1 << 28)

typedef struct lm_image {
  int64_t height, width;
  int channels; /* 1 or 3, interleaved */
  int depth;    /* 8: pixels are uint8_t; 16: uint16_t, full range 0..65535 */
  void *pixels; /* row-major [height x width x channels] */
} lm_image;

/* `grey` turns colour into grey with the luma of ITU-R BT.601: of a JPEG the one that is
 * stored in it, else in the integer arithmetic of Pillow's convert("L"). `name` stands in
 * the messages. LM_ERR_IO, LM_ERR_FORMAT, LM_ERR_MEMORY. Safe on several threads at once. */
lm_status lm_image_decode(lm_image *out, const void *bytes, size_t size, const char *name,
                          bool grey);
lm_status lm_image_load(lm_image *out, const char *path, bool grey);
void lm_image_free(lm_image *image);

/* 16 bits to 8, in place: v becomes v * 255 / 65535, rounded. Nothing to do for 8 bits.
 */
void lm_image_reduce(lm_image *image);
/* Write height * width * channels values in 0..1. */
void lm_image_to_f32(const lm_image *image, float *out);

/* Encode an 8-bit picture: the format is the extension of `path` (png, jpg, jpeg, pgm,
 * ppm), `quality` (1..100) is for JPEG, which always has three channels. Append to `out`,
 * or write the file atomically. */
lm_status lm_image_encode(lm_bytes *out, const lm_image *image, const char *path,
                          int quality);
lm_status lm_image_save(const lm_image *image, const char *path, int quality);

#endif
