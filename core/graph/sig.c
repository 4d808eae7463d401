/* sig.c: reading signatures (see op.h) into lm_sig, once per operation, and the checks that
 * infer functions share. A malformed signature is a bug and is reported as one. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graph/op.h"

#define MAX_OPS 512

static struct { const lm_op *op; lm_sig sig; } *parsed[MAX_OPS]; /* hash by address */

static lm_status malformed(const lm_op *op, const char *where)
{
  return lm_fail(LM_ERR_INTERNAL, "%s: malformed signature at '%s'", op->name, where);
}

static const char *skip_space(const char *p)
{
  while (*p == ' ') p++;
  return p;
}

static const char *read_name(const char *p, char *name, size_t size)
{
  size_t n = 0;
  while (isalnum((unsigned char)*p) || *p == '_') {
    if (n + 1 < size) name[n++] = *p;
    p++;
  }
  name[n] = '\0';
  return p;
}

static lm_status parse_args(const lm_op *op, const char **cursor, lm_sig *sig)
{
  const char *p = skip_space(*cursor);
  while (*p && *p != ';') {
    if (sig->narg == LM_MAX_ARGS) return malformed(op, p);
    int k = sig->narg++;
    p = read_name(p, sig->arg[k].name, sizeof sig->arg[k].name);
    if (!sig->arg[k].name[0]) return malformed(op, p);
    if (*p == '?') {
      sig->arg[k].optional = true;
      p++;
    } else if (strncmp(p, "...", 3) == 0) {
      sig->arg[k].list = true;
      p += 3;
    }
    p = skip_space(p);
    if (*p == ',') p = skip_space(p + 1);
    else if (*p && *p != ';') return malformed(op, p);
  }
  *cursor = *p == ';' ? p + 1 : p;
  return LM_OK;
}

static const char *const type_names[] = {"int",  "float", "bool", "str",  "ints",
                                         "dim",  "dims",  "index", "dtype"};

static lm_status default_value(const lm_op *op, lm_param_type type, const char *text,
                               lm_value *v)
{
  switch (type) {
    case LM_T_STR: v->s = text; return LM_OK;
    case LM_T_BOOL: v->i = strcmp(text, "true") == 0; return LM_OK;
    case LM_T_DTYPE: v->i = lm_dtype_parse(text); return LM_OK;
    case LM_T_FLOAT:
      v->f = strtod(text, NULL); /* reads inf and nan as well */
      return LM_OK;
    default: break;
  }
  if (strcmp(text, "all") == 0) {
    if (type != LM_T_DIMS && type != LM_T_INTS) return malformed(op, text);
    v->n = 0;
    return LM_OK;
  }
  v->i = strtoll(text, NULL, 10);
  v->f = (double)v->i;
  v->n = 1;
  v->v[0] = v->i;
  return LM_OK;
}

static lm_status parse_params(const lm_op *op, const char *p, lm_sig *sig)
{
  p = skip_space(p);
  while (*p) {
    if (sig->nparam == LM_MAX_PARAMS) return malformed(op, p);
    int k = sig->nparam++;
    char type[16];
    p = skip_space(read_name(p, sig->param[k].name, sizeof sig->param[k].name));
    if (*p != ':') return malformed(op, p);
    p = skip_space(read_name(skip_space(p + 1), type, sizeof type));
    int t = 0, types = (int)(sizeof type_names / sizeof type_names[0]);
    while (t < types && strcmp(type, type_names[t]) != 0) t++;
    if (t == types) return malformed(op, type);
    sig->param[k].type = (lm_param_type)t;
    sig->param[k].required = *p != '=';
    if (*p == '=') {
      p = skip_space(p + 1);
      size_t n = strcspn(p, ", ");
      if (n >= sizeof sig->param[k].text) return malformed(op, p);
      memcpy(sig->param[k].text, p, n);
      p = skip_space(p + n);
      LM_TRY(default_value(op, sig->param[k].type, sig->param[k].text, &sig->param[k].value));
    }
    if (*p == ',') p = skip_space(p + 1);
    else if (*p) return malformed(op, p);
  }
  return LM_OK;
}

lm_status lm_op_sig(const lm_op *op, const lm_sig **out)
{
  size_t h = ((size_t)op >> 4) % MAX_OPS;
  for (int tries = 0; tries < MAX_OPS; tries++, h = (h + 1) % MAX_OPS) {
    if (!parsed[h]) {
      LM_TRY(lm_calloc(&parsed[h], 1, sizeof *parsed[h]));
      parsed[h]->op = op;
      const char *p = op->sig;
      lm_status status = parse_args(op, &p, &parsed[h]->sig);
      if (status == LM_OK) status = parse_params(op, p, &parsed[h]->sig);
      lm_op_kernels(op, parsed[h]->sig.kernel);
      if (status != LM_OK) {
        free(parsed[h]);
        parsed[h] = NULL;
        return status;
      }
    }
    if (parsed[h]->op == op) {
      *out = &parsed[h]->sig;
      return LM_OK;
    }
  }
  return lm_fail(LM_ERR_INTERNAL, "more than %d operations", MAX_OPS);
}

lm_value lm_ints(int n, const int64_t *v)
{
  lm_value r = {.given = true, .n = n < LM_MAX_INTS ? n : LM_MAX_INTS};
  for (int i = 0; i < r.n; i++) r.v[i] = v[i];
  if (n > 0) {
    r.i = v[0];
    r.f = (double)v[0];
  }
  return r;
}

/* ---- checks for infer ---- */

const char *lm_arg_name(const lm_call *c, int k)
{
  const lm_sig *sig;
  if (lm_op_sig(c->op, &sig) != LM_OK) return "?";
  for (int a = 0; a < c->narg; a++)
    if (k >= c->first[a] && k < c->first[a] + c->count[a]) return sig->arg[a].name;
  return "?";
}

lm_status lm_check_float(const lm_call *c, int k)
{
  if (lm_dtype_is_float(c->in[k]->dtype)) return LM_OK;
  lm_op_fail(c, LM_ERR_DTYPE, "%s must be f32, f64 or bf16, not %s", lm_arg_name(c, k),
             lm_describe(c->in[k]));
  return lm_hint("convert it with :to(\"f32\")");
}

lm_status lm_check_same_dtype(const lm_call *c, int a, int b)
{
  const lm_tensor *x = c->in[a], *y = c->in[b];
  if (x->dtype == y->dtype) return LM_OK;
  lm_op_fail(c, LM_ERR_DTYPE, "%s is %s but %s is %s", lm_arg_name(c, a), lm_describe(x),
             lm_arg_name(c, b), lm_describe(y));
  return lm_hint("convert one of them with :to(\"%s\")", lm_dtype_name(x->dtype));
}

lm_status lm_check_dtype(const lm_call *c, int k, lm_dtype dtype)
{
  if (c->in[k]->dtype == dtype) return LM_OK;
  lm_op_fail(c, LM_ERR_DTYPE, "%s must be %s, not %s", lm_arg_name(c, k), lm_dtype_name(dtype),
             lm_describe(c->in[k]));
  return lm_hint("convert it with :to(\"%s\")", lm_dtype_name(dtype));
}

lm_status lm_check_ndim(const lm_call *c, int k, int ndim)
{
  if (c->in[k]->ndim == ndim) return LM_OK;
  return lm_op_fail(c, LM_ERR_SHAPE, "%s must have %d dimensions, not %s", lm_arg_name(c, k),
                    ndim, lm_describe(c->in[k]));
}

lm_status lm_check_shape(const lm_call *c, int k, int ndim, const int64_t *shape)
{
  const lm_tensor *t = c->in[k];
  bool ok = t->ndim == ndim;
  for (int i = 0; ok && i < ndim; i++) ok = shape[i] < 0 || shape[i] == t->shape[i];
  if (ok) return LM_OK;
  return lm_op_fail(c, LM_ERR_SHAPE, "%s has shape %s but %s is expected (x: %s)",
                    lm_arg_name(c, k), lm_shape_text(t->ndim, t->shape),
                    lm_shape_text(ndim, shape), lm_describe(c->in[0]));
}

lm_status lm_dim(const lm_call *c, int64_t dim, int ndim, int *out)
{
  int64_t n = ndim > 0 ? ndim : 1; /* a scalar may be reduced along its "only" dimension */
  if (dim < -n || dim >= n)
    return lm_op_fail(c, LM_ERR_INDEX, "dim %lld is out of range for %d dimensions (x: %s)",
                      (long long)(dim >= 0 ? dim + 1 : dim), ndim, lm_describe(c->in[0]));
  *out = (int)(dim < 0 ? dim + n : dim);
  return LM_OK;
}

lm_status lm_expand_ints(const lm_call *c, int param, int n, int64_t least, int64_t *out)
{
  const lm_sig *sig;
  LM_TRY(lm_op_sig(c->op, &sig));
  const lm_value *v = &c->param[param];
  if (v->n != 1 && v->n != n)
    return lm_op_fail(c, LM_ERR_ARG, "%s needs 1 or %d numbers, not %d", sig->param[param].name,
                      n, v->n);
  for (int i = 0; i < n; i++) {
    out[i] = v->v[v->n == 1 ? 0 : i];
    if (out[i] < least)
      return lm_op_fail(c, LM_ERR_ARG, "%s must be at least %lld, not %lld",
                        sig->param[param].name, (long long)least, (long long)out[i]);
  }
  return LM_OK;
}
