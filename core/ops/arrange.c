/* arrange.c: operations that copy their inputs' elements to other places: cat, stack,
 * pad, roll, flip, repeat, axial_shift. All dtypes: elements are moved by their size,
 * mostly by lm_copy_strided between two layouts. Views are in movement.c. */
#include <string.h>

#include "graph/op.h"
#include "tensor/copy.h"

extern const lm_op lm_op_pad, lm_op_roll, lm_op_flip, lm_op_axial_shift_backward;
extern const lm_op lm_op_reshape, lm_op_sum;

#define ANY_LAYOUT (LM_OP_STRIDED | LM_OP_BF16)

/* ---- shared ---- */

/* Copy the elements of `from` in their order to the block of `to` that starts at element
 * `offset` and has the given strides. */
static void copy_block_to(const lm_tensor *from, lm_tensor *to, int64_t offset,
                          const int64_t *stride)
{
  if (lm_numel(from) == 0) return;
  int64_t size = lm_dtype_size(to->dtype);
  lm_copy_strided(from->ndim, from->shape, size, lm_data(from), from->stride,
                  (char *)lm_data(to) + offset * size, stride);
}

static lm_status check_list(const lm_call *c, const char *name, int n)
{
  if (n <= LM_MAX_DIMS) return LM_OK;
  return lm_op_fail(c, LM_ERR_ARG,
                    "%s has %d numbers, but tensors have at most %d dimensions", name, n,
                    LM_MAX_DIMS);
}

/* Which dimensions a `dims` parameter names; each at most once. */
static lm_status mark_dims(const lm_call *c, const lm_value *v, bool *marked)
{
  memset(marked, 0, LM_MAX_DIMS * sizeof *marked);
  for (int i = 0; i < v->n; i++) {
    int d;
    LM_TRY(lm_dim(c, v->v[i], c->in[0]->ndim, &d));
    if (marked[d])
      return lm_op_fail(c, LM_ERR_ARG, "dimension %d is named twice in dims (x: %s)",
                        d + 1, lm_describe(c->in[0]));
    marked[d] = true;
  }
  return LM_OK;
}

/* As lm_dim, for operations that make no sense on a scalar. */
static lm_status real_dim(const lm_call *c, int64_t dim, int *out)
{
  if (c->in[0]->ndim == 0)
    return lm_op_fail(c, LM_ERR_SHAPE, "%s is a scalar and has no dimensions (%s)",
                      lm_arg_name(c, 0), lm_describe(c->in[0]));
  return lm_dim(c, dim, c->in[0]->ndim, out);
}

/* ---- cat, stack ---- */

static lm_status check_joined(const lm_call *c)
{
  if (c->nin == 0) return lm_op_fail(c, LM_ERR_ARG, "%s", "needs at least one tensor");
  for (int i = 1; i < c->nin; i++) {
    if (c->in[i]->dtype == c->in[0]->dtype) continue;
    return lm_op_fail(c, LM_ERR_DTYPE, "tensor %d is %s but the first is %s", i + 1,
                      lm_describe(c->in[i]), lm_describe(c->in[0]));
  }
  return LM_OK;
}

static lm_status unlike_first(const lm_call *c, int i)
{
  return lm_op_fail(c, LM_ERR_SHAPE, "tensor %d does not fit the first: %s and %s", i + 1,
                    lm_describe(c->in[i]), lm_describe(c->in[0]));
}

static lm_status cat_infer(lm_call *c)
{
  LM_TRY(check_joined(c));
  const lm_tensor *x = c->in[0];
  int dim;
  LM_TRY(real_dim(c, c->param[0].i, &dim));
  int64_t shape[LM_MAX_DIMS];
  memcpy(shape, x->shape, sizeof shape);
  for (int i = 1; i < c->nin; i++) {
    const lm_tensor *t = c->in[i];
    if (t->ndim != x->ndim) return unlike_first(c, i);
    for (int d = 0; d < x->ndim; d++)
      if (d != dim && t->shape[d] != x->shape[d]) return unlike_first(c, i);
    shape[dim] += t->shape[dim];
  }
  return lm_out(c, 0, x->dtype, x->ndim, shape);
}

static lm_status cat_cpu(lm_call *c)
{
  lm_tensor *out = c->out[0];
  int dim;
  LM_TRY(lm_dim(c, c->param[0].i, out->ndim, &dim));
  int64_t offset = 0;
  for (int i = 0; i < c->nin; i++) {
    copy_block_to(c->in[i], out, offset, out->stride);
    offset += c->in[i]->shape[dim] * out->stride[dim];
  }
  return LM_OK;
}

static lm_status cat_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  const lm_tensor *g = gout[0];
  int dim;
  LM_TRY(lm_dim(c, c->param[0].i, g->ndim, &dim));
  int64_t at = 0;
  for (int i = 0; i < c->nin; i++) {
    const lm_tensor *x = c->in[i];
    int64_t offset = lm_numel(x) > 0 ? g->offset + at * g->stride[dim] : g->offset;
    if (lm_wants(c, i))
      LM_TRY(lm_tensor_view(g, x->ndim, x->shape, g->stride, offset, &gin[i]));
    at += x->shape[dim];
  }
  return LM_OK;
}

const lm_op lm_op_cat = {.name = "cat",
                         .sig = "xs...; dim: dim = 0",
                         .doc = "The tensors one after the other along an existing "
                                "dimension; all other sizes and "
                                "the dtypes are equal.\n"
                        "> a, b = lumen.zeros(2, 3), lumen.ones(1, 3)\n"
                        "> lumen.cat({a, b}).shape\n"
                        "{3, 3}\n"
                        "> lumen.cat({lumen.zeros(2, 1), lumen.ones(2, 1)}, {dim = 2})\n"
                        "f32 [2 x 2] {0, 1, 0, 1}",
                         .infer = cat_infer,
                         .cpu = cat_cpu,
                         .grad = cat_grad,
                         .flags = ANY_LAYOUT};

static lm_status stack_infer(lm_call *c)
{
  LM_TRY(check_joined(c));
  const lm_tensor *x = c->in[0];
  int dim, n = x->ndim + 1;
  LM_TRY(lm_dim(c, c->param[0].i, n, &dim));
  LM_TRY(check_list(c, "the new shape", n));
  for (int i = 1; i < c->nin; i++)
    if (!lm_same_shape(c->in[i], x)) return unlike_first(c, i);
  int64_t shape[LM_MAX_DIMS];
  for (int i = 0; i < n; i++)
    shape[i] = i == dim ? c->nin : x->shape[i < dim ? i : i - 1];
  return lm_out(c, 0, x->dtype, n, shape);
}

/* Strides of `t` without dimension dim. */
static void strides_without(const lm_tensor *t, int dim, int64_t *stride)
{
  for (int i = 0; i < t->ndim; i++)
    if (i != dim) stride[i < dim ? i : i - 1] = t->stride[i];
}

static lm_status stack_cpu(lm_call *c)
{
  lm_tensor *out = c->out[0];
  int dim;
  LM_TRY(lm_dim(c, c->param[0].i, out->ndim, &dim));
  int64_t stride[LM_MAX_DIMS];
  strides_without(out, dim, stride);
  for (int i = 0; i < c->nin; i++)
    copy_block_to(c->in[i], out, i * out->stride[dim], stride);
  return LM_OK;
}

static lm_status stack_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  const lm_tensor *g = gout[0];
  int dim;
  LM_TRY(lm_dim(c, c->param[0].i, g->ndim, &dim));
  int64_t stride[LM_MAX_DIMS];
  strides_without(g, dim, stride);
  for (int i = 0; i < c->nin; i++) {
    int64_t offset = g->offset + (lm_numel(g) > 0 ? i * g->stride[dim] : 0);
    if (lm_wants(c, i))
      LM_TRY(lm_tensor_view(g, g->ndim - 1, c->in[i]->shape, stride, offset, &gin[i]));
  }
  return LM_OK;
}

const lm_op lm_op_stack = {
    .name = "stack",
    .sig = "xs...; dim: dim = 0",
    .doc = "Tensors of one shape side by side along a new dimension dim of the result.\n"
           "> lumen.stack{lumen.zeros(3), lumen.ones(3)}\n"
           "f32 [2 x 3] {0, 0, 0, 1, 1, 1}",
    .infer = stack_infer,
    .cpu = stack_cpu,
    .grad = stack_grad,
    .flags = ANY_LAYOUT};

/* ---- pad ---- */

/* Elements added before (or after) dimension d; negative: taken away. */
static int64_t pad_of(const lm_call *c, int d, int after)
{
  int k = 2 * (c->in[0]->ndim - 1 - d) + after;
  return k < c->param[0].n ? c->param[0].v[k] : 0;
}

static lm_status pad_infer(lm_call *c)
{
  const lm_tensor *x = c->in[0];
  int64_t shape[LM_MAX_DIMS];
  if (c->param[0].n % 2 != 0 || c->param[0].n > 2 * x->ndim)
    return lm_op_fail(c, LM_ERR_ARG,
                      "pads has %d numbers, but x has %d dimensions with two each",
                      c->param[0].n, x->ndim);
  for (int d = 0; d < x->ndim; d++) {
    bool over = __builtin_add_overflow(x->shape[d], pad_of(c, d, 0), &shape[d]) ||
                __builtin_add_overflow(shape[d], pad_of(c, d, 1), &shape[d]);
    if (over || shape[d] < 0)
      return lm_op_fail(
          c, LM_ERR_SHAPE, "pads %lld and %lld leave nothing of dimension %d (x: %s)",
          (long long)pad_of(c, d, 0), (long long)pad_of(c, d, 1), d + 1, lm_describe(x));
  }
  double low = x->dtype == LM_U8 ? 0 : INT32_MIN;
  double high = x->dtype == LM_U8 ? UINT8_MAX : INT32_MAX;
  if (!lm_dtype_is_float(x->dtype) && !(c->param[1].f >= low && c->param[1].f <= high))
    return lm_op_fail(c, LM_ERR_ARG, "value %g does not fit %s", c->param[1].f,
                      lm_dtype_name(x->dtype));
  return lm_out(c, 0, x->dtype, x->ndim, shape);
}

static void fill(lm_tensor *t, double value)
{
  union {
    float f32;
    double f64;
    lm_bf16 bf16;
    int32_t i32;
    int64_t i64;
    uint8_t u8;
  } v;
  switch (t->dtype) {
    case LM_F32: v.f32 = (float)value; break;
    case LM_F64: v.f64 = value; break;
    case LM_BF16: v.bf16 = lm_f32_to_bf16((float)value); break;
    case LM_I32: v.i32 = (int32_t)value; break;
    case LM_I64: v.i64 = (int64_t)value; break;
    default: v.u8 = (uint8_t)value; break;
  }
  int64_t n = lm_numel(t);
  lm_copy_strided(1, &n, lm_dtype_size(t->dtype), &v, (int64_t[]){0}, lm_data(t),
                  (int64_t[]){1});
}

static lm_status pad_cpu(lm_call *c)
{
  const lm_tensor *x = c->in[0];
  lm_tensor *out = c->out[0];
  int64_t shape[LM_MAX_DIMS], from = 0, to = 0, size = lm_dtype_size(x->dtype);
  bool grows = false;
  for (int k = 0; k < c->param[0].n; k++) grows |= c->param[0].v[k] > 0;
  if (grows) fill(out, c->param[1].f);
  for (int d = 0; d < x->ndim; d++) {
    int64_t before = pad_of(c, d, 0), after = pad_of(c, d, 1);
    shape[d] = x->shape[d] + lm_min64(before, 0) + lm_min64(after, 0);
    if (shape[d] <= 0) return LM_OK;
    from += lm_max64(-before, 0) * x->stride[d];
    to += lm_max64(before, 0) * out->stride[d];
  }
  lm_copy_strided(x->ndim, shape, size, (const char *)lm_data(x) + from * size, x->stride,
                  (char *)lm_data(out) + to * size, out->stride);
  return LM_OK;
}

static lm_status pad_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  lm_value back = c->param[0];
  for (int i = 0; i < back.n; i++) back.v[i] = -back.v[i];
  back.given = true;
  return lm_apply(&lm_op_pad, LM_IN(gout[0]), LM_PARAMS(back, lm_float(0)), gin);
}

const lm_op lm_op_pad = {
    .name = "pad",
    .sig = "x; pads: ints, value: float = 0",
    .doc = "x with a border of `value`. pads holds pairs (before, after), the last "
           "dimension's "
           "first; negative numbers take elements away. Four dimensions at most.\n"
           "> lumen.ones(1, 2):pad({pads = {1, 2}})\n"
           "f32 [1 x 5] {0, 1, 1, 0, 0}\n"
           "> lumen.ones(1, 1, 4, 4):pad({pads = {1, 1, 2, 2}}).shape\n"
           "{1, 1, 8, 6}",
    .infer = pad_infer,
    .cpu = pad_cpu,
    .grad = pad_grad,
    .flags = ANY_LAYOUT};

/* ---- roll, flip ---- */

static lm_status roll_infer(lm_call *c)
{
  int dim;
  if (c->param[0].n != c->param[1].n)
    return lm_op_fail(c, LM_ERR_ARG, "%d shifts for %d dims", c->param[0].n,
                      c->param[1].n);
  for (int i = 0; i < c->param[1].n; i++) LM_TRY(real_dim(c, c->param[1].v[i], &dim));
  return lm_out_like(c, 0, c->in[0]);
}

/* Copy dimension d and below: the part that stays in order and the part that wraps. */
static void roll_copy(const lm_tensor *x, lm_tensor *out, const int64_t *shift, int d,
                      int64_t *shape, int64_t from, int64_t to)
{
  int64_t size = lm_dtype_size(x->dtype);
  while (d < x->ndim && shift[d] == 0) {
    shape[d] = x->shape[d];
    d++;
  }
  if (d == x->ndim) {
    lm_copy_strided(x->ndim, shape, size, (const char *)lm_data(x) + from * size,
                    x->stride, (char *)lm_data(out) + to * size, out->stride);
    return;
  }
  int64_t stays = x->shape[d] - shift[d];
  shape[d] = stays;
  roll_copy(x, out, shift, d + 1, shape, from, to + shift[d] * out->stride[d]);
  shape[d] = shift[d];
  roll_copy(x, out, shift, d + 1, shape, from + stays * x->stride[d], to);
}

static lm_status roll_cpu(lm_call *c)
{
  const lm_tensor *x = c->in[0];
  int64_t shape[LM_MAX_DIMS], shift[LM_MAX_DIMS] = {0};
  for (int i = 0; i < c->param[1].n; i++) {
    int dim;
    LM_TRY(lm_dim(c, c->param[1].v[i], x->ndim, &dim));
    int64_t n = x->shape[dim];
    shift[dim] = (shift[dim] + c->param[0].v[i] % n + n) % n;
  }
  roll_copy(x, c->out[0], shift, 0, shape, 0, 0);
  return LM_OK;
}

static lm_status roll_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  lm_value back[] = {c->param[0], c->param[1]};
  for (int i = 0; i < back[0].n; i++) {
    int dim; /* the remainder, because the smallest integer has no opposite */
    LM_TRY(lm_dim(c, back[1].v[i], c->in[0]->ndim, &dim));
    back[0].v[i] = -(back[0].v[i] % lm_max64(c->in[0]->shape[dim], 1));
  }
  return lm_apply(&lm_op_roll, LM_IN(gout[0]), back, gin);
}

const lm_op lm_op_roll = {.name = "roll",
                          .sig = "x; shifts: ints, dims: dims",
                          .doc = "x moved by shifts[i] along dims[i]; what leaves at one "
                                 "end comes in at the other.\n"
                                 "> lumen.arange(5):roll(1, 1)\n"
                                 "i64 [5] {4, 0, 1, 2, 3}",
                          .infer = roll_infer,
                          .cpu = roll_cpu,
                          .grad = roll_grad,
                          .flags = ANY_LAYOUT};

static lm_status flip_infer(lm_call *c)
{
  bool marked[LM_MAX_DIMS];
  LM_TRY(mark_dims(c, &c->param[0], marked));
  return lm_out_like(c, 0, c->in[0]);
}

static lm_status flip_cpu(lm_call *c)
{
  const lm_tensor *x = c->in[0];
  bool marked[LM_MAX_DIMS];
  LM_TRY(mark_dims(c, &c->param[0], marked));
  int64_t stride[LM_MAX_DIMS], from = 0, size = lm_dtype_size(x->dtype);
  for (int d = 0; d < x->ndim; d++) {
    stride[d] = marked[d] ? -x->stride[d] : x->stride[d];
    if (marked[d]) from += (x->shape[d] - 1) * x->stride[d];
  }
  lm_copy_strided(x->ndim, x->shape, size, (const char *)lm_data(x) + from * size, stride,
                  lm_data(c->out[0]), c->out[0]->stride);
  return LM_OK;
}

static lm_status flip_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  return lm_apply(&lm_op_flip, LM_IN(gout[0]), LM_PARAMS(c->param[0]), gin);
}

const lm_op lm_op_flip = {.name = "flip",
                          .sig = "x; dims: dims",
                          .doc = "x with the order along each of dims reversed.\n"
                                 "> lumen.arange(6):reshape(2, 3):flip(2)\n"
                                 "i64 [2 x 3] {2, 1, 0, 5, 4, 3}",
                          .infer = flip_infer,
                          .cpu = flip_cpu,
                          .grad = flip_grad,
                          .flags = ANY_LAYOUT};

/* ---- repeat ---- */

static lm_status repeat_infer(lm_call *c)
{
  const lm_value *v = &c->param[0];
  const lm_tensor *x = c->in[0];
  int extra = v->n - x->ndim;
  int64_t shape[LM_MAX_DIMS];
  LM_TRY(check_list(c, "times", v->n));
  if (extra < 0)
    return lm_op_fail(c, LM_ERR_ARG,
                      "times has %d numbers but x has %d dimensions (x: %s)", v->n,
                      x->ndim, lm_describe(x));
  for (int i = 0; i < v->n; i++) {
    int64_t size = i < extra ? 1 : x->shape[i - extra];
    if (v->v[i] < 0 || __builtin_mul_overflow(size, v->v[i], &shape[i]))
      return lm_op_fail(c, LM_ERR_ARG, "times %lld is %s", (long long)v->v[i],
                        v->v[i] < 0 ? "negative" : "too large");
  }
  return lm_out(c, 0, x->dtype, v->n, shape);
}

static lm_status repeat_cpu(lm_call *c)
{
  const lm_value *v = &c->param[0];
  const lm_tensor *x = c->in[0];
  lm_tensor *out = c->out[0];
  int extra = v->n - x->ndim;
  int64_t shape[2 * LM_MAX_DIMS], from[2 * LM_MAX_DIMS], to[2 * LM_MAX_DIMS];
  for (int i = 0; i < v->n; i++) {
    int64_t size = i < extra ? 1 : x->shape[i - extra];
    shape[2 * i] = v->v[i];
    from[2 * i] = 0;
    to[2 * i] = size * out->stride[i];
    shape[2 * i + 1] = size;
    from[2 * i + 1] = i < extra ? 0 : x->stride[i - extra];
    to[2 * i + 1] = out->stride[i];
  }
  lm_copy_strided(2 * v->n, shape, lm_dtype_size(x->dtype), lm_data(x), from,
                  lm_data(out), to);
  return LM_OK;
}

/* Sum the copies of one dimension: [outer, times, rest] -> [outer, rest]. */
static lm_status sum_copies(lm_tensor *g, int64_t outer, int64_t times, int64_t rest,
                            lm_tensor **out)
{
  lm_tensor *t;
  int64_t shape[] = {outer, times, rest};
  LM_TRY(lm_apply(&lm_op_reshape, LM_IN(g), LM_PARAMS(lm_ints(3, shape)), &t));
  lm_status status = lm_apply(&lm_op_sum, LM_IN(t), LM_PARAMS(lm_int(1), lm_int(0)), out);
  lm_release(t);
  return status;
}

static lm_status repeat_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  const lm_value *v = &c->param[0];
  const lm_tensor *x = c->in[0];
  int extra = v->n - x->ndim;
  lm_tensor *g = lm_retain(gout[0]), *next;
  lm_status status = LM_OK;
  int64_t outer = 1;
  for (int i = 0; i < v->n && status == LM_OK; i++) {
    int64_t size = i < extra ? 1 : x->shape[i - extra], rest = size;
    for (int j = i + 1; j < v->n; j++) rest *= gout[0]->shape[j];
    if (v->v[i] != 1) {
      status = sum_copies(g, outer, v->v[i], rest, &next);
      lm_release(g);
      g = status == LM_OK ? next : NULL;
    }
    outer *= size;
  }
  if (status == LM_OK)
    status =
        lm_apply(&lm_op_reshape, LM_IN(g), LM_PARAMS(lm_ints(x->ndim, x->shape)), gin);
  lm_release(g);
  return status;
}

const lm_op lm_op_repeat = {
    .name = "repeat",
    .sig = "x; times: ints",
    .doc =
        "x tiled times[i] times along dimension i; more numbers than dimensions put new "
        "dimensions in front.\n"
        "> lumen[\"repeat\"](lumen.tensor{1, 2}, {2, 2})\n"
        "f32 [2 x 4] {1, 2, 1, 2, 1, 2, 1, 2}",
    .infer = repeat_infer,
    .cpu = repeat_cpu,
    .grad = repeat_grad,
    .flags = ANY_LAYOUT};

/* ---- axial_shift ---- */

static lm_status axial_shift_infer(lm_call *c)
{
  int dim;
  LM_TRY(lm_check_ndim(c, 0, 4));
  LM_TRY(lm_dim(c, c->param[0].i, 4, &dim));
  if (dim < 2)
    return lm_op_fail(c, LM_ERR_ARG,
                      "dim %d is not one of the image's (3: rows, 4: columns)", dim + 1);
  if (c->param[1].i < 1)
    return lm_op_fail(c, LM_ERR_ARG, "groups must be at least 1, not %lld",
                      (long long)c->param[1].i);
  return lm_out_like(c, 0, c->in[0]);
}

/* y[i] = x[i - shift * step] for a plane of rows x row bytes, shift along rows or
 * columns, zero where that lies outside. Columns: the plane moves as a whole, then what
 * came in from the neighbouring row is cleared. */
static void shift_plane(const char *x, char *y, int64_t rows, int64_t row, int64_t by,
                        bool along_rows)
{
  int64_t size = rows * row, line = along_rows ? size : row;
  int64_t n = by < 0 ? -by : by;
  if (n >= line) {
    memset(y, 0, (size_t)size);
    return;
  }
  memcpy(y + (by > 0 ? n : 0), x + (by < 0 ? n : 0), (size_t)(size - n));
  for (int64_t at = by > 0 ? 0 : line - n; at < size && n > 0; at += line)
    memset(y + at, 0, (size_t)n);
}

static lm_status axial_shift_run(lm_call *c, int sign)
{
  const lm_tensor *x = c->in[0];
  int dim;
  LM_TRY(lm_dim(c, c->param[0].i, 4, &dim));
  int64_t channels = x->shape[1], groups = c->param[1].i, size = lm_dtype_size(x->dtype);
  int64_t chunk = (channels - 1) / groups + 1;
  int64_t rows = x->shape[2], row = x->shape[3] * size, planes = x->shape[0] * channels;
  int64_t unit = dim == 2 ? row : size;
  const char *from = lm_data(x);
  char *to = lm_data(c->out[0]);
#pragma omp parallel for schedule(static) if (planes * rows * row > 128 * 1024)
  for (int64_t p = 0; p < planes; p++) {
    int64_t shift = sign * (p % channels / chunk - groups / 2);
    shift = lm_max64(lm_min64(shift, x->shape[dim]), -x->shape[dim]);
    shift_plane(from + p * rows * row, to + p * rows * row, rows, row, shift * unit,
                dim == 2);
  }
  return LM_OK;
}

static lm_status axial_shift_cpu(lm_call *c)
{
  return axial_shift_run(c, 1);
}

static lm_status axial_shift_backward_cpu(lm_call *c)
{
  return axial_shift_run(c, -1);
}

static lm_status axial_shift_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  lm_value p[] = {lm_int(c->param[0].i), lm_int(c->param[1].i)};
  return lm_apply(&lm_op_axial_shift_backward, LM_IN(gout[0]), p, gin);
}

const lm_op lm_op_axial_shift = {
    .name = "axial_shift",
    .sig = "x; dim: dim, groups: int = 5",
    .doc =
        "x [N, C, H, W]: the channels are cut into groups of ceil(C / groups); group k "
        "(from 0) moves by k - groups / 2 along dim (3 or 4), zeros come in. The shift "
        "of "
        "UNeXt's tokenised MLP (arXiv 2203.04967).\n"
        "> x = lumen.ones(1, 5, 4, 4):axial_shift(3)\n"
        "> x:select(4, 1)[1]\n"
        "f32 [5 x 4] {1, 1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 1, ...}",
    .infer = axial_shift_infer,
    .cpu = axial_shift_cpu,
    .grad = axial_shift_grad,
    .flags = LM_OP_BF16};

const lm_op lm_op_axial_shift_backward = {.name = "axial_shift_backward",
                                          .sig = "g; dim: int, groups: int",
                                          .doc =
                                              "axial_shift with the directions reversed.",
                                          .infer = axial_shift_infer,
                                          .cpu = axial_shift_backward_cpu,
                                          .flags = LM_OP_INTERNAL | LM_OP_BF16};
