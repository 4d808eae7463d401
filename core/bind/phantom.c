/* phantom.c: lumen.vision.phantom and rated_phantom, procedural angiograms with ground truth. */
#include "bind/bind.h"

#include "vision/phantom.h"
#include "vision/rated.h"

#include <inttypes.h>
#include <string.h>

static const char *const kPresets[] = {"default", "hard", NULL};

static int64_t check_not_negative(lua_State *L, const char *whose, const char *name)
{
  int64_t value = lm_opt_int(L, 1, name, 0);
  if (value < 0) {
    lm_fail(LM_ERR_ARG, "%s: %s is %" PRId64 ", but must be 0 or more", whose,
            name, value);
    lm_raise(L);
  }
  return value;
}

static bool check_hard(lua_State *L, const char *whose)
{
  const char *preset = lm_opt_string(L, 1, "preset", kPresets[0]);
  for (int i = 0; kPresets[i]; i++) {
    if (strcmp(preset, kPresets[i]) == 0) return i == 1;
  }
  const char *near = lm_nearest(preset, kPresets);
  lm_fail(LM_ERR_ARG, "%s: there is no preset '%s' (default, hard)", whose, preset);
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
  lm_phantom_options o = {.size = lm_opt_int(L, 1, "size", 300), .hard = check_hard(L, "phantom")};
  int64_t seed = check_not_negative(L, "phantom", "seed");
  int64_t index = check_not_negative(L, "phantom", "index");
  bool pre_contrast = lm_opt_bool(L, 1, "pre_contrast", false);
  lm_check(L, lm_phantom_check(&o));
  lua_createtable(L, 0, 3);
  uint8_t *image = add_image(L, "image", o.size), *mask = add_image(L, "mask", o.size);
  uint8_t *before = pre_contrast ? add_image(L, "pre_contrast", o.size) : NULL;
  lm_check(L,
           lm_phantom_render(&o, (uint64_t)seed, (uint64_t)index, image, mask, before));
  return 1;
}

static void add_numbers(lua_State *L, const char *name, const float *value)
{
  int64_t count = LM_RATED_METRICS;
  lm_tensor *t = lm_new_tensor(L, LM_F32, 1, &count);
  lm_check(L, lm_tensor_write(t, value, (size_t)count * sizeof *value));
  lua_setfield(L, -2, name);
}

LM_DOC(vision_rated_phantom,
       "; size: int = 256, seed: int = 0, index: int = 0, preset: str = default -> table\n"
       "A synthetic angiography of a made-up generator, with its references and scores: "
       "{image =, source =, contrast =} u8 [size, size]: the rated image, the non-contrast frame "
       "it was made from, a contrast frame of the same case in another phase; scores = f32 [3], "
       "1 to 5, for vessel, background, realism (mean of three simulated raters); severities = "
       "f32 [3], 0 to 1, how bad each defect is, measured on the result. Not from a paper: a "
       "stand-in for CAS-3K (arXiv 2505.17619), whose images are not public.\n"
       "> r = lumen.vision.rated_phantom{size = 64, seed = 1, index = 3}\n"
       "> r.image.shape, r.scores.shape, r.scores:min():item() >= 1\n"
       "{64, 64}\n"
       "{3}\n"
       "true");
static int vision_rated_phantom(lua_State *L)
{
  static const char *const names[] = {"size", "seed", "index", "preset", NULL};
  static const char whose[] = "rated_phantom";
  lua_settop(L, 1);
  lm_check_keys(L, 1, whose, names);
  lm_phantom_options o = {.size = lm_opt_int(L, 1, "size", 256), .hard = check_hard(L, whose)};
  int64_t seed = check_not_negative(L, whose, "seed");
  int64_t index = check_not_negative(L, whose, "index");
  lm_check(L, lm_phantom_check(&o));
  lua_createtable(L, 0, 5);
  uint8_t *image = add_image(L, "image", o.size), *source = add_image(L, "source", o.size);
  uint8_t *contrast = add_image(L, "contrast", o.size);
  lm_rated rated;
  lm_check(L, lm_rated_render(&o, (uint64_t)seed, (uint64_t)index, image, source, contrast,
                              &rated));
  add_numbers(L, "scores", rated.score);
  add_numbers(L, "severities", rated.severity);
  return 1;
}

void lm_bind_phantom(lua_State *L)
{
  static const lm_function functions[] = {
      {"phantom", vision_phantom, vision_phantom_doc},
      {"rated_phantom", vision_rated_phantom, vision_rated_phantom_doc},
      {0}};
  lm_subtable(L, -1, "vision");
  lm_set_functions(L, "vision", functions);
  lua_pop(L, 1);
}
