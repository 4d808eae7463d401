/* vmath.h: exp, log, tanh, erf and friends for f32 as inline functions without branches,
 * so that loops over them become vector code under `#pragma omp simd`. For f64 use libm.
 *
 * About 2 ulp, checked over the whole range in tests/ops/elementwise_test.lua;
 * infinities, NaN and overflow come out as in libm. The polynomials are weighted minimax
 * fits (Lawson's iteration on Chebyshev nodes) made for this file; the interval stands
 * beside each. */
#ifndef LUMEN_VMATH_H
#define LUMEN_VMATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/base.h"

LM_HOSTDEV static inline uint32_t lm_float_bits(float x)
{
  uint32_t b;
  memcpy(&b, &x, sizeof b);
  return b;
}

LM_HOSTDEV static inline float lm_bits_float(uint32_t b)
{
  float x;
  memcpy(&x, &b, sizeof x);
  return x;
}

/* 2^n for -126 <= n <= 127; anything for other n, without undefined behaviour. */
LM_HOSTDEV static inline float lm_pow2f(int32_t n)
{
  return lm_bits_float(((uint32_t)n + 127u) << 23);
}

/* x = n ln 2 + r with |r| <= ln 2 / 2. Adding 1.5 * 2^23 rounds to an integer and leaves
 * it in the low bits. */
LM_HOSTDEV static inline float lm_expf(float x)
{
  float c = x > 89.0f ? 89.0f : x;
  c = c < -104.0f ? -104.0f : c;
  float shifted = c * 1.44269504f + 12582912.0f;
  int32_t n = (int32_t)(lm_float_bits(shifted) - 0x4b400000u);
  float k = shifted - 12582912.0f;
  float r = (c - k * 0x1.62e4p-1f) - k * 1.42860677e-6f;
  float p = 1.395171974e-03f; /* (exp(r) - 1 - r) / r^2, |r| <= 0.35 */
  p = p * r + 8.369598538e-03f;
  p = p * r + 4.166618735e-02f;
  p = p * r + 1.666651219e-01f;
  p = p * r + 0.5f;
  float y = 1.0f + (r + r * r * p);
  int32_t half = n >> 1; /* in two factors: neither overflows before the result does */
  return y * lm_pow2f(half) * lm_pow2f(n - half);
}

LM_HOSTDEV static inline float lm_logf(float x)
{
  int tiny = x < 0x1p-126f;
  uint32_t b = lm_float_bits(tiny ? x * 0x1p23f : x);
  int32_t e = (int32_t)(b - 0x3f3504f3u) >> 23; /* mantissa in [sqrt(1/2), sqrt(2)) */
  float f = lm_bits_float(b - ((uint32_t)e << 23)) - 1.0f;
  float k = (float)e - (tiny ? 23.0f : 0.0f);
  float p = -7.859615237e-02f; /* (log(1 + f) - f + f^2 / 2) / f^3 */
  p = p * f + 1.288164854e-01f;
  p = p * f - 1.312875450e-01f;
  p = p * f + 1.418119222e-01f;
  p = p * f - 1.662455350e-01f;
  p = p * f + 2.000228614e-01f;
  p = p * f - 2.500081062e-01f;
  p = p * f + 3.333331645e-01f;
  float y = f * f * (f * p - 0.5f) + k * 1.42860677e-6f;
  y = k * 0x1.62e4p-1f + (f + y);
  y = x == 0.0f ? -INFINITY : y;
  y = x < 0.0f ? NAN : y;
  return x < INFINITY || x < 0.0f ? y : x; /* infinity and NaN are their own logarithm */
}

/* log(1 + x) for x >= 0: the rounding of 1 + x is undone by the quotient. */
LM_HOSTDEV static inline float lm_log1pf(float x)
{
  float u = 1.0f + x, d = u - 1.0f;
  float y = lm_logf(u) * (x / (d == 0.0f ? 1.0f : d));
  return d == 0.0f || u == INFINITY ? x : y;
}

LM_HOSTDEV static inline float lm_tanhf(float x)
{
  float a = fabsf(x), z = x * x;
  float p = -5.717045162e-03f; /* (tanh(a) / a - 1) / a^2, a <= 0.625 */
  p = p * z + 2.065058798e-02f;
  p = p * z - 5.374349654e-02f;
  p = p * z + 1.333149076e-01f;
  p = p * z - 3.333328366e-01f;
  float small = x + x * z * p;
  float big = copysignf(1.0f - 2.0f / (lm_expf(2.0f * a) + 1.0f), x);
  return a < 0.625f ? small : big;
}

LM_HOSTDEV static inline float lm_sigmoidf(float x)
{
  return 1.0f / (1.0f + lm_expf(-x));
}

/* erfc(a) exp(a^2) for a >= 0, as t times a polynomial in t = 1 / (1 + 0.35 a), a
 * <= 10.2. */
LM_HOSTDEV static inline float lm_erfcxf(float a)
{
  float t = 1.0f / (1.0f + 0.35f * a);
  float p = 3.868590295e-02f;
  p = p * t - 1.605221629e-01f;
  p = p * t + 1.853342801e-01f;
  p = p * t - 3.306081891e-02f;
  p = p * t + 9.165361524e-02f;
  p = p * t + 1.434428841e-01f;
  p = p * t + 1.521290988e-01f;
  p = p * t + 1.876894087e-01f;
  p = p * t + 1.971655041e-01f;
  p = p * t + 1.974822879e-01f;
  return p * t;
}

LM_HOSTDEV static inline float lm_erff(float x)
{
  float a = fabsf(x), z = x * x;
  float p = 7.889122935e-05f; /* erf(a) / a, a <= 1 */
  p = p * z - 8.020842215e-04f;
  p = p * z + 5.189535674e-03f;
  p = p * z - 2.685444430e-02f;
  p = p * z + 1.128360033e-01f;
  p = p * z - 3.761262596e-01f;
  p = p * z + 1.128379107e+00f;
  float big = copysignf(1.0f - lm_expf(-z) * lm_erfcxf(a), x);
  return a < 1.0f ? x * p : big;
}

/* Distribution function of the standard normal; *density, if wanted, gets exp(-x^2/2) /
 * sqrt(2 pi). Both share one exponential, and the left tail keeps its relative accuracy.
 */
LM_HOSTDEV static inline float lm_normal_cdff(float x, float *density)
{
  float e = lm_expf(-0.5f * x * x);
  float tail = 0.5f * e * lm_erfcxf(0.707106781f * fabsf(x));
  *density = 0.398942280f * e;
  return x < 0.0f ? tail : 1.0f - tail;
}

/* x Phi(x), the GELU with the error function, and its derivative. */
LM_HOSTDEV static inline float lm_geluf(float x)
{
  float density;
  return x * lm_normal_cdff(x, &density);
}

LM_HOSTDEV static inline float lm_gelu_gradf(float x)
{
  float density, cdf = lm_normal_cdff(x, &density);
  return cdf + x * density;
}

#endif
