/* table.c: all operations, from ops.def, by name. */
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

const lm_op *lm_op_find(const char *name)
{
  for (int i = 0; i < lm_ops_count; i++)
    if (strcmp(lm_ops[i]->name, name) == 0) return lm_ops[i];
  return NULL;
}
