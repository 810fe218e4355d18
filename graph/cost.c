#include "graph/cost.h"

#include <math.h>
#include "graph/layout.h"

double value_bytes(const brim_graph *g, value_id v) {
    return (double)shape_elements(&g->value[v].shape) * (double)brim_dtype_bytes(g->value[v].dtype);
}

static double elements_of(const brim_graph *g, value_id v) {
    return (double)shape_elements(&g->value[v].shape);
}

// Of a gather only the rows that are asked for are read; each at most once.
double input_bytes(const brim_graph *g, const graph_node *node, int input) {
    double all = value_bytes(g, node->input[input]);
    if (g->value[node->input[input]].role == ROLE_COPY &&
        op_table[node->op].family == FAMILY_UPDATE)
        return 0; // only written
    if (node->op != OP_EMBEDDING || input != 0) return all;
    double rows = value_bytes(g, node->first_output);
    return fmin(rows, all);
}

// Of B sequences with H heads of size D: 4 B H T S D for q k^T and p v; where it is causal, half of
// it. Backward: five such products in place of two.
static double attention_flops(const brim_graph *g, const graph_node *node) {
    const int64_t *q = g->value[node->input[0]].shape.dim, *k = g->value[node->input[1]].shape.dim;
    double all = 4.0 * (double)(q[0] * q[2]) * (double)(q[1] * k[1]) * (double)q[3];
    if (node->attr.attention.causal) all /= 2;
    return node->op == OP_ATTENTION_BACKWARD ? 2.5 * all : all;
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
    const shape *a = &g->value[node->input[0]].shape;
    int64_t k = a->dim[a->rank - (node->attr.matmul.transpose_a ? 2 : 1)];
    return 2 * elements_of(g, node->first_output) * (double)k;
}

double node_bytes(const brim_graph *g, const graph_node *node) {
    double bytes = 0;
    if (op_is_view(node->op)) return 0;
    for (int32_t i = 0; i < node->inputs; i++) bytes += input_bytes(g, node, i);
    for (int32_t j = 0; j < node->outputs; j++) bytes += value_bytes(g, node->first_output + j);
    return bytes;
}

double node_seconds(const brim_graph *g, const graph_node *node, const brim_rates *rates) {
    double bytes = node_bytes(g, node), flops = node_flops(g, node);
    if (bytes == 0) return 0;
    bool wide = node->inputs > 0 && g->value[node->input[0]].dtype == BRIM_F32;
    double moving = bytes / rates->memory;
    double computing = flops / (wide ? rates->matmul_32 : rates->matmul_16);
    return fmax(moving, computing) + rates->launch;
}
