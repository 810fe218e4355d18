// Random programs over all queues and spaces, made of records that need no compiler, and what they
// do: run one after another, on plain memory.
#ifndef BRIM_TESTS_RANDOM_PROGRAM_H
#define BRIM_TESTS_RANDOM_PROGRAM_H

#include "backends/program.h"

typedef struct random_program_size {
    int32_t records, micro_batches;
    int32_t units; // of each space
} random_program_size;

enum { RANDOM_UNIT = 64 }; // bytes: ranges start and end at multiples

// Records on random queues in random sections, without waits. All that they touch is declared.
program *random_program(uint32_t seed, random_program_size size, brim_error *err);

// What the records of a section do for one micro-batch, in the order of the list; memory[s] is the
// whole of space s.
void random_program_interpret(const program *p, uint8_t section, int32_t micro_batch,
                              uint8_t *const memory[SPACES]);

// The section of a micro-batch: FIRST, MIDDLE or LAST.
uint8_t micro_batch_section(const program *p, int32_t micro_batch);

// Takes the record's wait number `wait` out of its list, or puts it back there.
int32_t take_wait(program *p, int32_t record, int32_t wait);
void put_wait(program *p, int32_t record, int32_t wait, int32_t awaited);

#endif
