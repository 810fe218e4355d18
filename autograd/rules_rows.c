// Derivatives of ops on rows, and of attention: each has a backward op that uses what the forward
// op saved.
#include "autograd/rules.h"

void derive_softmax(const rule_context *c, brim_value *dx) {
    brim_value inputs[2] = {c->out[0], derive_dy(c)};
    dx[0] = graph_op(c->graph, OP_SOFTMAX_BACKWARD, inputs, 2, NULL);
}

void derive_log_softmax(const rule_context *c, brim_value *dx) {
    brim_value inputs[2] = {c->out[0], derive_dy(c)};
    dx[0] = graph_op(c->graph, OP_LOG_SOFTMAX_BACKWARD, inputs, 2, NULL);
}

void derive_layer_norm(const rule_context *c, brim_value *dx) {
    if (!derive_only_first(c)) return;
    brim_value dy = derive_dy(c), x = c->in[0], gain = c->in[1];
    brim_value mean = c->out[1], rstd = c->out[2];
    if (c->wanted[0]) {
        brim_value inputs[5] = {dy, x, gain, mean, rstd};
        dx[0] = graph_op(c->graph, OP_LAYER_NORM_BACKWARD, inputs, 5, NULL);
    }
    if (c->wanted[1] || c->wanted[2]) {
        brim_value inputs[4] = {dy, x, mean, rstd};
        brim_value gains = graph_op(c->graph, OP_LAYER_NORM_BACKWARD_PARAMS, inputs, 4, NULL);
        dx[1] = gains;
        dx[2] = graph_output(gains, 1);
    }
}

void derive_rms_norm(const rule_context *c, brim_value *dx) {
    if (!derive_only_first(c)) return;
    brim_value dy = derive_dy(c), x = c->in[0], gain = c->in[1], rstd = c->out[1];
    if (c->wanted[0]) {
        brim_value inputs[4] = {dy, x, gain, rstd};
        dx[0] = graph_op(c->graph, OP_RMS_NORM_BACKWARD, inputs, 4, NULL);
    }
    if (c->wanted[1]) {
        brim_value inputs[3] = {dy, x, rstd};
        dx[1] = graph_op(c->graph, OP_RMS_NORM_BACKWARD_PARAMS, inputs, 3, NULL);
    }
}

void derive_cross_entropy(const rule_context *c, brim_value *dx) {
    if (!derive_only_first(c)) return;
    brim_value inputs[4] = {c->in[0], c->in[1], c->out[1], derive_dy(c)};
    dx[0] = graph_op(c->graph, OP_CROSS_ENTROPY_BACKWARD, inputs, 4, &c->node->attr);
}

// One op makes both gradients: the gradient of a chunk's logits serves both.
void derive_linear_cross_entropy(const rule_context *c, brim_value *dx) {
    if (!derive_only_first(c)) return;
    brim_value inputs[5] = {c->in[0], c->in[1], c->in[2], c->out[1], derive_dy(c)};
    dx[1] = graph_op_as(c->graph, OP_LINEAR_CROSS_ENTROPY_BACKWARD, inputs, 5, &c->node->attr,
                        c->dtype[1]);
    dx[0] = graph_output(dx[1], 1);
}

void derive_attention(const rule_context *c, brim_value *dx) {
    if (!derive_only_first(c)) return;
    brim_value inputs[7] = {c->in[0], c->in[1], c->in[2], c->out[0], c->out[1], derive_dy(c)};
    for (int32_t i = 3; i < c->node->inputs; i++) inputs[3 + i] = c->in[i]; // segments
    brim_value dq =
        graph_op(c->graph, OP_ATTENTION_BACKWARD, inputs, 3 + c->node->inputs, &c->node->attr);
    dx[0] = dq;
    dx[1] = graph_output(dq, 1);
    dx[2] = graph_output(dq, 2);
}
