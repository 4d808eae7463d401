/* table.c: all operations, from ops.def, by name, and their kernels. A family with a .cu file
 * defines lm_cuda_<name> when nvcc compiled it and lm_shim_<name> when the host's compiler did
 * (cuda/kernel.h); what is not defined is NULL here. */
#include <string.h>

#include "graph/op.h"

#define OP(name) extern const lm_op lm_op_##name;
#include "ops/ops.def"
#undef OP

const lm_op *const lm_ops[] = {
#define OP(name) &lm_op_##name,
#include "ops/ops.def"
#undef OP
};

const int lm_ops_count = (int)(sizeof lm_ops / sizeof lm_ops[0]);

#define MAYBE __attribute__((weak, visibility("hidden")))
#define OP(name)                                     \
  extern lm_status lm_cuda_##name(lm_call *c) MAYBE; \
  extern lm_status lm_shim_##name(lm_call *c) MAYBE;
#include "ops/ops.def"
#undef OP

static const lm_kernel kernels[][2] = {
#define OP(name) {lm_cuda_##name, lm_shim_##name},
#include "ops/ops.def"
#undef OP
};

void lm_op_kernels(const lm_op *op, lm_kernel kernel[LM_DEVICE_KINDS])
{
  int i = 0;
  while (i < lm_ops_count && lm_ops[i] != op) i++;
  kernel[LM_CPU] = op->cpu;
  kernel[LM_CUDA] = i < lm_ops_count ? kernels[i][0] : NULL;
  kernel[LM_SHIM] = i < lm_ops_count ? kernels[i][1] : NULL;
}

const lm_op *lm_op_find(const char *name)
{
  for (int i = 0; i < lm_ops_count; i++)
    if (strcmp(lm_ops[i]->name, name) == 0) return lm_ops[i];
  return NULL;
}
