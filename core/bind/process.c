/* process.c: programs started from Lua: process.*. No shell is involved, so no quoting. A
 * child dies with the program that started it, however that ends, and is in a process group
 * of its own: Ctrl-C reaches the parent alone, which then decides. */
#include "bind/bind.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PROCESS "lumen.process"

typedef struct process {
  pid_t pid; /* 0: it has ended and was waited for */
  int status;
} process;

/* The argument list at `index` as a NULL-terminated array in a userdata that is pushed; the
 * strings live as long as the table. */
static char **check_arguments(lua_State *L, int index)
{
  luaL_checktype(L, index, LUA_TTABLE);
  lua_Integer n = luaL_len(L, index);
  luaL_argcheck(L, n >= 1 && n < 10000, index, "a list of 1 to 9999 strings");
  char **list = lua_newuserdatauv(L, (size_t)(n + 1) * sizeof *list, 0);
  for (lua_Integer i = 1; i <= n; i++) {
    if (lua_rawgeti(L, index, i) != LUA_TSTRING)
      luaL_error(L, "process: argument %I is a %s, not a string", i, luaL_typename(L, -1));
    list[i - 1] = (char *)(uintptr_t)lua_tostring(L, -1);
    lua_pop(L, 1);
  }
  list[n] = NULL;
  return list;
}

/* The child between fork and exec: only calls that are safe there. */
static void become(char *const *arguments, int output, int report, pid_t parent)
{
  int null = open("/dev/null", O_RDONLY);
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent && null >= 0 &&
      dup2(null, 0) >= 0 && dup2(output, 1) >= 0 && dup2(output, 2) >= 0 &&
      setpgid(0, 0) == 0 && close_range(3, UINT_MAX, CLOSE_RANGE_CLOEXEC) == 0)
    execv(arguments[0], arguments);
  int why = errno;
  ssize_t ignored = write(report, &why, sizeof why);
  (void)ignored;
  _exit(127);
}

/* Fork and exec; 0 or the errno of what failed. The pipe closes at a successful exec. */
static int spawn(process *p, char *const *arguments, int output)
{
  int ends[2], why = 0;
  if (pipe2(ends, O_CLOEXEC) != 0) return errno;
  pid_t parent = getpid(), pid = fork();
  if (pid == 0) become(arguments, output, ends[1], parent);
  if (pid < 0) why = errno;
  close(ends[1]);
  if (pid > 0) {
    ssize_t n;
    do n = read(ends[0], &why, sizeof why);
    while (n < 0 && errno == EINTR);
    if (n == (ssize_t)sizeof why) waitpid(pid, NULL, 0);
    else p->pid = pid, why = 0;
  }
  close(ends[0]);
  return why;
}

LM_DOC(process_start,
       "arguments: strings, output: str -> Process\n"
       "Run the program arguments[1] (a path) with the other strings as its arguments; no "
       "shell takes part. It has nothing to read, and what it writes is appended to the file "
       "`output`. Raises when it cannot be started.\n"
       "> path = os.tmpname()\n"
       "> p = lumen.process.start({ \"/bin/echo\", \"a  $b\" }, path)\n"
       "> while p:poll() == nil do lumen.process.sleep(0.01) end\n"
       "> (lumen.fs.read(path):gsub(\"\\n\", \"\"))\n"
       "a  $b");
static int process_start(lua_State *L)
{
  const char *path = luaL_checkstring(L, 2);
  char **arguments = check_arguments(L, 1);
  process *p = lua_newuserdatauv(L, sizeof *p, 0);
  *p = (process){0};
  luaL_setmetatable(L, PROCESS);
  int output = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, (mode_t)0666);
  if (output < 0) return luaL_error(L, "%s: cannot write: %s", path, strerror(errno));
  int why = spawn(p, arguments, output);
  close(output);
  if (why) return luaL_error(L, "%s: cannot start it: %s", arguments[0], strerror(why));
  return 1;
}

/* Has it ended? Waits for it when told to. */
static bool ended(process *p, bool wait)
{
  if (p->pid == 0) return true;
  pid_t got;
  do got = waitpid(p->pid, &p->status, wait ? 0 : WNOHANG);
  while (got < 0 && errno == EINTR);
  if (got == 0) return false;
  p->pid = 0;
  return true;
}

LM_DOC(process_poll,
       "self -> int?\n"
       "Nil while it runs, then its exit code; 128 + n when signal n ended it.\n"
       "> p = lumen.process.start({ \"/bin/false\" }, \"/dev/null\")\n"
       "> while p:poll() == nil do lumen.process.sleep(0.01) end\n"
       "> p:poll()\n"
       "1");
static int process_poll(lua_State *L)
{
  process *p = luaL_checkudata(L, 1, PROCESS);
  if (!ended(p, false)) return 0;
  lua_pushinteger(L, WIFEXITED(p->status) ? WEXITSTATUS(p->status)
                                          : 128 + WTERMSIG(p->status));
  return 1;
}

LM_DOC(process_stop,
       "self; force: bool = false\n"
       "Ask it to end (SIGTERM: a run saves a checkpoint first), or end it at once.\n"
       "> p = lumen.process.start({ \"/bin/sleep\", \"100\" }, \"/dev/null\")\n"
       "> p:stop()\n"
       "> while p:poll() == nil do lumen.process.sleep(0.01) end\n"
       "> p:poll()\n"
       "143");
static int process_stop(lua_State *L)
{
  process *p = luaL_checkudata(L, 1, PROCESS);
  if (p->pid > 0) kill(p->pid, lua_toboolean(L, 2) ? SIGKILL : SIGTERM);
  return 0;
}

static int process_close(lua_State *L)
{
  process *p = luaL_checkudata(L, 1, PROCESS);
  if (p->pid > 0) kill(p->pid, SIGKILL);
  ended(p, true);
  return 0;
}

LM_DOC(process_sleep,
       "seconds: number\n"
       "Wait; shorter when a signal arrives.\n"
       "> lumen.process.sleep(0.001)");
static int process_sleep(lua_State *L)
{
  double seconds = luaL_checknumber(L, 1);
  luaL_argcheck(L, seconds >= 0 && seconds <= 1e6, 1, "0 to 1e6 seconds");
  double whole = floor(seconds);
  struct timespec t = {.tv_sec = (time_t)whole, .tv_nsec = (long)((seconds - whole) * 1e9)};
  nanosleep(&t, NULL);
  return 0;
}

LM_DOC(process_program,
       "-> str\n"
       "Path of the program that runs.\n"
       "> lumen.process.program():sub(1, 1)\n"
       "/");
static int process_program(lua_State *L)
{
  char path[PATH_MAX];
  ssize_t n = readlink("/proc/self/exe", path, sizeof path);
  if (n < 0 || n == (ssize_t)sizeof path)
    return luaL_error(L, "/proc/self/exe: %s", strerror(errno));
  lua_pushlstring(L, path, (size_t)n);
  return 1;
}

LM_DOC(process_module,
       "-> table\n"
       "Programs that are started and watched. They die with the program that started them, "
       "and Ctrl-C does not reach them.\n"
       "> p = lumen.process.start({ \"/bin/true\" }, \"/dev/null\")\n"
       "> while p:poll() == nil do lumen.process.sleep(0.01) end\n"
       "> p:poll()\n"
       "0");

LM_DOC(process_class,
       "-> Process\n"
       "A program that was started. When it is collected, or its <close> variable ends, it is "
       "killed if it still runs.\n"
       "> do local p <close> = lumen.process.start({ \"/bin/sleep\", \"9\" }, \"/dev/null\") end");

void lm_bind_process(lua_State *L)
{
  static const lm_function functions[] = {
      {"", NULL, process_module_doc},
      {"start", process_start, process_start_doc},
      {"sleep", process_sleep, process_sleep_doc},
      {"program", process_program, process_program_doc},
      {0}};
  static const lm_function methods[] = {{"", NULL, process_class_doc},
                                        {"poll", process_poll, process_poll_doc},
                                        {"stop", process_stop, process_stop_doc},
                                        {0}};
  static const luaL_Reg events[] = {
      {"__gc", process_close}, {"__close", process_close}, {NULL, NULL}};
  lm_subtable(L, lua_gettop(L), "process");
  lm_set_functions(L, "process", functions);
  lua_pop(L, 1);
  luaL_newmetatable(L, PROCESS);
  luaL_setfuncs(L, events, 0);
  lua_newtable(L);
  lm_set_functions(L, "Process", methods);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
}
