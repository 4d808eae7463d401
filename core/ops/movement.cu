/* movement.cu: copies between layouts on the card (see movement.c). */
#include "ops/walk.h"

namespace {

/* The elements of x in order, in a result of another shape. */
lm_status copy_in_order(lm_call *c)
{
  lm_tensor to = *c->out[0];
  const lm_tensor *x = c->in[0];
  int64_t n = 1;
  to.ndim = x->ndim;
  for (int d = x->ndim - 1; d >= 0; d--) {
    to.shape[d] = x->shape[d];
    to.stride[d] = n;
    n *= x->shape[d];
  }
  return lm_copy(c, &to, x);
}

} // namespace

LM_KERNEL(reshape) { return copy_in_order(c); }
LM_KERNEL(flatten) { return copy_in_order(c); }
LM_KERNEL(contiguous) { return copy_in_order(c); }

LM_KERNEL(slice_backward)
{
  const lm_tensor *g = c->in[0];
  lm_tensor to = *c->out[0];
  int dim = (int)c->param[1].i;
  LM_TRY(lm_for_sizes(to.dtype, [&](auto t) {
    using T = LM_TYPE(t);
    return lm_map<T>(c, zero_of(), &to);
  }));
  if (lm_numel(g) == 0) return LM_OK;
  to.offset += c->param[2].i * to.stride[dim];
  to.shape[dim] = g->shape[dim];
  if (g->shape[dim] > 1) to.stride[dim] *= c->param[3].i;
  return lm_copy(c, &to, g);
}
