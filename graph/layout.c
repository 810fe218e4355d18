// Access forms of ops, and the strides of views.
#include "graph/layout.h"

#include <stdlib.h>

// Bit i: input or output i. What is not listed is DENSE; elementwise ops, chains and views are ANY.
static const struct {
    uint16_t rows_in, any_in, rows_out, any_out;
} access_table[OP_COUNT] = {
    [OP_CONCAT] = {.any_in = UINT16_MAX, .any_out = 1},
    [OP_PAD] = {.any_in = 1, .any_out = 1},
    [OP_MATMUL] = {.rows_in = 3},
    [OP_ATTENTION] = {.rows_in = 7},                            // q, k, v
    [OP_ATTENTION_BACKWARD] = {.rows_in = 0x27, .rows_out = 7}, // q, k, v, do; dq, dk, dv
};

static access_form form_of(op_id op, int index, uint16_t rows, uint16_t any) {
    if (op_table[op].family == FAMILY_ELEMENTWISE || op_is_view(op)) return ACCESS_ANY;
    int bit = index < 15 ? index : 15; // only CONCAT has more
    if (any >> bit & 1) return ACCESS_ANY;
    return rows >> bit & 1 ? ACCESS_ROWS : ACCESS_DENSE;
}

access_form op_reads(op_id op, int input) {
    return form_of(op, input, access_table[op].rows_in, access_table[op].any_in);
}

access_form op_writes(op_id op, int output) {
    return form_of(op, output, access_table[op].rows_out, access_table[op].any_out);
}

bool op_is_view(op_id op) {
    return op == OP_RESHAPE || op == OP_PERMUTE || op == OP_SLICE || op == OP_BROADCAST;
}

bool layout_has_form(const value_layout *l, const shape *s, access_form form) {
    if (form == ACCESS_ANY || s->rank == 0) return true;
    int32_t last = s->rank - 1;
    if (form == ACCESS_ROWS) return s->dim[last] == 1 || l->stride[last] == 1;
    int64_t expected = 1;
    for (int32_t i = last; i >= 0; i--) {
        if (s->dim[i] != 1 && l->stride[i] != expected) return false;
        expected *= s->dim[i];
    }
    return true;
}

// True if the axes from 0 to count - 1 are traversed by one stride.
static bool one_stride(const value_layout *l, const shape *s, int32_t count) {
    int32_t inner = -1; // the last axis seen that is longer than 1
    for (int32_t i = count - 1; i >= 0; i--) {
        if (s->dim[i] == 1) continue;
        if (inner >= 0 && l->stride[i] != l->stride[inner] * s->dim[inner]) return false;
        inner = i;
    }
    return true;
}

static bool full_batch_or_none(const shape *operand, const shape *result) {
    int32_t batch = operand->rank - 2, extra = result->rank - operand->rank;
    bool none = true, full = true;
    for (int32_t i = 0; i < batch; i++) {
        none &= operand->dim[i] == 1;
        full &= operand->dim[i] == result->dim[i + extra];
    }
    for (int32_t i = 0; i < extra; i++) full &= result->dim[i] == 1;
    return none || full;
}

static bool suits_matmul(const shape *s, const shape *result, const value_layout *l) {
    if (s->rank < 2 || !layout_has_form(l, s, ACCESS_ROWS)) return false;
    // Libraries take a row stride that is at least a row's length.
    int64_t rows = s->dim[s->rank - 2], columns = s->dim[s->rank - 1];
    if (rows != 1 && l->stride[s->rank - 2] < columns) return false;
    return one_stride(l, s, s->rank - 2) && full_batch_or_none(s, result);
}

bool layout_suits_shape(op_id op, int input, const shape *s, const shape *result,
                        const value_layout *l) {
    if (op == OP_MATMUL) return suits_matmul(s, result, l);
    return layout_has_form(l, s, op_reads(op, input));
}

bool layout_suits(const brim_graph *g, const graph_node *node, int input, const value_layout *l) {
    return layout_suits_shape(node->op, input, &g->value[node->input[input]].shape,
                              &g->value[node->first_output].shape, l);
}

value_layout layout_dense(value_id storage, const shape *s) {
    value_layout l = {.storage = storage};
    int64_t stride = 1;
    for (int32_t i = s->rank - 1; i >= 0; i--) {
        l.stride[i] = stride;
        stride *= s->dim[i];
    }
    return l;
}

bool layout_reshape(const shape *from, const int64_t *stride, const shape *to, int64_t *out) {
    // Runs of axes that one stride traverses; the new axes must cut each run without remainder.
    // Where there is one, too much is left for the other runs, since there are as many elements as
    // before.
    int64_t extent[BRIM_MAX_DIMS], step[BRIM_MAX_DIMS];
    int32_t runs = 0;
    for (int32_t i = 0; i < from->rank; i++) {
        if (from->dim[i] == 1) continue;
        if (runs && step[runs - 1] == stride[i] * from->dim[i]) {
            extent[runs - 1] *= from->dim[i];
            step[runs - 1] = stride[i];
        } else {
            extent[runs] = from->dim[i];
            step[runs++] = stride[i];
        }
    }
    int64_t left = 1, next = 1;
    for (int32_t i = to->rank - 1; i >= 0; i--) {
        if (to->dim[i] != 1 && left == 1 && runs) {
            left = extent[--runs];
            next = step[runs];
        }
        out[i] = next;
        left /= to->dim[i];
        next *= to->dim[i];
    }
    return left == 1 && runs == 0;
}

bool layout_of_view(const brim_graph *g, const graph_node *node, const value_layout *in,
                    value_layout *out) {
    const shape *from = &g->value[node->input[0]].shape, *to = &g->value[node->first_output].shape;
    value_layout l = {.storage = in->storage, .offset = in->offset};
    switch (node->op) {
    case OP_RESHAPE:
        if (!layout_reshape(from, in->stride, to, l.stride)) return false;
        break;
    case OP_PERMUTE:
        for (int32_t i = 0; i < to->rank; i++) l.stride[i] = in->stride[node->attr.axes[i]];
        break;
    case OP_SLICE:
        for (int32_t i = 0; i < to->rank; i++) {
            l.stride[i] = in->stride[i];
            l.offset += node->attr.start[i] * in->stride[i];
        }
        break;
    default: // BROADCAST
        for (int32_t i = 0; i < to->rank; i++) {
            int32_t j = i - (to->rank - from->rank);
            l.stride[i] = j < 0 || (from->dim[j] == 1 && to->dim[i] != 1) ? 0 : in->stride[j];
        }
        break;
    }
    *out = l;
    return true;
}

void graph_layout_free(graph_layout *layout) {
    free(layout->of);
    *layout = (graph_layout){0};
}
