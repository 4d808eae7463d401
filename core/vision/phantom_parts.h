/* phantom_parts.h: what the phantom's own files share (tree, background, rendering).
 *
 * Field units: the image is the square [0, 1] x [0, 1], x to the right, y down; lengths
 * are shares of the image side. Heart units: the heart is an ellipsoid of about unit
 * radius around the origin; `lm_phantom_view` projects them into the field. Attenuation
 * is an optical density (natural logarithm): grey = exposure * exp(-density). */
#ifndef LUMEN_PHANTOM_PARTS_H
#define LUMEN_PHANTOM_PARTS_H

#include "base/base.h"
#include "base/rng.h"

/* One point of a projected centre line. */
typedef struct lm_phantom_node {
  float x, y, r; /* field units */
  float stretch; /* path length through the lumen / that of a vessel across the beam, >= 1
                  */
  float iodine;  /* share of full contrast filling, 0..1 */
  float s;       /* length from the branch's start, field units */
} lm_phantom_node;

typedef struct lm_phantom_branch {
  int64_t first, count; /* nodes of this branch */
  int64_t parent;       /* branch it leaves; -1: none */
  float parent_r;       /* radius of the vessel it leaves, field units; 0: none */
} lm_phantom_branch;

enum { LM_PHANTOM_BRANCHES = 320, LM_PHANTOM_NODES = 24576 };

typedef struct lm_phantom_view {
  double right[3], up[3], toward[3]; /* image axes in patient axes (left, back, head) */
  double lao, cranial;               /* radians; RAO and caudal are negative */
  double scale, x0, y0;              /* field = (x0 + scale * right, y0 - scale * up) */
  double axis[3][3], semi[3];        /* the heart ellipsoid: unit axes, semi-axes */
} lm_phantom_view;

typedef struct lm_phantom_tree {
  lm_phantom_view view;
  bool left; /* left coronary artery, else right */
  int64_t branch_count, node_count;
  lm_phantom_branch branches[LM_PHANTOM_BRANCHES];
  lm_phantom_node nodes[LM_PHANTOM_NODES];
} lm_phantom_tree;

/* Everything drawn once per frame that is no image. */
typedef struct lm_phantom_exposure {
  float iodine;        /* density per field unit of lumen */
  float grey, spread;  /* mean grey, standard deviation of the background's density */
  float blur;          /* point spread, field units */
  float sharpen, halo; /* strength and reach (field units) of edge enhancement */
  float noise;         /* noise in grey levels at grey 100 and 300 pixels */
  float grain;         /* correlation length of the noise, pixels */
  int collimator;      /* 0 none, 1 blades, 2 round */
  float left, right, top, bottom, soft, turn; /* blades: margins, edge width, rotation */
  float cx, cy, radius;                       /* round image intensifier */
  float shade; /* grey behind the collimator / grey in the field */
  float vignette;
} lm_phantom_exposure;

/* What a frame of [n, n] is made of, and work space. */
typedef struct lm_phantom_planes {
  float *background, *devices, *lumen, *light, *frame, *noise, *work;
} lm_phantom_planes;

/* 0 below `low`, 1 above `high`, smooth between. */
static inline float lm_phantom_step(float low, float high, float x)
{
  float t = (x - low) / (high - low);
  t = t < 0 ? 0 : t > 1 ? 1 : t;
  return t * t * (3 - 2 * t);
}

/* A stream for one purpose of one frame. */
static inline lm_rng lm_phantom_rng(uint64_t seed, uint64_t index, const char *purpose,
                                    uint64_t attempt)
{
  return lm_rng_make(lm_mix(seed, index), lm_mix(lm_hash_name(purpose), attempt));
}

/* Grow and project one tree; branch 0 starts at the ostium. */
lm_status lm_phantom_tree_grow(lm_phantom_tree *tree, lm_rng *rng, bool hard);

/* density [size, size] = anatomy without vessels (soft tissue, heart, diaphragm, spine,
 * ribs), mean 0, standard deviation 1, less where there is little anatomy. */
lm_status lm_phantom_background(float *density, int64_t size, const lm_phantom_view *view,
                                lm_rng *rng, bool hard);

void lm_phantom_exposure_draw(lm_phantom_exposure *e, bool hard, lm_rng *r);

/* Draw trees until one covers a usual share of the frame. */
lm_status lm_phantom_tree_choose(lm_phantom_tree *tree, const lm_phantom_exposure *e,
                                 bool hard, uint64_t seed, uint64_t index);

/* Path length through all lumina, field units, into total [n, n]. `near` and `far` are
 * work space; all three are zero before, and the latter two after. */
void lm_phantom_lumen(const lm_phantom_tree *tree, float *total, float *near, float *far,
                      int64_t n);

/* Adds the density of the catheter and, now and then, a wire. */
void lm_phantom_devices(const lm_phantom_tree *tree, const lm_phantom_exposure *e,
                        bool hard, lm_rng *r, float *density, int64_t n);

/* Share of the exposure that reaches each pixel. */
void lm_phantom_light(const lm_phantom_exposure *e, float *light, int64_t n);

/* Gaussian blur in place, sigma in pixels, edges repeated. */
void lm_phantom_blur(float *a, float *work, int64_t n, float sigma);

/* From densities to an 8-bit frame; with_vessels false gives the pre-contrast frame. */
void lm_phantom_expose(const lm_phantom_exposure *e, const lm_phantom_planes *p,
                       int64_t n, bool with_vessels, lm_rng *r, uint8_t *out);

#endif
