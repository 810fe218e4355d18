#include <inttypes.h>
#include <stdlib.h>
#include "core/alloc.h"
#include "core/size.h"
#include "graph/memory_plan.h"
#include "graph/pack.h"
#include "graph/stays.h"

typedef struct planner {
    const brim_graph *g;
    const graph_layout *layout;
    const graph_schedule *schedule;
    const plan_request *request;
    pack_block *block;     // of one space
    storage_place **place; // by block
    int32_t blocks;
    bool used[SPACES]; // something persists there
    memory_plan *plan;
    brim_error *err;
} planner;

// Leaves have names.
static const char *storage_name(const brim_graph *g, value_id v) {
    const graph_value *value = &g->value[v];
    return value->name ? value->name : op_table[g->node[value->producer].op].name;
}

static int64_t storage_bytes(const graph_value *v) {
    // Shapes whose bytes do not fit were refused when the value was made.
    int64_t elements = v->role == ROLE_CONTROL ? CONTROL_COUNT : shape_elements(&v->shape);
    return elements * (int64_t)brim_dtype_bytes(v->dtype);
}

// Only the device allocates in chunks.
static pack_rules rules_of(const planner *p, memory_space space, int64_t base) {
    const plan_request *r = p->request;
    return (pack_rules){base, r->alignment, space == SPACE_DEVICE ? r->chunk_bytes : 0,
                        r->guard_bytes, r->enough[space]};
}

// What persists -----------------------------------------------------------------------------------

// Of each space, the next free byte and the end.
typedef struct frontier {
    int64_t next, end;
} frontier;

static void place_one(planner *p, value_id v, frontier *at) {
    const plan_request *request = p->request;
    storage_place *s = &p->plan->storage[v];
    pack_rules rules = rules_of(p, s->space, 0);
    int64_t size, shared = request->persistent ? request->persistent(p->g, v, request->user) : -1;
    if (pack_size(&rules, s->bytes, &size, p->err)) {
        brim_error_prefix(p->err, "memory plan: \"%s\"", storage_name(p->g, v));
        return;
    }
    s->offset = shared >= 0 ? shared : pack_fit(&rules, at->next, s->bytes);
    int64_t end;
    if (!i64_add(s->offset, size, &end)) end = INT64_MAX;
    if (shared < 0) at->next = end;
    if (end > at->end) at->end = end;
    if (end > INT64_MAX / 4)
        brim_fail(p->err, BRIM_MEMORY, "memory plan: more than 2^61 bytes are asked for");
}

static void place_persistent(planner *p) {
    frontier at[SPACES];
    for (int space = 0; space < SPACES; space++) {
        int64_t base = p->request->transient_base[space];
        pack_rules rules = rules_of(p, (memory_space)space, base);
        at[space].next = at[space].end = pack_fit(&rules, base + rules.guard, 0);
    }
    for (value_id v = 0; v < p->g->values && !failed(p->err); v++) {
        if (p->layout->of[v].storage != v || !storage_is_persistent(p->g, p->layout, v)) continue;
        place_one(p, v, &at[p->plan->storage[v].space]);
        p->used[p->plan->storage[v].space] = true;
    }
    for (int space = 0; space < SPACES; space++) p->plan->persistent_bytes[space] = at[space].end;
}

// The rest ----------------------------------------------------------------------------------------

static void add_block(planner *p, storage_place *place) {
    p->block[p->blocks] =
        (pack_block){.bytes = place->bytes, .first = place->first, .last = place->last};
    p->place[p->blocks++] = place;
}

static void collect_places(planner *p, memory_space space) {
    memory_plan *plan = p->plan;
    p->blocks = 0;
    for (value_id v = 0; v < p->g->values; v++)
        if (p->layout->of[v].storage == v && plan->storage[v].space == space &&
            !storage_is_persistent(p->g, p->layout, v))
            add_block(p, &plan->storage[v]);
    for (int32_t i = 0; i < plan->stays; i++)
        if (plan->stay[i].place.space == space) add_block(p, &plan->stay[i].place);
}

static void collect_workspaces(planner *p) {
    const brim_graph *g = p->g;
    const plan_request *request = p->request;
    for (node_id n = 0; n < g->nodes; n++) p->plan->workspace[n] = (storage_place){.offset = -1};
    for (int32_t at = 0; at < p->schedule->count && request->workspace; at++) {
        node_id n = p->schedule->order[at];
        int64_t bytes = p->plan->on_host[n] ? 0 : request->workspace(g, n, request->user);
        if (bytes < 0) {
            brim_fail(
                p->err, BRIM_MEMORY,
                "memory plan: node %d (%s in scope \"%s\") asks for %" PRId64 " bytes of workspace",
                n, op_table[g->node[n].op].name, g->node[n].scope ? g->node[n].scope : "", bytes);
            return;
        }
        if (bytes == 0) continue;
        p->plan->workspace[n] = (storage_place){SPACE_DEVICE, -1, bytes, at, at};
        add_block(p, &p->plan->workspace[n]);
    }
}

// Names the block that no packing can place, where there is one.
static bool blocks_fit(planner *p, const pack_rules *rules) {
    const memory_plan *plan = p->plan;
    for (int32_t i = 0; i < p->blocks; i++) {
        int64_t size;
        if (!pack_size(rules, p->block[i].bytes, &size, p->err)) continue;
        const storage_place *place = p->place[i];
        bool workspace = place >= plan->workspace && place < plan->workspace + p->g->nodes;
        value_id v = -1;
        if (place >= plan->storage && place < plan->storage + p->g->values)
            v = (value_id)(place - plan->storage);
        for (int32_t s = 0; s < plan->stays && v < 0 && !workspace; s++)
            if (place == &plan->stay[s].place) v = plan->stay[s].storage;
        brim_error_prefix(p->err, "memory plan: %s",
                          workspace ? "workspace" : storage_name(p->g, v));
        return false;
    }
    return true;
}

static bool has_persistent(const planner *p, memory_space space) {
    for (value_id v = 0; v < p->g->values; v++)
        if (p->layout->of[v].storage == v && p->plan->storage[v].space == space &&
            storage_is_persistent(p->g, p->layout, v))
            return true;
    return false;
}

static void place_transient(planner *p, memory_space space) {
    memory_plan *plan = p->plan;
    // The guard behind the last persistent storage is the one before the first transient one.
    pack_rules rules = rules_of(p, space, plan->persistent_bytes[space] - p->request->guard_bytes);
    pack_result result;
    if (!p->blocks && !p->used[space]) return; // no guards around nothing
    if (p->request->estimate) {
        pack_bound(p->block, p->blocks, &rules, &plan->lower_bound[space], p->err);
        plan->peak_bytes[space] = plan->lower_bound[space];
        return;
    }
    if (!blocks_fit(p, &rules) || pack_blocks(p->block, p->blocks, &rules, &result, p->err)) return;
    for (int32_t i = 0; i < p->blocks; i++) p->place[i]->offset = p->block[i].offset;
    // A file that nothing lives in is not made for a guard.
    bool empty = space == SPACE_FILE && !p->blocks && !has_persistent(p, space);
    plan->peak_bytes[space] = empty ? 0 : result.end;
    plan->lower_bound[space] = empty ? 0 : result.lower_bound;
}

static void make(planner *p) {
    memory_plan *plan = p->plan;
    const plan_request *request = p->request;
    for (value_id v = 0; v < p->g->values; v++) {
        plan->storage[v] = (storage_place){.offset = -1};
        if (p->layout->of[v].storage == v) plan->storage[v].bytes = storage_bytes(&p->g->value[v]);
    }
    for (node_id n = 0; n < p->g->nodes; n++)
        plan->on_host[n] = request->on_host && request->on_host[n];
    if (stays_make(p->g, p->layout, p->schedule, request, plan, p->err)) return;
    size_t most = (size_t)p->g->values + (size_t)p->g->nodes + (size_t)plan->stays;
    p->block = brim_calloc_array(most, sizeof *p->block, p->err);
    p->place = brim_calloc_array(most, sizeof *p->place, p->err);
    if (!failed(p->err)) place_persistent(p);
    for (memory_space space = 0; space < SPACES && !failed(p->err); space++) {
        collect_places(p, space);
        if (space == SPACE_DEVICE) collect_workspaces(p);
        if (!failed(p->err)) place_transient(p, space);
    }
    if (!failed(p->err) && !request->estimate)
        memory_plan_verify(p->g, p->layout, p->schedule, request, plan, p->err);
}

static brim_status check_request(const plan_request *r, brim_error *err) {
    bool bases = true;
    for (int space = 0; space < SPACES; space++) bases &= r->transient_base[space] >= 0;
    if (r->alignment > 0 && !(r->alignment & (r->alignment - 1)) && r->chunk_bytes >= 0 &&
        r->chunk_bytes % r->alignment == 0 && bases && r->guard_bytes >= 0)
        return BRIM_OK;
    return brim_fail(err, BRIM_ARGUMENT,
                     "memory plan: alignment %" PRId64 ", chunk %" PRId64 ", base %" PRId64
                     ", guard %" PRId64
                     "; expected a power of two, a multiple of it, and nothing negative",
                     r->alignment, r->chunk_bytes, r->transient_base[SPACE_DEVICE], r->guard_bytes);
}

brim_status memory_plan_make(const brim_graph *g, const graph_layout *layout,
                             const graph_schedule *schedule, const plan_request *request,
                             memory_plan *out, brim_error *err) {
    *out = (memory_plan){0};
    if (failed(err) || check_request(request, err)) return err->status;
    size_t values = (size_t)g->values, nodes = (size_t)g->nodes;
    planner p = {.g = g,
                 .layout = layout,
                 .schedule = schedule,
                 .request = request,
                 .plan = out,
                 .err = err};
    out->values = g->values;
    out->nodes = g->nodes;
    out->storage = brim_calloc_array(values, sizeof *out->storage, err);
    out->workspace = brim_calloc_array(nodes, sizeof *out->workspace, err);
    out->on_host = brim_calloc_array(nodes, sizeof *out->on_host, err);
    if (!failed(err)) make(&p);
    free(p.block);
    free(p.place);
    if (failed(err)) memory_plan_free(out);
    return err->status;
}

void memory_plan_free(memory_plan *plan) {
    free(plan->storage);
    free(plan->workspace);
    free(plan->on_host);
    free(plan->stay);
    free(plan->first_stay);
    free(plan->transfer);
    *plan = (memory_plan){0};
}

// Looking up --------------------------------------------------------------------------------------

const storage_place *memory_plan_place(const memory_plan *plan, value_id storage,
                                       memory_space space, int32_t position) {
    const storage_place *home = &plan->storage[storage];
    if (home->space == space) return home;
    for (int32_t i = plan->first_stay[storage]; i < plan->first_stay[storage + 1]; i++) {
        const stay *s = &plan->stay[i];
        if (s->place.space == space && s->fetch_at <= position && position <= s->last_use)
            return &s->place;
    }
    return home;
}

transfer_ends memory_plan_ends(const memory_plan *plan, const transfer *t) {
    const stay *s = &plan->stay[t->stay];
    bool copied_out = plan->storage[s->storage].space < s->place.space;
    memory_space other = copied_out ? s->place.space - 1 : s->place.space + 1;
    const storage_place *there = memory_plan_place(plan, s->storage, other, t->position);
    return t->store ? (transfer_ends){&s->place, there} : (transfer_ends){there, &s->place};
}

bool memory_plan_is_within(const memory_plan *plan, const int64_t budget[SPACES]) {
    for (int space = 0; space < SPACES; space++)
        if (budget[space] > 0 && plan->peak_bytes[space] > budget[space]) return false;
    return true;
}

// Text --------------------------------------------------------------------------------------------

// Leaves have the class of their role; the rest is transient.
static const char *const class_names[] = {
    [ROLE_RESULT] = "values",   [ROLE_INPUT] = "inputs", [ROLE_PARAMETER] = "parameters",
    [ROLE_STATE] = "states",    [ROLE_COPY] = "copies",  [ROLE_ACCUMULATOR] = "accumulators",
    [ROLE_CONTROL] = "control",
};
enum { CLASSES = sizeof class_names / sizeof *class_names };

static const char *const space_names[SPACES] = {"device", "host", "file"};

static void print_place(FILE *out, const char *kind, int32_t id, const char *name,
                        const storage_place *s) {
    fprintf(out, "%s %d %s: %" PRId64 " bytes at %" PRId64, kind, id, name, s->bytes, s->offset);
    if (s->space != SPACE_DEVICE) fprintf(out, " of the %s", space_names[s->space]);
    fprintf(out, ", live %d..%d\n", s->first, s->last);
}

static void print_stays(const brim_graph *g, const memory_plan *plan, value_id v, FILE *out) {
    for (int32_t i = plan->first_stay[v]; i < plan->first_stay[v + 1]; i++) {
        const stay *s = &plan->stay[i];
        print_place(out, "  stay of", v, storage_name(g, v), &s->place);
        fprintf(out, "    used %d..%d, fetched in sections %d, stored in %d\n", s->first_use,
                s->last_use, s->fetch, s->store);
    }
}

static void print_extent(const memory_plan *plan, memory_space space, FILE *out) {
    int64_t peak = plan->peak_bytes[space], bound = plan->lower_bound[space];
    if (!peak && space != SPACE_DEVICE) return;
    if (space != SPACE_DEVICE) fprintf(out, "%s: ", space_names[space]);
    fprintf(out,
            "persistent: %" PRId64 " bytes; peak: %" PRId64 " bytes, %.4f of the lower bound\n",
            plan->persistent_bytes[space], peak, bound > 0 ? (double)peak / (double)bound : 1.0);
}

void memory_plan_print(const brim_graph *g, const memory_plan *plan, FILE *out) {
    int64_t bytes[CLASSES] = {0}, most_workspace = 0;
    int32_t count[CLASSES] = {0};
    for (value_id v = 0; v < plan->values; v++) {
        const storage_place *s = &plan->storage[v];
        if (s->offset < 0) continue;
        print_place(out, "storage", v, storage_name(g, v), s);
        print_stays(g, plan, v, out);
        bytes[g->value[v].role] += s->bytes;
        count[g->value[v].role]++;
    }
    for (node_id n = 0; n < plan->nodes; n++) {
        const storage_place *s = &plan->workspace[n];
        if (s->offset < 0) continue;
        print_place(out, "workspace", n, op_table[g->node[n].op].name, s);
        if (s->bytes > most_workspace) most_workspace = s->bytes;
    }
    for (int c = 0; c < CLASSES; c++)
        if (count[c])
            fprintf(out, "%s: %d storages, %" PRId64 " bytes\n", class_names[c], count[c],
                    bytes[c]);
    if (most_workspace) fprintf(out, "largest workspace: %" PRId64 " bytes\n", most_workspace);
    for (memory_space space = 0; space < SPACES; space++) print_extent(plan, space, out);
}
