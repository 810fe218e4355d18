// Ops without arithmetic: most are strides and emit nothing. What is left are copies.
#include "backends/lower_rules.h"

static bool same_place(const lowering *l, value_id a, value_id b) {
    return l->layout->of[a].storage == l->layout->of[b].storage;
}

void lower_view(lowering *l) {
    const graph_node *n = l->node;
    value_layout place;
    if (same_place(l, n->input[0], n->first_output)) return;
    if (!layout_of_view(l->graph, n, &l->layout->of[n->input[0]], &place)) {
        brim_fail(l->err, BRIM_GRAPH,
                  "strides cannot express this view, and its input was not made dense");
        return;
    }
    // The result has a storage of its own: the input, seen as the view, is copied there.
    operand to = lower_output(l, 0), from = lower_input(l, 0);
    int64_t element = (int64_t)brim_dtype_bytes(from.dtype), start[BRIM_MAX_DIMS] = {0};
    from.offset += (place.offset - l->layout->of[n->input[0]].offset) * element;
    for (int d = 0; d < to.shape.rank; d++) from.stride[d] = place.stride[d];
    from = lower_part(&from, start, &to.shape);
    lower_copy_elements(l, &from, &to);
}

void lower_concat(lowering *l) {
    const graph_node *n = l->node;
    operand whole = lower_output(l, 0);
    int64_t start[BRIM_MAX_DIMS] = {0};
    int axis = n->attr.axis;
    for (int i = 0; i < n->inputs; i++) {
        operand from = lower_input(l, i);
        if (!same_place(l, n->input[i], n->first_output)) {
            operand to = lower_part(&whole, start, &from.shape);
            lower_copy_elements(l, &from, &to);
        }
        start[axis] += from.shape.dim[axis];
    }
}

// The zeros before and after the input along each axis, without touching a byte twice: along axes
// further out only the input's extent is left, along those further in all of it.
static void fill_margins(lowering *l, const operand *whole, const int64_t *start,
                         const shape *part) {
    int64_t from[BRIM_MAX_DIMS] = {0};
    shape box = whole->shape;
    for (int d = 0; d < part->rank; d++) {
        int64_t after = whole->shape.dim[d] - start[d] - part->dim[d];
        if (start[d] > 0) {
            from[d] = 0;
            box.dim[d] = start[d];
            operand margin = lower_part(whole, from, &box);
            lower_fill_elements(l, 0, &margin);
        }
        if (after > 0) {
            from[d] = start[d] + part->dim[d];
            box.dim[d] = after;
            operand margin = lower_part(whole, from, &box);
            lower_fill_elements(l, 0, &margin);
        }
        from[d] = start[d];
        box.dim[d] = part->dim[d];
    }
}

void lower_pad(lowering *l) {
    operand from = lower_input(l, 0), whole = lower_output(l, 0);
    operand to = lower_part(&whole, l->node->attr.start, &from.shape);
    fill_margins(l, &whole, l->node->attr.start, &from.shape);
    lower_copy_elements(l, &from, &to);
}
