/* profile.h: where the time and the memory go: per operation while a profile runs.
 *
 * lm_apply reports every kernel it runs. Flops and bytes are what the arithmetic needs: each
 * operand read once, each result written once; an operation with other needs says so itself
 * (lm_op.work). Memory: who owned what when most was in use (within 2 %). */
#ifndef LUMEN_PROFILE_H
#define LUMEN_PROFILE_H

#include "graph/op.h"

typedef struct lm_profile_row {
  const lm_op *op;
  double seconds, flops, bytes;
  int64_t calls;
  double made; /* bytes of results and of what was saved for backward */
} lm_profile_row;

typedef struct lm_profile_owner {
  const char *maker; /* operation that made the storage */
  size_t bytes;
} lm_profile_owner;

typedef struct lm_profile_event {
  const lm_op *op;
  double start, seconds, flops, bytes; /* start: since lm_profile_start */
  int64_t shape[LM_MAX_DIMS];          /* of the first result */
  int ndim;
  lm_dtype dtype;
} lm_profile_event;

typedef struct lm_profile {
  double seconds; /* from start to stop */
  lm_profile_row *rows;
  int row_count;
  size_t peak; /* most bytes in use */
  lm_profile_owner *owners;
  int owner_count;
  lm_profile_event *events; /* when tracing */
  int64_t event_count, dropped;
} lm_profile;

extern bool lm_profile_on;

/* Forget what was measured and measure anew; tracing keeps every single call as well. */
void lm_profile_start(bool tracing);
void lm_profile_stop(void);
/* What was measured since the last start. Belongs to the profile. */
const lm_profile *lm_profile_get(void);

/* For lm_apply: the kernel of call c ran from `start` (lm_time) to now. */
void lm_profile_add(const lm_call *c, double start);

#endif
