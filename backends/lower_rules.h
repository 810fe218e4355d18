// The rules that kernel_table.c's rows point to, by the file that holds them.
//
// The rule of op NAME is lower_NAME, its workspace rule workspace_NAME. To add one: declare it
// here, define it in its family's file, and name it in the op's row of kernel_table.c.
#ifndef BRIM_BACKENDS_LOWER_RULES_H
#define BRIM_BACKENDS_LOWER_RULES_H

#include "backends/lower.h"

// lower_elementwise.c: every op of family ELEMENTWISE, alone or as a chain.
void lower_elementwise(lowering *l);
// The chain over the outputs' shape; the inputs broadcast into it. Outputs all have one shape and
// no stride of 0.
void lower_chain(lowering *l, const chain *c, const operand *inputs, int count,
                 const operand *outputs);
void lower_copy_elements(lowering *l, const operand *from, const operand *to);
void lower_fill_elements(lowering *l, double value, const operand *to);

// lower_views.c
void lower_view(
    lowering *l); // RESHAPE, PERMUTE, SLICE, BROADCAST: nothing, where the layout made them views
void lower_concat(lowering *l); // parts that the layout did not place in the result
void lower_pad(lowering *l);

// lower_matmul.c
void lower_matmul(lowering *l);
int64_t workspace_matmul(const lowering *l);

// One product, by the backend's library where it serves the shape, else by our own kernel. The
// operands give base and range; the shape says the rest (batch strides in elements). The workspace
// has as many bytes as workspace_product tells, before planning and after it.
void lower_product(lowering *l, const matmul_shape *shape, const operand *a, const operand *b,
                   const operand *c, byte_range workspace);
int64_t workspace_product(const lowering *l, const matmul_shape *shape);
// Of operands that are not batched: matmul_shape's alignment.
int32_t product_alignment(const lowering *l, const operand *const *operands, int count);

// lower_matmul_kernel.c: a product that no library serves, by kernels/matmul.k.
void lower_matmul_kernel(lowering *l, const matmul_shape *shape, const operand *a, const operand *b,
                         const operand *c, byte_range workspace);
int64_t workspace_matmul_kernel(const lowering *l, const matmul_shape *shape);

// Reductions
void lower_sum(lowering *l);
void lower_sum_squares(lowering *l);
void lower_max(lowering *l);
int64_t workspace_sum(const lowering *l);
int64_t workspace_sum_squares(const lowering *l);
int64_t workspace_max(const lowering *l);

// Rows
void lower_softmax(lowering *l);
void lower_softmax_backward(lowering *l);
void lower_log_softmax(lowering *l);
void lower_log_softmax_backward(lowering *l);
void lower_layer_norm(lowering *l);
void lower_layer_norm_backward(lowering *l);
void lower_layer_norm_backward_params(lowering *l);
void lower_rms_norm(lowering *l);
void lower_rms_norm_backward(lowering *l);
void lower_rms_norm_backward_params(lowering *l);
void lower_cross_entropy(lowering *l);
void lower_cross_entropy_backward(lowering *l);
int64_t workspace_layer_norm_backward_params(const lowering *l);
int64_t workspace_rms_norm_backward_params(const lowering *l);

// lower_linear_cross_entropy.c
void lower_linear_cross_entropy(lowering *l);
void lower_linear_cross_entropy_backward(lowering *l);
int64_t workspace_linear_cross_entropy(const lowering *l);
int64_t workspace_linear_cross_entropy_backward(const lowering *l);

// Attention
void lower_attention(lowering *l);
void lower_attention_backward(lowering *l);
int64_t workspace_attention(const lowering *l);
int64_t workspace_attention_backward(const lowering *l);

// Gathers, positions, randomness
void lower_embedding(lowering *l);
void lower_embedding_backward(lowering *l);
void lower_rotary(lowering *l);
void lower_dropout(lowering *l);
int64_t workspace_embedding_backward(const lowering *l);

// Updates
void lower_accumulate(lowering *l);
void lower_adamw(lowering *l);
void lower_adamw_q8(lowering *l);
void lower_sgd(lowering *l);

#endif
