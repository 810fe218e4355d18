// Which model fits which card.
#ifndef EXAMPLES_PLAN_TABLE_H
#define EXAMPLES_PLAN_TABLE_H

#include "plan_options.h"

// Prints the table of all presets, or of those that --gpu and --model name; progress goes to
// stderr.
brim_status plan_table_print(const plan_options *options, brim_error *err);

#endif
