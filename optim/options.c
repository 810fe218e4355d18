#include <fnmatch.h>
#include <math.h>
#include "core/error.h"
#include "optim/training_graph.h"

typedef struct range {
    const char *field;
    double value, low, high;
} range;

static void check_ranges(const range *ranges, int count, brim_error *err) {
    for (int i = 0; i < count; i++) {
        const range *r = &ranges[i];
        if (!(r->value >= r->low && r->value <= r->high))
            brim_fail(err, BRIM_ARGUMENT, "options.%s is %g; expected %g to %g", r->field, r->value,
                      r->low, r->high);
    }
}

static void check_groups(const brim_trainer_options *o, brim_error *err) {
    if (o->group_count < 0 || (o->group_count > 0 && !o->groups)) {
        brim_fail(err, BRIM_ARGUMENT, "options.group_count is %d, but options.groups is %s",
                  o->group_count, o->groups ? "set" : "NULL");
        return;
    }
    for (int i = 0; i < o->group_count; i++) {
        const brim_parameter_group *g = &o->groups[i];
        if (!g->pattern)
            brim_fail(err, BRIM_ARGUMENT,
                      "options.groups[%d].pattern is NULL; expected a name pattern", i);
        else if (!(g->lr_scale >= 0 && isfinite(g->lr_scale)) ||
                 !(g->weight_decay >= 0 && isfinite(g->weight_decay)))
            brim_fail(
                err, BRIM_ARGUMENT,
                "options.groups[%d] (\"%s\"): lr_scale %g and weight_decay %g; expected 0 or more",
                i, g->pattern, g->lr_scale, g->weight_decay);
    }
}

// Batch and accumulate from what is given of them and of step_batch. Where only that is, batch
// stays 0: the planner chooses.
static void cut_step(brim_trainer_options *o, brim_error *err) {
    int64_t given = o->batch ? o->batch : o->accumulate;
    bool both = o->batch && o->accumulate, fits = given <= 0 || o->step_batch % given == 0;
    if (o->step_batch < 0 || (o->step_batch && !fits) ||
        (o->step_batch && both && o->batch * o->accumulate != o->step_batch))
        brim_fail(err, BRIM_ARGUMENT,
                  "options.step_batch is %lld, with batch %lld and accumulate %lld; expected their "
                  "product",
                  (long long)o->step_batch, (long long)o->batch, (long long)o->accumulate);
    else if (o->step_batch && !both && given > 0)
        *(o->batch ? &o->accumulate : &o->batch) = o->step_batch / given;
    else if (!o->step_batch && o->batch == 0)
        o->batch = 1;
    if (o->accumulate == 0) o->accumulate = 1;
}

brim_trainer_options training_options(const brim_trainer_options *given, brim_error *err) {
    brim_trainer_options o = given ? *given : (brim_trainer_options){0};
    brim_optimizer *p = &o.optimizer;
    cut_step(&o, err);
    if (p->lr == 0) p->lr = p->kind == BRIM_SGD ? 1e-2f : 1e-3f;
    if (p->beta1 == 0) p->beta1 = 0.9f;
    if (p->beta2 == 0) p->beta2 = 0.999f;
    if (p->eps == 0) p->eps = 1e-8f;

    const double most = 1099511627776.0; // 2^40: no count of a script is larger
    const range ranges[] = {
        {"batch", (double)o.batch, o.step_batch ? 0 : 1, most},
        {"step_batch", (double)o.step_batch, 0, most},
        {"length", (double)o.length, 0, most},
        {"accumulate", (double)o.accumulate, 1, 1 << 20},
        {"vram_bytes", (double)o.vram_bytes, 0, 4503599627370496.0},
        {"ram_bytes", (double)o.ram_bytes, 0, 4503599627370496.0},
        {"disk_bytes", (double)o.disk_bytes, 0, 4503599627370496.0},
        {"precision", (double)o.precision, BRIM_PRECISION_F32, BRIM_PRECISION_F16},
        {"on_nan", (double)o.on_nan, BRIM_NAN_STOP, BRIM_NAN_SKIP},
        {"optimizer.kind", (double)p->kind, BRIM_ADAMW, BRIM_SGD},
        {"optimizer.states", (double)p->states, BRIM_STATES_F32,
         p->kind == BRIM_ADAMW ? BRIM_STATES_Q8 : BRIM_STATES_F32},
        {"optimizer.lr", p->lr, 0, 1e6},
        {"optimizer.beta1", p->beta1, 0, 0.99999994},
        {"optimizer.beta2", p->beta2, 0, 0.99999994},
        {"optimizer.eps", p->eps, 0, 1},
        {"optimizer.momentum", p->momentum, 0, 0.99999994},
        {"optimizer.weight_decay", p->weight_decay, 0, 1e6},
        {"optimizer.clip", p->clip, 0, 1e30},
        {"schedule.kind", (double)o.schedule.kind, BRIM_CONSTANT, BRIM_COSINE},
        {"schedule.warmup", (double)o.schedule.warmup, 0, most},
        {"schedule.steps", (double)o.schedule.steps, 0, most},
        {"schedule.min_lr", o.schedule.min_lr, 0, 1e6},
    };
    check_ranges(ranges, (int)(sizeof ranges / sizeof *ranges), err);
    check_groups(&o, err);
    return o;
}

parameter_rule training_parameter_rule(const brim_trainer_options *options, const char *name,
                                       int rank) {
    // As GPT-2 and its successors are trained: decay matrices, not biases and gains.
    parameter_rule rule = {.lr_scale = 1, .decay = rank >= 2 ? options->optimizer.weight_decay : 0};
    for (int i = options->group_count - 1; i >= 0; i--) {
        const brim_parameter_group *g = &options->groups[i];
        if (fnmatch(g->pattern, name, 0) != 0) continue;
        rule.frozen = g->frozen;
        if (g->lr_scale > 0) rule.lr_scale = g->lr_scale;
        if (g->set_weight_decay) rule.decay = g->weight_decay;
        break;
    }
    return rule;
}

// Smaller tensors, mostly biases and gains, take little memory and feel each error.
enum { LEAST_QUANTISED = 4096 };

optimizer_layout optimizer_states(const brim_optimizer *optimizer, int64_t elements) {
    static const optimizer_layout adamw = {
        OP_ADAMW, 2, {{"m", STATE_LIKE_PARAMETER}, {"v", STATE_LIKE_PARAMETER}}};
    static const optimizer_layout adamw_q8 = {OP_ADAMW_Q8,
                                              4,
                                              {{"m.codes", STATE_CODES},
                                               {"m.scales", STATE_SCALES},
                                               {"v.codes", STATE_CODES},
                                               {"v.scales", STATE_SCALES}}};
    static const optimizer_layout sgd = {OP_SGD, 1, {{"m", STATE_LIKE_PARAMETER}}};
    if (optimizer->kind == BRIM_SGD) return sgd;
    return optimizer->states == BRIM_STATES_Q8 && elements >= LEAST_QUANTISED ? adamw_q8 : adamw;
}
