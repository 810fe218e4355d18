// A step's graph as it could run: with some of it recomputed, fused, scheduled and laid out. What
// memory is planned for, in one way or another.
//
// 1. variant v;  variant_make(&v, g, recompute, target, err)
// 2. variant_plan(&v, target, &choice, ahead, true, &plan, err)       what it would need
// 3. variant_plan(&v, target, &choice, ahead, false, &plan, err)      with a place for everything
// 4. variant_free(&v)
#ifndef BRIM_OPTIM_VARIANT_H
#define BRIM_OPTIM_VARIANT_H

#include "graph/homes.h"
#include "optim/target.h"

typedef struct variant {
    brim_graph *graph;
    graph_schedule schedule;
    graph_layout layout;
    homes homes;
    int64_t *workspace; // by node
    double *start;      // by position, and one more: seconds from the start of a micro-batch; NULL
                        // where no rates are known
} variant;

// g has been through all passes before pass_recompute, and stays the caller's. recompute NULL: as
// the script marked.
brim_status variant_make(variant *out, const brim_graph *g, const bool *recompute,
                         const compile_target *target, brim_error *err);
void variant_free(variant *v);

// A plan with these homes. `ahead`: bytes that may wait on the device for their use or for the way
// back; 0: copies come and go when they must. A program that shares another's variables has the
// homes of that one, and choice is ignored. `estimate`: as in plan_request.
brim_status variant_plan(variant *v, const compile_target *target, const homes_choice *choice,
                         int64_t ahead, bool estimate, memory_plan *out, brim_error *err);

#endif
