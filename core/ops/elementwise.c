/* elementwise.c: operations that treat every element alike: arithmetic, comparison,
 * choice, functions of one variable. (Conversion and in-place writing: assign.c.)
 *
 * A kernel is a row function per dtype (cpu/rows.h walks and shares out the rows). The
 * macros below write row functions with separate loops for the cases that matter: all
 * operands contiguous, one of them constant along the row, anything else. Integer sums,
 * differences and products wrap around. Gradients of broadcast operands are summed back
 * to the operand's shape. Operations whose gradient would take several passes over memory
 * have an internal <name>_backward. */
#include <math.h>

#include "cpu/rows.h"
#include "cpu/vmath.h"
#include "graph/op.h"

/* ---- row functions ---- */

typedef lm_row_fn row_table[LM_DTYPE_COUNT]; /* NULL where a dtype is not supported */

#define ROW1(name, T, R, expr)                                                       \
  static void name(int64_t n, char *const *p, const int64_t *s, const void *context) \
  {                                                                                  \
    (void)context;                                                                   \
    R *o = (R *)p[0];                                                                \
    const T *x = (const T *)p[1];                                                    \
    const int64_t so = s[0], sx = s[1];                                              \
    if (so == 1 && sx == 1) {                                                        \
      _Pragma("omp simd") for (int64_t i = 0; i < n; i++)                            \
      {                                                                              \
        const T a = x[i];                                                            \
        o[i] = (R)(expr);                                                            \
      }                                                                              \
    } else {                                                                         \
      for (int64_t i = 0; i < n; i++) {                                              \
        const T a = x[i * sx];                                                       \
        o[i * so] = (R)(expr);                                                       \
      }                                                                              \
    }                                                                                \
  }

#define LOOP2(A, B, TX, TY, R, expr)                  \
  _Pragma("omp simd") for (int64_t i = 0; i < n; i++) \
  {                                                   \
    const TX a = x[A];                                \
    const TY b = y[B];                                \
    o[i] = (R)(expr);                                 \
  }

/* `k` in the expression is the call's constant: the double that context points to. */
#define ROW2(name, TX, TY, R, expr)                                                  \
  static void name(int64_t n, char *const *p, const int64_t *s, const void *context) \
  {                                                                                  \
    const double k = context ? *(const double *)context : 0;                         \
    (void)k;                                                                         \
    R *o = (R *)p[0];                                                                \
    const TX *x = (const TX *)p[1];                                                  \
    const TY *y = (const TY *)p[2];                                                  \
    const int64_t so = s[0], sx = s[1], sy = s[2];                                   \
    if (so == 1 && sx == 1 && sy == 1) {                                             \
      LOOP2(i, i, TX, TY, R, expr)                                                   \
    } else if (so == 1 && sx == 1 && sy == 0) {                                      \
      LOOP2(i, 0, TX, TY, R, expr)                                                   \
    } else if (so == 1 && sx == 0 && sy == 1) {                                      \
      LOOP2(0, i, TX, TY, R, expr)                                                   \
    } else {                                                                         \
      for (int64_t i = 0; i < n; i++) {                                              \
        const TX a = x[i * sx];                                                      \
        const TY b = y[i * sy];                                                      \
        o[i * so] = (R)(expr);                                                       \
      }                                                                              \
    }                                                                                \
  }

#define LOOP3(A, B, C, T0, T, expr)                   \
  _Pragma("omp simd") for (int64_t i = 0; i < n; i++) \
  {                                                   \
    const T0 a = x[A];                                \
    const T b = y[B], c = z[C];                       \
    o[i] = (expr);                                    \
  }

#define ROW3(name, T0, T, expr)                                                      \
  static void name(int64_t n, char *const *p, const int64_t *s, const void *context) \
  {                                                                                  \
    (void)context;                                                                   \
    T *o = (T *)p[0];                                                                \
    const T0 *x = (const T0 *)p[1];                                                  \
    const T *y = (const T *)p[2], *z = (const T *)p[3];                              \
    const int64_t so = s[0], sx = s[1], sy = s[2], sz = s[3];                        \
    if (so == 1 && sx == 1 && sy == 1 && sz == 1) {                                  \
      LOOP3(i, i, i, T0, T, expr)                                                    \
    } else if (so == 1 && sx == 1 && sy == 1 && sz == 0) {                           \
      LOOP3(i, i, 0, T0, T, expr)                                                    \
    } else if (so == 1 && sx == 1 && sy == 0 && sz == 1) {                           \
      LOOP3(i, 0, i, T0, T, expr)                                                    \
    } else {                                                                         \
      for (int64_t i = 0; i < n; i++) {                                              \
        const T0 a = x[i * sx];                                                      \
        const T b = y[i * sy], c = z[i * sz];                                        \
        o[i * so] = (expr);                                                          \
      }                                                                              \
    }                                                                                \
  }

static lm_status run_rows(lm_call *c, const row_table rows, const void *context)
{
  lm_tensor *operand[LM_MAX_ROW_OPERANDS] = {c->out[0]};
  for (int i = 0; i < c->nin; i++) operand[i + 1] = c->in[i];
  lm_rows_run(c->nin + 1, operand, rows[c->in[c->nin - 1]->dtype], context);
  return LM_OK;
}

/* ---- two operands ---- */

static lm_status broadcast_out(lm_call *c, int a, int b, lm_dtype dtype)
{
  const lm_tensor *x = c->in[a], *y = c->in[b];
  int ndim;
  int64_t shape[LM_MAX_DIMS];
  if (lm_broadcast_shapes(x->ndim, x->shape, y->ndim, y->shape, &ndim, shape) != LM_OK)
    return lm_error_prefix("%s", c->op->name);
  return lm_out(c, 0, dtype, ndim, shape);
}

static lm_status binary_infer(lm_call *c)
{
  LM_TRY(lm_check_same_dtype(c, 0, 1));
  return broadcast_out(c, 0, 1, c->in[0]->dtype);
}

static lm_status binary_float_infer(lm_call *c)
{
  LM_TRY(lm_check_float(c, 0));
  return binary_infer(c);
}

static lm_status compare_infer(lm_call *c)
{
  LM_TRY(lm_check_same_dtype(c, 0, 1));
  return broadcast_out(c, 0, 1, LM_U8);
}

/* Backward kernels: the output looks like g, which has the broadcast shape. */
static lm_status backward_infer(lm_call *c)
{
  return lm_out_like(c, 0, c->in[0]);
}

#define TABLE(name)                                            \
  static const row_table name##_rows = {[LM_F32] = name##_f32, \
                                        [LM_F64] = name##_f64, \
                                        [LM_I32] = name##_i32, \
                                        [LM_I64] = name##_i64, \
                                        [LM_U8] = name##_u8};
#define FLOAT_TABLE(name) \
  static const row_table name##_rows = {[LM_F32] = name##_f32, [LM_F64] = name##_f64};
#define KERNEL(name)                       \
  static lm_status name##_cpu(lm_call *c)  \
  {                                        \
    return run_rows(c, name##_rows, NULL); \
  }

/* Unsigned types for the integers: wrapping is defined there and the bits are the same.
 */
#define ARITHMETIC(name, expr)                         \
  ROW2(name##_f32, float, float, float, expr)          \
  ROW2(name##_f64, double, double, double, expr)       \
  ROW2(name##_i32, uint32_t, uint32_t, uint32_t, expr) \
  ROW2(name##_i64, uint64_t, uint64_t, uint64_t, expr) \
  ROW2(name##_u8, uint8_t, uint8_t, uint8_t, expr)     \
  TABLE(name)                                          \
  KERNEL(name)

#define ORDERED(name, R32, R64, RI32, RI64, expr)  \
  ROW2(name##_f32, float, float, R32, expr)        \
  ROW2(name##_f64, double, double, R64, expr)      \
  ROW2(name##_i32, int32_t, int32_t, RI32, expr)   \
  ROW2(name##_i64, int64_t, int64_t, RI64, expr)   \
  ROW2(name##_u8, uint8_t, uint8_t, uint8_t, expr) \
  TABLE(name)                                      \
  KERNEL(name)

/* *gin = the operation's result, summed over broadcast dimensions to the shape of `like`.
 */
static lm_status apply_summed(const lm_op *op, lm_tensor *const *in,
                              const lm_value * params, const lm_tensor * like,
                              lm_tensor **gin)
{
  lm_tensor *g;
  LM_TRY(lm_apply(op, in, params, &g));
  lm_status status = lm_sum_to(g, like, gin);
  lm_release(g);
  return status;
}

extern const lm_op lm_op_mul, lm_op_neg, lm_op_div;

#define BINARY(name, doc_text, infer_fn, grad_fn, saved)                           \
  const lm_op lm_op_##name = {#name, "x, y",  doc_text,      infer_fn, name##_cpu, \
                              grad_fn, LM_OP_STRIDED, saved,    0};

static lm_status add_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  if (lm_wants(c, 0)) LM_TRY(lm_sum_to(gout[0], c->in[0], &gin[0]));
  if (lm_wants(c, 1)) LM_TRY(lm_sum_to(gout[0], c->in[1], &gin[1]));
  return LM_OK;
}

ARITHMETIC(add, a + b)
BINARY(add, "x + y, broadcast together. Integers wrap around.\n"
            "> lumen.tensor{{1}, {2}} + lumen.tensor{10, 20}\n"
            "f32 [2 x 2] {11, 21, 12, 22}\n"
            "> lumen.tensor{1, 2} + 0.5\n"
            "f32 [2] {1.5, 2.5}", binary_infer, add_grad, 0)

static lm_status sub_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  if (lm_wants(c, 0)) LM_TRY(lm_sum_to(gout[0], c->in[0], &gin[0]));
  if (!lm_wants(c, 1)) return LM_OK;
  lm_tensor *g;
  LM_TRY(lm_sum_to(gout[0], c->in[1], &g));
  lm_status status = lm_apply(&lm_op_neg, LM_IN(g), NULL, &gin[1]);
  lm_release(g);
  return status;
}

ARITHMETIC(sub, a - b)
BINARY(sub, "x - y, broadcast together. Integers wrap around.\n"
            "> 1 - lumen.tensor{1, 2}\n"
            "f32 [2] {0, -1}", binary_infer, sub_grad, 0)

static lm_status mul_infer(lm_call *c)
{
  lm_save_factors(c);
  return binary_infer(c);
}

static lm_status mul_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  for (int i = 0; i < 2; i++) {
    if (!lm_wants(c, i)) continue;
    LM_TRY(
        apply_summed(&lm_op_mul, LM_IN(gout[0], c->in[1 - i]), NULL, c->in[i], &gin[i]));
  }
  return LM_OK;
}

ARITHMETIC(mul, a * b)
BINARY(mul, "x y, element by element, broadcast together. Integers wrap around.\n"
            "> lumen.tensor{1, 2} * lumen.tensor{3, 4}\n"
            "f32 [2] {3, 8}",
       mul_infer, mul_grad, 3)

ROW3(div_backward_f32, float, float, -a * b / (c * c))
ROW3(div_backward_f64, double, double, -a * b / (c * c))
FLOAT_TABLE(div_backward)
KERNEL(div_backward)
const lm_op lm_op_div_backward = {
    "div_backward", "g, x, y",
    "-g x / y^2: the gradient of x / y for y, before summation.",
    backward_infer, div_backward_cpu, NULL, LM_OP_STRIDED | LM_OP_INTERNAL, 0, 0};

static lm_status div_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  lm_tensor *const *in = LM_IN(gout[0], c->in[0], c->in[1]);
  if (lm_wants(c, 0))
    LM_TRY(apply_summed(&lm_op_div, LM_IN(gout[0], c->in[1]), NULL, c->in[0], &gin[0]));
  if (lm_wants(c, 1))
    LM_TRY(apply_summed(&lm_op_div_backward, in, NULL, c->in[1], &gin[1]));
  return LM_OK;
}

ROW2(div_f32, float, float, float, a / b)
ROW2(div_f64, double, double, double, a / b)
FLOAT_TABLE(div)
KERNEL(div)
BINARY(div, "x / y for floats, broadcast together.\n"
            "> lumen.tensor{1, 2} / 4\n"
            "f32 [2] {0.25, 0.5}", binary_float_infer, div_grad, 3)

/* Squares are frequent and need no logarithm; for a constant exponent the test leaves the
 * loop. */
static inline float power_f32(float x, float y)
{
  return y == 2.0f ? x * x : powf(x, y);
}

static inline double power_f64(double x, double y)
{
  return y == 2.0 ? x * x : pow(x, y);
}

ROW3(pow_backward_x_f32, float, float, c == 0 ? 0 : a * c * power_f32(b, c - 1))
ROW3(pow_backward_x_f64, double, double, c == 0 ? 0 : a * c * power_f64(b, c - 1))
ROW3(pow_backward_y_f32, float, float, b == 0 && c >= 0 ? 0 : a * powf(b, c) * logf(b))
ROW3(pow_backward_y_f64, double, double, b == 0 && c >= 0 ? 0 : a * pow(b, c) * log(b))
FLOAT_TABLE(pow_backward_x)
FLOAT_TABLE(pow_backward_y)

static lm_status pow_backward_cpu(lm_call *c)
{
  return run_rows(c, c->param[0].i == 0 ? pow_backward_x_rows : pow_backward_y_rows,
                  NULL);
}

const lm_op lm_op_pow_backward = {
    "pow_backward", "g, x, y; input: int",
    "Gradient of x^y for x (input 0) or y (input 1), before summation. 0 where y is "
    "0, and for y where x is 0 and y >= 0.",
    backward_infer, pow_backward_cpu, NULL, LM_OP_STRIDED | LM_OP_INTERNAL, 0, 0};

/* Gradients through an internal operation (g, x, y; input: int). */
static lm_status pair_grad(lm_call *c, const lm_op *backward, bool swapped,
                           lm_tensor * const * gout, lm_tensor **gin)
{
  for (int i = 0; i < 2; i++) {
    if (!lm_wants(c, i)) continue;
    lm_value which = lm_int(swapped ? 1 - i : i);
    LM_TRY(apply_summed(backward, LM_IN(gout[0], c->in[0], c->in[1]), &which, c->in[i],
                        &gin[i]));
  }
  return LM_OK;
}

static lm_status pow_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  return pair_grad(c, &lm_op_pow_backward, false, gout, gin);
}

ROW2(pow_f32, float, float, float, power_f32(a, b))
ROW2(pow_f64, double, double, double, power_f64(a, b))
FLOAT_TABLE(pow)
KERNEL(pow)
BINARY(pow, "x^y for floats, broadcast together.\n"
            "> lumen.tensor{1, 2, 3} ^ 2\n"
            "f32 [3] {1, 4, 9}", binary_float_infer, pow_grad, 3)

ROW3(maximum_backward_x_f32, float, float, b > c ? a : b == c ? 0.5f * a : 0)
ROW3(maximum_backward_x_f64, double, double, b > c ? a : b == c ? 0.5 * a : 0)
ROW3(maximum_backward_y_f32, float, float, b < c ? a : b == c ? 0.5f * a : 0)
ROW3(maximum_backward_y_f64, double, double, b < c ? a : b == c ? 0.5 * a : 0)
FLOAT_TABLE(maximum_backward_x)
FLOAT_TABLE(maximum_backward_y)

static lm_status maximum_backward_cpu(lm_call *c)
{
  return run_rows(
      c, c->param[0].i == 0 ? maximum_backward_x_rows : maximum_backward_y_rows, NULL);
}

const lm_op lm_op_maximum_backward = {
    "maximum_backward", "g, x, y; input: int",
    "g where x (input 0) or y (input 1) is the larger one, half of it where they are "
    "equal.",
    backward_infer, maximum_backward_cpu, NULL, LM_OP_STRIDED | LM_OP_INTERNAL, 0,
    0};

static lm_status maximum_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  return pair_grad(c, &lm_op_maximum_backward, false, gout, gin);
}

/* The smaller of x and y is x where y is the larger one. */
static lm_status minimum_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  return pair_grad(c, &lm_op_maximum_backward, true, gout, gin);
}

ORDERED(maximum, float, double, int32_t, int64_t, a > b || a != a ? a : b)
BINARY(maximum,
       "The larger of x and y, broadcast together; NaN where one is NaN. Equal values "
       "share the gradient.\n"
       "> lumen.tensor{1, 5}:maximum(lumen.tensor{3, 2})\n"
       "f32 [2] {3, 5}",
       binary_infer, maximum_grad, 3)
ORDERED(minimum, float, double, int32_t, int64_t, a < b || a != a ? a : b)
BINARY(minimum,
       "The smaller of x and y, broadcast together; NaN where one is NaN. Equal values "
       "share the gradient.\n"
       "> lumen.tensor{1, 5}:minimum(2)\n"
       "f32 [2] {1, 2}",
       binary_infer, minimum_grad, 3)

#define COMPARISON(name, sign, example)                                  \
  ORDERED(name, uint8_t, uint8_t, uint8_t, uint8_t, a sign b)            \
  const lm_op lm_op_##name = {#name,                                     \
                              "x, y",                                    \
                              "x " #sign " y as u8: 1 or 0; broadcast.\n" \
                              "> lumen.tensor{1, 2, 3}:" example,        \
                              compare_infer,                             \
                              name##_cpu,                                \
                              NULL,                                      \
                              LM_OP_STRIDED | LM_OP_NODIFF,              \
                              0,                                         \
                              0};

COMPARISON(lt, <, "lt(2)\nu8 [3] {1, 0, 0}")
COMPARISON(le, <=, "le(2)\nu8 [3] {1, 1, 0}")
COMPARISON(gt, >, "gt(2)\nu8 [3] {0, 0, 1}")
COMPARISON(ge, >=, "ge(2)\nu8 [3] {0, 1, 1}")
COMPARISON(eq, ==, "eq(2)\nu8 [3] {0, 1, 0}")
COMPARISON(ne, !=, "ne(2)\nu8 [3] {1, 0, 1}")

/* ---- where ---- */

ROW3(where_f32, uint8_t, float, a ? b : c)
ROW3(where_f64, uint8_t, double, a ? b : c)
ROW3(where_i32, uint8_t, int32_t, a ? b : c)
ROW3(where_i64, uint8_t, int64_t, a ? b : c)
ROW3(where_u8, uint8_t, uint8_t, a ? b : c)
TABLE(where)
KERNEL(where)

static lm_status where_infer(lm_call *c)
{
  LM_TRY(lm_check_dtype(c, 0, LM_U8));
  LM_TRY(lm_check_same_dtype(c, 1, 2));
  LM_TRY(broadcast_out(c, 1, 2, c->in[1]->dtype));
  const lm_tensor *t = c->in[0], *values = c->out[0];
  int ndim;
  int64_t shape[LM_MAX_DIMS];
  if (lm_broadcast_shapes(t->ndim, t->shape, values->ndim, values->shape, &ndim, shape) !=
      LM_OK)
    return lm_error_prefix("%s", c->op->name);
  return lm_out(c, 0, c->in[1]->dtype, ndim, shape);
}

ROW2(where_backward_f32, uint8_t, float, float, (a != 0) == (k != 0) ? b : 0)
ROW2(where_backward_f64, uint8_t, double, double, (a != 0) == (k != 0) ? b : 0)
FLOAT_TABLE(where_backward)

static lm_status where_backward_infer(lm_call *c)
{
  return lm_out_like(c, 0, c->in[1]);
}

static lm_status where_backward_cpu(lm_call *c)
{
  double keep = (double)c->param[0].i;
  return run_rows(c, where_backward_rows, &keep);
}

const lm_op lm_op_where_backward = {
    "where_backward", "condition, g; keep: bool",
    "g where the condition equals keep, else 0.",
    where_backward_infer, where_backward_cpu, NULL, LM_OP_STRIDED | LM_OP_INTERNAL,
    0, 0};

static lm_status where_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  for (int i = 1; i < 3; i++) {
    if (!lm_wants(c, i)) continue;
    lm_value keep = lm_int(i == 1);
    LM_TRY(apply_summed(&lm_op_where_backward, LM_IN(c->in[0], gout[0]), &keep, c->in[i],
                        &gin[i]));
  }
  return LM_OK;
}

const lm_op lm_op_where = {
    "where", "condition, x, y",
    "x where condition (u8) is not 0, else y; broadcast together.\n"
    "> x = lumen.tensor{-1, 2}\n"
    "> lumen.where(x:gt(0), x, 0)\n"
    "f32 [2] {0, 2}",
    where_infer, where_cpu, where_grad, LM_OP_STRIDED, 1, 0};

/* ---- functions of one variable ---- */

static lm_status any_infer(lm_call *c)
{
  return lm_out_like(c, 0, c->in[0]);
}

static lm_status float_infer(lm_call *c)
{
  LM_TRY(lm_check_float(c, 0));
  return lm_out_like(c, 0, c->in[0]);
}

static lm_status flag_infer(lm_call *c)
{
  return lm_out(c, 0, LM_U8, c->in[0]->ndim, c->in[0]->shape);
}

/* <name>_backward(g, v) for v the input (save_in) or the output (save_out) of <name>; in
 * the expressions a is the input of the forward row; of the backward row a is g and b is
 * v. */
#define BACKWARD(name, expr32, expr64)                                           \
  ROW2(name##_backward_f32, float, float, float, expr32)                         \
  ROW2(name##_backward_f64, double, double, double, expr64)                      \
  FLOAT_TABLE(name##_backward)                                                   \
  KERNEL(name##_backward)                                                        \
  const lm_op lm_op_##name##_backward = {#name "_backward",                      \
                                         "g, v",                                 \
                                         "g times the derivative of " #name ".", \
                                         backward_infer,                         \
                                         name##_backward_cpu,                    \
                                         NULL,                                   \
                                         LM_OP_STRIDED | LM_OP_INTERNAL,         \
                                         0,                                      \
                                         0};
#define GRAD(name, v)                                                                  \
  static lm_status name##_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)    \
  {                                                                                    \
    return lm_apply(&lm_op_##name##_backward, LM_IN(gout[0], c->v[0]), NULL, &gin[0]); \
  }
#define GRAD_IN(name) GRAD(name, in)
#define GRAD_OUT(name) GRAD(name, out)

#define FLOAT_ROWS(name, expr32, expr64)   \
  ROW1(name##_f32, float, float, expr32)   \
  ROW1(name##_f64, double, double, expr64) \
  FLOAT_TABLE(name)                        \
  KERNEL(name)

#define UNARY_IN(name, doc_text, expr32, expr64, back32, back64)  \
  FLOAT_ROWS(name, expr32, expr64)                                \
  BACKWARD(name, back32, back64)                                  \
  GRAD_IN(name)                                                   \
  const lm_op lm_op_##name = {                                    \
      #name, "x",         doc_text,      float_infer, name##_cpu, \
      name##_grad, LM_OP_STRIDED, 1,           0};
#define UNARY_OUT(name, doc_text, expr32, expr64, back32, back64) \
  FLOAT_ROWS(name, expr32, expr64)                                \
  BACKWARD(name, back32, back64)                                  \
  GRAD_OUT(name)                                                  \
  const lm_op lm_op_##name = {                                    \
      #name, "x",         doc_text,      float_infer, name##_cpu, \
      name##_grad, LM_OP_STRIDED, 0,           1};

static inline double sigmoid_of(double x)
{
  return 1 / (1 + exp(-x));
}

static inline double normal_cdf(double x)
{
  return 0.5 * erfc(-0.70710678118654752440 * x);
}

static inline double normal_density(double x)
{
  return 0.39894228040143267794 * exp(-0.5 * x * x);
}

static inline float silu_slope_f32(float x)
{
  float s = lm_sigmoidf(x);
  return s * (1 + x * (1 - s));
}

static inline double silu_slope_f64(double x)
{
  double s = sigmoid_of(x);
  return s * (1 + x * (1 - s));
}

UNARY_OUT(exp, "e^x, the exponential function.\n"
               "> lumen.tensor{0, 1}:exp()\n"
               "f32 [2] {1, 2.7183}", lm_expf(a), exp(a), a * b, a * b)
UNARY_IN(log, "Natural logarithm; -inf at 0, NaN below.\n"
              "> lumen.tensor{1, 10}:log()\n"
              "f32 [2] {0, 2.3026}", lm_logf(a), log(a), a / b,
         a / b)
UNARY_OUT(sqrt, "Square root; NaN below 0. The slope at 0 is inf.\n"
                "> lumen.tensor{4, 9}:sqrt()\n"
                "f32 [2] {2, 3}", sqrtf(a), sqrt(a),
          0.5f * a / b, 0.5 * a / b)
UNARY_OUT(rsqrt, "1 / sqrt(x), the inverse square root.\n"
                 "> lumen.tensor{4, 16}:rsqrt()\n"
                 "f32 [2] {0.5, 0.25}", 1.0f / sqrtf(a), 1 / sqrt(a),
          -0.5f * a * b * b * b, -0.5 * a * b * b * b)
UNARY_OUT(reciprocal, "1 / x, the reciprocal.\n"
                      "> lumen.tensor{2, 4}:reciprocal()\n"
                      "f32 [2] {0.5, 0.25}", 1.0f / a, 1 / a, -a * b * b, -a * b * b)
UNARY_IN(sin, "Sine of x in radians.\n"
              "> lumen.tensor{0, math.pi / 2}:sin()\n"
              "f32 [2] {0, 1}", sinf(a), sin(a), a * cosf(b), a * cos(b))
UNARY_IN(cos, "Cosine of x in radians.\n"
              "> lumen.tensor{0, math.pi}:cos()\n"
              "f32 [2] {1, -1}", cosf(a), cos(a), -a * sinf(b), -a * sin(b))
UNARY_OUT(tanh, "Hyperbolic tangent of x.\n"
                "> lumen.tensor{0, 1}:tanh()\n"
                "f32 [2] {0, 0.76159}", lm_tanhf(a), tanh(a), a * (1 - b * b),
          a * (1 - b * b))
UNARY_OUT(sigmoid, "1 / (1 + exp(-x)), the logistic function.\n"
                   "> lumen.tensor{0, 2}:sigmoid()\n"
                   "f32 [2] {0.5, 0.8808}", lm_sigmoidf(a),
          sigmoid_of(a), a * b * (1 - b), a * b * (1 - b))
UNARY_IN(
    gelu,
    "x Phi(x) with the normal distribution function (the form with erf; Hendrycks and "
    "Gimpel 2016).\n"
    "> lumen.tensor{-1, 0, 1}:gelu()\n"
    "f32 [3] {-0.15866, 0, 0.84134}",
    lm_geluf(a), a * normal_cdf(a), a * lm_gelu_gradf(b),
    a * (normal_cdf(b) + b * normal_density(b)))
UNARY_IN(silu, "x sigmoid(x), also known as swish.\n"
               "> lumen.tensor{-1, 0, 1}:silu()\n"
               "f32 [3] {-0.26894, 0, 0.73106}", a * lm_sigmoidf(a),
         a * sigmoid_of(a), a * silu_slope_f32(b), a * silu_slope_f64(b))
UNARY_IN(softplus, "log(1 + exp(x)) without overflow.\n"
                   "> lumen.tensor{0, 1000}:softplus()\n"
                   "f32 [2] {0.69315, 1000}",
         (a > 0 ? a : 0) + lm_log1pf(lm_expf(-fabsf(a))),
         fmax(a, 0) + log1p(exp(-fabs(a))), a * lm_sigmoidf(b), a * sigmoid_of(b))
UNARY_IN(erf, "Error function of x.\n"
              "> lumen.tensor{0, 1}:erf()\n"
              "f32 [2] {0, 0.8427}", lm_erff(a), erf(a),
         a * 1.128379167f * lm_expf(-b * b), a * 1.12837916709551257390 * exp(-b * b))

#define ANY_ROWS(name, expr_f32, expr_f64, expr_int) \
  ROW1(name##_f32, float, float, expr_f32)           \
  ROW1(name##_f64, double, double, expr_f64)         \
  ROW1(name##_i32, int32_t, int32_t, expr_int)       \
  ROW1(name##_i64, int64_t, int64_t, expr_int)       \
  ROW1(name##_u8, uint8_t, uint8_t, expr_int)        \
  TABLE(name)                                        \
  KERNEL(name)

#define UNARY_ANY(name, doc_text, saved_in, saved_out)                                  \
  const lm_op lm_op_##name = {#name, "x",         doc_text,      any_infer, name##_cpu, \
                              name##_grad, LM_OP_STRIDED, saved_in,  saved_out};

static lm_status neg_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  (void)c;
  return lm_apply(&lm_op_neg, LM_IN(gout[0]), NULL, &gin[0]);
}

ANY_ROWS(neg, -a, -a, 0 - (uint64_t)a)
UNARY_ANY(neg, "-x. Integers wrap around.\n"
               "> -lumen.tensor{1, -2}\n"
               "f32 [2] {-1, 2}", 0, 0)

ANY_ROWS(abs, fabsf(a), fabs(a), a > 0 ? (uint64_t)a : 0 - (uint64_t)a)
BACKWARD(abs, b > 0 ? a : b < 0 ? -a : 0, b > 0 ? a : b < 0 ? -a : 0)
GRAD_IN(abs)
UNARY_ANY(abs, "Absolute value; slope 0 at 0.\n"
               "> lumen.tensor{-3, 2}:abs()\n"
               "f32 [2] {3, 2}", 1, 0)

ANY_ROWS(square, a * a, a * a, (uint64_t)a * (uint64_t)a)
BACKWARD(square, 2 * a * b, 2 * a * b)
GRAD_IN(square)
UNARY_ANY(square, "x^2. Integers wrap around.\n"
                  "> lumen.tensor{-3, 2}:square()\n"
                  "f32 [2] {9, 4}", 1, 0)

ANY_ROWS(relu, a < 0 ? 0 : a, a < 0 ? 0 : a, a > 0 ? a : 0)
BACKWARD(relu, b <= 0 ? 0 : a, b <= 0 ? 0 : a)
GRAD_OUT(relu)
UNARY_ANY(relu, "x where positive, else 0; slope 0 at 0.\n"
                "> lumen.tensor{-3, 2}:relu()\n"
                "f32 [2] {0, 2}", 0, 1)

#define STEP(name, doc_text, infer_fn)                                                  \
  const lm_op lm_op_##name = {#name,      "x",  doc_text, infer_fn,                     \
                              name##_cpu, NULL,     LM_OP_STRIDED | LM_OP_NODIFF, \
                              0,          0};

ANY_ROWS(sign,
         a > 0   ? 1
         : a < 0 ? -1
                 : a,
         a > 0   ? 1
         : a < 0 ? -1
                 : a,
         a > 0 ? 1 : -(a != 0))
STEP(sign, "-1, 0 or 1; NaN stays NaN.\n"
           "> lumen.tensor{-3, 0, 2}:sign()\n"
           "f32 [3] {-1, 0, 1}", any_infer)
FLOAT_ROWS(floor, floorf(a), floor(a))
STEP(floor, "Largest whole number not above x.\n"
            "> lumen.tensor{-1.5, 1.5}:floor()\n"
            "f32 [2] {-2, 1}", float_infer)
FLOAT_ROWS(ceil, ceilf(a), ceil(a))
STEP(ceil, "Smallest whole number not below x.\n"
           "> lumen.tensor{-1.5, 1.5}:ceil()\n"
           "f32 [2] {-1, 2}", float_infer)
FLOAT_ROWS(round, rintf(a), rint(a))
STEP(round, "Nearest whole number, halves to the even one.\n"
            "> lumen.tensor{0.5, 1.5, 1.6}:round()\n"
            "f32 [3] {0, 2, 2}", float_infer)

#define FLAG_ROWS(name, expr_float, expr_int)   \
  ROW1(name##_f32, float, uint8_t, expr_float)  \
  ROW1(name##_f64, double, uint8_t, expr_float) \
  ROW1(name##_i32, int32_t, uint8_t, expr_int)  \
  ROW1(name##_i64, int64_t, uint8_t, expr_int)  \
  ROW1(name##_u8, uint8_t, uint8_t, expr_int)   \
  TABLE(name)                                   \
  KERNEL(name)

FLAG_ROWS(logical_not, a == 0, a == 0)
STEP(logical_not, "1 where x is 0, else 0 (u8).\n"
                  "> lumen.tensor{0, 2}:logical_not()\n"
                  "u8 [2] {1, 0}", flag_infer)
FLAG_ROWS(isfinite, a - a == 0, ((void)a, 1))
STEP(isfinite, "1 where x is neither infinite nor NaN, else 0 (u8).\n"
               "> lumen.tensor{1, 1 / 0}:isfinite()\n"
               "u8 [2] {1, 0}", flag_infer)

/* ---- clamp ---- */

typedef struct bounds {
  double low, high;
} bounds;

#define CLAMP(name, T)                                                                 \
  static inline T name##_to(T a, T low, T high)                                        \
  {                                                                                    \
    T v = a < low ? low : a;                                                           \
    return v > high ? high : v;                                                        \
  }                                                                                    \
  static void name(int64_t n, char *const *p, const int64_t *s, const void *context)   \
  {                                                                                    \
    const bounds *b = context;                                                         \
    const T low = (T)b->low, high = (T)b->high;                                        \
    T *o = (T *)p[0];                                                                  \
    const T *x = (const T *)p[1];                                                      \
    if (s[0] == 1 && s[1] == 1) {                                                      \
      _Pragma("omp simd") for (int64_t i = 0; i < n; i++) o[i] =                       \
          name##_to(x[i], low, high);                                                  \
    } else {                                                                           \
      for (int64_t i = 0; i < n; i++) o[i * s[0]] = name##_to(x[i * s[1]], low, high); \
    }                                                                                  \
  }                                                                                    \
  static void name##_back(int64_t n, char *const *p, const int64_t *s,                 \
                          const void *context)                                         \
  {                                                                                    \
    const bounds *b = context;                                                         \
    const T low = (T)b->low, high = (T)b->high;                                        \
    T *o = (T *)p[0];                                                                  \
    const T *g = (const T *)p[1], *x = (const T *)p[2];                                \
    for (int64_t i = 0; i < n; i++) {                                                  \
      T v = x[i * s[2]];                                                               \
      o[i * s[0]] = v >= low && v <= high ? g[i * s[1]] : 0;                           \
    }                                                                                  \
  }

CLAMP(clamp_f32, float)
CLAMP(clamp_f64, double)
static const row_table clamp_rows = {[LM_F32] = clamp_f32, [LM_F64] = clamp_f64};
static const row_table clamp_back = {
    [LM_F32] = clamp_f32_back, [LM_F64] = clamp_f64_back};

static lm_status clamp_cpu(lm_call *c)
{
  bounds b = {c->param[0].f, c->param[1].f};
  return run_rows(c, clamp_rows, &b);
}

static lm_status clamp_backward_cpu(lm_call *c)
{
  bounds b = {c->param[0].f, c->param[1].f};
  return run_rows(c, clamp_back, &b);
}

const lm_op lm_op_clamp_backward = {
    "clamp_backward", "g, x; min: float, max: float",
    "g where x lies within the bounds, else 0.",
    backward_infer, clamp_backward_cpu, NULL, LM_OP_STRIDED | LM_OP_INTERNAL, 0, 0};

static lm_status clamp_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  return lm_apply(&lm_op_clamp_backward, LM_IN(gout[0], c->in[0]),
                  LM_PARAMS(lm_float(c->param[0].f), lm_float(c->param[1].f)), &gin[0]);
}

const lm_op lm_op_clamp = {
    "clamp", "x; min: float = -inf, max: float = inf",
    "x limited to [min, max]; max where min is larger; NaN stays NaN. The slope is 1 "
    "within the bounds and on them.\n"
    "> lumen.tensor{-1, 0.5, 7}:clamp({min = 0, max = 1})\n"
    "f32 [3] {0, 0.5, 1}",
    float_infer, clamp_cpu, clamp_grad, LM_OP_STRIDED, 1, 0};
