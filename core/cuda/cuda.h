/* cuda.h: the CUDA devices. Built without CUDA, none.c gives the same symbols. */
#ifndef LUMEN_CUDA_H
#define LUMEN_CUDA_H

#include "tensor/device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* "cuda" or "cuda:N". Error: LM_ERR_DEVICE saying why there is none. */
lm_status lm_cuda_device(const char *name, lm_device **out);
int lm_cuda_count(void); /* 0 when there is none */
/* "NVIDIA H200, 140 GiB, compute capability 9.0"; false when there is no such device. */
bool lm_cuda_describe(int index, char *text, size_t size);

/* Around the launch of a kernel (cuda/kernel.h): make device d current and get its stream;
 * report what the launch, or an earlier kernel, has done wrong. */
lm_status lm_cuda_begin(lm_device *d, void **stream);
lm_status lm_cuda_end(lm_device *d, const char *op, const char *kernel);

#ifdef __cplusplus
}
#endif

#endif
