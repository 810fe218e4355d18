// The table of derivative rules, and what they share.
#include "autograd/rules.h"

const derivative_rule derivative_rules[OP_COUNT] = {
#define X(id, name) [OP_##id] = derive_##name,
    BRIM_DERIVATIVE_RULES(X)
#undef X
};

brim_value derive_constant(brim_value like, double value) {
    brim_attr attr = {.scalar = {(float)value}};
    shape scalar = {0};
    brim_dtype dtype = brim_value_dtype(like);
    return graph_op_shaped(like.graph, OP_CONSTANT, NULL, 0, &attr, dtype, &scalar);
}

bool derive_needs_wide(const rule_context *c, int input) {
    const graph_value *in = derive_value(c->in[input]), *out = derive_value(c->out[0]);
    return c->dtype[input] == BRIM_F32 || !shape_equal(&in->shape, &out->shape);
}

brim_value derive_to_input(const rule_context *c, brim_value gradient, int input) {
    const graph_value *from = derive_value(gradient), *to = derive_value(c->in[input]);
    if (!from) return gradient;
    shape target = to->shape;
    int32_t extra = from->shape.rank - target.rank;
    brim_attr attr = {.reduce = {0, false}};
    for (int32_t i = 0; i < from->shape.rank; i++) {
        bool missing = i < extra;
        bool one = !missing && target.dim[i - extra] == 1 && from->shape.dim[i] != 1;
        if (missing || one) attr.reduce.axes |= 1u << i;
    }
    if (attr.reduce.axes) {
        // An f32 sum is not written as 16 bits by SUM itself; the caller casts it.
        brim_dtype dtype = c->dtype[input] == from->dtype ? from->dtype : BRIM_F32;
        gradient = graph_op_as(c->graph, OP_SUM, &gradient, 1, &attr, dtype);
    }
    return brim_reshape_dims(gradient, target.rank, target.dim);
}

bool derive_only_first(const rule_context *c) {
    for (int32_t i = 1; i < c->node->outputs; i++) {
        if (c->gradient_out[i].id < 0) continue;
        brim_fail(c->graph->err, BRIM_GRAPH,
                  "%s%s%s%s: output %d has no derivative; only output 0 may lead to a loss",
                  op_table[c->node->op].name, *c->node->scope ? " in scope \"" : "", c->node->scope,
                  *c->node->scope ? "\"" : "", i);
        return false;
    }
    return true;
}
