#include <inttypes.h>
#include "graph/infer_rules.h"
#include "graph/shape.h"

static bool needs_shape(inference *i) {
    return i->shape || infer_refuse(i, BRIM_GRAPH, "no shape was given");
}

// Output 0 has the shape that was asked for.
static bool as_asked(inference *i) {
    return infer_set(i, 0, i->input[0].dtype, i->shape);
}

static bool same_rank(inference *i) {
    if (i->shape->rank == i->input[0].shape.rank) return true;
    return infer_refuse(i, BRIM_SHAPE, "the result has %d axes, the operand %d", i->shape->rank,
                        i->input[0].shape.rank);
}

bool infer_reshape(inference *i) {
    if (!needs_shape(i)) return false;
    int64_t have = shape_elements(&i->input[0].shape), want = shape_elements(i->shape);
    char text[SHAPE_TEXT];
    if (have != want)
        return infer_refuse(i, BRIM_SHAPE, "it has %" PRId64 " elements, %s has %" PRId64, have,
                            shape_print(i->shape, text, sizeof text), want);
    return as_asked(i);
}

bool infer_permute(inference *i) {
    const shape *x = &i->input[0].shape;
    shape s = {.rank = x->rank};
    unsigned seen = 0;
    for (int k = 0; k < x->rank; k++) {
        int axis = i->attr->axes[k];
        if (axis < 0 || axis >= x->rank || seen >> axis & 1)
            return infer_refuse(i, BRIM_ARGUMENT, "axis %d is listed twice or does not exist",
                                axis);
        seen |= 1u << axis;
        s.dim[k] = x->dim[axis];
    }
    return infer_set(i, 0, i->input[0].dtype, &s);
}

// The smaller shape, from start on, must lie within the larger one.
static bool within(inference *i, const shape *large, const shape *small) {
    for (int k = 0; k < large->rank; k++) {
        int64_t start = i->attr->start[k];
        if (start < 0 || start > large->dim[k] - small->dim[k])
            return infer_refuse(i, BRIM_SHAPE,
                                "%" PRId64 " elements from %" PRId64
                                " on do not lie within the %" PRId64 " of axis %d",
                                small->dim[k], start, large->dim[k], k);
    }
    return true;
}

bool infer_slice(inference *i) {
    return needs_shape(i) && same_rank(i) && within(i, &i->input[0].shape, i->shape) && as_asked(i);
}

bool infer_pad(inference *i) {
    return needs_shape(i) && same_rank(i) && within(i, i->shape, &i->input[0].shape) && as_asked(i);
}

bool infer_broadcast(inference *i) {
    if (!needs_shape(i)) return false;
    shape s;
    char text[SHAPE_TEXT];
    if (!shape_broadcast(&i->input[0].shape, i->shape, &s) || !shape_equal(&s, i->shape))
        return infer_refuse(i, BRIM_SHAPE, "it does not broadcast to %s",
                            shape_print(i->shape, text, sizeof text));
    return as_asked(i);
}

bool infer_concat(inference *i) {
    shape s = i->input[0].shape;
    int axis = i->attr->axis;
    if (axis < 0 || axis >= s.rank)
        return infer_refuse(i, BRIM_ARGUMENT, "axis %d of %d axes", axis, s.rank);
    for (int k = 1; k < i->inputs; k++) {
        shape x = i->input[k].shape;
        if (!infer_same_dtype(i, 0, k)) return false;
        bool fits = x.rank == s.rank;
        for (int d = 0; d < s.rank && fits; d++) fits = d == axis || x.dim[d] == s.dim[d];
        if (!fits)
            return infer_refuse(i, BRIM_SHAPE,
                                "operands 1 and %d may differ in the extent of axis %d only", k + 1,
                                axis);
        if (__builtin_add_overflow(s.dim[axis], x.dim[axis], &s.dim[axis]))
            return infer_refuse(i, BRIM_SHAPE, "the sum of the extents of axis %d exceeds 2^63",
                                axis);
    }
    return infer_set(i, 0, i->input[0].dtype, &s);
}
