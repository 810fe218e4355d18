#include "optim/trainer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <brim/report.h>
#include "backends/paper.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "graph/pass_recompute.h"
#include "optim/initialize.h"
#include "optim/micro_batch.h"
#include "optim/not_finite.h"
#include "optim/training_graph.h"
#include "optim/training_plan.h"

// What the caller's pointers lead to may die before the trainer does.
static void keep_pointed_to(brim_trainer *t, brim_error *err) {
    brim_trainer_options *o = &t->options;
    if (o->device) o->device = arena_strdup(&t->memory, o->device, err);
    if (o->paper) {
        brim_rates *paper = arena_alloc(&t->memory, sizeof *paper, err);
        if (paper) *paper = *o->paper;
        o->paper = paper;
    }
    if (o->group_count == 0) return;
    brim_parameter_group *groups =
        arena_array(&t->memory, (size_t)o->group_count, sizeof *groups, err);
    if (!groups) return;
    memcpy(groups, o->groups, (size_t)o->group_count * sizeof *groups);
    for (int i = 0; i < o->group_count; i++)
        groups[i].pattern = arena_strdup(&t->memory, groups[i].pattern, err);
    o->groups = groups;
}

static brim_status open_device(brim_trainer *t, brim_error *err) {
    const char *name = t->options.device ? t->options.device : "auto";
    compile_target *target = &t->target;
    if (!t->options.paper)
        return backend_open(name, &(device_settings){0}, &target->backend, &target->device, err);
    bool opencl = strcmp(name, "opencl") == 0;
    if (!opencl && strcmp(name, "cuda") != 0 && strcmp(name, "auto") != 0)
        return brim_fail(err, BRIM_ARGUMENT,
                         "device \"%s\": a device on paper is \"cuda\" or \"opencl\"", name);
    return paper_open(t->options.paper, !opencl, &target->backend, &target->device, err);
}

static void list_parameters(brim_trainer *t, brim_error *err) {
    const brim_graph *g = t->training.graph;
    t->parameter = brim_calloc_array((size_t)g->values, sizeof *t->parameter, err);
    if (!t->parameter) return;
    for (value_id id = 0; id < g->values; id++)
        if (g->value[id].role == ROLE_PARAMETER) t->parameter[t->parameters++] = id;
}

brim_trainer *brim_trainer_create(brim_builder build, void *user,
                                  const brim_trainer_options *options, brim_error *err) {
    if (failed(err)) return NULL;
    double start = clock_seconds();
    brim_trainer_options checked = training_options(options, err);
    if (!build) brim_fail(err, BRIM_ARGUMENT, "the builder is NULL");
    brim_trainer *t = brim_calloc(sizeof *t, err);
    if (!t) return NULL;
    t->options = checked;
    t->build = build;
    t->user = user;
    t->batch_chosen = !checked.batch;
    t->progress.scale = loss_scale_start();
    keep_pointed_to(t, err);
    t->target.no_fusion = checked.no_fusion;
    t->target.shortfall = checked.shortfall;

    // The graph first: a mistake in the script is found before a device is looked for.
    brim_trainer_options first = micro_batch_first(&t->options);
    brim_graph *g = training_graph(build, user, &first, err);
    if (g && open_device(t, err)) {
        brim_graph_free(g);
        g = NULL;
    }
    if (g) training_plan(&t->training, g, build, user, &t->options, &t->target, &t->rates, err);
    t->options.rates = NULL; // the caller's
    t->options.shortfall = t->target.shortfall = NULL;
    if (!failed(err)) list_parameters(t, err);
    t->build_seconds = clock_seconds() - start;
    if (failed(err)) {
        brim_trainer_free(t);
        return NULL;
    }
    return t;
}

void brim_trainer_free(brim_trainer *t) {
    if (!t) return;
    if (t->target.device) t->target.backend->finish(t->target.device, &(brim_error){0});
    for (brim_program *p = t->programs, *next; p; p = next) {
        next = p->next;
        compiled_free(&p->compiled, t->target.backend);
        free(p);
    }
    compiled_free(&t->training, t->target.backend);
    if (t->target.device) t->target.backend->close(t->target.device);
    free(t->parameter);
    arena_free(&t->memory);
    free(t);
}

brim_program *brim_trainer_program(brim_trainer *t, brim_builder build, void *user, int64_t batch,
                                   int64_t length, brim_error *err) {
    if (failed(err)) return NULL;
    if (t->prepared) {
        brim_fail(err, BRIM_ARGUMENT,
                  "programs must be added before the first step: its memory is reserved then");
        return NULL;
    }
    brim_program *p = brim_calloc(sizeof *p, err);
    if (!p) return NULL;
    p->trainer = t;
    p->next = t->programs;
    t->programs = p;
    compile_target target = t->target;
    target.owner = &t->training;
    brim_graph *g = forward_graph(build, user, batch, length, false, t->options.precision, err);
    if (g && g->loss.sum >= 0) {
        brim_output(graph_value_of(g, g->loss.sum), "loss.sum");
        brim_output(graph_value_of(g, g->loss.count), "loss.count");
    }
    if (g) compiled_plan(&p->compiled, g, 1, &target, err);
    for (value_id id = 0; !failed(err) && id < p->compiled.graph->values; id++) {
        const graph_value *v = &p->compiled.graph->value[id];
        if (v->role == ROLE_PARAMETER && compiled_variable(&t->training, v->name) < 0)
            brim_fail(err, BRIM_GRAPH,
                      "a program uses parameter \"%s\", which the training graph does not have",
                      v->name);
    }
    return failed(err) ? NULL : p;
}

// ---- preparation --------------------------------------------------------------------------------

static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static int64_t host_bytes(const compiled *c) {
    return c->lowered.program->host_bytes;
}

static brim_status lower_all(brim_trainer *t, brim_error *err) {
    compiled_lower(&t->training, &t->target, err);
    for (brim_program *p = t->programs; p; p = p->next)
        compiled_lower(&p->compiled, &t->target, err);
    return err->status;
}

static brim_status reserve(brim_trainer *t, brim_error *err) {
    int64_t device = t->training.plan.peak_bytes[SPACE_DEVICE], host = host_bytes(&t->training);
    for (brim_program *p = t->programs; p; p = p->next) {
        device = larger(device, p->compiled.plan.peak_bytes[SPACE_DEVICE]);
        host = larger(host, host_bytes(&p->compiled));
    }
    int64_t budget = t->target.budget[SPACE_DEVICE];
    if (budget > 0 && device > budget)
        return brim_fail(err, BRIM_MEMORY,
                         "a program beside the training step needs an arena of %lld bytes; the "
                         "budget allows %lld: %lld bytes are missing",
                         (long long)device, (long long)budget, (long long)(device - budget));
    memory_request request = {.device_bytes = device,
                              .host_bytes = host,
                              .file_bytes = t->training.plan.peak_bytes[SPACE_FILE],
                              .file_directory = t->options.disk};
    return t->target.backend->reserve(t->target.device, &request, err);
}

static brim_status load_all(brim_trainer *t, brim_error *err) {
    double start = clock_seconds();
    compiled_load(&t->training, &t->target, err);
    for (brim_program *p = t->programs; p; p = p->next)
        compiled_load(&p->compiled, &t->target, err);
    t->compile_seconds = clock_seconds() - start;
    return err->status;
}

brim_status brim_trainer_prepare(brim_trainer *t, brim_error *err) {
    if (failed(err) || t->prepared) return err->status;
    double start = clock_seconds();
    if (lower_all(t, err) || reserve(t, err) || load_all(t, err) ||
        compiled_stalls(&t->training, &t->target, &t->measured, err) ||
        initialize_variables(&t->training, &t->target, t->options.seed, err))
        return err->status;
    t->prepared = true;
    t->build_seconds += clock_seconds() - start;
    return BRIM_OK;
}

// ---- steps --------------------------------------------------------------------------------------

brim_status brim_trainer_feed(brim_trainer *t, const char *input, const void *data, size_t bytes,
                              brim_error *err) {
    if (brim_trainer_prepare(t, err)) return err->status;
    return compiled_feed(&t->training, input, data, bytes, err);
}

static float result_f32(const compiled *c, const compile_target *target, const char *name) {
    return *(const float *)compiled_result(c, target, name, NULL);
}

// The queue that kernels waited for longest; QUEUE_COMPUTE: none.
static int longest_wait(const run_stalls *m) {
    int longest = QUEUE_COMPUTE;
    for (int q = QUEUE_COMPUTE + 1; q < QUEUE_COUNT; q++)
        if (m->waited[q] > (longest ? m->waited[longest] : 0)) longest = q;
    return longest;
}

static void report_stalls(const run_stalls *m, brim_step_result *result) {
    int longest = longest_wait(m);
    result->streaming_seconds = m->streaming;
    result->hidden_seconds = m->hidden;
    for (int q = QUEUE_COMPUTE + 1; q < QUEUE_COUNT; q++) result->waited_seconds += m->waited[q];
    result->waited_for = longest ? queue_work[longest] : NULL;
}

static control_values control_of(const brim_trainer *t) {
    const brim_optimizer *o = &t->options.optimizer;
    const training_progress *p = &t->progress;
    double updates = (double)(p->updates + 1);
    bool scaled = t->options.precision == BRIM_PRECISION_F16;
    return (control_values){.lr =
                                (float)brim_schedule_lr(&t->options.schedule, o->lr, p->steps + 1),
                            .loss_scale = scaled ? (float)p->scale.scale : 1,
                            .bias1 = (float)(1 - pow(o->beta1, updates)),
                            .bias2 = (float)(1 - pow(o->beta2, updates)),
                            .seed = (int32_t)(t->options.seed ^ t->options.seed >> 32),
                            .step = (int32_t)(p->steps + 1)};
}

static brim_step_result result_of(const brim_trainer *t, const control_values *control) {
    const compiled *c = &t->training;
    double targets = result_f32(c, &t->target, "loss.count");
    brim_step_result result = {
        .step = t->progress.steps + 1,
        .targets = targets,
        .grad_norm = result_f32(c, &t->target, "grad_norm"),
        .lr =
            brim_schedule_lr(&t->options.schedule, t->options.optimizer.lr, t->progress.steps + 1),
        .loss = targets > 0 ? result_f32(c, &t->target, "loss.sum") / targets : 0,
        .loss_scale = control->loss_scale,
        .skipped = result_f32(c, &t->target, "applied") == 0};
    report_stalls(&t->measured, &result);
    return result;
}

// Finds out why a step changed nothing. Where the script wants to stop, that is an error.
static void explain_skip(brim_trainer *t, brim_step_result *r, brim_error *err) {
    bool scaled = t->options.precision == BRIM_PRECISION_F16;
    if (scaled && isfinite(r->loss) && loss_scale_can_fall(t->progress.scale)) return;
    if (not_finite_find(&t->training, &t->target, t->not_finite, sizeof t->not_finite, err)) return;
    r->not_finite = t->not_finite;
    if (t->options.on_nan == BRIM_NAN_SKIP) return;
    bool loss = !isfinite(r->loss);
    brim_fail(
        err, BRIM_NOT_FINITE,
        "step %lld: the %s is %s, and nothing was changed; the first tensor that went bad is %s",
        (long long)r->step, loss ? "loss" : "gradient's norm",
        not_finite_word(loss ? r->loss : r->grad_norm), t->not_finite);
}

brim_status brim_trainer_step(brim_trainer *t, brim_step_result *result, brim_error *err) {
    double start = clock_seconds();
    if (brim_trainer_prepare(t, err)) return err->status;
    control_values control = control_of(t);
    if (compiled_run(&t->training, &t->target, &control, err) ||
        compiled_stalls(&t->training, &t->target, &t->measured, err))
        return err->status;
    brim_step_result r = result_of(t, &control);
    if (r.skipped) explain_skip(t, &r, err);
    if (failed(err)) return err->status;
    t->progress.steps++;
    t->progress.updates += !r.skipped;
    if (t->options.precision == BRIM_PRECISION_F16)
        t->progress.scale = loss_scale_next(t->progress.scale, r.skipped);
    r.seconds = clock_seconds() - start;
    if (result) *result = r;
    return BRIM_OK;
}

brim_status brim_program_feed(brim_program *p, const char *input, const void *data, size_t bytes,
                              brim_error *err) {
    if (failed(err) || brim_trainer_prepare(p->trainer, err)) return err->status;
    return compiled_feed(&p->compiled, input, data, bytes, err);
}

brim_status brim_program_run(brim_program *p, double *loss_sum, double *loss_count,
                             brim_error *err) {
    if (failed(err) || brim_trainer_prepare(p->trainer, err)) return err->status;
    const compile_target *target = &p->trainer->target;
    if ((loss_sum || loss_count) && p->compiled.graph->loss.sum < 0)
        return brim_fail(err, BRIM_ARGUMENT, "the program's builder returned no loss");
    if (compiled_run(&p->compiled, target, &(control_values){0}, err)) return err->status;
    if (loss_sum) *loss_sum = result_f32(&p->compiled, target, "loss.sum");
    if (loss_count) *loss_count = result_f32(&p->compiled, target, "loss.count");
    return BRIM_OK;
}

// ---- what it runs on ----------------------------------------------------------------------------

brim_trainer_info brim_trainer_describe(const brim_trainer *t) {
    if (!t) return (brim_trainer_info){0};
    const compiled *c = &t->training;
    const device_traits *traits = t->target.backend->traits(t->target.device);
    brim_trainer_info info = {.device = traits->name,
                              .backend = traits->backend,
                              .device_bytes = c->plan.peak_bytes[SPACE_DEVICE],
                              .persistent_bytes = c->plan.persistent_bytes[SPACE_DEVICE],
                              .overhead_bytes = t->target.overhead_bytes,
                              .batch = t->options.batch,
                              .accumulate = t->options.accumulate,
                              .host_bytes = c->plan.peak_bytes[SPACE_HOST],
                              .file_bytes = c->plan.peak_bytes[SPACE_FILE],
                              .steps = t->progress.steps,
                              .expected_seconds = c->choice.expected.seconds,
                              .build_seconds = t->build_seconds,
                              .compile_seconds = t->compile_seconds};
    for (const brim_program *p = t->programs; p; p = p->next)
        info.device_bytes = larger(info.device_bytes, p->compiled.plan.peak_bytes[SPACE_DEVICE]);
    for (int i = 0; i < t->parameters; i++) {
        const graph_value *v = &c->graph->value[t->parameter[i]];
        int64_t elements = shape_elements(&v->shape);
        info.parameters += elements;
        if (v->update >= 0) info.trained += elements;
    }
    for (node_id n = 0; n < c->graph->nodes; n++)
        info.recomputed +=
            c->graph->node[n].recomputed && recompute_cost_of(&c->graph->node[n]) != RECOMPUTE_FREE;
    if (c->lowered.program) {
        info.host_bytes = host_bytes(c);
        info.staging_bytes = info.host_bytes - c->lowered.staging;
        info.records = c->lowered.program->records;
        info.kernels = c->lowered.program->kernels;
    }
    if (t->prepared) {
        const char *warning = t->target.backend->warning(t->target.device);
        info.pinned_bytes = t->target.backend->pinned_bytes(t->target.device);
        info.warning = *warning ? warning : NULL;
    }
    return info;
}

void brim_trainer_print(const brim_trainer *t, FILE *out) {
    if (!t) return;
    memory_plan_print(t->training.graph, &t->training.plan, out);
    if (t->training.lowered.program) program_print(t->training.lowered.program, out);
}
