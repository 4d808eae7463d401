/* op.h: what an operation is, and how to call one.
 *
 * An operation is one `const lm_op` in core/ops/<family>.c plus one line OP(name) in
 * core/ops/ops.def. From `sig` come the Lua function, its argument errors and its help; the
 * rest of the core never names a particular operation.
 *
 *   sig   "x, weight?, bias?; eps: float = 1e-5"
 *         tensors first: `x`, optional `x?`, a list `xs...`; after `;` the parameters with
 *         type and default (no default: required). Types:
 *           int float bool str   ints (list; one number stands for a list of one)
 *           dim dims index       as int, ints, int, but Lua counts them from 1; in C they
 *                                are 0-based, negative from the end (defaults: write -1).
 *                                A `dims` default of `all` is the empty list.
 *           dtype                a dtype's name
 *   doc   one paragraph: shapes in brackets, units, errors worth knowing, source; then at
 *         least one example, lines of code as "> code\n" with what they print below
 *         (lua/lumen/help.lua describes the form; the tests run it).
 *
 * What the dispatcher (lm_apply) does, so that kernels need not:
 *   - checks that all tensors are on one device;
 *   - calls `infer`, which checks shapes, dtypes and parameters, raises every user error, and
 *     declares outputs with lm_out / lm_out_like / lm_out_view (saved extras: lm_save);
 *   - unless LM_OP_STRIDED: makes inputs contiguous before the kernel sees them;
 *   - unless LM_OP_BF16: on the CPU runs bf16 as f32 (inputs converted, outputs converted
 *     back), so CPU kernels only know f32 and f64 (and integers where that makes sense). The
 *     kernels in .cu files read and write bf16 themselves, and compute in f32;
 *   - skips the kernel when every output has zero elements;
 *   - records the call for backward when an input requires a gradient.
 * Outputs are contiguous and uninitialised when the kernel runs; write every element.
 *
 * Backward: `grad(c, gout, gin)` runs with recording off. c is the saved call: c->param,
 * c->save, c->in, c->out as in forward, except that inputs and outputs not named by save_in /
 * save_out are shape-only (storage NULL). gout[k] is NULL when output k got no gradient; a
 * non-NULL gout[k] may be strided. For each input i with lm_wants(c, i) set gin[i] to a tensor
 * of that input's shape (a new reference, may be gout itself retained). Write it in terms of
 * other operations through lm_apply, so that it runs on any device; where speed needs an own
 * kernel, that is an operation `<name>_backward` with flag LM_OP_INTERNAL.
 */
#ifndef LUMEN_OP_H
#define LUMEN_OP_H

#include "base/rng.h"
#include "tensor/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

#define LM_MAX_ARGS 12   /* tensor arguments in a signature (a list counts once) */
#define LM_MAX_PARAMS 12
#define LM_MAX_OUT 4
#define LM_MAX_SAVE 4
#define LM_MAX_INTS 8

/* A parameter's value. `given` is false where the caller leaves it to the default. */
typedef struct lm_value {
  bool given;
  int64_t i;      /* int, dim, index, bool (0/1), dtype */
  double f;       /* float (for ints: the same number) */
  const char *s;  /* str */
  int n;          /* ints, dims: how many, then the list */
  int64_t v[LM_MAX_INTS];
} lm_value;

static inline lm_value lm_int(int64_t i)
{
  return (lm_value){.given = true, .i = i, .f = (double)i, .n = 1, .v = {i}};
}
static inline lm_value lm_float(double f) { return (lm_value){.given = true, .f = f}; }
static inline lm_value lm_str(const char *s) { return (lm_value){.given = true, .s = s}; }
lm_value lm_ints(int n, const int64_t *v);

typedef struct lm_call lm_call;
typedef lm_status (*lm_kernel)(lm_call *c);

enum {
  LM_OP_STRIDED = 1,  /* the kernels read any strides */
  LM_OP_BF16 = 2,     /* the CPU kernel reads and writes bf16 itself */
  LM_OP_NODIFF = 4,   /* has no gradient by nature (comparison, argmax, in-place) */
  LM_OP_VIEW = 8,     /* outputs are views, made by infer; there is no kernel */
  LM_OP_INPLACE = 16, /* writes into input 0, which is also output 0; implies NODIFF */
  LM_OP_RANDOM = 32,  /* uses c->rng */
  LM_OP_INTERNAL = 64 /* only called from C (backward kernels): no Lua name, not differentiable */
};

/* What a call needs at least: for the profile (graph/profile.h). */
typedef struct lm_work {
  double flops; /* a multiplication and an addition are two */
  double bytes; /* read and written */
} lm_work;

typedef struct lm_op {
  const char *name, *sig, *doc;
  lm_status (*infer)(lm_call *c);
  lm_kernel cpu; /* those of the cards stand in <family>.cu: LM_KERNEL(name) */
  lm_status (*grad)(lm_call *c, lm_tensor *const *gout, lm_tensor **gin);
  unsigned flags;
  unsigned save_in;  /* bit k: tensor argument k of the signature is needed by grad */
  unsigned save_out; /* bit k: output k is needed by grad */
  /* Set by operations that do more than pass over their operands once: w comes with every
   * operand read and every result written once, and no flops. */
  void (*work)(const lm_call *c, lm_work *w);
} lm_op;

/* One call of an operation. Tensors of list arguments lie flat in `in`: argument k of the
 * signature is in[first[k]] .. in[first[k] + count[k] - 1]. Without lists in[k] is argument k. */
struct lm_call {
  const lm_op *op;
  int nin;
  lm_tensor **in; /* optional ones may be NULL */
  int narg;
  int first[LM_MAX_ARGS], count[LM_MAX_ARGS];
  lm_value param[LM_MAX_PARAMS];
  int nout;
  lm_tensor *out[LM_MAX_OUT];
  lm_tensor *save[LM_MAX_SAVE];
  bool recording;      /* in forward: backward will follow, fill `save` */
  unsigned save_in;    /* op->save_in; infer may clear what this very call will not need */
  /* Set by infer where output 0 is cheaply made again from what is saved for grad (c is as grad
   * sees it): operations that need this output in backward then keep no copy of it. */
  lm_status (*remake)(lm_call *c, lm_tensor **out);
  const bool *wants;   /* in backward: which inputs want a gradient */
  lm_device *device;
  lm_rng rng;          /* LM_OP_RANDOM: key and stream of this very call */
  const void *user;    /* lumen.func: the binding's own data (see graph/tape.h) */
};

/* ---- for infer ---- */

/* Declare output k, contiguous. */
lm_status lm_out(lm_call *c, int k, lm_dtype dtype, int ndim, const int64_t *shape);
lm_status lm_out_like(lm_call *c, int k, const lm_tensor *like);
/* Declare output k as a view of input 0 (LM_OP_VIEW). */
lm_status lm_out_view(lm_call *c, int k, int ndim, const int64_t *shape, const int64_t *stride,
                      int64_t offset);
/* Declare an extra result for backward; does nothing (save[k] stays NULL) when not recording. */
lm_status lm_save(lm_call *c, int k, lm_dtype dtype, int ndim, const int64_t *shape);

/* Whether backward will ask this call for the gradient of input i. */
bool lm_will_want(const lm_call *c, int i);
/* For products: inputs 0 and 1 are each saved only for the gradient of the other. */
void lm_save_factors(lm_call *c);

/* Fail with "name: ..." in front. */
#define lm_op_fail(c, kind, format, ...) \
  lm_fail(kind, "%s: " format, (c)->op->name, __VA_ARGS__)

/* Checks with complete messages; `k` is the index into c->in. */
lm_status lm_check_float(const lm_call *c, int k);      /* f32, f64 or bf16 */
lm_status lm_check_same_dtype(const lm_call *c, int a, int b);
lm_status lm_check_dtype(const lm_call *c, int k, lm_dtype dtype);
lm_status lm_check_ndim(const lm_call *c, int k, int ndim);
/* Shape of input k must be exactly this; -1 stands for any size. */
lm_status lm_check_shape(const lm_call *c, int k, int ndim, const int64_t *shape);
const char *lm_arg_name(const lm_call *c, int k);       /* name in the signature of in[k] */

/* 0-based dimension of a `dim` parameter for an ndim-dimensional tensor; checks the range. */
lm_status lm_dim(const lm_call *c, int64_t dim, int ndim, int *out);
/* Expand an ints parameter of 1 or `n` numbers to n numbers, each at least `least`. */
lm_status lm_expand_ints(const lm_call *c, int param, int n, int64_t least, int64_t *out);

/* ---- for grad ---- */

static inline bool lm_wants(const lm_call *c, int i) { return c->wants[i]; }
/* Sum g over broadcast dimensions so that it has the shape of `like` (an op: sum_to). */
lm_status lm_sum_to(lm_tensor *g, const lm_tensor *like, lm_tensor **out);

/* ---- calling ---- */

/* Run an operation without list arguments. `in` has one entry per tensor argument of the
 * signature (NULL: not given); `params` one per parameter in order, or NULL for all defaults;
 * out[] receives new references to all outputs. */
lm_status lm_apply(const lm_op *op, lm_tensor *const *in, const lm_value *params,
                   lm_tensor **out);
/* The same with explicit counts per argument (lists); *nout (or NULL) is how many outputs. */
lm_status lm_apply_lists(const lm_op *op, lm_tensor *const *in, const int *counts,
                         const lm_value *params, lm_tensor **out, int *nout);

#define LM_IN(...) ((lm_tensor *[]){__VA_ARGS__})
#define LM_PARAMS(...) ((lm_value[]){__VA_ARGS__})

/* The table made from ops.def. */
extern const lm_op *const lm_ops[];
extern const int lm_ops_count;
/* Kernels of all kinds of devices; NULL where there is none. */
void lm_op_kernels(const lm_op *op, lm_kernel kernel[LM_DEVICE_KINDS]);
const lm_op *lm_op_find(const char *name);

/* ---- parsed signatures, and what else is looked up once per operation ---- */

typedef enum lm_param_type {
  LM_T_INT, LM_T_FLOAT, LM_T_BOOL, LM_T_STR, LM_T_INTS, LM_T_DIM, LM_T_DIMS, LM_T_INDEX,
  LM_T_DTYPE
} lm_param_type;

typedef struct lm_sig {
  int narg, nparam;
  struct { char name[24]; bool optional, list; } arg[LM_MAX_ARGS];
  struct { char name[24]; lm_param_type type; bool required; char text[40]; lm_value value; }
      param[LM_MAX_PARAMS];
  lm_kernel kernel[LM_DEVICE_KINDS];
} lm_sig;

/* Parsed once and kept. Fails with LM_ERR_INTERNAL on a malformed signature. */
lm_status lm_op_sig(const lm_op *op, const lm_sig **out);

/* ---- switches (per process; the main thread computes) ---- */

bool lm_grad_enabled(void);
bool lm_grad_enable(bool on); /* returns what it was */

/* Random numbers of LM_OP_RANDOM calls are keyed by (seed, stream, step, counter); the counter
 * counts calls and starts again with each lm_random_set. */
typedef struct lm_random { uint64_t seed, stream, step, counter; } lm_random;
extern lm_random lm_random_state;

/* Set from a signal handler: the next lm_apply fails with LM_ERR_INTERRUPT and clears it. */
extern volatile int lm_interrupted;

#ifdef __cplusplus
}
#endif

#endif
