#include "benchmarks/case_work.h"
static host_product product_of(const brim_graph *g, const graph_node *node) {
    const shape *a = &g->value[node->input[0]].shape, *b = &g->value[node->input[1]].shape;
    const shape *c = &g->value[node->first_output].shape;
    host_product p = {.transpose_a = node->attr.matmul.transpose_a,
                      .transpose_b = node->attr.matmul.transpose_b};
    p.k = a->dim[a->rank - (p.transpose_a ? 2 : 1)];
    p.n = c->dim[c->rank - 1];
    p.m = c->dim[c->rank - 2];
    int64_t matrices = shape_elements(c) / (p.m * p.n);
    // By one matrix from the right it is one product of more rows.
    if (b->rank == 2 && !p.transpose_a)
        p.m *= matrices, p.batch = 1;
    else
        p.batch = matrices;
    return p;
}

case_work case_work_of(const brim_graph *g, value_id result) {
    case_work work = {0};
    node_id last = g->value[result].producer;
    for (node_id n = 0; n <= last; n++) {
        const graph_node *node = &g->node[n];
        for (int i = 0; i < node->inputs; i++)
            if (g->value[node->input[i]].producer < 0) work.bytes += input_bytes(g, node, i);
        work.flops += node_flops(g, node);
        if (node->op == OP_MATMUL) work.product = product_of(g, node);
    }
    const graph_node *node = &g->node[last];
    for (int i = 0; i < node->outputs; i++) work.bytes += value_bytes(g, node->first_output + i);
    return work;
}
