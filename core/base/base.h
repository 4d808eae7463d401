/* base.h: what every file of the core stands on: the status that each call returns, the
 * error record behind it, checked allocation, logging, time.
 *
 * Rule: no function of the core exits, aborts or jumps. It returns a status; when that is
 * not LM_OK, the thread's error record says what went wrong. core/bind turns the record into
 * a Lua error in one place. */
#ifndef LUMEN_BASE_H
#define LUMEN_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __CUDACC__
#define LM_HOSTDEV __host__ __device__ /* .cu files may call it in kernels too */
#else
#define LM_HOSTDEV
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum lm_status {
  LM_OK = 0,
  LM_ERR_SHAPE,       /* shapes do not fit each other */
  LM_ERR_DTYPE,       /* wrong or mixed element types */
  LM_ERR_DEVICE,      /* wrong or mixed devices, device not there */
  LM_ERR_INDEX,       /* index or dimension out of range */
  LM_ERR_ARG,         /* any other bad argument */
  LM_ERR_MEMORY,      /* out of memory, or over the hard limit */
  LM_ERR_IO,          /* the operating system said no (file, lock, thread) */
  LM_ERR_FORMAT,      /* a file's content is not what it claims to be */
  LM_ERR_UNSUPPORTED, /* known, but not available here */
  LM_ERR_INTERRUPT,   /* the user asked to stop */
  LM_ERR_INTERNAL     /* a bug in lumen */
} lm_status;

typedef struct lm_error {
  lm_status kind;
  char message[1600];
  char hint[400]; /* "" when no cure is known */
} lm_error;

/* Fill this thread's error record and return `kind`:  return lm_fail(LM_ERR_SHAPE, "...", ...); */
lm_status lm_fail(lm_status kind, const char *format, ...)
    __attribute__((format(printf, 2, 3), cold));
/* Add a hint to the record that lm_fail has just filled. Returns the record's kind. */
lm_status lm_hint(const char *format, ...) __attribute__((format(printf, 1, 2), cold));
/* Put "prefix: " before the record's message (a path, an operation). Returns its kind. */
lm_status lm_error_prefix(const char *format, ...) __attribute__((format(printf, 1, 2), cold));
const lm_error *lm_last_error(void);
/* Set the record as a whole: for carrying an error from a worker thread to its caller. */
lm_status lm_error_set(const lm_error *error);

#define LM_TRY(call)                      \
  do {                                    \
    lm_status lm_try_status_ = (call);    \
    if (lm_try_status_ != LM_OK) return lm_try_status_; \
  } while (0)

/* As LM_TRY, for functions with something to free: sets `status` and goes to `label`. */
#define LM_TRY_GOTO(status, label, call)  \
  do {                                    \
    (status) = (call);                    \
    if ((status) != LM_OK) goto label;    \
  } while (0)

/* Plain host memory for the core's own structures (tensor data comes from a device).
 * *out is NULL on failure; count * size is checked for overflow; zeroed. */
lm_status lm_calloc(void *out_pointer, size_t count, size_t size);

/* Seconds on a monotonic clock. */
double lm_time(void);

/* Warnings and notes that are no errors. The sink defaults to stderr. */
typedef enum lm_level { LM_LOG_INFO, LM_LOG_WARN } lm_level;
void lm_log(lm_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

static inline int64_t lm_min64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t lm_max64(int64_t a, int64_t b) { return a > b ? a : b; }

#ifdef __cplusplus
}
#endif

#endif
