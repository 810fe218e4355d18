// Plans of one training step on one device, run in turn: what each costs beside the others, and
// whether all of them come to the same bits.
//
// 1. plan_run r[N];  plan_run_open(&r[i], &options, &err)    each with memory of its own
// 2. plan_runs_round(r, N, steps, &err)                      as often as one likes
// 3. plan_run_median(&r[i]), plan_run_least(&r[i]);  r[i].run.compiled has the plan
// 4. plan_run_close(&r[i])
#ifndef BRIM_BENCHMARKS_PLAN_RUNS_H
#define BRIM_BENCHMARKS_PLAN_RUNS_H

#include "benchmarks/start_up.h"

enum { MOST_ROUNDS = 1000 };

typedef struct plan_run {
    training_run run;
    double *seconds; // of a step, by round
    int rounds;
    float loss; // of the latest step
} plan_run;

brim_status plan_run_open(plan_run *r, const start_options *o, brim_error *err);
void plan_run_close(plan_run *r);

// Every plan: one step that fills its queues, and then `steps` that are timed together, since work
// for one step may go on beside the next. An error where the losses differ in a single bit.
brim_status plan_runs_round(plan_run *r, int count, int steps, brim_error *err);

double plan_run_median(const plan_run *r);
double plan_run_least(const plan_run *r);
// The median of the rounds' quotients: what slows a whole round down cancels out.
double plan_run_ratio(const plan_run *r, const plan_run *base);

// What a plan is expected to take, by the rates that it was compared with.
double plan_run_expected(const plan_run *r);

#endif
