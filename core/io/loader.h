/* loader.h: images from disk or from the phantom to training batches, on worker threads.
 *
 * A sample is a pure function of (options, item, epoch): augmentation is keyed by (seed, epoch,
 * item), the order of an epoch by (seed, epoch). So batches do not depend on the number of
 * threads, and an epoch can be entered at any batch. Images are grey (colour is converted) and
 * replicated to `channels`. Decoded images stay in memory while they fit `memory` bytes. */
#ifndef LUMEN_IO_LOADER_H
#define LUMEN_IO_LOADER_H

#include "base/base.h"
#include "io/coco.h"
#include "io/file.h"
#include "io/pack.h"
#include "vision/augment.h"
#include "vision/phantom.h"
#include "vision/rated.h"
#include "vision/resample.h"
#include "vision/vessel_mask.h"

enum { LM_LOADER_METRICS = 16, LM_LOADER_REFERENCES = 2 }; /* references: source, contrast */

typedef struct lm_loader_options {
  int64_t batch, size;      /* images per batch; side of the square output */
  uint64_t seed;
  int threads;              /* workers; 0: the caller does the work */
  bool shuffle, drop_last;
  bool crop;                /* RandomResizedCrop, else the whole image resized */
  double scale[2], ratio[2];
  double flip;              /* probability of a horizontal flip */
  lm_augment augment;       /* after the crop; all zero: none */
  lm_filter filter;         /* for the image; masks take nearest */
  int channels;             /* 1 or 3 */
  float mean[3], std[3];    /* (value / 255 - mean) / std per channel */
  bool pseudo_mask;         /* the vessel filter's mask of the whole image, cropped alike */
  lm_vessel_options vessel;
  bool skip_broken;         /* leave files out that cannot be read, with one warning each */
  bool is_phantom;
  lm_phantom_options phantom;
  bool rated;               /* images with references and scores; not with pseudo_mask */
  int metrics;              /* scores per image, 0 to LM_LOADER_METRICS */
  bool vesselness;          /* one more channel, 0 to 1, of the image and its references */
  uint64_t phantom_seed;
  const char *cache;        /* folder for pseudo-masks of files, or NULL; copied */
  size_t memory;            /* bytes for decoded images */
} lm_loader_options;

typedef struct lm_loader lm_loader;

/* An image as it is stored, with its masks. */
typedef struct lm_decoded {
  int64_t height, width;
  uint8_t *image;       /* [height, width] */
  uint8_t *mask;        /* 0 or 255 (or class numbers), or NULL */
  uint8_t *vessel_mask; /* 0 or 255, or NULL */
  uint8_t *reference[LM_LOADER_REFERENCES]; /* of rated images: [height, width], or NULL */
  uint8_t *vesselness[1 + LM_LOADER_REFERENCES]; /* of the image and its references, or NULL */
  float score[LM_LOADER_METRICS];
} lm_decoded;

/* An empty loader; add items, then start epochs. Errors: options out of range, by name. */
lm_status lm_loader_new(const lm_loader_options *options, lm_loader **out);
void lm_loader_free(lm_loader *l); /* stops the workers; NULL is fine */

/* What the masks of the items added from here on hold: class numbers 0..classes, or with 0
 * classes only 0 and 1. An error unless it is the same for all items of a loader. */
lm_status lm_loader_set_classes(lm_loader *l, int classes);
int lm_loader_classes(const lm_loader *l);

/* One file, with the file of its mask or NULL. All items have masks, or none. */
lm_status lm_loader_add(lm_loader *l, const char *image, const char *mask);
/* Phantom images (rated ones, if the loader is of such) first .. first + count - 1. */
lm_status lm_loader_add_phantoms(lm_loader *l, int64_t first, int64_t count);
/* One rated image of a loader of rated images, with its references (NULL: missing) and scores.
 * A reference of another size than its image is resized to it. */
lm_status lm_loader_add_rated(lm_loader *l, const char *image,
                              const char *const reference[LM_LOADER_REFERENCES],
                              const float *score);
/* All images of a folder, sorted by name; masks (or NULL): a folder with files of the same
 * names, whatever their extension. Errors name the folder, or the image without a mask.
 *
 * What files may hold: images of 8 or 16 bits, colour made grey, 16 bits reduced over their
 * full range (one that uses less than a sixteenth of it is an error). Masks of the size of
 * their image, grey or colour with equal channels: 0 and 1, or set above half of the range
 * (an error when no value is above it, but some are not 0); class numbers with `classes`. */
lm_status lm_loader_add_folder(lm_loader *l, const char *images, const char *masks);
/* The images of a COCO file, in its order, from the folder `images`; a file with the name but
 * another extension will do. Masks are drawn from the annotations: value[category] for each,
 * 0 leaves one out; 255 where masks are 0 and 1, else class numbers. The loader owns `coco` from
 * here on, also after an error. Errors name the image that is not there. */
lm_status lm_loader_add_coco(lm_loader *l, const char *images, lm_coco *coco,
                             const uint8_t *value);
/* A pack: the entries of one split, or of all (NULL), with their masks or without. */
lm_status lm_loader_add_pack(lm_loader *l, const char *path, const char *split, bool masks);
/* A CSV file: one row per image, "image" or "image,mask", paths relative to the file, fields
 * in double quotes where they need it (no line breaks in them); a first row of exactly these
 * words is a header. Errors name the file and the line. */
lm_status lm_loader_add_csv(lm_loader *l, const char *path);
/* Keep only these items (0-based, in this order, no repeats). */
lm_status lm_loader_select(lm_loader *l, const int64_t *items, int64_t count);

int64_t lm_loader_count(const lm_loader *l);
int64_t lm_loader_batches(const lm_loader *l); /* per epoch */
/* The bytes of the image (file, or entry of a pack) of item i into an empty `out`, by many
 * threads at once; an error for a phantom. */
lm_status lm_loader_read(lm_loader *l, int64_t i, lm_bytes *out);
bool lm_loader_has_masks(const lm_loader *l);
const lm_loader_options *lm_loader_settings(const lm_loader *l);
/* Path of item i, or "phantom:index". Valid until the next call; a path as long as the loader. */
const char *lm_loader_name(lm_loader *l, int64_t i);
/* Item i whole and unchanged, read anew; the caller frees it. Errors name the file. */
lm_status lm_loader_whole(lm_loader *l, int64_t i, lm_decoded **out);
void lm_decoded_free(lm_decoded *d); /* NULL is fine */

/* A finished batch: n <= batch images; what was not asked for is NULL. */
typedef struct lm_batch {
  int64_t n;
  float *image;       /* [n, channels (one more with vesselness), size, size] */
  float *mask;        /* [n, 1, size, size], 0 or 1, or class numbers */
  float *vessel_mask; /* [n, 1, size, size], 0 or 1 */
  float *reference[LM_LOADER_REFERENCES]; /* as image; a missing one is zeros */
  float *has[LM_LOADER_REFERENCES];       /* [n], 1 where there is one, else 0 */
  float *scores;      /* [n, metrics] */
  int64_t *index;     /* [n] item numbers */
} lm_batch;

/* Add item i, as it is but for its size, with its mask if it has one, to a pack: when its
 * shorter side is longer than `size`, it becomes that. */
lm_status lm_loader_pack(lm_loader *l, int64_t i, lm_packer *packer, const char *name,
                         bool with_mask, int64_t size, int quality);

/* Begin `epoch` at its batch number `first` (0-based); what was under way is dropped. */
lm_status lm_loader_start(lm_loader *l, int64_t epoch, int64_t first);
/* The next batch, valid until the next call; *done when the epoch is over. */
lm_status lm_loader_next(lm_loader *l, lm_batch *out, bool *done);
double lm_loader_wait_seconds(const lm_loader *l); /* time lm_loader_next has waited, in all */

#endif
