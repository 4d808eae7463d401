/* samples.h: the items behind a loader and how one becomes a training sample. Used by loader.c
 * and sources.c only. Adding happens on one thread before the first epoch; lm_samples_make is
 * called by many at once. */
#ifndef LUMEN_IO_SAMPLES_H
#define LUMEN_IO_SAMPLES_H

#include "io/imagefile.h"
#include "io/loader.h"
#include "io/pack.h"

/* A COCO file that masks come from, and what each of its categories writes into them. */
typedef struct lm_annotated {
  lm_coco *coco;
  uint8_t *value;
  struct lm_annotated *next;
} lm_annotated;

typedef struct lm_item {
  char *image, *mask;  /* paths, or pack and name; NULL for phantoms */
  char *reference[LM_LOADER_REFERENCES]; /* paths of a rated image's, or NULL */
  float *score;        /* of a rated image: as many as the loader has metrics, or NULL */
  lm_pack *pack;       /* that it is an entry of, or NULL */
  lm_annotated *from;  /* where its mask comes from, or NULL */
  int64_t number;      /* of the phantom; of the image in its COCO file, in its pack */
  lm_decoded *decoded; /* atomic: NULL until kept */
  bool reported;       /* as broken */
} lm_item;

typedef struct lm_samples {
  lm_loader_options options;
  char *cache;
  lm_item *item;
  int64_t count, capacity;
  bool has_masks;
  int classes;         /* masks hold 0..classes; 0: they hold 0 and 1 */
  lm_annotated *annotated;
  lm_pack *packs;
  size_t kept;       /* atomic: bytes of decoded images */
  bool cache_warned; /* atomic: that the cache cannot be written */
  char name[64];
} lm_samples;

/* Where a sample goes; what is not wanted is NULL. */
typedef struct lm_sample {
  float *image;            /* [channels (one more with vesselness), size, size] */
  float *mask, *vessel_mask; /* [size, size] */
  float *reference[LM_LOADER_REFERENCES], *has[LM_LOADER_REFERENCES], *scores;
} lm_sample;

/* A worker's buffers. */
typedef struct lm_scratch {
  uint8_t *image, *mask, *moved; /* [size, size] */
} lm_scratch;

lm_status lm_samples_init(lm_samples *s, const lm_loader_options *options);
void lm_samples_free(lm_samples *s);
void lm_scratch_free(lm_scratch *scratch);
lm_status lm_samples_add(lm_samples *s, const char *image, const char *mask);
lm_status lm_samples_add_rated(lm_samples *s, const char *image,
                               const char *const reference[LM_LOADER_REFERENCES],
                               const float *score);
/* The samples of a loader. */
lm_samples *lm_loader_samples(lm_loader *l);
/* `coco` is the samples' from here on, also after an error; value is copied. */
lm_status lm_samples_annotate(lm_samples *s, lm_coco *coco, const uint8_t *value);
/* One file with the mask of the `number`-th image of the file annotated last. */
lm_status lm_samples_add_annotated(lm_samples *s, const char *image, int64_t number);
/* Entries first .. first + count - 1 of the first of s->packs, with their masks if `masks`. */
lm_status lm_samples_add_packed(lm_samples *s, int64_t first, int64_t count, bool masks);
lm_status lm_samples_add_phantoms(lm_samples *s, int64_t first, int64_t count);
lm_status lm_samples_select(lm_samples *s, const int64_t *items, int64_t count);
const char *lm_samples_name(lm_samples *s, int64_t i);
lm_status lm_samples_read(const lm_samples *s, int64_t i, lm_bytes *out);

/* Item i as it is. */
lm_status lm_samples_decode(lm_samples *s, int64_t i, lm_decoded **out);
/* A training sample of item i. */
lm_status lm_samples_make(lm_samples *s, int64_t item, int64_t epoch, lm_scratch *scratch,
                          const lm_sample *out);

/* The planes of the image and its references in a loader of rated images (rated.c). */
lm_status lm_rated_decode(const lm_samples *s, const lm_item *item, lm_decoded *d);
/* A grey picture from a file, 8 bits, the file's bytes into `bytes` (the caller frees it). */
lm_status lm_samples_load_grey(const char *path, lm_bytes *bytes, lm_image *image);

#endif
