// How much to recompute, from nothing to nearly everything: a planner takes the first level whose
// memory plan fits.
//
// 1. recompute_levels levels = {0};
//    if (recompute_levels_make(g, &levels, err)) ...      g as pass_recompute takes it
// 2. recompute_level(g, &levels, level, recompute, err)   for a level below levels.count
// 3. recompute_levels_free(&levels)
//
// Level 0 keeps all. Level 1 recomputes what is cheap and whose inputs are saved anyway: norms,
// activations, casts. Level 1 + k recomputes besides that all that can be in the first k stretches
// of the forward pass. A stretch lies between two places where as few bytes as anywhere go on to
// later forward nodes (in a transformer: the residual stream, after each attention and each MLP);
// what goes on there is kept. Earlier stretches first: what they save would live longest.
#ifndef BRIM_GRAPH_RECOMPUTE_LEVELS_H
#define BRIM_GRAPH_RECOMPUTE_LEVELS_H

#include "graph/graph.h"

typedef struct recompute_levels {
    int32_t count; // of levels, at least 2
    node_id *cut;  // the last node of each stretch
    int32_t cuts;  // count - 2
    bool *crosses; // by value: goes on from one stretch to a later one
} recompute_levels;

brim_status recompute_levels_make(const brim_graph *g, recompute_levels *out, brim_error *err);
void recompute_levels_free(recompute_levels *levels);

// Decisions for pass_recompute, by value id; what scripts have marked is among them on every level.
brim_status recompute_level(const brim_graph *g, const recompute_levels *levels, int32_t level,
                            bool *recompute, brim_error *err);

#endif
