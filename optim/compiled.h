// From a graph to a program that is loaded on a device: passes, schedule, layout, plan, lowering,
// loading.
#ifndef BRIM_OPTIM_COMPILED_H
#define BRIM_OPTIM_COMPILED_H

#include "backends/backend.h"
#include "backends/lower.h"
#include "backends/program_simulate.h"
#include "graph/graph.h"
#include "graph/homes.h"
#include "graph/memory_plan.h"
#include "optim/target.h"

// What the planner chose (optim/plan_search.h). All zero: everything is on the device.
typedef struct plan_choice {
    int32_t level; // of recomputation
    homes_choice homes;
    int64_t whole_bytes; // of an arena with everything in it; 0 where that is the plan
    simulation expected; // all zero where no rates are known
} plan_choice;

typedef struct compiled {
    brim_graph *graph;
    int64_t micro_batches;
    graph_schedule schedule;
    graph_layout layout;
    memory_plan plan;
    plan_choice choice;
    lowered lowered;
    loaded_program *loaded;
    uint8_t *inputs; // the fed data of all micro-batches, laid out as the staging slots
    bool *fed;       // by input
} compiled;

// Takes the graph over (also on error), runs the passes, and plans memory within the target's
// budget. out must be zero.
brim_status compiled_plan(compiled *out, brim_graph *graph, int64_t micro_batches,
                          const compile_target *target, brim_error *err);
// Lowers the plan, if that has not happened yet.
brim_status compiled_lower(compiled *c, const compile_target *target, brim_error *err);
// Loads; the device's memory has been reserved for the largest plan.
brim_status compiled_load(compiled *c, const compile_target *target, brim_error *err);
void compiled_free(compiled *c, const backend *b);

// Copies data for all micro-batches of one input.
brim_status compiled_feed(compiled *c, const char *input, const void *data, size_t bytes,
                          brim_error *err);

// Values of the control block for one run.
typedef struct control_values {
    float lr, loss_scale, bias1, bias2;
    int32_t seed, step;
} control_values;

// Runs all micro-batches and waits. Every input must have been fed since the last run.
brim_status compiled_run(compiled *c, const compile_target *target, const control_values *control,
                         brim_error *err);

// Runs one micro-batch of the last step once more, with its inputs and control values: see
// backend.step_through.
brim_status compiled_step_through(const compiled *c, const compile_target *target,
                                  int64_t micro_batch, const record_watcher *watcher,
                                  brim_error *err);

// What runs waited for since the last call, which is the first one's way to begin: see
// backend.stalls. Zeros where the backend does not measure.
brim_status compiled_stalls(const compiled *c, const compile_target *target, run_stalls *out,
                            brim_error *err);

// A result of the last run, in the staging area; NULL if there is none of that name.
const void *compiled_result(const compiled *c, const compile_target *target, const char *name,
                            const graph_value **value);

// The leaf of that name, or -1.
value_id compiled_variable(const compiled *c, const char *name);

// Where a leaf is between two steps.
byte_range compiled_range(const compiled *c, value_id id);

// Writes a parameter or state from as many f32 (codes: i32) as it has elements (a state's at any
// address): a parameter together with its compute copy.
brim_status compiled_write_variable(const compiled *c, const compile_target *target, value_id id,
                                    const void *data, brim_error *err);

#endif
