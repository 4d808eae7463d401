/* base.c: the error record (one per thread), logging, checked allocation, time. */
#include "base/base.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static _Thread_local lm_error last_error;

lm_status lm_fail(lm_status kind, const char *format, ...)
{
  va_list args;
  va_start(args, format);
  last_error.kind = kind;
  last_error.hint[0] = '\0';
  vsnprintf(last_error.message, sizeof last_error.message, format, args);
  va_end(args);
  return kind;
}

lm_status lm_hint(const char *format, ...)
{
  va_list args;
  va_start(args, format);
  vsnprintf(last_error.hint, sizeof last_error.hint, format, args);
  va_end(args);
  return last_error.kind;
}

lm_status lm_error_prefix(const char *format, ...)
{
  char message[sizeof last_error.message];
  va_list args;
  va_start(args, format);
  int n = vsnprintf(message, sizeof message - 2, format, args);
  va_end(args);
  size_t used = n < 0 ? 0 : strlen(message);
  memcpy(message + used, ": ", 2);
  used += 2;
  size_t room = sizeof message - 1 - used, length = strlen(last_error.message);
  if (length > room) length = room;
  memcpy(message + used, last_error.message, length);
  message[used + length] = '\0';
  memcpy(last_error.message, message, used + length + 1);
  return last_error.kind;
}

const lm_error *lm_last_error(void)
{
  return &last_error;
}

lm_status lm_error_set(const lm_error *error)
{
  last_error = *error;
  return error->kind;
}

lm_status lm_calloc(void *out_pointer, size_t count, size_t size)
{
  void *p = calloc(count > 0 ? count : 1, size > 0 ? size : 1); /* calloc checks the product */
  memcpy(out_pointer, &p, sizeof p);
  if (p) return LM_OK;
  return lm_fail(LM_ERR_MEMORY, "out of memory: %zu times %zu bytes for internal data", count, size);
}

double lm_time(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void lm_log(lm_level level, const char *format, ...)
{
  va_list args;
  va_start(args, format);
  fputs(level == LM_LOG_WARN ? "lumen: warning: " : "lumen: ", stderr);
  vfprintf(stderr, format, args);
  fputc('\n', stderr);
  va_end(args);
}
