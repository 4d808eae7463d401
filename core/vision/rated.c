/* rated.c: what a bad generator makes of a phantom, and how it would be rated.
 *
 * Order of the file: the strength of the defects, the tree as the generator draws it, the
 * planes of a case at one size, the three images, measuring, rating. Planes are [n, n]. */
#include "vision/rated.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "vision/phantom_parts.h"

enum { MEASURED_AT = 128 }; /* pixels at which severities are measured */

static const float kMix = 0.85f; /* share of a foreign background at full strength */

/* What was drawn for S; shares are 0 to 1. */
typedef struct defects {
  double vessel, background, realism; /* strength, as drawn */
  bool local;                         /* the foreign background fills a part only */
  double wave[4];                     /* of its border */
  float blur;                         /* more point spread, field units */
  float fade;                         /* share of the vessels' contrast that is left */
  float checker;                      /* grey levels */
  float noise;                        /* factor */
  float gain, offset;                 /* nuisance */
} defects;

typedef struct scene {
  lm_phantom_exposure e;
  lm_phantom_tree *tree, *other, *drawn; /* of the case, of another patient, of S */
  defects d;
  uint64_t seed, index;
  bool hard;
} scene;

enum { BACKGROUND, DEVICES, LUMEN, OTHER, DRAWN, LIGHT, FRAME, NOISE, WORK, A, B, C, PLANES };

static lm_rng stream(const scene *s, const char *purpose, uint64_t attempt)
{
  return lm_phantom_rng(s->seed, s->index, purpose, attempt);
}

static double strength(lm_rng *r)
{
  double none = lm_rng_uniform(r), s = lm_rng_uniform(r);
  return none < 0.15 ? 0 : s;
}

static void draw_defects(defects *d, lm_rng *r)
{
  d->vessel = strength(r);
  d->background = strength(r);
  d->realism = strength(r);
  d->local = lm_rng_uniform(r) < 0.5;
  for (int k = 0; k < 4; k++) d->wave[k] = lm_rng_uniform(r);
  float s = (float)d->realism;
  d->blur = s * (float)lm_rng_range(r, 0.006, 0.011);
  d->fade = 1 - s * (float)lm_rng_range(r, 0.3, 0.5);
  d->checker = s * (float)lm_rng_range(r, 2, 8);
  d->noise = 1 + s * (float)lm_rng_range(r, 0.3, 1.2);
  d->gain = (float)lm_rng_range(r, 0.9, 1.1);
  d->offset = (float)lm_rng_range(r, -10, 10);
}

/* ---- the tree of S ---- */

/* What a branch contributes to the picture: its area, weighted by its filling. */
static double weight_of(const lm_phantom_tree *t, int64_t k)
{
  const lm_phantom_node *v = &t->nodes[t->branches[k].first];
  double sum = 0;
  for (int64_t i = 1; i < t->branches[k].count; i++) {
    bool inside = v[i].x > 0 && v[i].x < 1 && v[i].y > 0 && v[i].y < 1;
    if (inside) sum += (double)((v[i].s - v[i - 1].s) * v[i].r * v[i].iodine);
  }
  return sum;
}

/* Whether branch k is `ancestor` or grows out of it. */
static bool descends(const lm_phantom_tree *t, int64_t k, int64_t ancestor)
{
  while (k > ancestor) k = t->branches[k].parent; /* parents stand before their children */
  return k == ancestor;
}

static double subtree_weight(const lm_phantom_tree *t, const double *weight, int64_t root)
{
  double sum = 0;
  for (int64_t k = root; k < t->branch_count; k++)
    if (weight[k] > 0 && descends(t, k, root)) sum += weight[k];
  return sum;
}

/* A branch, larger ones more often. */
static int64_t pick(const double *weight, int64_t count, lm_rng *r)
{
  double total = 0;
  for (int64_t k = 0; k < count; k++) total += weight[k];
  double at = lm_rng_uniform(r) * total;
  for (int64_t k = 0; k < count; k++) {
    at -= weight[k];
    if (at < 0) return k;
  }
  return count - 1;
}

/* Take subtrees away until `share` of the tree is gone; one that would be too much is left. */
static void remove_branches(lm_phantom_tree *t, double share, lm_rng *r)
{
  double weight[LM_PHANTOM_BRANCHES], total = 0, gone = 0;
  for (int64_t k = 0; k < t->branch_count; k++) total += weight[k] = weight_of(t, k);
  for (int tries = 0; tries < 60 && gone < 0.95 * share * total; tries++) {
    int64_t k = pick(weight, t->branch_count, r);
    double part = subtree_weight(t, weight, k);
    if (part <= 0 || gone + part > 1.05 * share * total) continue;
    for (int64_t b = t->branch_count - 1; b >= k; b--) {
      if (!descends(t, b, k)) continue;
      weight[b] = 0;
      t->branches[b].count = 0;
    }
    gone += part;
  }
}

/* Interruptions of a tenth of a radius to some radii. */
static void cut_gaps(lm_phantom_tree *t, double share, lm_rng *r)
{
  for (int64_t k = 0; k < t->branch_count; k++) {
    lm_phantom_node *v = &t->nodes[t->branches[k].first];
    for (int64_t i = 4; i + 8 < t->branches[k].count; i += 12) {
      if (lm_rng_uniform(r) >= share) continue;
      float end = v[i].s + (float)lm_rng_range(r, 0.02, 0.05);
      for (; i < t->branches[k].count && v[i].s < end; i++) v[i].iodine = 0;
    }
  }
}

/* A node that is still there, away from the tips; NULL when none was found. */
static const lm_phantom_node *some_node(const lm_phantom_tree *t, lm_rng *r)
{
  double weight[LM_PHANTOM_BRANCHES];
  for (int64_t k = 0; k < t->branch_count; k++) weight[k] = weight_of(t, k);
  const lm_phantom_branch *b = &t->branches[pick(weight, t->branch_count, r)];
  int64_t at = (int64_t)(lm_rng_range(r, 0.15, 0.8) * (double)b->count);
  return b->count > 0 ? &t->nodes[b->first + at] : NULL;
}

/* A branch of another patient with what grows out of it, turned, on a vessel of ours. */
static void add_foreign(lm_phantom_tree *t, const lm_phantom_tree *other, lm_rng *r)
{
  double weight[LM_PHANTOM_BRANCHES], turn = lm_rng_range(r, 0, 6.2831853);
  for (int64_t k = 0; k < other->branch_count; k++) weight[k] = weight_of(other, k);
  weight[0] = 0; /* not a whole tree */
  int64_t root = pick(weight, other->branch_count, r);
  const lm_phantom_node *onto = some_node(t, r);
  const lm_phantom_node *from = &other->nodes[other->branches[root].first];
  if (!onto) return;
  float x = onto->x, y = onto->y, c = (float)cos(turn), s = (float)sin(turn);
  float thin = fminf(1, 0.85f * onto->r / from->r), filled = onto->iodine / from->iodine;
  int64_t number[LM_PHANTOM_BRANCHES];
  for (int64_t k = root; k < other->branch_count; k++) {
    const lm_phantom_branch *b = &other->branches[k];
    if (!descends(other, k, root)) continue;
    if (t->branch_count == LM_PHANTOM_BRANCHES) return;
    if (t->node_count + b->count > LM_PHANTOM_NODES) return;
    number[k] = t->branch_count++;
    t->branches[number[k]] = (lm_phantom_branch){
        t->node_count, b->count, k == root ? -1 : number[b->parent], b->parent_r};
    for (int64_t i = 0; i < b->count; i++) {
      lm_phantom_node v = other->nodes[b->first + i];
      float dx = v.x - from->x, dy = v.y - from->y;
      v.x = x + c * dx - s * dy;
      v.y = y + s * dx + c * dy;
      v.r *= thin;
      v.iodine = fminf(1, v.iodine * fminf(filled, 2));
      t->nodes[t->node_count++] = v;
    }
  }
}

static void draw_tree_of_s(const scene *s)
{
  lm_rng r = stream(s, "rated.vessels", 0);
  memcpy(s->drawn, s->tree, sizeof *s->drawn);
  double strength = s->d.vessel;
  if (strength <= 0) return;
  remove_branches(s->drawn, 0.8 * strength * lm_rng_range(&r, 0.3, 1), &r);
  cut_gaps(s->drawn, 0.3 * strength * lm_rng_uniform(&r), &r);
  int64_t foreign = lm_rng_below(&r, 4);
  for (int64_t k = 0; k < foreign; k++) {
    if (lm_rng_uniform(&r) < strength) add_foreign(s->drawn, s->other, &r);
  }
}

/* ---- planes ---- */

/* Share of the foreign background at (x, y), in field units. */
static float mixed(const defects *d, float x, float y)
{
  float share = kMix * (float)d->background;
  if (!d->local) return share;
  double angle = 6.2831853 * d->wave[0];
  double u = cos(angle) * (x - 0.5) + sin(angle) * (y - 0.5);
  double v = cos(angle) * (y - 0.5) - sin(angle) * (x - 0.5);
  double bow = 0.1 * sin(6.2831853 * (d->wave[1] + v * (0.6 + d->wave[2])));
  return share * lm_phantom_step(-0.08f, 0.08f, (float)(u - 0.3 * (d->wave[3] - 0.5) - bow));
}

static lm_status paint(const scene *s, int64_t n, float *const plane[PLANES])
{
  lm_rng r = stream(s, "phantom.devices", 0);
  memset(plane[0], 0, (size_t)(PLANES * n * n) * sizeof **plane);
  lm_phantom_devices(s->tree, &s->e, s->hard, &r, plane[DEVICES], n);
  lm_phantom_lumen(s->tree, plane[LUMEN], plane[FRAME], plane[NOISE], n);
  lm_phantom_lumen(s->drawn, plane[DRAWN], plane[FRAME], plane[NOISE], n);
  lm_phantom_light(&s->e, plane[LIGHT], n);
  r = stream(s, "phantom.background", 0);
  LM_TRY(lm_phantom_background(plane[BACKGROUND], n, &s->tree->view, &r, s->hard));
  r = stream(s, "rated.background", 0);
  return lm_phantom_background(plane[OTHER], n, &s->other->view, &r, s->hard);
}

static lm_phantom_planes planes_of(float *const plane[PLANES], int background, int devices,
                                   int lumen)
{
  return (lm_phantom_planes){plane[background], plane[devices], plane[lumen], plane[LIGHT],
                             plane[FRAME],      plane[NOISE],   plane[WORK]};
}

/* Planes A, B: background and devices as S has them. */
static void mix_background(const defects *d, int64_t n, float *const plane[PLANES])
{
  for (int64_t i = 0; i < n * n; i++) {
    float x = ((float)(i % n) + 0.5f) / (float)n, y = ((float)(i / n) + 0.5f) / (float)n;
    float share = mixed(d, x, y);
    plane[A][i] = (1 - share) * plane[BACKGROUND][i] + share * plane[OTHER][i];
    plane[B][i] = (1 - share) * plane[DEVICES][i];
  }
}

/* ---- the images ---- */

/* The exposure of S, with realism defects. */
static lm_phantom_exposure generated(const scene *s)
{
  lm_phantom_exposure e = s->e;
  e.blur = sqrtf(e.blur * e.blur + s->d.blur * s->d.blur);
  e.iodine *= s->d.fade;
  e.noise *= s->d.noise;
  return e;
}

/* What transposed convolutions leave: 32 by 32 squares, finer ones half as strong. */
static float checker(int64_t x, int64_t y, int64_t n)
{
  int64_t u = 64 * x / n, v = 64 * y / n;
  return ((u + v) & 1 ? 1.0f : -1.0f) + (((u >> 1) + (v >> 1)) & 1 ? 0.5f : -0.5f);
}

/* Grey levels of S get the checkerboard, gain and offset. */
static void finish(const defects *d, int64_t n, const float *light, uint8_t *image)
{
  for (int64_t i = 0; i < n * n; i++) {
    float g = (float)image[i] + d->checker * checker(i % n, i / n, n) * light[i];
    g = d->gain * g + d->offset;
    image[i] = (uint8_t)(g < 0 ? 0 : g > 255 ? 255 : g + 0.5f);
  }
}

/* out(x, y) = in(x + dx, y + dy), where the field (dx, dy) is smooth: three waves. */
static void warp(const float *in, int64_t n, lm_rng r, float *out)
{
  float wave[2][3][4], f = (float)n;
  for (int a = 0; a < 2; a++)
    for (int k = 0; k < 3; k++) {
      wave[a][k][0] = (float)lm_rng_range(&r, -9, 9);
      wave[a][k][1] = (float)lm_rng_range(&r, -9, 9);
      wave[a][k][2] = (float)lm_rng_range(&r, 0, 6.2831853);
      wave[a][k][3] = (float)lm_rng_range(&r, 0.004, 0.022);
    }
  for (int64_t i = 0; i < n * n; i++) {
    float p[2] = {((float)(i % n) + 0.5f) / f, ((float)(i / n) + 0.5f) / f}, q[2];
    for (int a = 0; a < 2; a++) {
      q[a] = p[a];
      for (int k = 0; k < 3; k++)
        q[a] += wave[a][k][3] * sinf(wave[a][k][0] * p[0] + wave[a][k][1] * p[1] +
                                     wave[a][k][2]);
      q[a] = fminf(fmaxf(q[a] * f - 0.5f, 0), f - 1.001f);
    }
    int64_t x = (int64_t)q[0], y = (int64_t)q[1];
    float u = q[0] - (float)x, v = q[1] - (float)y;
    const float *c = in + y * n + x;
    out[i] = (1 - v) * ((1 - u) * c[0] + u * c[1]) + v * ((1 - u) * c[n] + u * c[n + 1]);
  }
}

static void make_images(const scene *s, int64_t n, float *const plane[PLANES], uint8_t *image,
                        uint8_t *source, uint8_t *contrast)
{
  lm_phantom_planes p = planes_of(plane, BACKGROUND, DEVICES, LUMEN);
  lm_rng r = stream(s, "phantom.noise", 1);
  lm_phantom_expose(&s->e, &p, n, false, &r, source);

  lm_rng field = stream(s, "rated.phase", 0);
  lm_phantom_exposure phase = s->e;
  phase.iodine *= (float)lm_rng_range(&field, 0.7, 1.3);
  warp(plane[BACKGROUND], n, field, plane[A]);
  warp(plane[DEVICES], n, field, plane[B]);
  warp(plane[LUMEN], n, field, plane[C]);
  p = planes_of(plane, A, B, C);
  r = stream(s, "rated.noise", 0);
  lm_phantom_expose(&phase, &p, n, true, &r, contrast);

  lm_phantom_exposure e = generated(s);
  mix_background(&s->d, n, plane);
  p = planes_of(plane, A, B, DRAWN);
  r = stream(s, "rated.noise", 1);
  lm_phantom_expose(&e, &p, n, true, &r, image);
  finish(&s->d, n, plane[LIGHT], image);
}

/* ---- measuring ---- */

/* How much of a vessel there is at a path length t: half at that of a twig, so that a trunk
 * does not outweigh all branches. */
static double presence(float t) { return t / (t + 0.012); }

/* 1 - the soft Dice of two planes of lumen, where there is light. */
static double lumen_lost(const float *a, const float *b, const float *light, int64_t count)
{
  double both = 0, squares = 0;
  for (int64_t i = 0; i < count; i++) {
    if (light[i] < 0.5f) continue;
    double u = presence(a[i]), v = presence(b[i]);
    both += u * v;
    squares += u * u + v * v;
  }
  return squares > 0 ? 1 - 2 * both / squares : 0;
}

/* Root mean square of the change of density, in standard deviations of the background. */
static double background_changed(const scene *s, float *const plane[PLANES], int64_t count)
{
  double sum = 0, n = 0;
  for (int64_t i = 0; i < count; i++) {
    if (plane[LIGHT][i] < 0.5f) continue;
    double d = plane[A][i] - plane[BACKGROUND][i];
    d += (double)((plane[B][i] - plane[DEVICES][i]) / s->e.spread);
    sum += d * d;
    n++;
  }
  return n > 0 ? sqrt(sum / n) : 0;
}

/* Root mean square of what a blur takes away, grey levels; turns frame into it. */
static double detail(float *frame, float *blurred, float *work, int64_t n)
{
  double sum = 0;
  memcpy(blurred, frame, (size_t)(n * n) * sizeof *frame);
  lm_phantom_blur(blurred, work, n, 0.025f * (float)n);
  for (int64_t i = 0; i < n * n; i++) {
    double d = frame[i] - blurred[i];
    sum += d * d;
  }
  return sqrt(sum / (double)(n * n));
}

/* Detail of S without noise: grey levels before the checkerboard. */
static double clean_detail(const lm_phantom_exposure *e, int64_t n,
                           float *const plane[PLANES], uint8_t *work)
{
  lm_phantom_exposure clean = *e;
  lm_phantom_planes p = planes_of(plane, A, B, DRAWN);
  lm_rng r = lm_rng_make(0, 0);
  clean.noise = 0;
  clean.sharpen = 0;
  lm_phantom_expose(&clean, &p, n, true, &r, work);
  for (int64_t i = 0; i < n * n; i++) plane[FRAME][i] = work[i];
  return detail(plane[FRAME], plane[NOISE], plane[WORK], n);
}

/* Severities, 0 to 1, from the planes painted at MEASURED_AT. */
static void measure(const scene *s, int64_t n, float *const plane[PLANES], uint8_t *work,
                    float severity[LM_RATED_METRICS])
{
  mix_background(&s->d, n, plane);
  double lost = lumen_lost(plane[LUMEN], plane[DRAWN], plane[LIGHT], n * n) / 0.4;
  double changed = background_changed(s, plane, n * n) / 1.1;
  lm_phantom_exposure e = generated(s);
  double kept = clean_detail(&e, n, plane, work) / (clean_detail(&s->e, n, plane, work) + 0.5);
  double artefact = s->d.checker / 8 + (double)(s->d.noise - 1) * s->e.noise / 4;
  double unreal = 1.1 * (1 - kept) + 0.4 * artefact;
  severity[0] = (float)fmin(fmax(lost, 0), 1);
  severity[1] = (float)fmin(changed, 1);
  severity[2] = s->d.realism > 0 ? (float)fmin(fmax(unreal, 0), 1) : 0;
}

/* ---- rating ---- */

static float rated(double latent, lm_rng *r)
{
  double sum = 0;
  for (int rater = 0; rater < 3; rater++) {
    double y = 5 - 4 * pow(latent, 0.8) + 0.35 * lm_rng_normal(r);
    y = floor(2 * y + 0.5) / 2;
    sum += y < 1 ? 1 : y > 5 ? 5 : y;
  }
  return (float)(sum / 3);
}

static void rate(const scene *s, lm_rated *out)
{
  lm_rng r = stream(s, "rated.raters", 0);
  const float *m = out->severity;
  double latent[LM_RATED_METRICS] = {0.85 * m[0] + 0.15 * m[2], 0.9 * m[1] + 0.1 * m[2], m[2]};
  for (int k = 0; k < LM_RATED_METRICS; k++) out->score[k] = rated(latent[k], &r);
}

/* ---- all of it ---- */

static lm_status draw_scene(scene *s)
{
  lm_rng r = stream(s, "phantom.exposure", 0);
  lm_phantom_exposure_draw(&s->e, s->hard, &r);
  LM_TRY(lm_phantom_tree_choose(s->tree, &s->e, s->hard, s->seed, s->index));
  r = stream(s, "rated.other", 0);
  LM_TRY(lm_phantom_tree_grow(s->other, &r, s->hard));
  r = stream(s, "rated.defects", 0);
  draw_defects(&s->d, &r);
  draw_tree_of_s(s);
  return LM_OK;
}

static lm_status render(scene *s, int64_t n, float *memory, uint8_t *work, uint8_t *image,
                        uint8_t *source, uint8_t *contrast, lm_rated *out)
{
  float *plane[PLANES];
  LM_TRY(draw_scene(s));
  int64_t sizes[2] = {MEASURED_AT, n};
  for (int k = 0; k < 2; k++) {
    int64_t side = sizes[k];
    for (int i = 0; i < PLANES; i++) plane[i] = memory + i * side * side;
    if (k == 0 || n != MEASURED_AT) LM_TRY(paint(s, side, plane));
    if (k == 0) measure(s, side, plane, work, out->severity);
  }
  make_images(s, n, plane, image, source, contrast);
  rate(s, out);
  return LM_OK;
}

lm_status lm_rated_render(const lm_phantom_options *options, uint64_t seed, uint64_t index,
                          uint8_t *image, uint8_t *source, uint8_t *contrast, lm_rated *out)
{
  LM_TRY(lm_phantom_check(options));
  int64_t side = lm_max64(options->size, MEASURED_AT);
  lm_phantom_tree *trees;
  float *memory = NULL;
  uint8_t *work = NULL;
  LM_TRY(lm_calloc(&trees, 3, sizeof *trees));
  lm_status status = lm_calloc(&memory, (size_t)(PLANES * side * side), sizeof *memory);
  if (status == LM_OK) status = lm_calloc(&work, MEASURED_AT * MEASURED_AT, 1);
  if (status == LM_OK) {
    scene s = {.tree = trees, .other = trees + 1, .drawn = trees + 2, .seed = seed,
               .index = index, .hard = options->hard};
    status = render(&s, options->size, memory, work, image, source, contrast, out);
  }
  free(work);
  free(memory);
  free(trees);
  return status;
}
