/* coco.c: reading COCO's JSON piece by piece, checking it as a whole, drawing masks. */
#include "io/coco.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/imagefile.h"
#include "io/json.h"
#include "vision/polygon.h"

enum { ENTRY_LIMIT = 1 << 22, COUNT_LIMIT = 1 << 24 };

/* The file while it is read: lists that grow, and the entry at hand. */
typedef struct reader {
  const char *path, *key;
  int64_t entry;
  lm_bytes categories, images, annotations, outlines, numbers;
  bool seen[3]; /* categories, images, annotations */
} reader;

/* "path: annotations[17].field: message" */
static lm_status bad(const reader *r, const char *field, const char *format, ...)
    __attribute__((format(printf, 3, 4), cold));
static lm_status bad(const reader *r, const char *field, const char *format, ...)
{
  char message[600];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  return lm_fail(LM_ERR_FORMAT, "%s: %s[%lld]%s%s: %s", r->path, r->key,
                 (long long)r->entry, *field ? "." : "", field, message);
}

/* A whole number low..high at `name` of the entry. */
static lm_status get_whole(const reader *r, const cJSON *entry, const char *name,
                           int64_t low, int64_t high, int64_t *out)
{
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(entry, name);
  if (!item) return bad(r, name, "is missing");
  double v = cJSON_IsNumber(item) ? item->valuedouble : NAN;
  if (!(v >= (double)low && v <= (double)high) || v != floor(v))
    return bad(r, name, "is not a whole number from %lld to %lld", (long long)low,
               (long long)high);
  *out = (int64_t)v;
  return LM_OK;
}

static lm_status get_text(const reader *r, const cJSON *entry, const char *name, char **out)
{
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(entry, name);
  if (!cJSON_IsString(item) || !item->valuestring[0] || strlen(item->valuestring) > 2048)
    return bad(r, name, item ? "is not a text of 1 to 2048 bytes" : "is missing");
  *out = strdup(item->valuestring);
  return *out ? LM_OK : lm_fail(LM_ERR_MEMORY, "%s: out of memory", r->path);
}

static const int64_t largest_id = (int64_t)1 << 53;

static lm_status read_category(reader *r, const cJSON *entry)
{
  lm_coco_category c = {0};
  LM_TRY(get_whole(r, entry, "id", 0, largest_id, &c.id));
  LM_TRY(get_text(r, entry, "name", &c.name));
  lm_status status = lm_bytes_append(&r->categories, &c, sizeof c);
  if (status != LM_OK) free(c.name);
  return status;
}

/* Does a path lead out of the folder it is relative to? */
static bool leads_out(const char *path)
{
  if (path[0] == '/') return true;
  for (const char *p = path; p; p = strchr(p, '/')) {
    if (*p == '/') p++;
    if (strncmp(p, "..", 2) == 0 && (p[2] == '/' || p[2] == '\0')) return true;
  }
  return false;
}

static lm_status read_image(reader *r, const cJSON *entry)
{
  lm_coco_image image = {0};
  LM_TRY(get_whole(r, entry, "id", 0, largest_id, &image.id));
  LM_TRY(get_whole(r, entry, "width", 1, LM_IMAGE_MAX_SIDE, &image.width));
  LM_TRY(get_whole(r, entry, "height", 1, LM_IMAGE_MAX_SIDE, &image.height));
  LM_TRY(get_text(r, entry, "file_name", &image.file));
  lm_status status = leads_out(image.file) ? bad(r, "file_name", "leads out of its folder")
                                           : LM_OK;
  if (status == LM_OK) status = lm_bytes_append(&r->images, &image, sizeof image);
  if (status != LM_OK) free(image.file);
  return status;
}

/* The numbers of one polygon, or of run lengths, as an outline. */
static lm_status read_numbers(reader *r, const char *field, const cJSON *list)
{
  if (!cJSON_IsArray(list)) return bad(r, field, "is not a list of numbers");
  lm_coco_outline outline = {.first = (int64_t)(r->numbers.size / sizeof(double))};
  const cJSON *item = NULL;
  cJSON_ArrayForEach(item, list)
  {
    if (!cJSON_IsNumber(item) || !isfinite(item->valuedouble))
      return bad(r, field, "its number %lld is no finite number", (long long)outline.count);
    LM_TRY(lm_bytes_append(&r->numbers, &item->valuedouble, sizeof(double)));
    outline.count++;
  }
  return lm_bytes_append(&r->outlines, &outline, sizeof outline);
}

static lm_status read_polygons(reader *r, lm_coco_annotation *a, const cJSON *list)
{
  const cJSON *item = NULL;
  cJSON_ArrayForEach(item, list)
  {
    char field[48];
    snprintf(field, sizeof field, "segmentation[%lld]", (long long)a->count);
    LM_TRY(read_numbers(r, field, item));
    int64_t count = cJSON_GetArraySize(item);
    if (count % 2 != 0)
      return bad(r, field, "%lld numbers, not an even count", (long long)count);
    if (count < 6)
      return bad(r, field, "%lld numbers; a polygon has at least 6", (long long)count);
    a->count++;
  }
  return a->count > 0 ? LM_OK : bad(r, "segmentation", "is empty");
}

/* {"size": [height, width], "counts": [...]}: the size goes before the runs as two numbers
 * more, to be compared with the image's. */
static lm_status read_runs(reader *r, lm_coco_annotation *a, const cJSON *object)
{
  const cJSON *size = cJSON_GetObjectItemCaseSensitive(object, "size");
  const cJSON *counts = cJSON_GetObjectItemCaseSensitive(object, "counts");
  if (cJSON_IsString(counts))
    return bad(r, "segmentation.counts", "compressed run lengths are not supported; write "
               "them as a list of numbers, or as polygons");
  if (!cJSON_IsArray(size) || cJSON_GetArraySize(size) != 2)
    return bad(r, "segmentation.size", "is not [height, width]");
  LM_TRY(read_numbers(r, "segmentation.size", size));
  LM_TRY(read_numbers(r, "segmentation.counts", counts));
  a->runs = true;
  a->count = 2;
  return LM_OK;
}

static lm_status read_annotation(reader *r, const cJSON *entry)
{
  lm_coco_annotation a = {.entry = r->entry, .id = -1};
  if (cJSON_GetObjectItemCaseSensitive(entry, "id"))
    LM_TRY(get_whole(r, entry, "id", 0, largest_id, &a.id));
  /* Ids: the lists may come in any order; resolve() turns them into places. */
  LM_TRY(get_whole(r, entry, "image_id", 0, largest_id, &a.image));
  LM_TRY(get_whole(r, entry, "category_id", 0, largest_id, &a.category));
  a.first = (int64_t)(r->outlines.size / sizeof(lm_coco_outline));
  const cJSON *outline = cJSON_GetObjectItemCaseSensitive(entry, "segmentation");
  if (cJSON_IsArray(outline)) {
    LM_TRY(read_polygons(r, &a, outline));
  } else if (cJSON_IsObject(outline)) {
    LM_TRY(read_runs(r, &a, outline));
  } else {
    return bad(r, "segmentation", outline ? "is neither polygons nor run lengths"
                                          : "is missing");
  }
  return lm_bytes_append(&r->annotations, &a, sizeof a);
}

static lm_status visit(void *context, const char *key, int64_t index, const cJSON *piece)
{
  static const char *const keys[3] = {"categories", "images", "annotations"};
  static lm_status (*const read[3])(reader *, const cJSON *) = {read_category, read_image,
                                                                 read_annotation};
  reader *r = context;
  int k = 0;
  while (k < 3 && strcmp(key, keys[k]) != 0) k++;
  if (k == 3) return LM_OK;
  r->key = keys[k];
  r->entry = index;
  if (piece && index < 0) return lm_fail(LM_ERR_FORMAT, "%s: %s is not a list", r->path, key);
  if (!piece && r->seen[k])
    return lm_fail(LM_ERR_FORMAT, "%s: %s stands there twice", r->path, key);
  r->seen[k] = true;
  if (!piece) return LM_OK;
  if (!cJSON_IsObject(piece)) return bad(r, "", "is not an object");
  if (index >= COUNT_LIMIT) return bad(r, "", "is over the limit of %d entries", COUNT_LIMIT);
  return read[k](r, piece);
}

/* ---- the whole ---- */

typedef struct key {
  int64_t id, place;
} key;

static int by_id(const void *a, const void *b)
{
  const key *x = a, *y = b;
  if (x->id != y->id) return x->id < y->id ? -1 : 1;
  return (x->place > y->place) - (x->place < y->place);
}

/* Ids in order. `id` is that of the first of `count` structures of `size` bytes. */
static lm_status sort_ids(reader *r, const char *name, const int64_t *id, int64_t count,
                          size_t size, key **out)
{
  key *keys;
  LM_TRY(lm_calloc(&keys, (size_t)count, sizeof *keys));
  for (int64_t i = 0; i < count; i++) {
    memcpy(&keys[i].id, (const char *)id + (size_t)i * size, sizeof keys[i].id);
    keys[i].place = i;
  }
  qsort(keys, (size_t)count, sizeof *keys, by_id);
  r->key = name;
  lm_status status = LM_OK;
  for (int64_t i = 1; i < count && status == LM_OK; i++) {
    r->entry = keys[i].place;
    if (keys[i].id == keys[i - 1].id)
      status = bad(r, "id", "%lld is also that of %s[%lld]", (long long)keys[i].id, name,
                   (long long)keys[i - 1].place);
  }
  if (status == LM_OK) *out = keys;
  else free(keys);
  return status;
}

/* The place that belongs to an id, -1 when there is none. */
static int64_t place_of(const key *keys, int64_t count, int64_t id)
{
  int64_t low = 0, high = count;
  while (low < high) {
    int64_t middle = low + (high - low) / 2;
    if (keys[middle].id < id) low = middle + 1;
    else high = middle;
  }
  return low < count && keys[low].id == id ? keys[low].place : -1;
}

static lm_status check_runs(const reader *r, const lm_coco *c, const lm_coco_annotation *a)
{
  const lm_coco_image *image = &c->image[a->image];
  const double *size = c->number + c->outline[a->first].first;
  const lm_coco_outline *counts = &c->outline[a->first + 1];
  if (size[0] != (double)image->height || size[1] != (double)image->width)
    return bad(r, "segmentation.size", "is %g x %g, that of its image %lld x %lld", size[0],
               size[1], (long long)image->height, (long long)image->width);
  double pixels = (double)image->height * (double)image->width, sum = 0;
  for (int64_t i = 0; i < counts->count; i++) {
    double v = c->number[counts->first + i];
    if (v < 0 || v > pixels || v != floor(v))
      return bad(r, "segmentation.counts", "its number %lld is %g", (long long)i, v);
    sum += v;
  }
  if (sum != pixels)
    return bad(r, "segmentation.counts", "add up to %g pixels, not to %g", sum, pixels);
  return LM_OK;
}

static lm_status check_outlines(const reader *r, const lm_coco *c,
                                const lm_coco_annotation *a)
{
  if (a->runs) return check_runs(r, c, a);
  const lm_coco_image *image = &c->image[a->image];
  for (int64_t k = 0; k < a->count; k++) {
    const lm_coco_outline *o = &c->outline[a->first + k];
    if (lm_polygon_check(c->number + o->first, o->count / 2, image->height, image->width) ==
        LM_OK)
      continue;
    char field[48], why[400];
    snprintf(field, sizeof field, "segmentation[%lld]", (long long)k);
    snprintf(why, sizeof why, "%.399s", lm_last_error()->message);
    return bad(r, field, "%s", why);
  }
  return LM_OK;
}

/* Ids of the annotations become places; their outlines are checked. */
static lm_status resolve(reader *r, lm_coco *c, const key *categories, const key *images)
{
  r->key = "annotations";
  for (int64_t i = 0; i < c->annotations; i++) {
    lm_coco_annotation *a = &c->annotation[i];
    int64_t category = place_of(categories, c->categories, a->category);
    int64_t image = place_of(images, c->images, a->image);
    r->entry = a->entry;
    if (image < 0)
      return bad(r, "image_id", "there is no image %lld", (long long)a->image);
    if (category < 0)
      return bad(r, "category_id", "there is no category %lld", (long long)a->category);
    a->image = image;
    a->category = category;
    LM_TRY(check_outlines(r, c, a));
  }
  return LM_OK;
}

static int by_image(const void *a, const void *b)
{
  const lm_coco_annotation *x = a, *y = b;
  if (x->image != y->image) return x->image < y->image ? -1 : 1;
  return (x->entry > y->entry) - (x->entry < y->entry);
}

static int by_annotation_id(const void *a, const void *b)
{
  const lm_coco_annotation *const *x = a, *const *y = b;
  if ((*x)->id != (*y)->id) return (*x)->id < (*y)->id ? -1 : 1;
  return by_image(*x, *y);
}

/* Annotations that share their id: of one image an error, else counted. */
static lm_status check_repeats(reader *r, lm_coco *c)
{
  const lm_coco_annotation **order;
  LM_TRY(lm_calloc(&order, (size_t)c->annotations, sizeof *order));
  for (int64_t i = 0; i < c->annotations; i++) order[i] = &c->annotation[i];
  qsort(order, (size_t)c->annotations, sizeof *order, by_annotation_id);
  lm_status status = LM_OK;
  for (int64_t i = 1; i < c->annotations && status == LM_OK; i++) {
    const lm_coco_annotation *a = order[i - 1], *b = order[i];
    if (a->id < 0 || a->id != b->id) continue;
    c->repeated++;
    r->entry = b->entry;
    if (a->image == b->image)
      status = bad(r, "id", "%lld is also that of annotations[%lld], on the same image",
                   (long long)b->id, (long long)a->entry);
  }
  free(order);
  return status;
}

static int by_file(const void *a, const void *b)
{
  const lm_coco_image *const *x = a, *const *y = b;
  int order = strcmp((*x)->file, (*y)->file);
  return order != 0 ? order : (*x > *y) - (*x < *y);
}

/* A file that is listed twice would be two images, each with a part of the mask. */
static lm_status check_files(reader *r, const lm_coco *c)
{
  const lm_coco_image **order;
  LM_TRY(lm_calloc(&order, (size_t)c->images, sizeof *order));
  for (int64_t i = 0; i < c->images; i++) order[i] = &c->image[i];
  qsort(order, (size_t)c->images, sizeof *order, by_file);
  lm_status status = LM_OK;
  r->key = "images";
  for (int64_t i = 1; i < c->images && status == LM_OK; i++) {
    r->entry = order[i] - c->image;
    if (strcmp(order[i - 1]->file, order[i]->file) == 0)
      status = bad(r, "file_name", "%s is also that of images[%lld]", order[i]->file,
                   (long long)(order[i - 1] - c->image));
  }
  free(order);
  return status;
}

/* Give each image its annotations, and count. */
static lm_status gather(lm_coco *c)
{
  int64_t *last; /* image that a category was last seen on, plus 1 */
  LM_TRY(lm_calloc(&last, (size_t)c->categories, sizeof *last));
  if (c->annotations > 0)
    qsort(c->annotation, (size_t)c->annotations, sizeof *c->annotation, by_image);
  for (int64_t i = 0; i < c->annotations; i++) {
    const lm_coco_annotation *a = &c->annotation[i];
    lm_coco_image *image = &c->image[a->image];
    lm_coco_category *category = &c->category[a->category];
    if (image->count++ == 0) image->first = i;
    category->annotations++;
    if (last[a->category] != a->image + 1) category->images++;
    last[a->category] = a->image + 1;
  }
  for (int64_t i = 0; i < c->images; i++) c->bare += c->image[i].count == 0;
  free(last);
  return LM_OK;
}

static lm_status check_whole(reader *r, lm_coco *c)
{
  key *categories = NULL, *images = NULL;
  lm_status status = sort_ids(r, "categories", &c->category->id, c->categories,
                              sizeof *c->category, &categories);
  if (status == LM_OK)
    status = sort_ids(r, "images", &c->image->id, c->images, sizeof *c->image, &images);
  if (status == LM_OK) status = check_files(r, c);
  if (status == LM_OK) status = resolve(r, c, categories, images);
  if (status == LM_OK) status = check_repeats(r, c);
  if (status == LM_OK) status = gather(c);
  free(categories);
  free(images);
  return status;
}

static lm_status check_members(const reader *r)
{
  static const char *const names[3] = {"categories", "images", "annotations"};
  for (int k = 0; k < 3; k++)
    if (!r->seen[k])
      return lm_fail(LM_ERR_FORMAT, "%s: no \"%s\"; this is not COCO's format", r->path,
                     names[k]);
  if (r->images.size == 0) return lm_fail(LM_ERR_FORMAT, "%s: images is empty", r->path);
  if (r->categories.size == 0)
    return lm_fail(LM_ERR_FORMAT, "%s: categories is empty", r->path);
  return LM_OK;
}

lm_status lm_coco_load(lm_coco **out, const char *path)
{
  *out = NULL;
  lm_bytes text = {0};
  reader r = {.path = path};
  lm_coco *c;
  LM_TRY(lm_calloc(&c, 1, sizeof *c));
  lm_status status = lm_file_map(&text, path);
  if (status == LM_OK)
    status = lm_json_walk((const char *)text.data, text.size, path, ENTRY_LIMIT, visit, &r);
  lm_bytes_free(&text);
  c->category = (void *)r.categories.data;
  c->image = (void *)r.images.data;
  c->annotation = (void *)r.annotations.data;
  c->outline = (void *)r.outlines.data;
  c->number = (void *)r.numbers.data;
  c->categories = (int64_t)(r.categories.size / sizeof *c->category);
  c->images = (int64_t)(r.images.size / sizeof *c->image);
  c->annotations = (int64_t)(r.annotations.size / sizeof *c->annotation);
  if (status == LM_OK) status = check_members(&r);
  c->path = strdup(path);
  if (status == LM_OK && !c->path) status = lm_fail(LM_ERR_MEMORY, "%s: out of memory", path);
  if (status == LM_OK) status = check_whole(&r, c);
  if (status == LM_OK) *out = c;
  else lm_coco_free(c);
  return status;
}

void lm_coco_free(lm_coco *c)
{
  if (!c) return;
  for (int64_t i = 0; i < c->categories; i++) free(c->category[i].name);
  for (int64_t i = 0; i < c->images; i++) free(c->image[i].file);
  free(c->category);
  free(c->image);
  free(c->annotation);
  free(c->outline);
  free(c->number);
  free(c->path);
  free(c);
}

/* ---- categories ---- */

static lm_status no_category(const lm_coco *c, const char *what, int64_t found)
{
  char list[400];
  size_t n = 0;
  for (int64_t i = 0; i < c->categories && n < sizeof list - 1; i++)
    n += (size_t)snprintf(list + n, sizeof list - n, "%s%s (%lld)", i > 0 ? ", " : "",
                          c->category[i].name, (long long)c->category[i].id);
  return lm_fail(LM_ERR_ARG, "%s: %s category %s; there are (with ids) %s", c->path,
                 found > 0 ? "more than one" : "no", what, list);
}

lm_status lm_coco_find_name(const lm_coco *c, const char *name, int64_t *place)
{
  int64_t found = 0;
  for (int64_t i = 0; i < c->categories; i++) {
    if (strcmp(c->category[i].name, name) != 0) continue;
    *place = i;
    found++;
  }
  if (found == 1) return LM_OK;
  char what[100];
  snprintf(what, sizeof what, "'%s'", name);
  return no_category(c, what, found);
}

lm_status lm_coco_find_id(const lm_coco *c, int64_t id, int64_t *place)
{
  for (int64_t i = 0; i < c->categories; i++) {
    *place = i;
    if (c->category[i].id == id) return LM_OK;
  }
  char what[32];
  snprintf(what, sizeof what, "%lld", (long long)id);
  return no_category(c, what, 0);
}

/* ---- masks ---- */

/* Runs go down the columns, outside and inside in turn. */
static void fill_runs(const lm_coco *c, const lm_coco_annotation *a, uint8_t value,
                      uint8_t *mask)
{
  const lm_coco_image *image = &c->image[a->image];
  const lm_coco_outline *counts = &c->outline[a->first + 1];
  int64_t at = 0;
  for (int64_t i = 0; i < counts->count; i++) {
    int64_t end = at + (int64_t)c->number[counts->first + i];
    for (; at < end; at++)
      if (i % 2 == 1) mask[at % image->height * image->width + at / image->height] = value;
  }
}

lm_status lm_coco_mask(const lm_coco *c, int64_t i, const uint8_t *value, uint8_t *mask)
{
  const lm_coco_image *image = &c->image[i];
  size_t pixels = (size_t)(image->height * image->width);
  uint8_t *scratch;
  LM_TRY(lm_calloc(&scratch, pixels, 1));
  memset(mask, 0, pixels);
  for (int64_t k = image->first; k < image->first + image->count; k++) {
    const lm_coco_annotation *a = &c->annotation[k];
    uint8_t v = value[a->category];
    if (v == 0) continue;
    if (a->runs) {
      fill_runs(c, a, v, mask);
      continue;
    }
    for (int64_t p = a->first; p < a->first + a->count; p++)
      lm_polygon_fill(c->number + c->outline[p].first, c->outline[p].count / 2,
                      image->height, image->width, v, scratch, mask);
  }
  free(scratch);
  return LM_OK;
}
