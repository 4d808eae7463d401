/* blocks.c: two allocators. Small blocks: lists of free blocks by size class (eighths of powers
 * of two). Large blocks: a list of free stretches of address space, sorted by address; a block
 * is cut from the smallest stretch that holds it, and a stretch that comes back is merged with
 * its neighbours, so that what activations leave behind serves gradients of other sizes. New
 * stretches ask for huge pages: a matrix product walks down columns that lie thousands of bytes
 * apart, and with small pages every step would miss the TLB. */
#include "cpu/blocks.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/base.h"

#if defined(__SANITIZE_ADDRESS__)
#define REUSE 0 /* the sanitizer is to see every use after free */
#else
#define REUSE 1
#endif

enum {
  LINE = 64,
  PAGE = 4096,
  LARGE = 65536,       /* bytes from which a block is cut from a stretch */
  HUGE_PAGE = 1 << 21,
  GROWTH = 1 << 26,    /* least address space asked for at once; untouched, it costs nothing */
  CLASSES = 96
};

/* ---- small blocks ---- */

typedef struct block {
  struct block *next;
} block;

static block *free_blocks[CLASSES];

/* Smallest class that holds `bytes`: 64 bytes times (8 + i) / 8 times a power of two. */
static int size_class(size_t bytes, size_t *rounded)
{
  size_t units = (bytes + LINE - 1) / LINE;
  if (units <= 8) {
    *rounded = (units ? units : 1) * LINE;
    return (int)(units ? units : 1);
  }
  int shift = 60 - __builtin_clzll(units - 1); /* units >> shift is in 8..16 */
  if (shift < 0) shift = 0;
  size_t step = (size_t)1 << shift;
  size_t eighths = (units + step - 1) / step;
  *rounded = eighths * step * LINE;
  return 16 + shift * 8 + (int)(eighths - 8);
}

static void *small_take(size_t bytes, size_t *cached)
{
  size_t rounded;
  int k = size_class(bytes, &rounded);
  block *b = free_blocks[k];
  if (!b) return aligned_alloc(LINE, rounded);
  free_blocks[k] = b->next;
  *cached -= rounded;
  return b;
}

static void small_give(void *data, size_t bytes, size_t *cached)
{
  size_t rounded;
  int k = size_class(bytes, &rounded);
  block *b = data;
  b->next = free_blocks[k];
  free_blocks[k] = b;
  *cached += rounded;
}

static void small_trim(void)
{
  for (int k = 0; k < CLASSES; k++) {
    while (free_blocks[k]) {
      block *b = free_blocks[k];
      free_blocks[k] = b->next;
      free(b);
    }
  }
}

/* ---- large blocks ---- */

typedef struct stretch {
  char *start;
  size_t bytes;
} stretch;

static stretch *stretches; /* free, sorted by address, no two adjacent */
static size_t count, capacity;

static size_t round_up(size_t n, size_t to)
{
  return (n + to - 1) / to * to;
}

/* Index of the first stretch behind address p. */
static size_t find_place(const char *p)
{
  size_t low = 0, high = count;
  while (low < high) {
    size_t middle = (low + high) / 2;
    if (stretches[middle].start < p) low = middle + 1;
    else high = middle;
  }
  return low;
}

static void remove_at(size_t i)
{
  count--;
  memmove(stretches + i, stretches + i + 1, (count - i) * sizeof *stretches);
}

/* Without memory for the list itself the stretch goes back to the system. */
static bool add_stretch(char *start, size_t bytes)
{
  size_t i = find_place(start);
  bool joins_left = i > 0 && stretches[i - 1].start + stretches[i - 1].bytes == start;
  bool joins_right = i < count && start + bytes == stretches[i].start;
  if (joins_left) {
    stretches[i - 1].bytes += bytes;
    if (joins_right) {
      stretches[i - 1].bytes += stretches[i].bytes;
      remove_at(i);
    }
    return true;
  }
  if (joins_right) {
    stretches[i].start = start;
    stretches[i].bytes += bytes;
    return true;
  }
  if (count == capacity) {
    size_t more = capacity ? 2 * capacity : 256;
    stretch *grown = realloc(stretches, more * sizeof *grown);
    if (!grown) {
      munmap(start, bytes);
      return false;
    }
    stretches = grown;
    capacity = more;
  }
  memmove(stretches + i + 1, stretches + i, (count - i) * sizeof *stretches);
  stretches[i] = (stretch){start, bytes};
  count++;
  return true;
}

/* Address space of whole huge pages from the system, as a new stretch. It is cut from the upper
 * end of what was mapped, where it borders on the stretch before it. */
static bool grow(size_t need, size_t *cached)
{
  size_t bytes = round_up(need > GROWTH ? need : GROWTH, HUGE_PAGE);
  if (bytes < need || bytes + HUGE_PAGE < bytes) return false;
  char *mapped = mmap(NULL, bytes + HUGE_PAGE, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) return false;
  size_t tail = (uintptr_t)(mapped + bytes + HUGE_PAGE) % HUGE_PAGE;
  char *start = mapped + HUGE_PAGE - tail;
  munmap(mapped, (size_t)(start - mapped));
  if (tail > 0) munmap(start + bytes, tail);
  madvise(start, bytes, MADV_HUGEPAGE); /* only a wish */
  if (!add_stretch(start, bytes)) return false;
  *cached += bytes;
  return true;
}

static void *cut(size_t need, size_t *cached)
{
  size_t best = count;
  for (size_t i = 0; i < count; i++)
    if (stretches[i].bytes >= need && (best == count || stretches[i].bytes < stretches[best].bytes))
      best = i;
  if (best == count) return NULL;
  char *start = stretches[best].start;
  stretches[best].start += need;
  stretches[best].bytes -= need;
  if (stretches[best].bytes == 0) remove_at(best);
  *cached -= need;
  return start;
}

static void *large_take(size_t bytes, size_t *cached)
{
  size_t need = round_up(bytes, PAGE);
  if (need < bytes) return NULL;
  void *start = cut(need, cached);
  return start || !grow(need, cached) ? start : cut(need, cached);
}

static void large_give(void *data, size_t bytes, size_t *cached)
{
  size_t need = round_up(bytes, PAGE);
  if (add_stretch(data, need)) *cached += need;
}

static void large_trim(void)
{
  for (size_t i = 0; i < count; i++) munmap(stretches[i].start, stretches[i].bytes);
  count = 0;
}

/* ---- both ---- */

void *lm_block_take(size_t bytes, size_t *cached)
{
  if (!REUSE) return aligned_alloc(LINE, bytes ? round_up(bytes, LINE) : LINE);
  return bytes < LARGE ? small_take(bytes, cached) : large_take(bytes, cached);
}

void lm_block_give(void *data, size_t bytes, size_t *cached)
{
  if (!REUSE) free(data);
  else if (bytes < LARGE) small_give(data, bytes, cached);
  else large_give(data, bytes, cached);
}

void lm_blocks_trim(size_t *cached)
{
  small_trim();
  large_trim();
  *cached = 0;
}
