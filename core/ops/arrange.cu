/* arrange.cu: copies to other places on the card (see arrange.c): mostly lm_copy between
 * tensors whose shape and strides are made up for it. */
#include "ops/walk.h"

namespace {

/* A block of t's memory: from element `offset` of t on, with a shape and strides. */
lm_tensor block(const lm_tensor *t, int ndim, const int64_t *shape, const int64_t *stride,
                int64_t offset)
{
  lm_tensor b = *t;
  b.ndim = ndim;
  b.offset += offset;
  for (int d = 0; d < ndim; d++) {
    b.shape[d] = shape[d];
    b.stride[d] = stride[d];
  }
  return b;
}

/* Copy `from` into the block of `to` at `offset` with these strides. */
lm_status copy_into(lm_call *c, const lm_tensor *from, const lm_tensor *to, int64_t offset,
                    const int64_t *stride)
{
  lm_tensor b = block(to, from->ndim, from->shape, stride, offset);
  return lm_numel(from) > 0 ? lm_copy(c, &b, from) : LM_OK;
}

} // namespace

LM_KERNEL(cat)
{
  const lm_tensor *out = c->out[0];
  int dim;
  int64_t offset = 0;
  LM_TRY(lm_dim(c, c->param[0].i, out->ndim, &dim));
  for (int i = 0; i < c->nin; i++) {
    LM_TRY(copy_into(c, c->in[i], out, offset, out->stride));
    offset += c->in[i]->shape[dim] * out->stride[dim];
  }
  return LM_OK;
}

LM_KERNEL(stack)
{
  const lm_tensor *out = c->out[0];
  int dim;
  int64_t stride[LM_MAX_DIMS];
  LM_TRY(lm_dim(c, c->param[0].i, out->ndim, &dim));
  for (int d = 0; d < out->ndim; d++)
    if (d != dim) stride[d < dim ? d : d - 1] = out->stride[d];
  for (int i = 0; i < c->nin; i++)
    LM_TRY(copy_into(c, c->in[i], out, i * out->stride[dim], stride));
  return LM_OK;
}

/* ---- pad ---- */

namespace {

template <class O>
struct fill_of {
  lm_wide<O> value;
  __device__ lm_wide<O> operator()() const { return value; }
};

/* Elements added before (or after) dimension d; negative: taken away. */
int64_t pad_of(const lm_call *c, int d, int after)
{
  int k = 2 * (c->in[0]->ndim - 1 - d) + after;
  return k < c->param[0].n ? c->param[0].v[k] : 0;
}

} // namespace

LM_KERNEL(pad)
{
  const lm_tensor *x = c->in[0], *out = c->out[0];
  int64_t shape[LM_MAX_DIMS], from = 0, to = 0;
  double value = c->param[1].f;
  bool grows = false;
  for (int k = 0; k < c->param[0].n; k++) grows |= c->param[0].v[k] > 0;
  if (grows)
    LM_TRY(lm_for_all(c, out->dtype, [&](auto t) {
      using T = LM_TYPE(t);
      return lm_map<T>(c, fill_of<T>{lm_wide<T>(value)}, out);
    }));
  for (int d = 0; d < x->ndim; d++) {
    int64_t before = pad_of(c, d, 0), after = pad_of(c, d, 1);
    shape[d] = x->shape[d] + lm_min64(before, 0) + lm_min64(after, 0);
    if (shape[d] <= 0) return LM_OK;
    from += lm_max64(-before, 0) * x->stride[d];
    to += lm_max64(before, 0) * out->stride[d];
  }
  lm_tensor a = block(x, x->ndim, shape, x->stride, from);
  return copy_into(c, &a, out, to, out->stride);
}

/* ---- roll, flip ---- */

namespace {

/* Copy dimension d and below: the part that stays in order and the part that wraps. */
lm_status roll_copy(lm_call *c, const int64_t *shift, int d, int64_t *shape, int64_t from,
                    int64_t to)
{
  const lm_tensor *x = c->in[0], *out = c->out[0];
  while (d < x->ndim && shift[d] == 0) {
    shape[d] = x->shape[d];
    d++;
  }
  if (d == x->ndim) {
    lm_tensor a = block(x, x->ndim, shape, x->stride, from);
    return copy_into(c, &a, out, to, out->stride);
  }
  int64_t stays = x->shape[d] - shift[d];
  shape[d] = stays;
  LM_TRY(roll_copy(c, shift, d + 1, shape, from, to + shift[d] * out->stride[d]));
  shape[d] = shift[d];
  return roll_copy(c, shift, d + 1, shape, from + stays * x->stride[d], to);
}

} // namespace

LM_KERNEL(roll)
{
  const lm_tensor *x = c->in[0];
  int64_t shape[LM_MAX_DIMS], shift[LM_MAX_DIMS] = {0};
  for (int i = 0; i < c->param[1].n; i++) {
    int dim;
    LM_TRY(lm_dim(c, c->param[1].v[i], x->ndim, &dim));
    int64_t n = x->shape[dim];
    shift[dim] = (shift[dim] + c->param[0].v[i] % n + n) % n;
  }
  return roll_copy(c, shift, 0, shape, 0, 0);
}

LM_KERNEL(flip)
{
  const lm_tensor *x = c->in[0];
  int64_t stride[LM_MAX_DIMS], from = 0;
  for (int d = 0; d < x->ndim; d++) stride[d] = x->stride[d];
  for (int i = 0; i < c->param[0].n; i++) {
    int d;
    LM_TRY(lm_dim(c, c->param[0].v[i], x->ndim, &d));
    stride[d] = -x->stride[d];
    from += (x->shape[d] - 1) * x->stride[d];
  }
  lm_tensor a = block(x, x->ndim, x->shape, stride, from);
  return lm_copy(c, c->out[0], &a);
}

/* ---- repeat ---- */

namespace {

struct tiling {
  int ndim;
  int64_t n, shape[LM_MAX_DIMS], size[LM_MAX_DIMS], stride[LM_MAX_DIMS];
};

template <class T>
__global__ void __launch_bounds__(WALK_THREADS) repeat_kernel(tiling t, const T *x, T *out)
{
  int64_t i = (int64_t)blockIdx.x * WALK_THREADS + threadIdx.x, rest = i, from = 0;
  if (i >= t.n) return;
  for (int d = t.ndim - 1; d >= 0; d--) {
    from += rest % t.shape[d] % t.size[d] * t.stride[d];
    rest /= t.shape[d];
  }
  out[i] = x[from];
}

} // namespace

LM_KERNEL(repeat)
{
  const lm_tensor *x = c->in[0], *out = c->out[0];
  tiling t = {};
  t.ndim = out->ndim;
  t.n = lm_numel(out);
  for (int d = 0; d < out->ndim; d++) {
    int own = d - (out->ndim - x->ndim);
    t.shape[d] = out->shape[d];
    t.size[d] = own < 0 ? 1 : x->shape[own];
    t.stride[d] = own < 0 ? 0 : x->stride[own];
  }
  return lm_for_sizes(x->dtype, [&](auto u) {
    using T = LM_TYPE(u);
    return LM_LAUNCH(c, repeat_kernel<T>, lm_blocks(t.n, WALK_THREADS), WALK_THREADS, 0, t,
                     (const T *)lm_data(x), (T *)lm_data(out));
  });
}

/* ---- axial_shift ---- */

namespace {

struct shifting {
  int64_t n, channels, rows, columns, chunk, groups;
  int sign;
  bool along_rows;
};

template <class T>
__global__ void __launch_bounds__(WALK_THREADS) shift_kernel(shifting s, const T *x, T *out)
{
  int64_t i = (int64_t)blockIdx.x * WALK_THREADS + threadIdx.x;
  if (i >= s.n) return;
  int64_t column = i % s.columns, row = i / s.columns % s.rows;
  int64_t channel = i / s.columns / s.rows % s.channels;
  int64_t by = s.sign * (channel / s.chunk - s.groups / 2);
  int64_t at = (s.along_rows ? row : column) - by;
  bool inside = at >= 0 && at < (s.along_rows ? s.rows : s.columns);
  out[i] = inside ? x[i - by * (s.along_rows ? s.columns : 1)] : T(0);
}

lm_status axial_shift(lm_call *c, int sign)
{
  const lm_tensor *x = c->in[0];
  int dim;
  LM_TRY(lm_dim(c, c->param[0].i, 4, &dim));
  int64_t groups = c->param[1].i, chunk = (x->shape[1] - 1) / groups + 1;
  shifting s = {lm_numel(x), x->shape[1], x->shape[2], x->shape[3], chunk, groups, sign, dim == 2};
  return lm_for_sizes(x->dtype, [&](auto u) {
    using T = LM_TYPE(u);
    return LM_LAUNCH(c, shift_kernel<T>, lm_blocks(s.n, WALK_THREADS), WALK_THREADS, 0, s,
                     (const T *)lm_data(x), (T *)lm_data(c->out[0]));
  });
}

} // namespace

LM_KERNEL(axial_shift) { return axial_shift(c, 1); }
LM_KERNEL(axial_shift_backward) { return axial_shift(c, -1); }
