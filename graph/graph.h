// The graph as data: values and nodes by id in growable arrays, in topological order (a node's inputs have smaller ids
// than its outputs; passes that reorder build a new graph or a schedule, they never break this).
//
// 1. Scripts and derivative rules make nodes with the constructors of <brim/graph.h> and of graph/build.h.
// 2. Passes (graph/passes.h) turn one graph into another; graph_verify runs after each.
// 3. graph_schedule orders the nodes, graph_layout gives every value its strides, graph_plan its bytes.
#ifndef BRIM_GRAPH_GRAPH_H
#define BRIM_GRAPH_GRAPH_H

#include <stdbool.h>
#include <stdint.h>
#include <brim/graph.h>
#include "core/arena.h"
#include "core/error.h"

typedef int32_t value_id; // -1: none
typedef int32_t node_id;  // -1: none (a leaf's producer)

typedef struct shape {
    int32_t rank;
    int64_t dim[BRIM_MAX_DIMS];
} shape;

// Ops ---------------------------------------------------------------------------------------------------------------

typedef enum op_id {
#define BRIM_OP(id, name, in, out, attr, family, inplace, grad, cast, expression, meaning) OP_##id,
#include "graph/op.def"
#undef BRIM_OP
    OP_COUNT
} op_id;

typedef enum op_family {
    FAMILY_ELEMENTWISE, FAMILY_VIEW, FAMILY_CONTRACTION, FAMILY_REDUCTION, FAMILY_ROW,
    FAMILY_ATTENTION, FAMILY_GATHER, FAMILY_RANDOM, FAMILY_UPDATE
} op_family;

typedef enum op_derivative { DERIVATIVE_RULE, DERIVATIVE_ZERO, DERIVATIVE_NONE } op_derivative;
typedef enum op_cast { CAST_LOW, CAST_FOLLOW, CAST_NORM, CAST_WIDE, CAST_FULL, CAST_KEEP } op_cast;

typedef enum op_attr_kind {
    ATTR_NONE, ATTR_SCALARS, ATTR_CHAIN, ATTR_PERMUTE, ATTR_SLICE, ATTR_AXIS, ATTR_MATMUL,
    ATTR_REDUCE, ATTR_TARGETS, ATTR_CHUNKED_TARGETS, ATTR_ATTENTION, ATTR_ROWS, ATTR_ROTARY, ATTR_DROPOUT,
    ATTR_OPTIMIZER
} op_attr_kind;

enum { OP_VARIADIC = 99 };

typedef struct op_info {
    const char *name;
    int8_t inputs; // OP_VARIADIC; or -n: n-1 ... see op_accepts
    int8_t outputs;
    op_attr_kind attr;
    op_family family;
    uint8_t inplace;
    op_derivative derivative;
    op_cast cast;
    const char *expression;
    const char *meaning;
} op_info;

extern const op_info op_table[OP_COUNT];

// True if the op takes that many inputs (a negative count in op.def is "n, or one more").
bool op_accepts(op_id op, int inputs);

// One kernel for several elementwise ops: a straight-line program. Operand i >= 0 is the result of step i; ~i is the
// chain's input i. All steps have the chain's shape or broadcast into it. The result of each step is rounded to its
// dtype, whether or not it is stored.
typedef struct chain_step {
    op_id op;
    brim_dtype dtype;
    int16_t operand[3];
    float scalar[2];
} chain_step;

typedef struct chain {
    int16_t steps, outputs;
    const chain_step *step;
    const int16_t *output; // steps whose results are the node's outputs
} chain;

// Constants of an op. Which member holds is said by op_info.attr.
typedef union brim_attr {
    float scalar[2];                                          // SCALARS
    const chain *chain;                                       // CHAIN
    int8_t axes[BRIM_MAX_DIMS];                               // PERMUTE
    int64_t start[BRIM_MAX_DIMS];                             // SLICE
    int32_t axis;                                             // AXIS
    struct { bool transpose_a, transpose_b; } matmul;         // MATMUL
    struct { uint32_t axes; bool keep; } reduce;              // REDUCE
    struct { int32_t ignore; } targets;                       // TARGETS
    struct { int32_t ignore; int64_t chunk; } chunked_targets; // CHUNKED_TARGETS: logits of `chunk` classes at a time
    struct { bool causal; float scale; } attention;           // ATTENTION
    int64_t rows;                                             // ROWS
    struct { double base; bool inverse; brim_rotary_scaling scaling; } rotary; // ROTARY
    struct { float p; uint32_t stream; } dropout;             // DROPOUT: stream tells apart the calls of one graph
    struct { float beta1, beta2, eps, decay, lr_scale; } optimizer; // OPTIMIZER; SGD: beta1 is the momentum
} brim_attr;

// Values and nodes --------------------------------------------------------------------------------------------------

typedef enum value_role {
    ROLE_RESULT,      // of a node
    ROLE_INPUT,       // fed for each micro-batch
    ROLE_PARAMETER,   // f32 master
    ROLE_STATE,       // optimizer state
    ROLE_COPY,        // 16-bit compute copy of a parameter, "NAME/bf16" or "NAME/f16"; its update keeps it fresh
    ROLE_ACCUMULATOR, // lives through the micro-batches of a step
    ROLE_CONTROL      // a slot of the control block
} value_role;

// A variable outlives the step (an accumulator: the micro-batch), and an UPDATE may write it.
static inline bool role_is_variable(value_role role) {
    return role == ROLE_PARAMETER || role == ROLE_STATE || role == ROLE_COPY || role == ROLE_ACCUMULATOR;
}

// States as 8-bit blocks: that many elements share a scale. Word w of a block, an i32, holds the codes of its elements
// w, w + 64, w + 128 and w + 192, the first in the lowest byte; elements that a last block lacks have codes of 0.
enum { STATE_BLOCK = 256, STATE_BLOCK_WORDS = STATE_BLOCK / 4 };
static inline int64_t state_blocks(int64_t elements) {
    return elements / STATE_BLOCK + (elements % STATE_BLOCK != 0);
}

// Scalars that change from step to step; the host writes the block before each section.
typedef enum control_slot {
    CONTROL_LR, CONTROL_LOSS_SCALE, CONTROL_BIAS1, CONTROL_BIAS2, // f32; BIASi = 1 - beta_i^step
    CONTROL_SEED, CONTROL_STEP, CONTROL_MICRO,                    // i32
    CONTROL_COUNT
} control_slot;

typedef struct graph_value {
    brim_dtype dtype;
    shape shape;
    value_role role;
    node_id producer; // -1 for leaves
    int8_t output;    // which output of its producer
    int8_t control;   // ROLE_CONTROL: the slot
    const char *name; // leaves and named outputs; else NULL
    brim_init init;   // ROLE_PARAMETER
    value_id update;  // of a variable: the value it becomes (output of an UPDATE node), or -1
    value_id original; // of a recomputed node: the value that this one is again, or -1 where that is not stored
    bool checkpoint;   // a script's mark, see brim_checkpoint
} graph_value;

typedef enum node_phase { PHASE_FORWARD, PHASE_BACKWARD, PHASE_UPDATE } node_phase;

// A step is run as sections: FIRST, MIDDLE (repeated) and LAST micro-batch; with a single micro-batch only LAST runs.
enum { SECTION_FIRST = 1, SECTION_MIDDLE = 2, SECTION_LAST = 4, SECTION_ALL = 7 };

typedef struct graph_node {
    op_id op;
    brim_attr attr;
    int32_t inputs, outputs;
    const value_id *input;
    value_id first_output; // outputs are consecutive
    node_phase phase;
    uint8_t sections; // where it runs
    bool recomputed;  // a forward node's copy in the backward pass, or a chain with one (graph/pass_recompute.h)
    const char *scope;
} graph_node;

// Bytes of a name or scope with its NUL; open scopes; inputs of a FUSED or CONCAT have no limit, outputs of a node do.
enum { GRAPH_NAME_BYTES = 256, GRAPH_SCOPE_DEPTH = 32, GRAPH_MAX_OUTPUTS = 64 };

struct brim_graph {
    brim_error *err;
    arena *memory; // strings, input lists, attributes
    graph_value *value;
    graph_node *node;
    int32_t values, value_capacity, nodes, node_capacity;
    node_phase phase; // of the nodes being made
    bool training;    // false: dropout is the identity
    char scope[GRAPH_NAME_BYTES];          // the open scopes, joined by dots
    uint16_t scope_end[GRAPH_SCOPE_DEPTH]; // bytes of scope before each push
    int32_t scope_depth;
    const char *scope_text; // scope as the newest nodes share it
    value_id *result; // named results, in the order of brim_output
    int32_t results, result_capacity;
    uint32_t dropouts; // made so far
    struct { value_id sum, count; } loss; // -1 until a builder returned
};

#define GRAPH_INVALID ((brim_value){0, -1})

static inline brim_value graph_value_of(const brim_graph *g, value_id id) {
    return (brim_value){(brim_graph *)g, id};
}

// Shapes
int64_t shape_elements(const shape *s); // 1 for a scalar; extents were checked when the value was made
bool shape_equal(const shape *a, const shape *b);
bool shape_broadcast(const shape *a, const shape *b, shape *out); // false if they do not fit
// "[8, 256, 384]"; returns buffer
const char *shape_print(const shape *s, char *buffer, size_t size);

// Leaves other than inputs and parameters
value_id graph_leaf(brim_graph *g, value_role role, brim_dtype dtype, const shape *s, const char *name);
brim_value graph_control(brim_graph *g, control_slot slot);

// Makes a node after checking arity, dtypes and shapes (graph/infer.h); returns its first output. An error is stuck to
// the graph with op, scope, operand shapes, and what was expected. No value where there is no graph.
brim_value graph_op(brim_graph *g, op_id op, const brim_value *inputs, int count, const brim_attr *attr);
// The same with the dtype of output 0 given: contractions, reductions and *_PARAMS ops can write f32 from 16-bit inputs.
brim_value graph_op_as(brim_graph *g, op_id op, const brim_value *inputs, int count, const brim_attr *attr,
                       brim_dtype dtype);
// Same node with outputs whose shape the inputs do not determine (RESHAPE, SLICE, PAD, BROADCAST, CONSTANT...).
brim_value graph_op_shaped(brim_graph *g, op_id op, const brim_value *inputs, int count,
                           const brim_attr *attr, brim_dtype dtype, const shape *s);
static inline brim_value graph_output(brim_value first, int index) {
    return first.id < 0 ? first : (brim_value){first.graph, first.id + index};
}

// Checks everything that passes rely on; names the pass in the error.
brim_status graph_verify(const brim_graph *g, const char *after, brim_error *err);

#endif
