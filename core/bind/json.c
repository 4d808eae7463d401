/* json.c: JSON for Lua: json.encode, json.decode, json.null, json.array.
 *
 * Encoding is deterministic: keys are sorted, numbers have the fewest of 15 to 17 digits
 * that read back to the same double, NaN and infinities become null (JSON has none).
 * Decoding is cJSON's, made strict by lm_json_parse. */
#include "bind/bind.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARRAY "lumen.json.array"
#define MAX_DEPTH 200

/* ---- encoding ---- */

static void encode_value(lua_State *L, lm_bytes *out, int depth);

static void add(lua_State *L, lm_bytes *out, const char *text, size_t size)
{
  lm_check(L, lm_bytes_append(out, text, size));
}

static void add_text(lua_State *L, lm_bytes *out, const char *text)
{
  add(L, out, text, strlen(text));
}

static void add_string(lua_State *L, lm_bytes *out, const char *s, size_t size)
{
  if (!lm_utf8_valid(s, size)) luaL_error(L, "json: a string that is not UTF-8");
  add(L, out, "\"", 1);
  for (size_t i = 0; i < size; i++) {
    unsigned char c = (unsigned char)s[i];
    char escaped[8];
    if (c == '"' || c == '\\') {
      snprintf(escaped, sizeof escaped, "\\%c", c);
    } else if (c == '\n') {
      snprintf(escaped, sizeof escaped, "\\n");
    } else if (c == '\0') {
      luaL_error(L, "json: a string with a NUL character");
    } else if (c < 0x20) {
      snprintf(escaped, sizeof escaped, "\\u%04x", c);
    } else {
      snprintf(escaped, sizeof escaped, "%c", c);
    }
    add_text(L, out, escaped);
  }
  add(L, out, "\"", 1);
}

static void add_number(lua_State *L, lm_bytes *out)
{
  char text[40];
  if (lua_isinteger(L, -1)) {
    snprintf(text, sizeof text, "%lld", (long long)lua_tointeger(L, -1));
    add_text(L, out, text);
    return;
  }
  double v = lua_tonumber(L, -1);
  if (!isfinite(v)) {
    add_text(L, out, "null");
    return;
  }
  for (int digits = 15; digits <= 17; digits++) {
    snprintf(text, sizeof text, "%.*g", digits, v);
    if (strtod(text, NULL) == v) break;
  }
  for (char *p = text; *p; p++) {
    if (*p == ',') *p = '.'; /* a locale's decimal comma */
  }
  if (!strpbrk(text, ".e")) strcat(text, ".0"); /* stays a float for those who care */
  add_text(L, out, text);
}

static void encode_list(lua_State *L, lm_bytes *out, lua_Integer count, int depth)
{
  add(L, out, "[", 1);
  for (lua_Integer i = 1; i <= count; i++) {
    if (i > 1) add(L, out, ",", 1);
    lua_rawgeti(L, -1, i);
    encode_value(L, out, depth + 1);
    lua_pop(L, 1);
  }
  add(L, out, "]", 1);
}

typedef struct key {
  const char *text; /* the table keeps it */
  size_t size;
} key;

static int by_bytes(const void *a, const void *b)
{
  const key *x = a, *y = b;
  int order = memcmp(x->text, y->text, x->size < y->size ? x->size : y->size);
  return order != 0 ? order : (x->size > y->size) - (x->size < y->size);
}

static void encode_object(lua_State *L, lm_bytes *out, size_t count, int depth)
{
  int table = lua_gettop(L);
  key *keys = lua_newuserdatauv(L, (count + 1) * sizeof *keys, 0);
  size_t n = 0;
  lua_pushnil(L);
  while (lua_next(L, table)) {
    if (lua_type(L, -2) != LUA_TSTRING) {
      luaL_error(L, "json: a table's keys must be strings or 1..n, found a %s",
                 luaL_typename(L, -2));
    }
    keys[n].text = lua_tolstring(L, -2, &keys[n].size);
    n++;
    lua_pop(L, 1);
  }
  if (n > 1) qsort(keys, n, sizeof *keys, by_bytes);
  add(L, out, "{", 1);
  for (size_t i = 0; i < n; i++) {
    if (i > 0) add(L, out, ",", 1);
    add_string(L, out, keys[i].text, keys[i].size);
    add(L, out, ":", 1);
    lua_pushlstring(L, keys[i].text, keys[i].size);
    lua_rawget(L, table);
    encode_value(L, out, depth + 1);
    lua_pop(L, 1);
  }
  add(L, out, "}", 1);
  lua_settop(L, table);
}

static void encode_table(lua_State *L, lm_bytes *out, int depth)
{
  if (depth > MAX_DEPTH) {
    luaL_error(L, "json: nested deeper than %d levels (a table that contains itself?)",
               MAX_DEPTH);
  }
  luaL_checkstack(L, 8, "json");
  size_t count = 0, length = lua_rawlen(L, -1);
  lua_pushnil(L);
  while (lua_next(L, -2)) {
    count++;
    lua_pop(L, 1);
  }
  bool marked = false;
  if (lua_getmetatable(L, -1)) {
    luaL_getmetatable(L, ARRAY);
    marked = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
  }
  if (marked || (length > 0 && count == length)) {
    encode_list(L, out, (lua_Integer)length, depth);
  } else {
    encode_object(L, out, count, depth);
  }
}

/* The value at the stack top, which stays. */
static void encode_value(lua_State *L, lm_bytes *out, int depth)
{
  size_t size = 0;
  const char *s = NULL;
  switch (lua_type(L, -1)) {
    case LUA_TNIL: add_text(L, out, "null"); break;
    case LUA_TBOOLEAN: add_text(L, out, lua_toboolean(L, -1) ? "true" : "false"); break;
    case LUA_TNUMBER: add_number(L, out); break;
    case LUA_TSTRING:
      s = lua_tolstring(L, -1, &size);
      add_string(L, out, s, size);
      break;
    case LUA_TTABLE: encode_table(L, out, depth); break;
    case LUA_TLIGHTUSERDATA:
      if (!lua_touserdata(L, -1)) {
        add_text(L, out, "null");
        break;
      } /* fall through */
    default: luaL_error(L, "json: a %s has no JSON form", luaL_typename(L, -1));
  }
}

static void close_bytes(void *object)
{
  lm_bytes_free(object);
}

LM_DOC(json_encode,
       "value: any -> str\n"
       "JSON text on one line: keys sorted, numbers with the fewest digits that read back "
       "the same, NaN and infinities as null. A table with keys 1..n is an array, one with "
       "string keys an object, an empty one {} unless it is a json.array. Raises for other "
       "keys, strings that are not UTF-8, functions, tensors, cycles.\n"
       "> lumen.json.encode{dice = 0.5, seeds = {0, 1}}\n"
       "{\"dice\":0.5,\"seeds\":[0,1]}");
static int json_encode(lua_State *L)
{
  luaL_checkany(L, 1);
  lua_settop(L, 1);
  lm_bytes *out = lm_push_guard(L, sizeof *out, close_bytes);
  lua_pushvalue(L, 1);
  encode_value(L, out, 0);
  lua_pushlstring(L, (const char *)out->data, out->size);
  lm_close_guard(L, 2);
  return 1;
}

/* ---- decoding ---- */

static void push_json(lua_State *L, const cJSON *item)
{
  luaL_checkstack(L, 6, "json");
  if (cJSON_IsBool(item)) {
    lua_pushboolean(L, cJSON_IsTrue(item));
  } else if (cJSON_IsNumber(item)) {
    double v = item->valuedouble;
    bool whole = fabs(v) <= 0x1p53 && v == floor(v) && !(v == 0 && signbit(v));
    if (whole)
      lua_pushinteger(L, (lua_Integer)v);
    else
      lua_pushnumber(L, v);
  } else if (cJSON_IsString(item)) {
    lua_pushstring(L, item->valuestring);
  } else if (cJSON_IsNull(item)) {
    lua_pushlightuserdata(L, NULL);
  } else {
    bool list = cJSON_IsArray(item);
    lua_Integer i = 0;
    const cJSON *child = NULL;
    lua_newtable(L);
    cJSON_ArrayForEach(child, item)
    {
      push_json(L, child);
      if (list)
        lua_rawseti(L, -2, ++i);
      else
        lua_setfield(L, -2, child->string);
    }
    if (list) luaL_setmetatable(L, ARRAY);
  }
}

static void close_json(void *object)
{
  cJSON_Delete(*(cJSON **)object);
}

LM_DOC(json_decode,
       "text: str, name: str = json -> any\n"
       "The value of a JSON text. null is json.null, so that arrays keep their places; "
       "numbers without a fraction, up to 2^53, are integers. Errors name `name` (a path) "
       "and the place.\n"
       "> lumen.json.decode('{\"dice\": 0.5, \"seeds\": [0, 1]}')\n"
       "{dice = 0.5, seeds = {0, 1}}");
static int json_decode(lua_State *L)
{
  size_t size = 0;
  const char *text = luaL_checklstring(L, 1, &size), *name = luaL_optstring(L, 2, "json");
  lua_settop(L, 2);
  cJSON **held = lm_push_guard(L, sizeof *held, close_json);
  lm_check(L, lm_json_parse(held, text, size, name));
  push_json(L, *held);
  lm_close_guard(L, 3);
  return 1;
}

LM_DOC(json_array,
       "t: table -> table\n"
       "t, marked so that it is written as an array even when it is empty.\n"
       "> lumen.json.encode(lumen.json.array{})\n"
       "[]");
static int json_array(lua_State *L)
{
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  luaL_setmetatable(L, ARRAY);
  return 1;
}

LM_DOC(json_null,
       "-> any\n"
       "What stands for null in decoded JSON.\n"
       "> lumen.json.decode('[1, null]')[2] == lumen.json.null\n"
       "true");

LM_DOC(json_module,
       "-> table\n"
       "JSON texts.\n"
       "> lumen.json.encode{1, 2}\n"
       "[1,2]");

void lm_bind_json(lua_State *L)
{
  static const lm_function functions[] = {
      {"", NULL, json_module_doc},
      {"encode", json_encode, json_encode_doc},
      {"decode", json_decode, json_decode_doc},
      {"array", json_array, json_array_doc},
      {"null", NULL, json_null_doc},
      {0}};
  luaL_newmetatable(L, ARRAY);
  lua_pop(L, 1);
  lm_subtable(L, lua_gettop(L), "json");
  lm_set_functions(L, "json", functions);
  lua_pushlightuserdata(L, NULL);
  lua_setfield(L, -2, "null");
  lua_pop(L, 1);
}
