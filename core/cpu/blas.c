/* blas.c: OpenBLAS, the only file that calls it. Debian's build picks a kernel set by the
 * processor's model number and takes a very old one for models it does not know, so the set is
 * chosen here by what the processor can do, before the library is loaded. The library is
 * loaded by path, so that the OpenMP build is taken whatever the system's alternatives say. */
#include "cpu/cpu.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#ifndef LUMEN_OPENBLAS
#error "LUMEN_OPENBLAS: path of libopenblas.so.0 (OpenMP build), given by CMake"
#endif

enum { ROW_MAJOR = 101, NO_TRANS = 111, TRANS = 112 }; /* CBLAS, as its interface fixes them */

typedef void sgemm_fn(int, int, int, int, int, int, float, const float *, int, const float *,
                      int, float, float *, int);
typedef void dgemm_fn(int, int, int, int, int, int, double, const double *, int, const double *,
                      int, double, double *, int);
typedef char *corename_fn(void);

static sgemm_fn *sgemm;
static dgemm_fn *dgemm;
static corename_fn *corename;

static const char *best_core(void)
{
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    return "SKYLAKEX";
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "HASWELL";
#endif
  return NULL;
}

lm_status lm_blas_load(void)
{
  if (sgemm) return LM_OK;
  const char *core = best_core();
  if (core) setenv("OPENBLAS_CORETYPE", core, 0); /* the user's own setting wins */
  void *library = dlopen(LUMEN_OPENBLAS, RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    lm_fail(LM_ERR_IO, "cannot load OpenBLAS: %s", dlerror());
    return lm_hint("install libopenblas0-openmp, or run core/setup.sh");
  }
  dgemm = (dgemm_fn *)dlsym(library, "cblas_dgemm");
  corename = (corename_fn *)dlsym(library, "openblas_get_corename");
  sgemm = (sgemm_fn *)dlsym(library, "cblas_sgemm");
  if (sgemm && dgemm && corename) return LM_OK;
  sgemm = NULL;
  return lm_fail(LM_ERR_IO, "%s has no cblas interface", LUMEN_OPENBLAS);
}

void lm_sgemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
              int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc)
{
  sgemm(ROW_MAJOR, ta ? TRANS : NO_TRANS, tb ? TRANS : NO_TRANS, (int)m, (int)n, (int)k, alpha,
        a, (int)lda, b, (int)ldb, beta, c, (int)ldc);
}

void lm_dgemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, double alpha, const double *a,
              int64_t lda, const double *b, int64_t ldb, double beta, double *c, int64_t ldc)
{
  dgemm(ROW_MAJOR, ta ? TRANS : NO_TRANS, tb ? TRANS : NO_TRANS, (int)m, (int)n, (int)k, alpha,
        a, (int)lda, b, (int)ldb, beta, c, (int)ldc);
}

const char *lm_blas_core(void)
{
  return lm_blas_load() == LM_OK ? corename() : "none";
}

const char *lm_blas_library(void)
{
  return LUMEN_OPENBLAS;
}
