#include <inttypes.h>
#include <stdlib.h>
#include "core/alloc.h"
#include "core/size.h"
#include "graph/layout.h"
#include "graph/pack.h"

typedef struct planner {
    const brim_graph *g;
    const graph_layout *layout;
    const graph_schedule *schedule;
    const plan_request *request;
    pack_rules rules;
    bool *result;          // by storage: it holds a named result
    pack_block *block;     // of transient storages and workspaces
    storage_place **place; // by block
    int32_t blocks;
    memory_plan *plan;
    brim_error *err;
} planner;

static const char *storage_name(const brim_graph *g, value_id v) {
    const graph_value *value = &g->value[v];
    return value->name           ? value->name
           : value->producer < 0 ? "leaf"
                                 : op_table[g->node[value->producer].op].name;
}

static bool is_persistent(const planner *p, value_id storage) {
    value_role role = p->g->value[storage].role;
    return (role != ROLE_RESULT && role != ROLE_INPUT) || p->result[storage];
}

static int64_t storage_bytes(const graph_value *v) {
    // Shapes whose bytes do not fit were refused when the value was made.
    int64_t elements = v->role == ROLE_CONTROL ? CONTROL_COUNT : shape_elements(&v->shape);
    return elements * (int64_t)brim_dtype_bytes(v->dtype);
}

// Lifetimes ---------------------------------------------------------------------------------------

static void touch(planner *p, value_id v, int32_t position) {
    storage_place *s = &p->plan->storage[p->layout->of[v].storage];
    if (position < s->first) s->first = position;
    if (position > s->last) s->last = position;
}

static void find_lifetimes(planner *p) {
    const brim_graph *g = p->g;
    int32_t end = p->schedule->count ? p->schedule->count - 1 : 0;
    for (value_id v = 0; v < g->values; v++) {
        storage_place *s = &p->plan->storage[v];
        *s = (storage_place){.offset = -1, .first = INT32_MAX, .last = -1};
        if (p->layout->of[v].storage == v) s->bytes = storage_bytes(&g->value[v]);
    }
    for (int32_t at = 0; at < p->schedule->count; at++) {
        const graph_node *node = &g->node[p->schedule->order[at]];
        if (op_is_view(node->op)) continue;
        for (int32_t i = 0; i < node->inputs; i++) touch(p, node->input[i], at);
        for (int32_t j = 0; j < node->outputs; j++) {
            touch(p, node->first_output + j, at);
            if (node->sections != SECTION_FIRST) continue;
            touch(p, node->first_output + j, 0); // written once, read in all sections
            touch(p, node->first_output + j, end);
        }
    }
    for (value_id v = 0; v < g->values; v++) {
        if (p->layout->of[v].storage != v) continue;
        if (g->value[v].producer < 0) touch(p, v, 0); // inputs arrive before the first node
        if (!is_persistent(p, v)) continue;
        touch(p, v, 0);
        touch(p, v, end);
    }
}

// Placing -----------------------------------------------------------------------------------------

static void place_persistent(planner *p) {
    const brim_graph *g = p->g;
    const plan_request *request = p->request;
    int64_t next = pack_fit(&p->rules, p->rules.base + p->rules.guard, 0), end = next;
    for (value_id v = 0; v < g->values && !failed(p->err); v++) {
        storage_place *s = &p->plan->storage[v];
        if (p->layout->of[v].storage != v || !is_persistent(p, v)) continue;
        int64_t size, shared = request->persistent ? request->persistent(g, v, request->user) : -1;
        if (pack_size(&p->rules, s->bytes, &size, p->err)) {
            brim_error_prefix(p->err, "memory plan: \"%s\"", storage_name(g, v));
            return;
        }
        if (shared >= 0) {
            s->offset = shared;
            if (!i64_add(shared, size, &shared)) shared = INT64_MAX;
            if (shared > end) end = shared;
            continue;
        }
        s->offset = pack_fit(&p->rules, next, s->bytes);
        next = s->offset + size;
        if (next > end) end = next;
        if (next > INT64_MAX / 4)
            brim_fail(p->err, BRIM_MEMORY, "memory plan: more than 2^61 bytes are asked for");
    }
    p->plan->persistent_bytes = end;
}

static void add_block(planner *p, storage_place *place) {
    p->block[p->blocks] =
        (pack_block){.bytes = place->bytes, .first = place->first, .last = place->last};
    p->place[p->blocks++] = place;
}

static void collect_blocks(planner *p) {
    const brim_graph *g = p->g;
    const plan_request *request = p->request;
    for (value_id v = 0; v < g->values; v++)
        if (p->layout->of[v].storage == v && !is_persistent(p, v))
            add_block(p, &p->plan->storage[v]);
    for (node_id n = 0; n < g->nodes; n++) p->plan->workspace[n] = (storage_place){.offset = -1};
    for (int32_t at = 0; at < p->schedule->count && request->workspace; at++) {
        node_id n = p->schedule->order[at];
        int64_t bytes = request->workspace(g, n, request->user);
        if (bytes < 0) {
            brim_fail(
                p->err, BRIM_MEMORY,
                "memory plan: node %d (%s in scope \"%s\") asks for %" PRId64 " bytes of workspace",
                n, op_table[g->node[n].op].name, g->node[n].scope ? g->node[n].scope : "", bytes);
            return;
        }
        if (bytes == 0) continue;
        p->plan->workspace[n] =
            (storage_place){.offset = -1, .bytes = bytes, .first = at, .last = at};
        add_block(p, &p->plan->workspace[n]);
    }
}

static void place_transient(planner *p) {
    pack_rules rules = p->rules;
    // The guard behind the last persistent storage is the one before the first transient one.
    rules.base = p->plan->persistent_bytes - rules.guard;
    pack_result result;
    for (int32_t i = 0; i < p->blocks; i++) {
        int64_t size;
        if (!pack_size(&rules, p->block[i].bytes, &size, p->err)) continue;
        const storage_place *place = p->place[i];
        bool storage = place >= p->plan->storage && place < p->plan->storage + p->g->values;
        brim_error_prefix(p->err, "memory plan: %s",
                          storage ? storage_name(p->g, (value_id)(place - p->plan->storage))
                                  : "workspace");
        return;
    }
    if (pack_blocks(p->block, p->blocks, &rules, &result, p->err)) return;
    for (int32_t i = 0; i < p->blocks; i++) p->place[i]->offset = p->block[i].offset;
    p->plan->peak_bytes = result.end;
    p->plan->lower_bound = result.lower_bound;
}

static void make(planner *p) {
    const brim_graph *g = p->g;
    for (int32_t r = 0; r < g->results; r++) p->result[p->layout->of[g->result[r]].storage] = true;
    find_lifetimes(p);
    if (!failed(p->err)) place_persistent(p);
    if (!failed(p->err)) collect_blocks(p);
    if (!failed(p->err)) place_transient(p);
    if (!failed(p->err)) memory_plan_verify(g, p->layout, p->schedule, p->request, p->plan, p->err);
}

brim_status memory_plan_make(const brim_graph *g, const graph_layout *layout,
                             const graph_schedule *schedule, const plan_request *request,
                             memory_plan *out, brim_error *err) {
    *out = (memory_plan){0};
    if (failed(err)) return err->status;
    if (request->alignment <= 0 || (request->alignment & (request->alignment - 1)) ||
        request->chunk_bytes < 0 || request->chunk_bytes % request->alignment ||
        request->transient_base < 0 || request->guard_bytes < 0)
        return brim_fail(err, BRIM_ARGUMENT,
                         "memory plan: alignment %" PRId64 ", chunk %" PRId64 ", base %" PRId64
                         ", guard %" PRId64
                         "; expected a power of two, a multiple of it, and nothing negative",
                         request->alignment, request->chunk_bytes, request->transient_base,
                         request->guard_bytes);
    size_t values = (size_t)g->values, nodes = (size_t)g->nodes;
    planner p = {.g = g,
                 .layout = layout,
                 .schedule = schedule,
                 .request = request,
                 .plan = out,
                 .err = err};
    p.rules = (pack_rules){request->transient_base, request->alignment, request->chunk_bytes,
                           request->guard_bytes};
    out->values = g->values;
    out->nodes = g->nodes;
    out->storage = brim_calloc_array(values, sizeof *out->storage, err);
    out->workspace = brim_calloc_array(nodes, sizeof *out->workspace, err);
    p.result = brim_calloc_array(values, sizeof *p.result, err);
    p.block = brim_calloc_array(values + nodes, sizeof *p.block, err);
    p.place = brim_calloc_array(values + nodes, sizeof *p.place, err);
    if (!failed(err)) make(&p);
    free(p.result);
    free(p.block);
    free(p.place);
    if (failed(err)) memory_plan_free(out);
    return err->status;
}

void memory_plan_free(memory_plan *plan) {
    free(plan->storage);
    free(plan->workspace);
    *plan = (memory_plan){0};
}

// Text --------------------------------------------------------------------------------------------

// Leaves have the class of their role; the rest is transient.
static const char *const class_names[] = {
    [ROLE_RESULT] = "values",
    [ROLE_INPUT] = "inputs",
    [ROLE_PARAMETER] = "parameters",
    [ROLE_STATE] = "states",
    [ROLE_COPY] = "copies",
    [ROLE_ACCUMULATOR] = "accumulators",
    [ROLE_CONTROL] = "control",
};
enum { CLASSES = sizeof class_names / sizeof *class_names };

static void print_place(FILE *out, const char *kind, int32_t id, const char *name,
                        const storage_place *s) {
    fprintf(out, "%s %d %s: %" PRId64 " bytes at %" PRId64 ", live %d..%d\n", kind, id, name,
            s->bytes, s->offset, s->first, s->last);
}

void memory_plan_print(const brim_graph *g, const memory_plan *plan, FILE *out) {
    int64_t bytes[CLASSES] = {0}, most_workspace = 0;
    int32_t count[CLASSES] = {0};
    for (value_id v = 0; v < plan->values; v++) {
        const storage_place *s = &plan->storage[v];
        if (s->offset < 0) continue;
        print_place(out, "storage", v, storage_name(g, v), s);
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
    fprintf(out,
            "persistent: %" PRId64 " bytes; peak: %" PRId64 " bytes, %.4f of the lower bound\n",
            plan->persistent_bytes, plan->peak_bytes,
            plan->lower_bound > 0 ? (double)plan->peak_bytes / (double)plan->lower_bound : 1.0);
}
