/* tensor.h: tensors: shape, strides and offset into reference-counted storage.
 *
 * Row-major; strides in elements; up to LM_MAX_DIMS dimensions; zero-size tensors are legal;
 * a scalar has ndim 0. Views share storage. A tensor is reference-counted by itself
 * (lm_retain, lm_release) because the tape, Lua handles and C code hold it at once.
 * Reference counts are not atomic: tensors belong to the main thread. Loader workers fill
 * plain memory. */
#ifndef LUMEN_TENSOR_H
#define LUMEN_TENSOR_H

#include "base/base.h"
#include "base/dtype.h"
#include "tensor/device.h"

#ifdef __cplusplus
extern "C" {
#endif

#define LM_MAX_DIMS 6

typedef struct lm_storage {
  int64_t refs;
  lm_device *device;
  void *data;
  size_t bytes;
  uint64_t version;   /* counts in-place writes */
  const char *writer; /* operation that wrote in place last */
  const char *maker;  /* operation that made it: for the table of an out-of-memory error */
  struct lm_storage *next, *previous; /* list of all live storages */
} lm_storage;

/* A recorded operation (graph/tape.h); its tensors give their reference back through this. */
struct lm_node;
extern void (*lm_node_drop)(struct lm_node *node);

typedef struct lm_tensor {
  int64_t refs;
  lm_storage *storage; /* NULL: only shape, dtype and device are known (see graph/op.h) */
  lm_device *device;
  int64_t offset;      /* of the first element, in elements */
  int64_t shape[LM_MAX_DIMS];
  int64_t stride[LM_MAX_DIMS];
  int ndim;
  lm_dtype dtype;
  bool requires_grad;    /* a leaf that asked for it, or made by a recorded operation */
  int node_output;       /* which output of `node` this is */
  struct lm_node *node;  /* the recorded operation that made it; NULL for leaves */
  struct lm_tensor *grad; /* leaves: the accumulated gradient, or NULL */
} lm_tensor;

/* New contiguous tensor, uninitialised. Errors: LM_ERR_SHAPE (negative, too large), LM_ERR_MEMORY. */
lm_status lm_tensor_new(lm_device *d, lm_dtype dtype, int ndim, const int64_t *shape,
                        lm_tensor **out);
lm_status lm_tensor_new_like(const lm_tensor *t, lm_tensor **out); /* contiguous, same shape */
/* Same storage, other geometry; checked against the storage's size. The view has no node. */
lm_status lm_tensor_view(const lm_tensor *t, int ndim, const int64_t *shape,
                         const int64_t *stride, int64_t offset, lm_tensor **out);
/* Same geometry and storage, no node, no requires_grad. */
lm_status lm_tensor_detach(const lm_tensor *t, lm_tensor **out);
/* Shape, dtype and device without any storage. */
lm_status lm_tensor_shape_only(const lm_tensor *t, lm_tensor **out);

static inline lm_tensor *lm_retain(lm_tensor *t)
{
  if (t) t->refs++;
  return t;
}
void lm_release(lm_tensor *t); /* NULL is fine */

int64_t lm_numel(const lm_tensor *t);
bool lm_is_contiguous(const lm_tensor *t);
bool lm_same_shape(const lm_tensor *a, const lm_tensor *b);

/* Pointer to the first element: const float *x = lm_data(t); */
static inline void *lm_data(const lm_tensor *t)
{
  return (char *)t->storage->data + t->offset * lm_dtype_size(t->dtype);
}

/* Size of dimension d, negative d counting from the end (-1: last). No range check. */
static inline int64_t lm_size(const lm_tensor *t, int d)
{
  return t->shape[d < 0 ? d + t->ndim : d];
}

/* "[2 x 3]" and "f32 cpu [2 x 3]"; the text lives in one of a few static buffers per thread,
 * long enough for one message. */
const char *lm_shape_text(int ndim, const int64_t *shape);
const char *lm_describe(const lm_tensor *t);

/* Broadcast two shapes after NumPy's rule. Errors: LM_ERR_SHAPE, prefixed by the caller. */
lm_status lm_broadcast_shapes(int na, const int64_t *a, int nb, const int64_t *b, int *nout,
                              int64_t *out);

/* Copies between host memory and a contiguous tensor. */
lm_status lm_tensor_write(lm_tensor *t, const void *host, size_t bytes);
lm_status lm_tensor_read(const lm_tensor *t, void *host, size_t bytes);

/* Mark an in-place write by operation `writer` (a string that lives for ever). */
static inline void lm_tensor_touch(lm_tensor *t, const char *writer)
{
  t->storage->version++;
  t->storage->writer = writer;
}

/* All live storages, newest first: for memory reports. */
const lm_storage *lm_storage_first(void);

#ifdef __cplusplus
}
#endif

#endif
