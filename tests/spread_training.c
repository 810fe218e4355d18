#include "tests/spread_training.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "examples/gpt.h"
#include "optim/trainer.h"

enum { BATCH = 2, LENGTH = 11, ACCUMULATE = 3 };

static void feed(brim_trainer *t, brim_program *next, int step, brim_error *err) {
    int32_t tokens[ACCUMULATE * BATCH * LENGTH], last = step;
    for (int i = 0; i < ACCUMULATE * BATCH * LENGTH; i++)
        tokens[i] = (i * 7 + i * i % 11 + step * 3) % SPREAD_VOCABULARY;
    brim_trainer_feed(t, "tokens", tokens, sizeof tokens, err);
    brim_trainer_feed(t, "targets", tokens, sizeof tokens, err);
    brim_program_feed(next, "tokens", tokens, LENGTH * sizeof *tokens, err);
    brim_program_feed(next, "last", &last, sizeof last, err);
}

static void read_parameters(brim_trainer *t, training_outcome *out, brim_error *err) {
    const brim_graph *g = t->training.graph;
    for (int i = 0; i < t->parameters && !failed(err); i++) {
        const graph_value *v = &g->value[t->parameter[i]];
        size_t count = (size_t)shape_elements(&v->shape);
        if (out->parameters + count > SPREAD_PARAMETERS)
            brim_fail(err, BRIM_MEMORY, "no room for parameter %s", v->name);
        else
            brim_trainer_read(t, v->name, out->parameter + out->parameters, count, err);
        out->parameters += count;
    }
}

// Nothing is reserved or loaded before the first step: until then the device can be another one.
static void replace_device(brim_trainer *t, device_opener *open, void *user) {
    t->target.backend->close(t->target.device);
    t->target.device = NULL;
    t->target.backend = open(&t->target.device, user);
}

training_outcome *spread_training(const char *device, device_opener *open, void *user,
                                  brim_error *err) {
    model_config config = {.vocabulary = SPREAD_VOCABULARY,
                           .positions = LENGTH,
                           .width = 24,
                           .layers = 1,
                           .heads = 2,
                           .dropout = 0.1,
                           .norm_eps = 1e-5};
    brim_trainer_options options = {.batch = BATCH,
                                    .length = LENGTH,
                                    .accumulate = ACCUMULATE,
                                    .device = device,
                                    .seed = 5,
                                    .optimizer = {.lr = 3e-3f, .weight_decay = 0.1f, .clip = 1}};
    training_outcome *out = brim_calloc_array(1, sizeof *out, err);
    brim_trainer *t = brim_trainer_create(gpt_build, &config, &options, err);
    brim_program *next = brim_trainer_program(t, gpt_build_next, &config, 1, LENGTH, err);
    if (open && !failed(err)) replace_device(t, open, user);
    for (int i = 0; i < SPREAD_STEPS && !failed(err); i++) {
        feed(t, next, i, err);
        brim_trainer_step(t, &out->step[i], err);
        brim_program_run(next, NULL, NULL, err);
        brim_program_read(next, "logits", out->logits[i], SPREAD_VOCABULARY, err);
    }
    if (!failed(err)) read_parameters(t, out, err);
    brim_trainer_free(t);
    return out;
}

const char *training_difference(const training_outcome *a, const training_outcome *b) {
    static char text[200];
    text[0] = '\0';
    for (int i = 0; i < SPREAD_STEPS && !*text; i++)
        if (a->step[i].loss != b->step[i].loss || a->step[i].grad_norm != b->step[i].grad_norm)
            snprintf(text, sizeof text, "step %d: loss %.9g and norm %.9g, here %.9g and %.9g",
                     i + 1, a->step[i].loss, a->step[i].grad_norm, b->step[i].loss,
                     b->step[i].grad_norm);
    if (!*text && memcmp(a->logits, b->logits, sizeof a->logits) != 0)
        snprintf(text, sizeof text, "the logits");
    if (!*text && (a->parameters != b->parameters ||
                   memcmp(a->parameter, b->parameter, a->parameters * sizeof(float)) != 0))
        snprintf(text, sizeof text, "the parameters");
    return text;
}
