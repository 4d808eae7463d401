/* similar.c: lumen.data.similar: the same pictures in two loaders of files. */
#include <stdlib.h>

#include "bind/bind.h"
#include "io/loader.h"
#include "io/signatures.h"

static void close_memory(void *object)
{
  free(*(void **)object);
}

/* Memory that is freed whatever happens; the guard is pushed. */
static void *push_memory(lua_State *L, int64_t count, size_t size)
{
  void **p = lm_push_guard(L, sizeof *p, close_memory);
  lm_check(L, lm_calloc(p, (size_t)count, size));
  return *p;
}

/* For the core: was Ctrl-C pressed? */
static bool stopped(void)
{
  bool pressed = lm_interrupted;
  lm_interrupted = 0;
  return pressed;
}

/* Signatures of a loader, pushed as memory; unreadable items are counted with a warning. */
static const int8_t *signatures_of(lua_State *L, lm_loader *l, const char *cache)
{
  int64_t bad;
  if (lm_loader_settings(l)->is_phantom)
    luaL_error(L, "similar: phantoms have no files to compare");
  int8_t *s = push_memory(L, lm_loader_count(l), LM_SIGNATURE);
  lm_check(L, lm_signatures_of(l, cache, stopped, s, &bad));
  if (bad > 0)
    lm_log(LM_LOG_WARN, "images that cannot be compared with others: %lld, the first: %s",
           (long long)bad, lm_last_error()->message);
  return s;
}

static void push_matches(lua_State *L, const lm_match *match, int64_t n)
{
  lm_tensor *index = lm_new_tensor(L, LM_I64, 1, &n);
  lm_tensor *correlation = lm_new_tensor(L, LM_F32, 1, &n);
  for (int64_t i = 0; i < n; i++) {
    ((int64_t *)lm_data(index))[i] = match[i].index;
    ((float *)lm_data(correlation))[i] = match[i].correlation;
  }
}

/* data.similar(loader, other [, {threshold=, cache=}]) -> for each item of the loader the most
 * similar item of the other (i64 [N], 0-based; -1: none reaches the threshold), and the
 * correlations (f32 [N]). Without `other` each item is compared with those before it. */
static int data_similar(lua_State *L)
{
  static const char *const keys[] = {"threshold", "cache", NULL};
  lua_settop(L, 3);
  lm_loader *l = lm_check_loader(L, 1);
  lm_loader *other = lua_isnil(L, 2) ? NULL : lm_check_loader(L, 2);
  if (!lua_isnil(L, 3)) lm_check_keys(L, 3, "similar", keys);
  double threshold = lm_opt_number(L, 3, "threshold", LM_SIMILAR_THRESHOLD);
  const char *cache = lm_opt_string(L, 3, "cache", NULL);
  int64_t n = lm_loader_count(l), m = other ? lm_loader_count(other) : 0;
  lm_check(L, lm_similar_check(threshold));
  const int8_t *a = signatures_of(L, l, cache);
  const int8_t *b = other ? signatures_of(L, other, cache) : NULL;
  lm_match *match = push_memory(L, n, sizeof *match);
  lm_check(L, lm_similar_search(a, n, b, m, !other, threshold, match));
  push_matches(L, match, n);
  return 2;
}

void lm_bind_similar(lua_State *L)
{
  lm_subtable(L, lua_gettop(L), "data");
  lua_pushcfunction(L, data_similar);
  lua_setfield(L, -2, "similar");
  lua_pop(L, 1);
}
