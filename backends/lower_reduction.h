// Sums that other rules leave in parts.
#ifndef BRIM_BACKENDS_LOWER_REDUCTION_H
#define BRIM_BACKENDS_LOWER_REDUCTION_H

#include "backends/lower.h"

// out = the sum of `parts` dense f32 tensors of out's shape, which lie one behind another, in their
// order.
void lower_add_parts(lowering *l, byte_range parts_range, int64_t parts, const operand *out);

#endif
