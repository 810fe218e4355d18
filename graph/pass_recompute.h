// Recomputation (gradient checkpointing): forward nodes whose results are not saved for the
// backward pass run again in it. Results have the same bits with and without.
//
// 1. bool *recompute: a decision for each value, by its id in a graph that has been through prune,
//    densify and sections, and not through fuse. A planner writes what it likes;
//    recompute_marked writes what the script's marks (brim_checkpoint) ask for.
// 2. g = pass_recompute(g, recompute, err);
//
// A copy stands right before the first backward node that needs it, and the schedule never takes
// it earlier (graph/schedule.c). All backward readers of a value share one copy, so each node runs
// twice at most. It needs its inputs, and so on back to values that are kept: where all sums of a
// residual stream are to be recomputed, the first backward node has all of them run again at once.
#ifndef BRIM_GRAPH_PASS_RECOMPUTE_H
#define BRIM_GRAPH_PASS_RECOMPUTE_H

#include "graph/graph.h"

// What running a node once more costs: what a planner should recompute first.
typedef enum recompute_cost {
    RECOMPUTE_FREE,  // strides and constants: no kernel runs
    RECOMPUTE_CHEAP, // reads its inputs and writes its outputs about once: casts, norms,
                     // activations, sums, gathers, dropout
    RECOMPUTE_DEAR,  // arithmetic beyond that: matrix products, attention
    RECOMPUTE_NEVER  // changes a variable
} recompute_cost;
recompute_cost recompute_cost_of(const graph_node *node);

// Which decisions pass_recompute follows; the others count as "keep". possible[v], by value id, is
// true for results of forward nodes, except of updates and of what reads a state or accumulator, of
// nodes that run once a step for all of its micro-batches, of views (which follow what they are
// views of), and except for what a named result holds.
brim_status recompute_possible(const brim_graph *g, bool *possible, brim_error *err);

// Decisions from the script's marks. A marked value is kept (where it is a view, what it is a view
// of). Recomputed is what leads to a marked value other than through another one; not what depends
// on parameters alone (compute copies of weights), nor other outputs of the node that makes a
// marked value. So all that comes behind the last mark is kept.
brim_status recompute_marked(const brim_graph *g, bool *recompute, brim_error *err);

// Backward nodes that read a value to be recomputed, or a view of it, read a copy's output, whose
// inputs are values that are kept, or copies' outputs in turn. Other readers, and results, stay as
// they are. `recompute` NULL: as marked. Returns a new graph.
brim_graph *pass_recompute(const brim_graph *g, const bool *recompute, brim_error *err);

#endif
