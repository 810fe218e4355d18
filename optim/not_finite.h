// Where numbers went bad: the first tensor of a training step that is NaN or infinite.
//
// A step whose loss or gradients are not finite changes nothing (its updates see "applied" = 0), so
// the same step can be run again to the same bits. not_finite_find does so, record by record,
// and looks at every node's results where the plan has put them: it takes no device memory, works
// under every plan, and takes as long as reading all of them once.
//
// A value that is not finite is not always wrong: masks hold -infinity, and a softmax makes finite
// numbers of it. What counts is what led to the loss or to a gradient: the walk goes back
// from those through values that are not finite, and names the one that was made first.
#ifndef BRIM_OPTIM_NOT_FINITE_H
#define BRIM_OPTIM_NOT_FINITE_H

#include "optim/compiled.h"

// Runs the step that was run last once more, with the inputs fed then and the same control values,
// and writes a line such as
//
//   the output of softmax in scope "h.3.attn", f32 [4, 8, 16, 16]: 17 of 8192 elements, the first
//   nan at [0, 0, 1, 5], in micro-batch 2 of 4
//
// An error where the step cannot be run.
brim_status not_finite_find(const compiled *c, const compile_target *target, char *text,
                            size_t size, brim_error *err);

// "nan", which has no sign, "inf" or "-inf".
const char *not_finite_word(double x);

#endif
