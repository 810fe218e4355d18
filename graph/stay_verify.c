#include "graph/stay_verify.h"

#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "graph/stays.h"

enum { STEPS = 2, NOTHING = 0 };

typedef struct flow {
    const brim_graph *g;
    const graph_layout *layout;
    const graph_schedule *schedule;
    const memory_plan *plan;
    bool *persistent; // by storage: keeps its value from step to step
    bool *invariant;  // by storage: from a step's first micro-batch to the last
    bool *fresh;      // by storage: not written yet in this section, nor kept from the last one
    int64_t *newest;  // by storage: the version written last
    int64_t *home;    // by storage: the version that its home holds
    int64_t *held;    // by stay
    brim_error *err;
} flow;

static int64_t *holds(flow *f, value_id storage, const storage_place *place) {
    if (place == &f->plan->storage[storage]) return &f->home[storage];
    const stay *s = (const stay *)((const char *)place - offsetof(stay, place));
    return &f->held[s - f->plan->stay];
}

static void complain(flow *f, value_id v, node_id n, const char *what) {
    const char *name = f->g->value[v].name;
    brim_fail(f->err, BRIM_MEMORY, "memory plan: node %d (%s) %s value %d (%s)", n,
              op_table[f->g->node[n].op].name, what, v, name ? name : "");
}

static int64_t *operand(flow *f, value_id storage, node_id n, int32_t position) {
    memory_space space = f->plan->on_host[n] ? SPACE_HOST : SPACE_DEVICE;
    return holds(f, storage, memory_plan_place(f->plan, storage, space, position));
}

static void run_node(flow *f, node_id n, int32_t position, uint8_t section) {
    const graph_node *node = &f->g->node[n];
    if (op_is_view(node->op) || !(node->sections & section)) return;
    for (int32_t i = 0; i < node->inputs; i++) {
        // A step's first micro-batch begins a sum without reading it.
        if (node->op == OP_ACCUMULATE && i == 0 && section == SECTION_FIRST) continue;
        value_id s = f->layout->of[node->input[i]].storage;
        if (*operand(f, s, n, position) != f->newest[s]) complain(f, s, n, "reads an old");
    }
    for (int32_t j = 0; j < node->outputs; j++) {
        value_id s = f->layout->of[node->first_output + j].storage;
        int64_t *held = operand(f, s, n, position);
        // Several nodes may write parts of one storage: what the others wrote must be there.
        bool begins = f->fresh[s] || (node->op == OP_ACCUMULATE && section == SECTION_FIRST);
        if (!begins && *held != f->newest[s]) complain(f, s, n, "adds to an old");
        f->fresh[s] = false;
        *held = ++f->newest[s];
    }
}

static void run_transfers(flow *f, int32_t *next, int32_t position, bool after, uint8_t section) {
    const memory_plan *plan = f->plan;
    for (; *next < plan->transfers; ++*next) {
        const transfer *t = &plan->transfer[*next];
        if (t->position != position || t->after != after) return;
        if (!(t->sections & section)) continue;
        transfer_ends ends = memory_plan_ends(plan, t);
        value_id s = plan->stay[t->stay].storage;
        *holds(f, s, ends.to) = *holds(f, s, ends.from);
    }
}

static void run_section(flow *f, uint8_t section, bool first) {
    const brim_graph *g = f->g;
    int32_t next = 0;
    for (int32_t i = 0; i < f->plan->stays; i++)
        if (!f->plan->stay[i].whole || first) f->held[i] = NOTHING;
    for (value_id v = 0; v < g->values; v++) {
        f->fresh[v] = !f->persistent[v] && (!f->invariant[v] || section == SECTION_FIRST);
        if (!f->fresh[v]) continue;
        f->home[v] = NOTHING;
        if (g->value[v].role == ROLE_INPUT) f->home[v] = ++f->newest[v]; // the step's own
    }
    for (int32_t at = 0; at < f->schedule->count && !failed(f->err); at++) {
        run_transfers(f, &next, at, false, section);
        run_node(f, f->schedule->order[at], at, section);
        run_transfers(f, &next, at, true, section);
    }
    if (!failed(f->err) && next < f->plan->transfers)
        brim_fail(f->err, BRIM_MEMORY, "memory plan: copy %d is not in the order of execution",
                  next);
}

static void check_homes(flow *f) {
    for (value_id v = 0; v < f->g->values && !failed(f->err); v++) {
        value_role role = f->g->value[v].role;
        if (f->layout->of[v].storage != v || f->g->value[v].producer >= 0 || role == ROLE_INPUT ||
            role == ROLE_ACCUMULATOR || f->home[v] == f->newest[v])
            continue;
        const char *name = f->g->value[v].name;
        brim_fail(f->err, BRIM_MEMORY, "memory plan: \"%s\" is not up to date after a step",
                  name ? name : "");
    }
}

static void run_steps(flow *f) {
    uint8_t used = 0;
    for (node_id n = 0; n < f->g->nodes; n++) used |= f->g->node[n].sections;
    static const uint8_t sections[] = {SECTION_FIRST, SECTION_MIDDLE, SECTION_MIDDLE, SECTION_LAST};
    for (value_id v = 0; v < f->g->values; v++) {
        node_id n = f->g->value[v].producer;
        value_id s = f->layout->of[v].storage;
        f->persistent[v] = storage_is_persistent(f->g, f->layout, v);
        f->invariant[s] |=
            n >= 0 && f->g->node[n].sections == SECTION_FIRST && !op_is_view(f->g->node[n].op);
        f->home[v] = f->newest[v] = NOTHING + 1;
    }
    for (int step = 0; step < STEPS && !failed(f->err); step++) {
        bool first = true;
        for (size_t i = 0; i < sizeof sections && !failed(f->err); i++) {
            if (sections[i] != SECTION_LAST && !(used & sections[i])) continue;
            run_section(f, sections[i], first);
            first = false;
        }
        if (!failed(f->err)) check_homes(f);
    }
}

brim_status stay_verify(const brim_graph *g, const graph_layout *layout,
                        const graph_schedule *schedule, const memory_plan *plan, brim_error *err) {
    if (failed(err)) return err->status;
    size_t values = (size_t)g->values;
    flow f = {.g = g, .layout = layout, .schedule = schedule, .plan = plan, .err = err};
    f.persistent = brim_calloc_array(values, sizeof *f.persistent, err);
    f.invariant = brim_calloc_array(values, sizeof *f.invariant, err);
    f.fresh = brim_calloc_array(values, sizeof *f.fresh, err);
    f.newest = brim_calloc_array(values, sizeof *f.newest, err);
    f.home = brim_calloc_array(values, sizeof *f.home, err);
    f.held = brim_calloc_array((size_t)plan->stays, sizeof *f.held, err);
    if (!failed(err)) run_steps(&f);
    free(f.persistent);
    free(f.invariant);
    free(f.fresh);
    free(f.newest);
    free(f.home);
    free(f.held);
    return err->status;
}
