/* morphology.h: binary pictures: thinning, distances, components, surfaces.
 *
 * A mask is a plane of bytes; every value but 0 is set. Masks that come out hold 0 and 1.
 * Nothing here starts a thread. Input and output may be the same array where a comment
 * says "in place". Errors: a size out of range, no memory, and what each comment adds. */
#ifndef LUMEN_MORPHOLOGY_H
#define LUMEN_MORPHOLOGY_H

#include "base/base.h"

/* The pixels that are set and connected to (row, column) through set pixels; nothing when
 * the seed is not set. connectivity: 4 or 8. In place. Error: the seed lies outside. */
lm_status lm_region_grow(const uint8_t *mask, int64_t height, int64_t width, int64_t row,
                         int64_t column, int connectivity, uint8_t *out);

/* Label the connected components (connectivity 4 or 8): 0 where the mask is 0, else 1, 2,
 * ... in the order in which a row-by-row scan meets them. labels [height, width]; *count
 * = how many. */
lm_status lm_components(const uint8_t *mask, int64_t height, int64_t width,
                        int connectivity, int32_t *labels, int64_t *count);

/* Skeleton by the parallel thinning of Zhang and Suen (CACM 27(3), 1984), with
 * scikit-image's table of what may go (its 2-D default); outside the image nothing is
 * set. In place. */
lm_status lm_skeletonize(const uint8_t *mask, int64_t height, int64_t width,
                         uint8_t *out);

/* Exact Euclidean distance, in pixels, from each pixel to the nearest one that is 0 (0
 * there itself). +infinity everywhere when no pixel is 0. */
lm_status lm_distance_transform(const uint8_t *mask, int64_t height, int64_t width,
                                double *out);

/* The set pixels that have an unset 4-neighbour or lie on the image's edge: the mask
 * without its erosion by a cross. Not in place. *count, when not NULL: how many. */
lm_status lm_mask_surface(const uint8_t *mask, int64_t height, int64_t width,
                          uint8_t *out, int64_t *count);

/* Distances in pixels from each set pixel of `from` to the nearest set pixel of `to`, in
 * row-by-row order; with surfaces, what Hausdorff and mean surface distances are made of.
 * out has room for as many as `from` has set; *count = how many that is. +infinity when
 * `to` is empty. */
lm_status lm_surface_distances(const uint8_t *from, const uint8_t *to, int64_t height,
                               int64_t width, double *out, int64_t *count);

#endif
