/* phantom_background.c: what lies behind the vessels of the phantom: soft tissue of all
 * scales, the heart's shadow, lung, diaphragm, spine and ribs, as optical density.
 *
 * Everything is placed in field units, the large organs from the same view as the tree:
 * the spine moves to the right of a left oblique frame and to the left of a right oblique
 * one, as it does on the table. */
#include "vision/phantom_parts.h"

#include <math.h>
#include <stdlib.h>

#define PI 3.14159265358979323846

typedef struct canvas {
  float *d; /* [n, n] density */
  float *x,
      *y;      /* [n, n] field coordinates, bent a little: no organ has a drawn outline */
  float *lung; /* [n, n] share of lung in the beam */
  int64_t n;
  lm_rng *rng;
} canvas;

static double uniform(const canvas *c, double low, double high)
{
  return lm_rng_range(c->rng, low, high);
}

static bool chance(const canvas *c, double p) { return lm_rng_uniform(c->rng) < p; }

static float at_pixel(int64_t i, int64_t n) { return ((float)i + 0.5f) / (float)n; }

/* Gradient noise (Perlin) on a 256-periodic lattice. */
typedef struct lattice {
  uint8_t order[512];
  float gx[256], gy[256];
} lattice;

static void lattice_fill(lattice *l, lm_rng *rng)
{
  for (int i = 0; i < 256; i++) {
    double angle = lm_rng_range(rng, 0, 2 * PI);
    l->order[i] = (uint8_t)i;
    l->gx[i] = (float)cos(angle);
    l->gy[i] = (float)sin(angle);
  }
  for (int i = 255; i > 0; i--) {
    int j = (int)lm_rng_below(rng, i + 1);
    uint8_t swap = l->order[i];
    l->order[i] = l->order[j];
    l->order[j] = swap;
  }
  for (int i = 0; i < 256; i++) l->order[256 + i] = l->order[i];
}

static float lattice_noise(const lattice *l, float x, float y)
{
  int xi = (int)floorf(x), yi = (int)floorf(y);
  float u = x - (float)xi, v = y - (float)yi;
  const uint8_t *o = l->order;
  int a = o[xi & 255] + (yi & 255), b = o[(xi + 1) & 255] + (yi & 255);
  int h00 = o[a & 255], h01 = o[(a + 1) & 255], h10 = o[b & 255], h11 = o[(b + 1) & 255];
  float n00 = l->gx[h00] * u + l->gy[h00] * v;
  float n10 = l->gx[h10] * (u - 1) + l->gy[h10] * v;
  float n01 = l->gx[h01] * u + l->gy[h01] * (v - 1);
  float n11 = l->gx[h11] * (u - 1) + l->gy[h11] * (v - 1);
  float fu = u * u * u * (u * (u * 6 - 15) + 10),
        fv = v * v * v * (v * (v * 6 - 15) + 10);
  float low = n00 + (n10 - n00) * fu, high = n01 + (n11 - n01) * fu;
  return low + (high - low) * fv;
}

/* One octave at `frequency` waves per field, stretched along a direction; folded noise
 * (|noise|) has the creases of lung and trabeculae. `where` NULL: everywhere. */
static void add_octave(const canvas *c, double frequency, double amplitude, double angle,
                       double stretch, bool folded, const float *where)
{
  lattice l;
  double sx = uniform(c, 0, 256), sy = uniform(c, 0, 256);
  lattice_fill(&l, c->rng);
  float ca = (float)cos(angle), sa = (float)sin(angle), k = (float)amplitude;
  float fx = (float)(frequency / stretch), fy = (float)(frequency * stretch);
  if (frequency * 2.2 > (double)c->n) return;
  for (int64_t i = 0; i < c->n; i++) {
    float y = at_pixel(i, c->n);
    for (int64_t j = 0; j < c->n; j++) {
      float x = at_pixel(j, c->n), weight = where ? where[i * c->n + j] : 1;
      if (weight <= 0) continue;
      float v = lattice_noise(&l, (ca * x + sa * y) * fx + (float)sx,
                              (ca * y - sa * x) * fy + (float)sy);
      c->d[i * c->n + j] += weight * k * (folded ? 0.5f - 2 * fabsf(v) : v);
    }
  }
}

static void add_tissue(const canvas *c, bool hard)
{
  double slope = uniform(c, 0.52, 0.66), amplitude = uniform(c, 0.13, 0.24);
  double grain = uniform(c, -PI, PI), stretch = uniform(c, 1.0, 1.45);
  double detail = hard ? uniform(c, 1.0, 2.9) : uniform(c, 0.9, 2.5);
  for (double f = 1.3; f < 90; f *= 2.05) {
    double turn = f < 8 ? uniform(c, -PI, PI) : grain + uniform(c, -0.4, 0.4);
    add_octave(c, f, amplitude * (f < 8 ? 1 : detail), turn, f < 8 ? 1.2 : stretch, false,
               NULL);
    amplitude *= slope;
  }
}

/* Bend the coordinates with two octaves of noise. */
static void bend_field(const canvas *c)
{
  canvas bent = *c;
  for (int64_t i = 0; i < c->n * c->n; i++) {
    c->x[i] = at_pixel(i % c->n, c->n);
    c->y[i] = at_pixel(i / c->n, c->n);
  }
  for (int a = 0; a < 2; a++) {
    bent.d = a ? c->y : c->x;
    add_octave(&bent, uniform(c, 1.6, 2.6), uniform(c, 0.03, 0.12), uniform(c, 0, PI),
               1.2, false, NULL);
    add_octave(&bent, uniform(c, 5, 8), uniform(c, 0.005, 0.028), uniform(c, 0, PI), 1.2,
               false, NULL);
    add_octave(&bent, uniform(c, 14, 22), uniform(c, 0.0, 0.006), uniform(c, 0, PI), 1,
               false, NULL);
  }
}

/* Chord of the beam through the heart ellipsoid, scaled by `grow`. */
static void add_heart(const canvas *c, const lm_phantom_view *v)
{
  double grow = uniform(c, 1.05, 1.22), weight = uniform(c, 0.02, 0.16);
  double q[3][3] = {{0}};
  for (int k = 0; k < 3; k++) {
    double e[3] = {0};
    for (int i = 0; i < 3; i++) {
      e[0] += v->axis[k][i] * v->right[i];
      e[1] += v->axis[k][i] * v->up[i];
      e[2] += v->axis[k][i] * v->toward[i];
    }
    double s = 1 / (v->semi[k] * v->semi[k] * grow * grow);
    for (int a = 0; a < 3; a++) {
      for (int b = 0; b < 3; b++) q[a][b] += s * e[a] * e[b];
    }
  }
  for (int64_t i = 0; i < c->n * c->n; i++) {
    double x = (c->x[i] - v->x0) / v->scale, y = (v->y0 - c->y[i]) / v->scale;
    double b = q[0][2] * x + q[1][2] * y;
    double rest = q[0][0] * x * x + 2 * q[0][1] * x * y + q[1][1] * y * y - 1;
    double square = b * b - q[2][2] * rest;
    double chord = square > 0 ? 2 * sqrt(square) / q[2][2] : 0;
    c->lung[i] = (float)(1 - 0.75 * (chord < 0.5 ? chord * 2 : 1));
    c->d[i] += (float)(weight * chord);
  }
}

/* A dome (diaphragm, liver, stomach) that rises from below: density grows with the chord.
 */
static void add_dome(const canvas *c, double cx, double crest, double width,
                     double height, double weight)
{
  float tilt = (float)uniform(c, -0.25, 0.25), edge = (float)uniform(c, 0.03, 0.2);
  for (int64_t i = 0; i < c->n * c->n; i++) {
    float x = c->x[i] - (float)cx;
    float y = (c->y[i] + tilt * x - (float)(crest + height)) / (float)height;
    float u = x / (float)width, q = 1 - u * u - (y < 0 ? y * y : 0);
    if (q <= 0) continue;
    c->d[i] += (float)weight * (0.3f * lm_phantom_step(0, edge, q) + 0.7f * sqrtf(q));
  }
}

/* Density `weight` on one side of a bowed line with an edge `edge` wide: skin folds, lung
 * borders, scapula, arm, table. */
static void add_border(const canvas *c, double weight, double edge)
{
  double angle = uniform(c, 0, 2 * PI), bow = uniform(c, -0.7, 0.7);
  float nx = (float)cos(angle), ny = (float)sin(angle), k = (float)weight;
  float off = (float)uniform(c, 0.08, 0.46), e = (float)edge,
        fall = (float)uniform(c, 0.2, 1);
  for (int64_t i = 0; i < c->n * c->n; i++) {
    float x = c->x[i] - 0.5f, y = c->y[i] - 0.5f;
    float across = nx * x + ny * y - off, along = ny * x - nx * y;
    float d = across + (float)bow * along * along;
    if (d < -e) continue;
    c->d[i] += k * lm_phantom_step(-e, e, d) * expf(-d / fall);
  }
}

static void add_blob(const canvas *c, double cx, double cy, double sx, double sy,
                     double k)
{
  int64_t n = c->n;
  int64_t y0 = (int64_t)((cy - 3 * sy) * (double)n),
          y1 = (int64_t)((cy + 3 * sy) * (double)n);
  int64_t x0 = (int64_t)((cx - 3 * sx) * (double)n),
          x1 = (int64_t)((cx + 3 * sx) * (double)n);
  for (int64_t i = lm_max64(y0, 0); i <= lm_min64(y1, n - 1); i++) {
    for (int64_t j = lm_max64(x0, 0); j <= lm_min64(x1, n - 1); j++) {
      float u = (at_pixel(j, n) - (float)cx) / (float)sx;
      float v = (at_pixel(i, n) - (float)cy) / (float)sy;
      c->d[i * n + j] += (float)k * expf(-0.5f * (u * u + v * v));
    }
  }
}

/* A rib is a tube: a band with denser edges along a bowed line. */
static void add_ribs(const canvas *c, double weight)
{
  double slope = uniform(c, 0.2, 0.9) * (chance(c, 0.5) ? 1 : -1),
         bow = uniform(c, -0.5, 0.5);
  double spacing = uniform(c, 0.17, 0.27), start = uniform(c, -0.7, -0.5);
  float half = (float)uniform(c, 0.026, 0.045);
  for (double y0 = start; y0 < 1.6; y0 += spacing * uniform(c, 0.85, 1.15)) {
    float k = (float)(weight * uniform(c, 0.4, 1.2)),
          b = (float)(bow + uniform(c, -0.1, 0.1));
    for (int64_t j = 0; j < c->n; j++) {
      float x = at_pixel(j, c->n) - 0.5f, mid = (float)y0 + (float)slope * x + b * x * x;
      float tall =
          half * sqrtf(1 + ((float)slope + 2 * b * x) * ((float)slope + 2 * b * x));
      int64_t from = (int64_t)((mid - tall) * (float)c->n);
      int64_t to = (int64_t)((mid + tall) * (float)c->n);
      for (int64_t i = lm_max64(from, 0); i <= lm_min64(to, c->n - 1); i++) {
        float q = (at_pixel(i, c->n) - mid) / tall, outer = 1 - q * q;
        float inner = 0.62f - q * q;
        if (outer <= 0) continue;
        c->d[i * c->n + j] += k * (sqrtf(outer) - 0.75f * (inner > 0 ? sqrtf(inner) : 0));
      }
    }
  }
}

/* A column of vertebrae: body, discs, end plates, pedicles. `x` is its middle, `half` its
 * half width, `period` the height of one vertebra with its disc. */
static void add_spine(const canvas *c, double x, double half, double period,
                      double weight)
{
  double tilt = uniform(c, -0.12, 0.12), shift = uniform(c, 0, 1);
  float plate = (float)uniform(c, 0.3, 1.1), disc = (float)uniform(c, 0.06, 0.22);
  float pedicle = (float)uniform(c, 0.1, 0.5), soft = (float)uniform(c, 0.08, 0.5);
  float bow = (float)uniform(c, -0.1, 0.1), sag = (float)uniform(c, -0.1, 0.1);
  for (int64_t i = 0; i < c->n; i++) {
    for (int64_t j = 0; j < c->n; j++) {
      /* bones bend less than soft parts */
      float y = 0.6f * at_pixel(i, c->n) + 0.4f * c->y[i * c->n + j];
      float u = 0.6f * at_pixel(j, c->n) + 0.4f * c->x[i * c->n + j];
      u = (u - (float)(x + tilt * (y - 0.5))) / (float)half;
      if (u < -1.3f || u > 1.3f) continue;
      float v = y / (float)period + (float)shift + sag * u + bow * u * u;
      v -= floorf(v);
      float mid = fabsf(v - 0.5f); /* 0 in the middle of the body, 0.5 in the disc */
      float waist = 1 - 0.09f * lm_phantom_step(0.5f, 0.0f, mid), e = fabsf(u) / waist;
      float body = lm_phantom_step(1 + soft * 0.5f, 1 - soft, e);
      float gap = lm_phantom_step(0.38f, 0.46f, mid), line = (mid - 0.38f) / 0.025f;
      float px = (fabsf(u) - 0.6f) / 0.16f, py = (v - 0.42f) / 0.2f,
            ring = px * px + py * py;
      float k = body * (1 - disc * gap + 0.22f * plate * expf(-line * line));
      k += body * pedicle * 0.3f * expf(-6 * (ring - 1) * (ring - 1));
      k += 0.12f * lm_phantom_step(0.7f, 1.0f, e) * body * (1 - gap);
      c->d[i * c->n + j] += (float)weight * k;
    }
  }
}

/* The large organs, from the view. */
static void add_anatomy(const canvas *c, const lm_phantom_view *v, bool hard)
{
  double m = v->scale;
  add_heart(c, v);
  double spine[3] = {-0.75 + uniform(c, -0.25, 0.25), 1.55 + uniform(c, -0.2, 0.25), 0};
  double sx = v->x0 + m * (spine[0] * v->right[0] + spine[1] * v->right[1]);
  double weight = uniform(c, -0.04, 0.32);
  if (weight > 0)
    add_spine(c, sx, m * uniform(c, 0.38, 0.5), m * uniform(c, 0.56, 0.7), weight);
  add_blob(c, sx + m * uniform(c, -0.3, 0.3), 0.5, m * 0.9, 1.5, uniform(c, 0, 0.2));
  double crest = v->y0 + m * (0.95 - 1.0 * sin(v->cranial) + uniform(c, -0.45, 0.6));
  if (chance(c, 0.85)) {
    add_dome(c, v->x0 + m * uniform(c, -0.9, 0.5), crest, uniform(c, 0.32, 0.75),
             uniform(c, 0.25, 0.6), uniform(c, 0.08, 0.6));
  }
  if (chance(c, 0.35)) {
    add_dome(c, uniform(c, 0, 1), crest + uniform(c, 0.02, 0.3), uniform(c, 0.2, 0.5),
             uniform(c, 0.15, 0.4), uniform(c, -0.18, 0.25));
  }
  int64_t borders = 1 + lm_rng_below(c->rng, 4);
  for (int64_t k = 0; k < borders; k++) {
    bool crisp = chance(c, 0.4);
    double edge = crisp ? uniform(c, 0.004, 0.014) : uniform(c, 0.02, 0.16);
    add_border(c, uniform(c, -0.4, 0.14) * (crisp ? 0.6 : 1), edge);
  }
  double ribs = uniform(c, 0.0, 0.08) * (hard ? 1.3 : 1);
  add_ribs(c, ribs);
  if (chance(c, 0.5)) add_ribs(c, ribs * 0.6);
}

lm_status lm_phantom_background(float *density, int64_t size, const lm_phantom_view *view,
                                lm_rng *rng, bool hard)
{
  int64_t total = size * size;
  float *work;
  LM_TRY(lm_calloc(&work, (size_t)(3 * total), sizeof *work));
  canvas c = {density, work, work + total, work + 2 * total, size, rng};
  for (int64_t i = 0; i < total; i++) density[i] = 0;
  bend_field(&c);
  add_tissue(&c, hard);
  add_anatomy(&c, view, hard);
  double mottle = uniform(&c, 0.0, 0.065) * (hard ? 1.5 : 1), grain = uniform(&c, 0, PI);
  for (double f = uniform(&c, 7, 12); f < 50; f *= 2.1) {
    add_octave(&c, f, mottle, grain + uniform(&c, -0.7, 0.7), 1.3, true, c.lung);
    mottle *= 0.62;
  }
  int64_t blobs = 3 + lm_rng_below(rng, 8);
  for (int64_t k = 0; k < blobs; k++) {
    double s = uniform(&c, 0.012, 0.07);
    add_blob(&c, uniform(&c, 0, 1), uniform(&c, 0, 1), s, s * uniform(&c, 0.6, 1.6),
             uniform(&c, -0.05, 0.09));
  }
  free(work);
  double mean = 0, square = 0;
  for (int64_t i = 0; i < total; i++) mean += density[i];
  mean /= (double)total;
  for (int64_t i = 0; i < total; i++) square += (density[i] - mean) * (density[i] - mean);
  double deviation = sqrt(square / (double)total);
  /* a frame with little anatomy stays flat: its texture is not blown up */
  float scale = (float)(1 / (deviation > 0.12 ? deviation : 0.12));
  for (int64_t i = 0; i < total; i++) density[i] = (density[i] - (float)mean) * scale;
  return LM_OK;
}
