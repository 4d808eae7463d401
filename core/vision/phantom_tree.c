/* phantom_tree.c: grows a coronary tree on the surface of a heart and projects it.
 *
 * The arteries follow the "circle and loop" of coronary anatomy: the right coronary and
 * the circumflex run in the atrioventricular groove (the circle), the anterior descending
 * and the posterior descending in the interventricular grooves (the loop through the
 * apex). A place on the heart is (theta, phi, rho): theta from the apex (0) to the base,
 * phi around the long axis (0 anterior groove, 90 degrees left wall, 180 posterior
 * groove, 270 right wall), rho 1 on the surface. A branch is a quadratic Bezier curve in
 * these coordinates plus a tortuous displacement along the surface. */
#include "vision/phantom_parts.h"

#include <stdlib.h>
#include <string.h>

#define PI 3.14159265358979323846
#define DEG (PI / 180.0)

static const double kMinRadius = 0.0062; /* heart units: about 0.3 mm */

typedef struct place {
  double theta, phi, rho;
} place;

/* A node before projection. */
typedef struct node3 {
  place at;
  double p[3]; /* patient axes, heart units */
  double r, iodine;
} node3;

typedef struct grower {
  lm_phantom_tree *tree;
  node3 *nodes; /* parallel to tree->nodes */
  lm_rng *rng;
  double tortuosity, twigs, fade, calibre;
} grower;

typedef struct branch_plan {
  int64_t parent, at; /* parent branch (-1: none) and the node it leaves from */
  place middle, end;  /* control point and end of the curve */
  double r0, r1;      /* radii at both ends, heart units */
  double wiggle;      /* tortuosity, 1 = usual */
} branch_plan;

static double uniform(grower *g, double low, double high)
{
  return lm_rng_range(g->rng, low, high);
}

static bool chance(grower *g, double p) { return lm_rng_uniform(g->rng) < p; }

/* Point of the heart at `at`, patient axes. */
static void heart_point(const lm_phantom_view *v, place at, double out[3])
{
  double c[3] = {v->semi[0] * sin(at.theta) * cos(at.phi),
                 v->semi[1] * sin(at.theta) * sin(at.phi), v->semi[2] * cos(at.theta)};
  for (int i = 0; i < 3; i++) {
    out[i] =
        at.rho * (c[0] * v->axis[0][i] + c[1] * v->axis[1][i] + c[2] * v->axis[2][i]);
  }
}

/* The place whose point is p. */
static place place_of(const lm_phantom_view *v, const double p[3])
{
  double c[3];
  for (int k = 0; k < 3; k++) {
    c[k] =
        (p[0] * v->axis[k][0] + p[1] * v->axis[k][1] + p[2] * v->axis[k][2]) / v->semi[k];
  }
  double rho = sqrt(c[0] * c[0] + c[1] * c[1] + c[2] * c[2]) + 1e-12;
  return (place){acos(c[2] / rho), atan2(c[1], c[0]), rho};
}

static void normalise(double v[3])
{
  double n = sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]) + 1e-12;
  for (int i = 0; i < 3; i++) v[i] /= n;
}

static void cross(const double a[3], const double b[3], double out[3])
{
  out[0] = a[1] * b[2] - a[2] * b[1];
  out[1] = a[2] * b[0] - a[0] * b[2];
  out[2] = a[0] * b[1] - a[1] * b[0];
}

static double distance3(const double a[3], const double b[3])
{
  double dx = a[0] - b[0], dy = a[1] - b[1], dz = a[2] - b[2];
  return sqrt(dx * dx + dy * dy + dz * dz);
}

static double mix(double a, double b, double t) { return a + (b - a) * t; }

static place bezier(place a, place b, place c, double t)
{
  return (place){mix(mix(a.theta, b.theta, t), mix(b.theta, c.theta, t), t),
                 mix(mix(a.phi, b.phi, t), mix(b.phi, c.phi, t), t),
                 mix(mix(a.rho, b.rho, t), mix(b.rho, c.rho, t), t)};
}

/* Displace the smooth curve sideways along the surface: three waves, the longest the
 * strongest, none at the branch's start. */
static void wiggle_branch(grower *g, node3 *n, int64_t count, double length,
                          double wiggle)
{
  double wave[3], phase[3], amp[3], depth[3];
  for (int k = 0; k < 3; k++) {
    wave[k] = uniform(g, 0.75, 1.35) * (k == 0 ? 0.75 : k == 1 ? 0.34 : 0.16);
    phase[k] = uniform(g, 0, 2 * PI);
    amp[k] = wave[k] * wiggle * g->tortuosity * uniform(g, 0.2, 1.0) * 0.075;
    depth[k] = uniform(g, 0, 2 * PI);
  }
  double tangent[3] = {1, 0, 0}, normal[3], side[3];
  for (int64_t i = 1; i < count; i++) {
    double s = length * (double)i / (double)(count - 1), ramp = s / (s + 0.10);
    double w = 0, d = 0;
    for (int k = 0; k < 3; k++) {
      w += amp[k] * (sin(2 * PI * s / wave[k] + phase[k]) - sin(phase[k]));
      d += 0.5 * amp[k] * (sin(2 * PI * s / wave[k] + depth[k]) - sin(depth[k]));
    }
    for (int a = 0; a < 3; a++) {
      /* nodes behind i are displaced already: the direction comes from those ahead */
      if (i + 1 < count) tangent[a] = n[i + 1].p[a] - n[i].p[a];
      normal[a] = n[i].p[a];
    }
    normalise(tangent);
    normalise(normal);
    cross(normal, tangent, side);
    for (int a = 0; a < 3; a++) n[i].p[a] += ramp * (w * side[a] + d * normal[a]);
  }
}

/* Radii: taper, slow irregularity, and now and then a stenosis. */
static void set_radii(grower *g, const branch_plan *b, node3 *n, int64_t count,
                      double length)
{
  double phase = uniform(g, 0, 2 * PI), power = uniform(g, 0.7, 1.3),
         beat = uniform(g, 14, 30);
  double where = -1, width = 1, depth = 0;
  if (b->r0 > 0.018 && chance(g, 0.35)) {
    where = uniform(g, 0.15, 0.85) * length;
    width = uniform(g, 0.025, 0.075);
    depth = uniform(g, 0.3, 0.85);
  }
  for (int64_t i = 0; i < count; i++) {
    double t = (double)i / (double)(count - 1), s = t * length;
    double r = b->r0 + (b->r1 - b->r0) * pow(t, power);
    r *= 1 + 0.04 * sin(s * beat + phase) + 0.025 * sin(s * 2.3 * beat + 2 * phase);
    if (where >= 0) r *= 1 - depth * exp(-(s - where) * (s - where) / (width * width));
    n[i].r = lm_rng_uniform(g->rng) * 0.04 * r + 0.98 * r;
  }
}

/* Adds a branch; returns its index, or -1 when the tree is full. */
static int64_t add_branch(grower *g, const branch_plan *b, place start)
{
  lm_phantom_tree *tree = g->tree;
  node3 *from = NULL;
  if (b->parent >= 0) {
    from = &g->nodes[tree->branches[b->parent].first + b->at];
    start = from->at;
  }
  double length = 0, last[3], p[3], offset[3] = {0, 0, 0};
  heart_point(&tree->view, start, last);
  if (from) {
    for (int a = 0; a < 3; a++) offset[a] = from->p[a] - last[a];
  }
  for (int k = 1; k <= 12; k++) {
    heart_point(&tree->view, bezier(start, b->middle, b->end, k / 12.0), p);
    length += distance3(p, last);
    memcpy(last, p, sizeof last);
  }
  int64_t count = 6 + (int64_t)(length * 70);
  if (tree->branch_count == LM_PHANTOM_BRANCHES) return -1;
  if (tree->node_count + count > LM_PHANTOM_NODES) return -1;
  int64_t index = tree->branch_count++;
  lm_phantom_branch *branch = &tree->branches[index];
  *branch = (lm_phantom_branch){tree->node_count, count, b->parent,
                                 from ? (float)from->r : 0};
  tree->node_count += count;
  node3 *n = &g->nodes[branch->first];
  for (int64_t i = 0; i < count; i++) {
    n[i].at = bezier(start, b->middle, b->end, (double)i / (double)(count - 1));
    heart_point(&tree->view, n[i].at, n[i].p);
    for (int a = 0; a < 3; a++) n[i].p[a] += offset[a];
  }
  wiggle_branch(g, n, count, length, b->wiggle);
  set_radii(g, b, n, count, length);
  double filling = from ? from->iodine : 1.0;
  double end = filling * (1 - g->fade * uniform(g, 0, 1) * (length < 1.2 ? length : 1.2));
  for (int64_t i = 0; i < count; i++) {
    double t = (double)i / (double)(count - 1);
    double tip = b->r1 < 0.012 && t > 0.8 ? 1 - 0.6 * (t - 0.8) / 0.2 : 1;
    n[i].iodine = (filling + (end - filling) * t) * tip;
  }
  return index;
}

/* A branch from node `share` (0..1) of `parent` towards `end`, leaving along the parent's
 * direction for a while. */
static int64_t side_branch(grower *g, int64_t parent, double share, place end, double r0,
                           double r1, double wiggle)
{
  if (parent < 0) return -1;
  const lm_phantom_branch *b = &g->tree->branches[parent];
  int64_t at = (int64_t)(share * (double)(b->count - 1));
  const node3 *n = &g->nodes[b->first + at];
  double ahead = uniform(g, 0.1, 0.35), bow = uniform(g, -0.18, 0.18);
  int64_t before = at > 2 ? at - 3 : 0;
  const node3 *m = &g->nodes[b->first + before];
  double dt = n->at.theta - m->at.theta, dp = n->at.phi - m->at.phi;
  double scale = ahead * hypot(end.theta - n->at.theta, end.phi - n->at.phi) /
                 (hypot(dt, dp) + 1e-6);
  place middle = {
      mix(n->at.theta, end.theta, 0.5) + dt * scale + bow * (end.phi - n->at.phi),
      mix(n->at.phi, end.phi, 0.5) + dp * scale - bow * (end.theta - n->at.theta),
      mix(n->at.rho, end.rho, 0.5)};
  double r = r0 < n->r ? r0 : n->r * 0.9;
  branch_plan plan = {parent, at, middle, end, r, r1 < r ? r1 : r * 0.7, wiggle};
  return add_branch(g, &plan, end);
}

/* Small branches that no textbook names, on both sides of every branch from `first` on;
 * those that grow here get their own, `depth` levels deep. */
static void add_twigs(grower *g, int64_t first, int depth)
{
  int64_t end = g->tree->branch_count;
  if (depth == 0) return;
  for (int64_t b = first; b < end; b++) {
    const lm_phantom_branch *branch = &g->tree->branches[b];
    int64_t count =
        (int64_t)(g->twigs * (double)branch->count / 70 + lm_rng_uniform(g->rng));
    for (int64_t k = 0; k < count; k++) {
      double share = uniform(g, 0.12, 0.95), side = chance(g, 0.5) ? 1 : -1;
      int64_t at = (int64_t)(share * (double)(branch->count - 1));
      const node3 *n = &g->nodes[branch->first + at];
      const node3 *m = &g->nodes[branch->first + (at > 3 ? at - 4 : at + 4)];
      double sine = fabs(sin(n->at.theta)) + 0.2;
      double dt = n->at.theta - m->at.theta, dp = (n->at.phi - m->at.phi) * sine;
      if (at <= 3) dt = -dt, dp = -dp;
      double angle = atan2(dp, dt) + side * uniform(g, 0.4, 1.25);
      double r0 = n->r * uniform(g, 0.35, 0.7), size = sqrt(n->r / 0.03);
      double length = uniform(g, 0.12, 0.6) * (size > 0.45 ? size : 0.45);
      double turn = side * uniform(g, -0.9, 0.35);
      place mid = {n->at.theta + 0.5 * length * cos(angle),
                   n->at.phi + 0.5 * length * sin(angle) / sine, n->at.rho};
      place tip = {mid.theta + 0.5 * length * cos(angle + turn),
                   mid.phi + 0.5 * length * sin(angle + turn) / sine,
                   n->at.rho * uniform(g, 0.93, 1.04)};
      if (r0 < kMinRadius) r0 = kMinRadius;
      if (n->r < 1.25 * kMinRadius) continue;
      branch_plan plan = {b, at, mid, tip, r0, 0.8 * kMinRadius, uniform(g, 0.5, 2.4)};
      add_branch(g, &plan, tip);
    }
  }
  add_twigs(g, end, depth - 1);
}

static place degrees(double theta, double phi, double rho)
{
  return (place){theta * DEG, phi * DEG, rho};
}

/* Left coronary artery: main stem, anterior descending with diagonals and septals,
 * circumflex with marginals, sometimes an intermediate branch. */
static void grow_left(grower *g)
{
  double size = uniform(g, 0.035, 0.047) * g->calibre;
  place split = degrees(uniform(g, 99, 105), uniform(g, 8, 18), 1);
  double root[3], turn[3], length = uniform(g, 0.14, 0.36);
  heart_point(&g->tree->view, split, root);
  memcpy(turn, root, sizeof root);
  root[0] -= length; /* the aorta is to the right of the split, a little behind it */
  root[1] += length * uniform(g, 0.0, 0.5);
  root[2] += length * uniform(g, -0.3, 0.35);
  for (int a = 0; a < 3; a++)
    turn[a] = 0.5 * (turn[a] + root[a]) + uniform(g, -0.04, 0.04);
  place ostium = place_of(&g->tree->view, root), middle = place_of(&g->tree->view, turn);
  branch_plan stem = {-1, 0, middle, split, size, size * 0.92, 0.4};
  int64_t main = add_branch(g, &stem, ostium);
  double lad_end = uniform(g, -25, 28), swing = uniform(g, -8, 12);
  branch_plan plan = {main,
                      g->tree->branches[main].count - 1,
                      degrees(62, -4 + swing, uniform(g, 0.99, 1.06)),
                      degrees(lad_end, -8 + swing, 1),
                      size * uniform(g, 0.72, 0.86),
                      size * uniform(g, 0.17, 0.28),
                      uniform(g, 0.6, 1.2)};
  int64_t lad = add_branch(g, &plan, split);
  bool dominant = chance(g, 0.15);
  double reach = dominant ? 178 : uniform(g, 85, 155);
  plan.middle = degrees(uniform(g, 104, 116), 60, uniform(g, 0.98, 1.05));
  plan.end = degrees(uniform(g, 88, 108), reach, 1);
  plan.r0 = size * uniform(g, 0.62, 0.84);
  plan.r1 = plan.r0 * (dominant ? 0.6 : uniform(g, 0.28, 0.45));
  int64_t lcx = add_branch(g, &plan, split);
  if (chance(g, 0.3)) {
    side_branch(g, main, 1, degrees(uniform(g, 35, 55), uniform(g, 35, 60), 1),
                size * 0.5, 0.008, uniform(g, 0.7, 1.6));
  }
  int64_t diagonals = 1 + lm_rng_below(g->rng, 3);
  for (int64_t k = 0; k < diagonals; k++) {
    double share = 0.1 + 0.19 * (double)k + uniform(g, 0, 0.12);
    double theta = 100 - share * 110 - uniform(g, 32, 58), phi = uniform(g, 28, 60);
    side_branch(g, lad, share, degrees(theta < 12 ? 12 : theta, phi, 1),
                size * uniform(g, 0.3, 0.5), 0.008, uniform(g, 0.6, 1.7));
  }
  int64_t septals = 2 + lm_rng_below(g->rng, 6);
  for (int64_t k = 0; k < septals; k++) {
    double share = uniform(g, 0.1, 0.75);
    double theta = 100 - share * 110 - uniform(g, 5, 25);
    side_branch(g, lad, share, degrees(theta, uniform(g, -30, -8), uniform(g, 0.5, 0.8)),
                uniform(g, 0.007, 0.014), 0.006, 0.5);
  }
  int64_t marginals = 1 + lm_rng_below(g->rng, 3) + (dominant ? 1 : 0);
  for (int64_t k = 0; k < marginals; k++) {
    double share = 0.12 + 0.26 * (double)k + uniform(g, 0, 0.18);
    double phi = mix(15, reach, share) + uniform(g, 5, 35);
    side_branch(g, lcx, share < 1 ? share : 0.95,
                degrees(uniform(g, 30, 62), phi, uniform(g, 0.97, 1.03)),
                size * uniform(g, 0.33, 0.58), 0.008, uniform(g, 0.6, 1.7));
  }
  if (dominant) {
    side_branch(g, lcx, 0.97, degrees(uniform(g, 30, 55), 182, 1), size * 0.4, 0.008, 1);
  }
}

/* Right coronary artery: the trunk round the right groove, conus, node and marginal
 * branches, then posterior descending and posterolateral branches. */
static void grow_right(grower *g)
{
  double size = uniform(g, 0.032, 0.043) * g->calibre, crux = uniform(g, -186, -170);
  place ostium =
      degrees(uniform(g, 110, 119), uniform(g, -42, -30), uniform(g, 0.78, 0.88));
  double sweep = uniform(g, 0.98, 1.1);
  branch_plan plan = {-1,
                      0,
                      degrees(uniform(g, 96, 112), -98, sweep),
                      degrees(uniform(g, 96, 104), crux, uniform(g, 0.92, 1.0)),
                      size,
                      size * uniform(g, 0.62, 0.8),
                      uniform(g, 0.5, 1.25)};
  int64_t trunk = add_branch(g, &plan, ostium);
  double pda = uniform(g, -12, 12);
  side_branch(g, trunk, 1, degrees(uniform(g, 28, 55), -180 + pda, uniform(g, 0.95, 1)),
              size * uniform(g, 0.4, 0.58), 0.008, uniform(g, 0.6, 1.5));
  int64_t plv =
      side_branch(g, trunk, 1, degrees(uniform(g, 84, 102), uniform(g, -245, -215), 0.97),
                  size * uniform(g, 0.42, 0.62), 0.010, uniform(g, 0.7, 1.5));
  int64_t laterals = 1 + lm_rng_below(g->rng, 3);
  for (int64_t k = 0; k < laterals; k++) {
    side_branch(g, plv, 0.25 + 0.25 * (double)k + uniform(g, 0, 0.1),
                degrees(uniform(g, 42, 66), uniform(g, -235, -198), 0.97),
                size * uniform(g, 0.26, 0.42), 0.008, uniform(g, 0.7, 1.8));
  }
  side_branch(g, trunk, uniform(g, 0.03, 0.09),
              degrees(uniform(g, 72, 92), uniform(g, -18, 0), 1.05),
              uniform(g, 0.009, 0.015), 0.007, uniform(g, 0.8, 2));
  side_branch(g, trunk, uniform(g, 0.05, 0.12),
              degrees(uniform(g, 130, 150), uniform(g, -85, -60), 1),
              uniform(g, 0.008, 0.013), 0.007, uniform(g, 0.8, 2));
  int64_t marginals = 1 + lm_rng_below(g->rng, 4);
  for (int64_t k = 0; k < marginals; k++) {
    double share = 0.22 + 0.15 * (double)k + uniform(g, 0, 0.1);
    double phi = mix(-36, crux, share) + uniform(g, -5, 28);
    side_branch(g, trunk, share, degrees(uniform(g, 38, 72), phi, uniform(g, 1.0, 1.06)),
                size * uniform(g, 0.22, 0.45), 0.008, uniform(g, 0.7, 1.8));
  }
}

/* Orthonormal heart axes with a little patient variation, and the beam's direction from
 * the usual angulations of coronary angiography. */
static void choose_view(grower *g)
{
  lm_phantom_view *v = &g->tree->view;
  static const double left_views[7][2] = {{-28, -22}, {-25, 24}, {0, -28}, {2, 30},
                                          {45, 25},   {42, -28}, {-35, 2}};
  static const double right_views[4][2] = {{42, 0}, {32, 4}, {-32, 0}, {6, 27}};
  const double *view = g->tree->left ? left_views[lm_rng_below(g->rng, 7)]
                                     : right_views[lm_rng_below(g->rng, 4)];
  v->lao = (view[0] + 7 * lm_rng_normal(g->rng)) * DEG;
  v->cranial = (view[1] + 5 * lm_rng_normal(g->rng)) * DEG;
  double sa = sin(v->lao), ca = cos(v->lao), sb = sin(v->cranial), cb = cos(v->cranial);
  double toward[3] = {sa * cb, -ca * cb, sb}, right[3] = {ca, sa, 0};
  memcpy(v->toward, toward, sizeof toward);
  memcpy(v->right, right, sizeof right);
  cross(toward, right, v->up);
  double apex[3] = {0.65 + uniform(g, -0.15, 0.15), -0.55 + uniform(g, -0.15, 0.15),
                    -0.5 + uniform(g, -0.15, 0.15)};
  double front[3] = {-0.1 + uniform(g, -0.15, 0.15), -0.5 + uniform(g, -0.15, 0.15),
                     0.85};
  normalise(apex);
  double along = front[0] * apex[0] + front[1] * apex[1] + front[2] * apex[2];
  for (int i = 0; i < 3; i++) front[i] -= along * apex[i];
  normalise(front);
  memcpy(v->axis[2], apex, sizeof apex);
  memcpy(v->axis[0], front, sizeof front);
  cross(front, apex, v->axis[1]);
  v->semi[0] = uniform(g, 0.92, 1.05);
  v->semi[1] = uniform(g, 0.86, 1.02);
  v->semi[2] = uniform(g, 1.1, 1.35);
}

/* Places the tree in the field and fills tree->nodes. */
static void project(grower *g)
{
  lm_phantom_tree *tree = g->tree;
  lm_phantom_view *v = &tree->view;
  double low[2] = {1e9, 1e9}, high[2] = {-1e9, -1e9};
  for (int64_t i = 0; i < tree->node_count; i++) {
    const double *p = g->nodes[i].p;
    double q[2] = {p[0] * v->right[0] + p[1] * v->right[1] + p[2] * v->right[2],
                   -(p[0] * v->up[0] + p[1] * v->up[1] + p[2] * v->up[2])};
    tree->nodes[i] = (lm_phantom_node){.x = (float)q[0], .y = (float)q[1]};
    for (int a = 0; a < 2; a++) {
      low[a] = q[a] < low[a] ? q[a] : low[a];
      high[a] = q[a] > high[a] ? q[a] : high[a];
    }
  }
  double extent =
      high[0] - low[0] > high[1] - low[1] ? high[0] - low[0] : high[1] - low[1];
  v->scale = uniform(g, 0.82, 1.15) / extent;
  if (v->scale < 0.32) v->scale = 0.32;
  if (v->scale > 0.5) v->scale = 0.5;
  v->x0 = 0.5 + uniform(g, -0.07, 0.07) - v->scale * 0.5 * (low[0] + high[0]);
  v->y0 = 0.5 + uniform(g, -0.07, 0.07) - v->scale * 0.5 * (low[1] + high[1]);
  for (int64_t b = 0; b < tree->branch_count; b++) {
    lm_phantom_branch *branch = &tree->branches[b];
    lm_phantom_node *n = &tree->nodes[branch->first];
    const node3 *n3 = &g->nodes[branch->first];
    branch->parent_r *= (float)v->scale;
    float s = 0;
    for (int64_t i = 0; i < branch->count; i++) {
      n[i].x = (float)(v->x0 + v->scale * n[i].x);
      n[i].y = (float)(v->y0 + v->scale * n[i].y);
      n[i].r = (float)(v->scale * n3[i].r);
      n[i].iodine = (float)n3[i].iodine;
      n[i].stretch = 1;
      if (i == 0) continue;
      double flat = hypotf(n[i].x - n[i - 1].x, n[i].y - n[i - 1].y);
      double deep = v->scale * distance3(n3[i].p, n3[i - 1].p);
      n[i].s = s += (float)flat;
      n[i].stretch = (float)(deep / (flat > deep / 2.2 ? flat : deep / 2.2));
    }
    n[0].stretch = n[1].stretch;
  }
}

lm_status lm_phantom_tree_grow(lm_phantom_tree *tree, lm_rng *rng, bool hard)
{
  node3 *nodes;
  LM_TRY(lm_calloc(&nodes, LM_PHANTOM_NODES, sizeof *nodes));
  tree->branch_count = tree->node_count = 0;
  grower g = {.tree = tree, .nodes = nodes, .rng = rng};
  tree->left = chance(&g, 0.62);
  choose_view(&g);
  g.tortuosity = uniform(&g, 0.5, 1.7);
  g.twigs = hard ? uniform(&g, 1.8, 3.8) : uniform(&g, 1.4, 3.2);
  g.calibre = hard ? 0.9 : 1.15;
  g.fade = hard ? 0.6 : 0.5;
  if (tree->left) {
    grow_left(&g);
  } else {
    grow_right(&g);
  }
  add_twigs(&g, 1, 3);
  project(&g);
  free(nodes);
  return LM_OK;
}
