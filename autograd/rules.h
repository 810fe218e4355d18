// What derivative rules share. A rule makes the gradients of a node's inputs with the constructors
// that scripts use.
//
//   1. derive_dy: the gradient of output 0.
//   2. derive_wide: a value in f32, for derivatives of several steps, each of which would otherwise
//      round to 16 bits.
//   3. derive_to_input: sums a gradient over the axes along which an operand was broadcast.
#ifndef BRIM_AUTOGRAD_RULES_H
#define BRIM_AUTOGRAD_RULES_H

#include "autograd/autograd.h"

static inline brim_value derive_dy(const rule_context *c) {
    return c->gradient_out[0];
}

static inline const graph_value *derive_value(brim_value x) {
    return x.id < 0 ? NULL : &x.graph->value[x.id];
}

static inline brim_value derive_wide(brim_value x) {
    const graph_value *v = derive_value(x);
    return v && v->dtype != BRIM_F32 ? brim_cast(x, BRIM_F32) : x;
}

// A scalar that can be an operand beside `like`.
brim_value derive_constant(brim_value like, double value);

// True if the gradient of that input should be made in f32: because it is wanted so, or because it
// is summed over broadcast axes afterwards.
bool derive_needs_wide(const rule_context *c, int input);

// The sum of gradient (of the output's shape, or one that broadcasts from the input's) over the
// input's broadcast axes; it has the input's shape and the dtype that is asked for.
brim_value derive_to_input(const rule_context *c, brim_value gradient, int input);

// Fails if any output but the first has a gradient: what no script can ask for has no rule.
bool derive_only_first(const rule_context *c);

// clang-format off
#define BRIM_DERIVATIVE_RULES(X)                                                                   \
    X(COPY, copy) X(CAST, cast) X(NEG, neg) X(ABS, abs) X(EXP, exp) X(LOG, log) X(SQRT, sqrt)      \
    X(RSQRT, rsqrt) X(SQUARE, square) X(POW, pow) X(TANH, tanh) X(SIGMOID, sigmoid) X(RELU, relu)  \
    X(GELU, gelu) X(GELU_ERF, gelu_erf) X(SILU, silu) X(CLAMP, clamp) X(ADD, add) X(SUB, sub)      \
    X(MUL, mul) X(DIV, div) X(MAXIMUM, maximum) X(MINIMUM, minimum) X(WHERE, where)                \
    X(RESHAPE, reshape) X(PERMUTE, permute) X(SLICE, slice) X(BROADCAST, broadcast)                \
    X(CONCAT, concat) X(PAD, pad) X(MATMUL, matmul) X(SUM, sum) X(SUM_SQUARES, sum_squares)        \
    X(MAX, max) X(SOFTMAX, softmax) X(LOG_SOFTMAX, log_softmax) X(LAYER_NORM, layer_norm)          \
    X(RMS_NORM, rms_norm) X(CROSS_ENTROPY, cross_entropy)                                          \
    X(LINEAR_CROSS_ENTROPY, linear_cross_entropy) X(ATTENTION, attention) X(EMBEDDING, embedding)  \
    X(ROTARY, rotary) X(DROPOUT, dropout)
// clang-format on

#define X(id, name) void derive_##name(const rule_context *c, brim_value *gradient_in);
BRIM_DERIVATIVE_RULES(X)
#undef X

#endif
