/* pack.h: many small pictures and their masks in one file that is read from front to back.
 *
 * All numbers are little-endian. A pack is
 *   8 bytes     "LUMENPK1"
 *   entries     image (JPEG), then its mask (PNG: 0 and 255, or class numbers) if it has one;
 *               one after the other without gaps
 *   index       a JSON text: {"classes": K, "parts": [{"split": "train", "count": N, ...}, ...]}
 *               and whatever else the writer wants to tell; the entries of a part follow each
 *               other, parts follow each other
 *               32 bytes per entry: u64 offset, u32 bytes of the image, u32 of the mask
 *               (0: none), u64 hash of both, u32 offset of the name, u16 height, u16 width
 *               the names, each ended by a 0
 *   40 bytes    u64 offset and u64 bytes of the index, u64 hash of it, u32 bytes of the JSON
 *               text, u32 number of entries, "LUMENPK1"
 * Hashes are lm_bytes_hash with seed 0: they find damage, not forgery; a forged file can hold
 * wrong pictures, but no more harm. */
#ifndef LUMEN_IO_PACK_H
#define LUMEN_IO_PACK_H

#include "io/file.h"
#include "io/imagefile.h"

/* ---- reading ---- */

typedef struct lm_pack_part {
  char *split;
  int64_t first, count;
} lm_pack_part;

typedef struct lm_pack {
  char *path;
  char *about; /* the JSON text */
  int64_t count;
  int classes; /* masks hold 0..classes; 0: they hold 0 and 255 */
  lm_pack_part *part;
  int64_t parts;
  lm_bytes file;
  const unsigned char *record;
  const char *name;
  struct lm_pack *next; /* for a list of packs */
} lm_pack;

/* The index is checked here, an entry when it is read. LM_ERR_IO, LM_ERR_FORMAT. */
lm_status lm_pack_open(lm_pack **out, const char *path);
void lm_pack_close(lm_pack *pack); /* NULL is fine */

const char *lm_pack_name(const lm_pack *pack, int64_t entry);
bool lm_pack_has_mask(const lm_pack *pack, int64_t entry);
/* The image's bytes as they are stored; not to be freed. */
lm_bytes lm_pack_image_bytes(const lm_pack *pack, int64_t entry);
/* Image and, unless NULL, mask of an entry: grey, 8 bits. On any number of threads. Errors
 * name the file and the entry. */
lm_status lm_pack_read(const lm_pack *pack, int64_t entry, lm_image *image, lm_image *mask);

/* ---- writing ---- */

typedef struct lm_packer {
  lm_aside aside;
  uint64_t offset;
  lm_bytes records, names;
  int64_t count;
} lm_packer;

lm_status lm_packer_open(lm_packer *p, const char *path);
/* A grey 8-bit image and its mask of the same size, or NULL. */
lm_status lm_packer_add(lm_packer *p, const char *name, const lm_image *image,
                        const lm_image *mask, int quality);
/* Write the index with this JSON text, and put the file in its place. Ends the packer. */
lm_status lm_packer_commit(lm_packer *p, const char *about);
/* Leave nothing behind. After an error, or instead of a commit; a second time is fine. */
void lm_packer_abandon(lm_packer *p);

#endif
