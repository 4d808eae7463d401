/* polygon.c: polygon fill. Every crossing of a column's centre toggles one byte of a plane;
 * running the toggles down the columns by exclusive or gives the inside.
 *
 * A closed walk crosses each column an even number of times, so a column's parity is even
 * again at its end, and a crossing below the last row needs no byte. Built without
 * contraction of products and sums: the roundings are part of the rule. */
#include "vision/polygon.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { FINE = 5 }; /* steps of the walk per pixel */

typedef struct plane {
  int64_t height, width;
  uint8_t *toggle;
  int64_t left, right, top, bottom; /* bounds of what may be inside */
} plane;

lm_status lm_polygon_check(const double *xy, int64_t vertices, int64_t height,
                           int64_t width)
{
  if (vertices < 3)
    return lm_fail(LM_ERR_ARG, "%" PRId64 " vertices, a polygon has at least 3", vertices);
  double h = (double)height, w = (double)width, length = 0;
  double low[2] = {INFINITY, INFINITY}, high[2] = {-INFINITY, -INFINITY};
  for (int64_t i = 0; i < vertices; i++) {
    const double *p = xy + 2 * i, *next = xy + 2 * ((i + 1) % vertices);
    if (!(p[0] >= -w && p[0] <= 2 * w && p[1] >= -h && p[1] <= 2 * h))
      return lm_fail(LM_ERR_ARG,
                     "vertex %" PRId64 " (%g, %g) is far outside its picture of %" PRId64
                     " x %" PRId64 " (height x width)",
                     i, p[0], p[1], height, width);
    for (int k = 0; k < 2; k++) {
      low[k] = fmin(low[k], p[k]);
      high[k] = fmax(high[k], p[k]);
    }
    length += fmax(fabs(next[0] - p[0]), fabs(next[1] - p[1]));
  }
  if (high[0] < 0 || high[1] < 0 || low[0] > w || low[1] > h)
    return lm_fail(LM_ERR_ARG,
                   "lies outside its picture of %" PRId64 " x %" PRId64
                   " (height x width): x from %g to %g, y from %g to %g",
                   height, width, low[0], high[0], low[1], high[1]);
  if (length > h * w + 64 * (h + w))
    return lm_fail(LM_ERR_ARG,
                   "its boundary of %g pixels is too long for a picture of %" PRId64
                   " x %" PRId64,
                   length, height, width);
  return LM_OK;
}

/* The walk goes from (u0, v0) to the next fine point (u1, v1), at most one step across. It
 * passes the centre of a pixel's column between two fine columns, or passes none. */
static void step(plane *p, int64_t u0, int64_t v0, int64_t u1, int64_t v1)
{
  if (u0 == u1) return;
  int64_t u = lm_min64(u0, u1), v = lm_min64(v0, v1);
  /* The column x of ((u + 1/2) / FINE - 1/2), if that is a whole number. */
  int64_t twice = 2 * u + 1 - FINE;
  if (twice < 0 || twice % (2 * FINE) != 0) return;
  int64_t x = twice / (2 * FINE);
  if (x >= p->width) return;
  double y = ((double)v + 0.5) / FINE - 0.5;
  y = ceil(y < 0 ? 0 : y);
  if (y >= (double)p->height) {
    p->bottom = p->height - 1;
    return;
  }
  int64_t row = (int64_t)y;
  p->toggle[row * p->width + x] ^= 1;
  p->left = lm_min64(p->left, x);
  p->right = lm_max64(p->right, x);
  p->top = lm_min64(p->top, row);
  p->bottom = lm_max64(p->bottom, row);
}

/* One edge between fine vertices. It is walked in the direction of its longer side, from
 * the smaller coordinate, so that both directions give the same points. */
static void edge(plane *p, int64_t x0, int64_t y0, int64_t x1, int64_t y1)
{
  int64_t dx = x1 > x0 ? x1 - x0 : x0 - x1, dy = y1 > y0 ? y1 - y0 : y0 - y1;
  bool across = dx >= dy;
  if (across ? x0 > x1 : y0 > y1) {
    int64_t x = x0, y = y0;
    x0 = x1;
    y0 = y1;
    x1 = x;
    y1 = y;
  }
  double slope = across ? (double)(y1 - y0) / (double)dx : (double)(x1 - x0) / (double)dy;
  int64_t u = 0, v = 0;
  for (int64_t t = 0; t <= (across ? dx : dy) && dx + dy > 0; t++) {
    int64_t along = (across ? x0 : y0) + t;
    int64_t other = (int64_t)((double)(across ? y0 : x0) + slope * (double)t + 0.5);
    int64_t next_u = across ? along : other, next_v = across ? other : along;
    if (t > 0) step(p, u, v, next_u, next_v);
    u = next_u;
    v = next_v;
  }
}

/* Run the toggles down, set the mask, leave zeros. */
static void fill(plane *p, uint8_t value, uint8_t *mask)
{
  size_t width = (size_t)(p->right - p->left + 1);
  for (int64_t y = p->top; y <= p->bottom; y++) {
    uint8_t *row = p->toggle + y * p->width + p->left, *above = row - p->width;
    uint8_t *out = mask + y * p->width + p->left;
    if (y > p->top) {
      for (size_t x = 0; x < width; x++) row[x] ^= above[x];
      memset(above, 0, width);
    }
    for (size_t x = 0; x < width; x++) out[x] = row[x] ? value : out[x];
  }
  memset(p->toggle + p->bottom * p->width + p->left, 0, width);
}

void lm_polygon_fill(const double *xy, int64_t vertices, int64_t height, int64_t width,
                     uint8_t value, uint8_t *scratch, uint8_t *mask)
{
  plane p = {height, width, scratch, width, -1, height, -1};
  int64_t first_x = 0, first_y = 0, x = 0, y = 0;
  for (int64_t i = 0; i < vertices; i++) {
    int64_t next_x = (int64_t)(FINE * xy[2 * i] + 0.5);
    int64_t next_y = (int64_t)(FINE * xy[2 * i + 1] + 0.5);
    if (i > 0) {
      edge(&p, x, y, next_x, next_y);
    } else {
      first_x = next_x;
      first_y = next_y;
    }
    x = next_x;
    y = next_y;
  }
  edge(&p, x, y, first_x, first_y);
  if (p.right >= 0) fill(&p, value, mask);
}
