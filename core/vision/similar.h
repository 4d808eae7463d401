/* similar.h: finding the same picture again, whatever was done to its grey values.
 *
 * A signature is a picture in 32 x 32, its grey values replaced by their ranks (so that any
 * rising grey curve gives the same), each place relative to the mean and the spread of its
 * surroundings (so that vessels and bones count, not the light of the whole frame, its black
 * border, or what all angiograms have in common). Two pictures are as similar as their
 * signatures correlate.
 *
 * Measured on 3,094 frames of five public sets (ARCADE, XCAD, DCA1, AngioData). The frames that
 * ARCADE has twice, with another grey curve and JPEG quality (71 of vessel/val, about 247 of
 * vessel/train), were all found, at 0.98 and above; nearly all pairs between 0.75 and 0.98 were
 * of the same run. Unrelated frames reached 0.707 (both with a black border), frames of
 * different patients of AngioData 0.58. What the threshold misses: 40 % of neighbouring frames
 * of a run, frames of a run that moved (0.63 to 0.72), crops, flips. Comparing 170,000 pictures
 * with 3,000 took 3.3 s when their signatures were known. */
#ifndef LUMEN_SIMILAR_H
#define LUMEN_SIMILAR_H

#include "base/base.h"

enum { LM_SIGNATURE_SIDE = 32, LM_SIGNATURE = LM_SIGNATURE_SIDE * LM_SIGNATURE_SIDE };

/* Pairs that correlate at least so are near-duplicates, unless said otherwise. */
#define LM_SIMILAR_THRESHOLD 0.75

/* The signature of a grey picture [height, width]; all zero where there is nothing to see (one
 * grey value). Errors: a picture without pixels, or too large. */
lm_status lm_signature_make(const uint8_t *picture, int64_t height, int64_t width,
                            int8_t out[LM_SIGNATURE]);

typedef struct lm_match {
  int64_t index; /* into `others`; -1: none reaches the threshold */
  float correlation;
} lm_match;

/* LM_ERR_ARG unless a threshold can be searched with: 0.3..1. */
lm_status lm_similar_check(double threshold);

/* For each of `count` signatures the most similar of `others` (of equals the first), where it
 * correlates at `threshold` or above. With `earlier`, `others` are the signatures
 * themselves, and each is compared with those before it. Candidates come from the signs of the
 * signatures, 1024-bit hashes compared by counting bits; the correlation decides. */
lm_status lm_similar_search(const int8_t *signatures, int64_t count, const int8_t *others,
                            int64_t other_count, bool earlier, double threshold,
                            lm_match *out);

#endif
