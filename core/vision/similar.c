/* similar.c: signatures of pictures and the search among them. */
#include "vision/similar.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "vision/plane.h"

enum {
  SIDE = LM_SIGNATURE_SIDE,
  RADIUS = 5,               /* of the Gaussian, in cells */
  WORDS = LM_SIGNATURE / 64 /* of a hash */
};

static const double sigma = 2; /* of the surroundings, in cells */
static const float least_spread = 0.02f; /* in ranks, 0..1: below, a place counts for less */
static const float steps = 80;           /* of a signature per unit of spread */
static const float most = 100;           /* 1.25 spreads: the edge of a frame counts for no more */

/* ---- signatures ---- */

/* Mean grey value of each cell, rounded: what differs by less than a grey level is noise, which
 * ranks would blow up. Cells of pictures smaller than the grid repeat pixels. */
static void shrink(const uint8_t *picture, int64_t height, int64_t width, uint8_t *cells)
{
  for (int64_t row = 0; row < SIDE; row++) {
    int64_t y0 = row * height / SIDE, y1 = ((row + 1) * height + SIDE - 1) / SIDE;
    for (int64_t column = 0; column < SIDE; column++) {
      int64_t x0 = column * width / SIDE, x1 = ((column + 1) * width + SIDE - 1) / SIDE;
      int64_t sum = 0, n = (y1 - y0) * (x1 - x0);
      for (int64_t y = y0; y < y1; y++)
        for (int64_t x = x0; x < x1; x++) sum += picture[y * width + x];
      cells[row * SIDE + column] = (uint8_t)((sum + n / 2) / n);
    }
  }
}

/* Grey values to their ranks, 0..1; equal values share the middle of theirs. */
static void equalise(const uint8_t *cells, float *rank)
{
  int count[256] = {0};
  float of_value[256];
  for (int i = 0; i < LM_SIGNATURE; i++) count[cells[i]]++;
  for (int v = 0, below = 0; v < 256; below += count[v++])
    of_value[v] = ((float)below + 0.5f * (float)count[v]) / LM_SIGNATURE;
  for (int i = 0; i < LM_SIGNATURE; i++) rank[i] = of_value[cells[i]];
}

static int inside(int i)
{
  return i < 0 ? 0 : i < SIDE ? i : SIDE - 1;
}

/* Gaussian mean of the surroundings; the border repeats. */
static void blur(const float *in, float *out)
{
  float weight[2 * RADIUS + 1], half[LM_SIGNATURE], total = 0;
  for (int k = -RADIUS; k <= RADIUS; k++)
    total += weight[k + RADIUS] = (float)exp(-k * k / (2 * sigma * sigma));
  for (int k = 0; k <= 2 * RADIUS; k++) weight[k] /= total;
  for (int pass = 0; pass < 2; pass++) {
    const float *from = pass ? half : in;
    float *to = pass ? out : half;
    for (int y = 0; y < SIDE; y++)
      for (int x = 0; x < SIDE; x++) {
        float sum = 0;
        for (int k = -RADIUS; k <= RADIUS; k++)
          sum += weight[k + RADIUS] *
                 from[pass ? inside(y + k) * SIDE + x : y * SIDE + inside(x + k)];
        to[y * SIDE + x] = sum;
      }
  }
}

lm_status lm_signature_make(const uint8_t *picture, int64_t height, int64_t width,
                            int8_t out[LM_SIGNATURE])
{
  uint8_t cells[LM_SIGNATURE];
  float x[LM_SIGNATURE], mean[LM_SIGNATURE], square[LM_SIGNATURE];
  LM_TRY(lm_plane_check("signature", height, width));
  if (height == 0 || width == 0)
    return lm_fail(LM_ERR_SHAPE, "signature: a picture without pixels");
  shrink(picture, height, width, cells);
  equalise(cells, x);
  blur(x, mean);
  for (int i = 0; i < LM_SIGNATURE; i++) {
    x[i] -= mean[i];
    square[i] = x[i] * x[i];
  }
  blur(square, mean);
  for (int i = 0; i < LM_SIGNATURE; i++) {
    float v = rintf(steps * x[i] / (sqrtf(mean[i]) + least_spread));
    out[i] = (int8_t)fminf(fmaxf(v, -most), most);
  }
  return LM_OK;
}

/* ---- comparing ---- */

/* What the correlation needs of each side, once. */
typedef struct prepared {
  double mean, scale; /* scale: 1 / norm of what is left without the mean; 0: nothing there */
  uint64_t hash[WORDS];
} prepared;

static void prepare(const int8_t *s, prepared *p)
{
  int64_t sum = 0, squares = 0;
  for (int i = 0; i < LM_SIGNATURE; i++) {
    sum += s[i];
    squares += s[i] * s[i];
  }
  p->mean = (double)sum / LM_SIGNATURE;
  double rest = (double)squares - p->mean * (double)sum;
  p->scale = rest > 0 ? 1 / sqrt(rest) : 0;
  for (int w = 0; w < WORDS; w++) {
    uint64_t bits = 0;
    for (int b = 0; b < 64; b++) bits |= (uint64_t)(s[64 * w + b] > 0) << b;
    p->hash[w] = bits;
  }
}

static double correlate(const int8_t *a, const prepared *pa, const int8_t *b,
                        const prepared *pb)
{
  int32_t dot = 0;
  for (int i = 0; i < LM_SIGNATURE; i++) dot += (int32_t)a[i] * b[i];
  return ((double)dot - LM_SIGNATURE * pa->mean * pb->mean) * pa->scale * pb->scale;
}

static int distance(const uint64_t *a, const uint64_t *b)
{
  int bits = 0;
  for (int w = 0; w < WORDS; w++) bits += __builtin_popcountll(a[w] ^ b[w]);
  return bits;
}

/* Signs of two normal variables that correlate at r differ with probability acos(r) / pi; the
 * margin is four times what the signs of 1024 neighbouring, dependent cells scatter. */
static int most_bits(double threshold)
{
  return (int)(LM_SIGNATURE * (acos(threshold) / acos(-1) + 0.08));
}

static lm_match best_match(const int8_t *s, const prepared *p, const int8_t *others,
                           const prepared *q, int64_t n, double threshold, int limit)
{
  lm_match best = {.index = -1};
  double least = threshold;
  for (int64_t j = 0; j < n; j++) {
    if (distance(p->hash, q[j].hash) > limit) continue;
    double r = correlate(s, p, others + j * LM_SIGNATURE, &q[j]);
    if (r < threshold || (best.index >= 0 && r <= least)) continue;
    best = (lm_match){.index = j, .correlation = (float)r};
    least = r;
  }
  return best;
}

lm_status lm_similar_check(double threshold)
{
  if (threshold >= 0.3 && threshold <= 1) return LM_OK;
  return lm_fail(LM_ERR_ARG, "similar: threshold must be 0.3 to 1, not %g", threshold);
}

lm_status lm_similar_search(const int8_t *signatures, int64_t count, const int8_t *others,
                            int64_t other_count, bool earlier, double threshold,
                            lm_match *out)
{
  LM_TRY(lm_similar_check(threshold));
  prepared *p;
  LM_TRY(lm_calloc(&p, (size_t)(count + other_count), sizeof *p));
  prepared *q = earlier ? p : p + count;
  int limit = most_bits(threshold);
#pragma omp parallel
  {
#pragma omp for schedule(static)
    for (int64_t i = 0; i < count; i++) prepare(signatures + i * LM_SIGNATURE, &p[i]);
#pragma omp for schedule(static)
    for (int64_t j = 0; j < (earlier ? 0 : other_count); j++)
      prepare(others + j * LM_SIGNATURE, &q[j]);
#pragma omp for schedule(dynamic, 64)
    for (int64_t i = 0; i < count; i++)
      out[i] = best_match(signatures + i * LM_SIGNATURE, &p[i],
                          earlier ? signatures : others, q, earlier ? i : other_count,
                          threshold, limit);
  }
  free(p);
  return LM_OK;
}
