/* tensorfile.h: tensors in files: safetensors and npy (read and write), PyTorch
 * checkpoints (read).
 *
 * Reading gives views: shape, strides and a pointer into the file's bytes, checked to
 * stay inside them. Nothing is copied or converted until lm_stored_copy writes the
 * elements, row by row and in lumen's types, to memory that the caller owns. Files and
 * machine are little-endian. */
#ifndef LUMEN_IO_TENSORFILE_H
#define LUMEN_IO_TENSORFILE_H

#include "base/base.h"
#include "base/dtype.h"
#include "io/file.h"
#include "tensor/tensor.h" /* LM_MAX_DIMS */

/* Element types of files. Those without a counterpart widen: f16 to f32; i8, i16, u16 to
 * i32; u32 to i64; bool to u8. */
typedef enum lm_element {
  LM_EL_F64,
  LM_EL_F32,
  LM_EL_F16,
  LM_EL_BF16,
  LM_EL_I64,
  LM_EL_I32,
  LM_EL_I16,
  LM_EL_I8,
  LM_EL_U32,
  LM_EL_U16,
  LM_EL_U8,
  LM_EL_BOOL,
  LM_EL_COUNT
} lm_element;

typedef struct lm_element_info {
  int64_t size;
  lm_dtype dtype;          /* what it becomes */
  const char *safetensors; /* its name in each format; NULL: not there */
  const char *npy;         /* without the byte order */
  const char *torch;       /* as in torch.float32 */
  const char *storage;     /* as in torch.FloatStorage */
} lm_element_info;

extern const lm_element_info lm_elements[LM_EL_COUNT];

typedef struct lm_stored {
  lm_element element;
  int ndim;
  int64_t shape[LM_MAX_DIMS];
  int64_t stride[LM_MAX_DIMS]; /* in elements, >= 0 */
  int64_t count;               /* product of the shape */
  const void *data;            /* first element; may be unaligned */
} lm_stored;

static inline lm_dtype lm_stored_dtype(const lm_stored *t)
{
  return lm_elements[t->element].dtype;
}

/* Write count elements of lm_stored_dtype, row-major, to `out`. */
void lm_stored_copy(const lm_stored *t, void *out);

/* Fill ndim, shape and count, and row-major strides. LM_ERR_FORMAT for more than
 * LM_MAX_DIMS dimensions, a negative size or a byte count that overflows; `name` stands
 * in the message. */
lm_status lm_stored_shape(lm_stored *t, int64_t ndim, const int64_t *shape,
                          const char *name);

/* --- safetensors --- */

typedef struct lm_named {
  char *name;
  lm_stored tensor;
} lm_named;

typedef struct lm_pair {
  char *key, *value;
} lm_pair;

typedef struct lm_tensorfile {
  lm_named *entries; /* sorted by name */
  int64_t count;
  lm_pair *metadata; /* sorted by key */
  int64_t metadata_count;
  lm_bytes bytes;
} lm_tensorfile;

/* LM_ERR_IO, LM_ERR_FORMAT (what the format forbids: overlaps, holes, sizes that do not
 * match shapes, names twice), LM_ERR_UNSUPPORTED (element type). */
lm_status lm_safetensors_open(lm_tensorfile *out, const char *path);
/* The same on bytes in memory, which `out` takes over even when it fails. */
lm_status lm_safetensors_parse(lm_tensorfile *out, lm_bytes *bytes, const char *name);
void lm_tensorfile_close(lm_tensorfile *file);

/* A tensor to write: contiguous, row-major. */
typedef struct lm_source {
  const char *name;
  lm_dtype dtype;
  int ndim;
  int64_t shape[LM_MAX_DIMS];
  const void *data;
} lm_source;

/* Write atomically. The header is sorted by name; data are laid out by element size, then
 * by name, so that every tensor is aligned. Sorts the two lists in place. LM_ERR_ARG: a
 * name twice, "__metadata__", or not UTF-8. */
lm_status lm_safetensors_save(const char *path, lm_source *tensors, int64_t count,
                              lm_pair *metadata, int64_t metadata_count);

/* --- npy --- */

/* NumPy's format 1, 2 and 3; Fortran order becomes strides. `t` points into `bytes`. */
lm_status lm_npy_open(lm_bytes *bytes, lm_stored *t, const char *path);
lm_status lm_npy_parse(lm_stored *t, const void *data, size_t size, const char *name);
/* Write atomically (version 1). LM_ERR_UNSUPPORTED: bf16, which NumPy does not have. */
lm_status lm_npy_save(const char *path, const lm_source *t);

#endif
