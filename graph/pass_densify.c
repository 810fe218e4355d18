// COPY before readers that cannot take their input's strides.
#include <stdlib.h>
#include "core/alloc.h"
#include "graph/layout.h"
#include "graph/passes.h"
#include "graph/rewrite.h"

typedef struct densifier {
    rewrite r;
    // By new id; every value that is no view is taken to be dense in a storage of its own.
    struct densified {
        value_layout layout;
        value_id copy;
    } * value;
    size_t capacity;
    value_id *inputs; // of the node being copied
} densifier;

// Layouts of the values that have been added since `known` were there.
static bool describe_new(densifier *d, value_id known) {
    const brim_graph *g = d->r.to;
    if (!brim_grow((void **)&d->value, &d->capacity, (size_t)g->values, sizeof *d->value, d->r.err))
        return false;
    for (value_id v = known; v < g->values; v++) {
        node_id n = g->value[v].producer;
        value_layout l = layout_dense(v, &g->value[v].shape);
        if (n >= 0 && op_is_view(g->node[n].op) &&
            !layout_of_view(g, &g->node[n], &d->value[g->node[n].input[0]].layout, &l))
            brim_fail(d->r.err, BRIM_GRAPH,
                      "densify: value %d is a view that strides cannot express", v);
        d->value[v] = (struct densified){l, -1};
    }
    return !failed(d->r.err);
}

static const brim_attr no_attr; // all of its bytes are zero

// A node of one input and one output beside the node `at`, in its phase, sections and scope. attr
// is no_attr with its member set.
static value_id insert(densifier *d, const graph_node *at, op_id op, const brim_attr *attr,
                       value_id input, const shape *s) {
    if (failed(d->r.err)) return -1;
    graph_node like = *at;
    like.op = op;
    like.outputs = 1;
    like.attr = *attr;
    value_id known = d->r.to->values;
    value_id made = rewrite_add_one(&d->r, &like, &input, 1, d->r.to->value[input].dtype, s);
    return describe_new(d, known) ? made : -1;
}

// A dense copy, shared by the readers that may.
static value_id dense_copy(densifier *d, const graph_node *at, value_id v) {
    if (failed(d->r.err)) return -1;
    const brim_graph *g = d->r.to;
    value_id copy = d->value[v].copy;
    if (copy >= 0) {
        const graph_node *made = &g->node[g->value[copy].producer];
        if (made->phase <= at->phase && made->sections == at->sections) return copy;
    }
    shape s = g->value[v].shape;
    copy = insert(d, at, OP_COPY, &no_attr, v, &s);
    d->value[v].copy = copy;
    return copy;
}

static void exchange_last(int64_t *of_axis, int32_t rank) {
    int64_t last = of_axis[rank - 1];
    of_axis[rank - 1] = of_axis[rank - 2];
    of_axis[rank - 2] = last;
}

// The matrices of v seen with their last two axes swapped.
static value_id swap_last(densifier *d, const graph_node *at, value_id v) {
    shape s = d->r.to->value[v].shape;
    brim_attr attr = no_attr;
    for (int32_t i = 0; i < s.rank; i++) attr.axes[i] = (int8_t)i;
    attr.axes[s.rank - 2] = (int8_t)(s.rank - 1);
    attr.axes[s.rank - 1] = (int8_t)(s.rank - 2);
    exchange_last(s.dim, s.rank);
    return insert(d, at, OP_PERMUTE, &attr, v, &s);
}

static bool swapped_suits(const densifier *d, value_id v, int input, const shape *result) {
    shape s = d->r.to->value[v].shape;
    value_layout l = d->value[v].layout;
    exchange_last(s.dim, s.rank);
    exchange_last(l.stride, s.rank);
    return layout_suits_shape(OP_MATMUL, input, &s, result, &l);
}

// An operand of a product: as it is, transposed (the flag tells), copied, or spread over the batch
// and copied.
static value_id matmul_operand(densifier *d, const graph_node *node, int input, value_id v,
                               bool *transpose) {
    const shape *result = &d->r.from->value[node->first_output].shape;
    shape s = d->r.to->value[v].shape;
    if (layout_suits_shape(OP_MATMUL, input, &s, result, &d->value[v].layout)) return v;
    if (swapped_suits(d, v, input, result)) {
        *transpose = !*transpose;
        return swap_last(d, node, v);
    }
    value_layout dense = layout_dense(v, &s);
    if (!layout_suits_shape(OP_MATMUL, input, &s, result, &dense)) {
        shape full = *result;
        full.dim[full.rank - 2] = s.dim[s.rank - 2];
        full.dim[full.rank - 1] = s.dim[s.rank - 1];
        v = insert(d, node, OP_BROADCAST, &no_attr, v, &full);
    }
    return dense_copy(d, node, v);
}

static void readable_inputs(densifier *d, graph_node *node) {
    const brim_graph *from = d->r.from;
    const shape *result = &from->value[node->first_output].shape;
    for (int32_t i = 0; i < node->inputs && !failed(d->r.err); i++) {
        value_id v = d->inputs[i];
        const shape *s = &from->value[node->input[i]].shape;
        int64_t strides[BRIM_MAX_DIMS];
        if (node->op == OP_MATMUL) {
            v = matmul_operand(d, node, i, v,
                               i == 0 ? &node->attr.matmul.transpose_a
                                      : &node->attr.matmul.transpose_b);
        } else if (node->op == OP_RESHAPE) {
            if (!layout_reshape(s, d->value[v].layout.stride, result, strides))
                v = dense_copy(d, node, v);
        } else if (!layout_suits_shape(node->op, i, s, result, &d->value[v].layout)) {
            v = dense_copy(d, node, v);
        }
        d->inputs[i] = v;
    }
}

static void copy_node(densifier *d, node_id n) {
    rewrite *r = &d->r;
    graph_node node = r->from->node[n];
    for (int32_t i = 0; i < node.inputs; i++) d->inputs[i] = r->map[node.input[i]];
    readable_inputs(d, &node);
    if (failed(r->err)) return;
    value_id known = r->to->values;
    value_id first =
        rewrite_add(r, &node, d->inputs, node.inputs, &r->from->value[node.first_output]);
    if (!describe_new(d, known)) return;
    for (int32_t j = 0; j < node.outputs; j++) r->map[node.first_output + j] = first + j;
}

// A named result is read as a whole when a step has ended: a view of something else, or of a leaf
// that changes or is reused, is copied.
static void own_result(densifier *d, value_id old) {
    rewrite *r = &d->r;
    brim_graph *g = r->to;
    value_id v = r->map[old];
    const value_layout *l = &d->value[v].layout;
    const graph_value *owner = &g->value[l->storage];
    if (owner->producer >= 0 && layout_has_form(l, &g->value[v].shape, ACCESS_DENSE) &&
        shape_elements(&owner->shape) == shape_elements(&g->value[v].shape))
        return;
    graph_node at = g->node[g->value[v].producer];
    at.scope = r->from->node[r->from->value[old].producer].scope;
    value_id copy = dense_copy(d, &at, v);
    if (failed(r->err)) return;
    g->value[copy].name = g->value[v].name;
    g->value[v].name = NULL;
    r->stand_in[old] = copy;
}

brim_graph *pass_densify(const brim_graph *g, brim_error *err) {
    densifier d = {0};
    if (!rewrite_begin(&d.r, g, err)) return NULL;
    d.inputs = brim_calloc_array((size_t)rewrite_most_inputs(g), sizeof *d.inputs, err);
    for (value_id v = 0; v < g->values && !failed(err); v++) {
        node_id n = g->value[v].producer;
        if (n < 0) {
            value_id known = d.r.to->values;
            rewrite_leaf(&d.r, v);
            describe_new(&d, known);
        } else if (g->node[n].first_output == v) {
            copy_node(&d, n);
        }
    }
    for (int32_t i = 0; i < g->results && !failed(err); i++) own_result(&d, g->result[i]);
    free(d.value);
    free(d.inputs);
    return rewrite_live(rewrite_end(&d.r, "densify"), "densify", err);
}
