/* fibre.h: stacks that take turns: one scheduler, and fibres that it enters and that leave
 * back to it. What the threads of a block are made of on the shim device. */
#ifndef LUMEN_FIBRE_H
#define LUMEN_FIBRE_H

#include "base/base.h"

typedef struct lm_fibre lm_fibre;

/* A fibre that runs main() when first entered. main must never return. Fails with
 * LM_ERR_MEMORY. Running off the end of its stack is a segmentation fault. */
lm_status lm_fibre_new(void (*main)(void), lm_fibre **out);
void lm_fibre_free(lm_fibre *f); /* whatever it was in the middle of */

void lm_fibre_enter(lm_fibre *f); /* returns when f leaves */
void lm_fibre_leave(void);        /* called on a fibre; returns when it is entered again */

#endif
