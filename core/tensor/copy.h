/* copy.h: copying between any two strided layouts in host memory.
 *
 * The one routine behind contiguous(), reshape of permuted tensors, cat, pad, roll and
 * the like. It knows nothing of tensors: shapes, strides in elements, element size in
 * bytes. */
#ifndef LUMEN_COPY_H
#define LUMEN_COPY_H

#include <stdint.h>

/* dst[i...] = src[i...] for every index of `shape` [ndim <= 12]. Pointers are to the
 * element with index 0; strides count elements, may be negative, and those of src may be
 * 0 (broadcast). The two must not overlap. Any element size; 1, 2, 4 and 8 bytes are
 * fast. */
void lm_copy_strided(int ndim, const int64_t *shape, int64_t element_size,
                     const void *src, const int64_t *src_stride, void *dst,
                     const int64_t *dst_stride);

#endif
