// The shape rules, operand by operand: an op takes its operands, and refuses them with any one of
// them of another type. And each constant of an op at its bounds.
#include <math.h>
#include "test_graph_infer.h"

typedef struct base {
    op_id op;
    const char *inputs;
    brim_attr attr;
} base;

typedef struct replaced {
    const base *of;
    int operand;
    const char *type;
    const char *reason; // "": it is taken
} replaced;

static const base softmax_backward = {OP_SOFTMAX_BACKWARD, "f16[2,3] f16[2,3]", NO_ATTR};
static const base log_softmax_backward = {OP_LOG_SOFTMAX_BACKWARD, "f16[2,3] f16[2,3]", NO_ATTR};
static const base softmax = {OP_SOFTMAX, "bf16[2,3]", NO_ATTR};
static const base matmul = {OP_MATMUL, "f16[2,3,4] f16[4,5]", NO_ATTR};
static const base layer_norm = {OP_LAYER_NORM, "bf16[4,2,8] f32[8] f32[8]", SCALARS(1)};
static const base layer_norm_back = {OP_LAYER_NORM_BACKWARD,
                                     "bf16[4,2,8] bf16[4,2,8] f32[8] f32[4,2] f32[4,2]", NO_ATTR};
static const base layer_norm_params = {OP_LAYER_NORM_BACKWARD_PARAMS,
                                       "bf16[4,2,8] bf16[4,2,8] f32[4,2] f32[4,2]", NO_ATTR};
static const base rms_norm = {OP_RMS_NORM, "bf16[4,2,8] f32[8]", SCALARS(1)};
static const base rms_norm_back = {OP_RMS_NORM_BACKWARD, "bf16[4,2,8] bf16[4,2,8] f32[8] f32[4,2]",
                                   NO_ATTR};
static const base rms_norm_params = {OP_RMS_NORM_BACKWARD_PARAMS,
                                     "bf16[4,2,8] bf16[4,2,8] f32[4,2]", NO_ATTR};
static const base cross_entropy = {OP_CROSS_ENTROPY, "bf16[2,3,9] i32[2,3]", NO_ATTR};
static const base cross_entropy_back = {OP_CROSS_ENTROPY_BACKWARD, "f16[2,9] i32[2] f32[2] f32[2]",
                                        NO_ATTR};
static const base linear_loss = {OP_LINEAR_CROSS_ENTROPY, "f32[2,3,9] f32[5,9] i32[2,3]",
                                 CHUNKED(1)};
static const base linear_loss_back = {OP_LINEAR_CROSS_ENTROPY_BACKWARD,
                                      "f32[2,9] f32[5,9] i32[2] f32[2] f32[2]", CHUNKED(1)};
static const base attention = {OP_ATTENTION, "f16[2,5,6,8] f16[2,5,3,8] f16[2,5,3,8] i32[2,5]",
                               ATTEND(true, 1)};
static const base long_attention = {OP_ATTENTION, "f32[1,2,1,256] f32[1,2,1,256] f32[1,2,1,256]",
                                    ATTEND(true, 1)};
static const base attention_back = {
    OP_ATTENTION_BACKWARD,
    "f16[2,5,6,8] f16[2,5,3,8] f16[2,5,3,8] f16[2,5,6,8] f32[2,6,5] f16[2,5,6,8] i32[2,5]",
    ATTEND(false, 1)};
static const base embedding = {OP_EMBEDDING, "bf16[9,4] i32[2,3]", NO_ATTR};
static const base embedding_back = {OP_EMBEDDING_BACKWARD, "i32[2,3] bf16[2,3,4]", {.rows = 9}};
static const base rotary = {OP_ROTARY, "f16[2,5,3,8] i32[2,5]", {.rotary = {100, false, {0}}}};
static const base dropout = {OP_DROPOUT, "f16[2,5] i32[] i32[] i32[]", {.dropout = {0, 3}}};
static const base accumulate = {OP_ACCUMULATE, "f16[2,5] f16[2,5]", NO_ATTR};
static const base sgd = {OP_SGD_CAST, "f32[3] f32[3] f16[3] f32[3] f32[] f32[] f32[]",
                         OPTIMIZER(0, 0, 0, 0, 0)};
static const base adamw = {OP_ADAMW, "f32[3] f32[3] f32[3] f32[3] f32[] f32[] f32[] f32[] f32[]",
                           OPTIMIZER(0, 0, 0, 0, 0)};
static const base adamw_q8 = {
    OP_ADAMW_Q8_CAST,
    "f32[257] i32[128] f32[2] i32[128] f32[2] bf16[257] bf16[257] f32[] f32[] f32[] f32[] f32[]",
    OPTIMIZER(0, 0, 0, 0, 0)};
static const base permute = {OP_PERMUTE, "f32[2,3,4]", AXES(2, 0, 1)};
static const base concat = {OP_CONCAT, "f32[2,3,4] f32[2,5,4] f32[2,1,4]", {.axis = 1}};

static const replaced rows[] = {
    {&softmax, 0, "i32[2,3]", "operand 1 is i32"},
    {&softmax, 0, "f32[]", "operand 1 has 0 axes, at least 1"},
    {&softmax, 0, "f32[1,1,1,1,1,2]", ""},
    {&softmax_backward, 0, "f32[2,3]", "operands 1 and 2 are f32 and f16"},
    {&softmax_backward, 0, "i32[2,3]", "operand 1 is i32"},
    {&softmax_backward, 0, "f16[]", "operand 1 has 0 axes"},
    {&softmax_backward, 0, "f16[2,4]", "the result and its gradient must have one shape"},
    {&softmax_backward, 1, "f16[2,4]", "the result and its gradient must have one shape"},
    {&log_softmax_backward, 1, "f16[2,1]", "must have one shape"},
    {&log_softmax_backward, 0, "f16[]", "operand 1 has 0 axes"},
    {&matmul, 0, "i32[2,3,4]", "operand 1 is i32"},
    {&matmul, 0, "f32[2,3,4]", "operands 1 and 2 are f32 and f16"},
    {&matmul, 0, "f16[4]", "operand 1 has 1 axes, at least 2 are expected"},
    {&matmul, 1, "f16[4]", "operand 2 has 1 axes, at least 2 are expected"},
    {&matmul, 1, "f16[3,4,5]", "the leading axes do not broadcast"},
    {&matmul, 1, "f16[1,1,1,1,4,5]", ""},
    {&matmul, 0, "f16[1,1,1,1,3,4]", ""},
    {&matmul, 1, "f16[5,4]", "inner extents 4 and 5 differ"},
    {&layer_norm, 0, "i32[4,2,8]", "operand 1 is i32"},
    {&layer_norm, 0, "bf16[]", "operand 1 has 0 axes"},
    {&layer_norm, 1, "bf16[8]", "operand 2 is bf16, f32 is expected"},
    {&layer_norm, 1, "f32[2]", "the gain is [2], [8] is expected"},
    {&layer_norm, 1, "f32[1,8]", "the gain is [1, 8], [8] is expected"},
    {&layer_norm, 2, "i32[8]", "operand 3 is i32, f32 is expected"},
    {&layer_norm, 2, "f32[]", "the bias is [], [8] is expected"},
    {&layer_norm_back, 0, "f16[4,2,8]", "operands 1 and 2 are f16 and bf16"},
    {&layer_norm_back, 0, "bf16[2,4,8]", "the gradient and the value must have one shape"},
    {&layer_norm_back, 1, "f16[4,2,8]", "operands 1 and 2 are bf16 and f16"},
    {&layer_norm_back, 1, "i32[4,2,8]", "operand 2 is i32"},
    {&layer_norm_back, 1, "bf16[]", "operand 2 has 0 axes"},
    {&layer_norm_back, 2, "f16[8]", "operand 3 is f16, f32 is expected"},
    {&layer_norm_back, 2, "f32[4]", "the gain is [4], [8] is expected"},
    {&layer_norm_back, 3, "f16[4,2]", "operand 4 is f16, f32 is expected"},
    {&layer_norm_back, 3, "f32[4,8]", "the mean is [4, 8], [4, 2] is expected"},
    {&layer_norm_back, 4, "f16[4,2]", "operand 5 is f16, f32 is expected"},
    {&layer_norm_back, 4, "f32[8]", "rstd is [8], [4, 2] is expected"},
    {&layer_norm_params, 0, "f16[4,2,8]", "operands 1 and 2 are f16 and bf16"},
    {&layer_norm_params, 0, "bf16[4,2,7]", "the gradient and the value must have one shape"},
    {&layer_norm_params, 1, "bf16[]", "operand 2 has 0 axes"},
    {&layer_norm_params, 2, "i32[4,2]", "operand 3 is i32, f32 is expected"},
    {&layer_norm_params, 2, "f32[2]", "the mean is [2], [4, 2] is expected"},
    {&layer_norm_params, 3, "i32[4,2]", "operand 4 is i32, f32 is expected"},
    {&layer_norm_params, 3, "f32[8]", "rstd is [8], [4, 2] is expected"},
    {&rms_norm, 0, "i32[4,2,8]", "operand 1 is i32"},
    {&rms_norm, 1, "f16[8]", "operand 2 is f16, f32 is expected"},
    {&rms_norm, 1, "f32[4,2]", "the gain is [4, 2], [8] is expected"},
    {&rms_norm_back, 0, "f32[4,2,8]", "operands 1 and 2 are f32 and bf16"},
    {&rms_norm_back, 0, "bf16[8]", "the gradient and the value must have one shape"},
    {&rms_norm_back, 2, "bf16[8]", "operand 3 is bf16, f32 is expected"},
    {&rms_norm_back, 2, "f32[2]", "the gain is [2], [8] is expected"},
    {&rms_norm_back, 3, "bf16[4,2]", "operand 4 is bf16, f32 is expected"},
    {&rms_norm_back, 3, "f32[8]", "rstd is [8], [4, 2] is expected"},
    {&rms_norm_params, 0, "f32[4,2,8]", "operands 1 and 2 are f32 and bf16"},
    {&rms_norm_params, 0, "bf16[8]", "the gradient and the value must have one shape"},
    {&rms_norm_params, 2, "bf16[4,2]", "operand 3 is bf16, f32 is expected"},
    {&rms_norm_params, 2, "f32[2,4]", "rstd is [2, 4], [4, 2] is expected"},
    {&cross_entropy, 0, "i32[2,3,9]", "operand 1 is i32"},
    {&cross_entropy, 0, "f32[]", "operand 1 has 0 axes"},
    {&cross_entropy, 1, "f32[2,3]", "operand 2 is f32, i32 is expected"},
    {&cross_entropy, 1, "i32[3]", "the targets' shape is [3], [2, 3] is expected"},
    {&cross_entropy_back, 1, "f32[2]", "operand 2 is f32, i32 is expected"},
    {&cross_entropy_back, 1, "i32[9]", "the targets' shape is [9], [2] is expected"},
    {&cross_entropy_back, 2, "f16[2]", "operand 3 is f16, f32 is expected"},
    {&cross_entropy_back, 2, "f32[9]", "logsumexp is [9], [2] is expected"},
    {&cross_entropy_back, 3, "f16[2]", "operand 4 is f16, f32 is expected"},
    {&cross_entropy_back, 3, "f32[2,9]", "the gradient is [2, 9], [2] is expected"},
    {&linear_loss, 0, "i32[2,3,9]", "operand 1 is i32"},
    {&linear_loss, 0, "f16[2,3,9]", "operands 1 and 2 are f16 and f32"},
    {&linear_loss, 0, "f32[9]", "operand 1 has 1 axes, at least 2 are expected"},
    {&linear_loss, 0, "f32[2,3,5]", "widths 5 of x and 9 of the weight"},
    {&linear_loss, 1, "f32[9]", "operand 2 has 1 axes, 2 are expected"},
    {&linear_loss, 1, "f32[1,5,9]", "operand 2 has 3 axes, 2 are expected"},
    {&linear_loss, 1, "f32[9,5]", "widths 9 of x and 5 of the weight"},
    {&linear_loss, 2, "f32[2,3]", "operand 3 is f32, i32 is expected"},
    {&linear_loss, 2, "i32[5]", "the targets' shape is [5], [2, 3] is expected"},
    {&linear_loss_back, 3, "i32[2]", "operand 4 is i32, f32 is expected"},
    {&linear_loss_back, 3, "f32[5]", "logsumexp is [5], [2] is expected"},
    {&linear_loss_back, 4, "i32[2]", "operand 5 is i32, f32 is expected"},
    {&linear_loss_back, 4, "f32[]", "the gradient is [], [2] is expected"},
    {&attention, 0, "f32[2,5,6,8]", "operands 1 and 2 are f32 and f16"},
    {&attention, 0, "i32[2,5,6,8]", "operand 1 is i32"},
    {&attention, 1, "bf16[2,5,3,8]", "operands 1 and 2 are f16 and bf16"},
    {&attention, 1, "i32[2,5,3,8]", "operand 2 is i32"},
    {&attention, 1, "f16[2,5,8]", "operand 2 has 3 axes, 4 are expected"},
    {&attention, 1, "f16[2,5,2,8]", "k and v must have one shape"},
    {&attention, 2, "bf16[2,5,3,8]", "operands 1 and 3 are f16 and bf16"},
    {&attention, 2, "f16[2,5,8]", "operand 3 has 3 axes, 4 are expected"},
    {&attention, 2, "f16[2,5,3,4]", "k and v must have one shape"},
    {&attention, 0, "f16[1,5,6,8]", "batches 1 and 2 differ"},
    {&attention, 0, "f16[2,5,6,4]", "head sizes 4 and 8 differ"},
    {&attention, 0, "f16[2,5,4,8]", "4 heads of q are no multiple of 3"},
    {&attention, 0, "f16[2,4,6,8]", "segments need as many keys as queries, not 5 and 4"},
    {&attention, 0, "f16[2,6,6,8]", "causal attention of 6 queries needs as many keys, not 5"},
    {&attention, 3, "f32[2,5]", "operand 4 is f32, i32 is expected"},
    {&attention, 3, "i32[2,6]", "the segments' shape is [2, 6], [2, 5] is expected"},
    {&attention, 3, "i32[5]", "the segments' shape is [5], [2, 5] is expected"},
    {&long_attention, 0, "f32[1,1,1,256]", ""},
    {&long_attention, 0, "f32[1,3,1,256]", "causal attention of 3 queries"},
    {&attention_back, 0, "f16[2,6,6,8]", "segments need as many keys as queries, not 5 and 6"},
    {&attention_back, 3, "f32[2,5,6,8]", "operands 1 and 4 are f16 and f32"},
    {&attention_back, 3, "f16[2,5,3,8]", "q and o must have one shape"},
    {&attention_back, 4, "f16[2,6,5]", "operand 5 is f16, f32 is expected"},
    {&attention_back, 4, "f32[2,3,5]", "logsumexp is [2, 3, 5], [2, 6, 5] is expected"},
    {&attention_back, 5, "f32[2,5,6,8]", "operands 1 and 6 are f16 and f32"},
    {&attention_back, 5, "f16[2,5,3,8]", "q and the gradient must have one shape"},
    {&attention_back, 6, "f32[2,5]", "operand 7 is f32, i32 is expected"},
    {&attention_back, 6, "i32[2,3]", "the segments' shape is [2, 3], [2, 5] is expected"},
    {&embedding, 0, "i32[9,4]", "operand 1 is i32"},
    {&embedding, 0, "f16[9]", "operand 1 has 1 axes, 2 are expected"},
    {&embedding, 0, "f16[9,4,1]", "operand 1 has 3 axes, 2 are expected"},
    {&embedding, 1, "i32[1,1,1,1,3]", ""},
    {&embedding, 1, "i32[1,1,1,1,1,3]", "the ids have 6 axes, up to 5 are expected"},
    {&embedding, 1, "i32[]", ""},
    {&embedding_back, 0, "f32[2,3]", "operand 1 is f32, i32 is expected"},
    {&embedding_back, 0, "i32[2]", "the ids' shape is [2], [2, 3] is expected"},
    {&embedding_back, 1, "i32[2,3,4]", "operand 2 is i32"},
    {&embedding_back, 1, "f16[]", "operand 2 has 0 axes, at least 1 are expected"},
    {&embedding_back, 1, "f16[2,4]", "the ids' shape is [2, 3], [2] is expected"},
    {&rotary, 0, "i32[2,5,3,8]", "operand 1 is i32"},
    {&rotary, 0, "f32[5,3,8]", "operand 1 has 3 axes, 4 are expected"},
    {&rotary, 0, "f32[2,5,3,1,8]", "operand 1 has 5 axes, 4 are expected"},
    {&rotary, 0, "f32[2,5,3,9]", "the head size is 9, an even one"},
    {&rotary, 0, "f32[2,5,3,2]", ""},
    {&rotary, 1, "f32[2,5]", "operand 2 is f32, i32 is expected"},
    {&rotary, 1, "i32[2,3]", "the positions' shape is [2, 3], [2, 5] is expected"},
    {&rotary, 1, "i32[5]", "the positions' shape is [5], [2, 5] is expected"},
    {&dropout, 0, "i32[2,5]", "operand 1 is i32"},
    {&dropout, 1, "f32[]", "operand 2 is f32, i32 is expected"},
    {&dropout, 1, "i32[1]", "the seed is [1], [] is expected"},
    {&dropout, 2, "f32[]", "operand 3 is f32, i32 is expected"},
    {&dropout, 2, "i32[1]", "the step is [1], [] is expected"},
    {&dropout, 3, "f32[]", "operand 4 is f32, i32 is expected"},
    {&dropout, 3, "i32[1]", "the micro-batch is [1], [] is expected"},
    {&accumulate, 0, "i32[2,5]", "operand 1 is i32"},
    {&accumulate, 0, "f32[2,5]", "operands 1 and 2 are f32 and f16"},
    {&accumulate, 0, "f16[5,2]", "the variable and what is added must have one shape"},
    {&sgd, 0, "f16[3]", "operand 1 is f16, f32 is expected"},
    {&sgd, 0, "f32[4]", "the parameter and the state m must have one shape"},
    {&sgd, 1, "f16[3]", "operand 2 is f16, f32 is expected"},
    {&sgd, 2, "f32[3]", "the compute copy is f32, f16 or bf16 is expected"},
    {&sgd, 2, "bf16[3]", ""},
    {&sgd, 2, "bf16[2]", "the parameter and its copy must have one shape"},
    {&sgd, 3, "bf16[3]", "operand 4 is bf16, f32 is expected"},
    {&sgd, 3, "f32[2]", "the parameter and its gradient must have one shape"},
    {&sgd, 4, "i32[]", "operand 5 is i32, f32 is expected"},
    {&sgd, 4, "f32[1]", "a factor is [1], [] is expected"},
    {&sgd, 6, "f32[1]", "a factor is [1], [] is expected"},
    {&adamw, 1, "f32[2]", "the parameter and the state m must have one shape"},
    {&adamw, 2, "f32[2]", "the parameter and the state v must have one shape"},
    {&adamw, 2, "f16[3]", "operand 3 is f16, f32 is expected"},
    {&adamw, 3, "f32[2]", "the parameter and its gradient must have one shape"},
    {&adamw, 4, "f32[3]", "a factor is [3], [] is expected"},
    {&adamw, 8, "f16[]", "operand 9 is f16, f32 is expected"},
    {&adamw_q8, 0, "f16[257]", "operand 1 is f16, f32 is expected"},
    {&adamw_q8, 0, "f32[256]", "the state m is [128], [64] is expected"},
    {&adamw_q8, 0, "f32[513]", "the state m is [128], [192] is expected"},
    {&adamw_q8, 0, "f32[512]", "the parameter and its copy must have one shape"},
    {&adamw_q8, 1, "i32[2,64]", "the state m is [2, 64], [128] is expected"},
    {&adamw_q8, 1, "f32[128]", "operand 2 is f32, i32 is expected"},
    {&adamw_q8, 2, "i32[2]", "operand 3 is i32, f32 is expected"},
    {&adamw_q8, 2, "f32[1]", "the scales of the state m is [1], [2] is expected"},
    {&adamw_q8, 3, "i32[64]", "the state v is [64], [128] is expected"},
    {&adamw_q8, 3, "f32[128]", "operand 4 is f32, i32 is expected"},
    {&adamw_q8, 4, "i32[2]", "operand 5 is i32, f32 is expected"},
    {&adamw_q8, 4, "f32[]", "the scales of the state v is [], [2] is expected"},
    {&adamw_q8, 5, "i32[257]", "the compute copy is i32"},
    {&adamw_q8, 5, "f16[256]", "the parameter and its copy must have one shape"},
    {&adamw_q8, 6, "f16[257]", "the gradient is f16, f32 or bf16 is expected"},
    {&adamw_q8, 6, "f32[257]", ""},
    {&adamw_q8, 6, "f32[256]", "the parameter and its gradient must have one shape"},
    {&adamw_q8, 7, "f32[1]", "a factor is [1], [] is expected"},
    {&adamw_q8, 11, "i32[]", "operand 12 is i32, f32 is expected"},
    {&permute, 0, "f32[2,3]", "axis 2 is listed twice or does not exist"},
    {&permute, 0, "f32[2,3,4,5]", "axis 0 is listed twice or does not exist"},
    {&concat, 0, "f16[2,3,4]", "operands 1 and 2 are f16 and f32"},
    {&concat, 2, "f16[2,1,4]", "operands 1 and 3 are f32 and f16"},
    {&concat, 1, "f32[2,5]", "operands 1 and 2 may differ in the extent of axis 1 only"},
    {&concat, 1, "f32[2,5,4,1]", "operands 1 and 2 may differ in the extent of axis 1 only"},
    {&concat, 2, "f32[3,1,4]", "operands 1 and 3 may differ in the extent of axis 1 only"},
    {&concat, 2, "f32[2,1,5]", "operands 1 and 3 may differ in the extent of axis 1 only"},
    {&concat, 0, "f32[2]", "axis 1 of 1 axes"},
    {&concat, 2, "f32[2,9223372036854775800,4]", "the sum of the extents of axis 1 exceeds 2^63"},
};

static bool infer(const base *of, int operand, const char *type, inference *i) {
    static tensor_type types[MOST_TYPES];
    *i = (inference){.op = of->op, .attr = &of->attr, .input = types};
    i->inputs = read_types(of->inputs, types);
    ck_assert_int_lt(operand, i->inputs);
    if (operand >= 0) ck_assert_int_eq(read_types(type, &types[operand]), 1);
    return infer_types(i);
}

START_TEST(each_operand_counts) {
    const replaced *row = &rows[_i];
    inference i;
    ck_assert_msg(infer(row->of, -1, NULL, &i), "%s of %s: %s", op_table[row->of->op].name,
                  row->of->inputs, i.reason);
    bool fits = infer(row->of, row->operand, row->type, &i);
    ck_assert_msg(fits == !*row->reason, "%s with operand %d as %s: %s", op_table[row->of->op].name,
                  row->operand, row->type, fits ? "is taken" : i.reason);
    if (!fits)
        ck_assert_msg(strstr(i.reason, row->reason), "\"%s\" is not in: %s", row->reason, i.reason);
}
END_TEST

// Constants --------------------------------------------------------------------------------------

typedef struct constant {
    const base *of;
    brim_attr attr;
    const char *reason; // "": it is taken
} constant;

#define ROTARY(...)                                                                                \
    {                                                                                              \
        .rotary = { 100, false, {__VA_ARGS__} }                                                    \
    }
static const base pow_ = {OP_POW, "f16[2]", NO_ATTR}, clamp = {OP_CLAMP, "f16[2]", NO_ATTR};
static const base number = {OP_CONSTANT, "", NO_ATTR};
static const constant constants[] = {
    {&number, SCALARS(-INFINITY), ""},
    {&number, SCALARS(NAN), "its value is NaN"},
    {&pow_, SCALARS(-2.5f), ""},
    {&pow_, SCALARS(NAN), "the exponent is not finite"},
    {&pow_, SCALARS(-INFINITY), "the exponent is not finite"},
    {&clamp, SCALARS(1, 1), ""},
    {&clamp, SCALARS(1, 2), ""},
    {&clamp, SCALARS(1, NAN), "the limits are 1 and"},
    {&clamp, SCALARS(2, 1), "the limits are 2 and 1"},
    {&layer_norm, SCALARS(0), ""},
    {&layer_norm, SCALARS(-1e-30f), "eps is -1e-30, 0 or more is expected"},
    {&rms_norm, SCALARS(-1), "eps is -1"},
    {&rms_norm, SCALARS(INFINITY), "eps is inf"},
    {&linear_loss, CHUNKED(0), "a chunk of 0 classes, one at least is expected"},
    {&linear_loss_back, CHUNKED(-1), "a chunk of -1 classes"},
    {&long_attention, ATTEND(true, 1e-30f), ""},
    {&long_attention, ATTEND(true, 0), "the scale is 0, more than 0 is expected"},
    {&long_attention, ATTEND(true, -1), "the scale is -1"},
    {&long_attention, ATTEND(false, INFINITY), "the scale is inf"},
    {&embedding_back, {.rows = 1}, ""},
    {&rotary, {.rotary = {1e-3, true, {0}}}, ""},
    {&rotary, {.rotary = {0, true, {0}}}, "the base is 0, more than 0 is expected"},
    {&rotary, {.rotary = {-1, true, {0}}}, "the base is -1"},
    {&rotary, {.rotary = {INFINITY, true, {0}}}, "the base is inf"},
    {&rotary, {.rotary = {NAN, true, {0}}}, "the base is"},
    {&rotary, ROTARY(0, -1, -1, -1), ""}, // none
    {&rotary, ROTARY(0.5, 0, 1, 1), ""},
    {&rotary, ROTARY(-8, 1, 4, 100), "scaling by -8 from 1 to 4 turns in 100 tokens"},
    {&rotary, ROTARY(INFINITY, 1, 4, 100), "scaling by inf"},
    {&rotary, ROTARY(NAN, 1, 4, 100), "scaling by"},
    {&rotary, ROTARY(8, -1, 4, 100), "scaling by 8 from -1"},
    {&rotary, ROTARY(8, 4, 4, 100), "scaling by 8 from 4 to 4"},
    {&rotary, ROTARY(8, 1, INFINITY, 100), "from 1 to inf"},
    {&rotary, ROTARY(8, 1, 4, 0), "turns in 0 tokens"},
    {&rotary, ROTARY(8, 1, 4, -5), "turns in -5 tokens"},
    {&rotary, ROTARY(8, 1, 4, INFINITY), "turns in inf tokens"},
    {&dropout, {.dropout = {0.999f, 3}}, ""},
    {&dropout, {.dropout = {1, 3}}, "p is 1, 0 <= p < 1 is expected"},
    {&dropout, {.dropout = {-0.1f, 3}}, "p is -0.1"},
    {&dropout, {.dropout = {NAN, 3}}, "p is"},
    {&adamw, OPTIMIZER(0.999f, 0.999f, 1e30f, 1e30f, 1e30f), ""},
    {&adamw, OPTIMIZER(1, 0, 0, 0, 0), "beta1 is 1, 0 <= beta1 < 1 is expected"},
    {&adamw, OPTIMIZER(-0.1f, 0, 0, 0, 0), "beta1 is -0.1"},
    {&adamw, OPTIMIZER(0, 1, 0, 0, 0), "beta2 is 1, 0 <= beta2 < 1 is expected"},
    {&adamw, OPTIMIZER(0, NAN, 0, 0, 0), "beta2 is"},
    {&adamw, OPTIMIZER(0, 0, INFINITY, 0, 0), "eps is inf, 0 <= eps < inf is expected"},
    {&adamw, OPTIMIZER(0, 0, -1, 0, 0), "eps is -1"},
    {&adamw, OPTIMIZER(0, 0, 0, INFINITY, 0), "decay is inf"},
    {&adamw, OPTIMIZER(0, 0, 0, -1, 0), "decay is -1"},
    {&adamw, OPTIMIZER(0, 0, 0, 0, INFINITY), "lr_scale is inf"},
    {&adamw, OPTIMIZER(0, 0, 0, 0, -1), "lr_scale is -1"},
    {&adamw_q8, OPTIMIZER(0, 1, 0, 0, 0), "beta2 is 1"},
    {&adamw_q8, OPTIMIZER(0, 0, -1, 0, 0), "eps is -1"},
    {&adamw_q8, OPTIMIZER(1, 0, 0, 0, 0), "beta1 is 1"},
    {&sgd, OPTIMIZER(0, 1, -1, 0, 0), ""}, // it has neither
    {&sgd, OPTIMIZER(0, 0, 0, 0, -1), "lr_scale is -1"},
    {&permute, AXES(0, 1, 2), ""},
    {&permute, AXES(0, 1, 1), "axis 1 is listed twice"},
    {&permute, AXES(0, 1, -1), "axis -1 is listed twice or does not exist"},
    {&permute, AXES(3, 1, 2), "axis 3 is listed twice or does not exist"},
    {&concat, {.axis = 0}, "operands 1 and 2 may differ in the extent of axis 0 only"},
    {&concat, {.axis = 3}, "axis 3 of 3 axes"},
    {&concat, {.axis = -1}, "axis -1 of 3 axes"},
};

START_TEST(each_constant_has_bounds) {
    const constant *row = &constants[_i];
    base changed = *row->of;
    changed.attr = row->attr;
    inference i;
    bool fits = infer(&changed, -1, NULL, &i);
    ck_assert_msg(fits == !*row->reason, "%s, row %d: %s", op_table[changed.op].name, _i,
                  fits ? "is taken" : i.reason);
    if (!fits)
        ck_assert_msg(strstr(i.reason, row->reason), "\"%s\" is not in: %s", row->reason, i.reason);
}
END_TEST

// Chains ------------------------------------------------------------------------------------------

enum { MANY = GRAPH_MAX_OUTPUTS + 1 };
static const chain_step neg_first = {OP_NEG, BRIM_F32, {~0}, {0}};
static const chain_step neg_second = {OP_NEG, BRIM_F32, {~1}, {0}};

START_TEST(chains_have_bounds) {
    chain_step step[MANY];
    int16_t output[MANY];
    for (int k = 0; k < MANY; k++) step[k] = neg_first, output[k] = (int16_t)k;
    const chain_step clamps[] = {{OP_CLAMP, BRIM_F32, {~0}, {1, 2}},
                                 {OP_CLAMP, BRIM_F32, {~0}, {2, 1}},
                                 {OP_FUSED, BRIM_F32, {~0}, {0}},
                                 {OP_COUNT, BRIM_F32, {~0}, {0}},
                                 {(op_id)-1, BRIM_F32, {~0}, {0}},
                                 {OP_SUM, BRIM_F32, {~0}, {0}},
                                 {OP_ADD, BRIM_F32, {~0, 0}, {0}},
                                 {OP_ADD, BRIM_F32, {~0, ~2}, {0}},
                                 {OP_CAST, (brim_dtype)BRIM_DTYPE_COUNT, {~0}, {0}}};
    const chain_step apart[] = {neg_first, neg_second};
    const int16_t second[] = {1}, before[] = {-1}, behind[] = {1};
    const struct {
        chain c;
        const char *reason; // "": it is taken
    } chains[] = {
        {{GRAPH_MAX_OUTPUTS, GRAPH_MAX_OUTPUTS, step, output}, ""},
        {{MANY, MANY, step, output}, "a chain of 1 or more steps with 1 to 64 outputs is expected"},
        {{MANY, 1, step, output}, ""},
        {{1, 0, step, output}, "1 or more steps"},
        {{1, -1, step, output}, "1 or more steps"},
        {{0, 1, step, output}, "1 or more steps"},
        {{1, 1, NULL, output}, "1 or more steps"},
        {{1, 1, step, NULL}, "1 or more steps"},
        {{1, 1, step, before}, "output 0 is step -1, which does not exist"},
        {{1, 1, step, behind}, "output 0 is step 1, which does not exist"},
        {{1, 1, &clamps[0], output}, ""},
        {{1, 1, &clamps[1], output}, "step 0, clamp: the limits are 2 and 1"},
        {{1, 1, &clamps[2], output}, "step 0 is not an elementwise op"},
        {{1, 1, &clamps[3], output}, "step 0 is not an elementwise op"},
        {{1, 1, &clamps[4], output}, "step 0 is not an elementwise op"},
        {{1, 1, &clamps[5], output}, "step 0 is not an elementwise op"},
        {{1, 1, &clamps[6], output}, "step 0 reads operand 0, which does not exist"},
        {{1, 1, &clamps[7], output}, "step 0 reads operand -3, which does not exist"},
        {{1, 1, &clamps[8], output}, "step 0, cast: 4 is no dtype"},
        {{2, 1, apart, second}, "step 1 does not broadcast into the chain"},
    };
    for (size_t k = 0; k < sizeof chains / sizeof *chains; k++) {
        const base of = {OP_FUSED, "f32[2] f32[3]", {.chain = &chains[k].c}};
        inference i;
        bool fits = infer(&of, -1, NULL, &i);
        ck_assert_msg(fits == !*chains[k].reason, "row %d: %s", (int)k,
                      fits ? "is taken" : i.reason);
        if (fits)
            ck_assert_int_eq(i.outputs, chains[k].c.outputs);
        else
            ck_assert_msg(strstr(i.reason, chains[k].reason), "\"%s\" is not in: %s",
                          chains[k].reason, i.reason);
    }
}
END_TEST

Suite *graph_infer_operands_suite(void) {
    Suite *suite = suite_create("graph/infer operands");
    TCase *rules = tcase_create("rules");
    tcase_add_loop_test(rules, each_operand_counts, 0, sizeof rows / sizeof *rows);
    tcase_add_loop_test(rules, each_constant_has_bounds, 0, sizeof constants / sizeof *constants);
    tcase_add_test(rules, chains_have_bounds);
    suite_add_tcase(suite, rules);
    return suite;
}
