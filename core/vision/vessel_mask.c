/* vessel_mask.c: an angiogram's vessel pseudo-mask (see vessel_mask.h for the steps). */
#include "vision/vessel_mask.h"

#include "vision/morphology.h"
#include "vision/plane.h"
#include "vision/ridge.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SIDE 512.0 /* of the images for which the settings were published */

lm_vessel_options lm_vessel_defaults(void)
{
  return (lm_vessel_options){.sigmas = {1, 2, 3, 4},
                             .count = 4,
                             .percentile = 92,
                             .border = 20,
                             .published = false};
}

static lm_status options_check(const lm_vessel_options *o)
{
  if (o->count < 1 || o->count > LM_VESSEL_SIGMAS)
    return lm_fail(LM_ERR_ARG, "vessel_mask: `sigmas` has %d entries (1 to %d)", o->count,
                   LM_VESSEL_SIGMAS);
  if (!(o->percentile >= 0 && o->percentile <= 100))
    return lm_fail(LM_ERR_ARG, "vessel_mask: `percentile` is %g (0 to 100)",
                   o->percentile);
  if (!(o->border >= 0 && o->border <= LM_PLANE_SIDE))
    return lm_fail(LM_ERR_ARG, "vessel_mask: `border` is %g (0 to %d pixels)", o->border,
                   LM_PLANE_SIDE);
  return LM_OK;
}

static void border_clear(uint8_t *plane, int64_t height, int64_t width, int64_t border)
{
  for (int64_t i = 0; i < height; i++) {
    uint8_t *row = plane + i * width;
    if (i < border || i >= height - border || 2 * border >= width) {
      memset(row, 0, (size_t)width);
    } else {
      memset(row, 0, (size_t)border);
      memset(row + width - border, 0, (size_t)border);
    }
  }
}

/* The filter's response in whole numbers, border cleared. */
static lm_status respond(const uint8_t *image, int64_t height, int64_t width,
                         const lm_vessel_options *options, uint8_t *response)
{
  double scale = options->published ? 1.0 : (double)lm_min64(height, width) / SIDE;
  double sigmas[LM_VESSEL_SIGMAS];
  for (int s = 0; s < options->count; s++) sigmas[s] = options->sigmas[s] * scale;
  int64_t n = height * width;
  double *plane = NULL; /* the image, then its response */
  LM_TRY(lm_calloc(&plane, 2 * (size_t)n, sizeof *plane));
  for (int64_t i = 0; i < n; i++) plane[i] = image[i];
  lm_status status =
      lm_sato(plane, height, width, sigmas, options->count, true, plane + n);
  if (status == LM_OK) {
    for (int64_t i = 0; i < n; i++) response[i] = (uint8_t)fmin(plane[n + i], 255.0);
    border_clear(response, height, width, (int64_t)(options->border * scale + 0.5));
  }
  free(plane);
  return status;
}

/* Percentile with linear interpolation between order statistics (numpy's default). */
static double percentile_of(const uint8_t *values, int64_t n, double percentile)
{
  int64_t histogram[256] = {0};
  for (int64_t i = 0; i < n; i++) histogram[values[i]]++;
  double rank = percentile / 100 * (double)(n - 1), part = rank - floor(rank);
  int64_t below = (int64_t)rank, seen = 0;
  int low = 0;
  while (low < 255 && seen + histogram[low] <= below) seen += histogram[low++];
  int high = low; /* the value of rank below + 1 */
  if (below + 1 < n && seen + histogram[low] <= below + 1) {
    do high++;
    while (high < 255 && histogram[high] == 0);
  }
  double step = high - low; /* interpolate from the nearer side, as numpy rounds */
  return part < 0.5 ? low + step * part : high - step * (1 - part);
}

lm_status lm_vessel_mask(const uint8_t *image, int64_t height, int64_t width,
                         const lm_vessel_options *options, uint8_t *mask,
                         uint8_t *response)
{
  LM_TRY(lm_plane_check("vessel_mask", height, width));
  LM_TRY(options_check(options));
  int64_t n = height * width, seed = 0;
  if (n == 0) return LM_OK;
  LM_TRY(respond(image, height, width, options, mask));
  if (response) memcpy(response, mask, (size_t)n);
  double least = percentile_of(mask, n, options->percentile);
  for (int64_t i = 0; i < n; i++) {
    if (mask[i] < least) mask[i] = 0;
    if (mask[i] > mask[seed]) seed = i;
  }
  return lm_region_grow(mask, height, width, seed / width, seed % width, 4, mask);
}

lm_status lm_vesselness(const uint8_t *image, int64_t height, int64_t width, uint8_t *out)
{
  enum { SCALES = 3 };
  static const double share[SCALES] = {0.006, 0.010, 0.015}; /* of the shorter side */
  const double strong = 0.12;
  LM_TRY(lm_plane_check("vesselness", height, width));
  int64_t n = height * width;
  if (n == 0) return LM_OK;
  double sigmas[SCALES], density[256], *plane;
  for (int k = 0; k < SCALES; k++)
    sigmas[k] = fmin(fmax(share[k] * (double)lm_min64(height, width), 0.5 + 0.25 * k),
                     LM_RIDGE_SIGMA_MAX);
  for (int v = 0; v < 256; v++) density[v] = log((v + 12.0) / 255);
  LM_TRY(lm_calloc(&plane, (size_t)(2 * n), sizeof *plane));
  for (int64_t i = 0; i < n; i++) plane[i] = density[image[i]];
  lm_status status = lm_sato(plane, height, width, sigmas, SCALES, true, plane + n);
  for (int64_t i = 0; status == LM_OK && i < n; i++)
    out[i] = (uint8_t)(255 * fmin(plane[n + i] / strong, 1) + 0.5);
  free(plane);
  return status;
}
