// Runs a graph on a device and hands back any of its values: passes, schedule, layout, plan,
// lowering, backend.
//
//   1. harness h;  harness_open(&h, "opencl:0", &settings, &err);
//   2. harness_run(&h, graph, leaves, wanted, &options, &results, &err);        as often as one
//   likes
//   3. results.of[id] holds the elements of value id of `graph`, in its dtype
//   4. harness_results_free(&results);  harness_close(&h);
//
// Memory is filled with NaN patterns before each run; what no storage covers must still hold them
// afterwards. Offsets are never zero, and the program and its plan pass their verifiers.
#ifndef BRIM_TESTS_HARNESS_H
#define BRIM_TESTS_HARNESS_H

#include "backends/backend.h"
#include "graph/graph.h"
#include "tests/op_case_run.h"

typedef struct harness {
    const backend *backend;
    backend_device *device;
    int64_t device_bytes, host_bytes;
} harness;

typedef struct harness_options {
    bool fuse;
    int32_t micro_batches; // 0: one. `leaves` has as many entries; variables start as in the first
    // What is recomputed (graph/pass_recompute.h); NULL: as marked.
    void (*recompute)(const brim_graph *, bool *recompute, void *user);
    void *user;
} harness_options;

typedef struct harness_results {
    void **of; // by value id; NULL where not wanted
    int32_t values;
} harness_results;

brim_status harness_open(harness *h, const char *device, const device_settings *settings,
                         brim_error *err);
// The same with as many bytes of memory: some devices pay for each byte.
brim_status harness_open_with(harness *h, const char *device, const device_settings *settings,
                              int64_t device_bytes, int64_t host_bytes, brim_error *err);
void harness_close(harness *h);

// wanted: by value id of g. Results are named for the run and forgotten after it; leaves other than
// variables cannot be wanted. A variable's elements are those after the run.
brim_status harness_run(harness *h, brim_graph *g, const leaf_values *leaves, const bool *wanted,
                        const harness_options *options, harness_results *out, brim_error *err);
void harness_results_free(harness_results *results);

// Elements as numbers and back.
void harness_to_numbers(brim_dtype dtype, const void *elements, double *out, int64_t count);
void harness_from_numbers(brim_dtype dtype, const double *numbers, void *out, int64_t count);

#endif
