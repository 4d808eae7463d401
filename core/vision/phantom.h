/* phantom.h: procedural X-ray coronary angiograms with their ground truth.
 *
 * A frame is a pure function of (options, seed, index): no state, safe to call from many
 * threads at once, one thread per call. Every purpose (tree with its view, background,
 * devices, exposure, noise of either frame) has its own random stream keyed by (seed,
 * index, purpose), and all geometry is in units of the image side: the same (seed, index)
 * at another size shows the same anatomy. */
#ifndef LUMEN_PHANTOM_H
#define LUMEN_PHANTOM_H

#include "base/base.h"

enum { LM_PHANTOM_SIZE_MIN = 32, LM_PHANTOM_SIZE_MAX = 1024 };

typedef struct lm_phantom_options {
  int64_t size; /* image side in pixels, 32..1024 */
  bool hard; /* false: clear vessels; true: as hard for a vessel filter as real frames */
} lm_phantom_options;

/* Whether the options are in range: LM_ERR_ARG says which is not. */
lm_status lm_phantom_check(const lm_phantom_options *options);

/* Render one angiogram. `image`, `mask` and, unless NULL, `pre_contrast` are [size, size]
 * u8, row-major, written entirely. Vessels are darker than their surroundings; mask is
 * 255 on every vessel that can be seen at this size, 0 elsewhere: catheters and wires are
 * not vessels. `pre_contrast` is the same frame before the contrast agent: same anatomy,
 * devices and exposure, other noise. Asking for it changes nothing in the other two.
 * Errors: LM_ERR_ARG (size out of range), LM_ERR_MEMORY. */
lm_status lm_phantom_render(const lm_phantom_options *options, uint64_t seed,
                            uint64_t index, uint8_t *image, uint8_t *mask,
                            uint8_t *pre_contrast);

#endif
