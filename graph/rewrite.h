// What passes share: a new graph is made from an old one, value by value, with a map between them.
//
// 1. rewrite r;
//    if (!rewrite_begin(&r, g, err)) return NULL;
// 2. for each value of the old graph in the order of ids: rewrite_leaf for leaves; for nodes
// rewrite_copy, or other
//    nodes made by rewrite_add, whose outputs are entered into r.map
// 3. return rewrite_end(&r, "name of the pass");
//
// Nodes are taken over as they are: rewrite_end has them checked by graph_verify.
#ifndef BRIM_GRAPH_REWRITE_H
#define BRIM_GRAPH_REWRITE_H

#include "graph/graph.h"

typedef struct rewrite {
    const brim_graph *from;
    brim_graph *to;
    value_id *map;      // by old id: the value's new id; -1 while there is none
    value_id *stand_in; // by old id: the new value that is the named result in its stead; -1: map's
    value_id loss[2];   // new sum and count; -1: what the map gives
    const char *old_scope, *new_scope; // of the node copied last
    brim_error *err;
} rewrite;

bool rewrite_begin(rewrite *r, const brim_graph *from, brim_error *err);

// Copies a leaf and enters it into the map.
void rewrite_leaf(rewrite *r, value_id old);

// Appends a node like `like` (op, attributes, phase, sections, scope; inputs and outputs are new
// ids and types) and returns its first output, which is of no use after an error. output[0 ..
// like->outputs-1] gives dtype, shape and name of each.
value_id rewrite_add(rewrite *r, const graph_node *like, const value_id *inputs, int32_t count,
                     const graph_value *output);

// The same for one output without a name.
value_id rewrite_add_one(rewrite *r, const graph_node *like, const value_id *inputs, int32_t count,
                         brim_dtype dtype, const shape *s);

// Copies a node, with the given inputs, or (NULL) those that the map gives; enters its outputs into
// the map.
void rewrite_copy(rewrite *r, node_id old, const value_id *inputs);

// Of the node that has the most inputs.
int32_t rewrite_most_inputs(const brim_graph *g);

// Results, loss, updates; frees the map. NULL after an error.
brim_graph *rewrite_end(rewrite *r, const char *pass);

// Without the nodes that no root needs. Frees g.
brim_graph *rewrite_live(brim_graph *g, const char *pass, brim_error *err);

#endif
