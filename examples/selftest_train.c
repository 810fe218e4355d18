#include "examples/selftest_train.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "examples/gpt.h"

enum { STEPS = 20, BATCH = 6, LENGTH = 37, ACCUMULATE = 2, SYMBOLS = 53 };

// What a run leaves behind.
typedef struct trained {
    double loss[STEPS], norm[STEPS], seconds;
    float *parameters; // one after another
    size_t elements;
} trained;

// Each sequence counts up from its own start by its own step, modulo the number of symbols.
static void make_sequences(int step, int32_t *tokens, int32_t *targets) {
    for (int row = 0; row < ACCUMULATE * BATCH; row++) {
        int start = (step * 31 + row * 17) % SYMBOLS, rise = 1 + row % 3;
        for (int t = 0; t < LENGTH; t++) {
            tokens[row * LENGTH + t] = (start + t * rise) % SYMBOLS;
            targets[row * LENGTH + t] = (start + (t + 1) * rise) % SYMBOLS;
        }
    }
}

static void run_steps(brim_trainer *trainer, trained *out, brim_error *err) {
    static int32_t tokens[ACCUMULATE * BATCH * LENGTH], targets[ACCUMULATE * BATCH * LENGTH];
    brim_step_result r = {0};
    for (int step = 0; step < STEPS && !err->status; step++) {
        make_sequences(step, tokens, targets);
        brim_trainer_feed(trainer, "tokens", tokens, sizeof tokens, err);
        brim_trainer_feed(trainer, "targets", targets, sizeof targets, err);
        brim_trainer_step(trainer, &r, err);
        out->loss[step] = r.loss, out->norm[step] = r.grad_norm;
        if (step == 1 || r.seconds < out->seconds) out->seconds = r.seconds;
    }
}

static void read_parameters(brim_trainer *trainer, trained *out, brim_error *err) {
    brim_tensor_info info;
    size_t total = 0;
    for (int i = 0; brim_trainer_tensor_info(trainer, i, &info); i++)
        total += (size_t)info.elements;
    out->parameters = malloc(total * sizeof *out->parameters);
    for (int i = 0; out->parameters && brim_trainer_tensor_info(trainer, i, &info); i++) {
        brim_trainer_read(trainer, info.name, out->parameters + out->elements,
                          (size_t)info.elements, err);
        out->elements += (size_t)info.elements;
    }
}

static void train(const char *device, brim_precision precision, bool no_fusion, trained *out,
                  brim_error *err) {
    model_config config = {.vocabulary = SYMBOLS,
                           .positions = LENGTH,
                           .width = 48,
                           .layers = 2,
                           .heads = 3,
                           .dropout = 0.1,
                           .norm_eps = 1e-5};
    brim_trainer *trainer = brim_trainer_create(
        gpt_build, &config,
        &(brim_trainer_options){
            .batch = BATCH,
            .length = LENGTH,
            .accumulate = ACCUMULATE,
            .device = device,
            .precision = precision,
            .optimizer = {.kind = BRIM_ADAMW, .lr = 3e-3f, .weight_decay = 0.1f, .clip = 1},
            .schedule = {.kind = BRIM_COSINE, .warmup = 4, .steps = STEPS},
            .seed = 1,
            .no_fusion = no_fusion,
        },
        err);
    run_steps(trainer, out, err);
    if (!err->status) read_parameters(trainer, out, err);
    brim_trainer_free(trainer);
}

static bool same(const trained *a, const trained *b) {
    return memcmp(a->loss, b->loss, sizeof a->loss) == 0 &&
           memcmp(a->norm, b->norm, sizeof a->norm) == 0 && a->elements == b->elements &&
           a->parameters && b->parameters &&
           memcmp(a->parameters, b->parameters, a->elements * sizeof *a->parameters) == 0;
}

static void judge(const trained run[3], selftest_training *out) {
    out->first_loss = run[0].loss[0], out->last_loss = run[0].loss[STEPS - 1];
    out->step_seconds = run[0].seconds;
    for (int i = 0; i < STEPS; i++) {
        if (isfinite(run[0].loss[i])) continue;
        snprintf(out->problem, sizeof out->problem, "the loss of step %d is %g", i + 1,
                 run[0].loss[i]);
        return;
    }
    if (!(out->last_loss < 0.9 * out->first_loss))
        snprintf(out->problem, sizeof out->problem, "the loss does not fall");
    else if (!same(&run[0], &run[1]))
        snprintf(out->problem, sizeof out->problem, "two runs alike differ in their bits");
    else if (!same(&run[0], &run[2]))
        snprintf(out->problem, sizeof out->problem,
                 "runs with and without fusion differ in their bits");
}

void selftest_train(const char *device, brim_precision precision, selftest_training *out) {
    *out = (selftest_training){.first_loss = NAN, .last_loss = NAN, .step_seconds = NAN};
    trained run[3] = {0};
    brim_error err = {0};
    for (int i = 0; i < 3 && !err.status; i++) train(device, precision, i == 2, &run[i], &err);
    if (err.status)
        snprintf(out->problem, sizeof out->problem, "%s", err.text);
    else
        judge(run, out);
    for (int i = 0; i < 3; i++) free(run[i].parameters);
}
