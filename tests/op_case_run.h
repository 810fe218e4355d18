// Cases of op_cases.def in the oracle: filling leaves, and what tests want of the numbers.
#ifndef BRIM_TESTS_OP_CASE_RUN_H
#define BRIM_TESTS_OP_CASE_RUN_H

#include "tests/op_cases.h"
#include "tests/oracle/oracle.h"

// Numbers of all leaves of a graph, by value id (NULL for results). Those of a case's leaves as its
// fills say; the control block as a step would have it; other leaves normal. `seed` tells the draws
// apart.
typedef struct leaf_values {
    double **of;
    int32_t values;
} leaf_values;

leaf_values leaf_values_make(const brim_graph *g, const op_case_graph *made, uint32_t seed,
                             brim_error *err);
void leaf_values_free(leaf_values *leaves);
// Gives all of them to an oracle of that graph.
void leaf_values_set(const leaf_values *leaves, oracle *o, brim_error *err);

#endif
