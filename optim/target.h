// What a program is compiled for.
#ifndef BRIM_OPTIM_TARGET_H
#define BRIM_OPTIM_TARGET_H

#include <brim/train.h>
#include "backends/backend.h"
#include "graph/homes.h"
#include "graph/spaces.h"

struct compiled;

// A plan that is not to be searched for. Numbers beyond what there is mean all of it.
typedef struct forced_plan {
    int32_t level; // of recomputation (graph/recompute_levels.h)
    homes_choice homes;
} forced_plan;

typedef struct compile_target {
    const backend *backend;
    backend_device *device;
    // Of the variables: its plan says where programs that share them find them. NULL for the first.
    const struct compiled *owner;
    bool no_fusion;
    // Bytes that a plan may take of each space; 0: no limit, but for the file: nothing.
    int64_t budget[SPACES];
    int64_t overhead_bytes;    // what the user's budget of device memory has on top
    const brim_rates *rates;   // what plans are compared by; must be there where a budget is
    brim_shortfall *shortfall; // filled in where nothing fits; NULL: nobody asks
    const forced_plan *forced; // by tests and benchmarks, which compare plans; NULL: search
} compile_target;

#endif
