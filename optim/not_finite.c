#include "optim/not_finite.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "core/dtype.h"
#include "core/strbuf.h"

// What was seen of a value.
typedef struct finding {
    bool looked;   // it was read in this micro-batch; else it is as bad as what it was made from
    int64_t count; // elements that are not finite
    int64_t first; // of them, in row-major order
    float value;   // of that element
} finding;

enum { PIECE = 4096 };

typedef struct search {
    const compiled *c;
    const compile_target *target;
    finding *of;       // by value id
    bool *reached;     // by value id: it led to a bad loss or gradient
    int32_t *position; // by node id: in the schedule
    char *bytes;       // of one value
    float piece[PIECE];
    int64_t micro_batch;
    value_id found; // -1: nothing yet
} search;

// ---- looking at one value -----------------------------------------------------------------------

static bool has_reals(const graph_value *v) {
    return dtype_is_float(v->dtype) && shape_elements(&v->shape) > 0;
}

// `count` elements from element `at` of the bytes read, `stride` apart; the first of them is
// element `index` of the value.
static void look_at_piece(search *s, brim_dtype dtype, int64_t at, int64_t stride, int64_t count,
                          int64_t index, finding *f) {
    size_t bytes = brim_dtype_bytes(dtype);
    const char *from = s->bytes + (size_t)at * bytes;
    if (stride == 1) dtype_to_f32(dtype, from, s->piece, (size_t)count);
    for (int64_t i = 0; i < count && stride != 1; i++)
        dtype_to_f32(dtype, from + (size_t)(i * stride) * bytes, &s->piece[i], 1);
    for (int64_t i = 0; i < count; i++) {
        if (isfinite(s->piece[i])) continue;
        if (f->count++ == 0) f->first = index + i, f->value = s->piece[i];
    }
}

// All elements by their strides: what lies between them is another value's.
static finding look_at(search *s, const operand *x) {
    finding f = {.looked = true};
    int last = x->shape.rank - 1;
    int64_t row = last >= 0 ? x->shape.dim[last] : 1, stride = last >= 0 ? x->stride[last] : 1;
    int64_t elements = shape_elements(&x->shape);
    for (int64_t index = 0; index < elements; index += row) {
        int64_t at = 0, rest = index / row;
        for (int d = last - 1; d >= 0; d--) {
            at += rest % x->shape.dim[d] * x->stride[d];
            rest /= x->shape.dim[d];
        }
        for (int64_t i = 0; i < row; i += PIECE)
            look_at_piece(s, x->dtype, at + i * stride, stride, row - i < PIECE ? row - i : PIECE,
                          index + i, &f);
    }
    return f;
}

// The value's bytes have been read, without gaps.
static finding look_at_dense(search *s, const graph_value *v) {
    operand x = {.dtype = v->dtype, .shape = {1, {shape_elements(&v->shape)}}, .stride = {1}};
    return look_at(s, &x);
}

// ---- looking at a step --------------------------------------------------------------------------

// An input that holds -infinity is a mask, and no mistake.
static void look_at_inputs(search *s) {
    const lowered *low = &s->c->lowered;
    for (int32_t i = 0; i < low->inputs; i++) {
        const staging_place *place = &low->input[i];
        const graph_value *v = &s->c->graph->value[place->value];
        if (!has_reals(v)) continue;
        memcpy(s->bytes, s->c->inputs + s->micro_batch * low->slot_bytes + place->offset,
               (size_t)place->bytes);
        finding *f = &s->of[place->value];
        *f = look_at_dense(s, v);
        if (f->value == -INFINITY) f->count = 0;
    }
}

// Parameters, states and copies at home, as they are between two steps.
static void look_at_variables(search *s, brim_error *err) {
    const brim_graph *g = s->c->graph;
    for (value_id id = 0; id < g->values && !failed(err); id++) {
        const graph_value *v = &g->value[id];
        if (!role_is_variable(v->role) || v->role == ROLE_ACCUMULATOR || !has_reals(v)) continue;
        byte_range range = compiled_range(s->c, id);
        range.bytes = shape_elements(&v->shape) * (int64_t)brim_dtype_bytes(v->dtype);
        if (!device_read_range(s->target->backend, s->target->device, &range, s->bytes, err))
            s->of[id] = look_at_dense(s, v);
    }
}

// A node may be several records: its results are there after the last of them.
static void look_after_record(void *user, int32_t record, brim_error *err) {
    search *s = user;
    const program *p = s->c->lowered.program;
    const brim_graph *g = s->c->graph;
    node_id n = p->record[record].node;
    if (s->found >= 0 || n < 0) return;
    for (int32_t i = record + 1; i < p->records && p->record[i].node == n; i++)
        if (p->record[i].sections & p->record[record].sections) return;
    lowering l = {.graph = g,
                  .layout = &s->c->layout,
                  .plan = &s->c->plan,
                  .node = &g->node[n],
                  .node_index = n,
                  .position = s->position[n],
                  .err = err};
    for (int i = 0; i < l.node->outputs && !failed(err); i++) {
        value_id id = l.node->first_output + i;
        if (!has_reals(&g->value[id])) continue;
        operand x = lower_value(&l, id);
        if (!device_read_range(s->target->backend, s->target->device, &x.range, s->bytes, err))
            s->of[id] = look_at(s, &x);
    }
}

// ---- the way back -------------------------------------------------------------------------------

// What no record wrote, views above all, is as bad as what it was made from.
static void spread(search *s) {
    const brim_graph *g = s->c->graph;
    for (int32_t i = 0; i < s->c->schedule.count; i++) {
        const graph_node *n = &g->node[s->c->schedule.order[i]];
        for (value_id id = n->first_output; id < n->first_output + n->outputs; id++)
            for (int j = 0; j < n->inputs && !s->of[id].looked; j++)
                if (s->of[n->input[j]].count) s->of[id].count = 1;
    }
}

// From the loss, the norm and the sums over micro-batches to what was made first. The schedule is
// gone through from its end, so that the last one met is the first one made; leaves come
// before all nodes.
static void find_first(search *s) {
    const brim_graph *g = s->c->graph;
    for (int i = 0; i < g->results; i++) s->reached[g->result[i]] = true;
    for (node_id n = 0; n < g->nodes; n++)
        if (g->node[n].op == OP_ACCUMULATE) s->reached[g->node[n].first_output] = true;
    for (int32_t i = s->c->schedule.count - 1; i >= 0; i--) {
        const graph_node *n = &g->node[s->c->schedule.order[i]];
        for (value_id id = n->first_output; id < n->first_output + n->outputs; id++) {
            if (!s->reached[id] || !s->of[id].count) continue;
            if (s->of[id].looked) s->found = id;
            for (int j = 0; j < n->inputs; j++) s->reached[n->input[j]] = true;
        }
    }
    for (value_id id = g->values - 1; id >= 0; id--)
        if (g->value[id].producer < 0 && s->reached[id] && s->of[id].count) s->found = id;
}

// ---- words --------------------------------------------------------------------------------------

static void name_op(const graph_node *n, strbuf *text) {
    if (n->op != OP_FUSED) {
        strbuf_printf(text, "%s", op_table[n->op].name);
    } else {
        for (int i = 0; i < n->attr.chain->steps; i++)
            strbuf_printf(text, "%s%s", i ? "+" : "", op_table[n->attr.chain->step[i].op].name);
    }
    if (!*n->scope) return;
    const char *which = n->op == OP_FUSED ? ", the last of them" : ""; // scopes may have been fused
    strbuf_printf(text, "%s in scope \"%s\"", which, n->scope);
}

static void name_value(const brim_graph *g, const graph_value *v, strbuf *text) {
    static const char *const phases[] = {"", ", in the backward pass", ", in the update"};
    if (v->producer < 0) {
        strbuf_printf(text, "%s \"%s\"", v->role == ROLE_INPUT ? "input" : "tensor", v->name);
        return;
    }
    const graph_node *n = &g->node[v->producer];
    strbuf_printf(text, "the output of ");
    name_op(n, text);
    strbuf_printf(text, "%s", phases[n->phase]);
}

static void print_index(const shape *s, int64_t element, strbuf *text) {
    int64_t behind = shape_elements(s);
    strbuf_printf(text, " at [");
    for (int d = 0; d < s->rank; d++) {
        behind /= s->dim[d];
        strbuf_printf(text, "%s%" PRId64, d ? ", " : "", element / behind);
        element %= behind;
    }
    strbuf_printf(text, "]");
}

static void describe(const search *s, strbuf *text) {
    if (s->found < 0) {
        strbuf_printf(text,
                      "no tensor, when the step was run again: the device gives other results "
                      "each time");
        return;
    }
    const graph_value *v = &s->c->graph->value[s->found];
    const finding *f = &s->of[s->found];
    char dims[128];
    name_value(s->c->graph, v, text);
    strbuf_printf(text, ", %s %s: %" PRId64 " of %" PRId64 " elements, the first %s",
                  brim_dtype_name(v->dtype), shape_print(&v->shape, dims, sizeof dims), f->count,
                  shape_elements(&v->shape), not_finite_word(f->value));
    if (v->shape.rank) print_index(&v->shape, f->first, text);
    if (s->c->micro_batches > 1)
        strbuf_printf(text, ", in micro-batch %" PRId64 " of %" PRId64, s->micro_batch + 1,
                      s->c->micro_batches);
}

// ---- the search ---------------------------------------------------------------------------------

// Of all that may be read at a time: a value with whatever lies between its elements.
static size_t most_bytes(const compiled *c) {
    int64_t most = 0;
    for (value_id id = 0; id < c->graph->values; id++)
        if (c->plan.storage[id].bytes > most) most = c->plan.storage[id].bytes;
    return (size_t)most;
}

static bool prepare(search *s, brim_error *err) {
    const brim_graph *g = s->c->graph;
    s->of = brim_calloc_array((size_t)g->values, sizeof *s->of, err);
    s->reached = brim_calloc_array((size_t)g->values, sizeof *s->reached, err);
    s->position = brim_calloc_array((size_t)g->nodes, sizeof *s->position, err);
    s->bytes = brim_calloc_array(most_bytes(s->c), 1, err);
    if (failed(err)) return false;
    for (int32_t i = 0; i < s->c->schedule.count; i++) s->position[s->c->schedule.order[i]] = i;
    return true;
}

// The whole step is run, also when something has been found: only between steps is everything where
// the next one expects it.
static void run_again(search *s, brim_error *err) {
    const record_watcher watcher = {look_after_record, s};
    for (int64_t m = 0; m < s->c->micro_batches && !failed(err); m++) {
        if (s->found < 0) {
            s->micro_batch = m;
            memset(s->of, 0, (size_t)s->c->graph->values * sizeof *s->of);
            memset(s->reached, 0, (size_t)s->c->graph->values * sizeof *s->reached);
            look_at_variables(s, err);
            look_at_inputs(s);
        }
        compiled_step_through(s->c, s->target, m, &watcher, err);
        if (s->found >= 0 || failed(err)) continue;
        spread(s);
        find_first(s);
    }
}

const char *not_finite_word(double x) {
    return isnan(x) ? "nan" : signbit(x) ? "-inf" : "inf";
}

brim_status not_finite_find(const compiled *c, const compile_target *target, char *text,
                            size_t size, brim_error *err) {
    *text = '\0';
    search *s = brim_calloc(sizeof *s, err);
    if (!s) return err->status;
    *s = (search){.c = c, .target = target, .found = -1};
    if (prepare(s, err)) run_again(s, err);
    strbuf line = {.err = err};
    if (!failed(err)) describe(s, &line);
    if (!failed(err)) snprintf(text, size, "%s", strbuf_text(&line));
    strbuf_free(&line);
    free(s->of);
    free(s->reached);
    free(s->position);
    free(s->bytes);
    free(s);
    return err->status;
}
