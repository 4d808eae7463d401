/* rated.h: synthetic angiographies with references and scores, made procedurally: a stand-in
 * for a set of rated images such as CAS-3K (arXiv 2505.17619), which is not public.
 *
 * A case is a phantom (phantom.h). Its non-contrast frame N is the phantom before the
 * contrast agent; the contrast frame C is the same anatomy in another phase: background and
 * vessels moved by a smooth field, other filling, other noise. The rated image S is what a
 * bad generator might have made from N, with up to three defects of independent strength:
 *
 *   vessel      branches missing, gaps, branches of another patient
 *   background  parts of another patient's background, devices that fade
 *   realism     blur, weak contrast, a checkerboard, noise
 *
 * How bad each is, is measured on the result (a short tree cannot lose much, whatever was
 * drawn), always at one size, so that an image has the same scores at every size. Gain and
 * offset of S vary and change no score. Everything is a pure function of (seed, index). */
#ifndef LUMEN_RATED_H
#define LUMEN_RATED_H

#include "vision/phantom.h"

enum { LM_RATED_METRICS = 3 }; /* vessel, background, realism */

typedef struct lm_rated {
  float score[LM_RATED_METRICS];    /* 1 (bad) to 5, mean of three simulated raters */
  float severity[LM_RATED_METRICS]; /* of each defect, measured, 0 to 1 */
} lm_rated;

/* image, source (N) and contrast (C): [size, size] u8, written entirely. `out`: the scores.
 * Errors: LM_ERR_ARG (size out of range), LM_ERR_MEMORY. */
lm_status lm_rated_render(const lm_phantom_options *options, uint64_t seed, uint64_t index,
                          uint8_t *image, uint8_t *source, uint8_t *contrast,
                          lm_rated *out);

#endif
