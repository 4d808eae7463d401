/* gemm.h: one product, or a batch of equal ones, as the kernels of matmul describe it. */
#ifndef LUMEN_GEMM_H
#define LUMEN_GEMM_H

#include "base/dtype.h"
#include "tensor/device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* out [batch, m, n], contiguous = x [m, k] y [k, n] + bias [n]. Strides in elements; bias may
 * be NULL. k may be 0. */
typedef struct lm_gemm {
  lm_dtype dtype;
  int64_t m, n, k, batch;
  const void *x, *y, *bias;
  void *out;
  int64_t x_row, x_column, x_batch, y_row, y_column, y_batch;
} lm_gemm;

/* By cuBLASLt, on device d's stream. Sets *done to false, and does nothing, when cuBLASLt has
 * no way to read these strides or no algorithm. Which algorithm comes from its heuristics,
 * never from timing. */
lm_status lm_cuda_gemm(lm_device *d, const char *op, const lm_gemm *g, bool *done);

/* f32 products by tensor cores, with 10 bits of mantissa. Off at first. */
extern bool lm_cuda_tf32;

#ifdef __cplusplus
}
#endif

#endif
