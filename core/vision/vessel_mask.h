/* vessel_mask.h: the pseudo-mask of the vessels in an angiogram, from a filter alone.
 *
 * VasoMIM (arXiv 2508.10794) guides its masking with it. The steps: Sato's filter for
 * dark ridges; truncate to whole numbers 0..255; clear a border; keep values at or above
 * a percentile of the whole response; keep only the component that holds the largest
 * value. */
#ifndef LUMEN_VESSEL_MASK_H
#define LUMEN_VESSEL_MASK_H

#include "base/base.h"

enum { LM_VESSEL_SIGMAS = 16 };

typedef struct lm_vessel_options {
  double sigmas[LM_VESSEL_SIGMAS]; /* in pixels, of an image whose shorter side is 512 */
  int count;
  double percentile; /* 0..100 */
  double border;     /* pixels cleared at each edge, likewise at 512 */
  bool published;    /* take sigmas and border as they are, whatever the image's size */
} lm_vessel_options;

/* sigmas 1 2 3 4, percentile 92, border 20, scaled with the image. */
lm_vessel_options lm_vessel_defaults(void);

/* image, mask, response: [height, width]. image is 8-bit grey, mask 0 or 1, response the
 * truncated filter response with its border cleared (NULL when it is not wanted). A
 * response of zero everywhere gives an empty mask. One thread. Errors: a size or option
 * out of range. */
lm_status lm_vessel_mask(const uint8_t *image, int64_t height, int64_t width,
                         const lm_vessel_options *options, uint8_t *mask,
                         uint8_t *response);

/* How much each pixel of an 8-bit grey image looks like a vessel: Sato's filter on the optical
 * density, so that exposure and gain drop out, 0 to 255 for 0 to a strong vessel. image, out:
 * [height, width]. One thread. Errors: a size out of range. */
lm_status lm_vesselness(const uint8_t *image, int64_t height, int64_t width, uint8_t *out);

#endif
