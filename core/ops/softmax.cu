/* softmax.cu: the kernels of softmax.c for the card.
 *
 * As there, a tensor is [outer, n, inner] around the dimension in question. A line is done by
 * a team: a thread where inner > 1 (its neighbours read neighbouring lines), a warp for a row,
 * a block for a long row. Losses are added up over pieces, and the pieces by one block. */
#include "ops/walk.h"

namespace {

enum { THREADS = 256, LONG_ROW = 1024, PIECE = 4096 };
enum kind { SOFTMAX, LOG_SOFTMAX, LOGSUMEXP };

struct lines {
  int64_t outer, n, inner;
  int team; /* 1, 32 or THREADS */
};

lines lines_of(const lm_tensor *x, int dim)
{
  lines l = {1, x->shape[dim], 1, 1};
  for (int d = 0; d < dim; d++) l.outer *= x->shape[d];
  for (int d = dim + 1; d < x->ndim; d++) l.inner *= x->shape[d];
  if (l.inner == 1 && l.n > 1) l.team = l.n > LONG_ROW ? THREADS : 32;
  return l;
}

unsigned line_blocks(const lines &l) { return lm_blocks(l.outer * l.inner * l.team, THREADS); }

/* The line of this thread; none beyond the last. A team leaves as a whole. */
__device__ inline int64_t line_of(const lines &l)
{
  return ((int64_t)blockIdx.x * THREADS + threadIdx.x) / l.team;
}

__device__ inline int64_t line_start(const lines &l, int64_t line)
{
  return line / l.inner * l.n * l.inner + line % l.inner;
}

__device__ inline float team_sum(int team, float v, float *room)
{
  return team == 1 ? v : team == 32 ? lm_warp_sum(v) : lm_block_sum(v, room);
}

__device__ inline float team_max(int team, float v, float *room)
{
  return team == 1 ? v : team == 32 ? lm_warp_max(v) : lm_block_max(v, room);
}

/* y is like x, or for LOGSUMEXP [outer, inner]: into lse, in float, where that is given. An
 * infinite maximum is not subtracted where only the sum is wanted, so that a line of -inf
 * gives -inf. */
template <class T>
__global__ void __launch_bounds__(THREADS) run_lines(kind k, lines l, const T *x, T *y, float *lse)
{
  LM_SHARED(float, room, [32]);
  int64_t line = line_of(l), start = line_start(l, line);
  if (line >= l.outer * l.inner) return;
  int me = threadIdx.x % l.team;
  float top = -INFINITY, sum = 0;
  for (int64_t i = me; i < l.n; i += l.team) top = max(top, lm_widen(x[start + i * l.inner]));
  top = team_max(l.team, top, room);
  if (k == LOGSUMEXP && fabs(top) == INFINITY) top = 0;
  for (int64_t i = me; i < l.n; i += l.team) sum += exp(lm_widen(x[start + i * l.inner]) - top);
  sum = team_sum(l.team, sum, room);
  if (k == LOGSUMEXP) {
    if (me > 0) return;
    if (lse) lse[line] = top + log(sum);
    else y[line] = lm_narrow<T>(top + log(sum));
    return;
  }
  float rest = k == SOFTMAX ? 1 / sum : log(sum);
  for (int64_t i = me; i < l.n; i += l.team) {
    float d = lm_widen(x[start + i * l.inner]) - top;
    y[start + i * l.inner] = lm_narrow<T>(k == SOFTMAX ? exp(d) * rest : d - rest);
  }
}

/* From the result y. SOFTMAX: gx = y (g - sum(g y)); LOG_SOFTMAX: gx = g - exp(y) sum(g). */
template <class T>
__global__ void __launch_bounds__(THREADS)
    run_lines_backward(kind k, lines l, const T *g, const T *y, T *gx)
{
  LM_SHARED(float, room, [32]);
  int64_t line = line_of(l), start = line_start(l, line);
  if (line >= l.outer * l.inner) return;
  int me = threadIdx.x % l.team;
  float sum = 0;
  for (int64_t i = me; i < l.n; i += l.team) {
    int64_t at = start + i * l.inner;
    sum += lm_widen(g[at]) * (k == SOFTMAX ? lm_widen(y[at]) : 1);
  }
  sum = team_sum(l.team, sum, room);
  for (int64_t i = me; i < l.n; i += l.team) {
    int64_t at = start + i * l.inner;
    float gi = lm_widen(g[at]), yi = lm_widen(y[at]);
    gx[at] = lm_narrow<T>(k == SOFTMAX ? yi * (gi - sum) : gi - exp(yi) * sum);
  }
}

lm_status forward(lm_call *c, kind k)
{
  const lm_tensor *x = c->in[0];
  int dim;
  LM_TRY(lm_dim(c, c->param[0].i, x->ndim, &dim));
  lines l = lines_of(x, dim);
  return lm_for_floats(c, x->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    return LM_LAUNCH(c, run_lines<T>, line_blocks(l), THREADS, 0, k, l, lm_array<T>(x),
                     lm_array<T>(c->out[0]), (float *)nullptr);
  });
}

} // namespace

LM_KERNEL(softmax) { return forward(c, SOFTMAX); }
LM_KERNEL(log_softmax) { return forward(c, LOG_SOFTMAX); }
LM_KERNEL(logsumexp) { return forward(c, LOGSUMEXP); }

LM_KERNEL(softmax_backward)
{
  const lm_tensor *y = c->in[1];
  int dim;
  LM_TRY(lm_dim(c, c->param[0].i, y->ndim, &dim));
  lines l = lines_of(y, dim);
  kind k = c->param[1].i ? LOG_SOFTMAX : SOFTMAX;
  return lm_for_floats(c, y->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    return LM_LAUNCH(c, run_lines_backward<T>, line_blocks(l), THREADS, 0, k, l,
                     lm_array<T>(c->in[0]), lm_array<T>(y), lm_array<T>(c->out[0]));
  });
}

/* ---- losses: pieces with a sum and a weight ---- */

namespace {

typedef lm_vec<float, 2> pair;

/* loss = all sums / all weights. */
template <class T>
__global__ void __launch_bounds__(THREADS)
    join_pieces(const pair *part, int64_t pieces, T *loss, double *weight)
{
  LM_SHARED(double, room, [32]);
  double s0 = 0, s1 = 0;
  for (int64_t i = threadIdx.x; i < pieces; i += THREADS) {
    s0 += part[i].v[0];
    s1 += part[i].v[1];
  }
  s0 = lm_block_sum(s0, room);
  s1 = lm_block_sum(s1, room);
  if (threadIdx.x > 0) return;
  *loss = lm_narrow<T>(s0 / s1);
  if (weight) *weight = s1;
}

/* ---- cross_entropy ---- */

template <class T>
struct entropy {
  lines l;
  int64_t places, ignored;
  float smooth;
  const T *x, *weight; /* weight may be NULL */
  const int64_t *target;
  const float *lse;
  /* backward: of the loss, and the sum of the targets' weights */
  const T *g;
  const double *weight_sum;
};

template <class T>
entropy<T> entropy_of(const lm_call *c, int logits)
{
  const lm_tensor *x = c->in[logits];
  entropy<T> e = {};
  e.l = lines_of(x, 1);
  e.places = e.l.outer * e.l.inner;
  e.ignored = c->param[0].i;
  e.smooth = (float)c->param[1].f;
  e.x = lm_array<T>(x), e.weight = lm_array<T>(c->in[logits + 2]);
  e.target = lm_array<int64_t>(c->in[logits + 1]);
  return e;
}

template <class T>
__device__ inline float weight_of(const entropy<T> &e, int64_t k)
{
  return e.weight ? lm_widen(e.weight[k]) : 1;
}

template <class T>
__device__ inline float place_loss(const entropy<T> &e, int64_t i, int64_t t, float weight)
{
  int64_t start = line_start(e.l, i);
  float lse = e.lse[i], rest = 0;
  for (int64_t k = 0; e.smooth > 0 && k < e.l.n; k++)
    rest += weight_of(e, k) * (lse - lm_widen(e.x[start + k * e.l.inner]));
  return (1 - e.smooth) * weight * (lse - lm_widen(e.x[start + t * e.l.inner])) +
         e.smooth / (float)e.l.n * rest;
}

/* Also the first place of the piece whose target is no class, as places - i; else 0. */
template <class T>
__global__ void __launch_bounds__(THREADS) entropy_pieces(entropy<T> e, pair *part, int64_t *wrong)
{
  LM_SHARED(float, room, [32]);
  LM_SHARED(int64_t, wide_room, [32]);
  float loss = 0, weights = 0;
  int64_t first = (int64_t)blockIdx.x * PIECE, bad = 0;
  for (int64_t i = first + threadIdx.x; i < min(first + PIECE, e.places); i += THREADS) {
    int64_t t = e.target[i];
    if (t == e.ignored) continue;
    if (t < 0 || t >= e.l.n) {
      bad = max(bad, e.places - i);
      continue;
    }
    float weight = weight_of(e, t);
    loss += place_loss(e, i, t, weight);
    weights += weight;
  }
  loss = lm_block_sum(loss, room);
  weights = lm_block_sum(weights, room);
  bad = lm_block_max(bad, wide_room);
  if (threadIdx.x > 0) return;
  part[blockIdx.x] = {{loss, weights}};
  wrong[blockIdx.x] = bad;
}

/* found = {place of the first wrong target or -1, the target} */
__global__ void __launch_bounds__(THREADS)
    find_wrong(const int64_t *wrong, int64_t pieces, int64_t places, const int64_t *target,
               int64_t *found)
{
  LM_SHARED(int64_t, room, [32]);
  int64_t bad = 0;
  for (int64_t i = threadIdx.x; i < pieces; i += THREADS) bad = max(bad, wrong[i]);
  bad = lm_block_max(bad, room);
  if (threadIdx.x > 0) return;
  found[0] = bad > 0 ? places - bad : -1;
  found[1] = bad > 0 ? target[places - bad] : 0;
}

/* The gradient of place i for class k is
 *   f (p_k total - share_k), share_k = (1 - s) w_t [k = t] + s / C w_k, total = sum of shares,
 * with f = g / weight_sum; 0 for an ignored place, whatever f is. */
template <class T>
__global__ void __launch_bounds__(THREADS) entropy_gradient(entropy<T> e, T *gx)
{
  LM_SHARED(float, room, [32]);
  float all = 0, other = e.smooth / (float)e.l.n;
  for (int64_t k = threadIdx.x; other > 0 && k < e.l.n; k += THREADS) all += weight_of(e, k);
  if (other > 0) all = lm_block_sum(all, room);
  int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x;
  if (at >= e.places * e.l.n) return;
  int64_t k = at / e.l.inner % e.l.n, i = at / (e.l.inner * e.l.n) * e.l.inner + at % e.l.inner;
  int64_t t = e.target[i];
  if (t == e.ignored) {
    gx[at] = lm_narrow<T>(0.0f);
    return;
  }
  float f = (float)(lm_widen(*e.g) / *e.weight_sum), own = (1 - e.smooth) * weight_of(e, t);
  float share = other * weight_of(e, k) + (k == t ? own : 0);
  float p = exp(lm_widen(e.x[at]) - e.lse[i]);
  gx[at] = lm_narrow<T>(f * (p * (own + other * all) - share));
}

lm_status fail_wrong(const lm_call *c, const lm_tensor *found, int64_t classes)
{
  int64_t wrong[2];
  LM_TRY(lm_tensor_read(found, wrong, sizeof wrong));
  if (wrong[0] < 0) return LM_OK;
  return lm_op_fail(c, LM_ERR_INDEX,
                    "target %lld (element %lld) is not a class from 0 to %lld and not "
                    "ignore_index %lld", (long long)wrong[1], (long long)wrong[0],
                    (long long)classes - 1, (long long)c->param[0].i);
}

template <class T>
lm_status run_entropy(lm_call *c, entropy<T> e, float *lse, pair *part, int64_t *wrong,
                      const lm_tensor *found)
{
  int64_t pieces = (e.places + PIECE - 1) / PIECE;
  e.lse = lse;
  LM_TRY(LM_LAUNCH(c, run_lines<T>, line_blocks(e.l), THREADS, 0, LOGSUMEXP, e.l, e.x,
                   (T *)nullptr, lse));
  LM_TRY(LM_LAUNCH(c, entropy_pieces<T>, (unsigned)pieces, THREADS, 0, e, part, wrong));
  LM_TRY(LM_LAUNCH(c, join_pieces<T>, 1, THREADS, 0, part, pieces, lm_array<T>(c->out[0]),
                   lm_array<double>(c->save[1])));
  LM_TRY(LM_LAUNCH(c, find_wrong, 1, THREADS, 0, wrong, pieces, e.places, e.target,
                   lm_array<int64_t>(found)));
  return fail_wrong(c, found, e.l.n);
}

} // namespace

/* A wrong target is an error at once, as on the CPU: the host waits for the kernels. */
LM_KERNEL(cross_entropy)
{
  int64_t places = lm_numel(c->in[1]), pieces = (places + PIECE - 1) / PIECE, two = 2;
  lm_tensor *lse = lm_retain(c->save[0]), *part = NULL, *wrong = NULL, *found = NULL;
  lm_status status = LM_OK;
  if (!lse) LM_TRY_GOTO(status, done, lm_tensor_new(c->device, LM_F32, 1, &places, &lse));
  LM_TRY_GOTO(status, done, lm_tensor_new(c->device, LM_I64, 1, &pieces, &part));
  LM_TRY_GOTO(status, done, lm_tensor_new(c->device, LM_I64, 1, &pieces, &wrong));
  LM_TRY_GOTO(status, done, lm_tensor_new(c->device, LM_I64, 1, &two, &found));
  status = lm_for_floats(c, c->in[0]->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    return run_entropy(c, entropy_of<T>(c, 0), lm_array<float>(lse), lm_array<pair>(part),
                       lm_array<int64_t>(wrong), found);
  });
done:
  lm_release(lse);
  lm_release(part);
  lm_release(wrong);
  lm_release(found);
  return status;
}

LM_KERNEL(cross_entropy_backward)
{
  return lm_for_floats(c, c->in[1]->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    entropy<T> e = entropy_of<T>(c, 1);
    e.g = lm_array<T>(c->in[0]);
    e.lse = lm_array<float>(c->in[4]);
    e.weight_sum = lm_array<double>(c->in[5]);
    return LM_LAUNCH(c, entropy_gradient<T>, lm_blocks(e.places * e.l.n, THREADS), THREADS, 0, e,
                     lm_array<T>(c->out[0]));
  });
}

/* ---- bce_with_logits ---- */

namespace {

/* softplus(-x) = max(-x, 0) + log(1 + exp(-|x|)) */
__device__ inline float softplus_of_minus(float x)
{
  return (x < 0 ? -x : 0) + log1p(exp(-fabs(x)));
}

/* (1 - t) x + (1 + (pos - 1) t) softplus(-x) */
__device__ inline float bce_of(float x, float t, float pos)
{
  return (1 - t) * x + (1 + (pos - 1) * t) * softplus_of_minus(x);
}

template <class T>
__global__ void __launch_bounds__(THREADS)
    bce_pieces(const T *x, const T *target, const T *weight, int64_t n, float pos, pair *part)
{
  LM_SHARED(float, room, [32]);
  float loss = 0;
  int64_t first = (int64_t)blockIdx.x * PIECE, end = min(first + PIECE, n);
  for (int64_t i = first + threadIdx.x; i < end; i += THREADS)
    loss += (weight ? lm_widen(weight[i]) : 1) * bce_of(lm_widen(x[i]), lm_widen(target[i]), pos);
  loss = lm_block_sum(loss, room);
  if (threadIdx.x == 0) part[blockIdx.x] = {{loss, (float)(end - first)}};
}

/* The gradient for input 0 (logits), 1 (target) or 2 (weight). */
template <class T>
struct bce_gradient {
  int which;
  float pos, n;
  const T *g; /* of the loss */
  __device__ float operator()(float x, float t, float w = 1) const
  {
    float f = lm_widen(*g) / n, e = exp(-fabs(x));
    if (which == 2) return f * bce_of(x, t, pos);
    if (which == 1) return f * w * ((pos - 1) * softplus_of_minus(x) - x);
    float s = (x < 0 ? 1 : e) / (1 + e); /* sigmoid(-x) */
    return f * w * ((1 - t) - (1 + (pos - 1) * t) * s);
  }
};

} // namespace

LM_KERNEL(bce_with_logits)
{
  const lm_tensor *x = c->in[0];
  int64_t n = lm_numel(x), pieces = (n + PIECE - 1) / PIECE;
  lm_tensor *part;
  LM_TRY(lm_tensor_new(c->device, LM_I64, 1, &pieces, &part));
  lm_status status = lm_for_floats(c, x->dtype, [&](auto t) {
    using T = LM_TYPE(t);
    LM_TRY(LM_LAUNCH(c, bce_pieces<T>, (unsigned)pieces, THREADS, 0, lm_array<T>(x),
                     lm_array<T>(c->in[1]), lm_array<T>(c->in[2]), n, (float)c->param[0].f,
                     lm_array<pair>(part)));
    return LM_LAUNCH(c, join_pieces<T>, 1, THREADS, 0, lm_array<pair>(part), pieces,
                     lm_array<T>(c->out[0]), (double *)nullptr);
  });
  lm_release(part);
  return status;
}

LM_KERNEL(bce_with_logits_backward)
{
  const lm_tensor *x = c->in[1], *t = c->in[2], *w = c->in[3];
  return lm_for_floats(c, x->dtype, [&](auto type) {
    using T = LM_TYPE(type);
    bce_gradient<T> f = {(int)c->param[0].i, (float)c->param[1].f, (float)lm_numel(x),
                         lm_array<T>(c->in[0])};
    if (w) return lm_map<T, T, T, T>(c, f, c->out[0], x, t, w);
    return lm_map<T, T, T>(c, f, c->out[0], x, t);
  });
}
