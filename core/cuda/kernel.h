/* kernel.h: the language of the .cu files. nvcc compiles each of them for the card, the host's
 * C++ compiler compiles the same text for the device "shim" (cuda/shim.h).
 *
 * A family's file defines one LM_KERNEL(<operation>) for each of its operations; all else in
 * it stands in an anonymous namespace. core/README.md shows one.
 *
 * What a kernel may use of CUDA:
 *   __global__ __device__ __launch_bounds__ __restrict__ __forceinline__
 *   threadIdx blockIdx blockDim gridDim (32 threads are a warp; blocks are whole warps)
 *   __syncthreads __syncwarp __shfl_sync __shfl_up_sync __shfl_down_sync __shfl_xor_sync
 *   __ballot_sync: by all lanes of a warp (mask LM_WARP)
 *   min max and <math.h>, whose functions are overloaded for float and double; rsqrt; __ldg
 * and instead of CUDA's own words:
 *   LM_SHARED(float, tile, [32][33]);   __shared__ float tile[32][33];
 *   LM_DYNAMIC_SHARED(float, row);      extern __shared__ float row[];
 *   LM_LAUNCH(c, kernel, blocks, threads, dynamic bytes, arguments...)   kernel<<<...>>>
 *   bf16, lm_vec<T, N>, lm_widen, lm_narrow (below)
 * No atomics on floats (results would depend on timing), no device-side allocation, no
 * pointers that the kernel writes through hidden in device memory: the shim finds them only
 * among the arguments and inside structures passed by value. Code for tensor cores stands in
 * #ifdef LM_CARD beside a plain twin that the shim runs.
 *
 * Mind that 0.5 is a double: in templates write T(0.5). */
#ifndef LUMEN_KERNEL_H
#define LUMEN_KERNEL_H

#include <math.h>
#include <stdint.h>
#include <type_traits>
#include <utility>

#include "base/base.h"
#include "base/dtype.h"

#ifdef __CUDACC__
#define LM_CARD 1
#include <cuda_runtime.h>
#include "cuda/cuda.h"
#else
#include <tuple>
#include "cuda/shim.h"
#endif

#define LM_WARP 0xffffffffu

/* Kernels fill in a status like everything else:
 *   LM_KERNEL(gelu) { return LM_LAUNCH(c, gelu_rows<float>, ...); } */
#ifdef LM_CARD
#define LM_KERNEL(op) extern "C" lm_status lm_cuda_##op(lm_call *c)
#else
#define LM_KERNEL(op) extern "C" lm_status lm_shim_##op(lm_call *c)
#endif
/* Nothing is launched for an empty grid. */
#define LM_LAUNCH(c, kernel, blocks, threads, dynamic, ...) \
  lm_launch((c)->device, (c)->op->name, #kernel, blocks, threads, dynamic, kernel, __VA_ARGS__)

/* ---- the card ---- */

#ifdef LM_CARD

#define LM_SHARED(type, name, size) __shared__ type name size
#define LM_DYNAMIC_SHARED(type, name)                \
  extern __shared__ __align__(16) char lm_dynamic[]; \
  type *name = reinterpret_cast<type *>(lm_dynamic)

template <class... P, class... A>
static inline lm_status lm_launch(lm_device *d, const char *op, const char *name, dim3 grid,
                                  dim3 block, size_t dynamic, void (*kernel)(P...), A... args)
{
  void *stream;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return LM_OK;
  LM_TRY(lm_cuda_begin(d, &stream));
  if (dynamic > (size_t)48 << 10)
    (void)cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               (int)dynamic);
  kernel<<<grid, block, dynamic, (cudaStream_t)stream>>>(args...);
  return lm_cuda_end(d, op, name);
}

#else

/* ---- the shim ---- */

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#define __forceinline__ inline
#define threadIdx lm_shim_now.thread
#define blockIdx lm_shim_now.block
#define blockDim lm_shim_now.block_dim
#define gridDim lm_shim_now.grid_dim

#define LM_SHARED(type, name, size)                                 \
  type(&name) size = *static_cast<type(*) size>(lm_shim_shared(     \
      [] { static char id; return (const void *)&id; }(), sizeof(type size)))
#define LM_DYNAMIC_SHARED(type, name) type *name = static_cast<type *>(lm_shim_shared(NULL, 0))

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

#define LM_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

static inline void __syncthreads(LM_HERE) { lm_shim_barrier(file, line); }

/* What lane `from` of the warp has for v. */
template <class T>
static inline T lm_shim_lane(const T &v, int from, const char *file, int line)
{
  static_assert(sizeof(T) <= 16, "shuffles carry up to 16 bytes");
  T got;
  memcpy(&got, lm_shim_exchange(&v, sizeof v, file, line) + 16 * from, sizeof got);
  return got;
}

static inline void __syncwarp(unsigned = LM_WARP, LM_HERE) { lm_shim_lane(0, 0, file, line); }

static inline unsigned __ballot_sync(unsigned, int predicate, LM_HERE)
{
  char flag = predicate != 0;
  const char *all = lm_shim_exchange(&flag, 1, file, line);
  unsigned mask = 0;
  for (int k = 0; k < 32; k++) mask |= (unsigned)all[16 * k] << k;
  return mask;
}

/* Lanes are counted within groups of `width`; a lane outside reads itself. */
template <class T>
static inline T __shfl_sync(unsigned, T v, int from, int width = 32, LM_HERE)
{
  int lane = (int)lm_shim_now.lane;
  return lm_shim_lane(v, lane / width * width + (from & (width - 1)), file, line);
}

template <class T>
static inline T __shfl_up_sync(unsigned, T v, unsigned by, int width = 32, LM_HERE)
{
  int lane = (int)lm_shim_now.lane, from = lane - (int)by;
  return lm_shim_lane(v, from < lane / width * width ? lane : from, file, line);
}

template <class T>
static inline T __shfl_down_sync(unsigned, T v, unsigned by, int width = 32, LM_HERE)
{
  int lane = (int)lm_shim_now.lane, from = lane + (int)by;
  return lm_shim_lane(v, from >= lane / width * width + width ? lane : from, file, line);
}

template <class T>
static inline T __shfl_xor_sync(unsigned, T v, int by, int width = 32, LM_HERE)
{
  int lane = (int)lm_shim_now.lane, from = lane ^ by;
  return lm_shim_lane(v, from / width == lane / width ? from : lane, file, line);
}

template <class T>
static inline T __ldg(const T *p) { return *p; }
template <class T>
static inline T min(T a, T b) { return a < b ? a : b; }
template <class T>
static inline T max(T a, T b) { return a > b ? a : b; }
static inline float rsqrt(float a) { return 1 / sqrtf(a); }
static inline double rsqrt(double a) { return 1 / sqrt(a); }

/* A kernel with its arguments. */
template <class... P>
struct lm_shim_closure {
  void (*kernel)(P...);
  std::tuple<P...> arguments;
  static void run(const void *closure)
  {
    auto *self = static_cast<const lm_shim_closure *>(closure);
    std::apply(self->kernel, self->arguments);
  }
};

template <class T>
static inline void lm_shim_note(lm_shim_launch *l, const T &argument)
{
  if constexpr (std::is_pointer_v<T>) {
    if (std::is_const_v<std::remove_pointer_t<T>>) return;
  } else if constexpr (!std::is_class_v<T>) {
    return;
  }
  l->word[l->words++] = {&argument, sizeof argument};
}

template <class... P, class... A>
static inline lm_status lm_launch(lm_device *, const char *op, const char *name, dim3 grid,
                                  dim3 block, size_t dynamic, void (*kernel)(P...), A... args)
{
  static_assert(sizeof...(P) <= 16, "put more arguments into a structure");
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return LM_OK;
  lm_shim_closure<P...> closure{kernel, std::tuple<P...>(args...)};
  lm_shim_launch l = {};
  l.op = op;
  l.kernel = name;
  l.grid[0] = grid.x, l.grid[1] = grid.y, l.grid[2] = grid.z;
  l.block[0] = block.x, l.block[1] = block.y, l.block[2] = block.z;
  l.dynamic = dynamic;
  l.run = lm_shim_closure<P...>::run;
  l.arguments = &closure;
  std::apply([&](const P &...p) { (lm_shim_note(&l, p), ...); }, closure.arguments);
  return lm_shim_run(&l);
}

#endif

/* ---- numbers ---- */

/* An element of type bf16. Kernels compute in float. */
struct bf16 {
  lm_bf16 bits;
};

/* The number to compute with: float for bf16, else the element itself. */
template <class T>
__device__ inline T lm_widen(T v) { return v; }
__device__ inline float lm_widen(bf16 v) { return lm_bf16_to_f32(v.bits); }
template <class T>
using lm_wide = decltype(lm_widen(T()));

__device__ inline bf16 lm_round_bf16(float v)
{
#ifdef LM_CARD
  bf16 r;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r.bits) : "f"(v));
  return r;
#else
  return bf16{lm_f32_to_bf16(v)};
#endif
}

/* Back to an element. */
template <class T, class V>
__device__ inline T lm_narrow(V v)
{
  if constexpr (std::is_same_v<T, bf16>) return lm_round_bf16(float(v));
  else return T(v);
}

/* N elements read or written at once; their address must be a multiple of the whole. */
template <class T, int N>
struct alignas(N * sizeof(T)) lm_vec {
  T v[N];
};

/* Blocks of `size` that cover n. */
static inline unsigned lm_blocks(int64_t n, int64_t size) { return (unsigned)((n + size - 1) / size); }

/* f over the lanes of a warp, in every lane, in a fixed order: neighbours 16 apart first. The
 * shim does in one exchange what takes five shuffles. */
template <class T, class F>
__device__ inline T lm_warp_fold(T v, F f)
{
#ifdef LM_CARD
  for (int by = 16; by > 0; by /= 2) v = f(v, __shfl_xor_sync(LM_WARP, v, by));
  return v;
#else
  T all[32];
  const char *lanes = lm_shim_exchange(&v, sizeof v, __FILE__, __LINE__);
  for (int k = 0; k < 32; k++) memcpy(&all[k], lanes + 16 * k, sizeof v);
  for (int half = 16; half > 0; half /= 2)
    for (int k = 0; k < half; k++) all[k] = f(all[k], all[k + half]);
  return all[0];
#endif
}

struct lm_plus {
  template <class T>
  __device__ T operator()(T a, T b) const { return a + b; }
};
struct lm_larger {
  template <class T>
  __device__ T operator()(T a, T b) const { return max(a, b); }
};

template <class T>
__device__ inline T lm_warp_sum(T v) { return lm_warp_fold(v, lm_plus()); }
template <class T>
__device__ inline T lm_warp_max(T v) { return lm_warp_fold(v, lm_larger()); }

/* The same over a block of whole warps, in every thread. All threads must call it; `room` has
 * 32 elements of shared memory. `none` changes nothing: f(v, none) = v. */
template <class T, class F>
__device__ inline T lm_block_fold(T v, T *room, T none, F f)
{
  unsigned warps = blockDim.x / 32, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  v = lm_warp_fold(v, f);
  __syncthreads(); /* room may still be read by an earlier call */
  if (lane == 0) room[warp] = v;
  __syncthreads();
  return lm_warp_fold(lane < warps ? room[lane] : none, f);
}

template <class T>
__device__ inline T lm_block_sum(T v, T *room) { return lm_block_fold(v, room, T(0), lm_plus()); }
template <class T>
__device__ inline T lm_block_max(T v, T *room)
{
  return lm_block_fold(v, room, v, lm_larger()); /* its own v is among those compared */
}

#endif
