/* vision.c: lumen.vision (filters and masks) and lumen.image.resize, crop_resize.
 *
 * Images and masks are tensors [height, width], or [n, 1, height, width] for n at once,
 * of any element type; results have the same shape. Work runs on the CPU, outside
 * autograd. */
#include "bind/bind.h"

#include "vision/morphology.h"
#include "vision/plane.h"
#include "vision/resample.h"
#include "vision/ridge.h"
#include "vision/vessel_mask.h"

#include <inttypes.h>

typedef struct planes {
  lm_tensor *tensor; /* contiguous, on the CPU; its handle is on the stack */
  int64_t count, height, width;
} planes;

/* The argument at `index` as `dtype` (LM_DTYPE_COUNT: as it is), left on the stack. */
static planes check_planes(lua_State *L, int index, const char *who, const char *what,
                           lm_dtype dtype)
{
  const lm_tensor *t = lm_check_tensor(L, index);
  if (t->ndim != 2 && !(t->ndim == 4 && t->shape[1] == 1)) {
    lm_fail(LM_ERR_SHAPE, "%s: %s must be [H, W] or [N, 1, H, W], not %s", who, what,
            lm_describe(t));
    lm_raise(L);
  }
  planes p = {.count = t->ndim == 4 ? t->shape[0] : 1,
              .height = lm_size(t, -2),
              .width = lm_size(t, -1)};
  p.tensor = lm_check_host(L, index, dtype);
  return p;
}

/* Set where the argument is not zero: u8 as it is, other types compared in f64. */
static planes check_mask(lua_State *L, int index, const char *who, const char *what)
{
  lm_dtype dtype = lm_check_tensor(L, index)->dtype;
  if (dtype == LM_U8) return check_planes(L, index, who, what, LM_U8);
  planes p = check_planes(L, index, who, what, LM_F64);
  const double *value = lm_data(p.tensor);
  lm_tensor *mask = lm_new_tensor(L, LM_U8, p.tensor->ndim, p.tensor->shape);
  uint8_t *set = lm_data(mask);
  for (int64_t i = 0, n = lm_numel(mask); i < n; i++) set[i] = value[i] != 0;
  p.tensor = mask;
  return p;
}

static lm_tensor *push_like(lua_State *L, const planes *p, lm_dtype dtype)
{
  return lm_new_tensor(L, dtype, p->tensor->ndim, p->tensor->shape);
}

/* ---- ridge filters ---- */

/* Push `result` (f64) as the type a filter answers with: f64 for f64, else f32. */
static int push_response(lua_State *L, lm_dtype input, const lm_tensor *result)
{
  if (input == LM_F64) return 1; /* it is on the stack top */
  const double *from = lm_data(result);
  lm_tensor *out = lm_new_tensor(L, LM_F32, result->ndim, result->shape);
  float *to = lm_data(out);
  for (int64_t i = 0, n = lm_numel(out); i < n; i++) to[i] = (float)from[i];
  return 1;
}

LM_DOC(vision_sato,
       "image; sigmas: floats = {1, 2, 3, 4}, black_ridges: bool = true -> tensor\n"
       "Tubeness by Sato's ridge filter (Sato et al. 1998), at least 0, in units of the "
       "image's values: the largest over the scales sigmas (pixels) of the eigenvalue "
       "across a dark ridge, or a bright one without black_ridges. image [H, W] or [N, 1, "
       "H, W], any dtype; f64 for f64, else f32. As scikit-image's filters.sato.\n"
       "> image = lumen.full({32, 32}, 200)\n"
       "> image:slice(2, 16, 17):fill_(50)\n"
       "> response = lumen.vision.sato(image)\n"
       "> response[16]:argmax()\n"
       "i64 [] {15}");
static int vision_sato(lua_State *L)
{
  static const char *const names[] = {"sigmas", "black_ridges", NULL};
  double sigmas[LM_VESSEL_SIGMAS] = {1, 2, 3, 4};
  lm_dtype input = lm_check_tensor(L, 1)->dtype;
  lm_check_keys(L, 2, "sato", names);
  int count = lm_opt_numbers(L, 2, "sigmas", LM_VESSEL_SIGMAS, sigmas);
  bool black = lm_opt_bool(L, 2, "black_ridges", true);
  planes p = check_planes(L, 1, "sato", "image", LM_F64);
  lm_tensor *out = push_like(L, &p, LM_F64);
  const double *from = lm_data(p.tensor);
  double *to = lm_data(out);
  for (int64_t k = 0, n = p.height * p.width; k < p.count; k++)
    lm_check(L, lm_sato(from + k * n, p.height, p.width, sigmas, count < 0 ? 4 : count,
                        black, to + k * n));
  return push_response(L, input, out);
}

LM_DOC(vision_frangi,
       "image; sigmas: floats = {1, 3, 5, 7, 9}, beta: float = 0.5, gamma: float = 0, "
       "black_ridges: bool = true -> tensor\n"
       "Vesselness from 0 to 1 by Frangi's filter (Frangi et al. 1998). beta weighs blobs "
       "against lines; gamma is the contrast that counts, 0: half the largest Hessian "
       "norm. image [H, W] or [N, 1, H, W]; f64 for f64, else f32. As scikit-image's "
       "filters.frangi.\n"
       "> image = lumen.full({32, 32}, 200)\n"
       "> image:slice(2, 16, 17):fill_(50)\n"
       "> response = lumen.vision.frangi(image)\n"
       "> response.shape, response:max():item() <= 1\n"
       "{32, 32}\n"
       "true");
static int vision_frangi(lua_State *L)
{
  static const char *const names[] = {"sigmas", "beta", "gamma", "black_ridges", NULL};
  double sigmas[LM_VESSEL_SIGMAS] = {1, 3, 5, 7, 9};
  lm_dtype input = lm_check_tensor(L, 1)->dtype;
  lm_check_keys(L, 2, "frangi", names);
  int count = lm_opt_numbers(L, 2, "sigmas", LM_VESSEL_SIGMAS, sigmas);
  lm_frangi_options o = {.sigmas = sigmas,
                         .count = count < 0 ? 5 : count,
                         .beta = lm_opt_number(L, 2, "beta", 0.5),
                         .gamma = lm_opt_number(L, 2, "gamma", 0),
                         .black_ridges = lm_opt_bool(L, 2, "black_ridges", true)};
  planes p = check_planes(L, 1, "frangi", "image", LM_F64);
  lm_tensor *out = push_like(L, &p, LM_F64);
  const double *from = lm_data(p.tensor);
  double *to = lm_data(out);
  for (int64_t k = 0, n = p.height * p.width; k < p.count; k++)
    lm_check(L, lm_frangi(from + k * n, p.height, p.width, &o, to + k * n));
  return push_response(L, input, out);
}

LM_DOC(vision_vessel_mask,
       "image; sigmas: floats = {1, 2, 3, 4}, percentile: float = 92, border: float = "
       "20, published: bool = false -> tensor, tensor\n"
       "The pseudo-mask of VasoMIM (arXiv 2508.10794, as its code has it): Sato's response as "
       "u8, nothing within border pixels of the edge, only values from the percentile on, and "
       "of these the 4-connected piece that holds the strongest. Returns the mask (u8, 0 or 1) "
       "and the filter's response (u8). image is u8 grey, [H, W] or [N, 1, H, W]; sigmas and "
       "border are meant at a shorter side of 512 pixels and scale with the image, unless "
       "published.\n"
       "> p = lumen.vision.phantom{size = 128, seed = 1}\n"
       "> mask, response = lumen.vision.vessel_mask(p.image)\n"
       "> mask.shape, mask.dtype, response.dtype\n"
       "{128, 128}\n"
       "u8\n"
       "u8");
static int vision_vessel_mask(lua_State *L)
{
  static const char *const names[] = {"sigmas", "percentile", "border", "published",
                                      NULL};
  const lm_tensor *image = lm_check_tensor(L, 1);
  if (image->dtype != LM_U8) {
    lm_fail(LM_ERR_DTYPE, "vessel_mask: image must be u8, not %s", lm_describe(image));
    lm_hint(
        "the filter's threshold is meant for grey values of 0 to 255: scale to those, "
        "then :to(\"u8\")");
    return lm_raise(L);
  }
  lm_check_keys(L, 2, "vessel_mask", names);
  lm_vessel_options o = lm_vessel_defaults();
  int count = lm_opt_numbers(L, 2, "sigmas", LM_VESSEL_SIGMAS, o.sigmas);
  if (count >= 0) o.count = count;
  o.percentile = lm_opt_number(L, 2, "percentile", o.percentile);
  o.border = lm_opt_number(L, 2, "border", o.border);
  o.published = lm_opt_bool(L, 2, "published", o.published);
  planes p = check_planes(L, 1, "vessel_mask", "image", LM_U8);
  uint8_t *mask = lm_data(push_like(L, &p, LM_U8));
  uint8_t *response = lm_data(push_like(L, &p, LM_U8));
  const uint8_t *from = lm_data(p.tensor);
  for (int64_t k = 0, n = p.height * p.width; k < p.count; k++)
    lm_check(L, lm_vessel_mask(from + k * n, p.height, p.width, &o, mask + k * n,
                               response + k * n));
  return 2;
}

/* ---- masks ---- */

LM_DOC(vision_region_grow,
       "mask, row: int, column: int; connectivity: int = 4 -> tensor\n"
       "What hangs together with the pixel (row, column), counted from 1: u8 [H, W], 0 or "
       "1. connectivity is 4 or 8.\n"
       "> mask = lumen.tensor{{1, 1, 0}, {0, 0, 0}, {0, 1, 1}}\n"
       "> lumen.vision.region_grow(mask, 3, 2)\n"
       "u8 [3 x 3] {0, 0, 0, 0, 0, 0, 0, 1, 1}");
static int vision_region_grow(lua_State *L)
{
  static const char *const names[] = {"connectivity", NULL};
  int64_t row = luaL_checkinteger(L, 2), column = luaL_checkinteger(L, 3);
  lm_check_keys(L, 4, "region_grow", names);
  int64_t connectivity = lm_opt_int(L, 4, "connectivity", 4);
  planes p = check_mask(L, 1, "region_grow", "mask");
  if (p.count != 1) {
    lm_fail(LM_ERR_SHAPE, "region_grow: mask must be one image, not %" PRId64, p.count);
    return lm_raise(L);
  }
  if (row < 1 || row > p.height || column < 1 || column > p.width) {
    lm_fail(LM_ERR_INDEX,
            "region_grow: pixel (%" PRId64 ", %" PRId64
            ") lies outside the image %s "
            "(counted from 1)",
            row, column, lm_describe(p.tensor));
    return lm_raise(L);
  }
  lm_tensor *out = push_like(L, &p, LM_U8);
  lm_check(L,
           lm_region_grow(lm_data(p.tensor), p.height, p.width, row - 1, column - 1,
                          connectivity == 4 || connectivity == 8 ? (int)connectivity : 0,
                          lm_data(out)));
  return 1;
}

LM_DOC(vision_skeletonize,
       "mask -> tensor\n"
       "The centre lines of a mask, one pixel wide, by Zhang and Suen's thinning (1984): "
       "u8, 0 or 1. mask [H, W] or [N, 1, H, W], set where it is not 0.\n"
       "> lumen.vision.skeletonize(lumen.ones(5, 9)):sum():item()\n"
       "6");
static int vision_skeletonize(lua_State *L)
{
  planes p = check_mask(L, 1, "skeletonize", "mask");
  lm_tensor *out = push_like(L, &p, LM_U8);
  const uint8_t *from = lm_data(p.tensor);
  uint8_t *to = lm_data(out);
  for (int64_t k = 0, n = p.height * p.width; k < p.count; k++)
    lm_check(L, lm_skeletonize(from + k * n, p.height, p.width, to + k * n));
  return 1;
}

LM_DOC(vision_distance_transform,
       "mask -> tensor\n"
       "Exact Euclidean distance in pixels from each set pixel to the nearest pixel that "
       "is 0: f64, of mask's shape [H, W] or [N, 1, H, W].\n"
       "> lumen.vision.distance_transform(lumen.tensor{{0, 1, 1, 1}})\n"
       "f64 [1 x 4] {0, 1, 2, 3}");
static int vision_distance_transform(lua_State *L)
{
  planes p = check_mask(L, 1, "distance_transform", "mask");
  lm_tensor *out = push_like(L, &p, LM_F64);
  const uint8_t *from = lm_data(p.tensor);
  double *to = lm_data(out);
  for (int64_t k = 0, n = p.height * p.width; k < p.count; k++)
    lm_check(L, lm_distance_transform(from + k * n, p.height, p.width, to + k * n));
  return 1;
}

LM_DOC(vision_components,
       "mask; connectivity: int = 8 -> tensor, int\n"
       "Connected pieces of one mask [H, W]: labels i32 (0 background, then 1, 2, ... row "
       "by row) and how many there are. connectivity is 4 or 8.\n"
       "> labels, count = lumen.vision.components(lumen.tensor{{1, 0, 1}, {1, 0, 1}})\n"
       "> labels, count\n"
       "i32 [2 x 3] {1, 0, 2, 1, 0, 2}\n"
       "2");
static int vision_components(lua_State *L)
{
  static const char *const names[] = {"connectivity", NULL};
  lm_check_keys(L, 2, "components", names);
  int64_t connectivity = lm_opt_int(L, 2, "connectivity", 8), found;
  planes p = check_mask(L, 1, "components", "mask");
  if (p.count != 1) {
    lm_fail(LM_ERR_SHAPE, "components: mask must be one image, not %" PRId64, p.count);
    return lm_raise(L);
  }
  lm_tensor *out = push_like(L, &p, LM_I32);
  lm_check(L,
           lm_components(lm_data(p.tensor), p.height, p.width,
                         connectivity == 4 || connectivity == 8 ? (int)connectivity : 0,
                         lm_data(out), &found));
  lua_pushinteger(L, found);
  return 2;
}

LM_DOC(vision_surface,
       "mask -> tensor\n"
       "The set pixels with an unset 4-neighbour or on the image's edge: u8, of mask's "
       "shape.\n"
       "> lumen.vision.surface(lumen.ones(4, 4)):sum():item()\n"
       "12");
static int vision_surface(lua_State *L)
{
  planes p = check_mask(L, 1, "surface", "mask");
  lm_tensor *out = push_like(L, &p, LM_U8);
  const uint8_t *from = lm_data(p.tensor);
  uint8_t *to = lm_data(out);
  for (int64_t k = 0, n = p.height * p.width; k < p.count; k++)
    lm_check(L, lm_mask_surface(from + k * n, p.height, p.width, to + k * n, NULL));
  return 1;
}

LM_DOC(vision_surface_distances,
       "from, to -> tensor\n"
       "From each surface pixel of mask `from` to the nearest surface pixel of mask `to`, "
       "row by row, in pixels: f64 [count], inf where `to` is empty. One image [H, W] "
       "each, of one size.\n"
       "> a, b = lumen.zeros(1, 6), lumen.zeros(1, 6)\n"
       "> a[1]:slice(1, 1, 1):fill_(1)\n"
       "> b[1]:slice(1, 4, 4):fill_(1)\n"
       "> lumen.vision.surface_distances(a, b)\n"
       "f64 [1] {3}");
static int vision_surface_distances(lua_State *L)
{
  int64_t n, found;
  planes from = check_mask(L, 1, "surface_distances", "from");
  planes to = check_mask(L, 2, "surface_distances", "to");
  if (from.count != 1 || to.count != 1 || from.height != to.height ||
      from.width != to.width) {
    lm_fail(LM_ERR_SHAPE, "surface_distances: needs two masks of one size, not %s and %s",
            lm_describe(from.tensor), lm_describe(to.tensor));
    return lm_raise(L);
  }
  uint8_t *a = lm_data(push_like(L, &from, LM_U8)),
          *b = lm_data(push_like(L, &to, LM_U8));
  lm_check(L, lm_mask_surface(lm_data(from.tensor), from.height, from.width, a, &n));
  lm_check(L, lm_mask_surface(lm_data(to.tensor), from.height, from.width, b, NULL));
  lm_tensor *out = lm_new_tensor(L, LM_F64, 1, &n);
  lm_check(L, lm_surface_distances(a, b, from.height, from.width, lm_data(out), &found));
  return 1;
}

/* ---- 8-bit pictures ---- */

/* A u8 tensor [H, W] or [H, W, 3]; its contiguous handle is left on the stack top. */
static lm_picture check_picture(lua_State *L, int index, const char *who)
{
  const lm_tensor *t = lm_check_tensor(L, index);
  if (t->dtype != LM_U8 || t->ndim < 2 || t->ndim > 3 ||
      (t->ndim == 3 && t->shape[2] != 3)) {
    lm_fail(LM_ERR_SHAPE, "%s: image must be u8 [H, W] or [H, W, 3], not %s", who,
            lm_describe(t));
    lm_raise(L);
  }
  t = lm_check_host(L, index, LM_DTYPE_COUNT);
  int64_t channels = t->ndim == 3 ? 3 : 1;
  return (lm_picture){.data = lm_data(t),
                      .height = t->shape[0],
                      .width = t->shape[1],
                      .channels = channels,
                      .stride = t->shape[1] * channels};
}

static lm_filter check_filter(lua_State *L, int index, const char *who)
{
  static const char *const names[] = {"nearest", "bilinear", "bicubic", "lanczos", NULL};
  const char *name = lm_opt_string(L, index, "filter", "bicubic");
  lm_filter filter = lm_filter_parse(name);
  if (filter != LM_FILTER_COUNT) return filter;
  const char *near = lm_nearest(name, names);
  lm_fail(LM_ERR_ARG, "%s: there is no filter '%s' (nearest, bilinear, bicubic, lanczos)",
          who, name);
  if (near) lm_hint("did you mean %s?", near);
  lm_raise(L);
  return filter;
}

/* New picture of the size at stack indices `at`, `at` + 1, with p's channels; pushed. */
static lm_tensor *push_picture(lua_State *L, int at, const lm_picture *p, const char *who)
{
  int64_t shape[3] = {luaL_checkinteger(L, at), luaL_checkinteger(L, at + 1),
                      p->channels};
  lm_check(L, lm_plane_check(who, shape[0], shape[1]));
  return lm_new_tensor(L, LM_U8, p->channels == 3 ? 3 : 2, shape);
}

LM_DOC(image_resize,
       "image, height: int, width: int; filter: str = bicubic, box: floats? -> tensor\n"
       "A picture u8 [H, W] or [H, W, 3] at another size, antialiased, to the byte as "
       "Pillow's Image.resize. filter: nearest, bilinear, bicubic, lanczos. box = {left, "
       "top, right, bottom}: the part to use, in pixels from the edges, fractions allowed.\n"
       "> image = lumen.vision.phantom{size = 96}.image\n"
       "> lumen.image.resize(image, 32, 48).shape\n"
       "{32, 48}");
static int image_resize(lua_State *L)
{
  static const char *const names[] = {"filter", "box", NULL};
  double box[4];
  lm_check_keys(L, 4, "resize", names);
  lm_filter filter = check_filter(L, 4, "resize");
  int given = lm_opt_numbers(L, 4, "box", 4, box);
  if (given >= 0 && given != 4)
    return luaL_error(L, "resize: box has %d numbers, not 4 (left, top, right, bottom)",
                      given);
  lm_picture p = check_picture(L, 1, "resize");
  lm_tensor *out = push_picture(L, 2, &p, "resize");
  lm_check(L, lm_image_resize(&p, given < 0 ? NULL : box, filter, lm_data(out),
                              out->shape[0], out->shape[1]));
  return 1;
}

LM_DOC(image_crop_resize,
       "image, box: ints, height: int, width: int; filter: str = bicubic -> tensor\n"
       "Cuts box = {top, left, height, width} (whole pixels; top and left are distances "
       "from the edge) out of a picture u8 [H, W] or [H, W, 3], then resizes it.\n"
       "> image = lumen.vision.phantom{size = 96}.image\n"
       "> lumen.image.crop_resize(image, {10, 20, 64, 64}, 32, 32).shape\n"
       "{32, 32}");
static int image_crop_resize(lua_State *L)
{
  static const char *const names[] = {"filter", NULL};
  int64_t box[4];
  luaL_checktype(L, 2, LUA_TTABLE);
  for (int k = 0; k < 4; k++) {
    int whole;
    lua_rawgeti(L, 2, k + 1);
    box[k] = lua_tointegerx(L, -1, &whole);
    if (!whole || lua_rawlen(L, 2) != 4)
      return luaL_error(L,
                        "crop_resize: box must be 4 integers (top, left, height, width)");
    lua_pop(L, 1);
  }
  lm_check_keys(L, 5, "crop_resize", names);
  lm_filter filter = check_filter(L, 5, "crop_resize");
  lm_picture p = check_picture(L, 1, "crop_resize");
  lm_tensor *out = push_picture(L, 3, &p, "crop_resize");
  lm_check(L, lm_image_crop_resize(&p, box, filter, lm_data(out), out->shape[0],
                                   out->shape[1]));
  return 1;
}

LM_DOC(vision_module,
       "-> table\n"
       "Filters and masks, on the CPU and outside autograd. Images and masks are [H, W], "
       "or [N, 1, H, W] for several at once, of any dtype; a mask is set where it is not "
       "0.\n"
       "> lumen.vision.skeletonize(lumen.ones(3, 7)):sum():item()\n"
       "6");

LM_DOC(image_module,
       "-> table\n"
       "Pictures: u8 [H, W] (grey) or [H, W, 3] (red, green, blue).\n"
       "> lumen.image.decode(\"P2 2 1 255\\n0 255\\n\")\n"
       "u8 [1 x 2] {0, 255}");

void lm_bind_vision(lua_State *L)
{
  static const lm_function vision[] = {
      {"", NULL, vision_module_doc},
      {"sato", vision_sato, vision_sato_doc},
      {"frangi", vision_frangi, vision_frangi_doc},
      {"vessel_mask", vision_vessel_mask, vision_vessel_mask_doc},
      {"region_grow", vision_region_grow, vision_region_grow_doc},
      {"skeletonize", vision_skeletonize, vision_skeletonize_doc},
      {"distance_transform", vision_distance_transform, vision_distance_transform_doc},
      {"components", vision_components, vision_components_doc},
      {"surface", vision_surface, vision_surface_doc},
      {"surface_distances", vision_surface_distances, vision_surface_distances_doc},
      {0}};
  static const lm_function image[] = {
      {"", NULL, image_module_doc},
      {"resize", image_resize, image_resize_doc},
      {"crop_resize", image_crop_resize, image_crop_resize_doc},
      {0}};
  lm_subtable(L, -1, "vision");
  lm_set_functions(L, "vision", vision);
  lua_pop(L, 1);
  lm_subtable(L, -1, "image");
  lm_set_functions(L, "image", image);
  lua_pop(L, 1);
}
