// "Name a budget, get a plan": what is recomputed, what leaves the device and how far, so that a
// step fits into the budget and takes as little time as it can.
//
// A plan is a level of recomputation (graph/recompute_levels.h) and a choice of homes
// (graph/homes.h). For some levels, and for each of a few orders in which the numbers of a choice
// may be turned up, the least choice that fits is found by bisection on the lower bound of the
// memory plan. Of those, the few that look fastest are planned in full, lowered, and simulated as
// queues; the fastest wins. All plans give the same bits.
#ifndef BRIM_OPTIM_PLAN_SEARCH_H
#define BRIM_OPTIM_PLAN_SEARCH_H

#include "optim/compiled.h"

// g has been through all passes before pass_recompute, and stays the caller's. Fills out's graph,
// schedule, layout, plan and choice; where more than one plan was looked at, it is lowered, too.
// Where nothing fits, the error says how many bytes of what are missing, and the nearest budget
// that works.
brim_status plan_search(compiled *out, const brim_graph *g, const compile_target *target,
                        brim_error *err);

#endif
