// How many groups of a kernel run at once on a multiprocessor, by the formula that NVIDIA documents
// (CUDA C++ Programming Guide, "Multiprocessor level"; the toolkit's cuda_occupancy.h).
#ifndef BRIM_BENCHMARKS_OCCUPANCY_H
#define BRIM_BENCHMARKS_OCCUPANCY_H

#include <stdbool.h>

typedef struct occupancy {
    int groups, warps; // on one multiprocessor
    int most_warps;    // that it can hold
    const char *limit; // what allows no more groups: "warps", "groups", "registers" or "shared"
} occupancy;

// The compute capabilities that are known: 75, 80 ... for index 0, 1 ...; 0 behind the last.
int occupancy_architecture(int index);

// Of a kernel with so many registers a thread, bytes of static shared memory and threads a group.
// All of the L1 that can be shared memory is assumed to be. False where the architecture is not
// known.
bool occupancy_of(int architecture, int threads, int registers, int shared_bytes, occupancy *out);

#endif
