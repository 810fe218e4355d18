#include "tests/failing_allocations.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

// Threads of other suites allocate, too. fail_at 0: none fails.
static atomic_long allocations, fail_at;

void allocations_fail(long number) {
    allocations = 0;
    fail_at = number;
}

long allocations_made(void) {
    return allocations;
}

static bool fails(void) {
    return atomic_fetch_add(&allocations, 1) + 1 == fail_at;
}

void *__real_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes) {
    return fails() ? NULL : __real_malloc(bytes);
}

void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size) {
    return fails() ? NULL : __real_calloc(count, size);
}

void *__real_realloc(void *old, size_t bytes);
void *__wrap_realloc(void *old, size_t bytes);
void *__wrap_realloc(void *old, size_t bytes) {
    return fails() ? NULL : __real_realloc(old, bytes);
}
