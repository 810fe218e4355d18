// Programs on several queues of an OpenCL device: whole training steps and op cases, spread over
// the queues at random, must come to the bits of a single queue in every order that their waits
// allow; and the order that a missing wait allows must be noticed.
#include <math.h>
#include "examples/gpt.h"
#include "optim/trainer.h"
#include "test_core.h"
#include "tests/devices.h"
#include "tests/late_queues.h"
#include "tests/op_check.h"
#include "tests/skips.h"
#include "tests/spread_program.h"

#ifdef BRIM_OPENCL_BUILT

static brim_error err;

// ---- a backend that spreads what it loads -------------------------------------------------------

static struct {
    const backend *real;
    backend front;
    uint32_t seed;
    int32_t drop;  // which of the waits that matter to leave out of the first program; -1: none
    queue_id held; // the queue of the record that is then not waited for
    int32_t queues[QUEUE_COUNT], waits, matter;
    brim_error verdict; // of the verifier over the program that lacks a wait
} spread;

static void drop_wait(program *p) {
    static spread_wait wait[1 << 12];
    spread.matter = spread_waits(p, wait, sizeof wait / sizeof *wait);
    if (spread.drop < 0 || spread.drop >= spread.matter) return;
    const program_record *r = &p->record[wait[spread.drop].record];
    spread.held = p->record[r->wait[wait[spread.drop].wait]].queue;
    spread_drop(p, wait[spread.drop]);
    program_verify(p, &spread.verdict);
    late_queues_hold(spread.held);
    spread.drop = -1;
}

static brim_status load_spread(backend_device *device, const program *p, loaded_program **out,
                               brim_error *e) {
    program *changed = (program *)p; // made for this load alone
    if (spread_program(changed, spread.seed, e)) return e->status;
    for (int32_t i = 0; i < p->records; i++) {
        spread.queues[p->record[i].queue]++;
        spread.waits += p->record[i].waits;
    }
    drop_wait(changed);
    return spread.real->load(device, p, out, e);
}

// A device with separate queues, and before it the backend that uses them.
static const backend *open_spread(uint32_t seed, backend_device **device) {
    memset(&spread, 0, sizeof spread);
    device_settings settings = {.separate_queues = true, .cache_dir = test_directory};
    backend_open("opencl:0", &settings, &spread.real, device, &err);
    ASSERT_FINE(err);
    spread.front = *spread.real;
    spread.front.load = load_spread;
    spread.seed = seed;
    spread.drop = -1;
    return &spread.front;
}

// ---- training -----------------------------------------------------------------------------------

enum { STEPS = 3, BATCH = 2, LENGTH = 11, ACCUMULATE = 3, VOCABULARY = 29, MOST = 1 << 16 };

typedef struct outcome {
    brim_step_result step[STEPS];
    float logits[STEPS][VOCABULARY];
    float parameter[MOST];
    size_t parameters;
} outcome;

static void feed(brim_trainer *t, brim_program *next, int step) {
    int32_t tokens[ACCUMULATE * BATCH * LENGTH], last = step;
    for (int i = 0; i < ACCUMULATE * BATCH * LENGTH; i++)
        tokens[i] = (i * 7 + i * i % 11 + step * 3) % VOCABULARY;
    brim_trainer_feed(t, "tokens", tokens, sizeof tokens, &err);
    brim_trainer_feed(t, "targets", tokens, sizeof tokens, &err);
    brim_program_feed(next, "tokens", tokens, LENGTH * sizeof *tokens, &err);
    brim_program_feed(next, "last", &last, sizeof last, &err);
    ASSERT_FINE(err);
}

static void read_parameters(brim_trainer *t, outcome *out) {
    const brim_graph *g = t->training.graph;
    for (int i = 0; i < t->parameters; i++) {
        const graph_value *v = &g->value[t->parameter[i]];
        size_t count = (size_t)shape_elements(&v->shape);
        ck_assert_uint_le(out->parameters + count, MOST);
        brim_trainer_read(t, v->name, out->parameter + out->parameters, count, &err);
        out->parameters += count;
    }
    ASSERT_FINE(err);
}

// Steps of three micro-batches with dropout and clipping, and another program between them.
// seed 0: on one queue; late: in an order of late_queues.h.
static outcome *train(uint32_t seed, bool late) {
    static const brim_trainer_options options = {
        .batch = BATCH,
        .length = LENGTH,
        .accumulate = ACCUMULATE,
        .device = "opencl:0",
        .seed = 5,
        .optimizer = {.lr = 3e-3f, .weight_decay = 0.1f, .clip = 1}};
    gpt_config config = {.vocabulary = VOCABULARY,
                         .positions = LENGTH,
                         .width = 24,
                         .layers = 1,
                         .heads = 2,
                         .dropout = 0.1,
                         .norm_eps = 1e-5};
    brim_trainer *t = brim_trainer_create(gpt_build, &config, &options, &err);
    brim_program *next = brim_trainer_program(t, gpt_build_next, &config, 1, LENGTH, &err);
    ASSERT_FINE(err);
    if (seed) { // nothing is reserved or loaded before the first step
        t->target.backend->close(t->target.device);
        t->target.backend = open_spread(seed, &t->target.device);
    }
    if (late) {
        late_queues_begin(t->target.device);
        late_queues_at_random(seed);
    }
    outcome *out = calloc(1, sizeof *out);
    for (int i = 0; i < STEPS; i++) {
        feed(t, next, i);
        brim_trainer_step(t, &out->step[i], &err);
        brim_program_run(next, NULL, NULL, &err);
        brim_program_read(next, "logits", out->logits[i], VOCABULARY, &err);
        ASSERT_FINE(err);
    }
    read_parameters(t, out);
    brim_trainer_free(t);
    if (late) late_queues_end();
    return out;
}

static void expect_same(const outcome *a, const outcome *b, uint32_t seed) {
    for (int i = 0; i < STEPS; i++)
        ck_assert_msg(a->step[i].loss == b->step[i].loss &&
                          a->step[i].grad_norm == b->step[i].grad_norm,
                      "seed %u, step %d: loss %.9g, norm %.9g; on one queue %.9g, %.9g", seed,
                      i + 1, (double)b->step[i].loss, (double)b->step[i].grad_norm,
                      (double)a->step[i].loss, (double)a->step[i].grad_norm);
    ck_assert_msg(memcmp(a->logits, b->logits, sizeof a->logits) == 0, "seed %u: logits", seed);
    ck_assert_uint_eq(a->parameters, b->parameters);
    ck_assert_msg(memcmp(a->parameter, b->parameter, a->parameters * sizeof(float)) == 0,
                  "seed %u: other parameters than on one queue", seed);
}

static void expect_spread(void) {
    for (int q = 0; q < QUEUE_COUNT; q++) ck_assert_int_gt(spread.queues[q], 5);
    ck_assert_int_gt(spread.waits, 10);
}

static int orders(void) {
    return getenv("BRIM_TEST_LONG") ? 200 : 20;
}

// Each order with a spreading of its own.
START_TEST(training_in_any_order) {
    if (!device_under_test(0)) return;
    outcome *one = train(0, false);
    ck_assert(isfinite(one->step[0].loss) && one->step[0].grad_norm > 0);
    for (uint32_t seed = 1; seed <= (uint32_t)orders(); seed++) {
        outcome *other = train(seed, true);
        expect_spread();
        ck_assert_int_gt(late_queues_overtaken(), 10);
        expect_same(one, other, seed);
        free(other);
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
    outcome *one = train(0, false);
    for (uint32_t seed = 1; seed <= (_i == 2 ? 2 : 4); seed++) {
        outcome *other = train(seed, false);
        expect_spread();
        expect_same(one, other, seed);
        free(other);
    }
    free(one);
}
END_TEST

// ---- op cases -----------------------------------------------------------------------------------

static const op_id ops[] = {OP_FUSED,         OP_CONCAT,    OP_MATMUL,    OP_SUM,    OP_LAYER_NORM,
                            OP_CROSS_ENTROPY, OP_ATTENTION, OP_EMBEDDING, OP_DROPOUT};
enum { OPS = sizeof ops / sizeof *ops };

static harness open_harness(uint32_t seed) {
    harness h = {.device_bytes = 8 << 20, .host_bytes = 8 << 20};
    h.backend = open_spread(seed, &h.device);
    h.backend->reserve(h.device, h.device_bytes, h.host_bytes, &err);
    ASSERT_FINE(err);
    late_queues_begin(h.device);
    late_queues_at_random(seed);
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
