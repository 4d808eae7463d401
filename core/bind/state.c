/* state.c: scopes, no_grad, random state, memory limits, threads, user-defined differentiable
 * functions, interruption.
 *
 * Scopes: each coroutine has its own stack of scopes; the innermost holds every handle made
 * while it is open and drops them when it ends. Only handles are dropped: storage lives on
 * while C or another handle holds it. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "bind/bind.h"

/* ---- scopes ---- */

typedef struct lm_scope {
  lm_handle **handles;
  int64_t count, capacity;
  struct lm_scope *outer;
  lua_State *thread;
  bool open;
} lm_scope;

#define SCOPE_CLASS "lumen.scope"
enum { MOST_NESTED = 200 }; /* of tables whose tensors outlive a scope */
static char scopes_key; /* registry[scopes_key][thread as light userdata] = innermost scope */

static lm_scope *innermost_of(lua_State *L, const lua_State *thread)
{
  lua_rawgetp(L, LUA_REGISTRYINDEX, &scopes_key);
  lua_rawgetp(L, -1, thread);
  lm_scope *s = lua_touserdata(L, -1);
  lua_pop(L, 2);
  return s;
}

static lm_scope *innermost(lua_State *L) { return innermost_of(L, L); }

static void set_innermost(lua_State *L, lua_State *thread, lm_scope *s)
{
  lua_rawgetp(L, LUA_REGISTRYINDEX, &scopes_key);
  if (s) lua_pushlightuserdata(L, s);
  else lua_pushnil(L);
  lua_rawsetp(L, -2, thread);
  lua_pop(L, 1);
}

static void scope_insert(lua_State *L, lm_scope *s, lm_handle *h)
{
  if (s->count == s->capacity) {
    int64_t capacity = s->capacity ? 2 * s->capacity : 64;
    lm_handle **grown = realloc(s->handles, (size_t)capacity * sizeof(lm_handle *));
    if (!grown) luaL_error(L, "out of memory for a scope's handles");
    s->handles = grown;
    s->capacity = capacity;
  }
  h->scope = s;
  h->slot = s->count;
  s->handles[s->count++] = h;
}

void lm_scope_add(lua_State *L, lm_handle *h)
{
  lm_scope *s = innermost(L);
  if (s) scope_insert(L, s, h);
}

void lm_scope_forget(lm_handle *h)
{
  if (h->scope) h->scope->handles[h->slot] = NULL;
  h->scope = NULL;
}

static void scope_drop(lm_scope *s)
{
  for (int64_t i = 0; i < s->count; i++) {
    lm_handle *h = s->handles[i];
    if (!h) continue;
    h->scope = NULL;
    lm_tensor *t = h->tensor;
    h->tensor = NULL;
    lm_release(t);
  }
  s->count = 0;
  free(s->handles);
  s->handles = NULL;
  s->capacity = 0;
}

LM_DOC(scope_close,
       "scope\n"
       "Ends the scope: the handles made inside it are dropped. A variable declared "
       "<close> does it by itself.\n"
       "> s = lumen.scope()\n"
       "> x = lumen.ones(2)\n"
       "> s:close()\n"
       "> (pcall(function() return x.shape end))\n"
       "false");
static int scope_close(lua_State *L)
{
  lm_scope *s = luaL_checkudata(L, 1, SCOPE_CLASS);
  if (!s->open) return 0;
  /* normally s is the innermost; scopes forgotten inside it end with it */
  while (s->open) {
    lm_scope *inner = innermost_of(L, s->thread);
    if (!inner) break;
    inner->open = false;
    set_innermost(L, s->thread, inner->outer);
    scope_drop(inner);
  }
  return 0;
}

/* Take s out of its thread's stack; scopes opened inside it stay. */
static void unlink_scope(lua_State *L, const lm_scope *s)
{
  lm_scope *inner = innermost_of(L, s->thread);
  if (inner == s) {
    set_innermost(L, s->thread, s->outer);
    return;
  }
  while (inner && inner->outer != s) inner = inner->outer;
  if (inner) inner->outer = s->outer;
}

/* The collector found an open scope that nobody closed: it was forgotten, or its coroutine is
 * gone. */
static int scope_gc(lua_State *L)
{
  lm_scope *s = luaL_checkudata(L, 1, SCOPE_CLASS);
  if (s->open) {
    s->open = false;
    unlink_scope(L, s);
    for (int64_t i = 0; i < s->count; i++)
      if (s->handles[i]) s->handles[i]->scope = NULL;
    free(s->handles);
    s->handles = NULL;
  }
  return 0;
}

/* Let a handle outlive the scope: it moves to the scope around it. `seen` is the
 * stack index of a table of the tables that were looked into. */
static void escape(lua_State *L, lm_scope *s, int index, int seen, int depth)
{
  if (depth > MOST_NESTED)
    luaL_error(L, "scope: more than %d tables inside each other", MOST_NESTED);
  lm_handle *h = luaL_testudata(L, index, "lumen.tensor");
  if (h && h->scope == s) {
    lm_scope_forget(h);
    if (s->outer) scope_insert(L, s->outer, h);
    return;
  }
  if (h || !lua_istable(L, index)) return;
  index = lua_absindex(L, index);
  luaL_checkstack(L, 8, "scope: result nested too deeply");
  lua_pushvalue(L, index);
  if (lua_rawget(L, seen) != LUA_TNIL) {
    lua_pop(L, 1);
    return;
  }
  lua_pop(L, 1);
  lua_pushvalue(L, index);
  lua_pushboolean(L, 1);
  lua_rawset(L, seen);
  lua_pushnil(L);
  while (lua_next(L, index)) {
    escape(L, s, -1, seen, depth + 1);
    lua_pop(L, 1);
  }
}

/* Everything above the first stack slot. */
static void escape_all(lua_State *L, lm_scope *s)
{
  int top = lua_gettop(L);
  lua_newtable(L);
  for (int i = 2; i <= top; i++) escape(L, s, i, top + 1, 0);
  lua_settop(L, top);
}

LM_DOC(scope_keep,
       "scope, values...: any -> any\n"
       "Lets tensors (or tables of them) outlive the scope; returns them.\n"
       "> s = lumen.scope()\n"
       "> x = s:keep(lumen.ones(2))\n"
       "> s:close()\n"
       "> x\n"
       "f32 [2] {1, 1}");
static int scope_keep(lua_State *L)
{
  lm_scope *s = luaL_checkudata(L, 1, SCOPE_CLASS);
  escape_all(L, s);
  lua_remove(L, 1);
  return lua_gettop(L);
}

static lm_scope *scope_open(lua_State *L)
{
  lm_scope *s = lua_newuserdatauv(L, sizeof *s, 1);
  *s = (lm_scope){.outer = innermost(L), .thread = L, .open = true};
  lua_pushthread(L); /* must not be collected before the scope, which names it */
  lua_setiuservalue(L, -2, 1);
  luaL_setmetatable(L, SCOPE_CLASS);
  set_innermost(L, L, s);
  return s;
}

LM_DOC(core_scope,
       "fn: function?, arguments...: any -> any\n"
       "Drops tensors when a block ends instead of when Lua's collector comes. scope(fn, "
       "...) calls fn and returns its results; every other handle made inside is dropped. "
       "scope() opens a scope that s:close() ends, with s:keep(x) for what must survive. "
       "What C still needs for backward is never dropped.\n"
       "> lumen.scope(function() return (lumen.ones(1000) * 2):sum() end)\n"
       "f32 [] {2000}");
static int core_scope(lua_State *L)
{
  if (lua_isnoneornil(L, 1)) {
    scope_open(L);
    return 1;
  }
  luaL_checktype(L, 1, LUA_TFUNCTION);
  int args = lua_gettop(L) - 1;
  lm_scope *s = scope_open(L);
  lua_insert(L, 1);
  lua_toclose(L, 1); /* an error inside closes it too */
  lua_call(L, args, LUA_MULTRET);
  luaL_checkstack(L, 8, "scope: too many results");
  escape_all(L, s);
  int results = lua_gettop(L) - 1;
  lua_pushcfunction(L, scope_close);
  lua_pushvalue(L, 1);
  lua_call(L, 1, 0);
  return results;
}

/* ---- gradients off ---- */

LM_DOC(core_no_grad,
       "fn: function, arguments...: any -> any\n"
       "Calls fn(...) without recording for backward; returns its results.\n"
       "> w = lumen.ones(2, {requires_grad = true})\n"
       "> lumen.no_grad(function() return w * 2 end).requires_grad\n"
       "false");
static int core_no_grad(lua_State *L)
{
  luaL_checktype(L, 1, LUA_TFUNCTION);
  bool was = lm_grad_enable(false);
  int status = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
  lm_grad_enable(was);
  if (status != LUA_OK) return lua_error(L);
  return lua_gettop(L);
}

LM_DOC(core_grad_enabled,
       "-> bool\n"
       "Whether operations are recorded for backward.\n"
       "> lumen.no_grad(lumen.grad_enabled)\n"
       "false");
static int core_grad_enabled(lua_State *L)
{
  lua_pushboolean(L, lm_grad_enabled());
  return 1;
}

/* ---- random state ---- */

LM_DOC(core_seed,
       "n: int? -> int?\n"
       "Keys everything random from now on by n, starting again at step 0. Without n: the "
       "seed in use.\n"
       "> lumen.seed(7)\n"
       "> a = lumen.rand(3)\n"
       "> lumen.seed(7)\n"
       "> a:eq(lumen.rand(3))\n"
       "u8 [3] {1, 1, 1}");
static int core_seed(lua_State *L)
{
  if (lua_isnoneornil(L, 1)) {
    lua_pushinteger(L, (lua_Integer)lm_random_state.seed);
    return 1;
  }
  lm_random_state = (lm_random){.seed = (uint64_t)luaL_checkinteger(L, 1)};
  return 0;
}

/* _random([seed, stream, step, counter]) -> the same four: the state as a whole, which runs at
 * the prompt keep apart from the user's. */
static int core_random(lua_State *L)
{
  const lm_random *s = &lm_random_state;
  if (lua_gettop(L) == 4)
    lm_random_state = (lm_random){
        (uint64_t)luaL_checkinteger(L, 1), (uint64_t)luaL_checkinteger(L, 2),
        (uint64_t)luaL_checkinteger(L, 3), (uint64_t)luaL_checkinteger(L, 4)};
  lua_pushinteger(L, (lua_Integer)s->seed);
  lua_pushinteger(L, (lua_Integer)s->stream);
  lua_pushinteger(L, (lua_Integer)s->step);
  lua_pushinteger(L, (lua_Integer)s->counter);
  return 4;
}

LM_DOC(core_random_step,
       "step: int, stream: str = \"\"\n"
       "Draws from now on are keyed by (seed, stream, step, 0, 1, ...): what makes a "
       "resumed run draw the same numbers.\n"
       "> lumen.random_step(12, \"augment\")\n"
       "> a = lumen.rand(2)\n"
       "> lumen.random_step(12, \"augment\")\n"
       "> a:eq(lumen.rand(2))\n"
       "u8 [2] {1, 1}");
static int core_random_step(lua_State *L)
{
  lm_random_state.step = (uint64_t)luaL_checkinteger(L, 1);
  lm_random_state.stream = lm_hash_name(luaL_optstring(L, 2, ""));
  lm_random_state.counter = 0;
  return 0;
}

LM_DOC(core_hash,
       "text: str -> int\n"
       "A 64-bit hash of a name (FNV-1a), the same everywhere.\n"
       "> (\"%016x\"):format(lumen.hash(\"vessel\"))\n"
       "d2346c4e6d4abc9b");
static int core_hash(lua_State *L)
{
  size_t n;
  const char *s = luaL_checklstring(L, 1, &n);
  uint64_t h = 0xcbf29ce484222325ULL;
  for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)s[i]) * 0x100000001b3ULL;
  lua_pushinteger(L, (lua_Integer)h);
  return 1;
}

/* ---- memory ---- */

#define LITTLE ((size_t)256 << 20) /* bytes that are not worth a collection */
static size_t soft_limit = LITTLE;
static lua_State *pressure_state;

static void collect_under_pressure(lm_device *d)
{
  (void)d;
  if (pressure_state) lua_gc(pressure_state, LUA_GCCOLLECT);
}

void lm_check_soft_limit(lua_State *L)
{
  if (lm_devices_live() < soft_limit) return;
  lua_gc(L, LUA_GCCOLLECT);
  size_t next = lm_devices_live() / 5 * 7;
  soft_limit = next > LITTLE ? next : LITTLE;
}

void lm_collect_before_backward(lua_State *L)
{
  if (lm_devices_live() > LITTLE) lua_gc(L, LUA_GCCOLLECT);
}

/* Memory of the program's Lua state: half of what tensors may have, so that a giant string is
 * an error and not the end of the process. */
static struct { size_t held, limit; } lua_memory;

static void *lua_allocate(void *user, void *block, size_t from, size_t to)
{
  (void)user;
  if (!block) from = 0; /* then it is the kind of the object */
  if (to == 0) {
    free(block);
    lua_memory.held -= from;
    return NULL;
  }
  size_t limit = lua_memory.limit;
  if (to > from && limit > 0 && (to - from > limit || lua_memory.held > limit - (to - from)))
    return NULL;
  void *moved = realloc(block, to);
  if (moved) lua_memory.held += to - from;
  return moved;
}

void lm_limit_lua(lua_State *L)
{
  lua_memory.held = (size_t)lua_gc(L, LUA_GCCOUNT) * 1024 + (size_t)lua_gc(L, LUA_GCCOUNTB);
  lua_memory.limit = lm_device_cpu()->limit / 2;
  lua_setallocf(L, lua_allocate, NULL);
}

static void set_number(lua_State *L, const char *name, size_t v)
{
  lua_pushinteger(L, (lua_Integer)v);
  lua_setfield(L, -2, name);
}

LM_DOC(core_memory,
       "device: str = cpu -> table\n"
       "Bytes of tensor memory of a device: {live =, peak =, cached =, limit =}. live is in use now, "
       "peak the most since reset_peak, cached kept for reuse, limit where allocation "
       "fails.\n"
       "> before = lumen.memory().live\n"
       "> x = lumen.zeros(1000)\n"
       "> lumen.memory().live - before >= 4000\n"
       "true");
static int core_memory(lua_State *L)
{
  lm_device *d;
  lm_check(L, lm_device_get(luaL_optstring(L, 1, "cpu"), &d));
  lua_newtable(L);
  set_number(L, "live", d->live);
  set_number(L, "peak", d->peak);
  set_number(L, "cached", d->cached);
  set_number(L, "limit", d->limit);
  return 1;
}

LM_DOC(core_reset_peak,
       "device: str = cpu\n"
       "Starts measuring memory().peak anew.\n"
       "> lumen.reset_peak()\n"
       "> lumen.memory().peak == lumen.memory().live\n"
       "true");
static int core_reset_peak(lua_State *L)
{
  lm_device *d;
  lm_check(L, lm_device_get(luaL_optstring(L, 1, "cpu"), &d));
  lm_device_reset_peak(d);
  return 0;
}

LM_DOC(core_empty_cache,
       "device: str = cpu -> int\n"
       "Collects garbage and gives cached memory back to the system; the bytes given back.\n"
       "> freed = lumen.empty_cache()");
static int core_empty_cache(lua_State *L)
{
  lm_device *d;
  lm_check(L, lm_device_get(luaL_optstring(L, 1, "cpu"), &d));
  lua_gc(L, LUA_GCCOLLECT);
  lua_pushinteger(L, (lua_Integer)d->empty_cache(d));
  return 1;
}

LM_DOC(core_memory_limit,
       "bytes: int, device: str = cpu -> int\n"
       "Sets the most that tensors may take (0: no limit) and returns what it was; with device "
       "lua, what the program's own tables and strings may take. Beyond it an allocation is an error and not the end of the process. It starts at 90 % of "
       "what the machine or its cgroup has.\n"
       "> before = lumen.memory_limit(1 << 30)\n"
       "> (pcall(lumen.zeros, 1 << 30))\n"
       "false\n"
       "> lumen.memory_limit(before) == 1 << 30\n"
       "true");
static int core_memory_limit(lua_State *L)
{
  lm_device *d;
  lua_Integer bytes = luaL_checkinteger(L, 1);
  luaL_argcheck(L, bytes >= 0, 1, "bytes, or 0 for none");
  if (strcmp(luaL_optstring(L, 2, "cpu"), "lua") == 0) {
    lua_pushinteger(L, (lua_Integer)lua_memory.limit);
    lua_memory.limit = (size_t)bytes;
    return 1;
  }
  lm_check(L, lm_device_get(luaL_optstring(L, 2, "cpu"), &d));
  lua_pushinteger(L, (lua_Integer)d->limit);
  d->limit = (size_t)bytes;
  return 1;
}

LM_DOC(core_threads,
       "n: int? -> int\n"
       "Sets the number of threads that compute (1 to 1024); returns the number in use. "
       "Sums may round differently with another number.\n"
       "> before = lumen.threads()\n"
       "> lumen.threads(1)\n"
       "1\n"
       "> lumen.threads(before) == before\n"
       "true");
static int core_threads(lua_State *L)
{
  if (!lua_isnoneornil(L, 1)) {
    lua_Integer n = luaL_checkinteger(L, 1);
    luaL_argcheck(L, n >= 1 && n <= 1024, 1, "between 1 and 1024 threads");
    lm_set_threads((int)n);
  }
  lua_pushinteger(L, lm_threads());
  return 1;
}

LM_DOC(core_gpus,
       "-> int, table\n"
       "How many CUDA devices there are (0 in a build without CUDA), and a list of their names, "
       "sizes and kinds: [1] is cuda:0.\n"
       "> lumen.gpus() >= 0\n"
       "true");
static int core_gpus(lua_State *L)
{
  char text[200];
  lua_pushinteger(L, lm_cuda_count());
  lua_newtable(L);
  for (int i = 0; lm_cuda_describe(i, text, sizeof text); i++) {
    lua_pushstring(L, text);
    lua_rawseti(L, -2, i + 1);
  }
  return 2;
}

LM_DOC(core_tf32,
       "on: bool? -> bool\n"
       "Whether products of f32 on a GPU use its tensor cores, with 10 bits of mantissa; sets "
       "it when given. Off at first; the option precision=tf32 switches it on.\n"
       "> lumen.tf32()\n"
       "false");
static int core_tf32(lua_State *L)
{
  if (!lua_isnoneornil(L, 1)) lm_cuda_tf32 = lua_toboolean(L, 1);
  lua_pushboolean(L, lm_cuda_tf32);
  return 1;
}

LM_DOC(core_build,
       "-> table\n"
       "What this program is: {version =, compiler =, arch =, blas =, blas_core =}.\n"
       "> lumen.build().version\n"
       "0.1.0");
static int core_build(lua_State *L)
{
  lua_newtable(L);
  const struct { const char *name, *value; } rows[] = {{"version", LUMEN_VERSION},
                                                       {"compiler", __VERSION__},
                                                       {"arch", LUMEN_ARCH},
                                                       {"blas", lm_blas_library()},
                                                       {"blas_core", lm_blas_core()}};
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    lua_pushstring(L, rows[i].value);
    lua_setfield(L, -2, rows[i].name);
  }
#if defined(__SANITIZE_ADDRESS__)
  lua_pushboolean(L, 1);
  lua_setfield(L, -2, "sanitized");
#endif
  return 1;
}

LM_DOC(core_time,
       "-> number\n"
       "Seconds of a clock that never goes back; differences mean something, values do "
       "not.\n"
       "> began = lumen.time()\n"
       "> lumen.time() >= began\n"
       "true");
static int core_time(lua_State *L)
{
  lua_pushnumber(L, lm_time());
  return 1;
}

/* ---- interruption ---- */

static volatile sig_atomic_t terminated;

static void on_terminate(int signal_number)
{
  (void)signal_number;
  terminated = 1;
}

LM_DOC(core_catch_terminate,
       "\n"
       "From now on SIGTERM only sets what terminated() returns, so that a run can save "
       "before it ends. Programs call it once; nothing is returned.\n"
       "> lumen.terminated()\n"
       "false");
static int core_catch_terminate(lua_State *L)
{
  (void)L;
  signal(SIGTERM, on_terminate);
  return 0;
}

LM_DOC(core_terminated,
       "-> bool\n"
       "Whether SIGTERM has come since catch_terminate().\n"
       "> lumen.terminated()\n"
       "false");
static int core_terminated(lua_State *L)
{
  lua_pushboolean(L, terminated);
  return 1;
}

/* ---- functions with a gradient written in Lua ---- */

lua_State *lm_backward_thread;

typedef struct lua_function {
  lua_State *L;
  int ref;  /* registry: {backward function, ctx} */
} lua_function;

static void function_free(const void *user)
{
  lua_function *f = (lua_function *)(uintptr_t)user;
  luaL_unref(f->L, LUA_REGISTRYINDEX, f->ref);
  free(f);
}

static lm_status take_gradients(lua_State *L, int base, lm_call *c, lm_tensor **gin)
{
  for (int i = 0; i < c->nin; i++) {
    lm_tensor *g = lm_test_tensor(L, base + 1 + i);
    if (!g || !c->wants[i]) continue;
    if (!lm_same_shape(g, c->in[i]) || g->dtype != c->in[i]->dtype)
      return lm_fail(LM_ERR_SHAPE, "func: backward returned %s for input %d, which is %s",
                     lm_describe(g), i + 1, lm_describe(c->in[i]));
    gin[i] = lm_retain(g);
  }
  return LM_OK;
}

static lm_status function_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  const lua_function *f = c->user;
  lua_State *L = lm_backward_thread ? lm_backward_thread : f->L;
  int base = lua_gettop(L);
  if (!lua_checkstack(L, c->nin + c->nout + 8))
    return lm_fail(LM_ERR_MEMORY, "func: Lua stack overflow");
  lua_rawgeti(L, LUA_REGISTRYINDEX, f->ref);
  lua_rawgeti(L, -1, 1);
  lua_rawgeti(L, -2, 2);
  lua_remove(L, base + 1);
  for (int k = 0; k < c->nout; k++) {
    if (gout[k]) lm_push_tensor(L, lm_retain(gout[k]));
    else lua_pushnil(L);
  }
  lm_status status = LM_OK;
  if (lua_pcall(L, 1 + c->nout, c->nin, 0) != LUA_OK)
    status = lm_fail(LM_ERR_ARG, "func: backward: %s", lua_tostring(L, -1)
                                                           ? lua_tostring(L, -1) : "error");
  else status = take_gradients(L, base, c, gin);
  lua_settop(L, base);
  return status;
}

static const lm_op lua_op = {.name = "func", .sig = "inputs...", .grad = function_grad};

static int context_save(lua_State *L)
{
  int n = lua_gettop(L) - 1;
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_createtable(L, n, 0);
  for (int i = 1; i <= n; i++) {
    lm_tensor *t, *x = lm_check_tensor(L, i + 1);
    lm_check(L, lm_tensor_detach(x, &t));
    lm_handle *h = NULL;
    lm_push_tensor(L, t);
    h = lua_touserdata(L, -1);
    lm_scope_forget(h); /* it lives as long as the graph does */
    lua_rawseti(L, -2, i);
  }
  lua_setfield(L, 1, "saved");
  return 0;
}

/* Call forward(ctx, inputs...) with recording off and record the call. Upvalues: forward,
 * backward. */
static int function_call(lua_State *L)
{
  int nin = lua_gettop(L);
  lm_tensor *in[64];
  if (nin > 64) luaL_error(L, "func: more than 64 inputs");
  bool record = false;
  for (int i = 0; i < nin; i++) {
    in[i] = lm_check_tensor(L, i + 1);
    record |= in[i]->requires_grad;
  }
  record &= lm_grad_enabled();
  lua_newtable(L);
  int ctx = nin + 1;
  lua_pushcfunction(L, context_save);
  lua_setfield(L, ctx, "save");
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_pushvalue(L, ctx);
  for (int i = 1; i <= nin; i++) lua_pushvalue(L, i);
  bool was = lm_grad_enable(false);
  int status = lua_pcall(L, nin + 1, LUA_MULTRET, 0);
  lm_grad_enable(was);
  if (status != LUA_OK) return lua_error(L);
  int nout = lua_gettop(L) - ctx;
  if (nout < 1 || nout > LM_MAX_OUT)
    luaL_error(L, "func: forward returns 1 to %d tensors, not %d", LM_MAX_OUT, nout);
  lm_call c = {.op = &lua_op, .nin = nin, .in = in, .narg = 1, .count = {nin}, .nout = nout,
               .device = nin > 0 ? in[0]->device : lm_device_cpu()};
  for (int k = 0; k < nout; k++) {
    lm_tensor *t, *made = lm_check_tensor(L, ctx + 1 + k);
    lm_check(L, lm_tensor_detach(made, &t)); /* an output may be an input: own handle */
    lm_push_tensor(L, t);
    c.out[k] = t;
  }
  if (!record) return nout;
  lua_createtable(L, 2, 0);
  lua_pushvalue(L, lua_upvalueindex(2));
  lua_rawseti(L, -2, 1);
  lua_pushvalue(L, ctx);
  lua_rawseti(L, -2, 2);
  lua_function *f;
  lm_check(L, lm_calloc(&f, 1, sizeof *f));
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  f->L = lua_tothread(L, -1);
  lua_pop(L, 1);
  f->ref = luaL_ref(L, LUA_REGISTRYINDEX);
  c.user = f;
  lm_status recorded = lm_tape_record(&c, function_free);
  if (recorded != LM_OK) function_free(f);
  lm_check(L, recorded);
  return nout;
}

LM_DOC(core_func,
       "spec: table -> function\n"
       "A differentiable function written in Lua: spec = {forward = function(ctx, x, ...), "
       "backward = function(ctx, gy, ...)}. forward returns 1 to 4 tensors and may call "
       "ctx:save(...); backward finds those in ctx.saved and returns one gradient per "
       "input, of its shape and dtype, nil for none.\n"
       "> double_slope = lumen.func{\n"
       ">   forward = function(ctx, x) ctx:save(x) return x * x end,\n"
       ">   backward = function(ctx, gy) return 2 * 2 * ctx.saved[1] * gy end }\n"
       "> x = lumen.tensor({1, 3}, {requires_grad = true})\n"
       "> double_slope(x):sum():backward()\n"
       "> x.grad\n"
       "f32 [2] {4, 12}");
static int core_func(lua_State *L)
{
  static const char *const keys[] = {"forward", "backward", NULL};
  luaL_checktype(L, 1, LUA_TTABLE);
  lm_check_keys(L, 1, "func", keys);
  for (int i = 0; i < 2; i++)
    if (lua_getfield(L, 1, keys[i]) != LUA_TFUNCTION)
      luaL_error(L, "func: %s must be a function, not %s", keys[i], luaL_typename(L, -1));
  lua_pushcclosure(L, function_call, 2);
  return 1;
}

LM_DOC(lumen_version,
       "-> str\n"
       "The version.\n"
       "> lumen.version\n"
       "0.1.0");

static const lm_function functions[] = {
    {"scope", core_scope, core_scope_doc},
    {"no_grad", core_no_grad, core_no_grad_doc},
    {"grad_enabled", core_grad_enabled, core_grad_enabled_doc},
    {"seed", core_seed, core_seed_doc},
    {"random_step", core_random_step, core_random_step_doc},
    {"hash", core_hash, core_hash_doc},
    {"memory", core_memory, core_memory_doc},
    {"reset_peak", core_reset_peak, core_reset_peak_doc},
    {"empty_cache", core_empty_cache, core_empty_cache_doc},
    {"memory_limit", core_memory_limit, core_memory_limit_doc},
    {"threads", core_threads, core_threads_doc},
    {"gpus", core_gpus, core_gpus_doc},
    {"tf32", core_tf32, core_tf32_doc},
    {"build", core_build, core_build_doc},
    {"time", core_time, core_time_doc},
    {"catch_terminate", core_catch_terminate, core_catch_terminate_doc},
    {"terminated", core_terminated, core_terminated_doc},
    {"func", core_func, core_func_doc},
    {"version", NULL, lumen_version_doc},
    {0}};

LM_DOC(scope_class,
       "-> scope\n"
       "What lumen.scope() returns: tensors made while it is open are dropped when it "
       "ends.\n"
       "> do local s <close> = lumen.scope() x = lumen.ones(2) end\n"
       "> (pcall(function() return x.shape end))\n"
       "false");

void lm_bind_state(lua_State *L)
{
  lm_set_functions(L, "", functions);
  lua_pushcfunction(L, core_random);
  lua_setfield(L, -2, "_random");
  lua_pushliteral(L, LUMEN_VERSION);
  lua_setfield(L, -2, "version");
  lua_newtable(L);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &scopes_key);
  luaL_newmetatable(L, SCOPE_CLASS);
  static const luaL_Reg events[] = {
      {"__close", scope_close}, {"__gc", scope_gc}, {NULL, NULL}};
  static const lm_function methods[] = {{"", NULL, scope_class_doc},
                                        {"keep", scope_keep, scope_keep_doc},
                                        {"close", scope_close, scope_close_doc},
                                        {0}};
  luaL_setfuncs(L, events, 0);
  lm_set_functions(L, "Scope", methods);
  lua_pushvalue(L, -1);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  pressure_state = lua_tothread(L, -1);
  lua_pop(L, 1);
  lm_memory_pressure = collect_under_pressure;
}
