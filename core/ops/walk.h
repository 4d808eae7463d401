/* walk.h: kernels over several strided or broadcast arrays of one shape: what cpu/rows.h is
 * for the CPU.
 *
 *   lm_map<O, I...>(c, f, out, in...)   out = f(in...) for every element of out's shape
 *   lm_copy(c, to, from)                to = from, of one dtype, broadcast
 *
 * f is a structure with `__device__ R operator()(lm_wide<I>...) const`: it computes in float
 * for bf16. It is passed to the card as it is, so it may carry constants. Where all operands
 * are contiguous or single numbers, a thread moves four neighbours at once. */
#ifndef LUMEN_WALK_H
#define LUMEN_WALK_H

#include "ops/gpu.h"

namespace {

enum { WALK_OPERANDS = 4, WALK_THREADS = 256 };
constexpr int64_t WALK_MOST = INT64_C(1) << 30; /* elements of a launch: 32 bits are enough */

/* Dimensions are merged wherever all operands allow; strides of broadcast ones are 0. */
struct walk {
  int ndim;
  bool flat; /* one dimension of stride 1 or 0, aligned for lm_vec<T, 4> */
  unsigned n;
  unsigned shape[LM_MAX_DIMS];
  char *data[WALK_OPERANDS]; /* the result, then the operands */
  int64_t stride[WALK_OPERANDS][LM_MAX_DIMS];
};

template <class T>
__device__ inline lm_vec<T, 4> load_four(const walk &w, int k, unsigned i)
{
  const T *x = reinterpret_cast<const T *>(w.data[k]);
  if (w.stride[k][0] != 0) return reinterpret_cast<const lm_vec<T, 4> *>(x)[i];
  return {{x[0], x[0], x[0], x[0]}};
}

template <class O, class F, class... I>
__device__ inline lm_vec<O, 4> apply_four(F f, const lm_vec<I, 4> &...x)
{
  lm_vec<O, 4> o;
#pragma unroll
  for (int j = 0; j < 4; j++) o.v[j] = lm_narrow<O>(f(lm_widen(x.v[j])...));
  return o;
}

template <class O, class... I, class F, size_t... K>
__device__ inline void walk_one(const walk &w, F f, const int64_t *at, std::index_sequence<K...>)
{
  reinterpret_cast<O *>(w.data[0])[at[0]] =
      lm_narrow<O>(f(lm_widen(reinterpret_cast<const I *>(w.data[K + 1])[at[K + 1]])...));
}

template <class O, class... I, class F, size_t... K>
__device__ inline void walk_flat(const walk &w, F f, unsigned i, std::index_sequence<K...> all)
{
  if (4 * i + 4 <= w.n) {
    reinterpret_cast<lm_vec<O, 4> *>(w.data[0])[i] =
        apply_four<O>(f, load_four<I>(w, K + 1, i)...);
    return;
  }
  for (int64_t k = 4 * i; k < w.n; k++) {
    const int64_t at[] = {k, k * w.stride[K + 1][0]...};
    walk_one<O, I...>(w, f, at, all);
  }
}

__device__ inline void walk_offsets(const walk &w, int operands, unsigned i, int64_t *at)
{
#pragma unroll
  for (int d = LM_MAX_DIMS - 1; d >= 0; d--) {
    if (d >= w.ndim) continue;
    unsigned index = d > 0 ? i % w.shape[d] : i;
    i /= w.shape[d];
#pragma unroll
    for (int k = 0; k < WALK_OPERANDS; k++)
      if (k < operands) at[k] += index * w.stride[k][d];
  }
}

template <class F, class O, class... I>
__global__ void __launch_bounds__(WALK_THREADS) walk_kernel(walk w, F f)
{
  constexpr auto all = std::index_sequence_for<I...>();
  unsigned i = blockIdx.x * WALK_THREADS + threadIdx.x;
  if (w.flat) {
    walk_flat<O, I...>(w, f, i, all);
  } else if (i < w.n) {
    int64_t at[WALK_OPERANDS] = {0};
    walk_offsets(w, 1 + (int)sizeof...(I), i, at);
    walk_one<O, I...>(w, f, at, all);
  }
}

/* ---- on the host ---- */

struct wide_walk { /* before it is cut into launches */
  int n, ndim;
  int64_t shape[LM_MAX_DIMS], stride[WALK_OPERANDS][LM_MAX_DIMS], size[WALK_OPERANDS];
  char *data[WALK_OPERANDS];
};

/* Stride along dimension d of a shape with ndim dimensions, 0 where t is broadcast. */
inline int64_t walk_stride(const lm_tensor *t, int d, int ndim)
{
  d -= ndim - t->ndim;
  return d < 0 || t->shape[d] == 1 ? 0 : t->stride[d];
}

inline wide_walk walk_over(int n, const lm_tensor *const *operand)
{
  const lm_tensor *first = operand[0];
  wide_walk w = {};
  w.n = n;
  for (int k = 0; k < n; k++) {
    w.data[k] = static_cast<char *>(lm_data(operand[k]));
    w.size[k] = lm_dtype_size(operand[k]->dtype);
  }
  for (int d = 0; d < first->ndim; d++) {
    if (first->shape[d] == 1) continue;
    int last = w.ndim - 1;
    bool merge = last >= 0;
    for (int k = 0; k < n && merge; k++)
      merge =
          w.stride[k][last] == walk_stride(operand[k], d, first->ndim) * first->shape[d];
    int to = merge ? last : w.ndim++;
    w.shape[to] = merge ? w.shape[to] * first->shape[d] : first->shape[d];
    for (int k = 0; k < n; k++) w.stride[k][to] = walk_stride(operand[k], d, first->ndim);
  }
  if (w.ndim == 0) {
    w.ndim = 1;
    w.shape[0] = 1;
    for (int k = 0; k < n; k++) w.stride[k][0] = 1;
  }
  return w;
}

inline walk walk_narrow(const wide_walk &wide, int64_t n)
{
  walk w = {};
  w.n = (unsigned)n;
  w.ndim = wide.ndim;
  w.flat = wide.ndim == 1 && wide.stride[0][0] == 1;
  for (int d = 0; d < wide.ndim; d++) w.shape[d] = (unsigned)wide.shape[d];
  for (int k = 0; k < wide.n; k++) {
    int64_t inner = wide.stride[k][0];
    w.flat &= inner == 0 || (inner == 1 && (uintptr_t)wide.data[k] % (4 * wide.size[k]) == 0);
    w.data[k] = wide.data[k];
    for (int d = 0; d < wide.ndim; d++) w.stride[k][d] = wide.stride[k][d];
  }
  return w;
}

/* Cut along the largest dimension until the pieces are small enough for one launch. */
template <class F>
lm_status walk_launch(lm_call *c, wide_walk w, void (*kernel)(walk, F), F f)
{
  int64_t n = 1;
  int cut = 0;
  for (int d = 0; d < w.ndim; d++) {
    n *= w.shape[d];
    if (w.shape[d] > w.shape[cut]) cut = d;
  }
  if (n <= WALK_MOST) {
    walk narrow = walk_narrow(w, n);
    return LM_LAUNCH(c, kernel, lm_blocks(narrow.flat ? (n + 3) / 4 : n, WALK_THREADS),
                     WALK_THREADS, 0, narrow, f);
  }
  wide_walk rest = w;
  w.shape[cut] = w.shape[cut] / 32 * 16; /* about half; keeps the alignment */
  rest.shape[cut] -= w.shape[cut];
  for (int k = 0; k < w.n; k++) rest.data[k] += w.shape[cut] * w.stride[k][cut] * w.size[k];
  LM_TRY(walk_launch(c, w, kernel, f));
  return walk_launch(c, rest, kernel, f);
}

template <class T>
using walk_operand = const lm_tensor *;

template <class O, class... I, class F>
lm_status lm_map(lm_call *c, F f, const lm_tensor *out, walk_operand<I>... in)
{
  const lm_tensor *operand[] = {out, in...};
  wide_walk w = walk_over(1 + (int)sizeof...(I), operand);
  return walk_launch(c, w, walk_kernel<F, O, I...>, f);
}

struct zero_of { /* all bits of every type */
  __device__ uint8_t operator()() const { return 0; }
};

struct copy_of {
  template <class T>
  __device__ T operator()(T a) const { return a; }
};

inline lm_status lm_copy(lm_call *c, const lm_tensor *to, const lm_tensor *from)
{
  return lm_for_sizes(to->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    return lm_map<T, T>(c, copy_of(), to, from);
  });
}

} // namespace

#endif
