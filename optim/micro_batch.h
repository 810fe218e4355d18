// How a step is cut into micro-batches, where the user has not said so.
#ifndef BRIM_OPTIM_MICRO_BATCH_H
#define BRIM_OPTIM_MICRO_BATCH_H

#include <brim/train.h>
#include "optim/compiled.h"

// The first size that is tried: the options' own, or the whole step.
brim_trainer_options micro_batch_first(const brim_trainer_options *options);

// What is missing of all kinds of memory; 0 where something else is wrong.
int64_t shortfall_bytes(const brim_shortfall *s);

// Plans the training step; `first` is its graph in the first size, and taken over. Where the options
// leave the size open (batch 0), sizes that divide the step are tried, from the whole step downwards,
// each about half of the one before, until two in a row are slower than the best; batch and accumulate
// are set to what was best. A size that does not fit is passed over; any other error ends it.
brim_status plan_micro_batches(compiled *out, brim_graph *first, brim_builder build, void *user,
                               brim_trainer_options *options, const compile_target *target,
                               brim_error *err);

#endif
