// Shape and dtype rules: one per op, in a table. A rule sees types only, so that constructors,
// passes and the verifier all use the same.
//
// 1. inference i = {.op = OP_MATMUL, .attr = &attr, .inputs = 2, .input = types};
// 2. if (!infer_types(&i)) ... i.reason says what does not fit and what was expected
// 3. i.output[0 .. i.outputs-1]
#ifndef BRIM_GRAPH_INFER_H
#define BRIM_GRAPH_INFER_H

#include "graph/graph.h"

typedef struct tensor_type {
    brim_dtype dtype;
    shape shape;
} tensor_type;

typedef struct inference {
    op_id op;
    const brim_attr *attr; // never NULL
    int inputs;
    const tensor_type *input;
    const brim_dtype *dtype; // asked for output 0, or NULL
    const shape *shape;      // asked for output 0, or NULL
    int outputs;
    tensor_type output[GRAPH_MAX_OUTPUTS];
    brim_status status; // of a refusal
    char reason[300];
} inference;

// Sets the outputs' types, or status and reason.
bool infer_types(inference *i);

typedef bool (*infer_rule)(inference *i);
extern const infer_rule infer_rules[OP_COUNT];

// Sets status and reason; returns false.
bool infer_refuse(inference *i, brim_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
