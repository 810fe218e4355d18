// The shape and dtype rules: for each op types that it takes, with what it makes of them, and types
// that it refuses.
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "test_graph_infer.h"

typedef struct infer_case {
    op_id op;
    const char *inputs; // "f32[2,3] i32[]"
    brim_attr attr;
    const char *asked;    // of output 0: "", "f32" or "f32[2,3]"
    const char *expected; // types, or "!" and a part of the reason
} infer_case;

// t0 = mul(a0, a1); t1 = constant(2); t2 = add(t0, t1); t3 = cast(t2) to bf16; outputs t2, t3
static const chain_step sound_steps[] = {
    {OP_MUL, BRIM_F32, {~0, ~1}, {0}},
    {OP_CONSTANT, BRIM_F32, {0}, {2}},
    {OP_ADD, BRIM_F32, {0, 1}, {0}},
    {OP_CAST, BRIM_BF16, {2}, {0}},
};
static const int16_t sound_outputs[] = {2, 3}, small_output[] = {1}, no_output[] = {4};
static const chain sound_chain = {4, 2, sound_steps, sound_outputs};
static const chain small_output_chain = {4, 1, sound_steps, small_output};
static const chain no_output_chain = {4, 1, sound_steps, no_output};
static const int16_t first_output[] = {0};
static const chain null_chain = {1, 1, NULL, first_output};
static const chain empty_chain = {0, 1, sound_steps, sound_outputs};
static const chain_step forward_steps[] = {{OP_NEG, BRIM_F32, {0}, {0}}};
static const chain_step stray_steps[] = {{OP_NEG, BRIM_F32, {~2}, {0}}};
static const chain_step view_steps[] = {{OP_RESHAPE, BRIM_F32, {~0}, {0}}};
static const chain_step dtype_steps[] = {{OP_NEG, BRIM_F16, {~0}, {0}}};
static const chain forward_chain = {1, 1, forward_steps, first_output};
static const chain stray_chain = {1, 1, stray_steps, first_output};
static const chain view_chain = {1, 1, view_steps, first_output};
static const chain dtype_chain = {1, 1, dtype_steps, first_output};

#define FLOAT_UNARY(id)                                                                            \
    {OP_##id, "f16[2,3]", NO_ATTR, "", "f16[2,3]"}, {                                              \
        OP_##id, "i32[2,3]", NO_ATTR, "", "!i32, a float"                                          \
    }
#define ANY_UNARY(id)                                                                              \
    {OP_##id, "i32[2,3]", NO_ATTR, "", "i32[2,3]"}, {                                              \
        OP_##id, "bf16[]", NO_ATTR, "f32", "!is bf16 and cannot be f32"                            \
    }
#define ANY_BINARY(id)                                                                             \
    {OP_##id, "f32[4,1,3] f32[2,1]", NO_ATTR, "", "f32[4,2,3]"},                                   \
        {OP_##id, "i32[2] i32[]", NO_ATTR, "", "i32[2]"},                                          \
        {OP_##id, "f32[4,2,3] f32[4,3]", NO_ATTR, "", "!extents 2 and 4 (axis -2) differ"}, {      \
        OP_##id, "f32[2] bf16[2]", NO_ATTR, "", "!are f32 and bf16, one dtype"                     \
    }
#define FLOAT_BINARY(id)                                                                           \
    {OP_##id, "bf16[2] bf16[3,2]", NO_ATTR, "", "bf16[3,2]"},                                      \
        {OP_##id, "f32[2] f32[3]", NO_ATTR, "", "!extents 2 and 3"}, {                             \
        OP_##id, "i32[2] i32[2]", NO_ATTR, "", "!i32, a float"                                     \
    }
#define NORM_TYPES "bf16[4,2,8] f32[8]"
#define QKV "bf16[2,5,6,8] bf16[2,7,3,8] bf16[2,7,3,8]"
#define QKV_SELF "f32[2,5,6,8] f32[2,5,3,8] f32[2,5,3,8]"
#define FACTORS_3 " f32[] f32[] f32[]"
#define FACTORS_5 " f32[] f32[] f32[] f32[] f32[]"

static const infer_case cases[] = {
    {OP_CONSTANT, "", SCALARS(2), "", "f32[]"},
    {OP_CONSTANT, "", SCALARS(2), "bf16[]", "bf16[]"},
    {OP_CONSTANT, "", SCALARS(2), "f32[2]", "!a constant is a scalar"},
    {OP_CONSTANT, "", SCALARS(NAN), "", "!NaN"},
    ANY_UNARY(COPY),
    {OP_CAST, "i32[2,3]", NO_ATTR, "f16", "f16[2,3]"},
    {OP_CAST, "i32[2,3]", NO_ATTR, "", "!no dtype"},
    {OP_CAST, "i32[2,3]", NO_ATTR, "f32[3,2]", "!is [2, 3] and cannot be [3, 2]"},
    ANY_UNARY(NEG),
    ANY_UNARY(ABS),
    FLOAT_UNARY(EXP),
    FLOAT_UNARY(LOG),
    FLOAT_UNARY(SQRT),
    FLOAT_UNARY(RSQRT),
    FLOAT_UNARY(SQUARE),
    FLOAT_UNARY(POW),
    {OP_POW, "f32[2]", SCALARS(INFINITY), "", "!exponent is not finite"},
    FLOAT_UNARY(TANH),
    FLOAT_UNARY(SIGMOID),
    FLOAT_UNARY(RELU),
    FLOAT_UNARY(GELU),
    FLOAT_UNARY(GELU_ERF),
    FLOAT_UNARY(SILU),
    FLOAT_UNARY(CLAMP),
    {OP_CLAMP, "f32[2]", SCALARS(-INFINITY, 2), "", "f32[2]"},
    {OP_CLAMP, "f32[2]", SCALARS(2, 1), "", "!limits are 2 and 1"},
    {OP_CLAMP, "f32[2]", SCALARS(NAN, 1), "", "!low <= high"},
    FLOAT_UNARY(IS_FINITE),
    ANY_BINARY(ADD),
    ANY_BINARY(SUB),
    ANY_BINARY(MUL),
    FLOAT_BINARY(DIV),
    ANY_BINARY(MAXIMUM),
    ANY_BINARY(MINIMUM),
    ANY_BINARY(LT),
    ANY_BINARY(LE),
    ANY_BINARY(GT),
    ANY_BINARY(GE),
    ANY_BINARY(EQ),
    ANY_BINARY(NE),
    {OP_ADD, "f32[4,2,3] f32[4,1]", NO_ATTR, "", "!extents 2 and 4 (axis -2) differ"},
    {OP_MUL, "f32[1099511627776,1] f32[1099511627776]", NO_ATTR, "", "!exceed 2^63"},
    FLOAT_BINARY(GELU_BACKWARD),
    FLOAT_BINARY(GELU_ERF_BACKWARD),
    FLOAT_BINARY(SILU_BACKWARD),
    FLOAT_BINARY(TANH_BACKWARD),
    FLOAT_BINARY(SIGMOID_BACKWARD),
    {OP_WHERE, "i32[3] f16[2,1] f16[]", NO_ATTR, "", "f16[2,3]"},
    {OP_WHERE, "f32[3] f16[3] f32[3]", NO_ATTR, "", "!operands 2 and 3 are f16 and f32"},
    {OP_WHERE, "f32[3] f32[3] f32[2]", NO_ATTR, "", "!extents 3 and 2"},

    {OP_FUSED, "f32[2,3] f32[3]", {.chain = &sound_chain}, "", "f32[2,3] bf16[2,3]"},
    {OP_FUSED, "f32[2,3] f16[3]", {.chain = &sound_chain}, "", "!step 0, mul: operands 1 and 2"},
    {OP_FUSED,
     "f32[2,3] f32[3]",
     {.chain = &small_output_chain},
     "",
     "!output 0 has not the chain"},
    {OP_FUSED, "f32[2,3] f32[3]", {.chain = &no_output_chain}, "", "!output 0 is step 4"},
    {OP_FUSED, "f32[2,3] f32[3]", {.chain = &empty_chain}, "", "!a chain of 1 or more steps"},
    {OP_FUSED, "f32[2,3] f32[3]", NO_ATTR, "", "!a chain of 1 or more steps"},
    {OP_FUSED, "f32[2,3] f32[3]", {.chain = &null_chain}, "", "!a chain of 1 or more steps"},
    {OP_FUSED, "f32[2,3] f32[3]", {.chain = &forward_chain}, "", "!step 0 reads operand 0"},
    {OP_FUSED, "f32[2,3] f32[3]", {.chain = &stray_chain}, "", "!step 0 reads operand -3"},
    {OP_FUSED, "f32[2,3] f32[3]", {.chain = &view_chain}, "", "!step 0 is not an elementwise"},
    {OP_FUSED, "f32[2,3] f32[3]", {.chain = &dtype_chain}, "", "!step 0, neg: the result is f32"},

    {OP_RESHAPE, "i32[2,6]", NO_ATTR, "i32[3,4,1]", "i32[3,4,1]"},
    {OP_RESHAPE, "f32[2,6]", NO_ATTR, "f32[5]", "!it has 12 elements, [5] has 5"},
    {OP_RESHAPE, "f32[2,6]", NO_ATTR, "", "!no shape"},
    {OP_RESHAPE, "f32[2,6]", NO_ATTR, "f32[0,12]", "!would be [0, 12]: axis 0 has extent 0"},
    {OP_RESHAPE, "f32[2,6]", NO_ATTR, "f32[4294967296,4294967296]", "!exceed 2^63"},
    {OP_RESHAPE, "f32[2,6]", NO_ATTR, "f16[12]", "!is f32 and cannot be f16"},
    {OP_PERMUTE, "f32[2,3,4]", AXES(2, 0, 1), "", "f32[4,2,3]"},
    {OP_PERMUTE, "f32[2,3,4]", AXES(2, 0, 2), "", "!axis 2 is listed twice"},
    {OP_PERMUTE, "f32[2,3,4]", AXES(2, 0, 3), "", "!axis 3"},
    {OP_SLICE, "f32[4,5]", START(1, 2), "f32[3,2]", "f32[3,2]"},
    {OP_SLICE, "f32[4,5]", START(2, 2), "f32[3,2]",
     "!3 elements from 2 on do not lie within the 4"},
    {OP_SLICE, "f32[4,5]", START(-1, 2), "f32[3,2]", "!3 elements from -1"},
    {OP_SLICE, "f32[4,5]", START(0, 0), "f32[3]", "!the result has 1 axes, the operand 2"},
    {OP_SLICE, "f32[4,5]", START(0, 0), "", "!no shape"},
    {OP_BROADCAST, "f32[3,1]", NO_ATTR, "f32[2,3,4]", "f32[2,3,4]"},
    {OP_BROADCAST, "f32[3,1]", NO_ATTR, "f32[2,4]", "!does not broadcast to [2, 4]"},
    {OP_BROADCAST, "f32[3,2]", NO_ATTR, "f32[1,2]", "!does not broadcast to [1, 2]"},
    {OP_BROADCAST, "f32[3,1]", NO_ATTR, "", "!no shape"},
    {OP_CONCAT, "f32[2,3] f32[2,1] f32[2,5]", {.axis = 1}, "", "f32[2,9]"},
    {OP_CONCAT, "f32[2,3] f32[2,1] f32[3,5]", {.axis = 1}, "", "!operands 1 and 3 may differ"},
    {OP_CONCAT, "f32[2,3] f16[2,1]", {.axis = 1}, "", "!one dtype"},
    {OP_CONCAT, "f32[] f32[]", {.axis = 0}, "", "!axis 0 of 0 axes"},
    {OP_PAD, "f32[3,2]", START(1, 2), "f32[4,5]", "f32[4,5]"},
    {OP_PAD, "f32[3,2]", START(2, 2), "f32[4,5]", "!3 elements from 2 on do not lie within the 4"},
    {OP_PAD, "f32[3,2]", START(0), "f32[4,5,6]", "!the result has 3 axes"},
    {OP_PAD, "f32[3,2]", START(0), "", "!no shape"},

    {OP_MATMUL, "f32[2,3] f32[3,4]", NO_ATTR, "", "f32[2,4]"},
    {OP_MATMUL, "bf16[3,2] bf16[3,4]", MATMUL(true, false), "f32", "f32[2,4]"},
    {OP_MATMUL, "f16[5,1,2,3] f16[6,4,3]", MATMUL(false, true), "", "f16[5,6,2,4]"},
    {OP_MATMUL, "f32[3,2] f32[4,3]", MATMUL(true, true), "", "f32[2,4]"},
    {OP_MATMUL, "f32[2,3] f32[4,3]", NO_ATTR, "", "!inner extents 3 and 4 differ"},
    {OP_MATMUL, "f32[2,3] f32[3,4]", MATMUL(true, false), "",
     "!inner extents 2 (transposed) and 3"},
    {OP_MATMUL, "f32[3] f32[3,4]", NO_ATTR, "", "!operand 1 has 1 axes, at least 2"},
    {OP_MATMUL, "f32[5,2,3] f32[6,3,4]", NO_ATTR, "", "!leading axes do not broadcast"},
    {OP_MATMUL, "f32[2,3] bf16[3,4]", NO_ATTR, "", "!one dtype"},
    {OP_MATMUL, "f32[2,3] f32[3,4]", NO_ATTR, "bf16", "!is f32 and cannot be bf16"},
    {OP_MATMUL, "i32[2,3] i32[3,4]", NO_ATTR, "", "!i32, a float"},

    {OP_SUM, "bf16[2,3,4]", REDUCE(5, false), "", "f32[3]"},
    {OP_SUM, "bf16[2,3,4]", REDUCE(5, true), "bf16", "bf16[1,3,1]"},
    {OP_SUM, "f32[]", REDUCE(0, false), "", "f32[]"},
    {OP_SUM, "f32[2,3]", REDUCE(4, false), "", "!bit set of axes is 0x4"},
    {OP_SUM, "f32[2,3]", REDUCE(0, false), "", "!bit set of axes is 0x0"},
    {OP_SUM, "f32[2,3]", REDUCE(1, false), "f16", "!is f32 and cannot be f16"},
    {OP_SUM, "i32[2,3]", REDUCE(1, false), "", "!i32, a float"},
    {OP_SUM_SQUARES, "f16[2,3]", REDUCE(3, false), "", "f32[]"},
    {OP_SUM_SQUARES, "f16[2,3]", REDUCE(8, false), "", "!bit set"},
    {OP_MAX, "f16[2,3]", REDUCE(2, false), "", "f16[2]"},
    {OP_MAX, "f16[2,3]", REDUCE(2, false), "f32", "!is f16 and cannot be f32"},

    {OP_SOFTMAX, "bf16[2,3]", NO_ATTR, "", "f32[2,3]"},
    {OP_SOFTMAX, "f32[]", NO_ATTR, "", "!0 axes, at least 1"},
    {OP_LOG_SOFTMAX, "f16[2,3]", NO_ATTR, "", "f32[2,3]"},
    {OP_LOG_SOFTMAX, "i32[3]", NO_ATTR, "", "!i32, a float"},
    {OP_SOFTMAX_BACKWARD, "f32[2,3] f32[2,3]", NO_ATTR, "", "f32[2,3]"},
    {OP_SOFTMAX_BACKWARD, "f32[2,3] f32[3,2]", NO_ATTR, "", "!must have one shape"},
    {OP_LOG_SOFTMAX_BACKWARD, "f32[2,3] f32[2,3]", NO_ATTR, "", "f32[2,3]"},
    {OP_LOG_SOFTMAX_BACKWARD, "f32[2,3] f16[2,3]", NO_ATTR, "", "!one dtype"},

    {OP_LAYER_NORM, NORM_TYPES " f32[8]", SCALARS(1e-5f), "", "bf16[4,2,8] f32[4,2] f32[4,2]"},
    {OP_LAYER_NORM, NORM_TYPES " f32[4]", SCALARS(1e-5f), "", "!the bias is [4], [8] is expected"},
    {OP_LAYER_NORM, NORM_TYPES " bf16[8]", SCALARS(1e-5f), "", "!operand 3 is bf16, f32"},
    {OP_LAYER_NORM, NORM_TYPES " f32[8]", SCALARS(-1), "", "!eps is -1"},
    {OP_LAYER_NORM, NORM_TYPES " f32[8]", SCALARS(NAN), "", "!eps is"},
    {OP_LAYER_NORM, "f32[] f32[1] f32[1]", SCALARS(1), "", "!0 axes"},
    {OP_LAYER_NORM_BACKWARD, "bf16[4,2,8] " NORM_TYPES " f32[4,2] f32[4,2]", NO_ATTR, "",
     "bf16[4,2,8]"},
    {OP_LAYER_NORM_BACKWARD, "f32[4,2,8] " NORM_TYPES " f32[4,2] f32[4,2]", NO_ATTR, "",
     "!one dtype"},
    {OP_LAYER_NORM_BACKWARD, "bf16[4,8] " NORM_TYPES " f32[4,2] f32[4,2]", NO_ATTR, "",
     "!gradient"},
    {OP_LAYER_NORM_BACKWARD, "bf16[4,2,8] " NORM_TYPES " f32[4,1] f32[4,2]", NO_ATTR, "",
     "!the mean is"},
    {OP_LAYER_NORM_BACKWARD, "bf16[4,2,8] " NORM_TYPES " f32[4,2] f32[4,3]", NO_ATTR, "",
     "!rstd is"},
    {OP_LAYER_NORM_BACKWARD_PARAMS, "f16[4,8] f16[4,8] f32[4] f32[4]", NO_ATTR, "",
     "f32[8] f32[8]"},
    {OP_LAYER_NORM_BACKWARD_PARAMS, "f16[4,8] f16[4,8] f32[8] f32[4]", NO_ATTR, "",
     "!the mean is [8]"},
    {OP_RMS_NORM, NORM_TYPES, SCALARS(0), "", "bf16[4,2,8] f32[4,2]"},
    {OP_RMS_NORM, "f32[4,2] f32[4]", SCALARS(0), "", "!the gain is [4], [2] is expected"},
    {OP_RMS_NORM, "f32[] f32[1]", SCALARS(0), "", "!0 axes"},
    {OP_RMS_NORM_BACKWARD, "bf16[4,2,8] " NORM_TYPES " f32[4,2]", NO_ATTR, "", "bf16[4,2,8]"},
    {OP_RMS_NORM_BACKWARD, "bf16[4,2,8] " NORM_TYPES " f32[4,2,1]", NO_ATTR, "",
     "!rstd is [4, 2, 1]"},
    {OP_RMS_NORM_BACKWARD_PARAMS, "f32[4,8] f32[4,8] f32[4]", NO_ATTR, "", "f32[8]"},
    {OP_RMS_NORM_BACKWARD_PARAMS, "f32[4,8] f32[4,8] f16[4]", NO_ATTR, "", "!f16, f32 is expected"},
    {OP_CROSS_ENTROPY, "bf16[2,3,9] i32[2,3]", NO_ATTR, "", "f32[2,3] f32[2,3]"},
    {OP_CROSS_ENTROPY, "bf16[2,3,9] i32[2,9]", NO_ATTR, "",
     "!the targets' shape is [2, 9], [2, 3] is"},
    {OP_CROSS_ENTROPY, "bf16[2,3,9] f32[2,3]", NO_ATTR, "", "!operand 2 is f32, i32 is expected"},
    {OP_CROSS_ENTROPY_BACKWARD, "f16[2,9] i32[2] f32[2] f32[2]", NO_ATTR, "", "f16[2,9]"},
    {OP_CROSS_ENTROPY_BACKWARD, "f16[2,9] i32[2] f32[3] f32[2]", NO_ATTR, "", "!logsumexp is [3]"},
    {OP_CROSS_ENTROPY_BACKWARD, "f16[2,9] i32[2] f32[2] f32[]", NO_ATTR, "", "!the gradient is []"},
    {OP_LINEAR_CROSS_ENTROPY, "bf16[2,3,9] bf16[5,9] i32[2,3]", CHUNKED(4), "",
     "f32[2,3] f32[2,3]"},
    {OP_LINEAR_CROSS_ENTROPY, "f32[2,9] f16[5,9] i32[2]", CHUNKED(4), "", "!one dtype"},
    {OP_LINEAR_CROSS_ENTROPY, "f32[9] f32[5,9] i32[]", CHUNKED(4), "", "!1 axes, at least 2"},
    {OP_LINEAR_CROSS_ENTROPY, "f32[2,9] f32[1,5,9] i32[2]", CHUNKED(4), "", "!3 axes, 2 are"},
    {OP_LINEAR_CROSS_ENTROPY, "f32[2,9] f32[9,5] i32[2]", CHUNKED(4), "",
     "!widths 9 of x and 5 of the weight"},
    {OP_LINEAR_CROSS_ENTROPY, "f32[2,9] f32[5,9] i32[5]", CHUNKED(4), "",
     "!the targets' shape is [5], [2] is"},
    {OP_LINEAR_CROSS_ENTROPY, "f32[2,9] f32[5,9] f32[2]", CHUNKED(4), "", "!f32, i32 is expected"},
    {OP_LINEAR_CROSS_ENTROPY, "f32[2,9] f32[5,9] i32[2]", CHUNKED(0), "", "!a chunk of 0 classes"},
    {OP_LINEAR_CROSS_ENTROPY_BACKWARD, "bf16[2,9] bf16[5,9] i32[2] f32[2] f32[2]", CHUNKED(4), "",
     "bf16[5,9] bf16[2,9]"},
    {OP_LINEAR_CROSS_ENTROPY_BACKWARD, "bf16[2,9] bf16[5,9] i32[2] f32[2] f32[2]", CHUNKED(4),
     "f32", "f32[5,9] bf16[2,9]"},
    {OP_LINEAR_CROSS_ENTROPY_BACKWARD, "f32[2,9] f32[5,9] i32[2] f32[5] f32[2]", CHUNKED(4), "",
     "!logsumexp is [5]"},
    {OP_LINEAR_CROSS_ENTROPY_BACKWARD, "f32[2,9] f32[5,9] i32[2] f32[2] f16[2]", CHUNKED(4), "",
     "!f16, f32 is expected"},

    {OP_ATTENTION, QKV, ATTEND(true, 1), "", "bf16[2,5,6,8] f32[2,6,5]"},
    {OP_ATTENTION, QKV_SELF " i32[2,5]", ATTEND(false, 1), "", "f32[2,5,6,8] f32[2,6,5]"},
    {OP_ATTENTION, QKV " i32[2,5]", ATTEND(true, 1), "", "!segments need as many keys"},
    {OP_ATTENTION, QKV_SELF " i32[5,2]", ATTEND(true, 1), "", "!the segments' shape is [5, 2]"},
    {OP_ATTENTION, QKV_SELF " f32[2,5]", ATTEND(true, 1), "", "!operand 4 is f32, i32"},
    {OP_ATTENTION, QKV, ATTEND(true, 0), "", "!the scale is 0"},
    {OP_ATTENTION, QKV, ATTEND(true, NAN), "", "!the scale is"},
    {OP_ATTENTION, "f32[2,5,6,8] f32[2,5,4,8] f32[2,5,4,8]", ATTEND(true, 1), "", "!6 heads of q"},
    {OP_ATTENTION, "f32[2,5,6,8] f32[2,5,6,4] f32[2,5,6,4]", ATTEND(true, 1), "",
     "!head sizes 8 and 4"},
    {OP_ATTENTION, "f32[2,5,6,8] f32[3,5,6,8] f32[3,5,6,8]", ATTEND(true, 1), "",
     "!batches 2 and 3"},
    {OP_ATTENTION, "f32[2,5,6,8] f32[2,5,6,8] f32[2,6,6,8]", ATTEND(true, 1), "", "!k and v"},
    {OP_ATTENTION, "f32[2,5,6,8] f32[2,4,6,8] f32[2,4,6,8]", ATTEND(true, 1), "",
     "!causal attention of 5"},
    {OP_ATTENTION, "f32[2,5,6,8] f32[2,4,6,8] f32[2,4,6,8]", ATTEND(false, 1), "",
     "f32[2,5,6,8] f32[2,6,5]"},
    {OP_ATTENTION, "f32[1,1,1,257] f32[1,1,1,257] f32[1,1,1,257]", ATTEND(true, 1), "",
     "!up to 256"},
    {OP_ATTENTION, "f32[2,5,8] f32[2,5,8] f32[2,5,8]", ATTEND(true, 1), "",
     "!3 axes, 4 are expected"},
    {OP_ATTENTION_BACKWARD, QKV " bf16[2,5,6,8] f32[2,6,5] bf16[2,5,6,8]", ATTEND(true, 1), "",
     "bf16[2,5,6,8] bf16[2,7,3,8] bf16[2,7,3,8]"},
    {OP_ATTENTION_BACKWARD, QKV_SELF " f32[2,5,6,8] f32[2,6,5] f32[2,5,6,8] i32[2,5]",
     ATTEND(true, 1), "", "f32[2,5,6,8] f32[2,5,3,8] f32[2,5,3,8]"},
    {OP_ATTENTION_BACKWARD, QKV " bf16[2,5,6,8] f32[2,5,6] bf16[2,5,6,8]", ATTEND(true, 1), "",
     "!logsumexp is [2, 5, 6], [2, 6, 5]"},
    {OP_ATTENTION_BACKWARD, QKV " bf16[2,5,6,8] f32[2,6,5] bf16[2,5,8,6]", ATTEND(true, 1), "",
     "!q and the gradient"},
    {OP_ATTENTION_BACKWARD, QKV " bf16[2,5,6,8] f32[2,6,5] bf16[2,5,6,8]", ATTEND(true, 0), "",
     "!the scale is 0"},

    {OP_EMBEDDING, "bf16[9,4] i32[2,3]", NO_ATTR, "", "bf16[2,3,4]"},
    {OP_EMBEDDING, "bf16[9,4] f32[2,3]", NO_ATTR, "", "!operand 2 is f32, i32"},
    {OP_EMBEDDING, "bf16[9] i32[2,3]", NO_ATTR, "", "!1 axes, 2 are expected"},
    {OP_EMBEDDING, "f32[9,4] i32[1,1,1,1,1,1]", NO_ATTR, "", "!the ids have 6 axes"},
    {OP_EMBEDDING_BACKWARD, "i32[2,3] bf16[2,3,4]", {.rows = 9}, "", "bf16[9,4]"},
    {OP_EMBEDDING_BACKWARD, "i32[2,3] bf16[2,3,4]", {.rows = 9}, "f32", "f32[9,4]"},
    {OP_EMBEDDING_BACKWARD, "i32[2,3] bf16[2,3,4]", {.rows = 9}, "f16", "!cannot be f16"},
    {OP_EMBEDDING_BACKWARD, "i32[2,3] bf16[2,3,4]", {.rows = 0}, "", "!axis 0 has extent 0"},
    {OP_EMBEDDING_BACKWARD, "i32[3,2] bf16[2,3,4]", {.rows = 9}, "", "!the ids' shape is [3, 2]"},
    {OP_ROTARY, "f16[2,5,3,8]", {.rotary = {1e4, false}}, "", "f16[2,5,3,8]"},
    {OP_ROTARY, "f16[2,5,3,8] i32[2,5]", {.rotary = {1e4, true}}, "", "f16[2,5,3,8]"},
    {OP_ROTARY,
     "f16[2,5,3,8] i32[2,3]",
     {.rotary = {1e4, false}},
     "",
     "!the positions' shape is [2, 3]"},
    {OP_ROTARY, "f16[2,5,3,7]", {.rotary = {1e4, false}}, "", "!head size is 7, an even"},
    {OP_ROTARY, "f16[2,5,8]", {.rotary = {1e4, false}}, "", "!3 axes, 4 are expected"},
    {OP_ROTARY, "f16[2,5,3,8]", {.rotary = {0, false}}, "", "!the base is 0"},
    {OP_ROTARY, "f16[2,5,3,8]", {.rotary = {1e4, false, {8, 1, 4, 8192}}}, "", "f16[2,5,3,8]"},
    {OP_ROTARY,
     "f16[2,5,3,8]",
     {.rotary = {1e4, false, {8, 4, 4, 8192}}},
     "",
     "!scaling by 8 from 4 to 4 turns in 8192 tokens"},
    {OP_ROTARY, "f16[2,5,3,8]", {.rotary = {1e4, false, {-8, 1, 4, 8192}}}, "", "!scaling by -8"},
    {OP_DROPOUT, "f16[2,5] i32[] i32[] i32[]", {.dropout = {0.5f, 3}}, "", "f16[2,5]"},
    {OP_DROPOUT, "f16[2,5] i32[] i32[] i32[]", {.dropout = {1, 3}}, "", "!p is 1"},
    {OP_DROPOUT, "f16[2,5] i32[] i32[2] i32[]", {.dropout = {0.5f, 3}}, "", "!the step is [2]"},
    {OP_DROPOUT, "f16[2,5] i32[] i32[] f32[]", {.dropout = {0.5f, 3}}, "", "!f32, i32 is expected"},

    {OP_ACCUMULATE, "f32[2,5] f32[2,5]", NO_ATTR, "", "f32[2,5]"},
    {OP_ACCUMULATE, "f32[2,5] bf16[2,5]", NO_ATTR, "", "!one dtype"},
    {OP_ACCUMULATE, "f32[2,5] f32[5]", NO_ATTR, "", "!the variable and what is added"},
    {OP_ADAMW, "f32[3] f32[3] f32[3] f32[3]" FACTORS_5, OPTIMIZER(0.9f, 0.99f, 0, 0.1f, 1), "",
     "f32[3] f32[3] f32[3]"},
    {OP_ADAMW, "f32[3] f32[3] f32[4] f32[3]" FACTORS_5, OPTIMIZER(0.9f, 0.99f, 0, 0.1f, 1), "",
     "!the parameter and the state v"},
    {OP_ADAMW, "f32[3] f32[3] f32[3] bf16[3]" FACTORS_5, OPTIMIZER(0.9f, 0.99f, 0, 0.1f, 1), "",
     "!operand 4 is bf16, f32"},
    {OP_ADAMW, "f32[3] f32[3] f32[3] f32[3]" FACTORS_5, OPTIMIZER(1, 0.99f, 0, 0.1f, 1), "",
     "!beta1 is 1"},
    {OP_ADAMW, "f32[3] f32[3] f32[3] f32[3]" FACTORS_5, OPTIMIZER(0.9f, -1, 0, 0.1f, 1), "",
     "!beta2 is -1"},
    {OP_ADAMW, "f32[3] f32[3] f32[3] f32[3]" FACTORS_5, OPTIMIZER(0.9f, 0.9f, -1, 0.1f, 1), "",
     "!eps is -1"},
    {OP_ADAMW, "f32[1] f32[1] f32[1] f32[1] f32[] f32[1] f32[] f32[] f32[]", NO_ATTR, "",
     "!a factor is [1], []"},
    {OP_ADAMW_CAST, "f32[3] f32[3] f32[3] bf16[3] f32[3]" FACTORS_5,
     OPTIMIZER(0.9f, 0.99f, 0, 0.1f, 1), "", "f32[3] f32[3] f32[3] bf16[3]"},
    {OP_ADAMW_CAST, "f32[3] f32[3] f32[3] f32[3] f32[3]" FACTORS_5,
     OPTIMIZER(0.9f, 0.99f, 0, 0.1f, 1), "", "!the compute copy is f32, f16 or bf16 is expected"},
    {OP_ADAMW_CAST, "f32[3] f32[3] f32[3] f16[4] f32[3]" FACTORS_5,
     OPTIMIZER(0.9f, 0.99f, 0, 0.1f, 1), "", "!the parameter and its copy"},
    {OP_ADAMW_CAST, "f32[3] f32[3] f32[3] f16[3] f16[3]" FACTORS_5,
     OPTIMIZER(0.9f, 0.99f, 0, 0.1f, 1), "", "!operand 5 is f16, f32"},
    {OP_ADAMW_Q8, "f32[3,100] i32[128] f32[2] i32[128] f32[2] f32[3,100]" FACTORS_5,
     OPTIMIZER(0.9f, 0.99f, 0, 0.1f, 1), "", "f32[3,100] i32[128] f32[2] i32[128] f32[2]"},
    {OP_ADAMW_Q8, "f32[3,100] i32[64] f32[1] i32[128] f32[2] f32[3,100]" FACTORS_5,
     OPTIMIZER(0.9f, 0.99f, 0, 0.1f, 1), "", "!the state m is [64], [128] is expected"},
    {OP_ADAMW_Q8, "f32[256] i32[64] f32[1] i32[64] f32[2] f32[256]" FACTORS_5,
     OPTIMIZER(0.9f, 0.99f, 0, 0.1f, 1), "", "!the scales of the state v is [2], [1] is expected"},
    {OP_ADAMW_Q8, "f32[256] f32[64] f32[1] i32[64] f32[1] f32[256]" FACTORS_5,
     OPTIMIZER(0.9f, 0.99f, 0, 0.1f, 1), "", "!operand 2 is f32, i32"},
    {OP_ADAMW_Q8_CAST, "f32[256] i32[64] f32[1] i32[64] f32[1] f16[256] f32[256]" FACTORS_5,
     OPTIMIZER(0.9f, 0.99f, 0, 0.1f, 1), "", "f32[256] i32[64] f32[1] i32[64] f32[1] f16[256]"},
    {OP_ADAMW_Q8_CAST, "f32[256] i32[64] f32[1] i32[64] f32[1] f32[256] f32[256]" FACTORS_5,
     OPTIMIZER(0.9f, 0.99f, 0, 0.1f, 1), "", "!the compute copy is f32"},
    {OP_ADAMW_Q8, "f32[256] i32[64] f32[1] i32[64] f32[1] bf16[256]" FACTORS_5,
     OPTIMIZER(0.9f, 0.99f, 0, 0.1f, 1), "", "f32[256] i32[64] f32[1] i32[64] f32[1]"},
    {OP_ADAMW_Q8_CAST, "f32[256] i32[64] f32[1] i32[64] f32[1] f16[256] bf16[256]" FACTORS_5,
     OPTIMIZER(0.9f, 0.99f, 0, 0.1f, 1), "", "f32[256] i32[64] f32[1] i32[64] f32[1] f16[256]"},
    {OP_ADAMW_Q8, "f32[256] i32[64] f32[1] i32[64] f32[1] f16[256]" FACTORS_5,
     OPTIMIZER(0.9f, 0.99f, 0, 0.1f, 1), "", "!the gradient is f16, f32 or bf16 is expected"},
    {OP_ADAMW_Q8, "f32[256] i32[64] f32[1] i32[64] f32[1] bf16[16,16]" FACTORS_5,
     OPTIMIZER(0.9f, 0.99f, 0, 0.1f, 1), "", "!the parameter and its gradient"},
    {OP_SGD, "f32[3] f32[3] f32[3]" FACTORS_3, OPTIMIZER(0.9f, 0, 0, 0, 1), "", "f32[3] f32[3]"},
    {OP_SGD_CAST, "f32[3] f32[3] f16[3] f32[3]" FACTORS_3, OPTIMIZER(0.9f, 0, 0, 0, 1), "",
     "f32[3] f32[3] f16[3]"},
    {OP_SGD_CAST, "f32[3] f32[3] i32[3] f32[3]" FACTORS_3, OPTIMIZER(0.9f, 0, 0, 0, 1), "",
     "!the compute copy is i32"},
    {OP_SGD_CAST, "f32[3] bf16[3] bf16[3] f32[3]" FACTORS_3, OPTIMIZER(0.9f, 0, 0, 0, 1), "",
     "!operand 2 is bf16, f32"},
    {OP_SGD, "f32[1] f32[1] f32[1] f32[1] f32[] f32[]", NO_ATTR, "", "!a factor is [1], []"},
    {OP_SGD, "f32[1] f32[1] f32[1] f32[] f32[] f32[1]", NO_ATTR, "", "!a factor is [1], []"},
    {OP_SGD, "f32[3] f32[2] f32[3]" FACTORS_3, OPTIMIZER(0.9f, 0, 0, 0, 1), "", "!the state m"},
    {OP_SGD, "f32[3] f32[3] f32[2]" FACTORS_3, OPTIMIZER(0.9f, 0, 0, 0, 1), "", "!its gradient"},
    {OP_SGD, "f32[3] f32[3] f32[3]" FACTORS_3, OPTIMIZER(0.9f, 0, 0, -1, 1), "", "!decay is -1"},
};
enum { CASES = sizeof cases / sizeof *cases };

static void check_types(const infer_case *c, const inference *i) {
    tensor_type expected[MOST_TYPES];
    int count = read_types(c->expected, expected);
    ck_assert_int_eq(i->outputs, count);
    for (int k = 0; k < count; k++) {
        char found[SHAPE_TEXT], wanted[SHAPE_TEXT];
        ck_assert_msg(i->output[k].dtype == expected[k].dtype &&
                          shape_equal(&i->output[k].shape, &expected[k].shape),
                      "%s of %s: output %d is %s %s, not %s %s", op_table[c->op].name, c->inputs, k,
                      brim_dtype_name(i->output[k].dtype),
                      shape_print(&i->output[k].shape, found, sizeof found),
                      brim_dtype_name(expected[k].dtype),
                      shape_print(&expected[k].shape, wanted, sizeof wanted));
    }
}

START_TEST(rule_gives_what_is_expected) {
    const infer_case *c = &cases[_i];
    tensor_type types[MOST_TYPES], asked[1];
    inference i = {.op = c->op, .attr = &c->attr, .input = types};
    i.inputs = read_types(c->inputs, types);
    ck_assert(op_accepts(c->op, i.inputs));
    if (read_types(c->asked, asked)) i.dtype = &asked[0].dtype;
    if (strchr(c->asked, '[')) i.shape = &asked[0].shape;
    bool fits = infer_types(&i);
    if (*c->expected != '!') {
        ck_assert_msg(fits, "%s of %s: %s", op_table[c->op].name, c->inputs, i.reason);
        check_types(c, &i);
        return;
    }
    ck_assert_msg(!fits, "%s of %s is taken", op_table[c->op].name, c->inputs);
    ck_assert_msg(strstr(i.reason, c->expected + 1), "\"%s\" is not in: %s", c->expected + 1,
                  i.reason);
    ck_assert_int_ne(i.status, BRIM_OK);
}
END_TEST

START_TEST(every_op_has_a_rule_and_cases) {
    int taken[OP_COUNT] = {0}, refused[OP_COUNT] = {0};
    for (int i = 0; i < CASES; i++) (*cases[i].expected == '!' ? refused : taken)[cases[i].op]++;
    for (int op = 0; op < OP_COUNT; op++) {
        ck_assert_msg(infer_rules[op] != NULL, "%s has no shape rule", op_table[op].name);
        ck_assert_msg(taken[op] > 0, "%s: no case that is taken", op_table[op].name);
        ck_assert_msg(refused[op] > 0, "%s: no case that is refused", op_table[op].name);
    }
}
END_TEST

START_TEST(op_table_is_sound) {
    for (int op = 0; op < OP_COUNT; op++) {
        const op_info *info = &op_table[op];
        ck_assert_msg(info->name && *info->name && info->meaning && *info->meaning, "op %d", op);
        ck_assert_msg((info->family == FAMILY_ELEMENTWISE && op != OP_FUSED) ==
                          (info->expression != NULL),
                      "%s: elementwise ops have an expression", info->name);
        ck_assert_msg(info->family != FAMILY_UPDATE || info->outputs < info->inputs, "%s",
                      info->name);
        for (int other = 0; other < op; other++) ck_assert_str_ne(info->name, op_table[other].name);
    }
    ck_assert(op_accepts(OP_ADD, 2) && !op_accepts(OP_ADD, 1) && !op_accepts(OP_ADD, 3));
    ck_assert(op_accepts(OP_ATTENTION, 3) && op_accepts(OP_ATTENTION, 4));
    ck_assert(!op_accepts(OP_ATTENTION, 2) && !op_accepts(OP_ATTENTION, 5));
    ck_assert(op_accepts(OP_CONCAT, 1) && op_accepts(OP_CONCAT, 1000) && !op_accepts(OP_CONCAT, 0));
    ck_assert(op_accepts(OP_FUSED, 0) && !op_accepts(OP_FUSED, -1));
}
END_TEST

Suite *graph_infer_suite(void) {
    Suite *suite = suite_create("graph/infer");
    TCase *rules = tcase_create("rules");
    tcase_add_loop_test(rules, rule_gives_what_is_expected, 0, CASES);
    tcase_add_test(rules, every_op_has_a_rule_and_cases);
    tcase_add_test(rules, op_table_is_sound);
    suite_add_tcase(suite, rules);
    return suite;
}
