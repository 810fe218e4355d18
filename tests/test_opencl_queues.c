// Programs on several queues of an OpenCL device: whole training steps and op cases, spread over
// the queues at random, must come to the bits of a single queue in every order that their waits
// allow; and the order that a missing wait allows must be noticed.
#include <math.h>
#include "test_core.h"
#include "tests/devices.h"
#include "tests/late_queues.h"
#include "tests/op_check.h"
#include "tests/skips.h"
#include "tests/spread_device.h"
#include "tests/spread_training.h"

#ifdef BRIM_OPENCL_BUILT

static brim_error err;

static spread_device spread;

static void hold_queue(queue_id awaited) {
    late_queues_hold(awaited);
}

// ---- training -----------------------------------------------------------------------------------

typedef struct opening {
    uint32_t seed;
    bool late; // in an order of late_queues.h
} opening;

// What late_queues.h cannot hold back: CLBlast, which GPUs have, enqueues by itself.
static bool enqueues_by_itself(void) {
    backend_device *device;
    const backend *api;
    backend_open("opencl:0", &(device_settings){0}, &api, &device, &err);
    ASSERT_FINE(err);
    bool clblast = strstr(api->matmul_library(device), "CLBlast") != NULL;
    api->close(device);
    return clblast;
}

// A device with separate queues, and before it the backend that uses them.
static const backend *open_spread(backend_device **device, void *user) {
    const opening *o = user;
    device_settings settings = {.separate_queues = true,
                                .cache_dir = test_directory,
                                .own_products = o->late && enqueues_by_itself()};
    spread_device_open(&spread, "opencl:0", &settings, o->seed, device, &err);
    ASSERT_FINE(err);
    spread.dropped = hold_queue;
    if (o->late) {
        late_queues_begin(*device);
        late_queues_at_random(o->seed);
    }
    return &spread.front;
}

static training_outcome *train_on_one(void) {
    training_outcome *one = spread_training("opencl:0", NULL, NULL, &err);
    ASSERT_FINE(err);
    ck_assert(isfinite(one->step[0].loss) && one->step[0].grad_norm > 0);
    return one;
}

// Spread as the seed says, it must come to the same bits.
static void train_spread(const training_outcome *one, uint32_t seed, bool late) {
    opening o = {seed, late};
    training_outcome *other = spread_training("opencl:0", open_spread, &o, &err);
    if (late) late_queues_end();
    ASSERT_FINE(err);
    const char *difference = training_difference(one, other);
    ck_assert_msg(!*difference, "seed %u, than on one queue: %s", seed, difference);
    for (int q = 0; q < DEVICE_QUEUES; q++) ck_assert_int_gt(spread.queues[q], 5);
    ck_assert_int_gt(spread.waits, 10);
    free(other);
}

static int orders(void) {
    return getenv("BRIM_TEST_LONG") ? 200 : 20;
}

// Each order with a spreading of its own.
START_TEST(training_in_any_order) {
    if (!device_under_test(0)) return;
    if (enqueues_by_itself()) {
        skip(SKIP_clblast_enqueues);
        return;
    }
    training_outcome *one = train_on_one();
    for (uint32_t seed = 1; seed <= (uint32_t)orders(); seed++) {
        train_spread(one, seed, true);
        ck_assert_int_gt(late_queues_overtaken(), 10);
    }
    free(one);
}
END_TEST

// The driver's own queues: in order, and out of order behind the layer, where events alone hold.
START_TEST(training_on_real_queues) {
    static const char *const layers[] = {NULL, "unordered", "unordered slow"};
    if (layers[_i]) {
        if (!*BRIM_TEST_LAYER_FILE) {
            skip(SKIP_no_opencl_layers);
            return;
        }
        setenv("OPENCL_LAYERS", BRIM_TEST_LAYER_FILE, 1);
        setenv("BRIM_TEST_LAYER", layers[_i], 1);
    }
    if (!device_under_test(0)) return;
    training_outcome *one = train_on_one();
    for (uint32_t seed = 1; seed <= (_i == 2 ? 2 : 4); seed++) train_spread(one, seed, false);
    free(one);
}
END_TEST

// ---- op cases -----------------------------------------------------------------------------------

static const op_id ops[] = {OP_FUSED,         OP_CONCAT,    OP_MATMUL,    OP_SUM,    OP_LAYER_NORM,
                            OP_CROSS_ENTROPY, OP_ATTENTION, OP_EMBEDDING, OP_DROPOUT};
enum { OPS = sizeof ops / sizeof *ops };

static harness open_harness(uint32_t seed) {
    harness h = {.device_bytes = 8 << 20, .host_bytes = 8 << 20};
    opening o = {seed, true};
    h.backend = open_spread(&h.device, &o);
    memory_request request = {.device_bytes = h.device_bytes, .host_bytes = h.host_bytes};
    h.backend->reserve(h.device, &request, &err);
    ASSERT_FINE(err);
    return h;
}

static void close_harness(harness *h) {
    spread.real->close(h->device);
    late_queues_end();
}

// Some small cases of an op.
static int choose_cases(op_id op, const op_case *out[OP_CHECK_CASES], int most) {
    int count = 0;
    for (int i = 0; i < op_case_count && count < most; i++)
        if (op_cases[i].op == op && op_cases[i].uses & OP_CASE_TEST &&
            op_cases[i].dtypes >> BRIM_F32 & 1 && !strstr(op_cases[i].name, "special"))
            out[count++] = &op_cases[i];
    return count;
}

START_TEST(op_cases_in_any_order) {
    if (!device_under_test(0)) return;
    const op_case *cases[OP_CHECK_CASES];
    int count = choose_cases(ops[_i], cases, 4);
    ck_assert_int_gt(count, 0);
    for (uint32_t seed = 1; seed <= (getenv("BRIM_TEST_LONG") ? 20 : 3); seed++) {
        static op_check_report report;
        harness h = open_harness(seed);
        op_check_cases(&h, cases, count, BRIM_F32, &report);
        close_harness(&h);
        ck_assert_msg(report.failures == 0, "seed %u: %s", seed, report.text);
        ck_assert_int_gt(spread.waits, 0);
    }
}
END_TEST

// Each wait of a program is needed: without any one of them the verifier complains, and the order
// that is then allowed leads to wrong numbers.
START_TEST(a_missing_wait_is_noticed) {
    if (!device_under_test(0)) return;
    const op_case *cases[OP_CHECK_CASES];
    int count = choose_cases(OP_LAYER_NORM, cases, 4), tried = 0;
    int step = getenv("BRIM_TEST_LONG") ? 1 : 2;
    for (int32_t drop = 0, all = 1; drop < all; drop += step, tried++) {
        static op_check_report report;
        memset(&report, 0, sizeof report);
        harness h = open_harness(7);
        spread.drop = drop;
        op_check_cases(&h, cases, count, BRIM_F32, &report);
        if (drop == 0) all = spread.matter;
        ck_assert_int_gt(all, 5);
        ck_assert_msg(spread.verdict.status != BRIM_OK, "the verifier does not miss wait %d", drop);
        ck_assert_msg(strstr(spread.verdict.text, "does not wait for record"), "%s",
                      spread.verdict.text);
        ck_assert_msg(report.failures > 0, "wait %d of %d is missing and all is well: %s", drop,
                      all, spread.verdict.text);
        close_harness(&h);
    }
    ck_assert_int_gt(tried, 2);
}
END_TEST

static void begin(void) {
    err = (brim_error){0};
}

#else
START_TEST(training_in_any_order) {
    skip(SKIP_no_opencl_device);
}
END_TEST
#endif

Suite *opencl_queues_suite(void) {
    Suite *suite = suite_create("opencl_queues");
    TCase *tests = tcase_create("opencl_queues");
    tcase_set_timeout(tests, 600);
    tcase_add_test(tests, training_in_any_order);
#ifdef BRIM_OPENCL_BUILT
    tcase_add_unchecked_fixture(tests, make_test_directory, remove_test_directory);
    tcase_add_checked_fixture(tests, begin, NULL);
    tcase_add_loop_test(tests, training_on_real_queues, 0, 3);
    tcase_add_loop_test(tests, op_cases_in_any_order, 0, OPS);
    tcase_add_test(tests, a_missing_wait_is_noticed);
#endif
    suite_add_tcase(suite, tests);
    return suite;
}
