// What the suites of passes share.
#ifndef BRIM_TEST_PASSES_H
#define BRIM_TEST_PASSES_H

#include "graph/passes.h"
#include "test_graph.h"

enum { OPERANDS = 24 };
static const brim_init normal = {BRIM_NORMAL, 1};

// `next` becomes the g of MAKE_GRAPH.
#define TAKE(next)                                                                                 \
    do {                                                                                           \
        fit_graph(g);                                                                              \
        brim_graph *taken = (next);                                                                \
        ASSERT_FINE(err);                                                                          \
        brim_graph_free(g);                                                                        \
        g = taken;                                                                                 \
    } while (0)

static inline int count_ops(const brim_graph *g, op_id op) {
    int count = 0;
    for (node_id n = 0; n < g->nodes; n++) count += g->node[n].op == op;
    return count;
}

static inline const graph_node *find_op(const brim_graph *g, op_id op) {
    for (node_id n = 0; n < g->nodes; n++)
        if (g->node[n].op == op) return &g->node[n];
    ck_abort_msg("no node is %s", op_table[op].name);
}

static inline brim_value total(brim_value x) {
    return brim_sum(x, NULL, 0, false);
}

// Makes a node first that has more operands than any other: passes ask for the most.
static inline void begin_widely(brim_graph *g) {
    brim_value row = brim_input(g, "row", BRIM_F32, 1, 2), rows[16];
    for (int i = 0; i < 16; i++) rows[i] = row;
    brim_output(brim_concat(rows, 16, 0), "wide");
}

#endif
