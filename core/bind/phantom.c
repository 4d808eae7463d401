/* phantom.c: lumen.vision.phantom, procedural angiograms with ground truth. */
#include "bind/bind.h"

#include "vision/phantom.h"

#include <inttypes.h>
#include <string.h>

static const char *const kPresets[] = {"default", "hard", NULL};

static int64_t check_not_negative(lua_State *L, const char *name)
{
  int64_t value = lm_opt_int(L, 1, name, 0);
  if (value < 0) {
    lm_fail(LM_ERR_ARG, "phantom: %s is %" PRId64 ", but must be 0 or more", name, value);
    lm_raise(L);
  }
  return value;
}

static bool check_hard(lua_State *L)
{
  const char *preset = lm_opt_string(L, 1, "preset", kPresets[0]);
  for (int i = 0; kPresets[i]; i++) {
    if (strcmp(preset, kPresets[i]) == 0) return i == 1;
  }
  const char *near = lm_nearest(preset, kPresets);
  lm_fail(LM_ERR_ARG, "phantom: there is no preset '%s' (default, hard)", preset);
  if (near) lm_hint("did you mean %s?", near);
  lm_raise(L);
  return false;
}

/* Push a new u8 tensor, set it as `name` of the table below, and return its pixels. */
static uint8_t *add_image(lua_State *L, const char *name, int64_t size)
{
  int64_t shape[2] = {size, size};
  uint8_t *pixels = lm_data(lm_new_tensor(L, LM_U8, 2, shape));
  lua_setfield(L, -2, name);
  return pixels;
}

LM_DOC(vision_phantom,
       "; size: int = 300, seed: int = 0, index: int = 0, preset: str = default, "
       "pre_contrast: bool = false -> table\n"
       "A procedural angiogram with ground truth: {image =, mask =}, each u8 [size, size], "
       "mask 0 or 255. The same seed and index at another size show the same anatomy. "
       "preset is default or hard; pre_contrast = true adds the frame before the contrast "
       "agent: same anatomy and devices, other noise.\n"
       "> p = lumen.vision.phantom{size = 128, seed = 1, index = 7}\n"
       "> p.image.shape, p.mask:max():item()\n"
       "{128, 128}\n"
       "255");
static int vision_phantom(lua_State *L)
{
  static const char *const names[] = {"size",   "seed",         "index",
                                      "preset", "pre_contrast", NULL};
  lua_settop(L, 1);
  lm_check_keys(L, 1, "phantom", names);
  lm_phantom_options o = {.size = lm_opt_int(L, 1, "size", 300), .hard = check_hard(L)};
  int64_t seed = check_not_negative(L, "seed"), index = check_not_negative(L, "index");
  bool pre_contrast = lm_opt_bool(L, 1, "pre_contrast", false);
  lm_check(L, lm_phantom_check(&o));
  lua_createtable(L, 0, 3);
  uint8_t *image = add_image(L, "image", o.size), *mask = add_image(L, "mask", o.size);
  uint8_t *before = pre_contrast ? add_image(L, "pre_contrast", o.size) : NULL;
  lm_check(L,
           lm_phantom_render(&o, (uint64_t)seed, (uint64_t)index, image, mask, before));
  return 1;
}

void lm_bind_phantom(lua_State *L)
{
  static const lm_function functions[] = {
      {"phantom", vision_phantom, vision_phantom_doc}, {0}};
  lm_subtable(L, -1, "vision");
  lm_set_functions(L, "vision", functions);
  lua_pop(L, 1);
}
