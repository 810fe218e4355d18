#include "core/alloc.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "core/size.h"

// PTRDIFF_MAX: beyond it pointer differences are undefined, and no allocator succeeds.
static bool array_bytes(size_t count, size_t size, size_t *bytes, brim_error *err) {
    if (size_mul(count, size, bytes) && *bytes <= PTRDIFF_MAX) return true;
    brim_fail(err, BRIM_MEMORY, "%zu elements of %zu bytes are more than memory can address", count,
              size);
    return false;
}

void *brim_calloc_array(size_t count, size_t size, brim_error *err) {
    size_t bytes;
    if (failed(err) || !array_bytes(count, size, &bytes, err)) return NULL;
    if (bytes == 0) bytes = 1;
    void *array = calloc(1, bytes);
    if (!array) brim_fail(err, BRIM_MEMORY, "host memory does not suffice for %zu bytes", bytes);
    return array;
}

bool brim_grow(void **array, size_t *capacity, size_t wanted, size_t size, brim_error *err) {
    if (failed(err)) return false;
    if (wanted <= *capacity) return true;
    size_t goal = *capacity + *capacity / 2;
    if (goal < wanted) goal = wanted;
    if (goal < 8) goal = 8;
    size_t bytes;
    if (!array_bytes(goal, size, &bytes, err)) return false;

    // *array is in truth some other pointer type: its bytes are moved, not read as a void *.
    void *old;
    memcpy(&old, array, sizeof old);
    void *grown = realloc(old, bytes ? bytes : 1);
    if (!grown) {
        brim_fail(err, BRIM_MEMORY, "host memory does not suffice for %zu bytes", bytes);
        return false;
    }
    memset((char *)grown + *capacity * size, 0, (goal - *capacity) * size);
    memcpy(array, &grown, sizeof grown);
    *capacity = goal;
    return true;
}

char *brim_strdup(const char *text, brim_error *err) {
    size_t bytes = strlen(text) + 1;
    char *copy = brim_calloc_array(bytes, 1, err);
    if (copy) memcpy(copy, text, bytes);
    return copy;
}
