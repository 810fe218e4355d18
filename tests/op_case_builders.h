// Short forms in which the rows of op_cases.def are written.
#ifndef BRIM_TESTS_OP_CASE_BUILDERS_H
#define BRIM_TESTS_OP_CASE_BUILDERS_H

#include "graph/graph.h"

// A node of any op: for ops that no script calls by themselves.
static inline brim_value node_of(op_id op, const brim_value *x, int count, brim_attr attr) {
    return graph_op(x[0].graph, op, x, count, &attr);
}
#define NODE(op, count, ...) node_of(OP_##op, x, count, (brim_attr){__VA_ARGS__})

static inline brim_value sum_over(brim_value a, uint32_t axes, bool keep, op_id op) {
    return graph_op(a.graph, op, &a, 1, &(brim_attr){.reduce = {axes, keep}});
}
#define AXES_SUM(a, axes, keep) sum_over(a, axes, keep, OP_SUM)
#define AXES_SQUARES(a, axes, keep) sum_over(a, axes, keep, OP_SUM_SQUARES)
#define AXES_MAX(a, axes, keep) sum_over(a, axes, keep, OP_MAX)

// The input placed in a larger tensor of zeros.
static inline brim_value pad_to(brim_value a, brim_attr attr, shape s) {
    return graph_op_shaped(a.graph, OP_PAD, &a, 1, &attr, brim_value_dtype(a), &s);
}
static inline brim_value slice_to(brim_value a, brim_attr attr, shape s) {
    return graph_op_shaped(a.graph, OP_SLICE, &a, 1, &attr, brim_value_dtype(a), &s);
}
#define STARTS(...) ((brim_attr){.start = {__VA_ARGS__}})
#define SHAPE(n, ...) ((shape){n, {__VA_ARGS__}})

static inline brim_value product_in_f32(brim_value a, bool ta, brim_value b, bool tb) {
    brim_value inputs[] = {a, b};
    return graph_op_as(a.graph, OP_MATMUL, inputs, 2, &(brim_attr){.matmul = {ta, tb}}, BRIM_F32);
}

static inline brim_value attention_of(const brim_value *x, int count, bool causal, double scale) {
    brim_attention_options o = {.bidirectional = !causal, .scale = (float)scale};
    if (count > 3) o.segments = x[3];
    return brim_attention(x[0], x[1], x[2], &o);
}

// q, k and v from one packed projection [B, T, 3 H D], as models make them.
static inline brim_value packed_attention(brim_value qkv, int64_t heads) {
    int64_t b = brim_dim(qkv, 0), t = brim_dim(qkv, 1), c = brim_dim(qkv, 2) / 3;
    brim_value part[3];
    for (int i = 0; i < 3; i++)
        part[i] = brim_reshape(brim_slice(qkv, 2, i * c, c), b, t, heads, c / heads);
    return brim_reshape(brim_attention(part[0], part[1], part[2], NULL), b, t, c);
}

// Updates: the variables become what the op writes.
static inline brim_value update_of(op_id op, const brim_value *x, int count, int variables,
                                   brim_attr attr) {
    brim_value first = graph_op(x[0].graph, op, x, count, &attr);
    for (int i = 0; i < variables && first.id >= 0; i++)
        first.graph->value[x[i].id].update = graph_output(first, i).id;
    return first;
}

static inline brim_value losses_of(brim_value logits, brim_value targets) {
    brim_value inputs[] = {logits, targets};
    return graph_op(logits.graph, OP_CROSS_ENTROPY, inputs, 2, &(brim_attr){.targets = {-100}});
}

static inline brim_value loss_of(brim_loss loss) {
    return loss.sum;
}

#endif
