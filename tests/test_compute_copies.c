// Compute copies: which casts become variables, and that a copy is its parameter, rounded, whoever
// wrote that.
#include <math.h>
#include <string.h>
#include "core/dtype.h"
#include "graph/build.h"
#include "optim/trainer.h"
#include "tests/devices.h"
#include "tests/test_passes.h"

// ---- the pass -----------------------------------------------------------------------------------

static value_id leaf_like(brim_graph *g, value_role role, brim_value x, const char *name) {
    shape s = g->value[x.id].shape;
    return graph_leaf(g, role, BRIM_F32, &s, name);
}

static void train(brim_graph *g, brim_value p, brim_value gradient, const char *state) {
    brim_value m = graph_value_of(g, leaf_like(g, ROLE_STATE, p, state)), one = brim_constant(g, 1);
    g->phase = PHASE_UPDATE;
    graph_op(g, OP_SGD, (brim_value[]){p, m, gradient, one, one, one}, 6,
             &(brim_attr){.optimizer = {.beta1 = 0.5f, .lr_scale = 1}});
}

START_TEST(casts_become_variables) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_BF16, 2, 4);
    brim_value w = brim_parameter(g, "w", normal, 4, 4), b = brim_parameter(g, "b", normal, 4);
    brim_value low = brim_cast(w, BRIM_BF16), y = brim_matmul(x, low);
    brim_output(brim_add(y, brim_cast(b, BRIM_BF16)), "y");
    brim_output(brim_matmul_t(y, false, low, true), "z");
    train(g, w, brim_exp(w), "w/m");
    TAKE(pass_compute_copies(g, NULL, &err));
    assert_text(
        g,
        "%0 = input \"x\" [2,4] bf16\n"
        "%1 = parameter \"w\" [4,4] f32 normal(1) -> %11\n"
        "%2 = copy \"w/bf16\" [4,4] bf16 -> %13\n"
        "%3 = parameter \"b\" [4] f32 normal(1)\n" // has no update
        "%4 = copy \"b/bf16\" [4] bf16\n"
        "%5 = matmul(%0, %2) [2,4] bf16\n"
        "%6 = add(%5, %4) [2,4] bf16\n"
        "%7 = matmul(%5, %2, transpose_b) [2,4] bf16\n"
        "%8 = exp(%1) [4,4] f32\n"
        "%9 = state \"w/m\" [4,4] f32 -> %12\n"
        "%10 = constant(1) [] f32\n"
        "%11, %12, %13 = sgd_cast(%1, %9, %2, %8, %10, %10, %10, beta1 0.5, beta2 0, eps 0, "
        "decay 0, lr_scale 1) [4,4] f32, [4,4] f32, [4,4] bf16 ; update\n"
        "output \"y\" = %6\n"
        "output \"z\" = %7\n");
    ck_assert_int_eq(compute_copy_of(g, 1), 2);
    ck_assert_int_eq(compute_copy_of(g, 3), 4);
    FREE_GRAPH;
}
END_TEST

START_TEST(other_casts_stay) {
    MAKE_GRAPH;
    shape s = {1, {4}};
    brim_value w = brim_parameter(g, "w", normal, 4), sum = brim_parameter(g, "sum", normal, 4);
    brim_value x = brim_input(g, "x", BRIM_F32, 4);
    brim_output(brim_cast(w, BRIM_F16), "named");
    brim_output(brim_relu(brim_cast(x, BRIM_F16)), "of_an_input");
    brim_output(brim_relu(brim_cast(brim_slice(w, 0, 0, 2), BRIM_F16)), "view");
    brim_value integers = brim_cast(w, BRIM_I32);
    brim_output(brim_add(integers, integers), "i32");
    brim_output(brim_relu(brim_cast(sum, BRIM_F16)), "without_a_copying_update");
    graph_op(g, OP_ACCUMULATE, (brim_value[]){sum, x}, 2, NULL);
    graph_leaf(g, ROLE_STATE, BRIM_F32, &s, "m");
    TAKE(pass_compute_copies(g, NULL, &err));
    ck_assert_int_eq(count_ops(g, OP_CAST), 5);
    ck_assert_int_eq(compute_copy_of(g, w.id), -1);
    FREE_GRAPH;
}
END_TEST

// A parameter has one copy: the type of the first cast.
START_TEST(one_copy_for_a_parameter) {
    MAKE_GRAPH;
    begin_widely(g);
    g->results = 0;
    brim_value w = brim_parameter(g, "w", normal, 4);
    brim_output(brim_relu(brim_cast(w, BRIM_F16)), "a");
    brim_output(brim_relu(brim_cast(w, BRIM_BF16)), "b");
    brim_output(brim_exp(brim_cast(w, BRIM_F16)), "c");
    TAKE(pass_compute_copies(g, NULL, &err));
    assert_text(g, "%0 = input \"row\" [1,2] f32\n"
                   "%1 = concat(%0, %0, %0, %0, %0, %0, %0, %0, %0, %0, %0, %0, %0, %0, %0, %0, "
                   "axis 0) [16,2] f32\n"
                   "%2 = parameter \"w\" [4] f32 normal(1)\n"
                   "%3 = copy \"w/f16\" [4] f16\n"
                   "%4 = relu(%3) [4] f16\n"
                   "%5 = cast(%2) [4] bf16\n"
                   "%6 = relu(%5) [4] bf16\n"
                   "%7 = exp(%3) [4] f16\n"
                   "output \"a\" = %4\n"
                   "output \"b\" = %6\n"
                   "output \"c\" = %7\n");
    FREE_GRAPH;
}
END_TEST

START_TEST(a_guest_has_the_owners_copies) {
    brim_graph *both[2];
    MAKE_GRAPH;
    for (int guest = 0; guest < 2; guest++) {
        brim_graph *made = both[guest] = brim_graph_create(&err);
        brim_value w = brim_parameter(made, "w", normal, 4),
                   b = brim_parameter(made, "b", normal, 4);
        brim_output(brim_relu(brim_cast(w, BRIM_F16)), "w");
        brim_output(brim_relu(guest ? brim_cast(b, BRIM_F16) : b), "b");
    }
    brim_graph *owner = pass_compute_copies(both[0], NULL, &err);
    TAKE(pass_compute_copies(both[1], owner, &err));
    ck_assert_int_eq(count_ops(g, OP_CAST), 1);
    ck_assert_int_ge(graph_find_leaf(g, ROLE_COPY, "w/f16"), 0);
    ck_assert_int_lt(graph_find_leaf(g, ROLE_COPY, "b/f16"), 0);
    for (int i = 0; i < 2; i++) brim_graph_free(both[i]);
    brim_graph_free(owner);
    FREE_GRAPH;
}
END_TEST

// ---- training -----------------------------------------------------------------------------------

enum { ROWS = 4, WIDTH = 6, OUT = 3 };
static const brim_init ones = {BRIM_ONES, 0};
static brim_error err;

// "gain" is trained in f32; a program that multiplies by it casts it for itself.
static brim_loss build(brim_graph *g, int64_t batch, int64_t length, void *user) {
    (void)length;
    brim_value x = brim_input(g, "x", BRIM_F32, batch, WIDTH);
    brim_value label = brim_input(g, "label", BRIM_I32, batch);
    brim_value y = brim_layer_norm(x, "norm", 0);
    if (user) y = brim_mul(y, brim_parameter(g, "norm.weight", ones, WIDTH));
    brim_value logits = brim_linear(y, "out", OUT);
    brim_output(logits, "logits");
    return brim_cross_entropy(logits, label, -100);
}

static void feed(brim_trainer *t, brim_program *p, float size) {
    float x[ROWS * WIDTH];
    int32_t label[ROWS] = {0, 1, 2, 1};
    for (int i = 0; i < ROWS * WIDTH; i++) x[i] = size * sinf((float)i);
    if (p) {
        brim_program_feed(p, "x", x, sizeof x, &err);
        brim_program_feed(p, "label", label, sizeof label, &err);
    } else {
        brim_trainer_feed(t, "x", x, sizeof x, &err);
        brim_trainer_feed(t, "label", label, sizeof label, &err);
    }
    ASSERT_FINE(err);
}

static brim_trainer_options options_of(brim_precision precision, brim_optimizer_kind kind) {
    return (brim_trainer_options){.batch = ROWS / 2,
                                  .accumulate = 2,
                                  .device = any_device_under_test(),
                                  .precision = precision,
                                  .on_nan = BRIM_NAN_SKIP,
                                  .optimizer = {.kind = kind, .lr = 0.1f, .weight_decay = 0.1f}};
}

static void read_variable(brim_trainer *t, value_id v, void *data, size_t bytes) {
    t->target.backend->read(t->target.device, t->training.plan.storage[v].offset, data,
                            (int64_t)bytes, &err);
    ASSERT_FINE(err);
}

// Every copy of the training program is its parameter, rounded; returns their number.
static int check_copies(brim_trainer *t, const char *when) {
    const brim_graph *g = t->training.graph;
    int found = 0;
    for (int i = 0; i < t->parameters; i++) {
        value_id copy = compute_copy_of(g, t->parameter[i]);
        if (copy < 0) continue;
        float p[WIDTH * OUT];
        uint16_t is[WIDTH * OUT], expected[WIDTH * OUT];
        size_t count = (size_t)shape_elements(&g->value[copy].shape);
        ck_assert_uint_le(count, WIDTH * OUT);
        read_variable(t, t->parameter[i], p, count * sizeof *p);
        read_variable(t, copy, is, count * sizeof *is);
        dtype_from_f32(g->value[copy].dtype, p, expected, count);
        ck_assert_msg(memcmp(is, expected, count * sizeof *is) == 0, "%s: %s is stale", when,
                      g->value[copy].name);
        found++;
    }
    return found;
}

static void expect_copies(brim_trainer *t, const char *when) {
    ck_assert_int_eq(check_copies(t, when), 2); // of the layer's weight and bias
}

START_TEST(copies_are_fresh) {
    char folder[160], name[] = {'r', 'u', 'n', (char)('0' + _i), '\0'};
    snprintf(folder, sizeof folder, "%s", test_path(name));
    err = (brim_error){0};
    brim_optimizer_kind kind = _i % 2 ? BRIM_SGD : BRIM_ADAMW;
    brim_precision precision = _i / 2 ? BRIM_PRECISION_F16 : BRIM_PRECISION_BF16;
    brim_trainer_options o = options_of(precision, kind);
    brim_trainer *t = brim_trainer_create(build, NULL, &o, &err);
    brim_trainer_prepare(t, &err);
    ASSERT_FINE(err);
    expect_copies(t, "after the start");
    brim_step_result result;
    for (int step = 0; step < 3; step++) {
        feed(t, NULL, step == 1 ? INFINITY : 1); // step 1 is skipped
        brim_trainer_step(t, &result, &err);
        ASSERT_FINE(err);
        ck_assert_int_eq(result.skipped, step == 1);
        expect_copies(t, step == 1 ? "after a skipped step" : "after a step");
    }
    brim_trainer_save(t, folder, &err);
    float weight[WIDTH * OUT], saved[WIDTH * OUT];
    brim_trainer_read(t, "out.weight", saved, WIDTH * OUT, &err);
    for (int i = 0; i < WIDTH * OUT; i++) weight[i] = 1.0f / (float)(i + 3);
    brim_trainer_write(t, "out.weight", weight, WIDTH * OUT, &err);
    ASSERT_FINE(err);
    expect_copies(t, "after a write");
    brim_trainer_resume(t, folder, &err);
    ASSERT_FINE(err);
    expect_copies(t, "after resuming");
    brim_trainer_read(t, "out.weight", weight, WIDTH * OUT, &err);
    ck_assert_mem_eq(weight, saved, sizeof saved);
    brim_trainer_read(t, precision == BRIM_PRECISION_F16 ? "out.weight/f16" : "out.weight/bf16",
                      weight, WIDTH * OUT, &err);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "there is no tensor named \"out.weight/");
    brim_trainer_free(t);
}
END_TEST

// A program sees what training has made of a parameter, through the owner's copy or its own cast.
START_TEST(programs_share_copies) {
    err = (brim_error){0};
    bool casts_itself = _i;
    brim_trainer_options o = options_of(BRIM_PRECISION_BF16, BRIM_ADAMW);
    brim_trainer *t = brim_trainer_create(build, NULL, &o, &err);
    brim_program *p = brim_trainer_program(t, build, casts_itself ? &o : NULL, ROWS, 0, &err);
    ASSERT_FINE(err);
    ck_assert_int_lt(graph_find_leaf(p->compiled.graph, ROLE_COPY, "norm.weight/bf16"), 0);
    value_id own = graph_find_leaf(p->compiled.graph, ROLE_COPY, "out.weight/bf16"),
             owners = graph_find_leaf(t->training.graph, ROLE_COPY, "out.weight/bf16");
    ck_assert_int_ge(own, 0);
    ck_assert_int_eq(p->compiled.plan.storage[own].offset, t->training.plan.storage[owners].offset);
    double before, after, count;
    feed(t, p, 1);
    brim_program_run(p, &before, &count, &err);
    for (int step = 0; step < 5; step++) {
        feed(t, NULL, 1);
        brim_trainer_step(t, NULL, &err);
    }
    feed(t, p, 1);
    brim_program_run(p, &after, &count, &err);
    ASSERT_FINE(err);
    ck_assert_double_lt(after, 0.9 * before);
    expect_copies(t, "after training");
    brim_trainer_free(t);
}
END_TEST

Suite *compute_copies_suite(void) {
    Suite *suite = suite_create("compute_copies");
    TCase *pass = tcase_create("pass");
    tcase_add_test(pass, casts_become_variables);
    tcase_add_test(pass, other_casts_stay);
    tcase_add_test(pass, one_copy_for_a_parameter);
    tcase_add_test(pass, a_guest_has_the_owners_copies);
    suite_add_tcase(suite, pass);
    TCase *training = tcase_create("training");
    tcase_set_timeout(training, 60);
    tcase_add_unchecked_fixture(training, make_test_directory, remove_test_directory);
    tcase_add_loop_test(training, copies_are_fresh, 0, 4);
    tcase_add_loop_test(training, programs_share_copies, 0, 2);
    suite_add_tcase(suite, training);
    return suite;
}
