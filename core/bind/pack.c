/* pack.c: packs in Lua: data.packer writes one, data.packed tells what is in one. */
#include "bind/bind.h"
#include "io/loader.h"

#define CLASS "lumen.packer"

static int packer_abandon(lua_State *L)
{
  lm_packer_abandon(luaL_checkudata(L, 1, CLASS));
  return 0;
}

static lm_packer *check_packer(lua_State *L)
{
  lm_packer *p = luaL_checkudata(L, 1, CLASS);
  if (!p->aside.path) luaL_error(L, "this pack is finished");
  return p;
}

static int core_packer(lua_State *L)
{
  const char *path = luaL_checkstring(L, 1);
  lm_packer *p = lua_newuserdatauv(L, sizeof *p, 0);
  *p = (lm_packer){.aside.descriptor = -1};
  luaL_setmetatable(L, CLASS);
  lm_check(L, lm_packer_open(p, path));
  return 1;
}

/* packer:add(loader, i, name, {size=, quality=, masks=}): item i of a loader, counted from 1. */
static int packer_add(lua_State *L)
{
  static const char *const keys[] = {"size", "quality", "masks", NULL};
  lm_packer *p = check_packer(L);
  lm_loader *l = lm_check_loader(L, 2);
  lua_Integer i = luaL_checkinteger(L, 3);
  luaL_argcheck(L, i >= 1 && i <= lm_loader_count(l), 3, "no such item");
  const char *name = luaL_checkstring(L, 4);
  luaL_checktype(L, 5, LUA_TTABLE);
  lm_check_keys(L, 5, "pack", keys);
  int64_t size = lm_opt_int(L, 5, "size", 256), quality = lm_opt_int(L, 5, "quality", 90);
  if (size < 1 || size > LM_IMAGE_MAX_SIDE)
    luaL_error(L, "pack: size must be 1 to %d, not %I", LM_IMAGE_MAX_SIDE, (lua_Integer)size);
  if (quality < 1 || quality > 100)
    luaL_error(L, "pack: quality must be 1 to 100, not %I", (lua_Integer)quality);
  bool masks = lm_opt_bool(L, 5, "masks", true);
  lm_check(L, lm_loader_pack(l, i - 1, p, name, masks, size, (int)quality));
  return 0;
}

/* packer:commit(about): write the index and put the file in its place. */
static int packer_commit(lua_State *L)
{
  lm_packer *p = check_packer(L);
  lm_check(L, lm_packer_commit(p, luaL_checkstring(L, 2)));
  return 0;
}

static void close_pack(void *object)
{
  lm_pack_close(*(lm_pack **)object);
}

/* data.packed(path) -> the JSON text of its index, number of images. */
static int core_packed(lua_State *L)
{
  const char *path = luaL_checkstring(L, 1);
  lm_pack **pack = lm_push_guard(L, sizeof *pack, close_pack);
  int guard = lua_gettop(L);
  lm_check(L, lm_pack_open(pack, path));
  lua_pushstring(L, (*pack)->about);
  lua_pushinteger(L, (*pack)->count);
  lm_close_guard(L, guard);
  return 2;
}

void lm_bind_pack(lua_State *L)
{
  static const luaL_Reg methods[] = {{"add", packer_add}, {"commit", packer_commit},
                                     {"abandon", packer_abandon}, {NULL, NULL}};
  luaL_newmetatable(L, CLASS);
  lua_pushcfunction(L, packer_abandon);
  lua_setfield(L, -2, "__gc");
  lua_pushcfunction(L, packer_abandon);
  lua_setfield(L, -2, "__close");
  luaL_newlib(L, methods);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
  lm_subtable(L, -1, "data");
  lua_pushcfunction(L, core_packer);
  lua_setfield(L, -2, "packer");
  lua_pushcfunction(L, core_packed);
  lua_setfield(L, -2, "packed");
  lua_pop(L, 1);
}
