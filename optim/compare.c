// What another budget, or another step, would give.
#include <stdio.h>
#include <brim/report.h>
#include "optim/micro_batch.h"
#include "optim/trainer.h"
#include "optim/training_graph.h"

// One change, by a factor.
typedef struct change {
    const char *text;
    double vram, ram, step;
} change;
static const change changes[] = {
    {"half as much device memory again", 1.5, 1, 1},
    {"twice the main memory", 1, 2, 1},
    {"steps of twice the tokens", 1, 1, 2},
};
enum { CHANGES = sizeof changes / sizeof *changes };

static int64_t scaled(int64_t bytes, double factor) {
    return (int64_t)((double)bytes * factor);
}

// Tokens a second of the plan with that change; 0 where none fits, and where there is an error.
static double speed_with(const brim_trainer *t, const change *c, brim_error *err) {
    brim_error missing = {0};
    brim_shortfall lacks = {0};
    brim_trainer_options o = t->options;
    compile_target target = t->target;
    target.shortfall = &lacks;
    compiled other = {0};
    o.step_batch = scaled(o.batch * o.accumulate, c->step);
    if (t->batch_chosen)
        o.batch = 0;
    else
        o.accumulate = o.step_batch / o.batch;
    target.budget[SPACE_DEVICE] = scaled(target.budget[SPACE_DEVICE], c->vram);
    target.budget[SPACE_HOST] = scaled(target.budget[SPACE_HOST], c->ram);
    brim_trainer_options first = micro_batch_first(&o);
    brim_graph *g = training_graph(t->build, t->user, &first, &missing);
    if (g) plan_micro_batches(&other, g, t->build, t->user, &o, &target, &missing);
    double seconds = other.choice.expected.seconds;
    compiled_free(&other, target.backend);
    if (failed(&missing) && !shortfall_bytes(&lacks)) *err = missing;
    return failed(&missing) || seconds <= 0 ? 0 : (double)o.step_batch / seconds;
}

void brim_trainer_compare(const brim_trainer *t, FILE *out) {
    if (!t || t->training.choice.expected.seconds <= 0) return;
    double now =
        (double)(t->options.batch * t->options.accumulate) / t->training.choice.expected.seconds;
    for (int i = 0; i < CHANGES; i++) {
        brim_error err = {0};
        double then = speed_with(t, &changes[i], &err);
        if (then > 0)
            fprintf(out, "with %s: %.2f times as many tokens a second\n", changes[i].text,
                    then / now);
        if (failed(&err)) fprintf(out, "with %s: not known: %s\n", changes[i].text, err.text);
    }
}
