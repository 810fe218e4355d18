// Optimizer states as 8-bit blocks: that training with them learns, repeats itself and resumes.
#include <check.h>
#include <math.h>
#include <string.h>
#include <brim/brim.h>
#include "graph/build.h"
#include "optim/trainer.h"
#include "tests/devices.h"
#include "tests/test_core.h"

// Two matrices of 4096 elements and more, and tensors that are too small for blocks.
enum { IN = 61, WIDE = 96, OUT = 53, ROWS = 16, ELEMENTS = IN * WIDE, STEPS = 40 };

static brim_error err;

static brim_loss build(brim_graph *g, int64_t batch, int64_t length, void *user) {
    (void)length, (void)user;
    brim_value x = brim_input(g, "x", BRIM_F32, batch, IN);
    brim_value label = brim_input(g, "label", BRIM_I32, batch);
    x = brim_gelu(brim_linear(brim_layer_norm(x, "norm", 0), "in", WIDE));
    return brim_cross_entropy(brim_linear(x, "out", OUT), label, -100);
}

static brim_trainer *start_in(brim_states states, brim_precision precision, int64_t accumulate) {
    err = (brim_error){0};
    brim_trainer *t = brim_trainer_create(
        build, NULL,
        &(brim_trainer_options){
            .batch = ROWS / accumulate,
            .accumulate = accumulate,
            .device = any_device_under_test(),
            .precision = precision,
            .optimizer = {.lr = 3e-3f, .weight_decay = 0.01f, .clip = 1, .states = states}},
        &err);
    ASSERT_FINE(err);
    return t;
}

static brim_trainer *start(brim_states states, brim_precision precision) {
    return start_in(states, precision, 1);
}

// Returns the step's loss.
static double take_step(brim_trainer *t, int step) {
    float x[ROWS][IN];
    int32_t label[ROWS];
    brim_step_result result;
    for (int r = 0; r < ROWS; r++) {
        int sample = (step * ROWS + r) % 24;
        for (int i = 0; i < IN; i++) x[r][i] = sinf((float)(sample * 31 + i * 3 + sample * i % 7));
        label[r] = sample * 5 % OUT;
    }
    brim_trainer_feed(t, "x", x, sizeof x, &err);
    brim_trainer_feed(t, "label", label, sizeof label, &err);
    brim_trainer_step(t, &result, &err);
    ASSERT_FINE(err);
    return result.loss;
}

static double train_in(brim_states states, brim_precision precision, int64_t accumulate,
                       float weights[ELEMENTS]) {
    brim_trainer *t = start_in(states, precision, accumulate);
    double loss = 0;
    for (int i = 0; i < STEPS; i++) loss = take_step(t, i);
    brim_trainer_read(t, "in.weight", weights, ELEMENTS, &err);
    ASSERT_FINE(err);
    brim_trainer_free(t);
    return loss;
}

static double train(brim_states states, brim_precision precision, float weights[ELEMENTS]) {
    return train_in(states, precision, 1, weights);
}

START_TEST(learns_as_with_f32) { // _i: precisions
    static float exact[ELEMENTS], blocks[ELEMENTS], again[ELEMENTS];
    double with_f32 = train(BRIM_STATES_F32, (brim_precision)_i, exact);
    double with_q8 = train(BRIM_STATES_Q8, (brim_precision)_i, blocks);
    ck_assert_msg(with_f32 < 0.5, "f32 states: loss %g", with_f32);
    ck_assert_msg(fabs(with_q8 - with_f32) < 0.1 * with_f32, "loss %g, with f32 states %g", with_q8,
                  with_f32);
    ck_assert(memcmp(exact, blocks, sizeof exact) != 0);
    ck_assert_double_eq(train(BRIM_STATES_Q8, (brim_precision)_i, again), with_q8);
    ck_assert_mem_eq(blocks, again, sizeof blocks);
}
END_TEST

static brim_dtype gradient_dtype(const brim_trainer *t, const char *parameter) {
    const brim_graph *g = t->training.graph;
    value_id updated = g->value[graph_find_leaf(g, ROLE_PARAMETER, parameter)].update;
    const graph_node *update = &g->node[g->value[updated].producer];
    return g->value[update->input[update->outputs]].dtype;
}

// Beside 8-bit states, where bf16 products make them, and where no sum over micro-batches follows.
START_TEST(gradients_are_halved) {
    static const struct {
        brim_states states;
        brim_precision precision;
        int64_t accumulate;
        brim_dtype dtype;
    } cases[] = {{BRIM_STATES_Q8, BRIM_PRECISION_BF16, 1, BRIM_BF16},
                 {BRIM_STATES_Q8, BRIM_PRECISION_BF16, 2, BRIM_F32},
                 {BRIM_STATES_Q8, BRIM_PRECISION_F16, 1, BRIM_F32},
                 {BRIM_STATES_Q8, BRIM_PRECISION_F32, 1, BRIM_F32},
                 {BRIM_STATES_F32, BRIM_PRECISION_BF16, 1, BRIM_F32}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        brim_trainer *t = start_in(cases[i].states, cases[i].precision, cases[i].accumulate);
        ck_assert_int_eq(gradient_dtype(t, "in.weight"), cases[i].dtype);
        ck_assert_int_eq(gradient_dtype(t, "out.weight"), cases[i].dtype);
        ck_assert_int_eq(gradient_dtype(t, "in.bias"), BRIM_F32); // too small for blocks
        ck_assert_int_eq(gradient_dtype(t, "norm.weight"), BRIM_F32);
        brim_trainer_free(t);
    }
}
END_TEST

// Two micro-batches add their gradients in f32, one rounds them: both learn the same, in other bits.
START_TEST(learns_with_halved_gradients) {
    static float halved[ELEMENTS], summed[ELEMENTS];
    double with_halved = train_in(BRIM_STATES_Q8, BRIM_PRECISION_BF16, 1, halved);
    double with_sums = train_in(BRIM_STATES_Q8, BRIM_PRECISION_BF16, 2, summed);
    ck_assert_msg(fabs(with_halved - with_sums) < 0.1 * with_sums, "loss %g, with sums in f32 %g",
                  with_halved, with_sums);
    ck_assert(memcmp(halved, summed, sizeof halved) != 0);
}
END_TEST

START_TEST(takes_a_quarter_of_the_memory) {
    brim_trainer *f32 = start(BRIM_STATES_F32, BRIM_PRECISION_BF16),
                 *q8 = start(BRIM_STATES_Q8, BRIM_PRECISION_BF16);
    brim_trainer_prepare(f32, &err);
    brim_trainer_prepare(q8, &err);
    ASSERT_FINE(err);
    int64_t saved =
        brim_trainer_describe(f32).persistent_bytes - brim_trainer_describe(q8).persistent_bytes;
    ck_assert_int_gt(saved, 5 * (IN * WIDE + WIDE * OUT)); // of 8 bytes
    brim_trainer_free(f32);
    brim_trainer_free(q8);
}
END_TEST

START_TEST(states_by_name) {
    static float data[ELEMENTS];
    brim_trainer *t = start(BRIM_STATES_Q8, BRIM_PRECISION_F32);
    for (int i = 0; i < 2; i++) take_step(t, i);
    enum { BLOCKS = (ELEMENTS + 255) / 256 };
    brim_trainer_read(t, "in.weight/m.scales", data, BLOCKS, &err);
    ASSERT_FINE(err);
    for (int i = 0; i < BLOCKS; i++) ck_assert(data[i] > 0 && data[i] < 1);
    brim_trainer_read(t, "in.bias/v", data, WIDE, &err); // too small for blocks
    ASSERT_FINE(err);
    brim_trainer_read(t, "in.weight/m", data, ELEMENTS, &err);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "there is no tensor named \"in.weight/m\"");
    brim_trainer_read(t, "in.weight/m.codes", data, 64 * BLOCKS, &err);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "there is no tensor named \"in.weight/m.codes\"");
    brim_trainer_free(t);
}
END_TEST

START_TEST(resumes_to_the_same_bits) {
    static float straight[ELEMENTS], resumed[ELEMENTS];
    char folder[160];
    snprintf(folder, sizeof folder, "%s", test_path("run"));
    brim_trainer *t = start(BRIM_STATES_Q8, BRIM_PRECISION_BF16);
    for (int i = 0; i < 3; i++) take_step(t, i);
    brim_trainer_save(t, folder, &err);
    for (int i = 3; i < 6; i++) take_step(t, i);
    brim_trainer_read(t, "in.weight", straight, ELEMENTS, &err);
    brim_trainer_free(t);
    t = start(BRIM_STATES_Q8, BRIM_PRECISION_BF16);
    brim_trainer_resume(t, folder, &err);
    for (int i = 3; i < 6; i++) take_step(t, i);
    brim_trainer_read(t, "in.weight", resumed, ELEMENTS, &err);
    ASSERT_FINE(err);
    ck_assert_mem_eq(straight, resumed, sizeof straight);
    brim_trainer_free(t);
    t = start(BRIM_STATES_F32, BRIM_PRECISION_BF16);
    brim_trainer_resume(t, folder, &err);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "with optimizer states in q8; this trainer's are f32");
    brim_trainer_free(t);
}
END_TEST

START_TEST(sgd_has_none) {
    err = (brim_error){0};
    brim_trainer_options o = {.device = any_device_under_test(),
                              .optimizer = {.kind = BRIM_SGD, .states = BRIM_STATES_Q8}};
    ck_assert_ptr_null(brim_trainer_create(build, NULL, &o, &err));
    ASSERT_FAILS(err, BRIM_ARGUMENT, "options.optimizer.states is 1; expected 0 to 0");
}
END_TEST

Suite *states_q8_suite(void) {
    Suite *suite = suite_create("states_q8");
    TCase *tests = tcase_create("training");
    tcase_set_timeout(tests, 120);
    tcase_add_unchecked_fixture(tests, make_test_directory, remove_test_directory);
    tcase_add_loop_test(tests, learns_as_with_f32, BRIM_PRECISION_F32, BRIM_PRECISION_F16 + 1);
    tcase_add_test(tests, gradients_are_halved);
    tcase_add_test(tests, learns_with_halved_gradients);
    tcase_add_test(tests, takes_a_quarter_of_the_memory);
    tcase_add_test(tests, states_by_name);
    tcase_add_test(tests, resumes_to_the_same_bits);
    tcase_add_test(tests, sgd_has_none);
    suite_add_tcase(suite, tests);
    return suite;
}
