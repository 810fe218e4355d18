// What the shape rules share, and the rules of each family. See graph/infer.h.
#ifndef BRIM_GRAPH_INFER_RULES_H
#define BRIM_GRAPH_INFER_RULES_H

#include "graph/infer.h"

// Each names what was expected in i->reason and returns false where it is not so.
bool infer_float(inference *i, int input);
bool infer_is(inference *i, int input, brim_dtype dtype);
bool infer_same_dtype(inference *i, int a, int b);
bool infer_rank(inference *i, int input, int least, int most);
bool infer_same_shape(inference *i, int a, int b, const char *what_a, const char *what_b);

// Operand `input` must have this shape; `what` names it: "the gain".
bool infer_shape_is(inference *i, int input, const shape *expected, const char *what);

bool infer_set(inference *i, int output, brim_dtype dtype, const shape *s); // true

// The shape without its last axis.
shape infer_rows(const shape *s);

// elementwise: infer_elementwise.c
bool infer_constant(inference *i);
bool infer_cast(inference *i);
bool infer_unary_float(inference *i);
bool infer_unary_any(inference *i);
bool infer_pow(inference *i);
bool infer_clamp(inference *i);
bool infer_binary_float(inference *i);
bool infer_binary_any(inference *i);
bool infer_where(inference *i);
bool infer_fused(inference *i);

// views: infer_views.c
bool infer_reshape(inference *i);
bool infer_permute(inference *i);
bool infer_slice(inference *i);
bool infer_broadcast(inference *i);
bool infer_concat(inference *i);
bool infer_pad(inference *i);

// contractions, reductions, rows: infer_rows.c
bool infer_matmul(inference *i);
bool infer_reduce(inference *i);
bool infer_softmax(inference *i);
bool infer_softmax_backward(inference *i);
bool infer_layer_norm(inference *i);
bool infer_layer_norm_backward(inference *i);
bool infer_layer_norm_backward_params(inference *i);
bool infer_rms_norm(inference *i);
bool infer_rms_norm_backward(inference *i);
bool infer_rms_norm_backward_params(inference *i);
bool infer_cross_entropy(inference *i);
bool infer_cross_entropy_backward(inference *i);
bool infer_linear_cross_entropy(inference *i);
bool infer_linear_cross_entropy_backward(inference *i);

// sequences and updates: infer_sequences.c
bool infer_attention(inference *i);
bool infer_attention_backward(inference *i);
bool infer_embedding(inference *i);
bool infer_embedding_backward(inference *i);
bool infer_rotary(inference *i);
bool infer_dropout(inference *i);
bool infer_accumulate(inference *i);
bool infer_adamw(inference *i);
bool infer_adamw_q8(inference *i);
bool infer_sgd(inference *i);

#endif
