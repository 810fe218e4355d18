// Graphs on a device, timed by what their own records take: the copies from and to the staging area
// are left out.
//
//   1. timed_graph x = {0};
//      timed_graph_plan(&x, graph, &target, err);       takes the graph over; passes, plan,
//      lowering
//   2. reserve timed_graph_device_bytes and timed_graph_host_bytes of the device, for the largest
//   3. timed_graph_load(&x, &target, fill, user, err);  compiles; variables and inputs are filled
//   4. timed_graph_seconds(&x, &target, &seconds, err); as often as one likes; take the minimum
//   5. timed_graph_free(&x, &target);
//
// Two graphs can take turns: the second one names the first as target.owner, and its memory begins
// behind the variables of that.
#ifndef BRIM_BENCHMARKS_TIMING_H
#define BRIM_BENCHMARKS_TIMING_H

#include "optim/compiled.h"

typedef struct timed_graph {
    compiled compiled;
    double *record; // seconds of each record in the last run
} timed_graph;

// Writes the elements of a leaf, in its dtype.
typedef void (*leaf_filler)(const graph_value *leaf, value_id id, void *out, void *user);

brim_status timed_graph_plan(timed_graph *x, brim_graph *g, const compile_target *target,
                             brim_error *err);
int64_t timed_graph_device_bytes(const timed_graph *x);
int64_t timed_graph_host_bytes(const timed_graph *x);
brim_status timed_graph_load(timed_graph *x, const compile_target *target, leaf_filler fill,
                             void *user, brim_error *err);
brim_status timed_graph_seconds(timed_graph *x, const compile_target *target, double *seconds,
                                brim_error *err);
void timed_graph_free(timed_graph *x, const compile_target *target);

// Small normal-looking numbers without denormals; integers become 0. A leaf_filler.
void fill_plain(const graph_value *leaf, value_id id, void *out, void *user);

#endif
