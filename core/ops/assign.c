/* assign.c: conversion between dtypes and the operations that write into their first
 * input: fill_, copy_, add_, mul_. All of them know every dtype, bf16 too, and any
 * strides.
 *
 * Floats become integers by truncation and saturate at the ends of the integer's range
 * (NaN becomes 0); integers become smaller ones by dropping high bits. */
#include <math.h>

#include "cpu/rows.h"
#include "graph/op.h"
#include "tensor/copy.h"

/* ---- conversion ---- */

/* Truncate and saturate. `end` is the first number too large for the type. */
#define SATURATE(name, T, low, end, last)               \
  static inline T name(double x)                        \
  {                                                     \
    if (!(x >= (low))) return x < (low) ? (T)(low) : 0; \
    return x < (end) ? (T)x : (T)(last);                \
  }

SATURATE(double_to_u8, uint8_t, 0.0, 256.0, 255)
SATURATE(double_to_i32, int32_t, -0x1p31, 0x1p31, INT32_MAX)
SATURATE(double_to_i64, int64_t, -0x1p63, 0x1p63, INT64_MAX)

#define SAME(x) (x)

#define CAST(name, from_type, to_type, expr)                                         \
  static void name(int64_t n, char *const *p, const int64_t *s, const void *context) \
  {                                                                                  \
    (void)context;                                                                   \
    to_type *o = (to_type *)p[0];                                                    \
    const from_type *x = (const from_type *)p[1];                                    \
    if (s[0] == 1 && s[1] == 1) {                                                    \
      _Pragma("omp simd") for (int64_t i = 0; i < n; i++)                            \
      {                                                                              \
        const from_type a = x[i];                                                    \
        o[i] = (to_type)(expr);                                                      \
      }                                                                              \
    } else {                                                                         \
      for (int64_t i = 0; i < n; i++) {                                              \
        const from_type a = x[i * s[1]];                                             \
        o[i * s[0]] = (to_type)(expr);                                               \
      }                                                                              \
    }                                                                                \
  }

/* From one dtype to all six. `number` makes an arithmetic value of the element a, `real`
 * a double for saturation, or for integers the value itself. */
#define CASTS(from, from_type, number, to_u8, to_i32, to_i64)               \
  CAST(from##_to_f32, from_type, float, number)                             \
  CAST(from##_to_f64, from_type, double, number)                            \
  CAST(from##_to_bf16, from_type, lm_bf16, lm_f32_to_bf16((float)(number))) \
  CAST(from##_to_i32, from_type, int32_t, to_i32(number))                   \
  CAST(from##_to_i64, from_type, int64_t, to_i64(number))                   \
  CAST(from##_to_u8, from_type, uint8_t, to_u8(number))

CASTS(f32, float, a, double_to_u8, double_to_i32, double_to_i64)
CASTS(f64, double, a, double_to_u8, double_to_i32, double_to_i64)
CASTS(bf16, lm_bf16, lm_bf16_to_f32(a), double_to_u8, double_to_i32, double_to_i64)
CASTS(i32, int32_t, a, SAME, SAME, SAME)
CASTS(i64, int64_t, a, SAME, SAME, SAME)
CASTS(u8, uint8_t, a, SAME, SAME, SAME)

#define CAST_ROW(from)                                                              \
  {                                                                                 \
    [LM_F32] = from##_to_f32, [LM_F64] = from##_to_f64, [LM_BF16] = from##_to_bf16, \
    [LM_I32] = from##_to_i32, [LM_I64] = from##_to_i64, [LM_U8] = from##_to_u8      \
  }

static const lm_row_fn cast_rows[LM_DTYPE_COUNT][LM_DTYPE_COUNT] = {
    [LM_F32] = CAST_ROW(f32), [LM_F64] = CAST_ROW(f64), [LM_BF16] = CAST_ROW(bf16),
    [LM_I32] = CAST_ROW(i32), [LM_I64] = CAST_ROW(i64), [LM_U8] = CAST_ROW(u8)};

/* to = from, converted and broadcast. */
static void convert(lm_tensor *to, lm_tensor *from)
{
  if (to->dtype != from->dtype) {
    lm_rows_run(2, (lm_tensor *[]){to, from}, cast_rows[from->dtype][to->dtype], NULL);
    return;
  }
  int64_t stride[LM_MAX_DIMS];
  int lead = to->ndim - from->ndim;
  for (int d = 0; d < to->ndim; d++)
    stride[d] = d < lead || from->shape[d - lead] == 1 ? 0 : from->stride[d - lead];
  lm_copy_strided(to->ndim, to->shape, lm_dtype_size(to->dtype), lm_data(from), stride,
                  lm_data(to), to->stride);
}

/* Nothing to convert: the result is a view of x. */
static lm_status cast_infer(lm_call *c)
{
  const lm_tensor *x = c->in[0];
  if (c->param[0].i < 0 || c->param[0].i >= LM_DTYPE_COUNT)
    return lm_op_fail(c, LM_ERR_DTYPE, "there is no dtype number %lld",
                      (long long)c->param[0].i);
  lm_dtype dtype = (lm_dtype)c->param[0].i;
  if (!lm_dtype_is_float(dtype)) c->recording = false;
  if (dtype == x->dtype)
    return lm_out_view(c, 0, x->ndim, x->shape, x->stride, x->offset);
  return lm_out(c, 0, dtype, x->ndim, x->shape);
}

static lm_status cast_cpu(lm_call *c)
{
  convert(c->out[0], c->in[0]);
  return LM_OK;
}

extern const lm_op lm_op_cast;

static lm_status cast_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  lm_value dtype = lm_int(c->in[0]->dtype);
  return lm_apply(&lm_op_cast, LM_IN(gout[0]), &dtype, &gin[0]);
}

const lm_op lm_op_cast = {
    "cast", "x; dtype: dtype",
    "x converted to another dtype; a view of x when it has that dtype already. Floats "
    "become integers by truncation and saturate (NaN becomes 0); integers become "
    "smaller ones by dropping high bits. Differentiable between floats.\n"
    "> lumen.tensor{1.7, -1.7}:cast(\"i32\")\n"
    "i32 [2] {1, -1}",
    cast_infer, cast_cpu, cast_grad, LM_OP_STRIDED | LM_OP_BF16, 0, 0};

/* ---- in place ---- */

static lm_status check_broadcast_into(const lm_call *c)
{
  const lm_tensor *x = c->in[0], *y = c->in[1];
  int lead = x->ndim - y->ndim;
  bool fits = lead >= 0;
  for (int d = 0; fits && d < y->ndim; d++)
    fits = y->shape[d] == 1 || y->shape[d] == x->shape[d + lead];
  if (fits) return LM_OK;
  return lm_op_fail(c, LM_ERR_SHAPE, "y has shape %s, which does not broadcast to x: %s",
                    lm_shape_text(y->ndim, y->shape), lm_describe(x));
}

/* An expanded tensor shows one element at several places. */
static lm_status check_writable(const lm_call *c)
{
  const lm_tensor *x = c->in[0];
  for (int d = 0; d < x->ndim; d++)
    if (x->stride[d] == 0 && x->shape[d] > 1 && lm_numel(x) > 0)
      return lm_op_fail(c, LM_ERR_ARG,
                        "x is expanded and cannot be written in place (x: %s)",
                        lm_describe(x));
  return LM_OK;
}

static lm_status fill_infer(lm_call *c)
{
  return check_writable(c);
}

static lm_status fill_cpu(lm_call *c)
{
  lm_tensor *number;
  LM_TRY(lm_tensor_new(c->device, LM_F64, 0, NULL, &number));
  *(double *)lm_data(number) = c->param[0].f;
  convert(c->out[0], number);
  lm_release(number);
  return LM_OK;
}

const lm_op lm_op_fill_ = {
    "fill_", "x; value: float",
    "Sets every element of x to value, converted as by cast.\n"
    "> lumen.zeros(2, 2):fill_(7)\n"
    "f32 [2 x 2] {7, 7, 7, 7}",
    fill_infer, fill_cpu, NULL, LM_OP_STRIDED | LM_OP_BF16 | LM_OP_INPLACE, 0, 0};

static lm_status copy_infer(lm_call *c)
{
  LM_TRY(check_writable(c));
  return check_broadcast_into(c);
}

static lm_status copy_cpu(lm_call *c)
{
  convert(c->out[0], c->in[1]);
  return LM_OK;
}

const lm_op lm_op_copy_ = {
    "copy_", "x, y",
    "x = y, broadcast to x's shape and converted as by cast. The two must not overlap "
    "in memory.\n"
    "> lumen.zeros(2, 3):copy_(lumen.tensor{1, 2, 3})\n"
    "f32 [2 x 3] {1, 2, 3, 1, 2, 3}",
    copy_infer, copy_cpu, NULL, LM_OP_STRIDED | LM_OP_BF16 | LM_OP_INPLACE, 0, 0};

/* o = x op y, with k the call's constant; o and x are the same elements. */
#define UPDATE(name, T, K, load, store, expr)                                        \
  static void name(int64_t n, char *const *p, const int64_t *s, const void *context) \
  {                                                                                  \
    const K k = (K) * (const double *)context;                                       \
    (void)k;                                                                         \
    T *o = (T *)p[0];                                                                \
    const T *y = (const T *)p[1];                                                    \
    if (s[0] == 1 && s[1] == 1) {                                                    \
      _Pragma("omp simd") for (int64_t i = 0; i < n; i++)                            \
      {                                                                              \
        const K a = load(o[i]), b = load(y[i]);                                      \
        o[i] = (T)store(expr);                                                       \
      }                                                                              \
    } else {                                                                         \
      for (int64_t i = 0; i < n; i++) {                                              \
        const K a = load(o[i * s[0]]), b = load(y[i * s[1]]);                        \
        o[i * s[0]] = (T)store(expr);                                                \
      }                                                                              \
    }                                                                                \
  }

/* Integers are computed in int64 bits: the scale is a whole number, checked by infer. */
#define UPDATES(name, expr, whole)                                           \
  UPDATE(name##_f32, float, float, SAME, SAME, expr)                         \
  UPDATE(name##_f64, double, double, SAME, SAME, expr)                       \
  UPDATE(name##_bf16, lm_bf16, float, lm_bf16_to_f32, lm_f32_to_bf16, expr)  \
  UPDATE(name##_i32, int32_t, int64_t, SAME, SAME, whole)                    \
  UPDATE(name##_i64, int64_t, int64_t, SAME, SAME, whole)                    \
  UPDATE(name##_u8, uint8_t, int64_t, SAME, SAME, whole)                     \
  static const lm_row_fn name##_rows[LM_DTYPE_COUNT] = {                     \
      [LM_F32] = name##_f32, [LM_F64] = name##_f64, [LM_BF16] = name##_bf16, \
      [LM_I32] = name##_i32, [LM_I64] = name##_i64, [LM_U8] = name##_u8};

UPDATES(add, a + k * b, (uint64_t)a + (uint64_t)k * (uint64_t)b)
UPDATES(mul, a *b, (uint64_t)a *(uint64_t)b)

static lm_status update_infer(lm_call *c)
{
  LM_TRY(check_writable(c));
  LM_TRY(lm_check_same_dtype(c, 0, 1));
  return check_broadcast_into(c);
}

static lm_status add_infer(lm_call *c)
{
  LM_TRY(update_infer(c));
  double scale = c->param[0].f;
  if (lm_dtype_is_float(c->in[0]->dtype) ||
      (scale == floor(scale) && fabs(scale) < 0x1p53))
    return LM_OK;
  return lm_op_fail(c, LM_ERR_ARG, "scale must be a whole number for %s, not %g",
                    lm_dtype_name(c->in[0]->dtype), scale);
}

static lm_status add_cpu(lm_call *c)
{
  double scale = c->param[0].f;
  lm_rows_run(2, (lm_tensor *[]){c->out[0], c->in[1]}, add_rows[c->in[0]->dtype], &scale);
  return LM_OK;
}

const lm_op lm_op_add_ = {
    "add_", "x, y; scale: float = 1",
    "x = x + scale y; y is broadcast to x's shape.\n"
    "> lumen.ones(3):add_(lumen.tensor{1, 2, 3}, {scale = 10})\n"
    "f32 [3] {11, 21, 31}",
    add_infer, add_cpu, NULL, LM_OP_STRIDED | LM_OP_BF16 | LM_OP_INPLACE, 0, 0};

static lm_status mul_cpu(lm_call *c)
{
  double unused = 0;
  lm_rows_run(2, (lm_tensor *[]){c->out[0], c->in[1]}, mul_rows[c->in[0]->dtype],
              &unused);
  return LM_OK;
}

const lm_op lm_op_mul_ = {
    "mul_", "x, y",
    "x = x y, element by element; y is broadcast to x's shape.\n"
    "> lumen.tensor{1, 2, 3}:mul_(10)\n"
    "f32 [3] {10, 20, 30}",
    update_infer, mul_cpu, NULL, LM_OP_STRIDED | LM_OP_BF16 | LM_OP_INPLACE, 0, 0};
