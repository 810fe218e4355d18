#include <math.h>
#include <string.h>
#include "benchmarks/plan_costs.h"
#include "benchmarks/plan_list.h"

enum { FINALISTS = 5 };

// A model, and the budget as a share of what it takes with everything on the device.
typedef struct grid_case {
    model_architecture architecture;
    int64_t width, layers, vocabulary, batch, length, accumulate;
    double share;
} grid_case;

static const grid_case cases[] = {
    {MODEL_GPT2, 128, 4, 500, 4, 64, 1, 0.8},  {MODEL_LLAMA, 128, 4, 500, 4, 64, 1, 0.4},
    {MODEL_GPT2, 64, 6, 1000, 8, 128, 1, 0.6}, {MODEL_LLAMA, 192, 3, 300, 2, 64, 2, 0.7},
    {MODEL_GPT2, 192, 3, 300, 2, 64, 3, 0.5},  {MODEL_LLAMA, 64, 8, 2000, 4, 128, 1, 0.5},
    {MODEL_GPT2, 256, 3, 200, 2, 96, 1, 0.3},  {MODEL_LLAMA, 96, 5, 1000, 16, 64, 1, 0.35},
    {MODEL_GPT2, 96, 5, 3000, 4, 128, 2, 0.7}, {MODEL_LLAMA, 256, 2, 500, 8, 64, 1, 0.6},
};
enum { CASES = sizeof cases / sizeof *cases };

typedef struct entry {
    forced_plan plan;
    double seconds;
} entry;

// ---- the grid -----------------------------------------------------------------------------------

// Runs all that keep to the budget, and keeps the fastest.
static int run_grid(start_options o, const plan_extent *e, entry best[FINALISTS], brim_error *err) {
    enum { TRIES = 3 };
    forced_plan plans[MOST_PLANS];
    int count = plan_list_make(e, true, plans), fit = 0;
    for (int i = 0; i < count && !failed(err); i++) {
        plan_run r = {0};
        brim_error missing = {0};
        o.forced = &plans[i];
        plan_run_open(&r, &o, &missing);
        for (int k = 0; k < TRIES && !failed(&missing); k++) plan_runs_round(&r, 1, 1, &missing);
        double seconds = plan_run_least(&r);
        plan_run_close(&r);
        if (missing.status == BRIM_MEMORY) continue;
        if (failed(&missing)) *err = missing;
        int at = fit < FINALISTS ? fit : FINALISTS;
        fit++;
        for (; at > 0 && best[at - 1].seconds > seconds; at--)
            if (at < FINALISTS) best[at] = best[at - 1];
        if (at < FINALISTS) best[at] = (entry){plans[i], seconds};
    }
    return fit;
}

// ---- one case -----------------------------------------------------------------------------------

static void show_plan(const plan_run *x, const plan_run *chosen, report *r) {
    const plan_choice *c = &x->run.compiled.choice;
    const homes_choice *h = &c->homes;
    double median = plan_run_median(x), ratio = plan_run_ratio(x, chosen);
    printf("  level %2d, hosted %2d%s, streamed %2d, gradients %2d, offloaded %3d: %7.2f ms, %.3f "
           "of the choice; expected %7.2f\n",
           c->level, h->hosted, h->device_updates ? " (device)" : "", h->streamed, h->gradients,
           h->offloaded, median * 1e3, ratio, plan_run_expected(x) * 1e3);
    report_open(r, NULL, '{');
    report_number(r, "level", c->level);
    report_number(r, "hosted", h->hosted);
    report_number(r, "device_updates", h->device_updates);
    report_number(r, "streamed", h->streamed);
    report_number(r, "gradients", h->gradients);
    report_number(r, "offloaded", h->offloaded);
    report_number(r, "median_seconds", median);
    report_number(r, "of_the_choice", ratio);
    report_number(r, "expected_seconds", plan_run_expected(x));
    report_close(r, '}');
}

// The choice and the grid's fastest in turn. How much slower than the fastest the choice is.
static double run_finals(start_options o, const entry *best, int count, const plans_options *p,
                         report *r, brim_error *err) {
    plan_run run[1 + FINALISTS] = {0};
    double fastest = 1;
    for (int i = 0; i <= count && !failed(err); i++) {
        o.forced = i ? &best[i - 1].plan : NULL;
        plan_run_open(&run[i], &o, err);
    }
    for (int64_t i = 0; i < p->rounds && !failed(err); i++)
        plan_runs_round(run, 1 + count, (int)p->steps, err);
    report_open(r, "plans", '[');
    for (int i = 0; i <= count && !failed(err); i++) {
        show_plan(&run[i], &run[0], r);
        fastest = fmin(fastest, plan_run_ratio(&run[i], &run[0]));
    }
    report_close(r, ']');
    for (int i = 0; i <= count; i++) plan_run_close(&run[i]);
    return 1 / fastest;
}

static void one_case(const plans_options *p, int index, report *r, brim_error *err) {
    const grid_case *c = &cases[index % CASES];
    start_options o = {.config = {.architecture = c->architecture,
                                  .vocabulary = c->vocabulary,
                                  .positions = c->length,
                                  .width = c->width,
                                  .layers = c->layers,
                                  .heads = c->width / 32,
                                  .ffn = c->width * 3,
                                  .rotary_base = 10000,
                                  .norm_eps = 1e-5},
                       .batch = c->batch,
                       .length = c->length,
                       .accumulate = c->accumulate,
                       .device = p->device,
                       .rates = &p->rates};
    entry best[FINALISTS];
    plan_extent e = plan_extent_find(&o, err);
    o.budget[SPACE_DEVICE] = (int64_t)(c->share * (double)e.device_bytes);
    int fit = failed(err) ? 0 : run_grid(o, &e, best, err);
    if (failed(err)) return;
    printf("case %d: %s %lld x %lld, %lld tokens, %.0f%% of its memory: %d plans of the grid fit\n",
           index, model_architecture_name(c->architecture), (long long)c->layers,
           (long long)c->width, (long long)(c->batch * c->length * c->accumulate), 100 * c->share,
           fit);
    report_open(r, NULL, '{');
    report_number(r, "case", index);
    report_number(r, "budget_bytes", (double)o.budget[SPACE_DEVICE]);
    report_number(r, "plans_that_fit", fit);
    double slower = run_finals(o, best, fit < FINALISTS ? fit : FINALISTS, p, r, err);
    report_number(r, "choice_of_the_fastest", slower);
    report_close(r, '}');
    printf("  the planner's choice takes %.3f of the fastest\n", slower);
    fflush(stdout);
}

void plan_grid(const plans_options *o, report *r, brim_error *err) {
    report_open(r, "grid", '[');
    for (int i = 0; i < o->cases && !failed(err); i++) one_case(o, i, r, err);
    report_close(r, ']');
}
