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

static bool is_blank(char c)
{
  return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Parse text[from .. to), which is part of a text of `size` bytes. */
static lm_status parse_part(cJSON **out, const char *text, size_t from, size_t to,
                            size_t size, const char *name)
{
  const char *part = text + from, *end = NULL;
  *out = NULL;
  if (memchr(part, '\0', to - from) || has_escaped_nul(part, to - from)) {
    return lm_fail(LM_ERR_FORMAT, "%s: JSON text with a NUL character", name);
  }
  cJSON *json = cJSON_ParseWithLengthOpts(part, to - from, &end, 0);
  size_t at = from + (end ? (size_t)(end - part) : 0);
  while (json && at < to && is_blank(text[at]))
    at++;
  if (json && at == to) {
    *out = json;
    return LM_OK;
  }
  cJSON_Delete(json);
  return lm_fail(LM_ERR_FORMAT, "%s: bad JSON at byte %zu of %zu", name, at + 1, size);
}

lm_status lm_json_parse(cJSON **out, const char *text, size_t size, const char *name)
{
  *out = NULL;
  if (size == 0) return lm_fail(LM_ERR_FORMAT, "%s: empty JSON text", name);
  return parse_part(out, text, 0, size, size, name);
}

/* ---- piece by piece ---- */

typedef struct walk {
  const char *text, *name;
  size_t size, at, limit;
  lm_json_visit *visit;
  void *context;
} walk;

static lm_status bad_json(const walk *w)
{
  return lm_fail(LM_ERR_FORMAT, "%s: bad JSON at byte %zu of %zu", w->name, w->at + 1,
                 w->size);
}

/* The next character that is no blank, '\0' at the end. */
static char peek(walk *w)
{
  while (w->at < w->size && is_blank(w->text[w->at]))
    w->at++;
  return w->at < w->size ? w->text[w->at] : '\0';
}

static bool take(walk *w, char c)
{
  if (peek(w) != c) return false;
  w->at++;
  return true;
}

static void skip_string(walk *w)
{
  for (w->at++; w->at < w->size && w->text[w->at] != '"'; w->at++) {
    if (w->text[w->at] == '\\') w->at++;
  }
  w->at++;
}

/* Move behind the value that starts here; whether it is one is for the parser to say. */
static void skip_value(walk *w)
{
  int64_t depth = 0;
  do {
    char c = w->text[w->at];
    if (c == '"') {
      skip_string(w);
      continue;
    }
    bool closes = c == '}' || c == ']';
    if (depth == 0 && (closes || c == ',')) return;
    if (c == '{' || c == '[') depth++;
    if (closes && --depth == 0) {
      w->at++;
      return;
    }
    w->at++;
  } while (w->at < w->size);
}

static lm_status visit_value(walk *w, const char *key, int64_t index)
{
  if (peek(w) == '\0') return bad_json(w);
  size_t from = w->at;
  skip_value(w);
  w->at = w->at < w->size ? w->at : w->size;
  if (w->at == from) return bad_json(w);
  if (w->at - from > w->limit)
    return lm_fail(LM_ERR_FORMAT, "%s: %.99s: an entry at byte %zu has more than %zu bytes",
                   w->name, key, from + 1, w->limit);
  cJSON *piece = NULL;
  LM_TRY(parse_part(&piece, w->text, from, w->at, w->size, w->name));
  lm_status status = w->visit(w->context, key, index, piece);
  cJSON_Delete(piece);
  return status;
}

static lm_status walk_array(walk *w, const char *key)
{
  LM_TRY(w->visit(w->context, key, -1, NULL));
  w->at++;
  if (take(w, ']')) return LM_OK;
  for (int64_t i = 0;; i++) {
    LM_TRY(visit_value(w, key, i));
    if (take(w, ']')) return LM_OK;
    if (!take(w, ',')) return bad_json(w);
  }
}

static lm_status walk_member(walk *w)
{
  if (peek(w) != '"') return bad_json(w);
  size_t from = w->at;
  skip_string(w);
  if (w->at > w->size) {
    w->at = w->size;
    return bad_json(w);
  }
  if (w->at - from > 4096) return bad_json(w);
  cJSON *key = NULL;
  LM_TRY(parse_part(&key, w->text, from, w->at, w->size, w->name));
  lm_status status = take(w, ':') ? LM_OK : bad_json(w);
  if (status == LM_OK)
    status = peek(w) == '[' ? walk_array(w, key->valuestring)
                            : visit_value(w, key->valuestring, -1);
  cJSON_Delete(key);
  return status;
}

lm_status lm_json_walk(const char *text, size_t size, const char *name, size_t limit,
                       lm_json_visit *visit, void *context)
{
  walk w = {text, name, size, 0, limit, visit, context};
  if (!take(&w, '{')) return bad_json(&w);
  if (!take(&w, '}')) {
    do
      LM_TRY(walk_member(&w));
    while (take(&w, ','));
    if (!take(&w, '}')) return bad_json(&w);
  }
  return peek(&w) == '\0' && w.at == w.size ? LM_OK : bad_json(&w);
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
