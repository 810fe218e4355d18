// Random programs on a device, held against their meaning.
#ifndef BRIM_TESTS_RANDOM_RUN_H
#define BRIM_TESTS_RANDOM_RUN_H

#include "backends/backend.h"
#include "tests/random_program.h"

enum { RANDOM_STEPS = 3, RANDOM_MOST_PROGRAMS = 4, RANDOM_MOST_UNITS = 64 };

// A device to run them on: any with so much memory, host memory and file.
typedef struct random_target {
    const backend *api;
    backend_device *device;
} random_target;

// Fills all spaces at random, runs sections of the programs (a step of each in turn, `sections` in
// all, nothing waits between them), and compares all spaces with those of the interpreter. Returns
// "" or where they differ, valid until the next call. All of the programs have the same sizes.
const char *random_run(const random_target *t, program *const *p, int programs, int sections,
                       uint32_t seed, brim_error *err);

// From now on tasks of that queue start late, those of all others at once; QUEUE_COUNT: all start
// when they like, as a seed says. For device_settings.before_task.
void random_run_hold(queue_id queue, uint32_t seed);
void random_run_before_task(queue_id queue);

#endif
