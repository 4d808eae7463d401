/* histogram.c: counts of a tensor's values: lumen.histogram. Plain loops over host memory in
 * double precision: training logs call it for every parameter. */
#include <math.h>
#include <stdlib.h>

#include "bind/bind.h"

#define MOST_BINS 100000

typedef struct moments {
  double min, max, sum, squares;
  int64_t count; /* finite values */
} moments;

static double value_at(const lm_tensor *t, const void *data, int64_t i)
{
  return t->dtype == LM_F32 ? (double)((const float *)data)[i] : ((const double *)data)[i];
}

static moments measure(const lm_tensor *t)
{
  moments m = {.min = INFINITY, .max = -INFINITY};
  const void *data = lm_data(t);
  for (int64_t i = 0, n = lm_numel(t); i < n; i++) {
    double v = value_at(t, data, i);
    if (!isfinite(v)) continue;
    if (v < m.min) m.min = v;
    if (v > m.max) m.max = v;
    m.sum += v;
    m.squares += v * v;
    m.count++;
  }
  if (m.count == 0) m.min = m.max = 0;
  return m;
}

/* Counts into count[bins]; returns how many values lay outside or were not finite. */
static int64_t count_values(const lm_tensor *t, double low, double high, int64_t bins,
                            int64_t *count)
{
  const void *data = lm_data(t);
  int64_t outside = 0;
  double scale = (double)bins / (high - low);
  for (int64_t i = 0, n = lm_numel(t); i < n; i++) {
    double v = value_at(t, data, i);
    if (!(v >= low && v <= high)) {
      outside++;
      continue;
    }
    double place = (v - low) * scale; /* NaN when the range is beyond double's */
    count[place < (double)bins ? (int64_t)place : bins - 1]++;
  }
  return outside;
}

static void push_result(lua_State *L, const moments *m, double low, double high, int64_t bins,
                        const int64_t *count)
{
  const struct { const char *name; double value; } fields[] = {
      {"min", m->min}, {"max", m->max}, {"sum", m->sum}, {"squares", m->squares}};
  lua_newtable(L);
  for (size_t k = 0; k < sizeof fields / sizeof fields[0]; k++) {
    lua_pushnumber(L, fields[k].value);
    lua_setfield(L, -2, fields[k].name);
  }
  lua_pushinteger(L, m->count);
  lua_setfield(L, -2, "count");
  lua_createtable(L, (int)bins + 1, 0);
  lua_createtable(L, (int)bins, 0);
  for (int64_t k = 0; k <= bins; k++) {
    lua_pushnumber(L, low + (high - low) * (double)k / (double)bins);
    lua_rawseti(L, -3, k + 1);
    if (k == bins) break;
    lua_pushinteger(L, count[k]);
    lua_rawseti(L, -2, k + 1);
  }
  lua_setfield(L, -3, "counts");
  lua_setfield(L, -2, "edges");
}

LM_DOC(core_histogram,
       "x, {bins: int = 30, range: ints?} -> table\n"
       "Counts of x's values in bins of equal width: {counts = bins integers, edges = bins + 1 "
       "numbers, count = finite values, left_out = the others and those outside the range, min =, "
       "max =, sum =, squares =}. Without a range {low, high} the bins span all finite values; a "
       "single value gets bins around it. The last bin holds its upper edge.\n"
       "> h = lumen.histogram(lumen.tensor {0, 1, 1, 4}, {bins = 2})\n"
       "> h.counts[1], h.counts[2], h.max\n"
       "3 1 4.0");
static int core_histogram(lua_State *L)
{
  static const char *const keys[] = {"bins", "range", NULL};
  double range[2];
  lm_check_tensor(L, 1);
  lm_check_keys(L, 2, "histogram", keys);
  int64_t bins = lm_opt_int(L, 2, "bins", 30);
  if (bins < 1 || bins > MOST_BINS)
    return luaL_error(L, "histogram: bins must be 1 to %d, not %I", MOST_BINS, (lua_Integer)bins);
  int given = lm_opt_numbers(L, 2, "range", 2, range);
  if (given >= 0 && (given != 2 || !(range[0] < range[1])))
    return luaL_error(L, "histogram: range must be two numbers, low and high");
  lua_settop(L, 1);
  const lm_tensor *t = lm_check_tensor(L, 1);
  t = lm_check_host(L, 1, t->dtype == LM_F32 ? LM_F32 : LM_F64);
  moments m = {0};
  if (lm_numel(t) > 0) m = measure(t);
  double low = given == 2 ? range[0] : m.min, high = given == 2 ? range[1] : m.max;
  if (!(low < high)) {
    double half = 1e-3 * fmax(fabs(low), 1);
    low -= half;
    high += half;
  }
  int64_t *count = lua_newuserdatauv(L, (size_t)bins * sizeof *count, 0);
  for (int64_t k = 0; k < bins; k++) count[k] = 0;
  int64_t outside = lm_numel(t) > 0 ? count_values(t, low, high, bins, count) : 0;
  push_result(L, &m, low, high, bins, count);
  lua_pushinteger(L, outside);
  lua_setfield(L, -2, "left_out");
  return 1;
}

void lm_bind_histogram(lua_State *L)
{
  static const lm_function functions[] = {{"histogram", core_histogram, core_histogram_doc}, {0}};
  lm_set_functions(L, "", functions);
}
