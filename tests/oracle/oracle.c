#include "tests/oracle/oracle.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"

static void view_copy(const oracle_context *c) {
    memcpy(c->out->data, c->in[0]->data, (size_t)c->in[0]->count * sizeof(double));
}
void oracle_reshape(const oracle_context *c) {
    view_copy(c);
}

#define ELEMENTWISE(id) [OP_##id] = oracle_elementwise
const oracle_rule oracle_rules[OP_COUNT] = {
    ELEMENTWISE(CONSTANT),
    ELEMENTWISE(COPY),
    ELEMENTWISE(CAST),
    ELEMENTWISE(NEG),
    ELEMENTWISE(ABS),
    ELEMENTWISE(EXP),
    ELEMENTWISE(LOG),
    ELEMENTWISE(SQRT),
    ELEMENTWISE(RSQRT),
    ELEMENTWISE(SQUARE),
    ELEMENTWISE(POW),
    ELEMENTWISE(TANH),
    ELEMENTWISE(SIGMOID),
    ELEMENTWISE(RELU),
    ELEMENTWISE(GELU),
    ELEMENTWISE(GELU_ERF),
    ELEMENTWISE(SILU),
    ELEMENTWISE(CLAMP),
    ELEMENTWISE(IS_FINITE),
    ELEMENTWISE(ADD),
    ELEMENTWISE(SUB),
    ELEMENTWISE(MUL),
    ELEMENTWISE(DIV),
    ELEMENTWISE(MAXIMUM),
    ELEMENTWISE(MINIMUM),
    ELEMENTWISE(LT),
    ELEMENTWISE(LE),
    ELEMENTWISE(GT),
    ELEMENTWISE(GE),
    ELEMENTWISE(EQ),
    ELEMENTWISE(NE),
    ELEMENTWISE(GELU_BACKWARD),
    ELEMENTWISE(GELU_ERF_BACKWARD),
    ELEMENTWISE(SILU_BACKWARD),
    ELEMENTWISE(TANH_BACKWARD),
    ELEMENTWISE(SIGMOID_BACKWARD),
    ELEMENTWISE(WHERE),
    [OP_FUSED] = oracle_fused,
    [OP_RESHAPE] = oracle_reshape,
    [OP_PERMUTE] = oracle_permute,
    [OP_SLICE] = oracle_slice,
    [OP_BROADCAST] = oracle_broadcast,
    [OP_CONCAT] = oracle_concat,
    [OP_PAD] = oracle_pad,
    [OP_MATMUL] = oracle_matmul,
    [OP_SUM] = oracle_sum,
    [OP_SUM_SQUARES] = oracle_sum_squares,
    [OP_MAX] = oracle_max,
    [OP_SOFTMAX] = oracle_softmax,
    [OP_SOFTMAX_BACKWARD] = oracle_softmax_backward,
    [OP_LOG_SOFTMAX] = oracle_log_softmax,
    [OP_LOG_SOFTMAX_BACKWARD] = oracle_log_softmax_backward,
    [OP_LAYER_NORM] = oracle_layer_norm,
    [OP_LAYER_NORM_BACKWARD] = oracle_layer_norm_backward,
    [OP_LAYER_NORM_BACKWARD_PARAMS] = oracle_layer_norm_backward_params,
    [OP_RMS_NORM] = oracle_rms_norm,
    [OP_RMS_NORM_BACKWARD] = oracle_rms_norm_backward,
    [OP_RMS_NORM_BACKWARD_PARAMS] = oracle_rms_norm_backward_params,
    [OP_CROSS_ENTROPY] = oracle_cross_entropy,
    [OP_CROSS_ENTROPY_BACKWARD] = oracle_cross_entropy_backward,
    [OP_LINEAR_CROSS_ENTROPY] = oracle_linear_cross_entropy,
    [OP_LINEAR_CROSS_ENTROPY_BACKWARD] = oracle_linear_cross_entropy_backward,
    [OP_ATTENTION] = oracle_attention,
    [OP_ATTENTION_BACKWARD] = oracle_attention_backward,
    [OP_EMBEDDING] = oracle_embedding,
    [OP_EMBEDDING_BACKWARD] = oracle_embedding_backward,
    [OP_ROTARY] = oracle_rotary,
    [OP_DROPOUT] = oracle_dropout,
    [OP_ACCUMULATE] = oracle_accumulate,
    [OP_ADAMW] = oracle_adamw,
    [OP_ADAMW_CAST] = oracle_adamw,
    [OP_ADAMW_Q8] = oracle_adamw_q8,
    [OP_ADAMW_Q8_CAST] = oracle_adamw_q8,
    [OP_SGD] = oracle_sgd,
    [OP_SGD_CAST] = oracle_sgd,
};

oracle *oracle_create(const brim_graph *g, brim_error *err) {
    oracle *o = brim_calloc_array(1, sizeof *o, err);
    if (!o) return NULL;
    o->graph = g;
    o->first_micro = true;
    o->value = arena_array(&o->memory, (size_t)g->values, sizeof *o->value, err);
    for (value_id v = 0; o->value && v < g->values; v++) {
        oracle_tensor *t = &o->value[v];
        t->dtype = g->value[v].dtype;
        t->shape = g->value[v].shape;
        t->count = shape_elements(&t->shape);
    }
    if (failed(err)) {
        oracle_free(o);
        return NULL;
    }
    return o;
}

void oracle_free(oracle *o) {
    if (!o) return;
    arena_free(&o->memory);
    free(o);
}

static bool prepare(oracle *o, oracle_tensor *t, brim_error *err) {
    size_t count = (size_t)t->count;
    if (!t->data) t->data = arena_array(&o->memory, count, sizeof(double), err);
    return t->data != NULL;
}

void oracle_set(oracle *o, value_id v, const double *data, brim_error *err) {
    oracle_tensor *t = &o->value[v];
    if (prepare(o, t, err)) memcpy(t->data, data, (size_t)t->count * sizeof *data);
}

brim_status oracle_run_node(oracle *o, node_id n, brim_error *err) {
    if (failed(err)) return err->status;
    const graph_node *node = &o->graph->node[n];
    oracle_context c = {.oracle = o, .node = node, .out = &o->value[node->first_output]};
    for (int32_t i = 0; i < node->inputs; i++) {
        const oracle_tensor *t = &o->value[node->input[i]];
        if (!t->data)
            return brim_fail(err, BRIM_ARGUMENT, "oracle: input %d (value %d) of %s has no data", i,
                             node->input[i], op_table[node->op].name);
        if (i < 16) c.in[i] = t;
    }
    for (int32_t j = 0; j < node->outputs; j++) {
        oracle_tensor *t = &c.out[j];
        if (!prepare(o, t, err)) return err->status;
        if (!t->magnitude)
            t->magnitude = arena_array(&o->memory, (size_t)t->count, sizeof(double), err);
        if (!t->magnitude) return err->status;
        memset(t->magnitude, 0, (size_t)t->count * sizeof(double));
    }
    if (!oracle_rules[node->op])
        return brim_fail(err, BRIM_UNSUPPORTED, "oracle: no rule for %s", op_table[node->op].name);
    oracle_rules[node->op](&c);
    return BRIM_OK;
}

brim_status oracle_run(oracle *o, brim_error *err) {
    for (node_id n = 0; n < o->graph->nodes && !failed(err); n++) {
        oracle_run_node(o, n, err);
        const graph_node *node = &o->graph->node[n];
        for (int32_t j = 0; o->round && !failed(err) && j < node->outputs; j++) {
            oracle_tensor *t = &o->value[node->first_output + j];
            for (int64_t i = 0; i < t->count; i++) t->data[i] = oracle_round(t->dtype, t->data[i]);
        }
    }
    return err->status;
}

// Rounding ---------------------------------------------------------------------------------------

// Digits of the significand, the exponent of the least normal number, and the greatest number.
typedef struct format {
    int digits, least;
    double greatest;
} format;
static const format formats[BRIM_DTYPE_COUNT] = {
    [BRIM_F32] = {24, -126, 0x1.fffffep127},
    [BRIM_F16] = {11, -14, 65504},
    [BRIM_BF16] = {8, -126, 0x1.fep127},
};

// The distance between neighbours of that format at x.
static double spacing(brim_dtype dtype, double x) {
    const format *f = &formats[dtype];
    int exponent;
    frexp(x, &exponent);
    exponent -= 1;
    if (x == 0 || exponent < f->least) exponent = f->least;
    return ldexp(1, exponent - (f->digits - 1));
}

double oracle_round(brim_dtype dtype, double x) {
    if (dtype == BRIM_I32) {
        if (isnan(x)) return 0;
        double t = trunc(x);
        return t > INT32_MAX ? INT32_MAX : t < INT32_MIN ? INT32_MIN : t;
    }
    if (!isfinite(x)) return x;
    double unit = spacing(dtype, x);
    double rounded = nearbyint(x / unit) * unit; // both exact but for the rounding to an integer
    if (fabs(rounded) > formats[dtype].greatest) return copysign(INFINITY, x);
    return copysign(rounded, x);
}

double oracle_tolerance(const oracle_tensor *t, int64_t i) {
    double x = t->data[i], error = ORACLE_C * ORACLE_UNIT * (t->magnitude ? t->magnitude[i] : 0);
    if (t->dtype == BRIM_I32) return 0;
    // Where the result may be off before it is stored, storing adds half a unit; where it may not,
    // the rounded result is known.
    if (error > 0) error += 0.5 * spacing(t->dtype, fabs(x) + error);
    // f32's subnormal results may be flushed by devices that say so.
    return error > 0 ? error + 0x1p-126 : 0;
}

bool oracle_accepts(const oracle_tensor *t, int64_t i, double device) {
    double x = t->data[i], rounded = oracle_round(t->dtype, x);
    if (isnan(x)) return isnan(device);
    if (device == rounded) return true;
    if (isinf(x)) return false;
    double tolerance = oracle_tolerance(t, i);
    if (isinf(device)) // the exact result may be so near the greatest number that its error makes
                       // it infinite
        return oracle_round(t->dtype, x + copysign(tolerance, device)) == device;
    if (tolerance == 0 && t->dtype != BRIM_I32) return fabs(device - rounded) <= 0x1p-126;
    return fabs(device - x) <= tolerance;
}

// Indices ----------------------------------------------------------------------------------------

void oracle_split(const shape *s, int64_t index, int64_t *at) {
    for (int32_t i = s->rank - 1; i >= 0; i--) {
        at[i] = index % s->dim[i];
        index /= s->dim[i];
    }
}

int64_t oracle_join(const shape *s, const int64_t *at) {
    int64_t index = 0;
    for (int32_t i = 0; i < s->rank; i++) index = index * s->dim[i] + at[i];
    return index;
}

int64_t oracle_broadcast_index(const shape *t, int32_t rank, const int64_t *at) {
    int64_t index = 0;
    for (int32_t i = 0; i < t->rank; i++) {
        int64_t x = t->dim[i] == 1 ? 0 : at[rank - t->rank + i];
        index = index * t->dim[i] + x;
    }
    return index;
}
