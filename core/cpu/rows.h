/* rows.h: walking over several strided or broadcast arrays of one shape, row by row.
 *
 * What the elementwise and optimiser kernels have in common. The shape's dimensions are
 * merged wherever every operand allows, so contiguous operands become one long row and
 * the row function sees strides of 1 or 0 for them. Rows are cut into pieces of fixed
 * size and each thread takes a contiguous range of pieces; no result depends on the
 * partition. */
#ifndef LUMEN_ROWS_H
#define LUMEN_ROWS_H

#include "tensor/tensor.h"

#define LM_MAX_ROW_OPERANDS 5

/* n elements; operand k starts at p[k] and advances s[k] elements of its own type. */
typedef void (*lm_row_fn)(int64_t n, char *const *p, const int64_t *s,
                          const void *context);

/* Run `fn` over the elements of operand[0]'s shape; the others are broadcast to it (which
 * their shapes must allow). Every operand needs storage. */
void lm_rows_run(int n, lm_tensor *const *operand, lm_row_fn fn, const void *context);

#endif
