// Makes a program for several queues of one whose records all run on one.
#ifndef BRIM_TESTS_SPREAD_PROGRAM_H
#define BRIM_TESTS_SPREAD_PROGRAM_H

#include "backends/program.h"

// Puts the records on queues at random, as the seed says, and gives them the waits that their
// accesses then need, and no other: without any one of them the program is wrong. Library products
// stay on one queue, since a library runs one at a time. Sections are ordered as a whole: the first
// and the last record of each run on the compute queue, before and after all others.
brim_status spread_program(program *p, uint32_t seed, brim_error *err);

// A record and one of its waits, of which the record reads what the awaited one writes.
typedef struct spread_wait {
    int32_t record, wait;
} spread_wait;

// The number of such waits; the first `room` of them.
int32_t spread_waits(const program *p, spread_wait *out, int32_t room);
// The program without that wait.
void spread_drop(program *p, spread_wait which);

#endif
