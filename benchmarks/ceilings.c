#include "benchmarks/ceilings.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "backends/worker_pool.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "core/dynlib.h"

// ---- on the device ------------------------------------------------------------------------------

brim_graph *copy_graph(int64_t bytes, brim_error *err) {
    brim_graph *g = brim_graph_create(err);
    if (!g) return NULL;
    int64_t elements = bytes / 8 > 0 ? bytes / 8 : 1;
    brim_value from = brim_input_dims(g, "from", BRIM_F32, 1, &elements);
    brim_output(graph_op(g, OP_COPY, &from, 1, &(brim_attr){0}), "to");
    return g;
}

brim_graph *product_graph(int64_t size, brim_dtype dtype, brim_error *err) {
    brim_graph *g = brim_graph_create(err);
    if (!g) return NULL;
    brim_value a = brim_input(g, "a", dtype, size, size), b = brim_input(g, "b", dtype, size, size);
    brim_output(brim_matmul(a, b), "c");
    return g;
}

program *copy_program(int64_t bytes, brim_error *err) {
    program *p = NULL;
    if (program_create(&p, err)) return NULL;
    int64_t half = bytes / 2 / 4096 * 4096;
    record_access access[] = {{{SPACE_DEVICE, 0, half}, false}, {{SPACE_DEVICE, half, half}, true}};
    program_record r = {.kind = RECORD_COPY,
                        .queue = QUEUE_COMPUTE,
                        .sections = SECTION_LAST,
                        .node = -1,
                        .label = "copy",
                        .accesses = 2,
                        .access = access,
                        .as.copy = {access[0].range, access[1].range, 0}};
    p->device_bytes = 2 * half;
    p->micro_batches = 1;
    if (program_add_record(p, &r, err) >= 0) return p;
    program_free(p);
    return NULL;
}

// ---- memcpy on the host -------------------------------------------------------------------------

typedef struct host_copy {
    char *from, *to;
    size_t bytes; // of one item
} host_copy;

static void copy_item(void *context, int item) {
    const host_copy *c = context;
    size_t at = (size_t)item * c->bytes;
    memcpy(c->to + at, c->from + at, c->bytes);
}

double host_copy_rate(int64_t bytes, int threads) {
    enum { REPEATS = 20 };
    brim_error err = {0};
    worker_pool *pool = worker_pool_create(threads, &err);
    host_copy c = {.bytes = (size_t)(bytes / 2 / threads)};
    size_t half = c.bytes * (size_t)threads;
    c.from = malloc(half), c.to = malloc(half);
    double best = 0;
    if (pool && c.from && c.to) {
        memset(c.from, 1, half), memset(c.to, 2, half);
        for (int i = 0; i < REPEATS; i++) {
            double start = clock_seconds();
            worker_pool_run(pool, threads, copy_item, &c);
            double rate = 2 * (double)half / (clock_seconds() - start);
            if (rate > best) best = rate;
        }
    }
    free(c.from);
    free(c.to);
    worker_pool_free(pool);
    return best;
}

// ---- the library alone --------------------------------------------------------------------------

enum { CBLAS_ROW_MAJOR = 101, CBLAS_NO_TRANSPOSE = 111, CBLAS_TRANSPOSE = 112 };

typedef struct gemm_calls {
    int (*dnnl_sgemm)(char transpose_a, char transpose_b, int64_t m, int64_t n, int64_t k,
                      float alpha, const float *a, int64_t row_a, const float *b, int64_t row_b,
                      float beta, float *c, int64_t row_c);
    void (*cblas_sgemm)(int order, int transpose_a, int transpose_b, int m, int n, int k,
                        float alpha, const float *a, int row_a, const float *b, int row_b,
                        float beta, float *c, int row_c);
    void (*openblas_set_num_threads)(int threads);
    void (*omp_set_num_threads)(int threads);
} gemm_calls;

static const dynlib_symbol onednn_symbols[] = {
    DYNLIB_REQUIRED(gemm_calls, dnnl_sgemm),
    DYNLIB_OPTIONAL(gemm_calls, omp_set_num_threads),
};
static const dynlib_symbol cblas_symbols[] = {
    DYNLIB_REQUIRED(gemm_calls, cblas_sgemm),
    DYNLIB_OPTIONAL(gemm_calls, openblas_set_num_threads),
    DYNLIB_OPTIONAL(gemm_calls, omp_set_num_threads),
};
static const char *const onednn_names[] = {"libdnnl.so.3", "libdnnl.so.2", "libdnnl.so", NULL};
static const char *const cblas_names[] = {"libopenblas.so.0", "libblis.so.4", "libcblas.so.3",
                                          "libblas.so.3", NULL};
static const dynlib_table tables[] = {
    {"oneDNN", onednn_names, onednn_symbols, sizeof onednn_symbols / sizeof *onednn_symbols},
    {"a CBLAS", cblas_names, cblas_symbols, sizeof cblas_symbols / sizeof *cblas_symbols},
};

struct host_library {
    dynlib file;
    gemm_calls call;
    float *memory; // of the largest product so far
    int64_t floats;
    int threads;
};

host_library *host_library_open(int threads) {
    host_library *l = calloc(1, sizeof *l);
    for (int i = 0; l && i < 2; i++) {
        brim_error missing = {0};
        if (!dynlib_open(&l->file, &tables[i], &l->call, &missing)) continue;
        l->threads = threads;
        return l;
    }
    free(l);
    return NULL;
}

void host_library_close(host_library *l) {
    if (!l) return;
    dynlib_close(&l->file);
    free(l->memory);
    free(l);
}

const char *host_library_name(const host_library *l) {
    return l->file.name;
}

static bool make_room(host_library *l, int64_t floats) {
    if (floats <= l->floats) return true;
    free(l->memory);
    l->memory = malloc((size_t)floats * sizeof *l->memory);
    l->floats = l->memory ? floats : 0;
    for (int64_t i = 0; i < l->floats; i++) l->memory[i] = (float)(i % 61) / 64 - 0.5f;
    return l->memory != NULL;
}

static void one_product(const gemm_calls *call, const host_product *p, const float *a,
                        const float *b, float *c) {
    int64_t row_a = p->transpose_a ? p->m : p->k, row_b = p->transpose_b ? p->k : p->n;
    if (call->dnnl_sgemm)
        call->dnnl_sgemm(p->transpose_a ? 'T' : 'N', p->transpose_b ? 'T' : 'N', p->m, p->n, p->k,
                         1, a, row_a, b, row_b, 0, c, p->n);
    else
        call->cblas_sgemm(CBLAS_ROW_MAJOR, p->transpose_a ? CBLAS_TRANSPOSE : CBLAS_NO_TRANSPOSE,
                          p->transpose_b ? CBLAS_TRANSPOSE : CBLAS_NO_TRANSPOSE, (int)p->m,
                          (int)p->n, (int)p->k, 1, a, (int)row_a, b, (int)row_b, 0, c, (int)p->n);
}

double host_library_seconds(host_library *l, const host_product *p) {
    int64_t each_a = p->m * p->k, each_b = p->k * p->n, each_c = p->m * p->n;
    if (!make_room(l, p->batch * (each_a + each_b + each_c))) return 0;
    float *a = l->memory, *b = a + p->batch * each_a, *c = b + p->batch * each_b;
    if (l->call.openblas_set_num_threads) l->call.openblas_set_num_threads(l->threads);
    if (l->call.omp_set_num_threads) l->call.omp_set_num_threads(l->threads);
    double best = 0;
    for (int repeat = 0; repeat < 2; repeat++) { // the first wakes the library's threads
        double start = clock_seconds();
        for (int64_t i = 0; i < p->batch; i++)
            one_product(&l->call, p, a + i * each_a, b + i * each_b, c + i * each_c);
        double seconds = clock_seconds() - start;
        if (repeat == 0 || seconds < best) best = seconds;
    }
    // The device's products run on one thread a call, and the library's threads spin for a while.
    if (l->call.openblas_set_num_threads) l->call.openblas_set_num_threads(1);
    nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    return best;
}
