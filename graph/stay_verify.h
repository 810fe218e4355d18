// The proof that every node reads what was written last, wherever that was.
#ifndef BRIM_GRAPH_STAY_VERIFY_H
#define BRIM_GRAPH_STAY_VERIFY_H

#include "graph/memory_plan.h"

// Two steps are run with versions in place of values: a write makes a new one, a copy takes one
// along, and a read must find the newest. What is outside of its time holds nothing. After each
// step, the homes of variables must hold the newest (but for sums over micro-batches, which are
// done with).
brim_status stay_verify(const brim_graph *g, const graph_layout *layout,
                        const graph_schedule *schedule, const memory_plan *plan, brim_error *err);

#endif
