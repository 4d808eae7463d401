/* convolve.c: the convolution loops declared in convolve.h.
 *
 * One scheme serves all three directions. A unit of work is one group of one image
 * (several small images, or a band of rows of a large one). Its source rows are packed
 * into a buffer that stays in the L2 cache: padded with zeros, and with the columns and
 * rows of a strided convolution sorted by their residue, so that a tap (source channel,
 * kernel row, kernel column) of all neighbouring positions is one contiguous run at a
 * fixed offset. Positions are counted through the packed rows with their pitch; those
 * in the padding are computed and dropped. The adjoint is the same with one pass per
 * residue of the destination.
 *
 * Where every tap has a plane of its own (1 x 1, patches) the packed buffer is a matrix
 * and large cases go to the BLAS. Sums run over units in a fixed partition, so the bits
 * depend on the number of threads alone. Offsets and sizes are in elements unless named
 * bytes. */
#include "ops/convolve.h"

#include <omp.h>
#include <string.h>

#include "cpu/cpu.h"

#ifdef __AVX512F__
#define LM_CONV_BYTES 64
#define MAX_BLOCK 8 /* up to 16 of 32 vector registers hold sums */
#define DOT_TAPS 4
#else
#define LM_CONV_BYTES 32
#define MAX_BLOCK 2 /* 8 of 16 */
#define DOT_TAPS 2
#endif

typedef struct kernels {
  int64_t size, lanes; /* bytes of an element; elements of a vector */
  void (*tile[9])(const void *x, const int64_t *offset, int64_t taps, const void *w,
                  const void *bias, void *to, int64_t pitch); /* blocks 1, 2, 3, 4, 8 */
  void (*dot[5])(const void *g, int64_t pitch_g, const void *x, const int64_t *offset,
                 int64_t taps, int64_t count, void *sum, int64_t pitch_sum); /* 1 to 4 */
  void (*copy)(void *to, int64_t to_step, const void *from, int64_t from_step,
               int64_t count);
  void (*gather)(void *to, int64_t to_step, const void *from, const int64_t *index,
                 int64_t count);
  void (*add)(void *to, const void *from, int64_t count);
  void (*fill)(void *to, const void *value, int64_t count);
  void (*gemm)(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const void *a,
               int64_t lda, const void *b, int64_t ldb, int beta, void *c, int64_t ldc);
} kernels;

typedef float vector_f32 __attribute__((vector_size(LM_CONV_BYTES)));
typedef double vector_f64 __attribute__((vector_size(LM_CONV_BYTES)));
typedef float part_f32 __attribute__((vector_size(16)));
typedef double part_f64 __attribute__((vector_size(16)));
#define T float
#define V vector_f32
#define NAME(x) x##_f32
#define GEMM lm_sgemm
#include "ops/convolve_tile.h"
#define T double
#define V vector_f64
#define NAME(x) x##_f64
#define GEMM lm_dgemm
#include "ops/convolve_tile.h"

/* The taps that meet in one residue class of destination rows and columns. */
typedef struct pass {
  int64_t first, taps;
  int64_t origin[2]; /* destination row and column of position (0, 0) */
} pass;

typedef struct plan {
  const lm_conv *v;
  const kernels *k;
  bool adjoint;
  bool matrix;    /* through the BLAS */
  bool pointwise; /* the source itself is the packed matrix */
  int64_t channels[2];             /* source, destination; of one group */
  int64_t from[2], to[2];          /* source and destination rows, columns */
  /* source rows per position; residues that are packed */
  int64_t step[2], phases[2];
  /* zeros before row 0; packed rows beyond the positions */
  int64_t pad[2], halo[2];
  int64_t grid[2], to_step[2];     /* positions; destination rows per position */
  /* images in a unit, their positions' and packed rows */
  int64_t stacked, rows, height;
  int64_t pitch, plane;            /* of a packed row, of a packed channel and residue */
  int64_t batches, bands, units;
  int64_t taps;                    /* of a group */
  /* of destination channels; channels with the last filled up */
  int64_t blocks, padded;
  int64_t residues[2], passes;     /* destination rows modulo to_step that there are */
  int threads;
  pass *pass;
  /* [taps and DOT_TAPS - 1 copies of the last]: in the packed source */
  int64_t *offset;
  int64_t *element;  /* [taps]: in the weight of a group and destination channel */
  /* packed: [groups, taps * padded] by pass and block; [groups, padded] */
  char *weight, *bias;
  char *pack;        /* [threads] of pack_bytes */
  size_t pack_bytes;
  void *memory;
  size_t bytes;
} plan;

/* What a unit covers. */
typedef struct unit {
  int64_t group, image, images, row, rows;
} unit;

/* ---- geometry ---- */

static int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

static void plan_forward(plan *p, int d)
{
  const lm_conv *v = p->v;
  int64_t span = v->dilation[d] * (v->kernel[d] - 1);
  p->from[d] = v->in[d];
  p->to[d] = p->grid[d] = v->out[d];
  p->to_step[d] = p->residues[d] = 1;
  /* one position: every tap a plane */
  p->step[d] = v->out[d] > 1 ? v->stride[d] : span + 1;
  p->phases[d] = lm_min64(p->step[d], span + 1);
  p->pad[d] = v->padding[d];
  p->halo[d] = span / p->step[d];
}

/* Destination row i = j * step + f - padding, for residue f and position j; tap k with
 * k * dilation = q * step + f reads source row j - q. */
static void plan_adjoint(plan *p, int d)
{
  const lm_conv *v = p->v;
  int64_t span = v->dilation[d] * (v->kernel[d] - 1);
  int64_t step = v->stride[d];
  int64_t first = v->padding[d] / step;
  p->from[d] = v->out[d];
  p->to[d] = v->in[d];
  p->to_step[d] = step;
  p->residues[d] = lm_min64(step, v->in[d]); /* of rows i + padding that there are */
  p->step[d] = p->phases[d] = 1;
  p->halo[d] = span / step;
  p->pad[d] = p->halo[d] - first;
  p->grid[d] = (v->in[d] - 1 + v->padding[d]) / step - first + 1;
}

/* Channels of the next tile when `channels` are left, and its positions. */
static int64_t block_size(int64_t channels)
{
  int64_t left = lm_min64(channels, MAX_BLOCK);
  return left <= 4 ? left : 8;
}

static int64_t tile_width(const kernels *k, int64_t block)
{
  return (block == 8 ? 2 : 4) * k->lanes;
}

/* Wide paddings and dilations can ask for more than can be counted, even for one row. */
static lm_status check_size(const plan *p)
{
  const int64_t *dilation = p->v->dilation, *padding = p->v->padding;
  double elements = (double)p->channels[0] * (double)p->phases[0] * (double)p->phases[1];
  elements *= (double)(p->halo[0] + 1) * (double)(p->grid[1] + p->halo[1]);
  if (elements * p->threads < 1e15) return LM_OK;
  return lm_fail(LM_ERR_MEMORY, "a convolution with dilation %lld x %lld and padding "
                 "%lld x %lld needs a workspace of %.3g elements", (long long)dilation[0],
                 (long long)dilation[1], (long long)padding[0], (long long)padding[1],
                 elements);
}

/* Choose the units: bands of rows whose packed source takes half of a 1 MiB L2 cache,
 * whole images, or several of them until a tile is well filled; at least one per
 * thread. */
static void plan_units(plan *p)
{
  const lm_conv *v = p->v;
  int64_t budget = (512 << 10) / p->k->size;
  p->pitch = p->grid[1] + p->halo[1];
  int64_t row = p->channels[0] * p->phases[0] * p->phases[1] * p->pitch;
  int64_t jobs = v->images * v->groups, threads = p->threads;
  p->rows = lm_max64(budget / lm_max64(row, 1) - p->halo[0], 1);
  p->rows = lm_min64(p->rows, p->grid[0]);
  if (jobs < threads && jobs > 0)
    p->rows = lm_min64(p->rows, (p->grid[0] * jobs + threads - 1) / threads);
  p->bands = (p->grid[0] + p->rows - 1) / p->rows;
  p->rows = (p->grid[0] + p->bands - 1) / p->bands;
  p->height = p->rows + p->halo[0];
  p->stacked = 1;
  if (p->bands == 1 && !p->matrix) {
    int64_t fit = lm_min64(256 / (p->height * p->pitch), budget / (p->height * row + 1));
    p->stacked = lm_max64(lm_min64(fit, jobs / threads), 1);
    p->stacked = lm_min64(p->stacked, lm_max64(v->images, 1));
  }
  p->plane = p->stacked * p->height * p->pitch;
  p->batches = (v->images + p->stacked - 1) / p->stacked;
  p->units = p->batches * p->bands * v->groups;
}

static lm_status plan_init(plan *p, const lm_conv *v, bool adjoint, bool weight)
{
  memset(p, 0, sizeof *p);
  p->v = v;
  p->k = v->dtype == LM_F64 ? &kernels_f64 : &kernels_f32;
  p->adjoint = adjoint;
  p->channels[adjoint] = v->in_channels;
  p->channels[!adjoint] = v->out_channels;
  bool planes = true;
  p->pointwise = true;
  for (int d = 0; d < 2; d++) {
    if (adjoint) plan_adjoint(p, d);
    else plan_forward(p, d);
    planes = planes && !adjoint && p->halo[d] == 0 && p->phases[d] == v->kernel[d];
    p->pointwise =
        p->pointwise && v->kernel[d] == 1 && v->stride[d] == 1 && v->padding[d] == 0;
  }
  p->taps = p->channels[0] * v->kernel[0] * v->kernel[1];
  p->passes = p->residues[0] * p->residues[1];
  int64_t most = lm_min64(p->taps, p->channels[1]);
  p->matrix = (planes || p->pointwise) && most >= (weight ? 8 : 16);
  p->pointwise = p->pointwise && p->matrix;
  p->blocks = (p->channels[1] + MAX_BLOCK - 1) / MAX_BLOCK;
  for (int64_t o = 0; o < p->channels[1]; o += MAX_BLOCK)
    p->padded += block_size(p->channels[1] - o);
  double work = (double)v->images * v->groups * p->grid[0] * p->grid[1] * p->taps;
  p->threads = work * p->channels[1] > 65536 ? lm_threads() : 1;
  LM_TRY(check_size(p));
  plan_units(p);
  return LM_OK;
}

/* ---- workspace ---- */

/* Hand out the parts of one allocation: with NULL memory only their sizes are added. */
static void *carve(plan *p, size_t bytes)
{
  char *part = p->memory ? (char *)p->memory + p->bytes : NULL;
  p->bytes += (bytes + 63) / 64 * 64;
  return part;
}

static void plan_carve(plan *p, int64_t pack_elements, bool weights)
{
  const lm_conv *v = p->v;
  size_t size = (size_t)p->k->size;
  p->bytes = 0;
  p->pass = carve(p, (size_t)p->passes * sizeof *p->pass);
  p->offset = carve(p, (size_t)(p->taps + DOT_TAPS - 1) * sizeof *p->offset);
  p->element = carve(p, (size_t)p->taps * sizeof *p->element);
  p->weight = carve(p, weights ? (size_t)(v->groups * p->taps * p->padded) * size : 0);
  p->bias = carve(p, weights ? (size_t)(v->groups * p->padded) * size : 0);
  p->pack_bytes = (size_t)round_up(pack_elements * (int64_t)size, 64);
  p->pack = carve(p, p->pack_bytes * (size_t)p->threads);
}

/* Elements of a packed source with room for a tile that starts at its last position. */
static int64_t pack_elements(const plan *p)
{
  if (p->pointwise) return 0;
  return p->channels[0] * p->phases[0] * p->phases[1] * p->plane + tile_width(p->k, 1);
}

/* ---- taps and weights ---- */

static int64_t tap_offset(const plan *p, int64_t channel, int64_t row, int64_t column)
{
  const lm_conv *v = p->v;
  int64_t y = row * v->dilation[0], x = column * v->dilation[1];
  if (p->adjoint) {
    y = p->halo[0] - y / p->to_step[0];
    x = p->halo[1] - x / p->to_step[1];
    return channel * p->plane + y * p->pitch + x;
  }
  int64_t plane = channel * p->phases[0] + y % p->step[0];
  plane = plane * p->phases[1] + x % p->step[1];
  return plane * p->plane + y / p->step[0] * p->pitch + x / p->step[1];
}

/* The taps of kernel rows of residue `row` and columns of residue `column` (adjoint),
 * or all. */
static void fill_pass(plan *p, pass *s, int64_t row, int64_t column)
{
  const lm_conv *v = p->v;
  int64_t area = v->kernel[0] * v->kernel[1];
  /* pitch of source channels */
  int64_t channel = p->adjoint ? p->channels[1] * area : area;
  int64_t tap = s->first;
  for (int64_t c = 0; c < p->channels[0]; c++) {
    for (int64_t y = 0; y < v->kernel[0]; y++) {
      if (p->adjoint && y * v->dilation[0] % p->to_step[0] != row) continue;
      for (int64_t x = 0; x < v->kernel[1]; x++) {
        if (p->adjoint && x * v->dilation[1] % p->to_step[1] != column) continue;
        p->element[tap] = c * channel + y * v->kernel[1] + x;
        p->offset[tap++] = tap_offset(p, c, y, x);
      }
    }
  }
  s->taps = tap - s->first;
}

static void fill_taps(plan *p)
{
  int64_t first = 0;
  for (int64_t i = 0; i < p->passes; i++) {
    pass *s = &p->pass[i];
    int64_t residue[2] = {i / p->residues[1], i % p->residues[1]};
    *s = (pass){.first = first};
    for (int d = 0; d < 2 && p->adjoint; d++) {
      int64_t padding = p->v->padding[d], step = p->to_step[d];
      residue[d] = (residue[d] + padding) % step;
      s->origin[d] = padding / step * step + residue[d] - padding;
    }
    fill_pass(p, s, residue[0], residue[1]);
    first += s->taps;
  }
  for (int i = 0; i < DOT_TAPS - 1 && p->taps > 0; i++)
    p->offset[p->taps + i] = p->offset[p->taps - 1];
}

/* The weights of block `index`, counted over groups, passes and blocks of channels. */
static void pack_weight(const plan *p, int64_t index, const char *weight)
{
  int64_t area = p->v->kernel[0] * p->v->kernel[1], size = p->k->size;
  int64_t sources = p->channels[0], count = p->channels[1];
  int64_t o = index % p->blocks * MAX_BLOCK;
  const pass *s = &p->pass[index / p->blocks % p->passes];
  int64_t group = index / p->blocks / p->passes, block = block_size(count - o);
  int64_t step = p->adjoint ? area : sources * area; /* of destination channels */
  char *to = p->weight + ((group * p->taps + s->first) * p->padded + s->taps * o) * size;
  const char *from = weight + (group * sources * count * area + o * step) * size;
  for (int64_t i = 0; i < block; i++)
    p->k->gather(to + i * size, block, o + i < count ? from + i * step * size : NULL,
                 p->element + s->first, s->taps);
}

static void fill_bias(plan *p, const char *bias)
{
  int64_t size = p->k->size, count = p->channels[1];
  size_t bytes = (size_t)(count * size);
  p->k->fill(p->bias, NULL, p->v->groups * p->padded);
  for (int64_t g = 0; g < p->v->groups && bias; g++)
    memcpy(p->bias + g * p->padded * size, bias + g * count * size, bytes);
}

/* ---- packing a unit's source ---- */

static unit unit_at(const plan *p, int64_t index)
{
  unit u = {.group = index % p->v->groups};
  index /= p->v->groups;
  u.row = index % p->bands * p->rows;
  u.image = index / p->bands * p->stacked;
  u.rows = lm_min64(p->rows, p->grid[0] - u.row);
  u.images = lm_min64(p->stacked, p->v->images - u.image);
  return u;
}

/* to[i] = from[i * step + first] for i < pitch, zero outside the row. */
static void pack_row(const plan *p, char *to, const char *from, int64_t first)
{
  int64_t step = p->step[1], length = p->from[1], size = p->k->size;
  int64_t begin = first >= 0 ? 0 : (-first + step - 1) / step;
  int64_t end = first >= length ? 0 : (length - 1 - first) / step + 1;
  begin = lm_min64(begin, p->pitch);
  end = lm_max64(lm_min64(end, p->pitch), begin);
  p->k->fill(to, NULL, begin);
  if (end > begin)
    p->k->copy(to + begin * size, 1, from + (begin * step + first) * size, step,
               end - begin);
  p->k->fill(to + end * size, NULL, p->pitch - end);
}

/* One channel of one image, one residue of rows and columns. */
static void pack_plane(const plan *p, const unit *u, char *to, const char *from,
                       int64_t row, int64_t column)
{
  int64_t size = p->k->size;
  for (int64_t r = 0; r < u->rows + p->halo[0]; r++, to += p->pitch * size) {
    int64_t y = (u->row + r) * p->step[0] + row - p->pad[0];
    if (y < 0 || y >= p->from[0]) p->k->fill(to, NULL, p->pitch);
    else pack_row(p, to, from + y * p->from[1] * size, column - p->pad[1]);
  }
}

static void pack_unit(const plan *p, const unit *u, const char *source, char *pack)
{
  int64_t size = p->k->size, area = p->from[0] * p->from[1];
  for (int64_t i = 0; i < u->images; i++) {
    int64_t first = ((u->image + i) * p->v->groups + u->group) * p->channels[0];
    for (int64_t c = 0; c < p->channels[0]; c++) {
      for (int64_t f = 0; f < p->phases[0] * p->phases[1]; f++) {
        int64_t plane = c * p->phases[0] * p->phases[1] + f;
        char *to = pack + (plane * p->plane + i * p->height * p->pitch) * size;
        pack_plane(p, u, to, source + (first + c) * area * size, f / p->phases[1],
                   f % p->phases[1]);
      }
    }
  }
}

/* ---- forward and adjoint ---- */

/* Where the rows of a block of channels of a pass go. */
typedef struct target {
  const plan *p;
  const unit *u;
  const pass *s;
  char *to;        /* channel 0 of the block in the unit's first image */
  int64_t area, image_step; /* of a destination channel, of an image */
} target;

static char *target_at(const target *t, int64_t image, int64_t row, int64_t column)
{
  int64_t y = (t->u->row + row) * t->p->to_step[0] + t->s->origin[0];
  if (y < 0 || y >= t->p->to[0]) return NULL;
  int64_t at = image * t->image_step + y * t->p->to[1] + column;
  return t->to + at * t->p->k->size;
}

/* Copy the positions of a tile that lie in the destination, row by row. The tile starts
 * at `row` and `column` of an image of the unit. */
static void store_tile(const target *t, const char *tile, int64_t width, int64_t channels,
                       int64_t image, int64_t row, int64_t column)
{
  const plan *p = t->p;
  int64_t size = p->k->size, step = p->to_step[1], origin = t->s->origin[1];
  for (int64_t i = 0; i < width && row < t->u->rows; row++, column = 0) {
    int64_t run = lm_min64(width - i, p->pitch - column);
    int64_t begin = column, end = lm_min64(column + run, p->grid[1]);
    if (begin * step + origin < 0) begin++; /* the origin lies above -step */
    if ((end - 1) * step + origin >= p->to[1]) end--;
    char *to = target_at(t, image, row, begin * step + origin);
    if (to && end > begin)
      for (int64_t o = 0; o < channels; o++)
        p->k->copy(to + o * t->area * size, step,
                   tile + (o * width + i + begin - column) * size, 1, end - begin);
    i += run;
  }
}

/* All positions of one block of channels in one pass. */
static void run_block(const target *t, const char *pack, const char *weight,
                      const char *bias, int64_t block, int64_t channels)
{
  const plan *p = t->p;
  int64_t size = p->k->size, width = tile_width(p->k, block);
  _Alignas(64) char tile[16 * LM_CONV_BYTES];
  const int64_t *offset = p->offset + t->s->first;
  bool plain = p->to_step[1] == 1 && channels == block;
  for (int64_t image = 0; image < t->u->images; image++) {
    int64_t start = image * p->height * p->pitch;
    int64_t row = 0, column = 0;
    while (row < t->u->rows) {
      int64_t at = start + row * p->pitch + column;
      const char *x = pack + at * size;
      char *to = NULL;
      if (plain && column + width <= p->grid[1]) to = target_at(t, image, row, column);
      if (to) {
        p->k->tile[block](x, offset, t->s->taps, weight, bias, to, t->area);
      } else {
        p->k->tile[block](x, offset, t->s->taps, weight, bias, tile, width);
        store_tile(t, tile, width, channels, image, row, column);
      }
      for (column += width; column >= p->grid[1] && row < t->u->rows; row++)
        column = lm_max64(column - p->pitch, 0);
    }
  }
}

static void run_unit(const plan *p, const unit *u, const char *pack, char *to)
{
  int64_t size = p->k->size, count = p->channels[1];
  target t = {.p = p, .u = u, .area = p->to[0] * p->to[1]};
  t.image_step = p->v->groups * count * t.area;
  int64_t first = (u->image * p->v->groups + u->group) * count;
  for (int64_t i = 0; i < p->passes; i++) {
    t.s = &p->pass[i];
    for (int64_t o = 0; o < count; o += MAX_BLOCK) {
      int64_t at = (u->group * p->taps + t.s->first) * p->padded + t.s->taps * o;
      t.to = to + (first + o) * t.area * size;
      run_block(&t, pack, p->weight + at * size,
                p->bias + (u->group * p->padded + o) * size, block_size(count - o),
                lm_min64(count - o, MAX_BLOCK));
    }
  }
}

/* The unit as one product: weight [channels, taps] times packed source [taps,
 * positions]. */
static void run_matrix(const plan *p, const unit *u, const char *source, const char *pack,
                       const char *weight, const char *bias, char *to)
{
  int64_t size = p->k->size, count = p->channels[1], area = p->to[0] * p->to[1];
  int64_t n = u->rows * p->grid[1], skip = u->row * p->grid[1], pitch = p->plane;
  int64_t channel = (u->image * p->v->groups + u->group) * count;
  char *c = to + (channel * area + skip) * size;
  const char *a = weight + u->group * count * p->taps * size;
  if (p->pointwise) {
    pitch = area;
    channel = (u->image * p->v->groups + u->group) * p->channels[0];
    pack = source + (channel * area + skip) * size;
  }
  for (int64_t o = 0; o < count && bias; o++)
    p->k->fill(c + o * area * size, bias + (u->group * count + o) * size, n);
  p->k->gemm(p->adjoint, false, count, n, p->taps, a, p->adjoint ? count : p->taps, pack,
             pitch, bias != NULL, c, area);
}

static lm_status run(plan *p, const void *source, const void *weight, const void *bias,
                     void *to)
{
  plan_carve(p, pack_elements(p), !p->matrix);
  LM_TRY(lm_device_alloc(p->v->device, p->bytes, &p->memory));
  plan_carve(p, pack_elements(p), !p->matrix);
  if (!p->matrix) {
    fill_taps(p);
    fill_bias(p, bias);
  }
#pragma omp parallel num_threads(p->threads) if (p->threads > 1)
  {
    char *pack = p->pack + p->pack_bytes * (size_t)omp_get_thread_num();
    if (!p->matrix) {
#pragma omp for schedule(static)
      for (int64_t i = 0; i < p->v->groups * p->passes * p->blocks; i++)
        pack_weight(p, i, weight);
    }
#pragma omp for schedule(static)
    for (int64_t i = 0; i < p->units; i++) {
      unit u = unit_at(p, i);
      if (!p->pointwise) pack_unit(p, &u, source, pack);
      if (p->matrix) run_matrix(p, &u, source, pack, weight, bias, to);
      else run_unit(p, &u, pack, to);
    }
  }
  lm_device_free(p->v->device, p->memory, p->bytes);
  return LM_OK;
}

lm_status lm_conv_forward(const lm_conv *v, const void *x, const void *weight,
                          const void *bias, void *y)
{
  plan p;
  LM_TRY(plan_init(&p, v, false, false));
  return run(&p, x, weight, bias, y);
}

lm_status lm_conv_adjoint(const lm_conv *v, const void *y, const void *weight,
                          const void *bias, void *x)
{
  plan p;
  LM_TRY(plan_init(&p, v, true, false));
  return run(&p, y, weight, bias, x);
}

/* ---- gradient of the weight ---- */

/* A slot sums the units [slot * units / slots, (slot + 1) * units / slots). Large
 * weights have few slots, and the threads of a slot share the output channels instead. */
typedef struct weight_job {
  plan p;
  int64_t slots, parts;
  int64_t pitch;     /* of a packed row of gy */
  char *partial;     /* [slots - 1, weight]; slot 0 sums in the result */
} weight_job;

/* gy of the unit on the pitch of the packed source, zero at positions that do not
 * exist. */
static void pack_gradient(const weight_job *j, const unit *u, const char *gy, char *to,
                          int64_t first, int64_t last)
{
  const plan *p = &j->p;
  int64_t size = p->k->size, area = p->to[0] * p->to[1], width = p->to[1];
  size_t bytes = (size_t)(width * size);
  p->k->fill(to, NULL, (last - first) * j->pitch);
  for (int64_t i = 0; i < u->images; i++) {
    int64_t channel = ((u->image + i) * p->v->groups + u->group) * p->channels[1];
    for (int64_t o = first; o < last; o++) {
      const char *from = gy + ((channel + o) * area + u->row * width) * size;
      char *row = to + ((o - first) * j->pitch + i * p->height * p->pitch) * size;
      for (int64_t r = 0; r < u->rows; r++)
        memcpy(row + r * p->pitch * size, from + r * width * size, bytes);
    }
  }
}

/* Add the unit's share to the sums of channels [first, last). */
static void weight_unit(const weight_job *j, const unit *u, const char *pack,
                        const char *gy, char *sums, int64_t first, int64_t last)
{
  const plan *p = &j->p;
  int64_t size = p->k->size;
  int64_t count = ((u->images - 1) * p->height + u->rows - 1) * p->pitch + p->grid[1];
  count = round_up(count, p->k->lanes);
  for (int64_t o = first; o < last; o += 4) {
    int64_t channels = lm_min64(last - o, 4);
    char *to = sums + (u->group * p->channels[1] + o) * p->taps * size;
    for (int64_t t = 0; t < p->taps; t += DOT_TAPS)
      p->k->dot[channels](gy + (o - first) * j->pitch * size, j->pitch, pack,
                          p->offset + t, lm_min64(p->taps - t, DOT_TAPS), count,
                          to + t * size, p->taps);
  }
}

/* The same through the BLAS: gy [channels, positions] times packed source, transposed. */
static void weight_matrix(const weight_job *j, const unit *u, const char *x,
                          const char *pack, const char *gy, char *sums, int64_t first,
                          int64_t last)
{
  const plan *p = &j->p;
  int64_t size = p->k->size, area = p->to[0] * p->to[1];
  int64_t skip = u->row * p->grid[1], pitch = p->plane;
  int64_t image = u->image * p->v->groups + u->group;
  if (p->pointwise) {
    pitch = area;
    pack = x + (image * p->channels[0] * area + skip) * size;
  }
  const char *a = gy + ((image * p->channels[1] + first) * area + skip) * size;
  char *c = sums + (u->group * p->channels[1] + first) * p->taps * size;
  p->k->gemm(false, true, last - first, p->taps, u->rows * p->grid[1], a, area, pack,
             pitch, 1, c, p->taps);
}

/* The units of one slot for one part of the channels. */
static void weight_slot(const weight_job *j, int64_t slot, int64_t part, const char *x,
                        const char *gy, char *sums, char *pack)
{
  const plan *p = &j->p;
  int64_t blocks = (p->channels[1] + 3) / 4;
  int64_t first = blocks * part / j->parts * 4;
  int64_t last = lm_min64(blocks * (part + 1) / j->parts * 4, p->channels[1]);
  if (first == last) return;
  char *gradient = pack + round_up(pack_elements(p) * p->k->size, 64);
  memset(pack, 0, p->pack_bytes); /* what lies between packed rows meets zeros of gy */
  int64_t end = p->units * (slot + 1) / j->slots;
  for (int64_t i = p->units * slot / j->slots; i < end; i++) {
    unit u = unit_at(p, i);
    if (!p->pointwise) pack_unit(p, &u, x, pack);
    if (p->matrix) {
      weight_matrix(j, &u, x, pack, gy, sums, first, last);
    } else {
      pack_gradient(j, &u, gy, gradient, first, last);
      weight_unit(j, &u, pack, gradient, sums, first, last);
    }
  }
}

static void weight_carve(weight_job *j, int64_t total)
{
  plan *p = &j->p;
  int64_t elements = pack_elements(p) + 64;
  if (!p->matrix) elements += p->channels[1] * j->pitch;
  plan_carve(p, elements, false);
  j->partial = carve(p, (size_t)((j->slots - 1) * total * p->k->size));
}

lm_status lm_conv_weight(const lm_conv *v, const void *x, const void *gy, void *gweight)
{
  weight_job j;
  plan *p = &j.p;
  LM_TRY(plan_init(p, v, false, true));
  int64_t size = p->k->size, total = v->groups * p->channels[1] * p->taps;
  int64_t most = lm_max64((64 << 20) / lm_max64(total * size, 1), 1);
  j.slots = lm_max64(lm_min64(lm_min64(p->threads, p->units), most), 1);
  j.parts = p->threads / j.slots;
  j.pitch = round_up(p->plane, p->k->lanes);
  weight_carve(&j, total);
  LM_TRY(lm_device_alloc(v->device, p->bytes, &p->memory));
  weight_carve(&j, total);
  fill_taps(p);
#pragma omp parallel num_threads(p->threads) if (p->threads > 1)
  {
    char *pack = p->pack + p->pack_bytes * (size_t)omp_get_thread_num();
#pragma omp for schedule(static)
    for (int64_t i = 0; i < j.slots; i++)
      p->k->fill(i ? j.partial + (i - 1) * total * size : gweight, NULL, total);
#pragma omp for schedule(static)
    for (int64_t i = 0; i < j.slots * j.parts; i++) {
      int64_t slot = i / j.parts;
      char *sums = slot ? j.partial + (slot - 1) * total * size : gweight;
      weight_slot(&j, slot, i % j.parts, x, gy, sums, pack);
    }
  }
  for (int64_t i = 1; i < j.slots; i++)
    p->k->add(gweight, j.partial + (i - 1) * total * size, total);
  lm_device_free(v->device, p->memory, p->bytes);
  return LM_OK;
}
