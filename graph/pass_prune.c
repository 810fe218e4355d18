// Dead nodes go, equal ones are merged.
#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "core/checksum.h"
#include "graph/passes.h"
#include "graph/rewrite.h"

// By node: is it needed by the loss, a named result or an update?
static bool *find_live(const brim_graph *g, brim_error *err) {
    bool *live = brim_calloc_array((size_t)g->nodes, sizeof *live, err);
    if (!live) return NULL;
    const value_id loss[] = {g->loss.sum, g->loss.count};
    for (int i = 0; i < 2; i++)
        if (loss[i] >= 0 && g->value[loss[i]].producer >= 0)
            live[g->value[loss[i]].producer] = true;
    for (int32_t i = 0; i < g->results; i++) live[g->value[g->result[i]].producer] = true;
    for (node_id n = g->nodes - 1; n >= 0; n--) {
        const graph_node *node = &g->node[n];
        live[n] |= op_table[node->op].family == FAMILY_UPDATE;
        for (int32_t i = 0; live[n] && i < node->inputs; i++) {
            node_id producer = g->value[node->input[i]].producer;
            if (producer >= 0) live[producer] = true;
        }
    }
    return live;
}

// Equal nodes -------------------------------------------------------------------------------------

// New nodes by what equal ones share, each list in the order in which they were made. -1: none.
typedef struct node_lists {
    node_id *first; // of each list
    node_id *next;  // by node id
    size_t lists;
} node_lists;

static node_id *list_of(const node_lists *l, const graph_node *node, const value_id *inputs) {
    checksum key = checksum_start();
    checksum_add(&key, &node->attr, sizeof node->attr);
    checksum_add(&key, inputs, (size_t)node->inputs * sizeof *inputs);
    return &l->first[checksum_value(&key) % l->lists];
}

// Would the new graph's node `there` compute what `node` of the old one computes from `inputs`?
static bool same_node(const rewrite *r, const graph_node *node, const value_id *inputs,
                      const graph_node *there) {
    if (there->op != node->op || there->inputs != node->inputs || there->phase > node->phase ||
        there->sections != node->sections || memcmp(&there->attr, &node->attr, sizeof node->attr) ||
        (node->inputs && memcmp(there->input, inputs, (size_t)node->inputs * sizeof *inputs)))
        return false;
    for (int32_t j = 0; j < node->outputs; j++) {
        const graph_value *old = &r->from->value[node->first_output + j];
        const graph_value *new = &r->to->value[there->first_output + j];
        // A value has one name.
        if (old->dtype != new->dtype || !shape_equal(&old->shape, &new->shape) ||
            (old->name && new->name))
            return false;
    }
    return true;
}

// Copies the node, or finds an equal one.
static void merge_or_copy(rewrite *r, node_lists *lists, node_id n, const value_id *inputs) {
    const graph_node *node = &r->from->node[n];
    if (node->op == OP_DROPOUT || node->recomputed || op_table[node->op].family == FAMILY_UPDATE) {
        rewrite_copy(r, n, inputs);
        return;
    }
    node_id *at = list_of(lists, node, inputs);
    for (; *at >= 0; at = &lists->next[*at]) {
        const graph_node *there = &r->to->node[*at];
        if (!same_node(r, node, inputs, there)) continue;
        for (int32_t j = 0; j < node->outputs; j++) {
            const char *name = r->from->value[node->first_output + j].name;
            r->map[node->first_output + j] = there->first_output + j;
            if (name)
                r->to->value[there->first_output + j].name =
                    arena_strdup(r->to->memory, name, r->err);
        }
        return;
    }
    *at = r->to->nodes;
    rewrite_copy(r, n, inputs);
}

static node_id *make_empty(int32_t count, brim_error *err) {
    node_id *list = brim_calloc_array((size_t)count, sizeof *list, err);
    if (list) memset(list, -1, (size_t)count * sizeof *list);
    return list;
}

// The passes --------------------------------------------------------------------------------------

static bool is_used(const brim_graph *g, const bool *live, value_id v) {
    if (g->loss.sum == v || g->loss.count == v) return true;
    for (node_id n = 0; n < g->nodes; n++)
        for (int32_t i = 0; live[n] && i < g->node[n].inputs; i++)
            if (g->node[n].input[i] == v) return true;
    return false;
}

static brim_graph *prune(const brim_graph *g, const char *pass, bool merge, brim_error *err) {
    rewrite r;
    node_lists lists = {0};
    if (!rewrite_begin(&r, g, err)) return NULL;
    bool *live = find_live(g, err);
    value_id *inputs = brim_calloc_array((size_t)rewrite_most_inputs(g), sizeof *inputs, err);
    if (merge)
        lists =
            (node_lists){make_empty(g->values, err), make_empty(g->nodes, err), (size_t)g->values};
    for (value_id v = 0; v < g->values && !failed(err); v++) {
        node_id n = g->value[v].producer;
        if (n < 0) {
            if (g->value[v].role != ROLE_CONTROL || is_used(g, live, v)) rewrite_leaf(&r, v);
            continue;
        }
        const graph_node *node = &g->node[n];
        if (!live[n] || node->first_output != v) continue;
        for (int32_t i = 0; i < node->inputs; i++) inputs[i] = r.map[node->input[i]];
        if (merge)
            merge_or_copy(&r, &lists, n, inputs);
        else
            rewrite_copy(&r, n, inputs);
    }
    free(live);
    free(inputs);
    free(lists.first);
    free(lists.next);
    return rewrite_end(&r, pass);
}

brim_graph *pass_prune(const brim_graph *g, brim_error *err) {
    return prune(g, "prune", true, err);
}

brim_graph *rewrite_live(brim_graph *g, const char *pass, brim_error *err) {
    brim_graph *live = g ? prune(g, pass, false, err) : NULL;
    brim_graph_free(g);
    return live;
}
