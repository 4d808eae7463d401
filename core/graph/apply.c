/* apply.c: running an operation: check, infer, allocate, run the device's kernel, record.
 * Knows every rule that operations share (see op.h) and no operation by name. */
#include <stdlib.h>
#include <string.h>

#include "cpu/cpu.h"
#include "cuda/cuda.h"
#include "cuda/shim.h"
#include "graph/op.h"
#include "graph/profile.h"
#include "graph/tape.h"
#include "tensor/copy.h"

volatile int lm_interrupted;
lm_random lm_random_state;
static bool grad_on = true;

bool lm_grad_enabled(void)
{
  return grad_on;
}

bool lm_grad_enable(bool on)
{
  bool was = grad_on;
  grad_on = on;
  return was;
}

lm_status lm_device_get(const char *name, lm_device **out)
{
  if (strcmp(name, "cpu") == 0) {
    *out = lm_device_cpu();
    return LM_OK;
  }
  if (strcmp(name, "shim") == 0) {
    *out = lm_shim_device();
    return LM_OK;
  }
  if (strncmp(name, "cuda", 4) == 0) return lm_cuda_device(name, out);
  return lm_fail(LM_ERR_DEVICE, "unknown device '%.40s': there are cpu, cuda, cuda:0, ...", name);
}

/* ---- declaring outputs ---- */

lm_status lm_out(lm_call *c, int k, lm_dtype dtype, int ndim, const int64_t *shape)
{
  lm_tensor *t;
  lm_status status = lm_tensor_new(c->device, dtype, ndim, shape, &t);
  if (status != LM_OK) return lm_error_prefix("%s", c->op->name);
  t->storage->maker = c->op->name;
  lm_release(c->out[k]);
  c->out[k] = t;
  if (k >= c->nout) c->nout = k + 1;
  return LM_OK;
}

lm_status lm_out_like(lm_call *c, int k, const lm_tensor *like)
{
  return lm_out(c, k, like->dtype, like->ndim, like->shape);
}

lm_status lm_out_view(lm_call *c, int k, int ndim, const int64_t *shape, const int64_t *stride,
                      int64_t offset)
{
  lm_tensor *t;
  if (lm_tensor_view(c->in[0], ndim, shape, stride, offset, &t) != LM_OK)
    return lm_error_prefix("%s", c->op->name);
  lm_release(c->out[k]);
  c->out[k] = t;
  if (k >= c->nout) c->nout = k + 1;
  return LM_OK;
}

lm_status lm_save(lm_call *c, int k, lm_dtype dtype, int ndim, const int64_t *shape)
{
  if (!c->recording) return LM_OK;
  LM_TRY(lm_tensor_new(c->device, dtype, ndim, shape, &c->save[k]));
  c->save[k]->storage->maker = c->op->name;
  return LM_OK;
}

bool lm_will_want(const lm_call *c, int i)
{
  return c->recording && c->in[i] && c->in[i]->requires_grad;
}

void lm_save_factors(lm_call *c)
{
  for (int i = 0; i < 2; i++)
    if (!lm_will_want(c, 1 - i)) c->save_in &= ~(1u << i);
}

/* ---- running the kernel ---- */

extern const lm_op lm_op_contiguous;

static lm_status device_copy(lm_tensor *t, lm_tensor **out)
{
  bool was = lm_grad_enable(false);
  lm_status status = lm_apply(&lm_op_contiguous, LM_IN(t), NULL, out);
  lm_grad_enable(was);
  return status;
}

/* A contiguous f32 or same-dtype copy of t for a CPU kernel. */
static lm_status host_copy(const lm_tensor *t, lm_dtype dtype, lm_tensor **out)
{
  lm_tensor *packed = NULL;
  LM_TRY(lm_tensor_new(t->device, t->dtype, t->ndim, t->shape, &packed));
  if (lm_numel(t) > 0)
    lm_copy_strided(t->ndim, t->shape, lm_dtype_size(t->dtype), lm_data(t), t->stride,
                    lm_data(packed), packed->stride);
  if (dtype == t->dtype) {
    *out = packed;
    return LM_OK;
  }
  lm_status status = lm_tensor_new(t->device, LM_F32, t->ndim, t->shape, out);
  if (status == LM_OK && lm_numel(t) > 0) {
    const lm_bf16 *from = lm_data(packed);
    float *to = lm_data(*out);
    for (int64_t i = 0, n = lm_numel(t); i < n; i++) to[i] = lm_bf16_to_f32(from[i]);
  }
  lm_release(packed);
  return status;
}

static void store_bf16(const lm_tensor *from, lm_tensor *to)
{
  const float *x = from->storage ? lm_data(from) : NULL;
  lm_bf16 *y = lm_data(to);
  for (int64_t i = 0, n = lm_numel(to); i < n; i++) y[i] = lm_f32_to_bf16(x[i]);
}

/* What one kernel run replaced in the call, to be put back afterwards. */
typedef struct swaps {
  lm_tensor **in_copy; /* per input: the tensor the kernel was given instead, or NULL */
  lm_tensor *out_f32[LM_MAX_OUT];
} swaps;

static lm_status swap_in(lm_call *c, lm_tensor **kernel_in, swaps *s)
{
  bool on_cpu = c->device->kind == LM_CPU;
  for (int i = 0; i < c->nin; i++) {
    lm_tensor *t = c->in[i];
    kernel_in[i] = t;
    if (!t || !t->storage) continue;
    bool widen = on_cpu && t->dtype == LM_BF16 && !(c->op->flags & LM_OP_BF16);
    bool pack = !(c->op->flags & LM_OP_STRIDED) && !lm_is_contiguous(t);
    if (!widen && !pack) continue;
    if (i == 0 && (c->op->flags & LM_OP_INPLACE) && pack)
      return lm_op_fail(c, LM_ERR_SHAPE, "%s must be contiguous to be written in place",
                        lm_arg_name(c, 0));
    if (on_cpu) LM_TRY(host_copy(t, widen ? LM_F32 : t->dtype, &s->in_copy[i]));
    else LM_TRY(device_copy(t, &s->in_copy[i]));
    kernel_in[i] = s->in_copy[i];
  }
  for (int k = 0; k < c->nout; k++) {
    lm_tensor *t = c->out[k];
    if (!on_cpu || t->dtype != LM_BF16 || (c->op->flags & (LM_OP_BF16 | LM_OP_INPLACE))) continue;
    LM_TRY(lm_tensor_new(t->device, LM_F32, t->ndim, t->shape, &s->out_f32[k]));
  }
  return LM_OK;
}

static lm_status run_kernel(lm_call *c, lm_kernel kernel)
{
  if (!kernel) {
    lm_op_fail(c, LM_ERR_UNSUPPORTED, "there is no kernel for %s", c->device->name);
    return lm_hint("move the inputs with :to(\"cpu\")");
  }
  lm_tensor *few_in[16], *few_copy[16], **kernel_in = few_in;
  swaps s = {.in_copy = few_copy};
  if (c->nin > 16) {
    LM_TRY(lm_calloc(&kernel_in, 2 * (size_t)c->nin, sizeof *kernel_in));
    s.in_copy = kernel_in + c->nin;
  }
  for (int i = 0; i < c->nin; i++) s.in_copy[i] = NULL;
  lm_tensor **in = c->in, *out[LM_MAX_OUT];
  lm_status status = swap_in(c, kernel_in, &s);
  if (status == LM_OK) {
    c->in = kernel_in;
    for (int k = 0; k < c->nout; k++) {
      out[k] = c->out[k];
      if (s.out_f32[k]) c->out[k] = s.out_f32[k];
      else if (k == 0 && (c->op->flags & LM_OP_INPLACE) && s.in_copy[0]) c->out[0] = kernel_in[0];
    }
    status = kernel(c);
    for (int k = 0; k < c->nout; k++) {
      if (c->out[k] != out[k] && status == LM_OK) store_bf16(c->out[k], out[k]);
      c->out[k] = out[k];
    }
    c->in = in;
  }
  for (int k = 0; k < LM_MAX_OUT; k++) lm_release(s.out_f32[k]);
  for (int i = 0; i < c->nin; i++) lm_release(s.in_copy[i]);
  if (kernel_in != few_in) free(kernel_in);
  return status;
}

static bool needs_kernel(const lm_call *c)
{
  if (!c->op->cpu && (c->op->flags & LM_OP_VIEW)) return false;
  for (int k = 0; k < c->nout; k++) {
    bool view = c->nin > 0 && c->in[0] && c->out[k]->storage == c->in[0]->storage;
    if (view && !(c->op->flags & LM_OP_INPLACE)) return false;
  }
  for (int k = 0; k < c->nout; k++)
    if (lm_numel(c->out[k]) > 0) return true;
  return c->nout == 0;
}

/* ---- lm_apply ---- */

static lm_status check_inputs(lm_call *c, const lm_sig *sig)
{
  for (int a = 0; a < c->narg; a++) {
    for (int i = c->first[a]; i < c->first[a] + c->count[a]; i++) {
      const lm_tensor *t = c->in[i];
      if (!t) {
        if (sig->arg[a].optional) continue;
        return lm_op_fail(c, LM_ERR_ARG, "%s is missing", sig->arg[a].name);
      }
      if (!t->storage) return lm_op_fail(c, LM_ERR_INTERNAL, "%s was not saved", sig->arg[a].name);
      if (!c->device) c->device = t->device;
      if (t->device != c->device) {
        lm_op_fail(c, LM_ERR_DEVICE, "%s is on %s but the others are on %s (%s)",
                   sig->arg[a].name, t->device->name, c->device->name, lm_describe(t));
        return lm_hint("move it with :to(\"%s\")", c->device->name);
      }
      c->recording |= t->requires_grad;
    }
  }
  if (!c->device) c->device = lm_device_cpu();
  c->recording &= grad_on && !(c->op->flags & (LM_OP_NODIFF | LM_OP_INPLACE | LM_OP_INTERNAL));
  return LM_OK;
}

static lm_status set_params(lm_call *c, const lm_sig *sig, const lm_value *params)
{
  for (int k = 0; k < sig->nparam; k++) {
    bool given = params && params[k].given;
    if (!given && sig->param[k].required)
      return lm_op_fail(c, LM_ERR_ARG, "%s is missing", sig->param[k].name);
    c->param[k] = given ? params[k] : sig->param[k].value;
    c->param[k].given = true; /* a gradient rule may pass it on */
  }
  return LM_OK;
}

static void set_random(lm_call *c)
{
  lm_random *r = &lm_random_state;
  c->rng = lm_rng_make(r->seed, lm_mix(r->stream, lm_mix(r->step, r->counter)));
  r->counter++;
}

static lm_status prepare_inplace(lm_call *c)
{
  lm_tensor *x = c->in[0];
  if (grad_on && x->requires_grad) {
    lm_op_fail(c, LM_ERR_ARG, "%s requires a gradient and cannot be written in place (%s)",
               lm_arg_name(c, 0), lm_describe(x));
    return lm_hint("inside lumen.no_grad it can, or write to x:detach()");
  }
  lm_tensor_touch(x, c->op->name);
  lm_release(c->out[0]);
  c->out[0] = lm_retain(x);
  c->nout = 1;
  return LM_OK;
}

static lm_status execute(lm_call *c, const lm_value *params)
{
  const lm_sig *sig;
  LM_TRY(lm_op_sig(c->op, &sig));
  LM_TRY(check_inputs(c, sig));
  LM_TRY(set_params(c, sig, params));
  if (c->op->flags & LM_OP_RANDOM) set_random(c);
  LM_TRY(c->op->infer(c));
  if (c->op->flags & LM_OP_INPLACE) LM_TRY(prepare_inplace(c));
  if (needs_kernel(c)) {
    double start = lm_profile_on ? lm_time() : 0;
    LM_TRY(run_kernel(c, sig->kernel[c->device->kind]));
    if (lm_profile_on) lm_profile_add(c, start);
  }
  return c->recording ? lm_tape_record(c, NULL) : LM_OK;
}

lm_status lm_apply_lists(const lm_op *op, lm_tensor *const *in, const int *counts,
                         const lm_value *params, lm_tensor **out, int *nout)
{
  const lm_sig *sig;
  LM_TRY(lm_op_sig(op, &sig));
  if (lm_interrupted) {
    lm_interrupted = 0;
    return lm_fail(LM_ERR_INTERRUPT, "interrupted");
  }
  lm_call c = {
      .op = op, .in = (lm_tensor **)(uintptr_t)in, .narg = sig->narg, .save_in = op->save_in};
  for (int a = 0; a < sig->narg; a++) {
    c.first[a] = c.nin;
    c.count[a] = counts ? counts[a] : 1;
    c.nin += c.count[a];
  }
  lm_status status = execute(&c, params);
  for (int k = 0; k < LM_MAX_SAVE; k++) lm_release(c.save[k]);
  if (status != LM_OK) {
    for (int k = 0; k < LM_MAX_OUT; k++) lm_release(c.out[k]);
    return status;
  }
  for (int k = 0; k < c.nout; k++) out[k] = c.out[k];
  if (nout) *nout = c.nout;
  return LM_OK;
}

lm_status lm_apply(const lm_op *op, lm_tensor *const *in, const lm_value *params,
                   lm_tensor **out)
{
  return lm_apply_lists(op, in, NULL, params, out, NULL);
}
