// What the suites of layouts and plans share: a graph with everything that is made of it.
//
//   1. planned p;  planned_make(&p, g, micro_batches, fuse, &err);      passes, schedule, layout
//   2. p.request.chunk_bytes = 1024;                                    or as it is
//   3. planned_place(&p, &err);                                         the memory plan
//   4. planned_free(&p);
//
// What is asked for and not there fails the test.
#ifndef BRIM_TEST_PLANNED_H
#define BRIM_TEST_PLANNED_H

#include "graph/graph.h"
#include "graph/memory_plan.h"

typedef struct planned {
    brim_graph *g;
    graph_schedule schedule;
    graph_layout layout;
    plan_request request;
    memory_plan plan;
} planned;

// Takes the graph over. Sums ask for a workspace. What is marked is recomputed.
void planned_make(planned *p, brim_graph *g, int micro_batches, bool fuse, brim_error *err);
// The same with a decision for each value (graph/pass_recompute.h), all false at first.
void planned_make_chosen(planned *p, brim_graph *g, int micro_batches, bool fuse,
                         void (*recompute)(const brim_graph *, bool *), brim_error *err);
void planned_place(planned *p, brim_error *err);
void planned_free(planned *p);

// The storage of a named value; the place in the schedule, and the node, of the nth node of an op.
value_id planned_storage(const planned *p, const char *name);
int planned_position(const planned *p, op_id op, int nth);
const graph_node *planned_node(const planned *p, op_id op, int nth);
// Which of the first CONCAT's inputs lie in its result, a bit each.
int planned_parts(const planned *p);

// y = x W1 relu W2, with an update of each weight.
void planned_small_step(planned *p, int micro_batches, brim_error *err);
// Attention of q, k and v that are parts of one tensor; part[3] names them.
brim_value packed_attention(brim_graph *g, brim_value *part);

#endif
