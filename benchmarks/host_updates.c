#include "benchmarks/host_updates.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include "backends/host_kernels.h"
#include "backends/worker_pool.h"
#include "benchmarks/ceilings.h"
#include "core/alloc.h"
#include "core/clock.h"

// Tensors are larger than most caches, and a pass goes over the next PIECES of them: so short a
// time falls between what else the machine does, and finds no operand in a cache. A thread takes as
// many elements at a time as it does in a step (backends/host_records.c).
enum { ELEMENTS = 24 << 20, PIECE = 1 << 16, PIECES = 32, LEAST_ROUNDS = 3 };
enum { TENSORS = 7, ARGUMENTS = 24 };

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
    {"adamw_q8_bf16_from_bf16", 7, 5, 16.0625, {0.1f, 0.95f, 0.05f, 1e-8f, 0.1f, 1}},
    {"sgd", 3, 3, 20, {0.9f, 0.1f, 1}},
    {"sgd_bf16", 4, 3, 22, {0.9f, 0.1f, 1}},
    {"sgd_f16", 4, 3, 22, {0.9f, 0.1f, 1}},
    {"accumulate", 2, 0, 12, {0}},
    {"assign", 2, 0, 8, {0}},
};
enum { ROWS = sizeof rows / sizeof *rows };

typedef struct measured {
    worker_pool *pool;
    float *tensor[TENSORS], *copy;
    float scalar[5]; // scale, lr, then factors and `keep` of 1
    host_argument argument[ARGUMENTS];
    const host_kernel *kernel;
    int64_t place; // of the next pass
} measured;

// The least seconds of an update of PIECES, and of a memcpy that moves as many bytes.
typedef struct least {
    double update, copy;
} least;

static int64_t element_of(const measured *m, int item) {
    return (m->place + (int64_t)item * PIECE) % ELEMENTS;
}

static void run_piece(void *context, int item) {
    const measured *m = context;
    m->kernel->run(m->argument, element_of(m, item), PIECE);
}

static void copy_piece(void *context, int item) {
    const measured *m = context;
    int64_t i = element_of(m, item);
    memcpy(m->copy + i, m->tensor[0] + i, PIECE * sizeof(float));
}

static void time_pieces(measured *m, void (*piece)(void *, int), int pieces, double *best) {
    double start = clock_seconds();
    worker_pool_run(m->pool, pieces, piece, m);
    double seconds = clock_seconds() - start;
    if (*best == 0 || seconds < *best) *best = seconds;
    m->place = element_of(m, pieces);
}

static int copied_pieces(const struct row *row) {
    return (int)(PIECES * row->bytes / 8);
}

static void set_arguments(measured *m, const struct row *row) {
    int count = 0;
    for (int k = 0; k < row->tensors; k++) m->argument[count++].buffer = m->tensor[k];
    for (int k = 0; k < row->scalars; k++) m->argument[count++].buffer = &m->scalar[k];
    m->argument[count++].i64 = ELEMENTS;
    for (int k = 0; k < 6; k++) m->argument[count++].f32 = row->constants[k];
}

static bool is_wanted(int row, int variant, const char *filter) {
    return (!filter || strstr(rows[row].name, filter)) && host_variant_runs((host_variant)variant);
}

// One pass of every kernel, and a copy beside each. The plain loops take so long that few will do.
static void run_round(measured *m, const char *filter, int round, least best[ROWS][HOST_VARIANTS]) {
    for (int i = 0; i < ROWS; i++)
        for (int v = 0; v < HOST_VARIANTS; v++) {
            if (!is_wanted(i, v, filter) || (v == HOST_PLAIN && round >= LEAST_ROUNDS)) continue;
            m->kernel = host_kernel_of((host_variant)v, rows[i].name);
            set_arguments(m, &rows[i]);
            time_pieces(m, run_piece, PIECES, &best[i][v].update);
            time_pieces(m, copy_piece, copied_pieces(&rows[i]), &best[i][v].copy);
        }
}

static void show(const struct row *row, host_variant variant, const least *best, report *r) {
    double rate = (double)PIECES * PIECE * row->bytes / best->update;
    double ceiling = 8.0 * PIECE * copied_pieces(row) / best->copy;
    printf("%-23s %-8s %7.4g %9.3f %9.2f %9.2f %7.0f%%\n", row->name, host_variant_name(variant),
           row->bytes, best->update * 1e3, rate * 1e-9, ceiling * 1e-9, 100 * rate / ceiling);
    report_open(r, NULL, '{');
    report_text(r, "kernel", row->name);
    report_text(r, "variant", host_variant_name(variant));
    report_number(r, "bytes_per_element", row->bytes);
    report_number(r, "seconds", best->update);
    report_number(r, "bytes_per_second", rate);
    report_number(r, "memcpy_bytes_per_second", ceiling);
    report_close(r, '}');
}

// All kernels in turn, round after round, so that what else the machine does meets them alike.
static void measure_all(measured *m, double seconds, const char *filter, report *r) {
    least best[ROWS][HOST_VARIANTS] = {{{0}}};
    int wanted = 0;
    for (int i = 0; i < ROWS; i++)
        for (int v = HOST_PLAIN + 1; v < HOST_VARIANTS; v++) wanted += is_wanted(i, v, filter);
    double end = clock_seconds() + seconds * wanted;
    for (int round = 0; round < LEAST_ROUNDS || clock_seconds() < end; round++)
        run_round(m, filter, round, best);
    printf("%-23s %-8s %7s %9s %9s %9s %8s\n", "kernel", "variant", "B/elem.", "ms", "GB/s",
           "memcpy", "of it");
    report_open(r, "host_kernels", '[');
    for (int i = 0; i < ROWS; i++)
        for (int v = HOST_VARIANTS - 1; v >= 0; v--)
            if (best[i][v].update > 0) show(&rows[i], (host_variant)v, &best[i][v], r);
    report_close(r, ']');
}

// The processor's name as Linux gives it.
static void print_processor(int threads, report *r) {
    char line[200], name[200] = "an unknown processor";
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "model name : %199[^\n]", name) == 1) break;
    if (file) fclose(file);
    printf("%s, %d threads; passes of %d elements\n", name, threads, PIECES * PIECE);
    report_text(r, "processor", name);
    report_number(r, "threads", threads);
    report_number(r, "elements", PIECES * PIECE);
}

void host_updates_measure(double seconds, const char *filter, report *r, brim_error *err) {
    if (failed(err)) return;
    int threads = worker_pool_cores(INT_MAX);
    // Small rates and gradients: the numbers stay ordinary however often they are updated.
    measured m = {.pool = worker_pool_create(threads, err), .scalar = {1e-3f, 1e-4f, 1, 1, 1}};
    for (int k = 0; k < TENSORS; k++) {
        m.tensor[k] = brim_calloc_array(ELEMENTS, sizeof(float), err);
        for (int64_t i = 0; m.tensor[k] && i < ELEMENTS; i++)
            m.tensor[k][i] = (float)(i % 1021 + 1) * 0x1p-10f;
    }
    m.copy = brim_calloc_array(ELEMENTS, sizeof(float), err);
    if (!failed(err)) {
        print_processor(threads, r);
        memset(m.copy, 1, ELEMENTS * sizeof(float));
        measure_all(&m, seconds, filter, r);
    }
    for (int k = 0; k < TENSORS; k++) free(m.tensor[k]);
    free(m.copy);
    worker_pool_free(m.pool);
}
