/* main.c: the program. It sets up a Lua state and hands the arguments to lumen.cli. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bind/bind.h"
#include "bind/paths.h"

static int handler(lua_State *L)
{
  const char *message = luaL_tolstring(L, 1, NULL);
  if (getenv("LUMEN_TRACEBACK")) luaL_traceback(L, L, message, 1);
  return 1;
}

static int start(lua_State *L)
{
  const char *binary = lua_touserdata(L, 1);
  luaL_openlibs(L);
  lm_interrupt_open(L);
  lm_set_paths(L, binary);
  lua_getglobal(L, "require");
  lua_pushliteral(L, "lumen.cli");
  lua_call(L, 1, 1);
  lua_getfield(L, -1, "main");
  lua_pushvalue(L, 2);
  lua_call(L, 1, 1);
  return 1;
}

/* Idle threads spin before they sleep. OpenMP's own limit, several milliseconds, makes small
 * models many times slower as soon as another program uses a core (tests/bench/README.md);
 * without spinning every operation waits for a wake-up. The limit is read before main begins, so the program starts once more
 * with it in the environment; where that fails it goes on without. */
static void limit_spinning(char **argv)
{
  if (getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY")) return;
  if (setenv("GOMP_SPINCOUNT", "1000", 0) == 0) execv("/proc/self/exe", argv);
}

int main(int argc, char **argv)
{
  limit_spinning(argv);
  char binary[PATH_MAX];
  ssize_t n = readlink("/proc/self/exe", binary, sizeof binary - 1);
  if (n < 0) {
    perror("lumen: /proc/self/exe");
    return 1;
  }
  binary[n] = '\0';
  lua_State *L = luaL_newstate();
  if (!L) {
    fputs("lumen: out of memory\n", stderr);
    return 1;
  }
  lm_limit_lua(L);
  lua_pushcfunction(L, handler);
  lua_pushcfunction(L, start);
  lua_pushlightuserdata(L, binary);
  lua_createtable(L, argc, 1);
  for (int i = 0; i < argc; i++) {
    lua_pushstring(L, argv[i]);
    lua_rawseti(L, -2, i);
  }
  int code = 1;
  if (lua_pcall(L, 2, 1, 1) == LUA_OK) {
    code = lua_isinteger(L, -1) ? (int)lua_tointeger(L, -1) : 0;
  } else {
    fflush(stdout);
    const char *message = lua_tostring(L, -1);
    fprintf(stderr, "lumen: %s\n", message ? message : "error");
  }
  lua_close(L);
  return code;
}
