#include "benchmarks/host_updates.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "backends/host_kernels.h"
#include "backends/worker_pool.h"
#include "benchmarks/ceilings.h"
#include "core/alloc.h"
#include "core/clock.h"

// Every tensor is larger than the caches of a desktop or a server's core. A thread takes as many
// elements at a time as it does in a step (backends/host_records.c).
enum { ELEMENTS = 24 << 20, PIECE = 1 << 16, TENSORS = 7, ARGUMENTS = 24, LEAST_ROUNDS = 3 };

// What an update reads and writes for an element; scalars and constants behind its tensors.
static const struct row {
    const char *name;
    int tensors, scalars;
    double bytes;
    float constants[6];
} rows[] = {
    {"adamw", 4, 5, 28, {0.1f, 0.95f, 0.05f, 1e-8f, 0.1f, 1}},
    {"adamw_bf16", 5, 5, 30, {0.1f, 0.95f, 0.05f, 1e-8f, 0.1f, 1}},
    {"adamw_f16", 5, 5, 30, {0.1f, 0.95f, 0.05f, 1e-8f, 0.1f, 1}},
    {"adamw_q8", 6, 5, 16.0625, {0.1f, 0.95f, 0.05f, 1e-8f, 0.1f, 1}},
    {"adamw_q8_bf16", 7, 5, 18.0625, {0.1f, 0.95f, 0.05f, 1e-8f, 0.1f, 1}},
    {"sgd", 3, 3, 20, {0.9f, 0.1f, 1}},
    {"sgd_bf16", 4, 3, 22, {0.9f, 0.1f, 1}},
    {"sgd_f16", 4, 3, 22, {0.9f, 0.1f, 1}},
    {"accumulate", 2, 0, 12, {0}},
    {"assign", 2, 0, 8, {0}},
};
enum { ROWS = sizeof rows / sizeof *rows };

typedef struct measured {
    worker_pool *pool;
    float *tensor[TENSORS];
    float scalar[5]; // scale, lr, then factors and `keep` of 1
    host_argument argument[ARGUMENTS];
    const host_kernel *kernel;
    float *from, *to; // of the copy
} measured;

static void run_piece(void *context, int item) {
    const measured *m = context;
    m->kernel->run(m->argument, (int64_t)item * PIECE, PIECE);
}

static void copy_piece(void *context, int item) {
    const measured *m = context;
    memcpy(m->to + (size_t)item * PIECE, m->from + (size_t)item * PIECE, PIECE * sizeof(float));
}

static double seconds_of(measured *m, void (*piece)(void *, int)) {
    double start = clock_seconds();
    worker_pool_run(m->pool, ELEMENTS / PIECE, piece, m);
    return clock_seconds() - start;
}

static void set_arguments(measured *m, const struct row *row) {
    int count = 0;
    for (int k = 0; k < row->tensors; k++) m->argument[count++].buffer = m->tensor[k];
    for (int k = 0; k < row->scalars; k++) m->argument[count++].buffer = &m->scalar[k];
    m->argument[count++].i64 = ELEMENTS;
    for (int k = 0; k < 6; k++) m->argument[count++].f32 = row->constants[k];
}

static void keep_least(double *least, double seconds) {
    if (*least == 0 || seconds < *least) *least = seconds;
}

static void measure_row(measured *m, const struct row *row, host_variant variant, double seconds,
                        report *r) {
    m->kernel = host_kernel_of(variant, row->name);
    set_arguments(m, row);
    double best = 0, copy = 0, end = clock_seconds() + seconds;
    for (int i = 0; i < LEAST_ROUNDS || clock_seconds() < end; i++) {
        keep_least(&best, seconds_of(m, run_piece));
        keep_least(&copy, seconds_of(m, copy_piece));
    }
    double rate = (double)ELEMENTS * row->bytes / best, ceiling = 8.0 * ELEMENTS / copy;
    printf("%-13s %-8s %7.4g %9.3f %9.2f %9.2f %7.0f%%\n", row->name, host_variant_name(variant),
           row->bytes, best * 1e3, rate * 1e-9, ceiling * 1e-9, 100 * rate / ceiling);
    report_open(r, NULL, '{');
    report_text(r, "kernel", row->name);
    report_text(r, "variant", host_variant_name(variant));
    report_number(r, "bytes_per_element", row->bytes);
    report_number(r, "seconds", best);
    report_number(r, "bytes_per_second", rate);
    report_number(r, "memcpy_bytes_per_second", ceiling);
    report_close(r, '}');
}

static void measure_all(measured *m, double seconds, const char *filter, report *r) {
    printf("%-13s %-8s %7s %9s %9s %9s %8s\n", "kernel", "variant", "B/elem.", "ms", "GB/s",
           "memcpy", "of it");
    report_open(r, "host_kernels", '[');
    for (int i = 0; i < ROWS; i++)
        for (int v = HOST_VARIANTS - 1; v >= 0; v--)
            if ((!filter || strstr(rows[i].name, filter)) && host_variant_runs((host_variant)v))
                measure_row(m, &rows[i], (host_variant)v, seconds, r);
    report_close(r, ']');
}

// The processor's name as Linux gives it.
static void print_processor(int threads, report *r) {
    char line[200], name[200] = "an unknown processor";
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "model name : %199[^\n]", name) == 1) break;
    if (file) fclose(file);
    printf("%s, %d threads; %d elements; GB/s read and written\n", name, threads, ELEMENTS);
    report_text(r, "processor", name);
    report_number(r, "threads", threads);
    report_number(r, "elements", ELEMENTS);
}

void host_updates_measure(double seconds, const char *filter, report *r, brim_error *err) {
    if (failed(err)) return;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int threads = cores < 1 ? 1 : (int)cores;
    // Small rates and gradients: the numbers stay ordinary however often they are updated.
    measured m = {.pool = worker_pool_create(threads, err), .scalar = {1e-3f, 1e-4f, 1, 1, 1}};
    for (int k = 0; k < TENSORS; k++) {
        m.tensor[k] = brim_calloc_array(ELEMENTS, sizeof(float), err);
        for (int64_t i = 0; m.tensor[k] && i < ELEMENTS; i++)
            m.tensor[k][i] = (float)(i % 1021 + 1) * 0x1p-10f;
    }
    m.from = m.tensor[0], m.to = brim_calloc_array(ELEMENTS, sizeof(float), err);
    if (!failed(err)) {
        print_processor(threads, r);
        memset(m.to, 1, ELEMENTS * sizeof(float));
        measure_all(&m, seconds, filter, r);
    }
    for (int k = 0; k < TENSORS; k++) free(m.tensor[k]);
    free(m.to);
    worker_pool_free(m.pool);
}
