#include "graph/recompute_levels.h"

#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "core/dtype.h"
#include "graph/layout.h"
#include "graph/pass_recompute.h"

// Places within this factor of the narrowest are as narrow.
static const double narrow = 1.01;

static value_id root_of(const brim_graph *g, value_id v) {
    for (node_id n; (n = g->value[v].producer) >= 0 && op_is_view(g->node[n].op);)
        v = g->node[n].input[0];
    return v;
}

static int64_t bytes_of(const brim_graph *g, value_id v) {
    return shape_elements(&g->value[v].shape) * (int64_t)brim_dtype_bytes(g->value[v].dtype);
}

// ---- where the forward pass is narrow -----------------------------------------------------------

// Of each value that a node of the micro-batch makes: its last reader in the forward pass; -1:
// none.
static void find_last_readers(const brim_graph *g, node_id *last) {
    for (value_id v = 0; v < g->values; v++) last[v] = -1;
    for (node_id n = 0; n < g->nodes; n++) {
        const graph_node *node = &g->node[n];
        if (node->phase != PHASE_FORWARD || op_is_view(node->op)) continue;
        for (int32_t i = 0; i < node->inputs; i++) {
            value_id root = root_of(g, node->input[i]);
            node_id producer = g->value[root].producer;
            if (producer >= 0 && g->node[producer].sections != SECTION_FIRST) last[root] = n;
        }
    }
}

// The bytes that go on beyond each node.
static void add_up_bytes(const brim_graph *g, const node_id *last, int64_t *beyond) {
    for (value_id v = 0; v < g->values; v++) {
        if (last[v] < 0) continue;
        beyond[g->value[v].producer] += bytes_of(g, v);
        beyond[last[v]] -= bytes_of(g, v);
    }
    for (node_id n = 1; n < g->nodes; n++) beyond[n] += beyond[n - 1];
}

static bool is_dear(const brim_graph *g, node_id n) {
    return g->node[n].phase == PHASE_FORWARD && recompute_cost_of(&g->node[n]) == RECOMPUTE_DEAR;
}

// Before the first dear node and from the last one on (a loss behind its projection, say), nothing
// that is worth it is recomputed.
static void find_cuts(const brim_graph *g, const int64_t *beyond, recompute_levels *out) {
    node_id first = 0, end = g->nodes;
    while (first < end && !is_dear(g, first)) first++;
    while (end > first && !is_dear(g, end - 1)) end--;
    if (end > first) end--;
    int64_t least = INT64_MAX;
    for (node_id n = first; n < end; n++)
        if (beyond[n] > 0 && beyond[n] < least) least = beyond[n];
    bool was = false, dear = false;
    for (node_id n = first; n < end; n++) {
        bool is = beyond[n] > 0 && (double)beyond[n] <= narrow * (double)least;
        dear |= is_dear(g, n);
        if (is && !was && dear) {
            out->cut[out->cuts++] = n;
            dear = false;
        }
        was = is;
    }
}

// What is made in one stretch and read in a later one.
static void find_crossing(const brim_graph *g, const node_id *last, recompute_levels *out) {
    for (value_id v = 0; v < g->values; v++)
        for (int32_t c = 0; last[v] >= 0 && c < out->cuts && !out->crosses[v]; c++)
            out->crosses[v] = g->value[v].producer <= out->cut[c] && last[v] > out->cut[c];
}

brim_status recompute_levels_make(const brim_graph *g, recompute_levels *out, brim_error *err) {
    *out = (recompute_levels){0};
    node_id *last = brim_calloc_array((size_t)g->values, sizeof *last, err);
    int64_t *beyond = brim_calloc_array((size_t)g->nodes, sizeof *beyond, err);
    out->cut = brim_calloc_array((size_t)g->nodes, sizeof *out->cut, err);
    out->crosses = brim_calloc_array((size_t)g->values, sizeof *out->crosses, err);
    if (!failed(err)) {
        find_last_readers(g, last);
        add_up_bytes(g, last, beyond);
        find_cuts(g, beyond, out);
        find_crossing(g, last, out);
        out->count = 2 + out->cuts;
    }
    free(last);
    free(beyond);
    if (failed(err)) recompute_levels_free(out);
    return err->status;
}

void recompute_levels_free(recompute_levels *levels) {
    free(levels->cut);
    free(levels->crosses);
    *levels = (recompute_levels){0};
}

// ---- decisions ----------------------------------------------------------------------------------

// By value: does the backward pass read it, or a view of it?
static void find_saved(const brim_graph *g, bool *saved) {
    for (node_id n = 0; n < g->nodes; n++)
        for (int32_t i = 0; g->node[n].phase != PHASE_FORWARD && i < g->node[n].inputs; i++)
            saved[root_of(g, g->node[n].input[i])] = true;
}

// Whether all that a node reads is there in the backward pass without keeping more.
static bool inputs_are_saved(const brim_graph *g, const graph_node *node, const bool *saved,
                             const bool *recompute) {
    for (int32_t i = 0; i < node->inputs; i++) {
        value_id root = root_of(g, node->input[i]);
        node_id producer = g->value[root].producer;
        bool leaf = producer < 0 || g->node[producer].sections == SECTION_FIRST;
        if (!leaf && (!saved[root] || recompute[root])) return false;
    }
    return true;
}

// In the order of the forward pass: what an earlier decision recomputes is not saved.
static void take_cheap(const brim_graph *g, const recompute_levels *levels, const bool *possible,
                       const bool *saved, bool *recompute) {
    for (node_id n = 0; n < g->nodes; n++) {
        const graph_node *node = &g->node[n];
        if (recompute_cost_of(node) > RECOMPUTE_CHEAP ||
            !inputs_are_saved(g, node, saved, recompute))
            continue;
        for (int32_t i = 0; i < node->outputs; i++) {
            value_id v = node->first_output + i;
            recompute[v] |= possible[v] && saved[v] && !levels->crosses[v];
        }
    }
}

static void take_stretches(const brim_graph *g, const recompute_levels *levels, int32_t stretches,
                           const bool *possible, bool *recompute) {
    node_id end = stretches > 0 ? levels->cut[stretches - 1] : -1;
    for (value_id v = 0; v < g->values; v++)
        recompute[v] |= possible[v] && g->value[v].producer <= end && !levels->crosses[v];
}

brim_status recompute_level(const brim_graph *g, const recompute_levels *levels, int32_t level,
                            bool *recompute, brim_error *err) {
    bool *possible = brim_calloc_array((size_t)g->values, sizeof *possible, err);
    bool *saved = brim_calloc_array((size_t)g->values, sizeof *saved, err);
    if (!failed(err) && !recompute_marked(g, recompute, err) &&
        !recompute_possible(g, possible, err) && level > 0) {
        find_saved(g, saved);
        take_stretches(g, levels, level - 1, possible, recompute);
        take_cheap(g, levels, possible, saved, recompute);
    }
    free(possible);
    free(saved);
    return err->status;
}
