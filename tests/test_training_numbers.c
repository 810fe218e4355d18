// What needs no device: schedules, starting values, the loss scale.
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <brim/brim.h>
#include "optim/initialize.h"
#include "optim/loss_scale.h"
#include "tests/test_core.h"

static brim_error err;

START_TEST(schedules) {
    brim_schedule s = {.kind = BRIM_COSINE, .warmup = 10, .steps = 110, .min_lr = 0.1f};
    ck_assert_double_eq_tol(brim_schedule_lr(&s, 1, 5), 0.5, 1e-12);
    ck_assert_double_eq_tol(brim_schedule_lr(&s, 1, 10), 1, 1e-12);
    ck_assert_double_eq_tol(brim_schedule_lr(&s, 1, 60), 0.55, 1e-7);
    ck_assert_double_eq_tol(brim_schedule_lr(&s, 1, 110), 0.1, 1e-7);
    ck_assert_double_eq_tol(brim_schedule_lr(&s, 1, 150), 0.1, 1e-7);
    ck_assert_double_eq_tol(brim_schedule_lr(&s, 1, 5000), 0.1, 1e-7);
    ck_assert_double_eq(brim_schedule_lr(&s, 1e-9, 10), 1e-9); // all of it, however small
    s.kind = BRIM_LINEAR;
    ck_assert_double_eq_tol(brim_schedule_lr(&s, 1, 35), 0.775, 1e-7);
    s.steps = s.warmup; // nothing is left to fall in
    ck_assert_double_eq_tol(brim_schedule_lr(&s, 1, 35), 1, 1e-12);
    s.kind = BRIM_CONSTANT;
    s.steps = 110;
    ck_assert_double_eq_tol(brim_schedule_lr(&s, 1, 35), 1, 1e-12);
    ck_assert_double_eq_tol(brim_schedule_lr(&(brim_schedule){0}, 0.25, 1), 0.25, 1e-12);
}
END_TEST

// A seed means the same parameters in every version of the library.
START_TEST(parameters_follow_from_seed_and_name) {
    static const float normal[] = {0.743510187f, -0.603951395f, -0.89053458f},
                       uniform[] = {0.264105439f, 0.782850742f, -0.97047174f};
    enum { MANY = 200001 };
    float x[3], y[3], *many[2];
    worker_pool *pool[2] = {worker_pool_create(1, &err), worker_pool_create(3, &err)};
    ASSERT_FINE(err);
    initialize_parameter(x, 3, (brim_init){BRIM_NORMAL, 1}, 7, "h.0.attn.weight", pool[0]);
    initialize_parameter(y, 3, (brim_init){BRIM_UNIFORM, 1}, 7, "h.0.attn.weight", pool[1]);
    for (int i = 0; i < 3; i++) {
        ck_assert_double_eq_tol(x[i], normal[i], 1e-6);
        ck_assert(y[i] == uniform[i]);
    }
    for (int i = 0; i < 2; i++) {
        many[i] = malloc(MANY * sizeof **many);
        initialize_parameter(many[i], MANY, (brim_init){BRIM_NORMAL, 1}, 7, "h.0.attn.weight",
                             pool[i]);
        ck_assert_mem_eq(many[i], x, sizeof x);
        ck_assert(many[i][MANY - 1] != many[i][0] && fabsf(many[i][MANY - 1]) < 6);
    }
    ck_assert_mem_eq(many[0], many[1], MANY * sizeof **many);
    for (int i = 0; i < 2; i++) {
        free(many[i]);
        worker_pool_free(pool[i]);
    }
}
END_TEST

START_TEST(loss_scale_grows_and_backs_off) {
    loss_scale s = loss_scale_start();
    double first = s.scale;
    s = loss_scale_next(s, true);
    ck_assert_double_eq(s.scale, first / 2);
    for (int i = 0; i < LOSS_SCALE_INTERVAL - 1; i++) s = loss_scale_next(s, false);
    ck_assert_double_eq(s.scale, first / 2);
    s = loss_scale_next(s, false);
    ck_assert_double_eq(s.scale, first);
    for (int i = 0; i < 2000; i++) s = loss_scale_next(s, true);
    ck_assert(s.scale > 0);
}
END_TEST

Suite *training_numbers_suite(void) {
    Suite *suite = suite_create("training_numbers");
    TCase *tests = tcase_create("training_numbers");
    tcase_add_test(tests, schedules);
    tcase_add_test(tests, parameters_follow_from_seed_and_name);
    tcase_add_test(tests, loss_scale_grows_and_backs_off);
    suite_add_tcase(suite, tests);
    return suite;
}
