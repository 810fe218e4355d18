// Arithmetic on sizes that come from files, options or shapes. Each function returns true and sets
// *result where the exact result fits its type; otherwise it returns false and *result is
// meaningless.
#ifndef BRIM_CORE_SIZE_H
#define BRIM_CORE_SIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool size_add(size_t a, size_t b, size_t *result) {
    return !__builtin_add_overflow(a, b, result);
}

static inline bool size_mul(size_t a, size_t b, size_t *result) {
    return !__builtin_mul_overflow(a, b, result);
}

static inline bool i64_add(int64_t a, int64_t b, int64_t *result) {
    return !__builtin_add_overflow(a, b, result);
}

static inline bool i64_mul(int64_t a, int64_t b, int64_t *result) {
    return !__builtin_mul_overflow(a, b, result);
}

// The least multiple of alignment (a power of two) that is not below size.
static inline bool size_align(size_t size, size_t alignment, size_t *result) {
    if (!size_add(size, alignment - 1, result)) return false;
    *result &= ~(alignment - 1);
    return true;
}

static inline bool i64_align(int64_t size, int64_t alignment, int64_t *result) {
    if (!i64_add(size, alignment - 1, result)) return false;
    *result &= ~(alignment - 1);
    return true;
}

#endif
