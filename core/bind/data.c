/* data.c: lumen.data's loader in Lua: options in, batches of tensors out. */
#include <stdlib.h>
#include <string.h>

#include "bind/bind.h"
#include "io/file.h"
#include "io/loader.h"

#define CLASS "lumen.loader"

typedef struct handle {
  lm_loader *loader;  /* NULL when closed */
  lua_Integer epochs; /* how often epoch() was called: an iterator knows when it is outdated */
} handle;

static handle *check_handle(lua_State *L)
{
  handle *h = luaL_checkudata(L, 1, CLASS);
  if (!h->loader) luaL_error(L, "this loader is closed");
  return h;
}

lm_loader *lm_check_loader(lua_State *L, int index)
{
  handle *h = luaL_checkudata(L, index, CLASS);
  if (!h->loader) luaL_error(L, "this loader is closed");
  return h->loader;
}

static lm_loader *check_loader(lua_State *L)
{
  return lm_check_loader(L, 1);
}

LM_DOC(loader_close,
       "loader\n"
       "Ends the threads and frees the memory now; a loader that is collected does it by "
       "itself.\n"
       "> loader = lumen.data.loader{ source = {kind = \"phantom\", count = 3}, size = 32 }\n"
       "> loader:close()");
static int loader_close(lua_State *L)
{
  handle *h = luaL_checkudata(L, 1, CLASS);
  lm_loader_free(h->loader);
  h->loader = NULL;
  return 0;
}

/* ---- options ---- */

static const char *const keys[] = {
    "source", "subset", "batch", "size", "seed", "threads", "shuffle", "drop_last", "crop",
    "flip", "augment", "filter", "channels", "mean", "std", "pseudo_mask", "vessel", "broken",
    "cache", "memory", "vesselness", NULL};

static void read_pair(lua_State *L, int index, const char *name, double *pair)
{
  int n = lm_opt_numbers(L, index, name, 2, pair);
  if (n != -1 && n != 2) luaL_error(L, "loader: %s needs two numbers", name);
}

static void read_crop(lua_State *L, lm_loader_options *o)
{
  static const char *const crop_keys[] = {"scale", "ratio", NULL};
  if (lua_getfield(L, 1, "crop") == LUA_TTABLE) {
    int index = lua_gettop(L);
    lm_check_keys(L, index, "loader: crop", crop_keys);
    o->crop = true;
    read_pair(L, index, "scale", o->scale);
    read_pair(L, index, "ratio", o->ratio);
  } else if (lua_toboolean(L, -1)) {
    luaL_error(L, "loader: crop must be a table {scale=, ratio=} or false");
  }
  lua_pop(L, 1);
}

/* A number 0..high of the table at `index`. */
static double share_in(lua_State *L, int index, const char *name, double otherwise, double high)
{
  double v = lm_opt_number(L, index, name, otherwise);
  if (!(v >= 0 && v <= high))
    luaL_error(L, "loader: augment: %s must be 0 to %f, not %f", name, high, v);
  return v;
}

static void read_augment(lua_State *L, lm_augment *a)
{
  static const char *const augment_keys[] = {"rotate", "shift", "scale", "brightness", "contrast",
                                             "probability", NULL};
  if (lua_getfield(L, 1, "augment") == LUA_TTABLE) {
    int index = lua_gettop(L);
    lm_check_keys(L, index, "loader: augment", augment_keys);
    a->rotate = share_in(L, index, "rotate", 0, 180);
    a->shift = share_in(L, index, "shift", 0, 1);
    a->scale = share_in(L, index, "scale", 0, 0.9);
    a->brightness = share_in(L, index, "brightness", 0, 1);
    a->contrast = share_in(L, index, "contrast", 0, 1);
    a->probability = share_in(L, index, "probability", 1, 1);
  } else if (lua_toboolean(L, -1)) {
    luaL_error(L, "loader: augment must be a table {rotate=, shift=, scale=, brightness=, "
               "contrast=, probability=} or false");
  }
  lua_pop(L, 1);
}

static void read_vessel(lua_State *L, lm_vessel_options *v)
{
  static const char *const vessel_keys[] = {"sigmas", "percentile", "border", "published", NULL};
  *v = lm_vessel_defaults();
  if (lua_getfield(L, 1, "vessel") == LUA_TTABLE) {
    int index = lua_gettop(L);
    lm_check_keys(L, index, "loader: vessel", vessel_keys);
    int n = lm_opt_numbers(L, index, "sigmas", LM_VESSEL_SIGMAS, v->sigmas);
    if (n >= 0) v->count = n;
    v->percentile = lm_opt_number(L, index, "percentile", v->percentile);
    v->border = lm_opt_number(L, index, "border", v->border);
    v->published = lm_opt_bool(L, index, "published", v->published);
  } else if (!lua_isnil(L, -1)) {
    luaL_error(L, "loader: vessel must be a table");
  }
  lua_pop(L, 1);
}

static void read_normalisation(lua_State *L, lm_loader_options *o)
{
  const char *const names[2] = {"mean", "std"};
  for (int k = 0; k < 2; k++) {
    double v[3];
    float *to = k ? o->std : o->mean;
    int n = lm_opt_numbers(L, 1, names[k], 3, v);
    if (n != -1 && n != 1 && n != o->channels)
      luaL_error(L, "loader: %s needs 1 or %d numbers", names[k], o->channels);
    for (int c = 0; c < 3; c++) to[c] = n == -1 ? (float)k : (float)v[n == 1 ? 0 : c];
  }
}

static int64_t integer_in(lua_State *L, const char *name, int64_t otherwise, int64_t low,
                          int64_t high)
{
  int64_t v = lm_opt_int(L, 1, name, otherwise);
  if (v < low || v > high)
    luaL_error(L, "loader: %s must be %I to %I, not %I", name, (lua_Integer)low,
               (lua_Integer)high, (lua_Integer)v);
  return v;
}

static void read_options(lua_State *L, lm_loader_options *o)
{
  lm_check_keys(L, 1, "loader", keys);
  *o = (lm_loader_options){.scale = {0.2, 1}, .ratio = {3.0 / 4, 4.0 / 3}};
  o->batch = lm_opt_int(L, 1, "batch", 1);
  o->size = lm_opt_int(L, 1, "size", 224);
  o->seed = (uint64_t)lm_opt_int(L, 1, "seed", 0);
  o->threads = (int)integer_in(L, "threads", 1, 0, 256);
  o->shuffle = lm_opt_bool(L, 1, "shuffle", false);
  o->drop_last = lm_opt_bool(L, 1, "drop_last", false);
  o->flip = lm_opt_number(L, 1, "flip", 0);
  o->channels = (int)integer_in(L, "channels", 3, 1, 3);
  o->pseudo_mask = lm_opt_bool(L, 1, "pseudo_mask", false);
  o->vesselness = lm_opt_bool(L, 1, "vesselness", false);
  o->cache = lm_opt_string(L, 1, "cache", NULL);
  o->memory = (size_t)integer_in(L, "memory", (int64_t)1 << 30, 0, INT64_MAX);
  const char *filter = lm_opt_string(L, 1, "filter", "bicubic");
  o->filter = lm_filter_parse(filter);
  if (o->filter == LM_FILTER_COUNT)
    luaL_error(L, "loader: unknown filter '%s' (nearest, bilinear, bicubic, lanczos)", filter);
  const char *broken = lm_opt_string(L, 1, "broken", "error");
  o->skip_broken = strcmp(broken, "skip") == 0;
  if (!o->skip_broken && strcmp(broken, "error") != 0)
    luaL_error(L, "loader: broken must be \"skip\" or \"error\", not '%s'", broken);
  read_crop(L, o);
  read_augment(L, &o->augment);
  read_vessel(L, &o->vessel);
  read_normalisation(L, o);
}

/* ---- sources ---- */

static const char *required(lua_State *L, int index, const char *name, const char *kind)
{
  const char *s = lm_opt_string(L, index, name, NULL);
  if (!s) luaL_error(L, "loader: a source of kind \"%s\" needs %s", kind, name);
  return s;
}

static void read_phantom(lua_State *L, int index, lm_loader_options *o)
{
  static const char *const phantom_keys[] = {"kind", "count", "first", "seed", "preset", "size",
                                             NULL};
  lm_check_keys(L, index, "loader: source", phantom_keys);
  const char *preset = lm_opt_string(L, index, "preset", "default");
  o->is_phantom = true;
  o->phantom.hard = strcmp(preset, "hard") == 0;
  if (!o->phantom.hard && strcmp(preset, "default") != 0)
    luaL_error(L, "loader: the phantom has the presets default and hard, not '%s'", preset);
  o->phantom.size = lm_opt_int(L, index, "size", o->size);
  o->phantom_seed = (uint64_t)lm_opt_int(L, index, "seed", 0);
}

/* rated: {kind = "rated", metrics =, files =}; how many scores an image has. */
static void read_rated(lua_State *L, int index, const char *kind, lm_loader_options *o)
{
  int64_t metrics = LM_RATED_METRICS;
  if (strcmp(kind, "rated") == 0) metrics = lm_opt_int(L, index, "metrics", 0);
  if (metrics < 0 || metrics > LM_LOADER_METRICS)
    luaL_error(L, "loader: source: metrics must be 0 to %d, not %I", LM_LOADER_METRICS,
               (lua_Integer)metrics);
  o->rated = true;
  o->metrics = (int)metrics;
}

/* Of a source of files: classes = K when their masks hold class numbers 0..K. */
static lm_status set_classes(lua_State *L, int index, lm_loader *l)
{
  int64_t classes = lm_opt_int(L, index, "classes", 0);
  if (classes < 0 || classes > 254)
    luaL_error(L, "loader: source: classes must be 0 to 254, not %I", (lua_Integer)classes);
  return lm_loader_set_classes(l, (int)classes);
}

/* files = {"a.png", ...} or {{"a.png", "its mask.png"}, ...} */
static lm_status add_files(lua_State *L, int index, lm_loader *l)
{
  static const char *const files_keys[] = {"kind", "files", "classes", NULL};
  lm_check_keys(L, index, "loader: source", files_keys);
  LM_TRY(set_classes(L, index, l));
  if (lua_getfield(L, index, "files") != LUA_TTABLE)
    luaL_error(L, "loader: a source of kind \"files\" needs files, a list");
  int list = lua_gettop(L);
  lua_Integer count = luaL_len(L, list);
  for (lua_Integer i = 1; i <= count; i++) {
    bool pair = lua_geti(L, list, i) == LUA_TTABLE;
    int row = lua_gettop(L);
    if (pair) lua_geti(L, row, 1);
    if (pair) lua_geti(L, row, 2);
    const char *image = lua_tostring(L, pair ? -2 : -1);
    const char *mask = pair ? lua_tostring(L, -1) : NULL;
    if (!image) luaL_error(L, "loader: row %I of files has no path", i);
    LM_TRY(lm_loader_add(l, image, mask));
    lua_settop(L, list);
  }
  return count > 0 ? LM_OK : lm_fail(LM_ERR_ARG, "loader: a source without files");
}

/* The path in field `name` of the row on top, or NULL; it stays on the stack. */
static const char *path_in(lua_State *L, int row, lua_Integer i, const char *name)
{
  int type = lua_getfield(L, row, name);
  if (type != LUA_TSTRING && type != LUA_TNIL && (type != LUA_TBOOLEAN || lua_toboolean(L, -1)))
    luaL_error(L, "loader: row %I of files: %s must be a path", i, name);
  return type == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
}

/* files = {{image =, source =, contrast =, scores = {..}}, ...} */
static lm_status add_rated(lua_State *L, int index, lm_loader *l)
{
  static const char *const rated_keys[] = {"kind", "metrics", "files", NULL};
  static const char *const row_keys[] = {"image", "source", "contrast", "scores", NULL};
  lm_check_keys(L, index, "loader: source", rated_keys);
  if (lua_getfield(L, index, "files") != LUA_TTABLE)
    luaL_error(L, "loader: a source of kind \"rated\" needs files, a list");
  int list = lua_gettop(L), metrics = lm_loader_settings(l)->metrics;
  lua_Integer count = luaL_len(L, list);
  for (lua_Integer i = 1; i <= count; i++) {
    if (lua_geti(L, list, i) != LUA_TTABLE) luaL_error(L, "loader: row %I of files is no table", i);
    int row = lua_gettop(L);
    lm_check_keys(L, row, "loader: row of files", row_keys);
    const char *image = path_in(L, row, i, "image");
    const char *reference[LM_LOADER_REFERENCES] = {path_in(L, row, i, "source"),
                                                   path_in(L, row, i, "contrast")};
    double score[LM_LOADER_METRICS] = {0};
    float values[LM_LOADER_METRICS];
    int n = lm_opt_numbers(L, row, "scores", LM_LOADER_METRICS, score);
    if (!image) luaL_error(L, "loader: row %I of files has no image", i);
    if ((n == -1 ? 0 : n) != metrics)
      luaL_error(L, "loader: row %I of files has %d scores, not %d", i, n == -1 ? 0 : n, metrics);
    for (int k = 0; k < metrics; k++) values[k] = (float)score[k];
    LM_TRY(lm_loader_add_rated(l, image, reference, values));
    lua_settop(L, list);
  }
  return count > 0 ? LM_OK : lm_fail(LM_ERR_ARG, "loader: a source without files");
}

static lm_status add_source(lua_State *L, int index, const char *kind, lm_loader *l)
{
  static const char *const folder_keys[] = {"kind", "images", "masks", "classes", NULL};
  static const char *const csv_keys[] = {"kind", "path", "classes", NULL};
  static const char *const pack_keys[] = {"kind", "path", "split", "masks", NULL};
  if (strcmp(kind, "phantom") == 0 || strcmp(kind, "rated_phantom") == 0)
    return lm_loader_add_phantoms(l, lm_opt_int(L, index, "first", 0),
                                  lm_opt_int(L, index, "count", 1000));
  if (strcmp(kind, "folder") == 0) {
    lm_check_keys(L, index, "loader: source", folder_keys);
    LM_TRY(set_classes(L, index, l));
    return lm_loader_add_folder(l, required(L, index, "images", kind),
                                lm_opt_string(L, index, "masks", NULL));
  }
  if (strcmp(kind, "list") == 0) {
    lm_check_keys(L, index, "loader: source", csv_keys);
    LM_TRY(set_classes(L, index, l));
    return lm_loader_add_csv(l, required(L, index, "path", kind));
  }
  if (strcmp(kind, "rated") == 0) return add_rated(L, index, l);
  if (strcmp(kind, "files") == 0) return add_files(L, index, l);
  if (strcmp(kind, "coco") == 0) return lm_add_coco(L, index, l);
  if (strcmp(kind, "pack") == 0) {
    lm_check_keys(L, index, "loader: source", pack_keys);
    return lm_loader_add_pack(l, required(L, index, "path", kind),
                              lm_opt_string(L, index, "split", NULL),
                              lm_opt_bool(L, index, "masks", true));
  }
  luaL_error(L, "loader: unknown kind of source '%s' (folder, files, list, coco, pack, rated, "
             "phantom, rated_phantom)", kind);
  return LM_ERR_ARG;
}

/* The table at `index`: one source, or a list of sources whose items follow each other. */
static lm_status add_sources(lua_State *L, int index, const char *kind, lm_loader *l)
{
  if (kind) return add_source(L, index, kind, l);
  lua_Integer count = luaL_len(L, index);
  for (lua_Integer i = 1; i <= count; i++) {
    if (lua_geti(L, index, i) != LUA_TTABLE)
      luaL_error(L, "loader: entry %I of the list of sources is no table", i);
    int entry = lua_gettop(L);
    kind = lm_opt_string(L, entry, "kind", NULL);
    if (!kind || strstr(kind, "phantom") || strcmp(kind, "rated") == 0)
      luaL_error(L, "loader: entry %I of the list of sources %s", i,
                 kind ? "is a phantom or rated: those cannot be joined with others" : "has no kind");
    LM_TRY(add_source(L, entry, kind, l));
    lua_settop(L, entry - 1);
  }
  return LM_OK;
}

/* subset = {first=, last=} (1-based, inclusive) or an i64 tensor of 0-based items. */
static lm_status select_subset(lua_State *L, lm_loader *l)
{
  static const char *const subset_keys[] = {"first", "last", NULL};
  int type = lua_getfield(L, 1, "subset");
  if (type == LUA_TNIL) return LM_OK;
  if (type == LUA_TUSERDATA) {
    lm_tensor *t = lm_check_host(L, -1, LM_I64);
    return lm_loader_select(l, lm_data(t), lm_numel(t));
  }
  int index = lua_gettop(L);
  lm_check_keys(L, index, "loader: subset", subset_keys);
  int64_t count = lm_loader_count(l), first = lm_opt_int(L, index, "first", 1);
  int64_t last = lm_opt_int(L, index, "last", count);
  if (first < 1 || last > count || last < first)
    luaL_error(L, "loader: subset %I to %I of %I images", (lua_Integer)first, (lua_Integer)last,
               (lua_Integer)count);
  int64_t n = last - first + 1;
  int64_t *items = lua_newuserdatauv(L, (size_t)n * sizeof *items, 0);
  for (int64_t i = 0; i < n; i++) items[i] = first - 1 + i;
  return lm_loader_select(l, items, n);
}

LM_DOC(core_loader,
       "; source: table, subset: table|tensor, batch: int = 1, size: int = 224, seed: "
       "int = 0, threads: int = 1, shuffle: bool = false, drop_last: bool = false, crop: "
       "table|bool = false, flip: float = 0, augment: table|bool = false, filter: str = bicubic, "
       "vesselness: bool = false, "
       "channels: int = 3, mean: floats, std: floats, pseudo_mask: bool = false, vessel: table, "
       "broken: str = error, cache: str, memory: int -> loader\n"
       "Reads images in threads of its own and hands out batches {image = f32 [N, C, size, "
       "size], mask =, vessel_mask = f32 [N, 1, size, size] of 0 and 1, index = i64 [N], "
       "0-based}. The same seed gives the same batches, whatever the number of threads. "
       "source: {kind = \"folder\", images =, masks =}, {kind = \"files\", files = {{image, "
       "mask}, ...}}, {kind = \"list\", path =} (CSV: image, mask), {kind = \"coco\", images =, "
       "annotations =, classes = \"binary\" or a list of categories' names and ids}, {kind = "
       "\"pack\", path =, split =, masks = true} (from lumen pack), {kind = \"phantom\", count =, "
       "first =, seed =, preset =, size =}, or a list of such sources. Rated images, {kind = "
       "\"rated\", metrics = K, files = {{image =, source =, contrast =, scores = {K numbers}}, "
       "...}} or {kind = \"rated_phantom\", count =, first =, seed =, preset =, size =} (as "
       "vision.rated_phantom), have no masks; their batches add source and contrast, the references "
       "cut and moved like image (zeros where there is none), has_source and has_contrast = f32 "
       "[N], 1 or 0, and scores = f32 [N, K]; vesselness adds a channel to all three: Sato's "
       "filter on the optical density, 0 to 1. subset: "
       "{first =, last =}, counted from 1, or items as i64, counted from 0. With classes, mask "
       "holds class numbers, 0 for background; for folder, files and list, classes = K says "
       "that the mask files hold 0..K. Other mask files hold 0 and 1, or are set above half of "
       "their range. Images of 16 bits are reduced over their full range. Masks of another size "
       "than their image, of other values or coloured, and images of 16 bits that use 12 are "
       "errors. crop = {scale = {low, high}, ratio = {low, high}}: random resized crops; flip: "
       "probability of a mirrored image. augment, after the crop: {rotate = degrees, shift = "
       "share of the side, scale = share, brightness = share of white, contrast = share, "
       "probability = 1}: amounts up to these on both sides, one map for image (bilinear) and "
       "masks (nearest), mirrored at the edges (ShiftScaleRotate and RandomBrightnessContrast "
       "of Albumentations; Buslaev et al. 2020). "
       "pseudo_mask adds vessel_mask (settings in vessel, as vision.vessel_mask; kept in "
       "the folder cache). broken images are an \"error\", or one warning with \"skip\".\n"
       "> source = {kind = \"phantom\", count = 6}\n"
       "> loader = lumen.data.loader{ source = source, batch = 4, size = 64, shuffle = true }\n"
       "> for batch in loader:epoch(1) do print(batch.image.shape, batch.mask:max():item()) end\n"
       "{4, 3, 64, 64}	1.0\n"
       "{2, 3, 64, 64}	1.0");
static int core_loader(lua_State *L)
{
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  lm_loader_options o;
  read_options(L, &o);
  if (lua_getfield(L, 1, "source") != LUA_TTABLE)
    luaL_error(L, "loader: source must be a table {kind=, ...}");
  int source = lua_gettop(L);
  const char *kind = lm_opt_string(L, source, "kind", NULL);
  if (!kind && luaL_len(L, source) == 0)
    luaL_error(L, "loader: source needs kind = \"folder\", \"files\", \"list\", \"coco\", "
               "\"pack\", \"rated\", \"phantom\" or \"rated_phantom\"");
  if (kind && strstr(kind, "rated")) read_rated(L, source, kind, &o);
  if (kind && strstr(kind, "phantom")) read_phantom(L, source, &o);
  if (!o.pseudo_mask) o.cache = NULL;
  if (o.cache && lm_dir_make(o.cache) != LM_OK) {
    lm_log(LM_LOG_WARN, "vessel masks are not cached: %s", lm_last_error()->message);
    o.cache = NULL;
  }
  handle *h = lua_newuserdatauv(L, sizeof *h, 0);
  *h = (handle){0};
  luaL_setmetatable(L, CLASS);
  int result = lua_gettop(L);
  lm_check(L, lm_loader_new(&o, &h->loader));
  lm_check(L, add_sources(L, source, kind, h->loader));
  lm_check(L, select_subset(L, h->loader));
  lua_settop(L, result);
  return 1;
}

/* ---- batches ---- */

static void set_floats(lua_State *L, const char *name, const float *data, int64_t n, int64_t c,
                       int64_t side)
{
  if (!data) return;
  int64_t shape[4] = {n, c, side, side};
  lm_tensor *t = lm_new_tensor(L, LM_F32, 4, shape);
  lm_check(L, lm_tensor_write(t, data, (size_t)lm_numel(t) * sizeof *data));
  lua_setfield(L, -2, name);
}

static void set_rows(lua_State *L, const char *name, const float *data, int dims, int64_t n,
                     int64_t columns)
{
  int64_t shape[2] = {n, columns};
  lm_tensor *t = lm_new_tensor(L, LM_F32, dims, shape);
  if (n * columns > 0) lm_check(L, lm_tensor_write(t, data, (size_t)lm_numel(t) * sizeof *data));
  lua_setfield(L, -2, name);
}

static void set_rated(lua_State *L, const lm_loader_options *o, const lm_batch *b,
                      int64_t channels)
{
  static const char *const names[] = {"source", "contrast"};
  static const char *const flags[] = {"has_source", "has_contrast"};
  for (int k = 0; k < LM_LOADER_REFERENCES; k++) {
    set_floats(L, names[k], b->reference[k], b->n, channels, o->size);
    set_rows(L, flags[k], b->has[k], 1, b->n, 1);
  }
  if (o->metrics > 0) set_rows(L, "scores", b->scores, 2, b->n, o->metrics);
}

/* Upvalues: loader, channels, side, its number among the loader's epochs. */
static int next_batch(lua_State *L)
{
  lua_settop(L, 0);
  lua_pushvalue(L, lua_upvalueindex(1));
  lm_loader *l = check_loader(L);
  if (check_handle(L)->epochs != lua_tointeger(L, lua_upvalueindex(4)))
    return luaL_error(L, "this epoch was left: loader:epoch has been called again");
  int64_t channels = lua_tointeger(L, lua_upvalueindex(2));
  int64_t side = lua_tointeger(L, lua_upvalueindex(3));
  lm_batch b;
  bool done;
  lm_check(L, lm_loader_next(l, &b, &done));
  if (done) return 0;
  lua_newtable(L);
  set_floats(L, "image", b.image, b.n, channels, side);
  set_floats(L, "mask", b.mask, b.n, 1, side);
  set_floats(L, "vessel_mask", b.vessel_mask, b.n, 1, side);
  if (lm_loader_settings(l)->rated) set_rated(L, lm_loader_settings(l), &b, channels);
  lm_tensor *index = lm_new_tensor(L, LM_I64, 1, &b.n);
  lm_check(L, lm_tensor_write(index, b.index, (size_t)b.n * sizeof *b.index));
  lua_setfield(L, -2, "index");
  return 1;
}

LM_DOC(loader_epoch,
       "loader, epoch: int, first: int = 1 -> function\n"
       "An iterator over the batches of an epoch, from batch `first` on; both count from "
       "1. The order depends on (seed, epoch) alone, so a run can go on anywhere.\n"
       "> source = {kind = \"phantom\", count = 8}\n"
       "> loader = lumen.data.loader{ source = source, batch = 4, size = 32 }\n"
       "> for batch in loader:epoch(1, 2) do print(batch.index) end\n"
       "i64 [4] {4, 5, 6, 7}");
static int loader_epoch(lua_State *L)
{
  handle *h = check_handle(L);
  lm_loader *l = h->loader;
  h->epochs++;
  lm_check(L, lm_loader_start(l, luaL_checkinteger(L, 2), luaL_optinteger(L, 3, 1) - 1));
  const lm_loader_options *o = lm_loader_settings(l);
  lua_pushvalue(L, 1);
  lua_pushinteger(L, o->channels + o->vesselness);
  lua_pushinteger(L, o->size);
  lua_pushinteger(L, h->epochs);
  lua_pushcclosure(L, next_batch, 4);
  return 1;
}

LM_DOC(loader_batches,
       "loader -> int\n"
       "Batches per epoch.\n"
       "> source = {kind = \"phantom\", count = 10}\n"
       "> lumen.data.loader{ source = source, batch = 4, drop_last = true }:batches()\n"
       "2");
static int loader_batches(lua_State *L)
{
  lua_pushinteger(L, lm_loader_batches(check_loader(L)));
  return 1;
}

LM_DOC(loader_wait,
       "loader -> number\n"
       "Seconds that the consumer has waited for batches so far.\n"
       "> loader = lumen.data.loader{ source = {kind = \"phantom\", count = 1}, size = 32 }\n"
       "> loader:wait_seconds() >= 0\n"
       "true");
static int loader_wait(lua_State *L)
{
  lua_pushnumber(L, lm_loader_wait_seconds(check_loader(L)));
  return 1;
}

LM_DOC(loader_name,
       "loader, item: int -> str\n"
       "Path of an item, counted from 1 (batch.index counts from 0).\n"
       "> loader = lumen.data.loader{ source = {kind = \"phantom\", count = 3}, size = 32 }\n"
       "> loader:name(2)\n"
       "phantom:1");
static int loader_name(lua_State *L)
{
  lm_loader *l = check_loader(L);
  lua_Integer i = luaL_checkinteger(L, 2);
  luaL_argcheck(L, i >= 1 && i <= lm_loader_count(l), 2, "no such item");
  lua_pushstring(L, lm_loader_name(l, i - 1));
  return 1;
}

static void push_plane(lua_State *L, const lm_decoded *d, const uint8_t *from, bool classes)
{
  int64_t shape[2] = {d->height, d->width};
  uint8_t *to = lm_data(lm_new_tensor(L, LM_U8, 2, shape));
  for (int64_t k = 0, n = d->height * d->width; k < n; k++) to[k] = classes ? from[k] : from[k] != 0;
}

/* Arguments: the decoded image in its box, the loader's number of classes. */
static int push_whole(lua_State *L)
{
  const lm_decoded *d = *(lm_decoded **)lua_touserdata(L, 1);
  push_plane(L, d, d->image, true);
  if (d->mask) push_plane(L, d, d->mask, lua_tointeger(L, 2) > 0);
  else lua_pushnil(L);
  if (d->vessel_mask) push_plane(L, d, d->vessel_mask, false);
  else lua_pushnil(L);
  return 3;
}

LM_DOC(loader_whole,
       "(i) -> image, mask, vessel_mask\n"
       "Item i (from 1) as it is stored, whole and unchanged: image u8 [H, W], mask u8 (0 and 1, or\n"
       "class numbers) and vessel mask u8 (0 and 1), nil where the loader has none. Errors name the\n"
       "file.\n"
       "> loader = lumen.data.loader{ source = {kind = \"phantom\", count = 5, size = 96}, size = 32 }\n"
       "> image, mask = loader:whole(2)\n"
       "> image.shape, mask:max():item()\n"
       "{96, 96}\n"
       "1");

static int loader_whole(lua_State *L)
{
  lm_loader *l = check_loader(L);
  lua_Integer i = luaL_checkinteger(L, 2);
  luaL_argcheck(L, i >= 1 && i <= lm_loader_count(l), 2, "no such item");
  lm_decoded *d = NULL;
  lm_check(L, lm_loader_whole(l, i - 1, &d));
  lua_pushcfunction(L, push_whole);
  lua_pushlightuserdata(L, &d);
  lua_pushinteger(L, lm_loader_classes(l));
  int status = lua_pcall(L, 2, 3, 0); /* out of memory: the image must be freed all the same */
  lm_decoded_free(d);
  return status == LUA_OK ? 3 : lua_error(L);
}

/* Arguments: the decoded image in its box, the loader's number of metrics. */
static int push_rated(lua_State *L)
{
  static const char *const names[] = {"source", "contrast"};
  const lm_decoded *d = *(lm_decoded **)lua_touserdata(L, 1);
  int64_t metrics = lua_tointeger(L, 2);
  lua_createtable(L, 0, 4);
  push_plane(L, d, d->image, true);
  lua_setfield(L, -2, "image");
  for (int k = 0; k < LM_LOADER_REFERENCES; k++) {
    if (!d->reference[k]) continue;
    push_plane(L, d, d->reference[k], true);
    lua_setfield(L, -2, names[k]);
  }
  if (metrics > 0) set_rows(L, "scores", d->score, 1, metrics, 1);
  return 1;
}

LM_DOC(loader_rated,
       "(i) -> table\n"
       "Item i (from 1) of a loader of rated images, whole and unchanged: {image =, source =, "
       "contrast =} u8 [H, W], references of the image's size or nil, scores f32 [K]. Errors name "
       "the file.\n"
       "> loader = lumen.data.loader{ source = {kind = \"rated_phantom\", count = 5}, size = 32 }\n"
       "> r = loader:rated(2)\n"
       "> r.contrast.shape, r.scores.shape\n"
       "{32, 32}\n"
       "{3}");

static int loader_rated(lua_State *L)
{
  lm_loader *l = check_loader(L);
  lua_Integer i = luaL_checkinteger(L, 2);
  luaL_argcheck(L, i >= 1 && i <= lm_loader_count(l), 2, "no such item");
  luaL_argcheck(L, lm_loader_settings(l)->rated, 1, "not a loader of rated images");
  lm_decoded *d = NULL;
  lm_check(L, lm_loader_whole(l, i - 1, &d));
  lua_pushcfunction(L, push_rated);
  lua_pushlightuserdata(L, &d);
  lua_pushinteger(L, lm_loader_settings(l)->metrics);
  int status = lua_pcall(L, 2, 1, 0); /* out of memory: the image must be freed all the same */
  lm_decoded_free(d);
  return status == LUA_OK ? 1 : lua_error(L);
}

static int loader_length(lua_State *L)
{
  lua_pushinteger(L, lm_loader_count(check_loader(L)));
  return 1;
}

LM_DOC(loader_classes,
       "loader -> int\n"
       "Number of classes in the masks besides the background; 0: they hold 0 and 1.\n"
       "> lumen.data.loader{ source = {kind = \"phantom\", count = 3}, size = 32 }:classes()\n"
       "0");
static int loader_classes(lua_State *L)
{
  lua_pushinteger(L, lm_loader_classes(check_loader(L)));
  return 1;
}

LM_DOC(loader_has_masks,
       "loader -> bool\n"
       "Whether batches carry `mask`.\n"
       "> lumen.data.loader{ source = {kind = \"phantom\", count = 3}, size = 32 }:has_masks()\n"
       "true");
static int loader_has_masks(lua_State *L)
{
  lua_pushboolean(L, lm_loader_has_masks(check_loader(L)));
  return 1;
}

LM_DOC(loader_class,
       "-> loader\n"
       "What lumen.data.loader returns; #loader is the number of items.\n"
       "> #lumen.data.loader{ source = {kind = \"phantom\", count = 5}, size = 32 }\n"
       "5");

void lm_bind_data(lua_State *L)
{
  static const lm_function methods[] = {
      {"", NULL, loader_class_doc},
      {"epoch", loader_epoch, loader_epoch_doc},
      {"batches", loader_batches, loader_batches_doc},
      {"wait_seconds", loader_wait, loader_wait_doc},
      {"name", loader_name, loader_name_doc},
      {"whole", loader_whole, loader_whole_doc},
      {"rated", loader_rated, loader_rated_doc},
      {"has_masks", loader_has_masks, loader_has_masks_doc},
      {"classes", loader_classes, loader_classes_doc},
      {"close", loader_close, loader_close_doc},
      {0}};
  static const luaL_Reg events[] = {{"__gc", loader_close}, {"__close", loader_close},
                                    {"__len", loader_length}, {NULL, NULL}};
  luaL_newmetatable(L, CLASS);
  luaL_setfuncs(L, events, 0);
  lua_newtable(L);
  lm_set_functions(L, "Loader", methods);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
  static const lm_function functions[] = {{"loader", core_loader, core_loader_doc}, {0}};
  lm_subtable(L, -1, "data");
  lm_set_functions(L, "data", functions);
  lua_pop(L, 1);
  lm_bind_coco(L);
  lm_bind_pack(L);
}
