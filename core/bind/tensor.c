/* tensor.c: the Lua class "lumen.tensor": handles, properties, conversion from and to Lua
 * values, indexing, printing. Methods that are operations come from ops.c. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bind/bind.h"

#define CLASS "lumen.tensor"

/* ---- handles ---- */

void lm_push_tensor(lua_State *L, lm_tensor *t)
{
  if (!lua_checkstack(L, 4)) {
    lm_release(t);
    luaL_error(L, "stack overflow");
  }
  lm_handle *h = lua_newuserdatauv(L, sizeof *h, 0);
  *h = (lm_handle){.tensor = t};
  luaL_setmetatable(L, CLASS);
  lm_scope_add(L, h);
}

lm_tensor *lm_test_tensor(lua_State *L, int index)
{
  lm_handle *h = luaL_testudata(L, index, CLASS);
  return h ? h->tensor : NULL;
}

lm_tensor *lm_check_tensor(lua_State *L, int index)
{
  lm_handle *h = luaL_checkudata(L, index, CLASS);
  if (!h->tensor) luaL_error(L, "this tensor was released, or its scope has ended\n"
                                "hint: return it from the scope, or scope:keep(x)");
  return h->tensor;
}

lm_tensor *lm_new_tensor(lua_State *L, lm_dtype dtype, int ndim, const int64_t *shape)
{
  lm_tensor *t;
  lm_check_soft_limit(L);
  lm_check(L, lm_tensor_new(lm_device_cpu(), dtype, ndim, shape, &t));
  t->storage->maker = "tensor";
  lm_push_tensor(L, t);
  return t;
}

/* Replace the value at the stack top's tensor by op(tensor): pushes the result. */
static lm_tensor *push_apply(lua_State *L, const char *op, lm_tensor *x, const lm_value *params)
{
  lm_tensor *out;
  bool was = lm_grad_enable(false);
  lm_status status = lm_apply(lm_op_find(op), LM_IN(x), params, &out);
  lm_grad_enable(was);
  lm_check(L, status);
  lm_push_tensor(L, out);
  return out;
}

static lm_tensor *push_on_device(lua_State *L, lm_tensor *x, lm_device *d)
{
  int top = lua_gettop(L);
  lm_tensor *from = push_apply(L, "contiguous", x, NULL), *to;
  lm_check(L, lm_tensor_new(d, x->dtype, x->ndim, x->shape, &to));
  lm_push_tensor(L, to);
  size_t bytes = (size_t)(lm_numel(x) * lm_dtype_size(x->dtype));
  if (bytes > 0 && d->kind == LM_CPU) {
    lm_check(L, lm_tensor_read(from, lm_data(to), bytes));
  } else if (bytes > 0 && x->device->kind == LM_CPU) {
    lm_check(L, lm_tensor_write(to, lm_data(from), bytes));
  } else if (bytes > 0) { /* between two cards: by way of the host */
    lm_tensor *host;
    lm_check(L, lm_tensor_new(lm_device_cpu(), x->dtype, x->ndim, x->shape, &host));
    lm_status status = lm_tensor_read(from, lm_data(host), bytes);
    if (status == LM_OK) status = lm_tensor_write(to, lm_data(host), bytes);
    lm_release(host);
    lm_check(L, status);
  }
  lua_replace(L, top + 1);
  lua_settop(L, top + 1);
  return to;
}

lm_tensor *lm_check_host(lua_State *L, int index, lm_dtype dtype)
{
  index = lua_absindex(L, index);
  lm_tensor *t = lm_check_tensor(L, index);
  int top = lua_gettop(L);
  lua_pushvalue(L, index);
  if (t->device->kind != LM_CPU) t = push_on_device(L, t, lm_device_cpu());
  if (!lm_is_contiguous(t)) t = push_apply(L, "contiguous", t, NULL);
  if (dtype != LM_DTYPE_COUNT && t->dtype != dtype) {
    lm_value v = lm_int(dtype);
    t = push_apply(L, "cast", t, &v);
  }
  lua_replace(L, top + 1);
  lua_settop(L, top + 1);
  return t;
}

LM_DOC(handle_release,
       "x\n"
       "Gives up this handle of the tensor now, without waiting for Lua's collector; using "
       "it afterwards is an error. Memory that others hold stays.\n"
       "> x = lumen.zeros(1000)\n"
       "> x:release()\n"
       "> (pcall(function() return x.shape end))\n"
       "false");
static int handle_release(lua_State *L)
{
  lm_handle *h = luaL_checkudata(L, 1, CLASS);
  lm_tensor *t = h->tensor;
  h->tensor = NULL;
  lm_scope_forget(h);
  lm_release(t);
  return 0;
}

/* ---- numbers in and out ---- */

static void push_number(lua_State *L, lm_dtype dtype, const void *data, int64_t i)
{
  if (dtype == LM_I64) lua_pushinteger(L, ((const int64_t *)data)[i]);
  else if (lm_dtype_is_float(dtype)) lua_pushnumber(L, lm_number_at(dtype, data, i));
  else lua_pushinteger(L, (lua_Integer)lm_number_at(dtype, data, i));
}

static void put_number(lua_State *L, lm_dtype dtype, void *data, int64_t i, int index)
{
  double v;
  if (lua_isboolean(L, index)) v = lua_toboolean(L, index);
  else v = lua_tonumber(L, index);
  bool is_integer = lua_isinteger(L, index);
  if (!lm_dtype_is_float(dtype) && !is_integer && !(fabs(v) < 9.2e18))
    luaL_error(L, "tensor: %f does not fit %s", v, lm_dtype_name(dtype));
  int64_t whole = is_integer ? lua_tointeger(L, index)
                             : lm_dtype_is_float(dtype) ? 0 : (int64_t)v;
  if ((dtype == LM_U8 && (whole < 0 || whole > 255)) ||
      (dtype == LM_I32 && (whole < INT32_MIN || whole > INT32_MAX)))
    luaL_error(L, "tensor: %I does not fit %s", (lua_Integer)whole, lm_dtype_name(dtype));
  switch (dtype) {
    case LM_F32: ((float *)data)[i] = (float)v; break;
    case LM_F64: ((double *)data)[i] = v; break;
    case LM_BF16: ((lm_bf16 *)data)[i] = lm_f32_to_bf16((float)v); break;
    case LM_I32: ((int32_t *)data)[i] = (int32_t)whole; break;
    case LM_U8: ((uint8_t *)data)[i] = (uint8_t)whole; break;
    default: ((int64_t *)data)[i] = whole; break;
  }
}

/* Shape of a nested table from its first elements. */
static int nested_shape(lua_State *L, int index, int64_t *shape)
{
  int ndim = 0, top = lua_gettop(L);
  lua_pushvalue(L, index);
  while (lua_istable(L, -1)) {
    if (ndim == LM_MAX_DIMS) luaL_error(L, "tensor: more than %d levels", LM_MAX_DIMS);
    shape[ndim++] = (int64_t)lua_rawlen(L, -1);
    if (lua_rawgeti(L, -1, 1) == LUA_TNIL) break;
  }
  lua_settop(L, top);
  return ndim;
}

static void fill_nested(lua_State *L, lm_tensor *t, int dim, int64_t *i)
{
  if (dim == t->ndim) {
    if (lua_type(L, -1) != LUA_TNUMBER && !lua_isboolean(L, -1))
      luaL_error(L, "tensor: element %I is no number but a %s", (lua_Integer)(*i + 1),
                 luaL_typename(L, -1));
    put_number(L, t->dtype, t->storage->data, (*i)++, lua_gettop(L));
    return;
  }
  if (!lua_istable(L, -1) || (int64_t)lua_rawlen(L, -1) != t->shape[dim])
    luaL_error(L, "tensor: the rows of level %d do not all have %I elements", dim + 1,
               (lua_Integer)t->shape[dim]);
  luaL_checkstack(L, 3, "tensor: too deep");
  for (int64_t k = 1; k <= t->shape[dim]; k++) {
    lua_rawgeti(L, -1, k);
    fill_nested(L, t, dim + 1, i);
    lua_pop(L, 1);
  }
}

/* ---- making tensors ---- */

typedef struct making { lm_dtype dtype; lm_device *device; bool requires_grad; } making;

static const char *const making_keys[] = {"dtype", "device", "requires_grad", "rng", "low",
                                          "high", "mean", "std", NULL};

static making read_making(lua_State *L, int index, const char *function, lm_dtype otherwise)
{
  lm_check_keys(L, index, function, making_keys);
  making m = {.dtype = otherwise, .device = lm_device_cpu()};
  const char *dtype = lm_opt_string(L, index, "dtype", NULL);
  if (dtype) {
    m.dtype = lm_dtype_parse(dtype);
    if (m.dtype == LM_DTYPE_COUNT)
      luaL_error(L, "%s: unknown dtype '%s' (f32, f64, bf16, i32, i64, u8)", function, dtype);
  }
  const char *device = lm_opt_string(L, index, "device", NULL);
  if (device) lm_check(L, lm_device_get(device, &m.device));
  m.requires_grad = lm_opt_bool(L, index, "requires_grad", false);
  return m;
}

/* Shape from a table at stack index 1 or from leading numbers; returns the next index. */
static int read_shape(lua_State *L, const char *function, int *ndim, int64_t *shape)
{
  int i = 1;
  *ndim = 0;
  if (lua_istable(L, 1)) {
    int n = (int)lua_rawlen(L, 1);
    if (n > LM_MAX_DIMS) luaL_error(L, "%s: more than %d dimensions", function, LM_MAX_DIMS);
    for (int k = 1; k <= n; k++) {
      lua_rawgeti(L, 1, k);
      shape[(*ndim)++] = luaL_checkinteger(L, -1);
      lua_pop(L, 1);
    }
    return 2;
  }
  while (lua_type(L, i) == LUA_TNUMBER) {
    if (*ndim == LM_MAX_DIMS) luaL_error(L, "%s: more than %d dimensions", function, LM_MAX_DIMS);
    shape[(*ndim)++] = luaL_checkinteger(L, i++);
  }
  return i;
}

/* Push a new tensor of `m`'s kind; write into it by an in-place operation. */
static void make_filled(lua_State *L, making m, int ndim, const int64_t *shape, const char *op,
                        const lm_value *params)
{
  lm_tensor *t, *same;
  lm_check_soft_limit(L);
  lm_check(L, lm_tensor_new(m.device, m.dtype, ndim, shape, &t));
  t->storage->maker = op;
  lm_push_tensor(L, t);
  lm_check(L, lm_apply(lm_op_find(op), LM_IN(t), params, &same));
  lm_release(same);
  t->storage->version = 0;
  t->requires_grad = m.requires_grad;
}

static int make_constant(lua_State *L, const char *function, double value, bool value_given)
{
  int64_t shape[LM_MAX_DIMS];
  int ndim;
  int next = read_shape(L, function, &ndim, shape);
  if (!value_given) {
    if (next == 2) value = luaL_checknumber(L, next++);
    else luaL_error(L, "full: give the shape as a table: full({2, 3}, value)");
  }
  making m = read_making(L, next, function, LM_F32);
  make_filled(L, m, ndim, shape, "fill_", LM_PARAMS(lm_float(value)));
  return 1;
}

LM_DOC(make_zeros,
       "shape...: int; dtype: str = f32, device: str = cpu, requires_grad: bool = false "
       "-> tensor\n"
       "Zeros. The shape is a list of numbers or a table of them; no number at all makes a "
       "scalar.\n"
       "> lumen.zeros(2, 3)\n"
       "f32 [2 x 3] {0, 0, 0, 0, 0, 0}\n"
       "> lumen.zeros({2, 3}, {dtype = \"i64\"}).dtype\n"
       "i64");
static int make_zeros(lua_State *L) { return make_constant(L, "zeros", 0, true); }
LM_DOC(make_ones,
       "shape...: int; dtype: str = f32, device: str = cpu, requires_grad: bool = false "
       "-> tensor\n"
       "Ones; the shape as for zeros.\n"
       "> lumen.ones(2, 2)\n"
       "f32 [2 x 2] {1, 1, 1, 1}");
static int make_ones(lua_State *L) { return make_constant(L, "ones", 1, true); }
LM_DOC(make_full,
       "shape: ints, value: float; dtype: str = f32, device: str = cpu, requires_grad: "
       "bool = false -> tensor\n"
       "One value everywhere. The shape is a table.\n"
       "> lumen.full({2, 2}, 0.5)\n"
       "f32 [2 x 2] {0.5, 0.5, 0.5, 0.5}");
static int make_full(lua_State *L) { return make_constant(L, "full", 0, false); }

static int make_random(lua_State *L, const char *function, const char *op)
{
  int64_t shape[LM_MAX_DIMS];
  int ndim;
  int next = read_shape(L, function, &ndim, shape);
  making m = read_making(L, next, function, LM_F32);
  lm_tensor *t;
  lm_check(L, lm_tensor_new(m.device, m.dtype, ndim, shape, &t));
  lm_push_tensor(L, t);
  int made = lua_gettop(L);
  lm_push_op(L, lm_op_find(op));
  lua_pushvalue(L, made);
  lua_newtable(L);
  static const char *const passed[] = {"rng", "low", "high", "mean", "std", NULL};
  for (int i = 0; passed[i]; i++) {
    if (!lua_istable(L, next)) break;
    if (lua_getfield(L, next, passed[i]) == LUA_TNIL) lua_pop(L, 1);
    else lua_setfield(L, -2, passed[i]);
  }
  lua_call(L, 2, 0);
  t->storage->version = 0;
  t->requires_grad = m.requires_grad;
  return 1;
}

LM_DOC(make_rand,
       "shape...: int; low: float = 0, high: float = 1, rng: table?, dtype: str = f32, "
       "device: str = cpu, requires_grad: bool = false -> tensor\n"
       "Uniform random numbers in [low, high). Without rng they follow lumen.seed; rng = "
       "{seed =, stream =, step =, counter =} draws from a stream of its own: the same "
       "keys give the same numbers, and its counter goes on with each call.\n"
       "> lumen.rand(3, {rng = {seed = 1, stream = \"demo\"}})\n"
       "f32 [3] {0.27154, 0.77796, 0.83491}");
static int make_rand(lua_State *L) { return make_random(L, "rand", "uniform_"); }
LM_DOC(make_randn,
       "shape...: int; mean: float = 0, std: float = 1, rng: table?, dtype: str = f32, "
       "device: str = cpu, requires_grad: bool = false -> tensor\n"
       "Normal random numbers; the shape as for zeros, rng as for rand.\n"
       "> lumen.randn(2, 2, {std = 0.1, rng = {seed = 1}})\n"
       "f32 [2 x 2] {-0.093242, -0.01396, 0.052262, 0.060544}\n"
       "> lumen.randn(8, 3, 224, 224).shape\n"
       "{8, 3, 224, 224}");
static int make_randn(lua_State *L) { return make_random(L, "randn", "normal_"); }

static void to_making(lua_State *L, lm_tensor *t, making m)
{
  if (m.device->kind != LM_CPU) t = push_on_device(L, t, m.device);
  t->requires_grad = m.requires_grad;
}

LM_DOC(make_tensor,
       "values: table; dtype: str = f32, device: str = cpu, requires_grad: bool = false "
       "-> tensor\n"
       "A tensor from nested tables of numbers, or a scalar from one number. Raises when "
       "the rows of a level differ in length, when there are more than 6 levels, or when a "
       "number does not fit an integer dtype (f32, f64, bf16, i32, i64, u8).\n"
       "> lumen.tensor{{1, 2, 3}, {4, 5, 6}}\n"
       "f32 [2 x 3] {1, 2, 3, 4, 5, 6}\n"
       "> lumen.tensor({0, 255}, {dtype = \"u8\"})\n"
       "u8 [2] {0, 255}");
static int make_tensor(lua_State *L)
{
  making m = read_making(L, 2, "tensor", LM_F32);
  int64_t shape[LM_MAX_DIMS], i = 0;
  luaL_argcheck(L, lua_istable(L, 1) || lua_type(L, 1) == LUA_TNUMBER, 1,
                "nested tables of numbers, or a number");
  int ndim = nested_shape(L, 1, shape);
  lm_tensor *t = lm_new_tensor(L, m.dtype, ndim, shape);
  lua_pushvalue(L, 1);
  fill_nested(L, t, 0, &i);
  lua_pop(L, 1);
  to_making(L, t, m);
  return 1;
}

LM_DOC(make_arange,
       "first: float, last: float?, step: float?; dtype: str?, device: str = cpu, "
       "requires_grad: bool = false -> tensor\n"
       "arange(n) counts 0 .. n - 1; arange(first, last, step) from first on, without "
       "last. i64 when all numbers are integers, else f32.\n"
       "> lumen.arange(4)\n"
       "i64 [4] {0, 1, 2, 3}\n"
       "> lumen.arange(0, 1, 0.25)\n"
       "f32 [4] {0, 0.25, 0.5, 0.75}");
static int make_arange(lua_State *L)
{
  double first = 0, last = luaL_checknumber(L, 1), step = 1;
  bool whole = lua_isinteger(L, 1);
  int next = 2;
  if (lua_type(L, 2) == LUA_TNUMBER) {
    first = last;
    last = luaL_checknumber(L, 2);
    whole &= lua_isinteger(L, 2);
    next = 3;
    if (lua_type(L, 3) == LUA_TNUMBER) {
      step = luaL_checknumber(L, 3);
      whole &= lua_isinteger(L, 3);
      next = 4;
    }
  }
  luaL_argcheck(L, step != 0, 3, "the step is 0");
  making m = read_making(L, next, "arange", whole ? LM_I64 : LM_F32);
  double count = ceil((last - first) / step);
  luaL_argcheck(L, count < 1e12, 1, "too many elements");
  int64_t n = count > 0 ? (int64_t)count : 0;
  lm_tensor *t = lm_new_tensor(L, m.dtype, 1, &n);
  for (int64_t i = 0; i < n; i++) {
    lua_pushnumber(L, first + step * (double)i);
    put_number(L, m.dtype, t->storage->data, i, lua_gettop(L));
    lua_pop(L, 1);
  }
  to_making(L, t, m);
  return 1;
}

/* ---- methods that are no operations ---- */

LM_DOC(method_item,
       "x -> number\n"
       "The number in a tensor of one element; raises when there are more or none.\n"
       "> lumen.tensor{1, 2, 3}:sum():item()\n"
       "6.0");
static int method_item(lua_State *L)
{
  lm_tensor *x = lm_check_tensor(L, 1);
  if (lm_numel(x) != 1)
    luaL_error(L, "item: the tensor has %I elements (%s)", (lua_Integer)lm_numel(x),
               lm_describe(x));
  lm_tensor *t = lm_check_host(L, 1, LM_DTYPE_COUNT);
  push_number(L, t->dtype, lm_data(t), 0);
  return 1;
}

static void push_nested(lua_State *L, const lm_tensor *t, int dim, int64_t *i)
{
  if (dim == t->ndim) {
    push_number(L, t->dtype, lm_data(t), (*i)++);
    return;
  }
  luaL_checkstack(L, 4, "totable");
  lua_createtable(L, (int)lm_min64(t->shape[dim], INT32_MAX), 0);
  for (int64_t k = 1; k <= t->shape[dim]; k++) {
    push_nested(L, t, dim + 1, i);
    lua_rawseti(L, -2, k);
  }
}

LM_DOC(method_totable,
       "x -> table\n"
       "Nested tables of numbers, one level per dimension; a number for a scalar.\n"
       "> lumen.arange(6):reshape(2, 3):totable()\n"
       "{{0, 1, 2}, {3, 4, 5}}");
static int method_totable(lua_State *L)
{
  int64_t i = 0;
  lm_tensor *t = lm_check_host(L, 1, LM_DTYPE_COUNT);
  if (lm_numel(t) == 0 && t->ndim == 0) return 0;
  push_nested(L, t, 0, &i);
  return 1;
}

LM_DOC(method_numel,
       "x -> int\n"
       "Number of elements.\n"
       "> lumen.zeros(2, 3, 4):numel()\n"
       "24");
static int method_numel(lua_State *L)
{
  lua_pushinteger(L, lm_numel(lm_check_tensor(L, 1)));
  return 1;
}

LM_DOC(method_is_contiguous,
       "x -> bool\n"
       "Whether the elements lie in memory in row-major order without gaps.\n"
       "> x = lumen.zeros(2, 3)\n"
       "> x:is_contiguous(), x:transpose():is_contiguous()\n"
       "true\n"
       "false");
static int method_is_contiguous(lua_State *L)
{
  lua_pushboolean(L, lm_is_contiguous(lm_check_tensor(L, 1)));
  return 1;
}

LM_DOC(method_backward,
       "x, gradient?; keep: bool = false\n"
       "Gradients of x, a scalar, for all leaves that it was computed from; they add to "
       "what is in leaf.grad. For a tensor with more elements, gradient (of x's shape) "
       "says what comes in. The graph is freed unless keep. Raises when a tensor that the "
       "graph needs was overwritten.\n"
       "> x = lumen.tensor({1, 2, 3}, {requires_grad = true})\n"
       "> x:square():sum():backward()\n"
       "> x.grad\n"
       "f32 [3] {2, 4, 6}");
static int method_backward(lua_State *L)
{
  static const char *const keys[] = {"keep", "gradient", NULL};
  lm_tensor *x = lm_check_tensor(L, 1), *g = lm_test_tensor(L, 2);
  bool keep = false;
  if (!g && lua_istable(L, 2)) {
    lm_check_keys(L, 2, "backward", keys);
    keep = lm_opt_bool(L, 2, "keep", false);
    lua_getfield(L, 2, "gradient");
    if (!lua_isnil(L, -1)) g = lm_check_tensor(L, -1);
  }
  lm_collect_before_backward(L);
  lua_State *outer = lm_backward_thread;
  lm_backward_thread = L;
  lm_status status = lm_backward(x, g, keep);
  lm_backward_thread = outer;
  lm_check(L, status);
  return 0;
}

LM_DOC(method_to,
       "x, target: str|tensor -> tensor\n"
       "x with another dtype (\"f32\", \"f64\", \"bf16\", \"i32\", \"i64\", \"u8\") or on another "
       "device (\"cpu\", \"cuda\", \"cuda:1\"), or with both of another tensor. x itself when "
       "nothing changes. Converting follows cast and is differentiable between floats; "
       "moving between devices is not.\n"
       "> lumen.arange(3):to(\"f32\")\n"
       "f32 [3] {0, 1, 2}");
static int method_to(lua_State *L)
{
  lm_tensor *x = lm_check_tensor(L, 1), *like = lm_test_tensor(L, 2);
  lm_dtype dtype = x->dtype;
  lm_device *device = x->device;
  if (like) {
    dtype = like->dtype;
    device = like->device;
  } else {
    const char *name = luaL_checkstring(L, 2);
    lm_dtype d = lm_dtype_parse(name);
    if (d != LM_DTYPE_COUNT) dtype = d;
    else lm_check(L, lm_device_get(name, &device));
  }
  lua_settop(L, 1);
  if (dtype != x->dtype) {
    lm_push_op(L, lm_op_find("cast"));
    lua_insert(L, 1);
    lua_pushstring(L, lm_dtype_name(dtype));
    lua_call(L, 2, 1);
    x = lm_check_tensor(L, 1);
  }
  if (device != x->device) {
    if (x->requires_grad && lm_grad_enabled())
      luaL_error(L, "to: moving between devices is not differentiable (%s)\n"
                    "hint: x:detach():to(...)", lm_describe(x));
    push_on_device(L, x, device);
  }
  return 1;
}

LM_DOC(method_clone,
       "x -> tensor\n"
       "A copy with memory of its own. Differentiable.\n"
       "> x = lumen.zeros(2)\n"
       "> y = x:clone():fill_(1)\n"
       "> x, y\n"
       "f32 [2] {0, 0}\n"
       "f32 [2] {1, 1}");
static int method_clone(lua_State *L)
{
  lm_tensor *x = lm_check_tensor(L, 1), *y;
  if (x->requires_grad && lm_grad_enabled()) {
    lua_settop(L, 1);
    lua_pushnumber(L, 1.0);
    return lm_call_op(L, lm_op_find("mul"), 1);
  }
  lm_tensor *same;
  lm_check(L, lm_tensor_new_like(x, &y));
  lm_push_tensor(L, y);
  lm_check(L, lm_apply(lm_op_find("copy_"), LM_IN(y, x), NULL, &same));
  lm_release(same);
  y->storage->version = 0;
  return 1;
}

LM_DOC(method_requires_grad_,
       "x, on: bool = true -> tensor\n"
       "Switches on (or off) that backward computes a gradient for the leaf x; returns x. "
       "Raises for integers and for results of operations. The same as setting "
       "x.requires_grad.\n"
       "> x = lumen.zeros(2):requires_grad_()\n"
       "> x.requires_grad\n"
       "true");
static int method_requires_grad_(lua_State *L)
{
  lm_tensor *x = lm_check_tensor(L, 1);
  bool on = lua_isnone(L, 2) || lua_toboolean(L, 2);
  if (x->node) luaL_error(L, "requires_grad_: only leaves can change it (%s)", lm_describe(x));
  if (on && !lm_dtype_is_float(x->dtype))
    luaL_error(L, "requires_grad_: only floats have gradients (%s)", lm_describe(x));
  x->requires_grad = on;
  lua_settop(L, 1);
  return 1;
}

LM_DOC(method_zero_grad,
       "x\n"
       "Forgets x.grad.\n"
       "> x = lumen.ones(2, {requires_grad = true})\n"
       "> x:sum():backward()\n"
       "> x:zero_grad()\n"
       "> x.grad\n"
       "nil");
static int method_zero_grad(lua_State *L)
{
  lm_tensor *x = lm_check_tensor(L, 1);
  lm_release(x->grad);
  x->grad = NULL;
  return 0;
}

/* ---- printing ---- */

static int meta_tostring(lua_State *L)
{
  lm_handle *h = luaL_checkudata(L, 1, CLASS);
  if (!h->tensor) {
    lua_pushliteral(L, "tensor (released)");
    return 1;
  }
  lm_tensor *t = h->tensor;
  if (t->device->kind != LM_CPU) t = lm_check_host(L, 1, LM_DTYPE_COUNT);
  lm_push_text(L, h->tensor, t);
  return 1;
}

/* ---- fields and indexing ---- */

static int push_select(lua_State *L, lua_Integer i)
{
  lua_settop(L, 1);
  lua_pushinteger(L, 1);
  lua_pushinteger(L, i);
  return lm_call_op(L, lm_op_find("select"), 1);
}

static int unknown_field(lua_State *L, const char *key)
{
  const char *names[700];
  int n = 0;
  static const char *const fields[] = {"shape", "dtype", "device", "grad", "requires_grad",
                                       "ndim", "backward", "item", "totable", "numel", "to",
                                       "clone"};
  for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) names[n++] = fields[i];
  for (int i = 0; i < lm_ops_count && n < 690; i++) names[n++] = lm_ops[i]->name;
  names[n] = NULL;
  const char *near = lm_nearest(key, names);
  if (near) return luaL_error(L, "a tensor has no '%s'\nhint: did you mean %s?", key, near);
  return luaL_error(L, "a tensor has no '%s'", key);
}

static int meta_index(lua_State *L)
{
  luaL_checkudata(L, 1, CLASS);
  lua_pushvalue(L, 2);
  if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL) return 1;
  lm_tensor *x = lm_check_tensor(L, 1);
  if (lua_type(L, 2) == LUA_TNUMBER) return push_select(L, luaL_checkinteger(L, 2));
  const char *key = luaL_checkstring(L, 2);
  if (strcmp(key, "shape") == 0) {
    lua_createtable(L, x->ndim, 0);
    for (int i = 0; i < x->ndim; i++) {
      lua_pushinteger(L, x->shape[i]);
      lua_rawseti(L, -2, i + 1);
    }
  } else if (strcmp(key, "dtype") == 0) {
    lua_pushstring(L, lm_dtype_name(x->dtype));
  } else if (strcmp(key, "device") == 0) {
    lua_pushstring(L, x->device->name);
  } else if (strcmp(key, "ndim") == 0) {
    lua_pushinteger(L, x->ndim);
  } else if (strcmp(key, "requires_grad") == 0) {
    lua_pushboolean(L, x->requires_grad);
  } else if (strcmp(key, "grad") == 0) {
    if (x->grad) lm_push_tensor(L, lm_retain(x->grad));
    else lua_pushnil(L);
  } else {
    return unknown_field(L, key);
  }
  return 1;
}

static void set_grad(lua_State *L, lm_tensor *x)
{
  lm_tensor *g = lua_isnil(L, 3) ? NULL : lm_check_tensor(L, 3);
  if (g && (!lm_same_shape(g, x) || g->dtype != x->dtype || g->device != x->device))
    luaL_error(L, "grad: %s does not fit the tensor %s", lm_describe(g), lm_describe(x));
  lm_retain(g);
  lm_release(x->grad);
  x->grad = g;
}

static int meta_newindex(lua_State *L)
{
  lm_tensor *x = lm_check_tensor(L, 1);
  if (lua_type(L, 2) == LUA_TSTRING) {
    const char *key = lua_tostring(L, 2);
    if (strcmp(key, "grad") == 0) {
      set_grad(L, x);
      return 0;
    }
    if (strcmp(key, "requires_grad") == 0) {
      lua_pushcfunction(L, method_requires_grad_);
      lua_pushvalue(L, 1);
      lua_pushboolean(L, lua_toboolean(L, 3));
      lua_call(L, 2, 0);
      return 0;
    }
    return luaL_error(L, "a tensor's '%s' cannot be set", key);
  }
  lua_Integer i = luaL_checkinteger(L, 2);
  lua_settop(L, 3);
  lm_push_op(L, lm_op_find("select"));
  lua_pushvalue(L, 1);
  lua_pushinteger(L, 1);
  lua_pushinteger(L, i);
  lua_call(L, 3, 1);
  lm_push_op(L, lm_op_find(lua_type(L, 3) == LUA_TNUMBER ? "fill_" : "copy_"));
  lua_insert(L, -2);
  lua_pushvalue(L, 3);
  lua_call(L, 2, 0);
  return 0;
}

static int meta_len(lua_State *L)
{
  lm_tensor *x = lm_check_tensor(L, 1);
  if (x->ndim == 0) luaL_error(L, "a scalar tensor has no length");
  lua_pushinteger(L, x->shape[0]);
  return 1;
}

/* An arithmetic metamethod: one operation; either operand may be a number. */
static int meta_arithmetic(lua_State *L)
{
  lua_settop(L, 2);
  return lm_call_op(L, lua_touserdata(L, lua_upvalueindex(1)), 1);
}

static int meta_unary(lua_State *L)
{
  lua_settop(L, 1);
  return lm_call_op(L, lua_touserdata(L, lua_upvalueindex(1)), 1);
}

LM_DOC(core_is_tensor,
       "value: any -> bool\n"
       "Whether a value is a tensor.\n"
       "> lumen.is_tensor(lumen.zeros(1)), lumen.is_tensor({1})\n"
       "true\n"
       "false");
static int core_is_tensor(lua_State *L)
{
  lua_pushboolean(L, luaL_testudata(L, 1, CLASS) != NULL);
  return 1;
}

LM_DOC(tensor_class,
       "-> tensor\n"
       "A tensor: numbers of one dtype in a grid of up to six dimensions. Operations are "
       "functions of lumen and methods alike: lumen.softmax(x) is x:softmax(). Dimensions "
       "and positions count from 1, negative ones from the end; values inside index "
       "tensors count from 0. + - * / ^ and unary - work element by element and broadcast; "
       "x[i] is the i-th part along the first dimension, x[i] = y writes it, #x is the "
       "size of the first dimension.\n"
       "> x = lumen.tensor{{1, 2}, {3, 4}}\n"
       "> x[2], (x + 10)[1], #x\n"
       "f32 [2] {3, 4}\n"
       "f32 [2] {11, 12}\n"
       "2\n"
       "> x[1] = 0\n"
       "> x\n"
       "f32 [2 x 2] {0, 0, 3, 4}");

LM_DOC(tensor_shape,
       "-> ints\n"
       "The sizes of the dimensions, as a table.\n"
       "> lumen.zeros(2, 3).shape\n"
       "{2, 3}");

LM_DOC(tensor_dtype,
       "-> str\n"
       "f32, f64, bf16, i32, i64 or u8.\n"
       "> lumen.arange(3).dtype\n"
       "i64");

LM_DOC(tensor_device,
       "-> str\n"
       "Where the elements lie: cpu, cuda:0.\n"
       "> lumen.zeros(2).device\n"
       "cpu");

LM_DOC(tensor_ndim,
       "-> int\n"
       "Number of dimensions; 0 for a scalar.\n"
       "> lumen.zeros(2, 3).ndim, lumen.zeros({}).ndim\n"
       "2\n"
       "0");

LM_DOC(tensor_grad,
       "-> tensor?\n"
       "The gradient that backward has left, or nil. Can be set.\n"
       "> x = lumen.tensor({3}, {requires_grad = true})\n"
       "> x:square():backward()\n"
       "> x.grad\n"
       "f32 [1] {6}");

LM_DOC(tensor_requires_grad,
       "-> bool\n"
       "Whether gradients flow to it. Can be set for leaves.\n"
       "> w = lumen.ones(2, {requires_grad = true})\n"
       "> (w * 2).requires_grad\n"
       "true");

static const lm_function methods[] = {
    {"", NULL, tensor_class_doc},
    {"item", method_item, method_item_doc},
    {"totable", method_totable, method_totable_doc},
    {"numel", method_numel, method_numel_doc},
    {"is_contiguous", method_is_contiguous, method_is_contiguous_doc},
    {"backward", method_backward, method_backward_doc},
    {"to", method_to, method_to_doc},
    {"clone", method_clone, method_clone_doc},
    {"requires_grad_", method_requires_grad_, method_requires_grad__doc},
    {"zero_grad", method_zero_grad, method_zero_grad_doc},
    {"release", handle_release, handle_release_doc},
    {"shape", NULL, tensor_shape_doc},
    {"dtype", NULL, tensor_dtype_doc},
    {"device", NULL, tensor_device_doc},
    {"ndim", NULL, tensor_ndim_doc},
    {"grad", NULL, tensor_grad_doc},
    {"requires_grad", NULL, tensor_requires_grad_doc},
    {0}};

static const lm_function makers[] = {
    {"tensor", make_tensor, make_tensor_doc},
    {"zeros", make_zeros, make_zeros_doc},
    {"ones", make_ones, make_ones_doc},
    {"full", make_full, make_full_doc},
    {"rand", make_rand, make_rand_doc},
    {"randn", make_randn, make_randn_doc},
    {"arange", make_arange, make_arange_doc},
    {"is_tensor", core_is_tensor, core_is_tensor_doc},
    {0}};

void lm_bind_tensor(lua_State *L)
{
  static const struct { const char *event, *op; bool unary; } arithmetic[] = {
      {"__add", "add", false}, {"__sub", "sub", false}, {"__mul", "mul", false},
      {"__div", "div", false}, {"__pow", "pow", false}, {"__unm", "neg", true}};
  lm_set_functions(L, "", makers);
  luaL_newmetatable(L, CLASS);
  lua_newtable(L);
  lm_set_functions(L, "Tensor", methods);
  lua_pushvalue(L, -1);
  lua_setfield(L, -3, "methods");
  lua_pushcclosure(L, meta_index, 1);
  lua_setfield(L, -2, "__index");
  static const luaL_Reg events[] = {{"__newindex", meta_newindex}, {"__gc", handle_release},
                                    {"__close", handle_release},   {"__len", meta_len},
                                    {"__tostring", meta_tostring}, {NULL, NULL}};
  luaL_setfuncs(L, events, 0);
  for (size_t i = 0; i < sizeof arithmetic / sizeof arithmetic[0]; i++) {
    const lm_op *op = lm_op_find(arithmetic[i].op);
    if (!op) continue;
    lua_pushlightuserdata(L, (void *)(uintptr_t)op);
    lua_pushcclosure(L, arithmetic[i].unary ? meta_unary : meta_arithmetic, 1);
    lua_setfield(L, -2, arithmetic[i].event);
  }
  lua_pop(L, 1);
}
