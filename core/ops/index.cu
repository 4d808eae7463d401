/* index.cu: reading and writing at places given by an index, and sorting, on the card (see
 * index.c). A kernel cannot refuse an index out of range: it skips it and raises the device's
 * alarm. Gradients add in the order of the index: a thread owns a destination's column. */
#include "ops/walk.h"

namespace {

constexpr int THREADS = 256;

struct alarm {
  volatile uint32_t *word;
  uint32_t code;
};

alarm alarm_of(const lm_call *c)
{
  return {c->device->alarm, lm_device_alarm(c->op->name)};
}

/* Whether index v may be used. */
__device__ inline bool in_range(const alarm &a, int64_t v, int64_t size)
{
  if (v >= 0 && v < size) return true;
  *a.word = a.code;
  return false;
}

lm_status clear(lm_call *c, const lm_tensor *t)
{
  return lm_for_sizes(t->dtype, [&](auto u) {
    using T = LM_TYPE(u);
    return lm_map<T>(c, zero_of(), t);
  });
}

/* ---- lines: gather, scatter_add ---- */

/* index [outer dims, count, inner dims]; x likewise with another size in the middle, and
 * perhaps larger in the others. */
struct lines {
  int ndim, dim;
  int64_t n, count, inner, size, stride; /* n: columns of the index; stride: x's along dim */
  int64_t small[LM_MAX_DIMS], step[LM_MAX_DIMS]; /* the index's shape, x's strides */
};

lines lines_of(const lm_tensor *x, const lm_tensor *index, int dim)
{
  lines l = {};
  l.ndim = x->ndim;
  l.dim = dim;
  l.count = index->shape[dim];
  l.size = x->shape[dim];
  l.inner = l.n = 1;
  int64_t step = 1;
  for (int d = x->ndim - 1; d >= 0; d--) {
    l.small[d] = index->shape[d];
    l.step[d] = step;
    step *= x->shape[d];
    if (d != dim) l.n *= index->shape[d];
    if (d > dim) l.inner *= index->shape[d];
  }
  l.stride = l.step[dim];
  return l;
}

/* Where column k starts in x, counted without dim. */
__device__ inline int64_t column_of(const lines &l, int64_t k)
{
  int64_t at = 0;
  for (int d = l.ndim - 1; d >= 0; d--) {
    if (d == l.dim) continue;
    at += k % l.small[d] * l.step[d];
    k /= l.small[d];
  }
  return at;
}

template <class T>
__global__ void __launch_bounds__(THREADS)
    gather_kernel(lines l, alarm a, const int64_t *index, const T *x, T *out)
{
  int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
  if (i >= l.n * l.count) return;
  int64_t k = i / l.inner / l.count * l.inner + i % l.inner, v = index[i];
  if (in_range(a, v, l.size)) out[i] = x[column_of(l, k) + v * l.stride];
}

/* out, at the places of the index, += source; a thread per column. */
template <class T>
__global__ void __launch_bounds__(THREADS)
    scatter_kernel(lines l, alarm a, const int64_t *index, const T *source, T *out)
{
  int64_t k = (int64_t)blockIdx.x * THREADS + threadIdx.x;
  if (k >= l.n) return;
  int64_t first = k / l.inner * l.count * l.inner + k % l.inner, column = column_of(l, k);
  for (int64_t j = 0; j < l.count; j++) {
    int64_t i = first + j * l.inner, v = index[i], at = column + v * l.stride;
    if (in_range(a, v, l.size))
      out[at] = lm_narrow<T>(lm_widen(out[at]) + lm_widen(source[i]));
  }
}

lm_status scatter(lm_call *c, const lm_tensor *index, const lm_tensor *source, int dim)
{
  const lm_tensor *out = c->out[0];
  if (lm_numel(index) == 0) return LM_OK;
  lines l = lines_of(out, index, dim);
  return lm_for_all(c, out->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    return LM_LAUNCH(c, scatter_kernel<T>, lm_blocks(l.n, THREADS), THREADS, 0, l, alarm_of(c),
                     (const int64_t *)lm_data(index), (const T *)lm_data(source),
                     (T *)lm_data(out));
  });
}

} // namespace

LM_KERNEL(gather)
{
  const lm_tensor *x = c->in[0], *index = c->in[1];
  int dim;
  LM_TRY(lm_dim(c, c->param[0].i, x->ndim, &dim));
  lines l = lines_of(x, index, dim);
  return lm_for_sizes(x->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    return LM_LAUNCH(c, gather_kernel<T>, lm_blocks(lm_numel(index), THREADS), THREADS, 0, l,
                     alarm_of(c), (const int64_t *)lm_data(index), (const T *)lm_data(x),
                     (T *)lm_data(c->out[0]));
  });
}

LM_KERNEL(gather_backward)
{
  LM_TRY(clear(c, c->out[0]));
  return scatter(c, c->in[1], c->in[0], (int)c->param[1].i);
}

LM_KERNEL(scatter_add)
{
  int dim;
  LM_TRY(lm_dim(c, c->param[0].i, c->in[0]->ndim, &dim));
  LM_TRY(lm_copy(c, c->out[0], c->in[0]));
  return scatter(c, c->in[1], c->in[2], dim);
}

/* ---- rows: index_select, embedding, gather_tokens ---- */

namespace {

/* x is [outer, size, inner]; the index has `count` entries, the same for each outer position
 * or, with index_step, its own. */
struct rows {
  int64_t outer, size, count, inner, index_step;
};

rows rows_of(int ndim, const int64_t *shape, int dim, int64_t count)
{
  rows r = {1, shape[dim], count, 1, 0};
  for (int d = 0; d < dim; d++) r.outer *= shape[d];
  for (int d = dim + 1; d < ndim; d++) r.inner *= shape[d];
  return r;
}

template <class T>
__global__ void __launch_bounds__(THREADS)
    pick_kernel(rows r, alarm a, const int64_t *index, const T *x, T *out)
{
  int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
  if (i >= r.outer * r.count * r.inner) return;
  int64_t o = i / r.inner / r.count, v = index[o * r.index_step + i / r.inner % r.count];
  if (in_range(a, v, r.size)) out[i] = x[(o * r.size + v) * r.inner + i % r.inner];
}

template <class T>
__global__ void __launch_bounds__(THREADS)
    put_kernel(rows r, alarm a, const int64_t *index, const T *g, T *out)
{
  int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
  if (i >= r.outer * r.inner) return;
  int64_t o = i / r.inner, column = i % r.inner;
  for (int64_t k = 0; k < r.count; k++) {
    int64_t v = index[o * r.index_step + k], at = (o * r.size + v) * r.inner + column;
    if (in_range(a, v, r.size))
      out[at] = lm_narrow<T>(lm_widen(out[at]) + lm_widen(g[(o * r.count + k) * r.inner + column]));
  }
}

lm_status pick(lm_call *c, const rows &r)
{
  const lm_tensor *x = c->in[0];
  return lm_for_sizes(x->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    return LM_LAUNCH(c, pick_kernel<T>, lm_blocks(r.outer * r.count * r.inner, THREADS), THREADS,
                     0, r, alarm_of(c), (const int64_t *)lm_data(c->in[1]), (const T *)lm_data(x),
                     (T *)lm_data(c->out[0]));
  });
}

lm_status put(lm_call *c, const rows &r)
{
  const lm_tensor *g = c->in[0];
  LM_TRY(clear(c, c->out[0]));
  if (lm_numel(g) == 0) return LM_OK;
  return lm_for_all_floats(c, g->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    return LM_LAUNCH(c, put_kernel<T>, lm_blocks(r.outer * r.inner, THREADS), THREADS, 0, r,
                     alarm_of(c), (const int64_t *)lm_data(c->in[1]), (const T *)lm_data(g),
                     (T *)lm_data(c->out[0]));
  });
}

rows tokens_of(const int64_t *shape, const lm_tensor *index)
{
  return {shape[0], shape[1], index->shape[1], shape[2], index->shape[1]};
}

} // namespace

LM_KERNEL(index_select)
{
  const lm_tensor *x = c->in[0];
  int dim;
  LM_TRY(lm_dim(c, c->param[0].i, x->ndim, &dim));
  return pick(c, rows_of(x->ndim, x->shape, dim, lm_numel(c->in[1])));
}

LM_KERNEL(embedding)
{
  return pick(c, rows_of(2, c->in[0]->shape, 0, lm_numel(c->in[1])));
}

LM_KERNEL(gather_tokens) { return pick(c, tokens_of(c->in[0]->shape, c->in[1])); }

LM_KERNEL(index_select_backward)
{
  return put(c, rows_of(c->param[0].n, c->param[0].v, (int)c->param[1].i, lm_numel(c->in[1])));
}

LM_KERNEL(gather_tokens_backward) { return put(c, tokens_of(c->param[0].v, c->in[1])); }

/* ---- argsort, sort, topk ---- */

namespace {

/* An element to sort: a key whose unsigned order is the wanted one, and its position, which
 * decides between equal keys. */
struct item {
  uint64_t key;
  int64_t place;
};

struct sorting {
  int64_t lines, n, step, k; /* elements of a line, their distance, how many are stored */
  int64_t room;              /* the power of two from n on */
  bool descending;
};

__device__ inline uint64_t key_of(double v)
{
  v = v != v ? double(NAN) : v + 0.0; /* -0 equals 0; NaN is above everything */
  uint64_t bits;
  memcpy(&bits, &v, sizeof bits);
  if (v != v) bits = UINT64_C(0x7ff8000000000000);
  return bits >> 63 ? ~bits : bits | UINT64_C(1) << 63;
}
__device__ inline uint64_t key_of(float v) { return key_of(double(v)); }
__device__ inline uint64_t key_of(int64_t v) { return (uint64_t)v ^ UINT64_C(1) << 63; }
__device__ inline uint64_t key_of(int32_t v) { return key_of((int64_t)v); }
__device__ inline uint64_t key_of(uint8_t v) { return v; }

template <class T>
__device__ inline item make_item(const sorting &s, const T *x, int64_t line, int64_t i)
{
  if (i >= s.n) return {~UINT64_C(0), INT64_MAX};
  uint64_t key = key_of(lm_widen(x[line / s.step * s.n * s.step + line % s.step + i * s.step]));
  return {s.descending ? ~key : key, i};
}

/* Put items i and i ^ distance in order; ascending where bit `size` of i is not set. */
__device__ inline void exchange(item *items, int64_t i, int64_t distance, int64_t size)
{
  int64_t j = i ^ distance;
  if (j < i) return;
  item a = items[i], b = items[j];
  bool swapped = a.key > b.key || (a.key == b.key && a.place > b.place);
  if (swapped == ((i & size) == 0)) {
    items[i] = b;
    items[j] = a;
  }
}

template <class T>
__device__ inline void store(const sorting &s, const T *x, int64_t line, int64_t i, int64_t place,
                             T *values, int64_t *places)
{
  int64_t block = line / s.step, inner = line % s.step;
  int64_t to = (block * s.k + i) * s.step + inner;
  places[to] = place;
  if (values) values[to] = x[(block * s.n + place) * s.step + inner];
}

/* A block sorts a line in shared memory: a bitonic network. */
template <class T>
__global__ void __launch_bounds__(THREADS)
    sort_line(sorting s, const T *x, T *values, int64_t *places)
{
  LM_DYNAMIC_SHARED(item, items);
  int64_t line = blockIdx.x;
  for (int64_t i = threadIdx.x; i < s.room; i += THREADS) items[i] = make_item(s, x, line, i);
  __syncthreads();
  for (int64_t size = 2; size <= s.room; size *= 2) {
    for (int64_t distance = size / 2; distance > 0; distance /= 2) {
      for (int64_t i = threadIdx.x; i < s.room; i += THREADS) exchange(items, i, distance, size);
      __syncthreads();
    }
  }
  for (int64_t i = threadIdx.x; i < s.k; i += THREADS)
    store(s, x, line, i, items[i].place, values, places);
}

/* The same in memory for lines that are longer, a launch per step. */
template <class T>
__global__ void __launch_bounds__(THREADS) load_items(sorting s, const T *x, item *items)
{
  int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
  if (i < s.lines * s.room) items[i] = make_item(s, x, i / s.room, i % s.room);
}

__global__ void __launch_bounds__(THREADS)
    exchange_items(sorting s, int64_t distance, int64_t size, item *items)
{
  int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
  if (i < s.lines * s.room) exchange(items + i / s.room * s.room, i % s.room, distance, size);
}

template <class T>
__global__ void __launch_bounds__(THREADS)
    store_items(sorting s, const T *x, const item *items, T *values, int64_t *places)
{
  int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
  if (i >= s.lines * s.k) return;
  int64_t line = i / s.k;
  store(s, x, line, i % s.k, items[line * s.room + i % s.k].place, values, places);
}

template <class T>
lm_status sort_in_memory(lm_call *c, const sorting &s, const T *x, T *values, int64_t *places)
{
  lm_tensor *scratch;
  int64_t shape[] = {s.lines, s.room, 2};
  LM_TRY(lm_tensor_new(c->device, LM_I64, 3, shape, &scratch));
  item *items = (item *)lm_data(scratch);
  unsigned blocks = lm_blocks(s.lines * s.room, THREADS);
  lm_status status = LM_LAUNCH(c, load_items<T>, blocks, THREADS, 0, s, x, items);
  for (int64_t size = 2; size <= s.room && status == LM_OK; size *= 2)
    for (int64_t distance = size / 2; distance > 0 && status == LM_OK; distance /= 2)
      status = LM_LAUNCH(c, exchange_items, blocks, THREADS, 0, s, distance, size, items);
  if (status == LM_OK)
    status = LM_LAUNCH(c, store_items<T>, lm_blocks(s.lines * s.k, THREADS), THREADS, 0, s, x,
                       (const item *)items, values, places);
  lm_release(scratch);
  return status;
}

/* Sort every line of x along dim; its first k go to values (or NULL) and places. */
lm_status sort_lines(lm_call *c, int64_t dim_given, bool descending, int64_t k,
                     const lm_tensor *values, const lm_tensor *places)
{
  const lm_tensor *x = c->in[0];
  int dim;
  LM_TRY(lm_dim(c, dim_given, x->ndim, &dim));
  sorting s = {1, x->ndim > 0 ? x->shape[dim] : 1, 1, k, 1, descending};
  for (int d = 0; d < x->ndim; d++)
    if (d != dim) s.lines *= x->shape[d];
  for (int d = dim + 1; d < x->ndim; d++) s.step *= x->shape[d];
  if (k < 0) s.k = s.n;
  while (s.room < s.n) s.room *= 2;
  return lm_for_all(c, x->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    const T *from = (const T *)lm_data(x);
    T *v = values ? (T *)lm_data(values) : NULL;
    int64_t *p = (int64_t *)lm_data(places);
    if (s.room > 2048) return sort_in_memory(c, s, from, v, p);
    return LM_LAUNCH(c, sort_line<T>, (unsigned)s.lines, THREADS, (size_t)s.room * sizeof(item), s,
                     from, v, p);
  });
}

} // namespace

LM_KERNEL(argsort)
{
  return sort_lines(c, c->param[0].i, c->param[1].i != 0, -1, NULL, c->out[0]);
}

LM_KERNEL(sort)
{
  return sort_lines(c, c->param[0].i, c->param[1].i != 0, -1, c->out[0], c->out[1]);
}

LM_KERNEL(topk)
{
  return sort_lines(c, c->param[1].i, true, c->param[0].i, c->out[0], c->out[1]);
}

/* ---- one_hot ---- */

namespace {

__global__ void __launch_bounds__(THREADS)
    one_hot_kernel(int64_t n, int64_t classes, alarm a, const int64_t *index, float *out)
{
  int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
  if (i >= n * classes) return;
  int64_t v = index[i / classes];
  out[i] = in_range(a, v, classes) && v == i % classes ? 1.0f : 0.0f;
}

} // namespace

LM_KERNEL(one_hot)
{
  int64_t classes = c->param[0].i, n = lm_numel(c->in[0]);
  return LM_LAUNCH(c, one_hot_kernel, lm_blocks(n * classes, THREADS), THREADS, 0, n, classes,
                   alarm_of(c), (const int64_t *)lm_data(c->in[0]), (float *)lm_data(c->out[0]));
}
