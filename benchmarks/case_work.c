#include "benchmarks/case_work.h"

double value_bytes(const brim_graph *g, value_id v) {
    return (double)shape_elements(&g->value[v].shape) * (double)brim_dtype_bytes(g->value[v].dtype);
}

static double elements_of(const brim_graph *g, value_id v) {
    return (double)shape_elements(&g->value[v].shape);
}

// Of a gather only the rows that are asked for are read; each at most once.
double input_bytes(const brim_graph *g, const graph_node *node, int input) {
    double all = value_bytes(g, node->input[input]);
    if (node->op != OP_EMBEDDING || input != 0) return all;
    double rows = value_bytes(g, node->first_output);
    return rows < all ? rows : all;
}

// Of B sequences with H heads of size D: 4 B H T S D for q k^T and p v; where it is causal, half of
// it. Backward: five such products in place of two.
static double attention_flops(const brim_graph *g, const graph_node *node) {
    const int64_t *q = g->value[node->input[0]].shape.dim, *k = g->value[node->input[1]].shape.dim;
    double all = 4.0 * (double)(q[0] * q[2]) * (double)(q[1] * k[1]) * (double)q[3];
    if (node->attr.attention.causal) all /= 2;
    return node->op == OP_ATTENTION_BACKWARD ? 2.5 * all : all;
}

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

// Of T tokens of width D and V classes: 2 T V D for the logits. Backward: those once more, and a
// product for each gradient.
static double projected_loss_flops(const brim_graph *g, const graph_node *node) {
    double tokens = elements_of(g, node->input[2]), weight = elements_of(g, node->input[1]);
    return (node->op == OP_LINEAR_CROSS_ENTROPY_BACKWARD ? 6 : 2) * tokens * weight;
}

double node_flops(const brim_graph *g, const graph_node *node) {
    if (node->op == OP_ATTENTION || node->op == OP_ATTENTION_BACKWARD)
        return attention_flops(g, node);
    if (node->op == OP_LINEAR_CROSS_ENTROPY || node->op == OP_LINEAR_CROSS_ENTROPY_BACKWARD)
        return projected_loss_flops(g, node);
    if (node->op != OP_MATMUL) return 0;
    return 2 * elements_of(g, node->first_output) * (double)product_of(g, node).k;
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
