// Steps that are not finite: which tensor is named, what a trainer does then, under every plan.
#include <check.h>
#include <math.h>
#include <string.h>
#include <brim/brim.h>
#include "optim/trainer.h"
#include "tests/devices.h"
#include "tests/test_core.h"

enum { IN = 8, WIDE = 64, OUT = 5, ROWS = 6, WEIGHTS = IN * WIDE };

static brim_error err;

// Each input can bring a mistake to another place. `root` is 1: at 0 its square root has no slope.
typedef struct sample {
    float x[ROWS][IN], mask[ROWS][OUT], growth[ROWS][1], root[ROWS][1];
    int32_t label[ROWS];
} sample;

static brim_loss build(brim_graph *g, int64_t batch, int64_t length, void *user) {
    (void)length, (void)user;
    brim_value x = brim_input(g, "x", BRIM_F32, batch, IN);
    brim_scope_push(g, "first");
    x = brim_gelu(brim_linear(x, "in", WIDE));
    brim_scope_pop(g);
    brim_scope_push(g, "middle.%d", 3);
    x = brim_mul(x, brim_exp(brim_input(g, "growth", BRIM_F32, batch, 1)));
    brim_scope_pop(g);
    brim_scope_push(g, "square");
    x = brim_linear(x, "before", WIDE);
    x = brim_add(x, brim_sqrt(brim_mul(brim_mul(x, x), brim_input(g, "root", BRIM_F32, batch, 1))));
    brim_scope_pop(g);
    for (int i = 0; i < 6; i++) {
        brim_scope_push(g, "block.%d", i);
        x = brim_add(x, brim_gelu(brim_linear(x, "up", WIDE)));
        brim_scope_pop(g);
    }
    brim_scope_push(g, "last");
    brim_value logits = brim_linear(x, "out", OUT);
    brim_value p = brim_softmax(brim_add(logits, brim_input(g, "mask", BRIM_F32, batch, OUT)), 1);
    brim_scope_pop(g);
    return brim_cross_entropy(p, brim_input(g, "label", BRIM_I32, batch), -100);
}

static sample good_sample(int step) {
    sample s = {0};
    for (int r = 0; r < ROWS; r++) {
        for (int i = 0; i < IN; i++) s.x[r][i] = sinf((float)(step * 31 + r * 7 + i * 3 + 1));
        s.label[r] = (step + r) % OUT;
        s.root[r][0] = 1;
    }
    return s;
}

static brim_status step_on(brim_trainer *t, const sample *s, brim_step_result *r) {
    brim_trainer_feed(t, "x", s->x, sizeof s->x, &err);
    brim_trainer_feed(t, "mask", s->mask, sizeof s->mask, &err);
    brim_trainer_feed(t, "growth", s->growth, sizeof s->growth, &err);
    brim_trainer_feed(t, "root", s->root, sizeof s->root, &err);
    brim_trainer_feed(t, "label", s->label, sizeof s->label, &err);
    return brim_trainer_step(t, r, &err);
}

static brim_trainer_options options_of(brim_on_nan on_nan) {
    return (brim_trainer_options){.batch = ROWS / 2,
                                  .accumulate = 2,
                                  .device = any_device_under_test(),
                                  .seed = 3,
                                  .on_nan = on_nan,
                                  .optimizer = {.lr = 0.01f}};
}

static brim_trainer *make_trainer(const brim_trainer_options *o) {
    err = (brim_error){0};
    brim_trainer *t = brim_trainer_create(build, NULL, o, &err);
    ASSERT_FINE(err);
    return t;
}

// Under a budget that leaves the device a third of what the step takes with everything there.
static brim_trainer *make_streaming(brim_trainer_options o) {
    brim_trainer *whole = make_trainer(&o);
    brim_trainer_info info = brim_trainer_describe(whole);
    brim_trainer_free(whole);
    o.vram_bytes = info.overhead_bytes + info.device_bytes / 3;
    brim_trainer *t = make_trainer(&o);
    brim_trainer_prepare(t, &err);
    ASSERT_FINE(err);
    ck_assert_int_gt(brim_trainer_describe(t).host_bytes, brim_trainer_describe(t).staging_bytes);
    return t;
}

// A mistake, and what is said of it.
typedef struct mistake {
    const char *name;
    void (*make)(brim_trainer *t, sample *s);
    const char *said[3];
} mistake;

static void bad_input(brim_trainer *t, sample *s) {
    (void)t;
    s->x[4][2] = NAN;
}
static void bad_exponent(brim_trainer *t, sample *s) {
    (void)t;
    s->growth[1][0] = 100;
    s->mask[1][2] = -INFINITY;
}
static void bad_slope(brim_trainer *t, sample *s) {
    (void)t;
    s->root[5][0] = 0;
    s->mask[4][2] = -INFINITY; // is no mistake, though it comes first
}
static void bad_parameter(brim_trainer *t, sample *s) {
    (void)s;
    float bias[WIDE] = {[7] = -INFINITY};
    brim_trainer_write(t, "block.2.up.bias", bias, WIDE, &err);
}
static const mistake mistakes[] = {
    {"input",
     bad_input,
     {"the loss is nan", "input \"x\", f32 [3, 8]: 1 of 24",
      "nan at [1, 2], in micro-batch 2 of 2"}},
    {"exponent", bad_exponent, {"the loss is nan", "exp", "in scope \"middle.3\", f32 [3, "}},
    {"slope", bad_slope, {"gradient's norm is ", "in the backward pass", "in micro-batch 2 of 2"}},
    {"parameter",
     bad_parameter,
     {"the loss is nan",
      "tensor \"block.2.up.bias\", f32 [64]: 1 of 64 elements, the first -inf at [7]",
      "in micro-batch 1 of 2"}},
};
enum { MISTAKES = sizeof mistakes / sizeof *mistakes };

START_TEST(the_first_bad_tensor_is_named) {
    const mistake *m = &mistakes[_i / 2];
    if (!any_device_under_test()) return;
    brim_trainer_options o = options_of(BRIM_NAN_STOP);
    brim_trainer *t = _i % 2 ? make_streaming(o) : make_trainer(&o);
    brim_step_result r;
    sample s = good_sample(0);
    step_on(t, &s, &r);
    ASSERT_FINE(err);
    s = good_sample(1);
    m->make(t, &s);
    ASSERT_FINE(err);
    step_on(t, &s, &r);
    ck_assert_int_eq(err.status, BRIM_NOT_FINITE);
    ck_assert_msg(strncmp(err.text, "step 2: ", 8) == 0, "%s", err.text);
    for (size_t i = 0; i < sizeof m->said / sizeof *m->said; i++)
        ck_assert_msg(strstr(err.text, m->said[i]) != NULL, "%s: \"%s\" is not in: %s", m->name,
                      m->said[i], err.text);
    ck_assert_int_eq(brim_trainer_describe(t).steps, 1);
    brim_trainer_free(t);
}
END_TEST

static void weights_after(brim_trainer *t, bool mistake_first, float out[WEIGHTS]) {
    brim_step_result r;
    for (int i = 0; i < 3; i++) {
        sample s = good_sample(i);
        if (i == 1 && mistake_first) {
            sample bad = s;
            bad_exponent(t, &bad);
            step_on(t, &bad, &r);
            ck_assert_int_eq(err.status, BRIM_NOT_FINITE);
            err = (brim_error){0};
        }
        step_on(t, &s, &r);
        ASSERT_FINE(err);
        ck_assert(!r.skipped && !r.not_finite && r.step == i + 1);
    }
    brim_trainer_read(t, "first.in.weight", out, WEIGHTS, &err);
    ASSERT_FINE(err);
    brim_trainer_free(t);
}

// The search leaves nothing behind, wherever things are.
START_TEST(a_stopped_step_changes_nothing) {
    if (!any_device_under_test()) return;
    float undisturbed[WEIGHTS], stopped[WEIGHTS];
    brim_trainer_options o = options_of(BRIM_NAN_STOP);
    weights_after(make_trainer(&o), false, undisturbed);
    weights_after(_i ? make_streaming(o) : make_trainer(&o), true, stopped);
    ck_assert_int_eq(memcmp(undisturbed, stopped, sizeof stopped), 0);
}
END_TEST

START_TEST(a_step_is_skipped) {
    if (!any_device_under_test()) return;
    float before[WEIGHTS], after[WEIGHTS];
    brim_trainer_options o = options_of(BRIM_NAN_SKIP);
    brim_trainer *t = _i ? make_streaming(o) : make_trainer(&o);
    brim_step_result r;
    sample s = good_sample(0);
    step_on(t, &s, &r);
    brim_trainer_read(t, "first.in.weight", before, WEIGHTS, &err);
    bad_exponent(t, &s);
    step_on(t, &s, &r);
    ASSERT_FINE(err);
    ck_assert(r.skipped && r.step == 2 && isnan(r.loss));
    ck_assert_ptr_nonnull(r.not_finite);
    ck_assert_msg(strstr(r.not_finite, "middle.3") != NULL, "%s", r.not_finite);
    brim_trainer_read(t, "first.in.weight", after, WEIGHTS, &err);
    ck_assert_int_eq(memcmp(before, after, sizeof before), 0);
    s = good_sample(2);
    step_on(t, &s, &r);
    ASSERT_FINE(err);
    ck_assert(!r.skipped && r.step == 3 && isfinite(r.loss));
    brim_trainer_free(t);
}
END_TEST

// Word for word, wherever it is in an input: the first and the last element, and several of them.
START_TEST(the_place_in_an_input_is_named) {
    enum { MOST_BAD = 3 };
    static const struct {
        const char *input;
        int columns;
        struct {
            int row, column;
            float value;
        } bad[MOST_BAD];
        const char *said;
    } rows[] = {
        {"x",
         IN,
         {{0, 0, NAN}},
         "[3, 8]: 1 of 24 elements, the first nan at [0, 0], in micro-batch 1"},
        {"x",
         IN,
         {{5, 7, INFINITY}},
         "[3, 8]: 1 of 24 elements, the first inf at [2, 7], in micro-batch 2"},
        {"x",
         IN,
         {{1, 3, NAN}, {1, 4, INFINITY}, {2, 0, NAN}},
         "[3, 8]: 3 of 24 elements, the first nan at [1, 3], in micro-batch 1"},
        {"x",
         IN,
         {{1, 3, INFINITY}, {4, 4, NAN}},
         "[3, 8]: 1 of 24 elements, the first inf at [1, 3], in micro-batch 1"},
        {"mask",
         OUT,
         {{3, 1, NAN}},
         "[3, 5]: 1 of 15 elements, the first nan at [0, 1], in micro-batch 2"},
        {"growth",
         1,
         {{4, 0, NAN}},
         "[3, 1]: 1 of 3 elements, the first nan at [1, 0], in micro-batch 2"},
    };
    if (!any_device_under_test()) return;
    brim_trainer *t = make_trainer(&(brim_trainer_options){.batch = ROWS / 2,
                                                           .accumulate = 2,
                                                           .device = any_device_under_test(),
                                                           .seed = 3,
                                                           .on_nan = BRIM_NAN_SKIP,
                                                           .optimizer = {.lr = 0.01f}});
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        sample s = good_sample(0);
        float *input = strcmp(rows[i].input, "x") == 0      ? s.x[0]
                       : strcmp(rows[i].input, "mask") == 0 ? s.mask[0]
                                                            : s.growth[0];
        for (int k = 0; k < MOST_BAD && rows[i].bad[k].value != 0; k++)
            input[rows[i].bad[k].row * rows[i].columns + rows[i].bad[k].column] =
                rows[i].bad[k].value;
        brim_step_result r;
        step_on(t, &s, &r);
        ASSERT_FINE(err);
        char said[200];
        snprintf(said, sizeof said, "input \"%s\", f32 %s of 2", rows[i].input, rows[i].said);
        ck_assert(r.skipped && r.step == (int64_t)i + 1);
        ck_assert_str_eq(r.not_finite, said);
    }
    brim_trainer_free(t);
}
END_TEST

enum { BROAD = 9000 }; // more than is looked at in one piece

static brim_loss build_broad(brim_graph *g, int64_t batch, int64_t length, void *user) {
    (void)length, (void)user;
    brim_value x = brim_input(g, "x", BRIM_F32, batch, BROAD);
    brim_value few = brim_linear(brim_slice(x, 1, 4095, 2), "few", OUT);
    return brim_cross_entropy(few, brim_input(g, "label", BRIM_I32, batch), -100);
}

// The first of all values is also the largest by far.
START_TEST(a_broad_input_is_named) {
    if (!any_device_under_test()) return;
    static float x[ROWS][BROAD];
    brim_trainer_options o = options_of(BRIM_NAN_STOP);
    err = (brim_error){0};
    brim_trainer *t = brim_trainer_create(build_broad, NULL, &o, &err);
    sample s = good_sample(0);
    x[1][4096] = INFINITY;
    x[2][8999] = NAN; // which nobody reads
    brim_trainer_feed(t, "x", x, sizeof x, &err);
    brim_trainer_feed(t, "label", s.label, sizeof s.label, &err);
    ASSERT_FINE(err);
    ck_assert_int_eq(brim_trainer_step(t, NULL, &err), BRIM_NOT_FINITE);
    ASSERT_FAILS(
        err, BRIM_NOT_FINITE,
        "the first tensor that went bad is input \"x\", f32 [3, 9000]: 2 of 27000 elements, "
        "the first inf at [1, 4096], in micro-batch 1 of 2");
    brim_trainer_free(t);
}
END_TEST

static brim_loss build_turned(brim_graph *g, int64_t batch, int64_t length, void *user) {
    (void)length, (void)user;
    brim_scope_push(g, "turned");
    brim_value grown = brim_exp(brim_input(g, "x", BRIM_F32, batch, IN));
    brim_scope_pop(g);
    brim_value other = brim_softmax(brim_input(g, "mask", BRIM_F32, OUT, batch), -1);
    brim_value parts[] = {other, brim_permute(grown, 1, 0)};
    brim_value w = brim_parameter(g, "w", ((brim_init){BRIM_NORMAL, 0.1f}), OUT + IN, OUT);
    brim_value logits = brim_matmul_t(brim_concat(parts, 2, 0), true, w, false);
    return brim_cross_entropy(logits, brim_input(g, "label", BRIM_I32, batch), -100);
}

// A value whose elements lie apart, in the place of a concatenation.
START_TEST(a_value_with_strides_is_named) {
    if (!any_device_under_test()) return;
    static float x[ROWS][IN], mask[2 * OUT][ROWS / 2];
    brim_trainer_options o = options_of(BRIM_NAN_STOP);
    err = (brim_error){0};
    brim_trainer *t = brim_trainer_create(build_turned, NULL, &o, &err);
    sample s = good_sample(0);
    x[4][2] = x[5][1] = 1000; // its exponential is infinite
    brim_trainer_feed(t, "x", x, sizeof x, &err);
    brim_trainer_feed(t, "mask", mask, sizeof mask, &err);
    brim_trainer_feed(t, "label", s.label, sizeof s.label, &err);
    ASSERT_FINE(err);
    brim_trainer_step(t, NULL, &err);
    ASSERT_FAILS(err, BRIM_NOT_FINITE,
                 "is the output of exp, the last of them in scope \"turned\", "
                 "f32 [3, 8]: 2 of 24 elements, the first inf at [1, 2], in "
                 "micro-batch 2 of 2");
    brim_trainer_free(t);
}
END_TEST

enum { DEEP = 2, LONG = 4100 }; // longer than one piece

static brim_loss build_solid(brim_graph *g, int64_t batch, int64_t length, void *user) {
    (void)length, (void)user;
    brim_value grown = brim_exp(brim_input(g, "x", BRIM_F32, batch, DEEP, LONG));
    brim_value other = brim_softmax(brim_input(g, "mask", BRIM_F32, LONG, 1, DEEP), -1);
    brim_value parts[] = {other, brim_permute(grown, 2, 0, 1)};
    brim_value both = brim_permute(brim_concat(parts, 2, 1), 1, 0, 2);
    brim_value rows = brim_reshape(brim_slice(both, 0, 1, batch), batch, LONG * DEEP);
    return brim_cross_entropy(brim_linear(rows, "few", OUT),
                              brim_input(g, "label", BRIM_I32, batch), -100);
}

// Three axes, each with a stride of its own, in the place of a concatenation.
START_TEST(a_value_of_three_axes_is_named) {
    typedef struct element {
        int row, depth, at;
    } element;
    static const struct {
        element bad[3];
        int count;
        const char *said;
    } rows[] = {
        {{{0, 0, 0}}, 1, "1 of 24600 elements, the first inf at [0, 0, 0], in micro-batch 1 of 2"},
        {{{0, 1, 1}}, 1, "1 of 24600 elements, the first inf at [0, 1, 1], in micro-batch 1 of 2"},
        {{{4, 0, 2}}, 1, "1 of 24600 elements, the first inf at [1, 0, 2], in micro-batch 2 of 2"},
        {{{5, 1, 4099}, {4, 0, 4096}, {4, 1, 7}},
         3,
         "3 of 24600 elements, the first inf at [1, 0, 4096], in micro-batch 2 of 2"},
    };
    if (!any_device_under_test()) return;
    static float x[ROWS][DEEP][LONG], mask[2 * LONG][1][DEEP];
    brim_trainer_options o = options_of(BRIM_NAN_SKIP);
    err = (brim_error){0};
    brim_trainer *t = brim_trainer_create(build_solid, NULL, &o, &err);
    sample s = good_sample(0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        memset(x, 0, sizeof x);
        for (int k = 0; k < rows[i].count; k++)
            x[rows[i].bad[k].row][rows[i].bad[k].depth][rows[i].bad[k].at] = 1000;
        brim_trainer_feed(t, "x", x, sizeof x, &err);
        brim_trainer_feed(t, "mask", mask, sizeof mask, &err);
        brim_trainer_feed(t, "label", s.label, sizeof s.label, &err);
        brim_step_result r;
        brim_trainer_step(t, &r, &err);
        ASSERT_FINE(err);
        char said[200];
        snprintf(said, sizeof said, "the output of exp, f32 [3, 2, 4100]: %s", rows[i].said);
        ck_assert(r.skipped);
        ck_assert_str_eq(r.not_finite, said);
    }
    brim_trainer_free(t);
}
END_TEST

// Masks are as they should be, also where they are the only thing that is not finite.
START_TEST(masks_are_no_mistake) {
    if (!any_device_under_test()) return;
    brim_trainer_options o = options_of(BRIM_NAN_STOP);
    brim_trainer *t = make_trainer(&o);
    brim_step_result r;
    sample s = good_sample(0);
    for (int i = 0; i < ROWS; i++) s.mask[i][(s.label[i] + 1) % OUT] = -INFINITY;
    step_on(t, &s, &r);
    ASSERT_FINE(err);
    ck_assert(!r.skipped);
    brim_trainer_free(t);
}
END_TEST

// Gradients that overflow in f16 say that the loss scale is too large, until it cannot fall any
// more.
START_TEST(loss_scaling_is_no_mistake) {
    if (!any_device_under_test()) return;
    brim_trainer_options o = options_of(BRIM_NAN_STOP);
    o.precision = BRIM_PRECISION_F16;
    brim_trainer *t = make_trainer(&o);
    brim_step_result r;
    double scale = 0;
    for (int i = 0; i < 60 && err.status == BRIM_OK; i++) {
        sample s = good_sample(0);
        bad_slope(t, &s);
        if (step_on(t, &s, &r) == BRIM_OK) {
            ck_assert(r.skipped && !r.not_finite);
            scale = r.loss_scale;
        }
    }
    ck_assert_double_lt(scale, 1e-4);
    ASSERT_FAILS(err, BRIM_NOT_FINITE, "in scope \"square");
    brim_trainer_free(t);
}
END_TEST

// What a step says of its waits is what was measured of it.
START_TEST(a_streaming_step_tells_its_waits) {
    if (!any_device_under_test()) return;
    brim_trainer *t = make_streaming(options_of(BRIM_NAN_STOP));
    for (int step = 0; step < 3; step++) {
        sample s = good_sample(step);
        brim_step_result r;
        step_on(t, &s, &r);
        ASSERT_FINE(err);
        const run_stalls *m = &t->measured;
        double all = 0, longest = 0;
        const char *work = NULL;
        for (int q = 0; q < QUEUE_COUNT; q++) {
            if (q == QUEUE_COMPUTE || m->waited[q] <= 0) continue;
            all += m->waited[q];
            if (m->waited[q] > longest) longest = m->waited[q], work = queue_work[q];
        }
        ck_assert_double_eq_tol(r.waited_seconds, all, 1e-12);
        ck_assert(r.waited_for == work);
        ck_assert(r.streaming_seconds == m->streaming && r.hidden_seconds == m->hidden);
    }
    brim_trainer_free(t);
}
END_TEST

Suite *not_finite_suite(void) {
    Suite *s = suite_create("not_finite");
    TCase *tests = tcase_create("not_finite");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, the_first_bad_tensor_is_named, 0, 2 * MISTAKES);
    tcase_add_loop_test(tests, a_stopped_step_changes_nothing, 0, 2);
    tcase_add_loop_test(tests, a_step_is_skipped, 0, 2);
    tcase_add_test(tests, the_place_in_an_input_is_named);
    tcase_add_test(tests, a_broad_input_is_named);
    tcase_add_test(tests, a_value_with_strides_is_named);
    tcase_add_test(tests, a_value_of_three_axes_is_named);
    tcase_add_test(tests, masks_are_no_mistake);
    tcase_add_test(tests, loss_scaling_is_no_mistake);
    tcase_add_test(tests, a_streaming_step_tells_its_waits);
    suite_add_tcase(s, tests);
    return s;
}
