// One row per op. Elementwise ops need none of their own: their row in op.def holds their expression.
#include "backends/lower_rules.h"

#define ROW_ELEMENTWISE(id) [OP_##id] = {lower_elementwise, NULL},
#define ROW_VIEW(id)
#define ROW_CONTRACTION(id)
#define ROW_REDUCTION(id)
#define ROW_ROW(id)
#define ROW_ATTENTION(id)
#define ROW_GATHER(id)
#define ROW_RANDOM(id)
#define ROW_UPDATE(id)
#define BRIM_OP(id, name, in, out, attr, family, inplace, grad, cast, expression, meaning) ROW_##family(id)

const kernel_row kernel_table[OP_COUNT] = {
#include "graph/op.def"
    [OP_RESHAPE] = {lower_view, NULL},
    [OP_PERMUTE] = {lower_view, NULL},
    [OP_SLICE] = {lower_view, NULL},
    [OP_BROADCAST] = {lower_view, NULL},
    [OP_CONCAT] = {lower_concat, NULL},
    [OP_PAD] = {lower_pad, NULL},
    [OP_MATMUL] = {lower_matmul, workspace_matmul},
    [OP_SUM] = {lower_sum, workspace_sum},
    [OP_SUM_SQUARES] = {lower_sum_squares, workspace_sum_squares},
    [OP_MAX] = {lower_max, workspace_max},
    [OP_SOFTMAX] = {lower_softmax, NULL},
    [OP_SOFTMAX_BACKWARD] = {lower_softmax_backward, NULL},
    [OP_LOG_SOFTMAX] = {lower_log_softmax, NULL},
    [OP_LOG_SOFTMAX_BACKWARD] = {lower_log_softmax_backward, NULL},
    [OP_LAYER_NORM] = {lower_layer_norm, NULL},
    [OP_LAYER_NORM_BACKWARD] = {lower_layer_norm_backward, NULL},
    [OP_LAYER_NORM_BACKWARD_PARAMS] = {lower_layer_norm_backward_params, workspace_layer_norm_backward_params},
    [OP_RMS_NORM] = {lower_rms_norm, NULL},
    [OP_RMS_NORM_BACKWARD] = {lower_rms_norm_backward, NULL},
    [OP_RMS_NORM_BACKWARD_PARAMS] = {lower_rms_norm_backward_params, workspace_rms_norm_backward_params},
    [OP_CROSS_ENTROPY] = {lower_cross_entropy, NULL},
    [OP_CROSS_ENTROPY_BACKWARD] = {lower_cross_entropy_backward, NULL},
    [OP_LINEAR_CROSS_ENTROPY] = {lower_linear_cross_entropy, workspace_linear_cross_entropy},
    [OP_LINEAR_CROSS_ENTROPY_BACKWARD] = {lower_linear_cross_entropy_backward, workspace_linear_cross_entropy_backward},
    [OP_ATTENTION] = {lower_attention, workspace_attention},
    [OP_ATTENTION_BACKWARD] = {lower_attention_backward, workspace_attention_backward},
    [OP_EMBEDDING] = {lower_embedding, NULL},
    [OP_EMBEDDING_BACKWARD] = {lower_embedding_backward, workspace_embedding_backward},
    [OP_ROTARY] = {lower_rotary, NULL},
    [OP_DROPOUT] = {lower_dropout, NULL},
    [OP_ACCUMULATE] = {lower_accumulate, NULL},
    [OP_ADAMW] = {lower_adamw, NULL},
    [OP_ADAMW_CAST] = {lower_adamw, NULL},
    [OP_ADAMW_Q8] = {lower_adamw_q8, NULL},
    [OP_ADAMW_Q8_CAST] = {lower_adamw_q8, NULL},
    [OP_SGD] = {lower_sgd, NULL},
    [OP_SGD_CAST] = {lower_sgd, NULL},
};
