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

/* Is it well-formed UTF-8 (no overlong forms, no surrogates)? JSON strings have to be. */
bool lm_utf8_valid(const char *text, size_t size);

#endif
