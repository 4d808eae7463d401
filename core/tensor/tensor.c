/* tensor.c: making, viewing and releasing tensors and their storage; shape arithmetic and the
 * texts that error messages are made of. Invariant: a tensor with storage never reaches
 * outside it (lm_tensor_view checks). */
#include "tensor/tensor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>



void (*lm_node_drop)(struct lm_node *node) = NULL;
static lm_storage *first_storage;

const lm_storage *lm_storage_first(void)
{
  return first_storage;
}

static lm_status storage_new(lm_device *d, size_t bytes, lm_storage **out)
{
  lm_storage *s;
  LM_TRY(lm_calloc(&s, 1, sizeof *s));
  s->refs = 1;
  s->device = d;
  s->bytes = bytes;
  if (bytes > 0) {
    lm_status status = lm_device_alloc(d, bytes, &s->data);
    if (status != LM_OK) {
      free(s);
      return status;
    }
  }
  s->next = first_storage;
  if (first_storage) first_storage->previous = s;
  first_storage = s;
  *out = s;
  return LM_OK;
}

static void storage_release(lm_storage *s)
{
  if (!s || --s->refs > 0) return;
  if (s->next) s->next->previous = s->previous;
  if (s->previous) s->previous->next = s->next;
  else first_storage = s->next;
  lm_device_free(s->device, s->data, s->bytes);
  free(s);
}

/* Number of elements and contiguous strides; fails on negative sizes and overflow. */
static lm_status layout(int ndim, const int64_t *shape, int64_t *stride, int64_t *numel)
{
  if (ndim < 0 || ndim > LM_MAX_DIMS)
    return lm_fail(LM_ERR_SHAPE, "a tensor has at most %d dimensions, not %d", LM_MAX_DIMS, ndim);
  int64_t n = 1, bound = 1; /* bound: the product with zeros counted as ones */
  for (int i = ndim - 1; i >= 0; i--) {
    if (shape[i] < 0)
      return lm_fail(LM_ERR_SHAPE, "negative size in shape %s", lm_shape_text(ndim, shape));
    stride[i] = bound;
    if (__builtin_mul_overflow(bound, shape[i] > 0 ? shape[i] : 1, &bound) ||
        bound > INT64_MAX / 16)
      return lm_fail(LM_ERR_SHAPE, "shape %s is too large", lm_shape_text(ndim, shape));
    n *= shape[i];
  }
  *numel = n;
  return LM_OK;
}

lm_status lm_tensor_new(lm_device *d, lm_dtype dtype, int ndim, const int64_t *shape,
                        lm_tensor **out)
{
  *out = NULL;
  int64_t stride[LM_MAX_DIMS], n;
  LM_TRY(layout(ndim, shape, stride, &n));
  lm_storage *storage;
  LM_TRY(storage_new(d, (size_t)(n * lm_dtype_size(dtype)), &storage));
  lm_tensor *t;
  lm_status status = lm_calloc(&t, 1, sizeof *t);
  if (status != LM_OK) {
    storage_release(storage);
    return status;
  }
  t->refs = 1;
  t->storage = storage;
  t->device = d;
  t->ndim = ndim;
  t->dtype = dtype;
  for (int i = 0; i < ndim; i++) {
    t->shape[i] = shape[i];
    t->stride[i] = stride[i];
  }
  *out = t;
  return LM_OK;
}

lm_status lm_tensor_new_like(const lm_tensor *t, lm_tensor **out)
{
  return lm_tensor_new(t->device, t->dtype, t->ndim, t->shape, out);
}

static lm_status check_reach(const lm_tensor *t)
{
  int64_t low = t->offset, high = t->offset;
  for (int i = 0; i < t->ndim; i++) {
    if (t->shape[i] == 0) return LM_OK;
    int64_t reach;
    if (__builtin_mul_overflow(t->shape[i] - 1, t->stride[i], &reach))
      return lm_fail(LM_ERR_SHAPE, "view %s overflows", lm_shape_text(t->ndim, t->shape));
    if (reach < 0) low += reach;
    else high += reach;
  }
  if (low < 0 || high >= (int64_t)t->storage->bytes / lm_dtype_size(t->dtype))
    return lm_fail(LM_ERR_SHAPE, "view %s reaches outside its storage",
                   lm_shape_text(t->ndim, t->shape));
  return LM_OK;
}

lm_status lm_tensor_view(const lm_tensor *t, int ndim, const int64_t *shape,
                         const int64_t *stride, int64_t offset, lm_tensor **out)
{
  *out = NULL;
  int64_t unused_stride[LM_MAX_DIMS], n;
  LM_TRY(layout(ndim, shape, unused_stride, &n));
  lm_tensor *v;
  LM_TRY(lm_calloc(&v, 1, sizeof *v));
  v->refs = 1;
  v->storage = t->storage;
  v->device = t->device;
  v->dtype = t->dtype;
  v->offset = offset;
  v->ndim = ndim;
  for (int i = 0; i < ndim; i++) {
    v->shape[i] = shape[i];
    v->stride[i] = stride ? stride[i] : unused_stride[i];
  }
  lm_status status = v->storage ? check_reach(v) : LM_OK;
  if (status != LM_OK) {
    free(v);
    return status;
  }
  if (v->storage) v->storage->refs++;
  *out = v;
  return LM_OK;
}

lm_status lm_tensor_detach(const lm_tensor *t, lm_tensor **out)
{
  lm_tensor *v;
  LM_TRY(lm_calloc(&v, 1, sizeof *v));
  *v = *t;
  v->refs = 1;
  v->requires_grad = false;
  v->node = NULL;
  v->node_output = 0;
  v->grad = NULL;
  if (v->storage) v->storage->refs++;
  *out = v;
  return LM_OK;
}

lm_status lm_tensor_shape_only(const lm_tensor *t, lm_tensor **out)
{
  LM_TRY(lm_tensor_detach(t, out));
  storage_release((*out)->storage);
  (*out)->storage = NULL;
  return LM_OK;
}

void lm_release(lm_tensor *t)
{
  if (!t || --t->refs > 0) return;
  storage_release(t->storage);
  lm_release(t->grad);
  struct lm_node *node = t->node;
  free(t);
  if (node) lm_node_drop(node);
}

int64_t lm_numel(const lm_tensor *t)
{
  int64_t n = 1;
  for (int i = 0; i < t->ndim; i++) n *= t->shape[i];
  return n;
}

bool lm_is_contiguous(const lm_tensor *t)
{
  int64_t expect = 1;
  for (int i = t->ndim - 1; i >= 0; i--) {
    if (t->shape[i] == 0) return true;
    if (t->shape[i] != 1 && t->stride[i] != expect) return false;
    expect *= t->shape[i];
  }
  return true;
}

bool lm_same_shape(const lm_tensor *a, const lm_tensor *b)
{
  if (a->ndim != b->ndim) return false;
  for (int i = 0; i < a->ndim; i++)
    if (a->shape[i] != b->shape[i]) return false;
  return true;
}

static char *text_buffer(void)
{
  static _Thread_local char buffers[8][200];
  static _Thread_local int next;
  return buffers[next++ & 7];
}

const char *lm_shape_text(int ndim, const int64_t *shape)
{
  char *b = text_buffer();
  size_t n = 0;
  n += (size_t)snprintf(b, 200, "[");
  for (int i = 0; i < ndim && i < LM_MAX_DIMS && n < 170; i++)
    n += (size_t)snprintf(b + n, 200 - n, i ? " x %lld" : "%lld", (long long)shape[i]);
  snprintf(b + n, 200 - n, "]");
  return b;
}

const char *lm_describe(const lm_tensor *t)
{
  char *b = text_buffer();
  snprintf(b, 200, "%s %s %s", lm_dtype_name(t->dtype), t->device ? t->device->name : "?",
           lm_shape_text(t->ndim, t->shape));
  return b;
}

lm_status lm_broadcast_shapes(int na, const int64_t *a, int nb, const int64_t *b, int *nout,
                              int64_t *out)
{
  int n = na > nb ? na : nb;
  for (int i = 0; i < n; i++) {
    int64_t x = i < n - na ? 1 : a[i - (n - na)];
    int64_t y = i < n - nb ? 1 : b[i - (n - nb)];
    if (x != y && x != 1 && y != 1)
      return lm_fail(LM_ERR_SHAPE, "shapes %s and %s do not broadcast", lm_shape_text(na, a),
                     lm_shape_text(nb, b));
    out[i] = x == 1 ? y : x;
  }
  *nout = n;
  return LM_OK;
}

lm_status lm_tensor_write(lm_tensor *t, const void *host, size_t bytes)
{
  if (bytes == 0) return LM_OK;
  if (!lm_is_contiguous(t) || (int64_t)bytes > lm_numel(t) * lm_dtype_size(t->dtype))
    return lm_fail(LM_ERR_INTERNAL, "lm_tensor_write: %zu bytes into %s", bytes, lm_describe(t));
  return t->device->copy_in(t->device, lm_data(t), host, bytes);
}

lm_status lm_tensor_read(const lm_tensor *t, void *host, size_t bytes)
{
  if (bytes == 0) return LM_OK;
  if (!lm_is_contiguous(t) || (int64_t)bytes > lm_numel(t) * lm_dtype_size(t->dtype))
    return lm_fail(LM_ERR_INTERNAL, "lm_tensor_read: %zu bytes from %s", bytes, lm_describe(t));
  LM_TRY(t->device->copy_out(t->device, host, lm_data(t), bytes));
  return lm_device_heed(t->device);
}
