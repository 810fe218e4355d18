// Lowering on a device that is not there. Each file that includes this has its own: start and
// finish are a checked fixture; between them, what `device` is may be changed, a graph is built in
// `g`, and lower(micro_batches) makes `low` of it.
#ifndef BRIM_TESTS_LOWER_RIG_H
#define BRIM_TESTS_LOWER_RIG_H

#include <check.h>
#include <brim/graph.h>
#include <stdlib.h>
#include <string.h>
#include "backends/lower_rules.h"
#include "backends/lower_split.h"
#include "graph/passes.h"
#include "tests/stub_device.h"
#include "tests/test_core.h"

static backend_device device;
static brim_error err;
static brim_graph *g;
static graph_schedule schedule;
static graph_layout layout;
static memory_plan plan;
static lowered low;

static inline void start(void) {
    err = (brim_error){0};
    device = (backend_device){.traits = {.cpu = true,
                                         .vec = 16,
                                         .group = 1,
                                         .max_group = 64,
                                         .alignment = 64,
                                         .compute_units = 2,
                                         .local_bytes = 1 << 15},
                              .native = true};
    g = brim_graph_create(&err);
    schedule = (graph_schedule){0};
    layout = (graph_layout){0};
    plan = (memory_plan){0};
    low = (lowered){0};
}

static inline void finish(void) {
    lowered_free(&low);
    memory_plan_free(&plan);
    graph_layout_free(&layout);
    graph_schedule_free(&schedule);
    brim_graph_free(g);
}

static inline void replace(brim_graph *next) {
    ASSERT_FINE(err);
    brim_graph_free(g);
    g = next;
}

static inline void try_to_lower(int micro_batches) {
    ASSERT_FINE(err);
    replace(pass_prune(g, &err));
    replace(pass_densify(g, &err));
    pass_sections(g, micro_batches, &err);
    replace(pass_fuse(g, true, 24, &err));
    graph_schedule_make(g, &schedule, &err);
    graph_layout_make(g, &schedule, &layout, &err);
    workspace_request workspace = {&layout, &stub_backend, &device, &err};
    plan_request request = {
        .alignment = 64, .workspace = lower_workspace_bytes, .user = &workspace};
    memory_plan_make(g, &layout, &schedule, &request, &plan, &err);
    ASSERT_FINE(err);
    lower_graph(g, &layout, &schedule, &plan, micro_batches, &stub_backend, &device, &low, &err);
}

static inline void lower(int micro_batches) {
    try_to_lower(micro_batches);
    ASSERT_FINE(err);
}

static inline brim_value input(const char *name, brim_dtype dtype, int rank, int64_t a, int64_t b,
                               int64_t c, int64_t d) {
    return brim_input_dims(g, name, dtype, rank, (int64_t[]){a, b, c, d});
}

// The n-th record of a kind.
static inline const program_record *record(record_kind kind, int n) {
    for (int i = 0; i < low.program->records; i++)
        if (low.program->record[i].kind == kind && n-- == 0) return &low.program->record[i];
    ck_abort_msg("there is no such %s", record_kind_name(kind));
    return NULL;
}

static inline int count(record_kind kind) {
    int n = 0;
    for (int i = 0; i < low.program->records; i++) n += low.program->record[i].kind == kind;
    return n;
}

#endif
