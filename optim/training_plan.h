// The plan of a training step on an open device: what the device can do, what it may take, and how
// the step is cut.
#ifndef BRIM_OPTIM_TRAINING_PLAN_H
#define BRIM_OPTIM_TRAINING_PLAN_H

#include <brim/train.h>
#include "optim/compiled.h"

// `first` is the graph in the size of micro_batch_first, and taken over. Sets the target's budget and
// rates (which lie in *rates), and the options' batch and accumulate where they are open. Where
// nothing fits, the error says so, and what option would make it fit.
brim_status training_plan(compiled *out, brim_graph *first, brim_builder build, void *user,
                          brim_trainer_options *options, compile_target *target, brim_rates *rates,
                          brim_error *err);

#endif
