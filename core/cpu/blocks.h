/* blocks.h: memory for tensors of the CPU. What is given back is kept and used again, because
 * fresh pages cost more than most operations that would write them. Main thread only. */
#ifndef LUMEN_BLOCKS_H
#define LUMEN_BLOCKS_H

#include <stddef.h>

/* At least `bytes` bytes, aligned to 64; NULL when the system has none. *cached changes by what
 * the call took from the kept memory or added to it. */
void *lm_block_take(size_t bytes, size_t *cached);
/* Give back a block taken with the same `bytes`. */
void lm_block_give(void *block, size_t bytes, size_t *cached);
/* Return what is kept to the system. */
void lm_blocks_trim(size_t *cached);

#endif
