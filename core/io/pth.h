/* pth.h: reading what PyTorch's torch.save wrote (.pth, .pt): the zip format (1.6 and
 * later) and the older plain stream.
 *
 * The pickle inside is interpreted by a machine that knows a few constructors of tensors
 * and containers and runs nothing: every other class is kept as an opaque value. The
 * result is a graph of tagged values; containers may be shared and may even contain
 * themselves, so walk it with a memory of the indices already seen. */
#ifndef LUMEN_IO_PTH_H
#define LUMEN_IO_PTH_H

#include "base/base.h"
#include "io/file.h"
#include "io/tensorfile.h"

typedef enum lm_pth_kind {
  LM_PTH_NIL,
  LM_PTH_BOOL,
  LM_PTH_INT,
  LM_PTH_FLOAT,
  LM_PTH_STRING, /* text and bytes */
  LM_PTH_LIST,   /* list, tuple, set */
  LM_PTH_DICT,   /* items: key, value, key, value ... in the file's order */
  LM_PTH_TENSOR,
  LM_PTH_OPAQUE, /* a class, or an object of a class that is not known here */
  LM_PTH_STORAGE /* a tensor's storage standing alone: treat as opaque, without parts */
} lm_pth_kind;

typedef struct lm_pth_value lm_pth_value;
struct lm_pth_value {
  lm_pth_kind kind;
  uint32_t index; /* 0 .. tree->count - 1, one per value */
  union {
    bool boolean;
    int64_t integer;
    double real;
    struct {
      const char *data; /* not terminated */
      size_t size;
    } string;
    struct {
      lm_pth_value **items;
      size_t count, capacity;
    } list; /* LIST and DICT (count is even) */
    lm_stored *tensor;
    struct {
      const char *class_name;             /* "module.name" */
      lm_pth_value *args, *state, *items; /* what it was built from; each may be NULL */
    } opaque;
    struct lm_pth_storage *storage;
  } as;
};

typedef struct lm_pth_tree {
  lm_pth_value *root;
  uint32_t count;                  /* values */
  struct lm_pth_arena *arena;      /* owns values, names, tensors */
  struct lm_pth_storage *storages; /* newest first */
  struct lm_pth_storage **buckets; /* the same, by key */
  struct lm_pth_use *uses;         /* which tensor lies in which storage */
  uint32_t storage_count;
  lm_bytes bytes; /* the file, or the part of it that strings point into */
} lm_pth_tree;

/* LM_ERR_IO, LM_ERR_FORMAT, LM_ERR_UNSUPPORTED, LM_ERR_MEMORY. */
lm_status lm_pth_open(lm_pth_tree *out, const char *path);
/* The same on bytes in memory, which `out` takes over even when it fails. */
lm_status lm_pth_parse(lm_pth_tree *out, lm_bytes *bytes, const char *name);
void lm_pth_close(lm_pth_tree *tree);

#endif
