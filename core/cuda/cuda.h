/* cuda.h: the CUDA devices. Built without CUDA, none.c gives the same symbols. */
#ifndef LUMEN_CUDA_H
#define LUMEN_CUDA_H

#include "tensor/device.h"

/* "cuda" or "cuda:N". Error: LM_ERR_DEVICE saying why there is none. */
lm_status lm_cuda_device(const char *name, lm_device **out);
int lm_cuda_count(void); /* 0 when there is none */

#endif
