/* pack.c: writing packs aside, and reading them from a mapping. */
#include "io/pack.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/jpeg.h"
#include "io/json.h"

static const char magic[8] = "LUMENPK1";

enum { RECORD = 32, FOOTER = 40, MAGIC = sizeof magic, COUNT_LIMIT = 1 << 24 };

static void put_number(unsigned char *p, uint64_t value, int bytes)
{
  for (int i = 0; i < bytes; i++) p[i] = (unsigned char)(value >> (8 * i));
}

static uint64_t get_number(const unsigned char *p, int bytes)
{
  uint64_t value = 0;
  for (int i = 0; i < bytes; i++) value |= (uint64_t)p[i] << (8 * i);
  return value;
}

typedef struct record {
  uint64_t offset, hash;
  uint32_t image, mask, name; /* bytes, bytes, offset */
  int64_t height, width;
} record;

static record get_record(const lm_pack *pack, int64_t entry)
{
  const unsigned char *p = pack->record + entry * RECORD;
  return (record){.offset = get_number(p, 8), .image = (uint32_t)get_number(p + 8, 4),
                  .mask = (uint32_t)get_number(p + 12, 4), .hash = get_number(p + 16, 8),
                  .name = (uint32_t)get_number(p + 24, 4),
                  .height = (int64_t)get_number(p + 28, 2),
                  .width = (int64_t)get_number(p + 30, 2)};
}

/* ---- writing ---- */

lm_status lm_packer_open(lm_packer *p, const char *path)
{
  *p = (lm_packer){.aside.descriptor = -1};
  LM_TRY(lm_aside_open(&p->aside, path));
  p->offset = MAGIC;
  return lm_aside_write(&p->aside, magic, MAGIC);
}

static lm_status add_record(lm_packer *p, const char *name, const lm_image *image,
                            const lm_bytes *bytes, size_t image_bytes)
{
  unsigned char r[RECORD];
  put_number(r, p->offset, 8);
  put_number(r + 8, image_bytes, 4);
  put_number(r + 12, bytes->size - image_bytes, 4);
  put_number(r + 16, lm_bytes_hash(bytes->data, bytes->size, 0), 8);
  put_number(r + 24, p->names.size, 4);
  put_number(r + 28, (uint64_t)image->height, 2);
  put_number(r + 30, (uint64_t)image->width, 2);
  LM_TRY(lm_bytes_append(&p->records, r, RECORD));
  LM_TRY(lm_bytes_append(&p->names, name, strlen(name) + 1));
  p->offset += bytes->size;
  p->count++;
  return LM_OK;
}

lm_status lm_packer_add(lm_packer *p, const char *name, const lm_image *image,
                        const lm_image *mask, int quality)
{
  if (p->count >= COUNT_LIMIT || p->names.size + strlen(name) >= UINT32_MAX)
    return lm_fail(LM_ERR_ARG, "%s: a pack holds at most %d images", p->aside.path, COUNT_LIMIT);
  lm_bytes bytes = {0};
  lm_status status =
      lm_jpeg_encode(&bytes, image->pixels, image->height, image->width, quality);
  size_t image_bytes = bytes.size;
  if (status == LM_OK && mask) status = lm_image_encode(&bytes, mask, "mask.png", 100);
  if (status == LM_OK && bytes.size > INT32_MAX)
    status = lm_fail(LM_ERR_ARG, "%s: %s is too large", p->aside.path, name);
  if (status == LM_OK) status = lm_aside_write(&p->aside, bytes.data, bytes.size);
  if (status == LM_OK) status = add_record(p, name, image, &bytes, image_bytes);
  lm_bytes_free(&bytes);
  return status;
}

static lm_status write_index(lm_packer *p, const char *about)
{
  lm_bytes index = {0};
  unsigned char footer[FOOTER];
  lm_status status = lm_bytes_append(&index, about, strlen(about));
  if (status == LM_OK) status = lm_bytes_append(&index, p->records.data, p->records.size);
  if (status == LM_OK) status = lm_bytes_append(&index, p->names.data, p->names.size);
  put_number(footer, p->offset, 8);
  put_number(footer + 8, index.size, 8);
  put_number(footer + 16, lm_bytes_hash(index.data, index.size, 0), 8);
  put_number(footer + 24, strlen(about), 4);
  put_number(footer + 28, (uint64_t)p->count, 4);
  memcpy(footer + 32, magic, MAGIC);
  if (status == LM_OK) status = lm_aside_write(&p->aside, index.data, index.size);
  if (status == LM_OK) status = lm_aside_write(&p->aside, footer, FOOTER);
  lm_bytes_free(&index);
  return status;
}

lm_status lm_packer_commit(lm_packer *p, const char *about)
{
  lm_status status = write_index(p, about);
  if (status == LM_OK) status = lm_aside_commit(&p->aside);
  lm_packer_abandon(p);
  return status;
}

void lm_packer_abandon(lm_packer *p)
{
  lm_aside_abandon(&p->aside);
  lm_bytes_free(&p->records);
  lm_bytes_free(&p->names);
}

/* ---- opening ---- */

static lm_status damaged(const lm_pack *pack, const char *what)
{
  return lm_fail(LM_ERR_FORMAT, "%s: %s", pack->path, what);
}

/* Where things are, from the last bytes. */
static lm_status read_footer(lm_pack *pack, size_t *entries_end, size_t *names_size)
{
  const unsigned char *data = pack->file.data;
  size_t size = pack->file.size;
  if (size < MAGIC + FOOTER || memcmp(data, magic, MAGIC) != 0)
    return damaged(pack, "not a pack");
  const unsigned char *footer = data + size - FOOTER;
  if (memcmp(footer + 32, magic, MAGIC) != 0)
    return damaged(pack, "the pack is cut off, or something follows it");
  uint64_t offset = get_number(footer, 8), length = get_number(footer + 8, 8);
  uint64_t about = get_number(footer + 24, 4), count = get_number(footer + 28, 4);
  if (offset < MAGIC || offset > size - FOOTER || length != size - FOOTER - offset)
    return damaged(pack, "the index is not where the pack says");
  if (count > COUNT_LIMIT || about > length || length - about < count * RECORD)
    return damaged(pack, "the index is smaller than its entries");
  if (lm_bytes_hash(data + offset, length, 0) != get_number(footer + 16, 8))
    return damaged(pack, "damaged index (wrong checksum)");
  pack->count = (int64_t)count;
  pack->record = data + offset + about;
  pack->name = (const char *)pack->record + count * RECORD;
  *names_size = (size_t)(length - about - count * RECORD);
  *entries_end = (size_t)offset;
  pack->about = strndup((const char *)data + offset, (size_t)about);
  return pack->about ? LM_OK : lm_fail(LM_ERR_MEMORY, "%s: out of memory", pack->path);
}

static lm_status check_records(const lm_pack *pack, size_t entries_end, size_t names_size)
{
  uint64_t at = MAGIC;
  if (names_size > 0 && pack->name[names_size - 1] != '\0')
    return damaged(pack, "the names of the entries are cut off");
  for (int64_t i = 0; i < pack->count; i++) {
    record r = get_record(pack, i);
    uint64_t bytes = (uint64_t)r.image + r.mask;
    if (r.offset != at || r.image == 0 || bytes > entries_end - at || r.name >= names_size ||
        r.height < 1 || r.width < 1)
      return lm_fail(LM_ERR_FORMAT, "%s: entry %lld: %llu bytes at %llu (%lld x %lld pixels) "
                     "are not possible", pack->path, (long long)i, (unsigned long long)bytes,
                     (unsigned long long)r.offset, (long long)r.height, (long long)r.width);
    at += bytes;
  }
  return at == entries_end ? LM_OK : damaged(pack, "bytes that belong to no entry");
}

/* A whole number 0..high. */
static bool get_whole(const cJSON *object, const char *name, double high, int64_t *out)
{
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
  double v = cJSON_IsNumber(item) ? item->valuedouble : -1;
  if (!(v >= 0 && v <= high)) return false;
  *out = (int64_t)v;
  return (double)*out == v;
}

static lm_status read_parts(lm_pack *pack, const cJSON *list)
{
  int64_t n = cJSON_GetArraySize(list), first = 0;
  if (!cJSON_IsArray(list)) return damaged(pack, "the index says nothing about its parts");
  LM_TRY(lm_calloc(&pack->part, (size_t)n, sizeof *pack->part));
  const cJSON *item = NULL;
  cJSON_ArrayForEach(item, list)
  {
    lm_pack_part *part = &pack->part[pack->parts];
    const cJSON *split = cJSON_GetObjectItemCaseSensitive(item, "split");
    if (!cJSON_IsString(split) ||
        !get_whole(item, "count", (double)(pack->count - first), &part->count))
      return damaged(pack, "a part without a split or with a wrong count");
    part->first = first;
    first += part->count;
    part->split = strdup(split->valuestring);
    if (!part->split) return lm_fail(LM_ERR_MEMORY, "%s: out of memory", pack->path);
    pack->parts++;
  }
  return first == pack->count ? LM_OK : damaged(pack, "the parts are not all entries");
}

static lm_status read_about(lm_pack *pack)
{
  cJSON *about = NULL;
  int64_t classes = 0;
  LM_TRY(lm_json_parse(&about, pack->about, strlen(pack->about), pack->path));
  lm_status status = get_whole(about, "classes", 254, &classes)
                         ? LM_OK : damaged(pack, "classes is not 0 to 254");
  pack->classes = (int)classes;
  if (status == LM_OK)
    status = read_parts(pack, cJSON_GetObjectItemCaseSensitive(about, "parts"));
  cJSON_Delete(about);
  return status;
}

lm_status lm_pack_open(lm_pack **out, const char *path)
{
  *out = NULL;
  lm_pack *pack;
  size_t entries_end = 0, names_size = 0;
  LM_TRY(lm_calloc(&pack, 1, sizeof *pack));
  pack->path = strdup(path);
  lm_status status = pack->path ? lm_file_map(&pack->file, path)
                                : lm_fail(LM_ERR_MEMORY, "%s: out of memory", path);
  if (status == LM_OK) status = read_footer(pack, &entries_end, &names_size);
  if (status == LM_OK) status = check_records(pack, entries_end, names_size);
  if (status == LM_OK) status = read_about(pack);
  if (status == LM_OK) *out = pack;
  else lm_pack_close(pack);
  return status;
}

void lm_pack_close(lm_pack *pack)
{
  if (!pack) return;
  for (int64_t i = 0; i < pack->parts; i++) free(pack->part[i].split);
  free(pack->part);
  free(pack->about);
  free(pack->path);
  lm_bytes_free(&pack->file);
  free(pack);
}

/* ---- entries ---- */

const char *lm_pack_name(const lm_pack *pack, int64_t entry)
{
  return pack->name + get_record(pack, entry).name;
}

bool lm_pack_has_mask(const lm_pack *pack, int64_t entry)
{
  return get_record(pack, entry).mask > 0;
}

lm_bytes lm_pack_image_bytes(const lm_pack *pack, int64_t entry)
{
  record r = get_record(pack, entry);
  return (lm_bytes){.data = pack->file.data + r.offset, .size = r.image};
}

static lm_status decode(lm_image *out, const unsigned char *data, size_t size, const record *r,
                        const char *who)
{
  LM_TRY(lm_image_decode(out, data, size, who, true));
  if (out->height == r->height && out->width == r->width && out->depth == 8) return LM_OK;
  lm_status status = lm_fail(LM_ERR_FORMAT,
                             "%s: %lld x %lld pixels of %d bits where the index says %lld x "
                             "%lld of 8", who, (long long)out->height, (long long)out->width,
                             out->depth, (long long)r->height, (long long)r->width);
  lm_image_free(out);
  return status;
}

lm_status lm_pack_read(const lm_pack *pack, int64_t entry, lm_image *image, lm_image *mask)
{
  record r = get_record(pack, entry);
  const unsigned char *data = pack->file.data + r.offset;
  char who[PATH_MAX];
  snprintf(who, sizeof who, "%s: entry %lld (%s)", pack->path, (long long)entry,
           lm_pack_name(pack, entry));
  if (lm_bytes_hash(data, (size_t)r.image + r.mask, 0) != r.hash)
    return lm_fail(LM_ERR_FORMAT, "%s: damaged (wrong checksum)", who);
  LM_TRY(decode(image, data, r.image, &r, who));
  if (!mask) return LM_OK;
  *mask = (lm_image){0};
  lm_status status = r.mask == 0 ? lm_fail(LM_ERR_FORMAT, "%s: has no mask", who)
                                 : decode(mask, data + r.image, r.mask, &r, who);
  if (status != LM_OK) lm_image_free(image);
  return status;
}
