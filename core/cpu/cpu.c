/* cpu.c: the CPU device. Device calls come from the main thread only. */
#include "cpu/cpu.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/blocks.h"

static lm_status cpu_alloc(lm_device *d, size_t bytes, void **out)
{
  LM_TRY(lm_blas_load());
  *out = lm_block_take(bytes, &d->cached);
  return *out ? LM_OK : lm_fail(LM_ERR_MEMORY, "the system gave no %zu bytes", bytes);
}

static void cpu_free(lm_device *d, void *data, size_t bytes)
{
  lm_block_give(data, bytes, &d->cached);
}

static size_t cpu_empty_cache(lm_device *d)
{
  size_t freed = d->cached;
  lm_blocks_trim(&d->cached);
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
