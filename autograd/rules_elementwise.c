// Derivatives of elementwise ops. Those of several steps are made in f32 and rounded once: fusion
// makes the casts free.
#include "autograd/rules.h"

static brim_value one_op(const rule_context *c, op_id op, brim_value a, brim_value b) {
    brim_value inputs[2] = {a, b};
    return graph_op(c->graph, op, inputs, 2, NULL);
}

// dy times a factor that has the output's dtype, for an input.
static brim_value product(const rule_context *c, brim_value factor, int input) {
    if (!derive_needs_wide(c, input)) return brim_mul(derive_dy(c), factor);
    return brim_mul(derive_wide(derive_dy(c)), derive_wide(factor));
}

void derive_copy(const rule_context *c, brim_value *dx) {
    dx[0] = derive_dy(c);
}

// The caller casts to the input's dtype.
void derive_cast(const rule_context *c, brim_value *dx) {
    dx[0] = derive_dy(c);
}

void derive_neg(const rule_context *c, brim_value *dx) {
    dx[0] = brim_neg(derive_dy(c));
}

// dy sign(a): exact in any dtype.
void derive_abs(const rule_context *c, brim_value *dx) {
    brim_value a = c->in[0], zero = derive_constant(a, 0);
    dx[0] = brim_mul(derive_dy(c), brim_sub(brim_gt(a, zero), brim_lt(a, zero)));
}

void derive_exp(const rule_context *c, brim_value *dx) {
    dx[0] = product(c, c->out[0], 0);
}

void derive_log(const rule_context *c, brim_value *dx) {
    bool wide = derive_needs_wide(c, 0);
    brim_value dy = derive_dy(c), a = c->in[0];
    dx[0] = wide ? brim_div(derive_wide(dy), derive_wide(a)) : brim_div(dy, a);
}

// dy / (2 y)
void derive_sqrt(const rule_context *c, brim_value *dx) {
    brim_value half = brim_scale(derive_wide(derive_dy(c)), 0.5);
    dx[0] = brim_div(half, derive_wide(c->out[0]));
}

// -dy y^3 / 2
void derive_rsqrt(const rule_context *c, brim_value *dx) {
    brim_value y = derive_wide(c->out[0]);
    brim_value slope = brim_scale(brim_mul(brim_square(y), y), -0.5);
    dx[0] = brim_mul(derive_wide(derive_dy(c)), slope);
}

void derive_square(const rule_context *c, brim_value *dx) {
    brim_value twice = brim_scale(derive_wide(c->in[0]), 2);
    dx[0] = brim_mul(derive_wide(derive_dy(c)), twice);
}

// dy p a^(p - 1). A power of 0 is constant, and a^0 at a = 0 must not come to 0 times infinity.
void derive_pow(const rule_context *c, brim_value *dx) {
    double p = c->node->attr.scalar[0];
    if (p == 0) return;
    brim_value slope = derive_wide(derive_dy(c));
    if (p != 1) {
        brim_value a = derive_wide(c->in[0]);
        slope = brim_mul(slope, p == 2 ? a : brim_pow(a, p - 1));
    }
    dx[0] = brim_scale(slope, p);
}

// These have an op of their own: (saved value, dy).
void derive_tanh(const rule_context *c, brim_value *dx) {
    dx[0] = one_op(c, OP_TANH_BACKWARD, c->out[0], derive_dy(c));
}
void derive_sigmoid(const rule_context *c, brim_value *dx) {
    dx[0] = one_op(c, OP_SIGMOID_BACKWARD, c->out[0], derive_dy(c));
}
void derive_gelu(const rule_context *c, brim_value *dx) {
    dx[0] = one_op(c, OP_GELU_BACKWARD, c->in[0], derive_dy(c));
}
void derive_gelu_erf(const rule_context *c, brim_value *dx) {
    dx[0] = one_op(c, OP_GELU_ERF_BACKWARD, c->in[0], derive_dy(c));
}
void derive_silu(const rule_context *c, brim_value *dx) {
    dx[0] = one_op(c, OP_SILU_BACKWARD, c->in[0], derive_dy(c));
}

void derive_relu(const rule_context *c, brim_value *dx) {
    brim_value dy = derive_dy(c);
    brim_value above = brim_gt(c->in[0], derive_constant(c->in[0], 0));
    dx[0] = brim_where(above, dy, derive_constant(dy, 0));
}

void derive_clamp(const rule_context *c, brim_value *dx) {
    brim_value dy = derive_dy(c), a = c->in[0];
    brim_value low = derive_constant(a, c->node->attr.scalar[0]);
    brim_value high = derive_constant(a, c->node->attr.scalar[1]);
    brim_value inside = brim_mul(brim_ge(a, low), brim_le(a, high));
    dx[0] = brim_where(inside, dy, derive_constant(dy, 0));
}

void derive_add(const rule_context *c, brim_value *dx) {
    for (int i = 0; i < 2; i++)
        if (c->wanted[i]) dx[i] = derive_to_input(c, derive_dy(c), i);
}

void derive_sub(const rule_context *c, brim_value *dx) {
    if (c->wanted[0]) dx[0] = derive_to_input(c, derive_dy(c), 0);
    if (c->wanted[1]) dx[1] = brim_neg(derive_to_input(c, derive_dy(c), 1));
}

void derive_mul(const rule_context *c, brim_value *dx) {
    for (int i = 0; i < 2; i++)
        if (c->wanted[i]) dx[i] = derive_to_input(c, product(c, c->in[1 - i], i), i);
}

// da = dy / b, db = -(dy / b) y
void derive_div(const rule_context *c, brim_value *dx) {
    brim_value dy = derive_dy(c), b = c->in[1];
    if (c->wanted[0]) {
        bool wide = derive_needs_wide(c, 0);
        brim_value da = wide ? brim_div(derive_wide(dy), derive_wide(b)) : brim_div(dy, b);
        dx[0] = derive_to_input(c, da, 0);
    }
    if (c->wanted[1]) {
        brim_value ratio = brim_div(derive_wide(dy), derive_wide(b));
        brim_value db = brim_neg(brim_mul(ratio, derive_wide(c->out[0])));
        dx[1] = derive_to_input(c, db, 1);
    }
}

// dy where the operand wins, half of it at a tie: factors that are exact in any dtype.
static void extremum(const rule_context *c, brim_value *dx,
                     brim_value (*wins)(brim_value, brim_value)) {
    brim_value half_tie = brim_scale(brim_eq(c->in[0], c->in[1]), 0.5);
    for (int i = 0; i < 2; i++) {
        if (!c->wanted[i]) continue;
        brim_value share = brim_add(wins(c->in[i], c->in[1 - i]), half_tie);
        dx[i] = derive_to_input(c, brim_mul(derive_dy(c), share), i);
    }
}
void derive_maximum(const rule_context *c, brim_value *dx) {
    extremum(c, dx, brim_gt);
}
void derive_minimum(const rule_context *c, brim_value *dx) {
    extremum(c, dx, brim_lt);
}

// The condition is piecewise constant: it gets no gradient.
void derive_where(const rule_context *c, brim_value *dx) {
    brim_value dy = derive_dy(c), zero = derive_constant(dy, 0);
    if (c->wanted[1]) dx[1] = derive_to_input(c, brim_where(c->in[0], dy, zero), 1);
    if (c->wanted[2]) dx[2] = derive_to_input(c, brim_where(c->in[0], zero, dy), 2);
}
