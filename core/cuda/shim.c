/* shim.c: the device "shim" (see shim.h): its memory, and running a launch.
 *
 * A sweep goes over the threads of a block in the wanted order and lets each run until it
 * waits or ends. Threads that have not begun are run one after the other on the same fibre;
 * only a thread that waits keeps its fibre, so kernels without barriers cost no switches.
 * After a sweep, warps and then the block are released where all are waiting. */
#include "cuda/shim.h"

#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "cuda/fibre.h"

#define WARP 32
#define MOST_THREADS 1024
#define LANE_BYTES 16
#define MOST_SHARED 16 /* objects per block */
#define NAN_BYTE 0xff  /* all bits set: NaN in every float type, -1 in the integers */

/* ---- memory ---- */

typedef struct piece {
  char *data;
  size_t bytes;
} piece;

static piece *pieces; /* all that is allocated, by address */
static int64_t piece_count, piece_room;

/* Index of the first piece that does not end before `at`. */
static int64_t find_piece(const char *at)
{
  int64_t low = 0, high = piece_count;
  while (low < high) {
    int64_t middle = (low + high) / 2;
    if (pieces[middle].data + pieces[middle].bytes <= at) low = middle + 1;
    else high = middle;
  }
  return low;
}

static lm_status shim_alloc(lm_device *d, size_t bytes, void **out)
{
  (void)d;
  if (piece_count == piece_room) {
    int64_t room = piece_room ? 2 * piece_room : 256;
    piece *grown = realloc(pieces, (size_t)room * sizeof *grown);
    if (!grown) return lm_fail(LM_ERR_MEMORY, "the system gave no memory");
    pieces = grown;
    piece_room = room;
  }
  if (posix_memalign(out, 64, bytes) != 0) {
    *out = NULL;
    return lm_fail(LM_ERR_MEMORY, "the system gave no %zu bytes", bytes);
  }
  memset(*out, NAN_BYTE, bytes);
  int64_t k = find_piece(*out);
  memmove(pieces + k + 1, pieces + k, (size_t)(piece_count - k) * sizeof *pieces);
  pieces[k] = (piece){*out, bytes};
  piece_count++;
  return LM_OK;
}

static void shim_free(lm_device *d, void *data, size_t bytes)
{
  (void)d;
  (void)bytes;
  int64_t k = find_piece(data);
  memmove(pieces + k, pieces + k + 1, (size_t)(--piece_count - k) * sizeof *pieces);
  free(data);
}

static lm_status shim_copy_in(lm_device *d, void *to, const void *host_from, size_t bytes)
{
  (void)d;
  memcpy(to, host_from, bytes);
  return LM_OK;
}

static lm_status shim_copy_out(lm_device *d, void *host_to, const void *from, size_t bytes)
{
  (void)d;
  memcpy(host_to, from, bytes);
  return LM_OK;
}

static lm_status shim_sync(lm_device *d)
{
  (void)d;
  return LM_OK;
}

static size_t shim_empty_cache(lm_device *d)
{
  (void)d;
  return 0;
}

lm_device *lm_shim_device(void)
{
  static uint32_t alarm;
  static lm_device shim = {.name = "shim",
                           .alarm = &alarm,
                           .kind = LM_SHIM,
                           .alloc = shim_alloc,
                           .free = shim_free,
                           .copy_in = shim_copy_in,
                           .copy_out = shim_copy_out,
                           .sync = shim_sync,
                           .empty_cache = shim_empty_cache};
  return &shim;
}

/* ---- the block that is running ---- */

typedef enum thread_state { FRESH, READY, AT_BARRIER, AT_WARP, REFUSED, DONE } thread_state;

typedef struct thread {
  thread_state state;
  lm_fibre *fibre; /* while it waits */
  const char *file; /* where it waits */
  int line;
  int parity; /* which of the warp's two rows it lays its next value into */
} thread;

typedef struct shared {
  const void *id;
  void *data;
} shared;

struct lm_shim_place lm_shim_now;

static const lm_shim_launch *launch;
static int count; /* threads */
static thread threads[MOST_THREADS];
static int order[MOST_THREADS], position, current;
static lm_fibre *fibre; /* the running one */
static lm_fibre *idle[MOST_THREADS];
static int idle_count;
static char lanes[MOST_THREADS / WARP][2][WARP][LANE_BYTES];
static shared objects[MOST_SHARED];
static int object_count;
static const char *refusal; /* what a thread asked for in vain */

static void become(int t)
{
  current = t;
  uint32_t x = lm_shim_now.block_dim.x, y = lm_shim_now.block_dim.y, u = (uint32_t)t;
  if (y == 1 && lm_shim_now.block_dim.z == 1)
    lm_shim_now.thread = (lm_shim_index){u, 0, 0};
  else lm_shim_now.thread = (lm_shim_index){u % x, u / x % y, u / x / y};
  lm_shim_now.lane = u % WARP;
}

/* Go on to the next thread of the order if it has not begun. */
static bool next_fresh(void)
{
  if (position + 1 >= count || threads[order[position + 1]].state != FRESH) return false;
  become(order[++position]);
  return true;
}

static void work(void)
{
  for (;;) {
    do {
      launch->run(launch->arguments);
      threads[current].state = DONE;
    } while (next_fresh());
    lm_fibre_leave();
  }
}

static void wait_as(thread_state state, const char *file, int line)
{
  thread *t = &threads[current];
  t->state = state;
  t->file = file;
  t->line = line;
  t->fibre = fibre;
  lm_fibre_leave();
}

void lm_shim_barrier(const char *file, int line)
{
  wait_as(AT_BARRIER, file, line);
}

/* Two rows in turn: a lane comes to its next exchange before the slowest has read this one,
 * but not to the one after that. */
const char *lm_shim_exchange(const void *mine, size_t size, const char *file, int line)
{
  int warp = current / WARP, row = threads[current].parity;
  threads[current].parity = !row;
  memcpy(lanes[warp][row][current % WARP], mine, size);
  wait_as(AT_WARP, file, line);
  return lanes[warp][row][0];
}

void *lm_shim_shared(const void *id, size_t bytes)
{
  for (int i = 0; i < object_count; i++)
    if (objects[i].id == id) return objects[i].data;
  if (!id) bytes = launch->dynamic;
  void *data = NULL;
  if (object_count == MOST_SHARED || posix_memalign(&data, 64, bytes ? bytes : 1) != 0) {
    refusal = object_count == MOST_SHARED ? "too many objects" : "no memory";
    wait_as(REFUSED, "", 0); /* for ever */
  }
  memset(data, NAN_BYTE, bytes);
  objects[object_count++] = (shared){id, data};
  return data;
}

/* ---- running a block ---- */

static lm_status sweep(void)
{
  for (position = 0; position < count; position++) {
    int t = order[position];
    if (threads[t].state == READY) {
      fibre = threads[t].fibre;
    } else if (threads[t].state == FRESH) {
      if (idle_count == 0) {
        LM_TRY(lm_fibre_new(work, &idle[0]));
        idle_count = 1;
      }
      fibre = idle[--idle_count];
    } else {
      continue;
    }
    become(t);
    lm_fibre_enter(fibre);
    if (threads[current].state == DONE) idle[idle_count++] = fibre;
  }
  return LM_OK;
}

static bool same_place(const thread *a, const thread *b)
{
  return a->state == b->state && a->line == b->line &&
         (a->file == b->file || strcmp(a->file, b->file) == 0);
}

/* Make threads [first, last) ready if they all wait at one place. */
static bool release(thread_state state, int first, int last)
{
  if (threads[first].state != state) return false;
  for (int t = first + 1; t < last; t++)
    if (!same_place(&threads[first], &threads[t])) return false;
  for (int t = first; t < last; t++) threads[t].state = READY;
  return true;
}

static lm_status fail_stuck(void)
{
  int a = 0, b = 0;
  while (threads[a].state == DONE) a++;
  while (b < count && same_place(&threads[a], &threads[b])) b++;
  if (b == count) b = a; /* a warp's lanes at one place in different rounds: cannot be */
  const thread *x = &threads[a], *y = &threads[b];
  const char *name = strrchr(x->file, '/');
  const char *what = x->state == AT_BARRIER ? "__syncthreads" : "an exchange of its warp";
  if (y->state == DONE)
    return lm_fail(LM_ERR_INTERNAL,
                   "%s: kernel %s: thread %d waits at %s (%s:%d) but thread %d has ended",
                   launch->op, launch->kernel, a, what, name ? name + 1 : x->file, x->line, b);
  return lm_fail(LM_ERR_INTERNAL,
                 "%s: kernel %s: thread %d waits at %s (%s:%d) but thread %d at line %d",
                 launch->op, launch->kernel, a, what, name ? name + 1 : x->file, x->line, b,
                 y->line);
}

/* Release who can go on. Sets *done when all have ended. */
static lm_status settle(bool *done)
{
  bool any = false;
  int ended = 0;
  for (int t = 0; t < count; t++) ended += threads[t].state == DONE;
  *done = ended == count;
  if (refusal)
    return lm_fail(LM_ERR_INTERNAL, "%s: kernel %s: %s for its shared memory", launch->op,
                   launch->kernel, refusal);
  if (*done) return LM_OK;
  for (int t = 0; t < count; t += WARP) any |= release(AT_WARP, t, t + WARP);
  if (!any) any = release(AT_BARRIER, 0, count);
  return any ? LM_OK : fail_stuck();
}

typedef enum running_order { ASCENDING, DESCENDING, SHUFFLED, ORDERS } running_order;
static const char *const order_name[ORDERS] = {"ascending", "descending", "shuffled"};

/* A permutation of 0..n-1; the same in every run of the program. */
static void make_order(running_order kind, int n, int *list, lm_rng *rng)
{
  for (int i = 0; i < n; i++) list[i] = kind == DESCENDING ? n - 1 - i : i;
  for (int i = n - 1; kind == SHUFFLED && i > 0; i--) {
    int k = (int)(lm_rng_u32(rng) % (uint32_t)(i + 1)), swapped = list[i];
    list[i] = list[k];
    list[k] = swapped;
  }
}

static void free_shared(void)
{
  for (int i = 0; i < object_count; i++) free(objects[i].data);
  object_count = 0;
}

static lm_status run_block(running_order kind, lm_rng *rng)
{
  bool done = false;
  lm_status status = LM_OK;
  memset(threads, 0, (size_t)count * sizeof *threads);
  refusal = NULL;
  make_order(kind, count, order, rng);
  while (status == LM_OK && !done) {
    status = sweep();
    if (status == LM_OK) status = settle(&done);
  }
  free_shared();
  if (done) return LM_OK;
  for (int t = 0; t < count; t++) /* stacks in the middle of something */
    if (threads[t].state != DONE && threads[t].state != FRESH) lm_fibre_free(threads[t].fibre);
  return status;
}

/* ---- running a launch ---- */

/* An odd step of about n / 2 that shares no factor with n: steps of it visit every block. */
static int64_t shuffling_step(int64_t n)
{
  for (int64_t step = n / 2 | 1;; step += 2) {
    int64_t a = step, b = n;
    while (b) {
      int64_t rest = a % b;
      a = b;
      b = rest;
    }
    if (a == 1) return step;
  }
}

static lm_status run_grid(running_order kind)
{
  lm_shim_index *g = &lm_shim_now.grid_dim;
  int64_t n = (int64_t)g->x * g->y * g->z, step = kind == SHUFFLED ? shuffling_step(n) : 1;
  lm_rng rng = lm_rng_make(1, 2);
  for (int64_t i = 0; i < n; i++) {
    int64_t b = kind == DESCENDING ? n - 1 - i : i * step % n;
    lm_shim_now.block = (lm_shim_index){(uint32_t)(b % g->x), (uint32_t)(b / g->x % g->y),
                                        (uint32_t)(b / g->x / g->y)};
    LM_TRY(run_block(kind, &rng));
  }
  return LM_OK;
}

/* The pieces of memory that the launch may write, and copies of them. */
typedef struct written {
  int n;
  struct { piece piece; char *before, *after; } at[128];
} written;

static lm_status find_written(const lm_shim_launch *l, written *w)
{
  for (int k = 0; k < l->words; k++) {
    const char *bytes = l->word[k].at;
    for (size_t at = 0; at + sizeof(char *) <= l->word[k].size; at += sizeof(char *)) {
      char *pointer;
      memcpy(&pointer, bytes + at, sizeof pointer);
      int64_t i = find_piece(pointer);
      if (i == piece_count || pointer < pieces[i].data) continue;
      int seen = 0;
      while (seen < w->n && w->at[seen].piece.data != pieces[i].data) seen++;
      if (seen < w->n) continue;
      if (w->n == 128)
        return lm_fail(LM_ERR_INTERNAL, "%s: more than 128 pieces of memory", l->op);
      w->at[w->n++].piece = pieces[i];
    }
  }
  return LM_OK;
}

static lm_status save(const piece *p, char **copy)
{
  if (!*copy) *copy = malloc(p->bytes);
  if (!*copy) return lm_fail(LM_ERR_MEMORY, "shim: no memory to compare the orders");
  memcpy(*copy, p->data, p->bytes);
  return LM_OK;
}

static lm_status compare(const written *w, running_order kind)
{
  for (int k = 0; k < w->n; k++) {
    const piece *p = &w->at[k].piece;
    if (memcmp(p->data, w->at[k].after, p->bytes) == 0) continue;
    size_t at = 0;
    while (p->data[at] == w->at[k].after[at]) at++;
    lm_fail(LM_ERR_INTERNAL,
            "%s: kernel %s gives other bits when its threads run in %s order (byte %zu of %zu)",
            launch->op, launch->kernel, order_name[kind], at, p->bytes);
    return lm_hint("a barrier is missing, or two threads write the same place");
  }
  return LM_OK;
}

static lm_status run_orders(written *w)
{
  for (int k = 0; k < w->n; k++) LM_TRY(save(&w->at[k].piece, &w->at[k].before));
  LM_TRY(run_grid(ASCENDING));
  for (int k = 0; k < w->n; k++) LM_TRY(save(&w->at[k].piece, &w->at[k].after));
  for (running_order kind = DESCENDING; kind < ORDERS; kind++) {
    for (int k = 0; k < w->n; k++)
      memcpy(w->at[k].piece.data, w->at[k].before, w->at[k].piece.bytes);
    LM_TRY(run_grid(kind));
    LM_TRY(compare(w, kind));
  }
  return LM_OK;
}

lm_status lm_shim_run(const lm_shim_launch *l)
{
  int64_t n = (int64_t)l->block[0] * l->block[1] * l->block[2];
  if (n < WARP || n > MOST_THREADS || n % WARP != 0)
    return lm_fail(LM_ERR_INTERNAL, "%s: kernel %s: %lld threads are no whole warps up to %d",
                   l->op, l->kernel, (long long)n, MOST_THREADS);
  if (l->grid[1] > 65535 || l->grid[2] > 65535)
    return lm_fail(LM_ERR_INTERNAL, "%s: kernel %s: the grid is too large", l->op, l->kernel);
  launch = l;
  count = (int)n;
  lm_shim_now.block_dim = (lm_shim_index){l->block[0], l->block[1], l->block[2]};
  lm_shim_now.grid_dim = (lm_shim_index){l->grid[0], l->grid[1], l->grid[2]};
  written *w;
  LM_TRY(lm_calloc(&w, 1, sizeof *w));
  lm_status status = find_written(l, w);
  if (status == LM_OK) status = run_orders(w);
  for (int k = 0; k < w->n; k++) {
    free(w->at[k].before);
    free(w->at[k].after);
  }
  free(w);
  return status;
}
