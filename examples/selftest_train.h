// The self-test's training: a small GPT learns to continue sequences that follow a rule.
#ifndef EXAMPLES_SELFTEST_TRAIN_H
#define EXAMPLES_SELFTEST_TRAIN_H

#include <brim/brim.h>

typedef struct selftest_training {
    double first_loss, last_loss, step_seconds;
    char problem[1200]; // "" where all is well
} selftest_training;

// Trains three times: twice alike, and once without fusion. All must give the same losses bit for
// bit and the same parameters, and the loss must fall.
void selftest_train(const char *device, brim_precision precision, selftest_training *out);

#endif
