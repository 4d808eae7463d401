/* signatures.c: signatures of a loader's images, by all threads, and the file they are kept
 * in. */
#include "io/signatures.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/file.h"
#include "io/imagefile.h"

/* Another heading when signatures change: the old file is left alone. */
static const char heading[16] = "signatures 1\n";

typedef struct record {
  uint64_t key;
  int8_t signature[LM_SIGNATURE];
} record;

/* ---- what is in the file ---- */

typedef struct known {
  lm_bytes bytes; /* the mapped file */
  const record *records;
  int64_t *slot; /* 1 + record number by key, open addressing; 0: free */
  size_t mask;
} known;

static void forget(known *k)
{
  free(k->slot);
  lm_bytes_free(&k->bytes);
}

static const int8_t *look_up(const known *k, uint64_t key)
{
  for (size_t at = key & k->mask; k->slot && k->slot[at]; at = (at + 1) & k->mask)
    if (k->records[k->slot[at] - 1].key == key) return k->records[k->slot[at] - 1].signature;
  return NULL;
}

static lm_status recall(known *k, const char *path)
{
  if (!path || access(path, F_OK) != 0) return LM_OK;
  LM_TRY(lm_file_map(&k->bytes, path));
  size_t size = k->bytes.size, start = size < sizeof heading ? size : sizeof heading;
  if (start > 0 && memcmp(k->bytes.data, heading, start) != 0)
    return lm_fail(LM_ERR_FORMAT, "%s: no file of signatures", path);
  if (size <= sizeof heading) return LM_OK; /* as after a crash: nothing is in it yet */
  k->records = (const record *)(const void *)(k->bytes.data + sizeof heading);
  size_t count = (size - sizeof heading) / sizeof *k->records, room = 16;
  while (room < 2 * count) room *= 2;
  LM_TRY(lm_calloc(&k->slot, room, sizeof *k->slot));
  k->mask = room - 1;
  for (size_t i = 0; i < count; i++) {
    size_t at = k->records[i].key & k->mask;
    while (k->slot[at]) at = (at + 1) & k->mask;
    k->slot[at] = (int64_t)i + 1;
  }
  return LM_OK;
}

static lm_status write_all(int fd, const void *data, size_t size, const char *path)
{
  const char *p = data;
  while (size > 0) {
    ssize_t n = write(fd, p, size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return lm_fail(LM_ERR_IO, "%s: cannot write: %s", path, strerror(errno));
    p += n;
    size -= (size_t)n;
  }
  return LM_OK;
}

static lm_status append(int fd, const char *path, const record *fresh, size_t count)
{
  struct stat info;
  if (flock(fd, LOCK_EX) != 0 || fstat(fd, &info) != 0)
    return lm_fail(LM_ERR_IO, "%s: cannot lock: %s", path, strerror(errno));
  off_t whole = 0;
  if ((size_t)info.st_size >= sizeof heading)
    whole = (off_t)(sizeof heading + ((size_t)info.st_size - sizeof heading) / sizeof *fresh *
                                         sizeof *fresh);
  if (whole != info.st_size && ftruncate(fd, whole) != 0)
    return lm_fail(LM_ERR_IO, "%s: cannot cut: %s", path, strerror(errno));
  if (whole == 0) LM_TRY(write_all(fd, heading, sizeof heading, path));
  return write_all(fd, fresh, count * sizeof *fresh, path);
}

static lm_status keep(const char *path, const record *fresh, size_t count)
{
  int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0) return lm_fail(LM_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
  lm_status status = append(fd, path, fresh, count);
  close(fd);
  return status;
}

/* ---- making them ---- */

static lm_status make(const lm_bytes *bytes, const char *name, int8_t *out)
{
  lm_image image = {0};
  LM_TRY(lm_image_decode(&image, bytes->data, bytes->size, name, true));
  lm_image_reduce(&image);
  lm_status status = lm_signature_make(image.pixels, image.height, image.width, out);
  lm_image_free(&image);
  return status;
}

/* Sets *key, and *made when the signature was not known. */
static lm_status signature_of(lm_loader *l, int64_t item, const known *k, int8_t *out,
                              uint64_t *key, bool *made)
{
  lm_bytes bytes = {0};
  LM_TRY(lm_loader_read(l, item, &bytes));
  *key = lm_bytes_hash(bytes.data, bytes.size, 0);
  const int8_t *old = look_up(k, *key);
  *made = !old;
  lm_status status = LM_OK;
  if (old) memcpy(out, old, LM_SIGNATURE);
  else status = make(&bytes, lm_loader_name(l, item), out);
  lm_bytes_free(&bytes);
  return status;
}

typedef struct outcome {
  uint64_t key;
  bool made, failed;
} outcome;

typedef struct work {
  lm_loader *loader;
  known known;
  const char *cache; /* NULL: nothing is kept */
  outcome *outcome;
  int8_t *out;
  int64_t unreadable; /* the first item that cannot be read, or -1 */
  lm_error error;     /* why */
} work;

/* Items `first` to `last` - 1, by all threads. */
static void make_some(work *w, int64_t first, int64_t last)
{
#pragma omp parallel for schedule(dynamic, 8)
  for (int64_t i = first; i < last; i++) {
    outcome *o = &w->outcome[i];
    int8_t *to = w->out + i * LM_SIGNATURE;
    o->failed = signature_of(w->loader, i, &w->known, to, &o->key, &o->made) != LM_OK;
    if (!o->failed) continue;
    memset(to, 0, LM_SIGNATURE);
#pragma omp critical(lm_signatures)
    if (w->unreadable < 0 || i < w->unreadable) {
      w->unreadable = i;
      w->error = *lm_last_error();
    }
  }
}

/* Add what was made of them to the file; one that cannot be written is left alone then. */
static lm_status keep_made(work *w, int64_t first, int64_t last)
{
  record *fresh;
  size_t n = 0;
  LM_TRY(lm_calloc(&fresh, (size_t)(last - first), sizeof *fresh));
  for (int64_t i = first; i < last; i++) {
    if (!w->outcome[i].made || w->outcome[i].failed) continue;
    fresh[n].key = w->outcome[i].key;
    memcpy(fresh[n++].signature, w->out + i * LM_SIGNATURE, LM_SIGNATURE);
  }
  if (n > 0 && keep(w->cache, fresh, n) != LM_OK) {
    lm_log(LM_LOG_WARN, "signatures are not kept: %s", lm_last_error()->message);
    w->cache = NULL;
  }
  free(fresh);
  return LM_OK;
}

/* In pieces: what is done stays when the rest is stopped. */
static lm_status make_all(work *w, int64_t count, bool (*stop)(void))
{
  enum { PIECE = 1024 };
  for (int64_t first = 0; first < count; first += PIECE) {
    int64_t last = lm_min64(first + PIECE, count);
    make_some(w, first, last);
    if (w->cache) LM_TRY(keep_made(w, first, last));
    if (stop()) return lm_fail(LM_ERR_INTERRUPT, "interrupted");
  }
  return LM_OK;
}

lm_status lm_signatures_of(lm_loader *l, const char *cache, bool (*stop)(void), int8_t *out,
                           int64_t *bad)
{
  int64_t count = lm_loader_count(l);
  work w = {.loader = l, .cache = cache, .out = out, .unreadable = -1};
  if (recall(&w.known, cache) != LM_OK) {
    lm_log(LM_LOG_WARN, "%s", lm_last_error()->message);
    forget(&w.known);
    w.known = (known){0};
    w.cache = NULL;
  }
  lm_status status = lm_calloc(&w.outcome, (size_t)count, sizeof *w.outcome);
  if (status == LM_OK) status = make_all(&w, count, stop);
  *bad = 0;
  for (int64_t i = 0; status == LM_OK && i < count; i++) *bad += w.outcome[i].failed;
  if (status == LM_OK && *bad > 0) lm_error_set(&w.error);
  free(w.outcome);
  forget(&w.known);
  return status;
}
