/* json.h: parsing JSON text with cJSON, strictly. Building and printing is cJSON's own
 * API.
 *
 * cJSON keeps strings as C strings and would cut them silently at a NUL, so text with a
 * NUL (as a byte or escaped) is an error here; so is anything after the value but blanks.
 * Nesting is limited to 1000 levels by cJSON. Numbers are doubles: integers are exact up
 * to 2^53. */
#ifndef LUMEN_IO_JSON_H
#define LUMEN_IO_JSON_H

#include <cjson/cJSON.h>

#include "base/base.h"

/* Parse `size` bytes; `name` stands in the message (LM_ERR_FORMAT, with the byte of the
 * mistake). Free with cJSON_Delete. */
lm_status lm_json_parse(cJSON **out, const char *text, size_t size, const char *name);

/* Parse a large JSON object piece by piece: `visit` gets each element of the arrays that
 * are its members, `index` from 0, and each other member with the index -1, as a tree of
 * its own that is freed afterwards; an array itself is announced by index -1 and NULL. So
 * memory is bounded by the largest piece, which may have `limit` bytes. Stops at the first
 * error, of the text (as lm_json_parse) or of `visit`. */
typedef lm_status lm_json_visit(void *context, const char *key, int64_t index,
                                const cJSON *piece);
lm_status lm_json_walk(const char *text, size_t size, const char *name, size_t limit,
                       lm_json_visit *visit, void *context);

/* Is it well-formed UTF-8 (no overlong forms, no surrogates)? JSON strings have to be. */
bool lm_utf8_valid(const char *text, size_t size);

#endif
