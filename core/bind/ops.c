/* ops.c: the one function behind every operation in Lua. It reads tensors and parameters as
 * the operation's signature says; no operation has binding code of its own.
 *
 * A call: tensors first (a number stands for a scalar tensor where one is required, nil skips
 * an optional one, a table is a list), then parameters by position, then possibly one table of
 * named options. An operation whose only list of integers comes first takes it unpacked too:
 * x:reshape(2, -1). */
#include <stdlib.h>
#include <string.h>

#include "bind/bind.h"

#define MAX_IN 4096

typedef struct reader {
  lua_State *L;
  const lm_op *op;
  const lm_sig *sig;
  int next, top, options;   /* stack: next argument, last one, options table (0: none) */
  lm_tensor *few[LM_MAX_ARGS];
  lm_tensor **in;
  int nin, capacity, counts[LM_MAX_ARGS];
  int scalar_at[LM_MAX_ARGS]; /* stack index + 1 of numbers that become tensors */
  lm_value param[LM_MAX_PARAMS];
} reader;

static bool has_names(lua_State *L, int index)
{
  lua_pushnil(L);
  if (!lua_next(L, index)) return false;
  bool named = lua_type(L, -2) == LUA_TSTRING;
  lua_pop(L, 2);
  return named;
}

static bool is_options(lua_State *L, int index)
{
  if (!lua_istable(L, index)) return false;
  return has_names(L, index) || lua_rawlen(L, index) == 0; /* an empty table names nothing */
}

/* x:reshape({}): an empty table in the place of a list that must be given is that list. */
static bool takes_empty_list(const reader *r)
{
  const lm_sig *sig = r->sig;
  bool list = sig->nparam > 0 && sig->param[0].required &&
              (sig->param[0].type == LM_T_INTS || sig->param[0].type == LM_T_DIMS);
  return list && r->top - r->next == sig->narg && lua_istable(r->L, r->top) &&
         lua_rawlen(r->L, r->top) == 0 && !has_names(r->L, r->top);
}

static int bad(reader *r, const char *what, const char *wanted, int index)
{
  if (luaL_testudata(r->L, index, "lumen.tensor")) lm_check_tensor(r->L, index); /* released */
  return luaL_error(r->L, "%s: %s must be %s, not %s", r->op->name, what, wanted,
                    luaL_typename(r->L, index));
}

/* ---- tensors ---- */

static void read_list(reader *r, int a, int index)
{
  lua_State *L = r->L;
  if (!lua_istable(L, index)) bad(r, r->sig->arg[a].name, "a table of tensors", index);
  int n = (int)lua_rawlen(L, index);
  if (r->nin + n > MAX_IN) luaL_error(L, "%s: more than %d tensors", r->op->name, MAX_IN);
  if (r->nin + n + LM_MAX_ARGS > r->capacity) {
    int capacity = r->nin + n + LM_MAX_ARGS; /* lives on the Lua stack, so errors free it */
    lm_tensor **bigger = lua_newuserdatauv(L, (size_t)capacity * sizeof *bigger, 0);
    memcpy(bigger, r->in, (size_t)r->nin * sizeof *bigger);
    r->in = bigger;
    r->capacity = capacity;
  }
  for (int i = 1; i <= n; i++) {
    lua_rawgeti(L, index, i);
    lm_tensor *t = lm_test_tensor(L, -1);
    if (!t) luaL_error(L, "%s: %s[%d] is no tensor but a %s", r->op->name, r->sig->arg[a].name,
                       i, luaL_typename(L, -1));
    r->in[r->nin++] = t; /* the table keeps it alive */
    lua_pop(L, 1);
  }
  r->counts[a] = n;
}

static lm_tensor *named_tensor(reader *r, int a)
{
  if (!r->options) return NULL;
  if (lua_getfield(r->L, r->options, r->sig->arg[a].name) == LUA_TNIL) {
    lua_pop(r->L, 1);
    return NULL;
  }
  lm_tensor *t = lm_test_tensor(r->L, -1);
  if (!t) bad(r, r->sig->arg[a].name, "a tensor", -1);
  lua_pop(r->L, 1);
  return t;
}

static void read_tensors(reader *r)
{
  lua_State *L = r->L;
  for (int a = 0; a < r->sig->narg; a++) {
    bool here = r->next <= r->top;
    if (r->sig->arg[a].list) {
      if (!here) luaL_error(L, "%s: %s is missing", r->op->name, r->sig->arg[a].name);
      read_list(r, a, r->next++);
      continue;
    }
    r->counts[a] = 1;
    lm_tensor *t = here ? lm_test_tensor(L, r->next) : NULL;
    if (t) {
      r->next++;
    } else if (r->sig->arg[a].optional) {
      if (here && (lua_isnil(L, r->next) || (lua_isboolean(L, r->next) &&
                                             !lua_toboolean(L, r->next))))
        r->next++;
      t = named_tensor(r, a);
    } else if (here && lua_type(L, r->next) == LUA_TNUMBER) {
      r->scalar_at[a] = r->next++;
    } else if (!here) {
      luaL_error(L, "%s: %s is missing", r->op->name, r->sig->arg[a].name);
    } else {
      bad(r, r->sig->arg[a].name, "a tensor", r->next);
    }
    r->in[r->nin++] = t;
  }
}

/* Numbers become scalars of the dtype of the first float tensor, else of the last tensor (a
 * condition or an index comes before the values), on its device. The handles stay on the stack
 * until the call is over. */
static void make_scalars(reader *r)
{
  lua_State *L = r->L;
  const lm_tensor *like = NULL;
  for (int i = 0; i < r->nin; i++) {
    if (r->in[i] && !(like && lm_dtype_is_float(like->dtype))) like = r->in[i];
  }
  for (int a = 0; a < r->sig->narg; a++) {
    if (!r->scalar_at[a]) continue;
    double v = lua_tonumber(L, r->scalar_at[a]);
    lm_dtype dtype = like ? like->dtype : LM_F32;
    lm_tensor *t, *same;
    lm_check(L, lm_tensor_new(like ? like->device : lm_device_cpu(), dtype, 0, NULL, &t));
    lm_push_tensor(L, t);
    lm_check(L, lm_apply(lm_op_find("fill_"), LM_IN(t), LM_PARAMS(lm_float(v)), &same));
    lm_release(same);
    r->in[a] = t; /* without lists, arguments and inputs count alike */
  }
}

/* ---- parameters ---- */

static int64_t from_one(reader *r, int k, int64_t v)
{
  if (v == 0)
    luaL_error(r->L, "%s: %s counts from 1 (or -1 for the last), not 0", r->op->name,
               r->sig->param[k].name);
  return v > 0 ? v - 1 : v;
}

static int64_t read_integer(reader *r, int k, int index)
{
  int ok;
  lua_Integer v = lua_tointegerx(r->L, index, &ok);
  if (!ok || lua_type(r->L, index) != LUA_TNUMBER)
    bad(r, r->sig->param[k].name, "an integer", index);
  lm_param_type t = r->sig->param[k].type;
  return t == LM_T_DIM || t == LM_T_DIMS || t == LM_T_INDEX ? from_one(r, k, v) : v;
}

static void add_integer(reader *r, int k, int index)
{
  lm_value *v = &r->param[k];
  if (v->n == LM_MAX_INTS)
    luaL_error(r->L, "%s: %s has more than %d numbers", r->op->name, r->sig->param[k].name,
               LM_MAX_INTS);
  v->v[v->n++] = read_integer(r, k, index);
  v->given = true;
}

static void read_integers(reader *r, int k, int index)
{
  lua_State *L = r->L;
  r->param[k].given = true;
  if (!lua_istable(L, index)) {
    add_integer(r, k, index);
    return;
  }
  int n = (int)lua_rawlen(L, index);
  for (int i = 1; i <= n; i++) {
    lua_rawgeti(L, index, i);
    add_integer(r, k, -1);
    lua_pop(L, 1);
  }
}

static void read_param(reader *r, int k, int index)
{
  lua_State *L = r->L;
  index = lua_absindex(L, index);
  const char *name = r->sig->param[k].name;
  lm_value *v = &r->param[k];
  switch (r->sig->param[k].type) {
    case LM_T_INTS:
    case LM_T_DIMS: read_integers(r, k, index); break;
    case LM_T_FLOAT:
      if (lua_type(L, index) != LUA_TNUMBER) bad(r, name, "a number", index);
      *v = lm_float(lua_tonumber(L, index));
      break;
    case LM_T_BOOL:
      if (!lua_isboolean(L, index)) bad(r, name, "true or false", index);
      *v = lm_int(lua_toboolean(L, index));
      break;
    case LM_T_STR:
      if (lua_type(L, index) != LUA_TSTRING) bad(r, name, "a string", index);
      *v = lm_str(lua_tostring(L, index));
      break;
    case LM_T_DTYPE: {
      if (lua_type(L, index) != LUA_TSTRING) bad(r, name, "a dtype's name", index);
      lm_dtype d = lm_dtype_parse(lua_tostring(L, index));
      if (d == LM_DTYPE_COUNT)
        luaL_error(L, "%s: unknown dtype '%s' (f32, f64, bf16, i32, i64, u8)", r->op->name,
                   lua_tostring(L, index));
      *v = lm_int(d);
      break;
    }
    default: *v = lm_int(read_integer(r, k, index)); break;
  }
}

static bool takes_unpacked(const lm_sig *sig)
{
  int lists = 0;
  for (int k = 0; k < sig->nparam; k++)
    lists += sig->param[k].type == LM_T_INTS || sig->param[k].type == LM_T_DIMS;
  return lists == 1 &&
         (sig->param[0].type == LM_T_INTS || sig->param[0].type == LM_T_DIMS);
}

static void read_positional(reader *r)
{
  lua_State *L = r->L;
  int k = 0;
  if (r->next <= r->top && takes_unpacked(r->sig) &&
      lua_type(L, r->next) == LUA_TNUMBER) {
    while (r->next <= r->top && lua_type(L, r->next) == LUA_TNUMBER)
      add_integer(r, 0, r->next++);
    k = 1;
  }
  for (; r->next <= r->top; k++, r->next++) {
    if (k >= r->sig->nparam)
      luaL_error(L, "%s: too many arguments (%s)", r->op->name, r->op->sig);
    if (!lua_isnil(L, r->next)) read_param(r, k, r->next);
  }
}

static void unknown_option(reader *r, const char *key)
{
  const char *names[LM_MAX_ARGS + LM_MAX_PARAMS + 1];
  int n = 0;
  for (int k = 0; k < r->sig->nparam; k++) names[n++] = r->sig->param[k].name;
  for (int a = 0; a < r->sig->narg; a++)
    if (r->sig->arg[a].optional) names[n++] = r->sig->arg[a].name;
  names[n] = NULL;
  const char *near = lm_nearest(key, names);
  if (near)
    luaL_error(r->L, "%s: unknown option '%s'\nhint: did you mean %s? (%s)", r->op->name, key,
               near, r->op->sig);
  luaL_error(r->L, "%s: unknown option '%s' (%s)", r->op->name, key, r->op->sig);
}

static void read_named(reader *r)
{
  lua_State *L = r->L;
  if (!r->options) return;
  lua_pushnil(L);
  while (lua_next(L, r->options)) {
    const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
    int k = 0, a = 0;
    while (k < r->sig->nparam && strcmp(r->sig->param[k].name, key) != 0) k++;
    while (a < r->sig->narg && strcmp(r->sig->arg[a].name, key) != 0) a++;
    bool rng = (r->op->flags & LM_OP_RANDOM) && strcmp(key, "rng") == 0;
    if (k < r->sig->nparam) read_param(r, k, -1);
    else if (!rng && !(a < r->sig->narg && r->sig->arg[a].optional)) unknown_option(r, key);
    lua_pop(L, 1);
  }
}

/* rng = {seed=, stream=, step=, counter=}: the call draws from there; the counter goes on. */
static void swap_random(reader *r, lm_random *state)
{
  lua_State *L = r->L;
  int index = lua_absindex(L, -1);
  const char *stream = lm_opt_string(L, index, "stream", "");
  *state = (lm_random){(uint64_t)lm_opt_int(L, index, "seed", 0), lm_hash_name(stream),
                       (uint64_t)lm_opt_int(L, index, "step", 0),
                       (uint64_t)lm_opt_int(L, index, "counter", 0)};
}

static lm_status apply(reader *r, lm_tensor **out, int *nout)
{
  lua_State *L = r->L;
  bool own = false;
  if ((r->op->flags & LM_OP_RANDOM) && r->options) {
    own = lua_getfield(L, r->options, "rng") == LUA_TTABLE;
    if (!own && !lua_isnil(L, -1)) bad(r, "rng", "a table", -1);
  }
  lm_random saved = lm_random_state;
  if (own) swap_random(r, &lm_random_state);
  lm_status status = lm_apply_lists(r->op, r->in, r->counts, r->param, out, nout);
  if (own) {
    lua_pushinteger(L, (lua_Integer)lm_random_state.counter);
    lm_random_state = saved;
    lua_setfield(L, -2, "counter");
  }
  return status;
}

int lm_call_op(lua_State *L, const lm_op *op, int first)
{
  reader r = {.L = L, .op = op, .next = first, .top = lua_gettop(L)};
  lm_check(L, lm_op_sig(op, &r.sig));
  luaL_checkstack(L, 40, "too many arguments");
  r.in = r.few;
  r.capacity = LM_MAX_ARGS;
  lm_check_soft_limit(L);
  bool list_last = r.sig->narg > 0 && r.sig->arg[r.sig->narg - 1].list &&
                   r.top - r.next + 1 <= r.sig->narg;
  if (r.next <= r.top && !list_last && !takes_empty_list(&r) && is_options(L, r.top))
    r.options = r.top--;
  read_tensors(&r);
  make_scalars(&r);
  read_positional(&r);
  read_named(&r);
  lm_tensor *out[LM_MAX_OUT];
  int nout = 0;
  lm_check(L, apply(&r, out, &nout));
  for (int k = 0; k < nout; k++) {
    lm_push_tensor(L, out[k]);
  }
  return nout;
}

static int call_op(lua_State *L)
{
  return lm_call_op(L, lua_touserdata(L, lua_upvalueindex(1)), 1);
}

void lm_push_op(lua_State *L, const lm_op *op)
{
  lua_pushlightuserdata(L, (void *)(uintptr_t)op);
  lua_pushcclosure(L, call_op, 1);
}

/* core.ops: list of {name=, signature=, doc=, differentiable=, cuda=, random=, inplace=}. */
static void describe_op(lua_State *L, const lm_op *op)
{
  lm_kernel kernel[LM_DEVICE_KINDS];
  lm_op_kernels(op, kernel);
  lua_newtable(L);
  lua_pushstring(L, op->name);
  lua_setfield(L, -2, "name");
  lua_pushstring(L, op->sig);
  lua_setfield(L, -2, "signature");
  lua_pushstring(L, op->doc ? op->doc : "");
  lua_setfield(L, -2, "doc");
  const struct { const char *name; bool value; } flags[] = {
      {"gradient", op->grad != NULL},
      {"differentiable", !(op->flags & (LM_OP_NODIFF | LM_OP_INPLACE | LM_OP_INTERNAL))},
      {"cpu", op->cpu != NULL},
      {"cuda", kernel[LM_SHIM] != NULL},
      {"view", (op->flags & LM_OP_VIEW) != 0},
      {"random", (op->flags & LM_OP_RANDOM) != 0},
      {"inplace", (op->flags & LM_OP_INPLACE) != 0},
      {"internal", (op->flags & LM_OP_INTERNAL) != 0}};
  for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
    lua_pushboolean(L, flags[i].value);
    lua_setfield(L, -2, flags[i].name);
  }
}

LM_DOC(lumen_ops,
       "-> table\n"
       "What is known of every operation: a list of {name =, signature =, doc =, "
       "differentiable =, cuda =, view =, random =, inplace =, internal =}.\n"
       "> for _, op in ipairs(lumen.ops) do\n"
       ">   if op.name == \"softmax\" then print(op.signature) end\n"
       "> end\n"
       "x; dim: dim = -1");

LM_DOC(operations,
       "-> table\n"
       "What is computed with tensors: functions of lumen, most of them methods too. Tensors come "
       "first, then parameters by position or in a table: x:softmax(2) is lumen.softmax(x, {dim = "
       "2}). A number may stand for a tensor. All but those that say so have gradients.\n"
       "> lumen.tensor{1, 2}:add(10)\n"
       "f32 [2] {11, 12}");

void lm_bind_ops(lua_State *L)
{
  int core = lua_gettop(L);
  lua_newtable(L);
  luaL_getmetatable(L, "lumen.tensor");
  lua_getfield(L, -1, "methods");
  int list = core + 1, methods = core + 3;
  for (int i = 0; i < lm_ops_count; i++) {
    const lm_op *op = lm_ops[i];
    const lm_sig *sig;
    lm_check(L, lm_op_sig(op, &sig));
    describe_op(L, op);
    lua_rawseti(L, list, i + 1);
    if (op->flags & LM_OP_INTERNAL) continue;
    lm_push_op(L, op);
    lua_pushvalue(L, -1);
    lua_setfield(L, core, op->name);
    if (sig->narg > 0 && !sig->arg[0].list) lua_setfield(L, methods, op->name);
    else lua_pop(L, 1);
  }
  lua_settop(L, list);
  lua_setfield(L, core, "ops");
  static const lm_function values[] = {{"ops", NULL, lumen_ops_doc}, {0}};
  static const lm_function page[] = {{"", NULL, operations_doc}, {0}};
  lm_set_functions(L, "", values);
  lm_set_functions(L, "operations", page);
}
