#include "backends/lower_split.h"

// On a CPU device a group is a function call of about 100 nanoseconds: this many elements hide
// it. As many groups for each core even out what differs between them.
enum { CPU_ELEMENTS = 65536, CPU_GROUPS = 8, GPU_MIN_GROUP = 64, GPU_VECTORS = 4 };

static int64_t at_least(int64_t x, int64_t least) {
    return x < least ? least : x;
}
static int64_t at_most(int64_t x, int64_t most) {
    return x > most ? most : x;
}

// How many of `count` equal pieces a CPU's group takes.
static int64_t pieces_for_group(const device_traits *traits, int64_t count, int64_t enough) {
    int64_t fair = count / ((int64_t)at_least(traits->compute_units, 1) * CPU_GROUPS);
    return at_least(at_most(enough, fair), 1);
}

row_split split_rows(const device_traits *traits, int64_t rows, int64_t length) {
    row_split s = {traits->group, 1, rows};
    if (traits->group == 1) {
        s.per = pieces_for_group(traits, rows, CPU_ELEMENTS / at_least(length, 1));
        s.groups = divide_up(rows, s.per);
    }
    while (s.group > GPU_MIN_GROUP && (int64_t)s.group / 2 * traits->vec >= length) s.group /= 2;
    return s;
}

row_split split_elements(const device_traits *traits, int64_t elements) {
    int64_t at_once = (int64_t)traits->group * traits->vec, count = divide_up(elements, at_once);
    int64_t pieces = traits->group == 1 ? pieces_for_group(traits, count, CPU_ELEMENTS / at_once)
                                        : at_most(GPU_VECTORS, count);
    row_split s = {traits->group, at_once * pieces, 0};
    s.groups = divide_up(elements, s.per);
    return s;
}

int vectors_aligned(const device_traits *traits, const operand *const *operands, int count,
                    int64_t length) {
    if (traits->cpu || traits->vec == 1 || length % traits->vec) return 0;
    for (int i = 0; i < count; i++) {
        int64_t vector = (int64_t)brim_dtype_bytes(operands[i]->dtype) * traits->vec;
        if (operands[i]->offset % vector) return 0;
    }
    return 1;
}

int64_t leading_elements(const shape *s) {
    int64_t n = 1;
    for (int i = 0; i + 1 < s->rank; i++) n *= s->dim[i];
    return n;
}

int64_t last_extent(const shape *s) {
    return s->rank ? s->dim[s->rank - 1] : 1;
}
