// Programs on several streams of CUDA on the CPU, in every order that their waits allow: whole
// training steps and op cases, spread over the streams at random, must come to the bits of a single
// stream; and the order that a missing wait allows must be noticed.
#include <math.h>
#include "tests/cuda_rig.h"
#include "tests/op_check.h"
#include "tests/spread_device.h"
#include "tests/spread_training.h"

static spread_device spread;

static int orders(void) {
    return getenv("BRIM_TEST_LONG") ? 200 : 20;
}

static void reseed(uint32_t seed) {
    char words[40];
    snprintf(words, sizeof words, "seed=%u", seed);
    ck_assert_ptr_null(rig.configure(words));
}

static const backend *open_spread(backend_device **device, void *user) {
    const uint32_t *seed = user;
    reseed(*seed);
    spread_device_open(&spread, "cuda:0", NULL, *seed, device, &err);
    ASSERT_FINE(err);
    return &spread.front;
}

// Each order with a spreading of its own.
START_TEST(training_in_any_order) {
    if (!find_cuda_on_cpu("seed=1")) return;
    training_outcome *one = spread_training("cuda:0", NULL, NULL, &err);
    ASSERT_FINE(err);
    ck_assert(isfinite(one->step[0].loss) && one->step[0].grad_norm > 0);
    for (uint32_t seed = 1; seed <= (uint32_t)orders(); seed++) {
        training_outcome *other = spread_training("cuda:0", open_spread, &seed, &err);
        ASSERT_FINE(err);
        const char *difference = training_difference(one, other);
        ck_assert_msg(!*difference, "seed %u, than on one stream: %s", seed, difference);
        for (int q = 0; q < DEVICE_QUEUES; q++) ck_assert_int_gt(spread.queues[q], 5);
        ck_assert_int_gt(spread.waits, 10);
        free(other);
    }
    free(one);
}
END_TEST

// ---- op cases -----------------------------------------------------------------------------------

static const op_id ops[] = {OP_FUSED,         OP_CONCAT,    OP_MATMUL,    OP_SUM,    OP_LAYER_NORM,
                            OP_CROSS_ENTROPY, OP_ATTENTION, OP_EMBEDDING, OP_DROPOUT};
enum { OPS = sizeof ops / sizeof *ops, CASES = 4 };

static int choose_cases(op_id op, const op_case *out[CASES]) {
    int count = 0;
    for (int i = 0; i < op_case_count && count < CASES; i++)
        if (op_cases[i].op == op && op_cases[i].uses & OP_CASE_TEST &&
            op_cases[i].dtypes >> BRIM_F32 & 1 && !strstr(op_cases[i].name, "special"))
            out[count++] = &op_cases[i];
    return count;
}

// The number of failures, with the spreading of one seed and the order of another.
static int check_spread(const op_case *const *cases, int count, uint32_t spreading, uint32_t order,
                        int32_t drop) {
    static op_check_report report;
    memset(&report, 0, sizeof report);
    harness h = {.device_bytes = 8 << 20, .host_bytes = 8 << 20};
    h.backend = open_spread(&h.device, &spreading);
    reseed(order);
    memory_request request = {.device_bytes = h.device_bytes, .host_bytes = h.host_bytes};
    h.backend->reserve(h.device, &request, &err);
    ASSERT_FINE(err);
    spread.drop = drop;
    op_check_cases(&h, cases, count, BRIM_F32, &report);
    h.backend->close(h.device);
    if (drop < 0) ck_assert_msg(report.failures == 0, "seed %u: %s", order, report.text);
    return report.failures;
}

START_TEST(op_cases_in_any_order) {
    if (!find_cuda_on_cpu("seed=1")) return;
    const op_case *cases[CASES];
    int count = choose_cases(ops[_i], cases);
    ck_assert_int_gt(count, 0);
    for (uint32_t seed = 1; seed <= (getenv("BRIM_TEST_LONG") ? 20 : 3); seed++) {
        check_spread(cases, count, seed, seed, -1);
        ck_assert_int_gt(spread.waits, 0);
    }
}
END_TEST

// Each wait of a program is needed: without any one of them the verifier complains, and some order
// leads to wrong numbers.
START_TEST(a_missing_wait_is_noticed) {
    if (!find_cuda_on_cpu("seed=1")) return;
    const op_case *cases[CASES];
    int count = choose_cases(OP_LAYER_NORM, cases), tried = 0;
    int step = getenv("BRIM_TEST_LONG") ? 1 : 2;
    for (int32_t drop = 0, all = 1; drop < all; drop += step, tried++) {
        int failures = 0;
        for (uint32_t order = 1; order <= 60 && !failures; order++)
            failures = check_spread(cases, count, 7, order, drop);
        if (drop == 0) all = spread.matter;
        ck_assert_int_gt(all, 5);
        ck_assert_msg(strstr(spread.verdict.text, "does not wait for record"), "wait %d: %s", drop,
                      spread.verdict.text);
        ck_assert_msg(failures > 0, "wait %d of %d is missing and all is well in 60 orders: %s",
                      drop, all, spread.verdict.text);
    }
    ck_assert_int_gt(tried, 2);
}
END_TEST

static void no_rig(void) {}

Suite *cuda_queues_suite(void) {
    Suite *suite = suite_create("cuda_queues");
    TCase *tests = tcase_create("cuda_queues");
    tcase_add_checked_fixture(tests, start, no_rig);
    tcase_set_timeout(tests, 900);
    tcase_add_test(tests, training_in_any_order);
    tcase_add_loop_test(tests, op_cases_in_any_order, 0, OPS);
    tcase_add_test(tests, a_missing_wait_is_noticed);
    suite_add_tcase(suite, tests);
    return suite;
}
