#include "optim/compiled.h"

#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "core/dtype.h"
#include "graph/passes.h"
#include "optim/plan_search.h"
#include "optim/variant.h"

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

// A program that shares another's variables: there is nothing to choose but how far ahead copies
// come.
static void plan_shared(compiled *out, const brim_graph *g, const compile_target *target,
                        brim_error *err) {
    enum { AHEAD_SHARE = 8 };
    variant v;
    if (variant_make(&v, g, NULL, target, err)) return;
    int64_t ahead = target->budget[SPACE_DEVICE] / AHEAD_SHARE;
    variant_plan(&v, target, NULL, ahead, false, &out->plan, err);
    if (!failed(err) && !memory_plan_is_within(&out->plan, target->budget)) {
        memory_plan_free(&out->plan);
        variant_plan(&v, target, NULL, 0, false, &out->plan, err);
    }
    out->graph = v.graph;
    out->schedule = v.schedule;
    out->layout = v.layout;
    v.graph = NULL;
    v.schedule = (graph_schedule){0};
    v.layout = (graph_layout){0};
    variant_free(&v);
}

brim_status compiled_plan(compiled *out, brim_graph *graph, int64_t micro_batches,
                          const compile_target *target, brim_error *err) {
    brim_graph *g = first_passes(graph, micro_batches, target->owner, err);
    out->micro_batches = micro_batches;
    if (!failed(err) && target->owner)
        plan_shared(out, g, target, err);
    else if (!failed(err))
        plan_search(out, g, target, err);
    brim_graph_free(g);
    return err->status;
}

brim_status compiled_lower(compiled *c, const compile_target *target, brim_error *err) {
    if (c->lowered.program || failed(err)) return err->status;
    return lower_graph(c->graph, &c->layout, &c->schedule, &c->plan, (int32_t)c->micro_batches,
                       target->backend, target->device, &c->lowered, err);
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
    memory_plan_free(&c->plan);
    graph_layout_free(&c->layout);
    graph_schedule_free(&c->schedule);
    brim_graph_free(c->graph);
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

// The inputs fed and the control block of every micro-batch, to the staging area.
static void stage(const compiled *c, const compile_target *target, const control_values *control) {
    uint8_t *host = target->backend->host_memory(target->device);
    for (int64_t m = 0; m < c->micro_batches; m++)
        write_control(c->inputs + m * c->lowered.slot_bytes + c->lowered.control_offset, control,
                      (int32_t)m);
    memcpy(host + c->lowered.staging, c->inputs,
           (size_t)(c->micro_batches * c->lowered.slot_bytes));
}

brim_status compiled_run(compiled *c, const compile_target *target, const control_values *control,
                         brim_error *err) {
    if (failed(err) || check_fed(c, err)) return err->status;
    stage(c, target, control);
    for (int64_t m = 0; m < c->micro_batches && !failed(err); m++)
        target->backend->run(c->loaded, section_of(m, c->micro_batches), (int32_t)m, err);
    if (!failed(err)) target->backend->wait(target->device, err);
    return device_named(target->backend, target->device, err);
}

brim_status compiled_step_through(const compiled *c, const compile_target *target,
                                  int64_t micro_batch, const record_watcher *watcher,
                                  brim_error *err) {
    if (failed(err)) return err->status;
    target->backend->step_through(c->loaded, section_of(micro_batch, c->micro_batches),
                                  (int32_t)micro_batch, watcher, err);
    return device_named(target->backend, target->device, err);
}

brim_status compiled_stalls(const compiled *c, const compile_target *target, run_stalls *out,
                            brim_error *err) {
    *out = (run_stalls){0};
    return target->backend->stalls ? target->backend->stalls(c->loaded, out, err) : err->status;
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

byte_range compiled_range(const compiled *c, value_id id) {
    const storage_place *home = &c->plan.storage[id];
    return (byte_range){home->space, home->offset, home->bytes};
}

static brim_status write_leaf(const compiled *c, const compile_target *target, value_id id,
                              const void *data, size_t bytes, brim_error *err) {
    byte_range range = compiled_range(c, id);
    range.bytes = (int64_t)bytes;
    return device_write_range(target->backend, target->device, &range, data, err);
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
