/* profile.c: what profile.h says. Tables grow; when there is no memory to grow, calls are
 * counted as dropped: measuring never makes a computation fail. */
#include "graph/profile.h"

#include <stdlib.h>
#include <string.h>

#define MOST_EVENTS 1000000

bool lm_profile_on;
static lm_profile profile;
static bool trace;
static double began;
static int row_room, owner_room;
static int64_t event_room;

/* Room for one more element in *list. */
static bool grow(void *list, int64_t count, int64_t *room, size_t size)
{
  if (count < *room) return true;
  int64_t wanted = *room > 0 ? 2 * *room : 64;
  void *old, *grown;
  memcpy(&old, list, sizeof old);
  grown = realloc(old, (size_t)wanted * size);
  if (!grown) return false;
  memcpy(list, &grown, sizeof grown);
  *room = wanted;
  return true;
}

static bool grow_int(void *list, int count, int *room, size_t size)
{
  int64_t wide = *room;
  bool done = grow(list, count, &wide, size);
  *room = (int)wide;
  return done;
}

void lm_profile_start(bool tracing)
{
  profile.row_count = profile.owner_count = 0;
  profile.event_count = profile.dropped = 0;
  profile.peak = 0;
  trace = tracing;
  began = lm_time();
  lm_profile_on = true;
}

void lm_profile_stop(void)
{
  if (lm_profile_on) profile.seconds = lm_time() - began;
  lm_profile_on = false;
}

const lm_profile *lm_profile_get(void)
{
  return &profile;
}

/* ---- work ---- */

/* Distinct bytes a tensor shows: broadcast dimensions cost nothing. */
static double bytes_of(const lm_tensor *t)
{
  if (!t || !t->storage) return 0;
  double n = (double)lm_dtype_size(t->dtype);
  for (int d = 0; d < t->ndim; d++)
    if (t->stride[d] != 0 || t->shape[d] == 0) n *= (double)t->shape[d];
  return n;
}

static double made_by(const lm_call *c)
{
  double made = 0;
  if (!(c->op->flags & LM_OP_INPLACE))
    for (int k = 0; k < c->nout; k++) made += bytes_of(c->out[k]);
  for (int k = 0; k < LM_MAX_SAVE; k++) made += bytes_of(c->save[k]);
  return made;
}

static lm_work work_of(const lm_call *c)
{
  lm_work w = {.flops = 0, .bytes = 0};
  for (int i = 0; i < c->nin; i++) w.bytes += bytes_of(c->in[i]);
  for (int k = 0; k < c->nout; k++) w.bytes += bytes_of(c->out[k]);
  for (int k = 0; k < LM_MAX_SAVE; k++) w.bytes += bytes_of(c->save[k]);
  if (c->op->work) c->op->work(c, &w);
  return w;
}

/* ---- memory ---- */

static void add_owner(const char *maker, size_t bytes)
{
  for (int k = 0; k < profile.owner_count; k++) {
    if (strcmp(profile.owners[k].maker, maker) == 0) {
      profile.owners[k].bytes += bytes;
      return;
    }
  }
  if (grow_int(&profile.owners, profile.owner_count, &owner_room, sizeof *profile.owners))
    profile.owners[profile.owner_count++] = (lm_profile_owner){maker, bytes};
}

static void look_at_memory(const lm_device *d)
{
  if (d->live <= profile.peak + profile.peak / 50) return;
  profile.peak = d->live;
  profile.owner_count = 0;
  for (const lm_storage *s = lm_storage_first(); s; s = s->next)
    if (s->device == d) add_owner(s->maker ? s->maker : "other", s->bytes);
}

/* ---- adding a call ---- */

static lm_profile_row *row_of(const lm_op *op)
{
  for (int k = 0; k < profile.row_count; k++)
    if (profile.rows[k].op == op) return &profile.rows[k];
  if (!grow_int(&profile.rows, profile.row_count, &row_room, sizeof *profile.rows)) return NULL;
  lm_profile_row *row = &profile.rows[profile.row_count++];
  *row = (lm_profile_row){.op = op};
  return row;
}

static bool add_event(const lm_call *c, double start, double seconds, lm_work w)
{
  if (profile.event_count >= MOST_EVENTS) return false;
  if (!grow(&profile.events, profile.event_count, &event_room, sizeof *profile.events))
    return false;
  lm_profile_event *e = &profile.events[profile.event_count++];
  *e = (lm_profile_event){.op = c->op, .start = start - began, .seconds = seconds,
                          .flops = w.flops, .bytes = w.bytes};
  if (c->nout > 0) {
    e->ndim = c->out[0]->ndim;
    e->dtype = c->out[0]->dtype;
    memcpy(e->shape, c->out[0]->shape, sizeof e->shape);
  }
  return true;
}

void lm_profile_add(const lm_call *c, double start)
{
  if (c->device->kind != LM_CPU) (void)c->device->sync(c->device); /* kernels run on their own */
  double seconds = lm_time() - start;
  lm_work w = work_of(c);
  lm_profile_row *row = row_of(c->op);
  bool kept = row != NULL;
  if (row) {
    row->seconds += seconds;
    row->calls++;
    row->flops += w.flops;
    row->bytes += w.bytes;
    row->made += made_by(c);
  }
  look_at_memory(c->device);
  if (trace && !add_event(c, start, seconds, w)) kept = false;
  if (!kept) profile.dropped++;
}
