// The oracle: a scalar, double-precision interpreter of graphs. It shares no code with kernels or
// with backends/, and is written for being read, not for speed.
//
//   1. oracle *o = oracle_create(graph, &err);
//   2. oracle_set(o, leaf, numbers, &err);         for every leaf (integers as doubles too)
//   3. oracle_run(o, &err);                        or oracle_run_node, with its inputs set by hand
//   4. o->value[id].data[i], in row-major order;  oracle_accepts(&o->value[id], i, what a device
//   gave)
//   5. oracle_free(o);
//
// Beside each result stands a magnitude: what f32 arithmetic's rounding errors are proportional to,
// in units of f32's unit roundoff (for a product of matrices sum |a_i b_i|). It is that of the one
// op, its inputs taken as exact. A magnitude of 0 says that the result is determined to the bit.
// oracle_accepts knows the one constant of proportion, which is the same for all ops.
#ifndef BRIM_TESTS_ORACLE_H
#define BRIM_TESTS_ORACLE_H

#include "core/arena.h"
#include "graph/graph.h"

typedef struct oracle_tensor {
    brim_dtype dtype;
    shape shape;
    int64_t count;
    double *data;      // NULL until known
    double *magnitude; // of results; NULL for leaves
} oracle_tensor;

typedef struct oracle {
    const brim_graph *graph;
    oracle_tensor *value; // by value id
    bool round;           // as a device does: see oracle_run; else nothing is rounded anywhere
    bool first_micro;     // this is the first micro-batch of a step (ACCUMULATE); true at first
    arena memory;
} oracle;

oracle *oracle_create(const brim_graph *g, brim_error *err);
void oracle_free(oracle *o);

// Copies the elements of a value.
void oracle_set(oracle *o, value_id v, const double *data, brim_error *err);

// Evaluates all nodes in order, or one node from what its inputs hold. With `round`, oracle_run
// rounds each result to its dtype; oracle_run_node leaves it as it is before it is stored, which is
// what oracle_accepts wants.
brim_status oracle_run(oracle *o, brim_error *err);
brim_status oracle_run_node(oracle *o, node_id n, brim_error *err);

// To nearest, ties to even, with overflow to infinity; I32 towards zero.
double oracle_round(brim_dtype dtype, double x);

// The error that is allowed for element i of a result, and whether what a device gave is within it.
// Not-a-number is accepted only where the oracle has it, an infinity only where the exact result
// rounds to it.
double oracle_tolerance(const oracle_tensor *t, int64_t i);
bool oracle_accepts(const oracle_tensor *t, int64_t i, double device);

// The one constant of all tolerances: an error of ORACLE_C ORACLE_UNIT times the magnitude is allowed.
#define ORACLE_C 8.0
#define ORACLE_UNIT 0x1p-24
// The magnitude of an intermediate result that may have been flushed to zero, as less than f32's
// least normal number.
#define ORACLE_FLUSHED (0x1p-126 / (ORACLE_C * ORACLE_UNIT))

// Rules ------------------------------------------------------------------------------------------

typedef struct oracle_context {
    const oracle *oracle;
    const graph_node *node;
    const oracle_tensor *in[16]; // of ops with up to 16 inputs; a chain reads node->input
    oracle_tensor *out;          // data and magnitude are allocated; magnitude is 0
} oracle_context;

typedef void (*oracle_rule)(const oracle_context *c);
extern const oracle_rule oracle_rules[OP_COUNT];

void oracle_elementwise(const oracle_context *c);
void oracle_fused(const oracle_context *c);
void oracle_reshape(const oracle_context *c);
void oracle_permute(const oracle_context *c);
void oracle_slice(const oracle_context *c);
void oracle_broadcast(const oracle_context *c);
void oracle_concat(const oracle_context *c);
void oracle_pad(const oracle_context *c);
void oracle_matmul(const oracle_context *c);
void oracle_sum(const oracle_context *c);
void oracle_sum_squares(const oracle_context *c);
void oracle_max(const oracle_context *c);
void oracle_softmax(const oracle_context *c);
void oracle_softmax_backward(const oracle_context *c);
void oracle_log_softmax(const oracle_context *c);
void oracle_log_softmax_backward(const oracle_context *c);
void oracle_layer_norm(const oracle_context *c);
void oracle_layer_norm_backward(const oracle_context *c);
void oracle_layer_norm_backward_params(const oracle_context *c);
void oracle_rms_norm(const oracle_context *c);
void oracle_rms_norm_backward(const oracle_context *c);
void oracle_rms_norm_backward_params(const oracle_context *c);
void oracle_cross_entropy(const oracle_context *c);
void oracle_cross_entropy_backward(const oracle_context *c);
void oracle_linear_cross_entropy(const oracle_context *c);
void oracle_linear_cross_entropy_backward(const oracle_context *c);
void oracle_attention(const oracle_context *c);
void oracle_attention_backward(const oracle_context *c);
void oracle_embedding(const oracle_context *c);
void oracle_embedding_backward(const oracle_context *c);
void oracle_rotary(const oracle_context *c);
void oracle_dropout(const oracle_context *c);
void oracle_accumulate(const oracle_context *c);
void oracle_adamw(const oracle_context *c);
void oracle_sgd(const oracle_context *c);
void oracle_adamw_q8(const oracle_context *c);

// Splits a row-major index of a shape into one index an axis, and back.
void oracle_split(const shape *s, int64_t index, int64_t *at);
int64_t oracle_join(const shape *s, const int64_t *at);
// The element of t that is at `at` (of a shape of `rank` axes) when t is broadcast.
int64_t oracle_broadcast_index(const shape *t, int32_t rank, const int64_t *at);

#endif
