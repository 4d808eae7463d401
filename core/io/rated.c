/* rated.c: the references, vesselness and scores of a rated image. */
#include <stdlib.h>
#include <string.h>

#include "io/samples.h"
#include "vision/vessel_mask.h"

/* Only references that are there; another size than the image's becomes the image's. */
static lm_status load_reference(const lm_samples *s, const char *path, lm_decoded *d, int k)
{
  lm_bytes bytes = {0};
  lm_image image = {0};
  lm_status status = lm_samples_load_grey(path, &bytes, &image);
  lm_bytes_free(&bytes);
  LM_TRY(status);
  if (image.height == d->height && image.width == d->width) {
    d->reference[k] = image.pixels;
    return LM_OK;
  }
  lm_picture p = {image.pixels, image.height, image.width, 1, image.width};
  status = lm_calloc(&d->reference[k], (size_t)(d->height * d->width), 1);
  if (status == LM_OK)
    status = lm_image_resize(&p, NULL, s->options.filter, d->reference[k], d->height, d->width);
  lm_image_free(&image);
  return status == LM_OK ? LM_OK : lm_error_prefix("%s", path);
}

static lm_status make_phantom(const lm_samples *s, const lm_item *item, lm_decoded *d)
{
  lm_rated rated;
  size_t n = (size_t)(d->height * d->width);
  for (int k = 0; k < LM_LOADER_REFERENCES; k++) LM_TRY(lm_calloc(&d->reference[k], n, 1));
  LM_TRY(lm_rated_render(&s->options.phantom, s->options.phantom_seed, (uint64_t)item->number,
                         d->image, d->reference[0], d->reference[1], &rated));
  memcpy(d->score, rated.score, sizeof rated.score);
  return LM_OK;
}

lm_status lm_rated_decode(const lm_samples *s, const lm_item *item, lm_decoded *d)
{
  if (s->options.is_phantom) LM_TRY(make_phantom(s, item, d));
  for (int k = 0; k < LM_LOADER_REFERENCES; k++)
    if (item->reference[k]) LM_TRY(load_reference(s, item->reference[k], d, k));
  if (item->score) memcpy(d->score, item->score, (size_t)s->options.metrics * sizeof *d->score);
  if (!s->options.vesselness) return LM_OK;
  for (int k = 0; k <= LM_LOADER_REFERENCES; k++) {
    const uint8_t *from = k == 0 ? d->image : d->reference[k - 1];
    if (!from) continue;
    LM_TRY(lm_calloc(&d->vesselness[k], (size_t)(d->height * d->width), 1));
    LM_TRY(lm_vesselness(from, d->height, d->width, d->vesselness[k]));
  }
  return LM_OK;
}
