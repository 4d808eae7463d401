/* tensorfile.c: the element types of files, and the copy of a stored tensor into lumen's.
 */
#include "io/tensorfile.h"

#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files are little-endian");

const lm_element_info lm_elements[LM_EL_COUNT] = {
    [LM_EL_F64] = {8, LM_F64, "F64", "f8", "float64", "DoubleStorage"},
    [LM_EL_F32] = {4, LM_F32, "F32", "f4", "float32", "FloatStorage"},
    [LM_EL_F16] = {2, LM_F32, "F16", "f2", "float16", "HalfStorage"},
    [LM_EL_BF16] = {2, LM_BF16, "BF16", NULL, "bfloat16", "BFloat16Storage"},
    [LM_EL_I64] = {8, LM_I64, "I64", "i8", "int64", "LongStorage"},
    [LM_EL_I32] = {4, LM_I32, "I32", "i4", "int32", "IntStorage"},
    [LM_EL_I16] = {2, LM_I32, "I16", "i2", "int16", "ShortStorage"},
    [LM_EL_I8] = {1, LM_I32, "I8", "i1", "int8", "CharStorage"},
    [LM_EL_U32] = {4, LM_I64, "U32", "u4", "uint32", NULL},
    [LM_EL_U16] = {2, LM_I32, "U16", "u2", "uint16", NULL},
    [LM_EL_U8] = {1, LM_U8, "U8", "u1", "uint8", "ByteStorage"},
    [LM_EL_BOOL] = {1, LM_U8, "BOOL", "b1", "bool", "BoolStorage"},
};

lm_status lm_stored_shape(lm_stored *t, int64_t ndim, const int64_t *shape,
                          const char *name)
{
  if (ndim < 0 || ndim > LM_MAX_DIMS) {
    return lm_fail(LM_ERR_FORMAT, "%s: %lld dimensions; lumen has at most %d", name,
                   (long long)ndim, LM_MAX_DIMS);
  }
  t->ndim = (int)ndim;
  t->count = 1;
  int64_t extent = 8; /* bytes of the widest type, zero sizes taken as one */
  for (int d = t->ndim - 1; d >= 0; d--) {
    if (shape[d] < 0)
      return lm_fail(LM_ERR_FORMAT, "%s: negative size in its shape", name);
    t->shape[d] = shape[d];
    t->stride[d] = extent / 8;
    if (__builtin_mul_overflow(extent, lm_max64(shape[d], 1), &extent)) {
      return lm_fail(LM_ERR_FORMAT, "%s: its shape has too many elements", name);
    }
    t->count *= shape[d]; /* bounded by extent */
  }
  return LM_OK;
}

static float f16_to_f32(uint16_t h)
{
  uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, bits;
  uint32_t fraction = h & 0x3ff;
  if (exponent == 0) { /* zero or subnormal: fraction * 2^-24 is exact */
    float value = (float)fraction * 0x1p-24f;
    return sign ? -value : value;
  }
  if (exponent == 31) {
    bits = sign | 0x7f800000u | fraction << 13;
  } else {
    bits = sign | (exponent + 112) << 23 | fraction << 13;
  }
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

/* One element, widened. memcpy, because neither side need be aligned. */
static void convert(lm_element element, const char *from, char *to)
{
  int32_t wide = 0;
  int64_t wider = 0;
  float real = 0;
  uint16_t half;
  int16_t short_value;
  uint32_t word;
  switch (element) {
    case LM_EL_F16:
      memcpy(&half, from, sizeof half);
      real = f16_to_f32(half);
      memcpy(to, &real, sizeof real);
      break;
    case LM_EL_I16:
      memcpy(&short_value, from, sizeof short_value);
      wide = short_value;
      memcpy(to, &wide, sizeof wide);
      break;
    case LM_EL_I8:
      wide = *(const signed char *)from;
      memcpy(to, &wide, sizeof wide);
      break;
    case LM_EL_U16:
      memcpy(&half, from, sizeof half);
      wide = half;
      memcpy(to, &wide, sizeof wide);
      break;
    case LM_EL_U32:
      memcpy(&word, from, sizeof word);
      wider = word;
      memcpy(to, &wider, sizeof wider);
      break;
    default: /* the same type on both sides */
      memcpy(to, from, (size_t)lm_elements[element].size);
      break;
  }
}

static bool is_contiguous(const lm_stored *t)
{
  int64_t expected = 1;
  for (int d = t->ndim - 1; d >= 0; d--) {
    if (t->shape[d] != 1 && t->stride[d] != expected) return false;
    expected *= t->shape[d];
  }
  return true;
}

void lm_stored_copy(const lm_stored *t, void *out)
{
  if (t->count == 0) return;
  int64_t size = lm_elements[t->element].size;
  int64_t step = lm_dtype_size(lm_stored_dtype(t));
  const char *from = t->data;
  char *to = out;
  if (size == step && is_contiguous(t)) {
    memcpy(to, from, (size_t)(t->count * size));
    return;
  }
  int last = t->ndim - 1;
  int64_t inner = last >= 0 ? t->shape[last] : 1;
  int64_t inner_step = last >= 0 ? t->stride[last] * size : 0;
  int64_t index[LM_MAX_DIMS] = {0};
  for (int64_t done = 0; done < t->count; done += inner) {
    const char *row = from;
    for (int d = 0; d < last; d++)
      row += index[d] * t->stride[d] * size;
    for (int64_t i = 0; i < inner; i++, to += step) {
      convert(t->element, row + i * inner_step, to);
    }
    for (int d = last - 1; d >= 0; d--) {
      if (++index[d] < t->shape[d]) break;
      index[d] = 0;
    }
  }
}
