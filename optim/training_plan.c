#include "optim/training_plan.h"

#include <stdio.h>
#include <string.h>
#include "optim/budget.h"
#include "optim/measure.h"
#include "optim/micro_batch.h"
#include "optim/training_graph.h"

typedef struct planning {
    compiled *out;
    brim_builder build;
    void *user;
    brim_trainer_options *options;
    const compile_target *target;
    brim_error *err;
} planning;

static bool stays_on_device(const plan_choice *c) {
    const homes_choice *h = &c->homes;
    return !c->level && !h->hosted && !h->streamed && !h->gradients && !h->offloaded;
}

static void plan_again(planning *p, const brim_trainer_options *options) {
    compiled_free(p->out, p->target->backend);
    *p->options = *options;
    brim_trainer_options first = micro_batch_first(options);
    brim_graph *g = failed(p->err) ? NULL : training_graph(p->build, p->user, &first, p->err);
    if (g) plan_micro_batches(p->out, g, p->build, p->user, p->options, p->target, p->err);
}

// A choice that was made by what such devices usually do is made again by what this one does.
static void plan_by_measured(planning *p, const brim_trainer_options *given, brim_rates *rates) {
    const compile_target *t = p->target;
    brim_rates usual = *rates;
    // Measuring keeps to the budget, too; where the device is the host, it is gone before training.
    int64_t most = t->backend->traits(t->device)->cpu ? 0 : t->budget[SPACE_DEVICE];
    measure_rates(given->device ? given->device : "auto", &usual, most, rates, p->err);
    if (given->disk) measure_disk(given->disk, rates, p->err);
    plan_again(p, given);
}

// 8-bit states change results: they are never chosen, only named.
static void name_what_would_fit(planning *p, const brim_trainer_options *given) {
    if (given->optimizer.kind != BRIM_ADAMW || given->optimizer.states != BRIM_STATES_F32) return;
    brim_error missing = {0};
    brim_trainer_options small = *given, options = *given;
    compiled other = {0};
    compile_target target = *p->target;
    target.shortfall = NULL; // stays that of what was asked for
    planning q = *p;
    q.target = &target;
    small.optimizer.states = BRIM_STATES_Q8;
    q.out = &other;
    q.options = &options;
    q.err = &missing;
    plan_again(&q, &small);
    compiled_free(&other, p->target->backend);
    if (failed(&missing)) return;
    size_t used = strlen(p->err->text);
    snprintf(p->err->text + used, sizeof p->err->text - used,
             "; it would fit with optimizer states in 8 bits (--states q8)");
}

brim_status training_plan(compiled *out, brim_graph *first, brim_builder build, void *user,
                          brim_trainer_options *options, compile_target *target, brim_rates *rates,
                          brim_error *err) {
    const brim_trainer_options given = *options;
    const brim_rates *known = given.paper ? given.paper : given.rates;
    planning p = {out, build, user, options, target, err};
    brim_shortfall lacks = {0}, *wanted = target->shortfall;
    target->shortfall = &lacks;
    *rates = known ? *known : budget_usual_rates(target->backend->traits(target->device));
    target->rates = rates;
    budget_set(target, options, err);
    plan_micro_batches(out, first, build, user, options, target, err);
    if (!failed(err) && !known && !(given.batch && stays_on_device(&out->choice)))
        plan_by_measured(&p, &given, rates);
    bool none_fits = err->status == BRIM_MEMORY && shortfall_bytes(&lacks) > 0;
    if (none_fits) name_what_would_fit(&p, &given);
    if (none_fits && wanted) *wanted = lacks;
    target->shortfall = wanted;
    return err->status;
}
