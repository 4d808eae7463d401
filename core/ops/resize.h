/* resize.h: what resize.c and resize.cu share: the tables of weights. */
#ifndef LUMEN_RESIZE_H
#define LUMEN_RESIZE_H

#include "graph/op.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Output o of an axis is the sum over k < taps of weight[k][o] * x[start[o] + k]. */
typedef struct lm_resize_table {
  int shape; /* for resize.c */
  int64_t in, out, taps;
  int32_t *start; /* [out], start + taps <= in */
  double *weight; /* [taps, out] */
  void *narrow;   /* the same as float */
} lm_resize_table;

/* Those of the call, resize or (back) resize_backward. Both are to be freed, whatever the
 * status. */
lm_status lm_resize_tables(const lm_call *c, bool back, lm_resize_table *rows,
                           lm_resize_table *cols);
void lm_resize_table_free(lm_resize_table *t);

#ifdef __cplusplus
}
#endif

#endif
