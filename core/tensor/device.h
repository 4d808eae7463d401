/* device.h: what a device is. Tensors, the tape and the dispatcher see devices only through
 * this table; core/cpu and core/cuda each fill one in. */
#ifndef LUMEN_DEVICE_H
#define LUMEN_DEVICE_H

#include "base/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Which column of an operation's kernels a device runs. */
typedef enum lm_device_kind { LM_CPU, LM_CUDA, LM_SHIM, LM_DEVICE_KINDS } lm_device_kind;

typedef struct lm_device lm_device;
struct lm_device {
  const char *name; /* "cpu", "cuda:0", "shim" */
  lm_device_kind kind;

  /* Uninitialised memory, aligned to 64 bytes. Fails with LM_ERR_MEMORY; the wrapper
   * lm_device_alloc has already checked the hard limit. */
  lm_status (*alloc)(lm_device *d, size_t bytes, void **out);
  void (*free)(lm_device *d, void *data, size_t bytes);
  lm_status (*copy_in)(lm_device *d, void *to, const void *host_from, size_t bytes);
  lm_status (*copy_out)(lm_device *d, void *host_to, const void *from, size_t bytes);
  lm_status (*sync)(lm_device *d);
  size_t (*empty_cache)(lm_device *d); /* give cached blocks back; returns bytes freed */

  /* Byte counters, kept by lm_device_alloc and lm_device_free. */
  size_t live;   /* in tensors now */
  size_t peak;   /* highest `live` since lm_device_reset_peak */
  size_t cached; /* kept by the allocator for reuse */
  size_t limit;  /* hard limit for live + cached; 0: none */

  /* A word that kernels of this device can write: see lm_device_alarm. NULL on the CPU. */
  volatile uint32_t *alarm;
};

/* The devices there are. "cpu" is always there; "cuda:1", "cuda" (= cuda:0) when built and
 * present; "shim" runs the kernels of the cards on the CPU, slowly, to test them. Errors: LM_ERR_DEVICE naming what there is. */
lm_status lm_device_get(const char *name, lm_device **out);
lm_device *lm_device_cpu(void);

lm_status lm_device_alloc(lm_device *d, size_t bytes, void **out);
void lm_device_free(lm_device *d, void *data, size_t bytes);
void lm_device_reset_peak(lm_device *d);
/* Kernels cannot report errors, and waiting for each would cost too much. A kernel that meets
 * an index out of range does nothing there and writes the number of its operation into
 * *d->alarm; whoever waits for the device next (lm_device_heed) gets the error. */
uint32_t lm_device_alarm(const char *op);
lm_status lm_device_heed(lm_device *d);
size_t lm_devices_live(void); /* bytes in tensors now, on all devices */

/* Called when an allocation would pass the hard limit, before the second and last try; the
 * binding collects Lua's garbage here. */
extern void (*lm_memory_pressure)(lm_device *d);

#ifdef __cplusplus
}
#endif

#endif
