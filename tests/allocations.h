// Counts what our objects take from the allocator and give back, and makes it fail (by the linker's
// --wrap; see CMakeLists.txt). Threads of other suites count, too.
//
//   1. allocations_begin(0), or allocations_begin(n): the n-th from now on fails
//   2. the calls under test
//   3. allocations_end(&taken)
#ifndef BRIM_TESTS_ALLOCATIONS_H
#define BRIM_TESTS_ALLOCATIONS_H

#include <stddef.h>

typedef struct allocations {
    long calls, freed;  // of malloc, calloc and realloc; of free, but for free(NULL)
    long kept;          // pieces of memory that were taken and not given back
    size_t bytes, last; // asked for: all, and by the last call
} allocations;

void allocations_begin(long fail_at);
void allocations_end(allocations *taken);

#endif
