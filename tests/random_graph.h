// Draws recipes of graphs of all ops (recipe.h): values used many times, all kinds of views,
// broadcasts, reductions over each axis, extents of 1 and around the sizes of vectors, groups and
// tiles, 16-bit types and integers.
//
// Numbers stay in a range where every op means something: bounds of each value are kept, and a
// value that may be large goes through a tanh, one that may not be positive is made so.
#ifndef BRIM_TEST_RANDOM_GRAPH_H
#define BRIM_TEST_RANDOM_GRAPH_H

#include "tests/recipe.h"

typedef struct random_graph_kind {
    int most_steps; // drawn; what they need comes on top
    int64_t most_elements;
    // Ops in few forms (layouts, constants, head sizes), so that graphs share their kernels.
    bool few_forms;
    brim_dtype low; // the only 16-bit type; F32: both
    bool fused;     // chains are fused in the second run: their kernels are new
} random_graph_kind;

void random_graph(recipe *out, uint64_t seed, const random_graph_kind *kind);

#endif
