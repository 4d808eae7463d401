/* runtime.c: the CUDA devices: one stream each, memory from the driver's stream-ordered pool.
 *
 * All work of a device goes through its one stream, so what is freed may be used again by
 * whatever is launched next. The runtime is linked statically and loads the driver when a
 * device is first asked for: a program that asks for none starts as fast as without CUDA.
 *
 * Copies to the card go through page-locked buffers, in turn: the call returns when the bytes
 * are in one of them, and the copy waits for nothing but what is before it in the stream.
 *
 * After most errors of a kernel CUDA answers every call with that same error. It is reported
 * once, with all that is known, and then shortly. */
#include "cuda/cuda.h"

#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>


#define MOST_DEVICES 16
#define STAGES 2
#define LEAST_STAGE ((size_t)8 << 20)

typedef struct stage {
  void *data; /* page-locked */
  size_t bytes;
  cudaEvent_t done; /* recorded behind the copy that reads it */
  bool used;
} stage;

typedef struct card {
  lm_device d; /* first: a card is seen as a device */
  int index;
  bool ready;
  char name[16];
  cudaStream_t stream;
  cudaMemPool_t pool;
  stage stages[STAGES];
  int next_stage;
  char broken[400]; /* what made it unusable; "" if it is not */
} card;

static card cards[MOST_DEVICES];
static int current = -1; /* of this thread: only the main thread comes here */
static int checked = -1; /* LUMEN_SYNC */

/* ---- errors ---- */

static lm_status fail_again(const card *k)
{
  lm_fail(LM_ERR_DEVICE, "%s cannot be used any more (%s)", k->d.name, k->broken);
  return lm_hint("start the program again");
}

/* Report e. `what` had been asked for; the cause may be anything launched before. */
static lm_status fail_cuda(card *k, cudaError_t e, const char *op, const char *what)
{
  if (k->broken[0]) return fail_again(k);
  const char *text = cudaGetErrorString(e);
  (void)cudaGetLastError();
  cudaError_t after = cudaStreamSynchronize(k->stream);
  if (after != cudaSuccess) /* it stays */
    snprintf(k->broken, sizeof k->broken, "after '%s' in %s", text, op);
  lm_fail(LM_ERR_DEVICE, "%s: %s: %s on %s", op, what, text, k->d.name);
  if (after == cudaSuccess || checked > 0) return LM_ERR_DEVICE;
  return lm_hint("an earlier operation may be the cause: LUMEN_SYNC=1 waits for each and names it");
}

#define CUDA_TRY(k, op, call)                                            \
  do {                                                                   \
    cudaError_t cuda_error_ = (call);                                    \
    if (cuda_error_ != cudaSuccess) return fail_cuda(k, cuda_error_, op, #call); \
  } while (0)

static lm_status make_current(card *k)
{
  if (k->broken[0]) return fail_again(k);
  if (current == k->index) return LM_OK;
  CUDA_TRY(k, "device", cudaSetDevice(k->index));
  current = k->index;
  return LM_OK;
}

/* ---- memory ---- */

static void count_cached(card *k)
{
  uint64_t reserved = 0;
  if (cudaMemPoolGetAttribute(k->pool, cudaMemPoolAttrReservedMemCurrent, &reserved) != cudaSuccess)
    return;
  k->d.cached = reserved > k->d.live ? (size_t)(reserved - k->d.live) : 0;
}

static lm_status cuda_alloc(lm_device *d, size_t bytes, void **out)
{
  card *k = (card *)d;
  LM_TRY(make_current(k));
  cudaError_t e = cudaMallocFromPoolAsync(out, bytes, k->pool, k->stream);
  if (e == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();
    count_cached(k);
    return lm_fail(LM_ERR_MEMORY, "%s gave no %zu bytes", d->name, bytes);
  }
  CUDA_TRY(k, "memory", e);
  if (bytes >= (size_t)1 << 20) count_cached(k); /* the rest is small change */
  return LM_OK;
}

static void cuda_free(lm_device *d, void *data, size_t bytes)
{
  card *k = (card *)d;
  (void)bytes;
  if (make_current(k) == LM_OK) (void)cudaFreeAsync(data, k->stream);
}

static size_t cuda_empty_cache(lm_device *d)
{
  card *k = (card *)d;
  if (make_current(k) != LM_OK || cudaStreamSynchronize(k->stream) != cudaSuccess) return 0;
  count_cached(k);
  size_t before = d->cached;
  if (cudaMemPoolTrimTo(k->pool, 0) != cudaSuccess) return 0;
  count_cached(k);
  return before > d->cached ? before - d->cached : 0;
}

/* ---- copies ---- */

/* A page-locked buffer of at least some bytes that no copy reads any more. */
static lm_status take_stage(card *k, size_t bytes, stage **out)
{
  stage *s = &k->stages[k->next_stage];
  k->next_stage = (k->next_stage + 1) % STAGES;
  if (s->used) CUDA_TRY(k, "copy", cudaEventSynchronize(s->done));
  s->used = false;
  if (!s->done) CUDA_TRY(k, "copy", cudaEventCreateWithFlags(&s->done, cudaEventDisableTiming));
  if (s->bytes < bytes) {
    if (s->data) CUDA_TRY(k, "copy", cudaFreeHost(s->data));
    s->data = NULL;
    s->bytes = 0;
    size_t room = bytes > LEAST_STAGE ? bytes : LEAST_STAGE;
    CUDA_TRY(k, "copy", cudaHostAlloc(&s->data, room, cudaHostAllocDefault));
    s->bytes = room;
  }
  *out = s;
  return LM_OK;
}

static lm_status cuda_copy_in(lm_device *d, void *to, const void *host_from, size_t bytes)
{
  card *k = (card *)d;
  stage *s = NULL;
  LM_TRY(make_current(k));
  LM_TRY(take_stage(k, bytes, &s));
  memcpy(s->data, host_from, bytes);
  CUDA_TRY(k, "copy", cudaMemcpyAsync(to, s->data, bytes, cudaMemcpyHostToDevice, k->stream));
  CUDA_TRY(k, "copy", cudaEventRecord(s->done, k->stream));
  s->used = true;
  return LM_OK;
}

static lm_status cuda_copy_out(lm_device *d, void *host_to, const void *from, size_t bytes)
{
  card *k = (card *)d;
  LM_TRY(make_current(k));
  CUDA_TRY(k, "copy", cudaMemcpyAsync(host_to, from, bytes, cudaMemcpyDeviceToHost, k->stream));
  CUDA_TRY(k, "copy", cudaStreamSynchronize(k->stream));
  return LM_OK;
}

static lm_status cuda_sync(lm_device *d)
{
  card *k = (card *)d;
  LM_TRY(make_current(k));
  CUDA_TRY(k, "sync", cudaStreamSynchronize(k->stream));
  return LM_OK;
}

/* ---- launches ---- */

lm_status lm_cuda_begin(lm_device *d, void **stream)
{
  card *k = (card *)d;
  LM_TRY(make_current(k));
  *stream = k->stream;
  return LM_OK;
}

lm_status lm_cuda_end(lm_device *d, const char *op, const char *kernel)
{
  card *k = (card *)d;
  cudaError_t e = cudaGetLastError();
  if (e == cudaSuccess && checked > 0) e = cudaStreamSynchronize(k->stream);
  return e == cudaSuccess ? LM_OK : fail_cuda(k, e, op, kernel);
}

/* ---- devices ---- */

/* How many there are; when none, *why says what CUDA thinks. */
static int count_cards(const char **why)
{
  static int count = -1;
  static const char *reason = "no error";
  if (count < 0) {
    cudaError_t e = cudaGetDeviceCount(&count);
    if (e != cudaSuccess) {
      reason = cudaGetErrorString(e);
      (void)cudaGetLastError();
      count = 0;
    }
    if (count > MOST_DEVICES) count = MOST_DEVICES;
    const char *sync = getenv("LUMEN_SYNC");
    checked = sync && strcmp(sync, "0") != 0 ? 1 : 0;
  }
  if (why) *why = reason;
  return count;
}

int lm_cuda_count(void)
{
  return count_cards(NULL);
}

static lm_status start(card *k, int index)
{
  static const lm_device vtable = {.kind = LM_CUDA,
                                   .alloc = cuda_alloc,
                                   .free = cuda_free,
                                   .copy_in = cuda_copy_in,
                                   .copy_out = cuda_copy_out,
                                   .sync = cuda_sync,
                                   .empty_cache = cuda_empty_cache};
  size_t unused, total;
  uint64_t keep = UINT64_MAX;
  k->d = vtable;
  k->index = index;
  snprintf(k->name, sizeof k->name, "cuda:%d", index);
  k->d.name = k->name;
  LM_TRY(make_current(k));
  CUDA_TRY(k, "device", cudaMemGetInfo(&unused, &total));
  CUDA_TRY(k, "device", cudaStreamCreateWithFlags(&k->stream, cudaStreamNonBlocking));
  CUDA_TRY(k, "device", cudaDeviceGetDefaultMemPool(&k->pool, index));
  CUDA_TRY(k, "device", cudaMemPoolSetAttribute(k->pool, cudaMemPoolAttrReleaseThreshold, &keep));
  void *alarm; /* the host's memory: read without asking the card */
  CUDA_TRY(k, "device", cudaHostAlloc(&alarm, sizeof(uint32_t), cudaHostAllocMapped));
  k->d.alarm = alarm;
  *k->d.alarm = 0;
  k->d.limit = total;
  k->ready = true;
  return LM_OK;
}

lm_status lm_cuda_device(const char *name, lm_device **out)
{
  const char *why;
  int count = count_cards(&why);
  char *end = NULL;
  long index = name[4] == ':' ? strtol(name + 5, &end, 10) : 0;
  *out = NULL;
  if (name[4] && (name[4] != ':' || !name[5] || *end || index < 0))
    return lm_fail(LM_ERR_DEVICE, "unknown device '%.40s': there are cpu, cuda, cuda:0, ...", name);
  if (count == 0)
    return lm_fail(LM_ERR_DEVICE, "device '%.40s': there is no GPU that CUDA can use (%s)", name, why);
  if (index >= count)
    return lm_fail(LM_ERR_DEVICE, "device '%.40s': the last GPU is cuda:%d", name, count - 1);
  card *k = &cards[index];
  if (!k->ready) LM_TRY(start(k, (int)index));
  *out = &k->d;
  return LM_OK;
}

bool lm_cuda_describe(int index, char *text, size_t size)
{
  struct cudaDeviceProp p;
  if (index < 0 || index >= lm_cuda_count()) return false;
  if (cudaGetDeviceProperties(&p, index) != cudaSuccess) return false;
  snprintf(text, size, "%s, %.0f GiB, compute capability %d.%d", p.name,
           (double)p.totalGlobalMem / (double)(1 << 30), p.major, p.minor);
  return true;
}
