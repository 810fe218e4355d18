// Copies of forward nodes in the backward pass, in the stead of values that are saved for it.
#include "graph/pass_recompute.h"

#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "graph/layout.h"
#include "graph/rewrite.h"

recompute_cost recompute_cost_of(const graph_node *node) {
    static const recompute_cost of_family[] = {
        [FAMILY_ELEMENTWISE] = RECOMPUTE_CHEAP, [FAMILY_VIEW] = RECOMPUTE_CHEAP,
        [FAMILY_CONTRACTION] = RECOMPUTE_DEAR,  [FAMILY_REDUCTION] = RECOMPUTE_CHEAP,
        [FAMILY_ROW] = RECOMPUTE_CHEAP,         [FAMILY_ATTENTION] = RECOMPUTE_DEAR,
        [FAMILY_GATHER] = RECOMPUTE_CHEAP,      [FAMILY_RANDOM] = RECOMPUTE_CHEAP,
        [FAMILY_UPDATE] = RECOMPUTE_NEVER,
    };
    bool no_kernel = op_is_view(node->op) || node->op == OP_CONSTANT;
    return no_kernel ? RECOMPUTE_FREE : of_family[op_table[node->op].family];
}

// Storages ----------------------------------------------------------------------------------------

static bool is_view(const brim_graph *g, value_id v) {
    node_id n = g->value[v].producer;
    return n >= 0 && op_is_view(g->node[n].op);
}

// What v is a view of, or v itself.
static value_id root_of(const brim_graph *g, value_id v) {
    while (is_view(g, v)) v = g->node[g->value[v].producer].input[0];
    return v;
}

// A variable other than a parameter and its copy may change before the backward pass, and may not
// wait for it.
static bool reads_what_changes(const brim_graph *g, const graph_node *node) {
    for (int32_t i = 0; i < node->inputs; i++) {
        value_role role = g->value[root_of(g, node->input[i])].role;
        if (role == ROLE_STATE || role == ROLE_ACCUMULATOR) return true;
    }
    return false;
}

static bool can_run_again(const brim_graph *g, const graph_node *node) {
    return node->phase == PHASE_FORWARD && node->sections != SECTION_FIRST &&
           !op_is_view(node->op) && recompute_cost_of(node) != RECOMPUTE_NEVER &&
           !reads_what_changes(g, node);
}

brim_status recompute_possible(const brim_graph *g, bool *possible, brim_error *err) {
    if (failed(err)) return err->status;
    for (value_id v = 0; v < g->values; v++) {
        node_id n = g->value[v].producer;
        possible[v] = n >= 0 && can_run_again(g, &g->node[n]);
    }
    for (int32_t i = 0; i < g->results; i++) possible[root_of(g, g->result[i])] = false;
    return err->status;
}

// Marks -------------------------------------------------------------------------------------------

// By value: does it depend on parameters and constants alone?
static void find_invariant(const brim_graph *g, bool *invariant) {
    for (value_id v = 0; v < g->values; v++) {
        node_id n = g->value[v].producer;
        value_role role = g->value[v].role;
        invariant[v] = n >= 0 || role == ROLE_PARAMETER || role == ROLE_COPY;
        for (int32_t i = 0; n >= 0 && i < g->node[n].inputs; i++)
            invariant[v] &= invariant[g->node[n].input[i]];
    }
}

// Marks what the inputs of nodes lead back to, from marked values to marked values.
static void mark_between(const brim_graph *g, const bool *kept, const bool *invariant,
                         bool *leading, bool *recompute) {
    for (value_id v = 0; v < g->values; v++)
        if (kept[v] && g->value[v].producer >= 0) leading[g->value[v].producer] = true;
    for (node_id n = g->nodes - 1; n >= 0; n--) {
        for (int32_t i = 0; leading[n] && i < g->node[n].inputs; i++) {
            value_id root = root_of(g, g->node[n].input[i]);
            node_id producer = g->value[root].producer;
            if (producer < 0 || kept[root] || invariant[root]) continue;
            leading[producer] = true;
            const graph_node *made_by = &g->node[producer];
            for (int32_t j = 0; j < made_by->outputs; j++)
                recompute[made_by->first_output + j] = !kept[made_by->first_output + j];
        }
    }
}

brim_status recompute_marked(const brim_graph *g, bool *recompute, brim_error *err) {
    size_t values = (size_t)g->values;
    bool *kept = brim_calloc_array(values, sizeof *kept, err);
    bool *invariant = brim_calloc_array(values, sizeof *invariant, err);
    bool *leading = brim_calloc_array((size_t)g->nodes, sizeof *leading, err);
    if (!failed(err)) {
        memset(recompute, 0, values * sizeof *recompute);
        for (value_id v = 0; v < g->values; v++)
            if (g->value[v].checkpoint) kept[root_of(g, v)] = true;
        find_invariant(g, invariant);
        mark_between(g, kept, invariant, leading, recompute);
    }
    free(kept);
    free(invariant);
    free(leading);
    return err->status;
}

// The pass ----------------------------------------------------------------------------------------

typedef struct recomputer {
    rewrite r;
    bool *recompute; // by old value: what is done in the end, views included
    value_id *copy;  // by old value: its second computation, by new id; -1
    bool *listed;    // by old node: it is, or will be, copied
    node_id *list;   // to be copied for the node at hand
    int32_t count;
    value_id *inputs;
} recomputer;

static void decide(recomputer *c, const bool *wanted) {
    const brim_graph *g = c->r.from;
    if (recompute_possible(g, c->recompute, c->r.err)) return;
    for (value_id v = 0; v < g->values; v++) {
        c->recompute[v] &= wanted[v];
        if (!is_view(g, v)) continue;
        const graph_node *view = &g->node[g->value[v].producer];
        c->recompute[v] = view->phase == PHASE_FORWARD && c->recompute[view->input[0]];
    }
}

// Lists the nodes that make the inputs of node n which are recomputed and have no copy yet.
static void list_producers(recomputer *c, node_id n) {
    const brim_graph *g = c->r.from;
    for (int32_t i = 0; i < g->node[n].inputs; i++) {
        value_id v = g->node[n].input[i];
        if (!c->recompute[v] || c->listed[g->value[v].producer]) continue;
        c->listed[g->value[v].producer] = true;
        c->list[c->count++] = g->value[v].producer;
    }
}

static int by_id(const void *a, const void *b) {
    node_id x = *(const node_id *)a, y = *(const node_id *)b;
    return (x > y) - (x < y);
}

// A node as it is, except that it reads the copies of what is recomputed. Returns its first output.
static value_id add_reader(recomputer *c, const graph_node *node) {
    const brim_graph *g = c->r.from;
    for (int32_t i = 0; i < node->inputs; i++) {
        value_id v = node->input[i];
        c->inputs[i] = c->recompute[v] ? c->copy[v] : c->r.map[v];
    }
    return rewrite_add(&c->r, node, c->inputs, node->inputs, &g->value[node->first_output]);
}

static void copy_forward_node(recomputer *c, node_id n) {
    graph_node node = c->r.from->node[n];
    node.phase = PHASE_BACKWARD;
    node.recomputed = true;
    value_id first = add_reader(c, &node);
    for (int32_t j = 0; j < node.outputs && !failed(c->r.err); j++) {
        graph_value *again = &c->r.to->value[first + j];
        c->copy[node.first_output + j] = first + j;
        again->original = c->r.map[node.first_output + j];
        again->name = NULL; // a name belongs to one value
    }
}

static void add_backward_node(recomputer *c, node_id n) {
    c->count = 0;
    list_producers(c, n);
    for (int32_t i = 0; i < c->count; i++) list_producers(c, c->list[i]);
    qsort(c->list, (size_t)c->count, sizeof *c->list, by_id);
    for (int32_t i = 0; i < c->count && !failed(c->r.err); i++) copy_forward_node(c, c->list[i]);
    const graph_node *node = &c->r.from->node[n];
    value_id first = add_reader(c, node);
    for (int32_t j = 0; j < node->outputs && !failed(c->r.err); j++)
        c->r.map[node->first_output + j] = first + j;
}

static void add_all(recomputer *c) {
    const brim_graph *g = c->r.from;
    for (value_id v = 0; v < g->values; v++) c->copy[v] = -1;
    for (value_id v = 0; v < g->values && !failed(c->r.err); v++) {
        node_id n = g->value[v].producer;
        if (n < 0)
            rewrite_leaf(&c->r, v);
        else if (g->node[n].first_output != v)
            continue;
        else if (g->node[n].phase == PHASE_BACKWARD)
            add_backward_node(c, n);
        else
            rewrite_copy(&c->r, n, NULL);
    }
}

brim_graph *pass_recompute(const brim_graph *g, const bool *recompute, brim_error *err) {
    recomputer c = {.count = 0};
    if (!rewrite_begin(&c.r, g, err)) return NULL;
    size_t values = (size_t)g->values, nodes = (size_t)g->nodes;
    bool *marked = brim_calloc_array(values, sizeof *marked, err);
    c.recompute = brim_calloc_array(values, sizeof *c.recompute, err);
    c.copy = brim_calloc_array(values, sizeof *c.copy, err);
    c.listed = brim_calloc_array(nodes, sizeof *c.listed, err);
    c.list = brim_calloc_array(nodes, sizeof *c.list, err);
    c.inputs = brim_calloc_array((size_t)rewrite_most_inputs(g), sizeof *c.inputs, err);
    if (!failed(err) && !recompute) recompute_marked(g, marked, err);
    if (!failed(err)) {
        decide(&c, recompute ? recompute : marked);
        add_all(&c);
    }
    free(marked);
    free(c.recompute);
    free(c.copy);
    free(c.listed);
    free(c.list);
    free(c.inputs);
    // What only the backward pass read needs no first computation now.
    return rewrite_live(rewrite_end(&c.r, "recompute"), "recompute", err);
}
