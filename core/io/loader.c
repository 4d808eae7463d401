/* loader.c: items, samples, and the ring of batches that the workers fill.
 *
 * The ring has `depth` slots. Tasks (one sample each) are handed out in order; a task of batch
 * b may start when b < consumed + depth, so a slot is never written while it is being read.
 * Everything below `lock` in the loader is guarded by it while workers run, but for what only
 * changes when none is busy (order, epoch, slots' buffers). */
#include "io/loader.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "io/imagefile.h"
#include "io/samples.h"

typedef struct slot {
  lm_batch batch;
  bool *ok;          /* per sample: decoded */
  int64_t remaining; /* samples not finished */
  int64_t left_out;  /* samples of broken files */
  lm_status status;  /* first other error, in the order of samples */
  int64_t failed;    /* its position */
  lm_error error;
} slot;

struct lm_loader {
  lm_samples samples;
  int64_t *order;            /* this epoch's permutation of items */
  int64_t epoch, batches;    /* of this epoch; batches per epoch */
  int64_t next_task, end_task, consumed;
  bool delivered;            /* the slot at consumed - 1 is the caller's until the next call */
  slot *slots;
  int depth;
  pthread_t *threads;
  int started;
  pthread_mutex_t lock;
  pthread_cond_t work, done;
  bool stop;
  int busy;                  /* workers inside a task */
  double waited;
  lm_scratch scratch;        /* for threads == 0 */
};

static lm_status check_options(const lm_loader_options *o)
{
  if (o->batch < 1 || o->batch > 65536)
    return lm_fail(LM_ERR_ARG, "loader: batch must be 1 to 65536, not %lld", (long long)o->batch);
  if (o->size < 1 || o->size > 8192)
    return lm_fail(LM_ERR_ARG, "loader: size must be 1 to 8192, not %lld", (long long)o->size);
  if (o->threads < 0 || o->threads > 256)
    return lm_fail(LM_ERR_ARG, "loader: threads must be 0 to 256, not %d", o->threads);
  if (o->channels != 1 && o->channels != 3)
    return lm_fail(LM_ERR_ARG, "loader: channels must be 1 or 3, not %d", o->channels);
  if (!(o->flip >= 0 && o->flip <= 1))
    return lm_fail(LM_ERR_ARG, "loader: flip must be 0 to 1, not %g", o->flip);
  if (o->crop && !(o->scale[0] > 0 && o->scale[0] <= o->scale[1] && o->scale[1] <= 1))
    return lm_fail(LM_ERR_ARG, "loader: crop: scale must be 0 < low <= high <= 1, not %g, %g",
                   o->scale[0], o->scale[1]);
  if (o->crop && !(o->ratio[0] > 0 && o->ratio[0] <= o->ratio[1] && o->ratio[1] < HUGE_VAL))
    return lm_fail(LM_ERR_ARG, "loader: crop: ratio must be 0 < low <= high, not %g, %g",
                   o->ratio[0], o->ratio[1]);
  for (int c = 0; c < o->channels; c++)
    if (!(o->std[c] > 0)) return lm_fail(LM_ERR_ARG, "loader: std must be positive");
  if (o->vesselness && !o->rated)
    return lm_fail(LM_ERR_ARG, "loader: vesselness is a channel of rated images");
  if (o->pseudo_mask && o->rated)
    return lm_fail(LM_ERR_ARG, "loader: rated images have no pseudo_mask");
  return LM_OK;
}

lm_status lm_loader_new(const lm_loader_options *options, lm_loader **out)
{
  *out = NULL;
  LM_TRY(check_options(options));
  lm_loader *l;
  LM_TRY(lm_calloc(&l, 1, sizeof *l));
  lm_status status = lm_samples_init(&l->samples, options);
  if (status != LM_OK) {
    free(l);
    return status;
  }
  pthread_mutex_init(&l->lock, NULL);
  pthread_cond_init(&l->work, NULL);
  pthread_cond_init(&l->done, NULL);
  *out = l;
  return LM_OK;
}

/* The arrays of a batch, with the numbers each has per sample; 0: not wanted. */
typedef struct part {
  float **data;
  size_t count;
} part;

enum { PARTS = 4 + 2 * LM_LOADER_REFERENCES };

static void parts_of(const lm_loader *l, lm_batch *b, part parts[PARTS])
{
  const lm_loader_options *o = &l->samples.options;
  size_t area = (size_t)(o->size * o->size);
  size_t planes = (size_t)(o->channels + o->vesselness) * area;
  part *p = parts;
  *p++ = (part){&b->image, planes};
  *p++ = (part){&b->mask, l->samples.has_masks ? area : 0};
  *p++ = (part){&b->vessel_mask, o->pseudo_mask ? area : 0};
  *p++ = (part){&b->scores, o->rated ? (size_t)o->metrics : 0};
  for (int k = 0; k < LM_LOADER_REFERENCES; k++) {
    *p++ = (part){&b->reference[k], o->rated ? planes : 0};
    *p++ = (part){&b->has[k], o->rated};
  }
}

static void free_slots(lm_loader *l)
{
  part parts[PARTS];
  for (int i = 0; i < l->depth; i++) {
    slot *s = &l->slots[i];
    parts_of(l, &s->batch, parts);
    for (int k = 0; k < PARTS; k++) free(*parts[k].data);
    free(s->batch.index);
    free(s->ok);
  }
  free(l->slots);
  l->slots = NULL;
  l->depth = 0;
}

void lm_loader_free(lm_loader *l)
{
  if (!l) return;
  pthread_mutex_lock(&l->lock);
  l->stop = true;
  pthread_cond_broadcast(&l->work);
  pthread_mutex_unlock(&l->lock);
  for (int i = 0; i < l->started; i++) pthread_join(l->threads[i], NULL);
  free(l->threads);
  free_slots(l);
  free(l->order);
  lm_scratch_free(&l->scratch);
  lm_samples_free(&l->samples);
  pthread_mutex_destroy(&l->lock);
  pthread_cond_destroy(&l->work);
  pthread_cond_destroy(&l->done);
  free(l);
}

lm_samples *lm_loader_samples(lm_loader *l)
{
  return &l->samples;
}

lm_status lm_loader_set_classes(lm_loader *l, int classes)
{
  lm_samples *s = &l->samples;
  if (s->count > 0 && classes != s->classes)
    return lm_fail(LM_ERR_ARG, "loader: sources whose masks hold %d and %d classes", s->classes,
                   classes);
  s->classes = classes;
  return LM_OK;
}

int lm_loader_classes(const lm_loader *l)
{
  return l->samples.classes;
}

lm_status lm_loader_add(lm_loader *l, const char *image, const char *mask)
{
  return lm_samples_add(&l->samples, image, mask);
}

lm_status lm_loader_add_rated(lm_loader *l, const char *image,
                              const char *const reference[LM_LOADER_REFERENCES],
                              const float *score)
{
  return lm_samples_add_rated(&l->samples, image, reference, score);
}

lm_status lm_loader_add_phantoms(lm_loader *l, int64_t first, int64_t count)
{
  return lm_samples_add_phantoms(&l->samples, first, count);
}

lm_status lm_loader_select(lm_loader *l, const int64_t *items, int64_t count)
{
  return lm_samples_select(&l->samples, items, count);
}

int64_t lm_loader_count(const lm_loader *l)
{
  return l->samples.count;
}

bool lm_loader_has_masks(const lm_loader *l)
{
  return l->samples.has_masks;
}

const lm_loader_options *lm_loader_settings(const lm_loader *l)
{
  return &l->samples.options;
}

lm_status lm_loader_whole(lm_loader *l, int64_t i, lm_decoded **out)
{
  return lm_samples_decode(&l->samples, i, out);
}

const char *lm_loader_name(lm_loader *l, int64_t i)
{
  return lm_samples_name(&l->samples, i);
}

lm_status lm_loader_read(lm_loader *l, int64_t i, lm_bytes *out)
{
  return lm_samples_read(&l->samples, i, out);
}

int64_t lm_loader_batches(const lm_loader *l)
{
  const lm_loader_options *o = &l->samples.options;
  int64_t n = l->samples.count;
  return o->drop_last ? n / o->batch : (n + o->batch - 1) / o->batch;
}

/* ---- packing ---- */

/* A plane resized into an image of 8 bits. */
static lm_status resized(const uint8_t *plane, int64_t height, int64_t width, lm_filter filter,
                         lm_image *out)
{
  lm_picture from = {plane, height, width, 1, width};
  LM_TRY(lm_calloc(&out->pixels, (size_t)(out->height * out->width), 1));
  return lm_image_resize(&from, NULL, filter, out->pixels, out->height, out->width);
}

lm_status lm_loader_pack(lm_loader *l, int64_t i, lm_packer *packer, const char *name,
                         bool with_mask, int64_t size, int quality)
{
  lm_decoded *d = NULL;
  LM_TRY(lm_samples_decode(&l->samples, i, &d));
  int64_t shorter = lm_min64(d->height, d->width), side = lm_min64(size, shorter);
  lm_image image = {.channels = 1, .depth = 8};
  image.height = (d->height * side + shorter / 2) / shorter;
  image.width = (d->width * side + shorter / 2) / shorter;
  lm_image mask = image;
  with_mask = with_mask && d->mask;
  lm_status status = resized(d->image, d->height, d->width, l->samples.options.filter, &image);
  if (status == LM_OK && with_mask)
    status = resized(d->mask, d->height, d->width, LM_FILTER_NEAREST, &mask);
  if (status == LM_OK)
    status = lm_packer_add(packer, name, &image, with_mask ? &mask : NULL, quality);
  lm_image_free(&image);
  lm_image_free(&mask);
  lm_decoded_free(d);
  return status;
}

/* ---- filling ---- */

/* One batch with the caller, one ready, and enough being filled to keep every worker busy. */
static lm_status make_slots(lm_loader *l)
{
  const lm_loader_options *o = &l->samples.options;
  int depth = o->threads > 0 ? 2 + (int)((o->threads + o->batch - 1) / o->batch) : 1;
  LM_TRY(lm_calloc(&l->slots, (size_t)depth, sizeof *l->slots));
  l->depth = depth;
  size_t n = (size_t)o->batch;
  part parts[PARTS];
  for (int i = 0; i < depth; i++) {
    slot *s = &l->slots[i];
    LM_TRY(lm_calloc(&s->ok, n, sizeof *s->ok));
    LM_TRY(lm_calloc(&s->batch.index, n, sizeof *s->batch.index));
    parts_of(l, &s->batch, parts);
    for (int k = 0; k < PARTS; k++)
      if (parts[k].count > 0)
        LM_TRY(lm_calloc(parts[k].data, n * parts[k].count, sizeof(float)));
  }
  return LM_OK;
}

static int64_t batch_length(const lm_loader *l, int64_t b)
{
  const lm_loader_options *o = &l->samples.options;
  return lm_min64(o->batch, l->samples.count - b * o->batch);
}

/* Make sample `task`; called without the lock. */
static lm_status run_task(lm_loader *l, int64_t task, lm_scratch *scratch)
{
  const lm_loader_options *o = &l->samples.options;
  int64_t b = task / o->batch, position = task % o->batch;
  lm_batch *to = &l->slots[b % l->depth].batch;
  lm_batch at = *to; /* its arrays, from this sample on */
  part parts[PARTS];
  parts_of(l, &at, parts);
  for (int k = 0; k < PARTS; k++)
    if (parts[k].count > 0) *parts[k].data += (size_t)position * parts[k].count;
  int64_t item = l->order[task];
  to->index[position] = item;
  lm_sample sample = {.image = at.image, .mask = at.mask, .vessel_mask = at.vessel_mask,
                      .scores = at.scores};
  for (int k = 0; k < LM_LOADER_REFERENCES; k++) {
    sample.reference[k] = at.reference[k];
    sample.has[k] = at.has[k];
  }
  return lm_samples_make(&l->samples, item, l->epoch, scratch, &sample);
}

/* A file that cannot be read or decoded may be left out; lack of memory or an option that no
 * image can satisfy is an error whatever `skip_broken` says. */
static void note_failure(lm_loader *l, slot *s, int64_t task, lm_status status)
{
  const lm_loader_options *o = &l->samples.options;
  lm_item *item = &l->samples.item[l->order[task]];
  int64_t position = task % o->batch;
  if (o->skip_broken && (status == LM_ERR_IO || status == LM_ERR_FORMAT)) {
    if (!item->reported) lm_log(LM_LOG_WARN, "left out: %s", lm_last_error()->message);
    item->reported = true;
    s->left_out++;
  } else if (s->status == LM_OK || position < s->failed) {
    s->status = status;
    s->failed = position;
    s->error = *lm_last_error();
  }
}

/* Book the result of a task; called with the lock, on the thread that ran it. */
static void finish_task(lm_loader *l, int64_t task, lm_status status)
{
  int64_t batch = l->samples.options.batch;
  slot *s = &l->slots[(task / batch) % l->depth];
  s->ok[task % batch] = status == LM_OK;
  if (status != LM_OK) note_failure(l, s, task, status);
  s->remaining--;
}

static bool task_ready(const lm_loader *l)
{
  return l->next_task < l->end_task &&
         l->next_task / l->samples.options.batch < l->consumed + l->depth;
}

static void *worker(void *argument)
{
  lm_loader *l = argument;
  lm_scratch scratch = {0};
  pthread_mutex_lock(&l->lock);
  while (!l->stop) {
    if (!task_ready(l)) {
      pthread_cond_wait(&l->work, &l->lock);
      continue;
    }
    int64_t task = l->next_task++;
    l->busy++;
    pthread_mutex_unlock(&l->lock);
    lm_status status = run_task(l, task, &scratch);
    pthread_mutex_lock(&l->lock);
    finish_task(l, task, status);
    l->busy--;
    pthread_cond_broadcast(&l->done);
  }
  pthread_mutex_unlock(&l->lock);
  lm_scratch_free(&scratch);
  return NULL;
}

/* Workers take no signals: Ctrl-C belongs to the thread that runs Lua. */
static lm_status start_workers(lm_loader *l)
{
  int n = l->samples.options.threads;
  if (l->started >= n) return LM_OK;
  if (!l->threads) LM_TRY(lm_calloc(&l->threads, (size_t)n, sizeof *l->threads));
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  while (l->started < n &&
         pthread_create(&l->threads[l->started], NULL, worker, l) == 0)
    l->started++;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (l->started == n) return LM_OK;
  return lm_fail(LM_ERR_IO, "loader: cannot start thread %d of %d", l->started + 1, n);
}

static void make_order(lm_loader *l)
{
  int64_t n = l->samples.count;
  for (int64_t i = 0; i < n; i++) l->order[i] = i;
  if (!l->samples.options.shuffle) return;
  lm_rng rng = lm_rng_make(l->samples.options.seed,
                           lm_mix(lm_hash_name("order"), (uint64_t)l->epoch));
  for (int64_t i = n - 1; i > 0; i--) {
    int64_t j = lm_rng_below(&rng, i + 1), t = l->order[i];
    l->order[i] = l->order[j];
    l->order[j] = t;
  }
}

static void reset_slot(lm_loader *l, int64_t b)
{
  slot *s = &l->slots[b % l->depth];
  s->status = LM_OK;
  s->left_out = 0;
  s->batch.n = batch_length(l, b);
  s->remaining = s->batch.n;
}

lm_status lm_loader_start(lm_loader *l, int64_t epoch, int64_t first)
{
  if (l->samples.count == 0) return lm_fail(LM_ERR_ARG, "loader: there are no images");
  int64_t batches = lm_loader_batches(l);
  if (batches == 0)
    return lm_fail(LM_ERR_ARG, "loader: %lld images are less than one batch of %lld",
                   (long long)l->samples.count, (long long)l->samples.options.batch);
  if (first < 0 || first > batches)
    return lm_fail(LM_ERR_INDEX, "loader: batch %lld of %lld", (long long)first + 1,
                   (long long)batches);
  pthread_mutex_lock(&l->lock);
  l->end_task = l->next_task; /* nothing new is handed out; wait for what is under way */
  while (l->busy > 0) pthread_cond_wait(&l->done, &l->lock);
  lm_status status = l->slots ? LM_OK : make_slots(l);
  if (status != LM_OK) free_slots(l);
  if (status == LM_OK && !l->order)
    status = lm_calloc(&l->order, (size_t)l->samples.count, sizeof *l->order);
  if (status == LM_OK) {
    l->epoch = epoch;
    l->batches = batches;
    make_order(l);
    l->consumed = first;
    l->delivered = false;
    for (int64_t b = first; b < lm_min64(batches, first + l->depth); b++) reset_slot(l, b);
    l->next_task = first * l->samples.options.batch;
    l->end_task = lm_min64(l->samples.count, batches * l->samples.options.batch);
    pthread_cond_broadcast(&l->work);
  }
  pthread_mutex_unlock(&l->lock);
  return status == LM_OK ? start_workers(l) : status;
}

/* Move the samples that were decoded together. */
static void compact(const lm_loader *l, slot *s)
{
  part parts[PARTS];
  parts_of(l, &s->batch, parts);
  int64_t n = 0;
  for (int64_t i = 0; i < s->batch.n; i++) {
    if (!s->ok[i]) continue;
    size_t from = (size_t)i, to = (size_t)n;
    if (i != n) {
      for (int k = 0; k < PARTS; k++) {
        size_t count = parts[k].count;
        float *data = *parts[k].data;
        if (count > 0) memcpy(data + to * count, data + from * count, count * sizeof *data);
      }
      s->batch.index[n] = s->batch.index[i];
    }
    n++;
  }
  s->batch.n = n;
}

static void fill_here(lm_loader *l, slot *s)
{
  while (s->remaining > 0) {
    int64_t task = l->next_task++;
    lm_status status = run_task(l, task, &l->scratch);
    finish_task(l, task, status);
  }
}

static slot *wait_for_batch(lm_loader *l)
{
  double start = lm_time();
  pthread_mutex_lock(&l->lock);
  slot *s = &l->slots[l->consumed % l->depth];
  if (l->samples.options.threads == 0) fill_here(l, s);
  while (s->remaining > 0) pthread_cond_wait(&l->done, &l->lock);
  pthread_mutex_unlock(&l->lock);
  l->waited += lm_time() - start;
  return s;
}

/* The caller is through with the batch it got last: its slot can be filled again. */
static void give_slot_back(lm_loader *l)
{
  if (!l->delivered) return;
  pthread_mutex_lock(&l->lock);
  l->delivered = false;
  if (l->consumed + l->depth < l->batches) reset_slot(l, l->consumed + l->depth);
  l->consumed++;
  pthread_cond_broadcast(&l->work);
  pthread_mutex_unlock(&l->lock);
}

lm_status lm_loader_next(lm_loader *l, lm_batch *out, bool *done)
{
  *done = false;
  for (;;) {
    if (l->slots) give_slot_back(l);
    if (!l->slots || l->consumed >= l->batches) {
      *done = true;
      return LM_OK;
    }
    slot *s = wait_for_batch(l);
    l->delivered = true;
    if (s->status != LM_OK) return lm_error_set(&s->error);
    if (s->left_out > 0) compact(l, s);
    if (s->batch.n == 0) continue; /* every image of the batch was broken and reported */
    *out = s->batch;
    return LM_OK;
  }
}

double lm_loader_wait_seconds(const lm_loader *l)
{
  return l->waited;
}
