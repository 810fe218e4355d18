// Who reads each value of a graph, in the order of node ids.
//
// 1. graph_uses uses = {0};
// 2. if (graph_uses_make(g, &uses, err)) return ...
// 3. for (int32_t u = uses.start[v]; u < uses.start[v + 1]; u++) ... uses.use[u].node reads v as
// its input uses.use[u].input
// 4. graph_uses_free(&uses);
#ifndef BRIM_GRAPH_USES_H
#define BRIM_GRAPH_USES_H

#include "graph/graph.h"

typedef struct value_use {
    node_id node;
    int32_t input;
} value_use;

typedef struct graph_uses {
    int64_t *start; // by value id, and one more
    value_use *use;
} graph_uses;

brim_status graph_uses_make(const brim_graph *g, graph_uses *out, brim_error *err);
void graph_uses_free(graph_uses *uses);

#endif
