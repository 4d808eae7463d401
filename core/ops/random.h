/* random.h: what random.c and random.cu share: numbers from words of Philox. */
#ifndef LUMEN_OPS_RANDOM_H
#define LUMEN_OPS_RANDOM_H

#include "cpu/vmath.h"
#include "graph/op.h"

/* Uniform in (0, 1) with 32 and 53 random bits: never exactly 0 or 1. */
LM_HOSTDEV static inline double lm_open_f64(uint32_t word)
{
  return ((double)word + 0.5) * 0x1p-32;
}

LM_HOSTDEV static inline double lm_open_fine(uint32_t first, uint32_t second)
{
  return lm_uniform_f64(first, second) + 0x1p-54;
}

/* In [low, high), width being high - low: rounding must not reach the open end. u as made by
 * lm_open_fine. */
LM_HOSTDEV static inline float lm_between_f32(float low, float width, float high, uint32_t word)
{
  float v = low + width * lm_uniform_f32(word);
  return v < high || width <= 0 ? v : low;
}

LM_HOSTDEV static inline double lm_between_f64(double low, double high, double u)
{
  double v = low + (high - low) * (u - 0x1p-54);
  return v < high || high <= low ? v : low;
}

/* Two normals from two words (Box and Muller). The angle is counted in quarter turns, of
 * which k are whole; the rest, at most half a quarter, goes through minimax polynomials.
 */
LM_HOSTDEV static inline void lm_normal_pair(uint32_t first, uint32_t second, float *a, float *b)
{
  float u = ((float)first + 0.5f) * 0x1p-32f, turn = (float)second * 0x1p-30f;
  float length = sqrtf(-2.0f * lm_logf(u)), shifted = turn + 12582912.0f;
  uint32_t k = lm_float_bits(shifted);
  float r = turn - (shifted - 12582912.0f), z = r * r;
  float sine = -4.602145404e-03f;
  sine = sine * z + 7.968021929e-02f;
  sine = sine * z - 6.459634900e-01f;
  sine = (sine * z + 1.570796371f) * r;
  float cosine = 9.036255069e-04f;
  cosine = cosine * z - 2.086006850e-02f;
  cosine = cosine * z + 2.536692023e-01f;
  cosine = cosine * z - 1.233700514f;
  cosine = cosine * z + 1.0f;
  float x = k & 1 ? sine : cosine, y = k & 1 ? cosine : sine;
  *a = ((k + 1) & 2 ? -x : x) * length;
  *b = (k & 2 ? -y : y) * length;
}

/* The same in f64: u holds two uniform numbers and gets two normal ones. */
LM_HOSTDEV static inline void lm_normal_pair_f64(double *u)
{
  double length = sqrt(-2 * log(u[0])), angle = 6.283185307179586476925 * u[1];
  u[0] = length * cos(angle);
  u[1] = length * sin(angle);
}

/* x with Phi(x) = p, to about 1e-6: minimax polynomials for erfinv(u) / u, u = 2 p - 1,
 * in w = -log(1 - u^2). */
LM_HOSTDEV static inline double lm_normal_quantile(double p)
{
  static const double small[] = {
      /* in w - 3.125, w < 6.25 */
      1.653654674920e+00,  2.401580379354e-01,  -6.034274260415e-03, -7.405022782824e-04,
      1.872526064642e-04,  -1.395959777791e-05, -1.523220770508e-06, 4.355882784009e-07,
      -8.727996885326e-09, -5.059917359684e-09};
  static const double large[] = {
      /* in sqrt(w) - 4.5, sqrt(w) in [2.5, 6.5] */
      4.344758982063e+00,  1.010252653223e+00,  2.793906326623e-04,
      -5.005758348743e-04, 2.219892512651e-04,  2.232740231767e-05,
      -2.976607185401e-05, -2.253551132950e-05, 1.073859458833e-05};
  double w = -log(4 * p * (1 - p)), v = w < 6.25 ? w - 3.125 : fmin(sqrt(w), 6.5) - 4.5;
  const double *k = w < 6.25 ? small : large;
  double ratio = 0;
  for (int i = w < 6.25 ? 9 : 8; i >= 0; i--) ratio = ratio * v + k[i];
  return 1.41421356237309504880 * (2 * p - 1) * ratio;
}

/* The share of the normal distribution below x standard deviations. */
static inline double lm_normal_share(double x)
{
  return 0.5 * erfc(-0.70710678118654752440 * x);
}

/* A normal distribution limited to [low, high]: numbers are drawn between the shares of the
 * bounds and go through the quantile. Bounds above the mean are mirrored, because shares
 * near 1 have no digits left. */
typedef struct lm_truncation {
  double mean, std, low, high, from, to;
  bool mirror;
} lm_truncation;

static inline lm_truncation lm_truncation_make(double mean, double std, double low, double high)
{
  double a = (low - mean) / std, b = (high - mean) / std;
  bool mirror = a > 0;
  lm_truncation t = {mean, std, low, high, lm_normal_share(mirror ? -b : a),
                     lm_normal_share(mirror ? -a : b), mirror};
  return t;
}

LM_HOSTDEV static inline double lm_truncated(const lm_truncation *t, double u)
{
  double x = lm_normal_quantile(t->from + (t->to - t->from) * u);
  double v = t->mean + t->std * (t->mirror ? -x : x);
  return fmin(fmax(v, t->low), t->high);
}

/* Words below the limit drop the element; p = 1 drops all. */
static inline uint64_t lm_drop_limit(double p)
{
  return (uint64_t)(p * 0x1p32);
}

/* The generator: the call's own, or in a backward kernel the one of the forward call. */
#ifdef __cplusplus
extern "C"
#endif
lm_rng lm_mask_rng(const lm_call *c);

#endif
