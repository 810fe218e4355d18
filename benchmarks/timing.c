#include "benchmarks/timing.h"

#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "core/dtype.h"

brim_status timed_graph_plan(timed_graph *x, brim_graph *g, const compile_target *target,
                             brim_error *err) {
    compiled *c = &x->compiled;
    if (compiled_plan(c, g, 1, target, err)) return err->status;
    return lower_graph(c->graph, &c->layout, &c->schedule, &c->plan, 1, target->backend,
                       target->device, &c->lowered, err);
}

int64_t timed_graph_device_bytes(const timed_graph *x) {
    return x->compiled.plan.peak_bytes[SPACE_DEVICE];
}

int64_t timed_graph_host_bytes(const timed_graph *x) {
    return x->compiled.lowered.program ? x->compiled.lowered.program->host_bytes : 0;
}

static int64_t bytes_of(const graph_value *v) {
    return shape_elements(&v->shape) * (int64_t)brim_dtype_bytes(v->dtype);
}

static void fill_leaf(timed_graph *x, const compile_target *target, value_id id, leaf_filler fill,
                      void *user, brim_error *err) {
    compiled *c = &x->compiled;
    const graph_value *v = &c->graph->value[id];
    if (v->role == ROLE_RESULT || v->role == ROLE_CONTROL) return;
    int64_t bytes = bytes_of(v);
    void *data = brim_calloc_array((size_t)bytes, 1, err);
    if (!data) return;
    fill(v, id, data, user);
    if (v->role == ROLE_INPUT)
        compiled_feed(c, v->name, data, (size_t)bytes, err);
    else
        target->backend->write(target->device, c->plan.storage[id].offset, data, bytes, err);
    free(data);
}

brim_status timed_graph_load(timed_graph *x, const compile_target *target, leaf_filler fill,
                             void *user, brim_error *err) {
    compiled *c = &x->compiled;
    if (compiled_load(c, target, err)) return err->status;
    x->record = brim_calloc_array((size_t)c->lowered.program->records, sizeof *x->record, err);
    for (value_id id = 0; id < c->graph->values && !failed(err); id++)
        fill_leaf(x, target, id, fill, user, err);
    control_values control = {
        .lr = 1e-4f, .loss_scale = 1, .bias1 = 0.5f, .bias2 = 0.5f, .step = 1};
    return compiled_run(c, target, &control, err);
}

brim_status timed_graph_seconds(timed_graph *x, const compile_target *target, double *seconds,
                                brim_error *err) {
    compiled *c = &x->compiled;
    if (failed(err)) return err->status;
    // Other graphs use the same staging area.
    memcpy((uint8_t *)target->backend->host_memory(target->device) + c->lowered.staging, c->inputs,
           (size_t)c->lowered.slot_bytes);
    if (target->backend->profile(c->loaded, SECTION_LAST, x->record, err)) return err->status;
    const program *p = c->lowered.program;
    *seconds = 0;
    for (int32_t i = 0; i < p->records; i++)
        if (p->record[i].node >= 0) *seconds += x->record[i];
    return BRIM_OK;
}

void timed_graph_free(timed_graph *x, const compile_target *target) {
    compiled_free(&x->compiled, target->backend);
    free(x->record);
    *x = (timed_graph){0};
}

void fill_plain(const graph_value *leaf, value_id id, void *out, void *user) {
    (void)id, (void)user;
    if (leaf->dtype == BRIM_I32) return;
    size_t width = brim_dtype_bytes(leaf->dtype);
    uint32_t state = 1;
    for (int64_t i = 0, count = shape_elements(&leaf->shape); i < count; i++) {
        state = state * 1664525u + 1013904223u;
        float number = (float)(state >> 8) / 16777216.0f - 0.5f;
        dtype_from_f32(leaf->dtype, &number, (char *)out + (size_t)i * width, 1);
    }
}
