/* resize.c: resampling of feature maps and images, separable along rows and columns.
 *
 * Each axis has a table: output o is the sum over k < taps of weight[k][o] * x[start[o] +
 * k]. The tables follow PyTorch's interpolate, edge rules included. The gradient is the
 * same computation with transposed tables, so there is one kernel. A table's weights are
 * stored tap by tap, which lets the loop over outputs vectorise. Tables are made per
 * call: they cost taps * (rows + columns), a map costs rows * columns per channel. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops/resize.h"

extern const lm_op lm_op_resize_backward;

#define PARALLEL_WORK 65536

typedef enum filter { NEAREST, BILINEAR, BICUBIC } filter;

/* Doubling by bilinear interpolation, and its adjoint: weights 1/4 and 3/4 but at the
 * edges. */
enum { GENERAL, DOUBLING, HALVING };

typedef lm_resize_table table;

void lm_resize_table_free(table *t)
{
  free(t->start);
  free(t->weight);
  free(t->narrow);
}

static lm_status table_alloc(table *t, int64_t in, int64_t out, int64_t taps)
{
  *t = (table){.in = in, .out = out, .taps = lm_min64(taps, in)};
  LM_TRY(lm_calloc(&t->start, (size_t)out, sizeof *t->start));
  return lm_calloc(&t->weight, (size_t)(t->taps * out), sizeof *t->weight);
}

/* ---- tables ---- */

static double cubic(double x, double a)
{
  x = fabs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

/* Taps that stick out at an edge repeat the edge's element. */
static void add_tap(table *t, int64_t o, int64_t index, double weight)
{
  int64_t k = lm_max64(lm_min64(index, t->in - 1), 0) - t->start[o];
  t->weight[k * t->out + o] += weight;
}

static int32_t place_start(const table *t, int64_t first)
{
  return (int32_t)lm_max64(lm_min64(first, t->in - t->taps), 0);
}

/* Nearest uses single precision, as PyTorch does, so that ties fall on the same side. */
static lm_status table_nearest(table *t, int64_t in, int64_t out)
{
  LM_TRY(table_alloc(t, in, out, 1));
  float scale = (float)in / (float)out;
  for (int64_t o = 0; o < out; o++) {
    t->start[o] = place_start(t, (int64_t)floorf((float)o * scale));
    t->weight[o] = 1;
  }
  return LM_OK;
}

static lm_status table_point(table *t, int64_t in, int64_t out, filter f, bool align)
{
  double scale = (double)in / (double)out;
  if (align) scale = out > 1 ? (double)(in - 1) / (double)(out - 1) : 0;
  LM_TRY(table_alloc(t, in, out, f == BICUBIC ? 4 : 2));
  for (int64_t o = 0; o < out; o++) {
    double x = align ? (double)o * scale : ((double)o + 0.5) * scale - 0.5;
    if (f == BILINEAR) x = x < 0 ? 0 : x;
    double low = floor(x), rest = x - low;
    int64_t i = (int64_t)low;
    if (f == BILINEAR) {
      t->start[o] = place_start(t, i);
      add_tap(t, o, i, 1 - rest);
      add_tap(t, o, i + 1, rest);
    } else {
      t->start[o] = place_start(t, i - 1);
      for (int k = -1; k <= 2; k++) add_tap(t, o, i + k, cubic(rest - k, -0.75));
    }
  }
  return LM_OK;
}

/* Antialiasing: the filter is as wide as one output pixel, and cut off and renormalised
 * at the edges. */
static lm_status table_wide(table *t, int64_t in, int64_t out, filter f)
{
  double scale = (double)in / (double)out, stretch = scale > 1 ? scale : 1;
  double support = (f == BICUBIC ? 2 : 1) * stretch;
  LM_TRY(table_alloc(t, in, out, (int64_t)ceil(support) * 2 + 1));
  for (int64_t o = 0; o < out; o++) {
    double center = scale * ((double)o + 0.5), sum = 0;
    int64_t first = lm_max64((int64_t)(center - support + 0.5), 0);
    int64_t last = lm_min64((int64_t)(center + support + 0.5), in);
    t->start[o] = place_start(t, first);
    for (int pass = 0; pass < 2; pass++) {
      for (int64_t i = first; i < last; i++) {
        double d = ((double)i - center + 0.5) / stretch;
        double w = f == BICUBIC ? cubic(d, -0.5) : fmax(0, 1 - fabs(d));
        if (pass == 0) sum += w;
        else add_tap(t, o, i, sum != 0 ? w / sum : 0);
      }
    }
  }
  return LM_OK;
}

/* The table of the adjoint map: input i collects from the outputs that used it. */
static lm_status table_transpose(const table *t, table *r)
{
  int64_t *first, taps = 1;
  LM_TRY(lm_calloc(&first, (size_t)(2 * t->in), sizeof *first));
  int64_t *last = first + t->in;
  for (int64_t i = 0; i < t->in; i++) last[i] = -1;
  for (int64_t o = 0; o < t->out; o++) {
    for (int64_t k = 0; k < t->taps; k++) {
      int64_t i = t->start[o] + k;
      if (t->weight[k * t->out + o] == 0) continue;
      if (last[i] < 0) first[i] = o;
      last[i] = o;
      taps = lm_max64(taps, o - first[i] + 1);
    }
  }
  lm_status status = table_alloc(r, t->out, t->in, taps);
  for (int64_t i = 0; status == LM_OK && i < t->in; i++)
    r->start[i] = place_start(r, first[i]);
  free(first);
  if (status != LM_OK) return status;
  for (int64_t o = 0; o < t->out; o++) {
    for (int64_t k = 0; k < t->taps; k++) {
      double w = t->weight[k * t->out + o];
      if (w != 0) add_tap(r, t->start[o] + k, o, w);
    }
  }
  return LM_OK;
}

static lm_status table_narrow(table *t)
{
  int64_t n = t->taps * t->out;
  LM_TRY(lm_calloc(&t->narrow, (size_t)n, sizeof(float)));
  for (int64_t i = 0; i < n; i++) ((float *)t->narrow)[i] = (float)t->weight[i];
  return LM_OK;
}

typedef struct settings {
  filter f;
  bool antialias, align;
} settings;

static lm_status table_make(table *t, int64_t in, int64_t out, const settings *s,
                            bool back)
{
  lm_status status;
  if (in == out || s->f == NEAREST) status = table_nearest(t, in, out);
  else if (s->antialias) status = table_wide(t, in, out, s->f);
  else status = table_point(t, in, out, s->f, s->align);
  bool doubles = out == 2 * in && s->f == BILINEAR && !s->antialias && !s->align;
  if (doubles) t->shape = DOUBLING;
  if (status == LM_OK && back) {
    table forward = *t;
    *t = (table){0};
    status = table_transpose(&forward, t);
    if (doubles) t->shape = HALVING;
    lm_resize_table_free(&forward);
  }
  return status == LM_OK ? table_narrow(t) : status;
}

/* ---- kernels ---- */

/* taps: outputs from .. to - 1 of a row by the table. row: a whole row; doubling and
 * halving have their weights built in. mix: output row o from the rows of x, each `width`
 * wide. map: one map; the axis that grows goes last, so that less is computed. */
#define RESIZE_MAP(suffix, type, weights)                                             \
  static void taps_##suffix(const table *t, const type *restrict x, type *restrict y, \
                            int64_t from, int64_t to)                                 \
  {                                                                                   \
    const int32_t *start = t->start;                                                  \
    const type *w = t->weights;                                                       \
    for (int64_t o = from; o < to; o++) y[o] = w[o] * x[start[o]];                    \
    for (int64_t k = 1; k < t->taps; k++) {                                           \
      w += t->out;                                                                    \
      for (int64_t o = from; o < to; o++) y[o] += w[o] * x[start[o] + k];             \
    }                                                                                 \
  }                                                                                   \
  static void row_##suffix(const table *t, const type *restrict x, type *restrict y)  \
  {                                                                                   \
    const type a = (type)0.25, b = (type)0.75;                                        \
    if (t->shape == DOUBLING) {                                                       \
      y[0] = x[0];                                                                    \
      for (int64_t i = 0; i + 1 < t->in; i++) {                                       \
        y[2 * i + 1] = b * x[i] + a * x[i + 1];                                       \
        y[2 * i + 2] = a * x[i] + b * x[i + 1];                                       \
      }                                                                               \
      y[t->out - 1] = x[t->in - 1];                                                   \
    } else if (t->shape == HALVING && t->out > 1) {                                   \
      taps_##suffix(t, x, y, 0, 1);                                                   \
      for (int64_t i = 1; i + 1 < t->out; i++)                                        \
        y[i] = a * (x[2 * i - 1] + x[2 * i + 2]) + b * (x[2 * i] + x[2 * i + 1]);     \
      taps_##suffix(t, x, y, t->out - 1, t->out);                                     \
    } else {                                                                          \
      taps_##suffix(t, x, y, 0, t->out);                                              \
    }                                                                                 \
  }                                                                                   \
  static void mix_##suffix(const table *t, int64_t o, int64_t width,                  \
                           const type *restrict x, type *restrict y)                  \
  {                                                                                   \
    const type *row = x + t->start[o] * width, *w = (const type *)t->weights + o;     \
    int64_t n = t->taps;                                                              \
    if (n == 1) {                                                                     \
      for (int64_t i = 0; i < width; i++) y[i] = w[0] * row[i];                       \
    } else {                                                                          \
      type w0 = w[0], w1 = w[t->out];                                                 \
      for (int64_t i = 0; i < width; i++) y[i] = w0 * row[i] + w1 * row[width + i];   \
    }                                                                                 \
    for (int64_t k = 2; k < n; k++) {                                                 \
      type wk = w[k * t->out];                                                        \
      for (int64_t i = 0; i < width; i++) y[i] += wk * row[k * width + i];            \
    }                                                                                 \
  }                                                                                   \
  static void map_##suffix(const table *rows, const table *cols, const void *from,    \
                           void *to, void *buffer)                                    \
  {                                                                                   \
    const type *x = from;                                                             \
    type *y = to, *b = buffer;                                                        \
    if (rows->out > rows->in) {                                                       \
      for (int64_t i = 0; i < rows->in; i++)                                          \
        row_##suffix(cols, x + i * cols->in, b + i * cols->out);                      \
      for (int64_t o = 0; o < rows->out; o++)                                         \
        mix_##suffix(rows, o, cols->out, b, y + o * cols->out);                       \
    } else {                                                                          \
      for (int64_t o = 0; o < rows->out; o++) {                                       \
        mix_##suffix(rows, o, cols->in, x, b);                                        \
        row_##suffix(cols, b, y + o * cols->out);                                     \
      }                                                                               \
    }                                                                                 \
  }
RESIZE_MAP(f32, float, narrow)
RESIZE_MAP(f64, double, weight)

static lm_status resize_maps(const lm_call *c, const table *rows, const table *cols)
{
  const lm_tensor *x = c->in[0];
  int64_t maps = x->shape[0] * x->shape[1], size = lm_dtype_size(x->dtype);
  int64_t in = rows->in * cols->in * size, out = rows->out * cols->out * size;
  int64_t work = rows->out > rows->in ? rows->in * cols->out : cols->in;
  const char *from = lm_data(x);
  char *to = lm_data(c->out[0]);
  bool failed = false;
#pragma omp parallel if (maps * (in + out) > PARALLEL_WORK * size) reduction(|| : failed)
  {
    void *buffer = malloc((size_t)(work * size));
    failed = !buffer;
#pragma omp for schedule(static)
    for (int64_t m = 0; m < maps; m++) {
      if (!buffer) continue;
      if (x->dtype == LM_F64) map_f64(rows, cols, from + m * in, to + m * out, buffer);
      else map_f32(rows, cols, from + m * in, to + m * out, buffer);
    }
    free(buffer);
  }
  if (failed)
    return lm_op_fail(c, LM_ERR_MEMORY, "no memory for maps of %lld bytes",
                      (long long)out);
  return LM_OK;
}

lm_status lm_resize_tables(const lm_call *c, bool back, table *rows, table *cols)
{
  const char *mode = c->param[1].s;
  const int64_t *in = c->in[0]->shape + 2, *out = c->out[0]->shape + 2;
  settings s = {.antialias = c->param[2].i != 0, .align = c->param[3].i != 0};
  s.f = strcmp(mode, "nearest") == 0   ? NEAREST
        : strcmp(mode, "bicubic") == 0 ? BICUBIC
                                       : BILINEAR;
  *rows = *cols = (table){0};
  LM_TRY(table_make(rows, back ? out[0] : in[0], back ? in[0] : out[0], &s, back));
  return table_make(cols, back ? out[1] : in[1], back ? in[1] : out[1], &s, back);
}

static lm_status resize_run(const lm_call *c, bool back)
{
  table rows, cols;
  lm_status status = lm_resize_tables(c, back, &rows, &cols);
  if (status == LM_OK) status = resize_maps(c, &rows, &cols);
  lm_resize_table_free(&rows);
  lm_resize_table_free(&cols);
  return status;
}

/* ---- the operation ---- */

static lm_status check_mode(const lm_call *c)
{
  const char *mode = c->param[1].s;
  bool nearest = strcmp(mode, "nearest") == 0;
  if (!nearest && strcmp(mode, "bilinear") != 0 && strcmp(mode, "bicubic") != 0)
    return lm_op_fail(c, LM_ERR_ARG, "mode '%.40s' is not nearest, bilinear or bicubic",
                      mode);
  bool antialias = c->param[2].i != 0, align = c->param[3].i != 0;
  if (nearest && (antialias || align))
    return lm_op_fail(c, LM_ERR_ARG, "%s has no meaning for mode nearest",
                      antialias ? "antialias" : "align_corners");
  if (antialias && align)
    return lm_op_fail(c, LM_ERR_ARG, "%s",
                      "antialias and align_corners exclude each other");
  return LM_OK;
}

static lm_status resize_infer(lm_call *c)
{
  const lm_tensor *x = c->in[0];
  int64_t size[2];
  LM_TRY(lm_check_float(c, 0));
  LM_TRY(lm_check_ndim(c, 0, 4));
  LM_TRY(lm_expand_ints(c, 0, 2, 1, size));
  LM_TRY(check_mode(c));
  if (x->shape[2] < 1 || x->shape[3] < 1)
    return lm_op_fail(c, LM_ERR_SHAPE, "x has no pixels (x: %s)", lm_describe(x));
  if (lm_max64(size[0], size[1]) > INT32_MAX ||
      lm_max64(x->shape[2], x->shape[3]) > INT32_MAX)
    return lm_op_fail(c, LM_ERR_SHAPE, "size %lld x %lld is too large (x: %s)",
                      (long long)size[0], (long long)size[1], lm_describe(x));
  return lm_out(c, 0, x->dtype, 4,
                (int64_t[]){x->shape[0], x->shape[1], size[0], size[1]});
}

static lm_status resize_cpu(lm_call *c)
{
  return resize_run(c, false);
}

static lm_status resize_grad(lm_call *c, lm_tensor *const *gout, lm_tensor **gin)
{
  lm_value p[] = {lm_ints(2, c->in[0]->shape + 2), lm_str(c->param[1].s),
                  lm_int(c->param[2].i), lm_int(c->param[3].i)};
  return lm_apply(&lm_op_resize_backward, LM_IN(gout[0]), p, gin);
}

const lm_op lm_op_resize = {
    .name = "resize",
    .sig = "x; size: ints, mode: str = bilinear, antialias: bool = false, "
           "align_corners: bool = false",
    .doc =
        "Maps x [N, C, H, W] resampled to [N, C, size]; size is one number or (height, "
        "width), mode nearest, bilinear or bicubic. Results equal PyTorch's interpolate: "
        "pixel centres at half integers unless align_corners; bicubic with a = -0.75, "
        "a = -0.5 when antialias widens the filter for shrinking.\n"
    "> lumen.tensor{{{{0, 4}}}}:resize({size = {1, 4}})\n"
    "f32 [1 x 1 x 1 x 4] {0, 1, 3, 4}\n"
    "> x = lumen.randn(1, 3, 64, 64)\n"
    "> x:resize({size = 16, mode = \"bicubic\", antialias = true}).shape\n"
    "{1, 3, 16, 16}",
    .infer = resize_infer,
    .cpu = resize_cpu,
    .grad = resize_grad};

static lm_status resize_backward_infer(lm_call *c)
{
  const lm_tensor *g = c->in[0];
  const int64_t *size = c->param[0].v;
  return lm_out(c, 0, g->dtype, 4,
                (int64_t[]){g->shape[0], g->shape[1], size[0], size[1]});
}

static lm_status resize_backward_cpu(lm_call *c)
{
  return resize_run(c, true);
}

const lm_op lm_op_resize_backward = {
    .name = "resize_backward",
    .sig = "g; size: ints, mode: str, antialias: bool, align_corners: bool",
    .doc = "The adjoint of resize: from the gradient of the result to that of maps of "
           "`size`.",
    .infer = resize_backward_infer,
    .cpu = resize_backward_cpu,
    .flags = LM_OP_INTERNAL};
