// The proof that a layout is right: written against the rules of layout.h, not against
// layout_make.c.
#include <stdlib.h>
#include "core/alloc.h"
#include "graph/layout.h"

typedef struct checker {
    const brim_graph *g;
    const graph_layout *layout;
    int32_t *position; // by node
    int32_t *last; // by value: position of the last node that reads it or a view of it; -1: none
    bool *part;    // by value: it lies where a CONCAT wants it
    brim_error *err;
} checker;

static void refuse(checker *c, value_id v, const char *why) {
    const graph_value *value = &c->g->value[v];
    const graph_node *node = value->producer < 0 ? NULL : &c->g->node[value->producer];
    brim_fail(c->err, BRIM_GRAPH, "layout: value %d (%s in scope \"%s\"): %s", v,
              value->name ? value->name : op_table[node->op].name,
              node && node->scope ? node->scope : "", why);
}

static bool same_layout(const value_layout *a, const value_layout *b, const shape *s) {
    bool same = a->storage == b->storage && a->offset == b->offset;
    for (int32_t i = 0; i < s->rank; i++) same &= s->dim[i] == 1 || a->stride[i] == b->stride[i];
    return same;
}

static void check_extent(checker *c, value_id v) {
    const value_layout *l = &c->layout->of[v];
    const graph_value *value = &c->g->value[v];
    if (l->storage < 0 || l->storage >= c->g->values ||
        c->layout->of[l->storage].storage != l->storage) {
        refuse(c, v, "lies in no storage");
        return;
    }
    const graph_value *owner = &c->g->value[l->storage];
    int64_t last = l->offset, room = shape_elements(&owner->shape);
    if (owner->role == ROLE_CONTROL) room = CONTROL_COUNT;
    for (int32_t i = 0; i < value->shape.rank; i++) {
        if (l->stride[i] < 0)
            last = INT64_MAX / 2;
        else if (value->shape.dim[i] > 1)
            last += (value->shape.dim[i] - 1) * l->stride[i];
    }
    if (l->offset < 0 || last >= room) refuse(c, v, "does not lie inside its storage");
    if (owner->role != ROLE_CONTROL && owner->dtype != value->dtype)
        refuse(c, v, "has another dtype than its storage");
}

// The owner of the elements behind RESHAPEs and PERMUTEs.
static value_id behind(const brim_graph *g, value_id v) {
    while (g->value[v].producer >= 0) {
        const graph_node *node = &g->node[g->value[v].producer];
        if (node->op != OP_RESHAPE && node->op != OP_PERMUTE) break;
        v = node->input[0];
    }
    return v;
}

static void check_concat(checker *c, const graph_node *node) {
    const brim_graph *g = c->g;
    value_layout place = c->layout->of[node->first_output];
    for (int32_t i = 0; i < node->inputs; i++) {
        value_id v = node->input[i];
        const value_layout *l = &c->layout->of[v];
        if (l->storage == place.storage) {
            if (!same_layout(l, &place, &g->value[v].shape))
                refuse(c, v, "is in the storage of its concat, but not at its place");
            c->part[behind(g, v)] = true;
        }
        place.offset += g->value[v].shape.dim[node->attr.axis] * place.stride[node->attr.axis];
    }
}

static void check_node(checker *c, node_id n) {
    const brim_graph *g = c->g;
    const graph_node *node = &g->node[n];
    if (op_is_view(node->op)) {
        value_layout expected;
        if (!layout_of_view(g, node, &c->layout->of[node->input[0]], &expected) ||
            !same_layout(&expected, &c->layout->of[node->first_output],
                         &g->value[node->first_output].shape))
            refuse(c, node->first_output, "is not where the view of its input is");
        return;
    }
    for (int32_t i = 0; i < node->inputs; i++)
        if (!layout_suits(g, node, i, &c->layout->of[node->input[i]]))
            refuse(c, node->input[i], "has strides that one of its readers cannot take");
    for (int32_t j = 0; j < node->outputs; j++) {
        value_id v = node->first_output + j;
        if (!layout_has_form(&c->layout->of[v], &g->value[v].shape, op_writes(node->op, j)))
            refuse(c, v, "has strides that its producer cannot write");
        if (op_table[node->op].family == FAMILY_UPDATE &&
            !same_layout(&c->layout->of[v], &c->layout->of[node->input[j]], &g->value[v].shape))
            refuse(c, v, "is not in its variable");
    }
    if (node->op == OP_CONCAT) check_concat(c, node);
}

// A node's output in a storage that is not its own: an update, a part, or in place of an input.
static void check_takeover(checker *c, node_id n, int32_t output) {
    const brim_graph *g = c->g;
    const graph_node *node = &g->node[n];
    value_id v = node->first_output + output, storage = c->layout->of[v].storage;
    if (storage == v || c->part[v]) return;
    bool update = op_table[node->op].family == FAMILY_UPDATE, allowed = update;
    for (int32_t i = 0; i < node->inputs; i++) {
        if (c->layout->of[node->input[i]].storage != storage) continue;
        bool bit = node->op == OP_FUSED || (output == 0 && op_table[node->op].inplace >> i & 1);
        const shape *s = &g->value[v].shape;
        if (!update && (!shape_equal(&g->value[node->input[i]].shape, s) ||
                        !same_layout(&c->layout->of[node->input[i]], &c->layout->of[v], s)))
            refuse(c, v, "overwrites an input that is read in another order");
        allowed |= bit;
    }
    for (int32_t j = 0; j < output; j++)
        if (!update && c->layout->of[node->first_output + j].storage == storage)
            refuse(c, v, "shares its storage with another output");
    if (!allowed) refuse(c, v, "is in a storage that it may not take over");
    if (!update && g->value[storage].producer < 0) refuse(c, v, "overwrites a leaf");
}

// What is made once a step is read in every section by nodes that run in others.
static bool is_read_again(const checker *c, const graph_node *node, value_id v) {
    const brim_graph *g = c->g;
    node_id producer = g->value[c->layout->of[v].storage].producer;
    return producer >= 0 && g->node[producer].sections == SECTION_FIRST &&
           node->sections != SECTION_FIRST;
}

// By storage: the values in it that nodes write, in the order of the schedule. Each overwrites all
// before it, unless both are parts or one is the CONCAT of the other.
static void check_readers(checker *c, const graph_schedule *schedule, int32_t *latest) {
    const brim_graph *g = c->g;
    for (value_id v = 0; v < g->values; v++) latest[v] = g->value[v].producer < 0 ? c->last[v] : -1;
    for (int32_t p = 0; p < schedule->count; p++) {
        const graph_node *node = &g->node[schedule->order[p]];
        if (op_is_view(node->op)) continue;
        for (int32_t j = 0; j < node->outputs; j++) {
            value_id v = node->first_output + j, storage = c->layout->of[v].storage;
            if (!c->part[v] && node->op != OP_CONCAT && latest[storage] > p)
                refuse(c, v, "overwrites a value that is read later");
            if (c->last[v] > latest[storage]) latest[storage] = c->last[v];
        }
    }
}

brim_status graph_layout_verify(const brim_graph *g, const graph_schedule *schedule,
                                const graph_layout *layout, brim_error *err) {
    if (failed(err)) return err->status;
    checker c = {.g = g, .layout = layout, .err = err};
    c.position = brim_calloc_array((size_t)g->nodes, sizeof *c.position, err);
    c.last = brim_calloc_array((size_t)g->values, sizeof *c.last, err);
    c.part = brim_calloc_array((size_t)g->values, sizeof *c.part, err);
    int32_t *latest = brim_calloc_array((size_t)g->values, sizeof *latest, err);
    if (!failed(err)) {
        for (int32_t p = 0; p < schedule->count; p++) c.position[schedule->order[p]] = p;
        for (value_id v = 0; v < g->values; v++) {
            c.last[v] = -1;
            check_extent(&c, v);
        }
        for (int32_t r = 0; r < g->results; r++)
            c.last[g->result[r]] = INT32_MAX; // read when all is done
        for (node_id n = 0; n < g->nodes && !failed(err); n++) check_node(&c, n);
        for (node_id n = g->nodes - 1; n >= 0 && !failed(err); n--) {
            const graph_node *node = &g->node[n];
            bool view = op_is_view(node->op);
            for (int32_t i = 0; i < node->inputs; i++) {
                int32_t at = view ? c.last[node->first_output] : c.position[n];
                if (is_read_again(&c, node, node->input[i])) at = INT32_MAX;
                if (at > c.last[node->input[i]]) c.last[node->input[i]] = at;
            }
            for (int32_t j = 0; !view && j < node->outputs; j++) check_takeover(&c, n, j);
        }
    }
    if (!failed(err)) check_readers(&c, schedule, latest);
    free(c.position);
    free(c.last);
    free(c.part);
    free(latest);
    return err->status;
}
