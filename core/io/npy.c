/* npy.c: NumPy's .npy files: magic, version, a header that is the text of a Python
 * dictionary with the keys descr, fortran_order and shape, then raw data. The header is
 * read by a parser for exactly that. Format: numpy.org, "numpy.lib.format". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/tensorfile.h"

typedef struct reader {
  const char *p, *end; /* what is left of the header's text */
} reader;

static void skip_blanks(reader *r)
{
  while (r->p < r->end && (*r->p == ' ' || *r->p == '\n' || *r->p == '\t'))
    r->p++;
}

/* Take `token` (after blanks) if it is next. */
static bool take(reader *r, const char *token)
{
  skip_blanks(r);
  size_t n = strlen(token);
  if ((size_t)(r->end - r->p) < n || memcmp(r->p, token, n) != 0) return false;
  r->p += n;
  return true;
}

/* A quoted string without escapes into out[size]. */
static bool take_string(reader *r, char *out, size_t size)
{
  skip_blanks(r);
  if (r->p == r->end || (*r->p != '\'' && *r->p != '"')) return false;
  char quote = *r->p++;
  size_t n = 0;
  while (r->p < r->end && *r->p != quote) {
    if (*r->p == '\\' || *r->p == '\0' || n + 1 >= size) return false;
    out[n++] = *r->p++;
  }
  out[n] = '\0';
  return take(r, quote == '"' ? "\"" : "'");
}

static bool take_integer(reader *r, int64_t *out)
{
  skip_blanks(r);
  const char *start = r->p;
  int64_t value = 0;
  while (r->p < r->end && *r->p >= '0' && *r->p <= '9') {
    if (__builtin_mul_overflow(value, 10, &value) ||
        __builtin_add_overflow(value, *r->p - '0', &value)) {
      return false;
    }
    r->p++;
  }
  *out = value;
  return r->p > start;
}

/* "(2, 3)", "(4,)", "()"; *ndim may exceed LM_MAX_DIMS, then only the first are kept. */
static bool take_shape(reader *r, int64_t *shape, int64_t *ndim)
{
  *ndim = 0;
  if (!take(r, "(")) return false;
  while (!take(r, ")")) {
    int64_t value;
    if (!take_integer(r, &value)) return false;
    take(r, "L"); /* Python 2 wrote long integers so */
    if (*ndim < LM_MAX_DIMS) shape[*ndim] = value;
    ++*ndim;
    if (!take(r, ",")) return take(r, ")");
  }
  return true;
}

typedef struct npy_header {
  char descr[32];
  bool fortran;
  int64_t shape[LM_MAX_DIMS], ndim;
} npy_header;

static bool read_dictionary(reader *r, npy_header *h)
{
  bool has_descr = false, has_order = false, has_shape = false;
  if (!take(r, "{")) return false;
  while (!take(r, "}")) {
    char key[32];
    if (!take_string(r, key, sizeof key) || !take(r, ":")) return false;
    bool *has = NULL;
    if (strcmp(key, "descr") == 0) {
      has = &has_descr;
      if (!take_string(r, h->descr, sizeof h->descr)) return false;
    } else if (strcmp(key, "fortran_order") == 0) {
      has = &has_order;
      h->fortran = take(r, "True");
      if (!h->fortran && !take(r, "False")) return false;
    } else if (strcmp(key, "shape") == 0) {
      has = &has_shape;
      if (!take_shape(r, h->shape, &h->ndim)) return false;
    }
    if (!has || *has) return false;
    *has = true;
    if (!take(r, ",") && (r->p == r->end || *r->p != '}')) return false;
  }
  skip_blanks(r);
  return r->p == r->end && has_descr && has_order && has_shape;
}

static lm_status read_descr(lm_stored *t, const char *descr, const char *name)
{
  const char *type = descr + (descr[0] != '\0' && strchr("<>|=", descr[0]));
  for (int e = 0; e < LM_EL_COUNT; e++) {
    if (!lm_elements[e].npy || strcmp(type, lm_elements[e].npy) != 0) continue;
    if (descr[0] == '>' && lm_elements[e].size > 1) {
      return lm_fail(LM_ERR_UNSUPPORTED, "%s: big-endian data ('%s')", name, descr);
    }
    t->element = (lm_element)e;
    return LM_OK;
  }
  return lm_fail(LM_ERR_UNSUPPORTED, "%s: dtype '%s' is none that lumen reads", name,
                 descr);
}

lm_status lm_npy_parse(lm_stored *t, const void *data, size_t size, const char *name)
{
  const unsigned char *p = data;
  *t = (lm_stored){0};
  if (size < 12 || memcmp(p, "\x93NUMPY", 6) != 0) {
    return lm_fail(LM_ERR_FORMAT, "%s: not an npy file", name);
  }
  if (p[6] < 1 || p[6] > 3) {
    return lm_fail(LM_ERR_UNSUPPORTED, "%s: npy version %d.%d", name, p[6], p[7]);
  }
  size_t length = p[8] | (size_t)p[9] << 8, start = 10;
  if (p[6] > 1) {
    length |= (size_t)p[10] << 16 | (size_t)p[11] << 24;
    start = 12;
  }
  if (length > size - start) {
    return lm_fail(LM_ERR_FORMAT, "%s: npy file ends within its header", name);
  }
  reader r = {(const char *)p + start, (const char *)p + start + length};
  npy_header h = {0};
  if (!read_dictionary(&r, &h)) {
    return lm_fail(LM_ERR_FORMAT, "%s: npy header is not a plain array's", name);
  }
  LM_TRY(read_descr(t, h.descr, name));
  LM_TRY(lm_stored_shape(t, h.ndim, h.shape, name));
  if (h.fortran) {
    int64_t stride = 1;
    for (int d = 0; d < t->ndim; d++) {
      t->stride[d] = stride;
      stride *= lm_max64(t->shape[d], 1);
    }
  }
  size_t held = size - start - length;
  size_t needed = (size_t)(t->count * lm_elements[t->element].size);
  if (held != needed) {
    return lm_fail(LM_ERR_FORMAT,
                   "%s: npy file has %zu bytes of data, its header says %zu", name, held,
                   needed);
  }
  t->data = p + start + length;
  return LM_OK;
}

lm_status lm_npy_open(lm_bytes *bytes, lm_stored *t, const char *path)
{
  LM_TRY(lm_file_map(bytes, path));
  lm_status status = lm_npy_parse(t, bytes->data, bytes->size, path);
  if (status != LM_OK) lm_bytes_free(bytes);
  return status;
}

lm_status lm_npy_save(const char *path, const lm_source *t)
{
  static const char *const names[LM_DTYPE_COUNT] = {"<f4", "<f8", NULL,
                                                    "<i4", "<i8", "|u1"};
  if (!names[t->dtype]) {
    return lm_fail(LM_ERR_UNSUPPORTED, "%s: NumPy has no %s; convert the tensor to f32",
                   path, lm_dtype_name(t->dtype));
  }
  char header[512] = "\x93NUMPY\x01";
  int n = 10;
  int64_t bytes = lm_dtype_size(t->dtype);
  n += snprintf(header + n, sizeof header - (size_t)n,
                "{'descr': '%s', 'fortran_order': False, 'shape': (", names[t->dtype]);
  for (int d = 0; d < t->ndim; d++) {
    n += snprintf(header + n, sizeof header - (size_t)n, d == 0 ? "%lld," : " %lld,",
                  (long long)t->shape[d]);
    bytes *= t->shape[d];
  }
  if (t->ndim > 1) n--; /* only a single size keeps its comma */
  n += snprintf(header + n, sizeof header - (size_t)n, "), }");
  while (n % 64 != 63)
    header[n++] = ' '; /* data start at a multiple of 64 */
  header[n++] = '\n';
  header[8] = (char)((n - 10) & 255);
  header[9] = (char)((n - 10) >> 8);
  lm_aside aside;
  LM_TRY(lm_aside_open(&aside, path));
  lm_status status = lm_aside_write(&aside, header, (size_t)n);
  if (status == LM_OK) status = lm_aside_write(&aside, t->data, (size_t)bytes);
  if (status == LM_OK) return lm_aside_commit(&aside);
  lm_aside_abandon(&aside);
  return status;
}
