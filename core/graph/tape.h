/* tape.h: the autograd tape. Define by run: lm_apply records one node per call whose inputs
 * require a gradient; lm_backward walks the nodes from the newest to the oldest. */
#ifndef LUMEN_TAPE_H
#define LUMEN_TAPE_H

#include "graph/op.h"

/* An edge to what made an input: a node's output, or a leaf. */
typedef struct lm_edge {
  struct lm_node *node;
  int output;
  lm_tensor *leaf;
  bool remake; /* the input is not kept: the node makes it again */
} lm_edge;

typedef struct lm_node {
  int64_t refs;
  uint64_t sequence;   /* order of creation; edges always point to smaller numbers */
  lm_call call;        /* in, out, save: detached or shape-only copies */
  lm_edge *edge;       /* one per input; all NULL where no gradient is wanted */
  bool *wants;
  uint64_t *version;   /* of saved inputs, then saved outputs, at the time of the call */
  bool released;       /* backward has run and freed what was saved */
  void (*user_free)(const void *user);
  lm_tensor *gout[LM_MAX_OUT]; /* while backward runs */
  struct lm_node *heap_next;   /* while nodes are being freed */
  bool seen;                   /* while backward collects nodes */
} lm_node;

/* Record a finished call: called by lm_apply. */
lm_status lm_tape_record(lm_call *c, void (*user_free)(const void *));
void lm_node_release(lm_node *node);

/* d root / d leaf for all leaves below root, added to their .grad. `gradient` is NULL for a
 * one-element root (then 1). keep: the graph can be used again. Errors: root does not require
 * a gradient; gradient of another shape; the graph was freed by an earlier backward; a saved
 * tensor was overwritten in place (names both operations). */
lm_status lm_backward(lm_tensor *root, lm_tensor *gradient, bool keep);

#endif
