// Where a value's elements are, relative to the storage it lies in; when nodes run.
//
// 1. graph_schedule_make: an order of execution.
// 2. graph_layout_make: every value's storage and strides.
// 3. memory_plan_make (graph/memory_plan.h): every storage's bytes.
//
// Most values are storages of their own, dense and row-major. Views (RESHAPE, PERMUTE, SLICE,
// BROADCAST) are strides into their input's storage. The inputs of a CONCAT are, where their
// producers can write so and nobody else decides their place, parts of its storage: lowering copies
// only those that are not (storage differs from the result's). An UPDATE's outputs lie in its
// variables. Where op.def allows it, an output takes over the storage of an input that dies: both
// then have the same layout, so each element is overwritten by the work-item that has read it. The
// values of the CONTROL leaves lie in one block, whose storage is the first of them; a value's
// offset is its slot.
#ifndef BRIM_GRAPH_LAYOUT_H
#define BRIM_GRAPH_LAYOUT_H

#include "graph/graph.h"

typedef struct value_layout {
    value_id storage;              // the value that owns the bytes (itself for most)
    int64_t offset;                // of the first element, in elements of the value's dtype
    int64_t stride[BRIM_MAX_DIMS]; // 0 along broadcast axes; axes of extent 1 have a stride that
                                   // nobody uses
} value_layout;

typedef struct graph_layout {
    value_layout *of; // by value id
    int32_t values;
} graph_layout;

// Which ops can read input i, or write output j, with any strides whose last axis is dense (ANY:
// any strides at all). A dense operand may start anywhere in its storage. MATMUL's operands are
// ROWS whose leading axes (the batch) are one single stride; each is either of the full batch or of
// extent 1 in all of it.
typedef enum access_form { ACCESS_DENSE, ACCESS_ROWS, ACCESS_ANY } access_form;
access_form op_reads(op_id op, int input);
access_form op_writes(op_id op, int output);

// True if the layout has the form: DENSE row-major without gaps; ROWS: the last axis has stride 1.
bool layout_has_form(const value_layout *l, const shape *s, access_form form);
// True if the node can read its input so: op_reads, and MATMUL's rule.
bool layout_suits(const brim_graph *g, const graph_node *node, int input, const value_layout *l);
// The same for an operand of shape s and a result (output 0) of that shape.
bool layout_suits_shape(op_id op, int input, const shape *s, const shape *result,
                        const value_layout *l);

// The layout of a storage of that shape, from its start.
value_layout layout_dense(value_id storage, const shape *s);
// True for the ops that are nothing but strides.
bool op_is_view(op_id op);
// The layout of a view's output, given its input's; false if strides cannot express it (only
// RESHAPE).
bool layout_of_view(const brim_graph *g, const graph_node *node, const value_layout *in,
                    value_layout *out);
// Strides of `to` over the same elements in row-major order as `from`; numpy's rule.
bool layout_reshape(const shape *from, const int64_t *stride, const shape *to, int64_t *out);

// In order of execution: topological, updates as early as they can run (a gradient dies at once),
// readers of a variable before its update.
typedef struct graph_schedule {
    node_id *order;
    int32_t count;
} graph_schedule;
brim_status graph_schedule_make(const brim_graph *g, graph_schedule *out, brim_error *err);
void graph_schedule_free(graph_schedule *schedule);

// The schedule decides where an input dies, and so what is done in place. The graph has been
// through pass_densify.
brim_status graph_layout_make(const brim_graph *g, const graph_schedule *schedule,
                              graph_layout *out, brim_error *err);
void graph_layout_free(graph_layout *layout);
// Proves that views agree with their inputs, that every node can read and write its operands'
// strides, that all elements lie inside their storages, and that no value is overwritten before its
// last reader.
brim_status graph_layout_verify(const brim_graph *g, const graph_schedule *schedule,
                                const graph_layout *layout, brim_error *err);

#endif
