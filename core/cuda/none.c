/* none.c: the symbols of cuda.h and gemm.h in a build without CUDA. */
#include "cuda/cuda.h"
#include "cuda/gemm.h"

bool lm_cuda_tf32 = false;

lm_status lm_cuda_device(const char *name, lm_device **out)
{
  *out = NULL;
  lm_fail(LM_ERR_DEVICE, "device '%.40s': this lumen was built without CUDA", name);
  return lm_hint("build it with -DLUMEN_CUDA=ON, where nvcc is");
}

int lm_cuda_count(void)
{
  return 0;
}

bool lm_cuda_describe(int index, char *text, size_t size)
{
  (void)index, (void)text, (void)size;
  return false;
}
