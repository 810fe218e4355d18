// What the parts of bench_plans share: the machine they run on, and each part.
#ifndef BRIM_BENCHMARKS_PLAN_COSTS_H
#define BRIM_BENCHMARKS_PLAN_COSTS_H

#include "benchmarks/report.h"
#include "benchmarks/plan_runs.h"

typedef struct plans_options {
    const char *device, *disk, *json;
    int64_t rounds, steps, cases;
    int64_t batch, length;
    bool grid, reach;
    brim_rates rates;
} plans_options;

// Each way to save device memory beside everything resident, of a GPT and a Llama.
void plan_costs(const plans_options *o, report *r, brim_error *err);
// The planner's choice beside all plans of a coarse grid that keep to the same budget.
void plan_grid(const plans_options *o, report *r, brim_error *err);
// Models and budgets that the design promises, with widths, vocabularies and memory at a fraction.
void plan_reach(const plans_options *o, report *r, brim_error *err);

#endif
