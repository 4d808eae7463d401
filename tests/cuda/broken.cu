/* broken.cu: kernels with the usual mistakes, which the shim must find, and one without:
 * shim_check NAME runs one and prints "fine" or the error. tests/cuda/shim_test.lua calls it. */
#include <stdio.h>
#include <string.h>

#include "cuda/kernel.h"

namespace {

/* Sum of 256 numbers, by halves. Without `barrier` a warp reads what another has yet to write. */
__global__ void sum(const float *x, float *out, bool barrier)
{
  LM_SHARED(float, room, [256]);
  unsigned i = threadIdx.x;
  room[i] = x[i];
  __syncthreads();
  for (unsigned half = 128; half > 0; half /= 2) {
    if (i < half) room[i] += room[i + half];
    if (barrier || half > 64) __syncthreads();
  }
  if (i == 0) out[0] = room[0];
}

__global__ void sum_warps(const float *x, float *out)
{
  LM_SHARED(float, room, [32]);
  float total = lm_block_sum(x[threadIdx.x], room);
  if (threadIdx.x == 255) out[0] = total;
}

__global__ void read_behind(const float *x, float *out, int shift)
{
  out[threadIdx.x] = x[(int)threadIdx.x + shift];
}

__global__ void write_shared_behind(float *out)
{
  LM_SHARED(float, room, [256]);
  room[threadIdx.x + 1] = 1;
  __syncthreads();
  out[threadIdx.x] = room[threadIdx.x];
}

__global__ void read_unwritten(float *out)
{
  LM_SHARED(float, room, [256]);
  if (threadIdx.x > 0) room[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = room[threadIdx.x];
}

__global__ void divergent(float *out)
{
  if (threadIdx.x < 32) __syncthreads();
  out[threadIdx.x] = 1;
}

__global__ void divergent_shuffle(float *out)
{
  float v = 1;
  if (threadIdx.x != 40) v = __shfl_xor_sync(LM_WARP, v, 1);
  out[threadIdx.x] = v;
}

__global__ void all_write(float *out) { out[0] = (float)threadIdx.x; }
__global__ void blocks_write(float *out) { out[0] = (float)blockIdx.x; }
/* Adds to what is there already: right only if every order starts from the same data. */
__global__ void increment(float *out) { out[threadIdx.x] += 1; }

struct fake_op { const char *name; };
struct fake_call { lm_device *device; fake_op *op; };

lm_status run(fake_call *c, const char *name, const float *x, float *out)
{
  if (!strcmp(name, "sum")) return LM_LAUNCH(c, sum, 1, 256, 0, x, out, true);
  if (!strcmp(name, "sum_warps")) return LM_LAUNCH(c, sum_warps, 1, 256, 0, x, out);
  if (!strcmp(name, "no_barrier")) return LM_LAUNCH(c, sum, 1, 256, 0, x, out, false);
  if (!strcmp(name, "read_behind")) return LM_LAUNCH(c, read_behind, 1, 256, 0, x, out, 1);
  if (!strcmp(name, "read_before")) return LM_LAUNCH(c, read_behind, 1, 256, 0, x, out, -1);
  if (!strcmp(name, "write_shared_behind"))
    return LM_LAUNCH(c, write_shared_behind, 1, 256, 0, out);
  if (!strcmp(name, "read_unwritten")) return LM_LAUNCH(c, read_unwritten, 1, 256, 0, out);
  if (!strcmp(name, "divergent")) return LM_LAUNCH(c, divergent, 1, 256, 0, out);
  if (!strcmp(name, "divergent_shuffle")) return LM_LAUNCH(c, divergent_shuffle, 1, 256, 0, out);
  if (!strcmp(name, "all_write")) return LM_LAUNCH(c, all_write, 1, 256, 0, out);
  if (!strcmp(name, "blocks_write")) return LM_LAUNCH(c, blocks_write, 5, 256, 0, out);
  if (!strcmp(name, "increment")) return LM_LAUNCH(c, increment, 1, 256, 0, out);
  if (!strcmp(name, "odd_block")) return LM_LAUNCH(c, increment, 1, 100, 0, out);
  return lm_fail(LM_ERR_ARG, "no kernel called %s", name);
}

} // namespace

int main(int count, char **argument)
{
  fake_op op = {"demo"};
  fake_call c = {lm_shim_device(), &op};
  void *x, *out;
  float host[256];
  for (int i = 0; i < 256; i++) host[i] = (float)i;
  if (count != 2) return 2;
  if (c.device->alloc(c.device, sizeof host, &x) != LM_OK) return 2;
  if (c.device->alloc(c.device, sizeof host, &out) != LM_OK) return 2;
  (void)c.device->copy_in(c.device, x, host, sizeof host);
  (void)c.device->copy_in(c.device, out, host, sizeof host);
  lm_status status = run(&c, argument[1], (const float *)x, (float *)out);
  (void)c.device->copy_out(c.device, host, out, sizeof host);
  if (status != LM_OK) printf("%s\n%s\n", lm_last_error()->message, lm_last_error()->hint);
  else printf("fine: %g %g\n", (double)host[0], (double)host[1]);
  c.device->free(c.device, x, sizeof host);
  c.device->free(c.device, out, sizeof host);
  return 0;
}
