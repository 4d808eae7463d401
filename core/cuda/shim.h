/* shim.h: the device "shim": kernels of the cards, compiled by the host's compiler and run
 * thread by thread on the CPU, to find what is wrong in them where no card is.
 *
 * Memory comes from malloc in exactly the size asked for (no cache: AddressSanitizer sees
 * every step outside) and starts as NaN, as shared memory does. A thread runs until its next
 * barrier, then the next one; the whole launch runs three times, with blocks and threads in
 * ascending, descending and shuffled order, each time on the same data. Other bits in another
 * order, or a barrier that some threads never reach, are errors that name the operation.
 *
 * cuda/kernel.h makes from this what a kernel sees as CUDA. */
#ifndef LUMEN_SHIM_H
#define LUMEN_SHIM_H

#include "tensor/device.h"

#ifdef __cplusplus
extern "C" {
#endif

lm_device *lm_shim_device(void);

/* An argument that may lead to memory the kernel writes: a pointer or a structure with
 * pointers in it. */
typedef struct lm_shim_word {
  const void *at;
  size_t size;
} lm_shim_word;

typedef struct lm_shim_launch {
  const char *op, *kernel;
  uint32_t grid[3], block[3];
  size_t dynamic; /* bytes of dynamic shared memory */
  void (*run)(const void *arguments); /* the kernel, for the thread in lm_shim_now */
  const void *arguments;
  int words;
  lm_shim_word word[16];
} lm_shim_launch;

lm_status lm_shim_run(const lm_shim_launch *l);

/* ---- for the running thread ---- */

typedef struct lm_shim_index {
  uint32_t x, y, z;
} lm_shim_index;

extern struct lm_shim_place {
  lm_shim_index thread, block, block_dim, grid_dim;
  uint32_t lane; /* within its warp */
} lm_shim_now;

/* Wait for all threads of the block; file and line say which barrier it is. */
void lm_shim_barrier(const char *file, int line);
/* Lay `size` <= 16 bytes before the warp and wait for its other lanes; returns what all 32
 * have laid down, 16 bytes apart, valid until the next exchange. */
const char *lm_shim_exchange(const void *mine, size_t size, const char *file, int line);
/* The block's shared memory called `id` (an address of its own; NULL: the dynamic one). */
void *lm_shim_shared(const void *id, size_t bytes);

#ifdef __cplusplus
}
#endif

#endif
