/* file.h: files as bytes: reading whole, mapping, writing atomically, directories, a
 * content hash.
 *
 * Writing is atomic everywhere: bytes go to a new file beside the target, which is synced
 * and renamed over it, then the directory is synced. A reader sees the old file or the
 * new one, never a part; a failed write leaves the old file and nothing else. */
#ifndef LUMEN_IO_FILE_H
#define LUMEN_IO_FILE_H

#include "base/base.h"

/* The bytes of a file, on the heap or mapped. {0} is empty; free with lm_bytes_free. */
typedef struct lm_bytes {
  unsigned char *data; /* NULL when size is 0 */
  size_t size;
  size_t capacity; /* heap only: room behind data */
  bool mapped;     /* read-only */
} lm_bytes;

void lm_bytes_free(lm_bytes *bytes);
/* Append to a heap buffer. LM_ERR_MEMORY when it cannot grow. */
lm_status lm_bytes_append(lm_bytes *bytes, const void *data, size_t size);

/* Read a regular file of at most `limit` bytes. LM_ERR_IO, LM_ERR_FORMAT (over the
 * limit). */
lm_status lm_file_read(lm_bytes *out, const char *path, size_t limit);
/* Map a regular file for reading. The mapping outlives a rename over the file; a file
 * that is cut short while it is mapped is the one thing it does not survive. */
lm_status lm_file_map(lm_bytes *out, const char *path);

/* The content of gzip bytes, all members one after the other. LM_ERR_FORMAT when they are
 * damaged, cut short, or hold more than `limit` bytes. */
lm_status lm_bytes_gunzip(lm_bytes *out, const void *data, size_t size, size_t limit);

/* A file being written aside. On any error before the commit: lm_aside_abandon. */
typedef struct lm_aside {
  int descriptor;
  char *path;      /* the target */
  char *temporary; /* "<path>.<pid>-<serial>.tmp" */
} lm_aside;

lm_status lm_aside_open(lm_aside *aside, const char *path);
lm_status lm_aside_write(lm_aside *aside, const void *data, size_t size);
/* Sync, rename over the target, sync the directory. Closes `aside` whatever happens. */
lm_status lm_aside_commit(lm_aside *aside);
void lm_aside_abandon(lm_aside *aside);

/* Replace the content of `path` in one step. */
lm_status lm_file_write(const char *path, const void *data, size_t size);

/* Rename, over an existing file if there is one, and sync the directory. */
lm_status lm_file_rename(const char *from, const char *to);

/* Force a file's or a directory's content to the disk. */
lm_status lm_file_sync(const char *path);

/* Make a directory and its parents; one that exists is no error. */
lm_status lm_dir_make(const char *path);
/* Delete a directory and everything in it, without following links. `path` has to lie
 * strictly inside `root` (both are resolved first), so that a wrong path cannot reach
 * further than the caller meant. Deleting what is not there is no error. */
lm_status lm_dir_remove(const char *path, const char *root);
/* Names in a directory without "." and "..", sorted by their bytes. Free each and the
 * list. */
lm_status lm_dir_list(char ***names, size_t *count, const char *path);

/* 64-bit hash of bytes, for cache keys and fingerprints; not for secrets. The value is
 * the same on every machine: word by word xor-multiply-shift with the length folded in.
 */
uint64_t lm_bytes_hash(const void *data, size_t size, uint64_t seed);

#endif
