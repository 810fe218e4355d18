#include "optim/variant.h"

#include <stdlib.h>
#include <string.h>
#include "backends/lower.h"
#include "core/alloc.h"
#include "graph/cost.h"
#include "graph/pass_recompute.h"
#include "graph/passes.h"
#include "optim/compiled.h"

// A chain's operands become kernel arguments; OpenCL promises 1024 bytes of them.
enum { MAX_CHAIN_OPERANDS = 24 };

// ---- making -------------------------------------------------------------------------------------

static void find_workspaces(variant *v, const compile_target *target, brim_error *err) {
    lowering l = {.graph = v->graph,
                  .layout = &v->layout,
                  .traits = target->backend->traits(target->device),
                  .backend = target->backend,
                  .device = target->device,
                  .err = err};
    for (node_id n = 0; n < v->graph->nodes && !failed(err); n++) {
        workspace_rule rule = kernel_table[v->graph->node[n].op].workspace;
        l.node = &v->graph->node[n];
        l.node_index = n;
        if (rule) v->workspace[n] = rule(&l);
    }
}

static void find_times(variant *v, const brim_rates *rates, brim_error *err) {
    v->start = brim_calloc_array((size_t)v->schedule.count + 1, sizeof *v->start, err);
    for (int32_t i = 0; i < v->schedule.count && v->start; i++)
        v->start[i + 1] =
            v->start[i] + node_seconds(v->graph, &v->graph->node[v->schedule.order[i]], rates);
}

brim_status variant_make(variant *out, const brim_graph *g, const bool *recompute,
                         const compile_target *target, brim_error *err) {
    *out = (variant){0};
    brim_graph *recomputed = pass_recompute(g, recompute, err);
    if (recomputed) out->graph = pass_fuse(recomputed, !target->no_fusion, MAX_CHAIN_OPERANDS, err);
    brim_graph_free(recomputed);
    if (!failed(err)) {
        graph_schedule_make(out->graph, &out->schedule, err);
        graph_layout_make(out->graph, &out->schedule, &out->layout, err);
        out->workspace = brim_calloc_array((size_t)out->graph->nodes, sizeof(int64_t), err);
    }
    if (!failed(err)) find_workspaces(out, target, err);
    if (!failed(err)) homes_make(out->graph, &out->layout, &out->homes, err);
    if (!failed(err) && target->rates) find_times(out, target->rates, err);
    if (failed(err)) variant_free(out);
    return err->status;
}

void variant_free(variant *v) {
    homes_free(&v->homes);
    graph_layout_free(&v->layout);
    graph_schedule_free(&v->schedule);
    brim_graph_free(v->graph);
    free(v->workspace);
    free(v->start);
    *v = (variant){0};
}

// ---- planning -----------------------------------------------------------------------------------

typedef struct plan_context {
    const variant *v;
    const compiled *owner;
} plan_context;

static int64_t known_workspace(const brim_graph *g, node_id node, void *user) {
    (void)g;
    return ((plan_context *)user)->v->workspace[node];
}

// The owner's leaf that this one is; -1: none.
static value_id owned(const compiled *owner, const graph_value *v) {
    bool shared = v->role != ROLE_RESULT && v->role != ROLE_INPUT;
    return owner && shared && v->name ? compiled_variable(owner, v->name) : -1;
}

static int64_t shared_offset(const brim_graph *g, value_id id, void *user) {
    const compiled *owner = ((plan_context *)user)->owner;
    value_id there = owned(owner, &g->value[id]);
    return there < 0 ? -1 : owner->plan.storage[there].offset;
}

static void take_homes(homes *h, const brim_graph *g, const compiled *owner) {
    homes_choose(h, &(homes_choice){0});
    for (value_id v = 0; v < g->values; v++) {
        value_id there = owned(owner, &g->value[v]);
        if (there >= 0) h->home[v] = owner->plan.storage[there].space;
    }
}

// The file is not waited for by the device: what is in it is on the host before.
static stream_times times_of(const variant *v, const brim_rates *r, int64_t ahead) {
    stream_times t = {.start = v->start};
    t.bytes_per_second[SPACE_HOST][SPACE_DEVICE] = r->link_in;
    t.bytes_per_second[SPACE_DEVICE][SPACE_HOST] = r->link_out;
    t.bytes_per_second[SPACE_FILE][SPACE_HOST] = r->disk_read > 0 ? r->disk_read : 1e9;
    t.bytes_per_second[SPACE_HOST][SPACE_FILE] = r->disk_write > 0 ? r->disk_write : 1e9;
    for (int space = 0; space < SPACES; space++) t.ahead[space] = ahead;
    return t;
}

brim_status variant_plan(variant *v, const compile_target *target, const homes_choice *choice,
                         int64_t ahead, bool estimate, memory_plan *out, brim_error *err) {
    const device_traits *traits = target->backend->traits(target->device);
    const compiled *owner = target->owner;
    plan_context context = {v, owner};
    bool timed = v->start && ahead > 0;
    stream_times times = timed ? times_of(v, target->rates, ahead) : (stream_times){0};
    if (owner)
        take_homes(&v->homes, v->graph, owner);
    else
        homes_choose(&v->homes, choice);
    plan_request request = {.alignment = traits->alignment,
                            .chunk_bytes = traits->chunk_bytes,
                            .workspace = known_workspace,
                            .persistent = shared_offset,
                            .user = &context,
                            .home = v->homes.home,
                            .on_host = v->homes.on_host,
                            .whole = v->homes.whole,
                            .times = timed ? &times : NULL,
                            .enough = {0, INT64_MAX, INT64_MAX},
                            .estimate = estimate};
    // Where something must leave the device anyway, the search makes the rest fit.
    if (choice && (choice->hosted || choice->streamed || choice->offloaded))
        request.enough[SPACE_DEVICE] = target->budget[SPACE_DEVICE];
    for (int space = SPACE_HOST; space < SPACES; space++)
        if (target->budget[space] > 0) request.enough[space] = target->budget[space];
    for (int space = 0; owner && space < SPACES; space++)
        request.transient_base[space] = owner->plan.persistent_bytes[space];
    return memory_plan_make(v->graph, &v->layout, &v->schedule, &request, out, err);
}
