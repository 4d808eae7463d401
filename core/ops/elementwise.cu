/* elementwise.cu: the kernels of elementwise.c for the card: one functor per operation, run by
 * lm_map. In them a is the first operand, b the second, c the third. */
#include "ops/walk.h"

/* Functors: T is the type to compute in. */
#define FUNCTOR1(name, expr)                                     \
  namespace {                                                    \
  struct name##_of {                                             \
    template <class T>                                           \
    __device__ T operator()(T a) const { return expr; }          \
  };                                                             \
  }
#define FUNCTOR2(name, R, expr)                                  \
  namespace {                                                    \
  struct name##_of {                                             \
    template <class T>                                           \
    __device__ R operator()(T a, T b) const { return expr; }     \
  };                                                             \
  }
#define FUNCTOR3(name, expr)                                     \
  namespace {                                                    \
  struct name##_of {                                             \
    template <class T>                                           \
    __device__ T operator()(T a, T b, T c) const { return expr; } \
  };                                                             \
  }

/* An operation whose operands and result have one type out of a set. */
#define SAME1(name, set)                                                    \
  LM_KERNEL(name)                                                           \
  {                                                                         \
    return set(c, c->in[0]->dtype, [&](auto t) {                            \
      using T = LM_TYPE(t);                                                 \
      return lm_map<T, T>(c, name##_of(), c->out[0], c->in[0]);             \
    });                                                                     \
  }
#define SAME2(name, set)                                                    \
  LM_KERNEL(name)                                                           \
  {                                                                         \
    return set(c, c->in[0]->dtype, [&](auto t) {                            \
      using T = LM_TYPE(t);                                                 \
      return lm_map<T, T, T>(c, name##_of(), c->out[0], c->in[0], c->in[1]); \
    });                                                                     \
  }

/* ---- two operands ---- */

#define ARITHMETIC(name, expr) \
  FUNCTOR2(name, T, expr)      \
  SAME2(name, lm_for_all_wrapping)
#define ORDERED(name, expr) \
  FUNCTOR2(name, T, expr)   \
  SAME2(name, lm_for_all)

ARITHMETIC(add, a + b)
ARITHMETIC(sub, a - b)
ARITHMETIC(mul, a *b)
ORDERED(maximum, a > b || a != a ? a : b)
ORDERED(minimum, a < b || a != a ? a : b)
FUNCTOR2(div, T, a / b)
SAME2(div, lm_for_all_floats)
FUNCTOR2(pow, T, b == T(2) ? a * a : pow(a, b))
SAME2(pow, lm_for_all_floats)

/* Six comparisons in one kernel: the choice is the same for all threads. */
namespace {
enum comparison { LT, LE, GT, GE, EQ, NE };

struct compare_of {
  comparison which;
  template <class T>
  __device__ bool operator()(T a, T b) const
  {
    switch (which) {
      case LT: return a < b;
      case LE: return a <= b;
      case GT: return a > b;
      case GE: return a >= b;
      case EQ: return a == b;
      default: return a != b;
    }
  }
};

lm_status compare(lm_call *c, comparison which)
{
  return lm_for_all(c, c->in[0]->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    return lm_map<uint8_t, T, T>(c, compare_of{which}, c->out[0], c->in[0], c->in[1]);
  });
}
} // namespace

LM_KERNEL(lt) { return compare(c, LT); }
LM_KERNEL(le) { return compare(c, LE); }
LM_KERNEL(gt) { return compare(c, GT); }
LM_KERNEL(ge) { return compare(c, GE); }
LM_KERNEL(eq) { return compare(c, EQ); }
LM_KERNEL(ne) { return compare(c, NE); }

/* Backward kernels of (g, x, y). */
template <class F>
static lm_status backward3(lm_call *c, F f)
{
  return lm_for_all_floats(c, c->in[0]->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    return lm_map<T, T, T, T>(c, f, c->out[0], c->in[0], c->in[1], c->in[2]);
  });
}

FUNCTOR3(div_backward, -a * b / (c * c))
LM_KERNEL(div_backward) { return backward3(c, div_backward_of()); }

FUNCTOR3(pow_backward_x, c == T(0) ? T(0) : a * c * (c == T(3) ? b * b : pow(b, c - T(1))))
FUNCTOR3(pow_backward_y, b == T(0) && c >= T(0) ? T(0) : a * pow(b, c) * log(b))
LM_KERNEL(pow_backward)
{
  if (c->param[0].i == 0) return backward3(c, pow_backward_x_of());
  return backward3(c, pow_backward_y_of());
}

FUNCTOR3(maximum_backward_x, b > c ? a : b == c ? T(0.5) * a : T(0))
FUNCTOR3(maximum_backward_y, b < c ? a : b == c ? T(0.5) * a : T(0))
LM_KERNEL(maximum_backward)
{
  if (c->param[0].i == 0) return backward3(c, maximum_backward_x_of());
  return backward3(c, maximum_backward_y_of());
}

/* ---- where ---- */

namespace {
struct where_of {
  template <class T>
  __device__ T operator()(uint8_t condition, T a, T b) const { return condition ? a : b; }
};

struct where_backward_of {
  bool keep;
  template <class T>
  __device__ T operator()(uint8_t condition, T g) const
  {
    return (condition != 0) == keep ? g : T(0);
  }
};
} // namespace

LM_KERNEL(where)
{
  return lm_for_sizes(c->out[0]->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    return lm_map<T, uint8_t, T, T>(c, where_of(), c->out[0], c->in[0], c->in[1], c->in[2]);
  });
}

LM_KERNEL(where_backward)
{
  where_backward_of f = {c->param[0].i != 0};
  return lm_for_all_floats(c, c->in[1]->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    return lm_map<T, uint8_t, T>(c, f, c->out[0], c->in[0], c->in[1]);
  });
}

/* ---- functions of one variable ---- */

/* The function, and its backward kernel: a is g, b the input or the output of the function. */
#define UNARY(name, expr, back)              \
  FUNCTOR1(name, expr)                       \
  SAME1(name, lm_for_all_floats)             \
  FUNCTOR2(name##_backward, T, back)         \
  SAME2(name##_backward, lm_for_all_floats)
#define STEP(name, expr) \
  FUNCTOR1(name, expr)   \
  SAME1(name, lm_for_all_floats)
#define BACKWARD(name, back)         \
  FUNCTOR2(name##_backward, T, back) \
  SAME2(name##_backward, lm_for_all_floats)

namespace {
template <class T>
__device__ inline T sigmoid(T x) { return T(1) / (T(1) + exp(-x)); }
/* Distribution function and density of the standard normal. */
template <class T>
__device__ inline T normal_cdf(T x) { return T(0.5) * erfc(T(-0.70710678118654752440) * x); }
template <class T>
__device__ inline T normal_density(T x)
{
  return T(0.39894228040143267794) * exp(T(-0.5) * x * x);
}
template <class T>
__device__ inline T silu_slope(T x)
{
  T s = sigmoid(x);
  return s * (T(1) + x * (T(1) - s));
}
} // namespace

UNARY(exp, exp(a), a *b)
UNARY(log, log(a), a / b)
UNARY(sqrt, sqrt(a), T(0.5) * a / b)
UNARY(rsqrt, T(1) / sqrt(a), T(-0.5) * a * b * b * b)
UNARY(reciprocal, T(1) / a, -a *b *b)
UNARY(sin, sin(a), a *cos(b))
UNARY(cos, cos(a), -a *sin(b))
UNARY(tanh, tanh(a), a *(T(1) - b * b))
UNARY(sigmoid, sigmoid(a), a *b *(T(1) - b))
UNARY(gelu, a *normal_cdf(a), a *(normal_cdf(b) + b * normal_density(b)))
UNARY(silu, a *sigmoid(a), a *silu_slope(b))
UNARY(softplus, (a > T(0) ? a : T(0)) + log1p(exp(-fabs(a))), a *sigmoid(b))
UNARY(erf, erf(a), a *T(1.12837916709551257390) * exp(-b * b))
STEP(floor, floor(a))
STEP(ceil, ceil(a))
STEP(round, rint(a))

/* Any dtype; unsigned integers wrap around. */
FUNCTOR1(neg, T(0) - a)
SAME1(neg, lm_for_all_wrapping)
FUNCTOR1(square, a *a)
SAME1(square, lm_for_all_wrapping)
BACKWARD(square, T(2) * a * b)
FUNCTOR1(relu, !(a > T(0)) && a == a ? T(0) : a)
SAME1(relu, lm_for_all)
BACKWARD(relu, b <= T(0) ? T(0) : a)
FUNCTOR1(sign, a > T(0) ? T(1) : a == a && a != T(0) ? T(-1) : a)
SAME1(sign, lm_for_all)
BACKWARD(abs, b > T(0) ? a : b < T(0) ? -a : T(0))

namespace {
struct abs_of {
  __device__ float operator()(float a) const { return fabs(a); }
  __device__ double operator()(double a) const { return fabs(a); }
  __device__ int32_t operator()(int32_t a) const { return int32_t(a > 0 ? a : 0u - uint32_t(a)); }
  __device__ int64_t operator()(int64_t a) const { return int64_t(a > 0 ? a : 0u - uint64_t(a)); }
  __device__ uint8_t operator()(uint8_t a) const { return a; }
};
} // namespace
SAME1(abs, lm_for_all)

#define FLAG(name, expr)                                                \
  namespace {                                                           \
  struct name##_of {                                                    \
    template <class T>                                                  \
    __device__ bool operator()(T a) const { return expr; }              \
  };                                                                    \
  }                                                                     \
  LM_KERNEL(name)                                                       \
  {                                                                     \
    return lm_for_all(c, c->in[0]->dtype, [&](auto t) {                 \
      using T = LM_TYPE(t);                                             \
      return lm_map<uint8_t, T>(c, name##_of(), c->out[0], c->in[0]);   \
    });                                                                 \
  }

FLAG(logical_not, a == T(0))
FLAG(isfinite, a - a == T(0))

/* ---- clamp ---- */

namespace {
struct clamp_of {
  double low, high;
  template <class T>
  __device__ T operator()(T a) const
  {
    T v = a < T(low) ? T(low) : a;
    return v > T(high) ? T(high) : v;
  }
};

struct clamp_backward_of {
  double low, high;
  template <class T>
  __device__ T operator()(T g, T x) const
  {
    return x >= T(low) && x <= T(high) ? g : T(0);
  }
};
} // namespace

LM_KERNEL(clamp)
{
  clamp_of f = {c->param[0].f, c->param[1].f};
  return lm_for_all_floats(c, c->in[0]->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    return lm_map<T, T>(c, f, c->out[0], c->in[0]);
  });
}

LM_KERNEL(clamp_backward)
{
  clamp_backward_of f = {c->param[0].f, c->param[1].f};
  return lm_for_all_floats(c, c->in[0]->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    return lm_map<T, T, T>(c, f, c->out[0], c->in[0], c->in[1]);
  });
}
