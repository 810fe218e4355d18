// Memory that runs out while a training is built and planned: at whichever allocation, the error
// says so, and nothing is lost or touched that is not there. (What runs on a device has tests of
// its own.)
#include <check.h>
#include <stdio.h>
#include <brim/brim.h>
#include "examples/model.h"
#include "tests/allocations.h"
#include "tests/some_rates.h"
#include "tests/test_core.h"

// ---- trainers -----------------------------------------------------------------------------------

static model_config model = {MODEL_LLAMA,      .vocabulary = 20,    .positions = 8, .width = 16,
                             .layers = 2,      .heads = 2,          .kv_heads = 1,  .ffn = 24,
                             .norm_eps = 1e-5, .rotary_base = 10000};

static brim_trainer *make(int64_t vram, brim_shortfall *lacks, brim_error *err) {
    brim_trainer_options o = {.batch = 2,
                              .length = 8,
                              .accumulate = 3,
                              .paper = &some_card,
                              .precision = BRIM_PRECISION_BF16,
                              .vram_bytes = vram,
                              .shortfall = lacks,
                              .optimizer = {.clip = 1}};
    *err = (brim_error){0};
    return brim_trainer_create(model_build, &model, &o, err);
}

// As many tries as that, spread evenly over all allocations: the first and the last are among them.
// 0: each of them.
static void fail_one_after_another(int64_t vram, long tries) {
    brim_error err;
    allocations taken;
    allocations_begin(0);
    brim_trainer *whole = make(vram, NULL, &err);
    allocations_end(&taken);
    ASSERT_FINE(err);
    long all = taken.calls;
    brim_trainer_free(whole);
    if (!tries) tries = all;
    ck_assert_int_ge(all, tries);
    long failures = 0;
    for (long i = 0; i < tries; i++) {
        long at = 1 + (all - 1) * i / (tries - 1);
        allocations_begin(at);
        brim_trainer *t = make(vram, NULL, &err);
        allocations_end(&taken);
        // Where the planner can do without, it goes on.
        ck_assert_msg(t || err.status == BRIM_MEMORY, "allocation %ld of %ld: %s", at, all,
                      err.text);
        ck_assert_msg(!t == (err.status != BRIM_OK), "allocation %ld of %ld: %s", at, all,
                      err.text);
        failures += !t;
        brim_trainer_free(t);
    }
    ck_assert_int_gt(failures, tries * 9 / 10);
}

// A trainer that was planned, lowered twice and compared keeps nothing once it is freed.
START_TEST(everything_is_given_back) {
    brim_error err;
    allocations taken;
    brim_shortfall lacks = {0};
    int64_t vram = _i && !make(1, &lacks, &err) ? lacks.vram_bytes : 0;
    FILE *out = fopen("/dev/null", "w");
    allocations_begin(0);
    brim_trainer *t = make(vram, NULL, &err);
    brim_trainer_print(t, out);
    brim_trainer_print(t, out);
    brim_trainer_compare(t, out);
    brim_trainer_free(t);
    allocations_end(&taken);
    ASSERT_FINE(err);
    ck_assert_int_gt(taken.calls, 100);
    ck_assert_int_eq(taken.kept, 0);
    fclose(out);
}
END_TEST

START_TEST(everything_on_the_device) {
    fail_one_after_another(0, 0);
}
END_TEST

// The error of a budget that nothing fits into names one that is just enough.
START_TEST(a_small_budget) {
    brim_error err;
    brim_shortfall lacks = {0};
    ck_assert_ptr_null(make(1, &lacks, &err));
    ck_assert_int_gt(lacks.vram_bytes, 1);
    fail_one_after_another(lacks.vram_bytes, 40);
}
END_TEST

Suite *failing_memory_suite(void) {
    Suite *suite = suite_create("failing_memory");
    TCase *tests = tcase_create("failing_memory");
    tcase_set_timeout(tests, 300);
    tcase_add_loop_test(tests, everything_is_given_back, 0, 2);
    tcase_add_test(tests, everything_on_the_device);
    tcase_add_test(tests, a_small_budget);
    suite_add_tcase(suite, tests);
    return suite;
}
