/* rng.h: counter-based random numbers (Philox 4x32-10; Salmon et al., "Parallel random
 * numbers: as easy as 1, 2, 3", SC 2011). Header-only: the same bits on CPU and GPU.
 *
 * A number is a pure function of (seed, stream, position): no state to save, any element can
 * be made by any thread. `lm_rng` is a cursor over one stream for code that draws one number
 * after the other (phantom, augmentation). */
#ifndef LUMEN_RNG_H
#define LUMEN_RNG_H

#include <math.h>
#include <stdint.h>

#include "base/base.h"

/* out[4] = Philox4x32-10(counter = (c0 low, c0 high, c1 low, c1 high), key). */
LM_HOSTDEV static inline void lm_philox(uint64_t key, uint64_t c0, uint64_t c1, uint32_t out[4])
{
  uint32_t x0 = (uint32_t)c0, x1 = (uint32_t)(c0 >> 32);
  uint32_t x2 = (uint32_t)c1, x3 = (uint32_t)(c1 >> 32);
  uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
  for (int round = 0; round < 10; round++) {
    uint64_t p0 = (uint64_t)0xD2511F53u * x0;
    uint64_t p1 = (uint64_t)0xCD9E8D57u * x2;
    uint32_t y0 = (uint32_t)(p1 >> 32) ^ x1 ^ k0;
    uint32_t y2 = (uint32_t)(p0 >> 32) ^ x3 ^ k1;
    x1 = (uint32_t)p1;
    x3 = (uint32_t)p0;
    x0 = y0;
    x2 = y2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  out[0] = x0;
  out[1] = x1;
  out[2] = x2;
  out[3] = x3;
}

/* 64-bit mix of two words: used to fold names and numbers into a stream id. */
LM_HOSTDEV static inline uint64_t lm_mix(uint64_t a, uint64_t b)
{
  uint32_t out[4];
  lm_philox(a, b, 0x6c756d656eULL, out);
  return ((uint64_t)out[1] << 32) | out[0];
}

/* FNV-1a hash of a name. */
static inline uint64_t lm_hash_name(const char *name)
{
  uint64_t h = 0xcbf29ce484222325ULL;
  for (; *name; name++) h = (h ^ (unsigned char)*name) * 0x100000001b3ULL;
  return h;
}

/* Uniform in [0, 1): 24 and 53 random bits. */
LM_HOSTDEV static inline float lm_uniform_f32(uint32_t bits) { return (float)(bits >> 8) * 0x1p-24f; }
LM_HOSTDEV static inline double lm_uniform_f64(uint32_t hi, uint32_t lo)
{
  return (double)((((uint64_t)hi << 32) | lo) >> 11) * 0x1p-53;
}

typedef struct lm_rng {
  uint64_t key, stream, position;
} lm_rng;

static inline lm_rng lm_rng_make(uint64_t seed, uint64_t stream)
{
  return (lm_rng){seed, stream, 0};
}

static inline uint32_t lm_rng_u32(lm_rng *r)
{
  uint32_t out[4];
  lm_philox(r->key, r->position >> 2, r->stream, out);
  return out[r->position++ & 3];
}

static inline double lm_rng_uniform(lm_rng *r)
{
  uint32_t hi = lm_rng_u32(r);
  return lm_uniform_f64(hi, lm_rng_u32(r));
}

static inline double lm_rng_range(lm_rng *r, double low, double high)
{
  return low + (high - low) * lm_rng_uniform(r);
}

/* Uniform integer in [0, n), n > 0. */
static inline int64_t lm_rng_below(lm_rng *r, int64_t n)
{
  return (int64_t)(lm_rng_uniform(r) * (double)n);
}

/* Standard normal (Box and Muller; the second of the pair is not kept, so that the position
 * after a call depends on nothing but the number of calls). */
static inline double lm_rng_normal(lm_rng *r)
{
  double u = 1.0 - lm_rng_uniform(r), v = lm_rng_uniform(r);
  return sqrt(-2.0 * log(u)) * cos(6.283185307179586476925 * v);
}

#endif
