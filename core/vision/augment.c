/* augment.c: drawing and applying random changes. Positions are whole numbers in units of
 * 2^-BITS pixel, so that the bits do not depend on how the compiler contracts products. */
#include "vision/augment.h"

#include <math.h>

enum { BITS = 24, WEIGHT = 8 }; /* of a position's fraction; of an interpolation weight */

static double both_sides(lm_rng *rng, double limit)
{
  return lm_rng_range(rng, -1, 1) * limit;
}

/* The inverse of: turn by `angle` and scale about the centre, then move by (dx, dy). */
static void invert(double angle, double scale, double dx, double dy, int64_t side,
                   double map[6])
{
  double c = cos(angle) / scale, s = sin(angle) / scale, centre = (double)(side - 1) / 2;
  double x = centre + dx, y = centre + dy; /* where the centre goes */
  map[0] = c;
  map[1] = -s;
  map[2] = centre - c * x + s * y;
  map[3] = s;
  map[4] = c;
  map[5] = centre - s * x - c * y;
}

lm_change lm_augment_draw(const lm_augment *a, lm_rng *rng, int64_t side)
{
  lm_change change = {0};
  bool move = lm_rng_uniform(rng) < a->probability;
  bool recolour = lm_rng_uniform(rng) < a->probability;
  double angle = both_sides(rng, a->rotate) * 3.14159265358979323846 / 180;
  double scale = 1 + both_sides(rng, a->scale);
  double dx = both_sides(rng, a->shift) * (double)side;
  double dy = both_sides(rng, a->shift) * (double)side;
  double contrast = 1 + both_sides(rng, a->contrast);
  double brightness = both_sides(rng, a->brightness) * 255;
  change.moves = move && (a->rotate > 0 || a->shift > 0 || a->scale > 0);
  if (change.moves) invert(angle, scale, dx, dy, side, change.map);
  for (int v = 0; v < 256; v++) {
    double changed = recolour ? floor(v * contrast + brightness + 0.5) : v;
    change.value[v] = (uint8_t)fmin(fmax(changed, 0), 255);
  }
  return change;
}

/* A pixel's number, mirrored at the first and the last. */
static int64_t mirror(int64_t i, int64_t n)
{
  if (n == 1) return 0;
  int64_t period = 2 * (n - 1);
  i %= period;
  if (i < 0) i += period;
  return i < n ? i : period - i;
}

static uint8_t pick(const uint8_t *in, int64_t n, int64_t x, int64_t y)
{
  return in[mirror(y, n) * n + mirror(x, n)];
}

static uint8_t interpolate(const uint8_t *in, int64_t n, int64_t x, int64_t y)
{
  int64_t half = (int64_t)1 << (BITS - WEIGHT - 1), one = 1 << WEIGHT;
  int64_t fx = (x + half) >> (BITS - WEIGHT), fy = (y + half) >> (BITS - WEIGHT);
  int64_t column = fx >> WEIGHT, row = fy >> WEIGHT;
  fx &= one - 1;
  fy &= one - 1;
  int64_t a, b, c, d;
  if (column >= 0 && row >= 0 && column < n - 1 && row < n - 1) {
    const uint8_t *p = in + row * n + column;
    a = p[0];
    b = p[1];
    c = p[n];
    d = p[n + 1];
  } else {
    a = pick(in, n, column, row);
    b = pick(in, n, column + 1, row);
    c = pick(in, n, column, row + 1);
    d = pick(in, n, column + 1, row + 1);
  }
  int64_t sum = (a * (one - fx) + b * fx) * (one - fy) + (c * (one - fx) + d * fx) * fy;
  return (uint8_t)((sum + (one * one / 2)) >> (2 * WEIGHT));
}

void lm_change_move(const lm_change *change, const uint8_t *in, int64_t side, bool nearest,
                    uint8_t *out)
{
  int64_t m[6], half = (int64_t)1 << (BITS - 1);
  for (int k = 0; k < 6; k++) m[k] = (int64_t)floor(change->map[k] * (1 << BITS) + 0.5);
  for (int64_t row = 0; row < side; row++) {
    int64_t x = m[1] * row + m[2], y = m[4] * row + m[5];
    for (int64_t column = 0; column < side; column++, x += m[0], y += m[3]) {
      *out++ = nearest ? pick(in, side, (x + half) >> BITS, (y + half) >> BITS)
                       : interpolate(in, side, x, y);
    }
  }
}
