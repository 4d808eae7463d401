/* cpu.c: the CPU device. Its allocator keeps freed blocks in size classes (eighths of powers
 * of two), because fresh pages cost more than most operations that would write them. Device
 * calls come from the main thread only. */
#include "cpu/cpu.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#define CLASSES 0 /* no reuse: the sanitizer is to see every use after free */
#else
#define CLASSES 512
#endif

typedef struct block {
  struct block *next;
} block;

static block *free_blocks[CLASSES + 1];

/* Smallest class that holds `bytes`: 64 bytes times (8 + i) / 8 times a power of two. */
static int size_class(size_t bytes, size_t *rounded)
{
  size_t units = (bytes + 63) / 64;
  if (units <= 8) {
    *rounded = (units ? units : 1) * 64;
    return (int)(units ? units : 1);
  }
  int shift = 60 - __builtin_clzll(units - 1); /* units >> shift is in 8..16 */
  if (shift < 0) shift = 0;
  size_t step = (size_t)1 << shift;
  size_t eighths = (units + step - 1) / step;
  *rounded = eighths * step * 64;
  return 16 + shift * 8 + (int)(eighths - 8);
}

/* Large blocks ask for huge pages: a matrix product walks down columns that lie thousands of
 * bytes apart, and with small pages every step would miss the TLB. */
static void *fresh_block(size_t bytes)
{
  enum { HUGE_PAGE = 1 << 21 };
  if (bytes < HUGE_PAGE) return aligned_alloc(64, bytes);
  void *fresh = NULL;
  if (posix_memalign(&fresh, HUGE_PAGE, bytes) != 0) return NULL;
  madvise(fresh, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE); /* only a wish */
  return fresh;
}

static lm_status cpu_alloc(lm_device *d, size_t bytes, void **out)
{
  LM_TRY(lm_blas_load());
  size_t rounded;
  int k = size_class(bytes, &rounded);
  if (k < CLASSES && free_blocks[k]) {
    block *b = free_blocks[k];
    free_blocks[k] = b->next;
    d->cached -= rounded;
    *out = b;
    return LM_OK;
  }
  *out = rounded >= bytes ? fresh_block(rounded) : NULL;
  return *out ? LM_OK : lm_fail(LM_ERR_MEMORY, "the system gave no %zu bytes", bytes);
}

static void cpu_free(lm_device *d, void *data, size_t bytes)
{
  size_t rounded;
  int k = size_class(bytes, &rounded);
  if (k >= CLASSES) {
    free(data);
    return;
  }
  block *b = data;
  b->next = free_blocks[k];
  free_blocks[k] = b;
  d->cached += rounded;
}

static size_t cpu_empty_cache(lm_device *d)
{
  size_t freed = d->cached;
  for (int k = 0; k < CLASSES; k++) {
    while (free_blocks[k]) {
      block *b = free_blocks[k];
      free_blocks[k] = b->next;
      free(b);
    }
  }
  d->cached = 0;
  return freed;
}

static lm_status cpu_copy_in(lm_device *d, void *to, const void *host_from, size_t bytes)
{
  (void)d;
  memcpy(to, host_from, bytes);
  return LM_OK;
}

static lm_status cpu_copy_out(lm_device *d, void *host_to, const void *from, size_t bytes)
{
  (void)d;
  memcpy(host_to, from, bytes);
  return LM_OK;
}

static lm_status cpu_sync(lm_device *d)
{
  (void)d;
  return LM_OK;
}

/* 90 % of the smaller of the machine's memory and the cgroup's limit; 0 when unknown. */
static size_t memory_limit(void)
{
  unsigned long long limit = 0;
  char line[200];
  FILE *f = fopen("/proc/meminfo", "r");
  if (f) {
    unsigned long long kib;
    if (fgets(line, sizeof line, f) && sscanf(line, "MemTotal: %llu kB", &kib) == 1)
      limit = kib * 1024;
    fclose(f);
  }
  static const char *const files[] = {"/sys/fs/cgroup/memory.max",
                                      "/sys/fs/cgroup/memory/memory.limit_in_bytes"};
  for (int i = 0; i < 2; i++) {
    unsigned long long v;
    if (!(f = fopen(files[i], "r"))) continue;
    if (fscanf(f, "%llu", &v) == 1 && v > 0 && (limit == 0 || v < limit)) limit = v;
    fclose(f);
  }
  return (size_t)(limit / 10 * 9);
}

static lm_device cpu_device = {.name = "cpu",
                               .kind = LM_CPU,
                               .alloc = cpu_alloc,
                               .free = cpu_free,
                               .copy_in = cpu_copy_in,
                               .copy_out = cpu_copy_out,
                               .sync = cpu_sync,
                               .empty_cache = cpu_empty_cache};

lm_device *lm_device_cpu(void)
{
  static bool ready;
  if (!ready) {
    ready = true;
    cpu_device.limit = memory_limit();
  }
  return &cpu_device;
}

int lm_threads(void)
{
  return omp_get_max_threads();
}

void lm_set_threads(int n)
{
  omp_set_num_threads(n > 0 ? n : 1);
}

lm_status lm_cpu_check(void)
{
#if defined(__x86_64__)
  __builtin_cpu_init();
  const char *missing = NULL;
#if defined(__AVX512F__)
  if (!__builtin_cpu_supports("avx512f")) missing = "AVX-512";
#elif defined(__AVX2__)
  if (!__builtin_cpu_supports("avx2")) missing = "AVX2";
#endif
  if (missing) {
    lm_fail(LM_ERR_UNSUPPORTED, "this lumen was built for processors with %s", missing);
    return lm_hint("build it here, or with -DLUMEN_ARCH=x86-64-v2");
  }
#endif
  return LM_OK;
}
