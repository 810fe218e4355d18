// The order of execution: a list scheduler over the graph's edges, and over those that keep every
// reader of a variable before its update. Of the nodes that are ready it takes updates first, then
// what leads to them, then nodes after which less memory is in use than before, then the smallest
// id. A recomputed node is never taken early for the memory that it frees: pass_recompute put it
// right before the first reader that needs it, and so everything before that, the gradient which
// the reader waits for included, has run when its turn comes.
#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "graph/layout.h"
#include "graph/uses.h"

enum { RANK_UPDATE, RANK_FREES, RANK_OTHER };

typedef struct scheduler {
    const brim_graph *g;
    graph_uses uses;
    value_id *root;        // by value: what it is a view of, or itself
    node_id *updater;      // by value: the node that updates this leaf, or -1
    int32_t *waiting;      // by node: inputs and earlier readers that have not run
    bool *ran;             // by node
    int64_t *gain;         // by node: bytes that die with it, less those that it makes
    int64_t *reader_start; // by root, and one more: its readers are reader[reader_start[r] ..]
    node_id *reader;
    int32_t *left; // by root: readers that have not run
    node_id *seen; // by root: the node that was last found to read it
    int64_t *heap; // of ready nodes: rank << 32 | id, the smallest first
    int32_t ready;
    graph_schedule *out;
    brim_error *err;
} scheduler;

// Ready nodes -------------------------------------------------------------------------------------

static void push(scheduler *s, node_id n) {
    const graph_node *node = &s->g->node[n];
    int64_t rank = node->phase == PHASE_UPDATE || op_table[node->op].family == FAMILY_UPDATE
                       ? RANK_UPDATE
                   : s->gain[n] > 0 && !node->recomputed ? RANK_FREES
                                                         : RANK_OTHER;
    int64_t key = rank << 32 | n;
    int32_t i = s->ready++;
    for (; i > 0 && s->heap[(i - 1) / 2] > key; i = (i - 1) / 2) s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = key;
}

static node_id pop(scheduler *s) {
    int64_t top = s->heap[0], key = s->heap[--s->ready];
    int32_t i = 0;
    for (int32_t child = 1; child < s->ready; child = 2 * i + 1) {
        if (child + 1 < s->ready && s->heap[child + 1] < s->heap[child]) child++;
        if (s->heap[child] >= key) break;
        s->heap[i] = s->heap[child];
        i = child;
    }
    s->heap[i] = key;
    return (node_id)(top & INT32_MAX);
}

// Memory ------------------------------------------------------------------------------------------

static int64_t value_bytes(const brim_graph *g, value_id v) {
    return shape_elements(&g->value[v].shape) * (int64_t)brim_dtype_bytes(g->value[v].dtype);
}

// The one reader of root r that is left will free it. Returns that reader if this makes it one that
// gains memory, or -1.
static node_id credit_last_reader(scheduler *s, value_id r) {
    if (s->g->value[r].producer < 0) return -1;
    int64_t k = s->reader_start[r];
    while (s->ran[s->reader[k]]) k++;
    node_id n = s->reader[k];
    int64_t before = s->gain[n];
    s->gain[n] += value_bytes(s->g, r);
    return before <= 0 && s->gain[n] > 0 ? n : -1;
}

// True once for each root that node n reads.
static bool is_first_read(scheduler *s, node_id n, value_id r) {
    bool first = s->seen[r] != n;
    s->seen[r] = n;
    return first;
}

static void find_readers(scheduler *s) {
    const brim_graph *g = s->g;
    for (int fill = 0; fill < 2; fill++) {
        memset(s->seen, -1, (size_t)g->values * sizeof *s->seen);
        for (node_id n = 0; n < g->nodes; n++) {
            for (int32_t i = 0; i < g->node[n].inputs && !op_is_view(g->node[n].op); i++) {
                value_id r = s->root[g->node[n].input[i]];
                if (!is_first_read(s, n, r)) continue;
                if (fill)
                    s->reader[s->reader_start[r] + s->left[r]++] = n;
                else
                    s->reader_start[r + 1]++;
            }
        }
        for (value_id v = 0; v < g->values && !fill; v++)
            s->reader_start[v + 1] += s->reader_start[v];
    }
}

static void find_gains(scheduler *s) {
    const brim_graph *g = s->g;
    for (node_id n = 0; n < g->nodes; n++) {
        const graph_node *node = &g->node[n];
        if (op_is_view(node->op) || op_table[node->op].family == FAMILY_UPDATE) continue;
        for (int32_t j = 0; j < node->outputs; j++)
            s->gain[n] -= value_bytes(g, node->first_output + j);
    }
    for (value_id v = 0; v < g->values; v++)
        if (s->left[v] == 1) credit_last_reader(s, v);
    memset(s->seen, -1, (size_t)g->values * sizeof *s->seen);
}

// Edges -------------------------------------------------------------------------------------------

static void find_roots(scheduler *s) {
    const brim_graph *g = s->g;
    for (value_id v = 0; v < g->values; v++) {
        node_id n = g->value[v].producer;
        s->root[v] = n >= 0 && op_is_view(g->node[n].op) ? s->root[g->node[n].input[0]] : v;
        s->updater[v] = -1;
    }
    for (node_id n = 0; n < g->nodes; n++) {
        const graph_node *node = &g->node[n];
        if (op_table[node->op].family != FAMILY_UPDATE) continue;
        for (int32_t j = 0; j < node->outputs && j < node->inputs; j++) {
            node_id *updater = &s->updater[node->input[j]];
            const char *name = g->value[node->input[j]].name;
            if (*updater >= 0)
                brim_fail(s->err, BRIM_GRAPH, "schedule: \"%s\" is updated by two nodes, %d and %d",
                          name ? name : "", *updater, n);
            *updater = n;
        }
    }
}

// The update that must wait for node n, which reads value v; or -1.
static node_id update_after(const scheduler *s, node_id n, value_id v) {
    node_id updater = op_is_view(s->g->node[n].op) ? -1 : s->updater[s->root[v]];
    return updater == n ? -1 : updater;
}

static void count_waits(scheduler *s) {
    const brim_graph *g = s->g;
    for (node_id n = 0; n < g->nodes; n++) {
        for (int32_t i = 0; i < g->node[n].inputs; i++) {
            value_id v = g->node[n].input[i];
            s->waiting[n] += g->value[v].producer >= 0;
            node_id update = update_after(s, n, v);
            if (update >= 0) s->waiting[update]++;
        }
    }
}

static void arrive(scheduler *s, node_id n) {
    if (--s->waiting[n] == 0) push(s, n);
}

static void finish(scheduler *s, node_id n) {
    const graph_node *node = &s->g->node[n];
    s->ran[n] = true;
    s->out->order[s->out->count++] = n;
    for (value_id v = node->first_output; v < node->first_output + node->outputs; v++)
        for (int64_t u = s->uses.start[v]; u < s->uses.start[v + 1]; u++)
            arrive(s, s->uses.use[u].node);
    for (int32_t i = 0; i < node->inputs; i++) {
        node_id update = update_after(s, n, node->input[i]);
        if (update >= 0) arrive(s, update);
        value_id r = s->root[node->input[i]];
        if (op_is_view(node->op) || !is_first_read(s, n, r) || --s->left[r] != 1) continue;
        node_id reader = credit_last_reader(s, r);
        // If it is ready, it has been pushed with a lower rank; that entry is skipped when it comes
        // up.
        if (reader >= 0 && s->waiting[reader] == 0) push(s, reader);
    }
}

static void run(scheduler *s) {
    const brim_graph *g = s->g;
    for (node_id n = 0; n < g->nodes; n++)
        if (s->waiting[n] == 0) push(s, n);
    while (s->ready) {
        node_id n = pop(s);
        if (!s->ran[n]) finish(s, n);
    }
    for (node_id n = 0; n < g->nodes && s->out->count < g->nodes; n++) {
        if (s->waiting[n] == 0 || op_table[g->node[n].op].family != FAMILY_UPDATE) continue;
        const char *name = g->value[g->node[n].input[0]].name;
        brim_fail(s->err, BRIM_GRAPH,
                  "schedule: the value of \"%s\" from before its update is read by a node "
                  "that depends on the update",
                  name ? name : "");
    }
    if (s->out->count < g->nodes) brim_fail(s->err, BRIM_GRAPH, "schedule: the graph has a cycle");
}

brim_status graph_schedule_make(const brim_graph *g, graph_schedule *out, brim_error *err) {
    *out = (graph_schedule){0};
    if (failed(err)) return err->status;
    size_t nodes = (size_t)g->nodes, values = (size_t)g->values;
    scheduler s = {.g = g, .out = out, .err = err};
    graph_uses_make(g, &s.uses, err);
    out->order = brim_calloc_array(nodes, sizeof *out->order, err);
    s.root = brim_calloc_array(values, sizeof *s.root, err);
    s.updater = brim_calloc_array(values, sizeof *s.updater, err);
    s.waiting = brim_calloc_array(nodes, sizeof *s.waiting, err);
    s.ran = brim_calloc_array(nodes, sizeof *s.ran, err);
    s.gain = brim_calloc_array(nodes, sizeof *s.gain, err);
    s.reader_start = brim_calloc_array(values + 1, sizeof *s.reader_start, err);
    s.reader =
        brim_calloc_array(failed(err) ? 0 : (size_t)s.uses.start[values], sizeof *s.reader, err);
    s.left = brim_calloc_array(values, sizeof *s.left, err);
    s.heap = brim_calloc_array(2 * nodes, sizeof *s.heap, err); // a node is pushed twice at most
    s.seen = brim_calloc_array(values, sizeof *s.seen, err);
    if (!failed(err)) find_roots(&s);
    if (!failed(err)) {
        find_readers(&s);
        find_gains(&s);
        count_waits(&s);
        run(&s);
    }
    graph_uses_free(&s.uses);
    free(s.root);
    free(s.updater);
    free(s.waiting);
    free(s.ran);
    free(s.gain);
    free(s.reader_start);
    free(s.reader);
    free(s.left);
    free(s.heap);
    free(s.seen);
    if (failed(err)) graph_schedule_free(out);
    return err->status;
}

void graph_schedule_free(graph_schedule *schedule) {
    free(schedule->order);
    *schedule = (graph_schedule){0};
}
