/* reduce.h: what reduce.c and reduce.cu share: which dimensions are reduced. */
#ifndef LUMEN_REDUCE_H
#define LUMEN_REDUCE_H

#include "graph/op.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The dimensions that the call's `dims` names; of sum_to: those that were broadcast. */
lm_status lm_reduced_dims(const lm_call *c, bool *reduced);
void lm_sum_to_dims(const lm_call *c, bool *reduced);
int64_t lm_reduced_count(const lm_tensor *x, const bool *reduced);
/* var and std: 1 / (n - 1) or 1 / n; NaN where there are too few elements. */
double lm_variance_scale(const lm_call *c, const bool *reduced);

#ifdef __cplusplus
}
#endif

#endif
