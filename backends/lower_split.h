// How rows and elements are shared out to groups, and what the rules of rows, gathers and updates
// have in common. None of this changes a result's bits, except the group's size on one device (a
// group's sum is a tree over its work-items).
#ifndef BRIM_BACKENDS_LOWER_SPLIT_H
#define BRIM_BACKENDS_LOWER_SPLIT_H

#include "backends/lower.h"

// rows x length: a group takes `per` rows. On a GPU one, with as many work-items as the row has
// vectors (64 at least, the device's group at most); on a CPU as many as make a group worth its
// launch and still keep all cores busy.
typedef struct row_split {
    int group;
    int64_t per, groups;
} row_split;
row_split split_rows(const device_traits *traits, int64_t rows, int64_t length);

// A flat run of elements: a group takes `per` of them, a multiple of what it takes at once.
row_split split_elements(const device_traits *traits, int64_t elements);

// 1 if kernels of that device gain from -DALIGNED=1 and each of the operands starts at a multiple
// of a vector, as do its rows of `length` elements; else 0.
int vectors_aligned(const device_traits *traits, const operand *const *operands, int count,
                    int64_t length);

// All axes but the last; 1 for a scalar.
int64_t leading_elements(const shape *s);
int64_t last_extent(const shape *s);

static inline int64_t divide_up(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

#endif
