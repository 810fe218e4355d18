// What the constructors share: refusing in one form of words, and growing the graph.
#ifndef BRIM_GRAPH_BUILD_H
#define BRIM_GRAPH_BUILD_H

#include "graph/graph.h"

// Sticks an error to the graph: `WHAT in scope "S": [2, 3] and "w" [4, 5] do not fit: REASON`.
// Returns GRAPH_INVALID.
brim_value graph_refuse(brim_graph *g, brim_status status, const char *what,
                        const brim_value *operands, int count, const char *format, ...)
    __attribute__((format(printf, 6, 7)));

// The graph of a constructor's operands; NULL where an error has stuck or sticks now because one of
// them is no value.
brim_graph *graph_of(const char *what, const brim_value *operands, int count);

// True if v was given at all: optional operands are left out as (brim_value){0} or GRAPH_INVALID.
static inline bool graph_given(brim_value v) {
    return v.graph && v.id >= 0;
}

// Turns a negative axis around; false, with an error stuck, where x has no such axis.
bool graph_axis(const char *what, brim_value x, int *axis);

// A scalar CONSTANT of any dtype.
brim_value graph_constant(brim_graph *g, brim_dtype dtype, double value);

// brim_cast without its public name: x itself where it has the dtype.
brim_value graph_cast(brim_value x, brim_dtype dtype);

// How many of `classes` columns of logits LINEAR_CROSS_ENTROPY makes at a time for that many tokens:
// all of them where they are few.
int64_t linear_cross_entropy_chunk(int64_t tokens, int64_t classes);

// Appends one value; -1 without memory. The caller has checked it.
value_id graph_add_value(brim_graph *g, const graph_value *value);
bool graph_reserve(brim_graph *g, int32_t nodes, int32_t values);

// The scope as a string that lives as long as the graph.
const char *graph_scope_text(brim_graph *g);

// The leaf of that role and name, or -1.
value_id graph_find_leaf(const brim_graph *g, value_role role, const char *name);

// A name of a tensor or scope: what is wrong with it, or NULL.
const char *graph_name_fault(const char *name);

extern const char *const role_names[];         // by value_role
extern const char *const control_slot_names[]; // by control_slot
brim_dtype control_slot_dtype(control_slot slot);

#endif
