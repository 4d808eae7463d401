/* plane.h: what every file of vision/ checks first: the size of a picture.
 *
 * A plane is a row-major array [height, width] without gaps. Empty planes are legal, and
 * every function of vision/ returns LM_OK for them without touching memory. */
#ifndef LUMEN_PLANE_H
#define LUMEN_PLANE_H

#include "base/base.h"

#include <inttypes.h>

enum { LM_PLANE_SIDE = 1 << 20, LM_PLANE_PIXELS = 1 << 28 };

/* Sides at most 2^20, at most 2^28 pixels: pixel numbers fit an int32_t, squared
 * distances an int64_t, and no product of sizes and element sizes overflows. */
static inline lm_status lm_plane_check(const char *who, int64_t height, int64_t width)
{
  if (height >= 0 && width >= 0 && height <= LM_PLANE_SIDE && width <= LM_PLANE_SIDE &&
      height * width <= LM_PLANE_PIXELS)
    return LM_OK;
  return lm_fail(LM_ERR_SHAPE,
                 "%s: an image of [%" PRId64 " x %" PRId64
                 "] is out of range (sides up to %d, "
                 "%d pixels in all)",
                 who, height, width, LM_PLANE_SIDE, LM_PLANE_PIXELS);
}

#endif
