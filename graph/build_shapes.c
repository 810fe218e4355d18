// Constructors of views. One that changes nothing returns its operand.
#include <inttypes.h>
#include "graph/build.h"
#include "graph/shape.h"

// Reads a list of extents; false with an error stuck.
static bool read_dims(const char *what, brim_value a, int rank, const int64_t *dims, shape *out) {
    if (shape_make(rank, dims, out)) return true;
    graph_refuse(a.graph, BRIM_SHAPE, what, &a, 1, "%d axes were asked for, 0 to %d are expected",
                 rank, BRIM_MAX_DIMS);
    return false;
}

static brim_value view(brim_value a, op_id op, const brim_attr *attr, const shape *s) {
    const graph_value *v = &a.graph->value[a.id];
    if (shape_equal(s, &v->shape)) return a;
    return graph_op_shaped(a.graph, op, &a, 1, attr, v->dtype, s);
}

// Fills in an extent of -1; false with an error stuck.
static bool complete(brim_value a, shape *s) {
    int missing = -1;
    shape known = *s;
    char reason[200];
    for (int i = 0; i < s->rank; i++) {
        if (s->dim[i] != -1) continue;
        if (missing >= 0) {
            graph_refuse(a.graph, BRIM_SHAPE, "reshape", &a, 1, "more than one extent is -1");
            return false;
        }
        missing = i;
        known.dim[i] = 1;
    }
    if (missing < 0) return true;
    if (!shape_check(&known, BRIM_F32, reason, sizeof reason)) {
        graph_refuse(a.graph, BRIM_SHAPE, "reshape", &a, 1, "%s", reason);
        return false;
    }
    int64_t have = shape_elements(&a.graph->value[a.id].shape), rest = shape_elements(&known);
    if (have % rest) {
        graph_refuse(a.graph, BRIM_SHAPE, "reshape", &a, 1,
                     "its %" PRId64 " elements are no multiple of the other extents' %" PRId64,
                     have, rest);
        return false;
    }
    s->dim[missing] = have / rest;
    return true;
}

brim_value brim_reshape_dims(brim_value a, int rank, const int64_t *dims) {
    shape s;
    if (!graph_of("reshape", &a, 1) || !read_dims("reshape", a, rank, dims, &s) || !complete(a, &s))
        return GRAPH_INVALID;
    return view(a, OP_RESHAPE, NULL, &s);
}

brim_value brim_broadcast_dims(brim_value a, int rank, const int64_t *dims) {
    shape s;
    if (!graph_of("broadcast", &a, 1) || !read_dims("broadcast", a, rank, dims, &s))
        return GRAPH_INVALID;
    return view(a, OP_BROADCAST, NULL, &s);
}

brim_value brim_permute_axes(brim_value a, int rank, const int64_t *axes) {
    shape list;
    if (!graph_of("permute", &a, 1) || !read_dims("permute", a, rank, axes, &list))
        return GRAPH_INVALID;
    int have = brim_rank(a);
    if (rank != have)
        return graph_refuse(a.graph, BRIM_ARGUMENT, "permute", &a, 1,
                            "%d axes are listed, %d are expected", rank, have);
    brim_attr attr = {0};
    bool identity = true;
    for (int i = 0; i < rank; i++) {
        int axis = axes[i] < -rank || axes[i] >= rank ? INT16_MAX : (int)axes[i];
        if (axis == INT16_MAX)
            return graph_refuse(a.graph, BRIM_ARGUMENT, "permute", &a, 1,
                                "axis %" PRId64 " of %d axes", axes[i], rank);
        attr.axes[i] = (int8_t)(axis < 0 ? axis + rank : axis);
        identity &= attr.axes[i] == i;
    }
    return identity ? a : graph_op(a.graph, OP_PERMUTE, &a, 1, &attr);
}

brim_value brim_slice(brim_value a, int axis, int64_t start, int64_t extent) {
    if (!graph_of("slice", &a, 1) || !graph_axis("slice", a, &axis)) return GRAPH_INVALID;
    shape s = a.graph->value[a.id].shape;
    if (start < 0 || extent < 1 || extent > s.dim[axis] || start > s.dim[axis] - extent)
        return graph_refuse(a.graph, BRIM_SHAPE, "slice", &a, 1,
                            "%" PRId64 " elements from %" PRId64
                            " on do not lie within the %" PRId64 " of axis %d",
                            extent, start, s.dim[axis], axis);
    brim_attr attr = {0};
    attr.start[axis] = start;
    s.dim[axis] = extent;
    return view(a, OP_SLICE, &attr, &s);
}

brim_value brim_concat(const brim_value *parts, int count, int axis) {
    brim_graph *g = parts && count > 0 ? graph_of("concat", parts, count) : NULL;
    if (!g || !graph_axis("concat", parts[0], &axis)) return GRAPH_INVALID;
    if (count == 1) return parts[0];
    return graph_op(g, OP_CONCAT, parts, count, &(brim_attr){.axis = axis});
}
