/* ridge.h: ridge filters on one grey image: Sato's and Frangi's vesselness.
 *
 * Both look at the eigenvalues of the Hessian at several scales. The Hessian comes from
 * Gaussian derivatives: two first-order filters in a row, each of width sigma / sqrt(2),
 * with the image mirrored at its edges (d c b a | a b c d | d c b a). The definitions are
 * those of scikit-image 0.20 and later, to rounding. Everything is computed in double
 * precision, because callers truncate the result to whole numbers.
 *
 * Nothing here starts a thread: loader workers call these functions. Finite input gives
 * finite output; a constant image gives exactly zero. */
#ifndef LUMEN_RIDGE_H
#define LUMEN_RIDGE_H

#include "base/base.h"

/* The widest scale: time grows with the sum of the sigmas, memory with their square. */
#define LM_RIDGE_SIGMA_MAX 64.0

/* Tubeness of Sato et al. (Medical Image Analysis 2(2), 1998) in two dimensions:
 * max over sigmas of sigma^2 * max(0, larger eigenvalue). image, out: [height, width],
 * out in units of the image's values, >= 0. black_ridges: dark lines on bright ground
 * respond (what vessels are in an angiogram); otherwise bright lines do. Errors: a size
 * out of range, no sigma, a sigma outside (0, 64], an image value that is not finite or
 * beyond 1e30. */
lm_status lm_sato(const double *image, int64_t height, int64_t width,
                  const double *sigmas, int count, bool black_ridges, double *out);

typedef struct lm_frangi_options {
  const double *sigmas;
  int count;
  double beta;  /* blobness: 0.5 */
  double gamma; /* structure: 0 for half of the largest Hessian norm at the first sigma */
  bool black_ridges;
} lm_frangi_options;

/* Vesselness of Frangi et al. (MICCAI 1998), equation 15, in two dimensions:
 * max over sigmas of exp(-Rb^2 / 2 beta^2) * (1 - exp(-S^2 / 2 gamma^2)), with
 * eigenvalues |l1| <= |l2|, Rb = |l1| / l2 and S^2 = l1^2 + l2^2; 0 where l2 is negative.
 * out [height, width], 0 to 1. No factor sigma^2, and gamma is found at the first sigma
 * only, as scikit-image has it. Errors: as lm_sato; beta or gamma out of range. */
lm_status lm_frangi(const double *image, int64_t height, int64_t width,
                    const lm_frangi_options *options, double *out);

#endif
