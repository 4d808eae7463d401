/* gpu.h: what the .cu files of the families begin with: the kernel language, what an operation
 * is, and choosing a kernel by dtype. */
#ifndef LUMEN_GPU_H
#define LUMEN_GPU_H

#include <initializer_list>

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

/* A tensor's elements; NULL without a tensor. */
template <class T>
T *lm_array(const lm_tensor *t) { return t ? static_cast<T *>(lm_data(t)) : nullptr; }

/* Whether all rows of n elements in these arrays (NULL ones aside) can be moved in fours. */
template <class T>
bool lm_fours(int64_t n, std::initializer_list<const T *> arrays)
{
  bool whole = n % 4 == 0;
  for (const T *x : arrays) whole &= (uintptr_t)x % (4 * sizeof(T)) == 0;
  return whole;
}

/* Elements at .. at + 3 of n, at being a multiple of 4; 0 beyond the end. whole: lm_fours. */
template <class T>
__device__ inline lm_vec<T, 4> lm_load_four(const T *x, int64_t at, int64_t n, bool whole)
{
  if (whole) return *reinterpret_cast<const lm_vec<T, 4> *>(x + at);
  lm_vec<T, 4> v;
#pragma unroll
  for (int j = 0; j < 4; j++) v.v[j] = at + j < n ? x[at + j] : lm_narrow<T>(0.0f);
  return v;
}

template <class T>
__device__ inline void lm_store_four(T *x, int64_t at, int64_t n, bool whole, lm_vec<T, 4> v)
{
  if (whole) *reinterpret_cast<lm_vec<T, 4> *>(x + at) = v;
#pragma unroll
  for (int j = 0; j < 4; j++)
    if (!whole && at + j < n) x[at + j] = v.v[j];
}

} // namespace

#endif
