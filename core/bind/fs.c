/* fs.c: files and directories for the Lua library: fs.*. Functions raise errors that name
 * the path; "not there" is a value where it is an answer (stat, lock). */
#include "bind/bind.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCK "lumen.lock"

static int fail_errno(lua_State *L, const char *path, const char *what)
{
  return luaL_error(L, "%s: %s: %s", path, what, strerror(errno));
}

/* fs.stat(path) -> {kind = "file" | "directory" | "other", size, mtime}, or nil. Links
 * are followed; mtime is in seconds since 1970. */
static int fs_stat(lua_State *L)
{
  const char *path = luaL_checkstring(L, 1);
  struct stat info;
  if (stat(path, &info) != 0) {
    if (errno != ENOENT && errno != ENOTDIR)
      return fail_errno(L, path, "cannot look at it");
    lua_pushnil(L);
    return 1;
  }
  lua_createtable(L, 0, 3);
  lua_pushstring(L, S_ISREG(info.st_mode)   ? "file"
                    : S_ISDIR(info.st_mode) ? "directory"
                                            : "other");
  lua_setfield(L, -2, "kind");
  lua_pushinteger(L, info.st_size);
  lua_setfield(L, -2, "size");
  lua_pushnumber(L, (double)info.st_mtim.tv_sec + 1e-9 * (double)info.st_mtim.tv_nsec);
  lua_setfield(L, -2, "mtime");
  return 1;
}

static int fs_exists(lua_State *L)
{
  struct stat info;
  lua_pushboolean(L, stat(luaL_checkstring(L, 1), &info) == 0);
  return 1;
}

static int fs_isdir(lua_State *L)
{
  struct stat info;
  lua_pushboolean(L, stat(luaL_checkstring(L, 1), &info) == 0 && S_ISDIR(info.st_mode));
  return 1;
}

/* fs.isatty(descriptor): is it a terminal (1: output, 2: errors)? */
static int fs_isatty(lua_State *L)
{
  lua_pushboolean(L, isatty((int)luaL_checkinteger(L, 1)));
  return 1;
}

/* fs.sync(path): force a file or a directory to the disk. */
static int fs_sync(lua_State *L)
{
  lm_check(L, lm_file_sync(luaL_checkstring(L, 1)));
  return 0;
}

/* fs.mkdir(path): with its parents. */
static int fs_mkdir(lua_State *L)
{
  lm_check(L, lm_dir_make(luaL_checkstring(L, 1)));
  return 0;
}

typedef struct names {
  char **list;
  size_t count;
} names;

static void close_names(void *object)
{
  names *n = object;
  for (size_t i = 0; i < n->count; i++)
    free(n->list[i]);
  free(n->list);
}

/* fs.list(directory) -> names without "." and "..", sorted by their bytes. */
static int fs_list(lua_State *L)
{
  const char *path = luaL_checkstring(L, 1);
  names *n = lm_push_guard(L, sizeof *n, close_names);
  int held = lua_gettop(L);
  lm_check(L, lm_dir_list(&n->list, &n->count, path));
  lua_newtable(L);
  for (size_t i = 0; i < n->count; i++) {
    lua_pushstring(L, n->list[i]);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  lm_close_guard(L, held);
  return 1;
}

static int fs_rename(lua_State *L)
{
  lm_check(L, lm_file_rename(luaL_checkstring(L, 1), luaL_checkstring(L, 2)));
  return 0;
}

/* fs.remove(path): a file or an empty directory; one that is not there is no error. */
static int fs_remove(lua_State *L)
{
  const char *path = luaL_checkstring(L, 1);
  if (remove(path) != 0 && errno != ENOENT) return fail_errno(L, path, "cannot delete");
  return 0;
}

/* fs.remove_tree(path, root): a directory with all that is in it; it must lie inside
 * root. */
static int fs_remove_tree(lua_State *L)
{
  lm_check(L, lm_dir_remove(luaL_checkstring(L, 1), luaL_checkstring(L, 2)));
  return 0;
}

static void close_bytes(void *object)
{
  lm_bytes_free(object);
}

/* fs.read(path) -> the content, at most 1 GiB. */
static int fs_read(lua_State *L)
{
  const char *path = luaL_checkstring(L, 1);
  lm_bytes *bytes = lm_push_guard(L, sizeof *bytes, close_bytes);
  int held = lua_gettop(L);
  lm_check(L, lm_file_read(bytes, path, (size_t)1 << 30));
  lua_pushlstring(L, (const char *)bytes->data, bytes->size);
  lm_close_guard(L, held);
  return 1;
}

/* fs.write(path, text): replace the content in one step (written aside, synced, renamed).
 */
static int fs_write(lua_State *L)
{
  size_t size = 0;
  const char *path = luaL_checkstring(L, 1), *text = luaL_checklstring(L, 2, &size);
  lm_check(L, lm_file_write(path, text, size));
  return 0;
}

static int fs_realpath(lua_State *L)
{
  const char *path = luaL_checkstring(L, 1);
  char full[PATH_MAX];
  if (!realpath(path, full)) return fail_errno(L, path, "cannot resolve");
  lua_pushstring(L, full);
  return 1;
}

static int push_hash(lua_State *L, uint64_t hash)
{
  char text[17];
  snprintf(text, sizeof text, "%016llx", (unsigned long long)hash);
  lua_pushstring(L, text);
  return 1;
}

/* fs.hash(path) -> 16 hex digits of the content's 64-bit hash (not for secrets). */
static int fs_hash(lua_State *L)
{
  const char *path = luaL_checkstring(L, 1);
  lm_bytes bytes;
  lm_check(L, lm_file_map(&bytes, path));
  uint64_t hash = lm_bytes_hash(bytes.data, bytes.size, 0);
  lm_bytes_free(&bytes);
  return push_hash(L, hash);
}

/* fs.hash_text(text) -> the same hash of a string. */
static int fs_hash_text(lua_State *L)
{
  size_t size = 0;
  const char *text = luaL_checklstring(L, 1, &size);
  return push_hash(L, lm_bytes_hash(text, size, 0));
}

static int lock_release(lua_State *L)
{
  int *fd = luaL_checkudata(L, 1, LOCK);
  if (*fd >= 0) close(*fd);
  *fd = -1;
  return 0;
}

/* fs.lock(path) -> a lock, or nil and a message when another one has it. The file is made
 * if needed and stays. The lock ends with l:release(), with its <close> variable, or with
 * the process; it is not inherited by programs that are started. */
static int fs_lock(lua_State *L)
{
  const char *path = luaL_checkstring(L, 1);
  int *fd = lua_newuserdatauv(L, sizeof *fd, 0);
  *fd = -1;
  luaL_setmetatable(L, LOCK);
  *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, (mode_t)0666);
  if (*fd < 0) return fail_errno(L, path, "cannot lock");
  if (flock(*fd, LOCK_EX | LOCK_NB) == 0) return 1;
  if (errno != EWOULDBLOCK) return fail_errno(L, path, "cannot lock");
  lua_pushnil(L);
  lua_pushfstring(L, "%s: locked by another program", path);
  return 2;
}

void lm_bind_fs(lua_State *L)
{
  static const luaL_Reg functions[] = {{"stat", fs_stat},
                                       {"exists", fs_exists},
                                       {"isdir", fs_isdir},
                                       {"isatty", fs_isatty},
                                       {"mkdir", fs_mkdir},
                                       {"list", fs_list},
                                       {"rename", fs_rename},
                                       {"sync", fs_sync},
                                       {"remove", fs_remove},
                                       {"remove_tree", fs_remove_tree},
                                       {"read", fs_read},
                                       {"write", fs_write},
                                       {"realpath", fs_realpath},
                                       {"hash", fs_hash},
                                       {"hash_text", fs_hash_text},
                                       {"lock", fs_lock},
                                       {NULL, NULL}};
  static const luaL_Reg events[] = {
      {"__gc", lock_release}, {"__close", lock_release}, {NULL, NULL}};
  lm_subtable(L, lua_gettop(L), "fs");
  luaL_setfuncs(L, functions, 0);
  lua_pop(L, 1);
  luaL_newmetatable(L, LOCK);
  luaL_setfuncs(L, events, 0);
  lua_newtable(L);
  lua_pushcfunction(L, lock_release);
  lua_setfield(L, -2, "release");
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
}
