// The proof that a memory plan is right, from the graph, the layout and the schedule: it trusts
// nothing in the plan but offsets. Two passes over the schedule give each storage its first and
// last use; a sweep over time keeps the blocks alive sorted by offset, so that a new one is
// compared with its neighbours only.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "graph/layout.h"

typedef struct live_block {
    int64_t offset, end;
    int32_t first, last;
    int32_t id;
    bool workspace;
} live_block;

typedef struct plan_checker {
    const brim_graph *g;
    const graph_layout *layout;
    const graph_schedule *schedule;
    const plan_request *request;
    const memory_plan *plan;
    live_block *block;  // by first
    live_block *active; // by offset
    int32_t blocks, actives;
    brim_error *err;
} plan_checker;

static void describe(const plan_checker *c, const live_block *b, char *text, size_t size) {
    const brim_graph *g = c->g;
    node_id n = b->workspace ? b->id : g->value[b->id].producer;
    const char *name = b->workspace ? NULL : g->value[b->id].name;
    snprintf(text, size, "%s %d (%s) at %" PRId64 "..%" PRId64,
             b->workspace ? "the workspace of node" : "value", b->id,
             name    ? name
             : n < 0 ? "leaf"
                     : op_table[g->node[n].op].name,
             b->offset, b->end);
}

static void refuse(plan_checker *c, const live_block *b, const char *why) {
    char text[400];
    describe(c, b, text, sizeof text);
    brim_fail(c->err, BRIM_MEMORY, "memory plan: %s %s", text, why);
}

static void check_block(plan_checker *c, const live_block *b, int64_t bytes) {
    const plan_request *r = c->request;
    if (b->offset < 0)
        refuse(c, b, "has no place");
    else if (b->end - b->offset < bytes)
        refuse(c, b, "is too small");
    else if (b->offset % r->alignment)
        refuse(c, b, "is not aligned");
    else if (b->offset > INT64_MAX - bytes - r->guard_bytes ||
             b->end + r->guard_bytes > c->plan->peak_bytes)
        refuse(c, b, "ends above the peak");
    else if (b->offset < r->guard_bytes)
        refuse(c, b, "has no guard before it");
    else if (r->chunk_bytes && bytes &&
             b->offset / r->chunk_bytes != (b->offset + bytes - 1) / r->chunk_bytes)
        refuse(c, b, "straddles two chunks");
}

// When storage s of value v is used: by every node that is not a mere view of it.
static void use(plan_checker *c, live_block *by_storage, value_id v, int32_t at) {
    live_block *b = &by_storage[c->layout->of[v].storage];
    b->first = at < b->first ? at : b->first;
    b->last = at > b->last ? at : b->last;
}

static void find_uses(plan_checker *c, live_block *by_storage) {
    const brim_graph *g = c->g;
    int32_t count = c->schedule->count;
    for (value_id v = 0; v < g->values; v++)
        by_storage[v] = (live_block){.first = INT32_MAX, .last = -1, .id = v};
    for (value_id v = 0; v < g->values; v++) {
        const graph_value *value = &g->value[v];
        bool variable = value->producer < 0 && value->role != ROLE_INPUT;
        // What only the first micro-batch writes, and what outlives a step, is never reused.
        if (variable ||
            (value->producer >= 0 && g->node[value->producer].sections == SECTION_FIRST &&
             !op_is_view(g->node[value->producer].op)))
            use(c, by_storage, v, INT32_MAX - 1);
        if (value->producer < 0 || by_storage[c->layout->of[v].storage].last == INT32_MAX - 1)
            use(c, by_storage, v, 0);
    }
    for (int32_t r = 0; r < g->results; r++) { // copied out after the last node
        use(c, by_storage, g->result[r], INT32_MAX - 1);
    }
    for (int32_t at = 0; at < count; at++) {
        const graph_node *node = &g->node[c->schedule->order[at]];
        if (op_is_view(node->op)) continue;
        for (int32_t i = 0; i < node->inputs; i++) use(c, by_storage, node->input[i], at);
        for (int32_t j = 0; j < node->outputs; j++) use(c, by_storage, node->first_output + j, at);
    }
}

static void add(plan_checker *c, live_block b, const storage_place *place, int64_t bytes) {
    b.offset = place->offset;
    b.end = place->offset < 0 || place->bytes < 0 || place->offset > INT64_MAX - place->bytes
                ? place->offset
                : place->offset + place->bytes;
    check_block(c, &b, bytes);
    c->block[c->blocks++] = b;
}

static void collect(plan_checker *c, live_block *by_storage) {
    const brim_graph *g = c->g;
    find_uses(c, by_storage);
    for (value_id v = 0; v < g->values && !failed(c->err); v++) {
        if (c->layout->of[v].storage != v) continue;
        const graph_value *value = &g->value[v];
        int64_t elements =
            value->role == ROLE_CONTROL ? CONTROL_COUNT : shape_elements(&value->shape);
        add(c, by_storage[v], &c->plan->storage[v],
            elements * (int64_t)brim_dtype_bytes(value->dtype));
    }
    for (int32_t at = 0; at < c->schedule->count && !failed(c->err) && c->request->workspace;
         at++) {
        node_id n = c->schedule->order[at];
        int64_t bytes = c->request->workspace(g, n, c->request->user);
        if (bytes <= 0) continue;
        add(c, (live_block){.first = at, .last = at, .id = n, .workspace = true},
            &c->plan->workspace[n], bytes);
    }
}

static int by_first(const void *x, const void *y) {
    const live_block *a = x, *b = y;
    if (a->first != b->first) return a->first < b->first ? -1 : 1;
    if (a->offset != b->offset) return a->offset < b->offset ? -1 : 1;
    return a->workspace != b->workspace ? a->workspace - b->workspace
                                        : (a->id > b->id) - (a->id < b->id);
}

static void collide(plan_checker *c, const live_block *a, const live_block *b) {
    char first[400], second[400];
    describe(c, a, first, sizeof first);
    describe(c, b, second, sizeof second);
    brim_fail(c->err, BRIM_MEMORY, "memory plan: %s and %s live at the same time%s", first, second,
              c->request->guard_bytes ? " and have no guard between them" : "");
}

static void enter(plan_checker *c, const live_block *b) {
    int32_t low = 0, high = c->actives;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (c->active[middle].offset < b->offset)
            low = middle + 1;
        else
            high = middle;
    }
    int64_t guard = c->request->guard_bytes;
    if (low > 0 && c->active[low - 1].end + guard > b->offset) collide(c, &c->active[low - 1], b);
    if (low < c->actives && b->end + guard > c->active[low].offset) collide(c, b, &c->active[low]);
    memmove(&c->active[low + 1], &c->active[low], (size_t)(c->actives - low) * sizeof *b);
    c->active[low] = *b;
    c->actives++;
}

static void sweep(plan_checker *c) {
    qsort(c->block, (size_t)c->blocks, sizeof *c->block, by_first);
    int32_t now = -1;
    for (int32_t i = 0; i < c->blocks && !failed(c->err); i++) {
        const live_block *b = &c->block[i];
        if (b->first != now) {
            int32_t kept = 0;
            now = b->first;
            for (int32_t a = 0; a < c->actives; a++)
                if (c->active[a].last >= now) c->active[kept++] = c->active[a];
            c->actives = kept;
        }
        enter(c, b);
    }
}

brim_status memory_plan_verify(const brim_graph *g, const graph_layout *layout,
                               const graph_schedule *schedule, const plan_request *request,
                               const memory_plan *plan, brim_error *err) {
    if (failed(err)) return err->status;
    plan_checker c = {.g = g,
                      .layout = layout,
                      .schedule = schedule,
                      .request = request,
                      .plan = plan,
                      .err = err};
    size_t most = (size_t)g->values + (size_t)g->nodes;
    live_block *by_storage = brim_calloc_array((size_t)g->values, sizeof *by_storage, err);
    c.block = brim_calloc_array(most, sizeof *c.block, err);
    c.active = brim_calloc_array(most, sizeof *c.active, err);
    if (!failed(err)) collect(&c, by_storage);
    if (!failed(err)) sweep(&c);
    free(by_storage);
    free(c.block);
    free(c.active);
    return err->status;
}
