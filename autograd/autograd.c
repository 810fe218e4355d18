#include "autograd/autograd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "autograd/rules.h"
#include "core/alloc.h"
#include "core/dtype.h"

// One use's share of a value's gradient; the uses of a value are a list in the order in which they
// were made.
typedef struct contribution {
    brim_value gradient;
    int32_t next; // index, or -1
} contribution;

// What is known of each value that existed before differentiation.
typedef struct value_state {
    bool active;         // on a path from a wanted value to the loss
    bool depends;        // on a wanted value, differentiably
    bool of_parameter;   // an f32 parameter, or a view of one
    brim_dtype dtype;    // of its gradient
    int32_t uses;        // as an operand
    int32_t first, last; // contributions, or -1
    brim_value gradient; // once summed
} value_state;

typedef struct tape {
    brim_graph *graph;
    value_state *value;
    int32_t values;
    contribution *use;
    size_t uses, use_capacity;
    brim_error *err;
} tape;

static bool has_gradient(const brim_graph *g, value_id v) {
    return dtype_is_float(g->value[v].dtype);
}

// Its own dtype, except that the gradients of a parameter's 16-bit compute copy and of views of
// that copy are f32, unless that of the parameter is narrower and no others are added to them.
static brim_dtype gradient_dtype(const tape *t, const graph_node *node, value_id output) {
    const value_state *out = &t->value[output];
    bool narrow = out->uses <= 1;
    for (int32_t i = 0; i < node->inputs; i++) narrow &= t->value[node->input[i]].dtype != BRIM_F32;
    return out->of_parameter && !narrow ? BRIM_F32 : t->graph->value[output].dtype;
}

// What is wanted: its gradient has the dtype that was asked for already while it is made, if there
// is but one, and no rule reads it.
static void mark_wanted(tape *t, const value_id *wrt, const brim_dtype *dtype, int count) {
    const brim_graph *g = t->graph;
    for (node_id n = 0; n < g->nodes; n++)
        for (int32_t i = 0; i < g->node[n].inputs; i++) t->value[g->node[n].input[i]].uses++;
    for (int i = 0; i < count; i++) {
        value_state *state = &t->value[wrt[i]];
        state->depends = has_gradient(g, wrt[i]);
        bool leaf = g->value[wrt[i]].producer < 0;
        if (dtype && leaf && state->uses <= 1) state->dtype = dtype[i];
    }
}

// What a value depends on, and the dtype of its gradient.
static void mark_forward(tape *t, const value_id *wrt, const brim_dtype *dtype, int count) {
    const brim_graph *g = t->graph;
    for (int32_t v = 0; v < t->values; v++) {
        t->value[v] = (value_state){.dtype = g->value[v].dtype,
                                    .first = -1,
                                    .last = -1,
                                    .gradient = GRAPH_INVALID,
                                    .of_parameter = g->value[v].role == ROLE_PARAMETER};
    }
    mark_wanted(t, wrt, dtype, count);
    for (node_id n = 0; n < g->nodes; n++) {
        const graph_node *node = &g->node[n];
        const op_info *op = &op_table[node->op];
        bool depends = false, of_parameter = node->inputs > 0;
        for (int32_t i = 0; i < node->inputs; i++) {
            const value_state *in = &t->value[node->input[i]];
            depends |= in->depends;
            of_parameter &= in->of_parameter;
        }
        bool view = op->family == FAMILY_VIEW, copies = view || node->op == OP_CAST;
        for (int32_t j = 0; j < node->outputs; j++) {
            value_id v = node->first_output + j;
            value_state *out = &t->value[v];
            if (depends && op->derivative != DERIVATIVE_ZERO && has_gradient(g, v))
                out->depends = true;
            out->of_parameter = copies && of_parameter && has_gradient(g, v);
            if (out->of_parameter) out->dtype = gradient_dtype(t, node, v);
        }
    }
}

// Which of the values that depend on a wanted one lead to the loss.
static void mark_backward(tape *t, value_id loss) {
    const brim_graph *g = t->graph;
    t->value[loss].active = t->value[loss].depends;
    for (node_id n = g->nodes - 1; n >= 0; n--) {
        const graph_node *node = &g->node[n];
        bool active = false;
        for (int32_t j = 0; j < node->outputs; j++)
            active |= t->value[node->first_output + j].active;
        for (int32_t i = 0; active && i < node->inputs; i++) {
            value_state *in = &t->value[node->input[i]];
            if (in->depends && op_table[node->op].derivative != DERIVATIVE_ZERO) in->active = true;
        }
    }
}

static void contribute(tape *t, value_id v, brim_value gradient) {
    if (!brim_grow((void **)&t->use, &t->use_capacity, t->uses + 1, sizeof *t->use, t->err)) return;
    value_state *state = &t->value[v];
    int32_t index = (int32_t)t->uses++;
    t->use[index] = (contribution){gradient, -1};
    if (state->last < 0)
        state->first = index;
    else
        t->use[state->last].next = index;
    state->last = index;
}

// A contribution that is the gradient of a slice along one axis: which part of the value it covers.
typedef struct piece {
    brim_value part;
    int32_t axis;
    int64_t start, extent;
    int32_t use;
} piece;

static bool as_piece(const tape *t, int32_t use, piece *out) {
    const brim_graph *g = t->graph;
    brim_value x = t->use[use].gradient;
    const graph_value *whole = &g->value[x.id];
    if (whole->producer < 0 || g->node[whole->producer].op != OP_PAD) return false;
    const graph_node *pad = &g->node[whole->producer];
    const graph_value *part = &g->value[pad->input[0]];
    int32_t axis = -1;
    for (int32_t i = 0; i < whole->shape.rank; i++) {
        if (part->shape.dim[i] == whole->shape.dim[i]) continue;
        if (axis >= 0) return false;
        axis = i;
    }
    if (axis < 0) return false;
    *out = (piece){graph_value_of(g, pad->input[0]), axis, pad->attr.start[axis],
                   part->shape.dim[axis], use};
    return true;
}

static int by_start(const void *a, const void *b) {
    const piece *x = a, *y = b;
    if (x->axis != y->axis) return x->axis - y->axis;
    if (x->start != y->start) return x->start < y->start ? -1 : 1;
    return x->use - y->use;
}

// Where the gradients of slices of one value tile it exactly along an axis, they are joined by one
// CONCAT (which their producers can write in place) in the stead of a PAD each and additions. The
// first of them becomes the joined one, the others are dropped from the list.
static void join_pieces(tape *t, value_id v) {
    value_state *state = &t->value[v];
    int32_t count = 0, pieces = 0;
    for (int32_t u = state->first; u >= 0; u = t->use[u].next) count++;
    piece *list = brim_calloc_array((size_t)count, sizeof *list, t->err);
    brim_value *parts = brim_calloc_array((size_t)count, sizeof *parts, t->err);
    for (int32_t u = state->first; list && parts && u >= 0; u = t->use[u].next)
        if (as_piece(t, u, &list[pieces])) pieces++;
    if (pieces) qsort(list, (size_t)pieces, sizeof *list, by_start);
    for (int32_t i = 0; i < pieces;) {
        int32_t n = 0, axis = list[i].axis;
        int64_t end = 0;
        bool tiles = true;
        for (; i + n < pieces && list[i + n].axis == axis; n++) {
            tiles &= list[i + n].start == end;
            end += list[i + n].extent;
            parts[n] = list[i + n].part;
        }
        if (tiles && end == t->graph->value[v].shape.dim[axis]) {
            int32_t keep = list[i].use;
            for (int32_t j = 1; j < n; j++) {
                if (list[i + j].use < keep) keep = list[i + j].use;
            }
            for (int32_t j = 0; j < n; j++) t->use[list[i + j].use].gradient = GRAPH_INVALID;
            t->use[keep].gradient = brim_concat(parts, n, axis);
        }
        i += n;
    }
    free(list);
    free(parts);
}

// The sum of a value's contributions, made once.
static brim_value gradient_of(tape *t, value_id v) {
    value_state *state = &t->value[v];
    if (state->gradient.id >= 0 || state->first < 0) return state->gradient;
    if (state->first != state->last) join_pieces(t, v);
    brim_value sum = GRAPH_INVALID;
    for (int32_t u = state->first; u >= 0; u = t->use[u].next) {
        brim_value x = t->use[u].gradient;
        if (x.id < 0) continue;
        sum = sum.id < 0 ? x : brim_add(sum, x);
    }
    state->gradient = sum;
    return sum;
}

// The wanted value, or one on the way to it, that a missing derivative keeps from the loss.
static value_id wanted_below(const tape *t, value_id v) {
    const brim_graph *g = t->graph;
    while (g->value[v].producer >= 0) {
        const graph_node *node = &g->node[g->value[v].producer];
        value_id next = -1;
        for (int32_t i = 0; i < node->inputs && next < 0; i++)
            if (t->value[node->input[i]].depends) next = node->input[i];
        if (next < 0) break;
        v = next;
    }
    return v;
}

static void fail_without_rule(const tape *t, const graph_node *node) {
    const brim_graph *g = t->graph;
    for (int32_t i = 0; i < node->inputs; i++) {
        if (!t->value[node->input[i]].active) continue;
        value_id v = wanted_below(t, node->input[i]);
        char text[128], number[32];
        snprintf(number, sizeof number, "value %d", (int)v);
        brim_fail(t->err, BRIM_GRAPH,
                  "%s%s%s%s: it has no derivative; the gradient of \"%s\" %s needs one",
                  op_table[node->op].name, *node->scope ? " in scope \"" : "", node->scope,
                  *node->scope ? "\"" : "", g->value[v].name ? g->value[v].name : number,
                  shape_print(&g->value[v].shape, text, sizeof text));
        return;
    }
}

// Hands the gradients that a rule made to the inputs, in their dtypes.
static void take(tape *t, const graph_node *node, const rule_context *c, const brim_value *made) {
    brim_graph *g = t->graph;
    for (int32_t i = 0; i < node->inputs; i++) {
        if (!c->wanted[i] || made[i].id < 0 || failed(g->err)) continue;
        brim_value gradient = made[i];
        if (!shape_equal(&g->value[gradient.id].shape, &g->value[node->input[i]].shape)) {
            char is[128], wanted[128];
            brim_fail(g->err, BRIM_GRAPH,
                      "op '%s': the derivative of input %d has shape %s, not %s",
                      op_table[node->op].name, i,
                      shape_print(&g->value[gradient.id].shape, is, sizeof is),
                      shape_print(&g->value[node->input[i]].shape, wanted, sizeof wanted));
            return;
        }
        gradient = brim_cast(gradient, c->dtype[i]);
        contribute(t, node->input[i], gradient);
    }
}

// Gradients of one node's inputs from those of its outputs.
static void visit(tape *t, const graph_node *node) {
    brim_graph *g = t->graph;
    bool any_out = false, any_in = false;
    for (int32_t j = 0; j < node->outputs; j++)
        any_out |= t->value[node->first_output + j].first >= 0;
    for (int32_t i = 0; i < node->inputs; i++) any_in |= t->value[node->input[i]].active;
    if (!any_out || !any_in || op_table[node->op].derivative == DERIVATIVE_ZERO) return;
    derivative_rule rule = derivative_rules[node->op];
    if (!rule) {
        fail_without_rule(t, node);
        return;
    }
    size_t inputs = (size_t)node->inputs, outputs = (size_t)node->outputs;
    brim_value *values = brim_calloc_array(2 * inputs + 2 * outputs, sizeof *values, t->err);
    bool *wanted = brim_calloc_array(inputs, sizeof *wanted, t->err);
    brim_dtype *dtype = brim_calloc_array(inputs, sizeof *dtype, t->err);
    if (values && wanted && dtype) {
        brim_value *in = values, *made = in + inputs, *out = made + inputs,
                   *gradient = out + outputs;
        for (size_t i = 0; i < inputs; i++) {
            const value_state *state = &t->value[node->input[i]];
            in[i] = graph_value_of(g, node->input[i]);
            made[i] = GRAPH_INVALID;
            wanted[i] = state->active;
            dtype[i] = state->dtype;
        }
        for (size_t j = 0; j < outputs; j++) {
            out[j] = graph_value_of(g, node->first_output + (value_id)j);
            gradient[j] = gradient_of(t, out[j].id);
        }
        rule_context context = {g, node, in, out, gradient, wanted, dtype};
        if (!failed(g->err)) rule(&context, made);
        take(t, node, &context, made);
    }
    free(values);
    free(wanted);
    free(dtype);
}

static void walk(tape *t, brim_value loss, brim_value seed) {
    brim_graph *g = t->graph;
    seed = brim_cast(seed, g->value[loss.id].dtype);
    contribute(t, loss.id, seed);
    for (node_id n = g->value[loss.id].producer; n >= 0 && !failed(t->err) && !failed(g->err);
         n--) {
        graph_node node = g->node[n];
        snprintf(g->scope, sizeof g->scope, "%s", node.scope);
        g->scope_text = node.scope;
        visit(t, &node);
    }
}

static brim_value finished(tape *t, value_id v, const brim_dtype *dtype) {
    brim_value gradient = gradient_of(t, v);
    return dtype ? brim_cast(gradient, *dtype) : gradient;
}

brim_status autograd_differentiate(brim_graph *g, brim_value loss, brim_value seed,
                                   const value_id *wrt, int count, brim_value *gradient,
                                   brim_error *err) {
    return autograd_differentiate_as(g, loss, seed, wrt, NULL, count, gradient, err);
}

brim_status autograd_differentiate_as(brim_graph *g, brim_value loss, brim_value seed,
                                      const value_id *wrt, const brim_dtype *dtype, int count,
                                      brim_value *gradient, brim_error *err) {
    for (int i = 0; i < count; i++) gradient[i] = GRAPH_INVALID;
    if (failed(g->err)) return brim_fail(err, g->err->status, "%s", g->err->text);
    if (loss.id < 0 || seed.id < 0)
        return brim_fail(err, BRIM_GRAPH,
                         "differentiation: the loss or its gradient is not a value of the graph");
    if (g->value[loss.id].shape.rank != 0 || g->value[seed.id].shape.rank != 0) {
        char text[128];
        return brim_fail(err, BRIM_SHAPE,
                         "differentiation: the loss must be a scalar; it has shape %s",
                         shape_print(&g->value[loss.id].shape, text, sizeof text));
    }
    tape t = {.graph = g, .values = g->values, .err = err};
    t.value = brim_calloc_array((size_t)g->values, sizeof *t.value, err);
    if (t.value) {
        mark_forward(&t, wrt, dtype, count);
        mark_backward(&t, loss.id);
        char scope[sizeof g->scope];
        memcpy(scope, g->scope, sizeof scope);
        node_phase phase = g->phase;
        g->phase = PHASE_BACKWARD;
        walk(&t, loss, seed);
        memcpy(g->scope, scope, sizeof scope);
        for (int i = 0; i < count && !failed(err) && !failed(g->err); i++) {
            if (t.value[wrt[i]].active)
                gradient[i] = finished(&t, wrt[i], dtype ? &dtype[i] : NULL);
        }
        g->phase = phase;
    }
    free(t.value);
    free(t.use);
    if (failed(g->err) && err != g->err) brim_fail(err, g->err->status, "%s", g->err->text);
    return err->status;
}
