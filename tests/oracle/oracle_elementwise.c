// Elementwise ops, alone and in chains.
#include "tests/oracle/oracle.h"

#include <math.h>
#include <stdlib.h>

// One element: operands a, b, c and constants p, q in; the result and its magnitude out.
typedef struct element {
    double a, b, c, p, q;
    double magnitude;
} element;
typedef double (*element_rule)(element *e);

// f32 arithmetic that IEEE determines: the result is that of one rounding to f32 (double is wide
// enough for rounding twice to do no harm), before it is stored. Without a magnitude it must be met
// to the bit.
#define EXACT(name, expression)                                                                    \
    static double name(element *e) {                                                               \
        double a = e->a, b = e->b, c = e->c, p = e->p, q = e->q;                                   \
        (void)a, (void)b, (void)c, (void)p, (void)q;                                               \
        return expression;                                                                         \
    }
// A magnitude beside the result y.
#define INEXACT(name, expression, size)                                                            \
    static double name(element *e) {                                                               \
        double a = e->a, b = e->b, p = e->p;                                                       \
        (void)a, (void)b, (void)p;                                                                 \
        double y = expression;                                                                     \
        e->magnitude = size;                                                                       \
        return y;                                                                                  \
    }

static const double pi = 3.14159265358979323846;

static double nan_max(double a, double b) {
    return isnan(a) || isnan(b) ? NAN : a > b ? a : b;
}
static double nan_min(double a, double b) {
    return isnan(a) || isnan(b) ? NAN : a < b ? a : b;
}
static double sigmoid_of(double x) {
    return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x));
}

EXACT(constant, p)
EXACT(copy, a)
EXACT(neg, -a)
EXACT(absolute, fabs(a))
EXACT(square, a *a)
EXACT(relu, isnan(a) ? a : a > 0 ? a : 0)
EXACT(clamp, nan_min(nan_max(a, p), q))
EXACT(is_finite, isfinite(a) ? 1 : 0)
EXACT(add, a + b)
EXACT(sub, a - b)
EXACT(mul, a *b)
EXACT(maximum, nan_max(a, b))
EXACT(minimum, nan_min(a, b))
EXACT(lt, a < b)
EXACT(le, a <= b)
EXACT(gt, a > b)
EXACT(ge, a >= b)
EXACT(eq, a == b)
EXACT(ne, a != b)
EXACT(where, a != 0 ? b : c)

// Division and square root are correctly rounded on most devices, and within a few units on all.
INEXACT(divide, a / b, fabs(y))
INEXACT(square_root, sqrt(a), fabs(y))
INEXACT(rsqrt, 1 / sqrt(a), fabs(y))
INEXACT(exponential, exp(a), fabs(y))
INEXACT(logarithm, log(a), fabs(y))
// exp(p log a): an error of log a is multiplied by p. OpenCL's own pow may be off by 16 units in
// the last place.
INEXACT(power, pow(a, p), fabs(y) * (4 + (a != 0 ? fabs(p * log(fabs(a))) : 0)))
// OpenCL's own tanh may be off by 5 units in the last place; exp by 3, and the division after it
// by 2.5.
INEXACT(hyperbolic_tangent, tanh(a), 1.25 * fabs(y))
INEXACT(sigmoid, sigmoid_of(a), 1.5 * fabs(y))
// A sigmoid below f32's least normal number may come out as 0.
INEXACT(silu, a *sigmoid_of(a), 1.5 * fabs(y) + fabs(a) * ORACLE_FLUSHED)
INEXACT(tanh_backward, b *(1 - a * a), fabs(b) * (1 + a * a))
INEXACT(sigmoid_backward, b *(a *(1 - a)), fabs(b *a) * (1 + fabs(a)))

static double silu_backward(element *e) {
    double s = sigmoid_of(e->a), x = e->a;
    e->magnitude = fabs(e->b) * (s + ORACLE_FLUSHED) * (1 + fabs(x) * (2 - s)); // 1 - s cancels
    return e->b * s * (1 + x * (1 - s));
}

// a/2 (1 + t) cancels for negative a: an error of t counts by itself.
static double gelu(element *e) {
    double x = e->a, z = sqrt(2 / pi) * (x + 0.044715 * x * x * x), t = tanh(z);
    e->magnitude = 0.5 * fabs(x) * (1 + 1.25 * fabs(t) + (1 - t * t) * fabs(z));
    return isinf(x) ? (x > 0 ? x : NAN) : 0.5 * x * (1 + t);
}
static double at_infinity(element *e) {
    e->magnitude = 0;
    return e->a > 0 ? e->b : 0 * e->b;
}
static double gelu_backward(element *e) {
    double x = e->a, z = sqrt(2 / pi) * (x + 0.044715 * x * x * x), t = tanh(z);
    double slope = sqrt(2 / pi) * (1 + 3 * 0.044715 * x * x);
    e->magnitude =
        fabs(e->b) * (0.5 * (1 + fabs(t) + (1 - t * t) * fabs(z)) +
                      0.5 * fabs(x) * slope * (1 + t * t + (1 - t * t) * 2 * fabs(t * z)));
    return isinf(x) ? at_infinity(e) : e->b * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * slope);
}
// OpenCL's own erf may be off by 16 units in the last place.
static double gelu_erf(element *e) {
    double x = e->a, z = x / sqrt(2), r = erf(z);
    e->magnitude = 0.5 * fabs(x) * (1 + 4 * fabs(r) + 2 / sqrt(pi) * exp(-z * z) * fabs(z));
    return isinf(x) ? (x > 0 ? x : NAN) : 0.5 * x * (1 + r);
}
static double gelu_erf_backward(element *e) {
    double x = e->a, z = x / sqrt(2), r = erf(z), density = exp(-z * z) / sqrt(2 * pi);
    e->magnitude = fabs(e->b) * (0.5 * (1 + 4 * fabs(r) + 2 / sqrt(pi) * exp(-z * z) * fabs(z)) +
                                 fabs(x) * density * (1 + z * z));
    return isinf(x) ? at_infinity(e) : e->b * (0.5 * (1 + r) + x * density);
}

static const element_rule element_rules[OP_COUNT] = {
    [OP_CONSTANT] = constant,
    [OP_COPY] = copy,
    [OP_CAST] = copy,
    [OP_NEG] = neg,
    [OP_ABS] = absolute,
    [OP_EXP] = exponential,
    [OP_LOG] = logarithm,
    [OP_SQRT] = square_root,
    [OP_RSQRT] = rsqrt,
    [OP_SQUARE] = square,
    [OP_POW] = power,
    [OP_TANH] = hyperbolic_tangent,
    [OP_SIGMOID] = sigmoid,
    [OP_RELU] = relu,
    [OP_GELU] = gelu,
    [OP_GELU_ERF] = gelu_erf,
    [OP_SILU] = silu,
    [OP_CLAMP] = clamp,
    [OP_IS_FINITE] = is_finite,
    [OP_ADD] = add,
    [OP_SUB] = sub,
    [OP_MUL] = mul,
    [OP_DIV] = divide,
    [OP_MAXIMUM] = maximum,
    [OP_MINIMUM] = minimum,
    [OP_LT] = lt,
    [OP_LE] = le,
    [OP_GT] = gt,
    [OP_GE] = ge,
    [OP_EQ] = eq,
    [OP_NE] = ne,
    [OP_GELU_BACKWARD] = gelu_backward,
    [OP_GELU_ERF_BACKWARD] = gelu_erf_backward,
    [OP_SILU_BACKWARD] = silu_backward,
    [OP_TANH_BACKWARD] = tanh_backward,
    [OP_SIGMOID_BACKWARD] = sigmoid_backward,
    [OP_WHERE] = where,
};

// The result of one step as it is before it is stored: in f32, if rounding is asked for or the op
// is one that IEEE determines.
static double evaluate(op_id op, element *e, brim_dtype dtype, bool exact) {
    e->magnitude = 0;
    double y = element_rules[op](e);
    if (dtype == BRIM_I32) return op == OP_CAST ? oracle_round(BRIM_I32, y) : y;
    return exact && e->magnitude == 0 ? oracle_round(BRIM_F32, y) : y;
}

// An op's f32 result is only worth knowing where it is compared with a device; where derivatives
// are checked against differences (a graph that is not rounded) it would be noise.
void oracle_elementwise(const oracle_context *c) {
    oracle_tensor *y = c->out;
    for (int64_t i = 0; i < y->count; i++) {
        int64_t at[BRIM_MAX_DIMS];
        oracle_split(&y->shape, i, at);
        double operand[3] = {0};
        for (int32_t k = 0; k < c->node->inputs; k++)
            operand[k] =
                c->in[k]->data[oracle_broadcast_index(&c->in[k]->shape, y->shape.rank, at)];
        element e = {operand[0], operand[1], operand[2], 0, 0, 0};
        if (op_table[c->node->op].attr == ATTR_SCALARS) {
            e.p = c->node->attr.scalar[0];
            e.q = c->node->attr.scalar[1];
        }
        y->data[i] = evaluate(c->node->op, &e, y->dtype, c->oracle->round);
        y->magnitude[i] = e.magnitude;
    }
}

static double chain_operand(const oracle_context *c, int id, const double *result,
                            const shape *whole, const int64_t *at) {
    if (id >= 0) return result[id];
    const oracle_tensor *t = &c->oracle->value[c->node->input[~id]];
    return t->data[oracle_broadcast_index(&t->shape, whole->rank, at)];
}

// Step by step for each element of the chain's shape; a step whose own shape is smaller just comes
// to the same again.
void oracle_fused(const oracle_context *c) {
    const chain *steps = c->node->attr.chain;
    const shape *whole = &c->out->shape; // outputs have the chain's shape
    double *result = malloc(2 * (size_t)steps->steps * sizeof *result),
           *magnitude = result + steps->steps;
    for (int64_t i = 0; result && i < c->out->count; i++) {
        int64_t at[BRIM_MAX_DIMS];
        oracle_split(whole, i, at);
        for (int k = 0; k < steps->steps; k++) {
            const chain_step *s = &steps->step[k];
            double operand[3] = {0};
            for (int o = 0; o < op_table[s->op].inputs; o++)
                operand[o] = chain_operand(c, s->operand[o], result, whole, at);
            element e = {operand[0], operand[1], operand[2], s->scalar[0], s->scalar[1], 0};
            result[k] = evaluate(s->op, &e, s->dtype, c->oracle->round);
            if (c->oracle->round) result[k] = oracle_round(s->dtype, result[k]);
            magnitude[k] = e.magnitude;
        }
        for (int32_t j = 0; j < c->node->outputs; j++) {
            c->out[j].data[i] = result[steps->output[j]];
            c->out[j].magnitude[i] = magnitude[steps->output[j]];
        }
    }
    free(result);
}
