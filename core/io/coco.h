/* coco.h: annotated images in COCO's JSON format (images, annotations, categories), read
 * for their masks.
 *
 * Outlines are lists of polygons or uncompressed run lengths; compressed ones (a string)
 * are an error. Everything is checked when the file is read, so that a mask can be drawn
 * later without a complaint: numbers, ids, polygons against the size of their image. Images
 * and categories have ids of their own; annotations may share one as long as they belong to
 * different images (published files repeat them, and nothing refers to them).
 * `bbox`, `area`, `iscrowd` and whatever else is there are not looked at. */
#ifndef LUMEN_IO_COCO_H
#define LUMEN_IO_COCO_H

#include "base/base.h"

typedef struct lm_coco_category {
  int64_t id;
  char *name;
  int64_t annotations, images; /* how many of them show it */
} lm_coco_category;

typedef struct lm_coco_image {
  int64_t id, height, width;
  char *file;           /* relative, without ".." */
  int64_t first, count; /* its annotations */
} lm_coco_image;

typedef struct lm_coco_annotation {
  int64_t entry;           /* its place in the file's list */
  int64_t id;              /* -1: has none */
  int64_t image, category; /* places in the lists below */
  int64_t first, count;    /* its outlines; one when it is run lengths */
  bool runs;
} lm_coco_annotation;

typedef struct lm_coco_outline {
  int64_t first, count; /* in `number` */
} lm_coco_outline;

typedef struct lm_coco {
  char *path;
  lm_coco_category *category;
  lm_coco_image *image; /* in the order of the file */
  lm_coco_annotation *annotation; /* by image, then in the order of the file */
  lm_coco_outline *outline;
  double *number;
  int64_t categories, images, annotations;
  int64_t bare;     /* images without an annotation */
  int64_t repeated; /* annotations with an id that another one has */
} lm_coco;

/* Errors: LM_ERR_IO, LM_ERR_FORMAT, with the path and the entry:
 * "x.json: annotations[17].segmentation[0]: 7 numbers, not an even count". */
lm_status lm_coco_load(lm_coco **out, const char *path);
void lm_coco_free(lm_coco *coco); /* NULL is fine */

/* Place of the category with this name or id. LM_ERR_ARG, naming those that there are, when
 * there is none or more than one. */
lm_status lm_coco_find_name(const lm_coco *coco, const char *name, int64_t *place);
lm_status lm_coco_find_id(const lm_coco *coco, int64_t id, int64_t *place);

/* The mask of an image, [height, width] of it. Each annotation writes value[its category]
 * over those before it; 0 leaves it out. LM_ERR_MEMORY. */
lm_status lm_coco_mask(const lm_coco *coco, int64_t image, const uint8_t *value,
                       uint8_t *mask);

#endif
