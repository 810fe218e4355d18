// One question to the planner, and the trainer on paper that answers it.
#ifndef EXAMPLES_PLAN_REQUEST_H
#define EXAMPLES_PLAN_REQUEST_H

#include "plan_options.h"
#include "presets.h"

typedef struct plan_request {
    const plan_options *options;
    const gpu_preset *gpu; // NULL: this machine's device
    model_config model;
    int64_t ram, sequence; // bytes (0: this machine's); tokens
    brim_shortfall *shortfall; // filled in where nothing fits; may be NULL
} plan_request;

// The tokens of a sequence where --seq says nothing, or all that the model has positions for.
enum { USUAL_SEQUENCE = 2048 };
int64_t plan_sequence(const plan_options *options, const model_config *model);

// NULL where the error says what is wrong, or with BRIM_MEMORY what is missing. The request must
// outlive the trainer.
brim_trainer *plan_make(plan_request *request, brim_error *err);

#endif
