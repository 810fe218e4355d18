// Allocations of our own objects in run_tests: they are counted, and one can be told to fail (by
// the linker's --wrap; see CMakeLists.txt).
#ifndef BRIM_TESTS_FAILING_ALLOCATIONS_H
#define BRIM_TESTS_FAILING_ALLOCATIONS_H

// Begins to count anew; the allocation of that number, from 1, fails. 0: none does.
void allocations_fail(long number);
long allocations_made(void);

#endif
