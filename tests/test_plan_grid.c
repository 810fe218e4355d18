// The planner's choice beside all plans of a coarse grid: each is run, keeps to its budget or is
// refused, and comes to the same bits; by the same rates none of them is much faster. How long
// they really take is for bench_plans --grid.
#include <string.h>
#include <brim/brim.h>
#include "benchmarks/plan_list.h"
#include "tests/devices.h"
#include "tests/some_rates.h"
#include "tests/test_core.h"

typedef struct grid_case {
    model_architecture architecture;
    int64_t accumulate;
    double share; // of what everything on the device takes
} grid_case;

static const grid_case cases[] = {
    {MODEL_GPT2, 1, 0.5},
    {MODEL_LLAMA, 3, 0.4},
    {MODEL_GPT2, 2, 0.8},
    {MODEL_LLAMA, 1, 0.25},
};
enum { FEW = 2, CASES = sizeof cases / sizeof *cases, TIMED = 1 };

static start_options options_of(const grid_case *c, const char *device) {
    return (start_options){.config = {.architecture = c->architecture,
                                      .vocabulary = 100,
                                      .positions = 24,
                                      .width = 64,
                                      .layers = 3,
                                      .heads = 2,
                                      .ffn = 160,
                                      .rotary_base = 10000,
                                      .norm_eps = 1e-5},
                           .batch = 2,
                           .length = 24,
                           .accumulate = c->accumulate,
                           .device = device,
                           .rates = &some_rates};
}

// False where the plan needs more than the budget.
static bool open_plan(plan_run *r, const start_options *o) {
    brim_error err = {0};
    plan_run_open(r, o, &err);
    if (err.status == BRIM_MEMORY) {
        plan_run_close(r);
        return false;
    }
    ASSERT_FINE(err);
    return true;
}

// The planner's choice within that share of what everything on the device takes. Where a library
// wants a workspace that is most of so small a model, within more of it.
static int64_t choose(plan_run *choice, start_options *chosen, int64_t whole, double share) {
    for (int tries = 0; tries < 8; tries++, share = (1 + share) / 2) {
        chosen->budget[SPACE_DEVICE] = (int64_t)(share * (double)whole);
        if (open_plan(choice, chosen)) return chosen->budget[SPACE_DEVICE];
    }
    ck_abort_msg("no plan needs less than %lld bytes", (long long)whole);
    return 0;
}

static void run_beside(plan_run both[2]) {
    brim_error err = {0};
    plan_runs_round(both, 2, TIMED, &err); // an error where the losses differ
    ASSERT_FINE(err);
}

START_TEST(no_plan_of_the_grid_is_better) {
    const char *device = any_device_under_test();
    if (!device || (_i >= FEW && !getenv("BRIM_TEST_LONG"))) return;
    brim_error err = {0};
    start_options o = options_of(&cases[_i], device);
    plan_extent e = plan_extent_find(&o, &err);
    ASSERT_FINE(err);
    forced_plan plans[MOST_PLANS];
    int count = plan_list_make(&e, false, plans), fit = 0;
    start_options whole = o, chosen = o;
    plan_run choice = {0};
    int64_t budget = choose(&choice, &chosen, e.device_bytes, cases[_i].share);
    double best = plan_run_expected(&choice);
    ck_assert_int_le(choice.run.compiled.plan.peak_bytes[SPACE_DEVICE], budget);
    for (int i = -1; i < count; i++) { // the choice, and then the grid, beside everything resident
        plan_run both[2] = {0};
        start_options forced = chosen;
        if (i >= 0) forced.forced = &plans[i];
        if (!open_plan(&both[1], &forced)) continue;
        ck_assert(open_plan(&both[0], &whole));
        int64_t peak = both[1].run.compiled.plan.peak_bytes[SPACE_DEVICE];
        ck_assert_int_le(peak, budget);
        ck_assert_msg(best <= 1.05 * plan_run_expected(&both[1]),
                      "case %d, plan %d: expected to take %g s, the choice %g s", _i, i,
                      plan_run_expected(&both[1]), best);
        run_beside(both);
        fit += i >= 0;
        plan_run_close(&both[0]);
        plan_run_close(&both[1]);
    }
    plan_run_close(&choice);
    ck_assert_int_gt(fit, 0);
    ck_assert_int_lt(fit, count);
}
END_TEST

Suite *plan_grid_suite(void) {
    Suite *suite = suite_create("plan_grid");
    TCase *tests = tcase_create("plan_grid");
    tcase_set_timeout(tests, 600);
    tcase_add_loop_test(tests, no_plan_of_the_grid_is_better, 0, CASES);
    suite_add_tcase(suite, tests);
    return suite;
}
