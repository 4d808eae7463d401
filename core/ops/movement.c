/* movement.c: operations that give elements another place without computing anything:
 * views.
 *
 * Everything here makes a view of its input, except reshape and flatten where no view has
 * the new shape, and contiguous; these copy with lm_copy_strided. All dtypes. The
 * operations that always copy are in arrange.c. */
#include <string.h>

#include "graph/op.h"
#include "tensor/copy.h"

extern const lm_op lm_op_reshape, lm_op_permute, lm_op_transpose, lm_op_unsqueeze,
    lm_op_slice_backward;

#define ANY_LAYOUT (LM_OP_STRIDED | LM_OP_BF16)

/* ---- shared ---- */

static void contiguous_strides(int ndim, const int64_t *shape, int64_t *stride)
{
  int64_t n = 1;
  for (int i = ndim - 1; i >= 0; i--) {
    stride[i] = n;
    n *= lm_max64(shape[i], 1);
  }
}

/* The gradient of everything that only renames positions. */
static lm_status grad_reshape(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  const lm_tensor *x = c->in[0];
  return lm_apply(&lm_op_reshape, LM_IN(gout[0]), LM_PARAMS(lm_ints(x->ndim, x->shape)),
                  gin);
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

/* ---- reshape, flatten, contiguous ---- */

/* Strides under which t's elements, in order, have another shape of the same size; false
 * when there are none. Walks both shapes from the end, one run of mergeable dimensions of
 * t at a time; the new dimensions must fill each run exactly. */
static bool view_strides(const lm_tensor *t, int ndim, const int64_t *shape,
                         int64_t *stride)
{
  if (lm_numel(t) == 0 || t->ndim == 0) {
    contiguous_strides(ndim, shape, stride);
    return true;
  }
  int v = ndim - 1;
  int64_t base = t->stride[t->ndim - 1], run = 1, filled = 1;
  for (int d = t->ndim - 1; d >= 0; d--) {
    run *= t->shape[d];
    bool ends = d == 0 || (t->shape[d - 1] != 1 && t->stride[d - 1] != run * base);
    if (!ends) continue;
    for (; v >= 0 && (filled < run || shape[v] == 1); v--) {
      stride[v] = filled * base;
      filled *= shape[v];
    }
    if (filled != run) return false;
    if (d > 0) base = t->stride[d - 1];
    run = filled = 1;
  }
  return v < 0;
}

static lm_status reshape_to(lm_call *c, int ndim, const int64_t *shape)
{
  int64_t stride[LM_MAX_DIMS];
  if (view_strides(c->in[0], ndim, shape, stride))
    return lm_out_view(c, 0, ndim, shape, stride, c->in[0]->offset);
  return lm_out(c, 0, c->in[0]->dtype, ndim, shape);
}

static lm_status reshape_infer(lm_call *c)
{
  const lm_value *v = &c->param[0];
  const lm_tensor *x = c->in[0];
  int64_t shape[LM_MAX_DIMS], known = 1, total = lm_numel(x);
  int unknown = -1;
  LM_TRY(check_list(c, "shape", v->n));
  for (int i = 0; i < v->n; i++) {
    shape[i] = v->v[i];
    if (shape[i] == -1 && unknown < 0) {
      unknown = i;
    } else if (shape[i] < 0) {
      return lm_op_fail(
          c, LM_ERR_SHAPE, "shape %s has %s (x: %s)", lm_shape_text(v->n, v->v),
          shape[i] == -1 ? "more than one -1" : "a negative size", lm_describe(x));
    } else if (__builtin_mul_overflow(known, shape[i], &known)) {
      return lm_op_fail(c, LM_ERR_SHAPE, "shape %s is too large",
                        lm_shape_text(v->n, v->v));
    }
  }
  if (unknown >= 0) shape[unknown] = known > 0 ? total / known : 0;
  bool fits =
      unknown >= 0 ? known > 0 && known * shape[unknown] == total : known == total;
  if (!fits)
    return lm_op_fail(c, LM_ERR_SHAPE,
                      "x has %lld elements, which do not fit shape %s (x: %s)",
                      (long long)total, lm_shape_text(v->n, v->v), lm_describe(x));
  return reshape_to(c, v->n, shape);
}

static lm_status reshape_cpu(lm_call *c)
{
  int64_t stride[LM_MAX_DIMS];
  const lm_tensor *x = c->in[0];
  contiguous_strides(x->ndim, x->shape, stride);
  lm_copy_strided(x->ndim, x->shape, lm_dtype_size(x->dtype), lm_data(x), x->stride,
                  lm_data(c->out[0]), stride);
  return LM_OK;
}

const lm_op lm_op_reshape = {
    .name = "reshape",
    .sig = "x; shape: ints",
    .doc =
        "The elements of x in row-major order with another shape of the same size; one "
        "-1 "
        "stands for whatever size fits. A view where x's strides allow it, else a copy.\n"
        "> lumen.arange(6):reshape(2, -1)\n"
        "i64 [2 x 3] {0, 1, 2, 3, 4, 5}",
    .infer = reshape_infer,
    .cpu = reshape_cpu,
    .grad = grad_reshape,
    .flags = LM_OP_VIEW | ANY_LAYOUT};

static lm_status flatten_infer(lm_call *c)
{
  const lm_tensor *x = c->in[0];
  int first, last, n = 0;
  LM_TRY(lm_dim(c, c->param[0].i, x->ndim, &first));
  LM_TRY(lm_dim(c, c->param[1].i, x->ndim, &last));
  if (first > last)
    return lm_op_fail(c, LM_ERR_ARG, "first dimension %d comes after last %d (x: %s)",
                      first + 1, last + 1, lm_describe(x));
  int64_t shape[LM_MAX_DIMS] = {1};
  for (int i = 0; i < first; i++) shape[n++] = x->shape[i];
  shape[n] = 1;
  for (int i = first; i <= last && i < x->ndim; i++) shape[n] *= x->shape[i];
  n++;
  for (int i = last + 1; i < x->ndim; i++) shape[n++] = x->shape[i];
  return reshape_to(c, n, shape);
}

const lm_op lm_op_flatten = {
    .name = "flatten",
    .sig = "x; first: dim = 0, last: dim = -1",
    .doc =
        "Dimensions first to last of x as one (a scalar becomes [1]). A view where x's "
        "strides allow it, else a copy.\n"
        "> lumen.zeros(2, 3, 4):flatten(2).shape\n"
        "{2, 12}",
    .infer = flatten_infer,
    .cpu = reshape_cpu,
    .grad = grad_reshape,
    .flags = LM_OP_VIEW | ANY_LAYOUT};

static lm_status contiguous_infer(lm_call *c)
{
  const lm_tensor *x = c->in[0];
  if (!lm_is_contiguous(x)) return lm_out_like(c, 0, x);
  return lm_out_view(c, 0, x->ndim, x->shape, x->stride, x->offset);
}

static lm_status grad_same(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  (void)c;
  gin[0] = lm_retain(gout[0]);
  return LM_OK;
}

const lm_op lm_op_contiguous = {
    .name = "contiguous",
    .sig = "x",
    .doc =
        "x itself when its elements lie in memory in row-major order, else a copy whose "
        "elements do.\n"
        "> x = lumen.arange(4):reshape(2, 2):transpose()\n"
        "> x:is_contiguous(), x:contiguous():is_contiguous()\n"
        "false\n"
        "true",
    .infer = contiguous_infer,
    .cpu = reshape_cpu,
    .grad = grad_same,
    .flags = LM_OP_VIEW | ANY_LAYOUT};

static lm_status detach_infer(lm_call *c)
{
  const lm_tensor *x = c->in[0];
  return lm_out_view(c, 0, x->ndim, x->shape, x->stride, x->offset);
}

const lm_op lm_op_detach = {.name = "detach",
                            .sig = "x",
                            .doc = "A view of x through which no gradient flows.\n"
                                   "> x = lumen.ones(2, {requires_grad = true})\n"
                                   "> x:detach().requires_grad\n"
                                   "false",
                            .infer = detach_infer,
                            .flags = LM_OP_VIEW | LM_OP_NODIFF};

/* ---- permute, transpose, expand ---- */

static lm_status permute_infer(lm_call *c)
{
  const lm_value *v = &c->param[0];
  const lm_tensor *x = c->in[0];
  bool marked[LM_MAX_DIMS];
  if (v->n != x->ndim)
    return lm_op_fail(c, LM_ERR_ARG,
                      "dims has %d numbers but x has %d dimensions (x: %s)", v->n,
                      x->ndim, lm_describe(x));
  LM_TRY(mark_dims(c, v, marked));
  int64_t shape[LM_MAX_DIMS], stride[LM_MAX_DIMS];
  for (int i = 0; i < v->n; i++) {
    int64_t d = v->v[i] < 0 ? v->v[i] + x->ndim : v->v[i];
    shape[i] = x->shape[d];
    stride[i] = x->stride[d];
  }
  return lm_out_view(c, 0, x->ndim, shape, stride, x->offset);
}

static lm_status permute_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  const lm_value *v = &c->param[0];
  int64_t inverse[LM_MAX_DIMS];
  for (int i = 0; i < v->n; i++) inverse[v->v[i] < 0 ? v->v[i] + v->n : v->v[i]] = i;
  return lm_apply(&lm_op_permute, LM_IN(gout[0]), LM_PARAMS(lm_ints(v->n, inverse)), gin);
}

const lm_op lm_op_permute = {
    .name = "permute",
    .sig = "x; dims: dims",
    .doc =
        "A view of x with its dimensions in another order: dimension i of the result is "
        "dimension dims[i] of x. dims names every dimension once.\n"
        "> lumen.zeros(2, 3, 8, 6):permute(1, 3, 4, 2).shape\n"
        "{2, 8, 6, 3}",
    .infer = permute_infer,
    .grad = permute_grad,
    .flags = LM_OP_VIEW};

static lm_status transpose_infer(lm_call *c)
{
  const lm_tensor *x = c->in[0];
  int a, b;
  if (x->ndim < 2 && c->param[0].i != c->param[1].i)
    return lm_op_fail(c, LM_ERR_SHAPE, "x needs two dimensions (x: %s)", lm_describe(x));
  LM_TRY(real_dim(c, c->param[0].i, &a));
  LM_TRY(real_dim(c, c->param[1].i, &b));
  int64_t shape[LM_MAX_DIMS], stride[LM_MAX_DIMS];
  for (int i = 0; i < x->ndim; i++) {
    int d = i == a ? b : i == b ? a : i;
    shape[i] = x->shape[d];
    stride[i] = x->stride[d];
  }
  return lm_out_view(c, 0, x->ndim, shape, stride, x->offset);
}

static lm_status transpose_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  lm_value dims[] = {lm_int(c->param[0].i), lm_int(c->param[1].i)};
  return lm_apply(&lm_op_transpose, LM_IN(gout[0]), dims, gin);
}

const lm_op lm_op_transpose = {.name = "transpose",
                               .sig = "x; dim1: dim = -2, dim2: dim = -1",
                               .doc = "A view of x with two dimensions exchanged.\n"
                                      "> lumen.arange(6):reshape(2, 3):transpose()\n"
                                      "i64 [3 x 2] {0, 3, 1, 4, 2, 5}",
                               .infer = transpose_infer,
                               .grad = transpose_grad,
                               .flags = LM_OP_VIEW};

static lm_status expand_infer(lm_call *c)
{
  const lm_value *v = &c->param[0];
  const lm_tensor *x = c->in[0];
  int extra = v->n - x->ndim;
  int64_t shape[LM_MAX_DIMS], stride[LM_MAX_DIMS];
  LM_TRY(check_list(c, "shape", v->n));
  bool ok = extra >= 0;
  for (int i = 0; ok && i < v->n; i++) {
    int64_t size = i < extra ? 1 : x->shape[i - extra];
    shape[i] = v->v[i] == -1 && i >= extra ? size : v->v[i];
    stride[i] = i < extra || (size == 1 && shape[i] != 1) ? 0 : x->stride[i - extra];
    ok = shape[i] >= 0 && (size == 1 || size == shape[i]);
  }
  if (!ok)
    return lm_op_fail(c, LM_ERR_SHAPE, "x cannot be expanded to %s (x: %s)",
                      lm_shape_text(v->n, v->v), lm_describe(x));
  return lm_out_view(c, 0, v->n, shape, stride, x->offset);
}

static lm_status expand_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  return lm_sum_to(gout[0], c->in[0], gin);
}

const lm_op lm_op_expand = {
    .name = "expand",
    .sig = "x; shape: ints",
    .doc =
        "A view of x in which dimensions of size 1, and new ones in front, are repeated "
        "without taking memory; -1 keeps a size.\n"
        "> lumen.arange(2):reshape(2, 1):expand(-1, 3)\n"
        "i64 [2 x 3] {0, 0, 0, 1, 1, 1}",
    .infer = expand_infer,
    .grad = expand_grad,
    .flags = LM_OP_VIEW};

/* ---- squeeze, unsqueeze ---- */

static lm_status squeeze_infer(lm_call *c)
{
  const lm_tensor *x = c->in[0];
  bool marked[LM_MAX_DIMS];
  LM_TRY(mark_dims(c, &c->param[0], marked));
  int n = 0;
  int64_t shape[LM_MAX_DIMS], stride[LM_MAX_DIMS];
  for (int i = 0; i < x->ndim; i++) {
    if (x->shape[i] == 1 && (c->param[0].n == 0 || marked[i])) continue;
    shape[n] = x->shape[i];
    stride[n++] = x->stride[i];
  }
  return lm_out_view(c, 0, n, shape, stride, x->offset);
}

const lm_op lm_op_squeeze = {
    .name = "squeeze",
    .sig = "x; dims: dims = all",
    .doc = "A view of x without its dimensions of size 1, or without those among dims "
           "(dimensions of other sizes stay).\n"
           "> lumen.zeros(1, 3, 1):squeeze().shape\n"
           "{3}\n"
           "> lumen.zeros(1, 3, 1):squeeze(1).shape\n"
           "{3, 1}",
    .infer = squeeze_infer,
    .grad = grad_reshape,
    .flags = LM_OP_VIEW};

static lm_status unsqueeze_infer(lm_call *c)
{
  const lm_tensor *x = c->in[0];
  int dim, n = x->ndim + 1;
  LM_TRY(lm_dim(c, c->param[0].i, n, &dim));
  LM_TRY(check_list(c, "the new shape", n));
  int64_t shape[LM_MAX_DIMS], stride[LM_MAX_DIMS];
  for (int i = 0; i < n; i++) {
    int d = i < dim ? i : i - 1;
    shape[i] = i == dim ? 1 : x->shape[d];
    stride[i] = i == dim ? (i < n - 1 ? x->shape[i] * x->stride[i] : 1) : x->stride[d];
  }
  return lm_out_view(c, 0, n, shape, stride, x->offset);
}

const lm_op lm_op_unsqueeze = {
    .name = "unsqueeze",
    .sig = "x; dim: dim",
    .doc = "A view of x with a new dimension of size 1 at position dim of the result.\n"
           "> lumen.zeros(3, 4):unsqueeze(1).shape\n"
           "{1, 3, 4}",
    .infer = unsqueeze_infer,
    .grad = grad_reshape,
    .flags = LM_OP_VIEW};

/* ---- slice, select ---- */

/* An `index` parameter as the user counts. */
static long long counted(const lm_value *v)
{
  return v->i < 0 ? v->i : v->i + 1;
}

static lm_status slice_infer(lm_call *c)
{
  const lm_tensor *x = c->in[0];
  int dim;
  LM_TRY(real_dim(c, c->param[0].i, &dim));
  int64_t n = x->shape[dim], step = c->param[3].i;
  int64_t first = c->param[1].i + (c->param[1].i < 0 ? n : 0);
  int64_t last = c->param[2].i + (c->param[2].i < 0 ? n : 0);
  if (step < 1)
    return lm_op_fail(c, LM_ERR_ARG, "step must be at least 1, not %lld",
                      (long long)step);
  if (first < 0 || last >= n || last < first - 1)
    return lm_op_fail(
        c, LM_ERR_INDEX, "%lld to %lld is no range in dimension %d of x (x: %s)",
        counted(&c->param[1]), counted(&c->param[2]), dim + 1, lm_describe(x));
  int64_t shape[LM_MAX_DIMS], stride[LM_MAX_DIMS];
  memcpy(shape, x->shape, sizeof shape);
  memcpy(stride, x->stride, sizeof stride);
  shape[dim] = last < first ? 0 : (last - first) / step + 1;
  if (shape[dim] > 1) stride[dim] *= step;
  return lm_out_view(c, 0, x->ndim, shape, stride,
                     x->offset + (shape[dim] > 0 ? first * x->stride[dim] : 0));
}

static lm_status slice_back(const lm_call *c, lm_tensor *g, int64_t first, int64_t step,
                            lm_tensor **gin)
{
  const lm_tensor *x = c->in[0];
  int dim;
  LM_TRY(lm_dim(c, c->param[0].i, x->ndim, &dim));
  if (first < 0) first += x->shape[dim];
  lm_value p[] = {lm_ints(x->ndim, x->shape), lm_int(dim), lm_int(first), lm_int(step)};
  return lm_apply(&lm_op_slice_backward, LM_IN(g), p, gin);
}

static lm_status slice_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  return slice_back(c, gout[0], c->param[1].i, c->param[3].i, gin);
}

const lm_op lm_op_slice = {.name = "slice",
                           .sig = "x; dim: dim, first: index, last: index, step: int = 1",
                           .doc = "A view of the positions first to last (inclusive) of "
                                  "dimension dim, every step-th "
                                  "of them; empty when last is one before first.\n"
                                  "> lumen.arange(10):slice(1, 3, 9, 2)\n"
                                  "i64 [4] {2, 4, 6, 8}\n"
                                  "> lumen.arange(10):slice(1, -3, -1)\n"
                                  "i64 [3] {7, 8, 9}",
                           .infer = slice_infer,
                           .grad = slice_grad,
                           .flags = LM_OP_VIEW};

static lm_status slice_backward_infer(lm_call *c)
{
  return lm_out(c, 0, c->in[0]->dtype, c->param[0].n, c->param[0].v);
}

static lm_status slice_backward_cpu(lm_call *c)
{
  const lm_tensor *g = c->in[0];
  lm_tensor *out = c->out[0];
  int64_t stride[LM_MAX_DIMS], dim = c->param[1].i, size = lm_dtype_size(out->dtype);
  memset(lm_data(out), 0, (size_t)(lm_numel(out) * size));
  memcpy(stride, out->stride, sizeof stride);
  if (g->shape[dim] > 1) stride[dim] *= c->param[3].i;
  lm_copy_strided(g->ndim, g->shape, size, lm_data(g), g->stride,
                  (char *)lm_data(out) + c->param[2].i * out->stride[dim] * size, stride);
  return LM_OK;
}

const lm_op lm_op_slice_backward = {
    .name = "slice_backward",
    .sig = "g; shape: ints, dim: int, first: int, step: int",
    .doc = "Zeros of the given shape with g at the places that slice took.",
    .infer = slice_backward_infer,
    .cpu = slice_backward_cpu,
    .flags = LM_OP_INTERNAL | ANY_LAYOUT};

static lm_status select_infer(lm_call *c)
{
  const lm_tensor *x = c->in[0];
  int dim, n = 0;
  LM_TRY(real_dim(c, c->param[0].i, &dim));
  int64_t index = c->param[1].i + (c->param[1].i < 0 ? x->shape[dim] : 0);
  if (index < 0 || index >= x->shape[dim])
    return lm_op_fail(c, LM_ERR_INDEX,
                      "index %lld is out of range for dimension %d of x (x: %s)",
                      counted(&c->param[1]), dim + 1, lm_describe(x));
  int64_t shape[LM_MAX_DIMS], stride[LM_MAX_DIMS];
  for (int i = 0; i < x->ndim; i++) {
    if (i == dim) continue;
    shape[n] = x->shape[i];
    stride[n++] = x->stride[i];
  }
  return lm_out_view(c, 0, n, shape, stride, x->offset + index * x->stride[dim]);
}

static lm_status select_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  int dim;
  lm_tensor *g;
  LM_TRY(lm_dim(c, c->param[0].i, c->in[0]->ndim, &dim));
  LM_TRY(lm_apply(&lm_op_unsqueeze, LM_IN(gout[0]), LM_PARAMS(lm_int(dim)), &g));
  lm_status status = slice_back(c, g, c->param[1].i, 1, gin);
  lm_release(g);
  return status;
}

const lm_op lm_op_select = {
    .name = "select",
    .sig = "x; dim: dim, index: index",
    .doc = "A view of one position of dimension dim, without that dimension.\n"
           "> lumen.arange(6):reshape(2, 3):select(2, 1)\n"
           "i64 [2] {0, 3}\n"
           "> lumen.arange(6):reshape(2, 3)[2]\n"
           "i64 [3] {3, 4, 5}",
    .infer = select_infer,
    .grad = select_grad,
    .flags = LM_OP_VIEW};
