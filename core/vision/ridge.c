/* ridge.c: Sato's and Frangi's filters.
 *
 * The Hessian is separable. With D the Gaussian derivative and G the Gaussian as linear
 * maps along one axis, mirrored ends included, it is
 *   Hrr = (DD) X (GG)^T,  Hrc = (GD) X (DG)^T,  Hcc = (GG) X (DD)^T
 * (GD: D first). So each axis has three maps, each a single banded matrix: a symmetric or
 * antisymmetric kernel inside, and a block of rows of its own at either end, where
 * mirroring between the two filters matters. One vertical pass gives three lines for an
 * output row, one horizontal pass over each of those the Hessian; nothing larger than the
 * image is stored.
 *
 * Kernels end at RADIUS * sigma. What is cut off weighs less than 1e-12 of the image's
 * range; the image's first pixel is subtracted beforehand, so that no large offset can
 * enter. */
#include "vision/ridge.h"

#include "vision/plane.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define RADIUS 8.0
#ifdef __AVX__
#define LANES 4
#else
#define LANES 2
#endif
#define STRIP (2 * LANES) /* columns of the vertical pass */
#define BAND 16           /* rows of it */

/* As many doubles as a register holds (longer ones are split badly), at any address. */
typedef double lanes __attribute__((vector_size(8 * LANES), aligned(8), may_alias));

enum { GG, GD, DD, MAPS };

typedef struct axis {
  int64_t length;
  int64_t radius;       /* of the kernels */
  int64_t edge;         /* lines at either end with weights of their own */
  int64_t window;       /* lines that those read: the first or last so many */
  int64_t edge_stride;  /* edge, rounded up to whole lanes */
  bool whole;           /* too short for an inside: `low` covers every line */
  double *kernel[MAPS]; /* [radius + 1]: weights of +m; of -m the same, for GD negated */
  double *low[MAPS], *high[MAPS]; /* [window, edge_stride], transposed: [input][output] */
  double *memory;
} axis;

typedef struct plan {
  int64_t height, width, stride;
  double *image;         /* [height, stride], zero behind the width */
  double *line[MAPS];    /* BAND rows after the vertical pass, [BAND, stride] */
  double *hessian[MAPS]; /* one row's Hrr, Hrc, Hcc, [stride] */
  axis rows, columns;
  double *memory;
} plan;

static int64_t round_up(int64_t n)
{
  return (n + LANES - 1) / LANES * LANES;
}

static int64_t mirror(int64_t i, int64_t n)
{
  int64_t m = i % (2 * n);
  if (m < 0) m += 2 * n;
  return m < n ? m : 2 * n - 1 - m;
}

/* g[m], d[m] for m in -radius..radius (pointers to the middle): a Gaussian that sums to
 * 1, and its derivative as correlated with the image. */
static void kernels_fill(double sigma, int64_t radius, double *g, double *d)
{
  double sum = 0;
  for (int64_t m = -radius; m <= radius; m++) {
    g[m] = exp(-0.5 / (sigma * sigma) * (double)(m * m));
    sum += g[m];
  }
  for (int64_t m = -radius; m <= radius; m++) {
    g[m] /= sum;
    d[m] = (double)m / (sigma * sigma) * g[m];
  }
}

/* out[m] = sum over k of a[k] b[m - k], for m = 0..radius. */
static void kernel_compose(const double *a, const double *b, int64_t reach,
                           int64_t radius, double *out)
{
  for (int64_t m = 0; m <= radius; m++) {
    double sum = 0;
    for (int64_t k = lm_max64(-reach, m - reach); k <= reach; k++) sum += a[k] * b[m - k];
    out[m] = sum;
  }
}

/* The edge blocks of one map: `first`, then `second`, both with mirrored ends. */
static void edge_fill(axis *x, int map, const double *first, const double *second,
                      int64_t reach, double *scratch)
{
  int64_t n = x->length, lines = lm_min64(n, x->edge + reach);
  double *row = scratch + lines * x->window;
  memset(scratch, 0, (size_t)(lines * x->window) * sizeof *scratch);
  for (int64_t i = 0; i < lines; i++) {
    for (int64_t k = -reach; k <= reach; k++) {
      int64_t j = mirror(i + k, n);
      if (j < x->window) scratch[i * x->window + j] += first[k];
    }
  }
  for (int64_t i = 0; i < x->edge; i++) {
    memset(row, 0, (size_t)x->window * sizeof *row);
    for (int64_t k = -reach; k <= reach; k++) {
      const double *from = scratch + mirror(i + k, n) * x->window;
      double weight = second[k];
      for (int64_t j = 0; j < x->window; j++) row[j] += weight * from[j];
    }
    double sign = map == GD ? -1.0 : 1.0; /* mirroring the axis turns derivatives round */
    for (int64_t j = 0; j < x->window; j++) {
      x->low[map][j * x->edge_stride + i] = row[j];
      x->high[map][(x->window - 1 - j) * x->edge_stride + (x->edge - 1 - i)] =
          sign * row[j];
    }
  }
}

/* Weights of one axis at one sigma. smooth_first: the first-order map is D after G, else
 * G after D; that differs at the ends only. */
static lm_status axis_init(axis *x, int64_t length, double sigma, bool smooth_first)
{
  double s = sigma * sqrt(0.5);
  int64_t reach = lm_max64((int64_t)(RADIUS * s + 0.5), 1);
  x->length = length;
  x->radius = lm_min64((int64_t)ceil(RADIUS * sigma), 2 * reach);
  x->whole = length < 2 * x->radius;
  x->edge = x->whole ? length : x->radius;
  x->window = x->whole ? length : 2 * x->radius;
  x->edge_stride = round_up(x->edge);
  int64_t block = x->window * x->edge_stride;
  int64_t scratch = (lm_min64(length, x->edge + reach) + 1) * x->window;
  int64_t total = MAPS * (x->radius + 1 + 2 * block) + 2 * (2 * reach + 1) + scratch;
  LM_TRY(lm_calloc(&x->memory, (size_t)total, sizeof *x->memory));
  double *at = x->memory;
  for (int m = 0; m < MAPS; m++) {
    x->kernel[m] = at;
    x->low[m] = at + x->radius + 1;
    x->high[m] = x->low[m] + block;
    at = x->high[m] + block;
  }
  double *g = at + reach, *d = g + 2 * reach + 1;
  at = d + reach + 1;
  kernels_fill(s, reach, g, d);
  kernel_compose(g, g, reach, x->radius, x->kernel[GG]);
  kernel_compose(g, d, reach, x->radius, x->kernel[GD]);
  kernel_compose(d, d, reach, x->radius, x->kernel[DD]);
  edge_fill(x, GG, g, g, reach, at);
  edge_fill(x, GD, smooth_first ? g : d, smooth_first ? d : g, reach, at);
  edge_fill(x, DD, d, d, reach, at);
  return LM_OK;
}

static void axis_free(axis *x)
{
  free(x->memory);
  x->memory = NULL;
}

/* The image, shifted by its first pixel and negated for bright ridges. */
static lm_status plan_init(plan *p, const char *who, const double *image, int64_t height,
                           int64_t width, bool black_ridges)
{
  int bad = 0;
  for (int64_t i = 0; i < height * width; i++) bad |= !(fabs(image[i]) <= 1e30);
  if (bad)
    return lm_fail(LM_ERR_ARG,
                   "%s: the image holds a value that is not finite or beyond 1e30", who);
  *p = (plan){.height = height, .width = width, .stride = round_up(width) + 4 * LANES};
  size_t lines = (size_t)height + MAPS * (BAND + 1);
  LM_TRY(lm_calloc(&p->memory, lines * (size_t)p->stride, sizeof *p->memory));
  p->image = p->memory;
  for (int m = 0; m < MAPS; m++) {
    p->line[m] = p->image + (height + m * (BAND + 1)) * p->stride;
    p->hessian[m] = p->line[m] + BAND * p->stride;
  }
  double zero = image[0], sign = black_ridges ? 1.0 : -1.0;
  for (int64_t i = 0; i < height; i++) {
    for (int64_t j = 0; j < width; j++)
      p->image[i * p->stride + j] = sign * (image[i * width + j] - zero);
  }
  return LM_OK;
}

/* Go to the next sigma. */
static lm_status plan_scale(plan *p, double sigma)
{
  axis_free(&p->rows);
  axis_free(&p->columns);
  LM_TRY(axis_init(&p->rows, p->height, sigma, false));
  return axis_init(&p->columns, p->width, sigma, true);
}

static void plan_free(plan *p)
{
  axis_free(&p->rows);
  axis_free(&p->columns);
  free(p->memory);
}

/* STRIP columns from j on of row i of the three vertical maps, inside the image. */
static void vertical_inside(const plan *p, int64_t i, int64_t j)
{
  const double *g = p->rows.kernel[GG], *f = p->rows.kernel[GD], *d = p->rows.kernel[DD];
  const double *x = p->image + i * p->stride + j;
  int64_t stride = p->stride, radius = p->rows.radius, at = i % BAND * stride + j;
  lanes c0 = *(const lanes *)x, c1 = *(const lanes *)(x + LANES);
  lanes g0 = g[0] * c0, g1 = g[0] * c1, d0 = d[0] * c0, d1 = d[0] * c1;
  lanes f0 = {0}, f1 = {0};
  for (int64_t m = 1; m <= radius; m++) {
    const double *below = x + m * stride, *above = x - m * stride;
    lanes b0 = *(const lanes *)below, b1 = *(const lanes *)(below + LANES);
    lanes a0 = *(const lanes *)above, a1 = *(const lanes *)(above + LANES);
    lanes s0 = b0 + a0, s1 = b1 + a1, t0 = b0 - a0, t1 = b1 - a1;
    g0 += g[m] * s0;
    g1 += g[m] * s1;
    f0 += f[m] * t0;
    f1 += f[m] * t1;
    d0 += d[m] * s0;
    d1 += d[m] * s1;
  }
  *(lanes *)(p->line[GG] + at) = g0;
  *(lanes *)(p->line[GG] + at + LANES) = g1;
  *(lanes *)(p->line[GD] + at) = f0;
  *(lanes *)(p->line[GD] + at + LANES) = f1;
  *(lanes *)(p->line[DD] + at) = d0;
  *(lanes *)(p->line[DD] + at + LANES) = d1;
}

/* The same for row `b` of an edge block that reads rows `first` and on. */
static void vertical_edge(const plan *p, double *const block[MAPS], int64_t first,
                          int64_t b, int64_t i, int64_t j)
{
  int64_t edge_stride = p->rows.edge_stride, at = i % BAND * p->stride + j;
  const double *x = p->image + first * p->stride + j;
  lanes g0 = {0}, g1 = {0}, f0 = {0}, f1 = {0}, d0 = {0}, d1 = {0};
  for (int64_t m = 0; m < p->rows.window; m++) {
    lanes x0 = *(const lanes *)(x + m * p->stride);
    lanes x1 = *(const lanes *)(x + m * p->stride + LANES);
    double g = block[GG][m * edge_stride + b], f = block[GD][m * edge_stride + b];
    double d = block[DD][m * edge_stride + b];
    g0 += g * x0;
    g1 += g * x1;
    f0 += f * x0;
    f1 += f * x1;
    d0 += d * x0;
    d1 += d * x1;
  }
  *(lanes *)(p->line[GG] + at) = g0;
  *(lanes *)(p->line[GG] + at + LANES) = g1;
  *(lanes *)(p->line[GD] + at) = f0;
  *(lanes *)(p->line[GD] + at + LANES) = f1;
  *(lanes *)(p->line[DD] + at) = d0;
  *(lanes *)(p->line[DD] + at + LANES) = d1;
}

/* The vertical maps of the rows from `top` on, BAND of them, strip by strip: what a
 * strip's rows share stays in the nearest cache. */
static void vertical_band(const plan *p, int64_t top)
{
  const axis *r = &p->rows;
  int64_t bottom = lm_min64(top + BAND, p->height);
  for (int64_t j = 0; j < p->width; j += STRIP) {
    for (int64_t i = top; i < bottom; i++) {
      int64_t from_end = i - (r->length - r->edge);
      if (i < r->edge) {
        vertical_edge(p, r->low, 0, i, i, j);
      } else if (from_end >= 0) {
        vertical_edge(p, r->high, r->length - r->window, from_end, i, j);
      } else {
        vertical_inside(p, i, j);
      }
    }
  }
}

static void horizontal_edge(const axis *x, const double *block, const double *in,
                            double *out)
{
  for (int64_t b = 0; b < x->edge; b += LANES) {
    lanes sum = {0};
    for (int64_t m = 0; m < x->window; m++)
      sum += in[m] * *(const lanes *)(block + m * x->edge_stride + b);
    *(lanes *)(out + b) = sum;
  }
}

/* out = map applied along a row. Blocks may write past their end, into what the next one
 * writes after them or into the row's spare room. */
static void horizontal(const axis *x, int map, const double *in, double *out)
{
  const double *k = x->kernel[map];
  horizontal_edge(x, x->low[map], in, out);
  if (x->whole) return;
  double sign = map == GD ? -1.0 : 1.0;
  for (int64_t j = x->edge; j < x->length - x->edge; j += 4 * LANES) {
    const double *c = in + j;
    lanes s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
    if (map != GD) {
      s0 = k[0] * *(const lanes *)c;
      s1 = k[0] * *(const lanes *)(c + LANES);
      s2 = k[0] * *(const lanes *)(c + 2 * LANES);
      s3 = k[0] * *(const lanes *)(c + 3 * LANES);
    }
    for (int64_t m = 1; m <= x->radius; m++) {
      const double *r = c + m, *l = c - m;
      s0 += k[m] * (*(const lanes *)r + sign * *(const lanes *)l);
      s1 += k[m] * (*(const lanes *)(r + LANES) + sign * *(const lanes *)(l + LANES));
      s2 += k[m] *
            (*(const lanes *)(r + 2 * LANES) + sign * *(const lanes *)(l + 2 * LANES));
      s3 += k[m] *
            (*(const lanes *)(r + 3 * LANES) + sign * *(const lanes *)(l + 3 * LANES));
    }
    *(lanes *)(out + j) = s0;
    *(lanes *)(out + j + LANES) = s1;
    *(lanes *)(out + j + 2 * LANES) = s2;
    *(lanes *)(out + j + 3 * LANES) = s3;
  }
  int64_t last = x->length - x->window;
  horizontal_edge(x, x->high[map], in + last, out + x->length - x->edge);
}

/* Hessian of row i into p->hessian. Rows are asked for in order, from 0. */
static void hessian_row(const plan *p, int64_t i)
{
  int64_t at = i % BAND * p->stride;
  if (at == 0) vertical_band(p, i);
  horizontal(&p->columns, GG, p->line[DD] + at, p->hessian[0]);
  horizontal(&p->columns, GD, p->line[GD] + at, p->hessian[1]);
  horizontal(&p->columns, DD, p->line[GG] + at, p->hessian[2]);
}

static lm_status sigmas_check(const char *who, const double *sigmas, int count)
{
  if (count < 1) return lm_fail(LM_ERR_ARG, "%s: `sigmas` is empty", who);
  for (int s = 0; s < count; s++) {
    if (!(sigmas[s] > 0 && sigmas[s] <= LM_RIDGE_SIGMA_MAX))
      return lm_fail(LM_ERR_ARG, "%s: sigma %d is %g (must be above 0, at most %g)", who,
                     s + 1, sigmas[s], LM_RIDGE_SIGMA_MAX);
  }
  return LM_OK;
}

lm_status lm_sato(const double *image, int64_t height, int64_t width,
                  const double *sigmas, int count, bool black_ridges, double *out)
{
  LM_TRY(lm_plane_check("sato", height, width));
  LM_TRY(sigmas_check("sato", sigmas, count));
  if (height == 0 || width == 0) return LM_OK;
  plan p = {0};
  lm_status status;
  LM_TRY_GOTO(status, done, plan_init(&p, "sato", image, height, width, black_ridges));
  memset(out, 0, (size_t)(height * width) * sizeof *out);
  for (int s = 0; s < count; s++) {
    double scale = sigmas[s] * sigmas[s];
    LM_TRY_GOTO(status, done, plan_scale(&p, sigmas[s]));
    for (int64_t i = 0; i < height; i++) {
      const double *rr = p.hessian[0], *rc = p.hessian[1], *cc = p.hessian[2];
      double *best = out + i * width;
      hessian_row(&p, i);
#pragma omp simd
      for (int64_t j = 0; j < width; j++) {
        double mean = (rr[j] + cc[j]) / 2, half = (rr[j] - cc[j]) / 2;
        double value = scale * (mean + sqrt(rc[j] * rc[j] + half * half));
        best[j] = value > best[j] ? value : best[j];
      }
    }
  }
done:
  plan_free(&p);
  return status;
}

/* Squared Hessian norm (sum of squared eigenvalues). */
static double norm2(const plan *p, int64_t j)
{
  double rr = p->hessian[0][j], rc = p->hessian[1][j], cc = p->hessian[2][j];
  return rr * rr + 2 * rc * rc + cc * cc;
}

static double frangi_gamma(const plan *p)
{
  double most = 0;
  for (int64_t i = 0; i < p->height; i++) {
    hessian_row(p, i);
    for (int64_t j = 0; j < p->width; j++) most = fmax(most, norm2(p, j));
  }
  return most > 0 ? sqrt(most) / 2 : 1.0; /* a flat image: any gamma gives zero */
}

static void frangi_row(const plan *p, double beta, double gamma, double *best)
{
  for (int64_t j = 0; j < p->width; j++) {
    double rr = p->hessian[0][j], rc = p->hessian[1][j], cc = p->hessian[2][j];
    double mean = (rr + cc) / 2, half = (rr - cc) / 2, root = sqrt(rc * rc + half * half);
    if (mean <= 0) continue; /* the larger eigenvalue in size is negative: bright */
    double large = fmax(mean + root, 1e-10), ratio = (mean - root) / large;
    double value = exp(-ratio * ratio / (2 * beta * beta)) *
                   -expm1(-norm2(p, j) / (2 * gamma * gamma));
    best[j] = fmax(best[j], value);
  }
}

lm_status lm_frangi(const double *image, int64_t height, int64_t width,
                    const lm_frangi_options *options, double *out)
{
  double gamma = options->gamma;
  LM_TRY(lm_plane_check("frangi", height, width));
  LM_TRY(sigmas_check("frangi", options->sigmas, options->count));
  if (!(options->beta > 1e-30 && options->beta < 1e30))
    return lm_fail(LM_ERR_ARG, "frangi: beta is %g (must be above 0)", options->beta);
  if (!(gamma == 0 || (gamma > 1e-30 && gamma < 1e30)))
    return lm_fail(LM_ERR_ARG,
                   "frangi: gamma is %g (must be above 0, or 0 for automatic)", gamma);
  if (height == 0 || width == 0) return LM_OK;
  plan p = {0};
  lm_status status;
  LM_TRY_GOTO(status, done,
              plan_init(&p, "frangi", image, height, width, options->black_ridges));
  memset(out, 0, (size_t)(height * width) * sizeof *out);
  for (int s = 0; s < options->count; s++) {
    LM_TRY_GOTO(status, done, plan_scale(&p, options->sigmas[s]));
    if (gamma == 0) gamma = frangi_gamma(&p);
    for (int64_t i = 0; i < height; i++) {
      hessian_row(&p, i);
      frangi_row(&p, options->beta, gamma, out + i * width);
    }
  }
done:
  plan_free(&p);
  return status;
}
