/* options.c: raising errors, and reading tables of named options with clear complaints. */
#include <stdlib.h>
#include <string.h>

#include "bind/bind.h"

int lm_raise(lua_State *L)
{
  const lm_error *e = lm_last_error();
  if (e->kind == LM_ERR_INTERRUPT) lm_interrupt_taken(L);
  luaL_where(L, 1);
  lua_pushstring(L, e->message);
  if (e->hint[0]) lua_pushfstring(L, "\nhint: %s", e->hint);
  else lua_pushliteral(L, "");
  lua_concat(L, 3);
  return lua_error(L);
}

void lm_check(lua_State *L, lm_status status)
{
  if (status != LM_OK) lm_raise(L);
}

/* Push the field; false (and nothing pushed) when there is none. */
static bool field(lua_State *L, int index, const char *name)
{
  if (lua_isnoneornil(L, index)) return false;
  luaL_checktype(L, index, LUA_TTABLE);
  if (lua_getfield(L, index, name) != LUA_TNIL) return true;
  lua_pop(L, 1);
  return false;
}

static void wrong_type(lua_State *L, const char *name, const char *wanted)
{
  luaL_error(L, "option %s must be %s, not %s", name, wanted, luaL_typename(L, -1));
}

int64_t lm_opt_int(lua_State *L, int index, const char *name, int64_t otherwise)
{
  if (!field(L, index, name)) return otherwise;
  int ok;
  lua_Integer v = lua_tointegerx(L, -1, &ok);
  if (!ok || lua_type(L, -1) != LUA_TNUMBER) wrong_type(L, name, "an integer");
  lua_pop(L, 1);
  return v;
}

double lm_opt_number(lua_State *L, int index, const char *name, double otherwise)
{
  if (!field(L, index, name)) return otherwise;
  if (lua_type(L, -1) != LUA_TNUMBER) wrong_type(L, name, "a number");
  double v = lua_tonumber(L, -1);
  lua_pop(L, 1);
  return v;
}

bool lm_opt_bool(lua_State *L, int index, const char *name, bool otherwise)
{
  if (!field(L, index, name)) return otherwise;
  if (!lua_isboolean(L, -1)) wrong_type(L, name, "true or false");
  bool v = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return v;
}

const char *lm_opt_string(lua_State *L, int index, const char *name, const char *otherwise)
{
  if (!field(L, index, name)) return otherwise;
  if (lua_type(L, -1) != LUA_TSTRING) wrong_type(L, name, "a string");
  const char *s = lua_tostring(L, -1);
  lua_pop(L, 1); /* the table keeps it */
  return s;
}

int lm_opt_numbers(lua_State *L, int index, const char *name, int most, double *out)
{
  if (!field(L, index, name)) return -1;
  int n = 1;
  if (lua_type(L, -1) == LUA_TNUMBER) {
    out[0] = lua_tonumber(L, -1);
  } else {
    if (!lua_istable(L, -1)) wrong_type(L, name, "a list of numbers");
    lua_Unsigned length = lua_rawlen(L, -1);
    if (length > (lua_Unsigned)most)
      luaL_error(L, "option %s takes at most %d numbers, not %d", name, most, (int)length);
    n = (int)length;
    for (int i = 0; i < n; i++) {
      if (lua_rawgeti(L, -1, i + 1) != LUA_TNUMBER) wrong_type(L, name, "a list of numbers");
      out[i] = lua_tonumber(L, -1);
      lua_pop(L, 1);
    }
  }
  lua_pop(L, 1);
  return n;
}

/* Edit distance (insert, delete, replace, swap of neighbours) of two short words. */
static int distance(const char *a, const char *b)
{
  enum { MOST = 40 };
  int na = (int)strlen(a), nb = (int)strlen(b);
  int d[MOST + 1][MOST + 1];
  if (na > MOST || nb > MOST) return 1000;
  for (int i = 0; i <= na; i++) d[i][0] = i;
  for (int j = 0; j <= nb; j++) d[0][j] = j;
  for (int i = 1; i <= na; i++) {
    for (int j = 1; j <= nb; j++) {
      int best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
      if (d[i - 1][j] + 1 < best) best = d[i - 1][j] + 1;
      if (d[i][j - 1] + 1 < best) best = d[i][j - 1] + 1;
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
          d[i - 2][j - 2] + 1 < best)
        best = d[i - 2][j - 2] + 1;
      d[i][j] = best;
    }
  }
  return d[na][nb];
}

const char *lm_nearest(const char *word, const char *const *names)
{
  const char *best = NULL;
  int limit = (int)strlen(word) / 3 + 1, best_distance = limit + 1;
  for (; *names; names++) {
    int d = distance(word, *names);
    if (d < best_distance) {
      best_distance = d;
      best = *names;
    }
  }
  return best;
}

void lm_check_keys(lua_State *L, int index, const char *function, const char *const *names)
{
  if (lua_isnoneornil(L, index)) return;
  luaL_checktype(L, index, LUA_TTABLE);
  lua_pushnil(L);
  while (lua_next(L, index)) {
    lua_pop(L, 1);
    if (lua_type(L, -1) != LUA_TSTRING)
      luaL_error(L, "%s: options are named, but the table has a %s key", function,
                 luaL_typename(L, -1));
    const char *key = lua_tostring(L, -1);
    int k = 0;
    while (names[k] && strcmp(names[k], key) != 0) k++;
    if (names[k]) continue;
    const char *near = lm_nearest(key, names);
    if (near) luaL_error(L, "%s: unknown option '%s'\nhint: did you mean %s?", function, key, near);
    luaL_error(L, "%s: unknown option '%s'", function, key);
  }
}

void lm_subtable(lua_State *L, int core_index, const char *name)
{
  core_index = lua_absindex(L, core_index);
  if (lua_getfield(L, core_index, name) == LUA_TTABLE) return;
  lua_pop(L, 1);
  lua_newtable(L);
  lua_pushvalue(L, -1);
  lua_setfield(L, core_index, name);
}
