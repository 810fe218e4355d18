// Constructors of elementwise ops.
#include <math.h>
#include "graph/build.h"

static brim_value unary(op_id op, brim_value a, double p0, double p1) {
    brim_graph *g = graph_of(op_table[op].name, &a, 1);
    brim_attr attr = {.scalar = {(float)p0, (float)p1}};
    return graph_op(g, op, &a, 1, &attr);
}

// True for a scalar constant, which takes on the dtype of the operand beside it.
static bool is_constant(const brim_graph *g, brim_value v) {
    node_id producer = g->value[v.id].producer;
    return producer >= 0 && g->node[producer].op == OP_CONSTANT;
}

static void adapt(brim_graph *g, brim_value *a, brim_value *b) {
    brim_dtype da = g->value[a->id].dtype, db = g->value[b->id].dtype;
    if (da == db) return;
    brim_value *constant = is_constant(g, *b) ? b : is_constant(g, *a) ? a : NULL;
    if (!constant) return;
    float value = g->node[g->value[constant->id].producer].attr.scalar[0];
    *constant = graph_constant(g, constant == b ? da : db, value);
}

static brim_value binary(op_id op, brim_value a, brim_value b) {
    brim_value operands[] = {a, b};
    brim_graph *g = graph_of(op_table[op].name, operands, 2);
    if (!g) return GRAPH_INVALID;
    adapt(g, &operands[0], &operands[1]);
    return graph_op(g, op, operands, 2, NULL);
}

#define UNARY(name, id)                                                                            \
    brim_value brim_##name(brim_value a) {                                                         \
        return unary(OP_##id, a, 0, 0);                                                            \
    }
UNARY(neg, NEG)
UNARY(abs, ABS)
UNARY(exp, EXP)
UNARY(log, LOG)
UNARY(sqrt, SQRT)
UNARY(rsqrt, RSQRT)
UNARY(square, SQUARE)
UNARY(tanh, TANH)
UNARY(sigmoid, SIGMOID)
UNARY(relu, RELU)
UNARY(gelu, GELU)
UNARY(gelu_erf, GELU_ERF)
UNARY(silu, SILU)
UNARY(is_finite, IS_FINITE)
#undef UNARY

#define BINARY(name, id)                                                                           \
    brim_value brim_##name(brim_value a, brim_value b) {                                           \
        return binary(OP_##id, a, b);                                                              \
    }
BINARY(add, ADD)
BINARY(sub, SUB)
BINARY(mul, MUL)
BINARY(div, DIV)
BINARY(maximum, MAXIMUM)
BINARY(minimum, MINIMUM)
BINARY(lt, LT)
BINARY(le, LE)
BINARY(gt, GT)
BINARY(ge, GE)
BINARY(eq, EQ)
BINARY(ne, NE)
#undef BINARY

brim_value brim_pow(brim_value a, double exponent) {
    return unary(OP_POW, a, exponent, 0);
}

brim_value brim_clamp(brim_value a, double low, double high) {
    return unary(OP_CLAMP, a, low, high);
}

brim_value brim_scale(brim_value a, double factor) {
    brim_graph *g = graph_of("scale", &a, 1);
    return g ? brim_mul(a, graph_constant(g, g->value[a.id].dtype, factor)) : GRAPH_INVALID;
}

brim_value brim_where(brim_value condition, brim_value if_true, brim_value if_false) {
    brim_value operands[] = {condition, if_true, if_false};
    brim_graph *g = graph_of("where", operands, 3);
    if (!g) return GRAPH_INVALID;
    adapt(g, &operands[1], &operands[2]);
    return graph_op(g, OP_WHERE, operands, 3, NULL);
}

brim_value brim_cast(brim_value a, brim_dtype dtype) {
    return graph_cast(a, dtype);
}

brim_value brim_constant(brim_graph *g, double value) {
    return graph_constant(g, BRIM_F32, value);
}
