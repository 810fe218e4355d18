// Passes: each is one function from one plain data structure to the next, and each result is verified.
#ifndef BRIM_GRAPH_PASSES_H
#define BRIM_GRAPH_PASSES_H

#include "graph/graph.h"

// Mixed precision: returns a new graph whose ops compute in `low` (F16 or BF16) by the cast column of op.def. Variables
// stay f32; each used by a LOW op gets one cast (its compute copy). Run on the forward graph, before differentiation.
brim_graph *pass_cast(const brim_graph *g, brim_dtype low, brim_error *err);

// Removes nodes that no root (loss, named result, update of a variable) needs, and merges equal ones (same op, inputs,
// attributes; never DROPOUT or UPDATE). Returns a new graph.
brim_graph *pass_prune(const brim_graph *g, brim_error *err);

// Inserts COPY where an op cannot read its input's strides (a permuted, sliced or broadcast view). `wants_dense` is
// a property of op and input, see graph/layout.h. Returns a new graph.
brim_graph *pass_densify(const brim_graph *g, brim_error *err);

// Groups elementwise nodes into FUSED ones. A chain has one iteration shape; inputs may broadcast into it; a
// value used outside the chain is an output. Limits: `max_operands` inputs plus outputs. Off: every node is a chain of
// its own (tests compare the bits). Returns a new graph.
brim_graph *pass_fuse(const brim_graph *g, bool enabled, int max_operands, brim_error *err);

#endif
