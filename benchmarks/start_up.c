#include "benchmarks/start_up.h"

#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "core/clock.h"
#include "optim/initialize.h"
#include "optim/training_graph.h"

static double lap(double *since) {
    double now = clock_seconds(), seconds = now - *since;
    *since = now;
    return seconds;
}

static brim_graph *make_graph(const start_options *o, brim_error *err) {
    brim_trainer_options given = {.batch = o->batch,
                                  .length = o->length,
                                  .accumulate = o->accumulate,
                                  .precision = o->precision,
                                  .optimizer = {.kind = BRIM_ADAMW,
                                                .lr = 6e-4f,
                                                .beta2 = 0.95f,
                                                .weight_decay = 0.1f,
                                                .clip = 1},
                                  .schedule = {.kind = BRIM_COSINE, .steps = 1000}};
    brim_trainer_options checked = training_options(&given, err);
    return training_graph(model_build, (void *)&o->config, &checked, err);
}

static void feed(training_run *t, const start_options *o, const char *input, uint32_t state,
                 brim_error *err) {
    size_t count = (size_t)(o->batch * o->length * o->accumulate);
    int32_t *tokens = brim_calloc_array(count, sizeof *tokens, err);
    for (size_t i = 0; tokens && i < count; i++) {
        state = state * 1664525u + 1013904223u;
        tokens[i] = (int32_t)((state >> 8) % (uint32_t)o->config.vocabulary);
    }
    if (tokens) compiled_feed(&t->compiled, input, tokens, count * sizeof *tokens, err);
    free(tokens);
}

// The step is run again and again with these values: so small a rate leaves the loss finite.
static void first_step(training_run *t, const start_options *o, brim_error *err) {
    feed(t, o, "tokens", 1, err);
    feed(t, o, "targets", 2, err);
    control_values control = {.lr = 1e-6f, .loss_scale = 1, .bias1 = 1, .bias2 = 1, .step = 1};
    compiled_run(&t->compiled, &t->target, &control, err);
}

static void lower_and_load(training_run *t, const start_options *o, start_times *times,
                           double *since, brim_error *err) {
    compiled *c = &t->compiled;
    compile_target *target = &t->target;
    compiled_lower(c, target, err);
    times->lower = lap(since);
    if (failed(err)) return;
    memory_request request = {.device_bytes = c->plan.peak_bytes[SPACE_DEVICE] + o->spare_device,
                              .host_bytes = c->lowered.program->host_bytes + o->spare_host,
                              .file_bytes = c->plan.peak_bytes[SPACE_FILE],
                              .file_directory = o->disk};
    target->backend->reserve(target->device, &request, err);
    times->reserve = lap(since);
    compiled_load(c, target, err);
    times->load = lap(since);
}

brim_status start_up(const start_options *o, training_run *t, start_times *times, brim_error *err) {
    *t = (training_run){
        .target = {.no_fusion = o->no_fusion, .rates = o->rates, .forced = o->forced}};
    memcpy(t->target.budget, o->budget, sizeof o->budget);
    *times = (start_times){0};
    double start = clock_seconds(), since = start;
    backend_open(o->device ? o->device : "auto", &(device_settings){0}, &t->target.backend,
                 &t->target.device, err);
    times->open = lap(&since);
    brim_graph *g = make_graph(o, err);
    times->graph = lap(&since);
    if (g) compiled_plan(&t->compiled, g, o->accumulate, &t->target, err);
    times->plan = lap(&since);
    if (!failed(err)) lower_and_load(t, o, times, &since, err);
    initialize_variables(&t->compiled, &t->target, 1, err);
    times->variables = lap(&since);
    times->until_step = since - start;
    if (!failed(err)) first_step(t, o, err);
    times->first = lap(&since);
    return err->status;
}

void training_run_free(training_run *t) {
    if (!t->target.device) return;
    compiled_free(&t->compiled, t->target.backend);
    t->target.backend->close(t->target.device);
    *t = (training_run){0};
}

uint8_t training_section(const training_run *t, int64_t i) {
    if (i == t->compiled.micro_batches - 1) return SECTION_LAST;
    return i == 0 ? SECTION_FIRST : SECTION_MIDDLE;
}

void training_stage(training_run *t) {
    memcpy(
        (uint8_t *)t->target.backend->host_memory(t->target.device) + t->compiled.lowered.staging,
        t->compiled.inputs, (size_t)(t->compiled.micro_batches * t->compiled.lowered.slot_bytes));
}

brim_status training_step(training_run *t, double *submitted, double *seconds, brim_error *err) {
    double start = clock_seconds();
    for (int64_t i = 0; i < t->compiled.micro_batches; i++)
        if (t->target.backend->run(t->compiled.loaded, training_section(t, i), (int32_t)i, err))
            return err->status;
    *submitted = clock_seconds() - start;
    t->target.backend->wait(t->target.device, err);
    *seconds = clock_seconds() - start;
    return err->status;
}
