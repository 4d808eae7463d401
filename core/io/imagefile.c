/* imagefile.c: pictures in files, on stb_image and stb_image_write (this is their one
 * implementation unit) and a small reader for PNM, which stb knows only in part.
 *
 * stb is forgiving: it returns grey for what a cut JPEG lacks and never looks at a PNG's
 * checksums. So the structure of each file is walked first (check_png, check_jpeg,
 * check_bmp), and stb's memory comes zeroed and bounded (stb_alloc). */
#include "io/imagefile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* The largest single allocation that decoding the current picture may ask for. */
static _Thread_local size_t stb_limit;

static void *stb_alloc(size_t size)
{
  return size <= stb_limit ? calloc(size > 0 ? size : 1, 1) : NULL;
}

static void *stb_realloc(void *old, size_t size)
{
  return size <= stb_limit ? realloc(old, size > 0 ? size : 1) : NULL;
}

/* stb declares functions of the formats that are left out here (gcc warns at the end of
 * the file). */
#pragma GCC diagnostic ignored "-Wunused-function"

/* No asserts in the decoder: a failing one would end the program. */
#define STB_IMAGE_IMPLEMENTATION
#define STBI_ONLY_PNG
#define STBI_ONLY_JPEG
#define STBI_ONLY_BMP
#define STBI_NO_STDIO
#define STBI_NO_LINEAR
#define STBI_NO_HDR
#define STBI_ASSERT(condition) ((void)0)
#define STBI_MALLOC(size) stb_alloc(size)
#define STBI_REALLOC(old, size) stb_realloc(old, size)
#define STBI_FREE(p) free(p)
#define STB_IMAGE_STATIC
#include <stb/stb_image.h>

#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STBI_WRITE_NO_STDIO
#define STB_IMAGE_WRITE_STATIC
#include <stb/stb_image_write.h>

#define FILE_LIMIT ((size_t)1 << 30)

static lm_status check_size(const char *name, int64_t height, int64_t width)
{
  if (height < 1 || width < 1) {
    return lm_fail(LM_ERR_FORMAT, "%s: picture of %lld x %lld pixels", name,
                   (long long)height, (long long)width);
  }
  if (height > LM_IMAGE_MAX_SIDE || width > LM_IMAGE_MAX_SIDE ||
      height * width > LM_IMAGE_MAX_PIXELS) {
    return lm_fail(LM_ERR_FORMAT,
                   "%s: %lld x %lld pixels are over the limit (side %d, pixels 2^28)",
                   name, (long long)height, (long long)width, LM_IMAGE_MAX_SIDE);
  }
  return LM_OK;
}

static uint32_t big32(const unsigned char *p)
{
  return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static uint32_t little(const unsigned char *p, int bytes)
{
  uint32_t value = 0;
  for (int i = bytes - 1; i >= 0; i--)
    value = value << 8 | p[i];
  return value;
}

/* The cyclic redundancy check of PNG (ISO 3309, polynomial 0xedb88320), a nibble at a
 * time. */
static uint32_t crc32_of(const unsigned char *p, size_t size)
{
  static const uint32_t table[16] = {0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac,
                                     0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
                                     0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
                                     0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
  uint32_t crc = 0xffffffffu;
  for (size_t i = 0; i < size; i++) {
    crc ^= p[i];
    crc = crc >> 4 ^ table[crc & 15];
    crc = crc >> 4 ^ table[crc & 15];
  }
  return ~crc;
}

/* Every chunk is whole and has the right checksum, up to the end chunk. */
static lm_status check_png(const unsigned char *p, size_t size, const char *name)
{
  for (size_t at = 8; size - at >= 12;) {
    uint32_t length = big32(p + at);
    if (length > size - at - 12) break;
    if (crc32_of(p + at + 4, length + 4u) != big32(p + at + 8 + length)) {
      return lm_fail(LM_ERR_FORMAT, "%s: damaged PNG (wrong checksum at byte %zu)", name,
                     at);
    }
    if (memcmp(p + at + 4, "IEND", 4) == 0) return LM_OK;
    at += 12 + (size_t)length;
  }
  return lm_fail(LM_ERR_FORMAT, "%s: PNG ends before its end chunk", name);
}

/* A segment of Huffman tables: stb 2.27 writes past its table when the 16 counts of codes
 * add up to more than 256. */
static bool huffman_fits(const unsigned char *p, size_t size)
{
  while (size >= 17) {
    size_t codes = 0;
    for (int i = 1; i <= 16; i++)
      codes += p[i];
    if (codes > 256 || size - 17 < codes) return false;
    p += 17 + codes;
    size -= 17 + codes;
  }
  return size == 0;
}

/* The markers lead from the first to an end-of-image marker. Stricter than stb wherever
 * the two could disagree on where a segment starts. */
static lm_status check_jpeg(const unsigned char *p, size_t size, const char *name)
{
  size_t at = 2;
  while (at + 1 < size && p[at] == 0xff) {
    int marker = p[at + 1];
    if (marker == 0xff) { /* fill byte */
      at++;
      continue;
    }
    at += 2;
    if (marker == 0xd9) return LM_OK;
    if (marker < 0xc0 || (marker >= 0xd0 && marker <= 0xd8) || size - at < 2) break;
    size_t length = (size_t)p[at] << 8 | p[at + 1];
    if (length < 2 || length > size - at) break;
    if (marker == 0xc4 && !huffman_fits(p + at + 2, length - 2)) break;
    at += length;
    if (marker != 0xda) continue;
    /* Coded data: up to an 0xff that neither is stuffed (00) nor restarts (d0..d7). */
    while (at + 1 < size && (p[at] != 0xff || p[at + 1] == 0 ||
                             (p[at + 1] >= 0xd0 && p[at + 1] <= 0xd7))) {
      at++;
    }
  }
  return lm_fail(LM_ERR_FORMAT, "%s: JPEG is damaged or ends before its end marker",
                 name);
}

/* All rows of an uncompressed bitmap are there. */
static lm_status check_bmp(const unsigned char *p, size_t size, const char *name)
{
  if (size < 30) return lm_fail(LM_ERR_FORMAT, "%s: BMP ends within its header", name);
  bool old = little(p + 14, 4) == 12;
  int64_t width = old ? (int64_t)little(p + 18, 2) : (int32_t)little(p + 18, 4);
  int64_t height = old ? (int64_t)little(p + 20, 2) : (int32_t)little(p + 22, 4);
  int64_t bits = little(p + (old ? 24 : 28), 2);
  if (height < 0) height = -height;
  LM_TRY(check_size(name, height, width));
  int64_t row = (width * bits + 31) / 32 * 4;
  if ((int64_t)little(p + 10, 4) + row * height > (int64_t)size) {
    return lm_fail(LM_ERR_FORMAT, "%s: BMP ends before its last row", name);
  }
  return LM_OK;
}

static lm_status new_image(lm_image *out, int64_t height, int64_t width, int channels,
                           int depth)
{
  *out = (lm_image){height, width, channels, depth, NULL};
  return lm_calloc(&out->pixels, (size_t)(height * width * channels), (size_t)depth / 8);
}

/* grey: of a JPEG only the luma, which saves its colours' upsampling and conversion. */
static lm_status decode_stb(lm_image *out, const unsigned char *p, size_t size,
                            const char *name, bool grey)
{
  int width = 0, height = 0, found = 0;
  stb_limit = 1 << 20;
  if (!stbi_info_from_memory(p, (int)size, &width, &height, &found)) {
    return lm_fail(LM_ERR_FORMAT, "%s: not a readable picture (%s)", name,
                   stbi_failure_reason());
  }
  LM_TRY(check_size(name, height, width));
  /* A block of 8 x 8 pixels takes a bit of JPEG; PNG deflates at most 1032 to 1, 8 to a
   * byte. Else a few bytes could ask for a gigabyte and seconds of work. */
  int64_t pixels_per_byte = p[0] == 0xff ? 64 * 8 : 1032 * 8;
  if ((int64_t)width * height / pixels_per_byte > (int64_t)size) {
    return lm_fail(LM_ERR_FORMAT, "%s: %zu bytes cannot hold %d x %d pixels", name, size,
                   height, width);
  }
  int channels = found >= 3 && !(grey && p[0] == 0xff) ? 3 : 1;
  bool deep = stbi_is_16_bit_from_memory(p, (int)size);
  /* Blocks of 32 x 32, four channels of 16 bits, doubled twice while inflating. */
  stb_limit = 2 * size + 32 * ((size_t)width + 64) * ((size_t)height + 64);
  void *pixels = NULL;
  if (deep) {
    pixels = stbi_load_16_from_memory(p, (int)size, &width, &height, &found, channels);
  } else {
    pixels = stbi_load_from_memory(p, (int)size, &width, &height, &found, channels);
  }
  if (!pixels) {
    return lm_fail(LM_ERR_FORMAT, "%s: damaged picture (%s)", name,
                   stbi_failure_reason());
  }
  *out = (lm_image){height, width, channels, deep ? 16 : 8, pixels};
  return LM_OK;
}

/* One decimal number of a PNM header or plain raster; leading blanks and comments are
 * skipped. -1 when there is none or it is over 9999999. */
static int pnm_number(const unsigned char *p, size_t size, size_t *at)
{
  size_t i = *at;
  while (i < size && (p[i] == '#' || strchr(" \t\r\n\v\f", p[i]))) {
    if (p[i] == '\0') return -1; /* strchr also finds the end of its string */
    if (p[i] == '#') {
      while (i < size && p[i] != '\n' && p[i] != '\r')
        i++;
    } else {
      i++;
    }
  }
  int value = -1;
  for (; i < size && p[i] >= '0' && p[i] <= '9'; i++) {
    value = (value < 0 ? 0 : value) * 10 + (p[i] - '0');
    if (value > 9999999) return -1;
  }
  *at = i;
  return value;
}

/* Read `count` samples of 0..maxval and scale them to the full range. */
static lm_status pnm_raster(lm_image *out, const unsigned char *p, size_t size, size_t at,
                            int maxval, bool plain, const char *name)
{
  int64_t count = out->height * out->width * out->channels;
  int full = out->depth == 8 ? 255 : 65535;
  size_t bytes = (size_t)out->depth / 8;
  if (!plain && size - at < (size_t)count * bytes) {
    return lm_fail(LM_ERR_FORMAT, "%s: PNM has %zu bytes of samples, needs %lld", name,
                   size - at, (long long)count * (long long)bytes);
  }
  for (int64_t i = 0; i < count; i++) {
    int64_t value;
    if (plain) {
      value = pnm_number(p, size, &at);
    } else {
      value = bytes == 1 ? p[at] : p[at] << 8 | p[at + 1];
      at += bytes;
    }
    if (value < 0 || value > maxval) {
      return lm_fail(LM_ERR_FORMAT,
                     "%s: PNM sample %lld is missing or over the maximum %d", name,
                     (long long)i, maxval);
    }
    value = (value * full + maxval / 2) / maxval;
    if (bytes == 1) {
      ((uint8_t *)out->pixels)[i] = (uint8_t)value;
    } else {
      ((uint16_t *)out->pixels)[i] = (uint16_t)value;
    }
  }
  return LM_OK;
}

static lm_status decode_pnm(lm_image *out, const unsigned char *p, size_t size,
                            const char *name)
{
  size_t at = 2;
  bool plain = p[1] == '2' || p[1] == '3';
  int channels = p[1] == '3' || p[1] == '6' ? 3 : 1;
  int width = pnm_number(p, size, &at);
  int height = pnm_number(p, size, &at);
  int maxval = pnm_number(p, size, &at);
  if (width < 0 || height < 0 || maxval < 1 || maxval > 65535 || at >= size ||
      !memchr(" \t\r\n", p[at], 4)) {
    return lm_fail(LM_ERR_FORMAT, "%s: bad PNM header", name);
  }
  LM_TRY(check_size(name, height, width));
  at++;
  /* Before any memory is asked for: a sample takes at least a byte. */
  int64_t samples = (int64_t)height * width * channels;
  if ((int64_t)(size - at) < samples) {
    return lm_fail(LM_ERR_FORMAT, "%s: PNM ends before its last sample", name);
  }
  LM_TRY(new_image(out, height, width, channels, maxval > 255 ? 16 : 8));
  return pnm_raster(out, p, size, at, maxval, plain, name);
}

/* Colour to grey in place: the luma weights .299 .587 .114 in 16-bit fixed point. */
static void to_grey(lm_image *image)
{
  int64_t count = image->height * image->width;
  if (image->depth == 8) {
    uint8_t *v = image->pixels;
    for (int64_t i = 0; i < count; i++) {
      uint32_t r = v[3 * i], g = v[3 * i + 1], b = v[3 * i + 2];
      v[i] = (uint8_t)((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16);
    }
  } else {
    uint16_t *v = image->pixels;
    for (int64_t i = 0; i < count; i++) {
      uint64_t r = v[3 * i], g = v[3 * i + 1], b = v[3 * i + 2];
      v[i] = (uint16_t)((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16);
    }
  }
  image->channels = 1;
}

lm_status lm_image_decode(lm_image *out, const void *bytes, size_t size, const char *name,
                          bool grey)
{
  const unsigned char *p = bytes;
  *out = (lm_image){0};
  if (size < 8) return lm_fail(LM_ERR_FORMAT, "%s: %zu bytes are no picture", name, size);
  if (size > FILE_LIMIT) {
    return lm_fail(LM_ERR_FORMAT, "%s: a picture file of more than 1 GiB", name);
  }
  lm_status status;
  if (memcmp(p, "\x89PNG\r\n\x1a\n", 8) == 0) {
    status = check_png(p, size, name);
    if (status == LM_OK) status = decode_stb(out, p, size, name, grey);
  } else if (p[0] == 0xff && p[1] == 0xd8) {
    status = check_jpeg(p, size, name);
    if (status == LM_OK) status = decode_stb(out, p, size, name, grey);
  } else if (p[0] == 'B' && p[1] == 'M') {
    status = check_bmp(p, size, name);
    if (status == LM_OK) status = decode_stb(out, p, size, name, grey);
  } else if (p[0] == 'P' && (p[1] == '2' || p[1] == '3' || p[1] == '5' || p[1] == '6')) {
    status = decode_pnm(out, p, size, name);
  } else {
    return lm_fail(LM_ERR_FORMAT, "%s: neither PNG, JPEG, BMP, PGM nor PPM", name);
  }
  if (status != LM_OK) {
    lm_image_free(out);
    return status;
  }
  if (grey && out->channels == 3) to_grey(out);
  return LM_OK;
}

lm_status lm_image_load(lm_image *out, const char *path, bool grey)
{
  *out = (lm_image){0};
  lm_bytes bytes;
  LM_TRY(lm_file_read(&bytes, path, FILE_LIMIT));
  lm_status status = lm_image_decode(out, bytes.data, bytes.size, path, grey);
  lm_bytes_free(&bytes);
  return status;
}

void lm_image_free(lm_image *image)
{
  free(image->pixels);
  *image = (lm_image){0};
}

void lm_image_reduce(lm_image *image)
{
  if (image->depth != 16) return;
  const uint16_t *from = image->pixels;
  uint8_t *to = image->pixels;
  int64_t count = image->height * image->width * image->channels;
  for (int64_t i = 0; i < count; i++)
    to[i] = (uint8_t)((from[i] + 128) / 257);
  image->depth = 8;
}

void lm_image_to_f32(const lm_image *image, float *out)
{
  int64_t count = image->height * image->width * image->channels;
  if (image->depth == 8) {
    const uint8_t *from = image->pixels;
    for (int64_t i = 0; i < count; i++)
      out[i] = (float)from[i] / 255.0f;
  } else {
    const uint16_t *from = image->pixels;
    for (int64_t i = 0; i < count; i++)
      out[i] = (float)from[i] / 65535.0f;
  }
}

typedef struct sink {
  lm_bytes *out;
  lm_status status;
} sink;

static void sink_write(void *context, void *data, int size)
{
  sink *s = context;
  if (s->status == LM_OK) s->status = lm_bytes_append(s->out, data, (size_t)size);
}

static lm_status encode_pnm(lm_bytes *out, const lm_image *image)
{
  char header[64];
  int n = snprintf(header, sizeof header, "P%c\n%lld %lld\n255\n",
                   image->channels == 3 ? '6' : '5', (long long)image->width,
                   (long long)image->height);
  LM_TRY(lm_bytes_append(out, header, (size_t)n));
  return lm_bytes_append(out, image->pixels,
                         (size_t)(image->height * image->width * image->channels));
}

lm_status lm_image_encode(lm_bytes *out, const lm_image *image, const char *path,
                          int quality)
{
  if (image->depth != 8) return lm_fail(LM_ERR_ARG, "%s: only 8-bit pictures", path);
  if (quality < 1 || quality > 100) {
    return lm_fail(LM_ERR_ARG, "%s: quality %d is not in 1..100", path, quality);
  }
  LM_TRY(check_size(path, image->height, image->width));
  int width = (int)image->width, height = (int)image->height, channels = image->channels;
  const char *dot = strrchr(path, '.');
  sink s = {out, LM_OK};
  int done = 1;
  if (dot && strcasecmp(dot, ".png") == 0) {
    done = stbi_write_png_to_func(sink_write, &s, width, height, channels, image->pixels,
                                  width * channels);
  } else if (dot && (strcasecmp(dot, ".jpg") == 0 || strcasecmp(dot, ".jpeg") == 0)) {
    done = stbi_write_jpg_to_func(sink_write, &s, width, height, channels, image->pixels,
                                  quality);
  } else if (dot && strcasecmp(dot, channels == 3 ? ".ppm" : ".pgm") == 0) {
    s.status = encode_pnm(out, image);
  } else {
    return lm_fail(LM_ERR_ARG, "%s: a %s picture is written as .png, .jpg or %s", path,
                   channels == 3 ? "colour" : "grey", channels == 3 ? ".ppm" : ".pgm");
  }
  if (s.status == LM_OK && !done) {
    return lm_fail(LM_ERR_MEMORY, "%s: out of memory while encoding", path);
  }
  return s.status;
}

lm_status lm_image_save(const lm_image *image, const char *path, int quality)
{
  lm_bytes bytes = {0};
  lm_status status = lm_image_encode(&bytes, image, path, quality);
  if (status == LM_OK) status = lm_file_write(path, bytes.data, bytes.size);
  lm_bytes_free(&bytes);
  return status;
}
