/* none.c: the symbols of cuda.h in a build without CUDA. */
#include "cuda/cuda.h"

lm_status lm_cuda_device(const char *name, lm_device **out)
{
  *out = NULL;
  return lm_fail(LM_ERR_DEVICE, "device '%.40s': this lumen was built without CUDA", name);
}

int lm_cuda_count(void)
{
  return 0;
}
