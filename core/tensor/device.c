/* device.c: the accounting around the allocators of devices: counters, the hard
 * limit, and the second try after memory pressure. */
#include "tensor/device.h"

void (*lm_memory_pressure)(lm_device *d) = NULL;
static size_t all_live;

static const double GIB = 1024.0 * 1024.0 * 1024.0;

static lm_status try_alloc(lm_device *d, size_t bytes, void **out)
{
  if (d->limit > 0 && d->live + d->cached + bytes > d->limit && d->cached > 0)
    d->empty_cache(d);
  if (d->limit > 0 && (bytes > d->limit || d->live > d->limit - bytes))
    return lm_fail(LM_ERR_MEMORY, "over the limit");
  return d->alloc(d, bytes, out);
}

lm_status lm_device_alloc(lm_device *d, size_t bytes, void **out)
{
  *out = NULL;
  lm_status status = try_alloc(d, bytes, out);
  if (status == LM_ERR_MEMORY) {
    if (lm_memory_pressure) lm_memory_pressure(d);
    d->empty_cache(d);
    status = try_alloc(d, bytes, out);
  }
  if (status == LM_ERR_MEMORY) {
    lm_fail(LM_ERR_MEMORY,
            "out of memory on %s: asked for %.3f GiB; in tensors %.3f, cached %.3f, peak %.3f, "
            "limit %.3f GiB",
            d->name, (double)bytes / GIB, (double)d->live / GIB, (double)d->cached / GIB,
            (double)d->peak / GIB, (double)d->limit / GIB);
    return lm_hint("a smaller batch with accumulate=, or lumen.scope around what is not kept");
  }
  if (status != LM_OK) return status;
  d->live += bytes;
  all_live += bytes;
  if (d->live > d->peak) d->peak = d->live;
  return LM_OK;
}

void lm_device_free(lm_device *d, void *data, size_t bytes)
{
  if (!data) return;
  d->live -= bytes;
  all_live -= bytes;
  d->free(d, data, bytes);
}

#define ALARMS 64
static const char *alarms[ALARMS]; /* operations, by number; 0 is none */

uint32_t lm_device_alarm(const char *op)
{
  uint32_t k = 1;
  while (k < ALARMS - 1 && alarms[k] && alarms[k] != op) k++;
  alarms[k] = op;
  return k;
}

lm_status lm_device_heed(lm_device *d)
{
  uint32_t k = d->alarm ? *d->alarm : 0;
  if (k == 0) return LM_OK;
  *d->alarm = 0;
  return lm_fail(LM_ERR_INDEX, "%s: the index holds a position outside its range (found on %s, "
                 "perhaps some operations ago)", alarms[k % ALARMS], d->name);
}

size_t lm_devices_live(void)
{
  return all_live;
}

void lm_device_reset_peak(lm_device *d)
{
  d->peak = d->live;
}
