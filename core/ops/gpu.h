/* gpu.h: what the .cu files of the families begin with: the kernel language, what an operation
 * is, and choosing a kernel by dtype. */
#ifndef LUMEN_GPU_H
#define LUMEN_GPU_H

#include "cuda/kernel.h"
#include "graph/op.h"

namespace {

template <class T>
struct lm_type {
  using type = T;
};
/* The type that a generic lambda was called for:
 *   lm_for_floats(c, x->dtype, [&](auto t) { using T = LM_TYPE(t); ... }); */
#define LM_TYPE(t) typename decltype(t)::type

inline lm_status lm_no_kernel(const lm_call *c, lm_dtype dtype)
{
  lm_op_fail(c, LM_ERR_DTYPE, "there is no kernel for %s on %s", lm_dtype_name(dtype),
             c->device->name);
  if (dtype != LM_F64) return LM_ERR_DTYPE;
  return lm_hint("f64 is for the CPU; convert with :to(\"f32\")");
}

/* f32 and bf16: what networks compute in. */
template <class F>
lm_status lm_for_floats(const lm_call *c, lm_dtype dtype, F f)
{
  switch (dtype) {
    case LM_F32: return f(lm_type<float>());
    case LM_BF16: return f(lm_type<bf16>());
    default: return lm_no_kernel(c, dtype);
  }
}

/* f64 too: for plain arithmetic. */
template <class F>
lm_status lm_for_all_floats(const lm_call *c, lm_dtype dtype, F f)
{
  return dtype == LM_F64 ? f(lm_type<double>()) : lm_for_floats(c, dtype, f);
}

template <class F>
lm_status lm_for_all(const lm_call *c, lm_dtype dtype, F f)
{
  switch (dtype) {
    case LM_I32: return f(lm_type<int32_t>());
    case LM_I64: return f(lm_type<int64_t>());
    case LM_U8: return f(lm_type<uint8_t>());
    default: return lm_for_all_floats(c, dtype, f);
  }
}

/* Integers as unsigned ones, whose sums and products wrap around. */
template <class F>
lm_status lm_for_all_wrapping(const lm_call *c, lm_dtype dtype, F f)
{
  switch (dtype) {
    case LM_I32: return f(lm_type<uint32_t>());
    case LM_I64: return f(lm_type<uint64_t>());
    default: return lm_for_all(c, dtype, f);
  }
}

/* By size alone: for what only moves elements. */
template <class F>
lm_status lm_for_sizes(lm_dtype dtype, F f)
{
  switch (lm_dtype_size(dtype)) {
    case 1: return f(lm_type<uint8_t>());
    case 2: return f(lm_type<uint16_t>());
    case 4: return f(lm_type<uint32_t>());
    default: return f(lm_type<uint64_t>());
  }
}

} // namespace

#endif
