/* safetensors.c: the safetensors format: 8 bytes of header length, a JSON header, raw
 * data. Reading trusts nothing in the header; writing gives the same bytes for the same
 * tensors whatever their order. Format: github.com/huggingface/safetensors, "Format". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/json.h"
#include "io/tensorfile.h"

#define HEADER_LIMIT ((uint64_t)16 << 20) /* tens of thousands of tensors */

/* A number of the header that has to be an integer >= 0, exact in a double. */
static bool whole_number(const cJSON *item, int64_t *out)
{
  if (!cJSON_IsNumber(item)) return false;
  double v = item->valuedouble;
  if (!(v >= 0 && v <= 0x1p53)) return false;
  *out = (int64_t)v;
  return (double)*out == v;
}

static lm_status bad(const char *file, const char *tensor, const char *why)
{
  return lm_fail(LM_ERR_FORMAT, "%s: tensor '%s': %s", file, tensor, why);
}

static lm_status read_dtype(lm_stored *t, const cJSON *item, const char *file,
                            const char *name)
{
  if (!cJSON_IsString(item)) return bad(file, name, "no dtype");
  for (int e = 0; e < LM_EL_COUNT; e++) {
    if (strcmp(item->valuestring, lm_elements[e].safetensors) == 0) {
      t->element = (lm_element)e;
      return LM_OK;
    }
  }
  return lm_fail(LM_ERR_UNSUPPORTED,
                 "%s: tensor '%s' has dtype '%.32s', which lumen does not read", file,
                 name, item->valuestring);
}

/* One tensor of the header; `data` are the `size` bytes behind the header. `begin` and
 * `end` say where it lies there. */
static lm_status read_entry(lm_named *out, const cJSON *item, const unsigned char *data,
                            int64_t size, const char *file)
{
  const char *name = item->string;
  lm_stored *t = &out->tensor;
  LM_TRY(read_dtype(t, cJSON_GetObjectItemCaseSensitive(item, "dtype"), file, name));
  const cJSON *list = cJSON_GetObjectItemCaseSensitive(item, "shape");
  if (!cJSON_IsArray(list)) return bad(file, name, "no shape");
  int64_t shape[LM_MAX_DIMS] = {0}, ndim = 0;
  const cJSON *element = NULL;
  cJSON_ArrayForEach(element, list)
  {
    int64_t value = 0;
    if (!whole_number(element, &value))
      return bad(file, name, "shape is not of integers");
    if (ndim < LM_MAX_DIMS) shape[ndim] = value;
    ndim++;
  }
  lm_status status = lm_stored_shape(t, ndim, shape, name);
  if (status != LM_OK) return lm_error_prefix("%s", file);
  const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(item, "data_offsets");
  int64_t begin = 0, end = 0;
  if (!cJSON_IsArray(offsets) || !offsets->child || !offsets->child->next ||
      offsets->child->next->next || !whole_number(offsets->child, &begin) ||
      !whole_number(offsets->child->next, &end)) {
    return bad(file, name, "data_offsets are not two integers");
  }
  if (begin > end || end > size) {
    return lm_fail(LM_ERR_FORMAT,
                   "%s: tensor '%s': data_offsets %lld to %lld, but there are %lld bytes",
                   file, name, (long long)begin, (long long)end, (long long)size);
  }
  if (end - begin != t->count * lm_elements[t->element].size) {
    return bad(file, name, "data_offsets do not match dtype and shape");
  }
  t->data = data + begin;
  out->name = strdup(name);
  return out->name ? LM_OK : lm_fail(LM_ERR_MEMORY, "%s: out of memory", file);
}

static lm_status read_metadata(lm_tensorfile *out, const cJSON *list, const char *file)
{
  if (!cJSON_IsObject(list) || out->metadata) {
    return lm_fail(LM_ERR_FORMAT, "%s: __metadata__ is not one object", file);
  }
  LM_TRY(
      lm_calloc(&out->metadata, (size_t)cJSON_GetArraySize(list), sizeof *out->metadata));
  const cJSON *item = NULL;
  cJSON_ArrayForEach(item, list)
  {
    if (!cJSON_IsString(item)) {
      return lm_fail(LM_ERR_FORMAT, "%s: metadata '%s' is not a string", file,
                     item->string);
    }
    lm_pair *pair = &out->metadata[out->metadata_count++];
    pair->key = strdup(item->string);
    pair->value = strdup(item->valuestring);
    if (!pair->key || !pair->value) {
      return lm_fail(LM_ERR_MEMORY, "%s: out of memory", file);
    }
  }
  return LM_OK;
}

static int by_name(const void *a, const void *b)
{
  return strcmp(((const lm_named *)a)->name, ((const lm_named *)b)->name);
}

static int by_key(const void *a, const void *b)
{
  return strcmp(((const lm_pair *)a)->key, ((const lm_pair *)b)->key);
}

static int by_place(const void *a, const void *b)
{
  const lm_stored *s = &((const lm_named *)a)->tensor,
                  *t = &((const lm_named *)b)->tensor;
  if (s->data != t->data) return (const char *)s->data < (const char *)t->data ? -1 : 1;
  return (s->count > t->count) - (s->count < t->count);
}

/* The tensors cover the data without overlap or hole, as the format demands; then sort
 * them by name and check that no name comes twice. */
static lm_status check_cover(lm_tensorfile *f, const unsigned char *data, int64_t size,
                             const char *file)
{
  if (f->count > 1) qsort(f->entries, (size_t)f->count, sizeof *f->entries, by_place);
  const unsigned char *at = data;
  for (int64_t i = 0; i < f->count; i++) {
    const lm_stored *t = &f->entries[i].tensor;
    if (t->data != (const void *)at) {
      return bad(file, f->entries[i].name,
                 "its data overlap another tensor's or leave a hole");
    }
    at += t->count * lm_elements[t->element].size;
  }
  if (at != data + size) {
    return lm_fail(LM_ERR_FORMAT, "%s: %lld bytes after the last tensor", file,
                   (long long)(data + size - at));
  }
  if (f->count > 1) qsort(f->entries, (size_t)f->count, sizeof *f->entries, by_name);
  for (int64_t i = 1; i < f->count; i++) {
    if (by_name(&f->entries[i - 1], &f->entries[i]) == 0) {
      return bad(file, f->entries[i].name, "appears twice");
    }
  }
  if (f->metadata_count > 1) {
    qsort(f->metadata, (size_t)f->metadata_count, sizeof *f->metadata, by_key);
  }
  return LM_OK;
}

static lm_status read_header(lm_tensorfile *out, const cJSON *header,
                             const unsigned char *data, int64_t size, const char *file)
{
  if (!cJSON_IsObject(header)) {
    return lm_fail(LM_ERR_FORMAT, "%s: the header is not an object", file);
  }
  LM_TRY(
      lm_calloc(&out->entries, (size_t)cJSON_GetArraySize(header), sizeof *out->entries));
  const cJSON *item = NULL;
  cJSON_ArrayForEach(item, header)
  {
    if (strcmp(item->string, "__metadata__") == 0) {
      LM_TRY(read_metadata(out, item, file));
    } else {
      LM_TRY(read_entry(&out->entries[out->count], item, data, size, file));
      out->count++;
    }
  }
  return check_cover(out, data, size, file);
}

lm_status lm_safetensors_parse(lm_tensorfile *out, lm_bytes *bytes, const char *name)
{
  *out = (lm_tensorfile){.bytes = *bytes};
  *bytes = (lm_bytes){0};
  size_t size = out->bytes.size;
  const unsigned char *p = out->bytes.data;
  uint64_t length = 0;
  lm_status status = LM_OK;
  if (size >= 8) memcpy(&length, p, 8);
  if (size < 8 || length > size - 8) {
    status = lm_fail(LM_ERR_FORMAT,
                     "%s: no safetensors file, or cut within its header (%zu bytes)",
                     name, size);
  } else if (length > HEADER_LIMIT) {
    status = lm_fail(LM_ERR_FORMAT, "%s: a header of %llu bytes is over the limit", name,
                     (unsigned long long)length);
  }
  cJSON *header = NULL;
  if (status == LM_OK) {
    status = lm_json_parse(&header, (const char *)p + 8, (size_t)length, name);
  }
  if (status == LM_OK) {
    status = read_header(out, header, p + 8 + length, (int64_t)(size - 8 - length), name);
  }
  cJSON_Delete(header);
  if (status != LM_OK) lm_tensorfile_close(out);
  return status;
}

lm_status lm_safetensors_open(lm_tensorfile *out, const char *path)
{
  *out = (lm_tensorfile){0};
  lm_bytes bytes;
  LM_TRY(lm_file_map(&bytes, path));
  return lm_safetensors_parse(out, &bytes, path);
}

void lm_tensorfile_close(lm_tensorfile *file)
{
  for (int64_t i = 0; i < file->count; i++)
    free(file->entries[i].name);
  for (int64_t i = 0; i < file->metadata_count; i++) {
    free(file->metadata[i].key);
    free(file->metadata[i].value);
  }
  free(file->entries);
  free(file->metadata);
  lm_bytes_free(&file->bytes);
  *file = (lm_tensorfile){0};
}

/* --- writing --- */

static const char *const dtype_names[LM_DTYPE_COUNT] = {"F32", "F64", "BF16",
                                                        "I32", "I64", "U8"};

static int64_t source_bytes(const lm_source *t)
{
  int64_t bytes = lm_dtype_size(t->dtype);
  for (int d = 0; d < t->ndim; d++)
    bytes *= t->shape[d];
  return bytes;
}

static int source_by_name(const void *a, const void *b)
{
  return strcmp(((const lm_source *)a)->name, ((const lm_source *)b)->name);
}

/* Larger elements first, then by name (both lists are sorted by name when this is used).
 */
static int source_by_layout(const void *a, const void *b)
{
  const lm_source *s = *(const lm_source *const *)a, *t = *(const lm_source *const *)b;
  int64_t m = lm_dtype_size(s->dtype), n = lm_dtype_size(t->dtype);
  if (m != n) return m > n ? -1 : 1;
  return strcmp(s->name, t->name);
}

static lm_status check_names(const char *path, const lm_source *tensors, int64_t count,
                             const lm_pair *metadata, int64_t metadata_count)
{
  for (int64_t i = 0; i < count; i++) {
    const char *name = tensors[i].name;
    if (!lm_utf8_valid(name, strlen(name)) || strcmp(name, "__metadata__") == 0) {
      return lm_fail(LM_ERR_ARG,
                     "%s: '%s' cannot be a tensor's name (not UTF-8, or reserved)", path,
                     name);
    }
    if (i > 0 && strcmp(tensors[i - 1].name, name) == 0) {
      return lm_fail(LM_ERR_ARG, "%s: two tensors are named '%s'", path, name);
    }
  }
  for (int64_t i = 0; i < metadata_count; i++) {
    const lm_pair *pair = &metadata[i];
    if (!lm_utf8_valid(pair->key, strlen(pair->key)) ||
        !lm_utf8_valid(pair->value, strlen(pair->value))) {
      return lm_fail(LM_ERR_ARG, "%s: metadata '%s' is not UTF-8", path, pair->key);
    }
    if (i > 0 && strcmp(metadata[i - 1].key, pair->key) == 0) {
      return lm_fail(LM_ERR_ARG, "%s: metadata '%s' comes twice", path, pair->key);
    }
  }
  return LM_OK;
}

/* {"dtype":..., "shape":[...], "data_offsets":[begin, end]}; NULL when out of memory. */
static cJSON *entry_json(const lm_source *t, int64_t begin)
{
  cJSON *entry = cJSON_CreateObject();
  cJSON_AddStringToObject(entry, "dtype", dtype_names[t->dtype]);
  cJSON *shape = cJSON_AddArrayToObject(entry, "shape");
  bool ok = shape != NULL;
  for (int d = 0; ok && d < t->ndim; d++) {
    ok = cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)t->shape[d]));
  }
  cJSON *offsets = cJSON_AddArrayToObject(entry, "data_offsets");
  ok = ok && offsets &&
       cJSON_AddItemToArray(offsets, cJSON_CreateNumber((double)begin)) &&
       cJSON_AddItemToArray(offsets,
                            cJSON_CreateNumber((double)(begin + source_bytes(t))));
  if (ok) return entry;
  cJSON_Delete(entry);
  return NULL;
}

/* The header's text, or NULL when out of memory. `begin` has one offset per tensor. */
static char *header_text(const lm_source *tensors, const int64_t *begin, int64_t count,
                         const lm_pair *metadata, int64_t metadata_count)
{
  cJSON *header = cJSON_CreateObject();
  bool ok = header != NULL;
  if (ok && metadata_count > 0) {
    cJSON *list = cJSON_AddObjectToObject(header, "__metadata__");
    ok = list != NULL;
    for (int64_t i = 0; ok && i < metadata_count; i++) {
      ok = cJSON_AddStringToObject(list, metadata[i].key, metadata[i].value) != NULL;
    }
  }
  for (int64_t i = 0; ok && i < count; i++) {
    cJSON *entry = entry_json(&tensors[i], begin[i]);
    ok = entry && cJSON_AddItemToObject(header, tensors[i].name, entry);
    if (!ok) cJSON_Delete(entry);
  }
  char *text = ok ? cJSON_PrintUnformatted(header) : NULL;
  cJSON_Delete(header);
  return text;
}

static lm_status write_parts(lm_aside *aside, const char *text,
                             const lm_source *const *layout, int64_t count)
{
  uint64_t length = strlen(text), padded = (length + 7) / 8 * 8;
  LM_TRY(lm_aside_write(aside, &padded, sizeof padded));
  LM_TRY(lm_aside_write(aside, text, length));
  LM_TRY(lm_aside_write(aside, "       ", padded - length));
  for (int64_t i = 0; i < count; i++) {
    LM_TRY(lm_aside_write(aside, layout[i]->data, (size_t)source_bytes(layout[i])));
  }
  return LM_OK;
}

lm_status lm_safetensors_save(const char *path, lm_source *tensors, int64_t count,
                              lm_pair *metadata, int64_t metadata_count)
{
  if (count > 1) qsort(tensors, (size_t)count, sizeof *tensors, source_by_name);
  if (metadata_count > 1)
    qsort(metadata, (size_t)metadata_count, sizeof *metadata, by_key);
  LM_TRY(check_names(path, tensors, count, metadata, metadata_count));
  const lm_source **layout = NULL;
  int64_t *begin = NULL, at = 0;
  char *text = NULL;
  lm_aside aside = {.descriptor = -1};
  lm_status status;
  LM_TRY_GOTO(status, done, lm_calloc(&layout, (size_t)count, sizeof *layout));
  LM_TRY_GOTO(status, done, lm_calloc(&begin, (size_t)count, sizeof *begin));
  for (int64_t i = 0; i < count; i++)
    layout[i] = &tensors[i];
  if (count > 1) qsort(layout, (size_t)count, sizeof *layout, source_by_layout);
  for (int64_t i = 0; i < count; i++) {
    begin[layout[i] - tensors] = at;
    at += source_bytes(layout[i]);
  }
  text = header_text(tensors, begin, count, metadata, metadata_count);
  if (!text) {
    status = lm_fail(LM_ERR_MEMORY, "%s: out of memory for the header", path);
  } else if (strlen(text) > HEADER_LIMIT) {
    status = lm_fail(LM_ERR_ARG, "%s: names and metadata are over 16 MiB", path);
  }
  LM_TRY_GOTO(status, done, status);
  LM_TRY_GOTO(status, done, lm_aside_open(&aside, path));
  LM_TRY_GOTO(status, done, write_parts(&aside, text, layout, count));
  status = lm_aside_commit(&aside);
done:
  if (aside.descriptor >= 0) lm_aside_abandon(&aside);
  cJSON_free(text);
  free(layout);
  free(begin);
  return status;
}
