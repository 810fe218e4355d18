// The trainer: options, accumulation, groups, skipped steps, tensors by name, checkpoints.
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <brim/brim.h>
#include "tests/devices.h"
#include "tests/disk_watch.h"
#include "tests/test_core.h"

enum { IN = 5, WIDE = 7, OUT = 3, ROWS = 8 };

static brim_error err;

// A classifier with every kind of parameter, and labels of which some are to be ignored.
static brim_loss build(brim_graph *g, int64_t batch, int64_t length, void *user) {
    (void)length;
    brim_value x = brim_input(g, "x", BRIM_F32, batch, IN);
    x = brim_layer_norm(brim_gelu(brim_linear(x, "in", WIDE)), "norm", 0);
    x = brim_dropout(x, user ? *(double *)user : 0);
    brim_value logits = brim_linear(x, "out", OUT);
    brim_output(logits, "logits");
    return brim_cross_entropy(logits, brim_input(g, "label", BRIM_I32, batch), -100);
}

typedef struct sample {
    float x[ROWS][IN];
    int32_t label[ROWS];
} sample;

static sample make_sample(int step) {
    sample s;
    for (int r = 0; r < ROWS; r++) {
        for (int i = 0; i < IN; i++) s.x[r][i] = sinf((float)(step * 31 + r * 7 + i * 3));
        s.label[r] = (step + r) % 4 == 3 ? -100 : (r + step) % OUT;
    }
    return s;
}

static void step_on(brim_trainer *t, const sample *s, brim_step_result *r) {
    brim_trainer_feed(t, "x", s->x, sizeof s->x, &err);
    brim_trainer_feed(t, "label", s->label, sizeof s->label, &err);
    brim_trainer_step(t, r, &err);
    ASSERT_FINE(err);
}

static void take_step(brim_trainer *t, int step, brim_step_result *r) {
    sample s = make_sample(step);
    step_on(t, &s, r);
}

static brim_trainer_options options_of(int64_t batch) {
    return (brim_trainer_options){.batch = batch,
                                  .accumulate = ROWS / batch,
                                  .device = any_device_under_test(),
                                  .seed = 3,
                                  .optimizer = {.lr = 0.05f, .weight_decay = 0.1f, .clip = 0.5f}};
}

static brim_trainer *make_trainer(const brim_trainer_options *o, void *user) {
    err = (brim_error){0};
    brim_trainer *t = brim_trainer_create(build, user, o, &err);
    ASSERT_FINE(err);
    return t;
}

enum { WEIGHTS = IN * WIDE };

static void read_weights(brim_trainer *t, float out[WEIGHTS]) {
    brim_trainer_read(t, "in.weight", out, WEIGHTS, &err);
    ASSERT_FINE(err);
}

// Trains three steps and reads a parameter.
static void train_briefly(const brim_trainer_options *o, void *user, brim_step_result results[3],
                          float weights[WEIGHTS]) {
    brim_trainer *t = make_trainer(o, user);
    for (int i = 0; i < 3; i++) take_step(t, i, &results[i]);
    read_weights(t, weights);
    brim_trainer_free(t);
}

// How a step's batch is cut changes rounding only; ignored labels count nowhere, however they fall.
START_TEST(accumulation_is_one_batch) {
    brim_step_result whole[3], cut[3];
    float a[WEIGHTS], b[WEIGHTS];
    brim_trainer_options one = options_of(ROWS);
    train_briefly(&one, NULL, whole, a);
    for (int64_t batch = 1; batch < ROWS; batch *= 2) {
        brim_trainer_options several = options_of(batch);
        train_briefly(&several, NULL, cut, b);
        for (int i = 0; i < 3; i++) {
            ck_assert_double_eq(cut[i].targets, whole[i].targets);
            ck_assert_double_eq_tol(cut[i].loss, whole[i].loss, 1e-5 * fabs(whole[i].loss));
            ck_assert_double_eq_tol(cut[i].grad_norm, whole[i].grad_norm,
                                    1e-4 * whole[i].grad_norm);
        }
        for (int i = 0; i < WEIGHTS; i++) ck_assert_float_eq_tol(a[i], b[i], 1e-4f);
    }
}
END_TEST

// Dropout's mask belongs to a row's place in the step, not in its micro-batch.
START_TEST(dropout_does_not_see_the_cut) {
    double p = 0.4;
    brim_step_result whole[3], cut[3];
    float a[WEIGHTS], b[WEIGHTS];
    brim_trainer_options one = options_of(ROWS), two = options_of(ROWS / 4);
    train_briefly(&one, &p, whole, a);
    train_briefly(&two, &p, cut, b);
    for (int i = 0; i < 3; i++)
        ck_assert_double_eq_tol(cut[i].loss, whole[i].loss, 1e-5 * fabs(whole[i].loss));
}
END_TEST

START_TEST(same_bits_twice_and_without_fusion) {
    double p = 0.2;
    for (brim_precision precision = BRIM_PRECISION_F32; precision <= BRIM_PRECISION_F16;
         precision++) {
        brim_step_result r[3][3];
        float w[3][WEIGHTS];
        for (int run = 0; run < 3; run++) {
            brim_trainer_options o = options_of(ROWS / 2);
            o.precision = precision;
            o.no_fusion = run == 2;
            train_briefly(&o, &p, r[run], w[run]);
        }
        for (int run = 1; run < 3; run++) {
            ck_assert_int_eq(memcmp(w[0], w[run], sizeof w[0]), 0);
            for (int i = 0; i < 3; i++)
                ck_assert(r[0][i].loss == r[run][i].loss &&
                          r[0][i].grad_norm == r[run][i].grad_norm);
        }
    }
}
END_TEST

START_TEST(groups_freeze_and_scale) {
    const brim_parameter_group groups[] = {{.pattern = "in.*", .frozen = true},
                                           {.pattern = "*.bias", .lr_scale = 0.5f},
                                           {.pattern = "in.bias", .lr_scale = 2}};
    brim_trainer_options o = options_of(ROWS);
    o.groups = groups;
    o.group_count = 3;
    brim_trainer *t = make_trainer(&o, NULL);
    float before[WEIGHTS], after[WEIGHTS], bias[2][WIDE];
    read_weights(t, before);
    brim_trainer_read(t, "in.bias", bias[0], WIDE, &err);
    brim_step_result r;
    for (int i = 0; i < 3; i++) take_step(t, i, &r);
    read_weights(t, after);
    brim_trainer_read(t, "in.bias", bias[1], WIDE, &err);
    ck_assert_int_eq(memcmp(before, after, sizeof before), 0);
    ck_assert_int_ne(memcmp(bias[0], bias[1], sizeof bias[0]),
                     0); // the last group that matches counts
    int frozen = 0;
    brim_tensor_info info;
    for (int i = 0; brim_trainer_tensor_info(t, i, &info); i++) frozen += info.frozen;
    ck_assert_int_eq(frozen, 1);
    brim_trainer_read(t, "in.weight/m", after, WEIGHTS, &err);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "in.weight/m");
    brim_trainer_free(t);
}
END_TEST

// What has a name is on the disk: model, state, the folder, and last the name of the latest.
static void save_watched(brim_trainer *t) {
    int renames;
    disk_watch_begin();
    brim_trainer_save(t, test_directory, &err);
    const char *missing = disk_watch_end(&renames);
    ck_assert_msg(!missing, "%s", missing);
    ck_assert_int_eq(renames, 4);
    ck_assert_ptr_nonnull(strstr(disk_watch_last(), "/latest"));
}

START_TEST(resume_is_the_same_run) {
    double p = 0.3;
    float straight[WEIGHTS], resumed[WEIGHTS];
    brim_step_result a, b;
    brim_trainer_options o = options_of(ROWS / 2);
    o.precision = BRIM_PRECISION_F16;
    brim_trainer *t = make_trainer(&o, &p);
    for (int i = 0; i < 5; i++) {
        sample s = make_sample(i);
        if (i == 1) s.x[2][1] = INFINITY; // is skipped, and halves the loss scale
        step_on(t, &s, &a);
        brim_trainer_note(t, "position", i + 1, &err);
        if (i == 2) save_watched(t);
        ASSERT_FINE(err);
    }
    read_weights(t, straight);
    brim_trainer_free(t);

    t = make_trainer(&o, &p);
    brim_trainer_resume(t, test_directory, &err);
    ASSERT_FINE(err);
    ck_assert_int_eq(brim_trainer_describe(t).steps, 3);
    ck_assert_int_eq(brim_trainer_noted(t, "position", 0), 3);
    for (int i = 3; i < 5; i++) take_step(t, i, &b);
    read_weights(t, resumed);
    ck_assert_int_eq(memcmp(straight, resumed, sizeof straight), 0);
    ck_assert(a.loss == b.loss && a.step == b.step && a.loss_scale == b.loss_scale);
    brim_trainer_free(t);
}
END_TEST

START_TEST(notes_are_few_and_short) {
    brim_trainer_options o = options_of(ROWS);
    brim_trainer *t = make_trainer(&o, NULL);
    char name[202];
    memset(name, 'n', sizeof name);
    name[201] = '\0';
    brim_trainer_note(t, name, 1, &err);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "names of at most 200 bytes");
    name[200] = '\0';
    brim_trainer_note(t, name, 7, &err);
    for (int i = 1; i < 1000; i++) {
        char other[16];
        snprintf(other, sizeof other, "%d", i);
        brim_trainer_note(t, other, i, &err);
    }
    brim_trainer_note(t, "5", 50, &err);
    ASSERT_FINE(err);
    brim_trainer_note(t, "one more", 1, &err);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "at most 1000 notes");
    brim_trainer_save(t, test_path("notes"), &err);
    brim_trainer_free(t);
    t = make_trainer(&o, NULL);
    brim_trainer_resume(t, test_path("notes"), &err);
    ASSERT_FINE(err);
    ck_assert_int_eq(brim_trainer_noted(t, name, 0), 7);
    ck_assert_int_eq(brim_trainer_noted(t, "5", 0), 50);
    brim_trainer_free(t);
}
END_TEST

// Gradients that are not finite change nothing, and f16's scale halves.
START_TEST(overflow_skips_the_step) {
    brim_trainer_options o = options_of(ROWS);
    o.precision = BRIM_PRECISION_F16;
    o.on_nan = BRIM_NAN_SKIP;
    brim_trainer *t = make_trainer(&o, NULL);
    float before[WEIGHTS], after[WEIGHTS];
    brim_step_result good, bad, next;
    take_step(t, 0, &good);
    read_weights(t, before);
    sample s = make_sample(1);
    s.x[2][1] = INFINITY;
    brim_trainer_feed(t, "x", s.x, sizeof s.x, &err);
    brim_trainer_feed(t, "label", s.label, sizeof s.label, &err);
    brim_trainer_step(t, &bad, &err);
    ASSERT_FINE(err);
    read_weights(t, after);
    take_step(t, 2, &next);
    ck_assert(!good.skipped && bad.skipped && !next.skipped);
    ck_assert_int_eq(memcmp(before, after, sizeof before), 0);
    ck_assert_double_eq(next.loss_scale, bad.loss_scale / 2);
    brim_trainer_free(t);
}
END_TEST

// What a step that was skipped has left behind: nothing, in moments and their corrections either.
START_TEST(a_skipped_step_leaves_nothing) {
    float weights[2][WEIGHTS];
    for (int skips = 0; skips < 2; skips++) {
        brim_trainer_options o = options_of(ROWS);
        o.on_nan = BRIM_NAN_SKIP;
        brim_step_result r;
        brim_trainer *t = make_trainer(&o, NULL);
        take_step(t, 0, &r);
        if (skips) {
            sample s = make_sample(1);
            s.x[2][1] = INFINITY;
            step_on(t, &s, &r);
            ck_assert(r.skipped);
        }
        take_step(t, 2, &r);
        read_weights(t, weights[skips]);
        brim_trainer_free(t);
    }
    ck_assert_int_eq(memcmp(weights[0], weights[1], sizeof weights[0]), 0);
}
END_TEST

// The distance that all parameters go in a step of plain SGD with a rate of 1.
static double step_length(float clip, double *norm) {
    static const char *const names[] = {"in.weight", "in.bias",    "norm.weight",
                                        "norm.bias", "out.weight", "out.bias"};
    static const size_t sizes[] = {WEIGHTS, WIDE, WIDE, WIDE, WIDE * OUT, OUT};
    brim_trainer_options o = options_of(ROWS);
    o.optimizer = (brim_optimizer){.kind = BRIM_SGD, .lr = 1, .clip = clip};
    brim_trainer *t = make_trainer(&o, NULL);
    float before[6][WEIGHTS], after[WEIGHTS];
    for (int i = 0; i < 6; i++) brim_trainer_read(t, names[i], before[i], sizes[i], &err);
    brim_step_result r;
    take_step(t, 0, &r);
    double sum = 0;
    for (int i = 0; i < 6; i++) {
        brim_trainer_read(t, names[i], after, sizes[i], &err);
        ASSERT_FINE(err);
        for (size_t k = 0; k < sizes[i]; k++) {
            double moved = (double)after[k] - before[i][k];
            sum += moved * moved;
        }
    }
    brim_trainer_free(t);
    *norm = r.grad_norm;
    return sqrt(sum);
}

START_TEST(clipping_shortens_long_steps_alone) {
    double norm, same;
    ck_assert_double_eq_tol(step_length(0, &norm), norm, 1e-5 * norm);
    ck_assert_double_eq_tol(step_length((float)norm / 2, &same), norm / 2, 1e-5 * norm);
    ck_assert_double_eq_tol(same, norm, 1e-6 * norm); // as it was before it was clipped
    ck_assert_double_eq_tol(step_length((float)norm * 2, &same), norm, 1e-5 * norm);
}
END_TEST

// Rows that are ignored count nowhere, and rows that are there twice change no mean.
START_TEST(gradients_are_means_over_targets) {
    brim_trainer_options o = options_of(ROWS);
    brim_step_result half, twice;
    sample s = make_sample(0);
    for (int r = 0; r < ROWS; r++) s.label[r] = r < ROWS / 2 ? r % OUT : -100;
    brim_trainer *t = make_trainer(&o, NULL);
    step_on(t, &s, &half);
    brim_trainer_free(t);
    memcpy(s.x[ROWS / 2], s.x[0], sizeof s.x / 2);
    memcpy(&s.label[ROWS / 2], s.label, sizeof s.label / 2);
    t = make_trainer(&o, NULL);
    step_on(t, &s, &twice);
    brim_trainer_free(t);
    ck_assert_double_eq(half.targets, ROWS / 2);
    ck_assert_double_eq(twice.targets, ROWS);
    ck_assert_double_eq_tol(half.loss, twice.loss, 1e-6);
    ck_assert_double_eq_tol(half.grad_norm, twice.grad_norm, 1e-5 * twice.grad_norm);
}
END_TEST

// A step without targets has no gradient, and decay is left: by default of matrices alone.
START_TEST(vectors_do_not_decay) {
    brim_trainer_options o = options_of(ROWS);
    float before[WEIGHTS], after[WEIGHTS], gain[WIDE];
    brim_step_result r;
    sample s = make_sample(0);
    for (int i = 0; i < ROWS; i++) s.label[i] = -100;
    brim_trainer *t = make_trainer(&o, NULL);
    read_weights(t, before);
    step_on(t, &s, &r);
    ck_assert(r.targets == 0 && r.loss == 0);
    read_weights(t, after);
    brim_trainer_read(t, "norm.weight", gain, WIDE, &err);
    ASSERT_FINE(err);
    for (int i = 0; i < WEIGHTS; i++)
        ck_assert_double_eq_tol(after[i], before[i] * (1 - 0.05 * 0.1), 1e-7);
    for (int i = 0; i < WIDE; i++) ck_assert(gain[i] == 1);
    brim_trainer_free(t);
}
END_TEST

START_TEST(programs_share_parameters) {
    brim_trainer_options o = options_of(ROWS);
    brim_trainer *t = make_trainer(&o, NULL);
    brim_program *other = brim_trainer_program(t, build, NULL, 2, 0, &err);
    brim_step_result r;
    take_step(t, 0, &r);
    sample s = make_sample(0);
    float first[2][OUT], second[2][OUT];
    double sum, count;
    for (int i = 0; i < 2; i++) {
        brim_program_feed(other, "x", s.x, 2 * sizeof s.x[0], &err);
        brim_program_feed(other, "label", s.label, 2 * sizeof s.label[0], &err);
        brim_program_run(other, &sum, &count, &err);
        brim_program_read(other, "logits", i ? second[0] : first[0], 2 * OUT, &err);
        ASSERT_FINE(err);
        if (i == 0) take_step(t, 1, &r);
    }
    ck_assert_double_eq(count, 2);
    ck_assert(sum > 0);
    ck_assert_int_ne(memcmp(first, second, sizeof first), 0);
    brim_trainer_program(t, build, NULL, 2, 0, &err);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "before the first step");
    brim_trainer_free(t);
}
END_TEST

START_TEST(tensors_are_listed) {
    static const struct {
        const char *name;
        int rank;
        int64_t elements, first;
    } rows[] = {{"in.weight", 2, WIDE * IN, WIDE},  {"in.bias", 1, WIDE, WIDE},
                {"norm.weight", 1, WIDE, WIDE},     {"norm.bias", 1, WIDE, WIDE},
                {"out.weight", 2, OUT * WIDE, OUT}, {"out.bias", 1, OUT, OUT}};
    const brim_parameter_group still = {.pattern = "norm.*", .frozen = true};
    brim_trainer_options o = options_of(ROWS);
    o.groups = &still;
    o.group_count = 1;
    brim_trainer *t = make_trainer(&o, NULL);
    brim_tensor_info info;
    ck_assert_int_eq(brim_trainer_tensor_count(t), 6);
    for (int i = 0; i < 6; i++) {
        ck_assert(brim_trainer_tensor_info(t, i, &info));
        ck_assert_str_eq(info.name, rows[i].name);
        ck_assert_int_eq(info.rank, rows[i].rank);
        ck_assert_int_eq(info.elements, rows[i].elements);
        ck_assert_int_eq(info.dim[0], rows[i].first);
        ck_assert(info.frozen == (strncmp(info.name, "norm.", 5) == 0));
    }
    ck_assert(!brim_trainer_tensor_info(t, 6, &info) && !brim_trainer_tensor_info(t, -1, &info));
    brim_trainer_free(t);
}
END_TEST

static brim_loss build_nothing(brim_graph *g, int64_t batch, int64_t length, void *user) {
    (void)g, (void)batch, (void)length, (void)user;
    return (brim_loss){0};
}

static brim_loss build_untrainable(brim_graph *g, int64_t batch, int64_t length, void *user) {
    (void)length, (void)user;
    brim_parameter(g, "unused", ((brim_init){BRIM_ONES, 1}), 4);
    brim_value x = brim_input(g, "x", BRIM_F32, batch, IN);
    return brim_mse(x, brim_input(g, "y", BRIM_F32, batch, IN));
}

static void expect_refused(brim_builder builder, const brim_trainer_options *o, brim_status status,
                           const char *part) {
    err = (brim_error){0};
    ck_assert_ptr_null(brim_trainer_create(builder, NULL, o, &err));
    ASSERT_FAILS(err, status, part);
}

START_TEST(mistakes_are_named) {
    brim_trainer_options o = options_of(ROWS);
    expect_refused(build_nothing, &o, BRIM_GRAPH, "loss");
    expect_refused(build_untrainable, &o, BRIM_GRAPH, "no parameter");
    expect_refused(NULL, &o, BRIM_ARGUMENT, "builder");
    o.batch = -2;
    expect_refused(build, &o, BRIM_ARGUMENT, "options.batch");
    o = options_of(2);
    o.step_batch = 7;
    expect_refused(build, &o, BRIM_ARGUMENT, "options.step_batch is 7, with batch 2");
    o.step_batch = 8;
    brim_trainer_free(make_trainer(&o, NULL));
    o = options_of(ROWS);
    o.optimizer.beta2 = 1.5f;
    expect_refused(build, &o, BRIM_ARGUMENT, "beta2");
    o = options_of(ROWS);
    o.optimizer.lr = NAN;
    expect_refused(build, &o, BRIM_ARGUMENT, "lr");
    o = options_of(ROWS);
    o.device = "abacus";
    expect_refused(build, &o, BRIM_ARGUMENT, "abacus");
    const brim_parameter_group all = {.pattern = "*", .frozen = true};
    o = options_of(ROWS);
    o.groups = &all;
    o.group_count = 1;
    expect_refused(build, &o, BRIM_GRAPH, "no parameter");
}
END_TEST

START_TEST(feeding_is_checked) {
    brim_trainer_options o = options_of(ROWS);
    brim_trainer *t = make_trainer(&o, NULL);
    sample s = make_sample(0);
    brim_trainer_feed(t, "x", s.x, sizeof s.x - 4, &err);
    ASSERT_FAILS(err, BRIM_SHAPE, "\"x\"");
    brim_trainer_feed(t, "z", s.x, sizeof s.x, &err);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "\"z\"");
    brim_trainer_feed(t, "x", s.x, sizeof s.x, &err);
    brim_trainer_step(t, NULL, &err);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "\"label\"");
    float one;
    brim_trainer_read(t, "in.weight", &one, 1, &err);
    ASSERT_FAILS(err, BRIM_SHAPE, "in.weight");
    brim_trainer_resume(t, "/nonexistent", &err);
    ASSERT_FAILS(err, BRIM_IO, "/nonexistent");
    brim_trainer_free(t);
}
END_TEST

Suite *trainer_suite(void) {
    Suite *suite = suite_create("trainer");
    TCase *steps = tcase_create("steps");
    tcase_set_timeout(steps, 300);
    tcase_add_unchecked_fixture(steps, make_test_directory, remove_test_directory);
    tcase_add_test(steps, accumulation_is_one_batch);
    tcase_add_test(steps, dropout_does_not_see_the_cut);
    tcase_add_test(steps, same_bits_twice_and_without_fusion);
    tcase_add_test(steps, groups_freeze_and_scale);
    tcase_add_test(steps, resume_is_the_same_run);
    tcase_add_test(steps, notes_are_few_and_short);
    tcase_add_test(steps, overflow_skips_the_step);
    tcase_add_test(steps, a_skipped_step_leaves_nothing);
    tcase_add_test(steps, clipping_shortens_long_steps_alone);
    tcase_add_test(steps, gradients_are_means_over_targets);
    tcase_add_test(steps, vectors_do_not_decay);
    tcase_add_test(steps, programs_share_parameters);
    tcase_add_test(steps, tensors_are_listed);
    tcase_add_test(steps, mistakes_are_named);
    tcase_add_test(steps, feeding_is_checked);
    suite_add_tcase(suite, steps);
    return suite;
}
