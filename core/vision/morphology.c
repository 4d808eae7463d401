/* morphology.c: thinning, exact distances, components and surfaces of binary pictures.
 *
 * Region growing, components and thinning work on a copy with one unset pixel around it,
 * so that no neighbour needs a test: pixel (i, j) is number (i + 1) * (width + 2) + j
 * + 1. */
#include "vision/morphology.h"

#include "vision/plane.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct padded {
  uint8_t *pixel; /* [height + 2, stride], 0 or 1 */
  int64_t stride;
} padded;

static lm_status padded_init(padded *p, const uint8_t *mask, int64_t height,
                             int64_t width)
{
  p->stride = width + 2;
  LM_TRY(lm_calloc(&p->pixel, (size_t)((height + 2) * p->stride), 1));
  for (int64_t i = 0; i < height; i++) {
    uint8_t *row = p->pixel + (i + 1) * p->stride + 1;
    for (int64_t j = 0; j < width; j++) row[j] = mask[i * width + j] != 0;
  }
  return LM_OK;
}

static lm_status connectivity_check(const char *who, int connectivity)
{
  if (connectivity == 4 || connectivity == 8) return LM_OK;
  return lm_fail(LM_ERR_ARG, "%s: `connectivity` is %d (4 or 8)", who, connectivity);
}

lm_status lm_region_grow(const uint8_t *mask, int64_t height, int64_t width, int64_t row,
                         int64_t column, int connectivity, uint8_t *out)
{
  LM_TRY(lm_plane_check("region_grow", height, width));
  LM_TRY(connectivity_check("region_grow", connectivity));
  if (row < 0 || row >= height || column < 0 || column >= width)
    return lm_fail(LM_ERR_INDEX,
                   "region_grow: seed (%" PRId64 ", %" PRId64 ") lies outside the image "
                   "[%" PRId64 " x %" PRId64 "] (counted from 0)",
                   row, column, height, width);
  padded p;
  LM_TRY(padded_init(&p, mask, height, width));
  int64_t s = p.stride, depth = 0, *stack = NULL;
  const int64_t step[8] = {-s, -1, 1, s, -s - 1, -s + 1, s - 1, s + 1};
  int64_t set = 0, seed = (row + 1) * s + column + 1;
  for (int64_t i = 0; i < (height + 2) * s; i++) set += p.pixel[i];
  lm_status status;
  LM_TRY_GOTO(status, done, lm_calloc(&stack, (size_t)set, sizeof *stack));
  memset(out, 0, (size_t)(height * width));
  if (p.pixel[seed]) stack[depth++] = seed;
  p.pixel[seed] = 0; /* unset when pushed: each pixel goes on the stack once */
  while (depth > 0) {
    int64_t at = stack[--depth];
    out[(at / s - 1) * width + at % s - 1] = 1;
    for (int k = 0; k < connectivity; k++) {
      int64_t next = at + step[k];
      if (p.pixel[next]) {
        p.pixel[next] = 0;
        stack[depth++] = next;
      }
    }
  }
done:
  free(stack);
  free(p.pixel);
  return status;
}

static int32_t root_of(int32_t *parent, int32_t label)
{
  while (parent[label] != label) {
    parent[label] = parent[parent[label]];
    label = parent[label];
  }
  return label;
}

/* The smaller root wins, so a component keeps the label of its first pixel. */
static int32_t join(int32_t *parent, int32_t a, int32_t b)
{
  a = root_of(parent, a);
  b = root_of(parent, b);
  if (a < b) return parent[b] = a;
  return parent[a] = b;
}

lm_status lm_components(const uint8_t *mask, int64_t height, int64_t width,
                        int connectivity, int32_t *labels, int64_t *count)
{
  *count = 0;
  LM_TRY(lm_plane_check("components", height, width));
  LM_TRY(connectivity_check("components", connectivity));
  int64_t n = height * width;
  int32_t used = 0,
          *parent = NULL; /* at most one provisional label in two pixels of a row */
  LM_TRY(lm_calloc(&parent, (size_t)(height * ((width + 1) / 2) + 1), sizeof *parent));
  for (int64_t i = 0; i < height; i++) {
    int32_t *row = labels + i * width;
    const int32_t *above = i > 0 ? row - width : NULL;
    for (int64_t j = 0; j < width; j++) {
      int32_t label = 0;
      row[j] = 0;
      if (!mask[i * width + j]) continue;
      if (j > 0) label = row[j - 1];
      for (int64_t k = j - 1; above && k <= j + 1; k++) {
        bool near = k == j || (connectivity == 8 && k >= 0 && k < width);
        if (near && above[k]) label = label ? join(parent, label, above[k]) : above[k];
      }
      if (label == 0) {
        label = ++used;
        parent[label] = label;
      }
      row[j] = label;
    }
  }
  for (int32_t k = 1; k <= used; k++) { /* roots come before what points at them */
    if (parent[k] == k)
      parent[k] = (int32_t) - ++*count; /* negative: the final label */
    else
      parent[k] = parent[parent[k]];
  }
  for (int64_t i = 0; i < n; i++) labels[i] = -parent[labels[i]];
  free(parent);
  return LM_OK;
}

/* What differs from the paper's rule in the table that scikit-image has always used, and
 * with it every published clDice: corners of staircases go, some ends of two-pixel-wide
 * lines stay for one more half step. */
static const uint8_t exceptions[][2] = {
    {3, 1},   {6, 1},   {10, 3},  {11, 1},  {12, 1},  {14, 1},  {24, 2},
    {26, 2},  {40, 3},  {48, 0},  {56, 2},  {96, 2},  {104, 2}, {108, 2},
    {129, 0}, {130, 3}, {131, 1}, {134, 1}, {160, 3}, {161, 1}, {176, 2},
    {192, 2}, {194, 1}, {198, 1}, {224, 2},
};

/* Neighbours as bits 0..7: north west, north, then clockwise; what the two half steps of
 * an iteration remove as bits 0 and 1 of the entry. */
static void thinning_table(uint8_t table[256])
{
  for (int code = 0; code < 256; code++) {
    int set = 0, rises = 0;
    for (int k = 0; k < 8; k++) {
      int here = code >> k & 1, next = code >> (k + 1) % 8 & 1;
      set += here;
      rises += !here && next;
    }
    int north = code >> 1 & 1, east = code >> 3 & 1;
    int south = code >> 5 & 1, west = code >> 7 & 1;
    bool thin = set >= 2 && set <= 6 && rises == 1;
    bool first = thin && !(north && east && south) && !(east && south && west);
    bool second = thin && !(north && east && west) && !(north && south && west);
    table[code] = (uint8_t)(first + 2 * second);
  }
  for (size_t k = 0; k < sizeof exceptions / sizeof *exceptions; k++)
    table[exceptions[k][0]] = exceptions[k][1];
}

static int neighbours(const uint8_t *c, int64_t s)
{
  return c[-s - 1] | c[-s] << 1 | c[-s + 1] << 2 | c[1] << 3 | c[s + 1] << 4 | c[s] << 5 |
         c[s - 1] << 6 | c[-1] << 7;
}

/* One half step over the pixels that are still set: mark all, then remove. Returns how
 * many stay; `list` keeps them in order. */
static int64_t half_step(uint8_t *pixel, int64_t stride, const uint8_t *table, int half,
                         int64_t *list, int64_t count, int64_t *gone)
{
  int64_t kept = 0, removed = 0;
  for (int64_t k = 0; k < count; k++) {
    int64_t at = list[k];
    if (table[neighbours(pixel + at, stride)] >> half & 1)
      gone[removed++] = at;
    else
      list[kept++] = at;
  }
  for (int64_t k = 0; k < removed; k++) pixel[gone[k]] = 0;
  return kept;
}

lm_status lm_skeletonize(const uint8_t *mask, int64_t height, int64_t width, uint8_t *out)
{
  LM_TRY(lm_plane_check("skeletonize", height, width));
  if (height == 0 || width == 0) return LM_OK;
  uint8_t table[256];
  padded p;
  LM_TRY(padded_init(&p, mask, height, width));
  int64_t *list = NULL, count = 0, total = (height + 2) * p.stride;
  for (int64_t i = 0; i < total; i++) count += p.pixel[i];
  lm_status status;
  LM_TRY_GOTO(status, done, lm_calloc(&list, 2 * (size_t)count, sizeof *list));
  int64_t *gone = list + count, k = 0, before;
  for (int64_t i = 0; i < total; i++) {
    if (p.pixel[i]) list[k++] = i;
  }
  thinning_table(table);
  do {
    before = count;
    count = half_step(p.pixel, p.stride, table, 0, list, count, gone);
    count = half_step(p.pixel, p.stride, table, 1, list, count, gone);
  } while (count < before);
  for (int64_t i = 0; i < height; i++)
    memcpy(out + i * width, p.pixel + (i + 1) * p.stride + 1, (size_t)width);
done:
  free(list);
  free(p.pixel);
  return status;
}

/* One row of the distance transform. g[j]: distance to the nearest zero in column j, or
 * `far`. The lower envelope of the parabolas (j - x)^2 + g[x]^2, in whole numbers
 * (Meijster, Roerdink, Hesselink 2000): site[q] rules from start[q] on. */
static void distance_row(const int32_t *g, int64_t width, int32_t far, int64_t *site,
                         int64_t *start, double *out)
{
  int64_t q = -1;
  for (int64_t u = 0; u < width; u++) {
    if (g[u] == far) continue;
    int64_t gu = (int64_t)g[u] * g[u], from = 0;
    while (q >= 0) {
      int64_t v = site[q], gv = (int64_t)g[v] * g[v], at = start[q];
      if ((at - v) * (at - v) + gv <= (at - u) * (at - u) + gu) {
        /* v rules at its start; u from the first place where it is strictly nearer */
        from = (u * u - v * v + gu - gv) / (2 * (u - v)) + 1;
        break;
      }
      q--;
    }
    if (from < width) {
      q++;
      site[q] = u;
      start[q] = from;
    }
  }
  for (int64_t j = width - 1; j >= 0; j--) {
    if (q < 0) {
      out[j] = INFINITY;
      continue;
    }
    int64_t d = j - site[q], e = g[site[q]];
    out[j] = sqrt((double)(d * d + e * e));
    if (j == start[q]) q--;
  }
}

lm_status lm_distance_transform(const uint8_t *mask, int64_t height, int64_t width,
                                double *out)
{
  LM_TRY(lm_plane_check("distance_transform", height, width));
  if (height == 0 || width == 0) return LM_OK;
  const int32_t far = INT32_MAX;
  int32_t *g = NULL;
  int64_t *envelope = NULL;
  lm_status status;
  LM_TRY(lm_calloc(&g, (size_t)(height * width), sizeof *g));
  LM_TRY_GOTO(status, done, lm_calloc(&envelope, 2 * (size_t)width, sizeof *envelope));
  for (int64_t i = 0; i < height; i++) {
    int32_t *row = g + i * width;
    for (int64_t j = 0; j < width; j++) {
      int32_t down = i == 0 || row[j - width] == far ? far : row[j - width] + 1;
      row[j] = mask[i * width + j] ? down : 0;
    }
  }
  for (int64_t i = height - 2; i >= 0; i--) {
    int32_t *row = g + i * width, *below = row + width;
    for (int64_t j = 0; j < width; j++) {
      int32_t up = below[j] == far ? far : below[j] + 1;
      row[j] = up < row[j] ? up : row[j];
    }
  }
  for (int64_t i = 0; i < height; i++)
    distance_row(g + i * width, width, far, envelope, envelope + width, out + i * width);
done:
  free(envelope);
  free(g);
  return status;
}

lm_status lm_mask_surface(const uint8_t *mask, int64_t height, int64_t width,
                          uint8_t *out, int64_t *count)
{
  LM_TRY(lm_plane_check("mask_surface", height, width));
  int64_t found = 0;
  for (int64_t i = 0; i < height; i++) {
    const uint8_t *row = mask + i * width;
    for (int64_t j = 0; j < width; j++) {
      bool inside = i > 0 && i < height - 1 && j > 0 && j < width - 1 && row[j - 1] &&
                    row[j + 1] && row[j - width] && row[j + width];
      out[i * width + j] = row[j] && !inside;
      found += out[i * width + j];
    }
  }
  if (count) *count = found;
  return LM_OK;
}

lm_status lm_surface_distances(const uint8_t *from, const uint8_t *to, int64_t height,
                               int64_t width, double *out, int64_t *count)
{
  *count = 0;
  LM_TRY(lm_plane_check("surface_distances", height, width));
  int64_t n = height * width;
  uint8_t *outside = NULL;
  double *distance = NULL;
  lm_status status;
  LM_TRY(lm_calloc(&outside, (size_t)n, 1));
  LM_TRY_GOTO(status, done, lm_calloc(&distance, (size_t)n, sizeof *distance));
  for (int64_t i = 0; i < n; i++) outside[i] = !to[i];
  LM_TRY_GOTO(status, done, lm_distance_transform(outside, height, width, distance));
  for (int64_t i = 0; i < n; i++) {
    if (from[i]) out[(*count)++] = distance[i];
  }
done:
  free(distance);
  free(outside);
  return status;
}
