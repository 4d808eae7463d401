/* copy.c: lm_copy_strided.
 *
 * The layout is first brought to a normal form: dimensions of size 1 dropped, the rest
 * sorted by the destination's strides, neighbours merged where both sides allow, and,
 * where the source is contiguous along another dimension than the destination, that
 * dimension moved next to the innermost one. What is left is an odometer over outer
 * dimensions around a block of rows x columns, copied by runs, element by element, or as
 * a tiled transpose. Each thread takes a fixed range of blocks; results never depend on
 * the partition. */
#include "tensor/copy.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DIMS 13                 /* 12 and the bytes of an unusual element */
#define BLOCK_BYTES (64 * 1024)     /* a thread's unit of work */
#define PARALLEL_BYTES (128 * 1024) /* less is not worth waking threads */
#define TILE 16

typedef struct layout {
  int n;
  int64_t size[MAX_DIMS], src[MAX_DIMS], dst[MAX_DIMS];
  int64_t element; /* bytes: 1, 2, 4 or 8 */
} layout;

typedef struct block {
  int64_t rows, cols;
  int64_t src_row, src_col, dst_row, dst_col; /* strides in elements */
} block;

static void layout_move(layout *l, int from, int to)
{
  int64_t size = l->size[from], src = l->src[from], dst = l->dst[from];
  for (; from > to; from--) {
    l->size[from] = l->size[from - 1];
    l->src[from] = l->src[from - 1];
    l->dst[from] = l->dst[from - 1];
  }
  for (; from < to; from++) {
    l->size[from] = l->size[from + 1];
    l->src[from] = l->src[from + 1];
    l->dst[from] = l->dst[from + 1];
  }
  l->size[to] = size;
  l->src[to] = src;
  l->dst[to] = dst;
}

static bool layout_inside(const layout *l, int a, int b)
{
  int64_t da = llabs(l->dst[a]), db = llabs(l->dst[b]);
  return da != db ? da < db : llabs(l->src[a]) < llabs(l->src[b]);
}

/* Sort by destination stride (largest first) and merge neighbours. */
static void layout_normalise(layout *l)
{
  for (int i = 1; i < l->n; i++) {
    int to = i;
    while (to > 0 && layout_inside(l, to - 1, i)) to--;
    layout_move(l, i, to);
  }
  int n = 0;
  for (int i = 0; i < l->n; i++) {
    if (n > 0 && l->src[n - 1] == l->src[i] * l->size[i] &&
        l->dst[n - 1] == l->dst[i] * l->size[i]) {
      l->size[n - 1] *= l->size[i];
      l->src[n - 1] = l->src[i];
      l->dst[n - 1] = l->dst[i];
    } else {
      l->size[n] = l->size[i];
      l->src[n] = l->src[i];
      l->dst[n] = l->dst[i];
      n++;
    }
  }
  l->n = n;
  for (int i = 0; n > 2 && l->src[n - 1] != 1 && i < n - 2; i++) {
    if (l->src[i] == 1) {
      layout_move(l, i, n - 2);
      break;
    }
  }
}

/* One block, for an element type of a given width. */
#define COPY_BLOCK(name, type)                                                       \
  static void name##_strided(const block *b, const type *src, type *dst)             \
  {                                                                                  \
    for (int64_t i = 0; i < b->rows; i++) {                                          \
      const type *s = src + i * b->src_row;                                          \
      type *d = dst + i * b->dst_row;                                                \
      if (b->dst_col == 1) {                                                         \
        for (int64_t j = 0; j < b->cols; j++) d[j] = s[j * b->src_col];              \
      } else {                                                                       \
        for (int64_t j = 0; j < b->cols; j++) d[j * b->dst_col] = s[j * b->src_col]; \
      }                                                                              \
    }                                                                                \
  }                                                                                  \
  static void name##_runs(const block *b, const type *src, type *dst)                \
  {                                                                                  \
    for (int64_t i = 0; i < b->rows; i++) {                                          \
      const type *s = src + i * b->src_row;                                          \
      type *d = dst + i * b->dst_row;                                                \
      if (b->cols > 8) {                                                             \
        memcpy(d, s, (size_t)b->cols * sizeof(type));                                \
      } else {                                                                       \
        for (int64_t j = 0; j < b->cols; j++) d[j] = s[j];                           \
      }                                                                              \
    }                                                                                \
  }                                                                                  \
  static void name##_transpose(const block *b, const type *src, type *dst)           \
  {                                                                                  \
    type tile[TILE][TILE];                                                           \
    for (int64_t i0 = 0; i0 < b->rows; i0 += TILE) {                                 \
      int64_t ni = b->rows - i0 < TILE ? b->rows - i0 : TILE;                        \
      for (int64_t j0 = 0; j0 < b->cols; j0 += TILE) {                               \
        int64_t nj = b->cols - j0 < TILE ? b->cols - j0 : TILE;                      \
        const type *s = src + i0 + j0 * b->src_col;                                  \
        type *d = dst + i0 * b->dst_row + j0;                                        \
        if (ni == TILE && nj == TILE) {                                              \
          for (int j = 0; j < TILE; j++) {                                           \
            memcpy(tile[j], s + j * b->src_col, sizeof tile[j]);                     \
          }                                                                          \
          for (int i = 0; i < TILE; i++) {                                           \
            type *row = d + i * b->dst_row;                                          \
            for (int j = 0; j < TILE; j++) row[j] = tile[j][i];                      \
          }                                                                          \
        } else {                                                                     \
          for (int64_t i = 0; i < ni; i++) {                                         \
            for (int64_t j = 0; j < nj; j++) {                                       \
              d[i * b->dst_row + j] = s[i + j * b->src_col];                         \
            }                                                                        \
          }                                                                          \
        }                                                                            \
      }                                                                              \
    }                                                                                \
  }                                                                                  \
  static void name(const block *b, const void *src, void *dst)                       \
  {                                                                                  \
    if (b->src_col == 1 && b->dst_col == 1) {                                        \
      name##_runs(b, src, dst);                                                      \
    } else if (b->src_row == 1 && b->dst_col == 1 && b->rows >= 4 && b->cols >= 4) { \
      name##_transpose(b, src, dst);                                                 \
    } else {                                                                         \
      name##_strided(b, src, dst);                                                   \
    }                                                                                \
  }

COPY_BLOCK(copy_1, uint8_t)
COPY_BLOCK(copy_2, uint16_t)
COPY_BLOCK(copy_4, uint32_t)
COPY_BLOCK(copy_8, uint64_t)

static void copy_block(int64_t element, const block *b, const char *src, char *dst)
{
  switch (element) {
    case 1: copy_1(b, src, dst); break;
    case 2: copy_2(b, src, dst); break;
    case 4: copy_4(b, src, dst); break;
    default: copy_8(b, src, dst); break;
  }
}

/* How the innermost rows x cols are cut into pieces, and how many outer positions there
 * are. */
typedef struct plan {
  const layout *l;
  block whole;
  int outer_dims;
  int64_t outer, piece_rows, piece_cols, row_pieces, col_pieces;
} plan;

static plan plan_make(const layout *l)
{
  plan p = {.l = l, .outer = 1};
  int c = l->n - 1, r = l->n - 2;
  p.whole = (block){1, l->size[c], 0, l->src[c], 0, l->dst[c]};
  if (r >= 0) {
    p.whole.rows = l->size[r];
    p.whole.src_row = l->src[r];
    p.whole.dst_row = l->dst[r];
  }
  p.outer_dims = r > 0 ? r : 0;
  for (int i = 0; i < p.outer_dims; i++) p.outer *= l->size[i];
  int64_t budget = BLOCK_BYTES / l->element;
  p.piece_cols = p.whole.cols < budget ? p.whole.cols : budget;
  p.piece_rows = (budget / p.piece_cols + TILE - 1) / TILE * TILE;
  p.row_pieces = (p.whole.rows + p.piece_rows - 1) / p.piece_rows;
  p.col_pieces = (p.whole.cols + p.piece_cols - 1) / p.piece_cols;
  return p;
}

/* Copy outer positions and pieces [first, last) of the plan. */
static void plan_run(const plan *p, int64_t first, int64_t last, const char *src,
                     char *dst)
{
  const layout *l = p->l;
  int64_t pieces = p->row_pieces * p->col_pieces;
  int64_t index[MAX_DIMS], rest = first / pieces, piece = first % pieces;
  int64_t s = 0, d = 0;
  for (int i = p->outer_dims - 1; i >= 0; i--) {
    index[i] = rest % l->size[i];
    rest /= l->size[i];
    s += index[i] * l->src[i];
    d += index[i] * l->dst[i];
  }
  for (int64_t w = first; w < last; w++) {
    block b = p->whole;
    int64_t r = 0, c = 0;
    if (pieces > 1) {
      r = piece / p->col_pieces * p->piece_rows;
      c = piece % p->col_pieces * p->piece_cols;
      b.rows = b.rows - r < p->piece_rows ? b.rows - r : p->piece_rows;
      b.cols = b.cols - c < p->piece_cols ? b.cols - c : p->piece_cols;
    }
    copy_block(l->element, &b, src + (s + r * b.src_row + c * b.src_col) * l->element,
               dst + (d + r * b.dst_row + c * b.dst_col) * l->element);
    if (++piece < pieces) continue;
    piece = 0;
    for (int i = p->outer_dims - 1; i >= 0; i--) {
      s += l->src[i];
      d += l->dst[i];
      if (++index[i] < l->size[i]) break;
      s -= l->size[i] * l->src[i];
      d -= l->size[i] * l->dst[i];
      index[i] = 0;
    }
  }
}

void lm_copy_strided(int ndim, const int64_t *shape, int64_t element_size,
                     const void *src, const int64_t *src_stride, void *dst,
                     const int64_t *dst_stride)
{
  layout l = {.element = element_size};
  bool odd =
      element_size != 1 && element_size != 2 && element_size != 4 && element_size != 8;
  int64_t unit = odd ? element_size : 1, bytes = element_size;
  for (int i = 0; i < ndim; i++) {
    bytes *= shape[i];
    if (shape[i] == 1) continue;
    l.size[l.n] = shape[i];
    l.src[l.n] = src_stride[i] * unit;
    l.dst[l.n] = dst_stride[i] * unit;
    l.n++;
  }
  if (bytes == 0) return;
  if (odd || l.n == 0) { /* an unusual element is one more dimension, of bytes */
    l.size[l.n] = odd ? element_size : 1;
    l.src[l.n] = l.dst[l.n] = 1;
    l.n++;
    if (odd) l.element = 1;
  }
  layout_normalise(&l);
  plan p = plan_make(&l);
  int64_t items = p.outer * p.row_pieces * p.col_pieces;
  if (bytes < PARALLEL_BYTES || items < 2) {
    plan_run(&p, 0, items, src, dst);
    return;
  }
  int64_t parts = bytes / BLOCK_BYTES < items ? bytes / BLOCK_BYTES : items;
#pragma omp parallel for schedule(static)
  for (int64_t part = 0; part < parts; part++) {
    int64_t first = part * items / parts, last = (part + 1) * items / parts;
    plan_run(&p, first, last, src, dst);
  }
}
