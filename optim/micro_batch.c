#include "optim/micro_batch.h"

#include "optim/training_graph.h"

brim_trainer_options micro_batch_first(const brim_trainer_options *options) {
    brim_trainer_options first = *options;
    if (first.batch) return first;
    first.batch = first.step_batch;
    first.accumulate = 1;
    return first;
}

// The largest divisor of a step that is no more than `most`.
static int64_t divisor(int64_t step, int64_t most) {
    while (step % most) most--;
    return most;
}

typedef struct chooser {
    compiled *best;
    brim_trainer_options *options; // of the best; batch 0 while there is none
    const compile_target *target;
    brim_error why; // of the size that came closest to fitting
    brim_shortfall lacks;
    int slower; // sizes in a row that were
} chooser;

int64_t shortfall_bytes(const brim_shortfall *s) {
    return s->vram_missing + s->ram_missing + s->disk_missing;
}

// Whether a size cannot be had for a reason that is none of its budget.
static bool is_broken(const brim_error *why, const brim_shortfall *lacks) {
    return failed(why) && (why->status != BRIM_MEMORY || !shortfall_bytes(lacks));
}

// Keeps why a size cannot be had, if that is nearest so far or no matter of the budget.
static void note_failure(chooser *c, const brim_error *why, const brim_shortfall *lacks) {
    if (failed(&c->why) && !is_broken(why, lacks) &&
        shortfall_bytes(lacks) >= shortfall_bytes(&c->lacks))
        return;
    c->why = *why;
    c->lacks = *lacks;
}

// Plans one size and keeps it if it is the fastest so far. Takes the graph over.
static void try_size(chooser *c, brim_graph *g, const brim_trainer_options *cut) {
    brim_error missing = {0};
    brim_shortfall lacks = {0};
    compiled next = {0};
    compile_target target = *c->target;
    target.shortfall = &lacks;
    compiled_plan(&next, g, cut->accumulate, &target, &missing);
    double before = c->best->choice.expected.seconds, seconds = next.choice.expected.seconds;
    if (!failed(&missing) && (!c->options->batch || seconds < before)) {
        compiled_free(c->best, c->target->backend);
        *c->best = next;
        *c->options = *cut;
        c->slower = 0;
        return;
    }
    compiled_free(&next, c->target->backend);
    c->slower += c->options->batch > 0;
    if (failed(&missing)) note_failure(c, &missing, &lacks);
}

brim_status plan_micro_batches(compiled *out, brim_graph *first, brim_builder build, void *user,
                               brim_trainer_options *options, const compile_target *target,
                               brim_error *err) {
    enum { ENOUGH_SLOWER = 2 };
    if (options->batch || failed(err))
        return compiled_plan(out, first, options->accumulate, target, err);
    chooser c = {.best = out, .options = options, .target = target};
    brim_trainer_options cut = micro_batch_first(options);
    for (brim_graph *g = first; g;) {
        try_size(&c, g, &cut);
        if (cut.batch == 1 || is_broken(&c.why, &c.lacks) || c.slower == ENOUGH_SLOWER) break;
        cut.batch = divisor(options->step_batch, cut.batch / 2);
        cut.accumulate = options->step_batch / cut.batch;
        g = training_graph(build, user, &cut, err);
    }
    // Without that size another one would be chosen than usual, and round differently.
    if (!failed(err) && (!options->batch || is_broken(&c.why, &c.lacks))) {
        brim_fail(err, c.why.status, "%s", c.why.text);
        if (target->shortfall) *target->shortfall = c.lacks;
    }
    return err->status;
}
