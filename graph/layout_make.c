// Every value's storage: views into their inputs, parts into their CONCAT, updates into their
// variables, and outputs into the storages of inputs that die.
#include "graph/layout.h"

#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "graph/uses.h"

typedef struct maker {
    const brim_graph *g;
    const graph_schedule *schedule;
    graph_uses uses;
    value_layout *of;
    value_layout *trial;   // layouts while a placement is being tried
    value_id *next, *tail; // the values of each storage, its owner first, as a linked list
    int32_t *last_read;    // by storage: position of the last node that touches it
    bool *pinned;          // by storage: it holds a named result
    int32_t *position;     // by node
    brim_error *err;
} maker;

static void join(maker *m, value_id v, const value_layout *l) {
    m->of[v] = *l;
    m->next[v] = -1;
    if (l->storage == v) {
        m->tail[v] = v;
    } else {
        m->next[m->tail[l->storage]] = v;
        m->tail[l->storage] = v;
    }
}

// Hands all values of storage `from` to storage `to`; their layouts have been set.
static void merge(maker *m, value_id from, value_id to) {
    m->next[m->tail[to]] = from;
    m->tail[to] = m->tail[from];
    if (m->last_read[from] > m->last_read[to]) m->last_read[to] = m->last_read[from];
    m->pinned[to] |= m->pinned[from];
}

// Bases -------------------------------------------------------------------------------------------

static void base_of_leaf(maker *m, value_id v, value_id *control) {
    const graph_value *value = &m->g->value[v];
    value_layout l = layout_dense(v, &value->shape);
    if (value->role == ROLE_CONTROL) {
        if (*control < 0) *control = v;
        l.storage = *control;
        l.offset = value->control;
    }
    join(m, v, &l);
}

static void bases_of_node(maker *m, node_id n) {
    const brim_graph *g = m->g;
    const graph_node *node = &g->node[n];
    for (int32_t j = 0; j < node->outputs; j++) {
        value_id v = node->first_output + j;
        value_layout l = layout_dense(v, &g->value[v].shape);
        if (op_table[node->op].family == FAMILY_UPDATE) {
            if (g->value[node->input[j]].producer >= 0) {
                brim_fail(m->err, BRIM_GRAPH,
                          "layout: output %d of node %d (%s in scope \"%s\") has no variable", j, n,
                          op_table[node->op].name, node->scope ? node->scope : "");
                return;
            }
            l = m->of[node->input[j]];
        } else if (op_is_view(node->op) && !layout_of_view(g, node, &m->of[node->input[0]], &l)) {
            brim_fail(
                m->err, BRIM_GRAPH,
                "layout: node %d (reshape in scope \"%s\") of a view that strides cannot express; "
                "the graph has not been through pass_densify",
                n, node->scope ? node->scope : "");
            return;
        }
        join(m, v, &l);
    }
}

// When node n, no view, reads v for the last time: what is made once a step is read again in every
// section.
static int32_t last_reading(const maker *m, value_id v, node_id n) {
    const brim_graph *g = m->g;
    node_id producer = g->value[m->of[v].storage].producer;
    bool again = producer >= 0 && g->node[producer].sections == SECTION_FIRST &&
                 g->node[n].sections != SECTION_FIRST;
    return again ? INT32_MAX : m->position[n];
}

static void make_bases(maker *m) {
    const brim_graph *g = m->g;
    value_id control = -1;
    for (value_id v = 0; v < g->values && !failed(m->err); v++) {
        node_id producer = g->value[v].producer;
        if (producer < 0)
            base_of_leaf(m, v, &control);
        else if (g->node[producer].first_output == v)
            bases_of_node(m, producer);
    }
    if (failed(m->err)) return;
    for (int32_t r = 0; r < g->results; r++) m->pinned[m->of[g->result[r]].storage] = true;
    for (value_id v = 0; v < g->values; v++) {
        int32_t *last = &m->last_read[m->of[v].storage];
        for (int64_t u = m->uses.start[v]; u < m->uses.start[v + 1]; u++) {
            node_id n = m->uses.use[u].node;
            if (!op_is_view(g->node[n].op) && last_reading(m, v, n) > *last)
                *last = last_reading(m, v, n);
        }
    }
}

// Concatenations ----------------------------------------------------------------------------------

// Through the RESHAPEs and PERMUTEs that lead from a storage's owner to value v, back to the owner,
// whose layout is to be such that v has layout *l. Returns the owner, or -1.
static value_id owner_behind(const maker *m, value_id v, value_layout *l) {
    const brim_graph *g = m->g;
    while (g->value[v].producer >= 0) {
        const graph_node *node = &g->node[g->value[v].producer];
        value_layout in = *l;
        if (node->op == OP_RESHAPE) {
            const shape *inner = &g->value[node->input[0]].shape;
            if (!layout_reshape(&g->value[v].shape, l->stride, inner, in.stride)) return -1;
        } else if (node->op == OP_PERMUTE) {
            for (int32_t i = 0; i < g->value[v].shape.rank; i++)
                in.stride[node->attr.axes[i]] = l->stride[i];
        } else {
            break;
        }
        *l = in;
        v = node->input[0];
    }
    return m->of[v].storage == v ? v : -1;
}

static bool same_place(const value_layout *a, const value_layout *b, const shape *s) {
    if (a->offset != b->offset) return false;
    for (int32_t i = 0; i < s->rank; i++)
        if (s->dim[i] != 1 && a->stride[i] != b->stride[i]) return false;
    return true;
}

// A CONCAT that finds an input in its result's storage takes it for placed: is it at its place?
static bool is_at_place(const maker *m, const value_use *use, const value_layout *l) {
    const graph_node *concat = &m->g->node[use->node];
    if (concat->op != OP_CONCAT || m->of[concat->first_output].storage != l->storage) return true;
    value_layout place = m->of[concat->first_output];
    for (int32_t i = 0; i < use->input; i++)
        place.offset += m->g->value[concat->input[i]].shape.dim[concat->attr.axis] *
                        place.stride[concat->attr.axis];
    return same_place(l, &place, &m->g->value[concat->input[use->input]].shape);
}

// True if all views of the owner can be expressed, and all readers can read them, once it has
// layout *l. Their layouts are left in m->trial.
static bool readers_suit(maker *m, value_id owner, const value_layout *l) {
    const brim_graph *g = m->g;
    for (value_id v = owner; v >= 0; v = m->next[v]) {
        if (v == owner) {
            m->trial[v] = *l;
        } else {
            const graph_node *node = &g->node[g->value[v].producer];
            if (!op_is_view(node->op) ||
                !layout_of_view(g, node, &m->trial[node->input[0]], &m->trial[v]))
                return false;
        }
        for (int64_t u = m->uses.start[v]; u < m->uses.start[v + 1]; u++) {
            const value_use *use = &m->uses.use[u];
            const graph_node *reader = &g->node[use->node];
            if (op_is_view(reader->op)) continue;
            if (!layout_suits(g, reader, use->input, &m->trial[v]) ||
                !is_at_place(m, use, &m->trial[v]))
                return false;
        }
    }
    return true;
}

// Puts a CONCAT's input where the result wants it, if its producer can write there.
static void place_part(maker *m, const graph_node *concat, int input, int64_t start) {
    const brim_graph *g = m->g;
    value_layout l = m->of[concat->first_output];
    l.offset += start * l.stride[concat->attr.axis];
    value_id owner = owner_behind(m, concat->input[input], &l);
    if (owner < 0 || m->pinned[owner] || g->value[owner].producer < 0) return;
    const graph_node *producer = &g->node[g->value[owner].producer];
    int output = owner - producer->first_output;
    if (op_table[producer->op].family == FAMILY_UPDATE || producer->sections != concat->sections)
        return;
    if (!layout_has_form(&l, &g->value[owner].shape, op_writes(producer->op, output))) return;
    if (!readers_suit(m, owner, &l)) return;
    for (value_id v = owner; v >= 0; v = m->next[v]) m->of[v] = m->trial[v];
    merge(m, owner, l.storage);
}

static void place_parts(maker *m) {
    const brim_graph *g = m->g;
    for (node_id n = g->nodes - 1; n >= 0; n--) { // outer ones first
        const graph_node *node = &g->node[n];
        if (node->op != OP_CONCAT) continue;
        int64_t start = 0;
        for (int32_t i = 0; i < node->inputs; i++) {
            place_part(m, node, i, start);
            start += g->value[node->input[i]].shape.dim[node->attr.axis];
        }
    }
}

// In place ----------------------------------------------------------------------------------------

// True if output v of the node may lie in the storage of its input.
static bool may_take(const maker *m, node_id n, int input, value_id v) {
    const brim_graph *g = m->g;
    const graph_node *node = &g->node[n];
    value_id x = node->input[input], storage = m->of[x].storage;
    const graph_value *owner = &g->value[storage], *out = &g->value[v];
    if (owner->producer < 0 || m->pinned[storage] || m->last_read[storage] > m->position[n])
        return false;
    if (g->value[x].dtype != out->dtype || !shape_equal(&g->value[x].shape, &out->shape))
        return false;
    if (shape_elements(&owner->shape) != shape_elements(&out->shape)) return false;
    if (g->node[owner->producer].sections != node->sections) return false;
    for (int32_t i = 0; i < node->inputs; i++) {
        const value_layout *other = &m->of[node->input[i]];
        if (other->storage != storage) continue;
        if (!shape_equal(&g->value[node->input[i]].shape, &out->shape) ||
            !same_place(other, &m->of[v], &out->shape))
            return false;
    }
    // An output of this very node may have taken it before.
    for (int32_t j = 0; j < node->outputs; j++)
        if (m->of[node->first_output + j].storage == storage) return false;
    return true;
}

static void take_over(maker *m, node_id n, int output) {
    const graph_node *node = &m->g->node[n];
    value_id v = node->first_output + output;
    if (m->of[v].storage != v || m->pinned[v]) return;
    uint32_t allowed = node->op == OP_FUSED ? UINT32_MAX
                       : output == 0        ? op_table[node->op].inplace
                                            : 0;
    for (int32_t i = 0; i < node->inputs; i++) {
        if (!(allowed >> (i < 31 ? i : 31) & 1) || !may_take(m, n, i, v)) continue;
        value_id storage = m->of[node->input[i]].storage;
        for (value_id w = v; w >= 0; w = m->next[w]) m->of[w].storage = storage;
        merge(m, v, storage);
        return;
    }
}

static void take_over_all(maker *m) {
    for (int32_t p = 0; p < m->schedule->count; p++) {
        node_id n = m->schedule->order[p];
        const graph_node *node = &m->g->node[n];
        if (op_is_view(node->op) || op_table[node->op].family == FAMILY_UPDATE) continue;
        for (int32_t j = 0; j < node->outputs; j++) take_over(m, n, j);
    }
}

brim_status graph_layout_make(const brim_graph *g, const graph_schedule *schedule,
                              graph_layout *out, brim_error *err) {
    *out = (graph_layout){0};
    if (failed(err)) return err->status;
    size_t values = (size_t)g->values;
    maker m = {.g = g, .schedule = schedule, .err = err};
    m.of = brim_calloc_array(values, sizeof *m.of, err);
    m.trial = brim_calloc_array(values, sizeof *m.trial, err);
    m.next = brim_calloc_array(values, sizeof *m.next, err);
    m.tail = brim_calloc_array(values, sizeof *m.tail, err);
    m.last_read = brim_calloc_array(values, sizeof *m.last_read, err);
    m.pinned = brim_calloc_array(values, sizeof *m.pinned, err);
    m.position = brim_calloc_array((size_t)g->nodes, sizeof *m.position, err);
    graph_uses_make(g, &m.uses, err);
    if (!failed(err)) {
        for (int32_t p = 0; p < schedule->count; p++) m.position[schedule->order[p]] = p;
        memset(m.last_read, -1, values * sizeof *m.last_read);
        make_bases(&m);
    }
    if (!failed(err)) {
        place_parts(&m);
        take_over_all(&m);
        *out = (graph_layout){m.of, g->values};
        m.of = NULL;
        if (graph_layout_verify(g, schedule, out, err)) graph_layout_free(out);
    }
    graph_uses_free(&m.uses);
    free(m.of);
    free(m.trial);
    free(m.next);
    free(m.tail);
    free(m.last_read);
    free(m.pinned);
    free(m.position);
    return err->status;
}
