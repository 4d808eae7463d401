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

LM_DOC(fs_stat,
       "path: str -> table?\n"
       "{kind = \"file\" | \"directory\" | \"other\", size =, mtime =} of what is there, or nil. "
       "Links are followed; mtime is in seconds since 1970.\n"
       "> lumen.fs.stat(\"/tmp\").kind, lumen.fs.stat(\"/no/such/place\")\n"
       "directory\n"
       "nil");
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

LM_DOC(fs_exists,
       "path: str -> bool\n"
       "Whether something is there.\n"
       "> lumen.fs.exists(\"/tmp\")\n"
       "true");
static int fs_exists(lua_State *L)
{
  struct stat info;
  lua_pushboolean(L, stat(luaL_checkstring(L, 1), &info) == 0);
  return 1;
}

LM_DOC(fs_isdir,
       "path: str -> bool\n"
       "Whether a directory is there.\n"
       "> lumen.fs.isdir(\"/tmp\"), lumen.fs.isdir(\"/dev/null\")\n"
       "true\n"
       "false");
static int fs_isdir(lua_State *L)
{
  struct stat info;
  lua_pushboolean(L, stat(luaL_checkstring(L, 1), &info) == 0 && S_ISDIR(info.st_mode));
  return 1;
}

LM_DOC(fs_isatty,
       "descriptor: int -> bool\n"
       "Whether a descriptor (0: input, 1: output, 2: errors) is a terminal.\n"
       "> colours = lumen.fs.isatty(1) and not os.getenv \"NO_COLOR\"");
static int fs_isatty(lua_State *L)
{
  lua_pushboolean(L, isatty((int)luaL_checkinteger(L, 1)));
  return 1;
}

LM_DOC(fs_sync,
       "path: str\n"
       "Forces a file or a directory to the disk.\n"
       "> path = os.tmpname()\n"
       "> lumen.fs.write(path, \"kept\")\n"
       "> lumen.fs.sync(path)");
static int fs_sync(lua_State *L)
{
  lm_check(L, lm_file_sync(luaL_checkstring(L, 1)));
  return 0;
}

LM_DOC(fs_mkdir,
       "path: str\n"
       "Makes a directory, with its parents; one that is there already is no error.\n"
       "> folder = os.tmpname() .. \".d/a/b\"\n"
       "> lumen.fs.mkdir(folder)\n"
       "> lumen.fs.isdir(folder)\n"
       "true");
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

LM_DOC(fs_list,
       "directory: str -> table\n"
       "Names in a directory without \".\" and \"..\", sorted by their bytes.\n"
       "> folder = os.tmpname() .. \".d\"\n"
       "> lumen.fs.mkdir(folder .. \"/b\")\n"
       "> lumen.fs.mkdir(folder .. \"/a\")\n"
       "> lumen.fs.list(folder)\n"
       "{\"a\", \"b\"}");
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

LM_DOC(fs_rename,
       "from: str, to: str\n"
       "Renames; a file of the new name is replaced in one step.\n"
       "> old = os.tmpname()\n"
       "> lumen.fs.rename(old, old .. \".new\")\n"
       "> lumen.fs.exists(old), lumen.fs.exists(old .. \".new\")\n"
       "false\n"
       "true");
static int fs_rename(lua_State *L)
{
  lm_check(L, lm_file_rename(luaL_checkstring(L, 1), luaL_checkstring(L, 2)));
  return 0;
}

LM_DOC(fs_remove,
       "path: str\n"
       "Deletes a file or an empty directory; one that is not there is no error.\n"
       "> path = os.tmpname()\n"
       "> lumen.fs.remove(path)\n"
       "> lumen.fs.exists(path)\n"
       "false");
static int fs_remove(lua_State *L)
{
  const char *path = luaL_checkstring(L, 1);
  if (remove(path) != 0 && errno != ENOENT) return fail_errno(L, path, "cannot delete");
  return 0;
}

LM_DOC(fs_remove_tree,
       "path: str, root: str\n"
       "Deletes a directory with all that is in it. It must lie inside root, so that a "
       "wrong name cannot take more.\n"
       "> root = os.tmpname() .. \".d\"\n"
       "> lumen.fs.mkdir(root .. \"/old/checkpoints\")\n"
       "> lumen.fs.remove_tree(root .. \"/old\", root)\n"
       "> lumen.fs.list(root)\n"
       "{}");
static int fs_remove_tree(lua_State *L)
{
  lm_check(L, lm_dir_remove(luaL_checkstring(L, 1), luaL_checkstring(L, 2)));
  return 0;
}

static void close_bytes(void *object)
{
  lm_bytes_free(object);
}

LM_DOC(fs_read,
       "path: str -> str\n"
       "The content of a file, at most 1 GiB.\n"
       "> path = os.tmpname()\n"
       "> lumen.fs.write(path, \"vessel\")\n"
       "> lumen.fs.read(path)\n"
       "vessel");
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

LM_DOC(fs_gunzip,
       "text: str -> str\n"
       "The content of gzip bytes, at most 256 MiB; raises when they are damaged or cut "
       "short.\n"
       "> hex = \"1f8b08000000000002032b4b2d2e4ecd0100a8dcd84e06000000\"\n"
       "> lumen.fs.gunzip((hex:gsub(\"%x%x\", function(d) return "
       "string.char(tonumber(d, 16)) end)))\n"
       "vessel");
static int fs_gunzip(lua_State *L)
{
  size_t size = 0;
  const char *text = luaL_checklstring(L, 1, &size);
  lm_bytes *bytes = lm_push_guard(L, sizeof *bytes, close_bytes);
  int held = lua_gettop(L);
  lm_check(L, lm_bytes_gunzip(bytes, text, size, (size_t)256 << 20));
  lua_pushlstring(L, (const char *)bytes->data, bytes->size);
  lm_close_guard(L, held);
  return 1;
}

LM_DOC(fs_write,
       "path: str, text: str\n"
       "Replaces the content of a file in one step: written aside, synced, renamed.\n"
       "> path = os.tmpname()\n"
       "> lumen.fs.write(path, \"one\\ntwo\\n\")\n"
       "> #lumen.fs.read(path)\n"
       "8");
static int fs_write(lua_State *L)
{
  size_t size = 0;
  const char *path = luaL_checkstring(L, 1), *text = luaL_checklstring(L, 2, &size);
  lm_check(L, lm_file_write(path, text, size));
  return 0;
}

LM_DOC(fs_realpath,
       "path: str -> str\n"
       "The absolute path without links; raises when nothing is there.\n"
       "> lumen.fs.realpath(\"/dev/../tmp\")\n"
       "/tmp");
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

LM_DOC(fs_hash,
       "path: str -> str\n"
       "16 hex digits of a file content's 64-bit hash (to recognise it, not for secrets).\n"
       "> path = os.tmpname()\n"
       "> lumen.fs.write(path, \"vessel\")\n"
       "> lumen.fs.hash(path) == lumen.fs.hash_text(\"vessel\")\n"
       "true");
static int fs_hash(lua_State *L)
{
  const char *path = luaL_checkstring(L, 1);
  lm_bytes bytes;
  lm_check(L, lm_file_map(&bytes, path));
  uint64_t hash = lm_bytes_hash(bytes.data, bytes.size, 0);
  lm_bytes_free(&bytes);
  return push_hash(L, hash);
}

LM_DOC(fs_hash_text,
       "text: str -> str\n"
       "The same hash of a string.\n"
       "> #lumen.fs.hash_text(\"vessel\")\n"
       "16");
static int fs_hash_text(lua_State *L)
{
  size_t size = 0;
  const char *text = luaL_checklstring(L, 1, &size);
  return push_hash(L, lm_bytes_hash(text, size, 0));
}

LM_DOC(lock_release,
       "lock\n"
       "Ends the lock.\n"
       "> path = os.tmpname()\n"
       "> lumen.fs.lock(path):release()\n"
       "> lumen.fs.lock(path) ~= nil\n"
       "true");
static int lock_release(lua_State *L)
{
  int *fd = luaL_checkudata(L, 1, LOCK);
  if (*fd >= 0) close(*fd);
  *fd = -1;
  return 0;
}

LM_DOC(fs_lock,
       "path: str -> lock?, str?\n"
       "A lock on a file (made if needed, and left there), or nil and a message when "
       "another holder has it. It ends with lock:release(), with its <close> variable or "
       "with the process; programs that are started do not inherit it.\n"
       "> path = os.tmpname()\n"
       "> lock = lumen.fs.lock(path)\n"
       "> lumen.fs.lock(path) == nil\n"
       "true\n"
       "> lock:release()\n"
       "> lumen.fs.lock(path) ~= nil\n"
       "true");
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

LM_DOC(lock_class,
       "-> lock\n"
       "What lumen.fs.lock returns.\n"
       "> lock = lumen.fs.lock(os.tmpname())\n"
       "> lock:release()");

LM_DOC(fs_module,
       "-> table\n"
       "Files and directories. Errors name the path.\n"
       "> lumen.fs.isdir(\"/tmp\")\n"
       "true");

void lm_bind_fs(lua_State *L)
{
  static const lm_function functions[] = {
      {"", NULL, fs_module_doc},
      {"stat", fs_stat, fs_stat_doc},
      {"exists", fs_exists, fs_exists_doc},
      {"isdir", fs_isdir, fs_isdir_doc},
      {"isatty", fs_isatty, fs_isatty_doc},
      {"mkdir", fs_mkdir, fs_mkdir_doc},
      {"list", fs_list, fs_list_doc},
      {"rename", fs_rename, fs_rename_doc},
      {"sync", fs_sync, fs_sync_doc},
      {"remove", fs_remove, fs_remove_doc},
      {"remove_tree", fs_remove_tree, fs_remove_tree_doc},
      {"read", fs_read, fs_read_doc},
      {"gunzip", fs_gunzip, fs_gunzip_doc},
      {"write", fs_write, fs_write_doc},
      {"realpath", fs_realpath, fs_realpath_doc},
      {"hash", fs_hash, fs_hash_doc},
      {"hash_text", fs_hash_text, fs_hash_text_doc},
      {"lock", fs_lock, fs_lock_doc},
      {0}};
  static const luaL_Reg events[] = {
      {"__gc", lock_release}, {"__close", lock_release}, {NULL, NULL}};
  static const lm_function methods[] = {
      {"", NULL, lock_class_doc}, {"release", lock_release, lock_release_doc}, {0}};
  lm_subtable(L, lua_gettop(L), "fs");
  lm_set_functions(L, "fs", functions);
  lua_pop(L, 1);
  luaL_newmetatable(L, LOCK);
  luaL_setfuncs(L, events, 0);
  lua_newtable(L);
  lm_set_functions(L, "Lock", methods);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
}
