/* convolve.h: two-dimensional convolution on the CPU in its three directions, on plain
 * memory. The operations conv2d, conv_transpose2d and their gradients are thin layers
 * on it.
 *
 * All arrays are contiguous, f32 or f64. Channel counts are those of one group: an
 * image has groups * in_channels channels on the input side and groups * out_channels
 * on the output side; the weight is [groups * out_channels, in_channels, kernel[0],
 * kernel[1]]. The caller guarantees out = (in + 2 padding - dilation (kernel - 1) - 1)
 * / stride + 1 >= 1. */
#ifndef LUMEN_CONVOLVE_H
#define LUMEN_CONVOLVE_H

#include "tensor/tensor.h"

typedef struct lm_conv {
  lm_device *device; /* whose memory the workspace comes from */
  lm_dtype dtype;
  int64_t images, groups, in_channels, out_channels;
  int64_t in[2], out[2]; /* rows, columns */
  int64_t kernel[2], stride[2], padding[2], dilation[2];
} lm_conv;

/* y = convolution of x + bias (NULL: none). Error of all three: LM_ERR_MEMORY. */
lm_status lm_conv_forward(const lm_conv *v, const void *x, const void *weight,
                          const void *bias, void *y);
/* x = adjoint of the convolution applied to y + bias, one number per input channel. */
lm_status lm_conv_adjoint(const lm_conv *v, const void *y, const void *weight,
                          const void *bias, void *x);
/* gweight = gradient of sum(gy * convolution of x) with respect to the weight. */
lm_status lm_conv_weight(const lm_conv *v, const void *x, const void *gy, void *gweight);

#endif
