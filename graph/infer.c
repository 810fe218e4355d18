#include "graph/infer_rules.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include "core/dtype.h"
#include "graph/shape.h"

const infer_rule infer_rules[OP_COUNT] = {
    [OP_CONSTANT] = infer_constant,
    [OP_COPY] = infer_unary_any,
    [OP_CAST] = infer_cast,
    [OP_NEG] = infer_unary_any,
    [OP_ABS] = infer_unary_any,
    [OP_EXP] = infer_unary_float,
    [OP_LOG] = infer_unary_float,
    [OP_SQRT] = infer_unary_float,
    [OP_RSQRT] = infer_unary_float,
    [OP_SQUARE] = infer_unary_float,
    [OP_POW] = infer_pow,
    [OP_TANH] = infer_unary_float,
    [OP_SIGMOID] = infer_unary_float,
    [OP_RELU] = infer_unary_float,
    [OP_GELU] = infer_unary_float,
    [OP_GELU_ERF] = infer_unary_float,
    [OP_SILU] = infer_unary_float,
    [OP_CLAMP] = infer_clamp,
    [OP_IS_FINITE] = infer_unary_float,
    [OP_ADD] = infer_binary_any,
    [OP_SUB] = infer_binary_any,
    [OP_MUL] = infer_binary_any,
    [OP_DIV] = infer_binary_float,
    [OP_MAXIMUM] = infer_binary_any,
    [OP_MINIMUM] = infer_binary_any,
    [OP_LT] = infer_binary_any,
    [OP_LE] = infer_binary_any,
    [OP_GT] = infer_binary_any,
    [OP_GE] = infer_binary_any,
    [OP_EQ] = infer_binary_any,
    [OP_NE] = infer_binary_any,
    [OP_GELU_BACKWARD] = infer_binary_float,
    [OP_GELU_ERF_BACKWARD] = infer_binary_float,
    [OP_SILU_BACKWARD] = infer_binary_float,
    [OP_TANH_BACKWARD] = infer_binary_float,
    [OP_SIGMOID_BACKWARD] = infer_binary_float,
    [OP_WHERE] = infer_where,
    [OP_FUSED] = infer_fused,
    [OP_RESHAPE] = infer_reshape,
    [OP_PERMUTE] = infer_permute,
    [OP_SLICE] = infer_slice,
    [OP_BROADCAST] = infer_broadcast,
    [OP_CONCAT] = infer_concat,
    [OP_PAD] = infer_pad,
    [OP_MATMUL] = infer_matmul,
    [OP_SUM] = infer_reduce,
    [OP_SUM_SQUARES] = infer_reduce,
    [OP_MAX] = infer_reduce,
    [OP_SOFTMAX] = infer_softmax,
    [OP_SOFTMAX_BACKWARD] = infer_softmax_backward,
    [OP_LOG_SOFTMAX] = infer_softmax,
    [OP_LOG_SOFTMAX_BACKWARD] = infer_softmax_backward,
    [OP_LAYER_NORM] = infer_layer_norm,
    [OP_LAYER_NORM_BACKWARD] = infer_layer_norm_backward,
    [OP_LAYER_NORM_BACKWARD_PARAMS] = infer_layer_norm_backward_params,
    [OP_RMS_NORM] = infer_rms_norm,
    [OP_RMS_NORM_BACKWARD] = infer_rms_norm_backward,
    [OP_RMS_NORM_BACKWARD_PARAMS] = infer_rms_norm_backward_params,
    [OP_CROSS_ENTROPY] = infer_cross_entropy,
    [OP_CROSS_ENTROPY_BACKWARD] = infer_cross_entropy_backward,
    [OP_LINEAR_CROSS_ENTROPY] = infer_linear_cross_entropy,
    [OP_LINEAR_CROSS_ENTROPY_BACKWARD] = infer_linear_cross_entropy_backward,
    [OP_ATTENTION] = infer_attention,
    [OP_ATTENTION_BACKWARD] = infer_attention_backward,
    [OP_EMBEDDING] = infer_embedding,
    [OP_EMBEDDING_BACKWARD] = infer_embedding_backward,
    [OP_ROTARY] = infer_rotary,
    [OP_DROPOUT] = infer_dropout,
    [OP_ACCUMULATE] = infer_accumulate,
    [OP_ADAMW] = infer_adamw,
    [OP_ADAMW_CAST] = infer_adamw,
    [OP_ADAMW_Q8] = infer_adamw_q8,
    [OP_ADAMW_Q8_CAST] = infer_adamw_q8,
    [OP_SGD] = infer_sgd,
    [OP_SGD_CAST] = infer_sgd,
};

bool infer_refuse(inference *i, brim_status status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    if (vsnprintf(i->reason, sizeof i->reason, format, arguments) < 0) i->reason[0] = '\0';
    va_end(arguments);
    i->status = status;
    return false;
}

bool infer_float(inference *i, int input) {
    if (dtype_is_float(i->input[input].dtype)) return true;
    return infer_refuse(i, BRIM_SHAPE, "operand %d is %s, a float type is expected", input + 1,
                        brim_dtype_name(i->input[input].dtype));
}

bool infer_is(inference *i, int input, brim_dtype dtype) {
    if (i->input[input].dtype == dtype) return true;
    return infer_refuse(i, BRIM_SHAPE, "operand %d is %s, %s is expected", input + 1,
                        brim_dtype_name(i->input[input].dtype), brim_dtype_name(dtype));
}

bool infer_same_dtype(inference *i, int a, int b) {
    brim_dtype x = i->input[a].dtype, y = i->input[b].dtype;
    if (x == y) return true;
    return infer_refuse(i, BRIM_SHAPE,
                        "operands %d and %d are %s and %s, one dtype is expected (brim_cast)",
                        a + 1, b + 1, brim_dtype_name(x), brim_dtype_name(y));
}

bool infer_rank(inference *i, int input, int least, int most) {
    int rank = i->input[input].shape.rank;
    if (rank >= least && rank <= most) return true;
    if (least == most)
        return infer_refuse(i, BRIM_SHAPE, "operand %d has %d axes, %d are expected", input + 1,
                            rank, least);
    return infer_refuse(i, BRIM_SHAPE, "operand %d has %d axes, at least %d are expected",
                        input + 1, rank, least);
}

bool infer_same_shape(inference *i, int a, int b, const char *what_a, const char *what_b) {
    if (shape_equal(&i->input[a].shape, &i->input[b].shape)) return true;
    return infer_refuse(i, BRIM_SHAPE, "%s and %s must have one shape", what_a, what_b);
}

bool infer_shape_is(inference *i, int input, const shape *expected, const char *what) {
    if (shape_equal(&i->input[input].shape, expected)) return true;
    char found[SHAPE_TEXT], wanted[SHAPE_TEXT];
    return infer_refuse(i, BRIM_SHAPE, "%s is %s, %s is expected", what,
                        shape_print(&i->input[input].shape, found, sizeof found),
                        shape_print(expected, wanted, sizeof wanted));
}

bool infer_set(inference *i, int output, brim_dtype dtype, const shape *s) {
    i->output[output] = (tensor_type){dtype, *s};
    return true;
}

shape infer_rows(const shape *s) {
    shape rows = *s;
    if (rows.rank) rows.dim[--rows.rank] = 0;
    return rows;
}

// Which dtypes output 0 may be asked to have beside the one that the rule finds: those in which the
// op's kernels can write their f32 sum.
static bool may_write(const inference *i, brim_dtype dtype) {
    switch (i->op) {
    case OP_MATMUL:
    case OP_EMBEDDING_BACKWARD:
    case OP_LINEAR_CROSS_ENTROPY_BACKWARD:
        return dtype == BRIM_F32;
    case OP_SUM:
        return dtype == i->input[0].dtype;
    default:
        return false;
    }
}

static bool apply_request(inference *i) {
    tensor_type *out = &i->output[0];
    if (i->dtype && *i->dtype != out->dtype) {
        if (!may_write(i, *i->dtype))
            return infer_refuse(i, BRIM_ARGUMENT, "the result is %s and cannot be %s",
                                brim_dtype_name(out->dtype), brim_dtype_name(*i->dtype));
        out->dtype = *i->dtype;
    }
    if (i->shape && !shape_equal(i->shape, &out->shape)) {
        char found[SHAPE_TEXT], asked[SHAPE_TEXT];
        return infer_refuse(i, BRIM_SHAPE, "the result is %s and cannot be %s",
                            shape_print(&out->shape, found, sizeof found),
                            shape_print(i->shape, asked, sizeof asked));
    }
    return true;
}

static bool refuse_result(inference *i, const shape *s, const char *reason) {
    char text[SHAPE_TEXT];
    return infer_refuse(i, BRIM_SHAPE, "the result would be %s: %s",
                        shape_print(s, text, sizeof text), reason);
}

bool infer_types(inference *i) {
    i->outputs = op_table[i->op].outputs;
    if (i->dtype && (unsigned)*i->dtype >= BRIM_DTYPE_COUNT)
        return infer_refuse(i, BRIM_ARGUMENT, "%d is no dtype", (int)*i->dtype);
    char reason[200];
    if (i->shape && !shape_check(i->shape, BRIM_F32, reason, sizeof reason))
        return refuse_result(i, i->shape, reason);
    if (!infer_rules[i->op](i) || !apply_request(i)) return false;
    for (int k = 0; k < i->outputs; k++) {
        if (!shape_check(&i->output[k].shape, i->output[k].dtype, reason, sizeof reason))
            return refuse_result(i, &i->output[k].shape, reason);
    }
    return true;
}
