/* samples.c: decoding items (file or phantom, mask, pseudo-mask with its cache on disk),
 * keeping them in memory, and cutting a training sample out of one. */
#include "io/samples.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "io/file.h"
#include "io/imagefile.h"

enum {
  FILE_LIMIT = 1 << 28,
  ITEM_LIMIT = 1 << 24,
  VESSEL_VERSION = 1 /* part of the cache's key: raise it when lm_vessel_mask changes */
};

lm_status lm_samples_init(lm_samples *s, const lm_loader_options *options)
{
  *s = (lm_samples){.options = *options};
  if (options->cache) {
    s->cache = strdup(options->cache);
    if (!s->cache) return lm_fail(LM_ERR_MEMORY, "loader: out of memory");
  }
  s->options.cache = s->cache;
  s->has_masks = options->is_phantom && !options->rated;
  return LM_OK;
}

void lm_decoded_free(lm_decoded *d)
{
  if (!d) return;
  free(d->image);
  free(d->mask);
  free(d->vessel_mask);
  for (int k = 0; k < LM_LOADER_REFERENCES; k++) free(d->reference[k]);
  for (int k = 0; k <= LM_LOADER_REFERENCES; k++) free(d->vesselness[k]);
  free(d);
}

static void free_item(lm_item *item)
{
  free(item->image);
  free(item->mask);
  for (int k = 0; k < LM_LOADER_REFERENCES; k++) free(item->reference[k]);
  free(item->score);
  lm_decoded_free(item->decoded);
}

void lm_samples_free(lm_samples *s)
{
  for (int64_t i = 0; i < s->count; i++) free_item(&s->item[i]);
  free(s->item);
  free(s->cache);
  while (s->annotated) {
    lm_annotated *a = s->annotated;
    s->annotated = a->next;
    lm_coco_free(a->coco);
    free(a->value);
    free(a);
  }
  while (s->packs) {
    lm_pack *pack = s->packs;
    s->packs = pack->next;
    lm_pack_close(pack);
  }
}

void lm_scratch_free(lm_scratch *scratch)
{
  free(scratch->image);
  free(scratch->mask);
  free(scratch->moved);
}

static lm_status grow(lm_samples *s, int64_t more)
{
  if (more > ITEM_LIMIT - s->count)
    return lm_fail(LM_ERR_ARG, "loader: %lld images are over the limit of %d",
                   (long long)(s->count + more), ITEM_LIMIT);
  if (s->count + more <= s->capacity) return LM_OK;
  int64_t capacity = lm_max64(s->count + more, s->capacity * 2);
  lm_item *grown = realloc(s->item, (size_t)capacity * sizeof *grown);
  if (!grown) return lm_fail(LM_ERR_MEMORY, "loader: no memory for %lld images",
                             (long long)capacity);
  s->item = grown;
  s->capacity = capacity;
  return LM_OK;
}

lm_status lm_samples_annotate(lm_samples *s, lm_coco *coco, const uint8_t *value)
{
  lm_annotated *a;
  lm_status status = lm_calloc(&a, 1, sizeof *a);
  if (status != LM_OK) {
    lm_coco_free(coco);
    return status;
  }
  *a = (lm_annotated){.coco = coco, .next = s->annotated};
  s->annotated = a;
  LM_TRY(lm_calloc(&a->value, (size_t)coco->categories, 1));
  memcpy(a->value, value, (size_t)coco->categories);
  return LM_OK;
}

static lm_status check_masks(const lm_samples *s, const char *image, bool has_mask)
{
  if (s->count == 0 || s->has_masks == has_mask) return LM_OK;
  return lm_fail(LM_ERR_ARG, "loader: %s has %s mask but images before it have %s", image,
                 has_mask ? "a" : "no", has_mask ? "none" : "one");
}

/* Takes over what the item points to. */
static lm_status append(lm_samples *s, lm_item item, bool has_mask)
{
  lm_status status = item.image ? LM_OK : lm_fail(LM_ERR_MEMORY, "loader: out of memory");
  if (status == LM_OK) status = check_masks(s, item.image, has_mask);
  if (status == LM_OK) status = grow(s, 1);
  if (status != LM_OK) {
    free_item(&item);
    return status;
  }
  s->has_masks = has_mask;
  s->item[s->count++] = item;
  return LM_OK;
}

lm_status lm_samples_add(lm_samples *s, const char *image, const char *mask)
{
  lm_item item = {.image = strdup(image), .mask = mask ? strdup(mask) : NULL};
  if (mask && !item.mask) {
    free_item(&item);
    return lm_fail(LM_ERR_MEMORY, "loader: out of memory");
  }
  return append(s, item, mask != NULL);
}

lm_status lm_samples_add_rated(lm_samples *s, const char *image,
                               const char *const reference[LM_LOADER_REFERENCES],
                               const float *score)
{
  int metrics = s->options.metrics;
  lm_item item = {.image = strdup(image)};
  lm_status status = LM_OK;
  for (int k = 0; k < LM_LOADER_REFERENCES; k++) {
    if (!reference[k]) continue;
    item.reference[k] = strdup(reference[k]);
    if (!item.reference[k]) status = lm_fail(LM_ERR_MEMORY, "loader: out of memory");
  }
  if (status == LM_OK && metrics > 0)
    status = lm_calloc(&item.score, (size_t)metrics, sizeof *item.score);
  if (status != LM_OK) {
    free_item(&item);
    return status;
  }
  if (metrics > 0) memcpy(item.score, score, (size_t)metrics * sizeof *score);
  return append(s, item, false);
}

lm_status lm_samples_add_annotated(lm_samples *s, const char *image, int64_t number)
{
  return append(s, (lm_item){.image = strdup(image), .from = s->annotated, .number = number},
                true);
}

lm_status lm_samples_add_packed(lm_samples *s, int64_t first, int64_t count, bool masks)
{
  lm_pack *pack = s->packs;
  for (int64_t i = first; i < first + count; i++) {
    lm_item item = {.pack = pack, .number = i};
    if (asprintf(&item.image, "%s/%s", pack->path, lm_pack_name(pack, i)) < 0)
      item.image = NULL;
    LM_TRY(append(s, item, masks && lm_pack_has_mask(pack, i)));
  }
  return LM_OK;
}

lm_status lm_samples_add_phantoms(lm_samples *s, int64_t first, int64_t count)
{
  if (first < 0 || first > ((int64_t)1 << 62) || count < 0 || count > ITEM_LIMIT)
    return lm_fail(LM_ERR_ARG, "loader: %lld phantoms from number %lld", (long long)count,
                   (long long)first);
  LM_TRY(grow(s, count));
  for (int64_t i = 0; i < count; i++) s->item[s->count++] = (lm_item){.number = first + i};
  return LM_OK;
}

lm_status lm_samples_select(lm_samples *s, const int64_t *items, int64_t count)
{
  lm_item *chosen;
  LM_TRY(lm_calloc(&chosen, (size_t)count, sizeof *chosen));
  bool *taken;
  lm_status status = lm_calloc(&taken, (size_t)s->count, sizeof *taken);
  for (int64_t i = 0; status == LM_OK && i < count; i++) {
    int64_t k = items[i];
    if (k < 0 || k >= s->count || taken[k])
      status = lm_fail(LM_ERR_INDEX, "loader: subset item %lld is out of range or repeated "
                       "(there are %lld images)", (long long)k, (long long)s->count);
    else taken[k] = true;
    if (status == LM_OK) chosen[i] = s->item[k];
  }
  if (status == LM_OK) {
    for (int64_t i = 0; i < s->count; i++)
      if (!taken[i]) free_item(&s->item[i]);
    free(s->item);
    s->item = chosen;
    s->count = s->capacity = count;
  } else {
    free(chosen);
  }
  free(taken);
  return status;
}

const char *lm_samples_name(lm_samples *s, int64_t i)
{
  if (i < 0 || i >= s->count) return "?";
  if (s->item[i].image) return s->item[i].image;
  snprintf(s->name, sizeof s->name, "phantom:%lld", (long long)s->item[i].number);
  return s->name;
}

lm_status lm_samples_read(const lm_samples *s, int64_t i, lm_bytes *out)
{
  const lm_item *item = &s->item[i];
  if (!item->image) return lm_fail(LM_ERR_ARG, "loader: a phantom has no file");
  if (!item->pack) return lm_file_read(out, item->image, FILE_LIMIT);
  lm_bytes bytes = lm_pack_image_bytes(item->pack, item->number);
  return lm_bytes_append(out, bytes.data, bytes.size);
}

/* ---- decoding ---- */

static int value_at(const lm_image *image, int64_t i)
{
  return image->depth == 8 ? ((const uint8_t *)image->pixels)[i]
                           : ((const uint16_t *)image->pixels)[i];
}

/* 10 or 12 bits stored as they are in 16 would become an almost black picture. */
static lm_status check_range(const lm_image *image, const char *path)
{
  int64_t n = image->height * image->width;
  int largest = 0;
  for (int64_t i = 0; image->depth == 16 && i < n; i++)
    largest = value_at(image, i) > largest ? value_at(image, i) : largest;
  if (largest == 0 || largest >= 4096) return LM_OK;
  lm_fail(LM_ERR_FORMAT, "%s: 16 bits per pixel, but no value above %d of 65535", path, largest);
  return lm_hint("stretch it to the full range before use, e.g. times 16 for 12 bits");
}

lm_status lm_samples_load_grey(const char *path, lm_bytes *bytes, lm_image *image)
{
  LM_TRY(lm_file_read(bytes, path, FILE_LIMIT));
  LM_TRY(lm_image_decode(image, bytes->data, bytes->size, path, true));
  lm_status status = check_range(image, path);
  if (status != LM_OK) {
    lm_image_free(image);
    return status;
  }
  lm_image_reduce(image);
  /* Give back the room that colour or 16 bits took: `kept` counts a byte per pixel. */
  void *smaller = realloc(image->pixels, (size_t)(image->height * image->width));
  if (smaller) image->pixels = smaller;
  return LM_OK;
}

/* Masks. One of 0 and 1, in whatever depth, is set where it is 1, any other above half of
 * the range; values that fit neither, and class numbers out of range, are an error, because
 * the mask would silently be empty or wrong. So is colour: three channels have to be equal,
 * up to what a JPEG does to grey. */

enum { COLOUR_TOLERANCE = 32 };

static lm_status check_colours(const char *path, const lm_image *mask)
{
  int tolerance = mask->depth == 8 ? COLOUR_TOLERANCE : COLOUR_TOLERANCE * 257;
  for (int64_t i = 0; mask->channels == 3 && i < mask->height * mask->width; i++) {
    int r = value_at(mask, 3 * i), g = value_at(mask, 3 * i + 1), b = value_at(mask, 3 * i + 2);
    if (abs(r - g) > tolerance || abs(g - b) > tolerance || abs(r - b) > tolerance)
      return lm_fail(LM_ERR_FORMAT,
                     "%s: a coloured mask (%d, %d, %d at row %lld, column %lld, from 0); "
                     "masks are grey", path, r, g, b, (long long)(i / mask->width),
                     (long long)(i % mask->width));
  }
  return LM_OK;
}

/* Above which value the mask is set. */
static lm_status threshold_of(const char *path, const lm_image *mask, int *above)
{
  int largest = 0, half = mask->depth == 8 ? 127 : 32767;
  for (int64_t i = 0; i < mask->height * mask->width; i++) {
    int v = value_at(mask, i * mask->channels);
    largest = v > largest ? v : largest;
  }
  *above = largest == 1 ? 0 : half;
  if (largest <= 1 || largest > half) return LM_OK;
  return lm_fail(LM_ERR_FORMAT,
                 "%s: the largest value of the mask is %d; a mask holds 0 and 1, or is set "
                 "above %d", path, largest, half);
}

static lm_status fill_mask(const lm_samples *s, const char *path, const lm_image *mask,
                           uint8_t *to)
{
  int above = 0, classes = s->classes;
  LM_TRY(check_colours(path, mask));
  if (classes == 0) LM_TRY(threshold_of(path, mask, &above));
  for (int64_t i = 0; i < mask->height * mask->width; i++) {
    int v = value_at(mask, i * mask->channels);
    if (classes > 0 && v > classes)
      return lm_fail(LM_ERR_FORMAT, "%s: %d at row %lld, column %lld (from 0); the mask is to "
                     "hold classes 0 to %d", path, v, (long long)(i / mask->width),
                     (long long)(i % mask->width), classes);
    to[i] = classes > 0 ? (uint8_t)v : v > above ? 255 : 0;
  }
  return LM_OK;
}

static lm_status load_mask(const lm_samples *s, const lm_item *item, lm_decoded *d)
{
  lm_image mask = {0};
  LM_TRY(lm_image_load(&mask, item->mask, false));
  lm_status status = LM_OK;
  if (mask.height != d->height || mask.width != d->width)
    status = lm_fail(LM_ERR_FORMAT, "%s: the mask is %lld x %lld but its image %s is %lld x %lld",
                     item->mask, (long long)mask.height, (long long)mask.width, item->image,
                     (long long)d->height, (long long)d->width);
  if (status == LM_OK) status = lm_calloc(&d->mask, (size_t)(d->height * d->width), 1);
  if (status == LM_OK) status = fill_mask(s, item->mask, &mask, d->mask);
  lm_image_free(&mask);
  return status;
}

static lm_status draw_mask(const lm_item *item, lm_decoded *d)
{
  const lm_coco *coco = item->from->coco;
  const lm_coco_image *image = &coco->image[item->number];
  if (image->height != d->height || image->width != d->width)
    return lm_fail(LM_ERR_FORMAT,
                   "%s: the image is %lld x %lld (height x width) but %s: images[%lld] says "
                   "%lld x %lld", item->image, (long long)d->height, (long long)d->width,
                   coco->path, (long long)item->number, (long long)image->height,
                   (long long)image->width);
  LM_TRY(lm_calloc(&d->mask, (size_t)(d->height * d->width), 1));
  return lm_coco_mask(coco, item->number, item->from->value, d->mask);
}

static lm_status compute_vessel_mask(const lm_samples *s, lm_decoded *d)
{
  int64_t n = d->height * d->width;
  LM_TRY(lm_calloc(&d->vessel_mask, (size_t)n, 1));
  LM_TRY(lm_vessel_mask(d->image, d->height, d->width, &s->options.vessel, d->vessel_mask,
                        NULL));
  for (int64_t i = 0; i < n; i++) d->vessel_mask[i] = d->vessel_mask[i] ? 255 : 0;
  return LM_OK;
}

/* <cache>/<hash of content and settings>.png */
static int cache_path(const lm_samples *s, const lm_bytes *content, char *path, size_t size)
{
  const lm_vessel_options *v = &s->options.vessel;
  uint64_t h = lm_bytes_hash(content->data, content->size, 1);
  h = lm_bytes_hash(v->sigmas, sizeof v->sigmas[0] * (size_t)v->count, h);
  double rest[4] = {v->percentile, v->border, v->published, VESSEL_VERSION};
  uint64_t low = lm_bytes_hash(rest, sizeof rest, h);
  uint64_t high = lm_bytes_hash(content->data, content->size, low);
  return snprintf(path, size, "%s/%016llx%016llx.png", s->cache, (unsigned long long)high,
                  (unsigned long long)low);
}

static bool read_cached(const char *path, lm_decoded *d)
{
  lm_bytes bytes = {0};
  lm_image mask = {0};
  bool ok = lm_samples_load_grey(path, &bytes, &mask) == LM_OK && mask.height == d->height &&
            mask.width == d->width;
  lm_bytes_free(&bytes);
  if (ok) d->vessel_mask = mask.pixels;
  else lm_image_free(&mask);
  return ok;
}

/* A cached mask that cannot be read is made again and written over; a cache that cannot be
 * written is a warning (one for all), because the mask itself is there. */
static lm_status vessel_mask_of_file(lm_samples *s, const lm_bytes *content, lm_decoded *d)
{
  char path[4096];
  if (!s->cache || cache_path(s, content, path, sizeof path) >= (int)sizeof path)
    return compute_vessel_mask(s, d);
  if (read_cached(path, d)) return LM_OK;
  LM_TRY(compute_vessel_mask(s, d));
  lm_image mask = {.height = d->height, .width = d->width, .channels = 1, .depth = 8,
                   .pixels = d->vessel_mask};
  if (lm_image_save(&mask, path, 100) != LM_OK &&
      !__atomic_exchange_n(&s->cache_warned, true, __ATOMIC_RELAXED))
    lm_log(LM_LOG_WARN, "vessel mask not cached: %s", lm_last_error()->message);
  return LM_OK;
}

static lm_status decode_file(lm_samples *s, const lm_item *item, lm_decoded *d)
{
  lm_bytes bytes = {0};
  lm_image image = {0};
  lm_status status = lm_samples_load_grey(item->image, &bytes, &image);
  if (status == LM_OK) {
    d->height = image.height;
    d->width = image.width;
    d->image = image.pixels;
  }
  if (status == LM_OK && s->options.pseudo_mask) {
    status = vessel_mask_of_file(s, &bytes, d);
    if (status != LM_OK) lm_error_prefix("%s", item->image);
  }
  lm_bytes_free(&bytes);
  if (status == LM_OK && item->mask) status = load_mask(s, item, d);
  if (status == LM_OK && item->from) status = draw_mask(item, d);
  return status;
}

static lm_status decode_packed(lm_samples *s, const lm_item *item, lm_decoded *d)
{
  lm_image image = {0}, mask = {0};
  LM_TRY(lm_pack_read(item->pack, item->number, &image, s->has_masks ? &mask : NULL));
  d->height = image.height;
  d->width = image.width;
  d->image = image.pixels;
  lm_status status = LM_OK;
  if (s->has_masks) status = lm_calloc(&d->mask, (size_t)(d->height * d->width), 1);
  if (s->has_masks && status == LM_OK) status = fill_mask(s, item->image, &mask, d->mask);
  lm_image_free(&mask);
  lm_bytes content = lm_pack_image_bytes(item->pack, item->number);
  if (status == LM_OK && s->options.pseudo_mask) status = vessel_mask_of_file(s, &content, d);
  return status;
}

static lm_status decode_phantom(const lm_samples *s, const lm_item *item, lm_decoded *d)
{
  int64_t side = s->options.phantom.size;
  d->height = d->width = side;
  LM_TRY(lm_calloc(&d->image, (size_t)(side * side), 1));
  if (s->options.rated) return LM_OK; /* made with its references */
  LM_TRY(lm_calloc(&d->mask, (size_t)(side * side), 1));
  LM_TRY(lm_phantom_render(&s->options.phantom, s->options.phantom_seed, (uint64_t)item->number,
                           d->image, d->mask, NULL));
  return s->options.pseudo_mask ? compute_vessel_mask(s, d) : LM_OK;
}

lm_status lm_samples_decode(lm_samples *s, int64_t i, lm_decoded **out)
{
  const lm_item *item = &s->item[i];
  lm_decoded *d;
  LM_TRY(lm_calloc(&d, 1, sizeof *d));
  lm_status status = item->pack    ? decode_packed(s, item, d)
                     : item->image ? decode_file(s, item, d)
                                   : decode_phantom(s, item, d);
  if (status == LM_OK && s->options.rated) status = lm_rated_decode(s, item, d);
  if (status == LM_OK) *out = d;
  else lm_decoded_free(d);
  return status;
}

/* Keep a decoded image for later epochs when the budget allows; returns whether it is kept. */
static bool keep(lm_samples *s, lm_item *item, lm_decoded *d)
{
  int planes = 1 + (d->mask != NULL) + (d->vessel_mask != NULL);
  for (int k = 0; k < LM_LOADER_REFERENCES; k++) planes += d->reference[k] != NULL;
  for (int k = 0; k <= LM_LOADER_REFERENCES; k++) planes += d->vesselness[k] != NULL;
  size_t bytes = (size_t)(d->height * d->width * planes);
  size_t before = __atomic_fetch_add(&s->kept, bytes, __ATOMIC_RELAXED);
  lm_decoded *nothing = NULL;
  if (before + bytes <= s->options.memory &&
      __atomic_compare_exchange_n(&item->decoded, &nothing, d, false, __ATOMIC_ACQ_REL,
                                  __ATOMIC_ACQUIRE))
    return true;
  __atomic_fetch_sub(&s->kept, bytes, __ATOMIC_RELAXED);
  return false;
}

/* ---- cutting a sample ---- */

/* Through a table of the 256 values, so that they are exactly (v / 255 - mean) / std. */
static void store_image(const lm_loader_options *o, const uint8_t *from, const lm_change *change,
                        bool flip, float *to)
{
  int64_t n = o->size;
  for (int c = 0; c < o->channels; c++) {
    float value[256];
    for (int v = 0; v < 256; v++)
      value[v] = ((float)change->value[v] / 255.0f - o->mean[c]) / o->std[c];
    for (int64_t y = 0; y < n; y++) {
      const uint8_t *row = from + y * n;
      float *out = to + (c * n + y) * n;
      for (int64_t x = 0; x < n; x++) out[x] = value[row[flip ? n - 1 - x : x]];
    }
  }
}

static void store_share(int64_t n, const uint8_t *from, bool flip, float *to)
{
  for (int64_t y = 0; y < n; y++)
    for (int64_t x = 0; x < n; x++)
      to[y * n + x] = (float)from[y * n + (flip ? n - 1 - x : x)] / 255.0f;
}

static void store_mask(int64_t n, const uint8_t *from, bool flip, bool classes, float *to)
{
  for (int64_t y = 0; y < n; y++)
    for (int64_t x = 0; x < n; x++) {
      uint8_t v = from[y * n + (flip ? n - 1 - x : x)];
      to[y * n + x] = classes ? (float)v : v ? 1.0f : 0.0f;
    }
}

/* Cut the box out of a plane, resize it, move it: the result, in one of the buffers. */
static lm_status cut_plane(const lm_loader_options *o, const lm_picture *p, const int64_t box[4],
                           lm_filter filter, const lm_change *change, lm_scratch *scratch,
                           uint8_t *buffer, const uint8_t **out)
{
  LM_TRY(lm_image_crop_resize(p, box, filter, buffer, o->size, o->size));
  *out = buffer;
  if (!change->moves) return LM_OK;
  lm_change_move(change, buffer, o->size, filter == LM_FILTER_NEAREST, scratch->moved);
  *out = scratch->moved;
  return LM_OK;
}

/* What is done to all planes of a sample alike. */
typedef struct cutting {
  int64_t box[4];
  bool flip;
  lm_change change;
} cutting;

/* The crop and the flip of a sample come from one stream, the rest of the augmentation from
 * another. */
static lm_status draw_cutting(const lm_loader_options *o, const lm_decoded *d, uint64_t sample,
                              cutting *c)
{
  lm_rng rng = lm_rng_make(o->seed, lm_mix(lm_hash_name("augment"), sample));
  lm_rng other = lm_rng_make(o->seed, lm_mix(lm_hash_name("augment more"), sample));
  *c = (cutting){.box = {0, 0, d->height, d->width}};
  if (o->crop) LM_TRY(lm_rrc_params(&rng, d->height, d->width, o->scale, o->ratio, c->box));
  c->flip = lm_rng_uniform(&rng) < o->flip;
  c->change = lm_augment_draw(&o->augment, &other, o->size);
  return LM_OK;
}

/* The channels of one picture: grey, and its vesselness where there is one. */
static lm_status cut_image(const lm_loader_options *o, const lm_decoded *d, const cutting *c,
                           const uint8_t *grey, const uint8_t *vesselness,
                           lm_scratch *scratch, float *to)
{
  const uint8_t *plane;
  lm_picture p = {grey, d->height, d->width, 1, d->width};
  LM_TRY(cut_plane(o, &p, c->box, o->filter, &c->change, scratch, scratch->image, &plane));
  store_image(o, plane, &c->change, c->flip, to);
  if (!vesselness) return LM_OK;
  p.data = vesselness;
  LM_TRY(cut_plane(o, &p, c->box, LM_FILTER_BILINEAR, &c->change, scratch, scratch->image,
                   &plane));
  store_share(o->size, plane, c->flip, to + o->channels * o->size * o->size);
  return LM_OK;
}

static lm_status cut_references(const lm_samples *s, const lm_decoded *d, const cutting *c,
                                lm_scratch *scratch, const lm_sample *out)
{
  const lm_loader_options *o = &s->options;
  size_t planes = (size_t)(o->channels + o->vesselness);
  for (int k = 0; k < LM_LOADER_REFERENCES; k++) {
    *out->has[k] = d->reference[k] ? 1.0f : 0.0f;
    if (d->reference[k])
      LM_TRY(cut_image(o, d, c, d->reference[k], d->vesselness[1 + k], scratch,
                       out->reference[k]));
    else
      memset(out->reference[k], 0, planes * (size_t)(o->size * o->size) * sizeof(float));
  }
  if (o->metrics > 0) memcpy(out->scores, d->score, (size_t)o->metrics * sizeof(float));
  return LM_OK;
}

static lm_status cut(const lm_samples *s, const lm_decoded *d, uint64_t sample,
                     lm_scratch *scratch, const lm_sample *out)
{
  const lm_loader_options *o = &s->options;
  cutting c;
  LM_TRY(draw_cutting(o, d, sample, &c));
  LM_TRY(cut_image(o, d, &c, d->image, d->vesselness[0], scratch, out->image));
  lm_picture p = {NULL, d->height, d->width, 1, d->width};
  const uint8_t *plane, *from[2] = {d->mask, d->vessel_mask};
  float *to[2] = {out->mask, out->vessel_mask};
  for (int k = 0; k < 2; k++) {
    if (!from[k] || !to[k]) continue;
    p.data = from[k];
    LM_TRY(cut_plane(o, &p, c.box, LM_FILTER_NEAREST, &c.change, scratch, scratch->mask,
                     &plane));
    store_mask(o->size, plane, c.flip, k == 0 && s->classes > 0, to[k]);
  }
  return o->rated ? cut_references(s, d, &c, scratch, out) : LM_OK;
}

lm_status lm_samples_make(lm_samples *s, int64_t i, int64_t epoch, lm_scratch *scratch,
                          const lm_sample *out)
{
  size_t area = (size_t)(s->options.size * s->options.size);
  if (!scratch->image) LM_TRY(lm_calloc(&scratch->image, area, 1));
  if (!scratch->mask) LM_TRY(lm_calloc(&scratch->mask, area, 1));
  if (!scratch->moved) LM_TRY(lm_calloc(&scratch->moved, area, 1));
  lm_item *item = &s->item[i];
  lm_decoded *d = __atomic_load_n(&item->decoded, __ATOMIC_ACQUIRE);
  bool kept = d != NULL;
  if (!d) {
    LM_TRY(lm_samples_decode(s, i, &d));
    kept = keep(s, item, d);
  }
  lm_status status = cut(s, d, lm_mix((uint64_t)epoch, (uint64_t)i), scratch, out);
  if (status != LM_OK && item->image) lm_error_prefix("%s", item->image);
  if (!kept) lm_decoded_free(d);
  return status;
}
