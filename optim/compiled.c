#include "optim/compiled.h"

#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "core/dtype.h"
#include "graph/pass_recompute.h"
#include "graph/passes.h"
#include "graph/recompute_levels.h"

// A chain's operands become kernel arguments; OpenCL promises 1024 bytes of them.
enum { MAX_CHAIN_OPERANDS = 24 };

static void replace(brim_graph **g, brim_graph *next) {
    brim_graph_free(*g);
    *g = next;
}

// All that comes before the decision what to recompute. Takes g over.
static brim_graph *first_passes(brim_graph *g, int64_t micro_batches, const compiled *owner,
                                brim_error *err) {
    if (!failed(err)) replace(&g, pass_prune(g, err));
    if (!failed(err)) replace(&g, pass_compute_copies(g, owner ? owner->graph : NULL, err));
    if (!failed(err)) replace(&g, pass_densify(g, err));
    if (!failed(err)) pass_sections(g, micro_batches, err);
    return g;
}

typedef struct plan_context {
    const compile_target *target;
    lowering lowering; // what workspace rules look at
} plan_context;

static int64_t node_workspace(const brim_graph *g, node_id node, void *user) {
    plan_context *context = user;
    workspace_rule rule = kernel_table[g->node[node].op].workspace;
    if (!rule) return 0;
    context->lowering.node = &g->node[node];
    context->lowering.node_index = node;
    return rule(&context->lowering);
}

static int64_t shared_offset(const brim_graph *g, value_id id, void *user) {
    const compiled *owner = ((plan_context *)user)->target->owner;
    const graph_value *v = &g->value[id];
    bool shared = v->role != ROLE_RESULT && v->role != ROLE_INPUT;
    if (!owner || !shared || !v->name) return -1;
    value_id there = compiled_variable(owner, v->name);
    return there < 0 ? -1 : owner->plan.storage[there].offset;
}

static void forget_plan(compiled *c) {
    memory_plan_free(&c->plan);
    graph_layout_free(&c->layout);
    graph_schedule_free(&c->schedule);
    brim_graph_free(c->graph);
    c->graph = NULL;
}

// The plan with some values recomputed (NULL: as the script marked).
static brim_status plan_with(compiled *out, const brim_graph *g, const bool *recompute,
                             const compile_target *target, brim_error *err) {
    out->graph = pass_recompute(g, recompute, err);
    if (!failed(err))
        replace(&out->graph, pass_fuse(out->graph, !target->no_fusion, MAX_CHAIN_OPERANDS, err));
    if (failed(err)) return err->status;
    const device_traits *traits = target->backend->traits(target->device);
    if (graph_schedule_make(out->graph, &out->schedule, err) ||
        graph_layout_make(out->graph, &out->schedule, &out->layout, err))
        return err->status;

    plan_context context = {.target = target,
                            .lowering = {.graph = out->graph,
                                         .layout = &out->layout,
                                         .traits = traits,
                                         .backend = target->backend,
                                         .device = target->device,
                                         .err = err}};
    plan_request request = {
        .alignment = traits->alignment,
        .chunk_bytes = traits->chunk_bytes,
        .transient_base = {target->owner ? target->owner->plan.persistent_bytes[SPACE_DEVICE] : 0},
        .workspace = node_workspace,
        .persistent = shared_offset,
        .user = &context,
    };
    return memory_plan_make(out->graph, &out->layout, &out->schedule, &request, &out->plan, err);
}

static bool fits(const compiled *c, const compile_target *target) {
    return !target->arena_bytes || c->plan.peak_bytes[SPACE_DEVICE] <= target->arena_bytes;
}

static bool plan_level(compiled *out, const brim_graph *g, const recompute_levels *levels,
                       int32_t level, const compile_target *target, brim_error *err) {
    bool *recompute = brim_calloc_array((size_t)g->values, sizeof *recompute, err);
    forget_plan(out);
    if (recompute && !recompute_level(g, levels, level, recompute, err))
        plan_with(out, g, recompute, target, err);
    free(recompute);
    return !failed(err) && fits(out, target);
}

// The least that must be recomputed. Where all of it does not help, that is the plan, and who
// reserves its memory says what is missing.
static void plan_to_fit(compiled *out, const brim_graph *g, const compile_target *target,
                        brim_error *err) {
    recompute_levels levels;
    if (recompute_levels_make(g, &levels, err)) return;
    int32_t low = 1, high = levels.count - 1, planned = high;
    bool possible = plan_level(out, g, &levels, high, target, err);
    while (possible && low < high && !failed(err)) { // high fits, what is below low does not
        int32_t middle = low + (high - low) / 2;
        planned = middle;
        if (plan_level(out, g, &levels, middle, target, err))
            high = middle;
        else
            low = middle + 1;
    }
    if (possible && planned != high && !failed(err)) plan_level(out, g, &levels, high, target, err);
    recompute_levels_free(&levels);
}

brim_status compiled_plan(compiled *out, brim_graph *graph, int64_t micro_batches,
                          const compile_target *target, brim_error *err) {
    brim_graph *g = first_passes(graph, micro_batches, target->owner, err);
    out->micro_batches = micro_batches;
    if (!failed(err) && !plan_with(out, g, NULL, target, err) && !fits(out, target))
        plan_to_fit(out, g, target, err);
    brim_graph_free(g);
    return err->status;
}

brim_status compiled_load(compiled *c, const compile_target *target, brim_error *err) {
    c->inputs = brim_calloc_array((size_t)c->micro_batches, (size_t)c->lowered.slot_bytes, err);
    c->fed = brim_calloc_array((size_t)c->lowered.inputs, sizeof *c->fed, err);
    if (failed(err)) return err->status;
    return target->backend->load(target->device, c->lowered.program, &c->loaded, err);
}

void compiled_free(compiled *c, const backend *b) {
    if (c->loaded) b->unload(c->loaded);
    lowered_free(&c->lowered);
    forget_plan(c);
    free(c->inputs);
    free(c->fed);
    *c = (compiled){0};
}

brim_status compiled_feed(compiled *c, const char *input, const void *data, size_t bytes,
                          brim_error *err) {
    if (failed(err)) return err->status;
    for (int i = 0; i < c->lowered.inputs; i++) {
        const staging_place *place = &c->lowered.input[i];
        if (strcmp(c->graph->value[place->value].name, input) != 0) continue;
        size_t each = (size_t)place->bytes, wanted = each * (size_t)c->micro_batches;
        if (bytes != wanted)
            return brim_fail(
                err, BRIM_SHAPE,
                "input \"%s\" was fed %zu bytes; expected %zu (%lld micro-batches of %zu)", input,
                bytes, wanted, (long long)c->micro_batches, each);
        for (int64_t m = 0; m < c->micro_batches; m++)
            memcpy(c->inputs + m * c->lowered.slot_bytes + place->offset,
                   (const char *)data + (size_t)m * each, each);
        c->fed[i] = true;
        return BRIM_OK;
    }
    return brim_fail(err, BRIM_ARGUMENT, "there is no input named \"%s\"", input);
}

static brim_status check_fed(compiled *c, brim_error *err) {
    for (int i = 0; i < c->lowered.inputs; i++)
        if (!c->fed[i])
            return brim_fail(err, BRIM_ARGUMENT, "input \"%s\" was not fed before the step",
                             c->graph->value[c->lowered.input[i].value].name);
    memset(c->fed, 0, (size_t)c->lowered.inputs * sizeof *c->fed);
    return BRIM_OK;
}

static void write_control(uint8_t *block, const control_values *v, int32_t micro_batch) {
    const float reals[] = {[CONTROL_LR] = v->lr,
                           [CONTROL_LOSS_SCALE] = v->loss_scale,
                           [CONTROL_BIAS1] = v->bias1,
                           [CONTROL_BIAS2] = v->bias2};
    const int32_t integers[] = {v->seed, v->step, micro_batch};
    _Static_assert(CONTROL_SEED == 4 && CONTROL_STEP == 5 && CONTROL_MICRO == 6,
                   "order of the block");
    memcpy(block, reals, sizeof reals);
    memcpy(block + sizeof reals, integers, sizeof integers);
}

static uint8_t section_of(int64_t micro_batch, int64_t micro_batches) {
    if (micro_batch == micro_batches - 1) return SECTION_LAST;
    return micro_batch == 0 ? SECTION_FIRST : SECTION_MIDDLE;
}

brim_status compiled_run(compiled *c, const compile_target *target, const control_values *control,
                         brim_error *err) {
    if (failed(err) || check_fed(c, err)) return err->status;
    uint8_t *host = target->backend->host_memory(target->device);
    for (int64_t m = 0; m < c->micro_batches; m++)
        write_control(c->inputs + m * c->lowered.slot_bytes + c->lowered.control_offset, control,
                      (int32_t)m);
    memcpy(host + c->lowered.staging, c->inputs, (size_t)(c->micro_batches * c->lowered.slot_bytes));
    for (int64_t m = 0; m < c->micro_batches; m++)
        if (target->backend->run(c->loaded, section_of(m, c->micro_batches), (int32_t)m, err))
            return err->status;
    return target->backend->wait(target->device, err);
}

const void *compiled_result(const compiled *c, const compile_target *target, const char *name,
                            const graph_value **value) {
    for (int i = 0; i < c->lowered.results; i++) {
        const graph_value *v = &c->graph->value[c->lowered.result[i].value];
        if (!v->name || strcmp(v->name, name) != 0) continue;
        if (value) *value = v;
        return (const uint8_t *)target->backend->host_memory(target->device) + c->lowered.staging +
               c->lowered.result[i].offset;
    }
    return NULL;
}

value_id compiled_variable(const compiled *c, const char *name) {
    for (value_id id = 0; id < c->graph->values; id++) {
        const graph_value *v = &c->graph->value[id];
        if (v->role != ROLE_RESULT && v->role != ROLE_INPUT && v->name &&
            strcmp(v->name, name) == 0)
            return id;
    }
    return -1;
}

static brim_status write_leaf(const compiled *c, const compile_target *target, value_id id,
                              const void *data, size_t bytes, brim_error *err) {
    return target->backend->write(target->device, c->plan.storage[id].offset, data, (int64_t)bytes,
                                  err);
}

static brim_status write_copy(const compiled *c, const compile_target *target, value_id copy,
                              const float *data, brim_error *err) {
    const graph_value *v = &c->graph->value[copy];
    size_t count = (size_t)shape_elements(&v->shape), bytes = count * brim_dtype_bytes(v->dtype);
    void *rounded = brim_calloc_array(bytes, 1, err);
    if (!rounded) return err->status;
    dtype_from_f32(v->dtype, data, rounded, count);
    write_leaf(c, target, copy, rounded, bytes, err);
    free(rounded);
    return err->status;
}

brim_status compiled_write_variable(const compiled *c, const compile_target *target, value_id id,
                                    const void *data, brim_error *err) {
    const graph_value *v = &c->graph->value[id];
    value_id copy = v->role == ROLE_PARAMETER ? compute_copy_of(c->graph, id) : -1;
    size_t bytes = (size_t)shape_elements(&v->shape) * sizeof(float);
    if (write_leaf(c, target, id, data, bytes, err) || copy < 0) return err->status;
    return write_copy(c, target, copy, data, err);
}
