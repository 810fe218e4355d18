#include "graph/shape.h"

#include <inttypes.h>
#include <stdio.h>
#include "core/size.h"

int64_t shape_elements(const shape *s) {
    int64_t elements = 1;
    for (int i = 0; i < s->rank; i++) elements *= s->dim[i];
    return elements;
}

bool shape_equal(const shape *a, const shape *b) {
    if (a->rank != b->rank) return false;
    for (int i = 0; i < a->rank; i++) {
        if (a->dim[i] != b->dim[i]) return false;
    }
    return true;
}

bool shape_broadcast(const shape *a, const shape *b, shape *out) {
    const shape *longer = a->rank >= b->rank ? a : b, *shorter = a->rank >= b->rank ? b : a;
    int lead = longer->rank - shorter->rank;
    shape result = *longer;
    for (int i = lead; i < longer->rank; i++) {
        int64_t x = longer->dim[i], y = shorter->dim[i - lead];
        if (x != y && x != 1 && y != 1) return false;
        result.dim[i] = x == 1 ? y : x;
    }
    *out = result;
    return true;
}

const char *shape_print(const shape *s, char *buffer, size_t size) {
    size_t used = 0;
    int rank = s->rank < 0 ? 0 : s->rank > BRIM_MAX_DIMS ? BRIM_MAX_DIMS : s->rank;
    int n = snprintf(buffer, size, "[");
    for (int i = 0; i < rank; i++) {
        used += (size_t)n;
        if (used >= size) return buffer;
        n = snprintf(buffer + used, size - used, i ? ", %" PRId64 : "%" PRId64, s->dim[i]);
    }
    used += (size_t)n;
    if (used < size) snprintf(buffer + used, size - used, "]");
    return buffer;
}

bool shape_check(const shape *s, brim_dtype dtype, char *reason, size_t size) {
    if (s->rank < 0 || s->rank > BRIM_MAX_DIMS) {
        snprintf(reason, size, "%d axes; up to %d are allowed", s->rank, BRIM_MAX_DIMS);
        return false;
    }
    int64_t bytes = (int64_t)brim_dtype_bytes(dtype);
    for (int i = 0; i < s->rank; i++) {
        if (s->dim[i] < 1) {
            snprintf(reason, size, "axis %d has extent %" PRId64 "; at least 1 is expected", i,
                     s->dim[i]);
            return false;
        }
        if (!i64_mul(bytes, s->dim[i], &bytes)) {
            snprintf(reason, size, "the bytes of such a tensor exceed 2^63");
            return false;
        }
    }
    return true;
}

bool shape_make(int rank, const int64_t *dims, shape *out) {
    if (rank < 0 || rank > BRIM_MAX_DIMS || (rank && !dims)) return false;
    *out = (shape){.rank = rank};
    for (int i = 0; i < rank; i++) out->dim[i] = dims[i];
    return true;
}
