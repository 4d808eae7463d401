/* docs.c: functions with their help. Each file of bind/ registers its functions through
 * lm_set_functions, which keeps the address of the table: nothing is copied or parsed before
 * someone asks for help. */
#include <string.h>

#include "bind/bind.h"

#define MAX_TABLES 64

static struct {
  const char *group, *file;
  const lm_function *rows;
} tables[MAX_TABLES];
static int count;

void lm_set_functions_of(lua_State *L, const char *group, const lm_function *rows,
                         const char *file)
{
  int k = 0;
  while (k < count && tables[k].rows != rows) k++; /* known when another state came first */
  if (k == MAX_TABLES) luaL_error(L, "more than %d tables of functions", MAX_TABLES);
  tables[k].group = group;
  tables[k].rows = rows;
  tables[k].file = file;
  if (k == count) count++;
  for (; rows->name; rows++) {
    if (!rows->call) continue;
    lua_pushcfunction(L, rows->call);
    lua_setfield(L, -2, rows->name);
  }
}

static void push_row(lua_State *L, int k, const lm_function *row)
{
  lua_createtable(L, 0, 5);
  lua_pushstring(L, tables[k].group);
  lua_setfield(L, -2, "group");
  const char *dot = tables[k].group[0] && row->name[0] ? "." : "";
  lua_pushfstring(L, "%s%s%s", tables[k].group, dot, row->name);
  lua_setfield(L, -2, "name");
  lua_pushstring(L, row->doc ? row->doc : "\n"); /* a test finds what has no text */
  lua_setfield(L, -2, "text");
  const char *file = strstr(tables[k].file, "core/bind/");
  lua_pushstring(L, file ? file : tables[k].file);
  lua_setfield(L, -2, "file");
  if (!row->call) return;
  lua_pushcfunction(L, row->call);
  lua_setfield(L, -2, "value");
}

LM_DOC(core_bound,
       "-> table\n"
       "The functions and fields written in C that are no operations, with their texts, "
       "for help: a list of {name =, text =, file =, value =}.\n"
       "> rows = lumen.bound()\n"
       "> rows[1].name, rows[1].file\n"
       "tensor\n"
       "core/bind/tensor.c");
static int core_bound(lua_State *L)
{
  lua_Integer n = 0;
  lua_newtable(L);
  for (int k = 0; k < count; k++) {
    for (const lm_function *row = tables[k].rows; row->name; row++) {
      push_row(L, k, row);
      lua_rawseti(L, -2, ++n);
    }
  }
  return 1;
}

void lm_bind_docs(lua_State *L)
{
  static const lm_function functions[] = {{"bound", core_bound, core_bound_doc}, {0}};
  lm_set_functions(L, "", functions);
}
