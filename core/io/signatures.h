/* signatures.h: signatures (vision/similar.h) of a loader's images, kept in a file so that each
 * image is decoded for it once.
 *
 * The file is a heading and records of {hash of the image file's content, signature}. Records
 * are only ever added, under a lock; a last record (or a heading) that was cut short is ignored
 * and written over. A file that cannot be read or written costs a warning and time. */
#ifndef LUMEN_IO_SIGNATURES_H
#define LUMEN_IO_SIGNATURES_H

#include "io/loader.h"
#include "vision/similar.h"

/* Signatures of all items of a loader of files into out [count, LM_SIGNATURE], by all threads.
 * Items that cannot be read get all zeros (similar to nothing) and are counted; the error
 * record says what is wrong with the first of them. cache: path of the file, or NULL. stop:
 * asked now and then; true ends with LM_ERR_INTERRUPT, and what was made stays in the file. */
lm_status lm_signatures_of(lm_loader *l, const char *cache, bool (*stop)(void), int8_t *out,
                           int64_t *bad);

#endif
