// A short training of a small GPT with all that a step has: several micro-batches, dropout,
// clipping, and another program between the steps.
#ifndef BRIM_TESTS_SPREAD_TRAINING_H
#define BRIM_TESTS_SPREAD_TRAINING_H

#include <brim/train.h>
#include "backends/backend.h"

enum { SPREAD_STEPS = 3, SPREAD_VOCABULARY = 29, SPREAD_PARAMETERS = 1 << 16 };

typedef struct training_outcome {
    brim_step_result step[SPREAD_STEPS];
    float logits[SPREAD_STEPS][SPREAD_VOCABULARY];
    float parameter[SPREAD_PARAMETERS];
    size_t parameters;
} training_outcome;

// On the device of that name, or, where `open` is there, on what it opens in its place. Freed with
// free().
typedef const backend *device_opener(backend_device **device, void *user);
training_outcome *spread_training(const char *device, device_opener *open, void *user,
                                  brim_error *err);
// "" where the two have the same bits, else what differs; valid until the next call.
const char *training_difference(const training_outcome *a, const training_outcome *b);

#endif
