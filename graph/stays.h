// Lifetimes: of storages at home, and of their stays nearer to the nodes that use them. What
// memory_plan_make does before it gives out offsets.
#ifndef BRIM_GRAPH_STAYS_H
#define BRIM_GRAPH_STAYS_H

#include "graph/memory_plan.h"

// Fills plan->storage (all but offsets), stay, first_stay and transfer. plan->storage and
// plan->on_host have their sizes, and storage[v].bytes is set.
brim_status stays_make(const brim_graph *g, const graph_layout *layout,
                       const graph_schedule *schedule, const plan_request *request,
                       memory_plan *plan, brim_error *err);

// Outlives a step, as every leaf but an input does, and what holds a named result.
bool storage_is_persistent(const brim_graph *g, const graph_layout *layout, value_id storage);

#endif
