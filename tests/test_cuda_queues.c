// Programs on several streams of CUDA on the CPU, in every order that their waits allow: whole
// training steps and op cases, spread over the streams at random, must come to the bits of a single
// stream; and the order that a missing wait allows must be noticed.
#include <math.h>
#include "tests/cuda_rig.h"
#include "graph/graph.h"
#include "tests/op_check.h"
#include "tests/random_run.h"
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

// ---- all queues, and host memory that cannot be pinned ------------------------------------------

enum { MOST_PINNED = 4 << 20, PARTS_BYTES = (18 << 20) + 640 }; // of a passage: 4 MiB

static random_target open_target(int64_t device_bytes, int64_t host_bytes) {
    random_target t = {.api = &cuda_backend};
    device_settings settings = {.cache_dir = "", .before_task = random_run_before_task};
    memory_request request = {.device_bytes = device_bytes,
                              .host_bytes = host_bytes,
                              .file_bytes = RANDOM_MOST_UNITS * RANDOM_UNIT,
                              .file_directory = test_directory};
    t.api->open(0, &settings, &t.device, &err);
    ASSERT_FINE(err);
    t.api->reserve(t.device, &request, &err);
    ASSERT_FINE(err);
    return t;
}

// Pinned, and (_i) not: then copies of host memory are tasks.
START_TEST(random_programs_in_any_order) {
    if (!find_cuda_on_cpu(_i ? "seed=1 pinned=4M" : "seed=1")) return;
    random_target t = open_target(RANDOM_MOST_UNITS * RANDOM_UNIT, MOST_PINNED + 4096);
    ck_assert_int_eq(t.api->pinned_bytes(t.device), _i ? 0 : MOST_PINNED + 4096);
    for (uint32_t seed = 1; seed <= (getenv("BRIM_TEST_LONG") ? 1000 : 100); seed++) {
        random_program_size size = {40, 1 + (int32_t)(seed % 4), 16 + (int32_t)(seed % 48)};
        program *p[2] = {random_program(seed, size, &err), random_program(seed + 5000, size, &err)};
        int programs = seed % 5 == 0 ? 2 : 1;
        for (int i = 0; i < 2; i++) program_order(p[i], &err);
        ASSERT_FINE(err);
        reseed(seed);
        random_run_hold((queue_id)(seed % (QUEUE_COUNT + 1)), seed);
        const char *difference =
            random_run(&t, p, programs, RANDOM_STEPS * programs * size.micro_batches, seed, &err);
        ASSERT_FINE(err);
        ck_assert_msg(!*difference, "seed %u: %s", seed, difference);
        for (int i = 0; i < 2; i++) program_free(p[i]);
    }
    t.api->close(t.device);
    ck_assert_str_eq(rig.alive(), "");
}
END_TEST

// With the n-th call failing. False where that call comes after the program's end.
static bool run_with_failure(program *p, int64_t n, bool pinned) {
    random_target t = {.api = &cuda_backend};
    device_settings settings = {.cache_dir = ""};
    memory_request request = {p->device_bytes, pinned ? p->host_bytes : MOST_PINNED + 4096,
                              p->file_bytes, test_directory};
    char words[60];
    snprintf(words, sizeof words, "fail=any:%lld", (long long)n);
    ck_assert_ptr_null(rig.configure(words));
    t.api->open(0, &settings, &t.device, &err);
    if (t.device) t.api->reserve(t.device, &request, &err);
    if (!failed(&err)) random_run(&t, &p, 1, 2 * p->micro_batches, 1, &err);
    bool before_closing = *rig.failed() != '\0';
    if (t.device) t.api->close(t.device);
    ck_assert_msg(!strchr(err.text, '\n'), "call %lld: %s", (long long)n, err.text);
    return before_closing;
}

// Where such a call fails, what it should give back stays.
static bool gives_back(const char *call) {
    static const char *const words[] = {"Destroy", "Unload", "Free", "Release", "cuCtx"};
    bool found = false;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        found |= strstr(call, words[i]) != NULL;
    return found;
}

// Whatever fails, on whatever thread, nobody waits for ever, and nothing is left behind.
START_TEST(every_call_may_fail) {
    if (!find_cuda_on_cpu(_i ? "seed=1 pinned=4M" : "seed=1")) return;
    program *p = random_program(3, (random_program_size){30, 2, 24}, &err);
    program_order(p, &err);
    ASSERT_FINE(err);
    int64_t n = 1, step = getenv("BRIM_TEST_LONG") ? 1 : 3, told = 0;
    char before[256] = ""; // what earlier runs left
    for (; run_with_failure(p, n, !_i); n += step) {
        told += failed(&err);
        ck_assert_msg(!strcmp(rig.alive(), before) || gives_back(rig.failed()),
                      "call %lld, %s, fails (%s) and leaves %s, after %s", (long long)n,
                      rig.failed(), err.text, rig.alive(), before);
        snprintf(before, sizeof before, "%s", rig.alive());
        err = (brim_error){0};
    }
    ck_assert_int_gt(n, 200);
    ck_assert_int_gt(3 * told * step, n);
    program_free(p);
}
END_TEST

static void add_copy(program *p, queue_id queue, byte_range from, byte_range to) {
    record_access access[] = {{from, false}, {to, true}};
    program_record r = {.kind = RECORD_COPY,
                        .queue = queue,
                        .sections = SECTION_LAST,
                        .accesses = 2,
                        .access = access,
                        .as.copy = {from, to, 0}};
    program_add_record(p, &r, &err);
}

// Through two passages in turn.
START_TEST(long_copies_pass_in_parts) {
    if (!find_cuda_on_cpu("seed=1 pinned=4M")) return;
    int64_t bytes = PARTS_BYTES;
    random_target t = open_target(bytes, 2 * bytes);
    byte_range on_device = {SPACE_DEVICE, 0, bytes},
               host[] = {{SPACE_HOST, 0, bytes}, {SPACE_HOST, bytes, bytes}};
    program *p;
    loaded_program *loaded;
    program_create(&p, &err);
    p->device_bytes = bytes, p->host_bytes = 2 * bytes;
    add_copy(p, QUEUE_IN, host[0], on_device);
    add_copy(p, QUEUE_OUT, on_device, host[1]);
    program_order(p, &err);
    t.api->load(t.device, p, &loaded, &err);
    ASSERT_FINE(err);
    uint8_t *memory = t.api->host_memory(t.device);
    for (int64_t i = 0; i < bytes; i++) memory[i] = (uint8_t)(i * 31 >> 7);
    t.api->run(loaded, SECTION_LAST, 0, &err);
    t.api->wait(t.device, &err);
    ASSERT_FINE(err);
    ck_assert(memcmp(memory, memory + bytes, (size_t)bytes) == 0);
    t.api->unload(loaded);
    t.api->close(t.device);
    program_free(p);
    ck_assert_str_eq(rig.alive(), "");
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
    TCase *all = tcase_create("all_queues");
    tcase_add_unchecked_fixture(all, make_test_directory, remove_test_directory);
    tcase_add_checked_fixture(all, start, no_rig);
    tcase_set_timeout(all, 900);
    tcase_add_loop_test(all, random_programs_in_any_order, 0, 2);
    tcase_add_loop_test(all, every_call_may_fail, 0, 2);
    tcase_add_test(all, long_copies_pass_in_parts);
    suite_add_tcase(suite, tests);
    suite_add_tcase(suite, all);
    return suite;
}
