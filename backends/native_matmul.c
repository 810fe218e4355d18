#include "backends/native_matmul.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "backends/native_convert.h"
#include "backends/worker_pool.h"
#include "core/alloc.h"
#include "core/dynlib.h"
#include "core/size.h"

// ---- libraries ----------------------------------------------------------------------------------

typedef struct onednn_version {
    int major, minor, patch;
    const char *hash;
    unsigned cpu_runtime, gpu_runtime;
} onednn_version;
enum { ONEDNN_SEQUENTIAL = 1, ONEDNN_OPENMP = 2 }; // of cpu_runtime
enum { CBLAS_ROW_MAJOR = 101, CBLAS_NO_TRANSPOSE = 111, CBLAS_TRANSPOSE = 112 };

// What the libraries are asked for. Prototypes stand here, so that a build needs none of their
// headers.
typedef struct gemm_library {
    int (*dnnl_sgemm)(char transpose_a, char transpose_b, int64_t m, int64_t n, int64_t k,
                      float alpha, const float *a, int64_t row_a, const float *b, int64_t row_b,
                      float beta, float *c, int64_t row_c);
    const onednn_version *(*dnnl_version)(void);
    void (*cblas_sgemm)(int order, int transpose_a, int transpose_b, int m, int n, int k,
                        float alpha, const float *a, int row_a, const float *b, int row_b,
                        float beta, float *c, int row_c);
    char *(*openblas_get_config)(void);
    char *(*bli_info_get_version_str)(void);
    void (*openblas_set_num_threads)(int threads);
    void (*bli_thread_set_num_threads)(int64_t threads);
    // Of the OpenMP runtime that the library is linked with; absent where it has another.
    void (*omp_set_num_threads)(int threads);
    int (*omp_get_max_threads)(void);
} gemm_library;

static const dynlib_symbol onednn_symbols[] = {
    DYNLIB_REQUIRED(gemm_library, dnnl_sgemm),
    DYNLIB_REQUIRED(gemm_library, dnnl_version),
    DYNLIB_OPTIONAL(gemm_library, omp_set_num_threads),
    DYNLIB_OPTIONAL(gemm_library, omp_get_max_threads),
};
static const char *const onednn_names[] = {"libdnnl.so.3", "libdnnl.so.2", "libdnnl.so", NULL};
static const dynlib_table onednn_table = {"oneDNN", onednn_names, onednn_symbols,
                                          sizeof onednn_symbols / sizeof *onednn_symbols};

static const dynlib_symbol cblas_symbols[] = {
    DYNLIB_REQUIRED(gemm_library, cblas_sgemm),
    DYNLIB_OPTIONAL(gemm_library, openblas_get_config),
    DYNLIB_OPTIONAL(gemm_library, bli_info_get_version_str),
    DYNLIB_OPTIONAL(gemm_library, openblas_set_num_threads),
    DYNLIB_OPTIONAL(gemm_library, bli_thread_set_num_threads),
    DYNLIB_OPTIONAL(gemm_library, omp_set_num_threads),
    DYNLIB_OPTIONAL(gemm_library, omp_get_max_threads),
};
static const char *const cblas_names[] = {"libopenblas.so.0", "libblis.so.4", "libcblas.so.3",
                                          "libblas.so.3", NULL};
static const dynlib_table cblas_table = {"a CBLAS", cblas_names, cblas_symbols,
                                         sizeof cblas_symbols / sizeof *cblas_symbols};

struct native_matmul {
    dynlib library;
    gemm_library call;
    worker_pool *pool;
    int threads;
    char name[96];
};

static bool open_onednn(native_matmul *m, brim_error *err) {
    if (!dynlib_open(&m->library, &onednn_table, &m->call, err)) return false;
    const onednn_version *version = m->call.dnnl_version();
    bool one_thread = version->cpu_runtime == ONEDNN_SEQUENTIAL ||
                      (version->cpu_runtime == ONEDNN_OPENMP && m->call.omp_set_num_threads);
    if (one_thread) {
        snprintf(m->name, sizeof m->name, "oneDNN %d.%d.%d, %d threads", version->major,
                 version->minor, version->patch, m->threads);
        return true;
    }
    brim_fail(err, BRIM_DEVICE, "%s: its threads cannot be limited to one for each call",
              m->library.name);
    dynlib_close(&m->library);
    m->call = (gemm_library){0};
    return false;
}

static bool open_cblas(native_matmul *m, brim_error *err) {
    if (!dynlib_open(&m->library, &cblas_table, &m->call, err)) return false;
    const gemm_library *call = &m->call;
    if (call->openblas_set_num_threads) call->openblas_set_num_threads(1);
    if (call->bli_thread_set_num_threads) call->bli_thread_set_num_threads(1);
    char text[32] = "CBLAS", number[32] = "";
    if (call->openblas_get_config) // "OpenBLAS 0.3.21", then how it was built
        sscanf(call->openblas_get_config(), "%31s %31s", text, number);
    else if (call->bli_info_get_version_str)
        snprintf(text, sizeof text, "BLIS %.20s", call->bli_info_get_version_str());
    snprintf(m->name, sizeof m->name, "%s %s (%s), %d threads", text, number, m->library.name,
             m->threads);
    return true;
}

// The first of the libraries asked for that opens.
static bool open_library(native_matmul *m, native_library library, brim_error *err) {
    brim_error no_onednn = {0}, no_cblas = {0};
    if (library != NATIVE_CBLAS && open_onednn(m, &no_onednn)) return true;
    if (no_onednn.status == BRIM_MEMORY) *err = no_onednn; // it may well be there
    if (failed(err)) return false;
    if (library != NATIVE_ONEDNN && open_cblas(m, &no_cblas)) return true;
    if (no_cblas.status == BRIM_MEMORY) *err = no_cblas;
    bool both = failed(&no_onednn) && failed(&no_cblas);
    brim_fail(err, BRIM_DEVICE, "%.400s%s%.400s", no_onednn.text, both ? "; " : "", no_cblas.text);
    return false;
}

native_matmul *native_matmul_open(native_library library, int threads, brim_error *err) {
    native_matmul *m = brim_calloc(sizeof *m, err);
    if (!m) return NULL;
    m->threads = threads > 0 ? threads : 1;
    if (open_library(m, library, err)) m->pool = worker_pool_create(m->threads, err);
    if (!failed(err)) return m;
    native_matmul_close(m);
    return NULL;
}

void native_matmul_close(native_matmul *m) {
    if (!m) return;
    worker_pool_free(m->pool);
    dynlib_close(&m->library);
    free(m);
}

const char *native_matmul_name(const native_matmul *m) {
    return m->name;
}

// ---- what is served -----------------------------------------------------------------------------

static bool is_float(brim_dtype dtype) {
    return dtype == BRIM_F32 || dtype == BRIM_F16 || dtype == BRIM_BF16;
}

bool native_matmul_serves(const native_matmul *m, const matmul_shape *s) {
    if (!is_float(s->in) || !is_float(s->out)) return false;
    if (s->batch > INT_MAX / 1024) return false; // items of the pool are counted in int
    if (m->call.dnnl_sgemm) return true;
    const int64_t sizes[] = {s->m, s->n, s->k, s->row_a, s->row_b, s->row_c};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        if (sizes[i] > INT_MAX) return false; // cblas counts in int
    }
    return true;
}

// A matrix as stored, for each of `count` batch indices.
typedef struct stored_matrix {
    int64_t rows, columns, count, row_stride, batch_stride;
} stored_matrix;

static stored_matrix stored_a(const matmul_shape *s) {
    return (stored_matrix){s->transpose_a ? s->k : s->m, s->transpose_a ? s->m : s->k,
                           s->batch_a ? s->batch : 1, s->row_a, s->batch_a};
}

static stored_matrix stored_b(const matmul_shape *s) {
    return (stored_matrix){s->transpose_b ? s->n : s->k, s->transpose_b ? s->k : s->n,
                           s->batch_b ? s->batch : 1, s->row_b, s->batch_b};
}

static stored_matrix stored_c(const matmul_shape *s) {
    return (stored_matrix){s->m, s->n, s->batch, s->row_c, s->batch_c};
}

// Floats that its dense copy takes, rounded up so that the next copy starts on a cache line.
static int64_t dense_floats(stored_matrix x) {
    return (x.rows * x.columns * x.count + 15) / 16 * 16;
}

int64_t native_matmul_workspace(const native_matmul *m, const matmul_shape *s) {
    (void)m;
    int64_t floats = 0;
    if (s->in != BRIM_F32) floats += dense_floats(stored_a(s)) + dense_floats(stored_b(s));
    if (s->out != BRIM_F32) floats += dense_floats(stored_c(s));
    return floats * (int64_t)sizeof(float);
}

// ---- 16-bit operands ----------------------------------------------------------------------------

enum { CONVERT_ELEMENTS = 32768 }; // in one item of the pool

typedef struct conversion {
    stored_matrix matrix;
    brim_dtype dtype;
    char *stored;
    float *dense;
    bool narrow; // dense to stored
    int64_t rows_in_item;
} conversion;

static void convert_item(void *context, int item) {
    const conversion *c = context;
    const stored_matrix *x = &c->matrix;
    int64_t bytes = (int64_t)brim_dtype_bytes(c->dtype);
    int64_t first = item * c->rows_in_item, end = first + c->rows_in_item;
    if (end > x->rows * x->count) end = x->rows * x->count;
    for (int64_t row = first; row < end; row++) {
        int64_t at = row / x->rows * x->batch_stride + row % x->rows * x->row_stride;
        float *dense = c->dense + row * x->columns;
        if (c->narrow)
            native_narrow(c->dtype, dense, c->stored + at * bytes, (size_t)x->columns);
        else
            native_widen(c->dtype, c->stored + at * bytes, dense, (size_t)x->columns);
    }
}

static void convert(native_matmul *m, stored_matrix matrix, brim_dtype dtype, void *stored,
                    float *dense, bool narrow) {
    int64_t rows_in_item = CONVERT_ELEMENTS / matrix.columns + 1;
    int64_t items = (matrix.rows * matrix.count + rows_in_item - 1) / rows_in_item;
    conversion c = {matrix, dtype, stored, dense, narrow, rows_in_item};
    worker_pool_run(m->pool, (int)items, convert_item, &c);
}

// ---- products -----------------------------------------------------------------------------------

typedef struct product {
    const native_matmul *library;
    const matmul_shape *shape;
    const float *a, *b;
    float *c;
    int64_t row_a, row_b, row_c, batch_a, batch_b, batch_c; // of these f32 operands
    int slices_m, slices_n;                                 // of each matrix
} product;

static void sgemm(const product *p, int64_t m, int64_t n, const float *a, const float *b,
                  float *c) {
    const matmul_shape *s = p->shape;
    const gemm_library *call = &p->library->call;
    if (call->dnnl_sgemm) {
        call->dnnl_sgemm(s->transpose_a ? 'T' : 'N', s->transpose_b ? 'T' : 'N', m, n, s->k, 1.0f,
                         a, p->row_a, b, p->row_b, 0.0f, c, p->row_c);
        return;
    }
    call->cblas_sgemm(CBLAS_ROW_MAJOR, s->transpose_a ? CBLAS_TRANSPOSE : CBLAS_NO_TRANSPOSE,
                      s->transpose_b ? CBLAS_TRANSPOSE : CBLAS_NO_TRANSPOSE, (int)m, (int)n,
                      (int)s->k, 1.0f, a, (int)p->row_a, b, (int)p->row_b, 0.0f, c, (int)p->row_c);
}

// Where slice i of `slices` starts.
static int64_t slice_start(int64_t extent, int slices, int i) {
    return i == slices ? extent : extent * i / slices / 16 * 16;
}

static void product_item(void *context, int item) {
    const product *p = context;
    const matmul_shape *s = p->shape;
    int slice = item % (p->slices_m * p->slices_n), batch = item / (p->slices_m * p->slices_n);
    int i = slice % p->slices_m, j = slice / p->slices_m;
    int64_t m = slice_start(s->m, p->slices_m, i), n = slice_start(s->n, p->slices_n, j);
    int64_t extent_m = slice_start(s->m, p->slices_m, i + 1) - m;
    int64_t extent_n = slice_start(s->n, p->slices_n, j + 1) - n;
    if (extent_m == 0 || extent_n == 0) return;
    const float *a = p->a + batch * p->batch_a + (s->transpose_a ? m : m * p->row_a);
    const float *b = p->b + batch * p->batch_b + (s->transpose_b ? n * p->row_b : n);
    float *c = p->c + batch * p->batch_c + m * p->row_c + n;

    // The number of threads is a setting of the calling thread: as it was afterwards, in case that
    // is a user's.
    const gemm_library *call = &p->library->call;
    int threads = call->omp_get_max_threads ? call->omp_get_max_threads() : 1;
    if (call->omp_set_num_threads) call->omp_set_num_threads(1);
    sgemm(p, extent_m, extent_n, a, b, c);
    if (call->omp_set_num_threads) call->omp_set_num_threads(threads);
}

// Two slices for each thread even out what else the cores do; a slice worth less than waking a
// thread is not cut off.
static void choose_slices(product *p) {
    enum { SLICES_PER_THREAD = 2, MIN_EXTENT = 64 };
    const double min_flops = 4e6;
    const matmul_shape *s = p->shape;
    int64_t wanted = (SLICES_PER_THREAD * p->library->threads + s->batch - 1) / s->batch;
    double by_work = 2.0 * (double)s->m * (double)s->n * (double)s->k / min_flops;
    if (by_work < (double)wanted) wanted = (int64_t)by_work;
    int64_t longer = s->m >= s->n ? s->m : s->n;
    if (wanted > longer / MIN_EXTENT) wanted = longer / MIN_EXTENT;
    if (wanted < 1 || p->library->threads == 1) wanted = 1;
    p->slices_m = s->m >= s->n ? (int)wanted : 1;
    p->slices_n = s->m >= s->n ? 1 : (int)wanted;
}

static void fill_zero(const matmul_shape *s, void *c) {
    int64_t bytes = (int64_t)brim_dtype_bytes(s->out);
    for (int64_t batch = 0; batch < s->batch; batch++) {
        for (int64_t row = 0; row < s->m; row++) {
            int64_t at = batch * s->batch_c + row * s->row_c;
            memset((char *)c + at * bytes, 0, (size_t)(s->n * bytes));
        }
    }
}

void native_matmul_run(native_matmul *m, const matmul_shape *s, const void *a, const void *b,
                       void *c, void *workspace) {
    if (s->m <= 0 || s->n <= 0 || s->batch <= 0) return;
    if (s->k <= 0) {
        fill_zero(s, c);
        return;
    }
    product p = {m,        s,          a,          b,          c, s->row_a, s->row_b,
                 s->row_c, s->batch_a, s->batch_b, s->batch_c, 1, 1};
    stored_matrix sa = stored_a(s), sb = stored_b(s), sc = stored_c(s);
    float *free_space = workspace;
    if (s->in != BRIM_F32) {
        float *dense_a = free_space, *dense_b = dense_a + dense_floats(sa);
        free_space = dense_b + dense_floats(sb);
        convert(m, sa, s->in, (void *)a, dense_a, false);
        convert(m, sb, s->in, (void *)b, dense_b, false);
        p.a = dense_a, p.row_a = sa.columns, p.batch_a = s->batch_a ? sa.rows * sa.columns : 0;
        p.b = dense_b, p.row_b = sb.columns, p.batch_b = s->batch_b ? sb.rows * sb.columns : 0;
    }
    if (s->out != BRIM_F32) p.c = free_space, p.row_c = s->n, p.batch_c = s->m * s->n;
    choose_slices(&p);
    worker_pool_run(m->pool, (int)(s->batch * p.slices_m * p.slices_n), product_item, &p);
    if (s->out != BRIM_F32) convert(m, sc, s->out, c, p.c, true);
}
