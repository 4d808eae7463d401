/* cpu.h: the CPU device: matrix products through OpenBLAS, thread count, and what
 * `lumen --version` says about both. Threads: one OpenMP pool, shared with OpenBLAS. */
#ifndef LUMEN_CPU_H
#define LUMEN_CPU_H

#include "base/base.h"
#include "tensor/device.h"

/* C [m x n] = alpha * op(A) op(B) + beta * C, row-major, leading dimensions in elements;
 * ta: A is stored [k x m]; tb: B is stored [n x k]. Inside an OpenMP parallel region each
 * call runs on the calling thread alone. lm_blas_load must have succeeded (the device's first
 * allocation does it). */
void lm_sgemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
              int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc);
void lm_dgemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, double alpha, const double *a,
              int64_t lda, const double *b, int64_t ldb, double beta, double *c, int64_t ldc);

/* Choose the core type from cpuid, load the library. Error: LM_ERR_IO naming the path. */
lm_status lm_blas_load(void);
const char *lm_blas_core(void);    /* "SkylakeX" */
const char *lm_blas_library(void); /* path */

int lm_threads(void);
void lm_set_threads(int n);

lm_status lm_cpu_check(void); /* the processor has what this build was compiled for */

#endif
