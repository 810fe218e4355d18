// Runs a recipe's graph on a device and holds it against the oracle, forward and backward.
//
// First with every value handed back and nothing fused: each node must come to what the oracle
// makes of its inputs. Then as users run it, with chains fused, storages used again, results
// written in place and some of it recomputed: what a user sees must have the same bits. With
// several micro-batches the first is done for each of them.
#ifndef BRIM_TEST_GRAPH_CHECK_H
#define BRIM_TEST_GRAPH_CHECK_H

#include "tests/harness.h"
#include "tests/recipe.h"

typedef enum graph_verdict {
    GRAPH_RIGHT,
    GRAPH_WRONG,
    GRAPH_REFUSED // the recipe is no valid graph
} graph_verdict;

// Counts of all graphs that were looked at.
typedef struct graph_tally {
    int64_t graphs, nodes, runs;
    int64_t elements, loose, not_finite; // see node_check.h
    int64_t of_op[OP_COUNT];             // graphs that it was in, after passes too
    double worst[OP_COUNT];
    int64_t differences, kinks; // derivatives that were held against differences, and could not be
    int64_t precisions;         // steps with 16-bit types that were held against those without
} graph_tally;

enum { GRAPH_WHY = 600 };

// Tells shared_modules.h which kernels graph_check will want. Returns how many of them are new and
// of the second run alone.
int graph_check_expect(harness *h, const recipe *r);

graph_verdict graph_check(harness *h, const recipe *r, graph_tally *tally, char why[GRAPH_WHY]);

// The derivatives of a plain recipe, in the oracle, against differences: of the loss along one
// direction for each float leaf.
graph_verdict graph_check_differences(const recipe *r, graph_tally *tally, char why[GRAPH_WHY]);

// A training step with 16-bit types and compute copies, in the oracle and without any rounding,
// against the one without: casts must change nothing else.
graph_verdict graph_check_precision(const recipe *r, graph_tally *tally, char why[GRAPH_WHY]);

#endif
