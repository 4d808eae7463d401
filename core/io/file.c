/* file.c: reading, mapping and atomic writing of files; directories; the content hash.
 * Every message names the path and the operating system's reason. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* asprintf, nftw */
#endif
#include "io/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

static lm_status fail_errno(const char *path, const char *what)
{
  return lm_fail(LM_ERR_IO, "%s: %s: %s", path, what, strerror(errno));
}

void lm_bytes_free(lm_bytes *bytes)
{
  if (bytes->mapped) {
    munmap(bytes->data, bytes->size);
  } else {
    free(bytes->data);
  }
  *bytes = (lm_bytes){0};
}

lm_status lm_bytes_append(lm_bytes *bytes, const void *data, size_t size)
{
  if (size == 0) return LM_OK;
  if (size > SIZE_MAX / 4 - bytes->size)
    return lm_fail(LM_ERR_MEMORY, "buffer too large");
  if (bytes->size + size > bytes->capacity) {
    size_t capacity = 2 * (bytes->size + size) + 256;
    unsigned char *grown = realloc(bytes->data, capacity);
    if (!grown) return lm_fail(LM_ERR_MEMORY, "out of memory: %zu bytes", capacity);
    bytes->data = grown;
    bytes->capacity = capacity;
  }
  memcpy(bytes->data + bytes->size, data, size);
  bytes->size += size;
  return LM_OK;
}

/* Open for reading; only regular files, so that a pipe or a device cannot hang the
 * program. */
static lm_status open_regular(const char *path, int *descriptor, size_t *size)
{
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return fail_errno(path, "cannot open");
  struct stat info;
  lm_status status = LM_OK;
  if (fstat(fd, &info) != 0) {
    status = fail_errno(path, "cannot read");
  } else if (S_ISDIR(info.st_mode)) {
    status = lm_fail(LM_ERR_IO, "%s: is a directory", path);
  } else if (!S_ISREG(info.st_mode)) {
    status = lm_fail(LM_ERR_IO, "%s: not a regular file", path);
  }
  if (status != LM_OK) {
    close(fd);
    return status;
  }
  *descriptor = fd;
  *size = (size_t)info.st_size;
  return LM_OK;
}

static lm_status read_all(int fd, const char *path, unsigned char *data, size_t size)
{
  for (size_t done = 0; done < size;) {
    ssize_t n = read(fd, data + done, size - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(path, "cannot read");
    if (n == 0) return lm_fail(LM_ERR_IO, "%s: shrank while it was read", path);
    done += (size_t)n;
  }
  return LM_OK;
}

lm_status lm_file_read(lm_bytes *out, const char *path, size_t limit)
{
  *out = (lm_bytes){0};
  int fd = -1;
  size_t size = 0;
  LM_TRY(open_regular(path, &fd, &size));
  lm_status status = LM_OK;
  if (size > limit) {
    status = lm_fail(LM_ERR_FORMAT, "%s: %zu bytes are more than the limit of %zu", path,
                     size, limit);
  } else if (size > 0) {
    status = lm_calloc(&out->data, size, 1);
    if (status == LM_OK) status = read_all(fd, path, out->data, size);
  }
  close(fd);
  out->size = out->capacity = size;
  if (status != LM_OK) lm_bytes_free(out);
  return status;
}

lm_status lm_file_map(lm_bytes *out, const char *path)
{
  *out = (lm_bytes){0};
  int fd = -1;
  size_t size = 0;
  LM_TRY(open_regular(path, &fd, &size));
  if (size > 0) {
    void *data = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED) {
      lm_status status = fail_errno(path, "cannot map");
      close(fd);
      return status;
    }
    *out = (lm_bytes){.data = data, .size = size, .mapped = true};
  }
  close(fd);
  return LM_OK;
}

/* Inflate until the input ends; a member that ends is followed by another or by nothing. */
static lm_status inflate_members(z_stream *z, lm_bytes *out, size_t left, size_t limit)
{
  unsigned char block[1 << 15];
  int code = Z_OK;
  while (code != Z_STREAM_END || z->avail_in > 0 || left > 0) {
    if (code == Z_STREAM_END && inflateReset(z) != Z_OK) break;
    if (z->avail_in == 0) { /* its counter has 32 bits */
      z->avail_in = left < (1u << 30) ? (uInt)left : 1u << 30;
      left -= z->avail_in;
    }
    z->next_out = block;
    z->avail_out = sizeof block;
    code = inflate(z, Z_NO_FLUSH);
    if (code == Z_MEM_ERROR) return lm_fail(LM_ERR_MEMORY, "gunzip: out of memory");
    if (code == Z_BUF_ERROR) return lm_fail(LM_ERR_FORMAT, "gunzip: the data are cut short");
    if (code != Z_OK && code != Z_STREAM_END)
      return lm_fail(LM_ERR_FORMAT, "gunzip: damaged data (%s)", z->msg ? z->msg : "no gzip");
    size_t size = sizeof block - z->avail_out;
    if (size > limit - out->size)
      return lm_fail(LM_ERR_FORMAT, "gunzip: more than the limit of %zu bytes", limit);
    LM_TRY(lm_bytes_append(out, block, size));
  }
  return LM_OK;
}

lm_status lm_bytes_gunzip(lm_bytes *out, const void *data, size_t size, size_t limit)
{
  *out = (lm_bytes){0};
  z_stream z = {.next_in = (z_const Bytef *)data};
  if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK) /* 16: a gzip header, no other */
    return lm_fail(LM_ERR_MEMORY, "gunzip: out of memory");
  lm_status status = inflate_members(&z, out, size, limit);
  inflateEnd(&z);
  if (status != LM_OK) lm_bytes_free(out);
  return status;
}

lm_status lm_aside_open(lm_aside *aside, const char *path)
{
  static atomic_uint serial;
  *aside = (lm_aside){.descriptor = -1};
  aside->path = strdup(path);
  if (asprintf(&aside->temporary, "%s.%ld-%u.tmp", path, (long)getpid(),
               atomic_fetch_add(&serial, 1u)) < 0) {
    aside->temporary = NULL;
  }
  if (!aside->path || !aside->temporary) {
    lm_aside_abandon(aside);
    return lm_fail(LM_ERR_MEMORY, "%s: out of memory", path);
  }
  aside->descriptor =
      open(aside->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, (mode_t)0666);
  if (aside->descriptor < 0) {
    lm_status status = fail_errno(path, "cannot write");
    lm_aside_abandon(aside);
    return status;
  }
  return LM_OK;
}

lm_status lm_aside_write(lm_aside *aside, const void *data, size_t size)
{
  const unsigned char *bytes = data;
  for (size_t done = 0; done < size;) {
    size_t piece = size - done < (1u << 30) ? size - done : (1u << 30);
    ssize_t n = write(aside->descriptor, bytes + done, piece);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(aside->path, "cannot write");
    done += (size_t)n;
  }
  return LM_OK;
}

lm_status lm_file_sync(const char *path)
{
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return fail_errno(path, "cannot open");
  int result = fsync(fd);
  /* Some network file systems cannot sync a directory; that must not stop a run. */
  if (result != 0 && (errno == EINVAL || errno == ENOTSUP)) result = 0;
  lm_status status = result == 0 ? LM_OK : fail_errno(path, "cannot sync");
  close(fd);
  return status;
}

/* Sync the directory that holds `path`, so that the rename survives a power cut. */
static lm_status sync_parent(const char *path)
{
  const char *slash = strrchr(path, '/');
  size_t length = slash ? (size_t)(slash - path) : 0;
  char *parent = slash ? strndup(path, length > 0 ? length : 1) : strdup(".");
  if (!parent) return lm_fail(LM_ERR_MEMORY, "%s: out of memory", path);
  lm_status status = lm_file_sync(parent);
  free(parent);
  return status;
}

lm_status lm_aside_commit(lm_aside *aside)
{
  lm_status status = LM_OK;
  if (fsync(aside->descriptor) != 0) status = fail_errno(aside->path, "cannot sync");
  int closed = close(aside->descriptor);
  aside->descriptor = -1;
  if (status == LM_OK && closed != 0) status = fail_errno(aside->path, "cannot write");
  if (status == LM_OK && rename(aside->temporary, aside->path) != 0) {
    status = fail_errno(aside->path, "cannot replace");
  }
  if (status == LM_OK) {
    status = sync_parent(aside->path);
    free(aside->temporary);
    aside->temporary = NULL;
  }
  lm_aside_abandon(aside);
  return status;
}

void lm_aside_abandon(lm_aside *aside)
{
  if (aside->descriptor >= 0) close(aside->descriptor);
  if (aside->temporary) unlink(aside->temporary);
  free(aside->path);
  free(aside->temporary);
  *aside = (lm_aside){.descriptor = -1};
}

lm_status lm_file_write(const char *path, const void *data, size_t size)
{
  lm_aside aside;
  LM_TRY(lm_aside_open(&aside, path));
  lm_status status = lm_aside_write(&aside, data, size);
  if (status == LM_OK) return lm_aside_commit(&aside);
  lm_aside_abandon(&aside);
  return status;
}

lm_status lm_file_rename(const char *from, const char *to)
{
  if (rename(from, to) == 0) return sync_parent(to);
  return lm_fail(LM_ERR_IO, "%s: cannot rename to %s: %s", from, to, strerror(errno));
}

static lm_status make_one(const char *path)
{
  if (mkdir(path, 0777) == 0) return LM_OK;
  int reason = errno;
  struct stat info;
  if (stat(path, &info) == 0) {
    if (S_ISDIR(info.st_mode)) return LM_OK;
    return lm_fail(LM_ERR_IO, "%s: exists and is not a directory", path);
  }
  errno = reason;
  return fail_errno(path, "cannot make the directory");
}

lm_status lm_dir_make(const char *path)
{
  if (path[0] == '\0')
    return lm_fail(LM_ERR_ARG, "cannot make a directory without a name");
  char *copy = strdup(path);
  if (!copy) return lm_fail(LM_ERR_MEMORY, "%s: out of memory", path);
  lm_status status = LM_OK;
  for (char *p = copy + 1; status == LM_OK && *p; p++) {
    if (*p != '/') continue;
    *p = '\0';
    status = make_one(copy);
    *p = '/';
  }
  if (status == LM_OK) status = make_one(copy);
  free(copy);
  return status;
}

static int remove_one(const char *path, const struct stat *info, int type,
                      struct FTW *walk)
{
  (void)info, (void)type, (void)walk;
  return remove(path);
}

lm_status lm_dir_remove(const char *path, const char *root)
{
  char inside[PATH_MAX], outside[PATH_MAX];
  struct stat info;
  if (lstat(path, &info) != 0) {
    return errno == ENOENT ? LM_OK : fail_errno(path, "cannot delete");
  }
  if (!S_ISDIR(info.st_mode)) return lm_fail(LM_ERR_ARG, "%s: not a directory", path);
  if (!realpath(path, inside)) return fail_errno(path, "cannot delete");
  if (!realpath(root, outside)) return fail_errno(root, "cannot resolve");
  size_t n = strcmp(outside, "/") == 0 ? 0 : strlen(outside);
  if (strncmp(inside, outside, n) != 0 || inside[n] != '/' || inside[n + 1] == '\0') {
    return lm_fail(LM_ERR_ARG, "%s: does not lie inside %s, so it is not deleted", path,
                   root);
  }
  if (nftw(inside, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0) {
    return fail_errno(path, "cannot delete");
  }
  return LM_OK;
}

static int by_bytes(const void *a, const void *b)
{
  return strcmp(*(char *const *)a, *(char *const *)b);
}

lm_status lm_dir_list(char ***names, size_t *count, const char *path)
{
  *names = NULL;
  *count = 0;
  DIR *dir = opendir(path);
  if (!dir) return fail_errno(path, "cannot list");
  lm_status status = LM_OK;
  char **list = NULL;
  size_t n = 0, capacity = 0;
  for (;;) {
    errno = 0;
    struct dirent *entry = readdir(dir);
    if (!entry) {
      if (errno != 0) status = fail_errno(path, "cannot list");
      break;
    }
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    if (n == capacity) {
      capacity = 2 * capacity + 64;
      char **grown = realloc(list, capacity * sizeof *list);
      if (grown) list = grown;
      if (!grown) status = lm_fail(LM_ERR_MEMORY, "%s: out of memory", path);
    }
    if (status == LM_OK && !(list[n] = strdup(entry->d_name))) {
      status = lm_fail(LM_ERR_MEMORY, "%s: out of memory", path);
    }
    if (status != LM_OK) break;
    n++;
  }
  closedir(dir);
  if (status != LM_OK) {
    while (n > 0)
      free(list[--n]);
    free(list);
    return status;
  }
  if (n > 1) qsort(list, n, sizeof *list, by_bytes);
  *names = list;
  *count = n;
  return LM_OK;
}

uint64_t lm_bytes_hash(const void *data, size_t size, uint64_t seed)
{
  const uint64_t odd = 0x9fb21c651e98df25ULL;
  const unsigned char *p = data;
  uint64_t h = (seed ^ (uint64_t)size) * odd;
  for (size_t left = size; left > 0;) {
    uint64_t word = 0;
    size_t n = left < 8 ? left : 8;
    for (size_t i = 0; i < n; i++)
      word |= (uint64_t)p[i] << (8 * i);
    h = (h ^ word) * odd;
    h ^= h >> 29;
    p += n;
    left -= n;
  }
  h ^= h >> 32;
  h *= odd;
  return h ^ (h >> 30);
}
