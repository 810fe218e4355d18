// Random graphs, and two ways to run a graph on the host, for tests of passes and plans. What runs
// give is compared bit for bit, so neither needs to know what an op means: elementwise ops, views,
// products and updates are computed, every other op is a fixed function of its inputs' elements.
//
// 1. g = sandbox_graph(seed, nodes, micro_batches, err)
// 2. sandbox_run_plain: each value in an array of its own, in the order of ids
// 3. sandbox_run_planned: in the order of the schedule, in one block of memory, by strides and
// offsets; the memory is
//    poisoned first, and elementwise nodes visit their elements in a random order
// 4. sandbox_same(&a, &b): results and variables, by name
#ifndef BRIM_TEST_SANDBOX_H
#define BRIM_TEST_SANDBOX_H

#include "graph/graph.h"
#include "graph/memory_plan.h"

uint64_t sandbox_random(uint64_t *state); // splitmix64 (Steele, Lea, Flood 2014)
static inline int64_t sandbox_below(uint64_t *state, int64_t n) {
    return (int64_t)(sandbox_random(state) % (uint64_t)n);
}

// A training-like graph: forward nodes, backward ones, updates of some parameters, named results.
brim_graph *sandbox_graph(uint64_t seed, int nodes, int micro_batches, brim_error *err);

typedef struct sandbox_tensor {
    const char *name; // of the graph
    int64_t count;
    float *data;
} sandbox_tensor;

typedef struct sandbox_outcome {
    sandbox_tensor *tensor;
    int count;
} sandbox_outcome;

void sandbox_run_plain(const brim_graph *g, int micro_batches, sandbox_outcome *out);
void sandbox_run_planned(const brim_graph *g, const graph_layout *layout,
                         const graph_schedule *schedule, const memory_plan *plan, int micro_batches,
                         uint64_t seed, sandbox_outcome *out);
void sandbox_outcome_free(sandbox_outcome *outcome);

// NULL, or the name of a tensor that differs or is missing.
const char *sandbox_difference(const sandbox_outcome *a, const sandbox_outcome *b);

#endif
