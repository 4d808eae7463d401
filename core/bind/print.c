/* print.c: a tensor as text: shape, dtype and device, minimum, mean and maximum, and an excerpt
 * in aligned columns. Reads the elements where they lie; a tensor of any size prints at once.
 *
 *   f32 cpu [2 x 3]  min -1.2  mean 0.5  max 3  requires_grad
 *   [[ 0.5 -1.2  3. ]
 *    [ ...          ]] */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bind/bind.h"

enum { WIDTH = 88, MOST_DECIMALS = 4, TEXT = 32 };

double lm_number_at(lm_dtype dtype, const void *data, int64_t i)
{
  switch (dtype) {
    case LM_F32: return (double)((const float *)data)[i];
    case LM_F64: return ((const double *)data)[i];
    case LM_BF16: return (double)lm_bf16_to_f32(((const lm_bf16 *)data)[i]);
    case LM_I32: return ((const int32_t *)data)[i];
    case LM_U8: return ((const uint8_t *)data)[i];
    default: return (double)((const int64_t *)data)[i];
  }
}

/* ---- minimum, mean, maximum ---- */

typedef struct stats {
  double min, max, sum;
  int64_t finite, nan, inf;
} stats;

static void count_number(stats *s, double v)
{
  if (isfinite(v)) {
    if (v < s->min) s->min = v;
    if (v > s->max) s->max = v;
    s->sum += v;
    s->finite++;
  } else if (isnan(v)) {
    s->nan++;
  } else {
    s->inf++;
  }
}

static void count_row(stats *s, const lm_tensor *t, int64_t at, int64_t n, int64_t stride)
{
  if (stride == 0 && n > 1) n = 1;
  const void *data = lm_data(t);
  if (t->dtype == LM_F32) { /* nearly always */
    const float *x = (const float *)data + at;
    for (int64_t i = 0; i < n; i++) count_number(s, (double)x[i * stride]);
  } else {
    for (int64_t i = 0; i < n; i++) count_number(s, lm_number_at(t->dtype, data, at + i * stride));
  }
}

/* Along a broadcast dimension all are alike: one stands for them. */
static void count_all(stats *s, const lm_tensor *t, int dim, int64_t at)
{
  if (t->ndim == 0) {
    count_row(s, t, at, 1, 1);
  } else if (dim == t->ndim - 1) {
    count_row(s, t, at, t->shape[dim], t->stride[dim]);
  } else {
    int64_t n = t->stride[dim] == 0 ? 1 : t->shape[dim];
    for (int64_t i = 0; i < n; i++) count_all(s, t, dim + 1, at + i * t->stride[dim]);
  }
}

/* ---- the form of one element ---- */

typedef struct form {
  lm_dtype dtype;
  int decimals, width;
  bool scientific, whole;
} form;

/* Does `text` read back as the same element? */
static bool reads_back(lm_dtype dtype, double v, const char *text)
{
  double back = strtod(text, NULL);
  if (dtype == LM_F32) return (float)back == (float)v;
  if (dtype == LM_BF16) return lm_f32_to_bf16((float)back) == lm_f32_to_bf16((float)v);
  return back == v;
}

static void element_text(const form *f, const lm_tensor *t, int64_t at, char *text)
{
  double v = lm_number_at(t->dtype, lm_data(t), at);
  if (isnan(v)) snprintf(text, TEXT, "nan");
  else if (t->dtype == LM_I64)
    snprintf(text, TEXT, "%lld", (long long)((const int64_t *)lm_data(t))[at]);
  else if (f->scientific && isfinite(v)) snprintf(text, TEXT, "%.3e", v);
  else snprintf(text, TEXT, "%.*f", f->decimals, v);
}

/* ---- which elements are shown ---- */

/* Along each dimension all indices, or the first and the last `edge` ones. */
typedef struct excerpt {
  const lm_tensor *t;
  form form;
  int64_t edge[LM_MAX_DIMS]; /* 0: all */
  luaL_Buffer *out;
} excerpt;

/* The index after i among those shown; jumps over the gap. */
static int64_t next_shown(const excerpt *e, int dim, int64_t i)
{
  int64_t n = e->t->shape[dim], edge = e->edge[dim];
  return edge > 0 && i + 1 == edge ? n - edge : i + 1;
}

typedef void visitor(void *state, const lm_tensor *t, int64_t at);

static void visit(const excerpt *e, int dim, int64_t at, visitor *each, void *state)
{
  if (dim == e->t->ndim) {
    each(state, e->t, at);
    return;
  }
  for (int64_t i = 0; i < e->t->shape[dim]; i = next_shown(e, dim, i))
    visit(e, dim + 1, at + i * e->t->stride[dim], each, state);
}

typedef struct range { double largest; bool whole; } range;

static void see_range(void *state, const lm_tensor *t, int64_t at)
{
  range *r = state;
  double v = lm_number_at(t->dtype, lm_data(t), at);
  if (!isfinite(v)) return;
  if (fabs(v) > r->largest) r->largest = fabs(v);
  if (v != floor(v)) r->whole = false;
}

static void see_decimals(void *state, const lm_tensor *t, int64_t at)
{
  form *f = state;
  char text[TEXT];
  double v = lm_number_at(t->dtype, lm_data(t), at);
  if (!isfinite(v)) return;
  for (; f->decimals < MOST_DECIMALS; f->decimals++) {
    element_text(f, t, at, text);
    if (reads_back(t->dtype, v, text)) return;
  }
}

static void see_width(void *state, const lm_tensor *t, int64_t at)
{
  form *f = state;
  char text[TEXT];
  element_text(f, t, at, text);
  int n = (int)strlen(text);
  if (n > f->width) f->width = n;
}

static void choose_form(excerpt *e)
{
  form *f = &e->form;
  *f = (form){.dtype = e->t->dtype};
  if (lm_dtype_is_float(f->dtype)) {
    range r = {.whole = true};
    visit(e, 0, 0, see_range, &r);
    f->scientific = r.largest >= (r.whole ? 1e9 : 1e5) || (r.largest > 0 && r.largest < 1e-3);
    if (!f->scientific) visit(e, 0, 0, see_decimals, f);
  }
  visit(e, 0, 0, see_width, f);
}

/* Rows and blocks by fixed limits, columns by what fits into the line. */
static void choose_excerpt(excerpt *e)
{
  const lm_tensor *t = e->t;
  for (int d = 0; d < t->ndim; d++) {
    int64_t from_end = t->ndim - 1 - d, n = t->shape[d];
    int64_t most = from_end == 0 ? 40 : from_end == 1 && t->ndim == 2 ? 10 : from_end == 1 ? 6 : t->ndim == 3 ? 3 : 2;
    int64_t edge = from_end == 0 ? 20 : from_end == 1 && t->ndim == 2 ? 3 : from_end == 1 ? 2 : 1;
    e->edge[d] = n > most ? edge : 0;
  }
  choose_form(e);
  if (t->ndim == 0) return;
  int last = t->ndim - 1;
  int64_t fits = (WIDTH - 2 * t->ndim) / (e->form.width + 1);
  bool wraps = t->ndim == 1 && t->shape[last] <= 40;
  if (t->shape[last] > fits && !wraps) {
    int64_t edge = (fits - 1) / 2;
    e->edge[last] = edge > 1 ? edge : 1;
    choose_form(e);
  }
}

/* ---- writing ---- */

static void add_spaces(luaL_Buffer *b, int64_t n)
{
  for (; n > 0; n--) luaL_addchar(b, ' ');
}

static void write_row(const excerpt *e, int64_t at)
{
  int dim = e->t->ndim - 1;
  int64_t n = e->t->shape[dim], shown = 0, fits = (WIDTH - 2) / (e->form.width + 1);
  char text[TEXT];
  for (int64_t i = 0; i < n; shown++) {
    bool wraps = e->t->ndim == 1 && shown > 0 && shown % fits == 0 && e->edge[dim] == 0;
    if (wraps) luaL_addstring(e->out, "\n ");
    else if (shown > 0) luaL_addchar(e->out, ' ');
    element_text(&e->form, e->t, at + i * e->t->stride[dim], text);
    add_spaces(e->out, e->form.width - (int64_t)strlen(text));
    luaL_addstring(e->out, text);
    int64_t next = next_shown(e, dim, i);
    if (next > i + 1) luaL_addstring(e->out, " ...");
    i = next;
  }
}

static void write_block(const excerpt *e, int dim, int64_t at)
{
  luaL_addchar(e->out, '[');
  if (dim == e->t->ndim - 1) {
    write_row(e, at);
  } else {
    for (int64_t i = 0; i < e->t->shape[dim];) {
      if (i > 0) {
        luaL_addchar(e->out, '\n');
        if (e->t->ndim - dim > 2) luaL_addchar(e->out, '\n');
        add_spaces(e->out, dim + 1);
      }
      write_block(e, dim + 1, at + i * e->t->stride[dim]);
      int64_t next = next_shown(e, dim, i);
      if (next > i + 1) {
        luaL_addchar(e->out, '\n');
        add_spaces(e->out, dim + 1);
        luaL_addstring(e->out, "...");
      }
      i = next;
    }
  }
  luaL_addchar(e->out, ']');
}

static void write_stats(luaL_Buffer *b, const lm_tensor *t)
{
  stats s = {.min = INFINITY, .max = -INFINITY};
  char text[160];
  count_all(&s, t, 0, 0);
  int64_t seen = s.finite + s.nan + s.inf, times = seen > 0 ? lm_numel(t) / seen : 0;
  if (s.finite > 0) {
    snprintf(text, sizeof text, "  min %.5g  mean %.5g  max %.5g", s.min,
             s.sum / (double)s.finite, s.max);
    luaL_addstring(b, text);
  }
  const struct { int64_t count; const char *name; } odd[] = {{s.nan * times, "nan"},
                                                           {s.inf * times, "inf"}};
  for (int i = 0; i < 2; i++) {
    if (odd[i].count == 0) continue;
    snprintf(text, sizeof text, "  %lld %s", (long long)odd[i].count, odd[i].name);
    luaL_addstring(b, text);
  }
}

/* `x` describes the tensor, `t` holds its elements on the CPU (the same one, or a copy). */
void lm_push_text(lua_State *L, const lm_tensor *x, const lm_tensor *t)
{
  luaL_Buffer b;
  char header[200]; /* lm_describe's buffer may be used again below */
  snprintf(header, sizeof header, "%s", lm_describe(x));
  luaL_buffinit(L, &b);
  luaL_addstring(&b, header);
  int64_t n = lm_numel(t);
  if (n > 1) write_stats(&b, t);
  if (x->node) {
    luaL_addstring(&b, "  from ");
    luaL_addstring(&b, x->node->call.op->name);
  } else if (x->requires_grad) {
    luaL_addstring(&b, "  requires_grad");
  }
  if (n == 0) {
    luaL_addstring(&b, "  empty");
  } else {
    excerpt e = {.t = t, .out = &b};
    choose_excerpt(&e);
    if (t->ndim == 0) {
      char text[TEXT];
      luaL_addstring(&b, "  ");
      snprintf(text, sizeof text, t->dtype == LM_I64 ? "%.0f" : "%.7g",
               lm_number_at(t->dtype, lm_data(t), 0));
      luaL_addstring(&b, text);
    } else {
      luaL_addchar(&b, '\n');
      write_block(&e, 0, 0);
    }
  }
  luaL_pushresult(&b);
}
