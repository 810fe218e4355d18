// How fast the machine is at what every op comes down to: moving bytes, and matrix products.
#ifndef BRIM_BENCHMARKS_CEILINGS_H
#define BRIM_BENCHMARKS_CEILINGS_H

#include "backends/backend.h"
#include "graph/graph.h"

// A graph of one elementwise COPY that reads and writes `bytes` bytes together.
brim_graph *copy_graph(int64_t bytes, brim_error *err);
// A graph of one matrix product of two size x size matrices.
brim_graph *product_graph(int64_t size, brim_dtype dtype, brim_error *err);

// A program of one copy record inside the device's memory, bytes / 2 from its start to behind them.
// The caller frees it.
program *copy_program(int64_t bytes, brim_error *err);

// Bytes read and written a second by memcpy of bytes / 2 on so many threads; 0 without memory. The
// best of some repeats.
double host_copy_rate(int64_t bytes, int threads);

// A product of f32 matrices, row-major and dense: [m, k] or, transposed, [k, m], and so on.
typedef struct host_product {
    int64_t batch, m, n, k;
    bool transpose_a, transpose_b;
} host_product;

// The host's matrix-product library alone, called as a program of its own would: with all threads
// that it likes to use.
typedef struct host_library host_library;
// NULL where there is none.
host_library *host_library_open(int threads);
void host_library_close(host_library *library);
const char *host_library_name(const host_library *library);
// Seconds of one product, the better of two; 0 where memory is short.
double host_library_seconds(host_library *library, const host_product *p);

#endif
