/* reduce.cu: reductions on the card (see reduce.c): f64 accumulators for floats, 64 bits for
 * integers, as on the CPU.
 *
 * `width` threads share one result: neighbours along the innermost dimension where that is
 * reduced, else the threads beside them make the neighbouring results. Where there are few
 * results, chunks of the reduced elements go to several blocks and are joined by a second
 * launch; how many depends on the shape alone. */
#include "ops/reduce.h"
#include "ops/gpu.h"

namespace {

constexpr int THREADS = 256;
constexpr int64_t BLOCKS_ENOUGH = 512; /* to fill a card */

enum fold { SUM, PROD, MAX, MIN, DEVIATION };

struct axes {
  int n;
  int64_t size[LM_MAX_DIMS], stride[LM_MAX_DIMS], count;
};

struct reduction {
  axes kept, reduced;
  int64_t chunk; /* reduced elements per chunk */
  int width;
  bool along; /* the innermost dimension is reduced */
  const double *center; /* one mean per result, or NULL */
  void *out;            /* [chunks][kept.count] */
  lm_dtype dtype;       /* of out */
  double scale;
  bool root;
};

__device__ inline int64_t offset_of(const axes &a, int64_t index)
{
  int64_t offset = 0;
  for (int d = a.n - 1; d > 0; d--) {
    offset += index % a.size[d] * a.stride[d];
    index /= a.size[d];
  }
  return offset + index * a.stride[0];
}

template <int F, class A>
__device__ inline A first_of()
{
  if (F == PROD) return A(1);
  if (F == SUM || F == DEVIATION) return A(0);
  if constexpr (std::is_same_v<A, double>) return F == MAX ? -INFINITY : INFINITY;
  else return F == MAX ? INT64_MIN : INT64_MAX;
}

template <int F, class A>
__device__ inline A join(A s, A v)
{
  if (F == PROD) return s * v;
  if (F == MAX) return v > s || v != v ? v : s;
  if (F == MIN) return v < s || v != v ? v : s;
  return s + v;
}

template <class A>
__device__ inline void store(const reduction &r, int64_t at, A v)
{
  if constexpr (std::is_same_v<A, double>) {
    v *= r.scale;
    if (r.root) v = sqrt(v);
  }
  switch (r.dtype) {
    case LM_F32: static_cast<float *>(r.out)[at] = float(v); break;
    case LM_F64: static_cast<double *>(r.out)[at] = double(v); break;
    case LM_BF16: static_cast<bf16 *>(r.out)[at] = lm_narrow<bf16>(float(v)); break;
    case LM_I32: static_cast<int32_t *>(r.out)[at] = int32_t(v); break;
    case LM_I64: static_cast<int64_t *>(r.out)[at] = int64_t(v); break;
    default: static_cast<uint8_t *>(r.out)[at] = uint8_t(v); break;
  }
}

/* A: the type of the accumulators. */
template <int F, class T, class A>
__global__ void __launch_bounds__(THREADS) reduce_kernel(reduction r, const T *x)
{
  LM_SHARED(A, room, [THREADS]);
  int t = (int)threadIdx.x, beside = THREADS / r.width;
  int part = r.along ? t % r.width : t / beside, slot = r.along ? t / r.width : t % beside;
  int64_t k = (int64_t)blockIdx.x * beside + slot;
  int64_t last = min((blockIdx.y + 1) * r.chunk, r.reduced.count);
  A s = first_of<F, A>();
  if (k < r.kept.count) {
    const T *from = x + offset_of(r.kept, k);
    double mean = F == DEVIATION ? r.center[k] : 0;
    for (int64_t i = blockIdx.y * r.chunk + part; i < last; i += r.width) {
      A v = A(lm_widen(from[offset_of(r.reduced, i)]));
      if constexpr (F == DEVIATION) v = (v - mean) * (v - mean);
      s = join<F>(s, v);
    }
  }
  room[t] = s;
  __syncthreads();
  for (int half = r.width / 2; half > 0; half /= 2) {
    if (part < half) room[t] = join<F>(room[t], room[r.along ? t + half : t + half * beside]);
    __syncthreads();
  }
  if (part == 0 && k < r.kept.count) store(r, blockIdx.y * r.kept.count + k, room[t]);
}

/* ---- on the host ---- */

void add_axis(axes *a, int64_t size, int64_t stride)
{
  a->size[a->n] = size;
  a->stride[a->n++] = stride;
  a->count *= size;
}

/* x's dimensions merged into alternating kept and reduced ones. */
reduction reduction_of(const lm_tensor *x, const bool *reduced)
{
  reduction r = {};
  int n = 0;
  int64_t size[LM_MAX_DIMS], stride = 1;
  bool kind[LM_MAX_DIMS];
  for (int d = 0; d < x->ndim; d++) {
    if (x->shape[d] == 1) continue;
    if (n > 0 && kind[n - 1] == reduced[d]) size[n - 1] *= x->shape[d];
    else {
      size[n] = x->shape[d];
      kind[n++] = reduced[d];
    }
  }
  axes empty = {0, {1}, {0}, 1};
  r.kept = r.reduced = empty;
  r.along = n == 0 || kind[n - 1];
  for (int d = 0; d < n; d++) {
    stride = 1;
    for (int e = d + 1; e < n; e++) stride *= size[e];
    add_axis(kind[d] ? &r.reduced : &r.kept, size[d], stride);
  }
  r.scale = 1;
  return r;
}

int width_for(const reduction *r)
{
  int width = 1, most = r->along ? THREADS : 8;
  while (width < most && width < r->reduced.count) width *= 2;
  return width;
}

/* Chunks for a reduction whose results alone would not fill a card. */
int64_t chunks_for(const reduction *r)
{
  int64_t blocks = lm_blocks(r->kept.count, THREADS / r->width);
  int64_t by_work = r->reduced.count / (r->width * 32);
  return lm_max64(1, lm_min64(by_work, BLOCKS_ENOUGH / lm_max64(blocks, 1)));
}

template <int F, class A, class T>
lm_status launch(lm_call *c, reduction r, const T *x, int64_t chunks)
{
  dim3 grid(lm_blocks(r.kept.count, THREADS / r.width), (unsigned)chunks);
  r.chunk = (r.reduced.count + chunks - 1) / chunks;
  return LM_LAUNCH(c, (reduce_kernel<F, T, A>), grid, THREADS, 0, r, x);
}

/* Through accumulators of all chunks, which are joined in a second launch. */
template <int F, class A, class T>
lm_status launch_chunks(lm_call *c, reduction r, const T *x, int64_t chunks)
{
  constexpr bool real = std::is_same_v<A, double>;
  lm_tensor *scratch;
  int64_t shape[] = {chunks, r.kept.count};
  LM_TRY(lm_tensor_new(c->device, real ? LM_F64 : LM_I64, 2, shape, &scratch));
  reduction first = r, second = r;
  first.out = lm_data(scratch);
  first.dtype = scratch->dtype;
  first.scale = 1;
  first.root = false;
  second.kept = second.reduced = {0, {1}, {0}, 1};
  add_axis(&second.kept, r.kept.count, 1);
  add_axis(&second.reduced, chunks, r.kept.count);
  second.along = false;
  second.width = width_for(&second);
  lm_status status = launch<F, A>(c, first, x, chunks);
  constexpr int J = F == DEVIATION ? SUM : F;
  if (status == LM_OK)
    status = launch<J, A>(c, second, static_cast<const A *>(lm_data(scratch)), 1);
  lm_release(scratch);
  return status;
}

template <int F, class A, class T>
lm_status run(lm_call *c, reduction r)
{
  const T *x = static_cast<const T *>(lm_data(c->in[0]));
  r.width = width_for(&r);
  int64_t chunks = chunks_for(&r);
  return chunks > 1 ? launch_chunks<F, A>(c, r, x, chunks) : launch<F, A>(c, r, x, 1);
}

/* Any dtype. Ints: the accumulator of integers. */
template <int F, class Ints>
lm_status reduce(lm_call *c, const bool *reduced, double scale, const lm_tensor *out)
{
  reduction r = reduction_of(c->in[0], reduced);
  r.out = lm_data(out);
  r.dtype = out->dtype;
  r.scale = scale;
  return lm_for_all(c, c->in[0]->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    if constexpr (std::is_integral_v<T>) return run<F, Ints, T>(c, r);
    else return run<F, double, T>(c, r);
  });
}

template <int F, class Ints>
lm_status reduce_dims(lm_call *c)
{
  bool reduced[LM_MAX_DIMS];
  LM_TRY(lm_reduced_dims(c, reduced));
  return reduce<F, Ints>(c, reduced, 1, c->out[0]);
}

} // namespace

LM_KERNEL(sum) { return reduce_dims<SUM, uint64_t>(c); }
LM_KERNEL(prod) { return reduce_dims<PROD, uint64_t>(c); }
LM_KERNEL(max) { return reduce_dims<MAX, int64_t>(c); }
LM_KERNEL(min) { return reduce_dims<MIN, int64_t>(c); }

LM_KERNEL(mean)
{
  bool reduced[LM_MAX_DIMS];
  LM_TRY(lm_reduced_dims(c, reduced));
  double n = (double)lm_reduced_count(c->in[0], reduced);
  return reduce<SUM, uint64_t>(c, reduced, 1 / n, c->out[0]);
}

LM_KERNEL(sum_to)
{
  bool reduced[LM_MAX_DIMS];
  lm_sum_to_dims(c, reduced);
  return reduce<SUM, uint64_t>(c, reduced, 1, c->out[0]);
}

namespace {

/* In two passes: means, then squared deviations from them. */
lm_status variance(lm_call *c, bool root)
{
  bool reduced[LM_MAX_DIMS];
  lm_tensor *means;
  LM_TRY(lm_reduced_dims(c, reduced));
  double n = (double)lm_reduced_count(c->in[0], reduced);
  LM_TRY(lm_tensor_new(c->device, LM_F64, c->out[0]->ndim, c->out[0]->shape, &means));
  lm_status status = reduce<SUM, uint64_t>(c, reduced, 1 / n, means);
  reduction r = reduction_of(c->in[0], reduced);
  r.center = static_cast<const double *>(lm_data(means));
  r.out = lm_data(c->out[0]);
  r.dtype = c->out[0]->dtype;
  r.scale = lm_variance_scale(c, reduced);
  r.root = root;
  if (status == LM_OK)
    status = lm_for_all_floats(c, c->in[0]->dtype, [&](auto t) {
      return run<DEVIATION, double, LM_TYPE(t)>(c, r);
    });
  lm_release(means);
  return status;
}

} // namespace

LM_KERNEL(var) { return variance(c, false); }
LM_KERNEL(std) { return variance(c, true); }
