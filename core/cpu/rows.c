/* rows.c: lm_rows_run (see rows.h): merged dimensions, an odometer over the outer ones,
 * and pieces of rows shared out between threads. */
#include "cpu/rows.h"

#define PIECE 16384         /* elements of a row given to the row function at once */
#define PARALLEL_FROM 65536 /* fewer elements are not worth waking threads */

typedef struct walk {
  int n, ndim;
  int64_t shape[LM_MAX_DIMS];
  int64_t stride[LM_MAX_ROW_OPERANDS][LM_MAX_DIMS]; /* elements */
  int64_t size[LM_MAX_ROW_OPERANDS];                /* bytes per element */
  char *base[LM_MAX_ROW_OPERANDS];
  int64_t pieces; /* per row */
  lm_row_fn fn;
  const void *context;
} walk;

/* Stride of t along dimension d of a shape with ndim dimensions, 0 where t is broadcast.
 */
static int64_t stride_of(const lm_tensor *t, int d, int ndim)
{
  d -= ndim - t->ndim;
  return d < 0 || t->shape[d] == 1 ? 0 : t->stride[d];
}

static void walk_make(walk *w, int n, lm_tensor *const *operand)
{
  const lm_tensor *first = operand[0];
  w->n = n;
  w->ndim = 0;
  for (int k = 0; k < n; k++) {
    w->size[k] = lm_dtype_size(operand[k]->dtype);
    w->base[k] = lm_data(operand[k]);
  }
  for (int d = 0; d < first->ndim; d++) {
    if (first->shape[d] == 1) continue;
    int last = w->ndim - 1;
    bool merge = last >= 0;
    for (int k = 0; k < n && merge; k++)
      merge =
          w->stride[k][last] == stride_of(operand[k], d, first->ndim) * first->shape[d];
    int to = merge ? last : w->ndim++;
    w->shape[to] = merge ? w->shape[to] * first->shape[d] : first->shape[d];
    for (int k = 0; k < n; k++) w->stride[k][to] = stride_of(operand[k], d, first->ndim);
  }
  if (w->ndim == 0) {
    w->ndim = 1;
    w->shape[0] = 1;
    for (int k = 0; k < n; k++) w->stride[k][0] = 1;
  }
}

/* Pieces [first, last) of the walk. */
static void walk_run(const walk *w, int64_t first, int64_t last)
{
  int inner = w->ndim - 1;
  int64_t index[LM_MAX_DIMS], step[LM_MAX_ROW_OPERANDS];
  int64_t row = first / w->pieces, piece = first % w->pieces;
  char *p[LM_MAX_ROW_OPERANDS], *q[LM_MAX_ROW_OPERANDS];
  for (int k = 0; k < w->n; k++) {
    p[k] = w->base[k];
    step[k] = w->stride[k][inner];
  }
  for (int d = inner - 1; d >= 0; d--) {
    index[d] = row % w->shape[d];
    row /= w->shape[d];
    for (int k = 0; k < w->n; k++) p[k] += index[d] * w->stride[k][d] * w->size[k];
  }
  for (int64_t i = first; i < last; i++) {
    int64_t begin = piece * PIECE, count = lm_min64(PIECE, w->shape[inner] - begin);
    for (int k = 0; k < w->n; k++) q[k] = p[k] + begin * step[k] * w->size[k];
    w->fn(count, q, step, w->context);
    if (++piece < w->pieces) continue;
    piece = 0;
    for (int d = inner - 1; d >= 0; d--) {
      bool wrap = ++index[d] == w->shape[d];
      int64_t by = wrap ? 1 - w->shape[d] : 1;
      for (int k = 0; k < w->n; k++) p[k] += by * w->stride[k][d] * w->size[k];
      if (!wrap) break;
      index[d] = 0;
    }
  }
}

void lm_rows_run(int n, lm_tensor *const *operand, lm_row_fn fn, const void *context)
{
  walk w = {.fn = fn, .context = context};
  int64_t elements = lm_numel(operand[0]);
  if (elements == 0) return;
  walk_make(&w, n, operand);
  int64_t length = w.shape[w.ndim - 1];
  w.pieces = (length + PIECE - 1) / PIECE;
  int64_t items = elements / length * w.pieces;
  if (elements < PARALLEL_FROM || items < 2) {
    walk_run(&w, 0, items);
    return;
  }
  int64_t parts = lm_min64(items, elements / (PARALLEL_FROM / 2));
#pragma omp parallel for schedule(static)
  for (int64_t part = 0; part < parts; part++)
    walk_run(&w, part * items / parts, (part + 1) * items / parts);
}
