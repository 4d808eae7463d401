/* dtype.h: the element types, their sizes and names, and the bf16 conversions. */
#ifndef LUMEN_DTYPE_H
#define LUMEN_DTYPE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/base.h"

typedef enum lm_dtype { LM_F32, LM_F64, LM_BF16, LM_I32, LM_I64, LM_U8, LM_DTYPE_COUNT } lm_dtype;

typedef uint16_t lm_bf16; /* the upper half of an IEEE float */

static inline int64_t lm_dtype_size(lm_dtype d)
{
  static const int64_t size[LM_DTYPE_COUNT] = {4, 8, 2, 4, 8, 1};
  return size[d];
}

static inline const char *lm_dtype_name(lm_dtype d)
{
  static const char *const name[LM_DTYPE_COUNT] = {"f32", "f64", "bf16", "i32", "i64", "u8"};
  return name[d];
}

/* LM_DTYPE_COUNT when there is no such name. */
static inline lm_dtype lm_dtype_parse(const char *name)
{
  int d = 0;
  while (d < LM_DTYPE_COUNT && strcmp(name, lm_dtype_name((lm_dtype)d)) != 0) d++;
  return (lm_dtype)d;
}

static inline bool lm_dtype_is_float(lm_dtype d)
{
  return d == LM_F32 || d == LM_F64 || d == LM_BF16;
}

LM_HOSTDEV static inline float lm_bf16_to_f32(lm_bf16 h)
{
  uint32_t bits = (uint32_t)h << 16;
  float f;
  memcpy(&f, &bits, sizeof f);
  return f;
}

/* Round to nearest even; NaN stays NaN. */
LM_HOSTDEV static inline lm_bf16 lm_f32_to_bf16(float f)
{
  uint32_t bits;
  memcpy(&bits, &f, sizeof bits);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return (lm_bf16)((bits >> 16) | 0x40u);
  bits += 0x7fffu + ((bits >> 16) & 1u);
  return (lm_bf16)(bits >> 16);
}

#endif
