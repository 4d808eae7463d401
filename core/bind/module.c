/* module.c: opens the core for Lua: `lumen.core` in the program, and the loadable module
 * `require "lumen"`, which finds the Lua library beside itself and hands over to it. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bind/bind.h"
#include "bind/paths.h"

int luaopen_lumen_core(lua_State *L)
{
  lm_check(L, lm_cpu_check());
  lua_newtable(L);
  lm_bind_tensor(L);
  lm_bind_ops(L);
  lm_bind_state(L);
  lm_bind_io(L);
  lm_bind_json(L);
  lm_bind_vision(L);
  lm_bind_phantom(L);
  lm_bind_histogram(L);
  lm_bind_data(L);
  lm_bind_similar(L);
  lm_bind_profile(L);
  lm_bind_docs(L);
  lm_bind_interrupt(L);
  lm_bind_edit(L);
  lm_bind_process(L);
  return 1;
}

static bool is_file(const char *folder, const char *name)
{
  char path[PATH_MAX];
  int n = snprintf(path, sizeof path, "%s/%s", folder, name);
  return n > 0 && n < (int)sizeof path && access(path, R_OK) == 0;
}

/* The folder that holds lua/lumen/init.lua: beside the build folder, in <prefix>/share/lumen,
 * or LUMEN_PATH. */
static bool find_home(const char *binary_folder, char *home, size_t size)
{
  static const char *const places[] = {"..", "../share/lumen", "../../share/lumen",
                                       "../../../share/lumen", "../../../../share/lumen", "."};
  for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
    char candidate[PATH_MAX], resolved[PATH_MAX];
    int n = snprintf(candidate, sizeof candidate, "%s/%s", binary_folder, places[i]);
    if (n < 0 || n >= (int)sizeof candidate || !is_file(candidate, "lua/lumen/init.lua")) continue;
    if (!realpath(candidate, resolved)) continue;
    return snprintf(home, size, "%s", resolved) < (int)size;
  }
  const char *path = getenv("LUMEN_PATH");
  return path && is_file(path, "lua/lumen/init.lua") &&
         snprintf(home, size, "%s", path) < (int)size;
}

void lm_set_paths(lua_State *L, const char *binary)
{
  char folder[PATH_MAX], home[PATH_MAX];
  snprintf(folder, sizeof folder, "%s", binary);
  char *slash = strrchr(folder, '/');
  if (slash) *slash = '\0';
  else snprintf(folder, sizeof folder, ".");
  if (!find_home(folder, home, sizeof home))
    luaL_error(L, "cannot find lua/lumen/init.lua beside %s\n"
                  "hint: set LUMEN_PATH to the folder that holds lua/", binary);
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "path");
  lua_pushfstring(L, "%s/lua/?.lua;%s/lua/?/init.lua;%s/?.lua;%s", home, home, home,
                  lua_tostring(L, -1));
  lua_setfield(L, -3, "path");
  lua_getfield(L, -2, "preload");
  lua_pushcfunction(L, luaopen_lumen_core);
  lua_setfield(L, -2, "lumen.core");
  lua_pop(L, 3);
  lua_pushstring(L, home);
  lua_setfield(L, LUA_REGISTRYINDEX, "lumen.home");
}

__attribute__((visibility("default"))) int luaopen_lumen(lua_State *L);

int luaopen_lumen(lua_State *L)
{
  Dl_info info;
  if (!dladdr((void *)(uintptr_t)luaopen_lumen, &info) || !info.dli_fname)
    return luaL_error(L, "lumen: cannot find the module's own path");
  char *path = realpath(info.dli_fname, NULL);
  lua_pushstring(L, path ? path : info.dli_fname);
  free(path);
  lm_set_paths(L, lua_tostring(L, -1));
  lua_getglobal(L, "require");
  lua_pushliteral(L, "lumen.init");
  lua_call(L, 1, 1);
  return 1;
}
