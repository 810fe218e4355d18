// Steps of a linear model against the formulas in double precision, and what a trainer says of
// itself, of its tensors and of its programs.
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <brim/brim.h>
#include "optim/budget.h"
#include "optim/initialize.h"
#include "optim/trainer.h"
#include "tests/allocations.h"
#include "tests/devices.h"
#include "tests/test_core.h"

enum { IN = 3, OUT = 2, ROWS = 4, WEIGHTS = OUT * IN, STEPS = 4 };

static brim_error err;

static brim_loss build(brim_graph *g, int64_t batch, int64_t length, void *user) {
    (void)length, (void)user;
    brim_value y = brim_linear(brim_input(g, "x", BRIM_F32, batch, IN), "l", OUT);
    brim_output(y, "y");
    return brim_mse(y, brim_input(g, "t", BRIM_F32, batch, OUT));
}

typedef struct sample {
    float x[ROWS][IN], t[ROWS][OUT];
} sample;

static sample sample_of(int step) {
    sample s;
    for (int r = 0; r < ROWS; r++) {
        for (int i = 0; i < IN; i++) s.x[r][i] = sinf((float)(step * 17 + r * 5 + i * 3 + 1));
        for (int o = 0; o < OUT; o++) s.t[r][o] = 2 * cosf((float)(step * 13 + r * 7 + o * 2));
    }
    return s;
}

static brim_trainer *make(brim_trainer_options o) {
    err = (brim_error){0};
    o.device = any_device_under_test();
    o.batch = ROWS / (o.accumulate ? o.accumulate : 1);
    o.seed = 5;
    brim_trainer *t = brim_trainer_create(build, NULL, &o, &err);
    ASSERT_FINE(err);
    return t;
}

static void step_on(brim_trainer *t, int step, brim_step_result *r) {
    sample s = sample_of(step);
    brim_trainer_feed(t, "x", s.x, sizeof s.x, &err);
    brim_trainer_feed(t, "t", s.t, sizeof s.t, &err);
    brim_trainer_step(t, r, &err);
    ASSERT_FINE(err);
}

// ---- by formulas --------------------------------------------------------------------------------

// The weights by rows, and behind them the bias.
enum { ALL = WEIGHTS + OUT };
typedef struct formula {
    double p[ALL], m[ALL], v[ALL];
    double loss, norm;
} formula;

static void gradients(formula *f, const sample *s, double g[ALL]) {
    memset(g, 0, ALL * sizeof *g);
    f->loss = 0;
    for (int r = 0; r < ROWS; r++) {
        for (int o = 0; o < OUT; o++) {
            double d = f->p[WEIGHTS + o] - s->t[r][o];
            for (int i = 0; i < IN; i++) d += f->p[o * IN + i] * s->x[r][i];
            f->loss += d * d / (ROWS * OUT);
            for (int i = 0; i < IN; i++) g[o * IN + i] += 2 * d * s->x[r][i] / (ROWS * OUT);
            g[WEIGHTS + o] += 2 * d / (ROWS * OUT);
        }
    }
    f->norm = 0;
    for (int k = 0; k < ALL; k++) f->norm += g[k] * g[k];
    f->norm = sqrt(f->norm);
}

static void follow(formula *f, const brim_trainer_options *opt, int step) {
    const brim_optimizer *o = &opt->optimizer;
    sample s = sample_of(step);
    double g[ALL], rate = brim_schedule_lr(&opt->schedule, o->lr, step);
    gradients(f, &s, g);
    double shrink = o->clip > 0 ? fmin(1, o->clip / (f->norm + 1e-6)) : 1;
    for (int k = 0; k < ALL; k++) {
        bool bias = k >= WEIGHTS;
        double decay = bias ? 0 : o->weight_decay, lr = rate;
        if (bias && opt->group_count)
            lr *= opt->groups->lr_scale, decay = opt->groups->weight_decay;
        double d = g[k] * shrink;
        if (o->kind == BRIM_SGD) {
            f->m[k] = o->momentum * f->m[k] + d + decay * f->p[k];
            f->p[k] -= lr * f->m[k];
            continue;
        }
        f->m[k] = o->beta1 * f->m[k] + (1 - o->beta1) * d;
        f->v[k] = o->beta2 * f->v[k] + (1 - o->beta2) * d * d;
        double m = f->m[k] / (1 - pow(o->beta1, step)), v = f->v[k] / (1 - pow(o->beta2, step));
        f->p[k] -= lr * decay * f->p[k] + lr * m / (sqrt(v) + o->eps);
    }
}

// Of the bias alone. (Trainings are few since each compiles kernels of its own.)
static const brim_parameter_group biases = {
    .pattern = "*.bias", .lr_scale = 0.25f, .set_weight_decay = true, .weight_decay = 0.5f};
static const brim_trainer_options trainings[] = {
    {.accumulate = 2,
     .optimizer = {.lr = 0.1f,
                   .beta1 = 0.6f,
                   .beta2 = 0.7f,
                   .eps = 1e-3f,
                   .weight_decay = 0.3f,
                   .clip = 0.5f},
     .groups = &biases,
     .group_count = 1,
     .schedule = {.kind = BRIM_LINEAR, .warmup = 2, .steps = 5, .min_lr = 0.01f}},
    {.accumulate = 2,
     .optimizer =
         {.kind = BRIM_SGD, .lr = 0.3f, .momentum = 0.5f, .weight_decay = 0.2f, .clip = 0.25f},
     .groups = &biases,
     .group_count = 1,
     .schedule = {.kind = BRIM_COSINE, .steps = 4}},
};
enum { TRAININGS = sizeof trainings / sizeof *trainings };

static void read_all(brim_trainer *t, const char *suffix, float out[ALL]) {
    char name[40];
    snprintf(name, sizeof name, "l.weight%s", suffix);
    brim_trainer_read(t, name, out, WEIGHTS, &err);
    snprintf(name, sizeof name, "l.bias%s", suffix);
    brim_trainer_read(t, name, out + WEIGHTS, OUT, &err);
    ASSERT_FINE(err);
}

START_TEST(steps_are_those_of_the_formulas) {
    if (!any_device_under_test()) return;
    brim_trainer_options o = trainings[_i];
    brim_trainer *t = make(o);
    float now[ALL], zero[ALL] = {0};
    formula f = {.loss = 0};
    read_all(t, "", now);
    for (int k = 0; k < ALL; k++) f.p[k] = now[k];
    read_all(t, "/m", now); // states begin with nothing
    ck_assert_mem_eq(now, zero, sizeof now);
    for (int step = 1; step <= STEPS; step++) {
        brim_step_result r;
        step_on(t, step, &r);
        follow(&f, &o, step);
        ck_assert(r.step == step && !r.skipped && r.loss_scale == 1 && !r.not_finite);
        ck_assert(r.targets == ROWS * OUT && r.seconds > 0);
        ck_assert_double_eq_tol(r.loss, f.loss, 1e-5);
        ck_assert_double_eq_tol(r.grad_norm, f.norm, 1e-5);
        ck_assert_double_eq_tol(r.lr, brim_schedule_lr(&o.schedule, o.optimizer.lr, step), 1e-12);
        read_all(t, "", now);
        for (int k = 0; k < ALL; k++) ck_assert_double_eq_tol(now[k], f.p[k], 1e-5);
        read_all(t, "/m", now);
        for (int k = 0; k < ALL; k++) ck_assert_double_eq_tol(now[k], f.m[k], 1e-5);
    }
    brim_trainer_free(t);
}
END_TEST

// ---- what is there ------------------------------------------------------------------------------

START_TEST(parameters_begin_by_their_names) {
    if (!any_device_under_test()) return;
    brim_trainer *t = make((brim_trainer_options){.accumulate = 2, .optimizer = {.clip = 1}});
    float now[WEIGHTS], expected[WEIGHTS], other[WEIGHTS] = {1, 2, 3, 4, 5, 6};
    brim_init init = t->training.graph->value[t->parameter[0]].init;
    worker_pool *pool = worker_pool_create(1, &err);
    initialize_parameter(expected, WEIGHTS, init, 5, "l.weight", pool);
    worker_pool_free(pool);
    brim_trainer_read(t, "l.weight", now, WEIGHTS, &err);
    ck_assert_mem_eq(now, expected, sizeof now);
    // What is written is read again, and nothing beside it changes.
    float bias[OUT], kept[OUT];
    brim_trainer_read(t, "l.bias", kept, OUT, &err);
    brim_trainer_write(t, "l.weight", other, WEIGHTS, &err);
    brim_trainer_read(t, "l.weight", now, WEIGHTS, &err);
    brim_trainer_read(t, "l.bias", bias, OUT, &err);
    ASSERT_FINE(err);
    ck_assert_mem_eq(now, other, sizeof now);
    ck_assert_mem_eq(bias, kept, sizeof bias);
    brim_trainer_free(t);
}
END_TEST

START_TEST(tensors_that_are_not_there_are_named) {
    if (!any_device_under_test()) return;
    brim_trainer *t = make((brim_trainer_options){.accumulate = 2, .optimizer = {.clip = 1}});
    float x[WEIGHTS + 1];
    static const char *const none[] = {"l", "x", "l.weight/grad", "lr", "loss.sum"};
    for (int i = 0; i < 5; i++) {
        char said[80];
        snprintf(said, sizeof said, "there is no tensor named \"%s\"", none[i]);
        brim_trainer_read(t, none[i], x, 1, &err);
        ASSERT_FAILS(err, BRIM_ARGUMENT, said);
        brim_trainer_write(t, none[i], x, 1, &err);
        ASSERT_FAILS(err, BRIM_ARGUMENT, said);
    }
    for (int more = -1; more <= 1; more += 2) {
        char said[100];
        snprintf(said, sizeof said, "tensor \"l.weight\" is [2, 3], 6 elements; %d were given",
                 WEIGHTS + more);
        brim_trainer_read(t, "l.weight", x, (size_t)(WEIGHTS + more), &err);
        ASSERT_FAILS(err, BRIM_SHAPE, said);
        brim_trainer_write(t, "l.weight", x, (size_t)(WEIGHTS + more), &err);
        ASSERT_FAILS(err, BRIM_SHAPE, said);
    }
    sample s = sample_of(1);
    brim_trainer_feed(t, "x", s.x, sizeof s.x / 2, &err);
    ASSERT_FAILS(err, BRIM_SHAPE,
                 "input \"x\" was fed 24 bytes; expected 48 (2 micro-batches of 24)");
    brim_trainer_feed(t, "y", s.x, sizeof s.x, &err);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "there is no input named \"y\"");
    brim_trainer_feed(t, "t", s.t, sizeof s.t, &err);
    brim_trainer_step(t, NULL, &err);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "input \"x\" was not fed before the step");
    // What was fed for a step is not there for the next one.
    brim_step_result r;
    step_on(t, 1, &r);
    brim_trainer_feed(t, "x", s.x, sizeof s.x, &err);
    brim_trainer_step(t, NULL, &err);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "input \"t\" was not fed before the step");
    ck_assert_int_eq(brim_trainer_describe(t).steps, 1);
    ck_assert_int_eq(brim_trainer_tensor_count(NULL), 0);
    ck_assert(!brim_trainer_tensor_info(NULL, 0, &(brim_tensor_info){0}));
    brim_trainer_free(t);
}
END_TEST

START_TEST(trainers_describe_themselves) {
    if (!any_device_under_test()) return;
    brim_trainer *t = make((brim_trainer_options){.accumulate = 2, .optimizer = {.clip = 1}});
    brim_trainer_info info = brim_trainer_describe(t);
    ck_assert(info.parameters == ALL && info.trained == ALL);
    ck_assert(info.batch == 2 && info.accumulate == 2 && info.steps == 0);
    ck_assert(info.build_seconds > 0 && info.compile_seconds == 0 && info.pinned_bytes == 0);
    ck_assert(info.device_bytes > info.persistent_bytes && info.persistent_bytes > 0);
    ck_assert(info.file_bytes == 0 && info.recomputed == 0);
    ck_assert(info.device && info.backend && strlen(info.device) > 0);
    // Nothing depends on how fast the device is, so it is not measured.
    brim_rates usual = budget_usual_rates(t->target.backend->traits(t->target.device));
    ck_assert(t->rates.memory == usual.memory && t->rates.matmul_32 == usual.matmul_32 &&
              t->rates.link_in == usual.link_in && t->rates.host == usual.host);
    double before = info.build_seconds;
    int64_t small = info.device_bytes;
    brim_trainer_program(t, build, NULL, 4096, 0, &err);
    ck_assert_int_gt(brim_trainer_describe(t).device_bytes, small + 4096 * IN * 4);
    brim_trainer_prepare(t, &err);
    ASSERT_FINE(err);
    info = brim_trainer_describe(t);
    ck_assert(info.compile_seconds > 0 && info.build_seconds > before);
    ck_assert(info.records > 0 && info.kernels > 0);
    // Inputs of both micro-batches, and results: two scalars at least.
    ck_assert_int_ge(info.staging_bytes, 2 * (2 * IN * 4 + 2 * OUT * 4) + 8);
    ck_assert_int_eq(info.staging_bytes, info.host_bytes); // nothing else is on the host
    brim_step_result r;
    step_on(t, 1, &r);
    ck_assert(r.streaming_seconds == 0 && r.hidden_seconds == 0 && r.waited_seconds == 0);
    ck_assert_ptr_null(r.waited_for);
    ck_assert_int_eq(brim_trainer_describe(t).steps, 1);
    brim_trainer_free(t);
    info = brim_trainer_describe(NULL);
    ck_assert(!info.device && !info.parameters);
}
END_TEST

START_TEST(frozen_parameters_are_not_trained) {
    const brim_rates card = {.name = "some card",
                             .memory_bytes = 1 << 30,
                             .memory = 1e11,
                             .matmul_16 = 1e12,
                             .matmul_32 = 1e12,
                             .link_in = 1e10,
                             .link_out = 1e10,
                             .link_both = 1e10,
                             .host = 1e10,
                             .launch = 1e-6};
    const brim_parameter_group still = {.pattern = "*.bias", .frozen = true};
    brim_trainer_options o = {
        .paper = &card, .device = "opencl", .batch = 2, .groups = &still, .group_count = 1};
    err = (brim_error){0};
    brim_trainer *t = brim_trainer_create(build, NULL, &o, &err);
    ASSERT_FINE(err);
    brim_trainer_info info = brim_trainer_describe(t);
    ck_assert(info.parameters == ALL && info.trained == WEIGHTS);
    // Kernels that take a microsecond at least, and are few.
    ck_assert(info.expected_seconds > 1e-6 && info.expected_seconds < 1e-4);
    brim_trainer_free(t);
}
END_TEST

// ---- programs beside the training ---------------------------------------------------------------

static brim_loss build_without_loss(brim_graph *g, int64_t batch, int64_t length, void *user) {
    (void)length;
    brim_value x = brim_input(g, "x", BRIM_F32, batch, IN);
    brim_output(brim_linear(x, user ? user : "l", OUT), "y");
    return (brim_loss){0};
}

// A trainer with a program beside it gives back all that it took, once what all share is there.
START_TEST(trainers_keep_nothing) {
    if (!any_device_under_test()) return;
    for (int i = 0; i < 2; i++) {
        allocations taken;
        brim_step_result r;
        allocations_begin(0);
        brim_trainer *t = make((brim_trainer_options){.accumulate = 2});
        brim_trainer_program(t, build, NULL, 2, 0, &err);
        step_on(t, 1, &r);
        brim_trainer_free(t);
        allocations_end(&taken);
        ASSERT_FINE(err);
        if (i) ck_assert_int_le(taken.kept, 0); // the C library gave pieces that were freed, too
    }
}
END_TEST

// A loss that is the graph's first value.
static brim_loss build_constant(brim_graph *g, int64_t batch, int64_t length, void *user) {
    (void)batch, (void)length, (void)user;
    brim_value sum = brim_constant(g, 6);
    return (brim_loss){sum, brim_constant(g, 2)};
}

START_TEST(programs_compute_beside) {
    if (!any_device_under_test()) return;
    brim_trainer *t = make((brim_trainer_options){.accumulate = 2, .optimizer = {.clip = 1}});
    brim_program *whole = brim_trainer_program(t, build, NULL, 2, 0, &err),
                 *half = brim_trainer_program(t, build_without_loss, NULL, 2, 0, &err);
    ASSERT_FINE(err);
    ck_assert_ptr_null(brim_trainer_program(t, build_without_loss, "other", 2, 0, &err));
    ASSERT_FAILS(err, BRIM_GRAPH,
                 "a program uses parameter \"other.weight\", which the training "
                 "graph does not have");
    brim_trainer_free(t);

    t = make((brim_trainer_options){.accumulate = 2, .optimizer = {.clip = 1}});
    whole = brim_trainer_program(t, build, NULL, 2, 0, &err);
    half = brim_trainer_program(t, build_without_loss, NULL, 2, 0, &err);
    brim_program *constant = brim_trainer_program(t, build_constant, NULL, 2, 0, &err);
    sample s = sample_of(1);
    float now[ALL], y[2][OUT], z[2][OUT];
    read_all(t, "", now);
    double sum = 0, count = 0, expected = 0;
    brim_program_feed(whole, "x", s.x, 2 * sizeof s.x[0], &err);
    brim_program_feed(whole, "t", s.t, 2 * sizeof s.t[0], &err);
    brim_program_run(whole, &sum, &count, &err);
    brim_program_read(whole, "y", y[0], 2 * OUT, &err);
    brim_program_feed(half, "x", s.x, 2 * sizeof s.x[0], &err);
    brim_program_run(half, NULL, NULL, &err);
    brim_program_read(half, "y", z[0], 2 * OUT, &err);
    ASSERT_FINE(err);
    for (int r = 0; r < 2; r++)
        for (int o = 0; o < OUT; o++) {
            double value = now[WEIGHTS + o];
            for (int i = 0; i < IN; i++) value += (double)now[o * IN + i] * s.x[r][i];
            ck_assert_double_eq_tol(y[r][o], value, 1e-5);
            expected += (value - s.t[r][o]) * (value - s.t[r][o]);
        }
    ck_assert_mem_eq(y, z, sizeof y);
    ck_assert_double_eq_tol(sum, expected, 1e-4);
    ck_assert(count == 2 * OUT);

    brim_program_run(constant, &sum, &count, &err);
    ASSERT_FINE(err);
    ck_assert(sum == 6 && count == 2);
    brim_program_feed(half, "x", s.x, 2 * sizeof s.x[0], &err);
    brim_program_run(half, &sum, NULL, &err);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "the program's builder returned no loss");
    brim_program_run(half, NULL, &count, &err);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "the program's builder returned no loss");
    brim_program_read(half, "z", z[0], 2 * OUT, &err);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "the program has no output named \"z\"");
    brim_program_read(half, "y", z[0], 2 * OUT - 1, &err);
    ASSERT_FAILS(err, BRIM_SHAPE, "output \"y\" has 4 elements; 3 were asked for");
    brim_trainer_free(t);
}
END_TEST

static brim_loss build_dropped(brim_graph *g, int64_t batch, int64_t length, void *user) {
    (void)length, (void)user;
    brim_value scale = brim_parameter(g, "scale", ((brim_init){.kind = BRIM_ONES}), 64);
    brim_value x = brim_dropout(brim_input(g, "x", BRIM_F32, batch, 64), 0.5);
    return brim_mse(brim_mul(x, scale), brim_input(g, "t", BRIM_F32, batch, 64));
}

// Both halves of a seed, and the step, decide what is dropped, and so the loss.
START_TEST(both_halves_of_a_seed_count) {
    static const uint64_t seeds[] = {5, 5 | 1ull << 32, 5 | 1ull << 63, 5 | 1ull << 30, 7};
    enum { SEEDS = sizeof seeds / sizeof *seeds, EACH = 2 };
    if (!any_device_under_test()) return;
    double loss[SEEDS * EACH];
    for (int i = 0; i < SEEDS; i++) {
        brim_trainer_options o = {.batch = 1,
                                  .device = any_device_under_test(),
                                  .seed = seeds[i],
                                  .optimizer = {.kind = BRIM_SGD, .lr = 1e-30f}};
        err = (brim_error){0};
        brim_trainer *t = brim_trainer_create(build_dropped, NULL, &o, &err);
        for (int step = 0; step < EACH; step++) {
            float x[64], target[64] = {0};
            brim_step_result r = {0};
            for (int k = 0; k < 64; k++) x[k] = ldexpf(1, k / 6);
            brim_trainer_feed(t, "x", x, sizeof x, &err);
            brim_trainer_feed(t, "t", target, sizeof target, &err);
            brim_trainer_step(t, &r, &err);
            ASSERT_FINE(err);
            loss[i * EACH + step] = r.loss;
        }
        float scale[64] = {0}; // the first of all values
        brim_trainer_read(t, "scale", scale, 64, &err);
        ASSERT_FINE(err);
        ck_assert(scale[0] == 1 && scale[63] == 1);
        brim_trainer_free(t);
    }
    for (int i = 0; i < SEEDS * EACH; i++)
        for (int k = 0; k < i; k++) ck_assert_msg(loss[i] != loss[k], "%d and %d", k, i);
}
END_TEST

Suite *training_steps_suite(void) {
    Suite *s = suite_create("training_steps");
    TCase *tests = tcase_create("training_steps");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, steps_are_those_of_the_formulas, 0, TRAININGS);
    tcase_add_test(tests, parameters_begin_by_their_names);
    tcase_add_test(tests, tensors_that_are_not_there_are_named);
    tcase_add_test(tests, trainers_describe_themselves);
    tcase_add_test(tests, frozen_parameters_are_not_trained);
    tcase_add_test(tests, trainers_keep_nothing);
    tcase_add_test(tests, programs_compute_beside);
    tcase_add_test(tests, both_halves_of_a_seed_count);
    suite_add_tcase(s, tests);
    return s;
}
