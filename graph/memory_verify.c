// The proof that a memory plan is right, from the graph, the layout and the schedule: it trusts
// nothing in the plan but offsets. Two passes over the schedule give each place its first and last
// use; a sweep over time keeps the blocks alive sorted by offset, so that a new one is compared
// with its neighbours only. That what is read is what was written, stay_verify.c proves.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "graph/memory_plan.h"
#include "graph/stay_verify.h"

typedef enum block_kind { BLOCK_HOME, BLOCK_STAY, BLOCK_WORKSPACE } block_kind;

typedef struct live_block {
    int64_t offset, end;
    int32_t first, last;
    int32_t id; // a value, or the workspace's node
    block_kind kind;
    memory_space space;
} live_block;

typedef struct plan_checker {
    const brim_graph *g;
    const graph_layout *layout;
    const graph_schedule *schedule;
    const plan_request *request;
    const memory_plan *plan;
    live_block *block;  // by space, and then by first
    live_block *active; // by offset
    int32_t blocks, actives;
    brim_error *err;
} plan_checker;

static void describe(const plan_checker *c, const live_block *b, char *text, size_t size) {
    static const char *const kinds[] = {"value", "a stay of value", "the workspace of node"};
    const brim_graph *g = c->g;
    node_id n = b->kind == BLOCK_WORKSPACE ? b->id : g->value[b->id].producer;
    const char *name = b->kind == BLOCK_WORKSPACE ? NULL : g->value[b->id].name;
    snprintf(text, size, "%s %d (%s) at %" PRId64 "..%" PRId64, kinds[b->kind], b->id,
             name ? name : op_table[g->node[n].op].name, b->offset, b->end);
}

static void refuse(plan_checker *c, const live_block *b, const char *why) {
    char text[400];
    describe(c, b, text, sizeof text);
    brim_fail(c->err, BRIM_MEMORY, "memory plan: %s %s", text, why);
}

static void check_block(plan_checker *c, const live_block *b, int64_t bytes) {
    const plan_request *r = c->request;
    int64_t chunk = b->space == SPACE_DEVICE ? r->chunk_bytes : 0;
    if (b->offset < 0)
        refuse(c, b, "has no place");
    else if (b->end - b->offset < bytes)
        refuse(c, b, "is too small");
    else if (b->offset % r->alignment)
        refuse(c, b, "is not aligned");
    else if (b->offset > INT64_MAX - bytes - r->guard_bytes ||
             b->end + r->guard_bytes > c->plan->peak_bytes[b->space])
        refuse(c, b, "ends above the peak");
    else if (b->offset < r->guard_bytes)
        refuse(c, b, "has no guard before it");
    else if (chunk && bytes && b->offset / chunk != (b->offset + bytes - 1) / chunk)
        refuse(c, b, "straddles two chunks");
}

// ---- when places are used -----------------------------------------------------------------------

// Homes by value id, then stays.
static void touch(plan_checker *c, live_block *place, const storage_place *at, int32_t position) {
    const memory_plan *plan = c->plan;
    bool home = at >= plan->storage && at < plan->storage + plan->values;
    live_block *b =
        &place[home ? at - plan->storage
                    : plan->values +
                          ((const stay *)((const char *)at - offsetof(stay, place)) - plan->stay)];
    b->first = position < b->first ? position : b->first;
    b->last = position > b->last ? position : b->last;
}

// By every node that is not a mere view of it, and by copies.
static void use(plan_checker *c, live_block *place, value_id v, node_id n, int32_t position) {
    memory_space space = c->plan->on_host[n] ? SPACE_HOST : SPACE_DEVICE;
    const storage_place *at = memory_plan_place(c->plan, c->layout->of[v].storage, space, position);
    if (at->space != space) {
        brim_fail(
            c->err, BRIM_MEMORY, "memory plan: value %d (%s) is not where node %d (%s) needs it", v,
            c->g->value[v].name ? c->g->value[v].name : "", n, op_table[c->g->node[n].op].name);
        return;
    }
    touch(c, place, at, position);
}

// What only the first micro-batch writes, and what outlives a step, is never reused.
static void use_always(plan_checker *c, live_block *place, bool *always) {
    const brim_graph *g = c->g;
    for (value_id v = 0; v < g->values; v++) {
        const graph_value *value = &g->value[v];
        node_id n = value->producer;
        if (n < 0 ? value->role != ROLE_INPUT
                  : g->node[n].sections == SECTION_FIRST && !op_is_view(g->node[n].op))
            always[c->layout->of[v].storage] = true;
    }
    for (value_id v = 0; v < g->values; v++) {
        if (c->layout->of[v].storage != v) continue;
        if (always[v] || g->value[v].producer < 0) place[v].first = 0;
        if (always[v]) place[v].last = INT32_MAX - 1;
    }
    for (int32_t r = 0; r < g->results; r++) // copied out after the last node
        place[c->layout->of[g->result[r]].storage].last = INT32_MAX - 1;
}

static void find_uses(plan_checker *c, live_block *place) {
    const brim_graph *g = c->g;
    const memory_plan *plan = c->plan;
    for (int32_t i = 0; i < plan->values + plan->stays; i++)
        place[i] = (live_block){.first = INT32_MAX, .last = -1};
    for (int32_t at = 0; at < c->schedule->count && !failed(c->err); at++) {
        node_id n = c->schedule->order[at];
        const graph_node *node = &g->node[n];
        if (op_is_view(node->op)) continue;
        for (int32_t i = 0; i < node->inputs; i++) use(c, place, node->input[i], n, at);
        for (int32_t j = 0; j < node->outputs; j++) use(c, place, node->first_output + j, n, at);
    }
    for (int32_t i = 0; i < plan->transfers; i++) {
        transfer_ends ends = memory_plan_ends(plan, &plan->transfer[i]);
        touch(c, place, ends.from, plan->transfer[i].position);
        touch(c, place, ends.to, plan->transfer[i].position);
    }
}

static void add(plan_checker *c, live_block b, const storage_place *place, int64_t bytes) {
    b.space = place->space;
    b.offset = place->offset;
    b.end = place->offset < 0 || place->bytes < 0 || place->offset > INT64_MAX - place->bytes
                ? place->offset
                : place->offset + place->bytes;
    check_block(c, &b, bytes);
    c->block[c->blocks++] = b;
}

static int64_t storage_bytes(const plan_checker *c, value_id v) {
    const graph_value *value = &c->g->value[v];
    int64_t elements = value->role == ROLE_CONTROL ? CONTROL_COUNT : shape_elements(&value->shape);
    return elements * (int64_t)brim_dtype_bytes(value->dtype);
}

static void collect(plan_checker *c, live_block *place, bool *always) {
    const brim_graph *g = c->g;
    const memory_plan *plan = c->plan;
    find_uses(c, place);
    use_always(c, place, always);
    for (value_id v = 0; v < g->values && !failed(c->err); v++) {
        if (c->layout->of[v].storage != v) continue;
        place[v].kind = BLOCK_HOME;
        place[v].id = v;
        add(c, place[v], &plan->storage[v], storage_bytes(c, v));
    }
    for (int32_t i = 0; i < plan->stays && !failed(c->err); i++) {
        live_block *b = &place[plan->values + i];
        b->kind = BLOCK_STAY;
        b->id = plan->stay[i].storage;
        if (plan->stay[i].whole) b->first = 0, b->last = INT32_MAX - 1;
        add(c, *b, &plan->stay[i].place, storage_bytes(c, b->id));
    }
    for (int32_t at = 0; at < c->schedule->count && !failed(c->err) && c->request->workspace;
         at++) {
        node_id n = c->schedule->order[at];
        int64_t bytes = plan->on_host[n] ? 0 : c->request->workspace(g, n, c->request->user);
        if (bytes <= 0) continue;
        add(c, (live_block){.first = at, .last = at, .id = n, .kind = BLOCK_WORKSPACE},
            &plan->workspace[n], bytes);
    }
}

// ---- places that are taken at the same time -----------------------------------------------------

static int by_first(const void *x, const void *y) {
    const live_block *a = x, *b = y;
    if (a->space != b->space) return a->space < b->space ? -1 : 1;
    if (a->first != b->first) return a->first < b->first ? -1 : 1;
    if (a->offset != b->offset) return a->offset < b->offset ? -1 : 1;
    return a->kind != b->kind ? (int)a->kind - (int)b->kind : (a->id > b->id) - (a->id < b->id);
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
    memory_space space = SPACE_DEVICE;
    for (int32_t i = 0; i < c->blocks && !failed(c->err); i++) {
        const live_block *b = &c->block[i];
        if (b->first != now || b->space != space) {
            int32_t kept = 0;
            now = b->first;
            for (int32_t a = 0; a < c->actives && b->space == space; a++)
                if (c->active[a].last >= now) c->active[kept++] = c->active[a];
            space = b->space;
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
    size_t places = (size_t)g->values + (size_t)plan->stays, most = places + (size_t)g->nodes;
    live_block *place = brim_calloc_array(places, sizeof *place, err);
    bool *always = brim_calloc_array((size_t)g->values, sizeof *always, err);
    c.block = brim_calloc_array(most, sizeof *c.block, err);
    c.active = brim_calloc_array(most, sizeof *c.active, err);
    if (!failed(err)) collect(&c, place, always);
    if (!failed(err)) sweep(&c);
    if (!failed(err)) stay_verify(g, layout, schedule, plan, err);
    free(place);
    free(always);
    free(c.block);
    free(c.active);
    return err->status;
}
