/* edit.c: reading lines at the prompt. On a terminal through libedit, which is loaded at the
 * first use and may be missing; otherwise plain lines.
 *
 * Ctrl-C gives up the line. A pasted block (bracketed paste) becomes one entry of several
 * lines. Tab asks a Lua function. */
#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

#include "bind/bind.h"

/* A line from stdin as it is, NUL bytes included: text, or nil and why there is none. */
static int read_plain(lua_State *L, const char *prompt)
{
  luaL_Buffer b;
  int c;
  fputs(prompt, stdout);
  fflush(stdout);
  luaL_buffinit(L, &b);
  while ((c = getc(stdin)) != EOF) {
    luaL_addchar(&b, (char)c);
    if (c == '\n') break;
  }
  luaL_pushresult(&b);
  bool failed = ferror(stdin) && errno == EINTR;
  clearerr(stdin);
  if (failed && lm_interrupt_pressed()) {
    lm_interrupt_begin(L);
    lua_pushnil(L);
    lua_pushliteral(L, "interrupted");
    return 2;
  }
  if (lua_rawlen(L, -1) > 0) return 1;
  lua_pushnil(L);
  lua_pushliteral(L, "end");
  return 2;
}

/* Columns of the terminal; 80 when the output is none. */
static int columns(void)
{
  struct winsize window;
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col ? window.ws_col : 80;
}

static int edit_columns(lua_State *L)
{
  lua_pushinteger(L, columns());
  return 1;
}

#ifdef LUMEN_EDIT

#include <dlfcn.h>
#include <histedit.h>

static struct {
  EditLine *(*init)(const char *, FILE *, FILE *, FILE *);
  int (*set)(EditLine *, int, ...);
  const char *(*gets)(EditLine *, int *);
  const LineInfo *(*line)(EditLine *);
  int (*insert)(EditLine *, const char *);
  void (*resize)(EditLine *);
  History *(*history_init)(void);
  int (*history)(History *, HistEvent *, int, ...);
} lib;

static EditLine *editor;
static History *past;
static const char *shown_prompt = "> ";
static lua_State *reading; /* the thread that waits in edit.read; its stack holds Tab's function */
static int tab_function;
static volatile sig_atomic_t resized, woken;

static void on_resize(int n) { (void)n; resized = 1; }
static void on_continue(int n) { (void)n; woken = 1; }

static char *prompt_text(EditLine *e)
{
  (void)e;
  return (char *)(uintptr_t)shown_prompt;
}

/* One byte from the terminal; 0 at its end, -1 when Ctrl-C gave the line up. */
static int read_byte(unsigned char *byte)
{
  for (;;) {
    if (lm_interrupt_pressed()) return -1;
    ssize_t n = read(STDIN_FILENO, byte, 1);
    if (n >= 0) return (int)n;
    if (errno != EINTR) return 0;
    if (resized) lib.resize(editor);
    if (woken) { /* back from Ctrl-Z: the shell has changed the terminal's mode */
      lib.set(editor, EL_PREP_TERM, 1);
      lib.set(editor, EL_REFRESH);
    }
    resized = woken = 0;
  }
}

/* libedit's source of characters. Bytes that are no UTF-8 are left out. */
static int read_character(EditLine *e, wchar_t *out)
{
  mbstate_t state = {0};
  unsigned char byte;
  (void)e;
  for (;;) {
    int n = read_byte(&byte);
    if (n <= 0) return n;
    size_t used = mbrtowc(out, (const char *)&byte, 1, &state);
    if (used == (size_t)-1) memset(&state, 0, sizeof state);
    else if (used != (size_t)-2) return 1;
  }
}

/* A bracketed paste: everything up to ESC [ 201 ~ goes into the line, newlines too. */
static unsigned char paste(EditLine *e, int key)
{
  static const char end[] = "\033[201~";
  size_t length = 0, capacity = 4096;
  char *text = malloc(capacity);
  unsigned char byte;
  (void)key;
  while (text && read_byte(&byte) > 0) {
    if (length + 2 > capacity) {
      char *grown = realloc(text, capacity *= 2);
      if (!grown) break;
      text = grown;
    }
    text[length++] = byte == '\r' ? '\n' : (char)byte;
    size_t n = sizeof end - 1;
    if (length < n || memcmp(text + length - n, end, n) != 0) continue;
    length -= n;
    break;
  }
  if (!text) return CC_ERROR;
  while (length > 0 && text[length - 1] == '\n') length--;
  size_t kept = 0;
  for (size_t i = 0; i < length; i++)
    if ((unsigned char)text[i] >= 32 || text[i] == '\n' || text[i] == '\t') text[kept++] = text[i];
  text[kept] = '\0';
  int status = kept > 0 ? lib.insert(e, text) : 0;
  free(text);
  return status == 0 ? CC_REFRESH : CC_ERROR;
}

/* complete(before the cursor, width) -> text to insert, text to show. Runs protected. */
static int call_tab_function(lua_State *L)
{
  const LineInfo *info = lib.line(editor);
  lua_pushvalue(L, 1);
  lua_pushlstring(L, info->buffer, (size_t)(info->cursor - info->buffer));
  lua_pushinteger(L, columns());
  lua_call(L, 2, 2);
  return 2;
}

static unsigned char complete(EditLine *e, int key)
{
  lua_State *L = reading;
  int top = lua_gettop(L);
  unsigned char result = CC_ERROR;
  (void)key;
  if (!lua_checkstack(L, 8)) return CC_ERROR;
  lua_pushcfunction(L, call_tab_function);
  lua_pushvalue(L, tab_function);
  if (lua_pcall(L, 1, 2, 0) == LUA_OK) {
    const char *added = lua_tostring(L, -2), *list = lua_tostring(L, -1);
    if (added && *added && lib.insert(e, added) == 0) result = CC_REFRESH;
    if (list) {
      printf("\n%s\n", list);
      fflush(stdout);
      result = CC_REDISPLAY;
    }
  }
  lua_settop(L, top);
  return result;
}

static bool load_library(void)
{
  void *so = dlopen(LUMEN_EDIT, RTLD_NOW | RTLD_LOCAL);
  if (!so) so = dlopen("libedit.so.2", RTLD_NOW | RTLD_LOCAL);
  if (!so) return false;
  const struct { const char *name; void *slot; } functions[] = {
      {"el_init", &lib.init},           {"el_set", &lib.set},
      {"el_gets", &lib.gets},           {"el_line", &lib.line},
      {"el_insertstr", &lib.insert},    {"el_resize", &lib.resize},
      {"history_init", &lib.history_init}, {"history", &lib.history}};
  for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
    void *found = dlsym(so, functions[i].name);
    if (!found) return false;
    memcpy(functions[i].slot, &found, sizeof found);
  }
  return true;
}

static void bind_keys(void)
{
  static const char *const keys[][2] = {
      {"\033[A", "ed-search-prev-history"}, {"\033OA", "ed-search-prev-history"},
      {"\033[B", "ed-search-next-history"}, {"\033OB", "ed-search-next-history"},
      {"\033[3~", "ed-delete-next-char"},   {"\033[1;5C", "em-next-word"},
      {"\033[1;5D", "ed-prev-word"},        {"\033[H", "ed-move-to-beg"},
      {"\033OH", "ed-move-to-beg"},         {"\033[1~", "ed-move-to-beg"},
      {"\033[F", "ed-move-to-end"},         {"\033OF", "ed-move-to-end"},
      {"\033[4~", "ed-move-to-end"},        {"^R", "em-inc-search-prev"},
      {"^I", "lumen-complete"},             {"\033[200~", "lumen-paste"}};
  lib.set(editor, EL_ADDFN, "lumen-complete", "complete the word", complete);
  lib.set(editor, EL_ADDFN, "lumen-paste", "insert pasted text", paste);
  for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
    lib.set(editor, EL_BIND, keys[i][0], keys[i][1], NULL);
}

static bool start_editor(void)
{
  const char *terminal = getenv("TERM");
  if (!terminal || strcmp(terminal, "dumb") == 0 || !load_library()) return false;
  setlocale(LC_CTYPE, "");
  if (MB_CUR_MAX == 1) setlocale(LC_CTYPE, "C.UTF-8");
  editor = lib.init("lumen", stdin, stdout, stderr);
  past = editor ? lib.history_init() : NULL;
  if (!past) return false;
  HistEvent event;
  lib.history(past, &event, H_SETSIZE, 5000);
  lib.history(past, &event, H_SETUNIQUE, 1);
  lib.set(editor, EL_EDITOR, "emacs");
  lib.set(editor, EL_PROMPT, prompt_text);
  lib.set(editor, EL_HIST, lib.history, past);
  lib.set(editor, EL_SIGNAL, 0);
  lib.set(editor, EL_GETCFN, read_character);
  bind_keys();
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = on_resize;
  sigaction(SIGWINCH, &action, NULL);
  action.sa_handler = on_continue;
  sigaction(SIGCONT, &action, NULL);
  return true;
}

/* edit.read(prompt [, complete]): on a terminal with libedit. */
static int read_edited(lua_State *L, const char *prompt)
{
  int count = 0;
  shown_prompt = prompt;
  reading = L;
  tab_function = 2;
  lua_settop(L, 2);
  fputs("\033[?2004h", stdout); /* bracketed paste on */
  fflush(stdout);
  const char *line = lib.gets(editor, &count);
  fputs("\033[?2004l", stdout);
  if (lm_interrupt_pressed()) {
    fputs("^C\n", stdout);
    fflush(stdout);
    lm_interrupt_begin(L);
    lua_pushnil(L);
    lua_pushliteral(L, "interrupted");
    return 2;
  }
  fflush(stdout);
  if (line && count > 0) {
    lua_pushlstring(L, line, (size_t)count);
    return 1;
  }
  lua_pushnil(L);
  lua_pushliteral(L, "end");
  return 2;
}

/* edit.remember(text): the newest entry of the history. */
static int edit_remember(lua_State *L)
{
  HistEvent event;
  const char *text = luaL_checkstring(L, 1);
  if (past) lib.history(past, &event, H_ENTER, text);
  return 0;
}

static int edit_open(lua_State *L)
{
  if (!editor && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && !start_editor()) editor = NULL;
  lua_pushboolean(L, editor != NULL);
  return 1;
}

/* Can lines be edited on a terminal? */
static int edit_available(lua_State *L)
{
  lua_pushboolean(L, lib.gets || load_library());
  return 1;
}

static int edit_read(lua_State *L)
{
  const char *prompt = luaL_checkstring(L, 1);
  return editor ? read_edited(L, prompt) : read_plain(L, prompt);
}

#else

static int edit_available(lua_State *L)
{
  lua_pushboolean(L, 0);
  return 1;
}

static int edit_remember(lua_State *L)
{
  (void)L;
  return 0;
}

static int edit_open(lua_State *L)
{
  lua_pushboolean(L, 0);
  return 1;
}

static int edit_read(lua_State *L) { return read_plain(L, luaL_checkstring(L, 1)); }

#endif

void lm_bind_edit(lua_State *L)
{
  static const luaL_Reg functions[] = {{"open", edit_open},         /* -> is there an editor? */
                                       {"available", edit_available},
                                       {"read", edit_read},         /* (prompt, complete) */
                                       {"remember", edit_remember}, /* (text) */
                                       {"columns", edit_columns},
                                       {NULL, NULL}};
  luaL_newlib(L, functions);
  lua_setfield(L, -2, "_edit");
}
