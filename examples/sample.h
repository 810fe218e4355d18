// Lets a trained model write.
#ifndef EXAMPLES_SAMPLE_H
#define EXAMPLES_SAMPLE_H

#include <signal.h>
#include "model.h"

typedef struct sample_options {
    brim_program *program; // built by model_build_next for one sequence of `length`
    int64_t length, vocabulary;
    double temperature; // 0: the likeliest token
    double top_p; // draws from the fewest tokens that have this probability in all; 1: from all
    uint64_t seed;
    const volatile sig_atomic_t *stop; // sampling ends early once it is not 0; NULL for never
} sample_options;

// Continues tokens[0 .. given-1] up to tokens[given + count - 1]; given is 1 or more. The model
// sees the last `length`. Returns how many it has added: count, or fewer after an error or a stop.
int64_t sample_tokens(const sample_options *options, int32_t *tokens, int64_t given, int64_t count,
                      brim_error *err);

#endif
