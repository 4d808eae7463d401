/* attention_kernel.h: one head of attention, forward and backward, for the element type T.
 * attention.c includes it twice, with T, EXP, LOG and NAME(x) (x with the type's name in
 * front) defined, and with the structures `heads` and `head` in sight.
 *
 * A head's keys and values are copied into buffers whose rows are whole vectors (dw = d and
 * mw = m rounded up, the rest zero), because in the packed tensor neighbouring tokens are so
 * far apart that they fall into the same cache sets. All products go through `product`, whose
 * right side is read along rows; for Q K^T that is a transposed copy of K. */

#define LANES ((int64_t)(VECTOR_BYTES / sizeof(T)))
#define INLINE static inline __attribute__((always_inline))

typedef T NAME(vec) __attribute__((vector_size(VECTOR_BYTES), aligned(VECTOR_BYTES)));

/* n elements as whole vectors. */
INLINE int64_t NAME(round_up)(int64_t n) { return (n + LANES - 1) & -LANES; }

/* ---- c [m x n] (+)= a b: a[i * rs + p * cs], b and c row-major, n a number of vectors ---- */

/* A tile of rows x width vectors, both constants, held in registers. */
INLINE void NAME(tile)(const int rows, const int width, int64_t k, const T *a, int64_t rs,
                       int64_t cs, const T *b, int64_t ldb, T *c, int64_t ldc, bool add)
{
  NAME(vec) acc[MAX_TILE_ROWS][4];
#pragma GCC unroll 16
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
    for (int w = 0; w < width; w++)
      acc[r][w] = add ? *(const NAME(vec) *)(c + r * ldc + w * LANES) : (NAME(vec)){0};
  for (int64_t p = 0; p < k; p++) {
    NAME(vec) right[4];
#pragma GCC unroll 4
    for (int w = 0; w < width; w++) right[w] = *(const NAME(vec) *)(b + p * ldb + w * LANES);
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
      T left = a[r * rs + p * cs];
#pragma GCC unroll 4
      for (int w = 0; w < width; w++) acc[r][w] += left * right[w];
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
    for (int w = 0; w < width; w++) *(NAME(vec) *)(c + r * ldc + w * LANES) = acc[r][w];
}

INLINE void NAME(strip)(const int rows, const int width, int64_t m, int64_t k, const T *a,
                        int64_t rs, int64_t cs, const T *b, int64_t ldb, T *c, int64_t ldc,
                        bool add)
{
  int64_t i = 0;
  for (; i + rows <= m; i += rows)
    NAME(tile)(rows, width, k, a + i * rs, rs, cs, b, ldb, c + i * ldc, ldc, add);
  for (; i + 3 <= m; i += 3)
    NAME(tile)(3, width, k, a + i * rs, rs, cs, b, ldb, c + i * ldc, ldc, add);
  for (; i < m; i++)
    NAME(tile)(1, width, k, a + i * rs, rs, cs, b, ldb, c + i * ldc, ldc, add);
}

static void NAME(product)(int64_t m, int64_t n, int64_t k, const T *a, int64_t rs, int64_t cs,
                          const T *b, int64_t ldb, T *c, int64_t ldc, bool add)
{
  for (int64_t left = n / LANES, j = 0; left > 0;) {
    int width = left == 4 ? 4 : left >= 3 ? 3 : (int)left;
    const T *bj = b + j;
    T *cj = c + j;
    if (width == 4) NAME(strip)(TILE_ROWS(4), 4, m, k, a, rs, cs, bj, ldb, cj, ldc, add);
    else if (width == 3) NAME(strip)(TILE_ROWS(3), 3, m, k, a, rs, cs, bj, ldb, cj, ldc, add);
    else if (width == 2) NAME(strip)(TILE_ROWS(2), 2, m, k, a, rs, cs, bj, ldb, cj, ldc, add);
    else NAME(strip)(TILE_ROWS(2), 1, m, k, a, rs, cs, bj, ldb, cj, ldc, add);
    left -= width;
    j += width * LANES;
  }
}

/* ---- copies between token rows and buffers ---- */

/* to [n x width] = factor * from, of which d columns are there. */
static void NAME(pack)(int64_t n, int64_t d, const T *from, int64_t row, T factor, T *to,
                       int64_t width)
{
  for (int64_t i = 0; i < n; i++) {
#pragma omp simd
    for (int64_t p = 0; p < d; p++) to[i * width + p] = factor * from[i * row + p];
    for (int64_t p = d; p < width; p++) to[i * width + p] = 0;
  }
}

/* to [d x width] = from^T, of which n columns are there. */
static void NAME(pack_transposed)(int64_t n, int64_t d, const T *from, int64_t row, T *to,
                                  int64_t width)
{
  for (int64_t j = 0; j < width; j += LANES) {
    int64_t count = lm_min64(LANES, n - j);
    for (int64_t p = 0; p < d; p++) {
      T *line = to + p * width + j;
      const T *column = from + j * row + p;
      if (count == LANES)
        for (int64_t i = 0; i < LANES; i++) line[i] = column[i * row];
      else
        for (int64_t i = 0; i < LANES; i++) line[i] = i < count ? column[i * row] : 0;
    }
  }
}

static void NAME(unpack)(int64_t n, int64_t d, const T *from, int64_t width, T factor, T *to,
                         int64_t row)
{
  for (int64_t i = 0; i < n; i++)
#pragma omp simd
    for (int64_t p = 0; p < d; p++) to[i * row + p] = factor * from[i * width + p];
}

/* ---- rows of scores ---- */

/* How many keys query i sees, as far as `causal` goes. */
static int64_t NAME(seen)(const heads *a, int64_t i)
{
  return a->causal ? lm_min64(a->m, i + 1) : a->m;
}

static void NAME(mask_row)(const heads *a, const head *e, int64_t i, int64_t n, T *s)
{
  const uint8_t *mask = e->mask + i * a->mask_stride[2];
  for (int64_t j = 0; j < n; j++)
    if (!mask[j * a->mask_stride[3]]) s[j] = -(T)INFINITY;
}

/* The first n scores of a row become exp(s - their maximum); returns 1 / sum, and stores the
 * logarithm of the sum of exp(s). Rows are whole vectors; what is beyond n becomes 0. A row
 * where every key is masked has sum 0: it gives 0 and lse = inf, which makes exp(s - lse)
 * zero in backward too. */
static T NAME(softmax_row)(int64_t n, T *s, T *lse)
{
  int64_t whole = NAME(round_up)(n);
  T top = -(T)INFINITY, sum = 0;
  for (int64_t j = n; j < whole; j++) s[j] = s[0];
#pragma omp simd reduction(max : top)
  for (int64_t j = 0; j < whole; j++) top = s[j] > top ? s[j] : top;
  if (top == -(T)INFINITY) top = 0;
#pragma omp simd
  for (int64_t j = 0; j < whole; j++) s[j] = EXP(s[j] - top);
  for (int64_t j = n; j < whole; j++) s[j] = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < whole; j++) sum += s[j];
  if (lse) *lse = sum == 0 ? (T)INFINITY : top + LOG(sum);
  return sum == 0 ? 0 : 1 / sum;
}

/* The first n scores become the probabilities P, dp the gradient P (dp - delta) of the scores;
 * anything up to the end of the last vector. */
static void NAME(backward_row)(int64_t n, T lse, T delta, T *restrict s, T *restrict dp)
{
  int64_t whole = NAME(round_up)(n);
#pragma omp simd
  for (int64_t j = 0; j < whole; j++) {
    s[j] = EXP(s[j] - lse);
    dp[j] = s[j] * (dp[j] - delta);
  }
}

static T NAME(dot)(int64_t n, const T *x, const T *y)
{
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < n; j++) sum += x[j] * y[j];
  return sum;
}

/* ---- a head ---- */

/* Elements of a thread's buffers. */
static int64_t NAME(buffer_size)(const heads *a)
{
  int64_t dw = NAME(round_up)(a->d), mw = NAME(round_up)(a->m);
  if (!a->gk) return a->d * mw + a->m * dw + a->step * (2 * dw + mw);
  return 2 * a->d * mw + 3 * a->m * dw + a->step * (3 * dw + 2 * mw);
}

static void NAME(forward)(const heads *a, const head *e, T *buffer)
{
  int64_t d = a->d, m = a->m, dw = NAME(round_up)(d), mw = NAME(round_up)(m);
  int64_t out_row = a->h * d;
  T *kt = buffer, *v = kt + d * mw, *q = v + m * dw, *o = q + a->step * dw;
  T *s = o + a->step * dw, inverse[MAX_ROWS];
  NAME(pack_transposed)(m, d, (const T *)e->k, a->kv_row, kt, mw);
  NAME(pack)(m, d, (const T *)e->v, a->kv_row, 1, v, dw);
  for (int64_t first = 0; first < a->l; first += a->step) {
    int64_t rows = lm_min64(a->step, a->l - first);
    int64_t cols = NAME(seen)(a, first + rows - 1);
    NAME(pack)(rows, d, (const T *)e->q + first * a->q_row, a->q_row, (T)a->scale, q, dw);
    NAME(product)(rows, NAME(round_up)(cols), d, q, dw, 1, kt, mw, s, mw, false);
    for (int64_t i = 0; i < rows; i++) {
      T *row = s + i * mw;
      int64_t n = NAME(seen)(a, first + i);
      if (e->mask) NAME(mask_row)(a, e, first + i, n, row);
      inverse[i] = NAME(softmax_row)(n, row, e->lse ? (T *)e->lse + first + i : NULL);
      for (int64_t j = n; j < cols; j++) row[j] = 0;
    }
    NAME(product)(rows, dw, cols, s, mw, 1, v, dw, o, dw, false);
    for (int64_t i = 0; i < rows; i++)
      NAME(unpack)(1, d, o + i * dw, dw, inverse[i], (T *)e->out + (first + i) * out_row, 0);
  }
}

/* With P the probabilities and dO the gradient of the output O:
 *   dV = P^T dO,  dP = dO V^T,  dS = P (dP - rowsum(dO O)),  dQ = scale dS K,  dK = scale dS^T Q */
static void NAME(backward)(const heads *a, const head *e, T *buffer)
{
  int64_t d = a->d, m = a->m, dw = NAME(round_up)(d), mw = NAME(round_up)(m);
  int64_t out_row = a->h * d;
  T *kt = buffer, *vt = kt + d * mw, *k = vt + d * mw, *dk = k + m * dw, *dv = dk + m * dw;
  T *q = dv + m * dw, *g = q + a->step * dw, *dq = g + a->step * dw, *s = dq + a->step * dw;
  T *dp = s + a->step * mw;
  NAME(pack)(m, d, (const T *)e->k, a->kv_row, 1, k, dw);
  NAME(pack_transposed)(m, d, k, dw, kt, mw);
  NAME(pack_transposed)(m, d, (const T *)e->v, a->kv_row, vt, mw);
  memset(dk, 0, sizeof(T) * (size_t)(2 * m * dw));
  for (int64_t first = 0; first < a->l; first += a->step) {
    int64_t rows = lm_min64(a->step, a->l - first);
    int64_t cols = NAME(seen)(a, first + rows - 1), cw = NAME(round_up)(cols);
    NAME(pack)(rows, d, (const T *)e->q + first * a->q_row, a->q_row, (T)a->scale, q, dw);
    NAME(pack)(rows, d, (const T *)e->g + first * out_row, out_row, 1, g, dw);
    NAME(product)(rows, cw, d, q, dw, 1, kt, mw, s, mw, false);
    NAME(product)(rows, cw, d, g, dw, 1, vt, mw, dp, mw, false);
    for (int64_t i = 0; i < rows; i++) {
      T *si = s + i * mw, *dpi = dp + i * mw;
      int64_t n = NAME(seen)(a, first + i);
      if (e->mask) NAME(mask_row)(a, e, first + i, n, si);
      T delta = NAME(dot)(d, g + i * dw, (const T *)e->out + (first + i) * out_row);
      NAME(backward_row)(n, ((const T *)e->lse)[first + i], delta, si, dpi);
      for (int64_t j = n; j < cols; j++) si[j] = dpi[j] = 0;
    }
    NAME(product)(cols, dw, rows, s, 1, mw, g, dw, dv, dw, true);
    NAME(product)(cols, dw, rows, dp, 1, mw, q, dw, dk, dw, true);
    NAME(product)(rows, dw, cols, dp, mw, 1, k, dw, dq, dw, false);
    NAME(unpack)(rows, d, dq, dw, (T)a->scale, (T *)e->gq + first * a->q_row, a->q_row);
  }
  NAME(unpack)(m, d, dk, dw, 1, (T *)e->gk, a->kv_row);
  NAME(unpack)(m, d, dv, dw, 1, (T *)e->gv, a->kv_row);
}

#undef LANES
#undef INLINE
