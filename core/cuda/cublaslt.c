/* cublaslt.c: products by cuBLASLt, the only file that calls it. The library (500 MB) is loaded
 * at the first product. What is asked for and the algorithm found for it are kept: a training
 * step has few different products. */
#include <cublasLt.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/cuda.h"
#include "cuda/gemm.h"

#define WORKSPACE ((size_t)32 << 20)
#define PLANS 1024 /* a power of two */

bool lm_cuda_tf32 = false;

/* ---- the library ---- */

#define FUNCTIONS(F)                                                                      \
  F(cublasLtCreate) F(cublasLtMatmul) F(cublasLtMatmulAlgoGetHeuristic)                   \
  F(cublasLtMatmulDescCreate) F(cublasLtMatmulDescSetAttribute)                           \
  F(cublasLtMatrixLayoutCreate) F(cublasLtMatrixLayoutSetAttribute)                       \
  F(cublasLtMatmulPreferenceCreate) F(cublasLtMatmulPreferenceSetAttribute)               \
  F(cublasLtMatmulPreferenceDestroy) F(cublasLtGetStatusString)

static struct {
#define F(name) __typeof__(&name) name;
  FUNCTIONS(F)
#undef F
} lt;

static lm_status load(void)
{
  static bool loaded;
  if (loaded) return LM_OK;
  char name[40];
  snprintf(name, sizeof name, "libcublasLt.so.%d", CUBLAS_VER_MAJOR);
  void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (!library) library = dlopen(LUMEN_CUBLASLT, RTLD_NOW | RTLD_LOCAL); /* where it was built */
  if (!library) {
    lm_fail(LM_ERR_IO, "cannot load cuBLASLt: %s", dlerror());
    return lm_hint("put the folder of %s into LD_LIBRARY_PATH", name);
  }
#define F(name)                                                             \
  {                                                                         \
    void *found = dlsym(library, #name);                                    \
    if (!found) return lm_fail(LM_ERR_IO, "cuBLASLt has no function " #name); \
    memcpy(&lt.name, &found, sizeof found);                                 \
  }
  FUNCTIONS(F)
#undef F
  loaded = true;
  return LM_OK;
}

/* ---- plans ---- */

/* All that an algorithm depends on; compared as bytes. */
typedef struct key {
  const lm_device *device;
  int64_t m, n, k, batch, ldx, ldy, x_batch, y_batch;
  int32_t dtype, x_stored_by_columns, y_stored_by_columns, bias, tf32;
  uint32_t align_x, align_y, align_out, unused;
} key;

typedef struct plan {
  key k;
  bool taken, possible;
  cublasLtMatmulDesc_t product;
  cublasLtMatrixLayout_t x, y, out;
  cublasLtMatmulAlgo_t algorithm;
} plan;

typedef struct handle {
  const lm_device *device;
  cublasLtHandle_t lt;
  void *workspace;
} handle;

static plan *plans;
static handle handles[16];

static lm_status fail_lt(const char *op, cublasStatus_t s)
{
  return lm_fail(LM_ERR_DEVICE, "%s: cuBLASLt: %s", op, lt.cublasLtGetStatusString(s));
}

#define LT_TRY(op, call)                                          \
  do {                                                            \
    cublasStatus_t lt_status_ = (call);                           \
    if (lt_status_ != CUBLAS_STATUS_SUCCESS) return fail_lt(op, lt_status_); \
  } while (0)

static lm_status handle_for(lm_device *d, const char *op, handle **out)
{
  for (int i = 0; i < 16; i++) {
    handle *h = &handles[i];
    *out = h;
    if (h->device == d) return LM_OK;
    if (h->device) continue;
    LT_TRY(op, lt.cublasLtCreate(&h->lt));
    LM_TRY(lm_device_alloc(d, WORKSPACE, &h->workspace));
    h->device = d;
    return LM_OK;
  }
  return lm_fail(LM_ERR_DEVICE, "%s: more than 16 GPUs", op);
}

static uint32_t alignment(const void *p, int64_t ld, int64_t batch, int64_t size)
{
  uint64_t bits = (uint64_t)(uintptr_t)p | (uint64_t)(ld * size) | (uint64_t)(batch * size) | 256;
  return (uint32_t)(bits & -bits);
}

/* A row-major matrix as cuBLAS sees memory: by columns where its column stride is 1. False:
 * it cannot be read. */
static bool stored(int64_t rows, int64_t columns, int64_t row, int64_t column, int64_t *ld,
                   int32_t *by_columns)
{
  if ((columns <= 1 || column == 1) && (rows <= 1 || row >= columns)) {
    *by_columns = 0;
    *ld = rows <= 1 ? lm_max64(columns, 1) : row;
    return true;
  }
  *by_columns = 1;
  *ld = columns <= 1 ? lm_max64(rows, 1) : column;
  return (rows <= 1 || row == 1) && (columns <= 1 || column >= rows);
}

static bool make_key(const lm_device *d, const lm_gemm *g, key *k)
{
  memset(k, 0, sizeof *k);
  k->device = d;
  k->m = g->m;
  k->n = g->n;
  k->k = g->k;
  k->batch = g->batch;
  k->x_batch = g->x_batch;
  k->y_batch = g->y_batch;
  k->dtype = (int32_t)g->dtype;
  k->bias = g->bias != NULL;
  k->tf32 = g->dtype == LM_F32 && lm_cuda_tf32;
  if (!stored(g->m, g->k, g->x_row, g->x_column, &k->ldx, &k->x_stored_by_columns)) return false;
  if (!stored(g->k, g->n, g->y_row, g->y_column, &k->ldy, &k->y_stored_by_columns)) return false;
  int64_t size = lm_dtype_size(g->dtype);
  k->align_x = alignment(g->x, k->ldx, g->x_batch, size);
  k->align_y = alignment(g->y, k->ldy, g->y_batch, size);
  k->align_out = alignment(g->out, g->n, g->m * g->n, size);
  return true;
}

static lm_status make_layout(const char *op, cudaDataType_t type, int64_t rows, int64_t columns,
                             int64_t ld, int64_t batch, int64_t stride,
                             cublasLtMatrixLayout_t *out)
{
  int32_t count = (int32_t)batch;
  LT_TRY(op, lt.cublasLtMatrixLayoutCreate(out, type, (uint64_t)rows, (uint64_t)columns, ld));
  if (batch == 1) return LM_OK;
  LT_TRY(op, lt.cublasLtMatrixLayoutSetAttribute(*out, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count,
                                                 sizeof count));
  LT_TRY(op, lt.cublasLtMatrixLayoutSetAttribute(
                 *out, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof stride));
  return LM_OK;
}

/* cuBLAS counts by columns: our out = x y is its out^T = y^T x^T, so y is its first matrix. A
 * matrix stored by rows is its transpose as it stands. */
static lm_status describe(const char *op, const key *k, plan *p)
{
  cudaDataType_t type = k->dtype == LM_F32 ? CUDA_R_32F : k->dtype == LM_F64 ? CUDA_R_64F : CUDA_R_16BF;
  cudaDataType_t scale = k->dtype == LM_F64 ? CUDA_R_64F : CUDA_R_32F;
  cublasComputeType_t compute = k->dtype == LM_F64 ? CUBLAS_COMPUTE_64F
                                : k->tf32          ? CUBLAS_COMPUTE_32F_FAST_TF32
                                                   : CUBLAS_COMPUTE_32F;
  cublasOperation_t first = k->y_stored_by_columns ? CUBLAS_OP_T : CUBLAS_OP_N;
  cublasOperation_t second = k->x_stored_by_columns ? CUBLAS_OP_T : CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = k->bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
  LT_TRY(op, lt.cublasLtMatmulDescCreate(&p->product, compute, scale));
  LT_TRY(op, lt.cublasLtMatmulDescSetAttribute(p->product, CUBLASLT_MATMUL_DESC_TRANSA, &first,
                                               sizeof first));
  LT_TRY(op, lt.cublasLtMatmulDescSetAttribute(p->product, CUBLASLT_MATMUL_DESC_TRANSB, &second,
                                               sizeof second));
  LT_TRY(op, lt.cublasLtMatmulDescSetAttribute(p->product, CUBLASLT_MATMUL_DESC_EPILOGUE,
                                               &epilogue, sizeof epilogue));
  bool y = k->y_stored_by_columns, x = k->x_stored_by_columns;
  LM_TRY(make_layout(op, type, y ? k->k : k->n, y ? k->n : k->k, k->ldy, k->batch, k->y_batch,
                     &p->y));
  LM_TRY(make_layout(op, type, x ? k->m : k->k, x ? k->k : k->m, k->ldx, k->batch, k->x_batch,
                     &p->x));
  return make_layout(op, type, k->n, k->m, k->n, k->batch, k->m * k->n, &p->out);
}

static lm_status choose(const char *op, cublasLtHandle_t h, const key *k, plan *p)
{
  cublasLtMatmulPreference_t wish;
  uint64_t workspace = WORKSPACE;
  /* not INPLACE: its blocks add in the order in which they come */
  uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE | CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE;
  const struct { cublasLtMatmulPreferenceAttributes_t name; const void *value; size_t size; } rows[] = {
      {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace},
      {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes, sizeof schemes},
      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &k->align_y, sizeof k->align_y},
      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &k->align_x, sizeof k->align_x},
      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &k->align_out, sizeof k->align_out},
      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &k->align_out, sizeof k->align_out}};
  LT_TRY(op, lt.cublasLtMatmulPreferenceCreate(&wish));
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
    LT_TRY(op, lt.cublasLtMatmulPreferenceSetAttribute(wish, rows[i].name, rows[i].value,
                                                       rows[i].size));
  cublasLtMatmulHeuristicResult_t result;
  int found = 0;
  cublasStatus_t s = lt.cublasLtMatmulAlgoGetHeuristic(h, p->product, p->y, p->x, p->out,
                                                       p->out, wish, 1, &result, &found);
  (void)lt.cublasLtMatmulPreferenceDestroy(wish);
  p->possible = s == CUBLAS_STATUS_SUCCESS && found > 0;
  if (p->possible) p->algorithm = result.algo;
  return LM_OK;
}

static uint64_t hash(const key *k)
{
  uint64_t words[sizeof *k / 8], h = 1;
  memcpy(words, k, sizeof words);
  for (size_t i = 0; i < sizeof words / 8; i++) h = (h ^ words[i]) * 0x9E3779B97F4A7C15u;
  return h ^ h >> 29;
}

/* The plan for k, made if there is none. When all places are taken, the one in its place is
 * made anew (its descriptors are few bytes, and lost). */
static lm_status plan_for(const char *op, cublasLtHandle_t h, const key *k, plan **out)
{
  if (!plans) LM_TRY(lm_calloc(&plans, PLANS, sizeof *plans));
  uint64_t place = hash(k);
  plan *p = &plans[place % PLANS];
  for (uint64_t i = 0; i < 16; i++) {
    plan *at = &plans[(place + i) % PLANS];
    if (at->taken && memcmp(&at->k, k, sizeof *k) == 0) {
      *out = at;
      return LM_OK;
    }
    if (!at->taken) {
      p = at;
      break;
    }
  }
  memset(p, 0, sizeof *p);
  p->k = *k;
  LM_TRY(describe(op, k, p));
  LM_TRY(choose(op, h, k, p));
  p->taken = true;
  *out = p;
  return LM_OK;
}

/* ---- running ---- */

lm_status lm_cuda_gemm(lm_device *d, const char *op, const lm_gemm *g, bool *done)
{
  static const float one = 1, zero = 0;
  static const double one64 = 1, zero64 = 0;
  key k;
  plan *p;
  handle *h;
  void *stream;
  *done = false;
  if (g->k == 0 || !make_key(d, g, &k)) return LM_OK;
  LM_TRY(lm_cuda_begin(d, &stream));
  LM_TRY(load());
  LM_TRY(handle_for(d, op, &h));
  LM_TRY(plan_for(op, h->lt, &k, &p));
  if (!p->possible) return LM_OK;
  if (g->bias)
    LT_TRY(op, lt.cublasLtMatmulDescSetAttribute(p->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                                                 &g->bias, sizeof g->bias));
  bool wide = g->dtype == LM_F64;
  LT_TRY(op, lt.cublasLtMatmul(h->lt, p->product, wide ? (const void *)&one64 : &one, g->y, p->y,
                               g->x, p->x, wide ? (const void *)&zero64 : &zero, g->out, p->out,
                               g->out, p->out, &p->algorithm, h->workspace, WORKSPACE,
                               (cudaStream_t)stream));
  *done = true;
  return lm_cuda_end(d, op, "cublasLtMatmul");
}
