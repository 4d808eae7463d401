/* interrupt.c: Ctrl-C in the program.
 *
 * The first press stops what runs: operations fail before they start, Lua code by a hook on
 * the thread that runs now. A run that asked for it (`hold`) is told instead, and stops at its
 * next safe point; the press after that stops it where it is. Code that catches the error and
 * goes on is stopped by a further press, which raises until the prompt is back. At the prompt
 * no press ends the process; elsewhere a second one within two seconds does. */
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bind/bind.h"

enum { MASK = LUA_MASKCALL | LUA_MASKRET | LUA_MASKCOUNT, EVERY = 1000, STUCK = 4 };

static lua_State *volatile running; /* the coroutine whose code runs now */
static volatile sig_atomic_t presses, held, asked, at_prompt;

static void stop_hook(lua_State *L, lua_Debug *ar)
{
  (void)ar;
  if (presses <= 1) lua_sethook(L, NULL, 0, 0);
  if (presses == 0) return; /* left over from an earlier command */
  lm_interrupted = 0;
  luaL_error(L, "interrupted");
}

static void on_interrupt(int signal_number)
{
  static time_t last;
  time_t now = time(NULL);
  bool soon = now - last <= 2;
  last = now;
  if (held && !asked) {
    asked = 1;
    return;
  }
  if (!at_prompt && soon && presses > 0) {
    signal(signal_number, SIG_DFL);
    raise(signal_number);
    return;
  }
  presses++;
  lm_interrupted = 1;
  if (running) lua_sethook(running, stop_hook, MASK, EVERY);
  if (at_prompt && presses == STUCK) {
    static const char text[] = "\nstill inside one long call; Ctrl-\\ ends the program\n";
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0) return;
  }
}

void lm_interrupt_taken(lua_State *L)
{
  if (presses == 1) lua_sethook(L, NULL, 0, 0);
}

/* ---- which coroutine runs ---- */

/* Call the function below the arguments while `thread` counts as running. */
static int call_in(lua_State *L, lua_State *thread)
{
  lua_State *outer = running;
  if (thread) running = thread;
  int status = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
  running = outer;
  if (presses > 1 && outer) lua_sethook(outer, stop_hook, MASK, EVERY);
  return status == LUA_OK ? lua_gettop(L) : lua_error(L);
}

/* coroutine.resume, coroutine.close; upvalue: Lua's own. */
static int in_thread(lua_State *L)
{
  lua_State *thread = lua_tothread(L, 1);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  return call_in(L, thread);
}

/* What coroutine.wrap returns; upvalues: Lua's own such function, its thread. */
static int wrapped(lua_State *L)
{
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  return call_in(L, lua_tothread(L, lua_upvalueindex(2)));
}

static int wrap(lua_State *L)
{
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, lua_gettop(L) - 1, 1);
  lua_getupvalue(L, -1, 1);
  lua_pushcclosure(L, wrapped, 2);
  return 1;
}

void lm_interrupt_open(lua_State *L)
{
  static const struct { const char *name; lua_CFunction function; } replaced[] = {
      {"resume", in_thread}, {"close", in_thread}, {"wrap", wrap}};
  running = L;
  signal(SIGINT, on_interrupt);
  lua_getglobal(L, LUA_COLIBNAME);
  for (size_t i = 0; i < sizeof replaced / sizeof replaced[0]; i++) {
    lua_getfield(L, -1, replaced[i].name);
    lua_pushcclosure(L, replaced[i].function, 1);
    lua_setfield(L, -2, replaced[i].name);
  }
  lua_pop(L, 1);
}

/* ---- for the Lua library ---- */

bool lm_interrupt_pressed(void) { return presses > 0; }

void lm_interrupt_begin(lua_State *L)
{
  presses = asked = held = 0;
  lm_interrupted = 0;
  lua_sethook(L, NULL, 0, 0);
}

/* interrupt.begin(): a new command at the prompt; forgets presses so far. */
static int interrupt_begin(lua_State *L)
{
  lm_interrupt_begin(L);
  return 0;
}

/* interrupt.call(f, handler) -> ok, was Ctrl-C pressed, results or the handled error. Presses end
 * with the call: none is left to stop the caller. */
static int interrupt_call(lua_State *L)
{
  lua_settop(L, 2);
  lua_insert(L, 1);
  lm_interrupt_begin(L);
  int status = lua_pcall(L, 0, LUA_MULTRET, 1);
  bool pressed = presses > 0;
  lm_interrupt_begin(L);
  lua_pushboolean(L, pressed);
  lua_replace(L, 1);
  lua_pushboolean(L, status == LUA_OK);
  lua_insert(L, 1);
  return lua_gettop(L);
}

/* interrupt.prompt(): from now on no press ends the process, and waiting reads give up. */
static int interrupt_prompt(lua_State *L)
{
  (void)L;
  at_prompt = 1;
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = on_interrupt;
  sigaction(SIGINT, &action, NULL);
  return 0;
}

/* interrupt.hold(on) -> what it was: the next press only sets what asked() returns. */
static int interrupt_hold(lua_State *L)
{
  lua_pushboolean(L, held);
  held = lua_toboolean(L, 1);
  asked = 0;
  return 1;
}

/* interrupt.asked(): was Ctrl-C pressed since hold(true)? */
static int interrupt_asked(lua_State *L)
{
  lua_pushboolean(L, asked);
  return 1;
}

void lm_bind_interrupt(lua_State *L)
{
  static const luaL_Reg functions[] = {{"begin", interrupt_begin},
                                       {"call", interrupt_call},
                                       {"prompt", interrupt_prompt},
                                       {"hold", interrupt_hold},
                                       {"asked", interrupt_asked},
                                       {NULL, NULL}};
  luaL_newlib(L, functions);
  lua_setfield(L, -2, "_interrupt");
}
