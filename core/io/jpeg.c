/* jpeg.c: transform and quantize all blocks, count the symbols that describe them, make codes
 * from the counts, write. Both passes over the symbols go through one function. */
#include "io/jpeg.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = 8, BLOCK = 64, LONGEST = 16 };

/* Table K.1: steps of luminance, row by row. */
static const uint8_t luminance[BLOCK] = {
    16, 11, 10, 16, 24,  40,  51,  61,  12, 12, 14, 19, 26,  58,  60,  55,
    14, 13, 16, 24, 40,  57,  69,  56,  14, 17, 22, 29, 51,  87,  80,  62,
    18, 22, 37, 56, 68,  109, 103, 77,  24, 35, 55, 64, 81,  104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99};

/* A code: for each symbol its bits and their number. Table 0 is for DC, 1 for AC. */
typedef struct code {
  int64_t count[257]; /* how often each symbol occurs; 256 keeps the code of all ones free */
  uint8_t length[257];
  uint16_t bits[256];
  uint8_t of_length[LONGEST + 1], symbol[256];
  int symbols;
} code;

typedef struct encoder {
  int64_t down, across; /* blocks */
  int zigzag[BLOCK];    /* place in a block of the k-th coefficient */
  uint8_t step[BLOCK];  /* in zigzag order */
  int16_t *coefficient; /* [blocks, BLOCK], quantized, in zigzag order */
  code table[2];
  lm_bytes *out;        /* NULL while symbols are counted */
  lm_status status;
  uint32_t pending;     /* bits not written, from the top of `filled` */
  int filled;
} encoder;

static void make_zigzag(int *order)
{
  int k = 0;
  for (int sum = 0; sum < 2 * SIDE - 1; sum++)
    for (int i = 0; i <= sum; i++) {
      int row = sum % 2 == 0 ? sum - i : i, column = sum - row;
      if (row < SIDE && column < SIDE) order[k++] = row * SIDE + column;
    }
}

static void make_steps(encoder *e, int quality)
{
  int scale = quality < 50 ? 5000 / quality : 200 - 2 * quality;
  for (int k = 0; k < BLOCK; k++) {
    int step = (luminance[e->zigzag[k]] * scale + 50) / 100;
    e->step[k] = (uint8_t)(step < 1 ? 1 : step > 255 ? 255 : step);
  }
}

/* ---- transform ---- */

/* The cosine transform of one block. basis[u][x] is its matrix. */
static void transform(float basis[SIDE][SIDE], float in[SIDE][SIDE], float out[SIDE][SIDE])
{
  float half[SIDE][SIDE];
  for (int y = 0; y < SIDE; y++)
    for (int u = 0; u < SIDE; u++) {
      float sum = 0;
      for (int x = 0; x < SIDE; x++) sum += basis[u][x] * in[y][x];
      half[y][u] = sum;
    }
  for (int v = 0; v < SIDE; v++)
    for (int u = 0; u < SIDE; u++) {
      float sum = 0;
      for (int y = 0; y < SIDE; y++) sum += basis[v][y] * half[y][u];
      out[v][u] = sum;
    }
}

/* A coefficient of detail to a whole number, towards zero from a fraction of 0.6 down: small
 * numbers cost fewer bits. On angiograms 7 % smaller for 0.2 dB; with less quality, 0.2 dB
 * buy 4 %. */
static int16_t rounded(float v)
{
  float size = floorf(fabsf(v) + 0.4f);
  return (int16_t)(v < 0 ? -size : size);
}

/* All blocks; those that stick out repeat the last row and column. */
static void transform_all(encoder *e, const uint8_t *pixels, int64_t height, int64_t width)
{
  float basis[SIDE][SIDE], in[SIDE][SIDE], out[SIDE][SIDE];
  for (int u = 0; u < SIDE; u++)
    for (int x = 0; x < SIDE; x++)
      basis[u][x] = (float)((u == 0 ? sqrt(0.125) : 0.5) *
                            cos((2 * x + 1) * u * 3.14159265358979323846 / 16));
  for (int64_t b = 0; b < e->down * e->across; b++) {
    int64_t top = b / e->across * SIDE, left = b % e->across * SIDE;
    for (int y = 0; y < SIDE; y++) {
      const uint8_t *row = pixels + lm_min64(top + y, height - 1) * width;
      for (int x = 0; x < SIDE; x++)
        in[y][x] = (float)row[lm_min64(left + x, width - 1)] - 128.0f;
    }
    transform(basis, in, out);
    for (int k = 0; k < BLOCK; k++) {
      float v = out[e->zigzag[k] / SIDE][e->zigzag[k] % SIDE] / (float)e->step[k];
      e->coefficient[b * BLOCK + k] = k == 0 ? (int16_t)lrintf(v) : rounded(v);
    }
  }
}

/* ---- codes ---- */

/* Lengths of an optimal code for counts, as annex K.2: the two rarest are joined again and
 * again, and everything below them gets a bit longer. Returns the symbols of each length. */
static void optimal_lengths(const code *c, int of_length[64])
{
  int64_t count[257];
  int length[257] = {0}, next[257];
  memcpy(count, c->count, sizeof count);
  for (int i = 0; i < 257; i++) next[i] = -1;
  for (;;) {
    int a = -1, b = -1; /* the rarest, the next one; later symbols first */
    for (int i = 0; i < 257; i++) {
      if (count[i] == 0) continue;
      if (a < 0 || count[i] <= count[a]) {
        b = a;
        a = i;
      } else if (b < 0 || count[i] <= count[b]) {
        b = i;
      }
    }
    if (b < 0) break;
    count[b] += count[a];
    count[a] = 0;
    int last = b;
    for (length[last]++; next[last] >= 0; length[last]++) last = next[last];
    next[last] = a;
    for (int i = a; i >= 0; i = next[i]) length[i]++;
  }
  for (int i = 0; i < 257; i++)
    if (length[i] > 0) of_length[length[i] < 63 ? length[i] : 63]++;
}

/* No code is longer than 16 bits: two that are too long give way to a shorter prefix. */
static void limit_lengths(int of_length[64])
{
  for (int i = 63; i > LONGEST; i--)
    while (of_length[i] > 0) {
      int j = i - 2;
      while (of_length[j] == 0) j--;
      of_length[i] -= 2;
      of_length[i - 1]++;
      of_length[j + 1] += 2;
      of_length[j]--;
    }
}

static int by_count(const void *a, const void *b)
{
  const int64_t *x = a, *y = b;
  if (x[0] != y[0]) return x[0] > y[0] ? -1 : 1;
  return (x[1] > y[1]) - (x[1] < y[1]);
}

/* Codes from counts: the most frequent symbols get the shortest. */
static void make_code(code *c)
{
  int of_length[64] = {0}, k = 0;
  int64_t order[256][2];
  c->count[256] = 1;
  optimal_lengths(c, of_length);
  limit_lengths(of_length);
  int longest = LONGEST;
  while (of_length[longest] == 0) longest--;
  of_length[longest]--; /* the code of all ones */
  for (int i = 0; i < 256; i++) {
    if (c->count[i] == 0) continue;
    order[c->symbols][0] = c->count[i];
    order[c->symbols++][1] = i;
  }
  qsort(order, (size_t)c->symbols, sizeof order[0], by_count);
  uint16_t bits = 0;
  for (int n = 1; n <= LONGEST; n++, bits = (uint16_t)(bits << 1)) {
    c->of_length[n] = (uint8_t)of_length[n];
    for (int i = 0; i < of_length[n]; i++, k++) {
      int symbol = (int)order[k][1];
      c->symbol[k] = (uint8_t)symbol;
      c->length[symbol] = (uint8_t)n;
      c->bits[symbol] = bits++;
    }
  }
}

/* ---- symbols ---- */

static void put(encoder *e, const void *data, size_t size)
{
  if (e->status == LM_OK) e->status = lm_bytes_append(e->out, data, size);
}

static void put_bits(encoder *e, uint32_t bits, int count)
{
  e->pending = e->pending << count | (bits & ((1u << count) - 1));
  for (e->filled += count; e->filled >= 8; e->filled -= 8) {
    uint8_t byte[2] = {(uint8_t)(e->pending >> (e->filled - 8)), 0};
    put(e, byte, byte[0] == 0xff ? 2 : 1);
  }
}

/* A symbol, and `extra` bits that belong to it. */
static void emit(encoder *e, int table, int symbol, int value, int extra)
{
  code *c = &e->table[table];
  if (!e->out) {
    c->count[symbol]++;
    return;
  }
  put_bits(e, c->bits[symbol], c->length[symbol]);
  /* Negative numbers are written less one, so that their first bit is 0. */
  if (extra > 0) put_bits(e, (uint32_t)(value < 0 ? value - 1 : value), extra);
}

static int bits_of(int value)
{
  int n = 0;
  for (value = abs(value); value > 0; value >>= 1) n++;
  return n;
}

static void emit_all(encoder *e)
{
  int before = 0;
  for (int64_t b = 0; b < e->down * e->across; b++) {
    const int16_t *c = e->coefficient + b * BLOCK;
    int change = c[0] - before, zeros = 0;
    before = c[0];
    emit(e, 0, bits_of(change), change, bits_of(change));
    for (int k = 1; k < BLOCK; k++) {
      if (c[k] == 0) {
        zeros++;
        continue;
      }
      for (; zeros > 15; zeros -= 16) emit(e, 1, 0xf0, 0, 0);
      emit(e, 1, zeros << 4 | bits_of(c[k]), c[k], bits_of(c[k]));
      zeros = 0;
    }
    if (zeros > 0) emit(e, 1, 0, 0, 0);
  }
}

/* ---- the file ---- */

/* DC has up to 12 symbols, AC up to 162. */
static void put_code(encoder *e, int table)
{
  const code *c = &e->table[table];
  uint8_t head[5] = {0xff, 0xc4, 0, (uint8_t)(19 + c->symbols), (uint8_t)(table << 4)};
  put(e, head, sizeof head);
  put(e, c->of_length + 1, LONGEST);
  put(e, c->symbol, (size_t)c->symbols);
}

static void put_file(encoder *e, int64_t height, int64_t width)
{
  static const uint8_t start[] = {0xff, 0xd8, 0xff, 0xe0, 0, 16, 'J', 'F', 'I', 'F', 0, 1, 1,
                                  0, 0, 1, 0, 1, 0, 0, 0xff, 0xdb, 0, 67, 0};
  uint8_t frame[] = {0xff, 0xc0, 0, 11, 8, (uint8_t)(height >> 8), (uint8_t)height,
                     (uint8_t)(width >> 8), (uint8_t)width, 1, 1, 0x11, 0};
  static const uint8_t scan[] = {0xff, 0xda, 0, 8, 1, 1, 0, 0, 63, 0};
  static const uint8_t end[] = {0xff, 0xd9};
  put(e, start, sizeof start);
  put(e, e->step, BLOCK);
  put(e, frame, sizeof frame);
  for (int t = 0; t < 2; t++) put_code(e, t);
  put(e, scan, sizeof scan);
  emit_all(e);
  if (e->filled > 0) put_bits(e, 0x7f, 8 - e->filled); /* the last byte is filled with ones */
  put(e, end, sizeof end);
}

lm_status lm_jpeg_encode(lm_bytes *out, const uint8_t *pixels, int64_t height, int64_t width,
                         int quality)
{
  encoder e = {.down = (height + SIDE - 1) / SIDE, .across = (width + SIDE - 1) / SIDE};
  LM_TRY(lm_calloc(&e.coefficient, (size_t)(e.down * e.across), BLOCK * sizeof(int16_t)));
  make_zigzag(e.zigzag);
  make_steps(&e, quality);
  transform_all(&e, pixels, height, width);
  emit_all(&e);
  for (int t = 0; t < 2; t++) make_code(&e.table[t]);
  e.out = out;
  put_file(&e, height, width);
  free(e.coefficient);
  return e.status;
}
