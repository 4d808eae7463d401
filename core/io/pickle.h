/* pickle.h: the pickle machine behind pth.c, and the parts of a value tree that only the
 * two of them see. */
#ifndef LUMEN_IO_PICKLE_H
#define LUMEN_IO_PICKLE_H

#include "io/pth.h"

#define LM_PTH_BUCKETS 4096

/* A storage named by the pickle; data are filled in by pth.c afterwards. */
typedef struct lm_pth_storage {
  const char *key; /* terminated */
  lm_element element;
  bool untyped;  /* a storage of bytes; its tensors say their type */
  int64_t count; /* elements */
  unsigned char *data;
  struct lm_pth_storage *next, *next_in_bucket;
} lm_pth_storage;

typedef struct lm_pth_use {
  lm_stored *tensor;
  lm_pth_storage *storage;
  int64_t offset; /* of the tensor's first element, in its elements */
  struct lm_pth_use *next;
} lm_pth_use;

/* Zeroed memory that lives as long as the tree. */
lm_status lm_pth_alloc(lm_pth_tree *tree, void *out_pointer, size_t size);

/* Run one pickle at bytes[0 .. size) up to its STOP. Values may point into `bytes`.
 * `used` is its length. */
lm_status lm_pickle_run(lm_pth_tree *tree, const unsigned char *bytes, size_t size,
                        const char *name, lm_pth_value **root, size_t *used);

/* What a callable (an opaque class) makes of its arguments (a list): tensors and
 * containers that are known, or an opaque object. In pickle_build.c. */
lm_status lm_pickle_reduce(lm_pth_tree *tree, lm_pth_value *callable, lm_pth_value *args,
                           lm_pth_value **out);
/* The storage that a persistent id (a list) stands for. */
lm_status lm_pickle_storage(lm_pth_tree *tree, const lm_pth_value *id,
                            lm_pth_value **out);

lm_status lm_pth_new(lm_pth_tree *tree, lm_pth_kind kind, lm_pth_value **out);
lm_status lm_pth_append(lm_pth_tree *tree, lm_pth_value *list, lm_pth_value *item);

#endif
