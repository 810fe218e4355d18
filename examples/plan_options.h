// The command line of plan.
#ifndef EXAMPLES_PLAN_OPTIONS_H
#define EXAMPLES_PLAN_OPTIONS_H

#include <brim/brim.h>
#include "command_line.h"
#include "model.h"

typedef struct plan_options {
    const char *model, *gpu, *device; // NULL: not given
    int architecture;                 // of a model by sizes: a model_architecture
    model_config sizes;               // those given; the others are 0
    int64_t vram, ram;                // bytes; 0: not given
    disk_share disk;
    int64_t sequence, batch; // 0: not given
    int64_t step_tokens;
    int precision, states; // a brim_precision, a brim_states
    bool table, list, compare;
} plan_options;

// Reads the command line; prints help and exits by itself where asked to. Values are checked one by
// one and against each other.
brim_status plan_options_parse(int argc, char **argv, plan_options *out, brim_error *err);

#endif
