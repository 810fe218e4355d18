// Reverse-mode differentiation: graph in, graph out.
//
// Gradients are ordinary nodes of the same graph (phase BACKWARD), made by one rule per op (autograd/rules_*.c) with the
// constructors that scripts use. A value used more than once gets the sum of its uses' gradients. Only nodes on a path
// from a wanted leaf to the loss are visited.
//
// The gradient of a value has its dtype, with one exception: the gradient of a parameter's 16-bit compute copy is made
// in f32 by the op that makes it, so that parameter gradients are not rounded to 16 bits unless that is asked for.
#ifndef BRIM_AUTOGRAD_AUTOGRAD_H
#define BRIM_AUTOGRAD_AUTOGRAD_H

#include "graph/graph.h"

// Gradients of the scalar `loss`, whose own gradient is the scalar `seed`, with respect to count values of `wrt`.
// gradient[i] becomes invalid (id -1) where the loss does not depend on wrt[i]. A missing derivative is an error that
// names the op, its scope and the tensor.
brim_status autograd_differentiate(brim_graph *g, brim_value loss, brim_value seed, const value_id *wrt,
                                   int count, brim_value *gradient, brim_error *err);

// The same with the dtypes that the gradients must have. One narrower than its value's is rounded once: by the op that
// makes it where the value, or its compute copy, is used once, else after the uses' gradients were summed.
brim_status autograd_differentiate_as(brim_graph *g, brim_value loss, brim_value seed, const value_id *wrt,
                                      const brim_dtype *dtype, int count, brim_value *gradient, brim_error *err);

// What a rule sees: the node, its inputs and outputs as values, and the gradients of its outputs (id -1: none).
typedef struct rule_context {
    brim_graph *graph;
    const graph_node *node; // a copy: the graph's arrays move while nodes are made
    const brim_value *in, *out, *gradient_out;
    const bool *wanted;       // by input: is its gradient asked for
    const brim_dtype *dtype;  // by input: the dtype that its gradient must have
} rule_context;

// Stores the gradient of each wanted input (left invalid: zero).
typedef void (*derivative_rule)(const rule_context *context, brim_value *gradient_in);

extern const derivative_rule derivative_rules[OP_COUNT]; // NULL where op.def says ZERO or NONE

#endif
