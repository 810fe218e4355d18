// Passes: each is one function from one plain data structure to the next, and each result is
// verified. The new graph has the names, results, loss, scopes and variables of the old one, which
// stays the caller's.
//
// Their order: cast, (differentiation, updates), prune, compute copies, densify, sections, recompute
// (graph/pass_recompute.h), fuse.
#ifndef BRIM_GRAPH_PASSES_H
#define BRIM_GRAPH_PASSES_H

#include "graph/graph.h"

// Mixed precision: returns a new graph whose ops compute in `low` (F16 or BF16) by the cast column
// of op.def. Variables stay f32; each used by a LOW op gets one cast (its compute copy). Where a
// FOLLOW op has an f32 input that is neither a variable, a graph input nor a constant, all its
// inputs are brought to f32, else to `low`; constants adapt. The loss is f32, and so are the
// elementwise ops and sums that only the loss reads. Run on the forward graph, before
// differentiation.
brim_graph *pass_cast(const brim_graph *g, brim_dtype low, brim_error *err);

// Removes nodes that no root (loss, named result, UPDATE) needs, and merges equal ones (same op,
// inputs, attributes; never DROPOUT, UPDATE or what is recomputed). Inputs and variables stay even
// where nothing reads them. Returns a new graph.
brim_graph *pass_prune(const brim_graph *g, brim_error *err);

// Makes the 16-bit compute copies of parameters variables: a CAST of a parameter to f16 or bf16 is
// replaced by a leaf "NAME/bf16" or "NAME/f16", and the parameter's ADAMW or SGD by ADAMW_CAST or
// SGD_CAST, which keeps the leaf fresh. (A parameter that is cast to both types has a copy in the
// type of its first cast.) `owner`: the graph whose variables this one shares, after this pass; only
// copies that it has are replaced. NULL: all. Returns a new graph.
brim_graph *pass_compute_copies(const brim_graph *g, const brim_graph *owner, brim_error *err);

// The leaf that is the parameter's compute copy, or -1.
value_id compute_copy_of(const brim_graph *g, value_id parameter);

// Inserts COPY where an op cannot read its input's strides (a permuted, sliced or broadcast view,
// see graph/layout.h), and where a named result is not dense in a storage of its own. A permutation
// of the last two axes before a MATMUL becomes its transpose flag. Returns a new graph.
brim_graph *pass_densify(const brim_graph *g, brim_error *err);

// Which nodes run in which sections of a step (graph/graph.h), in place. One micro-batch: all in
// LAST. Several: nodes of phase UPDATE in LAST, unless an ACCUMULATE needs them; nodes that depend
// on parameters only in FIRST; the others in all.
brim_status pass_sections(brim_graph *g, int64_t micro_batches, brim_error *err);

// Groups elementwise nodes into FUSED ones. A chain has one iteration shape, phase and set of
// sections; inputs may broadcast into it; a value used outside the chain is an output. Constants
// are steps of each chain that uses them. Limits: `max_operands` inputs plus outputs. Off: every
// node is a chain of its own (tests compare the bits). Returns a new graph without elementwise
// nodes other than FUSED.
brim_graph *pass_fuse(const brim_graph *g, bool enabled, int max_operands, brim_error *err);

#endif
