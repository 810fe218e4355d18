// All plans of a grid over what a plan can choose, for comparisons with the planner's choice.
#ifndef BRIM_BENCHMARKS_PLAN_LIST_H
#define BRIM_BENCHMARKS_PLAN_LIST_H

#include "benchmarks/plan_runs.h"

// How far each number of a plan goes, and what a step takes with everything on the device.
typedef struct plan_extent {
    int32_t level, units, activations;
    int64_t device_bytes;
} plan_extent;

plan_extent plan_extent_find(const start_options *o, brim_error *err);

// Each number at nothing, a half, and all, and one more level of recomputation; without `halves`
// those between are left out. Returns how many.
enum { MOST_PLANS = 200 };
int plan_list_make(const plan_extent *e, bool halves, forced_plan plans[MOST_PLANS]);

#endif
