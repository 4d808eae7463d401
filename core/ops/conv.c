/* conv.c: two-dimensional convolution and its transpose. Arguments are checked and
 * gradients are composed here; convolve.c does the arithmetic.
 *
 *   conv2d              forward; the gradient of its input is conv_transpose2d
 *   conv_transpose2d    the adjoint of conv2d; the gradient of its input is conv2d
 *   conv2d_weight_grad  internal: gradient of the weight of both
 *
 * The conv2d in question always maps "wide" images (x of conv2d, the result of
 * conv_transpose2d) to "narrow" ones. */
#include "graph/op.h"
#include "ops/convolve.h"

extern const lm_op lm_op_conv2d, lm_op_conv_transpose2d, lm_op_conv2d_weight_grad,
    lm_op_sum;

#define PAIR(v) (long long)(v)[0], (long long)(v)[1]

/* stride, padding, dilation and groups, which are parameters number at[0..3]. */
static lm_status read_settings(const lm_call *c, const int at[4], lm_conv *v)
{
  const int64_t most = INT32_MAX; /* keeps every product of sizes below 2^63 */
  LM_TRY(lm_expand_ints(c, at[0], 2, 1, v->stride));
  LM_TRY(lm_expand_ints(c, at[1], 2, 0, v->padding));
  LM_TRY(lm_expand_ints(c, at[2], 2, 1, v->dilation));
  for (int d = 0; d < 2; d++) {
    if (v->stride[d] > most || v->padding[d] > most || v->dilation[d] > most)
      return lm_op_fail(c, LM_ERR_ARG, "stride %lld x %lld, padding %lld x %lld or "
                        "dilation %lld x %lld is too large", PAIR(v->stride),
                        PAIR(v->padding), PAIR(v->dilation));
  }
  v->groups = c->param[at[3]].i;
  if (v->groups < 1)
    return lm_op_fail(c, LM_ERR_ARG, "groups must be at least 1, not %lld",
                      (long long)v->groups);
  v->device = c->in[0]->device;
  v->dtype = c->in[0]->dtype;
  v->images = c->in[0]->shape[0];
  return LM_OK;
}

static void set_shapes(lm_conv *v, const int64_t *wide, const int64_t *narrow,
                       const int64_t *kernel)
{
  v->in_channels = wide[1] / v->groups;
  v->out_channels = narrow[1] / v->groups;
  for (int d = 0; d < 2; d++) {
    v->in[d] = wide[2 + d];
    v->out[d] = narrow[2 + d];
    v->kernel[d] = kernel[d];
  }
}

/* x [N, C, H, W], weight [first, second, kh, kw], bias of `channels`: what both have
 * alike. */
static lm_status check_tensors(const lm_call *c, int64_t first, int64_t second,
                               int64_t groups, int64_t channels)
{
  const lm_tensor *x = c->in[0], *w = c->in[1];
  if (x->shape[1] % groups != 0 || w->shape[0] % groups != 0)
    return lm_op_fail(c, LM_ERR_SHAPE, "groups=%lld must divide the channels of x (%s) "
                      "and the first dimension of weight (%s)", (long long)groups,
                      lm_describe(x), lm_describe(w));
  const int64_t size = first >= 0 ? w->shape[0] : w->shape[1];
  const int64_t want = first >= 0 ? first : second;
  if (size != want)
    return lm_op_fail(c, LM_ERR_SHAPE, "weight has shape %s but x has %lld channels in "
                      "%lld group(s) (x: %s)", lm_shape_text(4, w->shape),
                      (long long)x->shape[1], (long long)groups, lm_describe(x));
  if (w->shape[2] < 1 || w->shape[3] < 1)
    return lm_op_fail(c, LM_ERR_SHAPE, "weight has an empty kernel (%s)", lm_describe(w));
  if (!c->in[2]) return LM_OK;
  LM_TRY(lm_check_same_dtype(c, 0, 2));
  return lm_check_shape(c, 2, 1, &channels);
}

static lm_status check_images(const lm_call *c)
{
  LM_TRY(lm_check_ndim(c, 0, 4));
  LM_TRY(lm_check_ndim(c, 1, 4));
  LM_TRY(lm_check_float(c, 0));
  return lm_check_same_dtype(c, 0, 1);
}

/* ---- conv2d ---- */

static const int conv_at[4] = {0, 1, 2, 3};

static lm_status conv2d_infer(lm_call *c)
{
  LM_TRY(check_images(c));
  lm_conv v;
  LM_TRY(read_settings(c, conv_at, &v));
  const lm_tensor *x = c->in[0], *w = c->in[1];
  int64_t shape[4] = {x->shape[0], w->shape[0]};
  LM_TRY(check_tensors(c, -1, x->shape[1] / v.groups, v.groups, shape[1]));
  for (int d = 0; d < 2; d++) {
    int64_t room = x->shape[2 + d] + 2 * v.padding[d];
    int64_t span = v.dilation[d] * (w->shape[2 + d] - 1) + 1;
    if (span > room)
      return lm_op_fail(c, LM_ERR_SHAPE, "a kernel of %lld x %lld with dilation %lld x "
                        "%lld is larger than the image with padding %lld x %lld (x: %s)",
                        PAIR(w->shape + 2), PAIR(v.dilation), PAIR(v.padding),
                        lm_describe(x));
    shape[2 + d] = (room - span) / v.stride[d] + 1;
  }
  lm_save_factors(c);
  return lm_out(c, 0, x->dtype, 4, shape);
}

static lm_status conv2d_cpu(lm_call *c)
{
  lm_conv v;
  LM_TRY(read_settings(c, conv_at, &v));
  set_shapes(&v, c->in[0]->shape, c->out[0]->shape, c->in[1]->shape + 2);
  return lm_conv_forward(&v, lm_data(c->in[0]), lm_data(c->in[1]),
                         c->in[2] ? lm_data(c->in[2]) : NULL, lm_data(c->out[0]));
}

/* Sum over images, rows and columns. */
static lm_status bias_grad(lm_tensor *g, lm_tensor **out)
{
  const int64_t dims[3] = {0, 2, 3};
  return lm_apply(&lm_op_sum, LM_IN(g), LM_PARAMS(lm_ints(3, dims), lm_int(0)), out);
}

static lm_status weight_grad(lm_call *c, lm_tensor *wide, lm_tensor *narrow,
                             const int at[4], lm_tensor **out)
{
  const lm_value *p = c->param;
  return lm_apply(&lm_op_conv2d_weight_grad, LM_IN(wide, narrow),
                  LM_PARAMS(lm_ints(2, c->in[1]->shape + 2), p[at[0]], p[at[1]], p[at[2]],
                            p[at[3]]),
                  out);
}

static lm_status conv2d_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  lm_tensor *g = gout[0];
  if (!g) return LM_OK;
  if (lm_wants(c, 0)) {
    lm_conv v;
    LM_TRY(read_settings(c, conv_at, &v));
    int64_t extra[2]; /* rows that the strides of conv2d do not reach */
    for (int d = 0; d < 2; d++)
      extra[d] = (c->in[0]->shape[2 + d] + 2 * v.padding[d] -
                  v.dilation[d] * (c->in[1]->shape[2 + d] - 1) - 1) % v.stride[d];
    const lm_value *p = c->param;
    LM_TRY(lm_apply(&lm_op_conv_transpose2d, LM_IN(g, c->in[1], NULL),
                    LM_PARAMS(p[0], p[1], lm_ints(2, extra), p[2], p[3]), &gin[0]));
  }
  if (lm_wants(c, 1)) LM_TRY(weight_grad(c, c->in[0], g, conv_at, &gin[1]));
  if (c->in[2] && lm_wants(c, 2)) LM_TRY(bias_grad(g, &gin[2]));
  return LM_OK;
}

/* Every element of the narrow images is worth `weights / channels` multiplications. */
static void conv_work(const lm_tensor *narrow, const lm_tensor *weight, int64_t channels,
                      lm_work *w)
{
  w->flops = 2.0 * (double)lm_numel(narrow) * (double)lm_numel(weight) / (double)channels;
}

static void conv2d_work(const lm_call *c, lm_work *w)
{
  conv_work(c->out[0], c->in[1], c->in[1]->shape[0], w);
}

const lm_op lm_op_conv2d = {
    .name = "conv2d",
    .sig = "x, weight, bias?; stride: ints = 1, padding: ints = 0, dilation: ints = 1, "
           "groups: int = 1",
    .doc = "Two-dimensional cross-correlation: x [N, C, H, W], weight [O, C/groups, kh, "
           "kw], bias [O] -> [N, O, H', W'] with H' = floor((H + 2 padding - dilation "
           "(kh - 1) - 1) / stride) + 1. stride, padding and dilation are one number or "
           "{rows, columns}. Errors when the kernel is larger than the padded image.\n"
           "> x, weight = lumen.randn(1, 3, 8, 8), lumen.randn(4, 3, 3, 3)\n"
           "> x:conv2d(weight, {stride = 2, padding = 1}).shape\n"
           "{1, 4, 4, 4}",
    .infer = conv2d_infer,
    .cpu = conv2d_cpu,
    .grad = conv2d_grad,
    .save_in = 1 | 2,
    .work = conv2d_work,
};

/* ---- conv_transpose2d ---- */

static const int transpose_at[4] = {0, 1, 3, 4};

static lm_status conv_transpose2d_infer(lm_call *c)
{
  LM_TRY(check_images(c));
  lm_conv v;
  LM_TRY(read_settings(c, transpose_at, &v));
  int64_t extra[2];
  LM_TRY(lm_expand_ints(c, 2, 2, 0, extra));
  const lm_tensor *x = c->in[0], *w = c->in[1];
  int64_t shape[4] = {x->shape[0]};
  if (w->shape[1] > INT32_MAX || v.groups > INT32_MAX)
    return lm_op_fail(c, LM_ERR_ARG, "groups=%lld is too large", (long long)v.groups);
  shape[1] = w->shape[1] * v.groups;
  LM_TRY(check_tensors(c, x->shape[1], -1, v.groups, shape[1]));
  for (int d = 0; d < 2; d++) {
    if (extra[d] >= v.stride[d])
      return lm_op_fail(c, LM_ERR_ARG, "output_padding %lld x %lld must be smaller than "
                        "stride %lld x %lld", PAIR(extra), PAIR(v.stride));
    shape[2 + d] = (x->shape[2 + d] - 1) * v.stride[d] - 2 * v.padding[d] +
                   v.dilation[d] * (w->shape[2 + d] - 1) + extra[d] + 1;
    if (x->shape[2 + d] < 1 || shape[2 + d] < 1)
      return lm_op_fail(c, LM_ERR_SHAPE, "nothing is left of the result with padding "
                        "%lld x %lld (x: %s, weight: %s)", PAIR(v.padding),
                        lm_describe(x), lm_describe(w));
  }
  lm_save_factors(c);
  return lm_out(c, 0, x->dtype, 4, shape);
}

static lm_status conv_transpose2d_cpu(lm_call *c)
{
  lm_conv v;
  LM_TRY(read_settings(c, transpose_at, &v));
  set_shapes(&v, c->out[0]->shape, c->in[0]->shape, c->in[1]->shape + 2);
  return lm_conv_adjoint(&v, lm_data(c->in[0]), lm_data(c->in[1]),
                         c->in[2] ? lm_data(c->in[2]) : NULL, lm_data(c->out[0]));
}

static lm_status conv_transpose2d_grad(lm_call *c, lm_tensor *const *gout,
                                       lm_tensor **gin)
{
  lm_tensor *g = gout[0];
  if (!g) return LM_OK;
  const lm_value *p = c->param;
  if (lm_wants(c, 0))
    LM_TRY(lm_apply(&lm_op_conv2d, LM_IN(g, c->in[1], NULL),
                    LM_PARAMS(p[0], p[1], p[3], p[4]), &gin[0]));
  if (lm_wants(c, 1)) LM_TRY(weight_grad(c, g, c->in[0], transpose_at, &gin[1]));
  if (c->in[2] && lm_wants(c, 2)) LM_TRY(bias_grad(g, &gin[2]));
  return LM_OK;
}

static void conv_transpose2d_work(const lm_call *c, lm_work *w)
{
  conv_work(c->in[0], c->in[1], c->in[1]->shape[0], w);
}

const lm_op lm_op_conv_transpose2d = {
    .name = "conv_transpose2d",
    .sig = "x, weight, bias?; stride: ints = 1, padding: ints = 0, output_padding: ints "
           "= 0, dilation: ints = 1, groups: int = 1",
    .doc = "The adjoint of conv2d: x [N, C, H, W], weight [C, O/groups, kh, kw], bias "
           "[O] -> [N, O, H', W'] with H' = (H - 1) stride - 2 padding + dilation (kh - "
           "1) + output_padding + 1. Settings are one number or {rows, columns}; "
           "output_padding must be smaller than stride.\n"
           "> x, weight = lumen.randn(1, 4, 8, 8), lumen.randn(4, 2, 2, 2)\n"
           "> x:conv_transpose2d(weight, {stride = 2}).shape\n"
           "{1, 2, 16, 16}",
    .infer = conv_transpose2d_infer,
    .cpu = conv_transpose2d_cpu,
    .grad = conv_transpose2d_grad,
    .save_in = 1 | 2,
    .work = conv_transpose2d_work,
};

/* ---- gradient of the weight ---- */

static const int weight_at[4] = {1, 2, 3, 4};

static lm_status weight_grad_infer(lm_call *c)
{
  const lm_tensor *x = c->in[0], *g = c->in[1];
  const lm_value *kernel = &c->param[0];
  int64_t shape[4] = {g->shape[1], x->shape[1] / c->param[4].i, kernel->v[0],
                      kernel->v[1]};
  return lm_out(c, 0, x->dtype, 4, shape);
}

static lm_status weight_grad_cpu(lm_call *c)
{
  lm_conv v;
  LM_TRY(read_settings(c, weight_at, &v));
  set_shapes(&v, c->in[0]->shape, c->in[1]->shape, c->param[0].v);
  return lm_conv_weight(&v, lm_data(c->in[0]), lm_data(c->in[1]), lm_data(c->out[0]));
}

static void weight_grad_work(const lm_call *c, lm_work *w)
{
  conv_work(c->in[1], c->out[0], c->out[0]->shape[0], w);
}

const lm_op lm_op_conv2d_weight_grad = {
    .name = "conv2d_weight_grad",
    .sig = "x, gy; kernel: ints, stride: ints = 1, padding: ints = 0, dilation: ints = "
           "1, groups: int = 1",
    .doc = "Gradient of the weight of conv2d: x [N, C, H, W], gy [N, O, H', W'] -> "
           "[O, C/groups, kh, kw].",
    .infer = weight_grad_infer,
    .cpu = weight_grad_cpu,
    .flags = LM_OP_INTERNAL,
    .work = weight_grad_work,
};
