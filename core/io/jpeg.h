/* jpeg.h: grey pictures as baseline JPEG (ITU-T T.81) with one component and codes made for
 * the picture: about a tenth smaller than with colour planes that are empty and the usual
 * codes, and faster to read. */
#ifndef LUMEN_IO_JPEG_H
#define LUMEN_IO_JPEG_H

#include "io/file.h"

/* Append pixels [height, width] as JPEG to `out`. quality 1..100 scales the standard's table
 * of luminance steps in the usual way (that of the IJG's library). Sides 1..65535.
 * LM_ERR_MEMORY. */
lm_status lm_jpeg_encode(lm_bytes *out, const uint8_t *pixels, int64_t height, int64_t width,
                         int quality);

#endif
