#include "tests/allocations.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

static atomic_long calls, freed, grown, failing; // grown: by realloc; failing 0: none
static atomic_size_t all_bytes, last_bytes;

void allocations_begin(long fail_at) {
    calls = freed = grown = 0;
    all_bytes = last_bytes = 0;
    failing = fail_at;
}

void allocations_end(allocations *taken) {
    failing = 0;
    *taken = (allocations){calls, freed, calls - grown - freed, all_bytes, last_bytes};
}

static bool fails(size_t bytes) {
    atomic_fetch_add(&all_bytes, bytes);
    last_bytes = bytes;
    return atomic_fetch_add(&calls, 1) + 1 == failing;
}

void *__real_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes) {
    return fails(bytes) ? NULL : __real_malloc(bytes);
}

void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size) {
    return fails(count * size) ? NULL : __real_calloc(count, size);
}

void *__real_realloc(void *old, size_t bytes);
void *__wrap_realloc(void *old, size_t bytes);
void *__wrap_realloc(void *old, size_t bytes) {
    if (old) atomic_fetch_add(&grown, 1);
    return fails(bytes) ? NULL : __real_realloc(old, bytes);
}

void __real_free(void *memory);
void __wrap_free(void *memory);
void __wrap_free(void *memory) {
    if (memory) atomic_fetch_add(&freed, 1);
    __real_free(memory);
}
