/* phantom.c: renders one procedural angiogram: choice of a tree, contrast by path length
 * through the lumen (Beer and Lambert), catheter and wires, exposure, collimation, point
 * spread and quantum noise.
 *
 * All images here are [n, n], row-major. The order is that of the machine: density ->
 * exposure -> collimation -> blur -> edge enhancement -> noise -> 8 bits. */
#include "vision/phantom.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "vision/phantom_parts.h"

enum { REFERENCE_SIZE = 256, ATTEMPTS = 12 };

typedef struct box {
  int64_t x0, x1, y0, y1; /* pixels, inclusive; empty when x1 < x0 */
} box;

static void draw_collimator(lm_phantom_exposure *e, bool hard, lm_rng *r)
{
  double kind = lm_rng_uniform(r);
  e->collimator = kind < (hard ? 0.35 : 0.5) ? 0 : kind < (hard ? 0.65 : 0.8) ? 1 : 2;
  double margin = hard ? 0.12 : 0.09;
  e->left = (float)lm_rng_range(r, -0.03, margin);
  e->right = (float)lm_rng_range(r, -0.03, margin);
  e->top = (float)lm_rng_range(r, -0.03, 0.7 * margin);
  e->bottom = (float)lm_rng_range(r, -0.03, 0.7 * margin);
  e->turn = (float)(0.012 * lm_rng_normal(r));
  e->soft = (float)lm_rng_range(r, 0.006, 0.03);
  double wander = hard ? 0.13 : 0.05;
  e->cx = (float)lm_rng_range(r, 0.5 - wander, 0.5 + wander);
  e->cy = (float)lm_rng_range(r, 0.5 - 0.4 * wander, 0.5 + 0.4 * wander);
  e->radius = (float)(hard ? lm_rng_range(r, 0.52, 0.64) : lm_rng_range(r, 0.58, 0.66));
  e->shade = (float)(e->collimator == 2 ? lm_rng_range(r, 0.05, 0.16)
                                        : lm_rng_range(r, 0.12, 0.6));
}

void lm_phantom_exposure_draw(lm_phantom_exposure *e, bool hard, lm_rng *r)
{
  memset(e, 0, sizeof *e);
  e->iodine = (float)(hard ? lm_rng_range(r, 7, 18) : lm_rng_range(r, 7, 15));
  e->grey = (float)(112 + 17 * lm_rng_normal(r));
  e->grey = e->grey < 74 ? 74 : e->grey > 156 ? 156 : e->grey;
  e->spread = (float)(lm_rng_range(r, 0.13, 0.27) * (hard ? 1.2 : 1));
  e->blur = (float)lm_rng_range(r, 0.0011, 0.0024);
  e->sharpen = lm_rng_uniform(r) < 0.5 ? (float)lm_rng_range(r, 0.2, 0.9) : 0;
  e->halo = (float)lm_rng_range(r, 0.006, 0.02);
  e->noise = (float)(exp(lm_rng_range(r, log(0.9), log(3.4))) * (hard ? 1.3 : 1.0));
  e->grain = (float)lm_rng_range(r, 0.45, 0.8);
  e->vignette = (float)lm_rng_range(r, 0, 0.35);
  draw_collimator(e, hard, r);
}

/* How wide a vessel's profile gets on the detector, field units. */
static float detector_width(const lm_phantom_exposure *e, int64_t n)
{
  float pixel = 0.8f / (float)n;
  return sqrtf(e->blur * e->blur + pixel * pixel);
}

/* Whether a reader would mark this node: its density after blurring is above the noise.
 */
static bool node_visible(const lm_phantom_node *v, const lm_phantom_exposure *e,
                         float width)
{
  float density = e->iodine * v->iodine * v->stretch * 2 * v->r * v->r / (v->r + width);
  return density > 0.028f;
}

static box segment_box(const lm_phantom_node *a, const lm_phantom_node *b, float reach,
                       int64_t n)
{
  float f = (float)n, low_x = fminf(a->x, b->x) * f - reach,
        high_x = fmaxf(a->x, b->x) * f + reach;
  float low_y = fminf(a->y, b->y) * f - reach, high_y = fmaxf(a->y, b->y) * f + reach;
  box out = {0, -1, 0, -1};
  if (high_x < 0 || high_y < 0 || low_x > f || low_y > f) return out;
  out.x0 = lm_max64((int64_t)floorf(low_x), 0);
  out.x1 = lm_min64((int64_t)ceilf(high_x), n - 1);
  out.y0 = lm_max64((int64_t)floorf(low_y), 0);
  out.y1 = lm_min64((int64_t)ceilf(high_y), n - 1);
  return out;
}

static void mark_mask(const lm_phantom_tree *tree, const lm_phantom_exposure *e,
                      uint8_t *mask, int64_t n)
{
  float width = detector_width(e, n), f = (float)n;
  memset(mask, 0, (size_t)(n * n));
  for (int64_t k = 0; k < tree->branch_count; k++) {
    const lm_phantom_node *v = &tree->nodes[tree->branches[k].first];
    for (int64_t i = 0; i + 1 < tree->branches[k].count; i++) {
      if (!node_visible(&v[i], e, width)) continue;
      const lm_phantom_node *a = &v[i], *b = &v[i + 1];
      float r = fmaxf(0.5f * (a->r + b->r) * f, 0.55f);
      box s = segment_box(a, b, r, n);
      float dx = (b->x - a->x) * f, dy = (b->y - a->y) * f;
      float scale = 1 / (dx * dx + dy * dy + 1e-9f);
      for (int64_t y = s.y0; y <= s.y1; y++) {
        float py = (float)y + 0.5f - a->y * f;
        for (int64_t x = s.x0; x <= s.x1; x++) {
          float px = (float)x + 0.5f - a->x * f, t = (px * dx + py * dy) * scale;
          t = t < 0 ? 0 : t > 1 ? 1 : t;
          float qx = px - t * dx, qy = py - t * dy;
          if (qx * qx + qy * qy <= r * r) mask[y * n + x] = 255;
        }
      }
    }
  }
}

/* paths = max(paths, chord of the beam through the segment * gain), field units. A vessel
 * thinner than a pixel is drawn a pixel wide with the same cross-section. `hollow` is the
 * share of the wall-less core that is taken out (catheters). */
static void draw_segment(const lm_phantom_node *a, const lm_phantom_node *b, float hollow,
                         float *paths, int64_t n, box *touched)
{
  float f = (float)n, r = 0.5f * (a->r + b->r) * f, wide = fmaxf(r, 0.75f);
  box s = segment_box(a, b, wide, n);
  if (s.x1 < s.x0) return;
  touched->x0 = lm_min64(touched->x0, s.x0);
  touched->x1 = lm_max64(touched->x1, s.x1);
  touched->y0 = lm_min64(touched->y0, s.y0);
  touched->y1 = lm_max64(touched->y1, s.y1);
  float dx = (b->x - a->x) * f, dy = (b->y - a->y) * f;
  float scale = 1 / (dx * dx + dy * dy + 1e-9f), core = 0.45f * wide * wide;
  float gain = 2 * (r / wide) * (r / wide) / f;
  float ga = gain * a->stretch * a->iodine, gb = gain * b->stretch * b->iodine;
  for (int64_t y = s.y0; y <= s.y1; y++) {
    float py = (float)y + 0.5f - a->y * f, *row = paths + y * n;
#pragma omp simd
    for (int64_t x = s.x0; x <= s.x1; x++) {
      float px = (float)x + 0.5f - a->x * f, t = (px * dx + py * dy) * scale;
      t = t < 0 ? 0 : t > 1 ? 1 : t;
      float qx = px - t * dx, qy = py - t * dy, d = qx * qx + qy * qy;
      float chord = sqrtf(fmaxf(wide * wide - d, 0)) - hollow * sqrtf(fmaxf(core - d, 0));
      row[x] = fmaxf(row[x], chord * (ga + (gb - ga) * t));
    }
  }
}

/* Near its origin a branch lies inside its parent and the larger of the two counts;
 * further on, crossing vessels add up. */
void lm_phantom_lumen(const lm_phantom_tree *tree, float *total, float *near, float *far,
                      int64_t n)
{
  for (int64_t k = 0; k < tree->branch_count; k++) {
    const lm_phantom_branch *b = &tree->branches[k];
    const lm_phantom_node *v = &tree->nodes[b->first];
    box t = {n, -1, n, -1};
    for (int64_t i = 0; i + 1 < b->count; i++) {
      draw_segment(&v[i], &v[i + 1], 0, v[i].s < 2.2f * b->parent_r ? near : far, n, &t);
    }
    for (int64_t y = t.y0; y <= t.y1; y++) {
      for (int64_t x = t.x0; x <= t.x1; x++) {
        int64_t i = y * n + x;
        float sum = fmaxf(total[i], near[i]);
        total[i] = sum + fmaxf(0, far[i] - near[i]);
        near[i] = far[i] = 0;
      }
    }
  }
}

enum { CURVE_NODES = 96 };

static void bezier_curve(lm_phantom_node *nodes, const float p[4][2], float r,
                         float density)
{
  for (int i = 0; i < CURVE_NODES; i++) {
    float t = (float)i / (CURVE_NODES - 1), u = 1 - t;
    float w[4] = {u * u * u, 3 * u * u * t, 3 * u * t * t, t * t * t};
    nodes[i] = (lm_phantom_node){.r = r, .stretch = 1, .iodine = density};
    for (int k = 0; k < 4; k++) {
      nodes[i].x += w[k] * p[k][0];
      nodes[i].y += w[k] * p[k][1];
    }
  }
}

static void draw_curve(const lm_phantom_node *nodes, float hollow, float *paths,
                       int64_t n)
{
  box touched = {n, -1, n, -1};
  for (int i = 0; i + 1 < CURVE_NODES; i++) {
    draw_segment(&nodes[i], &nodes[i + 1], hollow, paths, n, &touched);
  }
}

/* The guiding catheter comes down the aorta from above, turns and ends in the ostium. */
static void draw_catheter(const lm_phantom_tree *tree, const lm_phantom_exposure *e,
                          lm_rng *r, float *density, int64_t n)
{
  lm_phantom_node nodes[CURVE_NODES];
  const lm_phantom_node *o = &tree->nodes[0], *ahead = &tree->nodes[5];
  float dx = ahead->x - o->x, dy = ahead->y - o->y, d = hypotf(dx, dy) + 1e-6f;
  float reach = (float)lm_rng_range(r, 0.08, 0.28);
  float x0 = o->x - dx / d * (float)lm_rng_range(r, -0.05, 0.3) +
             (float)lm_rng_range(r, -0.12, 0.12);
  float deep = o->y + (float)lm_rng_range(r, -0.25, 0.18);
  float p[4][2] = {{x0, -0.05f},
                   {x0 + (float)lm_rng_range(r, -0.14, 0.14), deep},
                   {o->x - dx / d * reach, o->y - dy / d * reach},
                   {o->x + dx / d * 0.006f, o->y + dy / d * 0.006f}};
  float radius = (float)(tree->view.scale * lm_rng_range(r, 0.019, 0.027));
  float strength = e->iodine * (float)lm_rng_range(r, 0.45, 1.05);
  float hollow = (float)lm_rng_range(r, 0, 0.7);
  bezier_curve(nodes, p, radius, strength);
  draw_curve(nodes, hollow, density, n);
}

/* A pacing lead, guide wire or electrode cable across the field. */
static void draw_wire(lm_rng *r, float *density, int64_t n)
{
  lm_phantom_node nodes[CURVE_NODES];
  float p[4][2], radius = (float)lm_rng_range(r, 0.0013, 0.0034);
  float from = (float)lm_rng_range(r, -0.1, 1.1), to = (float)lm_rng_range(r, -0.1, 1.1);
  bool down = lm_rng_uniform(r) < 0.7;
  p[0][0] = down ? from : -0.05f;
  p[0][1] = down ? -0.05f : from;
  p[3][0] = down ? to : 1.05f;
  p[3][1] = down ? 1.05f : to;
  for (int a = 0; a < 2; a++) {
    p[1][a] = p[0][a] * 0.67f + p[3][a] * 0.33f + (float)(0.2 * lm_rng_normal(r));
    p[2][a] = p[0][a] * 0.33f + p[3][a] * 0.67f + (float)(0.2 * lm_rng_normal(r));
  }
  float peak = (float)lm_rng_range(r, 0.08, 0.5);
  bezier_curve(nodes, p, radius, peak / (2 * radius));
  draw_curve(nodes, 0, density, n);
}

/* Share of the exposure that reaches (x, y), field units. */
static float collimation(const lm_phantom_exposure *e, float x, float y)
{
  float dx = x - 0.5f, dy = y - 0.5f, open = 1;
  if (e->collimator == 1) {
    float u = dx + e->turn * dy, v = dy - e->turn * dx, s = e->soft, round = 0.02f;
    float ox = fmaxf(u - (0.5f - e->right - round), -(u + 0.5f - e->left - round));
    float oy = fmaxf(v - (0.5f - e->bottom - round), -(v + 0.5f - e->top - round));
    float out = hypotf(fmaxf(ox, 0), fmaxf(oy, 0)) - round;
    open = 1 - lm_phantom_step(-s, s, out);
  } else if (e->collimator == 2) {
    float out = hypotf(x - e->cx, y - e->cy) - e->radius;
    open = 1 - lm_phantom_step(-0.004f, 0.004f, out);
  }
  return open * (1 - e->vignette * 1.2f * (dx * dx + dy * dy));
}

enum { BLUR_REACH = 60 };

/* row[x] for x in -reach .. n - 1 + reach, edges repeated, from in[0 .. n - 1]. */
static void pad_row(const float *in, int64_t n, int64_t reach, float *row)
{
  memcpy(row, in, (size_t)n * sizeof *row);
  for (int64_t k = 1; k <= reach; k++) {
    row[-k] = in[0];
    row[n - 1 + k] = in[n - 1];
  }
}

void lm_phantom_blur(float *a, float *work, int64_t n, float sigma)
{
  float w[BLUR_REACH + 1], padded[LM_PHANTOM_SIZE_MAX + 2 * BLUR_REACH];
  float sum = 0, *row = padded + BLUR_REACH;
  int64_t reach = lm_min64(lm_max64((int64_t)ceilf(2.7f * sigma), 1), BLUR_REACH);
  for (int64_t k = 0; k <= reach; k++) {
    w[k] = expf(-0.5f * (float)(k * k) / (sigma * sigma));
    sum += k ? 2 * w[k] : w[k];
  }
  for (int64_t k = 0; k <= reach; k++) w[k] /= sum;
  for (int64_t y = 0; y < n; y++) {
    float *out = work + y * n;
    for (int64_t x = 0; x < n; x++) out[x] = w[0] * a[y * n + x];
    for (int64_t k = 1; k <= reach; k++) {
      const float *up = a + lm_max64(y - k, 0) * n,
                  *down = a + lm_min64(y + k, n - 1) * n;
#pragma omp simd
      for (int64_t x = 0; x < n; x++) out[x] += w[k] * (up[x] + down[x]);
    }
  }
  for (int64_t y = 0; y < n; y++) {
    float *out = a + y * n;
    pad_row(work + y * n, n, reach, row);
    for (int64_t x = 0; x < n; x++) out[x] = w[0] * row[x];
    for (int64_t k = 1; k <= reach; k++) {
#pragma omp simd
      for (int64_t x = 0; x < n; x++) out[x] += w[k] * (row[x - k] + row[x + k]);
    }
  }
}

/* noise [n, n]: normal, standard deviation 1, correlated over `grain` pixels. */
static void draw_noise(float *noise, float *work, int64_t n, float grain, lm_rng *r)
{
  for (int64_t i = 0; i < n * n; i += 4) {
    uint32_t bits[4];
    lm_philox(r->key, (uint64_t)i >> 2, r->stream, bits);
    for (int64_t k = 0; k < 4 && i + k < n * n; k += 2) {
      float m = sqrtf(-2 * logf(1 - lm_uniform_f32(bits[k])));
      float a = 6.2831853f * lm_uniform_f32(bits[k + 1]);
      noise[i + k] = m * cosf(a);
      if (i + k + 1 < n * n) noise[i + k + 1] = m * sinf(a);
    }
  }
  lm_phantom_blur(noise, work, n, grain);
  double square = 0;
  for (int64_t i = 0; i < n * n; i++) square += (double)noise[i] * noise[i];
  float scale = (float)(1 / sqrt(square / (double)(n * n) + 1e-12));
  for (int64_t i = 0; i < n * n; i++) noise[i] *= scale;
}

void lm_phantom_expose(const lm_phantom_exposure *e, const lm_phantom_planes *p,
                       int64_t n, bool with_vessels, lm_rng *r, uint8_t *out)
{
  float f = (float)n, iodine = with_vessels ? e->iodine : 0;
  for (int64_t i = 0; i < n * n; i++) {
    float d = e->spread * p->background[i] + p->devices[i] + iodine * p->lumen[i];
    p->frame[i] = e->grey * expf(-d) * (e->shade + (1 - e->shade) * p->light[i]);
  }
  float pixel = f * e->blur;
  lm_phantom_blur(p->frame, p->work, n, sqrtf(pixel * pixel + 0.12f));
  draw_noise(p->noise, p->work, n, e->grain, r);
  float strength = e->noise * sqrtf(f / 300);
  for (int64_t i = 0; i < n * n; i++) {
    p->noise[i] = p->frame[i] + p->noise[i] * strength *
                                    sqrtf(fmaxf(p->frame[i], 0) * 0.01f) *
                                    (0.15f + 0.85f * p->light[i]);
  }
  if (e->sharpen > 0) {
    memcpy(p->frame, p->noise, (size_t)(n * n) * sizeof *p->frame);
    lm_phantom_blur(p->frame, p->work, n, fmaxf(e->halo * f, 0.5f));
    for (int64_t i = 0; i < n * n; i++) {
      p->noise[i] += e->sharpen * (p->noise[i] - p->frame[i]);
    }
  }
  for (int64_t i = 0; i < n * n; i++) {
    float g = p->noise[i];
    if (g > 170) g = 170 + 80 * (1 - expf((170 - g) / 80)); /* the film's shoulder */
    out[i] = (uint8_t)(g < 0 ? 0 : g > 255 ? 255 : g + 0.5f);
  }
}

lm_status lm_phantom_tree_choose(lm_phantom_tree *tree, const lm_phantom_exposure *e,
                                 bool hard, uint64_t seed, uint64_t index)
{
  enum { PIXELS = REFERENCE_SIZE * REFERENCE_SIZE };
  uint8_t *mask;
  lm_status status = LM_OK;
  LM_TRY(lm_calloc(&mask, PIXELS, 1));
  for (uint64_t attempt = 0; attempt < ATTEMPTS; attempt++) {
    lm_rng rng = lm_phantom_rng(seed, index, "phantom.tree", attempt);
    LM_TRY_GOTO(status, done, lm_phantom_tree_grow(tree, &rng, hard));
    mark_mask(tree, e, mask, REFERENCE_SIZE);
    int64_t count = 0;
    for (int64_t i = 0; i < PIXELS; i++) count += mask[i] != 0;
    if (count > 0.035 * PIXELS && count < 0.105 * PIXELS) break;
  }
done:
  free(mask);
  return status;
}

void lm_phantom_devices(const lm_phantom_tree *tree, const lm_phantom_exposure *e,
                        bool hard, lm_rng *r, float *density, int64_t n)
{
  draw_catheter(tree, e, r, density, n);
  if (lm_rng_uniform(r) < (hard ? 0.4 : 0.2)) draw_wire(r, density, n);
}

void lm_phantom_light(const lm_phantom_exposure *e, float *light, int64_t n)
{
  for (int64_t i = 0; i < n * n; i++) {
    float x = ((float)(i % n) + 0.5f) / (float)n, y = ((float)(i / n) + 0.5f) / (float)n;
    light[i] = collimation(e, x, y);
  }
}

static lm_status render(const lm_phantom_options *o, uint64_t seed, uint64_t index,
                        lm_phantom_tree *tree, const lm_phantom_planes *p, uint8_t *image,
                        uint8_t *mask, uint8_t *pre_contrast)
{
  int64_t n = o->size;
  lm_phantom_exposure e;
  lm_rng rng = lm_phantom_rng(seed, index, "phantom.exposure", 0);
  lm_phantom_exposure_draw(&e, o->hard, &rng);
  LM_TRY(lm_phantom_tree_choose(tree, &e, o->hard, seed, index));
  mark_mask(tree, &e, mask, n);
  lm_phantom_lumen(tree, p->lumen, p->frame, p->noise, n);
  rng = lm_phantom_rng(seed, index, "phantom.devices", 0);
  lm_phantom_devices(tree, &e, o->hard, &rng, p->devices, n);
  rng = lm_phantom_rng(seed, index, "phantom.background", 0);
  LM_TRY(lm_phantom_background(p->background, n, &tree->view, &rng, o->hard));
  lm_phantom_light(&e, p->light, n);
  for (int64_t i = 0; i < n * n; i++) {
    if (p->light[i] < 0.5f) mask[i] = 0;
  }
  rng = lm_phantom_rng(seed, index, "phantom.noise", 0);
  lm_phantom_expose(&e, p, n, true, &rng, image);
  if (pre_contrast) {
    rng = lm_phantom_rng(seed, index, "phantom.noise", 1);
    lm_phantom_expose(&e, p, n, false, &rng, pre_contrast);
  }
  return LM_OK;
}

lm_status lm_phantom_check(const lm_phantom_options *options)
{
  int64_t n = options->size;
  if (n < LM_PHANTOM_SIZE_MIN || n > LM_PHANTOM_SIZE_MAX) {
    return lm_fail(LM_ERR_ARG, "phantom: size %lld is outside %d..%d", (long long)n,
                   LM_PHANTOM_SIZE_MIN, LM_PHANTOM_SIZE_MAX);
  }
  return LM_OK;
}

lm_status lm_phantom_render(const lm_phantom_options *options, uint64_t seed,
                            uint64_t index, uint8_t *image, uint8_t *mask,
                            uint8_t *pre_contrast)
{
  int64_t n = options->size;
  LM_TRY(lm_phantom_check(options));
  lm_phantom_tree *tree;
  float *all;
  LM_TRY(lm_calloc(&tree, 1, sizeof *tree));
  lm_status status = lm_calloc(&all, (size_t)(7 * n * n), sizeof *all);
  if (status == LM_OK) {
    int64_t a = n * n;
    lm_phantom_planes p = {all,         all + a,     all + 2 * a, all + 3 * a,
                           all + 4 * a, all + 5 * a, all + 6 * a};
    status = render(options, seed, index, tree, &p, image, mask, pre_contrast);
  }
  free(all);
  free(tree);
  return status;
}
