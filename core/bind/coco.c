/* coco.c: lumen.data.coco, and the loader's source of kind "coco". */
#include <string.h>

#include "bind/bind.h"
#include "io/loader.h"

static void close_coco(void *object)
{
  lm_coco_free(*(lm_coco **)object);
  *(lm_coco **)object = NULL;
}

/* The place of the category that the value at the stack top names: a text is a name, a whole
 * number an id. */
static int64_t find_category(lua_State *L, const lm_coco *coco)
{
  int64_t place = 0;
  if (lua_isinteger(L, -1))
    lm_check(L, lm_coco_find_id(coco, lua_tointeger(L, -1), &place));
  else if (lua_type(L, -1) == LUA_TSTRING)
    lm_check(L, lm_coco_find_name(coco, lua_tostring(L, -1), &place));
  else
    luaL_error(L, "coco: classes: a class is the name or the id of a category, not a %s",
               luaL_typename(L, -1));
  return place;
}

/* What each category writes into a mask, from the value at `index`: nil or "binary", 255 for
 * all; a list of names and ids, 1 for the first and so on. Pushes the array; returns the
 * number of classes, 0 for binary. */
static int read_classes(lua_State *L, int index, const lm_coco *coco, uint8_t **value)
{
  index = lua_absindex(L, index);
  size_t n = (size_t)coco->categories;
  *value = lua_newuserdatauv(L, n, 0);
  memset(*value, 255, n);
  if (lua_isnil(L, index)) return 0;
  if (lua_type(L, index) == LUA_TSTRING && strcmp(lua_tostring(L, index), "binary") == 0)
    return 0;
  if (lua_type(L, index) != LUA_TTABLE)
    luaL_error(L, "coco: classes must be \"binary\" or a list of categories (names or ids)");
  lua_Unsigned count = lua_rawlen(L, index);
  if (count < 1 || count > 254)
    luaL_error(L, "coco: classes: %d classes are not 1 to 254", (int)count);
  memset(*value, 0, n);
  for (lua_Unsigned k = 1; k <= count; k++) {
    lua_rawgeti(L, index, (lua_Integer)k);
    int64_t place = find_category(L, coco);
    if ((*value)[place])
      luaL_error(L, "coco: classes: category '%s' stands twice", coco->category[place].name);
    (*value)[place] = (uint8_t)k;
    lua_pop(L, 1);
  }
  return (int)count;
}

lm_status lm_add_coco(lua_State *L, int index, lm_loader *l)
{
  static const char *const keys[] = {"kind", "images", "annotations", "classes", NULL};
  lm_check_keys(L, index, "loader: source", keys);
  const char *images = lm_opt_string(L, index, "images", NULL);
  const char *path = lm_opt_string(L, index, "annotations", NULL);
  if (!images || !path)
    luaL_error(L, "loader: a source of kind \"coco\" needs %s", path ? "images" : "annotations");
  lm_coco **guard = lm_push_guard(L, sizeof *guard, close_coco), *coco;
  LM_TRY(lm_coco_load(guard, path));
  uint8_t *value;
  lua_getfield(L, index, "classes");
  LM_TRY(lm_loader_set_classes(l, read_classes(L, -1, *guard, &value)));
  coco = *guard;
  *guard = NULL;
  return lm_loader_add_coco(l, images, coco, value);
}

/* Methods have two upvalues: the file, and the guard that keeps it.
 * file:mask(i [, classes]): the mask of image i, counted from 1, u8 [height, width]. */
static int coco_mask(lua_State *L)
{
  const lm_coco *coco = lua_touserdata(L, lua_upvalueindex(1));
  lua_Integer i = luaL_checkinteger(L, 2);
  luaL_argcheck(L, i >= 1 && i <= coco->images, 2, "no such image");
  lua_settop(L, 3);
  uint8_t *value;
  read_classes(L, 3, coco, &value);
  const lm_coco_image *image = &coco->image[i - 1];
  lm_tensor *mask = lm_new_tensor(L, LM_U8, 2, (int64_t[]){image->height, image->width});
  lm_check(L, lm_coco_mask(coco, i - 1, value, lm_data(mask)));
  return 1;
}

static void set_integer(lua_State *L, const char *name, int64_t value)
{
  lua_pushinteger(L, value);
  lua_setfield(L, -2, name);
}

/* file:image(i): what the file says about image i, counted from 1. */
static int coco_image(lua_State *L)
{
  const lm_coco *coco = lua_touserdata(L, lua_upvalueindex(1));
  lua_Integer i = luaL_checkinteger(L, 2);
  luaL_argcheck(L, i >= 1 && i <= coco->images, 2, "no such image");
  const lm_coco_image *image = &coco->image[i - 1];
  lua_newtable(L);
  lua_pushstring(L, image->file);
  lua_setfield(L, -2, "file");
  set_integer(L, "id", image->id);
  set_integer(L, "height", image->height);
  set_integer(L, "width", image->width);
  set_integer(L, "annotations", image->count);
  return 1;
}

static void push_categories(lua_State *L, const lm_coco *coco)
{
  lua_createtable(L, (int)coco->categories, 0);
  for (int64_t i = 0; i < coco->categories; i++) {
    const lm_coco_category *c = &coco->category[i];
    lua_newtable(L);
    lua_pushstring(L, c->name);
    lua_setfield(L, -2, "name");
    set_integer(L, "id", c->id);
    set_integer(L, "annotations", c->annotations);
    set_integer(L, "images", c->images);
    lua_rawseti(L, -2, i + 1);
  }
}

static int core_coco(lua_State *L)
{
  const char *path = luaL_checkstring(L, 1);
  lua_settop(L, 1);
  lm_coco **guard = lm_push_guard(L, sizeof *guard, close_coco);
  lm_check(L, lm_coco_load(guard, path));
  const lm_coco *coco = *guard;
  lua_newtable(L);
  lua_pushvalue(L, 1);
  lua_setfield(L, -2, "path");
  set_integer(L, "images", coco->images);
  set_integer(L, "annotations", coco->annotations);
  set_integer(L, "unannotated", coco->bare);
  set_integer(L, "repeated_ids", coco->repeated);
  push_categories(L, coco);
  lua_setfield(L, -2, "categories");
  static const luaL_Reg methods[] = {{"image", coco_image}, {"mask", coco_mask}, {NULL, NULL}};
  lua_pushlightuserdata(L, *guard);
  lua_pushvalue(L, 2);
  luaL_setfuncs(L, methods, 2);
  return 1;
}

void lm_bind_coco(lua_State *L)
{
  lm_subtable(L, -1, "data");
  lua_pushcfunction(L, core_coco);
  lua_setfield(L, -2, "coco");
  lua_pop(L, 1);
}
