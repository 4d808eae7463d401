/* assign.cu: conversion and in-place writing on the card (see assign.c). */
#include "ops/walk.h"

namespace {

/* Truncate and saturate; NaN becomes 0. */
template <class T>
LM_HOSTDEV inline T saturate(double x)
{
  constexpr double low = std::is_unsigned_v<T> ? 0.0 : -0x1p31 * (sizeof(T) == 8 ? 0x1p32 : 1);
  constexpr double end = sizeof(T) == 1 ? 256.0 : -low;
  constexpr T last = sizeof(T) == 1 ? T(255) : T(~(uint64_t)0 >> (sizeof(T) == 8 ? 1 : 33));
  if (!(x >= low)) return x < low ? T(low) : T(0);
  return x < end ? T(x) : last;
}

template <class O>
struct cast_of {
  template <class T>
  __device__ auto operator()(T a) const
  {
    if constexpr (std::is_same_v<O, bf16>) return float(a);
    else if constexpr (std::is_floating_point_v<T> && std::is_integral_v<O>)
      return saturate<O>(double(a));
    else return O(a);
  }
};

template <class O>
struct fill_of {
  lm_wide<O> value;
  __device__ lm_wide<O> operator()() const { return value; }
};

/* to = from, converted and broadcast. */
lm_status convert(lm_call *c, const lm_tensor *to, const lm_tensor *from)
{
  if (to->dtype == from->dtype) return lm_copy(c, to, from);
  return lm_for_all(c, to->dtype, [&](auto t) {
    using O = LM_TYPE(t);
    return lm_for_all(c, from->dtype, [&](auto u) {
      using I = LM_TYPE(u);
      return lm_map<O, I>(c, cast_of<O>(), to, from);
    });
  });
}

} // namespace

LM_KERNEL(cast) { return convert(c, c->out[0], c->in[0]); }
LM_KERNEL(copy_) { return convert(c, c->out[0], c->in[1]); }

LM_KERNEL(fill_)
{
  double value = c->param[0].f;
  return lm_for_all(c, c->out[0]->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    if constexpr (std::is_integral_v<T>) return lm_map<T>(c, fill_of<T>{saturate<T>(value)}, c->out[0]);
    else return lm_map<T>(c, fill_of<T>{lm_wide<T>(value)}, c->out[0]);
  });
}

namespace {
template <class S>
struct add_of {
  S scale;
  template <class T>
  __device__ T operator()(T a, T b) const { return T(a + T(scale) * b); }
};

struct mul_of {
  template <class T>
  __device__ T operator()(T a, T b) const { return T(a * b); }
};
} // namespace

LM_KERNEL(add_)
{
  double scale = c->param[0].f;
  return lm_for_all_wrapping(c, c->out[0]->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    if constexpr (std::is_integral_v<T>)
      return lm_map<T, T, T>(c, add_of<int64_t>{(int64_t)scale}, c->out[0], c->out[0], c->in[1]);
    else return lm_map<T, T, T>(c, add_of<double>{scale}, c->out[0], c->out[0], c->in[1]);
  });
}

LM_KERNEL(mul_)
{
  return lm_for_all_wrapping(c, c->out[0]->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    return lm_map<T, T, T>(c, mul_of(), c->out[0], c->out[0], c->in[1]);
  });
}
