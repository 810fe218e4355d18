// Derivatives of views, and of gathers and masks that are linear in their input.
#include "autograd/rules.h"

void derive_reshape(const rule_context *c, brim_value *dx) {
    shape s = derive_value(c->in[0])->shape;
    dx[0] = brim_reshape_dims(derive_dy(c), s.rank, s.dim);
}

void derive_permute(const rule_context *c, brim_value *dx) {
    int32_t rank = derive_value(c->in[0])->shape.rank;
    int64_t inverse[BRIM_MAX_DIMS];
    for (int32_t i = 0; i < rank; i++) inverse[c->node->attr.axes[i]] = i;
    dx[0] = brim_permute_axes(derive_dy(c), rank, inverse);
}

static brim_value slice_or_pad(const rule_context *c, op_id op, brim_value dy,
                               const brim_attr *attr, int input) {
    shape s = derive_value(c->in[input])->shape;
    return graph_op_shaped(c->graph, op, &dy, 1, attr, brim_value_dtype(dy), &s);
}

void derive_slice(const rule_context *c, brim_value *dx) {
    dx[0] = slice_or_pad(c, OP_PAD, derive_dy(c), &c->node->attr, 0);
}

void derive_pad(const rule_context *c, brim_value *dx) {
    dx[0] = slice_or_pad(c, OP_SLICE, derive_dy(c), &c->node->attr, 0);
}

void derive_broadcast(const rule_context *c, brim_value *dx) {
    dx[0] = derive_to_input(c, derive_dy(c), 0);
}

void derive_concat(const rule_context *c, brim_value *dx) {
    int32_t axis = c->node->attr.axis;
    brim_attr attr = {.start = {0}};
    for (int32_t i = 0; i < c->node->inputs; i++) {
        if (c->wanted[i]) dx[i] = slice_or_pad(c, OP_SLICE, derive_dy(c), &attr, i);
        attr.start[axis] += derive_value(c->in[i])->shape.dim[axis];
    }
}

void derive_embedding(const rule_context *c, brim_value *dx) {
    brim_attr attr = {.rows = derive_value(c->in[0])->shape.dim[0]};
    brim_value inputs[2] = {c->in[1], derive_dy(c)};
    dx[0] = graph_op_as(c->graph, OP_EMBEDDING_BACKWARD, inputs, 2, &attr, c->dtype[0]);
}

// A rotation's transpose is the rotation back.
void derive_rotary(const rule_context *c, brim_value *dx) {
    brim_attr attr = c->node->attr;
    attr.rotary.inverse = !attr.rotary.inverse;
    brim_value inputs[2] = {derive_dy(c)};
    for (int32_t i = 1; i < c->node->inputs; i++) inputs[i] = c->in[i];
    dx[0] = graph_op(c->graph, OP_ROTARY, inputs, c->node->inputs, &attr);
}

// The same numbers of the same stream: the mask is drawn again, never stored.
void derive_dropout(const rule_context *c, brim_value *dx) {
    brim_value inputs[4] = {derive_dy(c), c->in[1], c->in[2], c->in[3]};
    dx[0] = graph_op(c->graph, OP_DROPOUT, inputs, 4, &c->node->attr);
}
