/* io.c: tensors and pictures in files, for Lua: load, save, image.load, image.decode,
 * image.save.
 *
 * What C opens is held by a guard (a userdata), so that a Lua error in the middle of a
 * conversion cannot leak a mapping. */
#include "bind/bind.h"

#include <math.h>
#include <string.h>
#include <strings.h>

/* ---- guards ---- */

#define GUARD "lumen.guard"
#define OPAQUE "lumen.opaque"

typedef struct guard {
  void (*close)(void *);
  _Alignas(16) unsigned char object[];
} guard;

static int guard_close(lua_State *L)
{
  guard *g = luaL_checkudata(L, 1, GUARD);
  if (g->close) g->close(g->object);
  g->close = NULL;
  return 0;
}

void *lm_push_guard(lua_State *L, size_t size, void (*close)(void *))
{
  guard *g = lua_newuserdatauv(L, sizeof *g + size, 0);
  memset(g, 0, sizeof *g + size);
  if (luaL_newmetatable(L, GUARD)) {
    lua_pushcfunction(L, guard_close);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  g->close = close;
  return g->object;
}

void lm_close_guard(lua_State *L, int index)
{
  guard *g = luaL_checkudata(L, index, GUARD);
  if (g->close) g->close(g->object);
  g->close = NULL;
}

static void close_tensorfile(void *object)
{
  lm_tensorfile_close(object);
}

static void close_bytes(void *object)
{
  lm_bytes_free(object);
}

static void close_pth(void *object)
{
  lm_pth_close(object);
}

static void close_image(void *object)
{
  lm_image_free(object);
}

/* ---- load ---- */

static void push_stored(lua_State *L, const lm_stored *s)
{
  lm_tensor *t = lm_new_tensor(L, lm_stored_dtype(s), s->ndim, s->shape);
  t->storage->maker = "load";
  if (s->count > 0) lm_stored_copy(s, lm_data(t));
}

/* name -> tensor, and the metadata as a second table. */
static int load_safetensors(lua_State *L, const char *path)
{
  lm_tensorfile *f = lm_push_guard(L, sizeof *f, close_tensorfile);
  int held = lua_gettop(L);
  lm_check(L, lm_safetensors_open(f, path));
  lua_newtable(L);
  for (int64_t i = 0; i < f->count; i++) {
    push_stored(L, &f->entries[i].tensor);
    lua_setfield(L, -2, f->entries[i].name);
  }
  lua_newtable(L);
  for (int64_t i = 0; i < f->metadata_count; i++) {
    lua_pushstring(L, f->metadata[i].value);
    lua_setfield(L, -2, f->metadata[i].key);
  }
  lm_close_guard(L, held);
  return 2;
}

static int load_npy(lua_State *L, const char *path)
{
  lm_stored t;
  lm_bytes *bytes = lm_push_guard(L, sizeof *bytes, close_bytes);
  int held = lua_gettop(L);
  lm_check(L, lm_npy_open(bytes, &t, path));
  push_stored(L, &t);
  lm_close_guard(L, held);
  return 1;
}

#define PTH_DEPTH 200

static void push_value(lua_State *L, const lm_pth_value *v, int seen, int depth);

static void push_items(lua_State *L, const lm_pth_value *v, int seen, int depth)
{
  size_t step = v->kind == LM_PTH_DICT ? 2 : 1;
  for (size_t i = 0; i < v->as.list.count; i += step) {
    push_value(L, v->as.list.items[i], seen, depth);
    if (step == 1) {
      lua_rawseti(L, -2, (lua_Integer)i + 1);
      continue;
    }
    if (lua_isnil(L, -1) ||
        (lua_type(L, -1) == LUA_TNUMBER && isnan(lua_tonumber(L, -1)))) {
      luaL_error(L,
                 "load: a dictionary with the key None or NaN has no counterpart in Lua");
    }
    push_value(L, v->as.list.items[i + 1], seen, depth);
    lua_rawset(L, -3);
  }
}

static void push_part(lua_State *L, const lm_pth_value *v, const char *name, int seen,
                      int depth)
{
  if (!v) return;
  push_value(L, v, seen, depth);
  lua_setfield(L, -2, name);
}

/* What stands for a value that exists once, however often it is named. */
static void push_new_value(lua_State *L, const lm_pth_value *v, int seen, int depth)
{
  if (v->kind == LM_PTH_TENSOR) {
    push_stored(L, v->as.tensor);
  } else {
    lua_newtable(L);
  }
  lua_pushvalue(L, -1);
  lua_rawseti(L, seen, (lua_Integer)v->index + 1);
  if (v->kind == LM_PTH_LIST || v->kind == LM_PTH_DICT) {
    push_items(L, v, seen, depth + 1);
  } else if (v->kind != LM_PTH_TENSOR) {
    bool plain = v->kind == LM_PTH_STORAGE;
    lua_pushstring(L, plain ? "torch.Storage" : v->as.opaque.class_name);
    lua_setfield(L, -2, "class");
    if (!plain) {
      push_part(L, v->as.opaque.args, "args", seen, depth + 1);
      push_part(L, v->as.opaque.state, "state", seen, depth + 1);
      push_part(L, v->as.opaque.items, "items", seen, depth + 1);
    }
    luaL_setmetatable(L, OPAQUE);
  }
}

static void push_value(lua_State *L, const lm_pth_value *v, int seen, int depth)
{
  if (depth > PTH_DEPTH) luaL_error(L, "load: nested deeper than %d levels", PTH_DEPTH);
  luaL_checkstack(L, 8, "load");
  switch (v->kind) {
    case LM_PTH_NIL: lua_pushnil(L); break;
    case LM_PTH_BOOL: lua_pushboolean(L, v->as.boolean); break;
    case LM_PTH_INT: lua_pushinteger(L, v->as.integer); break;
    case LM_PTH_FLOAT: lua_pushnumber(L, v->as.real); break;
    case LM_PTH_STRING: lua_pushlstring(L, v->as.string.data, v->as.string.size); break;
    default:
      if (lua_rawgeti(L, seen, (lua_Integer)v->index + 1) == LUA_TNIL) {
        lua_pop(L, 1);
        push_new_value(L, v, seen, depth);
      }
      break;
  }
}

static int load_pth(lua_State *L, const char *path)
{
  lm_pth_tree *tree = lm_push_guard(L, sizeof *tree, close_pth);
  int held = lua_gettop(L);
  lm_check(L, lm_pth_open(tree, path));
  lua_newtable(L);
  push_value(L, tree->root, lua_gettop(L), 0);
  lm_close_guard(L, held);
  return 1;
}

static int opaque_tostring(lua_State *L)
{
  lua_getfield(L, 1, "class");
  lua_pushfstring(L, "opaque %s", lua_tostring(L, -1));
  return 1;
}

/* The extension of a path, "" when it has none. */
static const char *extension(const char *path)
{
  const char *dot = strrchr(path, '.');
  return dot && !strchr(dot, '/') ? dot : "";
}

LM_DOC(core_load,
       "path: str -> any\n"
       "Reads tensors from a file. .safetensors: a table name -> tensor, and the metadata "
       "as a second table; .npy: a tensor; .pth, .pt, .bin: what torch.save was given, "
       "with dictionaries and lists as tables (None is nil) and objects of unknown classes "
       "as tables with the fields class, args, state, items. Nothing in a file is ever "
       "executed. Element types without a counterpart widen (f16 to f32, i8 to i32). "
       "Raises for broken files, naming the file.\n"
       "> path = os.tmpname() .. \".npy\"\n"
       "> lumen.save(path, lumen.arange(3))\n"
       "> lumen.load(path)\n"
       "i64 [3] {0, 1, 2}");
static int core_load(lua_State *L)
{
  const char *path = luaL_checkstring(L, 1), *end = extension(path);
  if (strcasecmp(end, ".safetensors") == 0) return load_safetensors(L, path);
  if (strcasecmp(end, ".npy") == 0) return load_npy(L, path);
  if (strcasecmp(end, ".pth") == 0 || strcasecmp(end, ".pt") == 0 ||
      strcasecmp(end, ".bin") == 0) {
    return load_pth(L, path);
  }
  return luaL_error(
      L, "load: %s: the extension is none of .safetensors .npy .pth .pt .bin", path);
}

/* ---- save ---- */

/* `t` is contiguous and on the host. */
static lm_source source_of(const lm_tensor *t, const char *name)
{
  lm_source s = {.name = name, .dtype = t->dtype, .ndim = t->ndim};
  memcpy(s.shape, t->shape, sizeof s.shape);
  s.data = lm_numel(t) > 0 ? lm_data(t) : NULL;
  return s;
}

/* The key at `index` as a C string that its table keeps. */
static const char *check_key(lua_State *L, int index, const char *what)
{
  size_t n = 0;
  const char *key =
      lua_type(L, index) == LUA_TSTRING ? lua_tolstring(L, index, &n) : NULL;
  if (!key || strlen(key) != n) {
    luaL_error(L, "save: the names of %s must be strings without NUL, found a %s", what,
               luaL_typename(L, index));
  }
  return key;
}

static int64_t count_keys(lua_State *L, int index)
{
  int64_t n = 0;
  lua_pushnil(L);
  while (lua_next(L, index)) {
    n++;
    lua_pop(L, 1);
  }
  return n;
}

/* Arrays over the tables at 2 and 3; host copies of tensors are kept in a table on the
 * stack. The order of lua_next does not matter: the writer sorts. */
static lm_source *collect_tensors(lua_State *L, int64_t count)
{
  lm_source *list = lua_newuserdatauv(L, ((size_t)count + 1) * sizeof *list, 0);
  lua_newtable(L);
  int kept = lua_gettop(L);
  int64_t i = 0;
  lua_pushnil(L);
  while (lua_next(L, 2)) {
    const char *name = check_key(L, -2, "tensors");
    if (!lm_test_tensor(L, -1)) {
      luaL_error(L, "save: '%s' is not a tensor but a %s", name, luaL_typename(L, -1));
    }
    list[i++] = source_of(lm_check_host(L, -1, LM_DTYPE_COUNT), name);
    lua_rawseti(L, kept, i);
    lua_pop(L, 1);
  }
  return list;
}

static lm_pair *collect_metadata(lua_State *L, int64_t count)
{
  lm_pair *list = lua_newuserdatauv(L, ((size_t)count + 1) * sizeof *list, 0);
  int64_t i = 0;
  lua_pushnil(L);
  while (count > 0 && lua_next(L, 3)) {
    const char *key = check_key(L, -2, "metadata"), *value = check_key(L, -1, "metadata");
    list[i++] = (lm_pair){(char *)(uintptr_t)key, (char *)(uintptr_t)value};
    lua_pop(L, 1);
  }
  return list;
}

static int save_safetensors(lua_State *L, const char *path)
{
  luaL_argcheck(L, lua_istable(L, 2), 2, "a table of tensors expected");
  bool has_metadata = !lua_isnoneornil(L, 3);
  luaL_argcheck(L, !has_metadata || lua_istable(L, 3), 3, "a table of strings expected");
  lua_settop(L, 3);
  int64_t count = count_keys(L, 2), metadata_count = has_metadata ? count_keys(L, 3) : 0;
  lm_source *tensors = collect_tensors(L, count);
  lm_pair *metadata = collect_metadata(L, metadata_count);
  lm_check(L, lm_safetensors_save(path, tensors, count, metadata, metadata_count));
  return 0;
}

LM_DOC(core_save,
       "path: str, tensors: table|tensor, metadata: table?\n"
       "Writes tensors: save(\"x.safetensors\", {name = tensor}, {key = \"text\"}) or "
       "save(\"x.npy\", tensor). The file appears whole or not at all; the same tensors give "
       "the same bytes.\n"
       "> path = os.tmpname() .. \".safetensors\"\n"
       "> lumen.save(path, {weight = lumen.ones(2, 2)}, {made_by = \"demo\"})\n"
       "> tensors, metadata = lumen.load(path)\n"
       "> tensors.weight, metadata.made_by\n"
       "f32 [2 x 2] {1, 1, 1, 1}\n"
       "demo");
static int core_save(lua_State *L)
{
  const char *path = luaL_checkstring(L, 1), *end = extension(path);
  if (strcasecmp(end, ".safetensors") == 0) return save_safetensors(L, path);
  if (strcasecmp(end, ".npy") != 0) {
    return luaL_error(L, "save: %s: the extension is neither .safetensors nor .npy",
                      path);
  }
  lm_check_tensor(L, 2);
  lm_source s = source_of(lm_check_host(L, 2, LM_DTYPE_COUNT), "");
  lm_check(L, lm_npy_save(path, &s));
  return 0;
}

/* ---- pictures ---- */

typedef struct image_options {
  bool grey, real;
} image_options;

static image_options read_image_options(lua_State *L, const char *function)
{
  static const char *const keys[] = {"grey", "dtype", NULL};
  lm_check_keys(L, 2, function, keys);
  const char *dtype = lm_opt_string(L, 2, "dtype", "u8");
  bool real = strcmp(dtype, "f32") == 0;
  if (!real && strcmp(dtype, "u8") != 0) {
    luaL_error(L, "%s: dtype must be 'u8' or 'f32', not '%s'", function, dtype);
  }
  return (image_options){lm_opt_bool(L, 2, "grey", false), real};
}

static int push_image(lua_State *L, lm_image *image, int held, bool real)
{
  int64_t shape[3] = {image->height, image->width, image->channels};
  int ndim = image->channels == 1 ? 2 : 3;
  lm_tensor *t = lm_new_tensor(L, real ? LM_F32 : LM_U8, ndim, shape);
  if (real) {
    lm_image_to_f32(image, lm_data(t));
  } else {
    lm_image_reduce(image);
    memcpy(lm_data(t), image->pixels, (size_t)lm_numel(t));
  }
  lm_close_guard(L, held);
  return 1;
}

LM_DOC(image_load,
       "path: str; grey: bool = false, dtype: str = u8 -> tensor\n"
       "A PNG, JPEG, BMP, PGM or PPM file as [H, W] or [H, W, 3]. dtype u8: 16-bit files "
       "are scaled to 0 .. 255 and rounded; f32: 0 to 1, all bits kept. grey: colours "
       "become luma, as Pillow's \"L\". Raises for broken files and for more than 2^28 "
       "pixels, naming the file.\n"
       "> path = os.tmpname() .. \".png\"\n"
       "> lumen.image.save(path, lumen.vision.phantom{size = 64}.image)\n"
       "> lumen.image.load(path).shape\n"
       "{64, 64}");
static int image_load(lua_State *L)
{
  const char *path = luaL_checkstring(L, 1);
  image_options o = read_image_options(L, "image.load");
  lm_image *image = lm_push_guard(L, sizeof *image, close_image);
  int held = lua_gettop(L);
  lm_check(L, lm_image_load(image, path, o.grey));
  return push_image(L, image, held, o.real);
}

LM_DOC(image_decode,
       "bytes: str; grey: bool = false, dtype: str = u8 -> tensor\n"
       "As image.load, from the content of a file.\n"
       "> lumen.image.decode(\"P2 3 1 255\\n0 128 255\\n\")\n"
       "u8 [1 x 3] {0, 128, 255}");
static int image_decode(lua_State *L)
{
  size_t size = 0;
  const char *bytes = luaL_checklstring(L, 1, &size);
  image_options o = read_image_options(L, "image.decode");
  lm_image *image = lm_push_guard(L, sizeof *image, close_image);
  int held = lua_gettop(L);
  lm_check(L, lm_image_decode(image, bytes, size, "image.decode", o.grey));
  return push_image(L, image, held, o.real);
}

/* Quantise 0..1 to 0..255: rounded, clamped. */
static uint8_t *quantise(lua_State *L, const lm_tensor *t)
{
  int64_t n = lm_numel(t);
  const float *from = lm_data(t);
  uint8_t *to = lua_newuserdatauv(L, (size_t)n, 0);
  for (int64_t i = 0; i < n; i++) {
    float v = from[i];
    if (isnan(v)) {
      luaL_error(L, "image.save: element %I is NaN (%s)", (lua_Integer)i + 1,
                 lm_describe(t));
    }
    to[i] = (uint8_t)(v <= 0.0f ? 0.0f : v >= 1.0f ? 255.0f : v * 255.0f + 0.5f);
  }
  return to;
}

LM_DOC(image_save,
       "path: str, x; quality: int = 95\n"
       "Writes a picture: u8, or floats in 0 .. 1 (clamped), [H, W] or [H, W, 3]. The "
       "extension says the format: .png, .jpg, .jpeg, grey .pgm, colour .ppm. Raises for "
       "NaN and other shapes.\n"
       "> path = os.tmpname() .. \".png\"\n"
       "> lumen.image.save(path, lumen.rand(48, 64))\n"
       "> lumen.image.load(path).shape\n"
       "{48, 64}");
static int image_save(lua_State *L)
{
  static const char *const keys[] = {"quality", NULL};
  const char *path = luaL_checkstring(L, 1);
  lm_tensor *x = lm_check_tensor(L, 2);
  lm_check_keys(L, 3, "image.save", keys);
  int quality = (int)lm_opt_int(L, 3, "quality", 95);
  bool shaped = x->ndim == 2 || (x->ndim == 3 && (x->shape[2] == 3 || x->shape[2] == 1));
  if (!shaped || lm_numel(x) == 0 ||
      (x->dtype != LM_U8 && !lm_dtype_is_float(x->dtype))) {
    luaL_error(L, "image.save: a picture is u8 or float [H x W] or [H x W x 3], not %s",
               lm_describe(x));
  }
  lm_tensor *t = lm_check_host(L, 2, x->dtype == LM_U8 ? LM_U8 : LM_F32);
  lm_image image = {t->shape[0], t->shape[1], t->ndim == 3 ? (int)t->shape[2] : 1, 8,
                    NULL};
  image.pixels = t->dtype == LM_U8 ? lm_data(t) : quantise(L, t);
  lm_check(L, lm_image_save(&image, path, quality));
  return 0;
}

void lm_bind_io(lua_State *L)
{
  static const lm_function functions[] = {
      {"load", core_load, core_load_doc},
      {"save", core_save, core_save_doc},
      {0}};
  static const lm_function image[] = {
      {"load", image_load, image_load_doc},
      {"decode", image_decode, image_decode_doc},
      {"save", image_save, image_save_doc},
      {0}};
  lm_set_functions(L, "", functions);
  lm_subtable(L, lua_gettop(L), "image");
  lm_set_functions(L, "image", image);
  lua_pop(L, 1);
  luaL_newmetatable(L, OPAQUE);
  lua_pushcfunction(L, opaque_tostring);
  lua_setfield(L, -2, "__tostring");
  lua_pop(L, 1);
  lm_bind_fs(L);
}
