/* augment.h: random changes of a training image: shift, scale, rotate, brightness, contrast.
 *
 * The usual meaning (that of Albumentations' ShiftScaleRotate and RandomBrightnessContrast;
 * Buslaev et al. 2020): each amount is drawn uniformly up to its limit on both sides. The
 * image turns and grows about its centre, then moves; what comes in over the edge is the
 * mirrored image. Grey values v of 0..1 become contrast * v + brightness, clipped. Images
 * are interpolated bilinearly, masks take the nearest pixel of the same map. */
#ifndef LUMEN_AUGMENT_H
#define LUMEN_AUGMENT_H

#include "base/base.h"
#include "base/rng.h"

typedef struct lm_augment {
  double rotate;      /* degrees; positive turns counter-clockwise */
  double shift;       /* share of the side, right and down */
  double scale;       /* the factor is 1 - scale to 1 + scale */
  double brightness;  /* share of white */
  double contrast;    /* the factor is 1 - contrast to 1 + contrast */
  double probability; /* of the movement, and, apart from it, of the grey values' change */
} lm_augment;

/* What was drawn. */
typedef struct lm_change {
  bool moves;
  double map[6];      /* the pixel (x, y) comes from (m0 x + m1 y + m2, m3 x + m4 y + m5) */
  uint8_t value[256]; /* what grey values become */
} lm_change;

/* Draw the change of an image of side `side`; takes eight numbers of the stream. */
lm_change lm_augment_draw(const lm_augment *augment, lm_rng *rng, int64_t side);

/* Move a picture [side, side]; `nearest` for masks. */
void lm_change_move(const lm_change *change, const uint8_t *in, int64_t side, bool nearest,
                    uint8_t *out);

#endif
