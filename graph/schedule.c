// The order of execution: a list scheduler over the graph's edges, and over those that keep every reader of a variable
// before its update. Deterministic: ties go to the smaller id.
#include <stdlib.h>
#include "core/alloc.h"
#include "graph/layout.h"
#include "graph/uses.h"

typedef struct scheduler {
    const brim_graph *g;
    graph_uses uses;
    int32_t *waiting;   // by node: inputs and earlier readers that have not run
    value_id *variable; // by value: the leaf whose storage it is a view of, or -1
    node_id *updater;   // by value: the node that updates this leaf, or -1
    int64_t *heap;      // of ready nodes: rank << 32 | id, the smallest first
    int32_t ready;
    graph_schedule *out;
    brim_error *err;
} scheduler;

// Updates free a gradient and cost nothing later; what leads to them comes next.
static int64_t priority(const brim_graph *g, node_id n) {
    const graph_node *node = &g->node[n];
    int64_t rank = op_table[node->op].family == FAMILY_UPDATE ? 0 : node->phase == PHASE_UPDATE ? 1 : 2;
    return rank << 32 | n;
}

static void push(scheduler *s, node_id n) {
    int64_t key = priority(s->g, n);
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

static void find_variables(scheduler *s) {
    const brim_graph *g = s->g;
    for (value_id v = 0; v < g->values; v++) {
        s->updater[v] = -1;
        const graph_value *value = &g->value[v];
        s->variable[v] = v;
        if (value->producer < 0) continue;
        const graph_node *node = &g->node[value->producer];
        s->variable[v] = op_is_view(node->op) ? s->variable[node->input[0]] : -1;
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
    if (op_is_view(s->g->node[n].op) || s->variable[v] < 0) return -1;
    node_id updater = s->updater[s->variable[v]];
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

static void done(scheduler *s, node_id n) {
    if (--s->waiting[n] == 0) push(s, n);
}

static void run(scheduler *s) {
    const brim_graph *g = s->g;
    for (node_id n = 0; n < g->nodes; n++)
        if (s->waiting[n] == 0) push(s, n);
    while (s->ready) {
        node_id n = pop(s);
        s->out->order[s->out->count++] = n;
        const graph_node *node = &g->node[n];
        for (value_id v = node->first_output; v < node->first_output + node->outputs; v++)
            for (int64_t u = s->uses.start[v]; u < s->uses.start[v + 1]; u++) done(s, s->uses.use[u].node);
        for (int32_t i = 0; i < node->inputs; i++) {
            node_id update = update_after(s, n, node->input[i]);
            if (update >= 0) done(s, update);
        }
    }
    for (node_id n = 0; n < g->nodes && s->out->count < g->nodes; n++) {
        if (s->waiting[n] == 0 || op_table[g->node[n].op].family != FAMILY_UPDATE) continue;
        const char *name = g->value[g->node[n].input[0]].name;
        brim_fail(s->err, BRIM_GRAPH, "schedule: the value of \"%s\" from before its update is read by a node "
                  "that depends on the update", name ? name : "");
    }
    if (s->out->count < g->nodes) brim_fail(s->err, BRIM_GRAPH, "schedule: the graph has a cycle");
}

brim_status graph_schedule_make(const brim_graph *g, graph_schedule *out, brim_error *err) {
    *out = (graph_schedule){0};
    if (failed(err)) return err->status;
    size_t nodes = (size_t)g->nodes, values = (size_t)g->values;
    scheduler s = {.g = g, .out = out, .err = err};
    out->order = brim_calloc_array(nodes, sizeof *out->order, err);
    s.waiting = brim_calloc_array(nodes, sizeof *s.waiting, err);
    s.variable = brim_calloc_array(values, sizeof *s.variable, err);
    s.updater = brim_calloc_array(values, sizeof *s.updater, err);
    s.heap = brim_calloc_array(nodes, sizeof *s.heap, err);
    graph_uses_make(g, &s.uses, err);
    if (!failed(err)) {
        find_variables(&s);
        count_waits(&s);
    }
    if (!failed(err)) run(&s);
    graph_uses_free(&s.uses);
    free(s.waiting);
    free(s.variable);
    free(s.updater);
    free(s.heap);
    if (failed(err)) graph_schedule_free(out);
    return err->status;
}

void graph_schedule_free(graph_schedule *schedule) {
    free(schedule->order);
    *schedule = (graph_schedule){0};
}
