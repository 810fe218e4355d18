// Which sections of a step each node runs in.
#include <stdlib.h>
#include "core/alloc.h"
#include "graph/passes.h"

// By node: does an ACCUMULATE need its outputs?
static void mark_accumulated(const brim_graph *g, bool *accumulated) {
    for (node_id n = g->nodes - 1; n >= 0; n--) {
        const graph_node *node = &g->node[n];
        accumulated[n] |= node->op == OP_ACCUMULATE;
        for (int32_t i = 0; accumulated[n] && i < node->inputs; i++) {
            node_id producer = g->value[node->input[i]].producer;
            if (producer >= 0) accumulated[producer] = true;
        }
    }
}

// What a node's inputs are, all together.
typedef struct origin {
    bool constant;  // constants only
    bool invariant; // parameters, their copies and constants only
    bool late;      // something that is complete in the last section only
} origin;

static origin origin_of(const brim_graph *g, const graph_node *node, const origin *by_node) {
    origin all = {true, true, false};
    for (int32_t i = 0; i < node->inputs; i++) {
        const graph_value *v = &g->value[node->input[i]];
        origin in = {false, v->role == ROLE_PARAMETER || v->role == ROLE_COPY, false};
        if (v->producer >= 0) in = by_node[v->producer];
        all.constant &= in.constant;
        all.invariant &= in.invariant;
        // A sum over micro-batches has its value in the last one.
        all.late |= in.late || (v->producer >= 0 && g->node[v->producer].op == OP_ACCUMULATE);
    }
    return all;
}

static void set_sections(brim_graph *g, const bool *accumulated, origin *by_node, brim_error *err) {
    for (node_id n = 0; n < g->nodes; n++) {
        graph_node *node = &g->node[n];
        bool update = op_table[node->op].family == FAMILY_UPDATE;
        origin o = origin_of(g, node, by_node);
        o.late |= node->phase == PHASE_UPDATE && !accumulated[n];
        if (update) o.constant = o.invariant = false;
        by_node[n] = o;
        if (o.late && accumulated[n])
            brim_fail(err, BRIM_GRAPH,
                      "sections: node %d (%s in scope \"%s\") depends on a sum over micro-batches "
                      "and is itself summed",
                      n, op_table[node->op].name, node->scope);
        node->sections = o.late                       ? SECTION_LAST
                         : o.invariant && !o.constant ? SECTION_FIRST
                                                      : SECTION_ALL;
    }
}

brim_status pass_sections(brim_graph *g, int64_t micro_batches, brim_error *err) {
    if (failed(err)) return err->status;
    if (micro_batches < 1)
        return brim_fail(err, BRIM_ARGUMENT, "sections: %lld micro-batches",
                         (long long)micro_batches);
    if (micro_batches == 1) {
        for (node_id n = 0; n < g->nodes; n++) g->node[n].sections = SECTION_LAST;
    } else {
        bool *accumulated = brim_calloc_array((size_t)g->nodes, sizeof *accumulated, err);
        origin *by_node = brim_calloc_array((size_t)g->nodes, sizeof *by_node, err);
        if (!failed(err)) {
            mark_accumulated(g, accumulated);
            set_sections(g, accumulated, by_node, err);
        }
        free(accumulated);
        free(by_node);
    }
    return graph_verify(g, "sections", err);
}
