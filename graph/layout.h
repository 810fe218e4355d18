// Where a value's elements are, relative to the storage it lies in.
//
// Most values are storages of their own, dense and row-major. Views (RESHAPE, PERMUTE, SLICE, BROADCAST) are strides
// into their input's storage. The inputs of a CONCAT are, where their producers can write strided and nobody else
// decides their place, slices of its storage. An UPDATE's outputs lie in its variables. CONTROL values lie in the control block.
#ifndef BRIM_GRAPH_LAYOUT_H
#define BRIM_GRAPH_LAYOUT_H

#include "graph/graph.h"

typedef struct value_layout {
    value_id storage; // the value that owns the bytes (itself for most)
    int64_t offset;   // of the first element, in elements of the value's dtype
    int64_t stride[BRIM_MAX_DIMS];
} value_layout;

typedef struct graph_layout {
    value_layout *of; // by value id
    int32_t values;
} graph_layout;

// Which ops can read input i, or write output j, with any strides whose last axis is dense (ANY: any strides at all).
typedef enum access_form { ACCESS_DENSE, ACCESS_ROWS, ACCESS_ANY } access_form;
access_form op_reads(op_id op, int input);
access_form op_writes(op_id op, int output);

// True if the layout has the form: DENSE row-major without gaps; ROWS: the last axis has stride 1.
bool layout_has_form(const value_layout *l, const shape *s, access_form form);

brim_status graph_layout_make(const brim_graph *g, graph_layout *out, brim_error *err);
void graph_layout_free(graph_layout *layout);

// In order of execution: topological, updates as early as they can run (a gradient dies at once), readers of a variable
// before its update.
typedef struct graph_schedule {
    node_id *order;
    int32_t count;
} graph_schedule;
brim_status graph_schedule_make(const brim_graph *g, graph_schedule *out, brim_error *err);
void graph_schedule_free(graph_schedule *schedule);

// Bytes of every storage in one address space. Persistent storages (parameters, states, accumulators, control, named
// results) come first, then transient ones packed by lifetime. Values of a step's invariant nodes (those of sections
// FIRST only) live through all sections.
typedef struct storage_place {
    int64_t offset, bytes; // offset -1: not a storage
    int32_t first, last;   // positions in the schedule, inclusive
} storage_place;

typedef struct plan_request {
    int64_t alignment;                            // of every storage, a power of two
    int64_t chunk_bytes;                          // no storage may straddle a multiple of this; 0: no such limit
    int64_t transient_base;                       // transient storages start here at the earliest (several programs share
                                                  // one persistent region)
    int64_t (*workspace)(const brim_graph *, node_id, void *user); // bytes that a node needs while it runs; may be NULL
    // Offset of a persistent storage that another program has placed already, or -1. May be NULL.
    int64_t (*persistent)(const brim_graph *, value_id, void *user);
    void *user;
    int64_t guard_bytes; // unused bytes kept between storages (tests poison them)
} plan_request;

typedef struct memory_plan {
    storage_place *storage;   // by value id
    storage_place *workspace; // by node id
    int64_t persistent_bytes, peak_bytes; // peak: end of the highest byte used, persistent ones included
} memory_plan;

brim_status memory_plan_make(const brim_graph *g, const graph_layout *layout, const graph_schedule *schedule,
                             const plan_request *request, memory_plan *out, brim_error *err);
void memory_plan_free(memory_plan *plan);

// Prints storages with bytes, lifetimes and offsets, and the bytes of each class.
void memory_plan_print(const brim_graph *g, const memory_plan *plan, FILE *out);

#endif
