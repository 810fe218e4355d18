// What leaves device memory, and how far, as a few numbers that a planner can turn.
//
// 1. homes h;  homes_make(g, &layout, &h, err)    what there is to move, in the order it leaves in
// 2. homes_choose(&h, &choice)                    h.home, h.on_host, h.whole for plan_request
// 3. homes_free(&h)
//
// A parameter and what belongs to it (optimizer states, compute copy, gradient) are one unit. Large
// units leave first, the last of the forward pass before the first: a host update of what is used
// late has the longest time until the next step needs it. Of activations, the earliest leave first:
// they live longest.
#ifndef BRIM_GRAPH_HOMES_H
#define BRIM_GRAPH_HOMES_H

#include "graph/memory_plan.h"

// How many units, from the first on, ...
typedef struct homes_choice {
    int32_t hosted;    // have their master and states on the host; what the forward pass uses comes
                       // to the device once a step
    int32_t streamed;  // have what the forward pass uses come to the device for each use
    int32_t gradients; // have their (summed) gradient on the host
    int32_t filed;     // of those hosted: have master and states in a file
    bool device_updates; // hosted units are updated on the device, to which master and states go
    int32_t offloaded;   // how many activations wait on the host for the backward pass
} homes_choice;

typedef struct home_unit {
    value_id parameter, copy; // copy -1: none (f32)
    value_id state[4];
    int32_t states;
    value_id gradient; // its storage; -1: frozen
    node_id update;    // -1: frozen
    int64_t bytes;     // of the parameter's elements in f32
} home_unit;

typedef struct homes {
    home_unit *unit;
    value_id *activation; // storages
    int32_t units, activations;
    int32_t values, nodes;
    // what homes_choose writes
    memory_space *home;
    bool *on_host, *whole;
} homes;

brim_status homes_make(const brim_graph *g, const graph_layout *layout, homes *out,
                       brim_error *err);
void homes_choose(homes *h, const homes_choice *choice);
void homes_free(homes *h);

#endif
