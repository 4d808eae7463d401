/* pth.c: the containers of PyTorch checkpoints: the zip archive (data.pkl beside one
 * record per storage, both stored without compression) and the older stream (magic,
 * version, system info, object, storage keys, then the storages' bytes one after the
 * other). */
#include "io/pth.h"

#include <stdlib.h>
#include <string.h>
#include <zip.h>

#include "io/pickle.h"

#define PICKLE_LIMIT ((zip_uint64_t)64 << 20)

/* An archive and what may still be read from it: records of an honest file do not
 * overlap, so together they are not larger than the file. */
typedef struct archive {
  zip_t *zip;
  const char *name;
  uint64_t left;
} archive;

static lm_status open_archive(archive *a, const lm_bytes *bytes, const char *name)
{
  zip_error_t error;
  zip_error_init(&error);
  zip_source_t *source = zip_source_buffer_create(bytes->data, bytes->size, 0, &error);
  zip_t *zip = source ? zip_open_from_source(source, ZIP_RDONLY, &error) : NULL;
  lm_status status = LM_OK;
  if (!zip) {
    status = lm_fail(LM_ERR_FORMAT, "%s: not a readable PyTorch archive (%s)", name,
                     zip_error_strerror(&error));
    if (source) zip_source_free(source);
  }
  zip_error_fini(&error);
  *a = (archive){zip, name, bytes->size};
  return status;
}

/* Read a record whole; *data is on the heap. libzip checks its checksum at the end. */
static lm_status read_record(archive *a, zip_int64_t index, unsigned char **data,
                             uint64_t *size)
{
  zip_stat_t info;
  *data = NULL;
  if (zip_stat_index(a->zip, (zip_uint64_t)index, 0, &info) != 0 ||
      !(info.valid & ZIP_STAT_SIZE) || !(info.valid & ZIP_STAT_COMP_METHOD) ||
      !(info.valid & ZIP_STAT_NAME)) {
    return lm_fail(LM_ERR_FORMAT, "%s: archive record %lld is damaged", a->name,
                   (long long)index);
  }
  if (info.comp_method != ZIP_CM_STORE) {
    return lm_fail(LM_ERR_UNSUPPORTED,
                   "%s: '%.200s' is compressed, which torch.save never does", a->name,
                   info.name);
  }
  if (info.size > a->left) {
    return lm_fail(LM_ERR_FORMAT, "%s: '%.200s' says %llu bytes, more than the file has",
                   a->name, info.name, (unsigned long long)info.size);
  }
  a->left -= info.size;
  LM_TRY(lm_calloc(data, info.size, 1));
  zip_file_t *file = zip_fopen_index(a->zip, (zip_uint64_t)index, 0);
  char extra;
  bool whole = file && zip_fread(file, *data, info.size) == (zip_int64_t)info.size &&
               zip_fread(file, &extra, 1) == 0;
  if (file) zip_fclose(file);
  *size = info.size;
  if (whole) return LM_OK;
  free(*data);
  *data = NULL;
  return lm_fail(LM_ERR_FORMAT, "%s: '%.200s' is damaged or cut", a->name, info.name);
}

/* Read "<prefix><record>" if it is there: *data stays NULL when it is not. */
static lm_status read_named(archive *a, const char *prefix, size_t prefix_size,
                            const char *record, unsigned char **data, uint64_t *size)
{
  char name[1024];
  size_t n = strlen(record);
  *data = NULL;
  if (prefix_size + n >= sizeof name) return LM_OK;
  memcpy(name, prefix, prefix_size);
  memcpy(name + prefix_size, record, n + 1);
  zip_int64_t index = zip_name_locate(a->zip, name, 0);
  return index < 0 ? LM_OK : read_record(a, index, data, size);
}

/* The record "data.pkl" or "<archive's name>/data.pkl". */
static zip_int64_t find_pickle(archive *a, size_t *prefix_size)
{
  zip_int64_t count = zip_get_num_entries(a->zip, 0);
  for (zip_int64_t i = 0; i < count; i++) {
    const char *name = zip_get_name(a->zip, (zip_uint64_t)i, 0);
    size_t n = name ? strlen(name) : 0;
    if (n < 8 || strcmp(name + n - 8, "data.pkl") != 0) continue;
    const char *slash = strchr(name, '/');
    if (n > 8 && (!slash || (size_t)(slash - name) != n - 9)) continue;
    *prefix_size = n - 8;
    return i;
  }
  return -1;
}

static lm_status too_small(const char *name, const lm_pth_storage *s, uint64_t held)
{
  return lm_fail(LM_ERR_FORMAT,
                 "%s: storage '%s' has %llu bytes, its tensors say %lld elements of %lld",
                 name, s->key, (unsigned long long)held, (long long)s->count,
                 (long long)lm_elements[s->element].size);
}

static lm_status read_storages(lm_pth_tree *tree, archive *a, const char *prefix,
                               size_t prefix_size)
{
  for (lm_pth_storage *s = tree->storages; s; s = s->next) {
    char record[256] = "data/";
    uint64_t size = 0;
    strcat(record, s->key); /* at most 200 bytes */
    LM_TRY(read_named(a, prefix, prefix_size, record, &s->data, &size));
    if (!s->data) {
      return lm_fail(LM_ERR_FORMAT, "%s: storage '%s' is not in the archive", a->name,
                     s->key);
    }
    if (size < (uint64_t)(s->count * lm_elements[s->element].size)) {
      return too_small(a->name, s, size);
    }
  }
  return LM_OK;
}

static lm_status read_archive(lm_pth_tree *tree, archive *a)
{
  size_t prefix_size = 0, used = 0;
  zip_int64_t index = find_pickle(a, &prefix_size);
  if (index < 0) {
    return lm_fail(LM_ERR_FORMAT,
                   "%s: an archive without data.pkl is no PyTorch checkpoint", a->name);
  }
  char *prefix = strdup(zip_get_name(a->zip, (zip_uint64_t)index, 0));
  if (!prefix) return lm_fail(LM_ERR_MEMORY, "%s: out of memory", a->name);
  unsigned char *order = NULL, *pickle = NULL;
  uint64_t size = 0;
  lm_status status = read_named(a, prefix, prefix_size, "byteorder", &order, &size);
  if (status == LM_OK && order && size >= 3 && memcmp(order, "big", 3) == 0) {
    status = lm_fail(LM_ERR_UNSUPPORTED, "%s: big-endian checkpoint", a->name);
  }
  free(order);
  if (status == LM_OK) status = read_record(a, index, &pickle, &size);
  if (status == LM_OK && size > PICKLE_LIMIT) {
    status = lm_fail(LM_ERR_FORMAT, "%s: a pickle of more than 64 MiB", a->name);
  }
  if (status == LM_OK) {
    status = lm_pickle_run(tree, pickle, size, a->name, &tree->root, &used);
  }
  if (status == LM_OK) status = read_storages(tree, a, prefix, prefix_size);
  free(prefix);
  tree->bytes =
      (lm_bytes){.data = pickle, .size = (size_t)size}; /* strings point into it */
  return status;
}

/* --- the older stream --- */

/* Pickles of the magic number 0x1950a86a20f9469cfc6c and of the version 1001. */
static const unsigned char magic[] = {0x80, 2,    0x8a, 0x0a, 0x6c, 0xfc, 0x9c,
                                      0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19,
                                      '.',  0x80, 2,    'M',  0xe9, 0x03, '.'};

static lm_status read_legacy_storage(lm_pth_tree *tree, const lm_pth_value *key,
                                     const unsigned char **at, const unsigned char *end,
                                     const char *name)
{
  lm_pth_storage *s = tree->storages;
  if (key->kind != LM_PTH_STRING) s = NULL;
  while (s && (strlen(s->key) != key->as.string.size ||
               memcmp(s->key, key->as.string.data, key->as.string.size) != 0)) {
    s = s->next;
  }
  if (!s || s->data) return lm_fail(LM_ERR_FORMAT, "%s: unknown storage key", name);
  uint64_t left = (uint64_t)(end - *at), count = 0;
  if (left >= 8) memcpy(&count, *at, 8);
  uint64_t bytes = (uint64_t)(s->count * lm_elements[s->element].size);
  if (left < 8 || count != (uint64_t)s->count || left - 8 < bytes) {
    return too_small(name, s, left);
  }
  LM_TRY(lm_calloc(&s->data, (size_t)bytes, 1));
  memcpy(s->data, *at + 8, (size_t)bytes);
  *at += 8 + bytes;
  return LM_OK;
}

static lm_status read_legacy(lm_pth_tree *tree, const char *name)
{
  const unsigned char *at = tree->bytes.data + sizeof magic;
  const unsigned char *end = tree->bytes.data + tree->bytes.size;
  lm_pth_value *parts[3] = {NULL}; /* system info, the object, the keys of its storages */
  for (int i = 0; i < 3; i++) {
    size_t used = 0;
    LM_TRY(lm_pickle_run(tree, at, (size_t)(end - at), name, &parts[i], &used));
    at += used;
  }
  tree->root = parts[1];
  const lm_pth_value *keys = parts[2];
  if (keys->kind != LM_PTH_LIST || keys->as.list.count != tree->storage_count) {
    return lm_fail(LM_ERR_FORMAT, "%s: the list of storages does not match the tensors",
                   name);
  }
  for (size_t i = 0; i < keys->as.list.count; i++) {
    LM_TRY(read_legacy_storage(tree, keys->as.list.items[i], &at, end, name));
  }
  return LM_OK;
}

lm_status lm_pth_parse(lm_pth_tree *out, lm_bytes *bytes, const char *name)
{
  *out = (lm_pth_tree){.bytes = *bytes};
  *bytes = (lm_bytes){0};
  const lm_bytes *b = &out->bytes;
  lm_status status;
  if (b->size > sizeof magic && memcmp(b->data, magic, sizeof magic) == 0) {
    status = read_legacy(out, name);
  } else if (b->size > 4 && memcmp(b->data, "PK\3\4", 4) == 0) {
    archive a;
    lm_bytes file = *b;
    out->bytes = (lm_bytes){0};
    status = open_archive(&a, &file, name);
    if (status == LM_OK) {
      status = read_archive(out, &a);
      zip_discard(a.zip);
    }
    lm_bytes_free(&file);
  } else {
    status = lm_fail(LM_ERR_FORMAT, "%s: not a PyTorch checkpoint", name);
  }
  for (lm_pth_use *u = out->uses; status == LM_OK && u; u = u->next) {
    if (u->tensor->count == 0) continue;
    u->tensor->data = u->storage->data + u->offset * lm_elements[u->tensor->element].size;
  }
  if (status != LM_OK) lm_pth_close(out);
  return status;
}

lm_status lm_pth_open(lm_pth_tree *out, const char *path)
{
  *out = (lm_pth_tree){0};
  lm_bytes bytes;
  LM_TRY(lm_file_map(&bytes, path));
  return lm_pth_parse(out, &bytes, path);
}
