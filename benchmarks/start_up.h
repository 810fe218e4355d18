// A training program of a model from nothing to its first step, with the time of each stage.
#ifndef BRIM_BENCHMARKS_START_UP_H
#define BRIM_BENCHMARKS_START_UP_H

#include <brim/train.h>
#include "examples/model.h"
#include "optim/compiled.h"

typedef struct start_options {
    model_config config;
    int64_t batch, length, accumulate;
    brim_precision precision;
    const char *device;
    bool no_fusion;
    int64_t spare_device, spare_host; // bytes to reserve beside the program's own
    // How it is planned, as in compile_target; all zero: everything on the device.
    const brim_rates *rates;
    const forced_plan *forced;
    int64_t budget[SPACES];
    const char *disk; // a folder, where a plan may use a file
} start_options;

// X(field, meaning): seconds of each stage, in their order
#define START_STAGES(X)                                                                            \
    X(open, "open the driver and the device")                                                      \
    X(graph, "build and differentiate the graph")                                                  \
    X(plan, "passes, schedule, memory plan")                                                       \
    X(lower, "lower to records, prove that no wait is missing")                                    \
    X(reserve, "reserve and touch memory")                                                         \
    X(load, "kernels and records")                                                                 \
    X(variables, "initial parameters and states")                                                  \
    X(first, "step 1")

typedef struct start_times {
#define X(field, meaning) double field;
    START_STAGES(X)
#undef X
    double until_step; // all before step 1
} start_times;

typedef struct training_run {
    compiled compiled;
    compile_target target;
} training_run;

// After it, the same step can be run again with training_step, whose inputs and control values stay
// in the staging area. Where another program has used that, training_stage puts them there again.
brim_status start_up(const start_options *o, training_run *out, start_times *times,
                     brim_error *err);
void training_run_free(training_run *t);
void training_stage(training_run *t);

// One step with the inputs as they are; `submitted` is when the host was done with submitting.
brim_status training_step(training_run *t, double *submitted, double *seconds, brim_error *err);

// The section that micro-batch i runs.
uint8_t training_section(const training_run *t, int64_t i);

#endif
