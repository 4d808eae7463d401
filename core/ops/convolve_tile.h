/* convolve_tile.h: the innermost loops of convolve.c for one element type. Included
 * once per type with T (element), V (vector of LM_CONV_BYTES bytes) and NAME(x)
 * defined.
 *
 * A tile is `block` output channels times a few vectors of neighbouring positions, held
 * in registers while all taps (input channel, kernel row, kernel column) pass by. Tap t
 * of position i reads x[offset[t] + i]; its weights for the block lie at w[t * block]. */

#define LANES ((int64_t)(LM_CONV_BYTES / sizeof(T)))

static inline V NAME(load)(const T *p)
{
  V v;
  memcpy(&v, p, sizeof v);
  return v;
}

#define TILE(block, vectors)                                                             \
  static void NAME(tile_##block)(const void *xs, const int64_t *offset, int64_t taps,    \
                                 const void *weight, const void *bias, void *to,         \
                                 int64_t pitch)                                          \
  {                                                                                      \
    const T *x = xs, *w = weight, *b = bias;                                             \
    V a[block][vectors], u[vectors];                                                     \
    _Pragma("GCC unroll 8") for (int o = 0; o < block; o++)                              \
      _Pragma("GCC unroll 8") for (int i = 0; i < vectors; i++) a[o][i] = (V){0} + b[o]; \
    for (int64_t t = 0; t < taps; t++, w += block) {                                     \
      const T *p = x + offset[t];                                                        \
      _Pragma("GCC unroll 8") for (int i = 0; i < vectors; i++)                          \
        u[i] = NAME(load)(p + i * LANES);                                                \
      _Pragma("GCC unroll 8") for (int o = 0; o < block; o++)                            \
        _Pragma("GCC unroll 8") for (int i = 0; i < vectors; i++)                        \
          a[o][i] += w[o] * u[i];                                                        \
    }                                                                                    \
    _Pragma("GCC unroll 8") for (int o = 0; o < block; o++)                              \
      memcpy((T *)to + o * pitch, a[o], sizeof a[o]);                                    \
  }
TILE(1, 4)
TILE(2, 4)
TILE(3, 4)
TILE(4, 4)
TILE(8, 2)
#undef TILE

/* Sum of the elements of a vector. */
static inline T NAME(lanes)(V v)
{
  NAME(part) part[LM_CONV_BYTES / 16];
  memcpy(part, &v, sizeof part);
  for (int i = 2; i < LM_CONV_BYTES / 16; i++) part[i % 2] += part[i];
  part[0] += part[1];
  T total = part[0][0];
  for (int i = 1; i < (int)(16 / sizeof(T)); i++) total += part[0][i];
  return total;
}

/* sum[o * pitch_sum + t] += sum over i < count of g[o * pitch_g + i] * x[offset[t] +
 * i], for `block` channels and t < taps <= DOT_TAPS; count is a multiple of LANES, and
 * all DOT_TAPS offsets are read. */
#define DOT(block)                                                                       \
  static void NAME(dot_##block)(const void *gs, int64_t pitch_g, const void *xs,         \
                                const int64_t *offset, int64_t taps, int64_t count,      \
                                void *sum, int64_t pitch_sum)                            \
  {                                                                                      \
    const T *g = gs, *x[DOT_TAPS];                                                       \
    V a[block][DOT_TAPS], u[DOT_TAPS];                                                   \
    memset(a, 0, sizeof a);                                                              \
    for (int t = 0; t < DOT_TAPS; t++) x[t] = (const T *)xs + offset[t];                 \
    for (int64_t i = 0; i < count; i += LANES) {                                         \
      _Pragma("GCC unroll 4") for (int t = 0; t < DOT_TAPS; t++)                         \
        u[t] = NAME(load)(x[t] + i);                                                     \
      _Pragma("GCC unroll 4") for (int o = 0; o < block; o++) {                          \
        V v = NAME(load)(g + o * pitch_g + i);                                           \
        _Pragma("GCC unroll 4") for (int t = 0; t < DOT_TAPS; t++) a[o][t] += v * u[t];  \
      }                                                                                  \
    }                                                                                    \
    _Pragma("GCC unroll 4") for (int o = 0; o < block; o++) {                            \
      T *to = (T *)sum + o * pitch_sum;                                                  \
      _Pragma("GCC unroll 4") for (int t = 0; t < DOT_TAPS; t++)                         \
        if (t < taps) to[t] += NAME(lanes)(a[o][t]);                                     \
    }                                                                                    \
  }
DOT(1)
DOT(2)
DOT(3)
DOT(4)
#undef DOT

/* to[i * to_step] = from[i * from_step] */
static void NAME(copy)(void *to, int64_t to_step, const void *from, int64_t from_step,
                       int64_t count)
{
  T *restrict t = to;
  const T *restrict f = from;
  if (to_step == 1 && from_step == 1) {
    memcpy(t, f, (size_t)count * sizeof(T));
  } else if (to_step == 1 && from_step == 2) {
    for (int64_t i = 0; i < count; i++) t[i] = f[2 * i];
  } else {
    for (int64_t i = 0; i < count; i++) t[i * to_step] = f[i * from_step];
  }
}

/* to[i * to_step] = from[index[i]], or zero for from = NULL */
static void NAME(gather)(void *to, int64_t to_step, const void *from,
                         const int64_t *index, int64_t count)
{
  T *restrict t = to;
  const T *restrict f = from;
  for (int64_t i = 0; i < count; i++) t[i * to_step] = f ? f[index[i]] : 0;
}

/* to[i] += from[i] */
static void NAME(add)(void *to, const void *from, int64_t count)
{
  T *restrict t = to;
  const T *restrict f = from;
  for (int64_t i = 0; i < count; i++) t[i] += f[i];
}

static void NAME(fill)(void *to, const void *value, int64_t count)
{
  T *t = to, v = value ? *(const T *)value : 0;
  for (int64_t i = 0; i < count; i++) t[i] = v;
}

static void NAME(gemm)(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const void *a,
                       int64_t lda, const void *b, int64_t ldb, int beta, void *c,
                       int64_t ldc)
{
  GEMM(ta, tb, m, n, k, 1, a, lda, b, ldb, (T)beta, c, ldc);
}

static const kernels NAME(kernels) = {
    sizeof(T), LANES,
    {NULL, NAME(tile_1), NAME(tile_2), NAME(tile_3), NAME(tile_4), [8] = NAME(tile_8)},
    {NULL, NAME(dot_1), NAME(dot_2), NAME(dot_3), NAME(dot_4)},
    NAME(copy), NAME(gather), NAME(add), NAME(fill), NAME(gemm)};

#undef LANES
#undef T
#undef V
#undef NAME
#undef GEMM
