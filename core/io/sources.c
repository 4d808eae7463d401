/* sources.c: where a loader's items come from: folders, COCO files, packs and CSV lists. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "io/file.h"
#include "io/loader.h"
#include "io/samples.h"

static const char *const extensions[] = {"png", "jpg", "jpeg", "bmp", "pgm", "ppm", "pnm"};
enum { EXTENSIONS = sizeof extensions / sizeof extensions[0] };

static bool is_image_name(const char *name)
{
  const char *dot = strrchr(name, '.');
  if (!dot || name[0] == '.') return false;
  for (int i = 0; i < EXTENSIONS; i++)
    if (strcasecmp(dot + 1, extensions[i]) == 0) return true;
  return false;
}

static size_t stem_length(const char *name)
{
  const char *dot = strrchr(name, '.');
  return dot ? (size_t)(dot - name) : strlen(name);
}

typedef struct names {
  char **name;
  size_t count;
} names;

static void free_names(names *n)
{
  for (size_t i = 0; i < n->count; i++) free(n->name[i]);
  free(n->name);
}

/* The name in a sorted list with this stem, or NULL. A linear scan from `*from`, because both
 * lists are sorted alike; it starts over once when that was not so. */
static const char *with_stem(const names *n, const char *image, size_t *from)
{
  size_t length = stem_length(image);
  for (size_t step = 0; step < n->count; step++) {
    size_t i = (*from + step) % n->count;
    const char *name = n->name[i];
    if (is_image_name(name) && stem_length(name) == length &&
        strncmp(name, image, length) == 0) {
      *from = i + 1;
      return name;
    }
  }
  return NULL;
}

static lm_status join(char *out, size_t size, const char *folder, const char *name)
{
  int n = snprintf(out, size, "%s/%s", folder, name);
  if (n > 0 && n < (int)size) return LM_OK;
  return lm_fail(LM_ERR_IO, "%s/%s: the path is too long", folder, name);
}

static lm_status add_named(lm_loader *l, const char *images, const names *found,
                           const char *masks, const names *mask_names)
{
  char image[PATH_MAX], mask[PATH_MAX];
  size_t from = 0;
  for (size_t i = 0; i < found->count; i++) {
    if (!is_image_name(found->name[i])) continue;
    LM_TRY(join(image, sizeof image, images, found->name[i]));
    if (masks) {
      const char *name = with_stem(mask_names, found->name[i], &from);
      if (!name) return lm_fail(LM_ERR_IO, "%s has no mask in %s", image, masks);
      LM_TRY(join(mask, sizeof mask, masks, name));
    }
    LM_TRY(lm_loader_add(l, image, masks ? mask : NULL));
  }
  return LM_OK;
}

lm_status lm_loader_add_folder(lm_loader *l, const char *images, const char *masks)
{
  names found = {0}, mask_names = {0};
  int64_t before = lm_loader_count(l);
  lm_status status = lm_dir_list(&found.name, &found.count, images);
  if (status == LM_OK && masks) status = lm_dir_list(&mask_names.name, &mask_names.count, masks);
  if (status == LM_OK) status = add_named(l, images, &found, masks, &mask_names);
  if (status == LM_OK && lm_loader_count(l) == before)
    status = lm_fail(LM_ERR_IO, "%s: no images there (png, jpg, bmp, pgm, ppm)", images);
  free_names(&found);
  free_names(&mask_names);
  return status;
}

/* ---- COCO ---- */

/* The file that is meant: as it is written, or with another extension (data sets are handed
 * on as JPEG while their lists still say .png). */
static bool find_image(char *out, size_t size, const char *folder, const char *file)
{
  int n = snprintf(out, size, "%s/%s", folder, file);
  if (n < 0 || n >= (int)size - 8) return false;
  if (access(out, F_OK) == 0) return true;
  char *dot = strrchr(out, '.');
  if (!dot || dot < strrchr(out, '/')) dot = out + n;
  for (int i = 0; i < EXTENSIONS; i++) {
    snprintf(dot, 8, ".%s", extensions[i]);
    if (access(out, F_OK) == 0) return true;
  }
  return false;
}

lm_status lm_loader_add_coco(lm_loader *l, const char *images, lm_coco *coco,
                             const uint8_t *value)
{
  lm_samples *s = lm_loader_samples(l);
  LM_TRY(lm_samples_annotate(s, coco, value));
  char path[PATH_MAX];
  for (int64_t i = 0; i < coco->images; i++) {
    if (!find_image(path, sizeof path, images, coco->image[i].file))
      return lm_fail(LM_ERR_IO, "%s/%s is not there, whatever its extension (%s: images[%lld])",
                     images, coco->image[i].file, coco->path, (long long)i);
    LM_TRY(lm_samples_add_annotated(s, path, i));
  }
  return LM_OK;
}

/* ---- packs ---- */

static lm_status no_split(const lm_pack *pack, const char *split)
{
  char list[400] = "";
  size_t n = 0;
  for (int64_t i = 0; i < pack->parts && n < sizeof list - 1; i++)
    n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", i > 0 ? ", " : "",
                          pack->part[i].split);
  return lm_fail(LM_ERR_ARG, "%s: no split %s; there is %s", pack->path, split, list);
}

lm_status lm_loader_add_pack(lm_loader *l, const char *path, const char *split, bool masks)
{
  lm_samples *s = lm_loader_samples(l);
  lm_pack *pack;
  bool found = false;
  LM_TRY(lm_pack_open(&pack, path));
  pack->next = s->packs;
  s->packs = pack;
  LM_TRY(lm_loader_set_classes(l, masks ? pack->classes : 0));
  for (int64_t i = 0; i < pack->parts; i++) {
    const lm_pack_part *part = &pack->part[i];
    if (split && strcmp(part->split, split) != 0) continue;
    found = true;
    LM_TRY(lm_samples_add_packed(s, part->first, part->count, masks));
  }
  return found ? LM_OK : no_split(pack, split ? split : "at all");
}

/* ---- CSV ---- */

/* One field into out: plain, or in double quotes with "" for a quote. Returns what follows
 * its comma, NULL at the end of the row. *good turns false when the field is too long, its
 * quotes are not closed, or something stands behind them. */
static const char *read_field(const char *p, char *out, size_t size, bool *good)
{
  size_t n = 0;
  bool quoted = *p == '"', closed = !quoted;
  if (quoted) p++;
  while (*p) {
    if (quoted && p[0] == '"' && p[1] == '"') p++;
    else if (quoted && *p == '"') {
      p++;
      closed = true;
      break;
    } else if (!quoted && *p == ',') break;
    if (n + 1 < size) out[n++] = *p;
    else *good = false;
    p++;
  }
  out[n] = '\0';
  if (!closed || (*p && *p != ',')) *good = false;
  return *p == ',' ? p + 1 : NULL;
}

static lm_status absolute(char *out, size_t size, const char *folder, const char *path)
{
  if (path[0] != '/') return join(out, size, folder, path);
  return snprintf(out, size, "%s", path) < (int)size
             ? LM_OK : lm_fail(LM_ERR_IO, "%s: the path is too long", path);
}

static lm_status add_row(lm_loader *l, const char *folder, const char *row, int64_t number)
{
  char field[2][PATH_MAX] = {"", ""}, path[2][PATH_MAX];
  bool good = true;
  const char *rest = read_field(row, field[0], sizeof field[0], &good);
  if (rest) rest = read_field(rest, field[1], sizeof field[1], &good);
  if (!good || rest || !field[0][0])
    return lm_fail(LM_ERR_FORMAT, "a row is \"image\" or \"image,mask\", not \"%s\"", row);
  bool header = strcmp(field[0], "image") == 0 &&
                (!field[1][0] || strcmp(field[1], "mask") == 0);
  if (number == 1 && header) return LM_OK;
  for (int k = 0; k < 2; k++) LM_TRY(absolute(path[k], sizeof path[k], folder, field[k]));
  return lm_loader_add(l, path[0], field[1][0] ? path[1] : NULL);
}

static lm_status add_rows(lm_loader *l, const char *path, char *text)
{
  char folder[PATH_MAX];
  snprintf(folder, sizeof folder, "%s", path);
  char *slash = strrchr(folder, '/');
  if (slash) *slash = '\0';
  else snprintf(folder, sizeof folder, ".");
  int64_t number = 0;
  if (strncmp(text, "\xef\xbb\xbf", 3) == 0) text += 3; /* a byte order mark */
  for (char *line = text, *next; line && *line; line = next) {
    next = strchr(line, '\n');
    if (next) *next++ = '\0';
    number++;
    size_t n = strlen(line);
    if (n > 0 && line[n - 1] == '\r') line[n - 1] = '\0';
    if (line[0] == '\0') continue;
    if (add_row(l, folder, line, number) != LM_OK)
      return lm_error_prefix("%s: line %lld", path, (long long)number);
  }
  return LM_OK;
}

lm_status lm_loader_add_csv(lm_loader *l, const char *path)
{
  lm_bytes bytes = {0};
  LM_TRY(lm_file_read(&bytes, path, (size_t)1 << 30));
  lm_status status = bytes.size > 0 && memchr(bytes.data, '\0', bytes.size)
                         ? lm_fail(LM_ERR_FORMAT, "%s: not a text file", path)
                         : lm_bytes_append(&bytes, "", 1);
  int64_t before = lm_loader_count(l);
  if (status == LM_OK) status = add_rows(l, path, (char *)bytes.data);
  if (status == LM_OK && lm_loader_count(l) == before)
    status = lm_fail(LM_ERR_FORMAT, "%s: no rows", path);
  lm_bytes_free(&bytes);
  return status;
}
