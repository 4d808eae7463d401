/* json.c: strict parsing of JSON with cJSON, and the check of UTF-8. */
#include "io/json.h"

#include <string.h>

/* Is there an escaped NUL? A backslash escapes the character after it, whatever it is. */
static bool has_escaped_nul(const char *text, size_t size)
{
  for (size_t i = 0; i + 1 < size; i++) {
    if (text[i] != '\\') continue;
    i++;
    if (text[i] == 'u' && size - i > 4 && memcmp(text + i + 1, "0000", 4) == 0)
      return true;
  }
  return false;
}

lm_status lm_json_parse(cJSON **out, const char *text, size_t size, const char *name)
{
  *out = NULL;
  if (size == 0) return lm_fail(LM_ERR_FORMAT, "%s: empty JSON text", name);
  if (memchr(text, '\0', size) || has_escaped_nul(text, size)) {
    return lm_fail(LM_ERR_FORMAT, "%s: JSON text with a NUL character", name);
  }
  const char *end = NULL;
  cJSON *json = cJSON_ParseWithLengthOpts(text, size, &end, 0);
  size_t at = end ? (size_t)(end - text) : 0;
  while (json && at < size && strchr(" \t\r\n", text[at]))
    at++;
  if (json && at == size) {
    *out = json;
    return LM_OK;
  }
  cJSON_Delete(json);
  return lm_fail(LM_ERR_FORMAT, "%s: bad JSON at byte %zu of %zu", name, at + 1, size);
}

bool lm_utf8_valid(const char *text, size_t size)
{
  const unsigned char *p = (const unsigned char *)text;
  for (size_t i = 0; i < size;) {
    if (p[i] < 0x80) {
      i++;
      continue;
    }
    int more = p[i] >= 0xf0 ? 3 : p[i] >= 0xe0 ? 2 : 1;
    if (p[i] < 0xc2 || p[i] > 0xf4 || size - i <= (size_t)more) return false;
    uint32_t code = p[i] & (0x3fu >> more);
    for (int k = 1; k <= more; k++) {
      if ((p[i + (size_t)k] & 0xc0) != 0x80) return false;
      code = code << 6 | (p[i + (size_t)k] & 0x3fu);
    }
    if ((more == 2 && code < 0x800) || (code >= 0xd800 && code < 0xe000)) return false;
    if (more == 3 && (code < 0x10000 || code > 0x10ffff)) return false;
    i += 1 + (size_t)more;
  }
  return true;
}
