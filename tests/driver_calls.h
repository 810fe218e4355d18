// What the library's objects ask of libOpenCL, in run_tests: each call is counted by the place that
// it is made from, one of them can be told to fail, and what they make is followed until it is
// released. (The wraps are those of the fault tests, tests/faults/opencl_calls.c.)
#ifndef BRIM_TESTS_DRIVER_CALLS_H
#define BRIM_TESTS_DRIVER_CALLS_H

#include <stdbool.h>

enum { DRIVER_MOST_PLACES = 256 };

// "" where all that was made has been released, else a call that made something which was not;
// valid until the next call.
const char *driver_calls_left(void);

// Begins to count anew. The places from before keep their numbers.
void driver_calls_count(void);
int driver_calls_places(void);
// How many calls a place has made since, and of which function.
int driver_calls_of(int place, const char **function);
// That call of that place fails, the first being 1; whether it did is told by driver_calls_failed.
void driver_calls_fail(int place, int call);
bool driver_calls_failed(void);

#endif
