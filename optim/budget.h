// From a user's budget to what plans may take.
#ifndef BRIM_OPTIM_BUDGET_H
#define BRIM_OPTIM_BUDGET_H

#include <brim/train.h>
#include "optim/target.h"

// Fills target->budget from the options and from what is free; the device is open. An error where a
// budget is more than there is, or less than the device takes before a plan begins.
brim_status budget_set(compile_target *target, const brim_trainer_options *options,
                       brim_error *err);

// What a device of that kind can be expected to do, where nothing was measured.
brim_rates budget_usual_rates(const device_traits *traits);

#endif
