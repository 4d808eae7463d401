/* polygon.h: filling polygons as the COCO tools do, to the pixel.
 *
 * The rule (that of pycocotools, which the published scores of COCO-style data sets stand
 * on): the boundary is walked on a grid five times as fine, a pixel column is crossed
 * where the walk crosses its centre, and pixels between an odd and an even crossing are
 * inside. Vertices are (x, y) in pixels, (0, 0) is the upper left corner of the picture;
 * parts outside are cut off; where a polygon covers itself twice, it is outside. */
#ifndef LUMEN_POLYGON_H
#define LUMEN_POLYGON_H

#include "base/base.h"

/* Whether a polygon can be filled: LM_ERR_ARG unless it has three vertices, all finite and
 * at most one picture's side away from the picture, some part of it may lie inside, and its
 * boundary is not absurdly long (more than a pixel for each pixel of the picture). */
lm_status lm_polygon_check(const double *xy, int64_t vertices, int64_t height,
                           int64_t width);

/* Set mask [height, width] to `value` inside; other pixels stay. The polygon must have
 * passed the check. `scratch` is [height, width] bytes of zero, and zero again afterwards.
 */
void lm_polygon_fill(const double *xy, int64_t vertices, int64_t height, int64_t width,
                     uint8_t value, uint8_t *scratch, uint8_t *mask);

#endif
